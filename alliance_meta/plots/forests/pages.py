"""Pages of a forest plot: which rows stand on which, and at what height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import pandas as pd

from alliance_meta.plots.forests.layout import AIRY, DENSE, MARGIN, Layout
from alliance_meta.plots.sheet.text import line_height, wrap

PAGE_UNITS = 64
# Rows that speak for those under them.
HEADS = ("heading", "cluster")
TICK = 0.04


@dataclass(frozen=True, slots=True)
class Page:
    """Heights on one page, in inches from its top; `centres` holds the middle of each row."""

    rows: tuple[int, ...]
    centres: tuple[float, ...]
    banner: float | None
    header: float
    rule: float
    heading: tuple[str, float] | None
    axis: float
    axis_label: float
    small: tuple[tuple[str, float, float], ...]
    footer: tuple[str, float] | None
    height: float


def make_page(
    frame: pd.DataFrame,
    layout: Layout,
    rows: Sequence[int],
    *,
    number: tuple[int, int] | None = None,
    last: bool = True,
) -> Page:
    """Place the rows of one page; the texts under the plot stand on the last one."""
    pitch, size = layout.density.pitch, layout.density.size
    y = MARGIN
    banner = None
    if frame.attrs["synthetic"]:
        banner = y + 0.5 * line_height(AIRY.size)
        y += 1.6 * line_height(AIRY.size)
    header = y + 0.5 * pitch
    rule = y + pitch
    y = rule + 0.3 * pitch
    heading = None
    again = continued(frame, rows)
    if again:
        heading = (again, y + 0.5 * pitch)
        y += pitch
    centres = []
    for i in rows:
        centres.append(y + layout.heights[i] / 2)
        y += layout.heights[i]
    axis = y + 0.3 * pitch
    axis_label = axis + TICK + 2.1 * line_height(size)
    y = axis_label + 0.7 * line_height(size)
    width = layout.width - 2 * MARGIN
    small, y = small_print(frame.attrs, width=width, size=size, y=y) if last else ((), y)
    footer = None
    if number is not None:
        footer = (f"Page {number[0]} of {number[1]}", y + 0.5 * line_height(size))
        y += line_height(size)
    return Page(
        rows=tuple(rows),
        centres=tuple(centres),
        banner=banner,
        header=header,
        rule=rule,
        heading=heading,
        axis=axis,
        axis_label=axis_label,
        small=small,
        footer=footer,
        height=y + MARGIN / 2,
    )


def small_print(
    attrs: Mapping[Any, Any], *, width: float, size: float, y: float
) -> tuple[tuple[tuple[str, float, float], ...], float]:
    """Return (line, size, middle) of what stands under a plot, `width` inches wide, and where it ends."""
    smaller = max(DENSE.size, size - 1)
    texts = [(text, size) for text in attrs["bottom"]]
    if attrs["show_cautions"]:
        texts += [(f"Caution: {text}", smaller) for text in attrs["cautions"]]
    lines = []
    y += 0.3 * line_height(size) if texts else 0.0
    for text, points in texts:
        for line in wrap(text, points, width):
            lines.append((line, points, y + 0.5 * line_height(points)))
            y += line_height(points)
        y += 0.15 * line_height(points)
    return tuple(lines), y


def split_pages(frame: pd.DataFrame, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """Return the rows of each page: at most 64 row heights, a heading never last, a summary never first.

    The pages are as few as possible and then as even as possible.
    """
    blocks = _blocks(frame["kind"].tolist())
    fewest = len(_fill(frame, layout, blocks, PAGE_UNITS))
    even = math.ceil(sum(layout.heights) / layout.density.pitch / fewest)
    for units in range(min(even, PAGE_UNITS), PAGE_UNITS):
        pages = _fill(frame, layout, blocks, units)
        if len(pages) == fewest:
            return pages
    return _fill(frame, layout, blocks, PAGE_UNITS)


def _fill(frame: pd.DataFrame, layout: Layout, blocks: Sequence[list[int]], units: int) -> tuple[tuple[int, ...], ...]:
    """Return pages filled one after the other with whole blocks."""
    room = units * layout.density.pitch
    kinds = frame["kind"].tolist()
    pages: list[list[int]] = [[]]
    used = 0.0
    for block in blocks:
        if pages[-1] and used + sum(layout.heights[i] for i in block) > room + 1e-9:
            pages.append([])
            used = 0.0
        rows = block
        if not pages[-1]:
            rows = list(dropwhile(lambda i: kinds[i] == "blank", block))
            if len(pages) > 1 and rows and continued(frame, rows):
                used += layout.density.pitch
        pages[-1] += rows
        used += sum(layout.heights[i] for i in rows)
    return tuple(tuple(page) for page in pages if page)


def _blocks(kinds: Sequence[str]) -> list[list[int]]:
    """Group rows that must stay together: a heading with its first row, summaries with the row before."""
    blocks: list[list[int]] = []
    headed = False
    for i, kind in enumerate(kinds):
        joins = kind in ("subgroup", "summary", "prediction", "blank")
        if blocks and (headed or joins):
            blocks[-1].append(i)
        else:
            blocks.append([i])
        headed = kind in HEADS
    return blocks


def continued(frame: pd.DataFrame, rows: Sequence[int]) -> str | None:
    """Return the heading to repeat on a page that starts inside a group."""
    if not rows:
        return None
    first = rows[0]
    kinds = frame["kind"]
    if kinds.iloc[first] not in ("study", "effect", "subgroup") or first == 0 or not frame["group"].iloc[first]:
        return None
    group = frame["group"].iloc[first]
    heads = [i for i in range(first) if kinds.iloc[i] in HEADS and frame["group"].iloc[i] == group]
    return f"{frame['label'].iloc[heads[-1]]} (continued)" if heads else None
