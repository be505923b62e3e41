"""An ensemble of models in words: summary, HTML, the methods sentences and the R code."""

from __future__ import annotations

import html as _html
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from alliance_meta.bayes.averaged.bias_models import PET, PSMA, BiasModel, WeightFunction
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.bayes.priors.tau import (
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGamma,
    LogNormal,
    Uniform,
)
from alliance_meta.results.r_code import data
from alliance_meta.results.wording import WIDTH, number, remarks, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.averaged.bias_results import RobmaResults

DEFAULT_PRIORS = (Normal(0.0, 1.0), InverseGamma(1.0, 0.15))


def summary(fit: RobmaResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*_heading(fit), "", *_evidence(fit), ""]
    lines += ["Averaged over all models (0 where a model has no such parameter)", *parameter_table(fit.tidy()), ""]
    lines += ["Averaged over the models with the parameter", *parameter_table(fit.tidy(conditional=True))]
    lines += [*_on_r(fit), *_omega(fit), *remarks(fit.notes)]
    cautions = [line for one in fit.effects.provenance.cautions for line in wrapped(f"Caution: {one}")]
    return "\n".join([*lines, *cautions])


def _heading(fit: RobmaResults) -> list[str]:
    accuracy = f"quadrature, log likelihoods to {fit.errors.max():.0e}"
    lines = [
        f"Robust Bayesian meta-analysis: {len(fit.ensemble)} models (k = {fit.k}; {accuracy})",
        fit.effects.heading,
        f"Priors: mu ~ {fit.mu_prior}; tau ~ {fit.tau_prior}",
        f"Bias: {'; '.join(map(str, fit.bias)) or 'none'}; favoured direction: {fit.direction}",
        f"Intervals: equal-tailed, {100 * fit.level:g} % of the posterior",
    ]
    label = (
        ["SYNTHETIC DATA: made up for teaching; no finding about therapy."] if fit.effects.provenance.synthetic else []
    )
    return [part for line in [*label, *lines] for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


def _evidence(fit: RobmaResults) -> list[str]:
    lines = [f"{'':17} {'models':>6} {'prior':>7} {'posterior':>9} {'BF10':>11}"]
    counts = {
        "effect": sum(one.effect for one in fit.ensemble),
        "heterogeneity": sum(one.heterogeneity for one in fit.ensemble),
        "bias": sum(one.bias is not None for one in fit.ensemble),
        "weight functions": sum(isinstance(one.bias, WeightFunction) for one in fit.ensemble),
    }
    counts["PET-PEESE"] = counts["bias"] - counts["weight functions"]
    for name, row in fit.inclusion.iterrows():
        bf = bayes_factor(float(row.log_bf10))
        lines.append(f"{name!s:17} {counts[str(name)]:>6} {row.prior:>7.3f} {row.posterior:>9.4f} {bf:>11}")
    return lines


def bayes_factor(log: float) -> str:
    """Return a Bayes factor in print, also where it overflows."""
    if np.isnan(log):
        return "n/a"
    if abs(log) < np.log(99999.5):
        return f"{np.exp(log):.4g}"
    exponent = int(np.floor(log / np.log(10.0)))
    return f"{np.exp(log - exponent * np.log(10.0)):.2f}e{exponent:+d}"


def parameter_table(frame: pd.DataFrame) -> list[str]:
    """Return the rows of `tidy` in print."""
    width = min(max(10, *(len(str(name)) for name in frame.index)), WIDTH - 53)
    lines = [f"{'':{width}} {'p_incl':>7} {'mean':>8} {'sd':>8} {'median':>8} {'ci_lb':>8} {'ci_ub':>8}"]
    for name, row in frame.iterrows():
        short = str(name) if len(str(name)) <= width else f"{str(name)[: width - 1]}…"
        cells = " ".join(f"{number(float(cell)):>8}" for cell in row.iloc[1:])
        lines.append(f"{short:{width}} {row.p_incl:>7.4f} {cells}")
    return lines


def _on_r(fit: RobmaResults) -> list[str]:
    if fit.effects.measure != "ZCOR" or "mu" not in fit.parameters:
        return []
    row = fit.predict(scale="r").iloc[0]
    there = fit.posterior("mu", scale="r", conditional=True).interval(level=fit.level)
    return [
        "",
        f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] averaged over all models",
        f"      {there.estimate:.3f} [{there.lb:.3f}, {there.ub:.3f}] if there is an effect",
        f"      true correlation in a new study: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]",
    ]


