"""Moderators with gaps: the density against multivariate normals and sums over levels, and what holds without gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.core.bayes.gaussian_gaps import absorb
from tests.equivalence.pymc_density import OFFSET, as_draws, check_draws_of_studies, log_density
from tests.tolerances import CLOSED_FORM

NAN = np.nan
K = 12


def table():
    rng = np.random.default_rng(7)
    return pd.DataFrame({
        "year": rng.integers(1990, 2020, K).astype(float),
        "age": [30.0, NAN, 41, 35, NAN, 52, 38, NAN, 29, 44, 47, NAN],
        "dose": [8.0, 12, NAN, 20, NAN, 16, 10, 12, NAN, 14, 9, 11],
        "design": ["rct", None, "pre", "rct", None, "pre", "rct", None, "pre", "rct", "rct", "pre"],
        "rater": ["client", "therapist", "client", "client", "therapist", "client"] * 2,
    })  # fmt: skip


def effects_of(frame):
    rng = np.random.default_rng(8)
    k = len(frame)
    return am.EffectSizes.from_arrays(rng.normal(0.3, 0.2, k), rng.uniform(0.005, 0.03, k), mods=frame, measure="ZCOR")


@pytest.fixture
def effects():
    return effects_of(table())


def scaled(frame, name):
    return (frame[name] - frame[name].mean()) / frame[name].std(ddof=0)


def test_absorbing_is_conditioning(rng):
    b, s, a = np.tril(rng.normal(size=(4, 4)), -1), rng.uniform(0.5, 2, 4), rng.normal(size=4)
    spread = np.linalg.solve(np.eye(4) - b, np.diag(s))
    mean, cov = np.linalg.solve(np.eye(4) - b, a), spread @ spread.T
    x = rng.normal(size=4)
    for seen in ([1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]):
        o, g = np.flatnonzero(seen), np.flatnonzero(np.logical_not(seen))
        found = absorb(a, b, s, np.where(seen, x, 0.0), seen, log=np.log)
        expected_mean, expected_cov = x.copy(), np.zeros((4, 4))
        gain = cov[np.ix_(g, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
        expected_mean[g] = mean[g] + gain @ (x[o] - mean[o])
        expected_cov[np.ix_(g, g)] = cov[np.ix_(g, g)] - gain @ cov[np.ix_(o, g)]
        np.testing.assert_allclose(found.mean, expected_mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.cov, expected_cov, rtol=1e-9, atol=1e-12)
        density = stats.multivariate_normal.logpdf(x[o], mean[o], cov[np.ix_(o, o)]) if len(o) else 0.0
        assert found.log_density == pytest.approx(density, rel=1e-9)


# The moderators' order is that of their gaps: dose 3, age 4; design 3.
FULL = "year + rater + design + dose + age:rater"
POINT = {
    "mu": 0.25, "tau": 0.15, "beta": [0.1, -0.2, 0.01, -0.02, 0.03, 0.015],
    "gap_mean": [0.2, -0.3], "gap_sd": [0.8, 1.3], "gap_logit": [0.4, -0.7, 0.5],
    "gap_beta": [0.3, -0.4, 0.6, -0.2, 0.5, 0.1, -0.9],
}  # fmt: skip
OTHER = POINT | {"mu": -0.2, "tau": 0.4, "gap_sd": [1.5, 0.4], "gap_logit": [-1.0, 0.2, 0.0], "beta": [0.3] * 6}


def brute(effects, p):
    """Return log densities of each effect with its observed moderators, (k,), and of these alone, (k,)."""
    frame = effects.moderators
    therapist = (frame["rater"] == "therapist").to_numpy(dtype=float)
    year, dose, age = (scaled(frame, name).to_numpy() for name in ("year", "dose", "age"))
    rct_share = (frame["design"].dropna() == "rct").mean()
    Z = np.column_stack([year, therapist - therapist.mean()])
    unit_dose, unit_age = frame["dose"].std(ddof=0), frame["age"].std(ddof=0)
    dose_mean, age_mean = frame["dose"].mean(), frame["age"].mean()
    rct_filled = np.where(frame["design"].isna(), rct_share, frame["design"] == "rct").astype(float)
    age_filled = frame["age"].fillna(age_mean)
    average = {
        "year": frame["year"].mean(),
        "rater[T.therapist]": therapist.mean(),
        "design[T.rct]": rct_filled.mean(),
        "dose": dose_mean,
        "age:rater[client]": (age_filled * (1 - therapist)).mean(),
        "age:rater[therapist]": (age_filled * therapist).mean(),
    }
    both, alone = np.empty(effects.k), np.empty(effects.k)
    beta = dict(zip(average, p["beta"], strict=True))
    for i in range(effects.k):
        terms, moderators = [], []
        for rct in (0.0, 1.0):
            if frame["design"][i] in ("rct", "pre") and rct != float(frame["design"][i] == "rct"):
                continue
            eta = p["gap_logit"][0] + Z[i] @ np.array(p["gap_logit"][1:3])
            log_p = -np.log1p(np.exp(-eta if rct else eta))
            given = np.array([*Z[i], rct - rct_share])
            start = [
                p["gap_mean"][0] + given @ np.array(p["gap_beta"][:3]),
                p["gap_mean"][1] + given @ np.array(p["gap_beta"][3:6]),
            ]
            slope_age = beta["age:rater[therapist]"] if therapist[i] else beta["age:rater[client]"]
            fixed = p["mu"] + beta["year"] * (frame["year"][i] - average["year"])
            fixed += beta["rater[T.therapist]"] * (therapist[i] - average["rater[T.therapist]"])
            fixed += beta["design[T.rct]"] * (rct - average["design[T.rct]"])
            fixed += slope_age * age_mean
            fixed -= beta["age:rater[client]"] * average["age:rater[client]"]
            fixed -= beta["age:rater[therapist]"] * average["age:rater[therapist]"]
            B = np.zeros((3, 3))
            B[1, 0] = p["gap_beta"][6]
            B[2] = [beta["dose"] * unit_dose, slope_age * unit_age, 0.0]
            A = np.linalg.inv(np.eye(3) - B)
            mean = A @ np.array([*start, fixed])
            cov = A @ np.diag([*np.square(p["gap_sd"]), effects.vi[i] + p["tau"] ** 2]) @ A.T
            x = np.array([dose[i], age[i], effects.yi[i]])
            o = np.flatnonzero(~np.isnan(x))
            terms.append(log_p + stats.multivariate_normal.logpdf(x[o], mean[o], cov[np.ix_(o, o)]))
            o = o[:-1]
            density = stats.multivariate_normal.logpdf(x[o], mean[o], cov[np.ix_(o, o)]) if len(o) else 0.0
            moderators.append(log_p + density)
        both[i], alone[i] = logsumexp(terms), logsumexp(moderators)
    return both, alone


def of_parameters(design, p):
    """Return the log density of the priors."""
    return (
        stats.norm.logpdf(p["mu"], 0, 0.5)
        + stats.norm.logpdf(p["beta"], 0, 0.25 / design.X[:, 1:].std(axis=0)).sum()
        + stats.halfnorm.logpdf(p["tau"], 0, 0.3)
        + sum(stats.norm.logpdf(p.get(name, [])).sum() for name in ("gap_mean", "gap_beta"))
        + stats.halfnorm.logpdf(p.get("gap_sd", [])).sum()
        + stats.norm.logpdf(p.get("gap_logit", []), 0, 1.5).sum()
    )


def with_intercept(recipe, p):
    """Return the point with the intercept that PyMC computes."""
    return p | {"intrcpt": p["mu"] - recipe.design.X[:, 1:].mean(axis=0) @ np.array(p["beta"])}


def test_log_density_and_pointwise(effects):
    model = am.bayes.pymc.missing_moderators(effects, mods=FULL)
    assert [rv.name for rv in model.free_RVs] == ["mu", "beta", "tau", "gap_mean", "gap_beta", "gap_sd", "gap_logit"]
    density, found = log_density(model), []
    for p in (POINT, OTHER):
        both, alone = brute(effects, p)
        assert density(**p) == pytest.approx(both.sum() + of_parameters(model.recipe.design, p), abs=OFFSET)
        found.append(both - alone)
    draws = as_draws(*[with_intercept(model.recipe, p) for p in (POINT, OTHER)])
    np.testing.assert_allclose(model.recipe.log_likelihood(draws), found, rtol=1e-8)


def test_true_effects_and_new_results(effects):
    recipe = am.bayes.pymc.missing_moderators(effects, mods=FULL).recipe
    mild = POINT | {"beta": [0.005, -0.2, 0.3, -0.02, 0.008, 0.005]}
    check_draws_of_studies(recipe, with_intercept(recipe, mild))


def test_a_study_with_a_gap_varies_more(effects):
    """Predictions of the model's own studies: results without their sampling errors."""
    recipe = am.bayes.pymc.missing_moderators(effects, mods=FULL).recipe
    mild = POINT | {"beta": [0.005, -0.2, 0.3, -0.02, 0.008, 0.005]}
    draws = as_draws(*[with_intercept(recipe, mild)] * 4000)
    one = {name: values[:1] for name, values in draws.items()}
    own = effects.moderators
    away = recipe.scatter(draws, own, np.random.default_rng(1))
    sd = recipe.scatter.sd(one, own)[0]
    assert (np.abs(away.mean(axis=0)) < 4 * sd / np.sqrt(4000)).all()
    np.testing.assert_allclose(away.std(axis=0), sd, rtol=0.06)
    new = recipe.replicate(draws, np.random.default_rng(2))
    np.testing.assert_allclose(new.var(axis=0), sd**2 + effects.vi, rtol=0.12)
    whole = own.notna().all(axis=1).to_numpy()
    np.testing.assert_allclose(sd[whole], 0.15, rtol=CLOSED_FORM)
    assert (sd[~whole] > 0.151).all()
    np.testing.assert_allclose(recipe.scatter.sd(one, own[whole]), 0.15, rtol=CLOSED_FORM)


