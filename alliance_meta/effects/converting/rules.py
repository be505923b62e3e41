"""Every conversion by the name of the statistic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations import conversions as core
from alliance_meta.core.correlations.conversions import Converted
from alliance_meta.effects.contract.vocabulary import STATISTICS

Z95 = 1.959963984540054

Numbers = Mapping[str, Array]


@dataclass(frozen=True)
class Rule:
    """One conversion."""

    es_type: str  # what the sheet says of the row
    es_calc: str  # how the correlation was got, in the words of the coding contract
    needs: tuple[str, ...]  # columns without which it cannot be done, apart from `es_value`
    takes: tuple[str, ...]  # columns from which the others can be worked out, or that it uses if they are there
    compute: Callable[[Numbers], Converted]
    formula: str
    source: str
    value: str  # what `es_value` is, in words; empty where the columns in `needs` say it all
    family: str = "test"  # {"groups", "test", "model"}: how sizes and degrees of freedom hang together
    r_type: str = "zero-order"  # ``zero-order``, ``partial``, ``semi-partial`` or ``beta-converted``
    caution: str = ""  # what a reader must know about rows converted so; empty for none


def se_log_odds(x: Numbers) -> Array:
    """Return the standard error of ln(OR), as given or from the 95% interval of the odds ratio."""
    with np.errstate(invalid="ignore", divide="ignore"):
        width = (np.log(x["es_ub"]) - np.log(x["es_lb"])) / (2.0 * Z95)
    return np.where(np.isfinite(x["es_se"]), x["es_se"], width)


SIZES = ("n", "n1", "n2")
RUPINSKI = "Rupinski & Dunlap (1996), doi:10.1177/0013164496056003004"
OF_R = "var(z) = 1/(n - 3)"
BETA_CAUTION = (
    "a standardised beta is no zero-order r; the rule imputes one, and its own error is not in the variance "
    "(Roth et al. 2018, Journal of Applied Psychology 103)"
)
NS_CAUTION = "an effect reported only as not significant was entered as r = 0, which pulls the mean towards zero"
PARTIAL_CAUTION = "a partial or semi-partial correlation answers another question than a zero-order r; keep them apart"


def _t(x: Numbers) -> Converted:
    """Use the groups' sizes where a t test compares two groups: r is the same, its variance is not."""
    r, var, z = core.from_t(x["es_value"], x["df"])
    d = x["es_value"] * np.sqrt(1.0 / x["n1"] + 1.0 / x["n2"])
    groups = core.from_d(d, x["n1"], x["n2"])
    given = np.isfinite(groups.var_r)
    return Converted(r, np.where(given, groups.var_r, var), np.where(given, groups.var_z, z))


def _slope(x: Numbers) -> Converted:
    return core.from_partial_t(x["es_value"] / x["es_se"], x["df"])


