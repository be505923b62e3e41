"""The rows of a forest plot of dependent effects: each study, and under it its effects."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.studies import listed
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import check_level, did_you_mean
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.cells import (
    Columns,
    Order,
    chosen,
    columns_meta,
    dot_key,
    effect_rows,
    frame_meta,
    prediction_row,
    rob_legend,
)
from alliance_meta.plots.forests.frame import column_key, estimate, make_frame
from alliance_meta.plots.forests.groups import fitted_levels, fitted_rows
from alliance_meta.plots.forests.nested_text import bottom, description
from alliance_meta.plots.forests.nests import Drawn, Nest, find_nest, sort_nest
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults

_FIT = ("fit", "fit_lb", "fit_ub")
Dependent = MultilevelResults | RobustResults | RVEResults


def nested_data(
    fit: Dependent,
    *,
    columns: Columns | None,
    order: Order,
    level: float | None,
    rob: Columns | None,
    label: str | None,
    nest: str | None,
    title: str | None,
    show_cautions: bool,
) -> pd.DataFrame:
    """Return the frame of `forest_data` for dependent effects."""
    used = fit.level if level is None else level
    check_level(used)
    shown, dots = chosen(fit.effects, columns, rob)
    groups = find_nest(fit, nest, used)
    drawn, notes = sort_nest(fit, groups, order)
    simple = bool(fit.p == 1 and fit.design.has_intercept)
    rows = effect_rows(fit, used, shown, dots)
    fitted = {} if simple or fitted_levels(fit)[0] is not None else _fitted(fit, used)
    texts = _texts(fit, label)
    names = _names(fit, groups, texts)
    own = [column_key(name) for name in shown] + [dot_key(name, shown) for name in dots]
    under = [
        *bottom(fit, groups, used, simple=simple, beside=bool(fitted)),
        *rob_legend(fit.effects, dots),
    ]
    body = _body(fit.effects.measure, rows, (names, texts), groups, drawn, fitted, own)
    end = _summary(fit, rows, groups, used) if simple else _levels(fit, used)
    return make_frame(
        [*body, *end],
        {
            **frame_meta(fit, used, title, show_cautions),
            **columns_meta(fit.effects, shown, dots),
            "pooled": float(fit.beta[0]) if simple else None,
            "description": description(fit, groups, used, simple=simple),
            "bottom": under,
            "notes": [note.to_dict() for note in merge_notes(fit.notes, notes, _negative(rows))],
            "order": order if isinstance(order, str) else list(order),
        },
    )


def _negative(rows: Sequence[dict[str, Any]]) -> list[Note]:
    below = [str(row["label"]) for row in rows if row["weight"] < 0]
    if not below:
        return []
    message = (
        f"Negative weight of {listed(below)}: the assumed correlation is high for sampling variances that differ this "
        "much within a study, and other effects of the study count the more; drawn as the smallest square."
    )
    return [Note("negative-weights", message)]


def _texts(fit: Dependent, label: str | None) -> list[str]:
    """Return what the chosen moderator says of each effect."""
    frame = fit.effects.moderators
    if label is None:
        return [""] * fit.effects.k
    if label not in frame:
        known = [str(name) for name in frame.columns]
        hint = did_you_mean(label, known)
        raise InputError(f"label: no column {label!r}{hint} Columns: {', '.join(known) or 'none'}")
    return [forest_text.cell(value) for value in frame[label]]


def _names(fit: Dependent, groups: Nest, texts: Sequence[str]) -> list[str]:
    """Return what each effect is called under its study: the text chosen, or what the study leaves of its label."""
    names = []
    for slab, code, text in zip(fit.effects.slab, groups.clusters.codes, texts, strict=True):
        study = groups.clusters.labels[int(code)]
        rest = slab[len(study) :].strip(" ,;:") if slab.startswith(study) else slab
        if rest != slab and re.fullmatch(r"[a-z]{1,2}", rest):
            rest = f"effect {rest}"
        names.append(text or rest or slab)
    return names


def _body(
    measure: str,
    rows: Sequence[dict[str, Any]],
    called: tuple[Sequence[str], Sequence[str]],
    groups: Nest,
    drawn: Drawn,
    fitted: dict[int, dict[str, float]],
    own: Sequence[str],
) -> list[dict[str, Any]]:
    """Return a row for each study and its effects; a study with one effect is one row."""
    names, texts = called
    body: list[dict[str, Any]] = []
    for code, members in drawn:
        study = groups.clusters.labels[code]
        mark = None if groups.marks is None else groups.marks[code]
        if len(members) == 1:
            what = f"{study}: {texts[members[0]]}" if texts[members[0]] else study
            beside = fitted.get(members[0]) or ({} if mark is None else dict(zip(_FIT, mark, strict=True)))
            body.append({**rows[members[0]], "label": what, **beside})
            continue
        mine = [rows[i] for i in members]
        shared = {name: mine[0][name] for name in ("ni", *own) if all(row[name] == mine[0][name] for row in mine)}
        head = {
            "kind": "cluster",
            "label": study,
            "group": study,
            "weight": sum(row["weight"] for row in mine),
            **shared,
        }
        body.append(head if mark is None else {**head, **estimate(measure, *mark)})
        for i, row in zip(members, mine, strict=True):
            kept = {name: value for name, value in row.items() if name not in shared}
            body.append({**kept, "kind": "effect", "label": names[i], "group": study, **fitted.get(i, {})})
    return [*body, {"kind": "blank"}]


def _fitted(fit: Dependent, level: float) -> dict[int, dict[str, float]]:
    """Return the fitted value beside each effect."""
    predicted = fit.predict(level=level)[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float)
    return {i: dict(zip(_FIT, values, strict=True)) for i, values in enumerate(predicted)}


def _levels(fit: Dependent, level: float) -> list[dict[str, Any]]:
    """Return the mean of each level of the model's one categorical moderator, if that is what it has."""
    name, levels = fitted_levels(fit)
    if name is None:
        return []
    return fitted_rows(fit, [], [], name, levels, grouped=False, level=level)[1:]


def _summary(fit: Dependent, rows: Sequence[dict[str, Any]], groups: Nest, level: float) -> list[dict[str, Any]]:
    predicted = fit.predict(level=level).iloc[0]
    summary = {
        "kind": "summary",
        "label": f"Pooled effect ({fit.model_label})",
        "ni": _total(rows, groups),
        **estimate(fit.effects.measure, *(predicted[name] for name in ("pred", "ci_lb", "ci_ub"))),
    }
    return [summary, *prediction_row(fit, level)]


def _total(rows: Sequence[dict[str, Any]], groups: Nest) -> float | None:
    """Return the total sample size; None where a study's effects are of different people, or sizes are not known."""
    sizes = np.array([math.nan if row["ni"] is None else float(row["ni"]) for row in rows])
    first = sizes[groups.clusters.first]
    by_code = np.empty(groups.clusters.n)
    by_code[groups.clusters.codes[groups.clusters.first]] = first
    return float(first.sum()) if (by_code[groups.clusters.codes] == sizes).all() else None
