"""`DependenceComparison`: the same dependent effects by several methods, as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.export import plain
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity import dependence_text as text
from alliance_meta.sensitivity.dependence_text import METHODS
from alliance_meta.tables.document import Document

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
        cells = {name: _column([row[name] for row in rows]) for name in columns}
        frame = pd.DataFrame(cells)
        frame.index = pd.MultiIndex.from_tuples(index, names=["method", "term"])
        frame.attrs.update(scale=self.effects.scale_label, level=self.level)
        return frame

    def _row(self, route: Route, term: str) -> dict[str, Any]:
        names = ["k", "studies", *ESTIMATES, *ON_R, *VARIANCES]
        if route.fit is None:
            return dict.fromkeys(names, route.reason)
        fit = route.fit
        total, between, within = variances(fit)
        row = {"k": float(fit.k), "studies": float(_studies(fit, self.settings["cluster"]))}
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
        if term is not None and term not in self.terms:
            known = ", ".join(self.terms)
            raise InputError(
                f"term={term!r} is no coefficient{did_you_mean(term, list(self.terms))}; there are: {known}"
            )
        return text.paragraph(self, term)

    def document(self) -> Document:
        """Return the table, the paragraph and the notes, as data that can be written in several ways."""
        return text.document(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        found: dict[str, Any] = plain(
            {
                "settings": dict(self.settings),
                "effects": {"k": self.effects.k, "clusters": self.clusters.n, "measure": self.effects.measure},
                "methods": self._table.reset_index().to_dict(orient="records"),
                "labels": {route.method: METHODS[route.method] for route in self.routes},
                "left_out": self.left_out,
                "text": self.text(),
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.effects.provenance.to_dict(),
            }
        )
        return found


def variances(fit: Any) -> tuple[float, float, float]:
    """Return the variance of true effects, in all, between and within studies."""
    model = fit.fit if isinstance(fit, RobustResults) else fit
    if isinstance(model, RVEResults):
        total = model.tau2 if math.isnan(model.omega2) else model.tau2 + model.omega2
        return total, model.tau2, model.omega2
    if isinstance(model, MultilevelResults):
        return model.tau2, float(model.sigma2[0]), float(model.sigma2[1])
    return model.tau2, model.tau2, ONE_EACH


def _studies(fit: Any, cluster: str) -> int:
    return read_clusters(fit.effects, cluster).n


def _column(values: list[Any]) -> Any:
    """Return a column of numbers, of objects where one holds a reason."""
    if any(isinstance(value, NotApplicable) for value in values):
        return pd.Series(values, dtype=object)
    return pd.Series([float(value) for value in values])
