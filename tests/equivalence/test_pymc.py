"""PyMC's model has the density it says, and its draws the moments that a grid gives."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.errors import ConvergenceWarning, DroppedRowsWarning
from tests.tolerances import CLOSED_FORM

# A mean of draws is this many of its own standard errors from the truth at most; the seed is fixed.
SIGMAS = 4
# The compiled density is off by the same 2e-9 everywhere (a constant of PyMC's), which moves no posterior.
OFFSET = 1e-8


def log_posterior(es, mu, tau, *, mu_sd=0.5, tau_scale=0.3):
    """Return the unnormalised log density of (mu, tau)."""
    total = np.sqrt(es.vi + np.asarray(tau)[..., None] ** 2)
    fit = stats.norm.logpdf(es.yi, np.asarray(mu)[..., None], total).sum(axis=-1)
    return fit + stats.norm.logpdf(mu, 0, mu_sd) + stats.halfnorm.logpdf(tau, 0, tau_scale)


def compiled(model):
    """Return the model's log density as a function of its transformed parameters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        return model.compile_logp(mode="NUMBA")


@pytest.fixture(scope="module")
def kolden():
    return am.escalc(am.load_dataset("kolden2011"))


@pytest.fixture(scope="module")
def model(kolden):
    return am.bayes.pymc.normal_normal(kolden)


@pytest.fixture(scope="module")
def prepared(model):
    return am.bayes.compile(model)


@pytest.fixture(scope="module")
def posterior(prepared):
    return am.bayes.sample(prepared, seed=2011, draws=1000, tune=500, chains=2, cores=1)


@pytest.fixture(scope="module")
def grid(kolden):
    mu, tau = np.linspace(-0.4, 0.9, 401), np.linspace(1e-6, 0.9, 400)
    logs = log_posterior(kolden, *np.meshgrid(mu, tau, indexing="ij"))
    weights = np.exp(logs - logs.max())
    return {"mu": (mu, weights.sum(axis=1) / weights.sum()), "tau": (tau, weights.sum(axis=0) / weights.sum())}


@pytest.mark.parametrize("name", ["mu", "tau"])
def test_draws_have_the_moments_of_the_grid(posterior, grid, name):
    at, weights = grid[name]
    mean = weights @ at
    sd = np.sqrt(weights @ (at - mean) ** 2)
    row = posterior.tidy().loc[name]
    assert abs(row["mean"] - mean) < SIGMAS * sd / np.sqrt(row["ess_bulk"])
    # The standard error of a standard deviation, with room for a fourth moment above the normal's.
    assert abs(row["sd"] - sd) < SIGMAS * sd / np.sqrt(row["ess_bulk"])
    for limit, share in (("ci_lb", 0.025), ("ci_ub", 0.975)):
        below = weights[at < row[limit]].sum()
        assert abs(below - share) < SIGMAS * np.sqrt(share * (1 - share) / row["ess_tail"])


def test_draws_pass_the_gate_and_carry_the_notes_of_the_data(posterior, kolden):
    assert posterior.notes == kolden.notes
    assert posterior.draws("mu").shape == (2, 1000)


@pytest.mark.slow
def test_same_seed_same_draws_compiled_before_or_now(model, prepared):
    def run(one):
        with pytest.warns(ConvergenceWarning) as caught:
            result = am.bayes.sample(one, seed=5, draws=20, tune=50, chains=2, cores=1)
        assert {str(w.message) for w in caught} <= {str(note) for note in result.notes}
        return result

    first, second = run(prepared), run(model)
    assert np.array_equal(first.draws("tau"), second.draws("tau"))
    assert "few-effective-draws" in {note.code for note in first.notes}


def test_log_density(model, kolden):
    density = compiled(model)
    theirs, expected = [], []
    for mu, tau in ((0.2, 0.1), (-0.5, 0.9), (0.0, 1e-4), (0.25, 0.25)):
        theirs.append(float(density({"mu": np.array(mu), "tau_log__": np.array(np.log(tau))})))
        # PyMC samples log tau, whose density has the extra factor tau.
        expected.append(log_posterior(kolden, mu, tau) + np.log(tau))
    assert np.diff(theirs) == pytest.approx(np.diff(expected), rel=CLOSED_FORM)
    assert theirs == pytest.approx(expected, abs=OFFSET)


@pytest.mark.parametrize(
    "prior",
    [
        priors.HalfT(4, 0.3),
        priors.HalfCauchy(0.2),
        priors.Exponential(0.2),
        priors.Lomax(2, 0.3),
        priors.InverseGamma(1, 0.075),
        priors.Gamma(2, 0.1),
        priors.LogNormal(-1.5, 0.8),
        priors.Uniform(1.0),
        priors.DuMouchel(),
        priors.Shrinkage(),
    ],
    ids=str,
)
def test_every_prior_of_tau_has_its_own_density(kolden, prior):
    model = am.bayes.pymc.normal_normal(kolden, tau_prior=prior)
    prior = prior.given(kolden.vi)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        (value,) = (model.rvs_to_values[rv] for rv in model.free_RVs if rv.name.startswith("tau"))
        density = model.compile_fn(
            [model.logp(vars=[rv for rv in model.free_RVs if rv.name.startswith("tau")]), value], mode="FAST_COMPILE"
        )
        tau = model.compile_fn(model.replace_rvs_by_values([model["tau"]])[0], inputs=[value], mode="FAST_COMPILE")
    # The density of tau times |dtau / dx| is that of the sampler's own variable x.
    for x in (-2.0, -0.5, 0.7):
        step = 1e-5
        at, low, high = (float(tau({value.name: np.array(one)})) for one in (x, x - step, x + step))
        theirs = float(density({value.name: np.array(x)})[0])
        expected = float(prior.logpdf(at)) + np.log((high - low) / (2 * step))
        assert theirs == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    "prior", [priors.Normal(0.1, 0.4), priors.StudentT(4, 0.1, 0.3), priors.Cauchy(0.1, 0.3), priors.Flat()], ids=str
)
def test_every_prior_of_an_effect_has_its_own_density(kolden, prior):
    model = am.bayes.pymc.normal_normal(kolden, mu_prior=prior)
    density = model.compile_fn(model.logp(vars=[model["mu"]]), mode="FAST_COMPILE")
    for mu in (-0.3, 0.0, 0.8):
        assert float(density({"mu": np.array(mu)})) == pytest.approx(float(prior.logpdf(mu)), abs=OFFSET)


