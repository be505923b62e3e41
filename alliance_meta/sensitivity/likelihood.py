"""Likelihoods of univariate models: profiles, ratio tests, models side by side, equal heterogeneity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.core import resampling
from alliance_meta.core.distributions import chi2_sf, critical_value, two_sided_p
from alliance_meta.core.mixed.profile import ProfileCurve
from alliance_meta.core.resampling import Recipe, Refits
from alliance_meta.core.univariate.likelihood_ratio import Profile, score_statistic
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.errors import ConvergenceWarning, InputError, NotIdentifiedWarning
from alliance_meta.notes import (
    NotApplicable,
    Note,
    check_cores,
    check_iterations,
    check_seed,
    did_you_mean,
    merge_notes,
    warn_note,
)
from alliance_meta.result import Result
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import COSTLY, GIVEN, limits, object_frame, remarks_on, slots
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.sensitivity.refitting import check_multilevel, recipe
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, fixed, format_level, p_value

NULL = "every study has the same tau2"


@dataclass(frozen=True, eq=False, repr=False)
class HeteroscedasticityTest(Result):
    """Score test of one common tau2.

    Attributes
    ----------
    stat : float
        Chi-squared statistic.
    df : int
        k - 1.
    pval : float
        From `iterations` simulated data sets, or from chi-squared where that is None.
    pval_chi2 : float
        From the chi-squared distribution, which is only a rough guide.
    null : str
        The null hypothesis in words.
    method : {"ML", "REML"}
    iterations, seed : int or None
    """

    stat: float
    df: int
    pval: float
    pval_chi2: float
    null: str
    method: str
    iterations: int | None
    seed: int | None
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``stat df pval pval_chi2``."""
        return pd.DataFrame(
            [self._these("stat", "df", "pval", "pval_chi2")], index=pd.Index(["heteroscedasticity"], name="test")
        )

    def _values(self) -> dict[str, Any]:
        return self._these("stat", "df", "pval", "pval_chi2", "null", "method", "iterations", "seed")

    def _content(self) -> Document:
        how = "chi-squared" if self.iterations is None else f"{self.iterations} simulated data sets, seed {self.seed}"
        return self._document(
            f"Score test for unequal heterogeneity ({self.method}); null: {self.null}",
            lines=[f"X2(df = {self.df}) = {fixed(self.stat)}, p {p_value(self.pval)} ({how})"],
        )


def hettest(
    fit: RandomEffectsResults, *, iterations: int | None = None, seed: int | None = None, cores: int = 1
) -> HeteroscedasticityTest:
    r"""Test whether every study's true effect scatters equally around the mean, or some studies' more.

    A random-effects model has one tau2 for all studies. A few studies far out, in a set that otherwise agrees,
    contradict it: the mean, its interval and the prediction interval then describe no study well.

    Parameters
    ----------
    fit : RandomEffectsResults
        Fitted with ``method="ML"`` or ``"REML"``; moderators are allowed.
    iterations : int, optional
        Simulate that many data sets from the fitted model for the p-value. Recommended: the chi-squared
        distribution, used by default, is far off, because each tau2 rests on a single study.
    seed : int, optional
        Needed with `iterations`.
    cores : int
        Threads; they do not change the result.

    Returns
    -------
    HeteroscedasticityTest
        With too few studies for k variances the statistic is `NotApplicable`: (k - p)(k - p + 1) / 2 must
        reach k.

    Raises
    ------
    InputError
        Another estimator than ML or REML, a given tau2, weights of the user, no seed.

    Notes
    -----
    R: ``hettest(fit, boot = FALSE)``, which has no moderators. With u = Py the score of study i's own variance is
    :math:`\tfrac12 (u_i^2 - P_{ii})` and the information :math:`\tfrac12 P \circ P`.
    The simulated p-value is (1 + number at least as large) / (1 + iterations).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(sensitivity.hettest(fit))
    Score test for unequal heterogeneity (REML); null: every study has the same tau2
    X2(df = 15) = 6.7003, p = 0.9654 (chi-squared)
    """
    how = recipe(fit, "hettest")
    _check_method(fit)
    check_cores(cores)
    if iterations is not None:
        check_iterations(iterations)
        seed = check_seed(seed, f"{iterations} simulated data sets")
    stat = _statistic(fit)
    reference = stat if isinstance(stat, NotApplicable) else chi2_sf(stat, fit.k - 1)
    pval = reference
    if iterations is not None and not isinstance(stat, NotApplicable):
        pval = _simulated(fit, how, stat, iterations, seed or 0, cores)
    return HeteroscedasticityTest(
        stat=stat,
        df=fit.k - 1,
        pval=pval,
        pval_chi2=reference,
        null=NULL,
        method=fit.method,
        iterations=iterations,
        seed=None if iterations is None else seed,
        notes=merge_notes(fit.notes, _notes(fit)),
    )


