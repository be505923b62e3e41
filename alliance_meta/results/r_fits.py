"""Fits of classical models as R code that runs by itself and gives the same numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta.core.univariate.fit import GENERALISED_Q
from alliance_meta.effects.dependent.groups import ROWS, sides
from alliance_meta.results.r_code import MOST_ROWS, call, comment, data, formula, name, quoted, value, vector

if TYPE_CHECKING:
    from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
    from alliance_meta.results.components import RandomTerm
    from alliance_meta.results.location_scale import LocationScaleResults
    from alliance_meta.results.multilevel import MultilevelResults
    from alliance_meta.results.random_effects import RandomEffectsResults
    from alliance_meta.results.robust import RobustResults
    from alliance_meta.results.rve import RVEResults

GIVEN = "given cluster"


def random_effects(fit: RandomEffectsResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma`` of a random-effects model."""
    settings, lines = fit.settings, ["library(metafor)", *data(fit, uses=uses)]
    if fit.method in ("DL2", "HE2"):
        text = f'metafor has no two-step estimator ({fit.method}); its one-step form is method="{fit.method[:2]}"'
        lines.append(comment(text))
    if settings.weights is not None:
        lines.append(f"w <- {vector(settings.weights)}")
    weights = "w" if settings.weights is not None else "1/vi" if settings.method in GENERALISED_Q else None
    arguments = {
        "mods": _mods(fit),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if settings.test == "z" else quoted(str(settings.test)),
        "level": _level(fit.level),
        "tau2": None if settings.tau2 is None else value(settings.tau2),
        "weights": weights,
        "control": None if settings.tau2_min == 0 else f"list(tau2.min={value(settings.tau2_min)})",
    }
    return "\n".join([*lines, f"fit <- {call('rma', 'yi', 'vi', **arguments)}", *_on_r(fit)])


