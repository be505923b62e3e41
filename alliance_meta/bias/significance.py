"""Too many significant results for their power, and how many missing effects would overturn the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.given import Given, OfStudies, as_independent, check_alpha, check_finite, few_effects, given
from alliance_meta.core.bias import significance as core
from alliance_meta.core.bias.worst_case import naive_tau2
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables import format as fmt
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import fixed, p_value

POWER = Note(
    "power-at-the-mean",
    "Power was worked out at the pooled effect. If that is itself inflated by bias, so is the expected number, and the "
    "test finds too little.",
)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ExcessSignificance(OfStudies):
    """How many effects are significant, and how many should be.

    Attributes
    ----------
    observed : int
    expected : float
        Sum of the powers.
    ratio : float
        Observed over expected.
    test : {"exact", "chi2", "binom"}
    X2 : float
        Of the chi-squared test; `NotApplicable` for the others.
    pval : float
    theta, tau2 : float
        Mean and variance of true effects at which power was worked out, on the analysis scale.
    theta_lim : float
        The mean at which the test has ``p = tes_alpha``: if the true mean is not this far from 0, there is excess.
    power : ndarray of shape (k,)
        How probably each effect is significant.
    alternative, tes_alternative : str
    alpha, tes_alpha : float
    """

    observed: int
    expected: float
    ratio: float
    test: core.CountTest
    X2: float
    pval: float
    theta: float
    tau2: float
    theta_lim: float
    power: Array
    alternative: core.Alternative
    tes_alternative: core.Alternative
    alpha: float
    tes_alpha: float

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``observed expected ratio pval theta theta_lim``."""
        names = ("observed", "expected", "ratio", "pval", "theta", "theta_lim")
        return pd.DataFrame({name: pd.Series([getattr(self, name)], index=["excess significance"]) for name in names})

    def _content(self) -> Document:
        title = f"Test of excess significance ({self._many}; {self.test} test)"
        lines = (
            f"{self.observed} of {self.k} effects significant, {fixed(self.expected, 2)} expected: p "
            f"{p_value(self.pval)}",
            f"Power at a true mean of {fixed(self.theta)} and tau2 = {fixed(self.tau2)}",
        )
        kinds: dict[str, Kind] = {"observed": 0, "expected": 2, "ratio": 2, "pval": "p", "theta": 4, "theta_lim": 4}
        return self._document(title, table_of(self.tidy(), kinds), lines=lines)


