"""From `results.json` to words: every number written, every placeholder filled, nothing computed.

The view is what the HTML page and the PDF both print, so they cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from alliance_meta.reporting import prose
from alliance_meta.reporting.numbers import reason, show
from alliance_meta.tables.format import NOT_AVAILABLE

Document = Mapping[str, Any]
NUMERIC_ALIGN = "right"

# Print: characters of table text on a line, the gap between columns, and what needs no line break.
CHARACTERS_PER_LINE = 112
GAP = 3
SHORT = 12
_WORD = re.compile(r"[\s-]")


def make_view(document: Document) -> dict[str, Any]:
    """Return the pages' content in order: headings, runs of words, tables of text, figure slots."""
    numbering = number_blocks(document)

    def lookup(name: str) -> str:
        path, _, kind = name.partition(":")
        group, _, key = path.partition(".")
        if group == "ref":
            return numbering[key]
        entry = document["quantities"][group][key]
        return show(entry["value"], kind or entry["format"])

    def words(text: str) -> str:
        return prose.fill(text, lookup)

    return {
        "title": document["report"]["title"],
        "subtitle": words(document["report"]["subtitle"]),
        "lang": document["report"]["lang"],
        "name": document["report"]["name"],
        "cautions": [
            {"concerns": "; ".join(group["concerns"]), "items": [prose.inline(text) for text in group["texts"]]}
            for group in document["cautions"]
        ],
        "sections": [
            {
                "id": section["id"],
                "heading": section["heading"],
                "blocks": [made for block in section["blocks"] for made in _blocks(block, document, numbering, words)],
            }
            for section in document["sections"]
        ],
        "version": document["versions"].get("alliance_meta", ""),
    }


def number_blocks(document: Document) -> dict[str, str]:
    """Return "Figure 1", "Table 1", ... for every figure and table, by id, in reading order."""
    count = {"figure": 0, "table": 0}
    names = {}
    for section in document["sections"]:
        for block in section["blocks"]:
            if block["type"] in count:
                count[block["type"]] += 1
                names[block["id"]] = f"{block['type'].capitalize()} {count[block['type']]}"
    return names


def _blocks(
    block: Mapping[str, Any], document: Document, numbering: Mapping[str, str], words: Any
) -> list[dict[str, Any]]:
    kind = block["type"]
    if kind == "text":
        return prose.blocks(words(block["text"]))
    if kind == "subheading":
        return [{"type": "subheading", "text": block["text"], "id": block["id"]}]
    if kind == "code":
        return [dict(block)]
    if kind == "references":
        return [{"type": "list", "items": [prose.inline(text) for text in block["items"]]}]
    if kind == "figure":
        figure = document["figures"][block["id"]]
        return [
            {
                "type": "figure",
                "id": block["id"],
                "number": numbering[block["id"]],
                "caption": prose.inline(words(figure["caption"])),
                "title": figure["title"],
                "description": figure["description"],
                "notes": [prose.inline(note) for note in figure["notes"]],
            }
        ]
    return [view_table(document["tables"][block["id"]], block["id"], numbering[block["id"]], words)]


def view_table(table: Mapping[str, Any], identifier: str, number: str, words: Any) -> dict[str, Any]:
    """Return a table of text: headers, alignments, rows and the notes below it."""
    columns = table["columns"]
    reasons: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for record in table["rows"]:
        if "group" in record:
            rows.append({"group": str(record["group"])})
            continue
        cells = []
        for column in columns:
            text, why = _cell(record, column)
            if why:
                reasons[why] = None
            cells.append(text)
        rows.append({"cells": cells})
    notes = [words(note) for note in table.get("notes", ())]
    if reasons:
        notes.append(f"{NOT_AVAILABLE}: {'; '.join(reasons)}.")
    return {
        "type": "table",
        "id": identifier,
        "number": number,
        "caption": prose.inline(words(table["caption"])),
        "headers": [column["label"] for column in columns],
        "aligns": [column.get("align", "left") for column in columns],
        "widths": column_widths(columns, [row["cells"] for row in rows if "cells" in row]),
        "rows": rows,
        "notes": [prose.inline(note) for note in notes],
    }


def column_widths(columns: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the share of the line each column of words gets in print; 0 where its content decides.

    >>> column_widths([{"align": "left", "label": "Study"}, {"align": "right", "label": "r"}], [["A 2001", ".2"]])
    [0, 0]
    """
    cells = [[column["label"], *(row[i] for row in rows)] for i, column in enumerate(columns)]
    longest = [max(map(len, own)) for own in cells]
    room = CHARACTERS_PER_LINE - GAP * len(columns) - sum(longest)
    words = [
        column.get("align") != NUMERIC_ALIGN and most > SHORT for column, most in zip(columns, longest, strict=True)
    ]
    if room >= 0 or not any(words):
        return [0] * len(columns)
    least = [max(len(part) for text in own for part in _WORD.split(text)) + 1 for own in cells]
    wish = [(sum(map(len, own)) / len(own) + most) / 2 for own, most in zip(cells, longest, strict=True)]
    room += sum(most - low for most, low, flexible in zip(longest, least, words, strict=True) if flexible)
    total = sum(own for own, flexible in zip(wish, words, strict=True) if flexible)
    return [
        round(low + max(room, 0) * own / total) if flexible else 0
        for low, own, flexible in zip(least, wish, words, strict=True)
    ]


def _cell(record: Mapping[str, Any], column: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return one cell's text, and why there is no number if there is none."""
    keys = column["keys"]
    value = record.get(keys[0]) if len(keys) == 1 else [record.get(key) for key in keys]
    kind = column["format"]
    if isinstance(value, Mapping) and "format" in value:
        value, kind = value["value"], value["format"]
    if _is_blank(value):
        return column.get("blank", ""), None
    return show(value, kind), reason(value)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(one is None for one in value))