def _check_method(fit: RandomEffectsResults) -> None:
    if fit.k > fit.p and fit.method not in ("ML", "REML"):
        raise InputError(f"hettest needs method='ML' or 'REML', not {fit.method!r}; refit")
    if fit.settings.tau2 is not None or fit.fitted.own_weights is not None:
        raise InputError(
            "hettest needs an estimated tau2 and the model's own weights; refit without tau2= and weights="
        )


def _statistic(fit: RandomEffectsResults) -> float:
    df = fit.k - fit.p
    if df < 1 or (fit.method == "REML" and df * (df + 1) // 2 < fit.k):
        return NotApplicable(f"k = {fit.k} effects are too few to test k variances")
    value = float(score_statistic(fit.fitted.model, restricted=fit.method == "REML")[0])
    return value if np.isfinite(value) else NotApplicable("the information about the single variances is singular")


def _simulated(fit: RandomEffectsResults, how: Recipe, stat: float, iterations: int, seed: int, cores: int) -> float:
    v = fit.effects.vi
    mean, spread = how.X @ fit.beta, np.sqrt(v + fit.tau2)

    def task(block: int, start: int, stop: int) -> Refits:
        noise = resampling.stream(seed, block).standard_normal((stop - start, fit.k))
        batch = make_batch(mean + spread * noise, v, how.X)
        tau2 = resampling.refit(how, batch)[2]
        return {"stat": score_statistic(wls(batch, tau2), restricted=fit.method == "REML")}

    found = resampling.in_blocks(task, B=iterations, k=fit.k, cores=cores)["stat"]
    return float((1 + (found >= stat).sum()) / (1 + iterations))


def _notes(fit: RandomEffectsResults) -> list[Note]:
    if fit.k > fit.p and not fit.tau2 > 0:
        return [
            Note("hettest-at-bound", "tau2 is 0, the lowest possible value: the score test is only approximate there.")
        ]
    return []


WORDS = {
    "peak": "one peak, at the estimate",
    "edge": "falls from the edge of its range",
    "flat": "flat: not identified",
    "higher": "higher elsewhere: not the maximum",
    "several": "more than one peak",
}


@dataclass(frozen=True, eq=False, repr=False)
class ProfileLikelihood(Result):
    """How likely each value of each variance and correlation makes the data, all else at its best.

    Attributes
    ----------
    fit : MultilevelResults
    curves : mapping of str to ProfileCurve
        Variance or correlation -> the curve; those that were given are absent.
    level : float
        Confidence level of the intervals.
    notes : tuple of Note
        Those of the fit, and one for each curve that is no single peak at the estimate.
    """

    fit: MultilevelResults
    curves: dict[str, ProfileCurve]
    level: float
    notes: tuple[Note, ...] = ()

    @property
    def components(self) -> tuple[str, ...]:
        """The variances and correlations."""
        return tuple(self.curves)

    def tidy(self) -> pd.DataFrame:
        """Return one row per point of each curve: ``component value loglik``, rising values."""
        frames = [
            pd.DataFrame({"component": name, "value": curve.values, "loglik": curve.loglik})
            for name, curve in self.curves.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def check(self) -> pd.DataFrame:
        """Return one row per component: ``estimate lb ub peak cutoff verdict``.

        ``peak`` is the fit's log-likelihood, ``cutoff`` the height at which the interval is read off. The verdict is
        in words: one peak at the estimate, falling from the edge of the range (the estimate is 0, or a correlation
        1), flat, higher elsewhere, more than one peak.
        """
        rows = {}
        for name, curve in self.curves.items():
            lb, ub = limits(curve)
            heights = {"peak": curve.peak, "cutoff": curve.cutoff, "verdict": WORDS[curve.verdict]}
            rows[name] = {"estimate": curve.estimate, "lb": lb, "ub": ub, **heights}
        out = object_frame(rows, ("estimate", "lb", "ub", "peak", "cutoff", "verdict"))
        out.index.name = "component"
        return out

    @property
    def identified(self) -> bool:
        """Every curve is one peak, or falls from the edge of its range."""
        return all(curve.verdict in ("peak", "edge") for curve in self.curves.values())

    def _values(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "method": self.fit.method,
            "components": self.check().to_dict(orient="index"),
            "curves": {n: {"value": c.values, "loglik": c.loglik} for n, c in self.curves.items()},
        }

    def _content(self) -> Document:
        kind = "restricted likelihood" if self.fit.method == "REML" else "likelihood"
        kinds: dict[str, Kind] = {"estimate": 4, "lb": 4, "ub": 4, "verdict": "s"}
        return self._document(
            f"Profile {kind} ({format_level(self.level)} intervals)",
            table_of(self.check(), kinds, heads={"verdict": "shape"}),
        )


def profile(
    fit: MultilevelResults,
    *,
    components: str | Sequence[str] | None = None,
    level: float | None = None,
    points: int = 41,
) -> ProfileLikelihood:
    r"""Draw up the profile likelihood of each variance and correlation, and check that it is a peak.

    Each variance is held at one value after the other while everything else is fitted again. A sharp peak means that
    the data tell the variance well; a curve that does not fall, that almost any value would do: the model asks for
    more than the data hold. The interval holds the values whose likelihood is not much lower than the best.

    Parameters
    ----------
    fit : MultilevelResults
    components : str or sequence of str, optional
        Names from ``fit.components``; by default all that were estimated, but for those of unstructured terms with
        more than three columns, which take long.
    level : float, optional
        Confidence level of the interval; the fit's by default.
    points : int
        Values per curve, at least 5; around the interval, evenly spaced in the standard deviation.

    Returns
    -------
    ProfileLikelihood
        ``plots.profile`` draws it. Its intervals are those of ``fit.confint()``.

    Raises
    ------
    InputError
        Another kind of fit, an unknown component, or none that was estimated.

    Warns
    -----
    NotIdentifiedWarning
        A curve is flat; also a note.
    ConvergenceWarning
        A curve has several peaks, or is higher elsewhere; also a note.

    Notes
    -----
    The limits are where the curve has fallen by :math:`\chi^2_{1,level} / 2`. Variances and correlations of ``UN`` and
    ``GEN`` terms, which the model estimates by a Cholesky factor, are made parameters of their own for this.
    R: ``profile(fit)`` and ``confint(fit)``.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, sensitivity
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> print(sensitivity.profile(fit, points=9))
    Profile restricted likelihood (95% intervals)
    <BLANKLINE>
                            estimate      lb      ub  shape
    sigma2[study_id]          0.0230  0.0000  0.0525  one peak, at the estimate
    sigma2[study_id/es_id]    0.0329  0.0174  0.0634  one peak, at the estimate
    """
    check_multilevel(fit, "profile")
    used = fit._level(level)
    if not isinstance(points, int) or isinstance(points, bool) or points < 5:
        raise InputError(f"points={points!r} must be a whole number of at least 5")
    asked = _asked(fit, components)
    curves: dict[str, ProfileCurve] = {}
    notes: list[Note] = []
    for slot in slots(fit):
        if slot.name in asked and slot.costly and components is None:
            notes.append(Note("not-profiled", f"{slot.name}: {COSTLY}."))
        elif slot.name in asked and slot.fit is not None:
            curves[slot.name] = slot.curve(level=used, points=points)
    if not curves:
        raise InputError(f"{', '.join(asked)}: {COSTLY if notes else GIVEN}; there is nothing to profile")
    found: dict[str, ProfileCurve | NotApplicable] = dict(curves)
    kinds = {"profile-flat": NotIdentifiedWarning}
    own = [
        warn_note(note.code, note.message, kinds.get(note.code, ConvergenceWarning), stacklevel=3)
        for note in remarks_on(found)
    ]
    return ProfileLikelihood(fit, curves, used, merge_notes(fit.notes, notes, own))


def _asked(fit: MultilevelResults, components: str | Sequence[str] | None) -> list[str]:
    known = [str(name) for name in fit.components.index]
    if components is None:
        return known
    names = [components] if isinstance(components, str) else list(components)
    for name in names:
        if name not in known:
            raise InputError(
                f"components: {name!r} is no component{did_you_mean(name, known)}; there are: {', '.join(known)}"
            )
    return names


CORRECTIONS = ("none", "bartlett", "skovgaard")
AT_BOUND = "Skovgaard's correction needs tau2 above 0"
NO_LIMIT = "the statistic does not reach this limit"


@dataclass(frozen=True, eq=False, repr=False)
class LikelihoodRatioTest(Result):
    """Likelihood-ratio inference for each coefficient.

    Attributes
    ----------
    rows : mapping of (str, str) to mapping
        Coefficient and correction -> ``estimate stat pval ci_lb ci_ub``; `stat` is the signed root of the statistic.
    value : float
        The value tested.
    tau2 : float
        Maximum-likelihood estimate of tau2.
    bartlett : tuple of float
        Factor that the plain statistic of each coefficient is divided by.
    level : float
    """

    rows: dict[tuple[str, str], dict[str, float]]
    value: float
    tau2: float
    bartlett: tuple[float, ...]
    level: float
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient and correction: ``estimate stat pval ci_lb ci_ub``."""
        index = pd.MultiIndex.from_tuples(self.rows, names=["term", "correction"])
        return pd.DataFrame(list(self.rows.values()), index=index)

    def _values(self) -> dict[str, Any]:
        rows = [{"term": term, "correction": how, **row} for (term, how), row in self.rows.items()]
        return {"coefficients": rows, **self._these("value", "tau2", "bartlett", "level")}

    def _content(self) -> Document:
        kinds: dict[str, Kind] = {"correction": "s", "estimate": 4, "stat": 4, "pval": "p", "ci_lb": 4, "ci_ub": 4}
        return self._document(
            f"Likelihood-ratio tests that a coefficient is {brief(self.value)} "
            f"(maximum likelihood, tau2 = {fixed(self.tau2)}; {format_level(self.level)} intervals)",
            table_of(self.tidy().reset_index("correction"), kinds),
        )


def lr_test(fit: RandomEffectsResults, *, value: float = 0.0, level: float | None = None) -> LikelihoodRatioTest:
    r"""Test each coefficient, and give its interval, from the likelihood alone.

    The interval holds every value under which the data are not much less likely than under the best one; it needs
    no standard error and may lie askew around the estimate. With few studies the plain form is too narrow;
    Bartlett's and Skovgaard's corrections mend that.

    Parameters
    ----------
    fit : RandomEffectsResults
        Its effects and design are used; tau2 is estimated anew by maximum likelihood.
    value : float
        The value tested, on the analysis scale.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    LikelihoodRatioTest
        `NotApplicable` with k = p, and for Skovgaard's correction where tau2 is 0.

    Raises
    ------
    InputError
        An equal-effects model, a given tau2 or weights of the user: their z test is the likelihood-ratio test
        already.

    Notes
    -----
    The signed root :math:`r = \pm\sqrt{2(\hat\ell - \tilde\ell)}` is referred to the normal (Hardy & Thompson 1996,
    doi:10.1002/(SICI)1097-0258(19960330)15:6<619::AID-SIM188>3.0.CO;2-A). ``bartlett`` divides :math:`r^2` by its
    expectation to order 1 / k (Huizenga, Visser & Dolan 2011, doi:10.1348/000711010X522687). ``skovgaard`` is
    :math:`r + \log(u / r) / r` (Skovgaard 1996; for this model Guolo 2012, Statistics in Medicine 31, 313-327).
    R: packages metaLik and metatest.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(sensitivity.lr_test(fit))
    Likelihood-ratio tests that a coefficient is 0 (maximum likelihood, tau2 =
      0.0069; 95% intervals)
    <BLANKLINE>
             correction  estimate    stat    pval   ci_lb   ci_ub
    intrcpt  none          0.1487  3.8400  0.0001  0.0877  0.2168
    intrcpt  bartlett      0.1487  3.6095  0.0003  0.0833  0.2220
    intrcpt  skovgaard     0.1487  3.6036  0.0003  0.0848  0.2253
    """
    check_fit(fit, "lr_test")
    used = fit._level(level)
    _check(fit)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    factors: list[float] = []
    tau2, notes = float("nan"), list(fit.notes)
    for slot, name in enumerate(fit.names):
        if fit.k <= fit.p:
            rows |= {(name, correction): _nothing(fit) for correction in CORRECTIONS}
            factors.append(NotApplicable(_too_few(fit)))
            continue
        profile = Profile(fit.effects.yi, fit.effects.vi, fit.design.X, slot)
        tau2 = profile.tau2
        factors.append(profile.bartlett_factor)
        rows |= {(name, how): row for how, row in _rows(profile, value, used).items()}
    if fit.k > fit.p and not tau2 > 0:
        notes.append(
            Note("lr-at-bound", f"tau2 (ML) is 0. {AT_BOUND}; the plain and Bartlett's test are then cautious.")
        )
    tau2 = tau2 if fit.k > fit.p else NotApplicable(_too_few(fit))
    return LikelihoodRatioTest(rows, value, tau2, tuple(factors), used, merge_notes(notes))


def _check(fit: RandomEffectsResults) -> None:
    if fit.k > fit.p and (fit.method == "EE" or fit.settings.tau2 is not None):
        raise InputError("with tau2 known the z test is the likelihood-ratio test; refit with an estimated tau2")
    if fit.settings.weights is not None:
        raise InputError("the likelihood sets its own weights; refit without weights=")


def _too_few(fit: RandomEffectsResults) -> str:
    return f"needs more effects (k = {fit.k}) than coefficients (p = {fit.p})"


def _nothing(fit: RandomEffectsResults) -> dict[str, float]:
    gone = NotApplicable(_too_few(fit))
    return dict.fromkeys(("estimate", "stat", "pval", "ci_lb", "ci_ub"), gone)


def _rows(profile: Profile, value: float, level: float) -> dict[str, dict[str, float]]:
    z = critical_value(level, None)
    shrink = float(np.sqrt(profile.bartlett_factor))
    r = profile.r(value)
    rows = {
        "none": _row(profile, r, profile.r, z),
        "bartlett": _row(profile, r / shrink, profile.r, z * shrink),
    }
    corrected = profile.skovgaard(value) if profile.tau2 > 0 else float("nan")
    rows["skovgaard"] = _row(profile, corrected, profile.skovgaard, z)
    return rows


def _row(profile: Profile, stat: float, statistic: Callable[[float], float], bound: float) -> dict[str, float]:
    estimate = float(profile.beta[profile.slot])
    if np.isnan(stat):
        gone = NotApplicable(AT_BOUND)
        return {"estimate": estimate, "stat": gone, "pval": gone, "ci_lb": gone, "ci_ub": gone}
    limits = profile.limits(statistic, bound)
    lb, ub = (NotApplicable(NO_LIMIT) if np.isnan(limit) else limit for limit in limits)
    pval = float(two_sided_p(np.array(stat), None))
    return {"estimate": estimate, "stat": stat, "pval": pval, "ci_lb": lb, "ci_ub": ub}
