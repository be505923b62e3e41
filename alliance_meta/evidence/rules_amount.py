"""Rules for heterogeneity, converted effects and counts; and for numbers that nothing can be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations.rounding import Range, span
from alliance_meta.evidence.checking import Check, Reading, judge, read, show_range
from alliance_meta.evidence.printed import QUANTITIES, PrintedResult
from alliance_meta.evidence.rules_estimate import LOG_METRICS
from alliance_meta.tables.format import brief

BOUNDS: dict[str, tuple[float, float]] = {
    "r": (-1.0, 1.0),
    "p": (0.0, 1.0),
    "QEp": (0.0, 1.0),
    "QMp": (0.0, 1.0),
    "se": (0.0, np.inf),
    "QE": (0.0, np.inf),
    "QM": (0.0, np.inf),
    "F": (0.0, np.inf),
    "chi2": (0.0, np.inf),
    "I2": (0.0, 100.0),
    "H2": (0.0, np.inf),
    "tau2": (0.0, np.inf),
    "tau": (0.0, np.inf),
    "r2": (0.0, 100.0),
    "k": (1.0, np.inf),
    "n_effects": (1.0, np.inf),
    "N": (1.0, np.inf),
    "QEdf": (0.0, np.inf),
    "QMdf": (0.0, np.inf),
    "df": (0.0, np.inf),
    "df2": (0.0, np.inf),
}
# An estimate and its limits, by metric.
OF_EFFECT = dict.fromkeys(("r", "ρ"), (-1.0, 1.0)) | dict.fromkeys(LOG_METRICS, (0.0, np.inf))
SAYS = {(0.0, np.inf): "0 or more", (1.0, np.inf): "1 or more"}


def possible(result: PrintedResult) -> Iterator[Check | None]:
    """Find numbers that nothing can be: a negative variance, a correlation above one."""
    ends = OF_EFFECT.get(result.metric)
    bounds = BOUNDS if ends is None else BOUNDS | dict.fromkeys(("estimate", "ci_lb", "ci_ub"), ends)
    for name, (low, high) in bounds.items():
        number = result.numbers.get(name)
        if number is None or number.range.within(low, high) is not None:
            continue
        reading = Reading("", (Range(low, high),), False)
        said = SAYS.get((low, high), f"{brief(low)} to {brief(high)}")
        check = judge(
            result,
            "possible value",
            given=said_name(name),
            target=(name,),
            readings=[reading],
            mend=_explained(result, name),
            shown=said,
        )
        if check is not None:
            yield check


def said_name(name: str) -> str:
    """Return the symbol of a quantity."""
    return QUANTITIES[name][0]


def _explained(result: PrintedResult, name: str) -> str:
    """Say what a negative variance with a symmetric interval is: an estimate under the wrong name."""
    lower, upper, own = (result.get(part) for part in ("tau2_lb", "tau2_ub", "tau2"))
    if name != "tau2" or lower is None or upper is None or own is None:
        return "the sign turned would fit" if name in ("se", "QE", "tau2", "chi2", "F") else ""
    if span(lambda a, b: 0.5 * (a + b), lower, upper).meets(own):
        return "it lies in the middle of its interval, as an effect does and a variance does not: a pooled effect?"
    return ""


def i2_from_q(result: PrintedResult) -> Check | None:
    """Check that I² is the share of Q above its degrees of freedom."""
    q, df = result.get("QE"), result.count("QEdf")
    if q is None or q.high <= 0 or df is None:
        return None
    positive = Range(max(q.low, 1e-12), q.high)

    def share(stat: Array) -> Array:
        return np.maximum(0.0, 100.0 * (stat - df) / stat)

    printed, number = result.get("I2"), result.numbers.get("I2")
    follows = span(share, positive)
    readings = [read("(Q - df)/Q", follows, printed)]
    if number is not None and not number.percent and number.range.high <= 1.0:
        readings.append(read("(Q - df)/Q as a fraction", Range(follows.low / 100, follows.high / 100), printed))
    return judge(
        result, "I² from Q", given=result.say("QE", "QEdf"), target=("I2",), readings=readings,
        mend="I² from τ² by another estimator than DerSimonian and Laird's differs from this one",
        otherwise="depends on the definition" if _both_positive(follows, printed) else "inconsistent",
    )  # fmt: skip


def _both_positive(follows: Range, printed: Range | None) -> bool:
    return printed is not None and follows.high > 0 and printed.high > 0 and printed.low < 100


def h2_from_q(result: PrintedResult) -> Check | None:
    """Check that H² is Q over its degrees of freedom."""
    q, df = result.get("QE"), result.count("QEdf")
    if q is None or df is None or df <= 0 or "H2" not in result.numbers:
        return None
    readings = [read("Q/df", Range(q.low / df, q.high / df), result.get("H2"))]
    return judge(
        result, "H² from Q", given=result.say("QE", "QEdf"), target=("H2",), readings=readings,
        mend="H² from τ² by another estimator than DerSimonian and Laird's differs from this one",
        otherwise="depends on the definition",
    )  # fmt: skip


def df_from_k(result: PrintedResult) -> Check | None:
    """Check that the degrees of freedom of Q are the number of effects less one."""
    k, df = result.count("k"), result.get("QEdf")
    if k is None or df is None:
        return None
    readings = [read("k - 1", Range(k - 1, k - 1), df)]
    effects = result.count("n_effects")
    if effects is not None:
        readings.append(read("effects - 1", Range(effects - 1, effects - 1), df))
    return judge(
        result, "df of Q from k", given=result.say("k", "n_effects"), target=("QEdf",), readings=readings,
        mend="Q over another number of effects than of studies, or beside moderators, would do",
        otherwise="depends on the definition",
    )  # fmt: skip


def tau_from_tau2(result: PrintedResult) -> Check | None:
    """Check that τ is the root of τ²."""
    tau2 = result.get("tau2")
    if tau2 is None or tau2.high < 0 or "tau" not in result.numbers:
        return None
    follows = span(lambda t: np.sqrt(np.maximum(t, 0.0)), tau2)
    return judge(
        result, "τ from τ²", given=result.say("tau2"), target=("tau",), readings=[read("", follows, result.get("tau"))]
    )


def correlation(result: PrintedResult) -> tuple[str, Range | None]:
    """Return the printed correlation and the name it stands under."""
    if "r" in result.numbers:
        return "r", result.get("r")
    return "estimate", result.get("estimate") if result.metric == "r" else None


def d_from_r(result: PrintedResult) -> Check | None:
    """Check that d = 2r/sqrt(1 - r²), for two groups of equal size."""
    name, r = correlation(result)
    inside = None if r is None else r.within(-1.0 + 1e-9, 1.0 - 1e-9)
    d = result.get("d")
    if inside is None or d is None:
        return None
    readings = [read("d = 2r/√(1 - r²)", span(lambda x: 2.0 * x / np.sqrt(1.0 - x**2), inside), d)]
    needed = span(lambda x: x / np.sqrt(x**2 + 4.0), d)
    mend = f"this d needs an r of {show_range(needed, 3)}"
    return judge(
        result, "d from r", given=result.say(name), target=("d",), readings=readings,
        mend="" if readings[0].fits else mend,
    )  # fmt: skip


def variance_from_r(result: PrintedResult) -> Check | None:
    """Check that the shared variance is r², in percent."""
    name, r = correlation(result)
    if r is None or "r2" not in result.numbers:
        return None
    follows = span(lambda x: 100.0 * x**2, r.absolute())
    printed, number = result.get("r2"), result.numbers["r2"]
    readings = [read("r²", follows, printed)]
    if not number.percent and number.range.high <= 1.0:
        readings.append(read("r² as a fraction", Range(follows.low / 100, follows.high / 100), printed))
    return judge(result, "r² from r", given=result.say(name), target=("r2",), readings=readings)


def mean_n_from_total(result: PrintedResult) -> Check | None:
    """Check that the average sample is N over k."""
    k, n = result.count("k"), result.count("N")
    if k is None or n is None or k <= 0 or "mean_n" not in result.numbers:
        return None
    readings = [read("N/k", Range(n / k, n / k), result.get("mean_n"))]
    return judge(result, "average n from N and k", given=result.say("N", "k"), target=("mean_n",), readings=readings)
