"""An ensemble of models as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.averaged.bias_models import WeightFunction
from alliance_meta.bayes.averaged.export import averages_dict

if TYPE_CHECKING:
    from alliance_meta.bayes.averaged.bias_results import RobmaResults

BASIC = ("effect", "heterogeneity", "bias")


def models(fit: RobmaResults) -> pd.DataFrame:
    """Return one row per model, the most probable first."""
    logs, prior = fit._logs, np.array([one.prior for one in fit.ensemble])
    frame = pd.DataFrame(
        {
            "effect": [one.effect for one in fit.ensemble],
            "heterogeneity": [one.heterogeneity for one in fit.ensemble],
            "bias": ["none" if one.bias is None else str(one.bias) for one in fit.ensemble],
            "prior": prior,
            "posterior": fit.posterior_probabilities,
            "log_marginal_likelihood": logs - np.log(prior),
            "error": fit.errors,
            "bf": [fit._compare(np.arange(len(prior)) == i)["bf10"] for i in range(len(prior))],
        }
    )
    order = np.argsort(-frame["posterior"].to_numpy(), kind="stable")
    return frame.iloc[order].reset_index(drop=True)


def statistics(fit: RobmaResults) -> dict[str, Any]:
    """Return the statistics by name."""
    mu, tau = (fit.posterior(name) if name in fit.parameters else None for name in ("mu", "tau"))
    found: dict[str, Any] = {"k": fit.k, **fit.effects.counts, "models": len(fit.ensemble), "level": fit.level}
    found |= {f"bf10_{name}": fit.inclusion["bf10"][name] for name in BASIC}
    found |= {"mu": 0.0 if mu is None else mu.mean, "tau": 0.0 if tau is None else tau.mean}
    return found | {"log_marginal_likelihood": fit.log_marginal_likelihood, "error": float(fit.errors.max())}


def to_dict(fit: RobmaResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    model = {
        "priors": {"mu": fit.mu_prior.to_dict(), "tau": fit.tau_prior.to_dict()},
        "bias": [one.to_dict() for one in fit.bias],
        "direction": fit.direction,
        "method": "quadrature",
    }
    weighed = any(isinstance(one, WeightFunction) for one in fit.bias)
    more = {"models": fit.models} | ({"weight_function": fit.weight_function()} if weighed else {})
    return averages_dict(fit, model, statistics(fit), more)
