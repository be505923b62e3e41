"""A fitted multilevel model on some of its rows, or without some of its random terms, ready to be fitted again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, nested, pairs, stacks
from alliance_meta.core.mixed.covariance import (
    Blocks,
    CompoundSymmetry,
    Correlated,
    Scaled,
    Structure,
    Term,
    Unstructured,
    most_within,
)
from alliance_meta.core.mixed.likelihood import Component, MixedProblem, mixed_problem
from alliance_meta.core.mixed.search import MixedFit, maximise_mixed
from alliance_meta.core.resampling import Recipe, full_rank
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import RandomTerm, by_name, natural
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit

# A search that starts on a bound, or at a factor of 0, may never leave it.
INSIDE = 0.05
# Added to a singular covariance, as a share of its size, so that it has a Cholesky factor.
RIDGE = 1e-10


@dataclass(frozen=True, eq=False)
class Part:
    """What a refit needs."""

    problem: MixedProblem
    terms: tuple[RandomTerm, ...]  # with groups numbered anew, and without inner levels that no row has any more
    start: Array  # (n,): the parameters of the fit, moved inside their range
    given: Array  # (n,): those that the fit held fixed; NaN elsewhere


def check_multilevel(fit: object, who: str) -> MultilevelResults:
    """Return the fit, or raise an `InputError` where it is no multilevel model."""
    if not isinstance(fit, MultilevelResults):
        raise InputError(f"{who} needs a fitted MultilevelModel, not {type(fit).__name__}; call .fit() first")
    return fit


def part(
    fit: MultilevelResults,
    rows: IntArray | None = None,
    *,
    copy: IntArray | None = None,
    terms: Sequence[int] | None = None,
) -> Part:
    """Lay out the rows given (all by default), with the terms given (all by default).

    A row may stand several times: `copy` numbers its occurrences, and what lies in different copies is independent
    but for terms whose groups several clusters share. Covariances of two effects are laid out by their standard
    deviations and correlation, in which a search does not lose its way at a correlation of 1.
    """
    rows = np.arange(fit.k) if rows is None else rows
    copy = np.zeros(rows.size, dtype=np.intp) if copy is None else copy
    base = by_name(fit)
    problem = base.point.problem
    labels, components, needed = [], [], list[Term]()
    start, given = [], []
    for at in range(len(fit.random)) if terms is None else terms:
        span = problem.slices[at]
        some, structure = _some_rows(fit.random[at], problem.components[at].structure, rows, copy)
        label, structure, values, held = _without_lost(some, structure, base.theta[span], base.fixed[span])
        made = label.terms
        components.append(Component(structure, tuple(range(len(needed), len(needed) + len(made)))))
        needed += made
        labels.append(label)
        start.append(values)
        given.append(np.where(held, values, np.nan))
    vi, blocks = _covariance(fit, rows, copy)
    y, X = fit.effects.yi[rows], fit.design.X[rows]
    restricted = problem.restricted
    new = mixed_problem(y, X, vi, terms=needed, components=components, blocks=blocks, restricted=restricted)
    first, fixed = (np.concatenate(found) if found else np.empty(0) for found in (start, given))
    return Part(new, tuple(labels), inside(new, first), fixed)


def inside(problem: MixedProblem, theta: Array) -> Array:
    """Return parameters off their bounds: far enough for a search to leave them."""
    if not problem.n:
        return theta
    low, high = problem.bounds
    gap = INSIDE * problem.units
    within = np.where(theta < low + gap, low + gap, np.where(theta > high - gap, high - gap, theta))
    return np.where(np.isinf(low) & (np.abs(theta) < gap), gap, within)


def full(fit: MultilevelResults, rows: IntArray) -> bool:
    """Tell whether every coefficient can be estimated from these rows, and a variance besides."""
    counts = np.bincount(rows, minlength=fit.k)[None]
    return rows.size > fit.p and bool(full_rank(fit.design.X, counts)[0])


def refitted(
    fit: MultilevelResults, one: Part, rows: IntArray | None = None, *, warm: bool = True
) -> MultilevelResults:
    """Fit a part again, from the fit's own parameters or, not `warm`, from several starts."""
    given = None if np.isnan(one.given).all() else one.given
    found = maximise_mixed(one.problem, given=given, start=one.start if warm and one.problem.n else None)
    effects, design, V = fit.effects, fit.design, fit.V
    if rows is not None:
        effects, design = effects.take(rows), replace(design, X=design.X[rows])
        V = None if V is None else V.take(rows)
    return replace(fit, effects=effects, design=design, V=V, fitted=found, random=one.terms, notes=())


def natural_values(found: MixedFit, terms: Sequence[RandomTerm]) -> dict[str, float]:
    """Return the variances and correlations by name."""
    out: dict[str, float] = {}
    problem = found.point.problem
    for term, component, span in zip(terms, problem.components, problem.slices, strict=True):
        out |= natural(term, found.theta[span], component.structure)
    return out


def typical_variance(problem: MixedProblem) -> float:
    """Return (k - p) / trace(P), P that of the model with sampling error only: what I2 compares variances with."""
    point = problem.at(np.zeros(problem.n))
    G = point.weighted_X
    trace = float((1.0 / point.factored.d).sum()) - float(np.einsum("kp,pq,kq->", G, point.vb, G))
    return (problem.k - problem.p) / trace


