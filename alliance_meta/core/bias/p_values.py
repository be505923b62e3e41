"""Methods that rest on p-values alone: p-curve, p-uniform* and z-curve.

p-curve: whether significant p-values spread as those of true effects, of none, or of weak tests do.

Simonsohn, Nelson & Simmons (2014, doi:10.1037/a0033242) and Simonsohn, Simmons & Nelson (2015, doi:10.1037/xge0000104):
each p-value is put into its place among the significant ones of a test with a given power, and the places are added as
normal scores (Stouffer). All tests are z tests here: |z| has a folded normal distribution.

p-uniform* and p-uniform: a mean from the effects, given only which of them were significant.

p-uniform* (van Aert & van Assen 2025, doi:10.31222/osf.io/zqjr9) takes each effect from a normal distribution cut off
at its own critical value: above it where the effect was significant, below it where it was not. How much more often
significant effects are published then drops out. With s^2 = v + tau2, u = (y - mu) / s, a = +-(mu - cut) / s and
lambda = phi(a) / Phi(a) the log-likelihood is sum(-log s - u^2 / 2 - log Phi(a)). For a given tau2 it is concave in mu;
so every search here is one over tau2 alone.

z-curve 2.0: how powerful published tests were, from the sizes of the significant z values.

Bartos & Schimmack (2022, doi:10.15626/MP.2021.2720). Significant |z| up to 6 come from a mixture of seven normal
distributions with means 0, 1, ..., 6 and variance 1, folded at 0 and cut off at the critical value and at 6; a larger
|z| stands for a power of 1. What is estimated are the seven weights. Their likelihood is concave, and so the highest
point is found by interior steps of Newton's instead of the thousands of steps of the EM algorithm; all replicates of a
bootstrap are solved at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, pi, sqrt

import numpy as np
from scipy import interpolate, optimize, sparse, special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import chi2_quantile, chi2_sf, critical_value, half_mixture_p, likelihood_ratio
from alliance_meta.core.resampling import Refits, draw_counts, in_blocks, stream

THIRD = 1.0 / 3.0
# The app of the authors keeps places that far from 0 and 1, and looks for powers between these.
NEAREST = 2.2e-16
HIGHEST_POWER = 0.99
# Just above that of a test without effect, as a multiple of it.
LOWEST = 1.02


def above(z: Array | float, shift: float) -> Array:
    """Return P(|Z + shift| >= z)."""
    return np.asarray(special.ndtr(shift - z) + special.ndtr(-shift - z))


def shift_of(power: float, critical: float) -> float:
    """Return the mean of z that gives a two-sided test this power."""
    if float(above(critical, 0.0)) >= power:
        return 0.0
    return float(optimize.brentq(lambda shift: float(above(critical, shift)) - power, 0.0, critical + 8.0, xtol=1e-14))


@dataclass(frozen=True, slots=True)
class Skew:
    """Tests of one hypothesis: z and p of all significant results, of the half below alpha / 2, and by counting.

    The p of `half` is NaN where no p-value lies below alpha / 2.
    """

    full: float
    full_p: float
    half: float
    half_p: float
    binomial_p: float


@dataclass(frozen=True, slots=True)
class PCurve:
    """What p-curve finds."""

    # right, flat: of no effect (a flat curve), in favour of a curve skewed to the right; of a power of a third, in
    # favour of a flatter curve.
    right: Skew
    flat: Skew
    low: int  # p-values below alpha / 2
    # power, power_lb, power_ub: average power, and limits that are those of the search where the curve allows no
    # others.
    power: float
    power_lb: float
    power_ub: float


def p_curve(z: Array, *, alpha: float, level: float) -> PCurve:
    """Return the tests and the power of results |z| (k,), all significant at `alpha`, two-sided."""
    critical, halfway = critical_value(1.0 - alpha, None), critical_value(1.0 - 0.5 * alpha, None)
    k, low = len(z), z[z > halfway]
    third = shift_of(THIRD, critical)
    # At least as many low ones as without effect; at most as many as with a power of a third.
    counted = special.bdtrc(len(low) - 1, k, 0.5) if len(low) else 1.0
    right = _skew(above(z, 0.0) / alpha, above(low, 0.0) / (0.5 * alpha), float(counted))
    share = float(above(halfway, third))
    counted = special.bdtr(len(low), k, share / THIRD)
    flat = _skew(1.0 - above(z, third) / THIRD, 1.0 - above(low, third) / share, float(counted))

    def fit(power: float) -> float:
        """Return the normal score of a curve as steep as this one, or less, at a power: it falls as power rises."""
        return stouffer(1.0 - above(z, shift_of(power, critical)) / power)

    def power_at(score: float) -> float:
        lowest = LOWEST * alpha
        if fit(lowest) <= score:
            return alpha
        return (
            HIGHEST_POWER
            if fit(HIGHEST_POWER) >= score
            else float(optimize.brentq(lambda f: fit(f) - score, lowest, HIGHEST_POWER))
        )

    tail = float(special.ndtri(0.5 * (1.0 + level)))
    return PCurve(right, flat, len(low), power_at(0.0), power_at(tail), power_at(-tail))


def _skew(full: Array, half: Array, counted: float) -> Skew:
    """Return the tests of places of all results and of those of the half, and the p-value of counting."""
    scores = stouffer(full), stouffer(half) if len(half) else np.nan
    return Skew(scores[0], float(special.ndtr(scores[0])), scores[1], float(special.ndtr(scores[1])), counted)


def stouffer(places: Array) -> float:
    """Return the sum of the normal scores of places between 0 and 1, as a standard normal variable."""
    return float(special.ndtri(np.clip(places, NEAREST, 1.0 - NEAREST)).sum()) / sqrt(len(places))


def shares(z: Array, *, alpha: float, bins: int, power: float) -> tuple[Array, Array]:
    """Return the share of p-values in each of the equal parts of (0, alpha), found and expected at a power, (bins,)."""
    critical = critical_value(1.0 - alpha, None)
    edges = -special.ndtri(0.5 * alpha * np.arange(bins + 1) / bins)
    expected = np.diff(above(edges, shift_of(power, critical))) / power
    found = np.histogram(z, bins=edges[::-1])[0][::-1] / len(z)
    return found, expected


# tau is searched from 0 to FARTHEST times the largest effect or standard error.
GRID, FINEST, FARTHEST = 40, 0.05, 10.0
# A mean this many times as large is where rounding leaves nothing of the slopes: effects at their critical values.
AWAY = 1e4
SEARCH_STEPS = 100
STOP = 1e-13
# Of a search by values: what is lowest is then known to the square of it.
NARROW = 1e-5
# Below it the variance of the cut-off normal distribution comes from its series: the formula would lose its digits.
FAR_TAIL = -50.0
HALF_LOG_2PI = 0.5 * log(2.0 * pi)


@dataclass(frozen=True, slots=True, eq=False)
class CutNormal:
    """Effects y and variances v with critical values, all (k,); `above` says which effects exceed theirs."""

    y: Array
    v: Array
    cut: Array
    above: Mask

    def parts(self, mu: Array, tau2: Array) -> tuple[Array, Array, Array, Array]:
        """Return s, u, a and lambda, (G, k), at mu and tau2 (G,)."""
        s = np.sqrt(self.v + tau2[:, None])
        side = np.where(self.above, 1.0, -1.0)
        a = side * (mu[:, None] - self.cut) / s
        return s, (self.y - mu[:, None]) / s, a, sqrt(2.0 / pi) / special.erfcx(-a / sqrt(2.0))

    def loglik(self, mu: Array, tau2: Array) -> Array:
        """Return the log-likelihood, (G,)."""
        s, u, a, _ = self.parts(mu, tau2)
        return -(np.log(s) + 0.5 * u * u + special.log_ndtr(a) + HALF_LOG_2PI).sum(axis=1)

    def slopes(self, mu: Array, tau2: Array) -> tuple[Array, Array, Array]:
        """Return the first derivatives by mu and tau2 and minus the second by mu, each (G,)."""
        s, u, a, lam = self.parts(mu, tau2)
        by_mu = ((u - np.where(self.above, lam, -lam)) / s).sum(axis=1)
        by_tau2 = (0.5 * (u * u + a * lam - 1.0) / s**2).sum(axis=1)
        return by_mu, by_tau2, (spread(a, lam) / s**2).sum(axis=1)

    def information(self, mu: float, tau2: float) -> Array:
        """Return minus the second derivatives by mu and tau2, (2, 2)."""
        s, u, a, lam = (part[0] for part in self.parts(np.array([mu]), np.array([tau2])))
        rest = spread(a, lam)
        side = np.where(self.above, lam, -lam)
        cross = (2.0 * u - side * (1.0 - a * (a + lam))) / (2.0 * s**3)
        by_tau2 = (4.0 * u * u - 2.0 - a * lam * (a * (a + lam) - 3.0)) / (4.0 * s**4)
        m, c, t = (float(part.sum()) for part in (rest / s**2, cross, by_tau2))
        return np.array([[m, c], [c, t]])

    def best_mu(self, tau2: Array, start: Array) -> Array:
        """Return the mu of the highest likelihood for each tau2, (G,): Newton's steps inside a shrinking bracket."""
        mu, low, high = start.copy(), np.full(len(tau2), -inf), np.full(len(tau2), inf)
        longest = 8.0 * np.sqrt(self.v.max() + tau2)
        left: AnyArray = np.arange(len(tau2))
        for _ in range(SEARCH_STEPS):
            slope, _, curvature = self.slopes(mu[left], tau2[left])
            low[left] = np.where(slope >= 0, mu[left], low[left])
            high[left] = np.where(slope <= 0, mu[left], high[left])
            move = np.clip(slope / curvature, -longest[left], longest[left])
            new = mu[left] + move
            # A step goes the way of the slope, so what it passes is a point that was seen.
            passed = (new < low[left]) | (new > high[left])
            new[passed] = 0.5 * (low[left] + high[left])[passed]
            done = np.abs(new - mu[left]) <= STOP * (np.abs(new) + longest[left])
            longest[left] *= 2.0
            mu[left] = new
            left = left[~done]
            if not len(left):
                break
        return mu

    def edge_mu(self, tau2: Array, start: Array, height: float) -> Array:
        """Return the mu at which the likelihood has fallen to `height`, (G,), from a start on that side of its top.

        The likelihood is concave, so Newton's steps from outside come back without passing the edge.
        """
        mu = start.copy()
        for _ in range(SEARCH_STEPS):
            slope, _, _ = self.slopes(mu, tau2)
            gap = self.loglik(mu, tau2) - height
            move = np.divide(gap, slope, out=np.zeros_like(gap), where=slope != 0)
            mu -= move
            if np.all(np.abs(move) <= STOP * (np.abs(mu) + np.sqrt(self.v.max()))):
                break
        return mu


