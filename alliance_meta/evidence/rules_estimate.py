"""Rules for an estimate and its interval: inside, in the middle, as wide as its standard error says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.correlations.rounding import Range, hull, span
from alliance_meta.core.distributions import critical_value
from alliance_meta.evidence.checking import Check, Reading, judge, read, show_range
from alliance_meta.evidence.printed import PrintedResult
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
