"""The posterior of one quantity: its moments, probabilities, quantiles, intervals and density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes import integration as bayes_panels
from alliance_meta.core.bayes.mixture import NormalMixture, shortest_interval
from alliance_meta.core.bayes.two_level import ExactPosterior, log_posterior
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import check_level, check_option
from alliance_meta.results.fit import Fit
from alliance_meta.results.teststats import Interval
from alliance_meta.tables.format import fixed, fixed_interval, level_text

IntervalKind = Literal["eti", "hdi"]
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


class StatedIntervals(Fit):
    """What posteriors have in common: intervals of the kind and probability asked for, else of their own."""

    level: float
    interval: IntervalKind

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
        if kind == "eti":
            lb, ub = (float(one) for one in self.quantile([0.5 * (1.0 - level), 0.5 * (1.0 + level)]))
        else:
            lb, ub = self._shortest(level)
        return Interval(self.median, lb, ub, level, f"{level_text(level)} {KINDS[kind]}", self.name)

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

    @abstractmethod
    def _expect(self, order: int) -> float: ...

    @abstractmethod
    def _cdf(self, x: Array) -> Array: ...

    @abstractmethod
    def _sf(self, x: Array) -> Array: ...

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


@dataclass(frozen=True, eq=False)
class TauMarginal(Marginal):
    """The standard deviation between studies."""

    posterior: ExactPosterior
    name: str = "tau"

    @property
    def _lowest(self) -> float:
        return 0.0

    def _expect(self, order: int) -> float:
        if not self.posterior.finite(order, of="tau"):
            return NotApplicable(INFINITE)
        tau, weight = self.posterior.panels.tau, self.posterior.panels.weight[0]
        mean = float(weight @ tau)
        return mean if order == 1 else float(np.sqrt(weight @ (tau - mean) ** 2))

    def _cdf(self, x: Array) -> Array:
        return bayes_panels.cdf(self.posterior.panels, x)

    def _sf(self, x: Array) -> Array:
        return bayes_panels.sf(self.posterior.panels, x)

    def _pdf(self, x: Array) -> Array:
        logs = log_posterior(self.posterior.problem, np.maximum(x, 0.0)) - self.posterior.log_marginal
        return np.where(x >= 0, np.exp(logs), 0.0)

    def _quantile(self, p: Array) -> Array:
        return bayes_panels.quantile(self.posterior.panels, p)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of tau."""
        return float(self.posterior.panels.weight[0] @ function(self.posterior.panels.tau))


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

    def _expect(self, order: int) -> float:
        f = self.function
        if not f.bounded:
            # A square: its mean needs the second moment of what is squared, its variance the fourth.
            posterior = self.inner.posterior if isinstance(self.inner, TauMarginal) else None
            if posterior is None or not posterior.finite(2 * order, of="tau"):
                return NotApplicable(INFINITE)
        mean = self.inner.average(f.forward)
        if order == 1:
            return mean
        return float(np.sqrt(self.inner.average(lambda x: (f.forward(x) - mean) ** 2)))

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
