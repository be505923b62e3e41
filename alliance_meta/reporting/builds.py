"""What moved between two builds of a report or two versions of a sheet, by how much, and because of what."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from alliance_meta.effects.exchange.versions import Move, Moves, SheetDiff, diff, moves
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import sha256
from alliance_meta.notes import Note
from alliance_meta.reporting.declaration import read_declaration
from alliance_meta.reporting.fitted import Fitted, level_rows
from alliance_meta.reporting.kinds import fit_sheet, located, read_sheet
from alliance_meta.reporting.spec import Analysis, Declaration
from alliance_meta.reporting.writing import number, show
from alliance_meta.result import Result
from alliance_meta.tables.document import Block, Document, Kind, cut, table_of

MOST_SHOWN = 30
# Two runs of the same search may differ in the last digits.
SAME = 1e-9
# How many rows a step left follows from the data.
_COUNTED = re.compile(r": [\d,]+ of [\d,]+ rows")
SCHEMA_START = "alliance_meta/report/"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of a report that is not what it was.

    Attributes
    ----------
    analysis, name, label : str
        The analysis (or table), the number as placeholders name it, and in words.
    before, after : float or str or None
        As stored; None where it is in one build only.
    moved : float
        The difference of two numbers, NaN of anything else.
    because : str
        ``data``, ``choice``, ``version``, several of them, or ``unknown``: what differs between the builds of it.
    """

    analysis: str
    name: str
    label: str
    before: Any
    after: Any
    moved: float
    because: str


HEAD = [one.name for one in fields(Change)]


