"""The distribution of true effects and what is known of it: shares above a threshold, prediction intervals.

Nagashima, Noma & Furukawa (2019, doi:10.1177/0962280218773520) draw tau2 from its confidence distribution,
the exact distribution of Q read as a function of tau2, and the mean given tau2 from a t distribution with
Hartung's variance. Here nothing is drawn: the two layers are integrated, which is the limit of infinitely
many draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import interpolate, optimize, special

from alliance_meta._typing import Array
from alliance_meta.core.univariate.intervals import quadratic_form_cdf
from alliance_meta.core.univariate.search import typical_variance
from alliance_meta.core.univariate.wls import make_batch, wls

# The confidence distribution is tabulated between these probabilities, at this many values of tau2.
EDGE = 1e-9
TABLE = 40
# Gauss-Legendre nodes over the tabulated part.
NODES = 64
# Beyond this many standard deviations a share is 0 or 1.
REACH = 37.0
# Trapezoid rule for a normal variable: exact to rounding for an integrand as smooth as the normal density.
_Z = np.arange(-8.0, 8.01, 0.2)
_PZ = 0.2 * np.exp(-0.5 * _Z**2) / np.sqrt(2.0 * np.pi)
_LEGENDRE = np.polynomial.legendre.leggauss(NODES)


def share_above(mu: Array, tau2: Array, threshold: float) -> Array:
    """Return P(theta > threshold) for theta ~ N(mu, tau2); 0, 1/2 or 1 where tau2 <= 0."""
    distance = np.asarray(mu, dtype=float) - threshold
    spread = np.sqrt(np.maximum(np.asarray(tau2, dtype=float), 0.0))
    # A distance that only rounding keeps from 0 is 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = np.where(spread > 0, distance / spread, np.inf * np.sign(distance))
    return special.ndtr(np.where(np.isnan(standard), 0.0, standard))


@dataclass(frozen=True, slots=True, eq=False)
class ConfidenceDistribution:
    """What the data say about tau2 and the mean, as a distribution over tau2 with a t distribution at each."""

    # tau2, weight (m,): values of tau2 and their probabilities, which add up to 1; the first tau2 is 0.
    tau2: Array
    weight: Array
    # mean, se (m,): mean effect at each tau2 and Hartung's standard error of it.
    mean: Array
    se: Array
    df: int  # degrees of freedom of the t distribution, k - p


def confidence_distributions(y: Array, v: Array, X: Array, rows: Array) -> list[ConfidenceDistribution]:
    """Return the confidence distribution of tau2 and of the mean effect of each row of `rows` (m, p).

    y, v are (k,), X (k, p) with k > p. Without moderators X and `rows` are ones.
    """
    atom, tau2, weight = _tau2_distribution(y, v, X)
    tau2, weight = np.append(0.0, tau2), np.append(atom, weight)
    shape = (len(tau2), len(y))
    fit = wls(make_batch(np.broadcast_to(y, shape), np.broadcast_to(v, shape), X), tau2)
    df = len(y) - X.shape[1]
    means = rows @ fit.beta.T
    variances = np.einsum("mp,bpq,mq->mb", rows, fit.vb, rows) * (fit.rss / df)
    return [
        ConfidenceDistribution(tau2, weight, mean, np.sqrt(variance), df)
        for mean, variance in zip(means, variances, strict=True)
    ]


def nagashima(distribution: ConfidenceDistribution, *, level: float) -> tuple[float, float]:
    """Return the prediction interval for the true effect of a new study."""
    tails = (0.5 * (1.0 - level), 0.5 * (1.0 + level))
    centre = float(distribution.weight @ distribution.mean)
    spread = float(np.sqrt(distribution.se.max() ** 2 + np.median(distribution.tau2)))
    # Identical effects: nothing but rounding is left of the spread.
    if spread <= 1e-12 * abs(centre):
        return centre, centre
    low, high = (_quantile(lambda x: new_effect_cdf(distribution, x), tail, centre, spread) for tail in tails)
    return low, high


def new_effect_cdf(distribution: ConfidenceDistribution, x: float) -> float:
    """Return P(theta_new <= x) when mu and tau2 follow their confidence distribution."""
    tau, se = np.sqrt(distribution.tau2), np.maximum(distribution.se, 1e-300)
    distance = x - distribution.mean
    # Condition on the narrower of the two layers, so that what is left is smooth.
    wide = tau > se
    out = np.empty_like(tau)
    t = special.stdtrit(distribution.df, special.ndtr(_Z))
    inner = (distance[wide, None] + t * se[wide, None]) / tau[wide, None]
    out[wide] = special.ndtr(inner) @ _PZ
    inner = (distance[~wide, None] - _Z * tau[~wide, None]) / se[~wide, None]
    out[~wide] = special.stdtr(distribution.df, inner) @ _PZ
    return float(distribution.weight @ out)


def share_interval(distribution: ConfidenceDistribution, threshold: float, *, level: float) -> tuple[float, float]:
    """Return the interval for P(theta > threshold) from the confidence distribution of mu and tau2.

    The quantiles of Phi((mu - threshold) / tau) over that distribution; 0 and 1 are among its values where
    tau2 = 0 is.
    """
    tails = (0.5 * (1.0 - level), 0.5 * (1.0 + level))
    tau, se = np.sqrt(distribution.tau2), np.maximum(distribution.se, 1e-300)

    def cdf(x: float) -> float:
        """Return P((mu - threshold) / tau <= x); at tau = 0 mu alone decides, whatever x."""
        limit = (threshold + x * tau - distribution.mean) / se
        return float(distribution.weight @ special.stdtr(distribution.df, limit))

    edges = []
    for tail in tails:
        if cdf(-REACH) >= tail:
            edges.append(0.0)
        elif cdf(REACH) <= tail:
            edges.append(1.0)
        else:
            root = float(optimize.brentq(lambda x, tail=tail: cdf(x) - tail, -REACH, REACH, xtol=1e-12))
            edges.append(float(special.ndtr(root)))
    return edges[0], edges[1]


def _tau2_distribution(y: Array, v: Array, X: Array) -> tuple[float, Array, Array]:
    """Return the probability of tau2 = 0 and nodes with weights for the rest."""
    w = 1.0 / v
    batch = make_batch(y, v, X)
    fit = wls(batch, np.zeros(1))
    q = float(fit.rss[0])
    loading = w[:, None] * (batch.Q @ np.linalg.cholesky(fit.Ainv[0]))

    def below(tau2: float) -> float:
        """Return the confidence that the true value is at most tau2: the chance of a Q above the observed one."""
        total = v + tau2
        return 1.0 - quadratic_form_cdf(q, w * total, np.sqrt(total)[:, None] * loading)

    atom = below(0.0)
    if not q > 0 or atom >= 1.0 - EDGE:
        return 1.0, np.empty(0), np.empty(0)
    unit = float(typical_variance(batch)[0])
    high = _where(below, 1.0 - EDGE, unit)
    low = 0.0 if atom >= EDGE else _where(below, EDGE, unit)
    s = np.linspace(np.log(low + unit), np.log(high + unit), TABLE)
    tau2 = np.maximum(np.exp(s) - unit, 0.0)
    probability = np.array([below(float(t)) for t in tau2])
    kept = np.append(True, np.diff(np.maximum.accumulate(probability)) > 0) & (probability > 0) & (probability < 1)
    x, s = special.ndtri(probability[kept]), s[kept]
    curve = interpolate.CubicSpline(x, s)
    half, middle = 0.5 * (x[-1] - x[0]), 0.5 * (x[-1] + x[0])
    nodes = middle + half * _LEGENDRE[0]
    weight = half * _LEGENDRE[1] * np.exp(-0.5 * nodes**2) / np.sqrt(2.0 * np.pi)
    weight *= (1.0 - atom) / weight.sum()
    return atom, np.maximum(np.exp(curve(nodes)) - unit, 0.0), weight


def _where(below: Callable[[float], float], probability: float, unit: float) -> float:
    """Return a tau2 at which the confidence is about `probability`, by bisection on a logarithmic scale."""
    low, high = 0.0, unit
    while below(high) < probability:
        low, high = high, 4.0 * high
        if high > 1e14 * unit:
            return high
    for _ in range(8):
        middle = float(np.sqrt((low + 1e-3 * unit) * (high + 1e-3 * unit)) - 1e-3 * unit)
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return high


def _quantile(cdf: Callable[[float], float], probability: float, centre: float, spread: float) -> float:
    low, high = centre - spread, centre + spread
    while cdf(low) > probability:
        low = centre - 2.0 * (centre - low)
    while cdf(high) < probability:
        high = centre + 2.0 * (high - centre)
    return float(optimize.brentq(lambda x: cdf(x) - probability, low, high, xtol=1e-13 * spread, rtol=1e-13))
