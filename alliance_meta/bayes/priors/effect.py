"""Priors of mean effects and of coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.priors.prior import EffectPrior
from alliance_meta.core.bayes.scale import t_constant

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Normal(EffectPrior):
    """Normal prior.

    Parameters
    ----------
    mean : float
    sd : float
        Positive. About two thirds of the prior lie within one `sd` of the mean, 95 % within two.

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
