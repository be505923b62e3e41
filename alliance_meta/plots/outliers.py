"""Plots that find outliers: Baujat, GOSH, normal quantiles and radial (Galbraith)."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import CI_BAND, EDGES, SMALL, Axes, Chart, Drawn, charting, plain
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.measure import PREDICTION, SUMMARY, is_correlation, tick_labels, to_reader
from alliance_meta.plots.sheet.points import looks, name_points
from alliance_meta.sensitivity.all_subsets import Gosh
from alliance_meta.sensitivity.outliers import NEEDED, Baujat, QQNorm, Radial
from alliance_meta.tables.format import fixed, format_count, format_level

BAUJAT_SIZE, BAUJAT_PANEL = (5.8, 4.6), (3.2, 2.6)


def baujat_data(result: Baujat, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a Baujat plot: one row per effect or study.

    Parameters
    ----------
    result : Baujat
        From `sensitivity.baujat`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: far (in the highest tenth on either axis) or near; ``label``, ``k`` effects; ``x``, the part of Q;
        ``y``, the squared standardised change of the result without it.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.baujat_data(sensitivity.baujat(fit))["kind"].value_counts().to_dict()
    {'near': 13, 'far': 3}
    """
    if not isinstance(result, Baujat):
        raise InputError(f"baujat_data needs the result of sensitivity.baujat, not {type(result).__name__}")
    drawn = np.isfinite(result.y)
    columns = zip(result.labels, result.sizes.tolist(), result.x.tolist(), result.y.tolist(), strict=True)
    rows = [
        {"kind": "far" if far else "near", "label": label, "k": k, "x": x, "y": y}
        for (label, k, x, y), far, known in zip(columns, result.far, drawn, strict=True)
        if known
    ]
    what = "study" if result.by == "study" else "effect"
    named = ", ".join([row["label"] for row in rows if row["kind"] == "far"][:5])
    far_off = f" Far off: {named}." if named else ""
    gone = [label for label, known in zip(result.labels, drawn, strict=True) if not known]
    lost = f"Not drawn: {', '.join(gone[:5])}; {NEEDED}"
    return chart_frame(
        "baujat", "Baujat plot", rows, result.provenance, notes=result.notes, title=title, show_cautions=show_cautions,
        said=f"Part of the heterogeneity and influence on the result, {format_count(len(rows))} points, "
        f"each {'a study' if what == 'study' else 'an effect'}.{far_off}",
        axis_label="Squared change of the result without it", x_label="Part of the heterogeneity statistic Q",
        key=[["mean", f"In the highest tenth on either axis ({what})"], ["dot", "Others"]],
        bottom=[lost] if gone else [],
    )  # fmt: skip


