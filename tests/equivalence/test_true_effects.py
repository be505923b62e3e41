"""The distribution of true effects against its definition, drawn numbers, and what other programs print."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from alliance_meta import EffectSizes, InputError, RandomEffectsModel, escalc, load_dataset
from alliance_meta.core.univariate.intervals import quadratic_form_cdf
from alliance_meta.core.univariate.true_effects import (
    confidence_distributions,
    nagashima,
    new_effect_cdf,
    share_above,
    share_interval,
)
from alliance_meta.models import prediction_intervals, true_effects
from alliance_meta.notes import NotApplicable
from tests.tolerances import CLOSED_FORM, printed

# Riley, Higgins & Deeks (2011, doi:10.1136/bmj.d549), figure 2, made up by them; as in R's pimeta (`sbp`).
SBP = np.array([0.0, 0.1, -0.4, -0.8, -0.63, 0.22, -0.34, -0.51, 0.03, -0.81])
SBP_SE = np.array([0.42347717, 0.21939179, 0.02551067, 0.19898325, 0.30102594])
SBP_SE = np.append(SBP_SE, [0.30102594, 0.07142988, 0.10204269, 0.12245123, 0.30102594])
# Hartung & Knapp (2001, doi:10.1002/sim.1009), cisapride: events and patients, treated and control.
CISAPRIDE = np.array(
    [
        [15, 12, 29, 42, 14, 44, 14, 29, 10, 17, 38, 19, 21],
        [16, 16, 34, 56, 22, 54, 17, 58, 14, 26, 44, 29, 38],
        [9, 1, 18, 31, 6, 17, 7, 23, 3, 6, 12, 22, 19],
        [16, 16, 34, 56, 22, 55, 15, 58, 15, 27, 45, 30, 38],
    ]
)


def molloy(**options):
    return RandomEffectsModel(escalc(load_dataset("molloy2014")), **options).fit()


def plain(y, v):
    ones = np.ones((len(y), 1))
    return confidence_distributions(np.asarray(y, float), np.asarray(v, float), ones, np.ones((1, 1)))[0]


def confidence(y, v, tau2):
    """The exact probability of a Q above the observed one, from the eigenvalues of its k x k matrix."""
    w = 1 / v
    A = np.diag(w) - np.outer(w, w) / w.sum()
    root = np.sqrt(v + tau2)
    values = np.linalg.eigvalsh(root[:, None] * A * root)[1:]
    return 1 - quadratic_form_cdf(float(y @ A @ y), values, np.zeros((len(values), 0)))


def test_the_nodes_carry_the_exact_confidence_distribution():
    v = SBP_SE**2
    ours = plain(SBP, v)
    assert ours.weight.sum() == pytest.approx(1, rel=CLOSED_FORM)
    assert ours.weight[0] == pytest.approx(confidence(SBP, v, 0.0), rel=1e-9)

    # E exp(-20 tau2), once over the nodes and once by parts over the exact distribution.
    def slope(tau2):
        return 20 * np.exp(-20 * tau2) * confidence(SBP, v, tau2)

    exact = integrate.quad(slope, 0, 0.1)[0] + integrate.quad(slope, 0.1, 2)[0]
    assert ours.weight @ np.exp(-20 * ours.tau2) == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_nagashima_is_what_its_draws_tend_to(rng, level):
    v = SBP_SE**2
    low, high = nagashima(plain(SBP, v), level=level)
    # The algorithm as published, 40,000 draws of tau2 from the exact distribution of Q, of z and of t.
    grid = np.concatenate([[0], np.geomspace(1e-6, 30, 400)])
    table = np.maximum.accumulate([confidence(SBP, v, t) for t in grid])
    drawn = np.interp(rng.uniform(size=40_000), table, grid)
    w = 1 / (v + drawn[:, None])
    mean = (w * SBP).sum(axis=1) / w.sum(axis=1)
    hartung = (w * (SBP - mean[:, None]) ** 2).sum(axis=1) / 9 / w.sum(axis=1)
    new = mean + np.sqrt(drawn) * rng.normal(size=40_000) - np.sqrt(hartung) * rng.standard_t(9, 40_000)
    tail = (1 - level) / 2
    error = np.sqrt(tail * (1 - tail) / 40_000)
    assert abs((new < low).mean() - tail) < 4 * error
    assert abs((new > high).mean() - tail) < 4 * error


@pytest.mark.published
def test_nagashima_and_higgins_as_pimeta_prints_them():
    # Vignette of pimeta 1.1.3: 25,000 draws, so the printed limits carry an error of a few thousandths.
    v = SBP_SE**2
    assert nagashima(plain(SBP, v), level=0.95) == pytest.approx((-0.8807, 0.2240), abs=0.006)
    es = EffectSizes.from_arrays(SBP, v)
    row = prediction_intervals(RandomEffectsModel(es, method="DL", test="z").fit()).loc["riley"]
    assert row.pred == printed("-0.3341")
    assert row.pi_lb == printed("-0.7598")
    assert row.pi_ub == printed("0.0917")


@pytest.mark.published
def test_nagashima_for_odds_ratios_as_pimeta_prints_it():
    m1, n1, m2, n2 = CISAPRIDE
    cells = np.array([m1, n1 - m1, m2, n2 - m2]) + 0.5
    y = np.log(cells[0] * cells[3] / cells[1] / cells[2])
    assert np.sqrt((1 / cells).sum(axis=0))[0] == printed("0.9847737")
    limits = nagashima(plain(y, (1 / cells).sum(axis=0)), level=0.95)
    # 25,000 draws: two hundredths on the logarithmic scale.
    np.testing.assert_allclose(limits, np.log([0.533, 33.692]), atol=0.025)


def test_the_rules_of_metafor():
    from tests.reference.reading import reference

    stored = reference("molloy2014_ZCOR")["predict"]
    ours = prediction_intervals(molloy(test="z"))
    for rule, name in (("normal", "z"), ("riley", "riley"), ("knha", "knha"), ("knha-riley", "knha_riley")):
        for column in ("pred", "se", "pi_lb", "pi_ub"):
            assert ours.loc[rule, column] == pytest.approx(stored[name][column], rel=1e-6), (rule, column)


def test_the_rules_do_not_depend_on_the_inference_of_the_fit():
    one, two = (prediction_intervals(molloy(test=test)) for test in ("z", "knha"))
    pd.testing.assert_frame_equal(one, two)
    assert molloy().predict().iloc[0].pi_ub == pytest.approx(two.loc["knha", "pi_ub"], rel=CLOSED_FORM)
    on_r = prediction_intervals(molloy(), scale="r")
    np.testing.assert_allclose(on_r["pi_lb"].astype(float), np.tanh(one["pi_lb"].astype(float)), rtol=CLOSED_FORM)


def test_a_share_is_a_tail_of_the_normal_distribution():
    fit = molloy()
    ours = true_effects(fit, thresholds=[0.0, 0.1, -0.2])
    expected = stats.norm.sf(np.arctanh([0.0, 0.1, -0.2]), fit.beta[0], fit.tau)
    np.testing.assert_allclose(ours.tidy()["share"], expected, rtol=CLOSED_FORM)
    on_z = true_effects(fit, thresholds=np.arctanh([0.0, 0.1, -0.2]), scale="z").tidy()
    np.testing.assert_allclose(on_z[["share", "ci_lb", "ci_ub"]], ours.tidy()[["share", "ci_lb", "ci_ub"]], rtol=1e-9)
    assert share_above(np.array([0.3, 0.1, 0.2]), np.zeros(3), 0.2).tolist() == [1.0, 0.0, 0.5]


def test_the_distribution_its_quantiles_and_its_density_agree():
    ours = true_effects(molloy())
    frame = ours.density(points=2001)
    area = integrate.trapezoid(frame["density"], frame["x"])
    assert area == pytest.approx(1, abs=2e-4)  # four standard deviations on both sides
    middle = np.interp(0.25, frame["cdf"], frame["x"])
    assert ours.quantiles([0.25]).iloc[0, 0] == pytest.approx(middle, abs=1e-6)
    share = ours.tidy().set_index("threshold").loc[0.2, "share"]
    assert np.interp(0.2, frame["x"], frame["cdf"]) == pytest.approx(1 - share, abs=1e-5)


def test_the_share_interval_is_the_quantile_of_its_distribution(rng):
    v = SBP_SE**2
    ours = plain(SBP, v)
    node = rng.choice(len(ours.tau2), size=60_000, p=ours.weight / ours.weight.sum())
    mu = ours.mean[node] - ours.se[node] * rng.standard_t(9, len(node))
    drawn = share_above(mu, ours.tau2[node], -0.2)
    low, high = share_interval(ours, -0.2, level=0.9)
    assert (drawn < low).mean() == pytest.approx(0.05, abs=0.004)
    assert (drawn > high).mean() == pytest.approx(0.05, abs=0.004)


@pytest.mark.parametrize("interval", ["confidence", "bootstrap", "delta"])
def test_every_interval_holds_its_share_and_grows_with_the_level(interval):
    fit = molloy()
    narrow, wide = (true_effects(fit, interval=interval, level=level).tidy() for level in (0.8, 0.99))
    assert (narrow["ci_lb"] <= narrow["share"]).all()
    assert (narrow["share"] <= narrow["ci_ub"]).all()
    assert (wide["ci_lb"] <= narrow["ci_lb"]).all()
    assert (narrow["ci_ub"] <= wide["ci_ub"]).all()


@pytest.mark.slow
def test_large_k_makes_the_intervals_agree(rng):
    v = rng.uniform(0.003, 0.02, 400)
    es = EffectSizes.from_arrays(rng.normal(0.25, np.sqrt(v + 0.03)), v, measure="ZCOR")
    fit = RandomEffectsModel(es, test="z").fit()
    one, two, three = (
        true_effects(fit, interval=name, iterations=4000).tidy()[["ci_lb", "ci_ub"]].to_numpy()
        for name in ("confidence", "bootstrap", "delta")
    )
    np.testing.assert_allclose(one, two, atol=0.01)
    np.testing.assert_allclose(one, three, atol=0.01)


def test_the_bootstrap_is_repeatable_and_seeded():
    fit = molloy()
    one, two, three = (true_effects(fit, interval="bootstrap", seed=seed).tidy() for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(three)


def test_moderators_need_a_setting():
    fit = molloy(mods="quality")
    with pytest.raises(InputError, match="newdata="):
        true_effects(fit)
    with pytest.raises(InputError, match="newdata="):
        prediction_intervals(fit)
    ours = true_effects(fit, newdata={"quality": [1, 2]}, thresholds=[0.1])
    assert list(ours.tidy()["label"]) == ["quality = 1", "quality = 2"]
    assert ours.tidy()["share"].is_monotonic_decreasing
    np.testing.assert_allclose(ours.mu, fit.predict({"quality": [1, 2]})["pred"], rtol=CLOSED_FORM)
    table = prediction_intervals(fit, newdata={"quality": [2]})
    assert table.loc["knha", "pi_lb"] == pytest.approx(fit.predict({"quality": [2]}).iloc[0].pi_lb, rel=CLOSED_FORM)
    assert table.loc["nagashima", "df"] == 14
    with pytest.raises(InputError, match="one setting"):
        prediction_intervals(fit, newdata={"quality": [1, 2]})


def test_an_irrelevant_recoding_of_moderators_changes_nothing(rng):
    v = rng.uniform(0.01, 0.05, 15)
    x = rng.normal(size=15)
    y = rng.normal(0.2 + 0.1 * x, np.sqrt(v + 0.02))
    X = np.column_stack([np.ones(15), x])
    T = np.array([[1.0, 3.0], [0.5, 2.0]])
    one = confidence_distributions(y, v, X, X[:1])[0]
    two = confidence_distributions(y, v, X @ T, X[:1] @ T)[0]
    np.testing.assert_allclose(nagashima(one, level=0.95), nagashima(two, level=0.95), rtol=1e-7)
    assert new_effect_cdf(one, 0.2) == pytest.approx(new_effect_cdf(two, 0.2), rel=1e-8)


def test_without_heterogeneity():
    es = EffectSizes.from_arrays([0.2, 0.21, 0.19, 0.2], [0.01, 0.02, 0.01, 0.015], measure="ZCOR")
    with pytest.warns(match="set to 0"):
        fit = RandomEffectsModel(es, test="z").fit()
    ours = true_effects(fit)
    assert ours.tidy()["share"].tolist() == [1.0, 0.0, 0.0]
    assert {note.code for note in ours.notes} == {"share-tau2-zero", "share-few"}
    assert ours.density().empty
    assert "tau2 = 0" in ours.density().attrs["note"]
    assert isinstance(true_effects(fit, interval="delta").tidy()["ci_lb"].iloc[0], NotApplicable)
    low, high = prediction_intervals(fit).loc["nagashima", ["pi_lb", "pi_ub"]]
    assert low < 0.2 < high


def test_identical_effects_leave_a_point():
    ours = plain([0.3, 0.3, 0.3], [0.01, 0.02, 0.03])
    assert ours.weight.tolist() == [1.0]
    assert nagashima(ours, level=0.95) == pytest.approx((0.3, 0.3))
    assert share_interval(ours, 0.2, level=0.95) == (1.0, 1.0)


def test_two_effects():
    es = EffectSizes.from_arrays([0.1, 0.5], [0.01, 0.02], measure="ZCOR")
    fit = RandomEffectsModel(es, test="z").fit()
    table = prediction_intervals(fit)
    assert isinstance(table.loc["riley", "pi_lb"], NotApplicable)
    assert table.loc["nagashima", "pi_lb"] < -1 < 1 < table.loc["nagashima", "pi_ub"]
    assert true_effects(fit).tidy()["ci_ub"].iloc[0] > 0.99


def test_given_weights_and_a_given_tau2():
    weighted = molloy(weights=np.ones(16), test="z")
    assert isinstance(prediction_intervals(weighted).loc["knha", "se"], NotApplicable)
    with pytest.raises(InputError, match="use interval='bootstrap'"):
        true_effects(weighted)
    with pytest.raises(InputError, match="weights other"):
        true_effects(weighted, interval="bootstrap")
    given = true_effects(molloy(tau2=0.01, test="z"), interval="bootstrap")
    assert given.tau2 == 0.01
    assert given.tidy()["ci_lb"].iloc[0] > true_effects(molloy(), interval="bootstrap").tidy()["ci_lb"].iloc[0] - 0.2


def test_messages():
    fit = molloy()
    with pytest.raises(InputError, match="equal-effects"):
        true_effects(molloy(method="EE", test="z"))
    with pytest.raises(InputError, match="between -1 and 1"):
        true_effects(fit, thresholds=[1.0])
    with pytest.raises(InputError, match="finite"):
        true_effects(fit, thresholds=[np.nan])
    with pytest.raises(InputError, match="interval='exact'"):
        true_effects(fit, interval="exact")
    with pytest.raises(InputError, match="at least 100"):
        true_effects(fit, interval="bootstrap", iterations=10)
    raw = RandomEffectsModel(escalc(load_dataset("molloy2014"), measure="COR")).fit()
    with pytest.raises(InputError, match="leave scale out"):
        true_effects(raw, scale="z")
    assert true_effects(raw).scale == "r"
    with pytest.raises(InputError, match="between 0 and 1"):
        true_effects(fit).quantiles([0, 1])


def test_the_summary_fits():
    text = true_effects(molloy()).summary()
    assert max(map(len, text.splitlines())) <= 80
    assert "70.9%" in text


def test_the_interval_of_a_share_is_monotone_in_the_threshold():
    ours = plain(SBP, SBP_SE**2)
    edges = np.array([share_interval(ours, cut, level=0.95) for cut in np.linspace(-1.5, 1, 26)])
    assert (np.diff(edges, axis=0) <= 1e-9).all()
    # Where the upper limit is one half lies the lower confidence limit of the mean, whatever tau2 is.
    half = optimize.brentq(lambda c: share_interval(ours, c, level=0.95)[1] - 0.5, -1, 1)
    below = ours.weight @ stats.t.cdf((half - ours.mean) / ours.se, 9)
    assert below == pytest.approx(0.975, abs=1e-6)


def test_a_printed_table_of_rules_shows_its_limits():
    shown = str(prediction_intervals(molloy()))
    assert "pi_lb" in shown
    assert "pi_ub" in shown
