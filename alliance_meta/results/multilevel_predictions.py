"""Predictions of a multilevel model: means, new and known studies, random effects, intervals of components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.mixed.predictions import predicted_effects, shared_and_own
from alliance_meta.design import as_frame
from alliance_meta.errors import InputError
from alliance_meta.options import Scale
from alliance_meta.results.components import RandomTerm, object_frame, row_variances
from alliance_meta.results.predictions import COLUMNS, rows_to_predict, to_scale
from alliance_meta.results.profiles import curves, limits, remarks_on

if TYPE_CHECKING:
    from alliance_meta.results.multilevel import MultilevelResults

Newdata = pd.DataFrame | Mapping[str, Any] | None
# Where a profile is looked at, to see that it is a peak.
POINTS = 9
# An error variance that counts as 0, as a share of the typical sampling variance.
STILL = 1e-12
NO_INTERVAL = (
    "Effects without a standard error have a variance of 0 in this model: they are their mean exactly, which says "
    "nothing of how surely. See confint() for how large the variance may be."
)


def predict(fit: MultilevelResults, newdata: Newdata, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return predictions for new studies."""
    X, labels, frame = _rows(fit, newdata)
    variances = _variances(fit, frame, len(X))
    pred = X @ fit.beta
    se = np.sqrt(np.einsum("mp,pq,mq->m", X, fit.vb, X))
    half = np.array([critical_value(level, fit._df(x[None, :])) for x in X])
    spread = half * np.sqrt(se**2 + variances)
    out = _on_scale(fit, (pred, se, pred - half * se, pred + half * se, pred - spread, pred + spread), variances, scale)
    out.index = pd.Index(labels)
    out.attrs["level"] = level
    if np.isnan(variances).any():
        out.attrs["pi_note"] = "the variance differs between levels of a random term: name the level in newdata"
    return out


def _rows(fit: MultilevelResults, newdata: Newdata) -> tuple[Array, list[str], pd.DataFrame]:
    X, labels = rows_to_predict(fit, newdata)
    if newdata is not None:
        return X, labels, as_frame(newdata)
    return X, labels, pd.DataFrame(index=range(1)) if fit.design.formula == "1" else fit.effects.moderators


def _variances(fit: MultilevelResults, frame: pd.DataFrame, rows: int) -> Array:
    total = np.zeros(rows)
    for (term, part), component in zip(fit._parts, fit.point.problem.components, strict=True):
        total = total + row_variances(term, fit.fitted.theta[part], component.structure, frame, rows)
    return total


def _on_scale(fit: MultilevelResults, values: tuple[Array, ...], variances: Array, scale: Scale | None) -> pd.DataFrame:
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    measure = fit.effects.measure
    if scale != "r_mean" or np.ptp(variances) == 0:
        return to_scale(frame, measure=measure, scale=scale, tau2=float(variances[0]))
    rows = [to_scale(frame.iloc[[i]], measure=measure, scale=scale, tau2=float(t)) for i, t in enumerate(variances)]
    out = pd.concat(rows)
    out.attrs.update(rows[0].attrs)
    return out


def study_term(fit: MultilevelResults) -> tuple[int, RandomTerm]:
    """Return the coarsest random intercept, with its place among the terms of the likelihood."""
    found: list[tuple[int, RandomTerm]] = []
    for term, component in zip(fit.random, fit.point.problem.components, strict=True):
        if not term.within and term.n < fit.k:
            found.append((component.terms[0], term))
    if not found:
        raise InputError("the model has no random intercept of a factor whose groups hold several effects")
    return min(found, key=lambda pair: pair[1].n)


def blup(fit: MultilevelResults, *, level: float) -> pd.DataFrame:
    """Return each study's mean true effect at the mean of its moderators."""
    place, term = study_term(fit)
    counts = np.bincount(term.group)[:, None]
    X = np.zeros((term.n, fit.p))
    np.add.at(X, term.group, fit.design.X)
    pred, variance = _study_means(fit, place, X / counts)
    half = np.array([critical_value(level, fit._df(x[None, :])) for x in X]) * np.sqrt(variance)
    columns = {"pred": pred, "se": np.sqrt(variance), "pi_lb": pred - half, "pi_ub": pred + half}
    return pd.DataFrame(columns, index=pd.Index(list(term.levels), name=term.name))


