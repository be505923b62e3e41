"""Permutation tests of a fitted model, and the cluster wild bootstrap of robust tests."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core import resampling
from alliance_meta.core.resampling import Recipe, Refits
from alliance_meta.core.robust.sandwich import (
    DiagonalWorking,
    Imposed,
    Sandwich,
    draw,
    estimable,
    impose,
    statistics,
    wald,
)
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import DEPENDENT
from alliance_meta.errors import InputError
from alliance_meta.notes import (
    NotApplicable,
    Note,
    RobustType,
    WildWeights,
    check_cores,
    check_iterations,
    check_option,
    check_seed,
    merge_notes,
)
from alliance_meta.result import Result
from alliance_meta.results.coefficients import WaldTested, contrast
from alliance_meta.results.fit import columns_of
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import ONE_CLUSTER, Clustered, RobustResults, clustered, cut, joint_test
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, fixed, p_value

SIGNS, ROWS = "sign flips", "row permutations"
# More arrangements than this are never listed one by one.
MOST_EXACT = 5_000_000
# Statistics that differ by less are tied: an arrangement that repeats the data must count as such.
TIE = 1e-8
# The smallest p-value that a reader hopes for.
CONVENTION = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class PermutationTest(Result):
    """P-values from rearranged data.

    Attributes
    ----------
    names : tuple of str
        Coefficients.
    estimate, stat : ndarray of shape (p,)
        Coefficients and their z or t statistics, as fitted.
    pval : ndarray of shape (p,)
        Share of the arrangements whose statistic is at least as far from 0.
    pval_fit : ndarray of shape (p,)
        P-values of the fit itself, to compare with.
    QM, QMp, QMp_fit : float
        The omnibus test: statistic, permutation p-value, the fit's p-value.
    scheme : {"sign flips", "row permutations"}
    exact : bool
        Whether every arrangement was used.
    iterations : int
        Arrangements used, the data's own included.
    possible : float
        Arrangements that differ: a whole number up to 1e15, approximate above.
    seed : int or None
    stats : ndarray of shape (B, p)
        The statistics under rearrangement. Exact sign flips hold one of each pair of mirror images.
    QMs : ndarray of shape (B,)
    provenance : Provenance
        Where the effects came from; plots label synthetic data by it.
    """

    names: tuple[str, ...]
    estimate: Array
    stat: Array
    pval: Array
    pval_fit: Array
    QM: float
    QMp: float
    QMp_fit: float
    scheme: str
    exact: bool
    iterations: int
    possible: float
    seed: int | None
    stats: Array
    QMs: Array
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def mc_se(self) -> Array:
        """Simulation error of each p-value, (p,); 0 for an exact test."""
        if self.exact:
            return np.zeros(len(self.names))
        return np.sqrt(self.pval * (1.0 - self.pval) / self.iterations)

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient: ``estimate stat pval mc_se pval_fit``."""
        columns = self._these("estimate", "stat", "pval", "mc_se", "pval_fit")
        return pd.DataFrame(columns, index=pd.Index(self.names, name="term"))

    def _values(self) -> dict[str, Any]:
        return {
            "coefficients": {"term": list(self.names), **columns_of(self.tidy())},
            **self._these("QM", "QMp", "QMp_fit", "scheme", "exact", "iterations", "possible", "seed"),
        }

    def _content(self) -> Document:
        how = f"exact, all {self.possible}" if self.exact else f"{self.iterations} at random, seed {self.seed}"
        kinds: dict[str, Kind] = {"estimate": 4, "stat": 4, "pval": "p", "pval_fit": "p"}
        omnibus = f"Omnibus: QM = {fixed(self.QM)}, p {p_value(self.QMp)} (of the fit: p {p_value(self.QMp_fit)})"
        return self._document(
            f"Permutation test by {self.scheme} ({how})",
            table_of(self.tidy(), kinds, heads={"pval_fit": "pval of the fit"}),
            [omnibus],
        )


