"""`vevea_woods`: the adjusted mean under given weights, where there is too little to estimate them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from alliance_meta.bias.given import given
from alliance_meta.bias.selection_models.result import SelectionResult
from alliance_meta.bias.selection_models.weights import selmodel
from alliance_meta.core.selection.weights import Alternative
from alliance_meta.effects.provenance import Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_option, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import format_level

# Vevea & Woods (2005), Table 1: p-values that end the intervals, one-sided throughout, and weights.
STEPS = (0.005, 0.01, 0.05, 0.10, 0.25, 0.35, 0.50, 0.65, 0.75, 0.90, 0.95, 0.99, 0.995)
TABLE = {
    "moderate, one-tailed": (1, 0.99, 0.95, 0.80, 0.75, 0.65, 0.60, 0.55, *[0.50] * 6),
    "severe, one-tailed": (1, 0.99, 0.90, 0.75, 0.60, 0.50, 0.40, 0.35, 0.30, 0.25, *[0.10] * 4),
    "moderate, two-tailed": (1, 0.99, 0.95, 0.90, 0.80, 0.75, 0.60, 0.60, 0.75, 0.80, 0.90, 0.95, 0.99, 1),
    "severe, two-tailed": (1, 0.99, 0.90, 0.75, 0.60, 0.50, 0.25, 0.25, 0.50, 0.60, 0.75, 0.90, 0.99, 1),
}


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class WeightGrid(Result):
    """The adjusted mean under each set of given weights.

    Attributes
    ----------
    models : dict of str to SelectionResult
    k : int
    level : float
    provenance : Provenance
    """

    models: dict[str, SelectionResult]
    k: int
    level: float
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per set of weights: ``estimate se ci_lb ci_ub tau2``, and ``r r_lb r_ub`` for Fisher z."""
        rows = []
        for one in self.models.values():
            row = one.tidy().drop(columns="pval").iloc[0]
            rows.append({**dict(zip(map(str, row.index), row, strict=True)), "tau2": one.tau2})
        return frame_of(rows, index=list(self.models))

    def _content(self) -> Document:
        table = self.tidy()
        names = [name for name in table if name in ("estimate", "ci_lb", "ci_ub", "tau2", "r")]
        title = f"Given weights (Vevea & Woods; k = {self.k}; {format_level(self.level)})"
        return self._document(title, table_of(table, dict.fromkeys(names, 4)))


def vevea_woods(fit: Any, *, alternative: Alternative | None = None, level: float | None = None) -> WeightGrid:
    """Give the mean effect if results were selected moderately or severely, by their one- or two-tailed p-value.

    Where few results are to be had, weights cannot be estimated. They can be supposed: Vevea and Woods wrote down four
    sets, from a literature in which a result that points the wrong way has half the chance of a significant one to
    be seen, to one in which it has a tenth. If the mean hardly moves between the rows, selection of such kinds does not
    explain it; if it does, the conclusion rests on what one believes of the literature.

    Parameters
    ----------
    fit : fitted model
        Of any class, without moderators; its effects are used.
    alternative : {"greater", "less"}, optional
        The side on which results are favoured: by default that of the weighted mean. The two-tailed weights favour
        both ends.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    WeightGrid

    Raises
    ------
    InputError
        A model with moderators, fewer than 2 effects; several effects of a study, and no more than 2 studies.

    Notes
    -----
    Vevea & Woods (2005, doi:10.1037/1082-989X.10.4.428), Table 1; its authors call the sets mere examples. R:
    ``selmodel(fit, type = "stepfun", steps = c(0.005, ...), delta = c(1, 0.99, ...))``, for each column of the table in
    the help page of metafor's ``selmodel``. Maximum likelihood; the first row has equal weights. Where studies have
    several effects, standard errors allow for that, as `selmodel` does.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> bias.vevea_woods(fit).tidy()["estimate"].round(4).to_dict()["moderate, one-tailed"]
    0.1261
    """
    if alternative is not None:
        check_option("alternative", alternative, Alternative)
    if alternative == "two.sided":
        raise InputError("the two-tailed weights are among the rows; alternative= is the side that is favoured")
    given(fit, "vevea_woods")
    first = selmodel(fit, steps=STEPS, delta=(1.0,) * (len(STEPS) + 1), alternative=alternative, level=level)
    models = {"no selection": first}
    for name, delta in TABLE.items():
        models[name] = selmodel(fit, steps=STEPS, delta=delta, alternative=alternative, level=level)
    return WeightGrid(
        models, first.k, first.level, first.provenance, merge_notes(*(one.notes for one in models.values()))
    )
