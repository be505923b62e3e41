"""Read printed statistics out of text, a whole document or one line."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliance_meta.errors import InputError
from alliance_meta.evidence.printed import COMPARED as QUANTITIES
from alliance_meta.evidence.printed import (
    COUNTS,
    POSITIVE,
    RENAMED,
    PrintedNumber,
    PrintedResult,
    _counted,
    read_number,
    read_printed,
)

IntArray = NDArray[np.intp]

# Signs that the extraction of text from a PDF leaves behind, and rare dashes and blanks; one character for one, so
# that places in the text stay what they are.
CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣－Ϫ", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u00ad\t\r\n\f\v", " "),
        **dict.fromkeys("ϭ＝", "="),
        **dict.fromkeys("Ͻ＜", "<"),
        **dict.fromkeys("Ͼ＞", ">"),
        "²": "2",
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "∶": ":",
    }
)

# With a decimal point, or with a decimal comma where it can be nothing else: 0,05 and 2,09, while 1,234 may be a
# thousand and more. No number ends before a comma that digits follow, or 0,05 would be read as 0.
_POINT = r"(?:0{0,1}\.\d{1,20}|\d{1,20}\.(?!\d{3},\d)\d{1,20})(?!\d|\.\d)"
_COMMA = r"(?:0?,\d{1,20}|\d{1,20},(?!\d{3}(?!\d))\d{1,20})(?!\d|[.,]\d)"
_WHOLE = r"\d{1,20}(?!\d|[.,]\d)"
_NUM = rf"[-+]?\s?(?:{_POINT}|{_COMMA}|{_WHOLE})"
_DECIMAL = rf"[-+]?\s?(?:{_POINT}|{_COMMA})"
_DF = r"\d{1,20}(?:\.\d{1,20})?(?!\d)"
_COUNT = r"(?:\d{1,3}(?:,\d{3}){1,6}|\d{1,20})(?!\d|[.,]\d)"
# Behind its first sign: a statistic begins a word. A pattern that starts with plain signs is found fast.
_ALONE = r"(?<![A-Za-z0-9_.\-].)"
_RATIO = r"(?<=[ORH])R|(?<=S)MD|(?<=M)D"
_IS = r"\s*[=:]\s*"
_REL = r"(?P<relation>\s*(?:=|<=|>=|<|>|≤|≥)\s*)"
_JOIN = r"(?:\s*(?:=|:|,|of|was|is|from|between|ranged? from|ranging from|printed|reported as)\s*)?\s*['\"]?"
_AND = r"\s*(?:,|;|to|-|and|through|bis)\s*"

PATTERNS: dict[str, str] = {
    "t": rf"t{_ALONE}\s*\(\s*(?P<df>{_DF})\s*\){_IS}(?P<value>{_NUM})",
    "t df": rf"t{_ALONE}\s*=\s*(?P<value>{_NUM})\s*[,;(]\s*df\s*=\s*(?P<df>{_DF})",
    "t of": rf"t{_ALONE}\s*=\s*(?P<value>{_DECIMAL})",
    "F": rf"F{_ALONE}\s*\(\s*(?P<df>{_DF})\s*[,;]\s*(?P<df2>{_DF})\s*\){_IS}(?P<value>{_NUM})",
    "r(df)": rf"r{_ALONE}\s*\(\s*(?P<df>\d+)\s*\){_IS}(?P<value>{_NUM})",
    "chi2": rf"[χΧxXCc]{_ALONE}(?:(?<=[χΧ])\s?2?|(?<=[xX])\s?2|(?<=[Cc])hi[- ]?squared?)\s*\(\s*(?P<df>{_DF})"
    rf"(?:\s*,\s*[Nn]\s*=\s*(?:{_COUNT}))?\s*\){_IS}(?P<value>{_NUM})",
    "QM": rf"Q{_ALONE}\s?_?\s?(?:[bBmM]|between|Between|model|Model|mod)\s*"
    rf"(?:\(\s*(?:df\s*=\s*)?(?P<df>{_DF})\s*\))?{_IS}(?P<value>{_NUM})",
    "QE": rf"Q{_ALONE}\s?_?\s?(?:total|Total|within|Within|[tTeEwW])?\s*"
    rf"(?:\(\s*(?:df\s*=\s*)?(?P<df>{_DF})\s*\))?{_IS}(?P<value>{_NUM})",
    "z": rf"[FzZ]{_ALONE}(?:(?<=F)(?P<fisher>isher(?:'s)?\s+)[zZ]|(?<=[zZ]))\s*=\s*(?P<value>{_NUM})",
    "df": rf"d{_ALONE}(?:f|\.f\.){_IS}(?P<value>{_DF})",
    "I2": rf"I{_ALONE}\s?\^?2\s*(?:=|:|of|was)\s*(?P<value>{_NUM}\s?%?)",
    "tau2": rf"[τΤtT]{_ALONE}(?:(?<=[tT])au|(?<=[τΤT]))\s?\^?(?:2|-?\s?squared){_IS}(?P<value>{_NUM})",
    "tau": rf"[τtT]{_ALONE}(?:(?<=[tT])au|(?<=τ)){_IS}(?P<value>{_DECIMAL})",
    "p": rf"[pP]{_ALONE}(?:\s*-?\s*val(?:ue)?s?)?"
    rf"(?:\s*\((?:one|two|[12])[ -](?:tailed|sided)\))?{_REL}(?P<value>{_NUM})",
    "se": rf"[Ss]{_ALONE}(?:(?<=S)(?:E|\.E\.)|(?<=s)(?:e|\.e\.)|tandard error)"
    rf"(?:\s*(?:=|:|of)\s*|\s+)(?P<value>{_DECIMAL})",
    "k": rf"[kK]{_ALONE}\s*=\s*(?P<value>{_COUNT})",
    "N": rf"[nN]{_ALONE}\s*=\s*(?P<value>{_COUNT})",
    "estimate": rf"(?P<metric>[rdgβρbBEORHSM]{_ALONE}(?:(?<=[rdgβρbB])|(?<=[bB])eta|(?<=E)S|{_RATIO}))(?:\+|w)?\s*=\s*"
    rf"(?P<value>{_NUM})",
    "ratio": rf"(?P<metric>[ORHSM]{_ALONE}(?:{_RATIO}))\s*[:,]?\s+(?P<value>{_DECIMAL})",
    "said": r"(?P<metric>[ceasidrg](?<!\w.)"
    r"(?:(?<=c)(?:orrelation|oefficient)|(?<=e)(?:ffect(?: size)?|stimate)|(?<=a)ssociation"
    r"|(?<=s)lope|(?<=i)ntercept|(?<=d)ifference|(?<=[rdg])))\s+(?:was|of|is)\s+"
    rf"(?P<value>{_DECIMAL})",
    "ci": r"[Cc](?<![A-Za-z].)(?:(?<=C)(?:Is?|\.\s?I\.|rI)|onfidence intervals?(?:\s*\(CIs?\))?)"
    rf"\s*(?:\(?\s*(?P<level2>\d\d(?:\.\d+)?)\s?%\s*\)?)?{_JOIN}[\[(]?\s*(?P<low>{_NUM}){_AND}(?P<high>{_NUM})"
    rf"\s*[\])'\"]?",
    "bracket": rf"[\[(]\s*(?P<low>{_DECIMAL})\s*(?:,|;|to|-|bis)\s*(?P<high>{_DECIMAL})\s*[\])]",
    "r2": r"varian(?:ce|z)",
}
# What stands right before the match of a pattern and belongs to it; all numbers would have to be tried otherwise.
FRONTS = {
    "ci": re.compile(r"(?P<level>\d\d(?:\.\d+)?)\s?%\s*-?\s*$"),
    "r2": re.compile(
        r"(?<![\d.,])(?P<value>(?:(?:almost|nearly|about|approx\w*\.?|ungefähr|around|over|more than)\s+)?"
        rf"{_NUM}\s?%)\s*(?:of\s+)?(?:the\s+)?(?:outcome\s+|total\s+)?$"
    ),
}
LONGEST_FRONT = 100
# A book has a few million signs, a long meta-analysis a few thousand statistics.
MOST_SIGNS = 20_000_000
MOST_STATISTICS = 100_000
COMPILED = {kind: re.compile(pattern) for kind, pattern in PATTERNS.items()}
BEFORE_CI = re.compile(rf"(?<![A-Za-z0-9.=<>\-])(?P<value>{_DECIMAL})\s*[,;:]?\s*[\[(]?\s*$")
NUMBERS, COUNTED = ("value", "low", "high", "df", "df2"), ("k", "N")
WORDED = {"correlation": "r", "r": "r", "d": "d", "g": "g"}


@dataclass(frozen=True, slots=True)
class Atom:
    """One statistic: its kind, its parts as text, and where it stands."""

    kind: str
    start: int
    end: int
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def value(self) -> str:
        """The number, with its relation if that is not equality."""
        relation = self.parts.get("relation", "=").strip()
        value = self.parts.get("value", "").replace("- ", "-").replace("+ ", "")
        return value if relation == "=" else f"{relation} {value}"


def squeezed(text: str) -> tuple[str, IntArray]:
    """Return the normalised text with one blank for several, and where each of its characters stands in `text`.

    Between the parts of a pattern blanks are optional in many places; runs of them would be split in all ways.

    Raises `InputError`: more than `MOST_SIGNS`.
    """
    if len(text) > MOST_SIGNS:
        raise InputError(f"the text has {len(text):,} signs, and {too_long()}")
    plain = normal(text)
    blank = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32) == ord(" ")
    doubled = np.zeros_like(blank)
    np.logical_and(blank[1:], blank[:-1], out=doubled[1:])
    places = np.append(np.flatnonzero(~doubled), len(text))
    return re.sub("  +", " ", plain), places


def too_long() -> str:
    """Say how long a text may be."""
    return f"no paper has more than {MOST_SIGNS // 1_000_000} million; give parts of it"


def normal(text: str) -> str:
    """Return the text with the many dashes, blanks and equality signs made one of each, at the same places."""
    return text.translate(CHARACTERS)


def find_atoms(text: str) -> list[Atom]:
    """Return every statistic of a normalised text, in order, none overlapping another.

    Raises `InputError`: more than `MOST_STATISTICS`.
    """
    every = (atom for kind, pattern in COMPILED.items() for atom in _matches(kind, pattern, text))
    found = list(islice(every, MOST_STATISTICS + 1))
    if len(found) > MOST_STATISTICS:
        raise InputError(
            f"the text prints more than {MOST_STATISTICS:,} statistics, which no paper does; give parts of it"
        )
    found.sort(key=lambda atom: (atom.start, -atom.end))
    kept: list[Atom] = []
    for atom in found:
        if not kept or atom.start >= kept[-1].end:
            kept.append(atom)
        elif kept[-1].kind == "said" and atom.kind == "estimate":
            kept[-1] = atom
    return kept


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Atom]:
    read = 0
    for found in pattern.finditer(text):
        parts = {name: part for name, part in found.groupdict().items() if part is not None}
        start = found.start()
        if kind in FRONTS:
            front = _front(kind, text, start, after=read)
            if front is None and kind == "r2":
                continue
            if front is not None:
                start, parts = front.start(), parts | front.groupdict()
        read = found.end()
        if kind not in COUNTED:
            parts |= {name: parts[name].replace(",", ".") for name in NUMBERS if name in parts}
        if kind == "ci" and not _plausible_level(parts):
            continue
        yield Atom(kind, start, found.end(), parts)


def _front(kind: str, text: str, end: int, *, after: int) -> re.Match[str] | None:
    """Return what stands before a match and belongs to it, past the match before."""
    start = max(after, end - LONGEST_FRONT)
    return FRONTS[kind].search(text, start, end) if text.find("%", start, end) >= 0 else None


def _plausible_level(parts: dict[str, str]) -> bool:
    return all(50 <= float(parts[name]) < 100 for name in ("level", "level2") if name in parts)


def bare_estimate(text: str, end: int, *, after: int) -> Atom | None:
    """Return the plain number that stands right before an interval, if one does, past what was read already."""
    start = max(after, end - 24)
    found = BEFORE_CI.search(text[start:end])
    if found is None:
        return None
    return Atom("estimate", start + found.start("value"), start + found.end("value"), {"value": found["value"]})


LONGEST_GAP = 45
# Fisher's z of a correlation of .91; what is larger and called z is a test.
LARGEST_Z = 1.5
SEPARATORS = r"[\s,;:()\[\]'\"*/]*"
# Between the parts of one result stand signs and a few words of this kind; anything else begins something new.
SAFE = r"(?:and|with|or|a|an|the|i\.e\.|equivalent|corresponding|to|two-tailed|two-sided|one-tailed|one-sided|Cohen's"
SAFE += r"|Hedges'|Hedges's|heterogeneity|based|on|studies|samples|participants|clients|patients)"
# What may stand between a test and its p, and is not checked here.
ASIDE = r"(?:MSE|MSe|(?:partial\s)?[ηωφ]_?p?2?|R2|ΔR2|V|Cohen's f)\s*=\s*[-+]?\d*\.?\d+"
TIGHT = re.compile(rf"{SEPARATORS}(?:(?:{SAFE}|{ASIDE}){SEPARATORS}){{0,4}}")
LOOSE = re.compile(rf"{SEPARATORS}(?:(?>[A-Za-z][A-Za-z'-]*){SEPARATORS}){{0,4}}")
# Said of a p-value: right before a result, in it or right behind it.
ONE_SIDED = re.compile(r"\b(?:one|1)[ -](?:tailed|sided)\b|\beinseitig", flags=re.IGNORECASE)
AROUND_P = 20
HEADS = frozenset({"t", "t df", "F", "r(df)", "chi2"})
EFFECTS = frozenset({"estimate", "said", "ratio"})
NAMES = {"said": "estimate", "ratio": "estimate", "r(df)": "r", "t df": "t", "t of": "t"}
LOOSE_KINDS = frozenset({"k", "N", "ci", "QE", "I2", "tau2", "QM"})


def scan(text: str) -> list[PrintedResult]:
    """Return what a text prints of its results, in order; only what can be checked has any use."""
    plain, places = squeezed(text)
    lines = [0, *(found.end() for found in re.finditer(r"\r\n|\n|\r|\f|\v", text))]
    found = []
    read = 0
    for cluster in _clusters(text, plain, places):
        for draft in _assemble(plain, cluster, read):
            said = " ".join(plain[draft.start : draft.end].split())
            line = bisect.bisect_right(lines, places[draft.start])
            before = plain[max(0, read, draft.start - AROUND_P) : draft.start].rpartition(". ")[2]
            after = plain[draft.start : draft.end + AROUND_P].partition(". ")[0]
            one_sided = ONE_SIDED.search(before + after) is not None
            found.append(draft.finish(line=line, text=said, one_sided=one_sided))
        read = cluster[-1].end
    return found


def scan_into(result: PrintedResult, text: str) -> PrintedResult:
    """Add what a remark prints to the result it remarks on: only what comes before another result is begun."""
    plain, _ = squeezed(text)
    draft = _Draft(0, 0, numbers=dict(result.numbers), metric=result.metric, level=result.level)
    draft.last = "p" if "estimate" in draft.numbers else ""
    for atom in find_atoms(plain):
        if not draft.takes(atom):
            if atom.kind in HEADS | EFFECTS:
                break
            continue
        draft.add(atom)
    return replace(result.having(draft.numbers), metric=result.metric or draft.metric, level=draft.level)


def _clusters(text: str, plain: str, places: IntArray) -> Iterator[list[Atom]]:
    """Yield atoms that stand together: with little between them, in one sentence and one paragraph."""
    cluster: list[Atom] = []
    for atom in find_atoms(plain):
        if cluster and not _together(text, plain, places, cluster[-1], atom):
            yield cluster
            cluster = []
        cluster.append(atom)
    if cluster:
        yield cluster


def _together(text: str, plain: str, places: IntArray, before: Atom, after: Atom) -> bool:
    gap = plain[before.end : after.start]
    if len(gap) > LONGEST_GAP or re.search(r"\n\s*\n|\f", text[places[before.end] : places[after.start]]):
        return False
    allowed = LOOSE if after.kind in LOOSE_KINDS else TIGHT
    return allowed.fullmatch(gap) is not None


@dataclass(slots=True)
class _Draft:
    """A result while its parts are being collected."""

    start: int
    end: int
    numbers: dict[str, PrintedNumber] = field(default_factory=dict)
    metric: str = ""
    level: float = 0.95
    last: str = ""

    def takes(self, atom: Atom) -> bool:
        """Whether the atom belongs to this result; if not it begins another."""
        kind, have = atom.kind, self.numbers.keys()
        headless = not have & {"estimate", "t", "F", "r", "chi2", "z"}
        if kind in ("F", "chi2", "r(df)"):
            return headless and not have & {"p", "ci_lb", "QE", "QM"}
        if kind == "t of":
            return "estimate" in have and not have & {"t", "z"}
        if kind in ("t", "t df", "z"):
            return not have & {"t", "F", "r", "chi2", "z"} and ("estimate" in have or not have & {"QE", "QM"})
        if kind in EFFECTS:
            converted = atom.parts.get("metric") == "d" and self.metric in ("r", "") and "estimate" in have
            return (headless and not have & {"p", "ci_lb"}) or (converted and "d" not in have)
        if kind in ("ci", "bracket"):
            if self.last == "tau2":
                return "tau2_lb" not in have
            return bool(have & {"estimate", "r"}) and "ci_lb" not in have
        if kind == "p":
            return _p_name(self) not in have and bool(self.last)
        if kind == "df":
            return _df_name(self) not in have and bool(self.last)
        if kind == "r2":
            return "r2" not in have and self.metric == "r"
        return kind not in have

    def add(self, atom: Atom) -> None:
        """Take the atom's numbers."""
        self.end = max(self.end, atom.end)
        kind, parts = atom.kind, atom.parts
        if kind in ("ci", "bracket"):
            prefix = "tau2" if self.last == "tau2" else "ci"
            self._put(f"{prefix}_lb", parts["low"])
            self._put(f"{prefix}_ub", parts["high"])
            level = parts.get("level", parts.get("level2"))
            self.level = float(level) / 100 if level else self.level
            return
        name = NAMES.get(kind, kind)
        if name == "p":
            name = _p_name(self)
        elif name == "df":
            name = _df_name(self)
        elif name == "estimate" and "estimate" in self.numbers:
            name = "d"
        elif name == "estimate":
            said = parts.get("metric", "")
            self.metric = WORDED.get(said, "") if kind == "said" else said
        self._put(name, atom.value)
        for part in ("df", "df2"):
            if part in parts:
                self._put({"QE": "QEdf", "QM": "QMdf"}.get(name, part) if part == "df" else part, parts[part])
        if name in ("estimate", "t", "F", "r", "chi2", "z", "QE", "QM", "tau2", "d"):
            self.last = name

    def _put(self, name: str, text: str) -> None:
        text = text.strip().replace("- ", "-")
        number = read_number(text, floor=0.0 if name in POSITIVE else float("-inf"))
        self.numbers[name] = _counted(number, name) if name in COUNTS else number

    def finish(self, *, line: int, text: str, one_sided: bool) -> PrintedResult:
        """Return the result."""
        return PrintedResult(self.numbers, text, self.metric, self.level, line, text, one_sided)


