"""The posterior of a three-level model in words: its document and the methods sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.exact.text import centre, evidence, intervals, posterior_table
from alliance_meta.results import wording
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, level_text

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def document(fit: BayesianMultilevelResults) -> Document:
    """Return what the fit says."""
    outer, inner = fit.priors.terms
    covariance = "independent" if fit.V is None else fit.V.assumption
    return wording.document(
        fit,
        f"Bayesian three-level model (k = {fit.k} effects in {fit.n_groups} groups; exact, error about "
        f"{brief(fit.error_bound, 1)})",
        [
            fit.effects.heading,
            *wording.moderated(fit),
            f"Random: {outer}, and {inner} within it; sampling errors: {covariance}",
            f"Priors: {fit.priors}",
            *centre(fit),
            intervals(fit),
        ],
        posterior_table(fit, fit.tidy().iloc[: fit.p + 3]),
        wording.as_r(fit, new="a new group"),
        evidence(fit),
    )


def methods(fit: BayesianMultilevelResults) -> str:
    """Return the sentences for a methods section."""
    outer, inner = fit.priors.terms
    covariance = "independent" if fit.V is None else f"taken as follows: {fit.V.assumption}"
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    return (
        f"{wording.scale_sentence(fit)}A Bayesian three-level model{wording.with_moderators(fit)} was fitted to k = "
        f"{fit.k} effects in {fit.n_groups} groups, "
        f"with random effects of {outer} and of {inner} within it; sampling errors were {covariance}. Priors were "
        f"{fit.priors}. Coefficients and true effects were integrated analytically, the two standard deviations by "
        f"quadrature, with a numerical error of about {brief(fit.error_bound, 1)}. Posterior medians are "
        f"reported with {kind} {level_text(fit.level)} credible intervals.{factors}"
    )
