"""What a report says of other analyses of the same effects: the battery's table, the numbers of it, and its figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.items.bias import ends_of
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.tables import Table, caption, column, effect_columns
from alliance_meta.reporting.words import marked, tr
from alliance_meta.reporting.words.drawn import of_method
from alliance_meta.reporting.words.remarks import remark
from alliance_meta.reporting.writing import Quantity, quantity
from alliance_meta.sensitivity.batteries.scenarios import KINDS

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.sensitivity.batteries.battery import Battery


def sensitivity_table(item: Item, fits: Mapping[str, Fitted]) -> tuple[Table, dict[str, Quantity]]:
    """Return what every usual analysis gives for the effects of each analysis, and the numbers prose may quote."""
    chosen = [fits[name] for name in item.of]
    rows: list[dict[str, Any]] = []
    quantities: dict[str, Quantity] = {}
    notes: dict[str, None] = {}
    for fitted in chosen:
        found = fitted.battery
        rows += [{"group": fitted.spec.label}] if len(chosen) > 1 else []
        rows += _rows(fitted, found)
        quantities |= {f"{fitted.spec.id}_{key}": value for key, value in _quantities(fitted, found)}
        said = (found.spread(), found.fragile_text(), *(note.message for note in found.notes))
        notes |= dict.fromkeys(map(remark, said))
    columns = [
        column("label", "Analysis"),
        column("k", "k", "count", blank=""),
        column("studies", "Studies", "count", blank=""),
        *({**one, "blank": ""} for one in effect_columns(chosen, tr("{level} CI", level=chosen[0].level))),
        column("p", "p", "p", blank=""),
        column("words", "What is otherwise, or why it gives nothing"),
    ]
    words = item.caption or caption("The mean effect by every usual analysis", chosen)
    return {"caption": words, "columns": columns, "rows": rows, "notes": list(notes)}, quantities


def _named(fitted: Fitted) -> tuple[str, str, str, str]:
    if fitted.effects.measure == "ZCOR":
        return "r", "r", "r_lb", "r_ub"
    return ("r" if fitted.on_r else "estimate"), "estimate", "ci_lb", "ci_ub"


def _rows(fitted: Fitted, found: Battery) -> Iterator[dict[str, Any]]:
    shown, point, lower, upper = _named(fitted)
    table = found.tidy()
    for kind, words in KINDS.items():
        part = table[table["kind"] == kind]
        if len(part) and kind != "headline":
            yield {"group": tr(words)}
        for row in part.to_dict("records"):
            there = {shown: row[point], "ci_lb": row[lower], "ci_ub": row[upper], "p": row["pval"]}
            there |= {name: row[name] for name in ("k", "studies")}
            known = {name: value for name, value in there.items() if value == value}
            yield {"label": of_method(row["label"]), **known, "words": of_method(row["why"] or row["says"])}


def _quantities(fitted: Fitted, found: Battery) -> Iterator[tuple[str, Quantity]]:
    shown, point, lower, upper = _named(fitted)
    kind = "r" if fitted.on_r else fitted.number
    for name, row in found.tidy().iterrows():
        words, key = of_method(str(row["label"])), str(name).replace(".", "_")
        yield f"{key}_{shown}", quantity(row[point], kind, words)
        yield f"{key}_ci", quantity([row[lower], row[upper]], f"{kind}_interval", tr("{name}, CI", name=words))
        yield f"{key}_k", quantity(row["k"], "count", tr("{name}, effects", name=words))
    yield from ends_of(found.tidy()[point], kind, tr("Smallest mean of an analysis"), tr("Largest mean of an analysis"))


def _battery(fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import battery_data

    frame = battery_data(fitted.battery, title=f"Does the answer hold? {fitted.spec.label}")
    # What single analyses say of themselves stands under the table.
    frame.attrs["notes"] = [note.to_dict() for note in fitted.fit.notes]
    return frame


# Figure -> its caption and what makes its frame.
FIGURES: Mapping[str, tuple[str, Callable[[Fitted], pd.DataFrame]]] = {
    "sensitivity": (marked("{label}: the mean effect by every usual analysis."), _battery),
}
