"""A PyMC model prepared for drawing: compiled once, fitted to as many data sets as wanted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.pymc.recipe import Recipe
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import CannotRunError, InputError

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """A PyMC model compiled for `bayes.sample`.

    Attributes
    ----------
    model : pymc.Model
    recipe : Recipe or None
        How the model was made; None for a model that is not from `bayes.pymc`.
    data : mapping of str to ndarray, optional
        What `with_data` put in place of the data that the model was made with.
    """

    model: pm.Model
    _compiled: Any
    recipe: Recipe | None = None
    data: Mapping[str, Array] | None = None

    def with_data(self, effects: EffectSizes) -> CompiledModel:
        """Return the same model for other effects, without compiling again.

        There may be more or fewer of them, unless the model has a parameter for each study. The moderators must have
        the levels of the first data; ``mu`` stays the mean effect at the averages that the moderators had in the
        first data, and priors stay as they were.

        Raises
        ------
        InputError
            Another number of effects where the model has a parameter for each; the model is none of `bayes.pymc`, or
            cannot take other data; a moderator is missing or has a new level.
        """
        recipe = self.recipe
        if recipe is None or recipe.rebuilt is None:
            name = "this model" if recipe is None else recipe.model
            raise InputError(f"{name} cannot take other data once compiled; make the model anew from these effects")
        rebuilt, data = recipe.rebuilt(effects)
        changed = self._compiled.with_data(**data)
        # nutpie keeps the labels of the first data.
        changed = replace(changed, _coords={**(changed.coords or {}), "study": pd.Index(effects.slab)})
        return replace(self, _compiled=changed, recipe=rebuilt, data=data)

    def draw(
        self, *, draws: int, tune: int, chains: int, cores: int | None, seed: int, target_accept: float, progress: bool
    ) -> Any:
        """Return raw draws in the container of the installed ArviZ; `bayes.sample` also checks them."""
        nutpie = arviz_bridge.load("nutpie")
        return nutpie.sample(
            self._compiled,
            draws=draws,
            tune=tune,
            chains=chains,
            cores=cores,
            seed=seed,
            target_accept=target_accept,
            save_warmup=False,
            progress_bar=progress,
        )


def compile(model: pm.Model) -> CompiledModel:
    """Compile a PyMC model, so that fits to many data sets pay for it once.

    Parameters
    ----------
    model : pymc.Model
        From `bayes.pymc`, or any other with continuous parameters.

    Returns
    -------
    CompiledModel
        For `bayes.sample`; its ``with_data(effects)`` takes other effects.

    Raises
    ------
    CannotRunError
        nutpie cannot be imported; `bayes.sample` then draws with PyMC's own sampler, from the model itself.

    Notes
    -----
    This takes 10 seconds to a minute of computing time; drawing from a compiled model takes a fraction of a second.

    Examples
    --------
    >>> import alliance_meta as am
    >>> kolden, molloy = (am.escalc(am.load_dataset(name)) for name in ("kolden2011", "molloy2014"))
    >>> compiled = am.bayes.compile(am.bayes.pymc.normal_normal(kolden))
    >>> posterior = am.bayes.sample(compiled.with_data(molloy), seed=1, cores=1)
    >>> bool(0.1 < posterior.draws("mu").mean() < 0.2)
    True
    """
    arviz_bridge.load("pymc")
    try:
        nutpie = arviz_bridge.load("nutpie")
    except ImportError as error:
        raise CannotRunError(
            f"compile needs nutpie, which cannot be imported ({error}): pip install nutpie, or give bayes.sample the "
            "model itself"
        ) from error
    with unlinked_blas_is_no_news():
        return CompiledModel(model, nutpie.compile_pymc_model(model), getattr(model, "recipe", None))


@contextmanager
def unlinked_blas_is_no_news() -> Iterator[None]:
    """Silence PyTensor's search for a BLAS for its C code, which is not used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        yield
