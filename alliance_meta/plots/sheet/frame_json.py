"""The frame of a plot as JSON values, and back."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.forests.frame import check_frame, make_frame
from alliance_meta.plots.sheet.chart_frame import COLUMNS, check_chart, make_chart


def frame_to_dict(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the frame as plain JSON values, from which `frame_from_dict` makes an equal frame.

    Parameters
    ----------
    frame : DataFrame
        From any function here whose name ends in ``_data``.

    Returns
    -------
    dict
        ``columns``, ``rows`` (numbers unrounded, None where there is none) and ``meta``.

    Examples
    --------
    >>> from alliance_meta.plots.forests.frame import make_frame
    >>> from alliance_meta.plots import frame_from_dict, frame_to_dict
    >>> frame = make_frame([{"kind": "study", "label": "A 2001", "yi": 0.2}], {"title": "One study"})
    >>> frame_from_dict(frame_to_dict(frame)).equals(frame)
    True
    """
    plot = frame.attrs.get("plot")
    if plot in COLUMNS:
        check_chart(frame, plot)
    else:
        check_frame(frame)
    columns = [str(name) for name in frame.columns]
    cells = [frame[name].tolist() for name in columns]
    rows = [[_plain(value) for value in row] for row in zip(*cells, strict=True)]
    return {"columns": columns, "rows": rows, "meta": copy.deepcopy(dict(frame.attrs))}


def frame_from_dict(data: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame that `frame_to_dict` wrote.

    Parameters
    ----------
    data : mapping
        ``columns``, ``rows`` and ``meta``, as read back from JSON.

    Returns
    -------
    DataFrame
        Ready to be drawn.

    Raises
    ------
    InputError
        If `data` lacks columns, rows or meta data.

    Examples
    --------
    >>> import json
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> frame = plots.forest_data(RandomEffectsModel(es).fit())
    >>> text = json.dumps(plots.frame_to_dict(frame))
    >>> plots.frame_from_dict(json.loads(text)).equals(frame)
    True
    """
    missing = [key for key in ("columns", "rows", "meta") if key not in data]
    if missing:
        raise InputError(f"the data of a plot lacks {', '.join(missing)}")
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    return make_chart(rows, data["meta"]) if data["meta"].get("plot") in COLUMNS else make_frame(rows, data["meta"])


def _plain(value: Any) -> Any:
    """Return a JSON value: NaN becomes None, and an infinite bound its name, which `float` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
