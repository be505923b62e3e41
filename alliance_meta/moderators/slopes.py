"""Marginal slopes: how fast the mean effect changes with a numeric moderator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_values, statistic, two_sided_p
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import check_names, finite_number, is_list, label, level_values, moderated, one_level
from alliance_meta.notes import NotApplicable, Note, check_level
from alliance_meta.result import Result
from alliance_meta.results.export import plain, records_of
from alliance_meta.results.fit import Fit
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import level_text

COLUMNS = ("estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub")
COLUMNS_R = ("estimate_r", "se_r", "ci_lb_r", "ci_ub_r")
UNKNOWN = "the effects in the model do not determine it"
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
    notes : tuple of Note
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        gone = dict.fromkeys([name for name in (*COLUMNS, *COLUMNS_R) if name in self._frame], NotApplicable(UNKNOWN))
        rows = [{**row, **(gone if np.isnan(row["estimate"]) else {})} for row in records_of(self._frame)]
        head = {"name": self.name, "by": list(self.by), "at": dict(self.at), "level": self.level}
        about = {"scale": self.scale_label, "formula": self.formula, "model": self.model_label}
        return plain({**head, **about, "rows": rows, "notes": [note.to_dict() for note in self.notes]})

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        held = "".join(f"; {name} = {value}" for name, value in self.at.items())
        kinds: dict[str, Kind] = {"estimate": 5, "se": 5, "stat": 3, "pval": "p", "ci_lb": 5, "ci_ub": 5}
        blocks = [table_of(self._frame, kinds)]
        if "estimate_r" in self._frame:
            caption = "Change in r per unit at the average study (delta method)"
            blocks.append(table_of(self._frame, dict.fromkeys(COLUMNS_R, 5), caption))
        return self._document(
            f"Average slope of {self.name} ({self.scale_label} per unit); {level_text(self.level)} intervals",
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
    used = fit.level if level is None else level
    check_level(used)
    names = (by,) if isinstance(by, str) else tuple(by)
    held = _held(fit, name, names, at or {})
    levels = [level_values(one, moderated(fit), fit.effects.moderators) for one in names]
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
        formula=moderated(fit).formula,
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
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    if fit.effects.measure != "ZCOR":
        return frame
    eta = means @ fit.beta
    shrink = 1.0 / np.cosh(eta) ** 2
    gradient = shrink[:, None] * (slopes - 2.0 * (np.tanh(eta) * slope)[:, None] * means)
    change, error = shrink * slope, _errors(gradient, fit.vb)
    on_r = (change, error, change - half * error, change + half * error)
    return frame.assign(**dict(zip(COLUMNS_R, on_r, strict=True)))


def _errors(L: Array, vb: Array) -> Array:
    return np.sqrt(np.einsum("mp,pq,mq->m", L, vb, L))
