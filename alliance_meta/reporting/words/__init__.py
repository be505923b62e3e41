"""The report's own words in other languages: one ``.po`` file for each stands beside this module and is read as it is.

Words are said by `tr` while a report is made, in the language of `speaking`; what a file lacks stays English.
"""

from __future__ import annotations

import gettext
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from alliance_meta.errors import InputError

ENGLISH = "en"
SUFFIX = ".po"
_STRING = r'"(?:[^"\\]|\\.)*"'
_ENTRY = re.compile(rf"^msgid\s+((?:{_STRING}\s*)+)^msgstr\s+((?:{_STRING}\s*)+)", re.MULTILINE)
_LANGUAGE = re.compile(r"([a-z]{2,3})(-[A-Za-z0-9]{1,8})*")

Marked = TypeVar("Marked")


class Catalogue(gettext.NullTranslations):
    """The words of one language."""

    said: dict[str, str]

    def _parse(self, fp: Any) -> None:
        """Read the text of a ``.po`` file; an entry without words is left English."""
        pairs = ((_joined(entry[1]), _joined(entry[2])) for entry in _ENTRY.finditer(fp.read()))
        self.said = {own: other for own, other in pairs if own and other}

    def gettext(self, message: str) -> str:
        """Return the words for a message."""
        return self.said.get(message, message)


def _joined(strings: str) -> str:
    return "".join(json.loads(one) for one in re.findall(_STRING, strings))


def read_catalogue(stream: Any) -> Catalogue:
    """Return the words that a ``.po`` file holds, opened as text."""
    return Catalogue(stream)


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    if language == ENGLISH:
        return gettext.NullTranslations()
    with files(__name__).joinpath(language + SUFFIX).open(encoding="utf-8") as stream:
        return read_catalogue(stream)


_NOW: ContextVar[str] = ContextVar("language", default=ENGLISH)


def languages() -> list[str]:
    """Return the languages that a report can be written in."""
    there = [one.name.removesuffix(SUFFIX) for one in files(__name__).iterdir() if one.name.endswith(SUFFIX)]
    return [ENGLISH, *sorted(there)]


def language_of(lang: str) -> str | None:
    """Return the language that a tag such as ``de-AT`` is of, None where there are no words of it.

    >>> language_of("de-AT"), language_of("en"), language_of("xx")
    ('de', 'en', None)
    """
    found = _LANGUAGE.fullmatch(lang)
    return found[1] if found and found[1] in languages() else None


def check_language(lang: str) -> None:
    """Raise an `InputError` for a tag of a language that a report has no words of."""
    if language_of(lang) is None:
        raise InputError(f"lang={lang!r}: the report has no words of it (known: {', '.join(languages())})")


@contextmanager
def speaking(lang: str) -> Iterator[None]:
    """Say the report's own words in a language; English where there are none of it.

    >>> with speaking("de"):
    ...     tr("Methods")
    'Methoden'
    """
    before = _NOW.set(language_of(lang) or ENGLISH)
    try:
        yield
    finally:
        _NOW.reset(before)


def tr(text: str, /, **parts: object) -> str:
    """Return words of the report in the language that is spoken now, with its `parts` filled in.

    >>> tr("{level} CI", level="95%")
    '95% CI'
    """
    said = _catalogue(_NOW.get()).gettext(text)
    return said.format(**parts) if parts else said


def named(words: Mapping[str, str], key: str) -> str:
    """Return the report's word for a key; the key itself, untranslated, where it has none.

    >>> named({"es_id": "effects"}, "es_id"), named({}, "my_column")
    ('effects', 'my_column')
    """
    return tr(words[key]) if key in words else key


def is_english() -> bool:
    """Return whether English is spoken now."""
    return _NOW.get() == ENGLISH


def marked(words: Marked) -> Marked:
    """Return words as they are: they are said by `tr` later, and stand in every catalogue."""
    return words