def spread(a: Array, lam: Array) -> Array:
    """Return the variance of a standard normal variable cut off at -a, 1 - lambda (a + lambda)."""
    far = 1.0 / np.minimum(a, FAR_TAIL) ** 2
    return np.where(a < FAR_TAIL, far - 6.0 * far**2, 1.0 - lam * (a + lam))


@dataclass(frozen=True, slots=True)
class PUniformStar:
    """What p-uniform* finds."""

    # mu, tau2, loglik, se: the estimates, NaN where the likelihood has no highest point; the standard error from its
    # curvature.
    mu: float
    tau2: float
    loglik: float
    se: float
    # ci_lb, ci_ub, tau2_lb, tau2_ub: profile-likelihood limits; infinite where it never falls far enough.
    ci_lb: float
    ci_ub: float
    tau2_lb: float
    tau2_ub: float
    # stat, pval: likelihood-ratio test of mu = 0, chi-squared with 1 df.
    stat: float
    pval: float
    # stat_tau2, pval_tau2: the same of tau2 = 0, whose chi-squared is halved.
    stat_tau2: float
    pval_tau2: float


NO_PEAK = PUniformStar(*([np.nan] * 12))


def p_uniform_star(y: Array, v: Array, critical: float | Array, *, level: float) -> PUniformStar:
    """Return the estimates from effects y (k,) that are significant where y > critical sqrt(v)."""
    cut = critical * np.sqrt(v)
    model = CutNormal(y, v, cut, y > cut)
    largest = max(float(np.abs(y).max()), sqrt(v.max()))
    grid = np.append(0.0, np.geomspace(FINEST * np.sqrt(v.min()), FARTHEST * largest, GRID) ** 2)
    top = model.best_mu(grid, np.full(len(grid), float(y.mean())))
    height = model.loglik(top, grid)
    peak = int(np.argmax(height))
    if peak == GRID or abs(top[peak]) > AWAY * largest:
        return NO_PEAK
    mu, tau2 = _summit(model, grid, top, peak)
    loglik = _at(model, mu, tau2)
    at = int(np.searchsorted(grid, tau2))
    profile = Profile(model, np.insert(grid, at, tau2), np.insert(top, at, mu), np.insert(height, at, loglik))
    limits = profile.limits(loglik - 0.5 * chi2_quantile(level, 1))
    null = model.loglik(np.zeros(len(grid)), grid)
    without = -_lowest(lambda t: -_at(model, 0.0, t), grid, -null)[1]
    stat, stat_tau2 = likelihood_ratio(loglik, without), likelihood_ratio(loglik, float(height[0]))
    tests = stat, chi2_sf(stat, 1), stat_tau2, half_mixture_p(stat_tau2, 1)
    return PUniformStar(mu, tau2, loglik, _standard_error(model, mu, tau2), *limits, *tests)


