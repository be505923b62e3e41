"""Every rule, applied to what a paper prints of one result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.correlations.rounding import Range, hull, span
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.evidence.checking import Check, Decide, Reading, judge, read, show_range
from alliance_meta.evidence.printed import QUANTITIES, PrintedResult
from alliance_meta.tables.format import brief, format_level

# A correlation of exactly one has no Fisher z; a rounded 1.00 has.
ALMOST_ONE = 1.0 - 1e-12
LOG_METRICS = frozenset({"OR", "RR", "HR"})
MOST_DF = 1000
LEVELS = (0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale on which an interval can be symmetric; `se` turns the printed standard error to that scale."""

    words: str
    to: Callable[[Array], Array]
    back: Callable[[Array], Array]
    low: float = -np.inf
    high: float = np.inf
    delta: bool = False

    def on(self, printed: Range) -> Range | None:
        """Return the range on this scale, None where it has none."""
        inside = printed.within(self.low, self.high)
        return None if inside is None else span(self.to, inside)

    def se(self, se: Array, estimate: Array) -> Array:
        """Return the standard error on this scale of an estimate given on it."""
        return se / (1.0 - np.tanh(estimate) ** 2) if self.delta else se


def _same(x: Array) -> Array:
    return x


FISHER = Scale("Fisher z", np.arctanh, np.tanh, -ALMOST_ONE, ALMOST_ONE)
FISHER_DELTA = Scale("Fisher z with the SE of r", np.arctanh, np.tanh, -ALMOST_ONE, ALMOST_ONE, delta=True)
RAW_R = Scale("raw r", _same, _same)
LOG = Scale("log", np.log, np.exp, 1e-12)
AS_PRINTED = Scale("", _same, _same)


def scales(result: PrintedResult, *, with_delta: bool = False) -> tuple[Scale, ...]:
    """Return the scales on which papers make the intervals of this metric."""
    if result.metric in LOG_METRICS:
        return (LOG,)
    if result.metric in ("r", "ρ") or (result.metric == "" and _looks_like_r(result)):
        return (FISHER, RAW_R, FISHER_DELTA) if with_delta else (FISHER, RAW_R)
    return (AS_PRINTED,)


def _looks_like_r(result: PrintedResult) -> bool:
    ranges = [result.get(name) for name in ("estimate", "ci_lb", "ci_ub")]
    return all(one is None or (-1 <= one.middle <= 1) for one in ranges)


def words(*parts: str) -> str:
    """Join the parts of a reading that say something."""
    return ", ".join(part for part in parts if part)


def references(result: PrintedResult) -> list[tuple[str, float | None]]:
    """Return the reference distributions that the printed counts allow: normal, t(k - 1), t(effects - 1)."""
    found: list[tuple[str, float | None]] = [("normal", None)]
    own = result.count("df") if "t" in result.numbers else None
    if own is not None and own > 0:
        found.append((f"t({brief(own)})", own))
    for name, what in (("k", "k - 1"), ("n_effects", "effects - 1")):
        count = result.count(name)
        if count is not None and count > 1:
            found.append((f"t({brief(count - 1)}), df = {what}", count - 1))
    return found


def excludes_zero(result: PrintedResult) -> Callable[[Sequence[Range]], bool | None]:
    """Return what decides whether an interval excludes no effect."""
    null = 1.0 if result.metric in LOG_METRICS else 0.0

    def decide(limits: Sequence[Range]) -> bool | None:
        """Say whether the limits exclude no effect, None if rounding leaves it open."""
        lower, upper = limits
        if lower.low > null or upper.high < null:
            return True
        return False if lower.high < null < upper.low else None

    return decide


def inside(result: PrintedResult) -> Check | None:
    """Check that an estimate lies in its interval."""
    estimate, lower, upper = (result.get(name) for name in ("estimate", "ci_lb", "ci_ub"))
    if estimate is None or lower is None or upper is None:
        return None
    readings = [_between("", lower, upper, estimate)]
    if not readings[0].fits:
        readings += [
            _between("the limits in the other order", upper, lower, estimate, usual=False),
            _between("the sign of the estimate turned", lower, upper, estimate.negative(), usual=False),
            _between("the signs of both limits turned", upper.negative(), lower.negative(), estimate, usual=False),
            _between("a minus before the lower limit", lower.absolute().negative(), upper, estimate, usual=False),
        ]
    given = f"interval {result.interval()}"
    return judge(result, "estimate inside its interval", given=given, target=("estimate",), readings=readings)


