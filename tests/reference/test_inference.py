"""Henmi-Copas, unequal heterogeneity, likelihood-ratio and permutation tests against metafor."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, RandomEffectsModel, bias, escalc, load_dataset, sensitivity
from alliance_meta.models import anova
from tests.reference.reading import DATASETS, MEASURES, reference
from tests.reference.test_metaregression import mcdaniel
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning"),
]

# hc() leaves R's uniroot and integrate at .Machine$double.eps^0.25; both errors enter the percentage point,
# which is then multiplied by the standard deviation of R and the standard error.
UNIROOT = 2 * 1.3e-4


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_henmi_copas(dataset, measure):
    expected = reference(f"{dataset}_{measure}")["hc"]
    effects = escalc(load_dataset(dataset), measure=measure)
    # R takes every effect as a study of its own.
    alone = EffectSizes.from_arrays(effects.yi, effects.vi, measure=measure)
    ours = bias.hc(RandomEffectsModel(alone).fit())
    assert ours.estimate == pytest.approx(expected["est"], rel=CLOSED_FORM)
    assert ours.se == pytest.approx(expected["se"], rel=CLOSED_FORM)
    w = 1 / effects.vi
    spread = np.sqrt(1 + ours.tau2 * (w**2).sum() / w.sum())
    near = UNIROOT * spread * ours.se
    assert ours.ci_lb == pytest.approx(expected["ci_lb"], abs=near)
    assert ours.ci_ub == pytest.approx(expected["ci_ub"], abs=near)
    assert near < 0.01 * (ours.ci_ub - ours.ci_lb)


@pytest.mark.parametrize("dataset", DATASETS)
def test_unequal_heterogeneity(dataset):
    expected = reference(f"{dataset}_ZCOR")["hettest"]
    ours = sensitivity.hettest(RandomEffectsModel(escalc(load_dataset(dataset))).fit())
    assert ours.df == expected["df"]
    assert ours.pval == pytest.approx(expected["pval"], rel=ITERATIVE)


def test_likelihood_ratio_of_nested_models():
    expected = reference("metaregression")["LRT_type"]
    full, reduced = (RandomEffectsModel(mcdaniel(), mods=mods, method="ML").fit() for mods in ("type", "1"))
    ours = anova(full, reduced)
    assert pytest.approx(expected["LRT"], rel=ITERATIVE) == ours.LRT
    assert ours.pval == pytest.approx(expected["pval"], rel=ITERATIVE)
    table = ours.tidy()
    for row, stored in (("full", expected["AICs"]), ("reduced", expected["AICr"])):
        # metafor's order: log-likelihood, deviance, AIC, BIC, AICc.
        assert list(table.loc[row, ["loglik", "AIC", "BIC", "AICc"]]) == pytest.approx(
            [stored[0], *stored[2:]], rel=ITERATIVE
        )


def test_exact_permutation_of_a_moderator():
    expected = reference("metaregression")["permutest_exact_molloy5"]
    effects = EffectSizes.from_arrays(expected["yi"], expected["vi"], mods={"meanage": expected["x"]})
    ours = sensitivity.permutation_test(RandomEffectsModel(effects, mods="meanage").fit(), exact=True)
    assert list(ours.pval) == pytest.approx(expected["pval"], rel=CLOSED_FORM)
    assert pytest.approx(expected["QMp"], rel=CLOSED_FORM) == ours.QMp
    assert (ours.exact, ours.iterations) == (True, 5040)


def test_exact_sign_flips():
    expected = reference("metaregression")["permutest_exact_intercept"]
    first = escalc(load_dataset("molloy2014")).take(np.arange(16) < 12)
    ours = sensitivity.permutation_test(RandomEffectsModel(first, test="z").fit(), exact=True)
    assert float(ours.pval[0]) == pytest.approx(expected["pval"], rel=CLOSED_FORM)
    assert (ours.possible, ours.iterations) == (4096, 4096)
