"""What draws say of results to come: predictions, replications of the studies, and PyMC's own draws of data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.arviz_bridge import shortest_interval
from alliance_meta.bayes.exact.prediction import _PU, _U
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.pymc.parts import Draws, Recipe
from alliance_meta.bayes.sampled.quantities import CompiledModel, SampledQuantities, unlinked_blas_is_no_news
from alliance_meta.design import as_frame
from alliance_meta.errors import InputError
from alliance_meta.notes import Scale
from alliance_meta.results.fit import COLUMNS

if TYPE_CHECKING:
    import pymc as pm

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
    shown = fit._shown(scale, level, kind)
    wanted = shown["scale"]
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
    found.attrs.update(shown, seed=seed, converged=fit.converged)
    return found


def predict_rows(fit: SampledQuantities, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return the mean effect for rows of the design, or for averages of rows, (m, p); no prediction interval."""
    about = fit._shown(scale, level, fit.interval)
    shown = {name: about[name] for name in ("scale", "scale_label")}
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


# Drawing forwards needs no speed, and this compiles in no time.
QUICK = {"mode": "FAST_COMPILE"}
OBSERVED = "y"


def sample_prior(model: pm.Model | CompiledModel, *, seed: int, draws: int = 1000) -> Any:
    """Draw parameters from their priors, and data from these parameters, as a PyMC model has them.

    What would a model expect to see before any study has been done? `prior_predictive` answers that exactly for the
    random-effects model; this is for all others.

    Parameters
    ----------
    model : pymc.Model or CompiledModel
    seed : int
        The same seed gives the same draws.
    draws : int

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        With groups ``prior`` (parameters), ``prior_predictive`` (``y``, a result for each study) and
        ``observed_data``.

    Raises
    ------
    InputError
        Draws below 1; a flat prior, from which nothing can be drawn.

    Examples
    --------
    >>> import alliance_meta as am
    >>> model = am.bayes.pymc.normal_normal(am.escalc(am.load_dataset("kolden2011")))
    >>> found = am.bayes.sample_prior(model, seed=1)
    >>> float(found["prior"]["tau"].mean()) < 0.3
    True
    """
    if draws < 1:
        raise InputError(f"draws={draws!r}: must be at least 1")
    own = model.model if isinstance(model, CompiledModel) else model
    flat = [one.name for one in own.free_RVs if "flat" in str(one.owner.op).lower()]
    if flat:
        raise InputError(f"the prior of {', '.join(flat)} is flat: nothing can be drawn from it; give a proper one")
    pm = arviz_bridge.load("pymc")
    with unlinked_blas_is_no_news(), _quiet(ours=getattr(model, "recipe", None) is not None):
        made = pm.sample_prior_predictive(draws, model=_current(model), random_seed=seed, compile_kwargs=QUICK)
    return arviz_bridge.without_clock(made)


def posterior_predictive(model: CompiledModel, container: Any, *, seed: int) -> Any:
    """Draw data from each draw of the parameters and add them to the container."""
    own = _current(model)
    pm = arviz_bridge.load("pymc")
    with unlinked_blas_is_no_news(), _quiet(ours=getattr(model, "recipe", None) is not None):
        made = pm.sample_posterior_predictive(
            container,
            model=own,
            random_seed=seed,
            progressbar=False,
            extend_inferencedata=False,
            compile_kwargs=QUICK,
        )
    return arviz_bridge.with_groups(container, made)


def _current(model: pm.Model | CompiledModel) -> Any:
    """Return the PyMC model with the data it was last given; the model itself is left as it was made."""
    if not isinstance(model, CompiledModel):
        return model
    if model.data is None or model.recipe is None:
        return model.model
    pm = arviz_bridge.load("pymc")
    copy = arviz_bridge.load("pymc.model.fgraph").clone_model(model.model)
    with copy:
        pm.set_data(dict(model.data), coords={"study": list(model.recipe.effects.slab)})
    return copy


@contextmanager
def _quiet(*, ours: bool) -> Iterator[None]:
    """Keep PyMC from announcing what it draws, and from warning of a potential that is part of our own likelihood."""
    logger = logging.getLogger("pymc.sampling.forward")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            if ours:
                warnings.filterwarnings("ignore", message="The effect of Potentials", category=UserWarning)
            yield
    finally:
        logger.setLevel(before)


REPLICATION = 3


@dataclass(frozen=True, eq=False)
class Replications:
    """New results of the same design; asked like the mixture of normals that they are for an exact posterior."""

    values: Array  # (draws, k)
    fitted: Array  # (k,): posterior median of the mean effect of each row
    tau: float  # root mean square of how far true effects lie from their means

    @property
    def m(self) -> int:
        """Number of rows."""
        return self.values.shape[1]

    def row(self, i: int) -> Replications:
        """Return one row."""
        return Replications(self.values[:, [i]], self.fitted[[i]], self.tau)

    def quantile(self, p: Array) -> Array:
        """Return quantiles (m, q) of each row."""
        return np.quantile(self.values, p, axis=0).T

    def cdf(self, x: Array) -> Array:
        """Return the share up to x (m, q) of each row."""
        ordered = np.sort(self.values, axis=0)
        found = [np.searchsorted(one, at, side="right") for one, at in zip(ordered.T, np.asarray(x), strict=True)]
        return np.stack(found) / len(self.values)


def replicate_draws(fit: SampledQuantities, *, seed: int, draws: int) -> Replications:
    """Draw new results from as many draws of the posterior, each picked at random."""
    recipe = fit.made
    if len(recipe.units) != fit.k:
        raise InputError(
            f"results of {recipe.model} depend on one another within clusters; use posterior_predictive() of the fit"
        )
    rng = np.random.default_rng([seed, REPLICATION])
    pick = rng.integers(0, len(next(iter(fit._flat.values()))), draws)
    chosen: dict[str, Any] = {name: values[pick] for name, values in fit._flat.items()}
    mean = recipe.fitted(chosen)
    away = recipe.scatter(chosen, recipe.effects.moderators, rng)
    if recipe.replicate is not None:
        values = recipe.replicate(chosen, rng)
    else:
        values = mean + away + np.sqrt(fit.effects.vi) * rng.standard_normal(mean.shape)
    fitted = np.median(recipe.fitted(fit._flat), axis=0)
    return Replications(values, fitted, float(np.sqrt((away**2).mean())))
