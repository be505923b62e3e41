"""Time alliance_meta and its peers side by side: ``make bench``, or ``python benchmarks/run.py --help``.

Every cell is a process of its own, one at a time, on one thread, ended after a time limit. Before its time
counts, a contender must give the number that all others give. Contenders that are not on the path are left out,
and it is said how to get them; they are not, and must not become, dependencies.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bayesian
import contenders
import dependent
import numpy as np
import page
from cases import BY_NAME, CASES, RHO, SIGMA2, Case, Data, make
from contenders import MODULES, OURS, PEERS, SAMPLE, version

HERE = Path(__file__).parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMBA_NUM_THREADS")
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "performance.md"
# Contenders in R, by the package that each needs; for dependent effects and Bayesian models there are others.
IN_R = {"metafor": "metafor"}
DEPENDENT_IN_R = IN_R | {"metafor-sparse": "metafor", "clubSandwich": "clubSandwich", "robumeta": "robumeta"}
ALL_IN_R = DEPENDENT_IN_R | bayesian.IN_R
ALL_MODULES = MODULES | bayesian.MODULES
GET = {
    "metafor": "apt-get install r-base-core r-cran-metafor libopenblas0-pthread",
    "clubSandwich": "apt-get install r-cran-clubsandwich, or R_LIBS=FOLDER make bench",
    "robumeta": "apt-get install r-cran-robumeta, or R_LIBS=FOLDER make bench",
    "bayesmeta": "R -e 'install.packages(\"bayesmeta\")', or R_LIBS=FOLDER make bench",
    "RoBMA": "JAGS and R -e 'install.packages(\"RoBMA\")', or R_LIBS=FOLDER make bench",
    "PyMC": "pip install pymc nutpie",
    "peers": (
        "pip install --no-deps --target FOLDER pymare sympy mpmath metapipe-kit openpyxl et-xmlfile seaborn "
        "pymetaanalysis pimeta; PYTHONPATH=FOLDER make bench"
    ),
}
# Peers stop their searches at tolerances of their own.
AGREE = {"rel_tol": 1e-3, "abs_tol": 2e-5}
# Bytes of address space; a k x k matrix of 200,000 rows takes 320 GB.
MEMORY = 16 << 30


def measure(contender: str, case: Case, *, budget: float) -> dict[str, Any] | None:
    """Time one cell in this process; None where the contender cannot do the case."""
    warnings.simplefilter("ignore")
    ours, peers, _ = ways(case)
    found = (ours | peers)[contender](case, make(case)) if contender in ours | peers else None
    if found is None:
        return None
    clock = time.process_time if case.bayesian else time.perf_counter

    def elapsed() -> float:
        start = clock()
        found.run()
        return clock() - start

    start = clock()
    answer = found.run()
    first = clock() - start
    # What takes so long by simulation is not run twice.
    times = [first if case.bayesian and first > budget else elapsed()]
    while len(times) < 3 or (sum(times) < budget and len(times) < 200):
        if times[0] > budget:
            break
        times.append(elapsed())
    return {
        "answer": list(answer),
        "times": times,
        "scale": found.scale,
        "method": found.method,
        "version": found.version or version(contender),
        **({"facts": found.facts} if found.facts else {}),
        **(memory(found) if case.studies and not case.bayesian and contender in OURS else {}),
    }


def ways(case: Case) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Return our contenders for a case, the peers in Python, and those in R with the package that each needs."""
    if case.bayesian:
        return bayesian.OURS, bayesian.PEERS, bayesian.IN_R
    if case.deleting:
        return contenders.DELETION, {}, {} if case.studies else IN_R
    if case.studies:
        return dependent.OURS, dependent.PEERS, DEPENDENT_IN_R
    if case.selected:
        return contenders.SELECTION, {}, IN_R
    if case.of_subsets:
        return contenders.SUBSETS, {}, IN_R
    return OURS, PEERS, IN_R


def memory(found: contenders.Task) -> dict[str, int]:
    """Return the most bytes that the process held, and the most that the task alone allocated."""
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tracemalloc.start()
    found.run()
    return {"process": process, "allocated": tracemalloc.get_traced_memory()[1]}


