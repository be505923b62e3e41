"""The pooled result without each study in turn."""

from __future__ import annotations

import math
from typing import Any, Literal

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.options import check_option
from alliance_meta.plots.caterpillar_plot import draw_ranked
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, counted, one_term, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, reference
from alliance_meta.sensitivity.left_out import ClustersLeftOut
from alliance_meta.tables.format import format_count, format_level

WIDTH, HEIGHT = 7.0, 4.5
# Beyond so many clusters the rows are drawn without their names.
MOST_ROWS = 45
Order = Literal["estimate", "label"]


def leave_out_data(
    result: ClustersLeftOut,
    *,
    term: str | None = None,
    order: Order = "estimate",
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of the plot of a result without each cluster: one row per cluster left out.

    Parameters
    ----------
    result : ClustersLeftOut
        From `sensitivity.leave_out_clusters`.
    term : str, optional
        The coefficient to show; needed where the model has several.
    order : {"estimate", "label"}
        Smallest estimate first, or clusters by name.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: without (one cluster left out), all (nothing left out, the last row); ``label``, ``k`` (effects
        used); ``yi ci_lb ci_ub`` on the analysis scale; ``r r_lb r_ub``, the same as correlations. Clusters
        without which the model cannot be fitted have no estimate.

    Raises
    ------
    InputError
        Another kind of result, no `term` for a model with several coefficients, or one that it does not have.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> frame = plots.leave_out_data(sensitivity.leave_out_clusters(MultilevelModel(es).fit()))
    >>> frame["r"].iloc[[0, -2, -1]].round(3).tolist()
    [0.431, 0.452, 0.446]
    """
    if not isinstance(result, ClustersLeftOut):
        raise InputError(f"leave_out_data needs the result of leave_out_clusters, not {type(result).__name__}")
    check_option("order", order, Order)
    fit, (shown, mean) = result.fit, one_term(result.fit.names, term)
    measure = fit.effects.measure if mean else "GEN"
    found = result.tidy(term=shown)
    rows = [
        {
            "kind": "without",
            "label": row["label"],
            "k": fit.k - row["k"],
            "yi": float(row["estimate"]),
            "ci_lb": float(row["ci_lb"]),
            "ci_ub": float(row["ci_ub"]),
        }
        for row in found.to_dict("records")
    ]
    if order == "estimate":
        rows.sort(key=lambda row: (math.isnan(row["yi"]), row["yi"]))
    slot = fit.names.index(shown)
    whole = {"yi": float(fit.beta[slot]), "ci_lb": float(fit.ci_lb[slot]), "ci_ub": float(fit.ci_ub[slot])}
    rows.append({"kind": "all", "label": "Nothing left out", "k": fit.k, **whole})
    rows = [with_r(measure, row) for row in rows]
    text, what = format_level(fit.level), "Mean effect" if mean else f"Coefficient of {shown}"
    lines = _lines(rows, measure)
    dense = len(rows) - 1 > MOST_ROWS
    return chart_frame(
        "leave_out", f"Without each {result.cluster}", rows, fit.effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=f"{what} without each of {len(rows) - 1} clusters. {lines}.",
        measure=measure, axis_label="" if dense else "Without",
        x_label=parts.axis_label(measure) if mean else f"{what} ({fit.effects.scale_label} scale)",
        level=fit.level, model_label=fit.model_label,
        key=[
            ["hair" if dense else "thick", f"{what} without one cluster, {text} CI"],
            ["pi", f"{text} CI of all {counted(fit.k)}"],
        ],
        bottom=[lines, f"{format_count(len(rows) - 1)} clusters ({result.cluster}); {fit.model_label}"],
        reference=[whole["yi"], whole["ci_lb"], whole["ci_ub"]],
    )  # fmt: skip


def leave_out(result_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the pooled result without each study in turn, sorted, against that of all studies.

    Rows that all lie within the band say that no single study makes the result. A row far off names the study on
    which it rests. Up to 45 studies are named; of more, the two at the ends are named below.

    Parameters
    ----------
    result_or_frame : ClustersLeftOut or DataFrame
        From `sensitivity.leave_out_clusters`, or a frame from `leave_out_data`.
    ax, xlim, **data
        As in `caterpillar`, and so is what is returned.

    Raises
    ------
    InputError
        No `term` for a model with several coefficients, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> plots.leave_out(sensitivity.leave_out_clusters(MultilevelModel(es).fit())).plot_description
    'Mean effect without each of 54 clusters. All effects .45 [.39, .50]; lowest .43 [.38, .48] without ...'
    """
    frame = as_frame(result_or_frame, "leave_out", leave_out_data, data)
    if len(frame) - 1 <= MOST_ROWS:
        return draw_rows(frame, ax, xlim)
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        chart.effects("x", frame[list(EFFECT)], xlim, zero=False)
        reference(chart)
        rows = frame[(frame["kind"] == "without") & frame["yi"].notna()]
        draw_ranked(chart, rows, 0.4)
    return chart.made


def _lines(rows: list[dict[str, Any]], measure: str) -> str:
    """Say where the estimate lies with all clusters, and which two move it furthest."""
    left = sorted((row for row in rows[:-1] if not math.isnan(row["yi"])), key=lambda row: row["yi"])
    text = f"All effects {parts.effect_text(measure, rows[-1])}"
    if not left:
        return text
    ends = {"lowest": left[0], "highest": left[-1]}
    return text + "".join(
        f"; {name} {parts.effect_text(measure, row)} without {row['label']}" for name, row in ends.items()
    )
