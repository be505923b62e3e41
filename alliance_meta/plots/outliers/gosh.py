"""GOSH plots: mean and I2 of all subsets, and of those with one study against those without it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from alliance_meta._typing import Array
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import CI_BAND, EDGES, Axes, Chart, Drawn, charting, plain
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.measure import PREDICTION, SUMMARY
from alliance_meta.sensitivity.outliers.gosh import Gosh
from alliance_meta.tables.format import fixed, format_count

SIZE, PANEL = (6.0, 5.2), (3.2, 2.6)
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
    with charting(frame, ax, *SIZE, least=PANEL if ax is None else None) as chart:
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
