"""Blank coding sheets: CSV, Excel with drop-downs, a datapackage and the codebook, all from the contract."""

from __future__ import annotations

import io
import json
import re
import textwrap
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.description import PACKAGE, fields_of
from alliance_meta.effects.contract.schema import CONTRACT, Column, Contract
from alliance_meta.effects.datasets import data_root, read_resource_text
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import write_bytes
from alliance_meta.notes import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100
COLUMNS = ("title", "need", "type", "unit", "values", "description", "example")


def codebook(column: str | None = None) -> pd.DataFrame:
    """Return the codebook of a coding sheet: its columns, or the words of one of them.

    Parameters
    ----------
    column : str, optional
        A column, for its vocabulary; by default all columns.

    Returns
    -------
    DataFrame
        One row per column, indexed by its name: ``title need type unit values description example``, where `values`
        is the range of numbers or the permitted words. With `column`, one row per word, with its ``meaning``.

    Raises
    ------
    InputError
        A column that the contract does not have, or one without a vocabulary.

    Examples
    --------
    >>> from alliance_meta.effects import codebook
    >>> codebook().loc["r", ["need", "values"]].tolist()
    ['required', '(-1, 1)']
    >>> codebook("alliance_rater").index.tolist()[:3]
    ['client', 'therapist', 'observer']
    """
    import pandas as pd

    if column is None:
        rows = [_row(one) for one in CONTRACT.columns]
        return pd.DataFrame(rows, columns=["column", *COLUMNS]).set_index("column")
    one = column_of(column)
    if one.vocabulary is None:
        values = one.bounds or ("yes or no" if one.type == "boolean" else "any text")
        raise InputError(f"{column!r} has no vocabulary; it holds {values}: {one.description}")
    words = [(term.value, term.meaning) for term in one.vocabulary.terms]
    return pd.DataFrame(words, columns=["word", "meaning"]).set_index("word")


def column_of(name: str) -> Column:
    """Return a column of the contract, or an `InputError` with the nearest name."""
    column = CONTRACT.column(name)
    if column is None:
        known = [one.name for one in CONTRACT.columns]
        raise InputError(
            f"the contract has no column {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}"
        )
    return column


def values_of(column: Column) -> str:
    """Return what a column may hold, in a few words."""
    if column.vocabulary is not None:
        return ", ".join(column.vocabulary.values)
    return "yes, no" if column.type == "boolean" else column.bounds


def _row(column: Column) -> tuple[str, ...]:
    kind = "words" if column.vocabulary is not None else "yes/no" if column.type == "boolean" else column.type
    return (
        column.name,
        column.title,
        column.need,
        "text" if kind == "string" else kind,
        column.unit or "",
        values_of(column),
        column.description,
        column.example,
    )


def rows_of(contract: Contract) -> list[tuple[str, ...]]:
    """Return the codebook as rows of text: name, then what `COLUMNS` lists."""
    return [_row(column) for column in contract.columns]


def as_text(contract: Contract) -> str:
    """Return the codebook for a terminal, at most 100 columns wide."""
    lines = [f"{contract.title}, version {contract.version}", ""]
    for column in contract.columns:
        lines += _text(column)
    return "\n".join(lines)


def column_as_text(column: Column) -> str:
    """Return one column for a terminal, with every word of its vocabulary."""
    lines = _text(column)
    if column.vocabulary is not None:
        width = max(map(len, column.vocabulary.values))
        lines += [f"  {term.value:<{width}}  {term.meaning}" for term in column.vocabulary.terms]
    return "\n".join(lines)


def _text(column: Column) -> list[str]:
    name, _, need, kind, unit, values, description, example = _row(column)
    facts = ", ".join(fact for fact in (need, kind, unit, values if column.vocabulary is None else "") if fact)
    lines = [f"{name} ({facts})"]
    lines += _wrapped(f"{description}{f' For example: {example}.' if example else ''}")
    if column.vocabulary is not None:
        lines += _wrapped(f"One of: {values}.")
    return lines


def as_markdown(contract: Contract) -> str:
    """Return the codebook as a page."""
    lines = [
        "# Codebook",
        "",
        f"{contract.title}, version {contract.version}. One row is one correlation. Empty cells are missing values.",
        "`alliance-meta check FILE` holds a sheet against this page, `alliance-meta template` writes a blank one, and",
        "both come from the same declaration as this page. A `datapackage.json` beside a sheet may add words and",
        "columns.",
        "",
        "| column | need | holds | what stands in it |",
        "|---|---|---|---|",
    ]
    for column in contract.columns:
        name, _, need, kind, unit, values, description, example = _row(column)
        shown = f"[words](#{name})" if column.vocabulary is not None else " ".join(filter(None, (kind, values, unit)))
        sample = f" For example `{example}`." if example else ""
        lines.append(f"| `{name}` | {need} | {shown} | {description}{sample} |")
    for column in contract.columns:
        if column.vocabulary is not None:
            lines += ["", f"## {column.name}", "", column.description, "", "| word | meaning |", "|---|---|"]
            lines += [f"| `{term.value}` | {term.meaning} |" for term in column.vocabulary.terms]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


