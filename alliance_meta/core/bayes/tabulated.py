"""Any likelihood of single studies with normal true effects, solved by quadrature over mu and tau.

The likelihood of each study is tabulated on equally spaced true effects. For each tau the integrals over true effects
are then one product of that table with the normal density, for all values of mu at once: the trapezoid rule, whose
error is that of rounding for analytic functions. Where tau is small beside a study's standard error, Gauss and
Hermite's rule around mu takes its place. Sums have no negative terms, so that nothing cancels, however far a study
lies from mu.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.quadrature import (
    Grid,
    HalfLine,
    Line,
    RealLine,
    SincDensity,
    TauDensity,
    integrate_grid,
    moment_depth,
)
from alliance_meta.core.dependent import IntArray

# Steps of the table, in standard deviations of likelihood times normal density; how far both are followed, in logs.
STEP = 0.6
DEPTH = 40.0
# Below this share of a standard error tau is small.
SMALL = 0.1
_NODES, _WEIGHTS = special.roots_hermite(12)
_X, _LOG_P = np.sqrt(2.0) * _NODES, np.log(_WEIGHTS / np.sqrt(np.pi))
# Of the grid over mu and tau: its error, and how far it reaches below the top, in logs.
TOLERANCE, SPREAD_DEPTH = 1e-13, 33.0
# How far tails are looked for, in the coordinates of the grid: to 10^12 times the scale.
SPAN = 28.0
# Normal densities mix smoothly where their width is this many times their distance.
APART, FINER = 1.6, 4
NEGLIGIBLE = 1e-12
NARROW = 0.05
# Values of mu worked on at once, and where exp(-x^2 / 2) and exp(-x) vanish.
BLOCK, UNDERFLOW, VANISHED = 16, 39.0, 750.0

# True effects, (1, G) or (m, G) -> log-likelihood of m studies there, (m, G).
LogLikelihood = Callable[[Array], Array]
LogDensity = Callable[[Array], Array]
Reach = Callable[[float], float]


@dataclass(frozen=True, eq=False)
class Studies:
    """Studies whose likelihoods are about equally wide."""

    rows: IntArray  # which studies they are
    log_likelihood: LogLikelihood
    centre: Array  # where each likelihood is highest, or nearly so
    width: float  # standard deviation of the narrowest likelihood
    reach: Reach  # how far from its centre the widest of them has fallen by so much, in logs
    _tables: dict[float, tuple[int, Array, Array]] = field(default_factory=dict, repr=False)

    def integrals(self, mu: Array, tau: float) -> Array:
        """Return the log-likelihoods with true effects integrated out at each mu, (m, M)."""
        if tau < SMALL * self.width:
            at = self.log_likelihood((mu[:, None] + tau * _X).reshape(1, -1)).reshape(len(self.rows), len(mu), -1)
            return special.logsumexp(at + _LOG_P, axis=2)
        step = 2.0 ** np.floor(np.log2(STEP / np.hypot(1.0 / self.width, 1.0 / tau)))
        margin = np.sqrt(2.0 * DEPTH) * tau
        # At a study's centre the integrand is at least as high as this far down; nothing counts far below that.
        away = max(self.centre.max() - mu.min(), mu.max() - self.centre.min())
        reach = self.reach(float(np.minimum(DEPTH + 0.5 * (away / tau) ** 2, VANISHED)))
        low = max(min(mu.min(), self.centre.min()) - margin, self.centre.min() - reach)
        high = min(max(mu.max(), self.centre.max()) + margin, self.centre.max() + reach)
        first, last = int(np.floor(low / step)), int(np.ceil(high / step))
        top, table = self._table(step, first, last)
        out = np.full((len(self.rows), len(mu)), -np.inf)
        order = np.argsort(mu)
        for some in np.array_split(order, 1 + (len(mu) - 1) // BLOCK):
            # Farther out the normal density is 0 in floating point.
            low = max(first, int((mu[some[0]] - UNDERFLOW * tau) / step) - 1)
            high = min(last, int((mu[some[-1]] + UNDERFLOW * tau) / step) + 1)
            if low <= high:
                kernel = np.exp(-0.5 * ((step * np.arange(low, high + 1.0)[:, None] - mu[some]) / tau) ** 2)
                with np.errstate(divide="ignore"):
                    out[:, some] = np.log(table[:, low - first : high - first + 1] @ kernel)
        return out + (top[:, None] + np.log(step / tau) - 0.5 * np.log(2.0 * np.pi))

    def _table(self, step: float, first: int, last: int) -> tuple[Array, Array]:
        """Return the top of each log-likelihood and the likelihood relative to it, (m, last - first + 1)."""
        start, top, table = self._tables.get(step, (0, np.zeros(0), np.zeros((0, 0))))
        if first < start or last >= start + table.shape[1]:
            start, stop = (
                (min(first, start), max(last + 1, start + table.shape[1])) if table.size else (first, last + 1)
            )
            logs = self.log_likelihood(step * np.arange(start, stop)[None, :])
            top = logs.max(axis=1)
            table = np.exp(logs - top[:, None])
            self._tables[step] = start, top, table
        return top, table[:, first - start : last - start + 1]


def grouped(
    width: Array, centre: Array, reach: Callable[[IntArray], Reach], likelihood: Callable[[IntArray], LogLikelihood]
) -> tuple[Studies, ...]:
    """Return studies in groups within which widths differ by a factor of at most 2.

    `width` and `centre`, (k,), are the standard deviation of each likelihood and where it is highest; `reach` and
    `likelihood` give for some studies what `Studies` has.
    """
    octave = np.floor(np.log2(width)).astype(int)
    found = []
    for one in np.unique(octave):
        rows = np.flatnonzero(octave == one)
        found.append(Studies(rows, likelihood(rows), centre[rows], float(width[rows].min()), reach(rows)))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class TabulatedProblem:
    """Studies with the priors of mu and tau."""

    studies: Sequence[Studies]
    log_mu: LogDensity  # log prior density of mu
    tau: TauDensity  # prior of tau
    tails: tuple[float, float] = (np.inf, np.inf)  # the a of the tails x^-a of the posteriors of mu and tau

    @cached_property
    def start(self) -> tuple[float, float, float]:
        """A centre of the effects, their standard error and a typical width, for the search."""
        weight = 1.0 / (self._width**2 + self._centre.var())
        return (
            float(weight @ self._centre / weight.sum()),
            float(weight.sum() ** -0.5),
            float(np.median(self._width)),
        )

    @cached_property
    def _centre(self) -> Array:
        return np.concatenate([one.centre for one in self.studies])

    @cached_property
    def _width(self) -> Array:
        return np.concatenate([np.full(len(one.rows), one.width) for one in self.studies])

    def log_likelihoods(self, mu: Array, tau: Array) -> Array:
        """Return the log-likelihood of each study at points (B,), (k, B)."""
        out = np.empty((sum(len(one.rows) for one in self.studies), len(mu)))
        for value in np.unique(tau):
            here = np.flatnonzero(tau == value)
            for one in self.studies:
                out[np.ix_(one.rows, here)] = one.integrals(mu[here], float(value))
        return out

    def outline(self, mu: Array, tau: Array) -> Array:
        """Return the log joint density at points (B,) as if likelihoods were normal."""
        total = self._width**2 + tau[:, None] ** 2
        away = self._centre - mu[:, None]
        return -0.5 * (np.log(total) + away**2 / total).sum(axis=1) + self.log_mu(mu) + self.tau.log_density(tau)

    @property
    def narrow(self) -> bool:
        """Whether some likelihoods are so narrow that tables over everything would be long."""
        return min(one.width for one in self.studies) < NARROW

    def line_of_mu(self) -> RealLine:
        """Return the coordinate of mu."""
        centre, se, _ = self.start
        return RealLine(centre, 2.0 * se, (-SPAN, SPAN))

    def line_of_tau(self) -> HalfLine:
        """Return the coordinate of tau."""
        upper = self.tau.upper
        line = HalfLine(1.0, (-3.0, 3.0), upper) if np.isfinite(upper) else HalfLine(3.0 * self.start[2], (-3.2, SPAN))
        return line.reaching(head=self.tau.head, tail=self.tails[1], depth=self.depth)

    @property
    def depth(self) -> float:
        """How far below its top the density is followed, in logs."""
        return max(moment_depth(tail, SPREAD_DEPTH) for tail in self.tails)


@dataclass(frozen=True, eq=False)
class TabulatedPosterior:
    """The posterior of mu and tau on a grid."""

    problem: TabulatedProblem
    grid: Grid  # of mu and tau

    @property
    def log_marginal(self) -> float:
        """Log of the density of the data under model and priors."""
        return self.grid.log_integral

    @property
    def error(self) -> float:
        """Estimate of the numerical error of the log marginal likelihood, and of any probability."""
        return self.grid.error

    @property
    def mu(self) -> SincDensity:
        """The distribution of mu."""
        return self.grid.marginal(0)

    @property
    def tau(self) -> SincDensity:
        """The distribution of tau."""
        return self.grid.marginal(1)

    @property
    def new_moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the true effect of a new study, by the law of total variance.

        In its own density rounding far out, times the square of what lies there, would swamp them.
        """
        mu, tau = self.mu, self.tau
        mean = float(mu.weight @ mu.value)
        return mean, float(np.sqrt(mu.weight @ (mu.value - mean) ** 2 + tau.weight @ tau.value**2))

    @cached_property
    def theta_new(self) -> SincDensity:
        """The distribution of the true effect of a new study."""
        rows = self._rows

        def log_pdf(x: Array) -> Array:
            """Return the log density of a new effect."""
            with np.errstate(divide="ignore"):
                return np.log(np.maximum(sum(row(x) for row in rows), 0.0))

        mu, tau = self.mu, self.tau
        mean = float(mu.weight @ mu.value)
        spread = np.sqrt(mu.weight @ (mu.value - mean) ** 2) + float(np.interp(0.5, tau.weight.cumsum(), tau.value))
        line = RealLine(mean, float(spread), (-SPAN, SPAN))
        return _integrate(log_pdf, (line,), depth=self.problem.depth).marginal(0)

    @cached_property
    def _rows(self) -> list[Callable[[Array], Array]]:
        """The density of the true effect of a new study at x (q,), one part for each tau."""
        line, u = self.grid.lines[0], self.grid.u[0]
        # Between the points the density of mu is known as well: the finer they are, the smaller tau may be.
        fine = np.linspace(u[0], u[-1], FINER * (len(u) - 1) + 1)
        step = float(fine[1] - fine[0])
        weights = self.mu.heights(fine) @ self.grid.weight * step
        mu = line.value(fine)
        found = []
        for tau, coarse, weight in zip(self.tau.value, self.grid.weight.T, weights.T, strict=True):
            widest = step * float(np.exp(line.log_slope(fine[weight > NEGLIGIBLE * weight.max()])).max(initial=0.0))
            near = tau <= APART * widest
            found.append(_spread(SincDensity(line, u, coarse), tau) if near else _mixed(mu, weight, tau))
        return found


