"""How near a computed number is to a printed one: rounded to it, cut off to it, or neither."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.errors import InputError
from alliance_meta.evidence.printed import PrintedNumber, quantity_name, read_number
from alliance_meta.options import did_you_mean

Fit = Literal["rounded", "cut off", "no"]

# A value exactly half a unit away may be stored a hair further off in binary.
HAIR = 1e-9
# What a fit gives and a paper may print, by metafor's names.
QUANTITIES = (
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
        name = key if key in QUANTITIES else RENAMED.get(quantity_name(key) or "", quantity_name(key))
        if name not in QUANTITIES:
            problems.append(f"{key!r} is nothing that is compared{did_you_mean(key, list(QUANTITIES))}")
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
