"""A fitted model cut into clusters: what cluster-robust inference and the wild bootstrap start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.clusters import IntArray, nested, stacks
from alliance_meta.core.robust import Sandwich, WorkingCovariance, resting
from alliance_meta.core.satterthwaite import htz
from alliance_meta.core.wild import Regression
from alliance_meta.design import Design
from alliance_meta.effects.grouping import grouping
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import RobustType, Scale
from alliance_meta.results.teststats import WaldTest

# Residuals below this share of the effects are what floating point leaves of an exact fit.
ROUNDING = 1e-13


class ModelBased(Protocol):
    """What robust inference asks of a fitted model; weights are the inverse of `working`, or its own ``weights``.

    A working covariance may have ``connected`` (k,): codes of the rows that it ties together.
    """

    @property
    def effects(self) -> EffectSizes:
        """The effects that took part."""

    @property
    def design(self) -> Design:
        """The design matrix."""

    @property
    def beta(self) -> Array:
        """Coefficients."""

    @property
    def level(self) -> float:
        """Confidence level."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader must know."""

    @property
    def omnibus(self) -> WaldTest:
        """The model-based test of all moderators."""

    def working(self) -> WorkingCovariance:
        """Return the covariance of the effects that the model believes in."""

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Return model-based predictions."""

    def summary(self) -> str:
        """Return the model-based summary."""

    def methods_text(self) -> str:
        """Return the sentences on the model."""

    def r_code(self) -> str:
        """Return R code that makes ``fit`` of ``dat``."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""


@dataclass(frozen=True, eq=False)
class Clustered:
    """The weighted regression of a fitted model, with orthonormal columns in place of its moderators.

    Attributes
    ----------
    name : str or None
        The column that made the clusters; None for values that were given.
    labels : tuple of str
        The clusters, sorted, so that no result depends on the order of rows.
    cluster : ndarray of int, shape (k,)
    y, resid : ndarray of shape (k,)
    change : ndarray of shape (p, p)
        The model's coefficients are ``change`` times those of `model`.
    model : Regression
    crossed : bool
        Whether the working covariance ties rows of different clusters together.
    """

    name: str | None
    labels: tuple[str, ...]
    cluster: IntArray
    y: Array
    resid: Array
    change: Array
    model: Regression
    crossed: bool

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.labels)

    @cached_property
    def sizes(self) -> IntArray:
        """Effects in each cluster."""
        return np.bincount(self.cluster)

    @cached_property
    def resting(self) -> list[tuple[str, Mask]]:
        """Clusters on which a combination of coefficients rests alone, with the coefficients concerned (p,)."""
        first, direction = resting(self.model.X, [rows for rows, _ in self.model.blocks])
        moved = direction @ self.change.T
        scale = np.abs(self.change).max(axis=1)
        return [
            (self.labels[self.cluster[row]], np.abs(moving) > 1e-8 * scale)
            for row, moving in zip(first, moved, strict=True)
        ]

    def check(self, type: RobustType) -> None:
        """Raise an `InputError` for an adjustment that these clusters do not allow."""
        p = self.change.shape[1]
        if type == "CR1p" and self.n <= p:
            raise InputError(f"CR1p needs more clusters than coefficients, not {self.n} for {p}; use CR2")
        if type == "CR3" and self.resting:
            raise InputError(
                "CR3 leaves out each cluster in turn, and without "
                f"{self.resting[0][0]} a coefficient has no data left; use CR2"
            )

    def sandwich(self, type: RobustType) -> Sandwich:
        """Return the robust covariance of the model's coefficients."""
        self.check(type)
        return self.model.sandwich(self.resid, type).rebased(self.change)


def clustered(fit: ModelBased, cluster: Any) -> Clustered:
    """Cut a fitted model into clusters: a column's name, or one label per effect."""
    effects, X = fit.effects, fit.design.X
    found = grouping(effects, cluster, "cluster")
    order = sorted(range(len(found.levels)), key=lambda code: str(found.levels[code]))
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    of = rank[found.codes]
    labels = tuple(str(found.levels[code]) for code in order)
    if len(labels) < 2:
        raise InputError(
            f"cluster={found.name or 'as given'!r} holds every effect in one cluster ({labels[0]}); cluster-robust "
            "inference compares clusters and needs at least 2: choose a finer one"
        )
    if len(X) <= X.shape[1]:
        raise InputError(
            f"no residuals are left: the model has {X.shape[1]} coefficients for {len(X)} effects; use fewer moderators"
        )
    work = fit.working()
    own = getattr(work, "weights", None)
    Q, R = np.linalg.qr(X)
    weighted = work.solve(Q) if own is None else own[:, None] * Q
    blocks = [(rows, work.block(rows)) for rows in stacks(of)]
    bread = np.linalg.inv(Q.T @ weighted)
    connected = getattr(work, "connected", None)
    resid = effects.yi - X @ fit.beta
    if np.abs(resid).max() <= ROUNDING * np.abs(effects.yi).max():
        resid = np.zeros_like(resid)
    return Clustered(
        name=found.name,
        labels=labels,
        cluster=of,
        y=effects.yi,
        resid=resid,
        change=np.linalg.inv(R),
        model=Regression(Q, weighted, 0.5 * (bread + bread.T), blocks, own is None),
        crossed=connected is not None and not nested(connected, of),
    )


def joint_test(robust: Sandwich, beta: Array, L: Array, null: str) -> WaldTest:
    """Test L beta = 0 by the approximate Hotelling T2, with the reason where it is not defined."""
    F, _, df2, pval = htz(robust, beta, L)
    if F == F:
        return WaldTest(F, len(L), df2, pval, null)
    if df2 <= 0:
        gone = NotApplicable(f"{robust.J} clusters are too few to test {len(L)} combinations of coefficients together")
    else:
        gone = NotApplicable("the robust covariance of what is tested is singular")
    return WaldTest(gone, len(L), df2 if df2 == df2 else gone, gone, null)
