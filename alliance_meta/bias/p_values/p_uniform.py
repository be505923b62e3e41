"""p-uniform* and p-uniform: the mean that the sizes of the effects suggest, given only which were significant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.favoured import Side, check_alpha, side_of, sign_of
from alliance_meta.bias.given import Adjusted, given
from alliance_meta.bias.p_values.one_each import few_significant, one_each, significant
from alliance_meta.core.bias import p_values as core
from alliance_meta.core.distributions import critical_value
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, fixed_interval, p_value

PUniformMethod = Literal["star", "original"]
NAMES = {"star": "p-uniform*", "original": "p-uniform"}
# What may be missing beside an estimate.
LIMITS = {"ci_lb": "lower limit", "ci_ub": "upper limit"}
OPEN = {"star": {"se": "standard error", **LIMITS, "tau2_ub": "upper limit of tau2"}, "original": LIMITS}
NO_LIMIT = "the likelihood never falls far enough on this side"
NO_PEAK = "the likelihood has no highest point: it rises as the mean moves away without end"
ONE_EFFECT = "p-uniform takes all studies to have one true effect"
NO_ERROR = "the likelihood is too flat at its highest point"
NONE_SIGNIFICANT = (
    "No effect is significant on this side: the estimate rests on how effects that are not significant spread, and "
    "says nothing about what was selected."
)
FAR = (
    "The estimate lies farther from 0, on the other side, than any effect: the effects crowd at their critical values "
    "and hardly bound the mean."
)
BELOW_ZERO = (
    "The significant effects suggest a mean on the other side of 0; the authors of p-uniform advise to take it as 0 "
    "(doi:10.1177/1745691616650874)."
)
NO_BIAS_TEST = "p-uniform* has no test of publication bias; the likelihood-ratio test of selmodel asks for it"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PUniformResult(Adjusted):
    """The mean by p-uniform* or p-uniform.

    Attributes
    ----------
    method : {"star", "original"}
    side : {"right", "left"}
        Where results are favoured.
    alpha : float
        Two-sided level of significance of the studies.
    significant : int
        Effects that are significant on that side.
    stat : float
        Statistic of the test of a mean of 0, whose p-value is `pval`: chi-squared with 1 df of p-uniform*; z of
        p-uniform, one-sided.
    tau2, tau2_lb, tau2_ub : float
        Between-study variance with its interval; of p-uniform* alone.
    stat_tau2, pval_tau2 : float
        Likelihood-ratio test that it is 0, whose p-value is halved, 0 being a boundary.
    stat_bias, pval_bias : float
        z and one-sided p-value of p-uniform's test of publication bias.
    """

    called: ClassVar[str] = "p-uniform*"
    assumes: ClassVar[str] = "publication depends on significance alone, and true effects are normal"

    method: PUniformMethod
    side: Side
    alpha: float
    significant: int
    stat: float
    tau2: float
    tau2_lb: float
    tau2_ub: float
    stat_tau2: float
    pval_tau2: float
    stat_bias: float
    pval_bias: float

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``estimate se ci_lb ci_ub pval``, and ``r r_lb r_ub`` where the effects are Fisher z."""
        return Adjusted.tidy(self).rename(index={self.called: NAMES[self.method]})

    def _content(self) -> Document:
        found = Adjusted._content(self)
        lines = [f"{self.significant} of {self.k} effects significant on the {self.side}"]
        if isinstance(self.estimate, NotApplicable):
            lines.append(f"Not applicable: {self.estimate.reason}")
            return self._document(found.title.replace(self.called, NAMES[self.method]), lines=lines)
        if self.method == "star":
            spread = f"tau2 = {fixed(self.tau2)} {fixed_interval(self.tau2_lb, self.tau2_ub)}"
            lines.append(f"{spread}, test of 0: p {p_value(self.pval_tau2)}")
        else:
            lines.append(f"Test of publication bias: z = {fixed(self.stat_bias, 2)}, p {p_value(self.pval_bias)}")
        for name, called in OPEN[self.method].items():
            value = getattr(self, name)
            if isinstance(value, NotApplicable):
                lines.append(f"No {called}: {value.reason}")
        title = found.title.replace(self.called, NAMES[self.method])
        return replace(found, title=title, lines=tuple(lines))


def puniform(
    fit: Any,
    *,
    method: PUniformMethod = "star",
    side: Side | None = None,
    alpha: float = 0.05,
    level: float | None = None,
) -> PUniformResult:
    """Estimate the mean effect from how large the significant and the other effects are among their own kind.

    If journals prefer significant results, the significant ones are no fair sample of all; but among themselves they
    still show how large the effect is: with a true effect of nothing they pile up just beyond the critical value, with
    a large one they go far beyond it. p-uniform* asks which mean and which differences between studies fit the
    significant effects given that they were significant, and the others given that they were not. How many of either
    kind were published then does not matter.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used. Where studies have several, one of each study: the first whose column ``focal`` says that
        it was the point of its paper, else the first listed; a warning says so.
    method : {"star", "original"}
        p-uniform*, or p-uniform, which uses significant effects only and takes the true effect to be one for all.
    side : {"right", "left"}, optional
        Where results are favoured: positive or negative ones. By default the sign of the mean.
    alpha : float
        Two-sided level of significance in the studies.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    PUniformResult
        With `NotApplicable` where the likelihood has no highest point, and for p-uniform without significant effects.

    Raises
    ------
    InputError
        What is no fit, a model with moderators, an unknown option.

    Warns
    -----
    DependenceWarning
        Several effects of a study, of which one was used.

    Notes
    -----
    R: ``puniform::puni_star(yi=, vi=, side=)`` and ``puniform::puniform(method = "P")``. p-uniform* maximises the
    likelihood of van Aert & van Assen (2025, doi:10.31222/osf.io/zqjr9) to rounding, R to four or five digits; limits
    are those of the profile likelihood. With equal standard errors it is the three-parameter selection model.
    p-uniform: van Assen, van Aert & Wicherts (2015, doi:10.1037/met0000025); where true effects differ it comes out too
    high.
    Significance is read off effect and standard error, as a z test; for Fisher z that nearly is the test of r.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.puniform(fit))
    p-uniform* (k = 16; 95%)
    9 of 16 effects significant on the right
    tau2 = 0.0039 [0.0001, 0.0185], test of 0: p = 0.0177
    <BLANKLINE>
                estimate      se   ci_lb   ci_ub    pval       r    r_lb    r_ub
    p-uniform*    0.1082  0.0433  0.0073  0.1926  0.0382  0.1078  0.0073  0.1902
    <BLANKLINE>
    Note: Only 9 significant results: p-uniform* tells little with fewer than 10.
    """
    source = given(fit, "puniform", level=level)
    check_option("method", method, PUniformMethod)
    check_alpha(alpha)
    sign = sign_of(source, side)
    rows, notes = one_each(source, "puniform")
    y, v = sign * source.yi[rows], source.vi[rows]
    critical = critical_value(1.0 - alpha, None)
    chosen = significant(y, np.sqrt(v), critical)
    found = (_star if method == "star" else _original)(y, v, critical, chosen, source.level)
    notes = merge_notes(source.effects.notes, notes, _notes(found, y, chosen, method))
    if sign < 0:
        mirror = {"estimate": "estimate", "ci_lb": "ci_ub", "ci_ub": "ci_lb"}
        found |= {name: found[other] if np.isnan(found[other]) else -found[other] for name, other in mirror.items()}
    return PUniformResult(
        **found,
        k=len(rows),
        studies=source.studies,
        level=source.level,
        measure=source.effects.measure,
        provenance=source.effects.provenance,
        method=method,
        side=side_of(sign),
        alpha=alpha,
        significant=int(chosen.sum()),
        notes=notes,
    )


def _star(y: Array, v: Array, critical: float, chosen: Mask, level: float) -> dict[str, Any]:
    names = ("estimate", "se", "ci_lb", "ci_ub", "pval", "stat", "tau2", "tau2_lb", "tau2_ub", "stat_tau2", "pval_tau2")
    none = dict.fromkeys(("stat_bias", "pval_bias"), NotApplicable(NO_BIAS_TEST))
    if len(y) < 2:
        return dict.fromkeys(names, NotApplicable("needs at least 2 studies")) | none
    found = core.p_uniform_star(y, v, critical, level=level)
    if np.isnan(found.mu):
        return dict.fromkeys(names, NotApplicable(NO_PEAK)) | none
    values = {name: getattr(found, "mu" if name == "estimate" else name) for name in names}
    for name, value in values.items():
        if not np.isfinite(value):
            values[name] = NotApplicable(NO_ERROR if name == "se" else NO_LIMIT)
    return values | none


def _original(y: Array, v: Array, critical: float, chosen: Mask, level: float) -> dict[str, Any]:
    names = ("estimate", "ci_lb", "ci_ub", "stat", "pval", "stat_bias", "pval_bias")
    none = dict.fromkeys(("tau2", "tau2_lb", "tau2_ub", "stat_tau2", "pval_tau2"), NotApplicable(ONE_EFFECT))
    none["se"] = NotApplicable("the interval of p-uniform comes from p-values, not from a standard error")
    if not chosen.any():
        return dict.fromkeys(names, NotApplicable("no effect is significant on this side")) | none
    fixed_mean = float((y / v).sum() / (1.0 / v).sum())
    found = core.p_uniform(y[chosen], v[chosen], critical, fixed=fixed_mean, level=level)
    return {name: getattr(found, "mu" if name == "estimate" else name) for name in names} | none


def _notes(found: dict[str, Any], y: Array, chosen: Mask, method: PUniformMethod) -> list[Note]:
    """Return what a reader must know; effects and estimate are those of a literature that favours positive ones."""
    notes = list(few_significant(int(chosen.sum()), NAMES[method]))
    if method == "star" and not chosen.any():
        notes.append(Note("none-significant", NONE_SIGNIFICANT))
    estimate = found["estimate"]
    if estimate < -np.abs(y).max():
        notes.append(Note("far-estimate", FAR))
    elif estimate < 0.0 and method == "original":
        notes.append(Note("p-uniform-below-zero", BELOW_ZERO))
    return notes
