"""Predictions: fitted means, confidence and prediction intervals, on a scale that is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import mean_of_tanh, z_to_r
from alliance_meta.core.distributions import critical_value, critical_values
from alliance_meta.errors import InputError

COLUMNS = ("pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
SCALE_LABELS = {
    "z": "Fisher z",
    "r": "r = tanh(z), the median true correlation",
    "r_mean": "mean true correlation, tanh averaged over the distribution of effects",
    "analysis": "analysis scale",
}


def rows_to_predict(fit: Any, newdata: pd.DataFrame | Mapping[str, Any] | None) -> tuple[Array, list[str]]:
    """Return the rows to predict for (m, p) and their labels: new data, the mean effect, or the model's own rows."""
    if newdata is not None:
        rows: tuple[Array, list[str]] = fit.design.new_rows(newdata)
        return rows
    if fit.design.formula == "1":
        return np.ones((1, 1)), ["mean effect"]
    return fit.design.X, list(fit.effects.slab)


def predict_rows(
    X: Array, *, beta: Array, vb: Array, tau2: float, df: float | None, level: float, random: bool
) -> pd.DataFrame:
    """Return fitted values of the rows X (m, p) with both intervals, on the analysis scale.

    The prediction interval is pred -+ c * sqrt(se^2 + tau2), with c from t(df) or the normal
    (Higgins, Thompson & Spiegelhalter 2009, doi:10.1111/j.1467-985X.2008.00552.x);
    it is absent (NaN) when the model has no random effects (`random` False).
    """
    pred = X @ beta
    se = np.sqrt(np.einsum("mp,pq,mq->m", X, vb, X))
    half = critical_value(level, df)
    spread = np.sqrt(se**2 + tau2) if random else np.full(len(pred), np.nan)
    values = (pred, se, pred - half * se, pred + half * se, pred - half * spread, pred + half * spread)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def predict_linear(fit: Any, X: Array, *, scale: str | None, level: float) -> pd.DataFrame:
    """Return the predictions of rows X (m, p), each with its own degrees of freedom, on the scale asked for.

    A row may be an average of rows of the design. The prediction interval is NaN where the model leaves the variance
    of a new effect open, and ``.attrs["pi_note"]`` says why.
    """
    variance = fit.new_variance
    if scale == "r_mean" and variance != variance:
        raise InputError(f"scale='r_mean' averages over the distribution of effects: {variance.reason}")
    pred, se = X @ fit.beta, np.sqrt(np.einsum("mp,pq,mq->m", X, fit.vb, X))
    half = critical_values(level, fit.row_ddf(X))
    spread = half * np.sqrt(se**2 + variance)
    values = (
        pred,
        np.where(np.isnan(half), np.nan, se),
        pred - half * se,
        pred + half * se,
        pred - spread,
        pred + spread,
    )
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    out = to_scale(frame, measure=fit.effects.measure, scale=scale, tau2=float(variance))
    out.attrs.update(level=level, **({"pi_note": variance.reason} if variance != variance else {}))
    return out


def to_scale(frame: pd.DataFrame, *, measure: str, scale: str | None, tau2: float) -> pd.DataFrame:
    """Put predictions on the scale asked for and write its name into ``frame.attrs``.

    On the r scales the standard error is the delta-method one, (1 - r^2) se; intervals are transformed,
    never rebuilt from it.
    """
    own = "z" if measure == "ZCOR" else "r" if measure in ("COR", "UCOR") else "analysis"
    wanted = scale or own
    out = frame.copy()
    if wanted != own:
        if own != "z" or wanted not in ("r", "r_mean"):
            raise InputError(_no_such_scale(measure, own, wanted))
        points = ["pred", "ci_lb", "ci_ub"]
        transform = z_to_r if wanted == "r" else lambda z: mean_of_tanh(z, tau2)
        for name in points:
            out[name] = transform(frame[name].to_numpy())
        for name in ("pi_lb", "pi_ub"):
            out[name] = z_to_r(frame[name].to_numpy())
        out["se"] = frame["se"] * (1.0 - np.tanh(frame["pred"]) ** 2)
    out.attrs.update(scale=wanted, scale_label=SCALE_LABELS[wanted])
    return out


def _no_such_scale(measure: str, own: str, wanted: str) -> str:
    if wanted not in SCALE_LABELS:
        return f"scale={wanted!r} is not one of 'z', 'r', 'r_mean'"
    if measure in ("COR", "UCOR"):
        return f"scale={wanted!r}: the model was fitted on raw r ({measure}); refit with measure='ZCOR'"
    if own == "z":
        return f"scale={wanted!r} is not defined for Fisher z; use 'z', 'r' or 'r_mean'"
    return f"scale={wanted!r} needs Fisher z effects; these are {measure!r}. Give measure='ZCOR' if they are Fisher z"
