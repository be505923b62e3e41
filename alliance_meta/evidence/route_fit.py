"""Follow one route with the models of the package, and read off what a paper could print of it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import r_to_z, var_r, var_z
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.dependent.rcalc import rcalc
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sizes import escalc
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError, quiet
from alliance_meta.evidence.routes import DEFAULT_RHO, Route
from alliance_meta.expressions import shown
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.rve import RVEModel
from alliance_meta.notes import NotApplicable

NAMES = ("tau2", "se_tau2", "I2", "H2", "R2", "QE", "QEdf", "QEp", "QM", "QMp")
NAN = float("nan")


def follow(
    route: Route, table: CodedTable, *, scale: str, coefficient: str = "intrcpt", level: float = 0.95
) -> dict[str, float]:
    """Follow a route and return what a paper could print, by metafor's names, on the scale it is printed on.

    Our warnings are left to the notes of the fit.
    """
    with quiet():
        if route.model == "mean":
            found = _simple_mean(route, effects_of(route, table), scale, level)
        else:
            fit = fit_route(route, table, level=level)
            found = statistics(fit, scale=scale, coefficient=coefficient)
    return {name: value for name, value in found.items() if value == value or isinstance(value, NotApplicable)}


def fit_route(route: Route, table: CodedTable, *, level: float = 0.95) -> Any:
    """Fit the model of a route."""
    if route.V != "rcalc":
        return fit_effects(route, effects_of(route, table), level=level)
    measure: Any = route.measure
    effects, V = rcalc(_rows(route, table), measure=measure, missing="drop")
    return fit_effects(route, effects, level=level, V=V)


def fit_effects(route: Route, effects: EffectSizes, *, level: float, V: Any = None) -> Any:
    """Fit the model of a route to the effects that it pools."""
    options: dict[str, Any] = {"mods": route.mods, "level": level}
    if route.model == "rve":
        rho = 0.8 if route.rho is None else route.rho
        options |= {"cluster": route.random, "working": route.method, "rho": rho, "small": route.small}
        return RVEModel(effects, **options).fit()
    options |= {"method": route.method, "test": route.test}
    model: Any = RandomEffectsModel
    if route.model == "multilevel":
        if V is None and route.rho is not None:
            V = impute_V(effects, cluster=outermost(route), rho=route.rho)
        options |= {"V": V, "random": route.random, "struct": route.struct, "dfs": route.dfs or "contain"}
        model = MultilevelModel
    fit = model(effects, **options).fit()
    return fit if route.robust is None else fit.robust(cluster=route.robust)


def _rows(route: Route, table: CodedTable) -> CodedTable:
    return table if route.subset is None else table.query(route.subset)


def effects_of(route: Route, table: CodedTable) -> EffectSizes:
    """Return the effects that a route pools, averaged per group where it says so."""
    rows = _rows(route, table)
    if route.how == "mean r":
        return _mean_r(make_effects(rows, route, measure="COR", vtype="LS"), route)
    effects = make_effects(rows, route, measure=route.measure, vtype=route.vtype)
    if route.per is None:
        return effects
    how: Any = route.how or "mean"
    rho = DEFAULT_RHO if route.rho is None else route.rho
    return aggregate(effects, cluster=route.per.split("/"), how=how, rho=rho)


def make_effects(rows: CodedTable, route: Route, *, measure: Any, vtype: Any) -> EffectSizes:
    """Return every effect of a table on one scale; a column study_id says what belongs together."""
    own = "study_id" if "study_id" in rows.columns and "study_id" not in rows.defaults else None
    if measure == "GEN":
        return escalc(rows, study_id=own)
    return escalc(rows, measure=measure, vtype=vtype, ri=route.ri, ni=route.ni, study_id=own)


def _mean_r(effects: EffectSizes, route: Route) -> EffectSizes:
    """Average r and n of each group, and take the result for the one effect of so many people."""
    clusters = clusters_of(effects, route.per or "")
    assert effects.ni is not None
    y, v = means_as_effects(clusters.mean(effects.yi), clusters.mean(effects.ni), route.measure, route.vtype)
    return EffectSizes.from_arrays(y, v, ni=clusters.mean(effects.ni), measure=route.measure, slab=clusters.labels)


def clusters_of(effects: EffectSizes, group: str) -> Clusters:
    """Return the groups of effects by a column, or by several that only together do, as in ``"study_id/sample"``."""
    return read_clusters(effects, group.split("/"))


def means_as_effects(r: Array, n: Array, measure: str, vtype: str | None) -> tuple[Array, Array]:
    """Return effects and variances of mean correlations r of n people, which need not be whole numbers."""
    return (r_to_z(r), var_z(n)) if measure == "ZCOR" else (r, var_r(r, n, vtype=vtype or "LS"))


def outermost(route: Route) -> str:
    """Return the grouping within which sampling errors correlate: the coarsest of the random terms."""
    first = route.random if isinstance(route.random, str) else route.random[0]
    return first.rpartition("|")[2].strip()


def _simple_mean(route: Route, effects: EffectSizes, scale: str, level: float) -> dict[str, float]:
    n = None if route.method == "equal" or effects.ni is None else effects.ni[None]
    mean, se, tau2 = simple_means(effects.yi[None], n)
    back = np.array([scale == "r" and effects.measure == "ZCOR"])
    found = mean_values(mean, se, effects.k - 1.0 if route.test == "t" else None, level=level, back=back)
    values = {name: float(column[0]) for name, column in found.items()}
    values |= {"k": effects.k, "n_effects": effects.k, "p": 1}
    if effects.ni is not None:
        values["N"] = float(effects.ni.sum())
        if effects.measure == "COR" and tau2 is not None:
            values["tau2"] = float(tau2[0])
    return values


def simple_means(y: Array, n: Array | None) -> tuple[Array, Array, Array | None]:
    """Return means (B,) of effects (B, k) weighted by n or by nothing, their standard errors, and tau2 of raw r with n.

    The standard error is SD / √k, tau2 the variance less that of sampling (Schmidt & Hunter 2015, ch. 3).
    """
    k, w = y.shape[1], np.ones_like(y) if n is None else n
    total = w.sum(axis=1)
    mean = (w * y).sum(axis=1) / total
    spread = (w * (y - mean[:, None]) ** 2).sum(axis=1) / total
    if k == 1:
        return mean, np.full_like(mean, NAN), None
    if n is None:
        return mean, np.sqrt(spread / (k - 1.0)), None
    error = (w * ((1.0 - mean[:, None] ** 2) ** 2 / (n - 1.0))).sum(axis=1) / total
    return mean, np.sqrt(spread / k), np.maximum(spread - error, 0.0)


def mean_values(mean: Array, se: Array, df: float | None, *, level: float, back: Array) -> dict[str, Array]:
    """Return estimates, standard errors, intervals and tests of means (B,), on r for those to go `back` there."""
    half = critical_value(level, df) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        stat = np.where(mean == 0, 0.0, mean / se)
    none = np.full_like(mean, NAN)
    return {
        "estimate": _on(mean, back),
        "se": se * np.where(back, 1.0 - np.tanh(mean) ** 2, 1.0),
        "ci_lb": _on(mean - half, back),
        "ci_ub": _on(mean + half, back),
        "stat": stat,
        "pval": two_sided_p(stat, df),
        "ddf": none if df is None else np.full_like(mean, df),
        "z": stat if df is None else none,
        "t": none if df is None else stat,
    }


def new_study(mean: Array, variance: Array, df: float | None, *, level: float, back: Array) -> dict[str, Array]:
    """Return the intervals for the true effect of a new study."""
    half = critical_value(level, df) * np.sqrt(variance)
    return {"pi_lb": _on(mean - half, back), "pi_ub": _on(mean + half, back)}


def _on(values: Array, back: Array) -> Array:
    """Return Fisher's z as r where the result is wanted there."""
    return np.where(back, np.tanh(values), values)


