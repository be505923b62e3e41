"""Numbers are rounded for readers in `tables/format.py` and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import alliance_meta

PACKAGE = Path(alliance_meta.__file__).parent
THE_PLACE = PACKAGE / "tables" / "format.py"

# ``:.4f``, ``:.3g``, ``:,.0f``, ``:.{digits}e``; and ``:g``, which keeps six digits.
ROUNDS = re.compile(r"\.[\d{]|[eEfFgG%]$")
SIX_DIGITS = "g"

# Where ``:g`` repeats in a message, or in R code, what a person typed.
GIVEN = {
    "core": "messages about matrices",
    "effects": "messages about cells and arguments",
    "bias": "levels of significance, steps and values of the mean that a person typed",
    "bayes": "parameters of priors and R code",
    "notes": "a message about a level",
    "design": "levels of a moderator",
}
# What no reader sees as a rounded number, as it stands in the source.
EXACT = {
    "{number:.0f}": "a whole number in R code, with all its digits",
    "{prior.mean:.15g}": "R code, which needs every digit",
    "{prior.sd:.15g}": "R code",
    "{fit.mu_prior.mean:.15g}": "R code",
    "{fit.mu_prior.sd:.15g}": "R code",
    "{one.weight:.15g}": "R code",
    "np.round(found, d)": "how many decimals the ticks of an axis need",
    "np.abs(source.yi / source.sei).round(8)": "whether two lists of z are the same",
    "found.z.round(8)": "the same",
    "round(beyond, 2)": "where an axis ends",
    "np.round(np.abs(usable), 9)": "points of a swarm that stand at one place",
    "round(WIDTH * min(max(axis.share(value), 0.0), 1.0), 1)": "SVG coordinates",
    "round(LEAST_SQUARE + (MOST_SQUARE - LEAST_SQUARE) * share, 1)": "SVG coordinates",
    "round(typed ** 2, 4)": "numbers compared as they were typed",
}


def rounded(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line, spelling, and whether it is a bare ``:g``, of everything in a module that rounds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            spec = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.format_spec.values
            )
            if ROUNDS.search(spec):
                yield node.lineno, f"{{{ast.unparse(node.value)}:{spec}}}", spec == SIX_DIGITS
        elif isinstance(node, ast.Call) and len(node.args) + len(node.keywords) > 0:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            digits = len(node.args) - (name == "round" and not of_frame(node.func)) > 0
            if (name == "round" and digits) or name in ("to_string", "to_html"):
                yield node.lineno, ast.unparse(node), False


def of_frame(function: ast.expr) -> bool:
    """Return whether ``round`` is a method, whose only argument is the number of digits."""
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) != "np"


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != THE_PLACE)


def test_no_number_is_rounded_elsewhere_and_every_exception_is_needed() -> None:
    found, seen = [], set()
    for path in MODULES:
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for line, text, given in rounded(path.read_text("utf-8")):
            seen.add(text)
            if text not in EXACT and not (given and part in GIVEN):
                found.append(f"{path}:{line}: {text}")
    assert not found, "use alliance_meta.tables.format: " + ", ".join(found)
    assert set(EXACT) <= seen


@pytest.mark.parametrize(
    "source", ['f"{x:.4f}"', 'f"{x:9.4f}"', 'f"{x:,.0f}"', 'f"{x:.{d}f}"', 'f"{x:g}"', "round(x, 2)", "frame.round(3)"]
)
def test_rounding_is_seen(source: str) -> None:
    assert len(list(rounded(source))) == 1


@pytest.mark.parametrize("source", ['f"{x:>8}"', 'f"{n:,}"', 'f"{x!r}"', "round(x)", "x == x.round()", "np.round(x)"])
def test_nothing_else_is(source: str) -> None:
    assert list(rounded(source)) == []
