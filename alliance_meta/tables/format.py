"""Numbers as readers see them, and texts that no spreadsheet takes for a formula."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MINUS = "\N{MINUS SIGN}"
NOT_AVAILABLE = "n/a"

# Digits kept before rounding, so that .285 stored as .28499999999999998 is rounded as .285 is read.
SIGNIFICANT_DIGITS = 12
# Room for the largest float with all its digits.
EXACT = Context(prec=400)
# Decimals that a correlation gets so as not to read 1.
MOST_DIGITS = 4


def format_number(value: float | None, decimals: int = 2, *, leading_zero: bool = True) -> str:
    """Write a number with a fixed count of decimals, halves rounded away from zero.

    Parameters
    ----------
    value : float or None
        The number; None, NaN and `NotApplicable` become "n/a".
    decimals : int
        Digits after the point.
    leading_zero : bool
        False leaves the zero before the point away, as APA asks for statistics that cannot exceed 1. Such a number
        has more decimals, up to four, where it would read 1 or −1 and is not; closer to it stands "> .9999".

    Examples
    --------
    >>> format_number(0.125), format_number(-1.5, 1), format_number(0.25, leading_zero=False)
    ('0.13', '−1.5', '.25')
    """
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if not leading_zero:
        return _bounded(value, decimals)
    rounded = _round_half_up(value, decimals)
    return f"{MINUS if rounded < 0 else ''}{abs(rounded):f}"


def _bounded(value: float, decimals: int) -> str:
    """Write a number that cannot exceed 1, never as 1 unless it is."""
    relation, rounded = _short_of_one(value, decimals)
    text = f"{abs(rounded):f}"
    text = text[1:] if text.startswith("0.") else text
    return f"{relation}{MINUS}{text}" if rounded < 0 else f"{relation}{text}"


def _short_of_one(value: float, decimals: int) -> tuple[str, Decimal]:
    """Return a number rounded so that it reads 1 or -1 only where it is, and what stands before it."""
    for digits in (decimals, *range(decimals + 1, MOST_DIGITS + 1)):
        rounded = _round_half_up(value, digits)
        if abs(rounded) != 1 or abs(value) >= 1:
            return "", rounded
    digits = max(decimals, MOST_DIGITS)
    bound = 1 - Decimal(1).scaleb(-digits)
    return ("> ", bound) if value > 0 else ("< ", -bound)


def format_r(value: float | None, decimals: int = 2) -> str:
    """Write a correlation: no leading zero, and 1 only where it is 1.

    >>> format_r(0.149), format_r(-0.05), format_r(0.0), format_r(1.0)
    ('.15', '−.05', '.00', '1.00')
    >>> format_r(0.999), format_r(-0.9996), format_r(0.999999)
    ('.999', '−.9996', '> .9999')
    """
    return format_number(value, decimals, leading_zero=False)


def format_p(value: float | None, *, name: str | None = None) -> str:
    """Write a p-value to three decimals, "< .001" below that.

    >>> format_p(0.0312), format_p(0.00004), format_p(0.0312, name="p"), format_p(1e-9, name="p")
    ('.031', '< .001', 'p = .031', 'p < .001')
    """
    if value is None or math.isnan(value):
        text = NOT_AVAILABLE
    elif value < 0.001:
        text = "< .001"
    elif value >= 0.9995:
        text = "> .999"
    else:
        text = format_number(value, 3, leading_zero=False)
    if name is None:
        return text
    return f"{name} {text}" if text[0] in "<>" else f"{name} = {text}"


def format_bayes_factor(value: float | None) -> str:
    """Write a Bayes factor with the digits that matter: as a power of ten where it is huge or tiny.

    >>> format_bayes_factor(0.0326), format_bayes_factor(6.97), format_bayes_factor(85.28), format_bayes_factor(31848.4)
    ('0.033', '7.0', '85', '31,848')
    >>> format_bayes_factor(8.11e6), format_bayes_factor(4.2e-9), format_bayes_factor(math.inf)
    ('8.1 × 10^6', '4.2 × 10^−9', '∞')
    """
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    if math.isinf(value):
        return "∞"
    if value and not 0.001 <= value < 1e5:
        power = math.floor(math.log10(value))
        return f"{format_number(value / 10.0**power, 1)} × 10^{format_number(power, 0)}"
    if value < 1:
        return format_number(value, 3)
    return format_number(value, 1) if value < 10 else f"{round(value):,}"


def format_interval(lb: float | None, ub: float | None, decimals: int = 2, *, leading_zero: bool = False) -> str:
    """Write an interval in brackets; "n/a" where it does not exist.

    >>> format_interval(0.118, 0.373), format_interval(-0.04, 0.325)
    ('[.12, .37]', '[−.04, .33]')
    """
    if lb is None or ub is None or math.isnan(lb) or math.isnan(ub):
        return NOT_AVAILABLE
    bounds = (format_number(bound, decimals, leading_zero=leading_zero) for bound in (lb, ub))
    return f"[{', '.join(bounds)}]"


def format_estimate(
    value: float | None,
    lb: float | None,
    ub: float | None,
    decimals: int = 2,
    *,
    leading_zero: bool = False,
) -> str:
    """Write an estimate with its interval; the bracket is left away where there is no interval.

    >>> format_estimate(0.25, 0.118, 0.373)
    '.25 [.12, .37]'
    >>> format_estimate(0.25, None, None)
    '.25'
    """
    estimate = format_number(value, decimals, leading_zero=leading_zero)
    interval = format_interval(lb, ub, decimals, leading_zero=leading_zero)
    return estimate if interval == NOT_AVAILABLE else f"{estimate} {interval}"


def format_weight(value: float | None) -> str:
    """Write a weight given in percent, one decimal and no percent sign.

    >>> format_weight(6.25)
    '6.3'
    """
    return format_number(value, 1)


def format_percent(value: float | None, decimals: int = 1) -> str:
    """Write a number that is already in percent, such as I².

    >>> format_percent(61.73)
    '61.7%'
    """
    text = format_number(value, decimals)
    return text if text == NOT_AVAILABLE else f"{text}%"


def format_level(level: float) -> str:
    """Write a confidence level.

    >>> format_level(0.95), format_level(0.999)
    ('95%', '99.9%')
    """
    return f"{100 * level:.10g}%"


def format_count(value: float | None) -> str:
    """Write a count; thousands are set apart by a comma.

    >>> format_count(16), format_count(14321.0), format_count(40.5)
    ('16', '14,321', '40.5')
    """
    if value is None or not math.isfinite(value):
        return format_number(value)
    if float(value).is_integer():
        return f"{MINUS if value < 0 else ''}{abs(int(value)):,}"
    return format_number(value, 1)


def format_n(value: float | None) -> str:
    """Write a sample size: whole people; a mean or effective size is rounded down.

    >>> format_n(1432.0), format_n(40.9)
    ('1,432', '40')
    """
    return format_count(value if value is None or not math.isfinite(value) else math.floor(value + 1e-9))


def format_df(value: float | None) -> str:
    """Write degrees of freedom: whole where they are whole, else with two decimals.

    >>> format_df(15.0), format_df(14.237)
    ('15', '14.24')
    """
    if value is None or not math.isfinite(value):
        return format_number(value)
    return f"{int(value)}" if float(value).is_integer() else format_number(value)


def fixed(value: float, decimals: int = 4, *, sign: bool = False) -> str:
    """Write a number as plain text; with `sign`, a plus before what is not negative.

    >>> fixed(0.12345), fixed(-1.5, 1), fixed(float("nan")), fixed(0.5, 2, sign=True)
    ('0.1235', '-1.5', 'n/a', '+0.50')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    text = f"{value}" if math.isinf(value) else f"{_round_half_up(value, decimals):f}"
    return f"+{text}" if sign and value >= 0 else text


