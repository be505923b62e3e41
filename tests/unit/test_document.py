"""A document is the same in every way of writing it, and fits its page."""

from __future__ import annotations

import pandas as pd
import pytest

from alliance_meta.tables.document import (
    Document,
    Table,
    as_html,
    as_latex,
    as_markdown,
    as_text,
    cut,
    html_table,
    table_of,
    text_lines,
)

TABLE = Table(("", "k", "what"), (("A & B", "12", "low"), ("C | D", "-3", "x < y")), "Two_rows", (2,))


def test_columns_are_as_wide_as_what_stands_in_them():
    assert text_lines(TABLE) == [
        "Two_rows",
        "        k  what",
        "A & B  12  low",
        "C | D  -3  x < y",
    ]


def test_only_names_are_cut_and_the_longest_first():
    long = Table(("", "estimate", "of"), (("a" * 100, "0.1234", "b" * 40), ("c", "-0.5000", "d")), words=(2,))
    lines = text_lines(long)
    assert max(map(len, lines)) == 80
    assert lines[1].split() == ["a" * 34 + "…", "0.1234", "b" * 34 + "…"]
    assert lines[2].split() == ["c", "-0.5000", "d"]


def test_lines_wrap_with_their_percent_signs():
    text = as_text(Document("word " * 15 + "ab 95% of all", ["half-normal " * 12]))
    assert max(map(len, text.splitlines())) <= 80
    assert "\n  95% of all\n" in text
    assert "-\n" not in text


def test_parts_stand_apart_and_empty_ones_leave_no_gap():
    document = Document("Title", ["line"], [[], TABLE, Table(("a", "b"), ()), ["said"]], ["Note: n"], ["FAILED"])
    text = as_text(document)
    assert text.startswith("FAILED\n\nTitle\nline\n\nTwo_rows\n")
    assert text.endswith("\n\nsaid\n\nNote: n")
    assert "\n\n\n" not in text
    html = as_html(document)
    assert html.startswith("<div><p><strong>FAILED</strong></p><p><strong>Title</strong><br>line</p><table>")
    assert html.endswith("<p>said</p><ul><li>Note: n</li></ul></div>")


def test_a_table_is_accessible_html():
    html = html_table(TABLE)
    assert "<caption>Two_rows</caption>" in html
    assert '<tr><td></td><th scope="col" class="right">k</th><th scope="col" class="left">what</th></tr>' in html
    assert '<th scope="row">A &amp; B</th><td class="right">12</td>' in html
    assert "x &lt; y" in html


def test_nothing_in_a_document_is_markup():
    html = as_html(Document("<b>", ["<i>"], [["<u>"]], ["<s>"], ["<q>"]))
    assert not any(f"<{tag}>" in html for tag in "biusq")


def test_a_row_of_one_cell_heads_those_below():
    table = Table(("", "k"), (("in schools",), ("A", "1"), ("B",)))
    assert text_lines(table)[1:] == ["in schools", "A  1", "B"]
    assert '<tr><th scope="rowgroup" colspan="2">in schools</th></tr>' in html_table(table)


@pytest.mark.parametrize("most", [1, 2])
def test_a_long_table_says_how_much_is_left_out(most):
    rows = cut(TABLE, most, "... and {left} more").rows
    assert rows == TABLE.rows if most == 2 else (TABLE.rows[0], ("... and 1 more",))


def test_markdown_and_latex_escape_what_is_theirs():
    assert as_markdown(TABLE).splitlines()[1:] == [
        "| --- | ---: | --- |",
        "| A & B | 12 | low |",
        r"| C \| D | -3 | x < y |",
    ]
    latex = as_latex(TABLE)
    assert r"\caption{Two\_rows}" in latex
    assert r"\begin{tabular}{lrl}" in latex
    assert r"A \& B & 12 & low \\" in latex
    assert "C | D & $-3$ & x < y" in latex


def test_a_frame_becomes_a_table_by_the_kind_of_each_column():
    frame = pd.DataFrame({"b": [0.12345, float("nan")], "pval": [1e-9, 0.5], "df": [14.237, 3.0], "who": ["x", "y"]})
    made = table_of(frame, {"b": 2, "pval": "p", "df": "df", "who": "s"}, "c", heads={"df": "ddf"}, label="row")
    assert made == Table(
        ("row", "b", "pval", "ddf", "who"),
        (("0", "0.12", "<.0001", "14.24", "x"), ("1", "n/a", "0.5000", "3", "y")),
        "c",
        (4,),
    )
