"""`RandomEffectsResults`: what a fitted univariate model knows, and what must be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta.core.distributions import chi2_quantile, critical_value
from alliance_meta.core.robust.sandwich import WHOLE, DiagonalWorking
from alliance_meta.core.univariate import intervals
from alliance_meta.core.univariate.fit import GENERALISED_Q, Coefficients, UnivariateFit, estimate_tau2
from alliance_meta.core.univariate.intervals import generalised_q
from alliance_meta.core.univariate.search import NO_ROOT
from alliance_meta.core.univariate.wls import wls
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, RobustType, Scale, Tau2IntervalKind, check_option, merge_notes
from alliance_meta.results import wording
from alliance_meta.results.coefficients import FitSettings, FittedQuantities, Interval, moderator_test
from alliance_meta.results.fit import (
    Fit,
    Newdata,
    columns_of,
    information_criteria,
    predict_rows,
    predictions_of,
    rows_to_predict,
    scale_of,
    tidy,
    to_scale,
    with_moderators,
)
from alliance_meta.results.r_code import call, comment, data, level_argument, mods_argument, quoted, value, vector
from alliance_meta.results.robust import RobustResults, robust_results
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed, fixed_interval, format_level, plain_df

# Cochrane Handbook, chapter 10: meta-regression only from about ten studies.
FEW_FOR_MODERATORS = 10
FEW_FOR_PREDICTION = 5
# An interval less than half a percent narrower looks the same in print.
VISIBLE = 0.995
# The order in which notes are printed, by how their codes begin.
ORDER = ("saturated", "not-converged", "tau2-", "second-peak", "knha-", "few-", "dependent-")


def fit_notes(warned: Sequence[Note], fitted: UnivariateFit, design: Design, settings: FitSettings) -> list[Note]:
    """Return the notes of a fit in the order in which they are printed, those that were warned of among them."""
    found = [
        *warned,
        *_negative_notes(fitted, settings),
        *_interval_notes(fitted, settings),
        *_inference_notes(fitted, settings),
        *_size_notes(len(design.X), design, method=settings.method),
    ]
    return sorted(found, key=_place)


def _place(note: Note) -> int:
    return next(at for at, begin in enumerate((*ORDER, "")) if note.code.startswith(begin))


def _negative_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    tau2 = fitted.tau2.tau2[0]
    if not tau2 < 0:
        return []
    message = f"tau2 ({settings.method}) is negative, {brief(tau2, 4)}: the effects vary less than chance alone would."
    return [Note("tau2-negative", message)]


def _interval_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    """Say where the Q-profile interval of tau2 is empty, or does not hold the estimate."""
    df, tail = fitted.heterogeneity.df, 0.5 * (1.0 - settings.level)
    if settings.method == "EE" or settings.tau2 is not None or df < 1:
        return []
    low, high = chi2_quantile(tail, df), chi2_quantile(1.0 - tail, df)
    q = fitted.heterogeneity.QE
    at = float(wls(fitted.batch, fitted.tau2.tau2).rss[0])
    if low <= q and low <= at <= high:
        return []
    level = format_level(settings.level)
    if q < low:
        message = (
            f"The {level} Q-profile interval of tau2 is empty, and printed as [0, 0]: the effects are closer together "
            f"(Q = {fixed(q, 2)}, df = {df}) than sampling error alone lets expect."
        )
        return [Note("tau2-interval-empty", message)]
    side = "below" if at > high else "above"
    message = (
        f"The estimate of tau2 ({settings.method}) lies {side} its {level} Q-profile interval: the two answer to "
        "different equations. Report both; with method='PM' they go together."
    )
    return [Note("tau2-outside-interval", message)]


def _inference_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    own = fitted.coefficients
    if settings.test != "knha" or not own.df:
        return []
    if not own.s2w > 0:
        message = (
            "The effects are identical after accounting for the moderators: the Knapp-Hartung variance is 0 and "
            "its interval has no width. Use test='z' or test='adhoc'."
        )
        return [Note("knha-zero", message)]
    # With tau2 > 0 and Q above its df the factor is near 1 by construction and says nothing about the effects.
    homogeneous = not fitted.tau2.tau2[0] > 0 or own.df > fitted.heterogeneity.QE
    ratio = critical_value(settings.level, own.df) * own.s2w**0.5 / critical_value(settings.level, None)
    if not homogeneous or ratio > VISIBLE:
        return []
    return [
        Note(
            "knha-narrower",
            f"The Knapp-Hartung interval {_first(own)} is narrower than the Wald interval {_first(fitted.wald)}: "
            "the effects vary less than their sampling errors let expect. Report both, or use test='adhoc'.",
        )
    ]


def _first(coefficients: Coefficients) -> str:
    return f"[{fixed(coefficients.ci_lb[0])}, {fixed(coefficients.ci_ub[0])}]"


def _size_notes(k: int, design: Design, *, method: str) -> list[Note]:
    notes = []
    if design.formula != "1" and k < FEW_FOR_MODERATORS:
        notes.append(
            Note(
                "few-for-moderators",
                f"k = {k}: with fewer than {FEW_FOR_MODERATORS} effects a moderator analysis finds chance patterns "
                "easily and real ones rarely.",
            )
        )
    if method != "EE" and design.p < k < FEW_FOR_PREDICTION:
        notes.append(
            Note(
                "few-for-tau2",
                f"k = {k}: tau2, I2 and the prediction interval rest on very few effects and can be far off.",
            )
        )
    return notes


def tau2_interval(fit: RandomEffectsResults, *, kind: str, level: float) -> Interval:
    """Return the interval for tau2 by the method `kind`; every value is `NotApplicable` where it has none."""
    reason = _why_not(fit, kind)
    if reason is not None:
        gone = NotApplicable(reason)
        return Interval(gone, gone, gone, level, kind, "tau2")
    if kind == "PL":
        return _profile_likelihood(fit, level)
    estimate, (lb, ub) = fit.tau2, _bounds(fit, kind, level)
    if kind == "SJ":
        estimate = float(estimate_tau2(fit.fitted.batch, method="SJ").tau2[0])
    return Interval(estimate, lb, ub, level, kind, "tau2")


def _profile_likelihood(fit: RandomEffectsResults, level: float) -> Interval:
    parts = intervals.profile_likelihood(
        fit.effects.yi,
        fit.effects.vi,
        fit.design.X,
        restricted=fit.method == "REML",
        level=level,
        lowest=fit.settings.tau2_min,
    )
    remark = ""
    if len(parts) > 1:
        listed = " and ".join(f"[{brief(lb, 4)}, {brief(ub, 4)}]" for lb, ub in parts)
        remark = (
            f"The likelihood has several peaks: the values not far below the highest are {listed}, and none between."
        )
    return Interval(fit.tau2, parts[0][0], parts[-1][1], level, "PL", "tau2", remark)


def _bounds(fit: RandomEffectsResults, kind: str, level: float) -> tuple[float, float]:
    y, v, X = fit.effects.yi, fit.effects.vi, fit.design.X
    if kind == "QP":
        return intervals.q_profile(y, v, X, level=level)
    if kind == "GENQ":
        weights = fit.fitted.own_weights
        weights = 1.0 / v if weights is None else weights
        tails = (0.5 * (1.0 + level), 0.5 * (1.0 - level))
        lb, ub = (generalised_q(fit.fitted.batch, weights, probability=tail) for tail in tails)
        return max(lb, 0.0), 0.0 if ub == NO_ROOT else ub
    if kind == "HT":
        return intervals.higgins_thompson(QE=fit.QE, k=fit.k, H2=fit.H2, vt=fit.vt, level=level)
    if kind == "SJ":
        sj = float(estimate_tau2(fit.fitted.batch, method="SJ").tau2[0])
        return intervals.sidik_jonkman(tau2=sj, df=fit.k - fit.p, level=level)
    if kind == "Wald":
        return intervals.wald(tau2=fit.tau2, se=fit.se_tau2, level=level)
    return intervals.wald_log(tau2=fit.tau2, se=fit.se_tau2, level=level)


def _why_not(fit: RandomEffectsResults, kind: str) -> str | None:
    if fit.method == "EE":
        return "an equal-effects model has no tau2"
    if kind == "PL" and fit.method not in ("ML", "REML"):
        raise InputError(f"kind='PL' profiles a likelihood; fit with method='ML' or 'REML', not {fit.method!r}")
    if kind == "HT" and fit.design.formula != "1":
        return "the test-based interval is for models without moderators"
    if kind == "HT" and fit.k <= 2:
        return "the test-based interval needs more than 2 effects"
    if kind == "Wald-log" and not fit.tau2 > 0:
        return "the logarithm of tau2 = 0 does not exist"
    if kind in ("Wald", "Wald-log") and fit.settings.tau2 is not None:
        return "tau2 was given, not estimated"
    return None


@dataclass(frozen=True, eq=False, repr=False)
class RandomEffectsResults(FittedQuantities):
    """A fitted random-effects model or meta-regression.

    Made by `RandomEffectsModel.fit`; it carries the data, the design and every setting, so that it can be
    printed, drawn and reproduced without fitting again.

    Attributes
    ----------
    effects : EffectSizes
    design : Design
    settings : FitSettings
        The choices *used*: with k = p the estimator falls back to ``EE`` and the inference to ``z``.
    fitted : UnivariateFit
        The raw arrays.
    warned : tuple of Note
        What the model warned of when it was fitted; `notes` has it, too.
    """

    called = "a random-effects model"
    lacks: ClassVar[Mapping[str, str]] = {"sigma2": "its variance between studies is tau2"}

    effects: EffectSizes
    design: Design
    settings: FitSettings
    fitted: UnivariateFit
    warned: tuple[Note, ...] = ()

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """What a reader must know; every report prints them."""
        own = fit_notes(self.warned, self.fitted, self.design, self.settings)
        return merge_notes(self.effects.notes, self.design.notes, own)

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
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
        used = self._level(level)
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
        if kind == "QP" and level in (None, self.level):
            return self._tau2_interval
        return tau2_interval(self, kind=kind, level=self._level(level))

    @cached_property
    def _tau2_interval(self) -> Interval:
        """The interval that tables, forests and reports show."""
        return tau2_interval(self, kind="QP", level=self.level)

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
        return self._shrunken(self._level(level))

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
        X, y, v = self.design.X, self.effects.yi, self.effects.vi
        share = self.tau2 / (self.tau2 + v)
        pred = share * (y - X @ self.beta)
        se = np.sqrt(share * v + share**2 * np.einsum("kp,pq,kq->k", X, self.vb, X))
        half = critical_value(self._level(level), self.fitted.coefficients.df) * se
        columns = {"pred": pred, "se": se, "pi_lb": pred - half, "pi_ub": pred + half}
        return pd.DataFrame(columns, index=pd.Index(self.effects.slab))


def check_fit(fit: object, who: str) -> None:
    """Raise an `InputError` unless `fit` is a fitted univariate model."""
    if not isinstance(fit, RandomEffectsResults):
        mend = "fit one of the same effects" if isinstance(fit, Fit) else "call .fit() first"
        raise InputError(f"{who} needs a fitted RandomEffectsModel, not {type(fit).__name__}; {mend}")


INFERENCE = {
    "knha": "Knapp-Hartung (t)",
    "adhoc": "Knapp-Hartung, factor not below 1 (t)",
    "z": "Wald (normal)",
    "t": "t distribution",
}
ESTIMATORS = {
    **wording.ESTIMATORS,
    "DL": "the DerSimonian-Laird estimator",
    "HE": "the Hedges estimator",
    "HS": "the Hunter-Schmidt estimator",
    "HSk": "the Hunter-Schmidt estimator with small-sample correction",
    "DL2": "the two-step DerSimonian-Laird estimator",
    "HE2": "the two-step Hedges estimator",
    "GENQ": "the generalised Q method with weights 1/v",
    "GENQM": "the median-unbiased generalised Q method with weights 1/v",
    "DLIT": "the iterated DerSimonian-Laird estimator",
    "SJIT": "the iterated Sidik-Jonkman estimator",
    "PMM": "the median-unbiased Paule-Mandel estimator",
    "SJ": "the Sidik-Jonkman estimator",
    "PM": "the Paule-Mandel estimator",
    "EB": "the empirical Bayes estimator",
}


def r_code(fit: RandomEffectsResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma`` of a random-effects model."""
    on_r = ["predict(fit, transf=transf.ztor)"] if fit.effects.measure == "ZCOR" else []
    settings, lines = fit.settings, ["library(metafor)", *data(fit, uses=uses)]
    if fit.method in ("DL2", "HE2"):
        text = f'metafor has no two-step estimator ({fit.method}); its one-step form is method="{fit.method[:2]}"'
        lines.append(comment(text))
    if settings.weights is not None:
        lines.append(f"w <- {vector(settings.weights)}")
    weights = "w" if settings.weights is not None else "1/vi" if settings.method in GENERALISED_Q else None
    arguments = {
        "mods": mods_argument(fit),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if settings.test == "z" else quoted(str(settings.test)),
        "level": level_argument(fit.level),
        "tau2": None if settings.tau2 is None else value(settings.tau2),
        "weights": weights,
        "control": None if settings.tau2_min == 0 else f"list(tau2.min={value(settings.tau2_min)})",
    }
    return "\n".join([*lines, f"fit <- {call('rma', 'yi', 'vi', **arguments)}", *on_r])