def test_one_numeric_moderator_against_the_formula(effects):
    """A study without the moderator: its mean is that at the moderator's mean, and its variance is larger."""
    model = am.bayes.pymc.missing_moderators(effects, mods="age")
    assert [rv.name for rv in model.free_RVs] == ["mu", "beta", "tau", "gap_mean", "gap_sd"]
    u = scaled(effects.moderators, "age").to_numpy()
    unit, there = effects.moderators["age"].std(ddof=0), ~np.isnan(u)
    p = {"mu": 0.2, "beta": [0.03], "tau": 0.1, "gap_mean": [0.4], "gap_sd": [1.2]}
    slope = 0.03 * unit
    mean = 0.2 + slope * np.where(there, u, 0.4)
    variance = effects.vi + 0.01 + np.where(there, 0.0, (slope * 1.2) ** 2)
    rows = stats.norm.logpdf(effects.yi, mean, np.sqrt(variance))
    expected = rows.sum() + stats.norm.logpdf(u[there], 0.4, 1.2).sum() + of_parameters(model.recipe.design, p)
    assert log_density(model)(**p) == pytest.approx(expected, abs=OFFSET)
    draws = as_draws(with_intercept(model.recipe, p))
    np.testing.assert_allclose(model.recipe.log_likelihood(draws)[0], rows, rtol=CLOSED_FORM)
    np.testing.assert_allclose(model.recipe.fitted(draws)[0], mean, rtol=CLOSED_FORM)


