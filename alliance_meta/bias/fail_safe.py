"""Fail-safe numbers: how many missing effects that average 0 it would take to overturn the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bias.favoured import as_independent, check_alpha, check_finite
from alliance_meta.bias.given import Given, OfStudies, given
from alliance_meta.core.bias import significance as core
from alliance_meta.core.bias.worst_case import naive_tau2
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables import format as fmt
from alliance_meta.tables.document import Document, Kind, table_of

CAUTION = Note(
    "fail-safe-caution",
    "A fail-safe number does not estimate how many studies are missing. It takes those to average exactly 0, while "
    "selection leaves out results below 0 as well, so that far fewer would do.",
)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class FailSafeN(OfStudies):
    """Fail-safe numbers by several rules.

    Attributes
    ----------
    rosenthal, rosenberg, general : float
        Effects averaging 0 that would have to be missing until the result is no longer significant at `alpha`: by
        Stouffer's sum of z (one-tailed), by the equal-effects mean, by the random-effects mean.
    orwin, orwin_weighted, general_target : float
        The same until the mean is down to `target`: the plain mean, that weighted by 1 / variance, the random-effects
        mean; `NotApplicable` without a target.
    alpha : float
    target : float
    table : DataFrame
        What `tidy` returns.
    """

    rosenthal: float
    rosenberg: float
    general: float
    orwin: float
    orwin_weighted: float
    general_target: float
    alpha: float
    target: float
    table: pd.DataFrame

    def tidy(self) -> pd.DataFrame:
        """Return one row per rule: ``number until estimate pval``."""
        return self.table

    def _content(self) -> Document:
        kinds: dict[str, Kind] = {"number": _count, "until": "s", "estimate": _or_none, "pval": "p"}
        return self._document(f"Fail-safe numbers ({self._many})", table_of(self.table, kinds))


def _count(value: float) -> str:
    return fmt.NOT_AVAILABLE if value != value else "infinite" if np.isinf(value) else fmt.format_count(value)


def _or_none(value: float) -> str:
    return "" if value != value else fmt.fixed(value)


def fsn(fit: Any, *, alpha: float = 0.05, target: float | None = None) -> FailSafeN:
    """Count the missing effects averaging 0 that it would take until nothing is left to report.

    The oldest and the most lenient question that is asked of publication bias: how many unpublished studies with no
    relation at all would have to lie in drawers before the mean is no longer significant, or is down to a value too
    small to matter? A small number means that the result rests on little. A large number does not mean that there is no
    bias: report it only where a journal asks for it, and beside other methods.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used. The general rule takes mean and tau2 from a `RandomEffectsModel`, and REML's from the
        effects of any other model; the others have no model of true effects.
    alpha : float
        One-tailed for Rosenthal's rule, two-tailed for the others.
    target : float, optional
        The mean that is too small to matter, on the analysis scale; its sign is that of the mean.

    Returns
    -------
    FailSafeN
        Every number is `NotApplicable` with a single effect.

    Raises
    ------
    InputError
        What is no fit, a model with moderators, an alpha or target that makes no sense.

    Warns
    -----
    DependenceWarning
        Some study has several effects, which every rule takes as independent.

    Notes
    -----
    R: ``fsn(yi, vi, type = "Rosenthal" | "Orwin" | "Rosenberg" | "General", target = )``. Rosenthal (1979,
    doi:10.1037/0033-2909.86.3.638); Orwin (1983, doi:10.3102/10769986008002157); Rosenberg (2005,
    doi:10.1111/j.0014-3820.2005.tb01004.x); the general rule as in metafor (its approximate form, with a z test):
    missing effects have the harmonic mean of the variances, and tau2 is that of all effects together. metafor's search
    for that number may stop one above the least one. Why not to rely on any: Becker (2005, in Publication Bias in
    Meta-Analysis, Wiley).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.fsn(fit, target=0.05))
    Fail-safe numbers (k = 16)
    <BLANKLINE>
                        number  until                 estimate    pval
    Rosenthal              316  one-tailed p >= 0.05            <.0001
    Rosenberg              210  p >= 0.05               0.1252  <.0001
    general                 49  p >= 0.05               0.1499  <.0001
    Orwin                   36  mean <= 0.05            0.1595     n/a
    Orwin, weighted         25  mean <= 0.05            0.1252     n/a
    general, to target      28  mean <= 0.05            0.1499  <.0001
    <BLANKLINE>
    Note: A fail-safe number does not estimate how many studies are missing. It
      takes those to average exactly 0, while selection leaves out results below 0
      as well, so that far fewer would do.
    """
    source = given(fit, "fsn")
    check_alpha(alpha)
    if target is not None:
        check_finite(target=target)
    none = NotApplicable("no target was given")
    rows = _rows(source, alpha, target) if source.k > 1 else {}
    numbers = {name: row.number for name, row in rows.items()}
    alone = NotApplicable("needs at least 2 effects")
    names = ("rosenthal", "rosenberg", "general", "orwin", "orwin_weighted", "general_target")
    return FailSafeN(
        **{name: numbers.get(name, alone if source.k < 2 else none) for name in names},
        alpha=alpha,
        target=none if target is None else float(target),
        k=source.k,
        studies=source.studies,
        provenance=source.effects.provenance,
        table=_table(rows or dict.fromkeys(names[:3], core.FailSafe(alone, alone, alone)), alpha, target),
        notes=merge_notes(as_independent(source, "fsn"), [CAUTION]),
    )


LABELS = {
    "rosenthal": "Rosenthal",
    "rosenberg": "Rosenberg",
    "general": "general",
    "orwin": "Orwin",
    "orwin_weighted": "Orwin, weighted",
    "general_target": "general, to target",
}


def _rows(source: Given, alpha: float, target: float | None) -> dict[str, core.FailSafe]:
    y, v = source.yi, source.vi
    estimate, tau2, fixed = _model(source)
    own: dict[str, Any] = {"estimate": estimate, "tau2": tau2, "fixed": fixed, "alpha": alpha}
    rows = {
        "rosenthal": core.rosenthal(y, v, alpha=alpha),
        "rosenberg": core.rosenberg(y, v, alpha=alpha),
        "general": core.general(y, v, **own, target=None),
    }
    if target is not None:
        rows |= {
            "orwin": core.orwin(y, np.ones(source.k), target=target),
            "orwin_weighted": core.orwin(y, 1.0 / v, target=target),
            "general_target": core.general(y, v, **own, target=target),
        }
    return rows


def _model(source: Given) -> tuple[float, float, bool]:
    """Return mean, tau2 and whether that stays what it is."""
    fit = source.fit
    if isinstance(fit, RandomEffectsResults) and fit.fitted.own_weights is None:
        return float(fit.beta[0]), float(fit.tau2), fit.settings.method == "EE" or fit.settings.tau2 is not None
    tau2 = naive_tau2(source.yi, source.vi)
    w = 1.0 / (source.vi + tau2)
    return float(w @ source.yi) / float(w.sum()), tau2, False


def _table(rows: dict[str, core.FailSafe], alpha: float, target: float | None) -> pd.DataFrame:
    until = {
        name: f"one-tailed p >= {alpha:g}" if name == "rosenthal"
        else f"p >= {alpha:g}" if name in ("rosenberg", "general") else f"mean <= {abs(target or 0.0):g}"
        for name in rows
    }  # fmt: skip
    columns = {
        "number": [row.number for row in rows.values()],
        "until": list(until.values()),
        "estimate": [row.estimate for row in rows.values()],
        "pval": [row.pval for row in rows.values()],
    }
    index = [LABELS[name] for name in rows]
    return pd.DataFrame({name: pd.Series(values, index=index) for name, values in columns.items()})
