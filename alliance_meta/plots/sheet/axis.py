"""The axis of effects, and of any number: positions on the analysis scale, labels in the reader's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.text import text_width
from alliance_meta.tables.format import format_number

MOST_R = 0.95
WIDEST_R = 0.999
STEPS_R = (0.1, 0.2, 0.25, 0.5)
FINER_STEPS_R = (0.05, 0.02, 0.01)
FEWEST_TICKS = 3
GAP = 0.07
PAD = 0.03
LEAST_SPAN = 0.1

SHOWN_KINDS = ("study", "cluster", "effect", "subgroup", "fitted", "summary", "prediction")
BOUNDS = ("yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub", "fit_lb", "fit_ub")


@dataclass(frozen=True, slots=True)
class Axis:
    """Limits and ticks; `lo`, `hi` and tick positions are on the analysis scale."""

    measure: str
    lo: float
    hi: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Return where `value` lies between the limits, 0 to 1 inside."""
        return (value - self.lo) / (self.hi - self.lo)


def is_correlation(measure: str) -> bool:
    """Return whether the reader's scale is r."""
    return measure in ("ZCOR", "COR", "UCOR")


def to_reader(value: float, measure: str) -> float:
    """Return the value on the reader's scale: r for Fisher z, else the value itself."""
    return math.tanh(value) if measure == "ZCOR" else value


def to_analysis(value: float, measure: str) -> float:
    """Return the value on the analysis scale."""
    return math.atanh(value) if measure == "ZCOR" else value


def make_axis(frame: pd.DataFrame, *, width: float, size: float, xlim: tuple[float, float] | None = None) -> Axis:
    """Return the axis for all rows of `frame`, `width` inches wide with labels of `size` points.

    `xlim` is on the reader's scale; by default the limits are the frame's own, or hold every interval, as far as
    |r| = .95.
    """
    measure = str(frame.attrs["measure"])
    shown = frame.loc[frame["kind"].isin(SHOWN_KINDS), list(BOUNDS)].to_numpy(dtype=float)
    lim = frame.attrs.get("xlim") if xlim is None else xlim
    return value_axis(shown, measure=measure, length=width, room=lambda label: text_width(label, size) + GAP, lim=lim)


def value_axis(
    values: Any,
    *,
    measure: str,
    length: float,
    room: Callable[[str], float],
    lim: tuple[float, float] | None = None,
    zero: bool = True,
    whole: bool = False,
    floor: float = -math.inf,
) -> Axis:
    """Return the axis for an array of `values` on the analysis scale, `length` inches long.

    `room` is the length that a label takes with the gap beside it. With `zero` the limits hold 0; with `whole`
    ticks are whole numbers; `floor` is as low as the axis goes.
    """
    lo, hi = _limits(values, measure, zero) if lim is None else _asked_limits(lim, measure)
    lo = max(lo, floor)
    return Axis(measure, lo, hi, _ticks(lo, hi, measure, length, room, whole))


def band(smallest_effect: float, measure: str) -> float:
    """Return the half-width of the band of effects too small to matter, on the analysis scale."""
    most = 1.0 if is_correlation(measure) else math.inf
    if not 0 < smallest_effect < most:
        inside = " and below 1" if is_correlation(measure) else ""
        raise InputError(f"smallest_effect={smallest_effect!r} must be a number above 0{inside}")
    return to_analysis(smallest_effect, measure)


def _limits(values: Any, measure: str, zero: bool) -> tuple[float, float]:
    shown = np.asarray(values, dtype=float).ravel()
    shown = shown[np.isfinite(shown)]
    if zero or not shown.size:
        shown = np.append(shown, 0.0)
    most = _most(measure)
    lo, hi = max(float(shown.min()), -most), min(float(shown.max()), most)
    pad = PAD * (max(hi - lo, LEAST_SPAN) if zero else hi - lo)
    if hi - lo < LEAST_SPAN and is_correlation(measure):
        lo, hi = (lo + hi - LEAST_SPAN) / 2, (lo + hi + LEAST_SPAN) / 2
    if hi == lo:
        return lo - 1, hi + 1
    return max(lo - pad, -most), min(hi + pad, most)


