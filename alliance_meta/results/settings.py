"""The choices that made a fit, kept with its result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alliance_meta._typing import AnyArray, Array
from alliance_meta.options import Tau2Method, Test


@dataclass(frozen=True, eq=False)
class FitSettings:
    """Settings of a univariate fit.

    Attributes
    ----------
    method, test, level
        As in `RandomEffectsModel`.
    tau2 : float or None
        A given between-study variance.
    weights : ndarray of shape (k,) or None
        Given weights.
    tau2_min : float
        Lowest tau2 allowed.
    """

    method: Tau2Method = "REML"
    test: Test = "knha"
    level: float = 0.95
    tau2: float | None = None
    weights: Array | None = None
    tau2_min: float = 0.0

    def rows(self, rows: AnyArray) -> FitSettings:
        """Return the same settings for some of the effects."""
        return self if self.weights is None else replace(self, weights=self.weights[rows])
