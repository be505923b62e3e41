"""Questions that a claim is put to, each answered from rows of the registry, with the calculation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np

from alliance_meta.core.correlations.artifacts import spearman_brown
from alliance_meta.core.correlations.conversions import d_to_odds_ratio, d_to_r
from alliance_meta.tables.format import brief, fixed, thousands

if TYPE_CHECKING:
    import pandas as pd


RELATION = "alliance-outcome"

# Below it a standardised difference is taken for none. Cohen (1988) calls .20 small, and Wampold et al. (1997,
# doi:10.1037/0033-2909.122.3.203) leave no more than that between treatments which they call roughly equivalent.
MARGIN = 0.20
# What is called strong must be at least what Cohen (1988) calls medium, as a standardised difference.
STRONG = 0.50
ALPHA = 0.05
STANDARDISED = ("SMD", "d", "g")


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question: whether something said is so of somebody's result."""

    subject: str  # whose result, such as ``"Horvath et al. 2011"``
    statement: str  # what would have to be so of it, such as ``"explains 30%"``
    holds: bool | None  # whether it is; None if the registry cannot say
    calculation: str  # how the answer follows, with the numbers
    ids: tuple[str, ...] = ()  # entries of the registry that it rests on
    essential: bool = True  # whether the verdict rests on it; otherwise it is told beside


@dataclass(frozen=True, eq=False)
class Evidence:
    """The registry as the questions see it: results by entry, signs aligned, moderators, and names for readers.

    `margin` is the standardised difference below which there is none.
    """

    results: pd.DataFrame
    moderators: pd.DataFrame
    labels: Mapping[str, str]
    margin: float = MARGIN

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Every entry by its name."""
        rows: Any = self.results.to_dict("index")
        return dict(rows)

    @cached_property
    def told(self) -> list[dict[str, Any]]:
        """What the entries print of their moderators, row by row."""
        rows: Any = self.moderators.to_dict("records")
        return list(rows)

    def number(self, entry: str, column: str) -> float:
        """Return a number of an entry, NaN where there is none."""
        return float(self.entries.get(entry, {}).get(column, "nan"))

    def text(self, entry: str, column: str) -> str:
        """Return a text of an entry, empty where there is none."""
        text = self.entries.get(entry, {}).get(column)
        return text if isinstance(text, str) else ""

    def independent(self, entry: str) -> bool:
        """Return whether an entry was read elsewhere than on a page of the kind that makes popular claims."""
        return bool(self.entries.get(entry, {}).get("independent", True))

    def name(self, entry: str) -> str:
        """Return what readers call an entry."""
        return self.labels.get(entry, entry)

    def names(self, entries: Sequence[str]) -> str:
        """Return several names, each once."""
        return "; ".join(dict.fromkeys(self.name(entry) for entry in entries)) or "none"

    def said(self, entry: str) -> str:
        """Write an estimate with its interval, as in ``Horvath et al. 2011 .275 [.25, .30]``."""
        low, high = self.number(entry, "ci_low"), self.number(entry, "ci_high")
        interval = "" if np.isnan(low) or np.isnan(high) else f" [{short(low)}, {short(high)}]"
        return f"{self.name(entry)} {short(self.number(entry, 'estimate'))}{interval}"


Question = Callable[[Evidence], Iterator[Finding]]
P = ParamSpec("P")


def question(ask: Callable[Concatenate[Evidence, P], Iterator[Finding]]) -> Callable[P, Question]:
    """Make a question of the way it is answered: its arguments are given first, the evidence when it is asked."""

    @wraps(ask)
    def about(*args: P.args, **named: P.kwargs) -> Question:
        return lambda evidence: ask(evidence, *args, **named)

    return about


NOT_PRINTED = "prints no estimate where it was read"


def short(value: float) -> str:
    """Write a correlation with two decimals, or three where the third counts.

    >>> short(0.26), short(0.278), short(-0.124)
    ('.26', '.278', '-.124')
    """
    text = fixed(value, 3)
    text = text[:-1] if text.endswith("0") else text
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


@question
def positive(evidence: Evidence, *ids: str, relation: str = RELATION) -> Iterator[Finding]:
    """Ask of each entry whether its estimate, and its interval if printed, lies above 0.

    An entry of another relation is about something else: its answer is told beside. Where a p is printed in place of
    an interval, it decides.
    """
    for entry in ids:
        name, about = evidence.name(entry), evidence.text(entry, "relation")
        estimate, low = evidence.number(entry, "estimate"), evidence.number(entry, "ci_low")
        p = re.search(r"\bp\s*=\s*(\d?\.\d+)", evidence.text(entry, "notes"))
        if np.isnan(estimate):
            holds, calculation = None, f"{name} {NOT_PRINTED}"
        elif not np.isnan(low):
            holds = estimate > 0 and low > 0
            calculation = f"{evidence.said(entry)}: lower limit {short(low)} {_relation(low, 0)} 0"
        else:
            holds = estimate > 0 and (p is None or float(p[1]) < ALPHA)
            calculation = f"{evidence.said(entry)} {_relation(estimate, 0)} 0; "
            calculation += "no interval printed" + (f", p = {p[1]}" if p else "")
        matches = about in ("", relation)
        if not matches:
            calculation += f"; this is {about}, another construct"
        yield Finding(name, "above 0", holds, calculation, (entry,), matches)


@question
def poorer(evidence: Evidence, *ids: str, what: str) -> Iterator[Finding]:
    """Ask of each entry whether something goes with a poorer outcome: estimate and interval below 0."""
    for entry in ids:
        name, estimate = evidence.name(entry), evidence.number(entry, "estimate")
        high = evidence.number(entry, "ci_high")
        if np.isnan(estimate):
            holds, calculation = None, f"{name} {NOT_PRINTED}"
        else:
            holds = estimate < 0 and not high > 0
            where = "no interval printed" if np.isnan(high) else f"upper limit {short(high)} {_relation(high, 0)} 0"
            calculation = f"{evidence.said(entry)}: {where}"
        yield Finding(name, f"{what} goes with a poorer outcome", holds, calculation, (entry,))


@question
def compatible(evidence: Evidence, entry: str, reference: str) -> Iterator[Finding]:
    """Ask whether an entry agrees with another: intervals overlap, or the estimate lies in the other's interval."""
    own = [evidence.number(entry, name) for name in ("ci_low", "ci_high")]
    other = [evidence.number(reference, name) for name in ("ci_low", "ci_high")]
    estimate = evidence.number(entry, "estimate")
    if np.isnan([estimate, *other]).any():
        holds, how = None, "cannot be compared"
    elif np.isnan(own).any():
        holds = other[0] <= estimate <= other[1]
        how = f"the estimate lies {'inside' if holds else 'outside'} the interval"
    else:
        holds = own[0] <= other[1] and other[0] <= own[1]
        how = f"the intervals {'overlap' if holds else 'do not overlap'}"
    calculation = f"{evidence.said(entry)} beside {evidence.said(reference)}: {how}"
    statement = f"agrees with {evidence.name(reference)}"
    yield Finding(evidence.name(entry), statement, holds, calculation, (entry, reference))


