"""What a multilevel model refuses, notes and prints."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special

from alliance_meta import EffectSizes, InputError, MultilevelModel, impute_V
from alliance_meta.effects import SamplingCovariance
from alliance_meta.errors import NotIdentifiedWarning, NotPositiveDefiniteWarning
from alliance_meta.notes import NotApplicable


def effects(k=24, studies=8, seed=1) -> EffectSizes:
    rng = np.random.default_rng(seed)
    study = np.arange(k) % studies
    frame = pd.DataFrame(
        {
            "rater": np.where(np.arange(k) % 3 == 0, "client", "observer"),
            "year": 2000 + study,
            "x": rng.normal(size=k),
            "measure": rng.choice(["WAI", "HAq"], k),
        }
    )
    y = 0.3 + rng.normal(0, 0.15, studies)[study] + rng.normal(0, 0.15, k)
    return EffectSizes.from_arrays(
        y, rng.uniform(0.005, 0.02, k), mods=frame, measure="ZCOR", study_id=[f"s{i}" for i in study]
    )


@pytest.fixture
def es():
    return effects()


def codes_of(fit):
    return {note.code for note in fit.notes}


class TestRefusals:
    def test_not_effects(self):
        with pytest.raises(InputError, match="make them with escalc"):
            MultilevelModel(pd.DataFrame())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"random": ()}, "random is empty"),
            ({"random": "studyid"}, "did you mean 'study_id'"),
            ({"random": ("study_id", "study_id")}, "twice"),
            ({"random": (3,)}, "random has 3, which is int; name columns in text"),
            ({"random": 3}, "random has 3, which is int"),
            ({"random": "measure | study_id", "struct": "XX"}, "struct='XX' is not one of"),
            ({"random": "measure | study_id", "struct": ("CS", "UN")}, "2 names for 1 term"),
            ({"random": "study_id", "struct": "CS"}, "no random term has the form"),
            ({"random": "measure | study_id", "struct": "CAR"}, "needs numbers"),
            ({"R": {"author": pd.DataFrame()}}, "which random does not name"),
            ({"R": {"study_id": np.eye(8)}}, "must be a DataFrame"),
            ({"R": {"study_id": pd.DataFrame(np.eye(2), ["s0", "s1"], ["s0", "s1"])}}, "no row and column for 's2'"),
            ({"fixed": {"sigma2[study]": 0.1}}, "did you mean 'sigma2\\[study_id\\]'"),
            ({"fixed": {"sigma2[study_id]": -0.1}}, "is below 0"),
            ({"dfs": "kenward"}, "dfs='kenward'"),
            ({"method": "DL"}, "method='DL'"),
            ({"test": "knha"}, "test='knha'"),
            ({"V": np.eye(3)}, "V has 3 rows for 24 effects"),
        ],
    )
    def test_bad_arguments(self, es, arguments, message):
        with pytest.raises(InputError, match=message):
            MultilevelModel(es, **arguments).fit()

    def test_an_indefinite_correlation_of_groups(self, es):
        levels = sorted(set(es.study_id))
        R = pd.DataFrame(np.full((8, 8), -0.9) + 1.9 * np.eye(8), levels, levels)
        with pytest.raises(InputError, match="not positive semi-definite"):
            MultilevelModel(es, R={"study_id": R}).fit()

    def test_an_indefinite_V(self, es):
        V = np.diag(es.vi)
        V[0, 8] = V[8, 0] = 1.5 * np.sqrt(es.vi[0] * es.vi[8])
        with pytest.raises(InputError, match="positive definite"):
            MultilevelModel(es, V=V)._covariance()

    def test_missing_levels_are_named(self, es):
        frame = es.moderators.copy()
        frame.loc[2, "measure"] = None
        es = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id)
        with pytest.raises(InputError, match=r"random='measure' is empty for 1 of 24 effects \(Study 3\)"):
            MultilevelModel(es, random=("study_id", "measure")).fit()

    def test_as_many_coefficients_as_effects(self):
        es = EffectSizes.from_arrays([0.1], [0.01])
        with pytest.raises(InputError, match="nothing to estimate random terms from"):
            MultilevelModel(es).fit()


class TestEdges:
    def test_two_effects_of_one_study(self):
        es = EffectSizes.from_arrays([0.1, 0.5], [0.01, 0.02], study_id=["a", "a"], measure="ZCOR")
        fit = MultilevelModel(es, random="es_id").fit()
        assert np.isfinite(fit.beta).all()
        assert fit.ddf.tolist() == [1.0]

    def test_one_study_cannot_tell_its_level_from_the_mean(self):
        es = EffectSizes.from_arrays([0.1, 0.5, 0.3], [0.01] * 3, study_id=["a"] * 3, measure="ZCOR")
        with pytest.warns(NotIdentifiedWarning, match="study_id"):
            fit = MultilevelModel(es).fit()
        assert {"few-groups", "not-identified"} <= codes_of(fit)

    def test_equal_effects_vary_by_nothing(self):
        es = EffectSizes.from_arrays([0.3] * 6, [0.01] * 6, study_id=list("aabbcc"), measure="ZCOR")
        fit = MultilevelModel(es).fit()
        assert fit.sigma2.tolist() == [0.0, 0.0]
        assert "component-at-edge" in codes_of(fit)
        assert isinstance(fit.components.loc["sigma2[study_id]", "se"], NotApplicable)
        assert isinstance(fit.icc.iloc[0], NotApplicable)
        assert fit.ranef()["study_id"]["pred"].abs().max() == 0

    @pytest.mark.parametrize("struct", ["ID", "DIAG", "CS", "UN"])
    def test_effects_that_do_not_vary_have_no_interval(self, struct):
        flat = EffectSizes.from_arrays(
            [0.3, 0.3, 0.31, 0.3, 0.3, 0.29],
            [0.01] * 6,
            study_id=list("aabbcc"),
            measure="ZCOR",
            mods={"rater": list("cococo")},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotIdentifiedWarning)
            fit = MultilevelModel(flat, random="rater | study_id", struct=struct).fit()
        found = fit.ranef()["rater | study_id"]
        assert found["pred"].abs().max() < 1e-9
        assert found[["se", "pi_lb", "pi_ub"]].isna().all(axis=None)
        assert "variance of 0" in found.attrs["notes"][0]

    def test_effects_that_vary_have_intervals_and_no_note(self, es):
        for found in MultilevelModel(es, fixed={"sigma2[study_id]": 0.02}).fit().ranef().values():
            if found["pred"].abs().max() > 0:
                assert (found["se"] > 0).all()
                assert "notes" not in found.attrs

    def test_a_study_with_200_effects(self):
        rng = np.random.default_rng(4)
        study = [0] * 200 + list(range(1, 31))
        y = rng.normal(0, 0.2, 31)[study] + rng.normal(0.2, 0.1, 230)
        es = EffectSizes.from_arrays(y, np.full(230, 0.01), study_id=study, measure="ZCOR")
        fit = MultilevelModel(es, V=impute_V(es, rho=0.6)).fit()
        assert fit.fitted.converged
        largest = fit.weights[:200].sum()
        assert largest < 10, "200 effects of one study weigh like a study, not like 200"

    @pytest.mark.parametrize("rho", [0.0, 0.999])
    def test_extreme_correlations(self, es, rho):
        fit = MultilevelModel(es, V=impute_V(es, rho=rho)).fit()
        assert fit.fitted.converged
        plain = MultilevelModel(es).fit()
        if rho == 0:
            np.testing.assert_allclose(fit.beta, plain.beta, rtol=1e-8)
        else:
            assert fit.se[0] != plain.se[0]

    def test_a_singular_V_without_a_row_level(self):
        es = EffectSizes.from_arrays([0.1, 0.2, 0.4, 0.5], [0.01] * 4, study_id=list("aabb"), measure="ZCOR")
        with pytest.warns(NotPositiveDefiniteWarning):
            V = SamplingCovariance.from_blocks([0.01 * np.ones((2, 2))] * 2, check="warn")
        with pytest.raises(InputError, match="cannot be inverted"):
            MultilevelModel(es, V=V, random="study_id").fit()
        fit = MultilevelModel(es, V=V, random=("study_id", "es_id")).fit()
        assert np.isfinite(fit.se).all()
        assert isinstance(fit.QE, NotApplicable)
        assert "n/a" in fit.summary()

    def test_the_same_factor_under_two_names(self, es):
        twin = EffectSizes.from_arrays(
            es.yi, es.vi, mods=es.moderators.assign(lab=[f"lab {s}" for s in es.study_id]), study_id=es.study_id
        )
        with pytest.warns(NotIdentifiedWarning):
            fit = MultilevelModel(twin, random=("study_id", "lab", "es_id")).fit()
        [note] = [note for note in fit.notes if note.code == "not-identified"]
        assert "sigma2[study_id]" in note.message
        assert "sigma2[lab]" in note.message

    def test_rows_without_a_moderator_are_dropped_with_their_covariance(self, es):
        frame = es.moderators.copy()
        frame.loc[4, "x"] = np.nan
        es = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
        with pytest.warns(match="x"):
            fit = MultilevelModel(es, V=impute_V(es, rho=0.5), mods="x").fit()
        assert fit.k == 23
        assert fit.V.k == 23

    def test_held_parameters(self, es):
        fit = MultilevelModel(es, fixed={"sigma2[study_id]": 0.02}).fit()
        assert fit.sigma2[0] == 0.02
        assert isinstance(fit.confint().loc["sigma2[study_id]", "lb"], NotApplicable)
        both = MultilevelModel(es, fixed={"sigma2[study_id]": 0.02, "sigma2[study_id/es_id]": 0.01}).fit()
        assert both.sigma2.tolist() == [0.02, 0.01]


class TestResults:
    @pytest.mark.parametrize(
        "random",
        [
            ("study_id", "es_id"),
            ("study_id", "measure", "es_id"),
            ("measure | study_id", "es_id"),
            ("1 + x | study_id", "es_id"),
        ],
    )
    def test_everything_prints_and_is_json(self, es, random):
        fit = MultilevelModel(es, mods="rater", random=random).fit()
        for text in (fit.summary(), fit.methods_text(), fit.r_code(), fit._repr_html_()):
            assert "nan" not in text
        assert max(len(line) for line in fit.summary().splitlines()) <= 80
        json.dumps(fit.to_dict(), allow_nan=False)
        assert fit.tidy().shape == (2, 7)
        assert len(fit.augment()) == es.k
        assert list(fit.ranef())

    def test_containment_counts_what_a_moderator_can_tell(self, es):
        fit = MultilevelModel(es, mods="year + rater").fit()
        assert fit.ddf.tolist() == [8 - 3, 8 - 3, 24 - 3]
        assert MultilevelModel(es, mods="year + rater", dfs="residual").fit().ddf.tolist() == [21.0] * 3
        assert fit.test("year").df2 == 5
        assert np.isinf(MultilevelModel(es, test="z").fit().ddf).all()

    def test_prediction_interval_adds_every_variance(self, es):
        fit = MultilevelModel(es, test="z").fit()
        row = fit.predict().iloc[0]
        half = (row.pi_ub - row.pi_lb) / 2
        assert half == pytest.approx(1.959963985 * np.sqrt(row.se**2 + fit.sigma2.sum()), rel=1e-8)

    def test_known_studies_are_predicted_better_than_new_ones(self, es):
        fit = MultilevelModel(es).fit()
        new, known = fit.predict().iloc[0], fit.predict_within()
        assert ((known.pi_ub - known.pi_lb) < (new.pi_ub - new.pi_lb)).all()
        np.testing.assert_allclose(known["pred"], fit.blup()["pred"])

    def test_outcomes_differ_in_their_intervals(self, es):
        fit = MultilevelModel(es, random=("measure | study_id", "es_id"), struct="DIAG").fit()
        assert isinstance(fit.tau2, NotApplicable)
        assert np.isnan(fit.predict().pi_lb.iloc[0])
        rows = fit.predict({"measure": ["WAI", "HAq"]})
        assert np.isfinite(rows.pi_lb).all()

    def test_a_profile_bound_is_where_the_likelihood_has_fallen(self, es):
        fit = MultilevelModel(es).fit()
        bound = fit.confint().loc["sigma2[study_id/es_id]", "ub"]
        held = MultilevelModel(es, fixed={"sigma2[study_id/es_id]": bound}).fit()
        assert 2 * (fit.loglik - held.loglik) == pytest.approx(3.841458820694124, abs=1e-7)


class TestEveryTermItsOwn:
    def test_containment_counts_pairs_of_inner_and_outer(self):
        study = np.repeat(np.arange(10), 12)
        rater = np.where(np.arange(120) % 2 == 0, "client", "observer")
        rng = np.random.default_rng(2)
        es = EffectSizes.from_arrays(
            rng.normal(0.3, 0.2, 120), np.full(120, 0.01), mods={"rater": rater}, study_id=[f"s{i}" for i in study]
        )
        fit = MultilevelModel(es, mods="rater", random="rater | study_id").fit()
        # 20 pairs less 2 coefficients, as metafor counts; not 120 rows.
        assert fit.ddf.tolist() == [8.0, 18.0]

    def test_each_term_has_intervals_with_its_own_degrees_of_freedom(self, es):
        names = MultilevelModel(es).fit().components.index
        found = MultilevelModel(es, fixed=dict.fromkeys(names, 0.02)).fit().ranef()
        for name, df in zip(found, (8 - 1, 24 - 1), strict=True):
            half = (found[name]["pi_ub"] - found[name]["pred"]) / found[name]["se"]
            assert half.iloc[0] == pytest.approx(special.stdtrit(df, 0.975), rel=1e-9)

    def test_groups_with_given_correlations_are_predicted(self, es):
        levels = sorted(set(es.study_id))
        alone = pd.DataFrame(np.eye(8), levels, levels)
        plain, given = MultilevelModel(es).fit(), MultilevelModel(es, R={"study_id": alone}).fit()
        ours, theirs = given.ranef()["study_id"], plain.ranef()["study_id"]
        np.testing.assert_allclose(ours, theirs.loc[ours.index], rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(given.blup(), plain.blup().loc[given.blup().index], rtol=1e-5)
        assert given.predict_within().shape == plain.predict_within().shape

    def test_CS_names_the_whole_effect_as_HCS_does(self, es):
        fit = MultilevelModel(es, random="rater | study_id", fixed={"rho[rater | study_id]": -0.4}).fit()
        ours = fit.ranef()["rater | study_id"]
        assert list(fit.ranef()) == ["rater | study_id"]
        assert (ours["se"] > 0).all()
        names = [f"tau2[rater | study_id: {level}]" for level in ("client", "observer")]
        same = dict.fromkeys(names, fit.tau2) | {"rho[rater | study_id]": -0.4}
        theirs = MultilevelModel(es, random="rater | study_id", struct="HCS", fixed=same).fit().ranef()
        expected = theirs["rater | study_id"].loc[ours.index]
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)
