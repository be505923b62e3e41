"""Permutation tests of a fitted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core import resampling
from alliance_meta.core.resampling import Recipe, Refits
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, check_cores, check_iterations, check_seed, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.results.random_effects import RandomEffectsResults
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
