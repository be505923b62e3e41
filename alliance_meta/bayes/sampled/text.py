"""A sampled posterior in words: its document and the methods sentences; a failed check comes first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from alliance_meta.bayes.exact.output import (
    about,
    interval_words,
    intervals_line,
    posterior_table,
    prior_words,
    probabilities,
)
from alliance_meta.bayes.sampled.gate import FAILED as FAILED
from alliance_meta.result import said
from alliance_meta.results import wording
from alliance_meta.tables.document import Block, Document
from alliance_meta.tables.format import brief, fixed

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled.results import SampledPosterior

# A vector with more elements is left to `tidy`.
MOST_ELEMENTS = 12
# The model whose data are the correlations themselves.
EXACT = "exact_correlation"


def document(fit: SampledPosterior) -> Document:
    """Return what the fit says; a failed check comes first."""
    chains, draws = fit._shape
    drawn = f"{chains} chains of {draws} draws" if chains > 1 else f"1 chain of {draws} draws"
    recipe, passed = fit.recipe, [note for note in fit.notes if note not in fit.problems]
    if recipe is None:
        title, lines = f"Draws from a posterior ({drawn})", [intervals_line(fit)]
        return Document(title, lines, [*_table(fit), _quality(fit)], said(passed), alarms(fit))
    priors = "; ".join(f"{name} ~ {prior}" for name, prior in recipe.priors.items())
    made = wording.document(
        fit,
        f"Bayesian model {recipe.model} (k = {fit.k}; {drawn})",
        about(fit, priors, f"Assumes: {recipe.words}"),
        *_table(fit),
        wording.as_r(fit, new="a new study") if recipe.shift is None else [],
        [*(probabilities(fit) if recipe.design.has_intercept else []), *_quality(fit)],
        alarm=alarms(fit),
    )
    told = said(fit.problems)
    return replace(made, notes=[line for line in made.notes if line not in told])


def alarms(fit: SampledPosterior) -> list[str]:
    """Return what must be said before anything else; nothing for a fit that passed."""
    return [FAILED, *(note.message for note in fit.problems)] if fit.problems else []


def shown(fit: SampledPosterior) -> pd.DataFrame:
    """Return the rows of `tidy` that a summary prints: all but long vectors."""
    table = fit.tidy()
    stems = [str(name).partition("[")[0] if "[" in str(name) else "" for name in table.index]
    keep = []
    for name, stem in zip(table.index, stems, strict=True):
        coefficient = fit.recipe is not None and name in fit.names
        keep.append(coefficient or (stem != "theta" and (not stem or stems.count(stem) <= MOST_ELEMENTS)))
    return table[keep]


def _table(fit: SampledPosterior) -> list[Block]:
    table = shown(fit)
    table["ess"] = table[["ess_bulk", "ess_tail"]].astype(float).min(axis=1)
    hidden = len(fit._rows) - len(table)
    scale = "draws as they are" if fit.recipe is None else None
    return [
        posterior_table(fit, table, scale, ess=0, rhat=3),
        [f"({hidden} more in tidy())"] if hidden else [],
    ]


def _quality(fit: SampledPosterior) -> list[str]:
    found = fit.diagnostics
    table = fit.tidy()
    share = table["mcse"].astype(float) / table["sd"].astype(float)
    error = (
        f"Monte-Carlo errors of the means: at most {fixed(100 * share.max(), 1)} % of the sd. "
        if share.max() > 0
        else ""
    )
    divergences = fixed(float(found.divergences), 0)
    text = (
        f"{error}All parameters: R-hat at most {fixed(found.rhat, 3)}, effective draws at least "
        f"{fixed(found.ess_bulk, 0)} (middle) and {fixed(found.ess_tail, 0)} (tails); divergences: {divergences}."
    )
    return [text]


def methods(fit: SampledPosterior) -> str:
    """Return the sentences for a methods section."""
    recipe, (chains, draws) = fit.made, fit._shape
    scale = wording.scale_sentence(fit)
    if recipe.model == EXACT:
        scale = "Each correlation entered by its exact sampling distribution, with true effects on Fisher's z. "
    run = f"with {chains} chain{'s' if chains > 1 else ''} of {draws} draws"
    if fit.sampler is not None:
        run = (
            f"by the No-U-Turn sampler as implemented in {fit.sampler.program}, {run} each after {fit.sampler.tune} "
            f"draws of tuning, a target acceptance of {brief(fit.sampler.target_accept)} and seed {fit.seed}"
        )
    return (
        f"{' '.join([*alarms(fit), '']) if fit.problems else ''}"
        f"{scale}A Bayesian model{wording.with_moderators(fit)} was fitted to {fit.effects.counted}, which assumes "
        "that "
        f"{recipe.words}. Priors were {prior_words(fit, recipe.priors)}. The posterior was sampled {run}. "
        f"{_checks(fit)} {interval_words(fit)}"
    )


def _checks(fit: SampledPosterior) -> str:
    found = fit.diagnostics
    divergences = "" if found.divergences != found.divergences else f" and {fixed(found.divergences, 0)} divergences"
    return (
        f"R-hat was at most {fixed(found.rhat, 3)}, with at least {fixed(found.ess_bulk, 0)} effective draws for the "
        f"middle and {fixed(found.ess_tail, 0)} for the tails of every parameter{divergences}."
    )
