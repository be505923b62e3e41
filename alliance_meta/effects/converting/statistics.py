"""Conversions from test statistics, rank correlations and regression coefficients."""

from __future__ import annotations

import numpy as np

from alliance_meta.core.correlations import conversions as one
from alliance_meta.core.correlations import group_conversions as two
from alliance_meta.core.correlations.conversions import Converted
from alliance_meta.effects.converting.rule import Numbers, Rule, se_log_odds

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
    r, var, z = one.from_t(x["es_value"], x["df"])
    d = x["es_value"] * np.sqrt(1.0 / x["n1"] + 1.0 / x["n2"])
    groups = two.from_d(d, x["n1"], x["n2"])
    given = np.isfinite(groups.var_r)
    return Converted(r, np.where(given, groups.var_r, var), np.where(given, groups.var_z, z))


def _slope(x: Numbers) -> Converted:
    return one.from_partial_t(x["es_value"] / x["es_se"], x["df"])


STATISTIC_RULES = (
    Rule(
        "r",
        "reported",
        ("n",),
        SIZES[1:],
        lambda x: one.pearson(x["es_value"], x["n"]),
        f"r as it is; var(r) = (1 - r^2)^2 / (n - 1), {OF_R}",
        "Fisher (1921); metafor COR and ZCOR",
        "Pearson's correlation",
    ),
    Rule(
        "or_sd",
        "from_OR",
        ("n",),
        ("es_se", "es_lb", "es_ub"),
        lambda x: two.from_log_odds_per_sd(np.log(x["es_value"]), se_log_odds(x)),
        "r = b / sqrt(b^2 + pi^2/3), b = ln(OR); var by the delta method",
        "McKelvey & Zavoina (1975), doi:10.1080/0022250X.1975.9989847",
        "odds ratio per standard deviation of the predictor",
    ),
    Rule(
        "t",
        "from_t",
        ("df",),
        SIZES,
        _t,
        f"r = t / sqrt(t^2 + df), df = n - 2; {OF_R}, with n1 and n2 the variance of a point-biserial r",
        "exact; metafor COR and RPB",
        "t of a correlation, a simple regression or two groups",
    ),
    Rule(
        "f",
        "from_F",
        ("df", "es_sign"),
        SIZES,
        lambda x: one.from_f(x["es_value"], x["df"], x["es_sign"]),
        f"r = sqrt(F / (F + df)); {OF_R}",
        "F(1, df) = t^2; exact",
        "F with 1 and df degrees of freedom",
    ),
    Rule(
        "p",
        "from_p",
        ("df", "es_sign"),
        ("es_tails", *SIZES),
        lambda x: one.from_p(x["es_value"], x["df"], x["es_sign"], x["es_tails"]),
        f"t from the quantile of Student's t, then r = t / sqrt(t^2 + df); {OF_R}",
        "exact; metafor COR with pi",
        "p-value, two-tailed unless es_tails is 1",
    ),
    Rule(
        "chi2",
        "from_chi2",
        ("n", "es_sign"),
        ("n1", "n2"),
        lambda x: one.from_chi2(x["es_value"], x["n"], x["es_sign"]),
        f"r = sqrt(chi2 / n); {OF_R}",
        "phi of a 2 x 2 table; Rosenthal (1991), Meta-Analytic Procedures",
        "chi-squared with 1 degree of freedom",
    ),
    Rule(
        "eta2",
        "from_eta2",
        ("n", "es_sign"),
        ("df", "n1", "n2"),
        lambda x: one.from_eta2(x["es_value"], x["n"], x["es_sign"]),
        f"r = sqrt(eta2); {OF_R}",
        "eta2 = F / (F + df) for one degree of freedom; exact",
        "eta squared of an effect with 1 degree of freedom",
    ),
    Rule(
        "spearman",
        "from_rho",
        ("n",),
        (),
        lambda x: one.from_spearman(x["es_value"], x["n"]),
        "r = 2 sin(pi rho / 6); var from var(z) = (1 + rho^2/2) / (n - 3)",
        f"{RUPINSKI}; Bonett & Wright (2000), doi:10.1007/BF02294183",
        "Spearman's rank correlation",
    ),
    Rule(
        "kendall",
        "from_tau",
        ("n",),
        (),
        lambda x: one.from_kendall(x["es_value"], x["n"]),
        "r = sin(pi tau / 2); var from var(z) = .437 / (n - 4)",
        f"{RUPINSKI}; Fieller et al. (1957), doi:10.1093/biomet/44.3-4.470",
        "Kendall's tau",
    ),
    Rule(
        "beta",
        "from_beta",
        ("n",),
        (),
        lambda x: one.from_beta(x["es_value"], x["n"]),
        "r = beta + .05 for beta >= 0, else beta; var as that of an r",
        "Peterson & Brown (2005), doi:10.1037/0021-9010.90.1.175",
        "standardised regression coefficient",
        r_type="beta-converted",
        caution=BETA_CAUTION,
    ),
    Rule(
        "partial",
        "from_partial",
        ("df",),
        ("n", "n_predictors"),
        lambda x: one.partial(x["es_value"], x["df"]),
        "r as it is; var(r) = (1 - r^2)^2 / (df + 1), var(z) = 1/(df - 1)",
        "metafor PCOR and ZPCOR",
        "partial correlation",
        family="model",
        r_type="partial",
        caution=PARTIAL_CAUTION,
    ),
    Rule(
        "partial_t",
        "from_partial",
        ("df",),
        ("n", "n_predictors"),
        lambda x: one.from_partial_t(x["es_value"], x["df"]),
        "r = t / sqrt(t^2 + df), df = n - 1 - predictors; var(r) = (1 - r^2)^2 / (df + 1), var(z) = 1/(df - 1)",
        "Aloe & Becker (2012), doi:10.3102/1076998610396901; metafor PCOR and ZPCOR",
        "t of a coefficient in a multiple regression",
        family="model",
        r_type="partial",
        caution=PARTIAL_CAUTION,
    ),
    Rule(
        "semipartial_t",
        "from_partial",
        ("df", "r2", "n"),
        ("n_predictors",),
        lambda x: one.from_semipartial_t(x["es_value"], x["df"], x["r2"], x["n"]),
        "r = t sqrt((1 - R2) / df); var(r) = (R2^2 - 2 R2 + w + 1 - w^2) / n, w = R2 - r^2",
        "Aloe & Becker (2012), doi:10.3102/1076998610396901; metafor SPCOR",
        "t of a coefficient in a multiple regression with squared multiple correlation r2",
        family="model",
        r_type="semi-partial",
        caution=PARTIAL_CAUTION,
    ),
    Rule(
        "slope",
        "from_slope",
        ("es_se", "df"),
        ("n", "n_predictors"),
        _slope,
        "t = b / se, then r = t / sqrt(t^2 + df); zero-order for one predictor, partial for several",
        "exact; metafor COR and PCOR",
        "unstandardised regression coefficient with standard error es_se",
        family="model",
    ),
    Rule(
        "ns",
        "imputed_ns",
        ("n",),
        ("n1", "n2"),
        lambda x: one.pearson(np.zeros_like(x["n"]), x["n"]),
        f"r = 0; {OF_R}",
        "a convention; Pigott (2009) in The Handbook of Research Synthesis",
        "",
        caution=NS_CAUTION,
    ),
)
