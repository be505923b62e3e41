"""A multilevel fit as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.mixed.predictions import true_effects
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.export import tidy as tidy

if TYPE_CHECKING:
    from alliance_meta.results.multilevel import MultilevelResults


def statistics(fit: MultilevelResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    m, ddf = fit.QMdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        **{f"groups[{term.name}]": term.n for term in fit.random},
        "method": fit.method,
        "test": fit.inference,
        "degrees": fit.degrees,
        "level": fit.level,
        **{str(name): value for name, value in fit.components["estimate"].items()},
        "tau2": fit.tau2,
        "I2": fit.I2,
        "R2_marginal": fit.R2_marginal,
        "R2_conditional": fit.R2_conditional,
        "QE": fit.QE,
        "QEdf": fit.QEdf,
        "QEp": fit.QEp,
        "QM": fit.QM,
        "QMdf": m,
        "QMddf": NotApplicable("chi-squared has none") if ddf is None else ddf,
        "QMp": fit.QMp,
        "loglik": fit.loglik,
        **information_criteria(fit),
    }


def information_criteria(fit: MultilevelResults) -> dict[str, float]:
    """Return AIC, BIC and AICc as metafor counts them (k - p observations under REML)."""
    parameters = fit.p + int((~fit.fitted.fixed).sum())
    n = fit.k - fit.p if fit.method == "REML" else fit.k
    deviance = -2.0 * fit.loglik
    usable = max(n, parameters + 2)
    return {
        "AIC": deviance + 2.0 * parameters,
        "BIC": deviance + parameters * math.log(n) if n > 0 else NotApplicable("needs k > p"),
        "AICc": deviance + 2.0 * parameters * usable / (usable - parameters - 1.0),
    }


def augment(fit: MultilevelResults) -> pd.DataFrame:
    """Return one row per effect."""
    fitted = fit.design.X @ fit.beta
    true, variance = true_effects(fit.point, fit.effects.yi, fit.effects.vi)
    columns = {
        "yi": fit.effects.yi,
        "vi": fit.effects.vi,
        "fitted": fitted,
        "resid": fit.effects.yi - fitted,
        "weight": fit.weights,
        "true": true,
        "se_true": np.sqrt(variance),
    }
    return pd.DataFrame(columns, index=pd.Index(fit.effects.slab))


def to_dict(fit: MultilevelResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    scales: tuple[Scale | None, ...] = ("z", "r", "r_mean") if effects.measure == "ZCOR" else (None,)
    predictions = {}
    for scale in scales:
        frame = fit.predict(scale=scale)
        predictions[frame.attrs["scale"]] = {"label": list(frame.index), **columns_of(frame)}
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "random": [{"term": term.name, "struct": term.struct, "groups": term.n} for term in fit.random],
                "V": "independent" if fit.V is None else fit.V.assumption,
                "measure": effects.measure,
                "vtype": effects.vtype,
                "scale": effects.scale_label,
                "direction": effects.direction,
            },
            "statistics": statistics(fit),
            "components": fit.components.to_dict(orient="index"),
            "I2": fit.I2_levels.to_dict(),
            "icc": fit.icc.to_dict(),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "predictions": predictions,
            "studies": {
                "slab": list(effects.slab),
                "study_id": list(effects.study_id),
                "ni": effects.ni,
                **columns_of(augment(fit)),
            },
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )
