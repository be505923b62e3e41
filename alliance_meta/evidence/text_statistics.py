"""Statistics in running text, one at a time: ``t(38) = 2.20``, ``p < .001``, ``95% CI [.10, .23]``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from alliance_meta.errors import InputError

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
    "H2": rf"H{_ALONE}\s?\^?2{_IS}(?P<value>{_NUM})",
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

    Raises
    ------
    InputError
        More than `MOST_SIGNS`.
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
    return f"no paper has more than {MOST_SIGNS / 1e6:g} million; give parts of it"


def normal(text: str) -> str:
    """Return the text with the many dashes, blanks and equality signs made one of each, at the same places."""
    return text.translate(CHARACTERS)


def find_atoms(text: str) -> list[Atom]:
    """Return every statistic of a normalised text, in order, none overlapping another.

    Raises
    ------
    InputError
        More than `MOST_STATISTICS`.
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
