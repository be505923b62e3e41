"""`multiverse`: every specification is the fit that a user would make, whoever makes it and however often it stops."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.effects import select_effects
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.sensitivity import Multiverse, Option, multiverse
from alliance_meta.sensitivity.forking import multiverses
from alliance_meta.sensitivity.forking.choices import CHOICES, WAYS
from alliance_meta.sensitivity.forking.multiverses import main_effects
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")


def sheet(studies: int = 14, seed: int = 4, per: int = 3) -> pd.DataFrame:
    """Return correlations of several raters in each study."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, per + 1, studies)
    study = np.repeat(np.arange(studies), sizes)
    n = np.repeat(rng.integers(25, 150, studies), sizes)
    z = 0.25 + np.repeat(rng.normal(0, 0.15, studies), sizes) + rng.normal(0, 0.1, study.size)
    z += rng.normal(0, 1, study.size) / np.sqrt(n - 3)
    return pd.DataFrame(
        {
            "study": [f"Study {one}" for one in study],
            "es_id": np.arange(study.size),
            "r": np.tanh(z).round(3),
            "n": n,
            "year": 1990 + study,
            "rater": rng.choice(["client", "therapist", "observer"], study.size),
        }
    )


BY = {"by": {"rater": ["client", "therapist", "observer"]}, "ties": "first"}
EVERYTHING: dict[str, list[Any]] = {
    "effects": [None, "rater != 'therapist'", {"pick": "lowest"}, {"pick": "highest"}, BY],
    "measure": ["ZCOR", "COR", "COR AV", "UCOR"],
    "dependence": list(WAYS),
    "rho": [0.6, 0.3],
    "moderators": ["1", "year + rater"],
    "outliers": [None, "intervals"],
    "estimator": ["REML", "ML", "PM", "SJ", "EE"],
    "inference": ["CR2", "knha", "z", "t", "adhoc"],
}


def by_hand(table: pd.DataFrame, choice: Mapping[str, Any], level: float) -> dict[str, float]:
    """Fit one specification by the public functions, as a user would."""
    measure, _, vtype = choice["measure"].partition(" ")
    effects = am.escalc(table, measure=measure, vtype=vtype or "LS")
    effects = _selected(effects, choice["effects"])
    way = "independent" if isinstance(choice["effects"], dict) else choice["dependence"]
    if way in ("mean", "CS", "gleser-olkin", "composite"):
        effects = am.aggregate(effects, how=way, rho=choice["rho"])
    fit = _model(effects, way, choice, level)
    if choice["outliers"]:
        _, _, low, high, _ = _mean(fit, level)
        half = critical_value(0.95, None) * effects.sei
        effects = effects.take((effects.yi - half <= high) & (effects.yi + half >= low))
        fit = _model(effects, way, choice, level)
    names = ("estimate", "se", "ci_lb", "ci_ub", "pval")
    return dict(zip(names, _mean(fit, level), strict=True)) | {"k": fit.k, "studies": len(set(fit.effects.study_id))}


def _selected(effects: am.EffectSizes, rule: Any) -> am.EffectSizes:
    if rule is None:
        return effects
    if isinstance(rule, str):
        return effects.take((effects.moderators["rater"] != "therapist").to_numpy())
    if "by" in rule:
        return select_effects(effects, **rule)
    frame = pd.DataFrame({"study": effects.study_id, "yi": effects.yi})
    groups = frame.groupby("study", sort=False)["yi"]
    return effects.take((groups.idxmin() if rule["pick"] == "lowest" else groups.idxmax()).to_numpy())


def _model(effects: am.EffectSizes, way: str, choice: Mapping[str, Any], level: float) -> Any:
    mods, method, test = choice["moderators"], choice["estimator"], choice["inference"]
    if way.startswith("RVE"):
        return am.RVEModel(effects, mods=mods, working=way[4:], rho=choice["rho"], level=level).fit()
    if way in ("CHE", "three-level"):
        V = am.impute_V(effects, rho=choice["rho"]) if way == "CHE" else None
        used = "z" if test == "CR2" else test
        fit = am.MultilevelModel(
            effects, V=V, mods=mods, random="study_id/es_id", method=method, test=used, level=level
        )
        return fit.fit().robust(cluster="study_id") if test == "CR2" else fit.fit()
    used = "z" if test == "CR2" else test
    fit = am.RandomEffectsModel(effects, mods=mods, method=method, test=used, level=level).fit()
    return fit.robust(cluster="study_id") if test == "CR2" else fit