def _p_name(draft: _Draft) -> str:
    return {"QE": "QEp", "QM": "QMp"}.get(draft.last, "p")


def _df_name(draft: _Draft) -> str:
    return {"QE": "QEdf", "QM": "QMdf"}.get(draft.last, "df")


def _assemble(plain: str, cluster: list[Atom], read: int) -> Iterator[_Draft]:
    """Yield the results of one cluster."""
    draft: _Draft | None = None
    for place, atom in enumerate(cluster):
        after = cluster[place + 1].kind if place + 1 < len(cluster) else ""
        atom = _as_estimate(atom, draft, after)
        own = atom.kind in EFFECTS and after in ("ci", "bracket", "p", "se") and _has_estimate(draft)
        if draft is not None and draft.takes(atom) and not own:
            draft.add(atom)
            read = atom.end
            continue
        begun = _begin(plain, atom, read)
        read = atom.end
        if begun is None:
            continue
        if draft is not None:
            yield draft
        draft = begun
    if draft is not None:
        yield draft


def _has_estimate(draft: _Draft | None) -> bool:
    return draft is not None and "estimate" in draft.numbers


def _as_estimate(atom: Atom, draft: _Draft | None, after: str) -> Atom:
    """Take z for an effect where it is called Fisher's, or where an interval follows and no other effect stands."""
    if atom.kind != "z" or _has_estimate(draft):
        return atom
    small = abs(float(atom.value.replace(" ", ""))) < LARGEST_Z
    if "fisher" in atom.parts or (small and after in ("ci", "bracket", "se")):
        return Atom("estimate", atom.start, atom.end, {**atom.parts, "metric": "z"})
    return atom


