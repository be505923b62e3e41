"""Drawing from the posterior of a PyMC model, and the checks that the draws can be used."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.sampled.quantities import (
    CompiledModel,
    SamplerSettings,
    compile,
    diagnose,
    problems_of,
    unlinked_blas_is_no_news,
)
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.errors import ConvergenceWarning, FallbackWarning, InputError
from alliance_meta.notes import Note, check_level, check_option, merge_notes, warn_note

if TYPE_CHECKING:
    import pymc as pm

TARGET_ACCEPT = 0.9
DRAWS = 1000

Sampler = Literal["nutpie", "pymc", "numpyro"]


def sample(
    model: pm.Model | CompiledModel,
    *,
    seed: int,
    draws: int | None = None,
    tune: int = 1000,
    chains: int = 4,
    target_accept: float | None = None,
    sampler: Sampler = "nutpie",
    cores: int | None = None,
    progress: bool | None = None,
    level: float = 0.95,
    interval: IntervalKind = "eti",
) -> SampledPosterior:
    """Draw from the posterior of a PyMC model and check that the chains can be trusted.

    Parameters
    ----------
    model : pymc.Model or CompiledModel
        From `bayes.pymc`, or any other with continuous parameters; or one that `compile` has prepared, which saves
        the time of compiling when a model is fitted again.
    seed : int
        The same seed gives the same draws.
    draws : int, optional
        Draws kept per chain. By default 1000, or more for models that need it.
    tune : int
        Draws per chain that tune the sampler and are thrown away.
    chains : int
        Independent chains; the checks need at least 2.
    target_accept : float, optional
        Between 0 and 1; nearer to 1 means smaller steps: slower, with fewer divergences. By default .9, or more for
        models that need it.
    sampler : {"nutpie", "pymc", "numpyro"}
        The program that draws. All are the same method, NUTS. ``nutpie`` is by far the fastest; where it cannot be
        imported, ``pymc`` draws, and a note says so. ``pymc`` is PyMC's own; ``numpyro`` has to be installed
        separately.
    cores : int, optional
        Chains run at once; by default as many as the machine has. The draws do not depend on it.
    progress : bool, optional
        Show a progress bar and the sampler's messages. By default in a terminal, and not where output goes to a file.
    level : float
        Probability inside every interval of the result, a fraction.
    interval : {"eti", "hdi"}
        Equal-tailed intervals, or the shortest ones.

    Returns
    -------
    SampledPosterior

    Raises
    ------
    InputError
        A number of draws, chains or cores below 1, a target outside (0, 1), a sampler that is not installed.

    Warns
    -----
    FallbackWarning
        nutpie cannot be imported, so that PyMC's own sampler draws.
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
    >>> posterior.converged, bool(0.2 < posterior.draws("mu").mean() < 0.3)
    (True, True)
    """
    made = getattr(model, "recipe", None)
    if target_accept is None:
        target_accept = getattr(made, "target_accept", None) or TARGET_ACCEPT
    if draws is None:
        draws = getattr(made, "draws", None) or DRAWS
    if progress is None:
        progress = sys.stdout.isatty() and sys.stderr.isatty()
    _check_settings(draws=draws, tune=tune, chains=chains, cores=cores, target_accept=target_accept)
    check_option("sampler", sampler, Sampler)
    check_level(level)
    check_option("interval", interval, IntervalKind)
    settings: dict[str, Any] = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "seed": seed}
    settings |= {"target_accept": target_accept, "progress": progress}
    fallen: list[Note] = []
    if isinstance(model, CompiledModel):
        if sampler != "nutpie":
            raise InputError(f"sampler={sampler!r} cannot use a compiled model; give the pymc.Model itself")
        compiled, program = model, "nutpie"
    else:
        program, fallen = _available(sampler)
        compiled = compile(model) if program == "nutpie" else CompiledModel(model, None, getattr(model, "recipe", None))
    raw = compiled.draw(**settings) if program == "nutpie" else _by_pymc(compiled.model, program, **settings)
    container = arviz_bridge.without_clock(raw)
    recipe = compiled.recipe
    checked = diagnose(container)
    failed = [warn_note(code, message, ConvergenceWarning) for code, message in problems_of(checked)]
    return SampledPosterior(
        container=container,
        notes=merge_notes(recipe.notes if recipe else (), fallen, failed),
        seed=seed,
        recipe=recipe,
        level=level,
        interval=interval,
        sampler=SamplerSettings(program, tune, target_accept),
        _model=compiled,
        _checked=checked,
    )


def _available(sampler: Sampler) -> tuple[Sampler, list[Note]]:
    """Return the sampler that is used, with a note where it is not the one asked for."""
    if sampler == "nutpie":
        try:
            arviz_bridge.load("nutpie")
        except ImportError as error:
            message = f"nutpie cannot be imported ({error}); PyMC's own sampler was used, which is slower."
            return "pymc", [warn_note("sampler-fallback", message, FallbackWarning, stacklevel=4)]
    elif sampler == "numpyro" and find_spec("numpyro") is None:
        raise InputError("sampler='numpyro' is not installed: pip install numpyro, or choose 'nutpie' or 'pymc'")
    return sampler, []


def _by_pymc(model: pm.Model, sampler: str, **settings: Any) -> Any:
    """Draw with one of the samplers that PyMC starts itself."""
    pm = arviz_bridge.load("pymc")
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


def _check_settings(*, target_accept: float, **counts: int | None) -> None:
    wrong = [f"{name}={n!r}" for name, n in counts.items() if n is not None and n < 1]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: must be at least 1")
    if not 0 < target_accept < 1:
        raise InputError(f"target_accept={target_accept!r} must lie between 0 and 1")
