"""Predictions from draws: mean effects and effects of new studies, on a scale that is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import shortest_interval
from alliance_meta.bayes.exact.predict import _PU, _U
from alliance_meta.bayes.marginals import KINDS, IntervalKind
from alliance_meta.bayes.pymc.recipe import Draws, Recipe
from alliance_meta.design import as_frame
from alliance_meta.errors import InputError
from alliance_meta.options import Scale
from alliance_meta.results.predictions import COLUMNS, SCALE_LABELS, to_scale

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled.quantities import SampledQuantities

PREDICTION = 2
# Effects drawn per draw of the parameters for a mean correlation without a closed form.
_NESTED = 1000
_AT_ONCE = 4_000_000


def predict(
    fit: SampledQuantities,
    newdata: pd.DataFrame | Mapping[str, Any] | None,
    *,
    scale: Scale | None,
    level: float,
    kind: IntervalKind,
    seed: int,
) -> pd.DataFrame:
    """Return ``pred se ci_lb ci_ub pi_lb pi_ub``, one row per prediction."""
    recipe, draws = fit.made, fit._flat
    wanted = scale or fit._scale
    # The check of the scale, and its message, are those of every other result.
    empty = pd.DataFrame({name: np.empty(0) for name in COLUMNS})
    checked = to_scale(empty, measure=fit.effects.measure, scale=scale, tau2=0.0)
    mean, frame, labels = _means(recipe, draws, newdata)
    rng = np.random.default_rng([seed, PREDICTION])
    if frame is None and seed == fit.seed:
        future = fit._new_effect.reshape(-1, 1)
    else:
        future = mean + recipe.scatter(draws, frame, rng)
    if wanted != fit._scale:
        future = np.tanh(future)
        mean = np.tanh(mean) if wanted == "r" else mean_correlation(recipe, draws, mean, frame, rng)
    rows = []
    for own, new in zip(mean.T, future.T, strict=True):
        spread = float(own.std(ddof=1)) if len(own) > 1 else np.nan
        rows.append((float(np.median(own)), spread, *_limits(own, level, kind), *_limits(new, level, kind)))
    found = pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index(labels))
    found.attrs.update(
        scale=wanted,
        scale_label=SCALE_LABELS[checked.attrs["scale"]],
        level=level,
        interval=kind,
        interval_label=f"{100 * level:g} % {KINDS[kind]}",
        pred="posterior median",
        seed=seed,
        converged=fit.converged,
    )
    return found


def predict_rows(fit: SampledQuantities, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return the mean effect for rows of the design, or for averages of rows, (m, p); no prediction interval."""
    empty = pd.DataFrame({name: np.empty(0) for name in COLUMNS})
    checked = to_scale(empty, measure=fit.effects.measure, scale=scale, tau2=0.0)
    shown = {name: str(checked.attrs[name]) for name in ("scale", "scale_label")}
    if scale == "r_mean" or fit.made.shift is not None:
        raise InputError(f"{fit.called} averages no rows on this scale or of this model; ask predict(newdata)")
    draws = fit.made.coefficients(fit._flat) @ X.T
    own = np.tanh(draws) if shown["scale"] != fit._scale else draws
    limits = np.array([_limits(column, level, fit.interval) for column in own.T])
    values = (np.median(own, axis=0), own.std(axis=0, ddof=1), *limits.T, *np.full((2, len(X)), np.nan))
    out = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    out.attrs.update(**shown, level=level, pi_note="new effects are drawn for rows of predict(), not for averages")
    return out


def _means(
    recipe: Recipe, draws: Draws, newdata: pd.DataFrame | Mapping[str, Any] | None
) -> tuple[Array, pd.DataFrame | None, list[str]]:
    """Return the mean effects (S, m), the new data as the recipe takes it, and a label for each row."""
    if newdata is not None:
        _, labels = recipe.design.new_rows(newdata)
        frame = as_frame(newdata)
        return recipe.fitted(draws, frame), frame, labels
    if recipe.design.formula == "1" and recipe.shift is None:
        return recipe.coefficients(draws), None, ["mean effect"]
    return recipe.fitted(draws), recipe.effects.moderators, list(recipe.effects.slab)


def mean_correlation(
    recipe: Recipe, draws: Draws, mean: Array, newdata: pd.DataFrame | None, rng: np.random.Generator
) -> Array:
    """Return tanh averaged over the distribution of true effects, for each draw of the parameters."""
    spread = getattr(recipe.scatter, "sd", None)
    if spread is not None:
        sd = np.broadcast_to(spread(draws, newdata), mean.shape)
        return np.stack(
            [np.tanh(one[:, None] + s[:, None] * _U) @ _PU for one, s in zip(mean.T, sd.T, strict=True)], axis=1
        )
    out = np.empty(mean.shape)
    width = mean.shape[1] + sum(values[0].size for values in draws.values())
    step = max(1, _AT_ONCE // (_NESTED * width))
    for a in range(0, len(mean), step):
        some = {name: np.repeat(values[a : a + step], _NESTED, axis=0) for name, values in draws.items()}
        away = recipe.scatter(some, newdata, rng).reshape(-1, _NESTED, mean.shape[1])
        out[a : a + step] = np.tanh(mean[a : a + step, None] + away).mean(axis=1)
    return out


def _limits(values: Array, level: float, kind: IntervalKind) -> tuple[float, float]:
    if kind == "hdi":
        return shortest_interval(values, level)
    lower, upper = np.quantile(values, [0.5 * (1.0 - level), 0.5 * (1.0 + level)])
    return float(lower), float(upper)
