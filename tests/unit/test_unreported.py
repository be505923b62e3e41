"""Effects known only as not significant: the likelihood against R and by brute force, and what is said beside it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, special, stats
from statsmodels.tools.numdiff import approx_fprime, approx_hess

import alliance_meta as am
from alliance_meta.bias.not_significant import _bounded
from alliance_meta.core.simulation import Plan, Whole, simulate
from alliance_meta.core.univariate import unreported as core
from alliance_meta.errors import DroppedRowsWarning, FewStudiesWarning
from tests.tolerances import CLOSED_FORM, ITERATIVE, OPTIMISER

pytestmark = [
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning"),
]
WAYS = ["left out", "r = 0", "likelihood", "multiple imputation"]
R = (0.41, 0.22, -0.05, 0.35, 0.18, 0.52, 0.30)


def sheet(r=R, silent=5, n=60, **columns):
    k = len(r) + silent
    return pd.DataFrame(
        {
            "study": [f"Study {i}" for i in range(k)],
            "r": [*r, *[np.nan] * silent],
            "n": n,
            "ns": [*["no"] * len(r), *["yes"] * silent],
        }
        | columns
    )


def made(k, m, *, seed=1, mu=0.2, tau=0.1):
    rng = np.random.default_rng(seed)
    n = rng.integers(15, 200, k + m)
    v = 1.0 / (n - 3.0)
    y = mu + rng.normal(size=k + m) * np.sqrt(v + tau**2)
    bound = 1.96 * np.sqrt(v[k:])
    return core.Bounded(y[:k], v[:k], v[k:], -bound, bound)


def negative(x, data):
    """Return minus the log-likelihood, with the probability of the bounds by numerical integration."""
    mu, tau2 = x
    reported = stats.norm.logpdf(data.y, mu, np.sqrt(data.v + tau2)).sum()
    inside = [
        integrate.quad(stats.norm(mu, np.sqrt(v + tau2)).pdf, low, high, epsabs=0, epsrel=1e-11)[0]
        for v, low, high in zip(data.v_between, data.low, data.high, strict=True)
    ]
    return -(reported + np.log(inside).sum())


class TestLikelihood:
    def test_it_is_that_of_survreg(self):
        """R 4.2.2, survival 3.5-3: interval-censored normal effects of equal variance, scale^2 = v + tau2.

        survreg(Surv(low, high, type = "interval2") ~ 1, dist = "gaussian"), the directions of two effects known.
        """
        es = am.escalc(sheet(es_sign=[*[""] * 10, "positive", "negative"]))
        found = am.bias.unreported(es)
        assert found.estimate == pytest.approx(0.1945804283431, rel=OPTIMISER)
        assert found.tau2 == pytest.approx(0.0227749544843, rel=OPTIMISER)
        data, _, _ = _bounded(es, 0.05)
        assert core.fit(data).loglik == pytest.approx(-3.0989987657765, rel=ITERATIVE)
        np.testing.assert_allclose(data.high, [0.2599024466731] * 4 + [0.0], rtol=1e-12)
        np.testing.assert_allclose(data.low, [-0.2599024466731] * 3 + [0.0, -0.2599024466731], rtol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize(("k", "m"), [(8, 4), (1, 3), (3, 12), (0, 4), (12, 1)])
    def test_it_is_the_integral_by_brute_force(self, k, m):
        data = made(k, m, seed=k + m)
        ours = core.fit(data)
        assert ours.converged
        assert -negative((ours.mu, ours.tau2), data) == pytest.approx(ours.loglik, rel=1e-9)
        found = optimize.minimize(negative, [0.1, 0.02], (data,), "L-BFGS-B", bounds=[(-0.4, 0.6), (0, 1)])
        assert ours.loglik >= -found.fun - 1e-9
        assert ours.mu == pytest.approx(found.x[0], abs=1e-3)

    def test_the_derivatives_are_those_of_the_likelihood(self):
        data, at = made(6, 5), np.array([0.15, 0.013])
        scores, hessian, information = core._derivatives(*at, data)
        np.testing.assert_allclose(
            -scores.sum(axis=0), approx_fprime(at, negative, args=(data,), centered=True), rtol=1e-6
        )
        np.testing.assert_allclose(-hessian, approx_hess(at, negative, args=(data,)), rtol=1e-3)
        # Of reported effects the information is expected, not observed: the two agree where residuals are typical.
        w = 1.0 / (data.v + 0.013)
        alone = core._derivatives(*at, core.Bounded(data.y, data.v, *[np.empty(0)] * 3))[2]
        np.testing.assert_allclose(alone, np.diag([w.sum(), 0.5 * (w * w).sum()]), rtol=CLOSED_FORM)
        np.testing.assert_allclose(information - alone, -hessian + core._derivatives(
            *at, core.Bounded(data.y, data.v, *[np.empty(0)] * 3))[1], rtol=1e-9)  # fmt: skip

    def test_probabilities_far_out_keep_their_digits(self):
        a, b = np.array([30.0, -31.0, -1.0, -1e-9]), np.array([31.0, -30.0, 1.0, 1e-9])
        expected = [special.log_ndtr(-30.0)] * 2 + [
            np.log(special.erf(np.sqrt(0.5))),
            np.log(2e-9 / np.sqrt(2 * np.pi)),
        ]
        np.testing.assert_allclose(core.log_between(a, b), expected, rtol=1e-7)

    @pytest.mark.parametrize("mu", [0.2, 3.0, -8.0])
    def test_draws_fill_the_bounds_as_the_distribution_says(self, mu):
        data = made(0, 3)
        drawn = core.draw(np.full(4000, mu), 0.002, data, np.random.default_rng(1))
        assert ((drawn >= data.low) & (drawn <= data.high)).all()
        for i in range(3):
            s = np.sqrt(data.v_between[i] + 0.002)
            limits = (data.low[i] - mu) / s, (data.high[i] - mu) / s
            assert stats.kstest(drawn[:, i], stats.truncnorm(*limits, mu, s).cdf).pvalue > 1e-4

    def test_twenty_thousand_effects(self):
        data = made(13_000, 7_000)
        found = core.fit(data)
        assert found.converged
        assert np.abs(found.scores.sum(axis=0)).max() < 1e-3

    @pytest.mark.slow
    def test_it_recovers_the_truth_where_the_usual_ways_do_not(self):
        plan = Plan(30, Whole(1, 1), Whole(20, 200, True), 0.2, 0.1, 0.0, 0.0, unreported=0.7)
        simulated = simulate(plan, replicates=150, seed=1)
        found = []
        for b in range(150):
            rows = simulated.replicate == b
            y, v, n, gone = (getattr(simulated, name)[rows] for name in ("y", "v", "n", "unreported"))
            t = special.stdtrit(n[gone] - 2.0, 0.975)
            bound = np.arctanh(t / np.sqrt(t * t + n[gone] - 2.0))
            data = core.Bounded(y[~gone], v[~gone], v[gone], -bound, bound)
            none = np.empty(0)
            zero = core.Bounded(np.where(gone, 0.0, y), v, none, none, none)
            likely = core.fit(data)
            left, usual = core.fit(core.Bounded(y[~gone], v[~gone], none, none, none)), core.fit(zero)
            found.append((likely.mu, left.mu, usual.mu, (likely.mu - 0.2) / np.sqrt(likely.variance)))
        likely, left, usual, z = np.array(found).T
        assert abs(likely.mean() - 0.2) < 4 * likely.std() / np.sqrt(150)
        assert left.mean() > 0.24
        assert usual.mean() < 0.17
        assert 0.9 < z.std() < 1.15


class TestWays:
    def test_without_any_all_four_are_the_fit(self):
        es = am.escalc(sheet(silent=0, n=[40, 60, 80, 50, 70, 90, 100]))
        found = am.bias.unreported(es)
        fit = am.RandomEffectsModel(es, method="ML", test="t").fit()
        row = fit.tidy().iloc[0]
        for way in WAYS:
            ours = found.rows.loc[way]
            for name in ("estimate", "se", "ddf", "ci_lb", "ci_ub", "pval"):
                assert ours[name] == pytest.approx(row[name], rel=1e-6), (way, name)
            assert ours.tau2 == pytest.approx(fit.tau2, rel=1e-6)
        assert [note.code for note in found.notes] == ["nothing-unreported", "few-studies"]

    def test_zeros_and_rows_left_out_are_fits_too(self):
        frame = sheet(n=np.arange(40, 64, 2))
        found = am.bias.unreported(am.escalc(frame)).rows
        for way, data in (("left out", frame.dropna(subset="r")), ("r = 0", frame.fillna({"r": 0.0}))):
            row = am.RandomEffectsModel(am.escalc(data), method="ML", test="t").fit().tidy().iloc[0]
            for name in ("estimate", "se", "ci_lb", "ci_ub", "pval"):
                assert found.loc[way, name] == pytest.approx(row[name], rel=1e-6)
        assert found["k"].tolist() == [7, 12, 12, 12]
        assert found.loc["r = 0", "estimate"] < found.loc["likelihood", "estimate"] < found.loc["left out", "estimate"]
        np.testing.assert_allclose(found["r_ub"], np.tanh(found["ci_ub"]), rtol=CLOSED_FORM)

    def test_imputation_nears_the_likelihood(self):
        """Its mean differs by simulation only; Rubin's rules by hand over draws that the test makes itself."""
        es = am.escalc(sheet())
        found = am.bias.unreported(es, imputations=4000)
        likely, imputed = found.rows.loc["likelihood"], found.rows.loc["multiple imputation"]
        assert imputed.estimate == pytest.approx(likely.estimate, abs=0.01)
        assert imputed.se == pytest.approx(likely.se, rel=0.1)
        data, _, _ = _bounded(es, 0.05)
        rng = np.random.default_rng(9)
        means, within = [], []
        for mu in likely.estimate + likely.se * rng.standard_normal(400):
            s = np.sqrt(data.v_between + found.tau2)
            y = [
                *data.y,
                *stats.truncnorm.rvs((data.low - mu) / s, (data.high - mu) / s, mu, s, random_state=rng),
            ]
            fit = am.RandomEffectsModel(am.EffectSizes.from_arrays(y, np.full(12, 1 / 57)), method="ML", test="z").fit()
            means.append(fit.beta[0])
            within.append(fit.se[0] ** 2)
        between = np.var(means, ddof=1)
        assert imputed.estimate == pytest.approx(np.mean(means), abs=4 * np.sqrt(between / 400))
        assert imputed.se**2 == pytest.approx(np.mean(within) + (1 + 1 / 400) * between, rel=0.1)
        riv = (1 + 1 / 400) * between / np.mean(within)
        assert found.fmi == pytest.approx((riv + 2 / (imputed.ddf + 3)) / (riv + 1), abs=0.05)
        assert am.bias.unreported(es, seed=2).rows.equals(am.bias.unreported(es, seed=2).rows)
        assert not am.bias.unreported(es, seed=2).rows.equals(am.bias.unreported(es, seed=3).rows)

    def test_imputation_knows_that_the_mean_is_uncertain(self):
        """Drawn about one mean, 20 of 23 effects would make its standard error a fifth too small."""
        found = am.bias.unreported(am.escalc(sheet(R[:3], 20)), imputations=2000).rows
        assert found.loc["multiple imputation", "se"] == pytest.approx(found.loc["likelihood", "se"], rel=0.05)

    def test_what_convert_put_in_as_zero_is_the_same(self):
        frame = sheet()
        other = frame.drop(columns="ns").assign(es_type=["r"] * 7 + ["ns"] * 5)
        with pytest.warns(am.errors.AdaptedInputWarning):
            converted = am.escalc(am.convert(other))
        assert converted.k == 12
        pd.testing.assert_frame_equal(
            am.bias.unreported(converted).rows, am.bias.unreported(am.escalc(frame)).rows, rtol=1e-12
        )
        zeros = am.escalc(frame.fillna({"r": 0.0}))
        pd.testing.assert_frame_equal(am.bias.unreported(zeros).rows, am.bias.unreported(converted).rows, rtol=1e-12)

    def test_a_direction_narrows_the_bounds(self):
        up, none, down = (
            am.bias.unreported(am.escalc(sheet(es_sign=[*[""] * 7, *[sign] * 5]))).estimate for sign in ("+", "", "-1")
        )
        assert down < none < up

    def test_dependent_effects_have_errors_of_whole_studies(self):
        studies = [1, 1, 2, 2, 3, 4, 5, 1, 2, 3, 6, 6]
        es = am.escalc(sheet(study=[f"Study {i}" for i in studies]))
        found = am.bias.unreported(es)
        data, cluster, _ = _bounded(es, 0.05)
        likely = core.fit(data)
        w = 1.0 / (data.v + likely.tau2)
        assert found.estimate == likely.mu
        # The inverse information times the scores, summed by study.
        part = (np.linalg.inv(likely.information)[0] * likely.scores).sum(axis=1)
        sums = pd.Series(part).groupby(cluster).sum()
        assert found.se == pytest.approx(np.sqrt(6 / 5 * (sums**2).sum()), rel=1e-9)
        assert found.rows.loc["likelihood", "ddf"] == 5
        left = core.fit(core.Bounded(data.y, data.v, *[np.empty(0)] * 3))
        w = 1.0 / (data.v + left.tau2)
        sums = pd.Series(w * (data.y - left.mu)).groupby(cluster[:7]).sum()
        assert found.rows.loc["left out", "se"] == pytest.approx(np.sqrt(5 / 4 * (sums**2).sum()) / w.sum(), rel=1e-9)
        assert found.studies == 6
        assert "clustered" in [note.code for note in found.notes]

    @pytest.mark.parametrize("kind", ["random", "multilevel", "che", "rve", "bayes"])
    def test_a_fit_gives_its_effects(self, kind):
        es = am.escalc(sheet(study=[f"Study {i // 2}" for i in range(12)], n=np.arange(40, 64, 2)))
        make = {
            "random": lambda: am.RandomEffectsModel(es, level=0.9).fit(),
            "multilevel": lambda: am.MultilevelModel(es, level=0.9).fit(),
            "che": lambda: am.che(es, level=0.9),
            "rve": lambda: am.RVEModel(es, level=0.9).fit(),
            "bayes": lambda: am.BayesianModel(es, level=0.9).fit(),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
            fit = make[kind]()
        found = am.bias.unreported(fit)
        pd.testing.assert_frame_equal(found.rows, am.bias.unreported(es, level=0.9).rows)


class TestEdges:
    def test_escalc_says_which_rows_could_be_used(self):
        with pytest.warns(DroppedRowsWarning, match="Of these 5 say that r was not significant"):
            es = am.escalc(sheet())
        assert es.unreported is not None
        assert es.unreported["ni"].tolist() == [60] * 5
        assert es.unreported["sign"].isna().all()
        assert am.escalc(sheet(silent=0)).unreported is None
        assert es.take([0, 1]).unreported is es.unreported

    def test_without_a_sample_size_nothing_is_known(self):
        with pytest.warns(DroppedRowsWarning, match="Of these 4 say that r was not significant"):
            es = am.escalc(sheet(n=[*[60] * 11, np.nan]))
        assert es.unreported["study_id"].tolist() == [f"Study {i}" for i in range(7, 11)]
        assert am.bias.unreported(es).k == 11

    def test_a_wrong_direction_is_told_with_its_line(self):
        with pytest.raises(am.CodingError, match="line 13, es_sign: 'up' is no direction"):
            am.escalc(sheet(es_sign=[*[""] * 11, "up"]))

    def test_an_effect_with_a_number_is_used_and_said(self):
        frame = sheet().assign(ns="yes")
        found = am.bias.unreported(am.escalc(frame))
        assert found.unreported == 5
        assert "7 effects are marked as reported without a number" in str(found)
        assert "marked" not in str(am.bias.unreported(am.escalc(sheet())))

    def test_with_no_number_at_all_rows_say_why(self):
        found = am.bias.unreported(am.escalc(sheet().assign(r=[0.0] * 12, ns="yes")))
        assert "no effect has a number" in repr(found.rows.loc["left out", "estimate"])
        assert found.estimate == pytest.approx(0.0, abs=1e-9)
        assert found.unreported == found.k == 12

    @pytest.mark.parametrize(("k", "m"), [(1, 0), (1, 1), (2, 0), (2, 1)])
    def test_very_few_effects_have_a_defined_answer(self, k, m):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DroppedRowsWarning)
            warnings.simplefilter("ignore", FewStudiesWarning)
            found = am.bias.unreported(am.escalc(sheet(R[:k], m)))
        assert np.isfinite(found.rows.astype(float).drop(columns="ddf").to_numpy()).all()
        assert "few-studies" in [note.code for note in found.notes]

    def test_notes_are_said_when_they_hold(self):
        many = am.escalc(am.simulate(k=30, unreported=0.9, seed=1))
        codes = [note.code for note in am.bias.unreported(many).notes]
        assert codes == ["simulated", "dropped-rows", "unreported"]
        found = am.bias.unreported(am.escalc(sheet(es_sign=[*[""] * 11, "+"])), alpha=0.1)
        assert "two-sided t test at 0.1; the direction of 1 is known" in " ".join(str(found).split())

    def test_huge_samples_far_from_their_bounds(self):
        """A mean of .5 against bounds of .006 leaves probabilities that no float holds; their logarithms are held."""
        es = am.escalc(sheet((0.5, 0.49, 0.51), 1, n=100_000))
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            found = am.bias.unreported(es)
        assert np.isfinite(found.rows.astype(float).to_numpy()).all()

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"alpha": 0}, "alpha=0 is the level of a test"),
            ({"level": 95}, "level=95 is a confidence level"),
            ({"imputations": 1}, "imputations=1 must be a whole number of at least 2"),
            ({"seed": -1}, "seed=-1 must be a whole number"),
        ],
    )
    def test_options_out_of_range_are_refused(self, change, says):
        with pytest.raises(am.InputError, match=says):
            am.bias.unreported(am.escalc(sheet()), **change)

    def test_effects_that_are_no_fisher_z_are_refused(self):
        for es in (am.escalc(sheet(), measure="COR"), am.EffectSizes.from_arrays([0.1], [0.1], measure="ZCOR")):
            with pytest.raises(am.InputError, match="needs Fisher z with sample sizes"):
                am.bias.unreported(es)
        with pytest.raises(am.InputError, match="needs EffectSizes"):
            am.bias.unreported(sheet())
        fit = am.RandomEffectsModel(am.escalc(sheet(year=range(2000, 2012))), mods="year").fit()
        with pytest.raises(am.InputError, match="without moderators"):
            am.bias.unreported(fit)
