"""The cells a conversion needs: read as numbers, checked, and worked out from one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.effects.converting.rules import OTHER_NAMES, RULES, Rule
from alliance_meta.errors import Problem
from alliance_meta.notes import did_you_mean

SIGNS = {"1": 1.0, "+1": 1.0, "+": 1.0, "positive": 1.0, "-1": -1.0, "-": -1.0, "−": -1.0, "negative": -1.0}
NUMBERS = (
    *("es_value", "es_se", "es_lb", "es_ub", "es_tails", "n", "n1", "n2", "df", "r2", "n_predictors"),
    *("m1", "sd1", "m2", "sd2", "p_upper", "p_lower"),
)
COLUMNS = ("es_type", "es_sign", *NUMBERS)


@dataclass(frozen=True)
class Range:
    """Values a column may hold, in numbers and in words."""

    low: float
    high: float
    words: str
    whole: bool = False
    low_included: bool = False

    def breaks(self, x: Array) -> Mask:
        """Tell which finite values lie outside."""
        low = (x < self.low) if self.low_included else (x <= self.low)
        return np.isfinite(x) & (low | (x >= self.high) | (self.whole & (x != np.round(x))))


POSITIVE = Range(0.0, np.inf, "must be above 0")
NOT_NEGATIVE = Range(0.0, np.inf, "cannot be negative", low_included=True)
SHARE = Range(0.0, 1.0, "is a share and must lie between 0 and 1")
CORRELATION = Range(-1.0, 1.0, "is outside (-1, 1)")
PEOPLE = Range(4.0, np.inf, "must be a whole number of at least 4 people", whole=True, low_included=True)
GROUP = Range(2.0, np.inf, "must be a whole number of at least 2 people", whole=True, low_included=True)
OF_COLUMN = {
    "es_se": POSITIVE,
    "es_lb": POSITIVE,
    "es_ub": POSITIVE,
    "es_tails": Range(1.0, 2.5, "must be 1 or 2", whole=True, low_included=True),
    "n": PEOPLE,
    "n1": GROUP,
    "n2": GROUP,
    "df": Range(2.0, np.inf, "must be at least 2", low_included=True),
    "r2": Range(0.0, 1.0, "must lie in [0, 1)", low_included=True),
    "n_predictors": Range(1.0, np.inf, "must be a whole number of at least 1", whole=True, low_included=True),
    "sd1": POSITIVE,
    "sd2": POSITIVE,
    "p_upper": SHARE,
    "p_lower": SHARE,
}
OF_VALUE = {
    "r": CORRELATION,
    "f": NOT_NEGATIVE,
    "chi2": NOT_NEGATIVE,
    "eta2": Range(0.0, 1.0, "must lie in [0, 1)", low_included=True),
    "p": SHARE,
    "or": POSITIVE,
    "or_probit": POSITIVE,
    "or_sd": POSITIVE,
    "r_pb": CORRELATION,
    "spearman": CORRELATION,
    "kendall": CORRELATION,
    "partial": CORRELATION,
}


@dataclass(frozen=True)
class Cells:
    """The numbers of all rows that ask for a conversion."""

    rows: Any  # their places in the frame
    kinds: list[str]  # the rule of each
    numbers: dict[str, Array]  # every column of `NUMBERS` and ``es_sign``, NaN where empty
    assumed_equal: Mask  # rows whose two groups were taken to be of equal size


def read_cells(frame: pd.DataFrame, wanted: Mask, lines: Any, *, n_name: str) -> tuple[Cells, list[Problem]]:
    """Read and check the rows in `wanted`; every problem is in the list."""
    problems: list[Problem] = []
    rows, kinds = _kinds(frame, wanted, lines, problems)
    lines = np.asarray(lines)[rows]
    part = frame.iloc[rows]
    numbers = {}
    for name in NUMBERS:
        column = n_name if name == "n" else name
        series = part[column] if column in part else pd.Series(np.nan, index=part.index)
        numbers[name] = _numbers(series, column, lines, problems)
    numbers["es_sign"] = read_signs(part, lines, problems)
    rules = [RULES[kind] for kind in kinds]
    _check_ranges(numbers, kinds, rules, lines, problems, n_name=n_name)
    equal = _work_out(numbers, rules, lines, problems, n_name=n_name)
    return Cells(rows, kinds, numbers, equal), problems


def missing(cells: Cells) -> dict[int, list[str]]:
    """Name what rows lack for their conversion, by place."""
    out: dict[int, list[str]] = {}
    kinds = np.array(cells.kinds, dtype=object)
    for kind in dict.fromkeys(cells.kinds):
        rule = RULES[kind]
        needed = (("es_value",) if rule.value else ()) + rule.needs
        gone = np.array([~np.isfinite(cells.numbers[name]) for name in needed]) & (kinds == kind)
        for place in np.flatnonzero(gone.any(axis=0)):
            out[int(place)] = _worded(rule, [name for name, row in zip(needed, gone, strict=True) if row[place]])
    return dict(sorted(out.items()))


def _worded(rule: Rule, gone: list[str]) -> list[str]:
    """Say what would do in place of the columns that are empty."""
    if rule.family == "groups" and {"n1", "n2"} <= set(gone) and "n" in rule.takes:
        gone = ["n1 and n2, or n", *(name for name in gone if name not in ("n1", "n2"))]
    if "df" in gone:
        gone = ["df, or n and n_predictors" if rule.family == "model" else "n or df", *(g for g in gone if g != "df")]
    return gone


def statistics(column: pd.Series[Any]) -> list[str]:
    """Return the statistic that each cell of ``es_type`` names; the cell's own text if it is none, "" if empty."""
    cells = column.astype(object).where(column.notna(), None)
    names: dict[Any, str] = {None: ""}
    for cell in cells:
        if cell not in names:
            key = str(cell).strip().lower().replace("'", "").replace("-", "_").replace(" ", "_")
            names[cell] = OTHER_NAMES.get(key, key)
    return [names[cell] for cell in cells]


