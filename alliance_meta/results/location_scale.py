"""`LocationScaleResults`: a fitted model in which the amount of heterogeneity has moderators too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_sf, critical_value
from alliance_meta.core.univariate.fit import Coefficients, Heterogeneity, coefficients, heterogeneity, wald_test
from alliance_meta.core.univariate.location_scale import ScaleFit
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import Link, Scale
from alliance_meta.results import location_scale_export as export
from alliance_meta.results.coefficients import FittedCoefficients
from alliance_meta.results.contrasts import contrast
from alliance_meta.results.settings import FitSettings
from alliance_meta.results.teststats import WaldTest
from alliance_meta.tables.format import fixed, p_value


@dataclass(frozen=True, slots=True)
class LikelihoodRatioTest:
    """Twice the difference of two log-likelihoods, referred to chi-squared.

    Attributes
    ----------
    stat, pval : float
    df : int
        Coefficients that the null hypothesis takes away.
    null : str
        The null hypothesis in words.
    """

    stat: float
    df: int
    pval: float
    null: str

    def __str__(self) -> str:
        return f"LRT(df = {self.df}) = {fixed(self.stat)}, p {p_value(self.pval)}; null: {self.null}"

    def to_dict(self) -> dict[str, Any]:
        """Return the test as a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, eq=False, repr=False)
