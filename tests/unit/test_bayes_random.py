"""`BayesianModel` with random terms: what may be written, what is said of extreme data, and what is refused."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge, priors
from alliance_meta.bayes.exact.three_level import read_terms

Y = np.array([0.31, 0.22, 0.45, 0.05, 0.52, 0.40, 0.18, 0.29, 0.11, 0.36])
V = 1 / np.array([37.0, 37, 32, 117, 22, 22, 77, 57, 57, 147])
STUDY = ["a", "a", "a", "b", "c", "c", "d", "e", "e", "f"]
NESTED = "~ 1 | study_id/es_id"


def effects(rows=slice(None), *, y=Y, study=STUDY, **columns):
    frame = {"year": np.arange(2000.0, 2010.0), "grade": [1, 2, 3, 1, 1, 2, 1, 1, 2, 1], **columns}
    mods = pd.DataFrame({name: np.array(values)[rows] for name, values in frame.items()})
    return am.EffectSizes.from_arrays(y[rows], V[rows], mods=mods, study_id=study[rows], measure="ZCOR")


@pytest.fixture(scope="module")
def fit():
    return am.BayesianModel(effects(), random=NESTED).fit()


@pytest.mark.parametrize(
    ("random", "names"),
    [
        (NESTED, ("study_id", "study_id/es_id")),
        ("study_id/es_id", ("study_id", "study_id/es_id")),
        ("study_id / grade", ("study_id", "study_id/grade")),
        (("study_id", "es_id"), ("study_id", "es_id")),
        (["~ 1 | es_id", "~ 1 | study_id"], ("study_id", "es_id")),
    ],
)
def test_terms_are_spelt_and_named_as_without_priors(random, names, fit):
    es = effects()
    terms = read_terms(random, es)
    assert terms.names == names
    assert terms.levels == tuple("abcdef")
    assert terms.group.tolist() == [0, 0, 0, 1, 2, 2, 3, 4, 4, 5]
    frequentist = am.MultilevelModel(es, random=random).fit()
    assert {term.name for term in frequentist.random} == set(names)
    same = am.BayesianModel(es, random=random).fit()
    assert same.log_marginal_likelihood == pytest.approx(fit.log_marginal_likelihood, rel=1e-12)


def test_a_term_goes_by_the_last_part_of_its_name(fit):
    assert fit.posterior("tau[es_id]").name == "tau[study_id/es_id]"
    assert fit.prob("tau[es_id] < 0.1") == fit.prob("tau[study_id/es_id] < 0.1")
    by_short = am.BayesianModel(effects(), random=NESTED, tau_prior={"es_id": priors.HalfCauchy(0.1)}).fit()
    by_long = am.BayesianModel(effects(), random=NESTED, tau_prior={"study_id/es_id": priors.HalfCauchy(0.1)}).fit()
    assert by_short.priors.taus == by_long.priors.taus == (priors.HalfNormal(0.3), priors.HalfCauchy(0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random": "study_id"}, "1 term where there must be two"),
        ({"random": "grade/study_id/es_id"}, "3 terms where there must be two"),
        ({"random": "1 + year | study_id"}, "'1 \\+ year | study_id' is no random intercept.*pymc"),
        ({"random": "grade | study_id"}, "is no random intercept"),
        ({"random": ("study_id", "grade")}, "several rows share one study_id.*pymc|several rows share one grade.*pymc"),
        ({"random": []}, "0 terms"),
        ({"random": ("study_id", "study_id/es_id")}, "names study_id twice"),
        ({"random": "studyid/es_id"}, "not a column"),
        ({"V": np.eye(10)}, "V is for dependent effects"),
        ({"random": NESTED, "V": np.eye(3)}, "3 rows for 10"),
        ({"tau_prior": {"study_id": priors.HalfNormal(1)}}, "needs random="),
        ({"random": NESTED, "tau_prior": {"es": priors.HalfNormal(1)}}, "tau_prior names 'es'"),
        ({"random": NESTED, "tau_prior": {"es_id": priors.Normal(0, 1)}}, "not a prior of tau"),
        ({"random": NESTED, "mu_prior": priors.StudentT(4, 0, 1)}, "normal and flat"),
        (
            {"random": NESTED, "mu_prior": priors.Flat(), "tau_prior": priors.Jeffreys(), "rows": slice(0, 3)},
            "improper",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    es = effects(options.pop("rows", slice(None)))
    with pytest.raises(am.InputError, match=message):
        am.BayesianModel(es, **options).fit()


def test_a_grouping_with_gaps_is_refused():
    es = effects(country=["x", None, "x", "y", "y", "z", "z", "x", "y", "z"])
    with pytest.raises(am.InputError, match="is empty for 1 of 10"):
        am.BayesianModel(es, random="country/es_id").fit()


def codes(fit):
    return {note.code for note in fit.notes}


def everything(fit):
    """Ask for all there is: no warning may leak, and every number is finite or says why not."""
    assert max(map(len, fit.summary().splitlines())) <= 80
    json.dumps(fit.to_dict())
    assert fit.error_bound < 1e-8
    table = fit.tidy()
    assert np.isfinite(table[["median", "ci_lb", "ci_ub"]].to_numpy(float)).all()
    assert (table["ci_lb"] <= table["median"]).all()
    assert (table["median"] <= table["ci_ub"]).all()
    arviz_bridge.draws(fit.to_arviz(draws=40, seed=1))
    for loo in (fit.loo(), fit.loo(cluster="study_id")):
        assert loo.elpd == pytest.approx(loo.tidy()["elpd"].sum()) or isinstance(loo.elpd, am.NotApplicable)
    return table


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_smallest_data(k):
    """One effect, two of one study, three of one study."""
    model = am.BayesianModel(effects(slice(0, k)), random=NESTED)
    if k == 1:
        with pytest.warns(am.errors.NotIdentifiedWarning, match="group of its own"):
            made = model.fit()
    else:
        made = model.fit()
    assert "prior-bound" in codes(made)
    everything(made)


def test_one_group_says_that_the_prior_speaks():
    made = am.BayesianModel(effects(study=["a"] * 10), random=NESTED).fit()
    assert "study_id has 1 group:" in " ".join(map(str, made.notes))
    everything(made)
    # Without its only group nothing is left to predict it from.
    assert isinstance(made.loo(cluster="study_id").elpd, am.NotApplicable)


def test_rows_that_are_groups_of_their_own():
    """Nothing tells the two levels apart: said, as without priors; their sum is what two levels leave of tau."""
    es = effects(study=list("abcdefghij"))
    with pytest.warns(am.errors.NotIdentifiedWarning, match="how it divides rests on the priors"):
        made = am.BayesianModel(es, random=NESTED).fit()
    assert "not-identified" in codes(made)
    everything(made)
    assert made.posterior("tau[study_id]").mean == pytest.approx(made.posterior("tau[es_id]").mean, rel=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        almost = am.BayesianModel(
            es, random=NESTED, tau_prior={"es_id": priors.HalfNormal(1e-7), "study_id": priors.HalfNormal(0.3)}
        ).fit()
    two = am.BayesianModel(es).fit()
    assert almost.log_marginal_likelihood == pytest.approx(two.log_marginal_likelihood, abs=1e-6)


@pytest.mark.parametrize("shift", [5.0, 20.0])
def test_an_outlier_is_told_and_left_out_exactly(shift):
    """One effect more than 20 standard errors away: without it the posterior lies off the grid of the whole one."""
    y = Y.copy()
    y[4] += shift
    far = am.BayesianModel(effects(y=y), random=NESTED).fit()
    assert ("prior-conflict" in codes(far)) == (shift > 10)
    everything(far)
    row = far.loo().tidy().iloc[4]
    without = am.BayesianModel(effects(y=y).take(np.arange(10) != 4), random=NESTED).fit()
    assert row["elpd"] == pytest.approx(far.log_marginal_likelihood - without.log_marginal_likelihood, rel=1e-9)
    assert row["mean[mu]"] == pytest.approx(without.beta[0], rel=1e-9)
    assert row["sd[mu]"] == pytest.approx(without.se[0], rel=1e-9)
    assert row["pit"] > 1 - 1e-9


def test_an_effect_beyond_reason_is_refused_trust():
    y = Y.copy()
    y[4] += 1e6
    with pytest.warns(am.errors.ConvergenceWarning, match="only accurate to about"):
        far = am.BayesianModel(effects(y=y), random=NESTED).fit()
    assert {"not-converged", "prior-conflict"} <= codes(far)


def test_equal_effects_speak_for_no_variation():
    equal = am.BayesianModel(effects(y=np.full(10, 0.3)), random=NESTED).fit()
    everything(equal)
    for term in ("study_id", "es_id"):
        assert equal.bayes_factor(f"tau[{term}] = 0").bf01 > 1
        assert equal.posterior(f"tau[{term}]").interval(kind="hdi").lb == 0


def test_priors_of_another_scale_are_told():
    es = am.EffectSizes.from_arrays(Y, V, study_id=STUDY, measure="GEN")
    assert "prior-scale" in codes(am.BayesianModel(es, random=NESTED).fit())


def test_rows_without_a_moderator_are_left_out():
    year = np.arange(2000.0, 2010.0)
    year[3] = np.nan
    es = effects(year=year)
    with pytest.warns(am.errors.DroppedRowsWarning):
        made = am.BayesianModel(es, mods="year", random=NESTED, V=am.impute_V(es, rho=0.5)).fit()
    assert (made.k, made.n_groups) == (9, 5)
    assert len(made.levels) == 5


def test_prior_grids_say_which_term_they_mean(fit):
    table = fit.prior_sensitivity(tau_priors={"es_id": [priors.HalfNormal(0.1), priors.HalfNormal(1.0)]})
    assert list(table["prior of tau[study_id/es_id]"]) == ["half-normal(0.1)", "half-normal(1)"]
    assert set(table["prior of tau[study_id]"]) == {"half-normal(0.3)"}
    assert len(fit.prior_sensitivity()) == 25
    for wrong, message in (
        ({"tau_priors": []}, "at least one prior"),
        ({"tau_priors": {"es": [priors.HalfNormal(1)]}}, "Terms: study_id"),
        ({"mu_priors": [priors.Cauchy(0, 1)]}, "normal and flat"),
        ({"tau_priors": [0.3]}, "not a prior of tau"),
    ):
        with pytest.raises(am.InputError, match=message):
            fit.prior_sensitivity(**wrong)


def test_what_else_is_refused(fit):
    for ask, message in (
        (lambda: fit.loo(cluster="year"), "whole groups of 'study_id'"),
        (lambda: fit.posterior("tau[study]"), "did you mean"),
        (lambda: fit.posterior({"mu": 0.0}), "every weight"),
        (lambda: fit.posterior("tau", scale="r"), "cannot be shown as a correlation"),
        (lambda: fit.posterior("icc", scale="r"), "cannot be shown as a correlation"),
        (lambda: fit.prob("mu = 0"), "Bayes factor"),
        (lambda: fit.bayes_factor("tau = 0"), "Bayes factors are for"),
        (lambda: fit.bayes_factor("tau[study_id] = 0.1"), "no variation"),
        (lambda: fit.to_arviz(draws=10, chains=3, seed=1), "share evenly"),
    ):
        with pytest.raises(am.InputError, match=message):
            ask()


def test_r_code_is_that_of_brms(fit):
    code = fit.r_code()
    assert "(1 | study_id/es_id)" in code
    assert 'prior(normal(0, 0.3), class="sd", group="study_id:es_id")' in code
    assert 'set_prior("normal(0, 0.5)", class="Intercept")' in code
    es = effects()
    chosen = {"study_id": priors.HalfCauchy(0.2), "es_id": priors.Lomax(6, 1)}
    other = am.BayesianModel(
        es, mods="year", random=("study_id", "es_id"), V=am.impute_V(es, rho=0.5), tau_prior=chosen,
        mu_prior=priors.Flat(),
    ).fit()  # fmt: skip
    code = other.r_code()
    assert "+ (1 | study_id) + (1 | es_id) + fcor(V), data=dat, data2=list(V=V)" in code
    assert 'prior(constant(1), class="sigma")' in code
    assert 'prior(cauchy(0, 0.2), class="sd", group="study_id")' in code
    assert 'prior(pareto_type_2(0, 1, 6), class="sd", group="es_id")' in code
    assert 'set_prior("", class="Intercept")' in code
    assert 'class="b", coef="year"' in code


def test_a_notebook_shows_a_table(fit):
    shown = fit._repr_html_()
    assert shown.count("<tr>") == 5
    assert '<th scope="row">tau[study_id/es_id]</th>' in shown
    assert "<li>Note: Only 4 rows more than groups of study_id" in shown