def _mixed(mu: Array, weight: Array, tau: float) -> Callable[[Array], Array]:
    """Return the density of a mixture of normals that lie close enough for their width."""
    front = weight / (tau * np.sqrt(2.0 * np.pi))
    return lambda x: np.exp(-0.5 * ((x[:, None] - mu) / tau) ** 2) @ front


def _spread(density: SincDensity, tau: float) -> Callable[[Array], Array]:
    """Return a density with a narrow normal error added."""
    p = np.exp(_LOG_P)
    if not density.weight.any():
        return lambda x: np.zeros(x.shape)

    def of(x: Array) -> Array:
        """Return the density at x."""
        return density.pdf((x[:, None] - tau * _X).ravel()).reshape(len(x), -1) @ p

    return of


def solve_tabulated(problem: TabulatedProblem) -> TabulatedPosterior:
    """Integrate over mu and tau."""

    def log_joint(mu: Array, tau: Array) -> Array:
        """Return the log of prior times likelihood."""
        return problem.log_likelihoods(mu, tau).sum(axis=0) + problem.log_mu(mu) + problem.tau.log_density(tau)

    lines: tuple[Line, ...] = (problem.line_of_mu(), problem.line_of_tau())
    # The wide look at narrow likelihoods would take long, and a normal approximation shows as much.
    pilot = problem.outline if problem.narrow else None
    grid = _integrate(log_joint, lines, pilot, depth=problem.depth)
    return TabulatedPosterior(problem, grid)


def _integrate(
    density: Callable[..., Array],
    lines: tuple[Line, ...],
    pilot: Callable[..., Array] | None = None,
    *,
    depth: float = SPREAD_DEPTH,
) -> Grid:
    return integrate_grid(density, lines, pilot=pilot, tolerance=TOLERANCE, depth=depth, power=2.0, everywhere=True)


def evidence_without(problem: TabulatedProblem, what: str) -> tuple[float, float]:
    """Return the log marginal likelihood with ``"mu"`` or ``"tau"`` held at 0, and its error."""

    def at_mu(tau: Array) -> Array:
        """Return it with the mean at 0."""
        return problem.log_likelihoods(np.zeros_like(tau), tau).sum(axis=0) + problem.tau.log_density(tau)

    def at_tau(mu: Array) -> Array:
        """Return it with tau at 0."""
        return problem.log_likelihoods(mu, np.zeros_like(mu)).sum(axis=0) + problem.log_mu(mu)

    density, line = (at_mu, problem.line_of_tau()) if what == "mu" else (at_tau, problem.line_of_mu())
    grid = _integrate(density, (line,))
    return grid.log_integral, grid.error
