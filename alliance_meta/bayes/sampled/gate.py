"""The checks that draws can be used: chains that agree, enough of them, no part of the posterior missed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from alliance_meta.bayes import arviz_bridge
from alliance_meta.tables.format import fixed

# Vehtari et al. (2021, doi:10.1214/20-BA1221) for R-hat and ESS; for E-BFMI the limit of CmdStan's diagnose.
MOST_RHAT = 1.01
FEWEST_ESS = 400
LEAST_BFMI = 0.3
FAILED = "DO NOT RELY ON THESE NUMBERS: the draws fail their checks of convergence."


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """How well the chains of a fit did, over all parameters that were drawn."""

    table: pd.DataFrame  # `arviz_bridge.summarise` of every scalar
    divergences: float  # `NotApplicable` when the sampler did not record it
    bfmi: tuple[float, ...]  # E-BFMI of each chain

    @cached_property
    def rhat(self) -> float:
        """Largest R-hat."""
        return self._extreme("rhat", "max")

    @cached_property
    def ess_bulk(self) -> float:
        """Smallest effective number of draws for the middle."""
        return self._extreme("ess_bulk", "min")

    @cached_property
    def ess_tail(self) -> float:
        """Smallest effective number of draws for the tails."""
        return self._extreme("ess_tail", "min")

    def _extreme(self, column: str, end: str) -> float:
        cells = self.table[column]
        known = cells[cells == cells].astype(float)
        return float(getattr(known, end)()) if len(known) else cells.iloc[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        names = ("rhat", "ess_bulk", "ess_tail", "divergences")
        return {name: getattr(self, name) for name in names} | {"bfmi": list(self.bfmi)}


def diagnose(container: Any) -> Diagnostics:
    """Look at every scalar.

    Left out are constant elements of a vector whose others move, such as the 1s of correlations.
    """
    chains = arviz_bridge.scalars(container)
    still = {label for label, draws in chains.items() if draws.min() == draws.max()}
    moving = {label.partition("[")[0] for label in chains if label not in still}
    looked = {
        label: draws
        for label, draws in chains.items()
        if label not in still or "[" not in label or label.partition("[")[0] not in moving
    }
    sampler = arviz_bridge.sampler_diagnostics(container)
    return Diagnostics(arviz_bridge.summarise(looked), sampler.divergences, sampler.bfmi)


def convergence_problems(container: Any) -> list[tuple[str, str]]:
    """Return a code and a sentence for each check that the draws fail."""
    return problems_of(diagnose(container))


def problems_of(found: Diagnostics) -> list[tuple[str, str]]:
    """Return a code and a sentence for each check that is failed."""
    table = found.table
    problems = []
    unchecked = [str(name) for name, rhat in table["rhat"].items() if rhat != rhat]
    if unchecked:
        message = f"R-hat could not be computed ({_some(unchecked)}): whether the chains agree is unknown."
        problems.append(("unchecked", message))
    apart = [f"{name} {fixed(rhat, 3)}" for name, rhat in table["rhat"].items() if rhat > MOST_RHAT]
    if apart:
        message = f"The chains disagree: R-hat is above {MOST_RHAT} ({_some(apart)}). Do not use these draws."
        problems.append(("rhat", message))
    least = table[["ess_bulk", "ess_tail"]].astype(float).min(axis=1)
    few = [f"{name} {fixed(ess, 0)}" for name, ess in least.items() if ess < FEWEST_ESS]
    if few:
        message = f"Too few effective draws, below {FEWEST_ESS} ({_some(few)}): take more draws or chains."
        problems.append(("few-effective-draws", message))
    if found.divergences > 0:
        count = f"{fixed(found.divergences, 0)} divergence{'s' if found.divergences > 1 else ''}"
        message = f"{count}: part of the posterior may be missed. Raise target_accept or simplify the model."
        problems.append(("divergences", message))
    low = [f"chain {i} {fixed(bfmi, 2)}" for i, bfmi in enumerate(found.bfmi) if bfmi < LEAST_BFMI]
    if low:
        message = f"E-BFMI is below {LEAST_BFMI} ({_some(low)}): the tails are explored slowly."
        problems.append(("low-bfmi", message))
    return problems


def _some(items: list[str], *, most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
