"""Blank coding sheets: CSV, Excel with drop-downs, a datapackage and the codebook, all from the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.codebook import as_markdown
from alliance_meta.effects.contract.description import PACKAGE, fields_of
from alliance_meta.effects.contract.schema import CONTRACT, Contract
from alliance_meta.effects.datasets import data_root, read_resource_text
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import write_bytes
from alliance_meta.options import did_you_mean

STEM = "effects"
PRINTED = {"k": "k", "N": "n_total", "estimate": "estimate", "ci_lb": "ci_low", "ci_ub": "ci_high"}
LEVEL_PRINTED = {
    "k": "k",
    "n_effects": "n_effects",
    "estimate": "estimate",
    "se": "se",
    "ci_lb": "ci_low",
    "ci_ub": "ci_high",
}
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
        ``"alldredge2021"``, ... Its k, r and interval go into the datapackage as printed. By default none.

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
    from alliance_meta.effects.contract.workbook import blank_workbook

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
        kind="published",
        source=_whose(entry),
        where=entry["evidence_location"],
        doi=entry["doi"] or None,
        scale="r",
        coefficient="intrcpt",
        printed=printed,
        route=None,
        search=True,
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


def printed_moderators(name: str) -> list[dict[str, str]]:
    """Return what an article prints of its moderators, every cell as text."""
    rows = read_resource_text(data_root() / "published", "moderators")
    mine = [row == name or name.startswith(f"{row}_") for row in rows["id"]]
    return [{str(key): str(value) for key, value in row.items()} for row in rows[mine].to_dict("records")]