class LocationScaleResults(FittedCoefficients):
    """A fitted location-scale model: moderators of the mean effect and of its variance between studies.

    Made by `LocationScaleModel.fit`, or by `RandomEffectsModel.fit` when ``scale`` is a formula. The location
    part has the names of `RandomEffectsResults`; those of the scale part end in ``alpha``.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part.
    design, scale_design : Design
        The design of the mean effect (k, p) and of tau2 (k, q).
    settings : FitSettings
    link : {"log", "identity"}
    fitted : ScaleFit
        The raw arrays.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "a location-scale model"
    lacks: ClassVar[Mapping[str, str]] = {
        "confint_tau2": "tau2 differs between studies; predict_tau2() has their intervals"
    }

    effects: EffectSizes
    design: Design
    scale_design: Design
    settings: FitSettings
    link: Link
    fitted: ScaleFit
    notes: tuple[Note, ...] = ()

    @property
    def q(self) -> int:
        """Number of coefficients of the scale part."""
        return self.scale_design.p

    @property
    def scale_names(self) -> tuple[str, ...]:
        """Coefficients of the scale part, (q,)."""
        return self.scale_design.names

    @property
    def _location(self) -> Coefficients:
        return self.location

    @cached_property
    def location(self) -> Coefficients:
        """The location part with its tests."""
        model = self.fitted.model
        df = None if self.inference == "z" else float(self.k - self.p)
        s2w = float(model.rss[0]) / (self.k - self.p) if self.inference in ("knha", "adhoc") else 1.0
        if self.inference == "adhoc":
            s2w = max(1.0, s2w)
        return coefficients(model.beta[0], s2w * model.vb[0], s2w=s2w, df=df, level=self.level)

    @cached_property
    def scale(self) -> Coefficients:
        """The scale part with its tests; NaN for coefficients that are not finite."""
        df = None if self.inference == "z" else float(self.k - self.q)
        return coefficients(self.fitted.alpha, self.fitted.va, s2w=1.0, df=df, level=self.level)

    @property
    def alpha(self) -> Array:
        """Coefficients of the scale part, of log(tau2) or of tau2 itself, (q,)."""
        return self.scale.beta

    @property
    def se_alpha(self) -> Array:
        """Standard errors of alpha from the observed information, (q,)."""
        return self.scale.se

    @property
    def stat_alpha(self) -> Array:
        """Z or t statistics of alpha, (q,)."""
        return self.scale.stat

    @property
    def ddf_alpha(self) -> Array:
        """Degrees of freedom of each t statistic of alpha, (q,); infinite for the normal."""
        return np.full(self.q, np.inf if self.scale.df is None else self.scale.df)

    @property
    def pval_alpha(self) -> Array:
        """Two-sided p-values of alpha, (q,)."""
        return self.scale.pval

    @property
    def ci_lb_alpha(self) -> Array:
        """Lower confidence limits of alpha, (q,)."""
        return self.scale.ci_lb

    @property
    def ci_ub_alpha(self) -> Array:
        """Upper confidence limits of alpha, (q,)."""
        return self.scale.ci_ub

    @property
    def va(self) -> Array:
        """Covariance of alpha, (q, q)."""
        return self.fitted.va

    @property
    def tau2(self) -> Array:
        """Between-study variance expected of studies like each one, (k,)."""
        return self.fitted.tau2

    @property
    def new_variance(self) -> float:
        """Variance of a new true effect around its mean; not applicable as it differs between studies."""
        if self.scale_design.formula == "1":
            return float(self.tau2[0])
        return NotApplicable("the variance of true effects differs between studies; see predict()")

    @property
    def tau(self) -> Array:
        """Its square root, (k,)."""
        return np.sqrt(self.tau2)

    @cached_property
    def heterogeneity(self) -> Heterogeneity:
        """Q and the typical sampling variance; its I2 and H2 are those of a model without a scale part."""
        return heterogeneity(self.fitted.model.batch, tau2=self.fitted.constant, equal_effects=False)

    @property
    def I2(self) -> Array:
        """Share of variance between studies in percent, at the tau2 of each study, (k,)."""
        return 100.0 * self.tau2 / (self.tau2 + self.heterogeneity.vt)

    @property
    def H2(self) -> Array:
        """Total over sampling variance, at the tau2 of each study, (k,)."""
        return self.tau2 / self.heterogeneity.vt + 1.0

    @property
    def QE(self) -> float:
        """Cochran's Q: residual heterogeneity beyond chance."""
        return self.heterogeneity.QE

    @property
    def QEdf(self) -> int:
        """Degrees of freedom of QE, k - p."""
        return self.k - self.p

    @property
    def QEp(self) -> float:
        """P-value of QE."""
        return self.heterogeneity.QEp

    @cached_property
    def omnibus(self) -> WaldTest:
        """The test of all moderators of the mean effect, or of the mean effect in a model without any."""
        slots = list(self.design.tested)
        null = "the mean effect is 0" if self.names == ("intrcpt",) else "every moderator coefficient is 0"
        return self._wald(np.eye(self.p)[slots], null)

    @property
    def QM(self) -> float:
        """Statistic of the omnibus test of the location part."""
        return self.omnibus.stat

    @property
    def QMp(self) -> float:
        """P-value of QM."""
        return self.omnibus.pval

    @cached_property
    def scale_omnibus(self) -> WaldTest:
        """The test that no moderator changes tau2."""
        null = "no moderator changes tau2"
        if self.scale_names == ("intrcpt",):
            gone = NotApplicable("the scale part has no moderators")
            return WaldTest(gone, 0, self.scale.df, gone, null)
        return self._wald_scale(np.eye(self.q)[list(self.scale_design.tested)], null)

    @property
    def QS(self) -> float:
        """Statistic of the omnibus test of the scale part: chi-squared, or F for t-type inference."""
        return self.scale_omnibus.stat

    @property
    def QSdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QS, (m, ddf); ddf is None for chi-squared."""
        return self.scale_omnibus.df1, self.scale_omnibus.df2

    @property
    def QSp(self) -> float:
        """P-value of QS."""
        return self.scale_omnibus.pval

    @cached_property
    def scale_lrt(self) -> LikelihoodRatioTest:
        """The likelihood-ratio test against one tau2 for all; it holds where the Wald test QS fails."""
        null = "tau2 is the same in all studies"
        if self.scale_names == ("intrcpt",) or not _spans_ones(self.scale_design.X):
            why = "has no moderators" if self.q == 1 else "without an intercept has no case with one tau2 for all"
            gone = NotApplicable(f"the scale part {why}")
            return LikelihoodRatioTest(gone, 0, gone, null)
        stat = max(0.0, 2.0 * (self.fitted.loglik - self.fitted.loglik_constant))
        return LikelihoodRatioTest(stat, self.q - 1, chi2_sf(stat, self.q - 1), null)

    @property
    def loglik(self) -> float:
        """Restricted log-likelihood for REML, else the log-likelihood."""
        return self.fitted.loglik

    @property
    def weights(self) -> Array:
        """Weight of each effect in percent, (k,)."""
        w = self.fitted.model.w[0]
        return 100.0 * w / w.sum()

    def test(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test terms or combinations of the location part; as `RandomEffectsResults.test`."""
        return self._wald(*contrast(L, names=self.names, terms=self.design.terms))

    def test_scale(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test terms or combinations of the scale part; R: ``anova(fit, att = 2:3)``."""
        return self._wald_scale(*contrast(L, names=self.scale_names, terms=self.scale_design.terms))

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the effect of a new study, for given moderators.

        The prediction interval of each row uses the tau2 that the scale part gives to that row.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Values of the moderators of both parts, one row per prediction; each effect's own by default.
        scale : {"z", "r", "r_mean"}, optional
            Analysis scale by default; as in `RandomEffectsResults.predict`.
        level : float, optional
            Confidence level, a fraction.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub tau2``; tau2 stays on the analysis scale.

        Raises
        ------
        InputError
            For an unknown level of a moderator, or a scale these effects do not have.

        Notes
        -----
        R: ``predict(fit, newmods = , newscale = , transf = transf.ztor)``.
        """
        return export.predict(self, newdata, scale=scale, level=self._level(level))

    def predict_tau2(
        self, newdata: pd.DataFrame | Mapping[str, Any] | None = None, *, level: float | None = None
    ) -> pd.DataFrame:
        """Predict how much effects vary between studies, for given moderators of the scale part.

        Returns
        -------
        DataFrame
            ``tau2 tau2_lb tau2_ub tau tau_lb tau_ub`` on the analysis scale. With the log link the limits are
            made for log(tau2) and cannot be negative; with the identity link they are cut at 0. NaN where a
            coefficient is not finite, and ``.attrs["note"]`` says so.

        Notes
        -----
        R: ``predict(fit, newscale = , transf = exp)``.
        """
        return export.predict_tau2(self, newdata, level=self._level(level))

    def blup(self, *, level: float | None = None) -> pd.DataFrame:
        """Return the best linear unbiased prediction of each study's true effect, shrunken by its own tau2.

        Returns
        -------
        DataFrame
            ``pred se pi_lb pi_ub`` on the analysis scale, one row per effect.
        """
        half = critical_value(self._level(level), self.location.df)
        return export.blup(self, half)

    def _wald_scale(self, matrix: Array, null: str) -> WaldTest:
        df = self.scale.df
        if self.fitted.infinite[(matrix != 0).any(axis=0)].any():
            gone = NotApplicable(export.INFINITE)
            return WaldTest(gone, len(matrix), df, gone, null)
        used = ~self.fitted.infinite
        stat, m, pval = wald_test(self.alpha[used], self.va[np.ix_(used, used)], matrix[:, used], df=df)
        return WaldTest(stat, m, df, pval, null)


def _spans_ones(Z: Array) -> bool:
    ones = np.ones(len(Z))
    rest = ones - Z @ np.linalg.lstsq(Z, ones, rcond=None)[0]
    return bool(np.abs(rest).max() < 1e-9)