STEM = "effects"
PRINTED = {"k": "k", "N": "n_total", "estimate": "estimate", "ci_lb": "ci_low", "ci_ub": "ci_high"}
LEVEL_PRINTED = {name: name for name in ("k", "n_effects", "estimate", "se")} | {"ci_lb": "ci_low", "ci_ub": "ci_high"}
DIRECTION = "positive = a better alliance goes with a better outcome"


def write_template(folder: str | Path, name: str | None = None) -> list[Path]:
    """Write a blank coding sheet for whoever holds the papers.

    Four files: ``effects.csv`` and ``effects.xlsx`` (type into one of them; the workbook has drop-down lists and the
    codebook), ``datapackage.json`` (what the columns are, and the printed result to compare with) and
    ``CODEBOOK.md``. Once typed, `check_coded` finds mistakes and `reproduce` says whether the sheet gives the
    published number and, if not, which choice comes nearest.

    Parameters
    ----------
    folder : str or Path
        Folder to write into; made if it is not there.
    name : str, optional
        A published meta-analysis, by its ``id`` in `published`: ``"horvath2011"``, ``"martin2000"``,
        ``"alldredge2021"``, ... Its k, r and interval go into the datapackage as printed, and so do the moderators
        it names without a value, as something to rebuild. By default none.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If no published result has this name.
    CannotRunError
        If one of the files is there already: typed rows are never overwritten.

    Examples
    --------
    >>> import tempfile
    >>> from alliance_meta import write_template
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_template(folder, "horvath2011")]
    ['effects.csv', 'effects.xlsx', 'datapackage.json', 'CODEBOOK.md']
    """
    files = template_files(name)
    target = Path(folder)
    there = [file for file in files if (target / file).exists()]
    if there:
        raise CannotRunError(
            f"{target} holds {', '.join(there)} already, which may hold typed rows; name another folder"
        )
    return [write_bytes(target / file, data) for file, data in files.items()]


def template_files(name: str | None = None) -> dict[str, bytes]:
    """Return the files of a template by their names."""
    contract = blank_contract()
    entry = None if name is None else _entry(name)
    header = ",".join(column.name for column in contract.columns)
    package = json.dumps(blank_package(contract, entry), indent=2, ensure_ascii=False)
    return {
        f"{STEM}.csv": f"{header}\n".encode(),
        f"{STEM}.xlsx": blank_workbook(contract),
        PACKAGE: f"{package}\n".encode(),
        "CODEBOOK.md": as_markdown(contract).encode(),
    }


def blank_contract() -> Contract:
    """Return the contract without the columns that a blank sheet does not need."""
    columns = tuple(column for column in CONTRACT.columns if column.blank)
    return Contract(title=CONTRACT.title, version=CONTRACT.version, columns=columns)


