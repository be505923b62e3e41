"""Models of publication bias that `robma` averages over."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from alliance_meta.core.selection.robma import BiasKind
from alliance_meta.core.selection.step_weights import MOST_STEPS
from alliance_meta.core.selection.steps import Sides
from alliance_meta.errors import InputError
from alliance_meta.options import check_option


@dataclass(frozen=True)
class WeightFunction:
    """Selection by p-value: significant results are more likely to be published.

    Results are published with a probability that falls in steps of the p-value. That of the most significant
    ones counts as 1; the others are smaller or equal, in order, and otherwise unknown (uniform a priori).

    Parameters
    ----------
    steps : tuple of float
        p-values at which the probability falls, increasing, at most three.
    sides : {"one", "two"}
        ``one``: p-values of a one-sided test, so that only results in the favoured direction are significant;
        .025 is then the usual two-sided .05. ``two``: of a two-sided test; the direction does not matter.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.WeightFunction((0.025, 0.05)))
    weight function, one-sided p < .025, .05
    """

    steps: tuple[float, ...]
    sides: Sides = "one"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_option("sides", self.sides, Sides)
        steps = tuple(float(p) for p in np.atleast_1d(self.steps))
        object.__setattr__(self, "steps", steps)
        if not 1 <= len(steps) <= MOST_STEPS:
            raise InputError(f"WeightFunction: steps={steps!r} must hold 1 to {MOST_STEPS} p-values")
        if not all(0 < p < 1 for p in steps) or any(a >= b for a, b in pairwise(steps)):
            raise InputError(f"WeightFunction: steps={steps!r} must lie between 0 and 1 and increase")
        _check_weight(self)

    def __str__(self) -> str:
        return f"weight function, {self.sides}-sided p < {', '.join(f'{p:g}'.lstrip('0') for p in self.steps)}"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("weights", self.steps, self.sides)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": "weight function", "steps": list(self.steps), "sides": self.sides, "weight": self.weight}


@dataclass(frozen=True)
class PET:
    """Bias that grows with the standard error: the precision-effect test.

    Parameters
    ----------
    scale : float
        Of the half-Cauchy prior of the coefficient of the standard error.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.PET())
    PET, coefficient ~ half-Cauchy(1)
    """

    scale: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self)
        _check_weight(self)

    def __str__(self) -> str:
        return f"PET, coefficient ~ half-Cauchy({self.scale:g})"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("PET", scale=float(self.scale))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": "PET", "scale": self.scale, "weight": self.weight}


@dataclass(frozen=True)
class PEESE:
    """Bias that grows with the sampling variance: the precision-effect estimate with standard errors.

    Parameters
    ----------
    scale : float
        Of the half-Cauchy prior of the coefficient of the sampling variance.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.PEESE())
    PEESE, coefficient ~ half-Cauchy(5)
    """

    scale: float = 5.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self)
        _check_weight(self)

    def __str__(self) -> str:
        return f"PEESE, coefficient ~ half-Cauchy({self.scale:g})"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("PEESE", scale=float(self.scale))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": "PEESE", "scale": self.scale, "weight": self.weight}


def _check_weight(model: WeightFunction | PET | PEESE) -> None:
    if not (isinstance(model.weight, int | float) and np.isfinite(model.weight) and model.weight > 0):
        raise InputError(f"{type(model).__name__}: weight={model.weight!r} must be positive")


def _check_scale(model: PET | PEESE) -> None:
    if not (isinstance(model.scale, int | float) and np.isfinite(model.scale) and model.scale > 0):
        raise InputError(f"{type(model).__name__}: scale={model.scale!r} must be positive")


BiasModel = WeightFunction | PET | PEESE

# Those of RoBMA-PSMA (Bartoš et al. 2023, doi:10.1002/jrsm.1594): half of the weight on selection by p-value, half
# on the two regressions.
PSMA: tuple[BiasModel, ...] = (
    WeightFunction((0.05,), "two", 1 / 12),
    WeightFunction((0.05, 0.1), "two", 1 / 12),
    WeightFunction((0.05,), "one", 1 / 12),
    WeightFunction((0.025, 0.05), "one", 1 / 12),
    WeightFunction((0.05, 0.5), "one", 1 / 12),
    WeightFunction((0.025, 0.05, 0.5), "one", 1 / 12),
    PET(1.0, 1 / 4),
    PEESE(5.0, 1 / 4),
)
