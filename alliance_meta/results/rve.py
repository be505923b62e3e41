"""`RVEResults`: a fitted model of dependent effects with robust variance estimation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_values
from alliance_meta.core.robust.rve import RVEFit, Working, fit_rve
from alliance_meta.core.robust.sandwich import DiagonalWorking
from alliance_meta.core.robust.satterthwaite import estimable
from alliance_meta.core.univariate.fit import Coefficients, wald_test
from alliance_meta.design import Design
from alliance_meta.effects.dependent.groups import Clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, RobustType, Scale
from alliance_meta.results import wording
from alliance_meta.results.clustered import ONE_CLUSTER, joint_test
from alliance_meta.results.coefficients import FittedCoefficients
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.predictions import rows_to_predict, to_scale
from alliance_meta.results.r_code import GIVEN_CLUSTER, call, data, formula, joint_call, name, quoted, value, vector
from alliance_meta.results.robust import RobustResults, robust_results
from alliance_meta.results.teststats import WaldTest, contrast
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed

Newdata = pd.DataFrame | Mapping[str, Any] | None
NO_VARIANCE = "rests on one cluster alone: no other cluster tells how far it varies"


def tidy(fit: RVEResults) -> pd.DataFrame:
    """Return one row per coefficient."""
    columns = {
        "estimate": fit.beta,
        "se": _named(fit.se),
        "stat": _named(fit.stat),
        "ddf": _named(fit.ddf),
        "pval": _named(fit.pval),
        "ci_lb": _named(fit.ci_lb),
        "ci_ub": _named(fit.ci_ub),
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.names, name="term"))
    out.attrs.update(scale=fit.effects.scale_label, level=fit.level)
    return out


def _named(values: Array) -> Any:
    """Return the values, each NaN with its reason."""
    if not np.isnan(values).any():
        return values
    return np.array([NotApplicable(NO_VARIANCE) if value != value else float(value) for value in values], dtype=object)


def statistics(fit: RVEResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    m, ddf = fit.QMdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "n_clusters": fit.n_clusters,
        "working": fit.working_model,
        "small": fit.small,
        "level": fit.level,
        "rho": fit.rho,
        "tau2": fit.tau2,
        "omega2": fit.omega2,
        "I2": fit.I2,
        "QE": fit.QE,
        "QE_mean": fit.QE_mean,
        "QM": fit.QM,
        "QMdf": m,
        "QMddf": ddf,
        "QMp": fit.QMp,
    }


def augment(fit: RVEResults) -> pd.DataFrame:
    """Return one row per effect."""
    fitted = fit.design.X @ fit.beta
    columns = {
        "cluster": [fit.clusters.labels[i] for i in fit.clusters.codes],
        "yi": fit.effects.yi,
        "vi": fit.effects.vi,
        "fitted": fitted,
        "resid": fit.effects.yi - fitted,
        "weight": fit.weights,
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.effects.slab, name="slab"))
    out.attrs.update(scale=fit.effects.scale_label)
    return out


def by_cluster(fit: RVEResults) -> pd.DataFrame:
    """Return one row per cluster."""
    clusters = fit.clusters
    columns = {
        "effects": clusters.sizes,
        "mean_vi": clusters.mean(fit.effects.vi),
        "weight": np.bincount(clusters.codes, fit.weights),
    }
    return pd.DataFrame(columns, index=pd.Index(clusters.labels, name=clusters.name))


def predict(fit: RVEResults, newdata: Newdata, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return predictions, each with its own degrees of freedom."""
    X, labels = rows_to_predict(fit, newdata)
    pred, df = X @ fit.beta, fit.fitted.df(X)
    se = np.where(np.isnan(df), np.nan, np.sqrt(np.einsum("mp,pq,mq->m", X, fit.vb, X)))
    half = critical_values(level, df)
    between = float(fit.tau2) + float(np.nan_to_num(fit.omega2))
    spread = half * np.sqrt(se**2 + between)
    columns = {
        "pred": pred,
        "se": se,
        "ci_lb": pred - half * se,
        "ci_ub": pred + half * se,
        "pi_lb": pred - spread,
        "pi_ub": pred + spread,
    }
    frame = pd.DataFrame(columns)
    if scale == "r_mean" and between != between:
        raise InputError("scale='r_mean' averages over the distribution of effects, which given weights leave unknown")
    out = to_scale(frame, measure=fit.effects.measure, scale=scale, tau2=between)
    out["ddf"] = df
    out.index = pd.Index(labels)
    out.attrs["level"] = level
    if between != between:
        out.attrs["pi_note"] = "weights were given, and tau2 not estimated: there is no prediction interval"
    return out


