"""The pooled correlation as observed, and under each correction for what the measures blurred."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations import artifacts as core
from alliance_meta.effects.converting.artifacts import (
    Artifact,
    Given,
    RelIn,
    corrected_effects,
    read_artifacts,
    row_steps,
    weights_of,
)
from alliance_meta.encoding import plain
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.sensitivity.psychometric import table
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import brief, level_text

OBSERVED = "as observed"
SHORT = {
    "rel_alliance": "alliance reliability",
    "rel_outcome": "outcome reliability",
    "split_alliance": "alliance split",
    "split_outcome": "outcome split",
    "u_alliance": "range restriction",
}
RELIABILITIES = ("rel_alliance", "rel_outcome")


@dataclass(frozen=True, eq=False, repr=False)
class Attenuation(Result):
    """One model fitted to the correlations as observed and under each correction.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per correction: pooled r with confidence and prediction interval (``estimate ci_lb ci_ub pi_lb
        pi_ub``, as correlations), ``tau2`` and ``I2`` on the scale of the model, and ``assumption`` in words.
    model : str
        The model fitted.
    level : float
    k : int
    notes : tuple of Note
    """

    rows: pd.DataFrame
    model: str
    level: float
    k: int
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per correction."""
        return self.rows.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        frame = self.rows.reset_index().astype(object)
        rows = [dict(zip(frame, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
        shared = {"model": self.model, "level": self.level, "k": self.k}
        return plain({**shared, "rows": rows, "notes": [note.to_dict() for note in self.notes]})

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        shown = {str(name): {"I2": 1, "tau2": 4}.get(str(name), 3) for name in self.rows.drop(columns="assumption")}
        return self._document(
            f"Pooled r, k = {self.k}; {self.model}; {level_text(self.level)} intervals",
            table_of(self.rows, shown),
            [f"{name}: {words}" for name, words in self.rows["assumption"].items()],
        )


def attenuation(
    fit: RandomEffectsResults,
    *,
    rel_alliance: Given = None,
    rel_outcome: Given = None,
    split_alliance: Given = None,
    split_outcome: Given = None,
    u_alliance: Given = None,
    range_restriction: core.RangeRestriction = "direct",
    rel_alliance_in: RelIn = "sample",
    assumed: Sequence[float] = (),
) -> Attenuation:
    """Refit a model to correlations corrected for artifacts, one correction after another and all together.

    Alliance and outcome are measured with error, so their observed correlation is smaller than that of the constructs.
    By how much depends on reliabilities that are often unknown. The table shows what each assumption does to the
    result, with the assumption in words.

    Parameters
    ----------
    fit : RandomEffectsResults
        Of correlations, without moderators.
    rel_alliance, rel_outcome, split_alliance, split_outcome, u_alliance
        As in `correct_artifacts`. Rows without a value get the mean of the others, weighted by n.
    range_restriction : {"direct", "indirect"}
        Thorndike's case II or case IV.
    rel_alliance_in : {"sample", "population"}
        Where the reliability of the alliance was found; matters with `u_alliance` only.
    assumed : sequence of float
        Further rows, in which both measures have this reliability in every study.

    Returns
    -------
    Attenuation

    Raises
    ------
    InputError
        A model with moderators, other effects than correlations, values out of range, nothing to correct for.

    See Also
    --------
    hunter_schmidt : Hunter and Schmidt's own way of pooling.

    Notes
    -----
    Each row is ``rma`` on effects divided by their attenuation, with the variance corrected too. Reliabilities count
    as known without error: the intervals leave that out.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> table = sensitivity.attenuation(fit, rel_alliance=0.9, rel_outcome=0.8).tidy()
    >>> table["estimate"].round(3).to_dict()
    {'as observed': 0.149, 'alliance reliability': 0.156, 'outcome reliability': 0.165, 'both reliabilities': 0.173}
    """
    check_fit(fit, "attenuation")
    if fit.p > 1 or not fit.design.has_intercept:
        raise InputError("attenuation compares pooled correlations: fit the model without moderators")
    given: dict[str, Given] = {
        "rel_alliance": rel_alliance,
        "rel_outcome": rel_outcome,
        "split_alliance": split_alliance,
        "split_outcome": split_outcome,
        "u_alliance": u_alliance,
    }
    checks: dict[str, Any] = {"range_restriction": range_restriction, "rel_alliance_in": rel_alliance_in}
    known = {}
    if any(value is not None for value in given.values()) or not assumed:
        known = read_artifacts(fit.effects, given, **checks)
    sets = _sets(known, range_restriction)
    for value in assumed:
        both: dict[str, Given] = dict.fromkeys(RELIABILITIES, float(value))
        sets[f"both reliabilities {brief(value)}"] = read_artifacts(fit.effects, both, **checks)
    weights = weights_of(fit.effects)
    rows = {OBSERVED: _row(fit, "no correction; what the measures as used would predict")}
    notes: list[Note] = []
    for name, artifacts in sets.items():
        one, warned = _refit(fit, artifacts, weights, range_restriction, rel_alliance_in)
        rows[name] = _row(one, "; ".join(artifact.words(weights) for artifact in artifacts.values()))
        for note in one.notes:
            if note in fit.notes or note.code == "corrected-artifacts":
                continue
            notes.append(Note(note.code, f"{name}: {note.message}"))
            if note.message in warned:
                warnings.warn(notes[-1].message, warned[note.message], stacklevel=2)
    return Attenuation(
        rows=table(list(rows.values()), pd.Index(list(rows), name="correction")),
        model=fit.model_label,
        level=fit.level,
        k=fit.k,
        notes=merge_notes(fit.notes, notes),
    )


def _sets(known: dict[str, Artifact], kind: core.RangeRestriction) -> dict[str, dict[str, Artifact]]:
    """Return which artifacts each row corrects for: one at a time, both reliabilities, all."""
    sets = {SHORT[name]: {name: one} for name, one in known.items()}
    if kind == "indirect" and "u_alliance" in known:
        del sets[SHORT["u_alliance"]]
    if set(RELIABILITIES) <= set(known):
        sets["both reliabilities"] = {name: known[name] for name in RELIABILITIES}
    if len(known) > 1 and set(known) != set(RELIABILITIES):
        sets["all"] = known
    return sets


def _refit(
    fit: RandomEffectsResults, known: dict[str, Artifact], weights: Array, kind: core.RangeRestriction, rel_in: str
) -> tuple[RandomEffectsResults, dict[str, type[Warning]]]:
    """Fit the model to corrected effects; its warnings are returned, to be given with the name of the row."""
    by = row_steps(known, weights, fit.k, kind=kind, rel_in=rel_in)
    settings = fit.settings
    model = RandomEffectsModel(
        corrected_effects(fit.effects, by, known),
        method=settings.method,
        test=settings.test,
        level=settings.level,
        tau2=settings.tau2,
        weights=settings.weights,
        tau2_min=settings.tau2_min,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AllianceMetaWarning)
        found = model.fit()
    assert isinstance(found, RandomEffectsResults)
    return found, {str(one.message): one.category for one in caught}


def _row(fit: RandomEffectsResults, assumption: str) -> dict[str, Any]:
    scale: Any = "r" if fit.effects.measure == "ZCOR" else None
    row = fit.predict(scale=scale).iloc[0]
    limits = {name: float(row[name]) for name in ("ci_lb", "ci_ub", "pi_lb", "pi_ub")}
    missing = NotApplicable("under equal effects no new effect can differ")
    return {
        "estimate": float(row["pred"]),
        **{name: missing if np.isnan(value) else value for name, value in limits.items()},
        "tau2": fit.tau2,
        "I2": fit.I2,
        "assumption": assumption,
    }
