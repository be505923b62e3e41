"""Priors from the words in which they are printed, for files and command lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.priors.effect import Cauchy, Flat, Normal, StudentT
from alliance_meta.bayes.priors.prior import Prior, TauPrior
from alliance_meta.bayes.priors.tau import (
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGamma,
    LogNormal,
    Lomax,
    Uniform,
)
from alliance_meta.errors import InputError
from alliance_meta.expressions import plain_text
from alliance_meta.notes import did_you_mean


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

    @property
    def proper(self) -> bool:
        """Whether the density integrates to 1: it does not."""
        return False

    @property
    def tail(self) -> float:
        """Like 1 / tau."""
        return 1.0

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

    @property
    def tail(self) -> float:
        """Quadratic: it has no mean."""
        return 2.0

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

    @property
    def tail(self) -> float:
        """Cubic: it has a mean and no variance."""
        return 3.0

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