def _between(said: str, lower: Range, upper: Range, estimate: Range, *, usual: bool = True) -> Reading:
    if lower.low > upper.high:
        return Reading(said, (Range(upper.low, lower.high),), False, usual)
    return read(said, Range(lower.low, upper.high), estimate, usual=usual)


def symmetric(result: PrintedResult) -> Check | None:
    """Check that an estimate lies in the middle of its interval, on the scale on which the interval was made."""
    estimate, lower, upper = (result.get(name) for name in ("estimate", "ci_lb", "ci_ub"))
    if estimate is None or lower is None or upper is None or not lies_between(lower, estimate, upper):
        return None
    if one_sided(result, lower, upper):
        return None

    def centre(low: Range, high: Range, scale: Scale) -> Range | None:
        """Return the middle of the limits on a scale."""
        ends = scale.on(low), scale.on(high)
        if ends[0] is None or ends[1] is None:
            return None
        return span(lambda a, b: scale.back(0.5 * (a + b)), ends[0], ends[1])

    middles = [(scale, centre(lower, upper, scale)) for scale in scales(result)]
    readings = [read(words("symmetric", scale.words), mid, estimate) for scale, mid in middles if mid is not None]
    mend = "only an interval that is not symmetric by construction (bootstrap, profile likelihood) could have these"
    given = f"interval {result.interval()}"
    return judge(result, "estimate amid its interval", given=given, target=("estimate",), readings=readings, mend=mend)


def lies_between(lower: Range, estimate: Range, upper: Range) -> bool:
    """Whether an estimate can lie between two limits."""
    return lower.low <= upper.high and Range(lower.low, upper.high).meets(estimate)


def one_sided(result: PrintedResult, lower: Range, upper: Range) -> bool:
    """Whether a limit is the end of the scale, as that of a one-sided interval is."""
    return result.metric in ("r", "ρ", "") and (upper.meets(Range(1.0, 1.0)) or lower.meets(Range(-1.0, -1.0)))


def interval_from_se(result: PrintedResult) -> Check | None:
    """Check that the limits are the estimate plus and minus a quantile times the standard error."""
    estimate, se = result.get("estimate"), result.get("se")
    if estimate is None or se is None or se.high <= 0:
        return None
    readings = [
        reading
        for scale in scales(result, with_delta=True)
        for said, df in references(result)
        if (reading := _limits(result, scale, critical_value(result.level, df), said)) is not None
    ]
    if "n_effects" not in result.numbers and not any(one.fits for one in readings):
        readings += [one for scale in scales(result, with_delta=True) for one in _implied(result, scale)]
    if not any(one.fits for one in readings):
        readings += _other_levels(result)
    return judge(
        result, "interval from SE", given=result.say("estimate", "se", "k", "n_effects"), target=("ci_lb", "ci_ub"),
        readings=readings, decide=excludes_zero(result),
    )  # fmt: skip


def _limits(result: PrintedResult, scale: Scale, quantile: float, said: str, *, usual: bool = True) -> Reading | None:
    estimate, se = result.get("estimate"), result.get("se")
    on = scale.on(estimate) if estimate is not None else None
    if on is None or se is None:
        return None
    lower = span(lambda e, s: scale.back(e - quantile * scale.se(s, e)), on, se)
    upper = span(lambda e, s: scale.back(e + quantile * scale.se(s, e)), on, se)
    fits = _meet(result, lower, upper)
    half = half_width(result, scale)
    if fits and half is not None:
        fits = span(lambda e, s: quantile * scale.se(s, e), on, se).meets(half)
    return Reading(words(scale.words, said), (lower, upper), fits, usual)


def half_width(result: PrintedResult, scale: Scale) -> Range | None:
    """Return half the width of the printed interval on a scale, None where there is none."""
    lower, upper = result.get("ci_lb"), result.get("ci_ub")
    if lower is None or upper is None:
        return None
    ends = scale.on(lower), scale.on(upper)
    if ends[0] is None or ends[1] is None:
        return None
    return span(lambda a, b: 0.5 * (b - a), ends[0], ends[1])


def _meet(result: PrintedResult, lower: Range, upper: Range) -> bool:
    low, high = result.get("ci_lb"), result.get("ci_ub")
    return low is not None and high is not None and lower.meets(low) and upper.meets(high)


def implied_df(result: PrintedResult, scale: Scale) -> list[int]:
    """Return the degrees of freedom with which SE and interval agree, where the number of effects is not printed.

    There are at least as many effects as studies, so k - 1 is the least.
    """
    on = scale.on(result.numbers["estimate"].range)
    half, se = half_width(result, scale), result.get("se")
    if on is None or half is None or se is None or se.low <= 0:
        return []
    lower, upper = scale.on(result.numbers["ci_lb"].range), scale.on(result.numbers["ci_ub"].range)
    if lower is None or upper is None:
        return []
    wanted = (
        span(lambda h, e, s: h / scale.se(s, e), half, on, se),
        span(lambda a, e, s: (e - a) / scale.se(s, e), lower, on, se),
        span(lambda b, e, s: (b - e) / scale.se(s, e), upper, on, se),
    )
    k = result.count("k")
    dfs = np.arange(max(1, int(k) - 1 if k is not None else 1), MOST_DF)
    quantiles = special.stdtrit(dfs, 0.5 * (1.0 + result.level))
    fits = np.all([(quantiles >= one.low) & (quantiles <= one.high) for one in wanted], axis=0)
    return [int(df) for df in dfs[fits]]


def _implied(result: PrintedResult, scale: Scale) -> Iterator[Reading]:
    dfs = implied_df(result, scale)
    if not dfs:
        return
    ends = [_limits(result, scale, critical_value(result.level, df), "") for df in (dfs[0], dfs[-1])]
    limits = [hull(*(one.follows[side] for one in ends if one is not None)) for side in (0, 1)]
    yield Reading(words(scale.words, say_df(dfs)), tuple(limits), True)


def say_df(dfs: Sequence[int]) -> str:
    """Write degrees of freedom that are not printed."""
    between = f"{dfs[0]}" if dfs[0] == dfs[-1] else f"{dfs[0]} to {dfs[-1]}"
    if dfs[-1] == MOST_DF - 1:
        between = f"{dfs[0]} or more"
    return f"t with df = {between} (number of effects less one, not printed)"


def _other_levels(result: PrintedResult) -> list[Reading]:
    tried = [level for level in LEVELS if abs(level - result.level) > 1e-9]
    found = [
        _limits(result, scale, critical_value(level, None), f"a {format_level(level)} interval", usual=False)
        for scale in scales(result, with_delta=True)
        for level in tried
    ]
    return [one for one in found if one is not None and one.fits]


def interval_from_statistic(result: PrintedResult) -> Check | None:
    """Check the limits against the estimate and its z or t, whose ratio is the standard error."""
    name = "z" if "z" in result.numbers else "t"
    estimate, stat = result.get("estimate"), result.get(name)
    if estimate is None or stat is None or stat.absolute().low <= 0:
        return None
    df = result.count("df") if name == "t" else None
    if name == "t" and df is None:
        return None
    quantile = critical_value(result.level, df)
    stat = stat.absolute()
    readings = []
    for scale in scales(result):
        on = scale.on(estimate)
        if on is None:
            continue
        near = on.absolute() if on.middle >= 0 else on.absolute().negative()
        lower, upper = (
            span(lambda e, s, side=side, scale=scale: scale.back(e + side * quantile * np.abs(e) / s), near, stat)
            for side in (-1.0, 1.0)
        )
        readings.append(Reading(words(scale.words, name), (lower, upper), _meet(result, lower, upper)))
    return judge(
        result, "interval from z" if name == "z" else "interval from t", given=result.say("estimate", name, "df"),
        target=("ci_lb", "ci_ub"), readings=readings, decide=excludes_zero(result),
    )  # fmt: skip


