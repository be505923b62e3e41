"""Every result class is asked the same questions; a class that nobody listed here makes the first test fail."""

from __future__ import annotations

import html
import inspect
import json
import pkgutil
import re
import warnings
from functools import cache
from importlib import import_module

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import bayes, bias, moderators, plots, sensitivity
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.bias.given import OfStudies
from alliance_meta.effects.exchange.versions import moves
from alliance_meta.models.subgroups import subgroups
from alliance_meta.reporting.builds import Change, Changes
from alliance_meta.result import Result
from alliance_meta.results.fit import NUMBERS, QUESTIONS, Fit
from tests.reference.running import grammar_faults

RNG = np.random.default_rng(3)
SHEET = pd.DataFrame(
    {
        "study": [f"Study {i}" for i in range(18)],
        "r": np.tanh(RNG.normal(0.3, 0.25, 18)).round(2),
        "n": RNG.integers(30, 150, 18),
        "year": range(2000, 2018),
        "arm": ["x", "y", "x"] * 6,
        # No effect has arm y with rater b.
        "rater": ["a", "a", "b"] * 6,
    }
)
CROSSED = "arm * rater"
UNSEEN = {"arm": ["y"], "rater": ["b"]}


def effects() -> am.EffectSizes:
    return am.escalc(SHEET)


def fit(mods: str = "1") -> am.models.RandomEffectsResults:
    return am.RandomEffectsModel(effects(), mods=mods).fit()


def by_ml(mods: str) -> am.models.RandomEffectsResults:
    return am.RandomEffectsModel(effects(), mods=mods, method="ML").fit()


def multilevel(mods: str = "1") -> am.models.MultilevelResults:
    return am.MultilevelModel(effects(), mods=mods, random="study_id").fit()


