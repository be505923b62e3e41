"""Printed numbers: their text, and the range of what can have been rounded to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.correlations.rounding import Range, rounded
from alliance_meta.errors import InputError, Problem
from alliance_meta.notes import did_you_mean

# Columns that name the metric of the estimate in them.
METRIC_COLUMNS: Mapping[str, str] = {
    "mean_r": "r", "g": "g", "smd": "SMD", "or": "OR", "rr": "RR", "hr": "HR", "beta": "beta", "b": "b",
}  # fmt: skip
# Quantity -> (symbol in print, other spellings that a table's header may have).
QUANTITIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "estimate": (
        "estimate",
        ("est", "es", "effect", "pooled", "beta", "coefficient", "mean_r", "g", "smd", "or", "rr"),
    ),
    "r": ("r", ("cor", "ri", "correlation")),
    "d": ("d", ("cohens_d", "cohen_d", "smd_d")),
    "ci_lb": ("CI, lower limit", ("ci_low", "ci_lower", "lower", "lb", "lo", "ll", "ci_l", "cil")),
    "ci_ub": ("CI, upper limit", ("ci_high", "ci_upper", "upper", "ub", "hi", "ul", "ci_u", "ciu")),
    "se": ("SE", ("sei", "std_error", "standard_error")),
    "z": ("z", ("zval", "z_value", "wald_z")),
    "t": ("t", ("tval", "t_value")),
    "F": ("F", ()),
    "chi2": ("χ²", ("chisq", "chi_square", "x2", "χ²", "χ2")),
    "df": ("df", ("ddf", "stat_df", "t_df", "df1")),
    "df2": ("df2", ("df_2", "error_df")),
    "p": ("p", ("pval", "p_value", "pvalue", "p-value")),
    "k": ("k", ("studies", "n_studies", "k_studies")),
    "n_effects": ("effects", ("m", "k_effects", "n_es", "nes")),
    "N": ("N", ("n_total", "total_n", "ni", "participants")),
    "mean_n": ("mean n", ("n_mean", "average_n")),
    "QE": ("Q", ("q", "q_total", "qe", "cochran_q", "qw")),
    "QEdf": ("df", ("q_df", "df_q", "qe_df")),
    "QEp": ("p of Q", ("q_p", "p_q", "qe_p")),
    "QM": ("QM", ("qb", "q_between", "q_model", "qbetween")),
    "QMdf": ("df", ("qm_df", "qb_df")),
    "QMp": ("p of QM", ("qm_p", "qb_p")),
    "I2": ("I²", ("i_squared", "i²", "i_2")),
    "H2": ("H²", ("h_squared", "h²")),
    "tau2": ("τ²", ("tau_squared", "t2", "τ²", "τ2", "tau²")),
    "tau": ("τ", ("τ",)),
    "tau2_lb": ("τ², lower limit", ()),
    "tau2_ub": ("τ², upper limit", ()),
    "r2": ("share of variance, %", ("r_squared", "r²", "variance_explained")),
}
COUNTS = frozenset({"k", "n_effects", "N"})
POSITIVE = frozenset({"p", "QEp", "QMp"})

NUMBER = re.compile(
    r"""(?P<word>almost|nearly|just\ under|below|less\ than|over|more\ than|above|about|around|approx(?:\.|imately)?|
        approximately|ungefähr|circa|ca\.?|~|≈)?\s*
    (?P<sign><=|>=|[<>≤≥=])?\s*(?P<value>[-+]?(?:0?,\d+|\d+(?:,\d{3})+(?:\.\d+)?|\d+,\d+|\d*\.\d+|\d+\.?)(?:[eE][-+]?\d+)?)
    \s*(?P<percent>%)?\s*\**$""",
    re.VERBOSE | re.IGNORECASE,
)
BELOW = frozenset({"almost", "nearly", "just under"})
LESS = frozenset({"<", "<=", "≤", "below", "less than"})
MORE = frozenset({">", ">=", "≥", "over", "more than", "above"})
DASHES = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "\u00a0": " ", "\u2009": " "})


@dataclass(frozen=True, slots=True)
class PrintedNumber:
    """A number as printed and all it can have been."""

    text: str  # what is printed, such as ``".278"``, ``"< .001"`` or ``"almost 8%"``
    range: Range  # what can have been rounded to it
    decimals: int
    percent: bool = False  # whether a percent sign stands behind it
    relation: str = "="  # ``"="``, ``"<"`` or ``">"``

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=10_000)
def read_number(text: str, *, floor: float = -math.inf) -> PrintedNumber:
    """Read one printed number; `floor` is the least it can be, for what is printed as less than something.

    >>> read_number("−.25").range, read_number("< .001", floor=0.0).range
    (Range(low=-0.255, high=-0.245), Range(low=0.0, high=0.001))
    >>> read_number("almost 8%").range
    Range(low=7.5, high=8.0)
    """
    found = NUMBER.match(" ".join(text.translate(DASHES).strip(" '\"‘’“”").split()))
    if found is None:
        raise InputError(f"{text!r} is not a printed number; write it as in the paper, such as .278, 0.278 or < .001")
    value_text = found["value"]
    # A comma before other than three digits, or behind a zero, is a decimal one.
    decimal = re.fullmatch(r"[-+]?(?:0?,\d+|\d+,(?!\d{3}(?!\d))\d+)(?:[eE][-+]?\d+)?", value_text)
    digits = value_text.replace(",", "." if decimal else "")
    mantissa, _, exponent = digits.lower().partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    value = float(digits)
    near = rounded(value, decimals)
    word = " ".join((found["word"] or "").lower().split())
    relation = "="
    if found["sign"] in LESS or word in LESS:
        near, relation = Range(min(floor, value), value), "<"
    elif found["sign"] in MORE or word in MORE:
        near, relation = Range(value, math.inf), ">"
    elif word in BELOW:
        near = Range(near.low, value)
    return PrintedNumber(text.strip(), near, max(0, decimals), bool(found["percent"]), relation)


@dataclass(frozen=True, eq=False)
class PrintedResult:
    """What a paper prints of one result."""

    numbers: Mapping[str, PrintedNumber]  # by the names of `QUANTITIES`
    label: str = ""  # which result it is
    metric: str = ""  # ``"r"``, ``"z"``, ``"d"``, ``"OR"`` and so on; empty where it is not known
    level: float = 0.95  # of the interval
    line: int | None = None  # where it stands in a text
    text: str = ""  # the words it was read from
    one_sided: bool = False  # whether they say that p is one-tailed

    def get(self, name: str) -> Range | None:
        """Return the range of one number, None where it is not printed."""
        number = self.numbers.get(name)
        return None if number is None else number.range

    def count(self, name: str) -> float | None:
        """Return a count or degrees of freedom, None where it is not printed or not plain."""
        number = self.numbers.get(name)
        return number.range.middle if number is not None and number.relation == "=" else None

    def having(self, numbers: Mapping[str, PrintedNumber]) -> PrintedResult:
        """Return the same with further numbers; what stands already is kept."""
        return replace(self, numbers={**numbers, **self.numbers})

    def say(self, *names: str) -> str:
        """Write some of the numbers as a paper does, ``"r = .28, SE = .04"``."""
        return ", ".join(self._say(name) for name in names if name in self.numbers)

    def _say(self, name: str) -> str:
        number = self.numbers[name]
        symbol = self.metric or "estimate" if name == "estimate" else QUANTITIES[name][0]
        bare = number.text.strip("'\"")
        return f"{symbol} {bare}" if not bare[:1].isdigit() and bare[:1] not in ".-+−–" else f"{symbol} = {bare}"

    def interval(self) -> str:
        """Write the interval as printed, empty where there is none."""
        if "ci_lb" not in self.numbers or "ci_ub" not in self.numbers:
            return ""
        return f"[{self.numbers['ci_lb']}, {self.numbers['ci_ub']}]"


def quantity_name(column: str) -> str | None:
    """Return the quantity that a column's header means, None if none.

    >>> quantity_name("ci_low"), quantity_name("I²"), quantity_name("authors")
    ('ci_lb', 'I2', None)
    """
    plain = column.strip()
    if plain in QUANTITIES:
        return plain
    plain = re.sub(r"[\s.-]+", "_", plain.lower()).strip("_")
    lower = {name.lower(): name for name in QUANTITIES}
    if plain in lower:
        return lower[plain]
    return next((name for name, (_, others) in QUANTITIES.items() if plain in others), None)


def read_result(
    printed: Mapping[str, Any], *, label: str = "", metric: str = "", level: float = 0.95, row: int | None = None
) -> PrintedResult:
    """Read the printed numbers of one result; every number that cannot be read is named in one error."""
    numbers: dict[str, PrintedNumber] = {}
    problems: list[Problem] = []
    for column, value in printed.items():
        name = quantity_name(column)
        if name is None:
            close = did_you_mean(column, list(QUANTITIES))
            problems.append(Problem(row, column, str(value), f"{column!r} is no quantity that can be checked{close}"))
            continue
        text = _text(value)
        if text == "":
            continue
        try:
            numbers[name] = _counted(read_number(text, floor=0.0 if name in POSITIVE else -math.inf), name)
        except InputError as error:
            problems.append(Problem(row, column, text, str(error)))
    if problems:
        raise InputError("; ".join(str(problem) for problem in problems))
    columns = (str(column).strip().lower() for column in printed)
    metric = metric or next((METRIC_COLUMNS[one] for one in columns if one in METRIC_COLUMNS), "")
    return _named(PrintedResult(numbers, label=label, metric=metric, level=level))


def _named(result: PrintedResult) -> PrintedResult:
    """Let a lone r or d be the estimate, where it is not the statistic of a test."""
    if "estimate" in result.numbers:
        return result
    for name in ("r", "d"):
        if name in result.numbers and "df" not in result.numbers:
            numbers = {"estimate" if key == name else key: number for key, number in result.numbers.items()}
            return replace(result, numbers=numbers, metric=result.metric or name)
    return result


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)


def _counted(number: PrintedNumber, name: str) -> PrintedNumber:
    """Return a count, which is exact, without rounding."""
    if name not in COUNTS or number.relation != "=":
        return number
    value = number.range.middle
    return replace(number, range=Range(value, value))


Fit = Literal["rounded", "cut off", "no"]

# A value exactly half a unit away may be stored a hair further off in binary.
HAIR = 1e-9
# What a fit gives and a paper may print, by metafor's names.
COMPARED = (
    *("k", "n_effects", "N", "estimate", "se", "ci_lb", "ci_ub", "stat", "z", "t", "ddf", "pval", "tau2", "tau"),
    *("se_tau2", "I2", "H2", "R2", "QE", "QEdf", "QEp", "QM", "QMdf", "QMp", "pi_lb", "pi_ub", "rho"),
)
RENAMED = {"r": "estimate", "p": "pval", "df": "ddf"}
BOUNDED = {"pval": 0.0, "QEp": 0.0, "QMp": 0.0}


def half_unit(printed: str) -> float:
    """Return half a unit of the last printed digit.

    >>> half_unit(".278"), half_unit("61.73")
    (0.0005, 0.005)
    """
    try:
        exponent = Decimal(printed.replace("−", "-")).as_tuple().exponent
    except ArithmeticError:
        exponent = "n"
    if not isinstance(exponent, int):
        raise InputError(f"{printed!r} is not a printed number")
    return float(Decimal(5).scaleb(exponent - 1))


def distance(value: float, printed: str) -> float:
    """Return how far a value is from a printed number, in half units of its last digit; at most 1 agrees."""
    return float(gaps(np.array([value]), read_number(printed))[0])


def agrees(value: float, printed: str) -> bool:
    """Say whether `value` rounds to the printed number (a hair of binary rounding is allowed)."""
    return distance(value, printed) <= 1.0 + HAIR


def gaps(values: Array, printed: PrintedNumber) -> Array:
    """Return how far values lie from a printed number, in half units of its last digit; NaN is infinitely far.

    What is printed as less or more than something is 0 away where that holds.
    """
    low, high, unit = printed.range.low, printed.range.high, 10.0**-printed.decimals
    with np.errstate(invalid="ignore"):
        if printed.relation == "=" and math.isfinite(low) and math.isfinite(high) and high > low:
            found = np.abs(values - printed.range.middle) / (0.5 * (high - low))
        else:
            beyond = np.maximum(np.maximum(low - values, values - high), 0.0)
            found = np.where(beyond > 0, 1.0 + beyond / (0.5 * unit), 0.0)
    return np.where(np.isnan(values), np.inf, found)


def cut_off(values: Array, printed: PrintedNumber) -> AnyArray:
    """Say which values read as printed once the further digits are cut off instead of rounded."""
    if printed.relation != "=" or not math.isfinite(printed.range.middle):
        return np.zeros(values.shape, dtype=bool)
    middle, unit = printed.range.middle, 10.0**-printed.decimals
    size = abs(middle)
    beyond = values * (1.0 if middle >= 0 else -1.0) - size
    with np.errstate(invalid="ignore"):
        return (beyond >= -HAIR * unit) & (beyond < unit)


def read_printed(printed: Mapping[str, Any]) -> dict[str, PrintedNumber]:
    """Read printed numbers by name; every one that cannot be read is named in one error.

    >>> read_printed({"r": ".27", "k": "18"})["estimate"].range
    Range(low=0.265, high=0.275)
    """
    numbers: dict[str, PrintedNumber] = {}
    problems = []
    for key, value in printed.items():
        name = key if key in COMPARED else RENAMED.get(quantity_name(key) or "", quantity_name(key))
        if name not in COMPARED:
            problems.append(f"{key!r} is nothing that is compared{did_you_mean(key, list(COMPARED))}")
            continue
        if not isinstance(value, str):
            problems.append(f"{key}={value!r}: write it as printed, in quotation marks, because its digits count")
            continue
        try:
            numbers[name] = read_number(value, floor=BOUNDED.get(name, -math.inf))
        except InputError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise InputError("; ".join(problems))
    return numbers
