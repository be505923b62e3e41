"""What a report says of a biased literature and of other analyses of the same effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.tables import Table, caption, column, effect_columns
from alliance_meta.reporting.words import marked, tr
from alliance_meta.reporting.words.remarks import of_method, remark
from alliance_meta.reporting.writing import Quantity, quantity
from alliance_meta.sensitivity.batteries.scenarios import KINDS

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bias.panels import BiasPanel
    from alliance_meta.sensitivity.batteries.battery import Battery


def bias_table(item: Item, fits: Mapping[str, Fitted]) -> tuple[Table, dict[str, Quantity], list[str]]:
    """Return what every method gives for each analysis, the numbers prose may quote, and the methods' sources."""
    chosen = [fits[name] for name in item.of]
    rows: list[dict[str, Any]] = []
    quantities: dict[str, Quantity] = {}
    notes: dict[str, None] = {}
    sources: dict[str, None] = {}
    for fitted in chosen:
        found = fitted.bias
        rows += [{"group": fitted.spec.label}] if len(chosen) > 1 else []
        rows += [*_means(fitted, found), {"group": tr("Tests and measures")}, *_tests(found)]
        quantities |= {f"{fitted.spec.id}_{key}": value for key, value in _bias_quantities(fitted, found)}
        notes |= dict.fromkeys(map(remark, (found.spread(), *(note.message for note in found.notes))))
        sources |= dict.fromkeys([*found.frame["source"], *found.tests["source"]])
    columns = [
        column("label", "Method"),
        *({**one, "blank": ""} for one in effect_columns(chosen, tr("{level} CI", level=chosen[0].level))),
        column("p", "p", "p", blank=""),
        column("words", "What it assumes, says, or why it gives nothing"),
    ]
    words = item.caption or caption("If the literature were biased, by every method that suits the data", chosen)
    table = {"caption": words, "columns": columns, "rows": rows, "notes": list(notes)}
    return table, quantities, [one for one in sources if one]


def _named(fitted: Fitted) -> tuple[str, str, str, str]:
    """Return the column that a table shows, and the names of estimate and limits in the frame behind it."""
    return ("r", "r", "r_lb", "r_ub") if fitted.effects.measure == "ZCOR" else _raw(fitted)


def _raw(fitted: Fitted) -> tuple[str, str, str, str]:
    return ("r" if fitted.on_r else "estimate"), "estimate", "ci_lb", "ci_ub"


def _means(fitted: Fitted, found: BiasPanel) -> Iterator[dict[str, Any]]:
    shown, point, lower, upper = _named(fitted)
    for row in found.tidy().to_dict("records"):
        there = {shown: row[point], "ci_lb": row[lower], "ci_ub": row[upper], "p": row["pval"]}
        words = of_method(row["why"] or row["assumes"])
        yield {"label": of_method(row["label"]), **({} if row["why"] else there), "words": words}


def _tests(found: BiasPanel) -> Iterator[dict[str, Any]]:
    for row in found.tests.to_dict("records"):
        p = {} if row["pval"] != row["pval"] else {"p": row["pval"]}
        yield {"label": of_method(row["label"]), **p, "words": of_method(row["why"] or row["says"])}


def _bias_quantities(fitted: Fitted, found: BiasPanel) -> Iterator[tuple[str, Quantity]]:
    shown, point, lower, upper = _named(fitted)
    kind = "r" if fitted.on_r else fitted.number
    for name, row in found.tidy().iterrows():
        words = of_method(str(row["label"]))
        yield f"{name}_{shown}", quantity(row[point], kind, words)
        yield f"{name}_ci", quantity([row[lower], row[upper]], f"{kind}_interval", tr("{name}, CI", name=words))
        yield f"{name}_p", quantity(row["pval"], "p", f"{words}, p")
    for name, row in found.tests.iterrows():
        yield f"{name}_p", quantity(row["pval"], "p", f"{of_method(row['label'])}, p")
    table = found.tidy()
    yield from ends_of(
        table.loc[table.index != "uncorrected", point],
        kind,
        tr("Smallest corrected mean"),
        tr("Largest corrected mean"),
    )


def ends_of(means: pd.Series[float], kind: str, smallest: str, largest: str) -> Iterator[tuple[str, Quantity]]:
    """Yield the smallest and the largest of several means, where there is any."""
    if means.notna().any():
        yield "lowest", quantity(float(means.min()), kind, smallest)
        yield "highest", quantity(float(means.max()), kind, largest)


def _funnel(fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import funnel_data

    return funnel_data(fitted.fit, title=f"Funnel plot: {fitted.spec.label}")


def _sunset(fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import sunset_data

    return sunset_data(fitted.fit, title=f"Funnel plot with power: {fitted.spec.label}")


def _methods(fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import bias_panel_data

    frame = bias_panel_data(fitted.bias, title=f"Methods for a biased literature: {fitted.spec.label}")
    # What single methods say of themselves stands under the table.
    frame.attrs["notes"] = [note.to_dict() for note in fitted.fit.notes]
    return frame


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
        quantities |= {f"{fitted.spec.id}_{key}": value for key, value in _battery_quantities(fitted, found)}
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


def _battery_quantities(fitted: Fitted, found: Battery) -> Iterator[tuple[str, Quantity]]:
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
    "funnel": (marked("{label}: every effect and its standard error ({model})."), _funnel),
    "sunset": (marked("{label}: the power of every effect's study."), _sunset),
    "bias": (marked("{label}: the mean effect by every method for a biased literature."), _methods),
    "sensitivity": (marked("{label}: the mean effect by every usual analysis."), _battery),
}
