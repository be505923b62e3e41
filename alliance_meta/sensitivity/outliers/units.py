"""The effects or studies of a fit under the covariance that its model gives them: what is plotted to find outliers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bias.given import given
from alliance_meta.core.dependent import IntArray, components, nested, stacks
from alliance_meta.core.robust.sandwich import DiagonalWorking, WorkingCovariance
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.studies import STUDY
from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults

By = Literal["effect", "study"]
# Rows of a table of effects or studies that a summary shows.
MOST_SHOWN = 10
MODELS = (RandomEffectsResults, MultilevelResults, RVEResults, LocationScaleResults)


@dataclass(frozen=True, eq=False)
class Units:
    """The effects of a fit, one by one or by study."""

    fit: Any
    by: By
    labels: tuple[str, ...]  # what the n units are called
    unit: IntArray  # (k,): unit of each effect
    work: WorkingCovariance  # covariance M of the effects under the model

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.labels)

    @property
    def sizes(self) -> IntArray:
        """Effects of each unit, (n,)."""
        return np.bincount(self.unit, minlength=self.n)

    @cached_property
    def resid(self) -> Array:
        """Effects less their fitted values, (k,)."""
        return np.asarray(self.fit.effects.yi - self.fit.design.X @ self.fit.beta)

    @property
    def weights(self) -> Array:
        """What the model weights its design by, WX (k, p): M^-1 X, or its own weights times X."""
        own = self.work.weights if isinstance(self.work, DiagonalWorking) else None
        return self.weighted if own is None else own[:, None] * self.fit.design.X

    @cached_property
    def weighted(self) -> Array:
        """M^-1 X, (k, p)."""
        return self.work.solve(self.fit.design.X)

    @cached_property
    def vb(self) -> Array:
        """Covariance of the coefficients if M is right, (p, p)."""
        found = np.linalg.inv(self.fit.design.X.T @ self.weighted)
        return 0.5 * (found + found.T)

    @cached_property
    def tied(self) -> IntArray:
        """The finest groups of effects that M does not tie together, (k,)."""
        terms = [term.ties for term in getattr(self.fit, "random", ())]
        V = getattr(self.fit, "V", None)
        ties = terms if V is None else [*terms, V.codes]
        return components(*ties) if ties else np.arange(len(self.unit))

    @property
    def whole(self) -> bool:
        """Tell whether units are independent of each other under M."""
        return nested(self.tied, self.unit)

    def check_whole(self, who: str) -> None:
        """Raise an `InputError` where M ties units together."""
        if not self.whole:
            apart = "effects of one study" if self.by == "effect" else "different studies"
            raise InputError(
                f"{who}: the model ties {apart} together, so that each is no point of its own; "
                + ("ask for by='study'" if self.by == "effect" else "fit without crossed random terms")
            )

    def blocks(self, groups: IntArray) -> Iterator[tuple[IntArray, Array]]:
        """Yield rows (m, size) and covariances of the groups of each size."""
        for rows in stacks(groups):
            yield rows, self.work.block(rows)

    @cached_property
    def means(self) -> tuple[Array, Array]:
        """Weights (k,) that make the best mean of each unit from its own effects alone, and its variance (n,)."""
        weights, variance = np.empty(len(self.unit)), np.empty(self.n)
        for rows, M in self.blocks(self.unit):
            solved = np.linalg.solve(M, np.ones((*rows.shape, 1)))[:, :, 0]
            total = solved.sum(axis=1)
            weights[rows] = solved / total[:, None]
            variance[self.unit[rows[:, 0]]] = 1.0 / total
        return weights, variance

    def mean(self, values: Array) -> Array:
        """Return the best mean of each unit of values (k,) or (k, m): (n,) or (n, m)."""
        weights = self.means[0]
        if self.by == "effect":
            return values
        order = np.argsort(self.unit, kind="stable")
        first = np.flatnonzero(np.diff(self.unit[order], prepend=-1))
        return np.asarray(np.add.reduceat((weights * values.T).T[order], first))


def read_units(fit: Any, who: str, by: By | None, *, moderators: bool = True) -> Units:
    """Return the units of a fit: by default studies where some have several effects."""
    found = given(fit, who, moderators=moderators)
    model: Any = fit.fit if isinstance(fit, RobustResults) else fit
    if not isinstance(model, MODELS):
        raise InputError(
            f"{who} needs a model that says how effects scatter around their mean: fit RandomEffectsModel, "
            f"MultilevelModel or che() to the same effects, not {model.called}"
        )
    if by is not None:
        check_option("by", by, By)
    work = model.working() if hasattr(model, "working") else DiagonalWorking(model.effects.vi + model.tau2)
    chosen: By = by or ("study" if found.dependent else "effect")
    if chosen == "effect":
        return Units(model, chosen, tuple(model.effects.slab), np.arange(model.k), work)
    clusters = read_clusters(model.effects, STUDY)
    return Units(model, chosen, tuple(clusters.labels), clusters.codes, work)
