"""A Bayesian result in words: summary, HTML, the methods sentences and the R code."""

from __future__ import annotations

import html as _html
import textwrap
from typing import TYPE_CHECKING

from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.priors.data import BergerDeely, DuMouchel, Jeffreys, Shrinkage
from alliance_meta.bayes.priors.effect import Flat, Normal
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.bayes.priors.tau import (
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGamma,
    LogNormal,
    Lomax,
    Uniform,
)
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.r_code import comment, data, formula
from alliance_meta.results.wording import WIDTH, number, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.results import BayesianResults
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults

NAMED_IN_R: dict[type, str] = {
    Jeffreys: "Jeffreys",
    BergerDeely: "BergerDeely",
    DuMouchel: "DuMouchel",
    Shrinkage: "shrinkage",
}


def summary(fit: BayesianResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*_heading(fit), "", *_table(fit), *_on_r(fit), "", *_evidence(fit)]
    remarks = [line for remark in _remarks(fit) for line in wrapped(remark)]
    return "\n".join([*lines, *(["", *remarks] if remarks else [])])


def _heading(fit: BayesianResults) -> list[str]:
    kind = "meta-regression" if fit.p > 1 or not fit.design.has_intercept else "random-effects model"
    lines = [
        f"Bayesian {kind} (k = {fit.k}; exact, error at most {fit.error_bound:.0e})",
        fit.effects.heading,
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
        f"Priors: {fit.priors}",
        *(["mu: the mean effect at the average of the moderators"] if fit.p > 1 and fit.design.has_intercept else []),
        f"Intervals: {KINDS[fit.interval]}, {100 * fit.level:g} % of the posterior",
    ]
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


def _rows(fit: BayesianResults) -> list[tuple[str, list[str]]]:
    table = fit.tidy().iloc[: fit.p + 2]
    return [
        (str(name), [number(float(cell)) for cell in row]) for name, row in zip(table.index, table.values, strict=True)
    ]


def _table(fit: BayesianResults) -> list[str]:
    rows = _rows(fit)
    width = min(max(9, *(len(name) for name, _ in rows)), WIDTH - 47)
    lines = [f"{'':{width}} {'mean':>8} {'sd':>8} {'median':>8} {'ci_lb':>8} {'ci_ub':>8}"]
    for name, cells in rows:
        short = name if len(name) <= width else name[: width - 1] + "…"
        lines.append(f"{short:{width}} " + " ".join(f"{cell:>8}" for cell in cells))
    return lines


def _on_r(fit: BayesianResults) -> list[str]:
    if fit.design.formula != "1" or fit.effects.measure != "ZCOR":
        return []
    row, mean = fit.predict(scale="r").iloc[0], fit.predict(scale="r_mean").iloc[0]
    return [
        "",
        f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] (median true correlation, tanh)",
        f"      {mean.pred:.3f} [{mean.ci_lb:.3f}, {mean.ci_ub:.3f}] (mean true correlation)",
        f"      true correlation in a new study: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]",
    ]


def _evidence(fit: BayesianResults) -> list[str]:
    lines = []
    if fit.design.has_intercept:
        stated = [f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0")]
        lines.append("   ".join(stated))
    for one in fit._bayes_factors.values():
        lines += wrapped(
            str(one) if one.bf01 == one.bf01 else f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}"
        )
    likelihood = fit.log_marginal_likelihood
    shown = f"not defined, {_reason(likelihood)}" if likelihood != likelihood else f"{likelihood:.4f}"
    return [*lines, *wrapped(f"Log marginal likelihood: {shown}")]


def probability(value: float) -> str:
    """Return ``= 0.9412``, or ``> .9999`` where rounding would claim certainty."""
    if 0.00005 <= value < 0.99995:
        return f"= {value:.4f}"
    return "< .0001" if value < 0.5 else "> .9999"


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def _remarks(fit: BayesianResults) -> list[str]:
    provenance = fit.effects.provenance
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    return [
        *([label] if provenance.synthetic else []),
        *(f"Note: {note.message}" for note in fit.notes),
        *(f"Caution: {caution}" for caution in provenance.cautions),
    ]


def html(fit: BayesianResults) -> str:
    """Return the summary as HTML for a notebook."""
    return page(fit, [*_heading(fit), *_on_r(fit), *_evidence(fit)], _rows(fit), _remarks(fit))


def page(
    fit: BayesianResults | BayesianMultilevelResults,
    lines: list[str],
    rows: list[tuple[str, list[str]]],
    said: list[str],
) -> str:
    """Return lines, a table of the posterior and remarks as HTML."""
    first, *rest = [_html.escape(line.strip()) for line in lines if line]
    body = "".join(
        f'<tr><th scope="row">{_html.escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows
    )
    columns = ("mean", "sd", "median", "CI lower", "CI upper")
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    caption = (
        f"Posterior ({_html.escape(fit.effects.scale_label)}, {100 * fit.level:g} % {KINDS[fit.interval]} intervals)"
    )
    remarks = "".join(f"<li>{_html.escape(line)}</li>" for line in said)
    return (
        f"<div><p><strong>{first}</strong><br>{'<br>'.join(rest)}</p><table><caption>{caption}</caption>"
        f'<thead><tr><th scope="col">parameter</th>{header}</tr></thead><tbody>{body}</tbody></table>'
        + (f"<ul>{remarks}</ul>" if remarks else "")
        + "</div>"
    )


