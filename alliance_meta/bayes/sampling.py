"""Drawing from the posterior of a PyMC model, and the checks that the draws can be used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.compiled import CompiledModel, compile, unlinked_blas_is_no_news
from alliance_meta.bayes.pymc.recipe import Recipe
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.options import check_option, did_you_mean

if TYPE_CHECKING:
    import pymc as pm

# Vehtari et al. (2021, doi:10.1214/20-BA1221) for R-hat and ESS; for E-BFMI the limit of CmdStan's diagnose.
MOST_RHAT = 1.01
FEWEST_ESS = 400
LEAST_BFMI = 0.3

Sampler = Literal["nutpie", "pymc", "numpyro"]


@dataclass(frozen=True, eq=False)
class SampledPosterior:
    """Draws from a posterior, with what a reader must know about them.

    Attributes
    ----------
    container : arviz.InferenceData or xarray.DataTree
        The draws in the container of the installed ArviZ, for any of its functions.
    notes : tuple of Note
        Those of the data, and one for each check of convergence that failed.
    seed : int
        The seed that gives these draws again.
    recipe : Recipe or None
        How the model was made; None for a model that is not from `bayes.pymc`.
    """

    container: Any
    notes: tuple[Note, ...]
    seed: int
    recipe: Recipe | None = None

    def draws(self, name: str) -> Array:
        """Return the draws of one parameter as an array (chain, draw, ...)."""
        known = arviz_bridge.draws(self.container)
        if name not in known:
            hint = did_you_mean(name, list(known)) or "."
            raise InputError(f"no parameter {name!r}{hint} Parameters: {', '.join(known)}")
        return known[name]

    def summary(self, *, level: float = 0.95) -> pd.DataFrame:
        """Return mean, sd, median, equal-tailed interval, ESS and R-hat of each parameter, unrounded."""
        return arviz_bridge.summary(self.container, level=level)

    def __str__(self) -> str:
        table = self.summary().to_string(float_format="{:.4f}".format)
        lines = [table, "Intervals: equal-tailed, 95 % of the posterior.", *map(str, self.notes)]
        return "\n".join(lines)


def sample(
    model: pm.Model | CompiledModel,
    *,
    seed: int,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    target_accept: float = 0.9,
    sampler: Sampler = "nutpie",
    cores: int | None = None,
    progress: bool = False,
) -> SampledPosterior:
    """Draw from the posterior of a PyMC model and check that the chains can be trusted.

    Parameters
    ----------
    model : pymc.Model or CompiledModel
        From `bayes.pymc`, or any other with continuous parameters; or one that `compile` has prepared, which saves
        the time of compiling when a model is fitted again.
    seed : int
        The same seed gives the same draws.
    draws, tune : int
        Draws kept, and draws used to tune the sampler and thrown away, per chain.
    chains : int
        Independent chains; the checks need at least 2.
    target_accept : float
        Between 0 and 1; nearer to 1 means smaller steps: slower, with fewer divergences.
    sampler : {"nutpie", "pymc", "numpyro"}
        The program that draws. All are the same method, NUTS. ``nutpie`` is by far the fastest; ``pymc`` is PyMC's
        own; ``numpyro`` has to be installed separately.
    cores : int, optional
        Chains run at once; by default as many as the machine has. The draws do not depend on it.
    progress : bool
        Show a progress bar and the sampler's messages.

    Returns
    -------
    SampledPosterior

    Raises
    ------
    InputError
        A number of draws, chains or cores below 1, a target outside (0, 1), a sampler that is not installed.

    Warns
    -----
    ConvergenceWarning
        R-hat above 1.01 or not computable, an effective number of draws below 400, a divergence, an E-BFMI
        below 0.3. Each also stands in ``.notes`` of the result.

    Notes
    -----
    Models are compiled with Numba, which needs no C compiler; PyMC's message that g++ is missing can be ignored.
    Compiling takes 10 seconds to a minute, drawing mostly less than a second.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("kolden2011"))
    >>> posterior = am.bayes.sample(am.bayes.pymc.normal_normal(es), seed=1, cores=1)
    >>> 0.2 < posterior.draws("mu").mean() < 0.3
    True
    """
    _check_settings(draws=draws, tune=tune, chains=chains, cores=cores, target_accept=target_accept)
    check_option("sampler", sampler, Sampler)
    settings: dict[str, Any] = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "seed": seed}
    settings |= {"target_accept": target_accept, "progress": progress}
    if isinstance(model, CompiledModel):
        if sampler != "nutpie":
            raise InputError(f"sampler={sampler!r} cannot use a compiled model; give the pymc.Model itself")
        compiled = model
        raw = compiled.draw(**settings)
    elif sampler == "nutpie":
        compiled = compile(model)
        raw = compiled.draw(**settings)
    else:
        compiled = CompiledModel(model, None, getattr(model, "recipe", None))
        raw = _by_pymc(model, sampler, **settings)
    container = arviz_bridge.without_clock(raw)
    found = [warn_note(code, message, ConvergenceWarning) for code, message in convergence_problems(container)]
    recipe = compiled.recipe
    return SampledPosterior(container, merge_notes(recipe.notes if recipe else (), found), seed, recipe)


def _by_pymc(model: pm.Model, sampler: str, **settings: Any) -> Any:
    """Draw with one of the samplers that PyMC starts itself."""
    pm = arviz_bridge.load("pymc")
    if sampler != "pymc" and find_spec(sampler) is None:
        raise InputError(f"sampler={sampler!r} is not installed: pip install {sampler}, or choose 'nutpie' or 'pymc'")
    progress = settings.pop("progress")
    own = {"compile_kwargs": {"mode": "NUMBA"}, "quiet": not progress} if sampler == "pymc" else {}
    with unlinked_blas_is_no_news():
        return pm.sample(
            settings.pop("draws"),
            random_seed=settings.pop("seed"),
            nuts_sampler=sampler,
            compute_convergence_checks=False,
            progressbar=progress,
            model=model,
            **own,
            **settings,
        )


def convergence_problems(container: Any) -> list[tuple[str, str]]:
    """Return a code and a sentence for each check that the draws fail."""
    table = arviz_bridge.summary(container)
    sampler = arviz_bridge.sampler_diagnostics(container)
    problems = []
    unchecked = [str(name) for name, rhat in table["rhat"].items() if rhat != rhat]
    if unchecked:
        message = f"R-hat could not be computed ({_some(unchecked)}): whether the chains agree is unknown."
        problems.append(("unchecked", message))
    apart = [f"{name} {rhat:.3f}" for name, rhat in table["rhat"].items() if rhat > MOST_RHAT]
    if apart:
        message = f"The chains disagree: R-hat is above {MOST_RHAT} ({_some(apart)}). Do not use these draws."
        problems.append(("rhat", message))
    least = table[["ess_bulk", "ess_tail"]].astype(float).min(axis=1)
    few = [f"{name} {ess:.0f}" for name, ess in least.items() if ess < FEWEST_ESS]
    if few:
        message = f"Too few effective draws, below {FEWEST_ESS} ({_some(few)}): take more draws or chains."
        problems.append(("few-effective-draws", message))
    if sampler.divergences > 0:
        count = f"{sampler.divergences:.0f} divergence{'s' if sampler.divergences > 1 else ''}"
        message = f"{count}: part of the posterior may be missed. Raise target_accept or simplify the model."
        problems.append(("divergences", message))
    low = [f"chain {i} {bfmi:.2f}" for i, bfmi in enumerate(sampler.bfmi) if bfmi < LEAST_BFMI]
    if low:
        message = f"E-BFMI is below {LEAST_BFMI} ({_some(low)}): the tails are explored slowly."
        problems.append(("low-bfmi", message))
    return problems


def _some(items: list[str], *, most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def _check_settings(*, target_accept: float, **counts: int | None) -> None:
    wrong = [f"{name}={n!r}" for name, n in counts.items() if n is not None and n < 1]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: must be at least 1")
    if not 0 < target_accept < 1:
        raise InputError(f"target_accept={target_accept!r} must lie between 0 and 1")