def _kinds(frame: pd.DataFrame, wanted: Mask, lines: Any, problems: list[Problem]) -> tuple[Any, list[str]]:
    rows, kinds = [], []
    names = statistics(frame["es_type"])
    known = [*RULES, *OTHER_NAMES]
    for i in np.flatnonzero(wanted):
        name = names[i]
        if name in RULES:
            rows.append(i)
            kinds.append(name)
        elif name:
            text = str(frame["es_type"].iloc[i]).strip()
            message = f"{text!r} is not one of {', '.join(RULES)}{did_you_mean(name, known)}"
            problems.append(Problem(int(lines[i]), "es_type", text, message, kind="es-type"))
    return np.array(rows, dtype=int), kinds


def _numbers(series: pd.Series[Any], name: str, lines: Any, problems: list[Problem]) -> Array:
    values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    empty = series.isna().to_numpy() | (series.astype(str).str.strip() == "").to_numpy()
    for i in np.flatnonzero(~np.isfinite(values) & ~empty):
        text = str(series.iloc[i]).strip()
        hint = "; an inequality gives only a bound: leave the cell empty" if text[:1] in "<>≤≥" else ""
        hint = f"; write {text.replace(',', '.')}" if text.count(",") == 1 and "." not in text else hint
        problems.append(Problem(int(lines[i]), name, text, f"{text!r} is not a number{hint}", kind="not-a-number"))
    return np.where(np.isfinite(values), values, np.nan)


def read_signs(part: pd.DataFrame, lines: Any, problems: list[Problem]) -> Array:
    """Return the direction that ``es_sign`` gives each row, NaN where it gives none."""
    out = np.full(len(part), np.nan)
    if "es_sign" not in part:
        return out
    for i, cell in enumerate(part["es_sign"].to_numpy(dtype=object)):
        text = "" if pd.isna(cell) else str(cell).strip().lower().removesuffix(".0")
        if text in SIGNS:
            out[i] = SIGNS[text]
        elif text:
            message = f"{cell!r} is no direction; write 1 or -1 (or positive, negative)"
            problems.append(Problem(int(lines[i]), "es_sign", str(cell), message, kind="es-sign"))
    return out


