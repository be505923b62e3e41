"""Priors of tau, the standard deviation between studies, that do not depend on the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.core.bayes.integration import LOG_ROOT_2PI
from alliance_meta.core.bayes.scale import stirling_error, t_constant
from alliance_meta.errors import InputError


def _inside(x: Array, value: Array) -> Array:
    """Return the log density where tau >= 0, minus infinity elsewhere."""
    return np.where(x >= 0, value, -np.inf)


class _Scaled(TauPrior):
    """A prior that other programs give by its rate."""

    scale: float

    @property
    def rate(self) -> float:
        """The inverse of the scale."""
        return 1.0 / self.scale


@dataclass(frozen=True)
class HalfNormal(TauPrior):
    """Half-normal prior of tau: the positive half of a normal distribution around 0.

    Its median is .67 scale, its mean .80 scale, and 95 % lie below 1.96 scale.

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

    @property
    def tail(self) -> float:
        """Faster than any power."""
        return np.inf

    def _logpdf(self, x: Array) -> Array:
        return _inside(x, 0.5 * np.log(2.0 / np.pi) - np.log(self.scale) - 0.5 * (x / self.scale) ** 2)

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

    def _logpdf(self, x: Array) -> Array:
        log_kernel = np.log1p((x / self.scale) ** 2 / self.df)
        return _inside(x, np.log(2.0 / self.scale) + t_constant(self.df) - 0.5 * (self.df + 1.0) * log_kernel)

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

    @property
    def tail(self) -> float:
        """Quadratic: it has no mean."""
        return 2.0

    def _logpdf(self, x: Array) -> Array:
        return _inside(x, np.log(2.0 / (np.pi * self.scale)) - np.log1p((x / self.scale) ** 2))

    def _cdf(self, x: Array) -> Array:
        return 2.0 / np.pi * np.arctan(np.maximum(x, 0.0) / self.scale)

    def _quantile(self, p: Array) -> Array:
        return np.where(p < 1, self.scale * np.tan(0.5 * np.pi * p), np.inf)


@dataclass(frozen=True)
class Exponential(_Scaled):
    """Exponential prior of tau.

    Parameters
    ----------
    scale : float
        Positive; the mean (R's ``dexp`` takes the rate, 1 / scale).

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.Exponential(0.2).quantile([0.5, 0.95]).round(2).tolist()
    [0.14, 0.6]
    """

    scale: float

    label: ClassVar[str] = "exponential"
    positive: ClassVar[tuple[str, ...]] = ("scale",)
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dexp(t, rate={0.rate:.15g})",
        "brms": "exponential({0.rate:.15g})",
        "RoBMA": 'prior("exp", list(rate={0.rate:.15g}))',
    }
    pymc = "Exponential", {"scale": "scale"}

    @property
    def tail(self) -> float:
        """Faster than any power."""
        return np.inf

    def _logpdf(self, x: Array) -> Array:
        return _inside(x, -np.log(self.scale) - x / self.scale)

    def _cdf(self, x: Array) -> Array:
        return -np.expm1(-np.maximum(x, 0.0) / self.scale)

    def _quantile(self, p: Array) -> Array:
        return -self.scale * np.log1p(-p)


@dataclass(frozen=True)
class Lomax(TauPrior):
    """Lomax prior of tau: an exponential one whose scale is not known exactly, hence heavier in the tail.

    Parameters
    ----------
    shape, scale : float
        Positive.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(priors.Lomax(6, 1))
    Lomax(6, 1)
    """

    shape: float
    scale: float

    label: ClassVar[str] = "Lomax"
    positive: ClassVar[tuple[str, ...]] = ("shape", "scale")
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dlomax(t, shape={0.shape:.15g}, scale={0.scale:.15g})",
        "brms": "pareto_type_2(0, {0.scale:.15g}, {0.shape:.15g})",
    }
    by_quantile = True

    @property
    def tail(self) -> float:
        """One more than the shape."""
        return self.shape + 1.0

    def _logpdf(self, x: Array) -> Array:
        return _inside(x, np.log(self.shape / self.scale) - (self.shape + 1.0) * np.log1p(x / self.scale))

    def _cdf(self, x: Array) -> Array:
        return -np.expm1(-self.shape * np.log1p(np.maximum(x, 0.0) / self.scale))

    def _quantile(self, p: Any, maths: Any = np) -> Any:
        return self.scale * maths.expm1(-maths.log1p(-p) / self.shape)