def permutation_test(
    fit: RandomEffectsResults,
    *,
    iterations: int = 1000,
    seed: int | None = None,
    exact: bool | Literal["auto"] = "auto",
    cores: int = 1,
) -> PermutationTest:
    r"""Test a mean effect, or moderators, by rearranging the data instead of trusting a t or normal distribution.

    If no moderator mattered, it would not matter which study had which moderator values: the statistic of the
    data is compared with those of rearranged data, each refitted with the model's own settings. Without
    moderators, effects that scatter symmetrically around 0 could as well have had the other sign.

    Parameters
    ----------
    fit : RandomEffectsResults
    iterations : int
        Random arrangements, the data's own among them; with fewer possible ones, all are used.
    seed : int, optional
        Needed where arrangements are random: the same seed gives the same result.
    exact : {"auto", True, False}
        True uses every arrangement that differs, however many up to five million.
    cores : int
        Threads; they do not change the result.

    Returns
    -------
    PermutationTest

    Raises
    ------
    InputError
        No seed for a random test, too many arrangements for an exact one, an estimator that cannot be refitted.

    Notes
    -----
    R: ``permutest(fit, exact = TRUE)``. Signs are flipped (2^k patterns) when there is only an intercept (Follmann
    & Proschan 1999, doi:10.1111/j.0006-341x.1999.00732.x), else rows of the design are permuted (Higgins & Thompson
    2004, doi:10.1002/sim.1752). The two-sided p-value is the share of arrangements with :math:`|t^*| \ge |t|`, for
    the omnibus test with :math:`Q_M^* \ge Q_M`. A single study gives p = 1.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, sensitivity
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.2, 0.5, 0.4, 0.3, 0.2], [0.002] * 7)
    >>> result = sensitivity.permutation_test(RandomEffectsModel(es, method="DL", test="t").fit())
    >>> result.exact, result.possible, float(result.pval[0])
    (True, 128, 0.015625)
    """
    how = recipe(fit, "permutation_test")
    check_iterations(iterations)
    check_cores(cores)
    signs = fit.p == 1 and fit.design.has_intercept
    group = np.unique(how.X, axis=0, return_inverse=True)[1].ravel()
    possible = resampling.number_of_sign_patterns(fit.k) if signs else resampling.number_of_arrangements(group)
    used = uses_all(exact, possible, iterations, f"{brief(possible, 3)} arrangements, more than {MOST_EXACT:,}")
    chosen = None if used else check_seed(seed, f"{iterations} random arrangements")
    data = _Data(fit.effects.yi, fit.effects.vi, fit.fitted.own_weights, how)
    task, B = _task(data, signs, None if used else (iterations, chosen or 0), possible, group)
    found = resampling.in_blocks(task, B=B, k=fit.k, cores=cores)
    observed = data.refit(data.y[None], data.v, data.weights)
    if not used:
        # The data are one of the arrangements: no p-value is 0.
        found["stat"][0], found["QM"][0] = observed["stat"][0], observed["QM"][0]
    return _result(
        fit, found, observed, signs=signs, iterations=int(possible) if used else B, possible=possible, seed=chosen
    )


@dataclass(frozen=True, eq=False)
class _Data:
    y: Array
    v: Array
    weights: Array | None
    how: Recipe

    def refit(self, y: Array, v: Array, weights: Array | None) -> Refits:
        return resampling.refit_tests(self.how, make_batch(y, v, self.how.X), weights=weights)

    def flipped(self, signs: Array) -> Refits:
        return self.refit(signs * self.y, self.v, self.weights)

    def reordered(self, order: AnyArray) -> Refits:
        weights = None if self.weights is None else self.weights[order]
        return self.refit(self.y[order], self.v[order], weights)


def _task(
    data: _Data, signs: bool, random: tuple[int, int] | None, possible: float, group: AnyArray
) -> tuple[Callable[[int, int, int], Refits], int]:
    """Return what fits a block of arrangements, and their number."""
    k = len(data.y)
    if random is not None:
        B, seed = random
        if signs:
            return lambda n, a, b: data.flipped(resampling.random_signs(resampling.stream(seed, n), b - a, k)), B
        return lambda n, a, b: data.reordered(resampling.random_orders(resampling.stream(seed, n), b - a, k)), B
    if signs:
        # A pattern and its mirror image have the same |t|: half of them are enough.
        return lambda n, a, b: data.flipped(resampling.sign_patterns(a, b, k)), int(possible) // 2
    orders = resampling.arrangements(group)
    return lambda n, a, b: data.reordered(orders[a:b]), len(orders)


