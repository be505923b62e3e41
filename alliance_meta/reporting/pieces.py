"""The views of the published results that a report may declare: umbrella, claims, consistency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from alliance_meta.effects.provenance import Provenance
from alliance_meta.reporting.coefficients import Table
from alliance_meta.reporting.spec import CLAIMS, CONSISTENCY, UMBRELLA, Declaration, Item
from alliance_meta.reporting.writing import Quantity

if TYPE_CHECKING:
    import pandas as pd


class Piece(Protocol):
    """One view of the published results: where it comes from, its numbers for prose, its tables and figure."""

    @property
    def origins(self) -> tuple[Provenance, ...]:
        """The files it was computed from."""

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What prose may read of it."""

    @property
    def citations(self) -> tuple[str, ...]:
        """The articles it rests on."""

    def table(self, item: Item) -> Table:
        """Return a table that the item asks for."""

    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of a figure and its caption."""


Pieces = Mapping[str, Piece]


def read_pieces(declaration: Declaration) -> Pieces:
    """Return the views that a declaration names, computed from the registry.

    Raises
    ------
    InputError
        For a claim or a level that does not exist.
    """
    from alliance_meta.reporting.claims import read_claims, read_consistency
    from alliance_meta.reporting.evidence import read_umbrella

    readers: dict[str, Any] = {UMBRELLA: read_umbrella, CLAIMS: read_claims, CONSISTENCY: read_consistency}
    return {name: readers[name](spec) for name, spec in declaration.pieces.items()}