STATISTIC_RULES = (
    Rule("r", "reported", ("n",), SIZES[1:], lambda x: core.pearson(x["es_value"], x["n"]),
        f"r as it is; var(r) = (1 - r^2)^2 / (n - 1), {OF_R}", "Fisher (1921); metafor COR and ZCOR",
        "Pearson's correlation"),
    Rule("or_sd", "from_OR", ("n",), ("es_se", "es_lb", "es_ub"),
        lambda x: core.from_log_odds_per_sd(np.log(x["es_value"]), se_log_odds(x)),
        "r = b / sqrt(b^2 + pi^2/3), b = ln(OR); var by the delta method",
        "McKelvey & Zavoina (1975), doi:10.1080/0022250X.1975.9989847",
        "odds ratio per standard deviation of the predictor"),
    Rule("t", "from_t", ("df",), SIZES, _t,
        f"r = t / sqrt(t^2 + df), df = n - 2; {OF_R}, with n1 and n2 the variance of a point-biserial r",
        "exact; metafor COR and RPB", "t of a correlation, a simple regression or two groups"),
    Rule("f", "from_F", ("df", "es_sign"), SIZES, lambda x: core.from_f(x["es_value"], x["df"], x["es_sign"]),
        f"r = sqrt(F / (F + df)); {OF_R}", "F(1, df) = t^2; exact", "F with 1 and df degrees of freedom"),
    Rule("p", "from_p", ("df", "es_sign"), ("es_tails", *SIZES),
        lambda x: core.from_p(x["es_value"], x["df"], x["es_sign"], x["es_tails"]),
        f"t from the quantile of Student's t, then r = t / sqrt(t^2 + df); {OF_R}", "exact; metafor COR with pi",
        "p-value, two-tailed unless es_tails is 1"),
    Rule("chi2", "from_chi2", ("n", "es_sign"), ("n1", "n2"),
        lambda x: core.from_chi2(x["es_value"], x["n"], x["es_sign"]), f"r = sqrt(chi2 / n); {OF_R}",
        "phi of a 2 x 2 table; Rosenthal (1991), Meta-Analytic Procedures", "chi-squared with 1 degree of freedom"),
    Rule("eta2", "from_eta2", ("n", "es_sign"), ("df", "n1", "n2"),
        lambda x: core.from_eta2(x["es_value"], x["n"], x["es_sign"]), f"r = sqrt(eta2); {OF_R}",
        "eta2 = F / (F + df) for one degree of freedom; exact", "eta squared of an effect with 1 degree of freedom"),
    Rule("spearman", "from_rho", ("n",), (), lambda x: core.from_spearman(x["es_value"], x["n"]),
        "r = 2 sin(pi rho / 6); var from var(z) = (1 + rho^2/2) / (n - 3)",
        f"{RUPINSKI}; Bonett & Wright (2000), doi:10.1007/BF02294183", "Spearman's rank correlation"),
    Rule("kendall", "from_tau", ("n",), (), lambda x: core.from_kendall(x["es_value"], x["n"]),
        "r = sin(pi tau / 2); var from var(z) = .437 / (n - 4)",
        f"{RUPINSKI}; Fieller et al. (1957), doi:10.1093/biomet/44.3-4.470", "Kendall's tau"),
    Rule("beta", "from_beta", ("n",), (), lambda x: core.from_beta(x["es_value"], x["n"]),
        "r = beta + .05 for beta >= 0, else beta; var as that of an r",
        "Peterson & Brown (2005), doi:10.1037/0021-9010.90.1.175", "standardised regression coefficient",
        r_type="beta-converted", caution=BETA_CAUTION),
    Rule("partial", "from_partial", ("df",), ("n", "n_predictors"), lambda x: core.partial(x["es_value"], x["df"]),
        "r as it is; var(r) = (1 - r^2)^2 / (df + 1), var(z) = 1/(df - 1)", "metafor PCOR and ZPCOR",
        "partial correlation", family="model", r_type="partial", caution=PARTIAL_CAUTION),
    Rule("partial_t", "from_partial", ("df",), ("n", "n_predictors"),
        lambda x: core.from_partial_t(x["es_value"], x["df"]),
        "r = t / sqrt(t^2 + df), df = n - 1 - predictors; var(r) = (1 - r^2)^2 / (df + 1), var(z) = 1/(df - 1)",
        "Aloe & Becker (2012), doi:10.3102/1076998610396901; metafor PCOR and ZPCOR",
        "t of a coefficient in a multiple regression", family="model", r_type="partial", caution=PARTIAL_CAUTION),
    Rule("semipartial_t", "from_partial", ("df", "r2", "n"), ("n_predictors",),
        lambda x: core.from_semipartial_t(x["es_value"], x["df"], x["r2"], x["n"]),
        "r = t sqrt((1 - R2) / df); var(r) = (R2^2 - 2 R2 + w + 1 - w^2) / n, w = R2 - r^2",
        "Aloe & Becker (2012), doi:10.3102/1076998610396901; metafor SPCOR",
        "t of a coefficient in a multiple regression with squared multiple correlation r2", family="model",
        r_type="semi-partial", caution=PARTIAL_CAUTION),
    Rule("slope", "from_slope", ("es_se", "df"), ("n", "n_predictors"), _slope,
        "t = b / se, then r = t / sqrt(t^2 + df); zero-order for one predictor, partial for several",
        "exact; metafor COR and PCOR", "unstandardised regression coefficient with standard error es_se",
        family="model"),
    Rule("ns", "imputed_ns", ("n",), ("n1", "n2"), lambda x: core.pearson(np.zeros_like(x["n"]), x["n"]),
        f"r = 0; {OF_R}", "a convention; Pigott (2009) in The Handbook of Research Synthesis", "", caution=NS_CAUTION),
)  # fmt: skip

POINT_BISERIAL = "r = d / sqrt(d^2 + h), h = (n1 + n2 - 2)(1/n1 + 1/n2); var = h^2 / (h + d^2)^3 var(d)"
BISERIAL = "r_b = r_pb sqrt(pq) / phi(z), p = n1/n; var by Soper's exact formula"
EXTREME = "r = d / sqrt((l1 + l2)^2 + k d^2), l = phi(z)/p and k the pooled l(l - z); var by the delta method"
BORENSTEIN = "Borenstein et al. (2009), Introduction to Meta-Analysis, ch. 7; metafor RPB"
JACOBS = "Soper (1914); Jacobs & Viechtbauer (2017), doi:10.1002/jrsm.1218; metafor RBIS"
TRUNCATED = "moments of a truncated normal variable; full splits give the biserial r"


