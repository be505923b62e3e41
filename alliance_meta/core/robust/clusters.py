"""Rows that belong together: clusters of equal size stacked, so that one call treats them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.intp]


def codes(labels: Sequence[Any] | NDArray[Any]) -> IntArray:
    """Return 0 ... n - 1 for each row, numbered in the order in which the labels first appear."""
    _, first, inverse = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    order = np.empty(first.size, dtype=np.intp)
    order[np.argsort(first, kind="stable")] = np.arange(first.size)
    return order[inverse.ravel()]


def pairs(outer: IntArray, inner: IntArray) -> IntArray:
    """Return codes of the distinct pairs of both."""
    return codes(outer * (int(inner.max(initial=0)) + 1) + inner)


def stacks(cluster: IntArray) -> list[IntArray]:
    """Return row numbers (n, m) for the n clusters of each size m, sizes ascending, rows in their order."""
    by_cluster = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return [by_cluster[starts[sizes == m][:, None] + np.arange(m)].astype(np.intp) for m in np.unique(sizes) if m > 0]


def nested(inner: IntArray, outer: IntArray) -> bool:
    """Tell whether each inner cluster lies within one outer cluster."""
    first = np.zeros(inner.max(initial=-1) + 1, dtype=np.intp)
    first[inner] = outer
    return bool((first[inner] == outer).all())


def components(*groupings: IntArray) -> IntArray:
    """Return the finest clusters that no grouping crosses, (k,) codes."""
    k = groupings[0].size
    label = np.arange(k, dtype=np.intp)
    while True:
        before = label
        for grouping in groupings:
            lowest = np.full(grouping.max(initial=-1) + 1, k, dtype=np.intp)
            np.minimum.at(lowest, grouping, label)
            label = lowest[grouping]
        if (label == before).all():
            return codes(label)
