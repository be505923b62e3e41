"""Names, text, formulas and conditions as R reads them."""

from __future__ import annotations

import pytest

from alliance_meta.errors import InputError
from alliance_meta.results.r_code import comment, condition, formula, name, quoted, value, vector
from tests.reference.running import grammar_faults

HOSTILE = ["if", "_a", "a b", "x`y", 'say "hi"', "back\\slash", "two\nlines", "TRUE", "1st", ".2", "", "naïve", "..1"]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_and_strings_stay_one_word_whatever_stands_in_them(text):
    if text:
        assert grammar_faults(f"dat${name(text)} <- 1") == []
    assert grammar_faults(f"x <- {quoted(text)}") == []
    assert "\n" not in quoted(text) + name(text)


def test_plain_names_have_no_back_ticks():
    assert [name(text) for text in ("r", "study_id", ".x", "a.b2")] == ["r", "study_id", ".x", "a.b2"]
    assert [name(text) for text in ("if", "_a", "a b", "TRUE", ".2")] == ["`if`", "`_a`", "`a b`", "`TRUE`", "`.2`"]


def test_a_comment_is_one_line():
    assert comment("a\nsystem('x')\r\u2028y\x00") == "# a system('x') y"


def test_values_are_the_same_number_in_r():
    assert vector([0.1, 1.0, 1e-300, float("inf"), None, float("nan"), True, "a"]) == (
        'c(0.1, 1, 1e-300, Inf, NA, NA, TRUE, "a")'
    )
    assert float(value(1 / 3)) == 1 / 3


@pytest.mark.parametrize(
    ("ours", "r"),
    [
        ("rater + setting", "rater + setting"),
        ("0 + C(wave)", "0 + factor(wave)"),
        ("C(rater, Treatment('observer'))", 'relevel(factor(rater), ref="observer")'),
        ("C(rater, Sum)", "C(factor(rater), contr.sum)"),
        ("center(year) * `Outcome rater`", "scale(year, scale=FALSE) * `Outcome rater`"),
        ("I(age ** 2) + log(n)", "I(age^2) + log(n)"),
        ("poly(year, 2, raw=True)", "poly(year, 2, raw=TRUE)"),
        ("bs(year, df=4, include_intercept=False)", "splines::bs(year, df=4, intercept=FALSE)"),
        ("(a + b) ** 2 - a", "(a + b) ^ 2 - a"),
        ("_a + `x(y`", "`_a` + `x(y`"),
    ],
)
def test_formulas_are_translated_factor_by_factor(ours, r):
    assert formula(ours) == r
    assert grammar_faults(f"y ~ {r}") == []


@pytest.mark.parametrize(
    ("ours", "r"),
    [
        ("study != 'Jones 1982'", '!(study %in% "Jones 1982")'),
        ("rater in ['client', 'x`y'] and n >= 20", 'rater %in% c("client", "x`y") & n >= 20'),
        ("a == 1 and (b < 2 or c > 3)", "a %in% 1 & (b < 2 | c > 3)"),
        ("not rater == 'x'", '!((rater %in% "x") %in% TRUE)'),
        ("rater.notna() and `my col`.isna()", "!is.na(rater) & is.na(`my col`)"),
        ("20 <= n < 50", "20 <= n & n < 50"),
        ("use == True", 'toupper(use) %in% "TRUE"'),
        ("rater not in ('a', 'b')", '!(rater %in% c("a", "b"))'),
    ],
)
def test_subsets_are_translated(ours, r):
    assert condition(ours) == r
    assert grammar_faults(f"subset(dat, {r})") == []


@pytest.mark.parametrize("text", ["a.b.c", "a[0]", "lambda: 1", "(", "f'{x}'", "x := 1"])
def test_what_has_no_spelling_is_refused(text):
    with pytest.raises(InputError, match="cannot be written in R"):
        condition(text)


@pytest.mark.parametrize("code", ["f(x", "x <- 'a", "a b", "x <- c(1 2)", "y <- _a", "V <- …", "f(x))"])
def test_the_grammar_test_sees_faults(code):
    assert grammar_faults(code)
