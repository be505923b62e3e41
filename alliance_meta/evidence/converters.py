"""The ways to put a correlation into other words, each with its words, assumption, formula and source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations import meaning as core

Unit = Literal["share", "sd", "ratio", "number"]
Course = Literal["up", "even", "down"]

GROUPS = (
    "clients are divided into two groups of equal size by their alliance, and outcomes within each are normal with the "
    "same spread"
)
NORMAL = "alliance and outcome are bivariate normal over clients"


@dataclass(frozen=True, slots=True)
class Converter:
    """One way to put a correlation into other words."""

    label: str
    unit: Unit
    convert: Callable[[Array, float], Array]
    course: Course
    words: str
    assumption: str
    formula: str
    source: str


def _of_d(f: Callable[[Array], Array]) -> Callable[[Array, float], Array]:
    return lambda r, rate: f(core.r_to_d(r))


CONVERTERS: Mapping[str, Converter] = {
    "r2": Converter(
        "shared variance",
        "share",
        lambda r, rate: r**2,
        "even",
        "{value} of the differences between clients in outcome go with differences in alliance",
        "the relation is linear; a share of variance is not a share of success",
        "r²",
        "definition",
    ),
    "d": Converter(
        "standardised difference d",
        "sd",
        _of_d(np.asarray),
        "up",
        "clients with the better alliance end {value} standard deviations higher",
        GROUPS,
        "2r/√(1 − r²)",
        "point-biserial correlation solved for d",
    ),
    "odds_ratio": Converter(
        "odds ratio",
        "ratio",
        _of_d(core.d_to_odds_ratio),
        "up",
        "the odds of a good outcome are {value} times as high with the better alliance",
        f"{GROUPS.replace('normal', 'logistic')}; odds are not chances",
        "exp(d π/√3)",
        "Hasselblad & Hedges 1995, doi:10.1037/0033-2909.117.1.167",
    ),
    "besd": Converter(
        "binomial effect size display",
        "share",
        lambda r, rate: core.besd(r),
        "up",
        "in the display, {value} succeed with the better alliance and {rest} with the other",
        "half of all clients succeed and half have the better alliance, in a table with this correlation (phi)",
        "1/2 + r/2",
        "Rosenthal & Rubin 1982, doi:10.1037/0022-0663.74.2.166",
    ),
    "median_split": Converter(
        "rate above the median",
        "share",
        lambda r, rate: core.pairs(r),
        "up",
        "of clients with an alliance above the median, {value} have an outcome above it; of the others {rest}",
        NORMAL,
        "1/2 + arcsin(r)/π",
        "orthant probability of the bivariate normal distribution",
    ),
    "pairs": Converter(
        "common language, pairs of clients",
        "share",
        lambda r, rate: core.pairs(r),
        "up",
        "of two clients, the one with the better alliance has the better outcome in {value} of cases",
        NORMAL,
        "1/2 + arcsin(r)/π",
        "Dunlap 1994, doi:10.1037/0033-2909.116.3.509",
    ),
    "common_language": Converter(
        "common language, two groups",
        "share",
        _of_d(core.common_language),
        "up",
        "a client of the group with the better alliance does better than one of the other in {value} of cases",
        GROUPS,
        "Φ(d/√2)",
        "McGraw & Wong 1992, doi:10.1037/0033-2909.111.2.361",
    ),
    "u3": Converter(
        "U3",
        "share",
        _of_d(core.u3),
        "up",
        "{value} of the group with the better alliance do better than the median of the other",
        GROUPS,
        "Φ(d)",
        "Cohen 1988",
    ),
    "overlap": Converter(
        "overlap of the two groups",
        "share",
        _of_d(core.overlap),
        "even",
        "the outcomes of the two groups overlap by {value}",
        GROUPS,
        "2Φ(−|d|/2)",
        "area under the lower of two normal densities",
    ),
    "needed": Converter(
        "number needed",
        "number",
        _of_d(core.needed),
        "down",
        "{value} clients moved from the lower group to the other would make one more better outcome in pairs",
        f"{GROUPS}; and the difference is caused by the alliance, which a correlation does not show",
        "1/(2Φ(d/√2) − 1)",
        "Kraemer & Kupfer 2006, doi:10.1016/j.biopsych.2005.09.014",
    ),
    "needed_at_rate": Converter(
        "number needed at a base rate",
        "number",
        lambda r, rate: core.needed_at(core.r_to_d(r), rate),
        "down",
        "{value} clients moved from the lower group, where {rate} succeed, to the other would make one more success",
        f"{GROUPS}; the base rate holds; and the difference is caused by the alliance, which a correlation does not "
        "show",
        "1/(Φ(d + Φ⁻¹(rate)) − rate)",
        "Furukawa & Leucht 2011, doi:10.1371/journal.pone.0019070",
    ),
}
