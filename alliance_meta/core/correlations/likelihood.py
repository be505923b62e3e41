"""The exact sampling density of a correlation, and the random-effects model built on it.

Hotelling (1953) gives the density of r in a sample of n from a bivariate normal distribution with correlation
rho. On the scale of Fisher's z, with z = artanh r and theta = artanh rho, it becomes

    log f(r) = c(n) - (n - 3/2) log cosh(theta - z) - log cosh(theta) / 2 + (5/2) log cosh(z)
               + log 2F1(1/2, 1/2; n - 1/2; (1 + r rho) / 2),

in which nothing cancels, however large n. True effects theta_i ~ N(x_i'b, tau2) are integrated out by the
trapezoid rule around each study's mode: for an analytic integrand that falls off on both sides its error is
that of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.bayes.tabulated import LogLikelihood, Reach, Studies, grouped
from alliance_meta.core.correlations.pearson import SERIES_FROM, SERIES_TERMS, hyp2f1
from alliance_meta.core.dependent import IntArray

# Terms are dropped once their coefficient is below this.
NEGLIGIBLE = 1e-18
# The integrand is followed down to exp(-DEPTH) of its top, in steps of STEP standard deviations, WIDEST at most.
DEPTH = 38.0
STEP = 0.6
WIDEST = 0.16
# Studies are worked through in pieces of about this many nodes.
CHUNK = 1 << 19


@dataclass(frozen=True, eq=False)
class Correlations:
    """Correlations with what their likelihood needs."""

    # r, z, n (k,): correlation, its Fisher z, sample size.
    r: Array
    z: Array
    n: Array
    constant: Array  # (k,): what does not depend on theta
    # Tuple of (rows, coefficients): rows with the coefficients (m, J) of their power series, grouped by the number of
    # terms they need.
    series: tuple[tuple[AnyArray, Array], ...]
    small: AnyArray  # rows whose 2F1 is left to scipy

    def take(self, rows: AnyArray) -> Correlations:
        """Return some of the studies."""
        return correlations(self.r[rows], self.n[rows])


def correlations(r: Array, n: Array) -> Correlations:
    """Prepare r (k,), |r| < 1, with sample sizes n (k,), n >= 3."""
    r, n = np.asarray(r, dtype=float), np.asarray(n, dtype=float)
    z = np.arctanh(r)
    constant = np.log(n - 2.0) - _log_gamma_ratio(n - 1.0) - 0.5 * np.log(2.0 * np.pi) + 2.5 * _log_cosh(z)
    c = n - 0.5
    j = np.arange(SERIES_TERMS - 1.0)
    large = np.flatnonzero(c >= SERIES_FROM)
    steps = (0.5 + j) ** 2 / ((c[large, None] + j) * (j + 1.0))
    coefficients = np.multiply.accumulate(np.column_stack([np.ones(len(large)), steps]), axis=1)
    terms = (coefficients > NEGLIGIBLE).sum(axis=1)
    groups: list[tuple[AnyArray, Array]] = []
    for low, high in ((0, 8), (8, 14), (14, 24), (24, 40), (40, SERIES_TERMS)):
        here = np.flatnonzero((terms > low) & (terms <= high))
        if len(here):
            groups.append((large[here], coefficients[here, :high]))
    return Correlations(r, z, n, constant, tuple(groups), np.flatnonzero(c < SERIES_FROM))


def log_density(data: Correlations, theta: Array) -> Array:
    """Return the log density of each r at true effects theta, (k,) or (k, G), on the Fisher z scale."""
    flat = theta if theta.ndim == 2 else theta[:, None]
    z, n = data.z[:, None], data.n[:, None]
    size = np.abs(flat)
    decay = np.exp(-2.0 * size)
    x = 0.5 + 0.5 * data.r[:, None] * np.copysign((1.0 - decay) / (1.0 + decay), flat)
    out = (data.constant[:, None] + 0.5 * np.log(2.0)) - (n - 1.5) * _log_cosh(flat - z)
    out -= 0.5 * (size + np.log1p(decay))
    for rows, coefficients in data.series:
        here = x[rows]
        total = np.full(here.shape, coefficients[:, -1:])
        for column in coefficients.T[-2::-1]:
            total *= here
            total += column[:, None]
        out[rows] += np.log(total)
    if len(data.small):
        rows = data.small
        out[rows] += np.log(special.hyp2f1(0.5, 0.5, n[rows] - 0.5, x[rows]))
    return out if theta.ndim == 2 else out[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """Log-likelihood of each study with its derivatives in mu_i and tau2; every array is (k,)."""

    # value, mu, tau2: log-likelihood and first derivatives.
    value: Array
    mu: Array
    tau2: Array
    # mu_mu, mu_tau2, tau2_tau2: second derivatives.
    mu_mu: Array
    mu_tau2: Array
    tau2_tau2: Array


def marginal(data: Correlations, mu: Array, tau2: float) -> Marginal:
    """Integrate theta_i ~ N(mu_i, tau2) out of the density of each r; `mu` is (k,), `tau2` >= 0."""
    if not tau2 > 0:
        return _no_spread(data, mu)
    low, high, widest = _reach(data, mu, tau2)
    G = int(np.ceil(np.max((high - low) / widest))) + 1
    size = max(1, CHUNK // G)
    if size >= len(mu):
        return _integrate(data, mu, tau2, low, high, G)
    pieces = [np.arange(start, min(start + size, len(mu))) for start in range(0, len(mu), size)]
    parts = [_integrate(data.take(rows), mu[rows], tau2, low[rows], high[rows], G) for rows in pieces]
    return Marginal(*(np.concatenate([getattr(part, name) for part in parts]) for name in Marginal.__slots__))


def log_marginal(data: Correlations, mu: Array, tau: Array) -> Array:
    """Return log-likelihoods with true effects integrated out, (S, k), at means (S, k) and deviations (S,)."""
    out = np.empty(mu.shape)
    # Nearer to 0 the deviation changes nothing that could be seen.
    variance = np.maximum(tau, 1e-6) ** 2
    columns = replace(data, z=data.z[:, None], n=data.n[:, None])
    size = max(1, CHUNK // (64 * mu.shape[1]))
    for start in range(0, len(mu), size):
        part = slice(start, start + size)
        out[part] = _log_marginal(data, columns, mu[part].T, variance[part]).T
    return out


def _log_marginal(data: Correlations, columns: Correlations, mu: Array, tau2: Array) -> Array:
    low, high, widest = _reach(columns, mu, tau2)
    G = int(np.ceil(np.max((high - low) / widest))) + 1
    theta = low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, G)
    height = log_density(data, theta.reshape(len(mu), -1)).reshape(theta.shape)
    height -= 0.5 * (theta - mu[..., None]) ** 2 / tau2[:, None]
    top = height.max(axis=-1)
    total = np.exp(height - top[..., None]).sum(axis=-1)
    return top + np.log(total * (high - low) / (G - 1)) - 0.5 * np.log(2.0 * np.pi * tau2)


def _integrate(data: Correlations, mu: Array, tau2: float, low: Array, high: Array, G: int) -> Marginal:
    tau = np.sqrt(tau2)
    theta = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, G)
    x = (theta - mu[:, None]) / tau
    height = log_density(data, theta) - 0.5 * x**2
    top = height.max(axis=1, keepdims=True)
    weight = np.exp(height - top)
    total = weight.sum(axis=1)
    value = top[:, 0] + np.log(total * (high - low) / (G - 1)) - 0.5 * np.log(2.0 * np.pi * tau2)
    weight /= total[:, None]
    # Moments about the posterior mean keep their digits where tau2 is small.
    first = np.einsum("kg,kg->k", weight, x)
    centred = x - first[:, None]
    square = weight * centred**2
    m2 = square.sum(axis=1)
    m3 = np.einsum("kg,kg->k", square, centred)
    m4 = np.einsum("kg,kg->k", square, centred**2)
    second = m2 + first**2
    var_square = m4 - m2**2 + 4.0 * first * m3 + 4.0 * first**2 * m2
    return Marginal(
        value=value,
        mu=first / tau,
        tau2=(second - 1.0) / (2.0 * tau2),
        mu_mu=(m2 - 1.0) / tau2,
        mu_tau2=(0.5 * (m3 + 2.0 * first * m2) - first) / (tau2 * tau),
        tau2_tau2=(0.25 * var_square - second + 0.5) / tau2**2,
    )


def _no_spread(data: Correlations, mu: Array) -> Marginal:
    """Return the limit for tau2 -> 0; the last two derivatives are stand-ins that only steer a search."""
    value = log_density(data, mu)
    first, second = _slopes(data, mu)
    precision = data.n - 1.5
    return Marginal(value, first, 0.5 * (second + first**2), second, np.zeros_like(mu), -0.5 * precision**2)


def _slopes(data: Correlations, theta: Array) -> tuple[Array, Array]:
    """Return the first two derivatives of the log density in theta, (k,)."""
    rho = np.tanh(theta)
    x, c = 0.5 * (1.0 + data.r * rho), data.n - 0.5
    F = hyp2f1(0.5, c, x)
    one = 0.25 / c * hyp2f1(1.5, c + 1.0, x) / F
    two = 0.5625 / (c * (c + 1.0)) * hyp2f1(2.5, c + 2.0, x) / F - one**2
    slope = 0.5 * data.r * (1.0 - rho**2)
    t = np.tanh(theta - data.z)
    first = -(data.n - 1.5) * t - 0.5 * rho + one * slope
    second = -(data.n - 1.5) * (1.0 - t**2) - 0.5 * (1.0 - rho**2) + two * slope**2 - 2.0 * one * slope * rho
    return first, second


def _reach(data: Correlations, mu: Array, tau2: float | Array) -> tuple[Array, Array, Array]:
    """Return where each integrand begins and ends, and the widest step it allows."""
    m = data.n - 1.5
    s = 1.0 / np.sqrt(m + 1.0 / tau2)
    mode = (m * data.z + mu / tau2) * s**2
    for _ in range(12):
        t = np.tanh(mode - data.z)
        mode = mode + (-m * t - (mode - mu) / tau2) / (m * (1.0 - t**2) + 1.0 / tau2)
    top = _outline(mode, data, mu, tau2)
    ends = []
    for side in (-1.0, 1.0):
        # The curvature is at least 1 / tau2, so this lies outside; Newton's steps on a concave curve stay there.
        end = mode + side * np.sqrt(2.0 * DEPTH * tau2)
        for _ in range(8):
            slope = -m * np.tanh(end - data.z) - (end - mu) / tau2
            end = end - (_outline(end, data, mu, tau2) - top + DEPTH) / slope
        ends.append(end)
    return ends[0], ends[1], np.minimum(STEP * s, WIDEST)


def _outline(theta: Array, data: Correlations, mu: Array, tau2: float | Array) -> Array:
    return -(data.n - 1.5) * _log_cosh(theta - data.z) - 0.5 * (theta - mu) ** 2 / tau2


def _log_cosh(x: Array) -> Array:
    """Return log cosh x without cancellation near 0 or overflow far out."""
    size = np.abs(x)
    near = np.minimum(size, 300.0)
    return np.log1p(2.0 * np.sinh(0.5 * near) ** 2) + (size - near)


def _log_gamma_ratio(m: Array) -> Array:
    """Return log Gamma(m + 1/2) - log Gamma(m); its asymptotic series from m = 50 on, exact to rounding."""
    large = np.maximum(m, 50.0)
    tail = -1.0 / (8.0 * large) + 1.0 / (192.0 * large**3) - 1.0 / (640.0 * large**5) + 17.0 / (14336.0 * large**7)
    direct = special.gammaln(np.minimum(m, 50.0) + 0.5) - special.gammaln(np.minimum(m, 50.0))
    return np.where(m < 50.0, direct, 0.5 * np.log(large) + tail)


NODES = 10


def hypergeometric_nodes(n: Array, *, nodes: int = NODES) -> tuple[Array, Array]:
    """Return nodes t and weights w, (k, nodes): 2F1(1/2, 1/2; n - 1/2; x) = sum of w / sqrt(1 - x t)."""
    j = np.arange(1.0, nodes + 1.0)
    a, b = 0.5, np.asarray(n, dtype=float)[:, None] - 1.0
    # Canonical moments of the Beta distribution: no difference is taken, so that nothing cancels for large n.
    canonical = np.empty((b.shape[0], 2 * nodes))
    canonical[:, 0::2] = (a + j - 1.0) / (a + b + 2.0 * j - 2.0)
    canonical[:, 1::2] = j / (a + b + 2.0 * j - 1.0)
    zeta = canonical.copy()
    zeta[:, 1:] *= 1.0 - canonical[:, :-1]
    diagonal = zeta[:, 0::2].copy()
    diagonal[:, 1:] += zeta[:, 1:-1:2]
    i = np.arange(nodes)
    jacobi = np.zeros((b.shape[0], nodes, nodes))
    jacobi[:, i, i] = diagonal
    jacobi[:, i[1:], i[:-1]] = np.sqrt(zeta[:, 0:-2:2] * zeta[:, 1:-1:2])
    t, vectors = np.linalg.eigh(jacobi)
    return t, vectors[:, 0, :] ** 2


def tabulated_correlations(r: Array, n: Array) -> tuple[Studies, ...]:
    """Return the likelihoods of r (k,) with n (k,) >= 4 as densities of Fisher's z."""
    data, m = correlations(r, n), n - 1.5

    def likelihood(rows: IntArray) -> LogLikelihood:
        """Return the log-likelihood of some studies as a function of Fisher z."""
        some, step = data.take(rows), np.log1p(-(r[rows, None] ** 2))
        return lambda theta: log_density(some, theta) + step

    def reach(rows: IntArray) -> Reach:
        """Return how far from its top the likelihood of some studies falls by a depth."""
        # The density of r falls like cosh(theta - z)^-m.
        smallest = float(m[rows].min())

        def of(depth: float) -> float:
            """Return the distance in Fisher z."""
            fall = depth / smallest
            return fall + float(np.log1p(np.sqrt(-np.expm1(-2.0 * fall))))

        return of

    return grouped(1.0 / np.sqrt(m), data.z, reach, likelihood)


