"""A report in a browser: whatever the browser complains of fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome is installed")


@contextmanager
def opened(page: Page, path: Path) -> Iterator[Page]:
    said: list[str] = []
    heard: dict[Any, Any] = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "dialog": lambda dialog: said.append(dialog.message),
        "request": lambda one: said.append(one.url) if one.url[:5] not in ("file:", "data:") else None,
    }
    for event, listener in heard.items():
        page.on(event, listener)
    page.goto(path.as_uri())
    yield page
    for event, listener in heard.items():
        page.remove_listener(event, listener)
    assert said == []
