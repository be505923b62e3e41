"""Ten thousand mutated sheets: never a traceback, never a value that the file does not hold."""

from __future__ import annotations

import pytest

from tests.properties.mutated import run


@pytest.mark.slow
def test_ten_thousand_mutated_sheets_give_problems_or_their_values() -> None:
    ends = run(10_000, seed=2)
    assert min(ends["read"], ends["refused"]) > 2000
