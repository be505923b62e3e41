"""The battery: each row is its analysis's own, what does not apply says why, and users' choices stand beside ours."""

import json
import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import bias, sensitivity
from alliance_meta.effects import correct_artifacts
from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.dependent.hierarchy import select_effects
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.sensitivity import SCENARIOS, Case, Scenario, battery, fragility, only
from alliance_meta.sensitivity.batteries.fragility import with_null
from alliance_meta.sensitivity.batteries.scenarios import KINDS
from tests.tolerances import ITERATIVE

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
NUMBERS = ["estimate", "se", "ci_lb", "ci_ub", "pval"]
RNG = np.random.default_rng(18)
QUICK = [one.key for one in SCENARIOS if one.kind != "bias" and one.key != "bayes"]
# The slowest two are asked what they do of odd effects in the tests of the panel.
ODD = [one.key for one in SCENARIOS if one.key not in ("bias_copas", "bias_rtma")]


def sheet(studies=14, **columns):
    """Effects of three raters a study, with columns of the contract."""
    study = np.repeat([f"S{i:02d}" for i in range(studies)], 3)
    k = study.size
    frame = {
        "study": study,
        "r": np.tanh(RNG.normal(0.3, 0.2, k)).round(3),
        "n": RNG.integers(30, 120, studies).repeat(3),
        "alliance_rater": ["client", "Therapist", "judge"] * studies,
        "alliance_time": ["early", "mid", "late"] * studies,
        "r_type": ["zero-order", "zero-order", "partial"] * studies,
        "published": ["yes", "1", "no"] * studies,
        "rob_overall": ["low", "high", "some concerns"] * studies,
        "es_calc": ["reported", "imputed_ns", "from_t"] * studies,
        "rel_alliance": np.linspace(0.8, 0.95, k).round(2),
        "rel_outcome": 0.9,
    }
    return am.escalc(pd.DataFrame(frame | columns))


ALL = sheet()
PART = {
    "client": ("alliance_rater", ["client"]),
    "therapist": ("alliance_rater", ["Therapist"]),
    "observer": ("alliance_rater", ["judge"]),
    "early": ("alliance_time", ["early"]),
    "mid": ("alliance_time", ["mid"]),
    "late": ("alliance_time", ["late"]),
    "zero_order": ("r_type", ["zero-order"]),
    "published": ("published", ["yes", "1"]),
    "low_risk": ("rob_overall", ["low"]),
    "without_ns": ("es_calc", ["reported", "from_t"]),
}


def part(effects, name, values):
    return effects.take(effects.moderators[name].isin(values).to_numpy())


def same(row, fit):
    for name, value in zip(NUMBERS, (fit.beta[0], fit.se[0], fit.ci_lb[0], fit.ci_ub[0], fit.pval[0]), strict=True):
        assert row[name] == pytest.approx(value, rel=ITERATIVE), name
    new = fit.predict().iloc[0]
    assert [row["pi_lb"], row["pi_ub"]] == pytest.approx([new["pi_lb"], new["pi_ub"]], rel=ITERATIVE, nan_ok=True)
    assert row["tau"] == pytest.approx(math.sqrt(fit.tau2), rel=ITERATIVE)
    assert row["k"] == fit.k
    assert row["studies"] == fit.effects.n_studies
    assert row["why"] == ""


def test_models_are_those_that_the_package_fits():
    es = ALL
    rule = {"by": {"alliance_rater": ["client", "Therapist", "judge"]}}
    found = battery(es, scenarios=QUICK, select=rule).tidy()
    independent = am.RandomEffectsModel
    one = select_effects(es, **rule)
    V = am.impute_V(es, rho=0.6)
    alone = {
        "che": am.che(es),
        "three_level": am.MultilevelModel(es, random="study_id/es_id").fit().robust(),
        "aggregated": independent(am.aggregate(es, rho=0.6)).fit(),
        "one": independent(one).fit(),
        "rho_0.2": am.che(es, rho=0.2),
        "independent": independent(es).fit(),
        "reliability": am.che(correct_artifacts(es, rel_alliance="rel_alliance", rel_outcome="rel_outcome")),
        "reliability_0.8": am.che(correct_artifacts(es, rel_alliance=0.8, rel_outcome=0.8)),
    }
    for key, fit in alone.items():
        same(found.loc[key], fit)
    exact = am.models.ExactCorrelationModel(one).fit()
    assert found.loc["exact", "estimate"] == pytest.approx(exact.beta[0], rel=ITERATIVE)
    bayes = am.BayesianModel(es, random="study_id/es_id", V=V).fit().predict().iloc[0]
    row = battery(es, scenarios="bayes").tidy().loc["bayes"]
    assert [row["estimate"], row["pi_ub"]] == pytest.approx([bayes["pred"], bayes["pi_ub"]], rel=ITERATIVE)
    assert row["pval"].reason == "a posterior has no p-value"
    assert found.loc["che", "r"] == pytest.approx(math.tanh(found.loc["che", "estimate"]))
    assert found.loc["che", "r_pi_lb"] == pytest.approx(math.tanh(found.loc["che", "pi_lb"]))


