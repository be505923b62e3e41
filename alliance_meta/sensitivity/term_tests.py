"""Does a level vary at all? Likelihood-ratio tests of the random terms of a multilevel model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.distributions import chi2_sf, half_mixture_p, likelihood_ratio
from alliance_meta.core.mixed.search import MixedFit, maximise_mixed
from alliance_meta.core.mixed.structures import Structure, Unstructured
from alliance_meta.encoding import plain
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import RandomTerm, object_frame
from alliance_meta.sensitivity.refitting import check_multilevel
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import fixed

COLUMNS = ("LRT", "df", "pval", "pval_naive", "reference", "loglik")
# Structures whose covariances with 0 on the diagonal form a convex cone.
CONES = ("ID", "R", "CS", "UN", "DIAG", "GEN")
CORRELATED = ("CS", "HCS", "AR", "HAR", "CAR")
NO_MIXTURE = "a correlation that exists only with the term has no mixture; bootstrap, or take the naive p-value roughly"
GIVEN = "given, not estimated"
# A restricted model this much likelier than the fit has found another maximum.
BETTER = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ComponentTests(Result):
    """Whether each random term of a multilevel model is needed.

    Attributes
    ----------
    rows : mapping of str to mapping
        Random term, or ``term: slope`` -> ``LRT df pval pval_naive reference loglik``, see `tidy`.
    method : {"REML", "ML"}
        The likelihood compared.
    loglik : float
        That of the model with every term.
    notes : tuple of Note
    """

    rows: dict[str, dict[str, Any]]
    method: str
    loglik: float
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per random term, and one per random slope.

        Returns
        -------
        DataFrame
            ``LRT`` (twice the loss of log-likelihood without it), ``df`` (parameters lost), ``pval`` (by the
            mixture that ``reference`` names), ``pval_naive`` (chi-squared with df), ``loglik`` (without it).
        """
        out = object_frame(self.rows, COLUMNS)
        out.index.name = "term"
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return plain(
            {
                "method": self.method,
                "loglik": self.loglik,
                "terms": self.rows,
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        kinds: dict[str, Kind] = {"LRT": 4, "df": 0, "pval_naive": "p", "pval": "p", "reference": "s"}
        frame = pd.DataFrame.from_dict(self.rows, orient="index")
        frame["reference"] = frame["reference"].map(_short)
        heads = {"pval_naive": "p naive", "pval": "p", "reference": "mixture"}
        return self._document(
            f"Likelihood-ratio tests of random terms ({self.method}; log-likelihood {fixed(self.loglik)})",
            table_of(frame, kinds, heads=heads),
            ["Mixture a + b: p by half chi2(a), half chi2(b); <= an upper bound of it."],
        )


def component_tests(fit: MultilevelResults) -> ComponentTests:
    r"""Test, term by term, whether the model would describe the effects as well without it.

    Do studies differ at all, beyond what effects of one study differ? Each variance is set to 0, everything else is
    fitted again, and the loss of likelihood is judged. A variance cannot be negative, so that under the null
    hypothesis it is estimated as 0 half of the time: the usual chi-squared test is too cautious, and halving its
    p-value is right for one variance.

    Parameters
    ----------
    fit : MultilevelResults
        Any random terms, by REML or ML; both likelihoods may be compared, as the moderators stay the same.

    Returns
    -------
    ComponentTests
        `tidy` has one row per term. A term with random slopes (``GEN``) has one more for each slope.
        `NotApplicable` for what was given, and where the rest of the model cannot be fitted.

    Raises
    ------
    InputError
        Another kind of fit.

    Notes
    -----
    One variance: :math:`\frac12\chi^2_0 + \frac12\chi^2_1` (Self & Liang 1987, doi:10.1080/01621459.1987.10478472).
    One slope more, with its q - 1 covariances: :math:`\frac12\chi^2_{q-1} + \frac12\chi^2_q` (Stram & Lee 1994,
    doi:10.2307/2533455). A whole ``CS``, ``DIAG``, ``UN`` or ``GEN`` term with d parameters: the true mixture depends
    on the data, and :math:`\frac12\chi^2_{d-1} + \frac12\chi^2_d` is an upper bound of its p-value. ``AR``, ``CAR``,
    ``HCS`` and ``HAR`` have a correlation that means nothing once the variance is 0; only the naive p-value is given.
    All of this is for many independent groups, and takes the other variances to be above 0.
    R: ``anova(fit, update(fit, sigma2 = c(0, NA)))``, which gives the naive p-value.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, sensitivity
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010")), random=("study_id", "es_id")).fit()
    >>> print(sensitivity.component_tests(fit))
    Likelihood-ratio tests of random terms (REML; log-likelihood -1.2579)
    <BLANKLINE>
                   LRT  df  p naive       p  mixture
    study_id    2.8465   1   0.0916  0.0458  0 + 1
    es_id     145.8263   1   <.0001  <.0001  0 + 1
    <BLANKLINE>
    Mixture a + b: p by half chi2(a), half chi2(b); <= an upper bound of it.
    """
    check_multilevel(fit, "component_tests")
    rows: dict[str, dict[str, Any]] = {}
    better = []
    for at, (term, component) in enumerate(zip(fit.random, fit.point.problem.components, strict=True)):
        for name, zero, exact in _hypotheses(term, component.structure):
            row = _row(fit, at, zero, exact=exact)
            rows[name] = row
            if row["loglik"] > fit.loglik + BETTER:
                better.append(name)
    return ComponentTests(rows, fit.method, fit.loglik, merge_notes(fit.notes, _notes(fit, better)))


def _hypotheses(term: RandomTerm, structure: Structure) -> list[tuple[str, Mask, bool]]:
    """Return the names of what is 0, the parameters of the term that vanish, and whether the mixture is exact."""
    every = np.ones(structure.n, dtype=bool)
    found = [(term.name, every, structure.n == 1)]
    if term.struct == "GEN" and isinstance(structure, Unstructured) and structure.q > 1:
        row, column = np.tril_indices(structure.q)
        found += [
            (f"{term.name}: {name}", (row == i) | (column == i), True)
            for i, name in enumerate(term.columns)
            if name != "intrcpt"
        ]
    return found


def _row(fit: MultilevelResults, at: int, zero: Mask, *, exact: bool) -> dict[str, Any]:
    part, struct = fit.point.problem.slices[at], fit.random[at].struct
    fixed = fit.fitted.fixed[part]
    df = int((zero & ~fixed).sum())
    variances = slice(None, -1 if struct in CORRELATED else None)
    if df == 0 or (zero & fixed)[variances].any():
        return _nothing(NotApplicable(GIVEN), df)
    null = without(fit, at, zero)
    if not null.point.valid:
        return _nothing(NotApplicable("without this term the covariance of the effects cannot be inverted"), df)
    LRT = likelihood_ratio(fit.loglik, null.point.loglik)
    exact = exact or df == 1
    pval: float = half_mixture_p(LRT, df) if exact or struct in CONES else NotApplicable(NO_MIXTURE)
    return {
        "LRT": LRT,
        "df": df,
        "pval": pval,
        "pval_naive": chi2_sf(LRT, df),
        "reference": _words(df, exact=exact) if pval == pval else "none known",
        "loglik": null.point.loglik,
    }


def _nothing(why: NotApplicable, df: int) -> dict[str, Any]:
    return {"LRT": why, "df": df, "pval": why, "pval_naive": why, "reference": "none", "loglik": why}


def _words(df: int, *, exact: bool) -> str:
    mixture = f"half chi2({df - 1}), half chi2({df})"
    return mixture if exact else f"at most {mixture}"


def _short(reference: str) -> str:
    """Return ``0 + 1`` for half chi2(0), half chi2(1), and ``<= 1 + 2`` for an upper bound."""
    return reference.replace("at most", "<=").replace(", ", " + ").replace("half chi2(", "").replace(")", "")


def without(fit: MultilevelResults, at: int, zero: Mask) -> MixedFit:
    """Fit again with some parameters of a term at 0."""
    fixed = fit.fitted.fixed
    given = np.where(fixed, fit.fitted.theta, np.nan)
    part = fit.point.problem.slices[at]
    held: Array = given[part]
    held[zero] = 0.0
    given[part] = held
    return maximise_mixed(fit.point.problem, given=given)


def _notes(fit: MultilevelResults, better: list[str]) -> list[Note]:
    notes = []
    if better:
        message = (
            f"Without {', '.join(better)} the likelihood is higher than the fit's own: the fit has not found its "
            "maximum; try fewer random terms."
        )
        notes.append(Note("better-without", message))
    edge = [str(name) for name, row in fit.components.iterrows() if row["at_bound"] and not str(name).startswith("rho")]
    if edge and len(fit.components) > len(edge):
        message = f"{', '.join(edge)} at 0: the mixtures for other terms take it to be above 0, and hold roughly."
        notes.append(Note("mixture-at-edge", message))
    return notes
