"""Cluster-robust results in words and as tables: the document, the methods sentences, R code, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alliance_meta.results import wording
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.export import tidy as tidy
from alliance_meta.results.r_code import (
    GIVEN_CLUSTER,
    joint_call,
    name,
    quoted,
    vector,
)
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from alliance_meta.results.robust import RobustResults

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
    m, ddf = fit.QMdf
    found = {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "cluster": fit.cluster,
        "n_clusters": fit.n_clusters,
        "type": fit.type,
        "level": fit.level,
        "QM": fit.QM,
        "QMdf": m,
        "QMddf": ddf,
        "QMp": fit.QMp,
    }
    return found | {name: getattr(fit, name) for name in ("tau2", "I2", "QE", "QEdf", "QEp", "loglik")}


def to_dict(fit: RobustResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    frame = fit.predict()
    return plain(
        {
            "statistics": statistics(fit),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "omnibus": fit.omnibus.to_dict(),
            "predictions": {frame.attrs["scale"]: {"label": list(frame.index), **columns_of(frame)}},
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