def statistics(fit: Any, *, scale: str, coefficient: str = "intrcpt") -> dict[str, float]:
    """Return what a paper could print of a fit, by metafor's names; what the fit has not is left out."""
    if coefficient not in fit.names:
        raise InputError(f"no coefficient is called {shown(coefficient)}; there are {', '.join(fit.names)}")
    row = fit.names.index(coefficient)
    values: dict[str, float] = {"k": fit.k, "n_effects": fit.k, "p": fit.p, "estimate": float(fit.beta[row])}
    values |= {name: float(getattr(fit, name)[row]) for name in ("se", "ci_lb", "ci_ub", "stat", "pval")}
    df = np.broadcast_to(np.asarray(NAN if fit.ddf is None else fit.ddf, dtype=float), (fit.p,))[row]
    normal = not np.isfinite(df)
    values |= {"ddf": NAN if normal else float(df)}
    values |= {"z": values["stat"] if normal else NAN, "t": NAN if normal else values["stat"]}
    for name in NAMES:
        value: Any = getattr(fit, name, NAN)
        if isinstance(value, int | float):
            values[name] = value
    values |= _components(fit, coefficient)
    if hasattr(fit, "QMdf") and not isinstance(fit.QMdf, float):
        values["QMdf"] = fit.QMdf[0]
    if fit.effects.ni is not None:
        values["N"] = float(fit.effects.ni.sum())
    on_z = fit.effects.measure == "ZCOR"
    if scale == "r" and on_z:
        if coefficient != "intrcpt" or fit.p > 1:
            raise InputError("only the mean effect of a model without moderators can be given as r")
        on_r = fit.predict(scale="r").iloc[0]
        values.update(estimate=on_r["pred"], se=on_r["se"], ci_lb=on_r["ci_lb"], ci_ub=on_r["ci_ub"])
    if fit.p == 1 and getattr(fit, "method", "EE") != "EE":
        prediction = fit.predict(scale="r" if scale == "r" and on_z else None).iloc[0]
        values.update(pi_lb=prediction["pi_lb"], pi_ub=prediction["pi_ub"])
    values["tau"] = math.sqrt(values["tau2"]) if values.get("tau2", -1.0) >= 0 else NAN
    return values


def _components(fit: Any, coefficient: str) -> dict[str, float]:
    """Return tau2 and the correlation of a multilevel model: those of the coefficient's own level where they differ."""
    frame = getattr(fit, "components", None)
    if not isinstance(frame, pd.DataFrame):
        return {}
    found: dict[str, float] = {}
    correlations = [name for name in frame.index if str(name).startswith("rho")]
    if len(correlations) == 1:
        found["rho"] = float(frame.loc[correlations[0], "estimate"])
    level = re.fullmatch(r"[^\[]+\[(?:T\.)?(?P<level>.+)\]", coefficient)
    own = [name for name in frame.index if level and str(name).endswith(f": {level['level']}]")]
    if len(own) == 1 and str(own[0]).startswith("tau2"):
        found["tau2"] = float(frame.loc[own[0], "estimate"])
    return found
