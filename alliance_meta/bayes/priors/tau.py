"""Further priors of tau, some by the sampling variances; and priors from the words in which they are printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.priors.prior import (
    Cauchy,
    Flat,
    HalfCauchy,
    HalfNormal,
    HalfT,
    Normal,
    Prior,
    StudentT,
    TauPrior,
    inside,
)
from alliance_meta.core.bayes.quadrature import LOG_ROOT_2PI
from alliance_meta.core.bayes.scale import stirling_error
from alliance_meta.errors import InputError
from alliance_meta.expressions import plain_text
from alliance_meta.notes import did_you_mean


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


@dataclass(frozen=True, eq=False)
class _FromVariances(TauPrior):
    """A prior that needs the sampling variances; a model hands them over."""

    vi: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.vi is None:
            return
        v = np.atleast_1d(np.array(self.vi, dtype=float))
        if v.ndim > 1 or not len(v) or not (np.isfinite(v).all() and (v > 0).all()):
            raise InputError(f"{type(self).__name__}: vi must hold positive, finite sampling variances")
        v.flags.writeable = False
        object.__setattr__(self, "vi", v)

    def given(self, vi: Array) -> Self:
        """Return the prior for these sampling variances, unless it was made for others."""
        return self if self.vi is not None else replace(self, vi=vi)

    @property
    def _variances(self) -> Array:
        if self.vi is None:
            raise InputError(
                f"{type(self).__name__} depends on the sampling variances: give vi, or fit a model with it"
            )
        return self.vi

    @property
    def _scale(self) -> float:
        """The square root of the harmonic mean of the sampling variances."""
        v = self._variances
        return float(np.sqrt(len(v) / np.sum(1.0 / v)))

    def __str__(self) -> str:
        return self.label


class _Improper(_FromVariances):
    """Falls like 1 / tau, so that it does not integrate to 1."""

    proper = False
    tail = 1.0

    def _cdf(self, x: Array) -> Array:
        raise NotImplementedError

    def _quantile(self, p: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Jeffreys(_Improper):
    r"""Jeffreys' prior of tau for a known mean (Tibshirani's), which is also the reference prior; improper.

    Parameters
    ----------
    vi : array-like of shape (k,), optional
        Sampling variances; a model gives its own.

    Notes
    -----
    .. math:: p(\tau) \propto \sqrt{\textstyle\sum_i (\tau / (v_i + \tau^2))^2}

    R: ``bayesmeta(tau.prior = "Jeffreys")``.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.Jeffreys([0.01, 0.04]).pdf([0.0, 0.1]).round(3).tolist()
    [0.0, 5.385]
    """

    label: ClassVar[str] = "Jeffreys"
    spellings: ClassVar[Mapping[str, str]] = {"bayesmeta": '"Jeffreys"'}

    def _logpdf(self, x: Array) -> Array:
        information = ((x[..., None] / (self._variances + x[..., None] ** 2)) ** 2).sum(axis=-1)
        return np.where(x >= 0, 0.5 * np.log(information), -np.inf)


@dataclass(frozen=True, eq=False)
class BergerDeely(_Improper):
    r"""Berger and Deely's prior of tau: Jeffreys' prior of each study, averaged geometrically; improper.

    Parameters
    ----------
    vi : array-like of shape (k,), optional
        Sampling variances; a model gives its own.

    Notes
    -----
    .. math:: p(\tau) \propto \prod_i (\tau / (v_i + \tau^2))^{1/k}

    R: ``bayesmeta(tau.prior = "BergerDeely")``.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.BergerDeely([0.04, 0.04]).pdf([0.0, 0.2]).round(3).tolist()
    [0.0, 2.5]
    """

    label: ClassVar[str] = "Berger-Deely"
    spellings: ClassVar[Mapping[str, str]] = {"bayesmeta": '"BergerDeely"'}

    def _logpdf(self, x: Array) -> Array:
        value = np.log(x) - np.log(self._variances + x[..., None] ** 2).mean(axis=-1)
        return np.where(x >= 0, value, -np.inf)


@dataclass(frozen=True, eq=False)
class DuMouchel(_FromVariances):
    r"""DuMouchel's prior of tau: its median is the typical standard error of the studies, its tail very heavy.

    Parameters
    ----------
    vi : array-like of shape (k,), optional
        Sampling variances; a model gives its own.

    Notes
    -----
    .. math:: p(\tau) = s_0 / (s_0 + \tau)^2, \quad s_0^2 = k / \textstyle\sum_i v_i^{-1}

    R: ``bayesmeta(tau.prior = "DuMouchel")``.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.DuMouchel([0.04, 0.04]).quantile([0.5, 0.9]).round(3).tolist()
    [0.2, 1.8]
    """

    label: ClassVar[str] = "DuMouchel"
    spellings: ClassVar[Mapping[str, str]] = {"bayesmeta": '"DuMouchel"'}
    by_quantile = True
    tail = 2.0

    def _logpdf(self, x: Array) -> Array:
        s = self._scale
        return np.where(x >= 0, np.log(s) - 2.0 * np.log(s + np.abs(x)), -np.inf)

    def _cdf(self, x: Array) -> Array:
        x = np.maximum(x, 0.0)
        return 1.0 / (1.0 + self._scale / x)

    def _quantile(self, p: Any, maths: Any = np) -> Any:
        return self._scale * p / (1.0 - p)


@dataclass(frozen=True, eq=False)
class Shrinkage(_FromVariances):
    r"""Uniform shrinkage prior of tau: every weight of a typical study's own result is equally plausible.

    The weight is tau^2 / (tau^2 + s0^2), between complete pooling (0) and none at all (1).

    Parameters
    ----------
    vi : array-like of shape (k,), optional
        Sampling variances; a model gives its own.

    Notes
    -----
    .. math:: p(\tau) = 2 s_0^2 \tau / (s_0^2 + \tau^2)^2, \quad s_0^2 = k / \textstyle\sum_i v_i^{-1}

    R: ``bayesmeta(tau.prior = "shrinkage")``.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.Shrinkage([0.04, 0.04]).quantile([0.5, 0.9]).round(3).tolist()
    [0.2, 0.6]
    """

    label: ClassVar[str] = "uniform shrinkage"
    spellings: ClassVar[Mapping[str, str]] = {"bayesmeta": '"shrinkage"'}
    by_quantile = True
    tail = 3.0

    def _mean_sd(self) -> tuple[Any, Any]:
        return 0.5 * np.pi * self._scale, np.inf

    def _logpdf(self, x: Array) -> Array:
        s2 = self._scale**2
        return np.where(x >= 0, np.log(2.0 * s2 * np.maximum(x, 0.0)) - 2.0 * np.log(s2 + x**2), -np.inf)

    def _cdf(self, x: Array) -> Array:
        x = np.maximum(x, 0.0)
        return 1.0 / (1.0 + (self._scale / x) ** 2)

    def _quantile(self, p: Any, maths: Any = np) -> Any:
        return self._scale * maths.sqrt(p / (1.0 - p))


OF_EFFECTS: tuple[type[Prior], ...] = (Normal, StudentT, Cauchy, Flat)
OF_TAU: tuple[type[Prior], ...] = (
    HalfNormal, HalfT, HalfCauchy, Exponential, Lomax, InverseGamma, Gamma, LogNormal, Uniform, Jeffreys,
    BergerDeely, DuMouchel, Shrinkage,
)  # fmt: skip
MOST_TEXT = 200
_CALL = re.compile(r"\s*([A-Za-z][A-Za-z -]*?)\s*(?:\(([^()]*)\))?\s*")


def parse(text: str) -> Prior:
    """Read a prior as it is printed, such as ``"half-normal(0.3)"``.

    Parameters
    ----------
    text : str
        What ``str(prior)`` gives; the name of its class will do as well, and capitals, blanks and hyphens do not
        matter.

    Returns
    -------
    Prior

    Raises
    ------
    InputError
        No such prior, or numbers that it does not take.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.parse("half-normal(0.3)") == priors.HalfNormal(0.3)
    True
    >>> print(priors.parse("HalfT(4, 0.3)"), priors.parse("student t(4, 0, .5)"), priors.parse("flat"))
    half-t(4, 0.3) Student t(4, 0, 0.5) flat
    """
    found = _CALL.fullmatch(plain_text(text, where="a prior", most=MOST_TEXT))
    known = {_plain(name): kind for kind in (*OF_EFFECTS, *OF_TAU) for name in (kind.label, kind.__name__)}
    if found is None or _plain(found[1]) not in known:
        labels = [kind.label for kind in (*OF_EFFECTS, *OF_TAU)]
        hint = did_you_mean(found[1] if found else text, labels)
        raise InputError(f"{text!r} is no prior{hint} (known: {', '.join(labels)}; e.g. 'half-normal(0.3)')")
    kind = known[_plain(found[1])]
    numbers = [_number(text, part) for part in (found[2] or "").split(",") if part.strip()]
    if kind is Uniform and len(numbers) == 2 and numbers[0] == 0:
        numbers = numbers[1:]
    names = [one.name for one in fields(kind) if not one.name.startswith("vi")]  # type: ignore[arg-type]
    if len(numbers) > len(names):
        raise InputError(f"{text!r}: {kind.label} takes {len(names)} numbers ({', '.join(names) or 'none'})")
    try:
        return kind(*numbers)
    except TypeError:
        raise InputError(f"{text!r}: {kind.label} needs {', '.join(names)}") from None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _number(text: str, part: str) -> float:
    try:
        return float(part.replace("_", "?"))
    except ValueError:
        raise InputError(f"{text!r}: {part.strip()!r} is not a number") from None
