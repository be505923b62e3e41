"""The rows of a table of moderators: counts, means or slopes, tests, empty cells, all by one working model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import statistic, two_sided_p
from alliance_meta.design import is_number, levels_of
from alliance_meta.effects.dependent.groups import ROWS, as_level, read_clusters
from alliance_meta.effects.studies import DEPENDENT, STUDY, listed
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaError, InputError, quiet
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import DEFAULT_RHO, che, sce
from alliance_meta.models.subgroups import SharedTau2, SubgroupResults, subgroups
from alliance_meta.moderators.comparisons import Adjustment, adjust_pvalues
from alliance_meta.moderators.grid import level_values
from alliance_meta.moderators.marginal import NO_PREDICTION, marginal_means, marginal_slopes
from alliance_meta.notes import NotApplicable, Note, RobustType, check_level, check_option, did_you_mean
from alliance_meta.results.coefficients import WaldTest
from alliance_meta.results.fit import frame_of
from alliance_meta.results.robust import FEW_DF, RobustResults
from alliance_meta.tables.format import brief

TableModel = Literal["che", "random", "multilevel"]
ONE_TAU2 = "one tau2 for all levels of a moderator"
OWN_TAU2 = {
    "che": "subgroup correlated effects (SCE): every level its own tau2, errors of two levels independent",
    "random": "every level fitted by itself, with its own tau2; means compared with weights 1 / se^2 (Welch)",
}


@dataclass(frozen=True, slots=True)
class Working:
    """Which model every row of the table is fitted with; see `moderator_table`."""

    model: TableModel = "che"
    tau2: SharedTau2 = "common"
    cluster: str = STUDY
    rho: float = DEFAULT_RHO
    type: RobustType = "CR2"
    method: Any = "REML"
    test: Any = None
    level: float = 0.95

    def check(self) -> None:
        """Raise an `InputError` for choices that do not go together."""
        check_option("model", self.model, TableModel)
        check_option("tau2", self.tau2, SharedTau2)
        check_level(self.level)
        if self.model == "multilevel" and self.tau2 == "separate":
            raise InputError(
                "tau2='separate' with model='multilevel': a study may have effects at several levels, so that models "
                "fitted level by level cannot be compared; take model='che', whose separate tau2 (SCE) can"
            )
        if self.model == "che" and self.test is not None:
            raise InputError(f"test={self.test!r}: model='che' has its own, CR2 with Satterthwaite df; leave test out")

    @property
    def robust(self) -> bool:
        """Whether inference rests on how whole clusters disagree."""
        return self.model == "che"

    def fit(self, effects: EffectSizes, mods: str = "1") -> Any:
        """Fit one mean, or a meta-regression, with one tau2.

        Where no cluster has two effects, variances between and within clusters cannot be told apart, and only their
        sum counts: the fit is then that of the random-effects model, the same with fewer unknowns.
        """
        common = {"mods": mods, "method": self.method, "level": self.level}
        if self.model == "random":
            return RandomEffectsModel(effects, test=self.test or "knha", **common).fit()
        if read_clusters(effects, self.cluster).n == effects.k:
            alone = RandomEffectsModel(effects, test=self.test or "t", **common).fit()
            return alone.robust(cluster=self.cluster, type=self.type) if self.robust else alone
        if self.model == "multilevel":
            random = f"{self.cluster}/{ROWS}"
            return MultilevelModel(effects, random=random, test=self.test or "t", **common).fit()
        return che(effects, cluster=self.cluster, rho=self.rho, type=self.type, **common)

    def apart(self, effects: EffectSizes, name: str, term: str) -> RobustResults | SubgroupResults:
        """Fit the levels of a moderator with a tau2 of their own each; `name` is a plain name for ``che``."""
        if self.model == "random":
            return subgroups(self.fit(effects), by=name, tau2="separate")
        options: Mapping[str, Any] = {"method": self.method, "level": self.level}
        return sce(effects, subgroup=name, mods=term, cluster=self.cluster, rho=self.rho, type=self.type, **options)

    def words(self) -> str:
        """Say in one sentence which model the rows were fitted with."""
        said = {
            "che": f"correlated and hierarchical effects (rho = {brief(self.rho)}, {self.method}), {self.type} by "
            f"{self.cluster} with Satterthwaite df",
            "random": f"random effects ({self.method}, {self.test or 'knha'})",
            "multilevel": f"random effects of {self.cluster} and of effects within ({self.method}, "
            f"{self.test or 't'}), sampling errors independent",
        }
        return f"{said[self.model]}; {ONE_TAU2 if self.tau2 == 'common' else OWN_TAU2[self.model]}"


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
