r"""Excess of significant results, how many hidden studies it would take, and effects cut at significance.

Excess significance: more effects that are significant than their power lets expect.

Ioannidis & Trikalinos (2007, doi:10.1177/1740774507079441).

Fail-safe numbers: how many effects averaging 0 would have to be missing to overturn a mean.

As in R's metafor (``fsn``): a number is rounded up to the next whole effect.

Right-truncated meta-analysis: the mean of all effects from those below the line of significance alone.

Mathur (2024, doi:10.1002/jrsm.1701). Effects y ~ N(mu, tau^2 + se^2) are seen only below a bound of their own, and the
prior is Jeffreys'. Where the bounds cut deep, mu and tau run off to infinity together while the normal becomes an
exponential distribution. Everything is therefore worked out in coordinates that stay finite there,

.. math:: \lambda = \mu / (\tau^2 + v_0), \qquad \varepsilon = 1 / (\tau^2 + v_0),

and from the moments of the distance :math:`t` to the bound, which keep their digits however deep the cut. The tail
that leaves is that of 1 / mu^2: quantiles of mu exist, its mean does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.bayes.quadrature import Grid, HalfLine, RealLine, SincDensity, integrate_grid

Alternative = Literal["two.sided", "greater", "less"]
CountTest = Literal["exact", "chi2", "binom"]

# Probabilities as near as this, or a share as small, are taken as the same in a two-sided test: as in R.
SAME, SAME_SHARE = float(np.sqrt(np.finfo(float).eps)), 1e-7
# How far true effects are tried, in standard errors of the least precise effect.
FARTHEST = 1e6
NEVER = 1e-290


def significant(y: Array, se: Array, *, alpha: float, alternative: str) -> Mask:
    """Tell which effects (k,) are significant."""
    z, tail = y / se, alpha / 2.0 if alternative == "two.sided" else alpha
    critical = -float(special.ndtri(tail))
    signed = {"two.sided": np.abs(z), "greater": z, "less": -z}[alternative]
    return np.asarray(signed >= critical)


def power(theta: float, tau2: float, se: Array, *, alpha: float, alternative: str) -> Array:
    """Return how probably each effect (k,) is significant if true effects are N(theta, tau2).

    The effect itself is normal with the variance se^2 + tau2, so that no integral over true effects is needed.
    """
    tail = alpha / 2.0 if alternative == "two.sided" else alpha
    bar, total = -float(special.ndtri(tail)) * se, np.sqrt(se**2 + tau2)
    up, down = special.ndtr((theta - bar) / total), special.ndtr((-theta - bar) / total)
    return np.asarray({"two.sided": up + down, "greater": up, "less": down}[alternative])


@dataclass(frozen=True, slots=True)
class Excess:
    """Observed and expected number of significant effects, and how probable such a difference is by chance.

    `X2` is NaN but for the chi-squared test.
    """

    observed: int
    expected: float
    X2: float
    pval: float


def excess(sig: Mask, powers: Array, *, test: str, direction: str) -> Excess:
    """Compare how many of the effects (k,) are significant with their powers (k,)."""
    observed, k, expected = int(sig.sum()), len(sig), float(powers.sum())
    if test == "chi2":
        X2, pval = _chi2(observed, k, expected, direction)
        return Excess(observed, expected, X2, pval)
    chances = powers if test == "exact" else np.full(k, expected / k)
    return Excess(observed, expected, float("nan"), _count_p(observed, counts(chances), direction, test))


def counts(chances: Array) -> Array:
    """Return the distribution of the number of successes, (k + 1,), of k independent trials with these chances.

    Halves are put together by convolution: only positive numbers are added, so that tails keep their digits. What is
    less probable than `NEVER` is taken as impossible.
    """
    mass = np.column_stack([1.0 - chances, chances])
    while len(mass) > 1:
        if len(mass) % 2:
            mass = np.vstack([mass, np.eye(1, mass.shape[1])])
        mass = _pairs(mass[::2], mass[1::2])
    return mass[0, : len(chances) + 1]


def _pairs(first: Array, second: Array) -> Array:
    """Convolve rows (n, m) with rows (n, m): many short ones together, a few long ones each where it is not 0."""
    n, m = first.shape
    out = np.zeros((n, 2 * m - 1))
    if m <= n:
        for shift in range(m):
            out[:, shift : shift + m] += first[:, shift, None] * second
        return out
    for row, one, two in zip(out, first, second, strict=True):
        (a, b), (c, d) = _ends(one), _ends(two)
        row[a + c : b + d - 1] = np.convolve(one[a:b], two[c:d])
    return out


def _ends(mass: Array) -> tuple[int, int]:
    there = np.flatnonzero(mass > NEVER)
    return int(there[0]), int(there[-1]) + 1


def limit(
    sig: Mask, se: Array, tau2: float, *, start: float, alpha: float, alternative: str, test: str, direction: str,
    tes_alpha: float,
) -> float:  # fmt: skip
    """Return the true mean effect, on the side of `start`, at which the test has p = tes_alpha; NaN if none has."""
    side = -1.0 if start < 0 else 1.0

    def beyond(theta: float) -> float:
        powers = power(side * theta, tau2, se, alpha=alpha, alternative=alternative)
        return excess(sig, powers, test=test, direction=direction).pval - tes_alpha

    rising = direction == "greater"
    if (beyond(0.0) >= 0.0) == rising:
        return float("nan")
    near, far = 0.0, max(abs(start), float(se.min()))
    while (beyond(far) >= 0.0) != rising:
        near, far = far, 2.0 * far
        if far > FARTHEST * float(se.max()):
            return float("nan")
    return side * float(optimize.brentq(beyond, near, far, xtol=1e-12 * far, rtol=1e-12))


def _chi2(observed: int, k: int, expected: float, direction: str) -> tuple[float, float]:
    """Return Pearson's X2 of two cells and its p-value, without continuity correction."""
    variance = expected * (k - expected) / k
    away = observed - expected
    if variance <= 0.0:
        X2 = 0.0 if away == 0.0 else float("inf")
    else:
        X2 = away**2 / variance
    z = float(np.sign(away) * np.sqrt(X2))
    return X2, {
        "greater": float(special.ndtr(-z)),
        "less": float(special.ndtr(z)),
        "two.sided": float(special.chdtrc(1.0, X2)),
    }[direction]


