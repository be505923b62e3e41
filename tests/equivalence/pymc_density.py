"""What PyMC models are held against: their log density at a point, and what must hold of every recipe."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

# The compiled density is off by the same 2e-9 for each normal prior (a constant of PyMC's), which moves no posterior.
OFFSET = 1e-7


def log_density(model):
    """Return the log density as a function of a mapping from parameters to values, without Jacobians."""
    names = {rv.name: model.rvs_to_values[rv].name for rv in model.free_RVs}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        density = model.compile_logp(mode="FAST_COMPILE", jacobian=False)

    def at(**point):
        assert set(point) == set(names)
        moved = {
            names[name]: np.asarray(np.log(x) if names[name].endswith("_log__") else x, dtype=float)
            for name, x in point.items()
        }
        return float(density(moved))

    return at


def as_draws(*points):
    """Return points as a mapping of draws, each parameter's stacked along the first axis."""
    return {name: np.array([np.asarray(point[name], dtype=float) for point in points]) for name in points[0]}


def check_draws_of_studies(recipe, point, *, repeats=4000):
    """Hold the distribution function, new results and true effects of a recipe against its log likelihood.

    True effects have the moments of Tweedie's formula, which needs nothing but the density of the results.
    """
    es, h = recipe.effects, 1e-4 * np.sqrt(recipe.effects.vi)
    one = as_draws(point)

    def at(steps, what):
        other = recipe.rebuilt(replace(es, yi=es.yi + steps * h))[0]
        return getattr(other, what)(one)[0]

    slope = (at(1, "cdf") - at(-1, "cdf")) / (2 * h)
    np.testing.assert_allclose(slope, np.exp(recipe.log_likelihood(one)[0]), rtol=1e-5)
    many = {name: np.repeat(values, repeats, axis=0) for name, values in one.items()}
    rng = np.random.default_rng(5)
    if recipe.replicate is not None:
        new = recipe.replicate(many, rng)
        share = recipe.cdf(one)[0]
        assert (np.abs((new <= es.yi).mean(axis=0) - share) < 4 * np.sqrt(share * (1 - share) / repeats)).all()
        assert (np.abs(new.mean(axis=0) - recipe.fitted(one)[0]) < 4 * new.std(axis=0) / np.sqrt(repeats)).all()
    h = 100 * h
    up, here, down = (at(steps, "log_likelihood") for steps in (1, 0, -1))
    mean = es.yi + es.vi * (up - down) / (2 * h)
    sd = np.sqrt(es.vi + es.vi**2 * (up - 2 * here + down) / h**2)
    theta = recipe.true_effects(many, rng)
    assert (np.abs(theta.mean(axis=0) - mean) < 4.5 * sd / np.sqrt(repeats)).all()
    np.testing.assert_allclose(theta.std(axis=0), sd, rtol=0.1)