def _begin(plain: str, atom: Atom, read: int) -> _Draft | None:
    """Begin a result with this atom; None if nothing can be told from it alone."""
    draft = _Draft(atom.start, atom.end)
    if atom.kind in ("ci", "bracket"):
        bare = bare_estimate(plain, atom.start, after=read)
        if bare is None or plain[atom.start] == "(":
            return None
        draft.start = bare.start
        draft.add(bare)
    elif atom.kind in ("p", "df", "r2", "se", "t of"):
        return None
    draft.add(atom)
    return draft


EXAMPLE = "'r = .149 [.087, .209], k = 16, Q(15) = 38.2'"
SCALES = {"": "r", "r": "r", "ES": "r", "z": "z"}
LONG_NAMES = {"QEdf": "df", "ci_lb": "lower limit", "ci_ub": "upper limit", "n_effects": "effects", "pval": "p"}


@dataclass(frozen=True, eq=False)
class PrintedLine:
    """A printed result, ready to be looked for."""

    numbers: Mapping[str, PrintedNumber]  # by the names that routes give
    scale: str  # {"r", "z"}
    level: float = 0.95  # of the interval
    ignored: tuple[str, ...] = ()  # what was read and is not compared

    @property
    def words(self) -> str:
        """What was read, for the reader to check."""
        return ", ".join(_say(name, number, self.scale) for name, number in self.numbers.items())


