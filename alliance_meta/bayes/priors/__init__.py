"""Priors for Bayesian models: of mean effects and coefficients, and of tau, the spread between studies.

The defaults are for correlations on Fisher's z (`MU`, `TAU`, `BETA_SD`). One person's worth of data has a
standard deviation of 1 there, so that a scale of .3 is a moderate part of it: half of ``HalfNormal(0.3)`` lies
below tau = .20 and 95% below .59, and a normal prior of the mean with standard deviation .5 puts 95% of the
mean correlations between -.75 and .75. Röver et al. (2021, doi:10.1002/jrsm.1475) argue for such weakly
informative priors of tau relative to that unit. For comparison, three collections with together 1,207
meta-analyses in psychology had an average tau of .10, .20 and .21 (Bierwiaczonek et al., Metascience conference
2025, abstract).

`TAU_FOUND` is what was found instead of what is plausible: the log-normal distribution of the taus above 0 among 202
meta-analyses of correlations in *Psychological Bulletin*, 1990 to 2013 (from the data of van Erp et al. 2017,
doi:10.5334/jopd.33; not corrected for unreliability, mostly on the scale of r). Its median is .14, and 95% lie
between .03 and .61; the taus themselves are spread a little less far upwards. In 14 of the 202 tau was estimated as
0, which a log-normal cannot be.
"""

from __future__ import annotations

from alliance_meta.bayes.priors.prior import (
    Cauchy,
    EffectPrior,
    Flat,
    HalfCauchy,
    HalfNormal,
    HalfT,
    Normal,
    Prior,
    StudentT,
    TauPrior,
)
from alliance_meta.bayes.priors.tau import (
    BergerDeely,
    DuMouchel,
    Exponential,
    Gamma,
    InverseGamma,
    Jeffreys,
    LogNormal,
    Lomax,
    Shrinkage,
    Uniform,
    parse,
)

MU = Normal(0.0, 0.5)
TAU = HalfNormal(0.3)
TAU_FOUND = LogNormal(-2.0, 0.77)
# Of what one standard deviation of a moderator changes.
BETA_SD = 0.25

__all__ = [
    "BETA_SD", "MU", "TAU", "TAU_FOUND", "BergerDeely", "Cauchy", "DuMouchel", "EffectPrior", "Exponential", "Flat",
    "Gamma", "HalfCauchy", "HalfNormal", "HalfT", "InverseGamma", "Jeffreys", "LogNormal", "Lomax", "Normal", "Prior",
    "Shrinkage", "StudentT", "TauPrior", "Uniform", "parse", "sensitivity_set",
]  # fmt: skip


def sensitivity_set() -> tuple[TauPrior, ...]:
    """Return the priors of tau that a conclusion should survive: lighter, heavier, away from 0, and flat.

    Returns
    -------
    tuple of TauPrior
        The default; a half-Cauchy of half its scale and one of the same scale, which give way to data in
        conflict with them; the inverse-gamma prior that R's RoBMA takes from the heterogeneity found in
        psychology (van Erp et al. 2017, doi:10.5334/jopd.33), halved from d to Fisher's z; a uniform prior.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> print(*priors.sensitivity_set(), sep=", ")
    half-normal(0.3), half-Cauchy(0.15), half-Cauchy(0.3), inverse-gamma(1, 0.075), uniform(0, 1)
    """
    return (TAU, HalfCauchy(0.15), HalfCauchy(0.3), InverseGamma(1.0, 0.075), Uniform(1.0))