def _most(measure: str) -> float:
    return {"ZCOR": math.atanh(MOST_R), "COR": 1.0, "UCOR": 1.0}.get(measure, math.inf)


def _asked_limits(xlim: tuple[float, float], measure: str) -> tuple[float, float]:
    lo, hi = (float(limit) for limit in xlim)
    bound = 1.0 if is_correlation(measure) else math.inf
    if not (lo < hi and -bound <= lo and hi <= bound and math.isfinite(hi - lo)):
        inside = " between -1 and 1" if is_correlation(measure) else ""
        raise InputError(f"xlim={xlim!r} must be two rising limits{inside}, on the scale of the axis labels")
    if measure == "ZCOR":
        lo, hi = max(lo, -WIDEST_R), min(hi, WIDEST_R)
    return to_analysis(lo, measure), to_analysis(hi, measure)


def _ticks(
    lo: float, hi: float, measure: str, length: float, room: Callable[[str], float], whole: bool
) -> tuple[tuple[float, str], ...]:
    """Return the finest regular ticks whose labels do not touch; they include 0 where it is inside."""
    if is_correlation(measure):
        coarse = _first_fitting(STEPS_R, lo, hi, measure, length, room)
        if len(coarse) >= FEWEST_TICKS:
            return coarse
        finer = [_placed(step, lo, hi, measure) for step in FINER_STEPS_R]
        fitting = [t for t in finer if len(t) >= FEWEST_TICKS and _fits(t, lo, hi, length, room)]
        return fitting[0] if fitting else coarse
    exponent = math.floor(math.log10(hi - lo)) - 2
    steps = [m * 10.0**e for e in range(exponent, exponent + 4) for m in (1, 2, 2.5, 5)]
    if whole:
        steps = [step for step in steps if step >= 1 and step == int(step)] or [1.0]
    return _first_fitting(steps, lo, hi, measure, length, room)


def _first_fitting(
    steps: Iterable[float], lo: float, hi: float, measure: str, length: float, room: Callable[[str], float]
) -> tuple[tuple[float, str], ...]:
    ticks: tuple[tuple[float, str], ...] = ()
    for step in steps:
        ticks = _placed(step, lo, hi, measure)
        if _fits(ticks, lo, hi, length, room):
            return ticks
    return ticks


def _placed(step: float, lo: float, hi: float, measure: str) -> tuple[tuple[float, str], ...]:
    """Return the multiples of `step` (reader's scale) inside the limits."""
    first = math.ceil(to_reader(lo, measure) / step - 1e-9)
    last = math.floor(to_reader(hi, measure) / step + 1e-9)
    if last - first > 200:
        return ()
    decimals = _decimals(step)
    edge = 1 - 1e-9 if measure == "ZCOR" else math.inf
    return tuple(
        (
            to_analysis(i * step, measure),
            "0" if i == 0 else format_number(i * step, decimals, leading_zero=not is_correlation(measure)),
        )
        for i in range(first, last + 1)
        if abs(i * step) < edge
    )


def _decimals(step: float) -> int:
    for decimals in range(12):
        if abs(round(step, decimals) - step) < 1e-9 * step:
            return decimals
    return 12


def _fits(
    ticks: tuple[tuple[float, str], ...], lo: float, hi: float, length: float, room: Callable[[str], float]
) -> bool:
    if not ticks:
        return False
    at = [(position - lo) / (hi - lo) * length for position, _ in ticks]
    half = [room(label) / 2 for _, label in ticks]
    return all(at[i + 1] - at[i] >= half[i] + half[i + 1] for i in range(len(ticks) - 1))