@question
def no_difference(evidence: Evidence, *ids: str, what: str) -> Iterator[Finding]:
    """Ask of each printed difference whether it is none: equivalent within the margin, a difference, or neither."""
    for entry in ids:
        holds, calculation = _equivalence(evidence, entry)
        yield Finding(evidence.name(entry), what, holds, calculation, (entry,))


def _equivalence(evidence: Evidence, entry: str) -> tuple[bool | None, str]:
    name, margin = evidence.name(entry), evidence.margin
    value, low, high = (evidence.number(entry, column) for column in ("estimate", "ci_low", "ci_high"))
    if np.isnan([value, low, high]).any():
        return None, f"{name} prints no value and no interval; not significant is not the same as none"
    metric = evidence.text(entry, "metric")
    said = f"{name} {metric} = {fixed(value, 2)} [{fixed(low, 2)}, {fixed(high, 2)}]"
    if metric not in STANDARDISED:
        return None, f"{said}: in points of a scale, for which no margin is known"
    said += f", margin ±{fixed(margin, 2)}"
    if -margin < low and high < margin:
        return True, f"{said}: equivalent, the interval lies within the margin"
    if low > 0 or high < 0:
        return False, f"{said}: a difference, the interval excludes 0 and passes the margin"
    side = "below, so that noninferiority is not shown" if low <= -margin else "above"
    return None, f"{said}: cannot say, the interval includes 0 and passes the margin {side}"


