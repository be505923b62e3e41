"""A tau that depends on moderators in PyMC: its density, what its draws mean, and its limit, one tau for all."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.errors import DroppedRowsWarning
from tests.equivalence.pymc_density import OFFSET, as_draws, log_density
from tests.tolerances import CLOSED_FORM


@pytest.fixture
def es(rng):
    k = 11
    mods = {
        "rater": ["therapist", "client"] * 5 + ["observer"],
        "year": rng.integers(1990, 2020, k).astype(float),
        "same": [1.0] * k,
    }
    return am.EffectSizes.from_arrays(rng.normal(0.3, 0.2, k), rng.uniform(0.01, 0.05, k), mods=mods, measure="ZCOR")


def column(es, name):
    if name == "year":
        return es.moderators["year"].to_numpy()
    return (es.moderators["rater"] == name).to_numpy(dtype=float)


def tau_of(es, tau, alpha, names):
    Z = np.column_stack([column(es, name) for name in names])
    return tau * np.exp(0.5 * (Z - Z.mean(axis=0)) @ np.array(alpha))


def test_log_density(es):
    model = pymc.location_scale(es, scale="year")
    density, year = log_density(model), column(es, "year")
    for mu, tau, alpha in ((0.2, 0.15, 0.1), (-0.3, 0.6, -0.05)):
        each = tau_of(es, tau, [alpha], ["year"])
        expected = stats.norm.logpdf(es.yi, mu, np.sqrt(es.vi + each**2)).sum() + stats.norm.logpdf(mu, 0, 0.5)
        expected += stats.halfnorm.logpdf(tau, 0, 0.3) + stats.norm.logpdf(alpha, 0, 1 / year.std())
        assert density(mu=mu, tau=tau, alpha=[alpha]) == pytest.approx(expected, abs=OFFSET)
    intercept = model["alpha_intrcpt"].eval({model["tau"]: 0.6, model["alpha"]: [-0.05]}, mode="FAST_COMPILE")
    # log(tau2) where the year is 0.
    assert intercept == pytest.approx(np.log(0.36) + 0.05 * year.mean(), rel=CLOSED_FORM)


def test_log_density_with_both_parts_and_other_priors(es):
    names = ["observer", "therapist"]
    alpha_prior = {"rater[T.observer]": priors.Normal(0, 0.5), "rater[T.therapist]": priors.Normal(0.1, 0.7)}
    chosen = {"beta_prior": priors.Normal(0, 1), "alpha_prior": alpha_prior, "tau_prior": priors.HalfT(4, 0.2)}
    model = pymc.location_scale(es, mods="year", scale="rater", **chosen)
    assert [name[8:-1] for name in model.coords["scale_coefficient"]] == names
    year, each = column(es, "year"), tau_of(es, 0.3, [0.4, -0.8], names)
    expected = stats.norm.logpdf(es.yi, 0.2 + 0.01 * (year - year.mean()), np.sqrt(es.vi + each**2)).sum()
    expected += stats.norm.logpdf(0.2, 0, 0.5) + stats.norm.logpdf(0.01) + np.log(2) + stats.t.logpdf(0.3, 4, 0, 0.2)
    expected += stats.norm.logpdf(0.4, 0, 0.5) + stats.norm.logpdf(-0.8, 0.1, 0.7)
    point = {"mu": 0.2, "beta": [0.01], "tau": 0.3, "alpha": [0.4, -0.8]}
    assert log_density(model)(**point) == pytest.approx(expected, abs=OFFSET)
    assert list(model.recipe.priors) == ["mu", "year", "tau", "alpha[rater[T.observer]]", "alpha[rater[T.therapist]]"]


def test_without_a_difference_it_is_one_tau(es):
    apart, together = log_density(pymc.location_scale(es, scale="year")), log_density(pymc.normal_normal(es))
    prior = stats.norm.logpdf(0, 0, 1 / column(es, "year").std())
    for mu, tau in ((0.2, 0.1), (-0.3, 0.6)):
        assert apart(mu=mu, tau=tau, alpha=[0.0]) == pytest.approx(together(mu=mu, tau=tau) + prior, abs=OFFSET)


def test_the_likelihood_is_that_of_the_frequentist_model(es):
    """At the maximum that LocationScaleModel finds, the log-likelihood is the one it states."""
    fit = am.LocationScaleModel(es, mods="year", scale="year", method="ML").fit()
    year = column(es, "year")
    draws = as_draws(
        {
            "intrcpt": fit.beta[0],
            "beta": fit.beta[1:],
            "tau": np.exp(0.5 * (fit.alpha[0] + fit.alpha[1] * year.mean())),
            "alpha": fit.alpha[1:],
        }
    )
    recipe = pymc.location_scale(es, mods="year", scale="year").recipe
    assert recipe.log_likelihood(draws).sum() == pytest.approx(fit.loglik, rel=CLOSED_FORM)


def test_log_likelihood_and_cdf_of_draws(es):
    recipe = pymc.location_scale(es, scale="year").recipe
    draws = as_draws({"mu": 0.2, "tau": 0.1, "alpha": [0.05]}, {"mu": -0.3, "tau": 0.6, "alpha": [-0.1]})
    for s in range(2):
        mean, tau = draws["mu"][s], tau_of(es, draws["tau"][s], draws["alpha"][s], ["year"])
        known = stats.norm(mean, np.sqrt(es.vi + tau**2))
        np.testing.assert_allclose(recipe.log_likelihood(draws)[s], known.logpdf(es.yi), rtol=CLOSED_FORM)
        np.testing.assert_allclose(recipe.cdf(draws)[s], known.cdf(es.yi), rtol=CLOSED_FORM)


def test_scatter_of_true_effects(es, rng):
    n = 40_000
    draws = {"mu": np.zeros(n), "tau": np.full(n, 0.3), "alpha": np.tile([0.4, -0.8], (n, 1))}
    scatter = pymc.location_scale(es, scale="rater").recipe.scatter
    assert scatter.sd(draws)[0, 0] == 0.3
    one = scatter(draws, None, rng)
    assert one.shape == (n, 1)
    assert one.std() == pytest.approx(0.3, rel=4 / np.sqrt(2 * n))
    new = es.moderators.iloc[[0, 1, 10]]
    expected = tau_of(es, 0.3, [0.4, -0.8], ["observer", "therapist"])[[0, 1, 10]]
    np.testing.assert_allclose(scatter.sd(draws, new)[0], expected, rtol=CLOSED_FORM)
    np.testing.assert_allclose(scatter(draws, new, rng).std(axis=0), expected, rtol=4 / np.sqrt(2 * n))


def test_other_data_keep_the_first_averages(es):
    recipe = pymc.location_scale(es, scale="rater", mods="year").recipe
    rows = [0, 1, 10]
    rebuilt, data = recipe.rebuilt(es.take(rows))
    assert set(data) == {"yi", "vi", "X", "Z"}
    centre = np.column_stack([column(es, "observer"), column(es, "therapist")]).mean(axis=0)
    np.testing.assert_allclose(data["Z"], [[0 - centre[0], 1 - centre[1]], -centre, [1 - centre[0], -centre[1]]])
    draws = as_draws({"intrcpt": 0.2, "beta": [0.001], "tau": 0.1, "alpha": [0.4, -0.8]})
    np.testing.assert_allclose(rebuilt.log_likelihood(draws), recipe.log_likelihood(draws)[:, rows], rtol=CLOSED_FORM)
    with pytest.raises(am.InputError):
        recipe.rebuilt(am.EffectSizes.from_arrays([0.1], [0.1], mods={"rater": ["nobody"], "year": [2000.0]}))


def test_few_studies_are_noted(es):
    assert [note.code for note in pymc.location_scale(es, scale="year").recipe.notes] == ["few-for-scale"]
    two = es.take([0, 1])
    assert log_density(pymc.location_scale(two, scale="rater"))(mu=0.1, tau=0.1, alpha=[0.3]) < 0
    many = am.EffectSizes.from_arrays(np.zeros(20), np.ones(20), mods={"x": np.arange(20.0)}, measure="ZCOR")
    assert pymc.location_scale(many, scale="x").recipe.notes == ()


def test_studies_without_a_moderator_of_either_part_are_left_out(es):
    frame = es.moderators
    frame.loc[3, "year"] = np.nan
    frame.loc[4, "rater"] = None
    gaps = am.EffectSizes.from_arrays(es.yi, es.vi, mods=frame, measure="ZCOR")
    with pytest.warns(DroppedRowsWarning):
        model = pymc.location_scale(gaps, mods="year", scale="rater")
    assert len(model.coords["study"]) == 9
    assert "dropped-rows" in [note.code for note in model.recipe.notes]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "1"}, "names no moderator"),
        ({"scale": "0 + year"}, "scale='0 \\+ year' has no intercept"),
        ({"scale": "same"}, "same"),
        ({"scale": "yaer"}, "scale='yaer'.*did you mean 'year'"),
        ({"scale": "year", "alpha_prior": {"yaer": priors.Normal()}}, "alpha_prior names 'yaer'.*did you mean 'year'"),
        ({"scale": "year", "alpha_prior": priors.HalfNormal(1)}, "alpha_prior of year=.* is not a prior of an effect"),
        ({"scale": "year", "tau_prior": priors.Jeffreys()}, "the prior Jeffreys of tau is improper"),
    ],
)
def test_bad_arguments(es, arguments, message):
    with pytest.raises(am.InputError, match=message):
        pymc.location_scale(es, **arguments)
