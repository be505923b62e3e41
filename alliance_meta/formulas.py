"""Formulas: a small language of our own choosing, checked word by word before anything is computed.

What a declaration, a description, a command line or a caller writes is parsed, its operators by formulaic's grammar
and each of its factors by `ast`, and held against a list of what may stand there. Only what passes reaches formulaic,
which would run it as Python.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from alliance_meta.errors import DesignError, InputError
from alliance_meta.expressions import (
    ARITHMETIC,
    COMPARISONS,
    RefusedError,
    bare,
    check_constant,
    own_name,
    parse,
    plain_text,
    sentence,
    shown,
)
from alliance_meta.notes import backtick_hint, did_you_mean

if TYPE_CHECKING:
    from formulaic import Formula

# What no honest formula exceeds: terms, coefficients, an exponent.
MOST_TERMS, MOST_COLUMNS, MOST_POWER = 10_000, 1_000, 100

TRANSFORMS = frozenset({"C", "I", "center", "scale", "standardize", "poly", "bs", "cr", "cs", "cc"})
ELEMENTWISE = frozenset({"log", "log2", "log10", "exp", "exp2", "exp10", "sqrt", "abs"})
NUMPY = frozenset(f"np.{name}" for name in ("log", "log1p", "log2", "log10", "exp", "sqrt", "abs"))
_CONTRASTS = ("treatment", "sum", "helmert", "diff", "poly")
CODINGS = frozenset(name for word in _CONTRASTS for name in (word.title(), f"contr.{word}"))
FUNCTIONS = TRANSFORMS | ELEMENTWISE | NUMPY | CODINGS
# Functions that make several columns of one.
SIZED = frozenset({"poly", "bs", "cr", "cs", "cc"})
_ROOTS = frozenset(name.split(".")[0] for name in FUNCTIONS)
FORMULA = (
    "A formula may hold columns (in back-ticks where a name is no word), + - : * / ** of terms, 0 or 1 for the "
    "intercept, and inside functions numbers, texts, arithmetic and comparisons; functions: "
    + ", ".join(sorted(FUNCTIONS - NUMPY - {name for name in CODINGS if "." in name}))
    + ". For anything else make a column and name it"
)
INTERCEPTS = ("Intercept", "intrcpt")


@dataclass(frozen=True, eq=False)
class CheckedFormula:
    """A formula that may be handed to formulaic."""

    formula: Formula  # parsed; nobody changes it
    variables: frozenset[str]  # the columns it names


def parse_formula(text: str, *, where: str) -> CheckedFormula:
    """Check the right-hand side of a formula, whatever the columns are; see `read_formula`."""
    where = f"{where}={shown(text)}"
    try:
        return _checked_formula(plain_text(text, where=where).replace("\n", " ").replace("\r", " "))
    except RefusedError as error:
        raise DesignError(f"{where} is not a formula: {sentence(error, FORMULA)}") from None


def read_formula(text: str, *, columns: Sequence[str], where: str) -> CheckedFormula:
    """Check the right-hand side of a formula.

    `columns`: columns that may be named.
    `where`: where it was written, such as ``"mods"``.
    Raises `InputError`: it holds anything but what `FORMULA` says, names no column of the table, or does not mean what
      it says.
    """
    hint = backtick_hint(text, list(columns))
    try:
        checked = parse_formula(text, where=where)
    except InputError as error:
        raise type(error)(f"{error}.{hint}" if hint else str(error)) from None
    where = f"{where}={shown(text)}"
    unknown = sorted(checked.variables - set(columns))
    if unknown:
        offered = f" Columns: {', '.join(columns)}" if columns else " The table has no moderator columns."
        listed = "; ".join(f"no column {name!r}{did_you_mean(name, list(columns))}" for name in unknown)
        raise DesignError(f"{where}: {listed}{'' if listed.endswith('?') else '.'}{offered}{hint}")
    hidden = sorted(name for name in checked.variables & _ROOTS if re.search(rf"\b{name}\s*[.(]", bare(text)))
    if hidden:
        raise DesignError(f"{where}: {hidden[0]!r} is a column and a function; give the column another name")
    return checked


@lru_cache(maxsize=256)
def _checked_formula(text: str) -> CheckedFormula:
    from formulaic import Formula
    from formulaic.parser import DefaultFormulaParser

    # Braces are code in formulaic, and a dot alone is every column there is.
    odd = re.search(r"[{}@;$?#\\\0]|(?<!\w)\.(?!\d)", bare(text))
    if odd:
        raise RefusedError(f"{odd[0]!r} may not stand there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = DefaultFormulaParser().get_ast(text)
    except Exception as error:
        # formulaic's parser raises many kinds; its own text marks the place with colours of a terminal.
        raise RefusedError(_reason(error)) from None
    variables = frozenset(_check_terms(tree))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            formula = Formula(text)
            terms = [str(term) for term in formula]
        except Exception as error:
            raise RefusedError(_reason(error)) from None
    if not terms:
        raise RefusedError("it leaves no coefficient; write '1' for a mean alone")
    used = {name for term in formula for factor in term.factors for name in _names_of(factor.expr)}
    if variables - used:
        raise RefusedError(f"{min(variables - used)!r} is taken out again by a minus; leave it out")
    return CheckedFormula(formula, variables)


def _reason(error: Exception) -> str:
    lines = re.sub(r"[\u29da\u29db\x1b]|\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _names_of(expression: str) -> set[str]:
    """Return the columns of a factor that has been checked; a plain one is its own name."""
    try:
        tree, names = parse(expression)
        return {expression, *_variables(tree, names)}
    except RefusedError:
        return {expression}


def _check_terms(tree: Any) -> Iterator[str]:
    """Check operators and operands of a parsed formula, and yield the columns; nothing is expanded yet."""
    sizes: dict[int, int] = {}
    for node in reversed(_post_order(tree)):
        if not hasattr(node, "operator"):
            sizes[id(node)] = 1
            yield from _check_operand(node)
            continue
        symbol, parts = node.operator.symbol, list(node.args)
        _check_operator(symbol, parts)
        counts = [sizes[id(part)] for part in parts]
        if symbol in ("**", "^"):
            size = counts[0] ** int(parts[1].token)
        elif symbol == ":":
            size = math.prod(counts)
        else:
            size = sum(counts) + (math.prod(counts) if symbol == "*" else 0)
        if size > MOST_TERMS:
            raise RefusedError(f"it stands for more than {MOST_TERMS:,} terms")
        sizes[id(node)] = size


def _post_order(tree: Any) -> list[Any]:
    order, waiting = [], [] if tree is None else [tree]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += getattr(node, "args", ())
    return order


def _check_operator(symbol: str, parts: Sequence[Any]) -> None:
    if symbol == "|":
        raise RefusedError("| belongs to random effects; write + or * between moderators")
    if symbol not in ("+", "-", ":", "*", "/", "in", "**", "^") and not (symbol == "~" and len(parts) == 1):
        raise RefusedError(f"{symbol!r} may not stand there")
    leaves = [None if hasattr(part, "operator") else part for part in parts]
    if symbol in ("**", "^"):
        power = leaves[1]
        if power is None or not re.fullmatch(r"[1-9]\d?", str(power.token)):
            raise RefusedError(f"{symbol} of terms takes a number from 1 to 99")
        if leaves[0] is not None:
            name = leaves[0].token
            raise RefusedError(f"{name}{symbol}{power.token} would be {name} itself; write I({name}**{power.token})")
        return
    numbers = [leaf.token for leaf in leaves if leaf is not None and leaf.kind.value == "value"]
    odd = numbers if symbol not in "+-~" else [number for number in numbers if number not in ("0", "1")]
    if odd:
        raise RefusedError(f"{shown(odd[0])} is no moderator; write a calculation inside I(), such as I(year / 10)")
    if symbol in ("*", ":") and len(parts) == 2 and None not in leaves and leaves[0].token == leaves[1].token:  # type: ignore[union-attr]
        name = leaves[0].token  # type: ignore[union-attr]
        raise RefusedError(f"{name}{symbol}{name} would be {name} itself; write I({name}**2)")


def _check_operand(token: Any) -> Iterator[str]:
    kind, text = token.kind.value, str(token.token)
    if kind == "value":
        if not re.fullmatch(r"\d{1,3}", text):
            raise RefusedError(f"{shown(text)} is no moderator; write a calculation inside I(), such as I(year / 10)")
    elif kind == "name":
        if text in INTERCEPTS or re.fullmatch(r"[\d.]*", text):
            raise RefusedError(f"a column called {text!r} cannot be told from the intercept; give it another name")
        yield own_name(text)
    else:
        yield from _check_factor(text)


def _check_factor(text: str) -> Iterator[str]:
    tree, names = parse(text)
    if re.search(r"[\\#]", text):
        raise RefusedError("a backslash or # may not stand inside a function")
    for name in names.values():
        if re.search(r"['\"\\\n{}]", name) or keyword.iskeyword(name):
            raise RefusedError(f"the column {name!r} may not stand inside a function; give it a plain name")
    if not isinstance(tree, ast.Call):
        raise RefusedError(f"write a calculation inside I(): I({text})")
    _check_value(tree)
    yield from map(own_name, _variables(tree, names))


def _variables(tree: ast.expr, names: Mapping[str, str]) -> set[str]:
    called = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Call) for part in ast.walk(node.func)}
    return {names.get(n.id, n.id) for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}


def _check_value(node: ast.expr, *, listed: bool = False, text: bool = False) -> None:
    """Check one part of a factor; a list stands only as an argument, a text only there and in a comparison."""
    if isinstance(node, ast.Name):
        return
    if isinstance(node, ast.Constant) and not (isinstance(node.value, str) and not text):
        # formulaic writes the text of a call into code of its own, where a quote or a backslash would end a string.
        if isinstance(node.value, str) and re.search(r"['\"\\\n\r{}`]", node.value):
            raise RefusedError(f"the text {shown(node.value)} holds a quote, back-tick or backslash")
        check_constant(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        _check_value(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        _check_value(node.left)
        _check_value(node.right)
        if isinstance(node.op, ast.Pow):
            _check_power(node)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        _check_value(node.left, text=True)
        _check_value(node.comparators[0], text=True)
    elif isinstance(node, ast.List | ast.Tuple) and listed:
        for part in node.elts:
            _check_value(part, text=True)
    elif isinstance(node, ast.Call):
        _check_call(node)
    else:
        dotted = "; write a column with a dot in its name in back-ticks" if isinstance(node, ast.Attribute) else ""
        raise RefusedError(f"{shown(ast.unparse(node))} may not stand there{dotted}")


def _check_power(node: ast.BinOp) -> None:
    """Refuse powers of two numbers, which Python would work out to any length."""
    if not any(isinstance(part, ast.Name) for part in ast.walk(node.left)):
        raise RefusedError(f"{shown(ast.unparse(node))}: a power is taken of a column")
    power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    if not isinstance(power, ast.Constant) or not isinstance(power.value, int | float) or power.value > MOST_POWER:
        raise RefusedError(f"{shown(ast.unparse(node))}: an exponent is a number up to {MOST_POWER}")


def _check_call(node: ast.Call) -> None:
    name = ast.unparse(node.func)
    if name not in FUNCTIONS or any(word.arg is None for word in node.keywords):
        raise RefusedError(f"{shown(name)} is not one of the functions{did_you_mean(name, sorted(FUNCTIONS))}")
    if name in ELEMENTWISE | NUMPY and (node.keywords or len(node.args) != 1):
        raise RefusedError(f"{name}() takes one column")
    for part in node.args:
        _check_value(part, listed=True, text=name in CODINGS | {"C"})
    for word in node.keywords:
        if str(word.arg).startswith("_"):
            raise RefusedError(f"{word.arg}= is no option of {name}")
        _check_value(word.value, listed=True, text=True)


def check_size(formula: Formula, levels: Mapping[str, Sequence[str]], *, where: str) -> None:
    """Refuse a design with more coefficients than are meant, before it is made."""
    least = most = 0
    for term in formula:
        widths = [
            len(levels.get(factor.expr, " ")) if factor.eval_method.value == "lookup" else _width(factor.expr, levels)
            for factor in term.factors
        ]
        least += math.prod(max(width - 1, 1) for width in widths)
        most += math.prod(widths)
    if least > MOST_COLUMNS or most > 10 * MOST_COLUMNS:
        raise DesignError(f"{where} asks for at least {least:,} coefficients; at most {MOST_COLUMNS:,} are fitted")


def _width(factor: str, levels: Mapping[str, Sequence[str]]) -> int:
    """Return how many columns a function may give: the levels of what it codes, or the size of a spline."""
    try:
        call, names = parse(factor)
    except RefusedError:
        return 1
    if not isinstance(call, ast.Call):
        return 1
    if ast.unparse(call.func) in SIZED:
        sizes = [*call.args[1:], *(word.value for word in call.keywords if word.arg in ("df", "degree", "knots"))]
        return 1 + sum(len(part.elts) if isinstance(part, ast.List | ast.Tuple) else _whole(part) for part in sizes)
    coded = call.args[0] if call.args else None
    name = names.get(coded.id, coded.id) if isinstance(coded, ast.Name) else ""
    return len(levels.get(name, " "))


def _whole(node: ast.expr) -> int:
    return int(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else 0
