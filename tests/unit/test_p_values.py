"""p-uniform*, p-uniform, p-curve and z-curve: what they take, refuse and say, and what they do with poor data."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alliance_meta import BayesianModel, EffectSizes, MultilevelModel, RandomEffectsModel, RVEModel, bias
from alliance_meta.bias.given import given
from alliance_meta.bias.p_values import one_each
from alliance_meta.core.bias import p_values
from alliance_meta.core.bias import p_values as curve
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import AllianceMetaWarning, DependenceWarning, InputError
from alliance_meta.notes import NotApplicable
from tests.tolerances import CLOSED_FORM, ITERATIVE

CRITICAL = critical_value(0.95, None)
METHODS = {
    "star": bias.puniform,
    "original": lambda fit, **more: bias.puniform(fit, method="original", **more),
    "pcurve": bias.pcurve,
    "zcurve": lambda fit, **more: bias.zcurve(fit, iterations=20, **more),
}
RNG = np.random.default_rng(17)
SE = RNG.uniform(0.05, 0.2, 60)
Y = RNG.normal(0.25, 0.1, 60) + SE * RNG.normal(size=60)
STUDY = [f"s{i // 3}" for i in range(60)]


def fit(y=Y, se=SE, *, make=RandomEffectsModel, measure="GEN", **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return make(EffectSizes.from_arrays(np.asarray(y), np.asarray(se) ** 2, measure=measure, **more)).fit()


def codes(result):
    return {note.code for note in result.notes}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_refused(name):
    ask = METHODS[name]
    with pytest.raises(InputError, match="fit"):
        ask([0.3, 0.2])
    moderated = fit(mods=pd.DataFrame({"x": np.arange(60.0)}), make=lambda es: RandomEffectsModel(es, mods="x"))
    with pytest.raises(InputError, match="moderators"):
        ask(moderated)
    for alpha in (0.0, 0.5, -1.0, float("nan")):
        with pytest.raises(InputError, match="alpha"):
            ask(fit(), alpha=alpha)
    with pytest.raises(InputError, match="level"):
        ask(fit(), level=95)


def test_options_that_are_refused():
    with pytest.raises(InputError, match="side"):
        bias.puniform(fit(), side="up")
    with pytest.raises(InputError, match="method"):
        bias.puniform(fit(), method="P")
    with pytest.raises(InputError, match="iterations"):
        bias.zcurve(fit(), iterations=1)
    with pytest.raises(InputError, match="seed"):
        bias.zcurve(fit(), seed=-1)


@pytest.mark.parametrize("name", METHODS)
def test_every_kind_of_fit_gives_the_same(name):
    """The methods rest on the effects and their studies, not on how a mean was fitted."""
    kinds = [
        fit(study_id=STUDY),
        fit(study_id=STUDY, make=lambda es: MultilevelModel(es, random="study_id")),
        fit(study_id=STUDY, make=RVEModel),
        fit(study_id=STUDY).robust(),
        fit(study_id=STUDY, make=lambda es: BayesianModel(es, random="~ 1 | study_id/es_id")),
    ]
    found = []
    for kind in kinds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DependenceWarning)
            found.append(METHODS[name](kind, level=0.95).tidy())
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other)


@pytest.mark.parametrize("name", ["star", "original", "pcurve"])
def test_one_effect_of_each_study(name):
    first = range(0, 60, 3)
    focal = range(1, 60, 3)
    with pytest.warns(DependenceWarning, match="one effect of each study, the first listed.*20 of 60"):
        found = METHODS[name](fit(study_id=STUDY))
    pd.testing.assert_frame_equal(found.tidy(), METHODS[name](fit(Y[first], SE[first])).tidy())
    assert found.k == found.studies == 20
    assert "one-per-study" in codes(found)
    column = pd.DataFrame({"focal": ["no", "YES", " 1 "] * 20})
    with pytest.warns(DependenceWarning, match="point of its paper"):
        found = METHODS[name](fit(study_id=STUDY, mods=column))
    pd.testing.assert_frame_equal(found.tidy(), METHODS[name](fit(Y[focal], SE[focal])).tidy())
    assert "one-per-study" not in codes(METHODS[name](fit()))


def test_a_study_without_a_focal_effect_gives_its_first():
    column = pd.DataFrame({"focal": [True, False, None] * 10 + [False, None, True] * 9 + ["", None, "no"]})
    source = given(fit(study_id=STUDY, mods=column), "x")
    with pytest.warns(DependenceWarning):
        rows, _ = one_each(source, "x")
    assert rows.tolist() == [*range(0, 30, 3), *range(32, 57, 3), 57]


@pytest.mark.parametrize("method", ["star", "original"])
def test_p_uniform_of_the_mirrored_effects(method):
    right, left = (bias.puniform(fit(y), method=method) for y in (Y, -Y))
    assert (right.side, left.side) == ("right", "left")
    assert (left.estimate, left.ci_lb, left.ci_ub) == (-right.estimate, -right.ci_ub, -right.ci_lb)
    # The side is that of the effects unless it is given.
    other = bias.puniform(fit(), side="left", method=method)
    assert other.significant == int((Y < -CRITICAL * SE).sum())
    assert other.significant != right.significant


def test_the_scale_of_correlations():
    z = bias.puniform(fit(measure="ZCOR"))
    assert z.on_r == pytest.approx(np.tanh([z.estimate, z.ci_lb, z.ci_ub]), rel=CLOSED_FORM)
    assert list(z.tidy()) == ["estimate", "se", "ci_lb", "ci_ub", "pval", "r", "r_lb", "r_ub"]
    assert list(bias.puniform(fit()).tidy()) == ["estimate", "se", "ci_lb", "ci_ub", "pval"]


# Where numbers do not exist.
POOR = {
    "one": ([0.3], [0.1]),
    "one, not significant": ([0.1], [0.1]),
    "two": ([0.3, 0.5], [0.1, 0.14]),
    "none significant": (np.linspace(-0.1, 0.1, 15), np.full(15, 0.15)),
    "all at the same place": (np.full(12, 0.3), np.full(12, 0.1)),
    "zeros": (np.zeros(12), np.full(12, 0.1)),
    "just significant": (0.1 * CRITICAL * (1.0 + np.geomspace(1e-9, 1e-3, 12)), np.full(12, 0.1)),
    "on the line": (np.full(12, 0.1 * CRITICAL), np.full(12, 0.1)),
    "far beyond": (np.linspace(2.0, 3.0, 12), np.full(12, 0.01)),
    "tiny and huge errors": (np.linspace(0.1, 0.5, 12), np.geomspace(1e-4, 10.0, 12)),
    "huge effects": (1e6 * np.linspace(0.1, 0.5, 12), np.full(12, 1e5)),
    "small effects": (1e-6 * np.linspace(0.1, 0.5, 12), np.full(12, 1e-7)),
    "one far away": (np.append(np.linspace(0.1, 0.3, 11), 50.0), np.full(12, 0.1)),
    "both sides": (np.linspace(-0.6, 0.6, 12), np.full(12, 0.1)),
}


@pytest.mark.parametrize("data", POOR)
@pytest.mark.parametrize("name", METHODS)
def test_poor_data_have_a_number_or_a_reason(name, data):
    result = METHODS[name](fit(*POOR[data]))
    for name, value in result.to_dict().items():
        assert value is not None, name
    for value in result.tidy().to_numpy().ravel():
        if not isinstance(value, str):
            assert np.isfinite(value) or isinstance(value, NotApplicable)
    text = str(result)
    assert "nan" not in text
    assert "inf" not in text.replace("inform", "")
    first = result.tidy().iloc[0, :].to_numpy()[-2 if name == "pcurve" else 1]
    if isinstance(first, NotApplicable) and first.reason in text:
        assert "Not applicable: " in text


def test_reasons_are_printed():
    few = bias.zcurve(fit(*POOR["two"]))
    assert few.err.reason == "needs at least 10 significant results with z up to 6, not 2"
    assert str(few).endswith("\nNot applicable: needs at least 10 significant results with z up to 6, not 2")
    assert (few.curve().shape, len(few.weights)) == ((0, 3), 0)
    assert "Not applicable: needs at least 2 studies" in str(bias.puniform(fit(*POOR["one"])))
    nothing = fit(*POOR["none significant"])
    assert "Not applicable: no effect is significant on this side" in str(bias.puniform(nothing, method="original"))
    assert "Not applicable: no effect is significant on this side" in str(bias.pcurve(nothing))
    assert bias.pcurve(nothing).evidence == "none"
    assert bias.pcurve(nothing).curve().empty
    open_ended = bias.puniform(fit(*POOR["two"]))
    assert "No lower limit: the likelihood never falls far enough on this side" in str(open_ended)
    assert isinstance(open_ended.ci_lb, NotApplicable)
    assert "No upper limit of tau2" in str(open_ended)
    assert "No lower limit" not in str(bias.puniform(fit()))


def test_notes_appear_only_where_they_are_true():
    rich = fit(np.linspace(-0.5, 0.9, 400), np.full(400, 0.1))
    many = bias.puniform(rich), bias.pcurve(rich), bias.zcurve(rich, iterations=20)
    for result in many:
        assert "few-significant" not in codes(result)
    few = fit(np.append(Y[:9], 0.0), np.append(0.5 * Y[:9], 0.1))
    assert "few-significant" in codes(bias.puniform(few))
    assert any("Only 9 significant results: p-curve" in note.message for note in bias.pcurve(few).notes)
    assert "few-significant" in codes(bias.zcurve(fit(), iterations=20))
    assert "other-side" in codes(many[1])
    assert "other-side" not in codes(bias.pcurve(few))
    assert "none-significant" in codes(bias.puniform(fit(*POOR["none significant"])))
    assert "none-significant" not in codes(many[0])
    crowded = bias.puniform(fit(*POOR["just significant"]), method="original")
    assert crowded.estimate < -0.2
    assert "far-estimate" in codes(crowded)
    below = bias.puniform(fit(0.1 * np.linspace(2.0, 3.2, 12), np.full(12, 0.1)), method="original")
    assert ("p-uniform-below-zero" in codes(below)) == (below.estimate < 0.0)
    assert not {"far-estimate", "p-uniform-below-zero"} & codes(bias.puniform(fit(), method="original"))
    assert "studies-count-once" in codes(bias.zcurve(fit(study_id=STUDY), iterations=20))
    assert "studies-count-once" not in codes(bias.zcurve(fit(), iterations=20))
    # All that is significant comes from one study of twenty, which a third of the samples leaves out.
    lone = fit(
        np.append(np.zeros(19), 0.25 + 0.01 * np.arange(10)),
        np.full(29, 0.1),
        study_id=[f"s{i}" for i in range(19)] + ["s19"] * 10,
    )
    assert "lost-samples" in codes(bias.zcurve(lone, iterations=50))
    lost = [bias.zcurve(lone, iterations=2, seed=seed) for seed in range(30)]
    empty = [found for found in lost if np.isnan(found.err_lb)]
    assert empty
    assert (
        empty[0].edr_ub.reason == empty[0].fdr_lb.reason == "no bootstrap sample had a significant result up to z = 6"
    )
    assert empty[0].err == lost[1].err
    assert "lost-samples" not in codes(many[2])


def test_p_uniform_of_effects_that_crowd_at_the_line():
    """The nearer to their critical values, the lower the mean, until the likelihood has no highest point."""
    for data in ("just significant", "on the line"):
        assert bias.puniform(fit(*POOR[data])).estimate.reason.startswith("the likelihood has no highest point")
    crowded = bias.puniform(fit(0.1 * np.linspace(1.97, 2.05, 12), np.full(12, 0.1)))
    assert crowded.estimate < -1.0
    assert "far-estimate" in codes(crowded)
    assert "far-estimate" not in codes(bias.puniform(fit()))


def test_the_end_of_p_uniform_is_a_highest_point():
    found = bias.puniform(fit())
    model = p_values.CutNormal(Y, SE**2, CRITICAL * SE, Y > CRITICAL * SE)
    best = model.loglik(np.array([found.estimate]), np.array([found.tau2]))[0]
    mu, tau2 = (found.estimate + np.linspace(-0.05, 0.05, 41), np.linspace(0.0, 4.0 * found.tau2, 41))
    heights = model.loglik(*(one.ravel() for one in np.meshgrid(mu, tau2)))
    assert best >= heights.max()
    by_mu, by_tau2, _ = model.slopes(np.array([found.estimate]), np.array([found.tau2]))
    assert abs(by_mu[0]) < 1e-6
    assert abs(by_tau2[0]) < 1e-4
    assert found.se == pytest.approx(np.sqrt(np.linalg.inv(model.information(found.estimate, found.tau2))[0, 0]))
    assert found.pval == pytest.approx(stats.chi2.sf(found.stat, 1), rel=CLOSED_FORM)
    assert found.pval_tau2 == pytest.approx(0.5 * stats.chi2.sf(found.stat_tau2, 1), rel=CLOSED_FORM)
    # The limits lie on the profile.
    drop = 0.5 * stats.chi2.ppf(0.95, 1)
    grid = np.linspace(0.0, 0.1, 4001)
    for limit in (found.ci_lb, found.ci_ub):
        assert model.loglik(np.full(4001, limit), grid).max() == pytest.approx(best - drop, abs=1e-4)


def test_slopes_and_curvature_are_those_of_the_likelihood():
    model = p_values.CutNormal(Y, SE**2, CRITICAL * SE, Y > CRITICAL * SE)

    def f(mu, tau2):
        return model.loglik(np.array([mu]), np.array([tau2]))[0]

    m, t, h, d = 0.2, 0.02, 1e-4, 1e-5
    by_mu, by_tau2, curvature = (one[0] for one in model.slopes(np.array([m]), np.array([t])))
    assert by_mu == pytest.approx((f(m + h, t) - f(m - h, t)) / (2 * h), rel=1e-5)
    assert by_tau2 == pytest.approx((f(m, t + d) - f(m, t - d)) / (2 * d), rel=1e-4)
    information = model.information(m, t)
    assert information[0, 0] == pytest.approx(curvature, rel=CLOSED_FORM)
    assert information[0, 0] == pytest.approx(-(f(m + h, t) - 2 * f(m, t) + f(m - h, t)) / h**2, rel=1e-4)
    cross = f(m + h, t + d) - f(m + h, t - d) - f(m - h, t + d) + f(m - h, t - d)
    assert information[0, 1] == pytest.approx(-cross / (4 * h * d), rel=1e-3)
    assert information[1, 1] == pytest.approx(-(f(m, t + d) - 2 * f(m, t) + f(m, t - d)) / d**2, rel=1e-3)


def test_far_tails_keep_their_digits():
    a = np.array([-30.0, -49.9, -50.1, -1e3, -1e8])
    lam = np.sqrt(2.0 / np.pi) / p_values.special.erfcx(-a / np.sqrt(2.0))
    found = p_values.spread(a, lam)
    assert np.all((found > 0.0) & (found <= 1.0 / a**2))
    assert found == pytest.approx(1.0 / a**2 - 6.0 / a**4 + 50.0 / a**6, rel=2e-5)


def test_the_weights_of_z_curve_are_the_best():
    """Karush, Kuhn and Tucker: no component would raise the likelihood, and those in use are level."""
    z = np.abs(RNG.normal(2.5, 1.2, 3000))
    D = p_values.densities(z[(z > CRITICAL) & (z < 6.0)], CRITICAL)
    weights = p_values.mixture_weights(D, np.ones((1, len(D))))[0]
    slopes = (D / (D @ weights)[:, None]).mean(axis=0)
    assert weights.sum() == pytest.approx(1.0, rel=CLOSED_FORM)
    assert np.all(slopes < 1.0 + 1e-9)
    assert slopes[weights > 1e-6] == pytest.approx(np.ones((weights > 1e-6).sum()), rel=ITERATIVE)
    # A step of the EM algorithm changes nothing.
    assert weights * slopes == pytest.approx(weights, abs=1e-8)


def test_densities_of_z_curve_integrate_to_one():
    grid = np.linspace(CRITICAL, 6.0, 20001)
    for one in p_values.densities(grid, CRITICAL).T:
        assert np.trapezoid(one, grid) == pytest.approx(1.0, rel=1e-7)


def test_rates_of_one_component():
    """With one power for all, every significant result replicates, and every test succeeds, with that power."""
    weights = np.eye(7)
    found = p_values.rates(weights, np.zeros(7), CRITICAL)
    power = stats.norm.sf(CRITICAL - np.arange(7.0)) + stats.norm.cdf(-CRITICAL - np.arange(7.0))
    assert found["edr"] == pytest.approx(power, rel=CLOSED_FORM)
    assert found["err"] == pytest.approx(stats.norm.sf(CRITICAL - np.arange(7.0)), rel=CLOSED_FORM)
    assert found["edr"][0] == pytest.approx(0.05)
    assert found["err"][0] == pytest.approx(0.025)
    assert p_values.soric(0.05, 0.05) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("x", "n", "low", "high"),
    [(81, 263, 0.2535, 0.3682), (15, 148, 0.0598, 0.1644), (0, 20, 0.0, 0.2005), (1, 29, 0.0018, 0.1963)],
)
def test_limits_of_a_share(x, n, low, high):
    """Newcombe (1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 4."""
    assert p_values.wilson(x / n, n, level=0.95) == pytest.approx((low, high), abs=5e-5)


def test_the_seed_of_z_curve():
    one, same, other = (bias.zcurve(fit(), iterations=50, seed=seed) for seed in (1, 1, 2))
    assert one.to_dict() == same.to_dict()
    assert (one.err, one.edr) == (other.err, other.edr)
    assert (one.err_lb, one.edr_ub) != (other.err_lb, other.edr_ub)
    assert one.err_lb <= one.err <= one.err_ub
    assert one.fdr_lb == p_values.soric(one.edr_ub, 0.05)


def test_p_curve_of_a_flat_curve():
    """Places in the middle of equal parts: no skew at all."""
    p = 0.05 * (np.arange(20) + 0.5) / 20
    found = curve.p_curve(stats.norm.isf(p / 2), alpha=0.05, level=0.95)
    assert found.right.full == pytest.approx(0.0, abs=1e-9)
    assert found.right.full_p == pytest.approx(0.5, abs=1e-9)
    assert (found.low, found.power) == (10, 0.05)
    assert found.right.binomial_p == pytest.approx(stats.binom.sf(9, 20, 0.5), rel=CLOSED_FORM)
    assert found.flat.full_p < 0.05


def test_p_curve_finds_a_power():
    """Places in the middle of equal parts of what tests with a power of .6 give."""
    shift = curve.shift_of(0.6, CRITICAL)
    assert float(curve.above(CRITICAL, shift)) == pytest.approx(0.6, rel=CLOSED_FORM)
    places = 0.6 * (np.arange(40) + 0.5) / 40
    z = np.array([curve.optimize.brentq(lambda x, p=p: float(curve.above(x, shift)) - p, 0.0, 20.0) for p in places])
    found = curve.p_curve(z, alpha=0.05, level=0.9)
    assert found.power == pytest.approx(0.6, abs=1e-9)
    assert 0.05 < found.power_lb < 0.6 < found.power_ub < 0.99
    shares = curve.shares(z, alpha=0.05, bins=5, power=0.6)
    assert shares[0].sum() == pytest.approx(1.0)
    assert shares[1].sum() == pytest.approx(1.0, rel=CLOSED_FORM)
    assert shares[0] == pytest.approx(shares[1], abs=1 / 40)


def test_the_rule_of_p_curve():
    strong = bias.pcurve(fit(np.full(20, 0.35), np.full(20, 0.1)))
    weak = bias.pcurve(fit(np.full(20, 0.2), np.full(20, 0.1)))
    assert (strong.evidence, weak.evidence) == ("present", "inadequate")
    assert bias.pcurve(fit([0.21, 0.24], [0.1, 0.1])).evidence == "open"
    assert strong.curve()["observed"].to_list() == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("right_half", "right_full", "flat_full", "flat_half", "flat_counted", "says"),
    [
        (0.04, 0.9, 0.01, 0.01, 0.01, "present"),
        (0.09, 0.09, 0.5, 0.5, 0.5, "present"),
        (0.06, 0.2, 0.5, 0.5, 0.5, "open"),
        (0.2, 0.01, 0.5, 0.5, 0.5, "open"),
        (0.5, 0.5, 0.04, 0.5, 0.5, "inadequate"),
        (0.5, 0.5, 0.06, 0.09, 0.09, "inadequate"),
        (0.5, 0.5, 0.06, 0.09, 0.2, "open"),
    ],
)
def test_each_part_of_the_rule_of_p_curve(right_half, right_full, flat_full, flat_half, flat_counted, says):
    """Simonsohn, Simmons & Nelson (2015), as their app prints it."""
    found = replace(
        bias.pcurve(fit()),
        right_half_p=right_half,
        right_full_p=right_full,
        flat_full_p=flat_full,
        flat_half_p=flat_half,
        flat_binomial_p=flat_counted,
    )
    assert found.evidence == says