def _mean(fit: Any, level: float) -> tuple[float, ...]:
    if fit.p == 1:
        return tuple(float(getattr(fit, name)[0]) for name in ("beta", "se", "ci_lb", "ci_ub", "pval"))
    x = fit.design.X.mean(axis=0)
    mean, se, df = float(x @ fit.beta), math.sqrt(float(x @ fit.vb @ x)), float(fit.row_ddf(x[None])[0])
    known = df if math.isfinite(df) else None
    half = critical_value(level, known) * se
    return mean, se, mean - half, mean + half, float(two_sided_p(np.array(mean / se), known))


def values(found: Multiverse, row: pd.Series[Any]) -> dict[str, Any]:
    """Return the values of the options of a row; the headline's where a choice makes no difference."""
    taken = {}
    for name in CHOICES:
        options = {one.label: one.value for one in found.choices[name]}
        taken[name] = options.get(row[name], found.choices[name][0].value)
    return taken


def agree(found: Multiverse, table: pd.DataFrame, *, every: int = 1) -> int:
    """Compare rows with fits by hand; return how many."""
    seen = 0
    for _, row in found.tidy().sort_index().iloc[::every].iterrows():
        if row["why"]:
            with pytest.raises(InputError, match=re.escape(row["why"])):
                by_hand(table, values(found, row), found.level)
            continue
        own = by_hand(table, values(found, row), found.level)
        for name, value in own.items():
            assert row[name] == pytest.approx(value, rel=10 * ITERATIVE, abs=1e-9), (name, row)
        seen += 1
    return seen


# Choices that meet each other in every pair: all at once are thousands.
PAIRS: list[dict[str, list[Any]]] = [
    {name: EVERYTHING[name] for name in ("effects", "measure", "outliers")}
    | {"dependence": ["CHE", "RVE CORR", "mean"]},
    {name: EVERYTHING[name] for name in ("dependence", "rho", "estimator", "inference")} | {"outliers": [None]},
    {
        "effects": EVERYTHING["effects"][1:],
        "dependence": ["independent", "CHE"],
        "measure": ["COR AV"],
        "estimator": ["PM", "SJ"],
        "inference": ["adhoc", "t"],
    },
]


@pytest.mark.parametrize(("at", "every"), [(0, 5), (1, 7), (2, 3)])
def test_every_specification_is_the_fit_that_a_user_would_make(at, every):
    table = sheet()
    found = multiverse(table, choices=PAIRS[at], level=0.9)
    if at == 1:
        assert set(found.tidy()["dependence"]) == {way.label for way in WAYS.values()}
    assert agree(found, table, every=every) > 5


def test_so_are_those_with_moderators():
    table = sheet(25)
    choices = EVERYTHING | {
        "measure": ["ZCOR"], "moderators": ["year + rater", "1"], "estimator": ["REML", "DL"], "rho": [0.4],
        "inference": ["CR2", "knha", "z"], "effects": [None, {"pick": "lowest"}],
    }  # fmt: skip
    found = multiverse(table, choices=choices)
    assert agree(found, table, every=4) > 15


def test_a_correction_for_bias_is_what_its_function_says():
    table = sheet(20)
    corrections = [None, "pet_peese", "selection", "trimfill", "uwls", "limitmeta", "hc", "waap"]
    choices = {"bias": corrections, "dependence": ["CHE", "independent"], "inference": ["CR2", "knha"]}
    found = multiverse(table, choices=choices)
    effects = am.escalc(table)
    fits = {
        "CHE": am.che(effects),
        "independent": am.RandomEffectsModel(effects, test="z").fit().robust(cluster="study_id"),
    }
    panels = {WAYS[name].label: am.bias.panel(fit).tidy() for name, fit in fits.items()}
    checked = 0
    for _, row in found.tidy().iterrows():
        if row["bias"] == "not corrected":
            continue
        own = panels[row["dependence"]].loc[row["bias"]]
        assert row["inference"] == "–"
        assert row["why"] == own["why"]
        if not row["why"]:
            assert row["estimate"] == pytest.approx(own["estimate"], rel=ITERATIVE)
            assert row["ci_ub"] == pytest.approx(own["ci_ub"], rel=ITERATIVE)
            checked += 1
    assert checked >= 10


