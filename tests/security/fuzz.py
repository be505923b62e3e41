"""Feed the command line made-up sheets, options, declarations and descriptions, and hold it to five properties.

No traceback, nothing of what was fed run as code, exit code 0, 1 or 2, no output left behind by what failed, and
nothing written outside the folder that was named. ``python -m tests.security.fuzz --seconds 600`` runs it for long;
a case that fails is printed with its files and is the same whenever its number is given: ``--case 17``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alliance_meta.cli import main as command_line
from tests.security.payloads import BOMBS, FORMULAS, SUBSET_BOMBS, SUBSETS, generated

# A case that takes longer than this hangs.
MOST_SECONDS = 120
ODD = (
    "", " ", "0", "-1", "1e999", "nan", "inf", "-0.0", "1,5", "1.000,5", "٣", "r", "n", "study", "../up",
    "/etc/passwd", "a/b", "CON", "x" * 3000, "é" * 40, "\u202e", "\ufeff", "\x00", "\ud800", "'", "\"", "`",
    "=1+1", "@SUM(A1)", "<b>x</b>", "\\input{/etc/passwd}", "{0.__class__}", "%s%n", "$(touch CANARY)",
    "`touch CANARY`", "; touch CANARY", "\n", "\t", "NA",
)  # fmt: skip
SENSIBLE = (
    "rater", "year", "1", "rater + year", "rater * year", "center(year)", "C(rater)", "poly(year, 2)", "0 + rater",
    "year > 2000", "rater == 'client'", "rater in ['client']", "notna(year)", "study_id", "REML", "DL", "knha", "z",
    "ZCOR", "COR", "normal(0, 0.5)", "half-normal(0.3)", ".25", "0.95", "study_id/es_id", "~ 1 | study_id",
)  # fmt: skip
HEADERS = (
    "study",
    "r",
    "n",
    "rater",
    "year",
    "study_id",
    "es_id",
    "yi",
    "vi",
    "Intercept",
    "1",
    "`",
    "a b",
    "r",
    "log",
)


@dataclass
class Case:
    """One call of the command line, with the files it finds.

    Attributes
    ----------
    files : dict of str to bytes
        By name, in the folder it runs in.
    words : list of str
        The command line; its output goes to ``out`` or below.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = "\n".join(f"--- {name}\n{data[:3000]!r}" for name, data in self.files.items())
        return f"alliance-meta {self.words!r}\n{shown}"


def word(draw: random.Random) -> str:
    """Return a word that may or may not mean something."""
    kind = draw.randrange(8)
    if kind < 3:
        return draw.choice(SENSIBLE)
    if kind < 5:
        return draw.choice(ODD)
    if kind == 5:
        return next(generated(draw.choice(("formula", "subset")), 1, seed=draw.randrange(10**9)))
    if kind == 6:
        return draw.choice(FORMULAS + SUBSETS + BOMBS + SUBSET_BOMBS)
    return "".join(draw.choice("abry01 .,+-*/:|~()[]{}'\"`=<>&@#!\\\n") for _ in range(draw.randrange(30)))


def hostile(draw: random.Random) -> str:
    """Return what would be run, were it taken for a formula or a subset; sometimes any word."""
    kind = draw.randrange(10)
    if kind < 6:
        return draw.choice(FORMULAS + SUBSETS)
    return (
        word(draw) if kind < 8 else next(generated(draw.choice(("formula", "subset")), 1, seed=draw.randrange(10**9)))
    )


