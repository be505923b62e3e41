"""A bound: how far unpublished studies can have moved the mean, from nothing but their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bias.favoured import Side, check_finite, few_effects, side_of, sign_of
from alliance_meta.bias.given import given
from alliance_meta.bias.small_study.refitting import model_of, one_per_study
from alliance_meta.core.bias import worst_case as core
from alliance_meta.effects.provenance import Provenance
from alliance_meta.errors import InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import format_count, format_level

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
    asked = _asked(missing)
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


def _asked(missing: Sequence[int]) -> list[int]:
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
