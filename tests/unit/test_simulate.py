"""`simulate`: the moments are those of the model, selection takes what it says, the label is seen everywhere."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import special, stats

import alliance_meta as am
from alliance_meta.core.simulation import ROWS, Plan, Selection, Whole, p_values, simulate

# A normal deviate this large turns up in one of 15,000 comparisons.
DEVIATIONS = 4.0
STEP = Selection(np.array([0.025]), np.array([1.0, 0.3]), False, "greater", "effect")


def plan(**changes):
    usual = {"k": 30, "per_study": Whole(1, 1), "n": Whole(20, 200, True), "mu": 0.28, "tau": 0.15}
    return Plan(**(usual | {"omega": 0.1, "rho": 0.6} | changes))


def near(sample, expected, *, power=1):
    """Tell whether the mean of a power of independent numbers is as expected."""
    values = np.asarray(sample, dtype=float) ** power
    return abs(values.mean() - expected) < DEVIATIONS * values.std(ddof=1) / np.sqrt(values.size)


def share(found, expected):
    """Tell whether a share of independent yes and no is as expected, by the exact binomial test."""
    return stats.binomtest(int(np.sum(found)), len(found), float(expected)).pvalue > 1e-4


class TestEngine:
    def test_moments_are_those_of_the_model(self):
        made = simulate(plan(per_study=Whole(2, 2)), replicates=2000, seed=1)
        first, second = made.theta[::2], made.theta[1::2]
        assert near(first, 0.28)
        assert near(first - 0.28, 0.15**2 + 0.1**2, power=2)
        assert near((first - 0.28) * (second - 0.28), 0.15**2)
        error = (made.y - made.theta) / np.sqrt(made.v)
        assert near(error[::2], 0.0)
        assert near(error[::2], 1.0, power=2)
        assert near(error[::2] * error[1::2], 0.6)
        np.testing.assert_array_equal(made.v, 1.0 / (made.n - 3.0))
        np.testing.assert_array_equal(made.expected, made.theta)

    def test_the_sizes_are_drawn_as_said(self):
        n = simulate(plan(n=Whole(20, 200, True)), replicates=500, seed=2).n
        assert (n.min(), n.max()) == (20, 200)
        assert share(n <= 63, np.log(63.5 / 19.5) / np.log(200.5 / 19.5))
        sizes = np.unique(simulate(plan(per_study=Whole(1, 4)), replicates=300, seed=2).study, return_counts=True)[1]
        assert near(sizes / 300, 2.5)
        values = simulate(plan(n=Whole(values=np.array([10.0, 10.0, 50.0]))), replicates=300, seed=2).n
        assert share(values == 50, 1 / 3)
        assert set(values) == {10, 50}

    def test_moderators_and_unreliable_measures_do_as_they_say(self):
        made = simulate(plan(shifts=(np.array([0.0, 0.4]),), attenuation=0.8), replicates=500, seed=3)
        level = made.levels[:, 0]
        assert share(level == 1, 0.5)
        assert near(made.theta[level == 1], 0.68)
        np.testing.assert_allclose(np.tanh(made.expected), 0.8 * np.tanh(made.theta), rtol=1e-12)
        assert near((made.y - made.expected) / np.sqrt(made.v), 1.0, power=2)

    @pytest.mark.parametrize("by", ["effect", "cluster"])
    @pytest.mark.parametrize("changes", [{}, {"per_study": Whole(1, 5)}, {"shifts": (np.zeros(2), np.zeros(3))}])
    def test_a_replicate_does_not_depend_on_how_many_there_are(self, by, changes):
        selection = Selection(STEP.steps, STEP.weights, False, "greater", by)
        drawn = plan(selection=selection, unreported=0.5, p_hacking=0.1, **changes)
        many = simulate(drawn, replicates=1300, seed=5)
        few = simulate(drawn, replicates=7, seed=5)
        rows = many.replicate < 7
        for name in (*ROWS, "replicate", "study"):
            np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[rows])
        np.testing.assert_array_equal(few.drawn, many.drawn[:7])
        other = simulate(drawn, replicates=7, seed=6)
        assert other.y[0] != few.y[0]

    @pytest.mark.parametrize("selection", [None, STEP])
    def test_every_data_set_has_all_its_studies(self, selection):
        made = simulate(plan(per_study=Whole(1, 3), selection=selection), replicates=700, seed=7)
        pairs = np.unique(made.replicate * 30 + made.study)
        np.testing.assert_array_equal(pairs, np.arange(700 * 30))
        assert (np.diff(made.replicate * 30 + made.study) >= 0).all()
        assert (made.drawn > 30).any() == (selection is not None)

    def test_a_step_takes_results_with_its_weight(self):
        made = simulate(plan(selection=STEP, omega=0.0), replicates=3000, seed=8)
        free = simulate(plan(omega=0.0), replicates=3000, seed=9)
        significant = (free.p <= 0.025).mean()
        assert share(made.p <= 0.025, significant / (significant + 0.3 * (1 - significant)))
        # Of those made, so many stand; 0.3 of what was not significant.
        assert 30 * 3000 / made.drawn.sum() == pytest.approx(significant + 0.3 * (1 - significant), rel=0.01)
        odds = (made.p > 0.025).sum() / (made.p <= 0.025).sum()
        assert odds / ((1 - significant) / significant) == pytest.approx(0.3, abs=0.01)

    def test_a_cluster_is_taken_by_its_first_effect(self):
        selection = Selection(STEP.steps, np.array([1.0, 0.0]), False, "greater", "cluster")
        made = simulate(plan(per_study=Whole(3, 3), selection=selection), replicates=200, seed=10)
        assert (made.p[::3] <= 0.025).all()
        assert (made.p[1::3] > 0.025).any()
        effects = Selection(STEP.steps, np.array([1.0, 0.0]), False, "greater", "effect")
        assert (simulate(plan(per_study=Whole(3, 3), selection=effects), replicates=9, seed=10).p <= 0.025).all()

    def test_a_beta_density_weighs_p_values(self):
        beta = Selection(np.array([0.025, 0.975]), np.array([0.5, 1.5]), True, "greater", "effect")
        p = np.array([0.001, 0.025, 0.2, 0.9, 0.975, 0.999])
        inside = np.clip(p, 0.025, 0.975)
        density = inside**-0.5 * (1 - inside) ** 0.5
        np.testing.assert_allclose(beta.probability(p), density / density.max(), rtol=1e-12)
        inner = Selection(np.array([0.01, 0.99]), np.array([2.0, 3.0]), True, "greater", "effect")
        assert inner.probability(np.array([1 / 3])) == pytest.approx(1.0)
        made = simulate(plan(selection=beta), replicates=2000, seed=11)
        free = simulate(plan(), replicates=2000, seed=12)
        weight = beta.probability(free.p)
        assert share(made.p > 0.3, weight[free.p > 0.3].sum() / weight.sum())

    @pytest.mark.parametrize("alternative", ["greater", "less", "two.sided"])
    def test_p_values_are_those_of_the_side(self, alternative):
        scipy = {"greater": stats.norm.sf, "less": stats.norm.cdf, "two.sided": lambda z: 2 * stats.norm.sf(abs(z))}
        z = np.array([-2.0, 0.5, 3.0])
        np.testing.assert_allclose(p_values(z, alternative), scipy[alternative](z), rtol=1e-12)
        selection = Selection(STEP.steps, np.array([1.0, 0.0]), False, alternative, "effect")
        made = simulate(plan(mu=0.0, selection=selection), replicates=100, seed=13)
        np.testing.assert_allclose(made.p, scipy[alternative](made.y / np.sqrt(made.v)), rtol=1e-9)
        assert (made.p <= 0.025).all()
        sides = {"greater": {1.0}, "less": {-1.0}, "two.sided": {-1.0, 1.0}}
        assert set(np.sign(made.y)) == sides[alternative]

    def test_hacked_effects_are_drawn_until_they_are_significant(self):
        made = simulate(plan(tau=0.0, omega=0.0, mu=0.1, p_hacking=0.4), replicates=1000, seed=14)
        free = simulate(plan(tau=0.0, omega=0.0, mu=0.1), replicates=1000, seed=14)
        cut = -special.ndtri(0.025)
        missed = free.y / np.sqrt(free.v) < cut
        assert share(made.hacked[missed], 0.4)
        assert not made.hacked[~missed].any()
        z = made.y / np.sqrt(made.v)
        assert (z[made.hacked] >= cut).all()
        np.testing.assert_array_equal(made.y[~made.hacked], free.y[~made.hacked])
        # They are what a study of this size gives when it is significant.
        power = special.ndtr(made.expected / np.sqrt(made.v) - cut)
        beyond = special.ndtr(made.expected / np.sqrt(made.v) - z) / power
        assert stats.kstest(beyond[made.hacked], "uniform").pvalue > 1e-4

    def test_only_what_is_not_significant_goes_unreported(self):
        made = simulate(plan(unreported=0.6), replicates=500, seed=15)
        weak = p_values(made.y / np.sqrt(made.v), "two.sided") >= 0.05
        assert share(made.unreported[weak], 0.6)
        assert not made.unreported[~weak].any()

    def test_a_selection_that_leaves_nothing_is_refused(self):
        nothing = Selection(STEP.steps, np.array([1.0, 0.0]), False, "greater", "effect")
        with pytest.raises(am.InputError, match="the selection leaves next to nothing: of 15330 studies"):
            simulate(plan(mu=-1.5, selection=nothing), replicates=2, seed=1)


class TestSheet:
    def test_the_truth_lies_beside_the_sheet(self):
        sheet = am.simulate(k=12, per_study=(1, 4), omega=0.1, unreported=0.5, reliability=(0.9, 0.8), seed=4)
        truth, frame = sheet.truth, sheet.frame
        assert truth.parameters["mu"] == truth.parameters["mean"] == 0.28
        assert truth.effects.index.tolist() == frame["es_id"].tolist()
        known = frame["ns"] == "no"
        assert 0 < known.sum() < len(frame)
        assert frame.loc[~known, "r"].isna().all()
        np.testing.assert_allclose(np.arctanh(frame.loc[known, "r"]), truth.effects["yi"].to_numpy()[known])
        np.testing.assert_allclose(truth.effects["expected"], np.arctanh(np.sqrt(0.72) * np.tanh(truth.effects.theta)))
        assert set(frame["rel_outcome"]) == {0.8}
        assert frame["study_id"].nunique() == 12
        assert sheet.query("n > 50").truth is truth

    def test_a_fit_works_at_once(self):
        sheet = am.simulate(
            k=30, per_study=3, moderators={"setting": {"outpatient": 0, "inpatient": -0.2}}, omega=0.1, seed=2
        )
        fit = am.che(am.escalc(sheet), mods="setting")
        assert fit.k == 90
        assert fit.effects.n_studies == 30
        assert sheet.truth.parameters["mean"] == pytest.approx(0.18)

    def test_it_passes_the_checks_of_a_coded_sheet(self, tmp_path):
        sheet = am.simulate(
            k=9,
            per_study=2,
            selection={"steps": [0.025], "weights": [1, 0.5], "by": "cluster"},
            reliability=(0.9, 0.8),
            moderators={"setting": {"outpatient": 0, "inpatient": -0.1}},
            seed=1,
        )
        sheet.frame.to_csv(tmp_path / "synthetic_sheet.csv", index=False)
        assert am.check_coded(tmp_path / "synthetic_sheet.csv") == []
        assert sheet.frame["focal"].tolist() == ["yes", "no"] * 9

    def test_the_same_seed_gives_the_same_sheet(self):
        one, same, other = (am.simulate(k=8, seed=seed).frame.to_csv() for seed in (5, 5, 6))
        assert one == same != other

    def test_it_says_everywhere_that_it_is_made_up(self):
        sheet = am.simulate(k=11, seed=7, selection={"weights": [1, 0.2]})
        es = am.escalc(sheet)
        fit = am.RandomEffectsModel(es).fit()
        assert es.provenance.synthetic
        drawn = sheet.truth.parameters["drawn"]
        for text in (str(fit), str(am.bias.hc(fit)), str(am.sensitivity.bootstrap(fit, kind="parametric", seed=1))):
            words = " ".join(text.split())
            assert "SYNTHETIC" in words
            assert f"drawn = {drawn}" in words
        assert am.plots.forest_data(fit).attrs["synthetic"]
        assert "synthetic" in str(es)

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"k": 0}, "k=0 must be a whole number from 1 to 100000"),
            ({"k": 2.5}, "k=2.5 must be a whole number"),
            ({"seed": -1}, "seed=-1 must be a whole number from 0"),
            ({"tau": -0.1}, "tau=-0.1 must be a number from 0 to 3"),
            ({"mu": float("nan")}, "mu=nan must be a number from -3 to 3"),
            ({"rho": 1.2}, "rho=1.2 must be a number from 0 to 1"),
            ({"n": 3}, "n=3 must be a whole number from 4"),
            ({"n": (50, 20)}, r"n=\(50, 20\) must be"),
            ({"n": "many"}, "n='many' must be"),
            ({"n": []}, r"n=\[\] must be"),
            ({"per_study": (1, 2.5)}, r"per_study=\(1, 2.5\) must be"),
            ({"reliability": (0.9, 0.0)}, r"a reliability lies in \(0, 1\]"),
            ({"reliability": 0.9}, "must be two numbers"),
            ({"moderators": {"n": {"a": 0}}}, "'n' is a column of every simulated sheet"),
            ({"moderators": {"arm": ["a", "b"]}}, "'arm' needs its levels"),
            ({"selection": [0.025]}, "must be a mapping"),
            ({"selection": {"step": [0.025], "weights": [1, 0.3]}}, "has no 'step'; did you mean 'steps'"),
            ({"selection": {"type": "Beta", "delta": [1, 1]}}, "type='Beta' is not one of 'stepfun', 'beta'"),
            ({"selection": {"weights": [1]}}, "must be 2 numbers"),
            ({"selection": {"weights": [0, 0]}}, "not all 0"),
            ({"selection": {"weights": [1, -0.1]}}, "none below 0"),
            ({"selection": {"weights": "all"}}, "weights='all' must be a list of numbers"),
            ({"selection": {"steps": [0.5, 0.025], "weights": [1, 1, 1]}}, "between 0 and 1 that increase"),
            ({"selection": {"type": "beta", "delta": [0, 1]}}, "two numbers above 0 as delta"),
            ({"selection": {"weights": [1, 0.3], "by": "study"}}, "selection: by='study' is not one of"),
            ({"moderators": {"arm": {"a": 30}}}, "some correlations would be 1"),
        ],
    )
    def test_bad_input_is_refused_in_one_sentence(self, wrong, says):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(am.InputError, match=says) as error:
                am.simulate(**({"seed": 1} | wrong))
        assert "\n" not in str(error.value)
