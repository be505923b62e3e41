"""The R code of a fit, run by R as it stands, gives the fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.errors import AllianceMetaWarning
from tests.reference.running import grammar_faults, missing_packages, run

# metafor's searches stop where the likelihood's slope is about 1e-5; standard errors follow the variances.
SEARCHES = 2e-4
RUN = ("metafor", "clubSandwich", "robumeta")


def rows() -> pd.DataFrame:
    """Made-up effects in studies whose columns have names that R reserves, quotes or forbids."""
    rng = np.random.default_rng(11)
    k = 48
    study = np.repeat([f'Å {i // 2}: "{i}"' for i in range(16)], 3)
    frame = pd.DataFrame(
        {
            "study": study,
            "es_id": np.tile([1, 2, 3], 16),
            "r": np.tanh(0.25 + np.repeat(rng.normal(0, 0.15, 16), 3) + rng.normal(0, 0.12, k)).round(3),
            "n": rng.integers(25, 200, k),
            "if": np.resize(["client", "observer", "Therapist"], k),
            "Outcome rater": np.resize(["y", "x", "y", "z`z", "x"], k),
            "arm": np.resize(["a", "b", "b", "c"], k),
            "_a": rng.normal(2000, 5, k).round(),
        }
    )
    frame.loc[[4, 9], "_a"] = np.nan
    return frame


def effects(subset: slice = slice(None)) -> Any:
    return am.escalc(rows().iloc[subset].reset_index(drop=True))


def crossed() -> Any:
    es = effects()
    return am.MultilevelModel(es, random=("study_id", "if"), fixed={"sigma2[if]": 0.01}).fit()


FITS: dict[str, Callable[[], Any]] = {
    "names": lambda: am.RandomEffectsModel(effects(), mods="`if` + `Outcome rater` * center(_a)").fit(),
    "reference": lambda: am.RandomEffectsModel(effects(), mods="C(arm, contr.treatment('b'))").fit(),
    "curve": lambda: am.RandomEffectsModel(effects(), mods="bs(_a, df=4)", test="t", level=0.9).fit(),
    "power": lambda: am.RandomEffectsModel(effects(), mods="I((_a - 2000) ** 2) + log(n)", method="PM").fit(),
    "raw r": lambda: am.RandomEffectsModel(am.escalc(rows(), measure="COR", vtype="AV"), method="DL", test="z").fit(),
    "given weights": lambda: am.RandomEffectsModel(effects(), weights=np.arange(1.0, 49), method="DL", test="z").fit(),
    "location and scale": lambda: am.LocationScaleModel(effects(), mods="`if`", scale="`Outcome rater`").fit(),
    "finished": lambda: am.RandomEffectsModel(am.EffectSizes.from_arrays([0.1, 0.5, 0.2], [0.01, 0.02, 0.05])).fit(),
    "nested": lambda: am.MultilevelModel(effects(), random="study_id/es_id").fit(),
    "crossed, one held": crossed,
    "unequal": lambda: am.MultilevelModel(effects(), random="if | study_id", struct="DIAG").fit(),
    "che": lambda: am.che(effects(), rho=0.6, mods="`if`"),
    "clusters given": lambda: am.RandomEffectsModel(effects()).fit().robust(cluster=np.repeat(np.arange(12), 4)),
    "two columns": lambda: am.RandomEffectsModel(effects()).fit().robust(cluster=["study_id", "if"]),
    "rve": lambda: am.RVEModel(effects(), mods="`if` + _a", rho=0.5).fit(),
    "aggregated": lambda: am.RandomEffectsModel(am.aggregate(effects(), rho=0.5)).fit(),
}  # fmt: skip


@pytest.fixture(scope="module")
def fits() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return {name: make() for name, make in FITS.items()}


@pytest.fixture(scope="module")
def in_r(fits: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    """Estimates, standard errors and degrees of freedom of every fit, by one run of R."""
    if why := missing_packages(RUN):
        pytest.skip(why)
    shown = run("\n".join(fit.r_code() for fit in fits.values()), tmp_path_factory.mktemp("r"))
    return dict(zip(fits, shown, strict=True))


@pytest.mark.parametrize("name", FITS)
def test_the_code_is_r(fits: dict[str, Any], name: str) -> None:
    assert grammar_faults(fits[name].r_code()) == []


@pytest.mark.reference
@pytest.mark.parametrize("name", FITS)
def test_r_gives_the_same_fit(fits: dict[str, Any], in_r: dict[str, list[list[float]]], name: str) -> None:
    fit, (b, se, df) = fits[name], np.array(in_r[name], dtype=float).T
    assert b == pytest.approx(fit.beta, rel=SEARCHES, abs=1e-6)
    assert se == pytest.approx(fit.se, rel=SEARCHES)
    # R writes the normal distribution as no degrees of freedom.
    ours = np.where(np.isfinite(fit.ddf), fit.ddf, np.nan)
    assert df == pytest.approx(np.broadcast_to(ours, b.shape), rel=1e-3, nan_ok=True)


@pytest.mark.reference
def test_r_reads_a_sheet_with_semicolons_decimal_commas_and_other_names(tmp_path: Path) -> None:
    if why := missing_packages(RUN):
        pytest.skip(why)
    frame = rows().rename(columns={"study": "Studie", "r": "cor"}).drop(columns=["_a"])
    frame.to_csv(tmp_path / "blatt.csv", sep=";", decimal=",", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        table = am.read_coded(tmp_path / "blatt.csv").query("outcome_rater != 'z`z' and n > 30")
        fit = am.che(am.escalc(table), rho=0.6, mods="`if`")
    assert "read.csv(" in fit.r_code()
    assert "data.frame" not in fit.r_code()
    b, se, df = np.array(run(fit.r_code(), tmp_path)[0], dtype=float).T
    assert b == pytest.approx(fit.beta, rel=SEARCHES, abs=1e-6)
    assert se == pytest.approx(fit.se, rel=SEARCHES)
    assert df == pytest.approx(fit.ddf, rel=1e-3)
