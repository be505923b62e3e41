"""Draws go into the installed ArviZ's container and come out unchanged, with the same summary on both."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge as bridge
from alliance_meta.bayes.sampled.quantities import convergence_problems
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.bayes.sampled.sampling import sample
from tests.tolerances import CLOSED_FORM

STUDIES = ["Smith 2001", "Jones 2002", "Roe 2003"]


def summary(container, **options):
    return bridge.summarise(bridge.scalars(container), **options)


@pytest.fixture
def posterior(rng):
    return {"mu": rng.normal(0.3, 0.1, (4, 500)), "theta": rng.normal(size=(4, 500, 3))}


@pytest.fixture
def container(posterior):
    return bridge.from_draws(posterior, dims={"theta": ["study"]}, coords={"study": STUDIES})


def with_stats(rng, *, diverging=0, energy=None):
    flags = np.zeros((4, 500), dtype=bool)
    flags.flat[:diverging] = True
    stats = {"diverging": flags, "energy": rng.normal(size=(4, 500)) if energy is None else energy}
    return bridge.from_draws({"mu": rng.normal(size=(4, 500))}, sample_stats=stats)


def test_round_trip(posterior, container):
    back = bridge.draws(container)
    assert set(back) == set(posterior)
    for name, values in posterior.items():
        assert np.array_equal(back[name], values)


def test_the_container_is_arviz_s_own(container):
    az = bridge.load("arviz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = az.summary(container, kind="stats", round_to="none")
    ours = summary(container)
    assert list(theirs.index) == list(ours.index)
    assert theirs["mean"].astype(float).to_numpy() == pytest.approx(ours["mean"].to_numpy(), rel=CLOSED_FORM)
    assert theirs["sd"].astype(float).to_numpy() == pytest.approx(ours["sd"].to_numpy(), rel=CLOSED_FORM)


def test_summary_is_labelled_and_unrounded(posterior, container):
    table = summary(container, level=0.8)
    assert list(table.index) == ["mu", *(f"theta[{study}]" for study in STUDIES)]
    assert list(table.columns) == ["mean", "sd", "median", "ci_lb", "ci_ub", "mcse", "ess_bulk", "ess_tail", "rhat"]
    values = posterior["theta"][..., 1]
    row = table.loc["theta[Jones 2002]"]
    expected = [values.mean(), values.std(ddof=1), *np.quantile(values, [0.5, 0.1, 0.9])]
    assert row.iloc[:5].to_numpy() == pytest.approx(np.array(expected), rel=CLOSED_FORM)
    # Independent draws: as many effective ones as there are, give or take their own sampling error.
    assert (table[["ess_bulk", "ess_tail"]].to_numpy() > 1500).all()
    assert (abs(table["rhat"] - 1) < 0.01).all()


def test_more_than_one_axis_is_labelled(rng):
    made = bridge.from_draws(
        {"cor": rng.normal(size=(2, 10, 2, 2))},
        dims={"cor": ["row", "column"]},
        coords={"row": ["a", "b"], "column": ["c", "d"]},
    )
    table = summary(made)
    assert list(table.index) == ["cor[a, c]", "cor[a, d]", "cor[b, c]", "cor[b, d]"]
    assert table.loc["cor[a, d]", "mean"] == pytest.approx(bridge.draws(made)["cor"][..., 0, 1].mean())


@pytest.mark.parametrize(
    ("values", "lacking"),
    [
        (np.ones((2, 50)), {"ess_bulk": "never change", "ess_tail": "never change", "rhat": "never change"}),
        (np.arange(6.0).reshape(2, 3), {"ess_bulk": "at least 4 draws", "rhat": "at least 4 draws"}),
        (np.random.default_rng(1).normal(size=(1, 50)), {"rhat": "at least 2 chains"}),
        ([[1.0]], {"sd": "at least 2 draws", "rhat": "at least 4 draws"}),
    ],
)
def test_what_does_not_exist_says_why(values, lacking):
    row = summary(bridge.from_draws({"mu": values})).loc["mu"]
    for name, reason in lacking.items():
        assert isinstance(row[name], am.NotApplicable)
        assert reason in row[name].reason
    assert np.isfinite(row["mean"])


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({}, "at least one parameter"),
        ({"mu": [1.0, 2.0]}, r"mu has shape \(2,\)"),
        ({"mu": np.ones((2, 0))}, "none of it 0"),
        ({"mu": np.ones((2, 5)), "tau": np.ones((2, 6))}, "mu: 2 x 5; tau: 2 x 6"),
        ({"mu": [[1.0, np.nan]]}, "draws of mu hold missing"),
    ],
)
def test_bad_draws_are_refused(draws, message):
    with pytest.raises(am.InputError, match=message):
        bridge.from_draws(draws)


def test_a_group_that_is_not_there(container):
    with pytest.raises(am.InputError, match="no group 'prior'; groups: posterior"):
        bridge.draws(container, group="prior")


def test_nothing_in_a_container_comes_from_a_clock(rng):
    timed = {"energy": rng.normal(size=(2, 5)), "perf_counter_diff": np.ones((2, 5))}
    made = bridge.from_draws({"tau": np.ones((2, 5)), "mu": np.ones((2, 5))}, sample_stats=timed)
    assert list(bridge.draws(made)) == ["mu", "tau"]
    assert list(bridge.draws(made, group="sample_stats")) == ["energy"]
    for group in bridge.group_names(made):
        assert not {"created_at", "sampling_time"} & set(made[group].attrs)


def test_diagnostics(rng, container):
    az = bridge.load("arviz")
    made = with_stats(rng, diverging=3)
    found = bridge.sampler_diagnostics(made)
    theirs = az.bfmi(made)
    theirs = np.asarray(theirs["energy"] if hasattr(theirs, "children") else theirs)
    assert found.divergences == 3
    assert found.bfmi == pytest.approx(theirs, rel=CLOSED_FORM)
    without = bridge.sampler_diagnostics(container)
    assert isinstance(without.divergences, am.NotApplicable)
    assert without.bfmi == ()


def test_more_chains_than_draws_are_no_news(rng):
    table = summary(bridge.from_draws({"mu": rng.normal(size=(8, 5))}))
    assert np.isfinite(table.to_numpy(dtype=float)).all()
    assert np.isfinite(summary(bridge.from_draws({"mu": [[0.1], [0.2]]})).loc["mu", "sd"])


def test_good_draws_pass_the_gate(rng, container):
    assert convergence_problems(container) == []
    assert convergence_problems(with_stats(rng)) == []


def test_the_gate_names_what_failed(rng):
    def codes(made):
        return [code for code, _ in convergence_problems(made)]

    apart = rng.normal(size=(4, 500)) + np.arange(4)[:, None]
    walk = np.cumsum(rng.normal(size=(4, 500)), axis=1)
    assert "rhat" in codes(bridge.from_draws({"mu": apart}))
    assert "few-effective-draws" in codes(bridge.from_draws({"mu": rng.normal(size=(4, 60))}))
    assert codes(with_stats(rng, diverging=1)) == ["divergences"]
    assert codes(with_stats(rng, energy=walk)) == ["low-bfmi"]
    assert codes(bridge.from_draws({"mu": rng.normal(size=(1, 2000))})) == ["unchecked"]


def test_the_gate_says_which_parameter_and_by_how_much(rng):
    shift = np.arange(4)[:, None]
    made = bridge.from_draws({"mu": rng.normal(size=(4, 500)), "tau": rng.normal(size=(4, 500)) + shift})
    message = dict(convergence_problems(made))["rhat"]
    assert "tau 1." in message
    assert "mu" not in message


def test_a_sampled_posterior_reads_and_prints(container):
    note = am.Note("caution", "Read with care.")
    result = SampledPosterior(container, (note,), seed=1)
    assert result.draws("theta").shape == (4, 500, 3)
    assert str(result).endswith("Note: Read with care.")
    with pytest.raises(am.InputError, match="did you mean 'theta'"):
        result.draws("thta")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws=0: must be at least 1"),
        ({"chains": 0, "cores": -1}, "chains=0, cores=-1"),
        ({"target_accept": 90}, "between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused_before_pymc_is_loaded(settings, message):
    with pytest.raises(am.InputError, match=message):
        sample(None, seed=1, **settings)


def test_importing_the_bayesian_part_loads_neither_pymc_nor_arviz():
    program = "import sys, alliance_meta as am; am.bayes.pymc.normal_normal; am.bayes.sample; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "alliance_meta.bayes.sampled.sampling" in loaded
    assert not loaded & {"pymc", "arviz", "pytensor"}
