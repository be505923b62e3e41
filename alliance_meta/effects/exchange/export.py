"""`export`: a coding sheet or its effects as files that other programs read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd

from alliance_meta.effects.contract.schema import CONTRACT, Column
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sizes import escalc
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.files import write_text
from alliance_meta.notes import check_option
from alliance_meta.tables.format import inert

To = Literal["metafor", "jasp", "revman", "csvw"]
NOTHING = ("", "NA")


def export(table: CodedTable | EffectSizes, path: str | Path, *, to: To) -> tuple[Path, ...]:
    """Write a coding sheet or its effects as a file that another program reads; `read` takes it back.

    Parameters
    ----------
    table : CodedTable or EffectSizes
        A sheet, whose effects are those of `escalc` with its defaults, or effects.
    path : str or Path
        The file to write, a CSV in UTF-8 with decimal points.
    to : {"metafor", "jasp", "revman", "csvw"}
        ``"metafor"``: ``slab study_id yi vi``, ``ri ni`` where they are known, and every other column, for R's
        ``read.csv``. ``"jasp"``: an effect size and a standard error with every other column. ``"revman"``: data rows
        with ``GIV Mean`` and ``GIV SE`` and no moderators, each effect under a label of its own. ``"csvw"``: the
        sheet itself, and beside it ``FILE-metadata.json``, which says what its columns are (CSV on the Web); it needs
        a sheet.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    InputError
        Effects where a sheet is needed.
    CannotRunError
        If the folder cannot be written to.

    Notes
    -----
    Numbers keep all their digits. A text that a spreadsheet would run (``=...``) gets an apostrophe before it. Missing
    cells are ``NA`` for R, else empty. CSV on the Web: https://www.w3.org/TR/tabular-metadata/.

    See Also
    --------
    read : the way in.
    deposit : a folder for an archive.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import alliance_meta as am
    >>> effects = am.escalc(am.load_dataset("molloy2014"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (file,) = am.effects.export(effects, Path(folder, "molloy.csv"), to="metafor")
    ...     header = file.read_text().splitlines()[0].split(",")
    >>> header[:7]
    ['slab', 'study_id', 'yi', 'vi', 'ri', 'ni', 'study']
    """
    check_option("to", to, To)
    target = Path(path)
    if to == "csvw":
        if not isinstance(table, CodedTable):
            raise InputError("to='csvw' describes the columns of a coding sheet; give the table, not its effects")
        text = sheet_csv(table.frame)
        described = csvw(table, target.name)
        beside = target.with_name(f"{target.name}-metadata.json")
        return write_text(target, text), write_text(beside, described)
    effects = escalc(table) if isinstance(table, CodedTable) else table
    frame = FRAMES[to](effects)
    return (write_text(target, sheet_csv(frame, missing="NA" if to == "metafor" else "")),)


def sheet_csv(frame: pd.DataFrame, *, missing: str = "") -> str:
    """Return a sheet as CSV: all digits, whole numbers as such, texts inert."""
    columns = {inert(str(name)): [cell_text(value) or missing for value in frame[name].array] for name in frame}
    text: str = pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
    return text


def cell_text(value: Any) -> str:
    """Return a cell as text.

    >>> cell_text(48.0), cell_text(0.1), cell_text(float("nan")), cell_text("=1")
    ('48', '0.1', '', "'=1")
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    return str(inert(str(value)))


def _others(effects: EffectSizes, *taken: str) -> pd.DataFrame:
    """Return the columns of the sheet that are not written under another name."""
    gone = {*taken, *effects.columns.values()}
    return effects.moderators.drop(columns=[name for name in effects.moderators if name in gone])


def _metafor(effects: EffectSizes) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "slab": list(effects.slab),
        "study_id": list(effects.study_id),
        "yi": effects.yi,
        "vi": effects.vi,
    }
    r = effects.columns.get("ri")
    if r is not None and r in effects.moderators:
        columns["ri"] = effects.moderators[r].to_numpy()
    if effects.ni is not None:
        columns["ni"] = effects.ni
    return _beside(columns, _others(effects, *columns))


def _jasp(effects: EffectSizes) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "Study label": list(effects.slab),
        "Effect size": effects.yi,
        "Standard error": effects.sei,
    }
    if effects.ni is not None:
        columns["n"] = effects.ni
    return _beside(columns, _others(effects, "yi", "vi", "sei", "study"))


def _revman(effects: EffectSizes) -> pd.DataFrame:
    columns: dict[str, Any] = {"Analysis group": 1, "Analysis number": 1, "Study": list(effects.slab)}
    if "year" in effects.moderators:
        columns["Study year"] = effects.moderators["year"].to_numpy()
    columns |= {"GIV Mean": effects.yi, "GIV SE": effects.sei}
    if "note" in effects.moderators:
        columns["Footnotes"] = effects.moderators["note"].to_numpy()
    return pd.DataFrame(columns)


def _beside(columns: dict[str, Any], others: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(columns), others.reset_index(drop=True)], axis=1)


FRAMES: dict[str, Callable[[EffectSizes], pd.DataFrame]] = {"metafor": _metafor, "jasp": _jasp, "revman": _revman}


def csvw(table: CodedTable, name: str) -> str:
    """Return what CSV on the Web says of a sheet: its columns with titles, meanings and types."""
    frame = table.frame
    document = {
        "@context": ["http://www.w3.org/ns/csvw", {"@language": "en"}],
        "url": quote(name),
        "dc:title": f"Coding sheet, {table.k} effects",
        "dc:conformsTo": f"{CONTRACT.title}, version {CONTRACT.version}",
        "dialect": {"encoding": "utf-8", "header": True, "delimiter": ","},
        "tableSchema": {"columns": [_csvw_column(str(label), frame[label]) for label in frame]},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _csvw_column(name: str, cells: pd.Series[Any]) -> dict[str, Any]:
    known = CONTRACT.column(name)
    out: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9_.]", lambda found: quote(found[0], safe=""), name).lstrip("_") or "column",
        "titles": inert(name),
        "datatype": _datatype(known, cells),
        "null": list(NOTHING),
    }
    if known is not None:
        out |= {"dc:title": known.title, "dc:description": known.description}
        if known.unit:
            out["schema:unitText"] = known.unit
    if known is not None and known.filled and cells.notna().all():
        out["required"] = True
    return out


def _datatype(known: Column | None, cells: pd.Series[Any]) -> Any:
    """Return the type of a column as its cells are, with the bounds that the contract sets."""
    if not pd.api.types.is_numeric_dtype(cells):
        truths = known is not None and known.type == "boolean" and set(cells.dropna()) <= {"yes", "no"}
        return {"base": "boolean", "format": "yes|no"} if truths else "string"
    whole = (cells.dropna() == cells.dropna().round()).all()
    out: dict[str, Any] = {"base": "integer" if whole and (known is None or known.type == "integer") else "number"}
    if known is not None:
        bounds = {
            "minimum": known.minimum,
            "maximum": known.maximum,
            "minExclusive": known.above,
            "maxExclusive": known.below,
        }
        out |= {key: value for key, value in bounds.items() if value is not None}
    return out if len(out) > 1 else out["base"]
