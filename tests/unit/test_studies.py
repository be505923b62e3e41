"""One place decides which rows are one study, which effect is which, how many people there are, what depends."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.effects.sheet.examine import examine
from alliance_meta.effects.studies import publication_years, study_keys
from alliance_meta.errors import CodingError, DependenceWarning, InputError, SuspiciousInputWarning
from alliance_meta.models.subgroups import subgroups
from tests.tolerances import CLOSED_FORM, OPTIMISER

ROTH = (
    "study,year,r,n\nRoth,2015,.2,50\nRoth,2016,.3,60\nRoth,2016,.1,70\nBo,2010,.4,80\nCy,2011,.25,90\n"
    "Di,2012,-.33,100\n"
)
BLANK = (
    "study,year,r,n\nAda,2001.0,.31,48\nAda,,.22,48\nBo,2004.0,-.02,120\nBo,,.15,120\nCy,2010.0,.4,65\nCy,,.28,65\n"
    "Di,2012.0,.2,90\n"
)
HEADERS = (
    *("Reference", "Paper", "First author", "FirstAuthor", "author_year", "Author, year", "Label", "trial", "Studie"),
    *("Autor", "AUTHORS", "étude"),
)
DOWN = (
    "study,outcome,r,n\nAda 2001,symptoms,.31,48\n,dropout,.22,48\nBo 2004,symptoms,-.02,120\n,dropout,.15,120\n"
    "Cy 2010,symptoms,.40,65\n,dropout,.28,65\nDi 2012,symptoms,.2,90\n"
)


def sheet(tmp_path: Path, text: str, name: str = "sheet.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def read(path: Path, **options: object) -> am.EffectSizes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return am.escalc(am.read_coded(path, **options))  # type: ignore[arg-type]


def dependent(k: int = 8, each: int = 4, **mods: object) -> pd.DataFrame:
    """Return `k` studies with `each` effects that share a study's own mean."""
    rng = np.random.default_rng(7)
    study = np.repeat(np.arange(k), each)
    r = np.clip(0.3 + 0.25 * rng.standard_normal(k)[study] + 0.05 * rng.standard_normal(k * each), -0.9, 0.9)
    return pd.DataFrame({"study_id": [f"s{i}" for i in study], "r": r.round(3), "n": 40 + 5 * study, **mods})


