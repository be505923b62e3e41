"""Every conversion by the name of the statistic."""

from __future__ import annotations

from alliance_meta.effects.converting.groups import GROUP_RULES
from alliance_meta.effects.converting.statistics import STATISTIC_RULES

RULES = {rule.es_type: rule for rule in (*STATISTIC_RULES, *GROUP_RULES)}
REPORTED = "reported"
# Words in es_calc for a correlation that somebody else computed from the data.
NOT_CONVERTED = ("", REPORTED, "author")
OTHER_NAMES = {
    "cor": "r",
    "pearson": "r",
    "correlation": "r",
    REPORTED: "r",
    "cohen_d": "d",
    "cohens_d": "d",
    "smd": "g",
    "hedges_g": "g",
    "chisq": "chi2",
    "chi_square": "chi2",
    "chi_squared": "chi2",
    "odds_ratio": "or",
    "eta_squared": "eta2",
    "etasq": "eta2",
    "rho": "spearman",
    "spearman_rho": "spearman",
    "tau": "kendall",
    "kendall_tau": "kendall",
    "std_beta": "beta",
    "partial_r": "partial",
    "b": "slope",
    "n.s.": "ns",
}
