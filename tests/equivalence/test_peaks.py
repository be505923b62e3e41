"""The highest likelihood, wherever it lies: no tau2 of a dense grid beats the estimate, alone or in a batch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import alliance_meta as am
from alliance_meta.core.univariate.search import maximise, turning_points
from alliance_meta.core.univariate.wls import exact_traces, make_batch, wls
from tests.tolerances import CLOSED_FORM, ITERATIVE

METHODS = ("REML", "ML")
HIGHER = 1e-8
TWO_PEAKS = pd.DataFrame(
    {
        "study": list("ABCDEFGH"),
        "r": [0.2, 0.14, 0.18, 0.72, 0.27, 0.41, 0.2, 0.6],
        "n": [2314, 282, 470, 19, 170, 72, 1677, 81],
    }
)


def heights(y, v, X, *, restricted):
    """Return a function from tau2 (m,) to log-likelihoods (B, m), from the eigenvalues of what X leaves over."""
    K = linalg.null_space(X.T)
    d, vectors = np.linalg.eigh(np.einsum("kp,bk,kq->bpq", K, v, K))
    squares = np.einsum("bpq,bp->bq", vectors, y @ K) ** 2
    spread = d if restricted else v

    def height(t):
        t = np.broadcast_to(t, (len(y), np.shape(t)[-1]))[:, :, None]
        return -0.5 * (np.log(spread[:, None] + t).sum(axis=2) + (squares[:, None] / (d[:, None] + t)).sum(axis=2))

    return height


def gaps(y, v, X, tau2, *, restricted, points=400):
    """Return by how much the best point of a grid exceeds the likelihood at tau2 (B,), per data set."""
    height = heights(y, v, X, restricted=restricted)
    grid = np.append(0.0, np.geomspace(1e-7, 50.0, points - 1))
    return height(grid).max(axis=1) - height(tau2[:, None])[:, 0]


def random_sets(rng, k, B):
    """Return sets whose n run from 6 to 50,000, as (y, v) of shape (B, k), and two designs."""
    v = 1.0 / (np.exp(rng.uniform(np.log(6.0), np.log(50000.0), (B, k))) - 3.0)
    tau2 = np.where(rng.random((B, 1)) < 0.2, 0.0, 10.0 ** rng.uniform(-4.0, 0.0, (B, 1)))
    y = 0.2 + rng.standard_normal((B, k)) * np.sqrt(v + tau2)
    one = np.ones((k, 1))
    return y, v, [one, np.column_stack([one, rng.standard_normal(k)])]


def worst_gap(rng, sets, *, alone):
    """Fit so many sets in a batch, and every `alone`-th alone; return the worst gap and the number of second peaks."""
    worst, rivals = -np.inf, 0
    for k in range(3, 16):
        y, v, designs = random_sets(rng, k, -(-sets // 13))
        for X in designs:
            for method in METHODS:
                batch, restricted = make_batch(y, v, X), method == "REML"
                together = maximise(batch, restricted=restricted)
                assert together.converged.all()
                worst = max(worst, float(gaps(y, v, X, together.tau2, restricted=restricted).max()))
                rivals += int(np.isfinite(together.rival).sum())
                for b in range(0, len(y), alone):
                    one = maximise(batch.part(slice(b, b + 1)), restricted=restricted)
                    assert one.tau2[0] == pytest.approx(together.tau2[b], rel=ITERATIVE, abs=1e-12)
                    assert np.isnan(one.rival[0]) == np.isnan(together.rival[b])
    return worst, rivals


@pytest.mark.slow
def test_no_tau2_of_a_grid_has_a_higher_likelihood(rng):
    worst, rivals = worst_gap(rng, 1000, alone=3)
    assert worst < HIGHER
    assert rivals > 30


@pytest.mark.parametrize(
    ("method", "tau2", "loglik"), [("REML", 0.0353081652, -0.0503129719), ("ML", 0.02665645217, 0.6570412496)]
)
def test_the_higher_of_two_peaks_is_the_answer(method, tau2, loglik):
    """metafor's logLik at these tau2, held fixed, is the same."""
    fit = am.RandomEffectsModel(am.escalc(TWO_PEAKS), method=method).fit()
    assert fit.tau2 == pytest.approx(tau2, rel=1e-8)
    assert fit.loglik == pytest.approx(loglik, abs=1e-9)
    if method == "REML":
        assert (fit.beta[0], fit.ci_lb[0], fit.ci_ub[0]) == pytest.approx((0.3211, 0.1250, 0.5172), abs=5e-5)
    batch = make_batch(fit.effects.yi, fit.effects.vi, fit.design.X)
    at, height, peak = turning_points(batch, restricted=method == "REML")
    assert peak.tolist() == [True, False, True]
    assert (at[0], at[2]) == pytest.approx((0.0, tau2), rel=1e-8)
    assert height[1] < height[0] < height[2]


@pytest.mark.parametrize("method", METHODS)
def test_every_caller_that_refits_many_finds_the_same_peak(method):
    fit = am.RandomEffectsModel(am.escalc(TWO_PEAKS), method=method).fit()
    y, v = np.tile(fit.effects.yi, (50, 1)), np.tile(fit.effects.vi, (50, 1))
    found = maximise(make_batch(y, v, fit.design.X), restricted=method == "REML")
    np.testing.assert_allclose(found.tau2, fit.tau2, rtol=ITERATIVE)
    np.testing.assert_array_equal(found.rival, 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("moderators", [0, 1])
def test_the_peak_may_lie_below_zero_and_rows_may_be_absent(rng, method, moderators):
    k, B, lowest = 9, 300, -1.5e-5
    y, v, designs = random_sets(rng, k, B)
    X, restricted = designs[moderators], method == "REML"
    present = (rng.random((B, k)) < 0.7).astype(float)
    present[:, :4] = 1.0
    found = maximise(make_batch(y, v, X, present), restricted=restricted, lowest=lowest)
    assert (found.tau2 >= lowest).all()
    grid = lowest + np.append(0.0, np.geomspace(1e-7, 50.0, 399))
    for b in range(B):
        rows = present[b] > 0
        part = y[None, b, rows], v[None, b, rows], X[rows]
        height = heights(*part, restricted=restricted)
        assert height(grid).max() - height(found.tau2[[b]])[0, 0] < HIGHER
        alone = maximise(make_batch(*part), restricted=restricted, lowest=lowest)
        assert alone.tau2[0] == pytest.approx(found.tau2[b], rel=ITERATIVE, abs=1e-12)
    assert (found.tau2 < 0).any()
    assert (found.tau2 > 0).any()


def test_a_second_peak_that_is_born_is_never_missed():
    """A small study moves away; a second peak appears from a point of inflection, and at last is the higher one."""
    effects = am.escalc(TWO_PEAKS)
    shares = np.linspace(0.3, 1.2, 181)
    y = effects.yi.mean() + shares[:, None] * (effects.yi - effects.yi.mean())
    v, X = np.tile(effects.vi, (181, 1)), np.ones((8, 1))
    for method in METHODS:
        found = maximise(make_batch(y, v, X), restricted=method == "REML")
        assert gaps(y, v, X, found.tau2, restricted=method == "REML", points=4000).max() < HIGHER
        several = np.isfinite(found.rival)
        assert 0 < several.sum() < 181
        assert found.at_bound[several].any()
        assert not found.at_bound[several].all()


@pytest.mark.parametrize("method", METHODS)
def test_variances_a_millionfold_apart_and_any_unit(rng, method):
    v = np.array([1e-7, 3e-7, 0.02, 0.05, 0.1, 0.03, 0.08])
    y = 0.3 + rng.standard_normal((200, 7)) * np.sqrt(v + 10.0 ** rng.uniform(-7, -1, (200, 1)))
    X, V, restricted = np.ones((7, 1)), np.tile(v, (200, 1)), method == "REML"
    found = maximise(make_batch(y, V, X), restricted=restricted)
    assert gaps(y, V, X, found.tau2, restricted=restricted).max() < HIGHER
    small = maximise(make_batch(1e-6 * y, 1e-12 * V, X), restricted=restricted)
    np.testing.assert_allclose(1e12 * small.tau2, found.tau2, rtol=ITERATIVE, atol=1e-15)


def test_effects_that_are_all_alike_have_no_spread():
    for k in (2, 3, 12):
        v = np.geomspace(0.001, 0.5, k)
        for y in (np.zeros(k), np.full(k, 0.3)):
            found = maximise(make_batch(np.tile(y, (3, 1)), np.tile(v, (3, 1)), np.ones((k, 1))), restricted=True)
            assert (found.tau2 == 0).all()
            assert found.converged.all()
            assert np.isnan(found.rival).all()


def test_equal_variances_have_the_closed_form(rng):
    y = rng.normal(0.2, 0.3, (50, 6))
    v = np.full((50, 6), 0.02)
    for method, n in (("REML", 5.0), ("ML", 6.0)):
        found = maximise(make_batch(y, v, np.ones((6, 1))), restricted=method == "REML")
        exact = np.maximum(0.0, ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / n - 0.02)
        np.testing.assert_allclose(found.tau2, exact, rtol=CLOSED_FORM, atol=1e-14)
        assert np.isnan(found.rival).all()


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("ratio", [1e2, 1e6, 1e10])
def test_traces_of_weights_far_apart_keep_their_digits(rng, p, ratio):
    k = 7
    w = np.append(ratio, np.exp(rng.uniform(0, np.log(ratio) - 0.1, k - 1)))
    X = np.column_stack([np.ones(k), rng.integers(-5, 6, (k, p - 1)) + np.arange(k)[:, None] % 2])
    M = [[Fraction(float(a)) for a in row] for row in X]
    W = [Fraction(float(a)) for a in w]
    A = [[sum(W[i] * M[i][a] * M[i][b] for i in range(k)) for b in range(p)] for a in range(p)]
    inverse = solve_exactly(A)
    P = [
        [
            (W[i] if i == j else 0)
            - W[i] * W[j] * sum(M[i][a] * inverse[a][b] * M[j][b] for a in range(p) for b in range(p))
            for j in range(k)
        ]
        for i in range(k)
    ]
    first, second = float(sum(P[i][i] for i in range(k))), float(sum(cell**2 for row in P for cell in row))
    batch = make_batch(np.zeros(k), 1.0 / w, X)
    for found in (wls(batch, np.zeros(1)).traces, exact_traces(w[None], batch.Q)):
        assert (found[0][0], found[1][0]) == pytest.approx((first, second), rel=1e-8)


def solve_exactly(A):
    """Return the inverse of a matrix of fractions."""
    p = len(A)
    rows = [[*row, *(Fraction(i == j) for j in range(p))] for i, row in enumerate(A)]
    for j in range(p):
        rows[j] = [cell / rows[j][j] for cell in rows[j]]
        for i in range(p):
            if i != j:
                rows[i] = [a - rows[i][j] * b for a, b in zip(rows[i], rows[j], strict=True)]
    return [row[p:] for row in rows]


@pytest.mark.parametrize("method", METHODS)
def test_interval_and_standard_error_hold_in_any_unit(method):
    y = np.array([0.31, 0.12, 0.85, -0.42, 0.29, 0.71, 0.2])
    usual = np.array([0.01, 0.02, 0.005, 0.03, 0.02, 0.04, 0.01])
    for v in (usual, np.append(2e-8, usual[1:])):
        here = am.RandomEffectsModel(am.EffectSizes.from_arrays(y, v), method=method).fit()
        there = am.RandomEffectsModel(am.EffectSizes.from_arrays(1e-6 * y, 1e-12 * v), method=method).fit()
        for name in ("tau2", "se_tau2"):
            assert 1e12 * getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-8)
        one, other = here.confint_tau2(kind="PL"), there.confint_tau2(kind="PL")
        assert (1e12 * other.lb, 1e12 * other.ub) == pytest.approx((one.lb, one.ub), rel=1e-8)


def test_a_root_beside_the_far_end_of_a_part_is_found_in_a_batch():
    """Newton's step from one end of a part once ended at the other, again and again; seen in the 20,000 sets."""
    v = [4.2223501596706289e-03, 6.5318462481248041e-05, 9.4119090934011475e-03, 1.5430307142493860e-01]
    v += [5.9974959328342663e-04, 3.6773784919685924e-04, 5.1794270586159166e-02, 3.2933080324279614e-03]
    v += [4.1326255970997615e-02, 7.5124913454205676e-03, 2.7154388879596158e-02]
    y = [0.14483760204238427, 0.21037866424517035, 0.1577744133378233, 0.01976625144984101, 0.2624739942846005]
    y += [0.17344458157530834, -0.0811390181266804, 0.30484601675309747, 0.15351238648591198, 0.13394681099358252]
    y += [-0.08588457699056135]
    found = maximise(make_batch(np.tile(y, (300, 1)), np.tile(v, (300, 1)), np.ones((11, 1))), restricted=False)
    assert found.converged.all()
    np.testing.assert_allclose(found.tau2, 0.0007600608700961, rtol=1e-9)
