"""A sampled posterior in words: summary, HTML and the methods sentences; a failed check comes first."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING

import pandas as pd

from alliance_meta.bayes.exact.export import COLUMNS
from alliance_meta.bayes.exact.text import (
    about,
    heading,
    interval_words,
    intervals_line,
    moderators_words,
    on_r,
    page,
    parameter_table,
    printed,
    prior_words,
    probabilities,
    remarks,
    scale_words,
)
from alliance_meta.bayes.sampled.gate import FAILED as FAILED
from alliance_meta.results.wording import number, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled.results import SampledPosterior

# A vector with more elements is left to `tidy`.
MOST_ELEMENTS = 12
# The model whose data are the correlations themselves.
EXACT = "exact_correlation"


def summary(fit: SampledPosterior) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    alarm = [line for text in alarms(fit) for line in wrapped(text)]
    lines = [*([*alarm, ""] if alarm else []), *heading(_opening(fit)), "", *_table(fit)]
    lines += [*_as_r(fit), "", *_probabilities(fit), *_quality(fit)]
    return printed(lines, _remarks(fit))


def alarms(fit: SampledPosterior) -> list[str]:
    """Return what must be said before anything else; nothing for a fit that passed."""
    return [FAILED, *(note.message for note in fit.problems)] if fit.problems else []


def _opening(fit: SampledPosterior) -> list[str]:
    chains, draws = fit._shape
    drawn = f"{chains} chains of {draws} draws" if chains > 1 else f"1 chain of {draws} draws"
    if fit.recipe is None:
        return [f"Draws from a posterior ({drawn})", intervals_line(fit)]
    recipe = fit.recipe
    priors = "; ".join(f"{name} ~ {prior}" for name, prior in recipe.priors.items())
    first = f"Bayesian model {recipe.model} (k = {fit.k}; {drawn})"
    return [first, *about(fit, priors, f"Assumes: {recipe.words}")]


def shown(fit: SampledPosterior) -> pd.DataFrame:
    """Return the rows of `tidy` that a summary prints: all but long vectors."""
    table = fit.tidy()
    stems = [str(name).partition("[")[0] if "[" in str(name) else "" for name in table.index]
    keep = []
    for name, stem in zip(table.index, stems, strict=True):
        coefficient = fit.recipe is not None and name in fit.names
        keep.append(coefficient or (stem != "theta" and (not stem or stems.count(stem) <= MOST_ELEMENTS)))
    return table[keep]


def _cells(row: pd.Series) -> list[str]:
    ess = min(float(row["ess_bulk"]), float(row["ess_tail"]))
    return [*(number(float(row[name])) for name in COLUMNS), number(ess, 0), number(float(row["rhat"]), 3)]


def _table(fit: SampledPosterior) -> list[str]:
    table = shown(fit)
    cells = {str(name): _cells(row) for name, row in table.iterrows()}
    lines = parameter_table(cells, [*COLUMNS, "ess", "rhat"], [8] * len(COLUMNS) + [6, 6])
    hidden = len(fit._rows) - len(table)
    return [*lines, *([f"({hidden} more in tidy())"] if hidden else [])]


def _as_r(fit: SampledPosterior) -> list[str]:
    if fit.recipe is None or fit.recipe.shift is not None:
        return []
    return on_r(fit)


def _probabilities(fit: SampledPosterior) -> list[str]:
    if fit.recipe is None or not fit.recipe.design.has_intercept:
        return []
    return probabilities(fit)


def _quality(fit: SampledPosterior) -> list[str]:
    found = fit.diagnostics
    table = fit.tidy()
    share = table["mcse"].astype(float) / table["sd"].astype(float)
    error = f"Monte-Carlo errors of the means: at most {100 * share.max():.1f} % of the sd. " if share.max() > 0 else ""
    divergences = number(float(found.divergences), 0)
    text = (
        f"{error}All parameters: R-hat at most {number(found.rhat, 3)}, effective draws at least "
        f"{number(found.ess_bulk, 0)} (middle) and {number(found.ess_tail, 0)} (tails); divergences: {divergences}."
    )
    return wrapped(text)


def _remarks(fit: SampledPosterior) -> list[str]:
    notes = [note for note in fit.notes if note not in fit.problems]
    return remarks(None if fit.recipe is None else fit.effects, notes)


def html(fit: SampledPosterior) -> str:
    """Return the summary as HTML for a notebook."""
    alarm = "".join(f"<p><strong>{_html.escape(text)}</strong></p>" for text in alarms(fit))
    lines = [*heading(_opening(fit)), *_as_r(fit), *_probabilities(fit), *_quality(fit)]
    rows = {str(name): _cells(row) for name, row in shown(fit).iterrows()}
    made = page(fit, lines, rows, _remarks(fit), ("effective draws", "R-hat"))
    return made.replace("<div>", f"<div>{alarm}", 1)


def methods(fit: SampledPosterior) -> str:
    """Return the sentences for a methods section."""
    recipe, (chains, draws) = fit.made, fit._shape
    scale = scale_words(fit)
    if recipe.model == EXACT:
        scale = "Each correlation entered by its exact sampling distribution, with true effects on Fisher's z. "
    run = f"with {chains} chain{'s' if chains > 1 else ''} of {draws} draws"
    if fit.sampler is not None:
        run = (
            f"by the No-U-Turn sampler as implemented in {fit.sampler.program}, {run} each after {fit.sampler.tune} "
            f"draws of tuning, a target acceptance of {fit.sampler.target_accept:g} and seed {fit.seed}"
        )
    return (
        f"{' '.join([*alarms(fit), '']) if fit.problems else ''}"
        f"{scale}A Bayesian model{moderators_words(fit)} was fitted to {fit.effects.counted}, which assumes that "
        f"{recipe.words}. Priors were {prior_words(fit, recipe.priors)}. The posterior was sampled {run}. "
        f"{_checks(fit)} {interval_words(fit)}"
    )


def _checks(fit: SampledPosterior) -> str:
    found = fit.diagnostics
    divergences = "" if found.divergences != found.divergences else f" and {found.divergences:.0f} divergences"
    return (
        f"R-hat was at most {number(found.rhat, 3)}, with at least {number(found.ess_bulk, 0)} effective draws for the "
        f"middle and {number(found.ess_tail, 0)} for the tails of every parameter{divergences}."
    )
