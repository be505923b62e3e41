"""`compare_dependence`: the same dependent effects by every usual method, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from alliance_meta.design import design_of
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.groups import ROWS, Clusters, read_clusters
from alliance_meta.effects.dependent.hierarchy import select_effects
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import DEFAULT_RHO, che
from alliance_meta.models.rve import RVEModel
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import check_level, check_option, did_you_mean
from alliance_meta.sensitivity.dependence_result import METHODS, DependenceComparison, Route
from alliance_meta.sensitivity.refitting import ours

# Notes of the aggregation that say nothing about the result.
PASSING = ("aggregated-mixed", "aggregated-n")
WHAT_IS_NEW = (
    "Prediction intervals hold the true effect of a new study; where a method has a variance within studies, the true "
    "effect of a new row in a new study, and they are wider for that."
)
UNDECLARED = "no rule of choice was declared (select=)"

Fit = Callable[[], Any]
Warned = dict[str, type[AllianceMetaWarning]]


def compare_dependence(
    effects: EffectSizes,
    *,
    cluster: str = "study_id",
    rho: float = DEFAULT_RHO,
    mods: str = "1",
    select: Mapping[str, Any] | None = None,
    methods: Sequence[str] | None = None,
    method: Literal["REML", "ML"] = "REML",
    level: float = 0.95,
) -> DependenceComparison:
    """Analyse the same dependent effects in every usual way, and set the results side by side.

    Meta-analyses of the alliance differ in what they do with studies that report several raters, measures or times:
    one effect per study is chosen, effects are averaged, modelled on three levels, or pooled with standard errors that
    whole studies vouch for. If the pooled result is the same in all of them, the choice does not matter and the report
    can say so; if not, it should say what moves.

    Parameters
    ----------
    effects : EffectSizes
    cluster : str
        Column of the studies.
    rho : float
        Assumed correlation of the sampling errors of two effects of one study, 0 to 1: for averaging, CHE and the
        correlated effects of RVE.
    mods : str
        Right-hand side of a formula over the moderators.
    select : mapping, optional
        How one effect per study is chosen: moderator -> its values, the preferred first, or all arguments of
        `select_effects`, ``{"by": {"rater": ["client", "observer"]}, "ties": "largest-n"}``. Without a declared rule
        this method is left out.
    methods : sequence of str, optional
        Some of ``"one per study"``, ``"mean"``, ``"three-level"``, ``"three-level + CR2"``, ``"CHE + CR2"``,
        ``"RVE CORR"``, ``"RVE HIER"``; all by default.
    method : {"REML", "ML"}
        Estimator of the variances, but for RVE, which has its own.
    level : float
        Confidence level of every interval, a fraction.

    Returns
    -------
    DependenceComparison
        ``.tidy()`` is the table, ``.text()`` says in words what differs, `plots.dependence` draws it.

    Raises
    ------
    InputError
        Effects without a cluster; a `rho` outside 0 to 1; an unknown moderator or method; a rule in `select` that
        does not leave one effect per study.

    Warns
    -----
    AllianceMetaWarning
        What the models warn of, with the methods concerned.

    See Also
    --------
    sensitivity.rho_grid : one method under several assumed correlations.

    Notes
    -----
    One effect per study, and the plain mean (`aggregate`, ``how="mean"``): random effects with Hartung-Knapp.
    Three-level: ``random=(cluster, "es_id")`` with independent sampling errors, tested by t with containment df. CHE:
    the same with `impute_V`. CR2: cluster-robust with Satterthwaite df. RVE: `RVEModel` with its weights of 2010. A
    method that cannot be had, such as averages under a moderator that differs within studies, keeps its row with the
    reason.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.sensitivity import compare_dependence
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> compare_dependence(es, methods=("mean", "CHE + CR2")).tidy()[["k", "estimate", "r"]].round(3).values.tolist()
    [[54.0, 0.483, 0.449], [67.0, 0.482, 0.448]]
    """
    clusters = _check(effects, cluster, rho, level)
    check_option("method", method, Literal["REML", "ML"])
    wanted = _methods(methods)
    design = design_of(mods, effects)
    one = _selected(effects, cluster, select) if "one per study" in wanted else None
    settings = {"cluster": cluster, "rho": float(rho), "mods": design.formula, "method": method, "level": level}
    routes = _routes(effects, one, settings | {"mods": mods}, mixed=_mixed(effects, clusters, design))
    found: list[Route] = []
    warned: Warned = {}
    for name in wanted:
        route, said = _try(name, routes[name])
        found.append(route)
        warned |= said
    if all(route.fit is None for route in found):
        raise InputError("no method could be used: " + "; ".join(f"{one.method}: {one.reason}" for one in found))
    return DependenceComparison(effects, clusters, tuple(found), settings, _notes(effects, clusters, found, warned))


def _routes(
    given: EffectSizes, one: EffectSizes | None, settings: Mapping[str, Any], *, mixed: list[str]
) -> dict[str, Fit]:
    """Return how each method is fitted."""
    cluster, rho, method = settings["cluster"], settings["rho"], settings["method"]
    shared: dict[str, Any] = {"mods": settings["mods"], "level": settings["level"]}

    def pooled(effects: EffectSizes) -> Any:
        return RandomEffectsModel(effects, method=method, **shared).fit()

    def chosen() -> Any:
        if one is None:
            raise InputError(UNDECLARED)
        return pooled(one)

    def mean() -> Any:
        if mixed:
            raise InputError(f"{', '.join(mixed)} differs within studies, and an average has no value of it")
        return pooled(aggregate(given, cluster=cluster, rho=rho, how="mean"))

    def levels() -> Any:
        return MultilevelModel(given, random=f"{cluster}/{ROWS}", method=method, **shared).fit()

    def rve(working: Literal["CORR", "HIER"]) -> Any:
        return RVEModel(given, cluster=cluster, working=working, rho=rho, **shared).fit()

    return {
        "one per study": chosen,
        "mean": mean,
        "three-level": levels,
        "three-level + CR2": lambda: levels().robust(cluster=cluster, type="CR2"),
        "CHE + CR2": lambda: che(given, cluster=cluster, rho=rho, method=method, **shared),
        "RVE CORR": lambda: rve("CORR"),
        "RVE HIER": lambda: rve("HIER"),
    }


def _check(effects: Any, cluster: Any, rho: Any, level: Any) -> Clusters:
    if not isinstance(effects, EffectSizes):
        raise InputError(f"compare_dependence needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    if not isinstance(cluster, str):
        raise InputError("cluster must name a column, which becomes a random term; add the clusters to the moderators")
    if isinstance(rho, bool) or not isinstance(rho, int | float) or not 0 <= rho <= 1:
        raise InputError(f"rho={rho!r} is a correlation of sampling errors and must lie between 0 and 1")
    check_level(level)
    return read_clusters(effects, cluster)


def _methods(methods: Sequence[str] | None) -> tuple[str, ...]:
    asked = tuple(METHODS) if methods is None else (methods,) if isinstance(methods, str) else tuple(methods)
    wrong = [name for name in asked if name not in METHODS]
    if wrong or not asked:
        bad = repr(wrong[0]) if wrong else "an empty list"
        hint = did_you_mean(str(wrong[0]), list(METHODS)) if wrong else ""
        raise InputError(f"methods: {bad} is none of {', '.join(map(repr, METHODS))}{hint}")
    return tuple(name for name in METHODS if name in asked)


def _selected(effects: EffectSizes, cluster: str, select: Any) -> EffectSizes | None:
    if select is None:
        return None
    if not isinstance(select, Mapping) or not select:
        raise InputError(
            "select must say how one effect per study is chosen, such as {'rater': ['client', 'observer']}"
        )
    rule: dict[str, Any] = dict(select) if isinstance(select.get("by"), Mapping) else {"by": dict(select)}
    known = ("by", "ties", "unlisted", "rho")
    wrong = [str(name) for name in rule if name not in known]
    if wrong:
        raise InputError(f"select: {wrong[0]!r} is no argument of select_effects; it takes {', '.join(known)}")
    return select_effects(effects, cluster=cluster, **rule)


def _mixed(effects: EffectSizes, clusters: Clusters, design: Any) -> list[str]:
    """Return the moderators of the design that differ within a cluster."""
    frame = effects.moderators
    return [name for name in design.variables if (frame[name].groupby(clusters.codes).nunique(dropna=False) > 1).any()]


def _try(name: str, fit: Fit) -> tuple[Route, Warned]:
    """Return the fit, or the reason why there is none, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            route = Route(name, fit(), None)
        except InputError as error:
            route = Route(name, None, NotApplicable(str(error)))
    return route, ours(caught)


