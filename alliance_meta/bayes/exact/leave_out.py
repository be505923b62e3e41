"""Exact leave-one-out: how the other studies predict each one, and the synthesis without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.bayes.marginals import INFINITE
from alliance_meta.core.bayes.deletion import delete_each
from alliance_meta.core.bayes.two_level import ExactPosterior
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.result import Result
from alliance_meta.results.export import columns_of
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.quantities import Quantities


@dataclass(frozen=True, eq=False, repr=False)
class LeaveOneOut(Result):
    """The predictions of each study from the others, by exact deletion.

    Attributes
    ----------
    elpd : float
        Expected log predictive density, the sum over studies; larger is better. For comparing models of the
        same effects.
    elpd_se : float
        Standard error of that sum as an estimate for new studies.
    p_loo : float
        Effective number of parameters.
    error_bound : float
        Bound of the numerical error of `elpd`.
    table : DataFrame
        One row per study; see `tidy`.

    Notes
    -----
    Vehtari, Gelman & Gabry (2017, doi:10.1007/s11222-016-9696-4) approximate what is computed exactly here.
    """

    elpd: float
    elpd_se: float
    p_loo: float
    error_bound: float
    table: pd.DataFrame

    def tidy(self) -> pd.DataFrame:
        """Return one row per study, unrounded.

        Returns
        -------
        DataFrame
            ``elpd`` (log density of the study's result given the others), ``pit`` (probability of a result up to
            it; near 0 or 1: a surprise), posterior mean and sd of each coefficient without the study
            (``mean[mu]``, ``sd[mu]``), and the mean of tau without it. With whole groups left out one row per
            group, with ``k``, how many effects it has, and ``elpd`` of all of them together; ``pit`` is for single
            results.
        """
        return self.table.copy()

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        whole = self.table.index.name != "label"
        number = f"{len(self.table)} groups of {self.table.index.name}" if whole else f"k = {len(self.table)}"
        return Document(
            f"elpd = {fixed(self.elpd, 2)} (SE {fixed(self.elpd_se, 2)}), p_loo = {fixed(self.p_loo, 2)}, {number}; "
            "exact leave-one-out"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        totals = {name: getattr(self, name) for name in ("elpd", "elpd_se", "p_loo", "error_bound")}
        return {**totals, "studies": {"slab": list(self.table.index), **columns_of(self.table)}}


def leave_one_out(fit: Quantities) -> LeaveOneOut:
    """Leave out each study of a fit in turn."""
    exact: ExactPosterior = fit.exact
    left = delete_each(exact)
    finite = exact.problem.finite
    T = coordinates(fit.design)
    mean = left.mean @ T.T
    columns: dict[str, Any] = {"elpd": left.log_predictive, "pit": left.pit}
    for j, name in enumerate(fit.names):
        spread = _spread(left.covariance, T[j])
        columns[f"mean[{name}]"] = mean[:, j] if finite(1, of="coefficients", left_out=1) else None
        columns[f"sd[{name}]"] = spread if finite(2, of="coefficients", left_out=1) else None
    columns["mean[tau]"] = left.tau if finite(1, of="tau", left_out=1) else None
    within = float(exact.observations().log_pdf(fit.effects.yi).sum())
    labels = pd.Index(fit.effects.slab, name="label")
    return assembled(columns, labels, left.rows, within, left.error, what="study")


def assembled(
    columns: Mapping[str, Any], labels: pd.Index, there: Any, within: float, error: Array, *, what: str, **more: Any
) -> LeaveOneOut:
    """Return what leaving out each unit gave; `there` are those without which the posterior exists.

    `within` is the log density of all units given all, `more` are columns that every unit has.
    """
    n = len(labels)
    none = NotApplicable(f"without this {what} the posterior is improper")
    table = more | {name: _filled(values, there, n, none) for name, values in columns.items()}
    out = pd.DataFrame(table, index=labels)
    if len(there) < n:
        lost = ", ".join(str(labels[i]) for i in sorted({*range(n)} - {*np.asarray(there).tolist()}))
        none = NotApplicable(f"{none.reason}: {lost}")
        return LeaveOneOut(none, none, none, none, out)
    elpd = columns["elpd"]
    se = float(np.sqrt(n * elpd.var(ddof=1))) if n > 1 else NotApplicable("needs at least 2 studies")
    total = float(elpd.sum())
    return LeaveOneOut(total, se, within - total, float(error.sum()), out)


def _spread(covariance: Array, row: Array) -> Array:
    return np.sqrt(np.einsum("i,mij,j->m", row, covariance, row))


def _filled(values: Array | None, there: Any, n: int, none: NotApplicable) -> Any:
    """Return one value per unit, with the reason where there is none."""
    if values is None:
        return np.array([NotApplicable(INFINITE)] * n, dtype=object)
    if len(there) == n:
        return values
    out = np.array([none] * n, dtype=object)
    out[there] = values
    return out
