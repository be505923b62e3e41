"""Confidence intervals for tau2 of a fitted model, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.core.univariate import tau2
from alliance_meta.core.univariate.searches import NO_ROOT
from alliance_meta.core.univariate.tau2 import estimate_tau2
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.teststats import Interval
from alliance_meta.tables.format import brief

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults


def tau2_interval(fit: RandomEffectsResults, *, kind: str, level: float) -> Interval:
    """Return the interval for tau2 by the method `kind`; every value is `NotApplicable` where it has none."""
    reason = _why_not(fit, kind)
    if reason is not None:
        gone = NotApplicable(reason)
        return Interval(gone, gone, gone, level, kind, "tau2")
    if kind == "PL":
        return _profile_likelihood(fit, level)
    estimate, (lb, ub) = fit.tau2, _bounds(fit, kind, level)
    if kind == "SJ":
        estimate = float(estimate_tau2(fit.fitted.batch, method="SJ").tau2[0])
    return Interval(estimate, lb, ub, level, kind, "tau2")


def _profile_likelihood(fit: RandomEffectsResults, level: float) -> Interval:
    parts = tau2.profile_likelihood(
        fit.effects.yi,
        fit.effects.vi,
        fit.design.X,
        restricted=fit.method == "REML",
        level=level,
        lowest=fit.settings.tau2_min,
    )
    remark = ""
    if len(parts) > 1:
        listed = " and ".join(f"[{brief(lb, 4)}, {brief(ub, 4)}]" for lb, ub in parts)
        remark = (
            f"The likelihood has several peaks: the values not far below the highest are {listed}, and none between."
        )
    return Interval(fit.tau2, parts[0][0], parts[-1][1], level, "PL", "tau2", remark)


def _bounds(fit: RandomEffectsResults, kind: str, level: float) -> tuple[float, float]:
    y, v, X = fit.effects.yi, fit.effects.vi, fit.design.X
    if kind == "QP":
        return tau2.q_profile(y, v, X, level=level)
    if kind == "GENQ":
        weights = fit.fitted.own_weights
        weights = 1.0 / v if weights is None else weights
        tails = (0.5 * (1.0 + level), 0.5 * (1.0 - level))
        lb, ub = (tau2.generalised_q(fit.fitted.batch, weights, probability=tail) for tail in tails)
        return max(lb, 0.0), 0.0 if ub == NO_ROOT else ub
    if kind == "HT":
        return tau2.higgins_thompson(QE=fit.QE, k=fit.k, H2=fit.H2, vt=fit.vt, level=level)
    if kind == "SJ":
        sj = float(estimate_tau2(fit.fitted.batch, method="SJ").tau2[0])
        return tau2.sidik_jonkman(tau2=sj, df=fit.k - fit.p, level=level)
    if kind == "Wald":
        return tau2.wald(tau2=fit.tau2, se=fit.se_tau2, level=level)
    return tau2.wald_log(tau2=fit.tau2, se=fit.se_tau2, level=level)


def _why_not(fit: RandomEffectsResults, kind: str) -> str | None:
    if fit.method == "EE":
        return "an equal-effects model has no tau2"
    if kind == "PL" and fit.method not in ("ML", "REML"):
        raise InputError(f"kind='PL' profiles a likelihood; fit with method='ML' or 'REML', not {fit.method!r}")
    if kind == "HT" and fit.design.formula != "1":
        return "the test-based interval is for models without moderators"
    if kind == "HT" and fit.k <= 2:
        return "the test-based interval needs more than 2 effects"
    if kind == "Wald-log" and not fit.tau2 > 0:
        return "the logarithm of tau2 = 0 does not exist"
    if kind in ("Wald", "Wald-log") and fit.settings.tau2 is not None:
        return "tau2 was given, not estimated"
    return None
