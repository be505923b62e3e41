"""The profile likelihood of every variance and correlation of a multilevel model, a panel each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.mixed.profile import ProfileCurve
from alliance_meta.errors import InputError
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.forests.pages import TICK
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import (
    DASHED,
    DOTTED,
    POINT,
    SIZE,
    SMALL,
    Chart,
    Sheet,
    across,
    left_margin,
    make_sheet,
    render,
    upright,
)
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_meta, described, make_chart
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import INK, SUMMARY
from alliance_meta.plots.sheet.text import line_height, text_width, wrap
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.sensitivity.profiles import ProfileLikelihood
from alliance_meta.sensitivity.profiles import profile as likelihoods
from alliance_meta.tables.format import format_interval, format_level, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH, PANEL_HEIGHT = 2.4, 1.5
NARROWEST = 1.8
GAP_ACROSS = 0.3
MOST_ACROSS = 3
TITLE_LINES = 2
# Room above a panel for its title and interval, and below for its ticks.
HEAD = (TITLE_LINES + 1.3) * line_height(SMALL)
TAIL = TICK + 2.1 * line_height(SIZE)
# The curve is shown down to so many times the depth of the cut-off.
DEPTH = 2.0
SHAPES = {
    "edge": "falls from the edge of its range",
    "flat": "is flat on one side: not identified",
    "higher": "is higher elsewhere than at the estimate",
    "several": "has more than one peak",
}


def profiles_data(
    result: MultilevelResults | ProfileLikelihood,
    *,
    level: float | None = None,
    points: int = 41,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the profile log-likelihood of every variance and correlation of a multilevel model.

    Parameters
    ----------
    result : MultilevelResults or ProfileLikelihood
        A fitted model, or what `sensitivity.profile` made of one.
    level, points
        For a fitted model: passed to `sensitivity.profile`.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind``: curve (points around the interval), maximum (the estimate), lower and upper (the limits of
        ``fit.confint()``, where they exist); ``label`` (the component), ``value`` and its ``loglik``.
        ``.attrs["cutoff"]`` is the log-likelihood that the values of an interval reach, ``.attrs["peak"]`` the fit's.

    Raises
    ------
    InputError
        Another kind of result.

    Warns
    -----
    NotIdentifiedWarning, ConvergenceWarning
        As `sensitivity.profile` does.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, plots
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> frame = plots.profiles_data(fit, points=11)
    >>> frame[frame["kind"] == "maximum"].set_index("label")["value"].round(4).to_dict()
    {'sigma2[study_id]': 0.023, 'sigma2[study_id/es_id]': 0.0329}
    """
    if isinstance(result, MultilevelResults):
        result = likelihoods(result, level=level, points=points)
    elif not isinstance(result, ProfileLikelihood):
        raise InputError(f"profiles_data needs a fitted MultilevelModel or its profile, not {type(result).__name__}")
    elif level is not None:
        raise InputError("level: give this to sensitivity.profile, which made the curves")
    fit, rows = result.fit, []
    for label, curve in result.curves.items():
        rows += [{"kind": "curve", "label": label, "value": v, "loglik": y} for v, y in _points(curve)]
        rows.append({"kind": "maximum", "label": label, "value": curve.estimate, "loglik": curve.peak})
        ends = {"lower": (curve.lb, curve.edges[0]), "upper": (curve.ub, curve.edges[1])}
        rows += [
            {"kind": kind, "label": label, "value": value, "loglik": curve.cutoff}
            for kind, (value, edge) in ends.items()
            if math.isfinite(value) and value != edge
        ]
    name = "Restricted log-likelihood" if fit.method == "REML" else "Log-likelihood"
    one = next(iter(result.curves.values()))
    meta = chart_meta(
        "profiles",
        "Profiles of variances",
        fit.effects.provenance,
        title=title,
        show_cautions=show_cautions,
        notes=result.notes,
    )
    text = format_level(result.level)
    lines = {label: _words(curve) for label, curve in result.curves.items()}
    odd = [f"{label} {SHAPES[c.verdict]}" for label, c in result.curves.items() if c.verdict in SHAPES]
    words = "; ".join(f"{label} {line}" for label, line in lines.items())
    about = f"{name} over each component with {text} profile-likelihood intervals. {words}."
    return make_chart(
        rows,
        meta
        | {
            "description": described(" ".join([about, *(f"{one}." for one in odd)]), meta["synthetic"]),
            "axis_label": f"{name}, less its maximum",
            "level": result.level,
            "model_label": fit.model_label,
            "key": [
                ["line", "Profile"],
                ["dot", "Estimate"],
                ["dashed", f"Cut-off of the {text} interval"],
                ["dotted", "Its limits"],
            ],
            "bottom": [f"{fit.model_label}, k = {fit.k}, {fit.effects.scale_label} scale", *odd],
            "peak": one.peak,
            "cutoff": one.cutoff,
            "intervals": lines,
        },
    )


