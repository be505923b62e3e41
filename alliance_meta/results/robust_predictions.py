"""Predictions with cluster-robust standard errors and degrees of freedom of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.robust.satterthwaite import satterthwaite, t_quantile
from alliance_meta.options import Scale
from alliance_meta.results.predictions import COLUMNS, rows_to_predict, to_scale

if TYPE_CHECKING:
    from alliance_meta.results.robust import RobustResults

# Variances that differ by less, relatively, are one and the same.
SAME = 1e-9


def predict(
    result: RobustResults, newdata: pd.DataFrame | Mapping[str, Any] | None, *, scale: Scale | None, level: float
) -> pd.DataFrame:
    """Return predictions; labels, and the variance of a new effect, are those of the model-based ones."""
    X, _ = rows_to_predict(result, newdata)
    model = result.fit.predict(newdata, level=level)
    tau2 = _heterogeneity(model)
    ddf = satterthwaite(result.sandwich, X)
    pred = X @ result.beta
    se = np.where(np.isnan(ddf), np.nan, np.sqrt(np.einsum("mp,pq,mq->m", X, result.vb, X)))
    t = t_quantile(level, ddf)
    half, spread = t * se, t * np.sqrt(se**2 + tau2)
    values = (pred, se, pred - half, pred + half, pred - spread, pred + spread)
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    out = _on_scale(frame, tau2, measure=result.effects.measure, scale=scale)
    out["ddf"] = ddf
    out.index = model.index
    out.attrs["level"] = level
    if "pi_note" in model.attrs:
        out.attrs["pi_note"] = model.attrs["pi_note"]
    return out


def _heterogeneity(model: pd.DataFrame) -> Array:
    """Return the variance of a new true effect: both intervals of a model-based prediction have one multiplier."""
    mean, new = (model[f"{kind}_ub"].to_numpy() - model[f"{kind}_lb"].to_numpy() for kind in ("ci", "pi"))
    there = mean > 0
    ratio = np.where(there, new / np.where(there, mean, 1.0), 1.0)
    return np.maximum(ratio**2 - 1.0, 0.0) * model["se"].to_numpy() ** 2


def _on_scale(frame: pd.DataFrame, tau2: Array, *, measure: str, scale: Scale | None) -> pd.DataFrame:
    if scale != "r_mean" or not np.ptp(tau2) > SAME * np.max(tau2):
        return to_scale(frame, measure=measure, scale=scale, tau2=float(tau2[0]))
    rows = [to_scale(frame.iloc[[i]], measure=measure, scale=scale, tau2=float(t)) for i, t in enumerate(tau2)]
    out = pd.concat(rows)
    out.attrs.update(rows[0].attrs)
    return out