def blank_package(contract: Contract, entry: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the datapackage of a blank sheet, with the printed result of `entry`."""
    title = contract.title if entry is None else f"{contract.title}: studies of {_whose(entry)}"
    package: dict[str, Any] = {
        "profile": "tabular-data-package",
        "name": STEM if entry is None else entry["id"].lower().replace(" ", "-"),
        "title": title,
        "description": "Typed from the primary papers, one row per correlation. Say here who typed it, and from what.",
        "version": "0.1.0",
    }
    if entry is not None:
        source = {"title": f"{_whose(entry)}. {entry['title']}".strip(". ")}
        if entry["doi"]:
            source |= {"doi": entry["doi"], "path": f"https://doi.org/{entry['doi']}"}
        package["sources"] = [source]
    package["resources"] = [
        {
            "name": STEM,
            "profile": "tabular-data-resource",
            "path": f"{STEM}.csv",
            "title": title,
            "format": "csv",
            "mediatype": "text/csv",
            "encoding": "utf-8",
            "schema": {"fields": fields_of(contract), "missingValues": ["", "NA"]},
        }
    ]
    package["alliance_meta"] = {
        "contract": contract.version,
        "direction": DIRECTION,
        "published": [] if entry is None else _printed(entry),
        "to_rebuild": [] if entry is None else moderators_to_rebuild(entry["id"]),
    }
    return package


def _entry(name: str) -> dict[str, str]:
    """Return the published result of this name, every cell as text."""
    rows = read_resource_text(data_root() / "published", "results")
    known = rows["id"].tolist()
    if name not in known:
        raise InputError(
            f"no published result is called {name!r}{did_you_mean(name, known)}; there are {', '.join(sorted(known))}"
        )
    row = rows.loc[rows["id"] == name].iloc[0]
    return {str(key): str(value) for key, value in row.items()}


def _whose(entry: Mapping[str, str]) -> str:
    return f"{entry['authors']} ({entry['year']})" if entry["year"] else entry["authors"]


def _printed(entry: Mapping[str, str]) -> list[dict[str, Any]]:
    printed = {key: entry[column] for key, column in PRINTED.items() if entry[column]}
    # A mean difference or a path coefficient cannot come of a table of correlations.
    if entry["metric"] != "r" or "estimate" not in printed:
        return []
    note = f"As {entry['evidence_level']}." if entry["evidence_level"].startswith("secondary") else ""
    if entry["model_as_reported"]:
        note = f"{note} The article's words on its model: {entry['model_as_reported']}.".strip()
    result = PublishedResult(
        id=f"{entry['id']}-printed",
        label=f"{entry['relation']}, {entry['population'] or 'population not stated'}",
        source=_whose(entry),
        where=entry["evidence_location"],
        doi=entry["doi"] or None,
        printed=printed,
        note=note,
    )
    whole = {key: value for key, value in result.to_dict().items() if key not in ("moderator", "subset")}
    return [whole, *_levels(result, entry["id"])]


def _levels(whole: PublishedResult, name: str) -> list[dict[str, Any]]:
    """Return the means at levels of moderators that the article prints; whoever types the sheet names their rows."""
    found = []
    for row in printed_moderators(name):
        printed = {key: row[column] for key, column in LEVEL_PRINTED.items() if row[column]}
        if "estimate" not in printed or not row["level"] or "INTERCEPT" in row["level"]:
            continue
        said = f"{row['moderator']}: {row['level']}"
        level = replace(
            whole,
            id="-".join([name, *re.findall(r"[a-z0-9]+", said.lower())]),
            label=f"Mean at one level of a moderator, {said}",
            printed=printed,
            note=row["notes"],
            moderator=said,
        )
        found.append(level.to_dict())
    return found


LEVELS_AS_CODED = "levels as coded"
VERSUS = " vs "


def moderators_to_rebuild(name: str) -> list[dict[str, Any]]:
    """Return the moderators that an article names without a value of a level, with what it says of them."""
    found: dict[str, dict[str, Any]] = {}
    for row in printed_moderators(name):
        if row["estimate"]:
            continue
        levels = _named_levels(row)
        said = "" if row["notes"].startswith(LEVELS_AS_CODED) else row["level"]
        p = f"p {row['p']}" if row["p"][:1] in ("<", ">") else row["p"] and f"p = {row['p']}"
        one = found.setdefault(
            row["moderator"], {"moderator": row["moderator"], "levels": levels, "printed": [], "notes": row["notes"]}
        )
        one["printed"] += filter(None, [", ".join(filter(None, (said, row["test_statistic"], p)))])
    return list(found.values())


def _named_levels(row: Mapping[str, str]) -> list[str]:
    """Return the levels as far as the article names them: as coded, or two of them against each other."""
    if row["notes"].startswith(LEVELS_AS_CODED):
        return row["level"].split("; ")
    inside = re.search(r"\(([^()]+)\)", row["moderator"])
    for text in (inside[1] if inside else "", row["level"].partition(":")[0]):
        if VERSUS in text:
            return text.split(VERSUS)
    return []


def printed_moderators(name: str) -> list[dict[str, str]]:
    """Return what an article prints of its moderators, every cell as text."""
    rows = read_resource_text(data_root() / "published", "moderators")
    mine = [row == name or name.startswith(f"{row}_") for row in rows["id"]]
    return [{str(key): str(value) for key, value in row.items()} for row in rows[mine].to_dict("records")]


LAST_ROW = 2000
MOMENT = datetime(2000, 1, 1)
SHADES = {"required": "FF1F4E79", "advised": "FF2E75B6", "optional": "FF7F7F7F"}
EXCEL_HINT = 250


def blank_workbook(contract: Contract) -> bytes:
    """Return a workbook with the sheets ``effects``, ``codebook`` and, hidden, ``words``; the same bytes each time."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "effects"
    words = book.create_sheet("words")
    lists = _write_words(words, contract)
    _write_effects(sheet, contract, lists)
    _write_codebook(book.create_sheet("codebook", 1), contract)
    words.sheet_state = "hidden"
    for cell in (cell for page in book for row in page.iter_rows() for cell in row if cell.data_type == "f"):
        cell.data_type = "s"
    stream = io.BytesIO()
    book.save(stream)
    return _without_clock(stream.getvalue())


def _write_words(sheet: Any, contract: Contract) -> dict[str, str]:
    """Write one vocabulary per column; return where each stands."""
    from openpyxl.utils import get_column_letter

    places = {}
    for place, column in enumerate((one for one in contract.columns if one.vocabulary is not None), 1):
        assert column.vocabulary is not None
        for row, word in enumerate((f"words of {column.name}", *column.vocabulary.values), 1):
            sheet.cell(row, place, word)
        letter = get_column_letter(place)
        places[column.name] = f"words!${letter}$2:${letter}${len(column.vocabulary.values) + 1}"
    return places


def _write_effects(sheet: Any, contract: Contract, lists: dict[str, str]) -> None:
    from openpyxl.styles import Font, PatternFill
    from openpyxl.utils import get_column_letter

    for place, column in enumerate(contract.columns, 1):
        letter = get_column_letter(place)
        head = sheet.cell(1, place, column.name)
        head.font = Font(bold=True, color="FFFFFFFF")
        head.fill = PatternFill("solid", fgColor=SHADES[column.need])
        sheet.column_dimensions[letter].width = max(11, len(column.name) + 3)
        if not column.numeric:
            # As text, or a spreadsheet makes a date of session 3-5.
            sheet.column_dimensions[letter].number_format = "@"
        rule = _validation(column, lists)
        if rule is not None:
            rule.add(f"{letter}2:{letter}{LAST_ROW}")
            sheet.add_data_validation(rule)
    sheet.freeze_panes = "A2"


def _validation(column: Column, lists: dict[str, str]) -> Any:
    """Return what Excel checks while a cell is typed, or None."""
    from openpyxl.worksheet.datavalidation import DataValidation

    said: dict[str, Any] = {
        "allow_blank": True,
        "showErrorMessage": True,
        "showInputMessage": True,
        "promptTitle": column.title[:31],
        "prompt": column.description[:EXCEL_HINT],
        "errorTitle": column.name[:31],
    }
    if column.vocabulary is not None:
        text = "Not a word of the vocabulary. Keep it only if datapackage.json adds it."
        return DataValidation("list", formula1=lists[column.name], errorStyle="warning", error=text, **said)
    if column.type == "boolean":
        return DataValidation("list", formula1='"yes,no"', errorStyle="warning", error="yes or no", **said)
    if not column.numeric:
        return None
    low = column.minimum if column.above is None else column.above
    high = column.maximum if column.below is None else column.below
    kind = "whole" if column.type == "integer" else "decimal"
    text = f"A {'whole number' if kind == 'whole' else 'number'}{f' {column.bounds}' if column.bounds else ''}."
    if low is None or high is None:
        least = "-1000000000" if low is None else f"{low:g}"
        return DataValidation(kind, operator="greaterThanOrEqual", formula1=least, error=text, **said)
    return DataValidation(kind, operator="between", formula1=f"{low:g}", formula2=f"{high:g}", error=text, **said)


def _write_codebook(sheet: Any, contract: Contract) -> None:
    from openpyxl.styles import Alignment, Font

    sheet.append(["column", *COLUMNS])
    for row in rows_of(contract):
        sheet.append(row)
    sheet.append([])
    sheet.append(["column", "word", "meaning"])
    second = sheet.max_row
    for column in contract.columns:
        for term in column.vocabulary.terms if column.vocabulary is not None else ():
            sheet.append([column.name, term.value, term.meaning])
    for cell in (*sheet[1], *sheet[second]):
        cell.font = Font(bold=True)
    for letter, width in zip("ABCDEFGH", (20, 24, 12, 10, 14, 48, 60, 20), strict=True):
        sheet.column_dimensions[letter].width = width
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            cell.number_format = "@"
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    sheet.freeze_panes = "B2"


def _without_clock(data: bytes) -> bytes:
    """Return the archive with every time in it set to one and the same moment."""
    stream = io.BytesIO()
    moment = MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "docProps/core.xml":
                part = re.sub(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*", rb"\g<1>" + moment, part)
            entry = zipfile.ZipInfo(name, date_time=MOMENT.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, part)
    return stream.getvalue()