def _at(model: CutNormal, mu: float, tau2: float) -> float:
    return float(model.loglik(np.array([mu]), np.array([tau2]))[0])


def _standard_error(model: CutNormal, mu: float, tau2: float) -> float:
    information = model.information(mu, tau2)
    determinant = float(np.linalg.det(information)) if tau2 > 0 else float(information[0, 0])
    other = float(information[1, 1]) if tau2 > 0 else 1.0
    return sqrt(other / determinant) if determinant > 0 and other > 0 else np.nan


def _lowest(f: Callable[[float], float], grid: Array, values: Array) -> tuple[float, float]:
    """Return where a function is lowest and how low, given its values on a grid."""
    i = int(np.argmin(values))
    ends = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(f, bounds=ends, method="bounded", options={"xatol": NARROW * ends[1]})
    return (float(found.x), float(found.fun)) if found.fun < values[i] else (float(grid[i]), float(values[i]))


def _summit(model: CutNormal, grid: Array, top: Array, peak: int) -> tuple[float, float]:
    """Return mu and tau2 of the highest likelihood near a point of the grid."""
    if peak == 0 and model.slopes(top[:1], grid[:1])[1][0] <= 0:
        return float(top[0]), 0.0

    def best(tau2: float) -> float:
        return float(model.best_mu(np.array([tau2]), top[peak : peak + 1])[0])

    values = -model.loglik(top, grid)
    tau2, _ = _lowest(lambda t: -_at(model, best(t), t), grid, values)
    mu = best(tau2)
    # A search by values stops at half the digits; Newton's steps find the others.
    for _ in range(3):
        by_mu, by_tau2, _ = model.slopes(np.array([mu]), np.array([tau2]))
        information = model.information(mu, tau2)
        if np.linalg.eigvalsh(information)[0] <= 0:
            break
        move = np.linalg.solve(information, np.array([by_mu[0], by_tau2[0]]))
        if tau2 + move[1] <= 0:
            break
        mu, tau2 = mu + float(move[0]), tau2 + float(move[1])
    return mu, tau2


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """The likelihood at each tau2 of a grid: its highest point by mu (`top`) and the height there, all (G,)."""

    model: CutNormal
    grid: Array
    top: Array
    height: Array

    def limits(self, floor: float) -> tuple[float, float, float, float]:
        """Return the ends of what lies above `floor`: of mu, and of tau2."""
        inside = np.flatnonzero(self.height >= floor)
        first, last = int(inside[0]), int(inside[-1])
        low = 0.0 if first == 0 else self._crossing(first - 1, first, floor)
        high = inf if last == len(self.grid) - 1 else self._crossing(last, last + 1, floor)
        return self._edge(inside, floor, -1.0, high), self._edge(inside, floor, 1.0, high), low, high

    def _crossing(self, before: int, after: int, floor: float) -> float:
        def above(tau2: float) -> float:
            t = np.array([tau2])
            return float(self.model.loglik(self.model.best_mu(t, self.top[after : after + 1]), t)[0]) - floor

        return float(optimize.brentq(above, self.grid[before], self.grid[after], xtol=1e-15, rtol=1e-12))

    def _edge(self, inside: AnyArray, floor: float, side: float, high: float) -> float:
        """Return the farthest mu on one side that some tau2 keeps above the floor."""
        t, top = self.grid[inside], self.top[inside]
        away = np.sqrt(2.0 * (self.height[inside] - floor) / self.model.slopes(top, t)[2])
        edges = self.model.edge_mu(t, top + side * np.maximum(away, 1e-3 * np.sqrt(t + self.model.v.min())), floor)
        far = int(np.argmax(side * edges))
        if high == inf and far == len(t) - 1:
            return side * inf
        ends = np.append(t, high) if high < inf else t

        def edge(tau2: float) -> float:
            return -side * float(self.model.edge_mu(np.array([tau2]), edges[far : far + 1], floor)[0])

        values = np.append(-side * edges, inf) if high < inf else -side * edges
        return -side * _lowest(edge, ends, values)[1]


