"""What a fitted univariate model knows: every number as an attribute, by metafor's names."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.univariate.fit import Coefficients, UnivariateFit, fit_univariate
from alliance_meta.core.univariate.search import score_and_information
from alliance_meta.notes import NotApplicable
from alliance_meta.results.coefficients import FittedCoefficients
from alliance_meta.results.teststats import WaldTest
from alliance_meta.tables.format import brief

TEST_LABELS = {"knha": "HK", "z": "Wald z", "t": "t", "adhoc": "HK ad hoc"}


class FittedQuantities(FittedCoefficients):
    """The read-only numbers of a fitted univariate model; the base of `RandomEffectsResults`."""

    fitted: UnivariateFit

    @property
    def _location(self) -> Coefficients:
        """The coefficients with their tests, as arrays."""
        return self.fitted.coefficients

    @property
    def tau2(self) -> float:
        """Between-study variance on the analysis scale, >= 0; 0 under equal effects."""
        return float(self.fitted.tau2.tau2[0])

    @property
    def new_variance(self) -> float:
        """Variance of a new true effect around its mean; not applicable under equal effects."""
        return NotApplicable("an equal-effects model has no prediction interval") if self.method == "EE" else self.tau2

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
        estimator = self.method if self.settings.tau2 is None else f"tau2 = {brief(self.settings.tau2)}"
        return f"{estimator}, {TEST_LABELS[self.inference]}"

    def _omnibus_null(self) -> str:
        if self.p == 1 and self.design.has_intercept:
            return "the mean effect is 0"
        return "every moderator coefficient is 0" if self.design.has_intercept else "every coefficient is 0"

    def _needs_df(self, value: float) -> float:
        if self.k > self.p:
            return value
        return NotApplicable(f"needs more effects (k = {self.k}) than coefficients (p = {self.p})")
