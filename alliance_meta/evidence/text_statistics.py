"""Statistics in running text, one at a time: ``t(38) = 2.20``, ``p < .001``, ``95% CI [.10, .23]``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

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
_START = r"(?<![A-Za-z0-9_.\-])"
_IS = r"\s*[=:]\s*"
_REL = r"(?P<relation>\s*(?:=|<=|>=|<|>|≤|≥)\s*)"
_JOIN = r"(?:\s*(?:=|:|,|of|was|is|from|between|ranged? from|ranging from|printed|reported as)\s*)?\s*['\"]?"
_AND = r"\s*(?:,|;|to|-|and|through|bis)\s*"

PATTERNS: dict[str, str] = {
    "t": rf"{_START}t\s*\(\s*(?P<df>{_DF})\s*\){_IS}(?P<value>{_NUM})",
    "t df": rf"{_START}t\s*=\s*(?P<value>{_NUM})\s*[,;(]\s*df\s*=\s*(?P<df>{_DF})",
    "t of": rf"{_START}t\s*=\s*(?P<value>{_DECIMAL})",
    "F": rf"{_START}F\s*\(\s*(?P<df>{_DF})\s*[,;]\s*(?P<df2>{_DF})\s*\){_IS}(?P<value>{_NUM})",
    "r(df)": rf"{_START}r\s*\(\s*(?P<df>\d+)\s*\){_IS}(?P<value>{_NUM})",
    "chi2": rf"{_START}(?:[χΧ]\s?2?|[xX]\s?2|[Cc]hi[- ]?squared?)\s*\(\s*(?P<df>{_DF})"
    rf"(?:\s*,\s*[Nn]\s*=\s*(?:{_COUNT}))?\s*\){_IS}(?P<value>{_NUM})",
    "QM": rf"{_START}Q\s?_?\s?(?:[bBmM]|between|Between|model|Model|mod)\s*"
    rf"(?:\(\s*(?:df\s*=\s*)?(?P<df>{_DF})\s*\))?{_IS}(?P<value>{_NUM})",
    "QE": rf"{_START}Q\s?_?\s?(?:total|Total|within|Within|[tTeEwW])?\s*"
    rf"(?:\(\s*(?:df\s*=\s*)?(?P<df>{_DF})\s*\))?{_IS}(?P<value>{_NUM})",
    "z": rf"{_START}(?P<fisher>Fisher(?:'s)?\s+)?[zZ]\s*=\s*(?P<value>{_NUM})",
    "df": rf"{_START}(?:df|d\.f\.){_IS}(?P<value>{_DF})",
    "I2": rf"{_START}I\s?\^?2\s*(?:=|:|of|was)\s*(?P<value>{_NUM}\s?%?)",
    "tau2": rf"{_START}(?:[τΤ]|[tT]au|T)\s?\^?(?:2|-?\s?squared){_IS}(?P<value>{_NUM})",
    "tau": rf"{_START}(?:τ|[tT]au){_IS}(?P<value>{_DECIMAL})",
    "H2": rf"{_START}H\s?\^?2{_IS}(?P<value>{_NUM})",
    "p": rf"{_START}[pP](?:\s*-?\s*val(?:ue)?s?)?"
    rf"(?:\s*\((?:one|two|[12])[ -](?:tailed|sided)\))?{_REL}(?P<value>{_NUM})",
    "se": rf"{_START}(?:SE|S\.E\.|s\.e\.|se|[Ss]tandard error)(?:\s*(?:=|:|of)\s*|\s+)(?P<value>{_DECIMAL})",
    "k": rf"{_START}[kK]\s*=\s*(?P<value>{_COUNT})",
    "N": rf"{_START}[nN]\s*=\s*(?P<value>{_COUNT})",
    "estimate": rf"{_START}(?P<metric>r|d|g|ES|OR|RR|HR|SMD|MD|β|ρ|b|B|[bB]eta)(?:\+|w)?\s*=\s*(?P<value>{_NUM})",
    "ratio": rf"{_START}(?P<metric>OR|RR|HR|SMD|MD)\s*[:,]?\s+(?P<value>{_DECIMAL})",
    "said": rf"\b(?P<metric>correlation|effect size|effect|association|estimate|coefficient|slope|intercept|difference"
    rf"|r|d|g)\s+(?:was|of|is)\s+(?P<value>{_DECIMAL})",
    "ci": rf"(?:(?P<level>\d\d(?:\.\d+)?)\s?%\s*-?\s*)?(?<![A-Za-z])"
    rf"(?:CIs?|C\.\s?I\.|CrI|[Cc]onfidence intervals?(?:\s*\(CIs?\))?)"
    rf"\s*(?:\(?\s*(?P<level2>\d\d(?:\.\d+)?)\s?%\s*\)?)?{_JOIN}[\[(]?\s*(?P<low>{_NUM}){_AND}(?P<high>{_NUM})"
    rf"\s*[\])'\"]?",
    "bracket": rf"[\[(]\s*(?P<low>{_DECIMAL})\s*(?:,|;|to|-|bis)\s*(?P<high>{_DECIMAL})\s*[\])]",
    "r2": r"(?<![\d.,])(?P<value>(?:(?:almost|nearly|about|approx\w*\.?|ungefähr|around|over|more than)\s+)?"
    rf"{_NUM}\s?%)\s*(?:of\s+)?(?:the\s+)?(?:outcome\s+|total\s+)?varian(?:ce|z)",
}
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


def squeezed(text: str) -> tuple[str, list[int]]:
    """Return the normalised text with one blank for several, and where each of its characters stands in `text`.

    Between the parts of a pattern blanks are optional in many places; runs of them would be split in all ways.
    """
    plain = normal(text)
    places = [i for i, sign in enumerate(plain) if sign != " " or i == 0 or plain[i - 1] != " "]
    return "".join([plain[i] for i in places]), [*places, len(text)]


def normal(text: str) -> str:
    """Return the text with the many dashes, blanks and equality signs made one of each, at the same places."""
    return text.translate(CHARACTERS)


def find_atoms(text: str) -> list[Atom]:
    """Return every statistic of a normalised text, in order, none overlapping another."""
    found = [atom for kind, pattern in COMPILED.items() for atom in _matches(kind, pattern, text)]
    found.sort(key=lambda atom: (atom.start, -atom.end))
    kept: list[Atom] = []
    for atom in found:
        if not kept or atom.start >= kept[-1].end:
            kept.append(atom)
        elif kept[-1].kind == "said" and atom.kind == "estimate":
            kept[-1] = atom
    return kept


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Atom]:
    for found in pattern.finditer(text):
        parts = {name: part for name, part in found.groupdict().items() if part is not None}
        if kind not in COUNTED:
            parts |= {name: parts[name].replace(",", ".") for name in NUMBERS if name in parts}
        start = found.start()
        if kind == "ci" and not _plausible_level(parts):
            continue
        yield Atom(kind, start, found.end(), parts)


def _plausible_level(parts: dict[str, str]) -> bool:
    return all(50 <= float(parts[name]) < 100 for name in ("level", "level2") if name in parts)


def bare_estimate(text: str, end: int, *, after: int) -> Atom | None:
    """Return the plain number that stands right before an interval, if one does, past what was read already."""
    start = max(after, end - 24)
    found = BEFORE_CI.search(text[start:end])
    if found is None:
        return None
    return Atom("estimate", start + found.start("value"), start + found.end("value"), {"value": found["value"]})