def tes(
    fit: Any,
    *,
    theta: float | None = None,
    tau2: float | None = None,
    test: core.CountTest = "exact",
    alternative: core.Alternative = "two.sided",
    tes_alternative: core.Alternative = "greater",
    alpha: float = 0.05,
    tes_alpha: float = 0.1,
) -> ExcessSignificance:
    r"""Ask whether more results are significant than studies of this size could find.

    A study of 50 patients finds a true correlation of .2 in three of ten cases. If nine of ten such studies report a
    significant one, results were selected, or analysed until they were significant. The test adds up the power of all
    studies at the pooled effect, and compares it with the number that are significant. It says nothing about how large
    the effect is without such selection.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects, mean and variance of true effects are used.
    theta, tau2 : float, optional
        Mean and variance of true effects at which power is worked out, instead: the mean of the largest studies, say.
    test : {"exact", "chi2", "binom"}
        The exact distribution of the number of significant effects with powers that differ; Pearson's chi-squared;
        the binomial distribution with their mean power. R changes to the second where the first takes it too long.
    alternative : {"two.sided", "greater", "less"}
        How studies test their effect.
    tes_alternative : {"greater", "two.sided", "less"}
        Whether too many significant effects are looked for, any other number, or too few.
    alpha : float
        Level of significance in the studies.
    tes_alpha : float
        Level at which `theta_lim` is worked out.

    Returns
    -------
    ExcessSignificance

    Raises
    ------
    InputError
        What is no fit, a model with moderators, a model that has no variance of true effects and no `tau2` given.

    Warns
    -----
    DependenceWarning
        Some study has several effects, which the test takes as independent.

    Notes
    -----
    .. math:: E = \sum_i \Phi\Big(\frac{\theta - c s_i}{\sqrt{s_i^2 + \tau^2}}\Big)
              + \Phi\Big(\frac{-\theta - c s_i}{\sqrt{s_i^2 + \tau^2}}\Big)

    R: ``tes(fit)``; for ``tes(yi, vi)`` fit with ``method="EE"``. Ioannidis & Trikalinos (2007,
    doi:10.1177/1740774507079441). R integrates over true effects within 5 tau; the sum above is that integral in full.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), method="EE", test="z").fit()
    >>> print(bias.tes(fit))
    Test of excess significance (k = 16; exact test)
    9 of 16 effects significant, 5.96 expected: p = 0.0579
    Power at a true mean of 0.1252 and tau2 = 0.0000
    <BLANKLINE>
                         observed  expected  ratio    pval   theta  theta_lim
    excess significance         9      5.96   1.51  0.0579  0.1252     0.1343
    <BLANKLINE>
    Note: Power was worked out at the pooled effect. If that is itself inflated by
      bias, so is the expected number, and the test finds too little.
    """
    source = given(fit, "tes")
    check_option("test", test, core.CountTest)
    check_option("alternative", alternative, core.Alternative)
    check_option("tes_alternative", tes_alternative, core.Alternative)
    check_alpha(alpha)
    if not 0.0 < tes_alpha < 1.0:
        raise InputError(f"tes_alpha={tes_alpha!r} is a level of significance and must lie between 0 and 1")
    mean = _mean(fit, theta)
    spread = _variance(fit, tau2)
    sig = core.significant(source.yi, source.sei, alpha=alpha, alternative=alternative)
    powers = core.power(mean, spread, source.sei, alpha=alpha, alternative=alternative)
    found = core.excess(sig, powers, test=test, direction=tes_alternative)
    there = float("nan")
    if tes_alternative != "two.sided":
        own: dict[str, Any] = {"alpha": alpha, "alternative": alternative, "test": test, "direction": tes_alternative}
        there = core.limit(sig, source.sei, spread, start=mean, tes_alpha=tes_alpha, **own)
    notes = (POWER,) if theta is None else ()
    return ExcessSignificance(
        observed=found.observed,
        expected=found.expected,
        ratio=found.observed / found.expected if found.expected > 0 else NotApplicable("no power at all"),
        test=test,
        X2=found.X2 if test == "chi2" else NotApplicable(f"the {test} test has none"),
        pval=found.pval,
        theta=mean,
        tau2=spread,
        theta_lim=_limit(there, tes_alternative, tes_alpha),
        power=powers,
        alternative=alternative,
        tes_alternative=tes_alternative,
        alpha=alpha,
        tes_alpha=tes_alpha,
        k=source.k,
        studies=source.studies,
        provenance=source.effects.provenance,
        notes=merge_notes(as_independent(source, "tes"), few_effects(source.k, "the test"), notes),
    )


def _mean(fit: Any, theta: float | None) -> float:
    if theta is None:
        if isinstance(fit.beta, NotApplicable):
            raise InputError(f"tes needs a mean effect, which this model does not have: {fit.beta.reason}; give theta=")
        return float(fit.beta[0])
    check_finite(theta=theta)
    return float(theta)


def _variance(fit: Any, tau2: float | None) -> float:
    if tau2 is None:
        tau2 = fit.tau2 if isinstance(fit, RandomEffectsResults) else fit.new_variance
        if isinstance(tau2, NotApplicable):
            raise InputError(f"tes needs the variance of true effects, which is open here: {tau2.reason}; give tau2=")
    if not 0.0 <= tau2 < float("inf"):
        raise InputError(f"tau2={tau2!r} is a variance and must be 0 or more")
    return float(tau2)


def _limit(found: float, direction: str, tes_alpha: float) -> float:
    if direction == "two.sided":
        return NotApplicable("has two; ask with tes_alternative='greater' and 'less'")
    return found if found == found else NotApplicable(f"no mean on this side of 0 gives the test p = {tes_alpha:g}")


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