def test_one_categorical_moderator_against_the_formula(effects):
    """A study without the level: a mixture of the levels."""
    model = am.bayes.pymc.missing_moderators(effects, mods="design")
    design = effects.moderators["design"]
    p = {"mu": 0.2, "beta": [0.3], "tau": 0.1, "gap_logit": [0.7]}
    share, rct = (design.dropna() == "rct").mean(), 1 / (1 + np.exp(-0.7))
    at = model.recipe.design.X[:, 1].mean()
    assert at == pytest.approx(share, rel=CLOSED_FORM)
    pre, post = (stats.norm.pdf(effects.yi, 0.2 + 0.3 * (x - at), np.sqrt(effects.vi + 0.01)) for x in (0.0, 1.0))
    rows = np.log(np.select([design == "rct", design == "pre"], [post, pre], rct * post + (1 - rct) * pre))
    levels = np.select([design == "rct", design == "pre"], [np.log(rct), np.log(1 - rct)], 0.0)
    expected = rows.sum() + levels.sum() + of_parameters(model.recipe.design, p)
    assert log_density(model)(**p) == pytest.approx(expected, abs=OFFSET)
    draws = as_draws(with_intercept(model.recipe, p))
    np.testing.assert_allclose(model.recipe.log_likelihood(draws)[0], rows, rtol=CLOSED_FORM)
    missing = int(np.flatnonzero(design.isna())[0])
    assert model.recipe.fitted(draws)[0, missing] == pytest.approx(0.2 + 0.3 * (rct - at), rel=CLOSED_FORM)


