"""Bootstrap of a fitted model: its coefficients, tau2, I2 and H2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core import resampling
from alliance_meta.core.resampling import Recipe, Refits
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import check_option
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.sensitivity.bootstrap_result import (
    MANY_AT_BOUND,
    Bootstrap,
    BootstrapKind,
    fit_counts,
    quantities_of,
)
from alliance_meta.sensitivity.multilevel_bootstrap import bootstrap_multilevel
from alliance_meta.sensitivity.replicates import check_cores, check_iterations, check_seed, recipe
from alliance_meta.tables.format import brief, fixed


def bootstrap(
    fit: RandomEffectsResults | MultilevelResults,
    *,
    kind: BootstrapKind = "parametric",
    iterations: int = 1000,
    seed: int | None = None,
    cores: int = 1,
    cluster: Any = "study_id",
    progress: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Resample the data and refit, to see how the estimates would vary from one set of studies to another.

    The parametric bootstrap draws new effects from the fitted model; the nonparametric one draws studies, with
    replacement, and makes no assumption about how effects are distributed. Useful above all for tau2, I2 and H2,
    whose estimates are far from normal, and for the variances and correlations of a multilevel model.

    Parameters
    ----------
    fit : RandomEffectsResults or MultilevelResults
    kind : {"parametric", "nonparametric"}
    iterations : int
        Samples; 1000 or more for intervals.
    seed : int
        The same seed gives the same result.
    cores : int
        Threads, or processes for a multilevel model; they do not change the result.
    cluster : str or array-like of shape (k,)
        For the nonparametric bootstrap of a multilevel model: what is drawn, with all its effects. It must contain
        every random term.
    progress : callable, optional
        Called with the number of samples done and of all, now and then.

    Returns
    -------
    Bootstrap
        Its `confint` gives percentile, basic and BCa intervals. For a multilevel model a `MultilevelBootstrap`.

    Raises
    ------
    InputError
        No seed, too few effects to draw from, or clusters that a random term or V ties together.

    Notes
    -----
    R: ``boot::boot`` around ``rma`` or ``rma.mv``. Samples of studies that leave a moderator without variation cannot
    be fitted and are left out; a note says how many. Multilevel models are refitted from their own estimates, a
    study that is drawn twice counting as two studies.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> boot = sensitivity.bootstrap(fit, kind="nonparametric", seed=1)
    >>> interval = boot.confint("tau2", kind="bca")
    >>> 0 <= interval.lb < interval.estimate < interval.ub
    True
    """
    if not isinstance(fit, MultilevelResults):
        check_fit(fit, "bootstrap")
    check_option("kind", kind, BootstrapKind)
    check_iterations(iterations)
    check_cores(cores)
    seed = check_seed(seed, f"{iterations} random samples")
    if isinstance(fit, MultilevelResults):
        return bootstrap_multilevel(
            fit, kind=kind, iterations=iterations, seed=seed, cores=cores, cluster=cluster, progress=progress
        )
    if not (isinstance(cluster, str) and cluster == "study_id"):
        raise InputError("cluster= is for multilevel models; this bootstrap draws single effects")
    how = recipe(fit, "bootstrap")
    if kind == "nonparametric" and fit.k <= fit.p:
        raise InputError(
            f"k = {fit.k} effects are too few to draw from for {fit.p} coefficient{'s' if fit.p > 1 else ''}; "
            "use kind='parametric'"
        )

    def task(block: int, start: int, stop: int) -> Refits:
        rng = resampling.stream(seed, block)
        sample = _simulate if kind == "parametric" else _draw
        return sample(fit, how, rng, stop - start)

    found = resampling.in_blocks(task, B=iterations, k=fit.k, cores=cores)
    done = len(found["tau2"])
    if done < 2:
        raise InputError("no sample of these effects leaves every moderator with variation; use kind='parametric'")
    samples = quantities_of(fit, found)
    if progress is not None:
        progress(iterations, iterations)
    notes = merge_notes(fit.notes, _notes(samples, fit, iterations - done, iterations))
    return Bootstrap(fit=fit, kind=kind, iterations=done, seed=seed, samples=samples, notes=notes)


def _simulate(fit: RandomEffectsResults, how: Recipe, rng: np.random.Generator, B: int) -> Refits:
    v = fit.effects.vi
    y = how.X @ fit.beta + np.sqrt(v + fit.tau2) * rng.standard_normal((B, fit.k))
    return resampling.refit_estimates(how, make_batch(y, v, how.X), weights=fit.fitted.own_weights)


def _draw(fit: RandomEffectsResults, how: Recipe, rng: np.random.Generator, B: int) -> Refits:
    y, v, weights = fit.effects.yi, fit.effects.vi, fit.fitted.own_weights
    if fit.p > 1 or not fit.design.has_intercept:
        return fit_counts(fit, how, resampling.draw_counts(rng, B, fit.k))
    rows = rng.integers(0, fit.k, (B, fit.k))
    batch = make_batch(y[rows], v[rows], how.X)
    return resampling.refit_estimates(how, batch, weights=None if weights is None else weights[rows])


def _notes(samples: dict[str, Array], fit: RandomEffectsResults, lost: int, iterations: int) -> list[Note]:
    notes = []
    if lost:
        message = f"{lost} of {iterations} samples were left out: in them a moderator did not vary or repeated another."
        notes.append(Note("samples-left-out", message))
    at_bound = float((samples["tau2"] <= fit.settings.tau2_min).mean()) if "tau2" in samples else 0.0
    if at_bound > MANY_AT_BOUND:
        message = (
            f"tau2 was {brief(fit.settings.tau2_min)} in {fixed(100 * at_bound, 0)} % of the samples: its lower limit "
            "may be that bound, and its standard error says little."
        )
        notes.append(Note("samples-at-bound", message))
    return notes