MAX_ITERATIONS = 200
# The gain still to be had, as Newton's quadratic model sees it, below which a climb is over.
GAIN = 1e-14
# An interval's limit is where the signed root of the deviance meets its quantile to within this.
LIMIT = 1e-9
# Of Fisher's z; steps beyond are shortened, for the integrals need ever more nodes.
MOST_TAU2 = 1e4


@dataclass(frozen=True, slots=True, eq=False)
class CorrelationFit:
    """The model theta_i ~ N(x_i'beta, tau2) fitted to correlations by maximum likelihood."""

    data: Correlations
    X: Array  # (k, p)
    beta: Array  # (p,)
    tau2: float
    loglik: float
    information: Array  # (p + 1, p + 1): observed information of beta and tau2
    converged: bool
    iterations: int

    @property
    def point(self) -> Array:
        """Coefficients and tau2 in one array, (p + 1,)."""
        return np.append(self.beta, self.tau2)

    @property
    def covariance(self) -> Array:
        """Inverse of the observed information, (p + 1, p + 1); NaN for tau2 on its boundary."""
        out = np.full(self.information.shape, np.nan)
        some = slice(None) if self.tau2 > 0 else slice(-1)
        basis = _directions(self.X, np.ones(len(out), dtype=bool))[some, some]
        out[some, some] = basis @ np.linalg.inv(basis.T @ self.information[some, some] @ basis) @ basis.T
        return out


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    point: Array
    value: float
    slope: Array
    information: Array