def profiles(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> NotebookFigure | Axes:
    """Draw how likely each value of every variance and correlation makes the data, one panel each.

    All panels have one height scale, so that the eye compares them: a narrow peak is a variance that the data tell
    well, a flat curve one that they hardly tell. Where the curve stays above the dashed line to the left edge, the
    variance may as well be 0.

    Parameters
    ----------
    fit_or_frame : MultilevelResults, ProfileLikelihood or DataFrame
        A fitted model, what `sensitivity.profile` made of one, or a frame from `profiles_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure with room for up to three panels side by side.
    **data
        Passed to `profiles_data` unless a frame is given: ``level``, ``points``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        Another kind of result, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, plots
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> plots.profiles(fit, points=11).plot_description
    'Restricted log-likelihood over each component with 95% profile-likelihood intervals. sigma2[study_id] 0.0230 ...'
    """
    frame = as_frame(fit_or_frame, "profiles", profiles_data, data)
    labels, deep = list(dict.fromkeys(frame["label"])), _depth(frame)
    yaxis = value_axis(np.array([-deep, 0.0]), measure="GEN", length=PANEL_HEIGHT, room=upright)
    left = left_margin(yaxis)
    most = min(len(labels), 2 if len(labels) == 4 else MOST_ACROSS)

    def grid(width: float) -> _Grid:
        fitting = int((width - left - 2 * MARGIN + GAP_ACROSS) / (NARROWEST + GAP_ACROSS))
        return _Grid(labels, max(1, min(most, fitting)), left)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        least = grid(width).height
        return make_sheet(frame.attrs, width=width, height=height, left=left, least=least), None, None

    def draw(chart: Chart, frame: pd.DataFrame) -> None:
        grid(chart.sheet.width).draw(chart, frame, yaxis, deep)

    natural = left + most * PANEL_WIDTH + (most - 1) * GAP_ACROSS + 2 * MARGIN
    return render(frame, ax, plan, draw, width=natural, height=0.0)


def _points(curve: ProfileCurve) -> list[tuple[float, float]]:
    return list(zip(curve.values.tolist(), curve.loglik.tolist(), strict=True))


def _words(curve: ProfileCurve) -> str:
    digits = 2 if curve.edges[1] == 1.0 else _digits(curve.ub if math.isfinite(curve.ub) else curve.estimate)
    value = format_number(curve.estimate, digits)
    if not math.isfinite(curve.ub):
        return f"{value} [{format_number(curve.lb, digits)}, open]"
    return f"{value} {format_interval(curve.lb, curve.ub, digits, leading_zero=True)}"


def _digits(value: float) -> int:
    return 2 if value >= 1 else 4 if value == 0 else min(8, max(4, 1 - math.floor(math.log10(abs(value)))))


def _depth(frame: pd.DataFrame) -> float:
    return DEPTH * (float(frame.attrs["peak"]) - float(frame.attrs["cutoff"]))


@dataclass(frozen=True)
class _Grid:
    """Panels side by side and below each other, each with its title above and its ticks below."""

    labels: list[str]
    across: int
    left: float

    @property
    def rows(self) -> int:
        return math.ceil(len(self.labels) / self.across)

    @property
    def height(self) -> float:
        """Least height of the panels with what is above each and between them; ticks below the last come on top."""
        return self.rows * (HEAD + PANEL_HEIGHT + TAIL) - TAIL

    def draw(self, chart: Chart, frame: pd.DataFrame, yaxis: Axis, deep: float) -> None:
        room = chart.right - self.left - (self.across - 1) * GAP_ACROSS
        width = room / self.across
        pitch = (chart.bottom - chart.top + TAIL) / self.rows
        for at, label in enumerate(self.labels):
            row, column = divmod(at, self.across)
            x0 = self.left + column * (width + GAP_ACROSS)
            top = chart.top + row * pitch
            sheet = replace(chart.sheet, panel=(x0, x0 + width, top + HEAD, top + pitch - TAIL))
            _panel(chart, sheet, frame[frame["label"] == label], yaxis, deep, first=column == 0)


def _panel(chart: Chart, sheet: Sheet, frame: pd.DataFrame, yaxis: Axis, deep: float, *, first: bool) -> None:
    attrs: Mapping[Any, Any] = chart.attrs
    peak = float(attrs["peak"])
    label = str(frame["label"].iloc[0])
    height = frame["loglik"].to_numpy() - peak
    shown = frame[height >= -deep]
    left, right, top, _ = sheet.panel
    xaxis = value_axis(shown["value"], measure="GEN", length=right - left, room=across, zero=False)
    own = Chart(chart.ax, attrs, sheet, xaxis, yaxis if first else replace(yaxis, ticks=()))
    curve = shown.sort_values("value", kind="stable")
    y = float(own.y(float(attrs["cutoff"]) - peak))
    own.rule(own.left, own.right, y, y, colour=SUMMARY, points=1.2, style=DASHED, zorder=2)
    for row in frame[frame["kind"].isin(("lower", "upper"))].to_dict("records"):
        x = float(own.x(row["value"]))
        own.rule(x, x, y, own.bottom, colour=INK, points=0.9, style=DOTTED, zorder=2)
    own.curve(own.x(curve["value"].to_numpy()), own.y(curve["loglik"].to_numpy() - peak), points=1.6)
    best = frame[frame["kind"] == "maximum"].iloc[0]
    own.circles([float(own.x(best["value"]))], [float(own.y(best["loglik"] - peak))], [0.05], fill=POINT, zorder=5)
    own.scales()
    lines = [*_fitted(label, right - left), str(attrs["intervals"][label])]
    for j, line in enumerate(reversed(lines)):
        own.text(left, top - (j + 0.9) * line_height(SMALL), line, size=SMALL)


def _fitted(label: str, width: float) -> list[str]:
    """Return a component's name on at most two lines, cut where it is longer."""
    lines = list(wrap(label, SMALL, width))
    lines = [*lines[: TITLE_LINES - 1], " ".join(lines[TITLE_LINES - 1 :])] if len(lines) > TITLE_LINES else lines
    return [line if text_width(line, SMALL) <= width else _cut(line, width) for line in lines]


def _cut(line: str, width: float) -> str:
    while line and text_width(f"{line}…", SMALL) > width:
        line = line[:-1]
    return f"{line}…"