def _means(x: Numbers) -> Array:
    return core.means_to_d(x["m1"], x["sd1"], x["n1"], x["m2"], x["sd2"], x["n2"])


def _g(x: Numbers) -> Array:
    return core.g_to_d(x["es_value"], x["n1"] + x["n2"] - 2.0)


def _from_d(d: Array, x: Numbers) -> Converted:
    return core.from_d(d, x["n1"], x["n2"])


def _split(d: Array, x: Numbers) -> Converted:
    return core.from_split(core.d_to_r(d, core.split_factor(x["n1"], x["n2"])), x["n1"], x["n2"])


def _extreme(d: Array, x: Numbers) -> Converted:
    return core.from_extreme_groups(d, x["n1"], x["n2"], x["p_upper"], x["p_lower"])


def _odds(x: Numbers, scale: float) -> Converted:
    return core.from_log_odds(np.log(x["es_value"]), x["n1"], x["n2"], se_log_odds(x), scale=scale)


GROUP_RULES = (
    Rule("d", "from_d", ("n1", "n2"), ("n",), lambda x: _from_d(x["es_value"], x), POINT_BISERIAL, BORENSTEIN,
        "Cohen's d of group 1 against group 2, over the pooled standard deviation", family="groups"),
    Rule("g", "from_d", ("n1", "n2"), ("n",), lambda x: _from_d(_g(x), x),
        "d = g / J(n1 + n2 - 2), then " + POINT_BISERIAL,
        "Hedges (1981), doi:10.3102/10769986006002107; metafor SMD and RPB", "Hedges' g", family="groups"),
    Rule("means", "from_groups", ("m1", "sd1", "m2", "sd2", "n1", "n2"), (), lambda x: _from_d(_means(x), x),
        "d = (m1 - m2) / s_pooled, then " + POINT_BISERIAL, BORENSTEIN, "", family="groups"),
    Rule("d_split", "from_biserial", ("n1", "n2"), ("n",), lambda x: _split(x["es_value"], x),
        "r_pb from d, then " + BISERIAL, JACOBS,
        "Cohen's d between the parts of a continuous variable cut in two (group 1 is the upper part)", family="groups"),
    Rule("g_split", "from_biserial", ("n1", "n2"), ("n",), lambda x: _split(_g(x), x), "r_pb from g, then " + BISERIAL,
        JACOBS, "Hedges' g between the parts of a continuous variable cut in two", family="groups"),
    Rule("r_pb", "from_biserial", ("n1", "n2"), ("n",), lambda x: core.from_split(x["es_value"], x["n1"], x["n2"]),
        BISERIAL, JACOBS, "point-biserial r with a continuous variable cut in two", family="groups"),
    Rule("d_extreme", "from_groups", ("n1", "n2", "p_upper", "p_lower"), ("n",), lambda x: _extreme(x["es_value"], x),
        EXTREME, TRUNCATED, "Cohen's d between the upper share p_upper and the lower share p_lower of everybody",
        family="groups"),
    Rule("means_extreme", "from_groups", ("m1", "sd1", "m2", "sd2", "n1", "n2", "p_upper", "p_lower"), (),
        lambda x: _extreme(_means(x), x), "d from the means, then " + EXTREME, TRUNCATED, "", family="groups"),
    Rule("or", "from_OR", ("n1", "n2"), ("n", "es_se", "es_lb", "es_ub"), lambda x: _odds(x, core.LOGISTIC_SD),
        "d = ln(OR) sqrt(3) / pi, then " + POINT_BISERIAL + ", var(d) = 3 se^2 / pi^2",
        "Hasselblad & Hedges (1995), doi:10.1037/0033-2909.117.1.167",
        "odds ratio of group 1 against group 2; es_se is the standard error of its logarithm", family="groups"),
    Rule("or_probit", "from_OR", ("n1", "n2"), ("n", "es_se", "es_lb", "es_ub"), lambda x: _odds(x, core.COX),
        "d = ln(OR) / 1.65, then " + POINT_BISERIAL + ", var(d) = se^2 / 1.65^2",
        "Cox & Snell (1989), Analysis of Binary Data; metafor D2ORN",
        "odds ratio of group 1 against group 2, the outcome behind it taken as normal", family="groups"),
)  # fmt: skip

RULES = {rule.es_type: rule for rule in (*STATISTIC_RULES, *GROUP_RULES)}
REPORTED = "reported"
# Words in es_calc for a correlation that somebody else computed from the data.
NOT_CONVERTED = ("", REPORTED, "author")
# What else the statistics are called, spelt as in a sheet: hedges_g.
OTHER_NAMES = {
    word.lower().replace("-", "_").replace(" ", "_"): term.value for term in STATISTICS.terms for word in term.also
}
