"""Follow routes to a printed number: one with the package's models, hundreds at once.

Samples of one size are one batch, and routes that only differ in inference share their fit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import r_to_z, var_r, var_z
from alliance_meta.core.dependent import codes as codes_of
from alliance_meta.core.dependent import gls_of, mean_of, nested
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.univariate.fit import estimate_tau2
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.dependent.rcalc import rcalc
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sizes import VTYPES, escalc, finished_columns
from alliance_meta.effects.studies import plain_text
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaError, CodingError, InputError, quiet
from alliance_meta.evidence.routes import DEFAULT_RHO, METHODS, SCALE_WORDS, Route
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
    mean, se, tau2 = means_of(effects.yi[None], n)
    back = np.array([scale == "r" and effects.measure == "ZCOR"])
    found = mean_values(mean, se, effects.k - 1.0 if route.test == "t" else None, level=level, back=back)
    values = {name: float(column[0]) for name, column in found.items()}
    values |= {"k": effects.k, "n_effects": effects.k, "p": 1}
    if effects.ni is not None:
        values["N"] = float(effects.ni.sum())
        if effects.measure == "COR" and tau2 is not None:
            values["tau2"] = float(tau2[0])
    return values


def means_of(y: Array, n: Array | None) -> tuple[Array, Array, Array | None]:
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


SAMPLES = ("sample_id", "sampleid")
# Ways to make the effects of a group one: (how, assumed correlation).
AVERAGES: tuple[tuple[str, float | None], ...] = (("mean", 0.5), ("mean r", None), ("mean", 1.0), ("CS", 0.5))


@dataclass(frozen=True, eq=False)
class Sample:
    """Effects that are ready to be pooled, and the choices that led to them."""

    y: Array  # (k,)
    v: Array  # (k,)
    n: Array | None  # (k,) or None
    stem: Route  # the route so far
    effects: EffectSizes  # before averaging

    @property
    def k(self) -> int:
        """Number of effects."""
        return int(self.y.size)


@dataclass(frozen=True, eq=False)
class Samples:
    """Everything that can be pooled, one entry per scale, columns and way to average; and what cannot, and why."""

    found: tuple[Sample, ...]
    groups: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


def make_samples(
    table: CodedTable, *, scale: str, ri: str | None, ni: str | None, cluster: str | None, subset: str | None
) -> Samples:
    """Make the effects of every route.

    Raises `InputError`, `CodingError`: a table without correlations, or of which no effect can be made; an unknown
      column or subset.
    """
    rows = table if subset is None else table.query(subset)
    if cluster is not None and cluster != "study_id":
        rows.column(cluster)
    whole: list[Sample] = []
    skipped: dict[str, CodingError] = {}
    for stem in _stems(rows, scale, ri, ni, subset):
        try:
            whole.append(_sample(rows, stem))
        except CodingError as error:
            skipped.setdefault(SCALE_WORDS[stem.measure], error)
    if not whole:
        raise next(iter(skipped.values()))
    why = {scale: str(error) for scale, error in skipped.items()}
    groups = groupings(whole[0].effects, cluster, why)
    averaged = [one for sample in whole for group in groups for one in _averaged(sample, group)]
    return Samples((*whole, *averaged), groups, why)


def groupings(effects: EffectSizes, cluster: str | None, skipped: dict[str, str]) -> tuple[str, ...]:
    """Return the columns by which several effects belong together, each kind of grouping once."""
    candidates = [cluster] if cluster is not None else ["study_id", *_sample_columns(effects)]
    found: dict[tuple[int, ...], str] = {}
    for name in candidates:
        try:
            clusters = clusters_of(effects, name)
        except InputError as error:
            if cluster is not None:
                raise
            skipped[f"several effects by {name}"] = str(error)
            continue
        if 1 < clusters.n < effects.k:
            found.setdefault(tuple(clusters.codes.tolist()), name)
    if cluster is not None and not found:
        raise InputError(f"cluster={cluster!r} puts no two effects together, or all of them")
    return tuple(found.values())


def _sample_columns(effects: EffectSizes) -> Iterator[str]:
    """Yield the columns that tell samples apart, within studies where their numbers begin anew in each."""
    studies = codes_of(list(effects.study_id))
    for name in SAMPLES:
        if name in effects.moderators.columns:
            codes = codes_of([plain_text(value) for value in effects.moderators[name]])
            yield name if nested(codes, studies) else f"study_id/{name}"


def _stems(table: CodedTable, scale: str, ri: str | None, ni: str | None, subset: str | None) -> Iterator[Route]:
    """Yield the columns and scales that effects can be made of."""
    if ri is None and ni is None and "ri" not in table.defaults and (names := finished_columns(table)):
        yield Route(names[0], names[1], measure="GEN", vtype=None, subset=subset)
        return
    first = ri or table.defaults.get("ri", "r"), ni or table.defaults.get("ni", "n")
    second = f"{first[0]}_recoded", f"{first[1]}_recoded"
    for pair in (first, second) if set(second) <= set(table.columns) else (first,):
        for measure in ("ZCOR", "COR", "UCOR") if scale == "r" else ("ZCOR",):
            for vtype in VTYPES[measure]:
                yield Route(pair[0], pair[1], measure=measure, vtype=vtype, subset=subset)


def _sample(rows: CodedTable, stem: Route) -> Sample:
    with quiet():
        effects = make_effects(rows, stem, measure=stem.measure, vtype=stem.vtype)
    return Sample(effects.yi, effects.vi, effects.ni, stem, effects)


def _averaged(sample: Sample, group: str) -> Iterator[Sample]:
    clusters = clusters_of(sample.effects, group)
    if clusters.n == sample.k or clusters.n < 2:
        return
    n = None if sample.n is None else clusters.mean(sample.n)
    alone, first = clusters.sizes == 1, clusters.first
    for how, rho in AVERAGES:
        if how == "mean r":
            if sample.stem.measure not in ("ZCOR", "COR") or sample.stem.vtype == "H0" or n is None:
                continue
            r = np.tanh(sample.y) if sample.stem.measure == "ZCOR" else sample.y
            y, v = means_as_effects(clusters.mean(r), n, sample.stem.measure, sample.stem.vtype)
        else:
            use = mean_of if how == "mean" else gls_of
            y, v, _ = use(sample.y, sample.v, clusters.codes, np.full(clusters.n, float(rho or 0.0)))
            y, v = np.where(alone, sample.y[first], y), np.where(alone, sample.v[first], v)
        yield Sample(y, v, n, replace(sample.stem, per=group, how=how, rho=rho), sample.effects)


def of_size(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Return samples by their number of effects: those of one size are fitted together."""
    found: dict[int, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.k, []).append(sample)
    return found


