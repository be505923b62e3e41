"""Data nobody wishes for: each estimator gives a right number or a named reason, and NumPy never warns.

Warnings are errors in this suite; our own typed ones are let through here.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, RandomEffectsModel, RVEModel
from alliance_meta.core.univariate.fit import GENERALISED_Q
from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.notes import Tau2Method

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")

METHODS = Tau2Method.__args__


def made(name, rng):
    k = 20
    v = rng.uniform(0.01, 0.1, k)
    y = rng.normal(0.2, np.sqrt(v + 0.05))
    cases = {
        "two effects": (y[:2], v[:2]),
        "three effects": (y[:3], v[:3]),
        "equal variances": (y, np.full(k, 0.04)),
        "one tiny variance": (y, np.append(1e-12 * v.mean(), v[1:])),
        "one huge variance": (y, np.append(1e12, v[1:])),
        "no heterogeneity": (np.full(k, 0.2) + 1e-3 * y, v),
        "identical effects": (np.full(k, 0.2), v),
        "all zero": (np.zeros(k), v),
        "one effect at ten": (np.append(10.0, y[1:]), v),
        "large units": (1e6 * y, 1e12 * v),
        "small units": (1e-6 * y, 1e-12 * v),
    }
    return cases[name]


CASES = (
    "two effects",
    "three effects",
    "equal variances",
    "one tiny variance",
    "one huge variance",
    "no heterogeneity",
    "identical effects",
    "all zero",
    "one effect at ten",
    "large units",
    "small units",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_every_estimator_survives(case, method, rng):
    y, v = made(case, rng)
    test = "z" if method in GENERALISED_Q else "knha"
    fit = RandomEffectsModel(EffectSizes.from_arrays(y, v, measure="GEN"), method=method, test=test).fit()
    assert fit.fitted.tau2.converged.all()
    assert np.isfinite(fit.beta).all()
    assert np.isfinite(fit.se).all()
    assert fit.tau2 >= 0
    assert y.min() - 1e-9 <= fit.beta[0] <= y.max() + 1e-9
    lb, ub = fit.confint_tau2().lb, fit.confint_tau2().ub
    assert method == "EE" or 0 <= lb <= ub
    assert "nan" not in fit.summary()


@pytest.mark.parametrize("method", [m for m in METHODS if m not in GENERALISED_Q])
def test_two_hundred_thousand_rows(method, rng):
    # The slowest search stands for the others, which get a tenth.
    k = 200_000 if method == "REML" else 20_000
    v = rng.uniform(0.01, 0.1, k)
    x = rng.normal(size=k)
    es = EffectSizes.from_arrays(0.2 + 0.1 * x + rng.normal(0, np.sqrt(v + 0.03)), v, mods={"year": x})
    fit = RandomEffectsModel(es, mods="year", method=method, test="z").fit()
    # Five standard errors of a normal estimate: a false alarm once in two million runs, and the seed is fixed.
    np.testing.assert_array_less(np.abs(fit.beta - [0.2, 0.1]), 5 * fit.se)
    if method not in ("EE", "HS", "HSk", "SJ"):
        assert abs(fit.tau2 - 0.03) < 5 * fit.se_tau2


def test_our_warnings_have_one_root():
    assert issubclass(AllianceMetaWarning, UserWarning)


@pytest.mark.parametrize(
    ("y", "v", "words"),
    [
        (0.2, 1e-30, "1e-30 is less than 1e-15 times the largest variance or squared effect"),
        (0.2, 1e-300, "between 1e-40 and 1e\\+40, not 1e-300; check its unit"),
        (0.2, 1e300, "not 1e\\+300"),
        (1e200, 0.1, "no effect is beyond 1e\\+20"),
    ],
)
def test_what_no_effect_can_be_is_named_before_any_model_meets_it(y, v, words):
    with pytest.raises(InputError, match=words):
        EffectSizes.from_arrays([0.1, 0.3, y], [0.1, 0.2, v])


@pytest.mark.parametrize(("unit", "share"), [(1e9, 1.0), (1e-12, 1.0), (1.0, 1.1e-15), (1.0, 1e-14)])
def test_the_ends_of_what_is_possible_have_an_answer(unit, share, rng):
    k = 8
    y, v = unit * rng.normal(0.2, 0.2, k), unit**2 * rng.uniform(0.01, 0.05, k)
    v[0] *= share * (y.max() ** 2 + v.max()) / v[0] if share < 1 else 1.0
    es = EffectSizes.from_arrays(y, v, measure="GEN", study_id=np.arange(k) // 2, mods={"x": np.arange(k) * 1.0})
    for method in METHODS:
        fit = RandomEffectsModel(es, method=method, test="z").fit()
        assert np.isfinite([*fit.beta, *fit.se]).all()
        assert fit.summary()
    assert np.isfinite(RVEModel(es).fit().beta).all()
    assert np.isfinite(MultilevelModel(es).fit().beta).all()
    if share == 1.0:
        assert np.isfinite(RandomEffectsModel(es, mods="x").fit().beta).all()
    else:
        with pytest.raises(InputError, match="weights of the effects differ so much"):
            RandomEffectsModel(es, mods="x").fit()


@pytest.mark.parametrize("fine", [1e-7, 1e-14])
@pytest.mark.parametrize(
    "random", [{"random": "measure | study_id", "struct": "UN"}, {"random": "measure | study_id", "struct": "HCS"}, {}]
)
def test_one_effect_far_too_exact_is_fitted_well_or_refused_by_a_multilevel_model(random, fine):
    rng, i = np.random.default_rng(1), np.arange(24)
    v, root = np.full(24, 0.01), 0.2 * rng.normal(size=(3, 3))
    y = 0.3 + (rng.normal(size=(8, 3)) @ root)[i % 8, i // 8] + rng.normal(0, np.sqrt(v))
    v[0] = fine
    mods = {"measure": [f"m{one}" for one in i // 8]}
    es = EffectSizes.from_arrays(y, v, study_id=[f"s{one}" for one in i % 8], measure="ZCOR", mods=mods)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        if random and fine < 1e-8:
            with pytest.raises(InputError, match="effect 1 has next to no variance of its own"):
                MultilevelModel(es, **random).fit()
        else:
            fit = MultilevelModel(es, **random).fit()
            # Whether the last digits let it settle depends on the machine; that it did not is said.
            assert fit.fitted.converged != ("not-converged" in {note.code for note in fit.notes})
            assert fit.fitted.converged or random
            assert np.isfinite(fit.se).all()
