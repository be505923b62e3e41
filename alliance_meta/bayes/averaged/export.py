"""Averages over sets of moderators as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.averaged.averages import Averaged
from alliance_meta.results.export import columns_of, plain

if TYPE_CHECKING:
    from alliance_meta.bayes.averaged.results import AveragedResults


def models(fit: AveragedResults) -> pd.DataFrame:
    """Return one row per model, the most probable first."""
    logs = fit.space.log_prior
    row, model = np.nonzero(np.isfinite(logs))
    posterior = fit.average.posterior[row, model]
    order = np.argsort(-posterior, kind="stable")
    row, model = row[order], model[order]
    formulas = [_formula(fit, int(i)) for i in range(len(fit.space.number))]
    labels = ["equal effects", *map(str, fit.tau_priors)]
    likelihood = fit.average.log_marginal[row, model]
    return pd.DataFrame(
        {
            "formula": [formulas[i] for i in model],
            "effect": [_has_effect(fit, int(i)) for i in model],
            "tau_prior": [labels[i] for i in row],
            "prior": np.exp(logs[row, model]),
            "posterior": posterior[order],
            "log_marginal_likelihood": likelihood,
            "bf_best": np.exp(likelihood - likelihood[0]),
        }
    )


def _has_effect(fit: AveragedResults, i: int) -> bool:
    optional = fit.space.optional
    return optional[:1] != ("effect",) or bool(fit.space.has[i, 0])


def _formula(fit: AveragedResults, i: int) -> str:
    own = fit.space.has[i, len(fit.space.optional) - len(fit.space.terms) :]
    chosen = [*fit.always, *(term for term, has in zip(fit.space.terms, own, strict=True) if has)]
    return " + ".join(chosen) or "1"


def statistics(fit: AveragedResults) -> dict[str, Any]:
    """Return the statistics by name."""
    table = fit.tidy()
    return {
        "k": fit.k,
        **fit.effects.counts,
        "models": int(np.isfinite(fit.space.log_prior).sum()),
        "level": fit.level,
        "mu": table.loc["mu", "mean"],
        "tau": table.loc["tau", "mean"],
        "log_marginal_likelihood": fit.log_marginal_likelihood,
        "error_bound": fit.error_bound,
        "left_out": fit.left_out,
    }


def to_dict(fit: AveragedResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    chosen = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    model = {
        "always": list(fit.always),
        "candidates": list(fit.space.terms),
        "priors": {name: prior.to_dict() for name, prior in chosen},
        "tau_priors": [prior.to_dict() for prior in fit.tau_priors],
        "method": "exact, by quadrature over tau",
    }
    return averages_dict(fit, model, statistics(fit), {"models": fit.models.head(1000)})


def averages_dict(
    fit: Averaged, model: dict[str, Any], numbers: dict[str, Any], more: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Return settings, statistics and tables of an average as JSON-ready values."""
    tables = {"inclusion": fit.inclusion.reset_index(), "averaged": fit.tidy().reset_index()}
    tables |= {"conditional": fit.tidy(conditional=True).reset_index(), **more}
    return plain(
        {
            "model": model,
            "statistics": numbers,
            **{name: columns_of(table) for name, table in tables.items()},
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": fit.effects.provenance.to_dict(),
        }
    )
