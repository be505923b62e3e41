"""Subgroup analysis: one mean effect per level of a moderator, and the test that they differ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray
from alliance_meta.core.distributions import chi2_sf, f_sf, statistic, two_sided_p
from alliance_meta.design import Design, build_design, design_of, levels_of
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, DesignError
from alliance_meta.models.random_effects import fit_design
from alliance_meta.notes import NotApplicable, Note, check_option, did_you_mean, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.coefficients import WaldTest
from alliance_meta.results.fit import Noun
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.wording import line_of_test
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief

SharedTau2 = Literal["common", "separate"]


# The levels stand under this name in the design of a model made for them.
LEVEL = "level"
NUMBERS = ("pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
# What a fit says of single coefficients, and of rows it was not given.
OF_COEFFICIENTS = ("few-df", "one-cluster-term", "dropped-rows", "singleton-clusters")


@dataclass(frozen=True, eq=False, repr=False)
class SubgroupResults(Result):
    """Mean effects by level of one moderator."""

    by: str  # the moderator
    tau2: SharedTau2  # whether all levels share one between-study variance, or each has its own
    model: Any  # where they share it: the one model that has a mean for each level
    fits: Mapping[str, RandomEffectsResults]  # where they do not: one fit per level
    rows: Mapping[str, AnyArray]  # positions of each level's effects in the overall fit
    between: WaldTest  # the test that the levels' means are equal, of the model that the means are from
    notes: tuple[Note, ...]  # levels with one effect, effects without a level
    _variable: str = LEVEL

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that have a mean, in order."""
        return tuple(self.rows)

    def effects(self, level: str) -> EffectSizes:
        """Return the effects of one level."""
        if self.model is None:
            return self.fits[level].effects
        kept = np.sort(np.concatenate(list(self.rows.values())))
        own = self.rows[level]
        # Effects without a level may have no part in the model.
        found: EffectSizes = self.model.effects.take(np.searchsorted(kept, own) if self.model.k == len(kept) else own)
        return found

    QM = Noun[float]("between.stat", "Statistic of the test for subgroup differences.")

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Its degrees of freedom."""
        return self.between.df1, self.between.df2

    QMp = Noun[float]("between.pval", "Its p-value.")

    def predict(self, *, level: float | None = None) -> pd.DataFrame:
        """Return one row per level: ``pred se ci_lb ci_ub pi_lb pi_ub`` on the analysis scale.

        Parameters
        ----------
        level : float, optional
            Confidence level, a fraction; the fit's by default.
        """
        names = list(self.rows)
        if self.model is not None:
            found = predict_levels(self.model, self._variable, names, by=self.by, level=level)
        else:
            found = pd.concat([fit.predict(level=level) for fit in self.fits.values()])
        return found[list(NUMBERS)].set_axis(pd.Index(names, name=self.by), axis=0)

    def tidy(self) -> pd.DataFrame:
        """Return one row per level, unrounded, on the analysis scale."""
        found = self.predict()[["pred", "se", "ci_lb", "ci_ub"]].rename(columns={"pred": "estimate"})
        found.insert(0, "k", [len(rows) for rows in self.rows.values()])
        if self.model is None:
            fits = list(self.fits.values())
            more = {"pval": [float(fit.pval[0]) for fit in fits], "tau2": [fit.tau2 for fit in fits]}
            return found.assign(**more, I2=[fit.I2 for fit in fits])
        X = self.model.design.new_rows({self._variable: list(self.rows)})[0]
        stat = statistic(found["estimate"].to_numpy(), found["se"].to_numpy())
        return found.assign(pval=two_sided_p(stat, self.model.row_ddf(X)), tau2=self.model.tau2, I2=self.model.I2)

    def _content(self) -> Document:
        kinds: dict[str, Kind] = {"k": 0, **dict.fromkeys(("estimate", "se", "ci_lb", "ci_ub"), 4)}
        kinds |= {"pval": "p", "tau2": 4, "I2": 2}
        return self._document(
            f"Mean effects by {self.by} ({self.tau2} tau2)",
            table_of(self.tidy(), kinds),
            lines=[line_of_test("Test of subgroup differences", self.between)],
        )


def subgroups(fit: RandomEffectsResults, *, by: str, tau2: SharedTau2 = "common") -> SubgroupResults:
    """Estimate the mean effect in each level of a moderator and test whether the levels differ.

    Parameters
    ----------
    fit : RandomEffectsResults
        The overall model without moderators; its estimator, inference and level are used throughout.
    by : str
        A column of the moderators.
    tau2 : {"common", "separate"}
        ``common``: one between-study variance for all levels. Means, their intervals and the test are those of one
        model, the meta-regression on `by`; the test is its omnibus test. With few effects per level that is the
        steadier choice. ``separate``: each level is fitted by itself and has its own variance; the means are then
        compared with weights 1 / se^2, by Welch's F where the intervals are of t, and by chi-squared where they are
        normal.

    Raises
    ------
    DesignError
        If `fit` has moderators, or `by` is unknown or has a single level.

    Notes
    -----
    Borenstein et al. (2009), chapter 19. R: ``rma(yi, vi, mods = ~ 0 + by)`` for a common tau2; separate calls with
    ``subset=`` and a Wald test of their estimates otherwise. Welch (1951, doi:10.1093/biomet/38.3-4.330) allows for
    the degrees of freedom of each standard error; for two levels it is the t test with Satterthwaite's df.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.models.subgroups import subgroups
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> found = subgroups(fit, by="design")
    >>> found.tidy()["estimate"].round(3).to_dict(), round(found.QMp, 2)
    ({'cross-sectional': 0.17, 'prospective': 0.14}, 0.68)
    """
    check_option("tau2", tau2, SharedTau2)
    if fit.design.formula != "1":
        raise DesignError("subgroups need a model without moderators; this one has mods=" + repr(fit.design.formula))
    rows, lost = read_levels(fit.effects, by)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        if tau2 == "separate":
            fits = {level: _fit_level(fit, index, level, by) for level, index in rows.items()}
            made = SubgroupResults(by, tau2, None, fits, rows, _between(fits, _null(by)), ())
        else:
            kept, design = level_design(fit.effects, rows)
            model = fit_design(fit.effects.take(kept), replace(design, X=design.X[kept]), fit.settings.rows(kept))
            made = of_model(model, by, rows)
    own = () if made.model is None else new_notes(made.model, fit)
    alone = dependence_notes(fit.effects, stacklevel=4)
    return replace(made, notes=merge_notes(lost, _single(rows, by, tau2), own, alone))


def read_levels(effects: EffectSizes, by: str) -> tuple[dict[str, AnyArray], tuple[Note, ...]]:
    """Return the positions of each level's effects, and a note on effects that have none."""
    moderators = effects.moderators
    if by not in moderators:
        known = [str(name) for name in moderators]
        raise DesignError(f"by: no column {by!r}{did_you_mean(by, known)} Columns: {', '.join(known) or 'none'}")
    column = moderators[by]
    if column.nunique() < 2:
        only = f"one level, {column.dropna().iloc[0]!r}" if column.notna().any() else "no value"
        raise DesignError(f"{by!r} has {only}, in all {effects.k} effects: nothing to compare")
    present = column.notna().to_numpy()
    names = np.array([_name(value) if there else "" for value, there in zip(column, present, strict=True)])
    order = dict.fromkeys(_name(value) for value in levels_of(column))
    return {level: np.flatnonzero(present & (names == level)) for level in order}, _missing(effects, present, by)


