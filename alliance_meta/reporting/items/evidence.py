"""Published results in a report: the umbrella of syntheses, printed numbers, and what reproduces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.kinds import located
from alliance_meta.reporting.spec import Item, Umbrella
from alliance_meta.reporting.tables import Table, column, plain_value
from alliance_meta.reporting.writing import Quantity, escape, note_quantities, quantity
from alliance_meta.tables.format import MINUS

if TYPE_CHECKING:
    from alliance_meta.evidence.umbrellas import Umbrella as Published

EVIDENCE_SHORT = {
    "author abstract": "abstract",
    "author table or page": "table or page",
    "secondary citation": "secondary",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Piece(ABC):
    """One view of the published results: the files it comes from, its numbers for prose, the articles it rests on."""

    origins: tuple[Provenance, ...]
    quantities: dict[str, Quantity]
    citations: tuple[str, ...]

    @abstractmethod
    def table(self, item: Item) -> Table:
        """Return a table that the item asks for."""

    @abstractmethod
    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of a figure and its caption."""


Pieces = Mapping[str, Piece]


@dataclass(frozen=True, eq=False)
class Registry(Piece):
    """The published results that an umbrella report shows, and those it leaves out."""

    shown: Published

    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of the umbrella's forest plot, which has no diamond, and its caption."""
        from alliance_meta.plots import published_forest_data

        own = self.shown.frame
        printed = pd.Series(_as_printed(own), index=own.index)
        as_printed = ~(own["sign_flipped"].astype(bool) | own["converted"].astype(bool))
        frame = pd.DataFrame(
            {
                "label": own["label"] + [_superscript(codes) for codes in own["codes"]],
                "group": own["heading"],
                "r": own["estimate"],
                "ci_lb": own["ci_lb"],
                "ci_ub": own["ci_ub"],
                "k": own["k"],
                "n": own["n_total"],
                "evidence": [EVIDENCE_SHORT.get(level, level) for level in own["evidence_level"]],
                "text": printed.where(as_printed, None),
            }
        )
        # Not the caption, whose references to tables are for the page and not for a title.
        title = "Published alliance-outcome correlations"
        return published_forest_data(frame, title=title), "Published results side by side; nothing is pooled."

    def table(self, item: Item) -> Table:
        """Return the results shown, or the entries left out with the reason."""
        return self._shown(item) if item.table == "umbrella" else self._left_out(item)

    def _shown(self, item: Item) -> Table:
        rows: list[dict[str, Any]] = []
        for heading, group in self.shown.frame.groupby("heading", sort=False):
            rows.append({"group": heading})
            texts = _as_printed(group)
            rows += [
                {
                    **{name: plain_value(record[name]) for name in _SHOWN},
                    "printed": text,
                    "evidence": EVIDENCE_SHORT.get(record["evidence_level"], record["evidence_level"]),
                }
                for record, text in zip(group.to_dict("records"), texts, strict=True)
            ]
        columns = [
            column("label", "Meta-analysis"),
            column("k", "k", "count", blank="–"),
            column("n_total", "N", "count", blank="–"),
            column("estimate", "r", "r"),
            column(["ci_lb", "ci_ub"], "CI", "r_interval", blank="–"),
            column("printed", "As printed"),
            column("evidence", "Read in"),
            column("codes", "Marks"),
        ]
        notes = [f"{code}: {text}." for code, text in self.shown.codes.items()]
        return {
            "caption": item.caption or "Published correlations of alliance and outcome, positive = better outcome.",
            "columns": columns,
            "rows": rows,
            "notes": ["Marks. " + " ".join(notes), "k and N as printed. A dash: not printed where it was read."],
        }

    def _left_out(self, item: Item) -> Table:
        names = ("label", "relation", "metric", "reason")
        rows = [
            {
                **{name: plain_value(record[name]) for name in names},
                "estimate_printed": str(plain_value(record["estimate_printed"]) or "").replace("-", MINUS) or None,
            }
            for record in self.shown.excluded.to_dict("records")
        ]
        columns = [
            column("label", "Entry"),
            column("metric", "Metric", blank="–"),
            column("estimate_printed", "Printed", blank="–"),
            column("reason", "Why it is not shown"),
        ]
        return {"caption": item.caption or "Entries of the registry left out.", "columns": columns, "rows": rows}


def _as_printed(frame: pd.DataFrame) -> list[str]:
    """Return estimate and interval as the paper prints them, sign and all."""
    pairs = zip(frame["estimate_printed"], frame["ci_printed"], strict=True)
    return [f"{estimate} {interval}".strip().replace("-", MINUS) for estimate, interval in pairs]


_SHOWN = ("id", "label", "k", "n_total", "estimate", "ci_lb", "ci_ub", "evidence_level", "codes")


def read_umbrella(spec: Umbrella) -> Registry:
    """Read the registry of published results."""
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.evidence.published_results import published
    from alliance_meta.evidence.umbrellas import umbrella

    shown = umbrella(psychotherapy_only=spec.psychotherapy_only)
    whole = published().set_index("id").loc[list(shown.frame["id"])]
    return Registry(
        shown=shown,
        origins=(load_dataset("published").provenance,),
        quantities=_quantities(shown),
        citations=citations(whole.to_dict("records")),
    )


