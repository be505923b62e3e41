"""The pages of the site: tables from docstrings, calls of other programs, pictures, what is staged for Sphinx."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import alliance_meta as am

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?:docs/)?pictures/(?P<name>[\w-]+)\.png\)")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
METHODS = runpy.run_path(str(Path(__file__).with_name("methods.py")))
SITE = runpy.run_path(str(DOCS / "make_site.py"))
COMING = (DOCS / "coming-from.md").read_text("utf-8")


def test_the_page_of_methods_holds_what_the_docstrings_say() -> None:
    tables = {match["name"]: match["table"] for match in METHODS["BLOCK"].finditer(METHODS["PAGE"].read_text("utf-8"))}
    assert set(tables) == {*METHODS["FAMILIES"], "estimators"}
    for name, shown in tables.items():
        assert shown == METHODS["table"](name), "run: PYTHONPATH=. python tests/docs/methods.py"


def rows(heading: str) -> list[list[str]]:
    section = COMING.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3]] for line in lines]


def calls() -> list[ast.Call]:
    codes = re.findall(r"`((?:am|fit)\.[^`\n]*\))`", COMING)
    return [node for code in codes for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]


def test_every_call_that_stands_for_another_programs_exists_with_these_arguments() -> None:
    fits = [am.models.RandomEffectsResults, am.models.MultilevelResults, am.models.RobustResults]
    tried = 0
    for call in calls():
        if "(" in (called := ast.unparse(call.func)):
            continue
        first, *path = called.split(".")
        if first == "fit":
            owners = [kind for kind in fits if hasattr(kind, path[0])]
            assert owners, path
            continue
        if first != "am":
            continue
        value: Any = am
        for name in path:
            value = getattr(value, name)
        wanted = {keyword.arg for keyword in call.keywords}
        assert wanted <= set(inspect.signature(value).parameters), ast.unparse(call)
        tried += 1
    assert tried > 40


def test_every_call_of_r_is_one_that_the_package_writes_or_its_docstrings_name() -> None:
    ours = "\n".join(path.read_text("utf-8") for path in (ROOT / "alliance_meta").rglob("*.py"))
    named = {name for left, _ in rows("metafor") for name in re.findall(r"([\w.]+)\(", left)}
    assert len(named) > 30
    assert [name for name in sorted(named) if f"{name}(" not in ours and f"`{name}`" not in ours] == []


def test_pictures_are_small_and_their_words_say_what_they_show() -> None:
    shown: dict[str, set[str]] = {}
    for page in PAGES:
        for match in PICTURE.finditer(page.read_text("utf-8")):
            shown.setdefault(match["name"], set()).add(match["alt"])
    files = {path.stem: path.stat().st_size for path in (DOCS / "pictures").glob("*.png")}
    assert set(shown) == set(files)
    assert sum(files.values()) < 400_000
    for name, words in shown.items():
        (alt,) = words
        assert len(re.findall(r"\.\d\d", alt)) >= 3, alt
        assert alt.startswith("SYNTHETIC DATA") == name.startswith("tutorial")


def test_the_words_of_the_first_picture_are_what_its_frame_says() -> None:
    fit = am.RandomEffectsModel(am.escalc(am.load_dataset("kolden2011_congruence"))).fit()
    said = am.plots.forest_data(fit).attrs["description"].replace("[", "(").replace("]", ")")
    assert f"![{' '.join(said.split())}](docs/pictures/forest.png)" in (ROOT / "README.md").read_text("utf-8")


def test_every_page_is_in_the_contents_once() -> None:
    listed = [name for page in ("index", "notebooks") for _, names in
              SITE["CONTENTS"].findall((DOCS / f"{page}.md").read_text("utf-8")) for name in names.split()]  # fmt: skip
    places = {place.removesuffix(".md") for place in SITE["pages"]().values()}
    assert sorted(listed) == sorted((places | {"reference/index"}) - {"index"})


def test_the_reference_has_every_public_package() -> None:
    packages = {name for name in am.__all__ if inspect.ismodule(getattr(am, name))}
    assert {name.removeprefix("bayes.") for name in SITE["MODULES"]} - {"pymc", "reporting"} == packages


@pytest.mark.parametrize(
    ("text", "staged"),
    [
        ("see [api.md](api.md)", "see [](api.md)"),
        ("see [names](api.md#types)", "see [names](api.md#types)"),
        ("[data](../data/README.md)", "[data](project/data-sets.md)"),
        ("[run](../notebooks/01_first_meta_analysis.ipynb)", "[run](notebooks/01_first_meta_analysis.md)"),
        ("[out](https://doi.org/10.1/x) [here](#x)", "[out](https://doi.org/10.1/x) [here](#x)"),
        ("`[code](api.md)`", "`[code](api.md)`"),
        ("[`code`](api.md) and `x`", "[`code`](api.md) and `x`"),
        (
            "`am.escalc`, `bias.panel(fit)`, `escalc(x)`",
            "{py:obj}`am.escalc <alliance_meta.escalc>`, {py:obj}`bias.panel(fit) <alliance_meta.bias.panel>`, "
            "`escalc(x)`",
        ),
        ("# The `EffectSizes`", "# The `EffectSizes`"),
        ("a [folder](../notebooks)", "a folder"),
    ],
)
def test_links_are_made_to_hold_on_the_site(text: str, staged: str) -> None:
    assert SITE["relinked"](text, DOCS / "index.md", "index.md", SITE["pages"]()) == staged


def test_a_notebook_becomes_a_page_with_its_outputs() -> None:
    outputs: list[dict[str, Any]] = [
        {"data": {"text/plain": ["2"]}},
        {"data": {"text/html": ["<b>3</b>"], "text/plain": ["3"]}},
        {"data": {"text/markdown": ["**4**"], "text/plain": ["<Markdown>"]}},
        {"text": ["/tmp/ipykernel_7/9.py:1: TruncationWarning: no\n"]},
    ]
    cells = [{"cell_type": "markdown", "source": ["# Title\n", "words"]}]
    cells += [{"cell_type": "code", "source": ["x"], "outputs": outputs}]
    assert [part for cell in cells for part in SITE["cell_parts"](cell, "x")] == [
        "# Title\nwords",
        "```python\nx\n```",
        "````text\n2\n````",
        "````{raw} html\n<b>3</b>\n````",
        "**4**",
        "````text\nTruncationWarning: no\n````",
    ]


def test_the_site_is_built_offline_and_without_a_clock() -> None:
    conf = (DOCS / "conf.py").read_text("utf-8")
    assert "http" not in conf
    assert not re.search(r"time|today|last_updated", conf)
    assert re.search(r"^docs: .*\n\t@\$\(VENV\)/bin/python docs/make_site.py$", (ROOT / "Makefile").read_text(), re.M)
