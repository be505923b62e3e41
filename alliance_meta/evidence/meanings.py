"""`meaning`: a correlation in other words, each with what must be assumed for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations import conversions as core
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import brief, fixed, fixed_r

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["share", "sd", "ratio", "number"]
Course = Literal["up", "even", "down"]

GROUPS = (
    "clients are divided into two groups of equal size by their alliance, and outcomes within each are normal with the "
    "same spread"
)
NORMAL = "alliance and outcome are bivariate normal over clients"


@dataclass(frozen=True, slots=True)
class Converter:
    """One way to put a correlation into other words."""

    label: str
    unit: Unit
    convert: Callable[[Array, float], Array]
    course: Course
    words: str
    assumption: str
    formula: str
    source: str


def _of_d(f: Callable[[Array], Array]) -> Callable[[Array, float], Array]:
    return lambda r, rate: f(core.r_to_d(r))


CONVERTERS: Mapping[str, Converter] = {
    "r2": Converter("shared variance", "share", lambda r, rate: r**2, "even",
        "{value} of the differences between clients in outcome go with differences in alliance",
        "the relation is linear; a share of variance is not a share of success", "r²", "definition"),
    "d": Converter("standardised difference d", "sd", _of_d(np.asarray), "up",
        "clients with the better alliance end {value} standard deviations higher", GROUPS, "2r/√(1 − r²)",
        "point-biserial correlation solved for d"),
    "odds_ratio": Converter("odds ratio", "ratio", _of_d(core.d_to_odds_ratio), "up",
        "the odds of a good outcome are {value} times as high with the better alliance",
        f"{GROUPS.replace('normal', 'logistic')}; odds are not chances", "exp(d π/√3)",
        "Hasselblad & Hedges 1995, doi:10.1037/0033-2909.117.1.167"),
    "besd": Converter("binomial effect size display", "share", lambda r, rate: core.besd(r), "up",
        "in the display, {value} succeed with the better alliance and {rest} with the other",
        "half of all clients succeed and half have the better alliance, in a table with this correlation (phi)",
        "1/2 + r/2", "Rosenthal & Rubin 1982, doi:10.1037/0022-0663.74.2.166"),
    "median_split": Converter("rate above the median", "share", lambda r, rate: core.pairs(r), "up",
        "of clients with an alliance above the median, {value} have an outcome above it; of the others {rest}", NORMAL,
        "1/2 + arcsin(r)/π", "orthant probability of the bivariate normal distribution"),
    "pairs": Converter("common language, pairs of clients", "share", lambda r, rate: core.pairs(r), "up",
        "of two clients, the one with the better alliance has the better outcome in {value} of cases", NORMAL,
        "1/2 + arcsin(r)/π", "Dunlap 1994, doi:10.1037/0033-2909.116.3.509"),
    "common_language": Converter("common language, two groups", "share", _of_d(core.common_language), "up",
        "a client of the group with the better alliance does better than one of the other in {value} of cases", GROUPS,
        "Φ(d/√2)", "McGraw & Wong 1992, doi:10.1037/0033-2909.111.2.361"),
    "u3": Converter("U3", "share", _of_d(core.u3), "up",
        "{value} of the group with the better alliance do better than the median of the other", GROUPS, "Φ(d)",
        "Cohen 1988"),
    "overlap": Converter("overlap of the two groups", "share", _of_d(core.overlap), "even",
        "the outcomes of the two groups overlap by {value}", GROUPS, "2Φ(−|d|/2)",
        "area under the lower of two normal densities"),
    "needed": Converter("number needed", "number", _of_d(core.needed), "down",
        "{value} clients moved from the lower group to the other would make one more better outcome in pairs",
        f"{GROUPS}; and the difference is caused by the alliance, which a correlation does not show",
        "1/(2Φ(d/√2) − 1)", "Kraemer & Kupfer 2006, doi:10.1016/j.biopsych.2005.09.014"),
    "needed_at_rate": Converter("number needed at a base rate", "number",
        lambda r, rate: core.needed_at(core.r_to_d(r), rate), "down",
        "{value} clients moved from the lower group, where {rate} succeed, to the other would make one more success",
        f"{GROUPS}; the base rate holds; and the difference is caused by the alliance, which a correlation does not "
        "show",
        "1/(Φ(d + Φ⁻¹(rate)) − rate)", "Furukawa & Leucht 2011, doi:10.1371/journal.pone.0019070"),
}  # fmt: skip

COLUMNS = ("row", "measure", "label", "value", "ci_lb", "ci_ub", "unit", "words", "assumption", "formula", "source")

NOT_CAUSAL = (
    "Every one of these restates an association. None says that a better alliance makes for a better outcome: "
    "improvement that came first can raise both."
)
SAME_NUMBER = (
    "These are the same correlation under different assumptions; that one sounds larger than another makes it no "
    "stronger. The binomial effect size display in particular shows rates of a made-up table, further apart than "
    "those of clients split at the median."
)


@dataclass(frozen=True, eq=False, repr=False)
class Meaning(Result):
    """A correlation, or several, in other words.

    Attributes
    ----------
    r, ci_lb, ci_ub : ndarray
        What was converted; limits are NaN where none were given.
    base_rate : float
        Share that succeeds in the group with the lower alliance, for ``needed_at_rate``.
    rows : tuple of dict
        One per correlation and measure: ``row measure label value ci_lb ci_ub unit words assumption formula
        source``.
    """

    r: Array
    ci_lb: Array
    ci_ub: Array
    base_rate: float
    rows: tuple[dict[str, Any], ...]
    notes: tuple[Note, ...]

    def __getitem__(self, measure: str) -> Any:
        """Return the value of one measure: a number, or an array for several correlations."""
        values = [row["value"] for row in self.rows if row["measure"] == measure]
        if not values:
            raise InputError(f"there is no measure {measure!r}; there are {', '.join(CONVERTERS)}")
        return values[0] if self.r.ndim == 0 else np.array(values, dtype=float)

    def tidy(self) -> pd.DataFrame:
        """Return one row per correlation and measure, with interval, words, assumption, formula and source."""
        import pandas as pd

        frame = pd.DataFrame([[row[name] for name in COLUMNS] for row in self.rows], columns=list(COLUMNS))
        for name in ("value", "ci_lb", "ci_ub"):
            frame[name] = pd.Series([row[name] for row in self.rows], dtype=object)
        return frame

    def _values(self) -> dict[str, Any]:
        return {
            "r": self.r,
            "ci_lb": self.ci_lb,
            "ci_ub": self.ci_ub,
            "base_rate": self.base_rate,
            "rows": list(self.rows),
        }

    def _content(self) -> Document:
        tables = []
        for i, r in enumerate(self.r.reshape(-1)):
            rows = tuple((row["label"], _cell(row)) for row in self.rows if row["row"] == i)
            tables.append(Table(("", ""), rows, f"r = {fixed_r(float(r), 3)}", words=(1,)))
        many = "A correlation" if len(tables) == 1 else f"{len(tables)} correlations"
        return self._document(f"{many} in other words", *tables)


def meaning(effect: Any, *, ci_lb: Any = None, ci_ub: Any = None, base_rate: float = 0.5) -> Meaning:
    """Say a correlation of alliance and outcome in other words, each with its assumption.

    The same r can be a shared variance of 8%, a difference of .58 standard deviations, or odds of nearly three to
    one. Each needs something assumed that r itself does not, and each says it beside the number.

    Parameters
    ----------
    effect : float, array-like, or fitted model
        r between -1 and 1, one or several, positive when a better alliance goes with a better outcome; or a fit
        without moderators, whose mean effect as r is taken with its interval.
    ci_lb, ci_ub : float or array-like, optional
        Limits of an interval for r; they are converted as r is.
    base_rate : float
        Share of successes in the group with the lower alliance, for the number needed at a base rate.

    Returns
    -------
    Meaning
        ``tidy()`` has all of it; ``result["d"]`` one measure. A number needed does not exist for r = 0, and has no
        interval where that of r includes 0: it is `NotApplicable`. A negative number needed means that the group
        with the lower alliance does better.

    Raises
    ------
    InputError
        An r outside (-1, 1), limits in the wrong order, or a model with moderators.

    Notes
    -----
    The formula and its source stand in the columns ``formula`` and ``source``. All are monotone in r, or in its
    size, so the limits of the interval are those of r converted.

    Examples
    --------
    >>> import alliance_meta as am
    >>> found = am.evidence.meaning(0.278, ci_lb=0.256, ci_ub=0.299)
    >>> print(found)
    A correlation in other words
    <BLANKLINE>
    r = 0.278
    shared variance                    7.7% [6.6%, 8.9%]
    standardised difference d          0.58 [0.53, 0.63]
    odds ratio                         2.86 [2.61, 3.12]
    binomial effect size display       63.9% [62.8%, 65.0%]
    rate above the median              59.0% [58.2%, 59.7%]
    common language, pairs of clients  59.0% [58.2%, 59.7%]
    common language, two groups        65.9% [64.6%, 67.1%]
    U3                                 71.9% [70.2%, 73.5%]
    overlap of the two groups          77.2% [75.4%, 79.1%]
    number needed                      3.1 [2.9, 3.4]
    number needed at a base rate       4.6 [4.3, 5.0]
    <BLANKLINE>
    Note: Every one of these restates an association. None says that a better
      alliance makes for a better outcome: improvement that came first can raise
      both.
    Note: These are the same correlation under different assumptions; that one
      sounds larger than another makes it no stronger. The binomial effect size
      display in particular shows rates of a made-up table, further apart than those
      of clients split at the median.
    """
    r, low, high = _read(effect, ci_lb, ci_ub)
    if not 0 < base_rate < 1:
        raise InputError(f"base_rate is {base_rate}; it is a share between 0 and 1, such as .5")
    rows = tuple(_rows(r.reshape(-1), low.reshape(-1), high.reshape(-1), base_rate))
    notes = (Note("not-causal", NOT_CAUSAL), Note("same-number", SAME_NUMBER))
    for values in (r, low, high):
        values.flags.writeable = False
    return Meaning(r, low, high, base_rate, rows, notes)


def _read(effect: Any, ci_lb: Any, ci_ub: Any) -> tuple[Array, Array, Array]:
    if hasattr(effect, "predict"):
        if ci_lb is not None or ci_ub is not None:
            raise InputError("a fitted model has its own interval; leave out ci_lb and ci_ub")
        effect, ci_lb, ci_ub = _of_fit(effect)
    if (ci_lb is None) != (ci_ub is None):
        raise InputError("give both limits of the interval, ci_lb and ci_ub, or neither")
    r = _numbers(effect, "r")
    if ci_lb is None:
        return r, np.full(r.shape, np.nan), np.full(r.shape, np.nan)
    low, high = (
        np.broadcast_to(_numbers(one, name), r.shape).copy() for one, name in ((ci_lb, "ci_lb"), (ci_ub, "ci_ub"))
    )
    if np.any(low > high):
        raise InputError("ci_lb lies above ci_ub; give the lower limit as ci_lb")
    return r, low, high


def _of_fit(fit: Any) -> tuple[float, float, float]:
    if getattr(fit, "p", 1) != 1:
        raise InputError(
            "a model with moderators has no single mean effect; give the r of one setting, ci_lb and ci_ub"
        )
    row = fit.predict(scale="r").iloc[0]
    return float(row["pred"]), float(row["ci_lb"]), float(row["ci_ub"])


def _numbers(values: Any, name: str) -> Array:
    try:
        found = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {values!r}; give numbers between -1 and 1") from None
    outside = found[~np.isnan(found) & (np.abs(found) >= 1)]
    if outside.size:
        raise InputError(f"{name} holds {brief(outside.reshape(-1)[0])}; a correlation lies between -1 and 1")
    return found


def _rows(r: Array, low: Array, high: Array, rate: float) -> Iterator[dict[str, Any]]:
    """Yield every measure of the first correlation, then of the next."""
    found = {name: (_values(one, r, rate), _limits(one, low, high, rate)) for name, one in CONVERTERS.items()}
    for place in range(len(r)):
        for name, (values, limits) in found.items():
            one, value = CONVERTERS[name], values[place]
            said = {"value": shown(value, one.unit), "rest": shown(1 - value, one.unit), "rate": shown(rate, "share")}
            yield {
                "row": place,
                "measure": name,
                "value": value,
                "ci_lb": limits[place][0],
                "ci_ub": limits[place][1],
                "words": value.reason if isinstance(value, NotApplicable) else one.words.format(**said),
                **{part: getattr(one, part) for part in ("label", "unit", "assumption", "formula", "source")},
            }


def _values(one: Converter, r: Array, rate: float) -> list[float]:
    return [_existing(float(value)) for value in one.convert(r, rate)]


def _existing(value: float) -> float:
    if math.isnan(value):
        return NotApplicable("r is missing")
    return NotApplicable("r = 0: no number of clients makes a difference") if math.isinf(value) else value


def _limits(one: Converter, low: Array, high: Array, rate: float) -> list[tuple[float, float]]:
    ends = np.array([one.convert(low, rate), one.convert(high, rate)])
    across = (low <= 0) & (high >= 0)
    if one.course == "even":
        at_zero = one.convert(np.zeros(low.shape), rate)
        ends = np.array([*ends, np.where(across, at_zero, ends[0])])
    lower, upper = ends.min(axis=0), ends.max(axis=0)
    infinite = across if one.course == "down" else np.zeros(low.shape, dtype=bool)
    return [_pair(a, b, bool(zero)) for a, b, zero in zip(lower, upper, infinite, strict=True)]


def _pair(lower: float, upper: float, through_infinity: bool) -> tuple[float, float]:
    if math.isnan(lower) or math.isnan(upper):
        gone = NotApplicable("no interval for r was given")
        return gone, gone
    if through_infinity:
        gone = NotApplicable("the interval of r includes 0, where the number needed is infinite")
        return gone, gone
    return float(lower), float(upper)


def shown(value: float, unit: Unit) -> str:
    """Write a value as its unit asks.

    >>> shown(0.0773, "share"), shown(2.857, "ratio"), shown(3.149, "number")
    ('7.7%', '2.86', '3.1')
    """
    if isinstance(value, NotApplicable) or math.isnan(value):
        return f"{value}" if isinstance(value, NotApplicable) else "n/a"
    if unit == "share":
        return f"{fixed(100 * value, 1)}%"
    return fixed(value, 1 if unit == "number" else 2)


def _cell(row: Mapping[str, Any]) -> str:
    value = row["value"]
    if isinstance(value, NotApplicable):
        return f"n/a ({value.reason})"
    text = shown(value, row["unit"])
    if isinstance(row["ci_lb"], NotApplicable):
        return text
    return f"{text} [{shown(row['ci_lb'], row['unit'])}, {shown(row['ci_ub'], row['unit'])}]"
