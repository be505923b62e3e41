"""`RobustResults`: a fitted model with cluster-robust standard errors, degrees of freedom and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_values
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.robust.sandwich import Sandwich
from alliance_meta.core.robust.satterthwaite import satterthwaite, t_tests
from alliance_meta.effects.studies import DEPENDENT
from alliance_meta.encoding import plain
from alliance_meta.notes import Note, RobustType, Scale, check_option, merge_notes
from alliance_meta.results import wording
from alliance_meta.results.clustered import (
    Clustered,
    ModelBased,
    clustered,
    few_df_notes,
    joint_test,
    one_cluster_notes,
)
from alliance_meta.results.coefficients import Tested, WaldTest, moderator_test
from alliance_meta.results.fit import Newdata, both_intervals, columns_of, predictions_of, rows_to_predict, to_scale
from alliance_meta.results.fit import tidy as tidy
from alliance_meta.results.r_code import GIVEN_CLUSTER, joint_call, name, quoted, vector
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed


def _heterogeneity(model: pd.DataFrame) -> Array:
    """Return the variance of a new true effect: both intervals of a model-based prediction have one multiplier."""
    mean, new = (model[f"{kind}_ub"].to_numpy() - model[f"{kind}_lb"].to_numpy() for kind in ("ci", "pi"))
    there = mean > 0
    ratio = np.where(there, new / np.where(there, mean, 1.0), 1.0)
    return np.maximum(ratio**2 - 1.0, 0.0) * model["se"].to_numpy() ** 2


class _OfFit:
    """What the model-based fit knows and robust inference leaves as it is."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, result: RobustResults, owner: type) -> Any:
        if result is None:
            raise AttributeError(self.name)
        return getattr(result.fit, self.name)


@dataclass(frozen=True, eq=False, repr=False)
class RobustResults(Tested):
    """A fitted model whose standard errors hold even where its assumptions about dependence are wrong.

    Made by `RandomEffectsResults.robust` and by that of other models. Coefficients, heterogeneity and weights are
    those of the model; standard errors, degrees of freedom, intervals and tests come from how much whole clusters
    disagree.

    Attributes
    ----------
    fit : RandomEffectsResults or another fitted model
        The model-based fit. Its ``tau2 sigma2 I2 QE loglik weights`` ... are also attributes here.
    cluster : str
        The column that made the clusters; ``"given cluster"`` for values.
    type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}
        The small-sample adjustment.
    sandwich : Sandwich
        The raw arrays.
    ddf : ndarray of shape (p,)
        Satterthwaite degrees of freedom of each t statistic; NaN for a coefficient known from one cluster alone.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "a cluster-robust result"
    lacks: ClassVar[Mapping[str, str]] = {
        "robust": "it is one; .fit.robust() makes others",
        "blup": "see .fit",
        "confint_tau2": "see .fit",
    }
    effects, design, level, names = _OfFit(), _OfFit(), _OfFit(), _OfFit()
    tau2, tau, se_tau2, sigma2, loglik = _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit()
    QE, QEdf, QEp, I2, H2, R2, vt = _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit()
    weights, method, settings, new_variance = _OfFit(), _OfFit(), _OfFit(), _OfFit()
    # Of a multilevel model.
    random, V, components, G, icc = _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit()
    I2_levels, R2_marginal, R2_conditional = _OfFit(), _OfFit(), _OfFit()

    fit: Any
    cluster: str
    type: RobustType
    sandwich: Sandwich
    ddf: Array
    _clusters: Clustered = field(repr=False)
    notes: tuple[Note, ...] = ()

    @property
    def inference(self) -> str:
        """How coefficients are tested: ``t``, each with its own degrees of freedom."""
        return "t"

    @property
    def model_label(self) -> str:
        """Estimator and adjustment in a few letters, e.g. ``"REML, CR2"``."""
        return f"{self.fit.model_label.rpartition(', ')[0]}, {self.type}"

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self._clusters.n

    @property
    def sizes(self) -> IntArray:
        """Effects in each cluster, (n_clusters,), clusters sorted by name."""
        return self._clusters.sizes

    @property
    def beta(self) -> Array:
        """Coefficients on the analysis scale, (p,): those of the model."""
        return self.fit.beta

    @property
    def vb(self) -> Array:
        """Cluster-robust covariance of the coefficients, (p, p)."""
        return self.sandwich.vb

    @cached_property
    def se(self) -> Array:
        """Cluster-robust standard errors, (p,); NaN for a coefficient known from one cluster alone."""
        return np.where(np.isnan(self.ddf), np.nan, np.sqrt(np.diag(self.vb)))

    @cached_property
    def _tests(self) -> tuple[Array, Array, Array, Array]:
        return t_tests(self.beta, self.se, self.ddf, level=self.level)

    @property
    def stat(self) -> Array:
        """T statistics, (p,)."""
        return self._tests[0]

    @property
    def pval(self) -> Array:
        """Two-sided p-values, (p,)."""
        return self._tests[1]

    @property
    def ci_lb(self) -> Array:
        """Lower confidence limits, (p,)."""
        return self._tests[2]

    @property
    def ci_ub(self) -> Array:
        """Upper confidence limits, (p,)."""
        return self._tests[3]

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of the t statistic of each combination of coefficients X (m, p)."""
        return satterthwaite(self.sandwich, X)

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        return joint_test(self.sandwich, self.beta, matrix, null)

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and a new effect, for given moderators, as `RandomEffectsResults.predict` does.

        The prediction interval rests on the model's heterogeneity, which robust inference does not correct. A column
        ``ddf`` has each row's own degrees of freedom, which serve both intervals.
        """
        level = self._level(level)
        X, _ = rows_to_predict(self, newdata)
        # Labels, and the variance of a new effect, are those of the model-based predictions.
        model = self.fit.predict(newdata, level=level)
        tau2, ddf = _heterogeneity(model), self.row_ddf(X)
        t, pred = critical_values(level, ddf), X @ self.beta
        se = np.where(np.isnan(ddf), np.nan, np.sqrt(np.einsum("mp,pq,mq->m", X, self.vb, X)))
        frame = both_intervals(pred, se, t, t * np.sqrt(se**2 + tau2))
        out = to_scale(frame, measure=self.effects.measure, scale=scale, tau2=tau2).assign(ddf=ddf)
        out.index = model.index
        out.attrs["level"] = level
        if "pi_note" in model.attrs:
            out.attrs["pi_note"] = model.attrs["pi_note"]
        return out


def robust_results(fit: ModelBased, *, cluster: Any, type: RobustType) -> RobustResults:
    """Return a fitted model with cluster-robust inference; for the ``robust`` methods of fitted models."""
    check_option("type", type, RobustType)
    parts = clustered(fit, cluster)
    robust = parts.sandwich(type)
    ddf = satterthwaite(robust, np.eye(fit.design.p))
    own = [note for note in fit.notes if note.code != DEPENDENT]
    notes = merge_notes(own, _notes(parts, fit.design.names, ddf))
    return RobustResults(fit, parts.name, type, robust, ddf, parts, notes)


def _notes(parts: Clustered, names: tuple[str, ...], ddf: Array) -> list[Note]:
    notes: list[Note] = []
    notes += few_df_notes(names, ddf, clusters=parts.n, stacklevel=6)
    notes += one_cluster_notes(names, parts.resting, stacklevel=6)
    if (parts.sizes == 1).all():
        message = "Every cluster holds one effect: robust against wrong variances, not against dependence."
        notes.append(Note("singleton-clusters", message))
    return [*notes, *parts.notes]


ADJUSTMENTS = {
    "CR0": "no small-sample adjustment",
    "CR1": "residuals times sqrt(J / (J - 1)), J clusters",
    "CR1p": "residuals times sqrt(J / (J - p)), J clusters, p coefficients",
    "CR1S": "residuals times sqrt(J (k - 1) / ((J - 1) (k - p))), J clusters, k effects, p coefficients",
    "CR2": "bias-reduced linearisation",
    "CR3": "close to leaving each cluster out in turn",
}


def r_code(fit: RobustResults) -> str:
    """Return the model with clubSandwich's tests of its coefficients."""
    model: Any = fit.fit
    columns = [] if fit.cluster == GIVEN_CLUSTER else fit.cluster.split(" + ")
    lines = [model._by("r_code", model._words, tuple(columns))]
    joined = [f"dat${name(column)}" for column in columns]
    cluster = joined[0] if len(joined) == 1 else f"interaction({', '.join(joined)}, drop=TRUE)"
    if fit.cluster == GIVEN_CLUSTER:
        lines.append(f"cluster <- {vector(fit._clusters.labels[code] for code in fit._clusters.cluster)}")
        cluster = "cluster"
    arguments = f"vcov={quoted(fit.type)}, cluster={cluster}"
    return "\n".join([*lines, "library(clubSandwich)", f"coef_test(fit, {arguments})", *joint_call(fit, arguments)])


