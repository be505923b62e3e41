"""`Result`: what every result of the package can do, said once."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from alliance_meta.encoding import plain
from alliance_meta.tables.document import (
    Block,
    Document,
    Lines,
    Table,
    as_html,
    as_latex,
    as_markdown,
    as_text,
    frame_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from alliance_meta.notes import Note

SYNTHETIC = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
# How columns are headed in a manuscript.
HEADS = {"pval": "p", "ddf": "df", "ci_lb": "CI lower", "ci_ub": "CI upper", "pi_lb": "PI lower", "pi_ub": "PI upper"}


class _NoNotes:
    def __get__(self, result: Result | None, owner: type) -> tuple[Note, ...]:
        if result is None:  # a dataclass with such a field must not take this for its default
            raise AttributeError("notes")
        return ()


class Result:
    """The base of every result: a table, its exports, notes, and a document; classes add what is their own.

    A class needs `tidy`, `_content` and `notes`; a dataclass is declared with ``repr=False``, so that it prints as its
    summary.

    Attributes
    ----------
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    if TYPE_CHECKING:

        @property
        def notes(self) -> tuple[Note, ...]:
            """What a reader must know; every report prints them."""
    else:
        notes = _NoNotes()

    def tidy(self) -> pd.DataFrame:
        """Return the table, unrounded."""
        raise NotImplementedError

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        return self._content()

    def _content(self) -> Document:
        """Return the document of a class."""
        raise NotImplementedError

    def _document(self, title: str, *blocks: Block, lines: Lines = ()) -> Document:
        """Return a document with the notes of the result, and with a label where its data are made up."""
        return Document(title, lines, blocks, said(self.notes), made_up(origin(self)))

    def summary(self) -> str:
        """Return the plain-text summary, at most 80 columns wide."""
        return as_text(self.document())

    def to_dict(self) -> dict[str, Any]:
        """Return every number and the notes as JSON-ready values; `NotApplicable` becomes its reason."""
        out: dict[str, Any] = plain({**self._values(), "notes": [note.to_dict() for note in self.notes]})
        return out

    def _these(self, *names: str) -> dict[str, Any]:
        """Return attributes by name."""
        return {name: getattr(self, name) for name in names}

    def _values(self) -> dict[str, Any]:
        """Return what `to_dict` holds besides the notes."""
        table = self.tidy().reset_index()
        return {"table": {str(name): list(table[name].array) for name in table}}

    def to_markdown(self) -> str:
        """Return the table in Markdown, rounded to four decimals, the scale in its header."""
        return as_markdown(self._exported_table("; ".join(self._about())))

    def to_latex(self) -> str:
        """Return the table in LaTeX (booktabs), the scale in its caption."""
        return as_latex(
            self._exported_table(
                "; ".join([*reversed(self._about()), *([f"k = {self.k}"] if hasattr(self, "k") else [])])
            )
        )

    def _about(self) -> list[str]:
        """Return what a table must say of its numbers: their scale, and the model."""
        scale = self.tidy().attrs.get("scale_label") or self.tidy().attrs.get("scale")
        label = getattr(self, "model_label", None)
        return [str(one) for one in (scale, label) if one]

    def _exported(self) -> pd.DataFrame:
        """Return the rows and columns of `tidy` that a manuscript shows."""
        return self.tidy()

    def _exported_table(self, caption: str) -> Table:
        """Return the exported table as text."""
        table = self._exported()
        if "ddf" in table and not any(math.isfinite(one) for one in table["ddf"]):
            table = table.drop(columns="ddf")
        made = frame_table(table, caption)
        return replace(made, head=tuple(HEADS.get(name, name) for name in made.head))

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return as_html(self.document())


def origin(result: Any) -> Any:
    """Return the provenance of a result, its own or that of the fit that it keeps; None where neither has one."""
    for path in ("provenance", "effects.provenance", "fit.effects.provenance", "base.effects.provenance"):
        with suppress(AttributeError):
            return attrgetter(path)(result)
    return None


def made_up(found: Any) -> list[str]:
    """Return the label that stands above everything where the provenance says that data are synthetic."""
    return [SYNTHETIC] if found is not None and found.synthetic else []


def said(notes: Iterable[Note]) -> list[str]:
    """Return notes as a document prints them."""
    return [f"Note: {note.message}" for note in notes]