def dependent() -> am.EffectSizes:
    # Labels with other years would be other studies.
    studies = [i // 3 for i in range(18)]
    sheet = SHEET.assign(study=[f"Study {i}" for i in studies], year=[2000 + i for i in studies], es_id=range(18))
    return am.escalc(sheet)


def sampled(mods: str = "1") -> SampledPosterior:
    """Return exact draws in the coordinates of a sampler, so that no sampler is needed."""
    exact = am.BayesianModel(effects(), mods=mods).fit()
    recipe = bayes.pymc.normal_normal(effects(), mods=mods).recipe
    found = arviz_bridge.draws(exact.to_arviz(draws=1200, seed=2))
    if mods == "1":
        return SampledPosterior(exact.to_arviz(draws=1200, seed=2), recipe.notes, 2, recipe)
    beta, X = np.moveaxis(found["beta"], -1, 0), recipe.design.X
    draws = {"mu": np.tensordot(X.mean(axis=0), beta, 1), "intrcpt": beta[0], "tau": found["tau"]}
    names = list(recipe.design.names[1:])
    slopes = {"beta": np.moveaxis(beta[1:], 0, -1)}
    container = arviz_bridge.from_draws(draws | slopes, dims={"beta": ["coefficient"]}, coords={"coefficient": names})
    return SampledPosterior(container, recipe.notes, 2, recipe)


# Fitted models by class and, for those that come from others, by what they come from; each with moderators or none.
FITS = {
    "RandomEffectsResults": fit,
    "LocationScaleResults": lambda mods="1": am.LocationScaleModel(effects(), mods=mods, scale="arm").fit(),
    "MultilevelResults": multilevel,
    "RVEResults": lambda mods="1": am.RVEModel(effects(), mods=mods).fit(),
    "RobustResults": lambda mods="1": fit(mods).robust(),
    "RobustResults of MultilevelResults": lambda mods="1": multilevel(mods).robust(),
    "RobustResults of RVEResults": lambda mods="1": am.RVEModel(effects(), mods=mods).fit().robust(),
    "ExactCorrelationResults": lambda mods="1": am.models.ExactCorrelationModel(effects(), mods=mods).fit(),
    "BayesianResults": lambda mods="1": am.BayesianModel(effects(), mods=mods).fit(),
    "BayesianMultilevelResults": lambda mods="1": am.BayesianModel(
        dependent(), mods=mods, random="~ 1 | study_id/es_id"
    ).fit(),
    "BayesianCorrelationResults": lambda mods="1": bayes.exact_correlation(effects()),
    "AveragedResults": lambda mods="1": bayes.average(
        effects(), candidates=["year"] if mods == "1" else mods.split(" + ")
    ),
    "RobmaResults": lambda mods="1": bayes.robma(effects(), bias=[bayes.PET()]),
    "SampledPosterior": sampled,
}
TAKE_NO_MODERATORS = ("BayesianCorrelationResults", "RobmaResults")
# Refuses moderators of which one repeats others when it is made.
NEVER_ALIASED = ("AveragedResults",)

OTHERS = {
    "LeaveOneOut": lambda: get("BayesianResults").loo(),
    "LooComparison": lambda: bayes.compare({"one": get("BayesianResults"), "year": FITS["BayesianResults"]("year")}),
    "PowerScaling": lambda: get("BayesianResults").power_scaling(),
    "PredictiveCheck": lambda: get("BayesianResults").predictive_check(seed=1, draws=200),
    "PriorPredictive": lambda: bayes.prior_predictive(n=50),
    "SampledLeaveOneOut": lambda: get("SampledPosterior").loo(),
    "SequentialResults": lambda: bayes.sequential(get("BayesianResults")),
    "Battery": lambda: sensitivity.battery(effects(), scenarios=["che", "exact", "lowest", "bias_uwls"]),
    "Fragility": lambda: sensitivity.fragility(effects()),
    "BiasPanel": lambda: bias.panel(fit()),
    "HenmiCopasResult": lambda: bias.hc(fit()),
    "UnreportedResults": lambda: bias.unreported(am.escalc(am.simulate(k=15, unreported=0.9, seed=1))),
    "CopasResult": lambda: bias.copas(fit(), ngrid=8),
    "SelectionResult": lambda: bias.selmodel(fit()),
    "WeightGrid": lambda: bias.vevea_woods(fit()),
    "RegressionTest": lambda: bias.regtest(fit()),
    "RankTest": lambda: bias.ranktest(fit()),
    "TrimFill": lambda: bias.trimfill(fit(), estimator="R0"),
    "Pet": lambda: bias.pet_peese(fit()).pet,
    "Peese": lambda: bias.pet_peese(fit()).peese,
    "PetPeese": lambda: bias.pet_peese(fit()),
    "Uwls": lambda: bias.uwls(fit()),
    "Uwls3": lambda: bias.uwls3(fit()),
    "Waap": lambda: bias.waap(fit()),
    "LimitMeta": lambda: bias.limitmeta(fit()),
    "PUniformResult": lambda: bias.puniform(fit()),
    "ZCurveResult": lambda: bias.zcurve(fit(), iterations=50),
    "PCurveResult": lambda: bias.pcurve(fit()),
    "WorstCase": lambda: bias.worst_case(fit()),
    "RightTruncated": lambda: bias.rtma(fit()),
    "FailSafeN": lambda: bias.fsn(fit(), target=0.1),
    "ExcessSignificance": lambda: bias.tes(fit()),
    "UnseenStudies": lambda: bias.unseen(fit()),
    "CoderAgreement": lambda: am.effects.coder_agreement(SHEET, SHEET.assign(arm="x"), by="study"),
    "Multiverse": lambda: sensitivity.multiverse(
        dependent(), choices={"rho": [0.6, 0.4], "effects": [None, "n > 900"]}
    ),
    "Changes": lambda: report_changes(),
    "Moves": lambda: moved(am.effects.diff(synthetic(), synthetic().query("n > 60"))),
    "SheetDiff": lambda: am.effects.diff(synthetic(), synthetic().query("n > 60")),
    "ClaimsAudit": lambda: am.claims(),
    "ConsistencyReport": lambda: am.consistency({"id": "A", "r": ".26", "d": ".56", "r2": "6.8%"}),
    "Meaning": lambda: am.evidence.meaning(0.278, ci_lb=0.256, ci_ub=0.299),
    "ModelComparison": lambda: am.models.anova(
        *(am.RandomEffectsModel(effects(), mods=m, method="ML").fit() for m in ("arm", "1"))
    ),
    "SubgroupResults": lambda: subgroups(fit(), by="arm"),
    "TrueEffects": lambda: am.models.true_effects(fit()),
    "VifResults": lambda: moderators.vif(fit("arm + year")),
    "PairwiseResults": lambda: moderators.pairwise(fit("arm + year"), "arm"),
    "ImputedModerators": lambda: imputed(),
    "ImputedResults": lambda: moderators.fit_imputed(imputed()),
    "MarginalMeans": lambda: moderators.marginal_means(fit("arm + year"), "arm"),
    "MarginalSlopes": lambda: moderators.marginal_slopes(fit("arm + year"), "year"),
    "ModeratorTable": lambda: am.moderator_table(dependent(), ["arm", "rater", "year"]),
    "ModelSelection": lambda: moderators.select_models(effects(), candidates=["arm", "year"]),
    "RhoGrid": lambda: sensitivity.rho_grid(dependent(), rho=(0, 0.6)),
    "Attenuation": lambda: sensitivity.attenuation(fit(), rel_alliance=0.9, rel_outcome=0.8),
    "Bootstrap": lambda: sensitivity.bootstrap(fit(), kind="nonparametric", seed=1, iterations=200),
    "MultilevelBootstrap": lambda: sensitivity.bootstrap(
        am.MultilevelModel(dependent()).fit(), kind="parametric", seed=1, iterations=100
    ),
    "DependenceComparison": lambda: am.sensitivity.compare_dependence(dependent(), methods=("mean", "CHE + CR2")),
    "HeteroscedasticityTest": lambda: sensitivity.hettest(fit()),
    "Influence": lambda: sensitivity.influence(am.MultilevelModel(dependent()).fit()),
    "Refits": lambda: sensitivity.leave_one_out(am.MultilevelModel(dependent()).fit()),
    "LevelComparison": lambda: sensitivity.compare_levels(dependent()),
    "LikelihoodRatioTest": lambda: sensitivity.lr_test(fit()),
    "RouteMatch": lambda: sensitivity.match("z = .1499 [.0881, .2118], tau2 = .0081", am.load_dataset("molloy2014")),
    "PermutationTest": lambda: sensitivity.permutation_test(fit(), iterations=200, seed=1),
    "ProfileLikelihood": lambda: sensitivity.profile(am.MultilevelModel(dependent()).fit(), points=5),
    "HunterSchmidt": lambda: sensitivity.hunter_schmidt(am.escalc(SHEET, measure="COR"), rel_alliance=0.9),
    "Dependability": lambda: sensitivity.dependability(4, single=0.77),
    "ComponentTests": lambda: sensitivity.component_tests(am.MultilevelModel(dependent()).fit()),
    "ThreeWay": lambda: sensitivity.three_way(effects(), pymc=False),
    "Baujat": lambda: sensitivity.baujat(fit()),
    "Gosh": lambda: sensitivity.gosh(fit(), subsets=500, seed=1),
    "QQNorm": lambda: sensitivity.qqnorm(fit(), seed=1, iterations=50),
    "Radial": lambda: sensitivity.radial(fit()),
    "WildBootstrap": lambda: sensitivity.wild_bootstrap(fit("arm"), "arm", cluster="study_id", seed=1, iterations=99),
}
RESULTS = {**{name: lambda name=name: get(name) for name in FITS}, **OTHERS}


def report_changes() -> Changes:
    return Changes((Change(analysis="a", name="r", label="r", before=0.2, after=0.25, moved=0.05, because="data"),), 3)


def moved(diff):
    pooled = lambda table: {"r": am.RandomEffectsModel(am.escalc(table)).fit().beta[0]}  # noqa: E731
    return am.effects.Moves(diff, moves(diff, {"REML": pooled}))


def synthetic():
    return am.load_dataset("synthetic_alliance")


def imputed():
    sheet = SHEET.assign(arm=[None, *SHEET["arm"][1:]])
    return moderators.impute_moderators(am.escalc(sheet), mods="arm + year", m=2, seed=1, sweeps=10)


@cache
def get(name: str, mods: str = "1"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        return (FITS | OTHERS)[name](mods) if name in FITS else OTHERS[name]()


def classes() -> dict[str, type]:
    """Return every class of the package by its name."""
    found = {}
    for module in pkgutil.walk_packages(am.__path__, "alliance_meta."):
        if not module.name.endswith("__main__"):
            members = inspect.getmembers(import_module(module.name), inspect.isclass)
            found |= {f"{one.__module__}.{name}": one for name, one in members if one.__module__ == module.name}
    return found


def test_every_result_class_of_the_package_is_asked():
    """Found by introspection: whatever has a table of results is a `Result`, and every `Result` is listed above."""
    tables = {one for one in classes().values() if "tidy" in vars(one) and not getattr(one, "_is_protocol", False)}
    strays = sorted(one.__name__ for one in tables if not issubclass(one, Result))
    assert not strays, f"{strays} have tidy() but do not inherit from alliance_meta.result.Result"
    made = [one for one in classes().values() if "__dataclass_fields__" in vars(one) and getattr(one, "called", one)]
    made.remove(OfStudies)  # only a base
    for base, listed in ((Result, RESULTS), (Fit, FITS)):
        assert {one.__name__ for one in made if issubclass(one, base)} == {name.split(" of ")[0] for name in listed}


@pytest.mark.parametrize("name", RESULTS)
def test_exports_exist_and_agree(name):
    result = get(name)
    assert type(result).__name__ == name.split(" of ")[0]
    assert str(result) == repr(result) == result.summary()
    assert max(map(len, result.summary().splitlines())) <= 80
    assert words(re.sub("<[^>]+>", " ", result._repr_html_())) == words(result.summary())
    assert isinstance(result.notes, tuple)
    json.dumps(result.to_dict(), allow_nan=False)
    table = result._exported()
    rows = result.to_markdown().splitlines()
    assert len(rows) == 2 + len(table)
    latex = [line for line in result.to_latex().splitlines() if line.endswith(r" \\")][1:]
    assert len(latex) == len(table)
    numbers = [column for column in table.select_dtypes("float") if column != "ddf" and not column.startswith("pval")]
    for markdown, tex, (_, row) in zip(rows[2:], latex, table.iterrows(), strict=True):
        for column in numbers:
            if np.isfinite(row[column]):
                assert f"{row[column]:.4f}" in markdown
                assert f"{row[column]:.4f}" in tex.replace("$", "")


def words(text: str) -> set[str]:
    """Return the words of a text, but for names that were cut to fit."""
    return {word for word in html.unescape(text).split() if not word.endswith("…")}


@pytest.mark.parametrize("name", FITS)
def test_every_noun_is_answered_or_refused_in_one_sentence(name):
    result = get(name)
    assert result.k == 18
    assert len(result.names) == result.p
    assert isinstance(result.glance(), pd.DataFrame)
    assert len(result.methods_text()) > 80
    for noun in NUMBERS:
        value = getattr(result, noun)
        if isinstance(value, am.NotApplicable):
            assert value.reason.count("\n") == 0 < len(value.reason)
    for noun in (*QUESTIONS, "r_code", "augment"):
        ask = (lambda: result.test(result.names[0])) if noun == "test" else getattr(result, noun)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
            one_sentence(ask)


def one_sentence(ask) -> object:
    """Return the answer, or None where it is refused in one sentence; any other error is one."""
    try:
        return ask()
    except am.InputError as error:
        words = str(error)
    assert 10 < len(words) < 400
    assert "\n" not in words
    return None


@pytest.mark.parametrize("name", [name for name in FITS if name not in (*TAKE_NO_MODERATORS, *NEVER_ALIASED)])
def test_a_row_no_effect_tells_about_is_refused(name):
    result = get(name, CROSSED)
    with pytest.raises(am.InputError, match="no effect tells about arm = y, rater = b"):
        result.predict(UNSEEN)
    seen = {"arm": ["y", "x"], "rater": ["a", "b"]}
    assert np.isfinite(result.predict(seen)[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float)).all()
    means = moderators.marginal_means(result, ["arm", "rater"]).tidy()
    assert means.loc["y, b", ["estimate", "se"]].isna().all()
    at = {"arm": ["x"], "rater": ["b"]}
    np.testing.assert_allclose(
        means.loc["x, b", ["estimate", "ci_lb", "ci_ub"]].to_numpy(dtype=float),
        result.predict(at)[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float)[0],
        rtol=1e-6,
    )


PLOTS = {
    "forest": lambda result: plots.forest(result),
    "caterpillar": lambda result: plots.caterpillar(result),
    "bubble": lambda result: plots.bubble(result, "year"),
    "means": lambda result: plots.means(moderators.marginal_means(result, "arm")),
    "profile": lambda result: plots.profile(result),
    "profiles": lambda result: plots.profiles(result, points=5),
    "influence": lambda result: plots.influence_data(sensitivity.influence(result, by="study")),
    "cumulative": lambda result: plots.cumulative_data(sensitivity.cumulative(result), term=result.names[-1]),
    "posterior": lambda result: plots.posterior(result),
    "pairwise": lambda result: moderators.pairwise(result, "arm"),
    "slopes": lambda result: moderators.marginal_slopes(result, "year"),
    "vif": lambda result: moderators.vif(result),
    "leave_one_out": lambda result: plots.leave_one_out_data(sensitivity.leave_one_out(result), term=result.names[-1]),
    "loo": lambda result: result.loo() if hasattr(result, "loo") else None,
    "true_effects": lambda result: am.models.true_effects(result),
    "hettest": lambda result: sensitivity.hettest(result),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("question", PLOTS)
def test_what_applies_is_drawn_and_all_else_refused_in_one_sentence(name, question):
    mods = "1" if name in TAKE_NO_MODERATORS or question in ("forest", "profile", "caterpillar") else "arm + year"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        drawn = one_sentence(lambda: PLOTS[question](get(name, mods)))
    if isinstance(drawn, matplotlib.figure.Figure):
        drawn.draw_without_rendering()


LIMITS = ["yi", "ci_lb", "ci_ub"]


def tabled(result, name="mu"):
    """Return estimate and interval of the only coefficient, or of the mean, as `tidy` has them."""
    found = result.tidy()
    if name in found.index:
        return found.loc[name, ["median", "ci_lb", "ci_ub"]].to_numpy(dtype=float)
    return found.iloc[0][["estimate", "ci_lb", "ci_ub"]].to_numpy(dtype=float)


@pytest.mark.parametrize("name", FITS)
def test_the_interval_drawn_is_the_interval_tabled(name):
    """Of every class: the last diamond is `tidy` and `predict`, the prediction interval is that of `predict`."""
    result = get(name)
    drawn = plots.forest_data(result)
    expected = result.predict().iloc[0]
    mean = drawn[drawn["kind"] == "summary"].iloc[-1][LIMITS].to_numpy(dtype=float)
    np.testing.assert_allclose(mean, expected[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float), rtol=1e-10)
    np.testing.assert_allclose(mean, tabled(result), rtol=1e-10)
    ends = drawn.loc[drawn["kind"] == "prediction", ["pi_lb", "pi_ub"]].to_numpy(dtype=float)
    if len(ends):
        np.testing.assert_allclose(ends[0], expected[["pi_lb", "pi_ub"]].to_numpy(dtype=float), rtol=1e-10)
    text = plots.forests.parts.effect_text("ZCOR", drawn[drawn["kind"] == "summary"].iloc[-1])
    assert text in drawn.attrs["description"]


@pytest.mark.parametrize("name", [name for name in FITS if name not in (*TAKE_NO_MODERATORS, *NEVER_ALIASED)])
def test_level_means_drawn_are_those_of_one_model(name):
    """Subgroups of a fit without moderators are the means of that with the moderator, which draws the same."""
    moderated = get(name, "arm")
    expected = moderated.predict({"arm": ["x", "y"]})[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float)
    own = plots.forest_data(moderated)
    np.testing.assert_allclose(own.loc[own["kind"] == "fitted", LIMITS].to_numpy(dtype=float), expected, rtol=1e-10)
    drawn = one_sentence(lambda: plots.forest_data(get(name), by="arm"))
    if drawn is None:
        assert name in NO_SUBGROUPS
        return
    found = drawn.loc[drawn["kind"] == "subgroup", LIMITS].to_numpy(dtype=float)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    stat, df, p = (getattr(moderated, one) for one in ("QM", "QMdf", "QMp"))
    line = f"Test for subgroup differences: {plots.forests.parts.test_text(stat, df, p)}; "
    assert any(one.startswith(line) for one in drawn.attrs["bottom"])


NO_SUBGROUPS = ("ExactCorrelationResults", "BayesianResults", "BayesianMultilevelResults", "SampledPosterior")


def test_what_is_not_a_fit_is_refused_too():
    for question, ask in PLOTS.items():
        if question != "loo":
            one_sentence(lambda ask=ask: ask(am.RandomEffectsModel(effects())))


def test_infinity_and_what_is_missing_have_one_encoding():
    """It is that of `results.json`, whatever a number comes from."""
    text = json.dumps(am.RandomEffectsModel(effects(), test="z").fit().to_dict())
    assert re.search(r'"ddf": \[\{"infinite": 1\}\]', text)
    assert '"inf"' not in text


@pytest.mark.parametrize("name", FITS)
def test_r_code_is_r(name):
    for mods in ("1",) if name in TAKE_NO_MODERATORS else ("1", "arm + year"):
        code = one_sentence(get(name, mods).r_code)
        assert code is None or grammar_faults(code) == []


# What says of rows that outnumber studies that it takes them as independent, what refuses them, what allows for them.
ANNOUNCED = (
    *("RandomEffectsResults", "LocationScaleResults", "ExactCorrelationResults", "BayesianResults"),
    *("BayesianCorrelationResults", "SampledPosterior"),
)
REFUSED = ("AveragedResults", "RobmaResults")
ALLOWING = ("MultilevelResults", "RVEResults", "RobustResults", "BayesianMultilevelResults")


@pytest.mark.parametrize("name", FITS)
def test_a_dependent_sheet_is_announced(name, monkeypatch):
    """A class that stands in none of the three lists, or in the wrong one, fails."""
    monkeypatch.setitem(globals(), "effects", dependent)
    kind = name.split(" of ")[0]
    assert [kind in listed for listed in (ANNOUNCED, REFUSED, ALLOWING)].count(True) == 1
    if kind in REFUSED:
        with pytest.raises(am.InputError, match="dependent='ignore'"):
            FITS[name]()
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        codes = [note.code for note in FITS[name]().notes]
    announced = any(issubclass(one.category, am.errors.DependenceWarning) for one in told)
    # A cluster-robust fit of an independent model says so while the model is made, and no longer in its notes.
    assert ("dependent-effects" in codes) == (kind in ANNOUNCED)
    assert announced == (kind in ANNOUNCED or name == "RobustResults")
