"""A fitted model cut into clusters: what cluster-robust inference and the wild bootstrap start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.robust.clusters import IntArray, nested, stacks
from alliance_meta.core.robust.sandwich import DiagonalWorking, Sandwich, WorkingCovariance, resting
from alliance_meta.core.robust.satterthwaite import estimable, htz
from alliance_meta.core.robust.wild import Regression
from alliance_meta.design import Design
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import FewStudiesWarning, InputError
from alliance_meta.notes import NotApplicable, Note, RobustType, Scale, warn_note
from alliance_meta.results.coefficients import WaldTest
from alliance_meta.results.fit import Newdata

# Residuals below this share of the effects are what floating point leaves of an exact fit.
ROUNDING = 1e-13
ONE_CLUSTER = "a coefficient rests on one cluster alone and has no robust variance"
# Tipton (2015): below so many degrees of freedom the t approximation fails.
FEW_DF = 4


class Weighted(Protocol):
    """A weighted regression of effects."""

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
    def notes(self) -> tuple[Note, ...]:
        """What a reader must know."""

    @property
    def omnibus(self) -> WaldTest:
        """The test of all moderators."""


class ModelBased(Weighted, Protocol):
    """What robust inference asks of a fitted model."""

    @property
    def level(self) -> float:
        """Confidence level."""

    def working(self) -> WorkingCovariance:
        """Return the covariance of the effects that the model believes in."""

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
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
    name : str
        The column that made the clusters.
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

    name: str
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

    @property
    def notes(self) -> tuple[Note, ...]:
        """A remark where clusters cut through what the model ties together."""
        if not self.crossed:
            return ()
        message = (
            "The model ties effects of different clusters together; robust inference takes clusters to be "
            "independent. Cluster by what contains every random term, if there is such a thing."
        )
        return (Note("crossed-clusters", message),)

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
    """Cut a fitted model into clusters: a column's name, several, or one label per effect."""
    return cut(fit, fit.working(), read_clusters(fit.effects, cluster))


def cut(fit: Weighted, work: WorkingCovariance, groups: Clusters) -> Clustered:
    """Cut a weighted regression with a working covariance into the groups given."""
    y, X = fit.effects.yi, fit.design.X
    labels, of = _sorted(groups)
    if len(labels) < 2:
        raise InputError(
            f"cluster={groups.name!r} holds every effect in one cluster ({labels[0]}); cluster-robust "
            "inference compares clusters and needs at least 2: choose a finer one"
        )
    if len(X) <= X.shape[1]:
        raise InputError(
            f"no residuals are left: the model has {X.shape[1]} coefficients for {len(X)} effects; use fewer moderators"
        )
    own = work.weights if isinstance(work, DiagonalWorking) else None
    Q, R = np.linalg.qr(X)
    weighted = work.solve(Q) if own is None else own[:, None] * Q
    blocks = [(rows, work.block(rows)) for rows in stacks(of)]
    bread = np.linalg.inv(Q.T @ weighted)
    resid = y - X @ fit.beta
    if np.abs(resid).max() <= ROUNDING * np.abs(y).max():
        resid = np.zeros_like(resid)
    return Clustered(
        name=groups.name,
        labels=labels,
        cluster=of,
        y=y,
        resid=resid,
        change=np.linalg.inv(R),
        model=Regression(Q, weighted, 0.5 * (bread + bread.T), blocks, own is None),
        crossed=any(not nested(ties, of) for ties in _ties(fit)),
    )


def _sorted(groups: Clusters) -> tuple[tuple[str, ...], IntArray]:
    """Return labels in alphabetical order and each effect's place among them."""
    order = sorted(range(groups.n), key=groups.labels.__getitem__)
    rank = np.empty(groups.n, dtype=np.intp)
    rank[order] = np.arange(groups.n)
    return tuple(groups.labels[code] for code in order), rank[groups.codes]


def _ties(fit: Any) -> list[IntArray]:
    """Return the groups within which the model ties effects together: random terms, and sampling errors."""
    terms = getattr(fit, "random", ())
    ties = [term.ties for term in terms]
    V = getattr(fit, "V", None)
    return ties if V is None else [*ties, V.codes]


def few_df_notes(names: Sequence[str], ddf: Array, *, clusters: int, stacklevel: int) -> list[Note]:
    """Warn of coefficients whose t approximation fails; return the note of that."""
    few = ddf < FEW_DF
    if not few.any():
        return []
    message = (
        f"Fewer than {FEW_DF} degrees of freedom for {_listed(names, few)} ({clusters} clusters): do not trust "
        "p-values and intervals (Tipton 2015, doi:10.1037/met0000011)."
    )
    return [warn_note("few-df", message, FewStudiesWarning, stacklevel=stacklevel)]


def one_cluster_notes(names: Sequence[str], resting: Sequence[tuple[str, Mask]], *, stacklevel: int) -> list[Note]:
    """Warn of coefficients that rest on one cluster alone, given as `Clustered.resting`; return the notes."""
    notes = []
    for label, which in resting:
        message = (
            f"Cluster {label} alone tells about {_listed(names, which)}: with no other to disagree with, its "
            "error is missing from robust standard errors, which are too small or not there. Leave its rows out, or "
            "merge the level with another."
        )
        notes.append(warn_note("one-cluster-term", message, FewStudiesWarning, stacklevel=stacklevel))
    return notes


def _listed(names: Sequence[str], which: Mask) -> str:
    found = [name for name, there in zip(names, which, strict=True) if there]
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def joint_test(robust: Sandwich, beta: Array, L: Array, null: str) -> WaldTest:
    """Test L beta = 0 by the approximate Hotelling T2, with the reason where it is not defined."""
    F, _, df2, pval = htz(robust, beta, L)
    if F == F:
        return WaldTest(F, len(L), df2, pval, null)
    if not estimable(robust, L):
        gone = NotApplicable(ONE_CLUSTER)
    elif df2 <= 0:
        gone = NotApplicable(f"{robust.J} clusters are too few to test {len(L)} combinations of coefficients together")
    else:
        gone = NotApplicable("the robust covariance of what is tested is singular")
    return WaldTest(gone, len(L), df2 if df2 == df2 else gone, gone, null)
