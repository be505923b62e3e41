"""The coefficients of the mean effect, by the names every fitted model gives them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.univariate.fit import Coefficients, wald_test
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import NotApplicable, Tau2Method, Test
from alliance_meta.results.fit import Fit
from alliance_meta.results.teststats import WaldTest


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


class FittedCoefficients(Fit):
    """The read-only coefficients of a fitted model and their tests."""

    effects: EffectSizes
    design: Design
    settings: FitSettings

    @property
    def _location(self) -> Coefficients:
        """The coefficients of the mean effect with their tests."""
        raise NotImplementedError

    @property
    def method(self) -> Tau2Method:
        """The estimator of tau2."""
        return self.settings.method

    @property
    def inference(self) -> Test:
        """The ``test`` option: how coefficients are tested."""
        return self.settings.test

    @property
    def level(self) -> float:
        """Confidence level of every interval, a fraction."""
        return self.settings.level

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficient names, (p,)."""
        return self.design.names

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.design.p

    @property
    def beta(self) -> Array:
        """Coefficients on the analysis scale, (p,)."""
        return self._location.beta

    @property
    def se(self) -> Array:
        """Standard errors of the coefficients, (p,)."""
        return self._location.se

    @property
    def stat(self) -> Array:
        """Z or t statistics, (p,)."""
        return self._location.stat

    @property
    def ddf(self) -> Array:
        """Degrees of freedom of each t statistic, (p,); infinite for the normal."""
        df = self._location.df
        return np.full(self.p, np.inf if df is None else df)

    @property
    def pval(self) -> Array:
        """Two-sided p-values of the coefficients, (p,)."""
        return self._location.pval

    @property
    def ci_lb(self) -> Array:
        """Lower confidence limits, (p,)."""
        return self._location.ci_lb

    @property
    def ci_ub(self) -> Array:
        """Upper confidence limits, (p,)."""
        return self._location.ci_ub

    @property
    def vb(self) -> Array:
        """Covariance of the coefficients, (p, p)."""
        return self._location.vb

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of the t statistic of each combination of coefficients X (m, p)."""
        df = self._location.df
        return np.full(len(X), np.inf if df is None else df)

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        df = self._location.df
        if not np.all(np.diag(self.vb) > 0):
            return WaldTest(NotApplicable("the coefficients have no variance"), len(matrix), df, float("nan"), null)
        stat, m, pval = wald_test(self.beta, self.vb, matrix, df=df)
        return WaldTest(stat, m, df, pval, null)
