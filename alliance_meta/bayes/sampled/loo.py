"""Leave-one-out from draws, by importance sampling with Pareto-smoothed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.arviz_bridge import Smoothed
from alliance_meta.bayes.marginals import column
from alliance_meta.bayes.pymc.parts import Recipe
from alliance_meta.bayes.sampled.quantities import FAILED, SampledQuantities, convergence_problems
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import NotApplicable, Note, merge_notes, warn_note
from alliance_meta.result import Result, said
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

NO_PIT = NotApplicable("this model has no closed form of it")


def refit_without(fit: SampledQuantities, which: Sequence[int]) -> tuple[dict[int, dict[str, float]], list[Note]]:
    """Fit again without each of these units; return their rows of the table, and notes about fits that failed."""
    recipe, compiled, settings = fit.made, fit._model, fit.sampler
    if compiled is None or settings is None or settings.program != "nutpie":
        raise InputError("refit=True needs a fit that bayes.sample has drawn with nutpie")
    if len(recipe.units) != fit.k:
        raise InputError(f"refit=True: {recipe.model} leaves out clusters of effects, which it cannot fit again")
    chains, draws = fit._shape
    rows, notes = {}, []
    for i in which:
        others = [j for j in range(fit.k) if j != i]
        raw = compiled.with_data(fit.effects.take(others)).draw(
            draws=draws,
            tune=settings.tune,
            chains=chains,
            cores=None,
            seed=fit.seed + i + 1,
            target_accept=settings.target_accept,
            progress=False,
        )
        container = arviz_bridge.without_clock(raw)
        failed = [code for code, _ in convergence_problems(container)]
        if failed:
            message = f"The fit without {recipe.units[i]} fails its checks of convergence ({', '.join(failed)})."
            notes.append(warn_note("refit-failed", message, ConvergenceWarning, stacklevel=6))
        rows[i] = _row(fit, container, i)
    return rows, notes


def _row(fit: SampledQuantities, container: object, i: int) -> dict[str, float]:
    recipe = fit.made
    found = arviz_bridge.draws(container)
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in found.items()}
    log = recipe.log_likelihood(flat)[:, i]
    elpd = float(logsumexp(log) - np.log(len(log)))
    relative = np.exp(log - elpd).reshape(next(iter(found.values())).shape[:2])
    size = arviz_bridge.ess(relative, "mean")
    printed = recipe.coefficients(flat)
    row = {"elpd": elpd, "pit": NO_PIT if recipe.cdf is None else float(recipe.cdf(flat)[:, i].mean())}
    for j, name in enumerate(fit.names):
        row |= {f"mean[{name}]": float(printed[:, j].mean()), f"sd[{name}]": float(printed[:, j].std(ddof=1))}
    if "tau" in fit._scalars:
        row["mean[tau]"] = float(flat["tau"].mean())
    again = NotApplicable("left out by fitting again")
    return row | {"pareto_k": again, "mcse": float(relative.std(ddof=1) / np.sqrt(size))}


_MOST_NAMED = 5


@dataclass(frozen=True, eq=False, repr=False)
class SampledLeaveOneOut(Result):
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
    refitted : tuple of str
        Units for which the model was fitted again.
    problems : tuple of Note
        The checks of convergence that the draws fail.

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
    refitted: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    problems: tuple[Note, ...] = ()

    @property
    def bad(self) -> list[str]:
        """Units whose Pareto k is too large, and for which the model was not fitted again."""
        found = self.table["pareto_k"].items()
        return [str(label) for label, k in found if not (k <= self.good_k or label in self.refitted)]

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

    def _content(self) -> Document:
        k = self.table["pareto_k"].astype(float)
        text = (
            f"elpd = {fixed(self.elpd, 2)} (SE {fixed(self.elpd_se, 2)}), p_loo = {fixed(self.p_loo, 2)}; "
            f"{len(self.table)} {self.unit}s, left out by weighting draws (PSIS); "
            f"Monte-Carlo error {fixed(self.mcse, 2)}, largest Pareto k {fixed(k.max(), 2)} "
            f"(good up to {fixed(self.good_k, 2)})"
        )
        text += f"; fitted again without {', '.join(self.refitted)}" if self.refitted else ""
        alarm = [FAILED, *(note.message for note in self.problems)] if self.problems else []
        return Document(text, notes=said(note for note in self.notes if note not in self.problems), alarm=alarm)

    def _values(self) -> dict[str, Any]:
        totals: dict[str, Any] = {name: getattr(self, name) for name in ("elpd", "elpd_se", "p_loo", "mcse", "good_k")}
        totals |= {"unit": self.unit, "refitted": list(self.refitted)}
        units = {"slab": list(self.table.index), **columns_of(self.table)}
        totals = {"converged": not self.problems, **totals}
        return {**totals, "units": units}


def leave_one_out(fit: SampledQuantities, *, refit: bool) -> SampledLeaveOneOut:
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
    columns = _columns(fit, recipe, found, _errors(found.weight, pointwise, found.elpd))
    bad = [i for i, k in enumerate(found.k) if not k <= found.good_k]
    again, notes = refit_without(fit, bad) if refit and bad else ({}, [])
    for i, row in again.items():
        for name, value in row.items():
            columns[name][i] = value
    if bad and not again:
        notes = [_bad(bad, found.good_k, recipe.units)]
    table = pd.DataFrame(
        {name: column(cells) for name, cells in columns.items()}, index=pd.Index(recipe.units, name="label")
    )
    n, elpd = len(table), table["elpd"].to_numpy(dtype=float)
    return SampledLeaveOneOut(
        elpd=float(elpd.sum()),
        elpd_se=float(np.sqrt(n * elpd.var(ddof=1))) if n > 1 else NotApplicable("needs at least 2 units"),
        p_loo=float(within.sum() - elpd.sum()),
        mcse=float(np.sqrt((table["mcse"].to_numpy(dtype=float) ** 2).sum())),
        good_k=found.good_k,
        table=table,
        unit="effect" if n == fit.k else "cluster",
        refitted=tuple(recipe.units[i] for i in again),
        notes=merge_notes(fit.problems, notes),
        problems=fit.problems,
    )


def _errors(weight: Array, pointwise: Array, elpd: Array) -> Array:
    """Return the Monte-Carlo error of each log density, by the spread of the weighted densities."""
    relative = np.exp(pointwise - elpd) - 1.0
    return np.sqrt((weight**2 * relative**2).sum(axis=0))


def _columns(fit: SampledQuantities, recipe: Recipe, found: Smoothed, errors: Array) -> dict[str, list[Any]]:
    columns: dict[str, Any] = {"elpd": found.elpd}
    if recipe.cdf is None:
        columns["pit"] = [NO_PIT] * len(recipe.units)
    else:
        columns["pit"] = (found.weight * recipe.cdf(fit._flat)).sum(axis=0)
    mean = found.weight.T @ fit._printed
    for j, name in enumerate(fit.names):
        columns[f"mean[{name}]"] = mean[:, j]
        away = (fit._printed[:, j, None] - mean[:, j]) ** 2
        columns[f"sd[{name}]"] = np.sqrt((found.weight * away).sum(axis=0))
    if "tau" in fit._scalars:
        columns["mean[tau]"] = found.weight.T @ fit._scalars["tau"].ravel()
    columns |= {"pareto_k": found.k, "mcse": errors}
    return {name: list(cells) for name, cells in columns.items()}


def _bad(bad: list[int], good: float, units: tuple[str, ...]) -> Note:
    rest = len(bad) - _MOST_NAMED
    named = ", ".join(units[i] for i in bad[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    message = (
        f"Leave-one-out: the Pareto k of {len(bad)} of {len(units)} ({named}) is above {fixed(good, 2)}, so that the "
        "elpd of these, and the sum, cannot be trusted. Fit the model again without each of them (refit=True), or "
        "take more draws."
    )
    return warn_note("pareto-k", message, ConvergenceWarning, stacklevel=5)
