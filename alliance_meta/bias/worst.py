"""How bad it can be: significant results favoured without end, or a number of studies that nobody has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta.bias.given import (
    Adjusted,
    Given,
    Side,
    check_alpha,
    check_finite,
    few_effects,
    given,
    side_of,
    sign_of,
)
from alliance_meta.bias.small_study.refitting import model_of, one_per_study
from alliance_meta.core.bias import worst_case as core
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import STUDY
from alliance_meta.errors import InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, fixed, format_count, format_level

RATIOS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 200.0)
COLUMNS = ("estimate", "se", "ddf", "pval", "ci_lb", "ci_ub")
# Fewer degrees of freedom than this and a t test with Satterthwaite's is not to be trusted.
FEW_DF = 4.0


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class WorstCase(Adjusted):
    """The mean of what was not favoured, and how much favour would be enough.

    Attributes
    ----------
    side : {"right", "left"}
        The direction in which results are favoured.
    alpha : float
    tails : {1, 2}
    affirmative, nonaffirmative : int
        Effects that are significant in the favoured direction, and all others; the estimate rests on the latter.
    uncorrected : float
        The same weighted mean of all effects.
    ddf : float
        Degrees of freedom of the estimate.
    q : float
        The value that the s-values are about.
    svalue, svalue_limit : float
        How many times as likely as others affirmative effects would have to be published for the mean, or the limit of
        its interval that is nearer to 0, to be `q`; `NotApplicable` where it is beyond already, or no ratio suffices.
    tau2 : float
        REML's, which only serves to weight.
    curve : DataFrame
        One row per ratio, the last one infinite: ``ratio estimate se ddf pval ci_lb ci_ub``, and ``r r_lb r_ub`` where
        the effects are Fisher z.
    """

    called: ClassVar[str] = "worst case"
    assumes: ClassVar[str] = "only results that are not significant in the favoured direction were not selected"

    side: Side
    alpha: float
    tails: int
    affirmative: int
    nonaffirmative: int
    uncorrected: float
    ddf: float
    q: float
    svalue: float
    svalue_limit: float
    tau2: float
    curve: pd.DataFrame

    def _values(self) -> dict[str, Any]:
        return {**Adjusted._values(self), "curve": {str(name): list(self.curve[name].array) for name in self.curve}}

    def _content(self) -> Document:
        lines = (
            f"Affirmative effects: {self.affirmative}; others, whose mean the estimate is: {self.nonaffirmative}",
            f"Mean of all effects, weighted alike: {fixed(self.uncorrected)}",
            f"Ratio that brings the mean to {self.q:g}: {_ratio(self.svalue)}",
            f"Ratio that brings its limit to {self.q:g}: {_ratio(self.svalue_limit)}",
        )
        shown: dict[str, Kind] = {"ratio": "s", "estimate": 4, "ci_lb": 4, "ci_ub": 4}
        shown |= {name: 2 for name in ("r", "r_lb", "r_ub") if name in self.curve}
        rows = self.curve.assign(ratio=[_ratio(value) for value in self.curve["ratio"]])
        rows.index = pd.Index([""] * len(rows))
        curve = table_of(rows, shown, "Mean if affirmative effects are published so many times as likely as others")
        document = Adjusted._content(self)
        return replace(document, lines=lines, blocks=(*document.blocks, curve))


def _ratio(value: float) -> str:
    if value != value:
        return format(value, "")
    return "infinite" if math.isinf(value) else brief(value, 4)


def worst_case(
    fit: Any,
    *,
    q: float = 0.0,
    ratios: Sequence[float] = RATIOS,
    side: Side | None = None,
    alpha: float = 0.05,
    tails: int = 1,
    cluster: Any = STUDY,
    level: float | None = None,
) -> WorstCase:
    r"""Average only the results that nobody had a reason to prefer, and find the selection that would explain the rest.

    Call a result affirmative if it is significant in the direction that is hoped for. If affirmative results are
    published five times as readily as others, counting each of the others five times undoes that; if they are published
    infinitely more readily, the others alone are a fair sample. Their mean is the worst case. Where it still is what
    matters, no such preference for significance can explain the finding. Otherwise the *s-value* says how strong the
    preference must have been.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used, in any model: the mean has a cluster-robust standard error.
    q : float
        The value to which the mean, or its limit, is to be brought, on the analysis scale; not farther from 0 than the
        mean itself.
    ratios : sequence of float
        Ratios of the curve, 1 or more.
    side : {"right", "left"}, optional
        The favoured direction: positive or negative results. By default that of the mean.
    alpha : float
        Two-sided level of significance in the studies.
    tails : {1, 2}
        1: significant results in the favoured direction are preferred, which is the more cautious assumption; 2:
        significant ones in either.
    cluster : str or array-like
        What is independent: the study.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    WorstCase

    Raises
    ------
    InputError
        What is no fit, a model with moderators, a ratio below 1, an option that makes no sense.

    Notes
    -----
    .. math:: \hat\mu_\eta = \frac{\sum_i \pi_i w_i y_i}{\sum_i \pi_i w_i},\qquad w_i = \frac{1}{v_i + \hat\tau^2},
              \qquad \pi_i = 1 \text{ if affirmative, else } \eta

    R: ``PublicationBias::pubbias_meta(yi, vi, cluster, selection_ratio, return_worst_meta = TRUE)`` and
    ``pubbias_svalue``, with their standard errors and degrees of freedom: those of ``robumeta::robu`` with given
    weights, where `RVEModel` of the same effects and weights may have fewer degrees of freedom. The s-value of the mean
    is solved in closed form, that of the limit to twelve digits; R searches both up to 200. Mathur & VanderWeele (2020,
    doi:10.1111/rssc.12440). The mean of the results that are not affirmative errs towards 0 under p-hacking, too
    (Mathur 2024, doi:10.1002/jrsm.1701).

    Examples
    --------
    >>> from alliance_meta import bias, che, escalc, load_dataset
    >>> found = bias.worst_case(che(escalc(load_dataset("crede2010"))), ratios=[1, 5, 50])
    >>> print(found)
    worst case (k = 11 in 7 studies; 95%)
    Affirmative effects: 86; others, whose mean the estimate is: 11
    Mean of all effects, weighted alike: 0.4287
    Ratio that brings the mean to 0: n/a (no ratio is large enough)
    Ratio that brings its limit to 0: 40.81
    <BLANKLINE>
                estimate      se    ci_lb   ci_ub    pval       r     r_lb    r_ub
    worst case    0.0925  0.0719  -0.1193  0.3043  0.2770  0.0922  -0.1188  0.2953
    <BLANKLINE>
    Mean if affirmative effects are published so many times as likely as others
      ratio     estimate    ci_lb   ci_ub     r   r_lb  r_ub
      1           0.4287   0.3731  0.4842  0.40   0.36  0.45
      5           0.3352   0.2377  0.4327  0.32   0.23  0.41
      50          0.1513  -0.0201  0.3227  0.15  -0.02  0.31
      infinite    0.0925  -0.1193  0.3043  0.09  -0.12  0.30
    <BLANKLINE>
    Note: The worst case's interval rests on 3.5 degrees of freedom; below 4 do
      not trust it.
    """
    source = given(fit, "worst_case", cluster=cluster, level=level)
    check_alpha(alpha)
    if tails not in (1, 2):
        raise InputError(f"tails={tails!r} is neither 1 nor 2")
    check_finite(q=q)
    asked = _asked(ratios)
    sign = sign_of(source, side)
    affirmative = core.affirmative(source.yi, source.sei, sign=sign, alpha=alpha, tails=tails)
    tau2 = core.naive_tau2(source.yi, source.vi)
    effects = core.Effects(source.yi, source.vi, source.cluster, affirmative, tau2, source.level)
    curve = _curve(source, effects, asked)
    left = ~affirmative
    last = curve.iloc[-1]
    plain = effects.mean(1.0)
    svalue, svalue_limit = _svalues(effects, plain, sign, float(q))
    return WorstCase(
        **{name: last[name] for name in ("estimate", "se", "ddf", "pval", "ci_lb", "ci_ub")},
        k=int(left.sum()),
        studies=len(np.unique(source.cluster[left])),
        level=source.level,
        measure=source.effects.measure,
        provenance=source.effects.provenance,
        side=side_of(sign),
        alpha=alpha,
        tails=tails,
        affirmative=int(affirmative.sum()),
        nonaffirmative=int(left.sum()),
        uncorrected=plain.estimate,
        q=float(q),
        svalue=svalue,
        svalue_limit=svalue_limit,
        tau2=tau2,
        curve=curve,
        notes=merge_notes(_notes(effects, last["ddf"])),
    )


def _asked(ratios: Sequence[float]) -> list[float]:
    found = sorted({float(ratio) for ratio in np.atleast_1d(np.asarray(ratios, dtype=float))} - {math.inf})
    if any(not ratio >= 1.0 for ratio in found):
        raise InputError(
            f"ratios={list(ratios)} must be 1 or more: how many times as likely affirmative effects appear"
        )
    return [*found, math.inf]


def _curve(source: Given, effects: core.Effects, ratios: list[float]) -> pd.DataFrame:
    rows = [_row(effects, ratio) for ratio in ratios]
    curve = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in ("ratio", *COLUMNS)})
    if source.effects.measure == "ZCOR":
        for name, own in (("r", "estimate"), ("r_lb", "ci_lb"), ("r_ub", "ci_ub")):
            curve[name] = pd.Series([z if z != z else math.tanh(z) for z in curve[own]], dtype=object)
    return curve


def _row(effects: core.Effects, ratio: float) -> dict[str, float]:
    """Return one row of the curve, with the reason where a number is lacking."""
    if math.isinf(ratio) and effects.affirmative.all():
        return {"ratio": ratio, **dict.fromkeys(COLUMNS, NotApplicable("every effect is affirmative"))}
    found = effects.mean(ratio)
    values = {name: getattr(found, "df" if name == "ddf" else name) for name in COLUMNS}
    why = NotApplicable("rests on a single study, which has no robust standard error")
    return {"ratio": ratio, **{name: value if value == value else why for name, value in values.items()}}


def _svalues(effects: core.Effects, plain: core.Mean, sign: float, q: float) -> tuple[float, float]:
    """Return the ratio that brings the mean to q, and that for its limit, each with the reason where there is none."""
    limit = plain.ci_lb if sign > 0 else plain.ci_ub
    if not effects.affirmative.any():
        gone = NotApplicable("no effect is affirmative, so that this selection changes nothing")
        return gone, gone
    if effects.affirmative.all():
        gone = NotApplicable("every effect is affirmative, so that this selection changes nothing")
        return gone, gone
    never = NotApplicable("no ratio is large enough")
    beyond = NotApplicable("it is there or beyond without any selection")
    if sign * (plain.estimate - q) <= 0:
        return beyond, beyond
    ratio = effects.ratio_for_estimate(q)
    if limit != limit:
        return (ratio if ratio == ratio else never), NotApplicable("the mean has no robust interval")
    if sign * (limit - q) <= 0:
        return (ratio if ratio == ratio else never), beyond
    own = effects.ratio_for_limit(q, sign=sign)
    return (ratio if ratio == ratio else never), (own if own == own else never)


def _notes(effects: core.Effects, ddf: float) -> list[Note]:
    left = int((~effects.affirmative).sum())
    notes = list(few_effects(left, "their mean", "Effects that are not affirmative"))
    if ddf < FEW_DF:
        notes.append(
            Note(
                "few-df",
                f"The worst case's interval rests on {fixed(ddf, 1)} degrees of freedom; below 4 do not trust it.",
            )
        )
    return notes


MISSING = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class UnseenStudies(Result):
    """How far so many unpublished studies can have moved the mean.

    Attributes
    ----------
    estimate, ci_lb, ci_ub : float
        The mean of the published studies, without any correction.
    tau2 : float
    q : float
    missing_estimate, missing_limit : float
        The least number of unpublished studies that can have moved the mean, or the limit of its interval that is
        nearer to 0, from `q` to where it is; 0 where it is not beyond `q`, infinite where a million times the published
        ones cannot.
    side : {"right", "left"}
        The direction in which results are favoured.
    k : int
        Published studies.
    level : float
    measure : str
    table : DataFrame
        What `tidy` returns.
    provenance : Provenance
    """

    estimate: float
    ci_lb: float
    ci_ub: float
    tau2: float
    q: float
    missing_estimate: float
    missing_limit: float
    side: Side
    k: int
    level: float
    measure: str
    table: pd.DataFrame
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per number of unpublished studies.

        Columns ``bias estimate ci_lb ci_ub``, and ``r r_lb r_ub`` where the effects are Fisher z.
        """
        return self.table

    def _content(self) -> Document:
        title = f"Largest bias from unpublished studies (k = {self.k} published; {format_level(self.level)})"
        lines = (
            f"Unpublished studies that could move the mean from {self.q:g}: {_count(self.missing_estimate)}",
            f"Unpublished studies that could move its limit from {self.q:g}: {_count(self.missing_limit)}",
        )
        table = table_of(self.table, dict.fromkeys(self.table.columns, 4), label="unpublished")
        return self._document(title, table, lines=lines)

    def _values(self) -> dict[str, Any]:
        own = self._these(*(name for name in self.__dataclass_fields__ if name not in ("notes", "provenance", "table")))
        return {**own, **Result._values(self)}


