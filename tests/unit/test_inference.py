"""Permutation tests, bootstrap, likelihood-ratio tests, hettest, hc, anova: options, edges, what is printed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alliance_meta import (
    EffectSizes,
    InputError,
    NotApplicable,
    RandomEffectsModel,
    bias,
    escalc,
    load_dataset,
    sensitivity,
)
from alliance_meta.models import anova
from alliance_meta.tables.document import WIDTH

pytestmark = [
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning"),
]


@pytest.fixture
def es(rng):
    mods = {"rater": np.resize(["patient", "therapist", "observer"], 14), "year": np.arange(14.0)}
    return EffectSizes.from_arrays(rng.normal(0.3, 0.35, 14), rng.uniform(0.01, 0.08, 14), mods=mods, measure="ZCOR")


@pytest.fixture
def fit(es):
    return RandomEffectsModel(es).fit()


@pytest.fixture
def regression(es):
    return RandomEffectsModel(es, mods="rater + year").fit()


def single(k=1, **options):
    y, v = [0.3, 0.1, 0.5][:k], [0.02, 0.03, 0.01][:k]
    return RandomEffectsModel(EffectSizes.from_arrays(y, v), **options).fit()


def everything(fit):
    yield sensitivity.permutation_test(fit, seed=1, iterations=50)
    yield sensitivity.bootstrap(fit, seed=1, iterations=50)
    yield sensitivity.bootstrap(fit, seed=1, iterations=50, kind="nonparametric")
    yield sensitivity.lr_test(fit)
    yield sensitivity.hettest(fit)
    yield sensitivity.hettest(fit, iterations=30, seed=1)


@pytest.mark.parametrize("which", ["fit", "regression"])
def test_every_result_prints_in_80_columns_and_is_json(which, request, es):
    results = [*everything(request.getfixturevalue(which))]
    results += [anova(RandomEffectsModel(es, mods="rater").fit(), RandomEffectsModel(es).fit())]
    results += [bias.hc(request.getfixturevalue("fit"))]
    for result in results:
        assert str(result) == repr(result)
        assert max(map(len, str(result).splitlines())) <= WIDTH, result
        json.dumps(result.to_dict(), allow_nan=False)
        assert len(result.tidy())
        assert isinstance(result.notes, tuple)


@pytest.mark.parametrize("which", ["fit", "regression"])
@pytest.mark.parametrize("cores", [1, 2])
def test_a_seed_gives_one_result_on_one_core_and_on_two(which, cores, request, monkeypatch):
    monkeypatch.setattr("alliance_meta.core.resampling.BLOCK", 14 * 16)
    one = request.getfixturevalue(which)
    first = sensitivity.permutation_test(one, iterations=100, seed=7)
    second = sensitivity.permutation_test(one, iterations=100, seed=7, cores=cores)
    np.testing.assert_array_equal(first.stats, second.stats)
    other = sensitivity.permutation_test(one, iterations=100, seed=8)
    assert not np.array_equal(first.stats, other.stats)
    for kind in ("parametric", "nonparametric"):
        boots = [sensitivity.bootstrap(one, iterations=100, seed=7, kind=kind, cores=c) for c in (1, cores)]
        for name in boots[0].quantities:
            np.testing.assert_array_equal(boots[0].samples[name], boots[1].samples[name])
    tests = [sensitivity.hettest(one, iterations=100, seed=7, cores=c).pval for c in (1, cores)]
    assert tests[0] == tests[1]


def test_blocks_have_streams_of_their_own(fit, monkeypatch):
    monkeypatch.setattr("alliance_meta.core.resampling.BLOCK", 14 * 10)
    stats = sensitivity.permutation_test(fit, iterations=40, seed=1).stats[:, 0]
    assert not np.isin(stats[10:20], stats[20:30]).all()


@pytest.mark.parametrize("call", [sensitivity.permutation_test, sensitivity.bootstrap])
def test_random_results_need_a_seed(fit, call):
    with pytest.raises(InputError, match="need a seed"):
        call(fit)
    with pytest.raises(InputError, match="whole number"):
        call(fit, seed=-1)
    with pytest.raises(InputError, match="at least 2"):
        call(fit, seed=1, iterations=1)
    with pytest.raises(InputError, match="cores"):
        call(fit, seed=1, cores=0)


@pytest.mark.parametrize(
    "call",
    [sensitivity.permutation_test, sensitivity.bootstrap, sensitivity.lr_test, sensitivity.hettest, bias.hc],
)
def test_a_model_that_is_not_fitted_is_named(es, call):
    with pytest.raises(InputError, match=r"not RandomEffectsModel; call \.fit\(\) first"):
        call(RandomEffectsModel(es))


def test_hettest_simulations_need_a_seed(fit):
    with pytest.raises(InputError, match="need a seed"):
        sensitivity.hettest(fit, iterations=100)


# Permutation tests


def test_few_arrangements_are_all_used_and_many_are_drawn(fit):
    small = single(3)
    assert sensitivity.permutation_test(small).exact
    drawn = sensitivity.permutation_test(fit, seed=1)
    assert (drawn.exact, drawn.possible, drawn.iterations) == (False, 2**14, 1000)
    assert sensitivity.permutation_test(fit, iterations=2**14).exact
    assert not sensitivity.permutation_test(small, exact=False, seed=1).exact


def test_the_data_are_among_the_random_arrangements(rng):
    es = EffectSizes.from_arrays(rng.normal(3, 0.1, 30), np.full(30, 0.01))
    ours = sensitivity.permutation_test(RandomEffectsModel(es).fit(), iterations=200, seed=1)
    assert float(ours.pval[0]) == 1 / 200 == ours.QMp


def test_a_p_value_that_cannot_be_small_is_announced():
    ours = sensitivity.permutation_test(single(3))
    assert any("cannot be below 0.25" in note.message for note in ours.notes)


def test_an_exact_test_of_too_many_arrangements_says_so(es, regression):
    with pytest.raises(InputError, match="arrangements"):
        sensitivity.permutation_test(regression, exact=True)
    with pytest.raises(InputError, match="exact"):
        sensitivity.permutation_test(regression, exact="yes", seed=1)


def test_the_median_unbiased_estimator_cannot_be_refitted(es):
    with pytest.raises(InputError, match="GENQM"):
        sensitivity.permutation_test(RandomEffectsModel(es, method="GENQM", test="z").fit(), seed=1)


@pytest.mark.parametrize("k", [1, 2])
def test_one_and_two_effects_can_be_permuted(k):
    ours = sensitivity.permutation_test(single(k))
    assert float(ours.pval[0]) == {1: 1.0, 2: 0.5}[k]
    assert ours.QMp == ours.pval[0]


def test_identical_effects_have_an_infinite_statistic():
    es = EffectSizes.from_arrays([0.3] * 6, [0.02] * 6)
    ours = sensitivity.permutation_test(RandomEffectsModel(es).fit())
    assert np.isinf(ours.stat[0])
    assert isinstance(ours.QM, NotApplicable)
    assert float(ours.pval[0]) == 2 / 2**6


def test_simulation_error_is_reported(fit):
    ours = sensitivity.permutation_test(fit, seed=1)
    p = float(ours.pval[0])
    assert float(ours.mc_se[0]) == pytest.approx(np.sqrt(p * (1 - p) / 1000))
    assert float(sensitivity.permutation_test(single(3)).mc_se[0]) == 0


# Bootstrap


def test_intervals_of_every_kind(regression):
    boot = sensitivity.bootstrap(regression, kind="nonparametric", seed=1, iterations=400)
    assert boot.quantities == (*regression.names, "tau2", "tau", "I2", "H2")
    for kind in ("percentile", "basic", "bca"):
        for name in boot.quantities:
            interval = boot.confint(name, kind=kind)
            assert interval.lb <= interval.ub
            assert interval.estimate == boot.estimate(name)
            wider = boot.confint(name, kind=kind, level=0.99)
            assert wider.lb <= interval.lb <= interval.ub <= wider.ub
    low, high = np.quantile(boot.samples["year"], [0.025, 0.975], method="weibull")
    basic = boot.confint("year", kind="basic")
    assert (basic.lb, basic.ub) == (2 * basic.estimate - high, 2 * basic.estimate - low)
    assert boot.confint("tau2", kind="basic").lb >= 0
    assert boot.confint("H2", kind="basic").lb >= 1


def test_intervals_of_functions_of_tau2_agree(fit):
    boot = sensitivity.bootstrap(fit, seed=1)
    tau2, tau = boot.confint("tau2"), boot.confint("tau")
    # Between two order statistics the line of tau2 and the line of tau differ a little.
    assert (tau.lb**2, tau.ub**2) == pytest.approx((tau2.lb, tau2.ub), rel=1e-3)


def test_what_cannot_be_bootstrapped_says_why(es, fit):
    boot = sensitivity.bootstrap(fit, seed=1, iterations=50)
    with pytest.raises(InputError, match="nonparametric"):
        boot.confint("tau2", kind="bca")
    with pytest.raises(InputError, match="did you mean 'tau2'"):
        boot.confint("tau_2")
    with pytest.raises(InputError, match="did you mean 'percentile'"):
        boot.confint("tau2", kind="percentil")
    equal = sensitivity.bootstrap(RandomEffectsModel(es, method="EE", test="z").fit(), seed=1, iterations=50)
    assert equal.quantities == ("intrcpt", "I2", "H2")
    assert "equal-effects" in equal.confint("tau2").lb.reason
    given = sensitivity.bootstrap(RandomEffectsModel(es, tau2=0.02).fit(), seed=1, iterations=50)
    assert given.quantities == ("intrcpt",)
    assert "given" in given.confint("tau2").estimate.reason


def test_a_single_effect_can_be_simulated_not_drawn():
    alone = sensitivity.bootstrap(single(1), seed=1, iterations=500)
    assert alone.quantities == ("intrcpt",)
    assert alone.tidy()["se"]["intrcpt"] == pytest.approx(0.02**0.5, rel=0.15)
    with pytest.raises(InputError, match="kind='parametric'"):
        sensitivity.bootstrap(single(1), kind="nonparametric", seed=1)


def test_two_effects_can_be_drawn():
    boot = sensitivity.bootstrap(single(2), kind="nonparametric", seed=1, iterations=100)
    assert set(np.round(boot.samples["intrcpt"], 12)) >= {0.3, 0.1}


def test_samples_without_variation_in_a_moderator_are_left_out_and_counted(rng):
    rater = ["a", "a", "a", "a", "b"]
    es = EffectSizes.from_arrays(rng.normal(0.2, 0.3, 5), np.full(5, 0.02), mods={"rater": rater})
    boot = sensitivity.bootstrap(RandomEffectsModel(es, mods="rater").fit(), kind="nonparametric", seed=1)
    # A sample has no b with probability .8^5 = .33, only b with .2^5.
    assert 1000 - boot.iterations == pytest.approx(328, abs=60)
    assert any(note.code == "samples-left-out" for note in boot.notes)
    assert np.isfinite(boot.tidy().to_numpy(dtype=float)).all()
    assert np.isfinite(boot.confint("rater[b]" if "rater[b]" in boot.quantities else boot.quantities[1], kind="bca").lb)


def test_many_zeros_of_tau2_are_noted():
    es = EffectSizes.from_arrays([0.2, 0.21, 0.19, 0.2, 0.22], [0.02] * 5)
    boot = sensitivity.bootstrap(RandomEffectsModel(es).fit(), seed=1, iterations=200)
    assert any(note.code == "samples-at-bound" for note in boot.notes)
    assert boot.confint("tau2").lb == 0.0


def test_bca_without_samples_on_both_sides_is_not_applicable():
    es = EffectSizes.from_arrays([0.2] * 5, [0.02] * 5)
    boot = sensitivity.bootstrap(RandomEffectsModel(es, test="z").fit(), kind="nonparametric", seed=1, iterations=50)
    assert boot.confint("tau2", kind="bca").ub == 0.0  # all tied with the estimate: half of them count as below
    boot.samples["tau2"][:] = 1.0
    assert "one side" in boot.confint("tau2", kind="bca").lb.reason


# Likelihood-ratio tests


def test_corrections_widen_the_interval(fit):
    table = sensitivity.lr_test(fit).tidy().loc["intrcpt"]
    width = table["ci_ub"] - table["ci_lb"]
    assert width["none"] < width["bartlett"]
    assert width["none"] < width["skovgaard"]
    assert (table["pval"]["none"] < table["pval"][["bartlett", "skovgaard"]]).all()


def test_the_value_on_the_limit_has_the_complementary_p(fit):
    ours = sensitivity.lr_test(fit, level=0.9).tidy()
    for correction in ("none", "bartlett", "skovgaard"):
        limit = float(ours.loc[("intrcpt", correction), "ci_lb"])
        again = sensitivity.lr_test(fit, value=limit).tidy()
        assert float(again.loc[("intrcpt", correction), "pval"]) == pytest.approx(0.1, rel=1e-6)


def test_skovgaards_correction_needs_heterogeneity():
    es = EffectSizes.from_arrays([0.2, 0.21, 0.19, 0.2, 0.22], [0.02] * 5)
    ours = sensitivity.lr_test(RandomEffectsModel(es).fit())
    row = ours.rows["intrcpt", "skovgaard"]
    assert "tau2 above 0" in row["pval"].reason
    assert any(note.code == "lr-at-bound" for note in ours.notes)
    plain = ours.tidy().loc[("intrcpt", "none")]
    assert plain["ci_lb"] < 0.2 < plain["ci_ub"]


def test_likelihood_ratio_of_one_and_two_effects():
    gone = sensitivity.lr_test(single(1))
    assert all(isinstance(row["pval"], NotApplicable) for row in gone.rows.values())
    assert isinstance(gone.bartlett[0], NotApplicable)
    assert "not_applicable" in str(gone.to_dict())
    two = sensitivity.lr_test(single(2)).tidy().loc[("intrcpt", "none")]
    assert two["ci_lb"] < two["estimate"] < two["ci_ub"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "EE", "test": "z"}, "z test is the likelihood-ratio test"),
        ({"tau2": 0.02}, "z test is the likelihood-ratio test"),
        ({"weights": np.ones(14), "test": "z"}, "without weights"),
    ],
)
def test_likelihood_ratios_need_an_estimated_tau2(es, options, message):
    with pytest.raises(InputError, match=message):
        sensitivity.lr_test(RandomEffectsModel(es, **options).fit())


# Unequal heterogeneity


def test_an_outlier_among_like_effects_is_unequal_heterogeneity(rng):
    y = np.append(rng.normal(0.2, 0.1, 20), 2.0)
    es = EffectSizes.from_arrays(y, np.full(21, 0.01))
    fit = RandomEffectsModel(es).fit()
    assert sensitivity.hettest(fit, iterations=200, seed=1).pval < 0.02
    assert sensitivity.hettest(fit).pval < 1e-6


def test_too_few_effects_for_single_variances():
    two = sensitivity.hettest(single(2))
    assert "too few" in two.stat.reason
    assert isinstance(two.pval, NotApplicable)
    assert "too few" in sensitivity.hettest(single(1)).stat.reason
    simulated = sensitivity.hettest(single(2), iterations=20, seed=1)
    assert isinstance(simulated.pval, NotApplicable)


@pytest.mark.parametrize(
    ("options", "message"), [({"method": "DL"}, "'ML' or 'REML'"), ({"tau2": 0.02}, "without tau2= and weights=")]
)
def test_unequal_heterogeneity_needs_a_likelihood(es, options, message):
    with pytest.raises(InputError, match=message):
        sensitivity.hettest(RandomEffectsModel(es, **options).fit())


# Henmi-Copas


def test_henmi_copas_is_for_several_effects_without_moderators(regression):
    with pytest.raises(InputError, match="without moderators"):
        bias.hc(regression)
    alone = bias.hc(single(1))
    assert isinstance(alone.ci_lb, NotApplicable)
    assert alone.fit_estimate == 0.3


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_henmi_copas_has_no_unit(es, scale):
    plain = bias.hc(RandomEffectsModel(es).fit())
    other = bias.hc(RandomEffectsModel(EffectSizes.from_arrays(scale * es.yi, scale**2 * es.vi)).fit())
    assert other.ci_lb == pytest.approx(scale * plain.ci_lb, rel=1e-9)
    assert other.quantile == pytest.approx(plain.quantile, rel=1e-9)


def test_henmi_copas_without_heterogeneity_and_with_extreme_variances():
    flat = bias.hc(RandomEffectsModel(EffectSizes.from_arrays([0.3] * 5, [0.02] * 5)).fit())
    assert (flat.tau2, flat.estimate) == (0.0, pytest.approx(0.3))
    uneven = EffectSizes.from_arrays([0.3, 0.1, 0.2], [0.02, 0.02, 2e-14])
    wide = bias.hc(RandomEffectsModel(uneven, method="DL", test="z").fit())
    assert wide.estimate == pytest.approx(0.2)
    assert wide.ci_lb < wide.estimate < wide.ci_ub


def test_a_real_data_set_from_end_to_end():
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="quality").fit()
    for result in everything(fit):
        assert result.tidy().notna().to_numpy().any()


@pytest.mark.parametrize("k", [60, 1200, 3000])
def test_more_arrangements_than_a_float_can_count(rng, k):
    es = EffectSizes.from_arrays(rng.normal(0.2, 0.3, k), np.full(k, 0.02), mods={"year": np.arange(k)})
    for mods in ("1", "year"):
        ours = sensitivity.permutation_test(RandomEffectsModel(es, mods=mods).fit(), iterations=20, seed=1)
        assert not ours.exact
        assert ours.possible > 1e15
        json.dumps(ours.to_dict(), allow_nan=False)


def test_no_bootstrap_interval_leaves_the_range_of_its_quantity():
    boot = sensitivity.bootstrap(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit(), iterations=400, seed=1)
    for kind in ("percentile", "basic"):
        interval = boot.confint("I2", kind=kind)
        assert 0 <= interval.lb <= interval.ub <= 100
