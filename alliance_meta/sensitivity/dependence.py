"""`compare_dependence`: the same dependent effects by every usual method, as a table and in words."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

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
from alliance_meta.notes import NotApplicable, Note, check_level, check_option, did_you_mean, warn_note
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.fit import frame_of
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.refitting import coefficient, ours
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, brief, fixed, fixed_interval, fixed_r, fixed_r_interval, format_level

METHODS = {
    "one per study": "One effect per study",
    "mean": "Mean of each study",
    "three-level": "Three-level",
    "three-level + CR2": "Three-level + CR2",
    "CHE + CR2": "CHE + CR2",
    "RVE CORR": "RVE correlated",
    "RVE HIER": "RVE hierarchical",
}
INTERCEPT = "intrcpt"
# Degrees of freedom, widths and shares closer than this are not told apart.
ALIKE = 0.05


def _rows(result: DependenceComparison, term: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for (method, name), row in zip(result._table.index, result._table.to_dict("records"), strict=True):
        if name == term:
            found.append((METHODS[method], {str(key): value for key, value in row.items()}))
    return found


def _estimates(result: DependenceComparison, term: str) -> Table:
    rows: list[tuple[str, ...]] = []
    for label, row in _rows(result, term):
        if math.isnan(row["estimate"]):
            rows.append((label, "left out" if math.isnan(row["k"]) else "n/a"))
            continue
        df = "inf" if math.isinf(row["ddf"]) else fixed(row["ddf"], 1)
        numbers = (fixed(row["estimate"]), fixed(row["se"]), df, bare_p(row["pval"]))
        rows.append((label, fixed(row["k"], 0), *numbers, fixed(row["ci_lb"]), fixed(row["ci_ub"])))
    head = ("", "k", "estimate", "se", "df", "pval", "ci_lb", "ci_ub")
    return Table(head, tuple(rows), "" if result.is_mean else term)


def _on_r(result: DependenceComparison) -> Table:
    level = format_level(result.level)
    rows = []
    for label, row in _rows(result, result.terms[0]):
        if not math.isnan(row["r"]):
            new = "n/a" if math.isnan(row["r_pi_lb"]) else fixed_r_interval(row["r_pi_lb"], row["r_pi_ub"])
            rows.append((label, fixed_r(row["r"], 3), fixed_r_interval(row["r_lb"], row["r_ub"]), new))
    return Table(("", "r", f"{level} CI", f"{level} prediction interval"), tuple(rows))


def _variances(result: DependenceComparison) -> Table:
    rows = [
        (label, *("" if math.isnan(row[name]) else fixed(row[name]) for name in VARIANCES))
        for label, row in _rows(result, result.terms[0])
        if not math.isnan(row["k"])
    ]
    return Table(("", "tau2", "between", "within"), tuple(rows), "Variance of true effects")


def paragraph(result: DependenceComparison, term: str | None) -> str:
    """Return what differs between the methods, for one coefficient or for all that matter."""
    terms = [term] if term is not None else [name for name in result.terms if name != INTERCEPT] or list(result.terms)
    parts = [*(_about(result, name) for name in terms), _used(result), _shares(result)]
    return " ".join(part for part in parts if part)


def _about(result: DependenceComparison, term: str) -> str:
    found = [(label, row) for label, row in _rows(result, term) if not math.isnan(row["estimate"])]
    if len(found) == 1:
        label, row = found[0]
        return f"Only one method gives {_what(result, term)}, {label}: {_value(result, row)}."
    text = [_spread(result, term, found), _zero(result, found), _widths(result, found), _dfs(found)]
    if result.is_mean:
        text.append(_new(result, found))
    return " ".join(part for part in text if part)


def _what(result: DependenceComparison, term: str) -> str:
    return "the mean effect" if result.is_mean else f"the coefficient of {term}"


def _value(result: DependenceComparison, row: dict[str, Any]) -> str:
    return f"r = {fixed_r(row['r'], 3)}" if result.as_r else fixed(row["estimate"], 3)


def _interval(result: DependenceComparison, row: dict[str, Any], kind: str = "ci") -> str:
    names = {"ci": ("ci_lb", "ci_ub"), "pi": ("pi_lb", "pi_ub")}[kind]
    if result.as_r:
        names = {"ci": ("r_lb", "r_ub"), "pi": ("r_pi_lb", "r_pi_ub")}[kind]
    return fixed_interval(row[names[0]], row[names[1]], 3)


def _spread(result: DependenceComparison, term: str, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    ordered = sorted(found, key=lambda one: one[1]["estimate"])
    (low_name, low), (high_name, high) = ordered[0], ordered[-1]
    largest = max((row["se"] for _, row in found if not math.isnan(row["se"])), default=math.nan)
    moves = (high["estimate"] - low["estimate"]) / largest if largest > 0 else math.nan
    what = _what(result, term)
    units = "" if math.isnan(moves) else f", {fixed(moves, 2)} of the largest standard error apart"
    return (
        f"By {len(found)} methods, {what} lies between {_value(result, low)} ({low_name}) and "
        f"{_value(result, high)} ({high_name}){units}."
    )


def _zero(result: DependenceComparison, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    known = [(label, row) for label, row in found if not math.isnan(row["ci_lb"])]
    if not known:
        return ""
    level = format_level(result.level)
    holding = [label for label, row in known if row["ci_lb"] <= 0 <= row["ci_ub"]]
    above = [label for label, row in known if row["ci_lb"] > 0]
    if not holding:
        if len(above) in (0, len(known)):
            return f"Every {level} confidence interval lies {'above' if above else 'below'} 0."
        below = [label for label, row in known if row["ci_ub"] < 0]
        return f"The {level} confidence interval lies above 0 by {_named(above)} and below 0 by {_named(below)}."
    if len(holding) == len(known):
        return f"Every {level} confidence interval holds 0."
    rest = [label for label, _ in known if label not in holding]
    return f"The {level} confidence interval holds 0 by {_named(holding)}, not by {_named(rest)}."


def _widths(result: DependenceComparison, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    wide = sorted(
        ((row["ci_ub"] - row["ci_lb"], label, row) for label, row in found if not math.isnan(row["ci_lb"])),
        key=lambda one: one[0],
    )
    if len(wide) < 2 or not wide[0][0] > 0:
        return ""
    ratio = wide[-1][0] / wide[0][0]
    if ratio < 1 + ALIKE:
        return "The intervals are about equally wide."
    return (
        f"The widest interval, {_interval(result, wide[-1][2])} ({wide[-1][1]}), is {fixed(ratio, 2)} times as wide "
        f"as the narrowest, {_interval(result, wide[0][2])} ({wide[0][1]})."
    )


def _dfs(found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    known = sorted((row["ddf"], label) for label, row in found if math.isfinite(row["ddf"]))
    if len(known) < 2 or known[-1][0] <= known[0][0] * (1 + ALIKE):
        return ""
    (low, first), (high, last) = known[0], known[-1]
    return f"Degrees of freedom run from {fixed(low, 1)} ({first}) to {fixed(high, 1)} ({last})."


def _new(result: DependenceComparison, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    known = sorted(
        ((row["pi_ub"] - row["pi_lb"], label, row) for label, row in found if not math.isnan(row["pi_lb"])),
        key=lambda one: one[0],
    )
    if len(known) < 2:
        return ""
    (_, narrow, first), (_, wide, last) = known[0], known[-1]
    return (
        f"The {format_level(result.level)} prediction interval goes from {_interval(result, first, 'pi')} ({narrow}) "
        f"to {_interval(result, last, 'pi')} ({wide})."
    )


def _used(result: DependenceComparison) -> str:
    fit = result.fits.get("one per study")
    if fit is None or fit.k >= result.effects.k:
        return ""
    return f"One effect per study rests on {fit.k} of the {result.effects.k} effects."


def _shares(result: DependenceComparison) -> str:
    shares = [
        (100.0 * row["tau2_within"] / row["tau2"], label)
        for label, row in _rows(result, result.terms[0])
        if row["tau2_within"] >= 0 and row["tau2"] > 0
    ]
    if not shares:
        return ""
    shares.sort()
    low, high = shares[0], shares[-1]
    if high[0] - low[0] < 100 * ALIKE:
        share = f"{fixed(low[0], 0)}%"
    else:
        share = f"{fixed(low[0], 0)}% ({low[1]}) to {fixed(high[0], 0)}% ({high[1]})"
    return f"Of the variance of true effects, {share} lies within studies."


def _named(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


ESTIMATES = ("estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
ON_R = {"r": "estimate", "r_lb": "ci_lb", "r_ub": "ci_ub", "r_pi_lb": "pi_lb", "r_pi_ub": "pi_ub"}
VARIANCES = ("tau2", "tau2_between", "tau2_within")
ONE_EACH = NotApplicable("one effect per study has no variance within studies")


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One method: its fitted model, or the reason why there is none."""

    method: str
    fit: Any
    reason: NotApplicable | None


