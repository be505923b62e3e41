"""Posteriors of the normal-normal model by brute force: thousands of panels over log(tau), in extended precision.

Shares nothing with the engine. Densities of tau are kernels here, normalised by the same sums, so that no constant of
a prior is taken on trust; given tau the coefficients are integrated by the textbook formulas, or over a grid of the
mean effect where its prior is a Student t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

import alliance_meta as am

Long = np.longdouble
DEEP = 60.0
LOWEST, HIGHEST = -690.0, 345.0
FINEST, FEWEST, MOST = 0.1, 200, 7000
X, W = np.polynomial.legendre.leggauss(16)
LOG_2PI = np.log(2 * Long(np.pi) + Long(2.4492935982947064e-16))

# u = log(tau) -> log density of tau, up to a constant
Kernel = Callable[[np.ndarray], np.ndarray]


def kernel(prior, v) -> tuple[Kernel, float]:
    """Return the log density of tau up to a constant, and its upper end; p(log tau) = p(tau) tau."""
    return _kernel(prior, v), float(prior.upper) if type(prior).__name__ == "Uniform" else np.inf


def _kernel(prior, v) -> Kernel:
    name = type(prior).__name__

    def get(field):
        return Long(getattr(prior, field))

    harmonic = len(v) / np.sum(1 / np.asarray(v, dtype=Long))
    if name == "HalfNormal":
        return lambda u: -0.5 * (np.exp(u) / get("scale")) ** 2
    elif name in ("HalfT", "HalfCauchy"):
        df = get("df") if name == "HalfT" else Long(1)
        return lambda u: -0.5 * (df + 1) * np.log1p(np.exp(2 * (u - np.log(get("scale")))) / df)
    elif name == "Exponential":
        return lambda u: -np.exp(u) / get("scale")
    elif name == "Lomax":
        return lambda u: -(get("shape") + 1) * np.log1p(np.exp(u) / get("scale"))
    elif name == "Gamma":
        a = get("shape")
        return lambda u: -u - a * _humped(u - np.log(a * get("scale")))
    elif name == "InverseGamma":
        a = get("shape")
        return lambda u: -u - a * _humped(np.log(get("scale") / a) - u)
    elif name == "LogNormal":
        return lambda u: -u - 0.5 * ((u - get("mean")) / get("sd")) ** 2
    elif name == "Uniform":
        return lambda u: 0 * u
    elif name == "DuMouchel":
        return lambda u: -2 * np.log(np.sqrt(harmonic) + np.exp(u))
    elif name == "Shrinkage":
        return lambda u: u - 2 * np.log(harmonic + np.exp(2 * u))
    elif name == "Jeffreys":
        return lambda u: u + 0.5 * np.log(sum(1 / (Long(one) + np.exp(2 * u)) ** 2 for one in v))
    elif name == "BergerDeely":
        return lambda u: u - sum(np.log(Long(one) + np.exp(2 * u)) for one in v) / len(v)
    raise AssertionError(f"no kernel of {name}")


def _humped(d):
    """Return exp(d) - 1 - d, also where it is small."""
    return np.where(np.abs(d) < 1e-2, d**2 * (0.5 + d * (Long(1) / 6 + d * (Long(1) / 24 + d / 120))), np.expm1(d) - d)


def panels(log_density: Callable, upper: float, order: int = 0, *, finest: float = FINEST) -> np.ndarray:
    """Return edges in u = log(tau) of panels over all that counts of a density and of its moment of this order."""
    end = float(np.log(upper)) if np.isfinite(upper) else HIGHEST
    ends = [_ends(lambda u, n=n: log_density(u) + (n + 1) * u, end) for n in (0, order)]
    low, high = min(one[0] for one in ends), max(one[1] for one in ends)
    top = np.log(Long(upper)) if high == end and np.isfinite(upper) else Long(high)
    return np.linspace(Long(low), top, int(np.clip((high - low) / finest, FEWEST, MOST)) + 1, dtype=Long)


def nodes(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss's nodes of u on panels, and the logs of their weights as values of tau."""
    half = np.diff(edges)[:, None] / 2
    u = (edges[:-1, None] + half * (1 + X.astype(Long))).ravel()
    return u, np.log((half * W.astype(Long)).ravel()) + u