@question
def counted(
    evidence: Evidence, entry: str, column: str, claimed: float, *, what: str, at_least: bool = False
) -> Iterator[Finding]:
    """Ask beside whether a number of studies or persons is as claimed; "more than" may stand in the remarks."""
    printed, name, least = evidence.number(entry, column), evidence.name(entry), ""
    statement = f"{'more than ' if at_least else ''}{thousands(claimed)} {what}"
    remark = re.search(r"more than ([\d,]+) (?:patients|clients)", evidence.text(entry, "notes"))
    if np.isnan(printed) and at_least and remark:
        printed, least = float(remark[1].replace(",", "")), "more than "
    if np.isnan(printed):
        calculation = f"{name}: the number of {what} is not in the registry"
        yield Finding(name, statement, None, calculation, (entry,), False)
        return
    holds = printed == claimed or (at_least and printed > claimed)
    if at_least and printed == claimed:
        holds = bool(least)
    yield Finding(name, statement, holds, f"{name}: {least}{thousands(printed)} {what}", (entry,), False)


@question
def strong(evidence: Evidence, *ids: str) -> Iterator[Finding]:
    """Ask of each printed difference whether it is strong: at least medium in the words of Cohen."""
    for entry in ids:
        name, value = evidence.name(entry), evidence.number(entry, "estimate")
        most = np.nanmax([value, evidence.number(entry, "ci_high")])
        bound = f"{short(STRONG)}, which Cohen calls medium"
        calculation = f"{evidence.said(entry)} {_relation(value, STRONG)} {bound}"
        if np.isnan(value):
            calculation = f"{name} {NOT_PRINTED}"
        elif value < STRONG <= most:
            calculation += "; the interval reaches it"
        yield Finding(name, "strong", None if np.isnan(value) else bool(value >= STRONG), calculation, (entry,))


@question
def outweighs(evidence: Evidence, alliance: str, treatments: str) -> Iterator[Finding]:
    """Ask whether the alliance shares as much variance with outcome as treatments make between each other at most."""
    r, d = evidence.number(alliance, "estimate"), evidence.number(treatments, "estimate")
    name, statement = evidence.name(alliance), "a share of outcome as large as the treatments'"
    if np.isnan([r, d]).any():
        lacking = treatments if np.isnan(d) else alliance
        calculation = f"{evidence.name(lacking)} {NOT_PRINTED}"
        yield Finding(name, statement, None, calculation, (alliance, treatments))
        return
    other = float(d_to_r(np.asarray(d), np.asarray(4.0)))
    calculation = (
        f"{name} {short(r)}² = {fixed(100 * r**2, 1)}%; {evidence.name(treatments)} at most d = {short(d)}, "
        f"r = d/√(d² + 4) = {short(other)}, r² = {fixed(100 * other**2, 1)}%"
    )
    calculation += "; shares of variance, and only treatments were assigned by lot"
    yield Finding(name, statement, r**2 >= other**2, calculation, (alliance, treatments))


@question
def sessions_needed(evidence: Evidence, entry: str, claimed: int) -> Iterator[Finding]:
    """Ask, for each dependability a source names, whether it takes as many sessions as claimed; by formula beside."""
    name, single = evidence.name(entry), evidence.number(entry, "estimate")
    rows = _rows(evidence, [entry], r"sessions needed")
    for row in rows:
        wanted = str(row["moderator"]).rsplit(" ", 1)[1]
        statement = f"at least {claimed} sessions for a dependability of {wanted}"
        calculation = f"{name}: {row['level']} for {wanted}"
        yield Finding(name, statement, int(row["level"]) >= claimed, calculation, (entry,))
    if not rows:
        calculation = f"{name} says of no dependability how many sessions it takes"
        yield Finding(name, f"at least {claimed} sessions", None, calculation, (entry,))
    if not np.isnan(single):
        means = [float(spearman_brown(single, np.asarray(float(m)))) for m in (2, claimed)]
        calculation = (
            f"by Spearman and Brown, from {short(single)} for one session, the mean of 2 has {fixed(means[0], 2)} "
            f"and that of {claimed} {fixed(means[1], 2)}"
        )
        yield Finding("the formula", "above .90", means[1] > 0.90, calculation, (entry,), False)


