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
from alliance_meta.core.univariate.location_scale import VANISHED, ScaleFit
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import Link, NotApplicable, Note, Scale
from alliance_meta.results import wording
from alliance_meta.results.coefficients import FitSettings, FittedCoefficients, WaldTest, contrast, moderator_test
from alliance_meta.results.fit import (
    Newdata,
    Noun,
    both_intervals,
    columns_of,
    information_criteria,
    residuals,
    scale_of,
    to_scale,
    with_moderators,
)
from alliance_meta.results.r_code import call, data, formula, level_argument, mods_argument, quoted
from alliance_meta.results.random_effects import INFERENCE
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, format_level, p_value

INFINITE = "tau2 of some studies runs to 0 and the coefficient with it"


def tidy(fit: LocationScaleResults) -> pd.DataFrame:
    """Return one row per coefficient, with the part of the model it belongs to."""
    gone = NotApplicable(INFINITE)
    rows = []
    parts = (("location", fit.names, fit.location, fit.ddf), ("scale", fit.scale_names, fit.scale, fit.ddf_alpha))
    for part, names, own, ddf in parts:
        for i, name in enumerate(names):
            lost = part == "scale" and bool(fit.fitted.infinite[i])
            values = (own.se[i], own.stat[i], own.pval[i], own.ci_lb[i], own.ci_ub[i])
            se, stat, pval, lb, ub = (gone if lost else float(value) for value in values)
            rows.append((part, name, float(own.beta[i]), se, stat, float(ddf[i]), pval, lb, ub))
    columns = ["part", "term", "estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub"]
    # Columns of floats would forget why a number does not exist.
    kind = object if fit.fitted.infinite.any() else None
    out = pd.DataFrame(rows, columns=columns, dtype=kind).set_index(["part", "term"])
    out.attrs.update(scale=fit.effects.scale_label, link=fit.link, level=fit.level)
    return out


def statistics(fit: LocationScaleResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    none = NotApplicable("chi-squared has none")
    m, ddf = fit.QSdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        **fit._these("p", "q", "method"),
        "test": fit.inference,
        **fit._these("link", "level"),
        "tau2_min": float(fit.tau2.min()),
        "tau2_max": float(fit.tau2.max()),
        "tau2_constant": fit.fitted.constant,
        **fit._these("QE", "QEdf", "QEp"),
        **moderator_test(fit),
        "QS": fit.QS,
        "QSdf": m,
        "QSddf": none if ddf is None else ddf,
        "QSp": fit.QSp,
        "LRT": fit.scale_lrt.stat,
        "LRTdf": fit.scale_lrt.df,
        "LRTp": fit.scale_lrt.pval,
        "loglik": fit.loglik,
        **information_criteria(fit),
    }


def augment(fit: LocationScaleResults) -> pd.DataFrame:
    """Return one row per effect."""
    columns = {**residuals(fit), "tau2": fit.tau2, "weight": fit.weights}
    return pd.DataFrame(columns, index=pd.Index(fit.effects.slab))


