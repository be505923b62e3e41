"""A sampled posterior as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.marginals import KINDS, IntervalKind
from alliance_meta.results.export import columns_of, plain

if TYPE_CHECKING:
    from alliance_meta.bayes.sampled.results import SampledPosterior


def tidy(fit: SampledPosterior, *, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return one row per quantity."""
    out = arviz_bridge.summarise(fit._rows, level=level, shortest=kind == "hdi", known=fit._mixing)
    if fit.recipe is not None:
        out.attrs.update(scale=fit.effects.scale_label)
    label = f"{100 * level:g} % {KINDS[kind]}"
    out.attrs.update(level=level, interval=kind, interval_label=label, converged=fit.converged)
    return out


def statistics(fit: SampledPosterior) -> dict[str, Any]:
    """Return the model's statistics by name."""
    chains, draws = fit._shape
    found: dict[str, Any] = {"converged": fit.converged}
    found |= {} if fit.recipe is None else {"k": fit.k, **fit.effects.counts, "p": fit.p}
    found |= {"level": fit.level, "interval": fit.interval}
    if "tau" in fit._scalars:
        tau = fit.posterior("tau").interval(level=fit.level, kind=fit.interval)
        found |= {"tau": tau.estimate, "tau_ci_lb": tau.lb, "tau_ci_ub": tau.ub, "tau2": fit.tau2}
        found |= {} if fit.recipe is None else {"I2": fit.I2}
    numbers = fit.diagnostics.to_dict()
    numbers["bfmi"] = min(fit.diagnostics.bfmi) if fit.diagnostics.bfmi else fit.diagnostics.divergences
    return found | {"chains": chains, "draws": draws, "seed": fit.seed} | numbers


def to_dict(fit: SampledPosterior) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values, the checks of convergence first."""
    table = fit.tidy()
    chains, draws = fit._shape
    sampler = {} if fit.sampler is None else fit.sampler.to_dict()
    found: dict[str, Any] = {
        "converged": fit.converged,
        "problems": [note.to_dict() for note in fit.problems],
        "sampler": {**sampler, "chains": chains, "draws": draws, "seed": fit.seed},
        "diagnostics": fit.diagnostics.to_dict(),
        "statistics": statistics(fit),
        "posterior": {"parameter": list(table.index), **columns_of(table)},
        "notes": [note.to_dict() for note in fit.notes],
    }
    if fit.recipe is None:
        return plain(found)
    recipe, effects = fit.recipe, fit.effects
    model: dict[str, Any] = {"name": recipe.model, "formula": recipe.design.formula, "assumes": recipe.words}
    model |= {"priors": {name: prior.to_dict() for name, prior in recipe.priors.items()}}
    return plain(
        {
            **found,
            "model": {**model, "method": "Hamiltonian Monte Carlo (NUTS)"},
            "vb": fit.vb,
            "studies": {"slab": list(effects.slab), "yi": effects.yi, "vi": effects.vi},
            "provenance": effects.provenance.to_dict(),
        }
    )