@dataclass(frozen=True)
class InverseGamma(TauPrior):
    """Inverse-gamma prior of tau itself (not of tau^2): it rules out values near 0 and has a heavy tail.

    ``InverseGamma(1, 0.15)`` on the scale of d is the default of R's RoBMA; ``InverseGamma(1, 0.075)`` is about
    the same on Fisher's z.

    Parameters
    ----------
    shape, scale : float
        Positive; the density is proportional to ``tau ** (-shape - 1) * exp(-scale / tau)``.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.InverseGamma(1, 0.075).quantile([0.05, 0.5, 0.95]).round(3).tolist()
    [0.025, 0.108, 1.462]
    """

    shape: float
    scale: float

    label: ClassVar[str] = "inverse-gamma"
    positive: ClassVar[tuple[str, ...]] = ("shape", "scale")
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) {0.scale:.15g}^{0.shape:.15g} / gamma({0.shape:.15g}) * t^(-{0.shape:.15g} - 1) "
        "* exp(-{0.scale:.15g} / t)",
        "brms": "inv_gamma({0.shape:.15g}, {0.scale:.15g})",
        "RoBMA": 'prior("invgamma", list(shape={0.shape:.15g}, scale={0.scale:.15g}))',
    }
    pymc = "InverseGamma", {"alpha": "shape", "beta": "scale"}

    @property
    def tail(self) -> float:
        """One more than the shape."""
        return self.shape + 1.0

    def _logpdf(self, x: Array) -> Array:
        a = self.shape
        ratio = np.minimum(self.scale / (a * x), 1e300)
        value = 0.5 * np.log(a) - LOG_ROOT_2PI - stirling_error(a) + a * (np.log(ratio) - ratio + 1.0) - np.log(x)
        return np.where(x > 0, value, -np.inf)

    def _cdf(self, x: Array) -> Array:
        return special.gammaincc(self.shape, self.scale / np.maximum(x, 0.0))

    def _quantile(self, p: Array) -> Array:
        return self.scale / special.gammainccinv(self.shape, p)


@dataclass(frozen=True)
class Gamma(_Scaled):
    """Gamma prior of tau, or of degrees of freedom: it starts from 0 and has a light tail.

    ``Gamma(2, 10)``, with mean 20, is a common prior of the degrees of freedom of a t distribution (Juárez & Steel
    2010, J. Business & Economic Statistics 28, 52-66).

    Parameters
    ----------
    shape, scale : float
        Positive; the density is proportional to ``tau ** (shape - 1) * exp(-tau / scale)``, the mean is shape times
        scale. R and Stan have the rate, which is 1 / scale.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.Gamma(2, 10).quantile([0.05, 0.5, 0.95]).round(1).tolist()
    [3.6, 16.8, 47.4]
    """

    shape: float
    scale: float

    label: ClassVar[str] = "gamma"
    positive: ClassVar[tuple[str, ...]] = ("shape", "scale")
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dgamma(t, {0.shape:.15g}, scale={0.scale:.15g})",
        "brms": "gamma({0.shape:.15g}, {0.rate:.15g})",
        "RoBMA": 'prior("gamma", list(shape={0.shape:.15g}, rate={0.rate:.15g}))',
    }
    pymc = "Gamma", {"alpha": "shape", "beta": "rate"}

    @property
    def tail(self) -> float:
        """Faster than any power."""
        return np.inf

    def _logpdf(self, x: Array) -> Array:
        # Beside the mean, so that a large shape costs no digits.
        a = self.shape
        ratio = np.maximum(x, 0.0) / (a * self.scale)
        constant = -LOG_ROOT_2PI - stirling_error(a) - np.log(self.scale) - 0.5 * np.log(a)
        return _inside(x, constant + special.xlogy(a - 1.0, ratio) - a * (ratio - 1.0))

    def _cdf(self, x: Array) -> Array:
        return special.gammainc(self.shape, np.maximum(x, 0.0) / self.scale)

    def _quantile(self, p: Array) -> Array:
        return self.scale * special.gammaincinv(self.shape, p)


