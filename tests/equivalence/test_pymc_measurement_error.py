"""The moderator with error: its density against bivariate normals and against integrals over the true value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.errors import DroppedRowsWarning, SuspiciousInputWarning
from tests.equivalence.pymc_density import OFFSET, as_draws, check_draws_of_studies, log_density
from tests.tolerances import CLOSED_FORM

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@pytest.fixture
def effects(rng):
    k = 12
    true = rng.normal(50, 8, k)
    se = rng.uniform(2, 6, k)
    mods = {
        "quality": true + se * rng.normal(size=k),
        "quality_se": se,
        "alpha": rng.uniform(0.5, 0.95, k),
        "rater": ["client", "therapist", "observer"] * 4,
    }
    yi = 0.3 + 0.01 * (true - 50) + rng.normal(0, 0.1, k)
    return am.EffectSizes.from_arrays(yi, rng.uniform(0.005, 0.03, k), mods=mods, measure="ZCOR")


POINT = {
    "mu": 0.2, "beta": [0.02, -0.1, 0.05], "tau": 0.12, "moderator_mean": 48.0, "moderator_beta": [3.0, -2.0],
    "moderator_sd": 6.0,
}  # fmt: skip
OTHER = POINT | {"mu": -0.3, "beta": [-0.05, 0.2, 0.0], "tau": 0.6, "moderator_sd": 11.0}


def pieces(effects, p):
    """Return centred quality, centred dummies in the order of the design, and the mean of the true values."""
    frame = effects.moderators
    w = frame["quality"].to_numpy()
    Z = np.column_stack([frame["rater"] == name for name in ("observer", "therapist")]).astype(float)
    Z = Z - Z.mean(axis=0)
    return w, Z, p["moderator_mean"] + Z @ np.array(p["moderator_beta"])


def joint(effects, p, se):
    """Return the log density of each (yi, measured value) as that of a bivariate normal."""
    w, Z, m = pieces(effects, p)
    slope, rest = p["beta"][0], np.array(p["beta"][1:])
    mean_y = p["mu"] + slope * (m - w.mean()) + Z @ rest
    s2 = p["moderator_sd"] ** 2
    out = []
    for i in range(effects.k):
        cov = [[effects.vi[i] + p["tau"] ** 2 + slope**2 * s2, slope * s2], [slope * s2, s2 + se[i] ** 2]]
        out.append(stats.multivariate_normal.logpdf([effects.yi[i], w[i]], [mean_y[i], m[i]], cov))
    return np.array(out)


def prior_density(effects, p):
    w, Z, _ = pieces(effects, p)
    sd, sds = w.std(), np.array([w.std(), *Z.std(axis=0)])
    return (
        stats.norm.logpdf(p["mu"], 0, 0.5)
        + stats.norm.logpdf(p["beta"], 0, 0.25 / sds).sum()
        + stats.halfnorm.logpdf(p["tau"], 0, 0.3)
        + stats.norm.logpdf(p["moderator_mean"], w.mean(), sd)
        + stats.norm.logpdf(p["moderator_beta"], 0, sd / Z.std(axis=0)).sum()
        + stats.halfnorm.logpdf(p["moderator_sd"], 0, sd)
    )


def with_intercept(effects, p):
    """Return the point with the intercept that PyMC computes."""
    frame = effects.moderators
    means = [frame["quality"].mean(), (frame["rater"] == "observer").mean(), (frame["rater"] == "therapist").mean()]
    return p | {"intrcpt": p["mu"] - np.dot(means, p["beta"])}


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"error": {"quality": "quality_se"}}, lambda frame, sd: frame["quality_se"].to_numpy()),
        ({"error": {"quality": 4.0}}, lambda frame, sd: np.full(len(frame), 4.0)),
        ({"reliability": {"quality": 0.7}}, lambda frame, sd: np.full(len(frame), sd * np.sqrt(0.3 / 0.7))),
        (
            {"reliability": {"quality": "alpha"}},
            lambda frame, sd: sd * np.sqrt((1 - frame["alpha"]) / frame["alpha"]).to_numpy(),
        ),
    ],
    ids=["column of errors", "one error", "one reliability", "column of reliabilities"],
)
def test_log_density(effects, given, errors):
    model = am.bayes.pymc.measurement_error(effects, mods="quality + rater", **given)
    assert list(model.coords["coefficient"]) == ["quality", "rater[T.observer]", "rater[T.therapist]"]
    density = log_density(model)
    for p in (POINT, OTHER):
        expected = joint(effects, p, errors(effects.moderators, p["moderator_sd"])).sum() + prior_density(effects, p)
        assert density(**p) == pytest.approx(expected, abs=OFFSET)


def test_pointwise_is_the_integral_over_the_true_value(effects):
    model = am.bayes.pymc.measurement_error(effects, mods="quality + rater", error={"quality": "quality_se"})
    se = effects.moderators["quality_se"].to_numpy()
    expected = []
    for p in (POINT, OTHER):
        w, Z, m = pieces(effects, p)
        # True values given the measured ones, then the effect given the true value.
        precision = p["moderator_sd"] ** -2.0 + se**-2.0
        x = (m * p["moderator_sd"] ** -2.0 + w * se**-2.0) / precision + NODES[:, None] / np.sqrt(precision)
        mean = p["mu"] + p["beta"][0] * (x - w.mean()) + Z @ np.array(p["beta"][1:])
        density = stats.norm.pdf(effects.yi, mean, np.sqrt(effects.vi + p["tau"] ** 2))
        expected.append(np.log(WEIGHTS @ density / WEIGHTS.sum()))
    draws = as_draws(*[with_intercept(effects, p) for p in (POINT, OTHER)])
    np.testing.assert_allclose(model.recipe.log_likelihood(draws), expected, rtol=1e-8)


def test_true_effects_and_new_results(effects):
    model = am.bayes.pymc.measurement_error(effects, mods="quality + rater", error={"quality": "quality_se"})
    check_draws_of_studies(model.recipe, with_intercept(effects, POINT))


def test_without_error_it_is_the_ordinary_meta_regression(effects):
    exact = log_density(am.bayes.pymc.measurement_error(effects, mods="quality", error={"quality": 0.0}))
    plain = log_density(am.bayes.pymc.normal_normal(effects, mods="quality"))
    own = {"moderator_mean": 48.0, "moderator_sd": 7.0}
    w = effects.moderators["quality"].to_numpy()
    apart = (
        stats.norm.logpdf(w, 48, 7).sum()
        + stats.norm.logpdf(48, w.mean(), w.std())
        + stats.halfnorm.logpdf(7, 0, w.std())
    )
    for p in ({"mu": 0.3, "beta": [0.02], "tau": 0.1}, {"mu": 0.0, "beta": [-0.05], "tau": 0.5}):
        assert exact(**p, **own) == pytest.approx(plain(**p) + apart, abs=OFFSET)


def test_half_a_reliability_means_half_a_slope(effects):
    """The classical attenuation: the same likelihood as half the slope, what is missed added to tau."""
    model = am.bayes.pymc.measurement_error(effects, mods="quality", reliability={"quality": 0.5})
    w = effects.moderators["quality"].to_numpy()
    p = {"mu": 0.2, "beta": [0.04], "tau": 0.1, "moderator_mean": w.mean(), "moderator_sd": 6.0}
    draws = as_draws(p | {"intrcpt": p["mu"] - p["beta"][0] * w.mean()})
    expected = stats.norm.logpdf(
        effects.yi, 0.2 + 0.02 * (w - w.mean()), np.sqrt(effects.vi + 0.1**2 + 0.04**2 * 6.0**2 * 0.5)
    )
    np.testing.assert_allclose(model.recipe.log_likelihood(draws)[0], expected, rtol=CLOSED_FORM)


def test_predictions_are_for_true_values(effects):
    model = am.bayes.pymc.measurement_error(effects, mods="quality + rater", error={"quality": 4.0})
    p = with_intercept(effects, POINT)
    new = pd.DataFrame({"quality": [40.0, 60.0], "rater": "client"})
    expected = p["intrcpt"] + p["beta"][0] * new["quality"].to_numpy()
    np.testing.assert_allclose(model.recipe.fitted(as_draws(p), new)[0], expected, rtol=CLOSED_FORM)


def test_other_effects(effects):
    model = am.bayes.pymc.measurement_error(effects, mods="quality + rater", error={"quality": "quality_se"})
    draws = as_draws(with_intercept(effects, POINT))
    recipe, data = model.recipe.rebuilt(effects.take(slice(0, 5)))
    np.testing.assert_allclose(
        recipe.log_likelihood(draws), model.recipe.log_likelihood(draws)[:, :5], rtol=CLOSED_FORM
    )
    assert {name: values.shape for name, values in data.items()} == {
        "yi": (5,), "vi": (5,), "X": (5, 3), "w": (5,), "error": (5,)}  # fmt: skip


def test_what_a_reader_must_know(effects):
    with pytest.warns(SuspiciousInputWarning, match="rests on the priors"):
        model = am.bayes.pymc.measurement_error(effects, mods="quality", error={"quality": 30.0})
    assert [note.code for note in model.recipe.notes] == ["measurement-error", "unreliable-moderator"]
    model = am.bayes.pymc.measurement_error(effects, mods="quality", error={"quality": "quality_se"})
    (note,) = model.recipe.notes
    assert "(standard error: the column quality_se)" in note.message
    assert list(model.recipe.priors) == ["mu", "quality", "tau", "moderator_mean", "moderator_sd"]


def test_an_effect_without_the_moderator_is_left_out_and_needs_no_error(effects):
    frame = effects.moderators
    frame.loc[2, ["quality", "quality_se"]] = np.nan
    es = am.EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    with pytest.warns(DroppedRowsWarning):
        model = am.bayes.pymc.measurement_error(es, mods="quality", error={"quality": "quality_se"})
    assert len(model.coords["study"]) == 11


def test_two_studies(effects):
    model = am.bayes.pymc.measurement_error(effects.take([0, 5]), mods="quality", error={"quality": "quality_se"})
    p = {"mu": 0.2, "beta": [0.01], "tau": 1e-4, "moderator_mean": 50.0, "moderator_sd": 1e-3}
    assert np.isfinite(log_density(model)(**p))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mods": "quality"}, "must name one moderator together, not 0"),
        ({"mods": "quality", "error": {"quality": 1.0}, "reliability": {"alpha": 0.5}}, "not 2 .'quality', 'alpha'"),
        ({"mods": "quality", "error": "quality_se"}, "error='quality_se' is not a mapping"),
        ({"mods": "quality", "error": {"quality": "quality_es"}}, "did you mean 'quality_se'"),
        ({"mods": "quality", "error": {"quality": True}}, "give a column or a number"),
        ({"mods": "quality", "error": {"quality": -1.0}}, r"Study 1 \(-1\).*and 7 more must be a standard error"),
        ({"mods": "quality", "error": {"quality": "gaps"}}, r"error of quality: Study 4 \(nan\) must be"),
        ({"mods": "quality", "reliability": {"quality": 1.2}}, "a reliability above 0 and up to 1"),
        ({"mods": "same", "error": {"same": 1.0}}, "'same' has one value"),
        ({"mods": "rater", "error": {"rater": 1.0}}, "'rater' must be a numeric term of its own"),
        ({"mods": "rater", "error": {"quality": 1.0}}, "'quality' must be a numeric term of its own"),
        ({"mods": "quality * rater", "error": {"quality": 1.0}}, "not in 'quality:rater'"),
        ({"mods": "0 + quality", "error": {"quality": 1.0}, "beta_prior": priors.Normal(0, 1)}, "no intercept"),
        (
            {"mods": "quality", "error": {"quality": 1.0}, "moderator_sd_prior": priors.Normal(0, 1)},
            "moderator_sd_prior=.* is not a prior of tau",
        ),
        (
            {"mods": "quality", "error": {"quality": 1.0}, "moderator_mean_prior": 3},
            "moderator_mean_prior=3 is not a prior of an effect",
        ),
    ],
)
def test_bad_arguments(effects, arguments, message):
    frame = effects.moderators.assign(same=4.0, gaps=[1.0, 1.0, 1.0, np.nan] + [1.0] * 8)
    es = am.EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    with pytest.raises(am.InputError, match=message):
        am.bayes.pymc.measurement_error(es, **arguments)
