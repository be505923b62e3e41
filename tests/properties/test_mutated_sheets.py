"""A sample of the mutated sheets; `make validate` reads ten thousand of them."""

from __future__ import annotations

from tests.properties.mutated import run


def test_a_mutated_sheet_gives_problems_or_the_values_it_holds() -> None:
    ends = run(300, seed=1)
    assert ends["read"] > 60
    assert ends["refused"] > 60
