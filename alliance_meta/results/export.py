"""A result as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.robust.sandwich import WHOLE
from alliance_meta.encoding import plain as plain
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults


def tidy(fit: Any) -> pd.DataFrame:
    """Return one row per coefficient of any fitted model."""
    columns = {
        "estimate": fit.beta,
        "se": fit.se,
        "stat": fit.stat,
        "ddf": fit.ddf,
        "pval": fit.pval,
        "ci_lb": fit.ci_lb,
        "ci_ub": fit.ci_ub,
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.names, name="term"))
    out.attrs.update(scale=fit.effects.scale_label, level=fit.level)
    return out


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def one_row(values: Mapping[str, Any]) -> pd.DataFrame:
    """Return named values as a frame of one row."""
    # A float column would turn the reason of a NotApplicable into a bare NaN.
    columns = {
        name: pd.Series([value], dtype=object if isinstance(value, NotApplicable) else None)
        for name, value in values.items()
    }
    return pd.DataFrame(columns)


def statistics(fit: RandomEffectsResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    m, ddf = fit.QMdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "method": fit.method,
        "test": fit.inference,
        "level": fit.level,
        "tau2": fit.tau2,
        "se_tau2": fit.se_tau2,
        "I2": fit.I2,
        "I2_Q": fit.I2_Q,
        "H2": fit.H2,
        "R2": fit.R2,
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


def information_criteria(fit: RandomEffectsResults) -> dict[str, float]:
    """Return AIC, BIC and AICc as metafor counts them (k - p observations under REML)."""
    parameters = fit.p + (0 if fit.method == "EE" else 1)
    n = fit.k - fit.p if fit.method == "REML" else fit.k
    deviance = -2.0 * fit.loglik
    usable = max(n, parameters + 2)
    return {
        "AIC": deviance + 2.0 * parameters,
        "BIC": deviance + parameters * math.log(n) if n > 0 else NotApplicable("needs k > p"),
        "AICc": deviance + 2.0 * parameters * usable / (usable - parameters - 1.0),
    }


def to_dict(fit: RandomEffectsResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    studies = {
        "slab": list(effects.slab),
        "study_id": list(effects.study_id),
        "yi": effects.yi,
        "vi": effects.vi,
        "ni": effects.ni,
        "weight": fit.weights,
    }
    scales: tuple[Scale | None, ...] = ("z", "r", "r_mean") if effects.measure == "ZCOR" else (None,)
    predictions = {}
    for scale in scales:
        frame = fit.predict(scale=scale)
        predictions[frame.attrs["scale"]] = {"label": list(frame.index), **columns_of(frame)}
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "measure": effects.measure,
                "vtype": effects.vtype,
                "scale": effects.scale_label,
                "direction": effects.direction,
                "label": fit.model_label,
            },
            "statistics": statistics(fit),
            "tau2_interval": fit.confint_tau2().to_dict(),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "predictions": predictions,
            "studies": studies,
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )


def augment(fit: RandomEffectsResults) -> pd.DataFrame:
    """Return one row per effect with fitted value, residual, leverage, weight and shrunken effect."""
    effects, X = fit.effects, fit.design.X
    fitted = X @ fit.beta
    total = effects.vi + fit.tau2
    # Var(y - Xb) for b from weights A: (I - H) M (I - H)' on the diagonal, H = X (X'AX)^-1 X'A.
    hat, spread = fit.fitted.leverage, np.einsum("kp,pq,kq->k", X, fit.fitted.vb, X)
    left = np.where(hat < WHOLE, total - 2.0 * hat * total + spread, np.nan)
    columns = {
        "yi": effects.yi,
        "vi": effects.vi,
        "fitted": fitted,
        "se_fitted": np.sqrt(np.einsum("kp,pq,kq->k", X, fit.vb, X)),
        "resid": effects.yi - fitted,
        "rstandard": (effects.yi - fitted) / np.sqrt(left),
        "hat": hat,
        "weight": fit.weights,
        "blup": fit.blup()["pred"].to_numpy(),
    }
    out = pd.DataFrame(columns, index=pd.Index(effects.slab, name="slab"))
    out.attrs.update(scale=effects.scale_label)
    return out


def columns_of(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the columns of a table as lists; unlike ``to_dict`` of pandas it keeps a `NotApplicable` as it is."""
    return {str(name): list(table[name].array) for name in table.columns}
