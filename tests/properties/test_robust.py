"""What cluster-robust inference must keep for any data, and what defines it, computed from k x k matrices."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliance_meta import EffectSizes, RandomEffectsModel, sensitivity
from alliance_meta.core.dependent import stacks
from alliance_meta.core.robust.sandwich import adjusted_residuals, htz, sandwich, satterthwaite
from alliance_meta.errors import AllianceMetaWarning

# The subject: what robust inference makes of a model that takes effects as independent.
pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")

TYPES = ("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")
FEW = settings(max_examples=12)
seeds = st.integers(0, 2**32 - 1)


class Case:
    """A weighted regression of dependent effects with every matrix written out."""

    def __init__(self, seed, *, balanced=True, crossed=False):
        rng = np.random.default_rng(seed)
        J, p = int(rng.integers(6, 12)), int(rng.integers(1, 4))
        self.cluster = rng.permutation(np.repeat(np.arange(J), rng.integers(1, 5, J)))
        k = self.cluster.size
        self.X = np.column_stack([np.ones(k), rng.normal(size=(k, p - 1))])
        self.same = self.cluster[:, None] == self.cluster[None, :]
        root = rng.normal(size=(k, k)) * 0.1
        self.M = (root @ root.T) * self.same + np.diag(rng.uniform(0.01, 0.1, k))
        if crossed:
            other = rng.integers(0, 3, k)
            self.M += 0.05 * (other[:, None] == other[None, :])
        self.W = np.linalg.inv(self.M) if balanced else np.diag(rng.uniform(1, 30, k))
        self.balanced = balanced
        self.bread = np.linalg.inv(self.X.T @ self.W @ self.X)
        self.H = self.X @ self.bread @ self.X.T @ self.W
        self.y = rng.normal(size=k)
        self.beta = self.bread @ self.X.T @ self.W @ self.y
        self.rows = [np.flatnonzero(self.cluster == j) for j in range(J)]
        self.blocks = [(rows, self.M[rows[:, :, None], rows[:, None, :]]) for rows in stacks(self.cluster)]
        self.L = rng.normal(size=(p, p))

    def robust(self, type, resid=None):
        resid = self.y - self.X @ self.beta if resid is None else resid
        return sandwich(self.X, resid, self.W @ self.X, self.bread, self.blocks, type=type, balanced=self.balanced)

    def contributions(self, type):
        """The map (J p, k) from effects to the clusters' contributions, column by column."""
        rest = np.eye(len(self.y)) - self.H
        columns = [self.robust(type, resid=column) for column in rest.T]
        return np.stack([(one.scores @ one.root.T).ravel() for one in columns], axis=1)


@FEW
@given(seeds, st.booleans())
def test_without_adjustment_it_is_the_plain_sandwich(seed, balanced):
    case = Case(seed, balanced=balanced)
    resid = case.y - case.X @ case.beta
    meat = sum(
        (case.X.T @ case.W)[:, rows] @ np.outer(resid[rows], resid[rows]) @ (case.W @ case.X)[rows]
        for rows in case.rows
    )
    plain = case.bread @ meat @ case.bread
    J, k, p = len(case.rows), len(resid), case.X.shape[1]
    factors = {"CR0": 1.0, "CR1": J / (J - 1), "CR1p": J / (J - p), "CR1S": J * (k - 1) / ((J - 1) * (k - p))}
    for type, factor in factors.items():
        np.testing.assert_allclose(case.robust(type).vb, factor * plain, rtol=1e-9)


@FEW
@given(seeds, st.booleans(), st.booleans())
def test_cr2_is_unbiased_under_the_working_model(seed, balanced, crossed):
    # A sandwich is a quadratic form of the residuals: its mean is the sum over the columns of a root of M.
    case = Case(seed, balanced=balanced, crossed=crossed and balanced)
    rest = np.eye(len(case.y)) - case.H
    mean = sum(case.robust("CR2", resid=column).vb for column in (rest @ np.linalg.cholesky(case.M)).T)
    half = case.bread @ case.X.T @ case.W
    target = sum(half[:, rows] @ case.M[np.ix_(rows, rows)] @ half[:, rows].T for rows in case.rows)
    np.testing.assert_allclose(mean, target, rtol=1e-8, atol=1e-12 * np.abs(target).max())
    if not crossed or not balanced:
        np.testing.assert_allclose(target, half @ case.M @ half.T, rtol=1e-8, atol=1e-12 * np.abs(target).max())


@FEW
@given(seeds, st.booleans())
def test_cr3_leaves_out_each_cluster_in_turn(seed, balanced):
    case = Case(seed, balanced=balanced)
    if any(np.linalg.matrix_rank(np.delete(case.X, rows, axis=0)) < case.X.shape[1] for rows in case.rows):
        return
    moves = []
    for rows in case.rows:
        kept = np.delete(np.arange(len(case.y)), rows)
        X, W = case.X[kept], case.W[np.ix_(kept, kept)]
        moves.append(np.linalg.solve(X.T @ W @ X, X.T @ W @ case.y[kept]) - case.beta)
    np.testing.assert_allclose(case.robust("CR3").vb, np.array(moves).T @ np.array(moves), rtol=1e-7)


@FEW
@given(seeds, st.booleans(), st.sampled_from(TYPES))
def test_degrees_of_freedom_are_those_of_the_quadratic_form(seed, balanced, type):
    case = Case(seed, balanced=balanced)
    J, p = len(case.rows), case.X.shape[1]
    G = case.contributions(type).reshape(J, p, -1)
    robust = case.robust(type)
    many = np.concatenate([case.L, case.L[::-1], np.eye(p)])
    for contrasts in (case.L, many):
        ours = satterthwaite(robust, contrasts)
        for row, df in zip(contrasts, ours, strict=True):
            g = np.einsum("p,jpk->jk", row, G)
            K = g @ case.M @ g.T
            assert df == pytest.approx(np.trace(K) ** 2 / np.square(K).sum(), rel=1e-8)


@FEW
@given(seeds, st.booleans(), st.sampled_from(TYPES))
def test_the_joint_test_matches_the_total_variance_of_the_sandwich(seed, balanced, type):
    case = Case(seed, balanced=balanced)
    robust, q = case.robust(type), case.X.shape[1]
    G = np.einsum("qp,jpk->jqk", case.L, case.contributions(type).reshape(len(case.rows), q, -1))
    K = np.einsum("iqk,kl,jrl->ijqr", G, case.M, G)
    inverse = np.linalg.inv(np.einsum("jjqr->qr", K))
    turned = np.einsum("qr,ijrs->ijqs", inverse, K)
    total = np.square(np.einsum("ijqq->ij", turned)).sum() + np.einsum("ijqr,ijrq->", turned, turned)
    eta = q * (q + 1) / total
    F, df1, df2, pval = htz(robust, case.beta, case.L)
    assert (df1, df2) == (q, pytest.approx(eta - q + 1, rel=1e-7))
    if df2 > 0:
        estimate = case.L @ case.beta
        Q = estimate @ np.linalg.solve(case.L @ robust.vb @ case.L.T, estimate)
        assert pytest.approx(df2 / eta * Q / q, rel=1e-7) == F
        assert 0 <= pval <= 1
    else:
        assert np.isnan(F)


@FEW
@given(seeds, st.sampled_from(TYPES))
def test_general_weights_contain_the_inverse_ones(seed, type):
    case = Case(seed)
    case.balanced = False
    general = case.robust(type)
    case.balanced = True
    special = case.robust(type)
    np.testing.assert_allclose(general.vb, special.vb, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(satterthwaite(general, case.L), satterthwaite(special, case.L), rtol=1e-7)


@FEW
@given(seeds)
def test_adjusted_residuals_make_the_sandwich_that_adjusts(seed):
    case = Case(seed, balanced=False)
    resid = case.y - case.X @ case.beta
    for type in TYPES:
        adjusted = adjusted_residuals(
            case.X, resid, case.W @ case.X, case.bread, case.blocks, type=type, balanced=False
        )
        np.testing.assert_allclose(case.robust(type).vb, case.robust("CR0", resid=adjusted).vb, rtol=1e-8, atol=1e-14)


def fit(seed, order=None, scale=1.0):
    rng = np.random.default_rng(seed)
    k, J = 24, 9
    study = np.concatenate([np.arange(J), rng.integers(0, J, k - J)])
    y, v, x = rng.normal(0.3, 0.3, k), rng.uniform(0.005, 0.08, k), rng.normal(size=k)
    order = np.arange(k) if order is None else order
    effects = EffectSizes.from_arrays(
        scale * y[order], scale**2 * v[order], mods={"x": x[order]}, study_id=[f"S{i}" for i in study[order]]
    )
    return RandomEffectsModel(effects, mods="x", method="DL").fit()


@FEW
@given(seeds, st.randoms(use_true_random=False), st.sampled_from(TYPES))
def test_the_order_of_rows_and_the_unit_do_not_matter(seed, random, type):
    order = np.array(random.sample(range(24), 24))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        one, two, small = (f.robust(type=type) for f in (fit(seed), fit(seed, order), fit(seed, scale=1e-6)))
        tests = [sensitivity.wild_bootstrap(r, "x", iterations=99, seed=1) for r in (one, two, small)]
    for name in ("se", "ddf", "pval"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-8)
    np.testing.assert_allclose(one.se, 1e6 * small.se, rtol=1e-8)
    np.testing.assert_allclose(one.ddf, small.ddf, rtol=1e-8)
    for other in tests[1:]:
        assert tests[0].pval == other.pval
        np.testing.assert_allclose(tests[0].stats, other.stats, rtol=1e-6)


@FEW
@given(seeds)
def test_with_one_effect_per_cluster_and_no_heterogeneity_it_is_the_heteroscedastic_sandwich(seed):
    rng = np.random.default_rng(seed)
    k = 12
    X, v, y = np.column_stack([np.ones(k), rng.normal(size=k)]), rng.uniform(0.01, 0.1, k), rng.normal(size=k)
    weighted = X / v[:, None]
    bread = np.linalg.inv(X.T @ weighted)
    resid = y - X @ (bread @ (weighted.T @ y))
    leverage = np.einsum("kp,pq,kq->k", X, bread, weighted)
    blocks = [(np.arange(k)[:, None], v[:, None, None])]
    for type, power in (("CR0", 0.0), ("CR2", 1.0), ("CR3", 2.0)):
        half = bread @ (weighted * (resid / (1 - leverage) ** (power / 2))[:, None]).T
        ours = sandwich(X, resid, weighted, bread, blocks, type=type).vb
        np.testing.assert_allclose(ours, half @ half.T, rtol=1e-9)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_ties_of_many_coefficients_are_the_same_by_rows_and_by_coefficients(balanced, size, rng, monkeypatch):
    k, p = 60, 25
    X, v = np.column_stack([np.ones(k), rng.normal(size=(k, p - 1))]), rng.uniform(0.01, 0.1, k)
    weighted = X / v[:, None] if balanced else X * rng.uniform(1, 30, k)[:, None]
    bread = np.linalg.inv(X.T @ weighted)
    blocks = [(rows, v[rows][:, :, None] * np.eye(size)) for rows in stacks(np.arange(k) // size)]
    made = sandwich(X, rng.normal(size=k), weighted, bread, blocks, type="CR2", balanced=balanced)
    found = []
    for few in (True, False):
        monkeypatch.setattr("alliance_meta.core.robust.sandwich._few_rows", lambda _, few=few: few)
        found.append(satterthwaite(made, np.eye(p)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)
    np.testing.assert_allclose(found[0][:1], [htz(made, np.zeros(p), np.eye(p)[:1])[2]], rtol=1e-8)