def sensitivity(fit: RVEResults, rho: Sequence[float]) -> pd.DataFrame:
    """Return tau2 and the coefficients under other correlations."""
    if fit.working_model != "CORR":
        why = "hierarchical effects have no rho" if fit.working_model == "HIER" else "given weights do not use rho"
        raise InputError(f"sensitivity() varies rho: {why}")
    wrong = [value for value in rho if not 0 <= value <= 1]
    if wrong:
        raise InputError(f"rho={wrong[0]!r} is a correlation of sampling errors and must lie between 0 and 1")
    effects, own = fit.effects, fit.settings
    rows = []
    for assumed in rho:
        again = fit_rve(
            effects.yi,
            effects.vi,
            fit.design.X,
            fit.clusters.codes,
            working="CORR",
            rho=assumed,
            weights=None,
            small=own.small,
            level=own.level,
        )
        found = again.tests
        for i, term in enumerate(fit.names):
            values = (found.beta[i], found.se[i], found.df[i], found.pval[i], found.ci_lb[i], found.ci_ub[i])
            rows.append((float(assumed), term, again.working.tau2, *map(float, values)))
    columns = ["rho", "term", "tau2", "estimate", "se", "ddf", "pval", "ci_lb", "ci_ub"]
    out = pd.DataFrame(rows, columns=columns).set_index(["rho", "term"])
    out.attrs.update(scale=effects.scale_label, level=own.level)
    return out


def to_dict(fit: RVEResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "cluster": fit.clusters.name,
                "working": fit.working_model,
                "small": fit.small,
                "measure": effects.measure,
                "vtype": effects.vtype,
                "scale": effects.scale_label,
                "direction": effects.direction,
            },
            "statistics": statistics(fit),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "clusters": {"label": list(fit.clusters.labels), **columns_of(by_cluster(fit))},
            "studies": {"slab": list(effects.slab), **columns_of(augment(fit))},
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )


GIVEN = "weights were given: no working model was estimated"


@dataclass(frozen=True, eq=False)
class RVESettings:
    """The choices of a robust variance estimation, as in `RVEModel`; `weights` are those given, or None."""

    working: Working
    rho: float
    weights: Array | None
    small: bool
    level: float


