"""Predictions of a Bayesian result on a scale that is named; the result in words, as JSON-ready values, as R code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import interpolate, special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.bayes.hypotheses import shown
from alliance_meta.bayes.marginals import COLUMNS as MOMENTS
from alliance_meta.bayes.marginals import (
    INFINITE,
    KINDS,
    TANH,
    IntervalKind,
    Marginal,
    MixtureMarginal,
    TransformedMarginal,
)
from alliance_meta.bayes.priors.prior import Normal, Prior
from alliance_meta.core.bayes.quadrature import LIGHTEST, shortest_interval
from alliance_meta.design import INTERCEPT
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.notes import NotApplicable, Scale
from alliance_meta.results import wording
from alliance_meta.results.fit import COLUMNS, columns_of, rows_to_predict
from alliance_meta.results.r_code import comment, covariance, data, formula, path, quoted
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, format_level, probability

# The mean of tanh over a normal distribution by the trapezoid rule, to rounding for tau up to about 1.
_U = np.arange(-8.5, 8.51, 0.25)
_PU = 0.25 * np.exp(-0.5 * _U**2) / np.sqrt(2.0 * np.pi)
# Up to this tau the mu that goes with a mean correlation is worked out at a few values of it.
TABLED, NODES = 2.0, 32
ONE = 1.0 - 1e-16
TINY = 1e-300
# Points of the curve from which the shortest interval is read, and what lies beyond its ends.
CURVE, FAR_OUT = 129, 1e-7


def predict(
    fit: Quantities,
    newdata: pd.DataFrame | Mapping[str, Any] | None,
    *,
    scale: Scale | None,
    level: float,
    kind: IntervalKind,
) -> pd.DataFrame:
    """Return ``pred se ci_lb ci_ub pi_lb pi_ub``, one row per prediction."""
    X, labels = rows_to_predict(fit, newdata)
    return predict_rows(fit, X, scale=scale, level=level, kind=kind).set_axis(pd.Index(labels), axis=0)


def predict_rows(fit: Quantities, X: Array, *, scale: Scale | None, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return the same for rows of the design, or for averages of rows, (m, p)."""
    shown = fit._shown(scale, level, kind)
    wanted = shown["scale"]
    if kind == "eti" and wanted != "r_mean":
        frame = _quantiles(fit, X, tanh=wanted != fit._scale, level=level)
    else:
        frame = _one_by_one(fit, X, wanted, level, kind)
    frame.attrs.update(shown)
    return frame


def _quantiles(fit: Quantities, X: Array, *, tanh: bool, level: float) -> pd.DataFrame:
    """Return all rows at once: quantiles go with the scale."""
    mixture, new = fit._coefficients(X), fit._new_effects(X)
    lower, upper = 0.5 * (1.0 - level), 0.5 * (1.0 + level)
    ci, pi = mixture.quantile(np.array([lower, 0.5, upper])), new.quantile(np.array([lower, upper]))
    if tanh:
        ci, pi = np.tanh(ci), np.tanh(pi)
        rows = [MixtureMarginal("", mixture.row(i)) for i in range(mixture.m)]
        se = np.array([TransformedMarginal("", row, TANH).sd for row in rows])
    else:
        se = mixture.moments()[1] if fit.exact.finite(2, of="coefficients") else np.full(len(X), np.nan)
    return pd.DataFrame(dict(zip(COLUMNS, (ci[:, 1], se, ci[:, 0], ci[:, 2], pi[:, 0], pi[:, 1]), strict=True)))


