"""Bee swarms: how large points are, and where those of one column stand so that none hides another."""

from __future__ import annotations

import math

import numpy as np

from alliance_meta._typing import Array

# Above this many points a swarm takes long and would not fit.
MOST_SWARM = 250
GAP = 0.006
SMALLEST, LARGEST = 0.028, 0.13


def radii_of(weight: Array) -> Array:
    """Return radii in inches whose squares stand for the weights, none too small to see."""
    largest = max(SMALLEST + 0.012, min(LARGEST, 0.55 / math.sqrt(len(weight)) + 0.035))
    return np.maximum(SMALLEST, largest * np.sqrt(weight / weight.max()))


def see_through(k: int) -> float:
    """Return how opaque so many points are drawn."""
    return 0.75 if k <= 60 else 0.6 if k <= 300 else 0.3


def swarm(y: Array, radii: Array, *, half: float) -> Array:
    """Return sideways offsets, all within `half` of 0, at which the points of one column stand.

    As a bee swarm, in which no two points overlap; where that would be too wide, in the width of their density.
    """
    offsets = without_overlap(y, radii, half=half)
    return _by_density(y, half=half - float(radii.max())) if offsets is None else offsets


def without_overlap(y: Array, radii: Array, *, half: float) -> Array | None:
    """Return offsets at which no two points overlap, or None where these would not be within `half` of 0."""
    if len(y) > MOST_SWARM:
        return None
    offsets = _bees(y, radii)
    return offsets if not len(y) or (np.abs(offsets) + radii).max() <= half else None


def _bees(y: Array, radii: Array) -> Array:
    """Place points in order of size, each as near to the middle as those already placed allow."""
    offsets = np.zeros(len(y))
    placed: list[int] = []
    for i in np.lexsort((y, -radii)):
        others = np.array(placed, dtype=int)
        reach = radii[i] + radii[others] + GAP
        gap = np.abs(y[i] - y[others])
        near = others[gap < reach]
        reach, gap = reach[gap < reach], gap[gap < reach]
        side = np.sqrt(reach**2 - gap**2)
        places = np.concatenate([[0.0], offsets[near] + side, offsets[near] - side])
        free = (np.abs(places[:, None] - offsets[near]) >= side - 1e-12).all(axis=1)
        usable = places[free]
        offsets[i] = usable[np.lexsort((usable, np.round(np.abs(usable), 9)))[0]]
        placed.append(int(i))
    return offsets


def _by_density(y: Array, *, half: float) -> Array:
    """Spread points by the van der Corput sequence over the width of a kernel estimate of their density."""
    n = len(y)
    order = np.argsort(y, kind="stable")
    spread = max(float(np.ptp(y)), 1e-9)
    edges = np.linspace(y.min() - 0.1 * spread, y.max() + 0.1 * spread, 65)
    counts = np.histogram(y, bins=edges)[0].astype(float)
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.5) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    density = np.interp(y[order], 0.5 * (edges[1:] + edges[:-1]), smooth)
    sequence = np.zeros(n)
    index, base = np.arange(1, n + 1), 0.5
    while index.any():
        sequence += base * (index % 2)
        index, base = index // 2, base / 2
    offsets = np.zeros(n)
    offsets[order] = (2.0 * sequence - 1.0) * max(half, 0.0) * density / density.max()
    return offsets