def cluster_rows(fit: MultilevelResults, cluster: Any) -> tuple[str, list[IntArray]]:
    """Return the name of the clusters and the rows of each, sorted by label; they must be independent."""
    groups = read_clusters(fit.effects, cluster)
    ties = [(term.name, term.ties) for term in fit.random]
    ties += [] if fit.V is None else [("V", fit.V.codes)]
    crossed = [name for name, group in ties if not nested(group, groups.codes)]
    if crossed:
        raise InputError(
            f"cluster={groups.name!r}: {', '.join(crossed)} ties different clusters together, so that they cannot be "
            "drawn one by one; cluster by what contains every random term, or use kind='parametric'"
        )
    order = sorted(range(groups.n), key=lambda code: groups.labels[code])
    return groups.name, [np.flatnonzero(groups.codes == code) for code in order]


def _covariance(fit: MultilevelResults, rows: IntArray, copy: IntArray) -> tuple[Array, Blocks | None]:
    if fit.V is None:
        return fit.effects.vi[rows], None
    V = fit.V
    of = pairs(V.codes[rows], copy)
    return V.vi[rows], [(stack, V.block(rows[stack])) for stack in stacks(of)]


def _some_rows(term: RandomTerm, structure: Structure, rows: IntArray, copy: IntArray) -> tuple[RandomTerm, Structure]:
    """Return a term on some rows, with its inner levels as they were."""
    given = term.group[rows]
    if isinstance(structure, Scaled) and structure.linked:
        left, group = np.unique(given, return_inverse=True)
        levels = tuple(term.levels[i] for i in left)
        made = replace(term, group=group.astype(np.intp), levels=levels)
        return made, Scaled(structure.R[np.ix_(left, left)], linked=True)
    group = pairs(given, copy)
    first = np.unique(group, return_index=True)[1]
    made = replace(term, group=group, levels=tuple(term.levels[i] for i in given[first]))
    if term.slopes is not None:
        made = replace(made, slopes=replace(term.slopes, X=term.slopes.X[rows]))
    if term.inner is not None:
        made = replace(made, inner=term.inner[rows])
    if isinstance(structure, CompoundSymmetry) and made.inner is not None:
        structure = CompoundSymmetry(most_within(made.group, made.inner))
    return made, structure


def _without_lost(
    term: RandomTerm, structure: Structure, theta: Array, fixed: Mask
) -> tuple[RandomTerm, Structure, Array, Mask]:
    """Return a term, its structure and its parameters without the inner levels that no row has any more."""
    if term.inner is None:
        return term, structure, theta, fixed
    kept, inner = np.unique(term.inner, return_inverse=True)
    if kept.size == len(term.columns):
        return term, structure, theta, fixed
    names = term.parameters
    made = replace(term, inner=inner.astype(np.intp), columns=tuple(term.columns[i] for i in kept))
    if isinstance(structure, Scaled | CompoundSymmetry):
        return made, structure, theta, fixed
    G = structure.matrices(theta)[0][np.ix_(kept, kept)]
    if kept.size == 1:
        common = isinstance(structure, Correlated) and structure.common
        own = names[0] if common else f"tau2[{term.name}: {made.columns[0]}]"
        held = fixed[:1] if common or fixed.size == 1 else np.array([bool(fixed.all())])
        return replace(made, parameters=(own,)), Scaled(np.ones((1, 1))), G[0], held
    if isinstance(structure, Unstructured):
        root = np.linalg.cholesky(G + (RIDGE * np.trace(G) + np.finfo(float).tiny) * np.eye(kept.size))
        smaller = Unstructured(kept.size)
        held = np.full(smaller.n, bool(fixed.all()))
        return made, smaller, root[np.tril_indices(kept.size)], held
    assert isinstance(structure, Correlated)
    distance = None if structure.distance is None else structure.distance[np.ix_(kept, kept)]
    smaller_one = Correlated(kept.size, distance, structure.common)
    if structure.common:
        return made, smaller_one, theta, fixed
    at = np.append(kept, np.arange(structure.variances, structure.n))
    if len(names) == structure.n:
        made = replace(made, parameters=tuple(names[i] for i in at))
    return made, smaller_one, theta[at], fixed[at]


def recipe(fit: RandomEffectsResults, who: str) -> Recipe:
    """Return how a replicate of this fit is fitted."""
    check_fit(fit, who)
    settings = fit.settings
    if settings.method == "GENQM" and settings.tau2 is None:
        raise InputError(f"{who} cannot refit method='GENQM' many times; fit with method='GENQ' or 'PMM'")
    return Recipe(
        X=fit.design.X,
        method=settings.method,
        test=settings.test,
        tau2=settings.tau2,
        lowest=settings.tau2_min,
        tested=fit.design.tested,
    )


def ours(caught: Sequence[warnings.WarningMessage]) -> dict[str, type[AllianceMetaWarning]]:
    """Return the messages of our own warnings among those caught, by category; others are passed on."""
    found: dict[str, type[AllianceMetaWarning]] = {}
    for one in caught:
        if issubclass(one.category, AllianceMetaWarning):
            found[str(one.message)] = one.category
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return found


def coefficient(names: Sequence[str], term: str | None) -> str:
    """Return the coefficient asked for, by default the first; an `InputError` where there is none of that name."""
    if term is not None and term not in names:
        raise InputError(f"term={term!r} is no coefficient{did_you_mean(term, list(names))}: {', '.join(names)}")
    return names[0] if term is None else term
