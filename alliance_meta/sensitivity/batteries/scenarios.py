"""`Scenario`, one analysis of a battery, and `Case`, what it is given to analyse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import Mask
from alliance_meta.bias.given import Given, given
from alliance_meta.core.distributions import critical_value
from alliance_meta.effects.contract.schema import CONTRACT, FALSE, TRUE
from alliance_meta.effects.dependent.groups import ROWS, Clusters, read_clusters
from alliance_meta.effects.sheet.columns import canonical_name
from alliance_meta.effects.studies import plain_text
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import che
from alliance_meta.notes import check_option
from alliance_meta.sensitivity.deletion.influences import influence

Kind = Literal["headline", "model", "part", "bias", "attenuation", "bound", "warning"]
# What the rows of a kind are, in a sentence.
KINDS: Mapping[Kind, str] = {
    "headline": "Headline",
    "model": "Other models",
    "part": "Parts of the effects",
    "bias": "If the literature were biased",
    "attenuation": "Corrected for measurement error, another question",
    "bound": "The most one-sided choices",
    "warning": "What not to do",
}
# What a column of the contract is also called in sheets.
ALSO = {"alliance_rater": "rater", "alliance_time": "time", "rob_overall": "rob"}


@dataclass(frozen=True, eq=False)
class Case:
    """What a scenario is given.

    Attributes
    ----------
    effects : EffectSizes
        All effects.
    cluster : str
        Column of the studies, or whatever is independent of each other.
    rho : float
        Assumed correlation of the sampling errors of two effects of one study.
    level : float
        Confidence level of every interval, a fraction.
    select : mapping or None
        How one effect per study is chosen: the arguments of `select_effects`.
    seed : int or None
        For analyses that draw random numbers.
    """

    effects: EffectSizes
    cluster: str
    rho: float
    level: float
    select: Mapping[str, Any] | None = None
    seed: int | None = None

    def clusters(self, effects: EffectSizes | None = None) -> Clusters:
        """Return which of the effects, by default all, belong to one study."""
        return read_clusters(self.effects if effects is None else effects, self.cluster)

    def depends(self, effects: EffectSizes | None = None) -> bool:
        """Tell whether some study has several of the effects, by default of all."""
        return len(self.clusters(effects).several) > 0

    def headline(self, effects: EffectSizes | None = None, *, rho: float | None = None) -> Any:
        """Fit effects, by default all, as the headline does: CHE with CR2, or plain random effects where none depend.

        A `rho` of its own replaces that of the battery.
        """
        used = self.effects if effects is None else effects
        if not self.depends(used):
            return self.independent(used)
        return che(used, cluster=self.cluster, rho=self.rho if rho is None else rho, level=self.level)

    def independent(self, effects: EffectSizes | None = None) -> Any:
        """Fit effects, by default all, with random effects and Knapp-Hartung, as if none depended on another."""
        return RandomEffectsModel(self.effects if effects is None else effects, level=self.level).fit()

    def levels(self) -> Any:
        """Fit the three-level model of independent sampling errors, with CR2."""
        fit = MultilevelModel(self.effects, random=f"{self.cluster}/{ROWS}", level=self.level).fit()
        return fit.robust(cluster=self.cluster, type="CR2")

    @cached_property
    def fit(self) -> Any:
        """The headline fit of all effects."""
        return self.headline()

    @cached_property
    def source(self) -> Given:
        """What the methods for a biased literature are given of the headline fit."""
        return given(self.fit, "battery", cluster=self.cluster)


@dataclass(frozen=True)
class Scenario:
    """One analysis of a battery.

    Attributes
    ----------
    key : str
        The name of its row.
    label : str
        What readers call it.
    run : callable
        ``run(case)`` gives a fit without moderators, or a result of a method for a biased literature. What it raises of
        this package's errors is why the row has no number.
    kind : str
        ``headline``; ``model``: another model of the same effects; ``part``: only some effects; ``bias``: a method for
        a biased literature; ``attenuation``: corrected for measurement error; ``bound``: the most one-sided choice;
        ``warning``: what not to do.
    says : str
        What it does otherwise than the headline, in a few words.
    """

    key: str
    label: str
    run: Callable[[Case], Any]
    kind: Kind = "part"
    says: str = ""

    def __post_init__(self) -> None:
        check_option("kind", self.kind, Kind)
        if not self.key or not self.label or not callable(self.run):
            raise InputError("a Scenario needs a key, a label, and run, a function of the case that gives a fit")


def only(name: str, *values: str, without: bool = False) -> Callable[[Case], Any]:
    """Return a `run` that fits the headline to the effects with one of these values in a column, or to all others.

    Parameters
    ----------
    name : str
        A column of the contract of coding sheets, however the sheet spells it, or any other column.
    values : str
        What the cells say. Columns with a vocabulary also take other words for the same.
    without : bool
        Leave these effects out, and keep the others; a cell without a value is kept.

    Returns
    -------
    callable
        What a `Scenario` takes as its `run`.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, sensitivity
    >>> journals = sensitivity.Scenario("journal", "Journals only", sensitivity.only("source", "journal"))
    >>> found = sensitivity.battery(escalc(load_dataset("crede2010")), scenarios=["che", journals])
    >>> found.tidy()["k"].to_dict()
    {'che': 97, 'journal': 76}
    """

    def run(case: Case) -> Any:
        """Fit the headline to these effects."""
        rows = holding(case.effects, name, values)
        kept = ~rows if without else rows
        what = f"{' or '.join(values)} in column {named(case.effects, name)}"
        if not rows.any():
            raise InputError(f"no effect has {what}")
        if kept.all():
            raise InputError(f"every effect has {what}: this is the headline")
        if not kept.any():
            raise InputError(f"every effect has {what}: none is left")
        return case.headline(case.effects.take(kept))

    return run


def named(effects: EffectSizes, name: str) -> str:
    """Return what a column is called among the effects: its own name, or another for the same."""
    there = [str(one) for one in effects.moderators.columns]
    found = [one for one in there if one == name or canonical_name(one) == name]
    found += [one for one in there if one.casefold() == ALSO.get(name)]
    if not found:
        raise InputError(f"the sheet has no column {name}" + (f" (or {ALSO[name]})" if name in ALSO else ""))
    return found[0]


def holding(effects: EffectSizes, name: str, values: Collection[str]) -> Mask:
    """Return which effects have one of these values in a column of the sheet, (k,)."""
    column = CONTRACT.column(name)
    cells = [plain_text(cell) for cell in effects.moderators[named(effects, name)]]
    if column is not None and column.type == "boolean":
        said = {**dict.fromkeys(TRUE, "yes"), **dict.fromkeys(FALSE, "no")}
        words = [said.get(cell.casefold(), cell) for cell in cells]
    elif column is not None and column.vocabulary is not None:
        words = [column.vocabulary.word(cell) or cell for cell in cells]
    else:
        words = cells
    return np.isin(np.array(words, dtype=object), list(values))


def outlying(effects: EffectSizes, fit: Any) -> Mask:
    """Return which effects have an interval that misses the interval of a fit's mean effect, (k,)."""
    half = critical_value(fit.level, None) * effects.sei
    return (effects.yi + half < fit.ci_lb[0]) | (effects.yi - half > fit.ci_ub[0])


def without(case: Case, rows: Mask, what: str) -> Any:
    """Fit the headline to the effects that are not among `rows`."""
    if not rows.any():
        raise InputError(f"no {what}: this is the headline")
    if rows.all():
        raise InputError(f"every effect is left out: {what}")
    return case.headline(case.effects.take(~rows))


def extreme(case: Case, sign: float) -> Any:
    """Fit the lowest (1) or the highest (-1) effect of each study."""
    groups = case.clusters()
    if not len(groups.several):
        raise InputError(f"each {groups.name} has one effect")
    order = np.lexsort((np.arange(case.effects.k), sign * case.effects.yi, groups.codes))
    first = np.append(True, np.diff(groups.codes[order]) > 0)
    return case.independent(case.effects.take(np.sort(order[first])))


def influential(case: Case) -> Mask:
    """Return the effects of studies that pull the headline hard, (k,)."""
    if not case.fit.se[0] > 0.0:
        raise InputError("the effects are all the same, so that no study pulls")
    found = influence(case.fit, by=case.cluster)
    flags = dict(zip(found.labels, found.influential, strict=True))
    groups = case.clusters()
    return np.array([bool(flags[label]) for label in groups.labels])[groups.codes]
