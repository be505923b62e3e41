"""Robust variance estimation in words: summary, HTML, the methods sentences and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import r_fits
from alliance_meta.results.clustered_text import (
    closing,
    effects_per_cluster,
    moderator_test,
    on_r,
    page,
    table,
)
from alliance_meta.results.wording import wrapped

if TYPE_CHECKING:
    from alliance_meta.results.rve import RVEResults

WORKING = {
    "CORR": "correlated effects",
    "HIER": "hierarchical effects",
    "given": "weights given",
}


r_code = r_fits.rve


def summary(fit: RVEResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    above = [*_head(fit), "", *_heterogeneity(fit), "", *moderator_test(fit, _test_name(fit))]
    return "\n".join([*above, *table(fit), *on_r(fit), *closing(fit)])


def html(fit: RVEResults) -> str:
    """Return the summary as HTML for a notebook."""
    return page(fit, [*_head(fit), *_heterogeneity(fit), *moderator_test(fit, _test_name(fit)), *on_r(fit)])


def methods(fit: RVEResults) -> str:
    """Return the sentences for a methods section."""
    moderators = f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""
    weights = {
        "CORR": "weights from the correlated-effects working model, with an assumed correlation of "
        f"{fit.settings.rho:g} between sampling errors of one cluster",
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


def _head(fit: RVEResults) -> list[str]:
    effects, each = fit.effects, effects_per_cluster(fit.clusters.sizes)
    corrected = (
        "CR2, t with Satterthwaite df" if fit.small else f"no small-sample correction, t({fit.n_clusters - fit.p})"
    )
    rho = f", rho = {fit.settings.rho:g}" if fit.working_model == "CORR" else ""
    lines = [
        f"Robust variance estimation (k = {fit.k} effects in {fit.n_clusters} clusters, {each})",
        effects.heading,
        f"Working model: {WORKING[fit.working_model]}{rho}; clusters: {fit.clusters.name}",
        f"Inference: {corrected}",
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
    ]
    return [part for line in lines for part in wrapped(line)]


def _heterogeneity(fit: RVEResults) -> list[str]:
    if fit.working_model == "given":
        return ["Heterogeneity: not estimated, weights were given"]
    lines = [f"tau2   = {fit.tau2:.4f} between clusters (tau = {fit.tau:.4f}), by moments"]
    if not isinstance(fit.omega2, NotApplicable):
        lines.append(f"omega2 = {fit.omega2:.4f} between effects of one cluster")
    if not isinstance(fit.I2, NotApplicable):
        lines.append(f"I2     = {fit.I2:.2f} % (from QE = {fit.QE:.4f}, {fit.QE_mean:.2f} expected by chance)")
    return lines


def _test_name(fit: RVEResults) -> str:
    return "HTZ" if fit.small else "Wald"
