"""`DependenceComparison`: the same dependent effects by several methods, as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.fit import frame_of
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.refitting import coefficient
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, brief, fixed, fixed_interval, level_text

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
_VARIANCES = ("tau2", "tau2_between", "tau2_within")
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
    level = level_text(result.level)
    rows = []
    for label, row in _rows(result, result.terms[0]):
        if not math.isnan(row["r"]):
            new = "n/a" if math.isnan(row["r_pi_lb"]) else fixed_interval(row["r_pi_lb"], row["r_pi_ub"], 3)
            rows.append((label, fixed(row["r"], 3), fixed_interval(row["r_lb"], row["r_ub"], 3), new))
    return Table(("", "r", f"{level} CI", f"{level} prediction interval"), tuple(rows))


def _variances(result: DependenceComparison) -> Table:
    rows = [
        (label, *("" if math.isnan(row[name]) else fixed(row[name]) for name in _VARIANCES))
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
    return f"r = {fixed(row['r'], 3)}" if result.as_r else fixed(row["estimate"], 3)


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
    level = level_text(result.level)
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
        f"The {level_text(result.level)} prediction interval goes from {_interval(result, first, 'pi')} ({narrow}) to "
        f"{_interval(result, last, 'pi')} ({wide})."
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
        share = f"{fixed(low[0], 0)} %"
    else:
        share = f"{fixed(low[0], 0)} % ({low[1]}) to {fixed(high[0], 0)} % ({high[1]})"
    return f"Of the variance of true effects, {share} lies within studies."


def _named(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


ESTIMATES = ("estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
ON_R = {"r": "estimate", "r_lb": "ci_lb", "r_ub": "ci_ub", "r_pi_lb": "pi_lb", "r_pi_ub": "pi_ub"}
VARIANCES = ("tau2", "tau2_between", "tau2_within")
ONE_EACH = NotApplicable("one effect per study has no variance within studies")
CORRELATIONS = ("ZCOR", "COR", "UCOR")


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
        return self.is_mean and self.effects.measure in CORRELATIONS

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

    def document(self) -> Document:
        """Return the table, the paragraph and the notes, as data that can be written in several ways."""
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
