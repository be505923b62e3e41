"""`anova`: likelihood-ratio tests of nested models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alliance_meta import EffectSizes, InputError, RandomEffectsModel
from alliance_meta.models import anova


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


def test_the_order_of_the_models_does_not_matter(es):
    full, reduced = (RandomEffectsModel(es, mods=mods, method="ML").fit() for mods in ("rater", "1"))
    assert anova(full, reduced).to_dict() == anova(reduced, full).to_dict()


def test_restricted_fits_with_different_moderators_are_refitted(es):
    fits = [RandomEffectsModel(es, mods=mods).fit() for mods in ("rater", "1")]
    by_ml = [RandomEffectsModel(es, mods=mods, method="ML").fit() for mods in ("rater", "1")]
    ours = anova(*fits)
    assert pytest.approx(anova(*by_ml).LRT) == ours.LRT
    assert (ours.full.method, ours.df) == ("ML", 2)
    assert any(note.code == "refitted-ml" for note in ours.notes)


@pytest.mark.parametrize("method", ["ML", "REML"])
def test_tau2_is_tested_against_the_equal_effects_model(es, method):
    random = RandomEffectsModel(es, mods="rater", method=method).fit()
    equal = RandomEffectsModel(es, mods="rater", method="EE", test="z").fit()
    ours = anova(random, equal)
    restricted = equal.fitted.loglik_reml if method == "REML" else equal.fitted.loglik_ml
    assert pytest.approx(2 * (random.loglik - restricted)) == ours.LRT
    assert (ours.df, ours.null) == (1, "tau2 = 0")
    assert ours.pval == pytest.approx(0.5 * stats.chi2.sf(ours.LRT, 1))


def test_tau2_and_moderators_together(es):
    ours = anova(RandomEffectsModel(es, mods="rater").fit(), RandomEffectsModel(es, method="EE", test="z").fit())
    assert ours.df == 3
    assert any(note.code == "tau2-and-moderators" for note in ours.notes)


def test_models_that_cannot_be_compared(es, fit, regression):
    ml = RandomEffectsModel(es, method="ML").fit()
    with pytest.raises(InputError, match="not nested"):
        anova(
            RandomEffectsModel(es, mods="rater", method="ML").fit(),
            RandomEffectsModel(es, mods="year", method="ML").fit(),
        )
    with pytest.raises(InputError, match="not nested"):
        anova(fit, fit)
    with pytest.raises(InputError, match="same method"):
        anova(regression, ml)
    with pytest.raises(InputError, match="different effects"):
        anova(regression, RandomEffectsModel(es.take(np.arange(14) > 0)).fit())
    with pytest.raises(InputError, match="'ML' or 'REML', not 'DL'"):
        anova(regression, RandomEffectsModel(es, method="DL").fit())
    with pytest.raises(InputError, match="equal effects and the smaller random"):
        anova(RandomEffectsModel(es, mods="rater", method="EE", test="z").fit(), fit)
    with pytest.raises(InputError, match="without tau2="):
        anova(regression, RandomEffectsModel(es, tau2=0.1).fit())
    with pytest.raises(InputError, match=r"call \.fit"):
        anova(regression, "1")
