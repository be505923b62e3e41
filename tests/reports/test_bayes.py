"""Reports of Bayesian analyses: what may be declared, and that every number is that of the fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import plots
from alliance_meta.errors import InputError
from alliance_meta.plots import frame_from_dict
from alliance_meta.reporting.build import build_report
from alliance_meta.reporting.declaration import declare
from tests.reports.cases import Report
from tests.tolerances import CLOSED_FORM

HERE = Path("report.toml")


@pytest.fixture
def report(reports: dict[str, Report]) -> Report:
    return reports["relationship-bayes"]


@pytest.fixture
def found(report: Report) -> dict[str, Any]:
    quantities: dict[str, Any] = report.results["quantities"]
    return quantities


def fit_of(name: str) -> am.bayes.BayesianResults:
    data = {"kolden": "kolden2011_congruence", "farber": "farber2011_positive_regard"}[name.split("_")[0]]
    es = am.escalc(am.load_dataset(data), ri="r_recoded", ni="n_recoded")
    prior = am.priors.Normal(0, 0.1) if name.endswith("sure") else am.priors.Normal(0, 0.5)
    return am.BayesianModel(es, mu_prior=prior).fit()


@pytest.mark.parametrize("name", ["kolden", "farber", "kolden_sure", "farber_sure"])
def test_quantities_are_those_of_the_fit(name: str, found: dict[str, Any]) -> None:
    fit, block = fit_of(name), found[name]
    row = fit.predict(scale="r").iloc[0]
    assert block["r"]["value"] == pytest.approx(row["pred"], rel=CLOSED_FORM)
    assert block["r_ci"]["value"] == pytest.approx([row["ci_lb"], row["ci_ub"]], rel=CLOSED_FORM)
    assert block["pi"]["value"] == pytest.approx([row["pi_lb"], row["pi_ub"]], rel=CLOSED_FORM)
    assert block["tau"]["value"] == pytest.approx(fit.posterior("tau").median, rel=CLOSED_FORM)
    assert block["I2"]["value"] == pytest.approx(fit.posterior("I2").median, rel=CLOSED_FORM)
    assert block["prob_positive"]["value"] == pytest.approx(fit.prob("mu > 0"), rel=CLOSED_FORM)
    assert block["prob_more"]["value"] == pytest.approx(fit.prob("mu > 0.1", scale="r"), rel=CLOSED_FORM)
    assert block["bf_mu"]["value"] == pytest.approx(fit.bayes_factor("mu = 0").bf10, rel=CLOSED_FORM)
    assert block["bf_tau"]["value"] == pytest.approx(fit.bayes_factor("tau = 0").bf10, rel=CLOSED_FORM)


def test_the_sceptic_is_sceptical(found: dict[str, Any]) -> None:
    for name in ("kolden", "farber"):
        assert 0 < found[f"{name}_sure"]["r"]["value"] < found[name]["r"]["value"]


def test_the_table_of_priors_is_the_grid(report: Report) -> None:
    rows = [row for row in report.results["tables"]["priors"]["rows"] if "prior" in row]
    grid = fit_of("kolden").prior_sensitivity()
    assert [row["prior"] for row in rows[: len(grid)]] == grid["tau_prior"].tolist()
    np.testing.assert_allclose([row["r"] for row in rows[: len(grid)]], np.tanh(grid["mu"]), rtol=CLOSED_FORM)
    np.testing.assert_allclose([row["pi_ub"] for row in rows[: len(grid)]], np.tanh(grid["pi_ub"]), rtol=CLOSED_FORM)


def test_the_table_of_the_posterior(report: Report) -> None:
    rows = [row for row in report.results["tables"]["posterior"]["rows"] if "quantity" in row][:3]
    table = fit_of("kolden").tidy()
    for row, name in zip(rows, ("mu", "tau", "theta_new"), strict=True):
        np.testing.assert_allclose(
            [row[key] for key in ("median", "ci_lb", "ci_ub")],
            table.loc[[name], ["median", "ci_lb", "ci_ub"]].to_numpy(dtype=float)[0],
            rtol=CLOSED_FORM,
        )
    assert "r" not in rows[1]


def test_methods_sources_and_code_are_bayesian(report: Report) -> None:
    methods = (report.folder / "methods.txt").read_text("utf-8")
    assert "half-normal(0.3)" in methods
    assert "below 1e-10" in methods
    assert "bayesmeta(y=dat$yi" in report.page
    assert "Weakly informative" in report.page or "weakly informative" in report.page
    assert "10.18637/jss.v093.i06" in report.page


def declared(**more: Any) -> dict[str, Any]:
    one = {"id": "a", "label": "A", "data": "kolden2011_congruence", "kind": "bayes"} | more
    return {"title": "T", "analysis": [one]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tau_prior": "half-norml(1)"}, "tau_prior: 'half-norml\\(1\\)' is no prior; did you mean 'half-normal'"),
        ({"tau_prior": "normal(0, 1)"}, "is not a prior of tau"),
        ({"mu_prior": "half-normal(1)"}, "is not a prior of an effect"),
        ({"method": "REML"}, "method does nothing with kind = 'bayes'"),
        ({"rho": 0.5}, "rho does nothing with kind = 'bayes'"),
        ({"cluster": "study"}, "cluster does nothing with kind = 'bayes'"),
        ({"kind": "random", "tau_prior": "half-normal(1)"}, "it belongs to kind = 'bayes'"),
    ],
)
def test_what_may_not_be_declared(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        declare(declared(**more), path=HERE)


def write(folder: Path, text: str) -> Path:
    path = folder / "one.toml"
    path.write_text(text, encoding="utf-8")
    return path


MODERATED = """
title = "Moderated"
[[analysis]]
id = "a"
label = "A"
data = "molloy2014"
kind = "bayes"
mods = "design + meanage"
beta_prior = "normal(0, 0.2)"
[[section]]
heading = "H"
text = "{a.b_design_t_prospective} {a.b_design_t_prospective_ci} {a.b_meanage_positive} {a.bf_tau}"
"""


def test_moderators(tmp_path: Path) -> None:
    build_report(write(tmp_path, MODERATED), out=tmp_path / "out", formats=["tables"])
    found = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    es = am.escalc(am.load_dataset("molloy2014"))
    fit = am.BayesianModel(es, mods="design + meanage", beta_prior=am.priors.Normal(0, 0.2)).fit()
    block = found["quantities"]["a"]
    assert block["b_design_t_prospective"]["value"] == pytest.approx(fit.posterior("design[T.prospective]").median)
    assert block["b_meanage_positive"]["value"] == pytest.approx(fit.prob("meanage > 0"))
    assert "not_applicable" in block["r"]["value"]
    assert [row["quantity"] for row in found["tables"]["posterior_a"]["rows"]][:3] == list(fit.names)


def test_tables_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    wrong = MODERATED + '[[section.item]]\ntable = "coefficients"\nof = ["a"]\n'
    with pytest.raises(InputError, match="a is Bayesian; its table is 'posterior'"):
        build_report(write(tmp_path, wrong), out=tmp_path / "out")
    wrong = MODERATED.replace('kind = "bayes"', "").replace('beta_prior = "normal(0, 0.2)"', "")
    wrong = wrong[: wrong.index("text =")] + '[[section.item]]\ntable = "posterior"\nof = ["a"]\n'
    with pytest.raises(InputError, match="shows analyses of kind = 'bayes'; a has none"):
        build_report(write(tmp_path, wrong), out=tmp_path / "out")


def test_figures_are_those_of_the_fit(report: Report) -> None:
    fit = fit_of("farber")
    frame = frame_from_dict(report.results["figures"]["posterior_farber"]["frame"])
    expected = plots.posterior_data(fit, what="mu", scale="r")
    pd.testing.assert_frame_equal(frame, expected, check_exact=False, rtol=1e-9)
    frame = frame_from_dict(report.results["figures"]["sensitivity_farber"]["frame"])
    pd.testing.assert_frame_equal(frame, plots.prior_sensitivity_data(fit), check_exact=False, rtol=1e-9)


def test_figures_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    wrong = MODERATED.replace('kind = "bayes"', "").replace('beta_prior = "normal(0, 0.2)"', "")
    wrong = wrong[: wrong.index("text =")] + '[[section.item]]\nfigure = "posterior"\nof = "a"\n'
    with pytest.raises(InputError, match="shows an analysis of kind = 'bayes'; a is none"):
        build_report(write(tmp_path, wrong), out=tmp_path / "out")
