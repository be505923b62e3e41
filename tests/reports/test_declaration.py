from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.reporting.build import build_report
from alliance_meta.reporting.declaration import declare, read_declaration

GOOD: dict[str, Any] = {
    "title": "T",
    "analysis": [{"id": "a", "label": "A", "data": "molloy2014"}],
    "section": [{"heading": "H", "text": "{a.r}", "item": [{"forest": "a"}]}],
}


def problems_of(data: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        declare(data, path=Path("x.toml"))
    return str(caught.value)


def test_defaults_are_those_of_the_model() -> None:
    analysis = declare(GOOD, path=Path("x.toml")).analysis[0]
    assert (analysis.measure, analysis.method, analysis.test, analysis.level) == ("ZCOR", "REML", "knha", 0.95)


def test_every_problem_is_named_at_once() -> None:
    text = problems_of(
        {
            "titel": "T",
            "analysis": [
                {"id": "a", "label": "A", "data": "moloy2014", "method": "RELM", "level": 95},
                {"id": "a", "label": "B", "data": "molloy2014", "metod": "DL"},
                {"id": "ref", "label": 3, "data": "molloy2014"},
                {"id": "B b", "label": "B", "data": "molloy2014"},
                {"label": "no id", "data": "molloy2014"},
            ],
            "section": [
                {"text": "no heading"},
                {
                    "heading": "H",
                    "item": [
                        {"forest": "b"},
                        {"table": "statistic", "of": "a"},
                        {"table": "studies"},
                        {"table": "left_out", "of": ["a", "a"]},
                        {"text": "x", "forest": "a"},
                        {"caption": "nothing"},
                        {"forest": "umbrella"},
                    ],
                },
            ],
        }
    )
    for expected in (
        "unknown key 'titel'; did you mean 'title'?",
        "title is missing",
        "did you mean 'molloy2014'?",
        "method='RELM' is not one of",
        "for 95% write 0.95",
        "unknown key 'metod'; did you mean 'method'?",
        "label must be text in quotes, not 3",
        "id must be lower-case letters",
        "id is missing",
        "heading is missing",
        "forest='b' is no analysis",
        "did you mean 'statistics'?",
        "table='studies' needs of",
        "table='left_out' shows one, not 2",
        "has text and forest",
        "has none of them",
        "[umbrella] is not declared",
    ):
        assert expected in text
    assert text.startswith("x.toml: 17 problems")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"analysis": []}, "nothing to report"),
        ({"analysis": {"id": "a"}}, "write it with double brackets"),
        ({"lang": "xx"}, "lang='xx': the report has no words of it (known: en, de)"),
        ({"lang": "d/../e"}, "known: en, de"),
        ({"certainty": {"b": {"judgement": "low"}}}, "[certainty.b]: ID='b' is no analysis"),
        ({"certainty": {"a": {"judgement": "lo"}}}, "[certainty.a]: judgement='lo'"),
        ({"certainty": {"a": {"risk_of_bias": "serious"}}}, "[certainty.a]: judgement is missing"),
        ({"analysis": [{"id": "a", "label": "A", "data": "molloy2014", "study": "x"}]}, "study: this is of a file"),
        ({"certainty": "low"}, "[certainty]: write [certainty.ID]"),
        ({"section": ["words"]}, "must be a table"),
        ({"umbrella": {"psychotherapy_only": "yes"}}, "must be true or false"),
        ({"analysis": [{"id": "a", "label": "A", "data": "molloy2014", "level": "x"}]}, "level must be a number"),
        ({"analysis": [{"id": "printed", "label": "A", "data": "molloy2014"}]}, "taken by the report itself"),
        ({"section": [{"heading": "H", "item": [{"table": "studies", "of": 3}]}]}, "must be a list of texts"),
    ],
)
def test_one_problem(change: dict[str, Any], expected: str) -> None:
    assert expected in problems_of(GOOD | change)


def test_a_file_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="cannot read"):
        read_declaration(tmp_path / "none.toml")


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("title = ", encoding="utf-8")
    with pytest.raises(InputError, match="is not TOML"):
        read_declaration(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("analysis", "text", "expected"),
    [
        ("", "{a.rr}", "a has no 'rr'; did you mean 'r'"),
        ("", "{b.r}", "no 'b'"),
        ("", "{a.r:r9}", "no format 'r9'"),
        ("", "{ref.nothing}", "ref has no 'nothing'"),
        ('ri = "rr"', "", "no column 'rr'"),
        ("subset = \"rater == 'nobody'\"", "", "leaves no row"),
        ('mods = "raters"', "", "raters"),
    ],
)
def test_what_only_a_run_can_find(sheet: Path, analysis: str, text: str, expected: str) -> None:
    declaration = f'title = "T"\n[[analysis]]\nid = "a"\nlabel = "A"\ndata = "own.csv"\n{analysis}\n'
    declaration += f'[[section]]\nheading = "H"\ntext = "{text}"\n'
    (sheet / "x.toml").write_text(declaration, encoding="utf-8")
    with pytest.raises(InputError, match="problem") as caught:
        build_report(sheet / "x.toml")
    assert expected in str(caught.value)
    assert not (sheet / "build").exists()


def test_what_must_not_be_pooled_is_not(tmp_path: Path) -> None:
    declaration = """
        title = "T"
        [[analysis]]
        id = "a"
        label = "A"
        data = "alliance_not_poolable"
        [[analysis]]
        id = "b"
        label = "B"
        data = "alliance_abstracts"
    """
    (tmp_path / "x.toml").write_text(declaration, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        build_report(tmp_path / "x.toml")
    assert "alliance_not_poolable must not be pooled" in str(caught.value)
    assert "add subset = 'use_as_independent_r == True'" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # A misspelt choice hides nothing else that is wrong with its block.
        (
            {"section": [{"heading": "H", "item": [{"figure": "funel", "text": "x"}]}]},
            ("'funel'", "has text and figure"),
        ),
        ({"analysis": [{"id": "a", "label": "A", "data": "x", "kind": ["rve"], "level": 3}]}, ("kind=['rve']",)),
        (
            {"analysis": [{"id": "a", "label": "A", "data": "x", "robust": "CR9", "rho": 2}]},
            ("'CR9'", "rho=2 is", "data="),
        ),
        # Nor is what shows a block that could not be read called a mistake.
        ({"analysis": [{"id": "a", "label": "A", "data": "molloy2014", "metod": "DL"}]}, ("did you mean 'method'",)),
        ({"title": 3}, ("top level: title must be text in quotes, not 3",)),
    ],
)
def test_each_mistake_is_told_and_nothing_that_follows(change: dict[str, Any], expected: tuple[str, ...]) -> None:
    text = problems_of(GOOD | change)
    for words in expected:
        assert words in text, text
    assert "is no analysis" not in text
