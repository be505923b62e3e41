"""Figures of single questions about one analysis: what each is made from, its title and its caption."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.words import marked

if TYPE_CHECKING:
    import pandas as pd

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
