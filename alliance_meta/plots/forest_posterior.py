"""The forest plot of a posterior: each study as it was found, and what all studies together make of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.multilevel_results import BayesianMultilevelResults
from alliance_meta.bayes.results import BayesianResults
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import check_level
from alliance_meta.plots import forest_text
from alliance_meta.plots.axis import is_correlation, to_reader
from alliance_meta.plots.forest_cells import (
    Columns,
    Order,
    chosen,
    columns_meta,
    effect_rows,
    frame_meta,
    prediction_row,
)
from alliance_meta.plots.forest_frame import estimate, make_frame
from alliance_meta.plots.forest_groups import fitted_levels, fitted_rows
from alliance_meta.plots.forest_sort import sort_rows
from alliance_meta.tables.format import format_estimate, format_interval, format_level

Posterior = BayesianResults | BayesianMultilevelResults


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
    own = fit.blup(level=used)
    studies = [
        {**row, "fit": own["median"].iloc[i], "fit_lb": own["ci_lb"].iloc[i], "fit_ub": own["ci_ub"].iloc[i]}
        for i, row in enumerate(effect_rows(fit, used, shown, {}))
    ]
    simple = fit.design.formula == "1"
    if simple:
        body = [*(studies[i] for i in positions), {"kind": "blank"}, _mean(fit, used), *prediction_row(fit, used)]
    else:
        name, levels = fitted_levels(fit)
        plain = [studies[i] for i in positions]
        body = plain if name is None else fitted_rows(fit, studies, positions, name, levels, grouped=False, level=used)
    return make_frame(
        body,
        {
            **frame_meta(fit, used, title, show_cautions),
            **columns_meta(fit.effects, shown, {}),
            "pooled": float(fit.predict(level=used)["pred"].iloc[0]) if simple else None,
            "shrunken": True,
            "description": _description(fit, used, simple=simple),
            "bottom": _bottom(fit, used),
            "notes": [note.to_dict() for note in merge_notes(fit.notes, notes, _unweighted(fit))],
            "order": order if isinstance(order, str) else list(order),
        },
    )


def _mean(fit: Posterior, level: float) -> dict[str, Any]:
    row = fit.predict(level=level).iloc[0]
    ni = fit.effects.ni
    return {
        "kind": "summary",
        "label": f"Mean effect (posterior, {format_level(level)} credible)",
        "ni": None if ni is None or len(set(fit.effects.study_id)) < fit.k else float(ni.sum()),
        **estimate(fit.effects.measure, row["pred"], row["ci_lb"], row["ci_ub"]),
    }


def _bottom(fit: Posterior, level: float) -> list[str]:
    scale = forest_text.SCALES.get(fit.effects.measure, "scale of the effects")
    table = fit.tidy(level=level)
    spreads = [str(name) for name in table.index if name == "tau" or str(name).startswith("tau[")]
    words = [f"{name.replace('tau', 'τ', 1)} = {_spread(table, name)}" for name in spreads]
    interval = f"{format_level(level)} credible, {KINDS[fit.interval]}"
    return [
        f"Heterogeneity: {'; '.join(words)} ({scale}; posterior median, {interval})",
        f"Priors: {fit.priors}",
        f"Squares: each study by itself. Circles: what all studies together make of it ({interval})",
    ]


def _spread(table: pd.DataFrame, name: str) -> str:
    median, lb, ub = (float(table[one].loc[name]) for one in ("median", "ci_lb", "ci_ub"))
    return format_estimate(median, lb, ub, leading_zero=True)


def _description(fit: Posterior, level: float, *, simple: bool) -> str:
    label = "SYNTHETIC DATA, made up for teaching. " if fit.effects.provenance.synthetic else ""
    text = (
        f"{label}Forest plot of {fit.k} effects with confidence intervals at {format_level(level)}, and below each the "
        "posterior of its true effect."
    )
    if not simple:
        return f"{text} Bayesian model with the moderators {fit.design.formula}."
    measure, row = fit.effects.measure, fit.predict(level=level).iloc[0]
    zero = not is_correlation(measure)
    values = {name: to_reader(float(row[name]), measure) for name in row.index if name != "se"}
    mean = format_estimate(values["pred"], values["ci_lb"], values["ci_ub"], leading_zero=zero)
    new = format_interval(values["pi_lb"], values["pi_ub"], leading_zero=zero)
    return f"{text} Mean effect {'' if zero else 'r '}= {mean}. True effect of a new study {new}."


def _unweighted(fit: Posterior) -> list[Note]:
    if isinstance(fit, BayesianResults):
        return []
    return [Note("forest-weights", "Squares are of one size: rows of a multilevel posterior have no weights.")]
