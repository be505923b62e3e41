"""Text for spreadsheets: a cell that a spreadsheet would run as a formula is marked as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What begins a formula; the last four are = + - @ of East Asian keyboards.
FORMULA = tuple(
    "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)


def inert(value: Any) -> Any:
    """Return a cell as a spreadsheet takes it for what it is, on one line: numbers unchanged, formulas as text.

    >>> inert("=HYPERLINK(1)"), inert("-0.5"), inert("-.5 [-.6, -.4]"), inert(-0.5), inert("Ada 2001")
    ("'=HYPERLINK(1)", '-0.5', "'-.5 [-.6, -.4]", -0.5, 'Ada 2001')
    """
    if not isinstance(value, str):
        return value
    text = " ".join(value.splitlines())
    if not text.lstrip().startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def frame_csv(frame: pd.DataFrame) -> str:
    """Return a table with its index as CSV whose every cell is inert."""
    text: str = frame.map(inert).rename(index=inert, columns=inert).to_csv(lineterminator="\n")
    return text
