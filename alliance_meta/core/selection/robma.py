"""Marginal likelihood and posterior of one model of publication bias, by quadrature over what is not analytic.

y_i ~ N(mu + beta x_i, v_i + tau^2), with x the standard error (PET), the sampling variance (PEESE) or nothing, or
selected by a step function of the p-value. mu ~ N(m, s^2) or 0; tau has a prior or is 0; beta is half-Cauchy.
Without selection mu is integrated analytically, else the publication probabilities are, by `steps`; what is
left has at most two dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.quadrature import GRID_ROUNDING as ROUNDING
from alliance_meta.core.bayes.quadrature import GRID_TOLERANCE as TOLERANCE
from alliance_meta.core.bayes.quadrature import (
    Grid,
    HalfLine,
    Line,
    NormalMixture,
    RealLine,
    SincDensity,
    TauDensity,
    integrate_grid,
    mixture,
)
from alliance_meta.core.bayes.quadrature import LogDensities as LogDensity
from alliance_meta.core.selection.steps import (
    FINEST,
    USUAL,
    Selected,
    Sides,
    StepData,
    gauss,
    integrate_weights,
    log_density,
    look_at_weights,
    step_data,
    weight_posteriors,
)

LOG_2PI = float(np.log(2.0 * np.pi))
Kind = Literal["none", "weights", "PET", "PEESE"]

# How far from the prior mean of mu, in prior standard deviations, and the spans of u of positive parameters:
# exp(-exp(3.4)) = 1e-13 scales.
MU_REACH = 9.0
TAU_SPAN = (-3.4, 9.0)
LIMITED_SPAN = (-3.2, 3.2)
# The inner integrals of so many points are worked out again, finer, in 1, 2 and 3 dimensions; if that changes them by
# more than the tolerance, so are all.
CHECKED = (8, 8, 4)
# How far models of selection are followed below their top, in logs.
DEPTH = 18.0
# Where a point costs next to nothing.
CHEAP_TOLERANCE, CHEAP_DEPTH = 1e-8, 26.0


@dataclass(frozen=True, slots=True)
class BiasKind:
    """A model of publication bias."""

    kind: Kind
    steps: tuple[float, ...] = ()  # p-values between which the publication probability is constant
    sides: Sides = "one"
    scale: float = 1.0  # of the half-Cauchy prior of the coefficient (PET, PEESE)


@dataclass(frozen=True, slots=True, eq=False)
class BiasProblem:
    """The data and the priors that all models share."""

    y: Array  # (k,)
    se: Array  # (k,)
    # mean, sd: of the normal prior of mu.
    mean: float
    sd: float
    tau: TauDensity
    sign: float = 1.0  # 1 if large effects are favoured, -1 if small ones are


@dataclass(frozen=True, slots=True, eq=False)
class BiasPosterior:
    """One model, solved."""

    # log_marginal, error: the log marginal likelihood and its numerical error.
    log_marginal: float
    error: float
    mu: NormalMixture | SincDensity | None  # None where mu is 0
    tau: SincDensity | None  # None where tau is 0
    slope: SincDensity | None  # the coefficient of PET or PEESE
    # Mean and standard deviation of mu, tau, and weight, (B,) each, of the grid.
    points: tuple[Array, Array, Array, Array]
    data: StepData | None = None  # of a model of selection, with the level of accuracy of its inner integrals
    level: int = USUAL


def solve_bias(
    problem: BiasProblem, bias: BiasKind, *, effect: bool, heterogeneity: bool, tolerance: float = TOLERANCE
) -> BiasPosterior:
    """Solve one model; `tolerance` is that of the log marginal likelihood of a model of selection."""
    if bias.kind == "weights":
        return _solve_weights(problem, bias, effect, heterogeneity, tolerance)
    return _solve_linear(problem, bias, effect, heterogeneity)


def _solve_linear(problem: BiasProblem, bias: BiasKind, effect: bool, heterogeneity: bool) -> BiasPosterior:
    x = {"none": 0.0 * problem.se, "PET": problem.se, "PEESE": problem.se**2}[bias.kind] * problem.sign
    lines: list[Line] = [_tau_line(problem)] if heterogeneity else []
    if bias.kind != "none":
        lines.append(HalfLine(bias.scale, TAU_SPAN))

    def split(values: tuple[Array, ...]) -> tuple[Array, Array]:
        """Return every parameter, 0 where the model holds it there."""
        B = len(values[0]) if values else 1
        tau = values[0] if heterogeneity else np.zeros(B)
        return tau, values[-1] if bias.kind != "none" else np.zeros(B)

    def log_joint(*values: Array) -> Array:
        """Return the log of prior times likelihood."""
        tau, beta = split(values)
        found = _linear(problem, x, tau, beta, effect)[0]
        if heterogeneity:
            found = found + problem.tau.log_density(tau)
        if bias.kind != "none":
            found = found + np.log(2.0 / (np.pi * bias.scale)) - np.log1p((beta / bias.scale) ** 2)
        return found

    if lines:
        grid = integrate_grid(log_joint, lines, tolerance=CHEAP_TOLERANCE, depth=CHEAP_DEPTH)
    else:
        grid = _single(float(log_joint()[0]))
    *values, weight = grid.values()
    tau, beta = split(tuple(values))
    _, mean, sd = _linear(problem, x, tau, beta, effect)
    return BiasPosterior(
        log_marginal=grid.log_integral,
        error=grid.error,
        mu=mixture(weight, mean[None], sd[None]) if effect else None,
        tau=grid.marginal(0) if heterogeneity else None,
        slope=grid.marginal(len(lines) - 1) if bias.kind != "none" else None,
        points=(mean, sd, tau, weight),
    )


def _linear(problem: BiasProblem, x: Array, tau: Array, beta: Array, effect: bool) -> tuple[Array, Array, Array]:
    """Return log likelihood, and mean and sd of mu, for each tau (B,) and beta (B,), mu integrated out."""
    total = problem.se**2 + np.square(tau)[:, None]
    w = 1.0 / total
    residual = problem.y - problem.mean * effect - beta[:, None] * x
    loglik = -0.5 * (w * residual**2 + np.log(total) + LOG_2PI).sum(axis=1)
    if not effect:
        return loglik, np.zeros(len(tau)), np.zeros(len(tau))
    information, pull = w.sum(axis=1), (w * residual).sum(axis=1)
    precision = information + problem.sd**-2.0
    loglik += 0.5 * pull**2 / precision - 0.5 * np.log(precision * problem.sd**2)
    return loglik, problem.mean + pull / precision, precision**-0.5


def _with_priors(problem: BiasProblem, loglik: Array, mu: Array | None, tau: Array | None) -> Array:
    """Add the log of the priors of mu and tau, where they are free."""
    if mu is not None:
        loglik = loglik - 0.5 * (LOG_2PI + ((mu - problem.mean) / problem.sd) ** 2) - np.log(problem.sd)
    return loglik if tau is None else loglik + problem.tau.log_density(tau)


def _solve_weights(
    problem: BiasProblem, bias: BiasKind, effect: bool, heterogeneity: bool, tolerance: float
) -> BiasPosterior:
    data = step_data(problem.y, problem.se, bias.steps, bias.sides, sign=problem.sign)
    lines: list[Line] = ([_mu_line(problem)] if effect else []) + ([_tau_line(problem)] if heterogeneity else [])

    def split(values: tuple[Array, ...]) -> tuple[Array, Array]:
        """Return every parameter, 0 where the model holds it there."""
        B = len(values[0]) if values else 1
        return (values[0] if effect else np.zeros(B)), (values[-1] if heterogeneity else np.zeros(B))

    def log_joint(inner: Callable[[Array, Array], Array], *values: Array) -> Array:
        """Return the log of prior times likelihood at the free parameters, with weights integrated by `inner`."""
        mu, tau = split(values)
        found = log_density(data, mu, tau) + inner(mu, tau)
        return _with_priors(problem, found, mu if effect else None, tau if heterogeneity else None)

    look = partial(log_joint, partial(look_at_weights, data))
    # A single point costs next to nothing, unless it is an integral over many.
    for level in range(USUAL if lines or data.m > 2 else USUAL + 1, FINEST):
        by_level = (partial(integrate_weights, data, level=level + i) for i in (-1, 0, 1))
        rough, density, finer = (partial(log_joint, one) for one in by_level)
        if lines:
            # With one dimension, of either kind, two batches of points take longer than one.
            light = rough if data.m > 1 and len(lines) > 1 else None
            grid = integrate_grid(density, lines, pilot=look, light=light, tolerance=tolerance, depth=DEPTH)
        else:
            grid = _single(float(density()[0]))
        inner = _inner_error(grid, finer, CHECKED[data.m - 1])
        if inner < tolerance:
            break
    *values, weight = grid.values()
    mu, tau = split(tuple(values))
    return BiasPosterior(
        log_marginal=grid.log_integral,
        error=grid.error + inner,
        mu=grid.marginal(0) if effect else None,
        tau=grid.marginal(len(lines) - 1) if heterogeneity else None,
        slope=None,
        points=(mu, np.zeros(len(mu)), tau, weight),
        data=data,
        level=level,
    )


def _inner_error(grid: Grid, finer: LogDensity, checked: int) -> float:
    """Return by how much the density changes, on average, with inner integrals that are finer.

    At points spread evenly over the mass, from the heaviest to the lightest.
    """
    *values, weight = grid.values()
    order = np.argsort(-weight, kind="stable")
    at = np.searchsorted(np.cumsum(weight[order]), (np.arange(checked) + 0.5) / checked)
    points, times = np.unique(order[at], return_counts=True)
    change = np.abs(finer(*(one[points] for one in values)) - grid.log_density()[points])
    return float(times @ change) / checked


def _single(log_integral: float) -> Grid:
    return Grid((), (), np.ones(()), log_integral, ROUNDING)


def _tau_line(problem: BiasProblem) -> HalfLine:
    if np.isfinite(problem.tau.upper):
        line = HalfLine(1.0, LIMITED_SPAN, problem.tau.upper)
    else:
        line = HalfLine(3.0 * float(np.median(problem.se)), TAU_SPAN)
    return line.reaching(head=problem.tau.head)


def _mu_line(problem: BiasProblem) -> RealLine:
    """Centre on the weighted mean; beyond the spread of the data only the prior reaches."""
    w = 1.0 / (problem.se**2 + np.var(problem.y))
    line = RealLine(float((w * problem.y).sum() / w.sum()), 2.0 * float(w.sum() ** -0.5), (0.0, 0.0))
    reach = MU_REACH * problem.sd
    ends = [min(problem.y.min(), problem.mean - reach), max(problem.y.max(), problem.mean + reach)]
    low, high = line.u(np.array(ends))
    return replace(line, span=(float(low), float(high)))


# Cells of the distribution between 0 and 1, and parts into which each cell of a rule is cut, by variable.
BINS = 1000
CUTS = (32, 4, 4)
# Points lighter than this, together, are left out.
LIGHTEST = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class OmegaPosterior:
    """The posterior of the m probabilities below 1."""

    # mean, square (m,): first and second moment about 0.
    mean: Array
    square: Array
    mass: Array  # (m, 1000): probability in equal cells between 0 and 1


def omega_posterior(data: StepData, mu: Array, tau: Array, weight: Array, *, level: int = USUAL) -> OmegaPosterior:
    """Return the posterior averaged over points mu (B,), tau (B,) with their probabilities (B,)."""
    order = np.argsort(weight, kind="stable")
    kept = np.sort(order[np.cumsum(weight[order]) > LIGHTEST])
    share = weight[kept] / weight[kept].sum()
    moments, mass = np.zeros((2, data.m)), np.zeros((data.m, BINS))
    start = 0
    for some in weight_posteriors(data, mu[kept], tau[kept], level=level):
        w = share[start : start + len(some.weight)]
        start += len(w)
        inside = some.weight * w.reshape(-1, *([1] * data.m))
        for j, omega in enumerate(some.omega):
            marginal = inside.sum(axis=tuple(range(j + 2, data.m + 1)))
            moments[:, j] += (marginal * omega).sum(), (marginal * omega**2).sum()
            mass[j] += _cells(some, marginal, j)
    mass = np.maximum(mass, 0.0)
    return OmegaPosterior(moments[0], moments[1], mass / mass.sum(axis=1, keepdims=True))


def _cells(some: Selected, marginal: Array, j: int) -> Array:
    """Return the probability of w_j in each cell: the polynomial through each rule's nodes, cut up finely."""
    rule = some.rules[j]
    centre, cut = _cutting(rule.n, CUTS[j])
    parts = marginal @ cut.T
    b = rule.at(centre)[1]
    omega = some.omega[j - 1][..., None] * b if j else b
    # Each part is shared by the two cells whose centres it lies between.
    place = np.clip(omega.ravel() * BINS - 0.5, 0.0, BINS - 1.0)
    left = np.minimum(place.astype(np.intp), BINS - 2)
    right = (place - left) * parts.ravel()
    found = np.bincount(left, weights=parts.ravel() - right, minlength=BINS)
    return np.asarray(found + np.bincount(left + 1, weights=right, minlength=BINS), dtype=float)


@cache
def _cutting(n: int, cuts: int) -> tuple[Array, Array]:
    """Return the centres of fine cells of [-1, 1] and what each takes of every node's mass, (cells,) and (cells, n)."""
    node = gauss(n)[0]
    edges = np.linspace(-1.0, 1.0, cuts * n + 1)
    degree = np.arange(n)
    P = np.polynomial.legendre.legvander(edges, n)
    integral = np.column_stack([edges + 1.0, (P[:, 2:] - P[:, :-2]) / (2.0 * degree[1:] + 1.0)])
    # A density that is 1 / weight at one node, 0 at the others, as a Legendre series.
    series = (degree + 0.5)[:, None] * np.polynomial.legendre.legvander(node, n - 1).T
    return 0.5 * (edges[:-1] + edges[1:]), np.diff(integral, axis=0) @ series
