"""The frames that all plots but forests are drawn from: their columns and their meta data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.plots.forests.parts import as_number, as_text, check_frame, described, make_frame
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.tables.format import plural

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import Provenance

EFFECT = ("yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
AS_R = ("r", "r_lb", "r_ub", "r_pi_lb", "r_pi_ub")

# Plot -> its columns of text and of numbers.
COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "caterpillar": (("kind", "label"), (*EFFECT, *AS_R, "weight", "position")),
    "bubble": (("kind", "label"), ("x", "k", *EFFECT, *AS_R, "weight", "inside", "position")),
    "smooth": (("kind", "label"), ("x", *EFFECT, *AS_R, "weight", "inside", "position")),
    "funnel": (("kind", "label"), (*EFFECT[:3], *AS_R[:3], "se", "p", "k", "position")),
    "sunset": (("kind", "label"), (*EFFECT[:3], *AS_R[:3], "se", "p", "k", "power", "position")),
    "firepower": (("kind", "label"), ("effect", "r", "se", "k", "power", "position")),
    "worst_case": (("kind", "label"), ("ratio", *EFFECT[:3], *AS_R[:3])),
    "p_curve": (("kind", "label"), ("p_from", "p_to", "count", "observed", "none", "third")),
    "selection_weights": (("kind", "label"), ("p", "weight", "ci_lb", "ci_ub")),
    "specification_curve": (
        ("kind", "label", "choice", "grade"),
        ("position", "row", *EFFECT[:3], *AS_R[:3], "p", "k"),
    ),
    "bias_panel": (("kind", "label", "assumes"), ("k", "studies", *EFFECT, *AS_R)),
    "battery": (("kind", "label", "says"), ("k", "studies", *EFFECT, *AS_R)),
    "z_curve": (("kind", "label"), ("lb", "ub", "count", "z", "density")),
    "baujat": (("kind", "label"), ("k", "x", "y")),
    "radial": (("kind", "label"), ("k", "yi", "r", "x", "y", "lb", "ub")),
    "qqnorm": (("kind", "label"), ("x", "y", "lower", "upper")),
    "gosh": (("kind", "label"), ("lb", "ub", "I2_lb", "I2_ub", "count", "inside", "share", "share_inside")),
    "profile": (("kind", "label"), ("tau2", "loglik")),
    "profiles": (("kind", "label"), ("value", "loglik")),
    "influence": (("kind", "measure", "label"), ("position", "value")),
    "moderators": (("kind", "label", "group", "text"), ("k", "studies", *EFFECT, *AS_R)),
    "means": (("kind", "label", "letters"), ("k", *EFFECT, *AS_R)),
    "drapery": (("kind", "label"), ("x", "p", *EFFECT[:3], *AS_R[:3], "se", "position")),
    "rainforest": (("kind", "label", "share"), (*EFFECT, *AS_R, "weight", "position")),
    "timeline": (("kind", "label"), ("x", "k", *EFFECT, *AS_R, "tau2", "I2")),
    "ranks": (
        ("kind", "label", "above", "beyond"),
        ("row", *EFFECT[:3], *AS_R[:3], "p_mean", "p_smallest", "position"),
    ),
    "orchard": (("kind", "label", "text"), ("row", "k", "studies", *EFFECT, *AS_R, "se", "position")),
    "dependence": (("kind", "label"), ("k", "studies", *EFFECT, *AS_R)),
    "rho_grid": (("kind", "label"), ("rho", *EFFECT, *AS_R)),
    "development": (("kind", "label", "group"), ("year", "k", *EFFECT, *AS_R, "lowest", "highest", "results")),
    "chains": (("kind", "label"), ("chain", "draw", "value", "lb", "ub", "count", "expected", "ci_lb", "ci_ub")),
    "averaged": (("kind", "label"), ("x", "r", "density")),
    "sequential": (("kind", "label"), ("x", "k", *EFFECT, *AS_R, "p")),
    "prior": (("kind", "label"), ("x", "density", "p")),
    "prior_predictive": (("kind", "label"), ("x", "density", "p")),
    "posterior": (("kind", "label"), ("x", "r", "density")),
    "prior_sensitivity": (("kind", "label"), ("k", *EFFECT, *AS_R)),
    "predictive": (("kind", "label"), ("lb", "ub", "count", "tail", "expected", "ci_lb", "ci_ub", "value")),
    "weight_function": (("kind", "label"), ("p_from", "p_to", "mean", "median", "ci_lb", "ci_ub")),
    "rob": (("kind", "label", "domain", "judgement", "word"), ("position", "column", "k", "start", "share")),
    "prisma": (("kind", "box", "key", "label"), ("n", "column", "row")),
    "evidence_map": (("kind", "label", "across"), ("row", "column", "k", "studies", "yi", "r")),
    "resampled": (("kind", "label"), ("lb", "ub", "count", "tail", "value")),
}

META: dict[str, Any] = {
    "plot": "",
    "title": "",
    "description": "",
    "measure": "GEN",
    "axis_label": "",
    "x_label": "",
    "level": 0.95,
    "model_label": "",
    "key": [],
    "bottom": [],
    "notes": [],
    "cautions": [],
    "show_cautions": False,
    "synthetic": False,
}


def make_chart(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame of the plot that ``meta["plot"]`` names; what a row does not name is empty."""
    texts, numbers = COLUMNS[meta["plot"]]
    data: dict[str, Any] = {name: pd.Series([as_text(row.get(name)) for row in rows], dtype=object) for name in texts}
    for name in numbers:
        data[name] = np.array([as_number(row.get(name)) for row in rows], dtype=float)
    frame = pd.DataFrame(data)
    frame.attrs.update(copy.deepcopy({**META, **meta}))
    return frame


