"""A location-scale fit as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.univariate.location_scale import VANISHED
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.predictions import COLUMNS, to_scale

if TYPE_CHECKING:
    from alliance_meta.design import Design
    from alliance_meta.results.location_scale import LocationScaleResults

Newdata = pd.DataFrame | Mapping[str, Any] | None
INFINITE = "tau2 of some studies runs to 0 and the coefficient with it"


def tidy(fit: LocationScaleResults) -> pd.DataFrame:
    """Return one row per coefficient, with the part of the model it belongs to."""
    gone = NotApplicable(INFINITE)
    rows = []
    parts = (("location", fit.names, fit.location, fit.ddf), ("scale", fit.scale_names, fit.scale, fit.ddf_alpha))
    for part, names, own, ddf in parts:
        for i, name in enumerate(names):
            lost = part == "scale" and bool(fit.fitted.infinite[i])
            values = (own.se[i], own.stat[i], own.pval[i], own.ci_lb[i], own.ci_ub[i])
            se, stat, pval, lb, ub = (gone if lost else float(value) for value in values)
            rows.append((part, name, float(own.beta[i]), se, stat, float(ddf[i]), pval, lb, ub))
    columns = ["part", "term", "estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub"]
    # Columns of floats would forget why a number does not exist.
    kind = object if fit.fitted.infinite.any() else None
    out = pd.DataFrame(rows, columns=columns, dtype=kind).set_index(["part", "term"])
    out.attrs.update(scale=fit.effects.scale_label, link=fit.link, level=fit.level)
    return out


def statistics(fit: LocationScaleResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    parameters = fit.p + fit.q
    n = fit.k - fit.p if fit.method == "REML" else fit.k
    usable = max(n, parameters + 2)
    none = NotApplicable("chi-squared has none")
    deviance = -2.0 * fit.loglik
    m, ddf = fit.QSdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "q": fit.q,
        "method": fit.method,
        "test": fit.inference,
        "link": fit.link,
        "level": fit.level,
        "tau2_min": float(fit.tau2.min()),
        "tau2_max": float(fit.tau2.max()),
        "tau2_constant": fit.fitted.constant,
        "QE": fit.QE,
        "QEdf": fit.QEdf,
        "QEp": fit.QEp,
        "QM": fit.QM,
        "QMdf": fit.omnibus.df1,
        "QMddf": none if fit.omnibus.df2 is None else fit.omnibus.df2,
        "QMp": fit.QMp,
        "QS": fit.QS,
        "QSdf": m,
        "QSddf": none if ddf is None else ddf,
        "QSp": fit.QSp,
        "LRT": fit.scale_lrt.stat,
        "LRTdf": fit.scale_lrt.df,
        "LRTp": fit.scale_lrt.pval,
        "loglik": fit.loglik,
        "AIC": deviance + 2.0 * parameters,
        "BIC": deviance + parameters * float(np.log(n)),
        "AICc": deviance + 2.0 * parameters * usable / (usable - parameters - 1.0),
    }


def augment(fit: LocationScaleResults) -> pd.DataFrame:
    """Return one row per effect."""
    fitted = fit.design.X @ fit.beta
    columns = {
        "yi": fit.effects.yi,
        "vi": fit.effects.vi,
        "fitted": fitted,
        "resid": fit.effects.yi - fitted,
        "tau2": fit.tau2,
        "weight": fit.weights,
    }
    return pd.DataFrame(columns, index=pd.Index(fit.effects.slab))


def blup(fit: LocationScaleResults, half: float) -> pd.DataFrame:
    """Return shrunken effects; `half` is the critical value."""
    share = fit.tau2 / (fit.tau2 + fit.effects.vi)
    X = fit.design.X
    pred = share * fit.effects.yi + (1.0 - share) * (X @ fit.beta)
    mean = np.einsum("kp,pq,kq->k", X, fit.vb, X)
    se = np.sqrt(share * fit.effects.vi + (1.0 - share) ** 2 * mean)
    columns = {"pred": pred, "se": se, "pi_lb": pred - half * se, "pi_ub": pred + half * se}
    return pd.DataFrame(columns, index=pd.Index(fit.effects.slab))


def predict(fit: LocationScaleResults, newdata: Newdata, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return predictions with the tau2 of each row."""
    X, Z, labels = _rows(fit, newdata)
    tau2 = _tau2(fit, Z)
    pred = X @ fit.beta
    se = np.sqrt(np.einsum("mp,pq,mq->m", X, fit.vb, X))
    half = critical_value(level, fit.location.df)
    spread = half * np.sqrt(se**2 + tau2)
    values = (pred, se, pred - half * se, pred + half * se, pred - spread, pred + spread)
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    measure = fit.effects.measure
    rows = [to_scale(frame.iloc[[i]], measure=measure, scale=scale, tau2=float(t)) for i, t in enumerate(tau2)]
    out = pd.concat(rows) if scale == "r_mean" else to_scale(frame, measure=measure, scale=scale, tau2=0.0)
    out["tau2"] = tau2
    out.index = pd.Index(labels)
    out.attrs.update({"scale": rows[0].attrs["scale"], "scale_label": rows[0].attrs["scale_label"], "level": level})
    return out


