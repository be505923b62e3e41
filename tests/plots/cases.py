"""Frames and fits that several plot tests draw. Everything made up here is drawn, never reported."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, RVEModel, che, escalc, load_dataset
from alliance_meta.effects.table import unique_labels
from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.evidence.umbrellas import umbrella
from alliance_meta.models import RandomEffectsResults, sce
from alliance_meta.plots import forest_data, published_forest_data
from alliance_meta.plots.forests.parts import make_frame

NAMES = ("Żółkiewska-Sądek et al.", "Ng", "Constantino, Morrison & Coyne", "Del Re", "Lorenzo-Luaces et al.")
LONG = "Flückiger, Del Re, Wampold, Symonds, Horvath, Constantino & Coyne-with-a-very-long-name (2018)"


def quiet(make: Callable[[], Any]) -> Any:
    """Return what `make` returns, without the warnings about few studies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return make()


def molloy(mods: str = "1", **options: Any) -> RandomEffectsResults:
    """Fit the 16 correlations of Molloy et al. (2014)."""
    effects = escalc(load_dataset("molloy2014"))
    return quiet(lambda: RandomEffectsModel(effects, mods=mods, **options).fit())


def made_up(
    k: int, *, seed: int = 1, n: tuple[int, int] = (10, 400), mean: float = 0.25, **options: Any
) -> EffectSizes:
    """Make `k` correlations with raters, settings and judgements; labels hold accents and dollar signs."""
    rng = np.random.default_rng(seed)
    size = rng.integers(*n, k)
    z = rng.normal(mean, 0.15, k) + rng.standard_normal(k) / np.sqrt(size - 3)
    frame = pd.DataFrame(
        {
            "study": [f"{NAMES[i % len(NAMES)]} ({1980 + i % 40})" for i in range(k)],
            "n": size,
            "r": np.tanh(z),
            "rater": rng.choice(["client", "therapist", "observer"], k),
            "modality": rng.choice(["CBT", "psychodynamic", "mixed, $x_1$"], k),
            "year": np.where(rng.random(k) < 0.2, np.nan, rng.integers(1980, 2020, k)),
            "bias": rng.choice(["low", "some concerns", "high"], k),
        }
    )
    return escalc(frame, **options)


def fitted(k: int, *, mods: str = "1", **options: Any) -> RandomEffectsResults:
    """Fit `k` made-up correlations."""
    # Of the made-up labels some stand twice: each row is a study of its own here.
    effects = made_up(k, **options)
    effects = replace(effects, study_id=effects.slab)
    return quiet(lambda: RandomEffectsModel(effects, mods=mods).fit())