def baujat(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw which effects or studies make the heterogeneity, and which of these move the result.

    Points on the right lie far from the rest; points at the top move the result. Those in the highest tenth on either
    axis are named where there is room.

    Parameters
    ----------
    result_or_frame : Baujat or DataFrame
        From `sensitivity.baujat`, or a frame from `baujat_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.baujat(sensitivity.baujat(fit)).plot_description
    "Part of the heterogeneity and influence on the result, 16 points, ... Far off: Jerant et al. 2011, Moran et ..."
    """
    frame = as_frame(result_or_frame, "baujat", baujat_data, data)
    with charting(frame, ax, *BAUJAT_SIZE, panel=BAUJAT_PANEL) as chart:
        for which in ("x", "y"):
            values = frame[which]
            chart.numbers(which, [0.0, 1.06 * float(values.max()) if len(values) else 1.0])
            chart.limits(which, -0.03 * max(float(values.max()), 1e-12) if len(values) else 0.0, _end(values))
        for kind, mark in (("near", "dot"), ("far", "mean")):
            part = frame[frame["kind"] == kind]
            chart.dots(part["x"], part["y"], mark, **looks(len(frame)))
        far = frame[frame["kind"] == "far"]
        name_points(chart, far, (far["x"] / _end(frame["x"])) ** 2 + (far["y"] / _end(frame["y"])) ** 2, frame)
    return chart.made


def _end(values: pd.Series) -> float:
    """Return where an axis ends."""
    return 1.08 * max(float(values.max()), 1e-12) if len(values) else 1.0


GOSH_SIZE, GOSH_PANEL = (6.0, 5.2), (3.2, 2.6)
# Bins of the mean that are drawn, at most, and the share of subsets on each side that may lie beyond them.
MOST_BINS, TAIL = 60, 5e-4
# Heights and distance of the margins as shares of the panel.
MARGIN, GAP = 0.22, 0.03
PALE_TO_DARK = LinearSegmentedColormap.from_list("subsets", [CI_BAND, PREDICTION, SUMMARY])


def gosh_data(
    result: Gosh, *, study: str | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a GOSH plot: how many subsets have which mean and I2.

    Parameters
    ----------
    result : Gosh
        From `sensitivity.gosh`.
    study : str, optional
        The effect or study whose presence is shown; by default the one that makes the largest share of the variance
        between subsets.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: cell (``count`` subsets with a mean from ``lb`` to ``ub`` and I2 from ``I2_lb`` to ``I2_ub``), mean
        (``count`` subsets by their mean, those of them with the study ``inside``; their ``share`` of all subsets, and
        ``share_inside``), I2 (the same by I2, without the study).

    Raises
    ------
    InputError
        Another result, or an unknown `study`.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.gosh_data(sensitivity.gosh(fit))
    >>> int(frame.loc[frame["kind"] == "mean", "count"].sum())
    65477
    """
    if not isinstance(result, Gosh):
        raise InputError(f"gosh_data needs the result of sensitivity.gosh, not {type(result).__name__}")
    table, labels = result.tidy(), list(result.labels)
    if study is not None and study not in labels:
        raise InputError(f"study={study!r} is none of them{did_you_mean(study, labels)}")
    shares = np.nan_to_num(table["share"].to_numpy(dtype=float))
    at = int(np.argmax(shares)) if study is None else labels.index(study)
    rows, beyond = _bins(result, at)
    named = [label for label, split in zip(labels, result.splits, strict=True) if split]
    said = [
        f"Subsets fall into clusters by {', '.join(named)}" if named else "No study splits the subsets",
        f"{labels[at]} makes {fixed(100.0 * shares[at], 0)}% of the variance of the mean between subsets",
        *([f"{format_count(beyond)} subsets lie beyond the axis"] if beyond else []),
    ]
    return chart_frame(
        "gosh", "GOSH plot", rows, result.provenance, notes=result.notes, title=title, show_cautions=show_cautions,
        said=f"Mean effect and I² ({result.method}) of {result.drawn} of {format_count(len(labels))}. "
        f"{'. '.join(said)}.",
        measure=result.measure, axis_label="I² in percent", x_label=f"{parts.axis_label(result.measure)}, mean effect",
        key=[
            ["bar", f"{result.drawn[0].upper()}{result.drawn[1:]} ({result.method}); darker cells hold more"],
            ["line", f"With {labels[at]}"], ["dashed", f"Without {labels[at]}"],
        ],
        bottom=said,
    )  # fmt: skip


def _bins(result: Gosh, at: int) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of the frame, and how many subsets lie beyond the bins that it has."""
    cloud = result.cloud
    whole = cloud.counts.sum(axis=1)
    passed = np.cumsum(whole) / whole.sum()
    first, last = int((passed <= TAIL).sum()), int((passed < 1.0 - TAIL).sum()) + 1
    step = -(-(last - first) // MOST_BINS)
    last = min(first + step * -(-(last - first) // step), len(whole))
    starts = np.arange(first, last, step)
    edges = cloud.edges[np.append(starts, last)]
    cells = np.add.reduceat(cloud.counts[first:last], starts - first)
    inside = np.add.reduceat(cloud.members[at, first:last], starts - first)
    I2 = np.linspace(0.0, 100.0, cells.shape[1] + 1)
    count, N = cells.sum(axis=1), result.subsets
    rows = [
        {"kind": "cell", "lb": edges[i], "ub": edges[i + 1], "I2_lb": I2[j], "I2_ub": I2[j + 1], "count": cells[i, j]}
        for i, j in zip(*np.nonzero(cells), strict=True)
    ]
    rows += [
        {"kind": "mean", "lb": edges[i], "ub": edges[i + 1], "count": count[i], "inside": inside[i],
         "share": count[i] / N, "share_inside": inside[i] / N}
        for i in range(len(count))
    ]  # fmt: skip
    rows += [
        {"kind": "I2", "I2_lb": I2[j], "I2_ub": I2[j + 1], "count": number, "share": number / N}
        for j, number in enumerate(cells.sum(axis=0))
    ]
    return rows, N - int(count.sum())


def gosh(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw mean and heterogeneity of all subsets, with histograms of both at the margins.

    One cloud: studies are of one kind. Two clouds: one or a few studies make the result, and the histogram above says
    whether it is the study shown, by subsets with and without it. The darker a cell, the more subsets (on a scale of
    logarithms).

    Parameters
    ----------
    result_or_frame : Gosh or DataFrame
        From `sensitivity.gosh`, or a frame from `gosh_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.gosh(sensitivity.gosh(fit)).plot_description
    "Mean effect and I² (REML) of all 65,535 subsets of 16. No study splits the subsets. O'Cleirigh et al. 2007 ..."
    """
    frame = as_frame(result_or_frame, "gosh", gosh_data, data)
    cells, means, shares = (frame[frame["kind"] == kind] for kind in ("cell", "mean", "I2"))
    with charting(frame, ax, *GOSH_SIZE, panel=GOSH_PANEL) as chart:
        edges = chart.shown(_edges(means, "lb", "ub"))
        limits = (float(edges[0]), float(edges[-1]))
        chart.effects("x", edges, limits)
        chart.numbers("y", [], (0.0, 100.0))
        grid = np.full((len(shares), len(means)), np.nan)
        i = np.searchsorted(means["lb"].to_numpy(), cells["lb"].to_numpy())
        j = np.searchsorted(shares["I2_lb"].to_numpy(), cells["I2_lb"].to_numpy())
        grid[j, i] = cells["count"]
        norm = LogNorm(1.0, max(float(cells["count"].max()), 2.0))
        chart.ax.pcolormesh(edges, _edges(shares, "I2_lb", "I2_ub"), np.ma.masked_invalid(grid), cmap=PALE_TO_DARK,
                            norm=norm, zorder=1)  # fmt: skip
        _above(_margin(chart, (0.0, 1.0 + GAP, 1.0, MARGIN)), means, edges, limits)
        _beside(_margin(chart, (1.0 + GAP, 0.0, 0.7 * MARGIN, 1.0)), shares)
    return chart.made


def _edges(rows: pd.DataFrame, lower: str, upper: str) -> Array:
    return np.append(rows[lower].to_numpy(), rows[upper].to_numpy()[-1])


def _margin(chart: Chart, bounds: tuple[float, float, float, float]) -> Chart:
    """Return a chart on an Axes of its own beside the panel."""
    one = copy.copy(chart)
    one.ax, one.figure = chart.ax.inset_axes(bounds), None
    plain(one.ax)
    return one


def _above(chart: Chart, means: pd.DataFrame, edges: Array, limits: tuple[float, float]) -> None:
    """Draw the histogram of means, and those of the subsets with and without the study."""
    chart.effects("x", edges, limits)
    top = max(float(means["share"].max()), 1e-12)
    chart.limits("y", 0.0, 1.05 * top)
    chart.bars(edges[:-1], edges[1:], means["share"].to_numpy(), "bar")
    x = np.repeat(edges, 2)[1:-1]
    for share, mark in ((means["share_inside"], "line"), (means["share"] - means["share_inside"], "dashed")):
        chart.line(x, np.repeat(share.to_numpy(), 2), mark)
    chart.ax.tick_params(labelbottom=False)
    chart.no_axis("y")


def _beside(chart: Chart, shares: pd.DataFrame) -> None:
    """Draw the histogram of I2."""
    chart.numbers("y", [], (0.0, 100.0))
    chart.limits("x", 0.0, 1.05 * max(float(shares["share"].max()), 1e-12))
    height = (shares["I2_ub"] - shares["I2_lb"]).to_numpy()
    chart.ax.barh(shares["I2_lb"].to_numpy(), shares["share"].to_numpy(), height, align="edge", color=CI_BAND,
                  edgecolor=EDGES["bar"], linewidth=0.5, zorder=0.7)  # fmt: skip
    chart.ax.tick_params(labelleft=False)
    chart.no_axis("x")


QUANTILE_SIZE, QUANTILE_PANEL = (5.4, 5.0), (3.0, 2.8)
NAMES = {"rstandard": "Standardised residual", "rstudent": "Residual from the fit without it, standardised"}


def qqnorm_data(result: QQNorm, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a normal quantile plot: one row per residual, the lowest first.

    Parameters
    ----------
    result : QQNorm
        From `sensitivity.qqnorm`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: inside or outside (of the envelope); ``label``, ``x`` (normal quantile), ``y`` (residual), and the
        envelope at this rank, ``lower`` to ``upper``.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.qqnorm_data(sensitivity.qqnorm(fit, seed=1))
    >>> frame["kind"].value_counts().to_dict()
    {'inside': 16}
    """
    if not isinstance(result, QQNorm):
        raise InputError(f"qqnorm_data needs the result of sensitivity.qqnorm, not {type(result).__name__}")
    rows = [
        {"kind": "outside" if row.outside else "inside", "label": row.Index, "x": row.x, "y": row.y,
         "lower": row.lower, "upper": row.upper}
        for row in result.tidy().itertuples()
    ]  # fmt: skip
    text, n, lost = format_level(result.level), len(rows), int(result.outside.sum())
    said = (
        f"{format_count(lost)} of {format_count(n)} outside the envelope; as many or more in "
        f"{fixed(100.0 * result.outside_p, 0)}% of data sets from the model"
    )
    return chart_frame(
        "qqnorm", "Normal quantile plot", rows, result.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=f"Residuals by {result.by} against normal quantiles. {said}.",
        axis_label=NAMES[result.type], x_label="Normal quantile", level=result.level,
        key=[
            ["dot", f"{'Studies' if result.by == 'study' else 'Effects'}"],
            *([["mean", "Outside the envelope"]] if lost else []),
            ["pi", f"{text} of {format_count(result.iterations)} data sets from the model, at each rank"],
            ["hair", "Residuals as normal as the quantiles"],
        ],
        bottom=[said],
    )  # fmt: skip


def qqnorm(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw residuals against normal quantiles, with the band that data from the model fill.

    Points along the diagonal are as a normal distribution has them. Those outside the band are named where there is
    room.

    Parameters
    ----------
    result_or_frame : QQNorm or DataFrame
        From `sensitivity.qqnorm`, or a frame from `qqnorm_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.qqnorm(sensitivity.qqnorm(fit, seed=1)).plot_description
    'Residuals by effect against normal quantiles. 0 of 16 outside the envelope; as many or more in 100% of ...'
    """
    frame = as_frame(result_or_frame, "qqnorm", qqnorm_data, data)
    with charting(frame, ax, *QUANTILE_SIZE, panel=QUANTILE_PANEL) as chart:
        chart.numbers("x", frame["x"])
        chart.numbers("y", frame[["y", "lower", "upper"]])
        chart.area(frame["x"], frame["lower"], frame["upper"], "pi")
        ends = np.array([frame["x"].min(), frame["x"].max()])
        chart.line(ends, ends, "hair", zorder=2)
        for kind, mark in (("inside", "dot"), ("outside", "mean")):
            part = frame[frame["kind"] == kind]
            chart.dots(part["x"], part["y"], mark, **looks(len(frame)))
        out = frame[frame["kind"] == "outside"]
        name_points(chart, out, np.maximum(out["lower"] - out["y"], out["y"] - out["upper"]), frame)
    return chart.made


RADIAL_SIZE, RADIAL_PANEL = (5.8, 4.8), (3.2, 2.8)
STEPS, MOST_RAYS = (0.05, 0.1, 0.2, 0.25, 0.5), 7
ROOM = 1.06


def radial_data(result: Radial, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a radial plot: points, the line of the mean with its band, and rays of round effects.

    Parameters
    ----------
    result : Radial
        From `sensitivity.radial`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: inside or outside (of the band), with ``label``, ``k`` effects, ``yi`` (and ``r``), ``x`` and ``y``;
        line (its two ends, ``y`` with the band ``lb`` to ``ub``); ray (its end; the label says which effect it is).

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.radial_data(sensitivity.radial(fit))
    >>> frame.loc[frame["kind"] == "ray", "label"].tolist()
    ['−.1', '0', '.1', '.2', '.3', '.4']
    """
    if not isinstance(result, Radial):
        raise InputError(f"radial_data needs the result of sensitivity.radial, not {type(result).__name__}")
    rows = [
        {"kind": "outside" if row.pop("outside") else "inside", **row, **_both(row["yi"], result.measure)}
        for row in result.tidy().reset_index().to_dict("records")
    ]
    end, half = ROOM * float(result.x.max()), critical_value(result.level, None)
    for x in (0.0, end):
        y = result.estimate * x
        rows.append({"kind": "line", "x": x, "y": y, "lb": y - half, "ub": y + half})
    rows += _rays(result, end)
    text, lost, n = format_level(result.level), int(result.outside.sum()), len(result.labels)
    own = parts.estimate(result.measure, result.estimate, result.ci_lb, result.ci_ub)
    mean = f"Mean effect {parts.effect_text(result.measure, own)}"
    said = f"{mean}; {format_count(lost)} of {format_count(n)} outside the band"
    what = "studies" if result.by == "study" else "effects"
    return chart_frame(
        "radial", "Radial plot", rows, result.provenance, notes=result.notes, title=title, show_cautions=show_cautions,
        said=f"Radial plot of {format_count(n)} {what}. {said}.",
        axis_label="Effect in standard deviations", x_label="Precision (1 / standard deviation under the model)",
        level=result.level, measure=result.measure,
        key=[
            ["dot", what.capitalize()], *([["mean", "Outside the band"]] if lost else []),
            ["line", "Mean effect"], ["pi", f"{text} band of {what}"],
            ["zero", f"Rays: {'r' if is_correlation(result.measure) else 'effects'} of the size at their end"],
        ],
        bottom=[said],
    )  # fmt: skip


def _both(yi: float, measure: str) -> dict[str, float]:
    return {"yi": yi, **({"r": float(to_reader(yi, measure))} if is_correlation(measure) else {})}


def _rays(result: Radial, end: float) -> list[dict[str, Any]]:
    """Return the ends of rays of round effects that span those of the points."""
    effects = result.y / result.x
    low, high = (float(to_reader(one, result.measure)) for one in (effects.min(), effects.max()))
    scale = 1.0 if is_correlation(result.measure) else 10.0 ** math.ceil(math.log10(max(high - low, 1e-300)))
    step = next((s * scale for s in STEPS if (high - low) / (s * scale) < MOST_RAYS), scale)
    values = step * np.arange(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    if is_correlation(result.measure):
        values = values[np.abs(values) < 0.995]
    labels = tick_labels(values, leading_zero=not is_correlation(result.measure))
    slopes = np.arctanh(values) if result.measure == "ZCOR" else values
    return [
        {"kind": "ray", "label": label, "x": end, "y": float(slope * end), **_both(float(slope), result.measure)}
        for label, slope in zip(labels, slopes, strict=True)
    ]


def radial(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw effects in units of their standard deviation against their precision.

    The slope of the line is the mean effect. Points outside the band do not fit the model, and are named where there
    is room. A ray from the origin holds effects of one size.

    Parameters
    ----------
    result_or_frame : Radial or DataFrame
        From `sensitivity.radial`, or a frame from `radial_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.radial(sensitivity.radial(fit)).plot_description
    'Radial plot of 16 effects. Mean effect .15 [.08, .22]; 0 of 16 outside the band.'
    """
    frame = as_frame(result_or_frame, "radial", radial_data, data)
    line, rays = (frame[frame["kind"] == kind] for kind in ("line", "ray"))
    points = frame[frame["kind"].isin(("inside", "outside"))]
    end = float(line["x"].max())
    with charting(frame, ax, *RADIAL_SIZE, panel=RADIAL_PANEL) as chart:
        chart.numbers("x", [], (0.0, end))
        chart.numbers("y", np.concatenate([points["y"], line["lb"], line["ub"], rays["y"]]))
        chart.area(line["x"], line["lb"], line["ub"], "pi")
        for label, x, y in zip(rays["label"], rays["x"], rays["y"], strict=True):
            chart.line([0.0, x], [0.0, y], "zero", zorder=1)
            base = chart.moved(0.05, 0.0, chart.ax.transData)
            chart.words(x, y, label, base, va="center", fontsize=SMALL)
        chart.line(line["x"], line["y"], "line", zorder=3)
        for kind, mark in (("inside", "dot"), ("outside", "mean")):
            part = points[points["kind"] == kind]
            chart.dots(part["x"], part["y"], mark, **looks(len(points)))
        out = points[points["kind"] == "outside"]
        name_points(chart, out, (out["y"] - out["x"] * float(line["y"].iloc[-1]) / end).abs(), points)
    return chart.made
