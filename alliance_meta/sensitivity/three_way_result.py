"""`ThreeWay`: one model by three roads, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.wording import level_text, number, remarks, wrapped

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

    def summary(self) -> str:
        """Return the plain-text summary."""
        return _text(self)


def _text(found: ThreeWay) -> str:
    """Return the roads side by side, at most 80 columns wide."""
    exact = found.exact
    origin = exact.effects.provenance.source
    lines = wrapped(f"One model by three roads (k = {found.k}; {level_text(exact.level)} intervals)")
    lines += wrapped(f"{origin}: {exact.effects.scale_label} ({exact.effects.measure})")
    if exact.design.formula != "1":
        lines += wrapped(f"Moderators: {exact.design.formula}")
    lines += wrapped("frequentist: REML, Knapp-Hartung; tau: Q-profile; theta: shrunken (BLUP)")
    lines += wrapped(f"exact, PyMC: posterior medians and equal-tailed intervals; {exact.priors}")
    lines += ["", *_rows(found), ""]
    if found.sampled is not None:
        z = np.abs(found.table["z"].to_numpy(dtype=float))
        z = z[np.isfinite(z)]
        lines += wrapped(
            f"z: PyMC less exact, in Monte-Carlo standard errors of PyMC. {int((z <= USUAL).sum())} of {len(z)} "
            f"numbers are within {USUAL:g} (about {0.954 * len(z):.0f} to be expected); the furthest is "
            f"{found.worst:.1f} away."
        )
    lines += wrapped(
        "exact less frequentist is no error of either: it is what the priors add, and that tau is averaged over "
        "instead of estimated."
    )
    return "\n".join([*lines, *remarks(found.notes)])


def _rows(found: ThreeWay) -> list[str]:
    table = found.table
    names = list(dict.fromkeys(table["parameter"]))
    studies = [name for name in names if name.startswith("theta[")]
    hidden = set(studies) if len(studies) > MOST_STUDIES else set()
    width = min(max(9, *(len(name) for name in names if name not in hidden)), 22)
    drawn = found.sampled is not None
    roads = {"frequentist": "frequentist", "exact": "exact"} | ({"pymc": "PyMC"} if drawn else {})
    heads = " ".join(f"{head:>11}" for head in roads.values())
    lines = [f"{'':{width}} {'':8} {heads}{'      z' if drawn else ''}"]
    for name in names:
        if name in hidden:
            continue
        part = table[table["parameter"] == name]
        for i, (_, row) in enumerate(part.iterrows()):
            label = name if len(name) <= width else name[: width - 1] + "…"
            cells = " ".join(f"{number(float(row[road])):>11}" for road in roads)
            z = f" {number(float(row['z']), 1):>6}" if drawn else ""
            lines.append(f"{label if i == 0 else '':{width}} {row['number']:8} {cells}{z}")
    if hidden:
        lines.append(f"and {len(hidden)} theta: tidy()")
    return lines
