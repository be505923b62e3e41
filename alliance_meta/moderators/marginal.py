"""Marginal means and slopes: what the model says of one moderator when the others are evened out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.effects.provenance import Provenance
from alliance_meta.encoding import plain
from alliance_meta.moderators.grid import Weights, averages, interaction_note, label, missing_note, moderated
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import Scale, check_level, check_option
from alliance_meta.result import Result
from alliance_meta.results.fit import Fit, records_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import brief, level_text

COLUMNS = ("estimate", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
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
    notes : tuple of Note
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        rows = [{**row, **_reasons(row)} for row in records_of(self._frame)]
        return plain(
            {
                "by": list(self.by),
                "over": list(self.over),
                "held": dict(self.held),
                "weights": self.weights,
                "scale": self.scale,
                "level": self.level,
                "formula": self.formula,
                "model": self.model_label,
                "rows": rows,
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        of = f" by {', '.join(self.by)}" if self.by else ""
        evened = []
        if self.over:
            how = "equally" if self.weights == "equal" else "as often as they occur"
            evened.append(f"averaged over {', '.join(self.over)} (levels count {how})")
        evened += [f"{name} held at {brief(value)}" for name, value in self.held.items()]
        return self._document(
            f"Marginal means{of}; {self.scale_label}; {level_text(self.level)} intervals",
            table_of(self._frame, {"k": 0, **dict.fromkeys(COLUMNS, 4)}),
            lines=[f"Model: {self.formula} ({self.model_label})" + "".join(f"; {one}" for one in evened)],
        )


def _reasons(row: Mapping[str, Any]) -> dict[str, NotApplicable]:
    if math.isnan(row["estimate"]):
        return dict.fromkeys(COLUMNS, NotApplicable(UNKNOWN))
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
    used = fit.level if level is None else level
    check_level(used)
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
        formula=moderated(fit).formula,
        model_label=fit.model_label,
        notes=merge_notes(
            missing_note(rows),
            interaction_note(moderated(fit), names, rows.over),
            without,
        ),
        provenance=fit.effects.provenance,
        _frame=table_,
    )
