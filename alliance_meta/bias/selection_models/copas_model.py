"""`copas`: the mean effect if small studies are published the more often the larger their effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta.bias.given import Adjusted, Given, given
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.selection.copas import MOST_RHO, CopasFound, favoured_side, published
from alliance_meta.core.selection.copas import copas as fit_over_grid
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes, warn_note
from alliance_meta.tables.document import Document, table_of

Favoured = Literal["greater", "less"]
# The model with a slope on the standard error has four parameters.
FEWEST, FEW = 4, 10
# A p-value above this says that what asymmetry is left may be chance.
ENOUGH = 0.1
# Standard errors that differ by less say nothing about small studies.
RATIO = 1.02
UNEXPLAINED = "no degree of selection in the grid explains the asymmetry"
FLAT = "the likelihood is flat: these data do not tell"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True, eq=False)
class CopasResult(Adjusted):
    """The mean at the least selection that leaves no more asymmetry than chance would, beside those at more and less.

    Attributes
    ----------
    alternative : {"greater", "less"}
        Which effects are favoured.
    publprob : float
        How probably the smallest study was published, there.
    rho : float
        Correlation between a study's sampling error and what it is selected by.
    tau2 : float
    pval_residual : float
        Of a test of the asymmetry that is left.
    unpublished : float
        About how many studies were not published.
    path : DataFrame
        One row for each degree of selection, the first for none: ``publprob gamma0 gamma1 estimate se ci_lb ci_ub pval
        rho tau2 loglik pval_residual unpublished``.
    grid : DataFrame
        The mean over the grid: ``gamma0 gamma1 publprob_small publprob_large estimate rho tau2 loglik``.
    """

    called: ClassVar[str] = "Copas selection"
    assumes: ClassVar[str] = (
        "small studies are published the more often the larger their effect; how often is not known"
    )

    alternative: str
    publprob: float
    rho: float
    tau2: float
    pval_residual: float
    unpublished: float
    path: pd.DataFrame
    grid: pd.DataFrame

    def _values(self) -> dict[str, Any]:
        out = Adjusted._values(self)
        return {**out, **{name: out[name].to_dict("list") for name in ("path", "grid")}}

    def _content(self) -> Document:
        shown = self.path[["publprob", "estimate", "ci_lb", "ci_ub", "pval_residual", "unpublished"]]
        shown = shown.set_axis([str(i + 1) for i in range(len(shown))])
        tables = (table_of(one, dict.fromkeys(one.columns, 4)) for one in (self.tidy(), shown))
        return self._document(self._title(), *tables)


def copas(fit: Any, *, alternative: Favoured | None = None, ngrid: int = 20, level: float | None = None) -> CopasResult:
    r"""Give the mean effect for more and more selection of small studies, and for as much as their asymmetry calls for.

    Large studies are nearly always published; small ones if they please. How strongly cannot be told from the studies
    that were, so this model is fitted for many degrees of it: for each, it says what the mean would be, about how many
    studies would be in drawers, and whether the funnel would still be more lopsided than chance makes it. The answer
    is the mean at the least selection at which it is not.

    Parameters
    ----------
    fit : fitted model
        Of any class, without moderators; its effects are used.
    alternative : {"greater", "less"}, optional
        Which effects are favoured, large or small ones. By default what the funnel says: those that small studies have.
    ngrid : int
        Points of the grid on each of its two axes.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    CopasResult
        Its numbers are `NotApplicable` where no degree of selection in the grid explains the asymmetry.

    Raises
    ------
    InputError
        Fewer than 4 effects; standard errors that are all the same; a model with moderators.

    Warns
    -----
    DependenceWarning
        Several effects of a study: this likelihood takes them as independent.
    ConvergenceWarning

    Notes
    -----
    R: ``metasens::copas(meta::metagen(yi, sei))``, of which this has the grid, the path across it and the rule. Study i
    is seen if :math:`\gamma_0 + \gamma_1 / s_i + \delta_i > 0`, where :math:`\delta_i` has the correlation
    :math:`\rho` with the sampling error (Copas & Shi 2000, doi:10.1093/biostatistics/1.3.247; 2001,
    doi:10.1177/096228020101000402; Carpenter et al. 2009, doi:10.1016/j.jclinepi.2008.12.002). Derivatives are
    analytic. Where :math:`\rho` runs to its bound, .9999, standard errors take it as certain, where metasens repeats
    that of the point before.

    Not where studies differ little in size, nor where small studies differ for reasons of their own, such as intense
    treatments: the model takes all asymmetry for selection.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> found = bias.copas(fit)
    >>> round(found.estimate, 4), round(found.pval_residual, 2)
    (0.1487, 0.26)
    >>> found.path[["publprob", "estimate", "unpublished"]].round(2).iloc[-1].tolist()
    [0.35, 0.1, 22.1]
    """
    if alternative is not None:
        check_option("alternative", alternative, Favoured)
    if not isinstance(ngrid, int) or not 5 <= ngrid <= 100:
        raise InputError(f"ngrid={ngrid!r}: a whole number from 5 to 100")
    asked = given(fit, "copas", level=level)
    if asked.k < FEWEST:
        raise InputError(f"copas needs {FEWEST} effects, not {asked.k}")
    if asked.sei.max() < RATIO * asked.sei.min():
        raise InputError(
            "copas needs studies of different size: these standard errors are as good as equal, so that no study is "
            "small. bias.selmodel needs no such difference"
        )
    side = {"greater": 1.0, "less": -1.0, None: favoured_side(asked.yi, asked.sei)}[alternative]
    found = fit_over_grid(asked.yi, asked.sei, side, ngrid)
    path = _path(asked, found)
    enough = np.flatnonzero(found.residual > ENOUGH)
    notes = _notes(asked, found, int(enough[0]) if len(enough) else None, side if alternative is None else 0.0)
    names = ("estimate", "se", "ci_lb", "ci_ub", "pval", "publprob", "rho", "tau2", "pval_residual", "unpublished")
    at = dict.fromkeys(names, NotApplicable(UNEXPLAINED))
    if len(enough):
        at = {name: path[name].iloc[enough[0]] for name in names}
        at |= {name: NotApplicable(FLAT) for name in ("se", "ci_lb", "ci_ub", "pval") if np.isnan(at["se"])}
    return CopasResult(
        **{name: one if isinstance(one, NotApplicable) else float(one) for name, one in at.items()},
        k=asked.k,
        studies=asked.studies,
        level=asked.level,
        measure=asked.effects.measure,
        provenance=asked.effects.provenance,
        notes=notes,
        alternative="greater" if side > 0.0 else "less",
        path=path,
        grid=_grid(asked, found),
    )


def _path(asked: Given, found: CopasFound) -> pd.DataFrame:
    """Return what the model says along its path, one row for each degree of selection."""
    fits, crit = found.along, critical_value(asked.level, None)
    estimate = fits.theta[:, 0]
    columns = {
        "publprob": published(found.gamma, float(asked.sei.max())),
        "gamma0": found.gamma[:, 0],
        "gamma1": found.gamma[:, 1],
        "estimate": estimate,
        "se": fits.se,
        "ci_lb": estimate - crit * fits.se,
        "ci_ub": estimate + crit * fits.se,
        "pval": two_sided_p(estimate / fits.se, None),
        "rho": fits.theta[:, 1],
        "tau2": fits.theta[:, 2] ** 2,
        "loglik": fits.loglik,
        "pval_residual": found.residual,
        "unpublished": found.unpublished,
    }
    return pd.DataFrame(columns)


def _grid(asked: Given, found: CopasFound) -> pd.DataFrame:
    """Return what the model says over its grid, one row for each point."""
    fits, points = found.over_grid, found.points
    columns = {
        "gamma0": points[:, 0],
        "gamma1": points[:, 1],
        "publprob_small": published(points, float(asked.sei.max())),
        "publprob_large": published(points, float(asked.sei.min())),
        "estimate": fits.theta[:, 0],
        "rho": fits.theta[:, 1],
        "tau2": fits.theta[:, 2] ** 2,
        "loglik": fits.loglik,
    }
    return pd.DataFrame(columns)


def _notes(asked: Given, found: CopasFound, at: int | None, side: float) -> tuple[Note, ...]:
    notes = dependence_notes(asked.effects, stacklevel=4)
    if not found.along.done.all():
        text = "A search for the highest likelihood of Copas' model stopped early; do not use its estimates."
        notes.append(warn_note("not-converged", text, ConvergenceWarning, stacklevel=4))
    if asked.k < FEW:
        notes.append(Note("few-effects", f"{asked.k} effects are few for Copas' model: single results decide it."))
    if side:
        which = "larger" if side > 0.0 else "smaller"
        text = f"Small studies have the {which} effects, so {which} effects were taken as the favoured ones."
        notes.append(Note("direction", text))
    if at is None:
        notes.append(Note("unexplained", f"The funnel is lopsided, and {UNEXPLAINED}."))
    elif at == 0:
        text = "Without any selection the asymmetry may be chance, so the mean is that without selection."
        notes.append(Note("no-selection-needed", text))
    elif abs(found.along.theta[at, 1]) > MOST_RHO - 1e-3:
        text = "The correlation with selection runs to its bound; the standard error takes it as certain."
        notes.append(Note("rho-at-bound", text))
    if len(found.gamma) == 1:
        text = "The mean hardly changes over the grid, so that there is no path across it."
        notes.append(Note("no-path", text))
    return merge_notes(asked.effects.notes, notes)
