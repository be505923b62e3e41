"""The forest plot of a posterior: each study as it was found, and what all studies together make of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.sampled.gate import FAILED
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.notes import Note, check_level, merge_notes
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.cells import (
    Columns,
    Order,
    chosen,
    columns_meta,
    effect_rows,
    frame_meta,
    prediction_row,
    sort_rows,
)
from alliance_meta.plots.forests.frame import estimate, make_frame
from alliance_meta.plots.forests.groups import fitted_levels, fitted_rows
from alliance_meta.plots.sheet.axis import is_correlation, to_reader
from alliance_meta.tables.format import format_estimate, format_interval, format_level

Posterior = BayesianResults | BayesianMultilevelResults | SampledPosterior


def posterior_data(
    fit: Posterior,
    *,
    columns: Columns | None,
    order: Order,
    level: float | None,
    title: str | None,
    show_cautions: bool,
) -> pd.DataFrame:
    """Return the frame of `forest_data` for a posterior."""
    used = fit.level if level is None else level
    check_level(used)
    shown, _ = chosen(fit.effects, columns, ())
    positions, notes = sort_rows(fit, order)
    predicted = fit.predict(level=used)
    simple = list(predicted.index) == ["mean effect"]
    own = _own(fit, used)
    studies = effect_rows(fit, used, shown, {})
    if own is not None:
        for row, (median, lb, ub) in zip(studies, own, strict=True):
            row |= {"fit": median, "fit_lb": lb, "fit_ub": ub}
    plain = [studies[i] for i in positions]
    if simple:
        body = [*plain, {"kind": "blank"}, _mean(fit, predicted, used), *prediction_row(fit, used)]
    else:
        name, levels = (None, ()) if isinstance(fit, SampledPosterior) else fitted_levels(fit)
        body = plain if name is None else fitted_rows(fit, studies, positions, name, levels, grouped=False, level=used)
    return make_frame(
        body,
        {
            **frame_meta(fit, used, title, show_cautions),
            **columns_meta(fit.effects, shown, {}),
            "pooled": float(predicted["pred"].iloc[0]) if simple else None,
            "shrunken": own is not None,
            "description": _description(fit, predicted if simple else None, used, shrunken=own is not None),
            "bottom": _bottom(fit, used, shrunken=own is not None),
            "notes": [note.to_dict() for note in merge_notes(fit.notes, notes, _unweighted(fit))],
            "order": order if isinstance(order, str) else list(order),
        },
    )


def _own(fit: Posterior, level: float) -> Array | None:
    """Return what all studies make of each one, median and interval (k, 3), where the posterior has it."""
    table = fit.tidy(level=level)
    names = [f"theta[{label}]" for label in fit.effects.slab]
    if not set(names) <= set(table.index):
        return None
    return table.loc[names, ["median", "ci_lb", "ci_ub"]].to_numpy(dtype=float)


def _mean(fit: Posterior, predicted: pd.DataFrame, level: float) -> dict[str, Any]:
    row = predicted.iloc[0]
    ni = fit.effects.ni
    return {
        "kind": "summary",
        "label": f"Mean effect (posterior, {format_level(level)} credible)",
        "ni": None if ni is None or len(set(fit.effects.study_id)) < fit.k else float(ni.sum()),
        **estimate(fit.effects.measure, row["pred"], row["ci_lb"], row["ci_ub"]),
    }


def _bottom(fit: Posterior, level: float, *, shrunken: bool) -> list[str]:
    scale = forest_text.SCALES.get(fit.effects.measure, "scale of the effects")
    table = fit.tidy(level=level)
    spreads = [str(name) for name in table.index if name == "tau" or str(name).startswith("tau[")]
    words = [f"{name.replace('tau', 'τ', 1)} = {_spread(table, name)}" for name in spreads]
    interval = f"{format_level(level)} credible, {KINDS[fit.interval]}"
    lines = [f"Heterogeneity: {'; '.join(words)} ({scale}; posterior median, {interval})"] if words else []
    lines.append(f"Priors: {_priors(fit)}")
    if shrunken:
        lines.append(f"Squares: each study by itself. Circles: what all studies together make of it ({interval})")
    return [*_refusal(fit), *lines]


def _priors(fit: Posterior) -> str:
    if isinstance(fit, SampledPosterior):
        return "; ".join(f"{name} ~ {prior}" for name, prior in fit.made.priors.items())
    return str(fit.priors)


def _refusal(fit: Posterior) -> list[str]:
    """Say first what makes draws unusable."""
    if not isinstance(fit, SampledPosterior) or fit.converged:
        return []
    return [FAILED, *(problem.message for problem in fit.problems)]


def _spread(table: pd.DataFrame, name: str) -> str:
    median, lb, ub = (float(table[one].loc[name]) for one in ("median", "ci_lb", "ci_ub"))
    return format_estimate(median, lb, ub, leading_zero=True)


def _description(fit: Posterior, predicted: pd.DataFrame | None, level: float, *, shrunken: bool) -> str:
    label = "SYNTHETIC DATA, made up for teaching. " if fit.effects.provenance.synthetic else ""
    text = f"{label}Forest plot of {fit.k} effects with confidence intervals at {format_level(level)}"
    text += ", and below each the posterior of its true effect." if shrunken else "."
    if predicted is None:
        return f"{text} Bayesian model with the moderators {fit.design.formula}."
    measure, row = fit.effects.measure, predicted.iloc[0]
    zero = not is_correlation(measure)
    values = {name: to_reader(float(row[name]), measure) for name in row.index if name != "se"}
    mean = format_estimate(values["pred"], values["ci_lb"], values["ci_ub"], leading_zero=zero)
    new = format_interval(values["pi_lb"], values["pi_ub"], leading_zero=zero)
    return f"{text} Mean effect {'' if zero else 'r '}= {mean}. True effect of a new study {new}."


def _unweighted(fit: Posterior) -> list[Note]:
    if isinstance(fit, BayesianResults):
        return []
    return [Note("forest-weights", "Squares are of one size: rows of a multilevel posterior have no weights.")]
