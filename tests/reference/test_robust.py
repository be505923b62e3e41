"""Cluster-robust inference against clubSandwich and metafor; the wild bootstrap against refits in R."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, escalc, load_dataset
from alliance_meta.core.dependent import codes, stacks
from alliance_meta.core.resampling import sign_patterns
from alliance_meta.core.robust.sandwich import (
    DiagonalWorking,
    Regression,
    impose,
    sandwich,
    satterthwaite,
    statistics,
    t_tests,
    wald,
)
from tests.reference.reading import numbers, reference
from tests.tolerances import CLOSED_FORM, OPTIMISER

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning"),
    # The subject: what robust inference makes of a model that takes effects as independent.
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning"),
]

TYPES = ("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")


def konstantopoulos():
    data = {name: np.array(values, dtype=float) for name, values in reference("multilevel")["konst_data"].items()}
    return data, codes(data["district"]), codes(1000 * data["district"] + data["school"])


def crede():
    data = {name: np.array(values) for name, values in reference("multilevel")["crede_data"].items()}
    return data, codes(data["studyid"]), codes(1000 * data["studyid"] + data["sampleid"])


def three_levels(v, outer, inner, sigma2):
    """The marginal covariance (k, k) of a three-level model: `inner` may hold several rows."""
    return np.diag(v) + sigma2[0] * (outer[:, None] == outer[None, :]) + sigma2[1] * (inner[:, None] == inner[None, :])


def compare(y, X, M, cluster, expected, balanced=True):
    W = np.linalg.inv(M)
    bread = np.linalg.inv(X.T @ W @ X)
    beta = bread @ X.T @ W @ y
    blocks = [(rows, M[rows[:, :, None], rows[:, None, :]]) for rows in stacks(cluster)]
    for type in TYPES:
        ours = sandwich(X, y - X @ beta, W @ X, bread, blocks, type=type, balanced=balanced)
        df, theirs = satterthwaite(ours, np.eye(len(beta))), expected[f"cs_{type}"]
        _, p, lb, ub = t_tests(beta, np.sqrt(np.diag(ours.vb)), df, level=0.95)
        assert ours.vb.ravel() == pytest.approx(numbers(theirs["V"]), rel=CLOSED_FORM)
        for mine, name in ((df, "df"), (p, "p"), (lb, "lb"), (ub, "ub")):
            assert mine == pytest.approx(numbers(theirs[name]), rel=CLOSED_FORM)


@pytest.mark.parametrize("balanced", [True, False])
def test_three_level_models_given_their_variances(balanced):
    stored = reference("multilevel")
    data, district, school = konstantopoulos()
    M = three_levels(data["vi"], district, school, stored["konst_3l"]["sigma2"])
    compare(data["yi"], np.ones((len(M), 1)), M, district, stored["konst_3l_rob"], balanced)
    data, study, sample = crede()
    M = three_levels(data["vi"], study, sample, stored["crede_3l"]["sigma2"])
    compare(data["yi"], np.ones((len(M), 1)), M, study, stored["crede_3l_rob"], balanced)
    M = three_levels(data["vi"], study, sample, stored["crede_mod"]["core"]["sigma2"])
    X = np.column_stack([np.ones(len(M)), data["criterion"] == "grade"])
    compare(data["yi"], X, M, study, stored["crede_mod"]["rob"], balanced)


@pytest.mark.parametrize("criterion", ["grade", "gpa"])
def test_one_criterion_of_crede(criterion):
    stored = reference("crede_multilevel")[criterion]
    y, v = numbers(stored["yi"]), numbers(stored["vi"])
    study = codes(np.array(stored["studyid"]))
    M = three_levels(v, study, np.arange(len(y)), stored["sigma2"])
    blocks = [(rows, M[rows[:, :, None], rows[:, None, :]]) for rows in stacks(study)]
    X = np.ones((len(y), 1))
    weighted = np.linalg.solve(M, X)
    bread = np.linalg.inv(X.T @ weighted)
    ours = sandwich(X, y - X @ (bread @ (weighted.T @ y)), weighted, bread, blocks, type="CR2")
    assert np.sqrt(ours.vb[0, 0]) == pytest.approx(stored["CR2_SE"], rel=CLOSED_FORM)
    assert satterthwaite(ours, np.eye(1))[0] == pytest.approx(stored["CR2_df"], rel=CLOSED_FORM)


def test_robust_results_of_fitted_multilevel_models():
    stored = reference("multilevel")
    data, _, _ = konstantopoulos()
    effects = EffectSizes.from_arrays(
        data["yi"], data["vi"], mods={name: data[name].astype(int).astype(str) for name in ("district", "school")}
    )
    ours = MultilevelModel(effects, random="district/school").fit().robust(cluster="district")
    theirs = stored["konst_3l_rob"]["cs_CR2"]
    for name, key in (("se", "SE"), ("ddf", "df"), ("pval", "p"), ("ci_lb", "lb"), ("ci_ub", "ub")):
        assert getattr(ours, name) == pytest.approx(numbers(theirs[key]), rel=10 * OPTIMISER)
    expected = reference("robust")["konst_3l_mods"]
    mods = {"late": (data["year"] > 1990).astype(float), "third": (data["school"] % 3 == 0).astype(float)}
    effects = EffectSizes.from_arrays(data["yi"], data["vi"], mods={**effects.moderators, **mods})
    fit = MultilevelModel(effects, mods="late + third", random="district/school").fit()
    for type in TYPES:
        # rma.mv() stops where sigma2 is good to 1e-5 here.
        check(fit.robust(cluster="district", type=type), expected[type], tolerance=1e-4)


def check(ours, theirs, tolerance=CLOSED_FORM):
    assert ours.vb.ravel() == pytest.approx(numbers(theirs["V"]), rel=tolerance)
    for name, key in (("se", "se"), ("stat", "t"), ("ddf", "df"), ("pval", "p"), ("ci_lb", "lb"), ("ci_ub", "ub")):
        assert getattr(ours, name) == pytest.approx(numbers(theirs[key]), rel=tolerance), name


def check_htz(test, theirs, tolerance=CLOSED_FORM):
    assert (test.stat, test.df1, test.df2, test.pval) == pytest.approx(
        tuple(theirs[name] for name in ("F", "df1", "df2", "p")), rel=tolerance
    )


def crede_effects():
    sheet = load_dataset("crede2010")
    effects = escalc(sheet)
    mods = effects.moderators.assign(large=(effects.ni > 200).astype(float))
    return EffectSizes.from_arrays(effects.yi, effects.vi, ni=effects.ni, mods=mods, study_id=effects.study_id)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("test", ["z", "knha"])
def test_univariate_meta_regression(test, type):
    expected = reference("robust")[f"crede_uni_{test}"]
    fit = RandomEffectsModel(crede_effects(), mods="criterion + large", test=test).fit()
    ours = fit.robust(type=type)
    check(ours, expected[type])
    check_htz(ours.omnibus, expected[type]["htz"])


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("options", [{"weights": "ni"}, {"method": "EE"}])
def test_weights_that_are_not_the_inverse_of_the_working_covariance(options, type):
    expected = reference("robust")["crede_EE" if "method" in options else "crede_ni"][type]
    ours = RandomEffectsModel(crede_effects(), mods="criterion", test="z", **options).fit().robust(type=type)
    check(ours, expected)
    check_htz(ours.test(np.eye(2)), expected["htz"])


@pytest.mark.parametrize("type", TYPES)
def test_clusters_of_one_effect(type):
    expected = reference("robust")["molloy_singletons"][type]
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="meanage + quality").fit()
    ours = fit.robust(cluster=np.arange(16), type=type)
    check(ours, expected)
    check_htz(ours.omnibus, expected["htz"])


@pytest.mark.parametrize("test", ["z", "knha"])
def test_metafor_has_the_same_uncorrected_and_scaled_sandwiches(test):
    expected = reference("robust")[f"crede_uni_{test}"]["metafor"]
    fit = RandomEffectsModel(crede_effects(), mods="criterion + large", test=test).fit()
    # metafor's robust() leaves the Knapp-Hartung factor of a model in its bread; clubSandwich takes it out.
    factor = fit.fitted.coefficients.s2w
    for type, name in (("CR0", "plain"), ("CR1p", "adjust")):
        ours = fit.robust(type=type)
        assert factor * ours.se == pytest.approx(numbers(expected[name]["se"]), rel=CLOSED_FORM)
        assert ours.stat / factor == pytest.approx(numbers(expected[name]["t"]), rel=CLOSED_FORM)


@pytest.mark.parametrize("adjust", ["CR0", "CR2"])
@pytest.mark.parametrize(("which", "columns", "tested"), [("one", 2, [1]), ("all", 3, [0, 1, 2]), ("mean", 1, [0])])
def test_every_sign_vector_gives_the_statistic_of_a_refit(which, columns, tested, adjust):
    stored = reference("robust")["wild"]
    data, _, _ = konstantopoulos()
    kept = np.isin(data["district"], [11, 12, 18, 27, 56, 71, 86])
    y, district = data["yi"][kept], codes(data["district"][kept])
    late, third = data["year"] > 1990, data["school"] % 3 == 0
    X = np.column_stack([np.ones(kept.size), late, third])[kept, :columns].astype(float)
    work = DiagonalWorking(data["vi"][kept] + stored["tau2"])
    weighted = work.solve(X)
    bread = np.linalg.inv(X.T @ weighted)
    model = Regression(X, weighted, bread, [(rows, work.block(rows)) for rows in stacks(district)], True)
    beta, L = bread @ (weighted.T @ y), np.eye(columns)[tested]
    ours = np.sort(statistics(impose(model, y, L, type="CR2", adjust=adjust), sign_patterns(0, 64, 7)))
    assert ours == pytest.approx(np.sort(numbers(stored[which]["stats"][adjust])), rel=CLOSED_FORM)
    vb = L @ model.sandwich(y - X @ beta, "CR2").vb @ L.T
    assert wald((L @ beta)[None], vb[None])[0] == pytest.approx(stored[which]["observed"], rel=CLOSED_FORM)
