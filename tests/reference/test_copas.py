"""Copas' model is that of metasens: its likelihood, its path across the grid and its rule, and never a lower peak."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.core.selection.copas import (
    LEVELS,
    MOST_RHO,
    CopasProblem,
    copas,
    fit_copas,
    gamma_range,
    path,
    pretty,
)
from alliance_meta.errors import DependenceWarning, InputError, SecondPeakWarning, TruncationWarning
from tests.tolerances import ITERATIVE, OPTIMISER

# metasens 1.5-2, run by R/make_metasens.R; its searches stop some 1e-6 short.
METASENS = json.loads((Path(__file__).parent / "R" / "metasens.json").read_text())


def stored(name: str) -> dict[str, np.ndarray]:
    return {key: np.array(value) for key, value in METASENS[name].items()}


def effects(y, s) -> am.EffectSizes:
    return am.EffectSizes.from_arrays(np.array(y), np.array(s) ** 2)


def fit(y, s) -> am.models.RandomEffectsResults:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        return am.RandomEffectsModel(effects(y, s)).fit()


def along(one: dict[str, np.ndarray], *, slope: bool = False):
    """Fit the model at metasens' own points."""
    y, s, gamma = one["yi"], one["sei"], np.column_stack([one["gamma0"], one["gamma1"]])
    order = np.argsort(-(gamma @ [1, 1 / s.max()]), kind="stable")
    sign = 1.0 if one["left"] else -1.0
    start, X, rho = [y.mean(), 0.5 * sign, 0.1], np.ones((len(y), 1)), (-MOST_RHO, MOST_RHO)
    if slope:
        start.insert(1, 0.0)
        X = np.column_stack([X, s])
        rho = (0.0, MOST_RHO) if sign > 0 else (-MOST_RHO, 0.0)
    return fit_copas(CopasProblem(y, s, X, gamma[order]), np.array([start]), rho), gamma[order]


@pytest.mark.parametrize("name", METASENS)
def test_along_the_path_mean_tau_and_likelihood_are_metasens_or_more_likely(name):
    one = stored(name)
    found, gamma = along(one)
    assert found.done.all()
    # metasens leaves out what does not depend on the parameters.
    constant = special.log_ndtr(gamma[:, :1] + gamma[:, 1:] / one["sei"]).sum(axis=1)
    loglik = found.loglik + constant + 0.5 * len(one["yi"]) * np.log(2 * np.pi)
    assert (loglik > one["loglik"] - 1e-8).all()
    same = np.abs(loglik - one["loglik"]) < 1e-8
    assert same.all()
    assert found.theta[:, 0] == pytest.approx(one["estimate"], abs=1e-5)
    assert found.theta[:, 2] == pytest.approx(one["tau"], abs=2e-5)
    inside = np.abs(found.theta[:, 1]) < 0.99
    inside[0] = False  # without selection rho is anything
    assert found.theta[inside, 1] == pytest.approx(one["rho"][inside], abs=2e-3)
    # At the bound of rho metasens inverts a curvature that is none; its second derivatives are differences.
    assert found.se[inside] == pytest.approx(one["se"][inside], rel=2e-4)
    sloped, _ = along(one, slope=True)
    assert (sloped.loglik + constant + 0.5 * len(one["yi"]) * np.log(2 * np.pi) > one["loglik_slope"] - 1e-8).all()


@pytest.mark.parametrize("name", METASENS)
def test_the_path_across_a_grid_is_metasens(name):
    one = stored(name)
    ends = gamma_range(one["sei"])
    mine = path(one["contour"], ends, LEVELS)
    theirs = np.column_stack([one["gamma0"], one["gamma1"]])
    assert len(mine) == len(theirs)
    order = [points[np.lexsort(points.T)] for points in (mine, theirs)]
    # In the grid of molloy2014 contours break off where one peak takes over from another, and R joins them otherwise.
    assert order[0] == pytest.approx(order[1], abs=0.15 if name == "molloy2014" else 1e-7)


@pytest.mark.parametrize("name", METASENS)
def test_the_means_over_the_grid_are_metasens_but_for_other_peaks(name):
    one = stored(name)
    found = copas(one["yi"], one["sei"], 1.0 if one["left"] else -1.0, 20)
    assert found.over_grid.done.all()
    apart = np.abs(found.over_grid.theta[:, 0] - one["contour"].ravel())
    assert np.quantile(apart, 0.97) < 2e-5
    assert np.median(apart) < OPTIMISER


@pytest.mark.parametrize("name", ["mcdaniel1994", "crede2010", "molloy2014"])
def test_the_answer_is_metasens(name):
    one = stored(name)
    found = bias.copas(fit(one["yi"], one["sei"]))
    assert found.alternative == ("greater" if one["left"] else "less")
    assert found.estimate == pytest.approx(one["adjusted"][0], abs=1e-5)
    assert found.pval_residual == pytest.approx(one["adjusted"][2], rel=1e-4)
    at = int(np.flatnonzero(found.path["pval_residual"] > 0.1)[0])
    assert found.unpublished == pytest.approx(one["unpublished"][at], abs=2e-3)
    assert found.publprob == pytest.approx(one["publprob"][at], abs=1e-5)
    codes = {note.code for note in found.notes}
    assert ("rho-at-bound" in codes) == (name == "mcdaniel1994")
    assert ("no-selection-needed" in codes) == (name != "mcdaniel1994")
    assert "few-effects" not in codes


