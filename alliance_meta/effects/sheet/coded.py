"""`CodedTable`: a coding sheet that has been read and checked, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.conditions import select_rows
from alliance_meta.effects.sheet.columns import strays
from alliance_meta.errors import InputError
from alliance_meta.expressions import shown
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.tables.document import frame_table, html_table

if TYPE_CHECKING:
    from alliance_meta.effects.card import DataCard


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file of text writes its table: what stands between cells, the decimal mark, (old, new) names of columns."""

    separator: str = ","
    decimal: str = "."
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of a table of effects."""

    source: str  # file name (never a path) or a short description such as ``"arrays"``
    sha256: str | None = None  # hash of the file's bytes
    dataset: str | None = None  # name of the shipped data set, if it is one
    # title, citation, licence: as the data card says.
    title: str | None = None
    citation: str | None = None
    licence: str | None = None
    cautions: tuple[str, ...] = ()  # what must be said wherever these data show
    synthetic: bool = False  # true for made-up teaching data; every table and plot then says so
    steps: tuple[str, ...] = ()  # what was done since reading, in words (`escalc` arguments, subsets, flips)
    layout: Layout = Layout()  # how the file writes its table

    def after(self, step: str) -> Provenance:
        """Return the same origin with one more step."""
        return replace(self, steps=(*self.steps, step))

    def to_dict(self) -> dict[str, Any]:
        """Return the origin as a plain dictionary."""
        found = asdict(self)
        del found["layout"]
        return found


@dataclass(frozen=True, eq=False)
class CodedTable:
    """A validated coding sheet: one row per effect, every column as coded.

    Attributes
    ----------
    frame : pandas.DataFrame
        A copy of the rows; changing it does not change the table.
    card : DataCard or None
        The data card of a shipped data set: title, sources, licence, cautions, published results.
    provenance : Provenance
        Where the rows came from, with the hash of the file.
    notes : tuple of Note
        What the reader adapted or left out; every report prints them.
    mapping : pandas.DataFrame
        What became of every column of the file.
    """

    _frame: pd.DataFrame = field(repr=False)
    provenance: Provenance
    card: DataCard | None = None
    notes: tuple[Note, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    taken: tuple[tuple[str, str, str], ...] = ()

    @property
    def mapping(self) -> pd.DataFrame:
        """What became of every column of the file: ``column became how``."""
        old = {new: label for label, new in self.provenance.layout.renamed}
        rows = self.taken or [
            (old.get(name, name), name, "renamed" if name in old else "as it is") for name in self.columns
        ]
        return pd.DataFrame(rows, columns=["column", "became", "how"])

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a data frame of its own."""
        return self._frame.copy()

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in the file's order."""
        return tuple(map(str, self._frame.columns))

    @property
    def k(self) -> int:
        """Number of rows."""
        return len(self._frame)

    def query(self, expression: str) -> CodedTable:
        """Return the rows for which `expression` holds, e.g. ``"criterion == 'grade'"``.

        It may hold columns (``in back-ticks`` where a name is no word), numbers, texts, arithmetic, comparisons,
        ``in [...]``, ``and or not``, and ``notna isna isin between lower startswith contains``, as functions or as
        methods of a column: ``"rater.notna() and contains(lower(study), 'trial')"``. It is data and never run as code.

        Raises
        ------
        InputError
            If the expression names no column of the table, holds anything else, or leaves no row.
        """
        try:
            rows = self._frame[select_rows(expression, self._frame)]
        except InputError as error:
            raise InputError(f"{error}{self._strays_in(expression)}") from None
        if rows.empty:
            raise InputError(f"subset {shown(expression)} leaves no row of {self.provenance.source}")
        step = f"subset {expression}: {len(rows)} of {self.k} rows"
        return replace(self, _frame=rows, provenance=self.provenance.after(step))

    def _strays_in(self, expression: str) -> str:
        """Say which columns of the expression are text only because of a few cells."""
        said = ""
        for name in self.columns:
            cells = self._frame[name].tolist() if name in expression else []
            if stray := strays(name, cells):
                said += f" {name} is text because of {', '.join(repr(cells[i]) for i in stray[:5])}: mend these cells."
        return said

    def column(self, name: str) -> pd.Series[Any]:
        """Return one column, or an `InputError` that suggests the nearest name."""
        if name not in self._frame:
            known = list(self.columns)
            raise InputError(
                f"{self.provenance.source} has no column {name!r}{did_you_mean(name, known) or '.'} "
                f"Columns: {', '.join(known)}"
            )
        return self._frame[name]

    def __len__(self) -> int:
        return self.k

    def _repr_html_(self) -> str:
        return html_table(frame_table(self._frame.astype(str)))
