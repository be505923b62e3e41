"""A moderator cut into its parts within and between studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, che, impute_V
from alliance_meta.effects import split_within
from tests.tolerances import CLOSED_FORM

# With the variances held, coefficients are closed forms and can be compared to the last digit.
HELD = {"sigma2[study_id]": 0.02, "sigma2[study_id/es_id]": 0.01}


def effects(seed=7, studies=9, k=40, equal=True) -> EffectSizes:
    rng = np.random.default_rng(seed)
    study = np.sort(np.append(np.arange(studies), rng.integers(0, studies, k - studies)))
    frame = pd.DataFrame(
        {
            "rater": rng.choice(["client", "observer", "therapist"], k),
            "session": rng.integers(1, 20, k),
            "year": 1990 + study,
        }
    )
    v = rng.uniform(0.005, 0.03, studies)[study] if equal else rng.uniform(0.005, 0.03, k)
    y = 0.3 + rng.normal(0, 0.15, studies)[study] + 0.01 * frame["session"] + rng.normal(0, 0.15, k)
    return EffectSizes.from_arrays(y, v, mods=frame, measure="ZCOR", study_id=[f"s{i}" for i in study])


@pytest.fixture
def es() -> EffectSizes:
    return effects()


def by_study(es, name):
    return es.frame.groupby("study_id")[name]


class TestParts:
    def test_numbers(self, es):
        out = split_within(es, "session")
        frame = out.moderators
        np.testing.assert_allclose(frame["session_within"] + frame["session_between"], frame["session"], rtol=1e-12)
        np.testing.assert_allclose(by_study(out, "session_within").mean(), 0, atol=1e-12)
        np.testing.assert_allclose(frame["session_between"], by_study(es, "session").transform("mean"), rtol=1e-12)

    def test_levels(self, es):
        out = split_within(es, "rater", reference="observer").frame
        for level in ("client", "therapist"):
            share = (es.frame["rater"] == level).groupby(list(es.study_id)).transform("mean")
            np.testing.assert_allclose(out[f"rater_{level}_between"], share, rtol=1e-12)
            np.testing.assert_allclose(out[f"rater_{level}_within"], (out["rater"] == level) - share, atol=1e-12)
        assert "rater_observer_within" not in out

    def test_nothing_else_changes(self, es):
        out = split_within(es, "session")
        pd.testing.assert_frame_equal(out.frame[list(es.frame.columns)], es.frame)
        assert out.provenance.steps[-1] == "split_within session by study_id"

    def test_yes_and_no_are_numbers(self):
        one = EffectSizes.from_arrays(
            [0.1, 0.2, 0.3], [0.01] * 3, study_id=["a", "a", "b"], mods={"late": [True, False, True]}
        )
        assert split_within(one, "late").moderators["late_within"].tolist() == [0.5, -0.5, 0.0]

    def test_names_fit_into_formulas(self):
        one = EffectSizes.from_arrays(
            [0.1, 0.2, 0.3, 0.2],
            [0.01] * 4,
            study_id=["a", "a", "b", "b"],
            mods={"the rater": ["client", "client; observer"] * 2},
        )
        out = split_within(one, "the rater")
        assert list(out.moderators)[1:] == ["the_rater_client_observer_within", "the_rater_client_observer_between"]
        assert MultilevelModel(out, mods="the_rater_client_observer_within").fit().p == 2

    def test_other_clusters(self, es):
        halves = np.repeat(["a", "b"], 20)
        out = split_within(es, "session", cluster=halves)
        assert sorted(set(out.moderators["session_between"].round(9))) == sorted(
            es.frame.groupby(halves)["session"].mean().round(9)
        )

    def test_gaps_have_neither_part(self, es):
        frame = es.moderators
        frame["session"] = frame["session"].astype(float)
        frame.loc[3, "session"] = np.nan
        out = split_within(replace(es, _moderators=frame), "session")
        assert out.moderators[["session_within", "session_between"]].isna().all(axis=1).tolist() == [
            i == 3 for i in range(40)
        ]
        np.testing.assert_allclose(by_study(out, "session_within").mean(), 0, atol=1e-12)
        assert {note.code for note in out.notes} == {"split-within", "split-within-empty"}

    def test_the_note_counts_what_tells_about_the_part_within(self):
        one = EffectSizes.from_arrays(
            [0.1, 0.2, 0.3, 0.2],
            [0.01] * 4,
            study_id=["a", "a", "b", "b"],
            mods={"rater": ["client", "observer", "client", "client"]},
        )
        (note,) = split_within(one, "rater").notes
        assert "1 of 2 clusters" in note.message
        assert note.message.endswith("(2 of 4 effects): a.")
        assert "mods='rater_observer_within + rater_observer_between'" in note.message


class TestModel:
    def within(self, es, column="session", name="session_within", mods="session_within + session_between", **more):
        fit = MultilevelModel(split_within(es, column), mods=mods, fixed=HELD, **more).fit()
        return fit.beta[fit.names.index(name)], fit.se[fit.names.index(name)]

    def test_what_is_added_to_a_study_does_not_matter(self, es):
        moved = replace(es, yi=es.yi + 5.0 * (np.array(es.study_id) == "s3"))
        for V in (None, impute_V(es, rho=0.6)):
            assert self.within(moved, V=V) == pytest.approx(self.within(es, V=V), rel=1e-9)
        whole = MultilevelModel(es, mods="session", fixed=HELD).fit().beta[1]
        assert MultilevelModel(moved, mods="session", fixed=HELD).fit().beta[1] != pytest.approx(whole, rel=1e-3)

    def test_it_is_the_estimate_with_an_intercept_for_each_study(self, es):
        labelled = replace(es, _moderators=es.moderators.assign(study=list(es.study_id)))
        fixed = MultilevelModel(labelled, mods="study + session", random="es_id", fixed={"sigma2[es_id]": 0.01}).fit()
        assert self.within(es) == pytest.approx((fixed.beta[-1], fixed.se[-1]), rel=CLOSED_FORM)

    def test_raters_by_hand(self):
        """Pairs of equal precision: the contrast is the mean difference of the pairs."""
        y = np.array([0.1, 0.3, 0.2, 0.3, 0.5, 0.2])
        one = EffectSizes.from_arrays(
            y, np.full(6, 0.01), study_id=list("aabbcc"), mods={"rater": ["client", "observer"] * 3}
        )
        found = self.within(one, "rater", "rater_observer_within", "rater_observer_within")[0]
        assert found == pytest.approx(np.mean(y[1::2] - y[::2]), rel=CLOSED_FORM)

    def test_the_contextual_form_is_the_same_model(self, es):
        out = split_within(es, "session")
        cut = MultilevelModel(out, mods="session_within + session_between").fit()
        whole = MultilevelModel(out, mods="session + session_between").fit()
        assert whole.loglik == pytest.approx(cut.loglik, abs=1e-8)
        assert whole.beta[2] == pytest.approx(cut.beta[2] - cut.beta[1], rel=1e-6)

    def test_the_recipe_of_the_docstring(self):
        es = effects(studies=40, k=120)
        out = split_within(es, "rater", reference="client")
        fit = che(
            out,
            mods="rater_observer_within + rater_observer_between + rater_therapist_within + rater_therapist_between",
        )
        test = fit.test(["rater_observer_within", "rater_therapist_within"])
        assert test.df1 == 2
        assert 0 < test.pval < 1
        growth = MultilevelModel(
            split_within(es, "session"),
            mods="session_within + session_between",
            random=("1 + session_within | study_id", "es_id"),
            struct="GEN",
        ).fit()
        assert growth.fitted.converged


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda es: split_within(es.frame, "session"), "make them with escalc"),
            (lambda es: split_within(es, "sesion"), "did you mean 'session'"),
            (lambda es: split_within(es, "year"), "does not vary within any study_id"),
            (lambda es: split_within(es, "session", reference=1), "no reference level"),
            (lambda es: split_within(es, "rater", reference="clients"), "did you mean 'client'"),
            (lambda es: split_within(split_within(es, "session"), "session"), "already hold session_within"),
            (lambda es: split_within(es, "session", cluster="slab"), "does not vary within any slab"),
            (
                lambda es: split_within(es.take(es.moderators["rater"].to_numpy() == "client"), "rater"),
                "'client' throughout",
            ),
            (lambda es: split_within(replace(es, _moderators=pd.DataFrame({"x": [None] * 40})), "x"), "empty"),
            (
                lambda es: split_within(
                    replace(es, _moderators=pd.DataFrame({"x": ["a", "b c", "b-c", "a"] * 10})), "x"
                ),
                "both be called x_b_c",
            ),
        ],
    )
    def test_bad_input(self, es, call, message):
        with pytest.raises(InputError, match=message):
            call(es)
