"""Henmi and Copas's interval: a mean that small studies sway less, with an interval for heterogeneity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from alliance_meta.bias.given import Adjusted, given
from alliance_meta.bias.small_study.refitting import about, not_adjusted, one_per_study
from alliance_meta.core.bias.small_study import henmi_copas
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed

NO_PVAL = NotApplicable("the interval is not made by a test")


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class HenmiCopasResult(Adjusted):
    """The Henmi-Copas interval beside that of the fit.

    Attributes
    ----------
    estimate, se, ci_lb, ci_ub : float
        Equal-effects estimate with a standard error and an interval that allow for heterogeneity.
    tau2 : float
        DerSimonian-Laird estimate that the interval rests on.
    quantile : float
        What the standard error is multiplied by, in place of 1.96.
    fit_estimate, fit_ci_lb, fit_ci_ub : float
        The same from the fitted model, to compare with.
    k, studies, level, measure, notes
        As in every adjusted mean.
    """

    called: ClassVar[str] = "Henmi-Copas"
    assumes: ClassVar[str] = "large studies are less exposed to selection"

    tau2: float
    quantile: float
    fit_estimate: float
    fit_ci_lb: float
    fit_ci_ub: float

    def tidy(self) -> pd.DataFrame:
        """Return two rows, ``Henmi-Copas`` and ``fit``: ``estimate ci_lb ci_ub``, on the analysis scale."""
        rows = {
            self.called: (self.estimate, self.ci_lb, self.ci_ub),
            "fit": (self.fit_estimate, self.fit_ci_lb, self.fit_ci_ub),
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "ci_lb", "ci_ub"])

    def _content(self) -> Document:
        table = table_of(self.tidy(), dict.fromkeys(("estimate", "ci_lb", "ci_ub"), 4))
        return self._document(f"{self._title()[:-1]}; tau2 (DL) = {fixed(self.tau2)})", table)


def hc(fit: Any, *, rho: float = DEFAULT_RHO, level: float | None = None) -> HenmiCopasResult:
    """Give the mean effect and its interval in the form least exposed to missing small studies.

    When small studies without a finding stay unpublished, the ones left push a random-effects mean up, because it
    gives them nearly the weight of large studies. This interval is centred on the equal-effects mean, where large
    studies dominate, and is still as wide as the differences between studies demand.

    Parameters
    ----------
    fit : a fitted model
        Of any kind, without moderators. Its effects are used, its estimator of tau2 is not; where studies have
        several, the mean of each study.
    rho : float
        Assumed correlation of the sampling errors of one study's effects, for those means.
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
    Henmi-Copas (k = 16; 95%; tau2 (DL) = 0.0078)
    <BLANKLINE>
                 estimate   ci_lb   ci_ub
    Henmi-Copas    0.1252  0.0400  0.2104
    fit            0.1499  0.0801  0.2198
    """
    source = given(fit, "hc", level=level)
    used = one_per_study(source, "hc", rho)
    row = fit.predict(level=source.level).iloc[0]
    own: dict[str, Any] = {
        f"fit_{name}": float(row[key]) for name, key in (("estimate", "pred"), ("ci_lb", "ci_lb"), ("ci_ub", "ci_ub"))
    }
    if used.k < 2:
        gone = NotApplicable("needs at least 2 effects")
        return not_adjusted(HenmiCopasResult, source, gone.reason, tau2=gone, quantile=gone, **own)
    found = henmi_copas(used.effects.yi, used.effects.vi, level=source.level)
    numbers: dict[str, Any] = {
        name: getattr(found, name) for name in ("estimate", "se", "ci_lb", "ci_ub", "tau2", "quantile")
    }
    return HenmiCopasResult(**numbers, pval=NO_PVAL, **about(source), notes=used.notes, **own)
