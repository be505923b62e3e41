"""Baujat, radial and normal quantile plots and GOSH: every kind of fit, dependent effects, and what is degenerate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import InputError, NotApplicable, plots, sensitivity
from alliance_meta.core.univariate.gosh import draw, fit_subsets, numbered, splitting
from alliance_meta.results.fit import records_of
from tests.plots.cases import dependent, fitted, quiet
from tests.tolerances import CLOSED_FORM

ASK = {
    "baujat": lambda fit, **more: sensitivity.baujat(fit, **more),
    "radial": lambda fit, **more: sensitivity.radial(fit, **more),
    "qqnorm": lambda fit, **more: sensitivity.qqnorm(fit, seed=1, iterations=20, **more),
    "gosh": lambda fit, **more: sensitivity.gosh(fit, subsets=300, seed=1, **more),
}


def effects(y: Any, v: Any, **more: Any) -> am.EffectSizes:
    return am.EffectSizes.from_arrays(y, v, measure="ZCOR", **more)


def plain(y: Any, v: Any, **options: Any) -> Any:
    return quiet(lambda: am.RandomEffectsModel(effects(y, v), **options).fit())


FITS: dict[str, Callable[[], Any]] = {
    "random": lambda: fitted(12),
    "location-scale": lambda: am.LocationScaleModel(effects(*_scattered(30)), scale="1").fit(),
    "multilevel": lambda: am.MultilevelModel(dependent(40, 12)).fit(),
    "che": lambda: am.che(dependent(40, 12)),
    "rve": lambda: am.RVEModel(dependent(40, 12)).fit(),
    "bayes": lambda: am.BayesianModel(dependent(40, 12)).fit(),
    "bayes, three levels": lambda: am.BayesianModel(dependent(40, 12), random="~ 1 | study_id/es_id").fit(),
}


@cache
def fit_of(name: str) -> Any:
    return quiet(FITS[name])


def _scattered(k: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(2)
    v = rng.uniform(0.01, 0.1, k)
    return rng.normal(0.3, np.sqrt(v + 0.03)), v


REFUSED = {("qqnorm", "rve"), *((name, bayes) for name in ("baujat", "radial", "qqnorm")
           for bayes in ("bayes", "bayes, three levels"))}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("question", ASK)
def test_every_kind_of_fit_answers_or_says_what_to_do(question: str, name: str) -> None:
    fit = fit_of(name)
    if (question, name) in REFUSED:
        with pytest.raises(InputError, match="fit "):
            ASK[question](fit)
        return
    found = ASK[question](fit)
    studies = 12 if name not in ("random", "location-scale") else fit.k
    assert len(found.labels) == studies
    assert found.by == ("study" if studies < fit.k else "effect")
    table = found.tidy()
    assert np.isfinite(table.select_dtypes("number").to_numpy(dtype=float)).all()
    assert max(map(len, found.summary().splitlines())) <= 80
    getattr(plots, question)(found).draw_without_rendering()


@pytest.mark.parametrize("question", ["radial", "gosh"])
def test_moderators_are_refused(question: str) -> None:
    with pytest.raises(InputError, match="without moderators"):
        ASK[question](fitted(20, mods="rater"))


@pytest.mark.parametrize("by", ["effect", "study"])
@pytest.mark.parametrize("mods", ["rater", "arm"])
def test_baujat_of_a_multilevel_model_is_that_of_its_covariance(by: Any, mods: str) -> None:
    es = dependent(30, 9)
    # The arm is one for all effects of a study.
    arm = np.unique(es.study_id, return_inverse=True)[1] % 2
    es = effects(es.yi, es.vi, study_id=es.study_id, mods=es.moderators[["rater"]].assign(arm=arm))
    fit = quiet(lambda: am.MultilevelModel(es, mods=mods).fit())
    found = sensitivity.baujat(fit, by=by)
    M, X, y = fit.working().block(np.arange(fit.k)[None])[0], fit.design.X, fit.effects.yi
    unit = np.arange(fit.k) if by == "effect" else np.unique(fit.effects.study_id, return_inverse=True)[1]
    labels = fit.effects.slab if by == "effect" else np.unique(fit.effects.study_id)
    e = y - X @ fit.beta
    for i in np.unique(unit):
        own, rest = np.flatnonzero(unit == i), np.flatnonzero(unit != i)
        W = np.linalg.inv(M[np.ix_(rest, rest)])
        vb = np.linalg.inv(X[rest].T @ W @ X[rest])
        d = X[own] @ (fit.beta - vb @ X[rest].T @ W @ y[rest])
        at = found.labels.index(labels[i])
        assert found.x[at] == pytest.approx(e[own] @ np.linalg.solve(M[np.ix_(own, own)], e[own]), rel=1e-8)
        assert found.y[at] == pytest.approx(d @ np.linalg.pinv(X[own] @ vb @ X[own].T, rcond=1e-8) @ d, rel=1e-6)


def test_baujat_by_study_of_a_univariate_model_estimates_tau2_anew() -> None:
    es = dependent(24, 6)
    study = np.asarray(es.study_id)
    arm = np.unique(study, return_inverse=True)[1] % 2
    es = effects(es.yi, es.vi, study_id=es.study_id, mods={"arm": arm})
    fit = quiet(lambda: am.RandomEffectsModel(es, mods="arm", test="z").fit())
    found = sensitivity.baujat(fit)
    for at, label in enumerate(found.labels):
        own, rest = (np.flatnonzero((study == label) == one) for one in (True, False))
        without = quiet(lambda rest=rest: am.RandomEffectsModel(es.take(rest), mods="arm", test="z").fit())
        X = fit.design.X[own]
        d = X @ (fit.beta - without.beta)
        assert found.y[at] == pytest.approx(d @ np.linalg.pinv(X @ without.vb @ X.T, rcond=1e-8) @ d, rel=1e-6)


def test_a_level_that_one_effect_alone_tells_is_named() -> None:
    rng = np.random.default_rng(1)
    es = effects(rng.normal(0.3, 0.2, 12), np.full(12, 0.02), mods={"arm": ["a"] * 11 + ["b"]})
    fit = quiet(lambda: am.RandomEffectsModel(es, mods="arm").fit())
    found = sensitivity.baujat(fit)
    assert isinstance(found.tidy()["y"].iloc[-1], NotApplicable)
    assert "without it a coefficient" in found.notes[-1].message
    assert len(plots.baujat_data(found)) == 11
    drawn = sensitivity.qqnorm(fit, seed=1, iterations=20)
    assert len(drawn.labels) == 11
    assert "Not drawn" in drawn.notes[-1].message


def test_residuals_of_a_multilevel_model_have_variance_one() -> None:
    fit = quiet(lambda: am.MultilevelModel(dependent(30, 9), mods="rater").fit())
    from alliance_meta.sensitivity.outliers import read_units, residual_variance

    M, X = fit.working().block(np.arange(fit.k)[None])[0], fit.design.X
    W = np.linalg.inv(M)
    left = np.eye(fit.k) - X @ np.linalg.inv(X.T @ W @ X) @ X.T @ W
    spread = left @ M @ left.T
    for by in ("effect", "study"):
        units = read_units(fit, "test", by)  # type: ignore[arg-type]
        C = units.mean(np.eye(fit.k))
        np.testing.assert_allclose(residual_variance(units), np.diag(C @ spread @ C.T), rtol=1e-8, atol=1e-12)


def test_the_envelope_holds_its_share_of_data_from_the_model() -> None:
    fit = fitted(30)
    found = sensitivity.qqnorm(fit, seed=2, iterations=2000)
    # With variances alike, the covariance of residuals is known: metafor's envelope differs by sqrt(1 - 1 / k).
    assert (found.lower < found.x).sum() >= 29
    assert (found.upper > found.x).sum() >= 29
    middle = 0.5 * (found.lower + found.upper)
    np.testing.assert_allclose(middle, found.x, atol=0.25)
    assert np.all(np.diff(found.lower) >= 0)
    assert 0.0 < found.outside_p <= 1.0


@pytest.mark.parametrize("cores", [2, 4])
def test_workers_do_not_change_a_bit(cores: int) -> None:
    fit = fitted(30)
    one, other = (sensitivity.gosh(fit, subsets=40_000, seed=3, cores=n) for n in (1, cores))
    for name in ("counts", "members", "sums", "marks", "edges"):
        assert np.array_equal(getattr(one.cloud, name), getattr(other.cloud, name))
    assert one.sample().equals(other.sample())
    first, second = (sensitivity.qqnorm(fit, iterations=5000, seed=3, cores=n) for n in (1, cores))
    assert np.array_equal(first.lower, second.lower)
    assert first.outside_p == second.outside_p
    assert not np.array_equal(one.cloud.sums, sensitivity.gosh(fit, subsets=40_000, seed=4).cloud.sums)


def test_a_random_draw_agrees_with_all_subsets() -> None:
    fit = fitted(12)
    every = sensitivity.gosh(fit)
    drawn = sensitivity.gosh(fit, subsets=4000, seed=1)
    assert (every.subsets, every.seed, drawn.subsets, drawn.seed) == (4095, None, 4000, 1)
    assert sensitivity.gosh(fit, subsets=5000).seed is None
    np.testing.assert_allclose(drawn.tidy()["mu_with"], every.tidy()["mu_with"], atol=0.01)
    np.testing.assert_allclose(drawn.tidy()["share"], every.tidy()["share"], atol=0.05)
    assert int(every.cloud.counts.sum()) == 4095
    assert (every.cloud.members.sum(axis=1) == 2048).all()


def test_an_outlier_is_named_and_one_of_many_is_not() -> None:
    y = np.append(np.random.default_rng(1).normal(0.2, 0.1, 14), 1.4)
    found = sensitivity.gosh(plain(y, np.full(15, 0.01)))
    assert np.flatnonzero(found.splits).tolist() == [14]
    assert "clusters by" in found.summary()
    assert found.tidy()["overlap"].iloc[14] < 0.1
    assert not sensitivity.gosh(plain(y[:14], np.full(14, 0.01))).splits.any()
    # Two on one side: each against what neither makes.
    assert splitting(np.array([0.42, 0.40, *[0.01] * 10])).sum() == 2
    assert splitting(np.array([0.30, 0.30, *[0.04] * 10])).sum() == 0


def test_dependent_effects_stay_together() -> None:
    es = dependent(40, 12)
    fit = quiet(lambda: am.che(es))
    found = sensitivity.gosh(fit)
    assert found.subsets == 2**12 - 1
    means = quiet(lambda: am.effects.aggregate(es, V=fit.fit.V))
    assert sorted(found.labels) == sorted(means.study_id)
    whole = quiet(lambda: am.RandomEffectsModel(means).fit())
    full = found.sample().query("k == 12")
    assert full["mu"].iloc[0] == pytest.approx(whole.beta[0], rel=1e-8)
    apart = sensitivity.gosh(fit, by="effect", subsets=50, seed=1)
    assert any("taken for independent" in note.message for note in apart.notes)


def test_the_line_of_a_radial_plot_is_the_mean_of_its_points() -> None:
    for fit in (
        fitted(20),
        quiet(lambda: am.che(dependent(40, 12))),
        quiet(lambda: am.RVEModel(dependent(40, 9)).fit()),
    ):
        found = sensitivity.radial(fit)
        assert (found.x @ found.y) / (found.x @ found.x) == pytest.approx(fit.beta[0], rel=CLOSED_FORM)
    with pytest.raises(InputError, match="by='study'"):
        sensitivity.radial(quiet(lambda: am.che(dependent(40, 12))), by="effect")


@pytest.mark.parametrize("y", [[0.3], [0.3, 0.4], [0.3, 0.3, 0.3], [0.1, 0.2, 0.9, 0.2]])
def test_few_and_equal_effects_have_an_answer_or_a_reason(y: Any) -> None:
    fit = plain(y, [0.01] * len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for question, ask in ASK.items():
            refused = (len(y) == 1 and question != "radial") or (len(y) == 2 and question == "baujat")
            if refused:
                with pytest.raises(InputError, match=r".{10,400}"):
                    ask(fit)
                continue
            found = ask(fit)
            for row in records_of(found.tidy()):
                assert all(isinstance(one, NotApplicable) or one == one for one in row.values())
            found.summary()
            found.to_dict()
            getattr(plots, question)(found)


def test_one_effect_that_outweighs_all_keeps_its_digits() -> None:
    rng = np.random.default_rng(5)
    y, v = rng.normal(0.0, 0.3, 7), np.append(1e-9, rng.uniform(0.01, 0.05, 6))
    present = numbered(0, 127, 7)
    for method in ("DL", "REML"):
        found = fit_subsets(y, v, present, method=method)
        for j in range(0, 127, 9):
            rows = np.flatnonzero(present[:, j])
            if rows.size > 1:
                own = plain(y[rows], v[rows], method=method)
                assert found.tau2[j] == pytest.approx(own.tau2, rel=1e-6, abs=1e-12)
                assert found.mu[j] == pytest.approx(own.beta[0], rel=1e-6)


def test_every_subset_is_drawn_equally_often_and_none_is_empty() -> None:
    found = draw(np.random.default_rng(1), 70_000, 3)
    counts = np.bincount((2.0 ** np.arange(3) @ found).astype(int), minlength=8)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 10_000).max() < 500
    assert np.array_equal(numbered(0, 7, 3).sum(axis=0), [1, 1, 2, 1, 2, 2, 3])


def test_memory_does_not_grow_with_the_number_of_subsets() -> None:
    import tracemalloc

    fit = fitted(30, n=(40, 90))
    peaks = []
    for subsets in (20_000, 200_000):
        tracemalloc.start()
        sensitivity.gosh(fit, subsets=subsets, seed=1, method="EE")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_what_is_asked_for_is_checked() -> None:
    fit = fitted(30)
    with pytest.raises(InputError, match="seed"):
        sensitivity.gosh(fit)
    with pytest.raises(InputError, match="seed"):
        sensitivity.qqnorm(fit)
    with pytest.raises(InputError, match="subsets"):
        sensitivity.gosh(fit, subsets=1)
    with pytest.raises(InputError, match="method"):
        sensitivity.gosh(fit, method="PM", seed=1)
    with pytest.raises(InputError, match="by="):
        sensitivity.baujat(fit, by="row")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rstudent"):
        sensitivity.qqnorm(quiet(lambda: am.che(dependent(40, 12))), seed=1, type="rstudent")
    with pytest.raises(InputError, match="study="):
        plots.gosh_data(sensitivity.gosh(fit, subsets=100, seed=1), study="Nobody")


def test_a_fit_by_another_method_says_how_subsets_are_fitted() -> None:
    found = sensitivity.gosh(plain(*_scattered(8), method="PM"))
    assert found.method == "REML"
    assert "by PM" in found.notes[-1].message


def test_twenty_thousand_effects_have_an_answer() -> None:
    rng = np.random.default_rng(1)
    v = 1.0 / rng.integers(10, 400, 20_000)
    es = effects(rng.normal(0.25, 0.15, 20_000) + rng.standard_normal(20_000) * np.sqrt(v), v)
    grouped = replace(es, study_id=tuple(f"S{i // 400}" for i in range(20_000)))
    fit = quiet(lambda: am.RandomEffectsModel(grouped).fit())
    assert len(sensitivity.baujat(fit).labels) == 50
    assert len(sensitivity.radial(fit, by="effect").labels) == 20_000
    found = sensitivity.gosh(fit, by="effect", subsets=500, seed=1, method="DL")
    assert int(found.cloud.counts.sum()) == 500
    plots.radial(sensitivity.radial(fit, by="effect"))
