"""What a PyMC model says of data: before any were seen, and after."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.sampled.compiled import CompiledModel, unlinked_blas_is_no_news
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    import pymc as pm

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
