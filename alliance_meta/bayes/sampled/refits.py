"""Fits without a unit each, from the model as it was compiled, for leave-one-out where weighting draws fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.sampled.gate import convergence_problems
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, warn_note

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled.quantities import SampledQuantities

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