@question
def levels_above(evidence: Evidence, entry: str, pattern: str, *levels: str) -> Iterator[Finding]:
    """Ask of each level of a moderator whether its printed estimate lies above 0."""
    rows, name = _rows(evidence, [entry], pattern), evidence.name(entry)
    for level in levels:
        value = _level(rows, level)
        said = f"{name}, {level}"
        if value is None:
            yield Finding(said, "above 0", None, f"{said}: no value printed", (entry,))
        else:
            calculation = f"{said} {short(value)} {_relation(value, 0)} 0; no interval printed"
            yield Finding(said, "above 0", value > 0, calculation, (entry,))


@question
def shares(evidence: Evidence, *ids: str, claimed: float) -> Iterator[Finding]:
    """Ask of each entry whether its shared variance, r squared, comes up to a claimed share at the upper limit."""
    statement = f"explains {fixed(100 * claimed, 0)}%"
    for entry in ids:
        r, high = evidence.number(entry, "estimate"), evidence.number(entry, "ci_high")
        name = evidence.name(entry)
        if np.isnan(r):
            yield Finding(name, statement, None, f"{name} {NOT_PRINTED}", (entry,))
            continue
        most = max(abs(r), 0.0 if np.isnan(high) else abs(high))
        calculation = f"{name} {short(r)}² = {fixed(100 * r**2, 1)}%"
        if most > abs(r):
            calculation += f", at the upper limit {short(high)}² = {fixed(100 * most**2, 1)}%"
        calculation += (
            f" {_relation(most**2, claimed)} {fixed(100 * claimed, 0)}%, which needs r = {short(claimed**0.5)}"
        )
        yield Finding(name, statement, most**2 >= claimed, calculation, (entry,))


@question
def odds(evidence: Evidence, entry: str, low: float, high: float) -> Iterator[Finding]:
    """Ask whether d as an odds ratio lies in a claimed span, and as a ratio of chances where half succeed."""
    d, name = evidence.number(entry, "estimate"), evidence.name(entry)
    statement = f"{brief(low)} to {brief(high)} times"
    if np.isnan(d):
        yield Finding("the odds", statement, None, f"{name} {NOT_PRINTED}", (entry,))
        return
    ratio = float(d_to_odds_ratio(np.asarray(d)))
    calculation = f"{name} d = {short(d)}: odds ratio exp(d π/√3) = {fixed(ratio, 2)}"
    yield Finding("the odds", statement, low <= ratio <= high, calculation, (entry,))
    chance = 2.0 * ratio / (1.0 + ratio)
    calculation = f"where half complete with the lower alliance, the chance is {fixed(chance, 2)} times as high"
    if ratio > low > 1:
        rare = (ratio - low) / (low * (ratio - 1.0))
        calculation += f"; it is {brief(low)} times as high only where fewer than {fixed(100 * rare, 0)}% complete"
    yield Finding("the chances", statement, low <= chance <= high, calculation, (entry,))


NEGATIVE = re.compile(r"\bnot\b|\bno difference\b|remains consistent", re.IGNORECASE)
AFFIRMATIVE = re.compile(r"significant|moderat|varied|stronger|weaker|[<>]", re.IGNORECASE)


def moderates(row: Any, *, alpha: float = ALPHA) -> bool | None:
    """Return whether a moderator's row says that it moderates; None where it says nothing.

    A printed p of the moderator decides, else the words. The p beside one level's estimate is that level's own.
    """
    tested = isinstance(row["test_statistic"], str)
    if not tested and not np.isnan(row["estimate"]):
        return None
    p = re.search(r"\d*\.\d+", str(row["p"]))
    if p is not None:
        return float(p[0]) < alpha or ("<" in str(row["p"]) and float(p[0]) <= alpha)
    said = " ".join(str(row[name]) for name in ("level", "test_statistic") if isinstance(row[name], str))
    if NEGATIVE.search(said):
        return False
    return True if AFFIRMATIVE.search(said) else None


@question
def unmoderated(
    evidence: Evidence, entry: str, topic: str, pattern: str, *, relation: str = RELATION
) -> Iterator[Finding]:
    """Ask whether an entry, and every later synthesis that looked, found no moderation by a topic.

    Where none looked, only the entry decides.
    """
    name, statement = evidence.name(entry), f"regardless of {topic}"
    own = [found for row in _rows(evidence, [entry], pattern) if (found := moderates(row)) is not None]
    said = f"{'a' if any(own) else 'not a'} moderator" if own else "nothing is said of it"
    yield Finding(name, statement, not any(own) if own else None, f"{topic} in {name}: {said}", (entry,))
    later = evidence.results[evidence.results["relation"] == relation]
    later = later[later["year"] > evidence.number(entry, "year")]
    yes, no = _votes(evidence, list(later.index), pattern)
    calculation = f"{topic} later: a moderator in {evidence.names(yes)}; not in {evidence.names(no)}"
    looked = bool(yes or no)
    yield Finding("later syntheses", statement, not yes if looked else None, calculation, (*yes, *no), looked)