def predict_tau2(fit: LocationScaleResults, newdata: Newdata, *, level: float) -> pd.DataFrame:
    """Return tau2 and tau of each row with their intervals."""
    Z, labels = _scale_rows(fit, newdata)
    centre = Z @ fit.alpha
    lost = (Z[:, fit.fitted.infinite] != 0).any(axis=1)
    va = np.where(np.isfinite(fit.va), fit.va, 0.0)
    se = np.where(lost, np.nan, np.sqrt(np.einsum("mq,qr,mr->m", Z, va, Z)))
    half = critical_value(level, fit.scale.df) * se
    estimate = _tau2(fit, Z)
    if fit.link == "log":
        lb, ub = np.exp(centre - half), np.exp(centre + half)
    else:
        lb, ub = np.maximum(centre - half, 0.0), np.maximum(centre + half, 0.0)
    columns = {"tau2": estimate, "tau2_lb": lb, "tau2_ub": ub}
    columns |= {"tau" + name[4:]: np.sqrt(values) for name, values in columns.items()}
    out = pd.DataFrame(columns, index=pd.Index(labels))
    out.attrs.update(scale=fit.effects.scale_label, level=level)
    if lost.any():
        out.attrs["note"] = INFINITE
    return out


def to_dict(fit: LocationScaleResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    coefficients = tidy(fit).reset_index()
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "scale_formula": fit.scale_design.formula,
                "link": fit.link,
                "measure": effects.measure,
                "vtype": effects.vtype,
                "scale": effects.scale_label,
                "direction": effects.direction,
            },
            "statistics": statistics(fit),
            "coefficients": columns_of(coefficients),
            "vb": fit.vb,
            "va": NotApplicable(INFINITE) if fit.fitted.infinite.any() else fit.va,
            "studies": {"slab": list(effects.slab), **columns_of(augment(fit))},
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )


def _tau2(fit: LocationScaleResults, Z: Array) -> Array:
    linear = Z @ fit.alpha
    if fit.link == "log":
        return np.exp(linear)
    return np.where(linear < VANISHED * fit.heterogeneity.vt, 0.0, linear)


def _rows(fit: LocationScaleResults, newdata: Newdata) -> tuple[Array, Array, list[str]]:
    location, scale = fit.design, fit.scale_design
    if newdata is None:
        if location.formula == scale.formula == "1":
            return np.ones((1, 1)), np.ones((1, 1)), ["mean effect"]
        return location.X, scale.X, list(fit.effects.slab)
    X, first = _part(location, newdata)
    Z, second = _part(scale, newdata)
    labels = [", ".join(dict.fromkeys([*a.split(", "), *b.split(", ")])) for a, b in zip(first, second, strict=True)]
    return X, Z, labels


def _scale_rows(fit: LocationScaleResults, newdata: Newdata) -> tuple[Array, list[str]]:
    if newdata is not None:
        return fit.scale_design.new_rows(newdata)
    if fit.scale_design.formula == "1":
        return np.ones((1, 1)), ["every study"]
    return fit.scale_design.X, list(fit.effects.slab)


def _part(design: Design, newdata: Any) -> tuple[Array, list[str]]:
    rows, labels = design.new_rows(newdata)
    return rows, ([""] * len(rows) if design.formula == "1" else labels)
