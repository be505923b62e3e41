"""Which effects stand under which study in a forest plot, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.errors import InputError
from alliance_meta.notes import Note
from alliance_meta.plots.forests.cells import Order, sort_values
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_predictions import study_term
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults

Drawn = list[tuple[int, list[int]]]


@dataclass(frozen=True, eq=False)
class Nest:
    """Studies and their effects.

    Attributes
    ----------
    clusters : Clusters
        The studies: code of each effect, and labels.
    marks : ndarray of shape (n, 3) or None
        Each study's mean true effect with its interval, on the analysis scale.
    """

    clusters: Clusters
    marks: Array | None


def model_of(fit: Any) -> Any:
    """Return the model under robust standard errors, or the model."""
    return fit.fit if isinstance(fit, RobustResults) else fit


def find_nest(fit: Any, nest: str | None, level: float) -> Nest:
    """Return the studies: those of the column `nest`, of the robust clusters, or of the coarsest random term."""
    model = model_of(fit)
    if nest is not None:
        clusters = read_clusters(fit.effects, nest)
    elif isinstance(fit, RobustResults):
        clusters = _given(fit.cluster, fit._clusters.cluster, fit._clusters.labels)
    elif isinstance(fit, RVEResults):
        clusters = fit.clusters
    else:
        clusters = _of_terms(fit)
    return Nest(clusters, _marks(model, clusters, level) if isinstance(model, MultilevelResults) else None)


def _given(name: str, codes: Any, labels: Sequence[str]) -> Clusters:
    return Clusters(name, np.asarray(codes, dtype=np.intp), tuple(labels))


def _of_terms(fit: MultilevelResults) -> Clusters:
    """Return the groups of the coarsest random intercept, or of the coarsest outer factor."""
    try:
        _, term = study_term(fit)
    except InputError:
        several = [term for term in fit.random if term.n < fit.k]
        if not several:
            return read_clusters(fit.effects, "study_id")
        term = min(several, key=lambda one: one.n)
    return _given(term.outer, term.group, term.levels)


def _marks(model: MultilevelResults, clusters: Clusters, level: float) -> Array | None:
    """Return the study means that the model predicts, if its groups are the studies."""
    try:
        _, term = study_term(model)
    except InputError:
        return None
    pairs = np.unique(np.column_stack([clusters.codes, term.group]), axis=0)
    if not len(pairs) == clusters.n == term.n:
        return None
    found = model.blup(level=level)[["pred", "pi_lb", "pi_ub"]].to_numpy(dtype=float)
    return found[pairs[:, 1]]


def sort_nest(fit: Any, nest: Nest, order: Order) -> tuple[Drawn, list[Note]]:
    """Return the studies with their effects in drawing order, and notes on rows that lack a sort value."""
    keys = [order] if isinstance(order, str) else list(order)
    codes = nest.clusters.codes
    studies = list(range(nest.clusters.n))
    positions = list(range(fit.effects.k))
    notes: list[Note] = []
    for key in reversed(keys):
        reverse = key.startswith("-") and key not in fit.effects.moderators
        name = key[1:] if reverse else key
        values = sort_values(fit, name)
        absent = sum(value is None for value in values)
        if absent:
            notes.insert(0, Note("forest-order", f"{absent} of {len(values)} effects have no {name!r} and come last."))
        positions = _sorted(positions, values, reverse)
        studies = _sorted(studies, _of_studies(fit, nest, name, values), reverse)
    place = {i: at for at, i in enumerate(positions)}
    return [(c, sorted(np.flatnonzero(codes == c).tolist(), key=place.__getitem__)) for c in studies], notes


def _sorted(items: list[int], values: list[Any], reverse: bool) -> list[int]:
    present = [i for i in items if values[i] is not None]
    return sorted(present, key=lambda i: values[i], reverse=reverse) + [i for i in items if values[i] is None]


def _of_studies(fit: Any, nest: Nest, name: str, values: list[Any]) -> list[Any]:
    """Return what each study is sorted by: its own estimate or total weight, else what its effects have."""
    clusters = nest.clusters
    if name == "effect":
        if nest.marks is not None:
            return list(nest.marks[:, 0])
        weights = np.asarray(fit.weights)
        total = clusters.mean(weights)
        return list(clusters.mean(weights * fit.effects.yi) / np.where(total == 0, 1.0, total))
    if name == "precision":
        return list(clusters.mean(np.asarray(values, dtype=float)))
    if name == "weight":
        return list(np.bincount(clusters.codes, np.asarray(values, dtype=float), minlength=clusters.n))
    return [_first(clusters.codes, c, values) for c in range(clusters.n)]


def _first(codes: IntArray, c: int, values: list[Any]) -> Any:
    known = [values[i] for i in np.flatnonzero(codes == c) if values[i] is not None]
    return min(known, default=None)
