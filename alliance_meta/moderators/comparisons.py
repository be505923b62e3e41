"""Every level of a moderator against every other, with p-values corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_values, two_sided_p
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import Weights, averages, interaction_note, label, missing_note, moderated
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import Fit, records_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, format_level

Adjustment = Literal["holm", "bonferroni", "sidak", "fdr_bh", "none"]
NAMES = {
    "holm": "Holm",
    "bonferroni": "Bonferroni",
    "sidak": "Sidak",
    "fdr_bh": "Benjamini-Hochberg",
    "none": "no",
}
COLUMNS = ("estimate", "se", "stat", "ddf", "pval", "pval_adjusted", "ci_lb", "ci_ub")
UNKNOWN = "the effects in the model do not determine it"
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False, repr=False)
class PairwiseResults(Result):
    """Differences between all pairs of levels.

    Attributes
    ----------
    by : tuple of str
        The moderators whose levels are compared.
    adjust : str
        The correction of the p-values.
    level : float
        Confidence level; levels differ when the adjusted p is below 1 - level.
    L : ndarray of shape (m, p)
        The contrast behind each difference.
    letters : mapping of str to str
        Compact letter display: levels that share a letter do not differ.
    scale_label, formula, model_label : str
    """

    by: tuple[str, ...]
    adjust: Adjustment
    level: float
    L: Array
    letters: Mapping[str, str]
    scale_label: str
    formula: str
    model_label: str
    notes: tuple[Note, ...]
    _frame: pd.DataFrame

    def tidy(self) -> pd.DataFrame:
        """Return one row per pair, unrounded, on the analysis scale.

        ``level1 level2``, their difference ``estimate`` (the first minus the second), ``se stat ddf pval
        pval_adjusted ci_lb ci_ub``. NaN, with a note, where no effect tells.
        """
        return self._frame.copy()

    def _values(self) -> dict[str, Any]:
        gone = dict.fromkeys(COLUMNS, NotApplicable(UNKNOWN))
        some = {name: NotApplicable("the difference has no variance") for name in ("stat", "pval", "pval_adjusted")}
        rows = []
        for row in records_of(self._frame):
            lacking = gone if np.isnan(row["estimate"]) else some if np.isnan(row["stat"]) else {}
            rows.append({**row, **lacking})
        return {
            **self._these("by", "adjust", "level", "formula"),
            "scale": self.scale_label,
            "model": self.model_label,
            "rows": rows,
            "letters": dict(self.letters),
        }

    def _content(self) -> Document:
        m = int(self._frame["pval"].notna().sum())
        columns = ("estimate", "se", "pval", "pval_adjusted", "ci_lb", "ci_ub")
        kinds: dict[str, Kind] = {name: "p" if name.startswith("pval") else 4 for name in columns}
        rule = f"Levels that share a letter do not differ at p = {brief(1 - self.level)} (adjusted)"
        letters = table_of(pd.DataFrame({"letters": self.letters or {}}), {"letters": "s"}, rule)
        return self._document(
            f"Pairwise differences of {', '.join(self.by)} ({self.scale_label})",
            table_of(self._frame, kinds),
            letters,
            lines=[f"Model: {self.formula} ({self.model_label}); {NAMES[self.adjust]} correction, {m} tested"],
        )


def pairwise(
    fit: Fit,
    by: str | Sequence[str],
    *,
    adjust: Adjustment = "holm",
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    level: float | None = None,
) -> PairwiseResults:
    """Compare every level of a moderator with every other.

    With five levels there are ten comparisons, and chance alone makes one of them "significant" far more
    often than once in twenty. The adjusted p-values allow for the number of comparisons.

    Parameters
    ----------
    fit : a fitted model
        A model with moderators.
    by : str or sequence of str
        The moderator whose levels are compared; several for the combinations of their levels.
    adjust : {"holm", "bonferroni", "sidak", "fdr_bh", "none"}
        ``holm`` bounds the chance of any false difference and is never weaker than ``bonferroni``;
        ``sidak`` does so for independent tests; ``fdr_bh`` bounds the expected share of false ones among
        those found.
    at, weights
        How the other moderators are evened out, as in `marginal_means`.
    level : float, optional
        Confidence level, a fraction; the fit's by default.

    Returns
    -------
    PairwiseResults
        Differences of marginal means on the analysis scale, never on r. With ``bonferroni`` and ``sidak`` the
        intervals are widened to hold together; ``holm`` and ``fdr_bh`` define no intervals, and theirs are
        those of single comparisons, as a note says.

    Raises
    ------
    DesignError
        For a model without moderators.
    InputError
        Fewer than two levels to compare, an unknown moderator, level or correction.

    Notes
    -----
    Wald tests with the model's own reference distribution. Letters by insertion and absorption (Piepho 2004,
    doi:10.1198/1061860043515), in the order of the means. Not sharing a letter is a finding; sharing one is
    not a finding of equality. R: ``anova(fit, X = pairmat(fit), adjust = "holm")``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.moderators import pairwise
    >>> table = load_dataset("mcdaniel1994").query("type.notna()")
    >>> fit = RandomEffectsModel(escalc(table), mods="type", test="z").fit()
    >>> pairwise(fit, "type").tidy()[["level1", "level2", "pval_adjusted"]].round(3).values.tolist()
    [['j', 'p', 0.069], ['j', 's', 0.338], ['p', 's', 0.068]]
    """
    check_option("adjust", adjust, Adjustment)
    check_option("weights", weights, Weights)
    design, used = moderated(fit), fit._level(level)
    names = (by,) if isinstance(by, str) else tuple(by)
    rows = averages(fit, names, at=at, weights=weights)
    labels = [label(cell) for cell in rows.cells]
    if len(labels) < 2:
        raise InputError(f"{', '.join(names) or 'by'} has one level here; a comparison needs two")
    pairs = list(combinations(range(len(labels)), 2))
    L = np.array([rows.L[i] - rows.L[j] for i, j in pairs])
    known = np.array([bool(rows.known[i] and rows.known[j]) for i, j in pairs])
    frame = _tests(fit, L, known, adjust, used)
    frame.insert(0, "level1", [labels[i] for i, _ in pairs])
    frame.insert(1, "level2", [labels[j] for _, j in pairs])
    frame.index = pd.Index([f"{labels[i]} - {labels[j]}" for i, j in pairs])
    means = {labels[i]: float(rows.L[i] @ fit.beta) for i in range(len(labels)) if rows.known[i]}
    return PairwiseResults(
        by=names,
        adjust=adjust,
        level=used,
        L=L,
        letters=_display(frame, means, 1.0 - used),
        scale_label=fit.effects.scale_label,
        formula=design.formula,
        model_label=fit.model_label,
        notes=merge_notes(
            missing_note(rows),
            interaction_note(design, names, rows.over),
            _notes(frame, adjust, used),
        ),
        _frame=frame,
    )


def adjust_pvalues(pvalues: Any, *, method: Adjustment = "holm") -> Array:
    """Correct p-values for the number of tests made.

    Parameters
    ----------
    pvalues : array-like of shape (m,)
        In any order. NaN (a test that does not exist) stays NaN and does not count.
    method : {"holm", "bonferroni", "sidak", "fdr_bh", "none"}
        As in `pairwise`.

    Returns
    -------
    ndarray of shape (m,)
        Adjusted p-values, in the order given.

    Raises
    ------
    InputError
        A p-value outside 0 to 1, or an unknown method.

    Notes
    -----
    As ``statsmodels.stats.multitest.multipletests``. Holm (1979); Benjamini & Hochberg (1995,
    doi:10.1111/j.2517-6161.1995.tb02031.x). R: ``p.adjust(p, "holm")``.

    Examples
    --------
    >>> from alliance_meta.moderators import adjust_pvalues
    >>> adjust_pvalues([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    check_option("method", method, Adjustment)
    p = np.atleast_1d(np.asarray(pvalues, dtype=float))
    there = ~np.isnan(p)
    if ((p[there] < 0) | (p[there] > 1)).any():
        raise InputError(f"a p-value lies between 0 and 1, not {brief(p[there][(p[there] < 0) | (p[there] > 1)][0])}")
    out = p.copy()
    if method == "holm":
        out[there] = _holm(p[there])
    elif method != "none" and there.any():
        from statsmodels.stats.multitest import multipletests

        out[there] = multipletests(p[there], method=method)[1]
    return out


def _holm(p: Array) -> Array:
    """Return Holm's p-values; statsmodels' function, which gives the same, collects garbage at every call (75 ms)."""
    order = np.argsort(p, kind="stable")
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return out


def letters(different: Any) -> tuple[str, ...]:
    """Give letters to levels so that two share one exactly when they do not differ.

    Parameters
    ----------
    different : array-like of bool, shape (m, m)
        Symmetric; whether each pair of levels differs.

    Returns
    -------
    tuple of str
        The letters of each level; ``a`` goes to the first.

    Raises
    ------
    InputError
        If the matrix is not square and symmetric with an empty diagonal.

    Notes
    -----
    Insertion and absorption (Piepho 2004, doi:10.1198/1061860043515): the groups are the largest sets
    without a difference inside. Groups beyond the 52nd are numbered.

    Examples
    --------
    >>> from alliance_meta.moderators import letters
    >>> letters([[False, False, True], [False, False, False], [True, False, False]])
    ('a', 'ab', 'b')
    """
    D = np.asarray(different, dtype=bool)
    if D.ndim != 2 or D.shape[0] != D.shape[1] or (D != D.T).any() or D.diagonal().any():
        raise InputError("letters needs a square, symmetric matrix whose diagonal is False")
    groups = [frozenset(range(len(D)))] if len(D) else []
    for i, j in combinations(range(len(D)), 2):
        if D[i, j]:
            groups = _insert(groups, i, j)
    groups.sort(key=sorted)
    names = [*ALPHABET, *(f"({n})" for n in range(len(ALPHABET) + 1, len(groups) + 1))]
    return tuple("".join(name for name, group in zip(names, groups, strict=False) if i in group) for i in range(len(D)))


def _insert(groups: list[frozenset[int]], i: int, j: int) -> list[frozenset[int]]:
    """Split every group that holds both levels, and drop groups that lie within another."""
    split = [group for group in groups if not {i, j} <= group]
    for group in groups:
        if {i, j} <= group:
            split += [group - {i}, group - {j}]
    unique = list(dict.fromkeys(split))
    return [group for group in unique if not any(group < other for other in unique)]


def _tests(fit: Fit, L: Array, known: Array, adjust: Adjustment, level: float) -> pd.DataFrame:
    ddf = fit.row_ddf(L)
    estimate = np.where(known, L @ fit.beta, np.nan)
    se = np.where(known, np.sqrt(np.einsum("mp,pq,mq->m", L, fit.vb, L)), np.nan)
    stat = np.full(len(L), np.nan)
    np.divide(estimate, se, out=stat, where=se > 0)
    pval = two_sided_p(stat, ddf)
    half = critical_values(_joint_level(level, adjust, int((~np.isnan(pval)).sum())), ddf) * se
    adjusted = adjust_pvalues(pval, method=adjust)
    values = (estimate, se, stat, ddf, pval, adjusted, estimate - half, estimate + half)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def _joint_level(level: float, adjust: Adjustment, m: int) -> float:
    if m and adjust == "bonferroni":
        return 1.0 - (1.0 - level) / m
    if m and adjust == "sidak":
        return float(level ** (1.0 / m))
    return level


def _display(frame: pd.DataFrame, means: Mapping[str, float], alpha: float) -> dict[str, str]:
    """Return the letters of the levels that can be compared, in the levels' own order, lettered by mean."""
    order = sorted(means, key=lambda name: -means[name])
    place = {name: i for i, name in enumerate(order)}
    D = np.zeros((len(order), len(order)), dtype=bool)
    for first, second, p in zip(frame["level1"], frame["level2"], frame["pval_adjusted"], strict=True):
        if p < alpha:
            i, j = place[first], place[second]
            D[i, j] = D[j, i] = True
    found = dict(zip(order, letters(D), strict=True))
    return {name: found[name] for name in means}


def _notes(frame: pd.DataFrame, adjust: Adjustment, level: float) -> list[Note]:
    notes = []
    m = int(frame["pval"].notna().sum())
    if m > 1:
        if adjust in ("bonferroni", "sidak"):
            message = f"The {format_level(level)} intervals hold for all {m} differences together ({NAMES[adjust]})."
        else:
            message = (
                f"Each {format_level(level)} interval is that of a single comparison, not adjusted for {m} of them."
            )
        notes.append(Note("pairwise-intervals", message))
    if (frame["se"] == 0).any():
        notes.append(Note("no-variance", "The coefficients have no variance: the differences cannot be tested."))
    return notes