@pytest.mark.parametrize("key", PART)
def test_parts_are_found_by_the_columns_of_the_sheet_and_by_other_words_for_the_same(key):
    same(battery(ALL, scenarios=[key]).tidy().loc[key], refit(part(ALL, *PART[key])))


def refit(effects):
    return am.che(effects) if effects.k > effects.n_studies else am.RandomEffectsModel(effects).fit()


def test_plain_names_of_columns_are_read_too():
    short = {"alliance_rater": "rater", "alliance_time": "time", "rob_overall": "rob"}
    es = EffectSizes.from_arrays(
        ALL.yi, ALL.vi, ni=ALL.ni, study_id=ALL.study_id, measure="ZCOR", mods=ALL.moderators.rename(columns=short)
    )
    keys = ["client", "late", "low_risk"]
    one, other = (battery(given, scenarios=keys).tidy()["estimate"].tolist() for given in (es, ALL))
    assert one == pytest.approx(other, rel=ITERATIVE)


def test_every_value_that_a_part_asks_for_is_of_the_contract():
    values = {"client", "therapist", "observer", "early", "mid", "late", "zero-order", "low", "imputed_ns"}
    columns = ("alliance_rater", "alliance_time", "r_type", "rob_overall", "es_calc")
    words = {value for name in columns for value in CONTRACT.column(name).vocabulary.values}
    assert values <= words


def test_the_lowest_and_highest_effects_are_those_of_each_study():
    found = battery(ALL, scenarios=["lowest", "highest"]).tidy()
    y = pd.Series(ALL.yi).groupby(list(ALL.study_id))
    for key, rows in (("lowest", y.idxmin()), ("highest", y.idxmax())):
        same(found.loc[key], am.RandomEffectsModel(ALL.take(np.sort(rows.to_numpy()))).fit())


def test_outliers_are_effects_whose_interval_misses_the_headlines():
    y = ALL.yi.copy()
    y[7] += 2.0
    y[20] -= 2.0
    es = EffectSizes.from_arrays(y, ALL.vi, study_id=ALL.study_id, measure="ZCOR")
    fit = am.che(es)
    half = 1.959963984540054 * es.sei
    kept = (es.yi + half >= fit.ci_lb[0]) & (es.yi - half <= fit.ci_ub[0])
    assert not kept[[7, 20]].any()
    same(battery(es, scenarios="without_outliers").tidy().loc["without_outliers"], am.che(es.take(kept)))


def test_influential_studies_are_left_out_whole():
    y = ALL.yi.copy()
    y[:3] += 3.0
    es = EffectSizes.from_arrays(y, ALL.vi, study_id=ALL.study_id, measure="ZCOR")
    table = sensitivity.influence(am.che(es), by="study").tidy()
    assert table["label"][table["influential"]].tolist() == ["S00"]
    same(battery(es, scenarios="without_influential").tidy().iloc[0], am.che(es.take(np.arange(es.k) > 2)))


