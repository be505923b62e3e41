"""What every prior can do; and normal, t and Cauchy priors, of effects and, their positive halves, of tau."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from scipy import special

from alliance_meta._lazy import later
from alliance_meta._typing import Array
from alliance_meta.core.bayes.scale import t_constant
from alliance_meta.errors import InputError

LOG_2PI = float(np.log(2.0 * np.pi))
# Smallest uniform draw: a quantile at 0 may be infinite.
_LEAST = 2.0**-54


class Prior(ABC):
    """A distribution that says what is plausible before the data are seen.

    Attributes
    ----------
    proper : bool
        Whether the density integrates to 1; only then are there probabilities and marginal likelihoods.
    """

    label: ClassVar[str]
    # Parameters that have to be positive.
    positive: ClassVar[tuple[str, ...]] = ()
    # Program -> how it writes the prior, with places for the parameters.
    spellings: ClassVar[Mapping[str, str]] = {}
    # PyMC's distribution, and its parameters by the names of ours; where there is none, quantiles of a uniform
    # variable may do.
    pymc: ClassVar[tuple[str, Mapping[str, str]] | None] = None
    by_quantile: ClassVar[bool] = False

    def __post_init__(self) -> None:
        given = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        wrong = []
        for name, value in given.items():
            if value is None or np.ndim(value):
                continue
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number or not np.isfinite(value):
                wrong.append(f"{name}={value!r} is not a finite number")
            elif name in self.positive and not value > 0:
                wrong.append(f"{name}={value!r} must be positive")
        if wrong:
            raise InputError(f"{type(self).__name__}: {'; '.join(wrong)}")

    @property
    def proper(self) -> bool:
        """Whether the density integrates to 1; only then are there probabilities and marginal likelihoods."""
        return True

    def logpdf(self, x: Any) -> Array:
        """Return the log density at `x`; of an improper prior up to a constant."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return self._logpdf(np.asarray(x, dtype=float))

    def pdf(self, x: Any) -> Array:
        """Return the density at `x`; of an improper prior up to a constant."""
        return np.exp(self.logpdf(x))

    def cdf(self, x: Any) -> Array:
        """Return the probability of values up to `x`.

        Raises
        ------
        InputError
            The prior is improper.
        """
        self._need_proper("probabilities")
        with np.errstate(divide="ignore", over="ignore"):
            return self._cdf(np.asarray(x, dtype=float))

    def quantile(self, probability: Any) -> Array:
        """Return the value below which each probability lies.

        Raises
        ------
        InputError
            The prior is improper, or a probability is outside [0, 1].
        """
        self._need_proper("quantiles")
        p = np.asarray(probability, dtype=float)
        if not ((p >= 0) & (p <= 1)).all():
            raise InputError(f"probability={probability!r} must lie between 0 and 1")
        with np.errstate(divide="ignore", over="ignore"):
            return self._quantile(p)

    def rvs(self, size: int | tuple[int, ...] | None = None, *, seed: int) -> Array:
        """Draw from the prior; the same seed gives the same draws.

        Raises
        ------
        InputError
            The prior is improper.
        """
        self._need_proper("draws")
        uniform = np.random.default_rng(seed).random(size)
        return self._quantile(np.maximum(uniform, _LEAST))

    @abstractmethod
    def _logpdf(self, x: Array) -> Array: ...

    @abstractmethod
    def _cdf(self, x: Array) -> Array: ...

    @abstractmethod
    def _quantile(self, p: Array) -> Array: ...

    def __str__(self) -> str:
        values = [getattr(self, one.name) for one in fields(self)]  # type: ignore[arg-type]
        shown = ", ".join(f"{value:g}" for value in values if isinstance(value, int | float))
        return f"{self.label}({shown})" if shown else self.label

    def to_dict(self) -> dict[str, Any]:
        """Return kind and parameters as a plain dictionary."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        plain = {name: np.asarray(value).tolist() for name, value in given.items() if value is not None}
        return {"prior": type(self).__name__, **plain}

    def spelled(self, program: str) -> str:
        """Return how an R package writes the prior; code that stops with the reason where it cannot."""
        text = self.spellings.get(program)
        return f"stop('the prior {self} has no spelling in {program}')" if text is None else text.format(self)

    def plot(self, **options: Any) -> Any:
        """Draw the density; `options` are those of `plots.prior`, such as ``scale="r"``."""
        return later("alliance_meta.plots", "prior")(self, **options)

    def _need_proper(self, what: str) -> None:
        if not self.proper:
            raise InputError(f"{self} is improper: its density does not integrate to 1, so it has no {what}")


class EffectPrior(Prior):
    """A prior of a mean effect or of a coefficient.

    Attributes
    ----------
    proper : bool
    """

    @property
    def gaussian(self) -> tuple[float, float] | None:
        """Mean and precision of a normal prior, zeros of a flat one."""
        return None

    @property
    def student(self) -> tuple[float, float, float] | None:
        """Centre, scale and degrees of freedom of a t or Cauchy prior."""
        return None

    @property
    def moments(self) -> float:
        """It has fewer moments than this."""
        return np.inf if self.student is None else self.student[2]


class TauPrior(Prior):
    """A prior of tau, the standard deviation between studies; the density is that of tau, never of tau^2.

    Attributes
    ----------
    proper : bool
    upper : float
        End of the support.
    tail : float
        The a of a tail like tau^-a; infinite where it falls faster than any power.
    """

    @property
    def upper(self) -> float:
        """End of the support."""
        return np.inf

    @property
    @abstractmethod
    def tail(self) -> float:
        """The a of a tail like tau^-a; infinite where it falls faster than any power."""

    def mean_sd(self) -> tuple[float, float]:
        """Return mean and standard deviation; what does not exist is no number."""
        with np.errstate(all="ignore"):
            mean, sd = self._mean_sd()
        return float(mean), float(sd)

    def _mean_sd(self) -> tuple[Any, Any]:
        return np.inf, np.inf

    def given(self, vi: Array) -> TauPrior:
        """Return the prior for these sampling variances; most priors do not depend on them."""
        return self


@dataclass(frozen=True)
class Normal(EffectPrior):
    """Normal prior.

    Parameters
    ----------
    mean : float
    sd : float
        Positive. About two thirds of the prior lie within one `sd` of the mean, 95% within two.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(priors.Normal(0, 0.5), priors.Normal(0, 0.5).quantile([0.025, 0.975]).round(2).tolist())
    normal(0, 0.5) [-0.98, 0.98]
    """

    mean: float = 0.0
    sd: float = 1.0

    label: ClassVar[str] = "normal"
    positive: ClassVar[tuple[str, ...]] = ("sd",)
    spellings: ClassVar[Mapping[str, str]] = {"brms": '"normal({0.mean:.15g}, {0.sd:.15g})"'}
    pymc = "Normal", {"mu": "mean", "sigma": "sd"}

    @property
    def gaussian(self) -> tuple[float, float]:
        """Mean and precision."""
        return self.mean, self.sd**-2.0

    def _logpdf(self, x: Array) -> Array:
        return -0.5 * (LOG_2PI + ((x - self.mean) / self.sd) ** 2) - np.log(self.sd)

    def _cdf(self, x: Array) -> Array:
        return special.ndtr((x - self.mean) / self.sd)

    def _quantile(self, p: Array) -> Array:
        return self.mean + self.sd * special.ndtri(p)


@dataclass(frozen=True)
class StudentT(EffectPrior):
    """Student t prior: like a normal near the middle, with heavier tails.

    Where data and prior disagree a heavy-tailed prior gives way, a normal one pulls.

    Parameters
    ----------
    df : float
        Degrees of freedom, positive; the fewer, the heavier the tails.
    mean : float
        The centre.
    scale : float
        Positive.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(priors.StudentT(4, 0, 0.5))
    Student t(4, 0, 0.5)
    """

    df: float
    mean: float = 0.0
    scale: float = 1.0

    label: ClassVar[str] = "Student t"
    positive: ClassVar[tuple[str, ...]] = ("df", "scale")
    pymc = "StudentT", {"nu": "df", "mu": "mean", "sigma": "scale"}

    @property
    def student(self) -> tuple[float, float, float]:
        """Centre, scale and degrees of freedom."""
        return self.mean, self.scale, self.df

    def _logpdf(self, x: Array) -> Array:
        z = (x - self.mean) / self.scale
        return t_constant(self.df) - np.log(self.scale) - 0.5 * (self.df + 1.0) * np.log1p(z**2 / self.df)

    def _cdf(self, x: Array) -> Array:
        return special.stdtr(self.df, (x - self.mean) / self.scale)

    def _quantile(self, p: Array) -> Array:
        return self.mean + self.scale * special.stdtrit(self.df, p)


@dataclass(frozen=True)
class Cauchy(EffectPrior):
    """Cauchy prior, the Student t with 1 degree of freedom: half of it lies within one scale of the centre.

    Parameters
    ----------
    mean : float
        The centre (a Cauchy distribution has no mean).
    scale : float
        Positive.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.Cauchy(0, 0.35).quantile([0.25, 0.75]).round(3).tolist()
    [-0.35, 0.35]
    """

    mean: float = 0.0
    scale: float = 1.0

    label: ClassVar[str] = "Cauchy"
    positive: ClassVar[tuple[str, ...]] = ("scale",)
    pymc = "Cauchy", {"alpha": "mean", "beta": "scale"}

    @property
    def student(self) -> tuple[float, float, float]:
        """Centre, scale and degrees of freedom."""
        return self.mean, self.scale, 1.0

    def _logpdf(self, x: Array) -> Array:
        return -np.log(np.pi * self.scale) - np.log1p(((x - self.mean) / self.scale) ** 2)

    def _cdf(self, x: Array) -> Array:
        return special.stdtr(1.0, (x - self.mean) / self.scale)

    def _quantile(self, p: Array) -> Array:
        return self.mean + self.scale * special.stdtrit(1.0, p)


@dataclass(frozen=True)
class Flat(EffectPrior):
    """Flat prior: every value equally plausible. Improper, so it allows no Bayes factor of its coefficient.

    Attributes
    ----------
    proper : bool
        False.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.Flat().proper
    False
    """

    label: ClassVar[str] = "flat"
    spellings: ClassVar[Mapping[str, str]] = {"brms": '""'}
    pymc = "Flat", {}

    @property
    def gaussian(self) -> tuple[float, float]:
        """No mean, and no precision."""
        return 0.0, 0.0

    @property
    def proper(self) -> bool:
        """Whether the density integrates to 1: it does not."""
        return False

    def _logpdf(self, x: Array) -> Array:
        return np.zeros(x.shape)

    def _cdf(self, x: Array) -> Array:
        raise NotImplementedError

    def _quantile(self, p: Array) -> Array:
        raise NotImplementedError


def inside(x: Array, value: Array) -> Array:
    """Return the log density where tau >= 0, minus infinity elsewhere."""
    return np.where(x >= 0, value, -np.inf)


@dataclass(frozen=True)
class HalfNormal(TauPrior):
    """Half-normal prior of tau: the positive half of a normal distribution around 0.

    Its median is .67 scale, its mean .80 scale, and 95% lie below 1.96 scale.

    Parameters
    ----------
    scale : float
        Positive, in the unit of the effects.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(priors.HalfNormal(0.3), priors.HalfNormal(0.3).quantile([0.5, 0.95]).round(2).tolist())
    half-normal(0.3) [0.2, 0.59]
    """

    scale: float

    label: ClassVar[str] = "half-normal"
    positive: ClassVar[tuple[str, ...]] = ("scale",)
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dhalfnormal(t, scale={0.scale:.15g})",
        "brms": "normal(0, {0.scale:.15g})",
        "RoBMA": 'prior("normal", list(mean=0, sd={0.scale:.15g}), truncation=list(0, Inf))',
    }
    pymc = "HalfNormal", {"sigma": "scale"}
    tail = np.inf

    def _mean_sd(self) -> tuple[Any, Any]:
        return self.scale * np.sqrt(2.0 / np.pi), self.scale * np.sqrt(1.0 - 2.0 / np.pi)

    def _logpdf(self, x: Array) -> Array:
        return inside(x, 0.5 * np.log(2.0 / np.pi) - np.log(self.scale) - 0.5 * (x / self.scale) ** 2)

    def _cdf(self, x: Array) -> Array:
        return special.erf(np.maximum(x, 0.0) / (self.scale * np.sqrt(2.0)))

    def _quantile(self, p: Array) -> Array:
        return self.scale * np.sqrt(2.0) * special.erfinv(p)


@dataclass(frozen=True)
class HalfT(TauPrior):
    """Half-t prior of tau: between the half-Cauchy (1 degree of freedom) and the half-normal (infinitely many).

    Parameters
    ----------
    df, scale : float
        Positive.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(priors.HalfT(4, 0.3))
    half-t(4, 0.3)
    """

    df: float
    scale: float

    label: ClassVar[str] = "half-t"
    positive: ClassVar[tuple[str, ...]] = ("df", "scale")
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dhalft(t, df={0.df:.15g}, scale={0.scale:.15g})",
        "brms": "student_t({0.df:.15g}, 0, {0.scale:.15g})",
        "RoBMA": 'prior("t", list(location=0, scale={0.scale:.15g}, df={0.df:.15g}), truncation=list(0, Inf))',
    }
    pymc = "HalfStudentT", {"nu": "df", "sigma": "scale"}

    @property
    def tail(self) -> float:
        """One more than the degrees of freedom."""
        return self.df + 1.0

    def _mean_sd(self) -> tuple[Any, Any]:
        df = np.float64(self.df)
        mean = 2.0 * self.scale * df / (df - 1.0) * np.exp(t_constant(self.df))
        return mean, np.sqrt(self.scale**2 * df / (df - 2.0) - mean**2)

    def _logpdf(self, x: Array) -> Array:
        log_kernel = np.log1p((x / self.scale) ** 2 / self.df)
        return inside(x, np.log(2.0 / self.scale) + t_constant(self.df) - 0.5 * (self.df + 1.0) * log_kernel)

    def _cdf(self, x: Array) -> Array:
        # The square of a t variable over its sum with df has a beta distribution.
        z2 = np.minimum((np.maximum(x, 0.0) / self.scale) ** 2, 1e300)
        return special.betainc(0.5, 0.5 * self.df, z2 / (self.df + z2))

    def _quantile(self, p: Array) -> Array:
        low = special.betaincinv(0.5, 0.5 * self.df, np.minimum(p, 0.5))
        high = special.betaincinv(0.5 * self.df, 0.5, np.minimum(1.0 - p, 0.5))
        return self.scale * np.sqrt(self.df * np.where(p <= 0.5, low / (1.0 - low), (1.0 - high) / high))


@dataclass(frozen=True)
class HalfCauchy(TauPrior):
    """Half-Cauchy prior of tau: half of it lies below the scale, and very large values stay possible.

    Parameters
    ----------
    scale : float
        Positive; the median.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.HalfCauchy(0.3).quantile([0.5, 0.95]).round(2).tolist()
    [0.3, 3.81]
    """

    scale: float

    label: ClassVar[str] = "half-Cauchy"
    positive: ClassVar[tuple[str, ...]] = ("scale",)
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dhalfcauchy(t, scale={0.scale:.15g})",
        "brms": "cauchy(0, {0.scale:.15g})",
        "RoBMA": 'prior("cauchy", list(location=0, scale={0.scale:.15g}), truncation=list(0, Inf))',
    }
    pymc = "HalfCauchy", {"beta": "scale"}
    tail = 2.0

    def _logpdf(self, x: Array) -> Array:
        return inside(x, np.log(2.0 / (np.pi * self.scale)) - np.log1p((x / self.scale) ** 2))

    def _cdf(self, x: Array) -> Array:
        return 2.0 / np.pi * np.arctan(np.maximum(x, 0.0) / self.scale)

    def _quantile(self, p: Array) -> Array:
        return np.where(p < 1, self.scale * np.tan(0.5 * np.pi * p), np.inf)