def document(fit: RandomEffectsResults) -> Document:
    """Return what the fit says."""
    kind = "Equal-effects model" if fit.method == "EE" else "Random-effects model"
    if fit.p > 1 or not fit.design.has_intercept:
        kind = "Equal-effects meta-regression" if fit.method == "EE" else "Mixed-effects meta-regression"
    estimator = "" if fit.method == "EE" else f"; tau2 estimator: {fit.method}"
    if fit.settings.tau2 is not None:
        estimator = "; tau2 given"
    weights = "; weights given" if fit.settings.weights is not None else ""
    new = [] if fit.method == "EE" else wording.prediction(fit, "a new study", _rule(fit))
    return wording.document(
        fit,
        f"{kind} (k = {fit.k}{estimator})",
        [fit.effects.heading, f"Inference: {INFERENCE[fit.inference]}{weights}", *wording.moderated(fit)],
        _heterogeneity(fit),
        wording.moderator_test(fit),
        wording.coefficients(fit),
        [*wording.as_r(fit), *new],
    )


def _rule(fit: RandomEffectsResults) -> str:
    df = fit.fitted.coefficients.df
    return "normal" if df is None else f"t({plain_df(df)})"


def _heterogeneity(fit: RandomEffectsResults) -> list[str]:
    if fit.k == fit.p:
        return ["Heterogeneity: not estimable, no effects to spare beyond the coefficients"]
    lines = []
    if fit.method != "EE":
        interval = fit.confint_tau2()
        error = "given" if isinstance(fit.se_tau2, NotApplicable) else f"SE {fixed(fit.se_tau2)}"
        lines += [
            f"tau2 = {fixed(fit.tau2)} ({error}), {format_level(fit.level)} CI "
            f"{fixed_interval(interval.lb, interval.ub)} (Q-profile)",
            f"tau  = {fixed(fit.tau)}   H2 = {fixed(fit.H2, 2)}",
        ]
    source = "Q" if fit.method == "EE" else "tau2"
    lines.append(f"I2   = {fixed(fit.I2, 2)}% (from {source}; from Q: {fixed(fit.I2_Q, 2)}%)")
    if not isinstance(fit.R2, NotApplicable):
        lines.append(f"R2   = {fixed(fit.R2, 2)}% of the heterogeneity without moderators")
    return [*lines, wording.q_test(fit)]


