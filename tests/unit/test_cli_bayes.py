"""``alliance-meta fit --bayes``: the numbers are the library's, and what would do nothing is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from alliance_meta import BayesianModel, escalc, load_dataset, priors
from alliance_meta.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        code = main(["fit", "molloy2014", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_it_is_the_fit_of_the_library(run: Run) -> None:
    code, out, err = run("--bayes", "--tau-prior", "half-Cauchy(0.15)", "--mods", "meanage", "--level", "0.9", "--json")
    assert (code, err) == (0, "")
    es = escalc(load_dataset("molloy2014"))
    fit = BayesianModel(es, mods="meanage", tau_prior=priors.HalfCauchy(0.15), level=0.9).fit()
    found = json.loads(out)
    assert found["model"]["priors"]["tau"] == {"prior": "HalfCauchy", "scale": 0.15}
    assert found["statistics"]["log_marginal_likelihood"] == fit.log_marginal_likelihood
    assert found["posterior"]["median"] == fit.tidy()["median"].tolist()


def test_it_prints_priors_and_draws_the_forest(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--bayes", "--forest", "f.svg", "--order", "effect", "--out", "p.csv")
    assert code == 0
    assert "Priors: mu ~ normal(0, 0.5); tau ~ half-normal(0.3)" in out
    assert err.splitlines()[-2:] == ["written: f.svg", "written: p.csv"]
    assert "and below each the posterior of its true effect" in (tmp_path / "f.svg").read_text("utf-8")
    assert (tmp_path / "p.csv").read_text("utf-8").startswith("parameter,mean,sd,median,ci_lb,ci_ub\nmu,")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bayes", "--method", "DL"], "Invalid value for --method: this does nothing with --bayes"),
        (["--bayes", "--by", "design", "--forest", "f.svg"], "--by: this does nothing with --bayes"),
        (["--mu-prior", "normal(0, 1)"], "--mu-prior: this does nothing without --bayes"),
        (["--bayes", "--tau-prior", "half-norml(1)"], "did you mean 'half-normal'"),
        (["--bayes", "--mu-prior", "half-normal(1)"], "is not a prior of an effect"),
    ],
)
def test_what_would_do_nothing_or_is_no_prior_is_refused(
    run: Run, tmp_path: Path, args: list[str], message: str
) -> None:
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not list(tmp_path.iterdir())


def test_an_improper_posterior_says_so(run: Run) -> None:
    code, out, err = run("--bayes", "--tau-prior", "uniform", "--mu-prior", "flat", "--json")
    assert (code, err) == (0, "")
    assert "improper" in json.loads(out)["statistics"]["log_marginal_likelihood"]["not_applicable"]
