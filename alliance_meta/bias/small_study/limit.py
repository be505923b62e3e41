"""Rücker's limit meta-analysis: the mean that studies of infinite size would find."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta.bias.given import Adjusted, given
from alliance_meta.bias.small_study.refitting import (
    about,
    few_notes,
    not_adjusted,
    one_per_study,
    size_notes,
    why_no_slope,
)
from alliance_meta.core.bias.small_study import limit_meta
from alliance_meta.core.distributions import chi2_sf, critical_value, two_sided_p
from alliance_meta.effects.studies import STUDY
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, check_option, merge_notes
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, fixed, plain_df

Adjustment = Literal["beta0", "betalim", "mulim"]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class LimitMeta(Adjusted):
    """A limit meta-analysis.

    Attributes
    ----------
    adjustment : {"beta0", "betalim", "mulim"}
    tau2 : float
        The variance between studies that it rests on.
    alpha, beta : float
        Intercept and slope on the generalised radial plot: bias for each standard error, and the mean without it.
    Q, Q_small, Q_resid : float
        Heterogeneity, the part that goes with small studies, and the rest.
    Q_df : int
        Degrees of freedom of Q; Q_small has 1 and Q_resid one less than Q.
    Q_pval, Q_small_pval, Q_resid_pval : float
    G2 : float
        Heterogeneity that is left when small-study effects are taken away, 0 to 1.
    shrunken : DataFrame
        ``yi se limit`` by study: the effect, its standard error, and the effect in a study of infinite size.
    """

    called: ClassVar[str] = "Limit meta-analysis"
    assumes: ClassVar[str] = "bias grows with the total standard error, that of a study and between studies"

    adjustment: Adjustment
    tau2: float
    alpha: float
    beta: float
    Q: float
    Q_df: int
    Q_pval: float
    Q_small: float
    Q_small_pval: float
    Q_resid: float
    Q_resid_pval: float
    G2: float
    shrunken: pd.DataFrame

    def _values(self) -> dict[str, Any]:
        rows = self.shrunken.reset_index(names="label")
        own = {name: value for name, value in Adjusted._values(self).items() if name != "shrunken"}
        return own | {"shrunken": {str(name): rows[name].tolist() for name in rows}}

    def _content(self) -> Document:
        found = Adjusted._content(self)
        if isinstance(self.Q, NotApplicable):
            return found
        tests = (
            ("all", self.Q, self.Q_df, self.Q_pval),
            ("small-study effects", self.Q_small, 1, self.Q_small_pval),
            ("rest", self.Q_resid, self.Q_df - 1, self.Q_resid_pval),
        )
        rows = tuple((name, fixed(Q, 2), plain_df(df), bare_p(p)) for name, Q, df, p in tests)
        table = Table(("Heterogeneity", "Q", "df", "p"), rows)
        lines = [f"tau2 = {fixed(self.tau2)}; bias for each standard error {fixed(self.alpha)}; G2 = {fixed(self.G2)}"]
        return replace(found, lines=[*found.lines, *lines], blocks=[*found.blocks, table])


def limitmeta(
    fit: Any,
    *,
    adjustment: Adjustment = "beta0",
    cluster: Any = STUDY,
    rho: float = DEFAULT_RHO,
    level: float | None = None,
) -> LimitMeta:
    r"""Estimate the mean that studies would find if each of them were infinitely large, by Rücker's method.

    The random-effects model gets one more term: the less precise a study, the further its effect is pushed. With the
    push known, every study is thought to grow until its sampling error is gone; what its effect would then be is its
    shrunken effect, and what they have in common the limit. Unlike PET it keeps the heterogeneity between studies in
    the model, so that it corrects less where studies truly differ. Where studies have several effects, the mean of
    each study stands for it.

    Parameters
    ----------
    fit : a fitted model without moderators
        Univariate models also give the estimator of tau2.
    adjustment : {"beta0", "betalim", "mulim"}
        ``beta0``: the expectation of the extended model. ``betalim``: slope of the radial regression of the shrunken
        effects. ``mulim``: their equal-effects mean, which leaves bias that does not depend on precision.
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study.
    rho : float
        Assumed correlation of the sampling errors of one study, for the variance of its mean.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    LimitMeta
        `NotApplicable` numbers with fewer than 3 studies, or all of one precision.

    Raises
    ------
    InputError
        A model with moderators.

    Notes
    -----
    .. math:: y_i = \beta + \sqrt{v_i + \tau^2} \, (\alpha + \epsilon_i), \quad
              \beta_0 = \beta + \tau \alpha

    R: ``metasens::limitmeta(meta::metagen(yi, sqrt(vi)), method.adjust = "beta0")``. Rücker, Schwarzer, Carpenter,
    Binder & Schumacher (2011, doi:10.1093/biostatistics/kxq046); G2: Rücker, Carpenter & Schwarzer (2011,
    doi:10.1002/bimj.201000151).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> found = bias.limitmeta(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> round(found.estimate, 4), round(found.alpha, 2), round(found.G2, 2)
    (0.1096, 1.19, 0.8)
    """
    source = given(fit, "limitmeta", cluster=cluster, level=level)
    check_option("adjustment", adjustment, Adjustment)
    base = one_per_study(source, "limitmeta", rho)
    each = given(base, "limitmeta")
    why = why_no_slope(each, each.sei)
    shrunken = pd.DataFrame({"yi": each.yi, "se": each.sei}, index=pd.Index(base.effects.slab, name="study"))
    if why is not None:
        names = ("alpha", "beta", "Q", "Q_pval", "Q_small", "Q_small_pval", "Q_resid", "Q_resid_pval", "G2")
        gone = NotApplicable(why)
        own: dict[str, Any] = dict.fromkeys(names, gone)
        shrunken["limit"] = pd.Series([gone] * each.k, index=shrunken.index, dtype=object)
        return not_adjusted(
            LimitMeta, source, why, adjustment=adjustment, tau2=base.tau2, Q_df=each.k - 1, shrunken=shrunken, **own
        )
    found = limit_meta(each.yi, each.vi, max(base.tau2, 0.0))
    estimate, se = found.estimates[adjustment]
    half = critical_value(source.level, None) * se
    return LimitMeta(
        estimate=estimate,
        se=se,
        ci_lb=estimate - half,
        ci_ub=estimate + half,
        pval=float(two_sided_p(np.array(estimate / se), None)),
        **about(source),
        adjustment=adjustment,
        tau2=base.tau2,
        alpha=found.alpha,
        beta=found.beta,
        Q=found.Q,
        Q_df=each.k - 1,
        Q_pval=chi2_sf(found.Q, each.k - 1),
        Q_small=found.Q_small,
        Q_small_pval=chi2_sf(found.Q_small, 1),
        Q_resid=found.Q_resid,
        Q_resid_pval=chi2_sf(found.Q_resid, each.k - 2),
        G2=found.G2,
        shrunken=shrunken.assign(limit=found.shrunken),
        notes=merge_notes(base.notes, size_notes(each, "sei"), few_notes(source)),
    )