def assink(tests: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = json.loads((tests / "reference" / "R" / "rve.json").read_text())["assink"]["data"]
    return found


class TestCases:
    """The inputs that failed, with the right values."""

    @pytest.mark.parametrize(("text", "studies", "most", "people"), [(ROTH, 5, 2, 450), (BLANK, 4, 2, 323)])
    def test_check_counts_the_studies_and_people_that_models_have(self, tmp_path, text, studies, most, people):
        path = sheet(tmp_path, text)
        contents, es = examine(path).contents, read(path)
        assert contents is not None
        assert (contents.studies, contents.most_effects, contents.people) == (studies, most, people)
        assert (es.n_studies, es.people) == (studies, people)
        assert am.MultilevelModel(es).fit().random[0].n == studies
        assert am.impute_V(es, rho=0.6).codes.max() + 1 == studies

    def test_a_sheet_that_wants_filling_down_is_refused_and_counted_as_filled(self, tmp_path):
        path = sheet(tmp_path, DOWN)
        found = examine(path)
        assert [(problem.row, problem.kind) for problem in found.errors] == [(i, "study-empty") for i in (3, 5, 7)]
        assert all("fill down?" in problem.message for problem in found.errors)
        assert found.contents is not None
        assert (found.contents.studies, found.contents.people) == (4, 323)
        with pytest.raises(CodingError, match="the study is empty") as error:
            am.read_coded(path)
        frame = pd.read_csv(path)
        with pytest.raises(CodingError) as again:
            am.escalc(frame)
        assert [p.message for p in again.value.problems] == [p.message for p in error.value.problems]
        fit = am.MultilevelModel(am.escalc(frame.assign(study=frame["study"].ffill()))).fit()
        assert fit.pval[0] == pytest.approx(0.0552, abs=5e-5)
        assert (fit.ci_lb[0], fit.ci_ub[0]) == (pytest.approx(-0.009, abs=5e-4), pytest.approx(0.436, abs=5e-4))

    def test_ids_that_restart_are_nested_by_every_route(self, request):
        # R: rma.mv(yi, vi, random = ~ 1 | study/esid), and with V of rho = .6.
        data = assink(request.config.rootpath / "tests")
        study = pd.Series(data["study"])
        ids = study.groupby(study).cumcount() + 1
        es = am.EffectSizes.from_arrays(data["yi"], data["vi"], study_id=study, mods={"es_id": ids})
        fit = am.MultilevelModel(es).fit()
        np.testing.assert_allclose(
            [fit.beta[0], fit.se[0], *fit.sigma2], [0.426799367, 0.118429193, 0.187870224, 0.111992089], rtol=OPTIMISER
        )
        recipe = am.che(es)
        assert recipe.beta[0] == pytest.approx(0.367754885745, rel=OPTIMISER)
        assert recipe.se[0] == pytest.approx(0.097, abs=5e-4)
        by_hand = am.MultilevelModel(es, V=am.impute_V(es, rho=0.6)).fit().robust()
        np.testing.assert_allclose([by_hand.beta, by_hand.se], [recipe.beta, recipe.se], rtol=CLOSED_FORM)
        levels = am.sensitivity.compare_levels(es).tidy()
        assert levels["estimate"].iloc[-1] == pytest.approx(fit.beta[0], rel=CLOSED_FORM)
        numbered = am.EffectSizes.from_arrays(data["yi"], data["vi"], study_id=study)
        bayes = [am.BayesianModel(one, random="study_id/es_id").fit().posterior("mu").mean for one in (es, numbered)]
        assert bayes[0] == pytest.approx(bayes[1], rel=CLOSED_FORM)

    @pytest.mark.parametrize("random", [("study_id", "es_id"), "es_id", ("rater | study_id", "es_id")])
    def test_an_effect_id_that_restarts_is_no_crossed_factor(self, random):
        frame = dependent(es_id=list(range(1, 5)) * 8, rater=["client", "therapist"] * 16)
        with pytest.raises(InputError, match=r"'study_id/es_id'.*random=\('study_id', 'kind'\)"):
            am.MultilevelModel(am.escalc(frame), random=random).fit()

    def test_an_effect_id_that_repeats_within_a_study_is_refused_by_all(self):
        es = am.escalc(dependent(es_id=[1, 1, 2, 3] * 8))
        for fit in (am.MultilevelModel(es).fit, lambda: am.che(es)):
            with pytest.raises(InputError, match="'es_id' repeats within study_id"):
                fit()

    def test_other_factors_of_a_tuple_stay_crossed(self):
        es = am.escalc(dependent(rater=["client", "therapist", "observer", "parent"] * 8))
        fit = am.MultilevelModel(es, random=("study_id/es_id", "rater")).fit()
        assert [(term.name, term.n) for term in fit.random] == [("study_id", 8), ("study_id/es_id", 32), ("rater", 4)]


class TestOneName:
    """Issue 12, item 3: `random=`, `cluster=` and the table mean the same by one name."""

    def test_a_moderator_called_study_id_is_the_study(self):
        frame = dependent()
        right = am.che(am.escalc(frame))
        finished = am.escalc(frame)
        made = am.EffectSizes.from_arrays(finished.yi, finished.vi, mods=frame[["study_id"]])
        unique = am.escalc(frame.assign(slab=[f"row {i}" for i in range(32)]))
        assert made.n_studies == unique.n_studies == 8
        for es in (made, unique):
            fit = am.che(es)
            assert fit.n_clusters == 8
            np.testing.assert_allclose([fit.beta, fit.se], [right.beta, right.se], rtol=CLOSED_FORM)
        alone = am.EffectSizes.from_arrays(finished.yi, finished.vi)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            single = am.RandomEffectsModel(alone, test="z").fit()
        assert right.se[0] > 1.5 * single.se[0]

    def test_a_clash_is_refused(self):
        mods = {"study_id": ["a", "a", "b", "b"]}
        with pytest.raises(InputError, match="one name has one meaning"):
            am.EffectSizes.from_arrays([0.1] * 4, [0.1] * 4, mods=mods, study_id=["x", "y", "x", "y"])
        same = am.EffectSizes.from_arrays([0.1] * 4, [0.1] * 4, mods=mods, study_id=[1, 1, 2, 2])
        assert same.n_studies == 2

    def test_a_study_named_beside_the_sheets_own_keeps_both(self):
        frame = dependent(lab=["p"] * 16 + ["q"] * 16)
        es = am.escalc(frame, study_id="lab")
        assert es.n_studies == 2
        assert [note.code for note in es.notes] == ["study-renamed"]
        assert es.moderators["sheet_study_id"].nunique() == 8
        assert am.impute_V(es, rho=0.5).codes.max() == 1

    def test_a_name_that_is_nothing_is_answered_alike(self):
        es = am.escalc(dependent())
        for call in (
            lambda: am.impute_V(es, cluster="studyid", rho=0.5),
            lambda: am.MultilevelModel(es, random="studyid").fit(),
        ):
            with pytest.raises(InputError, match="='studyid' is not a column; did you mean 'study_id'"):
                call()


class TestYears:
    @pytest.mark.parametrize(
        "year", [[-4.5, -4.5, 2.5, 0, 1], [2001.5, 2003.0, 2002.0, 2001.0, 2001.0], [None] * 5, [1, 2, 3, 4, 5]]
    )
    def test_a_moderator_called_year_separates_and_glues_nothing(self, year):
        assert len(set(study_keys(["A", "A", "A", "B", "B"], year))) == 2
        assert study_keys(["A", "A", "A", "B", "B"], year)[0] == "A"

    def test_years_are_read_as_they_are_typed(self):
        assert publication_years([2000, 2000.0, "2000a", "2000.0", "in press", None, 12, -999]) == [
            *("2000", "2000", "2000a", "2000"),
            *[None] * 4,
        ]

    def test_digits_in_one_label_change_nothing_for_other_rows(self):
        years = [2015, 2016, 2010, 2011]
        plain = study_keys(["Roth", "Roth", "Bo", "Cy"], years)
        assert plain == study_keys(["Roth", "Roth", "Bo", "Cy"], years)
        assert study_keys(["Roth", "Roth", "Bo 2010", "Cy"], years)[:2] == plain[:2] == ("Roth 2015", "Roth 2016")

    def test_labels_that_look_alike_with_the_year_stay_apart(self):
        assert len(set(study_keys(["Ada 2001", "Ada"], [None, 2001]))) == 2

    def test_a_row_without_a_year_among_several_is_said(self, tmp_path):
        path = sheet(tmp_path, ROTH.replace("Roth,2016,.1,70", "Roth,,.1,70"))
        (problem,) = [one for one in examine(path).problems if one.kind == "study-year"]
        assert problem.row == 4
        es = read(path)
        assert es.study_id[2] == es.study_id[1] == "Roth 2016"
        assert "study-year" in [note.code for note in es.notes]

    def test_an_identifier_is_never_split_by_a_year(self):
        frame = pd.DataFrame({"study_id": ["a", "a", "b"], "year": [2001, 2002, 2003], "r": [0.1] * 3, "n": [30] * 3})
        assert am.escalc(frame).study_id == ("a", "a", "b")


class TestHeaders:
    @pytest.mark.parametrize(
        "header",
        HEADERS,
    )
    def test_usual_headers_are_the_study(self, tmp_path, header):
        name = f'"{header}"' if "," in header else header
        path = sheet(tmp_path, f"{name},r,n\nA,.1,40\nA,-.2,40\nB,.3,50\n")
        contents = examine(path).contents
        assert contents is not None
        assert (contents.studies, contents.people) == (2, 90)
        assert read(path).n_studies == am.escalc(pd.read_csv(path)).n_studies == 2

    def test_the_contracts_own_name_goes_first(self):
        frame = pd.DataFrame({"reference": list("abc"), "study": list("xxy"), "r": [0.1] * 3, "n": [30] * 3})
        assert am.escalc(frame).study_id == ("x", "x", "y")

    def test_without_a_study_column_it_is_said_loudly(self, tmp_path):
        path = sheet(tmp_path, "quelle,r,n\nA,.1,40\nA,-.2,40\nB,.3,50\n")
        (problem,) = [one for one in examine(path).problems if one.kind == "no-study"]
        assert "each of the 3 rows counts as a study of its own" in problem.message
        with pytest.warns(SuspiciousInputWarning, match="no column of studies"):
            table = am.read_coded(path)
        with pytest.warns(DependenceWarning, match="No column says which study"):
            es = am.escalc(table)
        assert "no-study-column" in [note.code for note in es.notes]
        assert am.check_coded(path, study="quelle") == []
        named = am.escalc(am.read_coded(path, study="quelle"))
        assert (named.n_studies, named.notes) == (2, ())
        with pytest.raises(CodingError, match="no column 'Quelle'"):
            am.read_coded(path, study="Quelle")

    def test_one_row_needs_no_study(self):
        assert am.escalc(pd.DataFrame({"r": [0.1], "n": [30]})).notes == ()


class TestEmpty:
    WORDS = "the study is empty: no one can tell whose effect this is"

    @pytest.mark.parametrize("gone", ["", " ", None, np.nan])
    def test_an_empty_study_is_refused_in_the_same_words(self, gone):
        frame = pd.DataFrame({"study": ["a", gone, "a"], "r": [0.1, 0.2, 0.3], "n": [30, 40, 50]})
        with pytest.raises(CodingError, match=self.WORDS) as error:
            am.escalc(frame)
        assert error.value.problems[0].row == 3
        with pytest.raises(CodingError, match=self.WORDS):
            am.EffectSizes.from_arrays([0.1] * 3, [0.1] * 3, study_id=["a", gone, "a"])

    def test_a_row_that_is_not_used_stops_nothing(self, tmp_path):
        path = sheet(tmp_path, "study,r,n\na,.1,30\n,,\nb,-.2,40\n,,70\n")
        found = examine(path)
        assert not found.errors
        assert found.contents is not None
        assert (found.contents.effects, found.contents.studies, found.contents.people) == (2, 2, 70)


class TestPeople:
    def test_each_sample_counts_once(self):
        frame = pd.DataFrame(
            {
                "study": ["A"] * 4 + ["B"] * 2 + ["C"] * 2,
                "sample_id": ["1", "1", "2", "2", None, None, "x", "y"],
                "r": np.linspace(0.1, 0.4, 8),
                "n": [50, 48, 50, 50, 30, 30, 20, 20],
            }
        )
        # A: two samples of 50 by name; B: one of 30 by its n; C: two of 20 by name.
        assert am.escalc(frame).people == 100 + 30 + 40
        # Without names: within a study, the same n is the same people.
        assert am.escalc(frame.drop(columns="sample_id")).people == 50 + 48 + 30 + 20

    def test_every_table_of_a_fit_has_the_count(self):
        frame = dependent()
        es = am.escalc(frame)
        once, rows = int(frame.groupby("study_id")["n"].first().sum()), int(frame["n"].sum())
        assert es.people == once < rows
        with pytest.warns(DependenceWarning):
            single = am.RandomEffectsModel(es).fit()
        with pytest.warns(DependenceWarning):
            exact = am.BayesianModel(es).fit()
        three = am.BayesianModel(es, random="study_id/es_id").fit()
        for fit in (single, exact, three, am.che(es), am.MultilevelModel(es).fit(), am.RVEModel(es).fit()):
            row = fit.glance().iloc[0]
            assert (row["studies"], row["people"]) == (8, once)
            assert f"32 effects from 8 studies, {once} people" in " ".join(fit.summary().split())
        assert "k = 32 effects from 8 studies" in single.methods_text()


class TestDependence:
    @pytest.fixture
    def es(self):
        return am.escalc(dependent(x=np.linspace(-1, 1, 32), half=["a", "b"] * 16))

    @pytest.mark.parametrize(
        "fit",
        [
            lambda es: am.RandomEffectsModel(es).fit(),
            lambda es: am.RandomEffectsModel(es, mods="x", method="EE", test="z").fit(),
            lambda es: am.models.ExactCorrelationModel(es).fit(),
            lambda es: am.LocationScaleModel(es, scale="x").fit(),
            lambda es: am.BayesianModel(es).fit(),
            lambda es: am.bayes.average(es, dependent="ignore"),
            lambda es: am.bayes.robma(es, dependent="ignore", bias=()),
            lambda es: am.moderators.select_models(es, candidates=["x", "half"]),
        ],
    )
    def test_no_route_takes_dependent_effects_as_independent_in_silence(self, es, fit):
        with pytest.warns(DependenceWarning, match="32 effects from 8 studies were taken as independent") as caught:
            found = fit(es)
        (note,) = [note for note in found.notes if note.code == "dependent-effects"]
        for way in ("che", "MultilevelModel", "aggregate", "select_effects", "study_id/es_id"):
            assert way in note.message
        assert Path(caught[-1].filename) == Path(__file__)

    @pytest.mark.parametrize(
        "fit",
        [
            lambda es: am.che(es),
            lambda es: am.MultilevelModel(es).fit(),
            lambda es: am.RVEModel(es).fit(),
            lambda es: am.BayesianModel(es, random="study_id/es_id").fit(),
            lambda es: am.RandomEffectsModel(am.aggregate(es, rho=0.6)).fit(),
            lambda es: am.RandomEffectsModel(es.take([4 * i for i in range(8)])).fit(),
        ],
    )
    def test_nothing_is_said_where_dependence_is_modelled_or_gone(self, es, fit):
        with warnings.catch_warnings():
            warnings.simplefilter("error", DependenceWarning)
            assert "dependent-effects" not in [note.code for note in fit(es).notes]

    def test_robust_standard_errors_take_the_note_away(self, es):
        with pytest.warns(DependenceWarning):
            fit = am.RandomEffectsModel(es).fit()
        assert "dependent-effects" not in [note.code for note in fit.robust().notes]

    def test_subgroups_carry_the_note(self, es):
        with pytest.warns(DependenceWarning):
            fit = am.RandomEffectsModel(es).fit()
        with pytest.warns(DependenceWarning):
            found = subgroups(fit, by="half")
        assert "dependent-effects" in [note.code for note in found.notes]

    def test_bayes_factors_refuse_unless_told(self, es):
        with pytest.warns(DependenceWarning):
            fit = am.BayesianModel(es).fit()
        for call in (
            lambda: fit.bayes_factor("mu = 0"),
            lambda: am.bayes.average(es),
            lambda: am.bayes.robma(es),
        ):
            with pytest.raises(InputError, match=r"32 come from 8 studies.*dependent='ignore'"):
                call()
        assert fit.bayes_factor("mu = 0", dependent="ignore").bf10 > 1
        assert "no Bayes factor" in fit.summary()
        assert "8 studies" in fit.glance()["bf01_mu"].iloc[0].reason
        with pytest.raises(InputError, match="dependent='yes' is not known"):
            fit.bayes_factor("mu = 0", dependent="yes")
        alone = am.escalc(pd.DataFrame({"study": list("abcd"), "r": [0.1, 0.2, 0.3, 0.1], "n": [40, 50, 60, 70]}))
        assert am.BayesianModel(alone).fit().bayes_factor("mu = 0").bf10 > 0

    def test_every_model_for_pymc_that_has_no_grouping_says_so(self, es):
        pytest.importorskip("pymc")
        with pytest.warns(DependenceWarning, match="32 effects from 8 studies"):
            model = am.bayes.pymc.normal_normal(es)
        assert "dependent-effects" in [note.code for note in model.recipe.notes]
        with warnings.catch_warnings():
            warnings.simplefilter("error", DependenceWarning)
            grouped = am.bayes.pymc.multilevel(es)
        assert "dependent-effects" not in [note.code for note in grouped.recipe.notes]
