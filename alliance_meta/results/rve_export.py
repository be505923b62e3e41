"""Robust variance estimation as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.robust.rve import fit_rve
from alliance_meta.core.robust.satterthwaite import t_quantile
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.predictions import rows_to_predict, to_scale

if TYPE_CHECKING:
    from alliance_meta.results.rve import RVEResults

Newdata = pd.DataFrame | Mapping[str, Any] | None
NO_VARIANCE = "rests on one cluster alone: no other cluster tells how far it varies"


def tidy(fit: RVEResults) -> pd.DataFrame:
    """Return one row per coefficient."""
    columns = {
        "estimate": fit.beta,
        "se": _named(fit.se),
        "stat": _named(fit.stat),
        "ddf": _named(fit.ddf),
        "pval": _named(fit.pval),
        "ci_lb": _named(fit.ci_lb),
        "ci_ub": _named(fit.ci_ub),
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.names, name="term"))
    out.attrs.update(scale=fit.effects.scale_label, level=fit.level)
    return out


def _named(values: Array) -> Any:
    """Return the values, each NaN with its reason."""
    if not np.isnan(values).any():
        return values
    return np.array([NotApplicable(NO_VARIANCE) if value != value else float(value) for value in values], dtype=object)


def statistics(fit: RVEResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    m, ddf = fit.QMdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "n_clusters": fit.n_clusters,
        "working": fit.working_model,
        "small": fit.small,
        "level": fit.level,
        "rho": fit.rho,
        "tau2": fit.tau2,
        "omega2": fit.omega2,
        "I2": fit.I2,
        "QE": fit.QE,
        "QE_mean": fit.QE_mean,
        "QM": fit.QM,
        "QMdf": m,
        "QMddf": ddf,
        "QMp": fit.QMp,
    }


def augment(fit: RVEResults) -> pd.DataFrame:
    """Return one row per effect."""
    fitted = fit.design.X @ fit.beta
    columns = {
        "cluster": [fit.clusters.labels[i] for i in fit.clusters.codes],
        "yi": fit.effects.yi,
        "vi": fit.effects.vi,
        "fitted": fitted,
        "resid": fit.effects.yi - fitted,
        "weight": fit.weights,
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.effects.slab, name="slab"))
    out.attrs.update(scale=fit.effects.scale_label)
    return out


def by_cluster(fit: RVEResults) -> pd.DataFrame:
    """Return one row per cluster."""
    clusters = fit.clusters
    columns = {
        "effects": clusters.sizes,
        "mean_vi": clusters.mean(fit.effects.vi),
        "weight": np.bincount(clusters.codes, fit.weights),
    }
    return pd.DataFrame(columns, index=pd.Index(clusters.labels, name=clusters.name))


def predict(fit: RVEResults, newdata: Newdata, *, scale: Scale | None, level: float) -> pd.DataFrame:
    """Return predictions, each with its own degrees of freedom."""
    X, labels = rows_to_predict(fit, newdata)
    pred, df = X @ fit.beta, fit.fitted.df(X)
    se = np.where(np.isnan(df), np.nan, np.sqrt(np.einsum("mp,pq,mq->m", X, fit.vb, X)))
    half = t_quantile(level, df)
    between = float(fit.tau2) + float(np.nan_to_num(fit.omega2))
    spread = half * np.sqrt(se**2 + between)
    columns = {
        "pred": pred,
        "se": se,
        "ci_lb": pred - half * se,
        "ci_ub": pred + half * se,
        "pi_lb": pred - spread,
        "pi_ub": pred + spread,
    }
    frame = pd.DataFrame(columns)
    if scale == "r_mean" and between != between:
        raise InputError("scale='r_mean' averages over the distribution of effects, which given weights leave unknown")
    out = to_scale(frame, measure=fit.effects.measure, scale=scale, tau2=between)
    out["ddf"] = df
    out.index = pd.Index(labels)
    out.attrs["level"] = level
    if between != between:
        out.attrs["pi_note"] = "weights were given, and tau2 not estimated: there is no prediction interval"
    return out


def sensitivity(fit: RVEResults, rho: Sequence[float]) -> pd.DataFrame:
    """Return tau2 and the coefficients under other correlations."""
    if fit.working_model != "CORR":
        why = "hierarchical effects have no rho" if fit.working_model == "HIER" else "given weights do not use rho"
        raise InputError(f"sensitivity() varies rho: {why}")
    wrong = [value for value in rho if not 0 <= value <= 1]
    if wrong:
        raise InputError(f"rho={wrong[0]!r} is a correlation of sampling errors and must lie between 0 and 1")
    effects, own = fit.effects, fit.settings
    rows = []
    for value in rho:
        again = fit_rve(
            effects.yi,
            effects.vi,
            fit.design.X,
            fit.clusters.codes,
            working="CORR",
            rho=value,
            weights=None,
            small=own.small,
            level=own.level,
        )
        found = again.tests
        for i, name in enumerate(fit.names):
            values = (found.beta[i], found.se[i], found.df[i], found.pval[i], found.ci_lb[i], found.ci_ub[i])
            rows.append((float(value), name, again.working.tau2, *map(float, values)))
    columns = ["rho", "term", "tau2", "estimate", "se", "ddf", "pval", "ci_lb", "ci_ub"]
    out = pd.DataFrame(rows, columns=columns).set_index(["rho", "term"])
    out.attrs.update(scale=effects.scale_label, level=own.level)
    return out


def to_dict(fit: RVEResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "cluster": fit.clusters.name,
                "working": fit.working_model,
                "small": fit.small,
                "measure": effects.measure,
                "vtype": effects.vtype,
                "scale": effects.scale_label,
                "direction": effects.direction,
            },
            "statistics": statistics(fit),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "clusters": {"label": list(fit.clusters.labels), **columns_of(by_cluster(fit))},
            "studies": {"slab": list(effects.slab), **columns_of(augment(fit))},
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )
