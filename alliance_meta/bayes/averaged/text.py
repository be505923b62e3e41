"""Averages over models in words: their document and the methods sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.averaged.bias_text import averages, inclusion_table
from alliance_meta.bayes.exact.text import CENTRED
from alliance_meta.results import wording
from alliance_meta.tables.document import Document, Table, cut
from alliance_meta.tables.format import brief, fixed, fixed_interval, level_text

if TYPE_CHECKING:
    from alliance_meta.bayes.averaged.results import AveragedResults

SHOWN = 8


def document(fit: AveragedResults) -> Document:
    """Return what the average says."""
    n = int((fit.space.log_prior > -float("inf")).sum())
    tau = " or ".join(map(str, fit.tau_priors))
    coefficients = "; ".join(
        f"{name} ~ {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return wording.document(
        fit,
        f"Bayesian average over {n:,} models (k = {fit.k}; exact, error at most {brief(fit.error_bound, 1)})",
        [
            fit.effects.heading,
            *([f"In every model: {' + '.join(fit.always)}"] if fit.always else []),
            f"Priors: {coefficients}; tau = 0 or tau ~ {tau}",
            *([f"mu: {CENTRED}"] if len(fit.names) > 1 else []),
            f"Intervals: equal-tailed, {level_text(fit.level)} of the posterior",
        ],
        inclusion_table(fit.inclusion),
        _models(fit),
        *averages(fit),
        _on_r(fit),
    )


def _on_r(fit: AveragedResults) -> list[str]:
    if fit.effects.measure != "ZCOR":
        return []
    row = fit.predict(scale="r").iloc[0]
    new = fixed_interval(row.pi_lb, row.pi_ub, 3)
    return [f"Mean effect as r: {wording.estimate(row)}", f"True correlation in a new study: {new}"]


def _models(fit: AveragedResults) -> Table:
    rows = []
    for _, row in fit.models.iterrows():
        formula = row.formula if row.effect else f"0 + {row.formula}" if row.formula != "1" else "0"
        rows.append((formula, str(row.tau_prior), fixed(row.posterior)))
    return cut(Table(("model", "tau", "posterior"), tuple(rows), words=(1,)), SHOWN, "... and {left:,} more")


def methods(fit: AveragedResults) -> str:
    """Return the sentences for a methods section."""
    n = int((fit.space.log_prior > -float("inf")).sum())
    about = [f"every set of the moderators {', '.join(fit.space.terms)}"] if fit.space.terms else []
    about += ["a mean effect of 0 or not"] if "effect" in fit.space.optional else []
    about += ["equal or random effects"]
    about += ["the priors of tau"] if len(fit.tau_priors) > 1 else []
    coefficients = ", ".join(
        f"{name}: {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return (
        f"{wording.scale_sentence(fit)}Bayesian model averaging over {', '.join(about)} ({n:,} models) was applied to "
        f"{fit.effects.counted}. Priors were {coefficients}; tau, in random-effects models: "
        f"{' or '.join(map(str, fit.tau_priors))}. Marginal likelihoods were computed exactly (relative error at most "
        f"{brief(fit.error_bound, 1)}). Inclusion Bayes factors compare the models with a component to those without "
        f"it; estimates are posterior medians averaged over all models, with equal-tailed {level_text(fit.level)} "
        "credible intervals."
    )
