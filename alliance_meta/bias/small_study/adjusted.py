"""Means that small studies sway less: Henmi and Copas's, Rücker's limit, trim and fill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.given import Adjusted, given
from alliance_meta.bias.small_study.refitting import (
    about,
    adjusted,
    few_notes,
    model_of,
    not_adjusted,
    one_per_study,
    settings,
    size_notes,
    why_no_slope,
)
from alliance_meta.core.bias.small_study import MOST_STEPS, henmi_copas, limit_meta, trim
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import chi2_sf, critical_value, two_sided_p
from alliance_meta.core.univariate.fit import fit_univariate, fixed_tau2
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes, unique_labels
from alliance_meta.errors import InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.results.r_code import call, level_argument, quoted, value
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.document import Document, Table, table_of
from alliance_meta.tables.format import bare_p, fixed, plain_df

NO_PVAL = NotApplicable("the interval is not made by a test")


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class HenmiCopasResult(Adjusted):
    """The Henmi-Copas interval beside that of the fit.

    Attributes
    ----------
    estimate, se, ci_lb, ci_ub : float
        Equal-effects estimate with a standard error and an interval that allow for heterogeneity.
    tau2 : float
        DerSimonian-Laird estimate that the interval rests on.
    quantile : float
        What the standard error is multiplied by, in place of 1.96.
    fit_estimate, fit_ci_lb, fit_ci_ub : float
        The same from the fitted model, to compare with.
    k, studies, level, measure, notes
        As in every adjusted mean.
    """

    called: ClassVar[str] = "Henmi-Copas"
    assumes: ClassVar[str] = "large studies are less exposed to selection"

    tau2: float
    quantile: float
    fit_estimate: float
    fit_ci_lb: float
    fit_ci_ub: float

    def tidy(self) -> pd.DataFrame:
        """Return two rows, ``Henmi-Copas`` and ``fit``: ``estimate ci_lb ci_ub``, on the analysis scale."""
        rows = {
            self.called: (self.estimate, self.ci_lb, self.ci_ub),
            "fit": (self.fit_estimate, self.fit_ci_lb, self.fit_ci_ub),
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "ci_lb", "ci_ub"])

    def _content(self) -> Document:
        table = table_of(self.tidy(), dict.fromkeys(("estimate", "ci_lb", "ci_ub"), 4))
        return self._document(f"{self._title()[:-1]}; tau2 (DL) = {fixed(self.tau2)})", table)


def hc(fit: Any, *, rho: float = DEFAULT_RHO, level: float | None = None) -> HenmiCopasResult:
    """Give the mean effect and its interval in the form least exposed to missing small studies.

    When small studies without a finding stay unpublished, the ones left push a random-effects mean up, because it
    gives them nearly the weight of large studies. This interval is centred on the equal-effects mean, where large
    studies dominate, and is still as wide as the differences between studies demand.

    Parameters
    ----------
    fit : a fitted model
        Of any kind, without moderators. Its effects are used, its estimator of tau2 is not; where studies have
        several, the mean of each study.
    rho : float
        Assumed correlation of the sampling errors of one study's effects, for those means.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    HenmiCopasResult
        Every number is `NotApplicable` with a single study.

    Raises
    ------
    InputError
        A model with moderators.

    Notes
    -----
    R: ``hc(fit)``. Henmi & Copas (2010, doi:10.1002/sim.4029): tau2 by DerSimonian and Laird; the distribution of
    the standardised estimate from the joint distribution of estimate and Q, the latter by a gamma distribution.
    The integral and its root are found to twelve digits; R stops at four.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.hc(fit))
    Henmi-Copas (k = 16; 95%; tau2 (DL) = 0.0078)
    <BLANKLINE>
                 estimate   ci_lb   ci_ub
    Henmi-Copas    0.1252  0.0400  0.2104
    fit            0.1499  0.0801  0.2198
    """
    source = given(fit, "hc", level=level)
    used = one_per_study(source, "hc", rho)
    row = fit.predict(level=source.level).iloc[0]
    own: dict[str, Any] = {
        f"fit_{name}": float(row[key]) for name, key in (("estimate", "pred"), ("ci_lb", "ci_lb"), ("ci_ub", "ci_ub"))
    }
    if used.k < 2:
        gone = NotApplicable("needs at least 2 effects")
        return not_adjusted(HenmiCopasResult, source, gone.reason, tau2=gone, quantile=gone, **own)
    found = henmi_copas(used.effects.yi, used.effects.vi, level=source.level)
    numbers: dict[str, Any] = {
        name: getattr(found, name) for name in ("estimate", "se", "ci_lb", "ci_ub", "tau2", "quantile")
    }
    return HenmiCopasResult(**numbers, pval=NO_PVAL, **about(source), notes=used.notes, **own)


Adjustment = Literal["beta0", "betalim", "mulim"]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class LimitMeta(Adjusted):
    """A limit meta-analysis.

    Attributes
    ----------
    adjustment : {"beta0", "betalim", "mulim"}
    tau2 : float
        The variance between studies that it rests on.
    alpha, beta : float
        Intercept and slope on the generalised radial plot: bias for each standard error, and the mean without it.
    Q, Q_small, Q_resid : float
        Heterogeneity, the part that goes with small studies, and the rest.
    Q_df : int
        Degrees of freedom of Q; Q_small has 1 and Q_resid one less than Q.
    Q_pval, Q_small_pval, Q_resid_pval : float
    G2 : float
        Heterogeneity that is left when small-study effects are taken away, 0 to 1.
    shrunken : DataFrame
        ``yi se limit`` by study: the effect, its standard error, and the effect in a study of infinite size.
    """

    called: ClassVar[str] = "Limit meta-analysis"
    assumes: ClassVar[str] = "bias grows with the total standard error, that of a study and between studies"

    adjustment: Adjustment
    tau2: float
    alpha: float
    beta: float
    Q: float
    Q_df: int
    Q_pval: float
    Q_small: float
    Q_small_pval: float
    Q_resid: float
    Q_resid_pval: float
    G2: float
    shrunken: pd.DataFrame

    def _values(self) -> dict[str, Any]:
        rows = self.shrunken.reset_index(names="label")
        own = {name: value for name, value in Adjusted._values(self).items() if name != "shrunken"}
        return own | {"shrunken": {str(name): rows[name].tolist() for name in rows}}

    def _content(self) -> Document:
        found = Adjusted._content(self)
        if isinstance(self.Q, NotApplicable):
            return found
        tests = (
            ("all", self.Q, self.Q_df, self.Q_pval),
            ("small-study effects", self.Q_small, 1, self.Q_small_pval),
            ("rest", self.Q_resid, self.Q_df - 1, self.Q_resid_pval),
        )
        rows = tuple((name, fixed(Q, 2), plain_df(df), bare_p(p)) for name, Q, df, p in tests)
        table = Table(("Heterogeneity", "Q", "df", "p"), rows)
        lines = [f"tau2 = {fixed(self.tau2)}; bias for each standard error {fixed(self.alpha)}; G2 = {fixed(self.G2)}"]
        return replace(found, lines=[*found.lines, *lines], blocks=[*found.blocks, table])


def limitmeta(
    fit: Any,
    *,
    adjustment: Adjustment = "beta0",
    cluster: Any = STUDY,
    rho: float = DEFAULT_RHO,
    level: float | None = None,
) -> LimitMeta:
    r"""Estimate the mean that studies would find if each of them were infinitely large, by Rücker's method.

    The random-effects model gets one more term: the less precise a study, the further its effect is pushed. With the
    push known, every study is thought to grow until its sampling error is gone; what its effect would then be is its
    shrunken effect, and what they have in common the limit. Unlike PET it keeps the heterogeneity between studies in
    the model, so that it corrects less where studies truly differ. Where studies have several effects, the mean of
    each study stands for it.

    Parameters
    ----------
    fit : a fitted model without moderators
        Univariate models also give the estimator of tau2.
    adjustment : {"beta0", "betalim", "mulim"}
        ``beta0``: the expectation of the extended model. ``betalim``: slope of the radial regression of the shrunken
        effects. ``mulim``: their equal-effects mean, which leaves bias that does not depend on precision.
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study.
    rho : float
        Assumed correlation of the sampling errors of one study, for the variance of its mean.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    LimitMeta
        `NotApplicable` numbers with fewer than 3 studies, or all of one precision.

    Raises
    ------
    InputError
        A model with moderators.

    Notes
    -----
    .. math:: y_i = \beta + \sqrt{v_i + \tau^2} \, (\alpha + \epsilon_i), \quad
              \beta_0 = \beta + \tau \alpha

    R: ``metasens::limitmeta(meta::metagen(yi, sqrt(vi)), method.adjust = "beta0")``. Rücker, Schwarzer, Carpenter,
    Binder & Schumacher (2011, doi:10.1093/biostatistics/kxq046); G2: Rücker, Carpenter & Schwarzer (2011,
    doi:10.1002/bimj.201000151).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> found = bias.limitmeta(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> round(found.estimate, 4), round(found.alpha, 2), round(found.G2, 2)
    (0.1096, 1.19, 0.8)
    """
    source = given(fit, "limitmeta", cluster=cluster, level=level)
    check_option("adjustment", adjustment, Adjustment)
    base = one_per_study(source, "limitmeta", rho)
    each = given(base, "limitmeta")
    why = why_no_slope(each, each.sei)
    shrunken = pd.DataFrame({"yi": each.yi, "se": each.sei}, index=pd.Index(base.effects.slab, name="study"))
    if why is not None:
        names = ("alpha", "beta", "Q", "Q_pval", "Q_small", "Q_small_pval", "Q_resid", "Q_resid_pval", "G2")
        gone = NotApplicable(why)
        own: dict[str, Any] = dict.fromkeys(names, gone)
        shrunken["limit"] = pd.Series([gone] * each.k, index=shrunken.index, dtype=object)
        return not_adjusted(
            LimitMeta, source, why, adjustment=adjustment, tau2=base.tau2, Q_df=each.k - 1, shrunken=shrunken, **own
        )
    found = limit_meta(each.yi, each.vi, max(base.tau2, 0.0))
    estimate, se = found.estimates[adjustment]
    half = critical_value(source.level, None) * se
    return LimitMeta(
        estimate=estimate,
        se=se,
        ci_lb=estimate - half,
        ci_ub=estimate + half,
        pval=float(two_sided_p(np.array(estimate / se), None)),
        **about(source),
        adjustment=adjustment,
        tau2=base.tau2,
        alpha=found.alpha,
        beta=found.beta,
        Q=found.Q,
        Q_df=each.k - 1,
        Q_pval=chi2_sf(found.Q, each.k - 1),
        Q_small=found.Q_small,
        Q_small_pval=chi2_sf(found.Q_small, 1),
        Q_resid=found.Q_resid,
        Q_resid_pval=chi2_sf(found.Q_resid, each.k - 2),
        G2=found.G2,
        shrunken=shrunken.assign(limit=found.shrunken),
        notes=merge_notes(base.notes, size_notes(each, "sei"), few_notes(source)),
    )


TrimEstimator = Literal["L0", "R0", "Q0"]
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TrimFill(Adjusted):
    """The mean after mirror images of unmatched effects were added.

    Attributes
    ----------
    k0 : int
        Effects added.
    k0_se : float
        Its standard error.
    k0_pval : float
        Test that none lacks; `NotApplicable` but for ``R0``.
    side : {"left", "right"}
        Where they lack.
    estimator : {"L0", "R0", "Q0"}
    filled : DataFrame
        The rows added: ``yi vi mirrors`` by label, ``mirrors`` the effect each is the image of.
    fit : RandomEffectsResults
        The fit of observed and added effects together.
    before : RandomEffectsResults
        The fit of the observed ones, one per study.
    """

    called: ClassVar[str] = "Trim and fill"
    assumes: ClassVar[str] = "the most extreme effects on one side are missing, and the funnel is else symmetric"

    k0: int
    k0_se: float
    k0_pval: float
    side: Side
    estimator: TrimEstimator
    filled: pd.DataFrame
    fit: RandomEffectsResults
    before: RandomEffectsResults

    def _values(self) -> dict[str, Any]:
        names = ("estimate", "se", "ci_lb", "ci_ub", "pval", "k", "studies", "level", "measure")
        rows = self.filled.reset_index(names="label")
        filled = {str(name): rows[name].tolist() for name in rows}
        return self._these(*names, "k0", "k0_se", "k0_pval", "side", "estimator") | {"filled": filled}

    def _content(self) -> Document:
        found = Adjusted._content(self)
        many = "no effect" if self.k0 == 0 else "one effect" if self.k0 == 1 else f"{self.k0} effects"
        return replace(found, lines=(f"{many} added on the {self.side} ({self.estimator})", *found.lines))

    def r_code(self) -> str:
        """Return the R code of trim and fill."""
        own = self.before.settings
        named: dict[str, str | None] = {"estimator": quoted(self.estimator), "side": quoted(self.side)}
        # metafor's refits take from the fit only its method and weights; the rest must be said again.
        named["test"] = None if own.test == "z" else quoted(str(own.test))
        named["level"] = level_argument(self.level)
        named["tau2"] = None if own.tau2 is None else value(own.tau2)
        named["control"] = None if own.tau2_min == 0 else f"list(tau2.min={value(own.tau2_min)})"
        return f"{self.before.r_code()}\nfit <- {call('trimfill', 'fit', **named)}"


def trimfill(
    fit: Any,
    *,
    estimator: TrimEstimator = "L0",
    side: Side | None = None,
    cluster: Any = STUDY,
    rho: float = DEFAULT_RHO,
    level: float | None = None,
) -> TrimFill:
    """Count the studies that seem to be missing on one side of the funnel, put them back, and pool again.

    If every study found were matched by one as far on the other side of the mean, nothing would be missing. The
    unmatched ones on the crowded side are mirrored, and the mean of all is what might have been found without the
    gap. It is a sensitivity analysis, not a correction to rely on: it takes asymmetry for missing studies whatever
    its cause, and too little off where selection was by significance. Where studies have several effects, the
    mean of each study stands for it.

    Parameters
    ----------
    fit : a fitted model without moderators
        Univariate models also give estimator, inference and weights.
    estimator : {"L0", "R0", "Q0"}
        How missing studies are counted; ``R0`` also tests whether there are any.
    side : {"left", "right"}, optional
        Where they are missing; by default where the slope of `regtest` says.
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study.
    rho : float
        Assumed correlation of the sampling errors of one study, for the variance of its mean.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    TrimFill

    Raises
    ------
    InputError
        A model with moderators; a single study; a count that finds no rest.

    Notes
    -----
    R: ``trimfill(fit, estimator = "L0", side = "left")``. Duval & Tweedie (2000a,
    doi:10.1080/01621459.2000.10473905; 2000b, doi:10.1111/j.0006-341X.2000.00455.x).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> filled = bias.trimfill(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> filled.k0, filled.side, round(filled.estimate, 3), filled.fit.k
    (2, 'left', 0.129, 18)
    """
    check_option("estimator", estimator, TrimEstimator)
    if side is not None:
        check_option("side", side, Side)
    source = given(fit, "trimfill", cluster=cluster, level=level)
    before = one_per_study(source, "trimfill", rho)
    if before.k < 2:
        raise InputError("trimfill compares studies and needs at least 2 of them")
    used, notes = (side, ()) if side is not None else _side(before)
    sign = -1.0 if used == "right" else 1.0
    found = trim(sign * before.effects.yi, estimator=estimator, mean=lambda rows: _mean(before, sign, rows))
    if not found.settled:
        raise InputError(
            f"trimfill: the count of missing studies by {estimator} found no rest in {MOST_STEPS} steps or is not "
            "defined here; use another estimator or side"
        )
    effects = _filled(before.effects, found.mirrored, sign * found.mean)
    weights = settings(before).weights
    weights = None if weights is None else np.concatenate([weights, weights[found.mirrored]])
    after = model_of(given(before, "trimfill"), effects=effects, weights=weights)
    rows = effects.frame.iloc[before.k :].set_index("slab")[["yi", "vi"]]
    gone = NotApplicable("only R0 has a test")
    result = adjusted(
        TrimFill,
        source,
        after,
        notes=notes,
        k0=found.k0,
        k0_se=found.se if found.se == found.se else NotApplicable("its variance is not positive here"),
        k0_pval=found.pval if found.pval == found.pval else gone,
        side=used,
        estimator=estimator,
        filled=rows.assign(mirrors=[before.effects.slab[i] for i in found.mirrored]),
        fit=after,
        before=before,
    )
    return result


def _mean(before: RandomEffectsResults, sign: float, rows: IntArray) -> float:
    """Return the pooled mean of some effects, by the model of all."""
    return float(_coefficients(before, sign * before.effects.yi[rows], rows, np.ones((len(rows), 1)))[0])


def _coefficients(before: RandomEffectsResults, y: Array, rows: IntArray, X: Array) -> Array:
    """Return the coefficients of values of some effects on X, by the model of all."""
    own = before.settings
    few = len(rows) == X.shape[1] and own.tau2 is None
    return fit_univariate(
        y,
        before.effects.vi[rows],
        X,
        method="EE" if few else own.method,
        test="z",
        level=own.level,
        tau2=None if own.tau2 is None else fixed_tau2(own.tau2),
        weights=None if own.weights is None else own.weights[rows],
        lowest=own.tau2_min,
    ).beta


def _side(before: RandomEffectsResults) -> tuple[Side, tuple[Note, ...]]:
    """Return the side on which studies lack by the slope of effects on their standard errors."""
    source = given(before, "trimfill")
    why = why_no_slope(source, source.sei)
    if why is None:
        X = np.column_stack([np.ones(source.k), source.sei])
        try:
            slope = _coefficients(before, source.yi, np.arange(source.k, dtype=np.intp), X)[1]
            return "right" if slope < 0 else "left", ()
        except np.linalg.LinAlgError:
            why = "one weight outweighs all others"
    side: Side = "left" if source.sign > 0 else "right"
    message = f"No slope tells on which side studies are missing ({why}); the side away from the mean was taken."
    return side, (Note("trim-side", message),)


def _filled(effects: EffectSizes, mirrored: IntArray, mean: float) -> EffectSizes:
    """Return the effects with the images of some of them around a mean."""
    k0 = len(mirrored)
    both = effects.take(np.concatenate([np.arange(effects.k), mirrored]))
    new = tuple(f"Filled {i + 1}" for i in range(k0))
    yi = np.concatenate([effects.yi, 2.0 * mean - effects.yi[mirrored]])
    labels = unique_labels((*effects.slab, *new))
    return replace(
        both,
        yi=yi,
        slab=labels,
        study_id=(*effects.study_id, *labels[effects.k :]),
        _moderators=pd.DataFrame({"filled": np.arange(len(yi)) >= effects.k}),
        columns={},
        provenance=effects.provenance.after(f"trim and fill: {k0} effects added"),
    )