@dataclass(frozen=True, slots=True)
class PUniform:
    """What p-uniform finds: the mean and its limits, and one-sided tests of mean 0 and of no publication bias."""

    mu: float
    ci_lb: float
    ci_ub: float
    stat: float
    pval: float
    stat_bias: float
    pval_bias: float


def p_uniform(y: Array, v: Array, critical: float | Array, *, fixed: float, level: float) -> PUniform:
    """Return the mean at which the conditional p-values of significant effects y > critical sqrt(v) add up to k / 2.

    Method "P" of van Aert, Wicherts & van Assen (2016, doi:10.1177/1745691616650874). `fixed` is the equal-effects mean
    of all effects, whose fit to the significant ones is the test of bias.
    """
    s = np.sqrt(v)
    k, z = len(y), y / s

    def total(mu: float) -> float:
        """Return the sum of P(Z >= z) / P(Z >= critical), which rises from 0 to k as the mean rises."""
        return float(np.exp(special.log_ndtr(mu / s - z) - special.log_ndtr(mu / s - critical)).sum())

    def solve(target: float) -> float:
        """Return the mean at which the sum is `target`."""
        low, high = float(y.min()), float(y.max())
        while total(low) > target:
            low -= 2.0 * (high - low) + float(s.max())
        while total(high) < target:
            high += float(s.max())
        return float(optimize.brentq(lambda mu: total(mu) - target, low, high, xtol=1e-15, rtol=1e-13))

    tail = irwin_hall_quantile(0.5 * (1.0 - level), k)
    stat, stat_bias = ((total(mu) - 0.5 * k) / sqrt(k / 12.0) for mu in (0.0, fixed))
    return PUniform(
        solve(0.5 * k),
        solve(tail),
        solve(k - tail),
        stat,
        float(special.ndtr(stat)),
        stat_bias,
        float(special.ndtr(-stat_bias)),
    )


