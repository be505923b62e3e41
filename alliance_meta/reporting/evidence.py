"""Published results in a report: the umbrella of syntheses, and what printed numbers reproduce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from alliance_meta.effects.provenance import Provenance
from alliance_meta.reporting.declaration import Item, Umbrella
from alliance_meta.reporting.numbers import Quantity


@dataclass(frozen=True, eq=False)
class Registry:
    """The published results that an umbrella report shows, and those it leaves out."""

    provenance: Provenance
    quantities: dict[str, Quantity]
    citations: tuple[str, ...]

    def forest(self, item: Item) -> pd.DataFrame:
        raise NotImplementedError

    def table(self, item: Item) -> dict[str, Any]:
        raise NotImplementedError


def read_umbrella(spec: Umbrella) -> Registry:
    raise NotImplementedError


def reproduce_table(item: Item) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"caption": "todo", "columns": [], "rows": []}, {}
