"""The test that heterogeneity is the same for every study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.core import resampling
from alliance_meta.core.distributions import chi2_sf
from alliance_meta.core.resampling import Recipe, Refits
from alliance_meta.core.univariate.likelihood_ratio import score_statistic
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, check_cores, check_iterations, check_seed, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, p_value

NULL = "every study has the same tau2"


@dataclass(frozen=True, eq=False, repr=False)
class HeteroscedasticityTest(Result):
    """Score test of one common tau2.

    Attributes
    ----------
    stat : float
        Chi-squared statistic.
    df : int
        k - 1.
    pval : float
        From `iterations` simulated data sets, or from chi-squared where that is None.
    pval_chi2 : float
        From the chi-squared distribution, which is only a rough guide.
    null : str
        The null hypothesis in words.
    method : {"ML", "REML"}
    iterations, seed : int or None
    """

    stat: float
    df: int
    pval: float
    pval_chi2: float
    null: str
    method: str
    iterations: int | None
    seed: int | None
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``stat df pval pval_chi2``."""
        return pd.DataFrame(
            [self._these("stat", "df", "pval", "pval_chi2")], index=pd.Index(["heteroscedasticity"], name="test")
        )

    def _values(self) -> dict[str, Any]:
        return self._these("stat", "df", "pval", "pval_chi2", "null", "method", "iterations", "seed")

    def _content(self) -> Document:
        how = "chi-squared" if self.iterations is None else f"{self.iterations} simulated data sets, seed {self.seed}"
        return self._document(
            f"Score test for unequal heterogeneity ({self.method}); null: {self.null}",
            lines=[f"X2(df = {self.df}) = {fixed(self.stat)}, p {p_value(self.pval)} ({how})"],
        )


def hettest(
    fit: RandomEffectsResults, *, iterations: int | None = None, seed: int | None = None, cores: int = 1
) -> HeteroscedasticityTest:
    r"""Test whether every study's true effect scatters equally around the mean, or some studies' more.

    A random-effects model has one tau2 for all studies. A few studies far out, in a set that otherwise agrees,
    contradict it: the mean, its interval and the prediction interval then describe no study well.

    Parameters
    ----------
    fit : RandomEffectsResults
        Fitted with ``method="ML"`` or ``"REML"``; moderators are allowed.
    iterations : int, optional
        Simulate that many data sets from the fitted model for the p-value. Recommended: the chi-squared
        distribution, used by default, is far off, because each tau2 rests on a single study.
    seed : int, optional
        Needed with `iterations`.
    cores : int
        Threads; they do not change the result.

    Returns
    -------
    HeteroscedasticityTest
        With too few studies for k variances the statistic is `NotApplicable`: (k - p)(k - p + 1) / 2 must
        reach k.

    Raises
    ------
    InputError
        Another estimator than ML or REML, a given tau2, weights of the user, no seed.

    Notes
    -----
    R: ``hettest(fit, boot = FALSE)``, which has no moderators. With u = Py the score of study i's own variance is
    :math:`\tfrac12 (u_i^2 - P_{ii})` and the information :math:`\tfrac12 P \circ P`.
    The simulated p-value is (1 + number at least as large) / (1 + iterations).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(sensitivity.hettest(fit))
    Score test for unequal heterogeneity (REML); null: every study has the same tau2
    X2(df = 15) = 6.7003, p = 0.9654 (chi-squared)
    """
    how = recipe(fit, "hettest")
    _check(fit)
    check_cores(cores)
    if iterations is not None:
        check_iterations(iterations)
        seed = check_seed(seed, f"{iterations} simulated data sets")
    stat = _statistic(fit)
    reference = stat if isinstance(stat, NotApplicable) else chi2_sf(stat, fit.k - 1)
    pval = reference
    if iterations is not None and not isinstance(stat, NotApplicable):
        pval = _simulated(fit, how, stat, iterations, seed or 0, cores)
    return HeteroscedasticityTest(
        stat=stat,
        df=fit.k - 1,
        pval=pval,
        pval_chi2=reference,
        null=NULL,
        method=fit.method,
        iterations=iterations,
        seed=None if iterations is None else seed,
        notes=merge_notes(fit.notes, _notes(fit)),
    )


def _check(fit: RandomEffectsResults) -> None:
    if fit.k > fit.p and fit.method not in ("ML", "REML"):
        raise InputError(f"hettest needs method='ML' or 'REML', not {fit.method!r}; refit")
    if fit.settings.tau2 is not None or fit.fitted.own_weights is not None:
        raise InputError(
            "hettest needs an estimated tau2 and the model's own weights; refit without tau2= and weights="
        )


def _statistic(fit: RandomEffectsResults) -> float:
    df = fit.k - fit.p
    if df < 1 or (fit.method == "REML" and df * (df + 1) // 2 < fit.k):
        return NotApplicable(f"k = {fit.k} effects are too few to test k variances")
    value = float(score_statistic(fit.fitted.model, restricted=fit.method == "REML")[0])
    return value if np.isfinite(value) else NotApplicable("the information about the single variances is singular")


def _simulated(fit: RandomEffectsResults, how: Recipe, stat: float, iterations: int, seed: int, cores: int) -> float:
    v = fit.effects.vi
    mean, spread = how.X @ fit.beta, np.sqrt(v + fit.tau2)

    def task(block: int, start: int, stop: int) -> Refits:
        noise = resampling.stream(seed, block).standard_normal((stop - start, fit.k))
        batch = make_batch(mean + spread * noise, v, how.X)
        tau2 = resampling.refit(how, batch)[2]
        return {"stat": score_statistic(wls(batch, tau2), restricted=fit.method == "REML")}

    found = resampling.in_blocks(task, B=iterations, k=fit.k, cores=cores)["stat"]
    return float((1 + (found >= stat).sum()) / (1 + iterations))


def _notes(fit: RandomEffectsResults) -> list[Note]:
    if fit.k > fit.p and not fit.tau2 > 0:
        return [
            Note("hettest-at-bound", "tau2 is 0, the lowest possible value: the score test is only approximate there.")
        ]
    return []