@dataclass(frozen=True, eq=False, repr=False)
class DependenceComparison(Result):
    """The same dependent effects by several methods.

    Made by `compare_dependence`.

    Attributes
    ----------
    effects : EffectSizes
        The effects, all of them.
    clusters : Clusters
        Which belong to one study.
    routes : tuple of Route
        The methods in the order of the table.
    settings : mapping
        ``cluster rho mods method level``.
    notes : tuple of Note
        Those of the fits, with the methods concerned.
    """

    effects: EffectSizes
    clusters: Clusters
    routes: tuple[Route, ...]
    settings: Mapping[str, Any]
    notes: tuple[Note, ...] = ()

    @property
    def fits(self) -> dict[str, Any]:
        """The fitted model of each method that could be used."""
        return {route.method: route.fit for route in self.routes if route.fit is not None}

    @property
    def left_out(self) -> dict[str, NotApplicable]:
        """The methods that could not be used, with the reason."""
        return {route.method: route.reason for route in self.routes if route.reason is not None}

    @property
    def level(self) -> float:
        """Confidence level of every interval, a fraction."""
        return float(self.settings["level"])

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """Coefficients that any method has."""
        return tuple(dict.fromkeys(name for fit in self.fits.values() for name in fit.names))

    @property
    def is_mean(self) -> bool:
        """Whether there are no moderators: the one coefficient is the mean effect."""
        return bool(self.settings["mods"] == "1")

    @property
    def as_r(self) -> bool:
        """Whether the mean effect can be read as a correlation."""
        return self.is_mean and self.effects.measure in wording.CORRELATIONS

    @cached_property
    def _table(self) -> pd.DataFrame:
        rows = [self._row(route, term) for route in self.routes for term in self.terms]
        columns = ["k", "studies", *ESTIMATES, *(ON_R if self.as_r else ()), *VARIANCES]
        index = [(route.method, term) for route in self.routes for term in self.terms]
        frame = frame_of(rows)[columns]
        frame.index = pd.MultiIndex.from_tuples(index, names=["method", "term"])
        frame.attrs.update(scale=self.effects.scale_label, level=self.level)
        return frame

    def _row(self, route: Route, term: str) -> dict[str, Any]:
        names = ["k", "studies", *ESTIMATES, *ON_R, *VARIANCES]
        if route.fit is None:
            return dict.fromkeys(names, route.reason)
        fit = route.fit
        total, between, within = variances(fit)
        row = {"k": float(fit.k), "studies": float(read_clusters(fit.effects, self.settings["cluster"]).n)}
        row |= dict(zip(VARIANCES, (total, between, within), strict=True))
        if term not in fit.names:
            gone = NotApplicable(f"this method has no {term}")
            return dict.fromkeys(names, gone) | row
        row |= fit.tidy().loc[term, [name for name in ESTIMATES if not name.startswith("pi")]].to_dict()
        new = fit.predict().iloc[0] if self.is_mean else {}
        absent = NotApplicable("a coefficient has no prediction interval")
        row |= {name: new.get(name, absent) for name in ("pi_lb", "pi_ub")}
        back = math.tanh if self.effects.measure == "ZCOR" else float
        row |= {r: row[name] if math.isnan(row[name]) else back(row[name]) for r, name in ON_R.items()}
        return row

    def tidy(self) -> pd.DataFrame:
        """Return the table, unrounded: one row per method, and per term where there are moderators.

        Returns
        -------
        DataFrame
            ``k`` effects used, ``studies``; ``estimate se stat ddf pval ci_lb ci_ub pi_lb pi_ub`` on the analysis
            scale; ``r r_lb r_ub r_pi_lb r_pi_ub``, the mean effect as a correlation; ``tau2``, the variance of true
            effects, of which ``tau2_between`` and ``tau2_within`` studies. A cell without a number holds the reason.
        """
        frame = self._table.copy()
        frame.attrs.update(self._table.attrs)
        return frame.droplevel("term") if self.is_mean else frame

    def text(self, term: str | None = None) -> str:
        """Return a paragraph on what differs between the methods, made from the numbers.

        Parameters
        ----------
        term : str, optional
            The coefficient it is about; by default all but the intercept, or the mean effect.

        Raises
        ------
        InputError
            A `term` that no method has.
        """
        coefficient(self.terms, term)
        return paragraph(self, term)

    def _content(self) -> Document:
        effects, settings = self.effects, self.settings
        title = (
            f"Dependent effects by {len(self.routes)} methods (k = {effects.k} effects in {self.clusters.n} clusters "
            f"by {settings['cluster']}; rho = {brief(settings['rho'])})"
        )
        lines = [effects.heading, *([] if self.is_mean else [f"Moderators: {settings['mods']}"])]
        tables = [_estimates(self, term) for term in self.terms]
        on_r = [_on_r(self)] if self.as_r else []
        return wording.document(self, title, lines, *tables, *on_r, _variances(self), [self.text()])

    def _values(self) -> dict[str, Any]:
        return {
            "settings": dict(self.settings),
            "effects": {"k": self.effects.k, "clusters": self.clusters.n, "measure": self.effects.measure},
            "methods": self._table.reset_index().to_dict(orient="records"),
            "labels": {route.method: METHODS[route.method] for route in self.routes},
            "left_out": self.left_out,
            "text": self.text(),
            "provenance": self.effects.provenance.to_dict(),
        }


def variances(fit: Any) -> tuple[float, float, float]:
    """Return the variance of true effects, in all, between and within studies."""
    model = fit.fit if isinstance(fit, RobustResults) else fit
    if isinstance(model, RVEResults):
        total = model.tau2 if math.isnan(model.omega2) else model.tau2 + model.omega2
        return total, model.tau2, model.omega2
    if isinstance(model, MultilevelResults):
        return model.tau2, float(model.sigma2[0]), float(model.sigma2[1])
    return model.tau2, model.tau2, ONE_EACH


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
    One effect per study, and the plain mean (`aggregate`, ``how="mean"``): random effects with Knapp-Hartung.
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


def choice_rule(select: Any) -> dict[str, Any]:
    """Return how one effect per study is chosen as arguments of `select_effects`."""
    if not isinstance(select, Mapping) or not select:
        raise InputError(
            "select must say how one effect per study is chosen, such as {'rater': ['client', 'observer']}"
        )
    return dict(select) if isinstance(select.get("by"), Mapping) else {"by": dict(select)}


def _selected(effects: EffectSizes, cluster: str, select: Any) -> EffectSizes | None:
    if select is None:
        return None
    rule = choice_rule(select)
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
