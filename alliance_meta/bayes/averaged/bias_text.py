"""An ensemble of models in words: its document, the methods sentences and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.averaged.bias_models import PET, PSMA, BiasModel, WeightFunction
from alliance_meta.bayes.averaged.text import averages, inclusion_table
from alliance_meta.bayes.exact.output import intervals_line
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.tau import InverseGamma
from alliance_meta.results import wording
from alliance_meta.results.r_code import data
from alliance_meta.tables.document import Document, Table, table_of
from alliance_meta.tables.format import brief, fixed, fixed_interval, level_text

if TYPE_CHECKING:
    from alliance_meta.bayes.averaged.bias_results import RobmaResults

DEFAULT_PRIORS = (Normal(0.0, 1.0), InverseGamma(1.0, 0.15))


def document(fit: RobmaResults) -> Document:
    """Return what the ensemble says."""
    counts = [int(fit._components[str(name)].sum()) for name in fit.inclusion.index]
    accuracy = f"quadrature, log likelihoods to {brief(fit.errors.max(), 1)}"
    return wording.document(
        fit,
        f"Robust Bayesian meta-analysis: {len(fit.ensemble)} models (k = {fit.k}; {accuracy})",
        [
            fit.effects.heading,
            f"Priors: mu ~ {fit.mu_prior}; tau ~ {fit.tau_prior}",
            f"Bias: {'; '.join(map(str, fit.bias)) or 'none'}; favoured direction: {fit.direction}",
            intervals_line(fit),
        ],
        inclusion_table(fit.inclusion.assign(models=counts), models=0),
        *averages(fit),
        _on_r(fit),
        *_omega(fit),
    )


def _on_r(fit: RobmaResults) -> list[str]:
    if fit.effects.measure != "ZCOR" or "mu" not in fit.parameters:
        return []
    row = fit.predict(scale="r").iloc[0]
    there = fit.posterior("mu", scale="r", conditional=True).interval(level=fit.level)
    return [
        f"As r: {wording.estimate(row)} averaged over all models",
        f"      {fixed(there.estimate, 3)} {fixed_interval(there.lb, there.ub, 3)} if there is an effect",
        f"      true correlation in a new study: {fixed_interval(row.pi_lb, row.pi_ub, 3)}",
    ]


def _omega(fit: RobmaResults) -> list[Table]:
    if not any(isinstance(one, WeightFunction) for one in fit.bias):
        return []
    frame = fit.weight_function()
    steps = [f"{brief(low)} to {brief(high)}" for low, high in zip(frame["p_from"], frame["p_to"], strict=True)]
    caption = "Relative probability of publication by one-sided p (averaged over all models)"
    return [table_of(frame.set_axis(steps), {"mean": 2, "ci_lb": 2, "ci_ub": 2}, caption)]


def methods(fit: RobmaResults) -> str:
    """Return the sentences for a methods section."""
    chosen = "; ".join(str(one) for one in fit.bias)
    bias = f"publication bias ({chosen}; results in the {fit.direction} direction favoured)" if fit.bias else ""
    present = ["an effect", "heterogeneity", *([bias] if bias else [])]
    listed = f"{', '.join(present[:-1])} and {present[-1]}"
    worst = float((fit.posterior_probabilities * fit.errors).sum())
    return (
        f"{wording.scale_sentence(fit)}Robust Bayesian meta-analysis (Bartoš et al., 2023) was applied to "
        f"{fit.effects.counted}: "
        f"{len(fit.ensemble)} models with and without {listed} were averaged by their posterior probabilities. Priors "
        f"were, for the mean effect, {fit.mu_prior}; for the standard deviation between studies, {fit.tau_prior}. "
        "Marginal likelihoods were computed by quadrature "
        f"(error of the log, averaged over the models, about {brief(worst, 1)}). Inclusion Bayes factors compare the "
        "models "
        f"with a component to those without it; estimates are posterior medians with equal-tailed "
        f"{level_text(fit.level)} credible intervals."
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
