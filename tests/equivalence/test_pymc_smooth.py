"""The curve over a moderator: its basis against integrals, its density against a formula, its limit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.interpolate import CubicSpline

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes.pymc.independent import smooth_basis
from alliance_meta.errors import DroppedRowsWarning
from tests.equivalence.pymc_density import OFFSET, as_draws, check_draws_of_studies, log_density
from tests.tolerances import CLOSED_FORM


@pytest.fixture
def effects(rng):
    k = 20
    year = rng.integers(1980, 2020, k).astype(float)
    mods = {"year": year, "rater": ["client", "therapist"] * 10}
    yi = 0.2 + 0.1 * np.sin(year / 8) + rng.normal(0, 0.1, k)
    return am.EffectSizes.from_arrays(yi, rng.uniform(0.005, 0.03, k), mods=mods, measure="ZCOR")


@pytest.mark.parametrize("knots", [4, 6, 9])
def test_the_bends_are_a_natural_spline_without_its_line(rng, knots):
    x = rng.integers(1980, 2020, 30).astype(float)
    basis = smooth_basis(x, knots=knots)
    G = basis.at(x)
    assert G.shape == (30, knots - 2)
    assert np.abs(G.sum(axis=0)).max() < 1e-12
    assert np.abs((x - x.mean()) @ G).max() < 1e-10
    assert (G**2).sum() == pytest.approx(30, rel=CLOSED_FORM)
    # With a constant and x they span every natural spline on these knots, here one through random heights.
    other = CubicSpline(basis.knots, rng.normal(size=knots), bc_type="natural")(x)
    whole = np.column_stack([np.ones(30), x - x.mean(), G])
    assert np.abs(other - whole @ np.linalg.lstsq(whole, other, rcond=None)[0]).max() < 1e-10


def test_coefficients_of_one_size_are_bends_of_one_size(rng):
    x = rng.uniform(0, 10, 25)
    basis = smooth_basis(x, knots=6)

    nodes, weights = np.polynomial.legendre.leggauss(2)

    def bent(u):
        """Integrate the squared second derivative, from differences of the curve: exact for cubic pieces."""
        total = 0.0
        for a, b in zip(basis.knots, basis.knots[1:], strict=False):
            step = 0.1 * (b - a)
            at = (a + b) / 2 + (b - a) / 2 * nodes
            second = sum(w * basis.at(at + d * step) @ u for d, w in ((-1, 1), (0, -2), (1, 1))) / step**2
            total += (b - a) / 2 * (weights * second**2).sum()
        return total

    sizes = [bent(u) for u in np.eye(4)]
    mixed = bent(np.array([0.5, -0.5, 0.5, 0.5]))
    assert sizes == pytest.approx([sizes[0]] * 4, rel=1e-8)
    assert mixed == pytest.approx(sizes[0], rel=1e-8)


def test_it_is_straight_beyond_the_knots(rng):
    x = rng.uniform(0, 10, 25)
    basis = smooth_basis(x, knots=5)
    low, high = (basis.at(np.array([at, at + 1.0, at + 2.0])) for at in (x.min() - 3, x.max() + 1))
    assert np.abs(np.diff(low, 2, axis=0)).max() < 1e-12
    assert np.abs(np.diff(high, 2, axis=0)).max() < 1e-12


def point(**changes):
    """Return parameters of the smooth model with one other moderator."""
    return {"mu": 0.2, "tau": 0.12, "beta": [0.05, 0.003], "tau_smooth": 0.1, "z": [0.3, -1.2, 0.4, 0.8]} | changes


def mean_of(effects, p):
    """Return the mean effects by the formula in the docstring, with the names of the columns in order."""
    year = effects.moderators["year"].to_numpy()
    rater = (effects.moderators["rater"] == "therapist").to_numpy(dtype=float)
    X = np.column_stack([rater - rater.mean(), year - year.mean()])
    G = smooth_basis(year, knots=6).at(year)
    return p["mu"] + X @ np.array(p["beta"]) + p["tau_smooth"] * G @ np.array(p["z"])


def test_log_density_and_pointwise(effects):
    model = am.bayes.pymc.smooth(effects, by="year", mods="rater")
    assert list(model.coords["coefficient"]) == ["rater[T.therapist]", "year"]
    density = log_density(model)
    year = effects.moderators["year"].to_numpy()
    points = [point(), point(mu=-0.4, tau=0.5, tau_smooth=0.01, z=[2, 0.1, -1, 0])]
    found = []
    for p in points:
        rows = stats.norm.logpdf(effects.yi, mean_of(effects, p), np.sqrt(effects.vi + p["tau"] ** 2))
        expected = (
            rows.sum()
            + stats.norm.logpdf(p["mu"], 0, 0.5)
            + stats.norm.logpdf(p["beta"], 0, 0.25 / np.array([0.5, year.std()])).sum()
            + stats.halfnorm.logpdf(p["tau"], 0, 0.3)
            + stats.halfnorm.logpdf(p["tau_smooth"], 0, 0.125)
            + stats.norm.logpdf(p["z"]).sum()
        )
        assert density(**p) == pytest.approx(expected, abs=OFFSET)
        found.append(rows)
    draws = as_draws(*[with_intercept(effects, p) for p in points])
    np.testing.assert_allclose(model.recipe.log_likelihood(draws), found, rtol=CLOSED_FORM)


def with_intercept(effects, p):
    """Return the point with the intercept that PyMC computes."""
    year, share = effects.moderators["year"].mean(), 0.5
    return p | {"intrcpt": p["mu"] - share * p["beta"][0] - year * p["beta"][1]}


def test_new_years_lie_on_the_curve(effects):
    model = am.bayes.pymc.smooth(effects, by="year", mods="rater")
    draws = as_draws(with_intercept(effects, point()))
    own = effects.moderators
    np.testing.assert_allclose(model.recipe.fitted(draws, own), model.recipe.fitted(draws), rtol=1e-9)
    new = pd.DataFrame({"rater": "client", "year": [1970.0, 1975.0, 1980.0, 1985.0]})
    curve = model.recipe.fitted(draws, new)[0]
    first = own["year"].min()
    before = model.recipe.fitted(draws, pd.DataFrame({"rater": "client", "year": first - np.array([9.0, 6.0, 3.0])}))[0]
    assert np.diff(before, 2) == pytest.approx(0, abs=1e-12)
    assert curve.shape == (4,)


def test_true_effects_and_new_results(effects):
    recipe = am.bayes.pymc.smooth(effects, by="year", mods="rater").recipe
    check_draws_of_studies(recipe, with_intercept(effects, point()))


@pytest.mark.slow
def test_without_a_bend_it_is_the_straight_line(effects):
    curve = am.bayes.pymc.smooth(effects, by="year")
    line = am.bayes.pymc.normal_normal(effects, mods="year")
    same = {"mu": 0.25, "beta": [0.004], "tau": 0.2}
    for mu in (0.1, 0.25):
        p = same | {"mu": mu}
        extra = stats.halfnorm.logpdf(1e-12, 0, 0.125) + 4 * stats.norm.logpdf(0)
        straight = log_density(line)(**p) + extra
        assert log_density(curve)(**p, tau_smooth=1e-12, z=np.zeros(4)) == pytest.approx(straight, abs=OFFSET)


def test_other_effects_keep_the_curve(effects):
    model = am.bayes.pymc.smooth(effects, by="year", mods="rater")
    half = effects.take(slice(0, 10))
    recipe, data = model.recipe.rebuilt(half)
    draws = as_draws(with_intercept(effects, point()))
    np.testing.assert_allclose(recipe.fitted(draws), model.recipe.fitted(draws)[:, :10], rtol=CLOSED_FORM)
    assert {name: values.shape for name, values in data.items()} == {
        "yi": (10,), "vi": (10,), "X": (10, 2), "G": (10, 4)}  # fmt: skip


def test_fewer_different_values_than_knots(rng):
    mods = {"phase": [1.0, 2.0, 3.0, 4.0] * 3}
    es = am.EffectSizes.from_arrays(rng.normal(0.2, 0.1, 12), [0.01] * 12, mods=mods, measure="ZCOR")
    model = am.bayes.pymc.smooth(es, by="phase")
    assert list(model.coords["bend"]) == ["phase 1", "phase 2"]
    assert "with 4 knots" in model.recipe.words


def test_an_effect_without_the_moderator_is_left_out_and_noted(effects):
    frame = effects.moderators
    frame.loc[2, "year"] = np.nan
    es = am.EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    with pytest.warns(DroppedRowsWarning):
        model = am.bayes.pymc.smooth(es, by="year")
    assert len(model.coords["study"]) == 19
    assert [note.code for note in model.recipe.notes] == ["dropped-rows"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "rater"}, "by='rater' is not a number"),
        ({"by": "yaer"}, "did you mean 'year'"),
        ({"by": "year", "mods": "rater * year"}, "'year' is in mods="),
        ({"by": "year", "mods": "0 + rater"}, "no intercept"),
        ({"by": "year", "knots": 3}, "knots=3 must be a whole number of at least 4"),
        ({"by": "year", "knots": 5.5}, "knots=5.5 must be"),
        ({"by": "half"}, "'half' has 2 different values"),
        ({"by": "year", "smooth_prior": priors.Normal(0, 1)}, "smooth_prior=.* is not a prior of tau"),
        ({"by": "year", "smooth_prior": priors.Jeffreys()}, "of tau_smooth is improper"),
    ],
)
def test_bad_arguments(effects, arguments, message):
    frame = effects.moderators.assign(half=[0.0, 1.0] * 10)
    es = am.EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    with pytest.raises(am.InputError, match=message):
        am.bayes.pymc.smooth(es, **arguments)