def test_the_rows_of_a_biased_literature_are_those_of_the_panel():
    es = am.escalc(am.load_dataset("molloy2014"))
    keys = [one.key for one in SCENARIOS if one.kind == "bias"]
    found = battery(es, scenarios=["che", *keys]).tidy()
    panel = bias.panel(am.RandomEffectsModel(es).fit()).tidy()
    assert keys == [f"bias_{key}" for key in panel.index[1:]]
    for key, row in panel.iloc[1:].iterrows():
        mine = found.loc[f"bias_{key}"]
        assert mine[NUMBERS].tolist() == pytest.approx(row[NUMBERS].tolist(), rel=ITERATIVE, nan_ok=True)
        assert mine["why"] == row["why"]
    raw = EffectSizes.from_arrays(es.yi, es.vi)
    same_row = battery(raw, scenarios=["bias_uwls"]).tidy().iloc[0]
    assert same_row["estimate"] == pytest.approx(bias.uwls(am.RandomEffectsModel(raw).fit()).estimate)


def test_choices_are_data():
    own = Scenario(
        "clients", "Clients, Knapp-Hartung", lambda case: case.independent(part(case.effects, *PART["client"]))
    )
    found = battery(ALL, scenarios=["che", own, Scenario("judges", "Judges", only("alliance_rater", "judge"))])
    table = found.tidy()
    assert table.index.tolist() == ["che", "clients", "judges"]
    same(table.loc["clients"], am.RandomEffectsModel(part(ALL, *PART["client"])).fit())
    assert table.loc["judges", "why"] == "no effect has judge in column alliance_rater"
    assert battery(ALL, scenarios=only_self(own)).tidy().index.tolist() == ["clients"]
    with_all = battery(sheet(2), scenarios=["all", own], rho=0.2).tidy()
    assert with_all.index.tolist() == [*(one.key for one in SCENARIOS), "clients"]
    other = battery(ALL, scenarios=["rho_0.2", "t_effects"], rho=0.2).tidy()
    assert other.loc["rho_0.2", "why"] == "rho = 0.2 is the headline's"
    assert other.loc["t_effects", "why"].startswith("its posterior is drawn at random")


def only_self(scenario):
    return scenario


def test_a_case_knows_how_the_battery_fits():
    case = Case(ALL, "study_id", 0.3, 0.9)
    assert case.fit.level == 0.9
    assert case.fit.beta[0] == pytest.approx(am.che(ALL, rho=0.3).beta[0], rel=ITERATIVE)
    assert case.headline(rho=0.8).beta[0] == pytest.approx(am.che(ALL, rho=0.8).beta[0], rel=ITERATIVE)
    assert case.depends()
    assert not case.depends(ALL.take(np.arange(0, ALL.k, 3)))


def test_draws_need_a_seed_and_use_it(monkeypatch):
    asked = {}

    def sample(model, **options):
        asked.update(options)
        return am.BayesianModel(ALL).fit()

    monkeypatch.setattr(am.bayes, "sample", sample)
    monkeypatch.setattr(am.bayes.pymc, "t_effects", lambda effects: asked.setdefault("k", effects.k))
    row = battery(ALL, scenarios="t_effects", seed=7).tidy().iloc[0]
    assert row["why"] == ""
    assert (asked["k"], asked["seed"], asked["level"]) == (14, 7, 0.95)


