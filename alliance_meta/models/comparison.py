"""Compare two nested models of the same effects."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_sf
from alliance_meta.errors import InputError, quiet
from alliance_meta.models.random_effects import fit_design
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import fixed, p_value

LIKELIHOODS = ("ML", "REML", "EE")
# Share of a column's length that may be left over when it is a combination of the larger model's columns.
SAME_SPACE = 1e-8


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison(Result):
    """Two models and the likelihood-ratio test between them.

    Attributes
    ----------
    full, reduced : RandomEffectsResults
        The models compared; refitted by maximum likelihood where a note says so.
    LRT : float
        Likelihood-ratio statistic, twice the difference of the log-likelihoods.
    df : int
        Parameters that the reduced model lacks.
    pval : float
    null : str
        The null hypothesis in words.
    """

    full: RandomEffectsResults
    reduced: RandomEffectsResults
    LRT: float
    df: int
    pval: float
    null: str
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return a row per model: ``formula method parameters loglik AIC BIC AICc tau2 QE``."""
        return pd.DataFrame.from_dict(self._rows(), orient="index")

    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = {}
        restricted = "REML" in (self.full.method, self.reduced.method)
        for name, fit in (("full", self.full), ("reduced", self.reduced)):
            rows[name] = {
                "formula": fit.design.formula,
                "method": fit.method,
                "parameters": _parameters(fit),
                "loglik": _loglik(fit, restricted),
                **_criteria(fit, restricted),
                "tau2": fit.tau2,
                "QE": fit.QE,
            }
        return rows

    def _values(self) -> dict[str, Any]:
        return {
            "models": self._rows(),
            "LRT": self.LRT,
            "df": self.df,
            "pval": self.pval,
            "null": self.null,
        }

    def _content(self) -> Document:
        test = f"chi2(df = {self.df}) = {fixed(self.LRT)}, p {p_value(self.pval)}"
        kinds: dict[str, Kind] = {"parameters": 0, **dict.fromkeys(("AIC", "BIC", "AICc", "loglik", "tau2"), 4)}
        return self._document(
            f"Likelihood-ratio test: {test}",
            table_of(self.tidy(), kinds, heads={"parameters": "df", "loglik": "logLik"}),
            lines=[f"full: {self.full.design.formula}   reduced: {self.reduced.design.formula}"],
        )


def anova(full: RandomEffectsResults, reduced: RandomEffectsResults) -> ModelComparison:
    """Ask whether the larger of two nested models describes the effects better than chance would let it.

    Parameters
    ----------
    full, reduced : RandomEffectsResults
        Models of the same effects, by ``ML`` or ``REML``; every column of the reduced design is a combination of
        the full one's. An equal-effects model may be the reduced one, which tests tau2. The order does not matter.

    Returns
    -------
    ModelComparison

    Raises
    ------
    InputError
        Different effects, models that are not nested, another estimator than ML, REML or EE, given weights or
        a given tau2.

    Notes
    -----
    R: ``anova(full, reduced, refit = TRUE)``. Restricted likelihoods of different moderators are not comparable:
    REML fits are then refitted by maximum likelihood, and a note says so. The statistic is referred to chi-squared
    with as many degrees of freedom as there are parameters more; for tau2 alone, which cannot be below 0, half of
    that p-value is given (Self & Liang 1987, doi:10.1080/01621459.1987.10478472).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.models import anova
    >>> es = escalc(load_dataset("molloy2014"))
    >>> fits = [RandomEffectsModel(es, mods=mods, method="ML").fit() for mods in ("quality", "1")]
    >>> print(anova(*fits))
    Likelihood-ratio test: chi2(df = 1) = 0.9132, p = 0.3393
    full: quality   reduced: 1
    <BLANKLINE>
             df       AIC       BIC      AICc   logLik    tau2
    full      3  -14.4790  -12.1612  -12.4790  10.2395  0.0045
    reduced   2  -15.5658  -14.0206  -14.6427   9.7829  0.0069
    """
    for fit in (full, reduced):
        _check(fit)
    if _parameters(full) < _parameters(reduced):
        full, reduced = reduced, full
    _check_pair(full, reduced)
    notes: list[Note] = []
    same = full.p == reduced.p
    if not same and "REML" in (full.method, reduced.method):
        full, reduced = _refit(full), _refit(reduced)
        notes.append(
            Note(
                "refitted-ml",
                "Both models were refitted by maximum likelihood: restricted likelihoods of different moderators "
                "cannot be compared.",
            )
        )
    restricted = "REML" in (full.method, reduced.method)
    LRT = max(0.0, 2.0 * (_loglik(full, restricted) - _loglik(reduced, restricted)))
    df = _parameters(full) - _parameters(reduced)
    pval = chi2_sf(LRT, df)
    notes += _bound_notes(full, reduced, same)
    if same:
        pval = 1.0 if LRT == 0 else 0.5 * pval
    null = "tau2 = 0" if same else "the coefficients that the reduced model lacks are 0"
    return ModelComparison(full, reduced, LRT, df, pval, null, merge_notes(full.notes, reduced.notes, notes))