def test_what_does_not_exist_is_counted_and_what_is_alike_is_one():
    found = multiverse(
        sheet(), choices={"dependence": ["CHE", "three-level"], "rho": [0.6, 0.2], "estimator": ["REML", "DL"]}
    )
    frame = found.tidy()
    # CHE with two rho, three-level with none; DL is for independent effects.
    assert len(frame) == 3
    assert set(frame.loc[frame["dependence"] == "three-level", "rho"]) == {"–"}
    said = next(note.message for note in found.notes if note.code == "specifications")
    assert said == (
        "The choices have 8 combinations; 1 give the same analysis as another; 4 do not exist (4 because models of "
        "dependent effects are fitted by REML or ML)."
    )


SMALL: dict[str, list[Any]] = {
    "effects": [None, {"pick": "lowest"}],
    "dependence": ["CHE", "mean", "RVE CORR"],
    "rho": [0.6, 0.4],
    "moderators": ["1", "year"],
    "outliers": [None, "intervals"],
    "estimator": ["REML", "PM"],
    "inference": ["CR2", "knha"],
}
TINY = {name: SMALL[name] for name in ("rho", "outliers")} | {"dependence": ["CHE", "mean"]}
# A file that another process and this one cut alike.
SMALL_PART = 3


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiverses, "PART", SMALL_PART)


def run(place: Path | None = None, *, null: int = 1, **options: Any) -> Multiverse:
    return multiverse(sheet(9), choices=TINY, keep=place, null=null, seed=7, **options)


@pytest.mark.usefixtures("small_parts")
def test_any_number_of_workers_gives_the_same_to_the_last_bit(tmp_path):
    files = []
    for cores in (1, 3):
        place = tmp_path / f"{cores}.jsonl"
        run(place, cores=cores)
        files.append(place.read_bytes())
    assert len(set(files)) == 1
    assert files[0].count(b"\n") > 3 * SMALL_PART
    with joblib.parallel_backend("threading", n_jobs=2):
        assert run(tmp_path / "threads.jsonl").to_dict() == run().to_dict()
    assert (tmp_path / "threads.jsonl").read_bytes() == files[0]


KILLED = """
import sys, warnings
warnings.simplefilter("ignore")
from alliance_meta.sensitivity.forking import multiverses
multiverses.PART = {part}
from tests.unit.test_multiverse import run
print("ready", flush=True)
run(sys.argv[1], null=6)
"""


