"""R for the tests: run it where it is installed, and hold code against R's grammar where it is not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

OPEN = {"(": ")", "[": "]", "{": "}"}
TOKEN = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)+`)
  | (?P<number>(?:0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)L?)
  | (?P<name>(?:[A-Za-z]|\.(?!\d))[A-Za-z0-9._]*)
  | (?P<operator><-|%[^%\n]*%|<=|>=|==|!=|::|&&|\|\||[-+*/^~|&<>=!$,:;?])
  | (?P<bracket>[()\[\]{}])
  | (?P<line>\n)
  | (?P<space>[^\S\n]+)
    """,
    re.VERBOSE,
)
SHOW = """
show_fit <- function(x) {
  rows <- if (inherits(x, "coef_test_clubSandwich")) cbind(x$beta, x$SE, x$df)
    else if (inherits(x, "robu")) cbind(x$reg_table$b.r, x$reg_table$SE, x$reg_table$dfs)
    else cbind(as.numeric(x$beta), x$se, if (is.null(x$ddf) || all(is.na(x$ddf))) NA else x$ddf)
  rows <- apply(rows, c(1, 2), function(v) if (is.na(v)) "null" else sprintf("%.17g", v))
  cat("FIT [", paste(apply(rows, 1, function(r) paste0("[", paste(r, collapse=","), "]")), collapse=","), "]\\n")
}
"""


@cache
def missing_packages(packages: tuple[str, ...]) -> str:
    """Return why R code cannot run here; empty where it can."""
    if shutil.which("Rscript") is None:
        return "Rscript is not installed"
    code = "; ".join(f'cat(nzchar(system.file(package="{p}")), "")' for p in packages)
    found = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True).stdout.split()
    lacking = [p for p, there in zip(packages, found, strict=True) if there != "TRUE"]
    return f"R lacks {', '.join(lacking)}" if lacking else ""


def run(code: str, folder: Path) -> list[Any]:
    """Run R code; return estimate, standard error and degrees of freedom of each model that it fits."""
    (folder / "code.R").write_text(SHOW + _shown(code), encoding="utf-8")
    done = subprocess.run(["Rscript", "code.R"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + code
    return [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("FIT ")]


def run_each(codes: Mapping[Any, str], folder: Path) -> dict[Any, list[Any]]:
    """Run several codes, each without the names of the one before, in one R: it takes longer to start than to fit."""
    alone = "rm(list=setdiff(ls(), 'show_fit'))"
    fits = iter(run("\n".join(f"{alone}\n{code}\ncat('FIT null\\n')" for code in codes.values()), folder))
    return {name: list(iter(fits.__next__, None)) for name in codes}


def _shown(code: str) -> str:
    """Show each model, with cluster-robust tests where these follow it."""
    out: list[str] = []
    lines = code.splitlines()
    for i, line in enumerate(lines):
        out.append(f"show_fit({line})" if line.startswith("coef_test(") else line)
        robust = any(later.startswith("coef_test(") for later in _until_next(lines[i + 1 :]))
        if line.startswith("fit <- ") and not robust:
            out.append("show_fit(fit)")
    return "\n".join(out)


def _until_next(lines: Sequence[str]) -> list[str]:
    stop = next((i for i, line in enumerate(lines) if line.startswith("fit <- ")), len(lines))
    return list(lines[:stop])


def grammar_faults(code: str) -> list[str]:
    """Return what R's reader would stumble over: unknown characters, brackets, two values in a row."""
    faults, place, brackets, before = [], 0, [], ""
    while place < len(code):
        found = TOKEN.match(code, place)
        if found is None:
            return [*faults, f"unreadable: {code[place : place + 40]!r}"]
        kind, token, place = str(found.lastgroup), found.group(), found.end()
        if kind in ("space", "comment"):
            continue
        if token in OPEN:
            brackets.append(OPEN[token])
        elif kind == "bracket" and (not brackets or brackets.pop() != token):
            faults.append(f"bracket {token} too many before {code[place : place + 40]!r}")
        value = kind in ("text", "number", "name")
        if value and before in ("text", "number", "name"):
            faults.append(f"two values in a row: {code[max(0, place - 40) : place]!r}")
        # Inside round and square brackets a line's end is a space.
        before = before if kind == "line" and brackets and brackets[-1] != "}" else kind
        before = "" if token in ("else", "function", "if", "in") else before
    return [*faults, *(f"{bracket} is missing" for bracket in brackets)]
