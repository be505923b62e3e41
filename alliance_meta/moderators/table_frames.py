"""The frames of a table of moderators: a row for each level or slope, a row for each test, and the empty cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.studies import DEPENDENT, listed
from alliance_meta.effects.table import EffectSizes
from alliance_meta.moderators.comparisons import Adjustment, adjust_pvalues
from alliance_meta.moderators.table_rows import (
    AS_R,
    CONTROLLED,
    NUMBERS,
    PER_SD,
    PER_UNIT,
    R_CONTROLLED,
    Answer,
    Moderator,
    answer,
    as_r,
    asked,
    controlled,
    gaps_between,
    overall,
    quietly,
    varies_within,
)
from alliance_meta.moderators.working import Working
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.results.coefficients import WaldTest
from alliance_meta.results.fit import frame_of
from alliance_meta.results.robust import FEW_DF

OVERALL, ALL, EMPTY = "Overall", "all effects", "no value"
GAPS = ("moderator1", "level1", "moderator2", "level2", "studies1", "studies2")
# The note of a model whose sampling errors have an assumed correlation.
ASSUMED = "assumed-V"
# What fits say of single coefficients; here rows say it themselves, or one note for all.
OF_COEFFICIENTS = ("few-df", "one-cluster-term", "dropped-rows", "singleton-clusters", "single-effect-level", DEPENDENT)
NO_DF2 = NotApplicable("chi-squared has none")
OF_SLOPES = NotApplicable("of continuous moderators only")


@dataclass(frozen=True, eq=False)
class Fitted:
    """The models behind a table."""

    effects: EffectSizes
    working: Working
    mods: tuple[Moderator, ...]
    clusters: IntArray  # (k,)
    least: int  # clusters that a level must have
    whole: Any  # of all effects, without moderators
    own: Mapping[str, Answer | str]  # moderator -> what its model says, or why there is none
    joint: Any  # with all moderators, or why there is none

    def kept(self, one: Moderator) -> Mask:
        """Return the effects that take part in a moderator's test."""
        return one.kept(one.present, self.clusters, self.least)


def fit_all(
    effects: EffectSizes, working: Working, mods: tuple[Moderator, ...], *, least: int, control: bool
) -> Fitted:
    """Fit the mean of all effects, every moderator by itself, and all of them together."""
    clusters = read_clusters(effects, working.cluster).codes
    whole = quietly(lambda: working.fit(effects))
    fitted = Fitted(effects, working, mods, clusters, least, whole, {}, "control=False")
    fitted = replace(fitted, own={one.name: _alone(fitted, one) for one in mods})
    return replace(fitted, joint=_joint(fitted)) if control else fitted


def _alone(fitted: Fitted, one: Moderator) -> Answer | str:
    rows = fitted.kept(one)
    if not one.present.any():
        return "no effect has a value"
    there = np.unique(one.codes[rows]).size
    if one.levels and there < 2:
        few = f" that {fitted.least} studies or more have" if fitted.least > 1 else ""
        return f"{there or 'no'} level{few}: nothing to compare"
    part, baseline = fitted.effects.take(rows), fitted.whole if rows.all() else None
    found: Answer | str = asked(lambda: answer(fitted.working, part, one, baseline))
    return found


def _joint(fitted: Fitted) -> Any:
    """Return the model with all moderators, of effects that have them all, or why there is none."""
    mods = [one for one in fitted.mods if isinstance(fitted.own[one.name], Answer)]
    if len(mods) < 2:
        return "there is no other moderator to control for"
    rows, before = np.ones(fitted.effects.k, dtype=bool), -1
    while before != rows.sum():  # a level may fall below `least` where others are missing
        before = int(rows.sum())
        for one in mods:
            rows = one.kept(rows, fitted.clusters, fitted.least)
    if not rows.any():
        return "no effect has a value of every moderator"
    part = fitted.effects.take(rows)
    varying = [one for one in mods if one.varies(part, one.codes[rows])]
    if len(varying) < 2:
        named = ", ".join(one.name for one in mods if one not in varying)
        return f"{named} does not vary among the {part.k} effects that have every moderator"
    return asked(lambda: fitted.working.fit(part, " + ".join(one.term for one in varying)))


