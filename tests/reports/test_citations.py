from __future__ import annotations

from typing import get_args

import pytest

from alliance_meta.notes import Measure, Tau2Method
from alliance_meta.reporting.text.references import method_keys, reference_list


@pytest.mark.parametrize("method", get_args(Tau2Method))
@pytest.mark.parametrize("measure", get_args(Measure))
def test_every_choice_has_its_reference(method: str, measure: str) -> None:
    chosen = {"measure": measure, "method": method, "test": "z"}
    plain = method_keys([{"measure": "other", "method": "other", "test": "z"}])
    assert len(method_keys([chosen])) >= len(plain) + 2
    assert len(reference_list(method_keys([chosen]))) == len(method_keys([chosen]))


def test_a_source_whose_doi_is_known_is_written_in_full_and_once() -> None:
    sources = ["Kolden (2011), doi:10.1037/a0022064; data: Maassen et al. (2020), doi:10.1371/journal.pone.0233107"]
    found = reference_list([], [*sources, "Maassen (2020), doi:10.1371/journal.pone.0233107", "Somebody (1999). Book."])
    assert [text.split(",")[0] for text in found] == ["Kolden", "Maassen", "Somebody (1999). Book."]
    assert "(https://doi.org/10.1037/a0022064)" in found[0]
