"""What a user types of a printed result: ``"r = .149 [.087, .209], k = 16"``, or a mapping of the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alliance_meta.errors import InputError
from alliance_meta.evidence.closeness import QUANTITIES, RENAMED, read_printed
from alliance_meta.evidence.printed import PrintedNumber, PrintedResult
from alliance_meta.evidence.scan import scan
from alliance_meta.evidence.text_statistics import normal

EXAMPLE = "'r = .149 [.087, .209], k = 16, Q(15) = 38.2'"
SCALES = {"": "r", "r": "r", "ES": "r", "z": "z"}
NAMES = {"QEdf": "df", "ci_lb": "lower limit", "ci_ub": "upper limit", "n_effects": "effects", "pval": "p"}


@dataclass(frozen=True, eq=False)
class PrintedLine:
    """A printed result, ready to be looked for.

    Attributes
    ----------
    numbers : mapping of str to PrintedNumber
        By the names that routes give.
    scale : {"r", "z"}
    level : float
        Of the interval.
    ignored : tuple of str
        What was read and is not compared.
    """

    numbers: Mapping[str, PrintedNumber]
    scale: str
    level: float = 0.95
    ignored: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What was read, for the reader to check."""
        return ", ".join(_say(name, number, self.scale) for name, number in self.numbers.items())


def read_line(printed: str | Mapping[str, Any], *, scale: str | None = None, level: float | None = None) -> PrintedLine:
    """Read a printed result.

    Raises
    ------
    InputError
        A number that cannot be read, no estimate or several, an estimate that is neither r nor Fisher's z.
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
    symbol = scale if name == "estimate" else NAMES.get(name, name)
    return f"{symbol} {number.text}"
