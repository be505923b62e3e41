"""`published_forest_data`: published pooled results side by side, without pooling them again."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.parts import column_key, make_frame, records
from alliance_meta.plots.sheet.measure import MOST_R, to_analysis
from alliance_meta.tables.format import MINUS, brief, format_count, format_estimate, format_level, format_r

REQUIRED = ("label", "r", "ci_lb", "ci_ub")
SHOWN = (("k", "k", True), ("n", "N", True), ("evidence", "Evidence", False))
NOT_POOLED = (
    "Published pooled results side by side. They are not pooled again: the syntheses share primary studies, "
    "so that their results are not independent"
)
# Names in the frame of `evidence.umbrella` for the same things.
ALSO_CALLED = {"heading": "group", "estimate": "r", "n_total": "n", "evidence_level": "evidence"}
# Of r between 0 and 1: where both steps that a short axis may have, .1 and .2, end.
STEPS = 5
OPEN_MARKS = "Open squares: the source prints no interval"


def published_forest_data(
    frame: pd.DataFrame,
    *,
    title: str = "Published pooled results",
    label_header: str = "Meta-analysis",
    level: float = 0.95,
    cautions: Sequence[str] = (),
    show_cautions: bool = False,
    bottom: Sequence[str] = (NOT_POOLED,),
) -> pd.DataFrame:
    """Return the frame of a forest plot of published pooled correlations.

    Each row is what a paper printed. A result without an interval keeps its printed value and gets an open
    mark without a line; nothing is filled in, and no diamond is drawn over results that share studies.

    Parameters
    ----------
    frame : DataFrame
        ``label``; ``r ci_lb ci_ub``, as correlations, limits NaN where none were printed. Optional:
        ``group`` (rows of one group must follow each other; each gets a heading), ``k``, ``n``, ``evidence``,
        ``ci_level`` where intervals differ in level,
        and ``text``, the result as printed, whose digits are shown in place of the rounded numbers. The
        frame of `umbrella` may be given as it is.
    title : str
        Title for the saved file.
    label_header : str
        Header over the labels.
    level : float
        Level of the printed intervals.
    cautions : sequence of str
        What must be said of these results.
    show_cautions : bool
        Print them under the plot.
    bottom : sequence of str
        Lines under the plot; by default why nothing is pooled.

    Returns
    -------
    DataFrame
        As `forest_data`, without weights, summary and prediction; a row without r is left out and counted in
        a note.

    Raises
    ------
    InputError
        A missing column, a correlation outside (-1, 1), limits that do not hold the estimate; all at once.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta.plots import published_forest_data
    >>> frame = pd.DataFrame({"label": ["Horvath 2011", "McLeod 2011"], "r": [0.275, 0.14],
    ...                       "ci_lb": [0.25, None], "ci_ub": [0.30, None], "group": ["adults", "youth"]})
    >>> published_forest_data(frame)["kind"].tolist()
    ['heading', 'study', 'blank', 'heading', 'study']
    """
    given = _adopted(frame)
    _check(given)
    known = given["r"].notna()
    if not known.any():
        raise InputError("published results: no row has a correlation, there is nothing to draw")
    rows = [_row(record, level) for record in records(given[known])]
    shown = [entry for entry in SHOWN if entry[0] in given]
    lines = list(bottom)
    if any(math.isnan(row["ci_lb"]) for row in rows):
        lines.append(OPEN_MARKS)
    notes = []
    if not known.all():
        message = f"{int((~known).sum())} of {len(given)} published results print no correlation and are not drawn."
        notes.append({"code": "no-estimate", "message": message})
    return make_frame(
        _grouped(rows),
        {
            "title": title,
            "description": _description(rows),
            "measure": "ZCOR",
            "axis_label": parts.axis_label("ZCOR"),
            "estimate_header": parts.estimate_header("ZCOR", level),
            "label_header": label_header,
            "columns": [{"key": column_key(key), "title": name, "numeric": numeric} for key, name, numeric in shown],
            "level": level,
            "bottom": lines,
            "notes": notes,
            "cautions": list(cautions),
            "show_cautions": show_cautions,
            "by": "group" if "group" in given else None,
            "xlim": _limits(rows),
        },
    )


def _limits(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the limits of the axis as r, at whole steps that hold every result, so that ticks reach both ends."""
    ends = [value for row in rows for value in (row["r"], row["r_lb"], row["r_ub"]) if not math.isnan(value)]
    low, high = math.floor(min(0.0, *ends) * STEPS) / STEPS, math.ceil(max(1.0 / STEPS, *ends) * STEPS) / STEPS
    return [max(low, -MOST_R), min(high, MOST_R)]