def fixed_r(value: float, decimals: int = 4) -> str:
    """Write a correlation as plain text; as 1 only where it is 1.

    >>> fixed_r(0.12345), fixed_r(0.9996, 3), fixed_r(-0.999999), fixed_r(1.0, 2)
    ('0.1235', '0.9996', '< -0.9999', '1.00')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    relation, rounded = _short_of_one(value, decimals)
    return f"{relation}{rounded:f}"


def fixed_r_interval(lb: float, ub: float, decimals: int = 3) -> str:
    """Write an interval of correlations as plain text.

    >>> fixed_r_interval(-0.04, 0.99961), fixed_r_interval(-0.04, float("nan"))
    ('[-0.040, 0.9996]', '[-0.040, n/a]')
    """
    return f"[{fixed_r(lb, decimals)}, {fixed_r(ub, decimals)}]"


def fixed_interval(lb: float, ub: float, decimals: int = 4) -> str:
    """Write an interval as plain text.

    >>> fixed_interval(-0.04, 0.325, 3)
    '[-0.040, 0.325]'
    """
    return f"[{fixed(lb, decimals)}, {fixed(ub, decimals)}]"


def bare_p(value: float) -> str:
    """Write a p-value as plain text, for a column headed pval.

    >>> bare_p(0.0123), bare_p(1e-9), bare_p(float("nan"))
    ('0.0123', '<.0001', 'n/a')
    """
    return "<.0001" if value < 0.0001 else fixed(value)


def p_value(value: float) -> str:
    """Write a p-value as plain text, with its relation sign.

    >>> p_value(0.0123), p_value(1e-9), p_value(float("nan"))
    ('= 0.0123', '< .0001', 'n/a')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    return "< .0001" if value < 0.0001 else f"= {fixed(value)}"