def _bound_notes(full: RandomEffectsResults, reduced: RandomEffectsResults, same: bool) -> list[Note]:
    if full.method == reduced.method:
        return []
    if same:
        return [Note("half-p", "tau2 cannot be below 0: the p-value is half that of chi-squared with 1 df.")]
    message = "The models differ in tau2 too, which cannot be below 0: the p-value is on the cautious side."
    return [Note("tau2-and-moderators", message)]


def _check(fit: object) -> None:
    if not isinstance(fit, RandomEffectsResults):
        raise InputError(f"anova compares fitted models, not {type(fit).__name__}; call .fit() first")
    if fit.method not in LIKELIHOODS:
        raise InputError(f"a likelihood-ratio test needs method='ML' or 'REML', not {fit.method!r}; refit")
    if fit.settings.tau2 is not None or fit.settings.weights is not None:
        raise InputError(
            "a likelihood-ratio test needs the model's own tau2 and weights; refit without tau2=, weights="
        )


def _check_pair(full: RandomEffectsResults, reduced: RandomEffectsResults) -> None:
    one, two = full.effects, reduced.effects
    if full.k != reduced.k or not (np.array_equal(one.yi, two.yi) and np.array_equal(one.vi, two.vi)):
        raise InputError(
            f"the models are fitted to different effects (k = {full.k} and {reduced.k}); fit both to the effects that "
            "have every moderator of the larger one: model.effects of that fit"
        )
    if full.method == "EE" and reduced.method != "EE":
        raise InputError("the larger model has equal effects and the smaller random ones; they are not nested")
    if {full.method, reduced.method} == {"ML", "REML"}:
        raise InputError("one model was fitted by ML, the other by REML; fit both by the same method")
    if _parameters(full) == _parameters(reduced) or not _within(reduced.design.X, full.design.X):
        raise InputError(
            f"the models are not nested ({full.design.formula!r}, {reduced.design.formula!r}); compare their AICc, "
            "in glance(), after fitting both by ML"
        )


def _within(small: Array, large: Array) -> bool:
    Q = np.linalg.qr(large)[0]
    rest = small - Q @ (Q.T @ small)
    return bool((np.linalg.norm(rest, axis=0) <= SAME_SPACE * np.linalg.norm(small, axis=0)).all())


def _refit(fit: RandomEffectsResults) -> RandomEffectsResults:
    if fit.method != "REML":
        return fit
    with quiet():
        return fit_design(fit.effects, fit.design, replace(fit.settings, method="ML"))


def _parameters(fit: RandomEffectsResults) -> int:
    return fit.p + (fit.method != "EE")


def _loglik(fit: RandomEffectsResults, restricted: bool) -> float:
    return fit.fitted.loglik_reml if restricted else fit.fitted.loglik_ml


def _criteria(fit: RandomEffectsResults, restricted: bool) -> dict[str, float]:
    """Return AIC, BIC and AICc of the likelihood compared, as metafor counts observations."""
    m, n = _parameters(fit), fit.k - fit.p if restricted else fit.k
    deviance = -2.0 * _loglik(fit, restricted)
    usable = max(n, m + 2)
    return {
        "AIC": deviance + 2.0 * m,
        "BIC": deviance + m * math.log(n) if n > 0 else NotApplicable("needs k > p"),
        "AICc": deviance + 2.0 * m * usable / (usable - m - 1.0),
    }
