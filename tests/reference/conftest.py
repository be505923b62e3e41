from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """R's values take rows of one study as independent, too; that this is said, tests/unit/test_studies.py asks."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning"))
