"""Write the table of times as a page."""

from __future__ import annotations

from typing import Any

from cases import CASES
from contenders import OURS, PEERS

COLUMNS = {
    "model": "alliance_meta",
    "arrays": "its core",
    "compiled": "its core, compiled",
    "metafor": "metafor (R)",
    **{name: name for name in PEERS},
}
BUSY = 0.5

TEXT = """# Speed

Made by `make bench`: {date}, {cpu}, {cores} cores, one thread, {system}, Python {python}, {packages}.
{load}

Each cell is the median of repeated runs, in a process of its own; imports, reading data and numba's compiling (once
per installation, then kept on disk) are not counted. Every contender first has to give the same coefficient and τ² as
the others. `~` marks a time scaled up from fewer repetitions, where a contender can only fit one data set at a time;
`–` what a contender cannot do. A cell may take {cap:g} s and 16 GB.

## Times

{times}

## How many times faster

The contender's time divided by ours; below 1 the contender is faster. Ours is the core in NumPy, arrays in and arrays
out as with the peers, and `alliance_meta` itself in the last row.

{ratios}

## What the rows mean

- **alliance_meta** is what a user calls, `RandomEffectsModel(effects, mods=..., test="z").fit()` with its coefficients,
  tests, Q and I², `sensitivity.bootstrap` and `sensitivity.permutation_test`. With moderators most of its time is the
  formula's. Its bootstrap draws its own data sets, so that only its time is compared, and computes I² and H² of each.
- **its core** is `alliance_meta.core.univariate.fit_univariate`, and `alliance_meta.core.resampling.refit` for many
  data sets at once, in NumPy. **Compiled** is the same search through numba. It is loaded only for jobs of more than
  four million numbers (data sets × k), where it pays for the 0.4 s that numba takes to load; without numba the same
  call runs in NumPy. Here it is asked for.
- **statsmodels** has no REML: its column is Paule and Mandel's estimator. **metapipe-kit** has no REML with moderators.
- The bootstrap row gives every contender the same 1,000 data sets, drawn from one model.

Versions: {versions}.{missing}
"""


def seconds(value: float) -> str:
    """Three significant digits in the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9995 * size or unit == "µs":
            number = value / size
            break
    digits = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {unit}"


def shown(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    if "failed" in found:
        return str(found["failed"])
    return ("~" if found["scale"] > 1 else "") + seconds(found["median"])


def ratio(peer: dict[str, Any] | None, ours: dict[str, Any]) -> str:
    if peer is None or "median" not in peer:
        return shown(peer)
    value = peer["median"] / ours["median"]
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def render(results: dict[str, Any]) -> str:
    cells = results["cells"]
    present = [name for name in COLUMNS if any(name in row for row in cells.values())]
    times = [[case.title, *(shown(cells[case.name].get(name)) for name in present)] for case in CASES]
    peers = [name for name in present if name not in OURS]
    ours = [cells[case.name].get("arrays") or cells[case.name]["model"] for case in CASES]
    ratios = [
        [case.title, *(ratio(cells[case.name].get(name), base) for name in peers)]
        for case, base in zip(CASES, ours, strict=True)
    ]
    versions = {
        COLUMNS[name]: found["version"]
        for name in ["model", *peers]
        for row in cells.values()
        if "version" in (found := row.get(name, {}))
    }
    machine = results["machine"]
    busy = results["load"] > 1 + BUSY
    missing = results["missing"]
    return TEXT.format(
        date=results["date"],
        cap=results["cap"],
        cpu=machine["cpu"],
        cores=machine["cores"],
        system=machine["system"],
        python=machine["python"],
        packages=", ".join(f"{name} {number}" for name, number in machine["packages"].items()),
        load=(
            f"The machine did other work at the same time (load {results['load']}): quote ratios, not times."
            if busy
            else "The machine did nothing else. Times differ between machines; ratios differ less."
        ),
        times=table(["", *(COLUMNS[name] for name in present)], times),
        ratios=table(["", *(COLUMNS[name] for name in peers)], ratios),
        versions=", ".join(f"{name} {number}" for name, number in versions.items()),
        missing=f" Not at hand in this run: {', '.join(missing)}." if missing else "",
    )
