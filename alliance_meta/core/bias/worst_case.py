"""What the mean can be at worst: under favoured significant results, and with studies nobody has seen.

How much selection of affirmative effects would explain a mean away.

Mathur & VanderWeele (2020, doi:10.1111/rssc.12440). An effect is affirmative if it is significant in the favoured
direction. If those are published `ratio` times as likely as the others, a mean in which every other effect counts
`ratio` times as much is free of that selection; with an infinite ratio only the others are left.

How far unpublished studies can have moved a mean, from nothing but their number.

Copas & Jackson (2004, doi:10.1111/j.0006-341X.2004.00161.x): of all ways to select studies in which larger ones are at
least as likely to be published as smaller ones, the worst publishes those with the largest (or smallest) effects, at
the same rate whatever their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, codes, stacks
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.robust.rve import blocks, given_weights
from alliance_meta.core.robust.sandwich import Sandwich, sandwich, satterthwaite
from alliance_meta.core.univariate.fit import fit_univariate

# Between these ratios a limit's crossing is looked for, and then found to twelve digits.
RATIOS = (*np.geomspace(1.0, 1e3, 25), 1e4, 1e5, 1e6)


def affirmative(y: Array, se: Array, *, sign: float, alpha: float, tails: int) -> Mask:
    """Tell which effects (k,) are significant: in the direction of `sign`, or with two tails in either."""
    z = y / se if tails == 1 else np.abs(y / se)
    return np.asarray((sign if tails == 1 else 1.0) * z > -float(special.ndtri(alpha / 2.0)))


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean with its cluster-robust standard error and interval; NaN where a single cluster gives none."""

    estimate: float
    se: float
    df: float
    pval: float
    ci_lb: float
    ci_ub: float


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Effects of which affirmative ones may be published `ratio` times as likely as the others."""

    y: Array  # (k,)
    v: Array  # (k,)
    cluster: IntArray  # (k,)
    affirmative: Mask  # (k,)
    tau2: float  # what the weights 1 / (v + tau2) take for the variance of true effects
    level: float

    def mean(self, ratio: float) -> Mean:
        """Return the mean free of selection by this ratio, which may be infinite."""
        kept = ~self.affirmative if np.isinf(ratio) else np.ones(len(self.y), dtype=bool)
        w = np.where(self.affirmative, 1.0, ratio)[kept] if np.isfinite(ratio) else np.ones(int(kept.sum()))
        v = self.v[kept]
        return robust_mean(self.y[kept], v, codes(self.cluster[kept]), w / (v + self.tau2), level=self.level)

    def ratio_for_estimate(self, q: float) -> float:
        """Return the ratio at which the mean is q, which is solved in closed form; NaN if none above 1 does."""
        w = 1.0 / (self.v + self.tau2)
        away = w * (self.y - q)
        hidden, shown = float(away[~self.affirmative].sum()), float(away[self.affirmative].sum())
        ratio = -shown / hidden if hidden != 0.0 else float("nan")
        return ratio if ratio > 1.0 else float("nan")

    def ratio_for_limit(self, q: float, *, sign: float) -> float:
        """Return the least ratio at which the limit on the other side of `sign` reaches q; NaN if none up to 1e6."""

        @cache
        def left(share: float) -> float:
            """Return how far the limit is above q at the ratio 1 / share, in the favoured direction."""
            found = self.mean(1.0 / share)
            return (found.ci_lb - q) if sign > 0 else (q - found.ci_ub)

        return _first_root(left, [float(1.0 / ratio) for ratio in RATIOS])


def naive_tau2(y: Array, v: Array) -> float:
    """Return REML's tau2 of effects (k,) taken as independent, which only serves to weight; 0 for one effect."""
    if len(y) < 2:
        return 0.0
    return float(fit_univariate(y, v, np.ones((len(y), 1)), method="REML", test="z", level=0.95).tau2.tau2[0])


def robust_mean(y: Array, v: Array, cluster: IntArray, w: Array, *, level: float) -> Mean:
    """Return the mean weighted by w (k,) with robumeta's robust variance for given weights.

    CR2 under the mean sampling variance of each cluster, and degrees of freedom as if all errors varied alike.
    """
    total, one = float(w.sum()), np.ones((len(y), 1))
    estimate = float(w @ y) / total
    nan = float("nan")
    if int(cluster.max()) == 0:
        return Mean(estimate, nan, nan, nan, nan, nan)
    WX = w[:, None] * one
    working = blocks(given_weights(v, cluster, w).variance, cluster)
    robust = sandwich(one, y - estimate, WX, np.array([[1.0 / total]]), working, type="CR2", balanced=False)
    df = float(satterthwaite(_alike(robust, w, cluster), np.eye(1))[0])
    se = float(np.sqrt(robust.vb[0, 0]))
    if np.isnan(df):
        return Mean(estimate, nan, nan, nan, nan, nan)
    half = critical_value(level, df) * se
    pval = float(two_sided_p(np.array(estimate / se), df)) if se > 0 else float(estimate == 0.0)
    return Mean(estimate, se, df, pval, estimate - half, estimate + half)


def _alike(robust: Sandwich, w: Array, cluster: IntArray) -> Sandwich:
    """Return the sandwich as its degrees of freedom see it under errors of equal variance."""
    order = np.concatenate([rows.ravel() for rows in stacks(cluster)])
    WX = (w[order] * robust.root[0, 0])[:, None]
    middle = np.array([[float((WX**2).sum()), -1.0], [-1.0, 0.0]])
    return replace(robust, spread=robust.pull, left=np.hstack([robust.left[:, :1], WX]), middle=middle)


def _first_root(function: Callable[[float], float], at: list[float]) -> float:
    """Return 1 / x at the first change of sign from the first value, which must be positive, on; else NaN."""
    for before, after in pairwise(at):
        if not function(after) > 0.0:
            if np.isnan(function(after)):
                break
            return 1.0 / float(optimize.brentq(function, after, before, xtol=1e-15, rtol=1e-12))
    return float("nan")


# More unpublished studies than so many times the published ones are not looked for.
MOST = 1e6


def largest_bias(v: Array, tau2: float, missing: Array) -> Array:
    """Return the largest bias, (m,), of the mean of studies with variances v (k,) if `missing` (m,) are unpublished."""
    w = 1.0 / (v + tau2)
    return _inflation(len(v) / (len(v) + missing)) * float(np.sqrt(w).sum() / w.sum())


def least_missing(v: Array, tau2: float, bias: float) -> float:
    """Return the least whole number of unpublished studies whose largest bias is at least `bias`; inf above 1e6 k."""
    if bias <= 0.0:
        return 0.0

    def short(log: float) -> float:
        return float(largest_bias(v, tau2, np.array([np.exp(log)]))[0]) - bias

    k = len(v)
    low, high = np.log(1e-9), np.log(MOST * k)
    if short(high) < 0.0:
        return float("inf")
    if short(low) > 0.0:
        return 1.0
    found = float(np.exp(optimize.brentq(short, low, high, xtol=1e-13)))
    near = round(found)
    return float(near if abs(found - near) < 1e-9 * max(1.0, found) else np.ceil(found))


def _inflation(share: Array) -> Array:
    """Return the mean of the largest `share` (m,) of a standard normal distribution."""
    q = special.ndtri(np.clip(share, 0.0, 1.0 - 1e-16))
    return np.where(share >= 1.0, 0.0, np.exp(-0.5 * q**2) / (np.sqrt(2.0 * np.pi) * share))
