"""Tests of funnel plot asymmetry: regression on the size of studies, and rank correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from alliance_meta.bias.given import OfStudies, given
from alliance_meta.bias.small_study.refitting import (
    NO_ERROR,
    PREDICTORS,
    Model,
    Predictor,
    about,
    design_of,
    few_notes,
    no_residual,
    one_per_study,
    predictor_values,
    size_notes,
    why_no_slope,
    with_predictor,
)
from alliance_meta.core.bias.small_study import MOST_EXACT, kendall, standardised
from alliance_meta.effects.studies import STUDY
from alliance_meta.errors import InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, fixed_interval, format_level, p_value, plain_df

Regression = Literal["che", "rma", "lm"]
MODELS = {
    "che": "correlated and hierarchical effects, CR2",
    "rma": "mixed-effects meta-regression",
    "lm": "weighted regression with multiplicative dispersion",
}


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class RegressionTest(OfStudies):
    """Regression test for small-study effects.

    Attributes
    ----------
    stat, ddf, pval : float
        Test that the slope is 0: t, or z where `ddf` is infinite.
    slope, slope_se : float
        How much larger effects are for each unit of the predictor.
    limit_estimate : float
        The mean of a study of infinite size; `NotApplicable` for a predictor that grows with the sample, and with
        moderators.
    limit_ci : tuple of float
        Its confidence limits.
    model : {"che", "rma", "lm"}
    predictor : str
    level : float
    measure : str
    fit : RandomEffectsResults or RobustResults or None
        The regression itself; None where there is none.
    """

    stat: float
    ddf: float
    pval: float
    slope: float
    slope_se: float
    limit_estimate: float
    limit_ci: tuple[float, float]
    model: str
    predictor: str
    level: float
    measure: str
    fit: Model | None

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``slope se stat ddf pval limit limit_lb limit_ub``, on the analysis scale."""
        values = (self.slope, self.slope_se, self.stat, self.ddf, self.pval, self.limit_estimate, *self.limit_ci)
        names = ("slope", "se", "stat", "ddf", "pval", "limit", "limit_lb", "limit_ub")
        index = pd.Index([self.predictor], name="predictor")
        return frame_of([dict(zip(names, values, strict=True))], index)

    def _values(self) -> dict[str, Any]:
        names = ("stat", "ddf", "pval", "slope", "slope_se", "limit_estimate", "limit_ci", "model", "predictor")
        return self._these(*names, "k", "studies", "level", "measure")

    def _content(self) -> Document:
        title = f"Regression test for small-study effects ({self._many}; predictor: {PREDICTORS[self.predictor]})"
        if isinstance(self.stat, NotApplicable):
            return self._document(title, lines=[f"Not applicable: {self.stat.reason}"])
        test = "z" if math.isinf(self.ddf) else f"t({plain_df(self.ddf)})"
        lines = [
            f"Model: {MODELS[self.model]}",
            f"Slope {fixed(self.slope)}, {test} = {fixed(self.stat)}, p {p_value(self.pval)}",
        ]
        if isinstance(self.limit_estimate, NotApplicable):
            lines.append(f"Limit estimate: not applicable, {self.limit_estimate.reason}")
        else:
            text = f"{fixed(self.limit_estimate)} {fixed_interval(*self.limit_ci)} ({format_level(self.level)})"
            lines.append(f"Limit estimate (no sampling error): {text}")
        return self._document(title, lines=lines)

    def r_code(self) -> str:
        """Return the R code that fits the regression; its last coefficient is the one tested."""
        if self.fit is None:
            raise InputError(f"there is no regression to write in R: {getattr(self.stat, 'reason', '')}")
        return self.fit.r_code()