def _count(value: float) -> str:
    return format(value, "") if value != value else "no number" if math.isinf(value) else format_count(value)


def unseen(
    fit: Any,
    *,
    missing: Sequence[int] = MISSING,
    q: float = 0.0,
    side: Side | None = None,
    level: float | None = None,
) -> UnseenStudies:
    r"""Bound how much the mean can be inflated if so many studies, or outcomes, were not published.

    A registry, a list of dissertations or the methods section of a paper may tell that ten more studies measured the
    alliance and never reported its correlation with outcome. However those ten were selected, as long as larger studies
    were at least as likely to be published as smaller ones, the mean cannot be further off than the bound says. It
    needs no idea of why results were left out, only how many; in return it is wide.

    Parameters
    ----------
    fit : a fitted model without moderators
        Of a `RandomEffectsModel` of one effect per study, mean and tau2 are used. Otherwise the effects of each study
        are averaged (sampling errors taken to correlate as `aggregate` takes them to) and fitted again by REML.
    missing : sequence of int
        Numbers of unpublished studies.
    q : float
        The mean that the two numbers of `missing_estimate` and `missing_limit` are about, on the analysis scale.
    side : {"right", "left"}, optional
        The favoured direction: positive or negative results. By default that of the mean.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    UnseenStudies

    Raises
    ------
    InputError
        What is no fit, a model with moderators, a negative number of studies.

    Notes
    -----
    .. math:: |b| \le \frac{k + m}{k}\, \phi\Big(\Phi^{-1}\Big(\frac{k}{k + m}\Big)\Big)\,
              \frac{\sum_i (v_i + \tau^2)^{-1/2}}{\sum_i (v_i + \tau^2)^{-1}}

    R: ``metasens::orbbound(x, k.suspect = m)``. Copas & Jackson (2004, doi:10.1111/j.0006-341X.2004.00161.x). As there,
    the limits are shifted by the bias and not widened, and tau2 is that of the published studies.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.unseen(fit, missing=[1, 5, 20]))
    Largest bias from unpublished studies (k = 16 published; 95%)
    Unpublished studies that could move the mean from 0: 42
    Unpublished studies that could move its limit from 0: 11
    <BLANKLINE>
    unpublished     bias  estimate    ci_lb   ci_ub       r     r_lb    r_ub
    1            -0.0155    0.1345   0.0646  0.2043  0.1337   0.0645  0.2015
    5            -0.0504    0.0995   0.0297  0.1694  0.0992   0.0297  0.1678
    20           -0.1102    0.0397  -0.0302  0.1095  0.0397  -0.0302  0.1091
    """
    source = given(fit, "unseen", level=level)
    asked = _missing_asked(missing)
    check_finite(q=q)
    sign = sign_of(source, side)
    model = one_per_study(source, "unseen", DEFAULT_RHO)
    if model.fitted.own_weights is not None:
        model = model_of(source, weights=None)
    estimate, tau2 = float(model.beta[0]), float(model.tau2)
    limits = model.predict(level=source.level).iloc[0]
    ci_lb, ci_ub = float(limits["ci_lb"]), float(limits["ci_ub"])
    bias = core.largest_bias(model.effects.vi, tau2, np.array(asked, dtype=float))
    near = ci_lb if sign > 0 else ci_ub
    least = [core.least_missing(model.effects.vi, tau2, sign * (value - q)) for value in (estimate, near)]
    return UnseenStudies(
        estimate=estimate,
        ci_lb=ci_lb,
        ci_ub=ci_ub,
        tau2=tau2,
        q=float(q),
        missing_estimate=least[0],
        missing_limit=least[1],
        side=side_of(sign),
        k=model.k,
        level=source.level,
        measure=source.effects.measure,
        provenance=source.effects.provenance,
        table=_table(asked, -sign * bias, (estimate, ci_lb, ci_ub), source.effects.measure),
        notes=merge_notes(model.notes, few_effects(model.k, "the bound", "Published studies")),
    )


def _missing_asked(missing: Sequence[int]) -> list[int]:
    found = np.atleast_1d(np.asarray(missing, dtype=float))
    if not (np.isfinite(found).all() and (found >= 0).all() and (found == np.round(found)).all()):
        raise InputError(f"missing={missing!r} must hold numbers of studies: whole, and 0 or more")
    return sorted({int(one) for one in found})


def _table(missing: list[int], shift: Any, values: tuple[float, float, float], measure: str) -> pd.DataFrame:
    table = pd.DataFrame({"bias": shift}, index=pd.Index(missing, name="missing"))
    for name, value in zip(("estimate", "ci_lb", "ci_ub"), values, strict=True):
        table[name] = value + table["bias"]
    if measure == "ZCOR":
        for name, own in (("r", "estimate"), ("r_lb", "ci_lb"), ("r_ub", "ci_ub")):
            table[name] = np.tanh(table[own])
    return table
