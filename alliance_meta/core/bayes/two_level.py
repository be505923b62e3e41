"""The posterior of the normal-normal model by quadrature over tau, everything else integrated analytically.

y_i ~ N(x_i'b, v_i + tau^2), b_j ~ N(m_j, s_j^2) or flat. Given tau (and, with a Student t prior, its scale) the
coefficients, the studies' true effects and a new effect are normal, computed as differences from a reference value of
tau, in coordinates in which the coefficients are independent there, so that neither rounding nor collinear moderators
cost digits. Their posteriors are mixtures of normals, whose weights are the posterior of tau at the nodes of
`integration`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.quadrature import (
    NormalMixture,
    PiecewiseDensity,
    TauDensity,
    counting,
    integrate,
    mass_region,
    mixture,
)
from alliance_meta.core.bayes.scale import TPrior, gauss_rules, scale_nodes

LOG_2PI = float(np.log(2.0 * np.pi))
# Effects x values of tau worked on at once.
MOST_CELLS = 1_000_000
# Where the coefficients are this far from the reference a difference of squares would lose digits.
FAR_FROM_REFERENCE = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class NormalModel:
    """Data and prior, with what does not depend on tau."""

    y: Array  # (k,)
    v: Array  # (k,)
    X: Array  # (k, p)
    # mean, precision (p,): prior of each coefficient; precision 0 is a flat prior.
    mean: Array
    precision: Array
    tau2: float  # the reference
    centre: Array  # (p,): posterior mean of the coefficients at the reference
    loglik: float  # log of the density of y at the reference, the coefficients integrated out
    _w: Array
    _residual: Array
    _quadratic: float
    _features: Array
    _prior: Array
    _basis: Array

    @property
    def k(self) -> int:
        """Number of effects."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.X.shape[1]

    @property
    def flat(self) -> int:
        """Number of coefficients with a flat prior."""
        return int((self.precision == 0).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """What holds given each of B values of tau."""

    loglik: Array  # (B,): log of the density of y, the coefficients integrated out
    mean: Array  # (B, p): posterior mean of the coefficients
    root: Array  # (B, p, p): their posterior covariance is root' root


def prepare(y: Array, v: Array, X: Array, mean: Array, precision: Array) -> NormalModel:
    """Set the model up; y, v are (k,), X (k, p), mean and precision (p,); flat coefficients must be estimable."""
    k, p = X.shape
    tau2 = _moment_tau2(y, v, X)
    w = 1.0 / (v + tau2)
    R = np.linalg.qr(np.concatenate([np.sqrt(w)[:, None] * X, np.diag(np.sqrt(precision))]))[1]
    basis = linalg.solve_triangular(R, np.eye(p))
    # Turned so that the prior is diagonal too, flat directions first: these stay apart however large tau is.
    diagonal, turn = np.linalg.eigh((basis.T * precision) @ basis)
    flat = int((precision == 0).sum())
    diagonal[:flat] = 0.0
    basis = basis @ turn
    Q = X @ basis
    centre = np.zeros(p)
    # The second step removes what rounding left of the first.
    for _ in range(2):
        gradient = X.T @ (w * (y - X @ centre)) + precision * (mean - centre)
        centre = centre + basis @ (basis.T @ gradient)
    r = y - X @ centre
    proper = precision > 0
    towards = basis.T @ (precision * (mean - centre))
    towards[:flat] = 0.0
    quadratic = float((w * r**2).sum() + (precision * (mean - centre) ** 2).sum())
    logdet = 2.0 * float(np.log(np.abs(np.diag(R))).sum()) - float(np.log(precision[proper]).sum())
    constant = (k - flat) * LOG_2PI - float(np.log(w).sum())
    i, j = np.triu_indices(p)
    features = np.column_stack([w * r**2, r[:, None] * Q, Q[:, i] * Q[:, j]])
    prior = np.append(towards, np.diag(diagonal)[i, j])
    loglik = -0.5 * (constant + quadratic + logdet)
    return NormalModel(y, v, X, mean, precision, tau2, centre, loglik, w, r, quadratic, features, prior, basis)


def conditional(model: NormalModel, tau: Array) -> Conditional:
    """Return likelihood and coefficients at each value of tau, (B,), which may be 0."""
    parts = max(1, -(-len(tau) * model.k // MOST_CELLS))
    if parts == 1:
        return _conditional(model, tau)
    found = [_conditional(model, part) for part in np.array_split(tau, parts)]
    return Conditional(*(np.concatenate([getattr(c, n) for c in found]) for n in ("loglik", "mean", "root")))


def _conditional(model: NormalModel, tau: Array) -> Conditional:
    p, tau2 = model.p, np.square(tau)
    total = model.v + tau2[:, None]
    shift = model.tau2 - tau2
    sums = (1.0 / total) @ model._features
    sums[:, 1:] += model._prior
    logs = np.log(total * model._w).sum(axis=1)
    root, logdet = _root(sums[:, 1 + p :], p)
    half = np.einsum("bij,bj->bi", root, sums[:, 1 : 1 + p])
    root = root @ model._basis.T
    moved = np.einsum("bij,bi->bj", root, half)
    gained = (half**2).sum(axis=1)
    quadratic = shift * sums[:, 0] - gained
    far = np.flatnonzero(gained > FAR_FROM_REFERENCE)
    if len(far):
        quadratic[far] = _quadratic(model, total[far], moved[far]) - model._quadratic
    return Conditional(model.loglik - 0.5 * (logs + quadratic + logdet), model.centre + moved, root)


def _quadratic(model: NormalModel, total: Array, moved: Array) -> Array:
    """Return the weighted squares of residuals and of deviations from the prior, without taking differences."""
    residual = model._residual - moved @ model.X.T
    away = model.centre + moved - model.mean
    return (residual**2 / total).sum(axis=1) + away**2 @ model.precision


def _root(packed: Array, p: int) -> tuple[Array, Array]:
    """Return the inverse of the Cholesky factor of each A, (B, p, p), and log |A|, (B,)."""
    if p == 1:
        return (packed**-0.5)[:, :, None], np.log(packed[:, 0])
    A = np.empty((len(packed), p, p))
    i, j = np.triu_indices(p)
    A[:, i, j] = packed
    A[:, j, i] = packed
    factor = np.linalg.cholesky(A)
    size = np.einsum("bii->bi", factor)
    return np.linalg.inv(factor / size[:, :, None]) / size[:, None, :], 2.0 * np.log(size).sum(axis=1)


def _moment_tau2(y: Array, v: Array, X: Array) -> float:
    """Return a tau2 of the right size: unweighted residual variance less the typical sampling variance, at least 0."""
    Q = np.linalg.qr(X)[0]
    r = y - Q @ (Q.T @ y)
    df = max(len(y) - X.shape[1], 1)
    return max(float(r @ r) / df - float(np.median(v)), 0.0)


# Sizes of Gauss's rules that may stand for all values of tau, and for all scales of a t prior.
TAU_RULES = (24, 40, 64)
SCALE_RULES = (6, 10, 16, 24)
# They do if they give the same probabilities at these quantiles.
PROBES = np.array([1e-6, 1e-3, 0.025, 0.2, 0.5, 0.8, 0.975, 1.0 - 1e-3, 1.0 - 1e-6])
ALIKE = 5e-14
# ... and the same standard deviation.
ALIKE_SPREAD = 1e-12
# What they may cost a probability of a study's own effect: of 2,000 random posteriors under a t prior, two lost more
# than 1e-12.
COST = 1e-10
LEAST_SCALE = 1e-300

# Weight, tau, mean and root of the components that count.
Nodes = tuple[Array, Array, Array, Array]


def alike(few: NormalMixture, many: NormalMixture, *, variance: bool) -> bool:
    """Return whether both mixtures are the same distribution, to rounding; with `variance` they have one."""
    x = few.quantile(PROBES)
    if not np.abs(few.cdf(x) - many.cdf(x)).max() < ALIKE:
        return False
    return not variance or bool(np.abs(few.moments()[1] / many.moments()[1] - 1.0).max() < ALIKE_SPREAD)


def scale_weights(model: NormalModel, prior: TPrior, mean: Array, root: Array) -> tuple[Array, Array]:
    """Return the logs of the weights of each scale of a t prior given tau, and the share of the data, (B, L) each.

    The coefficient is flat in `mean` and in the aligned `root`, with variance V; a normal prior of variance W
    leaves the data the share W / (V + W) in its posterior mean.
    """
    j = prior.index
    g, log_g = scale_nodes(prior, float(model.centre[j]) - prior.mean)
    wide = prior.scale**2 / g
    total = root[:, 0, j, None] ** 2 + wide
    gap = mean[:, j, None] - prior.mean
    return log_g - 0.5 * (LOG_2PI + np.log(total) + gap**2 / total), wide / total


def shrink(prior: TPrior, mean: Array, root: Array, share: Array) -> tuple[Array, Array]:
    """Return mean (B, L, p) and root (B, L, p, p) once the data have the given share (B, L) in the coefficient."""
    j = prior.index
    # What one unit of the coefficient moves in all of them.
    along = root[:, 0, :] / root[:, 0, j, None]
    gap = prior.mean - mean[:, j, None]
    moved = mean[:, None, :] + along[:, None, :] * (gap * (1.0 - share))[:, :, None]
    new = np.repeat(root[:, None], share.shape[1], axis=1)
    new[:, :, 0, :] *= np.sqrt(share)[:, :, None]
    return moved, new


def align(root: Array, j: int) -> Array:
    """Turn each root so that only its first row concerns coefficient j."""
    column = root[:, :, j].copy()
    length = np.sqrt((column**2).sum(axis=1))
    column[:, 0] += np.where(column[:, 0] < 0, -length, length)
    scaled = column / np.sqrt((column**2).sum(axis=1))[:, None]
    turned = root - 2.0 * scaled[:, :, None] * np.einsum("bi,bij->bj", scaled, root)[:, None, :]
    turned[:, 1:, j] = 0.0
    return turned


def t_nodes(
    model: NormalModel, prior: TPrior, weight: Array, t: Array, to_tau: Callable[[Array], Array], *, variance: bool
) -> Nodes:
    """Return the components over tau and the scale, as few as will do; `t` is tau on the scale of the quadrature.

    With `variance` the quantities have one, which few components have to match too.
    """
    base = full = _sheet(model, prior, to_tau(t), weight)
    for n in TAU_RULES:
        points, rule = gauss_rules(weight[None], t[None], n)
        few = _sheet(model, prior, to_tau(np.clip(points[0], t.min(), t.max())), rule[0])
        if few.agrees(full, variance=variance):
            base = few
            break
    for n in SCALE_RULES:
        few = base.thinned(n)
        if few.agrees(base, variance=variance):
            return few.nodes()
    return base.nodes()


def _sheet(model: NormalModel, prior: TPrior, tau: Array, weight: Array) -> _Sheet:
    given = conditional(model, tau)
    root = align(given.root, prior.index)
    logs, share = scale_weights(model, prior, given.mean, root)
    return _Sheet(prior, tau, weight, given.mean, root, special.softmax(logs, axis=1), share)


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """Components over tau (B) and over the scale of a t prior (L): weights given tau, and the share of the data."""

    prior: TPrior
    tau: Array
    weight: Array
    mean: Array
    root: Array
    given: Array
    share: Array

    def thinned(self, n: int) -> _Sheet:
        """Return the same with n scales."""
        points, rule = gauss_rules(self.given, self.share, n)
        return _Sheet(self.prior, self.tau, self.weight, self.mean, self.root, rule, np.clip(points, LEAST_SCALE, 1.0))

    def nodes(self) -> Nodes:
        """Return the components that count, strung together."""
        weight = self.weight[:, None] * self.given
        tau = np.broadcast_to(self.tau[:, None], weight.shape)
        kept = counting(weight, tau)
        mean, root = shrink(self.prior, self.mean, self.root, self.share)
        tau = tau[kept]
        return weight[kept] / weight[kept].sum(), tau, mean[kept], root[kept]

    def agrees(self, other: _Sheet, *, variance: bool) -> bool:
        """Return whether both give the coefficient, and it with tau on top, the same distribution."""
        pairs = zip(self._mixtures(), other._mixtures(), strict=True)
        return all(alike(a, b, variance=variance) for a, b in pairs)

    def _mixtures(self) -> tuple[NormalMixture, NormalMixture]:
        j = self.prior.index
        gap = self.prior.mean - self.mean[:, j, None]
        mean = (self.mean[:, j, None] + gap * (1.0 - self.share)).reshape(1, -1)
        variance = self.root[:, 0, j, None] ** 2 * self.share
        weight = (self.weight[:, None] * self.given).ravel()
        new = variance + self.tau[:, None] ** 2
        return (
            mixture(weight, mean, np.sqrt(variance).reshape(1, -1)),
            mixture(weight, mean, np.sqrt(new).reshape(1, -1)),
        )


# How far beyond the scales of the data and of the prior the mass is looked for.
FAR = 1e6
EXTREME = 1e100
# A moment that is less accurate than this is not given.
WORST_MOMENT = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class ExactProblem:
    """What is integrated: data with the prior of the coefficients, and the prior of tau."""

    model: NormalModel  # with a t prior, its coefficient is flat here
    tau: TauDensity
    t_prior: TPrior | None = None

    @property
    def flat(self) -> int:
        """Number of coefficients with a flat prior."""
        return self.model.flat - (self.t_prior is not None)

    @property
    def tail(self) -> float:
        """The a of the tail tau^-a of the posterior of tau, which is proper if a > 1."""
        return self.tau.tail + self.model.k - self.flat

    def finite(self, order: int, *, of: str, left_out: int = 0) -> bool:
        """Return whether a posterior moment exists; `of` is "tau", "new", "study" or "coefficients".

        `left_out` studies fewer leave the tail heavier.
        """
        if of == "study":
            return True
        extra = 0.0
        if of == "coefficients" and not self.flat:
            extra = self.t_prior.df if self.t_prior else np.inf
        return self.tail - left_out + extra - order > 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """What holds given each of B values of tau and each of L values of the scale of a t prior (else L = 1)."""

    log_weight: Array  # (B, L): log of prior times likelihood
    mean: Array  # (B, L, p)
    root: Array  # (B, L, p, p): the covariance of the coefficients is root' root


@dataclass(frozen=True, slots=True, eq=False)
class ExactPosterior:
    """The posterior: that of tau on intervals, and the components of the mixtures."""

    problem: ExactProblem
    density: PiecewiseDensity  # row 0 is the posterior of tau; a further row watches over its tail
    weight: Array  # (B,)
    tau: Array  # (B,)
    mean: Array  # (B, p)
    root: Array  # (B, p, p)
    log_marginal: float  # log of the density of y; defined up to a constant where a prior is improper
    error: float  # relative error of the marginal likelihood and absolute error of any probability
    order: int  # highest moment of tau, up to the second, that is finite and within reach

    def finite(self, order: int, *, of: str) -> bool:
        """Return whether a moment exists; `of` is "tau", "new", "study" or "coefficients"."""
        needs_tau = of in ("tau", "new") or (of == "coefficients" and bool(self.problem.flat))
        return self.problem.finite(order, of=of) and (order <= self.order or order > 2 or not needs_tau)

    def coefficients(self, C: Array) -> NormalMixture:
        """Return the posterior of the combinations C (m, p) of coefficients."""
        mean, variance = _combine(self.mean, self.root, C)
        return mixture(self.weight, mean, np.sqrt(variance))

    def new_effects(self, C: Array) -> NormalMixture:
        """Return the posterior of the true effect of a new study for each row of C (m, p)."""
        mean, variance = _combine(self.mean, self.root, C)
        return mixture(self.weight, mean, np.sqrt(variance + self.tau**2))

    def study_effects(self, rows: slice = slice(None)) -> NormalMixture:
        """Return the posteriors of the k true effects, or of some of them."""
        model, tau2 = self.problem.model, self.tau**2
        mean, variance = _combine(self.mean, self.root, model.X[rows])
        total = model.v[rows, None] + tau2
        away = model.v[rows, None] / total
        shrunken = mean + (tau2 / total) * (model.y[rows, None] - mean)
        return mixture(self.weight, shrunken, np.sqrt(tau2 * away + away**2 * variance))

    def combination(self, c: Array, d: Array) -> NormalMixture:
        """Return the posterior of c'b + d'theta, for coefficients c (p,) and true effects d (k,)."""
        model, tau2 = self.problem.model, self.tau[:, None] ** 2
        own = tau2 / (model.v + tau2)
        towards = c + (d * (1.0 - own)) @ model.X
        mean = (self.mean * towards).sum(axis=1) + (d * own) @ model.y
        variance = (np.einsum("bij,bj->bi", self.root, towards) ** 2).sum(axis=1) + (d**2 * own) @ model.v
        return mixture(self.weight, mean[None], np.sqrt(variance)[None])

    def observations(self) -> NormalMixture:
        """Return the distribution of a replication of each of the k results, by the same design."""
        model = self.problem.model
        mean, variance = _combine(self.mean, self.root, model.X)
        return mixture(self.weight, mean, np.sqrt(variance + model.v[:, None] + self.tau**2))


def solve(problem: ExactProblem) -> ExactPosterior:
    """Return the posterior of a problem whose posterior is proper."""
    # Second moments, where they exist, reach further into the tail than probabilities.
    order = next((n for n in (2, 1) if problem.tail - n > 1.0), 0)

    def rows(tau: Array) -> Array:
        """Return the log of what is integrated over tau, a row for each integral."""
        one = log_posterior(problem, tau)
        return np.stack([one, one + order * np.log(tau)]) if order else one[None]

    start, stretch = mass_region(rows, *search_range(problem), tail=problem.tail - order)
    density = integrate(rows, start, stretch, upper=problem.tau.upper)
    reached = order if density.error[-1] < WORST_MOMENT else 0
    # What has no variance is not followed to its end.
    counts = counting(density.weight[0], density.tau if reached == 2 else np.ones(len(density.tau)))
    tau, weight = density.tau[counts], density.weight[0][counts]
    weight = weight / weight.sum()
    if problem.t_prior is None:
        given = conditional(problem.model, tau)
        nodes = (weight, tau, given.mean, given.root)
    else:
        t, variance = stretch.to_t(tau), reached == 2
        nodes = t_nodes(problem.model, problem.t_prior, weight, t, stretch.to_tau, variance=variance)
    error = float(density.error[0]) + (0.0 if problem.t_prior is None else COST)
    return ExactPosterior(problem, density, *nodes, float(density.log_integral[0]), error, reached)


def thinned(posterior: ExactPosterior, c: Array) -> ExactPosterior:
    """Return the posterior with few components that give c'b and the true effects to match the same distribution.

    Gauss's rules for the posterior of tau; all components where none of the rules tried is as good, or where a
    coefficient has a t prior (whose components are few already).
    """
    problem, density = posterior.problem, posterior.density
    if problem.t_prior is not None:
        return posterior
    t, weight = density.stretch.to_t(posterior.tau), posterior.weight
    for n in TAU_RULES:
        points, rule = gauss_rules(weight[None], t[None], n)
        tau = density.stretch.to_tau(np.clip(points[0], t.min(), t.max()))
        given = conditional(problem.model, tau)
        few = replace(posterior, weight=rule[0], tau=tau, mean=given.mean, root=given.root)
        made = [(one.coefficients(c[None]), one.new_effects(c[None])) for one in (few, posterior)]
        if all(alike(a, b, variance=False) for a, b in zip(*made, strict=True)):
            return few
    return posterior


def log_posterior(problem: ExactProblem, tau: Array) -> Array:
    """Return the log of prior times likelihood at each tau, (B,)."""
    return problem.tau.log_density(tau) + log_likelihood(problem, tau)


def log_likelihood(problem: ExactProblem, tau: Array) -> Array:
    """Return the log of the density of y at each tau, (B,), the coefficients integrated out."""
    given = conditional(problem.model, tau)
    if problem.t_prior is None:
        return given.loglik
    root = align(given.root, problem.t_prior.index)
    return given.loglik + special.logsumexp(scale_weights(problem.model, problem.t_prior, given.mean, root)[0], axis=1)


def components(problem: ExactProblem, tau: Array) -> Components:
    """Return the normal components at each tau, (B,)."""
    given = conditional(problem.model, tau)
    base = (problem.tau.log_density(tau) + given.loglik)[:, None]
    if problem.t_prior is None:
        return Components(base, given.mean[:, None], given.root[:, None])
    root = align(given.root, problem.t_prior.index)
    log_share, share = scale_weights(problem.model, problem.t_prior, given.mean, root)
    return Components(base + log_share, *shrink(problem.t_prior, given.mean, root, share))


def expectation(problem: ExactProblem, c: Array, log_factor: Callable[[Array, Array], Array]) -> tuple[float, float]:
    """Return the log of the integral of prior x likelihood x factor over everything, and its relative error.

    `log_factor` is given mean and standard deviation of c'b for each component and returns the log of the mean
    of the factor. The nodes are placed for this integral: it keeps its digits where the factor is tiny.
    """

    def rows(tau: Array) -> Array:
        """Return the log of what is integrated over tau, a row for each integral."""
        parts = components(problem, tau)
        sd = np.sqrt((np.einsum("blij,j->bli", parts.root, c) ** 2).sum(axis=2))
        return special.logsumexp(parts.log_weight + log_factor(parts.mean @ c, sd), axis=1)[None]

    start, stretch = mass_region(rows, *search_range(problem), tail=problem.tail)
    density = integrate(rows, start, stretch, upper=problem.tau.upper)
    return float(density.log_integral[0]), float(density.error[0])


def search_range(problem: ExactProblem) -> tuple[float, float]:
    """Return the smallest and the largest tau where mass is looked for."""
    model = problem.model
    sizes = np.array([np.sqrt(model.v.min()), np.sqrt(model.v.max()), np.ptp(model.y), *problem.tau.marks])
    sizes = np.clip(sizes[sizes > 0], 1.0 / EXTREME, EXTREME)
    return float(sizes.min()) / FAR, min(float(sizes.max()) * FAR, problem.tau.upper)


def _combine(mean: Array, root: Array, C: Array) -> tuple[Array, Array]:
    """Return mean and variance of the combinations C (m, p) given each component, (m, B) each."""
    if C.shape[1] == 1:
        return C * mean[:, 0], C**2 * root[:, 0, 0] ** 2
    return C @ mean.T, (np.tensordot(root, C, axes=(2, 1)) ** 2).sum(axis=1).T
