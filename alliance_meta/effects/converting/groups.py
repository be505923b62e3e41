"""Conversions from two groups."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations import group_conversions as two
from alliance_meta.core.correlations.conversions import Converted
from alliance_meta.effects.converting.rule import Numbers, Rule, se_log_odds

POINT_BISERIAL = "r = d / sqrt(d^2 + h), h = (n1 + n2 - 2)(1/n1 + 1/n2); var = h^2 / (h + d^2)^3 var(d)"
BISERIAL = "r_b = r_pb sqrt(pq) / phi(z), p = n1/n; var by Soper's exact formula"
EXTREME = "r = d / sqrt((l1 + l2)^2 + k d^2), l = phi(z)/p and k the pooled l(l - z); var by the delta method"
BORENSTEIN = "Borenstein et al. (2009), Introduction to Meta-Analysis, ch. 7; metafor RPB"
JACOBS = "Soper (1914); Jacobs & Viechtbauer (2017), doi:10.1002/jrsm.1218; metafor RBIS"
TRUNCATED = "moments of a truncated normal variable; full splits give the biserial r"


def _means(x: Numbers) -> Array:
    return two.means_to_d(x["m1"], x["sd1"], x["n1"], x["m2"], x["sd2"], x["n2"])


def _g(x: Numbers) -> Array:
    return two.g_to_d(x["es_value"], x["n1"] + x["n2"] - 2.0)


def _from_d(d: Array, x: Numbers) -> Converted:
    return two.from_d(d, x["n1"], x["n2"])


def _split(d: Array, x: Numbers) -> Converted:
    return two.from_split(two.d_to_r(d, two.split_factor(x["n1"], x["n2"])), x["n1"], x["n2"])


def _extreme(d: Array, x: Numbers) -> Converted:
    return two.from_extreme_groups(d, x["n1"], x["n2"], x["p_upper"], x["p_lower"])


def _odds(x: Numbers, scale: float) -> Converted:
    return two.from_log_odds(np.log(x["es_value"]), x["n1"], x["n2"], se_log_odds(x), scale=scale)


GROUP_RULES = (
    Rule(
        "d",
        "from_d",
        ("n1", "n2"),
        ("n",),
        lambda x: _from_d(x["es_value"], x),
        POINT_BISERIAL,
        BORENSTEIN,
        "Cohen's d of group 1 against group 2, over the pooled standard deviation",
        family="groups",
    ),
    Rule(
        "g",
        "from_d",
        ("n1", "n2"),
        ("n",),
        lambda x: _from_d(_g(x), x),
        "d = g / J(n1 + n2 - 2), then " + POINT_BISERIAL,
        "Hedges (1981), doi:10.3102/10769986006002107; metafor SMD and RPB",
        "Hedges' g",
        family="groups",
    ),
    Rule(
        "means",
        "from_groups",
        ("m1", "sd1", "m2", "sd2", "n1", "n2"),
        (),
        lambda x: _from_d(_means(x), x),
        "d = (m1 - m2) / s_pooled, then " + POINT_BISERIAL,
        BORENSTEIN,
        "",
        family="groups",
    ),
    Rule(
        "d_split",
        "from_biserial",
        ("n1", "n2"),
        ("n",),
        lambda x: _split(x["es_value"], x),
        "r_pb from d, then " + BISERIAL,
        JACOBS,
        "Cohen's d between the parts of a continuous variable cut in two (group 1 is the upper part)",
        family="groups",
    ),
    Rule(
        "g_split",
        "from_biserial",
        ("n1", "n2"),
        ("n",),
        lambda x: _split(_g(x), x),
        "r_pb from g, then " + BISERIAL,
        JACOBS,
        "Hedges' g between the parts of a continuous variable cut in two",
        family="groups",
    ),
    Rule(
        "r_pb",
        "from_biserial",
        ("n1", "n2"),
        ("n",),
        lambda x: two.from_split(x["es_value"], x["n1"], x["n2"]),
        BISERIAL,
        JACOBS,
        "point-biserial r with a continuous variable cut in two",
        family="groups",
    ),
    Rule(
        "d_extreme",
        "from_groups",
        ("n1", "n2", "p_upper", "p_lower"),
        ("n",),
        lambda x: _extreme(x["es_value"], x),
        EXTREME,
        TRUNCATED,
        "Cohen's d between the upper share p_upper and the lower share p_lower of everybody",
        family="groups",
    ),
    Rule(
        "means_extreme",
        "from_groups",
        ("m1", "sd1", "m2", "sd2", "n1", "n2", "p_upper", "p_lower"),
        (),
        lambda x: _extreme(_means(x), x),
        "d from the means, then " + EXTREME,
        TRUNCATED,
        "",
        family="groups",
    ),
    Rule(
        "or",
        "from_OR",
        ("n1", "n2"),
        ("n", "es_se", "es_lb", "es_ub"),
        lambda x: _odds(x, two.LOGISTIC_SD),
        "d = ln(OR) sqrt(3) / pi, then " + POINT_BISERIAL + ", var(d) = 3 se^2 / pi^2",
        "Hasselblad & Hedges (1995), doi:10.1037/0033-2909.117.1.167",
        "odds ratio of group 1 against group 2; es_se is the standard error of its logarithm",
        family="groups",
    ),
    Rule(
        "or_probit",
        "from_OR",
        ("n1", "n2"),
        ("n", "es_se", "es_lb", "es_ub"),
        lambda x: _odds(x, two.COX),
        "d = ln(OR) / 1.65, then " + POINT_BISERIAL + ", var(d) = se^2 / 1.65^2",
        "Cox & Snell (1989), Analysis of Binary Data; metafor D2ORN",
        "odds ratio of group 1 against group 2, the outcome behind it taken as normal",
        family="groups",
    ),
)