def _count_p(observed: int, mass: Array, direction: str, test: str) -> float:
    if direction == "greater":
        return min(1.0, float(mass[observed:].sum()))
    if direction == "less":
        return min(1.0, float(mass[: observed + 1].sum()))
    most = mass[observed] + SAME if test == "exact" else mass[observed] * (1.0 + SAME_SHARE)
    return min(1.0, float(mass[mass <= most].sum()))


# A number this near to a whole one is that one.
WHOLE = float(np.sqrt(np.finfo(float).eps))
MOST = 10**300


@dataclass(frozen=True, slots=True)
class FailSafe:
    """A fail-safe number, with the mean of the observed effects and its p-value; NaN where a method has none."""

    number: float
    estimate: float
    pval: float


def rosenthal(y: Array, v: Array, *, alpha: float) -> FailSafe:
    """Until Stouffer's combined one-tailed p-value is `alpha` (Rosenthal 1979, doi:10.1037/0033-2909.86.3.638)."""
    k = len(y)
    z = abs(float((y / np.sqrt(v)).sum())) / np.sqrt(k)
    number = k * (z / _upper(alpha)) ** 2 - k
    return FailSafe(_whole(number), float("nan"), float(special.ndtr(-z)))


def orwin(y: Array, w: Array, *, target: float) -> FailSafe:
    """Until the mean weighted by w (k,) is `target`, of its sign (Orwin 1983, doi:10.3102/10769986008002157)."""
    estimate = float(w @ y) / float(w.sum())
    aim = abs(target)
    number = float("inf") if aim == 0.0 else len(y) * (abs(estimate) - aim) / aim
    return FailSafe(_whole(number), estimate, float("nan"))


def rosenberg(y: Array, v: Array, *, alpha: float) -> FailSafe:
    """Until the equal-effects mean has the two-sided p-value `alpha`.

    Rosenberg (2005, doi:10.1111/j.0014-3820.2005.tb01004.x).
    """
    w = 1.0 / v
    total, weight = float(w @ y), float(w.sum())
    number = len(y) * ((total / _upper(alpha / 2.0)) ** 2 - weight) / weight
    return FailSafe(_whole(number), total / weight, _two_sided(total / np.sqrt(weight)))