@dataclass(frozen=True, eq=False, repr=False)
class Changes(Result):
    """What moved between two builds of a report.

    Attributes
    ----------
    changes : tuple of Change
        In the report's order; numbers of an interval one by one.
    compared : int
        How many numbers both builds have.
    notes : tuple of Note
        Which data, versions and choices differ.
    """

    changes: tuple[Change, ...]
    compared: int
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per number that moved: ``analysis name label before after moved because``."""
        frame = pd.DataFrame([astuple(one) for one in self.changes], columns=HEAD, dtype=object)
        return frame.astype({"moved": float}).set_index("analysis")

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        blocks: list[Block] = [[f"{len(self.changes)} of {self.compared} numbers differ."]]
        if self.changes:
            rows = [(f"{one.analysis}.{one.name}", *map(_said, (one.before, one.after, one.moved)), one.because)
                    for one in self.changes]  # fmt: skip
            frame = pd.DataFrame(rows, columns=["number", *HEAD[3:]]).set_index("number")
            kinds: dict[str, Kind] = dict.fromkeys(HEAD[3:], "s")
            table = table_of(frame, kinds, "What moved", label="number")
            blocks.append(cut(table, MOST_SHOWN, "... and {left} more (.tidy() has all)"))
        return self._document("What changed since the earlier report", *blocks)


def changes(old: str | Path, new: str | Path) -> Changes:
    r"""Say what moved between two builds of a report, by how much, and because of data, choice or version.

    The table "what changed since" of a living review. A number moved if it differs by more than a billionth of its
    size. It moved because of ``data`` where the file of its analysis has another content, because of a ``choice``
    where the analysis is another one (model, scale, subset, what it was made of), and because of the ``version``
    where this package or one that affects its numbers has another; where nothing of these differs it is ``unknown``.

    Parameters
    ----------
    old, new : str or Path
        The ``results.json`` of the earlier and of the later build.

    Returns
    -------
    Changes

    Raises
    ------
    InputError
        If a file holds no results of a report.
    CannotRunError
        If a file cannot be opened.

    See Also
    --------
    moves_of : how far each change of a sheet alone moves the analyses.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta.reporting import build_report, changes
    >>> text = "title='T'\n[[analysis]]\nid='all'\nlabel='All'\ndata='molloy2014'\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = Path(folder, "r.toml")
    ...     for name, more in (("old", ""), ("new", "method='DL'\n")):
    ...         _ = report.write_text(text + more)
    ...         _ = build_report(report, out=Path(folder, name), formats=["methods"])
    ...     found = changes(Path(folder, "old/results.json"), Path(folder, "new/results.json"))
    >>> found.tidy().loc["all"].set_index("name").loc["r", "because"]
    'choice'
    """
    before, after = _results(Path(old)), _results(Path(new))
    because = _Because(before, after)
    found: list[Change] = []
    compared = 0
    for group in _both(before["quantities"], after["quantities"]):
        first, second = (one["quantities"].get(group, {}) for one in (before, after))
        for name in _both(first, second):
            compared += name in first and name in second
            found += _changed(group, name, first.get(name), second.get(name), because)
    return Changes(tuple(found), compared, tuple(because.notes()))


def _results(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRunError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict) or not str(found.get("schema")).startswith(SCHEMA_START):
        raise InputError(f"{path} holds no results of a report; take the results.json in a report's folder")
    return found


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _changed(group: str, name: str, first: Any, second: Any, because: _Because) -> Iterator[Change]:
    label = str((second or first)["label"])
    for end, (before, after) in _ends(
        None if first is None else first["value"], None if second is None else second["value"]
    ):
        moved = _moved(before, after)
        if moved is None:
            continue
        yield Change(analysis=group, name=name + end, label=label + end, before=before, after=after, moved=moved,
                     because=because.of(group, name))  # fmt: skip


def _ends(first: Any, second: Any) -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(first, list) or isinstance(second, list):
        pairs = [one if isinstance(one, list) else [None, None] for one in (first, second)]
        return [(f", {end}", (pairs[0][at], pairs[1][at])) for at, end in enumerate(("lower", "upper"))]
    return [("", (first, second))]


def _moved(before: Any, after: Any) -> float | None:
    """Return by how much a value moved, NaN where that is no number, None where it did not."""
    if before == after:
        return None
    numeric = all(isinstance(one, (int, float)) for one in (before, after))
    if not numeric:
        return math.nan
    return None if math.isclose(before, after, rel_tol=SAME, abs_tol=SAME**2) else float(after - before)


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    found = None if isinstance(value, Mapping) else number(value)
    return show(value, "fixed4") if found is not None and not math.isnan(found) else "–"


class _Because:
    """Tells why numbers may differ between two builds."""

    def __init__(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        self.builds = before, after
        self.versions = [f"{name} {old} -> {new}" for name, old, new in self._pairs("versions") if old != new]
        self.made = {name: self._of(name) for name in _both(before["analyses"], after["analyses"])}

    def _pairs(self, part: str) -> Iterator[tuple[str, Any, Any]]:
        first, second = (one[part] for one in self.builds)
        for name in _both(first, second):
            yield name, first.get(name), second.get(name)

    def _of(self, name: str) -> list[str]:
        """Return what differs of one analysis."""
        first, second = (one["analyses"].get(name) for one in self.builds)
        if first is None or second is None:
            return ["choice"]
        data = first["provenance"].get("sha256") != second["provenance"].get("sha256")
        choice = _choices(first) != _choices(second)
        return [word for word, differs in (("data", data), ("choice", choice)) if differs]

    def of(self, group: str, name: str) -> str:
        """Return why a number may differ: that of an analysis, or of a table about one."""
        about = next((one for one in sorted(self.made, key=len, reverse=True) if name.startswith(f"{one}_")), None)
        words = self.made.get(group, self.made.get(about or "", []))
        return ", ".join([*words, *(["version"] if self.versions else [])]) or "unknown"

    def notes(self) -> Iterator[Note]:
        """Yield what differs between the builds, in words."""
        if self.versions:
            yield Note("versions-differ", f"Versions differ: {'; '.join(self.versions)}.")
        for word, text in (("data", "read other data"), ("choice", "were made otherwise")):
            names = [name for name, words in self.made.items() if word in words]
            if names:
                yield Note(f"{word}-differ", f"Analyses that {text}: {', '.join(names)}.")


def _choices(analysis: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what an analysis was made of besides its data."""
    origin = analysis["provenance"]
    steps = [_COUNTED.sub("", step) for step in origin["steps"]]
    return analysis["model_label"], analysis["r_code"], analysis["result"].get("level"), origin["dataset"], steps