def value(draw: random.Random, depth: int = 0) -> Any:
    """Return anything JSON can hold."""
    kind = draw.randrange(9)
    if kind == 0 and depth < 3:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 1 and depth < 3:
        return {word(draw): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    if kind == 2:
        return draw.choice((None, True, False))
    if kind == 3:
        return draw.choice((0, 1, -1, 2**63, 10**30, 0.5, -1e-300, 1e308))
    return word(draw)


def mutated(draw: random.Random, node: Any) -> Any:
    """Return a document with one of its parts replaced, removed or renamed."""
    if isinstance(node, dict) and node and draw.random() < 0.9:
        key = draw.choice(list(node))
        rest = {name: part for name, part in node.items() if name != key}
        turn = draw.randrange(8)
        if turn == 0:
            return rest
        if turn == 1:
            return {**node, word(draw): value(draw)}
        return {**node, key: mutated(draw, node[key])}
    if isinstance(node, list) and node and draw.random() < 0.9:
        place = draw.randrange(len(node))
        return [*node[:place], mutated(draw, node[place]), *node[place + 1 :]]
    return value(draw)


def sheet(draw: random.Random, *, odd: float = 0.7) -> bytes:
    """Return a sheet, sound or with odd columns, cells or bytes."""
    names = ["study", "r", "n", "rater", "year", "study_id"]
    sound = draw.random() > odd
    if draw.random() < 0.3:
        names += draw.sample([name for name in HEADERS if not sound or name not in names], draw.randrange(1, 4))
    rows = [names]
    for i in range(draw.choice((6, 12) if sound else (0, 1, 2, 6, 12))):
        known = {"study": f"Study {i}", "r": f".{draw.randrange(10, 60)}", "n": str(draw.randrange(20, 90))}
        known |= {"rater": draw.choice(("client", "therapist")), "year": str(1990 + i), "study_id": str(i // 2)}
        known |= {"es_id": str(i), "yi": f".{i + 1}", "vi": ".04"}
        rows.append([known.get(name, str(draw.randrange(9))) for name in names])
    for _ in range(0 if sound else draw.choice((0, 1, 3))):
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = word(draw)[:200]
    mark = draw.choice((",", ",", ";", "\t"))
    text = "\n".join(mark.join(f'"{cell}"' if mark in cell else cell for cell in row) for row in rows)
    data = text.encode(draw.choice(("utf-8", "utf-8", "utf-16", "latin-1", "cp1252")), "replace")
    if not sound and draw.random() < 0.2:
        place = draw.randrange(len(data))
        data = data[:place] + bytes(draw.randrange(256) for _ in range(4)) + data[place + 1 :]
    return data


PUBLISHED: dict[str, Any] = {
    "id": "a",
    "printed": {"estimate": ".25", "k": "12", "ci_lb": ".1", "ci_ub": ".4"},
    "scale": "r",
    "route": {"ri": "r", "ni": "n", "measure": "ZCOR", "vtype": "LS", "method": "DL", "test": "z", "mods": "1"},
    "subset": "year > 1990",
    "moderator": "",
}
PACKAGE: dict[str, Any] = {
    "resources": [
        {
            "path": "sheet.csv",
            "schema": {
                "fields": [
                    {"name": "rater", "type": "string", "constraints": {"enum": ["client", "therapist"]}},
                    {"name": "dose", "type": "number", "unit": "mg", "constraints": {"minimum": 0, "maximum": 9}},
                ],
                "missingValues": ["", "NA", "-99"],
            },
        }
    ],
    "alliance_meta": {"published": [PUBLISHED]},
}
ANALYSIS: dict[str, Any] = {"id": "a", "label": "A", "data": "sheet.csv", "mods": "rater", "subset": "year > 1990"}
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"method": "DL", "test": "z"},
    {"kind": "multilevel", "random": ["study_id", "es_id"]},
    {"kind": "rve", "cluster": "study_id", "rho": 0.8},
    {"kind": "bayes", "mu_prior": "normal(0, 0.5)", "tau_prior": "half-normal(0.3)"},
    {"aggregate": "mean", "cluster": "study_id"},
)
REPORT: dict[str, Any] = {
    "title": "T",
    "section": [{"heading": "H", "text": "{a.r} of {a.k}", "item": [{"table": "statistics", "of": ["a"]}]}],
}


def toml(document: Any) -> str:
    """Write a document as TOML, inline below the top."""
    if not isinstance(document, dict):
        return str(document)
    return "\n".join(f"{json.dumps(str(key))} = {_inline(part)}" for key, part in document.items())


def _inline(part: Any) -> str:
    if isinstance(part, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_inline(one)}" for key, one in part.items()) + "}"
    if isinstance(part, list):
        return "[" + ", ".join(map(_inline, part)) + "]"
    return json.dumps("" if part is None else part)


def of_sheet(draw: random.Random) -> Case:
    """Read a sheet."""
    words = draw.choice((["check", "sheet.csv"], ["check", "sheet.csv", "--strict"], ["fit", "sheet.csv"]))
    return Case({"sheet.csv": sheet(draw)}, list(words))


def of_options(draw: random.Random) -> Case:
    """Give options any value."""
    words = ["fit", "sheet.csv"]
    sensible = {
        "--mods": ("rater", "rater * year", "C(rater) + poly(year, 2)", "0 + rater", "study", "I(year > 1992)"),
        "--subset": ("year > 1992", "rater == 'client'", "study != 'Study 1'", "notna(year) and n > 10"),
        "--ri": ("r",), "--ni": ("n",), "--method": ("DL", "EE", "ML"), "--test": ("z", "t"),
        "--measure": ("COR", "UCOR"), "--vtype": ("AV", "UB"), "--level": (".9", "0.5"), "--sheet": ("1",),
    }  # fmt: skip
    for option in draw.sample(list(sensible), draw.randrange(3)):
        words += [option, draw.choice(sensible[option])]
    if draw.random() < 0.8:
        option = draw.choice(("--mods", "--mods", "--subset", "--subset", *sensible))
        words += [option, hostile(draw)]
    if draw.random() < 0.2:
        words += ["--bayes", draw.choice(("--mu-prior", "--tau-prior")), hostile(draw)]
    if draw.random() < 0.3:
        words += ["--forest", "out.svg", draw.choice(("--by", "--order")), word(draw)]
    if draw.random() < 0.5:
        words += ["--out", draw.choice(("out.csv", "out.json", "out/deep/x.json"))]
    if draw.random() < 0.1:
        words = ["match", "sheet.csv", "--printed", "r = .2", draw.choice(("--subset", "--cluster")), hostile(draw)]
    if draw.random() < 0.05:
        words = ["convert", *(f"{draw.choice(('d', 'F', 'n1', 'df', 'es_type', 'p'))}={word(draw)}" for _ in range(3))]
    return Case({"sheet.csv": sheet(draw, odd=0.1)}, words)


