"""What is timed: seeded data, so that every contender and every run sees the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

TAU2 = 0.03
MEAN = 0.3
# Of studies, and of effects within them.
SIGMA2 = (0.02, 0.01)
# Correlation of sampling errors within studies.
RHO = 0.6

Bayesian = Literal["posterior", "everything", "priors", "loo", "three-level posterior", "subsets", "robma"]
Selected = Literal["step", "beta"]
Subsets = Literal["gosh-REML", "gosh-DL"]
Kind = (
    Selected
    | Subsets
    | Literal[
        "left out",
        "fit",
        "replicates",
        "bootstrap",
        "permutation",
        "multiverse",
        "three-level",
        "cr2",
        "wild",
        "che",
        "rve",
        "impute",
    ]
    | Literal["selection", "selection bootstrap"]
    | Bayesian
)


@dataclass(frozen=True)
class Case:
    """A model fitted once, or to B data sets; with `studies` the effects are dependent."""

    name: str
    title: str
    kind: Kind
    k: int
    moderators: int = 0
    B: int = 1
    studies: int = 0
    without: tuple[str, ...] = ()
    """Peers that are not run, because a smaller case takes them so long."""

    @property
    def selected(self) -> bool:
        return self.kind in get_args(Selected)

    @property
    def of_subsets(self) -> bool:
        return self.kind in get_args(Subsets)

    @property
    def deleting(self) -> bool:
        return self.kind == "left out"

    @property
    def bayesian(self) -> bool:
        return self.kind in get_args(Bayesian)


NO_MULTIVERSE = ("arrays", "PyMARE", "statsmodels", "metapipe-kit", "pymetaanalysis", "pimeta")
K_BY_K = ("metafor", "metafor-sparse", "clubSandwich", "pimeta")
SIZES = (
    (300, 100, ()),
    (3000, 1000, ("pimeta",)),
    (10_000, 3000, K_BY_K),
    (200_000, 50_000, (*K_BY_K, "PyMARE")),
)


def _sized(kind: Kind, title: str, moderators: int = 0) -> tuple[Case, ...]:
    return tuple(
        Case(f"{kind}-{k}", f"{title}, {k:,} in {n:,}", kind, k, moderators, studies=n, without=without)
        for k, n, without in SIZES
    )


INDEPENDENT = (
    *(Case(f"fit-{k}", f"REML, k = {k:,}", "fit", k) for k in (20, 295, 2000, 20_000, 200_000)),
    *(Case(f"fit5-{k}", f"REML, five moderators, k = {k:,}", "fit", k, moderators=5) for k in (295, 2000, 200_000)),
    Case("replicates", "10,000 REML fits, k = 30", "replicates", 30, B=10_000),
    Case("bootstrap", "parametric bootstrap, 1,000 × k = 79", "bootstrap", 79, B=1000),
    Case("gosh-dl", "GOSH by DL, all 1,048,575 subsets of 20", "gosh-DL", 20, B=2**20 - 1),
    Case("gosh-reml", "GOSH by REML, all 1,048,575 subsets of 20", "gosh-REML", 20, B=2**20 - 1),
    Case("permutation", "1,000 permutations, two moderators, k = 79", "permutation", 79, moderators=2, B=1000),
    Case("multiverse", "multiverse of 10,080 fits, k = 100", "multiverse", 100, B=10_080, without=NO_MULTIVERSE),
    *(Case(f"step-{k}", f"selection model, one step, k = {k:,}", "step", k) for k in (79, 295, 2000)),
    Case("step-20000", "selection model, one step, k = 20,000", "step", 20_000, without=("metafor",)),
    *(Case(f"left-out-{k}", f"everything without each effect, REML, k = {k:,}", "left out", k) for k in (295, 2000)),
    Case("beta-79", "selection model, beta weights, k = 79", "beta", 79),
    Case("beta-295", "selection model, beta weights, k = 295", "beta", 295, without=("metafor",)),
)
DEPENDENT = (
    *_sized("three-level", "three-level REML"),
    *_sized("cr2", "CR2 and Satterthwaite, three moderators", 3),
    Case("wild", "2,000 wild bootstraps, 300 in 100", "wild", 300, 3, B=2000, studies=100),
    Case("che", "CHE and CR2, three moderators, 900 in 300", "che", 900, 3, studies=300),
    Case("rve-300", "RVE, three moderators, 300 in 100", "rve", 300, 3, studies=100),
    Case("rve-3000", "RVE, three moderators, 3,000 in 1,000", "rve", 3000, 3, studies=1000, without=("robumeta",)),
    Case("selection", "clustered selection model, 295 in 100", "selection", 295, studies=100),
    Case(
        "selection-bootstrap",
        "clustered selection model, 1,000 bootstraps, 295 in 100",
        "selection bootstrap",
        295,
        B=1000,
        studies=100,
    ),
    Case(
        "left-out-3000", "everything without each study, three levels, 3,000 in 1,000", "left out", 3000, studies=1000
    ),
    Case("impute", "covariances of 200,000 in 50,000", "impute", 200_000, studies=50_000),
)
BAYESIAN = (
    *(Case(f"posterior-{k}", f"posterior and marginal likelihood, k = {k}", "posterior", k) for k in (24, 79, 295)),
    Case("everything-24", "every quantile and true effect, k = 24", "everything", 24),
    Case("everything-79", "every quantile and true effect, k = 79", "everything", 79),
    Case("everything-295", "every quantile and true effect, k = 295", "everything", 295, without=("bayesmeta",)),
    Case("priors", "40 priors of τ, k = 79", "priors", 79),
    Case("loo", "exact leave-one-out, k = 79", "loo", 79),
    Case(
        "bayes-three-level", "three levels, five moderators, 295 in 150", "three-level posterior", 295, 5, studies=150
    ),
    Case("subsets", "16,384 sets of 14 moderators, k = 295", "subsets", 295, 14),
    Case("robma-24", "36 models of publication bias, k = 24", "robma", 24),
    Case("robma-79", "36 models of publication bias, k = 79", "robma", 79, without=("RoBMA",)),
    Case("robma-295", "36 models of publication bias, k = 295", "robma", 295, without=("RoBMA",)),
)
CASES = (*INDEPENDENT, *DEPENDENT, *BAYESIAN)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Data:
    """y and v are (k,), or (B, k) where a case refits many data sets; X is (k, p) with the intercept first.

    `study` (k,) numbers the studies of dependent effects, which stand together.
    """

    y: np.ndarray
    v: np.ndarray
    X: np.ndarray
    study: np.ndarray | None = None


def make(case: Case) -> Data:
    if case.studies:
        return _dependent(case)
    rng = np.random.default_rng([2026, case.k, case.moderators, case.B])
    X = np.column_stack([np.ones(case.k), *rng.normal(size=(case.moderators, case.k))])
    shape = (case.B, case.k) if case.kind in ("replicates", "bootstrap") else (case.k,)
    v = rng.uniform(0.01, 0.1, shape if case.kind == "replicates" else case.k)
    mean = X @ np.concatenate([[MEAN], np.full(case.moderators, 0.05)])
    y = mean + rng.normal(size=shape) * np.sqrt(v + TAU2)
    return Data(y, np.broadcast_to(v, shape), X)


def _dependent(case: Case) -> Data:
    """Studies of unequal size, except in "che", where each has as many effects as the others."""
    k, n = case.k, case.studies
    rng = np.random.default_rng([2026, k, n, case.moderators])
    each = np.arange(k) % n if case.kind == "che" else np.concatenate([np.arange(n), rng.integers(0, n, k - n)])
    study = np.sort(each)
    X = np.column_stack([np.ones(k), *rng.normal(size=(case.moderators, k))])
    v = rng.uniform(0.01, 0.1, k)
    shared = np.sqrt(RHO) * rng.normal(size=n)[study] if case.kind in ("che", "rve") else 0.0
    own = np.sqrt(1.0 - RHO) if case.kind in ("che", "rve") else 1.0
    error = np.sqrt(v) * (shared + own * rng.normal(size=k))
    true = np.sqrt(SIGMA2[0]) * rng.normal(size=n)[study] + np.sqrt(SIGMA2[1]) * rng.normal(size=k)
    return Data(X @ np.concatenate([[MEAN], np.full(case.moderators, 0.05)]) + true + error, v, X, study)
