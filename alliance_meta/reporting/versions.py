"""`moves_of`: how far each difference between two versions of a sheet moves the analyses of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alliance_meta.effects.exchange.versions import Move, Moves, SheetDiff, diff, moves
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import sha256
from alliance_meta.notes import Note
from alliance_meta.reporting.declaration import read_declaration
from alliance_meta.reporting.fitted import Fitted, level_rows
from alliance_meta.reporting.kinds import fit_sheet, located, read_sheet
from alliance_meta.reporting.spec import Analysis, Declaration


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
