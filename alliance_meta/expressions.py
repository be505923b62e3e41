"""What formulas and subsets have in common: texts that are parsed and held against a list, and never run.

The two languages are in `formulas` and `conditions`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from alliance_meta.errors import InputError

# What no honest expression exceeds: characters, nested parts, an integer that a float holds.
MOST_TEXT, MOST_DEPTH, MOST_INTEGER = 10_000, 100, 2**53

_PIECES = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`")
ARITHMETIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


class RefusedError(Exception):
    """What is wrong with an expression, in words; the caller adds where it stands."""


def shown(text: object) -> str:
    """Return what was written, for a message: in quotes, and not at any length."""
    if isinstance(text, str):
        return repr(text if len(text) <= 100 else f"{text[:97]}...")
    written = repr(text)
    return written if len(written) <= 100 else f"{written[:97]}..."


def sentence(error: RefusedError, allowed: str) -> str:
    """Return what is wrong, and what may be written unless that is said."""
    reason = str(error)
    if "; write" in reason:
        return reason
    return f"{reason}{'' if reason.endswith('?') else '.'} {allowed}"


def plain_text(text: object, *, where: str, most: int = MOST_TEXT) -> str:
    """Return a text that may be read at all.

    Raises `InputError`: it is no text, or longer than anything that is meant.
    """
    if not isinstance(text, str):
        raise InputError(f"{where} is {shown(text)}, and no text")
    if len(text) > most:
        raise InputError(f"{where} has {len(text):,} characters, and at most {most:,} are read: {shown(text)}")
    return text


def _masked(text: str) -> tuple[str, dict[str, str]]:
    """Put a word of its own in the place of each back-ticked name; return the text and what each word stands for."""
    prefix = "ticked"
    while prefix in text:
        prefix += "_"
    names: dict[str, str] = {}

    def word(found: re.Match[str]) -> str:
        if found[0][0] != "`":
            return found[0]
        names[f"{prefix}{len(names)}"] = found[0][1:-1]
        return f" {prefix}{len(names) - 1} "

    return _PIECES.sub(word, text), names


def bare(text: str) -> str:
    """Return the text without what stands in quotes and back-ticks."""
    return _PIECES.sub(" ", text)


def parse(text: str) -> tuple[ast.expr, dict[str, str]]:
    """Return the tree of a text and the back-ticked names behind some of its words; nothing is evaluated."""
    masked, names = _masked(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(masked.replace("\n", " ").strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise RefusedError(_slip(bare(text), error)) from None
    if _depth(tree) > MOST_DEPTH:
        raise RefusedError(f"it is nested more than {MOST_DEPTH} deep")
    return tree, names


def _slip(bare: str, error: BaseException) -> str:
    """Say what is wrong with a text that is no expression at all."""
    if re.search(r"(?<![=!<>])=(?!=)", bare):
        return "one = is no comparison; write =="
    for written, meant in (("&&", "and"), ("||", "or"), ("!", "not"), ("<>", "!=")):
        if written in bare.replace("!=", ""):
            return f"{written} means nothing here; write {meant}"
    if "`" in bare:
        return "a back-tick is not closed"
    if "'" in bare or '"' in bare:
        return "a quote is not closed"
    return "it is no expression" if not isinstance(error, RecursionError | MemoryError) else "it is nested too deep"


def _depth(tree: ast.AST) -> int:
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def check_constant(node: ast.Constant) -> None:
    """Refuse what is no number, text or truth value, or too large for one."""
    value = node.value
    if isinstance(value, bool | str):
        return
    if value is None:
        raise RefusedError("None is no value; write isna(column)")
    most = MOST_INTEGER if isinstance(value, int) else math.inf
    if not isinstance(value, int | float) or not abs(value) < most:
        raise RefusedError(f"{shown(ast.unparse(node))} is no number or text that may stand here")


def own_name(name: str) -> str:
    """Return a name, unless it is one that Python keeps for itself."""
    if name.startswith("__") or name.endswith("__"):
        raise RefusedError(f"{name!r} is a name of Python's own")
    return name
