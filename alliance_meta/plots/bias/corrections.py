"""What methods of bias put on a funnel plot: regression lines with their limits, and filled effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.small_study.adjusted import TrimFill
from alliance_meta.bias.small_study.asymmetry import RegressionTest
from alliance_meta.bias.small_study.precision import Peese, Pet, PetPeese
from alliance_meta.core.distributions import two_sided_p
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable
from alliance_meta.plots.bias.points import By, Points
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Chart
from alliance_meta.plots.sheet.chart_frame import with_r

# Of a standard error, what stands beside the slope.
SHAPES: dict[str, Callable[[Array], Array]] = {"sei": lambda se: se, "vi": np.square}
MARKS = ("dashed", "dashdot")
OTHER = "the result is not of the effects of this fit"


def beside(points: Points, by: By, filled: Any) -> Points:
    """Return the points that trim and fill started from: means of studies where effects depend."""
    if not isinstance(filled, TrimFill):
        raise InputError(f"filled needs the result of bias.trimfill, not {type(filled).__name__}")
    if points.given.dependent and by == "effect":
        raise InputError("trim and fill adds means of studies; draw them beside such: by='study'")
    before, source = filled.before.effects, points.given
    if before.k != source.studies or not (source.dependent or np.allclose(before.yi, source.yi)):
        raise InputError(f"filled: {OTHER}")
    return replace(points, effects=before) if source.dependent else points


def filled_rows(filled: TrimFill | None) -> list[dict[str, Any]]:
    """Return the effects that were added, and the mean with them."""
    if filled is None:
        return []
    measure, rows = filled.measure, []
    for label, row in filled.filled.iterrows():
        se = float(np.sqrt(row["vi"]))
        p = float(two_sided_p(np.array(row["yi"] / se), None))
        rows.append(with_r(measure, {"kind": "filled", "label": str(label), "yi": float(row["yi"]), "se": se, "p": p}))
    name = f"Trim and fill ({filled.estimator}, {filled.k0} added)"
    own = {"kind": "adjusted", "label": name, "yi": filled.estimate, "ci_lb": filled.ci_lb, "ci_ub": filled.ci_ub}
    return [*rows, with_r(measure, own)]


def line_rows(points: Points, lines: Sequence[Any], depths: Array) -> list[dict[str, Any]]:
    """Return each regression at every standard error, and its limit at 0."""
    if isinstance(lines, str) or not isinstance(lines, Sequence):
        lines = [lines]
    measure = points.effects.measure
    rows: list[dict[str, Any]] = []
    for name, limit, slope, predictor in (found for one in lines for found in _read(one, points.given.k)):
        if isinstance(limit[0], NotApplicable) or isinstance(slope, NotApplicable):
            reason = getattr(slope, "reason", "") or getattr(limit[0], "reason", "")
            raise InputError(f"{name} has no line to draw: {reason}")
        start, lb, ub = map(float, limit)
        y = start + float(slope) * SHAPES[predictor](depths)
        ends = {"kind": "limit", "label": name, "se": 0.0, "yi": start, "ci_lb": lb, "ci_ub": ub}
        rows += [with_r(measure, ends)]
        rows += [with_r(measure, {"kind": "line", "label": name, "se": se, "yi": value})
                 for se, value in zip(depths.tolist(), y.tolist(), strict=True)]  # fmt: skip
    if len({row["label"] for row in rows}) > len(MARKS):
        raise InputError(f"lines: a funnel has room for {len(MARKS)}; give fewer")
    return rows


def _read(one: Any, k: int) -> Iterator[tuple[str, tuple[Any, Any, Any], Any, str]]:
    """Yield name, limit with its interval, slope and predictor of each line of a result."""
    if not isinstance(one, RegressionTest | PetPeese):
        raise InputError(f"lines needs results of bias.regtest or bias.pet_peese, not {type(one).__name__}")
    if one.k != k:
        raise InputError(f"lines: {OTHER}")
    if one.predictor not in SHAPES:
        raise InputError(f"lines: a regression on {one.predictor} is no line over standard errors; use predictor='sei'")
    if isinstance(one, RegressionTest):
        yield "Regression test", (one.limit_estimate, *one.limit_ci), one.slope, one.predictor
        return
    parts_of: tuple[tuple[Pet | Peese, str], ...] = ((one.pet, "sei"), (one.peese, "vi"))
    for part, predictor in parts_of:
        yield part.called, (part.estimate, part.ci_lb, part.ci_ub), part.slope, predictor


def more_key(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the key of what was added."""
    limits = [row for row in rows if row["kind"] == "limit"]
    measure = "ZCOR" if any("r" in row for row in rows) else "GEN"
    key = [[mark, f"{row['label']}, limit {parts.effect_text(measure, row)}"]
           for mark, row in zip(MARKS, limits, strict=False)]  # fmt: skip
    if any(row["kind"] == "filled" for row in rows):
        key.append(["ring", "Filled"])
    return key + [["pale", f"{row['label']} {parts.effect_text(measure, row)}"]
                  for row in rows if row["kind"] == "adjusted"]  # fmt: skip


def draw_more(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the lines, their limits at 0, and the mean with filled effects."""
    for value in frame.loc[frame["kind"] == "adjusted", "yi"]:
        chart.rule("x", float(chart.shown(value)), "pale", zorder=3)
    limits = frame[frame["kind"] == "limit"]
    for mark, name in zip(MARKS, limits["label"], strict=False):
        line = frame[(frame["kind"] == "line") & (frame["label"] == name)]
        chart.line(chart.shown(line["yi"].to_numpy()), line["se"], mark, zorder=4)
    found = {name: chart.shown(limits[name].to_numpy()) for name in ("yi", "ci_lb", "ci_ub")}
    # Where two intervals lie upon each other, the paler one is the second.
    for i, stroke in zip(range(len(limits)), ("thick", "pale"), strict=False):
        own = slice(i, i + 1)
        chart.intervals("x", found["ci_lb"][own], found["ci_ub"][own], limits["se"][own], stroke, zorder=4)
    chart.dots(found["yi"], limits["se"], "hollow", zorder=6, clip_on=False)
