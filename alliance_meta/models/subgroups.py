"""Subgroup analysis: one mean effect per level of a moderator, and the test that they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray
from alliance_meta.core.distributions import chi2_sf
from alliance_meta.design import build_design, design_of, levels_of
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.errors import DesignError, quiet
from alliance_meta.models.random_effects import fit_design
from alliance_meta.notes import NotApplicable, Note, check_option, did_you_mean, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.coefficients import WaldTest
from alliance_meta.results.fit import Noun
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.wording import line_of_test
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief

SharedTau2 = Literal["separate", "common"]


@dataclass(frozen=True, eq=False, repr=False)
class SubgroupResults(Result):
    """Mean effects by level of one moderator."""

    by: str  # the moderator
    tau2: SharedTau2  # whether each level has its own between-study variance
    fits: Mapping[str, RandomEffectsResults]  # one fit per level, in alphabetical order
    rows: Mapping[str, AnyArray]  # positions of each level's effects in the overall fit
    between: WaldTest  # the test that the levels' means are equal
    notes: tuple[Note, ...]  # levels with one effect, effects without a level

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels, in order."""
        return tuple(self.fits)

    QM = Noun[float]("between.stat", "Statistic of the test for subgroup differences.")

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Its degrees of freedom."""
        return self.between.df1, self.between.df2

    QMp = Noun[float]("between.pval", "Its p-value.")

    def tidy(self) -> pd.DataFrame:
        """Return one row per level, unrounded, on the analysis scale."""
        rows = {
            level: {
                "k": fit.k,
                "estimate": float(fit.beta[0]),
                "se": float(fit.se[0]),
                "ci_lb": float(fit.ci_lb[0]),
                "ci_ub": float(fit.ci_ub[0]),
                "pval": float(fit.pval[0]),
                "tau2": fit.tau2,
                "I2": fit.I2,
            }
            for level, fit in self.fits.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(self.by)

    def _content(self) -> Document:
        kinds: dict[str, Kind] = {"k": 0, **dict.fromkeys(("estimate", "se", "ci_lb", "ci_ub"), 4)}
        kinds |= {"pval": "p", "tau2": 4, "I2": 2}
        return self._document(
            f"Mean effects by {self.by} ({self.tau2} tau2)",
            table_of(self.tidy(), kinds),
            lines=[line_of_test("Test of subgroup differences", self.between)],
        )


def subgroups(fit: RandomEffectsResults, *, by: str, tau2: SharedTau2 = "separate") -> SubgroupResults:
    """Estimate the mean effect in each level of a moderator and test whether the levels differ.

    `fit`: the overall model without moderators; its estimator, inference and level are used throughout.
    `by`: a column of the moderators.
    `tau2` {"separate", "common"}: ``separate``: each level its own between-study variance; the levels' means are then
      compared with weights 1 / se^2, and the statistic is chi-squared. ``common``: one variance for all, from the
      meta-regression on `by`, whose omnibus test is the comparison. With few effects per level a common variance is the
      steadier choice.
    Raises `DesignError`: if `fit` has moderators, or `by` is unknown or has a single level.

    Notes
    -----
    Borenstein et al. (2009), chapter 19. R: ``rma(yi, vi, mods = ~ by)`` for a common tau2; separate calls
    with ``subset=`` and a Wald test of their estimates otherwise.
    """
    check_option("tau2", tau2, SharedTau2)
    if fit.design.formula != "1":
        raise DesignError("subgroups need a model without moderators; this one has mods=" + repr(fit.design.formula))
    column = _column(fit, by)
    present = column.notna().to_numpy()
    names = [_name(value) for value in column[present]]
    positions = np.flatnonzero(present)
    order = dict.fromkeys(_name(value) for value in levels_of(column))
    rows = {level: positions[[name == level for name in names]] for level in order}
    with quiet():
        shared = _common(fit, positions, names) if tau2 == "common" else None
        fits = {level: _fit_level(fit, index, level, by, shared) for level, index in rows.items()}
        null = f"the mean effects of {by} are equal"
        between = replace(shared.omnibus, null=null) if shared is not None else _between(fits, null)
    notes = merge_notes(_missing(fit, present, by), _single(fits, by), dependence_notes(fit.effects, stacklevel=4))
    return SubgroupResults(by, tau2, fits, rows, between, notes)


def _column(fit: RandomEffectsResults, by: str) -> pd.Series[Any]:
    moderators = fit.effects.moderators
    if by not in moderators:
        known = [str(name) for name in moderators]
        raise DesignError(f"no column {by!r}{did_you_mean(by, known)} Columns: {', '.join(known) or 'none'}")
    column = moderators[by]
    if column.nunique() < 2:
        only = f"one level, {column.dropna().iloc[0]!r}" if column.notna().any() else "no value"
        raise DesignError(f"{by!r} has {only}, in all {fit.k} effects: nothing to compare")
    return column


def _missing(fit: RandomEffectsResults, present: AnyArray, by: str) -> tuple[Note, ...]:
    lost = [fit.effects.slab[int(i)] for i in np.flatnonzero(~present)]
    if not lost:
        return ()
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    return (Note("dropped-rows", f"{len(lost)} of {fit.k} effects are in no subgroup, {by} is missing: {shown}."),)


def _name(value: object) -> str:
    return brief(value) if isinstance(value, float) else str(value)


def _common(fit: RandomEffectsResults, rows: AnyArray, names: list[str]) -> RandomEffectsResults:
    part = fit.effects.take(rows)
    design = build_design("level", pd.DataFrame({"level": names}), labels=part.slab)
    return fit_design(part, design, fit.settings.rows(rows))


def _fit_level(
    fit: RandomEffectsResults, index: AnyArray, level: str, by: str, shared: RandomEffectsResults | None
) -> RandomEffectsResults:
    part = fit.effects.take(index, step=f"{by} = {level}: {len(index)} effects")
    design = design_of("1", part)
    common = None if shared is None or shared.method == "EE" else shared.fitted.tau2
    return fit_design(part, design, fit.settings.rows(index), common=common)


def _between(fits: Mapping[str, RandomEffectsResults], null: str) -> WaldTest:
    estimates = np.array([fit.beta[0] for fit in fits.values()])
    precision = np.array([1.0 / fit.se[0] ** 2 if fit.se[0] > 0 else np.inf for fit in fits.values()])
    df = len(fits) - 1
    if not np.isfinite(precision).all():
        gone = NotApplicable("a level's effects are identical, its mean has no variance")
        return WaldTest(gone, df, None, gone, null)
    mean = np.average(estimates, weights=precision)
    stat = float(precision @ (estimates - mean) ** 2)
    return WaldTest(stat, df, None, chi2_sf(stat, df), null)


def _single(fits: Mapping[str, RandomEffectsResults], by: str) -> tuple[Note, ...]:
    single = [level for level, fit in fits.items() if fit.k == 1]
    if not single:
        return ()
    verb = "has" if len(single) == 1 else "have"
    message = f"{by}: {', '.join(single)} {verb} one effect; no variance between studies can be seen there."
    return (Note("single-effect-level", message),)
