"""What a fitted univariate model knows: every number as an attribute, by metafor's names."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.searches import score_and_information
from alliance_meta.core.univariate import UnivariateFit, fit_univariate, wald_test
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Tau2Method, Test
from alliance_meta.results.settings import FitSettings
from alliance_meta.results.teststats import WaldTest

TEST_LABELS = {"knha": "HK", "z": "Wald z", "t": "t", "adhoc": "HK ad hoc"}


class FittedQuantities:
    """The read-only numbers of a fitted univariate model; the base of `RandomEffectsResults`."""

    effects: EffectSizes
    design: Design
    settings: FitSettings
    fitted: UnivariateFit

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
    def k(self) -> int:
        """Number of effects in the model."""
        return self.effects.k

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.design.p

    @property
    def beta(self) -> Array:
        """Coefficients on the analysis scale, (p,)."""
        return self.fitted.coefficients.beta

    @property
    def se(self) -> Array:
        """Standard errors of the coefficients, (p,)."""
        return self.fitted.coefficients.se

    @property
    def stat(self) -> Array:
        """Z or t statistics, (p,)."""
        return self.fitted.coefficients.stat

    @property
    def ddf(self) -> Array:
        """Degrees of freedom of each t statistic, (p,); infinite for the normal."""
        df = self.fitted.coefficients.df
        return np.full(self.p, np.inf if df is None else df)

    @property
    def pval(self) -> Array:
        """Two-sided p-values of the coefficients, (p,)."""
        return self.fitted.coefficients.pval

    @property
    def ci_lb(self) -> Array:
        """Lower confidence limits, (p,)."""
        return self.fitted.coefficients.ci_lb

    @property
    def ci_ub(self) -> Array:
        """Upper confidence limits, (p,)."""
        return self.fitted.coefficients.ci_ub

    @property
    def vb(self) -> Array:
        """Covariance of the coefficients, (p, p)."""
        return self.fitted.coefficients.vb

    @property
    def tau2(self) -> float:
        """Between-study variance on the analysis scale, >= 0; 0 under equal effects."""
        return float(self.fitted.tau2.tau2[0])

    @property
    def tau(self) -> float:
        """Between-study standard deviation on the analysis scale."""
        return float(np.sqrt(self.tau2))

    @property
    def se_tau2(self) -> float:
        """Standard error of tau2; not applicable under equal effects."""
        if self.method == "EE":
            return NotApplicable("an equal-effects model has no tau2")
        if self.settings.tau2 is not None:
            return NotApplicable("tau2 was given, not estimated")
        return float(self.fitted.tau2.se[0])

    @property
    def se_tau2_observed(self) -> float:
        """Standard error of tau2 from the observed information; for ML and REML estimates above 0."""
        if self.method not in ("ML", "REML") or self.settings.tau2 is not None:
            return NotApplicable("only a likelihood has an observed information")
        observed = float(score_and_information(self.fitted.model, restricted=self.method == "REML")[2][0])
        return float(observed**-0.5) if observed > 0 else NotApplicable("the likelihood is not concave here")

    @property
    def I2(self) -> float:
        """Share of variance between studies in percent, from tau2 as in metafor."""
        return self._needs_df(self.fitted.heterogeneity.I2)

    @property
    def I2_Q(self) -> float:
        """The same from Q, 100 max(0, (Q - df) / Q), as older programs print it."""
        return self._needs_df(self.fitted.heterogeneity.I2_Q)

    @property
    def H2(self) -> float:
        """Total over sampling variance, tau2 / vt + 1."""
        return self._needs_df(self.fitted.heterogeneity.H2)

    @property
    def vt(self) -> float:
        """Typical sampling variance."""
        return self._needs_df(self.fitted.heterogeneity.vt)

    @cached_property
    def tau2_without_mods(self) -> float:
        """Between-study variance of the same effects by the same estimator, without moderators."""
        ones = np.ones((self.k, 1))
        fit = fit_univariate(
            self.effects.yi,
            self.effects.vi,
            ones,
            method=self.method,
            test="z",
            level=self.level,
            weights=self.fitted.own_weights,
        )
        return float(fit.tau2.tau2[0])

    @property
    def R2(self) -> float:
        """Heterogeneity that the moderators account for, in percent of tau2 without them; never below 0."""
        if self.p == 1 and self.design.has_intercept:
            return NotApplicable("a model without moderators explains no heterogeneity")
        if not self.design.has_intercept:
            return NotApplicable("defined against a model with an intercept")
        if self.k == self.p or self.settings.tau2 is not None:
            return NotApplicable("tau2 was not estimated")
        if not self.tau2_without_mods > 0:
            return NotApplicable("there is no heterogeneity to explain: tau2 without moderators is 0")
        return max(0.0, 100.0 * (self.tau2_without_mods - self.tau2) / self.tau2_without_mods)

    @property
    def QE(self) -> float:
        """Cochran's Q: (residual) heterogeneity beyond chance."""
        return self._needs_df(self.fitted.heterogeneity.QE)

    @property
    def QEdf(self) -> int:
        """Degrees of freedom of QE, k - p."""
        return self.k - self.p

    @property
    def QEp(self) -> float:
        """P-value of QE."""
        return self._needs_df(self.fitted.heterogeneity.QEp)

    @cached_property
    def omnibus(self) -> WaldTest:
        """The test of all moderators together, or of the mean effect in a model without any."""
        return self._wald(np.eye(self.p)[list(self.design.tested)], self._omnibus_null())

    @property
    def QM(self) -> float:
        """Statistic of the omnibus test: chi-squared, or F for t-type inference."""
        return self.omnibus.stat

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QM, (m, ddf); ddf is None for chi-squared."""
        return self.omnibus.df1, self.omnibus.df2

    @property
    def QMp(self) -> float:
        """P-value of QM."""
        return self.omnibus.pval

    @property
    def loglik(self) -> float:
        """Restricted log-likelihood for REML, else the log-likelihood."""
        return self.fitted.loglik_reml if self.method == "REML" else self.fitted.loglik_ml

    @property
    def weights(self) -> Array:
        """Weight of each effect in percent, (k,)."""
        return self.fitted.weights

    @property
    def model_label(self) -> str:
        """Estimator and inference in a few letters, e.g. ``"REML, HK"``."""
        estimator = self.method if self.settings.tau2 is None else f"tau2 = {self.settings.tau2:g}"
        return f"{estimator}, {TEST_LABELS[self.inference]}"

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        df = self.fitted.coefficients.df
        if not np.all(np.diag(self.vb) > 0):
            return WaldTest(NotApplicable("the coefficients have no variance"), len(matrix), df, float("nan"), null)
        stat, m, pval = wald_test(self.beta, self.vb, matrix, df=df)
        return WaldTest(stat, m, df, pval, null)

    def _omnibus_null(self) -> str:
        if self.p == 1 and self.design.has_intercept:
            return "the mean effect is 0"
        return "every moderator coefficient is 0" if self.design.has_intercept else "every coefficient is 0"

    def _needs_df(self, value: float) -> float:
        if self.k > self.p:
            return value
        return NotApplicable(f"needs more effects (k = {self.k}) than coefficients (p = {self.p})")
