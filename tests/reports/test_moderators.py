"""Moderators in a report: the numbers are those of `moderator_table` with the analysis's own model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import alliance_meta as am
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.reporting.build import build_report
from alliance_meta.reporting.declaration import declare
from alliance_meta.reporting.writing import show
from alliance_meta.tables.format import error_decimals
from tests.reports.cases import small_sheet
from tests.reports.test_dependent import GOOD, ONE, built
from tests.tolerances import CLOSED_FORM

ITEMS = """
[[section.item]]
table = "moderators"
of = "a"
columns = ["rater", "scale"]
[[section.item]]
figure = "moderators"
of = "a"
id = "drawn"
columns = ["rater", "scale"]
"""
MODELS = {
    "": {"model": "che"},
    'kind = "multilevel"\nrho = 0.3\nrobust = "CR1"': {"model": "che", "rho": 0.3, "type": "CR1"},
    'kind = "multilevel"\ntest = "z"': {"model": "multilevel", "test": "z"},
    'kind = "random"\naggregate = "mean"\nmethod = "DL"': {"model": "random", "method": "DL"},
    'measure = "COR"\nlevel = 0.9': {"model": "che", "level": 0.9},
}


def ours(folder: Path, keys: str, options: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        es = am.escalc(am.read_coded(folder / "own.csv"), measure="COR" if "COR" in keys else "ZCOR")
        es = am.aggregate(es, how="mean") if "aggregate" in keys else es
        return am.moderator_table(es, ["rater", "scale"], **options)


@pytest.mark.parametrize(("keys", "options"), MODELS.items())
def test_numbers_are_those_of_the_function(tmp_path: Path, keys: str, options: dict[str, Any]) -> None:
    results = built(tmp_path, keys, ITEMS)
    found, block = ours(tmp_path, keys, options), results["quantities"]["moderators"]
    rows = found.tidy()
    point, lower = ("r", "r_lb") if found.measure == "ZCOR" else ("estimate", "ci_lb")
    if "aggregate" not in keys:
        row = rows.loc[("rater", "client")]
        assert block["a_rater_client_r"]["value"] == pytest.approx(row[point], rel=CLOSED_FORM)
        assert block["a_rater_client_ci"]["value"][0] == pytest.approx(row[lower], rel=CLOSED_FORM)
        assert block["a_rater_client_k"]["value"] == row["k"]
        assert block["a_rater_p_controlled"]["value"] == pytest.approx(
            found.tests.loc["rater", "pval_controlled"], rel=CLOSED_FORM
        )
    slope = rows.loc[("scale", "per SD")]
    assert block["a_scale_per_sd_r"]["value"] == pytest.approx(slope[point], rel=CLOSED_FORM)
    assert block["a_scale_p_adjusted"]["value"] == pytest.approx(
        found.tests.loc["scale", "pval_adjusted"], rel=CLOSED_FORM
    )
    table = results["tables"]["moderators_a"]
    assert [row["label"] for row in table["rows"]][:1] == ["Overall"]
    assert any(found.model_label in note for note in table["notes"])
    assert results["figures"]["drawn"]["frame"]["meta"]["plot"] == "moderators"
    overall = rows.loc[("Overall", "all effects"), point]
    assert table["rows"][0]["r"] == pytest.approx(overall, rel=CLOSED_FORM)


@pytest.mark.parametrize(
    ("keys", "columns", "says"),
    [
        ('kind = "rve"', '["rater"]', "there is no such table for its model"),
        ('robust = "CR2"\nkind = "random"', '["rater"]', "there is no such table for its model"),
        ('kind = "multilevel"\nrho = 0.5', '["rater"]', "there is no such table for its model"),
        ('kind = "multilevel"\nrandom = "study_id"', '["rater"]', "there is no such table for its model"),
        ('mods = "rater"', '["rater"]', "take an analysis without mods"),
        ("", '["ratr"]', "did you mean 'rater'"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, keys: str, columns: str, says: str) -> None:
    items = f'[[section.item]]\ntable = "moderators"\nof = "a"\ncolumns = {columns}'
    with pytest.raises(InputError, match=says):
        built(tmp_path, keys, items)


def test_moderators_must_be_named() -> None:
    item = [{"table": "moderators", "of": "a"}, {"figure": "moderators", "of": "a"}]
    with pytest.raises(InputError) as caught:
        declare(GOOD | {"analysis": [ONE], "section": [{"heading": "H", "item": item}]}, path=Path("x.toml"))
    for kind in ("table", "figure"):
        assert f"{kind}='moderators' needs columns" in str(caught.value)


def test_a_small_slope_has_the_decimals_that_its_error_needs(tmp_path: Path) -> None:
    sheet = small_sheet(tmp_path) / "own.csv"
    sheet.write_text(
        sheet.read_text(encoding="utf-8").replace("2001", "1931").replace("2003", "1973"), encoding="utf-8"
    )
    path = tmp_path / "one.toml"
    analyses = "".join(
        f'[[analysis]]\nid = "{name}"\nlabel = "{name}"\ndata = "own.csv"\n{mods}\n'
        for name, mods in (("mean", ""), ("slope", 'mods = "year"'))
    )
    items = '[[section.item]]\ntable = "coefficients"\nof = "slope"\n'
    items += '[[section.item]]\ntable = "moderators"\nof = "mean"\ncolumns = ["year"]\n'
    text = 'text = "Per year {slope.b_year}, at year 0 {slope.b_intrcpt}."\n'
    path.write_text(f'title = "T"\n{analyses}[[section]]\nheading = "H"\n{text}{items}', encoding="utf-8")
    page = build_report(path, formats=["html"])[1].read_text(encoding="utf-8")
    effects = am.escalc(am.read_coded(tmp_path / "own.csv"))
    fit = am.RandomEffectsModel(effects, mods="year").fit()
    decimals = error_decimals(fit.se[1], 3)
    assert decimals > 3 == error_decimals(fit.se[0], 3)
    assert f"Per year {show(fit.beta[1], f'fixed{decimals}')}, at year 0 {show(fit.beta[0], 'fixed3')}." in page
    assert page.count(show([fit.ci_lb[1], fit.ci_ub[1]], f"fixed{decimals}_interval")) == 1
