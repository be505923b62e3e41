"""How selection may have worked: a model's weight function, and the mean up to the worst case."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bias.given import given
from alliance_meta.bias.selection_models.result import SIDES, SelectionResult
from alliance_meta.bias.worst import WorstCase
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.measure import INK
from alliance_meta.tables.format import brief, format_count, format_estimate, format_level, format_number

SIZE = (6.2, 4.6)
PANEL = (3.6, 2.6)
TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
NAMED = (0.05, 0.1, 0.25, 0.5, 0.95)
# Weights are drawn up to so many times the largest estimate.
MOST = 2.0


def selection_weights_data(
    result: SelectionResult, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the plot of a weight function: the chance to be seen at every p-value.

    Parameters
    ----------
    result : SelectionResult
        From `bias.selmodel`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: weight (at ``p``: ``weight`` relative to the smallest p, with ``ci_lb ci_ub``; a step function has
        both ends of every interval), effect (the ``p`` of each effect, by which the model selects).

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.selection_weights_data(bias.selmodel(fit))
    >>> frame["kind"].value_counts().to_dict()
    {'effect': 16, 'weight': 4}
    """
    if not isinstance(result, SelectionResult):
        raise InputError(f"selection_weights needs the result of bias.selmodel, not {type(result).__name__}")
    effects, table = result.fit.effects, result.weights
    names = ("p", "weight", "ci_lb", "ci_ub")
    rows: list[dict[str, Any]] = [
        {"kind": "weight", **dict(zip(names, map(float, row), strict=True))} for row in table[list(names)].to_numpy()
    ]
    p = p_values(effects.yi / np.sqrt(effects.vi), result.alternative)
    rows += [{"kind": "effect", "label": label, "p": one} for label, one in zip(effects.slab, p.tolist(), strict=True)]
    listed = "; ".join(_listed(result, table))
    known = table[["ci_lb", "ci_ub"]].notna().all(axis=None)
    key = [["line", "Weight"], *([["ci", f"{format_level(result.level)} CI"]] if known else []), ["tick", "Effects"]]
    counts = [f"Effects in the intervals: {', '.join(map(format_count, result.counts))}"] if result.counts else []
    return chart_frame(
        "selection_weights", "Selection", rows, effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=f"Chance to be seen by p-value, {counted(effects.k)}. {listed}.",
        axis_label="Relative chance to be seen", x_label=f"{SIDES[result.alternative][:1].upper()}"
        f"{SIDES[result.alternative][1:]}, square-root scale",
        level=result.level, model_label=result.called, key=key, bottom=[listed, *counts],
    )  # fmt: skip


def p_values(z: Array, alternative: str) -> Array:
    """Return the p-values by which a model selects."""
    if alternative == "two.sided":
        return np.asarray(2.0 * special.ndtr(-np.abs(z)))
    return np.asarray(special.ndtr(-z if alternative == "greater" else z))


def _listed(result: SelectionResult, table: pd.DataFrame) -> list[str]:
    """Write the weight of each interval of a step function, of other functions that at a few p-values."""
    if result.type == "stepfun":
        ends = [table.iloc[i : i + 2] for i in range(0, len(table), 2)]
        return [f"p {_p(one['p'].iloc[0])} to {_p(one['p'].iloc[1])}: {_weight(one.iloc[0])}" for one in ends]
    shown = [table.iloc[int(np.abs(table["p"] - p).argmin())] for p in NAMED]
    return [f"{'' if i else 'p = '}{_p(row['p'])}: {_weight(row)}" for i, row in enumerate(shown)]


def _p(value: float) -> str:
    return brief(value).removeprefix("0") if 0 < value < 1 else brief(value)


def _weight(row: Any) -> str:
    if math.isnan(row["ci_lb"]) or row["ci_lb"] == row["ci_ub"]:
        return format_number(row["weight"])
    return format_estimate(row["weight"], row["ci_lb"], row["ci_ub"], leading_zero=True)