def fit_correlations(data: Correlations, X: Array, *, start: Array) -> CorrelationFit:
    """Maximise the likelihood from `start` (p + 1,): coefficients and tau2."""
    free = np.ones(len(start), dtype=bool)
    state, converged, iterations = _climb(data, X, start, free)
    # From a positive tau2 the climb may have missed a maximum at 0, and the other way round.
    other = start.copy()
    other[-1] = 0.0 if state.point[-1] > 0 else 1.0 / float(np.median(data.n))
    rival = _climb(data, X, other, free)
    if rival[0].value > state.value:
        state, converged, iterations = rival
    point = state.point
    return CorrelationFit(data, X, point[:-1], float(point[-1]), state.value, state.information, converged, iterations)


def profile_interval(fit: CorrelationFit, j: int, *, level: float) -> tuple[float, float]:
    """Return the values of parameter `j` whose profile deviance is below the chi-squared(1) quantile.

    `j` = p is tau2, whose lower limit is 0 where 0 is among these values.
    """
    z = float(special.ndtri(0.5 * (1.0 + level)))
    return _limit(fit, j, -z), _limit(fit, j, z)


def signed_root(fit: CorrelationFit, j: int, value: float) -> float:
    """Return the signed root of the deviance of parameter `j` at `value`, standard normal in large samples."""
    state = _profile(fit, j, value)
    deviance = max(0.0, 2.0 * (fit.loglik - state.value))
    return float(np.copysign(np.sqrt(deviance), fit.point[j] - value))


