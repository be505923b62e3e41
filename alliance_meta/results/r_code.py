"""The one place that writes R: names, values, formulas, conditions, the data, and the calls of every fit."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.correlations.pearson import r_to_z, unbiased_r, var_r, var_z
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.core.dependent import SamplingCovariance
    from alliance_meta.design import Design
    from alliance_meta.effects.table import EffectSizes

RESERVED = frozenset(
    (
        *("if", "else", "repeat", "while", "function", "for", "next", "break", "in", "TRUE", "FALSE", "NULL", "Inf"),
        *("NaN", "NA", "NA_integer_", "NA_real_", "NA_complex_", "NA_character_"),
    )
)
SYNTACTIC = re.compile(r"(?:[A-Za-z]|\.(?![0-9]))[A-Za-z0-9._]*\Z")
# More rows than these are written to a file of their own, not into the code.
MOST_ROWS = 200
# What clusters are called that were given as codes.
GIVEN_CLUSTER = "given cluster"
FILES = (".csv", ".tsv", ".tab", ".txt", ".dat")
# What the reader adapted in a way that R would not: the effects are written out.
ADAPTED = frozenset(
    {"encoding", "year-letter", "missing-codes", "format", "spaces", "row-names", "sheet", "hidden-rows"}
)
# Steps after reading that the code can repeat from the sheet; after any other the effects are written out.
PLAIN_STEPS = ("escalc ", "subset ", "finished effects ")
SHEET = "sheet"


def name(text: str) -> str:
    """Return a name as R takes it, in back-ticks unless it is one by R's own rules."""
    plain = SYNTACTIC.match(text) and text not in RESERVED and not re.fullmatch(r"\.\.(?:\.|\d+)", text)
    return text if plain else f"`{_escaped(text, '`')}`"


def quoted(text: str) -> str:
    """Return text as an R string, whatever stands in it."""
    return f'"{_escaped(text, chr(34))}"'