def test_nothing_missing_is_the_complete_case(effects):
    frame = table().assign(age=np.arange(12.0) + 30)
    es = effects_of(frame)
    model = am.bayes.pymc.missing_moderators(es, mods="age + rater")
    plain = am.bayes.pymc.normal_normal(es, mods="age + rater")
    p = {"mu": 0.2, "beta": [-0.02, 0.1], "tau": 0.3}
    assert log_density(model)(**p) == pytest.approx(log_density(plain)(**p), rel=CLOSED_FORM)
    draws = as_draws(with_intercept(model.recipe, p))
    np.testing.assert_allclose(model.recipe.log_likelihood(draws), plain.recipe.log_likelihood(draws), rtol=CLOSED_FORM)
    assert [note.code for note in model.recipe.notes] == ["nothing-missing"]
    check_draws_of_studies(model.recipe, with_intercept(model.recipe, p))


def test_studies_with_every_moderator_count_as_in_the_complete_case(effects):
    model = am.bayes.pymc.missing_moderators(effects, mods="age + design")
    draws = as_draws(
        with_intercept(model.recipe, {"mu": 0.2, "beta": [0.1, -0.02], "tau": 0.3, "gap_logit": [0.1],
                                      "gap_mean": [0.0], "gap_sd": [1.0], "gap_beta": [0.3]})
    )  # fmt: skip
    whole = effects.moderators[["age", "design"]].notna().all(axis=1).to_numpy()
    X = model.recipe.design.X[whole]
    mean = model.recipe.coefficients(draws) @ X.T
    expected = stats.norm.logpdf(effects.yi[whole], mean, np.sqrt(effects.vi[whole] + 0.09))
    np.testing.assert_allclose(model.recipe.log_likelihood(draws)[:, whole], expected, rtol=CLOSED_FORM)


def test_other_effects(effects):
    model = am.bayes.pymc.missing_moderators(effects, mods=FULL)
    draws = as_draws(with_intercept(model.recipe, POINT), with_intercept(model.recipe, OTHER))
    recipe, data = model.recipe.rebuilt(effects.take(slice(0, 7)))
    np.testing.assert_allclose(recipe.log_likelihood(draws), model.recipe.log_likelihood(draws)[:, :7], rtol=1e-9)
    np.testing.assert_allclose(recipe.fitted(draws), model.recipe.fitted(draws)[:, :7], rtol=1e-9)
    assert {values.shape[0] for values in data.values()} == {7}
    assert set(data) == {data.name for data in model.data_vars}
    gap = effects.moderators.assign(year=np.nan)
    with pytest.raises(am.InputError, match="year had no gaps when the model was made"):
        model.recipe.rebuilt(effects_of(gap))


def test_predictions_need_every_moderator(effects):
    model = am.bayes.pymc.missing_moderators(effects, mods="age + rater")
    p = {"mu": 0.2, "beta": [0.1, -0.02], "tau": 0.3, "gap_mean": [0.0], "gap_sd": [1.0], "gap_beta": [0.3]}
    draws = as_draws(with_intercept(model.recipe, p))
    new = pd.DataFrame({"age": [30.0, 40.0], "rater": "client"})
    slope = p["beta"][list(model.coords["coefficient"]).index("age")]
    assert np.diff(model.recipe.fitted(draws, new)[0]) == pytest.approx(10 * slope)
    with pytest.raises(am.InputError, match="empty cell in 'age'"):
        model.recipe.fitted(draws, new.assign(age=[30.0, NAN]))