def statistics(fit: RobustResults) -> dict[str, Any]:
    """Return the statistics by name."""
    found = {
        "k": fit.k,
        **fit.effects.counts,
        **fit._these("p", "cluster", "n_clusters", "type", "level"),
        **moderator_test(fit),
    }
    return found | fit._these("tau2", "I2", "QE", "QEdf", "QEp", "loglik")


def to_dict(fit: RobustResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    return plain(
        {
            "statistics": statistics(fit),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "omnibus": fit.omnibus.to_dict(),
            "predictions": predictions_of(fit, (None,)),
            "clusters": {"label": list(fit._clusters.labels), "effects": fit.sizes},
            "notes": [note.to_dict() for note in fit.notes],
            "fit": fit.fit.to_dict(),
        }
    )


def document(fit: RobustResults) -> Document:
    """Return what the fit says."""
    each = wording.effects_per_cluster(fit.sizes)
    tau2 = fit.tau2
    return wording.document(
        fit,
        f"Cluster-robust inference ({fit.type}; k = {fit.k} effects in {fit.n_clusters} clusters, {each})",
        [
            fit.effects.heading,
            f"Clusters: {fit.cluster}; t tests with Satterthwaite df",
            f"Model: {fit.fit.document().title}",
            *wording.moderated(fit),
            *([f"tau2 = {fixed(tau2)} (of the model)"] if tau2 == tau2 else []),
        ],
        wording.moderator_test(fit, "HTZ"),
        wording.coefficients(fit),
        wording.on_r(fit),
    )


def methods(fit: RobustResults) -> str:
    """Return the sentences for a methods section."""
    several = (
        " Several coefficients were tested together by the approximate Hotelling test (Tipton & Pustejovsky, 2015)."
        if len(fit.design.tested) > 1
        else ""
    )
    return (
        f"{fit.fit.methods_text()} These model-based standard errors, tests and confidence intervals were then "
        f"replaced by cluster-robust ones ({fit.type}: {ADJUSTMENTS[fit.type]}; {fit.n_clusters} clusters by "
        f"{fit.cluster}) with Satterthwaite degrees of freedom (Pustejovsky & Tipton, 2018).{several}"
    )
