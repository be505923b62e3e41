"""What a table of moderators says of each: counts, the mean at each level or the slope, and the test."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import statistic, two_sided_p
from alliance_meta.design import is_number, levels_of
from alliance_meta.effects.dependent.groups import as_level
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaError, InputError, quiet
from alliance_meta.moderators.grid import level_values
from alliance_meta.moderators.marginal import NO_PREDICTION, marginal_means, marginal_slopes
from alliance_meta.moderators.working import Working
from alliance_meta.notes import NotApplicable, Note, did_you_mean
from alliance_meta.results.coefficients import WaldTest
from alliance_meta.results.robust import RobustResults

NUMBERS = ("estimate", "se", "ddf", "pval", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
AS_R = {"r": "estimate", "r_lb": "ci_lb", "r_ub": "ci_ub", "r_pi_lb": "pi_lb", "r_pi_ub": "pi_ub"}
CONTROLLED = ("estimate", "ci_lb", "ci_ub")
R_CONTROLLED = {"r": "estimate", "r_lb": "ci_lb", "r_ub": "ci_ub"}
PER_UNIT, PER_SD = "per unit", "per SD"
ONE_CLUSTER = "one cluster alone tells this, so that it has no robust standard error"
SLOPE_HAS_NONE = NotApplicable("a slope has no prediction interval")
# Whole numbers of so few kinds may be codes of categories.
MOST_CODES = 6
# Stands for a column whose name is no plain one.
PLAIN = "moderator_of_the_table"
CATEGORICAL = re.compile(r"C\((.+)\)")


@dataclass(frozen=True, eq=False)
class Moderator:
    """One moderator that was asked for."""

    name: str  # its column
    term: str  # how formulas spell it
    levels: tuple[str, ...]  # empty for a continuous one
    codes: IntArray  # (k,): level of each effect; -1 where there is none. Of a continuous one 0 where there is a value.

    @property
    def present(self) -> Mask:
        """Which effects have a value."""
        return self.codes >= 0

    def kept(self, rows: Mask, clusters: IntArray, least: int) -> Mask:
        """Return which of the rows have a value, and a level that at least so many clusters have."""
        there = rows & self.present
        if not self.levels:
            return there
        enough = [np.unique(clusters[there & (self.codes == at)]).size >= least for at in range(len(self.levels))]
        return there & np.array([*enough, False])[self.codes]

    def few_whole(self, effects: EffectSizes) -> bool:
        """Return whether a continuous moderator has so few values, all whole, that they may be codes."""
        values = effects.moderators[self.name].dropna().unique().astype(float)
        return len(values) <= MOST_CODES and bool((values == np.round(values)).all())

    def varies(self, effects: EffectSizes, codes: IntArray) -> bool:
        """Return whether effects, whose levels are `codes`, differ in it."""
        values = codes if self.levels else effects.moderators[self.name].to_numpy(dtype=float)
        return bool((values != values[0]).any())


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of a moderator: estimates by level or slope, the test, R2 and tau."""

    rows: Mapping[str, Mapping[str, Any]]
    test: WaldTest
    R2: float
    tau: float
    notes: tuple[Note, ...] = ()
    more: Mapping[str, float] = field(default_factory=dict)


