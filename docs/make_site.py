"""Build the documentation into docs/build/, offline: ``python docs/make_site.py``, or ``make docs``.

The pages are copied to build/docs/ first, with those that stand elsewhere (CONTRIBUTING.md, data/README.md, ...), the
notebooks with their outputs where they were run, and a page for every public package; Sphinx reads that folder. So
the pages can be read as they are, too, and their links lead to where the files are.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
STAGE = ROOT / "build" / "docs"
SITE = DOCS / "build"
# Pages that stand elsewhere, and what they are called here.
ELSEWHERE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changes.md",
    "data/README.md": "project/data-sets.md",
}
# Code, which is left as it is, and links to files.
TOKEN = re.compile(
    r"(?P<code>^```.*?^```$|`[^`\n]+`)"
    r"|(?P<image>!?)\[(?P<words>[^\]\[]*)\]\((?!\w+:|#)(?P<to>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)",
    re.M | re.S,
)
# The order of the pages, in a comment of docs/index.md: who reads the page as it is need not see it.
CONTENTS = re.compile(r"<!-- contents: (.+)\n((?:[\w/-]+\n)+)-->")
REACHABLE = {
    'role="heading">': 'role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="On this page">',
    "<pre>": '<pre tabindex="0">',
    '<div class="math-wrapper docutils container">': '<div class="math-wrapper docutils container" tabindex="0">',
}
MODULES = [
    *("effects", "models", "evidence", "moderators", "sensitivity", "bias"),
    *("bayes", "bayes.pymc", "bayes.priors", "plots", "reporting"),
]


def pages() -> dict[Path, str]:
    """Return every Markdown page with its place on the site, the index and the notebooks included."""
    found = {path: path.name for path in sorted(DOCS.glob("*.md"))}
    found |= {ROOT / name: place for name, place in ELSEWHERE.items()}
    return found | {path: f"notebooks/{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def relinked(text: str, page: Path, place: str, known: dict[Path, str]) -> str:
    """Return the page's text with links that hold on the site, and public names that lead to what is said of them.

    Files that are no pages are copied beside them; a folder loses its link.
    """

    def to(match: re.Match[str]) -> str:
        if match["code"]:
            heading = text[text.rfind("\n", 0, match.start()) + 1] == "#"
            return match["code"] if heading else named(match["code"], alone=place == "api.md")
        if match["image"] and (STAGE / place).parent.joinpath(match["to"]).exists():  # a picture of a notebook
            return match[0]
        target = (page.parent / match["to"]).resolve()
        if target in known:
            goal = known[target]
        elif target.is_file():
            goal = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT).as_posix()
            goal = goal if target.is_relative_to(DOCS / "pictures") else f"files/{goal}"
            write(goal, target.read_bytes())
        else:
            return match["words"]
        # A page that is called by its file gets its title.
        words = "" if match["words"] == match["to"] and target in known else match["words"]
        return f"{match['image']}[{words}]({os.path.relpath(goal, Path(place).parent)}{match['anchor'] or ''})"

    return TOKEN.sub(to, text)


@cache
def public() -> dict[str, str]:
    """Return the spellings of public names, and where the reference has each."""
    import alliance_meta as am

    found = {f"am.{name}": f"alliance_meta.{name}" for name in am.__all__}
    for module in MODULES:
        for name in importlib.import_module(f"alliance_meta.{module}").__all__:
            path = f"alliance_meta.{name}" if name in am.__all__ else f"alliance_meta.{module}.{name}"
            short = module.rpartition(".")[2] if module == "bayes.priors" else module
            found |= dict.fromkeys((f"{short}.{name}", f"am.{short}.{name}", f"{module}.{name}"), path)
    modules = [name for name, path in found.items() if path.removeprefix("alliance_meta.") in (*MODULES, "priors")]
    return {name: path for name, path in found.items() if name not in modules}


def named(code: str, *, alone: bool = False) -> str:
    """Return code in a line as a link to the reference where it is a public name: `am.escalc`, `bias.panel(fit)`.

    `escalc(data)` is one only where names stand alone: elsewhere it may be R's.
    """
    match = re.fullmatch(r"`([A-Za-z_][\w.]*)(\([^<>]*\))?`", code)
    if match is None:
        return code
    bare = alone and "." not in match[1] and (match[2] or match[1][0].isupper())
    path = public().get(f"am.{match[1]}" if bare else match[1])
    return f"{{py:obj}}`{code[1:-1]} <{path}>`" if path else code


def write(place: str, content: bytes | str) -> None:
    """Write one file of the staged site."""
    path = STAGE / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


# Notebooks -------------------------------------------------------------------------------------------------------


def notebook(page: Path) -> str:
    """Return a notebook as Markdown, with outputs where `make notebooks` has run it."""
    run = page.parent / "build" / page.name
    said = "As `make notebooks` ran it" if run.exists() else "Without outputs: `make notebooks` makes them"
    cells = json.loads((run if run.exists() else page).read_text("utf-8"))["cells"]
    parts = [part for i, cell in enumerate(cells) for part in cell_parts(cell, f"{page.stem}-{i}")]
    return "\n\n".join([parts[0], f"{said}. The file is `notebooks/{page.name}`.", *parts[1:]]) + "\n"


def cell_parts(cell: dict[str, Any], name: str) -> Iterator[str]:
    """Give the text of a cell, and what it put out."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code":
        yield f"```python\n{source}\n```"
        for i, output in enumerate(cell["outputs"]):
            yield shown(output, f"{name}-{i}")


