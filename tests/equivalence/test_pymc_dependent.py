"""Dependent effects in PyMC: the density without matrices is that of the whole covariance matrix."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.core.mixed.nested import lay_out, simulate
from alliance_meta.errors import DependenceWarning, DroppedRowsWarning
from tests.equivalence.pymc_density import OFFSET, as_draws, log_density
from tests.tolerances import CLOSED_FORM

COUNTRY = list("AAAAAAAAABBBBBBBCCCCCC")
STUDY = [1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 6, 6, 6, 6, 7, 8, 8, 8, 9, 9]
SAMPLE = list("xxyxxyyxyxxxxyxyxxxyxy")
RATER = ["client", "therapist", "observer", "client"] * 5 + ["client", "therapist"]
THREE = ("country", "study", "es_id")
# The three variances in the order in which these tests give them.
CROSSED = ("study_id", "rater", "es_id")


@pytest.fixture
def es(rng):
    k = len(STUDY)
    mods = {
        "country": COUNTRY,
        "study": STUDY,
        "sample": SAMPLE,
        "rater": RATER,
        "year": rng.integers(1990, 2020, k).astype(float),
    }
    yi, vi = rng.normal(0.3, 0.2, k), rng.uniform(0.01, 0.05, k)
    return am.EffectSizes.from_arrays(yi, vi, mods=mods, measure="ZCOR", study_id=[f"s{s}" for s in STUDY])


def together(es, *columns):
    keys = [tuple(row) for row in es.moderators[list(columns)].itertuples(index=False)]
    return np.array([[float(a == b) for b in keys] for a in keys])


def dense(es, V, parts):
    """Return V + the sum of tau^2 times a matrix of ones for rows that share a group."""
    total = np.diag(es.vi) if V is None else V.to_dense()
    for tau, shared in parts:
        total = total + tau**2 * shared
    return total


def log_prior(mu, tau):
    return stats.norm.logpdf(mu, 0, 0.5) + stats.halfnorm.logpdf(tau, 0, 0.3).sum()


CASES = {
    "two levels": (("study_id", "es_id"), [("study",), None]),
    "no rows": (("study_id",), [("study",)]),
    "rows only": ("es_id", [None]),
    "three levels": (THREE, [("country",), ("study",), None]),
    "three levels, a path": ("country/study/es_id", [("country",), ("study",), None]),
    "four levels": (
        ("es_id", "study/sample", "country"),
        [None, ("study",), ("study", "sample"), ("country",)],
    ),
}


@pytest.mark.parametrize(
    # V would reach beyond the samples of a study: see the test of levels that are drawn.
    ("case", "rho"),
    [(case, rho) for case in CASES for rho in (None, 0.6) if (case, rho) != ("four levels", 0.6)],
)
def test_log_density_of_levels(es, case, rho):
    random, columns = CASES[case]
    V = None if rho is None else am.impute_V(es, rho=rho)
    density = log_density(pymc.multilevel(es, V=V, random=random))
    shared = [np.eye(es.k) if one is None else together(es, *one) for one in columns]
    for mu, tau in ((0.25, [0.2, 0.1, 0.15, 0.3]), (-0.3, [1e-3, 0.8, 0.02, 0.01])):
        tau = tau[: len(shared)]
        covariance = dense(es, V, zip(tau, shared, strict=True))
        expected = stats.multivariate_normal.logpdf(es.yi, np.full(es.k, mu), covariance) + log_prior(mu, tau)
        assert density(mu=mu, tau=tau) == pytest.approx(expected, abs=OFFSET)


def test_moderators_and_likelihood_of_each_cluster(es):
    V = am.impute_V(es, rho=0.5)
    model = pymc.multilevel(es, V=V, mods="year", random=THREE)
    recipe = model.recipe
    points = (
        {"mu": 0.2, "tau": [0.1, 0.2, 0.3], "beta": [0.01]},
        {"mu": 0.0, "tau": [0.9, 0.01, 0.1], "beta": [-0.02]},
    )
    year = es.moderators["year"].to_numpy()
    draws = as_draws(*points)
    draws["intrcpt"] = draws["mu"] - draws["beta"][:, 0] * year.mean()
    found = recipe.log_likelihood(draws)
    assert recipe.units == ("A", "B", "C")
    shared = [together(es, "country"), together(es, "study"), np.eye(es.k)]
    density = log_density(model)
    for i, point in enumerate(points):
        mean = point["mu"] + point["beta"][0] * (year - year.mean())
        covariance = dense(es, V, zip(point["tau"], shared, strict=True))
        for j, country in enumerate("ABC"):
            rows = np.flatnonzero(np.array(COUNTRY) == country)
            expected = stats.multivariate_normal.logpdf(es.yi[rows], mean[rows], covariance[np.ix_(rows, rows)])
            assert found[i, j] == pytest.approx(expected, rel=CLOSED_FORM)
        total = found[i].sum() + log_prior(point["mu"], point["tau"])
        total += stats.norm.logpdf(point["beta"][0], 0, 0.25 / year.std())
        assert density(**point) == pytest.approx(total, abs=OFFSET)


def test_one_level_of_rows_is_the_model_of_independent_effects(es):
    with pytest.warns(DependenceWarning, match="22 effects from 9 studies"):
        usual = log_density(pymc.normal_normal(es))
    levels = log_density(pymc.multilevel(es, random="es_id"))
    nothing = log_density(pymc.multilevel(es, random=("study_id", "es_id")))
    for mu, tau in ((0.2, 0.1), (-0.4, 0.7)):
        expected = usual(mu=mu, tau=tau)
        assert levels(mu=mu, tau=[tau]) == pytest.approx(expected, abs=OFFSET)
        more = stats.halfnorm.logpdf(1e-9, 0, 0.3)
        assert nothing(mu=mu, tau=[1e-9, tau]) == pytest.approx(expected + more, abs=OFFSET)


def test_a_level_that_V_reaches_across_is_drawn(es):
    V = am.impute_V(es, cluster="study", rho=0.5)
    model = pymc.multilevel(es, V=V, random=("study/sample", "es_id"))
    labels = list(model.coords["study/sample"])
    z = np.linspace(-1, 1, len(labels))
    at = np.array([labels.index(f"{s}/{x}") for s, x in zip(STUDY, SAMPLE, strict=True)])
    mu, tau = 0.2, [0.3, 0.2, 0.1]
    covariance = dense(es, V, [(0.3, together(es, "study")), (0.1, np.eye(es.k))])
    mean = mu + 0.2 * z[at]
    expected = stats.multivariate_normal.logpdf(es.yi, mean, covariance) + log_prior(mu, tau)
    found = log_density(model)(mu=mu, tau=tau, z_study_sample=z)
    assert found == pytest.approx(expected + stats.norm.logpdf(z).sum(), abs=OFFSET)
    # A cluster's own likelihood has these effects integrated out.
    draws = {"mu": np.array([mu]), "tau": np.array([tau]), "u_study_sample": 0.2 * z[None]}
    whole = dense(es, V, zip(tau, [together(es, "study"), together(es, "study", "sample"), np.eye(es.k)], strict=True))
    total = stats.multivariate_normal.logpdf(es.yi, np.full(es.k, mu), whole)
    each = model.recipe.log_likelihood(draws)
    assert each.shape == (1, 9)
    assert each.sum() == pytest.approx(total, rel=CLOSED_FORM)


@pytest.mark.parametrize("rho", [None, 0.6])
def test_log_density_of_crossed_factors(es, rho):
    V = None if rho is None else am.impute_V(es, rho=rho)
    model = pymc.crossed(es, V=V, random=CROSSED)
    raters = list(model.coords["rater"])
    at = np.array([raters.index(one) for one in RATER])
    density = log_density(model)
    for seen, tau, z in ((0.3, [0.2, 0.15, 0.1], [0.5, -1.0, 0.2]), (0.1, [0.01, 0.4, 0.3], [2.0, 1.0, 0.0])):
        u = tau[1] * np.array(z)
        mu = seen - u.mean()
        covariance = dense(es, V, [(tau[0], together(es, "study")), (tau[2], np.eye(es.k))])
        each = stats.multivariate_normal.logpdf(es.yi, mu + u[at], covariance)
        expected = each + stats.norm.logpdf(z).sum() + log_prior(mu, tau)
        assert density(mu_seen=seen, tau=tau, z_rater=z) == pytest.approx(expected, abs=OFFSET)
        draws = {"mu": np.array([mu]), "tau": np.array([tau]), "u_rater": u[None]}
        found = model.recipe.log_likelihood(draws)
        assert found.shape == (1, 9)
        assert found.sum() == pytest.approx(each, rel=CLOSED_FORM)
    assert model.recipe.units == tuple(f"s{i}" for i in range(1, 10))
    assert model.recipe.target_accept == 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mu_prior", "logpdf"),
    [
        (priors.StudentT(4, 0.1, 0.3), lambda x: stats.t.logpdf(x, 4, 0.1, 0.3)),
        (priors.Cauchy(0.1, 0.3), lambda x: stats.cauchy.logpdf(x, 0.1, 0.3)),
        (priors.Flat(), lambda x: 0.0),
    ],
    ids=["Student t", "Cauchy", "flat"],
)
def test_the_prior_of_mu_is_that_of_mu(es, mu_prior, logpdf):
    density = log_density(pymc.crossed(es, random=CROSSED, mu_prior=mu_prior))
    usual = log_density(pymc.crossed(es, random=CROSSED))
    point = {"tau": [0.2, 0.3, 0.1], "z_rater": [1.0, 0.5, -0.2]}
    for seen in (0.3, -0.5):
        mu = seen - 0.3 * np.mean(point["z_rater"])
        expected = usual(mu_seen=seen, **point) - stats.norm.logpdf(mu, 0, 0.5) + logpdf(mu)
        assert density(mu_seen=seen, **point) == pytest.approx(expected, abs=OFFSET)


def test_crossed_without_variation_between_raters_is_multilevel(es):
    crossed, nested = log_density(pymc.crossed(es, random=CROSSED)), log_density(pymc.multilevel(es))
    expected = nested(mu=0.2, tau=[0.1, 0.2]) + stats.halfnorm.logpdf(1e-9, 0, 0.3) + 3 * stats.norm.logpdf(0.0)
    assert crossed(mu_seen=0.2, tau=[0.1, 1e-9, 0.2], z_rater=[0.0] * 3) == pytest.approx(expected, abs=OFFSET)


def test_scatter_of_a_new_study(es, rng):
    tau = np.tile([0.3, 0.2, 0.1], (40000, 1))
    levels = pymc.multilevel(es, random=THREE).recipe.scatter
    assert levels({"tau": tau}, None, rng).std() == pytest.approx(np.sqrt(0.14), rel=0.02)
    assert levels.sd({"tau": tau[:3]}) == pytest.approx(np.full((3, 1), np.sqrt(0.14)))
    recipe = pymc.crossed(es, random=CROSSED).recipe
    draws = {"tau": tau, "u_rater": np.tile([0.5, -0.5, 0.0], (40000, 1))}
    assert recipe.scatter(draws, None, rng).std() == pytest.approx(np.sqrt(0.14), rel=0.02)
    new = recipe.scatter(draws, pd.DataFrame({"rater": ["therapist", "spouse", "client"]}), rng)
    assert new.mean(axis=0) == pytest.approx([-0.5, 0.0, 0.5], abs=0.01)
    assert new.std(axis=0) == pytest.approx(np.sqrt([0.1, 0.14, 0.1]), rel=0.02)


def test_other_data(es):
    recipe = pymc.multilevel(es, random=THREE).recipe
    part = es.take([0, 1, 9, 10, 11, 20])
    other, data = recipe.rebuilt(part)
    assert data["parent_1"].tolist() == [0, 0, 1, 1, 2, 3]
    assert data["parent_2"].tolist() == [0, 1, 1, 2]
    assert other.units == ("A", "B", "C")
    crossed = pymc.crossed(es, random=CROSSED).recipe
    again, data = crossed.rebuilt(es.take(slice(1, None)))
    assert data["group_1"][:3].tolist() == [1, 2, 0]
    draws = {"mu": np.array([0.1]), "tau": np.array([[0.1, 0.2, 0.3]]), "u_rater": np.array([[0.1, 0.2, 0.3]])}
    assert again.log_likelihood(draws)[0, 1:] == pytest.approx(crossed.log_likelihood(draws)[0, 1:], rel=CLOSED_FORM)


def test_other_data_that_do_not_fit(es):
    V = am.impute_V(es, rho=0.6)
    with pytest.raises(am.InputError, match="V belongs to the sampling variances"):
        pymc.multilevel(es, V=V).recipe.rebuilt(es.take(slice(1, None)))
    again = am.EffectSizes.from_arrays(es.yi + 1, es.vi, mods=es.moderators, measure="ZCOR", study_id=list(es.study_id))
    assert pymc.multilevel(es, V=V).recipe.rebuilt(again)[1]["yi"].tolist() == again.yi.tolist()
    mods = es.moderators.assign(rater=["spouse", *RATER[1:]])
    stranger = am.EffectSizes.from_arrays(es.yi, es.vi, mods=mods, measure="ZCOR", study_id=list(es.study_id))
    with pytest.raises(am.InputError, match="rater has 'spouse'"):
        pymc.crossed(es, random=CROSSED).recipe.rebuilt(stranger)
    mods = es.moderators.assign(rater=["client"] * 11 + ["therapist"] * 11)
    nested = am.EffectSizes.from_arrays(es.yi, es.vi, mods=mods, measure="ZCOR", study_id=list(es.study_id))
    with pytest.raises(am.InputError, match="otherwise than in the data"):
        pymc.crossed(es, random=CROSSED).recipe.rebuilt(nested)


def test_new_data_reach_the_density(es):
    pm = load("pymc")
    model = pymc.multilevel(es, random=THREE)
    density = log_density(model)
    part = es.take([0, 1, 9, 10, 11, 20])
    recipe, data = model.recipe.rebuilt(part)
    with model:
        pm.set_data(data, coords={"study": list(part.slab)})
    covariance = dense(part, None, [(0.1, together(part, "country")), (0.2, together(part, "study")), (0.3, np.eye(6))])
    expected = stats.multivariate_normal.logpdf(part.yi, np.full(6, 0.2), covariance)
    tau = [0.1, 0.2, 0.3]
    assert density(mu=0.2, tau=tau) == pytest.approx(expected + log_prior(0.2, tau), abs=OFFSET)
    draws = {"mu": np.array([0.2]), "tau": np.array([tau])}
    assert recipe.log_likelihood(draws).sum() == pytest.approx(expected, rel=CLOSED_FORM)


@pytest.mark.slow
def test_replications_have_the_covariance_of_the_model(es):
    V = am.impute_V(es, rho=0.6)
    groups = [np.array([s - 1 for s in STUDY]), np.array([ord(c) - 65 for c in COUNTRY])]
    laid = lay_out(es.vi, V.blocks, groups)
    rng = np.random.default_rng(2)
    draws = np.stack([simulate(laid, np.full(es.k, 0.3), np.array([0.2, 0.3]), 0.1, rng) for _ in range(20000)])
    expected = dense(es, V, [(0.2, together(es, "study")), (0.3, together(es, "country")), (0.1, np.eye(es.k))])
    assert draws.mean(axis=0) == pytest.approx(np.full(es.k, 0.3), abs=0.02)
    # The standard error of a covariance is at most sqrt(2) times the variance, over sqrt(20000).
    assert np.cov(draws, rowvar=False) == pytest.approx(expected, abs=6 * 0.01 * expected.max())


def test_prior_predictive_draws(es):
    pm = load("pymc")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        model = pymc.multilevel(es, V=am.impute_V(es, rho=0.6), random=THREE)
        y = pm.draw(model["y"], draws=3, random_seed=1, mode="FAST_COMPILE")
    assert y.shape == (3, es.k)
    assert np.isfinite(y).all()
    assert len(np.unique(y)) == 3 * es.k


def test_priors_of_each_level(es):
    chosen = {"country": priors.HalfNormal(0.1), "es_id": priors.HalfCauchy(0.2)}
    model = pymc.multilevel(es, random=THREE, tau_prior=chosen)
    assert list(model.recipe.priors) == ["mu", "tau[country]", "tau[study]", "tau[es_id]"]
    assert list(model.recipe.priors.values())[1:] == [chosen["country"], priors.HalfNormal(0.3), chosen["es_id"]]
    tau = [0.05, 0.2, 0.1]
    usual = log_density(pymc.multilevel(es, random=THREE))(mu=0.1, tau=tau)
    expected = usual - stats.halfnorm.logpdf([0.05, 0.1], 0, 0.3).sum()
    expected += stats.halfnorm.logpdf(0.05, 0, 0.1) + stats.halfcauchy.logpdf(0.1, 0, 0.2)
    found = log_density(model)(mu=0.1, **{f"tau_{i}": one for i, one in enumerate(tau, start=1)})
    assert found == pytest.approx(expected, abs=OFFSET)


def test_notes(es):
    def codes(model):
        return [note.code for note in model.recipe.notes]

    assert codes(pymc.multilevel(es)) == []
    assert codes(pymc.multilevel(es, random=THREE)) == ["prior-bound"]
    assert codes(pymc.multilevel(es, random="study_id")) == ["no-row-level"]
    assert codes(pymc.crossed(es, V=am.impute_V(es, rho=0.6))) == ["assumed-V", "prior-bound"]


@pytest.mark.parametrize(
    ("random", "words"),
    [
        ("es_id", "between rows, with"),
        ("study_id", "between levels of study_id, with"),
        (("study_id", "es_id"), "between levels of study_id, and between rows, with independent sampling errors"),
        (THREE, "between levels of country and study, and between rows, with"),
    ],
)
def test_words(es, random, words):
    assert words in pymc.multilevel(es, random=random).recipe.words


def test_few_effects(rng):
    one = am.EffectSizes.from_arrays([0.2], [0.02], measure="ZCOR")
    usual = log_density(pymc.normal_normal(one))(mu=0.1, tau=0.2)
    assert log_density(pymc.multilevel(one, random="es_id"))(mu=0.1, tau=[0.2]) == pytest.approx(usual, abs=OFFSET)
    two = am.EffectSizes.from_arrays([0.2, 0.4], [0.02, 0.03], measure="ZCOR", study_id=["a", "a"])
    model = pymc.multilevel(two, V=am.impute_V(two, rho=0.5))
    assert np.isfinite(log_density(model)(mu=0.1, tau=[0.2, 0.1]))
    assert model.recipe.units == ("a",)


def test_effects_without_a_moderator_are_left_out(es):
    frame = es.moderators.copy()
    frame.loc[3, "year"] = np.nan
    lacking = am.EffectSizes.from_arrays(es.yi, es.vi, mods=frame, measure="ZCOR", study_id=list(es.study_id))
    V = am.impute_V(lacking, rho=0.6)
    with pytest.warns(DroppedRowsWarning):
        model = pymc.multilevel(lacking, V=V, mods="year")
    assert len(model.coords["study"]) == es.k - 1


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("multilevel", {"random": ("study_id", "rater", "es_id")}, "rater cuts across.*use crossed"),
        ("crossed", {"random": ("study_id", "es_id")}, "use multilevel"),
        ("multilevel", {"random": ("study_id", "study")}, "study_id and study put the effects into the same groups"),
        ("multilevel", {"random": ("study_id", "study_id")}, "names study_id twice"),
        ("multilevel", {"random": "rater | study_id"}, "take intercepts.*see MultilevelModel"),
        ("multilevel", {"random": ()}, "take intercepts"),
        ("multilevel", {"random": "studdy"}, "did you mean 'study'"),
        ("multilevel", {"V": np.eye(3)}, "V has 3 rows for 22 effects"),
        (
            "multilevel",
            {"tau_prior": {"studyid": priors.HalfNormal(1)}},
            "did you mean 'study_id'.*Terms: study_id, study_id/es",
        ),
        ("multilevel", {"tau_prior": priors.Jeffreys()}, "improper"),
    ],
)
def test_bad_arguments(es, model, arguments, message):
    with pytest.raises(am.InputError, match=message):
        getattr(pymc, model)(es, **arguments)


def test_V_within_the_groups(es):
    V = am.impute_V(es, cluster="country", rho=0.3)
    with pytest.raises(am.InputError, match="V correlates effects of different groups of 'study_id'"):
        pymc.multilevel(es, V=V)


def test_a_singular_V_needs_a_level_of_rows():
    es = am.EffectSizes.from_arrays([0.1, 0.2, 0.4], [0.02] * 3, measure="ZCOR", study_id=["a", "a", "b"])
    V = np.array([[0.02, 0.02, 0], [0.02, 0.02, 0], [0, 0, 0.02]])
    with pytest.warns(am.errors.NotPositiveDefiniteWarning):
        V = am.effects.SamplingCovariance.from_matrix(V, check="warn")
    with pytest.raises(am.InputError, match="V is singular: add a random term for each row"):
        pymc.multilevel(es, V=V, random="study_id")
    shared = np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    covariance = V.to_dense() + 0.2**2 * shared + 0.1**2 * np.eye(3)
    expected = stats.multivariate_normal.logpdf(es.yi, np.full(3, 0.3), covariance) + log_prior(0.3, [0.2, 0.1])
    assert log_density(pymc.multilevel(es, V=V))(mu=0.3, tau=[0.2, 0.1]) == pytest.approx(expected, abs=OFFSET)


def test_it_needs_effect_sizes():
    with pytest.raises(am.InputError, match="multilevel needs EffectSizes, not list"):
        pymc.multilevel([0.1])
