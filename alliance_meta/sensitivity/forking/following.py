"""Follow specifications: those that share their effects together, and only the rest one model at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.bias.given import given
from alliance_meta.bias.panels import answer_of, means, no_mean
from alliance_meta.conditions import select_rows
from alliance_meta.core.distributions import critical_value, statistic, two_sided_p
from alliance_meta.core.resampling import random_signs, stream
from alliance_meta.effects.dependent.aggregate import averages, collapse
from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.dependent.hierarchy import select_effects
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaError, InputError, quiet
from alliance_meta.evidence.route_engine import Sample, by_inference, fit_effects, one_level
from alliance_meta.evidence.routes import Route
from alliance_meta.sensitivity.forking.choices import CHOICES, UNUSED, WAYS, Options, Source, Spec, route_of, settle
from alliance_meta.tables.format import thousands

# A grid of more combinations is no longer looked at, but searched.
MOST = 200_000
NUMBERS = ("estimate", "se", "ci_lb", "ci_ub", "pval", "tau2")
NONE_LEFT = "no effect is left"
NOT_SETTLED = "the search for tau2 had not settled"
AT = {name: place for place, name in enumerate(CHOICES)}
# The choices that decide which effects are pooled, before any outlier is left out.
MADE_BY = ("effects", "measure", "dependence", "rho")

Row = dict[str, Any]


def specifications(choices: Options) -> tuple[list[Spec], dict[str, int]]:
    """Return every specification once, and how many combinations do not exist, by the reason.

    Raises `InputError`: too many combinations; a headline that does not exist.
    """
    many = math.prod(len(options) for options in choices.values())
    if many > MOST:
        sizes = " x ".join(str(len(options)) for options in choices.values() if len(options) > 1)
        raise InputError(
            f"the choices have {sizes} = {thousands(many)} combinations, more than the {thousands(MOST)} followed "
            "here; leave out options that no reader would ask for"
        )
    found: dict[Spec, None] = {}
    gone: dict[str, int] = {}
    for spec in product(*(range(len(options)) for options in choices.values())):
        settled, why = settle(spec, choices)
        if why:
            gone[why] = gone.get(why, 0) + 1
        else:
            found[settled] = None
    head_of(choices)
    return list(found), gone


def head_of(choices: Options) -> Spec:
    """Return the headline: the specification of the options that are graded so."""
    spec = tuple(next(i for i, one in enumerate(options) if one.grade == "headline") for options in choices.values())
    settled, why = settle(spec, choices)
    if why:
        raise InputError(f"the headline options do not go together: {why}; grade others 'headline'")
    return settled


@dataclass(frozen=True)
class Setting:
    """What all specifications share."""

    source: Source
    choices: Options
    level: float

    def value(self, spec: Spec, name: str) -> Any:
        """Return the value of a specification's option."""
        return self.choices[name][max(spec[AT[name]], 0)].value

    def flipped(self, seed: int, draw: int) -> Setting:
        """Return the setting with the signs of whole studies flipped at random, as if no study knew a direction."""
        codes = {name: read_clusters(effects, self.source.cluster) for name, effects in self.source.effects.items()}
        labels = sorted({label for clusters in codes.values() for label in clusters.labels})
        signs = dict(zip(labels, random_signs(stream(seed, draw), 1, len(labels))[0].tolist(), strict=True))
        turned = {}
        for name, effects in self.source.effects.items():
            own = np.array([signs[label] for label in codes[name].labels])
            turned[name] = replace(effects, yi=effects.yi * own[codes[name].codes])
        return replace(self, source=replace(self.source, effects=turned))


def follow_specs(setting: Setting, specs: Sequence[Spec]) -> list[Row]:
    """Return what each specification gives: `NUMBERS`, ``k``, ``studies``, and ``why`` where it gives none."""
    with quiet():
        work = _Work(setting)
        together = [spec for spec in specs if _is_plain(setting, spec)]
        found = dict(_together(work, together))
        return [found[spec] if spec in found else _alone(work, spec) for spec in specs]