def _evaluate(data: Correlations, X: Array, point: Array) -> _State:
    found = marginal(data, X @ point[:-1], float(point[-1]))
    slope = np.append(X.T @ found.mu, found.tau2.sum())
    information = np.empty((len(point), len(point)))
    information[:-1, :-1] = -(X.T * found.mu_mu) @ X
    information[:-1, -1] = information[-1, :-1] = -(X.T @ found.mu_tau2)
    information[-1, -1] = -found.tau2_tau2.sum()
    return _State(point, float(found.value.sum()), slope, information)


def _directions(X: Array, free: Mask) -> Array:
    """Return directions (p + 1, f) in which the free parameters move the means by orthonormal columns, and tau2.

    In them years far from 0 cost few digits.
    """
    p = len(free) - 1
    moved = np.flatnonzero(free[:-1])
    out = np.zeros((p + 1, int(free.sum())))
    if moved.size:
        out[moved, : moved.size] = np.linalg.inv(np.linalg.qr(X[:, moved])[1])
    if free[-1]:
        out[-1, -1] = 1.0
    return out


def _climb(data: Correlations, X: Array, start: Array, free: Mask) -> tuple[_State, bool, int]:
    """Climb over the free parameters by Newton's method with tau2 kept at or above 0."""
    state = _evaluate(data, X, start)
    basis = _directions(X, free)
    for iteration in range(1, MAX_ITERATIONS + 1):
        held = free[-1] and state.point[-1] <= 0 and state.slope[-1] <= 0
        ways = basis[:, :-1] if held else basis
        if not ways.size:
            return state, True, iteration
        values, vectors = np.linalg.eigh(ways.T @ state.information @ ways)
        size = np.maximum(np.abs(values), 1e-10 * np.abs(values).max())
        step = ways @ (vectors @ ((vectors.T @ (ways.T @ state.slope)) / size))
        gain = 0.5 * float(state.slope @ step)
        if gain <= GAIN * (1.0 + abs(state.value)):
            return _last(data, X, state, step), True, iteration
        better = _shortened(data, X, state, step, gain)
        if better is None:
            return state, gain < 1e-8 * (1.0 + abs(state.value)), iteration
        state = better
    return state, False, MAX_ITERATIONS


