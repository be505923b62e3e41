"""What large, odd or hostile input costs: ``python benchmarks/limits.py``, or with the names of some cases.

Every case is a process of its own, one at a time, on one thread, ended a minute after ten times its bound. Printed
are its processor seconds, start included unless the case counts for itself, and the most memory it held, beside what
is allowed. The exit code is 1 if a case takes too much, ends otherwise than it should, or with a traceback.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OWN = "SECONDS"


def nothing(folder: Path) -> None:
    """Make no file."""


@dataclass(frozen=True)
class Case:
    """A program, the files that it needs, what it may cost and how it may end."""

    name: str
    what: str
    code: str
    prepare: Callable[[Path], None] = nothing
    seconds: float = 60.0
    megabytes: float = 1000.0
    ends: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Cost:
    """What a process took and how it ended; `end` is None for one that was stopped."""

    seconds: float
    megabytes: float
    end: int | None
    errors: str


def far_cell(folder: Path) -> None:
    """Write a workbook of 80,000 rows, one of which has a cell in the last column that a sheet can have."""
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/sheet.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"'
        ' Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
        '<sheet name="A" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"'
        ' Target="sheet.xml"/></Relationships>',
    }
    with zipfile.ZipFile(folder / "far.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in parts.items():
            book.writestr(name, text)
        with book.open("xl/sheet.xml", "w") as sheet:
            sheet.write(b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>')
            sheet.write(_row(1, *(f'<is><t>{name}</t></is>" t="inlineStr' for name in ("study", "r", "n"))))
            for i in range(2, 80_001):
                far = '<c r="XFD3"><v>1</v></c>' if i == 3 else ""
                sheet.write(_row(i, f"<v>{i}</v>", "<v>0.2</v>", "<v>50</v>", far=far))
            sheet.write(b"</sheetData></worksheet>")


def _row(number: int, *cells: str, far: str = "") -> bytes:
    """Return a row; a cell is its content, or its content and, behind a quotation mark, its type."""
    made = []
    for column, cell in zip("ABC", cells, strict=True):
        content, _, kind = cell.partition('" ')
        made.append(f'<c r="{column}{number}" {kind}{chr(34) if kind else ""}>{content}</c>')
    return f'<row r="{number}">{"".join(made)}{far}</row>'.encode()


def text(name: str, words: str, times: int = 1) -> Callable[[Path], None]:
    """Return what writes words so many times."""

    def write(folder: Path) -> None:
        with (folder / name).open("w", encoding="utf-8") as file:
            for _ in range(times):
                file.write(words)

    return write


def results_in_one_line(folder: Path) -> None:
    """Write 30,000 results, different ones, without a line break."""
    line = "".join(f"t({10 + i % 90})=2.{i % 100:02d}, p=.03; "[:18] for i in range(30_000))
    (folder / "line.txt").write_text(line, encoding="utf-8")


def long_cell(folder: Path) -> None:
    """Write a sheet with one cell of 50 MB."""
    with (folder / "cell.csv").open("w", encoding="utf-8") as file:
        file.write("study,r,n\nA,.1,50\n")
        for _ in range(50):
            file.write("x" * 1_000_000)
        file.write(",.2,60\n")


def pipe(folder: Path) -> None:
    """Make a pipe that nobody writes to."""
    os.mkfifo(folder / "pipe.csv")


def large_report(folder: Path) -> None:
    """Write 10,000 studies and the declaration of a report on them."""
    rows = "".join(
        f"Study {i},{0.28 + 0.2 * ((i * 37) % 101 - 50) / 100:.3f},{20 + i * 7 % 280}\n" for i in range(10_000)
    )
    (folder / "big.csv").write_text("study,r,n\n" + rows, encoding="utf-8")
    items = '[[section.item]]\nforest = "a"\n[[section.item]]\ntable = "studies"\nof = "a"\n'
    analysis = '[[analysis]]\nid = "a"\nlabel = "A"\ndata = "big.csv"\n'
    (folder / "big.toml").write_text('title = "T"\n[[section]]\nheading = "H"\n' + items + analysis, encoding="utf-8")


def command(*words: str) -> str:
    """Return a program that is one call of the command line."""
    return f"import sys\nfrom alliance_meta.cli import main\nsys.exit(main({list(words)!r}))"


MODERATORS = """
import warnings, numpy as np, alliance_meta as am
from alliance_meta.errors import AllianceMetaWarning
rng, k = np.random.default_rng(1), 2_000
mods = {{f"x{{i}}": rng.normal(size=k) for i in range({p})}}
v = rng.uniform(0.01, 0.1, k)
es = am.EffectSizes.from_arrays(rng.normal(0.2, np.sqrt(v + 0.03)), v, measure="ZCOR", mods=mods)
warnings.simplefilter("ignore", AllianceMetaWarning)
fit = am.RandomEffectsModel(es, mods=" + ".join(mods)).fit()
fit.summary()
fit.robust().summary()
"""
UNSTRUCTURED = """
import time, warnings, numpy as np, alliance_meta as am
from alliance_meta.errors import AllianceMetaWarning
warnings.simplefilter("ignore", AllianceMetaWarning)
spent = []
for seed in range(6):
    rng, i = np.random.default_rng(seed), np.arange(24)
    v, root = rng.uniform(0.01, 0.05, 24), 0.2 * rng.normal(size=(3, 3))
    y = 0.3 + (rng.normal(size=(8, 3)) @ root)[i % 8, i // 8] + rng.normal(0, np.sqrt(v))
    names = {"measure": [f"m{one}" for one in i // 8]}
    es = am.EffectSizes.from_arrays(y, v, study_id=[f"s{one}" for one in i % 8], measure="ZCOR", mods=names)
    fit = am.MultilevelModel(es, random="measure | study_id", struct="UN").fit()
    start = time.process_time()
    fit.confint()
    spent.append(time.process_time() - start)
print("SECONDS", max(spent[1:]))
"""
BAYES = """
import numpy as np, alliance_meta as am
rng = np.random.default_rng(1)
v = rng.uniform(0.005, 0.1, 100_000)
es = am.EffectSizes.from_arrays(rng.normal(0.3, np.sqrt(0.03 + v)), v, measure="ZCOR")
fit = am.BayesianModel(es).fit()
fit.tidy()
fit.summary()
"""
CASES = (
    Case("far", "check: 80,000 rows, one cell in XFD", command("check", "far.xlsx"), far_cell, 30, ends=(1,)),
    Case("blanks", "consistency: '95% CI', 1,000 blanks, '['", command("consistency", "blanks.txt"),
         text("blanks.txt", "95% CI " + " " * 1000 + "["), 5),
    Case("line", "consistency: one line of 30,000 results", command("consistency", "line.txt"),
         results_in_one_line, 10, ends=(0, 1)),
    Case("device", "check: /dev/zero", command("check", "/dev/zero"), seconds=5, ends=(2,)),
    Case("pipe", "check: a pipe", command("check", "pipe.csv"), pipe, 5, ends=(2,)),
    Case("device text", "consistency: /dev/zero", command("consistency", "/dev/zero"), seconds=5, ends=(2,)),
    Case("cell", "check: a cell of 50 MB", command("check", "cell.csv"), long_cell, 10, ends=(1,)),
    Case("cells", "consistency: 10 million cells, 20 MB", command("consistency", "cells.txt"),
         text("cells.txt", "1 " * 1000, 10_000), 10),
    Case("cells sheet", "check: 10 million cells, 20 MB", command("check", "cells.csv"),
         text("cells.csv", "1 " * 1000, 10_000), 10, ends=(1,)),
    Case("cells lines", "check: 10 million cells in 10,000 lines", command("check", "lines.csv"),
         text("lines.csv", "1 " * 1000 + "\n", 10_000), 8, ends=(1,)),
    *(Case(f"p{p}", f"fit, summary, robust, summary: {p} moderators, k = 2,000", MODERATORS.format(p=p))
      for p in (60, 199, 500)),
    Case("un", "confint: UN, 3 columns, 24 rows; slowest of 5", UNSTRUCTURED, seconds=1),
    Case("bayes", "exact posterior: k = 100,000, tidy, summary", BAYES),
    Case("report", "report: 10,000 studies", command("report", "big.toml"), large_report),
)  # fmt: skip


def run(case: Case) -> Cost:
    """Run a case in a folder of its own."""
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryDirectory() as name,
        (Path(name) / "out").open("w+") as out,
        (Path(name) / "err").open("w+") as err,
    ):
        folder = Path(name) / "work"
        folder.mkdir()
        case.prepare(folder)
        started = subprocess.Popen(
            [sys.executable, "-c", case.code], cwd=folder, env=environment, stdout=out, stderr=err
        )
        end, usage, stopped = _waited(started, 60 + 10 * case.seconds)
        out.seek(0)
        err.seek(0)
        own = [line.split()[1] for line in out if line.startswith(OWN)]
        seconds = float(own[0]) if own else usage.ru_utime + usage.ru_stime
        return Cost(seconds, usage.ru_maxrss / 1000, None if stopped else end, err.read())


def _waited(process: subprocess.Popen[bytes], most: float):
    """Return exit code, resources, and whether the process had to be stopped."""
    start, stopped = time.monotonic(), False
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage, stopped
        if not stopped and time.monotonic() - start > most:
            process.kill()
            stopped = True
        time.sleep(0.05)


def verdict(case: Case, cost: Cost) -> str:
    """Return ``ok``, or what is wrong."""
    if cost.end is None:
        return "stopped"
    if cost.end not in case.ends or "Traceback" in cost.errors:
        return f"ended with {cost.end}"
    return "ok" if cost.seconds <= case.seconds and cost.megabytes <= case.megabytes else "too much"


def main(names: list[str]) -> int:
    """Print the table; return the exit code."""
    chosen = [case for case in CASES if not names or case.name in names]
    width = max(len(case.what) for case in chosen)
    print(f"{'':{width}}  seconds  at most    MB  at most")
    wrong = 0
    for case in chosen:
        cost = run(case)
        said = verdict(case, cost)
        wrong += said != "ok"
        print(
            f"{case.what:{width}}  {cost.seconds:7.2f}  {case.seconds:7.0f}  {cost.megabytes:4.0f}  "
            f"{case.megabytes:7.0f}  {said}",
            flush=True,
        )
        if said.startswith("ended"):
            print(cost.errors[-600:])
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