Columns = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Followed:
    """Routes and what each gives: by name, one number per route, NaN where a route has none."""

    routes: tuple[Route, ...]
    values: Columns

    def of(self, place: int) -> dict[str, float]:
        """Return what one route gives."""
        return {name: float(column[place]) for name, column in self.values.items() if not np.isnan(column[place])}


def join(parts: Sequence[Followed]) -> Followed:
    """Put routes together."""
    names = list(dict.fromkeys(name for part in parts for name in part.values))
    columns = {
        name: np.concatenate([part.values.get(name, np.full(len(part.routes), np.nan)) for part in parts])
        for name in names
    }
    return Followed(tuple(route for part in parts for route in part.routes), columns)


def one_level(
    samples: Sequence[Sample], tests: Sequence[str], *, scale: str, level: float, methods: Sequence[str] = METHODS
) -> Iterator[Followed]:
    """Fit every sample by every estimator, with every inference; one effect alone, of which it is the mean, by none."""
    for k, group in of_size(samples).items():
        y, v = np.stack([one.y for one in group]), np.stack([one.v for one in group])
        people = _people(group)
        back = np.array([scale == "r" and one.stem.measure == "ZCOR" for one in group])
        if k == 1:
            single = mean_values(y[:, 0], np.sqrt(v[:, 0]), None, level=level, back=back)
            routes = tuple(replace(one.stem, method="EE", test="z") for one in group)
            yield Followed(routes, {"k": np.ones(len(group)), "n_effects": np.ones(len(group)), "N": people, **single})
            continue
        fitted = _Batch(y, v)
        for method in methods:
            shared, beta, variance, s2w = fitted(method)
            for test in tests:
                factor = {"knha": s2w, "adhoc": np.maximum(s2w, 1.0)}.get(test, np.ones_like(s2w))
                df = None if test == "z" else k - 1.0
                values = mean_values(beta, np.sqrt(variance * factor), df, level=level, back=back)
                if method != "EE":
                    values |= new_study(beta, variance * factor + shared["tau2"], df, level=level, back=back)
                counts = {"k": np.full(len(group), float(k)), "n_effects": np.full(len(group), float(k)), "N": people}
                yield Followed(
                    tuple(replace(one.stem, method=method, test=test) for one in group), {**counts, **shared, **values}
                )


