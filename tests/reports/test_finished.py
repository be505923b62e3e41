"""Reports of finished effects, of dependent effects without a declared kind, and of very many effects."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.reporting import build_report
from tests.tolerances import CLOSED_FORM, ITERATIVE

HEAD = 'title = "T"\n[[section]]\nheading = "H"\n'
FINISHED = "study,yi,sei\nA,.31,.1\nB,.22,.05\nC,.15,.11\n"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        yield


def built(folder: Path, sheet: str, analyses: str, items: str = "", formats: tuple[str, ...] = ("tables",)) -> Any:
    (folder / "own.csv").write_text(sheet, encoding="utf-8")
    blocks = [f'[[analysis]]\nlabel = "L"\ndata = "own.csv"\n{keys}\n' for keys in analyses.split("\n\n")]
    (folder / "own.toml").write_text(HEAD + items + "".join(blocks), encoding="utf-8")
    build_report(folder / "own.toml", formats=formats)
    return json.loads((folder / "build/own/results.json").read_text(encoding="utf-8"))


def item(kind: str, of: str, more: str = "") -> str:
    return f"[[section.item]]\n{kind}\nof = [{of}]\n{more}\n"


@pytest.mark.parametrize("sheet", [FINISHED, FINISHED.replace("yi", "g").replace("sei", "g se")])
def test_finished_effects_are_reported_on_their_own_scale(tmp_path: Path, sheet: str) -> None:
    named = "" if sheet == FINISHED else 'yi = "g"\nsei = "g se"'
    items = (
        item('table = "studies"', '"a"') + item('table = "comparison"', '"a"') + item('figure = "caterpillar"', '"a"')
    )
    found = built(tmp_path, sheet, f'id = "a"\n{named}', items, ("tables", "figures"))
    es = am.EffectSizes.from_arrays([0.31, 0.22, 0.15], np.square([0.1, 0.05, 0.11]))
    fit = am.RandomEffectsModel(es).fit()
    block = found["quantities"]["a"]
    assert block["estimate"]["value"] == pytest.approx(fit.beta[0], rel=CLOSED_FORM)
    assert block["ci"]["value"] == pytest.approx([fit.ci_lb[0], fit.ci_ub[0]], rel=CLOSED_FORM)
    assert block["pi"]["value"][1] == pytest.approx(fit.predict()["pi_ub"].iloc[0], rel=CLOSED_FORM)
    assert not [key for key in block if key.startswith("r") or key.endswith("_r")]
    rows = found["tables"]["studies_a"]["rows"]
    assert [row["estimate"] for row in rows] == [0.31, 0.22, 0.15]


def test_measure_says_that_finished_effects_are_fisher_z(tmp_path: Path) -> None:
    """The report of ../shared/cases/13."""
    block = built(tmp_path, FINISHED, 'id = "a"\nmeasure = "ZCOR"')["quantities"]["a"]
    assert block["measure"]["value"] == "Fisher z"
    assert block["r"]["value"] == pytest.approx(np.tanh(block["estimate"]["value"]), rel=CLOSED_FORM)
    assert block["estimate"]["value"] == pytest.approx(0.2255177, abs=1e-7)


def test_every_kind_reports_finished_effects(tmp_path: Path) -> None:
    kinds = (
        'id = "b"\nkind = "bayes"\nmu_prior = "normal(0, 1)"\ntau_prior = "half-normal(0.5)"',
        'id = "c"\nkind = "rve"',
        'id = "d"\nkind = "multilevel"\nrho = 0.5\nrobust = "CR2"',
    )
    items = item('table = "statistics"', '"b", "c", "d"') + item('table = "rho"', '"c", "d"')
    items += item('table = "posterior"', '"b"') + item('table = "priors"', '"b"') + item('figure = "posterior"', '"b"')
    found = built(tmp_path, FINISHED, "\n\n".join(kinds), items, ("html", "tables"))
    for name in "bcd":
        assert found["quantities"][name]["estimate"]["value"] == pytest.approx(0.2255, abs=5e-4)
    assert "estimate" in found["tables"]["priors_b"]["rows"][0]
    assert "r" not in found["tables"]["rho_c_d"]["rows"][1]


def test_default_priors_are_for_correlations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give mu_prior and tau_prior"):
        built(tmp_path, FINISHED, 'id = "b"\nkind = "bayes"')


THREE_LEVEL = 'id = "a"\nkind = "bayes"\nrandom = "~ 1 | study_id/es_id"'


def dependent() -> str:
    random = np.random.default_rng(20)
    rows = [
        f"Study {s:02d},{r:.3f},{int(random.integers(30, 120))}"
        for s in range(12)
        for r in np.tanh(random.normal(random.normal(0.3, 0.1), 0.1, size=s % 3 + 1))
    ]
    return "\n".join(["study,r,n", *rows]) + "\n"


def test_dependent_effects_without_a_kind_are_che(tmp_path: Path) -> None:
    kinds = 'id = "a"\n\nid = "b"\nkind = "random"\n\nid = "c"\nmethod = "DL"\n\nid = "d"\nlevel = 0.9'
    found = built(tmp_path, dependent(), kinds, 'text = "{a.r} {b.r} {c.r}"\n', ("methods",))
    es = am.escalc(am.read_coded(tmp_path / "own.csv"))
    che = am.che(es).predict(scale="r").iloc[0]
    block = found["quantities"]
    assert block["a"]["r"]["value"] == pytest.approx(che["pred"], rel=ITERATIVE)
    assert block["a"]["r_ci"]["value"] == pytest.approx([che["ci_lb"], che["ci_ub"]], rel=ITERATIVE)
    assert block["a"]["rho"]["value"] == 0.6
    assert block["d"]["model"]["value"] == "multilevel"
    for name, method in (("b", "REML"), ("c", "DL")):
        fit = am.RandomEffectsModel(es, method=method).fit().predict(scale="r")  # type: ignore[arg-type]
        assert block[name]["r"]["value"] == pytest.approx(fit["pred"].iloc[0], rel=ITERATIVE)
        notes = [note["code"] for note in found["analyses"][name]["notes"]]
        assert "dependent-effects" in notes
    assert "No kind was declared" in found["cautions"][0]["texts"][0]
    assert sum("No kind was declared" in text for group in found["cautions"] for text in group["texts"]) == 1


def test_independent_effects_without_a_kind_are_as_they_were(tmp_path: Path) -> None:
    found = built(tmp_path, "study,r,n\nA,.2,50\nB,.3,60\nC,.1,70\n", 'id = "a"')
    assert found["cautions"] == []
    assert found["quantities"]["a"]["test"]["value"] == "Knapp-Hartung, t"


def test_a_bayesian_report_of_dependent_effects(tmp_path: Path) -> None:
    items = "".join(item(f'table = "{name}"', '"a"') for name in ("statistics", "studies", "posterior"))
    items += item('figure = "forest"', '"a"')
    found = built(tmp_path, dependent(), THREE_LEVEL, items)
    fit = am.BayesianModel(am.escalc(am.read_coded(tmp_path / "own.csv")), random="~ 1 | study_id/es_id").fit()
    block = found["quantities"]["a"]
    assert block["r"]["value"] == pytest.approx(fit.predict(scale="r")["pred"].iloc[0], rel=ITERATIVE)
    assert block["tau_study_id"]["value"] == pytest.approx(fit.posterior("tau[study_id]").median, rel=ITERATIVE)
    assert block["bf_mu"]["value"] == pytest.approx(fit.bayes_factor("mu = 0").bf10, rel=ITERATIVE)
    with pytest.raises(InputError, match="table='priors' shows models with one τ"):
        built(
            tmp_path,
            dependent(),
            'id = "a"\nkind = "bayes"\nrandom = "~ 1 | study_id/es_id"',
            item('table = "priors"', '"a"'),
        )


def many(k: int) -> str:
    random = np.random.default_rng(3)
    n = random.integers(20, 300, size=k)
    r = np.tanh(random.normal(0.28, 0.1, size=k) + random.normal(0.0, 1.0, size=k) / np.sqrt(n - 3))
    return "study,r,n,rater\n" + "".join(f"<b>{i},{r[i]:.3f},{n[i]},{'ab'[i % 2]}\n" for i in range(k))


class Rows(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1


def test_a_forest_of_very_many_effects_is_the_supplement(tmp_path: Path) -> None:
    items = '[[section.item]]\nforest = "a"\nby = "rater"\ncolumns = ["rater"]\n'
    found = built(tmp_path, many(510), 'id = "a"', items, ("html", "figures"))
    figure = found["figures"]["forest_a"]
    assert figure["frame"]["meta"]["plot"] == "caterpillar"
    assert "forest is the supplement" in figure["notes"][0]
    folder = tmp_path / "build/own/figures"
    page = (folder / "forest_a.html").read_text(encoding="utf-8")
    tags = Rows(page).count
    # A head, 510 effects, two groups with a head and a mean each, the whole with its prediction interval.
    assert tags["tr"] == 1 + 510 + 2 * 2 + 2
    assert tags["rect"] == 510 + 2 + 1
    assert "<b>" not in page
    assert sorted(path.name for path in folder.iterdir()) == ["forest_a.html", "forest_a.png", "forest_a.svg"]


def test_a_forest_of_many_effects_is_no_supplement(tmp_path: Path) -> None:
    found = built(tmp_path, many(60), 'id = "a"', '[[section.item]]\nforest = "a"\n', ("methods",))
    assert found["figures"]["forest_a"]["frame"]["meta"]["plot"] == "forest"
    assert "supplement" not in found["figures"]["forest_a"]


def test_print_ends_long_tables_and_says_so() -> None:
    from alliance_meta.reporting.build import MOST_ROWS, _cut

    table = {"id": "t", "rows": [{"cells": [str(i)]} for i in range(MOST_ROWS + 1)], "notes": []}

    def cut_of(table: object) -> list[dict[str, object]]:
        return _cut({"lang": "en", "sections": [{"blocks": [table]}]})["sections"][0]["blocks"]

    (cut,) = cut_of(table)
    assert len(cut["rows"]) == MOST_ROWS
    assert "".join(run["s"] for run in cut["notes"][-1]) == "The first 1,000 of 1,001 rows; all are in tables/t.csv"
    whole = {"id": "t", "rows": table["rows"][:-1], "notes": []}
    assert cut_of(whole) == [whole]
