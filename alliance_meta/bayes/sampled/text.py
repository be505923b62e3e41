"""A sampled posterior in words: summary, HTML and the methods sentences; a failed check comes first."""

from __future__ import annotations

import html as _html
import textwrap
from typing import TYPE_CHECKING

import pandas as pd

from alliance_meta.bayes.exact.text import _on_r, probability
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.sampled.gate import FAILED as FAILED
from alliance_meta.results.wording import WIDTH, number, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled.results import SampledPosterior

# A vector with more elements is left to `tidy`.
MOST_ELEMENTS = 12
# The model whose data are the correlations themselves.
EXACT = "exact_correlation"
COLUMNS = ("mean", "sd", "median", "ci_lb", "ci_ub")


def summary(fit: SampledPosterior) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    alarm = [line for text in alarms(fit) for line in wrapped(text)]
    lines = [*([*alarm, ""] if alarm else []), *_heading(fit), "", *_table(fit)]
    lines += [*_as_r(fit), "", *_probabilities(fit), *_quality(fit)]
    remarks = [line for remark in _remarks(fit) for line in wrapped(remark)]
    return "\n".join([*lines, *(["", *remarks] if remarks else [])])


def alarms(fit: SampledPosterior) -> list[str]:
    """Return what must be said before anything else; nothing for a fit that passed."""
    return [FAILED, *(note.message for note in fit.problems)] if fit.problems else []


def _heading(fit: SampledPosterior) -> list[str]:
    chains, draws = fit._shape
    drawn = f"{chains} chains of {draws} draws" if chains > 1 else f"1 chain of {draws} draws"
    limits = f"Intervals: {KINDS[fit.interval]}, {100 * fit.level:g} % of the posterior"
    if fit.recipe is None:
        lines = [f"Draws from a posterior ({drawn})", limits]
    else:
        recipe, effects = fit.recipe, fit.effects
        priors = "; ".join(f"{name} ~ {prior}" for name, prior in recipe.priors.items())
        centred = fit.p > 1 and recipe.design.has_intercept
        lines = [
            f"Bayesian model {recipe.model} (k = {fit.k}; {drawn})",
            effects.heading,
            f"Assumes: {recipe.words}",
            *([f"Moderators: {recipe.design.formula}"] if recipe.design.formula != "1" else []),
            f"Priors: {priors}",
            *(["mu: the mean effect at the average of the moderators"] if centred else []),
            limits,
        ]
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


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
    width = min(max(9, *(len(str(name)) for name in table.index)), WIDTH - 60)
    heads = "".join(f" {name:>8}" for name in COLUMNS)
    lines = [f"{'':{width}}{heads} {'ess':>6} {'rhat':>6}"]
    for name, row in table.iterrows():
        text = str(name) if len(str(name)) <= width else str(name)[: width - 1] + "…"
        *cells, ess, rhat = _cells(row)
        lines.append(f"{text:{width}}" + "".join(f" {cell:>8}" for cell in cells) + f" {ess:>6} {rhat:>6}")
    hidden = len(fit._rows) - len(table)
    return [*lines, *([f"({hidden} more in tidy())"] if hidden else [])]


def _as_r(fit: SampledPosterior) -> list[str]:
    if fit.recipe is None or fit.recipe.shift is not None:
        return []
    return _on_r(fit)  # type: ignore[arg-type]


def _probabilities(fit: SampledPosterior) -> list[str]:
    if fit.recipe is None or not fit.recipe.design.has_intercept:
        return []
    stated = [f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0")]
    return ["   ".join(stated)]


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
    notes = [f"Note: {note.message}" for note in fit.notes if note not in fit.problems]
    if fit.recipe is None:
        return notes
    provenance = fit.effects.provenance
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    cautions = [f"Caution: {caution}" for caution in provenance.cautions]
    return [*([label] if provenance.synthetic else []), *notes, *cautions]


def html(fit: SampledPosterior) -> str:
    """Return the summary as HTML for a notebook."""
    alarm = "".join(f"<p><strong>{_html.escape(text)}</strong></p>" for text in alarms(fit))
    lines = [*_heading(fit), *_as_r(fit), *_probabilities(fit), *_quality(fit)]
    first, *rest = [_html.escape(line.strip()) for line in lines if line]
    table = shown(fit)
    body = "".join(
        f'<tr><th scope="row">{_html.escape(str(name))}</th>{"".join(f"<td>{cell}</td>" for cell in _cells(row))}</tr>'
        for name, row in table.iterrows()
    )
    columns = ("mean", "sd", "median", "CI lower", "CI upper", "effective draws", "R-hat")
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    scale = "" if fit.recipe is None else f"{_html.escape(fit.effects.scale_label)}, "
    caption = f"Posterior ({scale}{100 * fit.level:g} % {KINDS[fit.interval]} intervals)"
    remarks = "".join(f"<li>{_html.escape(line)}</li>" for line in _remarks(fit))
    return (
        f"<div>{alarm}<p><strong>{first}</strong><br>{'<br>'.join(rest)}</p><table><caption>{caption}</caption>"
        f'<thead><tr><th scope="col">parameter</th>{header}</tr></thead><tbody>{body}</tbody></table>'
        + (f"<ul>{remarks}</ul>" if remarks else "")
        + "</div>"
    )


def methods(fit: SampledPosterior) -> str:
    """Return the sentences for a methods section."""
    recipe, (chains, draws) = fit.made, fit._shape
    scale = {
        "ZCOR": "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3) for the analysis "
        "and back-transformed for presentation. ",
        "COR": "Raw correlations were analysed. ",
        "UCOR": "Correlations corrected for small-sample bias were analysed. ",
    }.get(fit.effects.measure, "")
    if recipe.model == EXACT:
        scale = "Each correlation entered by its exact sampling distribution, with true effects on Fisher's z. "
    moderators = f" with the moderators {recipe.design.formula}" if recipe.design.formula != "1" else ""
    centred = fit.p > 1 and recipe.design.has_intercept
    names = {"mu": "the mean effect at the average of the moderators" if centred else "the mean effect"}
    names["tau"] = "the standard deviation of true effects between studies, tau"
    priors = ", ".join(f"{names.get(name, name)}: {prior}" for name, prior in recipe.priors.items())
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    run = f"with {chains} chain{'s' if chains > 1 else ''} of {draws} draws"
    if fit.sampler is not None:
        run = (
            f"by the No-U-Turn sampler as implemented in {fit.sampler.program}, {run} each after {fit.sampler.tune} "
            f"draws of tuning, a target acceptance of {fit.sampler.target_accept:g} and seed {fit.seed}"
        )
    return (
        f"{' '.join([*alarms(fit), '']) if fit.problems else ''}"
        f"{scale}A Bayesian model{moderators} was fitted to {fit.effects.counted}, which assumes that {recipe.words}. "
        f"Priors were {priors}. The posterior was sampled {run}. {_checks(fit)} Posterior medians are reported with "
        f"{kind} {100 * fit.level:g} % credible intervals."
    )


def _checks(fit: SampledPosterior) -> str:
    found = fit.diagnostics
    divergences = "" if found.divergences != found.divergences else f" and {found.divergences:.0f} divergences"
    return (
        f"R-hat was at most {number(found.rhat, 3)}, with at least {number(found.ess_bulk, 0)} effective draws for the "
        f"middle and {number(found.ess_tail, 0)} for the tails of every parameter{divergences}."
    )
