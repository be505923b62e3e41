"""The log density of a PyMC model at a point in its own parameters."""

from __future__ import annotations

import warnings

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