def _escaped(text: str, mark: str) -> str:
    short = {"\\": "\\\\", mark: "\\" + mark, "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(short.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)


def comment(text: str) -> str:
    """Return text as one line of comment: nothing in it can become code."""
    return "# " + " ".join("".join(c if c.isprintable() else " " for c in text).split())


def value(given: Any) -> str:
    """Return a number, text, truth value or missing cell as R writes it."""
    if isinstance(given, str):
        return quoted(given)
    if given is None or pd.isna(given):
        return "NA"
    if isinstance(given, bool | np.bool_):
        return "TRUE" if given else "FALSE"
    if not isinstance(given, int | float | np.integer | np.floating):
        return quoted(str(given))
    number = float(given)
    if math.isinf(number):
        return "Inf" if number > 0 else "-Inf"
    # The shortest spelling that R reads as the same number.
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else repr(number)


def vector(values: Iterable[Any]) -> str:
    """Return values as an R vector."""
    return f"c({', '.join(map(value, values))})"


def call(function: str, *positional: str, **named: str | None) -> str:
    """Return a call; arguments whose code is None are left out."""
    given = [f"{key} = {code}" if "~" in code else f"{key}={code}" for key, code in named.items() if code]
    return f"{function}({', '.join([*positional, *given])})"


# Formulas and conditions ------------------------------------------------------------------------------------------

CONTRASTS = {"Sum": "contr.sum", "Helmert": "contr.helmert", "Poly": "contr.poly"}
SAME = ("log", "log10", "log2", "log1p", "exp", "sqrt", "abs", "poly", "scale", "I")
OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^", ast.Mod: "%%", ast.FloorDiv: "%/%",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
FACTOR = re.compile(r"`[^`]*`|[^\W\d][\w.]*|\d+(?:\.\d*)?|\*\*|\S")


def formula(text: str) -> str:
    """Return the right-hand side of a formula in R's spelling.

    >>> formula("C(wave) + center(year) + I(age**2) + `Outcome rater`")
    'factor(wave) + scale(year, scale=FALSE) + I(age^2) + `Outcome rater`'
    """
    out, at = [], 0
    while at < len(text):
        found = FACTOR.match(text, at)
        if found is None:
            out.append(text[at])
            at += 1
            continue
        token, end = found.group(), found.end()
        if token[0] == "`":
            token = name(token[1:-1])
        elif token == "**":
            token = "^"
        elif token[0].isalpha() or token[0] == "_":
            inner = _closing(text, end) if text[end : end + 1] == "(" else end
            token, end = (_expression(text[at:inner]), inner) if inner > end else (name(token), end)
        out.append(token)
        at = end
    return "".join(out)


def condition(text: str) -> str:
    """Return a subset in R's spelling; a missing cell fulfils what it fulfils in Python.

    >>> condition("rater in ['client', 'observer'] and not (n < 20)")
    'rater %in% c("client", "observer") & !((n < 20) %in% TRUE)'
    """
    return _expression(text)


def _closing(text: str, start: int) -> int:
    """Return the place after the bracket that closes the one at `start`, quotation marks and back-ticks minded."""
    depth, mark = 0, ""
    for place in range(start, len(text)):
        character = text[place]
        if mark:
            mark = "" if character == mark else mark
        elif character in "\"'`":
            mark = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
            if not depth:
                return place + 1
    return len(text)


def _expression(text: str) -> str:
    columns: list[str] = []

    def placed(column: str) -> str:
        columns.append(column)
        return f"_column_{len(columns) - 1}_"

    # A back-tick inside a string is a character of it.
    strings = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`([^`]*)`"""
    whole = re.sub(strings, lambda found: found.group(1) or placed(found.group(2)), text)
    try:
        tree = ast.parse(whole.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{text!r} cannot be written in R: {error}") from error
    known = {f"_column_{i}_": column for i, column in enumerate(columns)}
    return _node(tree, known)


def _node(node: ast.expr, columns: Mapping[str, str]) -> str:
    """Return one node of a checked expression in R."""

    def inner(part: ast.expr) -> str:
        code = _node(part, columns)
        return f"({code})" if isinstance(part, ast.BinOp | ast.BoolOp | ast.Compare) else code

    match node:
        case ast.Constant():
            return value(node.value)
        case ast.Name():
            return name(columns.get(node.id, node.id))
        case ast.List() | ast.Tuple() | ast.Set():
            return f"c({', '.join(_node(part, columns) for part in node.elts)})"
        case ast.UnaryOp(op=ast.Not()):
            return f"!(({_node(node.operand, columns)}) %in% TRUE)"
        case ast.UnaryOp():
            return f"{'-' if isinstance(node.op, ast.USub) else '+'}{inner(node.operand)}"
        case ast.BinOp() if type(node.op) in OPERATORS:
            sign = OPERATORS[type(node.op)]
            return f"{inner(node.left)}{sign if sign == '^' else f' {sign} '}{inner(node.right)}"
        case ast.BoolOp():
            parts = [f"({_node(v, columns)})" if isinstance(v, ast.BoolOp) else _node(v, columns) for v in node.values]
            return (" & " if isinstance(node.op, ast.And) else " | ").join(parts)
        case ast.Compare():
            sides = [node.left, *node.comparators]
            parts = [
                _comparison(inner(a), op, inner(b)) for a, op, b in zip(sides[:-1], node.ops, sides[1:], strict=True)
            ]
            return " & ".join(parts)
        case ast.Call():
            return _called(node, columns)
    raise InputError(f"{ast.unparse(node)!r} cannot be written in R")


def _comparison(left: str, op: ast.cmpop, right: str) -> str:
    # R reads "True" and "true" as words.
    if right in ("TRUE", "FALSE"):
        left, right = f"toupper({left})", quoted(right)
    if isinstance(op, ast.In | ast.Eq):
        return f"{left} %in% {right}"
    if isinstance(op, ast.NotIn | ast.NotEq):
        return f"!({left} %in% {right})"
    return f"{left} {OPERATORS[type(op)]} {right}"


def _called(node: ast.Call, columns: Mapping[str, str]) -> str:
    if isinstance(node.func, ast.Attribute):
        function, given = node.func.attr, [node.func.value, *node.args]
        if isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "str":
            given[0] = node.func.value.value
    else:
        function, given = getattr(node.func, "id", ""), list(node.args)
    code = [_node(one, columns) for one in given if not isinstance(one, ast.Call) or function != "C"]
    named = {str(one.arg): one.value for one in node.keywords}
    if function == "C":
        return _coded(node, columns)
    simple: dict[str, Callable[..., str]] = {
        "center": lambda x: f"scale({x}, scale=FALSE)",
        "exp10": lambda x: f"10^({x})",
        "exp2": lambda x: f"2^({x})",
        "isna": lambda x: f"is.na({x})",
        "notna": lambda x: f"!is.na({x})",
        "isin": lambda x, y: f"{x} %in% {y}",
        "lower": lambda x: f"tolower({x})",
        "startswith": lambda x, y: f"startsWith(as.character({x}), {y}) %in% TRUE",
        "contains": lambda x, y: f"grepl({y}, {x}, fixed=TRUE)",
        "between": lambda x, low, high: f"{x} >= {low} & {x} <= {high}",
    }
    if function in simple:
        return simple[function](*code)
    words = {"bs": {"include_intercept": "intercept", "lower_bound": "", "upper_bound": ""}}.get(function, {})
    arguments = [*code, *(f"{words.get(key, key)}={_node(one, columns)}" for key, one in named.items())]
    if function == "bs":
        return f"splines::bs({', '.join(arguments)})"
    if function in SAME:
        return f"{function}({', '.join(arguments)})"
    return f"stop({quoted(f'{function}() has no equal in R')})"


def _coded(node: ast.Call, columns: Mapping[str, str]) -> str:
    """Return ``C(x, contrasts)`` as a factor."""
    named = {str(one.arg): one.value for one in node.keywords}
    levels = named.get("levels")
    code = call("factor", _node(node.args[0], columns), levels=None if levels is None else _node(levels, columns))
    coding = node.args[1] if len(node.args) > 1 else named.get("contrasts")
    if coding is None:
        return code
    given = coding.func if isinstance(coding, ast.Call) else coding
    kind = getattr(given, "attr", getattr(given, "id", ""))
    if kind in ("Treatment", "treatment"):
        base = [*coding.args, *(one.value for one in coding.keywords)] if isinstance(coding, ast.Call) else []
        return f"relevel({code}, ref={quoted(str(ast.literal_eval(base[0])))})" if base else code
    contrasts = CONTRASTS.get(kind.capitalize())
    return f"C({code}, {contrasts})" if contrasts else f"stop({quoted(f'the contrasts {kind} have no equal in R')})"


# The data ---------------------------------------------------------------------------------------------------------


def read(effects: EffectSizes) -> list[str]:
    """Return the lines that read the sheet; none where the effects come from no file."""
    source = effects.provenance.source
    if not _from_file(effects):
        return []
    layout = effects.provenance.layout
    columns = [*map(str, effects.moderators.columns), *(label for label, _ in layout.renamed)]
    arguments = {
        "sep": quoted(layout.separator) if layout.separator != "," else None,
        "dec": quoted(layout.decimal) if layout.decimal != "." else None,
        "check.names": None if all(name(column) == column for column in columns) else "FALSE",
    }
    lines = [f"{SHEET} <- {call('read.csv', quoted(source), **arguments)}"]
    names = f"names({SHEET})"
    return lines + [f"{names}[{names} == {quoted(old)}] <- {quoted(new)}" for old, new in layout.renamed]


def data(
    fit: Any, *, uses: Sequence[str] = (), escalc: str = "escalc", effects: EffectSizes | None = None
) -> list[str]:
    """Return the lines that make ``dat``: the very effects of a fit, with the columns that its model needs.

    `fit`: its effects, its design and its notes count.
    `uses`: further columns: factors of random terms, clusters.
    `escalc`: how metafor's function is called.
    `effects`: what the fit's effects were made of, where another call makes them.
    """
    effects = fit.effects if effects is None else effects
    designs = [design for kind in ("design", "scale_design") if (design := getattr(fit, kind, None)) is not None]
    needed = list(dict.fromkeys([*(v for design in designs for v in design.variables), *uses]))
    columns = [column for column in needed if column in effects.moderators]
    made = _made(effects)
    if _from_file(effects):
        lines = [*read(effects), *_rows(effects)]
    else:
        lines = _literal(effects, [*columns, *(made or {}).values()], with_effects=not made)
    if made:
        plain = all(name(column) == column for column in columns)
        lines.append(_escalc(effects, made, escalc, plain=plain) if "ri" in made else _finished(made))
    if _from_file(effects):
        lines += _complete(fit, columns)
        lines += _studies(effects, needed)
    if "es_id" in needed and "es_id" not in effects.moderators:
        lines.append("dat$es_id <- seq_len(nrow(dat))")
    return [*lines, *_factors(designs, effects)]


def _from_file(effects: EffectSizes) -> bool:
    """Tell whether the effects can be made anew from their file."""
    origin = effects.provenance
    plain = all(step.startswith(PLAIN_STEPS) and ", converted=" not in step for step in origin.steps)
    as_written = origin.layout.separator != " " and not any(note.code in ADAPTED for note in effects.notes)
    return plain and as_written and PurePath(origin.source).suffix.lower() in FILES and _made(effects) is not None


def _made(effects: EffectSizes) -> Mapping[str, str] | None:
    """Return the columns from which R makes the very same effects, None where it would make others."""
    columns, frame = effects.columns, effects.moderators
    if not columns or any(column not in frame for column in columns.values()):
        return None
    read = {key: pd.to_numeric(frame[column], errors="coerce") for key, column in columns.items()}
    number = {key: column.to_numpy(dtype=float) for key, column in read.items()}
    if "yi" in columns:
        yi, vi = number["yi"], number["vi"] if "vi" in number else number["sei"] ** 2
    elif effects.measure == "ZCOR":
        yi, vi = r_to_z(number["ri"]), var_z(number["ni"])
    else:
        r, n = number["ri"], number["ni"]
        yi = unbiased_r(r, n) if effects.measure == "UCOR" else r
        vi = var_r(r, n, vtype=effects.vtype or "LS", estimate=yi)
    same = np.allclose(yi, effects.yi, rtol=1e-12, atol=0.0) and np.allclose(vi, effects.vi, rtol=1e-12, atol=0.0)
    return columns if same else None


def _rows(effects: EffectSizes) -> list[str]:
    """Return ``dat`` as the rows of the sheet that were chosen."""
    found = (re.match(r"(?s)subset (.*): \d+ of \d+ rows\Z", step) for step in effects.provenance.steps)
    chosen = [one.group(1) for one in found if one]
    if not chosen:
        return [f"dat <- {SHEET}"]
    return [f"dat <- subset({SHEET if i == 0 else 'dat'}, {condition(text)})" for i, text in enumerate(chosen)]


def _escalc(effects: EffectSizes, made: Mapping[str, str], function: str, *, plain: bool) -> str:
    vtype = None if effects.measure == "ZCOR" or effects.vtype in ("LS", None) else quoted(str(effects.vtype))
    columns: dict[str, str | None] = {key: name(made[key]) for key in ("ri", "ni")}
    measure = {"measure": quoted(effects.measure)}
    if plain:
        return f"dat <- {call(function, **measure, **columns, data='dat', vtype=vtype)}"
    # With data=dat metafor would change the columns' names.
    given = {key: f"dat${column}" for key, column in columns.items()}
    return f'dat[c("yi", "vi")] <- {call(function, **measure, **given, vtype=vtype)}'


def _finished(made: Mapping[str, str]) -> str:
    """Return the line that calls finished effects ``yi`` and ``vi``."""
    second = name(made["vi"]) if "vi" in made else f"{name(made['sei'])}^2"
    return f'dat[c("yi", "vi")] <- with(dat, data.frame({name(made["yi"])}, {second}))'


def _complete(fit: Any, columns: Sequence[str]) -> list[str]:
    """Return the line that leaves out rows with gaps, where rows were left out."""
    if not any(note.code == "dropped-rows" for note in (*fit.effects.notes, *fit.notes)):
        return []
    gaps = ", ".join(quoted(column) for column in ("yi", "vi", *columns) if column not in ("study_id", "es_id"))
    return [f"dat <- dat[complete.cases(dat[c({gaps})]), ]"]


def _studies(effects: EffectSizes, needed: Sequence[str]) -> list[str]:
    """Return the line that makes ``study_id``: of the column, or the two, that tell the same studies apart."""
    if "study_id" not in needed:
        return []
    frame, want = effects.moderators, _partition(pd.Series(effects.study_id))
    if "study_id" in frame and _partition(frame["study_id"]) == want:
        return []
    for column in frame.columns:
        if frame[column].nunique() == len(set(effects.study_id)) and _partition(frame[column]) == want:
            return [f"dat$study_id <- dat${name(str(column))}"]
    if effects.k <= MOST_ROWS:
        return [f"dat$study_id <- {vector(effects.study_id)}"]
    return [f"dat$study_id <- read.csv({quoted('effects.csv')})$study_id  {_export(effects)}"]


def _partition(values: pd.Series[Any]) -> list[int]:
    codes: list[int] = pd.factorize(values)[0].tolist()
    return codes


def _literal(effects: EffectSizes, columns: Sequence[str], *, with_effects: bool) -> list[str]:
    if effects.k > MOST_ROWS:
        return [f"dat <- read.csv({quoted('effects.csv')}, check.names=FALSE)  {_export(effects)}"]
    frame = effects.frame
    own = ("yi", "vi") if with_effects else ()
    chosen = dict.fromkeys(["study_id", *own, *(c for c in columns if c in frame)])
    cells = ", ".join(f"{name(column)}={vector(frame[column])}" for column in chosen)
    return [f"dat <- data.frame({cells}, check.names=FALSE)"]


def _export(effects: EffectSizes) -> str:
    return '# written by fit.effects.frame.to_csv("effects.csv", index=False)'


def _factors(designs: Sequence[Design], effects: EffectSizes) -> list[str]:
    """Return the lines that give words the order of their levels; the first is the reference."""
    levels = {key: words for design in designs for key, words in design.levels.items()}
    frame = effects.moderators
    return [
        f"dat${name(key)} <- factor(dat${name(key)}, levels={vector(words)})"
        for key, words in levels.items()
        if key in frame and not pd.api.types.is_numeric_dtype(frame[key])
    ]


def mods_argument(fit: Any) -> str | None:
    """Return the moderators of a fit as metafor takes them."""
    return None if fit.design.formula == "1" else f"~ {formula(fit.design.formula)}"


def level_argument(level: float) -> str | None:
    """Return a level as metafor takes it, nothing for the usual one."""
    return None if level == 0.95 else value(100 * level)


def joint_call(fit: Any, arguments: str) -> list[str]:
    """Return the call that tests all moderators together, where there are several coefficients of them."""
    slots = [i + 1 for i in fit.design.tested]
    if len(slots) < 2:
        return []
    whole = slots[-1] - slots[0] + 1 == len(slots)
    chosen = f"{slots[0]}:{slots[-1]}" if whole else f"c({', '.join(map(str, slots))})"
    return [f'Wald_test(fit, constraints=constrain_zero({chosen}), {arguments}, test="HTZ")']


def path(term: str) -> str:
    """Return a factor, or factors within one another, as R names them."""
    return "/".join(name(part.strip()) for part in term.split("/"))


def covariance(V: SamplingCovariance) -> str:
    """Return the call that makes V of one assumed correlation; any other is written out."""
    if V.rho is not None:
        named = {
            "cluster": name(V.cluster or "cluster"),
            "subgroup": name(str(V.settings["subgroup"])) if "subgroup" in V.settings else None,
            "obs": ROWS,
            "data": "dat",
            "rho": value(V.rho),
        }
        return call("vcalc", "vi", **named)
    k = len(V.vi)
    if k > MOST_ROWS // 4:
        return f"as.matrix(read.csv({quoted('V.csv')}, header=FALSE))  {comment('numpy.savetxt of fit.V.to_dense()')}"
    return call("matrix", vector(V.to_dense().ravel()), str(k))