@dataclass(frozen=True, eq=False, repr=False)
class RVEResults(FittedCoefficients):
    """A meta-regression of dependent effects with robust standard errors.

    Made by `RVEModel.fit`.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part.
    design : Design
        The design matrix and its coding.
    clusters : Clusters
        The clusters: ``name codes labels sizes``.
    settings : RVESettings
        The choices used.
    fitted : RVEFit
        The raw arrays.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "robust variance estimation"
    lacks: ClassVar[Mapping[str, str]] = {"loglik": "it maximises no likelihood"}

    effects: EffectSizes
    design: Design
    clusters: Clusters
    settings: RVESettings  # type: ignore[assignment]
    fitted: RVEFit
    notes: tuple[Note, ...] = ()

    @property
    def _location(self) -> Coefficients:
        tests = self.fitted.tests
        return Coefficients(
            tests.beta, tests.se, tests.stat, tests.pval, tests.ci_lb, tests.ci_ub, self.fitted.sandwich.vb, 1.0, None
        )

    @property
    def ddf(self) -> Array:
        """Degrees of freedom of each t statistic, (p,): Satterthwaite's, or clusters minus coefficients."""
        return self.fitted.tests.df

    @property
    def method(self) -> Any:
        """How tau2 is estimated: ``MM``, by the method of moments."""
        return "MM"

    @property
    def inference(self) -> Any:
        """How coefficients are tested: ``t``."""
        return "t"

    @property
    def working_model(self) -> str:
        """``CORR``, ``HIER``, or ``given`` where weights were given."""
        return self.settings.working if self.settings.weights is None else "given"

    @property
    def model_label(self) -> str:
        """Working model and inference in a few letters, e.g. ``"RVE CORR, CR2"``."""
        return f"RVE {self.working_model}, {'CR2' if self.small else 'CR1p'}"

    @property
    def small(self) -> bool:
        """Whether variance, degrees of freedom and tests are corrected for few clusters."""
        return self.settings.small

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.clusters.n

    @property
    def rho(self) -> float:
        """Assumed correlation of sampling errors within clusters; not applicable to hierarchical effects."""
        if self.working_model == "CORR":
            return self.settings.rho
        return self._not_for("hierarchical effects have independent errors")

    @property
    def tau2(self) -> float:
        """Variance between clusters on the analysis scale, >= 0, by the method of moments."""
        return NotApplicable(GIVEN) if self.settings.weights is not None else self.fitted.working.tau2

    @property
    def tau(self) -> float:
        """Its square root."""
        return NotApplicable(GIVEN) if self.settings.weights is not None else float(np.sqrt(self.tau2))

    @property
    def new_variance(self) -> float:
        """Variance of a new true effect around its mean; not applicable where weights were given."""
        return self.tau2 + (0.0 if np.isnan(self.omega2) else self.omega2) if self.tau2 == self.tau2 else self.tau2

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of the t statistic of each combination of coefficients X (m, p)."""
        return self.fitted.df(X)

    @property
    def omega2(self) -> float:
        """Variance between effects of one cluster, >= 0; hierarchical effects only."""
        if self.working_model != "HIER":
            return self._not_for("correlated effects of a cluster share one true effect")
        found = self.fitted.working.omega2
        return found if found == found else NotApplicable("these clusters cannot tell omega2 from tau2")

    @property
    def I2(self) -> float:
        """Share of variation beyond sampling error in percent, from QE; correlated effects only."""
        if self.working_model != "CORR":
            return self._not_for("not defined for hierarchical effects")
        return 100.0 * max(0.0, (self.QE - self.QE_mean) / self.QE) if self.QE > 0 else 0.0

    @property
    def QE(self) -> float:
        """Weighted residual sum of squares with the weights of tau2 = 0."""
        return NotApplicable(GIVEN) if self.settings.weights is not None else self.fitted.working.QE

    @property
    def QE_mean(self) -> float:
        """What QE would be on average without heterogeneity; for dependent effects it is not k - p."""
        return NotApplicable(GIVEN) if self.settings.weights is not None else self.fitted.working.expected

    @cached_property
    def omnibus(self) -> WaldTest:
        """The test of all moderators together, or of the mean effect in a model without any."""
        slots = list(self.design.tested)
        null = "the mean effect is 0" if self.names == ("intrcpt",) else "every moderator coefficient is 0"
        return self._wald(np.eye(self.p)[slots], null)

    @property
    def QM(self) -> float:
        """F statistic of the omnibus test."""
        return self.omnibus.stat

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QM, (m, ddf)."""
        return self.omnibus.df1, self.omnibus.df2

    @property
    def QMp(self) -> float:
        """P-value of QM."""
        return self.omnibus.pval

    @property
    def weights(self) -> Array:
        """Weight of each effect in percent, (k,)."""
        w = self.fitted.working.weights
        return 100.0 * w / w.sum()

    def test(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test a term, several terms, or any linear combinations of coefficients being zero.

        Parameters
        ----------
        L : str, sequence of str, or array-like of shape (m, p)
            As in `RandomEffectsResults.test`.

        Returns
        -------
        WaldTest
            F. With ``small`` the approximate Hotelling test HTZ of Tipton & Pustejovsky (2015): F is the Wald
            statistic times (eta - m + 1) / (eta m), its denominator eta - m + 1, with eta read off the clusters.
            Otherwise the Wald statistic over m, with clusters minus coefficients.

        Raises
        ------
        InputError
            An unknown term, or a matrix of the wrong shape or with rows that repeat each other.

        Notes
        -----
        R: ``clubSandwich::Wald_test(fit, constrain_zero(2:3), vcov = "CR2")``.
        """
        return self._wald(*contrast(L, names=self.names, terms=self.design.terms))

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and a new effect in a new cluster, for given moderators.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Moderator values, one row per prediction; as in `RandomEffectsResults.predict`.
        scale : {"z", "r", "r_mean"}, optional
            Analysis scale by default.
        level : float, optional
            Confidence level, a fraction.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub ddf``, each row with its own degrees of freedom. The prediction
            interval, pred -+ t sqrt(se^2 + tau2 + omega2), rests on the working model, which the confidence
            interval does not; it is NaN where weights were given (``.attrs["pi_note"]``).

        Raises
        ------
        InputError
            For an unknown level of a moderator, or a scale these effects do not have.
        """
        return predict(self, newdata, scale=scale, level=self._level(level))

    def sensitivity(self, rho: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)) -> pd.DataFrame:
        """Refit with other assumed correlations of sampling errors; correlated effects only.

        Parameters
        ----------
        rho : sequence of float
            Correlations from 0 to 1.

        Returns
        -------
        DataFrame
            One row per rho and term: ``tau2 estimate se ddf pval ci_lb ci_ub``.

        Raises
        ------
        InputError
            For hierarchical effects or given weights, which do not use rho, and a rho outside 0 to 1.

        Notes
        -----
        R: ``robumeta::sensitivity(fit)``.
        """
        return sensitivity(self, rho)

    def robust(self, *, cluster: Any = None, type: RobustType = "CR2") -> RobustResults:
        """Return the same weights with another adjustment for few clusters, or with other clusters.

        Parameters
        ----------
        cluster : str or array-like of shape (k,), optional
            The model's own clusters by default.
        type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}
            CR2 gives what `small` gives.

        Returns
        -------
        RobustResults

        Notes
        -----
        R: ``clubSandwich::coef_test(fit, vcov = "CR3")`` of a ``robu`` fit.
        """
        own = self.clusters
        known = own.name in ("study_id", "slab", *self.effects.moderators.columns)
        labels = own.name if known else [own.labels[code] for code in own.codes]
        return robust_results(self, cluster=labels if cluster is None else cluster, type=type)

    def working(self) -> DiagonalWorking:
        """Return the covariance of the effects that the correction for few clusters supposes, with given weights."""
        return DiagonalWorking(self.fitted.working.variance, self.settings.weights)

    def by_cluster(self) -> pd.DataFrame:
        """Return one row per cluster: ``effects mean_vi weight``, the weight of all its effects in percent."""
        return by_cluster(self)

    def _not_for(self, why: str) -> NotApplicable:
        return NotApplicable(why if self.settings.weights is None else GIVEN)

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        if self.small:
            return joint_test(self.fitted.sandwich, self.beta, matrix, null)
        df = float(self.n_clusters - self.p)
        if not estimable(self.fitted.sandwich, matrix):
            gone = NotApplicable(ONE_CLUSTER)
            return WaldTest(gone, len(matrix), df, gone, null)
        stat, m, pval = wald_test(self.beta, self.vb, matrix, df=df)
        return WaldTest(stat, m, df, pval, null)