def regtest(
    fit: Any,
    *,
    predictor: Predictor = "sei",
    model: Regression | None = None,
    cluster: Any = STUDY,
    level: float | None = None,
) -> RegressionTest:
    r"""Test whether small studies find other effects than large ones (Egger's test and its relatives).

    In a literature without bias the size of a study says nothing about its effect. Where small studies without a
    finding stay in the drawer, the small ones that are left show larger effects. This regresses the effects on how
    imprecise they are and tests the slope. A slope has other causes, too: small studies may treat other patients, or
    differently. The intercept is what a study of infinite size is expected to find.

    Parameters
    ----------
    fit : a fitted model
        Its effects and its moderators are used. Univariate models also give estimator, inference and weights, CHE
        its sampling covariance.
    predictor : {"sei", "vi", "ni", "ninv", "sqrtni", "sqrtninv"}
        What stands for the size of a study, metafor's names; ``"inv_sqrt_n"`` is another spelling of ``"sqrtninv"``.
        Take that one wherever the standard error holds more than the sample size: raw, partial, converted, corrected
        and averaged correlations. A note says whether it does.
    model : {"che", "rma", "lm"}, optional
        ``che``: correlated and hierarchical effects with cluster-robust tests (CR2), the default where some study
        has several effects. ``rma``: meta-regression, the default elsewhere. ``lm``: Egger's own, weighted least
        squares with a dispersion that is estimated.
    cluster : str
        Column of the studies.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    RegressionTest
        Numbers are `NotApplicable`, with the reason, where no slope can be told: too few effects, or all of one
        precision.

    Raises
    ------
    InputError
        A predictor of sample sizes that are not there; ``che`` with a single study.

    Warns
    -----
    DependenceWarning
        ``rma`` or ``lm`` although some study has several effects.

    Notes
    -----
    .. math:: y_{ij} = \beta_0 + \beta_1 s_{ij} + u_j + w_{ij} + e_{ij}

    R: ``regtest(fit, predictor = "sei", model = "rma")``; for ``che``, `r_code` of the result. Egger et al. (1997,
    doi:10.1136/bmj.315.7109.629); Sterne & Egger (2005); for dependent effects Rodgers & Pustejovsky (2021,
    doi:10.1037/met0000300), whose simulations also show that ignoring dependence rejects far too often; 1 / sqrt(n):
    Pustejovsky & Rodgers (2019, doi:10.1002/jrsm.1332).

    Examples
    --------
    >>> from alliance_meta import bias, che, escalc, load_dataset
    >>> found = bias.regtest(che(escalc(load_dataset("crede2010"))), predictor="sqrtninv")
    >>> found.model, round(found.stat, 3), round(found.ddf, 1), round(found.limit_estimate, 3)
    ('che', 0.185, 23.2, 0.443)
    """
    source = given(fit, "regtest", cluster=cluster, level=level, moderators=True)
    check_option("predictor", predictor, Predictor)
    name = "sqrtninv" if predictor == "inv_sqrt_n" else predictor
    used = model or ("che" if source.dependent else "rma")
    check_option("model", used, Regression)
    values = predictor_values(source, name)
    why = why_no_slope(source, values)
    if why is not None:
        return _no_test(NotApplicable(why), used, name, about(source), (*source.effects.notes, *few_notes(source)))
    found, term = with_predictor(source, values, name, used, cluster)
    if term not in found.names:
        gone = NotApplicable(f"the moderators of the fit already tell the {PREDICTORS[name]}")
        return _no_test(gone, used, name, about(source), found.notes)
    at = found.names.index(term)
    numbers: dict[str, Any] = {one: float(getattr(found, one)[at]) for one in ("stat", "ddf", "pval")}
    numbers["slope_se"] = float(found.se[at])
    exact = no_residual(found)
    if exact or numbers["slope_se"] != numbers["slope_se"]:
        numbers = dict.fromkeys(numbers, NotApplicable(NO_ERROR if exact else "one study alone tells the slope"))
    limit, ci = _limit(source.fit, found, name, exact=exact)
    return RegressionTest(
        **numbers,
        slope=float(found.beta[at]),
        limit_estimate=limit,
        limit_ci=ci,
        model=used,
        predictor=name,
        **about(source),
        fit=found,
        notes=merge_notes(found.notes, size_notes(source, name), few_notes(source)),
    )


def _limit(fit: Any, found: Model, predictor: str, *, exact: bool) -> tuple[float, tuple[float, float]]:
    """Return the intercept and its limits, where it is the mean of a study of infinite size."""
    design = design_of(fit)
    why = None
    if predictor in ("ni", "sqrtni"):
        why = f"the {PREDICTORS[predictor]} grows without limit"
    elif design is not None and design.formula != "1":
        why = "it differs with the moderators; see .fit.predict"
    if why is not None:
        gone = NotApplicable(why)
        return gone, (gone, gone)
    if exact or found.se[0] != found.se[0]:
        gone = NotApplicable(NO_ERROR)
        return float(found.beta[0]), (gone, gone)
    return float(found.beta[0]), (float(found.ci_lb[0]), float(found.ci_ub[0]))