def reference(case: Case, data: Data, method: str) -> tuple[float, ...]:
    """Return the numbers that a contender with this estimator must give."""
    if case.bayesian:
        return bayesian.expected(case, data, method)
    if case.deleting:
        return contenders.deletion_by_refits(case, data)
    if case.studies:
        return dependent.expected(case, data, method)
    if case.selected:
        return contenders.selection_arrays(case, data).run()
    from alliance_meta.core.univariate.fit import estimate_tau2
    from alliance_meta.core.univariate.wls import make_batch, wls

    y, v = np.atleast_2d(data.y)[:SAMPLE], np.atleast_2d(data.v)[:SAMPLE]
    batch = make_batch(y, v, data.X)
    tau2 = estimate_tau2(batch, method=method).tau2
    return float(wls(batch, tau2).beta[:, 0].mean()), float(tau2.mean())


def command(contender: str, case: Case, *, folder: Path, budget: float) -> list[str]:
    if contender not in ALL_IN_R:
        return [sys.executable, str(HERE / "run.py"), "--cell", contender, case.name, "--budget", str(budget)]
    file = folder / f"{case.name}.csv"
    if not file.exists():
        write(case, make(case), file)
    if case.bayesian:
        return ["Rscript", str(HERE / "bayesian.R"), contender, case.kind, str(file), str(budget)]
    if case.studies:
        numbers = [str(number) for number in (budget, RHO, *SIGMA2)]
        return ["Rscript", str(HERE / "dependent.R"), contender, case.kind, str(file), *numbers]
    return ["Rscript", str(HERE / "metafor.R"), case.kind, str(file), str(case.B), str(SAMPLE), str(budget)]


def write(case: Case, data: Data, file: Path) -> None:
    """Write the data of a case as the scripts in R read them."""
    y, v = np.atleast_2d(data.y)[:SAMPLE], np.atleast_2d(data.v)[:SAMPLE]
    names = [f"{n}{j}" for n in "yv" for j in range(1, len(y) + 1)]
    columns = [*y, *v, *data.X[:, 1:].T]
    if data.study is not None:
        names, columns = ["y", "v", "study"], [*y, *v, data.study, *data.X[:, 1:].T]
    names += [f"x{j}" for j in range(1, data.X.shape[1])]
    np.savetxt(file, np.vstack(columns).T, delimiter=",", header=",".join(names), comments="", fmt="%.17g")


