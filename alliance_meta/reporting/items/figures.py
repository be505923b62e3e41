"""Figures of single questions about one analysis, and what a reader may choose from a forest."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.design import levels_of
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.plots.forests.parts import cell, header
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.words import marked

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

# Where an item names none.
SEED = 1
Made = Callable[[Item, Fitted], Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot of the package: its title before the label, its caption, and the result that it shows."""

    title: str
    caption: str
    result: Made
    # Whether it takes levels, draws at random, or shows a posterior only.
    by: bool = False
    seeded: bool = False
    bayesian: bool = False

    def frame(self, item: Item, fitted: Fitted) -> pd.DataFrame:
        """Return the frame of the plot; what single steps warn of are notes of their result."""
        from alliance_meta import plots

        more: dict[str, Any] = {"by": item.by} if self.by and item.by is not None else {}
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            data = getattr(plots, f"{item.figure}_data")
            frame: pd.DataFrame = data(self.result(item, fitted), title=f"{self.title}: {fitted.spec.label}", **more)
        return frame


def _fit(item: Item, fitted: Fitted) -> Any:
    return fitted.fit


def _seed(item: Item) -> int:
    return SEED if item.seed is None else item.seed


def _asked(room: str, name: str, **options: Callable[[Item], Any]) -> Made:
    """Return what asks a function of `sensitivity` or `bayes` about the fit."""

    def result(item: Item, fitted: Fitted) -> Any:
        from alliance_meta import bayes, sensitivity

        function = getattr({"bayes": bayes, "sensitivity": sensitivity}[room], name)
        return function(fitted.fit, **{key: read(item) for key, read in options.items()})

    return result


def _order(item: Item) -> str:
    return item.order[0] if item.order else "year"


def _bootstrap(item: Item, fitted: Fitted) -> Any:
    from alliance_meta.sensitivity import bootstrap

    return bootstrap(fitted.model, seed=_seed(item))


def _selection(item: Item, fitted: Fitted) -> Any:
    from alliance_meta.bias import selmodel

    return selmodel(fitted.fit)


def _rho_grid(item: Item, fitted: Fitted) -> Any:
    from alliance_meta.sensitivity import rho_grid

    return rho_grid(fitted.coded, cluster=fitted.spec.cluster or "study_id")


def _multiverse(item: Item, fitted: Fitted) -> Any:
    from alliance_meta.sensitivity import multiverse

    return multiverse(fitted.coded, cluster=fitted.spec.cluster or "study_id", level=fitted.spec.level)


CUMULATIVE = _asked("sensitivity", "cumulative", order=_order)
# Kind of figure, which is the name of the plot -> what it is.
FIGURES: Mapping[str, Figure] = {
    "orchard": Figure(
        "Orchard plot",
        marked("{label}: every effect, the mean and where a new study is expected ({model})."),
        _fit,
        by=True,
    ),
    "rainforest": Figure(
        "Rainforest plot", marked("{label}: every effect by its likelihood, and the mean ({model})."), _fit
    ),
    "drapery": Figure("Drapery plot", marked("{label}: the p-value of every supposed true effect ({model})."), _fit),
    "ranks": Figure("Ranks", marked("{label}: the studies by what all of them together make of each ({model})."), _fit),
    "leave_one_out": Figure(
        "Leave one out",
        marked("{label}: the mean without each study in turn ({model})."),
        _asked("sensitivity", "leave_one_out"),
    ),
    "cumulative": Figure(
        "Cumulative meta-analysis", marked("{label}: the mean as studies came in ({model})."), CUMULATIVE
    ),
    "timeline": Figure("Timeline", marked("{label}: mean and heterogeneity as studies came in ({model})."), CUMULATIVE),
    "influence": Figure(
        "Influence", marked("{label}: what each study does to the model ({model})."), _asked("sensitivity", "influence")
    ),
    "baujat": Figure(
        "Baujat plot",
        marked("{label}: what each study adds to heterogeneity, and what it does to the mean."),
        _asked("sensitivity", "baujat"),
    ),
    "radial": Figure(
        "Radial plot",
        marked("{label}: effects in standard deviations against their precision."),
        _asked("sensitivity", "radial"),
    ),
    "gosh": Figure(
        "GOSH plot",
        marked("{label}: mean and heterogeneity of subsets of the studies."),
        _asked("sensitivity", "gosh", seed=_seed),
        seeded=True,
    ),
    "qqnorm": Figure(
        "Normal quantiles",
        marked("{label}: residuals against those of a normal distribution."),
        _asked("sensitivity", "qqnorm", seed=_seed),
        seeded=True,
    ),
    "resampled": Figure(
        "Bootstrap",
        marked("{label}: the mean in data sets simulated from the model ({model})."),
        _bootstrap,
        seeded=True,
    ),
    "profiles": Figure(
        "Profiles of variances",
        marked("{label}: how likely each value of every variance makes the data ({model})."),
        _fit,
    ),
    "rho_grid": Figure(
        "Assumed correlations", marked("{label}: the mean under other assumed correlations within a study."), _rho_grid
    ),
    "specification_curve": Figure(
        "Specification curve", marked("{label}: the mean by every combination of defensible choices."), _multiverse
    ),
    "p_curve": Figure("p-curve", marked("{label}: how the significant p-values spread."), _fit),
    "z_curve": Figure("z-curve", marked("{label}: how the test statistics spread."), _fit),
    "firepower": Figure(
        "Firepower plot", marked("{label}: the power of each study for a range of true effects."), _fit
    ),
    "worst_case": Figure(
        "Worst case", marked("{label}: the mean if affirmative results were more likely to be published."), _fit
    ),
    "selection_weights": Figure(
        "Selection model", marked("{label}: how likely results are to be seen, by their p-value."), _selection
    ),
    "predictive": Figure(
        "Predictive check",
        marked("{label}: the effects beside those that the model would make ({model})."),
        _asked("bayes", "predictive_check", seed=_seed),
        seeded=True,
        bayesian=True,
    ),
    "sequential": Figure(
        "Sequential analysis",
        marked("{label}: what was to be believed as studies came in ({model})."),
        _asked("bayes", "sequential", order=_order),
        bayesian=True,
    ),
}
SEEDED = tuple(name for name, one in FIGURES.items() if one.seeded)
BAYESIAN = ("posterior", "prior_sensitivity", *(name for name, one in FIGURES.items() if one.bayesian))


