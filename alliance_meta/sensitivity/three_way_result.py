"""`ThreeWay`: one model by three roads, number by number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, level_text

# Numbers of draws scatter by their standard error: two of them hold 95 of 100, four all but 6 of 100,000.
USUAL, FAR = 2.0, 4.0
MOST_STUDIES = 30


@dataclass(frozen=True, eq=False, repr=False)
class ThreeWay(Result):
    """A random-effects model without priors, with priors solved exactly, and with the same priors drawn by PyMC.

    Made by `three_way`.

    Attributes
    ----------
    frequentist : RandomEffectsResults
        REML with Knapp-Hartung inference.
    exact : BayesianResults
    sampled : SampledPosterior or None
        None where PyMC was left out.
    table : DataFrame
        See `tidy`.
    notes : tuple of Note
    """

    frequentist: RandomEffectsResults
    exact: BayesianResults
    sampled: SampledPosterior | None
    table: pd.DataFrame
    notes: tuple[Note, ...] = ()

    @property
    def k(self) -> int:
        """Number of effects."""
        return self.exact.k

    def tidy(self) -> pd.DataFrame:
        """Return one row per number, unrounded, on the analysis scale.

        Returns
        -------
        DataFrame
            ``parameter`` (``mu``, the coefficients, ``tau``, ``theta_new``, ``theta[<label>]``), ``number``
            (``estimate``, ``ci_lb``, ``ci_ub``), and its value by each road: ``frequentist``, ``exact``, ``pymc``.
            ``difference`` is exact less frequentist: what the priors do, and that tau is averaged over. ``mcse`` is
            the Monte-Carlo standard error of ``pymc``, and ``z`` how many of these, as probabilities, lie between
            ``pymc`` and ``exact``; both are `NotApplicable` without PyMC.
        """
        return self.table.copy()

    @property
    def worst(self) -> float:
        """Largest distance of PyMC from the exact posterior, in Monte-Carlo standard errors; NaN without PyMC."""
        z = np.abs(self.table["z"].to_numpy(dtype=float))
        return float(np.nanmax(z)) if np.isfinite(z).any() else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return every number as JSON-ready values; `NotApplicable` becomes its reason."""
        return plain(
            {
                "k": self.k,
                "level": self.exact.level,
                "priors": str(self.exact.priors),
                "seed": None if self.sampled is None else self.sampled.seed,
                "numbers": columns_of(self.table),
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.exact.effects.provenance.to_dict(),
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        return _document(self)


def _document(found: ThreeWay) -> Document:
    exact = found.exact
    return wording.document(
        found,
        f"One model by three roads (k = {found.k}; {level_text(exact.level)} intervals)",
        [
            f"{exact.effects.provenance.source}: {exact.effects.scale_label} ({exact.effects.measure})",
            *wording.moderated(exact),
            "frequentist: REML, Knapp-Hartung; tau: Q-profile; theta: shrunken (BLUP)",
            f"exact, PyMC: posterior medians and equal-tailed intervals; {exact.priors}",
        ],
        _table(found),
        [
            *_agreement(found),
            "exact less frequentist is no error of either: it is what the priors add, and that tau is averaged over "
            "instead of estimated.",
        ],
        effects=exact.effects,
    )


def _agreement(found: ThreeWay) -> list[str]:
    if found.sampled is None:
        return []
    z = np.abs(found.table["z"].to_numpy(dtype=float))
    z = z[np.isfinite(z)]
    return [
        f"z: PyMC less exact, in Monte-Carlo standard errors of PyMC. {int((z <= USUAL).sum())} of {len(z)} "
        f"numbers are within {brief(USUAL)} (about {fixed(0.954 * len(z), 0)} to be expected); the furthest is "
        f"{fixed(found.worst, 1)} away."
    ]


def _table(found: ThreeWay) -> Table:
    of_study = found.table["parameter"].str.startswith("theta[")
    studies = found.table["parameter"][of_study].nunique()
    hide = studies > MOST_STUDIES
    shown = found.table[~of_study] if hide else found.table
    names = shown["parameter"].where(~shown["parameter"].duplicated(), "")
    drawn: dict[str, Kind] = {} if found.sampled is None else {"pymc": 4, "z": 1}
    kinds: dict[str, Kind] = {"number": "s", "frequentist": 4, "exact": 4}
    table = table_of(shown.set_axis(names), kinds | drawn, heads={"number": "", "pymc": "PyMC"})
    return replace(table, rows=(*table.rows, (f"and {studies} theta: tidy()",))) if hide else table