def moves_of(declaration: str | Path, old: str | Path, new: str | Path) -> Moves:
    r"""Say how far each difference between two versions of a coding sheet moves the analyses of a report.

    Every analysis that reads the sheet is fitted as the report would fit it: to the old version, to the new one, and to
    the old one with each change alone. So one sees which correction of which row the pooled correlation hangs on.

    Parameters
    ----------
    declaration : str or Path
        The report, ``reports/<name>.toml``. An analysis reads the sheet if its file has the same content as one of the
        two versions.
    old, new : str or Path
        The earlier and the later version.

    Returns
    -------
    Moves
        One row for each number and change. The number is the pooled r (the estimate, where effects are no
        correlations); with moderators the mean at each level of a single categorical one, else each coefficient.

    Raises
    ------
    InputError
        If no analysis reads one of the two versions, or a version has errors.
    CannotRunError
        If a file cannot be opened.

    See Also
    --------
    alliance_meta.effects.diff : the differences alone.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta.reporting import moves_of
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     old, new, report = (Path(folder, name) for name in ("old.csv", "new.csv", "report.toml"))
    ...     _ = old.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,.12,120\nCy 2005,.20,60\n")
    ...     _ = new.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,.21,120\nCy 2005,.20,90\n")
    ...     _ = report.write_text("title='T'\n[[analysis]]\nid='all'\nlabel='All'\ndata='new.csv'\n")
    ...     found = moves_of(report, old, new)
    >>> for move in found.moves:
    ...     print(move.change, move.row, move.column, f"{move.before:.3f} {move.after:.3f} {move.moved:.3f}")
    all changes   0.181 0.225 0.044
    cell changed Bo 2004 r 0.181 0.228 0.047
    cell changed Cy 2005 n 0.181 0.183 0.002
    """
    declared = read_declaration(declaration)
    versions = Path(old), Path(new)
    found: list[Move] = []
    notes: list[Note] = []
    first: SheetDiff | None = None
    for spec in _reading(declared, versions):
        change = diff(*(read_sheet(spec, path) for path in versions))
        refit = _Refit(spec)
        found += moves(change, {spec.id: refit})
        first = first or change
        notes += refit.notes()
    assert first is not None
    return Moves(first, tuple(found), (*first.notes, *notes))


def _reading(declared: Declaration, versions: tuple[Path, Path]) -> list[Analysis]:
    """Return the analyses that read one of the two versions, told by what is in their files."""
    wanted = set(map(_hash, versions))
    places = [(spec, located(spec.data, folder=declared.path.parent)) for spec in declared.analysis]
    files = [(spec, place) for spec, place in places if isinstance(place, Path)]
    reading = [spec for spec, place in files if _hash(place) in wanted]
    if not reading:
        names = ", ".join(dict.fromkeys(place.name for _, place in files)) or "shipped data sets"
        raise InputError(
            f"no analysis of {declared.path.name} reads {versions[0].name} or {versions[1].name}: it reads {names}; "
            "one of the two versions must be the very file that the report reads"
        )
    return reading


def _hash(path: Path) -> str:
    try:
        return sha256(path.read_bytes())
    except OSError as error:
        raise CannotRunError(f"cannot read {path}: {error.strerror}") from error


class _Refit:
    """An analysis that is fitted to several versions of its sheet and remembers by which models."""

    def __init__(self, spec: Analysis) -> None:
        self.spec = spec
        self.models: dict[str, None] = {}

    def __call__(self, table: CodedTable) -> Mapping[str, float]:
        fitted = fit_sheet(self.spec, table)
        self.models[fitted.short_label()] = None
        return _means(fitted)

    def notes(self) -> list[Note]:
        """Say where the model was not always the same."""
        if len(self.models) < 2:
            return []
        message = f"{self.spec.id}: not every version is fitted by the same model: {'; '.join(self.models)}"
        return [Note("model-differs", message)]


def _means(fitted: Fitted) -> dict[str, float]:
    fit, name = fitted.fit, "r" if fitted.on_r else "estimate"
    if fit.p == 1:
        return {name: float(fit.predict(scale="r" if fitted.on_r else None)["pred"].iloc[0])}
    levels = {f"{name}, {row['level']}": row[name] for row in level_rows(fitted)}
    return levels or dict(zip(fit.names, map(float, fit.beta), strict=True))
