"""Exact leave-one-out of a three-level model: each row, or each whole group, predicted from all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.leave_out import LeaveOneOut, assembled
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.core.three_level.deletion import MultilevelDeletions, delete_each_of, log_density_of_units
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def leave_out(fit: BayesianMultilevelResults, cluster: str | None) -> LeaveOneOut:
    """Leave out each row, or each whole group of `cluster`, in turn."""
    outer = fit.priors.terms[0]
    if cluster not in (None, outer):
        raise InputError(f"cluster={cluster!r}: whole groups of {outer!r} can be left out, or single rows without it")
    whole = cluster is not None
    left = delete_each_of(fit.exact, fit._rows, fit.priors.densities, whole=whole)
    labels = pd.Index(fit.levels if whole else fit.effects.slab, name=outer if whole else "label")
    inside = float(log_density_of_units(fit.exact, fit._rows, whole=whole).sum())
    counts = {"k": np.bincount(fit.group)} if whole else {}
    what = "group" if whole else "effect"
    return assembled(_columns(fit, left), labels, left.units, inside, left.error, what=what, **counts)


def _columns(fit: BayesianMultilevelResults, left: MultilevelDeletions) -> dict[str, Any]:
    T = coordinates(fit.design)
    mean = left.mean @ T.T
    spread = np.sqrt(np.maximum(np.einsum("ji,mik,jk->mj", T, left.covariance, T), 0.0))
    columns: dict[str, Any] = {"elpd": left.log_predictive}
    if left.pit is not None:
        columns["pit"] = left.pit
    # A row or a group less makes every tail heavier by one power, or by as many as there are rows.
    lost = 1 if left.pit is not None else int(np.bincount(fit.group).max())
    exact = fit.exact
    proper = bool((exact.data.precision > 0).all())
    tails = (exact.tails[0] - 1, exact.tails[1] - lost)
    for j, name in enumerate(fit.names):
        columns[f"mean[{name}]"] = mean[:, j] if proper or min(tails) > 2.0 else None
        columns[f"sd[{name}]"] = spread[:, j] if proper or min(tails) > 3.0 else None
    for i, name in enumerate(fit.priors.tau_names):
        columns[f"mean[{name}]"] = left.deviations[:, i] if tails[i] > 2.0 else None
    return columns