def general(
    y: Array, v: Array, *, estimate: float, tau2: float, fixed: bool, alpha: float, target: float | None
) -> FailSafe:
    """Until a random-effects mean has the p-value `alpha`, or is `target`, of its sign.

    Viechtbauer (2024), as metafor's ``type="General"``: missing effects have the harmonic mean of the variances, and
    tau2 is that of observed and missing effects together, unless it is `fixed`.
    """
    missing = _Missing(y, v, estimate, tau2, fixed)
    pval = missing.with_number(0)[1]
    if target is None:
        number = missing.smallest(lambda n: missing.with_number(n)[1] >= alpha)
    elif target == 0.0:
        number = float("inf")
    else:
        number = missing.smallest(lambda n: abs(missing.with_number(n)[0]) <= abs(target))
    return FailSafe(number, estimate, pval)


@dataclass(frozen=True, slots=True)
class _Missing:
    y: Array
    v: Array
    estimate: float
    tau2: float
    fixed: bool

    def with_number(self, n: int) -> tuple[float, float]:
        """Return the mean, and its two-sided p-value, when n effects averaging 0 are added."""
        k, typical = len(self.y), 1.0 / float((1.0 / self.v).mean())
        tau2 = self.tau2
        if n and not self.fixed:
            middle = k * self.estimate / (k + n)
            spread = (k - 1 + n - 1) * self.tau2 + k * (self.estimate - middle) ** 2 + n * middle**2
            tau2 = max(0.0, spread / (k + n - 1))
        w, new = 1.0 / (self.v + tau2), n / (typical + tau2)
        total = float(w.sum()) + new
        estimate = float(w @ self.y) / total
        return estimate, _two_sided(estimate * np.sqrt(total))

    def smallest(self, reached: Callable[[int], bool]) -> float:
        """Return the smallest n that reaches the aim; infinity if floating point ends first."""
        if reached(0):
            return 0.0
        low, high = 0, 1
        while not reached(high):
            low, high = high, 2 * high
            if high > MOST:
                return float("inf")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return float(high)


def _upper(tail: float) -> float:
    return -float(special.ndtri(tail))


def _two_sided(z: float) -> float:
    return 2.0 * float(special.ndtr(-abs(z)))


def _whole(number: float) -> float:
    if not np.isfinite(number):
        return number
    near = round(number)
    return max(0.0, float(near if abs(number - near) < WHOLE else np.ceil(number)))


