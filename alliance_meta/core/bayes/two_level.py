"""The posterior of the normal-normal model by quadrature over tau, everything else integrated analytically.

Given tau (and, with a Student t prior, its scale) the coefficients, the studies' true effects and a new effect
are normal. Their posteriors are therefore mixtures of normals, whose weights are the posterior of tau at the
nodes of `integration`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.integration import TINY, Panels, head_of, integrate, mass_region
from alliance_meta.core.bayes.mixture import NormalMixture, counting, mixture
from alliance_meta.core.bayes.normal import LOG_2PI, NormalModel, conditional
from alliance_meta.core.bayes.scale import HeavyPrior, gauss_rules, scale_nodes

# Sizes of Gauss's rules that may stand for all values of tau, and for all scales of a t prior.
TAU_RULES = (24, 40, 64)
SCALE_RULES = (6, 10, 16, 24)
# They do if they give the same probabilities at these quantiles.
PROBES = np.array([1e-6, 1e-3, 0.025, 0.2, 0.5, 0.8, 0.975, 1.0 - 1e-3, 1.0 - 1e-6])
ALIKE = 5e-14
# ... and the same standard deviation.
ALIKE_SPREAD = 1e-12
LEAST_SCALE = 1e-300

# Weight, tau, mean and root of the components that count.
Nodes = tuple[Array, Array, Array, Array]


def alike(few: NormalMixture, many: NormalMixture, *, variance: bool) -> bool:
    """Return whether both mixtures are the same distribution, to rounding; with `variance` they have one."""
    x = few.quantile(PROBES)
    if not np.abs(few.cdf(x) - many.cdf(x)).max() < ALIKE:
        return False
    return not variance or bool(np.abs(few.moments()[1] / many.moments()[1] - 1.0).max() < ALIKE_SPREAD)


def scale_weights(model: NormalModel, prior: HeavyPrior, mean: Array, root: Array) -> tuple[Array, Array]:
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


def shrink(prior: HeavyPrior, mean: Array, root: Array, share: Array) -> tuple[Array, Array]:
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


def heavy_nodes(
    model: NormalModel, prior: HeavyPrior, weight: Array, t: Array, to_tau: Callable[[Array], Array], *, variance: bool
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


def _sheet(model: NormalModel, prior: HeavyPrior, tau: Array, weight: Array) -> _Sheet:
    given = conditional(model, tau)
    root = align(given.root, prior.index)
    logs, share = scale_weights(model, prior, given.mean, root)
    return _Sheet(prior, tau, weight, given.mean, root, special.softmax(logs, axis=1), share)


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """Components over tau (B) and over the scale of a t prior (L): weights given tau, and the share of the data."""

    prior: HeavyPrior
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
class TauDensity:
    """The prior of tau as the quadrature needs it.

    Attributes
    ----------
    log_density : callable
        tau (B,) -> (B,), -inf outside the support.
    upper : float
        End of the support.
    tail : float
        a of the tail tau^-a; inf where it falls faster than any power.
    marks : tuple of float
        Some values of tau that show its scale, all positive.
    proper : bool
    """

    log_density: Callable[[Array], Array]
    upper: float
    tail: float
    marks: tuple[float, ...]
    proper: bool

    @property
    def head(self) -> float:
        """The a of a density like tau^(a - 1) near 0 where it is unbounded there, else 1."""
        with np.errstate(all="ignore"):
            return head_of(self.log_density(np.array(TINY)))


@dataclass(frozen=True, slots=True, eq=False)
class ExactProblem:
    """What is integrated: data with the prior of the coefficients, and the prior of tau.

    Attributes
    ----------
    model : NormalModel
        With a t prior, its coefficient is flat here.
    tau : TauDensity
    heavy : HeavyPrior or None
    """

    model: NormalModel
    tau: TauDensity
    heavy: HeavyPrior | None = None

    @property
    def flat(self) -> int:
        """Number of coefficients with a flat prior."""
        return self.model.flat - (self.heavy is not None)

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
            extra = self.heavy.df if self.heavy else np.inf
        return self.tail - left_out + extra - order > 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """What holds given each of B values of tau and each of L values of the scale of a t prior (else L = 1).

    Attributes
    ----------
    log_weight : ndarray of shape (B, L)
        Log of prior times likelihood.
    mean : ndarray of shape (B, L, p)
    root : ndarray of shape (B, L, p, p)
        The covariance of the coefficients is root' root.
    """

    log_weight: Array
    mean: Array
    root: Array


@dataclass(frozen=True, slots=True, eq=False)
class ExactPosterior:
    """The posterior: that of tau on panels, and the components of the mixtures.

    Attributes
    ----------
    problem : ExactProblem
    panels : Panels
        Row 0 is the posterior of tau; a further row watches over its tail.
    weight, tau : ndarray of shape (B,)
    mean : ndarray of shape (B, p)
    root : ndarray of shape (B, p, p)
    log_marginal : float
        Log of the density of y; defined up to a constant where a prior is improper.
    error : float
        Relative error of the marginal likelihood and absolute error of any probability.
    order : int
        Highest moment of tau, up to the second, that is finite and within reach.
    """

    problem: ExactProblem
    panels: Panels
    weight: Array
    tau: Array
    mean: Array
    root: Array
    log_marginal: float
    error: float
    order: int

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
        one = log_posterior(problem, tau)
        return np.stack([one, one + order * np.log(tau)]) if order else one[None]

    start, stretch = mass_region(rows, *search_range(problem), tail=problem.tail - order)
    panels = integrate(rows, start, stretch, upper=problem.tau.upper)
    reached = order if panels.error[-1] < WORST_MOMENT else 0
    # What has no variance is not followed to its end.
    counts = counting(panels.weight[0], panels.tau if reached == 2 else np.ones(len(panels.tau)))
    tau, weight = panels.tau[counts], panels.weight[0][counts]
    weight = weight / weight.sum()
    if problem.heavy is None:
        given = conditional(problem.model, tau)
        nodes = (weight, tau, given.mean, given.root)
    else:
        t, variance = stretch.to_t(tau), reached == 2
        nodes = heavy_nodes(problem.model, problem.heavy, weight, t, stretch.to_tau, variance=variance)
    return ExactPosterior(problem, panels, *nodes, float(panels.log_integral[0]), float(panels.error[0]), reached)


def thinned(posterior: ExactPosterior, c: Array) -> ExactPosterior:
    """Return the posterior with few components that give c'b and the true effects to match the same distribution.

    Gauss's rules for the posterior of tau; all components where none of the rules tried is as good, or where a
    coefficient has a t prior (whose components are few already).
    """
    problem, panels = posterior.problem, posterior.panels
    if problem.heavy is not None:
        return posterior
    t, weight = panels.stretch.to_t(posterior.tau), posterior.weight
    for n in TAU_RULES:
        points, rule = gauss_rules(weight[None], t[None], n)
        tau = panels.stretch.to_tau(np.clip(points[0], t.min(), t.max()))
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
    if problem.heavy is None:
        return given.loglik
    root = align(given.root, problem.heavy.index)
    return given.loglik + special.logsumexp(scale_weights(problem.model, problem.heavy, given.mean, root)[0], axis=1)


def components(problem: ExactProblem, tau: Array) -> Components:
    """Return the normal components at each tau, (B,)."""
    given = conditional(problem.model, tau)
    base = (problem.tau.log_density(tau) + given.loglik)[:, None]
    if problem.heavy is None:
        return Components(base, given.mean[:, None], given.root[:, None])
    root = align(given.root, problem.heavy.index)
    log_share, share = scale_weights(problem.model, problem.heavy, given.mean, root)
    return Components(base + log_share, *shrink(problem.heavy, given.mean, root, share))


def expectation(problem: ExactProblem, c: Array, log_factor: Callable[[Array, Array], Array]) -> tuple[float, float]:
    """Return the log of the integral of prior x likelihood x factor over everything, and its relative error.

    `log_factor` is given mean and standard deviation of c'b for each component and returns the log of the mean
    of the factor. The nodes are placed for this integral: it keeps its digits where the factor is tiny.
    """

    def rows(tau: Array) -> Array:
        parts = components(problem, tau)
        sd = np.sqrt((np.einsum("blij,j->bli", parts.root, c) ** 2).sum(axis=2))
        return special.logsumexp(parts.log_weight + log_factor(parts.mean @ c, sd), axis=1)[None]

    start, stretch = mass_region(rows, *search_range(problem), tail=problem.tail)
    panels = integrate(rows, start, stretch, upper=problem.tau.upper)
    return float(panels.log_integral[0]), float(panels.error[0])


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
