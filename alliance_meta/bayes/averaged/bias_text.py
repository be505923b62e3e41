"""An ensemble of models in words: summary, HTML, the methods sentences and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.averaged.bias_models import PET, PSMA, BiasModel, WeightFunction
from alliance_meta.bayes.averaged.text import averages, bayes_factor
from alliance_meta.bayes.exact.text import heading, intervals_line, parameter_table, printed, remarks, scale_words
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.tau import InverseGamma
from alliance_meta.results.r_code import data

if TYPE_CHECKING:
    from alliance_meta.bayes.averaged.bias_results import RobmaResults

DEFAULT_PRIORS = (Normal(0.0, 1.0), InverseGamma(1.0, 0.15))


def summary(fit: RobmaResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*heading(_opening(fit)), "", *_evidence(fit), "", *averages(fit), *_on_r(fit), *_omega(fit)]
    return printed(lines, remarks(fit.effects, fit.notes))


def _opening(fit: RobmaResults) -> list[str]:
    accuracy = f"quadrature, log likelihoods to {fit.errors.max():.0e}"
    return [
        f"Robust Bayesian meta-analysis: {len(fit.ensemble)} models (k = {fit.k}; {accuracy})",
        fit.effects.heading,
        f"Priors: mu ~ {fit.mu_prior}; tau ~ {fit.tau_prior}",
        f"Bias: {'; '.join(map(str, fit.bias)) or 'none'}; favoured direction: {fit.direction}",
        intervals_line(fit),
    ]


def _evidence(fit: RobmaResults) -> list[str]:
    counts = {name: int(mask.sum()) for name, mask in fit._components.items()}
    cells = {
        str(name): [
            str(counts[str(name)]),
            f"{row.prior:.3f}",
            f"{row.posterior:.4f}",
            bayes_factor(float(row.log_bf10)),
        ]
        for name, row in fit.inclusion.iterrows()
    }
    return parameter_table(cells, ["models", "prior", "posterior", "BF10"], [6, 7, 9, 11])


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


def methods(fit: RobmaResults) -> str:
    """Return the sentences for a methods section."""
    chosen = "; ".join(str(one) for one in fit.bias)
    bias = f"publication bias ({chosen}; results in the {fit.direction} direction favoured)" if fit.bias else ""
    present = ["an effect", "heterogeneity", *([bias] if bias else [])]
    listed = f"{', '.join(present[:-1])} and {present[-1]}"
    worst = float((fit.posterior_probabilities * fit.errors).sum())
    return (
        f"{scale_words(fit)}Robust Bayesian meta-analysis (Bartoš et al., 2023) was applied to {fit.effects.counted}: "
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
        options.append(f"priors_heterogeneity={fit.tau_prior.spelled('RoBMA')}")
    if not fit.bias:
        options.append("priors_bias=NULL")
    elif fit.bias != PSMA:
        options.append("priors_bias=list(" + ", ".join(_r_bias(one) for one in fit.bias) + ")")
    lines.append(f"fit <- RoBMA({', '.join([*options, 'seed=1'])})")
    return "\n".join(lines)


def _r_bias(one: BiasModel) -> str:
    weight = f"prior_weights={one.weight:.15g}"
    if isinstance(one, WeightFunction):
        alpha, steps = ", ".join(["1"] * (len(one.steps) + 1)), ", ".join(f"{p:g}" for p in one.steps)
        return f'prior_weightfunction("{one.sides}.sided", list(alpha=c({alpha}), steps=c({steps})), {weight})'
    name = "PET" if isinstance(one, PET) else "PEESE"
    return f'prior_{name}("Cauchy", list(0, {one.scale:g}), truncation=list(0, Inf), {weight})'
