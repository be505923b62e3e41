"""Random terms of a fitted multilevel model and what was estimated of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.mixed.covariance import Term
from alliance_meta.core.mixed.search import MixedFit, observed_information
from alliance_meta.core.mixed.structures import Scaled, Structure, Unstructured
from alliance_meta.core.robust.clusters import IntArray, pairs
from alliance_meta.notes import NotApplicable, Struct

if TYPE_CHECKING:
    from alliance_meta.design import Design


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """What varies at random between the groups of a factor.

    Attributes
    ----------
    name : str
        The factor (``study_id``), or ``inner | outer``.
    struct : str
        ``ID`` and ``R`` (intercepts, the latter with given correlations), ``CS HCS UN DIAG AR HAR CAR`` (inner
        levels within outer ones), ``GEN`` (intercept and slopes).
    parameters : tuple of str
        Names of the parameters that are searched for.
    levels : sequence of str
        What each group is called.
    group : ndarray of shape (k,)
        Group of each effect.
    structure : Structure
        Of the whole term; fits to some of its effects may have one of fewer inner levels.
    columns : tuple of str
        Inner levels or slope columns; empty for an intercept.
    inner : ndarray of shape (k,) or None
        Inner level of each effect.
    """

    name: str
    struct: Struct | str
    parameters: tuple[str, ...]
    levels: Sequence[str]
    group: IntArray
    structure: Structure
    columns: tuple[str, ...] = ()
    inner: IntArray | None = None
    slopes: Design | None = None

    @property
    def outer(self) -> str:
        """The factor whose groups are independent."""
        return self.name.rpartition("|")[2].strip()

    @property
    def within(self) -> str:
        """The inner factor, or the slopes; empty for an intercept."""
        return self.name.rpartition("|")[0].strip()

    @property
    def n(self) -> int:
        """Number of groups."""
        return len(self.levels)

    @property
    def lone(self) -> tuple[str, ...]:
        """The variances of inner levels that a single group has."""
        if self.inner is None or self.structure.constant:
            return ()
        groups = np.bincount(np.unique(np.column_stack([self.inner, self.group]), axis=0)[:, 0])
        return tuple(f"tau2[{self.name}: {c}]" for c, n in zip(self.columns, groups, strict=True) if n == 1)

    @property
    def groupings(self) -> list[IntArray]:
        """The groups, and for ``inner | outer`` the distinct pairs of both: what a moderator can be constant in."""
        if self.slopes is not None:
            rows = np.unique(self.slopes.X, axis=0, return_inverse=True)[1].ravel()
        elif self.inner is not None:
            rows = self.inner
        else:
            return [self.group]
        return [self.group, pairs(self.group, rows)]

    @property
    def of_pairs(self) -> bool:
        """Each distinct pair of inner and outer level has an effect of its own, and these are independent."""
        return self.inner is not None and isinstance(self.structure, Scaled)

    @property
    def ties(self) -> IntArray:
        """Groups that the term leaves independent, (k,)."""
        return np.zeros_like(self.group) if self.structure.linked else self.group

    @property
    def terms(self) -> list[Term]:
        """What the likelihood needs of the term."""
        if self.slopes is not None:
            return [Term(self.group, self.slopes.X)]
        return self.structure.terms(self.group, self.inner, len(self.columns))

    def block(self, theta: Array, structure: Structure, rows: IntArray) -> Array:
        """Return what the term adds to the covariance of rows (n, m), as (n, m, m)."""
        group = self.group[rows]
        same = (group[:, :, None] == group[:, None, :]).astype(float)
        if structure.linked:
            return np.asarray(structure.matrices(theta)[0][group[:, :, None], group[:, None, :]])
        if self.slopes is not None:
            Z = self.slopes.X[rows]
            return np.asarray(same * np.einsum("nmq,qr,nlr->nml", Z, structure.matrices(theta)[0], Z))
        if self.inner is None:
            return float(theta[0]) * same
        inner = self.inner[rows]
        if self.of_pairs:
            return float(theta[0]) * same * (inner[:, :, None] == inner[:, None, :])
        return np.asarray(same * self.matrix(theta, structure)[inner[:, :, None], inner[:, None, :]])

    def matrix(self, theta: Array, structure: Structure) -> Array:
        """Return the covariance of the columns (q, q); (1, 1) where one number says it all."""
        return structure.joint(theta, len(self.columns))


def natural(term: RandomTerm, theta: Array, structure: Structure) -> dict[str, float]:
    """Return variances and correlations by name."""
    if not isinstance(term.structure, Unstructured):
        return dict(zip(term.parameters, map(float, structure.natural(theta)), strict=True))
    G = term.matrix(theta, structure)
    sd = np.sqrt(np.diag(G))
    found = {f"tau2[{term.name}: {c}]": float(G[i, i]) for i, c in enumerate(term.columns)}
    for i in range(len(sd)):
        for j in range(i):
            both = sd[i] * sd[j]
            found[f"rho[{term.name}: {term.columns[j]}, {term.columns[i]}]"] = (
                float(G[i, j] / both) if both > 0 else NotApplicable("a variance is 0")
            )
    return found


def component_table(fit: MixedFit, terms: tuple[RandomTerm, ...]) -> pd.DataFrame:
    """Return one row per variance and correlation: ``estimate se groups at_bound fixed``."""
    problem = fit.point.problem
    free = ~(fit.at_bound | fit.fixed)
    covariance = np.full((problem.n, problem.n), np.nan)
    if free.any():
        information = observed_information(fit)[np.ix_(free, free)]
        if np.linalg.eigvalsh(information)[0] > 0:
            covariance[np.ix_(free, free)] = np.linalg.inv(information)
    rows: dict[str, dict[str, Any]] = {}
    for term, component, part in zip(terms, problem.components, problem.slices, strict=True):
        theta = fit.theta[part]
        values = natural(term, theta, component.structure)
        V = covariance[part, part]
        slopes = _slopes(term, theta, component.structure, values)
        for (name, value), slope in zip(values.items(), slopes, strict=True):
            used = slope != 0
            # A correlation of 1 does not move with any parameter.
            edge = bool(fit.at_bound[part][used].any()) or not used.any()
            given = bool(fit.fixed[part][used].all()) and used.any()
            variance = float(slope[used] @ V[np.ix_(used, used)] @ slope[used])
            rows[name] = {
                "estimate": value,
                "se": _se(variance, edge=edge, given=given),
                "groups": term.n,
                "at_bound": edge,
                "fixed": given,
            }
    return object_frame(rows, ("estimate", "se", "groups", "at_bound", "fixed"))


def object_frame(rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return rows as a frame whose cells keep the reason why a number does not exist."""
    cells = {name: pd.Series([row[name] for row in rows.values()], index=list(rows), dtype=object) for name in columns}
    return pd.DataFrame(cells, index=pd.Index(list(rows)))