def wide_enough(result: PrintedResult) -> Check | None:
    """Check that an interval over N persons is not narrower than sampling error alone makes it."""
    k, n = result.count("k"), result.count("N")
    half = half_width(result, FISHER) if result.metric in ("r", "") and _looks_like_r(result) else None
    if k is None or n is None or half is None or "estimate" not in result.numbers or n <= k or n <= 3:
        return None
    least = critical_value(result.level, None) / float(np.sqrt(n))
    readings = [Reading("half its width on Fisher z", (Range(least, np.inf),), half.high >= least)]
    mend = f"half the printed width is {show_range(half, 4)}; persons counted several times would explain it"
    given = result.say("k", "N")
    return judge(
        result, "interval as wide as N demands", given=given, target=("ci_lb", "ci_ub"), readings=readings, mend=mend
    )


POSITIVE = (0.0, np.inf)
BOUNDS: dict[str, tuple[float, float]] = {
    "r": (-1.0, 1.0),
    **dict.fromkeys(("p", "QEp", "QMp"), (0.0, 1.0)),
    **dict.fromkeys(("se", "QE", "QM", "F", "chi2"), POSITIVE),
    "I2": (0.0, 100.0),
    **dict.fromkeys(("tau2", "tau"), POSITIVE),
    "r2": (0.0, 100.0),
    **dict.fromkeys(("k", "n_effects", "N"), (1.0, np.inf)),
    **dict.fromkeys(("QEdf", "QMdf", "df", "df2"), POSITIVE),
}
# An estimate and its limits, by metric.
OF_EFFECT = dict.fromkeys(("r", "ρ"), (-1.0, 1.0)) | dict.fromkeys(LOG_METRICS, POSITIVE)
SAYS = {POSITIVE: "0 or more", (1.0, np.inf): "1 or more"}


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
            result, "possible value", given=said_name(name), target=(name,), readings=[reading],
            mend=_explained(result, name), shown=said,
        )  # fmt: skip
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
        """Return the share of Q above its degrees of freedom, in percent."""
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


TINY = 1e-12


def significant(alpha: float) -> Decide:
    """Return what decides whether a p-value is below `alpha`."""

    def decide(values: Sequence[Range]) -> bool | None:
        """Say whether p is below alpha, None if rounding leaves it open."""
        if values[0].high <= alpha + TINY:
            return True
        return False if values[0].low >= alpha - TINY else None

    return decide


def p_of(stat: Range, df: float | None) -> Range:
    """Return the range of the two-sided p of z (df None) or t."""
    return span(lambda s: two_sided_p(s, df), stat.absolute())


def p_of_statistic(result: PrintedResult, alpha: float) -> Check | None:
    """Check p against z, t, F, chi-squared, or r with its degrees of freedom."""
    df, df2 = result.count("df") or 0.0, result.count("df2") or 0.0
    for name in ("z", "t", "F", "chi2", "r"):
        stat = result.get(name)
        if stat is None or (name != "z" and df <= 0) or (name == "F" and df2 <= 0):
            continue
        p = _p_of(name, stat.absolute(), df, df2)
        if p is not None:
            return _p_check(result, p, name, alpha)
    return None


def _p_of(name: str, stat: Range, df: float, df2: float) -> Range | None:
    if name == "F":
        return span(lambda s: special.fdtrc(df, df2, s), stat)
    if name == "chi2":
        return span(lambda s: special.chdtrc(df, s), stat)
    if name != "r":
        return p_of(stat, None if name == "z" else df)
    inside = stat.within(0.0, 1.0 - TINY)
    return None if inside is None else p_of(span(lambda x: x * np.sqrt(df / (1.0 - x**2)), inside), df)


def _p_check(result: PrintedResult, p: Range, name: str, alpha: float) -> Check | None:
    printed, two_sided = result.get("p"), name in ("z", "t", "r")
    half = Range(0.5 * p.low, 0.5 * p.high)
    said = two_sided and result.one_sided
    readings = [read("one-sided", half, printed) if said else read("two-sided" if two_sided else "", p, printed)]
    if not readings[0].fits and two_sided:
        other = read("two-sided", p, printed, usual=False) if said else read("one-sided", half, printed, usual=False)
        readings.append(other)
        readings.append(read("the other tail", Range(1.0 - p.high, 1.0 - p.low), printed, usual=False))
    if not readings[0].fits and name == "F":
        df, df2 = result.count("df"), result.count("df2")
        turned = _p_of("F", result.numbers["F"].range.absolute(), df2 or 0.0, df or 0.0)
        if turned is not None:
            readings.append(read("the two df in the other order", turned, printed, usual=False))
    order = ("r", "df") if name == "r" else (name, "df", "df2")
    return judge(
        result, f"p from {'χ²' if name == 'chi2' else name}", given=result.say(*order), target=("p",),
        readings=readings, decide=significant(alpha),
    )  # fmt: skip


