"""Named working models: the model written out by hand, and what the recipes refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, che, impute_V
from alliance_meta.models import che_plus, sce
from tests.tolerances import CLOSED_FORM, OPTIMISER


def effects(seed=5, studies=10, k=34, **more) -> EffectSizes:
    rng = np.random.default_rng(seed)
    study = np.sort(rng.integers(0, studies, k))
    frame = pd.DataFrame({"rater": rng.choice(["client", "observer", "therapist"], k), "x": rng.normal(size=k), **more})
    y = 0.3 + rng.normal(0, 0.15, studies)[study] + rng.normal(0, 0.15, k)
    return EffectSizes.from_arrays(
        y, rng.uniform(0.005, 0.03, k), mods=frame, measure="ZCOR", study_id=[f"s{i}" for i in study]
    )


@pytest.fixture
def es() -> EffectSizes:
    return effects()


def same(recipe, written):
    np.testing.assert_allclose(recipe.beta, written.beta, rtol=CLOSED_FORM)
    np.testing.assert_allclose(recipe.vb, written.vb, rtol=CLOSED_FORM, atol=CLOSED_FORM)
    np.testing.assert_allclose(recipe.ddf, written.ddf, rtol=CLOSED_FORM)
    assert recipe.type == written.type
    assert recipe.fit.loglik == written.fit.loglik
    assert recipe.r_code() == written.r_code()


class TestWrittenOut:
    @pytest.mark.parametrize(("mods", "rho", "type"), [("1", 0.6, "CR2"), ("rater + x", 0.3, "CR1")])
    def test_che(self, es, mods, rho, type):
        written = MultilevelModel(es, V=impute_V(es, rho=rho), mods=mods, random="study_id/es_id").fit()
        same(che(es, mods=mods, rho=rho, type=type), written.robust(type=type))

    def test_che_with_a_covariance_of_ones_own(self, es):
        V = impute_V(es, type="rater", rho=(0.8, 0.4))
        written = MultilevelModel(es, V=V, method="ML", level=0.9).fit()
        same(che(es, V=V, method="ML", level=0.9), written.robust())

    def test_sce(self, es):
        V = impute_V(es, subgroup="rater", rho=0.5)
        written = MultilevelModel(es, V=V, mods="0 + rater", random="rater | study_id", struct="DIAG").fit()
        same(sce(es, subgroup="rater", rho=0.5), written.robust())

    def test_che_plus(self, es):
        written = MultilevelModel(
            es, V=impute_V(es, rho=0.6), mods="rater", random=("study_id", "rater | es_id"), struct="DIAG"
        ).fit()
        same(che_plus(es, subgroup="rater", mods="rater"), written.robust())


def test_levels_of_sce_are_meta_analyses_of_their_own():
    """Nothing links the levels, so each mean is that of its effects alone."""
    es = effects()
    both = sce(es, subgroup="rater")
    for i, rater in enumerate(("client", "observer", "therapist")):
        own = es.take(es.moderators["rater"].to_numpy() == rater)
        alone = MultilevelModel(own, V=impute_V(own), random="study_id").fit()
        assert both.beta[i] == pytest.approx(alone.beta[0], rel=OPTIMISER)
        assert both.fit.components["estimate"].iloc[
            [f"tau2[rater | study_id: {rater}]" in name for name in both.fit.components.index]
        ].item() == pytest.approx(alone.tau2, rel=10 * OPTIMISER)


def test_a_numeric_subgroup_is_taken_as_levels():
    es = effects(wave=np.tile([1, 2], 17))
    assert sce(es, subgroup="wave").design.formula == "0 + C(wave)"
    assert "mods = ~ 0 + factor(wave)" in sce(es, subgroup="wave").r_code()


class TestRowLevel:
    def test_rows_counted_within_studies_are_not_a_crossed_factor(self, es):
        count = pd.Series(es.study_id).groupby(list(es.study_id)).cumcount() + 1
        counted = effects(es_id=count.to_numpy())
        assert [term.name for term in che(counted).random] == ["study_id", "study_id/es_id"]
        assert che(counted).fit.loglik == pytest.approx(che(es).fit.loglik, rel=CLOSED_FORM)
        assert "~ 1 | study_id/es_id" in che(counted).r_code()
        plus = che_plus(counted, subgroup="rater")
        assert plus.fit.loglik == pytest.approx(che_plus(es, subgroup="rater").fit.loglik, rel=CLOSED_FORM)

    def test_rows_that_repeat_are_refused(self):
        with pytest.raises(InputError, match="'es_id' repeats within study_id"):
            che(effects(es_id=np.ones(34, dtype=int)))


class TestRCode:
    def test_rows_are_numbered_before_V_uses_them(self, es):
        lines = che(es, rho=0.4).r_code().splitlines()
        made = next(i for i, line in enumerate(lines) if line.startswith("dat$es_id <-"))
        assert lines[made + 1].startswith("V <- vcalc(vi, cluster=study_id, obs=es_id, data=dat, rho=0.4)")
        assert "random = list(~ 1 | study_id/es_id)" in lines[made + 2]
        assert lines[-1] == 'coef_test(fit, vcov="CR2", cluster=dat$study_id)'

    def test_sce_names_the_subgroup(self, es):
        code = sce(es, subgroup="rater").r_code()
        assert "dat$es_id <-" in code
        assert "vcalc(vi, cluster=study_id, subgroup=rater, obs=es_id, data=dat, rho=0.6)" in code
        assert 'random = list(~ rater | study_id), struct=c("DIAG")' in code


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda es: che(pd.DataFrame()), "make them with escalc"),
            (lambda es: che(es, cluster="study"), "did you mean 'study_id'"),
            (lambda es: che(es, cluster=["a"] * 34), "must name a column"),
            (lambda es: che(es, random="study_id"), "random: the recipe sets this itself"),
            (lambda es: che(es, type="CR4"), "type='CR4' is not one of"),
            (lambda es: che(es, rho=0.3, V=impute_V(es)), "either V"),
            (lambda es: che_plus(es, subgroup="rater", rho=0.3, V=impute_V(es)), "either V"),
            (lambda es: che(es.take([0, 1, 2])), "needs at least 2"),
            (lambda es: sce(es, subgroup="raters"), "did you mean 'rater'"),
            (lambda es: sce(es.take(es.moderators["rater"] == "client"), subgroup="rater"), "'client' throughout"),
            (lambda es: che(es, test="knha"), "test='knha'"),
        ],
    )
    def test_bad_arguments(self, es, call, message):
        with pytest.raises(InputError, match=message):
            call(es)

    def test_gaps_in_the_subgroup(self):
        rater = ["client", None, "observer"] * 11 + ["client"]
        with pytest.raises(InputError, match=r"subgroup='rater' is empty for 11 of 34 effects \(Study 2, "):
            sce(effects(rater=rater), subgroup="rater")