@dataclass(frozen=True)
class LogNormal(TauPrior):
    """Log-normal prior of tau: log(tau) is normal.

    Parameters
    ----------
    mean, sd : float
        Of log(tau); the median of tau is exp(mean).

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.LogNormal(-1.9, 0.8).quantile([0.05, 0.5, 0.95]).round(2).tolist()
    [0.04, 0.15, 0.56]
    """

    mean: float
    sd: float

    label: ClassVar[str] = "log-normal"
    positive: ClassVar[tuple[str, ...]] = ("sd",)
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dlnorm(t, {0.mean:.15g}, {0.sd:.15g})",
        "brms": "lognormal({0.mean:.15g}, {0.sd:.15g})",
        "RoBMA": 'prior("lognormal", list(meanlog={0.mean:.15g}, sdlog={0.sd:.15g}))',
    }
    pymc = "LogNormal", {"mu": "mean", "sigma": "sd"}

    @property
    def tail(self) -> float:
        """Faster than any power."""
        return np.inf

    def _logpdf(self, x: Array) -> Array:
        log = np.log(np.where(x > 0, x, 1.0))
        value = -LOG_ROOT_2PI - 0.5 * ((log - self.mean) / self.sd) ** 2 - np.log(self.sd) - log
        return np.where(x > 0, value, -np.inf)

    def _cdf(self, x: Array) -> Array:
        return special.ndtr((np.log(np.maximum(x, 0.0)) - self.mean) / self.sd)

    def _quantile(self, p: Array) -> Array:
        return np.exp(self.mean + self.sd * special.ndtri(p))


@dataclass(frozen=True)
class Uniform(TauPrior):
    """Uniform prior of tau from 0 to an upper limit, or without one.

    Parameters
    ----------
    upper : float, optional
        Positive. Without it the prior is improper: with a flat prior of the mean at least 3 studies are needed.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(priors.Uniform(1), priors.Uniform().proper)
    uniform(0, 1) False
    """

    upper: float = np.inf

    label: ClassVar[str] = "uniform"
    spellings: ClassVar[Mapping[str, str]] = {
        "bayesmeta": "function(t) dunif(t, 0, {0.upper:.15g})",
        "brms": "uniform(0, {0.upper:.15g})",
        "RoBMA": 'prior("uniform", list(a=0, b={0.upper:.15g}))',
    }
    pymc = "Uniform", {"lower": "lower", "upper": "upper"}
    lower: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.upper, int | float) or not self.upper > 0:
            raise InputError(f"Uniform: upper={self.upper!r} must be a positive number")

    @property
    def proper(self) -> bool:
        """Whether there is an upper limit."""
        return bool(np.isfinite(self.upper))

    @property
    def tail(self) -> float:
        """No tail at all, or an endless one: 0."""
        return np.inf if self.proper else 0.0

    def _logpdf(self, x: Array) -> Array:
        height = -np.log(self.upper) if self.proper else 0.0
        return np.where((x >= 0) & (x <= self.upper), height, -np.inf)

    def _cdf(self, x: Array) -> Array:
        return np.clip(x / self.upper, 0.0, 1.0)

    def _quantile(self, p: Array) -> Array:
        return self.upper * p

    def spelled(self, program: str) -> str:
        """Return how an R package writes the prior; without a limit only bayesmeta can."""
        if not self.proper and program != "bayesmeta":
            return f"stop('the prior {self} has no spelling in {program}')"
        return super().spelled(program) if self.proper else '"uniform"'

    def __str__(self) -> str:
        return f"uniform(0, {self.upper:g})"