def level_design(effects: EffectSizes, rows: Mapping[str, AnyArray]) -> tuple[AnyArray, Design]:
    """Return the effects that have a level, and the design of one mean for each level, with rows for all effects."""
    kept = np.sort(np.concatenate(list(rows.values())))
    names = np.empty(effects.k, dtype=object)
    names[:] = next(iter(rows))  # Effects without a level have a row that is not used.
    for level, index in rows.items():
        names[index] = level
    return kept, build_design(LEVEL, pd.DataFrame({LEVEL: names}), labels=effects.slab)


def of_model(
    model: Any, by: str, rows: Mapping[str, AnyArray], *, variable: str = LEVEL, notes: tuple[Note, ...] = ()
) -> SubgroupResults:
    """Return the level means of one model, and its test that they are equal."""
    X = model.design.new_rows({variable: list(rows)})[0]
    between = replace(model.test(X[1:] - X[0]), null=_null(by))
    return SubgroupResults(by, "common", model, {}, rows, between, notes, variable)


def predict_levels(
    model: Any, variable: str, levels: Sequence[str], *, by: str, level: float | None = None
) -> pd.DataFrame:
    """Predict the mean at each level, without a prediction interval where τ² depends on more than the level."""
    scale = getattr(model, "scale_design", None)
    others = [] if scale is None else [name for name in scale.variables if name not in (variable, by)]
    first = model.effects.moderators.iloc[0]
    rows = {**({} if scale is None else {by: levels}), **{name: [first[name]] * len(levels) for name in others}}
    found: pd.DataFrame = model.predict({variable: list(levels), **rows}, level=level)
    return found.assign(pi_lb=np.nan, pi_ub=np.nan) if others else found


