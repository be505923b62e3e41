"""`SequentialResults`: how a synthesis would have changed with each study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.export import columns_of, plain
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import factor, fixed, level_text

# A result with a predictive p below this is called a surprise.
SURPRISE = 0.05
# Columns that are effects, and so can be shown as correlations.
ON_R = ("mu", "mu_ci_lb", "mu_ci_ub", "pi_lb", "pi_ub", "yi")
MOST_LINES = 30


@dataclass(frozen=True, eq=False, repr=False)
class SequentialResults(Result):
    """The posterior after each step of a sequence of studies.

    Made by `sequential`.

    Attributes
    ----------
    fit : BayesianResults
        The synthesis of all studies, which the last step equals.
    order : str
        What the studies were ordered by.
    steps : DataFrame
        One row per step, on the analysis scale; see `tidy`.
    studies : DataFrame
        One row per study in that order; see `surprises`.
    notes : tuple of Note
    """

    fit: BayesianResults
    order: str
    steps: pd.DataFrame
    studies: pd.DataFrame
    notes: tuple[Note, ...] = ()

    @property
    def log_marginal_likelihood(self) -> float:
        """The sum of the log predictive densities of all steps: that of the synthesis of all studies."""
        return self.fit.log_marginal_likelihood

    def tidy(self, *, scale: Literal["z", "r"] | None = None) -> pd.DataFrame:
        """Return one row per step, unrounded.

        Parameters
        ----------
        scale : {"z", "r"}, optional
            ``"r"``: mean and prediction as correlations (tanh of median and limits). Analysis scale by default.

        Returns
        -------
        DataFrame
            Indexed by ``label`` (the study, or what the studies of the step have in common): ``at`` (the value
            ordered by), ``added`` and ``k`` (studies in this step and up to it), median and equal-tailed interval
            of the mean effect (``mu mu_ci_lb mu_ci_ub``) and of tau (``tau tau_ci_lb tau_ci_ub``), the prediction
            interval ``pi_lb pi_ub``, ``bf10`` of mu = 0, ``log_predictive`` (log density of the results of this
            step given those before), ``log_marginal_likelihood`` of all results so far, and ``error_bound``.
        """
        return self._scaled(self.steps, scale)

    def surprises(self, *, scale: Literal["z", "r"] | None = None) -> pd.DataFrame:
        """Return one row per study, in the order in which they came in.

        Parameters
        ----------
        scale : {"z", "r"}, optional

        Returns
        -------
        DataFrame
            Indexed by ``label``: ``at``, ``step``, ``yi``, ``pit`` (probability of a result up to this one given
            the steps before) and ``p``, that of one at least as far out on either side.
        """
        return self._scaled(self.studies, scale)

    @property
    def surprising(self) -> list[str]:
        """Labels of the studies with a predictive p below .05; of well predicted ones a twentieth has that too."""
        p = self.studies["p"].to_numpy(dtype=float)
        return [str(label) for label, one in zip(self.studies.index, p, strict=True) if one < SURPRISE]

    def _scaled(self, table: pd.DataFrame, scale: str | None) -> pd.DataFrame:
        out, own = table.copy(), self.fit._scale
        if scale is not None and scale != own:
            if own != "z" or scale != "r":
                raise InputError(
                    f"scale={scale!r}: effects on the scale {self.fit.effects.scale_label!r} cannot be shown so"
                )
            for name in set(ON_R) & set(out.columns):
                out[name] = [x if isinstance(x, NotApplicable) else float(np.tanh(x)) for x in out[name]]
        out.attrs.update(scale=scale or own, level=self.fit.level, interval="eti", order=self.order)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return every number as JSON-ready values; `NotApplicable` becomes its reason."""
        return plain(
            {
                "order": self.order,
                "level": self.fit.level,
                "priors": str(self.fit.priors),
                "steps": columns_of(self.steps.reset_index()),
                "studies": columns_of(self.studies.reset_index()),
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.fit.effects.provenance.to_dict(),
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        fit, r = self.fit, self.fit._scale == "z"
        table = self.tidy(scale="r" if r else None)
        effect = "r" if r else "mu"
        named, counted = self.surprising, int(self.studies["p"].astype(float).notna().sum())
        what = "median true correlation, tanh" if r else "mean effect"
        return wording.document(
            self,
            f"Sequential Bayesian synthesis by {self.order} (k = {fit.k}, {len(table)} steps; exact)",
            [
                fit.effects.heading,
                f"Priors: {fit.priors}",
                f"{effect}: {what}; tau as analysed; intervals: equal-tailed, {level_text(fit.level)}; p: how "
                "surprising the results were, the smallest of a step",
            ],
            self._steps(table, effect),
            [
                f"{len(named)} of {counted} results surprising after those before (p < .05; "
                f"{fixed(SURPRISE * counted, 1)} to be expected){': ' + '; '.join(named) if named else ''}"
            ],
            effects=fit.effects,
        )

    def _steps(self, table: pd.DataFrame, effect: str) -> Table:
        smallest = self.studies.assign(p=self.studies["p"].astype(float)).groupby("step")["p"].min()
        shown = table.assign(p=smallest.to_numpy(), log_bf10=np.log(table["bf10"].astype(float))).tail(MOST_LINES)
        kinds: dict[str, Kind] = {"k": 0, **dict.fromkeys(("mu", "mu_ci_lb", "mu_ci_ub", "tau"), 3)}
        heads = {"mu": effect, "mu_ci_lb": "ci_lb", "mu_ci_ub": "ci_ub", "log_bf10": "BF10"}
        made = table_of(shown, {**kinds, "log_bf10": factor, "p": 3}, heads=heads)
        earlier = len(table) - MOST_LINES
        return made if earlier <= 0 else replace(made, rows=((f"... {earlier} earlier steps: tidy()",), *made.rows))
