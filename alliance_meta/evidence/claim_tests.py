"""Questions that a claim is put to, each answered from rows of the registry, with the calculation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta.core.correlations.meaning import d_to_odds_ratio
from alliance_meta.evidence.printed import PrintedResult
from alliance_meta.evidence.scan import scan_into
from alliance_meta.tables.format import brief, fixed, thousands

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question: whether something said is so of somebody's result.

    Attributes
    ----------
    subject : str
        Whose result, such as ``"Horvath et al. 2011"``.
    statement : str
        What would have to be so of it, such as ``"explains 30 %"``.
    holds : bool or None
        Whether it is; None if the registry cannot say.
    calculation : str
        How the answer follows, with the numbers.
    ids : tuple of str
        Entries of the registry that it rests on.
    essential : bool
        Whether the verdict rests on it; otherwise it is told beside.
    """

    subject: str
    statement: str
    holds: bool | None
    calculation: str
    ids: tuple[str, ...] = ()
    essential: bool = True


@dataclass(frozen=True, eq=False)
class Evidence:
    """The registry as the questions see it: results by entry, signs aligned, moderators, and names for readers."""

    results: pd.DataFrame
    moderators: pd.DataFrame
    labels: Mapping[str, str]

    def row(self, entry: str) -> Any:
        """Return an entry, None if the registry has none of this name."""
        return self.results.loc[entry] if entry in self.results.index else None

    def number(self, entry: str, column: str) -> float:
        """Return a number of an entry, NaN where there is none."""
        row = self.row(entry)
        return float("nan") if row is None else float(row[column])

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
NOT_PRINTED = "prints no estimate where it was read"


def short(value: float) -> str:
    """Write a correlation with two decimals, or three where the third counts.

    >>> short(0.26), short(0.278), short(-0.124)
    ('.26', '.278', '-.124')
    """
    text = fixed(value, 3)
    text = text[:-1] if text.endswith("0") else text
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def positive(*ids: str) -> Question:
    """Ask of each entry whether its estimate, and its interval if printed, lies above 0."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        for entry in ids:
            name = evidence.name(entry)
            estimate, low = evidence.number(entry, "estimate"), evidence.number(entry, "ci_low")
            if np.isnan(estimate):
                yield Finding(name, "above 0", None, f"{name} {NOT_PRINTED}", (entry,))
            elif np.isnan(low):
                calculation = f"{evidence.said(entry)} {_relation(estimate, 0)} 0; no interval printed"
                yield Finding(name, "above 0", estimate > 0, calculation, (entry,))
            else:
                calculation = f"{evidence.said(entry)}: lower limit {short(low)} {_relation(low, 0)} 0"
                yield Finding(name, "above 0", estimate > 0 and low > 0, calculation, (entry,))

    return ask


def compatible(entry: str, reference: str) -> Question:
    """Ask whether an entry agrees with another: intervals overlap, or the estimate lies in the other's interval."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
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

    return ask


def no_difference(entry: str, what: str) -> Question:
    """Ask whether a printed difference may be none; its value may stand in the remarks of the entry."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        name, row = evidence.name(entry), evidence.row(entry)
        remark = scan_into(PrintedResult({}), str(row["notes"]) if row is not None else "")
        value, low, high = (remark.get(one) for one in ("estimate", "ci_lb", "ci_ub"))
        if value is None or low is None or high is None:
            calculation = f"{name} prints no value and no interval; not significant is not the same as none"
            yield Finding(name, what, None, calculation, (entry,))
            return
        holds = low.middle <= 0 <= high.middle
        calculation = f"{name} {remark.say('estimate')} {remark.interval()}: {'includes' if holds else 'excludes'} 0"
        yield Finding(name, what, holds, calculation, (entry,))

    return ask


def counted(entry: str, column: str, claimed: float, *, what: str, at_least: bool = False) -> Question:
    """Ask beside whether a number of studies or persons is as claimed."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        printed, name = evidence.number(entry, column), evidence.name(entry)
        statement = f"{'more than ' if at_least else ''}{thousands(claimed)} {what}"
        if np.isnan(printed):
            calculation = f"{name}: the number of {what} is not in the registry"
            yield Finding(name, statement, None, calculation, (entry,), False)
            return
        holds = printed > claimed if at_least else printed == claimed
        yield Finding(name, statement, holds, f"{name}: {thousands(printed)} {what}", (entry,), False)

    return ask


