"""The frame a forest plot is drawn from: its columns, its meta data, and its form in JSON."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.axis import is_correlation, to_reader

KINDS = ("heading", "study", "cluster", "effect", "subgroup", "fitted", "summary", "prediction", "blank")

TEXT = ("kind", "label", "group", "text")
NUMBERS = (
    *("ni", "yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub", "fit", "fit_lb", "fit_ub"),
    *("r", "r_lb", "r_ub", "r_pi_lb", "r_pi_ub", "weight", "position"),
)
COLUMNS = (*TEXT, *NUMBERS)

META: dict[str, Any] = {
    "plot": "forest",
    "title": "Forest plot",
    "description": "",
    "measure": "GEN",
    "axis_label": "Effect size",
    "estimate_header": "Estimate [95% CI]",
    "label_header": "Study",
    "n_header": "n",
    "columns": [],
    "rob": [],
    "level": 0.95,
    "model_label": "",
    "pooled": None,
    "shrunken": False,
    "bottom": [],
    "notes": [],
    "cautions": [],
    "show_cautions": False,
    "synthetic": False,
    "order": "given",
    "by": None,
    "tau2": None,
}
# What only some frames say: the limits of the axis, on the reader's scale.
OPTIONAL = ("xlim",)


def make_frame(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the drawing frame of `rows`; what a row does not name is empty, `meta` goes to ``.attrs``."""
    unknown = set(meta) - set(META) - set(OPTIONAL)
    if unknown:
        raise InputError(f"forest frame: unknown meta data {', '.join(sorted(unknown))}")
    attrs = copy.deepcopy({**META, **meta})
    extras = [column["key"] for column in (*attrs["columns"], *attrs["rob"])]
    wrong = [key for key in extras if key in COLUMNS]
    if wrong:
        raise InputError(f"forest frame: column keys {', '.join(wrong)} are taken by the frame itself")
    data: dict[str, Any] = {}
    for name in ("kind", "label", *extras, "group", "text"):
        data[name] = pd.Series([as_text(row.get(name)) for row in rows], dtype=object)
    for name in NUMBERS:
        data[name] = np.array([as_number(row.get(name)) for row in rows], dtype=float)
    frame = pd.DataFrame(data)
    frame.attrs.update(attrs)
    return frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def estimate(measure: str, value: float, lb: float, ub: float) -> dict[str, float]:
    """Return an estimate with its interval on the analysis scale and, where it has one, as r."""
    out = {"yi": float(value), "ci_lb": float(lb), "ci_ub": float(ub)}
    if is_correlation(measure):
        names = {"r": "yi", "r_lb": "ci_lb", "r_ub": "ci_ub"}
        out |= {name: to_reader(out[source], measure) for name, source in names.items()}
    return out


def column_key(name: str) -> str:
    """Return the name of a chosen column in the frame: its own, unless the frame uses that itself."""
    return f"{name} (column)" if name in COLUMNS else name


def check_frame(frame: pd.DataFrame) -> None:
    """Raise an `InputError` unless `frame` can be drawn."""
    missing = [name for name in COLUMNS if name not in frame]
    if missing or frame.attrs.get("plot") != "forest":
        lacking = f"lacks {', '.join(missing)}" if missing else "lost its .attrs (copy it, do not rebuild it)"
        raise InputError(f"this is not a frame that forest_data or published_forest_data made: it {lacking}")
    odd = sorted(set(frame["kind"]) - set(KINDS))
    if odd:
        raise InputError(f"forest frame: kind {odd[0]!r} is not one of {', '.join(KINDS)}")


def as_number(value: Any) -> float:
    """Return a float; None is NaN."""
    return math.nan if value is None else float(value)


def as_text(value: Any) -> str:
    """Return one line of printable text; None and NaN are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return "".join(character for character in " ".join(str(value).split()) if character.isprintable())
