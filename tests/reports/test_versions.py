"""How far each difference between two versions of a sheet moves the analyses of a report."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.cli import main
from alliance_meta.effects import Moves
from alliance_meta.reporting import build_report, moves_of

OLD = """study,year,r,n,rater
A,2001,.20,50,client
B,2002,.35,80,client
C,2003,.02,40,therapist
D,2005,.21,60,therapist
E,2006,.48,90,client
"""
NEW = OLD.replace(".48,90", ".28,90").replace(".02,40,therapist", ".02,44,therapist") + "F,2007,.25,70,therapist\n"
REPORT = """
title = "Two versions"
[[analysis]]
id = "all"
label = "All"
data = "sheet.csv"
[[analysis]]
id = "raters"
label = "Raters"
data = "sheet.csv"
mods = "rater"
[[analysis]]
id = "years"
label = "Years"
data = "sheet.csv"
mods = "year"
[[analysis]]
id = "early"
label = "Early"
data = "sheet.csv"
subset = "year < 2004"
kind = "bayes"
[[analysis]]
id = "other"
label = "Another sheet"
data = "farber2011_positive_regard"
"""
TERMS = {"all": ["r"], "raters": ["r, client", "r, therapist"], "years": ["intrcpt", "year"], "early": ["r"]}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., tuple[Path, Path, Path]]:
    """Return a function that writes a report beside the new version of its sheet, and the old version elsewhere."""

    def write(old: str = OLD, new: str = NEW, report: str = REPORT) -> tuple[Path, Path, Path]:
        paths = tmp_path / "report.toml", tmp_path / "before.csv", tmp_path / "sheet.csv"
        for path, text in zip(paths, (report, old, new), strict=True):
            path.write_text(text)
        return paths

    return write


def of(found: Moves, analysis: str) -> list[list[object]]:
    columns = ["term", "change", "row", "column", "before", "after", "moved"]
    return found.tidy().loc[[analysis], columns].to_numpy().tolist()


def pooled(path: Path) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        return am.RandomEffectsModel(am.escalc(am.read_coded(path))).fit().predict(scale="r")["pred"].iloc[0]


def test_each_analysis_that_reads_the_sheet_is_fitted_to_every_version(written, tmp_path) -> None:
    found = moves_of(*written())
    tidy = found.tidy()
    assert {name: list(dict.fromkeys(tidy.loc[[name], "term"])) for name in dict.fromkeys(tidy.index)} == TERMS
    assert (tidy.groupby(["analysis", "term"]).size() == 4).all()
    first, *single = of(found, "all")
    assert first[:4] == ["r", "all changes", "", ""]
    assert first[4:6] == [pooled(tmp_path / "before.csv"), pooled(tmp_path / "sheet.csv")]
    # Each change alone, by hand.
    alone = {
        ("cell changed", "E", "r"): OLD.replace(".48", ".28"),
        ("cell changed", "C", "n"): OLD.replace(".02,40", ".02,44"),
        ("row added", "F", ""): OLD + NEW.splitlines()[-1] + "\n",
    }
    wanted = {}
    for place, text in alone.items():
        (tmp_path / "one.csv").write_text(text)
        wanted[place] = pooled(tmp_path / "one.csv")
    assert {tuple(row[1:4]): row[5] for row in single} == pytest.approx(wanted, rel=1e-12)
    sizes = [abs(row[6]) for row in single]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row[6] == row[5] - row[4] for row in (first, *single))
    assert found.notes == found.diff.notes


def test_what_an_analysis_does_not_read_moves_nothing(written) -> None:
    """`early` holds A, B and C."""
    rows = {row[2]: row[6] for row in of(moves_of(*written()), "early")[1:]}
    assert rows["E"] == rows["F"] == 0 != rows["C"]


def test_the_numbers_are_those_that_the_report_prints(written, tmp_path) -> None:
    report, old, new = written()
    after = {one.analysis: one.after for one in moves_of(report, old, new).moves if one.change == "all changes"}
    out = tmp_path / "out"
    build_report(report, out=out, formats=[])
    printed = json.loads((out / "results.json").read_text())["quantities"]
    for name in ("all", "early"):
        assert after[name] == printed[name]["r"]["value"]


def test_several_terms_are_the_means_of_the_levels_or_the_coefficients(written, tmp_path) -> None:
    tidy = moves_of(*written()).tidy()
    whole = tidy[tidy["change"] == "all changes"].set_index("term", append=True)["after"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        effects = am.escalc(am.read_coded(tmp_path / "sheet.csv"))
        means = (
            am.RandomEffectsModel(effects, mods="rater").fit().predict({"rater": ["client", "therapist"]}, scale="r")
        )
        slopes = am.RandomEffectsModel(effects, mods="year").fit().beta
    np.testing.assert_array_equal(whole["raters"], means["pred"])
    np.testing.assert_array_equal(whole["years"], slopes)


def test_a_version_that_cannot_be_fitted_says_why(written) -> None:
    alone = 'title = "T"\n[[analysis]]\nid = "all"\nlabel = "All"\ndata = "sheet.csv"\nsubset = "rater == \'self\'"\n'
    found = moves_of(*written(new=OLD + "F,2007,.25,70,self\nG,2008,.11,70,self\n", report=alone))
    (row,) = of(found, "all")
    assert row[1] == "all changes"
    assert "leaves no row" in row[4].reason
    assert row[6] is not row[5]
    assert isinstance(row[6], am.NotApplicable)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "all, r: n/a (subset" in found.summary()
    # A change that empties a subset: the number before is there, the one after is not.
    emptied = moves_of(*written(old=OLD + "F,2007,.25,70,self\n", new=OLD, report=alone))
    _, single = of(emptied, "all")
    assert single[1:3] == ["row gone", "F"]
    assert isinstance(single[5], am.NotApplicable)
    assert "row gone F n/a n/a subset" in " ".join(emptied.summary().split())


def test_another_model_of_some_version_is_told(written) -> None:
    """A second effect of a study makes a report take a model of dependent effects."""
    found = moves_of(
        *written(new=OLD + "E,2006,.31,90,therapist\n", report=REPORT[: REPORT.index('[[analysis]]\nid = "raters"')])
    )
    (note,) = [note.message for note in found.notes if note.code == "model-differs"]
    assert note.startswith("all: not every version is fitted by the same model: REML")
    assert "CR2" in note


def test_a_report_of_other_sheets_is_refused(written) -> None:
    report, old, new = written()
    old.write_text(old.read_text() + "Z,2009,.1,50,client\n")
    assert moves_of(report, old, new).diff.tidy()["what"].tolist()[-1] == "row gone"
    other = new.with_name("other.csv")
    other.write_text(NEW + "Z,2009,.1,50,client\n")
    with pytest.raises(
        am.InputError, match=r"no analysis of report.toml reads before.csv or other.csv: it reads sheet.csv"
    ):
        moves_of(report, old, other)
    # The content counts, not the name.
    copy = new.with_name("copy.csv")
    copy.write_text(new.read_text())
    assert moves_of(report, old, copy).moves == moves_of(report, old, new).moves
    with pytest.raises(am.CannotRunError, match="cannot read"):
        moves_of(report, old, new.with_name("nowhere.csv"))


def test_columns_named_by_the_report_are_read(written) -> None:
    named = REPORT[: REPORT.index('[[analysis]]\nid = "raters"')] + 'ri = "link"\nni = "people"\n'
    head = "study,year,link,people,rater"
    texts = (text.replace("study,year,r,n,rater", head) for text in (OLD, NEW))
    plain, found = moves_of(*written()), moves_of(*written(*texts, report=named))
    assert [row[4:] for row in of(found, "all")] == [row[4:] for row in of(plain, "all")]


def test_the_command(written, capsys) -> None:
    report, old, new = map(str, written())
    assert main(["diff", old, new, "--declaration", report]) == 0
    said = capsys.readouterr().out
    assert "2 cells changed, 1 row added" in said
    assert "all, r: " in said
    assert main(["diff", old, new, "--declaration", report, "--json"]) == 0
    effect = json.loads(capsys.readouterr().out)["effect"]
    assert [one["analysis"] for one in effect] == [name for name, terms in TERMS.items() for _ in range(4 * len(terms))]