# From here on the quantile is Cornish and Fisher's, right to six digits.
MANY_UNIFORMS = 60


def irwin_hall_quantile(p: float, k: int) -> float:
    """Return the quantile of the sum of k uniform variables.

    Its density is a cardinal B-spline, and its distribution function a sum of those one degree higher.
    """
    z = float(special.ndtri(p))
    if k > MANY_UNIFORMS:
        return 0.5 * k + sqrt(k / 12.0) * (z - (z**3 - 3.0 * z) / (20.0 * k))
    spline = interpolate.BSpline.basis_element(np.arange(k + 2.0))

    def below(x: float) -> float:
        return float(spline(x - np.arange(np.floor(x) + 1.0)).sum()) - p

    return float(optimize.brentq(below, 0.0, float(k), xtol=1e-14, rtol=1e-13))


MEANS = np.arange(7.0)
HIGHEST_Z = 6.0
LEAST = 10
STEPS = 60
GAP = 1e-13
# The bootstrap takes more z values than MANY as equal where they round to the same FINE-th.
MANY, FINE = 2000, 500.0
# What the limits are widened by, found in simulations by the authors.
WIDER = {"err": 0.03, "edr": 0.05}


def densities(z: Array, critical: float) -> Array:
    """Return the density of each component at each |z|, (k, 7)."""
    away, back = (np.exp(-0.5 * (sign * z[:, None] - MEANS) ** 2) for sign in (1.0, -1.0))
    mass = special.ndtr(HIGHEST_Z - MEANS) - special.ndtr(critical - MEANS)
    mass += special.ndtr(-critical - MEANS) - special.ndtr(-HIGHEST_Z - MEANS)
    return (away + back) / (np.sqrt(2.0 * np.pi) * mass)