@question
def higher(
    evidence: Evidence, entry: str, topic: str, pattern: str, levels: tuple[tuple[str, str], tuple[str, str]]
) -> Iterator[Finding]:
    """Ask whether one level of a moderator has the higher correlation; None where its values are not printed.

    Each level is its name for readers and the pattern by which its rows are known.
    """
    rows, name = _rows(evidence, [entry], pattern), evidence.name(entry)
    (first, is_first), (second, is_second) = levels
    high, low = _level(rows, is_first), _level(rows, is_second)
    statement = f"higher for {first} than for {second}"
    if high is None or low is None:
        found = "a difference" if any(moderates(row) for row in rows) else "no difference"
        calculation = f"{name} prints {found} by {topic} and no value per level: the direction cannot be told"
        yield Finding(name, statement, None, calculation, (entry,))
    else:
        calculation = f"{name}: {first} {short(high)}, {second} {short(low)}"
        yield Finding(name, statement, high > low, calculation, (entry,))


@question
def smallest(evidence: Evidence, *ids: str, population: str) -> Iterator[Finding]:
    """Ask whether the correlations of these entries are below all others of a population."""
    table = evidence.results
    wanted = (table["relation"] == RELATION) & (table["metric"] == "r") & ~table.index.isin(ids)
    wanted &= table["population"].str.contains(population, na=False)
    others = table["estimate"][wanted].dropna()
    for entry in ids:
        r, name = evidence.number(entry, "estimate"), evidence.name(entry)
        if np.isnan(r):
            yield Finding(name, "the smallest", None, f"{name} prints no correlation where it was read", (entry,))
            continue
        least = str(others.idxmin())
        calculation = f"{name} {short(r)}; the least of {len(others)} others is {evidence.said(least)}"
        yield Finding(name, "the smallest", bool(r < others.min()), calculation, (entry,))


@question
def missing(evidence: Evidence, what: str, pattern: str, remark: str) -> Iterator[Finding]:
    """Say that the registry holds no entry of a kind that the claim needs; with one, that it has to be read."""
    table = evidence.results
    found = [str(one) for one in table.index[table["relation"].str.contains(pattern, na=False)]]
    held = f"{evidence.names(found)}, to be read by hand" if found else f"no {what}"
    yield Finding("the registry", what, None, f"the registry holds {held}; {remark}", tuple(found))


@question
def beside(evidence: Evidence, question: Question) -> Iterator[Finding]:
    """Ask a question whose answer is told without entering the verdict."""
    for one in question(evidence):
        yield replace(one, essential=False)


def _rows(evidence: Evidence, ids: Sequence[str], pattern: str) -> list[Mapping[str, Any]]:
    """Return what the entries print of a topic; a row may name the common stem of several entries."""
    topic = re.compile(pattern, re.IGNORECASE)
    told = (row for row in evidence.told if isinstance(row["moderator"], str) and topic.search(row["moderator"]))
    return [row for row in told if any(_of(one, row["id"]) for one in ids)]


def _of(entry: str, stem: str) -> bool:
    return entry == stem or entry.startswith(f"{stem}_")


def _votes(evidence: Evidence, ids: Sequence[str], pattern: str) -> tuple[list[str], list[str]]:
    """Return the entries that call a topic a moderator, and those that looked and do not."""
    rows = _rows(evidence, ids, pattern)
    yes, no = [], []
    for entry in ids:
        said = [moderates(row) for row in rows if _of(entry, row["id"])]
        if any(said):
            yes.append(entry)
        elif False in said:
            no.append(entry)
    return yes, no


def _level(rows: Sequence[Any], name: str) -> float | None:
    values = [float(row["estimate"]) for row in rows if re.search(name, str(row["level"]), re.IGNORECASE)]
    found = [value for value in values if not np.isnan(value)]
    return float(np.mean(found)) if found else None


def _relation(value: float, bound: float) -> str:
    return ">" if value > bound else "<" if value < bound else "="