# From here on (standard deviations beyond the bound) moments come from a series in 1 / a^2 of so many terms.
DEEP, TERMS = 12.0, 18
# Beyond this the bound cuts nothing off.
UNCUT = 30.0
# Numbers that one working array may hold: few enough for the processor's cache.
MOST_CELLS = 60_000
SPAN = 4.0
# Of quantiles: the distribution between points is worse than the integral, whose error is the square of it.
TOLERANCE = 1e-6
NEWTON_STEPS = 40
# So near to the peak, in standard deviations, the search for a centre ends.
NEAR = 0.03
# The coefficients (-1)^j (n + 2j)! / (j! 2^j) of the moments n = 0 ... 4.
_J = np.arange(TERMS)
_SERIES = [(-1.0) ** _J * np.exp(special.gammaln(n + 2 * _J + 1) - special.gammaln(_J + 1) - _J * np.log(2.0))
           for n in range(5)]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Truncated:
    """Effects y (k,) with variances v (k,), each seen because it is below its bound (k,)."""

    y: Array
    v: Array
    bound: Array

    @cached_property
    def v0(self) -> float:
        """The variance that coordinates are measured by."""
        return float(np.median(self.v))

    def log_joint(self, mu: Array, tau: Array) -> Array:
        """Return the log of prior times likelihood at points (B,), a density of mu and tau."""
        epsilon = 1.0 / (tau**2 + self.v0)
        return self._log_density(mu * epsilon, epsilon) + np.log(2.0 * tau) + 3.0 * np.log(epsilon)

    def log_joint_of_deviate(self, deviate: Array, tau: Array) -> Array:
        """Return the same as a density of tau and of the distance of lambda from where it is likeliest at that tau."""
        values, which = np.unique(tau, return_inverse=True)
        centre, width, _ = (one[which] for one in self.conditional(values))
        epsilon = 1.0 / (tau**2 + self.v0)
        jacobian = np.log(2.0 * tau) + 2.0 * np.log(epsilon) + np.log(width)
        return self._log_density(centre + width * deviate, epsilon) + jacobian

    def outline(self, deviate: Array, tau: Array) -> Array:
        """Return roughly the same: lambda as about normal, or about gamma where the cut is deep."""
        values, which = np.unique(tau, return_inverse=True)
        _, width, top = (one[which] for one in self.conditional(values))
        epsilon = 1.0 / (tau**2 + self.v0)
        k = len(self.y)
        z = np.maximum(deviate / np.sqrt(k), -0.5)
        shape = np.maximum(-0.5 * deviate**2, -k * (z - np.log1p(z)))
        return top + shape + np.log(2.0 * tau) + 2.0 * np.log(epsilon) + np.log(width)

    def conditional(self, tau: Array) -> tuple[Array, Array, Array]:
        """Return where lambda is likeliest at each tau (B,), how far it is spread, and the log density there.

        At a given tau the likelihood is that of an exponential family, which has one peak.
        """
        epsilon = 1.0 / (tau**2 + self.v0)
        rate = epsilon * float(np.average(self.y, weights=1.0 / self.v))
        width = np.empty(len(tau))
        for some in _parts(len(tau), len(self.y)):
            rate[some], width[some] = self._peak(rate[some, None], epsilon[some, None])
        return rate, width, self._log_density(rate, epsilon)

    def _peak(self, rate: Array, epsilon: Array) -> tuple[Array, Array]:
        share = 1.0 / (1.0 + epsilon * (self.v - self.v0))
        sd = (epsilon * share) ** -0.5
        moving = np.ones(rate.shape, dtype=bool)
        for _ in range(NEWTON_STEPS):
            a = (rate / epsilon - self.bound) / sd
            m1, m2 = _moments(a, special.erfcx(a / np.sqrt(2.0)) / 2.0)[:2]
            slope = (share * (self.y - self.bound + sd * m1)).sum(axis=1, keepdims=True)
            information = ((share * sd) ** 2 * (m2 - m1**2)).sum(axis=1, keepdims=True)
            step = slope / information
            width = information**-0.5
            # Each tau stops on its own, so that it has the same coordinates in whatever company it is asked for.
            moving &= np.abs(step) > NEAR * width
            if not moving.any():
                break
            # Beyond a gamma's peak the curvature is too small; the peak is never so far off.
            step = np.clip(step, -0.8 * np.abs(rate) - width, np.abs(rate) + 2.0 * width)
            rate = np.where(moving, rate + step, rate)
        return rate[:, 0], width[:, 0]

    def _log_density(self, rate: Array, epsilon: Array) -> Array:
        """Return it as a density of lambda and epsilon."""
        out = np.empty(len(rate))
        for some in _parts(len(rate), len(self.y)):
            out[some] = self._log_density_of_few(rate[some, None], epsilon[some, None])
        return out

    def _log_density_of_few(self, rate: Array, epsilon: Array) -> Array:
        y, u, away = self.y, self.bound, self.v - self.v0
        share = 1.0 / (1.0 + epsilon * away)
        own = epsilon * share
        sd, mu = own**-0.5, rate / epsilon
        a = (u - mu) / sd
        half = special.erfcx(-a / np.sqrt(2.0)) / 2.0
        with np.errstate(invalid="ignore", divide="ignore"):
            cut = -0.5 * own * (y - u) * (y + u - 2.0 * mu) - np.log(half)
        loglik = np.where(a < UNCUT, cut, -0.5 * ((y - mu) / sd) ** 2) - np.log(sd)
        m1, m2, m3, m4 = (sd**n * m for n, m in enumerate(_moments(-a, half), 1))
        h = rate * away + u
        V1, C, V2 = m2 - m1**2, m3 - m1 * m2, m4 - m2**2
        information = (
            (share**2 * V1).sum(axis=1),
            (share**3 * (h * V1 - 0.5 * C)).sum(axis=1),
            (share**4 * (h**2 * V1 - h * C + 0.25 * V2)).sum(axis=1),
        )
        det = information[0] * information[2] - information[1] ** 2
        return np.asarray(loglik.sum(axis=1) + 0.5 * np.log(np.maximum(det, np.finfo(float).tiny)))


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of a right-truncated meta-analysis."""

    problem: Truncated
    mode: tuple[float, float]  # mu and tau where their joint density is highest
    grid: Grid  # of lambda's deviate and tau
    # centre, width: what the deviate is of, at each tau of the grid.
    centre: Array
    width: Array

    @property
    def tau(self) -> SincDensity:
        """The distribution of tau."""
        return self.grid.marginal(1)

    def cdf(self, x: float) -> float:
        """Return P(mu <= x)."""
        deviates = self.grid.marginal(0)
        at = deviates.line.u((x / (self.tau.value**2 + self.problem.v0) - self.centre) / self.width)
        return float(np.clip((deviates.steps(at) * self.grid.weight.T).sum(), 0.0, 1.0))

    def quantile(self, probability: float) -> float:
        """Return a quantile of mu."""
        low, high = self.mode[0] - self.problem.v0**0.5, self.mode[0] + self.problem.v0**0.5
        while self.cdf(low) > probability:
            low -= 2.0 * (self.mode[0] - low)
        while self.cdf(high) < probability:
            high += 2.0 * (high - self.mode[0])
        return float(optimize.brentq(lambda x: self.cdf(x) - probability, low, high, xtol=1e-10, rtol=1e-12))

    def quantile_of_tau(self, probability: float) -> float:
        """Return a quantile of tau."""
        tau = self.tau

        def left(u: float) -> float:
            return float(tau.steps(np.array([u]))[0] @ tau.weight) - probability

        u = float(optimize.brentq(left, tau.u[0] - 1.0, tau.u[-1] + 1.0, xtol=1e-12))
        return float(tau.line.value(np.array([u]))[0])


def solve(y: Array, v: Array, bound: Array) -> Posterior:
    """Integrate over mu and tau; needs k >= 3, fewer leave no proper tail."""
    problem = Truncated(y, v, bound)
    mode = _mode(problem)
    lines = (
        RealLine(0.0, 2.0, (-SPAN, SPAN)),
        HalfLine(mode[1] + np.sqrt(problem.v0), (-3.2, SPAN)).reaching(head=2.0, tail=3.0),
    )
    grid = integrate_grid(
        problem.log_joint_of_deviate, lines, pilot=problem.outline, tolerance=TOLERANCE, power=1.0, everywhere=True
    )
    centre, width, _ = problem.conditional(grid.marginal(1).value)
    return Posterior(problem, mode, grid, centre, width)


def _mode(problem: Truncated) -> tuple[float, float]:
    """Return mu and tau of the highest joint density."""
    unit = np.sqrt(problem.v0)

    def depth(at: Array) -> float:
        return -float(problem.log_joint(at[:1] * unit, np.exp(at[1:]) * unit)[0])

    mean = float(problem.y @ (1.0 / problem.v)) / float((1.0 / problem.v).sum()) / unit
    starts = [np.array([mean + shift, log]) for shift in (0.0, 1.0) for log in (-1.0, 1.0)]
    best = min(starts, key=depth)
    for _ in range(2):
        best = optimize.minimize(depth, best, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    return float(best[0] * unit), float(np.exp(best[1]) * unit)


def _moments(a: Array, half: Array) -> tuple[Array, Array, Array, Array]:
    """Return four moments of t > 0 whose density is like exp(-a t - t^2 / 2); `half` is erfcx(a / sqrt 2) / 2."""
    with np.errstate(over="ignore"):
        m1 = 1.0 / (np.sqrt(2.0 * np.pi) * half) - a
    m2 = 1.0 - a * m1
    m3 = 2.0 * m1 - a * m2
    m4 = 3.0 * m2 - a * m3
    deep = a > DEEP
    if deep.any():
        rate, x = a[deep], a[deep] ** -2.0
        whole = np.polynomial.polynomial.polyval(x, _SERIES[0])
        for n, m in enumerate((m1, m2, m3, m4), 1):
            m[deep] = np.polynomial.polynomial.polyval(x, _SERIES[n]) / whole / rate**n
    return m1, m2, m3, m4


def _parts(points: int, k: int) -> Iterator[slice]:
    size = max(1, MOST_CELLS // k)
    for first in range(0, points, size):
        yield slice(first, first + size)