def simple_means(samples: Sequence[Sample], tests: Sequence[str], *, scale: str, level: float) -> Iterator[Followed]:
    """Average every sample weighted by its sample sizes and by nothing, with the standard error SD / √k."""
    kinds = {"ni": (("COR", "LS"),), "equal": (("COR", "LS"), ("ZCOR", "LS"), ("GEN", None))}
    plain = [one for one in samples if one.k > 1 and (one.stem.per is None or one.stem.how == "mean r")]
    for k, group in of_size(plain).items():
        for method, measures in kinds.items():
            own = [one for one in group if (one.stem.measure, one.stem.vtype) in measures]
            own = [one for one in own if method == "equal" or one.n is not None]
            if not own:
                continue
            y = np.stack([one.y for one in own])
            n = None if method == "equal" else np.stack([one.n for one in own if one.n is not None])
            yield from _simple(own, y, n, k, [test for test in ("z", "t") if test in tests], scale, level)


def _simple(
    own: Sequence[Sample], y: Array, n: Array | None, k: int, tests: Sequence[str], scale: str, level: float
) -> Iterator[Followed]:
    mean, se, tau2 = means_of(y, n)
    values = {"k": np.full(len(own), float(k)), "n_effects": np.full(len(own), float(k)), "N": _people(own)}
    if tau2 is not None:
        values |= {"tau2": tau2, "tau": np.sqrt(tau2)}
    back = np.array([scale == "r" and one.stem.measure == "ZCOR" for one in own])
    for test in tests:
        found = mean_values(mean, se, None if test == "z" else k - 1.0, level=level, back=back)
        method = "equal" if n is None else "ni"
        yield Followed(tuple(replace(one.stem, model="mean", method=method, test=test) for one in own), values | found)


def _people(group: Sequence[Sample]) -> Array:
    return np.array([np.nan if one.n is None else one.n.sum() for one in group])