def frame_of_rows(fitted: Fitted) -> pd.DataFrame:
    """Return one row per level or slope, after one for all effects."""
    effects, whole, joint = fitted.effects, fitted.whole, fitted.joint
    first = {"kind": "overall", "k": effects.k, **effects.counts, **overall(whole), "tau": whole.tau}
    made, keys = [_filled(first, effects.measure, {}, "")], [(OVERALL, ALL)]
    for one in fitted.mods:
        ours = fitted.own[one.name]
        sd = ours.more.get("sd", 1.0) if isinstance(ours, Answer) else 1.0
        other = joint if isinstance(joint, str) else asked(partial(controlled, joint, one, sd))
        slopes = (PER_UNIT, PER_SD) if one.present.any() else (EMPTY,)
        for at, label in enumerate(one.levels or slopes):
            part = effects.take(one.codes == (at if one.levels else 0))
            numbers = {} if isinstance(ours, str) else ours.rows.get(label, {})
            why = "" if numbers else ours if isinstance(ours, str) else f"fewer than {fitted.least} studies"
            row = {"kind": "level" if one.levels or label == EMPTY else "slope", "k": part.k, **part.counts, **numbers}
            made.append(_filled(row, effects.measure, other, why, label))
            keys.append((one.name, label))
    return frame_of(made, index=pd.MultiIndex.from_tuples(keys, names=["moderator", "level"]))


def _filled(row: dict[str, Any], measure: str, other: Any, why: str, label: str = "") -> dict[str, Any]:
    """Return a row with every column; a number that is not there says why."""
    gone = NotApplicable(why or "this row has none")
    row = {**dict.fromkeys((*NUMBERS, "tau"), gone), **row}
    there = other.get(label) if isinstance(other, Mapping) else None
    lacking = NotApplicable(other if isinstance(other, str) else "this row is not in the model with all moderators")
    adjusted = dict.fromkeys((*CONTROLLED, *R_CONTROLLED), lacking) if there is None else dict(there)
    names = list(CONTROLLED)
    if measure == "ZCOR":
        row |= {new: value for new, value in as_r(row, AS_R).items() if new not in row}
        adjusted |= {new: value for new, value in as_r(adjusted, R_CONTROLLED).items() if new not in adjusted}
        names += R_CONTROLLED
    order = ("kind", "k", "studies", "people", *NUMBERS, *(AS_R if measure == "ZCOR" else ()), "tau")
    return {name: row[name] for name in order} | {f"{name}_controlled": adjusted[name] for name in names} | {"why": why}


def frame_of_tests(fitted: Fitted, adjust: Adjustment) -> pd.DataFrame:
    """Return one row per moderator."""
    made = [_test_row(fitted, one) for one in fitted.mods]
    adjusted = adjust_pvalues([row["pval"] for row in made], method=adjust)
    for row, p in zip(made, adjusted, strict=True):
        row["pval_adjusted"] = row["pval"] if math.isnan(p) else float(p)
    return frame_of(made, index=pd.Index([one.name for one in fitted.mods], name="moderator"))


def _test_row(fitted: Fitted, one: Moderator) -> dict[str, Any]:
    ours, jointly = fitted.own[one.name], _jointly(fitted.joint, one)
    kept = one.present if isinstance(ours, str) else fitted.kept(one)
    part = fitted.effects.take(kept)
    return {
        "kind": "categorical" if one.levels else "continuous",
        "k": part.k,
        **part.counts,
        "missing": int((~one.present).sum()),
        "left_out": int((one.present & ~kept).sum()),
        "within": varies_within(one, fitted.effects, fitted.clusters),
        **_tested(ours, fitted.working),
        **{f"{name}_controlled": value for name, value in _numbers_of(jointly).items()},
        "why": _why(ours if isinstance(ours, str) else ours.test),
        "why_controlled": _why(jointly),
    }


def _jointly(joint: Any, one: Moderator) -> Any:
    """Return the test of a moderator in the model with all, or why there is none."""
    if isinstance(joint, str):
        return joint
    term = one.term.replace("`", "")
    if term not in joint.design.terms:
        return f"it does not vary among the {joint.k} effects that have every moderator, or has no test of its own"
    return asked(lambda: joint.test(term))


