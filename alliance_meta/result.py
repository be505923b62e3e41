"""`Result`: what every result of the package can do, said once."""

from __future__ import annotations

import html as _html
import math
from typing import TYPE_CHECKING, Any

from alliance_meta.encoding import plain

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.notes import Note

# How columns are headed in a manuscript.
HEADS = {"pval": "p", "ddf": "df", "ci_lb": "CI lower", "ci_ub": "CI upper", "pi_lb": "PI lower", "pi_ub": "PI upper"}
_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


class _NoNotes:
    def __get__(self, result: Result | None, owner: type) -> tuple[Note, ...]:
        if result is None:  # a dataclass with such a field must not take this for its default
            raise AttributeError("notes")
        return ()


class Result:
    """The base of every result: a table, its exports, notes, and a text; classes add what is their own.

    A class needs `tidy`, `summary` and `notes`; a dataclass is declared with ``repr=False``, so that it prints as its
    summary.
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

    def summary(self) -> str:
        """Return the plain-text summary."""
        return "\n".join([self.tidy().to_string(), *(f"Note: {note.message}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return every number as JSON-ready values; `NotApplicable` becomes its reason."""
        table = self.tidy().reset_index()
        columns = {str(name): list(table[name].array) for name in table}
        out: dict[str, Any] = plain({"table": columns, "notes": [note.to_dict() for note in self.notes]})
        return out

    def to_markdown(self) -> str:
        """Return the table in Markdown, rounded to four decimals, the scale in its header."""
        first, *rest = self._cells()
        about = "; ".join(self._about())
        first[0] = f"{first[0]} ({about})" if about else first[0]
        rows = [first, ["---", *["---:"] * (len(first) - 1)], *rest]
        return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)

    def to_latex(self) -> str:
        """Return the table in LaTeX (booktabs), the scale in its caption."""
        head, *rows = (" & ".join(map(_tex, row)) + r" \\" for row in self._cells())
        width = len(self._cells()[0])
        caption = "; ".join([*reversed(self._about()), *([f"k = {self.k}"] if hasattr(self, "k") else [])])
        lines = [
            r"\begin{table}",
            rf"\caption{{{_tex(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines)

    def _about(self) -> list[str]:
        """Return what a table must say of its numbers: their scale, and the model."""
        scale = self.tidy().attrs.get("scale_label") or self.tidy().attrs.get("scale")
        label = getattr(self, "model_label", None)
        return [str(one) for one in (scale, label) if one]

    def _exported(self) -> pd.DataFrame:
        """Return the rows and columns of `tidy` that a manuscript shows."""
        return self.tidy()

    def _cells(self) -> list[list[str]]:
        """Return the exported table as text, its head first."""
        table = self._exported()
        if "ddf" in table and not any(math.isfinite(one) for one in table["ddf"]):
            table = table.drop(columns="ddf")
        keys = [str(name or "") for name in table.index.names]
        table = table.reset_index(names=keys if len(keys) > 1 else keys[0])
        head = [HEADS.get(str(name), str(name)) for name in table.columns]
        columns = [[_cell(str(name), value) for value in table[name].array] for name in table.columns]
        return [head, *(list(row) for row in zip(*columns, strict=True))]

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{_html.escape(self.summary())}</pre>"


def _cell(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "n/a"
    if column.startswith("pval") and value < 0.0001:
        return "<.0001"
    return f"{value:.2f}".removesuffix(".00") if column == "ddf" else f"{value:.4f}"


def _tex(text: str) -> str:
    out = "".join(_TEX.get(c) or ("\\" + c if c in "&%$#_{}" else c) for c in text)
    return f"${out}$" if out.startswith("-") and out[1:2].isdigit() else out
