"""Averages over models in words: summary, HTML and the methods sentences."""

from __future__ import annotations

import html as _html
import textwrap
from typing import TYPE_CHECKING

from alliance_meta.bayes.averaged.bias_text import bayes_factor, parameter_table
from alliance_meta.results.wording import WIDTH, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.averaged.results import AveragedResults

SHOWN = 8


def summary(fit: AveragedResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*_heading(fit), "", *_evidence(fit), "", *_models(fit), ""]
    lines += ["Averaged over all models (0 where a model has no such parameter)", *parameter_table(fit.tidy()), ""]
    lines += ["Averaged over the models with the parameter", *parameter_table(fit.tidy(conditional=True))]
    if fit.effects.measure == "ZCOR":
        row = fit.predict(scale="r").iloc[0]
        lines += ["", f"Mean effect as r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}]"]
        lines += [f"True correlation in a new study: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]"]
    lines += remarks(fit.notes)
    return "\n".join(
        [*lines, *(line for one in fit.effects.provenance.cautions for line in wrapped(f"Caution: {one}"))]
    )


def _heading(fit: AveragedResults) -> list[str]:
    n = int((fit.space.log_prior > -float("inf")).sum())
    tau = " or ".join(map(str, fit.tau_priors))
    coefficients = "; ".join(
        f"{name} ~ {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    lines = [
        f"Bayesian average over {n:,} models (k = {fit.k}; exact, error at most {fit.error_bound:.0e})",
        fit.effects.heading,
        *([f"In every model: {' + '.join(fit.always)}"] if fit.always else []),
        f"Priors: {coefficients}; tau = 0 or tau ~ {tau}",
        *(["mu: the mean effect at the average of the moderators"] if len(fit.names) > 1 else []),
        f"Intervals: equal-tailed, {100 * fit.level:g} % of the posterior",
    ]
    if fit.effects.provenance.synthetic:
        lines.insert(0, "SYNTHETIC DATA: made up for teaching; no finding about therapy.")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


def _evidence(fit: AveragedResults) -> list[str]:
    width = min(max(13, *(len(str(name)) for name in fit.inclusion.index)), WIDTH - 34)
    lines = [f"{'':{width}} {'prior':>9} {'posterior':>10} {'BF10':>11}"]
    for name, row in fit.inclusion.iterrows():
        short = str(name) if len(str(name)) <= width else f"{str(name)[: width - 1]}…"
        lines.append(f"{short:{width}} {row.prior:>9.4f} {row.posterior:>10.4f} {bayes_factor(row.log_bf10):>11}")
    return lines


def _models(fit: AveragedResults) -> list[str]:
    table = fit.models
    lines = [f"{'posterior':>9}  {'model':32} tau"]
    for _, row in table.head(SHOWN).iterrows():
        formula = row.formula if row.effect else f"0 + {row.formula}" if row.formula != "1" else "0"
        short = formula if len(formula) <= 32 else f"{formula[:31]}…"
        lines.append(f"{row.posterior:>9.4f}  {short:32} {row.tau_prior}")
    return [*lines, *([f"... and {len(table) - SHOWN:,} more"] if len(table) > SHOWN else [])]


def html(fit: AveragedResults) -> str:
    """Return the summary as HTML for a notebook."""
    return f"<pre>{_html.escape(summary(fit))}</pre>"


def methods(fit: AveragedResults) -> str:
    """Return the sentences for a methods section."""
    scale = (
        "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3). "
        if fit.effects.measure == "ZCOR"
        else ""
    )
    n = int((fit.space.log_prior > -float("inf")).sum())
    about = [f"every set of the moderators {', '.join(fit.space.terms)}"] if fit.space.terms else []
    about += ["a mean effect of 0 or not"] if "effect" in fit.space.optional else []
    about += ["equal or random effects"]
    about += ["the priors of tau"] if len(fit.tau_priors) > 1 else []
    coefficients = ", ".join(
        f"{name}: {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return (
        f"{scale}Bayesian model averaging over {', '.join(about)} ({n:,} models) was applied to {fit.effects.counted}. "
        f"Priors were {coefficients}; tau, in random-effects models: {' or '.join(map(str, fit.tau_priors))}. Marginal "
        f"likelihoods were computed exactly (relative error at most {fit.error_bound:.0e}). Inclusion Bayes factors "
        "compare the models with a component to those without it; estimates are posterior medians averaged over all "
        f"models, with equal-tailed {100 * fit.level:g} % credible intervals."
    )
