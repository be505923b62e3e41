"""Write the table of times as a page."""

from __future__ import annotations

from typing import Any

import bayesian as bayes
from cases import BAYESIAN, DEPENDENT, INDEPENDENT, Case
from contenders import OURS, PEERS

COLUMNS = {
    "model": "alliance_meta",
    "arrays": "its core",
    "metafor": "metafor (R)",
    "metafor-sparse": "metafor, sparse (R)",
    "clubSandwich": "clubSandwich (R)",
    "robumeta": "robumeta (R)",
    **{name: name for name in PEERS},
    "bayesmeta": "bayesmeta (R)",
    "RoBMA": "RoBMA (R)",
    "PyMC": "PyMC",
}
BUSY = 0.5

TEXT = """# Speed

Made by `make bench`: {date}, {cpu}, {cores} cores, one thread, {system}, Python {python}, {packages}.
{load}

Each cell is the median of repeated runs, in a process of its own; imports and reading data are not counted. Every
contender first has to give the same coefficient and τ² as the others. `~` marks a time scaled up from fewer
repetitions, where a contender can only fit one data set at a time; `–` what a contender cannot do. A cell may take
{cap:g} s and 16 GB.

## Times

{times}

## How many times faster

The contender's time divided by ours; below 1 the contender is faster. Ours is the core in NumPy, arrays in and arrays
out as with the peers, and `alliance_meta` itself in the last row.

{ratios}

## What the rows mean

- **alliance_meta** is what a user calls, `RandomEffectsModel(effects, mods=..., test="z").fit()` with its coefficients,
  tests, Q and I², `sensitivity.bootstrap` and `sensitivity.permutation_test`. Its bootstrap draws its own data sets, so
  that only its time is compared, and computes I² and H² of each.
- **its core** is `alliance_meta.core.univariate.fit.fit_univariate`, and `alliance_meta.core.resampling.refit` for many
  data sets at once, in NumPy; the proof that no other τ² has a higher likelihood is part of both.
- **GOSH** is `sensitivity.gosh(fit)` with its table: every subset fitted and counted; metafor's `gosh` fits some.
- **statsmodels** has no REML: its column is Paule and Mandel's estimator. **metapipe-kit** has no REML with moderators.
- The bootstrap row gives every contender the same 1,000 data sets, drawn from one model.
{dependent}{bayesian}
Versions: {versions}.{missing}
"""

DEPENDENT_TEXT = """
## Dependent effects

Effects in studies, of unequal number where nothing else is said: "300 in 100" are 300 effects in 100 studies. Every
contender has to give the same variances, or the same standard error and degrees of freedom. `not run`: a smaller size
leaves no doubt that it would take too long, or the package works with matrices of effects by effects.

{times}

How many times faster, as above:

{ratios}

What `alliance_meta` allocates, above its data, grows with the number of effects and no faster; the whole process holds
Python and the packages besides:

{memory}

- **Three-level REML** is `MultilevelModel(effects).fit()` with its coefficients and tests, here with moderate
  heterogeneity between studies and between the effects of a study; metafor's `rma.mv` with and without `sparse=TRUE`.
- **CR2 and Satterthwaite** starts from three-level variances that are given, and takes `fit.robust()` with its tests;
  clubSandwich's `coef_test`. The core also computes the weights. PyMARE knows independent working models only, and
  its time includes the weighted regression.
- **The wild bootstrap** is `sensitivity.wild_bootstrap` of one coefficient, restricted fit included; the core
  computes the weights too.
- **CHE and CR2** goes from effect sizes to tests, three effects in each study: `impute_V`, `MultilevelModel`,
  `robust()`; metafor's `vcalc` and `rma.mv` with clubSandwich's `coef_test`.
- **RVE** is `RVEModel` with correlated effects, robumeta's `robu` with small-sample correction.
- **The clustered selection model** is `bias.selmodel(fit)`, three parameters and their sandwich over studies; metafor's
  `selmodel` takes effects as independent, so that only its estimates are compared, and has no bootstrap. R's
  metaselection, which has both, is on no archive that this run had.
- **Covariances** is `impute_V` with every block made; clubSandwich's `impute_covariance_matrix`, metafor's `vcalc`.
"""

