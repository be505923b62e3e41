"""Routes that keep several effects per study: three-level models and robust variance estimation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.errors import AllianceMetaError, AllianceMetaWarning
from alliance_meta.evidence.route_engine import Followed, join
from alliance_meta.evidence.route_fit import clusters_of, mean_values, new_study
from alliance_meta.evidence.route_samples import Sample
from alliance_meta.evidence.routes import Route
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.models.rve import RVEModel

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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AllianceMetaWarning)
                try:
                    fit = _fit(sample, route, level)
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
        yield (
            replace(sample.stem, model="rve", random=group, rho=rho, method=method, test="t", small=False),
            [{}],
        )


def _fit(sample: Sample, route: Route, level: float) -> Any:
    if route.model == "rve":
        options: dict[str, Any] = {"working": route.method, "rho": 0.8 if route.rho is None else route.rho}
        return RVEModel(sample.effects, cluster=route.random, small=route.small, level=level, **options).fit()
    V = None if route.rho is None else impute_V(sample.effects, cluster=route.random[0], rho=route.rho)
    how: dict[str, Any] = {"method": route.method, "test": "z"}
    return MultilevelModel(sample.effects, V=V, random=route.random, level=level, **how).fit()


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
    back = scale == "r" and route.measure == "ZCOR"
    found = []
    for choice in tries:
        own = fit
        if "robust" in choice:
            own = fit.robust(cluster=choice["robust"])
        elif "dfs" in choice:
            own = replace(fit, settings=replace(fit.settings, test=choice["test"]), degrees=choice["dfs"])
        mean, se, df = (float(np.asarray(value).ravel()[0]) for value in (own.beta, own.se, own.ddf))
        known = df if np.isfinite(df) else None
        values = shared | mean_values(mean, se, known, level=level, back=back)
        if route.model == "multilevel":
            values |= new_study(mean, float(np.hypot(se, shared["tau"])), known, level=level, back=back)
        columns = {name: np.array([value]) for name, value in values.items()}
        found.append(Followed((replace(route, **choice),), columns))
    yield join(found)