def new_notes(model: Any, fit: Any) -> tuple[Note, ...]:
    """Return what the model with level means says that the overall fit does not."""
    known = {note.code for note in fit.notes}
    return tuple(note for note in model.notes if note.code not in known and note.code not in OF_COEFFICIENTS)


def _null(by: str) -> str:
    return f"the mean effects of {by} are equal"


def _missing(effects: EffectSizes, present: AnyArray, by: str) -> tuple[Note, ...]:
    lost = [effects.slab[int(i)] for i in np.flatnonzero(~present)]
    if not lost:
        return ()
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    return (Note("dropped-rows", f"{len(lost)} of {effects.k} effects are in no subgroup, {by} is missing: {shown}."),)


def _name(value: object) -> str:
    return brief(value) if isinstance(value, float) else str(value)


def _fit_level(fit: RandomEffectsResults, index: AnyArray, level: str, by: str) -> RandomEffectsResults:
    part = fit.effects.take(index, step=f"{by} = {level}: {len(index)} effects")
    return fit_design(part, design_of("1", part), fit.settings.rows(index))


def _between(fits: Mapping[str, RandomEffectsResults], null: str) -> WaldTest:
    """Compare means of separate fits: Welch's F, which is chi-squared where every mean is normal."""
    estimates = np.array([fit.beta[0] for fit in fits.values()])
    precision = np.array([1.0 / fit.se[0] ** 2 if fit.se[0] > 0 else np.inf for fit in fits.values()])
    df = len(fits) - 1
    if not np.isfinite(precision).all():
        gone = NotApplicable("a level's effects are identical, its mean has no variance")
        return WaldTest(gone, df, None, gone, null)
    mean = np.average(estimates, weights=precision)
    stat = float(precision @ (estimates - mean) ** 2)
    ddf = np.array([fit.ddf[0] for fit in fits.values()])
    spread = float(((1.0 - precision / precision.sum()) ** 2 / ddf).sum())
    if spread == 0:
        return WaldTest(stat, df, None, chi2_sf(stat, df), null)
    more = df * (df + 2.0)
    F, df2 = stat / df / (1.0 + 2.0 * (df - 1.0) / more * spread), more / (3.0 * spread)
    return WaldTest(F, df, df2, f_sf(F, df, df2), null)


def _single(rows: Mapping[str, AnyArray], by: str, tau2: SharedTau2) -> tuple[Note, ...]:
    single = [level for level, index in rows.items() if len(index) == 1]
    if not single:
        return ()
    verb = "has" if len(single) == 1 else "have"
    why = "no variance between studies can be seen there"
    why += "" if tau2 == "separate" else ", and the interval rests on that of the other levels"
    return (Note("single-effect-level", f"{by}: {', '.join(single)} {verb} one effect; {why}."),)