def mixture_weights(D: Array, counts: Array) -> Array:
    """Return the weights (B, 7) of the highest likelihood for densities (k, 7), row i counted counts[b, i] times.

    Primal-dual interior steps: the weights t and the slacks s of the slopes meet t s = 0 along a path on which each
    step solves seven equations.
    """
    share = counts / counts.sum(axis=1, keepdims=True)
    m = D.shape[1]
    upper, diagonal = np.triu_indices(m), np.arange(m)
    products = D[:, upper[0]] * D[:, upper[1]]
    t, s = np.full((len(share), m), 1.0 / m), np.ones((len(share), m))
    for _ in range(STEPS if len(t) else 0):
        density = t @ D.T
        ratio = share / density
        slope = ratio @ D - 1.0
        gap = (t * s).mean(axis=1, keepdims=True)
        if max(float(gap.max()), float(np.abs(slope + s).max())) < GAP:
            break
        target = 0.1 * gap
        A = np.empty((len(share), m, m))
        A[:, upper[0], upper[1]] = A[:, upper[1], upper[0]] = (ratio / density) @ products
        A[:, diagonal, diagonal] += s / t
        move = np.linalg.solve(A, (slope + target / t)[:, :, None])[:, :, 0]
        slack = target / t - s - s / t * move
        t, s = t + _longest(t, move) * move, s + _longest(s, slack) * slack
    return t / t.sum(axis=1, keepdims=True)


def _longest(x: Array, move: Array) -> Array:
    """Return the share of a step that stays inside x > 0, (B, 1)."""
    return 1.0 / np.maximum(1.0, (-move / x).max(axis=1, keepdims=True) / 0.995)


def rates(weights: Array, beyond: Array, critical: float) -> dict[str, Array]:
    """Return the expected replication and discovery rate, (B,), of weights (B, 7) and the share beyond 6 (B,)."""
    right, left = special.ndtr(MEANS - critical), special.ndtr(-MEANS - critical)
    power, same_side = np.append(right + left, 1.0), np.append(right, 1.0)
    share = np.concatenate([weights * (1.0 - beyond[:, None]), beyond[:, None]], axis=1)
    # Of all studies conducted, significant or not, the share of each component.
    conducted = share / power
    return {"err": share @ same_side, "edr": 1.0 / conducted.sum(axis=1)}


@dataclass(frozen=True, slots=True, eq=False)
class ZCurve:
    """What z-curve finds."""

    weights: Array  # (7,): of the components, among significant results up to 6
    beyond: float  # share of significant results beyond 6
    loglik: float  # log-likelihood of the z values up to 6, each study counting once
    # err, edr, odr: expected replication rate, expected and observed discovery rate.
    err: float
    edr: float
    odr: float
    limits: dict[str, tuple[float, float]]  # lower and upper limit of each; NaN where no replicate was used
    used: int  # replicates of the bootstrap that had a significant result up to 6