def to_dict(fit: LocationScaleResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    coefficients = tidy(fit).reset_index()
    return {
        "model": {
            "formula": fit.design.formula,
            "scale_formula": fit.scale_design.formula,
            "link": fit.link,
            **scale_of(effects),
        },
        "statistics": statistics(fit),
        "coefficients": columns_of(coefficients),
        "vb": fit.vb,
        "va": NotApplicable(INFINITE) if fit.fitted.infinite.any() else fit.va,
        "studies": {"slab": list(effects.slab), **columns_of(augment(fit))},
        "provenance": effects.provenance.to_dict(),
    }


def _tau2(fit: LocationScaleResults, Z: Array) -> Array:
    linear = Z @ fit.alpha
    if fit.link == "log":
        return np.exp(linear)
    return np.where(linear < VANISHED * fit.heterogeneity.vt, 0.0, linear)


def _rows(fit: LocationScaleResults, newdata: Newdata) -> tuple[Array, Array, list[str]]:
    location, scale = fit.design, fit.scale_design
    if newdata is None:
        if location.formula == scale.formula == "1":
            return np.ones((1, 1)), np.ones((1, 1)), ["mean effect"]
        return location.X, scale.X, list(fit.effects.slab)
    X, first = _part(location, newdata)
    Z, second = _part(scale, newdata)
    labels = [", ".join(dict.fromkeys([*a.split(", "), *b.split(", ")])) for a, b in zip(first, second, strict=True)]
    return X, Z, labels


def _scale_rows(fit: LocationScaleResults, newdata: Newdata) -> tuple[Array, list[str]]:
    if newdata is not None:
        return fit.scale_design.new_rows(newdata)
    if fit.scale_design.formula == "1":
        return np.ones((1, 1)), ["every study"]
    return fit.scale_design.X, list(fit.effects.slab)


def _part(design: Design, newdata: Any) -> tuple[Array, list[str]]:
    rows, labels = design.new_rows(newdata)
    return rows, ([""] * len(rows) if design.formula == "1" else labels)


@dataclass(frozen=True, slots=True)
class LikelihoodRatioTest:
    """Twice the difference of two log-likelihoods, referred to chi-squared."""

    stat: float
    df: int  # coefficients that the null hypothesis takes away
    pval: float
    null: str  # the null hypothesis in words

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
    design, scale_design : Design
        The design of the mean effect (k, p) and of tau2 (k, q).
    settings : FitSettings
    link : {"log", "identity"}
    fitted : ScaleFit
        The raw arrays.
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

    q = Noun[int]("scale_design.p", "Number of coefficients of the scale part.")
    scale_names = Noun[tuple[str, ...]]("scale_design.names", "Coefficients of the scale part, (q,).")

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

    alpha = Noun[Array]("scale.beta", "Coefficients of the scale part, of log(tau2) or of tau2 itself, (q,).")
    se_alpha = Noun[Array]("scale.se", "Standard errors of alpha from the observed information, (q,).")
    stat_alpha = Noun[Array]("scale.stat", "Z or t statistics of alpha, (q,).")

    @property
    def ddf_alpha(self) -> Array:
        """Degrees of freedom of each t statistic of alpha, (q,); infinite for the normal."""
        return np.full(self.q, np.inf if self.scale.df is None else self.scale.df)

    pval_alpha = Noun[Array]("scale.pval", "Two-sided p-values of alpha, (q,).")
    ci_lb_alpha = Noun[Array]("scale.ci_lb", "Lower confidence limits of alpha, (q,).")
    ci_ub_alpha = Noun[Array]("scale.ci_ub", "Upper confidence limits of alpha, (q,).")
    va = Noun[Array]("fitted.va", "Covariance of alpha, (q, q).")
    tau2 = Noun[Array]("fitted.tau2", "Between-study variance expected of studies like each one, (k,).")

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

    QE = Noun[float]("heterogeneity.QE", "Cochran's Q: residual heterogeneity beyond chance.")

    @property
    def QEdf(self) -> int:
        """Degrees of freedom of QE, k - p."""
        return self.k - self.p

    QEp = Noun[float]("heterogeneity.QEp", "P-value of QE.")

    @property
    def _parameters(self) -> int:
        """Number of parameters estimated: the coefficients of both parts."""
        return self.p + self.q

    @cached_property
    def scale_omnibus(self) -> WaldTest:
        """The test that no moderator changes tau2."""
        null = "no moderator changes tau2"
        if self.scale_names == ("intrcpt",):
            gone = NotApplicable("the scale part has no moderators")
            return WaldTest(gone, 0, self.scale.df, gone, null)
        return self._wald_scale(np.eye(self.q)[list(self.scale_design.tested)], null)

    QS = Noun[float](
        "scale_omnibus.stat", "Statistic of the omnibus test of the scale part: chi-squared, or F for t-type inference."
    )

    @property
    def QSdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QS, (m, ddf); ddf is None for chi-squared."""
        return self.scale_omnibus.df1, self.scale_omnibus.df2

    QSp = Noun[float]("scale_omnibus.pval", "P-value of QS.")

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

    loglik = Noun[float]("fitted.loglik", "Restricted log-likelihood for REML, else the log-likelihood.")

    @property
    def weights(self) -> Array:
        """Weight of each effect in percent, (k,)."""
        w = self.fitted.model.w[0]
        return 100.0 * w / w.sum()

    def test_scale(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test terms or combinations of the scale part; R: ``anova(fit, att = 2:3)``."""
        return self._wald_scale(*contrast(L, names=self.scale_names, terms=self.scale_design.terms))

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and the effect of a new study, as `RandomEffectsResults.predict` does.

        New data hold the moderators of both parts. The prediction interval of each row uses the tau2 that the scale
        part gives to that row; a column ``tau2`` has it, on the analysis scale.
        R: ``predict(fit, newmods = , newscale = , transf = transf.ztor)``.
        """
        level = self._level(level)
        X, Z, labels = _rows(self, newdata)
        tau2 = _tau2(self, Z)
        pred = X @ self.beta
        se = np.sqrt(np.einsum("mp,pq,mq->m", X, self.vb, X))
        half = critical_value(level, self.location.df)
        frame = both_intervals(pred, se, half, half * np.sqrt(se**2 + tau2))
        out = to_scale(frame, measure=self.effects.measure, scale=scale, tau2=tau2)
        out["tau2"] = tau2
        out.index = pd.Index(labels)
        out.attrs["level"] = level
        return out

    def predict_tau2(self, newdata: Newdata = None, *, level: float | None = None) -> pd.DataFrame:
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
        level = self._level(level)
        Z, labels = _scale_rows(self, newdata)
        centre = Z @ self.alpha
        lost = (Z[:, self.fitted.infinite] != 0).any(axis=1)
        va = np.where(np.isfinite(self.va), self.va, 0.0)
        se = np.where(lost, np.nan, np.sqrt(np.einsum("mq,qr,mr->m", Z, va, Z)))
        half = critical_value(level, self.scale.df) * se
        estimate = _tau2(self, Z)
        if self.link == "log":
            lb, ub = np.exp(centre - half), np.exp(centre + half)
        else:
            lb, ub = np.maximum(centre - half, 0.0), np.maximum(centre + half, 0.0)
        columns = {"tau2": estimate, "tau2_lb": lb, "tau2_ub": ub}
        columns |= {"tau" + name[4:]: np.sqrt(values) for name, values in columns.items()}
        out = pd.DataFrame(columns, index=pd.Index(labels))
        out.attrs.update(scale=self.effects.scale_label, level=level)
        if lost.any():
            out.attrs["note"] = INFINITE
        return out

    def blup(self, *, level: float | None = None) -> pd.DataFrame:
        """Return the best linear unbiased prediction of each study's true effect, shrunken by its own tau2.

        Returns
        -------
        DataFrame
            ``pred se pi_lb pi_ub`` on the analysis scale, one row per effect.
        """
        return self._shrunken(self._level(level))

    def _wald_scale(self, matrix: Array, null: str) -> WaldTest:
        df = self.scale.df
        if self.fitted.infinite[(matrix != 0).any(axis=0)].any():
            gone = NotApplicable(INFINITE)
            return WaldTest(gone, len(matrix), df, gone, null)
        used = ~self.fitted.infinite
        stat, m, pval = wald_test(self.alpha[used], self.va[np.ix_(used, used)], matrix[:, used], df=df)
        return WaldTest(stat, m, df, pval, null)


def _spans_ones(Z: Array) -> bool:
    ones = np.ones(len(Z))
    rest = ones - Z @ np.linalg.lstsq(Z, ones, rcond=None)[0]
    return bool(np.abs(rest).max() < 1e-9)


def r_code(fit: LocationScaleResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma`` of a location-scale model."""
    arguments = {
        "mods": mods_argument(fit),
        "scale": f"~ {formula(fit.scale_design.formula)}",
        "link": None if fit.link == "log" else quoted("identity"),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if fit.inference == "z" else quoted(fit.inference),
        "level": level_argument(fit.level),
    }
    return "\n".join(["library(metafor)", *data(fit, uses=uses), f"fit <- {call('rma', 'yi', 'vi', **arguments)}"])


def document(fit: LocationScaleResults) -> Document:
    """Return what the fit says."""
    what = "log(tau2)" if fit.link == "log" else "tau2"
    frame = fit.tidy()
    return wording.document(
        fit,
        f"Location-scale model (k = {fit.k}; tau2 estimator: {fit.method})",
        [
            fit.effects.heading,
            f"Inference: {INFERENCE[fit.inference]}",
            f"Mean effect ~ {fit.design.formula};  {what} ~ {fit.scale_design.formula}",
        ],
        [
            f"tau2 from {fixed(float(fit.tau2.min()))} to {fixed(float(fit.tau2.max()))} "
            f"(tau from {fixed(float(fit.tau.min()))} to {fixed(float(fit.tau.max()))}); "
            f"one for all: {fixed(fit.fitted.constant)}",
            wording.q_test(fit),
        ],
        wording.moderator_test(fit),
        wording.coefficients(fit, frame.loc["location"], f"Location: the mean effect, {format_level(fit.level)} CI"),
        _scale_tests(fit),
        wording.coefficients(
            fit, frame.loc["scale"], f"Scale: {what}, the variance between studies, {format_level(fit.level)} CI"
        ),
    )


def methods(fit: LocationScaleResults) -> str:
    """Return the sentences for a methods section."""
    what = "the logarithm of the between-study variance" if fit.link == "log" else "the between-study variance"
    reference = "the normal distribution" if fit.inference == "z" else "t distributions"
    moderators = f"{with_moderators(fit)} for the mean effect" if fit.design.formula != "1" else ""
    adjusted = " after the Knapp-Hartung adjustment" if fit.inference in ("knha", "adhoc") else ""
    return (
        f"A location-scale model (Viechtbauer & López-López, 2022){moderators} was fitted to {fit.effects.counted} by "
        f"{wording.ESTIMATORS[fit.method]}; {what} depended on {fit.scale_design.formula}. Coefficients of the mean "
        f"effect were tested against {reference}{adjusted}, those of the scale part against {reference} with standard "
        "errors from the observed information, and all moderators of the scale part together by a likelihood-ratio "
        "test."
    )


def _scale_tests(fit: LocationScaleResults) -> list[str]:
    if fit.scale_names == ("intrcpt",):
        return []
    test, lrt = fit.scale_omnibus, fit.scale_lrt
    lines = []
    if not isinstance(test.stat, NotApplicable):
        lines.append(wording.line_of_test("Test of scale moderators", test).replace("QM(", "QS("))
    if not isinstance(lrt.stat, NotApplicable):
        lines.append(
            f"Likelihood ratio, one tau2 for all: LRT(df = {lrt.df}) = {fixed(lrt.stat)}, p {p_value(lrt.pval)}"
        )
    return lines