def _result(
    fit: RandomEffectsResults,
    found: Refits,
    observed: Refits,
    *,
    signs: bool,
    iterations: int,
    possible: float,
    seed: int | None,
) -> PermutationTest:
    stat, QM = observed["stat"][0], float(observed["QM"][0])
    at_least = as_extreme(np.abs(found["stat"]), np.abs(stat))
    notes = merge_notes(fit.notes, _notes(signs, possible))
    return PermutationTest(
        names=fit.names,
        estimate=fit.beta,
        stat=stat,
        pval=at_least.mean(axis=0),
        pval_fit=fit.pval,
        QM=QM if np.isfinite(QM) else NotApplicable("the coefficients have no variance"),
        QMp=float(as_extreme(found["QM"], np.array(QM)).mean()),
        QMp_fit=fit.QMp,
        scheme=SIGNS if signs else ROWS,
        exact=seed is None,
        iterations=iterations,
        possible=possible,
        seed=seed,
        stats=found["stat"],
        QMs=found["QM"],
        provenance=fit.effects.provenance,
        notes=notes,
    )


def uses_all(exact: bool | Literal["auto"], possible: float, most: int, needed: str) -> bool:
    """Return whether all rearrangements are used: if that is asked for, or there are not more than `most`."""
    if exact not in (True, False, "auto"):
        raise InputError(f"exact={exact!r} is not one of 'auto', True, False")
    used = possible <= most if exact == "auto" else bool(exact)
    if used and possible > MOST_EXACT:
        raise InputError(f"an exact test needs {needed}; give iterations and a seed")
    return used


def as_extreme(values: Array, observed: Array) -> Mask:
    """Return which statistics are at least as large as the observed one, ties included."""
    return values >= _bar(observed)


def _bar(observed: Array) -> Array:
    """Return what a statistic must reach to count as at least as large."""
    finite = np.isfinite(observed)
    return np.where(
        finite, np.where(finite, observed, 0.0) - TIE * np.maximum(1.0, np.where(finite, observed, 1.0)), np.inf
    )


def _notes(signs: bool, possible: float) -> list[Note]:
    smallest = (2.0 if signs else 1.0) / possible
    if smallest <= CONVENTION:
        return []
    what = "sign patterns" if signs else "arrangements"
    message = f"Only {possible} {what} exist: the p-value cannot be below {brief(smallest, 3)}, whatever the effects."
    return [Note("few-arrangements", message)]


WEIGHT_NAMES = {"rademacher": "Rademacher (-1 or 1)", "webb": "Webb (six values)", "mammen": "Mammen (two, skewed)"}


