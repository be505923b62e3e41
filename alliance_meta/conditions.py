"""Subsets: conditions on the columns of a table, evaluated here over a checked tree, never by Python or pandas."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Mask
from alliance_meta.errors import InputError
from alliance_meta.expressions import (
    ARITHMETIC,
    COMPARISONS,
    RefusedError,
    check_constant,
    own_name,
    parse,
    plain_text,
    sentence,
    shown,
)
from alliance_meta.notes import backtick_hint, did_you_mean

# Function, or method of a column as pandas spells it -> how many values it takes besides the column.
METHODS = {
    "notna": 0, "notnull": 0, "isna": 0, "isnull": 0, "lower": 0,
    "isin": 1, "startswith": 1, "contains": 1, "between": 2,
}  # fmt: skip
SUBSET = (
    "A subset may hold columns (in back-ticks where a name is no word), numbers, texts in quotes, + - * / // % **, "
    "== != < <= > >=, in [...], not in [...], and, or, not, and "
    + ", ".join(f"{name}()" for name in METHODS if not name.endswith("null"))
)
_TEXT = ("lower", "startswith", "contains")
_LOGIC = (ast.And, ast.Or, ast.BitAnd, ast.BitOr)


def select_rows(text: str, frame: pd.DataFrame, *, where: str = "subset") -> Mask:
    """Return which rows of a table a condition keeps; a comparison with a missing value is false, that by != true.

    Raises `InputError`: it holds anything but what `SUBSET` says, names no column, or compares a text with a number.
    """
    where = f"{where} {shown(text)}"
    columns = [str(name) for name in frame.columns]
    try:
        tree, names = parse(plain_text(text, where=where))
        _check(tree, names, columns)
        with np.errstate(all="ignore"):
            return _truth(_value(tree, frame, names), tree)
    except RefusedError as error:
        hint = backtick_hint(text, columns)
        raise InputError(
            f"{where} cannot be read: {sentence(error, SUBSET)}.{hint} Columns: {', '.join(columns)}"
        ) from None


def check_subset(text: str, columns: list[str], *, where: str) -> None:
    """Refuse a condition that `select_rows` would refuse whatever the rows hold."""
    try:
        _check(*parse(plain_text(text, where=where)), columns)
    except RefusedError as error:
        raise InputError(f"{where} {shown(text)} cannot be read: {sentence(error, SUBSET)}") from None


def _check(tree: ast.expr, names: Mapping[str, str], columns: list[str]) -> None:
    """Check every part before the first is evaluated."""
    methods = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            methods |= _check_call(node)
        elif isinstance(node, ast.Compare):
            _check_compare(node)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            if not all(isinstance(part, ast.Constant | ast.UnaryOp) for part in node.elts):
                raise RefusedError("a list holds numbers and texts only")
        elif isinstance(node, ast.Constant):
            check_constant(node)
        elif isinstance(node, ast.BinOp):
            if type(node.op) not in ARITHMETIC and not isinstance(node.op, _LOGIC):
                raise RefusedError(f"{shown(ast.unparse(node))} may not stand there")
        elif isinstance(node, ast.Attribute):
            if id(node) not in methods:
                raise RefusedError(f"{shown(ast.unparse(node))} may not stand there")
        elif not isinstance(
            node,
            ast.Name
            | ast.BoolOp
            | ast.UnaryOp
            | ast.operator
            | ast.unaryop
            | ast.boolop
            | ast.cmpop
            | ast.expr_context,
        ):
            raise RefusedError(f"{shown(ast.unparse(node))} may not stand there")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    wanted = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    unknown = sorted({own_name(names.get(name, name)) for name in wanted} - set(columns))
    if unknown:
        raise RefusedError("; ".join(f"no column {name!r}{did_you_mean(name, columns)}" for name in unknown))


def _check_call(node: ast.Call) -> set[int]:
    """Check the form of a call; return which attributes are part of it: ``x.notna`` or ``x.str.lower``."""
    name, subject, passed = _called(node)
    if name not in METHODS or node.keywords:
        raise RefusedError(f"{shown(ast.unparse(node))} may not stand there{did_you_mean(name, list(METHODS))}")
    if len(passed) != METHODS[name] or subject is None:
        raise RefusedError(f"{name}() takes a column{f' and {METHODS[name]} more' if METHODS[name] else ''}")
    if name == "isin" and not isinstance(passed[0], ast.List | ast.Tuple | ast.Set):
        raise RefusedError("isin() takes a list, such as ['client', 'observer']")
    return {id(part) for part in (node.func, getattr(node.func, "value", None)) if isinstance(part, ast.Attribute)}


def _called(node: ast.Call) -> tuple[str, ast.expr | None, list[ast.expr]]:
    """Return function, the column it is about and the other values, in either spelling."""
    if isinstance(node.func, ast.Attribute):
        name, subject = node.func.attr, node.func.value
        if isinstance(subject, ast.Attribute) and subject.attr == "str" and name in _TEXT:
            subject = subject.value
        elif name in _TEXT or isinstance(subject, ast.Attribute):
            name = ast.unparse(node.func)
        return name, subject, node.args
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    return name, node.args[0] if node.args else None, node.args[1:]


def _check_compare(node: ast.Compare) -> None:
    for sign, right in zip(node.ops, node.comparators, strict=True):
        listed = isinstance(right, ast.List | ast.Tuple | ast.Set)
        if isinstance(sign, ast.In | ast.NotIn):
            if not listed:
                raise RefusedError("after in stands a list, such as ['client', 'observer']")
        elif listed or type(sign) not in COMPARISONS:
            raise RefusedError(f"{shown(ast.unparse(node))}: write in [...] for a list, == or isna() for the rest")


def _value(node: ast.expr, frame: pd.DataFrame, names: Mapping[str, str]) -> Any:
    def of(part: ast.expr) -> Any:
        """Return the value of a part."""
        return _value(part, frame, names)

    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return _column(frame, names.get(node.id, node.id))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [of(part) for part in node.elts]
    if isinstance(node, ast.BoolOp):
        join: Any = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(join, (_truth(of(part), part) for part in node.values))
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not | ast.Invert):
            return ~_truth(of(node.operand), node.operand)
        number = _number(of(node.operand), node.operand)
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and isinstance(node.op, _LOGIC):
        # & binds closer than ==: a == 1 & b == 2 would compare a with 1 & b.
        if any(isinstance(part, ast.Constant) for part in (node.left, node.right)):
            raise RefusedError("write and, or instead of &, |")
        left, right = _truth(of(node.left), node.left), _truth(of(node.right), node.right)
        return left & right if isinstance(node.op, ast.BitAnd) else left | right
    if isinstance(node, ast.BinOp):
        sides = [np.float64(1.0) * _number(of(part), part) for part in (node.left, node.right)]
        return ARITHMETIC[type(node.op)](*sides)
    if isinstance(node, ast.Compare):
        values = [of(part) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, values[:-1], values[1:], strict=True)
        return reduce(np.logical_and, [_compared(sign, a, b, node) for sign, a, b in pairs])
    assert isinstance(node, ast.Call)
    name, subject, passed = _called(node)
    assert subject is not None
    return _function(name, of(subject), [of(part) for part in passed], node)


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    found = frame[name]
    if isinstance(found, pd.DataFrame):
        raise RefusedError(f"several columns are called {name!r}")
    return found.astype(object) if isinstance(found.dtype, pd.CategoricalDtype) else found


def _kind(value: Any) -> str:
    """Return ``"text"``, ``"number"``, or nothing where a column holds both or something else."""
    if isinstance(value, pd.Series):
        if pd.api.types.is_numeric_dtype(value):
            return "number"
        value = value.dropna()
        kinds = {_kind(one) for one in value} if value.dtype == object else {"text"}
        return kinds.pop() if len(kinds) == 1 else ""
    return (
        "text" if isinstance(value, str) else "number" if isinstance(value, int | float | np.number | np.bool) else ""
    )


def _number(value: Any, node: ast.expr) -> Any:
    if isinstance(value, list) or _kind(value) != "number":
        raise RefusedError(f"{shown(ast.unparse(node))} is no number to calculate with")
    return value


def _truth(value: Any, node: ast.expr) -> Mask:
    """Return a condition as an array."""
    if isinstance(value, pd.Series) and value.dtype == "boolean":
        value = value.fillna(False)
    if getattr(value, "dtype", None) != np.bool_ or np.ndim(value) != 1:
        raise RefusedError(f"{shown(ast.unparse(node))} is no condition; write what it should be, such as == 1")
    return np.asarray(value, dtype=bool)


def _compared(sign: ast.cmpop, left: Any, right: Any, node: ast.expr) -> Any:
    """Compare by element; comparing a text with a number is a mistake, not false."""
    for one in right if isinstance(right, list) else [right]:
        kinds = {_kind(left), _kind(one)}
        if kinds == {"text", "number"}:
            raise RefusedError(f"{shown(ast.unparse(node))} compares a text with a number; quotes make a text")
    if not any(isinstance(part, pd.Series) for part in (left, right)):
        raise RefusedError(f"{shown(ast.unparse(node))} names no column")
    if isinstance(right, list):
        found = left.isin(right).to_numpy(dtype=bool)
        return found if isinstance(sign, ast.In) else ~found
    try:
        found = COMPARISONS[type(sign)](left, right)
    except TypeError:
        raise RefusedError(f"{shown(ast.unparse(node))} cannot be compared") from None
    return found.fillna(isinstance(sign, ast.NotEq)).to_numpy(dtype=bool)


def _function(name: str, column: Any, given: list[Any], node: ast.expr) -> Any:
    if not isinstance(column, pd.Series):
        raise RefusedError(f"{shown(ast.unparse(node))} is about no column")
    if name in ("isna", "isnull", "notna", "notnull"):
        return (column.isna() if name.startswith("is") else column.notna()).to_numpy()
    if name == "isin":
        return _compared(ast.In(), column, given[0], node)
    if name == "between":
        return _compared(ast.GtE(), column, given[0], node) & _compared(ast.LtE(), column, given[1], node)
    if _kind(column) == "number" or not all(isinstance(text, str) for text in given):
        raise RefusedError(f"{shown(ast.unparse(node))}: {name}() is for texts")
    if name == "lower":
        return column.str.lower()
    found = column.str.startswith(given[0]) if name == "startswith" else column.str.contains(given[0], regex=False)
    return found.fillna(False).to_numpy(dtype=bool)