def _quantities(shown: Published) -> dict[str, Quantity]:
    """Return what prose may say about the umbrella: counts, the range, and every result by its id."""
    frame = shown.frame
    main = frame[frame["psychotherapy"].astype(bool)]
    out = {
        "shown": quantity(len(frame), "count", "Results shown"),
        "left_out": quantity(len(shown.excluded), "count", "Entries left out"),
        "with_interval": quantity(int(frame["ci_lb"].notna().sum()), "count", "Results with an interval"),
        "repeats": quantity(int((frame["role"] != "main").sum()), "count", "Results on studies shown twice"),
        "turned": quantity(int(frame["sign_flipped"].sum()), "count", "Signs turned"),
        "lowest": quantity(float(main["estimate"].min()), "r", "Lowest correlation in psychotherapy"),
        "highest": quantity(float(main["estimate"].max()), "r", "Highest correlation in psychotherapy"),
    }
    out |= note_quantities(note for note in shown.notes if note.code != "caution")
    for record in frame.to_dict("records"):
        name = str(record["id"])
        out[name] = quantity(record["estimate"], "r", record["label"])
        out[f"{name}_ci"] = quantity([record["ci_lb"], record["ci_ub"]], "r_interval", f"{record['label']}, CI")
        out[f"{name}_k"] = quantity(record["k"], "count", f"{record['label']}, k")
    return out


def citations(records: Iterable[Mapping[Any, Any]]) -> tuple[str, ...]:
    """Return one reference per article, with what was read of its authors, year, title and DOI."""
    found: dict[tuple[str, str, str], str] = {}
    for record in records:
        authors, year = str(plain_value(record["authors"]) or "("), plain_value(record["year"])
        name = "[Authors not named where it was read]" if authors.startswith("(") else authors
        when = f"({int(year)})" if year is not None else "(no year read)"
        title, doi = str(plain_value(record["title"]) or "[Title not read]"), plain_value(record["doi"])
        key = (name, when, str(doi or title))
        text = " ".join(
            part for part in (f"{name} {when}.", f"{title.rstrip('. ')}.", f"doi:{doi}" if doi else "") if part
        )
        found[key] = max(found.get(key, ""), text, key=len)
    return tuple(found.values())


def printed(fits: Iterable[Fitted]) -> dict[str, Quantity]:
    """Return the printed results of the data sets in use, by name, as text: never rounded, never computed."""
    out = {}
    for fitted in fits:
        for result in fitted.table.card.published if fitted.table.card else ():
            name = result.id.replace("-", "_")
            for key, text in result.printed.items():
                out[f"{name}_{key}"] = quantity(text, "text", f"{result.label}: {key}, as printed")
            if "estimate" in result.printed:
                out[name] = quantity(result.printed["estimate"], "text", f"{result.label}, as printed")
            if "ci_lb" in result.printed:
                ends = f"[{result.printed['ci_lb']}, {result.printed['ci_ub']}]"
                out[f"{name}_ci"] = quantity(ends, "text", f"{result.label}: interval, as printed")
    return out


def reproduce_table(item: Item, folder: Path) -> tuple[Table, dict[str, Quantity]]:
    """Return printed against ours for one data set, and the numbers prose may quote from it."""
    from alliance_meta.evidence.reproduction import reproduce

    frame = reproduce(located(item.of[0], folder=folder))
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    quantities: dict[str, Quantity] = {}
    for number, (name, group) in enumerate(frame.groupby("result", sort=False), 1):
        records = group.to_dict("records")
        first = records[0]
        source = "; ".join(dict.fromkeys(str(first["source"]).split("; ")))
        rows.append({"group": f"{number}. {_KINDS.get(first['kind'], first['kind'])}: {source}"})
        rows += [_compared(record) for record in records]
        notes.append(escape(f"{number}. Route: {first['route']}. {first['note']}".strip()))
        key = str(name).replace("-", "_")
        quantities[f"{key}_route"] = quantity(first["route"], "text", f"{name}: route")
        for record in records:
            kind = "count" if record["quantity"] in ("k", "N") else "r3"
            quantities[f"{key}_{record['quantity']}"] = quantity(record["ours"], kind, f"{name}: {record['quantity']}")
    columns = [
        column("quantity", "Quantity"),
        column("printed", "Printed", align="right"),
        column("ours", "Ours", "r3"),
        column("agrees", "Same to the printed digits?"),
    ]
    caption = item.caption or f"Printed against ours: {item.of[0]}."
    return {"caption": caption, "columns": columns, "rows": rows, "notes": notes}, quantities


_KINDS = {"published": "As the article prints it", "recalculated": "Later paper", "documentation": "Documentation"}
_QUANTITIES = {"estimate": "r", "ci_lb": "CI, lower limit", "ci_ub": "CI, upper limit", "tau2": "τ²"}
EXTRA_DECIMALS = 2


def _compared(record: Mapping[Any, Any]) -> dict[str, Any]:
    """Return one printed number beside ours, ours with two decimals more where few were printed."""
    printed = str(record["printed"])
    decimals = len(printed.partition(".")[2])
    kind = "count"
    if decimals:
        shown = decimals + (EXTRA_DECIMALS if decimals <= EXTRA_DECIMALS else 0)
        kind = f"{'r' if printed.lstrip('-')[0] == '.' else 'fixed'}{shown}"
    verdict = {True: "yes", False: "no"}.get(record["agrees"], "not run")
    return {
        "result": record["result"],
        "quantity": _QUANTITIES.get(record["quantity"], record["quantity"]),
        "printed": printed,
        "ours": {"value": record["ours"], "format": kind},
        "agrees": verdict,
    }


def _superscript(codes: str) -> str:
    kept = [code for code in codes.split() if code in ("sub", "same", "sign", "np")]
    return f" ({', '.join(kept)})" if kept else ""
