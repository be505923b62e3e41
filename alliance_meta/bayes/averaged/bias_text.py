"""An ensemble of models in words: its document, the methods sentences and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from alliance_meta.results import wording
from alliance_meta.results.r_code import data
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, factor, fixed, fixed_interval, level_text

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.averaged.bias_results import RobmaResults

DEFAULT_PRIORS = (Normal(0.0, 1.0), InverseGamma(1.0, 0.15))


def document(fit: RobmaResults) -> Document:
    """Return what the ensemble says."""
    accuracy = f"quadrature, log likelihoods to {brief(fit.errors.max(), 1)}"
    return wording.document(
        fit,
        f"Robust Bayesian meta-analysis: {len(fit.ensemble)} models (k = {fit.k}; {accuracy})",
        [
            fit.effects.heading,
            f"Priors: mu ~ {fit.mu_prior}; tau ~ {fit.tau_prior}",
            f"Bias: {'; '.join(map(str, fit.bias)) or 'none'}; favoured direction: {fit.direction}",
            f"Intervals: equal-tailed, {level_text(fit.level)} of the posterior",
        ],
        inclusion_table(fit.inclusion.assign(models=_counts(fit)), models=0),
        *averages(fit),
        _on_r(fit),
        *_omega(fit),
    )


def _counts(fit: RobmaResults) -> list[int]:
    counts = {
        "effect": sum(one.effect for one in fit.ensemble),
        "heterogeneity": sum(one.heterogeneity for one in fit.ensemble),
        "bias": sum(one.bias is not None for one in fit.ensemble),
        "weight functions": sum(isinstance(one.bias, WeightFunction) for one in fit.ensemble),
    }
    counts["PET-PEESE"] = counts["bias"] - counts["weight functions"]
    return [counts[str(name)] for name in fit.inclusion.index]


def inclusion_table(frame: pd.DataFrame, **first: Kind) -> Table:
    """Return how probable each part of a model is, before and after the data."""
    kinds = {**first, "prior": 4, "posterior": 4, "log_bf10": factor}
    return table_of(frame, kinds, heads={"log_bf10": "BF10"})


def averages(fit: Any) -> list[Table]:
    """Return the parameters averaged over all models, and over those that have them."""
    kinds = dict.fromkeys(("p_incl", "mean", "sd", "median", "ci_lb", "ci_ub"), 4)
    return [
        table_of(fit.tidy(), kinds, "Averaged over all models (0 where a model has no such parameter)"),
        table_of(fit.tidy(conditional=True), kinds, "Averaged over the models with the parameter"),
    ]


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
        f"(error of the log, averaged over the models, about {brief(worst, 1)}). Inclusion Bayes factors "
        f"compare the models with a component to those without it; estimates are posterior medians with equal-tailed "
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
