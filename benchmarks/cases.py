"""What is timed: seeded data, so that every contender and every run sees the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

TAU2 = 0.03
MEAN = 0.3


@dataclass(frozen=True)
class Case:
    """A model fitted once, or to B data sets."""

    name: str
    title: str
    kind: Literal["fit", "replicates", "bootstrap", "permutation"]
    k: int
    moderators: int = 0
    B: int = 1


CASES = (
    *(Case(f"fit-{k}", f"REML, k = {k:,}", "fit", k) for k in (20, 295, 2000, 20_000, 200_000)),
    *(Case(f"fit5-{k}", f"REML, five moderators, k = {k:,}", "fit", k, moderators=5) for k in (295, 2000, 200_000)),
    Case("replicates", "10,000 REML fits, k = 30", "replicates", 30, B=10_000),
    Case("bootstrap", "parametric bootstrap, 1,000 × k = 79", "bootstrap", 79, B=1000),
    Case("permutation", "1,000 permutations, two moderators, k = 79", "permutation", 79, moderators=2, B=1000),
)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Data:
    """y and v are (k,), or (B, k) where a case refits many data sets; X is (k, p) with the intercept first."""

    y: np.ndarray
    v: np.ndarray
    X: np.ndarray


def make(case: Case) -> Data:
    rng = np.random.default_rng([2026, case.k, case.moderators, case.B])
    X = np.column_stack([np.ones(case.k), *rng.normal(size=(case.moderators, case.k))])
    shape = (case.B, case.k) if case.kind in ("replicates", "bootstrap") else (case.k,)
    v = rng.uniform(0.01, 0.1, shape if case.kind == "replicates" else case.k)
    mean = X @ np.concatenate([[MEAN], np.full(case.moderators, 0.05)])
    y = mean + rng.normal(size=shape) * np.sqrt(v + TAU2)
    return Data(y, np.broadcast_to(v, shape), X)