def p_of_q(result: PrintedResult, alpha: float) -> Iterator[Check | None]:
    """Check p against Q (heterogeneity) or QM (moderators) with its degrees of freedom."""
    for q, df_name, p_name, rule in (("QE", "QEdf", "QEp", "p from Q"), ("QM", "QMdf", "QMp", "p from QM")):
        stat, df = result.get(q), result.count(df_name)
        if stat is None or stat.high < 0 or df is None or df <= 0:
            continue
        p = span(lambda s, df=df: special.chdtrc(df, np.maximum(s, 0.0)), stat)
        readings = [read("χ²", p, result.get(p_name))]
        if not readings[0].fits:
            near = [other for other in (df - 1, df + 1) if other > 0]
            for other in near:
                again = span(lambda s, other=other: special.chdtrc(other, np.maximum(s, 0.0)), stat)
                readings.append(read(f"df = {brief(other)}", again, result.get(p_name), usual=False))
        yield judge(
            result, rule, given=result.say(q, df_name), target=(p_name,), readings=readings, decide=significant(alpha)
        )


def p_of_se(result: PrintedResult, alpha: float) -> Check | None:
    """Check p against the estimate over its standard error."""
    estimate, se = result.get("estimate"), result.get("se")
    if estimate is None or se is None or se.low <= 0 or "p" not in result.numbers:
        return None
    readings: list[Reading] = []
    for scale in scales(result, with_delta=True):
        ratio = _ratio(estimate, se, scale)
        if ratio is None:
            continue
        readings += [
            read(words(scale.words, said), p_of(ratio, df), result.get("p")) for said, df in references(result)
        ]
        dfs = implied_df(result, scale) if "n_effects" not in result.numbers else []
        if dfs:
            both = hull(p_of(ratio, dfs[0]), p_of(ratio, dfs[-1]))
            readings.append(read(words(scale.words, say_df(dfs)), both, result.get("p")))
    return judge(
        result, "p from estimate and SE", given=result.say("estimate", "se", "k", "n_effects"), target=("p",),
        readings=_with_one_sided(readings, result.get("p")), decide=significant(alpha),
    )  # fmt: skip


def _ratio(estimate: Range, se: Range, scale: Scale) -> Range | None:
    on = scale.on(estimate)
    return None if on is None else span(lambda e, s: e / scale.se(s, e), on, se)


def p_of_interval(result: PrintedResult, alpha: float) -> Check | None:
    """Check p against where the interval lies, and how wide it is."""
    lower, upper = result.get("ci_lb"), result.get("ci_ub")
    if lower is None or upper is None or "p" not in result.numbers or "se" in result.numbers:
        return None
    if lower.high >= upper.low or one_sided(result, lower, upper) or not _estimate_inside(result, lower, upper):
        return None
    k = result.count("k")
    readings: list[Reading] = []
    for scale in scales(result):
        low, high = scale.on(lower), scale.on(upper)
        if low is None or high is None:
            continue
        found = []
        for said, df in references(result):
            quantile = critical_value(result.level, df)
            stat = span(lambda a, b, q=quantile: q * (a + b) / (b - a), low, high)
            found.append(read(words(scale.words, said), p_of(stat, df), result.get("p")))
        if k is not None and k > 1 and "n_effects" not in result.numbers:
            both = hull(*(one.follows[0] for one in found))
            found.append(read(words(scale.words, f"t with df of {brief(k - 1)} or more"), both, result.get("p")))
        readings += found
    return judge(
        result, "p from the interval", given=words(f"interval {result.interval()}", result.say("k", "n_effects")),
        target=("p",), readings=_with_one_sided(readings, result.get("p")), decide=significant(alpha),
    )  # fmt: skip


