"""Robust variance estimation in words: its document, the methods sentences and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.r_code import (
    GIVEN_CLUSTER,
    call,
    data,
    formula,
    joint_call,
    name,
    quoted,
    value,
    vector,
)
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed

if TYPE_CHECKING:
    from alliance_meta.results.rve import RVEResults

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