@dataclass
class _Work:
    """What the specifications of one call share: effects and fits, each made once."""

    setting: Setting
    made: dict[tuple[int, ...], EffectSizes | str] = field(default_factory=dict)
    selected: dict[tuple[int, ...], EffectSizes | str] = field(default_factory=dict)
    collapsed: dict[int, EffectSizes] = field(default_factory=dict)
    fits: dict[Any, Any] = field(default_factory=dict)
    # With the effects themselves, so that no others take their place in memory.
    groups: dict[int, tuple[EffectSizes, AnyArray]] = field(default_factory=dict)

    def effects(self, spec: Spec) -> EffectSizes | str:
        """Return the effects that a specification pools, outliers among them; the reason if there are none."""
        key = tuple(spec[AT[name]] for name in MADE_BY)
        if key not in self.made:
            try:
                self.made[key] = self._averaged(spec)
            except AllianceMetaError as error:
                self.made[key] = str(error)
        return self.made[key]

    def _averaged(self, spec: Spec) -> EffectSizes | str:
        """Return the effects selected, or one for each study, whose other columns are the same however it is made."""
        effects = self._selected(spec)
        way = WAYS[self.setting.value(spec, "dependence")]
        if isinstance(effects, str) or spec[AT["dependence"]] == UNUSED or "per" not in way.route:
            return effects
        clusters = read_clusters(effects, self.setting.source.cluster)
        if id(effects) not in self.collapsed:
            self.collapsed[id(effects)] = collapse(effects, clusters)[0]
        how = way.route["how"]
        yi, vi, *_ = averages(effects, clusters, self.setting.value(spec, "rho"), how, equal=how == "mean")
        return replace(self.collapsed[id(effects)], yi=yi, vi=vi)

    def _selected(self, spec: Spec) -> EffectSizes | str:
        key = spec[AT["effects"]], spec[AT["measure"]]
        if key not in self.selected:
            self.selected[key] = _selected(self.setting, spec)
        return self.selected[key]

    def studies(self, effects: EffectSizes) -> AnyArray:
        """Return the study of each effect."""
        if id(effects) not in self.groups:
            self.groups[id(effects)] = effects, read_clusters(effects, self.setting.source.cluster).codes
        return self.groups[id(effects)][1]


def _selected(setting: Setting, spec: Spec) -> EffectSizes | str:
    effects, rule = setting.source.effects[setting.value(spec, "measure")], setting.value(spec, "effects")
    cluster = setting.source.cluster
    if isinstance(rule, str):
        rows = select_rows(rule, effects.frame)
        return effects.take(rows) if rows.any() else NONE_LEFT
    if rule is None:
        return effects
    if "pick" in rule:
        return effects.take(extreme(effects, cluster, rule["pick"]))
    return select_effects(effects, cluster=cluster, **rule)


def extreme(effects: EffectSizes, cluster: str, which: str) -> AnyArray:
    """Return the row of the lowest or highest effect of each study, in the order of the studies; of ties the first."""
    clusters = read_clusters(effects, cluster)
    order = np.lexsort((effects.yi if which == "lowest" else -effects.yi, clusters.codes))
    return order[np.unique(clusters.codes[order], return_index=True)[1]]


def _is_plain(setting: Setting, spec: Spec) -> bool:
    """Tell whether one batch fits it with others: independent effects without moderators, correction or clusters."""
    route = route_of(spec, setting.choices, setting.source.cluster)
    return (
        route.model == "random" and route.robust is None and route.mods == "1" and setting.value(spec, "bias") is None
    )


def _together(work: _Work, specs: Sequence[Spec]) -> Iterator[tuple[Spec, Row]]:
    """Yield the rows of specifications without anything that needs a model of its own."""
    setting, wanted = work.setting, list[tuple[Spec, Route, EffectSizes]]()
    for spec in specs:
        effects = work.effects(spec)
        if isinstance(effects, str):
            yield spec, nothing(effects)
        else:
            wanted.append((spec, route_of(spec, setting.choices, setting.source.cluster), effects))
    first = _batch([(effects, route, None) for _, route, effects in wanted], setting.level)
    kept = [
        _inside(effects, row)
        if setting.value(spec, "outliers") is not None and not math.isnan(row["estimate"])
        else None
        for (spec, _, effects), row in zip(wanted, first, strict=True)
    ]
    again = iter(
        _batch(
            [
                (effects, route, rows)
                for (_, route, effects), rows in zip(wanted, kept, strict=True)
                if rows is not None
            ],
            setting.level,
        )
    )
    for (spec, _, effects), row, rows in zip(wanted, first, kept, strict=True):
        values = row if rows is None else next(again)
        studies = work.studies(effects) if rows is None else work.studies(effects)[rows]
        if math.isnan(values["estimate"]):
            yield spec, nothing(NOT_SETTLED if studies.size else NONE_LEFT, studies)
        else:
            yield spec, values | {"k": studies.size, "studies": len(set(studies.tolist())), "why": ""}


