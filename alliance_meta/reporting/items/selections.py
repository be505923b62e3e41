"""What a reader may choose from a forest: its moderators, and the mean at each level by the analysis's own model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.design import levels_of
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.plots.forests.parts import cell, header
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

# A column of more values is shown and sorted by, but nobody chooses from it.
MOST_LEVELS = 12
YEAR = "year"
MEAN = ("yi", "ci_lb", "ci_ub", "r", "r_lb", "r_ub")
NEW = ("pi_lb", "pi_ub", "r_pi_lb", "r_pi_ub")

NO_MEAN = "the model has moderators, so that there is no single mean"
ONE_EFFECT = "one effect: there is nothing to pool"


def selections(item: Item, fitted: Fitted, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the moderators that a forest shows, and the mean of the effects at each of their levels.

    Each mean is what the analysis, as it was declared, gives for these effects alone: the same call of the same model.

    Parameters
    ----------
    item : Item
        The declared forest; its ``columns``, ``by`` and ``label`` are what a reader may choose from.
    fitted : Fitted
    frame : DataFrame
        The forest of all effects.

    Returns
    -------
    dict
        ``columns``: key, title, the value of every effect and the levels to choose from, empty where these are more
        than 12; the year comes last. ``sets``: column, level, ``rows`` (positions of the effects), ``k``, ``studies``,
        the mean with its interval and prediction interval, what the forest would say below it, and its notes; or
        ``refused``, why there is no mean.
    """
    effects = fitted.effects
    table = effects.moderators
    asked = dict.fromkeys(name for name in (*item.columns, item.by, item.label) if name is not None)
    names = [name for name in dict.fromkeys((*asked, YEAR)) if name in table and table[name].notna().any()]
    columns = [_column(table[name], name, choose=name in asked) for name in names]
    said = {note["message"] for note in frame.attrs["notes"]}
    single = bool((frame["kind"] == "summary").any())
    sets = [
        {"column": one["key"], "level": level, "rows": rows, **_counted(effects, rows)}
        | (_pooled(fitted, rows, said) if single else {"refused": NO_MEAN})
        for one in columns
        for level in one["levels"]
        if (rows := [i for i, value in enumerate(one["cells"]) if value == level])
    ]
    return {"columns": columns, "sets": sets}


def _column(values: pd.Series[Any], name: str, *, choose: bool) -> dict[str, Any]:
    levels = [cell(level) for level in levels_of(values)]
    offered = choose and 2 <= len(levels) <= MOST_LEVELS
    return {
        "key": name,
        "title": header(name),
        "cells": [cell(value) for value in values],
        "values": [None if pd.isna(value) else value for value in values],
        "levels": levels if offered else [],
    }


def _counted(effects: EffectSizes, rows: Sequence[int]) -> dict[str, int]:
    return {"k": len(rows), "studies": len({effects.study_id[i] for i in rows})}


def _pooled(fitted: Fitted, rows: Sequence[int], said: set[str]) -> dict[str, Any]:
    """Return the mean of some effects as the analysis has it, or why it has none."""
    from alliance_meta.plots import forest_data

    if len(rows) < 2:
        return {"refused": ONE_EFFECT}
    # Effects that the analysis averaged first are averages already.
    spec = fitted.spec.but(aggregate=None)
    try:
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            frame = forest_data(fitted.run(spec, fitted.effects.take(list(rows))))
    except InputError as error:
        return {"refused": str(error)}
    found: dict[str, Any] = {"model": frame.attrs["model_label"]}
    for kind, keys in (("summary", MEAN), ("prediction", NEW)):
        drawn = frame[frame["kind"] == kind]
        found |= {key: float(drawn[key].iloc[0]) if len(drawn) else math.nan for key in keys}
    notes = [note["message"] for note in frame.attrs["notes"] if note["message"] not in said]
    return {**found, "lines": list(frame.attrs["bottom"][:1]), "notes": notes}
