"""Cases of the plots with two axes, small, large and extreme, for tests of their numbers and their geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta import (
    BayesianModel,
    EffectSizes,
    MultilevelModel,
    RandomEffectsModel,
    bias,
    che,
    moderator_table,
    moderators,
    plots,
    sensitivity,
)
from alliance_meta.bayes import PET, WeightFunction, average, robma
from alliance_meta.evidence import umbrella
from alliance_meta.models import RandomEffectsResults
from alliance_meta.models.subgroups import subgroups
from alliance_meta.plots import (
    averaged_data,
    battery_data,
    bias_panel_data,
    bubble_data,
    caterpillar_data,
    dependence_data,
    development_data,
    drapery_data,
    funnel_data,
    influence_data,
    means_data,
    moderators_data,
    orchard_data,
    profile_data,
    profiles_data,
    rainforest_data,
    ranks_data,
    resampled_data,
    rho_grid_data,
    specification_curve_data,
    timeline_data,
    weight_function_data,
)
from alliance_meta.sensitivity import compare_dependence
from tests.plots.bias_cases import bias_charts
from tests.plots.cases import dependent, fitted, made_up, molloy, quiet
from tests.plots.next_study import next_study_charts
from tests.plots.outlier_cases import outlier_charts
from tests.plots.prior_cases import prior_charts
from tests.plots.review_cases import review_charts
from tests.plots.smooth_cases import smooth_charts

# Every plot has a function of its name and one that gives its frame.
PLOTS = sorted(name for name in plots.__all__ if f"{name}_data" in plots.__all__)
FORESTS = ("forest", "leave_one_out", "cumulative")
# Those with an axes in data units; chains load ArviZ, and have tests of their own.
DRAW: dict[str, Callable[..., Any]] = {name: getattr(plots, name) for name in PLOTS if name not in (*FORESTS, "chains")}


@cache
def many(k: int) -> RandomEffectsResults:
    """Fit `k` effects without labels or sizes of their own."""
    rng = np.random.default_rng(3)
    v = 1.0 / (rng.integers(10, 400, k) - 3)
    y = rng.normal(0.25, 0.15, k) + rng.standard_normal(k) * np.sqrt(v)
    return RandomEffectsModel(EffectSizes.from_arrays(y, v, measure="ZCOR")).fit()


def alike() -> RandomEffectsResults:
    """Fit effects that vary less than chance allows: tau2 is 0."""
    effects = EffectSizes.from_arrays([0.2, 0.21, 0.19, 0.22], [0.01] * 4, measure="ZCOR")
    return quiet(lambda: RandomEffectsModel(effects).fit())


def generic() -> RandomEffectsResults:
    """Fit effects on a scale of thousands."""
    effects = EffectSizes.from_arrays([1200.0, 30500.0, -12000.0, 4.0], [50.0, 2000.0, 900.0, 5.0])
    return quiet(lambda: RandomEffectsModel(effects).fit())


def synthetic(fit: RandomEffectsResults) -> RandomEffectsResults:
    """Return the fit as one of made-up teaching data with a caution."""
    origin = replace(fit.effects.provenance, synthetic=True, cautions=("Made up. " * 20,))
    return replace(fit, effects=replace(fit.effects, provenance=origin))


def crossed(**options: Any) -> RandomEffectsResults:
    return fitted(60, mods="rater*modality + year", **options)


def several(*, teaching: bool = False, **options: Any) -> Any:
    """Return a grid of assumed correlations for 30 made-up effects of 12 studies."""
    effects = synthetic(fitted(30)).effects if teaching else made_up(30)
    study = [f"S{i % 12}" for i in range(30)]
    return quiet(lambda: sensitivity.rho_grid(effects, cluster=study, **options))


def compared(*, teaching: bool = False, **options: Any) -> Any:
    """Return the usual methods for 30 made-up effects of 12 studies."""
    made = synthetic(fitted(30)).effects if teaching else made_up(30)
    effects = replace(made, study_id=tuple(f"S{i % 12}" for i in range(30)))
    return quiet(lambda: compare_dependence(effects, **options))


def nested(k: int = 40, studies: int = 12, *, teaching: bool = False) -> EffectSizes:
    """Return made-up effects of several studies."""
    made = synthetic(fitted(k)).effects if teaching else made_up(k)
    return replace(made, study_id=tuple(f"S{i % studies}" for i in range(k)))


@cache
def multilevel(k: int = 40, studies: int = 12, mods: str = "1", *, teaching: bool = False, **options: Any) -> Any:
    """Fit them with studies and rows as levels."""
    return quiet(lambda: MultilevelModel(nested(k, studies, teaching=teaching), mods=mods, **options).fit())


def tabled(k: int, studies: int, names: list[str], **options: Any) -> Any:
    """Return the table of moderators of made-up effects."""
    return quiet(lambda: moderator_table(dependent(k, studies), names, **options))


FEW: Any = {
    "effects": [None, "year > 2005", {"pick": "highest"}],
    "dependence": ["CHE", "mean"],
    "inference": ["CR2", "z", "knha"],
}


def forking(*, teaching: bool = False, **options: Any) -> Any:
    """Return a multiverse of 40 made-up effects of 12 studies."""
    return quiet(lambda: sensitivity.multiverse(nested(teaching=teaching), **options))


def ensemble(*, teaching: bool = False) -> Any:
    """Return models with and without an effect, heterogeneity and bias of two kinds, averaged."""
    effects = synthetic(fitted(15)).effects if teaching else molloy().effects
    return robma(effects, bias=[WeightFunction((0.025, 0.5)), WeightFunction(0.05, "two"), PET()])


def permuted() -> Any:
    effects = EffectSizes.from_arrays([0.1, 0.3, 0.2, 0.5, 0.4, 0.3, 0.2], [0.002] * 7)
    return sensitivity.permutation_test(RandomEffectsModel(effects, method="DL", test="t").fit())


def multiplied(fit: RandomEffectsResults) -> Any:
    cluster = np.arange(fit.k) % 15
    return quiet(lambda: sensitivity.wild_bootstrap(fit, "year", cluster=cluster, seed=1, iterations=100))


@cache
def charts() -> dict[str, pd.DataFrame]:
    """Return the frames whose geometry is checked; the first word of a name is the plot."""
    boot = cache(lambda: sensitivity.bootstrap(molloy(), seed=1, iterations=200))
    wild = cache(lambda: quiet(lambda: fitted(12, n=(5, 9), mods="rater*modality")))
    margins = cache(lambda: moderators.marginal_means(crossed(), ["rater", "modality"]))
    models = cache(ensemble)
    subsets = cache(lambda: average(molloy().effects, candidates=["meanage", "quality"]))
    return {
        "averaged": lambda: averaged_data(models()),
        "averaged coefficient": lambda: averaged_data(subsets(), what="meanage"),
        "averaged without doubt": lambda: averaged_data(subsets()),
        "averaged, synthetic": lambda: averaged_data(ensemble(teaching=True), show_cautions=True),
        **bias_charts(),
        "funnel, synthetic": lambda: funnel_data(synthetic(molloy()), show_cautions=True),
        "bias_panel, synthetic": lambda: bias_panel_data(bias.panel(synthetic(molloy())), show_cautions=True),
        "battery": lambda: battery_data(quiet(lambda: sensitivity.battery(dependent(60, 15)))),
        "battery of one": lambda: battery_data(quiet(lambda: sensitivity.battery(fitted(1).effects))),
        "battery of five": lambda: battery_data(quiet(lambda: sensitivity.battery(fitted(5).effects))),
        "battery, synthetic": lambda: battery_data(
            sensitivity.battery(synthetic(molloy()).effects, scenarios=["che", "exact", "bias_hc"]), show_cautions=True
        ),
        **next_study_charts(),
        **outlier_charts(),
        **prior_charts(),
        **review_charts(),
        **smooth_charts(),
        "weight_function": lambda: weight_function_data(models()),
        "weight_function of selection": lambda: weight_function_data(models(), conditional=True),
        "weight_function, synthetic": lambda: weight_function_data(ensemble(teaching=True), show_cautions=True),
        "caterpillar of one": lambda: caterpillar_data(fitted(1)),
        "caterpillar of five": lambda: caterpillar_data(fitted(5)),
        "caterpillar of small studies": lambda: caterpillar_data(fitted(40, n=(5, 9))),
        "caterpillar of many": lambda: caterpillar_data(many(3000)),
        "caterpillar of a regression": lambda: caterpillar_data(fitted(60, mods="rater")),
        "caterpillar of thousands": lambda: caterpillar_data(generic()),
        "caterpillar, synthetic": lambda: caterpillar_data(synthetic(molloy()), show_cautions=True),
        "bubble": lambda: bubble_data(molloy("meanage + design"), "meanage"),
        "bubble of years": lambda: bubble_data(fitted(40, mods="rater*year"), "year"),
        "bubble of levels": lambda: bubble_data(fitted(60, mods="rater + year"), "rater"),
        "bubble, wild": lambda: bubble_data(wild(), "modality"),
        "bubble, synthetic": lambda: bubble_data(synthetic(fitted(25, mods="year")), "year", show_cautions=True),
        "profile": lambda: profile_data(molloy()),
        "profile at 0": lambda: profile_data(alike()),
        "profile of many": lambda: profile_data(many(3000)),
        "profile of thousands": lambda: profile_data(generic()),
        "means": lambda: means_data(margins()),
        "means with letters": lambda: means_data(
            margins(), pairwise=moderators.pairwise(crossed(), ["rater", "modality"])
        ),
        "means, wild": lambda: means_data(moderators.marginal_means(wild(), ["rater", "modality"])),
        "means of subgroups": lambda: means_data(subgroups(fitted(40), by="rater")),
        "moderators": lambda: moderators_data(tabled(60, 20, ["rater", "modality", "year", "bias"])),
        "moderators of five": lambda: moderators_data(tabled(5, 4, ["rater", "modality"])),
        "moderators of many": lambda: moderators_data(tabled(300, 120, ["rater", "year"], tau2="separate")),
        "moderators, synthetic": lambda: moderators_data(
            quiet(lambda: moderator_table(nested(teaching=True), "rater", model="random")), show_cautions=True
        ),
        "means of a mean": lambda: means_data(multilevel()),
        "orchard": lambda: orchard_data(tabled(24, 20, ["rater"], control=False)),
        "orchard of many, synthetic": lambda: orchard_data(synthetic(many(300)), show_cautions=True, title="Made up"),
        "drapery": lambda: drapery_data(fitted(5)),
        "rainforest": lambda: rainforest_data(fitted(5)),
        "ranks": lambda: ranks_data(BayesianModel(fitted(5).effects).fit(), smallest_effect=0.1),
        "ranks of many": lambda: ranks_data(many(300), smallest_effect=0.1),
        "timeline": lambda: timeline_data(sensitivity.cumulative(molloy(), order="given")),
        "means on r": lambda: means_data(moderators.marginal_means(crossed(), "rater", scale="r_mean")),
        "resampled signs": lambda: resampled_data(permuted()),
        "resampled rows": lambda: resampled_data(sensitivity.permutation_test(crossed(), seed=1, iterations=100)),
        "resampled mean": lambda: resampled_data(boot()),
        "resampled tau2": lambda: resampled_data(boot(), quantity="tau2"),
        "resampled wild": lambda: resampled_data(multiplied(crossed())),
        "rho_grid": lambda: rho_grid_data(several()),
        "rho_grid of one": lambda: rho_grid_data(several(rho=(0.5,), how="composite")),
        "rho_grid of a coefficient": lambda: rho_grid_data(several(rho=(0, 0.9), mods="rater"), term="rater[T.mixed]"),
        "rho_grid, synthetic": lambda: rho_grid_data(several(teaching=True), show_cautions=True),
        "dependence": lambda: dependence_data(
            compared(select={"by": {"year": "lowest"}, "unlisted": "last", "ties": "first"})
        ),
        "dependence of a coefficient": lambda: dependence_data(compared(mods="rater"), term="rater[T.observer]"),
        "dependence, synthetic": lambda: dependence_data(compared(teaching=True, methods="mean"), show_cautions=True),
        "rho_grid of CHE": lambda: rho_grid_data(
            quiet(lambda: sensitivity.rho_grid(lambda rho: che(nested(), rho=rho)))
        ),
        "resampled component": lambda: resampled_data(
            sensitivity.bootstrap(multilevel(), seed=1, iterations=25), quantity="sigma2[study_id/es_id]"
        ),
        "profiles": lambda: profiles_data(multilevel()),
        "profiles of raters": lambda: quiet(
            lambda: profiles_data(multilevel(random=("study_id", "rater | modality", "es_id")), points=9)
        ),
        "profiles, synthetic": lambda: profiles_data(multilevel(teaching=True), show_cautions=True, points=9),
        "influence": lambda: influence_data(sensitivity.influence(molloy())),
        "influence of many": lambda: influence_data(sensitivity.influence(many(3000))),
        "influence, wild": lambda: influence_data(sensitivity.influence(wild())),
        "influence of studies": lambda: influence_data(sensitivity.influence(multilevel(mods="rater"))),
        "influence, synthetic": lambda: influence_data(
            sensitivity.influence(multilevel(12, 3, teaching=True)), show_cautions=True
        ),
        "development of adults": lambda: development_data(umbrella(), population="Adults"),
        "development, every result": lambda: development_data(umbrella(), repeats=True, show_cautions=True),
        "specification_curve": lambda: specification_curve_data(forking(choices=FEW)),
        "specification_curve of one": lambda: specification_curve_data(forking(choices={"rho": [0.6]})),
        "specification_curve of many": lambda: specification_curve_data(forking()),
        "specification_curve of thousands": lambda: specification_curve_data(
            sensitivity.multiverse(generic().effects, choices={"estimator": ["REML", "EE", "HS"]})
        ),
        "specification_curve, synthetic": lambda: specification_curve_data(
            forking(teaching=True, choices={"rho": [0.6, 0.2]}), show_cautions=True
        ),
        "resampled one": lambda: resampled_data(quiet(lambda: sensitivity.permutation_test(fitted(1)))),
    }


def first(plot: str) -> str:
    """Return the name of the first case of a plot."""
    return next(name for name in sorted(charts()) if name.replace(",", " ").split()[0] == plot)


@cache
def chart(name: str) -> pd.DataFrame:
    """Return the frame of this name."""
    return charts()[name]()


@cache
def figure(name: str) -> Any:
    """Draw the case of this name, once for all tests that only look at it."""
    frame = chart(name)
    return DRAW[frame.attrs["plot"]](frame)


def draw(name: str, **options: Any) -> Any:
    """Draw the case of this name anew."""
    frame = chart(name)
    return DRAW[frame.attrs["plot"]](frame, **options)