def read_line(printed: str | Mapping[str, Any], *, scale: str | None = None, level: float | None = None) -> PrintedLine:
    """Read a printed result.

    Raises `InputError`: a number that cannot be read, no estimate or several, an estimate that is neither r nor
    Fisher's z.
    """
    if scale is not None and scale not in ("r", "z"):
        raise InputError(f"scale={scale!r} is not one of 'r', 'z'")
    if isinstance(printed, Mapping):
        own = "z" if str(printed.get("metric", "r")) == "z" else "r"
        numbers = read_printed({str(key): value for key, value in printed.items() if key != "metric"})
        return PrintedLine(_checked(numbers), scale or own, 0.95 if level is None else level)
    if not isinstance(printed, str):
        raise InputError(f"printed is {type(printed).__name__}; give text such as {EXAMPLE}, or a mapping of text")
    result, unread = _one_result(printed)
    if result.metric not in SCALES:
        raise InputError(
            f"{result.metric} {result.numbers['estimate']} is neither a correlation nor Fisher's z, and only these can "
            "come of a table of correlations; meaning() converts"
        )
    found: dict[str, PrintedNumber] = {}
    ignored = list(unread)
    for name, number in result.numbers.items():
        own_name = name if name in QUANTITIES else RENAMED.get(name, name)
        if own_name == "pval" and result.one_sided:
            ignored.append(f"one-tailed p {number}")
        elif own_name in QUANTITIES:
            found[own_name] = number
        else:
            ignored.append(f"{name} {number}")
    used = result.level if level is None else level
    return PrintedLine(_checked(found), scale or SCALES[result.metric], used, tuple(ignored))