def of_declaration(draw: random.Random) -> Case:
    """Build a report from a declaration."""
    document = {**REPORT, "analysis": [{**ANALYSIS, **draw.choice(KINDS)}]}
    for _ in range(draw.randrange(1, 3)):
        document = mutated(draw, document)
    text = toml(document).encode("utf-8", "replace")
    return Case(
        {"sheet.csv": sheet(draw, odd=0.1), "own.toml": text},
        ["report", "own.toml", "--out", "out", "--formats", "tables"],
    )


def of_description(draw: random.Random) -> Case:
    """Read a sheet with a description beside it."""
    entry, package = dict(PUBLISHED), PACKAGE
    kind = draw.randrange(10)
    if kind < 4:
        key = draw.choice(
            (*PUBLISHED["route"], "mods", "subset", "per", "how", "rho", "model", "random", "robust", "V")
        )
        part: Any = draw.choice((hostile(draw), value(draw), "study_id", "multilevel", "rve", ["study_id", "es_id"]))
        entry["route"] = {**entry["route"], key: part}
        if draw.random() < 0.3:
            entry["route"] = {name: one for name, one in entry["route"].items() if name != key}
    elif kind < 6:
        entry[draw.choice(("subset", "subset", "coefficient", "scale", "moderator", "id"))] = hostile(draw)
    elif kind < 8:
        entry = mutated(draw, entry)
    else:
        package = mutated(draw, package)
    if package is PACKAGE:
        package = {**PACKAGE, "alliance_meta": {"published": [entry]}}
    text = json.dumps(package)
    if draw.random() < 0.05:
        text = draw.choice((text[: len(text) // 2], "[" * 5000, '{"a": NaN}', "null", "\x00"))
    words = draw.choice((["check", "sheet.csv"], ["reproduce", "sheet.csv"], ["match", "sheet.csv"]))
    return Case({"sheet.csv": sheet(draw, odd=0.1), "datapackage.json": text.encode("utf-8", "replace")}, list(words))


MAKERS: tuple[Callable[[random.Random], Case], ...] = (of_sheet, of_options, of_options, of_declaration, of_description)


def made(seed: int, number: int) -> Case:
    """Return a case by its number."""
    draw = random.Random(f"{seed}:{number}")
    return MAKERS[number % len(MAKERS)](draw)


def broken(case: Case, folder: Path) -> str:
    """Run a case in a folder of its own; return which property it breaks, nothing if none."""
    inside, outside = folder / "inside", folder / "outside"
    for place in (inside, outside):
        place.mkdir(parents=True)
    canary = str(outside / "canary")
    for name, data in case.files.items():
        (inside / name).write_bytes(data.replace(b"CANARY", canary.encode()))
    (outside / "precious.csv").write_text("keep")
    before = _files(folder)
    words = [text.replace("CANARY", canary) for text in case.words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(inside), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _alarm():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code: Any = command_line(words)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            import traceback

            return f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-6:])}"
    after = _files(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    strange = [name for name in changed if not name.startswith("inside/out")]
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if "Traceback" in out.getvalue() + err.getvalue():
        return f"a traceback is printed: {err.getvalue()[-2000:]}"
    if strange:
        return f"written or changed: {strange}"
    if code and changed:
        return f"exit code {code}, and yet there is {changed}"
    return ""


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(*, seed: int, seconds: float, first: int = 0, most: int = 10**9) -> tuple[int, dict[int, str]]:
    """Run cases until the time is up; return how many, and what the broken ones did."""
    end, wrong, number = time.monotonic() + seconds, {}, first
    while number < first + most and time.monotonic() < end:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            reason = broken(made(seed, number), folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if reason:
            wrong[number] = reason
        number += 1
    return number - first, wrong


def main() -> int:
    """Run the fuzzer from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--case", type=int)
    given = parser.parse_args()
    one = given.case is not None
    count, wrong = run(seed=given.seed, seconds=given.seconds, first=given.case if one else 0, most=1 if one else 10**9)
    for number, reason in wrong.items():
        print(f"case {number} of seed {given.seed}: {reason}\n{made(given.seed, number)}\n")
    print(f"{count} cases, {len(wrong)} broken")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
