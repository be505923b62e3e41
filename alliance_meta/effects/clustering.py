"""Clusters of effects that are to become one: their codes, labels, sizes and first rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.clusters import IntArray
from alliance_meta.effects.grouping import grouping
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

# What str() makes of an empty cell: study_id is text whatever it was in the sheet.
EMPTY = ("", "nan", "None", "<NA>", "NaT")
MOST_NAMED = 8


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters in the order in which they first appear: name of the grouping, code (k,) of each row, labels (n,)."""

    name: str
    codes: IntArray
    labels: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.labels)

    @cached_property
    def sizes(self) -> IntArray:
        """Rows per cluster."""
        return np.bincount(self.codes, minlength=self.n).astype(np.intp)

    @cached_property
    def several(self) -> IntArray:
        """Codes of the clusters with more than one row."""
        return np.flatnonzero(self.sizes > 1)

    @cached_property
    def first(self) -> IntArray:
        """Row in which each cluster first appears."""
        return np.unique(self.codes, return_index=True)[1].astype(np.intp)

    @cached_property
    def _order(self) -> IntArray:
        return np.argsort(self.codes, kind="stable")

    def mean(self, values: Array) -> Array:
        """Return the mean of `values` (k,) in each cluster."""
        return np.bincount(self.codes, values, minlength=self.n) / self.sizes

    def extremes(self, values: IntArray) -> tuple[IntArray, IntArray]:
        """Return the lowest and the highest of `values` (k,) in each cluster."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        ordered = values[self._order]
        return np.minimum.reduceat(ordered, starts), np.maximum.reduceat(ordered, starts)

    def named(self, which: Iterable[Any]) -> str:
        """Name clusters by label, the first few of many."""
        return listed([self.labels[int(i)] for i in which])


def read_clusters(effects: EffectSizes, cluster: Any) -> Clusters:
    """Read `cluster`: a column, a sequence of columns that only together tell clusters apart, or k labels."""
    names = _column_names(effects, cluster)
    groups = [grouping(effects, name, "cluster") for name in names or [cluster]]
    levels = [[plain_text(level) for level in group.levels] for group in groups]
    for group, texts in zip(groups, levels, strict=True):
        empty = [code for code, text in enumerate(texts) if text in EMPTY]
        lost = [effects.slab[int(i)] for i in np.flatnonzero(np.isin(group.codes, empty))]
        if lost:
            raise InputError(
                f"cluster={group.name or 'as given'!r} is empty for {len(lost)} of {effects.k} effects "
                f"({listed(lost)}); fill the cells (an effect on its own gets its own value), or leave the rows out"
            )
    codes = groups[0].codes
    labels = levels[0]
    for group, texts in zip(groups[1:], levels[1:], strict=True):
        joined, pairs = pd.factorize(codes * len(texts) + group.codes)
        codes = joined.astype(np.intp)
        labels = [f"{labels[int(pair) // len(texts)]} / {texts[int(pair) % len(texts)]}" for pair in pairs]
    given = str(cluster.name) if isinstance(cluster, pd.Series) and cluster.name is not None else "given cluster"
    return Clusters(" + ".join(names) or given, codes, tuple(labels))


def plain_text(value: Any) -> str:
    """Return a cell as text, a whole number without decimals."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if pd.isna(value) else str(value)


def listed(labels: Sequence[str], most: int = MOST_NAMED) -> str:
    """Join labels, the first few of many."""
    rest = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {rest} more" if rest > 0 else "")


def _column_names(effects: EffectSizes, cluster: Any) -> list[str]:
    """Return the columns that `cluster` names; none where it holds labels."""
    if isinstance(cluster, str):
        return [cluster]
    known = {"study_id", "slab", *effects.moderators.columns}
    named = isinstance(cluster, list | tuple) and all(isinstance(name, str) and name in known for name in cluster)
    return list(cluster) if named else []
