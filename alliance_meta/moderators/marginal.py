"""Marginal means and slopes: what the model says of one moderator when the others are evened out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_values, statistic, two_sided_p
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import (
    Weights,
    averages,
    check_names,
    finite_number,
    interaction_note,
    is_list,
    label,
    level_values,
    missing_note,
    moderated,
    one_level,
)
from alliance_meta.notes import NotApplicable, Note, Scale, check_option, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import Fit, records_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, format_level

MEANS = ("estimate", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
UNKNOWN = "the effects in the model do not determine it"
NO_PREDICTION = "an equal-effects model has no prediction interval"


@dataclass(frozen=True, eq=False, repr=False)
class MarginalMeans(Result):
    """Adjusted mean effects.

    Attributes
    ----------
    by : tuple of str
        The moderators whose levels have a row each.
    over : tuple of str
        Categorical moderators averaged over.
    held : mapping of str to float
        Numeric moderators and the value each was held at.
    weights : {"equal", "proportional"}
    L : ndarray of shape (m, p)
        The combination of coefficients behind each row.
    scale, scale_label : str
    level : float
    formula, model_label : str
        The model.
    provenance : Provenance
        Where the effects came from; plots label synthetic data by it.
    """

    by: tuple[str, ...]
    over: tuple[str, ...]
    held: Mapping[str, float]
    weights: Weights
    L: Array
    scale: str
    scale_label: str
    level: float
    formula: str
    model_label: str
    notes: tuple[Note, ...]
    provenance: Provenance
    _frame: pd.DataFrame

    def tidy(self) -> pd.DataFrame:
        """Return one row per level: the moderators, ``k estimate se ci_lb ci_ub pi_lb pi_ub``, unrounded.

        ``k`` counts the effects at that level. A row that cannot be estimated is NaN, and a note names it.
        ``pi_lb`` and ``pi_ub`` are NaN under equal effects.
        """
        return self._frame.copy()

    def _values(self) -> dict[str, Any]:
        rows = [{**row, **_reasons(row)} for row in records_of(self._frame)]
        return {
            **self._these("by", "over", "held", "weights", "scale", "level", "formula"),
            "model": self.model_label,
            "rows": rows,
        }

    def _content(self) -> Document:
        of = f" by {', '.join(self.by)}" if self.by else ""
        evened = []
        if self.over:
            how = "equally" if self.weights == "equal" else "as often as they occur"
            evened.append(f"averaged over {', '.join(self.over)} (levels count {how})")
        evened += [f"{name} held at {brief(value)}" for name, value in self.held.items()]
        return self._document(
            f"Marginal means{of}; {self.scale_label}; {format_level(self.level)} intervals",
            table_of(self._frame, {"k": 0, **dict.fromkeys(MEANS, 4)}),
            lines=[f"Model: {self.formula} ({self.model_label})" + "".join(f"; {one}" for one in evened)],
        )


def _reasons(row: Mapping[str, Any]) -> dict[str, NotApplicable]:
    if math.isnan(row["estimate"]):
        return dict.fromkeys(MEANS, NotApplicable(UNKNOWN))
    if math.isnan(row["pi_lb"]):
        return dict.fromkeys(("pi_lb", "pi_ub"), NotApplicable(NO_PREDICTION))
    return {}


def marginal_means(
    fit: Fit,
    by: str | Sequence[str] = (),
    *,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    scale: Scale | None = None,
    level: float | None = None,
) -> MarginalMeans:
    r"""Estimate the mean effect at each level of a moderator, the other moderators being evened out.

    Client ratings may come mostly from short therapies and observer ratings from long ones; the raw means
    of the raters then mix both differences. A marginal mean is what the model expects if every rater had the
    same mix of the other moderators, so that the levels can be compared fairly.

    Parameters
    ----------
    fit : a fitted model
        With moderators; the mean of posteriors is their median.
    by : str or sequence of str
        Moderators: one row for each level, or each combination of levels. A numeric one has a row for each
        value that `at` gives. Without any, one row for the whole model.
    at : mapping, optional
        Moderator -> value or list of values. A numeric moderator that is not in `by` is held at this value
        instead of its mean over the effects; a categorical one is restricted to these levels.
    weights : {"equal", "proportional"}
        How the levels of the other categorical moderators count: all alike, or each combination of them as
        often as it occurs among the effects.
    scale : {"z", "r", "r_mean"}, optional
        As in ``fit.predict``; the analysis scale by default. Averages are taken on the analysis scale and
        their limits transformed.
    level : float, optional
        Confidence level, a fraction; the fit's by default.

    Returns
    -------
    MarginalMeans
        ``.tidy()`` has one row per level with confidence and prediction interval. The prediction interval is
        that of a new study with this average mix. NaN, with a note, where the model cannot tell: a
        combination of levels that no effect has, in a model with their interaction.

    Raises
    ------
    DesignError
        For a model without moderators.
    InputError
        An unknown moderator or level, or a scale these effects do not have.

    Notes
    -----
    With L the average of the rows of the design matrix over the reference grid,
    :math:`L\hat\beta \mp c \sqrt{L V L'}` (Searle, Speed & Milliken 1980,
    doi:10.1080/00031305.1980.10483031). Numeric moderators are held at their mean and then coded:
    ``poly(year, 2)`` is taken at the mean year, not at the mean of its columns.
    R: ``emmprep(fit)`` and ``emmeans(..., specs = "rater", weights = "proportional")``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.moderators import marginal_means
    >>> es = escalc(load_dataset("molloy2014"))
    >>> fit = RandomEffectsModel(es, mods="design + meanage").fit()
    >>> marginal_means(fit, "design", scale="r").tidy()[["k", "estimate"]].round(3).values.tolist()
    [[5.0, 0.154], [11.0, 0.153]]
    """
    check_option("weights", weights, Weights)
    design, used = moderated(fit), fit._level(level)
    names = (by,) if isinstance(by, str) else tuple(by)
    rows = averages(fit, names, at=at, weights=weights)
    out = fit.predicted(rows.L, scale=scale, level=used)
    out = out.rename(columns={"pred": "estimate"})
    out.loc[~rows.known, :] = float("nan")
    cells = pd.DataFrame(list(rows.cells), index=out.index, columns=list(names))
    why = out.attrs.get("pi_note", "")
    without = (Note("no-prediction-interval", f"{why[0].upper()}{why[1:]}."),) if why else ()
    table_ = pd.concat([cells, pd.Series(rows.k, index=out.index, name="k"), out], axis=1)
    table_.index = pd.Index([label(cell) for cell in rows.cells])
    table_.attrs = {**out.attrs, "level": used}
    return MarginalMeans(
        by=names,
        over=rows.over,
        held=rows.held,
        weights=weights,
        L=rows.L,
        scale=out.attrs["scale"],
        scale_label=out.attrs["scale_label"],
        level=used,
        formula=design.formula,
        model_label=fit.model_label,
        notes=merge_notes(missing_note(rows), interaction_note(design, names, rows.over), without),
        provenance=fit.effects.provenance,
        _frame=table_,
    )


SLOPES = ("estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub")
COLUMNS_R = ("estimate_r", "se_r", "ci_lb_r", "ci_ub_r")
# Five-point differences, exact up to fourth powers; one-sided where a spline ends.
STEPS = {-1: (-4, -3, -2, -1, 0), 0: (-2, -1, 0, 1, 2), 1: (0, 1, 2, 3, 4)}
FACTORS = {-1: (3, -16, 36, -48, 25), 0: (1, -8, 0, 8, -1), 1: (-25, 48, -36, 16, -3)}


@dataclass(frozen=True, eq=False, repr=False)
class MarginalSlopes(Result):
    """Average slopes of the mean effect on a numeric moderator.

    Attributes
    ----------
    name : str
        The numeric moderator.
    by : tuple of str
        Moderators whose levels have a row each.
    at : mapping
        Values that replaced those of the effects.
    L : ndarray of shape (m, p)
        The combination of coefficients behind each slope.
    level : float
    scale_label, formula, model_label : str
    """

    name: str
    by: tuple[str, ...]
    at: Mapping[str, Any]
    L: Array
    level: float
    scale_label: str
    formula: str
    model_label: str
    notes: tuple[Note, ...]
    _frame: pd.DataFrame

    def tidy(self) -> pd.DataFrame:
        """Return one row per slope, unrounded.

        ``estimate se stat ddf pval ci_lb ci_ub`` are on the analysis scale, per unit of the moderator; for
        Fisher z effects ``estimate_r se_r ci_lb_r ci_ub_r`` are the change in r. NaN, with a note, where no
        effect tells.
        """
        return self._frame.copy()

    def _values(self) -> dict[str, Any]:
        gone = dict.fromkeys([name for name in (*SLOPES, *COLUMNS_R) if name in self._frame], NotApplicable(UNKNOWN))
        rows = [{**row, **(gone if np.isnan(row["estimate"]) else {})} for row in records_of(self._frame)]
        about = {"scale": self.scale_label, "model": self.model_label, "rows": rows}
        return {**self._these("name", "by", "at", "level", "formula"), **about}

    def _content(self) -> Document:
        held = "".join(f"; {name} = {value}" for name, value in self.at.items())
        kinds: dict[str, Kind] = {"estimate": 5, "se": 5, "stat": 3, "pval": "p", "ci_lb": 5, "ci_ub": 5}
        blocks = [table_of(self._frame, kinds)]
        if "estimate_r" in self._frame:
            caption = "Change in r per unit at the average study (delta method)"
            blocks.append(table_of(self._frame, dict.fromkeys(COLUMNS_R, 5), caption))
        return self._document(
            f"Average slope of {self.name} ({self.scale_label} per unit); {format_level(self.level)} intervals",
            *blocks,
            lines=[f"Model: {self.formula} ({self.model_label}){held}"],
        )


def marginal_slopes(
    fit: Fit,
    name: str,
    *,
    by: str | Sequence[str] = (),
    at: Mapping[str, Any] | None = None,
    level: float | None = None,
) -> MarginalSlopes:
    r"""Estimate how much the mean effect changes per unit of a numeric moderator.

    For a straight line this is the coefficient. With a curve (``poly``, ``bs``) or an interaction the slope
    differs between studies; this is its average over the studies in the model, or the slope at values given.

    Parameters
    ----------
    fit : a fitted model
        A model with moderators.
    name : str
        A numeric moderator.
    by : str or sequence of str
        Categorical moderators: one slope for each level, as if every study were at that level.
    at : mapping, optional
        Moderator -> one value, put in place of every study's own: ``at={"year": 2010}`` gives the slope at
        2010.
    level : float, optional
        Confidence level, a fraction; the fit's by default.

    Returns
    -------
    MarginalSlopes
        Slopes on the analysis scale with tests and intervals. For Fisher z effects also the change in r,
        :math:`(1 - \tanh^2\bar\eta)\,s` for the slope s at the average :math:`\bar\eta` of the studies'
        fitted values, with its delta-method standard error.

    Raises
    ------
    DesignError
        For a model without moderators.
    InputError
        `name` is not a numeric moderator of the model, or a value in `at` cannot be coded.

    Notes
    -----
    The derivative of the design matrix is taken by five-point differences, exact for polynomials up to the
    fourth power. R: ``marginaleffects::avg_slopes(fit, variables = "year", by = "rater")``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.moderators import marginal_slopes
    >>> es = escalc(load_dataset("molloy2014"))
    >>> fit = RandomEffectsModel(es, mods="design * meanage").fit()
    >>> marginal_slopes(fit, "meanage", by="design").tidy()["estimate"].round(4).tolist()
    [0.0, -0.0031]
    """
    design, used = moderated(fit), fit._level(level)
    names = (by,) if isinstance(by, str) else tuple(by)
    held = _held(fit, name, names, at or {})
    levels = [level_values(one, design, fit.effects.moderators) for one in names]
    cells = [dict(zip(names, combo, strict=True)) for combo in product(*levels)]
    rows = [_average(fit, name, {**held, **cell}) for cell in cells]
    slopes, means, known = (np.array(part) for part in zip(*rows, strict=True))
    frame = _estimates(fit, slopes, means, used)
    frame.loc[~known, :] = float("nan")
    marked = pd.DataFrame(cells, index=frame.index, columns=list(names))
    out = pd.concat([marked, frame], axis=1)
    out.index = pd.Index([label(cell) for cell in cells])
    lost = [label(cell) for cell, one in zip(cells, known, strict=True) if not one]
    note = Note("not-estimable", f"Not estimable from these effects: {'; '.join(lost)}.")
    return MarginalSlopes(
        name=name,
        by=names,
        at=held,
        L=slopes,
        level=used,
        scale_label=fit.effects.scale_label,
        formula=design.formula,
        model_label=fit.model_label,
        notes=(note,) if lost else (),
        _frame=out,
    )


def _held(fit: Fit, name: str, by: Sequence[str], at: Mapping[str, Any]) -> dict[str, Any]:
    design, moderators = moderated(fit), fit.effects.moderators
    check_names(design, [name, *by, *at])
    if name in design.levels:
        raise InputError(f"{name} is categorical; compare its levels with pairwise")
    for one in by:
        if one not in design.levels:
            raise InputError(f"by={one!r} is numeric; give one value of it in at")
        if one in at:
            raise InputError(f"{one} is in by and in at; leave it out of one")
    if any(is_list(value) for value in at.values()):
        raise InputError("at needs one value per moderator here")
    known = {one: level_values(one, design, moderators) for one in at if one in design.levels}
    return {n: one_level(n, v, known[n]) if n in known else finite_number(n, v) for n, v in at.items()}


def _average(fit: Fit, name: str, held: Mapping[str, Any]) -> tuple[Array, Array, bool]:
    """Return the average slope row, the average row, and whether the slope can be estimated."""
    design = moderated(fit)
    frame = fit.effects.moderators[list(design.variables)]
    observed = frame[name].to_numpy(dtype=float)
    frame = frame.assign(**held)
    x = frame[name].to_numpy(dtype=float)
    low, width = float(observed.min()), float(np.ptp(observed))
    # A power of two keeps x + h exact, and with it the slope of a straight line.
    h = 2.0 ** np.floor(np.log2(width / 1024.0))
    inside = (x >= low) & (x <= low + width)
    side = np.where(inside & (x - 2 * h < low), 1, np.where(inside & (x + 2 * h > low + width), -1, 0))
    steps = np.array([STEPS[int(s)] for s in side]) * h
    factors = np.array([FACTORS[int(s)] for s in side]) / (12.0 * h * len(x))
    nodes = pd.concat([frame] * 5, ignore_index=True).assign(**{name: (x + steps.T).ravel()})
    share = factors.T.ravel()
    slope = share @ design.new_rows(nodes, averaged=True)[0]
    outside = share @ design.beyond(nodes) * width
    mean = design.new_rows(frame, averaged=True)[0].mean(axis=0)
    return slope, mean, bool(design.estimable(outside[None, :])[0])


def _estimates(fit: Fit, slopes: Array, means: Array, level: float) -> pd.DataFrame:
    ddf = fit.row_ddf(slopes)
    half = critical_values(level, ddf)
    slope, se = slopes @ fit.beta, _errors(slopes, fit.vb)
    stat = statistic(slope, se)
    values = (slope, se, stat, ddf, two_sided_p(stat, ddf), slope - half * se, slope + half * se)
    frame = pd.DataFrame(dict(zip(SLOPES, values, strict=True)))
    if fit.effects.measure != "ZCOR":
        return frame
    eta = means @ fit.beta
    shrink = 1.0 / np.cosh(eta) ** 2
    gradient = shrink[:, None] * (slopes - 2.0 * (np.tanh(eta) * slope)[:, None] * means)
    change, error = shrink * slope, _errors(gradient, fit.vb)
    on_r = (change, error, change - half * error, change + half * error)
    return frame.assign(**dict(zip(COLUMNS_R, on_r, strict=True)))


def _errors(L: Array, vb: Array) -> Array:
    return np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", L, vb, L), 0.0))
