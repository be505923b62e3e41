"""The posterior of a three-level model in words: summary, HTML and the methods sentences."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from alliance_meta.bayes.exact.text import page, probability
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.wording import WIDTH, number, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def summary(fit: BayesianMultilevelResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*_heading(fit), "", *_table(fit)]
    lines += _on_r(fit)
    lines += ["", *(line for one in _evidence(fit) for line in wrapped(one)), *remarks(fit.notes)]
    cautions = [line for one in fit.effects.provenance.cautions for line in wrapped(f"Caution: {one}")]
    return "\n".join([*lines, *cautions])


def _on_r(fit: BayesianMultilevelResults) -> list[str]:
    if fit.design.formula != "1" or fit.effects.measure != "ZCOR":
        return []
    row, mean = fit.predict(scale="r").iloc[0], fit.predict(scale="r_mean").iloc[0]
    return [
        "",
        f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] (median true correlation, tanh)",
        f"      {mean.pred:.3f} [{mean.ci_lb:.3f}, {mean.ci_ub:.3f}] (mean true correlation)",
        f"      true correlation in a new group: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]",
    ]


def _heading(fit: BayesianMultilevelResults) -> list[str]:
    outer, inner = fit.priors.terms
    covariance = "independent" if fit.V is None else fit.V.assumption
    lines = [
        f"Bayesian three-level model (k = {fit.k} effects in {fit.n_groups} groups; exact, error about "
        f"{fit.error_bound:.0e})",
        fit.effects.heading,
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
        f"Random: {outer}, and {inner} within it; sampling errors: {covariance}",
        f"Priors: {fit.priors}",
        *(["mu: the mean effect at the average of the moderators"] if fit.p > 1 and fit.design.has_intercept else []),
        f"Intervals: {KINDS[fit.interval]}, {100 * fit.level:g} % of the posterior",
    ]
    if fit.effects.provenance.synthetic:
        lines.insert(0, "SYNTHETIC DATA: made up for teaching; no finding about therapy.")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


def _rows(fit: BayesianMultilevelResults) -> list[tuple[str, list[str]]]:
    table = fit.tidy().iloc[: fit.p + 3]
    return [
        (str(name), [number(float(cell)) for cell in row]) for name, row in zip(table.index, table.values, strict=True)
    ]


def _table(fit: BayesianMultilevelResults) -> list[str]:
    rows = _rows(fit)
    width = min(max(9, *(len(name) for name, _ in rows)), WIDTH - 47)
    lines = [f"{'':{width}} {'mean':>8} {'sd':>8} {'median':>8} {'ci_lb':>8} {'ci_ub':>8}"]
    for name, cells in rows:
        short = name if len(name) <= width else f"{name[: width - 1]}…"
        lines.append(f"{short:{width}} " + " ".join(f"{cell:>8}" for cell in cells))
    return lines


def _evidence(fit: BayesianMultilevelResults) -> list[str]:
    lines = []
    if fit.design.has_intercept:
        lines.append("   ".join(f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0")))
    for one in fit._bayes_factors.values():
        missing = one.bf01 != one.bf01
        lines.append(f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}" if missing else str(one))
    likelihood = fit.log_marginal_likelihood
    shown = f"{likelihood:.4f}" if likelihood == likelihood else f"not defined, {_reason(likelihood)}"
    return [*lines, f"Log marginal likelihood: {shown}"]


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def html(fit: BayesianMultilevelResults) -> str:
    """Return the summary as HTML for a notebook."""
    said = [f"Note: {note.message}" for note in fit.notes]
    said += [f"Caution: {one}" for one in fit.effects.provenance.cautions]
    return page(fit, [*_heading(fit), *_on_r(fit), *_evidence(fit)], _rows(fit), said)


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
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    return (
        f"{scale}A Bayesian three-level model{moderators} was fitted to k = {fit.k} effects in {fit.n_groups} groups, "
        f"with random effects of {outer} and of {inner} within it; sampling errors were {covariance}. Priors were "
        f"{fit.priors}. Coefficients and true effects were integrated analytically, the two standard deviations by "
        f"quadrature, with a numerical error of about {fit.error_bound:.0e}. Posterior medians are reported with "
        f"{kind} {100 * fit.level:g} % credible intervals.{factors}"
    )