def _se(variance: float, *, edge: bool, given: bool) -> float:
    if given:
        return NotApplicable("given, not estimated")
    if edge:
        return NotApplicable("at the edge of its range")
    return variance**0.5 if variance > 0 else NotApplicable("the likelihood has no clear peak here")


def _slopes(term: RandomTerm, theta: Array, structure: Structure, values: Mapping[str, float]) -> list[Array]:
    """Return the derivative of each natural parameter by the searched ones."""
    if not isinstance(term.structure, Unstructured):
        return list(np.diag(np.append(2.0 * theta[:-1], 1.0)) if structure.by_sd else np.eye(len(theta)))
    found = np.zeros((len(values), theta.size))
    for j in range(theta.size):
        h = 1e-6 * max(1.0, abs(float(theta[j])))
        up, down = theta.copy(), theta.copy()
        up[j], down[j] = theta[j] + h, theta[j] - h
        above, below = natural(term, up, structure), natural(term, down, structure)
        found[:, j] = [(above[name] - below[name]) / (2.0 * h) for name in values]
    return list(np.where(np.abs(found) < 1e-9, 0.0, found))


def row_variances(term: RandomTerm, theta: Array, structure: Structure, newdata: pd.DataFrame, rows: int) -> Array:
    """Return the variance that the term gives to a new effect of each row of `newdata`; NaN where it must be told."""
    if term.structure.constant:
        return np.full(rows, float(theta[0]))
    G = term.matrix(theta, structure)
    if term.slopes is not None:
        missing = [name for name in term.slopes.variables if name not in newdata.columns]
        if missing:
            return np.full(rows, np.nan)
        Z, _ = term.slopes.new_rows(newdata)
        return np.asarray(np.einsum("mq,qr,mr->m", Z, G, Z))
    if term.within not in newdata.columns:
        return np.full(rows, np.nan)
    places = {level: i for i, level in enumerate(term.columns)}
    at = [places.get(str(value), -1) for value in newdata[term.within]]
    return np.array([G[i, i] if i >= 0 else np.nan for i in at])