# A column of more values is shown and sorted by, but nobody chooses from it.
MOST_LEVELS = 12
YEAR = "year"
MEAN = ("yi", "ci_lb", "ci_ub", "r", "r_lb", "r_ub")
NEW = ("pi_lb", "pi_ub", "r_pi_lb", "r_pi_ub")

NO_MEAN = "the model has moderators, so that there is no single mean"
ONE_EFFECT = "one effect: there is nothing to pool"


def selections(item: Item, fitted: Fitted, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the moderators that a forest shows, and the mean of the effects at each of their levels.

    Each mean is what the analysis, as it was declared, gives for these effects alone: the same call of the same model.

    Parameters
    ----------
    item : Item
        The declared forest; its ``columns``, ``by`` and ``label`` are what a reader may choose from.
    fitted : Fitted
    frame : DataFrame
        The forest of all effects.

    Returns
    -------
    dict
        ``columns``: key, title, the value of every effect and the levels to choose from, empty where these are more
        than 12; the year comes last. ``sets``: column, level, ``rows`` (positions of the effects), ``k``, ``studies``,
        the mean with its interval and prediction interval, what the forest would say below it, and its notes; or
        ``refused``, why there is no mean.
    """
    effects = fitted.effects
    table = effects.moderators
    asked = dict.fromkeys(name for name in (*item.columns, item.by, item.label) if name is not None)
    names = [name for name in dict.fromkeys((*asked, YEAR)) if name in table and table[name].notna().any()]
    columns = [_column(table[name], name, choose=name in asked) for name in names]
    said = {note["message"] for note in frame.attrs["notes"]}
    single = bool((frame["kind"] == "summary").any())
    sets = [
        {"column": one["key"], "level": level, "rows": rows, **_counted(effects, rows)}
        | (_pooled(fitted, rows, said) if single else {"refused": NO_MEAN})
        for one in columns
        for level in one["levels"]
        if (rows := [i for i, value in enumerate(one["cells"]) if value == level])
    ]
    return {"columns": columns, "sets": sets}


def _column(values: pd.Series[Any], name: str, *, choose: bool) -> dict[str, Any]:
    levels = [cell(level) for level in levels_of(values)]
    offered = choose and 2 <= len(levels) <= MOST_LEVELS
    return {
        "key": name,
        "title": header(name),
        "cells": [cell(value) for value in values],
        "values": [None if pd.isna(value) else value for value in values],
        "levels": levels if offered else [],
    }


def _counted(effects: EffectSizes, rows: Sequence[int]) -> dict[str, int]:
    return {"k": len(rows), "studies": len({effects.study_id[i] for i in rows})}


def _pooled(fitted: Fitted, rows: Sequence[int], said: set[str]) -> dict[str, Any]:
    """Return the mean of some effects as the analysis has it, or why it has none."""
    from alliance_meta.plots import forest_data

    if len(rows) < 2:
        return {"refused": ONE_EFFECT}
    # Effects that the analysis averaged first are averages already.
    spec = fitted.spec.but(aggregate=None)
    try:
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            frame = forest_data(fitted.run(spec, fitted.effects.take(list(rows))))
    except InputError as error:
        return {"refused": str(error)}
    found: dict[str, Any] = {"model": frame.attrs["model_label"]}
    for kind, keys in (("summary", MEAN), ("prediction", NEW)):
        drawn = frame[frame["kind"] == kind]
        found |= {key: float(drawn[key].iloc[0]) if len(drawn) else math.nan for key in keys}
    notes = [note["message"] for note in frame.attrs["notes"] if note["message"] not in said]
    return {**found, "lines": list(frame.attrs["bottom"][:1]), "notes": notes}