def dependent(k: int, studies: int, **options: Any) -> EffectSizes:
    """Make `k` correlations of `studies` samples; the first has a fifth of them, the last one has one."""
    effects = made_up(k, **options)
    of = [0 if i < k // 5 else 1 + (i - k // 5) % (studies - 2) for i in range(k - 1)] + [studies - 1]
    names = [f"{NAMES[i % len(NAMES)]} ({1980 + i})" for i in of]
    assert effects.ni is not None
    sizes = effects.ni[of]
    return replace(effects, study_id=tuple(names), slab=unique_labels(names), ni=sizes, vi=1.0 / (sizes - 3.0))


def row(label: str, z: float, half: float, **more: Any) -> dict[str, Any]:
    """Return a drawn study by its Fisher z and the half-width of its interval."""
    lb, ub = z - half, z + half
    values = {"yi": z, "ci_lb": lb, "ci_ub": ub, "r": math.tanh(z), "r_lb": math.tanh(lb), "r_ub": math.tanh(ub)}
    return {"kind": "study", "label": label, **values, **more}


def extremes() -> pd.DataFrame:
    """Return intervals and points beyond the axis, an interval inside its square, and a label of three lines."""
    rows = [
        row("Leaves on both sides", 0.1, 4.0, weight=1.0, ni=4),
        row("Leaves on the right", 1.5, 0.9, weight=3.0, ni=12),
        row("Point beyond the axis", 2.2, 0.8, weight=3.0, ni=15),
        row("Inside its square", 0.3, 0.01, weight=80.0, ni=40000),
        row(LONG, -0.4, 0.2, weight=10.0, ni=99),
        {"kind": "blank"},
        {**row("Pooled effect (REML, HK)", 0.2, 2.0), "kind": "summary"},
        {"kind": "prediction", "label": "95% prediction interval", "pi_lb": -3.0, "pi_ub": 3.0},
    ]
    rows[-1] |= {"r_pi_lb": math.tanh(-3.0), "r_pi_ub": math.tanh(3.0)}
    meta = {
        "measure": "ZCOR",
        "axis_label": "Correlation r (Fisher z scale)",
        "estimate_header": "r [95% CI]",
        "pooled": 0.2,
        "synthetic": True,
        "cautions": ["The rows are made up to test the drawing. " * 3],
        "show_cautions": True,
        "bottom": ["Heterogeneity: Q(4) = 9.99, p = .041; τ = 0.20 [0.01, 0.90] (z scale); I² = 60.0%"],
        "title": "Extremes",
        "description": "Intervals that leave the axis.",
    }
    return make_frame(rows, meta)


def plain() -> RandomEffectsResults:
    """Fit effects that are no correlations."""
    return RandomEffectsModel(EffectSizes.from_arrays([1.2, 30.5, -12.0], [0.5, 20.0, 9.0])).fit()


# The frames whose geometry is checked.
FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "one study": lambda: forest_data(fitted(1)),
    "two studies": lambda: forest_data(fitted(2, n=(20, 60))),
    "five": lambda: forest_data(fitted(5)),
    "sixteen with columns and dots": lambda: forest_data(
        fitted(14), columns=["rater", "modality", "year"], rob=["bias"], order="year"
    ),
    "groups": lambda: forest_data(fitted(30), by="rater", columns=["modality"], rob={"bias": "RoB"}, tau2="common"),
    "negative": lambda: forest_data(fitted(8, mean=-0.5)),
    "small": lambda: forest_data(fitted(9, n=(5, 9))),
    "raw r": lambda: forest_data(fitted(12, measure="COR", mean=0.6)),
    "plain": lambda: forest_data(quiet(plain)),
    "regression": lambda: forest_data(fitted(20, mods="rater + year")),
    "one moderator": lambda: forest_data(fitted(20, mods="rater"), by="rater"),
    "many": lambda: forest_data(fitted(97), by="modality", columns=["rater"], rob=["bias"]),
    "nested": lambda: forest_data(quiet(lambda: che(dependent(24, 8)))),
    "nested with columns": lambda: forest_data(
        quiet(lambda: MultilevelModel(dependent(20, 7)).fit()),
        columns=["rater", "year"],
        rob=["bias"],
        label="modality",
    ),
    "nested, small": lambda: forest_data(quiet(lambda: che(dependent(12, 5, n=(5, 9)), mods="rater"))),
    "nested regression": lambda: forest_data(
        quiet(lambda: che(dependent(40, 12), mods="year + rater")), order="effect"
    ),
    "nested without study means": lambda: forest_data(quiet(lambda: sce(dependent(30, 12), subgroup="rater"))),
    "nested RVE by level": lambda: forest_data(
        quiet(lambda: RVEModel(dependent(30, 12), working="HIER").fit()), by="rater"
    ),
    "nested, many": lambda: forest_data(quiet(lambda: che(dependent(120, 40))), columns=["rater"]),
    "umbrella": lambda: published_forest_data(umbrella().frame),
    "extremes": extremes,
}


@cache
def made(name: str) -> pd.DataFrame:
    """Return the frame of this name, made once for all tests that only look at it."""
    return FRAMES[name]()