@dataclass(frozen=True, eq=False, repr=False)
class WildBootstrap(Result):
    """The p-value of a robust test from data in which the null hypothesis was made true.

    Attributes
    ----------
    null : str
        The null hypothesis in words.
    stat : float
        Robust Wald statistic over the number of combinations tested (t squared for one).
    df1 : int
        Number of combinations tested.
    pval : float
        Share of the replicates whose statistic is at least as large; for random ones the data count as one more.
    pval_htz : float
        P-value of the approximate Hotelling test (of the Satterthwaite t test for one), to compare with.
    cluster : str
        The column that made the clusters; ``"given cluster"`` for values.
    n_clusters : int
    type : str
        Adjustment of the robust covariance in the statistic.
    adjust : str
        Adjustment of the residuals that are multiplied.
    weights : {"rademacher", "webb", "mammen"}
    exact : bool
        Whether every sign vector was used.
    iterations : int
        Replicates; for an exact test the sign vectors, mirror images counted as two.
    possible : float
        Sign vectors that differ; infinite for multipliers other than signs.
    seed : int or None
    stats : ndarray of shape (B,)
        The statistics of the replicates. Exact ones hold one of each pair of mirror images.
    provenance : Provenance
        Where the effects came from; plots label synthetic data by it.
    """

    null: str
    stat: float
    df1: int
    pval: float
    pval_htz: float
    cluster: str
    n_clusters: int
    type: str
    adjust: str
    weights: str
    exact: bool
    iterations: int
    possible: float
    seed: int | None
    stats: Array
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def mc_se(self) -> float:
        """Simulation error of the p-value; 0 for an exact test."""
        return 0.0 if self.exact else float(np.sqrt(self.pval * (1.0 - self.pval) / self.iterations))

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``stat df1 pval mc_se pval_htz``."""
        return pd.DataFrame(
            [self._these("stat", "df1", "pval", "mc_se", "pval_htz")], index=pd.Index([self.null], name="null")
        )

    def _values(self) -> dict[str, Any]:
        names = ("null", "stat", "df1", "pval", "mc_se", "pval_htz", "cluster", "n_clusters", "type", "adjust")
        more = ("weights", "exact", "iterations", "possible", "seed")
        return self._these(*names, *more)

    def _content(self) -> Document:
        how = f"exact, all {self.possible}" if self.exact else f"{self.iterations} replicates, seed {self.seed}"
        lines = [
            f"Null: {self.null}",
            f"Clusters: {self.cluster} ({self.n_clusters}); multipliers: {WEIGHT_NAMES[self.weights]}",
            f"Covariance: {self.type}; residuals: {'as they are' if self.adjust == 'CR0' else self.adjust}",
            f"F(df1 = {self.df1}) = {fixed(self.stat)}, p {p_value(self.pval)} (without bootstrap: p "
            f"{p_value(self.pval_htz)})",
        ]
        return self._document(f"Cluster wild bootstrap ({how})", lines=lines)


def wild_bootstrap(
    fit: WaldTested,
    L: str | Sequence[str] | Any = None,
    *,
    cluster: Any = None,
    type: RobustType | None = None,
    iterations: int = 1999,
    weights: WildWeights = "rademacher",
    adjust: RobustType = "CR0",
    seed: int | None = None,
    exact: bool | Literal["auto"] = "auto",
    cores: int = 1,
) -> WildBootstrap:
    r"""Test coefficients with few clusters by making data in which they are zero, cluster by cluster.

    With few studies the distribution of a robust test is uncertain, the more so for several coefficients together.
    Here the model is fitted with the null hypothesis imposed, and the residuals of each cluster are multiplied by
    one random number, so that effects of a cluster stay as dependent as they are. The test statistic of the data is
    compared with those of many such data sets.

    Parameters
    ----------
    fit : RandomEffectsResults, MultilevelResults, RVEResults, or the ``robust()`` results of a model
    L : str, sequence of str, or array-like of shape (m, p), optional
        What is zero under the null hypothesis, as in `RandomEffectsResults.test`; by default all moderators
        together, or the mean effect of a model without any.
    cluster : str or array-like of shape (k,), optional
        As in `RandomEffectsResults.robust`; by default that of the results, else ``"study_id"``.
    type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}, optional
        Adjustment of the covariance in the statistic; by default that of robust results, else CR2.
    iterations : int
        Random replicates; with fewer possible sign vectors, all are used.
    weights : {"rademacher", "webb", "mammen"}
        Multipliers: signs; Webb's six values, for fewer than a dozen clusters, where sign vectors are few;
        Mammen's two skewed ones.
    adjust : {"CR0", "CR2", "CR3", "CR1", "CR1p", "CR1S"}
        Adjustment of the residuals of the restricted model; CR0 leaves them as they are.
    seed : int, optional
        Needed where replicates are random: the same seed gives the same result.
    exact : {"auto", True, False}
        True uses every sign vector, however many up to five million.
    cores : int
        Threads; they do not change the result.

    Returns
    -------
    WildBootstrap
        With a singular robust covariance, or a coefficient known from one cluster alone, the statistic and the
        p-value are `NotApplicable`.

    Raises
    ------
    InputError
        No seed for a random test, too many sign vectors for an exact one, fewer than two clusters.

    Notes
    -----
    R: ``wildmeta::Wald_test_cwb(fit, constraints = constrain_zero(2:3), R = 1999)``. Joshi, Pustejovsky & Beretvas
    (2022, doi:10.1002/jrsm.1554); Cameron, Gelbach & Miller (2008, doi:10.1162/rest.90.3.414); multipliers of Webb
    (2014, Queen's Economics Department working paper 1315) and Mammen (1993, doi:10.1214/aos/1176349025).

    Heterogeneity and weights are not estimated again, neither under the null hypothesis nor in the replicates:
    the working covariance of `fit` is held fixed, as a robust test does not rest on its being right. wildmeta
    estimates both again in every replicate, so that its p-values are not exactly these.
    With random multipliers the p-value is (1 + number at least as large) / (1 + iterations).

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, sensitivity
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010")), mods="criterion").fit()
    >>> test = sensitivity.wild_bootstrap(fit, "criterion", seed=1)
    >>> round(test.stat, 3), test.n_clusters, test.exact
    (3.22, 68, False)
    """
    if type is None:
        type = fit.type if isinstance(fit, RobustResults) else "CR2"
    check_option("type", type, RobustType)
    check_option("adjust", adjust, RobustType)
    check_option("weights", weights, WildWeights)
    check_iterations(iterations)
    check_cores(cores)
    model, parts = _source(fit, cluster)
    parts.check(adjust)
    possible = resampling.number_of_sign_patterns(parts.n) if weights == "rademacher" else float("inf")
    many = f"{brief(possible, 3)} sign vectors, more than {MOST_EXACT:,}" if possible < np.inf else "Rademacher weights"
    used = uses_all(exact, possible, iterations + 1, many)
    chosen = None if used else check_seed(seed, f"{iterations} random replicates")
    matrix, null = _tested(model, L)
    sandwich = parts.sandwich(type)
    imposed = impose(parts.model, parts.y, matrix @ parts.change, type=type, adjust=adjust)
    found = _replicates(imposed, parts.n, int(possible) // 2 if used else iterations, weights, chosen, cores)
    stat, pval = _compared(model.beta, sandwich, matrix, found, exact=used)
    kept = [note for note in model.notes if note.code != DEPENDENT]
    return WildBootstrap(
        null=null,
        stat=stat,
        df1=len(matrix),
        pval=pval,
        pval_htz=joint_test(sandwich, model.beta, matrix, null).pval,
        cluster=parts.name,
        n_clusters=parts.n,
        type=type,
        adjust=adjust,
        weights=weights,
        exact=used,
        iterations=int(possible) if used else iterations,
        possible=possible,
        seed=chosen,
        stats=found,
        provenance=model.effects.provenance,
        notes=merge_notes(kept, parts.notes, _sign_notes(parts.n, weights, possible)),
    )


def _source(fit: WaldTested, cluster: Any) -> tuple[WaldTested, Clustered]:
    """Return the model-based fit and its clusters."""
    if isinstance(fit, RobustResults):
        model: WaldTested = fit.fit
        return model, fit._clusters if cluster is None else clustered(model, cluster)
    if isinstance(fit, RVEResults):
        own = DiagonalWorking(fit.fitted.working.variance, fit.fitted.working.weights)
        groups = fit.clusters if cluster is None else read_clusters(fit.effects, cluster)
        return fit, cut(fit, own, groups)
    if not hasattr(fit, "working"):
        raise InputError(
            f"wild_bootstrap needs a fitted model that robust() knows, not {builtins.type(fit).__name__}; "
            "call .fit() first"
        )
    return fit, clustered(fit, "study_id" if cluster is None else cluster)


def _tested(model: WaldTested, L: Any) -> tuple[Array, str]:
    if L is None:
        return np.eye(model.design.p)[list(model.design.tested)], model.omnibus.null
    return contrast(L, names=model.design.names, terms=model.design.terms)


def _replicates(imposed: Imposed, J: int, B: int, weights: str, seed: int | None, cores: int) -> Array:
    """Return the statistics of B replicates, or of the B sign vectors without their mirror images if no seed."""

    def task(block: int, start: int, stop: int) -> Refits:
        if seed is None:
            return {"stat": statistics(imposed, resampling.sign_patterns(start, stop, J))}
        return {"stat": statistics(imposed, draw(resampling.stream(seed, block), stop - start, J, weights))}

    return resampling.in_blocks(task, B=B, k=J, cores=cores)["stat"]


def _compared(beta: Array, sandwich: Sandwich, L: Array, found: Array, *, exact: bool) -> tuple[float, float]:
    """Return the statistic of the data and its p-value, or why there is none."""
    if not estimable(sandwich, L):
        gone = NotApplicable(ONE_CLUSTER)
        return gone, gone
    stat = float(wald((L @ beta)[None], (L @ sandwich.vb @ L.T)[None])[0])
    if not np.isfinite(stat):
        gone = NotApplicable("the robust covariance of what is tested is singular")
        return gone, gone
    at_least = int(as_extreme(found, np.array(stat)).sum())
    return stat, at_least / len(found) if exact else (1 + at_least) / (1 + len(found))


def _sign_notes(J: int, weights: str, possible: float) -> list[Note]:
    if weights != "rademacher" or 2.0 / possible <= CONVENTION:
        return []
    message = (
        f"Only {brief(possible)} sign vectors exist for {J} clusters: the p-value cannot be below "
        f"{brief(2.0 / possible, 3)}, "
        "whatever the effects. Webb's multipliers take more values."
    )
    return [Note("few-sign-vectors", message)]