def z_curve(z: Array, study: IntArray, *, critical: float, level: float, iterations: int, seed: int) -> ZCurve:
    """Return the rates of |z| (k,); each study, (k,) and numbered from 0, counts once, and studies are resampled."""
    count = 1.0 / np.bincount(study)[study]
    fitted, beyond = (z > critical) & (z < HIGHEST_Z), z >= HIGHEST_Z
    D = densities(z[fitted], critical)
    weights = mixture_weights(D, count[None, fitted])
    total = float(count[fitted | beyond].sum())
    share = np.array([float(count[beyond].sum()) / total])
    found = rates(weights, share, critical)
    loglik = float(count[fitted] @ np.log(D @ weights[0]))
    J = int(study.max()) + 1
    odr = total / J
    limits = {"odr": wilson(odr, J, level=level)}
    drawn = _bootstrap(z, study, count, critical, iterations, seed)
    for name, values in drawn.items():
        ends = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
        low, high = np.quantile(values, ends) if len(values) else (np.nan, np.nan)
        least = float(2.0 * special.ndtr(-critical)) * (1.0 if name == "edr" else 0.5)
        limits[name] = max(float(low) - WIDER[name], least), min(float(high) + WIDER[name], 1.0)
    err, edr = (float(found[name][0]) for name in ("err", "edr"))
    return ZCurve(weights[0], float(share[0]), loglik, err, edr, odr, limits, len(drawn["err"]))


def _bootstrap(z: Array, study: IntArray, count: Array, critical: float, iterations: int, seed: int) -> Refits:
    """Return the rates of samples of studies."""
    chosen = z > critical
    values = z[chosen] if chosen.sum() <= MANY else np.round(z[chosen] * FINE) / FINE
    # A rounded value may not leave the interval that it is fitted on.
    inside = np.clip(values, critical, None)
    point, group = np.unique(
        np.where(z[chosen] < HIGHEST_Z, np.minimum(inside, HIGHEST_Z), np.inf), return_inverse=True
    )
    J = int(study.max()) + 1
    table = sparse.csr_array((count[chosen], (group, study[chosen])), shape=(len(point), J))
    finite = np.isfinite(point)
    D = densities(point[finite], critical)

    def task(block: int, start: int, stop: int) -> Refits:
        """Fit one block of samples of the studies."""
        counts = (table @ draw_counts(stream(seed, block), stop - start, J).T).T
        fitted, beyond = counts[:, finite], counts[:, ~finite].sum(axis=1)
        inside = fitted.sum(axis=1)
        some = inside > 0
        weights = mixture_weights(D, fitted[some])
        return rates(weights, beyond[some] / (beyond + inside)[some], critical)

    return in_blocks(task, B=iterations, k=max(len(point), J // 8))


def wilson(share: float, n: int, *, level: float) -> tuple[float, float]:
    """Return Wilson's limits of a share of n with continuity correction (Newcombe 1998, method 4), within 0 and 1."""
    c = critical_value(level, None)
    middle, width = 2.0 * n * share + c * c, 2.0 * (n + c * c)
    low = middle - 1.0 - c * np.sqrt(max(c * c - 2.0 - 1.0 / n + 4.0 * share * (n * (1.0 - share) + 1.0), 0.0))
    high = middle + 1.0 + c * np.sqrt(max(c * c + 2.0 - 1.0 / n + 4.0 * share * (n * (1.0 - share) - 1.0), 0.0))
    return (0.0 if share == 0.0 else max(float(low / width), 0.0)), (
        1.0 if share == 1.0 else min(float(high / width), 1.0)
    )


def soric(edr: float, alpha: float) -> float:
    """Return the largest share of false positives among significant results (Soric 1989)."""
    return (1.0 / edr - 1.0) * alpha / (1.0 - alpha)