def _notes(effects: EffectSizes, clusters: Clusters, routes: Sequence[Route], warned: Warned) -> tuple[Note, ...]:
    """Join the notes of all fits, each once with the methods concerned; warn of what they warned of."""
    found: dict[Note, list[str]] = {}
    for route in routes:
        for note in () if route.fit is None else route.fit.notes:
            if note not in effects.notes and note.code not in PASSING:
                found.setdefault(note, []).append(METHODS[route.method])
    out = list(effects.notes)
    if not len(clusters.several):
        message = f"Each {clusters.name} has one effect: there is no dependence to compare."
        out.append(Note("nothing-dependent", message))
    fitted = sum(route.fit is not None for route in routes)
    for note, names in found.items():
        message = note.message if len(names) == fitted else f"{', '.join(names)}: {note.message}"
        category = warned.get(note.message)
        out.append(
            Note(note.code, message) if category is None else warn_note(note.code, message, category, stacklevel=4)
        )
    if fitted > 1 and all(route.fit is None or route.fit.design.formula == "1" for route in routes):
        out.append(Note("new-effects", WHAT_IS_NEW))
    left = [route for route in routes if route.fit is None and route.reason is not None]
    out += [
        Note("method-left-out", f"{METHODS[one.method]} left out: {one.reason.reason}.") for one in left if one.reason
    ]
    return tuple(out)
