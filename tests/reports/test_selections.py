"""What a reader may choose from a forest: the mean of a selection is that of the analysis with this subset."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.reporting import build_report
from alliance_meta.reporting.items.figures import MOST_LEVELS
from tests.tolerances import ITERATIVE

KINDS = {
    "plain": 'kind = "random"\nmethod = "DL"\ntest = "z"\nlevel = 0.9',
    "che": "",
    "rve": 'kind = "rve"',
    "averaged": 'kind = "random"\naggregate = "mean"',
    "bayes": 'kind = "bayes"',
}
MODERATED = '[[analysis]]\nid = "moderated"\nlabel = "L"\ndata = "own.csv"\nkind = "random"\nmods = "rater"\n'


def sheet() -> str:
    """Return effects of studies with one rater each; `one` is the only one of its format, sites are too many."""
    random = np.random.default_rng(19)
    rows = [
        f"Study {s:02d},{1990 + s % 9},{r:.3f},{60 + s},{('client', 'observer')[s % 2]},more,{s}"
        for s in range(2, 18)
        for r in np.tanh(random.normal(0.3, 0.15, size=s % 3 + 1))
    ]
    return "\n".join(["study,year,r,n,rater,format,site", *rows, "Study 99,1999,.3,50,client,one,99"]) + "\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("selections")
    (folder / "own.csv").write_text(sheet(), encoding="utf-8")
    text = 'title = "T"\n[[section]]\nheading = "H"\n'
    for name in (*KINDS, "moderated"):
        columns = '["rater", "format", "site"]' if name == "plain" else '"rater"'
        text += f'[[section.item]]\nforest = "{name}"\ncolumns = {columns}\n'
    for name, keys in KINDS.items():
        for own, subset in ((name, ""), (f"{name}_client", "subset = \"rater == 'client'\"\n")):
            text += f'[[analysis]]\nid = "{own}"\nlabel = "L"\ndata = "own.csv"\n{subset}{keys}\n'
    (folder / "own.toml").write_text(text + MODERATED, encoding="utf-8")
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        build_report(folder / "own.toml", formats=("methods",))
    found: dict[str, Any] = json.loads((folder / "build/own/results.json").read_text(encoding="utf-8"))
    return found


def sets(results: dict[str, Any], name: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = results["figures"][f"forest_{name}"]["selections"]["sets"]
    return {(one["column"], one["level"]): one for one in found}


@pytest.mark.parametrize("name", KINDS)
def test_mean_of_a_selection_is_that_of_the_analysis_of_these_rows(results: dict[str, Any], name: str) -> None:
    found, own = sets(results, name)["rater", "client"], results["quantities"][f"{name}_client"]
    assert (found["k"], found["studies"]) == (own["k"]["value"], own["studies"]["value"])
    assert found["yi"] == pytest.approx(own["estimate"]["value"], rel=ITERATIVE)
    assert found["r"] == pytest.approx(own["r"]["value"], rel=ITERATIVE)
    assert [found["r_lb"], found["r_ub"]] == pytest.approx(own["r_ci"]["value"], rel=ITERATIVE)
    assert [found["r_pi_lb"], found["r_pi_ub"]] == pytest.approx(own["pi"]["value"], rel=ITERATIVE)
    assert found["yi"] != pytest.approx(results["quantities"][name]["estimate"]["value"], rel=1e-3)


def test_rows_of_a_selection_are_those_of_its_level(results: dict[str, Any]) -> None:
    figure = results["figures"]["forest_plain"]
    rater = figure["selections"]["columns"][0]
    for (column, level), one in sets(results, "plain").items():
        if column == "rater":
            assert one["rows"] == [i for i, cell in enumerate(rater["cells"]) if cell == level]
            assert one["k"] == len(one["rows"])


def test_what_cannot_be_pooled_says_why(results: dict[str, Any]) -> None:
    assert "nothing to pool" in sets(results, "plain")["format", "one"]["refused"]
    moderated = sets(results, "moderated")
    assert len(moderated) == 2
    assert all("no single mean" in one["refused"] and "yi" not in one for one in moderated.values())


def test_columns_of_many_values_are_only_sorted_by(results: dict[str, Any]) -> None:
    columns = {one["key"]: one for one in results["figures"]["forest_plain"]["selections"]["columns"]}
    assert list(columns) == ["rater", "format", "site", "year"]
    assert columns["rater"]["levels"] == ["client", "observer"]
    assert len(set(columns["site"]["values"])) > MOST_LEVELS
    assert columns["site"]["levels"] == columns["year"]["levels"] == []


def test_published_results_have_nothing_to_choose(tmp_path: Path) -> None:
    text = 'title = "T"\n[umbrella]\n[[section]]\nheading = "H"\n[[section.item]]\nforest = "umbrella"\n'
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    build_report(tmp_path / "own.toml", formats=("methods",))
    found = json.loads((tmp_path / "build/own/results.json").read_text(encoding="utf-8"))
    assert "selections" not in found["figures"]["forest_umbrella"]