def _adopted(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy under this module's names, with the printed digits where the frame has them."""
    names = {other: own for other, own in ALSO_CALLED.items() if other in frame and own not in frame}
    given = frame.rename(columns=names).reset_index(drop=True)
    if "text" not in given and {"estimate_printed", "ci_printed"} <= set(given):
        given["text"] = [_printed(record) for record in records(given)]
    return given


def _printed(record: dict[str, Any]) -> str:
    """Return the result with the digits that were printed, also where its sign or scale was changed."""
    printed = str(record["estimate_printed"])
    if not (record.get("sign_flipped") or record.get("converted")):
        return f"{printed} {record['ci_printed'] or ''}".strip()
    decimals = len(printed.partition(".")[2])
    return format_estimate(record["r"], record["ci_lb"], record["ci_ub"], decimals)


def _check(frame: pd.DataFrame) -> None:
    missing = [name for name in REQUIRED if name not in frame]
    if missing:
        raise InputError(f"published results lack the columns {', '.join(missing)}")
    problems = []
    for record in records(frame):
        r, lb, ub = (float(record[name]) if pd.notna(record[name]) else math.nan for name in ("r", "ci_lb", "ci_ub"))
        if any(abs(value) >= 1 for value in (r, lb, ub)):
            problems.append(f"{record['label']}: r = {brief(r)} [{brief(lb)}, {brief(ub)}] is not inside (-1, 1)")
        elif lb > r or ub < r:
            problems.append(f"{record['label']}: the interval [{brief(lb)}, {brief(ub)}] does not hold r = {brief(r)}")
    if problems:
        raise InputError("published results:\n" + "\n".join(f"  {problem}" for problem in problems))


def _row(record: dict[str, Any], level: float) -> dict[str, Any]:
    """Return the drawn row of one published result; `level` is the one the header names."""
    values = [float(record[name]) if pd.notna(record[name]) else math.nan for name in ("r", "ci_lb", "ci_ub")]
    if math.isnan(values[1]) or math.isnan(values[2]):
        values[1:] = [math.nan, math.nan]
    r, lb, ub = values
    place = [to_analysis(value, "ZCOR") for value in values]
    return {
        "kind": "study",
        "label": record["label"],
        "group": parts.cell(record.get("group")),
        "text": _text(record, values, level),
        **{column_key(key): _cell(record.get(key), numeric) for key, _, numeric in SHOWN},
        **dict(zip(("yi", "ci_lb", "ci_ub"), place, strict=True)),
        **{"r": r, "r_lb": lb, "r_ub": ub},
    }


def _text(record: dict[str, Any], values: Sequence[float], level: float) -> str:
    """Return what to print in place of the rounded numbers; an interval of another level names it."""
    printed = apa(parts.cell(record.get("text")))
    own = record.get("ci_level")
    if own is None or pd.isna(own) or math.isnan(values[1]) or math.isclose(float(own), level):
        return printed
    return f"{printed or format_estimate(values[0], values[1], values[2])} ({format_level(float(own))})"


def apa(printed: str) -> str:
    """Return printed numbers without leading zeros and with a true minus; the digits stay as they are.

    >>> apa("-0.26 [-0.302, -0.214]")
    '−.26 [−.302, −.214]'
    """
    return re.sub(r"(?<![\d.])0(?=\.\d)", "", printed).replace("-", MINUS)


def _cell(value: Any, numeric: bool) -> str:
    if numeric and value is not None and pd.notna(value):
        return format_count(float(value))
    return parts.cell(value)


def _grouped(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put a heading before each run of rows of one group."""
    body: list[dict[str, Any]] = []
    last = ""
    for row in rows:
        if row["group"] and row["group"] != last:
            body += [{"kind": "blank"}] if body else []
            body.append({"kind": "heading", "label": row["group"], "group": row["group"]})
        last = row["group"]
        body.append(row)
    return body


def _description(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "Forest plot without results."
    lowest, highest = (pick(row["r"] for row in rows) for pick in (min, max))
    return (
        f"Forest plot of {len(rows)} published pooled correlations, from {format_r(lowest)} to {format_r(highest)}, "
        f"{sum(not math.isnan(row['ci_lb']) for row in rows)} of them with an interval. Nothing is pooled."
    )