def _tested(ours: Answer | str, working: Working) -> dict[str, Any]:
    if isinstance(ours, str):
        gone = NotApplicable(ours)
        return {
            "test": "",
            **_numbers_of(ours),
            "pval_adjusted": gone,
            "R2": gone,
            "tau": gone,
            "mean": OF_SLOPES,
            "sd": OF_SLOPES,
        }
    numbers = _numbers_of(ours.test)
    name = "HTZ" if working.robust else "Q" if isinstance(numbers["df2"], NotApplicable) else "F"
    shown = {"mean": OF_SLOPES, "sd": OF_SLOPES, **ours.more}
    return {"test": name, **numbers, "pval_adjusted": math.nan, "R2": ours.R2, "tau": ours.tau, **shown}


def _numbers_of(test: WaldTest | str) -> dict[str, Any]:
    """Return a test by the names of its columns, each number that is missing with the reason."""
    if isinstance(test, str):
        return dict.fromkeys(("stat", "df1", "df2", "pval"), NotApplicable(test))
    pval = test.pval if test.pval == test.pval else test.stat
    return {"stat": test.stat, "df1": test.df1, "df2": NO_DF2 if test.df2 is None else test.df2, "pval": pval}


def _why(test: WaldTest | str) -> str:
    if isinstance(test, str):
        return test
    return test.stat.reason if isinstance(test.stat, NotApplicable) else ""


def frame_of_gaps(mods: Sequence[Moderator], clusters: IntArray) -> pd.DataFrame:
    """Return the pairs of levels that no effect has together, those first that most studies might have filled."""
    found = sorted(gaps_between(mods, clusters), key=lambda row: (-row[4] * row[5], row[:4]))
    return pd.DataFrame(found, columns=list(GAPS))


def notes_of(fitted: Fitted, frame: pd.DataFrame, tests: pd.DataFrame) -> Iterator[Note]:
    """Yield what the models said, and what must be said of rows."""
    yield from _heard(fitted)
    few = dict.fromkeys(_called(*key) for key, df in zip(frame.index, frame["ddf"], strict=True) if df < FEW_DF)
    few |= dict.fromkeys(f"the test of {name}" for name, df in tests["df2"].items() if df < FEW_DF)
    if few:
        message = (
            f"Fewer than {FEW_DF} degrees of freedom: {listed(list(few))}. Do not trust these p-values and intervals "
            "(Tipton 2015, doi:10.1037/met0000011)."
        )
        yield Note("few-df", message)
    coded = [one for one in fitted.mods if not one.levels and one.present.any() and one.few_whole(fitted.effects)]
    if coded:
        message = (
            f"Few whole numbers, taken as amounts, with a slope: {listed([one.name for one in coded])}. Where they are "
            f"codes of categories, write 'C({coded[0].name})'."
        )
        yield Note("numbers-as-codes", message)
    for one in fitted.mods:
        out = one.present & ~fitted.kept(one)
        if out.any():
            levels = [level for at, level in enumerate(one.levels) if (one.codes[out] == at).any()]
            message = (
                f"{one.name}: levels of fewer than {fitted.least} studies are counted, but not in the test "
                f"(k = {int(out.sum())}): {listed(levels)}."
            )
            yield Note("small-levels", message)


def _called(name: str, level: str) -> str:
    return name if level in (ALL, PER_UNIT, PER_SD) else f"{name} {level}"


def _heard(fitted: Fitted) -> Iterator[Note]:
    """Yield what the models said of themselves, each sentence once, after those who said it."""
    heard = {"": fitted.whole.notes}
    heard |= {name: ours.notes for name, ours in fitted.own.items() if isinstance(ours, Answer)}
    heard |= {} if isinstance(fitted.joint, str) else {"all moderators together": fitted.joint.notes}
    labels: dict[Note, list[str]] = {}
    for name, notes in heard.items():
        for note in notes:
            # What the model of all effects assumes is said once, for all.
            if note.code not in OF_COEFFICIENTS and (not name or note.code != ASSUMED):
                labels.setdefault(note, []).append(name)
    for note, names in labels.items():
        yield Note(note.code, f"{', '.join(names)}: {note.message}" if names[0] else note.message)
