"""Cases of the plots of bias, for the tests of all charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from alliance_meta import EffectSizes, RandomEffectsModel, bias, che
from alliance_meta.plots import (
    bias_panel_data,
    firepower_data,
    funnel_data,
    p_curve_data,
    selection_weights_data,
    sunset_data,
    worst_case_data,
    z_curve_data,
)
from tests.plots.cases import dependent, fitted, molloy, plain, quiet


def clustered(k: int = 60, studies: int = 15, **options: Any) -> Any:
    """Fit made-up effects of several studies."""
    return quiet(lambda: che(dependent(k, studies, **options)))


def tiny() -> Any:
    """Fit effects on a scale of millionths."""
    effects = EffectSizes.from_arrays([1e-6, 3e-6, -2e-6], [1e-12, 4e-12, 9e-12])
    return quiet(lambda: RandomEffectsModel(effects).fit())


def bias_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return the frames by name."""
    return {
        "funnel": lambda: funnel_data(molloy()),
        "funnel of one": lambda: funnel_data(fitted(1)),
        "funnel of two": lambda: funnel_data(fitted(2, n=(20, 60))),
        "funnel of small studies": lambda: funnel_data(fitted(30, n=(5, 9))),
        "funnel of many": lambda: funnel_data(fitted(300)),
        "funnel of effects": lambda: funnel_data(clustered()),
        "funnel of studies": lambda: funnel_data(clustered(), by="study"),
        "funnel of raw r": lambda: funnel_data(fitted(30, measure="COR", mean=0.6)),
        "funnel of a regression": lambda: funnel_data(fitted(40, mods="rater")),
        "funnel, plain": lambda: funnel_data(quiet(plain)),
        "funnel with a regression": lambda: funnel_data(molloy(), lines=[bias.regtest(molloy())]),
        "funnel with lines and filled": lambda: funnel_data(
            clustered(),
            by="study",
            lines=[quiet(lambda: bias.pet_peese(clustered()))],
            filled=bias.trimfill(clustered()),
        ),
        "worst_case": lambda: worst_case_data(molloy()),
        "worst_case of none": lambda: worst_case_data(fitted(30, n=(5, 9))),
        "worst_case of all": lambda: worst_case_data(fitted(4, n=(300, 400), mean=0.9)),
        "worst_case of one": lambda: quiet(lambda: worst_case_data(fitted(1))),
        "worst_case of negative effects": lambda: worst_case_data(fitted(30, mean=-0.4)),
        "worst_case, plain": lambda: quiet(lambda: worst_case_data(plain())),
        "p_curve": lambda: p_curve_data(molloy()),
        "p_curve of none": lambda: p_curve_data(fitted(30, n=(5, 9))),
        "p_curve of studies": lambda: quiet(lambda: p_curve_data(clustered())),
        "z_curve": lambda: z_curve_data(fitted(60), result=bias.zcurve(fitted(60), iterations=50)),
        "z_curve of studies": lambda: z_curve_data(clustered(), result=bias.zcurve(clustered(), iterations=50)),
        "z_curve of none": lambda: z_curve_data(fitted(30, n=(5, 9))),
        "selection_weights": lambda: selection_weights_data(bias.selmodel(fitted(60), steps=[0.025, 0.5])),
        "selection_weights, beta": lambda: selection_weights_data(bias.selmodel(fitted(60), type="beta")),
        "selection_weights of five": lambda: selection_weights_data(quiet(lambda: bias.selmodel(fitted(5)))),
        "selection_weights, two-sided": lambda: selection_weights_data(
            bias.selmodel(fitted(60), steps=[0.05, 0.1, 0.5], alternative="two.sided")
        ),
        "bias_panel": lambda: bias_panel_data(bias.panel(molloy())),
        "bias_panel of one": lambda: bias_panel_data(bias.panel(fitted(1))),
        "bias_panel of five": lambda: bias_panel_data(bias.panel(fitted(5))),
        "bias_panel of studies": lambda: bias_panel_data(bias.panel(clustered())),
        "bias_panel, plain": lambda: bias_panel_data(bias.panel(quiet(plain))),
        "sunset": lambda: sunset_data(molloy()),
        "sunset of one": lambda: sunset_data(fitted(1)),
        "sunset of small studies": lambda: sunset_data(fitted(30, n=(5, 9))),
        "sunset of studies": lambda: sunset_data(clustered(), by="study"),
        "sunset of no effect": lambda: sunset_data(fitted(30), effect=0.0),
        "sunset, plain": lambda: sunset_data(quiet(plain)),
        "firepower": lambda: firepower_data(molloy()),
        "firepower of one": lambda: firepower_data(fitted(1)),
        "firepower of many": lambda: firepower_data(fitted(300)),
        "firepower of small studies": lambda: firepower_data(fitted(40, n=(5, 9))),
        "firepower of studies": lambda: firepower_data(clustered(), by="study", effects=[0.1, 0.2, 0.3]),
        "firepower, tiny": lambda: firepower_data(tiny()),
    }
