"""The posterior of one quantity: its moments, probabilities, quantiles, intervals and density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.hypotheses import Hypothesis, read_hypothesis
from alliance_meta.core.bayes.quadrature import (
    HalfLine,
    NormalMixture,
    PiecewiseDensity,
    SincDensity,
    shortest_interval,
)
from alliance_meta.core.bayes.two_level import ExactPosterior, log_posterior
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Scale, check_level, check_option
from alliance_meta.results.coefficients import Interval
from alliance_meta.results.fit import COLUMNS as PREDICTED
from alliance_meta.results.fit import SCALE_LABELS, Fit, to_scale
from alliance_meta.tables.format import fixed, fixed_interval, format_level

IntervalKind = Literal["eti", "hdi"]
AnyMarginal = TypeVar("AnyMarginal", bound="Marginal")
KINDS = {"eti": "equal-tailed", "hdi": "highest-density"}
INFINITE = "infinite or out of reach: the tail of the posterior is too heavy"
# The normal integral by the trapezoid rule, to rounding for functions as smooth as tanh.
_Z = np.arange(-9.0, 9.01, 0.125)
_PZ = 0.125 * np.exp(-0.5 * _Z**2) / np.sqrt(2.0 * np.pi)

# What a posterior answers in its own words, for `Fit.why_not`.
LACKS = {
    **dict.fromkeys(("stat", "ddf", "pval", "test", "QM", "QMdf", "QMp"), "ask bayes_factor() or prob()"),
    **dict.fromkeys(("QE", "QEdf", "QEp", "R2", "H2", "se_tau2"), "posterior() has tau and I2"),
    "confint_tau2": "tidy() and posterior('tau') have the interval",
    "loglik": "log_marginal_likelihood is what compares models",
    "robust": "dependence enters by random=",
}


class Posterior(Fit):
    """What posteriors have in common: quantities by name, and intervals of the kind and probability asked for."""

    level: float
    interval: IntervalKind
    # What to ask for instead of the probability of a single value.
    _of_a_point: ClassVar[str] = "a single value has probability 0; state a range, or ask for a Bayes factor"

    # Whether effects of one study are modelled as such.
    _nested: ClassVar[bool] = False

    def posterior(self, what: str, *, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity."""
        raise NotImplementedError

    def _marginal(self, what: Any) -> Marginal:
        return self.posterior(what)

    def prob(self, statement: str, *, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement.

        Parameters
        ----------
        statement : str
            ``"mu > 0.1"``, ``"0.1 < theta_new < 0.5"``, ``"|mu| < 0.1"``, ``"tau < 0.2"``, ``"tau[study_id] < 0.2"``.
        scale : {"z", "r"}, optional
            ``"r"``: the limits are correlations.
        """
        stated = self._range(statement)
        return self.posterior(stated.name, scale=scale).prob(stated.lower, stated.upper)

    def _range(self, statement: str) -> Hypothesis:
        stated = read_hypothesis(statement)
        if stated.is_point:
            raise InputError(f"{statement!r}: {self._of_a_point}")
        return stated

    @property
    def _scale(self) -> str:
        measure = self.effects.measure
        return "z" if measure == "ZCOR" else "r" if measure in ("COR", "UCOR") else "analysis"

    @cached_property
    def _limits(self) -> tuple[Array, Array]:
        """Limits of the credible intervals of the coefficients, (p,) each."""
        found = [self._marginal(name).interval(level=self.level, kind=self.interval) for name in self.names]
        return np.array([one.lb for one in found]), np.array([one.ub for one in found])

    def _on_scale(self, found: AnyMarginal, scale: Scale | None, no_effect: str) -> AnyMarginal | Marginal:
        """Return the quantity as r where that is asked for; `no_effect` names one that cannot be a correlation."""
        if scale is None or scale == self._scale:
            return found
        if self._scale != "z" or scale != "r":
            raise InputError(f"scale={scale!r}: effects on the scale {self.effects.scale_label!r} cannot be shown so")
        if no_effect:
            raise InputError(f"scale='r': {no_effect} is no effect, so that it cannot be shown as a correlation")
        return found.as_r()

    def _shown(self, scale: Scale | None, level: float, kind: IntervalKind) -> dict[str, Any]:
        """Return how predictions are shown, for their `attrs`; the check of the scale is that of every other result."""
        empty = pd.DataFrame({name: np.empty(0) for name in PREDICTED})
        checked = to_scale(empty, measure=self.effects.measure, scale=scale, tau2=0.0)
        return {
            "scale": scale or self._scale,
            "scale_label": SCALE_LABELS[checked.attrs["scale"]],
            "level": level,
            "interval": kind,
            "pred": "posterior median",
        }

    def _exported(self) -> pd.DataFrame:
        """Return the parameters without the true effect of each study."""
        table = self.tidy()
        return table[[not str(name).startswith("theta[") for name in table.index]]

    def _interval(self, level: float | None, interval: IntervalKind | None) -> tuple[float, IntervalKind]:
        used = self.level if level is None else level
        kind = self.interval if interval is None else interval
        check_level(used)
        check_option("interval", kind, IntervalKind)
        return used, kind


class Marginal(ABC):
    """The posterior distribution of one quantity, which its ``name`` says.

    Attributes
    ----------
    mean, sd, median : float
        `NotApplicable` where the distribution has no mean or variance.
    """

    name: str

    @cached_property
    def mean(self) -> float:
        """Posterior mean."""
        return self._expect(1)

    @cached_property
    def sd(self) -> float:
        """Posterior standard deviation."""
        return self._expect(2)

    @cached_property
    def median(self) -> float:
        """Posterior median."""
        return float(self.quantile(0.5))

    def cdf(self, x: Any) -> Array:
        """Return the probability of values up to `x`."""
        return self._at(self._cdf, x)

    def sf(self, x: Any) -> Array:
        """Return the probability of values above `x`, accurate in the upper tail."""
        return self._at(self._sf, x)

    def pdf(self, x: Any) -> Array:
        """Return the posterior density at `x`."""
        return self._at(self._pdf, x)

    def quantile(self, probability: Any) -> Array:
        """Return the value below which each probability lies, each strictly between 0 and 1."""
        p = np.asarray(probability, dtype=float)
        if not ((p > 0) & (p < 1)).all():
            raise InputError(f"probability={probability!r} must lie strictly between 0 and 1")
        return self._at(self._quantile, p)

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        below, above = float(self.cdf(lower)), float(self.sf(upper))
        # The smaller tails first: the difference of two numbers near 1 has few digits.
        if below > 0.5:
            return float(self.sf(lower)) - above
        return float(self.cdf(upper)) - below if above > 0.5 else 1.0 - below - above

    def interval(self, *, level: float = 0.95, kind: IntervalKind = "eti") -> Interval:
        """Return an interval that holds `level` of the posterior, with the median as the estimate.

        Parameters
        ----------
        level : float
            A fraction.
        kind : {"eti", "hdi"}
            ``eti``: equal-tailed, as much probability below as above. ``hdi``: the shortest one, which holds the
            most plausible values; it changes with the scale.
        """
        check_level(level)
        check_option("kind", kind, IntervalKind)
        lb, ub = self.limits(level, kind)
        return Interval(self.median, lb, ub, level, f"{format_level(level)} {KINDS[kind]}", self.name)

    def limits(self, level: float, kind: IntervalKind) -> tuple[float, float]:
        """Return the limits of `interval` alone."""
        if kind == "hdi":
            return self._shortest(level)
        lb, ub = self.quantile([0.5 * (1.0 - level), 0.5 * (1.0 + level)])
        return float(lb), float(ub)

    def as_r(self) -> Marginal:
        """Return a Fisher z as a correlation."""
        return TransformedMarginal(f"{self.name} as r", self, TANH)

    def density(self, *, points: int = 201) -> pd.DataFrame:
        """Return the density on equally spaced values that hold all but a thousandth of the posterior."""
        ends = self.quantile([5e-4, 1.0 - 5e-4])
        x = np.linspace(max(float(ends[0]), self._lowest), float(ends[1]), points)
        return pd.DataFrame({"x": x, "density": self.pdf(x)})

    def __str__(self) -> str:
        one = self.interval()
        return f"{self.name}: median {fixed(one.estimate)} {fixed_interval(one.lb, one.ub)} ({one.kind})"

    @property
    def _lowest(self) -> float:
        return -np.inf

    def _shortest(self, level: float) -> tuple[float, float]:
        return shortest_interval(self._quantile, self._pdf, level=level, lowest=self._lowest)

    def _has(self, order: int) -> bool:
        """Return whether a moment is finite and in reach."""
        return True

    def _expect(self, order: int) -> float:
        if not self._has(order):
            return NotApplicable(INFINITE)
        mean = self.average(lambda x: x)
        return mean if order == 1 else float(np.sqrt(self.average(lambda x: (x - mean) ** 2)))

    @abstractmethod
    def _cdf(self, x: Array) -> Array: ...

    def _sf(self, x: Array) -> Array:
        return 1.0 - self._cdf(x)

    @abstractmethod
    def _pdf(self, x: Array) -> Array: ...

    @abstractmethod
    def _quantile(self, p: Array) -> Array: ...

    @abstractmethod
    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a bounded or slowly growing function of the quantity."""

    @staticmethod
    def _at(function: Callable[[Array], Array], x: Any) -> Array:
        x = np.asarray(x, dtype=float)
        return function(x.ravel()).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class MixtureMarginal(Marginal):
    """A quantity that is normal given tau."""

    name: str
    mixture: NormalMixture
    has_mean: bool = True
    has_sd: bool = True

    def _expect(self, order: int) -> float:
        if not (self.has_mean if order == 1 else self.has_sd):
            return NotApplicable(INFINITE)
        return float(self.mixture.moments()[order - 1][0])

    def _shortest(self, level: float) -> tuple[float, float]:
        lower, upper = self.mixture.shortest(level)
        return float(lower[0]), float(upper[0])

    def _cdf(self, x: Array) -> Array:
        return self.mixture.cdf(x[None])[0]

    def _sf(self, x: Array) -> Array:
        return self.mixture.sf(x[None])[0]

    def _pdf(self, x: Array) -> Array:
        return self.mixture.pdf(x[None])[0]

    def _quantile(self, p: Array) -> Array:
        return self.mixture.quantile(p)[0]

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        values = function(self.mixture.mean[0][:, None] + self.mixture.sd[0][:, None] * _Z)
        return float(self.mixture.weight @ (values @ _PZ))


class OnIntervals(Marginal):
    """A standard deviation whose posterior is known on intervals."""

    if TYPE_CHECKING:

        @property
        def piecewise(self) -> PiecewiseDensity:
            """Its posterior."""

    _lowest = 0.0

    def _cdf(self, x: Array) -> Array:
        return self.piecewise.cdf(np.maximum(x, 0.0))

    def _sf(self, x: Array) -> Array:
        return self.piecewise.sf(np.maximum(x, 0.0))

    def _quantile(self, p: Array) -> Array:
        return self.piecewise.quantile(p)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of it."""
        return float(self.piecewise.weight[0] @ function(self.piecewise.tau))


@dataclass(frozen=True, eq=False)
class TauMarginal(OnIntervals):
    """The standard deviation between studies."""

    posterior: ExactPosterior
    name: str = "tau"

    @property
    def piecewise(self) -> PiecewiseDensity:
        """Its posterior."""
        return self.posterior.density

    def _has(self, order: int) -> bool:
        return self.posterior.finite(order, of="tau")

    def _pdf(self, x: Array) -> Array:
        logs = log_posterior(self.posterior.problem, np.maximum(x, 0.0)) - self.posterior.log_marginal
        return np.where(x >= 0, np.exp(logs), 0.0)


@dataclass(frozen=True, slots=True)
class Monotone:
    """An increasing function with its inverse and its slope; `lowest` is its value where the other one begins."""

    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    bounded: bool


@dataclass(frozen=True, eq=False)
class TransformedMarginal(Marginal):
    """An increasing function of a quantity, such as r = tanh(z)."""

    name: str
    inner: Marginal
    function: Monotone

    @property
    def _lowest(self) -> float:
        lowest = self.inner._lowest
        return float(self.function.forward(np.array(lowest))) if np.isfinite(lowest) else -np.inf

    def _has(self, order: int) -> bool:
        # A square: its mean needs the second moment of what is squared, its variance the fourth.
        return self.function.bounded or self.inner._has(2 * order)

    def _cdf(self, x: Array) -> Array:
        return self.inner._cdf(self._back(x))

    def _sf(self, x: Array) -> Array:
        return self.inner._sf(self._back(x))

    def _pdf(self, x: Array) -> Array:
        inner = self._back(x)
        inside = np.isfinite(inner)
        at = np.where(inside, inner, 0.0)
        with np.errstate(divide="ignore"):
            return np.where(inside, self.inner._pdf(at) / self.function.slope(at), 0.0)

    def _quantile(self, p: Array) -> Array:
        return self.function.forward(self.inner._quantile(p))

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return self.inner.average(lambda x: function(self.function.forward(x)))

    def _back(self, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.function.inverse(x)


def _arctanh(x: Array) -> Array:
    return np.arctanh(np.clip(x, -1.0, 1.0))


def _logistic(s: Array) -> Array:
    return special.expit(s) * special.expit(-s)


TANH = Monotone(np.tanh, _arctanh, lambda z: 1.0 / np.cosh(z) ** 2, True)
SHARE = Monotone(special.expit, lambda p: special.logit(np.clip(p, 0.0, 1.0)), _logistic, True)
SQUARE = Monotone(np.square, lambda x: np.sqrt(np.maximum(x, 0.0)), lambda t: 2.0 * t, False)


def share_of(v: float) -> Monotone:
    """Return I2 in percent as a function of tau, for a typical sampling variance v."""
    return Monotone(
        lambda t: 100.0 * t**2 / (t**2 + v),
        lambda x: np.sqrt(v / (100.0 / np.clip(x, 1e-300, 100.0) - 1.0)),
        lambda t: 200.0 * v * t / (t**2 + v) ** 2,
        True,
    )


MOST_STEPS = 200
# In probability.
CLOSE = 1e-13


@dataclass(frozen=True, eq=False)
class GridMarginal(Marginal):
    """A quantity whose density is known on a grid."""

    name: str
    grid: SincDensity
    # The highest moment that is finite.
    moments: int = 2
    # Mean and standard deviation, where they are known better than from the grid.
    known: tuple[float, float] | None = None

    def _has(self, order: int) -> bool:
        return order <= self.moments

    def _expect(self, order: int) -> float:
        return self.known[order - 1] if self.known is not None and self._has(order) else super()._expect(order)

    @property
    def _lowest(self) -> float:
        return 0.0 if isinstance(self.grid.line, HalfLine) else -np.inf

    def _cdf(self, x: Array) -> Array:
        return self.grid.cdf(x)

    def _pdf(self, x: Array) -> Array:
        return self.grid.pdf(x)

    def _quantile(self, p: Array) -> Array:
        # By u: where a tail is followed far, most of the range of values holds nothing.
        grid = self.grid
        u = invert(lambda u: np.clip(grid.steps(u) @ grid.weight, 0.0, 1.0), p, grid.u[0], grid.u[-1])
        return grid.line.value(u)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return float(self.grid.weight @ function(self.grid.value))


def invert(cdf: Callable[[Array], Array], p: Array, low: float, high: float) -> Array:
    """Return x with cdf(x) = p between low and high: false position (Illinois), every third step a bisection."""
    a, b = np.full(p.shape, low), np.full(p.shape, high)
    fa, fb = -p, 1.0 - p
    enough = 1e-13 * (high - low)
    x = a
    for i in range(MOST_STEPS):
        x = 0.5 * (a + b) if i % 3 == 0 else b - fb * (b - a) / (fb - fa)
        x = np.clip(x, a, b)
        f = cdf(x) - p
        short = f < 0
        # The end that stays counts half, so that it is given up in time.
        fa, fb = np.where(short, f, 0.5 * fa), np.where(short, 0.5 * fb, f)
        a, b = np.where(short, x, a), np.where(short, b, x)
        if ((b - a <= enough) | (np.abs(f) < CLOSE)).all():
            break
    return x


COLUMNS = ("mean", "sd", "median", "ci_lb", "ci_ub")


def as_table(rows: Mapping[str, Sequence[float]], scale: str, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return rows of mean, sd, median and limits by parameter."""
    columns = zip(COLUMNS, zip(*rows.values(), strict=True), strict=True)
    out = pd.DataFrame({name: column(cells) for name, cells in columns}, index=pd.Index(list(rows), name="parameter"))
    out.attrs.update(scale=scale, level=level, interval=kind)
    return out


def row(marginal: Marginal, level: float, kind: IntervalKind) -> tuple[float, ...]:
    """Return mean, sd, median and limits of one quantity."""
    return marginal.mean, marginal.sd, marginal.median, *marginal.limits(level, kind)


def column(cells: Sequence[Any]) -> Any:
    """Return an array, of objects where a cell has to keep its reason."""
    return np.array(cells, dtype=object if any(isinstance(x, NotApplicable) for x in cells) else None)