def test_priors_and_new_data_reach_the_density(kolden):
    pm = load("pymc")
    model = am.bayes.pymc.normal_normal(kolden, mu_prior=priors.Normal(0, 0.2), tau_prior=priors.HalfNormal(0.1))
    density = compiled(model)
    point = {"mu": np.array(0.3), "tau_log__": np.array(np.log(0.2))}
    for es in (kolden, kolden.take(slice(0, 5)), kolden.take([0])):
        with model:
            pm.set_data({"yi": es.yi, "vi": es.vi}, coords={"study": list(es.slab)})
        expected = log_posterior(es, 0.3, 0.2, mu_sd=0.2, tau_scale=0.1) + np.log(0.2)
        assert density(point) == pytest.approx(expected, abs=OFFSET)


@pytest.fixture
def with_moderators(rng):
    k = 12
    mods = {"year": rng.integers(1980, 2020, k).astype(float), "rater": ["client", "therapist", "observer"] * 4}
    return am.EffectSizes.from_arrays(rng.normal(0.3, 0.2, k), rng.uniform(0.01, 0.05, k), mods=mods, measure="ZCOR")


def test_log_density_with_moderators(with_moderators):
    es = with_moderators
    model = am.bayes.pymc.normal_normal(es, mods="year + rater")
    names = list(model.coords["coefficient"])
    columns = {
        "year": es.moderators["year"].to_numpy(),
        "rater[T.observer]": (es.moderators["rater"] == "observer").to_numpy(dtype=float),
        "rater[T.therapist]": (es.moderators["rater"] == "therapist").to_numpy(dtype=float),
    }
    assert sorted(names) == sorted(columns)
    X = np.column_stack([columns[name] for name in names])
    density, centred = compiled(model), X - X.mean(axis=0)
    theirs, expected = [], []
    for mu, tau, beta in ((0.25, 0.15, [0.002, -0.1, 0.05]), (0.1, 0.4, [-0.03, 0.4, 0.0])):
        point = {"mu": np.array(mu), "beta": np.array(beta), "tau_log__": np.array(np.log(tau))}
        theirs.append(float(density(point)))
        expected.append(
            stats.norm.logpdf(es.yi, mu + centred @ beta, np.sqrt(es.vi + tau**2)).sum()
            + stats.norm.logpdf(mu, 0, 0.5)
            + stats.norm.logpdf(beta, 0, 0.25 / X.std(axis=0)).sum()
            + stats.halfnorm.logpdf(tau, 0, 0.3)
            + np.log(tau)
        )
    assert np.diff(theirs) == pytest.approx(np.diff(expected), rel=CLOSED_FORM)
    assert theirs == pytest.approx(expected, abs=OFFSET)
    intercept = model["intrcpt"].eval({model["mu"]: mu, model["beta"]: np.array(beta)}, mode="NUMBA")
    assert intercept == pytest.approx(mu - X.mean(axis=0) @ beta, rel=CLOSED_FORM)


def test_effects_without_a_moderator_are_left_out_and_noted(with_moderators):
    frame = with_moderators.moderators
    frame.loc[3, "year"] = np.nan
    es = am.EffectSizes.from_arrays(with_moderators.yi, with_moderators.vi, mods=frame, measure="ZCOR")
    with pytest.warns(DroppedRowsWarning):
        model = am.bayes.pymc.normal_normal(es, mods="year")
    assert len(model.coords["study"]) == 11
    assert [note.code for note in model.recipe.notes] == ["dropped-rows"]


def test_priors_on_another_scale_are_noted():
    es = am.EffectSizes.from_arrays([0.2, 0.5], [0.1, 0.1])
    assert [note.code for note in am.bayes.pymc.normal_normal(es).recipe.notes] == ["prior-scale"]
    assert (
        am.bayes.pymc.normal_normal(es, mu_prior=priors.Normal(0, 2), tau_prior=priors.HalfNormal(1)).recipe.notes == ()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau_prior": priors.Jeffreys()}, "the prior Jeffreys of tau is improper"),
        ({"mu_prior": 0.5}, "mu_prior=0.5 is not a prior of an effect"),
        ({"tau_prior": priors.Normal(0, 1)}, "is not a prior of tau"),
        ({"mods": "0 + year"}, "no intercept"),
        ({"mods": "yaer"}, "did you mean 'year'"),
    ],
)
def test_bad_arguments(with_moderators, arguments, message):
    with pytest.raises(am.InputError, match=message):
        am.bayes.pymc.normal_normal(with_moderators, **arguments)


def test_it_needs_effect_sizes():
    with pytest.raises(am.InputError, match="not list; make them with escalc"):
        am.bayes.pymc.normal_normal([0.1])