WORKING = {
    "CORR": "correlated effects",
    "HIER": "hierarchical effects",
    "given": "weights given",
}


def r_code(fit: RVEResults, uses: tuple[str, ...] = ()) -> str:
    """Return robumeta's ``robu``."""
    columns = [] if fit.clusters.name == GIVEN_CLUSTER else fit.clusters.name.split(" + ")
    lines = ["library(robumeta)", "library(clubSandwich)", *data(fit, uses=[*columns, *uses], escalc="metafor::escalc")]
    named = ", ".join(map(name, columns))
    study = f"interaction({named}, drop=TRUE)" if len(columns) > 1 else f"factor({named or 'cluster'})"
    if not columns:
        lines.append(f"dat$cluster <- {vector(fit.clusters.labels[code] for code in fit.clusters.codes)}")
    if fit.working_model == "given":
        lines.append(f"dat$w <- {vector(np.asarray(fit.settings.weights))}")
    rho = value(fit.settings.rho) if fit.working_model == "CORR" else None
    arguments = {
        "data": "dat",
        "studynum": study,
        "var.eff.size": "vi",
        "modelweights": None if fit.working_model == "given" else quoted(fit.working_model),
        "userweights": "w" if fit.working_model == "given" else None,
        "rho": rho,
        "small": value(bool(fit.small)),
    }
    lines.append(f"fit <- {call('robu', f'yi ~ {formula(fit.design.formula)}', **arguments)}")
    return "\n".join([*lines, *(joint_call(fit, 'vcov="CR2"') if fit.small else [])])