def _ends(density: Callable, end: float) -> tuple[float, float]:
    """Return where a density of u has all but died away, by a look at a grid that closes in on its top."""
    u = np.linspace(LOWEST, end, 2001)
    for _ in range(30):
        h = density(u)
        near = np.flatnonzero(h > h.max() - DEEP)
        if len(near) > 100:
            break
        u = np.linspace(u[max(near[0] - 1, 0)], u[min(near[-1] + 1, len(u) - 1)], 301)
    return float(u[max(near[0] - 1, 0)]), float(u[min(near[-1] + 1, len(u) - 1)])


@dataclass(frozen=True, eq=False)
class Dense:
    """A posterior as a sum over nodes of tau, and of mu where that is on a grid.

    Attributes
    ----------
    log_evidence : float
    weight, tau : ndarray of shape (B,)
    mean : ndarray of shape (B, p)
        Of the coefficients given the node.
    cov : ndarray of shape (B, p, p)
    """

    log_evidence: float
    weight: np.ndarray
    tau: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    y: np.ndarray
    v: np.ndarray
    X: np.ndarray
    log_posterior: Callable
    edges: np.ndarray
    over_mu: OverMu | None = None

    def below(self, tau: float) -> float:
        """Return the probability of values up to tau: whole panels, and a part of one."""
        at = np.log(Long(tau))
        i = int(np.clip(np.searchsorted(self.edges, at) - 1, 0, len(self.edges) - 2))
        u, log_w = nodes(np.append(self.edges[: i + 1], at))
        return float(np.exp(self.log_posterior(u) + log_w).sum())

    def given(self, what: str, i: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance at each node of coefficient i, of a new effect at X = 0, of study i's effect."""
        if what == "coefficient":
            return self.mean[:, i], self.cov[:, i, i]
        if what == "new":
            return self.mean[:, 0], self.cov[:, 0, 0] + self.tau**2
        x, t2 = self.X[i], self.tau**2
        fitted, spread = self.mean @ x, np.einsum("i,bij,j->b", x, self.cov, x)
        away = self.v[i] / (self.v[i] + t2)
        return fitted + (1 - away) * (self.y[i] - fitted), t2 * away + away**2 * spread

    def moments(self, what: str, i: int = 0) -> tuple[float, float]:
        """Return mean and standard deviation, by the law of total variance."""
        if what == "tau":
            mean = self.weight @ self.tau
            return float(mean), float(np.sqrt(self.weight @ (self.tau - mean) ** 2))
        m, s2 = self.given(what, i)
        mean = self.weight @ m
        return float(mean), float(np.sqrt(self.weight @ (s2 + (m - mean) ** 2)))

    def cdf(self, x: float, what: str, i: int = 0) -> float:
        if self.over_mu is not None:
            return self.over_mu.cdf(x, None if what == "new" else i)
        m, s2 = self.given(what, i)
        return float(self.weight @ special.ndtr(((Long(x) - m) / np.sqrt(s2)).astype(float)))


def posterior(y, v, X, coefficients, tau_prior, *, order: int = 2) -> Dense:
    """Return the posterior; X has columns (1) or (1, x), the first prior may be a t, the others normal or flat."""
    y, v, X = (np.asarray(one, dtype=Long) for one in (y, v, X))
    log_prior, upper = kernel(tau_prior, v)
    log_norm = Long(0)
    if tau_prior.proper:
        u, log_w = nodes(panels(log_prior, upper))
        log_norm = _logsum(log_prior(u) + log_w)
    heavy = type(coefficients[0]).__name__ in ("StudentT", "Cauchy")

    def joint(u):
        loglik, mean, cov = _given(y, v, X, coefficients, np.exp(u))
        return log_prior(u) + loglik + (_about(coefficients[0], mean, cov) if heavy else 0)

    # Over mu as well the sum is long, and no moments are asked of it.
    edges = panels(joint, upper, 0, finest=5 * FINEST) if heavy else panels(joint, upper, order)
    u, log_w = nodes(edges)
    loglik, mean, cov = _given(y, v, X, coefficients, np.exp(u))
    logs = log_prior(u) + loglik + log_w
    if heavy:
        over_mu = OverMu(y, v, coefficients[0], np.exp(u), logs, mean, cov)
        nothing = np.zeros(0)
        return Dense(float(over_mu.total - log_norm), *[nothing] * 4, y, v, X, lambda u: nothing, nothing, over_mu)
    total = _logsum(logs)
    tau = np.exp(u)
    weight = np.exp(logs - total)
    return Dense(float(total - log_norm), weight, tau, mean, cov, y, v, X, lambda u: joint(u) - total, edges)


def _logsum(logs):
    top = logs.max()
    return top + np.log(np.exp(logs - top).sum())


def _given(y, v, X, coefficients, tau):
    """Return the log likelihood, and mean and covariance of the coefficients, at each tau; a t prior counts as flat."""
    p = X.shape[1]
    normal = np.array([type(one).__name__ == "Normal" for one in coefficients])
    P = np.array([1 / Long(one.sd) ** 2 if type(one).__name__ == "Normal" else Long(0) for one in coefficients])
    m = np.array([Long(one.mean) if type(one).__name__ == "Normal" else Long(0) for one in coefficients])
    total = v + tau[:, None] ** 2
    w = 1 / total
    A = np.einsum("bk,ki,kj->bij", w, X, X) + np.diag(P)
    det = A[:, 0, 0] if p == 1 else A[:, 0, 0] * A[:, 1, 1] - A[:, 0, 1] ** 2
    cov = 1 / A if p == 1 else np.stack([A[:, 1, 1], -A[:, 0, 1], -A[:, 0, 1], A[:, 0, 0]], axis=1).reshape(-1, 2, 2)
    cov = cov if p == 1 else cov / det[:, None, None]
    mean = np.einsum("bij,bj->bi", cov, np.einsum("bk,ki->bi", w * y, X) + P * m)
    residual = y - mean @ X.T
    squares = (w * residual**2).sum(axis=1) + (P * (mean - m) ** 2).sum(axis=1)
    flat = p - sum(normal)
    logs = (len(y) - flat) * LOG_2PI + np.log(total).sum(axis=1) - np.log(P[P > 0]).sum() + np.log(det) + squares
    return -0.5 * logs, mean, cov


def _about(prior, mean, cov):
    """Return about how much a t prior takes away at each tau, only to find where the mass is.

    At the data's mean where the likelihood is narrow, as a normal prior where it is wide; the larger of the two.
    """
    df, scale = Long(getattr(prior, "df", 1.0)), Long(prior.scale)
    away, wide = (mean[:, 0] - Long(prior.mean)) ** 2, cov[:, 0, 0] / scale**2
    narrow = -0.5 * (df + 1) * np.log1p((away / scale**2 + wide) / df)
    return np.maximum(narrow, -0.5 * np.log1p(wide) - 0.5 * away / (scale**2 + cov[:, 0, 0]))


class OverMu:
    """The posterior under a t prior of the mean effect mu: at each tau mu is on a grid of Gauss's panels."""

    DEEPEST, POINTS = 60.0, 12

    def __init__(self, y, v, prior, tau, logs, mean, cov) -> None:
        self.y, self.v, self.df = y.astype(float), v.astype(float), float(getattr(prior, "df", 1.0))
        self.middle, self.scale = float(prior.mean), float(prior.scale)
        base = logs.astype(float)
        sd = np.sqrt(cov[:, 0, 0]).astype(float)
        kept = base > base.max() - self.DEEPEST
        self.base, self.tau, self.sd = base[kept], tau[kept].astype(float), sd[kept]
        self.c = mean[kept, 0].astype(float)
        joint = self._grid(np.empty((len(self.c), 0)))[1]
        self.top = joint.max()
        each = np.exp(joint - self.top).sum(axis=1)
        self.total = Long(self.top + np.log(each.sum()))
        # Of the nodes of tau, those that a probability can show.
        self.shown = np.flatnonzero(each > 1e-18 * each.max())

    def _grid(self, further: np.ndarray, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return mu and the log of its mass at each tau, on panels around both middles and at `further` edges."""
        c, sd, base = (one[rows, None] for one in (self.c, self.sd, self.base))
        near, far = np.linspace(-13.0, 13.0, 27), np.linspace(-40.0, 40.0, 81)
        low, high = c - 13 * sd, c + 13 * sd
        apart = np.broadcast_to(self.middle + self.scale * np.sinh(far), (len(c), len(far)))
        edges = np.concatenate([c + sd * near, np.clip(apart, low, high), np.clip(further, low, high)], axis=1)
        edges.sort(axis=1)
        width = np.diff(edges, axis=1)
        some = np.flatnonzero(width.any(axis=0))
        half = 0.5 * width[:, some, None]
        at, of = np.polynomial.legendre.leggauss(self.POINTS)
        mu = (edges[:, some, None] + half * (1.0 + at)).reshape(len(c), -1)
        with np.errstate(divide="ignore"):
            log_w = np.log((half * of).reshape(len(c), -1))
        df = self.df
        constant = special.gammaln(0.5 * df + 0.5) - special.gammaln(0.5 * df) - 0.5 * np.log(np.pi * df)
        t = constant - np.log(self.scale) - 0.5 * (df + 1) * np.log1p(((mu - self.middle) / self.scale) ** 2 / df)
        z = (mu - c) / sd
        return mu, base + log_w + t - 0.5 * z**2 - np.log(sd) - 0.5 * float(LOG_2PI)

    def cdf(self, x: float, study: int | None) -> float:
        """Return the probability that a new effect, or a study's, is at most x.

        Given mu and tau the effect is normal; where that normal is narrow the panels are cut where it passes x.
        """
        found = 0.0
        for rows in np.array_split(self.shown, max(1, len(self.shown) // 200)):
            t2 = self.tau[rows] ** 2
            away = np.ones(len(rows)) if study is None else self.v[study] / (self.v[study] + t2)
            pulled = 0.0 if study is None else (1 - away) * self.y[study]
            s = np.sqrt(t2 * away)
            mu, joint = self._grid(((x - pulled) / away)[:, None] + (s / away)[:, None] * np.linspace(-9, 9, 19), rows)
            mass = np.exp(joint - float(self.total))
            found += float((mass * special.ndtr((x - pulled - away * mu.T).T / s[:, None])).sum())
        return found


p = am.priors
PRIORS = (
    *(p.HalfNormal(0.3), p.HalfT(4, 0.3), p.HalfT(1.2, 0.3), p.HalfT(1e6, 0.3), p.HalfCauchy(0.3), p.Exponential(0.2)),
    *(p.Lomax(6, 1), p.Lomax(0.5, 0.1), p.InverseGamma(1, 0.075), p.Gamma(2, 0.1), p.Gamma(1.5, 0.2)),
    *(p.LogNormal(-2, 0.77), p.LogNormal(-2, 4), p.Uniform(1), p.Uniform(1000), p.Uniform(), p.Jeffreys()),
    *(p.BergerDeely(), p.DuMouchel(), p.Shrinkage()),
    # Unbounded at 0.
    *(p.Gamma(0.9, 0.4), p.Gamma(0.5, 0.4), p.Gamma(0.1, 2)),
    # Very narrow.
    *(p.LogNormal(-2, 0.001), p.Gamma(1e6, 1.5e-7), p.InverseGamma(1e5, 2e4), p.Uniform(1e-3)),
)
MEANS = (p.Normal(0, 0.5), p.Flat(), p.Cauchy(0, 0.3), p.Normal(0.2, 0.1), p.StudentT(4, 0, 0.5))
BETA = p.Normal(0, 0.3)
PROBABILITIES = np.array([1e-3, 0.025, 0.5, 0.975, 1 - 1e-3])
# Rounding of the sums here, and of moments there.
OWN, OF_MOMENTS = 3e-13, 1e-12


def data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return effects, variances and a centred moderator of 1 to 15 studies of 6 to 50,000 people."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 16))
    v = 1.0 / (np.exp(rng.uniform(np.log(6), np.log(50_000), k)).round() - 3.0)
    tau = rng.choice([0.0, 0.1, 0.3, 2.0])
    x = rng.standard_normal(k)
    y = 0.2 + tau * rng.standard_normal(k) + np.sqrt(v) * rng.standard_normal(k)
    return y, v, x - x.mean()


def disagreements(seed: int, tau_prior) -> dict[str, tuple[float, float]] | None:
    """Return each error with its bound where it is beyond that; None where the posterior is improper."""
    y, v, x = data(seed)
    mean = MEANS[seed % len(MEANS)]
    heavy = type(mean).__name__ in ("Cauchy", "StudentT")
    with_x = seed % 3 == 0 and len(y) > 3 and not heavy
    effects = am.EffectSizes.from_arrays(y, v, mods={"x": x})
    try:
        fit = am.BayesianModel(
            effects,
            mods="x" if with_x else "1",
            mu_prior=mean,
            tau_prior=tau_prior,
            beta_prior=BETA if with_x else None,
        ).fit()
    except am.InputError as refused:
        if "improper" not in str(refused):
            raise
        return None
    X = np.column_stack([np.ones(len(y)), x])[:, : 1 + with_x]
    tau = fit.posterior("tau")
    order = 2 if tau.sd == tau.sd else int(tau.mean == tau.mean)
    coefficients = [mean, BETA][: X.shape[1]]
    truth = posterior(y, v, X, coefficients, fit.priors.tau, order=order)
    bound = fit.error_bound + OWN
    found = {"evidence": (abs(fit.exact.log_marginal - truth.log_evidence), bound)}
    own = {"theta_new": ("new", 0), f"theta[{effects.slab[0]}]": ("study", 0)}
    own |= {} if heavy else {"mu": ("coefficient", 0)}
    own |= {"x": ("coefficient", 1)} if with_x else {}
    for name, at in own.items():
        one = fit.posterior(name)
        quantiles = one.quantile(PROBABILITIES)
        below = np.array([truth.cdf(q, *at) for q in quantiles])
        found[f"quantiles of {name}"] = (max(abs(below - PROBABILITIES)), bound)
        found |= {} if heavy else _moments(name, one, *truth.moments(*at), fit.error_bound)
    if not heavy:
        away = [abs(truth.below(q) - p) for q, p in zip(tau.quantile(PROBABILITIES), PROBABILITIES, strict=True)]
        found["quantiles of tau"] = (max(away), bound)
        found |= _moments("tau", tau, *truth.moments("tau"), fit.error_bound)
    return {name: pair for name, pair in found.items() if not pair[0] <= pair[1]}


def _moments(name: str, one, mean: float, sd: float, error: float) -> dict[str, tuple[float, float]]:
    found = {}
    if one.mean == one.mean:
        found[f"mean of {name}"] = (abs(one.mean - mean) / max(abs(mean), 0.1), 10 * error + OF_MOMENTS)
    if one.sd == one.sd:
        found[f"sd of {name}"] = (abs(one.sd / sd - 1), 10 * error + OF_MOMENTS)
    return found