def methods(fit: RandomEffectsResults) -> str:
    """Return the sentences for a methods section, made from the settings of this fit."""
    effects = fit.effects
    scales = {
        "ZCOR": f"{wording.FISHER} for the analysis and back-transformed for presentation.",
        "COR": f"Raw correlations were analysed with the sampling variance metafor calls {effects.vtype}.",
        "UCOR": f"Correlations corrected for small-sample bias were analysed (sampling variance {effects.vtype}).",
    }
    sentences = [scales.get(effects.measure, "Effect sizes were analysed on the scale given.")]
    moderators = with_moderators(fit)
    if fit.method == "EE":
        sentences.append(f"An equal-effects model{moderators} was fitted to {fit.effects.counted}.")
    else:
        how = f"was estimated by {ESTIMATORS[fit.method]} and its confidence interval by the Q-profile method"
        if fit.settings.tau2 is not None:
            how = f"was set to {brief(fit.settings.tau2)}"
        weights = ", with weights given by the analyst" if fit.settings.weights is not None else ""
        sentences.append(
            f"A random-effects model{moderators} was fitted to {fit.effects.counted}{weights}; "
            f"the between-study variance {how}."
        )
    reference = {
        "knha": "Coefficients were tested with the Knapp-Hartung adjustment and a t distribution",
        "adhoc": "Coefficients were tested with the Knapp-Hartung adjustment, its factor never below 1, "
        "and a t distribution",
        "z": "Coefficients were tested against the normal distribution (Wald)",
        "t": "Coefficients were tested against a t distribution",
    }[fit.inference]
    df = fit.fitted.coefficients.df
    sentences.append(reference + (f" with {plain_df(df)} degrees of freedom." if df is not None else "."))
    if fit.method != "EE":
        rule = "the normal distribution" if df is None else f"t with {plain_df(df)} degrees of freedom"
        sentences.append(f"Prediction intervals use {rule}. I² is computed from τ².")
    return " ".join(sentences)


