"""What a report shows of the review itself: the flow of records, risk of bias, and the map of the evidence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.flow import LISTS, Flow, read_flow
from alliance_meta.errors import AllianceMetaWarning, CannotRunError, CodingError, InputError
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.items.evidence import Piece
from alliance_meta.reporting.spec import Certainty, FlowTable, Item
from alliance_meta.reporting.tables import Table, column, own_column
from alliance_meta.reporting.words import marked, tr
from alliance_meta.reporting.writing import Quantity, escape, note_quantities, quantity

if TYPE_CHECKING:
    import pandas as pd

PAGE = (
    "Page, M. J., McKenzie, J. E., Bossuyt, P. M., Boutron, I., Hoffmann, T. C., Mulrow, C. D., ... Moher, D. (2021). "
    "The PRISMA 2020 statement: An updated guideline for reporting systematic reviews. *BMJ*, 372, n71. "
    "doi:10.1136/bmj.n71"
)
CROSSED = "+"
CERTAINTY, GRADE = "certainty", "guyatt2008"
# Key of a certainty -> the head of its column, and the words that its cells hold.
DOMAINS = marked(
    {
        "risk_of_bias": "Risk of bias",
        "inconsistency": "Inconsistency",
        "indirectness": "Indirectness",
        "imprecision": "Imprecision",
        "publication_bias": "Publication bias",
        "judgement": "Certainty",
    }
)
# How the name of a box begins -> the part of the table that it stands in; boxes whose lines need their heading.
GROUPS = marked(
    {
        "previous": "Previous studies",
        "other": "Other methods",
        "included": "Included",
        "total": "Included",
        "": "Databases and registers",
    }
)
HEADED = ("identified", "removed", "reports excluded", "other identified", "other reports excluded")


@dataclass(frozen=True, eq=False, kw_only=True)
class Flowed(Piece):
    """The flow of records, its diagram and its numbers."""

    flow: Flow

    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of the PRISMA 2020 diagram and its caption."""
        from alliance_meta.plots import prisma_data

        frame = _noted_below(prisma_data(self.flow, title="Flow of records"))
        return frame, tr("Flow of records through the review (PRISMA 2020).")

    def table(self, item: Item) -> Table:
        """Return every number of the diagram, box by box."""
        frame, caption = self.figure(item)
        rows: list[dict[str, Any]] = []
        group = heading = parent = ""
        for row in frame[frame["box"] != ""].to_dict("records"):
            now = next((words for start, words in GROUPS.items() if row["box"].startswith(start)), GROUPS[""])
            if now != group:
                rows.append({"group": tr(now)})
                group = now
            label = str(row["label"])
            if row["kind"] == "box":
                heading = parent = label.removesuffix(":")
            elif row["kind"] == "part":
                label = f"{parent}: {label}"
            elif row["box"] in HEADED:
                parent = label = f"{heading}: {label}"
            if row["key"]:
                rows.append({"label": label, "n": None if row["n"] != row["n"] else int(row["n"])})
        notes = [note.message for note in self.flow.notes]
        columns = [column("label", "Step"), column("n", "n", "count", blank=tr("not reported"))]
        return {"caption": item.caption or caption, "columns": columns, "rows": rows, "notes": notes}


def flow_problems(spec: object, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the numbers of ``[flow]``, if there is one."""
    if not isinstance(spec, FlowTable):
        return
    if spec.file is not None and spec.model_extra:
        yield f"[flow]: file and {', '.join(spec.model_extra)}; write the numbers here or name the file, not both"
        return
    try:
        _read(spec, folder)
    except CodingError as error:
        yield from (f"[flow]: {problem}" for problem in error.problems)
    except (InputError, CannotRunError) as error:
        yield f"[flow]: {error}"


def read_flowed(spec: FlowTable, folder: Path, fits: Sequence[Fitted]) -> Flowed:
    """Read the flow and compare its included studies with those of the analysis that has most."""
    largest = max(fits, key=lambda one: one.effects.n_studies, default=None)
    flow = _read(spec, folder, None if largest is None else largest.effects)
    numbers = {key: flow.number(key) for key in (*flow.counts, *(key for key in LISTS if key in flow.parts))}
    quantities: dict[str, Quantity] = {key: quantity(n, "count", flow.label(key)) for key, n in numbers.items()}
    return Flowed(
        flow=flow,
        origins=() if spec.file is None else (flow.provenance,),
        quantities=quantities | note_quantities(flow.notes),
        citations=(PAGE,),
    )


def _read(spec: FlowTable, folder: Path, table: Any = None) -> Flow:
    source: Any = dict(spec.model_extra or {}) if spec.file is None else folder / spec.file
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        return read_flow(source, check=spec.check, table=table)


def rob_figure(item: Item, fitted: Fitted) -> pd.DataFrame:
    """Return the frame of the risk of bias: a row for each study, or the weight of each judgement."""
    from alliance_meta.plots import rob_data

    return _noted_below(
        rob_data(
            fitted.fit,
            kind="bar" if item.figure == "rob_bar" else "traffic",
            domains=item.columns or None,
            title=f"Risk of bias: {fitted.spec.label}",
        )
    )


def certainty_table(judged: Mapping[str, Certainty], fits: Mapping[str, Fitted]) -> Table:
    """Return the author's judgement of the evidence, one row for each analysis, with the reasons below."""
    columns = [column("label", "Analysis"), *(own_column(key, tr(head), blank="–") for key, head in DOMAINS.items())]
    rows, notes = [], [tr("In the words of GRADE. It is a judgement: no number of this report decides it.")]
    for name, one in judged.items():
        label = fits[name].spec.label
        said = {key: word for key in DOMAINS if (word := getattr(one, key)) is not None}
        rows.append({"label": label, **{key: tr(word) for key, word in said.items()}})
        notes += [f"{escape(label)}: {one.reason}"] if one.reason else []
    caption = tr("Certainty of the evidence, as judged by the author.")
    return {"caption": caption, "columns": columns, "rows": rows, "notes": notes}


def _noted_below(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame without the notes in its picture: a report prints them under it."""
    frame.attrs["bottom"] = []
    return frame


def map_figure(item: Item, fitted: Fitted) -> pd.DataFrame:
    """Return the frame of the map of the evidence: `columns` down, `by` across."""
    from alliance_meta.plots import evidence_map_data

    across = [name.strip() for name in (item.by or "time").split(CROSSED)]
    title = f"Evidence map: {fitted.spec.label}"
    return evidence_map_data(fitted.fit, rows=item.columns or "measure", columns=across, title=title)


# Figure -> its caption and what makes its frame.
FIGURES: Mapping[str, tuple[str, Any]] = {
    "rob": (marked("{label}: risk of bias of every study."), rob_figure),
    "rob_bar": (marked("{label}: how much of the evidence has which risk of bias."), rob_figure),
    "evidence_map": (marked("{label}: how many effects and studies there are of each combination."), map_figure),
}