def methods(fit: BayesianResults) -> str:
    """Return the sentences for a methods section."""
    scale = {
        "ZCOR": "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3) for the analysis "
        "and back-transformed for presentation. ",
        "COR": "Raw correlations were analysed. ",
        "UCOR": "Correlations corrected for small-sample bias were analysed. ",
    }.get(fit.effects.measure, "")
    moderators = f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""
    chosen = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    centred = fit.p > 1 and fit.design.has_intercept
    mean = "the mean effect at the average of the moderators" if centred else "the mean effect"
    of_mean = ", ".join(f"{mean if name == 'mu' else name}: {prior}" for name, prior in chosen)
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    return (
        f"{scale}A Bayesian random-effects model{moderators} was fitted to {fit.effects.counted}. Priors were "
        f"{of_mean}; the standard deviation of true effects between studies, tau: {fit.priors.tau}. Given tau the "
        "coefficients and true effects were integrated analytically, and tau by adaptive Gauss-Legendre quadrature, "
        f"with a numerical error {_bound(fit.error_bound)}. Posterior medians are reported with {kind} "
        f"{100 * fit.level:g} % credible intervals.{factors}"
    )


def _bound(error: float) -> str:
    """Return the bound in words that do not change with the last digits of rounding."""
    return "below 1e-10" if error < 1e-10 else f"of at most {error:.0e}"


def r_code(fit: BayesianResults) -> str:
    """Return the R code (bayesmeta) that fits the same model."""
    lines = ["library(bayesmeta)", "library(metafor)", *data(fit)]
    heavy = [
        f"{name} ~ {prior}"
        for name, prior in zip(fit.priors.names, fit.priors.coefficients, strict=True)
        if not isinstance(prior, Normal | Flat)
    ]
    if heavy:
        lines.append(
            comment(f"bayesmeta has normal and flat priors of effects only; a flat one stands for {', '.join(heavy)}")
        )
    interval = "central" if fit.interval == "eti" else "shortest"
    tau = f'tau.prior={_r_tau(fit.priors.tau)}, interval.type="{interval}"'
    if fit.design.formula == "1":
        mean, sd = _r_normal(fit, 0)
        prior = "" if sd == "NA" else f"mu.prior=c({mean}, {sd}), "
        lines.append(f"fit <- bayesmeta(y=dat$yi, sigma=sqrt(dat$vi), {prior}{tau})")
        return "\n".join(lines)
    lines.append(f"X <- model.matrix(~ {formula(fit.design.formula)}, data=dat)")
    if fit.design.has_intercept:
        lines.append("X[, -1] <- scale(X[, -1], scale=FALSE)  # the intercept is then the effect at the average")
    pairs = [_r_normal(fit, j) for j in range(fit.p)]
    means, sds = ", ".join(mean for mean, _ in pairs), ", ".join(sd for _, sd in pairs)
    beta = f"beta.prior.mean=c({means}), beta.prior.sd=c({sds})"
    lines.append(f"fit <- bmr(y=dat$yi, sigma=sqrt(dat$vi), X=X, {beta}, {tau})")
    return "\n".join(lines)


def _r_normal(fit: BayesianResults, j: int) -> tuple[str, str]:
    prior = fit.priors.coefficients[j]
    return (f"{prior.mean:.15g}", f"{prior.sd:.15g}") if isinstance(prior, Normal) else ("NA", "NA")


def _r_tau(prior: TauPrior) -> str:
    """Return R's spelling of a prior of tau."""
    named: dict[type, str] = {
        Jeffreys: "Jeffreys",
        BergerDeely: "BergerDeely",
        DuMouchel: "DuMouchel",
        Shrinkage: "shrinkage",
    }
    if type(prior) in named:
        return f'"{named[type(prior)]}"'
    if isinstance(prior, HalfNormal):
        body = f"dhalfnormal(t, scale={prior.scale:g})"
    elif isinstance(prior, HalfCauchy):
        body = f"dhalfcauchy(t, scale={prior.scale:g})"
    elif isinstance(prior, HalfT):
        body = f"dhalft(t, df={prior.df:g}, scale={prior.scale:g})"
    elif isinstance(prior, Exponential):
        body = f"dexp(t, rate={1.0 / prior.scale:.15g})"
    elif isinstance(prior, Lomax):
        body = f"dlomax(t, shape={prior.shape:g}, scale={prior.scale:g})"
    elif isinstance(prior, LogNormal):
        body = f"dlnorm(t, {prior.mean:g}, {prior.sd:g})"
    elif isinstance(prior, Gamma):
        body = f"dgamma(t, {prior.shape:g}, scale={prior.scale:g})"
    elif isinstance(prior, InverseGamma):
        a, b = f"{prior.shape:g}", f"{prior.scale:g}"
        body = f"{b}^{a} / gamma({a}) * t^(-{a} - 1) * exp(-{b} / t)"
    elif isinstance(prior, Uniform):
        return f"function(t) dunif(t, 0, {prior.upper:g})" if prior.proper else '"uniform"'
    else:
        return f"stop('the prior of tau, {prior}, has no spelling in R')"
    return f"function(t) {body}"