def _omega(fit: RobmaResults) -> list[str]:
    if not any(isinstance(one, WeightFunction) for one in fit.bias):
        return []
    lines = ["", "Relative probability of publication by one-sided p (averaged over all models)"]
    for _, row in fit.weight_function().iterrows():
        limits = f"[{row.ci_lb:.2f}, {row.ci_ub:.2f}]"
        lines.append(f"{f'{row.p_from:g} to {row.p_to:g}':15} {row['mean']:>5.2f} {limits}")
    return lines


def html(fit: RobmaResults) -> str:
    """Return the summary as HTML for a notebook."""
    return f"<pre>{_html.escape(summary(fit))}</pre>"


def methods(fit: RobmaResults) -> str:
    """Return the sentences for a methods section."""
    scale = (
        "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3). "
        if fit.effects.measure == "ZCOR"
        else ""
    )
    chosen = "; ".join(str(one) for one in fit.bias)
    bias = f"publication bias ({chosen}; results in the {fit.direction} direction favoured)" if fit.bias else ""
    present = ["an effect", "heterogeneity", *([bias] if bias else [])]
    listed = f"{', '.join(present[:-1])} and {present[-1]}"
    worst = float((fit.posterior_probabilities * fit.errors).sum())
    return (
        f"{scale}Robust Bayesian meta-analysis (Bartoš et al., 2023) was applied to {fit.effects.counted}: "
        f"{len(fit.ensemble)} models with and without {listed} were averaged by their posterior probabilities. Priors "
        f"were, for the mean effect, {fit.mu_prior}; for the standard deviation between studies, {fit.tau_prior}. "
        "Marginal likelihoods were computed by quadrature "
        f"(error of the log, averaged over the models, about {worst:.0e}). Inclusion Bayes factors compare the models "
        f"with a component to those without it; estimates are posterior medians with equal-tailed "
        f"{100 * fit.level:g} % credible intervals."
    )


def r_code(fit: RobmaResults) -> str:
    """Return the R code (RoBMA) that fits the same ensemble."""
    lines = ["library(RoBMA)", "library(metafor)", *data(fit)]
    options = ["y=dat$yi", "se=sqrt(dat$vi)"]
    if fit.direction != "positive":
        options.append('effect_direction="negative"')
    if (fit.mu_prior, fit.tau_prior) != DEFAULT_PRIORS:
        options.append(f'priors_effect=prior("normal", list(mean={fit.mu_prior.mean:.15g}, sd={fit.mu_prior.sd:.15g}))')
        options.append(f"priors_heterogeneity={_r_tau(fit.tau_prior)}")
    if not fit.bias:
        options.append("priors_bias=NULL")
    elif fit.bias != PSMA:
        options.append("priors_bias=list(" + ", ".join(_r_bias(one) for one in fit.bias) + ")")
    lines.append(f"fit <- RoBMA({', '.join([*options, 'seed=1'])})")
    return "\n".join(lines)


def _r_tau(prior: TauPrior) -> str:
    below = ", truncation=list(0, Inf)"
    if isinstance(prior, InverseGamma):
        return f'prior("invgamma", list(shape={prior.shape:g}, scale={prior.scale:g}))'
    if isinstance(prior, Gamma):
        return f'prior("gamma", list(shape={prior.shape:g}, rate={1.0 / prior.scale:.15g}))'
    if isinstance(prior, HalfNormal):
        return f'prior("normal", list(mean=0, sd={prior.scale:g}){below})'
    if isinstance(prior, HalfCauchy):
        return f'prior("cauchy", list(location=0, scale={prior.scale:g}){below})'
    if isinstance(prior, HalfT):
        return f'prior("t", list(location=0, scale={prior.scale:g}, df={prior.df:g}){below})'
    if isinstance(prior, Exponential):
        return f'prior("exp", list(rate={1.0 / prior.scale:.15g}))'
    if isinstance(prior, LogNormal):
        return f'prior("lognormal", list(meanlog={prior.mean:g}, sdlog={prior.sd:g}))'
    if isinstance(prior, Uniform):
        return f'prior("uniform", list(a=0, b={prior.upper:g}))'
    return f"stop('the prior of tau, {prior}, has no spelling in RoBMA')"


def _r_bias(one: BiasModel) -> str:
    weight = f"prior_weights={one.weight:.15g}"
    if isinstance(one, WeightFunction):
        alpha, steps = ", ".join(["1"] * (len(one.steps) + 1)), ", ".join(f"{p:g}" for p in one.steps)
        return f'prior_weightfunction("{one.sides}.sided", list(alpha=c({alpha}), steps=c({steps})), {weight})'
    name = "PET" if isinstance(one, PET) else "PEESE"
    return f'prior_{name}("Cauchy", list(0, {one.scale:g}), truncation=list(0, Inf), {weight})'
