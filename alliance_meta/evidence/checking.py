"""One check of printed numbers: what was held against what, what follows, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alliance_meta.core.correlations.rounding import Range
from alliance_meta.evidence.printed import PrintedNumber, PrintedResult
from alliance_meta.tables.format import fixed

Verdict = Literal[
    "consistent", "inconsistent", "inconsistent in the decision", "depends on the definition", "not printed"
]
WRONG: tuple[Verdict, ...] = ("inconsistent", "inconsistent in the decision")
Decide = Callable[[Sequence[Range]], bool | None]

EXTRA_DECIMALS = 2
MOST_DECIMALS = 6
MOST_READINGS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the printed numbers together."""

    words: str  # the way in words, such as ``"Fisher z, normal"``
    follows: tuple[Range, ...]  # what the printed number would be, given the others; two ranges for an interval
    fits: bool  # whether what is printed can have been rounded from it
    # Whether papers report so without saying it; otherwise it is named as a possible explanation only.
    usual: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """One relation between printed numbers.

    Attributes
    ----------
    label : str
        Which result was checked.
    rule : str
        Stable name of the check, such as ``"interval from SE"``.
    given : str
        The printed numbers that it starts from.
    printed : str
        The printed number that it is held against; empty if the paper does not print it.
    follows : str
        The range that follows, over all that the given numbers can have been before rounding.
    verdict : str
        ``"consistent"``, ``"inconsistent"``, ``"inconsistent in the decision"`` (significance changes),
        ``"depends on the definition"`` (another definition in use could give it), or ``"not printed"``
        (nothing to compare; what would follow is given).
    reading : str
        The reading that fits; of numbers that disagree, what would make them agree, as far as something would.
    readings : tuple of Reading
        Every reading that was tried.
    line : int or None
        Line of the text.
    """

    label: str
    rule: str
    given: str
    printed: str
    follows: str
    verdict: Verdict
    reading: str
    readings: tuple[Reading, ...] = ()
    line: int | None = None

    @property
    def wrong(self) -> bool:
        """Whether the printed numbers cannot all be right."""
        return self.verdict in WRONG

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON-ready values."""
        names = ("label", "line", "rule", "given", "printed", "follows", "verdict", "reading")
        out = {name: getattr(self, name) for name in names}
        out["readings"] = [
            {"reading": one.words, "follows": [[r.low, r.high] for r in one.follows], "fits": one.fits}
            for one in self.readings
        ]
        return out

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        held = f"printed {self.printed}" if self.printed else "not printed"
        tail = f" ({self.reading})" if self.reading else ""
        return f"{where}{self.rule}: {self.given}; {held}; follows {self.follows}: {self.verdict}{tail}"


def judge(
    result: PrintedResult,
    rule: str,
    *,
    given: str,
    target: tuple[str, ...],
    readings: Iterable[Reading],
    decide: Decide | None = None,
    mend: str = "",
    shown: str = "",
    otherwise: Verdict = "inconsistent",
) -> Check | None:
    """Hold what is printed against every reading; None where no reading could be computed.

    `mend` explains numbers that disagree, `otherwise` is their verdict, `shown` replaces the range in print.
    """
    tried = tuple(readings)
    if not tried:
        return None
    numbers = [result.numbers[name] for name in target if name in result.numbers]
    printed = result.interval() if len(target) > 1 else (numbers[0].text if numbers else "")
    usual = [one for one in tried if one.usual]
    if len(numbers) < len(target):
        verdict: Verdict = "not printed"
        words, nearest = usual[0].words, usual[0]
    elif fitting := [one for one in usual if one.fits]:
        verdict, nearest = "consistent", fitting[0]
        words = "; ".join([one.words for one in fitting if one.words][:MOST_READINGS])
    else:
        changes = decide is not None and _changes(decide, [one.range for one in numbers], usual)
        verdict = "inconsistent in the decision" if changes else otherwise
        nearest = usual[0]
        words = "; ".join([f"{one.words} would fit" for one in tried if one.fits] + ([mend] if mend else []))
    return Check(
        label=result.label,
        rule=rule,
        given=given,
        printed=printed.strip("'\""),
        follows=shown or show(nearest.follows, numbers),
        verdict=verdict,
        reading=words,
        readings=tried,
        line=result.line,
    )


def read(words: str, follows: Range, printed: Range | None, *, usual: bool = True) -> Reading:
    """Return the reading of one number."""
    return Reading(words, (follows,), printed is not None and follows.meets(printed), usual)


def _changes(decide: Decide, printed: Sequence[Range], usual: Sequence[Reading]) -> bool:
    """Whether every usual reading decides otherwise than what is printed."""
    said = decide(printed)
    if said is None:
        return False
    return all(decide(one.follows) is (not said) for one in usual)


def show(ranges: Sequence[Range], numbers: Sequence[PrintedNumber]) -> str:
    """Write ranges with more digits than the printed number they are held against."""
    decimals = min(max((one.decimals for one in numbers), default=3) + EXTRA_DECIMALS, MOST_DECIMALS)
    percent = "%" if any(one.percent for one in numbers) else ""
    if len(ranges) == 1:
        return show_range(ranges[0], decimals) + percent
    return "[" + ", ".join(show_range(one, decimals) for one in ranges) + "]"


def show_range(one: Range, decimals: int) -> str:
    """Write a range as "0.578 to 0.580"; one number if its ends read alike.

    >>> show_range(Range(0.57791, 0.57994), 3), show_range(Range(1e-9, 2e-8), 4)
    ('0.578 to 0.580', 'below 0.0001')
    """
    if math.isinf(one.low) and math.isinf(one.high):
        return "anything"
    least = 10.0**-decimals
    if 0.0 <= one.high < 0.5 * least and one.high > 0.0 and one.low >= 0.0:
        return f"below {fixed(least, decimals)}"
    low, high = (_fixed(end, decimals) for end in (one.low, one.high))
    if math.isinf(one.high) or math.isinf(one.low):
        return f"above {low}" if math.isinf(one.high) else f"below {high}"
    return low if low == high else f"{low} to {high}"


def _fixed(value: float, decimals: int) -> str:
    text = fixed(value, decimals)
    return text.lstrip("-") if float(text) == 0 else text
