"""Which of several models predicts studies that it has not seen best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults
from alliance_meta.bayes.sampled.loo import SampledLeaveOneOut
from alliance_meta.bayes.sampled.quantities import FAILED
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.core.bayes.average import stacking_weights
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result, said
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document, Kind, table_of

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.evidence import LeaveOneOut

    Fit = BayesianResults | BayesianMultilevelResults | SampledPosterior

# Differences of elpd below this are small whatever their standard error (Sivula, Magnusson, Matamoros & Vehtari 2020,
# arXiv:2008.10296).
SMALL = 4.0


@dataclass(frozen=True, eq=False, repr=False)
class LooComparison(Result):
    """Models compared by how well each predicts every study from the others.

    Attributes
    ----------
    table : DataFrame
        See `tidy`.
    pointwise : DataFrame
        Log predictive density of each unit (rows) by model (columns).
    unit : str
        What was left out at once: ``"effect"`` or ``"cluster"``.
    failed : tuple of str
        Models whose draws fail their checks of convergence.
    """

    table: pd.DataFrame
    pointwise: pd.DataFrame
    unit: str
    failed: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per model, the best first, unrounded.

        Returns
        -------
        DataFrame
            ``elpd`` (larger is better) and ``elpd_se``, ``p_loo`` (effective number of parameters), ``elpd_diff`` from
            the best model (0 or below) and its standard error ``se_diff``, the ``weight`` of the model in the mixture
            of all that predicts best (stacking), the ``method`` (exact or PSIS), and ``bad_k``, the number of units
            for which PSIS fails.
        """
        return self.table.copy()

    def _values(self) -> dict[str, Any]:
        table = {"model": list(self.table.index), **columns_of(self.table)}
        return {"failed": list(self.failed), "unit": self.unit, "models": table}

    def _content(self) -> Document:
        kinds: dict[str, Kind] = dict.fromkeys(("elpd", "elpd_se", "p_loo", "elpd_diff", "se_diff"), 2)
        return Document(
            f"Leave-one-out comparison of {len(self.table)} models ({len(self.pointwise)} {self.unit}s)",
            (),
            [table_of(self.table, kinds | {"weight": 3}, heads={"elpd_diff": "diff"}), [self._verdict()]],
            said(self.notes),
            [f"{FAILED} That holds for {', '.join(self.failed)}."] if self.failed else [],
        )

    def _verdict(self) -> str:
        best = self.table.index[0]
        near = [
            str(name)
            for name, row in self.table.iloc[1:].iterrows()
            if row["elpd_diff"] > -SMALL or not row["elpd_diff"] < -2.0 * float(row["se_diff"])
        ]
        if not near:
            return f"{best} predicts clearly better than the other{'s' if len(self.table) > 2 else ''}."
        return f"{best} predicts best, but not clearly better than {', '.join(near)}."


