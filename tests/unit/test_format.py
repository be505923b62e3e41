"""The one place that turns numbers into text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alliance_meta.notes import NotApplicable
from alliance_meta.tables import format as fmt

MISSING = [None, math.nan, NotApplicable("needs at least 2 studies")]


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.149, 2, ".15"),
        (0.285, 2, ".29"),
        (-0.285, 2, "−.29"),
        (0.145, 2, ".15"),
        (0.125, 2, ".13"),
        (-0.004, 2, ".00"),
        (0.9951, 2, ".995"),
        (-0.9951, 2, "−.995"),
        (0.99951, 3, ".9995"),
        (0.99996, 2, "> .9999"),
        (-0.99996, 2, "< −.9999"),
        (1 - 1e-15, 2, "> .9999"),
        (1.0, 2, "1.00"),
        (-1.0, 3, "−1.000"),
        (0.1499, 4, ".1499"),
        (0.2, 0, "0"),
    ],
)
def test_format_r(value: float, decimals: int, text: str) -> None:
    assert fmt.format_r(value, decimals) == text


@given(st.floats(-1, 1, exclude_min=True, exclude_max=True), st.integers(1, 5))
def test_a_correlation_inside_one_never_reads_one(r: float, decimals: int) -> None:
    written = fmt.format_r(r, decimals), fmt.fixed_r(r, decimals), fmt.format_interval(r, r, decimals)
    assert not any(text.strip("[−-").startswith("1") or ", 1." in text for text in written)


def test_a_back_transformed_correlation_is_rounded_as_it_is_read() -> None:
    for hundredths in range(-95, 96, 10):
        r = hundredths / 100 + 0.005
        assert fmt.format_r(math.tanh(math.atanh(r))) == fmt.format_r(r)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0312, ".031"),
        (0.001, ".001"),
        (0.00099, "< .001"),
        (0.0, "< .001"),
        (0.9995, "> .999"),
        (0.9994, ".999"),
        (0.9999, "> .999"),
        (1.0, "> .999"),
        (0.05, ".050"),
    ],
)
def test_format_p(p: float, text: str) -> None:
    assert fmt.format_p(p) == text


def test_named_p_has_one_relation_sign() -> None:
    assert fmt.format_p(0.02, name="p") == "p = .020"
    assert fmt.format_p(0.0002, name="p") == "p < .001"
    assert fmt.format_p(1.0, name="p") == "p > .999"
    assert fmt.format_p(math.nan, name="p") == "p = n/a"


@pytest.mark.parametrize("missing", MISSING)
def test_what_does_not_exist_is_not_available(missing: float | None) -> None:
    assert fmt.format_number(missing) == "n/a"
    assert fmt.format_r(missing) == "n/a"
    assert fmt.format_p(missing) == "n/a"
    assert fmt.format_interval(missing, 0.3) == "n/a"
    assert fmt.format_interval(0.3, missing) == "n/a"
    assert fmt.format_percent(missing) == "n/a"
    assert fmt.format_weight(missing) == "n/a"
    assert fmt.format_count(missing) == "n/a"
    assert fmt.format_df(missing) == "n/a"
    assert fmt.format_estimate(0.2, missing, missing) == ".20"


def test_intervals_stand_in_brackets() -> None:
    assert fmt.format_interval(0.118, 0.3731) == "[.12, .37]"
    assert fmt.format_interval(-1.5, 2.25, leading_zero=True) == "[−1.50, 2.25]"
    assert fmt.format_interval(-math.inf, math.inf) == "[−∞, ∞]"


def test_counts_levels_percents() -> None:
    assert fmt.format_count(2911) == "2,911"
    assert fmt.format_level(0.9) == "90%"
    assert fmt.format_level(0.999) == "99.9%"
    assert fmt.format_percent(61.7346) == "61.7%"
    assert fmt.format_weight(0.04) == "0.0"
    assert fmt.format_df(27) == "27"


@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_the_text_reads_back_within_half_a_unit(value: float, decimals: int) -> None:
    text = fmt.format_number(value, decimals, leading_zero=False)
    if text[0] in "<>":  # as near to 1 as no decimals say
        assert 0.9999 < abs(value) < 1
        return
    read = float(text.replace(fmt.MINUS, "-"))
    half_a_unit = 0.5 * 10.0**-decimals
    assert abs(read - value) <= half_a_unit + abs(value) * 10.0 ** (1 - fmt.SIGNIFICANT_DIGITS)
    assert "-" not in text
