"""Averages over models in words: their document and the methods sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.exact.output import CENTRED, intervals_line
from alliance_meta.results import wording
from alliance_meta.tables.document import Document, Kind, Table, cut, table_of
from alliance_meta.tables.format import brief, factor, fixed, fixed_interval, level_text

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.averaged.averages import Averaged
    from alliance_meta.bayes.averaged.results import AveragedResults

SHOWN = 8


def document(fit: AveragedResults) -> Document:
    """Return what the average says."""
    tau = " or ".join(map(str, fit.tau_priors))
    coefficients = "; ".join(
        f"{name} ~ {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return wording.document(
        fit,
        f"Bayesian average over {_size(fit):,} models (k = {fit.k}; exact, error at most {brief(fit.error_bound, 1)})",
        [
            fit.effects.heading,
            *([f"In every model: {' + '.join(fit.always)}"] if fit.always else []),
            f"Priors: {coefficients}; tau = 0 or tau ~ {tau}",
            *([f"mu: {CENTRED}"] if len(fit.names) > 1 else []),
            intervals_line(fit),
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


def inclusion_table(frame: pd.DataFrame, **first: Kind) -> Table:
    """Return how probable each part of a model is, before and after the data."""
    kinds = {**first, "prior": 4, "posterior": 4, "log_bf10": factor}
    return table_of(frame, kinds, heads={"log_bf10": "BF10"})


def averages(fit: Averaged) -> list[Table]:
    """Return the parameters averaged over all models, and over those that have them."""
    kinds = dict.fromkeys(("p_incl", "mean", "sd", "median", "ci_lb", "ci_ub"), 4)
    return [
        table_of(fit.tidy(), kinds, "Averaged over all models (0 where a model has no such parameter)"),
        table_of(fit.tidy(conditional=True), kinds, "Averaged over the models with the parameter"),
    ]


def _size(fit: AveragedResults) -> int:
    return int((fit.space.log_prior > -float("inf")).sum())


def _models(fit: AveragedResults) -> Table:
    rows = []
    for _, row in fit.models.iterrows():
        formula = row.formula if row.effect else f"0 + {row.formula}" if row.formula != "1" else "0"
        rows.append((formula, str(row.tau_prior), fixed(row.posterior)))
    return cut(Table(("model", "tau", "posterior"), tuple(rows), words=(1,)), SHOWN, "... and {left:,} more")


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
        f"{wording.scale_sentence(fit)}Bayesian model averaging over {', '.join(about)} ({_size(fit):,} models) was "
        f"applied to {fit.effects.counted}. "
        f"Priors were {coefficients}; tau, in random-effects models: {' or '.join(map(str, fit.tau_priors))}. Marginal "
        f"likelihoods were computed exactly (relative error at most {brief(fit.error_bound, 1)}). Inclusion Bayes "
        "factors "
        "compare the models with a component to those without it; estimates are posterior medians averaged over all "
        f"models, with equal-tailed {level_text(fit.level)} credible intervals."
    )
