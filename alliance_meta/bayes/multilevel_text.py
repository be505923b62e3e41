"""The posterior of a three-level model in words: summary, HTML and the methods sentences."""

from __future__ import annotations

import html as _html
import textwrap
from typing import TYPE_CHECKING

from alliance_meta.bayes.marginals import KINDS
from alliance_meta.results.wording import WIDTH, number, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.multilevel_results import BayesianMultilevelResults


def summary(fit: BayesianMultilevelResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*_heading(fit), "", *_table(fit)]
    if fit.effects.measure == "ZCOR" and fit.design.formula == "1":
        row = fit.predict(scale="r").iloc[0]
        lines += ["", f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] (median true correlation, tanh)"]
        lines += [f"      true correlation in a new group: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]"]
    lines += ["", *(line for one in _evidence(fit) for line in wrapped(one)), *remarks(fit.notes)]
    cautions = [line for one in fit.effects.provenance.cautions for line in wrapped(f"Caution: {one}")]
    return "\n".join([*lines, *cautions])


def _heading(fit: BayesianMultilevelResults) -> list[str]:
    outer, inner = fit.priors.terms
    covariance = "independent" if fit.V is None else fit.V.assumption
    lines = [
        f"Bayesian three-level model (k = {fit.k} effects in {fit.n_groups} groups; exact, error about "
        f"{fit.error_bound:.0e})",
        f"{fit.effects.provenance.source}: {fit.effects.scale_label} ({fit.effects.measure})",
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
        f"Random: {outer}, and {inner} within it; sampling errors: {covariance}",
        f"Priors: {fit.priors}",
        *(["mu: the mean effect at the average of the moderators"] if fit.p > 1 and fit.design.has_intercept else []),
        f"Intervals: {KINDS[fit.interval]}, {100 * fit.level:g} % of the posterior",
    ]
    if fit.effects.provenance.synthetic:
        lines.insert(0, "SYNTHETIC DATA: made up for teaching; no finding about therapy.")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


def _table(fit: BayesianMultilevelResults) -> list[str]:
    table = fit.tidy().iloc[: fit.p + 3]
    width = min(max(9, *(len(str(name)) for name in table.index)), WIDTH - 47)
    lines = [f"{'':{width}} {'mean':>8} {'sd':>8} {'median':>8} {'ci_lb':>8} {'ci_ub':>8}"]
    for name, row in zip(table.index, table.values, strict=True):
        short = str(name) if len(str(name)) <= width else f"{str(name)[: width - 1]}…"
        lines.append(f"{short:{width}} " + " ".join(f"{number(float(cell)):>8}" for cell in row))
    return lines


def _evidence(fit: BayesianMultilevelResults) -> list[str]:
    lines = []
    for term in fit.priors.terms:
        one = fit.bayes_factor(f"tau[{term}] = 0")
        lines.append(str(one))
    likelihood = fit.log_marginal_likelihood
    shown = f"{likelihood:.4f}" if likelihood == likelihood else "not defined, a prior is improper"
    return [*lines, f"Log marginal likelihood: {shown}"]


def html(fit: BayesianMultilevelResults) -> str:
    """Return the summary as HTML for a notebook."""
    return f"<pre>{_html.escape(summary(fit))}</pre>"


def methods(fit: BayesianMultilevelResults) -> str:
    """Return the sentences for a methods section."""
    scale = (
        "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3). "
        if fit.effects.measure == "ZCOR"
        else ""
    )
    outer, inner = fit.priors.terms
    moderators = f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""
    covariance = "independent" if fit.V is None else f"taken as follows: {fit.V.assumption}"
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    return (
        f"{scale}A Bayesian three-level model{moderators} was fitted to k = {fit.k} effects in {fit.n_groups} groups, "
        f"with random effects of {outer} and of {inner} within it; sampling errors were {covariance}. Priors were "
        f"{fit.priors}. Coefficients and true effects were integrated analytically, the two standard deviations by "
        f"quadrature, with a numerical error of about {fit.error_bound:.0e}. Posterior medians are reported with "
        f"{kind} {100 * fit.level:g} % credible intervals."
    )
