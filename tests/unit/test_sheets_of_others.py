"""Sheets as other people save them: each is read with the right value, or answered in one line that works when typed.

Rebuilt from public reports and from raw files of other people (folders of ``tests/cases`` hold two of them); the
numbers are those of R (metafor, clubSandwich).
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.cli import main
from alliance_meta.effects.sheet.examine import examine, examine_bytes
from alliance_meta.errors import CannotRunError, CodingError, InputError, SuspiciousInputWarning
from tests.tolerances import OPTIMISER

CASES = Path(__file__).parents[1] / "cases"
ROWS = [("A", 0.31, 120), ("B", 0.22, 340), ("C", 0.15, 85)]
PRINTED = 5e-5


@pytest.fixture
def sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes a sheet into the current folder and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes, name: str = "sheet.csv") -> str:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def call(*args: str) -> tuple[int, str, str]:
        code = main(args)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def proposed(text: str) -> list[list[str]]:
    """Return the options that a message proposes for the command line, as a shell splits them."""
    return [shlex.split(words) for words in re.findall(r"command line: ((?:'[^']*'|[^')])+)\)", text)]


def fitted(run, *args: str) -> tuple[str, float, float]:
    """Fit on the command line; return the model, the estimate and its standard error."""
    code, out, err = run("fit", *args, "--json")
    assert code == 0, err
    found = json.loads(out)
    row = found["coefficients"]
    assert row["term"] == ["intrcpt"]
    return found["model_choice"]["model"], row["estimate"][0], row["se"][0]


# --- finished effects under any heading -----------------------------------------------------------------

FINISHED = {
    "TE": ("studlab,TE,seTE", ["--yi", "TE", "--sei", "seTE"], lambda n: 1 / np.sqrt(n)),
    "g and se": ("study,g,se", ["--yi", "g", "--sei", "se"], lambda n: 1 / np.sqrt(n)),
    "g and vg": ("study,g,vg", ["--yi", "g", "--vi", "vg"], lambda n: 1 / n),
    "var.g": ("study,g,var.g", ["--yi", "g", "--vi", "var.g"], lambda n: 1 / n),
    "yi and se": ("study,yi,se", ["--yi", "yi", "--sei", "se"], lambda n: 1 / np.sqrt(n)),
    "es.z": ("study,es.z,vi.z", ["--yi", "es.z", "--vi", "vi.z", "--measure", "ZCOR"], lambda n: 1 / n),
    "z and se": ("study,z,se", ["--yi", "z", "--sei", "se", "--measure", "ZCOR"], lambda n: 1 / np.sqrt(n)),
    "z and n": ("study,z,n", ["--yi", "z", "--ni", "n", "--measure", "ZCOR"], lambda n: n + 3),
    "lnOR": ("study,lnOR,selnOR", ["--yi", "lnOR", "--sei", "selnOR"], lambda n: 1 / np.sqrt(n)),
    "two words": ("study,effect size,standard error", ["--yi", "effect size", "--sei", "standard error"],
                  lambda n: 1 / np.sqrt(n)),
}  # fmt: skip


@pytest.mark.parametrize("name", FINISHED)
def test_finished_effects_are_proposed_and_the_proposal_works(sheet, run, name):
    header, options, second = FINISHED[name]
    path = sheet(f"{header}\n" + "".join(f"{label},{y},{float(second(n - 3))!r}\n" for label, y, n in ROWS))
    code, out, err = run("fit", path)
    assert (code, out) == (1, "")
    assert proposed(err) == [options]
    assert "1 problem" in err or err.count("\n") == 1, err
    y, v = np.array([y for _, y, _ in ROWS]), 1 / (np.array([n for _, _, n in ROWS]) - 3)
    with am_silent():
        expected = am.RandomEffectsModel(am.EffectSizes.from_arrays(y, v)).fit()
    _, estimate, se = fitted(run, path, *options)
    assert (estimate, se) == pytest.approx((expected.beta[0], expected.se[0]), rel=OPTIMISER)
    named = {word.lstrip("-"): value for word, value in zip(options[::2], options[1::2], strict=True)}
    with am_silent():
        effects = am.escalc(am.read_coded(path, **named))
    assert effects.measure == ("ZCOR" if "measure" in named else "GEN")
    assert [p for p in am.check_coded(path, **named) if p.severity == "error"] == []


def am_silent():
    import warnings

    silent = warnings.catch_warnings()
    silent.__enter__()
    warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
    return _Closing(silent)


class _Closing:
    def __init__(self, inner) -> None:
        self.inner = inner

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error) -> None:
        self.inner.__exit__(*error)


def test_dependent_fisher_z_give_the_number_of_che_in_r(run):
    path = str(CASES / "05" / "input.csv")
    code, _, err = run("fit", path)
    assert code == 1
    assert proposed(err) == [["--yi", "es.z", "--vi", "vi.z", "--measure", "ZCOR"]]
    model, estimate, se = fitted(run, path, *proposed(err)[0], "--cluster", "sample_id")
    assert model == "che"
    assert (estimate, se) == pytest.approx((0.2675, 0.0235), abs=PRINTED)


NEVER = ["variance", "vi.x", "se", "SE(b)", "R2", "r²", "p", "p.value", "z", "zval", "sd", "alpha", "I2", "score", "s1",
         "n1i", "n.t", "sample", "page"]  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize("values", [(0.02, 0.05, 0.01), (12, 40, 31), (0.2, -0.1, 0.3)])
def test_a_variance_a_share_a_test_or_an_arm_is_never_proposed_as_r_or_n(name, values):
    if name in ("s1", "n1i", "sample") and min(values) < 0:
        return  # Nothing tells that these are no correlations.
    data = f'study,"{name}"\n' + "".join(f"S{i},{value}\n" for i, value in enumerate(values))
    for problem in examine_bytes(data.encode(), "s.csv").errors:
        assert all(words == ["--ri", "..."] or words == ["--ni", "..."] or words[0] == "--yi,"
                   for words in proposed(problem.message))  # fmt: skip


def said(text: str) -> str:
    (problem,) = examine_bytes(text.encode(), "s.csv").errors
    return problem.message


@pytest.mark.parametrize("names", ["g_LL,g,g_UL", "LL_g,g,UL_g", "g.lower,g,g.upper"])
def test_limits_beside_an_effect_say_how_to_make_standard_errors_and_are_never_proposed_as_r(names):
    low, _, high = names.split(",")
    message = said(f"ID,{names},ni\nA,-.10,.30,.70,40\nB,.05,.20,.35,60\nC,-.20,.10,.40,50\n")
    assert f"{low!r} and {high!r} seem to be limits of 'g': in 95% intervals their difference / 3.92" in message
    assert "yi='g' and sei=" in message
    assert proposed(message) == [["--ri", "..."]]


def test_every_pair_of_effects_and_errors_is_proposed():
    message = said("study,es_post,se_post,es_late,se_late,n\nA,.30,.10,.20,.11,90\nB,.20,.12,.10,.13,80\n")
    assert proposed(message) == [["--yi", "es_post", "--sei", "se_post"], ["--yi", "es_late", "--sei", "se_late"]]


def test_columns_that_bound_nothing_are_no_limits():
    message = said("ID,g_LL,g,g_UL,ni\nA,.40,.30,.70,40\nB,.05,.20,.35,60\n")
    assert "seem to be limits" not in message


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ("lnHR,selnHR", ["--yi", "lnHR", "--sei", "selnHR"]),
        ("logOR,varlogOR", ["--yi", "logOR", "--vi", "varlogOR"]),
    ],
)
def test_logarithms_of_ratios_are_finished_effects_and_no_correlations(names, options):
    problems = examine_bytes(f"study,{names}\nA,-.30,.10\nB,.20,.04\nC,-.10,.06\n".encode(), "s.csv").errors
    assert proposed(problems[0].message) == [options]


@pytest.mark.parametrize("name", ["lnHR", "log.ratio", "x (log-OR)"])
def test_a_logarithm_without_its_error_is_no_correlation(name):
    problems = examine_bytes(f"study,{name}\nA,-.30\nB,.20\nC,-.10\n".encode(), "s.csv").errors
    assert proposed(problems[0].message)[0] == ["--ri", "..."]


def test_tabs_that_line_columns_up_are_blanks():
    text = "study\t\tni\t\tri\t\ttype\n1\t\t\t123\t\t.10\t\tj\n2\t\t\t95\t\t-.06\tp\n3\t\t\t69\t.11\t\tp\n"
    table = examine_bytes(text.encode(), "s.txt").table
    assert table is not None
    assert table.frame[["study", "n", "r", "type"]].values.tolist() == [
        ["1", 123, 0.10, "j"], ["2", 95, -0.06, "p"], ["3", 69, 0.11, "p"],
    ]  # fmt: skip


def test_names_with_spaces_are_proposed_as_a_shell_takes_them(sheet, run):
    path = sheet('Study,"r (alliance-outcome)","N (completers)"\nA,.3,50\nB,.2,60\nC,.1,70\n')
    _, _, err = run("fit", path)
    assert "--ri 'r (alliance-outcome)'" in err
    assert "--ni 'N (completers)'" in err
    _, estimate, _ = fitted(run, path, "--ri", "r (alliance-outcome)", "--ni", "N (completers)")
    frame = pd.DataFrame({"study": list("ABC"), "r": [0.3, 0.2, 0.1], "n": [50, 60, 70]})
    plain = am.RandomEffectsModel(am.escalc(frame))
    with am_silent():
        assert estimate == pytest.approx(plain.fit().beta[0], rel=OPTIMISER)


@pytest.mark.parametrize("options", [["--yi", "yi"], ["--yi", "yi", "--vi", "v", "--sei", "v"],
                                     ["--yi", "yi", "--vi", "yi"], ["--ri", "yi", "--yi", "v"]])  # fmt: skip
def test_half_a_name_or_two_for_one_thing_is_refused_in_one_line(sheet, run, options):
    code, out, err = run("fit", sheet("study,yi,v\nA,.1,.02\nB,.2,.03\n"), *options)
    assert (code, out) == (1, "")
    assert err.strip().count("\n") <= 1, err
    assert "error" in err


# --- only cells that are used can stop an analysis -------------------------------------------------------


def test_a_text_cell_in_a_column_nobody_asked_for_stops_nothing(run):
    path = str(CASES / "12" / "input.csv")
    model, estimate, se = fitted(run, path, "--model", "random")
    assert (model, estimate, se) == ("random", pytest.approx(0.363569, abs=1e-6), pytest.approx(0.017113, abs=1e-6))
    code, out, err = run("fit", path, "--model", "random", "--mods", "environment")
    assert code == 0, err
    assert "0.3119" in out
    assert "0.0815" in out
    assert fitted(run, path)[0] == "che"


SMALL = "study,year,r,n,dose\nRoth,2015a,.31,120,1\nRoth,2015b,.22,340,2\nCo,2016,.15,85,4(1+3)\nDu,2017,.25,60,3\n"


def test_years_with_letters_are_years_and_other_text_is_shown_where_it_stands(sheet, run):
    path = sheet(SMALL + "El,2018,.3,50,5\nFy,2019,.1,70,1\n")
    with am_silent():
        frame = am.read_coded(path).frame
    assert frame["year"].tolist() == [2015, 2015, 2016, 2017, 2018, 2019]
    (problem,) = am.check_coded(path)
    assert (problem.row, problem.column, problem.value, problem.severity) == (4, "dose", "4(1+3)", "suspicion")
    assert run("fit", path, "--mods", "year")[0] == 0
    with am_silent():
        assert am.escalc(am.read_coded(path)).n_studies == 6  # Roth 2015a and Roth 2015b are two publications.


def test_text_in_a_moderator_that_is_used_is_named(sheet, run):
    path = sheet(SMALL + "El,in press,.3,50,5\nFy,2019,.1,70,1\n")
    assert run("fit", path)[0] == 0
    code, _, err = run("fit", path, "--subset", "year > 2015")
    assert code == 1
    assert "year is text because of 'in press'" in err
    for mods, cell in (("year", "'in press'"), ("dose", "'4(1+3)'")):
        code, _, err = run("fit", path, "--mods", mods)
        assert code == 1
        assert f"moderator '{mods}' holds numbers but for {cell}" in err
    data = pd.DataFrame({"r": [0.1, 0.2, 0.3, 0.1, 0.2, 0.3], "n": 50, "dose": ["1", "2", "x", "3", "2", "4"]})
    with am_silent(), pytest.raises(am.errors.DesignError, match="'dose' holds numbers but for 'x'"):
        am.RandomEffectsModel(am.escalc(data), mods="dose").fit()


# --- missing is missing, in files and in frames ----------------------------------------------------------

CODES = ["", "NA", "n.r.", ".", "NR", "n/a", "-", "?"]


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_missing_in_every_column_of_files_and_of_frames(sheet, code):
    rows = [("A", ".3", "50", "x", "1"), ("B", code, "60", "y", "2"), ("C", ".2", "70", code, "3"),
            ("D", ".1", "80", "y", code)]  # fmt: skip
    path = sheet("study,r,n,g,dose\n" + "".join(",".join(row) + "\n" for row in rows))
    with am_silent():
        file = am.read_coded(path).frame
        typed = pd.DataFrame(rows, columns=["study", "r", "n", "g", "dose"])
        effects = am.escalc(typed)
        arrays = am.EffectSizes.from_arrays([0.1] * 4, [0.1] * 4, mods=typed[["g", "dose"]])
    assert file.isna().sum().to_dict() == {"study": 0, "r": 1, "n": 0, "g": 1, "dose": 1}
    assert effects.k == 3
    for moderators in (effects.moderators, arrays.moderators):
        assert moderators[["g", "dose"]].isna().sum().to_list() == [1, 1]


def test_cells_empty_in_both_sheets_count_nowhere_in_agreement():
    a = pd.DataFrame({"es_id": [1, 2, 3, 4], "rater": ["x", "", "y", ""]})
    b = pd.DataFrame({"es_id": [1, 2, 3, 4], "rater": ["x", "", "x", ""]})
    found = am.effects.coder_agreement(a, b).estimates.loc["rater"]
    assert found["n"].tolist() == [2, 2]
    assert found["estimate"].astype(float).tolist() == [0.5, 0.0]


def test_empty_text_is_no_level_of_a_moderator():
    data = pd.DataFrame({"study": list("ABCDEFGH"), "r": [0.1, 0.2, 0.3, 0.4, 0.25, 0.15, 0.35, 0.05],
                         "n": range(30, 110, 10), "g": ["x", "y", "x", "", "x", "y", "", "y"]})  # fmt: skip
    with pytest.warns(am.errors.AllianceMetaWarning, match="D, G"):
        fit = am.RandomEffectsModel(am.escalc(data), mods="g", method="EE").fit()
    assert (fit.names, fit.k, round(float(fit.beta[1]), 2)) == (("intrcpt", "g[T.y]"), 6, -0.13)


def test_a_number_that_is_a_code_is_suspected_and_the_command_declares_it(sheet, run):
    rows = "A,.3,50,31,2\nB,.2,60,999,3\nC,.1,999,45,-99\nD,.2,70,28,1\nE,.15,64,33,2\n"
    path = sheet("study,r,n,age,dose\n" + rows)
    _, out, _ = run("check", path)
    codes = {tuple(words) for words in proposed(out)}
    assert codes == {("--missing", "999"), ("--missing", "-99")}
    with am_silent():
        table = am.read_coded(path, missing=[999, -99])
    assert table.frame.isna().sum().to_dict() == {"study": 0, "r": 0, "n": 1, "age": 1, "dose": 1}
    assert "number-code" not in {p.kind for p in am.check_coded(path, missing=[999, "-99"])}
    code, out, _ = run("check", path, "--missing", "999", "--missing", "-99")
    assert code == 0
    assert "code for a missing value" not in out
    frame = pd.read_csv(path)
    with pytest.warns(SuspiciousInputWarning, match=r"n: 999 .*missing='999'"):
        am.escalc(frame)
    with am_silent():
        assert am.escalc(frame, missing=[999, -99]).k == 4


def test_a_declared_code_is_no_label(sheet):
    with am_silent():
        table = am.read_coded(sheet("study,es_id,r,n\nA,98,.1,50\nA,99,.2,60\nB,100,.3,99\n"), missing=99)
    assert table.frame["es_id"].tolist() == ["98", "99", "100"]
    assert table.frame["n"].isna().tolist() == [False, False, True]


# --- rows and numbers that are no study's ---------------------------------------------------------------


@pytest.mark.parametrize("label", ["Total", "Overall", "Mean", "Sum", "Pooled effect", "Gesamt", "weighted mean:"])
def test_a_row_that_sums_up_is_suspected(label):
    data = f"study,r,n\nA,.31,120\nB,.22,340\nC,.15,85\n{label},.2266667,500\n".encode()
    (problem,) = [p for p in examine_bytes(data, "s.csv").suspicions if p.kind == "total-row"]
    assert (problem.row, problem.column, problem.value) == (5, "study", label)


def test_an_n_that_is_the_sum_of_all_others_is_suspected():
    data = b"study,r,n\nA,.31,120\nB,.22,340\nC,.15,85\nDee,.2266667,545\n"
    (problem,) = [p for p in examine_bytes(data, "s.csv").suspicions if p.kind == "total-row"]
    assert problem.row == 5
    assert "sum of all others" in problem.message
    other = data.replace(b"545", b"546")
    assert "total-row" not in {p.kind for p in examine_bytes(other, "s.csv").suspicions}


@pytest.mark.parametrize("n", ["1e20", "45000", "12000"])
def test_an_n_out_of_all_proportion_is_suspected_and_divides_by_nothing(sheet, run, n):
    path = sheet(f"study,r,n\nA,.1,50\nB,.2,60\nC,.3,70\nD,.25,{n}\n")
    (problem,) = [p for p in am.check_coded(path) if p.kind == "n-large"]
    assert problem.row == 5
    assert ("a date" in problem.message) == (n == "45000")
    assert run("fit", path)[0] == 0


def test_more_people_than_numbers_can_weigh_are_an_error(sheet, run):
    code, _, err = run("fit", sheet("study,r,n\nA,.1,50\nB,.2,60\nC,.3,1e300\n"))
    assert code == 1
    assert "line 4, n: so many people are not possible" in err


# --- tables as other programs write them -----------------------------------------------------------------

TABLES = {
    "write.table": '"study" "r" "n"\n"1" "A" 0.31 120\n"2" "B" 0.22 340\n"3" "C" 0.15 85\n',
    "write.table without row names": '"study" "r" "n"\n"A" 0.31 120\n"B" 0.22 340\n"C" 0.15 85\n',
    "unquoted": "study r n\nA 0.31 120\nB 0.22 340\nC 0.15 85\n",
    "print": "  study    r   n\n1     A 0.31 120\n2     B 0.22 340\n3     C 0.15  85\n",
    "row names and commas": '"study","r","n"\n"1","A",0.31,120\n"2","B",0.22,340\n"3","C",0.15,85\n',
    "row names and tabs": "study\tr\tn\n1\tA\t0.31\t120\n2\tB\t0.22\t340\n3\tC\t0.15\t85\n",
    "named rows and tabs": "r\tn\nA\t0.31\t120\nB\t0.22\t340\nC\t0.15\t85\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_r_are_read(sheet, name):
    with am_silent():
        effects = am.escalc(am.read_coded(sheet(TABLES[name], "table.txt")))
        fit = am.RandomEffectsModel(effects).fit()
    assert (fit.k, float(fit.beta[0]), float(fit.se[0])) == pytest.approx((3, 0.2337116, 0.03709789), rel=1e-6)


def test_a_study_name_with_a_blank_makes_no_table_of_blanks(sheet):
    with pytest.raises(CodingError, match="the columns are separated by spaces"):
        am.read_coded(sheet("study r n\nAda 0.31 120\nBo Li 0.22 340\n"))


@pytest.mark.parametrize("content", ["A,.3,50\nB,.2,60\nC,.1,70\n", ".3;50\n.2;60\n", "1,.3,50\n2,.2,60\n"])
@pytest.mark.parametrize("options", [[], ["--ri", ".3", "--ni", "50"]])
def test_a_header_made_of_numbers_is_a_missing_header(sheet, run, content, options):
    code, out, err = run("fit", sheet(content), *options)
    assert (code, out) == (1, "")
    assert "the first row holds data" in err
    assert "--ri .3" not in err


def book(rows: list[list[object]]) -> bytes:
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def test_names_in_the_second_row_are_answered_in_one_line():
    titles = ["Identifier", *[None] * 3, "Effects", *[None] * 2]
    names = ["Study", "Cohort", "Country", "Inventory", "Hedges", "Var", "Quality"]
    rows = [["A", f"c{i}", "US", "WAI", 0.1 * i, 0.02, i] for i in range(5)]
    (problem,) = examine_bytes(book([titles, names, *rows]), "two.xlsx").errors
    assert problem.message == "the names of the columns seem to stand in row 2; delete the rows above it"


def test_a_second_row_of_names_is_answered_in_one_line():
    data = b"study,r,n,age\nname,correlation,people,years\nA,.1,50,30\nB,.2,60,31\nC,.3,70,33\n"
    (problem,) = examine_bytes(data, "s.csv").errors
    assert str(problem) == "line 2: this reads like a second row of names ('correlation', 'people'); delete it"


def test_formulas_are_one_line_a_column():
    rows = [["study", "r", "n", "x"], *([f"S{i}", f"={i}/1000", 40 + i, f"=C{i + 2}"] for i in range(200))]
    found = [p for p in examine_bytes(book(rows), "f.xlsx").problems if p.kind == "formula"]
    assert [(p.row, p.column) for p in found] == [(2, "r"), (2, "x")]
    assert "(and 199 more cells of this column)" in found[0].message


ENCODINGS = [
    ("mac_roman", "Müller"),
    ("gbk", "治疗联盟研究"),
    ("shift_jis", "ちりょうどうめい"),
    ("big5", "治療聯盟研究"),
]


@pytest.mark.parametrize(("encoding", "word"), ENCODINGS)
def test_an_encoding_can_be_named_and_is_asked_for(sheet, run, encoding, word):
    path = sheet(f"study,r,n\n{word},.1,50\n{word} 2,.2,60\n".encode(encoding))
    with am_silent():
        assert am.read_coded(path, encoding=encoding).frame["study"].tolist() == [word, f"{word} 2"]
    assert run("fit", path, "--encoding", encoding)[0] == 0
    said = [one.message for one in examine(path).problems if "encoding" in one.message]
    assert len(said) == 1
    assert f"--encoding {encoding}" in said[0] or encoding == "big5"


def test_an_encoding_that_is_none_is_refused(sheet):
    path = sheet("study,r,n\nA,.1,50\n")
    for name in ("klingon", "hex", "a\0b"):
        with pytest.raises(InputError, match="is not known; for example utf-8"):
            am.read_coded(path, encoding=name)
    with pytest.raises(CodingError, match="this is not ascii; name another"):
        am.read_coded(sheet("study,r,n\nÄ,.1,50\n"), encoding="ascii")


# --- limits -----------------------------------------------------------------------------------------------


def test_devices_and_pipes_are_answered_at_once(tmp_path, run):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for path in ("/dev/zero", str(pipe)):
        for command in ("check", "fit"):
            code, _, err = run(command, path)
            assert code == 2
            assert "is a device or a pipe" in err
        assert run("consistency", path)[0] == 2
    with pytest.raises(CannotRunError, match="device or a pipe"):
        examine("/dev/zero")


def test_a_cell_far_out_in_every_row_is_bounded_before_it_is_padded():
    import zipfile

    data, stream = book([["study", "r", "n"], ["A", 0.1, 50]]), io.BytesIO()
    far = "".join(f'<row r="{i}"><c r="XFD{i}"><v>1</v></c></row>' for i in range(4, 5_000))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, part.replace(b"</sheetData>", far.encode() + b"</sheetData>"))
    (problem,) = examine_bytes(stream.getvalue(), "far.xlsx").errors
    assert "16,384 columns, which no coding sheet does" in problem.message


def test_a_line_of_millions_of_bytes_is_refused():
    (problem,) = examine_bytes(b"study,r,n\nA,.1,50\n" + b"x" * 3_000_000 + b",.2,60\n", "long.csv").errors
    assert problem.message.startswith("line 3 has 3 million bytes")


# --- the model of fit --------------------------------------------------------------------------------------

DEPENDENT = "study,r,n,rater\n" + "".join(
    f"S{i},{0.05 * i - 0.1 * j + 0.1:.3f},{40 + 7 * i},{'ab'[j]}\n" for i in range(8) for j in range(2)
)


def test_the_first_line_says_which_model_the_data_chose(sheet, run):
    _, out, _ = run("fit", sheet(DEPENDENT))
    assert out.splitlines()[0] == (
        "Model: correlated and hierarchical effects (che), rho = 0.6, CR2 standard errors "
        "(16 effects from 8 studies; --model chooses another)"
    )
    with am_silent():
        expected = am.che(am.escalc(am.read_coded("sheet.csv")))
    _, estimate, se = fitted(run, "sheet.csv")
    assert (estimate, se) == pytest.approx((expected.beta[0], expected.se[0]), rel=OPTIMISER)
    one = sheet("".join(DEPENDENT.splitlines(keepends=True)[::2]).replace("S0,", "study,r,n,rater\nS0,", 0), "one.csv")
    assert "(random)" in run("fit", one)[1].splitlines()[0]


MODELS = [("che",), ("che", "--rho", ".8", "--robust", "CR1"), ("multilevel",), ("multilevel", "--random", "study_id"),
          ("multilevel", "--robust", "CR2", "--rho", ".5"), ("rve",), ("rve", "--rho", ".4"), ("random",),
          ("random", "--robust", "CR2", "--cluster", "study_id"), ("che", "--mods", "rater")]  # fmt: skip


@pytest.mark.parametrize("options", MODELS, ids=" ".join)
def test_every_model_prints_its_numbers_and_draws_its_forest(sheet, run, options):
    code, out, err = run("fit", sheet(DEPENDENT), "--model", *options, "--forest", "forest.svg", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["model_choice"]["model"] == options[0]
    assert found["coefficients"]["term"][0] == "intrcpt"
    assert Path("forest.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "DL"], "method"),
        (["--rho", ".5", "--model", "random"], "--rho does nothing with random effects"),
        (["--random", "study_id"], "it is of --model multilevel and --bayes"),
        (["--test", "knha"], "it is of --model multilevel and --model random"),
        (["--cluster", "study_id", "--model", "random"], "add --robust CR2"),
    ],
)
def test_a_setting_that_the_model_does_not_have_is_refused(sheet, run, options, words):
    code, out, err = run("fit", sheet(DEPENDENT), *options)
    assert (code, out) == (1, "")
    assert words in err


def test_shipped_sets_with_dependent_effects_are_fitted(run):
    model, _, _ = fitted(run, "relationship_dependent_effects")
    assert model == "che"
    code, _, err = run("fit", "molloy2014", "--encoding", "gbk")
    assert code == 2
    assert "this is a shipped data set" in err