def document(fit: RVEResults) -> Document:
    """Return what the fit says."""
    each = wording.effects_per_cluster(fit.clusters.sizes)
    rho = f", rho = {brief(fit.settings.rho)}" if fit.working_model == "CORR" else ""
    corrected = (
        "CR2, t with Satterthwaite df" if fit.small else f"no small-sample correction, t({fit.n_clusters - fit.p})"
    )
    return wording.document(
        fit,
        f"Robust variance estimation (k = {fit.k} effects in {fit.n_clusters} clusters, {each})",
        [
            fit.effects.heading,
            f"Working model: {WORKING[fit.working_model]}{rho}; clusters: {fit.clusters.name}",
            f"Inference: {corrected}",
            *wording.moderated(fit),
        ],
        _heterogeneity(fit),
        wording.moderator_test(fit, "HTZ" if fit.small else "Wald"),
        wording.coefficients(fit),
        wording.on_r(fit),
    )


def methods(fit: RVEResults) -> str:
    """Return the sentences for a methods section."""
    moderators = wording.with_moderators(fit)
    weights = {
        "CORR": "weights from the correlated-effects working model, with an assumed correlation of "
        f"{brief(fit.settings.rho)} between sampling errors of one cluster",
        "HIER": "weights from the hierarchical-effects working model",
        "given": "weights given by the analyst",
    }[fit.working_model]
    tested = (
        "Standard errors were corrected for the number of clusters (CR2) and coefficients tested against t with "
        "Satterthwaite degrees of freedom (Tipton, 2015); several coefficients were tested together by the approximate "
        "Hotelling test (Tipton & Pustejovsky, 2015)."
        if fit.small
        else "Standard errors were multiplied by the square root of m / (m - p) and coefficients tested against t "
        f"with {fit.n_clusters - fit.p} degrees of freedom."
    )
    return (
        f"Dependent effects were analysed by robust variance estimation (Hedges, Tipton & Johnson, 2010){moderators}: "
        f"k = {fit.k} effects in m = {fit.n_clusters} clusters ({fit.clusters.name}), {weights}. {tested}"
    )


def _heterogeneity(fit: RVEResults) -> list[str]:
    if fit.working_model == "given":
        return ["Heterogeneity: not estimated, weights were given"]
    lines = [f"tau2   = {fixed(fit.tau2)} between clusters (tau = {fixed(fit.tau)}), by moments"]
    if not isinstance(fit.omega2, NotApplicable):
        lines.append(f"omega2 = {fixed(fit.omega2)} between effects of one cluster")
    if not isinstance(fit.I2, NotApplicable):
        lines.append(
            f"I2     = {fixed(fit.I2, 2)} % (from QE = {fixed(fit.QE)}, {fixed(fit.QE_mean, 2)} expected by chance)"
        )
    return lines