def cell(contender: str, case: Case, *, folder: Path, cap: float, budget: float) -> dict[str, Any] | None:
    """Run one cell in a process of its own and return what stands in the table."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    try:
        done = subprocess.run(
            command(contender, case, folder=folder, budget=budget),
            capture_output=True,
            text=True,
            timeout=cap,
            preexec_fn=limit,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"> {cap:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        memory = any(word in done.stderr for word in ("cannot allocate", "MemoryError", "too large", "Unable to alloc"))
        print(f"  {contender}, {case.name}: {lines[-1] if lines else done.returncode}", file=sys.stderr)
        return {"failed": "out of memory" if memory else "error"}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found is None:
        return None
    expected = reference(case, make(case), found["method"])
    given = found.pop("answer")
    near = bayesian.AGREE.get(found["method"], AGREE)
    if not all(math.isnan(a) or math.isclose(a, b, **near) for a, b in zip(given, expected, strict=True)):
        return {"failed": "another number", "version": found["version"], "given": given, "expected": list(expected)}
    times = found.pop("times")
    if near is not AGREE:
        found["off"] = [abs(a - b) for a, b in zip(given, expected, strict=True) if not math.isnan(a)]
    return found | {"median": statistics.median(times) * found["scale"], "runs": len(times)}


def available() -> tuple[list[str], dict[str, str]]:
    """Return the contenders on the path, and how to get the others."""
    missing = {}
    for package in dict.fromkeys(ALL_IN_R.values()):
        load = ["Rscript", "-e", f"library({package})"]
        if shutil.which("Rscript") is None or subprocess.run(load, capture_output=True, check=False).returncode:
            missing[package] = GET[package]
    for name, module in ALL_MODULES.items():
        if importlib.util.find_spec(module) is None:
            missing[name] = GET.get(name, GET["peers"])
    here = [name for name in (*ALL_IN_R, *ALL_MODULES) if ALL_IN_R.get(name, name) not in missing]
    return [*OURS, *here], missing


def asked(case: Case, names: list[str]) -> list[str]:
    """Return the contenders that a case is put to."""
    ours, peers, in_r = ways(case)
    return [name for name in names if name in (*ours, *peers, *in_r) and name not in case.without]


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text("utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("numpy", "scipy")},
    }


def _version(name: str) -> str:
    from importlib import metadata

    return metadata.version(name)


def everything(cap: float, budget: float, only: list[str], patience: float) -> dict[str, Any]:
    names, missing = available()
    for name, how in missing.items():
        print(f"{name} is not here and is left out. To include it: {how}", file=sys.stderr)
    load = [os.getloadavg()[0]]
    cells: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if only and case.name not in only:
                continue
            cells[case.name] = {}
            for name in asked(case, names):
                limit = patience if name in (*bayesian.IN_R, *bayesian.PEERS) else cap
                found = cell(name, case, folder=Path(folder), cap=limit, budget=budget)
                if found is not None:
                    cells[case.name][name] = found
                    print(f"{case.title:52} {name:15} {page.shown(found)}", file=sys.stderr, flush=True)
            load.append(os.getloadavg()[0])
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load": round(max(load), 1),
        "cap": cap,
        "patience": patience,
        "missing": sorted(missing),
        "cells": cells,
    }


def updated(committed: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Return the committed result with the cases of another run on the same machine."""
    if committed["machine"] != results["machine"]:
        sys.exit("the committed result is of another machine or other versions; run every case")
    cells = committed["cells"] | results["cells"]
    timed = {name for row in cells.values() for name in row}
    days = {name: committed["date"] for name in committed["cells"]} | committed.get("earlier", {})
    return committed | {
        "date": results["date"],
        "earlier": {name: day for name, day in days.items() if name not in results["cells"] and day != results["date"]},
        "load": max(committed["load"], results["load"]),
        "patience": results["patience"],
        "missing": sorted({*committed["missing"], *results["missing"]} - timed),
        "cells": {case.name: cells[case.name] for case in CASES if case.name in cells},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cap", type=float, default=60.0, help="seconds after which a cell is ended (default: 60)")
    parser.add_argument(
        "--patience", type=float, default=1800.0, help="the same for bayesmeta, RoBMA and PyMC (default: 1800)"
    )
    parser.add_argument("--budget", type=float, default=1.5, help="seconds to repeat a cell for (default: 1.5)")
    parser.add_argument("--case", action="append", default=[], choices=sorted(BY_NAME), help="only this case")
    parser.add_argument("--update", action="store_true", help="put the cases asked for into the committed result")
    parser.add_argument("--page", action="store_true", help="only write the page from the committed result")
    parser.add_argument("--check", action="store_true", help="only see whether the page shows the committed result")
    parser.add_argument("--cell", nargs=2, metavar=("CONTENDER", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        contender, case = options.cell
        print(json.dumps(measure(contender, BY_NAME[case], budget=options.budget)))
        return
    if options.check:
        if PAGE.read_text("utf-8") != page.render(json.loads(RESULTS.read_text("utf-8"))):
            sys.exit(f"{PAGE.relative_to(HERE.parent)} is not what {RESULTS.name} says; write it with --page")
        return
    if options.page:
        results = json.loads(RESULTS.read_text("utf-8"))
    else:
        results = everything(options.cap, options.budget, options.case, options.patience)
    if options.case and options.update:
        results = updated(json.loads(RESULTS.read_text("utf-8")), results)
    elif options.case:
        return
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    PAGE.write_text(page.render(results), "utf-8")
    print(f"wrote {RESULTS.relative_to(HERE.parent)} and {PAGE.relative_to(HERE.parent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
