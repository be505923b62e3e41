r"""Weight functions of the p-value: what an effect with a p-value has as its chance to be seen, relative to others.

With :math:`x = y / s` a one-sided p-value is :math:`\Phi(-x)`. A weight function w has parameters
:math:`\psi = \log \delta`, and a result with mean m and variance :math:`\eta` is seen with a probability

.. math:: A = \int w(p(y))\, \phi(y; m, \eta)\, dy

in proportion. All of its derivatives by m and :math:`\eta` are moments with Hermite polynomials in
:math:`z = (y - m) / \sqrt\eta`,

.. math:: M_j = \int w\, He_j(z)\, \phi(z)\, dz, \qquad
   A_m = M_1 / \sqrt\eta, \; A_\eta = M_2 / 2\eta, \; A_{mm} = M_2 / \eta,
   \; A_{m\eta} = M_3 / 2\eta^{3/2}, \; A_{\eta\eta} = M_4 / 4\eta^2,

and where w is constant these are closed: :math:`\int_a^\infty He_j \phi = He_{j-1}(a) \phi(a)`. Elsewhere a
Gauss-Legendre rule on x suffices, the same for all effects, since the density is never narrower than 1 in x.

Likelihood of effects that were selected by their p-values, with its first and second derivatives.

.. math:: \ell_i = \log w(p_i; \psi_i) + \log \phi(y_i; m_i, \eta_i) - \log A(m_i, \eta_i, \psi_i), \qquad
   m_i = x_i'\beta, \; \eta_i = v_i + \exp(z_i'\gamma), \; \psi_{ij} = \log \delta_{ij} = u_i'\zeta_j

(Hedges 1992, doi:10.1214/ss/1177011364; Vevea & Hedges 1995, doi:10.1007/BF02294384). Parameters are
:math:`\theta = (\beta, \gamma, \zeta_1, \dots, \zeta_d)`, and B of them are worked on at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.selection.steps import LEAST, between, gauss

Alternative = Literal["greater", "less", "two.sided"]
Family = Literal["stepfun", "beta", "halfnorm", "negexp", "logistic", "power", "negexppow"]

ROOT_2PI = float(np.sqrt(2.0 * np.pi))


class Observed(NamedTuple):
    """Log weights of the effects and their derivatives by psi: (B, k), (d, B, k), (d, d, B, k), or broadcast to it."""

    value: Array
    first: Array
    second: Array


class Moments(NamedTuple):
    """Moments of w (5, B, k), of its derivatives by psi (d, 3, B, k), and of its second derivatives (d, d, B, k)."""

    plain: Array
    first: Array
    second: Array


class WeightFunction(Protocol):
    """A weight function at the p-values of k effects, favoured where they are large; psi is (d, B, 1 or k)."""

    @property
    def d(self) -> int:
        """Number of parameters."""

    @property
    def reach(self) -> tuple[float, float]:
        """What psi is kept between."""

    @property
    def starts(self) -> Array:
        """Values of psi that a search starts from, (S, d)."""

    def observed(self, psi: Array) -> Observed:
        """Return what the effects have as log weights."""

    def moments(self, m: Array, sd: Array, psi: Array) -> Moments:
        """Return the moments for effects with means m and standard deviations sd, (B, k)."""

    def relative(self, p: Array, psi: Array) -> Array:
        """Return weights (B, m) at p-values (m,), for psi (d, B, 1)."""

    def log_slopes(self, p: Array, psi: Array) -> Array:
        """Return the derivatives (d, m) of log weights at p-values (m,), for psi (d, 1, 1)."""


def tails(z: Array) -> Array:
    """Return the moments of He_0 to He_4 above z, (5, ...)."""
    density = np.exp(-0.5 * z * z) / ROOT_2PI
    square = z * z
    return np.stack([special.ndtr(-z), density, z * density, (square - 1.0) * density, (square - 3.0) * z * density])


def pieces(z: Array) -> Array:
    """Return the moments of the pieces between falling cuts z (C, B, k), from the highest piece, (5, C + 1, B, k)."""
    above = tails(z)
    found = np.empty((5, len(z) + 1, *z.shape[1:]))
    found[:, 0], found[:, 1:-1] = above[:, 0], above[:, 1:] - above[:, :-1]
    found[:, -1] = -above[:, -1]
    found[0, 1:-1] = between(z[1:], z[:-1])
    found[0, -1] = special.ndtr(z[-1])
    return found


def cuts_of(p: Array, *, two_sided: bool) -> Array:
    """Return x = y / s at the p-values p, increasing, from the highest x to the lowest, (C,)."""
    x = -special.ndtri(0.5 * p if two_sided else p)
    return np.concatenate([x, -x[::-1]]) if two_sided else x


@dataclass(frozen=True, slots=True, eq=False)
class StepWeights:
    """Weights 1, delta_1, ... delta_d, constant between the steps."""

    steps: Array  # (d,): p-values, increasing; 1 is not among them
    cuts: Array  # (C, 1, k): effects at the steps, on both sides where the p-values are two-sided, from the highest
    interval: IntArray  # (k,): of each effect's p-value, 0 being the most significant one

    @property
    def d(self) -> int:
        """Number of parameters."""
        return len(self.steps)

    reach = -16.0, 16.0

    @property
    def starts(self) -> Array:
        """Values of psi that a search starts from, (S, d)."""
        return np.array([-1.0, 0.0])[:, None] * np.linspace(1.0, 1.5, self.d) ** 2

    def observed(self, psi: Array) -> Observed:
        """Return what the effects have as log weights."""
        first = (self.interval == np.arange(1, self.d + 1)[:, None]).astype(float)[:, None]
        value = (first * psi).sum(axis=0)
        return Observed(value, first, np.zeros((self.d, self.d, 1, 1)))

    def moments(self, m: Array, sd: Array, psi: Array) -> Moments:
        """Return the moments for effects with means m and standard deviations sd, (B, k)."""
        d = self.d
        part = pieces((self.cuts - m) / sd)
        if part.shape[1] > d + 1:
            part = np.concatenate([part[:, :d] + part[:, :d:-1], part[:, d : d + 1]], axis=1)
        first = np.exp(psi)[:, None] * part[:3, 1:].swapaxes(0, 1)
        plain = part[:, 0] + (np.exp(psi) * part[:, 1:]).sum(axis=1)
        second = np.zeros((d, d, *m.shape))
        second[np.arange(d), np.arange(d)] = first[:, 0]
        return Moments(plain, first, second)

    def relative(self, p: Array, psi: Array) -> Array:
        """Return weights (B, m) at p-values (m,), for psi (d, B, 1)."""
        delta = np.concatenate([np.ones((1, psi.shape[1])), np.exp(psi[:, :, 0])])
        return np.asarray(delta[np.searchsorted(self.steps, p)].T)

    def log_slopes(self, p: Array, psi: Array) -> Array:
        """Return the derivatives (d, m) of log weights at p-values (m,), for psi (d, 1, 1)."""
        return (np.searchsorted(self.steps, p) == np.arange(1, self.d + 1)[:, None]).astype(float)


def step_weights(y: Array, se: Array, steps: Array, *, two_sided: bool) -> StepWeights:
    """Return the step function at effects y (k,) with standard errors (k,)."""
    interval = np.searchsorted(steps, p_values(y / se, two_sided=two_sided)).astype(np.intp)
    return StepWeights(steps, cuts_of(steps, two_sided=two_sided)[:, None, None] * se, interval)


def p_values(x: Array, *, two_sided: bool) -> Array:
    """Return p-values of x = y / s."""
    return 2.0 * special.ndtr(-np.abs(x)) if two_sided else special.ndtr(-x)


# log w and its derivatives by psi, of the logs of p and 1 - p and psi (d, ...).
Logs = tuple[Array, list[Array], list[list[Array]]]
LogWeight = Callable[[Array, Array, Array], Logs]


def _beta(log_p: Array, log_q: Array, psi: Array) -> Logs:
    one, two = np.exp(psi[0]) * log_p, np.exp(psi[1]) * log_q
    nothing = 0.0 * one
    return one - log_p + two - log_q, [one, two], [[one, nothing], [nothing, two]]


def _negative(power: float) -> LogWeight:
    def log_weight(log_p: Array, log_q: Array, psi: Array) -> Logs:
        value = -np.exp(psi[0] + power * log_p)
        return value, [value], [[value]]

    return log_weight


def _logistic(log_p: Array, log_q: Array, psi: Array) -> Logs:
    u = np.exp(psi[0] + log_p)
    share = special.expit(u)
    first = -share * u
    return np.log(2.0) - u - np.log1p(np.exp(-u)), [first], [[first - share * (1.0 - share) * u * u]]


def _power(log_p: Array, log_q: Array, psi: Array) -> Logs:
    value = np.exp(psi[0]) * log_q
    return value, [value], [[value]]


def _negexppow(log_p: Array, log_q: Array, psi: Array) -> Logs:
    slope = -np.exp(-psi[1]) * log_p
    value = -np.exp(psi[0] - slope)
    cross = value * slope
    return value, [value, cross], [[value, cross], [cross, cross * (slope - 1.0)]]


@dataclass(frozen=True, slots=True)
class Smooth:
    """A family of smooth weight functions."""

    d: int
    log_weight: LogWeight
    ends: tuple[float, float]  # p-values beyond which the weight no longer changes
    nodes: int  # of the rule between them
    starts: tuple[tuple[float, ...], ...]  # values of psi that a search starts from


# The smallest p-value at which beta and power weights still change is metafor's; the others go to a finite limit.
CLIPPED = (1e-5, 1.0 - 1e-5)
WHOLE = (1e-17, 1.0 - 1.2e-16)
ONE = ((0.0,), (1.3,), (2.5,), (-1.5,))
SMOOTH: dict[str, Smooth] = {
    "beta": Smooth(2, _beta, CLIPPED, 48, ((0.0, 0.0), (-0.7, 0.0), (-0.2, 0.7), (-1.4, 0.3))),
    "halfnorm": Smooth(1, _negative(2.0), WHOLE, 72, ONE),
    "negexp": Smooth(1, _negative(1.0), WHOLE, 72, ONE),
    "logistic": Smooth(1, _logistic, WHOLE, 72, ONE),
    "power": Smooth(1, _power, CLIPPED, 48, ONE),
    "negexppow": Smooth(2, _negexppow, (1e-300, WHOLE[1]), 160, ((0.0, 0.0), (1.3, -1.6), (1.3, 0.7), (2.7, 2.7))),
}


@dataclass(frozen=True, slots=True, eq=False)
class SmoothWeights:
    """A smooth weight function; logs of p and 1 - p are held at the nodes, at the constant pieces, and observed."""

    family: Smooth
    x: Array  # (Q,)
    rule: Array  # (Q,)
    se: Array  # (k,)
    cuts: Array  # (C, 1, k): between the constant pieces and the smooth ones, from the highest
    # at_nodes, at_pieces, at_effects: logs of p and 1 - p: (Q,), (constant pieces,), (k,).
    at_nodes: tuple[Array, Array]
    at_pieces: tuple[Array, Array]
    at_effects: tuple[Array, Array]

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.family.d

    # Delta is at most 100, as in metafor.
    reach = -30.0, float(np.log(100.0))

    @property
    def starts(self) -> Array:
        """Values of psi that a search starts from, (S, d)."""
        return np.array(self.family.starts)

    def observed(self, psi: Array) -> Observed:
        """Return what the effects have as log weights."""
        value, first, second = self.family.log_weight(*self.at_effects, psi)
        return Observed(value, np.stack(first), np.stack([np.stack(row) for row in second]))

    def moments(self, m: Array, sd: Array, psi: Array) -> Moments:
        """Return the moments for effects with means m and standard deviations sd, (B, k)."""
        d = self.d
        order = [4, *[2] * d, *[0] * (d * d)]
        at_nodes, at_pieces = (_derivatives(self.family, at, psi) for at in (self.at_nodes, self.at_pieces))
        ratio, centre = sd / self.se, m / self.se
        density = (self.x - centre[..., None]) * (np.sqrt(0.5) / ratio)[..., None]
        density *= -density
        np.exp(density, out=density)
        powers = self.rule / ROOT_2PI * self.x ** np.arange(5.0)[:, None]
        stacked = np.concatenate([w * powers[: n + 1] for w, n in zip(at_nodes, order, strict=True)], axis=-2)
        raw = (_sum(density, stacked) / ratio[..., None]).transpose(2, 0, 1)
        constant = pieces((self.cuts - m) / sd)[:, ::2]
        plain, first = (
            hermite(raw[:5], centre, ratio),
            hermite(raw[5 : 5 + 3 * d].reshape(d, 3, *m.shape), centre, ratio),
        )
        at = [w[..., 0, :].transpose(2, 0, 1) for w in at_pieces]
        plain += (constant * at[0]).sum(axis=1)
        first += (constant[:3] * np.stack(at[1 : d + 1])[:, None]).sum(axis=2)
        second = raw[5 + 3 * d :] + (constant[0] * np.stack(at[d + 1 :])).sum(axis=1)
        return Moments(plain, first, second.reshape(d, d, *m.shape))

    def relative(self, p: Array, psi: Array) -> Array:
        """Return weights (B, m) at p-values (m,), for psi (d, B, 1)."""
        return np.exp(self.family.log_weight(*self._logs(p), psi)[0])

    def log_slopes(self, p: Array, psi: Array) -> Array:
        """Return the derivatives (d, m) of log weights at p-values (m,), for psi (d, 1, 1)."""
        return np.stack([one[0] for one in self.family.log_weight(*self._logs(p), psi)[1]])

    def _logs(self, p: Array) -> tuple[Array, Array]:
        inside = np.clip(p, *self.family.ends)
        return np.log(inside), np.log1p(-inside)


def hermite(raw: Array, centre: Array, ratio: Array) -> Array:
    """Return moments of He_0 to He_n in z = (x - centre) / ratio, of raw moments in x, (..., n + 1, B, k)."""
    out, left = np.empty_like(raw), raw
    out[..., 0, :, :] = raw[..., 0, :, :]
    # Central moments by repeated differences; that of order j stands first after j of them.
    for j in range(1, raw.shape[-3]):
        left = (left[..., 1:, :, :] - centre * left[..., :-1, :, :]) / ratio
        out[..., j, :, :] = left[..., 0, :, :]
    if raw.shape[-3] > 4:
        out[..., 4, :, :] += 3.0 * out[..., 0, :, :] - 6.0 * out[..., 2, :, :]
        out[..., 3, :, :] -= 3.0 * out[..., 1, :, :]
    out[..., 2, :, :] -= out[..., 0, :, :]
    return out


def _sum(density: Array, weights: Array) -> Array:
    """Return sums of density (B, k, Q) with weights (B, 1 or k, C, Q), (B, k, C)."""
    if weights.shape[1] == 1:
        return np.matmul(density, weights[:, 0].swapaxes(1, 2))
    return np.matmul(weights, density[..., None])[..., 0]


def _derivatives(family: Smooth, at: tuple[Array, Array], psi: Array) -> list[Array]:
    """Return w, its derivatives, and its second derivatives row by row, (B, 1 or k, 1, Q) each."""
    value, first, second = family.log_weight(*at, psi[..., None, None])
    w = np.exp(value)
    out = [w, *(w * one for one in first)]
    for one, row in zip(first, second, strict=True):
        out += [w * (one * two + both) for two, both in zip(first, row, strict=True)]
    return out


def smooth_weights(y: Array, se: Array, family: Smooth, *, two_sided: bool) -> SmoothWeights:
    """Return the weight function of a family at effects y (k,) with standard errors (k,)."""
    ends = np.array(family.ends)
    x_ends = cuts_of(ends, two_sided=two_sided)
    node, log_weight = gauss(family.nodes)
    half = 0.5 * (x_ends[0] - x_ends[1])
    x, rule = x_ends[1] + half * (1.0 + node), half * np.exp(log_weight)
    if two_sided:
        x, rule = np.concatenate([x, -x]), np.concatenate([rule, rule])
    at_ends = np.log(ends), np.log1p(-ends)
    inside = [0, 1, 0] if two_sided else [0, 1]

    def logs(x: Array) -> tuple[Array, Array]:
        if two_sided:
            within = special.erf(np.abs(x) / np.sqrt(2.0))
            return np.log(2.0) + special.log_ndtr(-np.abs(x)), np.log(np.maximum(within, LEAST))
        return special.log_ndtr(-x), special.log_ndtr(x)

    observed = logs(np.clip(y / se, x_ends.min(), x_ends.max()))
    observed = np.clip(observed[0], *at_ends[0]), np.clip(observed[1], at_ends[1][1], at_ends[1][0])
    pieces_at = at_ends[0][inside], at_ends[1][inside]
    return SmoothWeights(family, x, rule, se, x_ends[:, None, None] * se, logs(x), pieces_at, observed)


LOG_2PI = float(np.log(2.0 * np.pi))
# Beyond this the exponential of log(tau2) is neither 0 nor infinite for no effect.
LARGEST_LOG = 300.0
# A chance to be seen below this is lost in rounding; such parameters are as unlikely as this, not likely without end.
SMALLEST, HOPELESS = 1e-290, 1e100


@dataclass(frozen=True, eq=False)
class SelectionProblem:
    """k effects, what is thought to have selected them, and the designs of the parameters."""

    # y, v (k,): effects in the direction in which they are favoured, and their variances.
    y: Array
    v: Array
    weights: WeightFunction
    # X (k, p) of the mean, turned with y; Z (k, q) of log(tau2), q = 0 for no heterogeneity; U (k, r) of the log
    # weights, d times the same.
    designs: tuple[Array, ...]
    selected: Mask | None = None  # (k,) or None: effects that were exposed to selection; None for all

    @property
    def k(self) -> int:
        """Number of effects."""
        return len(self.y)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the parameters of each design stand in theta: mean, log(tau2), each log weight."""
        ends = np.cumsum([0, *(one.shape[1] for one in self.designs)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @property
    def n(self) -> int:
        """Number of parameters."""
        return self.slices[-1].stop

    @cached_property
    def _plain(self) -> bool:
        """Whether the log weights have no moderators."""
        return all(one.shape[1] == 1 and bool((one == 1.0).all()) for one in self.designs[2:])

    @cached_property
    def _products(self) -> dict[tuple[int, int], Array]:
        """Products of the columns of each two designs, (k, n_a n_b)."""
        size = range(len(self.designs))
        return {
            (a, b): (self.designs[a][:, :, None] * self.designs[b][:, None, :]).reshape(self.k, -1)
            for a in size
            for b in size[a:]
        }

    def tau2(self, theta: Array) -> Array:
        """Return tau2 of each effect, (B, k)."""
        Z = self.designs[1]
        if not Z.shape[1]:
            return np.zeros((len(theta), self.k))
        return np.exp(np.clip(theta[:, self.slices[1]] @ Z.T, -LARGEST_LOG, LARGEST_LOG))

    def psi(self, theta: Array) -> Array:
        """Return the log weights, (d, B, 1), or (d, B, k) where they have moderators."""
        parts = [theta[:, part] if self._plain else theta[:, part] @ U.T for part, U in self._selection]
        return np.stack(parts) if parts else np.zeros((0, len(theta), 1))

    @property
    def _selection(self) -> list[tuple[slice, Array]]:
        return list(zip(self.slices[2:], self.designs[2:], strict=True))

    def at(self, theta: Array) -> SelectionPoint:
        """Work out the likelihood and its derivatives at parameters theta (B, n)."""
        t = self.tau2(theta)
        m = theta[:, self.slices[0]] @ self.designs[0].T
        value, slopes, curvatures = _of_each(self, m, self.v + t, self.psi(theta))
        # From the variance to log(tau2).
        curvatures[1, 1] = t * (t * curvatures[1, 1] + slopes[1])
        curvatures[0, 1] *= t
        curvatures[1, 2:] *= t
        slopes[1] *= t
        return SelectionPoint(self, theta, value, slopes, curvatures)


@dataclass(frozen=True, eq=False)
class SelectionPoint:
    """The likelihood at B sets of parameters."""

    problem: SelectionProblem
    theta: Array  # (B, n)
    loglik_i: Array  # (B, k): log-likelihood of each effect
    slopes: Array  # (2 + d, B, k): derivatives of it by each effect's mean, log(tau2) and log weights
    curvatures: Array  # (2 + d, 2 + d, B, k): second derivatives; those below the diagonal are not filled

    @property
    def scores(self) -> Array:
        """Derivatives of each effect's log-likelihood by theta, (B, k, n)."""
        parts = [s[..., None] * G for s, G in zip(self.slopes, self.problem.designs, strict=True)]
        return np.concatenate(parts, axis=-1)

    def loglik(self, weights: Array | None = None) -> Array:
        """Return the sum over effects, (B,), each counted as often as weights (B, k) say."""
        return (self.loglik_i if weights is None else weights * self.loglik_i).sum(axis=1)

    def gradient(self, weights: Array | None = None) -> Array:
        """Return the derivatives of `loglik`, (B, n)."""
        slopes = self.slopes if weights is None else weights * self.slopes
        return np.concatenate([s @ G for s, G in zip(slopes, self.problem.designs, strict=True)], axis=-1)

    def hessian(self, weights: Array | None = None) -> Array:
        """Return the second derivatives of `loglik`, (B, n, n)."""
        problem = self.problem
        out = np.empty((len(self.theta), problem.n, problem.n))
        for (a, b), product in problem._products.items():
            one = self.curvatures[a, b] if weights is None else weights * self.curvatures[a, b]
            rows, columns = problem.slices[a], problem.slices[b]
            block = (one @ product).reshape(len(out), rows.stop - rows.start, columns.stop - columns.start)
            out[:, rows, columns] = block
            if a != b:
                out[:, columns, rows] = block.swapaxes(1, 2)
        return out


def _of_each(problem: SelectionProblem, m: Array, eta: Array, psi: Array) -> tuple[Array, Array, Array]:
    """Return each effect's log-likelihood (B, k) and its derivatives by its mean, variance and log weights."""
    d = problem.weights.d
    sd = np.sqrt(eta)
    r = (problem.y - m) / sd
    square = r * r
    value = -0.5 * (LOG_2PI + np.log(eta) + square)
    slopes, curvatures = np.empty((2 + d, *m.shape)), np.empty((2 + d, 2 + d, *m.shape))
    slopes[0], slopes[1] = r / sd, 0.5 * (square - 1.0) / eta
    curvatures[0, 0], curvatures[0, 1] = -1.0 / eta, -r / (eta * sd)
    curvatures[1, 0], curvatures[1, 1] = curvatures[0, 1], (0.5 - square) / (eta * eta)
    if not d:
        return value, slopes, curvatures
    seen = 1.0 if problem.selected is None else problem.selected.astype(float)
    chance, by, twice = _chance(problem, m, eta, sd, psi)
    own = problem.weights.observed(psi)
    value += seen * (own.value - chance)
    slopes[:2] -= seen * by[:2]
    slopes[2:] = seen * (own.first - by[2:])
    curvatures[:2, :2] -= seen * twice[:2, :2]
    curvatures[:2, 2:] = -seen * twice[:2, 2:]
    curvatures[2:, 2:] = seen * (own.second - twice[2:, 2:])
    return value, slopes, curvatures


def _chance(problem: SelectionProblem, m: Array, eta: Array, sd: Array, psi: Array) -> tuple[Array, Array, Array]:
    """Return the log of the chance A of being seen, (B, k), and its derivatives by mean, variance and log weights."""
    found = problem.weights.moments(m, sd, psi)
    none = found.plain[0] < SMALLEST
    whole = np.where(none, 1.0, found.plain[0])
    M = found.plain / whole
    d = problem.weights.d
    by, twice = np.empty((2 + d, *m.shape)), np.empty((2 + d, 2 + d, *m.shape))
    by[0], by[1] = M[1] / sd, 0.5 * M[2] / eta
    twice[0, 0], twice[0, 1], twice[1, 1] = M[2] / eta, 0.5 * M[3] / (eta * sd), 0.25 * M[4] / (eta * eta)
    first = found.first / whole
    by[2:] = first[:, 0]
    twice[0, 2:], twice[1, 2:] = first[:, 1] / sd, 0.5 * first[:, 2] / eta
    twice[2:, 2:] = found.second / whole
    twice[1, 0] = twice[0, 1]
    twice[2:, :2] = 0.0
    twice -= by[:, None] * by
    return np.where(none, HOPELESS, np.log(whole)), by, twice


def selection_problem(
    y: Array,
    v: Array,
    X: Array,
    *,
    family: Family = "stepfun",
    steps: Array | None = None,
    ends: tuple[float, float] | None = None,
    alternative: Alternative = "greater",
    Z: Array | None = None,
    U: Array | None = None,
    selected: Mask | None = None,
) -> SelectionProblem:
    """Return the problem for effects y (k,) with variances v (k,).

    `X` (k, p).
    `family` {"stepfun", "beta", "halfnorm", "negexp", "logistic", "power", "negexppow"}.
    `steps` (d,): p-values between the intervals of a step function, increasing, without 1.
    `ends`: p-values between which smooth weights change, by default the widest that are of use.
    `alternative` {"greater", "less", "two.sided"}: which effects have small p-values.
    `Z`, `U`: designs of log(tau2) and of each log weight; a constant by default. Without columns Z means tau2 = 0.
    `selected` (k,).
    """
    sign, two = (-1.0 if alternative == "less" else 1.0), alternative == "two.sided"
    y, se = sign * y, np.sqrt(v)
    if family == "stepfun":
        used = np.zeros(0) if steps is None else np.asarray(steps, dtype=float)
        weights: WeightFunction = step_weights(y, se, used, two_sided=two)
    else:
        smooth = replace(SMOOTH[family], ends=ends or SMOOTH[family].ends)
        weights = smooth_weights(y, se, smooth, two_sided=two)
    ones = np.ones((len(y), 1))
    own = ones if U is None else U
    return SelectionProblem(y, v, weights, (sign * X, ones if Z is None else Z, *[own] * weights.d), selected)
