"""The search for variances must end at the highest likelihood, which random starts on dense matrices cannot exceed."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, escalc
from tests.equivalence import dense_mixed as dense
from tests.tolerances import ITERATIVE

FEW_STUDIES = pd.DataFrame(
    {
        "study_id": [0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7],
        "rater": list("cocooot" + "cotcotcot" + "co"),
        "r": [
            0.07,
            0.06,
            -0.22,
            0.07,
            0.17,
            0.47,
            0.33,
            0.13,
            0.59,
            0.31,
            0.1,
            0.39,
            0.28,
            0.13,
            -0.02,
            0.03,
            0.27,
            -0.16,
        ],
        "n": [50, 50, 102, 102, 155, 139, 139, 109, 109, 109, 171, 171, 171, 85, 85, 85, 52, 52],
    }
)
BY_RATER = {"random": "rater | study_id"}


def as_effects(sets: dense.Sets, b: int, struct: str) -> EffectSizes:
    study, place = np.nonzero(sets.there[b])
    rater = [f"{sets.times[i]:g}" if struct == "CAR" else str(i) for i in place]
    x = (sets.Z if struct == "GEN" else sets.X)[b, study, place, -1]
    mods = pd.DataFrame({"rater": rater, "x": x})
    y, v = sets.y[b, study, place], sets.v[b, study, place]
    return EffectSizes.from_arrays(y, v, mods=mods, measure="ZCOR", study_id=[f"s{i}" for i in study])


def shortfalls(struct: str, count: int, seed: int, *, method: str = "REML", each: int = 5) -> np.ndarray:
    """Return by how much dense algebra from 20 random starts exceeds the model, for so many random sets."""
    rng = np.random.default_rng([seed, dense.STRUCTS.index(struct)])
    random = "1 + x | study_id" if struct == "GEN" else "rater | study_id"
    found = []
    while len(found) < count:
        sets = dense.draw(rng, struct, each)
        reached = dense.highest(struct, sets, rng, restricted=method == "REML")
        mods = "x" if sets.X.shape[-1] > 1 else "1"
        for b in range(each):
            effects = as_effects(sets, b, struct)
            with warnings.catch_warnings():
                # A level that one study has, and searches that stop: what counts here is the height.
                warnings.simplefilter("ignore")
                fit = MultilevelModel(effects, mods=mods, random=random, struct=struct, method=method).fit()
            found.append(reached[b] - fit.loglik)
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("struct", dense.STRUCTS)
def test_dense_algebra_from_random_starts_finds_nothing_higher(struct):
    assert shortfalls(struct, 5, seed=1).max() < 1e-6


@pytest.mark.parametrize("struct", ["HCS", "UN"])
def test_dense_algebra_finds_nothing_higher_by_maximum_likelihood(struct):
    assert shortfalls(struct, 5, seed=2, method="ML").max() < 1e-6


def test_a_lower_peak_of_HCS_is_left():
    es = escalc(FEW_STUDIES)
    free = MultilevelModel(es, struct="HCS", **BY_RATER).fit()
    tied = MultilevelModel(es, struct="HCS", fixed={"rho[rater | study_id]": 1.0}, **BY_RATER).fit()
    assert tied.loglik == pytest.approx(4.308732727, abs=ITERATIVE)
    assert free.loglik == pytest.approx(tied.loglik, abs=ITERATIVE)
    assert "second-peak" in {note.code for note in free.notes}


def test_a_correlation_of_0_at_which_the_likelihood_is_level_is_no_peak():
    """All distances of the times are above 1, so that the likelihood begins level and rises further on."""
    yi = [0.21, 0.36, 0.1, 0.46, -0.36, 0.17, 0.26, -0.12, 0.41, -0.02, 0.15]
    ni = [60, 60, 60, 84.6, 84.6, 89.7, 89.7, 89.7, 49.1, 49.1, 26.2]
    x = [-0.62, -0.88, 0.92, 0.48, -0.4, -0.3, -1.47, 0.6, -1.14, 0.32, 0.08]
    rater = [0.5, 2, 4.5, 2, 4.5, 0.5, 2, 4.5, 0.5, 2, 2]
    mods = pd.DataFrame({"x": x, "rater": [f"{one:g}" for one in rater]})
    vi = 1.0 / (np.array(ni) - 3.0)
    es = EffectSizes.from_arrays(yi, vi, mods=mods, study_id=list("00011222334"), measure="ZCOR")
    free = MultilevelModel(es, mods="x", struct="CAR", **BY_RATER).fit()
    tied = MultilevelModel(es, mods="x", struct="CAR", fixed={"rho[rater | study_id]": 0.0}, **BY_RATER).fit()
    assert free.loglik > tied.loglik + 1e-5


def test_a_variance_of_0_hides_nothing_that_another_correlation_finds():
    """From rho = 1 the likelihood rises with the variance, from lower ones it falls."""
    yi = [0.27, -0.31, 0.32, 0.62, 0.23, 0.33, 0.35, 0.37, 0.39, 0.28, 0.2]
    vi = [0.00818752, 0.04220466, 0.00581918, 0.03796833, 0.03796833, 0.00557283, 0.01927326, 0.01097765, 0.01097765,
          0.00459391, 0.00459391]  # fmt: skip
    mods = pd.DataFrame({"rater": list("01001010101")})
    es = EffectSizes.from_arrays(yi, vi, mods=mods, study_id=list("01233456677"), measure="ZCOR")
    free = MultilevelModel(es, struct="CS", **BY_RATER).fit()
    tied = MultilevelModel(es, struct="CS", fixed={"rho[rater | study_id]": 1.0}, **BY_RATER).fit()
    assert tied.loglik == pytest.approx(5.0401351, abs=ITERATIVE)
    assert free.loglik == pytest.approx(tied.loglik, abs=ITERATIVE)


# A correlation of effects that do not vary, or one study alone, leaves the likelihood flat.
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.NotIdentifiedWarning")
@pytest.mark.parametrize("struct", dense.STRUCTS)
def test_no_fit_with_a_parameter_held_beats_the_free_one(struct):
    times = {"c": 1, "o": 2.5, "t": 5} if struct == "CAR" else {"c": 1, "o": 2, "t": 3}
    table = FEW_STUDIES.assign(rater=FEW_STUDIES["rater"].map(times), x=np.arange(18) % 5)
    es = escalc(table)
    random = {"random": "1 + x | study_id" if struct == "GEN" else "rater | study_id"}
    free = MultilevelModel(es, struct=struct, **random).fit()
    held = 0
    for name in free.random[0].parameters:
        values = (-0.9, 0.0, 0.6, 1.0) if name.startswith("rho") else (0.0, 0.02, 0.3)
        for value in values:
            try:
                fit = MultilevelModel(es, struct=struct, fixed={name: value}, **random).fit()
            except InputError:
                continue
            held += 1
            assert fit.loglik <= free.loglik + 1e-6, (name, value)
    assert held >= 2 * len(free.random[0].parameters)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.NotIdentifiedWarning")
@pytest.mark.parametrize("seed", range(40))
def test_two_levels_reach_the_highest_peak_of_a_fine_grid(seed):
    rng = np.random.default_rng([seed, 9])
    k = int(rng.integers(4, 16))
    study = rng.integers(0, max(k // 2, 2), k)
    n = np.exp(rng.uniform(np.log(10), np.log(10_000), k))
    y = 0.3 + rng.normal(0, 0.2, k) * rng.choice([0.2, 1.0, 3.0]) + rng.normal(size=k) / np.sqrt(n)
    fit = MultilevelModel(EffectSizes.from_arrays(y, 1 / n, study_id=[f"s{i}" for i in study], measure="ZCOR")).fit()
    values = np.append(0.0, np.geomspace(1e-7, 30.0, 60))
    grid = np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 2)
    assert fit.point.problem.at(grid).logliks.max() <= fit.loglik + 1e-8


def test_a_level_that_one_study_has_is_not_identified():
    from alliance_meta.errors import NotIdentifiedWarning

    table = FEW_STUDIES[(FEW_STUDIES["rater"] != "t") | (FEW_STUDIES["study_id"] == 4)]
    with pytest.warns(NotIdentifiedWarning, match=r"tau2\[rater \| study_id: t\] is not identified: a single group"):
        fit = MultilevelModel(escalc(table), struct="DIAG", **BY_RATER).fit()
    edge = [note.message for note in fit.notes if note.code == "component-at-edge"]
    assert not any(": t]" in message for message in edge)