def test_draws_of_the_mixture_are_its_own(effects):
    """PyMC's own draws of effects, for one set of parameters."""
    pm = am.bayes.arviz_bridge.load("pymc")
    model = am.bayes.pymc.missing_moderators(effects, mods="design")
    values = {"mu": 0.2, "beta": [5.0], "tau": 0.01, "gap_logit": [0.7]}
    with model:
        fixed = pm.do(model, {name: np.asarray(value, dtype=float) for name, value in values.items()})
        y = pm.draw(fixed["y"], draws=400, random_seed=1, mode="FAST_COMPILE")
    missing = effects.moderators["design"].isna().to_numpy()
    high = (y[:, missing] > 0.2 + 5.0 * (0.5 - model.recipe.design.X[:, 1].mean())).mean()
    assert abs(high - 1 / (1 + np.exp(-0.7))) < 4 * np.sqrt(0.25 / (400 * missing.sum()))


def test_data_can_be_drawn_from_the_priors(effects):
    found = am.bayes.sample_prior(am.bayes.pymc.missing_moderators(effects, mods="age + design"), seed=1, draws=20)
    assert am.bayes.arviz_bridge.draws(found, group="prior_predictive")["y"].shape == (1, 20, 12)


def test_what_a_reader_must_know(effects):
    notes = am.bayes.pymc.missing_moderators(effects, mods="age + rater").recipe.notes
    assert [note.code for note in notes] == ["missing-moderators", "missing-at-random"]
    assert notes[0].message == "4 of 12 effects lack a moderator and take part (age: 4)."
    assert "may depend on the effect and the moderators in 'age + rater' that were reported, not on" in notes[1].message


def test_a_category_that_is_a_number(effects):
    frame = table().assign(phase=[1.0, 2, NAN, 3, 1, 2, 3, 1, NAN, 2, 3, 1])
    model = am.bayes.pymc.missing_moderators(effects_of(frame), mods="C(phase)")
    assert list(model.coords["gap_logit_coefficient"]) == ["phase[2] on 1", "phase[3] on 1"]


def test_two_studies():
    es = effects_of(pd.DataFrame({"age": [30.0, 40.0], "design": ["rct", "pre"]}))
    frame = pd.DataFrame({"age": [30.0, NAN, 40.0], "design": ["rct", "pre", None]})
    model = am.bayes.pymc.missing_moderators(effects_of(frame), mods="age")
    assert np.isfinite(log_density(model)(mu=0.1, beta=[0.01], tau=0.0001, gap_mean=[0.0], gap_sd=[1.0]))
    whole = am.bayes.pymc.missing_moderators(es, mods="age")
    assert np.isfinite(log_density(whole)(mu=0.1, beta=[0.01], tau=0.0001))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mods": "yaer"}, "did you mean 'year'"),
        ({"mods": "age * dose"}, "age and dose with gaps"),
        ({"mods": "poly(age, 2)"}, "age with gaps may only have a straight-line effect"),
        ({"mods": "bs(age, df=4)"}, "age with gaps may only have a straight-line effect"),
        ({"mods": "0 + age"}, "no intercept"),
        ({"mods": "1"}, "no moderator that could have gaps"),
        ({"mods": "once"}, "'once' has one value"),
        ({"mods": "empty"}, "empty"),
        ({"mods": "many + also + more"}, "combinations of levels would have to be weighed"),
        ({"mods": "age", "gap_sd_prior": priors.Normal(0, 1)}, "gap_sd_prior=.* is not a prior of tau"),
        ({"mods": "age", "gap_mean_prior": 1.0}, "gap_mean_prior=1.0 is not a prior of an effect"),
    ],
)
def test_bad_arguments(arguments, message):
    rng = np.random.default_rng(3)
    many, also, more = ([*rng.permutation([*"aabbccddabd"]), None] for _ in range(3))
    es = effects_of(table().assign(empty=NAN, once=[5.0] + [NAN] * 11, many=many, also=also, more=more))
    with pytest.raises(am.InputError, match=message):
        am.bayes.pymc.missing_moderators(es, **arguments)