def test_where_metasens_stops_at_a_lower_peak_the_higher_one_is_given():
    """In the example of ?copas tau = 0 is more likely than metasens' 0.087, without selection and with little."""
    one = stored("fleiss1993")
    with pytest.warns((TruncationWarning, SecondPeakWarning)):
        plain = am.RandomEffectsModel(effects(one["yi"], one["sei"]), method="ML").fit()
    found = bias.copas(plain)
    assert found.alternative == "less"
    assert (found.tau2, found.estimate) == (0.0, pytest.approx(float(plain.beta[0]), rel=ITERATIVE))
    assert found.path["loglik"][0] == pytest.approx(plain.loglik, rel=ITERATIVE)
    assert found.path["loglik"][0] > one["loglik"][0] - 0.5 * 7 * np.log(2 * np.pi) + 0.002
    # Where it starts from the same grid of means, further down the line it is metasens again.
    assert found.path["estimate"].iloc[-1] == pytest.approx(one["estimate"][-1], abs=2e-4)
    assert "few-effects" in {note.code for note in found.notes}


def test_derivatives_are_those_by_differences():
    one = stored("fleiss1993")
    X = np.column_stack([np.ones(7), one["sei"]])
    problem = CopasProblem(one["yi"], one["sei"], X, np.array([[-0.3, 0.05], [1.0, 0.02]]))
    theta, rows, h = np.array([[-0.1, 0.2, -0.5, 0.1], [0.0, 0.3, 0.7, 0.2]]), np.arange(2), 1e-6
    _, slope, curvature = problem.look(theta, rows)
    for j, step in enumerate(h * np.eye(4)):
        up, down = problem.look(theta + step, rows), problem.look(theta - step, rows)
        assert (up[0] - down[0]) / (2 * h) == pytest.approx(slope[:, j], rel=1e-6, abs=1e-7)
        assert (up[1] - down[1]) / (2 * h) == pytest.approx(curvature[:, j], rel=1e-6, abs=1e-6)


def test_without_selection_it_is_maximum_likelihood():
    one = stored("crede2010")
    plain = am.RandomEffectsModel(effects(one["yi"], one["sei"]), method="ML").fit()
    first = bias.copas(fit(one["yi"], one["sei"]), ngrid=6).path.iloc[0]
    assert first["estimate"] == pytest.approx(float(plain.beta[0]), rel=ITERATIVE)
    assert first["tau2"] == pytest.approx(plain.tau2, rel=1e-6)
    assert (first["publprob"], first["unpublished"]) == pytest.approx((1.0, 0.0), abs=1e-12)


def test_mirrored_effects_give_the_mirror_image():
    one = stored("mcdaniel1994")
    up, down = (bias.copas(fit(side * one["yi"], one["sei"]), ngrid=8) for side in (1, -1))
    assert down.estimate == pytest.approx(-up.estimate, rel=1e-6)
    assert (up.alternative, down.alternative) == ("greater", "less")


@pytest.mark.parametrize(
    ("values", "n", "expected"),
    [
        # R 4.2.2: pretty(c(...), n)
        ([0.079, 0.1487], 10, np.arange(0.075, 0.1501, 0.005)),
        ([0.084, 0.2373], 10, np.arange(0.08, 0.241, 0.02)),
        ([-3.2, 4.1], 5, np.arange(-4, 7, 2)),
        ([0, 97], 10, np.arange(0, 101, 10)),
        ([1.0, 1.0], 10, [1.0]),
    ],
)
def test_contours_are_at_the_values_that_r_finds_pretty(values, n, expected):
    assert pretty(np.array(values, dtype=float), n) == pytest.approx(np.array(expected))


SE = np.linspace(0.05, 0.3, 12)


@pytest.mark.parametrize(
    ("y", "s", "words"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "needs 4 effects"),
        (np.linspace(0, 1, 12), np.full(12, 0.2), "as good as equal"),
    ],
)
def test_what_says_nothing_about_small_studies_is_refused(y, s, words):
    with pytest.raises(InputError, match=words):
        bias.copas(fit(y, s))


EXTREME = {
    "one and the same effect": (np.full(12, 0.2), SE),
    "all on a line": (0.1 + 2.0 * SE, SE),
    "far apart": (np.array([50, -30, *np.linspace(0, 1, 10)]), SE),
    "sizes apart": (np.linspace(-0.2, 0.5, 12), np.geomspace(1e-4, 1e2, 12)),
    "steep": (5.0 * SE**2, np.geomspace(0.02, 0.3, 12)),
}


@pytest.mark.parametrize("name", EXTREME)
def test_whatever_the_effects_every_number_is_one_or_has_a_reason(name):
    one = fit(*EXTREME[name])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", am.errors.ConvergenceWarning)
        found = bias.copas(one, ngrid=8)
    codes = {note.code for note in found.notes}
    assert bool(caught) == ("not-converged" in codes)
    numbers = [found.estimate, found.se, found.ci_lb, found.pval, found.rho, found.tau2, found.unpublished]
    assert all(isinstance(number, am.NotApplicable) or np.isfinite(number) for number in numbers)
    assert isinstance(found.estimate, am.NotApplicable) == ("unexplained" in codes)
    assert np.isfinite(found.grid.to_numpy()).all()


def test_dependent_effects_are_said_to_be_taken_as_independent():
    frame = pd.DataFrame({"study": list("aabbccddeeff"), "r": np.linspace(0.1, 0.6, 12), "n": np.arange(20, 140, 10)})
    with pytest.warns(DependenceWarning):
        dependent = am.RandomEffectsModel(am.escalc(frame)).fit()
    with pytest.warns(DependenceWarning):
        assert "dependent" in " ".join(note.code for note in bias.copas(dependent, ngrid=6).notes)