def _one_result(text: str) -> tuple[PrintedResult, list[str]]:
    """Put together what the text prints of one result, though words may stand between; and what was not read."""
    said = text if any(letter.isalpha() for letter in text) else f"r = {text.strip()}"
    results = scan(said)
    if not results:
        raise InputError(f"{text!r} holds no result that can be read; write it as a paper does, {EXAMPLE}")
    first, *rest = sorted(results, key=lambda one: "estimate" not in one.numbers)
    for other in rest:
        twice = sorted(set(first.numbers) & set(other.numbers))
        if twice:
            raise InputError(f"{text!r} prints {twice[0]} twice; give one result at a time")
        first = first.having(other.numbers)
    left = " ".join(normal(said).split())
    for one in results:
        left = left.replace(one.text, "|", 1)
    return first, [part.strip(" ,;.") for part in left.split("|") if any(letter.isdigit() for letter in part)]


def _checked(numbers: dict[str, PrintedNumber]) -> dict[str, PrintedNumber]:
    if "estimate" not in numbers:
        raise InputError(f"no estimate among the printed numbers ({', '.join(numbers) or 'none'}); give r, as printed")
    if ("ci_lb" in numbers) != ("ci_ub" in numbers):
        raise InputError("give both limits of the interval, or none")
    return numbers


def _say(name: str, number: PrintedNumber, scale: str) -> str:
    symbol = scale if name == "estimate" else LONG_NAMES.get(name, name)
    return f"{symbol} {number.text}"
