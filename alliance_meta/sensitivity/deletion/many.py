"""The numbers of one model fitted to many subsets of its effects, whatever the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import critical_values, statistic, two_sided_p
from alliance_meta.core.univariate.deletion import Subsets
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.deletion.rows import on_rows
from alliance_meta.sensitivity.refitting import natural_values

NEEDED = "a coefficient cannot be estimated from the effects that are left"
GONE = "no effect of this level is left"
ONE = "no effects to spare beyond the coefficients"
MODERATORS = "the model has moderators: each study has a prediction interval of its own"
OF_TERMS = ("beta", "se", "ddf", "pval", "ci_lb", "ci_ub")
OF_MODEL = ("tau2", "QE", "I2", "QM", "pi_lb", "pi_ub")
# Subsets that one process fits at a time.
CHUNK = 20


@dataclass(frozen=True, eq=False)
class Many:
    """J fits of one model; NaN where a number does not exist."""

    names: tuple[str, ...]  # coefficients
    k: AnyArray  # (J,): effects of each fit
    terms: Mapping[str, Array]  # (J, p) each: ``beta se ddf pval ci_lb ci_ub``
    # (J,) each: ``tau2 QE I2 QM pi_lb pi_ub``, and every variance and correlation by its name.
    model: Mapping[str, Array]
    vb: Array  # (J, p, p)
    theta: Array  # (J, n): variance parameters as the model searches for them
    s2w: Array  # (J,): what small-sample inference multiplied variances by
    # (J, p, p) or None: covariance of the coefficients of all effects at the variances of each fit.
    whole: Array | None = None
    why: dict[int, str] = field(default_factory=dict)  # why a fit does not exist
    lacks: dict[str, str] = field(default_factory=dict)  # why a number does not exist in any fit that has none

    @property
    def usable(self) -> Any:
        """Which fits exist, (J,)."""
        there = np.ones(len(self.k), dtype=bool)
        there[list(self.why)] = False
        return there

    def cells(self, name: str, values: Array, lacking: str | None = None) -> Any:
        """Return a column whose missing numbers say why they are, by default as the number of this name does."""
        if not np.isnan(values).any():
            return values
        reason = self.lacks.get(name, ONE) if lacking is None else lacking
        found = [
            NotApplicable(self.why.get(i, reason)) if value != value else value
            for i, value in enumerate(values.tolist())
        ]
        return pd.Series(found, dtype=object)


def fits_of(fit: Any, sets: Sequence[IntArray], *, cores: int = 1) -> Many:
    """Fit the model to each set of rows, one after the other or in so many processes."""
    spans = [sets[start : start + CHUNK] for start in range(0, len(sets), CHUNK)]
    rows = [row for chunk in _chunks(fit, spans, cores) for row in chunk]
    J, p = len(sets), fit.p
    n = max((len(row["theta"]) for row in rows if "theta" in row), default=0)
    names = list(dict.fromkeys([*OF_MODEL, *(name for row in rows for name in row.get("own", {}))]))
    terms = {name: np.full((J, p), np.nan) for name in OF_TERMS}
    model = {name: np.full(J, np.nan) for name in names}
    vb, theta = np.full((J, p, p), np.nan), np.full((J, n), np.nan)
    why: dict[int, str] = {}
    lacks = dict.fromkeys(names[len(OF_MODEL) :], GONE)
    for i, row in enumerate(rows):
        if "why" in row:
            why[i] = row["why"]
            continue
        for name in (*OF_TERMS, *OF_MODEL):
            (terms if name in terms else model)[name][i] = row[name]
            if isinstance(row[name], NotApplicable):
                lacks[name] = row[name].reason
        for name, value in row["own"].items():
            model[name][i] = value
        vb[i] = row["vb"]
        if len(row["theta"]) == n:
            theta[i] = row["theta"]
    sizes = np.array([len(one) for one in sets])
    return Many(fit.names, sizes, terms, model, vb, theta, np.ones(J), None, why, lacks)


def _chunks(fit: Any, spans: Sequence[Sequence[IntArray]], cores: int) -> Iterator[list[dict[str, Any]]]:
    if cores == 1 or len(spans) == 1:
        yield from (_rows(fit, span) for span in spans)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=cores)(delayed(_rows)(fit, span) for span in spans)


def _rows(fit: Any, sets: Sequence[IntArray]) -> list[dict[str, Any]]:
    found = []
    for rows in sets:
        try:
            found.append(_numbers(on_rows(fit, rows)))
        except InputError as error:
            text = str(error)
            found.append({"why": NEEDED if "do not tell every coefficient" in text else text})
    return found


def _numbers(fit: Any) -> dict[str, Any]:
    """Return the numbers of one fit."""
    model = fit.fit if isinstance(fit, RobustResults) else fit
    found: dict[str, Any] = {name: getattr(fit, name) for name in OF_TERMS}
    found |= {name: _one(getattr(fit, name)) for name in OF_MODEL[:-2]} | prediction(fit)
    multilevel = isinstance(model, MultilevelResults)
    found["own"] = natural_values(model.fitted, model.random) if multilevel else {}
    theta = variances_of(model)
    return found | {"vb": np.asarray(fit.vb, dtype=float), "theta": theta}


def prediction(fit: Any) -> dict[str, Any]:
    """Return the limits of the prediction interval of a model without moderators."""
    if fit.p > 1 or getattr(fit.design, "formula", "1") != "1":
        return dict.fromkeys(OF_MODEL[-2:], NotApplicable(MODERATORS))
    frame = fit.predict()
    if len(frame) > 1:
        return dict.fromkeys(OF_MODEL[-2:], NotApplicable("true effects vary by more in some studies than in others"))
    gone = NotApplicable(str(frame.attrs.get("pi_note", ONE)))
    return {name: float(x) if (x := frame[name].iloc[0]) == x else gone for name in OF_MODEL[-2:]}


def variances_of(model: Any) -> Array:
    """Return the variance parameters of a fit, as the model has them: NaN where it has none."""
    if isinstance(model, MultilevelResults):
        return model.fitted.theta
    if isinstance(model, LocationScaleResults):
        return model.alpha
    if isinstance(model, BayesianMultilevelResults):
        return model.sigma2
    within = np.nan_to_num(model.fitted.working.omega2) if isinstance(model, RVEResults) else 0.0
    return np.array([float(model.tau2), float(within)])


def _one(value: Any) -> float:
    """Return a number of a fit; where each effect has its own, the one that all share."""
    if np.ndim(value) == 0:
        return value if isinstance(value, NotApplicable) else float(value)
    values = np.asarray(value, dtype=float)
    return float(values[0]) if np.ptp(values) == 0 else NotApplicable("it differs between effects")


def of_subsets(fit: RandomEffectsResults, found: Subsets) -> Many:
    """Return the numbers of univariate fits to subsets."""
    settings, level = fit.settings, fit.level
    J, p = found.beta.shape
    spare = found.df > 0
    ddf = np.where(spare, found.df, np.inf) if settings.test != "z" else np.full(J, np.inf)
    terms = tested(found.beta, found.vb, np.repeat(ddf[:, None], p, axis=1), level)
    why = dict.fromkeys(np.flatnonzero(~found.usable).tolist(), NEEDED)
    with np.errstate(divide="ignore", invalid="ignore"):
        from_q = np.where(found.QE > 0, 100.0 * np.maximum(0.0, (found.QE - found.df) / found.QE), 0.0)
        I2 = np.where(spare, from_q if fit.method == "EE" else 100.0 * found.tau2 / (found.tau2 + found.vt), np.nan)
    new = np.full(J, np.nan) if fit.method == "EE" else np.where(spare, found.tau2, np.nan)
    limits, lacks = interval_of_new(fit, terms, new)
    QM = omnibus(found.beta, found.vb, fit.design.tested, f=ddf)
    model = {"tau2": found.tau2, "QE": found.QE, "I2": I2, "QM": QM, **limits}
    k = np.nan_to_num(found.df + p).astype(int)
    return Many(fit.names, k, terms, model, found.vb, found.tau2[:, None], found.s2w, None, why, lacks)


def tested(beta: Array, vb: Array, ddf: Array, level: float) -> dict[str, Array]:
    """Return coefficients with their errors, tests and intervals."""
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.einsum("jpp->jp", vb))
    half = critical_values(level, ddf) * se
    pval = np.where(np.isfinite(se), two_sided_p(statistic(beta, se), ddf), np.nan)
    return {"beta": beta, "se": se, "ddf": ddf, "pval": pval, "ci_lb": beta - half, "ci_ub": beta + half}


def interval_of_new(fit: Any, terms: Mapping[str, Array], new: Array) -> tuple[dict[str, Array], dict[str, str]]:
    """Return prediction limits of fits with these variances of a new true effect (J,), and why they are lacking."""
    why = "an equal-effects model has no prediction interval" if fit.method == "EE" else ONE
    with np.errstate(invalid="ignore"):
        # A tau2 that may be negative can leave no variance of a new effect.
        half = critical_values(fit.level, terms["ddf"][:, 0]) * np.sqrt(terms["se"][:, 0] ** 2 + new)
    if fit.p > 1 or fit.design.formula != "1":
        half, why = half * np.nan, MODERATORS
    beta = terms["beta"][:, 0]
    return {"pi_lb": beta - half, "pi_ub": beta + half}, dict.fromkeys(("pi_lb", "pi_ub"), why)


def omnibus(beta: Array, vb: Array, which: Sequence[int], *, f: Array) -> Array:
    """Return QM of each fit: chi-squared, or F where `f` (J,) has finite degrees of freedom."""
    at = list(which)
    out = np.full(len(beta), np.nan)
    part = vb[:, at][:, :, at]
    with np.errstate(invalid="ignore"):
        good = np.isfinite(part).all(axis=(1, 2)) & (np.einsum("jpp->jp", part) > 0).all(axis=1)
    b = beta[good][:, at]
    out[good] = (b * np.linalg.solve(part[good], b[:, :, None])[:, :, 0]).sum(axis=1)
    return np.where(np.isfinite(f), out / len(at), out)