class _Batch:
    """Samples of one size, fitted by one estimator after another; what does not depend on it is computed once."""

    def __init__(self, y: Array, v: Array) -> None:
        B, k = y.shape
        self.batch = make_batch(y, v, np.ones((k, 1)))
        self.df = float(k - 1)
        fixed = wls(self.batch, np.zeros(B))
        self.Q, self.vt = fixed.rss, self.df / fixed.traces[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            self.share = np.where(self.Q > 0, 100.0 * np.maximum(0.0, (self.Q - self.df) / self.Q), 0.0)

    def __call__(self, method: str) -> tuple[Columns, Array, Array, Array]:
        """Return heterogeneity, estimates, their variances, and the factor of Knapp and Hartung."""
        found = estimate_tau2(self.batch, method=method)
        tau2 = np.where(found.converged, found.tau2, np.nan)
        fit = wls(self.batch, np.where(found.converged, found.tau2, 0.0))
        lost = np.where(found.converged, 1.0, np.nan)
        equal = method == "EE"
        shared = {
            "tau2": tau2,
            "tau": np.sqrt(tau2),
            "se_tau2": found.se,
            "I2": self.share if equal else 100.0 * tau2 / (tau2 + self.vt),
            "I2_Q": self.share,
            "H2": self.Q / self.df if equal else tau2 / self.vt + 1.0,
            "QE": self.Q,
            "QEdf": np.full_like(tau2, self.df),
            "QEp": special.chdtrc(self.df, self.Q),
        }
        return shared, fit.beta[:, 0] * lost, fit.vb[:, 0, 0] * lost, fit.residual / self.df


# Beyond this many effects only the usual models are tried: each is a fit of its own.
MANY = 3_000
RHOS = (0.5, 0.6, 0.8)
KINDS = (("ZCOR", "LS"), ("COR", "LS"), ("GEN", None))


def several_levels(
    samples: Sequence[Sample], groups: Sequence[str], tests: Sequence[str], *, scale: str, level: float
) -> Iterator[Followed]:
    """Fit every model of dependent effects to the samples that were not averaged."""
    whole = [one for one in samples if one.stem.per is None and (one.stem.measure, one.stem.vtype) in KINDS]
    whole = [one for one in whole if not one.stem.ri.endswith("_recoded")]
    for sample in whole:
        for route, tries in _models(sample, groups, tests):
            with quiet():
                try:
                    fit = fit_effects(route, sample.effects, level=level)
                    yield from _read(fit, sample, route, tries, scale, level)
                except AllianceMetaError:
                    # A model that these effects do not determine is no route.
                    continue


def _models(
    sample: Sample, groups: Sequence[str], tests: Sequence[str]
) -> Iterator[tuple[Route, list[dict[str, Any]]]]:
    """Yield the models, each with the inferences that share its fit."""
    own = [group for group in groups if 1 < clusters_of(sample.effects, group).n < sample.k]
    with_t = "t" in tests
    inference: list[dict[str, Any]] = [{"test": "z"}]
    if with_t:
        inference += [{"test": "t", "dfs": "contain"}, {"test": "t", "dfs": "residual"}]
    for group in own:
        if "/" in group:
            continue
        base = replace(sample.stem, model="multilevel", random=(group, "es_id"))
        robust = [{"test": "t", "robust": group}] if with_t else []
        yield base, inference + robust
        yield replace(base, method="ML"), inference
        if sample.k > MANY:
            continue
        for rho in RHOS:
            yield replace(base, rho=rho), inference + robust
            yield from _rve(sample, group, rho)
        yield from _rve(sample, group, None)
    if len(own) > 1:
        path = "/".join(dict.fromkeys(part for group in own for part in group.split("/")))
        yield replace(sample.stem, model="multilevel", random=(path, "es_id")), inference
        yield replace(sample.stem, model="multilevel", random=(path,)), inference


def _rve(sample: Sample, group: str, rho: float | None) -> Iterator[tuple[Route, list[dict[str, Any]]]]:
    method = "HIER" if rho is None else "CORR"
    yield replace(sample.stem, model="rve", random=group, rho=rho, method=method, test="t"), [{}]
    if rho in (None, 0.8):
        yield (replace(sample.stem, model="rve", random=group, rho=rho, method=method, test="t", small=False), [{}])


def _read(
    fit: Any, sample: Sample, route: Route, tries: Sequence[dict[str, Any]], scale: str, level: float
) -> Iterator[Followed]:
    """Read off one fit what each inference gives, without what only a user of the whole result would need."""
    group = (route.random if isinstance(route.random, str) else route.random[0]).split("/")[0]
    clusters = clusters_of(sample.effects, group)
    people = np.nan if sample.n is None else float(clusters.mean(sample.n).sum())
    shared = {"k": float(clusters.n), "n_effects": float(sample.k), "N": people}
    shared |= {name: float(getattr(fit, name, np.nan)) for name in ("tau2", "I2", "QE", "QEdf", "QEp")}
    shared["tau"] = float(np.sqrt(shared["tau2"]))
    back = np.array([scale == "r" and route.measure == "ZCOR"])
    found = []
    for choice in tries:
        own = by_inference(fit, choice)
        mean, se, df = (np.asarray(value, dtype=float).ravel()[:1] for value in (own.beta, own.se, own.ddf))
        known = float(df[0]) if np.isfinite(df[0]) else None
        values = {name: np.array([value]) for name, value in shared.items()}
        values |= mean_values(mean, se, known, level=level, back=back)
        if route.model == "multilevel":
            values |= new_study(mean, se**2 + shared["tau"] ** 2, known, level=level, back=back)
        found.append(Followed((replace(route, **choice),), values))
    yield join(found)


def by_inference(fit: Any, choice: Mapping[str, Any]) -> Any:
    """Return a fit with another inference, which needs no search of its own."""
    if "robust" in choice:
        return fit.robust(cluster=choice["robust"])
    if "dfs" in choice:
        return replace(fit, settings=replace(fit.settings, test=choice["test"]), degrees=choice["dfs"])
    return fit