def _last(data: Correlations, X: Array, state: _State, step: Array) -> _State:
    """Take Newton's last step, which squares the error that is left, unless it leaves the range."""
    point = state.point + step
    return _evaluate(data, X, point) if 0 <= point[-1] <= MOST_TAU2 and np.any(step) else state


def _shortened(data: Correlations, X: Array, state: _State, step: Array, gain: float) -> _State | None:
    share = 1.0
    for _ in range(50):
        point = state.point + share * step
        point[-1] = max(point[-1], 0.0)
        if point[-1] <= MOST_TAU2:
            trial = _evaluate(data, X, point)
            if trial.value >= state.value + 1e-4 * share * gain:
                return trial
        share *= 0.5
    return None


def _profile(fit: CorrelationFit, j: int, value: float, near: Array | None = None) -> _State:
    """Return the maximum over all other parameters with parameter `j` at `value`."""
    start = (fit.point if near is None else near).copy()
    start[j] = value
    free = np.ones(len(start), dtype=bool)
    free[j] = False
    return _climb(fit.data, fit.X, start, free)[0]


def _limit(fit: CorrelationFit, j: int, z: float) -> float:
    """Return the value of parameter `j` at which the signed root of its deviance is -z."""
    bounded = j == len(fit.beta)
    estimate = float(fit.point[j])
    if bounded and z < 0 and (estimate <= 0 or signed_root(fit, j, 0.0) <= -z):
        return 0.0
    variance = float(fit.covariance[j, j])
    spread = np.sqrt(variance) if variance > 0 else 1.0 / float(np.median(fit.data.n))
    inside, outside = estimate, np.nan
    value, near = estimate + z * spread, fit.point
    if bounded and value <= 0:
        value = 0.5 * estimate
    for _ in range(100):
        state = _profile(fit, j, value, near)
        near = state.point
        root = np.sqrt(max(0.0, 2.0 * (fit.loglik - state.value)))
        if abs(root - abs(z)) < LIMIT:
            return value
        if root < abs(z):
            inside = value
        else:
            outside = value
        # By the envelope theorem the profile's slope is the score of the parameter itself.
        slope = -float(state.slope[j]) / root if root > 0 else np.nan
        new = value + (abs(z) - root) / slope if slope else np.nan
        value = _kept_inside(new, inside, outside, z * spread, bounded=bounded)
        if np.isfinite(outside) and abs(outside - inside) <= 1e-14 * (abs(value) + spread):
            break
    return value


def _kept_inside(new: float, inside: float, outside: float, stride: float, *, bounded: bool) -> float:
    """Return Newton's proposal where it lies between the brackets, else a point that does."""
    if np.isfinite(outside):
        between = min(inside, outside) < new < max(inside, outside)
        return new if between else 0.5 * (inside + outside)
    farther = inside + 4.0 * stride
    if np.isfinite(new) and (new - inside) * stride > 0 and abs(new - inside) < abs(4.0 * stride):
        farther = new
    return max(farther, 0.25 * inside) if bounded and stride < 0 else farther
