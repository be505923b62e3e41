"""Any fitted model on some of its effects: the same design, settings and priors, everything estimated anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.exact.setup import exact_problem
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults, TwoTerms, problem
from alliance_meta.core.bayes.three_level import solve_multilevel
from alliance_meta.core.bayes.two_level import solve
from alliance_meta.core.dependent import IntArray, codes
from alliance_meta.core.robust.rve import fit_rve
from alliance_meta.core.univariate.location_scale import fit_location_scale
from alliance_meta.effects.dependent.groups import Clusters
from alliance_meta.errors import InputError, quiet
from alliance_meta.models.random_effects import fit_design
from alliance_meta.results.fit import Fit
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults, robust_results
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.refitting import full, part, refitted

# A design on some of its rows counts as singular below this share of its own smallest eigenvalue.
SINGULAR = 1e-9


def on_rows(fit: Any, rows: IntArray) -> Any:
    """Return the fit of these effects; an `InputError` where they do not tell every coefficient."""
    way = WAYS[type(fit)]
    if not estimable(fit, rows):
        raise InputError("these effects do not tell every coefficient")
    with quiet():
        # What is to be said of the fit holds for every refit, and is in its notes.
        return way(fit, rows)


def estimable(fit: Any, rows: IntArray) -> bool:
    """Tell whether these effects tell every coefficient of the fit."""
    base = fit.fit if isinstance(fit, RobustResults) else fit
    if isinstance(base, MultilevelResults):
        return full(base, rows)
    if isinstance(base, BayesianResults | BayesianMultilevelResults):
        return rows.size > 0
    designs = [base.design, base.scale_design] if isinstance(base, LocationScaleResults) else [base.design]
    spare = 0 if isinstance(base, RandomEffectsResults) else 1
    return all(rows.size >= design.p + spare and _rank(design.X, rows) for design in designs)


def _rank(X: Any, rows: IntArray) -> bool:
    Q = np.linalg.qr(X)[0][rows]
    return bool(np.linalg.eigvalsh(Q.T @ Q)[0] > SINGULAR)


def _parts(fit: Any, rows: IntArray) -> dict[str, Any]:
    """Return effects and design of these rows."""
    return {"effects": fit.effects.take(rows), "design": replace(fit.design, X=fit.design.X[rows])}


def _univariate(fit: RandomEffectsResults, rows: IntArray) -> Fit:
    return fit_design(**_parts(fit, rows), settings=fit.settings.rows(rows))


def _location_scale(fit: LocationScaleResults, rows: IntArray) -> Fit:
    own = _parts(fit, rows)
    y, v, Z = own["effects"].yi, own["effects"].vi, fit.scale_design.X[rows]
    found = fit_location_scale(y, v, own["design"].X, Z, link=fit.link, restricted=fit.method == "REML")
    return replace(fit, **own, scale_design=replace(fit.scale_design, X=Z), fitted=found, notes=())


def _multilevel(fit: MultilevelResults, rows: IntArray) -> Fit:
    return refitted(fit, part(fit, rows), rows)


def _grouped(codes_of: IntArray, labels: tuple[str, ...], rows: IntArray, name: str) -> Clusters:
    some = codes(codes_of[rows])
    first = np.unique(some, return_index=True)[1]
    return Clusters(name, some, tuple(labels[i] for i in codes_of[rows][first]))


def _rve(fit: RVEResults, rows: IntArray) -> Fit:
    own, settings = _parts(fit, rows), fit.settings
    clusters = _grouped(fit.clusters.codes, fit.clusters.labels, rows, fit.clusters.name)
    if clusters.n < 2 or (not settings.small and clusters.n <= fit.p):
        raise InputError("too few clusters are left")
    weights = None if settings.weights is None else settings.weights[rows]
    y, v, X = own["effects"].yi, own["effects"].vi, own["design"].X
    try:
        found = fit_rve(
            y, v, X, clusters.codes, working=settings.working, rho=settings.rho, weights=weights,
            small=settings.small, level=settings.level,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(str(error)) from error
    return replace(fit, **own, clusters=clusters, settings=replace(settings, weights=weights), fitted=found, notes=())


def _robust(fit: RobustResults, rows: IntArray) -> Fit:
    labels = [fit._clusters.labels[i] for i in fit._clusters.cluster[rows]]
    if len(set(labels)) < 2:
        raise InputError("too few clusters are left")
    return robust_results(WAYS[type(fit.fit)](fit.fit, rows), cluster=labels, type=fit.type)


def _bayesian(fit: BayesianResults, rows: IntArray) -> Fit:
    own = _parts(fit, rows)
    return replace(fit, **own, exact=solve(exact_problem(own["effects"], own["design"], fit.priors)), notes=())


def _bayesian_multilevel(fit: BayesianMultilevelResults, rows: IntArray) -> Fit:
    own = _parts(fit, rows)
    groups = _grouped(fit.group, fit.levels, rows, "")
    V = None if fit.V is None else fit.V.take(rows)
    terms = TwoTerms(fit.priors.terms, groups.codes, groups.labels)
    data = problem(own["effects"], own["design"], fit.priors, terms, V)
    exact = solve_multilevel(data, *fit.priors.densities)
    return replace(fit, **own, exact=exact, group=groups.codes, levels=groups.labels, V=V, notes=())


WAYS: dict[type, Callable[[Any, IntArray], Any]] = {
    RandomEffectsResults: _univariate,
    LocationScaleResults: _location_scale,
    MultilevelResults: _multilevel,
    RVEResults: _rve,
    RobustResults: _robust,
    BayesianResults: _bayesian,
    BayesianMultilevelResults: _bayesian_multilevel,
}


def check_known(fit: Any, who: str) -> None:
    """Raise an `InputError` unless the fit can be fitted again to some of its effects."""
    known = type(fit) in WAYS and (not isinstance(fit, RobustResults) or type(fit.fit) in WAYS)
    if known:
        return
    if isinstance(fit, Fit):
        hint = "ask its loo()" if hasattr(fit, "loo") else "fit a RandomEffectsModel of the same effects"
        raise InputError(f"{who} does not know {fit.called}; {hint}")
    raise InputError(f"{who} needs a fitted model, not {type(fit).__name__}; call .fit() first")