def shares(*ids: str, claimed: float) -> Question:
    """Ask of each entry whether its shared variance, r squared, comes up to a claimed share at the upper limit."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        statement = f"explains {fixed(100 * claimed, 0)} %"
        for entry in ids:
            r, high = evidence.number(entry, "estimate"), evidence.number(entry, "ci_high")
            name = evidence.name(entry)
            if np.isnan(r):
                yield Finding(name, statement, None, f"{name} {NOT_PRINTED}", (entry,))
                continue
            most = max(abs(r), 0.0 if np.isnan(high) else abs(high))
            calculation = f"{name} {short(r)}² = {fixed(100 * r**2, 1)} %"
            if most > abs(r):
                calculation += f", at the upper limit {short(high)}² = {fixed(100 * most**2, 1)} %"
            calculation += (
                f" {_relation(most**2, claimed)} {fixed(100 * claimed, 0)} %, which needs r = {short(claimed**0.5)}"
            )
            yield Finding(name, statement, most**2 >= claimed, calculation, (entry,))

    return ask


def odds(entry: str, low: float, high: float) -> Question:
    """Ask whether d as an odds ratio lies in a claimed span, and as a ratio of chances where half succeed."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
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
            calculation += f"; it is {brief(low)} times as high only where fewer than {fixed(100 * rare, 0)} % complete"
        yield Finding("the chances", statement, low <= chance <= high, calculation, (entry,))

    return ask


NEGATIVE = re.compile(r"\bnot\b|\bno difference\b|remains consistent", re.IGNORECASE)
AFFIRMATIVE = re.compile(r"significant|moderat|varied|stronger|weaker|[<>]", re.IGNORECASE)


def moderates(row: Any, *, alpha: float = 0.05) -> bool | None:
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


def unmoderated(entry: str, topic: str, pattern: str, *, relation: str = "alliance-outcome") -> Question:
    """Ask whether an entry, and every later synthesis that looked, found no moderation by a topic."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        name, statement = evidence.name(entry), f"regardless of {topic}"
        own = [found for row in _rows(evidence, [entry], pattern) if (found := moderates(row)) is not None]
        said = f"{'a' if any(own) else 'not a'} moderator" if own else "nothing is said of it"
        yield Finding(name, statement, not any(own) if own else None, f"{topic} in {name}: {said}", (entry,))
        later = evidence.results[evidence.results["relation"] == relation]
        later = later[later["year"] > evidence.number(entry, "year")]
        yes, no = _votes(evidence, list(later.index), pattern)
        calculation = f"{topic} later: a moderator in {evidence.names(yes)}; not in {evidence.names(no)}"
        yield Finding("later syntheses", statement, not yes if yes or no else None, calculation, (*yes, *no))

    return ask


def higher(entry: str, topic: str, pattern: str, levels: tuple[tuple[str, str], tuple[str, str]]) -> Question:
    """Ask whether one level of a moderator has the higher correlation; None where its values are not printed.

    Each level is its name for readers and the pattern by which its rows are known.
    """

    def ask(evidence: Evidence) -> Iterator[Finding]:
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

    return ask


def smallest(*ids: str, population: str) -> Question:
    """Ask whether the correlations of these entries are below all others of a population."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        table = evidence.results
        wanted = (table["relation"] == "alliance-outcome") & (table["metric"] == "r") & ~table.index.isin(ids)
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

    return ask


def missing(what: str, pattern: str, remark: str) -> Question:
    """Say that the registry holds no entry of a kind that the claim needs; with one, that it has to be read."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        table = evidence.results
        found = [str(one) for one in table.index[table["relation"].str.contains(pattern, na=False)]]
        held = f"{evidence.names(found)}, to be read by hand" if found else f"no {what}"
        yield Finding("the registry", what, None, f"the registry holds {held}; {remark}", tuple(found))

    return ask


def beside(question: Question) -> Question:
    """Ask a question whose answer is told without entering the verdict."""

    def ask(evidence: Evidence) -> Iterator[Finding]:
        for one in question(evidence):
            yield replace(one, essential=False)

    return ask


def _rows(evidence: Evidence, ids: Sequence[str], pattern: str) -> list[Any]:
    table = evidence.moderators
    wanted = table[table["moderator"].str.contains(pattern, case=False, na=False)]
    wanted = wanted[[any(_of(one, stem) for one in ids) for stem in wanted["id"]]]
    return [row for _, row in wanted.iterrows()]


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