def _one_by_one(fit: Quantities, X: Array, wanted: str, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return shortest intervals, or those of the mean true correlation."""
    mixture, new = fit._coefficients(X), fit._new_effects(X)
    of = fit.exact.finite(2, of="coefficients")
    rows = []
    for i in range(len(X)):
        mean: Marginal = MixtureMarginal("", mixture.row(i), of, of)
        future: Marginal = MixtureMarginal("", new.row(i))
        if wanted != fit._scale:
            future = TransformedMarginal("", future, TANH)
            mean = TransformedMarginal("", mean, TANH) if wanted == "r" else _mean_correlation(fit, X[i])
        ci, pi = mean.interval(level=level, kind=kind), future.interval(level=level, kind=kind)
        rows.append((ci.estimate, mean.sd, ci.lb, ci.ub, pi.lb, pi.ub))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _mean_correlation(fit: Quantities, row: Array) -> MeanCorrelation:
    exact = fit._thinned
    c = row @ coordinates(fit.design)
    sd = np.sqrt(((exact.root @ c) ** 2).sum(axis=1))
    kept = exact.weight > 1e2 * LIGHTEST * exact.weight.max()
    return MeanCorrelation(exact.weight[kept], (exact.mean @ c)[kept], sd[kept], exact.tau[kept])


def _mean_of_tanh(mu: Array, tau: Array) -> tuple[Array, Array]:
    r = np.tanh(mu[..., None] + tau[:, None] * _U)
    return r @ _PU, (1.0 - r**2) @ _PU


def _inverse(x: Array, tau: Array) -> Array:
    """Return the mu that has each mean correlation, (q, B) for x (q,) and tau (B,), by Newton's steps in Fisher's z."""
    goal = np.arctanh(x)[:, None]
    mu = goal * (1.0 + tau**2)
    for _ in range(50):
        r, slope = _mean_of_tanh(mu, tau)
        step = (np.arctanh(np.clip(r, -ONE, ONE)) - goal) * (1.0 - r**2) / np.maximum(slope, TINY)
        mu = mu - np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    return mu


@dataclass(frozen=True, eq=False)
class MeanCorrelation(Marginal):
    """The mean true correlation: tanh averaged over N(mu, tau^2), with mu normal given tau."""

    weight: Array
    centre: Array
    spread: Array
    tau: Array
    name: str = "mean true correlation"

    def _mean_of_tanh(self, mu: Array) -> tuple[Array, Array]:
        """Return the mean of tanh and its slope in mu, for mu (..., B)."""
        return _mean_of_tanh(mu, self.tau)

    def _inverse(self, x: Array) -> Array:
        """Return the mu that has each mean correlation, (q, B) for x (q,)."""
        table = self._table
        if table is None:
            return _inverse(x, self.tau)
        nodes, weights, far = table
        mu = _inverse(x, nodes) @ weights
        if far.any():
            mu[:, far] = _inverse(x, self.tau[far])
        return mu

    @cached_property
    def _table(self) -> tuple[Array, Array, Mask] | None:
        """Values of tau between which mu is a polynomial, as far as digits go, and what each counts for every tau."""
        if len(self.tau) <= 2 * NODES:
            return None
        far = self.tau > TABLED
        low, high = float(self.tau.min()), min(float(self.tau.max()), TABLED)
        if not high > low:
            return None
        angle = np.pi * (np.arange(NODES) + 0.5) / NODES
        nodes = low + 0.5 * (high - low) * (1.0 + np.cos(angle))
        near = np.clip((2.0 * self.tau - low - high) / (high - low), -1.0, 1.0)
        # Of Chebyshev's polynomials through these points.
        order = np.arange(NODES)[:, None]
        share = np.where(order == 0, 1.0, 2.0) / NODES
        weights = np.cos(order * angle).T @ (share * np.cos(order * np.arccos(near)))
        return nodes, weights, far

    @cached_property
    def _values(self) -> Array:
        """Its values at every other point of the trapezoid rule, for each component."""
        return self._mean_of_tanh(self.centre + self.spread * _U[::2, None])[0]

    def _shortest(self, level: float) -> tuple[float, float]:
        """Return the shortest interval by a smooth curve through the distribution function, which is laborious."""
        low, high = np.arctanh(self._quantile(np.array([FAR_OUT, 1.0 - FAR_OUT])))
        x = np.tanh(np.linspace(float(low), float(high), CURVE))
        # As a normal deviate it is nearly a straight line.
        deviate = np.where(x < np.median(x), special.ndtri(self._cdf(x)), -special.ndtri(self._sf(x)))
        curve = interpolate.make_interp_spline(x, deviate, k=5)
        back = interpolate.make_interp_spline(deviate, x, k=5)

        def density(x: Array) -> Array:
            """Return the density, up to a factor."""
            return np.exp(-0.5 * curve(x) ** 2) * curve(x, nu=1)

        return shortest_interval(lambda p: back(special.ndtri(p)), density, level=level)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the mean true correlation."""
        return float(2.0 * _PU[::2] @ function(self._values) @ self.weight)

    def _cdf(self, x: Array) -> Array:
        return self._tail(x, 1.0)

    def _sf(self, x: Array) -> Array:
        return self._tail(x, -1.0)

    def _tail(self, x: Array, sign: float) -> Array:
        inside = np.abs(x) < 1
        below = self._below(self._inverse(np.where(inside, x, 0.0)), sign)
        return np.where(inside, below, sign * x > 0)

    def _pdf(self, x: Array) -> Array:
        inside = np.abs(x) < 1
        return np.where(inside, self._density(self._inverse(np.where(inside, x, 0.0))), 0.0)

    def _quantile(self, p: Array) -> Array:
        """Return the quantiles; each lies between those of the components."""
        ends = self._mean_of_tanh(self.centre + self.spread * special.ndtri(p)[:, None])[0]
        low, high = ends.min(axis=1), ends.max(axis=1)
        x = ends[:, int(np.searchsorted(np.cumsum(self.weight), 0.5))]
        for _ in range(100):
            mu = self._inverse(x)
            excess = np.where(p <= 0.5, self._below(mu, 1.0) - p, 1.0 - p - self._below(mu, -1.0))
            low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
            new = x - excess / np.maximum(self._density(mu), TINY)
            new = np.where((new >= low) & (new <= high), new, 0.5 * (low + high))
            moved, x = np.abs(new - x), new
            if not (moved > 1e-9).any():
                break
        return x

    def _below(self, mu: Array, sign: float) -> Array:
        return special.ndtr(sign * (mu - self.centre) / self.spread) @ self.weight

    def _density(self, mu: Array) -> Array:
        z = (mu - self.centre) / self.spread
        slope = np.maximum(self._mean_of_tanh(mu)[1], TINY)
        return (np.exp(-0.5 * z**2) / (np.sqrt(2.0 * np.pi) * self.spread * slope)) @ self.weight


def statistics(fit: Quantities) -> dict[str, Any]:
    """Return the model's statistics by name."""
    nesting = fit._nesting
    found: dict[str, Any] = {"k": fit.k, **fit.effects.counts, **nesting["statistics"], "p": fit.p}
    found |= {"level": fit.level, "interval": fit.interval}
    for name in fit.priors.tau_names:
        tau = fit.posterior(name).interval(level=fit.level, kind=fit.interval)
        found |= {name: tau.estimate, f"{name}_ci_lb": tau.lb, f"{name}_ci_ub": tau.ub}
    found |= {name: getattr(fit, name) for name in fit._known if fit._is_spread(name) and name not in found}
    found |= {f"bf01_{name}": shown(fit, f"{name} = 0").bf01 for name in fit.priors.tau_names}
    if fit.design.has_intercept:
        found["bf01_mu"] = shown(fit, "mu = 0").bf01
    return found | {"log_marginal_likelihood": fit.log_marginal_likelihood, "error_bound": fit.error_bound}


def to_dict(fit: Quantities) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    table, effects, nesting = fit.tidy(), fit.effects, fit._nesting
    priors = {name: prior.to_dict() for name, prior in fit.priors.named.items()}
    over = "both standard deviations" if fit._nested else "tau"
    return {
        "model": {
            "formula": fit.design.formula,
            **nesting["model"],
            "priors": priors,
            "method": f"exact, by quadrature over {over}",
        },
        "statistics": statistics(fit),
        "posterior": {"parameter": list(table.index), **columns_of(table)},
        "vb": _square(fit.vb),
        "bayes_factors": [one.to_dict() for one in fit._bayes_factors.values()],
        "studies": {
            "slab": list(effects.slab),
            **nesting["studies"],
            "yi": effects.yi,
            "vi": effects.vi,
        },
        "provenance": effects.provenance.to_dict(),
    }


def _square(vb: Array) -> Any:
    return vb if np.isfinite(vb).all() else NotApplicable(INFINITE)


CENTRED = "the mean effect at the average of the moderators"


def document(fit: Quantities) -> Document:
    """Return what the fit says."""
    title, *more = fit._model_words
    return wording.document(
        fit,
        title,
        about(fit, str(fit.priors), *more),
        posterior_table(fit, fit.tidy().iloc[: -fit.k]),
        wording.as_r(fit, new="a new group" if fit._nested else "a new study"),
        _evidence(fit),
    )


def intervals_line(fit: Any) -> str:
    """Return what intervals are."""
    return f"Intervals: {KINDS[fit.interval]}, {format_level(fit.level)} of the posterior"


def about(fit: Any, priors: str, *more: str) -> list[str]:
    """Return what a heading says below its first line."""
    centred = fit.p > 1 and fit.design.has_intercept
    return [
        fit.effects.heading,
        *more,
        *wording.moderated(fit),
        f"Priors: {priors}",
        *([f"mu: {CENTRED}"] if centred else []),
        intervals_line(fit),
    ]


def posterior_table(fit: Any, frame: pd.DataFrame, scale: str | None = None, **more: Kind) -> Table:
    """Return rows of `tidy`, with more columns where there are some."""
    caption = (
        f"Posterior ({fit.effects.scale_label if scale is None else scale}, {format_level(fit.level)} "
        f"{KINDS[fit.interval]} intervals)"
    )
    return table_of(frame, {**dict.fromkeys(MOMENTS, 4), **more}, caption)


def _evidence(fit: Quantities) -> list[str]:
    lines = probabilities(fit) if fit.design.has_intercept else []
    for one in fit._bayes_factors.values():
        lines.append(str(one) if one.bf01 == one.bf01 else f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}")
    likelihood = fit.log_marginal_likelihood
    shown = f"not defined, {_reason(likelihood)}" if likelihood != likelihood else fixed(likelihood)
    return [*lines, f"Log marginal likelihood: {shown}"]


def probabilities(fit: Any) -> list[str]:
    """Return how probable it is that the mean effect, and one of a new study, is positive."""
    return ["   ".join(f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0"))]


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def interval_words(fit: Any) -> str:
    """Return the sentence of a methods section on estimates and intervals."""
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    return f"Posterior medians are reported with {kind} {format_level(fit.level)} credible intervals."


def prior_words(fit: Any, priors: Mapping[str, Prior]) -> str:
    """Return the priors in a sentence: of the mean effect, of the coefficients, of tau."""
    centred = fit.p > 1 and fit.design.has_intercept
    names = {
        "mu": CENTRED if centred else "the mean effect",
        "tau": "the standard deviation of true effects between studies, tau",
    }
    return "; ".join(f"{names.get(name, name)}: {prior}" for name, prior in priors.items())


def methods(fit: Quantities) -> str:
    """Return the sentences for a methods section."""
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    what, how = fit._method_words
    return (
        f"{wording.scale_sentence(fit)}{what}. Priors were {prior_words(fit, fit.priors.named)}. {how}, with a "
        "numerical error "
        f"{bound(fit.error_bound)}. {interval_words(fit)}{factors}"
    )


def bound(error: float) -> str:
    """Return the bound in words that do not change with the last digits of rounding."""
    return "below 1e-10" if error < 1e-10 else f"of at most {brief(error, 1)}"


def r_code(fit: Quantities) -> str:
    """Return the R code (bayesmeta) that fits the same model."""
    lines = ["library(bayesmeta)", "library(metafor)", *data(fit)]
    coefficients = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    heavy = [f"{name} ~ {prior}" for name, prior in coefficients if prior.student]
    if heavy:
        lines.append(
            comment(f"bayesmeta has normal and flat priors of effects only; a flat one stands for {', '.join(heavy)}")
        )
    interval = "central" if fit.interval == "eti" else "shortest"
    tau = f'tau.prior={fit.priors.taus[0].spelled("bayesmeta")}, interval.type="{interval}"'
    if fit.design.formula == "1":
        mean, sd = _r_normal(fit, 0)
        prior = "" if sd == "NA" else f"mu.prior=c({mean}, {sd}), "
        lines.append(f"fit <- bayesmeta(y=dat$yi, sigma=sqrt(dat$vi), {prior}{tau})")
        return "\n".join(lines)
    lines.append(f"X <- model.matrix(~ {formula(fit.design.formula)}, data=dat)")
    if fit.design.has_intercept:
        lines.append("X[, -1] <- scale(X[, -1], scale=FALSE)  # the intercept is then the effect at the average")
    pairs = [_r_normal(fit, j) for j in range(fit.p)]
    means, sds = ", ".join(mean for mean, _ in pairs), ", ".join(sd for _, sd in pairs)
    beta = f"beta.prior.mean=c({means}), beta.prior.sd=c({sds})"
    lines.append(f"fit <- bmr(y=dat$yi, sigma=sqrt(dat$vi), X=X, {beta}, {tau})")
    return "\n".join(lines)


def _r_normal(fit: Quantities, j: int) -> tuple[str, str]:
    prior = fit.priors.coefficients[j]
    return (f"{prior.mean:.15g}", f"{prior.sd:.15g}") if isinstance(prior, Normal) else ("NA", "NA")


def brms_code(fit: Any) -> str:
    """Return the R code (brms) that samples from the same posterior."""
    outer, inner = fit.priors.terms
    obs = () if fit.V is None else (fit.V.cluster or "", str(fit.V.settings.get("subgroup", "")), ROWS)
    uses = [part for term in (outer, inner, *obs) for part in term.split("/") if part]
    lines = [
        "library(brms)  # samples what is integrated here: expect the same to two or three digits",
        "library(metafor)",
        *data(fit, uses=uses),
    ]
    nested = inner.startswith(f"{outer}/")
    random = f"(1 | {path(inner)})" if nested else f"(1 | {path(outer)}) + (1 | {path(inner)})"
    if fit.V is None:
        response, known, data2 = "yi | se(sqrt(vi))", "", ""
    else:
        lines.append(f"V <- {covariance(fit.V)}  {comment(fit.V.assumption)}")
        response, known, data2 = "yi", " + fcor(V)", ", data2=list(V=V)"
    # Variances that are known leave nothing for sigma to do.
    priors = [] if fit.V is None else ['prior(constant(1), class="sigma")']
    priors += _brms_coefficients(fit)
    groups = (outer.replace("/", ":"), inner.replace("/", ":"))
    for group, tau in zip(groups, fit.priors.taus, strict=True):
        priors.append(f'prior({tau.spelled("brms")}, class="sd", group="{group}")')
    if not all(name.isidentifier() for name in fit.design.names):
        lines.append("# brms names the coefficients of factors its own way: default_prior() lists them")
    separator = ",\n            "
    lines.append(f"priors <- c({separator.join(priors)})")
    lines.append(f"fit <- brm({response} ~ {formula(fit.design.formula)} + {random}{known}, data=dat{data2},")
    lines.append("           prior=priors, seed=1,")
    lines.append("           chains=4, iter=4000, control=list(adapt_delta=0.99))")
    return "\n".join(lines)


def _brms_coefficients(fit: Any) -> list[str]:
    """Return the priors of the coefficients; brms too centres moderators for the prior of its intercept."""
    found = []
    for name, prior in zip(fit.design.names, fit.priors.coefficients, strict=True):
        where = 'class="Intercept"' if name == INTERCEPT else f'class="b", coef={quoted(name)}'
        found.append(f"set_prior({prior.spelled('brms')}, {where})")
    return found