def read_moderators(effects: EffectSizes, names: Sequence[str]) -> tuple[Moderator, ...]:
    """Read the moderators by name; ``C(x)`` makes numbers categories."""
    table = effects.moderators
    found = []
    for one in names:
        explicit = CATEGORICAL.fullmatch(one)
        name = one if one in table or explicit is None else explicit[1].strip(" `")
        if name not in table:
            known = [str(column) for column in table]
            raise InputError(f"no moderator {name!r}{did_you_mean(name, known)} Columns: {', '.join(known) or 'none'}")
        column = table[name]
        spelled = name if name.isidentifier() else f"`{name}`"
        if is_number(column) and explicit is None:
            codes = np.where(column.notna(), 0, -1)
            found.append(Moderator(name, spelled, (), codes.astype(np.intp)))
            continue
        texts = column.astype(object).map(_text, na_action="ignore")
        levels = tuple(dict.fromkeys(_text(value) for value in levels_of(column)))
        codes = pd.Categorical(texts, list(levels)).codes
        term = f"C({spelled})" if is_number(column) else spelled
        found.append(Moderator(name, term, levels, codes.astype(np.intp)))
    twice = [one.name for one in found if sum(one.name == other.name for other in found) > 1]
    if twice:
        raise InputError(f"moderator {twice[0]!r} is named twice")
    return tuple(found)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def answer(working: Working, effects: EffectSizes, one: Moderator, baseline: Any = None) -> Answer:
    """Fit a moderator to effects that all have it; `baseline` is their model without moderators, if it is there."""
    if one.levels and working.tau2 == "separate":
        return _apart(working, effects, one)
    fit = working.fit(effects, one.term)
    without = working.fit(effects) if baseline is None else baseline
    shared = {"test": fit.omnibus, "R2": explained(fit, without), "tau": fit.tau, "notes": fit.notes}
    if not one.levels:
        values = effects.moderators[one.name].to_numpy(dtype=float)
        mean, sd = float(values.mean()), float(values.std(ddof=1))
        return Answer(_slopes(fit, one.name, sd), more={"mean": mean, "sd": sd}, **shared)
    return Answer({level: {**row, "tau": fit.tau} for level, row in _means(fit, one.name).items()}, **shared)


def _apart(working: Working, effects: EffectSizes, one: Moderator) -> Answer:
    name, term = one.name, one.term
    if not name.isidentifier():  # formulas of random terms have no back-ticks
        name, term = PLAIN, term.replace(f"`{name}`", PLAIN)
        effects = replace(effects, _moderators=effects.moderators.rename(columns={one.name: name}))
    found = working.apart(effects, name, term)
    gone = NotApplicable("every level has a tau2 of its own")
    if isinstance(found, RobustResults):
        G = next(iter(found.G.values()))
        tau = {as_level(level): math.sqrt(G.loc[level, level]) for level in G}
        rows = {level: {**row, "tau": tau[level]} for level, row in _means(found, name).items()}
        return Answer(rows, found.test(term), gone, gone, found.notes)
    rows = {level: {**overall(fit), "tau": fit.tau} for level, fit in found.fits.items()}
    return Answer(rows, found.between, gone, gone, found.notes)


def explained(fit: Any, without: Any) -> float:
    """Return the share of tau2 that moderators account for, in percent; never below 0."""
    if not without.tau2 > 0:
        return NotApplicable("there is no heterogeneity to explain: tau2 without moderators is 0")
    return max(0.0, 100.0 * (1.0 - float(fit.tau2) / float(without.tau2)))


def overall(fit: Any) -> dict[str, Any]:
    """Return the mean of a model without moderators."""
    return _number_rows(fit, fit.predict(), np.ones((1, 1)))[0]


def _means(fit: Any, name: str) -> dict[str, dict[str, Any]]:
    """Return the mean at each level of the only moderator of a model."""
    values = level_values(name, fit.design, fit.effects.moderators)
    given = {name: values}
    rows = _number_rows(fit, fit.predict(given), fit.design.new_rows(given)[0])
    return dict(zip(map(_text, values), rows, strict=True))


def _number_rows(fit: Any, predicted: pd.DataFrame, X: AnyArray) -> list[dict[str, Any]]:
    """Return predictions with their tests, and the reason where one is missing."""
    ddf = fit.row_ddf(X)
    frame = predicted.rename(columns={"pred": "estimate"}).assign(ddf=ddf)
    frame["pval"] = two_sided_p(statistic(frame["estimate"].to_numpy(), frame["se"].to_numpy()), ddf)
    why = NotApplicable(predicted.attrs.get("pi_note") or NO_PREDICTION)
    return [_said({name: float(row[name]) for name in NUMBERS}, why) for _, row in frame.iterrows()]


