"""`BayesianModel` and its result: what is refused, what is said, what the parts are called, and hostile data."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, NotApplicable, priors
from alliance_meta.bayes import Marginal, arviz_bridge
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.errors import ConvergenceWarning, DesignError, InputError
from tests.tolerances import CLOSED_FORM

KINDS = ("eti", "hdi")


@pytest.fixture(scope="module")
def molloy():
    return am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(5)
    x, rater = rng.normal(10, 2, 30), rng.choice(["client", "therapist"], 30)
    es = EffectSizes.from_arrays(
        0.2 + 0.03 * (x - 10) + rng.normal(0, 0.15, 30),
        rng.uniform(0.005, 0.03, 30),
        mods={"x": x, "rater": rater},
        measure="ZCOR",
    )
    return am.BayesianModel(es, mods="x + rater").fit()


def effects(k, *, seed=3, measure="ZCOR"):
    rng = np.random.default_rng(seed)
    v = rng.uniform(0.01, 0.1, k)
    return EffectSizes.from_arrays(rng.normal(0.2, np.sqrt(v + 0.05)), v, measure=measure)


def test_the_table(molloy):
    table = molloy.tidy()
    assert list(table.index[:3]) == ["mu", "tau", "theta_new"]
    assert list(table.index[3:]) == [f"theta[{label}]" for label in molloy.effects.slab]
    assert list(table.columns) == ["mean", "sd", "median", "ci_lb", "ci_ub"]
    assert table.attrs == {
        "scale": "Fisher z",
        "level": 0.95,
        "interval": "eti",
    }
    for name, row in table.iterrows():
        one = molloy.posterior(name)
        interval = one.interval()
        found = [one.mean, one.sd, one.median, interval.lb, interval.ub]
        np.testing.assert_allclose(row.astype(float), found, rtol=CLOSED_FORM)


def test_the_table_of_a_regression(regression):
    table = regression.tidy()
    assert list(table.index[:5]) == ["intrcpt", "x", "rater[T.therapist]", "tau", "theta_new"]
    # The mean at the average of the moderators is a combination of the coefficients.
    centre = dict(zip(regression.names, regression.design.X.mean(axis=0), strict=True))
    assert regression.posterior(centre).mean == pytest.approx(regression.posterior("mu").mean, rel=CLOSED_FORM)
    np.testing.assert_allclose(np.sqrt(np.diag(regression.vb)), regression.se, rtol=CLOSED_FORM)


def test_shortest_intervals_hold_as_much_and_are_shorter(molloy):
    eti, hdi = molloy.tidy(), molloy.tidy(interval="hdi")
    assert (hdi["ci_ub"] - hdi["ci_lb"] < eti["ci_ub"] - eti["ci_lb"]).all()
    for name in ("mu", "tau", "theta_new", hdi.index[5]):
        one, row = molloy.posterior(name), hdi.loc[name]
        assert one.prob(row.ci_lb, row.ci_ub) == pytest.approx(0.95, abs=1e-9)
        assert one.pdf(row.ci_lb) == pytest.approx(one.pdf(row.ci_ub), rel=1e-6)


def test_predictions_agree_with_the_table(molloy):
    table = molloy.tidy()
    row = molloy.predict().iloc[0]
    assert [row.pred, row.se, row.ci_lb, row.ci_ub] == table.loc["mu", ["median", "sd", "ci_lb", "ci_ub"]].tolist()
    assert [row.pi_lb, row.pi_ub] == table.loc["theta_new", ["ci_lb", "ci_ub"]].tolist()
    assert molloy.blup().shape == (16, 5)
    assert list(molloy.blup().index) == list(molloy.effects.slab)
    for kind in KINDS:
        frame = molloy.predict(scale="r", interval=kind)
        mu, new = molloy.posterior("mu", scale="r"), molloy.posterior("theta_new", scale="r")
        ci, pi = mu.interval(kind=kind), new.interval(kind=kind)
        np.testing.assert_allclose(frame.iloc[0], [mu.median, mu.sd, ci.lb, ci.ub, pi.lb, pi.ub], rtol=1e-7)
        assert frame.attrs["scale"] == "r"
        assert frame.attrs["interval"] == kind
        assert frame.attrs["pred"] == "posterior median"


def test_predictions_for_moderators(regression):
    frame = regression.predict({"x": [8, 12], "rater": ["client", "therapist"]})
    assert list(frame.index) == ["x = 8, rater = client", "x = 12, rater = therapist"]
    combination = {"intrcpt": 1, "x": 12, "rater[T.therapist]": 1}
    assert frame["pred"].iloc[1] == pytest.approx(regression.posterior(combination).median, rel=CLOSED_FORM)
    assert len(regression.predict({"x": [8], "rater": ["client"]}, scale="r_mean")) == 1
    with pytest.raises(InputError, match="newdata lacks rater"):
        regression.predict({"x": [8]})


def test_probabilities_and_statements(molloy):
    assert molloy.prob("mu > 0.1") + molloy.prob("mu <= 0.1") == pytest.approx(1, abs=1e-14)
    assert molloy.prob("0.1 < mu < 0.2") == pytest.approx(molloy.prob("0.2 > mu > 0.1"), rel=CLOSED_FORM)
    assert molloy.prob("|mu| < 0.1") == pytest.approx(molloy.prob("-0.1 < mu < 0.1"), rel=CLOSED_FORM)
    assert molloy.prob("theta_new > 0.1", scale="r") == pytest.approx(
        molloy.prob(f"theta_new > {np.arctanh(0.1):.17g}"), rel=CLOSED_FORM
    )
    assert molloy.prob("tau > 0") == 1
    label = molloy.effects.slab[2]
    assert 0 < molloy.prob(f"theta[{label}] > 0.2") < 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("mu", "is not a hypothesis about one quantity"),
        ("mu = 0 = 1", "is not a hypothesis about one quantity"),
        ("0.3 < mu < 0.1", "is not a hypothesis about one quantity"),
        ("mu > big", "'big' is not a number"),
        ("theta_ne > 0", "no quantity 'theta_ne'; did you mean 'theta_new'?"),
        ("theta[Smith] > 0", "no study has this label"),
        ("mu = 0.1", "a single value has probability 0"),
    ],
)
def test_statements_that_are_none(molloy, statement, message):
    with pytest.raises(InputError, match=re.escape(message)):
        molloy.prob(statement)


def test_bayes_factors_say_which_way(molloy):
    zero = molloy.bayes_factor("mu = 0")
    assert zero.bf01 == pytest.approx(1 / zero.bf10, rel=CLOSED_FORM)
    assert str(zero).startswith("BF10 = 85.28: the data are 85.28 times as likely if mu is not 0")
    assert molloy.bayes_factor("mu > 0").bf01 > 1000
    assert molloy.bayes_factor("mu < 0").bf01 == pytest.approx(molloy.bayes_factor("mu > 0").bf10, rel=1e-10)
    assert zero.error < 1e-12


@pytest.mark.parametrize(
    ("hypothesis", "message"),
    [
        ("tau = 0.1", "of the points only tau = 0 is a hypothesis"),
        ("tau > 0", "leaves no doubt about that"),
        ("tau < -1", "leaves no doubt about that"),
        ("theta_new > 0", "Bayes factors are for mu, a coefficient or tau"),
        ("I2 < 50", "Bayes factors are for mu, a coefficient or tau"),
    ],
)
def test_bayes_factors_that_do_not_exist(molloy, hypothesis, message):
    with pytest.raises(InputError, match=re.escape(message)):
        molloy.bayes_factor(hypothesis)


def test_improper_priors_leave_some_things_out():
    fit = am.BayesianModel(effects(8), mu_prior=priors.Flat(), tau_prior=priors.Jeffreys()).fit()
    assert isinstance(fit.log_marginal_likelihood, NotApplicable)
    assert fit.log_marginal_likelihood.reason == "the prior of mu and tau is improper"
    for hypothesis in ("mu = 0", "tau = 0", "mu > 0"):
        assert isinstance(fit.bayes_factor(hypothesis).bf01, NotApplicable)
    assert "no Bayes factor" in fit.summary()
    proper = am.BayesianModel(effects(8), mu_prior=priors.Flat()).fit()
    # The flat prior of mu is in both models and cancels.
    assert proper.bayes_factor("tau = 0").bf01 > 0


@pytest.mark.parametrize(
    ("k", "tau", "mu", "needed"),
    [
        (1, priors.Uniform(), priors.Flat(), 3),
        (2, priors.Uniform(), priors.Flat(), 3),
        (1, priors.Uniform(), priors.Normal(0, 1), 2),
        (1, priors.Jeffreys(), priors.Flat(), 2),
        (1, priors.BergerDeely(), priors.Flat(), 2),
    ],
)
def test_an_improper_posterior_is_refused_with_the_reason(k, tau, mu, needed):
    with pytest.raises(InputError) as caught:
        am.BayesianModel(effects(k), tau_prior=tau, mu_prior=mu).fit()
    text = str(caught.value)
    assert text.startswith(f"k = {k} effect")
    assert str(tau) in text
    assert f"At least {needed} effects are needed" in text
    # And that many are enough.
    am.BayesianModel(effects(needed), tau_prior=tau, mu_prior=mu).fit()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mu_prior": 0.5}, "mu_prior=0.5 is not a prior of an effect, such as am.priors.Normal(0, 0.5)"),
        ({"mu_prior": priors.HalfNormal(1)}, "is not a prior of an effect"),
        ({"tau_prior": priors.Normal(0, 1)}, "is not a prior of tau, such as am.priors.HalfNormal(0.3)"),
        ({"beta_prior": "flat"}, "beta_prior='flat' is not a prior of an effect"),
        ({"level": 95}, "for 95% write 0.95"),
        ({"interval": "HPD"}, "interval='HPD' is not one of 'eti', 'hdi'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        am.BayesianModel(effects(5), **arguments)


def test_priors_of_coefficients(regression):
    assert str(regression.priors.coefficients[0]) == "normal(0, 0.5)"
    es = regression.effects
    sd = es.moderators["x"].std(ddof=0)
    assert regression.priors.coefficients[1].sd == pytest.approx(0.25 / sd, rel=CLOSED_FORM)
    own = am.BayesianModel(es, mods="x", beta_prior={"x": priors.Normal(0, 0.1)}).fit()
    assert own.priors.coefficients[1] == priors.Normal(0, 0.1)
    with pytest.raises(InputError, match="beta_prior names 'y'"):
        am.BayesianModel(es, mods="x", beta_prior={"y": priors.Flat()}).fit()
    with pytest.raises(DesignError, match="has no intercept"):
        am.BayesianModel(es, mods="0 + rater").fit()
    groups = am.BayesianModel(es, mods="0 + rater", beta_prior=priors.Normal(0, 0.5)).fit()
    assert list(groups.tidy().index[:2]) == ["rater[client]", "rater[therapist]"]
    with pytest.raises(InputError, match="takes one of these"):
        am.BayesianModel(es, mods="x", beta_prior=priors.Cauchy(0, 1), mu_prior=priors.Cauchy(0, 1)).fit()


def test_not_effect_sizes():
    with pytest.raises(InputError, match="BayesianModel needs EffectSizes, not DataFrame"):
        am.BayesianModel(pd.DataFrame())


def test_scales(regression):
    raw = am.BayesianModel(effects(6, measure="COR")).fit()
    with pytest.raises(InputError, match="cannot be shown so"):
        raw.posterior("mu", scale="z")
    with pytest.raises(InputError, match="refit with measure='ZCOR'"):
        raw.predict(scale="r_mean")
    with pytest.raises(InputError, match="the coefficient x is no effect"):
        regression.posterior("x", scale="r")
    with pytest.raises(InputError, match="tau is no effect"):
        regression.posterior("tau", scale="r")


def codes(fit):
    return {note.code for note in fit.notes}


def test_notes():
    assert codes(am.BayesianModel(effects(12)).fit()) == set()
    assert "prior-bound" in codes(am.BayesianModel(effects(3)).fit())
    assert "prior-scale" in codes(am.BayesianModel(effects(12, measure="GEN")).fit())
    chosen = {"mu_prior": priors.Normal(0, 1), "tau_prior": priors.HalfCauchy(1)}
    assert "prior-scale" not in codes(am.BayesianModel(effects(12, measure="GEN"), **chosen).fit())


def test_a_prior_at_odds_with_the_data_is_named():
    tight = am.BayesianModel(effects(12), mu_prior=priors.Normal(1, 0.05)).fit()
    (note,) = [note for note in tight.notes if note.code == "prior-conflict"]
    assert "about mu (prior normal(1, 0.05))" in note.message
    assert note.message in tight.summary().replace("\n  ", " ")
    heavy = am.BayesianModel(effects(12), mu_prior=priors.Cauchy(1, 0.05)).fit()
    flat = am.BayesianModel(effects(12), mu_prior=priors.Flat()).fit()
    # The heavy tail gives way: nearer to what the data say by themselves.
    assert abs(heavy.beta[0] - flat.beta[0]) < 0.3 * abs(tight.beta[0] - flat.beta[0])
    narrow = am.BayesianModel(effects(40), tau_prior=priors.HalfNormal(0.01)).fit()
    assert "about tau (prior half-normal(0.01))" in str([str(note) for note in narrow.notes])


def made(name):
    rng = np.random.default_rng(3)
    k = 20
    v = rng.uniform(0.01, 0.1, k)
    y = rng.normal(0.2, np.sqrt(v + 0.05))
    return {
        "one effect": (y[:1], v[:1]),
        "two effects": (y[:2], v[:2]),
        "equal variances": (y, np.full(k, 0.04)),
        "one tiny variance": (y, np.append(1e-12, v[1:])),
        "one huge variance": (y, np.append(1e12, v[1:])),
        "identical effects": (np.full(k, 0.2), v),
        "all zero": (np.zeros(k), v),
        "an outlier of 20 standard errors": (np.append(0.2 + 20 * np.sqrt(v[0]), y[1:]), v),
        "large units": (1e6 * y, 1e12 * v),
        "small units": (1e-6 * y, 1e-12 * v),
    }[name]


CASES = (
    "one effect",
    "two effects",
    "equal variances",
    "one tiny variance",
    "one huge variance",
    "identical effects",
    "all zero",
    "an outlier of 20 standard errors",
    "large units",
    "small units",
)
HOSTILE = (
    priors.HalfNormal(0.3),
    priors.HalfNormal(1e-5),
    priors.HalfCauchy(1e3),
    priors.Lomax(1.5, 0.3),
    priors.InverseGamma(1, 0.075),
    priors.Gamma(2, 0.1),
    priors.LogNormal(-2, 3),
    priors.Uniform(0.5),
    priors.DuMouchel(),
)


@pytest.mark.parametrize("tau", HOSTILE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_hostile_data_and_priors(case, tau):
    """No warning leaks (they are errors here), every number is there, and the error stays at rounding."""
    y, v = made(case)
    for mu in (priors.Normal(0, 0.5), priors.Flat()):
        fit = am.BayesianModel(EffectSizes.from_arrays(y, v), mu_prior=mu, tau_prior=tau).fit()
        assert fit.error_bound < 1e-10
        table = fit.tidy()[["median", "ci_lb", "ci_ub"]].astype(float)
        assert np.isfinite(table.to_numpy()).all()
        assert (table["ci_lb"] <= table["median"]).all()
        assert (table["median"] <= table["ci_ub"]).all()
        assert "nan" not in fit.summary()


def test_identical_effects_put_tau_at_0():
    fit = am.BayesianModel(EffectSizes.from_arrays(np.full(20, 0.2), np.full(20, 1e-6))).fit()
    assert fit.posterior("tau").interval(kind="hdi").lb == 0
    assert fit.posterior("tau").quantile(0.95) < 1e-3
    assert fit.bayes_factor("tau = 0").bf01 > 100


def test_with_one_effect_tau_is_its_prior():
    fit = am.BayesianModel(effects(1), mu_prior=priors.Flat()).fit()
    x = np.array([0.01, 0.1, 0.3, 0.9])
    np.testing.assert_allclose(fit.posterior("tau").cdf(x), priors.HalfNormal(0.3).cdf(x), rtol=1e-12)


def test_moments_that_do_not_exist_have_a_reason():
    fit = am.BayesianModel(effects(1), mu_prior=priors.Flat(), tau_prior=priors.HalfCauchy(0.3)).fit()
    for name in ("mu", "tau", "theta_new"):
        assert isinstance(fit.tidy().loc[name, "mean"], NotApplicable)
    assert np.isfinite(float(fit.tidy().iloc[3]["mean"]))
    two = am.BayesianModel(effects(2), mu_prior=priors.Flat(), tau_prior=priors.HalfCauchy(0.3)).fit()
    assert np.isfinite(two.posterior("mu").mean)
    assert isinstance(two.posterior("mu").sd, NotApplicable)


def test_what_cannot_be_integrated_says_so():
    with pytest.warns(ConvergenceWarning, match="only accurate to about"):
        fit = am.BayesianModel(effects(1), mu_prior=priors.Flat(), tau_prior=priors.InverseGamma(0.001, 0.001)).fit()
    assert "not-converged" in codes(fit)


def test_words(molloy, regression):
    text = molloy.summary()
    assert max(map(len, text.splitlines())) <= 80
    assert "Intervals: equal-tailed, 95% of the posterior" in text
    assert "mu ~ normal(0, 0.5); tau ~ half-normal(0.3)" in text
    assert "<caption>Posterior (Fisher z, 95% equal-tailed intervals)</caption>" in molloy._repr_html_()
    assert "equal-tailed 95% credible intervals" in molloy.methods_text()
    assert 'interval.type="central"' in molloy.r_code()
    assert "dhalfnormal(t, scale=0.3)" in molloy.r_code()
    assert "bmr(" in regression.r_code()
    assert max(map(len, regression.summary().splitlines())) <= 80


@pytest.mark.parametrize("program", ["bayesmeta", "brms", "RoBMA"])
def test_a_prior_keeps_all_its_digits_elsewhere(program):
    assert "0.123456789" in str(priors.HalfCauchy(0.123456789).spelled(program))


@pytest.mark.parametrize("tau", [*priors.sensitivity_set(), priors.Uniform(), priors.Jeffreys(), priors.Lomax(2, 1)])
def test_every_prior_has_a_spelling_in_r(tau):
    assert "stop(" not in am.BayesianModel(effects(6), tau_prior=tau).fit().r_code()


def test_export(molloy, regression):
    for fit in (molloy, regression):
        found = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
        assert found["statistics"]["k"] == fit.k
        assert len(found["posterior"]["mean"]) == fit.k + fit.p + 2
        assert len(fit.glance()) == 1
    json.dumps(am.BayesianModel(effects(1), mu_prior=priors.Flat()).fit().to_dict(), allow_nan=False)


def test_everything_can_be_read(molloy, regression):
    for fit in (molloy, regression):
        for name in dir(BayesianResults):
            if not name.startswith("_") and isinstance(getattr(BayesianResults, name, None), property):
                assert getattr(fit, name) is not None
    for name in dir(Marginal):
        if not name.startswith("_"):
            assert getattr(molloy.posterior("tau2"), name) is not None


def test_quantities(molloy):
    tau = molloy.posterior("tau")
    assert molloy.tau2 == pytest.approx(molloy.tau**2, rel=CLOSED_FORM)
    assert molloy.posterior("tau2").mean == pytest.approx(tau.mean**2 + tau.sd**2, rel=CLOSED_FORM)
    classical = am.RandomEffectsModel(molloy.effects).fit()
    assert pytest.approx(100 * molloy.tau2 / (molloy.tau2 + classical.vt), rel=CLOSED_FORM) == molloy.I2
    density = tau.density(points=50)
    assert density.shape == (50, 2)
    with pytest.raises(InputError, match="every weight of the combination is 0"):
        molloy.posterior({"mu": 0})
    with pytest.raises(InputError, match="must lie strictly between 0 and 1"):
        tau.quantile(1.0)


def test_draws_go_to_arviz(molloy, regression):
    container = molloy.to_arviz(draws=400, seed=1)
    draws = arviz_bridge.draws(container)
    assert {name: values.shape for name, values in draws.items()} == {
        "mu": (4, 100),
        "tau": (4, 100),
        "theta": (4, 100, 16),
        "theta_new": (4, 100),
    }
    again = arviz_bridge.draws(molloy.to_arviz(draws=400, seed=1))
    assert all((draws[name] == again[name]).all() for name in draws)
    beta = arviz_bridge.draws(regression.to_arviz(draws=40, seed=1, chains=2))["beta"]
    assert beta.shape == (2, 20, 3)
    with pytest.raises(InputError, match="that the chains share evenly"):
        molloy.to_arviz(draws=401, seed=1)


def test_prior_sensitivity(molloy):
    table = molloy.prior_sensitivity(mu_priors=[priors.Normal(0, 0.5), priors.Flat()])
    assert len(table) == 2 * len(priors.sensitivity_set())
    first, own = table.iloc[0], molloy.tidy()
    assert [first.mu, first.mu_ci_lb, first.mu_ci_ub] == own.loc["mu", ["median", "ci_lb", "ci_ub"]].tolist()
    assert first.tau == own.loc["tau", "median"]
    assert first.log_marginal_likelihood == molloy.log_marginal_likelihood
    assert isinstance(table.iloc[-1].log_marginal_likelihood, NotApplicable)
    other = am.BayesianModel(molloy.effects, mu_prior=priors.Flat(), tau_prior=priors.HalfCauchy(0.15)).fit()
    row = table[(table.mu_prior == "flat") & (table.tau_prior == "half-Cauchy(0.15)")].iloc[0]
    assert row.tau == pytest.approx(other.tau, rel=1e-12)
    assert row.pi_ub == pytest.approx(other.tidy().loc["theta_new", "ci_ub"], rel=1e-12)


def test_leaving_out_what_cannot_be_left_out(regression):
    alone = am.BayesianModel(effects(1), mu_prior=priors.Flat()).fit().loo()
    assert isinstance(alone.elpd, NotApplicable)
    es = regression.effects
    single = EffectSizes.from_arrays(es.yi, es.vi, mods={"g": ["a", *["b"] * 29]}, measure="ZCOR")
    fit = am.BayesianModel(single, mods="g", mu_prior=priors.Flat(), beta_prior=priors.Flat()).fit().loo()
    table = fit.tidy()
    assert isinstance(table["elpd"].iloc[0], NotApplicable)
    assert np.isfinite(table["elpd"].iloc[1:].astype(float)).all()
    assert isinstance(fit.elpd, NotApplicable)
    assert "elpd = " in str(regression.loo())


# brms#990: a flat prior over far more than the data allow.
FLAT_OR_NOT = {
    priors.Uniform(2): False,
    priors.Uniform(1000): False,
    priors.HalfNormal(500): False,
    priors.HalfCauchy(1000): False,
    priors.Gamma(0.5, 1000): False,
    priors.Uniform(0.001): True,
    priors.HalfNormal(0.001): True,
    priors.LogNormal(2, 0.2): True,
    priors.InverseGamma(5, 50): True,
}


@pytest.mark.parametrize("prior", FLAT_OR_NOT, ids=str)
def test_only_a_prior_that_pulls_is_in_conflict(prior):
    yi = [0.19, 0.16, 0.35, 0.28, 0.33, 0, 0.18, 0.05, 0.27, 0.01, -0.09, 0.39, 0, 0.15, 0.24, 0.04]
    sei = [0.1, 0.04, 0.14, 0.12, 0.1, 0.13, 0.08, 0.06, 0.13, 0.04, 0.14, 0.11, 0.09, 0.04, 0.08, 0.13]
    es = am.EffectSizes.from_arrays(yi, np.square(sei), measure="ZCOR")
    fit = am.BayesianModel(es, mu_prior=priors.Flat(), tau_prior=prior).fit()
    assert ("prior-conflict" in [note.code for note in fit.notes]) is FLAT_OR_NOT[prior]
