"""Where a table came from, said without a clock or a path of anybody's machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


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
