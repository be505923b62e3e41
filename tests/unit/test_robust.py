"""Cluster-robust inference: edges, refusals, notes, what is printed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, InputError, MultilevelModel, NotApplicable, RandomEffectsModel
from alliance_meta.core.dependent import stacks
from alliance_meta.core.robust.sandwich import resting, sandwich, satterthwaite
from alliance_meta.errors import FewStudiesWarning
from alliance_meta.models import RobustResults
from alliance_meta.tables.document import WIDTH
from tests.tolerances import CLOSED_FORM

# The subject: what robust inference makes of a model that takes effects as independent.
pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")

J, K = 14, 40
TYPES = ("CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3")


def effects(rng, k=K, **mods):
    study = np.concatenate([np.arange(J), rng.integers(0, J, k - J)])
    columns = {"rater": np.resize(["client", "therapist", "observer"], k), "year": 1980.0 + rng.integers(0, 40, k)}
    return EffectSizes.from_arrays(
        rng.normal(0.3, 0.2, k),
        rng.uniform(0.005, 0.05, k),
        ni=rng.integers(20, 200, k),
        mods=columns | mods,
        study_id=[f"Study {i}" for i in study],
        measure="ZCOR",
    )


@pytest.fixture
def es(rng):
    return effects(rng)


@pytest.fixture
def regression(es):
    return RandomEffectsModel(es, mods="rater + year").fit()


@pytest.mark.parametrize("type", TYPES)
def test_estimates_stay_and_every_number_is_there(regression, type):
    robust = regression.robust(type=type)
    assert isinstance(robust, RobustResults)
    assert (robust.type, robust.cluster, robust.n_clusters, int(robust.sizes.sum())) == (type, "study_id", J, K)
    assert robust.beta is regression.beta
    assert robust.se == pytest.approx(np.sqrt(np.diag(robust.vb)))
    assert list(robust.tidy().columns) == ["estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub"]
    assert robust.stat == pytest.approx(robust.beta / robust.se)
    assert (robust.ddf < J).all()
    assert robust.ci_ub - robust.beta == pytest.approx(robust.beta - robust.ci_lb)


def test_what_the_model_knows_is_passed_on_and_nothing_else(regression):
    robust = regression.robust()
    for name in ("tau2", "I2", "QE", "loglik", "method"):
        assert getattr(robust, name) == getattr(regression, name)
    with pytest.raises(InputError, match=r"a cluster-robust result has no blup: see \.fit"):
        robust.blup()
    with pytest.raises(AttributeError):
        _ = robust.anything_else


def test_one_combination_is_tested_by_t_squared(regression):
    robust = regression.robust()
    test = robust.test("year")
    assert test.stat == pytest.approx(robust.stat[3] ** 2, rel=CLOSED_FORM)
    assert (test.df1, test.df2, test.pval) == pytest.approx((1, robust.ddf[3], robust.pval[3]), rel=CLOSED_FORM)
    assert test.null == "year = 0"
    assert robust.omnibus.null == regression.omnibus.null
    assert (robust.QM, robust.QMdf, robust.QMp) == (
        robust.omnibus.stat, (3, robust.omnibus.df2), robust.omnibus.pval,
    )  # fmt: skip


def test_predictions_have_degrees_of_freedom_of_their_own(regression):
    robust = regression.robust()
    frame = robust.predict({"rater": ["client", "observer"], "year": [2000, 2010]})
    x = np.array([[1.0, 0, 0, 2000], [1.0, 1, 0, 2010]])
    assert frame["se"].to_numpy() == pytest.approx(np.sqrt(np.einsum("mp,pq,mq->m", x, robust.vb, x)))
    assert frame["ddf"].to_numpy() == pytest.approx(satterthwaite(robust.sandwich, x))
    assert frame["ddf"].nunique() == 2
    ratio = (frame["pi_ub"] - frame["pred"]) / (frame["ci_ub"] - frame["pred"])
    assert ((ratio**2 - 1) * frame["se"] ** 2).to_numpy() == pytest.approx(regression.tau2)
    assert len(robust.predict()) == K
    as_r = robust.predict({"rater": ["client"], "year": [2000]}, scale="r", level=0.9)
    assert as_r.attrs["scale"] == "r"
    assert float(as_r["ci_ub"].iloc[0]) < float(np.tanh(frame["ci_ub"].iloc[0]))
    means = robust.predict(scale="r_mean")["pred"].to_numpy()
    assert means == pytest.approx(regression.predict(scale="r_mean")["pred"].to_numpy())


def test_equal_effects_have_no_prediction_interval(es):
    frame = RandomEffectsModel(es, method="EE", test="z").fit().robust().predict()
    assert frame[["pi_lb", "pi_ub"]].isna().all(axis=None)
    assert "equal-effects" in frame.attrs["pi_note"]


def test_the_variance_may_differ_between_predictions(rng):
    es = effects(rng)
    fit = MultilevelModel(es, mods="0 + rater", random="rater | study_id", struct="DIAG").fit()
    new = {"rater": ["client", "observer"]}
    robust, model = fit.robust().predict(new, scale="r_mean"), fit.predict(new, scale="r_mean")
    assert robust["pred"].to_numpy() == pytest.approx(model["pred"].to_numpy())


@pytest.mark.parametrize("cluster", ["study_id", "rater", ["rater", "year"], "array", "series"])
def test_clusters_are_named_or_given(es, cluster):
    given = {"array": np.resize(np.arange(9), K), "series": pd.Series(np.resize(list("abcdefg"), K))}
    with pytest.warns(FewStudiesWarning) if cluster == "rater" else _nothing():
        robust = RandomEffectsModel(es).fit().robust(cluster=given.get(str(cluster), cluster))
    assert robust.cluster == {"study_id": "study_id", "rater": "rater"}.get(
        str(cluster), "rater + year" if isinstance(cluster, list) else "given cluster"
    )
    assert robust.cluster in robust.methods_text()


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cluster": "studi_id"}, "did you mean 'study_id'"),
        ({"cluster": ["a", "b"]}, "2 values for 40 effects"),
        ({"cluster": ["x"] * K}, "holds every effect in one cluster"),
        ({"cluster": [None, *range(K - 1)]}, "cluster"),
        ({"type": "HC3"}, "is not one of 'CR2'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_mend(regression, arguments, message):
    with pytest.raises(InputError, match=message):
        regression.robust(**arguments)


def test_as_many_coefficients_as_clusters_or_effects(es, regression):
    with pytest.raises(InputError, match="more clusters than coefficients, not 3 for 4; use CR2"):
        regression.robust(cluster="rater", type="CR1p")
    one_each = RandomEffectsModel(es.take(range(3)), mods="rater", method="EE", test="z").fit()
    with pytest.raises(InputError, match="no residuals are left"):
        one_each.robust()


def test_two_clusters_have_one_degree_of_freedom(es):
    fit = RandomEffectsModel(es).fit()
    with pytest.warns(FewStudiesWarning, match=r"Fewer than 4 degrees of freedom for intrcpt \(2 clusters\)"):
        robust = fit.robust(cluster=np.resize(["a", "b"], K))
    assert robust.ddf == pytest.approx([1.0], abs=0.01)
    assert [note.code for note in robust.notes if note not in fit.notes] == ["few-df"]


def test_clusters_of_one_effect_are_told(es):
    robust = RandomEffectsModel(es).fit().robust(cluster="slab")
    assert "singleton-clusters" in [note.code for note in robust.notes]


def lonely(rng):
    """One cluster alone holds a level of a moderator."""
    es = effects(rng)
    alone = np.array([study == "Study 3" for study in es.study_id])
    mods = es.moderators.assign(therapy=np.where(alone, "rare", np.resize(["cbt", "pd"], K)))
    return EffectSizes.from_arrays(es.yi, es.vi, mods=mods, study_id=es.study_id)


@pytest.mark.parametrize("weights", [None, "given"])
def test_a_coefficient_that_rests_on_one_cluster_is_named(rng, weights):
    es = lonely(rng)
    own = None if weights is None else rng.uniform(5, 90, K)
    fit = RandomEffectsModel(es, mods="C(therapy, Treatment('cbt'))", weights=own, test="z").fit()
    rare, pd_ = (next(name for name in fit.names if word in name) for word in ("rare", "pd"))
    with pytest.warns(FewStudiesWarning, match=r"Cluster Study 3 alone tells about .*rare\]: with no other"):
        robust = fit.robust()
    with pytest.raises(InputError, match="without Study 3 a coefficient has no data left; use CR2"):
        fit.robust(type="CR3")
    # Without that cluster, everything but its own coefficient is the same.
    kept = np.array([study != "Study 3" for study in es.study_id])
    fewer = RandomEffectsModel(
        es.take(kept), mods="C(therapy, Treatment('cbt'))", tau2=fit.tau2, test="z",
        weights=None if own is None else own[kept],
    ).fit().robust()  # fmt: skip
    for name in (fit.names[0], pd_):
        ours, theirs = robust.tidy().loc[name], fewer.tidy().loc[name]
        assert ours["se"] == pytest.approx(theirs["se"], rel=1e-8)
        assert ours["ddf"] == pytest.approx(theirs["ddf"], rel=1e-8)
    assert robust.tidy().loc[rare, "se"] > 0
    assert max(map(len, robust.summary().splitlines())) <= WIDTH


def test_what_is_known_from_one_cluster_alone_has_no_standard_error(rng):
    with pytest.warns(FewStudiesWarning, match=r"Study 3 alone tells about C\(therapy\)\[rare\]: with no other"):
        robust = RandomEffectsModel(lonely(rng), mods="0 + C(therapy)", test="z").fit().robust()
    rare = next(name for name in robust.names if "rare" in name)
    assert robust.tidy().loc[rare, ["se", "ddf", "pval", "ci_lb", "ci_ub"]].isna().all()
    assert robust.tidy().drop(index=rare).notna().all(axis=None)
    assert robust.predict({"therapy": ["rare"]})["se"].isna().all()
    for test in (robust.omnibus, robust.test(rare)):
        assert isinstance(test.stat, NotApplicable)
        assert "rests on one cluster alone" in test.stat.reason
    json.dumps(robust.to_dict())
    assert "n/a" in robust.summary()


def test_every_comparison_with_a_level_of_one_cluster_rests_on_it(rng):
    es = lonely(rng)
    with pytest.warns(FewStudiesWarning, match=r"alone tells about intrcpt, .*cbt\], .*pd\]: with"):
        one = RandomEffectsModel(es, mods="C(therapy, Treatment('rare'))").fit().robust()
    with pytest.warns(FewStudiesWarning, match=r"alone tells about .*rare\]: with"):
        two = RandomEffectsModel(es, mods="C(therapy, Treatment('cbt'))").fit().robust()
    # What does not involve that level does not depend on the coding.
    assert one.test([[0.0, -1.0, 1.0]]).pval == pytest.approx(two.test([[0.0, 1.0, 0.0]]).pval, rel=1e-8)


def test_too_few_clusters_for_so_many_combinations(es):
    with pytest.warns(FewStudiesWarning):
        robust = RandomEffectsModel(es, mods="C(year // 8)").fit().robust(cluster=np.resize([0, 1, 2], K))
    assert isinstance(robust.QM, NotApplicable)
    assert isinstance(robust.QMp, NotApplicable)
    assert "Test of moderators: n/a" in robust.summary()
    json.dumps(robust.to_dict())


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning")
def test_identical_effects_leave_no_uncertainty():
    es = EffectSizes.from_arrays([0.3] * 8, [0.01] * 8, study_id=list("aabbccdd"))
    with pytest.warns(FewStudiesWarning):
        robust = RandomEffectsModel(es).fit().robust()
    assert robust.se == pytest.approx([0.0], abs=0)
    assert (robust.stat[0], robust.pval[0]) == (np.inf, 0.0)
    assert isinstance(robust.QM, NotApplicable)


def test_a_year_needs_no_centring(es, regression):
    mods = es.moderators.assign(year=(es.moderators["year"] - 2000) / 10)
    centred = EffectSizes.from_arrays(es.yi, es.vi, mods=mods, study_id=es.study_id)
    one, two = regression.robust(), RandomEffectsModel(centred, mods="rater + year").fit().robust()
    assert one.se[3] == pytest.approx(two.se[3] / 10, rel=1e-9)
    assert one.ddf[3] == pytest.approx(two.ddf[3], rel=1e-9)
    assert one.omnibus.stat == pytest.approx(two.omnibus.stat, rel=1e-8)


@pytest.mark.parametrize("rho", [0.0, 0.999, -0.004])
def test_a_study_with_200_effects_and_any_correlation(rng, rho):
    # CR2 is unbiased under the working model, however large and nearly singular a cluster is.
    cluster = np.concatenate([np.zeros(200, dtype=int), np.repeat(np.arange(1, 21), 3)])
    k = cluster.size
    s = rng.uniform(0.05, 0.2, k)
    M = np.outer(s, s) * (rho * (cluster[:, None] == cluster[None, :]) + (1 - rho) * np.eye(k))
    X = np.column_stack([np.ones(k), rng.normal(size=k)])
    weighted = np.linalg.solve(M, X)
    bread = np.linalg.inv(X.T @ weighted)
    blocks = [(rows, M[rows[:, :, None], rows[:, None, :]]) for rows in stacks(cluster)]
    robust = sandwich(X, np.ones(k), weighted, bread, blocks, type="CR2")
    carry = robust.carry(np.eye(2))
    own = robust.within(robust.pull, robust.spread) + carry.transpose(0, 2, 1) @ robust.middle @ carry
    mean = robust.root @ own.sum(axis=0) @ robust.root.T
    assert mean.ravel() == pytest.approx(bread.ravel(), rel=1e-6, abs=1e-6 * np.abs(bread).max())


def test_clusters_across_the_model_are_told(es):
    fit = MultilevelModel(es, random=("study_id", "es_id")).fit()
    assert "crossed-clusters" not in [note.code for note in fit.robust().notes]
    across = fit.robust(cluster=np.resize(np.arange(11), K))
    assert "crossed-clusters" in [note.code for note in across.notes]
    assert "independent" in across.summary()


@pytest.mark.parametrize("which", ["mean", "regression", "multilevel"])
def test_what_is_printed(es, which):
    fit = {
        "mean": lambda: RandomEffectsModel(es).fit(),
        "regression": lambda: RandomEffectsModel(es, mods="rater + year").fit(),
        "multilevel": lambda: MultilevelModel(es, mods="rater", random=("study_id", "es_id")).fit(),
    }[which]()
    robust = fit.robust()
    text = robust.summary()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "Cluster-robust inference (CR2; k = 40 effects in 14 clusters" in text
    assert "Clusters: study_id" in text
    assert ("HTZ" in text) == (which != "mean")
    assert ("prediction interval" in text) == (which == "mean")
    assert str(robust) == repr(robust) == text == fit.robust().summary()
    assert "<table>" in robust._repr_html_()
    assert "replaced by cluster-robust ones (CR2: bias-reduced linearisation; 14 clusters" in robust.methods_text()
    code = robust.r_code()
    assert 'coef_test(fit, vcov="CR2", cluster=dat$study_id)' in code
    assert ("constrain_zero(2:" in code) == (which != "mean")
    stored = json.loads(json.dumps(robust.to_dict()))
    assert stored["statistics"]["n_clusters"] == J
    assert stored["coefficients"]["se"] == pytest.approx(list(robust.se))
    assert "model" in stored["fit"]
    assert robust.glance().loc[0, "cluster"] == "study_id"


def test_r_code_for_clusters_given_or_of_several_columns(es):
    fit = RandomEffectsModel(es).fit()
    assert "cluster=cluster)" in fit.robust(cluster=np.resize(np.arange(9), K)).r_code()
    assert "interaction(dat$rater, dat$year, drop=TRUE)" in fit.robust(cluster=["rater", "year"]).r_code()


def test_robust_results_are_public():
    assert am.models.RobustResults is RobustResults


@pytest.mark.parametrize(("elsewhere", "alone"), [(0.0, True), (1e-6, True), (1e-4, False), (0.1, False)])
def test_nearly_known_from_one_cluster_is_not_known_from_it_alone(elsewhere, alone):
    """With a little of the moderator in other clusters the leverage is 1 / (1 + 10 elsewhere^2), nearly."""
    x = np.r_[1.0, 0.0, np.full(10, elsewhere) * np.resize([1.0, -1.0], 10)]
    first, direction = resting(np.column_stack([np.ones(12), x]), [np.arange(12).reshape(6, 2)])
    assert len(first) == alone
    if alone:
        assert first.tolist() == [0]
        np.testing.assert_allclose(np.abs(direction), [[0.0, 1.0]], atol=1e-5)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
def test_a_level_of_one_study_is_predicted_without_a_warning_of_numpy():
    es = am.escalc(am.load_dataset("relationship_dependent_effects"))
    raters = es.moderators["rater"]
    rows = [np.flatnonzero(raters == rater)[:most] for rater, most in (("client", 3), ("observer", 2))]
    predicted = am.che(es.take(np.concatenate(rows)), mods="rater").predict({"rater": ["client", "observer"]})
    assert predicted["se"].isna().tolist() == [False, True]
