"""`compare_dependence`: each row is the model written out by hand, and every word follows from a number."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from alliance_meta import (
    EffectSizes,
    InputError,
    MultilevelModel,
    NotApplicable,
    RandomEffectsModel,
    RVEModel,
    aggregate,
    che,
)
from alliance_meta.effects import select_effects
from alliance_meta.errors import FewStudiesWarning, NotIdentifiedWarning, TruncationWarning
from alliance_meta.sensitivity import compare_dependence
from tests.tolerances import CLOSED_FORM

ALL = ("one per study", "mean", "three-level", "three-level + CR2", "CHE + CR2", "RVE CORR", "RVE HIER")
RULE = {"rater": ["client", "observer", "therapist"], "time": "lowest"}


def effects(mu=0.3, seed=11, studies=14, k=45, measure="ZCOR", **more) -> EffectSizes:
    rng = np.random.default_rng(seed)
    study = np.sort(np.append(np.arange(studies), rng.integers(0, studies, k - studies)))
    frame = pd.DataFrame(
        {
            "rater": rng.choice(["client", "observer", "therapist"], k),
            "time": np.arange(k),
            "year": 1990 + study,
            **more,
        }
    )
    y = mu + rng.normal(0, 0.12, studies)[study] + rng.normal(0, 0.15, k)
    v = rng.uniform(0.005, 0.03, studies)[study]
    return EffectSizes.from_arrays(y, v, mods=frame, measure=measure, study_id=[f"s{i}" for i in study])


@pytest.fixture
def es() -> EffectSizes:
    return effects()


class TestTable:
    def test_each_row_is_the_model_written_out(self, es):
        table = compare_dependence(es, rho=0.4, select=RULE).tidy()
        three = MultilevelModel(es, random=("study_id", "es_id")).fit()
        written = {
            "one per study": RandomEffectsModel(select_effects(es, by=RULE)).fit(),
            "mean": RandomEffectsModel(aggregate(es, rho=0.4)).fit(),
            "three-level": three,
            "three-level + CR2": three.robust(),
            "CHE + CR2": che(es, rho=0.4),
            "RVE CORR": RVEModel(es, working="CORR", rho=0.4).fit(),
            "RVE HIER": RVEModel(es, working="HIER").fit(),
        }
        assert tuple(table.index) == ALL
        for name, fit in written.items():
            row, own, new = table.loc[name], fit.tidy().iloc[0], fit.predict().iloc[0]
            assert row["k"] == fit.k
            assert row["studies"] == 14
            for column in ("estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub"):
                assert row[column] == pytest.approx(own[column], rel=CLOSED_FORM), (name, column)
            assert (row["pi_lb"], row["pi_ub"]) == pytest.approx((new.pi_lb, new.pi_ub), rel=CLOSED_FORM)
            assert row["r_pi_ub"] == pytest.approx(math.tanh(new.pi_ub), rel=CLOSED_FORM)
            assert row["tau2"] == pytest.approx(fit.tau2 + (fit.omega2 if name == "RVE HIER" else 0), rel=CLOSED_FORM)

    def test_variances_between_and_within(self, es):
        result = compare_dependence(es, select=RULE)
        table, fits = result.tidy(), result.fits
        assert table.loc["three-level", ["tau2_between", "tau2_within"]].tolist() == fits["three-level"].sigma2.tolist()
        assert table.loc["RVE HIER", "tau2_within"] == fits["RVE HIER"].omega2
        for name in ("one per study", "mean", "RVE CORR"):
            assert isinstance(table.loc[name, "tau2_within"], NotApplicable)
            assert table.loc[name, "tau2"] == table.loc[name, "tau2_between"]

    def test_the_same_rule_in_both_spellings(self, es):
        short = compare_dependence(es, select=RULE, methods="one per study").tidy()
        long = compare_dependence(es, select={"by": RULE, "ties": "first"}, methods="one per study").tidy()
        pd.testing.assert_frame_equal(short, long)

    def test_other_settings_reach_the_models(self, es):
        moved = EffectSizes.from_arrays(es.yi, es.vi, mods=es.moderators.assign(team=list(es.study_id)), measure="ZCOR")
        result = compare_dependence(moved, cluster="team", method="ML", level=0.9, methods=("CHE + CR2", "mean"))
        assert result.fits["CHE + CR2"].fit.method == "ML"
        assert result.fits["mean"].level == 0.9
        assert result.fits["mean"].k == 14
        assert "90% CI" in result.summary()

    def test_raw_correlations_are_r_already(self):
        table = compare_dependence(effects(measure="COR"), methods="three-level").tidy()
        assert table["r"].tolist() == table["estimate"].tolist()

    def test_effects_without_a_scale_of_r(self):
        result = compare_dependence(effects(measure="GEN"), methods=("three-level", "mean"))
        assert "r" not in result.tidy()
        assert "r = " not in result.text()
        assert "r_pi" not in result.summary()


class TestLeftOut:
    def test_no_rule_no_selection(self, es):
        result = compare_dependence(es)
        assert list(result.left_out) == ["one per study"]
        assert "(select=)" in result.left_out["one per study"].reason
        assert isinstance(result.tidy().loc["one per study", "estimate"], NotApplicable)
        assert "One effect per study  left out" in result.summary()
        assert [note.code for note in result.notes].count("method-left-out") == 1

    def test_averages_of_a_moderator_that_differs_within_studies(self, es):
        result = compare_dependence(es, mods="rater", select=RULE, methods=("mean", "three-level", "one per study"))
        assert "rater differs within studies" in result.left_out["mean"].reason
        assert set(result.fits) == {"three-level", "one per study"}
        assert result.tidy().index.names == ["method", "term"]
        assert result.tidy().loc["three-level"].shape[0] == 3

    def test_a_term_that_one_method_lost(self):
        es = effects()
        kept = es.moderators["rater"].mask(es.moderators["rater"] == "therapist", "observer")
        kept[es.k - 1] = "therapist"
        es = EffectSizes.from_arrays(es.yi, es.vi, mods={"rater": kept}, study_id=es.study_id, measure="ZCOR")
        with pytest.warns(FewStudiesWarning, match="RVE correlated: Cluster s13 alone"):
            result = compare_dependence(
                es,
                mods="rater",
                select={"by": {"rater": ["client", "observer", "therapist"]}, "ties": "first"},
                methods=("one per study", "RVE CORR"),
            )
        cell = result.tidy().loc[("one per study", "rater[T.therapist]"), "estimate"]
        assert isinstance(cell, NotApplicable)
        assert "this method has no rater[T.therapist]" in cell.reason
        assert "Only one method gives the coefficient of rater[T.therapist], RVE correlated" in result.text()

    def test_a_moderator_of_studies_leaves_averages_alone(self, es):
        assert not compare_dependence(es, mods="year", methods=("mean", "CHE + CR2")).left_out


class TestWords:
    def of(self, frame, *, as_r=True):
        """Return what is said of a table made by hand, by the two methods it names."""
        from types import SimpleNamespace

        from alliance_meta.sensitivity.dependence import paragraph

        columns = ["estimate", "se", "ci_lb", "ci_ub", "ddf", "pi_lb", "pi_ub", "tau2", "tau2_within"]
        table = pd.DataFrame(frame, columns=columns, index=pd.MultiIndex.from_product([list(ALL[1:3]), ["intrcpt"]]))
        for r, name in {
            "r": "estimate",
            "r_lb": "ci_lb",
            "r_ub": "ci_ub",
            "r_pi_lb": "pi_lb",
            "r_pi_ub": "pi_ub",
        }.items():
            table[r] = table[name]
        one = SimpleNamespace(_table=table, terms=("intrcpt",), is_mean=True, as_r=as_r, level=0.95, fits={})
        return paragraph(one, None)

    @pytest.mark.parametrize(
        ("first", "second", "said"),
        [
            ((0.1, 0.3), (0.2, 0.4), "Every 95% confidence interval lies above 0."),
            ((-0.3, -0.1), (-0.4, -0.1), "Every 95% confidence interval lies below 0."),
            ((-0.1, 0.3), (-0.2, 0.4), "Every 95% confidence interval holds 0."),
            ((-0.1, 0.3), (0.2, 0.4), "holds 0 by Mean of each study, not by Three-level."),
            ((0.1, 0.3), (-0.2, -0.1), "lies above 0 by Mean of each study and below 0 by Three-level."),
        ],
    )
    def test_zero(self, first, second, said):
        rows = [(sum(ci) / 2, 0.1, *ci, 10.0, -1.0, 1.0, 0.1, 0.05) for ci in (first, second)]
        assert said in self.of(rows)

    def test_spread_widths_and_df(self):
        text = self.of(
            [(0.2, 0.1, 0.1, 0.3, 10.0, -0.5, 0.5, 0.1, 0.02), (0.25, 0.2, 0.05, 0.45, 20.0, -0.9, 0.9, 0.1, 0.08)]
        )
        assert "between r = 0.200 (Mean of each study) and r = 0.250 (Three-level), 0.25 of the largest" in text
        assert "[0.050, 0.450] (Three-level), is 2.00 times as wide as the narrowest, [0.100, 0.300]" in text
        assert "from 10.0 (Mean of each study) to 20.0 (Three-level)" in text
        assert "from [-0.500, 0.500] (Mean of each study) to [-0.900, 0.900] (Three-level)" in text
        assert "20% (Mean of each study) to 80% (Three-level) lies within studies" in text

    def test_what_does_not_differ_is_not_made_a_difference(self):
        text = self.of([(0.2, 0.1, 0.1, 0.3, 10.0, -0.5, 0.5, 0.1, 0.05)] * 2)
        assert "about equally wide" in text
        assert "Degrees of freedom" not in text
        assert "50% lies within" in text

    def test_a_selection_says_how_much_it_rests_on(self, es):
        assert "One effect per study rests on 14 of the 45 effects." in compare_dependence(es, select=RULE).text()

    def test_a_term_by_name(self, es):
        result = compare_dependence(es, mods="year", methods=("mean", "CHE + CR2"))
        assert "the coefficient of year lies" in result.text()
        assert "the coefficient of intrcpt lies" in result.text("intrcpt")
        with pytest.raises(InputError, match="did you mean 'year'"):
            result.text("yaer")

    def test_what_a_method_warns_of_is_said_with_its_name(self):
        with pytest.warns(TruncationWarning, match=r"Mean of each study: tau2 \(REML\) was set to 0"):
            result = compare_dependence(effects(), rho=1.0, methods=("mean", "RVE CORR"))
        assert [note.message for note in result.notes if note.code == "tau2-truncated"]


class TestPrinting:
    @pytest.mark.parametrize("mods", ["1", "rater + year"])
    def test_summary_fits_and_everything_goes_through_json(self, es, mods):
        result = compare_dependence(es, mods=mods, select=RULE)
        assert max(map(len, str(result).splitlines())) <= 80
        assert repr(result) == str(result)
        data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert len(data["methods"]) == 7 * len(result.terms)
        assert data["text"] == result.text()

    def test_synthetic_data_and_cautions_are_said(self):
        from alliance_meta import escalc, load_dataset

        es = escalc(load_dataset("crede2010"))
        assert "Caution: Validation set from another field" in str(compare_dependence(es, methods="three-level"))

    def test_notes_name_the_methods_concerned(self, es):
        notes = {note.code: note.message for note in compare_dependence(es, select=RULE).notes}
        assert notes["assumed-V"].startswith("CHE + CR2: The correlation of sampling errors was assumed")
        assert notes["selected-effects"].startswith("One effect per study: 31 of 45 effects left out")


class TestEdges:
    def test_nothing_dependent(self):
        es = effects(studies=20, k=20)
        with pytest.warns(NotIdentifiedWarning, match="Three-level"):
            result = compare_dependence(es, select=RULE)
        assert "nothing-dependent" in {note.code for note in result.notes}
        table = result.tidy()
        assert table.loc["mean", "estimate"] == pytest.approx(table.loc["one per study", "estimate"], rel=CLOSED_FORM)
        assert table.loc["three-level", "estimate"] == pytest.approx(table.loc["mean", "estimate"], rel=1e-6)

    def test_the_order_of_rows_does_not_matter(self, es):
        order = np.random.default_rng(0).permutation(es.k)
        one, other = (compare_dependence(e, select=RULE).tidy() for e in (es, es.take(order)))
        for column in ("estimate", "se", "ddf", "tau2"):
            np.testing.assert_allclose(one[column].astype(float), other[column].astype(float), rtol=1e-6)

    def test_an_rho_of_one_leaves_out_what_cannot_be(self):
        es = effects(studies=25, k=80)
        result = compare_dependence(es, rho=1.0, methods=("mean", "CHE + CR2", "RVE CORR"))
        assert set(result.left_out) == {"CHE + CR2"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"rho": 1.2}, "between 0 and 1"),
            ({"rho": "high"}, "between 0 and 1"),
            ({"cluster": "study"}, "did you mean 'study_id'"),
            ({"cluster": ["a"] * 45}, "must name a column"),
            ({"mods": "raters"}, "did you mean 'rater'"),
            ({"methods": ("three level",)}, "did you mean 'three-level'"),
            ({"methods": ()}, "an empty list"),
            ({"select": {"by": RULE, "tie": "first"}}, "'tie' is no argument of select_effects"),
            ({"select": "first"}, "select must say"),
            ({"select": {"rater": ["client"]}}, "not in the order declared"),
            ({"method": "DL"}, "method='DL'"),
            ({"level": 95}, "level"),
            ({"methods": "one per study"}, "no method could be used"),
        ],
    )
    def test_bad_arguments(self, es, arguments, message):
        with pytest.raises(InputError, match=message):
            compare_dependence(es, **arguments)

    def test_not_effects(self):
        with pytest.raises(InputError, match="make them with escalc"):
            compare_dependence(pd.DataFrame())
