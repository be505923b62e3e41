"""`deposit`: a folder ready for an archive, made of a coding sheet."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from alliance_meta import __version__
from alliance_meta.effects.contract.description import PACKAGE, describe, fields_of
from alliance_meta.effects.contract.schema import Column, Contract
from alliance_meta.effects.contract.template import COLUMNS, DIRECTION, rows_of
from alliance_meta.effects.exchange.export import sheet_csv
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.examine import Reading, examine
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.errors import CodingError, InputError, problem_lines
from alliance_meta.files import sha256, write_folder
from alliance_meta.notes import check_option
from alliance_meta.tables.document import Table, html_table
from alliance_meta.tables.format import inert
from alliance_meta.tables.pdf import WORDS, typeset

Licence = Literal["CC0-1.0", "CC-BY-4.0", "ODbL-1.0"]
# Title, address, and what it allows.
LICENCES = {
    "CC0-1.0": (
        "Creative Commons Zero 1.0 Universal",
        "https://creativecommons.org/publicdomain/zero/1.0/",
        "Everybody may use these data for anything; the authors waive their rights as far as the law allows.",
    ),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/",
        "Everybody may use these data for anything, if they name the authors and say what they changed.",
    ),
    "ODbL-1.0": (
        "Open Data Commons Open Database License 1.0",
        "https://opendatacommons.org/licenses/odbl/1-0/",
        "Everybody may use these data, if they name the authors and share a changed database under the same licence.",
    ),
}
SYNTHETIC = "SYNTHETIC: made-up data; no number comes from a study."
CRATE = "ro-crate-metadata.json"
FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
}
MEANINGS = {
    PACKAGE: "What the columns are, for programs (Frictionless Data Package)",
    "codebook.html": "What the columns are, for readers",
    "codebook.pdf": "The same to print",
    "checks.txt": "What the checks of the sheet found",
    "LICENSE.txt": "The licence of the data",
    "README.md": "What this folder holds",
}


@dataclass(frozen=True)
class Person:
    """Somebody who made the data: a name, and the ORCID where there is one."""

    name: str
    orcid: str | None = None

    @classmethod
    def from_text(cls, text: str) -> Person:
        """Read ``Name`` or ``Name; ORCID``.

        >>> Person.from_text("Ada Lovelace; 0000-0002-1825-0097").orcid
        'https://orcid.org/0000-0002-1825-0097'
        """
        name, _, number = (part.strip() for part in text.partition(";"))
        if not name:
            raise InputError(f"creators: {text!r} names nobody; write 'Name' or 'Name; ORCID'")
        if not number:
            return cls(name)
        found = re.fullmatch(r"(?:https?://orcid\.org/)?((?:[0-9]{4}-){3}[0-9]{3}[0-9X])", number)
        if found is None or not _is_orcid(found[1]):
            raise InputError(f"creators: {number!r} is no ORCID (like 0000-0002-1825-0097); check its digits")
        return cls(name, f"https://orcid.org/{found[1]}")


def _is_orcid(text: str) -> bool:
    """Check the last digit (ISO 7064, mod 11-2)."""
    *digits, last = list(text.replace("-", ""))
    total = 0
    for digit in digits:
        total = (total + int(digit)) * 2
    return "0123456789X"[(12 - total % 11) % 11] == last


@dataclass(frozen=True)
class Deposit:
    """What is said of a deposit."""

    title: str
    description: str
    licence: str
    creators: tuple[Person, ...]
    date: str | None  # date of publication; None leaves it to the archive
    table: CodedTable
    contract: Contract  # the columns that the sheet has
    file: str  # name of the sheet in the folder
    contents: str  # what is in the sheet, in a sentence
    published: tuple[dict[str, Any], ...] = ()  # printed results that the sheet's description names

    @property
    def names(self) -> str:
        """The names of the creators."""
        return ", ".join(one.name for one in self.creators)

    @property
    def citation(self) -> str:
        """How to cite, as far as it is known before the archive gives a DOI."""
        year = self.date[:4] if self.date else "[year]"
        return f"{self.names} ({year}). {self.title} [Data set]. [The archive's name and DOI]."


def deposit(
    path: str | Path,
    folder: str | Path,
    *,
    title: str,
    creators: Sequence[str],
    licence: Licence = "CC0-1.0",
    description: str = "",
    date: str | None = None,
    **reading: Any,
) -> list[Path]:
    r"""Write a folder with all that an archive and its readers need of a coding sheet; nothing is uploaded.

    The sheet (UTF-8, decimal points, our names of columns), ``datapackage.json`` (Frictionless), ``codebook.html`` and
    ``codebook.pdf`` with the columns that it has, ``README.md``, ``LICENSE.txt``, ``checks.txt`` with what
    the checks found, and ``ro-crate-metadata.json`` (RO-Crate 1.1, https://w3id.org/ro/crate/1.1) with the hash of each
    file.

    Parameters
    ----------
    path : str or Path
        The coding sheet. Columns of your own are best described in a ``datapackage.json`` beside it.
    folder : str or Path
        The folder to write. Other files that are in it stay.
    title : str
        Title of the data set.
    creators : sequence of str
        Who made it: ``"Name"`` or ``"Name; ORCID"``.
    licence : {"CC0-1.0", "CC-BY-4.0", "ODbL-1.0"}
        Licence of the data.
    description : str
        What the sheet is about; by default how many effects, studies and people it holds.
    date : str, optional
        Date of publication, ``YYYY-MM-DD``; by default it is left to the archive, though RO-Crate demands one.
    **reading
        As for `read_coded`: ``ri ni yi vi sei measure sheet encoding missing study``.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    CodingError
        If the sheet has errors; a sheet is mended before it is shared.
    InputError
        No title, no creator, an ORCID with a wrong digit or a date of another form.
    CannotRunError
        If the sheet or the folder cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import alliance_meta as am
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = Path(folder, "sheet.csv")
    ...     _ = sheet.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,-.02,120\n")
    ...     files = am.effects.deposit(sheet, Path(folder, "out"), title="Alliance in two trials", creators=["Ada Bo"])
    >>> [file.name for file in files][:3]
    ['effects.csv', 'datapackage.json', 'codebook.html']
    """
    check_option("licence", licence, Licence)
    if not title.strip() or isinstance(creators, str) or not creators:
        raise InputError("a deposit needs a title and a list of creators, each 'Name' or 'Name; ORCID'")
    if date is not None and re.fullmatch(r"[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?", date) is None:
        raise InputError(f"date={date!r} is no date; write it as 2026-11-30")
    people = tuple(map(Person.from_text, creators))
    found = examine(path, hold="check", **reading)
    if found.table is None or found.errors:
        raise CodingError(found.errors, source=found.source)
    contract = _used(describe(Path(path), Findings()).contract, found.table.frame)
    synthetic = found.table.provenance.synthetic
    contents = found.contents.sentence if found.contents is not None else f"{found.table.k} rows"
    text = description.strip() or f"Effects of an alliance-outcome meta-analysis: {contents}."
    about = Deposit(
        title=f"SYNTHETIC: {title}" if synthetic and "synthetic" not in title.lower() else title,
        description=f"{SYNTHETIC} {text}" if synthetic else text,
        licence=licence,
        creators=people,
        date=date,
        table=found.table,
        contract=contract,
        # A file whose name begins so is labelled as made up wherever it is read.
        file="synthetic_effects.csv" if synthetic else "effects.csv",
        contents=contents,
        published=tuple(one.to_dict() for one in found.published),
    )
    files = _files(about, found)
    write_folder(Path(folder), files, ours=files)
    return [Path(folder) / name for name in files]


def _used(contract: Contract, frame: pd.DataFrame) -> Contract:
    """Return the contract with the columns of a sheet only, in its order, own ones as far as their cells tell."""
    columns = []
    for name in map(str, frame):
        cells = frame[name]
        numeric = pd.api.types.is_numeric_dtype(cells)
        known = contract.column(name) or Column(name=name, title=name, description="Not described by the authors.")
        kind = known.type if numeric == known.numeric else "string"
        if numeric and not known.numeric:
            kind = "number"
        if kind == "number" and contract.column(name) is None and (cells.dropna() == cells.dropna().round()).all():
            kind = "integer"
        words = known.vocabulary
        if words is not None and (numeric or not set(cells.dropna()) <= set(words.values)):
            words = None
        rules = {
            "name": name,
            "type": kind,
            "vocabulary": words,
            "filled": bool(known.filled and cells.notna().all()),
            "unique": bool(known.unique and cells.is_unique),
            "family": None,
            "also": (),
        }
        columns.append(known.model_copy(update=rules))
    return Contract(title=contract.title, version=contract.version, columns=tuple(columns))


def _files(about: Deposit, found: Reading) -> dict[str, bytes]:
    files = {about.file: sheet_csv(about.table.frame)}
    files[PACKAGE] = _json(_package(about, files[about.file].encode()))
    files["checks.txt"] = _checks(about, found)
    title, address, allows = LICENCES[about.licence]
    files["LICENSE.txt"] = f"{about.title}\n\n{title} ({about.licence})\n{address}\n\n{allows}\n"
    files["README.md"] = _readme(about)
    data = {name: text.encode() for name, text in files.items()}
    data |= {"codebook.html": _codebook(about).encode(), "codebook.pdf": typeset(_view(about), {})}
    data = {name: data[name] for name in (about.file, *MEANINGS)}
    return {**data, CRATE: _json(_crate(about, data)).encode()}


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _package(about: Deposit, sheet: bytes) -> dict[str, Any]:
    title, address, _ = LICENCES[about.licence]
    people = [
        {"title": one.name, "role": "author", **({"path": one.orcid} if one.orcid else {})} for one in about.creators
    ]
    stem = about.file.removesuffix(".csv")
    fields = [{**field, "name": inert(field["name"])} for field in fields_of(about.contract)]
    resource = {
        "name": stem,
        "profile": "tabular-data-resource",
        "path": about.file,
        "title": about.title,
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "bytes": len(sheet),
        "hash": f"sha256:{sha256(sheet)}",
        "schema": {"fields": fields, "missingValues": [""]},
    }
    return {
        "profile": "tabular-data-package",
        "name": stem,
        "title": about.title,
        "description": about.description,
        "version": "1.0.0",
        "licenses": [{"name": about.licence, "title": title, "path": address}],
        "contributors": people,
        "resources": [resource],
        "alliance_meta": {
            "contract": about.contract.version,
            "direction": DIRECTION,
            "published": list(about.published),
        },
    }


def _codebook(about: Deposit) -> str:
    rows = tuple(rows_of(about.contract))
    words = [
        html_table(
            Table(
                ("word", "meaning"), tuple((term.value, term.meaning) for term in column.vocabulary.terms), words=(1,)
            ),
            caption=f"Words of {escape(column.name)}",
        )
        for column in about.contract.columns
        if column.vocabulary is not None
    ]
    table = html_table(Table(("column", *COLUMNS), rows, words=tuple(range(1, 8))), caption="Columns of the sheet")
    body = "\n".join(
        [f"<h1>Codebook: {escape(about.title)}</h1>", f"<p>{escape(about.description)}</p>", table, *words]
    )
    style = "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}"
    style += "th,td{border:1px solid #999;padding:.3em;text-align:left;vertical-align:top}caption{text-align:left}"
    head = f'<meta charset="utf-8"><title>Codebook: {escape(about.title)}</title><style>{style}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _view(about: Deposit) -> dict[str, Any]:
    """Return the codebook as `typeset` takes it."""
    columns = about.contract.columns
    rows = []
    for name, title, need, kind, unit, values, text, example in rows_of(about.contract):
        held = {"words": ("words below",), "yes/no": ("yes or no",)}.get(kind, (kind, unit, values))
        rows.append((name, f"{title}. {text}", ", ".join(filter(None, (need, *held))), example))
    worded = [(one.name, one.vocabulary.terms) for one in columns if one.vocabulary is not None]
    tables = [_set_table(1, "Columns of the sheet", ("column", "meaning", "holds", "example"), (4, 8, 5, 3), rows)]
    tables += [
        _set_table(number, f"Words of {name}", ("word", "meaning"), (1, 2), [(one.value, one.meaning) for one in terms])
        for number, (name, terms) in enumerate(worded, 2)
    ]
    said = [{"type": "paragraph", "runs": [{"t": "text", "s": f"One row is one effect; {DIRECTION}."}]}]
    sections = [{"heading": "Columns", "blocks": [*said, tables[0]]}]
    if worded:
        sections.append({"heading": "Words", "blocks": tables[1:]})
    head = {"title": f"Codebook: {about.title}", "subtitle": about.description, "lang": "en"}
    words = WORDS | {"made": "A codebook made with alliance_meta"}
    return {**head, "words": words, "version": __version__, "cautions": [], "sections": sections}


def _set_table(
    number: int, caption: str, head: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]]
) -> dict[str, Any]:
    return {
        "type": "table",
        "number": f"Table {number}",
        "caption": [{"t": "text", "s": caption}],
        "headers": list(head),
        "widths": list(widths),
        "aligns": ["left"] * len(head),
        # A long name may be broken behind its signs.
        "rows": [{"cells": [re.sub("([_./])", "\\1\N{ZERO WIDTH SPACE}", cell) for cell in row]} for row in rows],
        "notes": [],
    }


def _checks(about: Deposit, found: Reading) -> str:
    lines = [f"Checked by alliance-meta {__version__} ({about.contract.title}, version {about.contract.version}).", ""]
    lines += [f"{found.source}: {about.contents}", f"sha256 of the file checked: {about.table.provenance.sha256}", ""]
    lines += [
        "Errors: none.",
        f"Possible mistakes: {len(found.suspicions) or 'none'}{':' if found.suspicions else '.'}",
    ]
    lines += [f"  {line}" for line in problem_lines(found.suspicions)]
    lines += _apostrophes(about.table.frame)
    lines += ["", "Read in another way than it stands:" if found.notes else "Everything was read as it stands."]
    return "\n".join([*lines, *(f"  {note.message}" for note in found.notes)]) + "\n"


def _apostrophes(frame: pd.DataFrame) -> list[str]:
    """Say where a text was changed, so that no spreadsheet runs it."""
    changed = sum(isinstance(cell, str) and inert(cell) != cell for name in frame for cell in frame[name].array)
    said = f"Texts that a spreadsheet would take for a formula, written with an apostrophe before them: {changed}"
    return ["", said] if changed else []


def _readme(about: Deposit) -> str:
    title, address, _ = LICENCES[about.licence]
    counts = "" if about.contents in about.description else f"{about.contents}. "
    listed = "\n".join(f"- `{name}`: {meaning}" for name, meaning in {about.file: "The sheet", **MEANINGS}.items())
    columns = "\n".join(f"- `{column.name}`: {column.description}" for column in about.contract.columns)
    text = (
        f"# {about.title}\n\n{about.description}\n\n{counts}One row is one effect; {DIRECTION}. "
        f"Empty cells are missing values.\n\n## Files\n\n{listed}\n- `{CRATE}`: The same for programs (RO-Crate)\n\n"
        f"## Columns\n\n{columns}\n\n## How to cite\n\n{about.citation}\n\n## Licence\n\n[{title}]({address})\n"
    )
    return escape(text, quote=False)


def _crate(about: Deposit, files: dict[str, bytes]) -> dict[str, Any]:
    """Return the RO-Crate: the data set, its files, its creators and its licence, as one flat graph."""
    title, address, allows = LICENCES[about.licence]
    people = [
        {"@id": one.orcid or f"#person-{number}", "@type": "Person", "name": one.name}
        for number, one in enumerate(about.creators, 1)
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": about.title,
        "description": about.description,
        **({"datePublished": about.date} if about.date else {}),
        "license": {"@id": address},
        "author": [{"@id": one["@id"]} for one in people],
        "hasPart": [{"@id": name} for name in files],
    }
    parts = [
        {
            "@id": name,
            "@type": "File",
            "name": name,
            "description": MEANINGS.get(name, about.description),
            "encodingFormat": FORMATS[Path(name).suffix],
            "contentSize": str(len(data)),
            "sha256": sha256(data),
        }
        for name, data in files.items()
    ]
    itself = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    terms = {"@id": address, "@type": "CreativeWork", "name": title, "description": allows}
    # The terms of RO-Crate 1.1 lack sha256.
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "http://schema.org/sha256"}]
    return {"@context": context, "@graph": [itself, root, *parts, *people, terms]}