def _no_test(
    gone: NotApplicable, model: str, predictor: str, facts: dict[str, Any], notes: tuple[Note, ...]
) -> RegressionTest:
    return RegressionTest(
        stat=gone,
        ddf=gone,
        pval=gone,
        slope=gone,
        slope_se=gone,
        limit_estimate=gone,
        limit_ci=(gone, gone),
        model=model,
        predictor=predictor,
        **facts,
        fit=None,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class RankTest(Result):
    """Rank correlation test for funnel plot asymmetry.

    Attributes
    ----------
    tau : float
        Kendall's rank correlation of the standardised effects with their variances.
    pval : float
        Two-sided.
    exact : bool
        Whether the p-value is exact; with ties, or very many effects, it is the normal one.
    k : int
        Effects that were ranked: one per study.
    base : RandomEffectsResults
        The fit of these effects.
    """

    tau: float
    pval: float
    exact: bool
    k: int
    base: RandomEffectsResults
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``tau pval exact k``."""
        index = pd.Index(["rank correlation"], name="test")
        return frame_of([self._these("tau", "pval", "exact", "k")], index)

    def _values(self) -> dict[str, Any]:
        return self._these("tau", "pval", "exact", "k")

    def _content(self) -> Document:
        title = f"Rank correlation test for funnel plot asymmetry (k = {self.k})"
        if isinstance(self.tau, NotApplicable):
            return self._document(title, lines=[f"Not applicable: {self.tau.reason}"])
        how = "exact" if self.exact else "normal approximation"
        return self._document(title, lines=[f"Kendall's tau {fixed(self.tau)}, p {p_value(self.pval)} ({how})"])

    def r_code(self) -> str:
        """Return the R code of the test."""
        return f"{self.base.r_code()}\nranktest(fit)"


def ranktest(fit: Any, *, cluster: Any = STUDY, rho: float = DEFAULT_RHO) -> RankTest:
    """Test whether effects and their precision are ranked alike (Begg and Mazumdar's test).

    It asks what `regtest` asks, by ranks alone: no straight line is supposed, and one odd study cannot decide, but it
    misses more. Where studies have several effects, the mean of each study is ranked.

    Parameters
    ----------
    fit : a fitted model without moderators
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study.
    rho : float
        Assumed correlation of the sampling errors of one study, for the variance of its mean.

    Returns
    -------
    RankTest
        `NotApplicable` numbers where effects or variances are all the same, and with fewer than 3 studies.

    Raises
    ------
    InputError
        A model with moderators.

    Notes
    -----
    R: ``ranktest(fit)``, that is ``cor.test(y, vi, method = "kendall", exact = TRUE)``. Begg & Mazumdar (1994,
    doi:10.2307/2533446).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> print(bias.ranktest(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()))
    Rank correlation test for funnel plot asymmetry (k = 16)
    Kendall's tau 0.1590, p = 0.3918 (normal approximation)
    <BLANKLINE>
    Note: The p-value is the normal approximation: ties among them.
    """
    source = given(fit, "ranktest", cluster=cluster)
    base = one_per_study(source, "ranktest", rho)
    y, v = base.effects.yi, base.effects.vi
    tau, pval, exact = (math.nan, math.nan, False) if len(y) < 3 else kendall(standardised(y, v), v)
    notes = merge_notes(base.effects.notes, size_notes(given(base, "ranktest"), "vi"), few_notes(source))
    if tau != tau:
        why = f"needs at least 3 studies, not {len(y)}" if len(y) < 3 else "effects or variances are all the same"
        return RankTest(tau=NotApplicable(why), pval=NotApplicable(why), exact=False, k=len(y), base=base, notes=notes)
    if not exact:
        why = "ties among them" if len(y) <= MOST_EXACT else f"more than {MOST_EXACT} effects"
        notes = (*notes, Note("rank-test-normal", f"The p-value is the normal approximation: {why}."))
    return RankTest(tau=tau, pval=pval, exact=exact, k=len(y), base=base, notes=notes)
