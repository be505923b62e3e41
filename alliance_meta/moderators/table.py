"""`moderator_table`: every moderator in a table of its levels and slopes, with a test each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.models.subgroups import SharedTau2
from alliance_meta.moderators.comparisons import NAMES as ADJUSTMENTS
from alliance_meta.moderators.comparisons import Adjustment
from alliance_meta.moderators.table_rows import (
    AS_R,
    OVERALL,
    PER_UNIT,
    Fitted,
    Moderator,
    TableModel,
    Working,
    fit_all,
    frame_of_gaps,
    frame_of_rows,
    frame_of_tests,
    notes_of,
    read_moderators,
)
from alliance_meta.notes import NotApplicable, Note, RobustType, check_option, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import records_of
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, fixed, fixed_interval, format_level, plain_df

# Of empty cells so many are printed; `gaps` has them all.
MOST_GAPS = 12


@dataclass(frozen=True, slots=True, repr=False)
class ModeratorTable(Result):
    """Moderators one by one: means by level or slopes, what they rest on, and a test each.

    Attributes
    ----------
    model : {"che", "random", "multilevel"}
    tau2 : {"common", "separate"}
    model_label : str
        The model in words.
    adjust : str
        The correction of the p-values across moderators.
    level : float
        Confidence level of every interval, a fraction.
    measure, scale_label : str
    k, studies : int
    k_controlled : int
        Effects that have every moderator, on which the controlled columns rest; 0 where there are none.
    controlled : str
        The model behind those columns, or why there is none.
    frame : DataFrame
        What `tidy` returns.
    tests : DataFrame
        By moderator, ``kind`` (categorical or continuous), ``k studies people`` with a value and ``missing`` effects
        without, ``within``: studies whose effects differ in it; ``test stat df1 df2 pval pval_adjusted``; ``R2``, the
        share of tau2 accounted for in percent, and ``tau``, what is left; ``mean sd`` of a continuous one; the test in
        the model with all moderators, ``stat_controlled df1_controlled df2_controlled pval_controlled``; ``why`` there
        is no test, and ``why_controlled``.
    gaps : DataFrame
        Pairs of levels that no effect has together: ``moderator1 level1 moderator2 level2``, and how many studies
        have each level, ``studies1 studies2``; those that most studies might have filled come first.
    provenance : Provenance
    effects : EffectSizes
        All effects; `plots.orchard` draws them.
    """

    model: TableModel
    tau2: SharedTau2
    model_label: str
    adjust: Adjustment
    level: float
    measure: str
    scale_label: str
    k: int
    studies: int
    k_controlled: int
    controlled: str
    frame: pd.DataFrame
    tests: pd.DataFrame
    gaps: pd.DataFrame
    provenance: Provenance
    effects: EffectSizes
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per level, and two per slope, unrounded, after one for all effects.

        Indexed by ``moderator`` and ``level`` (``per unit`` and ``per SD`` of slopes), ``kind`` (overall, level or
        slope), ``k studies people``, ``estimate se ddf pval ci_lb ci_ub pi_lb pi_ub`` on the analysis scale, for Fisher
        z ``r r_lb r_ub r_pi_lb r_pi_ub`` (of slopes the change in r at the average study), ``tau``, the same means
        in the model with all moderators (``estimate_controlled ci_lb_controlled`` ...), and ``why`` a row has none.
        """
        return self.frame.copy()

    def _values(self) -> dict[str, Any]:
        named = self._these("model", "tau2", "model_label", "adjust", "level", "measure", "k", "studies", "controlled")
        rows, tests = (records_of(part.reset_index()) for part in (self.frame, self.tests))
        return {**named, "k_controlled": self.k_controlled, "rows": rows, "tests": tests, "gaps": records_of(self.gaps)}

    def _content(self) -> Document:
        many = f"k = {self.k}" + (f" in {self.studies} studies" if self.studies < self.k else "")
        gone = [f"{name}: {row['why']}" for name, row in self._tests() if row["why"]]
        return self._document(
            f"Moderators ({many}; {format_level(self.level)})",
            _means(self),
            _test_table(self),
            ["No test:", *gone] if gone else [],
            list(self.empty_cells()),
            lines=[f"Model: {self.model_label}", f"Controlled for the others (contr.): {self.controlled}"],
        )

    def empty_cells(self) -> Iterator[str]:
        """Say which levels no effect has together, those first that most studies might have filled."""
        shown = [
            f"{row['moderator1']} {row['level1']} with {row['moderator2']} {row['level2']} ({row['studies1']} and "
            f"{row['studies2']} studies)"
            for row in records_of(self.gaps.head(MOST_GAPS))
        ]
        rest = len(self.gaps) - len(shown)
        if shown:
            more = f"; and {rest} more pairs" if rest else ""
            yield f"Empty cells, levels that no effect has together: {'; '.join(shown)}{more}."

    def _tests(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in records_of(self.tests.reset_index()):
            yield str(row["moderator"]), row


def _means(table: ModeratorTable) -> Table:
    """Return the journal's table: the levels under their moderator."""
    on_r = table.measure == "ZCOR"
    point, lb, ub, low, high = AS_R if on_r else AS_R.values()
    adjusted = f"{'r' if on_r else 'estimate'}_controlled"
    separate, both = table.tau2 == "separate", table.k_controlled > 0
    rows: list[tuple[str, ...]] = []
    last = OVERALL
    for row in records_of(table.frame.reset_index()):
        name, sign = str(row["moderator"]), row["kind"] == "slope"
        if name != last:
            rows.append((name,))
        last = name
        decimals = 3 if row["level"] == PER_UNIT and sign else 2
        intervals = (fixed_interval(row[a], row[b], decimals) for a, b in ((lb, ub), (low, high)))
        cells = [fixed(row[point], decimals, sign=sign), *intervals]
        cells = ["–" if cell.startswith(("n/a", "[n/a")) else cell for cell in cells]
        cells += [_or_dash(row["tau"], 2)] if separate else []
        cells += [_or_dash(row[adjusted], decimals, sign=sign)] if both else []
        counts = [str(row["k"]), str(row["studies"]), _or_dash(row["people"], 0)]
        rows.append((str(row["level"]) if name != OVERALL else OVERALL, *counts, *cells))
    text = format_level(table.level)
    head = ["", "k", "studies", "N", "r" if on_r else "mean", f"{text} CI", f"{text} PI"]
    return Table((*head, *(["tau"] if separate else []), *(["contr."] if both else [])), tuple(rows))


def _or_dash(value: Any, decimals: int, *, sign: bool = False) -> str:
    return "–" if value is None or math.isnan(value) else fixed(value, decimals, sign=sign)


def _test_table(table: ModeratorTable) -> Table:
    rows = []
    for name, row in table._tests():
        if not row["why"]:
            df = f"{row['df1']}" if isinstance(row["df2"], NotApplicable) else f"{row['df1']}, {plain_df(row['df2'])}"
            stat = f"{row['test']}({df}) = {fixed(row['stat'], 2)}"
            p = [bare_p(row[one]) for one in ("pval", "pval_adjusted", "pval_controlled")]
            p = ["–" if one == "n/a" else one for one in p]
            rows.append((name, str(row["missing"]), stat, *p, _or_dash(row["R2"], 1)))
    adjusted = "adjusted" if table.adjust == "none" else ADJUSTMENTS[table.adjust].split("-")[0]
    return Table(("", "missing", "test", "p", adjusted, "contr.", "R2 %"), tuple(rows), "Tests", (2,))


def moderator_table(
    effects: EffectSizes,
    moderators: str | Sequence[str],
    *,
    model: TableModel = "che",
    tau2: SharedTau2 = "common",
    control: bool = True,
    adjust: Adjustment = "holm",
    least: int | None = None,
    gaps: bool | Sequence[str] = True,
    cluster: str = "study_id",
    rho: float = DEFAULT_RHO,
    type: RobustType = "CR2",
    method: str = "REML",
    test: str | None = None,
    level: float = 0.95,
) -> ModeratorTable:
    r"""Ask of every moderator whether the mean effect differs by it: the "Table 2" of a meta-analysis.

    Does it matter who rated the alliance, in which treatment, or when? Each moderator gets a model of its own, from the
    effects that have a value: the mean at each level (or the slope, per unit and per standard deviation), with effects,
    studies and people behind it, and one test. Moderators go together, though: if observers mostly rated short
    treatments, raters may seem to differ when it is the length that does. The controlled columns are from one model
    with all moderators, on the effects that have them all. With several tests one is soon below .05 by chance: the
    adjusted p allows for how many were made. None of this is causal: studies were not assigned to their levels.

    Parameters
    ----------
    effects : EffectSizes
    moderators : str or sequence of str
        Columns. Text is categorical, numbers are continuous; ``"C(x)"`` makes numbers categories.
    model : {"che", "random", "multilevel"}
        ``che``: effects of one study may depend on each other in any way (working model of `che`, cluster-robust tests:
        HTZ, Satterthwaite df); the choice wherever studies have several effects. ``random``: takes effects as
        independent, right for one effect per study. ``multilevel``: three levels, sampling errors independent, tests
        as sure as that model is right; for comparison with articles that did so.
    tau2 : {"common", "separate"}
        ``common``: levels scatter alike around their means; steadier, and the default. ``separate``: every level has
        its own variance, when some are thought more heterogeneous; wants five or more studies per level. For ``che``
        that is the subgroup correlated effects model (`models.sce`), for ``random`` `models.subgroups`.
    control : bool
        Whether to fit the model with all moderators, too; one tau2 in any case. Its means are for the mix of the other
        moderators that the effects have, so that they can be read beside those without control.
    adjust : {"holm", "bonferroni", "sidak", "fdr_bh", "none"}
        Correction across the moderators' tests.
    least : int, optional
        Levels of fewer studies are counted, but get no mean and are not in the test; by default 2 where inference is
        robust, for which one study shows no error, else 1.
    gaps : bool or sequence of str
        Whether empty cells are looked for: pairs of levels, of two categorical moderators, that no effect has
        together. Names restrict the search to these moderators.
    cluster, rho, type
        As in `che`; ``cluster`` also is the outer level of ``multilevel``.
    method, test, level
        As in `RandomEffectsModel` and `MultilevelModel`; ``che`` has its own test.

    Returns
    -------
    ModeratorTable
        ``.tidy()`` one row per level or slope, ``.tests`` one per moderator, ``.gaps``.

    Raises
    ------
    InputError
        An unknown moderator or one named twice, choices that do not go together. A moderator that cannot be tested (one
        level, too few studies) keeps its row and says why.

    Warns
    -----
    DependenceWarning
        ``model="random"`` where studies have several effects.

    See Also
    --------
    moderators.pairwise : which levels differ.
    models.subgroups, moderators.marginal_means, moderators.marginal_slopes : a single moderator in detail.

    Notes
    -----
    HTZ: Tipton & Pustejovsky (2015, doi:10.3102/1076998615606099). SCE: Pustejovsky & Tipton (2022,
    doi:10.1007/s11121-021-01246-3). :math:`R^2 = 1 - \hat\tau^2_{mod} / \hat\tau^2_0`, both from the effects that have
    the moderator (Raudenbush 2009); noisy below some 40 studies (Lopez-Lopez et al. 2014, doi:10.1111/bmsp.12002). R::

        V <- vcalc(vi, cluster=study_id, obs=es_id, data=dat, rho=0.6)
        fit <- rma.mv(yi, V, mods = ~ rater, random = ~ 1 | study_id/es_id, data=dat)
        Wald_test(fit, constrain_zero(2:3), vcov="CR2", cluster=dat$study_id)

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, moderator_table
    >>> found = moderator_table(escalc(load_dataset("crede2010")), ["criterion", "year"])
    >>> found.tidy()[["k", "studies"]].loc["criterion"].values.tolist(), found.tidy()["r"].round(2).head(3).tolist()
    ([[30, 24], [67, 54]], [0.43, 0.36, 0.45])
    >>> found.tests[["stat", "df2", "pval", "pval_adjusted"]].loc["criterion"].astype(float).round(3).tolist()
    [3.36, 27.192, 0.078, 0.156]
    """
    check_effects(effects, "moderator_table")
    check_option("adjust", adjust, Adjustment)
    working = Working(model, tau2, cluster, rho, type, method, test, level)
    working.check()
    mods = read_moderators(effects, _names(moderators))
    crossed = _crossed(mods, gaps)
    warned = dependence_notes(effects, stacklevel=3) if model == "random" else []
    fitted = fit_all(effects, working, mods, least=_least(least, working), control=control)
    frame, tests = frame_of_rows(fitted), frame_of_tests(fitted, adjust)
    return ModeratorTable(
        model=model,
        tau2=tau2,
        model_label=working.words(),
        adjust=adjust,
        level=level,
        measure=effects.measure,
        scale_label=effects.scale_label,
        k=effects.k,
        studies=effects.n_studies,
        k_controlled=0 if isinstance(fitted.joint, str) else fitted.joint.k,
        controlled=_joint_words(fitted),
        frame=frame,
        tests=tests,
        gaps=frame_of_gaps(crossed, fitted.clusters),
        provenance=effects.provenance,
        effects=effects,
        notes=merge_notes(warned, notes_of(fitted, frame, tests)),
    )


def _names(moderators: str | Sequence[str]) -> list[str]:
    names = [moderators] if isinstance(moderators, str) else list(moderators)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError("name at least one moderator, as text: moderator_table(effects, ['rater', 'year'])")
    return names


def _least(least: int | None, working: Working) -> int:
    if least is None:
        return 2 if working.robust else 1
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise InputError(f"least={least!r} is how many studies a level must have: a whole number of at least 1")
    return least


def _crossed(found: Sequence[Moderator], gaps: bool | Sequence[str]) -> list[Moderator]:
    if isinstance(gaps, bool):
        return list(found) if gaps else []
    known = {one.name: one for one in found}
    for name in gaps:
        if name not in known or not known[name].levels:
            raise InputError(f"gaps has {name!r}, which is no categorical moderator of this table")
    return [known[name] for name in gaps]


def _joint_words(fitted: Fitted) -> str:
    joint = fitted.joint
    return (
        f"none: {joint}"
        if isinstance(joint, str)
        else f"{joint.design.formula}, {joint.k} of {fitted.effects.k} effects"
    )
