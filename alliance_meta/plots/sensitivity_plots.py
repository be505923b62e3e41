"""What a result rests on: dependence, the assumed correlation, every analysis of a battery or of a multiverse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SMALL, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, estimate_key, one_term, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_panel, draw_rows, panel_frame
from alliance_meta.plots.sheet.measure import (
    GREY,
    INK,
    SUMMARY,
    cut,
    font_of,
    line_height,
    size_in_inches,
    text_width,
    wrap,
)
from alliance_meta.sensitivity.assumed_rho import RhoGrid
from alliance_meta.sensitivity.batteries.battery import Battery
from alliance_meta.sensitivity.dependence import METHODS, DependenceComparison
from alliance_meta.sensitivity.forking.choices import CHOICES, GRADES
from alliance_meta.sensitivity.forking.multiverses import Multiverse
from alliance_meta.tables.format import brief, fixed, format_level, plural


def dependence_data(
    result: DependenceComparison, *, term: str | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the plot of several methods for dependent effects: one row per method.

    Parameters
    ----------
    result : DependenceComparison
        From `compare_dependence`.
    term : str, optional
        The coefficient to show; needed where the models have several.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (method), ``label``, ``k`` effects and ``studies`` used; ``yi ci_lb ci_ub`` on the analysis scale,
        with ``pi_lb pi_ub`` where the models have one mean effect; ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as
        correlations. Methods that could not be used are named under the plot.

    Raises
    ------
    InputError
        No `term` for models with several coefficients, or one that they do not have.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots
    >>> from alliance_meta.sensitivity import compare_dependence
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> frame = plots.dependence_data(compare_dependence(es, methods=("mean", "CHE + CR2")))
    >>> frame[["label", "k", "r"]].round(3).values.tolist()
    [['Mean of each study', 54.0, 0.449], ['CHE + CR2', 67.0, 0.448]]
    """
    if not isinstance(result, DependenceComparison):
        raise InputError(f"dependence_data needs the result of compare_dependence, not {type(result).__name__}")
    shown, _ = one_term(list(result.terms), term)
    effects, level = result.effects, result.level
    measure = effects.measure if result.is_mean else "GEN"
    rows = [with_r(measure, row) for row in _method_rows(result, shown)]
    text = format_level(level)
    what = "Mean effect" if result.is_mean else f"Coefficient of {shown}"
    values = "; ".join(f"{row['label']} {parts.effect_text(measure, row)}" for row in rows)
    return chart_frame(
        "dependence", "Dependent effects by several methods", rows, effects.provenance, notes=result.notes,
        title=title, show_cautions=show_cautions, said=f"{what} with {text} confidence intervals: {values}.",
        measure=measure, axis_label="Method",
        x_label=parts.axis_label(measure) if result.is_mean else f"{what} ({effects.scale_label} scale)",
        level=level,
        key=estimate_key(what, f"{text} CI", rows, text),
        bottom=_method_lines(result, shown),
    )  # fmt: skip


