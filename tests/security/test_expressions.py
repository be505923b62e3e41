"""Nothing that is written in place of a formula or a subset is ever run, whatever the door it comes through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.cli import main
from alliance_meta.conditions import select_rows
from alliance_meta.design import build_design
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.errors import AllianceMetaError, DesignError, InputError
from alliance_meta.formulas import parse_formula
from tests.security.payloads import BOMBS, CODE, FORMULAS, SUBSET_BOMBS, SUBSETS, TOUCH, generated, nothing_runs

K = 12
FRAME = pd.DataFrame(
    {
        "study": [f"study {i}" for i in range(K)],
        "r": np.linspace(0.1, 0.4, K),
        "n": [40 + 3 * i for i in range(K)],
        "year": [2000 + i % 7 for i in range(K)],
        "quality": [1.0, 2.0, 4.0] * 4,
        "rater": ["client", "therapist"] * 6,
        "published": [True, True, False] * 4,
        "a b": range(K),
    }
)


@pytest.fixture
def effects() -> am.EffectSizes:
    return am.escalc(FRAME)


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Return what puts the path of a canary into a payload; the test fails if a file appears there or here."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "canary"
    before = set(tmp_path.iterdir())
    yield lambda payload: payload.replace("CANARY", str(path))
    assert not path.exists()
    assert not {one.name for one in set(tmp_path.iterdir()) - before} & {"CANARY", "C", "canary.npy"}


def sheet(folder: Path, published: list[Any] | None = None) -> Path:
    path = folder / "sheet.csv"
    FRAME.to_csv(path, index=False)
    if published is not None:
        package = {"resources": [{"path": "sheet.csv", "schema": {}}], "alliance_meta": {"published": published}}
        (folder / "datapackage.json").write_text(json.dumps(package))
    return path


def declaration(folder: Path, **keys: Any) -> Path:
    sheet(folder)
    lines = ['title = "t"', "[[analysis]]", 'id = "a"', 'label = "A"', 'data = "sheet.csv"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    (folder / "own.toml").write_text("\n".join(lines) + '\n[[section]]\nheading = "h"\n')
    return folder / "own.toml"


# --- the canary itself ------------------------------------------------------------------------------------


def test_the_payload_would_leave_a_trace_if_it_were_run(tmp_path: Path) -> None:
    eval(TOUCH.replace("CANARY", str(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()
    with pytest.raises(AssertionError), nothing_runs():
        eval("1 + 1")
    with pytest.raises(AssertionError), nothing_runs():
        (tmp_path / "canary").write_text("")


# --- Python -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [*FORMULAS, *BOMBS], ids=lambda text: text[:40])
def test_no_formula_is_run(canary, payload: str) -> None:
    with pytest.raises(InputError):
        build_design(canary(payload), FRAME, labels=FRAME["study"])
    with pytest.raises(InputError):
        build_design(f"year + {canary(payload)}", FRAME, labels=FRAME["study"])


@pytest.mark.parametrize("payload", [*SUBSETS, *SUBSET_BOMBS], ids=lambda text: text[:40])
def test_no_subset_is_run(canary, payload: str) -> None:
    table = CodedTable(FRAME, Provenance(source="sheet.csv", sha256=""))
    with pytest.raises(InputError, match=r"cannot be read|characters"):
        table.query(canary(payload))


@pytest.mark.parametrize("kind", ["formula", "subset"])
def test_thousands_of_expressions_outside_the_language_are_refused_unread(canary, kind: str) -> None:
    parse_formula("center(year)", where="mods")
    select_rows("year > 2000", FRAME)
    passed = []
    with nothing_runs():
        for text in generated(kind, 2000, seed=13):
            try:
                if kind == "formula":
                    checked = parse_formula(canary(text), where="mods")
                    if not checked.variables <= set(FRAME):
                        continue
                else:
                    select_rows(canary(text), FRAME)
            except InputError:
                continue
            passed.append(text)
    assert passed == []


DOORS: dict[str, Callable[[am.EffectSizes, str], object]] = {
    "mods": lambda es, text: am.RandomEffectsModel(es, mods=text).fit(),
    "mods of a multilevel model": lambda es, text: am.MultilevelModel(es, mods=text).fit(),
    "mods of an RVE model": lambda es, text: am.RVEModel(es, mods=text).fit(),
    "mods of a Bayesian model": lambda es, text: am.BayesianModel(es, mods=text).fit(),
    "mods of a location-scale model": lambda es, text: am.LocationScaleModel(es, mods=text, scale="1").fit(),
    "scale": lambda es, text: am.LocationScaleModel(es, mods="1", scale=text).fit(),
    "random": lambda es, text: am.MultilevelModel(es, random=text).fit(),
    "random slopes": lambda es, text: am.MultilevelModel(es, random=f"1 + {text} | study_id").fit(),
    "random groups": lambda es, text: am.MultilevelModel(es, random=f"~ 1 | {text}").fit(),
    "candidates": lambda es, text: am.moderators.select_models(es, candidates=[text]),
    "candidates of an average": lambda es, text: am.bayes.average(es, candidates=[text]),
    "by of a plot": lambda es, text: am.plots.forest(am.RandomEffectsModel(es, method="EE").fit(), by=text),
    "a prior": lambda es, text: am.priors.parse(text),
    "a prior's number": lambda es, text: am.priors.parse(f"normal(0, {text})"),
    "a hypothesis": lambda es, text: am.BayesianModel(es).fit().bayes_factor(text),
    "a hypothesis's number": lambda es, text: am.BayesianModel(es).fit().bayes_factor(f"mu > {text}"),
    "a probability": lambda es, text: am.BayesianModel(es).fit().prob(f"{text} > 0"),
}


@pytest.mark.parametrize("door", DOORS)
def test_no_door_of_python_runs_it(effects, canary, door: str) -> None:
    for payload in (TOUCH, *CODE[1:4], f"I({TOUCH})", "{" + TOUCH + "}", f"@{TOUCH}"):
        with pytest.raises(InputError):
            DOORS[door](effects, canary(payload))


# --- command line, declaration, description ---------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "SHEET", "--mods", "PAYLOAD"],
        ["fit", "SHEET", "--subset", "PAYLOAD"],
        ["fit", "SHEET", "--forest", "out.svg", "--by", "PAYLOAD"],
        ["fit", "SHEET", "--ri", "PAYLOAD"],
        ["fit", "SHEET", "--bayes", "--mu-prior", "PAYLOAD"],
        ["fit", "SHEET", "--bayes", "--tau-prior", "half-normal(PAYLOAD)"],
        ["match", "SHEET", "--printed", "r=.2", "--subset", "PAYLOAD"],
        ["match", "SHEET", "--printed", "r=.2", "--cluster", "PAYLOAD"],
    ],
    ids=" ".join,
)
def test_no_option_is_run(tmp_path: Path, canary, capsys, arguments: list[str]) -> None:
    path = str(sheet(tmp_path))
    for payload in (TOUCH, f"I({TOUCH})", "{" + TOUCH + "}", f"@{TOUCH}", "year.to_csv('CANARY')"):
        words = [word.replace("SHEET", path).replace("PAYLOAD", canary(payload)) for word in arguments]
        assert main(words) in (1, 2), payload
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "keys",
    [
        {"mods": "PAYLOAD"},
        {"subset": "PAYLOAD"},
        {"kind": "multilevel", "random": ["PAYLOAD"]},
        {"kind": "multilevel", "random": ["1 + PAYLOAD | study_id"]},
        {"kind": "rve", "cluster": "PAYLOAD"},
        {"kind": "bayes", "mu_prior": "PAYLOAD"},
        {"data": "PAYLOAD"},
    ],
    ids=json.dumps,
)
def test_no_declaration_is_run(tmp_path: Path, canary, capsys, keys: dict[str, Any]) -> None:
    for payload in (TOUCH, "{" + TOUCH + "}", "year.to_csv('CANARY')"):
        text = json.dumps({"data": "sheet.csv", **keys})
        made = json.loads(text.replace("PAYLOAD", json.dumps(canary(payload))[1:-1]))
        path = declaration(tmp_path, **{key: value for key, value in made.items() if key != "data"})
        if "data" in keys:
            path.write_text(path.read_text().replace('"sheet.csv"', json.dumps(made["data"])))
        assert main(["report", str(path), "--out", str(tmp_path / "out"), "--formats", "tables"]) == 1, payload
        assert "Traceback" not in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


ROUTE = {"ri": "r", "ni": "n"}


@pytest.mark.parametrize(
    "entry",
    [
        {"subset": "PAYLOAD", "moderator": "m: x"},
        {"subset": "PAYLOAD"},
        {"route": {**ROUTE, "mods": "PAYLOAD"}},
        {"route": {**ROUTE, "subset": "PAYLOAD"}},
        {"route": {**ROUTE, "ri": "PAYLOAD"}},
        {"route": {**ROUTE, "per": "PAYLOAD"}},
        {"route": {**ROUTE, "method": "PAYLOAD"}},
        {"route": {**ROUTE, "model": "multilevel", "random": ["PAYLOAD"]}},
        {"route": {**ROUTE, "model": "multilevel", "random": ["1 + PAYLOAD | study_id"]}},
        {"route": {**ROUTE, "PAYLOAD": 1}},
        {"coefficient": "PAYLOAD", "route": ROUTE},
        {"scale": "PAYLOAD"},
    ],
    ids=json.dumps,
)
def test_no_description_is_run(tmp_path: Path, canary, capsys, entry: dict[str, Any]) -> None:
    for payload in (TOUCH, "{" + TOUCH + "}", "year.to_csv('CANARY')"):
        text = json.dumps({"printed": {"estimate": ".2"}, **entry})
        path = sheet(tmp_path, [json.loads(text.replace("PAYLOAD", json.dumps(canary(payload))[1:-1]))])
        for command in ("reproduce", "match"):
            code = main([command, str(path)])
            printed = capsys.readouterr()
            # `match` reads the rows of a route only, and follows its own routes.
            assert code in ((1,) if command == "reproduce" else (0, 1)), (command, payload)
            assert "Traceback" not in printed.err
        with pytest.raises(AllianceMetaError):
            am.evidence.reproduce(path)


# --- what may be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "rows"),
    [
        ("rater == 'client'", 6),
        ("rater != 'client'", 6),
        ("rater == 'client' and not published", 2),
        ("(rater == 'client') & (published == True)", 4),
        ("published or year > 2005", 8),
        ("~published", 4),
        ("2001 <= year < 2003", 4),
        ("year in [2001, 2002]", 4),
        ("year not in (2001, 2002)", 8),
        ("`a b` / 2 + 1 >= 3", 8),
        ("year % 2 == 0 and -year < -2001", 5),
        ("quality ** 2 > 3", 8),
        ("rater.notna() and notna(year)", 12),
        ("isna(rater)", 0),
        ("between(year, 2001, 2002)", 4),
        ("year.between(2001, 2002)", 4),
        ("rater.isin(['client'])", 6),
        ("contains(lower(study), 'y 1')", 3),
        ("study.str.contains('1')", 3),
        ("startswith(rater, 'cl') or rater.str.lower().str.startswith('th')", 12),
    ],
)
def test_a_subset_keeps_the_rows_it_says(written: str, rows: int) -> None:
    kept = select_rows(written, FRAME)
    assert kept.sum() == rows
    if "(" not in written:
        assert FRAME[kept].equals(FRAME.query(written))


@pytest.mark.parametrize(
    ("written", "mend"),
    [
        ("rater = 'client'", "write =="),
        ("rater == 'client' && year > 1", "write and"),
        ("!published", "write not"),
        ("year > 2000 & published", "write and, or"),
        ("year == '2001'", "compares a text with a number"),
        ("rater > 3", "compares a text with a number"),
        ("yaer > 3", "no column 'yaer'; did you mean 'year'?"),
        ("year", "is no condition; write what it should be"),
        ("quality == None", "write isna(column)"),
        ("rater in 'client'", "after in stands a list"),
        ("rater == 'client", "a quote is not closed"),
        ("a b > 3", "Write `a b`, in back-ticks."),
        ("`a b > 3", "a back-tick is not closed"),
    ],
)
def test_a_slip_is_answered_with_its_mend(written: str, mend: str) -> None:
    with pytest.raises(InputError) as error:
        select_rows(written, FRAME)
    assert mend in str(error.value)
    assert "Columns: study, r, n" in str(error.value)


def test_a_missing_value_is_neither_equal_nor_smaller() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0], "word": pd.Series(["a", None, "b"], dtype="str")})
    for written in (
        "x == 1",
        "x != 1",
        "x < 2",
        "not (x < 2)",
        "word == 'a'",
        "word != 'a'",
        "word in ['a']",
        "x == x",
    ):
        assert frame[select_rows(written, frame)].equals(frame.query(written)), written


@pytest.mark.parametrize(
    "written",
    [
        "1",
        "year",
        "~ year + rater",
        "0 + rater",
        "rater - 1",
        "rater * year - rater:year",
        "(year + quality + rater)**2",
        "rater / year",
        "`a b` + center(I(`a b` ** 2))",
        "C(quality)",
        "C(rater, Treatment('therapist'))",
        "C(rater, contr.sum())",
        "C(rater, levels=['therapist', 'client'])",
        "poly(year, 2)",
        "0 + bs(year, df=4)",
        "0 + bs(year, knots=[2002, 2004])",
        "0 + cr(year, df=3)",
        "np.log(year) + sqrt(quality) + log10(`a b` + 1)",
        "I(year**2 - 3 * quality) + I(rater == 'client')",
        "scale(year) + standardize(quality)",
        "year +\n quality",
    ],
)
def test_a_formula_of_the_language_reaches_the_design(written: str) -> None:
    design = build_design(written, FRAME, labels=FRAME["study"])
    assert design.X.shape[0] == K
    assert np.isfinite(design.X).all()


@pytest.mark.parametrize(
    ("written", "mend"),
    [
        ("0", "leaves no coefficient; write '1'"),
        ("-1", "leaves no coefficient"),
        ("1 + 0", "leaves no coefficient"),
        ("quality|year", "| belongs to random effects"),
        ("year**2", "write I(year**2)"),
        ("year^2", "write I(year**2)"),
        ("year*year", "write I(year**2)"),
        ("2*year", "write a calculation inside I()"),
        ("year + 2", "write a calculation inside I()"),
        ("year - year", "is taken out again"),
        ("centre(year)", "did you mean 'center'?"),
        ("log(year, 2)", "log() takes one column"),
        ("year.values", "no column 'year.values'"),
    ],
)
def test_a_formula_that_would_not_do_what_it_says_is_refused(written: str, mend: str) -> None:
    with pytest.raises(DesignError) as error:
        build_design(written, FRAME, labels=FRAME["study"])
    assert mend in str(error.value)


@pytest.mark.parametrize("name", ["Intercept", "intrcpt", "1", "0"])
def test_a_column_that_cannot_be_told_from_the_intercept_is_refused_only_where_it_is_named(name: str) -> None:
    frame = FRAME.rename(columns={"quality": name})
    with pytest.raises(DesignError, match="cannot be told from the intercept; give it another name"):
        build_design(f"year + `{name}`", frame, labels=FRAME["study"])
    assert build_design("year", frame, labels=FRAME["study"]).names == ("intrcpt", "year")


def test_a_column_hides_no_function() -> None:
    frame = FRAME.rename(columns={"quality": "log"})
    assert build_design("log(year)", frame, labels=FRAME["study"]).names == ("intrcpt", "log(year)")
    with pytest.raises(DesignError, match="'log' is a column and a function"):
        build_design("log + log(year)", frame, labels=FRAME["study"])