def compare(fits: Mapping[str, Fit], *, cluster: str | None = None) -> LooComparison:
    """Compare models of the same effects by leave-one-out, exact and sampled ones alike.

    Which model predicts each study best when it has not seen that study?

    Parameters
    ----------
    fits : mapping of str to BayesianResults, BayesianMultilevelResults or SampledPosterior
        At least two, by the name under which they are printed.
    cluster : str, optional
        For three-level results: the grouping, such as ``"study_id"``, of which whole clusters are left out.

    Returns
    -------
    LooComparison

    Raises
    ------
    InputError
        Fewer than two fits, other results, fits of different effects or that leave out different units, or a study
        without which a posterior is improper.

    Warns
    -----
    ConvergenceWarning
        PSIS fails for a unit; it also stands in ``.notes``.

    Notes
    -----
    ``elpd_diff`` sums the differences of the log predictive densities over units; ``se_diff`` is the standard error of
    that sum, and too small where units are few. Weights by stacking (Yao, Vehtari, Simpson & Gelman 2018,
    doi:10.1214/17-BA1091). Bayes factors answer another question: which model, with its priors, made the data more
    probable.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> found = am.bayes.compare({"all": am.BayesianModel(es).fit(), "year": am.BayesianModel(es, mods="year").fit()})
    >>> found.tidy()[["elpd_diff", "se_diff", "weight"]].round(2).to_dict("index")["year"]
    {'elpd_diff': -1.09, 'se_diff': 0.33, 'weight': 0.0}
    """
    _check(fits)
    left = {name: _loo(fit, cluster) for name, fit in fits.items()}
    units = {name: tuple(map(str, one.table.index)) for name, one in left.items()}
    first, *others = units
    for name in others:
        if units[name] != units[first]:
            raise InputError(
                f"{first!r} leaves out {len(units[first])} units ({units[first][0]}, ...) and {name!r} "
                f"{len(units[name])} ({units[name][0]}, ...); they must be the same: for clusters of effects give "
                "cluster=, such as 'study_id'"
            )
    lacking = [f"{name!r} ({one.elpd.reason})" for name, one in left.items() if isinstance(one.elpd, NotApplicable)]
    if lacking:
        raise InputError(f"no leave-one-out for {'; '.join(lacking)}; give proper priors")
    pointwise = pd.DataFrame(
        {name: one.table["elpd"].astype(float) for name, one in left.items()},
        index=pd.Index(units[first], name="label"),
    )
    k = next(iter(fits.values())).k
    return LooComparison(
        table=_table(left, pointwise.to_numpy()),
        pointwise=pointwise,
        unit="effect" if len(pointwise) == k else "cluster",
        failed=tuple(name for name, one in left.items() if getattr(one, "problems", ())),
        notes=merge_notes(*(_notes(name, one) for name, one in left.items())),
    )


def _notes(name: str, left: Any) -> list[Note]:
    return [Note(note.code, f"{name}: {note.message}") for note in getattr(left, "notes", ())]


def _check(fits: Mapping[str, Fit]) -> None:
    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise InputError("compare needs at least two fits by name, such as {'normal': fit, 'year': other}")
    kinds = BayesianResults | BayesianMultilevelResults | SampledPosterior
    wrong = [f"{name!r} ({type(fit).__name__})" for name, fit in fits.items() if not isinstance(fit, kinds)]
    if wrong:
        raise InputError(f"compare needs results of BayesianModel or bayes.sample, not {', '.join(wrong)}")
    (first, one), *others = fits.items()
    for name, other in others:
        a, b = one.effects, other.effects
        if a.k != b.k:
            raise InputError(
                f"{first!r} was fitted to {a.k} effects and {name!r} to {b.k}; compare models of the same effects: "
                "leave out those without a moderator beforehand"
            )
        same = a.slab == b.slab and np.array_equal(a.yi, b.yi) and np.array_equal(a.vi, b.vi)
        if not same:
            raise InputError(f"{first!r} and {name!r} were fitted to different effects, or in another order")


def _loo(fit: Fit, cluster: str | None) -> LeaveOneOut | SampledLeaveOneOut:
    return fit.loo(cluster=cluster) if isinstance(fit, BayesianMultilevelResults) else fit.loo()


def _table(left: Mapping[str, Any], pointwise: Array) -> pd.DataFrame:
    n, m = pointwise.shape
    best = int(pointwise.sum(axis=0).argmax())
    away = pointwise - pointwise[:, [best]]
    few = NotApplicable("needs at least 2 units")
    columns = {
        "elpd": pointwise.sum(axis=0),
        "elpd_se": [one.elpd_se for one in left.values()],
        "p_loo": [one.p_loo for one in left.values()],
        "elpd_diff": away.sum(axis=0),
        "se_diff": np.sqrt(n * away.var(axis=0, ddof=1)) if n > 1 else [few] * m,
        "weight": stacking_weights(pointwise),
        "method": ["PSIS" if isinstance(one, SampledLeaveOneOut) else "exact" for one in left.values()],
        "bad_k": [len(one.bad) if isinstance(one, SampledLeaveOneOut) else 0 for one in left.values()],
    }
    table = pd.DataFrame(columns, index=pd.Index(list(left), name="model"))
    return table.sort_values("elpd", ascending=False, kind="stable")
