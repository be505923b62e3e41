"""A three-level posterior as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.export import COLUMNS, column
from alliance_meta.bayes.marginals import INFINITE, KINDS, IntervalKind
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.export import columns_of, plain

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def tidy(fit: BayesianMultilevelResults, *, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return one row per quantity."""
    rows: dict[str, tuple[float, ...]] = {}
    for name in [*fit.names, *fit.priors.tau_names, "theta_new"]:
        one = fit.posterior(name)
        limits = one.interval(level=level, kind=kind)
        rows[name] = (one.mean, one.sd, limits.estimate, limits.lb, limits.ub)
    theta = fit._true_effects
    mean, sd = theta.moments()
    q = theta.quantile(np.array([0.5 * (1.0 - level), 0.5, 0.5 * (1.0 + level)]))
    low, high = theta.shortest(level) if kind == "hdi" else (q[:, 0], q[:, 2])
    for i, label in enumerate(fit.effects.slab):
        rows[f"theta[{label}]"] = tuple(float(one) for one in (mean[i], sd[i], q[i, 1], low[i], high[i]))
    cells = zip(COLUMNS, zip(*rows.values(), strict=True), strict=True)
    index = pd.Index(list(rows), name="parameter")
    out = pd.DataFrame({name: column(part) for name, part in cells}, index=index)
    out.attrs.update(
        scale=fit.effects.scale_label, level=level, interval=kind, interval_label=f"{100 * level:g} % {KINDS[kind]}"
    )
    return out


def statistics(fit: BayesianMultilevelResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    found: dict[str, Any] = {
        "k": fit.k,
        **fit.effects.counts,
        "groups": fit.n_groups,
        "p": fit.p,
        "level": fit.level,
        "interval": fit.interval,
    }
    for name in fit.priors.tau_names:
        tau = fit.posterior(name).interval(level=fit.level, kind=fit.interval)
        found |= {name: tau.estimate, f"{name}_ci_lb": tau.lb, f"{name}_ci_ub": tau.ub}
    found |= {name: getattr(fit, name) for name in ("tau", "tau2", "I2", "icc")}
    factors = fit._bayes_factors
    found |= {f"bf01_{name}": factors[f"{name} = 0"].bf01 for name in fit.priors.tau_names}
    if fit.design.has_intercept:
        found["bf01_mu"] = factors["mu = 0"].bf01
    return found | {"log_marginal_likelihood": fit.log_marginal_likelihood, "error_bound": fit.error_bound}


def to_dict(fit: BayesianMultilevelResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    table = fit.tidy()
    priors = {name: one.to_dict() for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)}
    priors |= {name: one.to_dict() for name, one in zip(fit.priors.tau_names, fit.priors.taus, strict=True)}
    effects = fit.effects
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "random": list(fit.priors.terms),
                "V": "independent" if fit.V is None else fit.V.assumption,
                "priors": priors,
                "method": "exact, by quadrature over both standard deviations",
            },
            "statistics": statistics(fit),
            "posterior": {"parameter": list(table.index), **columns_of(table)},
            "vb": fit.vb if np.isfinite(fit.vb).all() else NotApplicable(INFINITE),
            "bayes_factors": [one.to_dict() for one in fit._bayes_factors.values()],
            "studies": {
                "slab": list(effects.slab),
                "group": [fit.levels[i] for i in fit.group],
                "yi": effects.yi,
                "vi": effects.vi,
            },
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )
