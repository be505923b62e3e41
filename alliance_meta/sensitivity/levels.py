"""Two levels against three: the same effects with and without each level of heterogeneity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from alliance_meta.core.distributions import chi2_sf, half_mixture_p, likelihood_ratio
from alliance_meta.effects.table import EffectSizes
from alliance_meta.encoding import plain
from alliance_meta.errors import InputError
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.fit import information_criteria
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import object_frame
from alliance_meta.sensitivity.refitting import part, refitted
from alliance_meta.tables.document import Document, Kind, table_of, write
from alliance_meta.tables.format import fixed, level_text

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
    notes : tuple of Note
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
        if term is not None and term not in names:
            raise InputError(f"term={term!r} is no coefficient{did_you_mean(term, list(names))}: {', '.join(names)}")
        slot = names.index(term) if term is not None else 0
        rows = {name: self._row(name, slot) for name in self.fits}
        out = object_frame(rows, tuple(next(iter(rows.values()))))
        out.index.name = "model"
        out.attrs.update(term=names[slot], level=self.full.level, scale=self.full.effects.scale_label)
        return out

    def _row(self, name: str, slot: int) -> dict[str, Any]:
        fit, levels = self.fits[name], [term.name for term in self.full.random]
        own = {term.name: float(value) for term, value in zip(fit.random, fit.sigma2, strict=True)}
        absent = NotApplicable(ABSENT)
        criteria = information_criteria(fit)
        return {
            **{
                column: float(getattr(fit, source)[slot])
                for column, source in zip(
                    ("estimate", "se", "ddf", "pval", "ci_lb", "ci_ub"),
                    ("beta", "se", "ddf", "pval", "ci_lb", "ci_ub"),
                    strict=True,
                )
            },
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return plain(
            {
                "level": self.full.level,
                "method": self.full.method,
                "models": {
                    term: self.tidy(term=term).reset_index().to_dict(orient="records") for term in self.full.names
                },
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
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
            f"{frame.attrs['scale']}; {level_text(full.level)} intervals)",
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
    _check(random, model)
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
    return LevelComparison(fits, merge_notes(full.notes, _notes(fits, singular)))


def _check(levels: Sequence[str], model: dict[str, Any]) -> None:
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


def _notes(fits: dict[str, MultilevelResults], singular: list[str]) -> list[Note]:
    lost = [name for name, fit in list(fits.items())[:-1] if not fit.fitted.converged]
    notes = []
    if lost:
        notes.append(Note("not-converged", f"The search for the variances had not settled for: {'; '.join(lost)}."))
    if singular:
        message = f"Left out, as the covariance of the effects cannot be inverted: {'; '.join(singular)}."
        notes.append(Note("singular", message))
    return notes
