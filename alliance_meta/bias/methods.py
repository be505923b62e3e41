"""The methods that a panel asks, what each is asked, and what it says in one row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alliance_meta.bias.excess import tes
from alliance_meta.bias.fail_safe import fsn
from alliance_meta.bias.given import Given
from alliance_meta.bias.p_values.p_curve import pcurve
from alliance_meta.bias.p_values.p_uniform import puniform
from alliance_meta.bias.p_values.z_curve import zcurve
from alliance_meta.bias.selection_models.copas_model import copas
from alliance_meta.bias.selection_models.weights import selmodel
from alliance_meta.bias.small_study.asymmetry import ranktest, regtest
from alliance_meta.bias.small_study.henmi_copas import hc
from alliance_meta.bias.small_study.limit import limitmeta
from alliance_meta.bias.small_study.precision import pet_peese, uwls, uwls3, waap
from alliance_meta.bias.small_study.refitting import size_notes
from alliance_meta.bias.small_study.trimming import trimfill
from alliance_meta.bias.truncated import rtma
from alliance_meta.bias.worst import worst_case
from alliance_meta.notes import NotApplicable
from alliance_meta.tables.format import fixed, fixed_interval, format_count

NONE = NotApplicable("the method has none")


@dataclass(frozen=True)
class Method:
    """A method of the panel."""

    label: str  # what its row is called
    run: Callable[..., Any]  # ``run(fit, **options)`` gives the result
    source: str  # where it was published
    # Returns its options for the data at hand.
    options: Callable[[Given], dict[str, Any]] = lambda source: {"level": source.level}


@dataclass(frozen=True)
class Said:
    """What a test says: its statistic, degrees of freedom and p-value, and in words."""

    stat: float
    ddf: float
    pval: float
    words: str


def _with(**more: Any) -> Callable[[Given], dict[str, Any]]:
    return lambda source: {"level": source.level, **more}


def _size(source: Given) -> str:
    """Return 1 / sqrt(n) as the measure of imprecision where the standard error holds more than n and n is known."""
    n = source.effects.ni
    known = n is not None and bool((n > 0).all())
    return "sqrtninv" if known and size_notes(source, "sei") else "sei"


def _by_size(source: Given) -> dict[str, Any]:
    return {"level": source.level, "predictor": _size(source)}


UWLS = Method("UWLS", uwls, "Stanley & Doucouliagos (2015), doi:10.1002/sim.6481")
HEDGES = "Vevea & Hedges (1995), doi:10.1007/BF02294384"
# The methods whose answer is a mean, worst case first, by the key of their row.
MEANS: Mapping[str, Method] = {
    "worst_case": Method(
        "Worst case (only what is not affirmative)",
        worst_case,
        "Mathur & VanderWeele (2020), doi:10.1111/rssc.12440",
    ),
    "selection": Method("Selection model, step at .025", selmodel, HEDGES),
    "selection_two": Method("Selection model, steps at .025 and .5", selmodel, HEDGES, _with(steps=(0.025, 0.5))),
    "selection_beta": Method(
        "Selection model, beta weights",
        selmodel,
        "Citkowicz & Vevea (2017), doi:10.1037/met0000119",
        _with(type="beta"),
    ),
    "copas": Method("Copas's selection model", copas, "Copas & Shi (2001), doi:10.1177/096228020101000402"),
    "rtma": Method("RTMA, for p-hacking", rtma, "Mathur (2024), doi:10.1002/jrsm.1701"),
    "puniform": Method("p-uniform*", puniform, "van Aert & van Assen (2025), doi:10.31222/osf.io/zqjr9"),
    "pet_peese": Method("PET-PEESE", pet_peese, "Stanley & Doucouliagos (2014), doi:10.1002/jrsm.1095", _by_size),
    "limitmeta": Method("Limit meta-analysis", limitmeta, "Rücker et al. (2011), doi:10.1093/biostatistics/kxq046"),
    "waap": Method("WAAP", waap, "Ioannidis, Stanley & Doucouliagos (2017), doi:10.1111/ecoj.12461"),
    "uwls": Method("UWLS+3", uwls3, "Stanley, Doucouliagos & Havranek (2024), doi:10.1002/jrsm.1704"),
    "hc": Method("Henmi-Copas", hc, "Henmi & Copas (2010), doi:10.1002/sim.4029"),
    "trimfill": Method("Trim and fill", trimfill, "Duval & Tweedie (2000), doi:10.1111/j.0006-341X.2000.00455.x"),
}


def means(source: Given) -> Mapping[str, Method]:
    """Return the methods whose answer is a mean, as they suit the effects at hand."""
    return MEANS if source.effects.measure in ("ZCOR", "COR") else {**MEANS, "uwls": UWLS}


@dataclass(frozen=True)
class Question:
    """A test or measure that gives no mean."""

    label: str
    asked: Method | str  # what gives the result; a string names the row of `means` whose result it is
    say: Callable[[Any], Said]  # what makes a row of that result


def _none(source: Given) -> dict[str, Any]:
    return {}


def questions(source: Given) -> Mapping[str, Question]:
    """Return the tests and measures that give no mean, by the key of their row."""
    size = "1 / sqrt(n)" if _size(source) == "sqrtninv" else "standard error"
    egger = "Egger et al. (1997), doi:10.1136/bmj.315.7109.629"
    if source.dependent:
        egger = "Rodgers & Pustejovsky (2021), doi:10.1037/met0000300"
    begg = "Begg & Mazumdar (1994), doi:10.2307/2533446"
    excess = "Ioannidis & Trikalinos (2007), doi:10.1177/1740774507079441"
    drawer = "Rosenthal (1979), doi:10.1037/0033-2909.86.3.638"
    p_curve = "Simonsohn, Simmons & Nelson (2015), doi:10.1037/xge0000104"
    z_curve = "Bartoš & Schimmack (2022), doi:10.15626/MP.2021.2720"
    listed: dict[str, tuple[str, Method | str, Callable[[Any], Said]]] = {
        "regtest": (f"Regression on {size} (Egger)", Method("", regtest, egger, _by_size), _regression),
        "ranktest": ("Rank correlation (Begg)", Method("", ranktest, begg, _none), _ranks),
        "selection_test": ("Selection at p = .025", "selection", _selected),
        "svalue": ("s-value", "worst_case", _svalue),
        "tes": ("Excess significance", Method("", tes, excess, _none), _excess),
        "fsn": ("Fail-safe N (Rosenthal)", Method("", fsn, drawer, _none), _fail_safe),
        "pcurve": ("p-curve, right skew", Method("", pcurve, p_curve), _p_curve),
        "zcurve": ("z-curve", Method("", zcurve, z_curve), _z_curve),
    }
    return {key: Question(*parts) for key, parts in listed.items()}


def _regression(found: Any) -> Said:
    return Said(found.stat, found.ddf, found.pval, f"slope {fixed(found.slope, 2)}")


def _ranks(found: Any) -> Said:
    return Said(found.tau, NONE, found.pval, f"Kendall's tau = {fixed(found.tau, 2)}")


def _excess(found: Any) -> Said:
    words = f"{found.observed} significant, {fixed(found.expected, 1)} expected"
    return Said(found.ratio, NONE, found.pval, words)


def _fail_safe(found: Any) -> Said:
    return Said(found.rosenthal, NONE, NONE, f"{format_count(found.rosenthal)} effects that average 0")


def _p_curve(found: Any) -> Said:
    words = f"{found.significant} significant results; evidence: {found.evidence}"
    return Said(found.right_full, NONE, found.right_full_p, words)


def _selected(found: Any) -> Said:
    """Return the likelihood-ratio test; where effects are dependent, Wald's test from whole studies."""
    test = found.wald if math.isnan(found.lrt.pval) else found.lrt
    words = f"p > .025 seen {fixed(found.delta[1], 2)} times as often as p <= .025"
    return Said(test.stat, float(test.df), test.pval, words)


def _svalue(found: Any) -> Said:
    """Return how strong a preference for affirmative results brings the mean, and its interval, to 0."""
    where = (("the mean", found.svalue), ("its interval", found.svalue_limit))
    words = [f"{what} reaches 0 {_ratio(value)}" for what, value in where]
    return Said(NONE if math.isnan(found.svalue) else found.svalue, NONE, NONE, "; ".join(words))


def _ratio(value: float) -> str:
    if not math.isnan(value):
        return f"where affirmative results are seen {fixed(value, 1)} times as often"
    reason: str = getattr(value, "reason", "")
    return f"at no ratio ({reason})"


def _z_curve(found: Any) -> Said:
    words = (
        f"discovery rate: observed {fixed(found.odr, 2)}, expected {fixed(found.edr, 2)} "
        f"{fixed_interval(found.edr_lb, found.edr_ub, 2)}"
    )
    return Said(found.edr, NONE, NONE, words)
