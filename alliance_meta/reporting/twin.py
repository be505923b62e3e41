"""The forest of a page made to be asked: its rows as a table, and as data for the page's one script."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from alliance_meta.plots.forests.parts import effect_text, pooled_texts, prediction_label, records
from alliance_meta.plots.sheet.measure import POINTS_PER_INCH, is_correlation
from alliance_meta.reporting.items.figures import MEAN, NEW
from alliance_meta.reporting.writing import number
from alliance_meta.tables.document import Table, html_table
from alliance_meta.tables.format import fixed, format_count, format_level, format_weight, plural

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from alliance_meta.plots.forests.layout import Layout, Page

# Rows of one effect each; the others say something of several.
SINGLE = ("study", "effect")
DIAMOND, BAR, ARROW = 0.36, 0.13, (0.07, 0.14)
NOT_COMPUTED = "no pooled value for this selection: it was not computed, and nothing is guessed from the others."
NOT_POOLED = "nothing is pooled here."

Column = dict[str, Any]
Point = tuple[float, float]


def twin(identifier: str, figure: Mapping[str, Any], drawn: tuple[Layout, Page]) -> dict[str, Any]:
    """Return what the page needs of a forest: ``table``, a function of the figure's number, and ``data``, JSON in HTML.

    Every number is that of `figure`, as `results.json` holds it, and every text is written here: the script neither
    computes nor rounds.
    """
    from markupsafe import Markup

    from alliance_meta.plots import frame_from_dict

    frame = frame_from_dict(figure["frame"])
    rows = records(frame)
    chosen = figure.get("selections") or {"columns": [], "sets": []}
    columns = [*_named(frame, rows, chosen), *_measured(frame, rows)]
    single = [i for i, row in enumerate(rows) if row["kind"] in SINGLE]
    data = {
        **_geometry(*drawn, frame),
        "columns": [{"title": one["title"], "about": one.get("about", one["title"])} for one in columns],
        "rows": [_row(i, row, frame, columns) for i, row in enumerate(rows)],
        "filters": [
            {key: one[key] for key in ("title", "cells", "levels")} for one in chosen["columns"] if one["levels"]
        ],
        "sets": [_set(one, frame, drawn[0]) for one in chosen["sets"]],
        "otherwise": NOT_COMPUTED if "selections" in figure else NOT_POOLED,
        "whole": _whole(frame, rows),
        "kept": _kept(frame),
    }
    return {"table": partial(_table, identifier, columns, single), "data": Markup(inert_json(data))}


def _row(i: int, row: Mapping[str, Any], frame: pd.DataFrame, columns: Sequence[Column]) -> dict[str, Any]:
    """Return one row: its words, what it is sorted by, and its numbers as the frame has them."""
    return {
        "kind": row["kind"],
        "position": None if math.isnan(row["position"]) else int(row["position"]),
        "said": _said(i, row, frame, columns),
        "sort": [one["values"][i] for one in columns] if row["kind"] in SINGLE else None,
        "numbers": {key: row[key] for key in ("yi", "ci_lb", "ci_ub") if math.isfinite(row[key])},
    }


def inert_json(value: Any) -> str:
    r"""Return JSON that ends no script and opens no comment, whatever its texts hold.

    >>> print(inert_json({"study": "</script>"}))
    {"study":"\u003c/script\u003e"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    hidden: dict[str, str | int | None] = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
    return text.translate(str.maketrans(hidden)).encode("utf-8", "backslashreplace").decode("utf-8")


def _named(frame: pd.DataFrame, rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> Iterator[Column]:
    """Yield the study and its moderators."""
    labels = [f"{row['group']}: {row['label']}" if row["kind"] == "effect" else row["label"] for row in rows]
    yield {"title": frame.attrs["label_header"], "cells": labels, "values": labels, "words": True}
    of = [None if math.isnan(row["position"]) else int(row["position"]) for row in rows]
    known = {one["key"] for one in chosen["columns"]}
    for one in chosen["columns"]:
        cells = ["" if i is None else one["cells"][i] for i in of]
        values = [None if i is None else one["values"][i] for i in of]
        numeric = all(value is None or isinstance(value, int | float) for value in values)
        yield {"title": one["title"], "cells": cells, "values": values if numeric else cells, "words": not numeric}
    for one in (*frame.attrs["columns"], *frame.attrs["rob"]):
        if one["key"] not in known:
            cells, numeric = list(frame[one["key"]]), bool(one.get("numeric"))
            values = [_read(cell) for cell in cells] if numeric else cells
            yield {"title": str(one["title"]), "cells": cells, "values": values, "words": not numeric}


def _read(cell: str) -> float | None:
    """Return the number that a cell of a frame is the text of."""
    try:
        return float(cell.replace(",", "").replace("−", "-"))
    except ValueError:
        return None


def _measured(frame: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> Iterator[Column]:
    """Yield size, estimate, interval and weight, as far as any row has one."""
    meta = frame.attrs
    texts = [(str(row["text"]) or effect_text(meta["measure"], row)).partition(" [") for row in rows]
    point = "r" if is_correlation(meta["measure"]) else "yi"
    level = format_level(meta["level"])
    width = {
        "about": f"{level} CI, by its width",
        "cells": [f"[{rest}" if bracket else "" for _, bracket, rest in texts],
    }
    wide = [row["ci_ub"] - row["ci_lb"] for row in rows]
    # What all effects of a study have alike stands in the study's row.
    shared = {row["group"]: row["ni"] for row in rows if row["kind"] == "cluster"}
    sizes = [shared.get(row["group"], row["ni"]) if math.isnan(row["ni"]) else row["ni"] for row in rows]
    yield from (
        {**one, "values": [value if math.isfinite(value) else None for value in one["values"]], "words": False}
        for one in (
            {"title": meta["n_header"], "cells": _written(sizes, format_count), "values": sizes},
            {"title": point.replace("yi", "Effect"), "cells": [one[0] for one in texts], "values": frame[point]},
            {"title": f"{level} CI", "values": wide, **width},
            {"title": "Weight %", "cells": _written(frame["weight"], format_weight), "values": frame["weight"]},
        )
        if any(map(math.isfinite, one["values"]))
    )


def _written(values: Iterable[float], write: Callable[[float], str]) -> list[str]:
    return [write(value) if math.isfinite(value) else "" for value in values]


def _table(identifier: str, columns: Sequence[Column], single: Sequence[int], figure: str) -> Markup:
    """Return the rows of a forest as a table."""
    from markupsafe import Markup

    words = tuple(i for i, one in enumerate(columns) if one["words"])
    cells = tuple(tuple(one["cells"][i] for one in columns) for i in single)
    table = Table(tuple(one["title"] for one in columns), cells, f"Every effect of {figure}", words=words)
    return Markup(html_table(table, identifier=f"{identifier}-rows"))


def _said(i: int, row: Mapping[str, Any], frame: pd.DataFrame, columns: Sequence[Column]) -> str:
    """Return one row in a line."""
    if row["kind"] in SINGLE:
        first, *rest = ((one["title"], one["cells"][i]) for one in columns)
        return ". ".join([first[1], *(f"{title}: {cell}" for title, cell in rest if cell)])
    measure = frame.attrs["measure"]
    if row["kind"] == "prediction":
        return pooled_texts(measure, "", [row])[0]
    text = str(row["text"]) or (effect_text(measure, row) if math.isfinite(row["yi"]) else "")
    return f"{row['label']}. {text}" if text else str(row["label"])


def _whole(frame: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> str:
    end = [row for row in rows if row["kind"] in ("summary", "prediction")]
    return "; ".join(pooled_texts(frame.attrs["measure"], frame.attrs["model_label"], end))


def _kept(frame: pd.DataFrame) -> str:
    """Say what a selection leaves as the model of all rows has it."""
    things = ["weights"] if frame["weight"].notna().any() else []
    things += ["what is drawn in grey beside a study"] if frame["fit"].notna().any() else []
    words = " and ".join(things)
    return f"{words[0].upper()}{words[1:]} stay those of the model of all rows." if things else ""


def _geometry(layout: Layout, page: Page, frame: pd.DataFrame) -> dict[str, Any]:
    """Return where rows and columns stand, in the units of the drawing."""
    heights = [layout.heights[i] for i in page.rows]
    tops = [middle - height / 2 for middle, height in zip(page.centres, heights, strict=True)]
    pooled = frame.attrs["pooled"]
    ends = {one.key: _points(one.x) for one in layout.columns}
    return {
        "tops": [_points(top) for top in tops],
        "heights": [_points(height) for height in heights],
        "panel": [_points(x) for x in layout.panel],
        "label": ends["label"],
        "interval": ends["interval"],
        "size": layout.density.size,
        "foot": _points(page.axis_label + 0.5 * layout.density.size / POINTS_PER_INCH),
        "pooled": None if pooled is None else _points(layout.x(pooled)),
    }


def _points(inches: float) -> float:
    return float(fixed(POINTS_PER_INCH * inches, 2))


def _set(one: Mapping[str, Any], frame: pd.DataFrame, layout: Layout) -> dict[str, Any]:
    """Return the mean of a selection: its rows, its words, and its marks around a height of 0."""
    made = {"rows": one["rows"]}
    counts = plural(one["k"], "effect")
    counts += f" of {one['studies']} {'study' if one['studies'] == 1 else 'studies'}"
    if "refused" in one:
        return {**made, "said": f"{counts}: no pooled value; {one['refused'].rstrip('.')}."}
    values = {key: math.nan if (value := number(one[key])) is None else value for key in (*MEAN, *NEW)}
    label, measure = prediction_label(frame.attrs["level"]), frame.attrs["measure"]
    texts = pooled_texts(
        measure, one["model"], [{"kind": "summary", **values}, {"kind": "prediction", "label": label, **values}]
    )
    there = math.isfinite(values["pi_lb"])
    said = "; ".join([*(texts if there else texts[:1]), *one["lines"]])
    return {
        **made,
        "said": " ".join([f"{counts}: {said}.", *one["notes"]]),
        "text": effect_text(measure, values),
        "numbers": {key: value for key, value in values.items() if math.isfinite(value)},
        "mean": _shape(layout, [values[key] for key in ("ci_lb", "yi", "ci_ub")], DIAMOND),
        "new": _shape(layout, [values["pi_lb"], values["pi_ub"]], BAR),
        "interval": texts[1].removeprefix(label).strip() if there else "",
    }


def _shape(layout: Layout, values: Sequence[float], share: float) -> str:
    """Return a diamond of three values, or a bar of two, cut at the axis with an arrow where it goes on, as a path."""
    axis, half = layout.axis, share * layout.density.pitch
    lb, ub = values[0], values[-1]
    if not (all(map(math.isfinite, values)) and lb <= ub) or ub <= axis.lo or lb >= axis.hi:
        return ""
    lo, hi = max(lb, axis.lo), min(ub, axis.hi)
    left, right = (layout.x(lo) + ARROW[0] * (lb < lo), layout.x(hi) - ARROW[0] * (ub > hi))
    corners = [(left, _height(values, lo) * half), (right, _height(values, hi) * half)]
    if len(values) > 2 and left < layout.x(values[1]) < right:
        corners.insert(1, (layout.x(values[1]), half))
    shapes = [[*((x, -y) for x, y in corners), *reversed(corners)]]
    for tip, base, cut in ((layout.x(lo), left, lb < lo), (layout.x(hi), right, ub > hi)):
        shapes += [[(tip, 0.0), (base, -ARROW[1] / 2), (base, ARROW[1] / 2)]] if cut else []
    return "".join(map(_path, shapes))


def _height(values: Sequence[float], at: float) -> float:
    """Return the half height of a shape at a value, as a share of its greatest."""
    if len(values) == 2:
        return 1.0
    edge = values[0] if at <= values[1] else values[2]
    return 1.0 if edge == values[1] else (at - edge) / (values[1] - edge)


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{fixed(POINTS_PER_INCH * x, 1)} {fixed(POINTS_PER_INCH * y, 1)}" for x, y in points) + "Z"
