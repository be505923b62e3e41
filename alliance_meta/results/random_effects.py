"""`RandomEffectsResults`: what a fitted univariate model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta.core.distributions import critical_value
from alliance_meta.core.robust.sandwich import DiagonalWorking
from alliance_meta.core.univariate.fit import UnivariateFit
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import RobustType, Scale, Tau2IntervalKind, check_level, check_option
from alliance_meta.results.contrasts import contrast
from alliance_meta.results.fit import Fit
from alliance_meta.results.heterogeneity import tau2_interval
from alliance_meta.results.predictions import predict_rows, rows_to_predict, to_scale
from alliance_meta.results.quantities import FittedQuantities
from alliance_meta.results.robust import RobustResults, robust_results
from alliance_meta.results.settings import FitSettings
from alliance_meta.results.teststats import Interval, WaldTest


@dataclass(frozen=True, eq=False, repr=False)
class RandomEffectsResults(FittedQuantities):
    """A fitted random-effects model or meta-regression.

    Made by `RandomEffectsModel.fit`; it carries the data, the design and every setting, so that it can be
    printed, drawn and reproduced without fitting again.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part.
    design : Design
        The design matrix and its coding.
    settings : FitSettings
        The choices *used*: with k = p the estimator falls back to ``EE`` and the inference to ``z``.
    fitted : UnivariateFit
        The raw arrays.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "a random-effects model"
    lacks: ClassVar[Mapping[str, str]] = {"sigma2": "its variance between studies is tau2"}

    effects: EffectSizes
    design: Design
    settings: FitSettings
    fitted: UnivariateFit
    notes: tuple[Note, ...] = ()

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the effect of a new study, for given moderators.

        The confidence interval says where the mean effect lies; the prediction interval says where the true
        effect of one new, similar study is expected. Where effects differ between studies only the second
        tells a clinician what to expect in a new setting.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Moderator values, one row per prediction. By default the mean effect for a model without
            moderators, else the fitted value of each effect.
        scale : {"z", "r", "r_mean"}, optional
            Analysis scale by default. ``"r"`` is tanh of the limits: the *median* true correlation.
            ``"r_mean"`` is the *mean* true correlation, averaged over the distribution of effects.
        level : float, optional
            Confidence level, a fraction.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub``, one row per prediction; ``.attrs["scale"]`` names the scale.
            ``pi_lb`` and ``pi_ub`` are NaN under equal effects, where no new effect can differ
            (``.attrs["pi_note"]`` says so). On r scales ``se`` is the delta-method one.

        Raises
        ------
        InputError
            For an unknown moderator level or a scale these effects do not have.

        Notes
        -----
        R: ``predict(fit, transf = transf.ztor)``. The prediction interval uses t(k - p) for t-type
        inference and the normal otherwise, as metafor does.

        Examples
        --------
        >>> from alliance_meta import EffectSizes, RandomEffectsModel
        >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.01, 0.01], measure="ZCOR")
        >>> fit = RandomEffectsModel(es, test="z").fit()
        >>> fit.predict(scale="r").round(3)[["pred", "ci_lb", "ci_ub"]].values.tolist()
        [[0.291, 0.074, 0.483]]
        """
        used = self.level if level is None else level
        check_level(used)
        X, labels = rows_to_predict(self, newdata)
        frame = predict_rows(
            X,
            beta=self.beta,
            vb=self.vb,
            tau2=self.tau2,
            df=self.fitted.coefficients.df,
            level=used,
            random=self.method != "EE",
        )
        out = to_scale(frame, measure=self.effects.measure, scale=scale, tau2=self.tau2)
        out.index = pd.Index(labels)
        out.attrs["level"] = used
        if self.method == "EE":
            out.attrs["pi_note"] = "an equal-effects model has no prediction interval"
        return out

    def confint_tau2(self, *, kind: Tau2IntervalKind = "QP", level: float | None = None) -> Interval:
        """Return a confidence interval for tau2, the between-study variance on the analysis scale.

        Parameters
        ----------
        kind : {"QP", "PL", "GENQ", "HT", "SJ", "Wald", "Wald-log"}
            ``QP``: Q-profile (Viechtbauer 2007, doi:10.1002/sim.2514), exact when the effects are normal.
            ``PL``: profile likelihood, for ML and REML. ``GENQ``: from the exact distribution of Q with fixed
            weights (Jackson 2013, doi:10.1002/jrsm.1081), 1 / v unless the model has its own. ``HT``: test-based
            (Higgins & Thompson 2002, doi:10.1002/sim.1186). ``SJ``: Sidik & Jonkman (2005), around their own
            estimate. ``Wald``, ``Wald-log``: from the standard error; crude with few studies.
        level : float, optional

        Returns
        -------
        Interval
            ``estimate lb ub``. Both bounds are 0 when the effects vary less than chance allows; the
            estimate may lie outside its interval then, because it comes from another criterion.
            Where a method is not defined (equal effects, k = p) every value is `NotApplicable`.

        Raises
        ------
        InputError
            ``PL`` for an estimator that maximises no likelihood.

        Notes
        -----
        R: ``confint(fit)``.
        """
        check_option("kind", kind, Tau2IntervalKind)
        used = self.level if level is None else level
        check_level(used)
        return tau2_interval(self, kind=kind, level=used)

    def confint(self, *, kind: Tau2IntervalKind = "QP", level: float | None = None) -> pd.DataFrame:
        """Return estimate and interval of tau2, tau, I2 and H2, one row each; R: ``confint(fit)``."""
        tau2 = self.confint_tau2(kind=kind, level=level)
        rows = [tau2]
        if not isinstance(tau2.lb, NotApplicable):
            vt = self.vt
            rows += [
                tau2.map(lambda t: float(np.sqrt(t)), "tau"),
                tau2.map(lambda t: 100.0 * t / (t + vt), "I2"),
                tau2.map(lambda t: t / vt + 1.0, "H2"),
            ]
        table = {row.quantity: {"estimate": row.estimate, "lb": row.lb, "ub": row.ub} for row in rows}
        return pd.DataFrame.from_dict(table, orient="index", columns=["estimate", "lb", "ub"])

    def test(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test a term, several terms, or any linear combinations of coefficients being zero.

        Parameters
        ----------
        L : str, sequence of str, or array-like of shape (m, p)
            A term of the formula (``"rater"``: all its coefficients together), a coefficient's name, several
            of these, or a matrix whose rows are combinations of coefficients.

        Returns
        -------
        WaldTest
            Chi-squared for z inference, F for t-type inference; ``null`` states what is tested.

        Raises
        ------
        InputError
            An unknown term, or a matrix of the wrong shape or with rows that repeat each other.

        Notes
        -----
        R: ``anova(fit, btt = 2:3)`` or ``anova(fit, X = L)``.
        """
        return self._wald(*contrast(L, names=self.names, terms=self.design.terms))

    def robust(self, *, cluster: Any = "study_id", type: RobustType = "CR2") -> RobustResults:
        """Return the same model with standard errors, degrees of freedom and tests that allow for clusters.

        Effects from the same people, or the same laboratory, are more alike than this model supposes. The estimates
        stay; how sure one may be of them is read off how much whole clusters disagree.

        Parameters
        ----------
        cluster : str, sequence of str, or array-like of shape (k,)
            ``"study_id"``, a column of the moderators, several columns, or one label per effect.
        type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}
            Adjustment for few clusters: CR2 is unbiased if the model is right; CR0 has none.

        Returns
        -------
        RobustResults

        Raises
        ------
        InputError
            Fewer than two clusters, an unknown column, no residuals left.

        Warns
        -----
        FewStudiesWarning
            Fewer than 4 degrees of freedom, or a coefficient that rests on one cluster.

        Notes
        -----
        R: ``clubSandwich::coef_test(fit, vcov = "CR2", cluster = study_id)``, or metafor's
        ``robust(fit, cluster = study_id, clubSandwich = TRUE)``. A Knapp-Hartung factor of the model plays no part.
        Pustejovsky & Tipton (2018, doi:10.1080/07350015.2016.1247004).

        Examples
        --------
        >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
        >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
        >>> fit.robust(cluster="study_id").tidy().round(3).loc["intrcpt", ["estimate", "se", "ddf"]].tolist()
        [0.15, 0.031, 12.933]
        """
        return robust_results(self, cluster=cluster, type=type)

    def working(self) -> DiagonalWorking:
        """Return the covariance of the effects that the model supposes, with its own weights if it has any."""
        return DiagonalWorking(self.effects.vi + self.tau2, self.fitted.own_weights)

    def blup(self, *, level: float | None = None) -> pd.DataFrame:
        """Return the best linear unbiased prediction of each study's true effect.

        A study's own effect is pulled towards the model's mean, the more so the less it is known: the
        shrunken estimate is the better guess of that study's truth.

        Returns
        -------
        DataFrame
            ``pred se pi_lb pi_ub`` on the analysis scale, one row per effect. Under equal effects every
            study's prediction is the mean.

        Notes
        -----
        R: ``blup(fit)``; Raudenbush & Bryk (1985, doi:10.3102/10769986010002075).
        """
        used = self.level if level is None else level
        check_level(used)
        X, y, v = self.design.X, self.effects.yi, self.effects.vi
        share = self.tau2 / (self.tau2 + v)
        pred = share * y + (1.0 - share) * (X @ self.beta)
        mean = np.einsum("kp,pq,kq->k", X, self.vb, X)
        se = np.sqrt(share * v + (1.0 - share) ** 2 * mean)
        half = critical_value(used, self.fitted.coefficients.df) * se
        columns = {"pred": pred, "se": se, "pi_lb": pred - half, "pi_ub": pred + half}
        return pd.DataFrame(columns, index=pd.Index(self.effects.slab))

    def ranef(self, *, level: float | None = None) -> pd.DataFrame:
        """Return the predicted random effect of each study: how far its true effect lies from the model's mean.

        Returns
        -------
        DataFrame
            ``pred se pi_lb pi_ub`` on the analysis scale, one row per effect; all 0 under equal effects.

        Notes
        -----
        R: ``ranef(fit)``.
        """
        used = self.level if level is None else level
        check_level(used)
        X, y, v = self.design.X, self.effects.yi, self.effects.vi
        share = self.tau2 / (self.tau2 + v)
        pred = share * (y - X @ self.beta)
        se = np.sqrt(share * v + share**2 * np.einsum("kp,pq,kq->k", X, self.vb, X))
        half = critical_value(used, self.fitted.coefficients.df) * se
        columns = {"pred": pred, "se": se, "pi_lb": pred - half, "pi_ub": pred + half}
        return pd.DataFrame(columns, index=pd.Index(self.effects.slab))


def check_fit(fit: object, who: str) -> None:
    """Raise an `InputError` unless `fit` is a fitted univariate model."""
    if not isinstance(fit, RandomEffectsResults):
        own = "fit one of the same effects" if isinstance(fit, Fit) else "call .fit() first"
        mend = "leave scale out" if type(fit).__name__ == "LocationScaleResults" else own
        raise InputError(f"{who} needs a fitted RandomEffectsModel, not {type(fit).__name__}; {mend}")
