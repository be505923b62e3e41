"""The plain files of a report: one CSV per table, and the methods as text to paste."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from alliance_meta.encoding import INFINITE, NOT_APPLICABLE
from alliance_meta.reporting import prose
from alliance_meta.tables.inert import inert

Document = Mapping[str, Any]


def table_csv(table: Mapping[str, Any]) -> str:
    """Return a table as CSV, numbers unrounded; an interval takes two columns, or two rows among statistics."""
    keys = [key for column in table["columns"] for key in column["keys"]]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(inert, keys))
    for cells in table["rows"]:
        if "group" in cells:
            continue
        for row in _split(cells):
            writer.writerow([inert(_raw(row.get(key))) for key in keys])
    return stream.getvalue()


def methods_text(document: Document) -> str:
    """Return methods, cautions, data, software and references as plain text."""
    parts = [document["report"]["title"], ""]
    grouped: dict[str, list[str]] = {}
    for analysis in document["analyses"].values():
        grouped.setdefault(analysis["methods"], []).append(analysis["label"])
    if grouped:
        parts += ["METHODS", ""]
        for text, labels in grouped.items():
            parts += [f"{'; '.join(labels)}:", prose.plain(text), ""]
    if document["cautions"]:
        parts += ["WHAT THESE DATA ARE", ""]
        for group in document["cautions"]:
            parts += [f"{'; '.join(group['concerns'])}:"]
            parts += [f"- {prose.plain(text)}" for text in group["texts"]]
            parts.append("")
    parts += ["DATA AND SOFTWARE", ""]
    parts += [f"- {origin['title'] or origin['source']}: SHA-256 {origin['sha256']}" for origin in document["data"]]
    parts.append("- " + ", ".join(f"{name} {number}" for name, number in document["versions"].items()))
    parts += [f"- rebuild with: {document['report']['rebuild']}", "", "REFERENCES", ""]
    for section in document["sections"]:
        for block in section["blocks"]:
            if block["type"] == "references":
                parts += [prose.plain(_without_link(text)) for text in block["items"]]
    return "\n".join(parts).rstrip() + "\n"


def _split(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the record, or one row for each end where its cells hold intervals."""
    cells = {key: value["value"] if _is_quantity(value) else value for key, value in record.items()}
    ends = {key: value for key, value in cells.items() if isinstance(value, list)}
    if not ends:
        return [cells]
    rows = []
    for position, word in enumerate(("lower", "upper")):
        row = {key: value[position] if key in ends else value for key, value in cells.items()}
        first = next(iter(row))
        row[first] = f"{row[first]}, {word}"
        rows.append(row)
    return rows


def _is_quantity(value: Any) -> bool:
    return isinstance(value, Mapping) and "format" in value


def _raw(value: Any) -> Any:
    if isinstance(value, Mapping):
        if INFINITE in value:
            return "Inf" if value[INFINITE] > 0 else "-Inf"
        return "" if NOT_APPLICABLE in value else str(dict(value))
    return "" if value is None else value


def _without_link(text: str) -> str:
    """Undo `[doi.org/x](https://doi.org/x)` to the bare address."""
    head, mark, rest = text.partition("[doi.org/")
    return f"{head}https://doi.org/{rest.partition(']')[0]}" if mark else text
