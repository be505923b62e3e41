"""Rules for printed numbers: what follows, which reading fits, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import alliance_meta as am
from alliance_meta.core.correlations.rounding import Range, hull, rounded, span
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.evidence.printed import QUANTITIES, quantity_name, read_number
from tests.tolerances import CLOSED_FORM


def check(rule: str, **printed):
    return next(one for one in am.consistency(printed).checks if one.rule == rule)


# --- ranges


def test_a_printed_quarter_is_anything_that_rounds_to_it() -> None:
    assert (rounded(0.25, 2).low, rounded(0.25, 2).high) == pytest.approx((0.245, 0.255), rel=CLOSED_FORM)
    assert rounded(12, 0) == Range(11.5, 12.5)


def test_ranges_that_touch_meet_and_others_do_not() -> None:
    assert rounded(0.25, 2).meets(rounded(0.26, 2))
    assert not rounded(0.25, 2).meets(rounded(0.27, 2))
    assert Range(-np.inf, 0.0).meets(Range(0.0, np.inf))


@given(
    st.floats(0.01, 0.8),
    st.floats(0.001, 0.05),
    st.floats(0.02, 0.2),
    st.floats(0.0005, 0.01),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=30, deadline=None)
def test_the_range_of_a_monotone_formula_holds_every_value_within(r, wide, s, narrow, share1, share2) -> None:
    def limit(e, se):
        return np.tanh(np.arctanh(e) - 1.96 * se)

    box = Range(r, r + wide), Range(s, s + narrow)
    found = span(limit, *box)
    inner = limit(r + share1 * wide, s + share2 * narrow)
    assert found.low - 1e-12 <= inner <= found.high + 1e-12


def test_absolute_negative_within_and_hull() -> None:
    assert Range(-1, 3).absolute() == Range(0, 3)
    assert Range(-3, -1).absolute() == Range(1, 3)
    assert Range(1, 3).negative() == Range(-3, -1)
    assert Range(-2, 2).within(0, 1) == Range(0, 1)
    assert Range(2, 3).within(0, 1) is None
    assert hull(Range(0, 1), Range(3, 4)) == Range(0, 4)
    with pytest.raises(ValueError, match="from its lower to its upper end"):
        Range(1, 0)


# --- numbers


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (".278", 0.2775, 0.2785),
        ("0.30", 0.295, 0.305),
        ("−.46", -0.465, -0.455),
        ("< .001", 0.0, 0.001),
        ("> .05", 0.05, np.inf),
        ("79.3%", 79.25, 79.35),
        ("almost 8%", 7.5, 8.0),
        ("ungefähr 6%", 5.5, 6.5),
        ("3,628", 3627.5, 3628.5),
        (".047*", 0.0465, 0.0475),
        ("1.2e-4", 0.000115, 0.000125),
    ],
)
def test_numbers_as_papers_print_them(text, low, high) -> None:
    found = read_number(text, floor=0.0).range
    assert (found.low, found.high) == pytest.approx((low, high), rel=CLOSED_FORM)


def test_what_is_no_number_is_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match="'2,5,1' is not a printed number; write it as in the paper"):
        read_number("2,5,1")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("0,25", 0.245, 0.255), ("-,31", -0.315, -0.305), ("91,8 %", 91.75, 91.85), ("< 0,05", 0.0, 0.05),
     ("0,048", 0.0475, 0.0485), ("1,234", 1233.5, 1234.5), ("12,3456", 12.34555, 12.34565)],
)  # fmt: skip
def test_decimal_commas_are_read_where_they_can_be_nothing_else(text, low, high) -> None:
    found = read_number(text, floor=0.0).range
    assert (found.low, found.high) == pytest.approx((low, high), rel=CLOSED_FORM)


@pytest.mark.parametrize(
    ("column", "name"),
    [("ci_low", "ci_lb"), ("Q", "QE"), ("I²", "I2"), ("p-value", "p"), ("n", "N"), ("t", "t"), ("authors", None)],
)
def test_columns_are_known_by_their_usual_names(column, name) -> None:
    assert quantity_name(column) == name


# --- rules


@given(st.floats(-0.5, 0.8), st.floats(0.02, 0.15), st.integers(2, 3), st.integers(3, 60), st.sampled_from("zrt"))
@settings(max_examples=50, deadline=None)
def test_whatever_is_computed_and_rounded_is_consistent(r, se, decimals, k, way) -> None:
    """The check never accuses a result that was computed by one of its own readings and rounded."""
    quantile = stats.t.ppf(0.975, k - 1) if way == "t" else stats.norm.ppf(0.975)
    if way == "r":
        ends = r + quantile * se * np.array([-1, 1])
        p = 2 * stats.norm.sf(abs(r) / se)
    else:
        ends = np.tanh(np.arctanh(r) + quantile * se * np.array([-1, 1]))
        stat = abs(np.arctanh(r)) / se
        p = 2 * (stats.t.sf(stat, k - 1) if way == "t" else stats.norm.sf(stat))
    if np.abs(ends).max() > 0.97:
        return
    low, high, estimate = (f"{value:.{decimals}f}" for value in (*ends, r))
    printed = {"r": estimate, "ci_lb": low, "ci_ub": high, "se": f"{se:.3f}", "p": f"{p:.3f}", "k": str(k)}
    assert am.consistency(printed).problems == ()
    del printed["se"]
    assert am.consistency(printed).problems == ()


@pytest.mark.parametrize(
    ("stat", "p"),
    [
        ({"t": "2.20", "df": "38"}, 2 * stats.t.sf(2.2, 38)),
        ({"z": "3.06"}, 2 * stats.norm.sf(3.06)),
        ({"F": "3.21", "df": "2", "df2": "45"}, stats.f.sf(3.21, 2, 45)),
        ({"chi2": "6.10", "df": "2"}, stats.chi2.sf(6.10, 2)),
        ({"r": ".30", "df": "48"}, 2 * stats.t.sf(0.3 * np.sqrt(48 / 0.91), 48)),
    ],
)
def test_p_of_each_statistic_is_scipys(stat, p) -> None:
    [found] = am.consistency({**stat, "p": f"{p:.3f}"}).checks
    assert found.verdict == "consistent"
    [follows] = found.readings[0].follows
    assert follows.low <= p <= follows.high
    [wrong] = am.consistency({**stat, "p": ".210"}).checks
    assert wrong.verdict == "inconsistent in the decision"


def test_a_one_sided_p_is_named_and_not_excused() -> None:
    found = check("p from t", t="1.75", df="38", p=".044")
    assert found.verdict == "inconsistent in the decision"
    assert found.reading == "one-sided would fit"


def test_a_disagreement_that_changes_nothing_is_only_inconsistent() -> None:
    assert check("p from t", t="2.20", df="38", p=".04").verdict == "inconsistent"


def test_two_df_in_the_other_order_are_named() -> None:
    p = stats.f.sf(3.21, 45, 2)
    found = check("p from F", F="3.21", df="2", df2="45", p=f"{p:.3f}")
    assert found.reading == "the two df in the other order would fit"


def test_limits_in_the_other_order_are_named() -> None:
    found = check("estimate inside its interval", r=".25", ci_lb=".32", ci_ub=".17")
    assert found.verdict == "inconsistent"
    assert found.reading == "the limits in the other order would fit"


def test_another_level_is_named() -> None:
    limits = 0.30 + stats.norm.ppf([0.05, 0.95]) * 0.05
    found = check("interval from SE", d="0.300", se="0.050", ci_lb=f"{limits[0]:.3f}", ci_ub=f"{limits[1]:.3f}", k="40")
    assert found.verdict == "inconsistent"
    assert found.reading == "a 90% interval would fit"


def test_an_interval_across_zero_that_should_not_be_is_a_changed_decision() -> None:
    found = check("interval from SE", d="0.30", se="0.05", ci_lb="-0.10", ci_ub="0.70", k="40")
    assert found.verdict == "inconsistent in the decision"


def test_knapp_hartung_with_the_printed_k_is_a_usual_reading() -> None:
    half = stats.t.ppf(0.975, 5) * 0.08
    found = check("interval from SE", d="0.50", se="0.080", ci_lb=f"{0.5 - half:.3f}", ci_ub=f"{0.5 + half:.3f}", k="6")
    assert found.verdict == "consistent"
    assert "t(5), df = k - 1" in found.reading


def test_odds_ratios_are_symmetric_on_the_log_scale() -> None:
    found = check("estimate amid its interval", OR="2.71", ci_lb="1.80", ci_ub="4.08")
    assert found.verdict == "consistent"
    assert found.reading == "symmetric, log"
    assert check("estimate amid its interval", d="2.71", ci_lb="1.80", ci_ub="4.08").verdict == "inconsistent"


def test_i2_of_another_estimator_is_a_matter_of_definition() -> None:
    """metafor prints Q = 38.16 with I2 = 61.73 % (REML) for molloy2014; Q alone gives 60.69 %."""
    found = check("I² from Q", Q="38.16", QEdf="15", I2="61.73%")
    assert found.verdict == "depends on the definition"
    assert "another estimator than DerSimonian and Laird's" in found.reading
    assert check("I² from Q", Q="38.16", QEdf="15", I2="60.69%").verdict == "consistent"
    assert check("I² from Q", Q="38.16", QEdf="15", I2=".61").verdict == "consistent"


def test_what_is_not_printed_is_derived() -> None:
    found = check("I² from Q", Q="6.10", QEdf="16")
    assert (found.verdict, found.printed, found.follows) == ("not printed", "", "0.00000")


def test_an_interval_narrower_than_n_allows_is_found() -> None:
    assert check("interval as wide as N demands", r=".25", ci_lb=".23", ci_ub=".27", k="12", N="900").wrong
    assert not check("interval as wide as N demands", r=".25", ci_lb=".17", ci_ub=".33", k="12", N="900").wrong


def test_the_interval_of_one_correlation() -> None:
    limits = np.tanh(np.arctanh(0.34) + stats.norm.ppf([0.025, 0.975]) / np.sqrt(197))
    good = {"ci_lb": f"{limits[0]:.2f}", "ci_ub": f"{limits[1]:.2f}"}
    assert check("interval of one r", r=".34", df="198", **good).verdict == "consistent"
    assert check("interval of one r", r=".34", df="198", ci_lb=".30", ci_ub=".38").wrong


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ({"tau2": "-0.02"}, "τ²"),
        ({"I2": "104%"}, "I²"),
        ({"p": "1.2"}, "p"),
        ({"r": "1.34"}, "estimate"),
        ({"se": "-0.03"}, "SE"),
        ({"Q": "-4.1"}, "Q"),
    ],
)
def test_numbers_that_nothing_can_be(printed, name) -> None:
    found = check("possible value", **printed)
    assert found.verdict == "inconsistent"
    assert found.given == name or name == "estimate"


def test_tau_and_the_number_of_effects() -> None:
    assert check("τ from τ²", tau2="0.0081", tau="0.09").verdict == "consistent"
    assert check("τ from τ²", tau2="0.0081", tau="0.08").verdict == "inconsistent"
    assert check("df of Q from k", Q="40", QEdf="39", k="40").verdict == "consistent"
    assert check("df of Q from k", Q="40", QEdf="57", k="40", n_effects="58").reading == "effects - 1"
    assert check("df of Q from k", Q="40", QEdf="57", k="40").verdict == "depends on the definition"


PIECES = (
    "t(38)|F(0, 0)|r(1)|Q(0)|z|p|r|OR|d|SE|95% CI|k|N|I2|τ2|df|= |< |> |[|]|(|)|, |; |0|1|-1|.0|.05|1.00|-.3|1e9|\n"
)


@given(st.lists(st.sampled_from(PIECES.split("|")), max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_text_breaks_the_scanner(pieces) -> None:
    report = am.evidence.scan_text("".join(pieces))
    assert len(report.tidy()) == len(report.checks)


NUMBERS = st.sampled_from(["0", "1", "-1", ".00", "1.00", "-.99", "< .001", "> .05", "50", "1e6", "-3.2", "100%", ".5"])


@given(st.dictionaries(st.sampled_from(sorted(QUANTITIES)), NUMBERS), st.sampled_from(["", "r", "z", "d", "OR"]))
@settings(max_examples=90, deadline=None)
def test_no_numbers_break_the_rules(numbers, metric) -> None:
    for check in am.consistency(numbers, metric=metric).checks:
        assert check.verdict
        assert "nan" not in check.follows


# --- tables


TABLE = """id,r,ci_low,ci_high,k,Q,Q_df,I2,notes
A,.278,.256,.299,295,,,,fine
B,.26,.17,.32,55,260.84,54,79.3%,
"""


def test_a_table_is_read_as_printed(tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE, encoding="utf-8")
    report = am.consistency(path)
    assert [check.line for check in report.checks][:2] == [2, 2]
    assert {check.label for check in report.checks} == {"A", "B"}
    assert report.counts()["consistent"] >= 4
    frame = report.tidy()
    assert list(frame.columns) == ["label", "line", "rule", "given", "printed", "follows", "verdict", "reading"]
    assert len(frame) == len(report.checks)


def test_all_bad_numbers_of_a_table_are_named_at_once() -> None:
    frame = pd.DataFrame({"r": [".3", "x", ".2"], "ci_lb": [".1", ".1", "y"], "ci_ub": [".5", ".4", ".3"]})
    with pytest.raises(InputError, match=r"row 3: .*'x' is not a printed number.*row 4: .*'y'"):
        am.consistency(frame)


def test_a_table_that_says_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no column of the table can be checked; it has 'authors'"):
        am.consistency(pd.DataFrame({"authors": ["A"]}))
    with pytest.raises(CannotRunError, match="there is no such file"):
        am.consistency("nowhere.csv")


def test_a_misspelt_quantity_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'ci_lbb' is no quantity that can be checked.*ci_lb"):
        am.consistency({"r": ".2", "ci_lbb": ".1"})


def test_floats_are_noted_because_they_lose_zeros() -> None:
    codes = [note.code for note in am.consistency({"r": 0.3, "d": 0.63}).notes]
    assert "floats" in codes
    assert "floats" not in [note.code for note in am.consistency({"r": ".30", "d": ".63"}).notes]


def test_alpha_must_be_a_probability() -> None:
    for call in (lambda: am.consistency({"r": ".2"}, alpha=5), lambda: am.evidence.scan_text("", alpha=0)):
        with pytest.raises(InputError, match="a probability between 0 and 1"):
            call()


def test_reports_as_text_and_dictionary() -> None:
    report = am.consistency({"id": "B", "r": ".26", "d": ".56"})
    assert "B\n  d from r: r = .26" in str(report)
    document = report.to_dict()
    assert document["counts"] == {"inconsistent": 1}
    assert document["checks"][0]["readings"][0]["fits"] is False
    assert str(report.checks[0]).endswith("inconsistent (this d needs an r of 0.267 to 0.272)")