def check_chart(frame: pd.DataFrame, plot: str) -> None:
    """Raise an `InputError` unless `frame` is one that ``<plot>_data`` made."""
    missing = [name for names in COLUMNS[plot] for name in names if name not in frame]
    if missing or frame.attrs.get("plot") != plot:
        found = frame.attrs.get("plot")
        lacking = f"lacks {', '.join(missing)}" if missing else f"is one of {found}" if found else "lost its .attrs"
        raise InputError(f"this is not a frame that {plot}_data made: it {lacking}")


def as_frame(source: Any, plot: str, make: Callable[..., pd.DataFrame], data: Mapping[str, Any]) -> pd.DataFrame:
    """Return the drawing frame: the one given, or what `make` makes of a result."""
    if not isinstance(source, pd.DataFrame):
        return make(source, **data)
    if data:
        raise InputError(f"{', '.join(data)}: give this to {plot}_data, which made the frame")
    check_chart(source, plot)
    return source


def chart_frame(
    plot: str,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    origin: Provenance,
    *,
    notes: Iterable[Note],
    title: str | None,
    show_cautions: bool,
    said: str,
    **more: Any,
) -> pd.DataFrame:
    """Return the frame of a plot of data from `origin`.

    `name` is that of the plot in words, `said` its text alternative; `more` is meta data by the names of `META`, and
    what one kind of plot has on top, such as the moderator of a bubble plot.
    """
    meta = {
        "plot": plot,
        "title": title if title is not None else f"{name}: {origin.title or origin.source}",
        "description": described(said, origin.synthetic),
        "notes": [note.to_dict() for note in notes],
        "cautions": list(origin.cautions),
        "show_cautions": show_cautions,
        "synthetic": origin.synthetic,
    }
    return make_chart(rows, meta | more)


def with_r(measure: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its estimate and intervals as correlations too, where they have that scale."""
    out = dict(row)
    if is_correlation(measure):
        out |= {
            r: to_reader(float(row[name]), measure)
            for name, r in zip(EFFECT, AS_R, strict=True)
            if row.get(name) is not None and not math.isnan(row[name])
        }
    return out


def curve_rows(kind: str, x: Iterable[float], density: Iterable[float], **more: Any) -> list[dict[str, Any]]:
    """Return the rows of a curve."""
    return [{"kind": kind, "x": a, "density": f, **more} for a, f in zip(x, density, strict=True)]


def estimate_key(what: str, interval: str, rows: Iterable[Mapping[str, Any]], level: str) -> list[list[str]]:
    """Return the key of estimates with thick intervals, and thin ones of prediction where there are any."""
    new = any(not math.isnan(row.get("pi_lb", math.nan)) for row in rows)
    return [["thick", f"{what}, {interval}"], *([["thin", f"{level} prediction interval"]] if new else [])]


def one_term(names: Sequence[str], term: str | None) -> tuple[str, bool]:
    """Return the coefficient to show, and whether it is the mean effect."""
    names = list(names)
    if term is None and len(names) > 1:
        raise InputError(f"there are several coefficients; choose one with term=: {', '.join(names)}")
    if term is not None and term not in names:
        raise InputError(f"term={term!r} is no coefficient{did_you_mean(term, names)}; there are: {', '.join(names)}")
    return term or names[0], names == ["intrcpt"]


def without_interval(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which means have no interval, and why: cluster-robust errors, as the only ones, may not be there."""
    names = [str(row["label"]) for row in rows if math.isnan(row["ci_lb"]) and not math.isnan(row["yi"])]
    return [f"No interval of {', '.join(names)}: too few clusters for a robust standard error"] if names else []


def counted(k: int) -> str:
    """Return "1 effect" or "20,000 effects"."""
    return plural(k, "effect")


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
    >>> from alliance_meta.plots.forests.parts import described, make_frame
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