@pytest.mark.usefixtures("small_parts")
def test_killed_and_started_again_it_writes_the_same_bytes(tmp_path):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    full = run(whole, null=6)
    order = [sys.executable, "-c", KILLED.format(part=SMALL_PART), str(cut)]
    with subprocess.Popen(order, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not cut.exists() or cut.read_bytes().count(b"\n") < 3 * SMALL_PART:
            assert time.monotonic() < deadline
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        process.kill()
    half = cut.read_bytes()
    assert whole.read_bytes().startswith(half)
    assert 0 < len(half) < whole.stat().st_size
    again = run(cut, null=6)
    assert cut.read_bytes() == whole.read_bytes()
    assert again.to_dict() == full.to_dict()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.slow
def test_it_goes_on_from_wherever_a_file_was_cut(tmp_path, monkeypatch):
    place = tmp_path / "kept.jsonl"
    full = run(place)
    data = place.read_bytes()
    for length in (80, len(data) // 2, len(data) - 1):
        place.write_bytes(data[:length])
        assert run(place).to_dict() == full.to_dict()
        assert place.read_bytes() == data
    monkeypatch.setattr(multiverses, "follow_specs", None)
    assert run(place).to_dict() == full.to_dict()  # nothing is left to do
    monkeypatch.undo()
    monkeypatch.setattr(multiverses, "PART", SMALL_PART)
    lines = data.splitlines(keepends=True)
    for wrong in (b"not json\n", b"[" * 100_000 + b"\n", lines[3], b'{"choices": 1}\n', b'{"a": NaN}\n', b"\xff\xfe\n"):
        place.write_bytes(b"".join([*lines[:-8], wrong, *lines[-7:]]))
        run(place)
        assert place.read_bytes() == data
    (tmp_path / "folder").mkdir()
    run(tmp_path / "folder")
    assert (tmp_path / "folder" / multiverses.NAME).read_bytes() == data


def test_a_file_of_something_else_is_left_alone(tmp_path):
    place = tmp_path / "kept.jsonl"
    place.write_text("study,r\nA,0.2\n")
    with pytest.raises(InputError, match="holds something else"):
        multiverse(sheet(), choices=SMALL, keep=place)
    assert place.read_text() == "study,r\nA,0.2\n"
    place.unlink()
    multiverse(sheet(), choices={"rho": [0.6, 0.4]}, keep=place)
    before = place.read_bytes()
    for changed in ({"table": sheet(seed=5)}, {"choices": {"rho": [0.6, 0.5]}}, {"level": 0.9}, {"null": 2, "seed": 1}):
        options = {"choices": {"rho": [0.6, 0.4]}, "table": sheet(), **changed}
        with pytest.raises(InputError, match="another version"):
            multiverse(options.pop("table"), keep=place, **options)
    assert place.read_bytes() == before
    with pytest.raises(CannotRunError, match="cannot read"):
        multiverse(sheet(), choices={"rho": [0.6]}, keep=tmp_path / "kept.jsonl" / "below")


HOSTILE: list[tuple[Any, str]] = [
    ([], "must be a mapping"),
    ({"tau": [1]}, "no choice is called 'tau'"),
    ({"rhoo": [0.6]}, "did you mean 'rho'"),
    ({"rho": 0.6}, "must be a list of options"),
    ({"estimator": "REML"}, "must be a list of options"),
    ({"rho": []}, "has 0 options"),
    ({"rho": [0.6, "0.4"]}, "is no correlation"),
    ({"rho": [math.nan]}, "is no correlation"),
    ({"rho": [1.2]}, "is no correlation"),
    ({"rho": [True]}, "is no correlation"),
    ({"rho": [0.6, 0.6]}, "two options called '0.6'"),
    ({"rho": [Option(0.6)]}, "no headline"),
    ({"rho": [Option(0.6, "headline"), Option(0.4, "headline")]}, "2 headlines"),
    ({"rho": [Option(0.6, "best")]}, "grade='best'"),
    ({"rho": [Option(0.6, "headline", "a\nb")]}, "one line"),
    ({"rho": [Option(0.6, "headline", "x" * 200)]}, "one line"),
    ({"effects": ["__import__('os').system('true')"]}, "cannot be read"),
    ({"effects": ["nobody == 1"]}, "no column 'nobody'"),
    ({"effects": [lambda row: True]}, "must be None for all effects"),
    ({"effects": [{"pick": "best"}]}, "pick is 'best'"),
    ({"effects": [{"by": {"rater": ["client"]}, "run": "x"}]}, "has no 'run'"),
    ({"effects": [{"by": "rater"}]}, "not a mapping"),
    ({"effects": [{"by": {"rater": [object()]}}]}, "an option is data"),
    ({"measure": ["SMD"]}, "is not one of 'ZCOR'"),
    ({"dependence": ["che"]}, "did you mean 'CHE'"),
    ({"moderators": ["year + eval('1')"]}, "is not a formula"),
    ({"moderators": ["yeer"]}, "yeer"),
    ({"moderators": [1]}, "is no formula"),
    ({"outliers": ["all"]}, "is not one of None, 'intervals'"),
    ({"bias": ["pet"]}, "is not one of None, 'worst_case'"),
    ({"estimator": ["reml"]}, "did you mean 'REML'"),
    ({"inference": [{}]}, "is not one of 'z'"),
    ({"dependence": ["CHE"], "estimator": ["DL"]}, "do not go together"),
    ({"effects": [f"year > {i}" for i in range(199)], "rho": [i / 200 for i in range(200)],
      "estimator": ["REML", "ML", "PM", "DL", "HE", "HS"]}, "238,800 combinations"),
]  # fmt: skip


@pytest.mark.parametrize(("choices", "says"), HOSTILE)
def test_choices_that_make_no_sense_are_refused(choices, says):
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        multiverse(sheet(), choices=choices)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": 95}, "for 95% write 0.95"),
        ({"null": -1}, "whole number of draws"),
        ({"null": True}, "whole number of draws"),
        ({"null": 5}, "need a seed"),
        ({"cores": 0}, "cores=0"),
        ({"cluster": ["study_id"]}, "name the column"),
        ({"cluster": "studdy_id"}, "did you mean"),
        ({"keep": 3}, "name of a file"),
    ],
)
def test_so_are_other_arguments(options, says):
    with pytest.raises(InputError, match=says):
        multiverse(sheet(), **options)
    with pytest.raises(InputError, match="needs rows"):
        multiverse(3)