BAYESIAN_TEXT = """
## Bayesian models

Here times are those of the processor, on all its cores, after importing, with one thread where that can be chosen.
mu ~ N(0, 1) and tau ~ half-normal(0.3), but for the models of publication bias, which have RoBMA's default priors.
Every contender has to give the same marginal likelihood, moments or Bayes factors: ours those of a plain grid of
4,000 values of tau, others those within the error that they have.
{patience}

{times}

The contender's time divided by that of the core, or where there is none by that of `alliance_meta`:

{ratios}
{sampled}
- **Posterior and marginal likelihood** is `BayesianModel(effects, ...).fit()`, with the checks that priors and data
  agree; its core is `alliance_meta.core.bayes.two_level.solve`. Its error bound is {bound}. PyMC compiles and samples
  (nutpie, 4 chains of 1,000 draws after 1,000 for tuning), and knows no marginal likelihood.
- **Every quantile and true effect** is that with `.tidy()`: mean, standard deviation, median and interval of mu, tau,
  the effect of a new study, and each study's own. bayesmeta always does all this, and the weights of each study
  besides.{bayesmeta}
- **40 priors** is `.prior_sensitivity(tau_priors=...)`, with intervals of mu, tau and the prediction for each;
  **exact leave-one-out** is `.loo()`, 79 posteriors without one study. Both include the first fit.
- **Three levels** is `BayesianModel(effects, mods=..., random="~ 1 | study_id/es_id").fit()`; **16,384 sets of
  moderators** is `bayes.average(effects, candidates=...)`, each set with and without heterogeneity.
- **36 models of publication bias** is `bayes.robma(effects)`. Its own estimate of the error of the log marginal
  likelihoods, averaged over the models by their probability, is {robma}.
{simulated}
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


def tables(results: dict[str, Any], cases: tuple[Case, ...]) -> tuple[str, str]:
    """Return the times of some cases, and how much slower the peers are."""
    cells = results["cells"]
    cases = tuple(case for case in cases if case.name in cells)
    present = [name for name in COLUMNS if any(name in cells[case.name] for case in cases)]
    peers = [name for name in present if name not in OURS]
    times, ratios = [], []
    for case in cases:
        tried = {name for other in cases if other.kind == case.kind for name in cells[other.name]}
        row = {name: {"failed": "not run"} for name in tried.intersection(case.without)} | cells[case.name]
        ours = row.get("arrays") or row["model"]
        times.append([case.title, *(shown(row.get(name)) for name in present)])
        if any("median" in row.get(name, {}) for name in peers):
            ratios.append([case.title, *(ratio(row.get(name), ours) for name in peers)])
    return (
        table(["", *(COLUMNS[name] for name in present)], times),
        table(["", *(COLUMNS[name] for name in peers)], ratios),
    )


def memory(results: dict[str, Any]) -> str:
    rows = []
    for case in DEPENDENT:
        if case.kind in ("three-level", "cr2"):
            found = results["cells"][case.name]["model"]
            allocated, process = found["allocated"], found["process"]
            sizes = f"{allocated / 1e6:.1f} MB", f"{allocated / case.k:,.0f} bytes", f"{process / 1e6:.0f} MB"
            rows.append([case.title, *sizes])
    return table(["", "allocated", "for each effect", "whole process"], rows)


def dependent(results: dict[str, Any]) -> str:
    """Return the section on dependent effects; nothing for results from before it was there."""
    if not any(case.name in results["cells"] for case in DEPENDENT):
        return ""
    times, ratios = tables(results, DEPENDENT)
    return DEPENDENT_TEXT.format(times=times, ratios=ratios, memory=memory(results))


def bayesian(results: dict[str, Any]) -> str:
    """Return the section on Bayesian models; nothing for results from before it was there."""
    cells = results["cells"]
    if not all(case.name in cells for case in BAYESIAN):
        return ""
    times, ratios = tables(results, BAYESIAN)
    facts = {case.name: cells[case.name]["model"].get("facts", {}) for case in BAYESIAN}
    at = {kind: [case for case in BAYESIAN if case.kind == kind] for kind in ("posterior", "everything", "robma")}
    off = [max(one["off"]) for case in at["everything"] if "off" in (one := cells[case.name].get("bayesmeta", {}))]
    log = [max(one["off"][:-1]) for case in at["robma"] if "off" in (one := cells[case.name].get("RoBMA", {}))]
    return BAYESIAN_TEXT.format(
        times=times,
        ratios=ratios,
        sampled=sampled([(case, cells[case.name].get("PyMC", {})) for case in at["posterior"]]),
        bound=f"at most {max(facts[case.name]['error'] for case in at['posterior']):.0e}",
        robma=listed([f"{facts[case.name]['error']:.0e} (k = {case.k})" for case in at["robma"]]),
        bayesmeta=f" Its numbers are off by up to {max(off):.0e}, as its grid is coarse by default." if off else "",
        simulated=(
            "  RoBMA draws 2 chains of 5,000 and bridges, without prolonging chains that have not converged; the logs\n"
            f"  of its Bayes factors differ by up to {max(log):.2g}.\n"
            if log
            else ""
        ),
        patience=patience(results),
    )


def patience(results: dict[str, Any]) -> str:
    absent = [COLUMNS[name] for name in (*bayes.IN_R, *bayes.PEERS) if name in results["missing"]]
    limit = f"A cell of bayesmeta, RoBMA or PyMC may take {results['patience']:g} s."
    return limit + (f" Not installed on the machine that measured: {', '.join(absent)}." if absent else "")


def sampled(cells: list[tuple[Case, dict[str, Any]]]) -> str:
    """Return what the time of PyMC is made of."""
    parts = ("import", "compile", "sample")
    rows = [
        [case.title, *(seconds(found["facts"][part]) for part in parts)] for case, found in cells if "facts" in found
    ]
    if not rows:
        return ""
    return f"\nWhat PyMC's time is made of; importing is not counted above:\n\n{table(['', *parts], rows)}\n"


def listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def earlier(results: dict[str, Any]) -> str:
    """Say which cases were timed on another day."""
    by_date: dict[str, list[str]] = {}
    for name, date in results.get("earlier", {}).items():
        by_date.setdefault(date, []).append(name)
    return "".join(f" ({', '.join(names)} on {date})" for date, names in sorted(by_date.items()))


def render(results: dict[str, Any]) -> str:
    cells = results["cells"]
    times, ratios = tables(results, INDEPENDENT)
    versions = {
        COLUMNS[name]: found["version"]
        for name in COLUMNS
        if name not in ("arrays", "metafor-sparse")
        for row in cells.values()
        if "version" in (found := row.get(name, {}))
    }
    machine = results["machine"]
    busy = results["load"] > 1 + BUSY
    missing = results["missing"]
    return TEXT.format(
        date=results["date"] + earlier(results),
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
        times=times,
        ratios=ratios,
        dependent=dependent(results),
        bayesian=bayesian(results),
        versions=", ".join(f"{name} {number}" for name, number in versions.items()),
        missing=f" Not at hand in this run: {', '.join(missing)}." if missing else "",
    )