def probability(value: float) -> str:
    """Write a probability as plain text, with its relation sign; never claim certainty by rounding.

    >>> probability(0.9412), probability(0.99999), probability(1e-9)
    ('= 0.9412', '> .9999', '< .0001')
    """
    return "> .9999" if value >= 0.99995 else p_value(value)


def plain_df(value: float) -> str:
    """Write degrees of freedom as plain text.

    >>> plain_df(15.0), plain_df(14.237), plain_df(math.inf)
    ('15', '14.24', 'inf')
    """
    return f"{int(value)}" if math.isfinite(value) and float(value).is_integer() else fixed(value, 2)


def brief(value: float, digits: int = 6) -> str:
    """Write a number that was given or is rough, with so many significant digits and no trailing zeros.

    >>> brief(0.0312, 2), brief(1e-13, 1), brief(95.0), brief(float("nan"))
    ('0.031', '1e-13', '95', 'nan')
    """
    return f"{value:.{digits}g}"


def thousands(value: float) -> str:
    """Write a whole number as plain text, thousands set apart by a comma.

    >>> thousands(1234567.6), thousands(999)
    ('1,234,568', '999')
    """
    return f"{_round_half_up(value, 0):,f}"


def factor(log: float, *, largest: float = 1e5) -> str:
    """Write a Bayes factor, given as its logarithm, as plain text: as a power of ten from `largest` on.

    >>> factor(math.log(6.97)), factor(math.log(2.5e7)), factor(-2000.0)
    ('6.97', '2.50e+07', '2.58e-869')
    """
    if math.isnan(log):
        return NOT_AVAILABLE
    if abs(log) < math.log(largest - 0.5):
        return brief(math.exp(log), 4)
    exponent = math.floor(log / math.log(10.0))
    return f"{fixed(math.exp(log - exponent * math.log(10.0)), 2)}e{exponent:+03d}"


def error_decimals(se: float, least: int) -> int:
    """Return the decimals with which a standard error has two digits that count, between `least` and eight.

    >>> error_decimals(0.047, 3), error_decimals(0.0047, 3), error_decimals(12.0, 3), error_decimals(0.0, 3)
    (3, 4, 3, 3)
    """
    if not (math.isfinite(se) and se > 0.0):
        return least
    return min(max(least, 1 - math.floor(math.log10(se))), 8)


def plural(n: float, one: str, more: str = "") -> str:
    """Write a count with its noun.

    >>> plural(1, "effect"), plural(2000, "effect"), plural(2, "study", "studies")
    ('1 effect', '2,000 effects', '2 studies')
    """
    return f"{format_count(n)} {one if n == 1 else more or one + 's'}"


def _round_half_up(value: float, decimals: int) -> Decimal:
    """Round the decimal a reader sees, not the binary one; never return a negative zero."""
    seen = Decimal(f"{float(value):.{SIGNIFICANT_DIGITS}g}")
    rounded = seen.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=EXACT)
    return rounded if rounded else abs(rounded)


# What begins a formula; the last four are = + - @ of East Asian keyboards.
FORMULA = tuple(
    "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)


def inert(value: Any) -> Any:
    """Return a cell as a spreadsheet takes it for what it is, on one line: numbers unchanged, formulas as text.

    >>> inert("=HYPERLINK(1)"), inert("-0.5"), inert("-.5 [-.6, -.4]"), inert(-0.5), inert("Ada 2001")
    ("'=HYPERLINK(1)", '-0.5', "'-.5 [-.6, -.4]", -0.5, 'Ada 2001')
    """
    if not isinstance(value, str):
        return value
    text = " ".join(value.splitlines())
    if not text.lstrip().startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def frame_csv(frame: pd.DataFrame) -> str:
    """Return a table with its index as CSV whose every cell is inert."""
    text: str = frame.map(inert).rename(index=inert, columns=inert).to_csv(lineterminator="\n")
    return text
