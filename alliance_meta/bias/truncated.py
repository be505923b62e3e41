"""Right-truncated meta-analysis: the mean behind results of which the significant ones may have been p-hacked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from alliance_meta.bias.given import (
    Adjusted,
    Given,
    Side,
    as_independent,
    check_alpha,
    few_effects,
    given,
    side_of,
    sign_of,
)
from alliance_meta.core.bias import significance as core
from alliance_meta.core.bias.worst_case import affirmative
from alliance_meta.core.distributions import critical_value
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, fixed_interval, format_percent

FEWEST = 3
# So probable a mean beyond every bound means that the data hardly tell it.
SHELF = 0.05


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class RightTruncated(Adjusted):
    """The mean by right-truncated meta-analysis.

    Attributes
    ----------
    median : float
        Posterior median of the mean; `estimate` is its value where the joint posterior is highest.
    tau, tau_lb, tau_ub : float
        Standard deviation of true effects at the joint mode, with its credible interval.
    beyond : float
        Posterior probability that the mean lies beyond the line of significance of every study.
    side : {"right", "left"}
    alpha : float
    affirmative : int
        Effects that were left out: those significant in the favoured direction.
    error : float
        Estimate of the numerical error of any probability.
    """

    called: ClassVar[str] = "RTMA"
    assumes: ClassVar[str] = "significant results may be p-hacked, the others are as they came; effects are normal"

    median: float
    tau: float
    tau_lb: float
    tau_ub: float
    beyond: float
    side: Side
    alpha: float
    affirmative: int
    error: float

    def _content(self) -> Document:
        lines = (
            f"Mode and credible interval; significant effects on the {self.side} left out: {self.affirmative}",
            f"median = {fixed(self.median)}, tau = {fixed(self.tau)} {fixed_interval(self.tau_lb, self.tau_ub)}",
        )
        return replace(Adjusted._content(self), lines=lines)


def rtma(fit: Any, *, side: Side | None = None, alpha: float = 0.05, level: float | None = None) -> RightTruncated:
    r"""Estimate the mean of all effects from those that are not significant, as if the others had never been seen.

    Where studies are analysed in several ways until a result is significant, no model of publication can mend the
    significant ones. But nobody hacks a result to make it *not* significant: these are as they came, only cut off at
    the line of significance. From how they pile up below it, the whole distribution of effects can be read off, as the
    height of a crowd from those who fit under a bar. The estimate does not depend on the significant results at all.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used.
    side : {"right", "left"}, optional
        The favoured direction: positive or negative results. By default that of the mean.
    alpha : float
        Two-sided level of significance in the studies.
    level : float, optional
        Of the credible intervals; the fit's own by default.

    Returns
    -------
    RightTruncated
        Every number is `NotApplicable` with fewer than three effects that are not affirmative.

    Raises
    ------
    InputError
        What is no fit, a model with moderators, an option that makes no sense.

    Warns
    -----
    DependenceWarning
        Some study has several effects, which the method takes as independent.

    Notes
    -----
    .. math:: p(\mu, \tau \mid y) \propto \sqrt{\det I(\mu, \tau)} \prod_i
              \frac{\phi\big((y_i - \mu) / S_i\big) / S_i}{\Phi\big((c s_i - \mu) / S_i\big)}, \qquad
              S_i^2 = \tau^2 + s_i^2

    R: ``phacking::phacking_meta(yi, vi)``, which samples this posterior with Stan; here it is integrated to about six
    digits, without random numbers. Mathur (2024, doi:10.1002/jrsm.1701). The posterior has a tail like 1 / mu^2, so
    that it has no mean and no standard deviation; the mean that R prints depends on how far the chains went.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit()
    >>> print(bias.rtma(fit))
    RTMA (k = 79; 95%)
    Mode and credible interval; significant effects on the right left out: 81
    median = 0.1620, tau = 0.0758 [0.0254, 0.1806]
    <BLANKLINE>
          estimate   se   ci_lb   ci_ub  pval       r    r_lb    r_ub
    RTMA    0.1474  n/a  0.0939  0.3199   n/a  0.1464  0.0936  0.3094
    """
    source = given(fit, "rtma", level=level)
    check_alpha(alpha)
    sign = sign_of(source, side)
    chosen = affirmative(source.yi, source.sei, sign=sign, alpha=alpha, tails=1)
    left = ~chosen
    notes = (
        *as_independent(source, "rtma"),
        *few_effects(int(left.sum()), "the method", "Effects that are not affirmative"),
    )
    values = _values(source, left, sign, alpha) if int(left.sum()) >= FEWEST else None
    why = NotApplicable(f"needs at least {FEWEST} effects that are not affirmative")
    if values is not None and values["beyond"] > SHELF:
        notes = (*notes, _shelf(values["beyond"]))
        values["ci_ub" if sign > 0 else "ci_lb"] = NotApplicable("beyond the line of significance of every study")
    names = ("estimate", "ci_lb", "ci_ub", "median", "tau", "tau_lb", "tau_ub", "beyond", "error")
    return RightTruncated(
        **(values or dict.fromkeys(names, why)),
        se=NotApplicable("the posterior has no standard deviation" if values else why.reason),
        pval=NotApplicable("a posterior has no p-value" if values else why.reason),
        k=int(left.sum()),
        studies=len(np.unique(source.cluster[left])),
        level=source.level,
        measure=source.effects.measure,
        provenance=source.effects.provenance,
        side=side_of(sign),
        alpha=alpha,
        affirmative=int(chosen.sum()),
        notes=merge_notes(notes),
    )


def _values(source: Given, left: Any, sign: float, alpha: float) -> dict[str, float]:
    y, v, se = sign * source.yi[left], source.vi[left], source.sei[left]
    bound = critical_value(1.0 - alpha, None) * se
    posterior = core.solve(y, v, bound)
    tail = 0.5 * (1.0 - source.level)
    ends = [sign * posterior.quantile(p) for p in (tail, 1.0 - tail)]
    return {
        "estimate": sign * posterior.mode[0],
        "ci_lb": min(ends),
        "ci_ub": max(ends),
        "median": sign * posterior.quantile(0.5),
        "tau": posterior.mode[1],
        "tau_lb": posterior.quantile_of_tau(tail),
        "tau_ub": posterior.quantile_of_tau(1.0 - tail),
        "beyond": 1.0 - posterior.cdf(float(bound.max())),
        "error": posterior.grid.error,
    }


def _shelf(probability: float) -> Note:
    return Note(
        "hardly-identified",
        f"With a probability of {format_percent(100 * probability, 0)} the mean lies beyond the line of significance "
        "of every study: these effects hardly tell a large mean from a larger one, so that there is no limit there.",
    )