def test_shares_of_a_complete_grid_are_those_of_the_classic_analysis_of_variance():
    rng = np.random.default_rng(2)
    codes = np.array(list(product(range(3), range(2), range(4))))
    y = np.array([0.0, 1.0, 3.0])[codes[:, 0]] + 0.5 * codes[:, 1] + rng.normal(0, 0.3, len(codes))
    total = ((y - y.mean()) ** 2).sum()
    for column, share in zip(codes.T, main_effects(y, codes), strict=True):
        means = np.array([y[column == option].mean() for option in column])
        assert share == pytest.approx(((means - y.mean()) ** 2).sum() / total, rel=CLOSED_FORM)


def test_shares_of_an_incomplete_grid_are_those_of_r():
    # R 4.2: y <- c(1, 2, 4, 3, 7, 5, 9, 4); a <- factor(c(0, 0, 0, 1, 1, 1, 2, 2))
    # b <- factor(c(0, 1, 1, 0, 1, 0, 1, 0)); drop1(lm(y ~ a + b))[2:3, "Sum of Sq"] / sum((y - mean(y))^2)
    y = np.array([1.0, 2.0, 4.0, 3.0, 7.0, 5.0, 9.0, 4.0])
    codes = np.array([[0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 0, 1, 0, 1, 0]]).T
    assert main_effects(y, codes) == pytest.approx([0.65052614922066609, 0.38768889943824658], rel=CLOSED_FORM)


def test_the_null_curve_is_seeded_and_finds_what_is_there():
    strong = multiverse(sheet(), choices={"rho": [0.6, 0.4]}, null=40, seed=1)
    test = strong.null_test()
    assert list(test.index) == ["median", "significant", "z"]
    assert test.loc[["median", "z"], "pval"].max() < 0.05
    again = multiverse(sheet(), choices={"rho": [0.6, 0.4]}, null=3, seed=1)
    assert strong.null is not None
    assert again.null is not None
    pd.testing.assert_frame_equal(again.null, strong.null.iloc[:3], check_exact=True)
    nothing = sheet().assign(r=np.tanh(np.random.default_rng(3).normal(0, 0.2, len(sheet()))).round(3))
    weak = multiverse(nothing, choices={"rho": [0.6, 0.4]}, null=40, seed=1)
    assert weak.null_test()["pval"].min() > 0.05
    with pytest.raises(InputError, match="null=200 and a seed"):
        multiverse(sheet(), choices={"rho": [0.6]}).null_test()


def test_the_null_curve_is_the_curve_of_the_effects_with_signs_of_studies_flipped():
    table = sheet()
    found = multiverse(table, choices=TINY, null=3, seed=2)
    assert found.null is not None
    labels = sorted(set(am.escalc(table).study_id))
    for draw in range(3):
        rng = np.random.default_rng(np.random.SeedSequence(2, spawn_key=(draw,)))
        signs = dict(zip(labels, 1.0 - 2.0 * rng.integers(0, 2, len(labels)), strict=True))
        turned = table.assign(r=table["r"] * [signs[study] for study in am.escalc(table).study_id])
        curve = multiverse(turned, choices=TINY).tidy()
        r = curve.loc[curve["why"] == "", "r"].astype(float)
        assert found.null.loc[draw, "median"] == pytest.approx(r.median(), rel=10 * ITERATIVE)


