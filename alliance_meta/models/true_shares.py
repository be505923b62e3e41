"""True effects in new settings: shares above a threshold, their distribution, prediction intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.univariate.fit import estimate_tau2, fixed_tau2
from alliance_meta.core.univariate.true_effects import confidence_distributions, nagashima, share_above, share_interval
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, Scale, check_level, check_option
from alliance_meta.result import Result
from alliance_meta.results.fit import to_scale
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, fixed, format_level

ShareInterval = Literal["confidence", "bootstrap", "delta"]
RULES = {
    "normal": "normal; Wald standard error",
    "t": "t(k - p); Wald standard error",
    "riley": "t(k - p - 1); Wald standard error",
    "knha": "t(k - p); Knapp-Hartung standard error",
    "knha-riley": "t(k - p - 1); Knapp-Hartung standard error",
    "nagashima": "confidence distribution of tau2",
}
Newdata = pd.DataFrame | Mapping[str, Any] | None


@dataclass(frozen=True, eq=False, repr=False)
class TrueEffects(Result):
    """The distribution of true effects, as a fitted model describes it.

    Attributes
    ----------
    labels : tuple of str
        One per row of moderator values; ``("mean effect",)`` without moderators.
    mu : ndarray of shape (m,)
        Mean of the distribution of each row, on the analysis scale.
    tau2 : float
        Its variance, on the analysis scale.
    scale : {"z", "r", "analysis"}
        Scale of thresholds, quantiles and density.
    transformed : bool
        Whether `scale` is r and the analysis scale Fisher z.
    shares : DataFrame
        What `tidy` returns.
    """

    labels: tuple[str, ...]
    mu: Array
    tau2: float
    scale: str
    transformed: bool
    shares: pd.DataFrame
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per setting and threshold, unrounded: ``label threshold share ci_lb ci_ub``."""
        return self.shares.copy()

    def quantiles(self, probabilities: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> pd.DataFrame:
        """Return quantiles of the true effects, one row per setting; the estimates' own error is not in them."""
        p = np.asarray(probabilities, dtype=float)
        if not ((p > 0) & (p < 1)).all():
            raise InputError("probabilities must lie between 0 and 1")
        values = self.mu[:, None] + np.sqrt(max(self.tau2, 0.0)) * special.ndtri(p)
        out = pd.DataFrame(np.tanh(values) if self.transformed else values, columns=p, index=pd.Index(self.labels))
        out.attrs["scale"] = self.scale
        return out

    def density(self, *, points: int = 201) -> pd.DataFrame:
        """Return density and distribution function of the true effects on a grid: the data of their picture.

        Returns
        -------
        DataFrame
            ``label x density cdf``; no rows where tau2 = 0, all true effects being the same
            (``.attrs["note"]``).
        """
        columns = ["label", "x", "density", "cdf"]
        if not self.tau2 > 0:
            out = pd.DataFrame(columns=columns)
            out.attrs["note"] = "tau2 = 0: every true effect is the mean effect"
            return out
        tau, grid = np.sqrt(self.tau2), np.linspace(-4.0, 4.0, points)
        frames = []
        for label, mu in zip(self.labels, self.mu, strict=True):
            theta = mu + tau * grid
            x = np.linspace(np.tanh(theta[0]), np.tanh(theta[-1]), points) if self.transformed else theta
            standard = ((np.arctanh(x) if self.transformed else x) - mu) / tau
            slope = 1.0 - x**2 if self.transformed else 1.0
            height = np.exp(-0.5 * standard**2) / (np.sqrt(2.0 * np.pi) * tau * slope)
            frames.append(pd.DataFrame({"label": label, "x": x, "density": height, "cdf": special.ndtr(standard)}))
        out = pd.concat(frames, ignore_index=True)
        out.attrs["scale"] = self.scale
        return out

    def _content(self) -> Document:
        attrs, shares = self.shares.attrs, self.shares.set_index("label")
        kinds: dict[str, Kind] = {"threshold": brief, **dict.fromkeys(("share", "ci_lb", "ci_ub"), _percent)}
        return self._document(
            f"Share of settings whose true effect is above a threshold ({self.scale})",
            table_of(shares, kinds),
            lines=[f"tau2 = {fixed(self.tau2)}; {format_level(attrs['level'])} intervals: {attrs['interval']}"],
        )


def _percent(share: float) -> str:
    return f"{fixed(100 * float(share), 1)}%"


def true_effects(
    fit: RandomEffectsResults,
    *,
    thresholds: Sequence[float] = (0.1, 0.2, 0.3),
    newdata: Newdata = None,
    scale: Scale | None = None,
    interval: ShareInterval = "confidence",
    iterations: int = 2000,
    seed: int = 1,
    level: float | None = None,
) -> TrueEffects:
    r"""Estimate in what share of settings the true effect exceeds a threshold.

    A mean correlation of .28 can stand for "about .28 everywhere" or for "none here, .5 there". This says in
    how many settings like those studied the true correlation is above .1, .2 or .3, and how well the data
    pin that share down.

    Parameters
    ----------
    fit : RandomEffectsResults
        A model with random effects.
    thresholds : sequence of float
        On the scale named by `scale`.
    newdata : DataFrame or mapping, optional
        Moderator values, one row per setting; required for a model with moderators.
    scale : {"z", "r"}, optional
        ``"r"`` for correlations by default, else the analysis scale.
    interval : {"confidence", "bootstrap", "delta"}
        ``confidence``: from the confidence distribution of tau2 (the exact distribution of Q) and of the mean
        given tau2 (t with Hartung's variance), integrated and not drawn. ``bootstrap``: percentiles of
        parametric bootstrap replicates of mean and tau2, by the estimator of the fit. ``delta``: from the
        standard errors, made for the standardised distance to the threshold so that it stays within 0 and 1.
    iterations, seed : int
        Of the bootstrap.
    level : float, optional
        Confidence level, that of the fit by default.

    Returns
    -------
    TrueEffects

    Raises
    ------
    InputError
        Equal effects; a threshold outside -1 to 1 on the r scale; moderators without `newdata`.

    See Also
    --------
    prediction_intervals : Where the true effect of one new study is expected.

    Notes
    -----
    .. math:: P(\theta > c) = \Phi\{(\mu - c) / \tau\}

    Mathur & VanderWeele (2019, doi:10.1002/sim.8057), who give the delta method. The default interval applies
    the layers of Nagashima, Noma & Furukawa (2019, doi:10.1177/0962280218773520) to the share instead of to a
    new effect. In simulations with 5 to 40 studies it and the bootstrap keep close to their level; the delta
    method does not where heterogeneity is small, and has no value where tau2 is estimated as 0. True effects
    are assumed normal on the analysis scale.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.models import true_effects
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> true_effects(fit).tidy()[["threshold", "share", "ci_lb", "ci_ub"]].round(2).values.tolist()
    [[0.1, 0.71, 0.4, 0.94], [0.2, 0.28, 0.02, 0.57], [0.3, 0.04, 0.0, 0.25]]
    """
    check_option("interval", interval, ShareInterval)
    used = fit.level if level is None else level
    check_level(used)
    X, labels = _settings(fit, newdata)
    own = "z" if fit.effects.measure == "ZCOR" else "r" if fit.effects.measure in ("COR", "UCOR") else "analysis"
    shown = scale or ("r" if own == "z" else own)
    if shown not in {own, "r" if own == "z" else own}:
        raise InputError(f"scale={scale!r}: these effects are {fit.effects.measure!r}; leave scale out")
    transformed = own == "z" and shown == "r"
    cuts = _cuts(thresholds, shown, transformed=transformed)
    mu = X @ fit.beta
    shares = np.array([share_above(mu, np.full(len(mu), fit.tau2), cut) for cut in cuts]).T
    limits = _LIMITS[interval](fit, X, cuts, used, iterations, seed)
    rows = [
        (label, float(threshold), shares[i, j], *limits[i, j])
        for i, label in enumerate(labels)
        for j, threshold in enumerate(thresholds)
    ]
    table = pd.DataFrame(rows, columns=["label", "threshold", "share", "ci_lb", "ci_ub"])
    if limits.dtype == object:
        # Columns of floats would forget why a limit does not exist.
        table[["ci_lb", "ci_ub"]] = pd.DataFrame(limits.reshape(-1, 2), columns=["ci_lb", "ci_ub"], dtype=object)
    table.attrs.update(scale=shown, level=used, interval=_INTERVAL_LABELS[interval])
    return TrueEffects(tuple(labels), mu, fit.tau2, shown, transformed, table, _notes(fit, interval))


def prediction_intervals(
    fit: RandomEffectsResults, *, newdata: Newdata = None, scale: Scale | None = None, level: float | None = None
) -> pd.DataFrame:
    """Return prediction intervals for the true effect of a new study by every rule in use, side by side.

    Programs differ in the rule they use and papers seldom name it; with few studies the rules differ much.

    Parameters
    ----------
    fit : RandomEffectsResults
    newdata : DataFrame or mapping, optional
        Moderator values, a single row; required for a model with moderators.
    scale : {"z", "r"}, optional
        Analysis scale by default.
    level : float, optional

    Returns
    -------
    DataFrame
        ``pred se df pi_lb pi_ub``, one row per rule: ``normal``; ``t`` and ``knha`` with t(k - p), Wald
        and Knapp-Hartung standard errors; ``riley`` and ``knha-riley`` with t(k - p - 1) (Higgins, Thompson &
        Spiegelhalter 2009; Partlett & Riley 2017); ``nagashima``. `NotApplicable` where a rule has
        no value. Their words are in ``.attrs["words"]``.

    Raises
    ------
    InputError
        Equal effects, or moderators without `newdata`.

    Notes
    -----
    R: ``predict(fit, predtype = "Riley")`` for the Riley rules. Higgins et al.
    (doi:10.1111/j.1467-985X.2008.00552.x), Partlett & Riley (doi:10.1002/sim.7140), Nagashima, Noma & Furukawa
    (doi:10.1177/0962280218773520): their bootstrap in the limit of infinitely many draws, so without a seed; the
    R package pimeta draws. It does not use the estimate of tau2. With moderators it is their construction
    carried over to the residual Q and t(k - p), which their paper does not treat.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> from alliance_meta.models import prediction_intervals
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), test="z").fit()
    >>> prediction_intervals(fit, scale="r")[["pi_lb", "pi_ub"]].loc[["normal", "riley"]].astype(float).round(3)
            pi_lb  pi_ub
    normal -0.037  0.325
    riley  -0.055  0.340
    """
    used = fit.level if level is None else level
    check_level(used)
    X, _ = _settings(fit, newdata)
    if len(X) != 1:
        raise InputError(f"newdata has {len(X)} rows; give one setting at a time")
    pred, k, p = float(X[0] @ fit.beta), fit.k, fit.p
    hartung = None if fit.fitted.own_weights is not None else replace(fit.fitted, test="knha").coefficients.vb
    covariances = {"normal": fit.fitted.wald.vb, "t": fit.fitted.wald.vb, "riley": fit.fitted.wald.vb}
    degrees = {"normal": None, "t": k - p, "riley": k - p - 1, "knha": k - p, "knha-riley": k - p - 1}
    rows = {}
    for rule, df in degrees.items():
        vb = covariances.get(rule, hartung)
        if vb is None or (df is not None and df < 1):
            why = (
                "not defined with weights other than the model's" if vb is None else f"needs more than {p + 1} effects"
            )
            rows[rule] = (pred, *[NotApplicable(why)] * 4)
            continue
        se = float(np.sqrt(X[0] @ vb @ X[0]))
        half = critical_value(used, df) * float(np.sqrt(se**2 + max(fit.tau2, 0.0)))
        rows[rule] = (pred, se, np.inf if df is None else df, pred - half, pred + half)
    [distribution] = confidence_distributions(fit.effects.yi, fit.effects.vi, fit.design.X, X)
    bounds = nagashima(distribution, level=used)
    rows["nagashima"] = (pred, NotApplicable("differs with tau2"), distribution.df, *bounds)
    return _scaled(rows, fit, scale, used)


def _scaled(
    rows: dict[str, tuple[Any, ...]], fit: RandomEffectsResults, scale: Scale | None, level: float
) -> pd.DataFrame:
    out = pd.DataFrame.from_dict(rows, orient="index", columns=["pred", "se", "df", "pi_lb", "pi_ub"], dtype=object)
    frame = out[["pred", "pi_lb", "pi_ub"]].astype(float)
    frame["se"] = frame["ci_lb"] = frame["ci_ub"] = 0.0
    shown = to_scale(frame, measure=fit.effects.measure, scale=scale, tau2=fit.tau2)
    for name in ("pred", "pi_lb", "pi_ub"):
        defined = [not isinstance(value, NotApplicable) for value in out[name]]
        out.loc[defined, name] = shown.loc[defined, name]
    for name in ("scale", "scale_label"):
        out.attrs[name] = shown.attrs[name]
    out.attrs.update(level=level, se="on the analysis scale", words={rule: RULES[rule] for rule in out.index})
    return out


def _settings(fit: RandomEffectsResults, newdata: Newdata) -> tuple[Array, list[str]]:
    check_fit(fit, "the distribution of true effects")
    if fit.method == "EE":
        raise InputError("an equal-effects model has no distribution of true effects; fit with random effects")
    if newdata is not None:
        return fit.design.new_rows(newdata)
    if fit.design.formula != "1":
        raise InputError(f"the model has moderators ({fit.design.formula}): say for which setting, with newdata=")
    return np.ones((1, 1)), ["mean effect"]


def _cuts(thresholds: Sequence[float], shown: str, *, transformed: bool) -> list[float]:
    values = [float(t) for t in np.atleast_1d(np.asarray(thresholds, dtype=float))]
    if not values or not np.isfinite(values).all():
        raise InputError("thresholds must be finite numbers, at least one")
    if shown == "r" and max(map(abs, values)) >= 1:
        raise InputError(f"thresholds={values}: a correlation lies between -1 and 1")
    return [float(np.arctanh(value)) for value in values] if transformed else values


def _confidence_limits(
    fit: RandomEffectsResults, X: Array, cuts: list[float], level: float, iterations: int, seed: int
) -> Array:
    if fit.fitted.own_weights is not None or fit.settings.tau2 is not None:
        raise InputError("interval='confidence' is not defined with given weights or tau2; use interval='bootstrap'")
    distributions = confidence_distributions(fit.effects.yi, fit.effects.vi, fit.design.X, X)
    return np.array([[share_interval(one, cut, level=level) for cut in cuts] for one in distributions])


def _bootstrap_limits(
    fit: RandomEffectsResults, X: Array, cuts: list[float], level: float, iterations: int, seed: int
) -> Array:
    if fit.fitted.own_weights is not None:
        raise InputError("interval='bootstrap' is not defined with weights other than the model's")
    if iterations < 100:
        raise InputError(f"iterations={iterations}: an interval needs at least 100")
    rng = np.random.default_rng(seed)
    centre, v = fit.design.X @ fit.beta, fit.effects.vi
    y = centre + np.sqrt(v + fit.tau2) * rng.standard_normal((iterations, fit.k))
    batch = make_batch(y, np.broadcast_to(v, y.shape), fit.design.X)
    if fit.settings.tau2 is not None:
        found = fixed_tau2(fit.settings.tau2, B=iterations)
    else:
        found = estimate_tau2(batch, method=fit.method)
    mu = wls(batch, found.tau2).beta @ X.T
    tails = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
    tau2 = np.maximum(found.tau2, 0.0)
    return np.array([[np.quantile(share_above(mu[:, i], tau2, cut), tails) for cut in cuts] for i in range(len(X))])


def _delta_limits(
    fit: RandomEffectsResults, X: Array, cuts: list[float], level: float, iterations: int, seed: int
) -> Array:
    gone = NotApplicable("tau2 is 0: the share jumps from 0 to 1 and has no slope")
    if not fit.tau2 > 0:
        absent = np.empty((len(X), len(cuts), 2), dtype=object)
        absent.fill(gone)
        return absent
    variance = 0.0 if fit.settings.tau2 is not None else float(fit.se_tau2) ** 2
    out = np.empty((len(X), len(cuts), 2))
    for i, row in enumerate(X):
        for j, cut in enumerate(cuts):
            distance = (row @ fit.beta - cut) / fit.tau
            se = np.sqrt(row @ fit.vb @ row / fit.tau2 + variance * distance**2 / (4.0 * fit.tau2**2))
            half = critical_value(level, fit.fitted.coefficients.df) * se
            out[i, j] = special.ndtr([distance - half, distance + half])
    return out


_LIMITS = {"confidence": _confidence_limits, "bootstrap": _bootstrap_limits, "delta": _delta_limits}
_INTERVAL_LABELS = {
    "confidence": "confidence distribution of tau2 and the mean",
    "bootstrap": "parametric bootstrap",
    "delta": "delta method",
}


def _notes(fit: RandomEffectsResults, interval: str) -> tuple[Note, ...]:
    notes = []
    if not fit.tau2 > 0:
        message = "tau2 is estimated as 0: every share is 0 or 1; only its interval says how sure that is."
        notes.append(Note("share-tau2-zero", message))
    if fit.k < 10:
        notes.append(Note("share-few", f"k = {fit.k}: with fewer than 10 effects a share is hardly pinned down."))
    return tuple(notes)
