"""Averages over models in words: summary, HTML and the methods sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alliance_meta.bayes.exact.text import heading, intervals_line, parameter_table, printed, remarks, scale_words
from alliance_meta.results.wording import number

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.averaged.averages import Averaged
    from alliance_meta.bayes.averaged.results import AveragedResults

SHOWN = 8


def summary(fit: AveragedResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    lines = [*heading(_opening(fit)), "", *_evidence(fit), "", *_models(fit), "", *averages(fit)]
    if fit.effects.measure == "ZCOR":
        row = fit.predict(scale="r").iloc[0]
        lines += ["", f"Mean effect as r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}]"]
        lines += [f"True correlation in a new study: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]"]
    return printed(lines, remarks(fit.effects, fit.notes))


def averages(fit: Averaged) -> list[str]:
    """Return the parameters over all models, and over those with each."""
    return [
        "Averaged over all models (0 where a model has no such parameter)",
        *_parameters(fit.tidy()),
        "",
        "Averaged over the models with the parameter",
        *_parameters(fit.tidy(conditional=True)),
    ]


def _parameters(frame: pd.DataFrame) -> list[str]:
    cells = {
        str(name): [f"{float(row.iloc[0]):.4f}", *(number(float(cell)) for cell in row.iloc[1:])]
        for name, row in frame.iterrows()
    }
    return parameter_table(cells, list(frame.columns), [7, *[8] * (len(frame.columns) - 1)])


def bayes_factor(log: float) -> str:
    """Return a Bayes factor in print, also where it overflows."""
    if np.isnan(log):
        return "n/a"
    if abs(log) < np.log(99999.5):
        return f"{np.exp(log):.4g}"
    exponent = int(np.floor(log / np.log(10.0)))
    return f"{np.exp(log - exponent * np.log(10.0)):.2f}e{exponent:+d}"


def _opening(fit: AveragedResults) -> list[str]:
    tau = " or ".join(map(str, fit.tau_priors))
    coefficients = "; ".join(
        f"{name} ~ {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return [
        f"Bayesian average over {_size(fit):,} models (k = {fit.k}; exact, error at most {fit.error_bound:.0e})",
        fit.effects.heading,
        *([f"In every model: {' + '.join(fit.always)}"] if fit.always else []),
        f"Priors: {coefficients}; tau = 0 or tau ~ {tau}",
        *(["mu: the mean effect at the average of the moderators"] if len(fit.names) > 1 else []),
        intervals_line(fit),
    ]


def _size(fit: AveragedResults) -> int:
    return int((fit.space.log_prior > -float("inf")).sum())


def _evidence(fit: AveragedResults) -> list[str]:
    cells = {
        str(name): [f"{row.prior:.4f}", f"{row.posterior:.4f}", bayes_factor(float(row.log_bf10))]
        for name, row in fit.inclusion.iterrows()
    }
    return parameter_table(cells, ["prior", "posterior", "BF10"], [9, 10, 11])


def _models(fit: AveragedResults) -> list[str]:
    table = fit.models
    lines = [f"{'posterior':>9}  {'model':32} tau"]
    for _, row in table.head(SHOWN).iterrows():
        formula = row.formula if row.effect else f"0 + {row.formula}" if row.formula != "1" else "0"
        short = formula if len(formula) <= 32 else f"{formula[:31]}…"
        lines.append(f"{row.posterior:>9.4f}  {short:32} {row.tau_prior}")
    return [*lines, *([f"... and {len(table) - SHOWN:,} more"] if len(table) > SHOWN else [])]


def methods(fit: AveragedResults) -> str:
    """Return the sentences for a methods section."""
    about = [f"every set of the moderators {', '.join(fit.space.terms)}"] if fit.space.terms else []
    about += ["a mean effect of 0 or not"] if "effect" in fit.space.optional else []
    about += ["equal or random effects"]
    about += ["the priors of tau"] if len(fit.tau_priors) > 1 else []
    coefficients = ", ".join(
        f"{name}: {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return (
        f"{scale_words(fit)}Bayesian model averaging over {', '.join(about)} ({_size(fit):,} models) was "
        f"applied to {fit.effects.counted}. "
        f"Priors were {coefficients}; tau, in random-effects models: {' or '.join(map(str, fit.tau_priors))}. Marginal "
        f"likelihoods were computed exactly (relative error at most {fit.error_bound:.0e}). Inclusion Bayes factors "
        "compare the models with a component to those without it; estimates are posterior medians averaged over all "
        f"models, with equal-tailed {100 * fit.level:g} % credible intervals."
    )
