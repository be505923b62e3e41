"""How `results.json` holds numbers and prose, and how both are written.

Prose may hold ``*emphasis*``, ``**strong**``, `` `code` ``, ``[words](https://...)``, blank lines between
paragraphs and lines that begin with ``- ``. Numbers are never typed: ``{kolden.r}`` is replaced by the number
of that name, written as its format says. ``{{`` and ``}}`` stand for braces.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from alliance_meta.encoding import INFINITE, NOT_APPLICABLE, plain
from alliance_meta.notes import Note
from alliance_meta.tables import format as fmt

Quantity = dict[str, Any]

MOST_DECIMALS = 9


def quantity(value: Any, kind: str, label: str) -> Quantity:
    """Return a number with the words and the format it is shown with."""
    return {"label": label, "format": kind, "value": value}


def note_quantities(notes: Iterable[Note]) -> dict[str, Quantity]:
    """Return notes as text that prose may quote."""
    return {f"note_{note.code.replace('-', '_')}": quantity(note.message, "text", "Note") for note in notes}


def dumps(document: Mapping[str, Any]) -> str:
    """Write a document as JSON: the same bytes for the same numbers, everywhere."""
    return json.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def number(value: Any) -> float | None:
    """Return a stored number as a float, None where there is none."""
    if isinstance(value, Mapping):
        return math.copysign(math.inf, value[INFINITE]) if INFINITE in value else None
    return None if value is None else float(value)


def reason(value: Any) -> str | None:
    """Return why a stored number does not exist, if it says so."""
    if isinstance(value, Mapping) and NOT_APPLICABLE in value:
        return str(value[NOT_APPLICABLE])
    if isinstance(value, list) and value:
        return next((found for found in map(reason, value) if found), None)
    return None


def show(value: Any, kind: str) -> str:
    """Write a stored value as its kind asks.

    >>> show(0.2499, "r"), show([0.118, 0.373], "r_interval"), show({"not_applicable": "k = 1"}, "r")
    ('.25', '[.12, .37]', 'n/a')
    """
    if kind == "text":
        return "" if value is None else str(value)
    return FORMATS[kind](value)


def _plain(decimals: int, *, leading_zero: bool = True) -> Callable[[Any], str]:
    return lambda value: fmt.format_number(number(value), decimals, leading_zero=leading_zero)


def _interval(decimals: int, *, leading_zero: bool = True) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if not isinstance(value, list):
            return fmt.NOT_AVAILABLE
        return fmt.format_interval(number(value[0]), number(value[1]), decimals, leading_zero=leading_zero)

    return write


def _one(write: Callable[[float | None], str]) -> Callable[[Any], str]:
    return lambda value: write(number(value))


def _percents(value: Any) -> str:
    if not isinstance(value, list):
        return fmt.NOT_AVAILABLE
    low, high = (fmt.format_percent(number(end)) for end in value)
    return f"[{low}, {high}]"


def _year(value: Any) -> str:
    year = number(value)
    return "" if year is None else f"{int(year)}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "count": _one(fmt.format_count),
    "year": _year,
    "r": _plain(2, leading_zero=False),
    **{f"r{decimals}": _plain(decimals, leading_zero=False) for decimals in range(1, MOST_DECIMALS)},
    **{f"fixed{decimals}": _plain(decimals) for decimals in range(MOST_DECIMALS)},
    "r_interval": _interval(2, leading_zero=False),
    **{f"r{decimals}_interval": _interval(decimals, leading_zero=False) for decimals in range(3, MOST_DECIMALS)},
    **{f"fixed{decimals}_interval": _interval(decimals) for decimals in range(2, MOST_DECIMALS)},
    "z": _plain(3),
    "z_interval": _interval(3),
    "variance": _plain(4),
    "variance_interval": _interval(4),
    "sd": _plain(3),
    "sd_interval": _interval(3),
    "percent": _one(fmt.format_percent),
    "percent_interval": _percents,
    "weight": _one(fmt.format_weight),
    "stat": _plain(2),
    "df": _one(fmt.format_df),
    "p": _one(fmt.format_p),
    "p_named": _one(lambda value: fmt.format_p(value, name="p")),
    "bf": _one(fmt.format_bayes_factor),
    "level": lambda value: fmt.format_level(float(value)),
}


def finer(kind: str, error: Any) -> str:
    """Return a format with more decimals where a standard error is so small that it needs them.

    >>> finer("z", 0.0047), finer("r3_interval", 0.0047), finer("z", 0.047), finer("p", 0.0047)
    ('fixed4', 'r4_interval', 'z', 'p')
    """
    base = {"z": "fixed", "r3": "r"}.get(kind.removesuffix("_interval"))
    decimals = 3 if base is None else fmt.error_decimals(number(error) or 0.0, 3)
    return kind if decimals == 3 else f"{base}{decimals}{'_interval' if kind.endswith('_interval') else ''}"


PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_MARKS = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    # A star after a letter opens nothing (p-uniform*), one after a backslash is a star.
    r"|(?<![\w\\])\*(?P<em>(?:\\\*|[^*])+)(?<!\\)\*"
    r"|\[(?P<words>[^\]]+)\]\((?P<href>https://[^\s)]+)\)"
)

Run = dict[str, str]


def placeholders(text: str) -> Iterator[str]:
    """Yield the names between braces, in order.

    >>> list(placeholders("r = {kolden.r}, {{not this}}"))
    ['kolden.r']
    """
    for match in PLACEHOLDER.finditer(text):
        if match[1] is not None:
            yield match[1].strip()


def fill(text: str, lookup: Callable[[str], str]) -> str:
    """Replace every placeholder by what `lookup` returns for its name.

    >>> fill("r = {a.r} {{}}", {"a.r": ".25"}.__getitem__)
    'r = .25 {}'
    """

    def one(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return lookup(match[1].strip())

    return PLACEHOLDER.sub(one, text)


def escape(text: str) -> str:
    """Return the text with its braces doubled, so that they stand for themselves.

    >>> escape("{x}")
    '{{x}}'
    """
    return text.replace("{", "{{").replace("}", "}}")


def inline(text: str) -> list[Run]:
    r"""Split one paragraph into runs ``{"t": kind, "s": words}``; a link has ``href`` too.

    >>> inline("an *old* paper")
    [{'t': 'text', 's': 'an '}, {'t': 'em', 's': 'old'}, {'t': 'text', 's': ' paper'}]
    >>> inline(r"p-uniform*, of *the p-uniform\* method*")
    [{'t': 'text', 's': 'p-uniform*, of '}, {'t': 'em', 's': 'the p-uniform* method'}]
    """
    text = " ".join(text.splitlines())
    runs: list[Run] = []
    end = 0
    for match in _MARKS.finditer(text):
        if match.start() > end:
            runs.append({"t": "text", "s": _stars(text[end : match.start()])})
        kind = match.lastgroup or ""
        if kind == "href":
            runs.append({"t": "link", "s": match["words"], "href": match["href"]})
        else:
            runs.append({"t": kind, "s": _stars(match[kind]) if kind == "em" else match[kind]})
        end = match.end()
    if end < len(text):
        runs.append({"t": "text", "s": _stars(text[end:])})
    return runs


def _stars(text: str) -> str:
    return text.replace("\\*", "*")


def blocks(text: str) -> list[dict[str, Any]]:
    r"""Split text into paragraphs and lists of runs.

    >>> [block["type"] for block in blocks("One.\n\n- a\n- b")]
    ['paragraph', 'list']
    """
    out: list[dict[str, Any]] = []
    for chunk in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in chunk.splitlines() if line.strip()]
        if not lines:
            continue
        if lines[0].startswith("- "):
            out.append({"type": "list", "items": [inline(item) for item in _items(lines)]})
        else:
            out.append({"type": "paragraph", "runs": inline(" ".join(lines))})
    return out


def unmarked(text: str) -> str:
    """Return the text without its marks, one paragraph per line.

    >>> unmarked("an *old* [paper](https://doi.org/x)")
    'an old paper (https://doi.org/x)'
    """
    lines = []
    for block in blocks(text):
        if block["type"] == "list":
            lines += ["- " + _words(item) for item in block["items"]]
        else:
            lines.append(_words(block["runs"]))
    return "\n\n".join(lines)


def _items(lines: list[str]) -> list[str]:
    items: list[str] = []
    for line in lines:
        if line.startswith("- "):
            items.append(line[2:])
        else:
            items[-1] += " " + line
    return items


def _words(runs: list[Run]) -> str:
    return "".join(f"{run['s']} ({run['href']})" if run["t"] == "link" else run["s"] for run in runs)