def _batch(wanted: Sequence[tuple[EffectSizes, Route, Mask | None]], level: float) -> list[Row]:
    """Fit effects by routes, of all or of the rows kept; each estimator sees those that ask for it at once."""
    ids: dict[tuple[int, bytes], str] = {}
    samples: dict[str, dict[str, Sample]] = {}
    asked = []
    for effects, route, rows in wanted:
        key = id(effects), b"" if rows is None else rows.tobytes()
        name = ids.setdefault(key, str(len(ids)))
        asked.append((name, route.method, route.test))
        own = samples.setdefault(route.method, {})
        if name not in own:
            y, v = (effects.yi, effects.vi) if rows is None else (effects.yi[rows], effects.vi[rows])
            if y.size:
                own[name] = Sample(y, v, None, Route(name, ""), effects)
    tests = list(dict.fromkeys(test for _, _, test in asked))
    values: dict[tuple[str, str, str], Row] = {}
    for method, group in samples.items():
        for part in one_level(list(group.values()), tests, scale="z", level=level, methods=(method,)):
            columns = [part.values.get(name, np.full(len(part.routes), np.nan)).tolist() for name in NUMBERS]
            for route, *numbers in zip(part.routes, *columns, strict=True):
                values[route.ri, method, route.test] = dict(zip(NUMBERS, numbers, strict=True))
    none = dict.fromkeys(NUMBERS, math.nan)
    # One effect alone is its own mean, by whatever estimator and with the normal distribution.
    return [values.get(one) or values.get((*one[:2], "z")) or none for one in asked]


def _inside(effects: EffectSizes, row: Mapping[str, Any]) -> Mask:
    """Return which effects have a 95% interval that meets the interval of the mean."""
    half = critical_value(0.95, None) * np.sqrt(effects.vi)
    meets: Mask = (effects.yi - half <= row["ci_ub"]) & (effects.yi + half >= row["ci_lb"])
    return meets


def _alone(work: _Work, spec: Spec) -> Row:
    """Fit one specification by the models of the package."""
    setting = work.setting
    effects = work.effects(spec)
    if isinstance(effects, str):
        return nothing(effects)
    try:
        fit = _fit(work, spec, effects, None)
        if setting.value(spec, "outliers") is not None:
            rows = _inside(effects, _mean(fit, setting.level))
            if not rows.any():
                return nothing(NONE_LEFT)
            fit = fit if rows.all() else _fit(work, spec, effects, rows)
        key = setting.value(spec, "bias")
        row = _mean(fit, setting.level) if key is None else _corrected(fit, key)
    except AllianceMetaError as error:
        return nothing(str(error), work.studies(effects))
    return row | {"studies": len(set(work.studies(fit.effects).tolist())), "k": fit.effects.k} | row


def _fit(work: _Work, spec: Spec, effects: EffectSizes, rows: Mask | None) -> Any:
    """Fit the model of a specification; those that differ in inference or correction share the search."""
    setting, cluster = work.setting, work.setting.source.cluster
    route = route_of(spec, setting.choices, cluster)
    choice: dict[str, Any] = {} if route.robust is None else {"robust": route.robust}
    if route.model == "multilevel" and not choice:
        choice = {"test": route.test, "dfs": "contain"}
    plain = replace(route, robust=None, test="z" if route.model == "multilevel" else route.test)
    key = id(effects), None if rows is None else rows.tobytes(), plain
    if key not in work.fits:
        some = effects if rows is None else effects.take(rows)
        V = None
        if route.model == "multilevel" and route.rho is not None:
            V = impute_V(some, cluster=cluster, rho=route.rho)
        try:
            work.fits[key] = fit_effects(plain, some, level=setting.level, V=V)
        except AllianceMetaError as error:
            work.fits[key] = error
    fit = work.fits[key]
    if isinstance(fit, AllianceMetaError):
        raise fit
    unsettled = next((note.message for note in fit.notes if note.code == "not-converged"), None)
    if unsettled:
        raise InputError(unsettled)
    return by_inference(fit, choice)


def _mean(fit: Any, level: float) -> Row:
    """Return the mean effect of a fit: with moderators that at their averages over the effects."""
    X = np.ones((1, 1)) if fit.p == 1 else fit.design.X.mean(axis=0)[None]
    at = fit.predicted(X, scale=None, level=level).iloc[0]
    df: Array = np.asarray(fit.row_ddf(X), dtype=float)
    mean, se = np.array([at["pred"]]), np.array([at["se"]])
    if math.isnan(se[0]):
        raise InputError("the clusters give the mean no degrees of freedom")
    pval = two_sided_p(statistic(mean, se), df if np.isfinite(df[0]) else None)
    values = (at["pred"], at["se"], at["ci_lb"], at["ci_ub"], pval[0], fit.tau2)
    return {**dict(zip(NUMBERS, map(float, values), strict=True)), "why": ""}


def _corrected(fit: Any, key: str) -> Row:
    source = given(fit, "multiverse")
    found = answer_of(means(source)[key], fit, source)
    why = no_mean(found)
    if why:
        raise InputError(why)
    row: Row = {name: float(getattr(found, name)) for name in ("estimate", "se", "ci_lb", "ci_ub", "pval")}
    return row | {"tau2": math.nan, "k": found.k, "studies": found.studies, "why": ""}


def nothing(why: str, studies: AnyArray | None = None) -> Row:
    """Return the row of a specification that gives no number."""
    counts = (0, 0) if studies is None else (studies.size, len(set(studies.tolist())))
    return {**dict.fromkeys(NUMBERS, math.nan), "k": counts[0], "studies": counts[1], "why": why}
