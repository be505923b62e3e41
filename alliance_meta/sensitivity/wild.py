"""The cluster wild bootstrap of robust tests."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core import resampling
from alliance_meta.core.resampling import Refits
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
from alliance_meta.results.robust import ONE_CLUSTER, Clustered, RobustResults, clustered, cut, joint_test
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.permutation import CONVENTION, MOST_EXACT, as_extreme, uses_all
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed, p_value

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
        notes=merge_notes(
            [note for note in model.notes if note.code != DEPENDENT], parts.notes, _notes(parts.n, weights, possible)
        ),
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


def _notes(J: int, weights: str, possible: float) -> list[Note]:
    if weights != "rademacher" or 2.0 / possible <= CONVENTION:
        return []
    message = (
        f"Only {brief(possible)} sign vectors exist for {J} clusters: the p-value cannot be below "
        f"{brief(2.0 / possible, 3)}, "
        "whatever the effects. Webb's multipliers take more values."
    )
    return [Note("few-sign-vectors", message)]