def _check_ranges(
    x: dict[str, Array],
    kinds: Sequence[str],
    rules: Sequence[Rule],
    lines: Any,
    problems: list[Problem],
    *,
    n_name: str,
) -> None:
    for name, allowed in OF_COLUMN.items():
        users = {rule.es_type for rule in RULES.values() if name in (*rule.needs, *rule.takes)}
        used = np.array([kind in users for kind in kinds], dtype=bool)
        _add(problems, allowed.breaks(x[name]) & used, x[name], n_name if name == "n" else name, allowed.words, lines)
    names = np.array(kinds, dtype=object)
    for kind, allowed in OF_VALUE.items():
        here = names == kind
        _add(
            problems,
            allowed.breaks(x["es_value"]) & here,
            x["es_value"],
            "es_value",
            f"{allowed.words} ({kind})",
            lines,
        )
    least = (names == "kendall") & (x["n"] < 5)
    _add(problems, least, x["n"], n_name, "is too small for Kendall's tau, which needs n >= 5", lines)
    _add(
        problems, x["p_upper"] + x["p_lower"] > 1.0, x["p_lower"], "p_lower", "and p_upper are together above 1", lines
    )
    _add(problems, x["es_lb"] >= x["es_ub"], x["es_lb"], "es_lb", "must lie below es_ub", lines)


def _work_out(x: dict[str, Array], rules: Sequence[Rule], lines: Any, problems: list[Problem], *, n_name: str) -> Mask:
    """Fill n, n1, n2 and df from one another, where they agree; return the rows taken as equal groups."""
    groups = np.array([rule.family == "groups" for rule in rules], dtype=bool)
    model = np.array([rule.family == "model" for rule in rules], dtype=bool)
    halves = np.array([rule.family == "groups" and "n" in rule.takes for rule in rules], dtype=bool)
    both = x["n1"] + x["n2"]
    sized = ~model
    _add(problems, sized & (both != x["n"]) & np.isfinite(both + x["n"]), x["n"], n_name, "is not n1 + n2", lines)
    _fill(x, "n", both, sized)
    equal = halves & np.isnan(x["n1"]) & np.isnan(x["n2"]) & np.isfinite(x["n"])
    for name in ("n1", "n2"):
        _fill(x, name, x["n"] / 2.0, equal)
    _fill(x, "n1", x["n"] - x["n2"], groups & sized)
    _fill(x, "n2", x["n"] - x["n1"], groups & sized)
    test = ~groups & ~model
    _fill(x, "n", x["df"] + 2.0, test & (x["df"] == np.round(x["df"])))
    for used, df, words in (
        (test, x["n"] - 2.0, "is not n - 2, as for one correlation; with covariates use partial_t"),
        (model, x["n"] - 1.0 - x["n_predictors"], "is not n - 1 - n_predictors"),
    ):
        off = used & np.isfinite(x["df"] + df) & (np.abs(x["df"] - df) > 0.5)
        _add(problems, off, x["df"], "df", words, lines)
        _fill(x, "df", df, used)
    _fill(x, "n", x["df"] + 1.0 + x["n_predictors"], model)
    x["es_tails"] = np.where(np.isfinite(x["es_tails"]), x["es_tails"], 2.0)
    return equal


def _fill(x: dict[str, Array], name: str, values: Array, where: Mask) -> None:
    x[name] = np.where(np.isnan(x[name]) & where, values, x[name])


def _add(problems: list[Problem], bad: Mask, values: Array, name: str, words: str, lines: Any) -> None:
    problems.extend(
        Problem(int(lines[i]), name, f"{values[i]:g}", f"{values[i]:g} {words}", kind=f"{name}-{words}")
        for i in np.flatnonzero(bad)
    )
