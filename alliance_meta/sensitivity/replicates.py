"""What every resampling method asks of a fit, and checks of what it is asked for."""

from __future__ import annotations

from alliance_meta.core.resampling import Recipe
from alliance_meta.errors import InputError
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit


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


def check_iterations(iterations: int) -> None:
    """Raise an `InputError` unless `iterations` is a whole number of at least 2."""
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 2:
        raise InputError(f"iterations={iterations!r} must be a whole number of at least 2")


def check_seed(seed: int | None, why: str) -> int:
    """Return the seed, or raise an `InputError` that says why one is needed."""
    if seed is None:
        raise InputError(f"{why} need a seed, so that the result can be repeated: give seed=1 or any whole number")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed={seed!r} must be a whole number, 0 or larger")
    return seed


def check_cores(cores: int) -> None:
    """Raise an `InputError` unless `cores` is a whole number of at least 1."""
    if not isinstance(cores, int) or isinstance(cores, bool) or cores < 1:
        raise InputError(f"cores={cores!r} must be a whole number of at least 1")