def _study_means(fit: MultilevelResults, place: int, X: Array) -> tuple[Array, Array]:
    """Return x'beta + u of each group and its error variance."""
    effects = predicted_effects(fit.point, place)
    pred = X @ fit.beta + effects.value[:, 0]
    variance = (
        np.einsum("mp,pq,mq->m", X, fit.vb, X)
        + effects.error[:, 0, 0]
        - 2.0 * np.einsum("mp,mp->m", X, effects.share[:, 0])
    )
    return pred, np.maximum(variance, 0.0)


def predict_within(fit: MultilevelResults, newdata: Newdata, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return predictions for new effects of known studies."""
    place, term = study_term(fit)
    if newdata is None and fit.design.formula != "1":
        raise InputError("predict_within needs newdata for a model with moderators: one row of values")
    x, _, frame = _rows(fit, newdata)
    if len(x) != 1:
        raise InputError(f"newdata has {len(x)} rows; predict_within takes one")
    pred, variance = _study_means(fit, place, np.repeat(x, term.n, axis=0))
    own = float(fit.fitted.theta[fit._parts[fit.random.index(term)][1]][0])
    rest = _variances(fit, frame, 1)[0] - own
    half, se = critical_value(level, fit._df(x)), np.sqrt(variance)
    spread = half * np.sqrt(variance + rest)
    values = (pred, se, pred - half * se, pred + half * se, pred - spread, pred + spread)
    out = _on_scale(fit, values, np.full(term.n, rest), scale)
    out.index = pd.Index(list(term.levels), name=term.name)
    out.attrs["level"] = level
    return out


def ranef(fit: MultilevelResults, *, level: float) -> dict[str, pd.DataFrame]:
    """Return the random effects of each term."""
    found = {}
    for (term, part), component in zip(fit._parts, fit.point.problem.components, strict=True):
        half = critical_value(level, fit.term_df(term))
        if term.struct == "CS":
            found[term.name] = _compound(fit, term, fit.fitted.theta[part], half)
            continue
        effects = predicted_effects(fit.point, component.terms[-1])
        labels = list(term.levels)
        if term.struct == "ID" and term.within:
            labels = _pair_labels(term)
        elif term.within:
            labels = [f"{g}: {c}" for g in term.levels for c in term.columns]
        se = np.sqrt(np.maximum(np.diagonal(effects.error, axis1=1, axis2=2), 0.0)).ravel()
        found[term.name] = _effect_frame(fit, term, effects.value.ravel(), se, half, labels)
    return found


def _compound(fit: MultilevelResults, term: RandomTerm, theta: Array, half: float) -> pd.DataFrame:
    """Return the effects of inner levels within outer groups, what the group shares included."""
    tau2, rho = map(float, theta)
    value, variance = shared_and_own(fit.point, term.group, term.groupings[1], (rho * tau2, (1.0 - rho) * tau2))
    return _effect_frame(fit, term, value, np.sqrt(variance), half, _pair_labels(term))


def _pair_labels(term: RandomTerm) -> list[str]:
    assert term.inner is not None
    seen: dict[tuple[int, int], str] = {}
    for g, c in zip(term.group, term.inner, strict=True):
        seen.setdefault((int(g), int(c)), f"{term.levels[g]}: {term.columns[c]}")
    return list(seen.values())


def _effect_frame(
    fit: MultilevelResults, term: RandomTerm, pred: Array, se: Array, half: float, labels: list[str]
) -> pd.DataFrame:
    """Return effects with intervals, but for those that do not vary: nothing is known of their errors."""
    still = se**2 <= STILL * float(fit.point.problem.plan.d.mean())
    se = np.where(still, np.nan, se)
    columns = {"pred": pred, "se": se, "pi_lb": pred - half * se, "pi_ub": pred + half * se}
    out = pd.DataFrame(columns, index=pd.Index(labels, name=term.name))
    if still.any():
        out.attrs["notes"] = [NO_INTERVAL]
    return out


def confint(fit: MultilevelResults, *, level: float) -> pd.DataFrame:
    """Return profile-likelihood intervals of every parameter."""
    found = curves(fit, level=level, points=POINTS)
    estimates = fit.components["estimate"]
    rows = {}
    for name, curve in found.items():
        lb, ub = limits(curve)
        rows[name] = {"estimate": float(estimates[name]), "lb": lb, "ub": ub}
    out = object_frame(rows, ("estimate", "lb", "ub"))
    out.attrs.update(level=level, kind="PL", scale=fit.effects.scale_label)
    out.attrs["notes"] = [note.message for note in remarks_on(found)]
    return out
