"""The posterior of the normal-normal model by quadrature over tau, everything else integrated analytically.

Given tau (and, with a Student t prior, its scale) the coefficients, the studies' true effects and a new effect
are normal. Their posteriors are therefore mixtures of normals, whose weights are the posterior of tau at the
nodes of `bayes_panels`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes_mixture import LIGHTEST, NormalMixture, mixture
from alliance_meta.core.bayes_normal import LOG_2PI, NormalModel, conditional
from alliance_meta.core.bayes_panels import Panels, integrate, mass_region
from alliance_meta.core.bayes_scale import HeavyPrior, gauss_rules, scale_nodes

# How far beyond the scales of the data and of the prior the mass is looked for.
FAR = 1e6
EXTREME = 1e100
# Points that may stand for the scales of a t prior, if they give the same probabilities at these quantiles.
RULES = (6, 10, 16, 24)
THIN = (24, 40)
PROBES = np.array([1e-6, 1e-3, 0.025, 0.2, 0.5, 0.8, 0.975, 1.0 - 1e-3, 1.0 - 1e-6])
ALIKE = 5e-14
TINY = 1e-300
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

    def study_effects(self) -> NormalMixture:
        """Return the posteriors of the k true effects."""
        model, tau2 = self.problem.model, self.tau**2
        mean, variance = _combine(self.mean, self.root, model.X)
        total = model.v[:, None] + tau2
        away = model.v[:, None] / total
        shrunken = mean + (tau2 / total) * (model.y[:, None] - mean)
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
    heavy = panels.weight[0] > LIGHTEST * panels.weight[0].max()
    nodes = _mixture_nodes(problem, panels.tau[heavy], panels.weight[0][heavy])
    reached = order if panels.error[-1] < WORST_MOMENT else 0
    return ExactPosterior(problem, panels, *nodes, float(panels.log_integral[0]), float(panels.error[0]), reached)


def _mixture_nodes(problem: ExactProblem, tau: Array, weight: Array) -> tuple[Array, Array, Array, Array]:
    """Return weight, tau, mean and root of the components that count."""
    weight = weight / weight.sum()
    given = conditional(problem.model, tau)
    if problem.heavy is None:
        return weight, tau, given.mean, given.root
    prior = problem.heavy
    root = _align(given.root, prior.index)
    log_share, share_of_data = _scale_weights(problem, prior, given.mean, root)
    share = special.softmax(log_share, axis=1)
    full = _Flattened(prior, given.mean, root, share_of_data, weight[:, None] * share)
    for n in RULES:
        points, rule = gauss_rules(share, share_of_data, n)
        few = _Flattened(prior, given.mean, root, np.clip(points, TINY, 1.0), weight[:, None] * rule)
        if few.agrees(full):
            return few.nodes(tau)
    return full.nodes(tau)


def _alike(few: NormalMixture, many: NormalMixture) -> bool:
    x = few.quantile(PROBES)
    return bool(np.abs(few.cdf(x) - many.cdf(x)).max() < ALIKE)


def thinned(posterior: ExactPosterior, c: Array) -> ExactPosterior:
    """Return the posterior with few components that give c'b and the true effects to match the same distribution.

    Gauss's rules for the posterior of tau; all components where none of the rules tried is as good, or where a
    coefficient has a t prior.
    """
    problem, panels = posterior.problem, posterior.panels
    if problem.heavy is not None:
        return posterior
    t, weight = panels.stretch.to_t(posterior.tau), posterior.weight
    for n in THIN:
        points, rule = gauss_rules(weight[None], t[None], n)
        tau = panels.stretch.to_tau(np.clip(points[0], 0.0, panels.edges[-1]))
        given = conditional(problem.model, tau)
        few = replace(posterior, weight=rule[0], tau=tau, mean=given.mean, root=given.root)
        if _alike(few.coefficients(c[None]), posterior.coefficients(c[None])) and _alike(
            few.new_effects(c[None]), posterior.new_effects(c[None])
        ):
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
    root = _align(given.root, problem.heavy.index)
    return given.loglik + special.logsumexp(_scale_weights(problem, problem.heavy, given.mean, root)[0], axis=1)


def components(problem: ExactProblem, tau: Array) -> Components:
    """Return the normal components at each tau, (B,)."""
    given = conditional(problem.model, tau)
    base = (problem.tau.log_density(tau) + given.loglik)[:, None]
    if problem.heavy is None:
        return Components(base, given.mean[:, None], given.root[:, None])
    root = _align(given.root, problem.heavy.index)
    log_share, share = _scale_weights(problem, problem.heavy, given.mean, root)
    return Components(base + log_share, *_shrink(problem.heavy, given.mean, root, share))


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


def _scale_weights(problem: ExactProblem, prior: HeavyPrior, mean: Array, root: Array) -> tuple[Array, Array]:
    """Return the logs of the weights of each scale of a t prior given tau, and the share of the data, (B, L) each.

    The coefficient is flat in `mean` and `root`, with variance V; a normal prior of variance W leaves the data
    the share W / (V + W) in its posterior mean.
    """
    j = prior.index
    g, log_g = scale_nodes(prior, float(problem.model.centre[j]) - prior.mean)
    wide = prior.scale**2 / g
    total = root[:, 0, j, None] ** 2 + wide
    gap = mean[:, j, None] - prior.mean
    return log_g - 0.5 * (LOG_2PI + np.log(total) + gap**2 / total), wide / total


def _shrink(prior: HeavyPrior, mean: Array, root: Array, share: Array) -> tuple[Array, Array]:
    """Return mean (B, L, p) and root (B, L, p, p) once the data have the given share (B, L) in the coefficient."""
    j = prior.index
    # What one unit of the coefficient moves in all of them.
    along = root[:, 0, :] / root[:, 0, j, None]
    gap = prior.mean - mean[:, j, None]
    moved = mean[:, None, :] + along[:, None, :] * (gap * (1.0 - share))[:, :, None]
    new = np.repeat(root[:, None], share.shape[1], axis=1)
    new[:, :, 0, :] *= np.sqrt(share)[:, :, None]
    return moved, new


@dataclass(frozen=True, slots=True, eq=False)
class _Flattened:
    """Components over tau (B) and over the scale of a t prior (L), to be thinned out and strung together."""

    prior: HeavyPrior
    mean: Array
    root: Array
    share: Array
    weight: Array

    def nodes(self, tau: Array) -> tuple[Array, Array, Array, Array]:
        """Return weight, tau, mean and root of the components that count."""
        kept = self.weight > LIGHTEST * self.weight.max()
        mean, root = _shrink(self.prior, self.mean, self.root, self.share)
        weight = self.weight[kept]
        return weight / weight.sum(), np.broadcast_to(tau[:, None], kept.shape)[kept], mean[kept], root[kept]

    def agrees(self, other: _Flattened) -> bool:
        """Return whether both give the coefficient the same distribution, to rounding."""
        return _alike(self._coefficient(), other._coefficient())

    def _coefficient(self) -> NormalMixture:
        j = self.prior.index
        gap = self.prior.mean - self.mean[:, j, None]
        mean = self.mean[:, j, None] + gap * (1.0 - self.share)
        sd = np.abs(self.root[:, 0, j, None]) * np.sqrt(self.share)
        return mixture(self.weight.ravel(), mean.reshape(1, -1), sd.reshape(1, -1))


def _align(root: Array, j: int) -> Array:
    """Turn each root so that only its first row concerns coefficient j."""
    column = root[:, :, j].copy()
    length = np.sqrt((column**2).sum(axis=1))
    column[:, 0] += np.where(column[:, 0] < 0, -length, length)
    scaled = column / np.sqrt((column**2).sum(axis=1))[:, None]
    turned = root - 2.0 * scaled[:, :, None] * np.einsum("bi,bij->bj", scaled, root)[:, None, :]
    turned[:, 1:, j] = 0.0
    return turned
