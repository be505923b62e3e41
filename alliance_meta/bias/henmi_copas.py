"""Henmi and Copas's interval: a mean that small studies sway less, with an interval for heterogeneity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from alliance_meta.core.univariate.henmi_copas import henmi_copas
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.result import Result
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, level_text


@dataclass(frozen=True, slots=True, repr=False)
class HenmiCopasResult(Result):
    """The Henmi-Copas interval beside that of the fit.

    Attributes
    ----------
    estimate, se, ci_lb, ci_ub : float
        Equal-effects estimate with a standard error and an interval that allow for heterogeneity.
    tau2 : float
        DerSimonian-Laird estimate that the interval rests on.
    quantile : float
        What the standard error is multiplied by, in place of 1.96.
    level : float
    fit_estimate, fit_ci_lb, fit_ci_ub : float
        The same from the fitted model, to compare with.
    k : int
    notes : tuple of Note
    """

    estimate: float
    se: float
    ci_lb: float
    ci_ub: float
    tau2: float
    quantile: float
    level: float
    fit_estimate: float
    fit_ci_lb: float
    fit_ci_ub: float
    k: int
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return two rows, ``Henmi-Copas`` and ``fit``: ``estimate ci_lb ci_ub``, on the analysis scale."""
        rows = {
            "Henmi-Copas": (self.estimate, self.ci_lb, self.ci_ub),
            "fit": (self.fit_estimate, self.fit_ci_lb, self.fit_ci_ub),
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "ci_lb", "ci_ub"])

    def _values(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notes"}

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        title = f"Henmi-Copas interval (k = {self.k}; {level_text(self.level)}; tau2 (DL) = {fixed(self.tau2)})"
        table = table_of(self.tidy(), dict.fromkeys(("estimate", "ci_lb", "ci_ub"), 4))
        return self._document(title, table)


def hc(fit: RandomEffectsResults, *, level: float | None = None) -> HenmiCopasResult:
    """Give the mean effect and its interval in the form least exposed to missing small studies.

    When small studies without a finding stay unpublished, the ones left push a random-effects mean up, because it
    gives them nearly the weight of large studies. This interval is centred on the equal-effects mean, where large
    studies dominate, and is still as wide as the differences between studies demand.

    Parameters
    ----------
    fit : RandomEffectsResults
        A model without moderators. Its effects are used, its estimator of tau2 is not.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    HenmiCopasResult
        Every number is `NotApplicable` with a single study.

    Raises
    ------
    InputError
        A model with moderators.

    Notes
    -----
    R: ``hc(fit)``. Henmi & Copas (2010, doi:10.1002/sim.4029): tau2 by DerSimonian and Laird; the distribution of
    the standardised estimate from the joint distribution of estimate and Q, the latter by a gamma distribution.
    The integral and its root are found to twelve digits; R stops at four.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.hc(fit))
    Henmi-Copas interval (k = 16; 95 %; tau2 (DL) = 0.0078)
    <BLANKLINE>
                 estimate   ci_lb   ci_ub
    Henmi-Copas    0.1252  0.0400  0.2104
    fit            0.1499  0.0801  0.2198
    """
    check_fit(fit, "hc")
    used = fit._level(level)
    if fit.p != 1 or not fit.design.has_intercept:
        raise InputError("hc is defined for models without moderators; fit with mods='1'")
    row = fit.predict(level=used).iloc[0]
    own = float(row["pred"]), float(row["ci_lb"]), float(row["ci_ub"])
    if fit.k < 2:
        gone = NotApplicable("needs at least 2 effects")
        return HenmiCopasResult(gone, gone, gone, gone, gone, gone, used, *own, fit.k, fit.notes)
    found = henmi_copas(fit.effects.yi, fit.effects.vi, level=used)
    return HenmiCopasResult(
        estimate=found.estimate,
        se=found.se,
        ci_lb=found.ci_lb,
        ci_ub=found.ci_ub,
        tau2=found.tau2,
        quantile=found.quantile,
        level=used,
        fit_estimate=own[0],
        fit_ci_lb=own[1],
        fit_ci_ub=own[2],
        k=fit.k,
        notes=fit.notes,
    )
