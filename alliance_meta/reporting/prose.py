"""The prose of a report: placeholders that read numbers, and four marks of Markdown.

Text may hold ``*emphasis*``, ``**strong**``, `` `code` ``, ``[words](https://...)``, blank lines between
paragraphs and lines that begin with ``- ``. Numbers are never typed: ``{kolden.r}`` is replaced by the number
of that name, written as its format says. ``{{`` and ``}}`` stand for braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_MARKS = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|\*(?P<em>[^*]+)\*"
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
    """Split one paragraph into runs ``{"t": kind, "s": words}``; a link has ``href`` too.

    >>> inline("an *old* paper")
    [{'t': 'text', 's': 'an '}, {'t': 'em', 's': 'old'}, {'t': 'text', 's': ' paper'}]
    """
    text = " ".join(text.splitlines())
    runs: list[Run] = []
    end = 0
    for match in _MARKS.finditer(text):
        if match.start() > end:
            runs.append({"t": "text", "s": text[end : match.start()]})
        kind = match.lastgroup or ""
        if kind == "href":
            runs.append({"t": "link", "s": match["words"], "href": match["href"]})
        else:
            runs.append({"t": kind, "s": match[kind]})
        end = match.end()
    if end < len(text):
        runs.append({"t": "text", "s": text[end:]})
    return runs


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


def plain(text: str) -> str:
    """Return the text without its marks, one paragraph per line.

    >>> plain("an *old* [paper](https://doi.org/x)")
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