KNOWN = ("level", "tau2", "se_tau2", "I2", "I2_Q", "H2", "R2", "QE", "QEdf", "QEp")


def statistics(fit: RandomEffectsResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "method": fit.method,
        "test": fit.inference,
        **{name: getattr(fit, name) for name in KNOWN},
        **moderator_test(fit),
        "loglik": fit.loglik,
        **information_criteria(fit),
    }


def to_dict(fit: RandomEffectsResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    studies = {
        "slab": list(effects.slab),
        "study_id": list(effects.study_id),
        "yi": effects.yi,
        "vi": effects.vi,
        "ni": effects.ni,
        "weight": fit.weights,
    }
    scales: tuple[Scale | None, ...] = ("z", "r", "r_mean") if effects.measure == "ZCOR" else (None,)
    return {
        "model": {"formula": fit.design.formula, **scale_of(effects), "label": fit.model_label},
        "statistics": statistics(fit),
        "tau2_interval": fit.confint_tau2().to_dict(),
        "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
        "vb": fit.vb,
        "predictions": predictions_of(fit, scales),
        "studies": studies,
        "provenance": effects.provenance.to_dict(),
    }


def augment(fit: RandomEffectsResults) -> pd.DataFrame:
    """Return one row per effect with fitted value, residual, leverage, weight and shrunken effect."""
    effects, X = fit.effects, fit.design.X
    fitted = X @ fit.beta
    total = effects.vi + fit.tau2
    # Var(y - Xb) for b from weights A: (I - H) M (I - H)' on the diagonal, H = X (X'AX)^-1 X'A.
    hat, spread = fit.fitted.leverage, np.einsum("kp,pq,kq->k", X, fit.fitted.vb, X)
    left = np.where(hat < WHOLE, total - 2.0 * hat * total + spread, np.nan)
    columns = {
        "yi": effects.yi,
        "vi": effects.vi,
        "fitted": fitted,
        "se_fitted": np.sqrt(np.einsum("kp,pq,kq->k", X, fit.vb, X)),
        "resid": effects.yi - fitted,
        "rstandard": (effects.yi - fitted) / np.sqrt(left),
        "hat": hat,
        "weight": fit.weights,
        "blup": fit.blup()["pred"].to_numpy(),
    }
    out = pd.DataFrame(columns, index=pd.Index(effects.slab, name="slab"))
    out.attrs.update(scale=effects.scale_label)
    return out
