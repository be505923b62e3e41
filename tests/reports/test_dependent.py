"""Reports on effects that depend on each other: what may be declared, and that every number is that of the fit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import alliance_meta as am
from alliance_meta.effects.datasets import load_dataset
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.plots import frame_from_dict
from alliance_meta.reporting.build import build_report
from alliance_meta.reporting.declaration import declare
from tests.reports.cases import Report
from tests.tolerances import CLOSED_FORM

ALL = "study != 'Jones 1982'"
RATED = f"{ALL} and rater in ['client', 'observer']"


@pytest.fixture
def report(reports: dict[str, Report]) -> Report:
    return reports["relationship-raters"]


@pytest.fixture
def found(report: Report) -> dict[str, Any]:
    quantities: dict[str, Any] = report.results["quantities"]
    return quantities


def rows_of(subset: str = ALL) -> EffectSizes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return am.escalc(load_dataset("relationship_dependent_effects").query(subset))


def refit(name: str) -> Any:
    es = rows_of()
    if name == "means":
        return am.RandomEffectsModel(am.aggregate(es, rho=0.5, how="mean")).fit()
    if name == "three":
        return am.MultilevelModel(es, random=("study_id", "es_id")).fit()
    return am.che(es, rho=0.5) if name == "che" else am.RVEModel(es, working="CORR", rho=0.5).fit()


@pytest.mark.parametrize("name", ["means", "three", "che", "rve"])
def test_quantities_are_those_of_the_fit(name: str, found: dict[str, Any]) -> None:
    fit, block = refit(name), found[name]
    row = fit.predict(scale="r").iloc[0]
    assert block["r"]["value"] == pytest.approx(row["pred"], rel=CLOSED_FORM)
    assert block["r_ci"]["value"] == pytest.approx([row["ci_lb"], row["ci_ub"]], rel=CLOSED_FORM)
    assert block["pi"]["value"] == pytest.approx([row["pi_lb"], row["pi_ub"]], rel=CLOSED_FORM)
    assert block["ddf"]["value"] == pytest.approx(fit.ddf[0], rel=CLOSED_FORM)
    assert block["tau2"]["value"] == pytest.approx(fit.tau2, rel=CLOSED_FORM)
    assert block["k"]["value"] == fit.k


def test_components_are_those_of_the_fit(found: dict[str, Any], report: Report) -> None:
    fit = refit("che")
    for name, term in (("study_id", "study_id"), ("es_id", "study_id/es_id")):
        row = fit.fit.confint().loc[f"sigma2[{term}]"]
        assert found["che"][f"sigma2_{name}"]["value"] == pytest.approx(row["estimate"], rel=CLOSED_FORM)
        assert found["che"][f"sigma2_{name}_ci"]["value"] == pytest.approx([row["lb"], row["ub"]], rel=1e-9, abs=1e-12)
        assert found["che"][f"I2_{name}"]["value"] == pytest.approx(fit.I2_levels[term], rel=CLOSED_FORM)
    rows = report.results["tables"]["components"]["rows"]
    start = next(i for i, row in enumerate(rows) if row.get("group") == "CHE with CR2")
    between, within, total = rows[start + 1 : start + 4]
    assert between["estimate"] + within["estimate"] == pytest.approx(total["estimate"], rel=CLOSED_FORM)
    assert between["share"] + within["share"] == pytest.approx(total["share"], rel=CLOSED_FORM)


def test_raters_are_those_of_the_fit(found: dict[str, Any], report: Report) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        fit = am.che(rows_of(RATED), rho=0.5, mods="rater")
        predicted = fit.predict({"rater": ["client", "observer"]}, scale="r")
    block = found["rater_che"]
    assert block["b_rater_t_observer"]["value"] == pytest.approx(fit.beta[1], rel=CLOSED_FORM)
    assert block["b_rater_t_observer_df"]["value"] == pytest.approx(fit.ddf[1], rel=CLOSED_FORM)
    assert block["r_client"]["value"] == pytest.approx(predicted["pred"].iloc[0], rel=CLOSED_FORM)
    assert (block["k_client"]["value"], block["k_observer"]["value"]) == (13, 18)
    assert (block["studies_client"]["value"], block["studies_observer"]["value"]) == (5, 4)
    levels = [row for row in report.results["tables"]["levels"]["rows"] if "level" in row]
    assert [row["level"] for row in levels] == ["client", "observer"] * 5
    assert levels[3]["ci_ub"] == pytest.approx(predicted["ci_ub"].iloc[1], rel=CLOSED_FORM)
    assert levels[3]["ddf"] == pytest.approx(predicted["ddf"].iloc[1], rel=CLOSED_FORM)


def test_other_correlations_are_refits(found: dict[str, Any], report: Report) -> None:
    block, table = found["rho"], report.results["tables"]["rho"]["rows"]
    for name in ("means", "che", "rve"):
        assert block[f"{name}_50_r"]["value"] == found[name]["r"]["value"]
    low = am.che(rows_of(), rho=0.3)
    assert block["che_30_sigma2_study_id"]["value"] == pytest.approx(low.sigma2[0], rel=CLOSED_FORM)
    assert [row["rho"] for row in table if "rho" in row] == [0.3, 0.5, 0.7] * 3


def test_every_row_is_accounted_for(report: Report) -> None:
    tables = report.results["tables"]
    assert len(tables["studies"]["rows"]) + len(tables["left_out"]["rows"]) == 53
    assert {row["study"] for row in tables["left_out"]["rows"]} == {"Jones 1982"}
    assert "SIGNS AS PRINTED" in tables["left_out"]["notes"][0]
    rated = report.results["quantities"]["rater_che"]["k"]["value"]
    assert rated + len(tables["rater_left_out"]["rows"]) == 53
    for analysis in report.results["analyses"].values():
        assert "Jones 1982" not in str(analysis["result"].get("studies", analysis["result"].get("clusters")))


def test_the_forest_shows_effects_within_studies(report: Report, found: dict[str, Any]) -> None:
    frame = frame_from_dict(report.results["figures"]["forest"]["frame"])
    effects = frame[frame["position"].notna()]
    assert len(effects) == found["che"]["k"]["value"]
    diamond = frame[frame["kind"] == "summary"].iloc[0]
    assert [diamond["r"], diamond["r_lb"], diamond["r_ub"]] == pytest.approx(
        [found["che"]["r"]["value"], *found["che"]["r_ci"]["value"]], rel=CLOSED_FORM
    )


def test_the_figure_of_methods_shows_the_declared_analyses(report: Report, found: dict[str, Any]) -> None:
    frame = frame_from_dict(report.results["figures"]["dependence"]["frame"]).set_index("label")
    rows = {"means": "Mean of each study", "three": "Three-level", "che": "CHE + CR2", "rve": "RVE correlated"}
    for name, label in rows.items():
        drawn = frame.loc[label, ["r", "r_lb", "r_ub"]].astype(float).tolist()
        assert drawn == pytest.approx([found[name]["r"]["value"], *found[name]["r_ci"]["value"]], rel=CLOSED_FORM)


def test_methods_and_r_code_name_every_choice(report: Report) -> None:
    text = (report.folder / "methods.txt").read_text(encoding="utf-8")
    for expected in (
        "48 effects became 18, one per study_id",
        "rho=0.5, an assumption",
        "Sampling errors were taken as independent",
        "rho = 0.5 within study_id",
        "CR2: bias-reduced linearisation; 18 clusters by study_id",
        "correlated-effects working model",
        "10.1007/s11121-021-01246-3",
        "10.1002/jrsm.5",
    ):
        assert expected in text
    code = report.results["analyses"]["means"]["r_code"]
    assert "dat$study_id <- dat$study\n" in code
    assert 'dat <- aggregate(dat, cluster=study_id, struct="CS", rho=0.5, weighted=FALSE)' in code


GOOD: dict[str, Any] = {"title": "T", "section": [{"heading": "H"}]}
ONE = {"id": "a", "label": "A", "data": "crede2010"}


def test_every_problem_of_a_dependent_analysis_is_named_at_once() -> None:
    analyses = [
        ONE | {"kind": "multilvel"},
        ONE | {"id": "b", "aggregate": "mean", "random": ["study_id"], "rho": 2, "robust": "CR9"},
        ONE | {"id": "c", "kind": "multilevel", "method": "DL", "test": "knha", "aggregate": "mean", "struct": "UN"},
        ONE | {"id": "d", "kind": "rve", "working": "HIER", "rho": 0.5, "robust": "CR2", "test": "z", "dfs": "contain"},
        ONE | {"id": "e", "rho": 0.5, "cluster": "study_id"},
        ONE | {"id": "f", "kind": "multilevel", "cluster": "study_id"},
        ONE | {"id": "rho", "kind": "rve", "rho": -0.1},
    ]
    item = [
        {"figure": "funel", "of": "a"},
        {"figure": "bubble", "of": "a"},
        {"figure": "caterpillar", "of": ["a", "b"]},
    ]
    item += [{"figure": "forest", "of": "z"}, {"figure": "forest", "forest": "a"}]
    with pytest.raises(InputError) as caught:
        declare({"title": "T", "analysis": analyses, "section": [{"heading": "H", "item": item}]}, path=Path("x.toml"))
    text = str(caught.value)
    for expected in (
        "kind='multilvel' is not one of 'random', 'multilevel', 'rve', 'bayes'; did you mean 'multilevel'?",
        "(b): robust='CR9' is not one of",
        "(b): rho=2 is a correlation",
        "(b): random does nothing with kind = 'random'; it belongs to kind = 'multilevel'",
        "(c): method='DL' is not one of 'REML', 'ML'",
        "(c): test='knha' is not one of 't', 'z'",
        "(c): aggregate does nothing with kind = 'multilevel'",
        "(c): struct does nothing without a random term",
        "(d): test does nothing with kind = 'rve'",
        "(d): robust does nothing with kind = 'rve'",
        "(d): dfs does nothing with kind = 'rve'; it belongs to kind = 'multilevel'",
        "(d): rho does nothing with working = 'HIER'",
        "(e): rho does nothing without aggregate",
        "(e): cluster does nothing without aggregate or robust",
        "(f): cluster does nothing without rho or robust",
        "(rho): the id 'rho' is taken by the report itself",
        "(rho): rho=-0.1 is a correlation of sampling errors and must lie between 0 and 1",
        "figure='funel' is not one of",
        "figure='bubble' needs by",
        "figure='caterpillar' shows one analysis, not 2",
        "of='z' is no analysis",
        "has forest and figure",
    ):
        assert expected in text, expected
    assert text.startswith("x.toml: 22 problems")


def test_defaults_are_those_of_the_kind() -> None:
    analyses = [
        ONE | {"id": "a", "aggregate": "mean"},
        ONE | {"id": "b", "kind": "multilevel"},
        ONE | {"id": "c", "kind": "rve"},
        ONE | {"id": "d", "kind": "rve", "working": "HIER"},
    ]
    a, b, c, d = declare(GOOD | {"analysis": analyses}, path=Path("x.toml")).analysis
    assert (a.method, a.test, a.cluster, a.rho) == ("REML", "knha", "study_id", 0.5)
    assert (b.method, b.test, b.dfs, b.random, b.rho) == ("REML", "t", "contain", ("study_id/es_id",), None)
    assert (c.method, c.working, c.rho, c.cluster) == (None, "CORR", 0.8, "study_id")
    assert d.rho is None


OWN = """
title = "Own"
[[analysis]]
id = "a"
label = "A"
data = "own.csv"
{keys}
[[section]]
heading = "H"
{items}
"""
ROWS = ["study_id,year,r,n,rater,scale"]
ROWS += [
    f"{study},{2000 + i},{r},{40 + 5 * i},{rater},{scale}"
    for i, (study, r, rater, scale) in enumerate(
        [
            ("A", 0.20, "client", 1),
            ("A", 0.45, "therapist", 2),
            ("B", 0.05, "client", 1),
            ("B", 0.31, "therapist", 3),
            ("B", 0.02, "client", 4),
            ("C", 0.40, "client", 2),
            ("D", 0.22, "therapist", 1),
            ("D", -0.10, "client", 2),
            ("E", 0.60, "therapist", 3),
            ("F", 0.12, "client", 2),
        ]
    )
]


def built(folder: Path, keys: str, items: str = "", formats: Sequence[str] = ("methods",)) -> dict[str, Any]:
    (folder / "own.csv").write_text("\n".join(ROWS) + "\n", encoding="utf-8")
    (folder / "own.toml").write_text(OWN.format(keys=keys, items=items), encoding="utf-8")
    build_report(folder / "own.toml", formats=formats)
    results: dict[str, Any] = json.loads((folder / "build/own/results.json").read_text(encoding="utf-8"))
    return results


@pytest.mark.parametrize(
    ("keys", "present", "absent"),
    [
        ('robust = "CR2"', {"r_ci_model", "tau2_ci", "cluster"}, {"r_ci_wald", "rho"}),
        ('aggregate = "CS"\nrho = 0.4', {"k_rows", "averaged", "rho"}, {"r_ci_wald", "r_ci_model"}),
        ('kind = "rve"\nworking = "HIER"', {"omega2", "I2_Q"}, {"rho", "tau2_ci"}),
        (
            'kind = "multilevel"\nrandom = "rater | study_id"\nstruct = "UN"',
            {"rho_rater_study_id_client_therapist"},
            set(),
        ),
        ('kind = "multilevel"\nmeasure = "COR"\ndfs = "residual"', {"sigma2_es_id", "errors"}, {"r_ci_model"}),
        (
            'kind = "multilevel"\ntest = "z"\nmethod = "ML"\nrho = 0.5\nmods = "scale"',
            {"b_scale", "R2_marginal"},
            set(),
        ),
    ],
)
def test_what_each_model_tells(tmp_path: Path, keys: str, present: set[str], absent: set[str]) -> None:
    tables = "\n".join(
        f'[[section.item]]\ntable = "{name}"\nof = "a"' for name in ("comparison", "components", "studies")
    )
    results = built(tmp_path, keys, tables)
    block = results["quantities"]["a"]
    assert present <= set(block)
    assert not absent & set(block)
    assert results["analyses"]["a"]["model_label"]


def test_figures_are_drawn_by_their_own_names(tmp_path: Path) -> None:
    keys = 'robust = "CR2"\n[[analysis]]\nid = "b"\nlabel = "B"\ndata = "own.csv"\nmods = "rater"'
    items = "\n".join(
        f'[[section.item]]\nfigure = "{kind}"\nof = "{of}"\n{more}'
        for kind, of, more in (
            ("forest", "a", 'label = "rater"'),
            ("caterpillar", "a", ""),
            ("profile", "b", ""),
            ("bubble", "b", 'by = "rater"'),
            ("means", "b", 'by = "rater"'),
            ("dependence", "a", ""),
        )
    )
    results = built(tmp_path, keys, items, ("html", "figures"))
    drawn = {name: figure["frame"]["meta"]["plot"] for name, figure in results["figures"].items()}
    # Each variance of a multilevel model has a profile of its own.
    assert drawn.pop("profile_b") == "profiles"
    assert drawn == {
        f"{kind}_{of}": kind
        for kind, of in zip(("forest", "caterpillar", "bubble", "means", "dependence"), "aabba", strict=True)
    }
    for name in drawn:
        svg = (tmp_path / f"build/own/figures/{name}.svg").read_text(encoding="utf-8")
        assert svg.startswith("<?xml")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ('table = "rho"\nof = "a"', "that analysis assumes no correlation"),
        ('table = "levels"\nof = "a"', "needs mods = one categorical moderator"),
        ('table = "comparison"\nof = "a"\ncolumns = ["tau"]\n[[section.item]]\ntable = "comparison"\nof = "a"\n'
         'id = "x"\ncolumns = ["r_cii"]', "no statistic 'r_cii'; did you mean 'r_ci'?"),
        ('forest = "a"\nlabel = "raters"', "raters"),
    ],
)  # fmt: skip
def test_what_only_a_run_can_find(tmp_path: Path, items: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        built(tmp_path, 'kind = "multilevel"', f"[[section.item]]\n{items}")
    assert expected in str(caught.value)


def test_dependent_rows_are_not_taken_as_independent(tmp_path: Path) -> None:
    keys = "subset = \"study != 'Jones 1982'\""
    text = OWN.format(keys=keys, items="").replace("own.csv", "relationship_dependent_effects")
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="would take as independent; add aggregate = 'mean' or robust = 'CR2'"):
        build_report(tmp_path / "own.toml")
    (tmp_path / "own.toml").write_text(text.replace(keys, 'kind = "rve"'), encoding="utf-8")
    with pytest.raises(InputError, match="only a part of relationship_dependent_effects may be pooled"):
        build_report(tmp_path / "own.toml")
