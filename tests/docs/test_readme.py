"""What README and guide show runs: code, make targets, commands and links."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer.main

from alliance_meta.cli.app import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```$", re.M | re.S)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
LONGEST_EXAMPLE = 10

each = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def blocks(page: Path, *languages: str) -> list[str]:
    return [match["body"] for match in FENCE.finditer(page.read_text("utf-8")) if match["language"] in languages]


def shell_lines(page: Path) -> list[str]:
    """Lines of shell blocks and code in the text, without prompts, comments and settings in front."""
    text = FENCE.sub("", page.read_text("utf-8"))
    lines = [line for block in blocks(page, "", "sh", "bash", "console", "shell") for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    return [re.sub(r"^(\$ |[A-Z]+=\S+ )+", "", line.split("  #")[0].strip()) for line in lines]


@cache
def commands() -> set[tuple[str, ...]]:
    """Every command of the command line as words: ("fit",), ("data", "list"), ..."""
    found: set[tuple[str, ...]] = set()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        found |= {(name, word) for word in inner} if inner else {(name,)}
    return found


def test_the_readme_shows_an_example_of_at_most_ten_lines() -> None:
    examples = blocks(README, "python")
    assert examples
    assert min(len([line for line in code.splitlines() if line.strip()]) for code in examples) <= LONGEST_EXAMPLE


# Loads the package once and runs each page's code in a copy of the process, in the page's own folder.
RUN_PAGES = """
import json, os, runpy, sys
import pandas
from alliance_meta import bayes, bias, moderators, plots, reporting, sensitivity
for name in dir(plots):
    getattr(plots, name)
run = runpy.run_path(sys.argv[1])["run"]
for folder in sys.argv[2:]:
    if os.fork() == 0:
        os.chdir(folder)
        os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY), 2)
        printed = run(json.load(open("blocks.json", encoding="utf-8")))
        json.dump(printed, open("printed.json", "w", encoding="utf-8"))
        sys.exit()
    os.wait()
"""
OUTPUTS = Path(__file__).with_name("outputs.py")
BLOCK = runpy.run_path(str(OUTPUTS))["BLOCK"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Run the Python blocks of every page that has some; its folder has `printed.json` if they ran to the end."""
    found = {}
    for page in PAGES:
        if code := [match["code"] for match in BLOCK.finditer(page.read_text("utf-8"))]:
            found[page] = tmp_path_factory.mktemp(page.stem)
            (found[page] / "blocks.json").write_text(json.dumps(code), encoding="utf-8")
    command = [sys.executable, "-c", RUN_PAGES, str(OUTPUTS), *map(str, found.values())]
    subprocess.run(command, check=True, capture_output=True)
    return found


@each
def test_python_blocks_run_one_after_the_other_and_print_what_the_page_shows(
    page: Path, folders: dict[Path, Path]
) -> None:
    if page not in folders:
        assert page != README
        return
    printed = folders[page] / "printed.json"
    assert printed.exists(), (folders[page] / "said").read_text("utf-8")
    shown = [match["said"] for match in BLOCK.finditer(page.read_text("utf-8"))]
    for block, said in zip(shown, json.loads(printed.read_text("utf-8")), strict=True):
        assert block in (None, said), f"run: PYTHONPATH=. python tests/docs/outputs.py docs/{page.name}"


def test_the_readme_begins_with_the_two_commands() -> None:
    assert {"make reports", "make test"} <= set(shell_lines(README))


@each
def test_make_targets_exist(page: Path) -> None:
    named = [line.split() for line in shell_lines(page) if line.startswith("make ")]
    wanted = {words[1] for words in named if re.fullmatch(r"[a-z]+", words[1])}
    assert wanted <= TARGETS


@each
def test_commands_exist(page: Path) -> None:
    known = commands()
    for line in shell_lines(page):
        words = line.split()
        if words[:1] == ["alliance-meta"] and len(words) > 1 and not words[1].startswith("-"):
            assert tuple(words[1:2]) in known or tuple(words[1:3]) in known, line


@each
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", page.read_text("utf-8")))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