def dependence(result_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the pooled result of the same dependent effects by every method, one below the other.

    Dots in one line mean that the choice of method does not matter for the mean; how far the thick lines reach says
    what it does to the confidence interval, the thin ones to the prediction interval.

    Parameters
    ----------
    result_or_frame : DependenceComparison or DataFrame
        From `compare_dependence`, or a frame from `dependence_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots
    >>> from alliance_meta.sensitivity import compare_dependence
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> plots.dependence(compare_dependence(es, methods=("mean", "CHE + CR2"))).plot_description
    'Mean effect with 95% confidence intervals: Mean of each study .45 [.39, .50]; CHE + CR2 .45 [.39, .50].'
    """
    frame = as_frame(result_or_frame, "dependence", dependence_data, data)
    return draw_rows(frame, ax, xlim)


def _method_rows(result: DependenceComparison, term: str) -> list[dict[str, Any]]:
    table = result.tidy()
    if result.is_mean:
        names = [str(name) for name in table.index]
    else:
        table = table[table.index.get_level_values("term") == term]
        names = [str(name) for name in table.index.get_level_values("method")]
    rows = []
    for method, row in zip(names, table.rename(columns={"estimate": "yi"}).to_dict("records"), strict=True):
        if not math.isnan(row["yi"]):
            numbers = {name: float(row[name]) for name in ("k", "studies", *EFFECT)}
            rows.append({"kind": "method", "label": METHODS[method], **numbers})
    return rows


def _method_lines(result: DependenceComparison, term: str) -> list[str]:
    settings = result.settings
    many = f"{plural(result.effects.k, 'effect')} in {plural(result.clusters.n, 'study', 'studies')}"
    lines = [f"{many}; assumed correlation of sampling errors ρ = {brief(settings['rho'])}"]
    if not result.is_mean:
        lines[0] += f"; moderators: {settings['mods']}"
    lines += [f"{METHODS[name]} left out: {reason.reason}" for name, reason in result.left_out.items()]
    lacking = [METHODS[name] for name, fit in result.fits.items() if term not in fit.names]
    return [*lines, *([f"Without {term}: {', '.join(lacking)}"] if lacking else [])]


RHO_SIZE = (5.5, 3.8)
PAD = 0.06
X_LABEL = "Assumed correlation within clusters, ρ"


def rho_grid_data(
    grid: RhoGrid, *, term: str | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the plot of a pooled result over assumed correlations: one row per rho.

    Parameters
    ----------
    grid : RhoGrid
        From `sensitivity.rho_grid`.
    term : str, optional
        The coefficient to show; needed where the model has several.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (fit), ``label``, ``rho``; ``yi ci_lb ci_ub`` on the analysis scale, with ``pi_lb pi_ub`` where the
        model has one mean effect; ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations.

    Raises
    ------
    InputError
        No `term` for a model with several coefficients, or one that it does not have.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> frame = plots.rho_grid_data(sensitivity.rho_grid(es, rho=(0, 0.4, 0.8)))
    >>> frame[["rho", "r"]].round(4).values.tolist()
    [[0.0, 0.448], [0.4, 0.4487], [0.8, 0.4493]]
    """
    if not isinstance(grid, RhoGrid):
        raise InputError(f"rho_grid_data needs the result of sensitivity.rho_grid, not {type(grid).__name__}")
    shown, mean = one_term([str(name) for name in grid.tidy().index.unique("term")], term)
    one = grid.fits[0]
    measure = one.effects.measure if mean else "GEN"
    rows = [with_r(measure, row) for row in _grid_rows(grid, shown, mean)]
    level = float(one.level)
    text = format_level(level)
    what = "Mean effect" if mean else f"Coefficient of {shown}"
    values = "; ".join(f"ρ = {row['label']}: {parts.effect_text(measure, row)}" for row in rows)
    scale = parts.axis_label(measure) if mean else f"{what} ({one.effects.scale_label} scale)"
    moves = float(grid.span()["moves"][shown])
    model = getattr(one, "model_label", "")
    return chart_frame(
        "rho_grid", "Sensitivity to the assumed correlation", rows, one.effects.provenance, notes=grid.notes,
        title=title, show_cautions=show_cautions, said=f"{what} with {text} confidence interval. {values}.",
        measure=measure, axis_label=scale, x_label=X_LABEL, level=level, model_label=model,
        key=estimate_key(what, f"{text} CI", rows, text),
        bottom=[
            f"{grid.assumption[:1].upper()}{grid.assumption[1:]}{f' ({model})' if model else ''}; "
            f"the estimate moves by {fixed(moves, 2)} standard errors over the grid"
        ],
    )  # fmt: skip


def rho_grid(grid_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the pooled result for each correlation that was assumed between the effects of one study.

    A level row of dots means that the assumption does not matter. Where the dots climb or fall, or an interval
    leaves or meets 0, the report has to say for which correlations its conclusion holds.

    Parameters
    ----------
    grid_or_frame : RhoGrid or DataFrame
        From `sensitivity.rho_grid`, or a frame from `rho_grid_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> plots.rho_grid(sensitivity.rho_grid(es, rho=(0, 0.8))).plot_description
    'Mean effect with 95% confidence interval. ρ = 0: .45 [.39, .50]; ρ = 0.8: .45 [.39, .50].'
    """
    frame = as_frame(grid_or_frame, "rho_grid", rho_grid_data, data)

    with charting(frame, ax, *RHO_SIZE) as chart:
        chart.effects("y", frame[list(EFFECT)])
        lo, hi = float(frame["rho"].min()), float(frame["rho"].max())
        pad = max(PAD * (hi - lo), PAD)
        chart.numbers("x", [], (lo - pad, hi + pad))
        chart.zero("y")
        rows = frame.sort_values("rho", kind="stable")
        chart.line(rows["rho"].to_numpy(), chart.shown(rows["yi"].to_numpy()), "hair", color=SUMMARY)
        chart.estimates("y", rows, rows["rho"])
    return chart.made


def _grid_rows(grid: RhoGrid, term: str, mean: bool) -> list[dict[str, Any]]:
    found = {(one["rho"], one["term"]): one for one in grid.tidy().reset_index().to_dict(orient="records")}
    rows = []
    for value, fit in zip(grid.rho, grid.fits, strict=True):
        if (value, term) not in found:
            continue
        one = found[value, term]
        row = {"kind": "fit", "label": brief(value), "rho": value, "yi": float(one["estimate"])}
        row |= {"ci_lb": float(one["ci_lb"]), "ci_ub": float(one["ci_ub"]), "pi_lb": math.nan, "pi_ub": math.nan}
        if mean and hasattr(fit, "predict"):
            new = fit.predict().iloc[0]
            row |= {name: float(new[name]) for name in ("pi_lb", "pi_ub") if name in new}
        rows.append(row)
    return rows


WORDS = {
    "heading": "Does the answer hold?",
    "axis": "Analysis",
    "said": "Mean effect of {k} by each analysis",
    "beside": "CI of the headline",
}


def battery_data(battery: Battery, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of the plot of a battery: one row per analysis that gives a mean.

    Parameters
    ----------
    battery : Battery
        From `sensitivity.battery`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` as in the battery, in its order; ``label``, ``says`` what is otherwise than in the headline, ``k``
        effects and ``studies`` used; ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb
        r_pi_ub`` the same as correlations. Analyses that give no mean are named under the plot, with the reason.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> found = sensitivity.battery(escalc(load_dataset("crede2010")), scenarios=["che", "lowest", "highest"])
    >>> frame = plots.battery_data(found)
    >>> frame["kind"].tolist(), frame["r"].round(2).tolist()
    (['headline', 'bound', 'bound'], [0.43, 0.42, 0.46])
    """
    if not isinstance(battery, Battery):
        raise InputError(f"battery needs the result of sensitivity.battery, not {type(battery).__name__}")

    def texts(row: Mapping[str, Any]) -> dict[str, str]:
        """Return the columns of text of a row."""
        return {"kind": row["kind"], "says": row["says"]}

    reasons = ". ".join(battery.reasons())
    bottom = [battery.spread(), battery.fragile_text(), *([f"Not given: {reasons}."] if reasons else [])]
    bottom += [f"No interval by {line}" for line in battery.without_interval()]

    return panel_frame(
        battery, "battery", texts=texts, reference="headline", words=WORDS,
        bottom=bottom, title=title, show_cautions=show_cautions,
    )  # fmt: skip


def battery(battery_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the mean effect by every analysis of a battery: dot, thick its confidence and thin its prediction interval.

    The shaded band is the interval of the headline. Rows that stay in it name choices that do not matter; rows off it
    name those that a report must discuss. The last rows show one-sided choices and what not to do.

    Parameters
    ----------
    battery_or_frame : Battery or DataFrame
        From `sensitivity.battery`, or a frame from `battery_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> found = sensitivity.battery(escalc(load_dataset("crede2010")), scenarios=["che", "lowest", "highest"])
    >>> plots.battery(found).plot_description.split("; ")[0]
    'Mean effect of 97 effects by each analysis: All effects, CHE + CR2 .43 [.38, .47]'
    """
    return draw_panel(as_frame(battery_or_frame, "battery", battery_data, data), ax, xlim)


PANEL, LEAST_CURVE, CURVE = 4.6, 1.4, 2.4
WIDEST_LABEL = 2.3
PITCH = 1.25 * line_height(SMALL)
HEAD, TAIL = 0.05, 0.1
# Up to so many specifications stand apart; more run into bands.
APART = 60
# Correlations nearer to 1 have no place on an axis of Fisher's z.
INSIDE = 1.0 - 1e-9
MARKS = dict(zip(GRADES, ("mean", "dot", "ring"), strict=True))
COLOURS = dict(zip(GRADES, (INK, "#3f6c9e", GREY), strict=True))
MINUS = str.maketrans("-", "−")


def specification_curve_data(
    found: Multiverse, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a specification curve: its specifications, its options, and which takes which.

    Parameters
    ----------
    found : Multiverse
        From `sensitivity.multiverse`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: specification, in the order of the curve (``position`` 1, 2, ...), with ``yi ci_lb ci_ub``, for
        correlations as Fisher's z, and ``r r_lb r_ub``, ``p``, ``k`` and its ``grade``; headline, the same once more;
        choice and option, the rows of the grid (``row`` 0, 1, ...), with the grade of each option; taken, one for each
        option that a specification takes (``position``, ``row``). Specifications without a number are not drawn, but
        counted under the plot; choices with one option have no rows.

    Raises
    ------
    InputError
        Another result, or one of which no specification gives a number.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> effects = escalc(load_dataset("molloy2014"))
    >>> choices = {"estimator": ["REML", "DL", "EE"], "outliers": [None, "intervals"]}
    >>> found = sensitivity.multiverse(effects, choices=choices)
    >>> frame = plots.specification_curve_data(found)
    >>> frame["kind"].value_counts().to_dict()
    {'taken': 12, 'specification': 6, 'option': 5, 'choice': 2, 'headline': 1}
    """
    if not isinstance(found, Multiverse):
        raise InputError(f"specification_curve needs the result of multiverse, not {type(found).__name__}")
    given = found.given.reset_index(drop=True)
    if given.empty:
        raise InputError(
            "no specification gives a number, so that there is no curve; the column why says for what reason"
        )
    measure = "ZCOR" if found.point == "r" else "GEN"
    curve = [_row(place, row, measure) for place, row in enumerate(given.to_dict("records"), 1)]
    head = [{**one, "kind": "headline"} for one, is_head in zip(curve, given["headline"], strict=True) if is_head]
    grid = list(_grid(found))
    at = {(one["choice"], one["label"]): one["row"] for one in grid if one["kind"] == "option"}
    taken = [
        {"kind": "taken", "label": label, "choice": name, "position": place, "row": at[name, label]}
        for name in dict.fromkeys(name for name, _ in at)
        for place, label in enumerate(given[name], 1)
        if (name, label) in at
    ]
    lost = len(found.frame) - len(given)
    said = [line for line in (found.position(), found.agreement()) if line]
    gone = f"{plural(lost, 'specification')} gave no number"
    level = format_level(found.level)
    key = [["mean", "Headline"], ["dot", "Defensible"], ["ring", "To see what it does"], ["hair", f"{level} CI"]]
    return chart_frame(
        "specification_curve", "Specification curve", [*curve, *head, *grid, *taken], found.provenance,
        notes=found.notes, title=title, show_cautions=show_cautions, said=" ".join(said).translate(MINUS),
        measure=measure, axis_label=parts.axis_label(measure), x_label="", level=found.level, model_label="", key=key,
        bottom=[*(line.translate(MINUS) for line in said), *([gone] if lost else [])],
    )  # fmt: skip


def _row(place: int, row: Mapping[Any, Any], measure: str) -> dict[str, Any]:
    names = ("r", "r_lb", "r_ub") if measure == "ZCOR" else ("estimate", "ci_lb", "ci_ub")
    values = [float(row[name]) for name in names]
    if measure == "ZCOR":
        values = [one if math.isnan(one) else math.atanh(max(-INSIDE, min(INSIDE, one))) for one in values]
    numbers = dict(zip(("yi", "ci_lb", "ci_ub"), values, strict=True))
    facts = {"position": place, "p": row["pval"], "k": row["k"], "grade": row["grade"]}
    return with_r(measure, {"kind": "specification", **facts, **numbers})


def _grid(found: Multiverse) -> Iterator[dict[str, Any]]:
    """Yield the rows of the grid from above: each choice, and its options."""
    row = 0
    for name in CHOICES:
        options = found.choices[name]
        if len(options) < 2:
            continue
        yield {"kind": "choice", "label": name, "choice": name, "row": row}
        for at, one in enumerate(options, row + 1):
            yield {"kind": "option", "label": one.label, "choice": name, "grade": one.grade, "row": at}
        row += len(options) + 1


def specification_curve(multiverse_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw every analysis of the same studies, from the lowest estimate to the highest, over what was chosen in each.

    Above, each dot is the mean effect by one specification, with its interval; the large dark one is the analysis that
    is reported, and a line marks it through the grid. Below, a mark says that a specification takes an option. Where
    the marks of one option lie all to one side, the answer hangs on it; where they are spread evenly, it does not
    matter.

    Parameters
    ----------
    multiverse_or_frame : Multiverse or DataFrame
        From `sensitivity.multiverse`, or a frame from `specification_curve_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> found = sensitivity.multiverse(escalc(load_dataset("molloy2014")), choices={"estimator": ["REML", "EE"]})
    >>> plots.specification_curve(found).plot_description
    'The headline, r = 0.149 [0.080, 0.216], is above 50.0% of the specifications and below 0.0%; ...'
    """
    frame = as_frame(multiverse_or_frame, "specification_curve", specification_curve_data, data)
    grid = frame[frame["kind"].isin(("choice", "option"))]
    texts = [cut(str(label), SMALL, WIDEST_LABEL) for label in grid["label"]]
    left = max([text_width(text, SMALL, bold=True) for text in texts] + [0.6]) + 0.12
    lines = len(grid) * PITCH
    heights = [CURVE, lines] if lines else [CURVE]
    least = (left + (PANEL if ax is None else 1.0), sum(heights) + len(heights) * (HEAD + TAIL))
    if ax is not None:
        heights[0] = max(LEAST_CURVE, size_in_inches(ax)[1] - lines - len(heights) * (HEAD + TAIL))
        least = (least[0], LEAST_CURVE + lines + len(heights) * (HEAD + TAIL))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        if ax is None:
            chart.fit(0.0, 0.0, 0.0, 0.0)
        panels = chart.grid(heights, [1.0], left=left, head=HEAD, tail=TAIL, gap=0.0)
        _curve(panels[0], frame)
        if lines:
            _choices(panels[1], frame, texts)
    return chart.made


def _curve(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the estimates with their intervals, the headline on top."""
    rows, head = (frame[frame["kind"] == kind] for kind in ("specification", "headline"))
    chart.effects("y", rows[["yi", "ci_lb", "ci_ub"]])
    chart.zero("y")
    _along(chart, len(rows))
    lb, ub, y = (chart.shown(rows[name].to_numpy()) for name in ("ci_lb", "ci_ub", "yi"))
    place = rows["position"].to_numpy()
    thin = min(1.0, 250.0 / len(rows))
    chart.intervals("y", lb, ub, place, "hair", linewidth=0.3 + 0.5 * thin, alpha=0.3 + 0.5 * thin, zorder=2)
    for grade in reversed(GRADES[1:]):
        own = (rows["grade"] == grade).to_numpy()
        if own.any():
            chart.dots(
                place[own],
                y[own],
                MARKS[grade],
                s=4.0 + 26.0 * thin,
                linewidths=0.4 * thin + (grade == GRADES[-1]) * 0.2,
            )
    if len(head):
        values = [chart.shown(head[name].to_numpy()) for name in ("ci_lb", "ci_ub", "yi")]
        chart.intervals("y", values[0], values[1], head["position"], "line", zorder=6)
        chart.dots(head["position"], values[2], "mean", zorder=7)
    lines = wrap(chart.attrs["axis_label"], SMALL, CURVE)
    lettered(chart.ax.yaxis.label, "\n".join(lines), SMALL)


def _along(chart: Chart, n: int) -> None:
    chart.limits("x", 0.5, n + 0.5)
    chart.no_axis("x")
    chart.ax.spines["bottom"].set_visible(False)


def _choices(chart: Chart, frame: pd.DataFrame, texts: list[str]) -> None:
    """Draw in each option's row a mark for each specification that takes it."""
    n = int((frame["kind"] == "specification").sum())
    grid, taken = frame[frame["kind"].isin(("choice", "option"))], frame[frame["kind"] == "taken"]
    _along(chart, n)
    chart.limits("y", len(grid) - 0.5, -0.5)
    for label, row, grade, kind in zip(grid["label"], grid["row"], grid["grade"], grid["kind"], strict=True):
        if kind == "option":
            place = taken.loc[taken["row"] == row, "position"].to_numpy()
            x = _bands(place, n)
            chart.line(
                x, np.full(len(x), row), "line", color=COLOURS[grade], linewidth=0.55 * PITCH * 72, label=f"_{label}"
            )
    for place in frame.loc[frame["kind"] == "headline", "position"]:
        chart.rule("x", place, "dotted", zorder=6, linewidth=0.8)
    chart.names("y", texts, grid["row"].to_numpy(), SMALL)
    for text, label, kind in zip(texts, chart.ax.get_yticklabels(), grid["kind"], strict=True):
        if kind == "choice":
            label.set(fontproperties=font_of(text, SMALL, True))
    chart.ax.tick_params(axis="y", length=0.0, pad=4.0)
    chart.ax.spines["left"].set_visible(False)


def _bands(place: AnyArray, n: int) -> Array:
    """Return the ends of marks at the places, with gaps between; of many specifications neighbours run together."""
    if not place.size:
        return np.array([np.nan])
    if n <= APART:
        return np.column_stack([place - 0.35, place, place + 0.35, np.full(place.size, np.nan)]).ravel()
    first = np.flatnonzero(np.diff(place, prepend=-1.0) != 1.0)
    last = np.append(first[1:], place.size) - 1
    return np.column_stack([place[first] - 0.5, place[last] + 0.5, np.full(first.size, np.nan)]).ravel()
