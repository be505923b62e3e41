"""Further priors of tau, the standard deviation between studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.priors.prior import TauPrior, inside
from alliance_meta.core.bayes.integration import LOG_ROOT_2PI
from alliance_meta.core.bayes.scale import stirling_error
from alliance_meta.errors import InputError


class _Scaled(TauPrior):
    """A prior that other programs give by its rate."""

    scale: float

    @property
    def rate(self) -> float:
        """The inverse of the scale."""
        return 1.0 / self.scale


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
    tail = np.inf

    def _mean_sd(self) -> tuple[Any, Any]:
        return self.scale, self.scale

    def _logpdf(self, x: Array) -> Array:
        return inside(x, -np.log(self.scale) - x / self.scale)

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

    def _mean_sd(self) -> tuple[Any, Any]:
        a = np.float64(self.shape)
        mean = self.scale / (a - 1.0)
        return mean, mean * np.sqrt(a / (a - 2.0))

    def _logpdf(self, x: Array) -> Array:
        return inside(x, np.log(self.shape / self.scale) - (self.shape + 1.0) * np.log1p(x / self.scale))

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

    def _mean_sd(self) -> tuple[Any, Any]:
        a = np.float64(self.shape)
        mean = self.scale / (a - 1.0)
        return mean, mean / np.sqrt(a - 2.0)

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
    tail = np.inf

    def _mean_sd(self) -> tuple[Any, Any]:
        return self.shape * self.scale, np.sqrt(self.shape) * self.scale

    def _logpdf(self, x: Array) -> Array:
        # Beside the mean, so that a large shape costs no digits.
        a = self.shape
        ratio = np.maximum(x, 0.0) / (a * self.scale)
        constant = -LOG_ROOT_2PI - stirling_error(a) - np.log(self.scale) - 0.5 * np.log(a)
        return inside(x, constant + special.xlogy(a - 1.0, ratio) - a * (ratio - 1.0))

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
    tail = np.inf

    def _mean_sd(self) -> tuple[Any, Any]:
        mean = np.exp(self.mean + 0.5 * np.square(self.sd))
        return mean, mean * np.sqrt(np.expm1(np.square(self.sd)))

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

    def _mean_sd(self) -> tuple[Any, Any]:
        return 0.5 * self.upper, self.upper / np.sqrt(12.0)

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
