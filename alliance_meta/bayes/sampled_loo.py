"""Leave-one-out from draws, by importance sampling with Pareto-smoothed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.arviz_bridge import Smoothed
from alliance_meta.bayes.pymc.recipe import Recipe
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.wording import wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled_results import SampledPosterior

_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class SampledLeaveOneOut:
    """The predictions of each unit (a study, or a cluster of effects) from the others, approximated from draws.

    Attributes
    ----------
    elpd : float
        Expected log predictive density, the sum over units; larger is better. For comparing models of the
        same effects.
    elpd_se : float
        Standard error of that sum as an estimate for new units.
    p_loo : float
        Effective number of parameters.
    mcse : float
        Monte-Carlo standard error of `elpd`.
    good_k : float
        Above this Pareto k the approximation for a unit cannot be trusted.
    table : DataFrame
        One row per unit; see `tidy`.
    unit : {"effect", "cluster"}
        What is left out at once.
    notes : tuple of Note

    Notes
    -----
    The draws of the whole fit are weighted as if each unit had been left out (Vehtari, Gelman & Gabry 2017,
    doi:10.1007/s11222-016-9696-4). The likelihood of a unit has its own true effects integrated out: with these as
    parameters, each of which a single study determines, the weights would break down. `BayesianResults.loo` leaves
    studies out exactly.
    """

    elpd: float
    elpd_se: float
    p_loo: float
    mcse: float
    good_k: float
    table: pd.DataFrame
    unit: str = "effect"
    notes: tuple[Note, ...] = ()

    @property
    def bad(self) -> list[str]:
        """Units whose Pareto k is too large."""
        return [str(label) for label, k in self.table["pareto_k"].items() if not k <= self.good_k]

    def tidy(self) -> pd.DataFrame:
        """Return one row per unit, unrounded.

        Returns
        -------
        DataFrame
            ``elpd`` (log density of the unit's results given the others), ``pit`` (probability of a result up to it;
            near 0 or 1: a surprise; `NotApplicable` where the model has no closed form of it), posterior mean and sd
            of each coefficient without the unit (``mean[mu]``, ``sd[mu]``), the mean of tau without it, ``pareto_k``
            and ``mcse``, the Monte-Carlo standard error of ``elpd``.
        """
        return self.table.copy()

    def __str__(self) -> str:
        k = self.table["pareto_k"].astype(float)
        text = (
            f"elpd = {self.elpd:.2f} (SE {self.elpd_se:.2f}), p_loo = {self.p_loo:.2f}; "
            f"{len(self.table)} {self.unit}s, left out by weighting draws (PSIS); "
            f"Monte-Carlo error {self.mcse:.2f}, largest Pareto k {k.max():.2f} (good up to {self.good_k:.2f})"
        )
        return "\n".join([*wrapped(text), *(line for note in self.notes for line in wrapped(f"Note: {note.message}"))])

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON-ready values."""
        totals = {name: getattr(self, name) for name in ("elpd", "elpd_se", "p_loo", "mcse", "good_k")}
        units = {"slab": list(self.table.index), **columns_of(self.table)}
        return plain({**totals, "unit": self.unit, "units": units, "notes": [note.to_dict() for note in self.notes]})


def leave_one_out(fit: SampledPosterior) -> SampledLeaveOneOut:
    """Leave out each unit of a fit in turn."""
    recipe = fit.made
    chains, draws = fit._shape
    if chains * draws < arviz_bridge.FEWEST_DRAWS:
        raise InputError(f"leave-one-out needs at least {arviz_bridge.FEWEST_DRAWS} draws; these are {chains * draws}")
    pointwise = recipe.log_likelihood(fit._flat)
    observed = fit.effects.yi if len(recipe.units) == fit.k else np.zeros(len(recipe.units))
    moving = {name: one for name, one in fit._rows.items() if np.ptp(one) > 0 and not name.startswith("theta")}
    found = arviz_bridge.psis(moving, pointwise.reshape(chains, draws, -1), observed)
    within = logsumexp(pointwise, axis=0) - np.log(len(pointwise))
    errors = _errors(found.weight, pointwise, found.elpd)
    table = _table(fit, recipe, found, errors)
    n = len(table)
    total = float(found.elpd.sum())
    return SampledLeaveOneOut(
        elpd=total,
        elpd_se=float(np.sqrt(n * found.elpd.var(ddof=1))) if n > 1 else NotApplicable("needs at least 2 units"),
        p_loo=float(within.sum()) - total,
        mcse=float(np.sqrt((errors**2).sum())),
        good_k=found.good_k,
        table=table,
        unit="effect" if n == fit.k else "cluster",
        notes=merge_notes(fit.problems, _bad(found.k, found.good_k, recipe.units)),
    )


def _errors(weight: Array, pointwise: Array, elpd: Array) -> Array:
    """Return the Monte-Carlo error of each log density, by the spread of the weighted densities."""
    relative = np.exp(pointwise - elpd) - 1.0
    return np.sqrt((weight**2 * relative**2).sum(axis=0))


def _table(fit: SampledPosterior, recipe: Recipe, found: Smoothed, errors: Array) -> pd.DataFrame:
    none = NotApplicable("this model has no closed form of it")
    pit: Any = np.array([none] * len(recipe.units), dtype=object)
    if recipe.cdf is not None:
        pit = (found.weight * recipe.cdf(fit._flat)).sum(axis=0)
    columns: dict[str, Any] = {"elpd": found.elpd, "pit": pit}
    mean = found.weight.T @ fit._printed
    for j, name in enumerate(fit.names):
        columns[f"mean[{name}]"] = mean[:, j]
        away = (fit._printed[:, j, None] - mean[:, j]) ** 2
        columns[f"sd[{name}]"] = np.sqrt((found.weight * away).sum(axis=0))
    if "tau" in fit._scalars:
        columns["mean[tau]"] = found.weight.T @ fit._scalars["tau"].ravel()
    columns |= {"pareto_k": found.k, "mcse": errors}
    return pd.DataFrame(columns, index=pd.Index(recipe.units, name="label"))


def _bad(k: Array, good: float, units: tuple[str, ...]) -> list[Note]:
    bad = [label for label, one in zip(units, k, strict=True) if not one <= good]
    if not bad:
        return []
    rest = len(bad) - _MOST_NAMED
    named = ", ".join(bad[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    message = (
        f"Leave-one-out: the Pareto k of {len(bad)} of {len(units)} ({named}) is above {good:.2f}, so that the elpd of "
        "these, and the sum, cannot be trusted. Fit the model again without each of them, or take more draws."
    )
    return [warn_note("pareto-k", message, ConvergenceWarning, stacklevel=5)]
