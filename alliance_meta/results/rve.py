"""`RVEResults`: a fitted model of dependent effects with robust variance estimation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.robust.rve import RVEFit, Working, fit_rve
from alliance_meta.core.robust.sandwich import DiagonalWorking, estimable
from alliance_meta.core.univariate.fit import Coefficients, wald_test
from alliance_meta.design import Design
from alliance_meta.effects.dependent.groups import Clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, RobustType, Scale
from alliance_meta.results import wording
from alliance_meta.results.coefficients import FittedCoefficients, WaldTest, moderator_test
from alliance_meta.results.fit import Newdata, Noun, columns_of, residuals, rows_to_predict, scale_of, with_moderators
from alliance_meta.results.fit import tidy as table_of_coefficients
from alliance_meta.results.r_code import GIVEN_CLUSTER, call, data, formula, joint_call, name, quoted, value, vector
from alliance_meta.results.robust import ONE_CLUSTER, RobustResults, joint_test, robust_results
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed

NO_VARIANCE = "rests on one cluster alone: no other cluster tells how far it varies"


def tidy(fit: RVEResults) -> pd.DataFrame:
    """Return one row per coefficient."""
    table = table_of_coefficients(fit)
    for column in table.columns[1:]:
        table[column] = _named(getattr(fit, column))
    return table


def _named(values: Array) -> Any:
    """Return the values, each NaN with its reason."""
    if not np.isnan(values).any():
        return values
    return np.array([NotApplicable(NO_VARIANCE) if value != value else float(value) for value in values], dtype=object)


def statistics(fit: RVEResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    return {
        "k": fit.k,
        **fit.effects.counts,
        **fit._these("p", "n_clusters"),
        "working": fit.working_model,
        **fit._these("small", "level", "rho", "tau2", "omega2", "I2", "QE", "QE_mean"),
        **moderator_test(fit),
    }


def augment(fit: RVEResults) -> pd.DataFrame:
    """Return one row per effect."""
    columns = {
        "cluster": [fit.clusters.labels[i] for i in fit.clusters.codes],
        **residuals(fit),
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


def to_dict(fit: RVEResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    return {
        "model": {
            "formula": fit.design.formula,
            "cluster": fit.clusters.name,
            "working": fit.working_model,
            "small": fit.small,
            **scale_of(effects),
        },
        "statistics": statistics(fit),
        "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
        "vb": fit.vb,
        "clusters": {"label": list(fit.clusters.labels), **columns_of(by_cluster(fit))},
        "studies": {"slab": list(effects.slab), **columns_of(augment(fit))},
        "provenance": effects.provenance.to_dict(),
    }


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
    design : Design
    clusters : Clusters
        The clusters: ``name codes labels sizes``.
    settings : RVESettings
        The choices used.
    fitted : RVEFit
        The raw arrays.
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

    ddf = Noun[Array](
        "fitted.tests.df",
        "Degrees of freedom of each t statistic, (p,): Satterthwaite's, or clusters minus coefficients.",
    )

    # tau2 is estimated by the method of moments, coefficients are tested by t.
    method, inference = "MM", "t"  # type: ignore[assignment]

    @property
    def working_model(self) -> str:
        """``CORR``, ``HIER``, or ``given`` where weights were given."""
        return self.settings.working if self.settings.weights is None else "given"

    @property
    def model_label(self) -> str:
        """Working model and inference in a few letters, e.g. ``"RVE CORR, CR2"``."""
        return f"RVE {self.working_model}, {'CR2' if self.small else 'CR1p'}"

    small = Noun[bool](
        "settings.small", "Whether variance, degrees of freedom and tests are corrected for few clusters."
    )
    n_clusters = Noun[int]("clusters.n", "Number of clusters.")

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
        if self.settings.weights is not None:
            return NotApplicable("weights were given, and tau2 not estimated: there is no prediction interval")
        return self.tau2 + (0.0 if np.isnan(self.omega2) else self.omega2)

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

    @property
    def weights(self) -> Array:
        """Weight of each effect in percent, (k,)."""
        w = self.fitted.working.weights
        return 100.0 * w / w.sum()

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and a new effect in a new cluster, as `RandomEffectsResults.predict` does.

        A column ``ddf`` has each row's own degrees of freedom. The prediction interval, pred -+ t sqrt(se^2 + tau2 +
        omega2), rests on the working model, which the confidence interval does not; it is NaN where weights were given
        (``.attrs["pi_note"]``).
        """
        X, labels = rows_to_predict(self, newdata)
        out = self.predicted(X, scale=scale, level=self._level(level)).set_axis(pd.Index(labels), axis=0)
        return out.assign(ddf=self.row_ddf(X))

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
        if self.working_model != "CORR":
            why = "hierarchical effects have no rho" if self.working_model == "HIER" else "given weights do not use rho"
            raise InputError(f"sensitivity() varies rho: {why}")
        wrong = [value for value in rho if not 0 <= value <= 1]
        if wrong:
            raise InputError(f"rho={wrong[0]!r} is a correlation of sampling errors and must lie between 0 and 1")
        effects, own = self.effects, self.settings
        rows = []
        for assumed in rho:
            again = fit_rve(
                effects.yi,
                effects.vi,
                self.design.X,
                self.clusters.codes,
                working="CORR",
                rho=assumed,
                weights=None,
                small=own.small,
                level=own.level,
            )
            found = again.tests
            for i, term in enumerate(self.names):
                values = (found.beta[i], found.se[i], found.df[i], found.pval[i], found.ci_lb[i], found.ci_ub[i])
                rows.append((float(assumed), term, again.working.tau2, *map(float, values)))
        columns = ["rho", "term", "tau2", "estimate", "se", "ddf", "pval", "ci_lb", "ci_ub"]
        out = pd.DataFrame(rows, columns=columns).set_index(["rho", "term"])
        out.attrs.update(scale=effects.scale_label, level=own.level)
        return out

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


WORKING = {"CORR": "correlated effects", "HIER": "hierarchical effects", "given": "weights given"}


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
    moderators = with_moderators(fit)
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
            f"I2     = {fixed(fit.I2, 2)}% (from QE = {fixed(fit.QE)}, {fixed(fit.QE_mean, 2)} expected by chance)"
        )
    return lines