def test_what_is_said_of_a_curve_counts_its_rows():
    found = multiverse(sheet(), choices=SMALL)
    frame = found.tidy()
    given = frame[frame["why"] == ""]
    r = given["r"].astype(float)
    assert r.is_monotonic_increasing
    assert (frame.index[frame["headline"]] == [1]).all()
    head = found.headline
    assert head["grade"] == "headline"
    assert f"{(r > 0).sum()} ({100 * (r > 0).mean():.1f}%) have the sign" in found.agreement()
    assert f"above {100 * (r < head['r'] - 1e-9).mean():.1f}% of the specifications" in found.position()
    table = found.shares()
    assert table["share"].astype(float).sum() == pytest.approx(1.0, abs=1e-9)
    assert table.loc["effects", "highest"] == pytest.approx(given.assign(r=r).groupby("effects")["r"].mean().max())


def test_a_user_adds_options_with_grades_and_names():
    usual = [Option(None, "headline"), Option("year > 1995", "defensible", "newer studies")]
    found = multiverse(sheet(), choices={"effects": [*usual, Option({"pick": "highest"}, "to see what it does")]})
    frame = found.tidy().set_index("effects")
    assert frame["grade"].to_dict() == {
        "all effects": "headline", "newer studies": "defensible", "highest of each study": "to see what it does",
    }  # fmt: skip
    assert "Of the 2 that can be defended, 2 (100.0%)" in found.agreement()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_effects_give_numbers_or_reasons(k):
    effects = am.EffectSizes.from_arrays([0.2, 0.5, -0.1][:k], [0.02, 0.03, 0.01][:k], measure="ZCOR")
    found = multiverse(effects)
    frame = found.tidy()
    plain = frame[(frame["bias"] == "not corrected") & (frame["outliers"] == "kept")]
    assert (plain["why"] == "").all()
    assert str(found)
    assert found.to_dict()["specifications"]


def test_one_study_says_why_and_what_no_rule_keeps_says_so():
    effects = am.EffectSizes.from_arrays([0.2, 0.5], [0.02, 0.03], study_id=["A", "A"], measure="ZCOR")
    found = multiverse(effects)
    assert found.headline["why"]
    assert "The headline gives none" in found.agreement()
    assert found.position() == ""
    none = multiverse(
        sheet(), choices={"effects": [None, "year > 3000"], "dependence": ["independent"], "inference": ["z"]}
    )
    assert none.tidy()["why"].tolist() == ["", "no effect is left"]
    assert isinstance(none.tidy()["r"].iloc[1], am.notes.NotApplicable)


def test_effects_of_other_scales_have_no_r_and_alike_effects_no_shares():
    effects = am.EffectSizes.from_arrays([1200.0] * 4, [50.0, 70.0, 30.0, 20.0])
    found = multiverse(effects, choices={"estimator": ["REML", "DL"], "outliers": [None, "intervals"]})
    assert "r" not in found.tidy()
    assert found.point == "estimate"
    assert math.isnan(found.shares()["share"].iloc[0])
    with pytest.raises(InputError, match="give the table that the effects were made of"):
        multiverse(effects, choices={"measure": ["COR"]})


def test_many_effects_take_no_more_than_they_must():
    rng = np.random.default_rng(1)
    k = 20_000
    v = rng.uniform(0.01, 0.05, k)
    effects = am.EffectSizes.from_arrays(rng.normal(0.2, np.sqrt(0.02 + v)), v, measure="ZCOR")
    start = time.process_time()
    found = multiverse(effects, choices={"estimator": ["REML", "DL", "PM", "EE"], "outliers": [None, "intervals"]})
    assert (found.tidy()["why"] == "").all()
    assert time.process_time() - start < 20


def test_a_bar_is_drawn_in_a_terminal_only(capsys, monkeypatch):
    multiverse(sheet(), choices={"rho": [0.6, 0.4]})
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(multiverses.sys.stderr, "isatty", lambda: True, raising=False)
    multiverse(sheet(), choices={"rho": [0.6, 0.4]}, null=2, seed=1)
    drawn = capsys.readouterr().err
    assert "2 of 2 specifications" in drawn
    assert drawn.endswith("2 of 2 curves\n")
    multiverse(sheet(), choices={"rho": [0.6, 0.4]}, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("error")
def test_nothing_is_warned_of_but_said_in_rows():
    found = multiverse(am.escalc(sheet(4)), choices=SMALL)
    assert len(found.tidy()) > 20
