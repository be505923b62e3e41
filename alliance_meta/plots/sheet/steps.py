"""What held from one step to the next: where steps stand on an axis, and the stairs that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.plots.sheet.chart import Chart


def rising_numbers(at: pd.Series[Any]) -> Array | None:
    """Return what the steps are ordered by where these are rising numbers, each once."""
    if not pd.api.types.is_numeric_dtype(at) or pd.api.types.is_bool_dtype(at):
        return None
    values = at.to_numpy(dtype=float)
    return values if (np.diff(values) > 0).all() else None


def step_axis(chart: Chart, x: Array, *, whole: bool) -> None:
    """Scale the horizontal axis for steps."""
    chart.numbers("x", [x.min() - _margin(x), x.max() + _margin(x)], whole=whole)
    if len(x) == 1:
        chart.ax.set_xticks(x)


def held_steps(steps: pd.DataFrame) -> tuple[Array, dict[str, Array]]:
    """Return where each step begins, the last holding a little longer, and the numbers that hold from there on."""
    x = steps["x"].to_numpy()
    numbers = steps.select_dtypes("number")
    held = {str(name): np.append(numbers[name], numbers[name].iloc[-1]) for name in numbers}
    return np.append(x, x[-1] + _margin(x)), held


def _margin(x: Array) -> float:
    """Return how far the last step is drawn on: a little, but no longer than steps usually are."""
    usual = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    return min(max(0.04 * float(np.ptp(x)), 0.5 * usual), usual)
