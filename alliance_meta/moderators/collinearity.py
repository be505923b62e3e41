"""Variance inflation: how much of a moderator's information the other moderators share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.design import INTERCEPT
from alliance_meta.errors import DesignError, InputError
from alliance_meta.moderators.grid import moderated
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.result import Result
from alliance_meta.results.fit import Fit
from alliance_meta.tables.document import Document, table_of


@dataclass(frozen=True, eq=False, repr=False)
class VifResults(Result):
    """Variance inflation factors of a model.

    Attributes
    ----------
    coefficients : mapping of str to float
        VIF of each coefficient but the intercept.
    terms : mapping of str to (int, float)
        Each term's number of coefficients and its generalised VIF.
    """

    coefficients: Mapping[str, float]
    terms: Mapping[str, tuple[int, float]]
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per term: ``df gvif gsif``, the last being gvif^(1 / (2 df))."""
        rows = {term: {"df": df, "gvif": gvif, "gsif": gvif ** (0.5 / df)} for term, (df, gvif) in self.terms.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["df", "gvif", "gsif"]).rename_axis("term")

    def _values(self) -> dict[str, Any]:
        terms = {
            term: {"df": df, "gvif": gvif, "gsif": gvif if isinstance(gvif, NotApplicable) else gvif ** (0.5 / df)}
            for term, (df, gvif) in self.terms.items()
        }
        return {"coefficients": dict(self.coefficients), "terms": terms}

    def _content(self) -> Document:
        blocks = [table_of(pd.DataFrame({"vif": self.coefficients}), {"vif": 4})]
        if any(df > 1 for df, _ in self.terms.values()):
            blocks.append(table_of(self.tidy(), {"df": 0, "gvif": 4, "gsif": 4}, "By term"))
        return self._document("Variance inflation factors", *blocks)


def vif(fit: Fit) -> VifResults:
    r"""Measure how much the moderators' overlap widens their confidence intervals.

    When two moderators go together (say, younger therapists and newer studies) the model can hardly tell
    which of them matters. A VIF of 4 means that the variance of a coefficient is four times, its interval
    twice as wide as, what it would be if the moderator were unrelated to the others; 1 means no overlap.
    The generalised VIF is the same for all the coefficients of a categorical moderator together, and does
    not depend on which level is the reference; its ``gsif`` compares terms with different numbers of levels.

    Parameters
    ----------
    fit : a fitted model
        A model with moderators.

    Returns
    -------
    VifResults
        ``.coefficients`` and ``.terms``; every value is `NotApplicable` where the coefficients have no
        variance (identical effects under Knapp-Hartung).

    Raises
    ------
    DesignError
        For a model without moderators.

    Notes
    -----
    From the correlation matrix R of the coefficients without the intercept, with :math:`R_{11}` the block of
    the term and :math:`R_{22}` the rest,

    .. math:: GVIF = \det(R_{11}) \det(R_{22}) / \det(R)

    (Fox & Monette 1992, doi:10.1080/01621459.1992.10475190). The model's own covariance is used, so overlap
    counts in precise studies more than in small ones. Powers, splines and interactions of one moderator
    overlap by construction; that is no reason to drop them. R: ``vif(fit)``, ``vif(fit, btt = "rater")``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.moderators import vif
    >>> es = escalc(load_dataset("molloy2014"))
    >>> fit = RandomEffectsModel(es, mods="meanage + quality", test="z").fit()
    >>> {name: round(value, 3) for name, value in vif(fit).coefficients.items()}
    {'meanage': 1.131, 'quality': 1.131}
    """
    design = moderated(fit)
    kept = [i for i, name in enumerate(fit.names) if name != INTERCEPT]
    if not kept:
        raise DesignError("vif needs a model with moderators; this one has mods='1'")
    names = [fit.names[i] for i in kept]
    if isinstance(fit.vb, NotApplicable):
        raise InputError(fit.why_not("covariance of its coefficients"))
    covariance = fit.vb[np.ix_(kept, kept)]
    place = {i: j for j, i in enumerate(kept)}
    slots = {term: [place[i] for i in at if i in place] for term, at in design.terms.items()}
    slots = {term: at for term, at in slots.items() if at}
    deviations = np.sqrt(np.diag(covariance))
    if not (deviations > 0).all():
        gone = NotApplicable("the coefficients have no variance")
        note = Note("vif-undefined", "Variance inflation is not defined: the coefficients have no variance.")
        return VifResults(dict.fromkeys(names, gone), {t: (len(at), gone) for t, at in slots.items()}, (note,))
    R = covariance / np.outer(deviations, deviations)
    return VifResults(
        {name: _gvif(R, [j]) for j, name in enumerate(names)},
        {term: (len(at), _gvif(R, at)) for term, at in slots.items()},
    )


def _gvif(R: Array, block: list[int]) -> float:
    rest = [j for j in range(len(R)) if j not in block]
    if not rest:
        return 1.0
    parts = (R[np.ix_(block, block)], R[np.ix_(rest, rest)], R)
    own, other, whole = (float(np.linalg.slogdet(part)[1]) for part in parts)
    return float(np.exp(own + other - whole))
