"""What refits a multilevel model: what it gives at the edges, refuses, notes and prints."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, RandomEffectsModel, impute_V, sensitivity
from alliance_meta.core.distributions import chi2_sf, half_mixture_p
from alliance_meta.core.mixed.profile import ProfileCurve
from alliance_meta.effects import SamplingCovariance
from alliance_meta.errors import NotIdentifiedWarning, NotPositiveDefiniteWarning
from alliance_meta.notes import NotApplicable
from alliance_meta.results.multilevel_quantities import slots
from tests.plots.cases import quiet
from tests.tolerances import CLOSED_FORM, printed
from tests.unit.test_multilevel import effects


@pytest.fixture(scope="module")
def es():
    return effects(40, 10)


@pytest.fixture(scope="module")
def fit(es):
    return MultilevelModel(es).fit()


def prints(result):
    text = str(result)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "nan" not in text
    json.dumps(result.to_dict(), allow_nan=False)
    return text


class TestComponentTests:
    def test_the_mixture_of_one_variance_halves_the_p_value(self):
        # Stram & Lee (1994): 2.71 is the 5% point of half chi2(0), half chi2(1); 5.14 that of chi2(1) and chi2(2).
        assert half_mixture_p(2.705543, 1) == printed("0.0500")
        assert half_mixture_p(5.138, 2) == printed("0.0500")
        assert half_mixture_p(0.0, 1) == 1.0
        assert half_mixture_p(3.0, 3) == pytest.approx((chi2_sf(3.0, 2) + chi2_sf(3.0, 3)) / 2, rel=CLOSED_FORM)

    def test_each_row_is_the_model_without_the_term(self, es, fit):
        found = sensitivity.component_tests(fit)
        frame = found.tidy()
        for term in ("study_id", "study_id/es_id"):
            held = MultilevelModel(es, fixed={f"sigma2[{term}]": 0.0}).fit()
            assert frame.loc[term, "loglik"] == pytest.approx(held.loglik, abs=1e-9)
            assert frame.loc[term, "LRT"] == pytest.approx(2 * (fit.loglik - held.loglik), abs=1e-8)
            assert frame.loc[term, "pval"] == pytest.approx(frame.loc[term, "pval_naive"] / 2, rel=CLOSED_FORM)
            assert frame.loc[term, "reference"] == "half chi2(0), half chi2(1)"
        assert "0 + 1" in prints(found)

    def test_moderators_V_and_ML(self, es):
        fit = MultilevelModel(es, V=impute_V(es, rho=0.6), mods="x", method="ML").fit()
        without = MultilevelModel(es, V=impute_V(es, rho=0.6), mods="x", method="ML", random="es_id").fit()
        found = sensitivity.component_tests(fit)
        assert found.tidy().loc["study_id", "loglik"] == pytest.approx(without.loglik, abs=1e-9)
        assert found.method == "ML"

    def test_a_variance_of_0_is_not_needed(self):
        es = EffectSizes.from_arrays([0.3] * 6, [0.01] * 6, study_id=list("aabbcc"), measure="ZCOR")
        found = sensitivity.component_tests(MultilevelModel(es).fit()).tidy()
        assert found["LRT"].tolist() == [0.0, 0.0]
        assert found["pval"].tolist() == [1.0, 1.0]

    def test_an_estimate_on_the_boundary_has_a_p_value_of_1(self):
        """Not 0.5, whatever rounding leaves of the statistic."""
        on_it = set()
        for seed in range(8):
            rng = np.random.default_rng(seed)
            y = 0.2 + rng.normal(0, 0.14, 60)
            es = EffectSizes.from_arrays(y, np.full(60, 0.01), study_id=np.repeat(np.arange(20), 3), measure="ZCOR")
            fit = MultilevelModel(es).fit()
            row = sensitivity.component_tests(fit).tidy().loc["study_id"]
            on_it.add(bool(row["pval"] == 1.0))
            assert (row["pval"] == 1.0) == (fit.sigma2[0] < 1e-7), seed
        assert on_it == {True, False}

    def test_a_slope_has_a_test_of_its_own(self, es):
        fit = MultilevelModel(es, random=("1 + x | study_id", "es_id")).fit()
        found = sensitivity.component_tests(fit)
        frame = found.tidy()
        assert frame["df"].tolist() == [3, 2, 1]
        row = frame.loc["1 + x | study_id: x"]
        plain = MultilevelModel(es).fit()
        assert row["loglik"] == pytest.approx(plain.loglik, abs=1e-7)
        assert row["pval"] == pytest.approx((chi2_sf(row["LRT"], 1) + chi2_sf(row["LRT"], 2)) / 2, rel=CLOSED_FORM)
        assert frame.loc["1 + x | study_id", "reference"].startswith("at most")
        prints(found)

    @pytest.mark.parametrize(
        ("struct", "df", "known"), [("CS", 2, True), ("DIAG", 2, True), ("ID", 1, True), ("HCS", 3, False)]
    )
    def test_structures(self, es, struct, df, known):
        fit = MultilevelModel(es, random=("rater | study_id", "es_id"), struct=struct).fit()
        found = sensitivity.component_tests(fit)
        row = found.tidy().loc["rater | study_id"]
        assert row["df"] == df
        assert isinstance(row["pval"], NotApplicable) is not known
        rows = MultilevelModel(es, random="es_id").fit()
        assert row["loglik"] == pytest.approx(rows.loglik, abs=1e-8)
        assert 0 <= row["pval_naive"] <= 1
        if known:
            assert row["pval"] <= row["pval_naive"] + 1e-12
        prints(found)

    def test_what_was_given_is_not_tested(self, es):
        found = sensitivity.component_tests(MultilevelModel(es, fixed={"sigma2[study_id]": 0.01}).fit())
        assert found.tidy().loc["study_id", "LRT"].reason == "given, not estimated"
        assert found.tidy().loc["study_id/es_id", "df"] == 1
        prints(found)

    def test_other_variances_at_0_are_noted(self, es):
        fit = MultilevelModel(es, random=("study_id", "measure", "es_id")).fit()
        assert "mixture-at-edge" in {note.code for note in sensitivity.component_tests(fit).notes}

    def test_only_of_multilevel_models(self, es):
        with pytest.raises(
            InputError, match="component_tests needs a fitted MultilevelModel, not RandomEffectsResults"
        ):
            sensitivity.component_tests(quiet(RandomEffectsModel(es).fit))


class TestLevels:
    def test_one_model_for_each_choice(self, es):
        found = sensitivity.compare_levels(es, mods="x")
        frame = found.tidy(term="x")
        assert list(frame.index) == ["no heterogeneity", "study_id", "study_id/es_id", "study_id + study_id/es_id"]
        rows = quiet(RandomEffectsModel(es, mods="x", test="t").fit)
        for column, values in (("estimate", rows.beta), ("se", rows.se)):
            assert frame.loc["study_id/es_id", column] == pytest.approx(values[1], rel=1e-7)
        assert frame.loc["study_id/es_id", "sigma2[study_id/es_id]"] == pytest.approx(rows.tau2, rel=1e-6)
        equal = quiet(RandomEffectsModel(es, mods="x", method="EE", test="z").fit)
        assert frame.loc["no heterogeneity", "estimate"] == pytest.approx(equal.beta[1], rel=CLOSED_FORM)
        assert frame.loc["no heterogeneity", "se"] == pytest.approx(equal.se[1], rel=CLOSED_FORM)
        three = MultilevelModel(es, mods="x").fit()
        assert frame.loc["study_id + study_id/es_id", "se"] == three.se[1]
        assert frame.loc["study_id", "sigma2[study_id/es_id]"].reason == "not in this model"
        assert "–" in prints(found)

    def test_tests_are_those_of_the_terms(self, es, fit):
        frame, terms = sensitivity.compare_levels(es).tidy(), sensitivity.component_tests(fit).tidy()
        assert frame.loc["study_id/es_id", "LRT"] == pytest.approx(terms.loc["study_id", "LRT"], abs=1e-8)
        assert frame.loc["study_id/es_id", "LRTp"] == pytest.approx(terms.loc["study_id", "pval"], rel=1e-6)
        assert frame.loc["no heterogeneity", "df"] == 2
        assert frame.loc["study_id + study_id/es_id", "AIC"] == fit.glance()["AIC"].iloc[0]

    def test_a_singular_V_leaves_models_out(self):
        y = [0.1, 0.2, 0.4, 0.5, 0.2, 0.3]
        es = EffectSizes.from_arrays(y, [0.01] * 6, study_id=list("aabbcc"), measure="ZCOR")
        with pytest.warns(NotPositiveDefiniteWarning):
            V = SamplingCovariance.from_blocks([0.01 * np.ones((2, 2))] * 3, check="warn")
        found = sensitivity.compare_levels(es, V=V)
        assert list(found.fits) == ["study_id/es_id", "study_id + study_id/es_id"]
        assert "singular" in {note.code for note in found.notes}
        tests = sensitivity.component_tests(found.full).tidy()
        assert "cannot be inverted" in tests.loc["study_id/es_id", "LRT"].reason
        prints(found)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"levels": "rater | study_id"}, "compare_levels takes random intercepts"),
            ({"levels": ("study_id", "rater", "measure", "year", "es_id")}, "5 levels make 32 models"),
            ({"fixed": {"sigma2[es_id]": 0}}, "fixed= belongs to one model"),
            ({"levels": "studyid"}, "did you mean 'study_id'"),
        ],
    )
    def test_refusals(self, es, options, match):
        with pytest.raises(InputError, match=match):
            sensitivity.compare_levels(es, **options)

    def test_unknown_terms(self, es):
        with pytest.raises(InputError, match="term='y' is no coefficient"):
            sensitivity.compare_levels(es, mods="x").tidy(term="y")


class TestProfile:
    def curve(self, loglik, estimate=0.5, edges=(0.0, np.inf)):
        loglik = np.array(loglik)
        values = np.linspace(0.0, 1.0, loglik.size)
        return ProfileCurve(values, loglik, estimate, 0.0, 0.1, 0.9, -2.0, edges)

    def test_verdicts(self):
        assert self.curve([-2, -1, 0, -1, -2]).verdict == "peak"
        assert self.curve([0, -1, -2, -3, -4], estimate=0.0).verdict == "edge"
        assert self.curve([-2, -1, 0, 0, 0]).verdict == "flat"
        assert self.curve([-1e-3, 0, 0, -1, -2]).verdict == "flat"
        assert self.curve([-2, -1, 0, -1, 0.1]).verdict == "higher"
        assert self.curve([-2, -1, 0, -1, -0.5]).verdict == "several"
        assert self.curve([-4, -3, -2, -1, 0], estimate=1.0, edges=(-1.0, 1.0)).verdict == "edge"

    def test_a_sound_model(self, fit):
        found = sensitivity.profile(fit, points=9)
        assert found.identified
        assert found.components == ("sigma2[study_id]", "sigma2[study_id/es_id]")
        assert len(found.tidy()) == 18
        assert "one peak" in prints(found)
        one = sensitivity.profile(fit, components="sigma2[study_id/es_id]", points=5, level=0.8)
        narrow, wide = one.check().loc["sigma2[study_id/es_id]"], found.check().loc["sigma2[study_id/es_id]"]
        assert narrow["ub"] < wide["ub"]

    def test_a_factor_under_two_names_is_not_identified(self, es):
        twin = EffectSizes.from_arrays(
            es.yi, es.vi, mods=es.moderators.assign(lab=list(es.study_id)), study_id=es.study_id
        )
        with pytest.warns(NotIdentifiedWarning):
            fit = MultilevelModel(twin, random=("study_id", "lab", "es_id")).fit()
        with pytest.warns(NotIdentifiedWarning) as caught:
            found = sensitivity.profile(fit, points=9)
        assert not found.identified
        assert any("sigma2[study_id]" in str(one.message) for one in caught)
        assert any("sigma2[lab]" in str(one.message) for one in caught)
        prints(found)
        assert len(fit.confint().attrs["notes"]) == 2

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"points": 3}, "at least 5"),
            ({"components": "sigma2[studyid]"}, "did you mean 'sigma2\\[study_id\\]'"),
            ({"level": 95}, "level"),
        ],
    )
    def test_refusals(self, fit, options, match):
        with pytest.raises(InputError, match=match):
            sensitivity.profile(fit, **options)

    def test_many_columns_are_profiled_on_request_only(self, es):
        rng = np.random.default_rng(2)
        frame = es.moderators.assign(outcome=rng.choice(list("abcd"), 40))
        made = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
        fit = quiet(lambda: MultilevelModel(made, random=("outcome | study_id", "es_id"), struct="UN").fit())
        found = {slot.name: slot.costly for slot in slots(fit)}
        assert sum(found.values()) == 10
        assert not found["sigma2[es_id]"]

    def test_nothing_left_to_profile(self, es):
        given = MultilevelModel(es, fixed={"sigma2[study_id]": 0.01, "sigma2[study_id/es_id]": 0.01}).fit()
        with pytest.raises(InputError, match="there is nothing to profile"):
            sensitivity.profile(given)


class TestBootstrap:
    @pytest.mark.parametrize("kind", ["parametric", "nonparametric"])
    def test_the_same_on_one_core_or_two(self, fit, kind):
        seen = []
        one = sensitivity.bootstrap(
            fit, kind=kind, iterations=60, seed=5, progress=lambda done, of: seen.append((done, of))
        )
        two = sensitivity.bootstrap(fit, kind=kind, iterations=60, seed=5, cores=2)
        assert one.quantities == two.quantities
        for name in one.quantities:
            np.testing.assert_array_equal(one.samples[name], two.samples[name])
        assert seen[-1] == (60, 60)
        assert one.quantities[:3] == ("intrcpt", "sigma2[study_id]", "sigma2[study_id/es_id]")
        other = sensitivity.bootstrap(fit, kind=kind, iterations=60, seed=6)
        assert (other.samples["intrcpt"] != one.samples["intrcpt"]).any()

    def test_intervals_of_components(self, fit):
        boot = sensitivity.bootstrap(fit, iterations=200, seed=1)
        for name in ("sigma2[study_id]", "sigma2[study_id/es_id]", "I2[study_id]", "tau2"):
            interval = boot.confint(name)
            assert 0 <= interval.lb <= interval.estimate <= interval.ub
        assert boot.confint("sigma2[study_id/es_id]", kind="basic").lb >= 0
        shares = boot.samples["I2[study_id]"] + boot.samples["I2[study_id/es_id]"]
        np.testing.assert_allclose(shares, boot.samples["I2"], rtol=1e-10)
        np.testing.assert_allclose(
            boot.samples["tau2"], boot.samples["sigma2[study_id]"] + boot.samples["sigma2[study_id/es_id]"], rtol=1e-10
        )
        assert boot.estimate("I2") == pytest.approx(fit.I2, rel=1e-10)
        assert boot.samples["intrcpt"].std() == pytest.approx(fit.se[0], rel=0.2)
        prints(boot)

    def test_bca_leaves_out_studies(self, fit):
        boot = sensitivity.bootstrap(fit, kind="nonparametric", iterations=60, seed=1)
        assert boot.cluster == "study_id"
        assert len(boot._left_out["intrcpt"]) == 10
        interval = boot.confint("intrcpt", kind="bca")
        assert interval.lb < interval.estimate < interval.ub
        left = sensitivity.leave_one_out(fit).tidy()["estimate"]
        np.testing.assert_allclose(boot._left_out["intrcpt"], left, rtol=1e-6)

    def test_with_V_moderators_and_slopes(self, es):
        fit = MultilevelModel(es, V=impute_V(es, rho=0.6), mods="x", random=("1 + x | study_id", "es_id")).fit()
        boot = sensitivity.bootstrap(fit, iterations=10, seed=1)
        assert set(boot.quantities) == {"intrcpt", "x", *fit.components.index}
        assert "tau2" not in boot.quantities
        held = MultilevelModel(es, fixed={"sigma2[study_id]": 0.01}).fit()
        boot = sensitivity.bootstrap(held, iterations=10, seed=1)
        assert boot.confint("sigma2[study_id]").lb.reason == "given, not estimated"

    def test_samples_that_lack_a_level_are_left_out(self, es):
        frame = es.moderators.assign(kind=np.where(np.array(es.study_id) == "s3", "b", "a"))
        made = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
        fit = MultilevelModel(made, mods="kind").fit()
        boot = sensitivity.bootstrap(fit, kind="nonparametric", iterations=60, seed=1)
        assert 10 < boot.iterations < 55
        assert "samples-left-out" in {note.code for note in boot.notes}

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({}, "need a seed"),
            ({"seed": 1, "iterations": 1}, "at least 2"),
            ({"seed": 1, "kind": "cases"}, "kind='cases'"),
        ],
    )
    def test_refusals(self, fit, options, match):
        with pytest.raises(InputError, match=match):
            sensitivity.bootstrap(fit, **options)

    def test_studies_must_be_independent(self, es):
        crossed = MultilevelModel(es, random=("study_id", "measure", "es_id")).fit()
        with pytest.raises(InputError, match="measure ties different clusters together"):
            sensitivity.bootstrap(crossed, kind="nonparametric", seed=1, iterations=5)
        with pytest.raises(InputError, match="cluster= is for multilevel models"):
            sensitivity.bootstrap(quiet(RandomEffectsModel(es).fit), seed=1, cluster="rater")

    def test_unknown_quantities(self, fit):
        boot = sensitivity.bootstrap(fit, iterations=5, seed=1)
        with pytest.raises(InputError, match="did you mean 'sigma2\\[study_id\\]'"):
            boot.confint("sigma2[studyid]")


class TestLeftOut:
    def test_robust_standard_errors_in_every_refit(self, es, fit):
        found = sensitivity.leave_one_out(fit.robust())
        frame = found.tidy().set_index("label")
        rows = np.flatnonzero(np.array(es.study_id) != "s4")
        one = MultilevelModel(es.take(rows)).fit().robust()
        for column, values in (("estimate", one.beta), ("se", one.se), ("ddf", one.ddf), ("ci_ub", one.ci_ub)):
            assert frame.loc["s4", column] == pytest.approx(values[0], rel=1e-6)
        prints(found)

    def test_columns_and_span(self, fit):
        found = sensitivity.leave_one_out(fit)
        frame = found.tidy()
        assert frame.columns.tolist()[:8] == ["label", "estimate", "se", "ci_lb", "ci_ub", "tau2", "QE", "I2"]
        assert {"tau2", "QE", "I2", "sigma2[study_id]", "sigma2[study_id/es_id]"} <= set(frame)
        assert frame["label"].tolist() == sorted(frame["label"])
        span = found.span()
        assert span.loc["estimate", "all"] == fit.beta[0]
        at = frame.set_index("label")["estimate"]
        assert at[span.loc["estimate", "lowest_at"]] == at.min()
        assert span.loc["estimate", "highest"] == at.max()

    def test_processes_change_nothing(self, es):
        fit = MultilevelModel(effects(60, 30)).fit()
        one, two = (sensitivity.leave_one_out(fit, cores=cores).tidy() for cores in (1, 2))
        pd.testing.assert_frame_equal(one, two)

    def test_other_clusters(self, es, fit):
        found = sensitivity.leave_one_out(fit, by="rater")
        assert found.labels == ("client", "observer")
        labels = ["a" if i < 20 else "b" for i in range(40)]
        assert sensitivity.leave_one_out(fit, by=labels).tidy()["k"].tolist() == [20, 20]
        with pytest.raises(InputError, match="nothing is left without it"):
            sensitivity.leave_one_out(fit, by=["a"] * 40)

    def test_what_cannot_be_fitted_says_so(self, es):
        frame = es.moderators.assign(kind=np.where(np.array(es.study_id) == "s3", "b", "a"))
        made = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
        fit = MultilevelModel(made, mods="kind").fit()
        found = sensitivity.leave_one_out(fit)
        assert isinstance(found.tidy().set_index("label").loc["s3", "estimate"], NotApplicable)
        assert "needed" in {note.code for note in found.notes}
        prints(found)
        closed = sensitivity.influence(fit, reestimate=False)
        assert "needed" in {note.code for note in closed.notes}
        assert closed.tidy().set_index("label").loc["s3", ["cook_d", "cov_r"]].isna().all()
        assert closed.influential[closed.labels.index("s3")]
        prints(closed)

    def test_an_outlying_study_is_flagged(self, es):
        y = es.yi + np.where(np.array(es.study_id) == "s2", 2.0, 0.0)
        made = EffectSizes.from_arrays(y, es.vi, study_id=es.study_id, measure="ZCOR")
        fit = MultilevelModel(made).fit()
        found = sensitivity.influence(fit, reestimate=False)
        frame = found.tidy().set_index("label")
        assert frame["cook_d"].idxmax() == "s2"
        assert frame.index[frame["influential"]].tolist() == ["s2"]
        assert " *" in prints(found)
        same = sensitivity.influence(fit.robust(), reestimate=False).tidy()
        pd.testing.assert_frame_equal(same, found.tidy())

    def test_influence_of_single_studies_is_that_of_a_univariate_model(self):
        es = effects(12, 12)
        ours = sensitivity.influence(RandomEffectsModel(es, test="z").fit(), by="study").tidy()
        same = sensitivity.influence(MultilevelModel(es, random="study_id", test="z").fit(), by="study").tidy()
        for name in ("rstudent", "dffits", "cook_d", "cov_r", "tau2_del", "QE_del", "hat", "weight", "dfbs_intrcpt"):
            np.testing.assert_allclose(ours[name], same[name], rtol=1e-6, atol=1e-9)

    def test_refusals(self, es, fit):
        with pytest.raises(InputError, match="leave_one_out needs a fitted model, not MultilevelModel"):
            sensitivity.leave_one_out(MultilevelModel(es))
        with pytest.raises(InputError, match="influence needs a fitted model, not EffectSizes"):
            sensitivity.influence(es)
        with pytest.raises(InputError, match="term='y'"):
            sensitivity.leave_one_out(fit, by="rater").tidy(term="y")


def test_a_slope_on_uncentred_years_is_an_answer_or_a_note(es):
    """Numbers near 2000 make the covariance of a group singular in floating point on the way."""
    fit = quiet(lambda: MultilevelModel(es, random=("1 + x + year | study_id", "es_id")).fit())
    assert np.isfinite(fit.loglik)
    assert fit.fitted.converged or "not-converged" in {note.code for note in fit.notes}