def shown(output: dict[str, Any], name: str) -> str:
    """Return one output: a picture, words, a table, or text without the place of the cell that warned."""
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if not isinstance(value, dict)}
    if "image/png" in data:
        write(f"notebooks/{name}.png", base64.b64decode(data["image/png"]))
        alternative = output.get("metadata", {}).get("image/png", {}).get("alt", "Figure of this cell")
        return f"![{alternative.replace('[', '(').replace(']', ')')}]({name}.png)"
    if "text/markdown" in data:
        return data["text/markdown"]
    if "text/html" in data:
        return f"````{{raw}} html\n{data['text/html']}\n````"
    text = data.get("text/plain", "".join(output.get("text", "")))
    return "````text\n" + re.sub(r"\S*ipykernel_\d+/\d+\.py:\d+: ", "", text).rstrip() + "\n````"


# Reference -------------------------------------------------------------------------------------------------------


def reference(package: ModuleType, top: set[str]) -> str:
    """Return the page of a package: a line for each public name, then what its docstring says."""
    name = package.__name__
    names = [one for one in package.__all__ if not one.startswith("__") and (name == "alliance_meta" or one not in top)]
    own = [one for one in names if not isinstance(getattr(package, one), ModuleType)]
    own.sort(key=lambda one: isinstance(getattr(package, one), type))
    lines = [name, "=" * len(name), "", (package.__doc__ or "").strip(), "", f".. currentmodule:: {name}", ""]
    lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {one}" for one in own), ""]
    for one in own:
        lines += directive(f"{name}.{one}", getattr(package, one))
    return "\n".join(lines) + "\n"


def directive(path: str, value: Any) -> list[str]:
    """Return the lines that put a docstring onto a page."""
    if not isinstance(value, type):
        return [f".. {'autofunction' if callable(value) else 'autodata'}:: {path}", ""]
    return [f".. autoclass:: {path}", "   :members:", "   :inherited-members: BaseException, float, tuple", ""]


def reference_pages() -> None:
    """Write the reference: one page for the top, one for each package that docs/api.md lists."""
    import alliance_meta

    top = set(alliance_meta.__all__)
    write("reference/alliance_meta.rst", reference(alliance_meta, top))
    for module in MODULES:
        package = importlib.import_module(f"alliance_meta.{module}")
        write(f"reference/{module}.rst", reference(package, top))
    listed = "\n".join(f"   {name}" for name in ["alliance_meta", *MODULES])
    words = "What the docstrings say, for every name in :doc:`the list of public names </api>`."
    write("reference/index.rst", f"Reference\n=========\n\n{words}\n\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n")


def more(place: str) -> str:
    """Return what the site adds to a page: a link to the gallery where it was drawn."""
    drawn = place == "gallery.md" and (SITE / "gallery" / "index.html").exists()
    link = '<p><a href="gallery/index.html">Every plot, with few studies and with many</a></p>'
    return f"\n```{{raw}} html\n{link}\n```\n" if drawn else ""


def stage() -> None:
    """Write everything that Sphinx reads into build/docs/."""
    shutil.rmtree(STAGE, ignore_errors=True)
    known = pages()
    for page, place in known.items():
        text = notebook(page) if page.suffix == ".ipynb" else page.read_text("utf-8")
        text = relinked(text, page, place, known) + more(place)
        write(place, CONTENTS.sub(r"```{toctree}\n:hidden:\n:caption: \1\n\2```", text))
    reference_pages()


def reachable() -> None:
    """Add what the theme lacks for keyboards and screen readers: levels of headings, names of parts, scrolling."""
    for page in SITE.rglob("*.html"):
        if "gallery" not in page.parts:
            text = page.read_text("utf-8")
            for old, new in REACHABLE.items():
                text = text.replace(old, new)
            page.write_text(text, "utf-8")


def main() -> int:
    """Stage the pages and let Sphinx build them; every warning is an error."""
    from sphinx.cmd.build import main as sphinx

    stage()
    options = [
        "-W",
        "--keep-going",
        "-q",
        "-E",
        "-j",
        "auto",
        "-b",
        "html",
        "-c",
        str(DOCS),
        "-d",
        str(STAGE.with_name("doctrees")),
    ]
    failed = sphinx([*options, str(STAGE), str(SITE)])
    if not failed:
        reachable()
        print(f"The documentation: {SITE.relative_to(ROOT) / 'index.html'}")
    return failed


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