def selection_weights(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how likely results were to be seen by their p-value, beside the most significant ones.

    A weight of .2 says that of results with such a p-value one in five became known. A wide band says that the data
    hardly tell: an interval with few effects in it has one. The ticks below are the effects.

    Parameters
    ----------
    result_or_frame : SelectionResult or DataFrame
        From `bias.selmodel`, or a frame from `selection_weights_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.selection_weights(bias.selmodel(fit)).plot_description
    'Chance to be seen by p-value, 16 effects. p 0 to .025: 1.00; p .025 to 1: ...'
    """
    frame = as_frame(result_or_frame, "selection_weights", selection_weights_data, data)
    with charting(frame, ax, *SIZE, panel=PANEL) as chart:
        line = frame[frame["kind"] == "weight"]
        top = max(1.05, float(line["weight"].max()) * 1.05)
        highest = float(np.nanmax(line["ci_ub"], initial=0.0))
        most = max(top, min(highest * 1.05, MOST * top))
        chart.numbers("y", [], (0.0, most))
        if highest > most:
            chart.notes.append("The interval goes on beyond the axis")
        _p_axis(chart)
        chart.area(line["p"], line["ci_lb"], line["ci_ub"], "ci")
        chart.line(line["p"], line["weight"], "line")
        effects = frame.loc[frame["kind"] == "effect", "p"]
        chart.ax.plot(
            effects, np.zeros(len(effects)), linestyle="none", marker="|", markersize=9.0, markeredgewidth=0.7,
            color=INK, alpha=float(np.clip(8.0 / math.sqrt(len(effects)), 0.15, 0.9)), zorder=6, clip_on=False,
        )  # fmt: skip
    return chart.made


def _p_axis(chart: Chart) -> None:
    """Scale the axis of p by square roots, which leaves room for the small ones."""
    chart.ax.set_xscale("function", functions=(lambda p: np.sqrt(np.clip(p, 0.0, None)), np.square))
    chart.limits("x", 0.0, 1.0)
    chart.names("x", [_p(one) for one in TICKS], TICKS)


RATIO_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# The infinite ratio stands so many times as far as the largest finite one.
BEYOND = 2.2


def worst_case_data(
    fit: Any, *, result: WorstCase | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the worst-case curve: the mean for every preference for affirmative results.

    Parameters
    ----------
    fit : a fitted model without moderators
    result : WorstCase, optional
        Of `bias.worst_case`; by default what it makes of the fit.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: ratio (the mean if affirmative results are published ``ratio`` times as likely as others), worst (the
        infinite ratio: the mean of the others), svalue (the ratio at which the mean or its limit, ``label``, reaches
        the value asked for). ``yi ci_lb ci_ub`` on the analysis scale, ``r r_lb r_ub`` the same as correlations.

    Raises
    ------
    InputError
        What `bias.worst_case` refuses, or the result of other effects.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.worst_case_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame["kind"].value_counts().to_dict()
    {'ratio': 14, 'worst': 1, 'svalue': 1}
    """
    from alliance_meta.bias.worst import worst_case as of

    found = of(fit) if result is None else result
    source = given(fit, "worst_case")
    if not isinstance(found, WorstCase):
        raise InputError(f"worst_case needs the result of bias.worst_case, not {type(found).__name__}")
    if found.affirmative + found.nonaffirmative != source.k:
        raise InputError("worst_case: the result is not of the effects of this fit")
    effects, measure = source.effects, source.effects.measure
    names = {"estimate": "yi", "ci_lb": "ci_lb", "ci_ub": "ci_ub"}
    rows = [
        with_r(measure, {"kind": "worst" if math.isinf(row["ratio"]) else "ratio", "ratio": row["ratio"],
                         **{new: float(row[old]) for old, new in names.items()}})
        for row in found.curve.to_dict("records")
    ]  # fmt: skip
    target = with_r(measure, {"yi": found.q})
    marks = {"mean": found.svalue, "limit": found.svalue_limit}
    rows += [
        {"kind": "svalue", "label": name, "ratio": ratio, **target} for name, ratio in marks.items() if ratio == ratio
    ]
    said = [_worst(found, rows), *_svalues(found, target.get("r", found.q))]
    return chart_frame(
        "worst_case", "Worst case", rows, effects.provenance, notes=merge_notes(fit.notes, found.notes), title=title,
        show_cautions=show_cautions, said=" ".join(said), measure=measure, axis_label=parts.axis_label(measure),
        x_label="How many times as likely affirmative results are published", level=found.level,
        model_label=fit.model_label,
        key=_key(rows, f"{format_level(found.level)} CI, robust"), bottom=said, q=found.q,
    )  # fmt: skip


def _key(rows: list[dict[str, Any]], interval: str) -> list[list[str]]:
    """Return the key of what is there to draw."""
    known = {row["kind"] for row in rows if row["kind"] != "worst" or not math.isnan(row["yi"])}
    bounded = any(not math.isnan(row.get("ci_lb", math.nan)) for row in rows)
    return [["line", "Mean free of this preference"], *([["ci", interval]] if bounded else []),
            *([["mean", "Worst case"]] if "worst" in known else []),
            *([["dotted", "Ratio that is enough"]] if "svalue" in known else [])]  # fmt: skip


def _worst(found: WorstCase, rows: list[dict[str, Any]]) -> str:
    """Say what the affirmative results are, and what is left without them."""
    which = "positive" if found.side == "right" else "negative"
    tails = f"{which} and significant" if found.tails == 1 else "significant"
    text = f"Affirmative ({tails}): {found.affirmative} of {counted(found.affirmative + found.nonaffirmative)}"
    worst = next(row for row in rows if row["kind"] == "worst")
    if math.isnan(worst["yi"]):
        return f"{text}; none other is left for a worst case."
    return f"{text}; mean of the others {parts.effect_text(found.measure, worst)}."


def _svalues(found: WorstCase, target: float) -> list[str]:
    """Say which ratios are enough, or why there is none."""
    said = []
    for name, ratio in (("mean", found.svalue), ("limit of its interval", found.svalue_limit)):
        text = f"none ({ratio.reason})" if isinstance(ratio, NotApplicable) else brief(ratio, 3)
        said.append(f"Ratio that brings the {name} to {brief(float(target), 3)}: {text}.")
    return said


def worst_case(fit_or_frame: Any, *, ax: Axes | None = None, ylim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the mean effect for every strength of preference for significant results in the favoured direction.

    At the left nothing was preferred. To the right, the results that were not affirmative count ever more, as if more
    of them lay in drawers; the dot is the mean of those alone. A curve that stays away from 0 up to the dot says that
    no such preference can explain the finding; a dotted line shows how much would.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        Without moderators, or a frame from `worst_case_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.
    ylim : (float, float), optional
        Limits of the effects as their labels read.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.worst_case(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()).plot_description
    'Affirmative (positive and significant): 9 of 16 effects; ...'
    """
    frame = as_frame(fit_or_frame, "worst_case", worst_case_data, data)
    with charting(frame, ax, *SIZE, panel=PANEL) as chart:
        chart.effects("y", frame[["yi", "ci_lb", "ci_ub"]].to_numpy(), ylim)
        curve = frame[frame["kind"] == "ratio"]
        last = float(curve["ratio"].max()) * BEYOND
        _ratios(chart, last)
        chart.rule("y", float(chart.shown(frame.attrs["q"])), "hair")
        found = {name: chart.shown(curve[name].to_numpy()) for name in ("yi", "ci_lb", "ci_ub")}
        chart.area(curve["ratio"], found["ci_lb"], found["ci_ub"], "ci")
        chart.line(curve["ratio"], found["yi"], "line")
        for ratio in frame.loc[frame["kind"] == "svalue", "ratio"]:
            chart.rule("x", float(ratio), "dotted", zorder=3)
        worst = frame[frame["kind"] == "worst"]
        end = {name: chart.shown(worst[name].to_numpy()) for name in ("yi", "ci_lb", "ci_ub")}
        chart.intervals("y", end["ci_lb"], end["ci_ub"], [last], "thick")
        chart.dots([last], end["yi"], "mean")
    return chart.made


def _ratios(chart: Chart, last: float) -> None:
    """Scale the axis of ratios, by their logarithms, with the infinite one at the end."""
    chart.ax.set_xscale("log")
    chart.ax.minorticks_off()
    chart.limits("x", 0.9, last * 1.3)
    shown = [one for one in RATIO_TICKS if one < last / 1.6]
    chart.names("x", [*(f"{one}" for one in shown), "∞"], [*shown, last])
