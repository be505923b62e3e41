"""What every prior can do, and how its parameters are checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

from alliance_meta._lazy import later
from alliance_meta._typing import Array
from alliance_meta.errors import InputError

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

    def given(self, vi: Array) -> TauPrior:
        """Return the prior for these sampling variances; most priors do not depend on them."""
        return self
