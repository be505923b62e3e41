"""Rows of a forest plot that stand in groups: subgroups with diamonds, and levels of a moderator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SharedTau2, subgroups
from alliance_meta.notes import did_you_mean
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.parts import estimate
from alliance_meta.tables.format import format_percent

if TYPE_CHECKING:
    from alliance_meta.notes import Note
    from alliance_meta.results.random_effects import RandomEffectsResults

NOT_CODED = "not coded"


def subgroup_rows(
    fit: RandomEffectsResults,
    studies: Sequence[dict[str, Any]],
    positions: Sequence[int],
    *,
    by: str,
    tau2: SharedTau2,
    level: float,
) -> tuple[list[dict[str, Any]], str, tuple[Note, ...]]:
    """Return heading, studies and diamond of each level of `by`, and the test between them, and notes."""
    known = [str(name) for name in fit.effects.moderators.columns]
    if by not in known:
        raise InputError(f"by: no column {by!r}{did_you_mean(by, known)} Columns: {', '.join(known) or 'none'}")
    groups = subgroups(fit, by=by, tau2=tau2)
    body: list[dict[str, Any]] = []
    placed: set[int] = set()
    for name in groups.levels:
        members = {int(i) for i in groups.rows[name]}
        placed |= members
        body += _group(f"{parts.header(by)}: {name}", str(name), [studies[i] for i in positions if i in members])
        body += [
            _subtotal(groups.fits[name], str(name), len(members), level, own_tau2=tau2 == "separate"),
            {"kind": "blank"},
        ]
    left = [studies[i] for i in positions if i not in placed]
    if left:
        body += [*_group(f"{parts.header(by)}: {NOT_CODED}", NOT_CODED, left), {"kind": "blank"}]
    test = parts.test_text(groups.QM, groups.QMdf, groups.QMp)
    how = "a separate τ² in each subgroup" if tau2 == "separate" else "a common τ² for all subgroups"
    return body, f"Test for subgroup differences: {test}; {how}", groups.notes


def _group(heading: str, name: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"kind": "heading", "label": heading, "group": name}, *({**row, "group": name} for row in rows)]


def _subtotal(fit: RandomEffectsResults, name: str, k: int, level: float, *, own_tau2: bool) -> dict[str, Any]:
    """Return the diamond's row, from two studies on; one study is its own summary and gets none."""
    row: dict[str, Any] = {"kind": "subgroup", "group": name}
    if k < 2:
        return {**row, "label": f"Subtotal (k = {k}): no summary"}
    predicted = fit.predict(level=level).iloc[0]
    values = (predicted[bound] for bound in ("pred", "ci_lb", "ci_ub"))
    return {
        **row,
        "label": f"Subtotal (k = {k}, I² = {format_percent(fit.I2)})" if own_tau2 else f"Subtotal (k = {k})",
        **estimate(fit.effects.measure, *values),
    }


def fitted_levels(fit: Any) -> tuple[str | None, tuple[str, ...]]:
    """Return the model's one categorical moderator with its levels; (None, ()) for any other model."""
    variables = fit.design.variables
    if len(variables) != 1 or variables[0] not in fit.design.levels:
        return None, ()
    name = variables[0]
    levels = tuple(map(str, fit.design.levels[name]))
    coded = {parts.cell(value) for value in fit.effects.moderators[name]}
    return (name, levels) if coded <= set(levels) else (None, ())


def fitted_rows(
    fit: Any,
    studies: Sequence[dict[str, Any]],
    positions: Sequence[int],
    name: str,
    levels: Sequence[str],
    *,
    grouped: bool,
    level: float,
) -> list[dict[str, Any]]:
    """Return the studies and the model's mean for each level, under its group or in a block of its own."""
    coded = [parts.cell(value) for value in fit.effects.moderators[name]]
    predicted = fit.predict(pd.DataFrame({name: list(levels)}), level=level)
    fitted = {}
    for i, value in enumerate(levels):
        row = predicted.iloc[i]
        values = (row[bound] for bound in ("pred", "ci_lb", "ci_ub"))
        fitted[value] = {
            "kind": "fitted",
            "label": f"Fitted mean: {value} (k = {coded.count(value)})",
            **estimate(fit.effects.measure, *values),
        }
    if not grouped:
        heading = {"kind": "heading", "label": f"Model {fit.design.formula} ({fit.model_label})"}
        return [*(studies[i] for i in positions), {"kind": "blank"}, heading, *fitted.values()]
    body: list[dict[str, Any]] = []
    for value in levels:
        body += _group(f"{parts.header(name)}: {value}", value, [studies[i] for i in positions if coded[i] == value])
        body += [{**fitted[value], "group": value}, {"kind": "blank"}]
    return body[:-1]