def _estimate_inside(result: PrintedResult, lower: Range, upper: Range) -> bool:
    estimate = result.get("estimate")
    return estimate is None or lies_between(lower, estimate, upper)


def _with_one_sided(readings: list[Reading], printed: Range | None) -> list[Reading]:
    if any(one.fits for one in readings):
        return readings
    first = [one for one in readings if "normal" in one.words]
    halves = [
        read(
            f"{one.words}, one-sided", Range(0.5 * one.follows[0].low, 0.5 * one.follows[0].high), printed, usual=False
        )
        for one in first
    ]
    return readings + [one for one in halves if one.fits]


def statistic_from_se(result: PrintedResult) -> Check | None:
    """Check that z or t is the estimate over its standard error."""
    name = "z" if "z" in result.numbers else "t"
    estimate, se, stat = result.get("estimate"), result.get("se"), result.get(name)
    if estimate is None or se is None or stat is None or se.low <= 0:
        return None
    readings = [
        read(scale.words, ratio, stat)
        for scale in scales(result, with_delta=True)
        if (ratio := _ratio(estimate, se, scale)) is not None
    ]
    if not any(one.fits for one in readings):
        readings += [
            read(words(one.words, "the sign turned"), one.follows[0].negative(), stat, usual=False)
            for one in list(readings)
        ]
    return judge(
        result, f"{name} from estimate and SE", given=result.say("estimate", "se"), target=(name,), readings=readings
    )


def interval_of_r(result: PrintedResult) -> Check | None:
    """Check the interval of one correlation against r and its df (n = df + 2), by Fisher's z."""
    r, df = result.get("r"), result.count("df")
    inside = None if r is None else r.within(-1.0 + TINY, 1.0 - TINY)
    if inside is None or df is None or df <= 1 or "ci_lb" not in result.numbers:
        return None
    half = critical_value(result.level, None) / np.sqrt(df - 1.0)
    lower, upper = (span(lambda x, side=side: np.tanh(np.arctanh(x) + side * half), inside) for side in (-1.0, 1.0))
    low, high = result.get("ci_lb"), result.get("ci_ub")
    fits = low is not None and high is not None and lower.meets(low) and upper.meets(high)
    readings = [Reading("Fisher z, variance 1/(n - 3)", (lower, upper), fits)]
    return judge(result, "interval of one r", given=result.say("r", "df"), target=("ci_lb", "ci_ub"), readings=readings)


Rule = Callable[..., Check | Iterable[Check | None] | None]
# Rules that also say whether the decision at alpha changes.
WITH_ALPHA = frozenset({p_of_statistic, p_of_se, p_of_interval, p_of_q})
# In the order of the checks; a rule is asked where all numbers are printed that it cannot do without.
RULES: tuple[tuple[frozenset[str], Rule], ...] = tuple(
    (frozenset(needs.split()), rule)
    for needs, rule in (
        ("", possible),
        ("estimate ci_lb ci_ub", inside),
        ("estimate ci_lb ci_ub", symmetric),
        ("estimate se", interval_from_se),
        ("estimate", interval_from_statistic),
        ("estimate ci_lb ci_ub k N", wide_enough),
        ("r df ci_lb", interval_of_r),
        ("estimate se", statistic_from_se),
        ("", p_of_statistic),
        ("estimate se p", p_of_se),
        ("ci_lb ci_ub p", p_of_interval),
        ("", p_of_q),
        ("QE QEdf", i2_from_q),
        ("k QEdf", df_from_k),
        ("tau2 tau", tau_from_tau2),
        ("d", d_from_r),
        ("r2", variance_from_r),
        ("k N mean_n", mean_n_from_total),
    )
)


def check_result(result: PrintedResult, *, alpha: float = 0.05) -> tuple[Check, ...]:
    """Return every check that the printed numbers allow, in the order of the rules."""
    printed = result.numbers.keys()
    found: list[Check | None] = []
    for needs, rule in RULES:
        if needs <= printed:
            made = rule(result, alpha) if rule in WITH_ALPHA else rule(result)
            found += [made] if made is None or isinstance(made, Check) else made
    return tuple(check for check in found if check is not None)