def _said(row: dict[str, Any], no_prediction: NotApplicable) -> dict[str, Any]:
    if math.isnan(row["se"]):
        return {**dict.fromkeys(row, NotApplicable(ONE_CLUSTER)), "estimate": row["estimate"]}
    none = NotApplicable("the effects are identical: the mean has no variance")
    row = {**row, "pval": row["pval"] if row["pval"] == row["pval"] else none}
    return row if row["pi_lb"] == row["pi_lb"] else {**row, "pi_lb": no_prediction, "pi_ub": no_prediction}


def _slopes(fit: Any, name: str, sd: float) -> dict[str, dict[str, Any]]:
    """Return the slope per unit and per standard deviation, for Fisher z also as changes in r."""
    found = marginal_slopes(fit, name).tidy().iloc[0]
    slope = {one: float(found[one]) for one in NUMBERS if one in found}
    slope = _said({**slope, "pi_lb": math.nan, "pi_ub": math.nan}, SLOPE_HAS_NONE)
    if "estimate_r" in found:
        ends = {"r": "estimate_r", "r_lb": "ci_lb_r", "r_ub": "ci_ub_r"}
        slope |= {new: _or_why(float(found[old]), slope["ci_lb"]) for new, old in ends.items()}
        slope |= {"r_pi_lb": SLOPE_HAS_NONE, "r_pi_ub": SLOPE_HAS_NONE}
    slope |= {"tau": fit.tau}
    return {PER_UNIT: slope, PER_SD: {one: _times(one, value, sd) for one, value in slope.items()}}


def _or_why(value: float, other: float) -> float:
    return other if math.isnan(value) else value


def _times(name: str, value: float, sd: float) -> float:
    """Return a number of a slope per unit as that per standard deviation."""
    return value if name in ("ddf", "pval", "tau") or isinstance(value, NotApplicable) else value * sd


def controlled(fit: Any, one: Moderator, sd: float) -> dict[str, dict[str, Any]]:
    """Return the adjusted means of a moderator, or its adjusted slopes, in a model with the other moderators.

    Levels of the others count as often as they occur, so that adjusted means can be read beside those of the levels.
    """
    if not one.levels:
        found = _slopes(fit, one.name, sd)
        return {
            level: {name: row[name] for name in (*CONTROLLED, *R_CONTROLLED) if name in row}
            for level, row in found.items()
        }
    means = marginal_means(fit, one.name, weights="proportional").tidy()
    why = NotApplicable("no effect has the combination of levels that this needs, or one cluster alone tells it")
    rows = means[list(CONTROLLED)].to_dict("records")
    made = [{name: why if math.isnan(row[name]) else row[name] for name in CONTROLLED} for row in rows]
    return dict(zip(map(_text, means[one.name]), made, strict=True))


def as_r(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return numbers on Fisher's z as correlations, reasons as they are."""
    return {new: z if isinstance(z := row[old], NotApplicable) else math.tanh(z) for new, old in names.items()}


def quietly(run: Callable[[], Any]) -> Any:
    """Return what a call gives; its warnings are notes of that."""
    with quiet():
        return run()


def asked(run: Callable[[], Any]) -> Any:
    """Return what a call gives, or the sentence in which it is refused."""
    try:
        return quietly(run)
    except AllianceMetaError as error:
        return str(error)


def gaps_between(mods: Sequence[Moderator], clusters: IntArray) -> Iterator[tuple[str, str, str, str, int, int]]:
    """Yield pairs of levels that no effect has together, with the clusters that each level has."""
    for one, other in combinations([mod for mod in mods if mod.levels], 2):
        for (a, first), (b, second) in product(enumerate(one.levels), enumerate(other.levels)):
            here, there = one.codes == a, other.codes == b
            if not (here & there).any():
                n_here, n_there = (int(np.unique(clusters[rows]).size) for rows in (here, there))
                yield one.name, first, other.name, second, n_here, n_there


def varies_within(one: Moderator, effects: EffectSizes, clusters: IntArray) -> int:
    """Return how many clusters have effects that differ in a moderator."""
    values = one.codes if one.levels else effects.moderators[one.name].to_numpy(dtype=float, na_value=np.nan)
    here = one.present
    return int((pd.Series(values[here]).groupby(clusters[here]).nunique() > 1).sum())
