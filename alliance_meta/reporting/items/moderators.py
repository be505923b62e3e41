"""What a report says of moderators: the table of all that are named, the numbers of it, and the figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.reporting.fitted import Fitted, slug
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.tables import Table, caption, column, effect_columns
from alliance_meta.reporting.words import tr
from alliance_meta.reporting.words.remarks import remark
from alliance_meta.reporting.words.sentences import phrase
from alliance_meta.reporting.writing import Quantity, quantity
from alliance_meta.results.fit import records_of
from alliance_meta.tables.format import format_df, format_number

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.moderators.table import ModeratorTable


def moderator_table_of(item: Item, fits: Mapping[str, Fitted]) -> tuple[Table, dict[str, Quantity]]:
    """Return moderators with their levels and tests for each analysis, and the numbers prose may quote."""
    chosen = [fits[name] for name in item.of]
    rows: list[dict[str, Any]] = []
    quantities: dict[str, Quantity] = {}
    notes: dict[str, None] = {}
    for fitted in chosen:
        found = fitted.moderators(item.columns)
        rows += [{"group": fitted.spec.label}] if len(chosen) > 1 else []
        rows += _rows(fitted, found)
        quantities |= {f"{fitted.spec.id}_{key}": value for key, value in _quantities(fitted, found)}
        notes |= dict.fromkeys(_said(found))
    shown, kind = ("r", "r3") if chosen[0].on_r else ("estimate", chosen[0].number)
    columns = [
        column("label", "Moderator"),
        column("k", "k", "count", blank=""),
        column("studies", "Studies", "count", blank=""),
        column("n", "N", "count", blank=""),
        *(
            {**one, "blank": "", "error": "error"}
            for one in effect_columns(chosen, tr("{level} CI", level=chosen[0].level))
        ),
        column(["pi_lb", "pi_ub"], tr("{level} PI", level=chosen[0].level), f"{kind}_interval", blank=""),
        column("controlled", "r, contr." if shown == "r" else "Contr.", kind, blank="", error="error"),
        column("p", "p", "p", blank=""),
        column("p_adjusted", "p, adj.", "p", blank=""),
        column("p_controlled", "p, contr.", "p", blank=""),
        column("R2", "R²", "percent", blank=""),
    ]
    words = item.caption or caption("Moderators one by one, and controlled for the others", chosen)
    return {"caption": words, "columns": columns, "rows": rows, "notes": list(notes)}, quantities


def moderators_figure(item: Item, fitted: Fitted) -> pd.DataFrame:
    """Return the frame of the forest of moderators."""
    from alliance_meta.plots import moderators_data

    return moderators_data(fitted.moderators(item.columns), title=f"Moderators: {fitted.spec.label}")


def _said(found: ModeratorTable) -> Iterator[str]:
    yield tr(
        "Model: {model}. Controlled for the other moderators: {controlled}.",
        model=phrase(found.model_label),
        controlled=phrase(found.controlled),
    )
    for row in _records(found.tests):
        name = row["moderator"]
        if row["why"]:
            yield tr("No test of {name}: {why}.", name=name, why=row["why"])
        if row["missing"]:
            yield tr("{name} is missing for {n} effects.", name=name, n=row["missing"])
    yield from found.empty_cells()
    yield from (remark(note.message) for note in found.notes)


def _named(fitted: Fitted) -> tuple[str, dict[str, str]]:
    """Return the column that a table shows, and the names of numbers in the frame behind it."""
    if fitted.effects.measure == "ZCOR":
        return "r", {"point": "r", "ci_lb": "r_lb", "ci_ub": "r_ub", "pi_lb": "r_pi_lb", "pi_ub": "r_pi_ub"}
    own = {name: name for name in ("ci_lb", "ci_ub", "pi_lb", "pi_ub")}
    return "r" if fitted.on_r else "estimate", {"point": "estimate", **own}


def _rows(fitted: Fitted, found: ModeratorTable) -> Iterator[dict[str, Any]]:
    shown, names = _named(fitted)
    tests, last = {row["moderator"]: row for row in _records(found.tests)}, None
    for row in _records(found.frame):
        name = row["moderator"]
        if name != last and row["kind"] != "overall":
            yield _test_row(tests[name])
        last = name
        numbers = {shown if key == "point" else key: row[own] for key, own in names.items()}
        numbers["controlled"] = row[f"{names['point']}_controlled"]
        counts = {"k": row["k"], "studies": row["studies"], "n": row["people"]}
        # A slope per unit may be far smaller than a mean.
        slope = {"error": (numbers["ci_ub"] - numbers["ci_lb"]) / 4.0} if row["kind"] == "slope" else {}
        there = {key: value for key, value in (counts | numbers | slope).items() if value == value}
        yield {"label": tr("Overall") if row["kind"] == "overall" else f"\N{EM SPACE}{row['level']}", **there}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return records_of(frame.reset_index())


def _test_row(test: Mapping[str, Any]) -> dict[str, Any]:
    name = test["moderator"]
    if test["why"]:
        return {"label": name}
    second = "" if test["df2"] != test["df2"] else f", {format_df(test['df2'])}"
    words = f"{name}: {test['test']}({test['df1']}{second}) = {format_number(test['stat'])}"
    keys = {"p": "pval", "p_adjusted": "pval_adjusted", "p_controlled": "pval_controlled", "R2": "R2"}
    return {"label": words, **{key: test[own] for key, own in keys.items() if test[own] == test[own]}}


def _quantities(fitted: Fitted, found: ModeratorTable) -> Iterator[tuple[str, Quantity]]:
    shown, names = _named(fitted)
    kind = "r" if fitted.on_r else fitted.number
    for row in _records(found.frame):
        name, level = row["moderator"], row["level"]
        key, words = slug(name if row["kind"] == "overall" else f"{name}_{level}"), f"{name}, {level}"
        yield f"{key}_{shown}", quantity(row[names["point"]], kind, words)
        for one in ("ci", "pi"):
            ends = [row[names[f"{one}_lb"]], row[names[f"{one}_ub"]]]
            yield f"{key}_{one}", quantity(ends, f"{kind}_interval", f"{words}, {one.upper()}")
        yield f"{key}_controlled", quantity(row[f"{names['point']}_controlled"], kind, f"{words}, controlled")
        yield f"{key}_k", quantity(row["k"], "count", f"{words}, effects")
        yield f"{key}_studies", quantity(row["studies"], "count", f"{words}, studies")
    for row in _records(found.tests):
        name = row["moderator"]
        kinds = {"stat": "stat", "df1": "df", "df2": "df", "R2": "percent", "missing": "count"}
        ps = {"p": "pval", "p_adjusted": "pval_adjusted", "p_controlled": "pval_controlled"}
        for key, own in {**{one: one for one in kinds}, **ps}.items():
            yield f"{slug(name)}_{key}", quantity(row[own], kinds.get(key, "p"), f"{name}, {key}")
