"""`ExactCorrelationResults`: a random-effects model fitted with the exact density of each correlation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.likelihood import CorrelationFit, profile_interval, signed_root
from alliance_meta.core.distributions import chi2_sf, two_sided_p
from alliance_meta.core.univariate.fit import Tau2Fit
from alliance_meta.core.univariate.wls import WlsFit
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.encoding import plain
from alliance_meta.notes import NotApplicable, Note, Scale
from alliance_meta.results import wording
from alliance_meta.results.coefficients import Interval
from alliance_meta.results.fit import (
    Fit,
    Newdata,
    Noun,
    columns_of,
    one_row,
    predict_rows,
    rows_to_predict,
    to_scale,
    with_moderators,
)
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, fixed_interval, format_level, p_value

BOUNDARY = "tau2 is 0, the lowest possible value"


@dataclass(frozen=True, eq=False, repr=False)
class ExactCorrelationResults(Fit):
    """A fitted exact-likelihood model of correlations.

    Made by `ExactCorrelationModel.fit`. Coefficients are on the scale of Fisher's z of the *true* correlation.

    Attributes
    ----------
    effects : EffectSizes
    design : Design
    level : float
    fitted : CorrelationFit
        The raw arrays.
    normal : WlsFit
        The usual model on Fisher's z with variances 1 / (n - 3), by maximum likelihood, for comparison.
    normal_tau2 : Tau2Fit
    """

    called = "a model with the exact density of r"
    lacks: ClassVar[Mapping[str, str]] = {"r_code": "no R package fits it", "robust": "its likelihood has no weights"}

    effects: EffectSizes
    design: Design
    level: float
    fitted: CorrelationFit
    normal: WlsFit
    normal_tau2: Tau2Fit
    notes: tuple[Note, ...] = ()

    names = Noun[tuple[str, ...]]("design.names", "Coefficient names, (p,).")
    beta = Noun[Array]("fitted.beta", "Coefficients on the Fisher z scale of the true correlation, (p,).")

    @cached_property
    def vb(self) -> Array:
        """Covariance of the coefficients from the observed information, (p, p)."""
        return self.fitted.covariance[: self.p, : self.p]

    @property
    def se(self) -> Array:
        """Standard errors, (p,); the intervals do not use them."""
        return np.sqrt(np.diag(self.vb))

    @cached_property
    def stat(self) -> Array:
        """Signed root of the likelihood-ratio statistic of each coefficient being 0, (p,)."""
        return np.array([signed_root(self.fitted, j, 0.0) for j in range(self.p)])

    @property
    def pval(self) -> Array:
        """Two-sided p-values of the likelihood-ratio tests, (p,)."""
        return two_sided_p(self.stat, None)

    @cached_property
    def _limits(self) -> Array:
        return np.array([profile_interval(self.fitted, j, level=self.level) for j in range(self.p)])

    @property
    def ci_lb(self) -> Array:
        """Lower limits of the profile-likelihood intervals, (p,)."""
        return self._limits[:, 0]

    @property
    def ci_ub(self) -> Array:
        """Upper limits of the profile-likelihood intervals, (p,)."""
        return self._limits[:, 1]

    tau2 = Noun[float]("fitted.tau2", "Between-study variance of Fisher's z of the true correlations.")

    def row_ddf(self, X: Array) -> Array:
        """Return infinity for each combination of coefficients X (m, p): tests are normal."""
        return np.full(len(X), np.inf)

    @property
    def tau(self) -> float:
        """Its square root."""
        return float(np.sqrt(self.tau2))

    @property
    def se_tau2(self) -> float:
        """Standard error of tau2; not applicable at 0."""
        if not self.tau2 > 0:
            return NotApplicable(BOUNDARY)
        return float(np.sqrt(self.fitted.covariance[-1, -1]))

    loglik = Noun[float]("fitted.loglik", "Log-likelihood: the log density of the observed r.")

    def confint_tau2(self, *, level: float | None = None) -> Interval:
        """Return the profile-likelihood interval of tau2."""
        used = self._level(level)
        lb, ub = profile_interval(self.fitted, self.p, level=used)
        return Interval(self.tau2, float(lb), float(ub), used, "PL", "tau2")

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and the effect of a new study, as `RandomEffectsResults.predict` does.

        Without moderators the confidence interval is the profile-likelihood one, with moderators pred -+ z se
        (``.attrs["ci_kind"]``); the prediction interval is normal.
        """
        used = self._level(level)
        X, labels = rows_to_predict(self, newdata)
        frame = predict_rows(X, beta=self.beta, vb=self.vb, tau2=self.tau2, df=None, level=used, random=True)
        if self.design.formula == "1":
            limits = self._limits[0] if used == self.level else profile_interval(self.fitted, 0, level=used)
            frame["ci_lb"], frame["ci_ub"] = limits
        out = to_scale(frame, measure="ZCOR", scale=scale, tau2=self.tau2)
        out.index = pd.Index(labels)
        out.attrs.update(level=used, ci_kind="PL" if self.design.formula == "1" else "Wald")
        return out

    def compare(self) -> pd.DataFrame:
        """Return the coefficients and tau2 beside those of the usual normal model on Fisher's z (both by ML).

        Fisher's z overstates a correlation by about r / (2 (n - 1)) and is not quite normal in small samples;
        the difference is what that does to this analysis. ``loglik`` is the log density of r in both.
        """
        jacobian = -np.log1p(-(self.fitted.data.r**2)).sum()
        residual = self.fitted.data.z - self.design.X @ self.normal.beta[0]
        w = self.normal.w[0]
        normal = float(jacobian + 0.5 * (np.log(w) - w * residual**2 - np.log(2.0 * np.pi)).sum())
        columns = {
            "exact": [*self.beta, self.tau2, self.loglik],
            "normal": [*self.normal.beta[0], float(self.normal_tau2.tau2[0]), normal],
        }
        out = pd.DataFrame(columns, index=[*self.names, "tau2", "loglik"])
        out["difference"] = out["exact"] - out["normal"]
        return out

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient, unrounded: ``estimate se stat pval ci_lb ci_ub``."""
        columns = {name: getattr(self, name) for name in ("se", "stat", "pval", "ci_lb", "ci_ub")}
        out = pd.DataFrame({"estimate": self.beta, **columns}, index=pd.Index(self.names, name="term"))
        out.attrs.update(scale="Fisher z of the true correlation", level=self.level)
        return out

    def glance(self) -> pd.DataFrame:
        """Return one row with the model's statistics, unrounded."""
        return one_row(self._statistics())

    def to_dict(self) -> dict[str, Any]:
        """Return every number and setting as JSON-ready values; `NotApplicable` becomes its reason."""
        return plain(
            {
                "model": {"formula": self.design.formula, "likelihood": "exact density of r (Hotelling 1953)"},
                "statistics": self._statistics(),
                "tau2_interval": self.confint_tau2().to_dict(),
                "coefficients": {"term": list(self.names), **columns_of(self.tidy())},
                "vb": self.vb,
                "comparison": {"quantity": list(self.compare().index), **columns_of(self.compare())},
                "studies": {
                    "slab": list(self.effects.slab),
                    "ri": self.fitted.data.r,
                    "ni": self.fitted.data.n,
                },
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.effects.provenance.to_dict(),
            }
        )

    def _content(self) -> Document:
        source = f"{self.effects.provenance.source}: Fisher z of the true correlation"
        caption = f"Coefficients (Fisher z of the true correlation, {format_level(self.level)} CI)"
        table = wording.coefficients(self, caption=caption)
        normal = float(self.normal.beta[0, 0])
        return wording.document(
            self,
            f"Random-effects model, exact likelihood of r (k = {self.k}; ML)",
            [source, *wording.moderated(self)],
            self._heterogeneity(),
            replace(table, head=tuple("root LR" if name == "zval" else name for name in table.head)),
            [*wording.as_r(self), *wording.prediction(self, "a new study", "normal")],
            [
                f"The normal model on Fisher z (ML) gives {fixed(normal)}: {fixed(self.beta[0] - normal, sign=True)} "
                "from there to here."
            ]
            if self.design.formula == "1"
            else [],
        )

    def methods_text(self) -> str:
        """Return the sentences for a methods section."""
        moderators = with_moderators(self)
        return (
            f"A random-effects model{moderators} was fitted to k = {self.k} correlations by maximum likelihood. Each "
            "observed correlation entered through its exact sampling density under bivariate normality (Hotelling, "
            "1953); true correlations were assumed normal on Fisher's z scale. Intervals and tests are "
            "profile-likelihood ones."
        )

    def _heterogeneity(self) -> list[str]:
        interval = self.confint_tau2()
        se = f" (SE {fixed(self.se_tau2)})" if self.tau2 > 0 else ""
        zero = signed_root(self.fitted, self.p, 0.0) ** 2
        # tau2 = 0 lies on the boundary: half of the chi-squared(1) distribution (Self & Liang 1987).
        pval = 0.5 * chi2_sf(zero, 1) if zero > 0 else 1.0
        return [
            f"tau2 = {fixed(self.tau2)}{se}, {format_level(self.level)} CI "
            f"{fixed_interval(interval.lb, interval.ub)} (profile)",
            f"tau  = {fixed(self.tau)}   test of tau2 = 0: LR = {fixed(zero)}, p {p_value(pval)}",
        ]

    def _statistics(self) -> dict[str, Any]:
        parameters = self.p + 1
        deviance = -2.0 * self.loglik
        return {
            "k": self.k,
            **self.effects.counts,
            "p": self.p,
            "method": "ML",
            **self._these("level", "tau2", "se_tau2", "loglik"),
            "AIC": deviance + 2.0 * parameters,
            "BIC": deviance + parameters * float(np.log(self.k)),
        }