REFUSED = {
    "no effects": (lambda: battery(am.che(ALL)), "battery needs EffectSizes"),
    "rho": (lambda: battery(ALL, rho=1.5), "rho=1.5 is a correlation"),
    "level": (lambda: battery(ALL, level=95), "level=95"),
    "unknown": (lambda: battery(ALL, scenarios=["lowes"]), "did you mean 'lowest'"),
    "empty": (lambda: battery(ALL, scenarios=[]), "an empty list"),
    "twice": (lambda: battery(ALL, scenarios=["all", "lowest"]), "lowest more than once"),
    "select": (lambda: battery(ALL, select=["client"]), "select must say"),
    "seed": (lambda: battery(ALL, seed=-1), "seed=-1"),
    "no fit": (lambda: battery(ALL, scenarios=[Scenario("x", "X", lambda case: 3.0)]), r"run\(case\) must give a fit"),
    "kind": (lambda: Scenario("x", "X", lambda case: None, "parts"), "kind='parts'"),
    "no key": (lambda: Scenario("", "X", lambda case: None), "needs a key"),
    "cluster": (lambda: battery(ALL, cluster="studies"), "is not a column"),
    "several means": (
        lambda: battery(ALL, scenarios=[Scenario("x", "X", lambda case: am.che(case.effects, mods="r_type"))]),
        "of one mean effect",
    ),
    "fragility of no fit": (lambda: fragility(ALL, model=lambda es: 3.0), "needs a model of one mean effect"),
    "fragility of no effects": (lambda: fragility(3), "fragility needs EffectSizes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused(case):
    ask, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        ask()


def few(k, studies=None, measure="ZCOR", y=None):
    y = np.linspace(0.1, 0.5, k) if y is None else y
    return EffectSizes.from_arrays(y, np.linspace(0.01, 0.03, k), study_id=studies, measure=measure)


CASES = {
    "one effect": few(1),
    "two effects": few(2),
    "three effects": few(3),
    "all the same": few(12, y=np.full(12, 0.2)),
    "one study": few(4, ["A"] * 4),
    "two studies": few(4, ["A", "A", "B", "B"]),
    "one of several": few(6, ["A", "A", "B", "C", "D", "E"]),
    "other effects": few(8, list("AABBCCDD"), "GEN", np.linspace(-1.0, 3.0, 8)),
    "raw r": few(8, list("AABBCCDD"), "COR"),
    "empty columns": sheet(4, published=[None] * 12, rel_alliance=[None] * 12, rel_outcome=[None] * 12),
    "beyond one": sheet(4, r=np.tile([0.9, 0.95, 0.99], 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_apply_says_why_and_the_others_stand(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = battery(CASES[name], scenarios=ODD)
    table = found.tidy()
    assert table.index.tolist() == ODD
    for row in found.rows():
        assert (not math.isnan(row["estimate"])) != bool(row["why"]), row
        for value in row.values():
            assert not isinstance(value, float) or value == value or isinstance(value, am.NotApplicable), row
        assert "\n" not in row["why"]
        assert math.isnan(row["estimate"]) or row["k"] >= 1
    assert ("r" in table) == (found.measure == "ZCOR")
    assert not re.search(r"\bnan\b", found.summary())
    assert max(map(len, found.summary().splitlines())) <= 80
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.spread() in " ".join(found.summary().split())


def test_independent_effects_say_so_once():
    found = battery(few(9), scenarios=QUICK)
    table = found.tidy()
    assert table.loc["che", "label"] == "All effects, random effects"
    same(table.loc["che"], am.RandomEffectsModel(few(9)).fit())
    why = "each study_id has one effect, so that nothing depends: this is the headline"
    rows = ["three_level", "aggregated", "one", "lowest", "highest", "independent", "rho_0.4"]
    assert set(table.loc[rows, "why"]) == {why}
    assert found.summary().count("has one effect, so") == 1


def test_the_spread_says_each_kind_and_counts_intervals_without_0():
    found = battery(ALL, scenarios=QUICK)
    table = found.tidy()
    said = found.spread()
    given = table[(table["why"] == "") & (table["kind"] == "part")]
    order = given["r"].astype(float).sort_values(kind="stable").index
    low, high = given.loc[order[0]], given.loc[order[-1]]
    away = int(((given["r_lb"].astype(float) > 0) | (given["r_ub"].astype(float) < 0)).sum())
    ends = " and ".join(f"{row['r']:.3f} ({row['label']})" for row in (low, high))
    assert f"Parts of the effects: between {ends}, and {away} of {len(given)} intervals leave out 0." in said
    assert f"{KINDS['warning']}: All effects as independent, r = {table.loc['independent', 'r']:.3f}" in said
    assert said.startswith(f"All effects, CHE + CR2, r = {table.loc['che', 'r']:.3f}")


def test_notes_are_said_once_with_the_rows_that_said_them():
    found = battery(ALL)
    messages = [note.message for note in found.notes]
    assert len(messages) == len(set(messages))
    assert not [one for one in messages if "left out to keep one" in one]
    assert any(one.startswith("Selection model, step at .025; Selection model") for one in messages)


def brute(effects, model, cluster=None):
    """Refit without each study; label -> interval."""
    ids = np.array(effects.study_id)
    out = {}
    for label in dict.fromkeys(effects.study_id):
        one = model(effects.take(ids != label))
        out[label] = (float(one.ci_lb[0]), float(one.ci_ub[0]))
    return out


def fragile():
    """One study, with two effects, that alone makes the interval leave out 0, and one that does nothing."""
    y = np.array([0.25, 0.15, 0.08, -0.02, 0.14, 0.02, 0.11, 0.05])
    return EffectSizes.from_arrays(y, np.full(8, 0.004), study_id=list("AABBCDEF"), measure="ZCOR")


MODELS = {
    "che": (None, am.che),
    "random": (lambda es: am.RandomEffectsModel(es).fit(), lambda es: am.RandomEffectsModel(es).fit()),
    "multilevel": (lambda es: am.MultilevelModel(es).fit(), lambda es: am.MultilevelModel(es).fit()),
    "rve": (lambda es: am.RVEModel(es).fit(), lambda es: am.RVEModel(es).fit()),
    "bayes": (lambda es: am.BayesianModel(es).fit(), lambda es: am.BayesianModel(es).fit()),
}


@pytest.mark.parametrize("name", MODELS)
def test_fragility_is_that_of_refits_without_each_study(name):
    given, model = MODELS[name]
    es = fragile()
    found = fragility(es, model=given)
    expected = brute(es, model)
    table = found.tidy().set_index("label")
    assert set(table.index) == set("ABCDEF")
    for label, limits in expected.items():
        assert table.loc[label, ["ci_lb", "ci_ub"]].astype(float).tolist() == pytest.approx(limits, rel=1e-4)
    own = model(es)
    away = own.ci_lb[0] > 0
    turning = {label for label, (low, _) in expected.items() if (low > 0) != away}
    assert set(found.turning) == turning
    assert found.leaves_out_zero == away
    near = max if away else min
    assert found.tidy()["label"].iloc[0] == near(expected, key=lambda one: -expected[one][0])


def test_some_study_turns_the_interval_and_the_text_names_it():
    found = fragility(fragile())
    assert found.leaves_out_zero
    assert found.turning
    assert (
        f"Without any one of {len(found.turning)} of 6 studies it would hold 0: {', '.join(found.turning)}."
        in found.text()
    )


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.05, -0.35])
def test_null_studies_are_as_few_as_make_the_interval_hold_0(shift):
    es = am.escalc(am.load_dataset("molloy2014"))
    es = EffectSizes.from_arrays(es.yi + shift, es.vi, ni=es.ni, slab=es.slab, measure="ZCOR")
    fit = am.RandomEffectsModel(es).fit()
    found = fragility(es)
    m = int(found.null_studies)
    below, at = (am.RandomEffectsModel(with_null(fit, n, "study_id")).fit() for n in (m - 1, m))
    assert below.ci_lb[0] * below.ci_ub[0] > 0 >= at.ci_lb[0] * at.ci_ub[0]
    null = with_null(fit, m, "study_id")
    assert null.k == es.k + m
    assert null.n_studies == es.n_studies + m
    assert null.yi[es.k :].mean() == pytest.approx(0.0, abs=1e-12)
    spread = math.sqrt(np.median(es.vi) + fit.tau2)
    assert null.yi[es.k :].std(ddof=0) == pytest.approx(spread, rel=0.1)
    assert f"About {m} further studies of one effect each" in found.text()


def test_null_studies_go_with_clusters_and_effects_that_have_names_of_their_own():
    mods = {"team": list("AABBCCDDEE"), "es_id": [f"e{i}" for i in range(10)]}
    es = EffectSizes.from_arrays(np.linspace(0.2, 0.4, 10), np.full(10, 0.02), mods=mods, measure="ZCOR")
    found = fragility(es, model=lambda some: am.che(some, cluster="team"), cluster="team")
    assert found.null_studies > 1
    assert found.studies == 5


def test_what_holds_0_already_needs_no_null_studies_and_what_holds_fast_says_more_than():
    zero = fragility(few(8, y=np.linspace(-0.5, 0.5, 8)))
    assert zero.null_studies.reason == "the interval holds 0 already"
    assert "holds 0." in zero.text()
    fast = fragility(few(8, y=np.linspace(1.5, 1.6, 8)))
    assert fast.null_studies.reason == "more than 80 are needed, 10 times as many as there are studies"
    one = fragility(few(1))
    assert one.tidy().empty
    assert "No study can be left out." in one.text()
    assert [note.code for note in one.notes] == ["cluster-needed"]