def location_scale(fit: LocationScaleResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma`` of a location-scale model."""
    arguments = {
        "mods": _mods(fit),
        "scale": f"~ {formula(fit.scale_design.formula)}",
        "link": None if fit.link == "log" else quoted("identity"),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if fit.inference == "z" else quoted(fit.inference),
        "level": _level(fit.level),
    }
    return "\n".join(["library(metafor)", *data(fit, uses=uses), f"fit <- {call('rma', 'yi', 'vi', **arguments)}"])


def multilevel(fit: MultilevelResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma.mv`` of a multilevel model."""
    used = [part.strip() for term in fit.random for side in (term.within, term.outer) for part in side.split("/")]
    slopes = {v for term in fit.random if term.slopes is not None for v in term.slopes.variables}
    obs = () if fit.V is None else (fit.V.cluster or "", str(fit.V.settings.get("subgroup", "")), ROWS)
    wanted = [u for u in (*used, *slopes, *obs, *uses) if u]
    lines = ["library(metafor)", *data(fit, uses=wanted)]
    if fit.V is not None:
        lines.append(f"V <- {covariance(fit.V)}  {comment(fit.V.assumption)}")
    # metafor reads a/b as a and b within a: the deepest path says it all.
    paths = [term.name for term in fit.random if not term.within]
    shown = [term for term in fit.random if not any(path.startswith(f"{term.name}/") for path in paths)]
    structs = [quoted(str(term.struct)) for term in fit.random if term.within]
    arguments = {
        "mods": _mods(fit),
        "random": f"list({', '.join(map(_term, shown))})",
        "struct": f"c({', '.join(structs)})" if structs else None,
        **_fixed(fit),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if fit.inference == "z" else quoted("t"),
        "dfs": None if fit.inference == "z" else quoted(fit.degrees),
        "level": _level(fit.level),
        "sparse": "TRUE",
    }
    return "\n".join([*lines, f"fit <- {call('rma.mv', 'yi', 'vi' if fit.V is None else 'V', **arguments)}"])


def robust(fit: RobustResults) -> str:
    """Return the model with clubSandwich's tests of its coefficients."""
    model: Any = fit.fit
    writers: dict[str, Any] = {
        "RandomEffectsResults": random_effects, "LocationScaleResults": location_scale,
        "MultilevelResults": multilevel, "RVEResults": rve,
    }  # fmt: skip
    columns = [] if fit.cluster == GIVEN else fit.cluster.split(" + ")
    lines = [writers[type(model).__name__](model, tuple(columns))]
    joined = [f"dat${name(column)}" for column in columns]
    cluster = joined[0] if len(joined) == 1 else f"interaction({', '.join(joined)}, drop=TRUE)"
    if fit.cluster == GIVEN:
        lines.append(f"cluster <- {vector(fit._clusters.labels[code] for code in fit._clusters.cluster)}")
        cluster = "cluster"
    arguments = f"vcov={quoted(fit.type)}, cluster={cluster}"
    return "\n".join([*lines, "library(clubSandwich)", f"coef_test(fit, {arguments})", *_joint(fit, arguments)])


def rve(fit: RVEResults, uses: tuple[str, ...] = ()) -> str:
    """Return robumeta's ``robu``."""
    columns = [] if fit.clusters.name == GIVEN else fit.clusters.name.split(" + ")
    lines = ["library(robumeta)", "library(clubSandwich)", *data(fit, uses=[*columns, *uses], escalc="metafor::escalc")]
    named = ", ".join(map(name, columns))
    study = f"interaction({named}, drop=TRUE)" if len(columns) > 1 else f"factor({named or 'cluster'})"
    if not columns:
        lines.append(f"dat$cluster <- {vector(fit.clusters.labels[code] for code in fit.clusters.codes)}")
    if fit.working_model == "given":
        lines.append(f"dat$w <- {vector(np.asarray(fit.settings.weights))}")
    rho = value(fit.settings.rho) if fit.working_model == "CORR" else None
    arguments = {
        "data": "dat",
        "studynum": study,
        "var.eff.size": "vi",
        "modelweights": None if fit.working_model == "given" else quoted(fit.working_model),
        "userweights": "w" if fit.working_model == "given" else None,
        "rho": rho,
        "small": value(bool(fit.small)),
    }
    lines.append(f"fit <- {call('robu', f'yi ~ {formula(fit.design.formula)}', **arguments)}")
    return "\n".join([*lines, *(_joint(fit, 'vcov="CR2"') if fit.small else [])])


def _mods(fit: Any) -> str | None:
    return None if fit.design.formula == "1" else f"~ {formula(fit.design.formula)}"


def _level(level: float) -> str | None:
    return None if level == 0.95 else value(100 * level)


def _on_r(fit: Any) -> list[str]:
    return ["predict(fit, transf=transf.ztor)"] if fit.effects.measure == "ZCOR" else []


def _joint(fit: Any, arguments: str) -> list[str]:
    """Return the call that tests all moderators together, where there are several coefficients of them."""
    slots = [i + 1 for i in fit.design.tested]
    if len(slots) < 2:
        return []
    whole = slots[-1] - slots[0] + 1 == len(slots)
    chosen = f"{slots[0]}:{slots[-1]}" if whole else f"c({', '.join(map(str, slots))})"
    return [f'Wald_test(fit, constraints=constrain_zero({chosen}), {arguments}, test="HTZ")']


def _term(term: RandomTerm) -> str:
    inner, outer = sides(term.name)
    return f"~ {formula(inner)} | {path(outer)}"


def path(term: str) -> str:
    """Return a factor, or factors within one another, as R names them."""
    return "/".join(name(part.strip()) for part in term.split("/"))


def _fixed(fit: MultilevelResults) -> dict[str, str]:
    """Return the arguments that hold parameters at given values, NA for those that are searched for."""
    if not fit.fitted.fixed.any():
        return {}
    rows = fit.components
    held = {key: vector(rows["estimate"].where(rows["fixed"].astype(bool), None)[rows.index.str.startswith(f"{key}[")])
            for key in ("sigma2", "tau2", "rho")}  # fmt: skip
    return {key: code for key, code in held.items() if re.search(r"[0-9]", code)}


def covariance(V: SamplingCovariance) -> str:
    """Return the call that makes V of one assumed correlation; any other is written out."""
    if V.rho is not None:
        named = {
            "cluster": name(V.cluster or "cluster"),
            "subgroup": name(str(V.settings["subgroup"])) if "subgroup" in V.settings else None,
            "obs": ROWS,
            "data": "dat",
            "rho": value(V.rho),
        }
        return call("vcalc", "vi", **named)
    k = len(V.vi)
    if k > MOST_ROWS // 4:
        return f"as.matrix(read.csv({quoted('V.csv')}, header=FALSE))  {comment('numpy.savetxt of fit.V.to_dense()')}"
    return call("matrix", vector(V.to_dense().ravel()), str(k))
