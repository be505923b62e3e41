"""Which levels vary: the same effects with and without each, and likelihood-ratio tests of random terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.distributions import chi2_sf, half_mixture_p, likelihood_ratio
from alliance_meta.core.mixed.covariance import Structure, Unstructured
from alliance_meta.core.mixed.search import MixedFit, maximise_mixed
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import information_criteria
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import RandomTerm, object_frame
from alliance_meta.sensitivity.refitting import check_multilevel, coefficient, part, refitted
from alliance_meta.tables.document import Document, Kind, table_of, write
from alliance_meta.tables.format import fixed, format_level

NONE = "no heterogeneity"
ABSENT = "not in this model"
MOST_LEVELS = 4


@dataclass(frozen=True, eq=False, repr=False)
class LevelComparison(Result):
    """One model for each choice of levels, all of the same effects.

    Attributes
    ----------
    fits : mapping of str to MultilevelResults
        Levels joined by ``" + "``, or ``"no heterogeneity"`` -> the fitted model; the last one has every level.
    """

    fits: dict[str, MultilevelResults]
    notes: tuple[Note, ...] = ()

    @property
    def full(self) -> MultilevelResults:
        """The model with every level."""
        return list(self.fits.values())[-1]

    def tidy(self, *, term: str | None = None) -> pd.DataFrame:
        """Return one row per model.

        Parameters
        ----------
        term : str, optional
            The coefficient to show; by default the first.

        Returns
        -------
        DataFrame
            ``estimate se ddf pval ci_lb ci_ub`` of the coefficient, ``sigma2[<level>]`` and ``I2[<level>]`` of each
            level, ``I2`` of all, ``loglik AIC BIC``, and against the model with every level ``LRT``, ``df``, ``LRTp``
            (from the boundary mixture) and ``LRTp_naive``.

        Raises
        ------
        InputError
            An unknown term.
        """
        names = self.full.names
        slot = names.index(coefficient(names, term))
        rows = {name: self._row(name, slot) for name in self.fits}
        out = object_frame(rows, tuple(next(iter(rows.values()))))
        out.index.name = "model"
        out.attrs.update(term=names[slot], level=self.full.level, scale=self.full.effects.scale_label)
        return out

    def _row(self, chosen: str, slot: int) -> dict[str, Any]:
        fit, levels = self.fits[chosen], [term.name for term in self.full.random]
        own = {term.name: float(value) for term, value in zip(fit.random, fit.sigma2, strict=True)}
        absent = NotApplicable(ABSENT)
        criteria = information_criteria(fit)
        return {
            "estimate": float(fit.beta[slot]),
            **{name: float(getattr(fit, name)[slot]) for name in ("se", "ddf", "pval", "ci_lb", "ci_ub")},
            **{f"sigma2[{level}]": own.get(level, absent) for level in levels},
            **{f"I2[{level}]": fit.I2_levels[level] if level in own else absent for level in levels},
            "I2": fit.I2,
            "loglik": fit.loglik,
            "AIC": criteria["AIC"],
            "BIC": criteria["BIC"],
            **self._test(fit),
        }

    def _test(self, fit: MultilevelResults) -> dict[str, Any]:
        df = len(self.full.random) - len(fit.random)
        if df == 0:
            gone = NotApplicable("the model compared with")
            return {"LRT": gone, "df": 0, "LRTp": gone, "LRTp_naive": gone}
        LRT = likelihood_ratio(self.full.loglik, fit.loglik)
        return {"LRT": LRT, "df": df, "LRTp": half_mixture_p(LRT, df), "LRTp_naive": chi2_sf(LRT, df)}

    def _values(self) -> dict[str, Any]:
        return {
            "level": self.full.level,
            "method": self.full.method,
            "models": {term: self.tidy(term=term).reset_index().to_dict(orient="records") for term in self.full.names},
        }

    def _content(self) -> Document:
        full, frame = self.full, self.tidy()
        levels = [term.name for term in full.random]
        for level in levels:
            pairs = zip(frame[f"sigma2[{level}]"].astype(float), frame[f"I2[{level}]"].astype(float), strict=True)
            frame[f"var {level}"] = [_cell(*pair) for pair in pairs]
        tested = frame["df"].to_numpy() > 0
        for name, kind in (("LRT", 4), ("df", 0), ("LRTp", "p")):
            frame[name] = [write(value, kind) if test else "" for value, test in zip(frame[name], tested, strict=True)]
        kinds: dict[str, Kind] = {"loglik": 4, "AIC": 2, "BIC": 2, **dict.fromkeys(("LRT", "df", "LRTp"), str)}
        return self._document(
            f"Levels of heterogeneity compared (k = {full.k}; {full.method}; {frame.attrs['term']}, "
            f"{frame.attrs['scale']}; {format_level(full.level)} intervals)",
            table_of(frame, {"estimate": 4, "se": 4, "ci_lb": 4, "ci_ub": 4, "I2": 1}),
            table_of(frame, dict.fromkeys((f"var {level}" for level in levels), str)),
            table_of(frame, kinds, heads={"loglik": "logLik", "LRTp": "p"}),
            ["LRT: against the model in the last row; p by the mixture for variances that cannot be below 0."],
        )


def _cell(variance: float, share: float) -> str:
    return "–" if math.isnan(variance) else f"{fixed(variance)} ({fixed(share, 0)}%)"


def compare_levels(
    effects: EffectSizes,
    *,
    levels: str | Sequence[str] = "study_id/es_id",
    V: Any = None,
    mods: str = "1",
    **model: Any,
) -> LevelComparison:
    r"""Fit the same effects with and without each level of heterogeneity, side by side.

    A two-level model lets effects differ by row, as if each came from a study of its own; a three-level model lets
    studies differ, and effects within them. Published reviews report both (Del Re et al., 2021; Lo Coco et al.,
    2022): where they agree, dependence hardly matters; where the standard error grows, it did.

    Parameters
    ----------
    effects : EffectSizes
    levels : str or sequence of str
        Random intercepts, outermost first: columns, or paths such as ``"study_id/es_id"`` (studies, and
        effects within them) for two levels at once. At most four.
    V : SamplingCovariance or array-like, optional
        The same sampling covariance for every model.
    mods : str
        Right-hand side of a formula over the moderators.
    **model
        Passed to `MultilevelModel`: ``method``, ``test``, ``dfs``, ``level``.

    Returns
    -------
    LevelComparison
        One model for every choice of levels, from none to all.

    Raises
    ------
    InputError
        Random terms that are no intercepts, more than four levels, or whatever `MultilevelModel` refuses.

    Warns
    -----
    ConvergenceWarning, DroppedRowsWarning
        As `MultilevelModel` does, for the model with every level.

    See Also
    --------
    component_tests : the likelihood-ratio test of each random term of any multilevel model.

    Notes
    -----
    The likelihood-ratio test of one level is judged by :math:`\frac12\chi^2_0 + \frac12\chi^2_1`, that of d levels at
    once by the upper bound :math:`\frac12\chi^2_{d-1} + \frac12\chi^2_d` (see `component_tests`). Degrees of freedom of
    t are each model's own. R: ``rma.mv(..., random = ~ 1 | study/id, sigma2 = c(0, NA))`` and ``anova``.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, sensitivity
    >>> found = sensitivity.compare_levels(escalc(load_dataset("crede2010")))
    >>> found.tidy()["se"].astype(float).round(4).to_dict()
    {'no heterogeneity': 0.0058, 'study_id': 0.0299, 'study_id/es_id': 0.0254, 'study_id + study_id/es_id': 0.0285}
    """
    random = (levels,) if isinstance(levels, str) else tuple(levels)
    _check_levels(random, model)
    full = MultilevelModel(effects, V=V, mods=mods, random=random, **model).fit()
    n, fits, singular = len(full.random), dict[str, MultilevelResults](), list[str]()
    for size in range(n):
        for kept in combinations(range(n), size):
            name = " + ".join(full.random[at].name for at in kept) or NONE
            one = refitted(full, part(full, terms=kept), warm=False)
            if one.point.valid:
                fits[name] = one
            else:
                singular.append(name)
    fits[" + ".join(term.name for term in full.random)] = full
    return LevelComparison(fits, merge_notes(full.notes, _level_notes(fits, singular)))


def _check_levels(levels: Sequence[str], model: dict[str, Any]) -> None:
    wrong = [name for name in levels if "|" in name]
    if wrong:
        raise InputError(
            f"levels names {', '.join(wrong)}; compare_levels takes random intercepts, component_tests any term"
        )
    n = sum(len(name.split("/")) for name in levels)
    if n > MOST_LEVELS:
        raise InputError(f"{n} levels make {2**n} models; give {MOST_LEVELS} at most")
    if "fixed" in model:
        raise InputError("fixed= belongs to one model; compare_levels estimates every variance")


def _level_notes(fits: dict[str, MultilevelResults], singular: list[str]) -> list[Note]:
    lost = [name for name, fit in list(fits.items())[:-1] if not fit.fitted.converged]
    notes = []
    if lost:
        notes.append(Note("not-converged", f"The search for the variances had not settled for: {'; '.join(lost)}."))
    if singular:
        message = f"Left out, as the covariance of the effects cannot be inverted: {'; '.join(singular)}."
        notes.append(Note("singular", message))
    return notes


COLUMNS = ("LRT", "df", "pval", "pval_naive", "reference", "loglik")
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

    def _values(self) -> dict[str, Any]:
        return {"method": self.method, "loglik": self.loglik, "terms": self.rows}

    def _content(self) -> Document:
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
    if term.slopes is not None and isinstance(structure, Unstructured) and structure.q > 1:
        row, column = np.tril_indices(structure.q)
        found += [
            (f"{term.name}: {name}", (row == i) | (column == i), True)
            for i, name in enumerate(term.columns)
            if name != "intrcpt"
        ]
    return found


def _row(fit: MultilevelResults, at: int, zero: Mask, *, exact: bool) -> dict[str, Any]:
    part, structure = fit.point.problem.slices[at], fit.random[at].structure
    fixed = fit.fitted.fixed[part]
    df = int((zero & ~fixed).sum())
    variances = slice(None, -1 if structure.correlated else None)
    if df == 0 or (zero & fixed)[variances].any():
        return _nothing(NotApplicable(GIVEN), df)
    null = without(fit, at, zero)
    if not null.point.valid:
        return _nothing(NotApplicable("without this term the covariance of the effects cannot be inverted"), df)
    LRT = likelihood_ratio(fit.loglik, null.point.loglik)
    exact = exact or df == 1
    pval: float = half_mixture_p(LRT, df) if exact or structure.cone else NotApplicable(NO_MIXTURE)
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
