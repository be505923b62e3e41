"""Run the analyses a report declares, and read from each fit every number a report shows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.reporting.declaration import Analysis
from alliance_meta.reporting.numbers import Quantity, quantity

if TYPE_CHECKING:
    from alliance_meta.effects.coded import CodedTable
    from alliance_meta.effects.table import EffectSizes
    from alliance_meta.results.random_effects import RandomEffectsResults

INFERENCE = {"knha": "Hartung-Knapp, t", "adhoc": "Hartung-Knapp, factor at least 1, t", "z": "Wald, normal", "t": "t"}
WITH_MODERATORS = NotApplicable("depends on the moderators; see the coefficients")
ON_RAW_SCALE = NotApplicable("the model was fitted to r itself")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A declared analysis with its data and its fit; `effects` are those that took part."""

    spec: Analysis
    whole: CodedTable
    table: CodedTable
    effects: EffectSizes
    fit: RandomEffectsResults
    wald: RandomEffectsResults

    @property
    def heading(self) -> str:
        """What a column of a table calls this analysis."""
        return self.spec.short or self.spec.label


def run_analysis(spec: Analysis, *, folder: Path) -> Fitted:
    """Load, code and fit one analysis; warnings are silenced here because the report prints their notes.

    Raises
    ------
    InputError
        Whatever the data or the model object to, with the analysis named in front.
    """
    from alliance_meta.effects.escalc import escalc
    from alliance_meta.models.random_effects import RandomEffectsModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllianceMetaWarning)
            whole = load(spec.data, folder=folder)
            _check_poolable(spec, whole)
            table = whole.query(spec.subset) if spec.subset else whole
            effects = escalc(table, measure=spec.measure, ri=spec.ri, ni=spec.ni, vtype=spec.vtype)
            options: dict[str, Any] = {"mods": spec.mods or "1", "method": spec.method, "level": spec.level}
            fit = RandomEffectsModel(effects, test=spec.test, **options).fit()
            wald = fit if spec.test == "z" else RandomEffectsModel(effects, test="z", **options).fit()
    except InputError as error:
        raise InputError(f"[[analysis]] ({spec.id}): {error}") from error
    return Fitted(spec, whole, table, fit.effects, fit, wald)


def _check_poolable(spec: Analysis, table: CodedTable) -> None:
    """Refuse to pool what its data card says must not be pooled."""
    card = table.card
    if card is not None and not card.poolable:
        raise InputError(f"{card.name} must not be pooled: {' '.join(card.cautions)}")
    if card is not None and card.subset and spec.subset is None:
        raise InputError(f"only a part of {card.name} may be pooled; add subset = {card.subset!r}")


def load(data: str, *, folder: Path) -> CodedTable:
    """Return a shipped data set, or the file of that name in `folder`."""
    from alliance_meta.effects.datasets import list_datasets, load_dataset

    if data in set(list_datasets()["name"]):
        return load_dataset(data)
    from alliance_meta.effects.ingest import read_coded

    return read_coded(folder / data)


def statistics(fitted: Fitted) -> dict[str, Quantity]:
    """Return the standard block of numbers of one fit, by the name placeholders use, in reading order."""
    spec, fit = fitted.spec, fitted.fit
    level = f"{100 * spec.level:g}%"
    scale = "z" if spec.measure == "ZCOR" else "r3"
    out: dict[str, Quantity] = {}

    def put(key: str, value: Any, kind: str, label: str) -> None:
        out[key] = quantity(value, kind, label)

    put("k", fit.k, "count", "Effects (k)")
    put("studies", len(set(fitted.effects.study_id)), "count", "Studies")
    put("n_total", _total(fitted.effects), "count", "Participants (N)")
    put("measure", fitted.effects.scale_label, "text", "Effect size")
    put("method", fit.method, "text", "τ² estimator")
    put("test", INFERENCE[fit.inference], "text", "Inference")
    put("level", spec.level, "level", "Confidence level")
    _put_effect(put, fitted, scale, level)
    interval = fit.confint_tau2(kind="QP")
    put("tau2", fit.tau2, "variance", "τ²")
    put("tau2_ci", [interval.lb, interval.ub], "variance_interval", f"τ², {level} Q-profile interval")
    put("tau", fit.tau, "sd", "τ")
    put("tau_ci", [_root(interval.lb), _root(interval.ub)], "sd_interval", f"τ, {level} Q-profile interval")
    put("I2", fit.I2, "percent", "I², from τ²")
    put("I2_Q", fit.I2_Q, "percent", "I², from Q")
    put("H2", fit.H2, "stat", "H²")
    put("Q", fit.QE, "stat", "Q")
    put("Q_df", fit.QEdf, "df", "Q, df")
    put("Q_p", fit.QEp, "p", "Q, p")
    if fit.p > 1:
        put("R2", fit.R2, "percent", "R²")
        put("QM", fit.QM, "stat", "Test of moderators")
        put("QM_p", fit.QMp, "p", "Test of moderators, p")
    return out


def _put_effect(put: Any, fitted: Fitted, scale: str, level: str) -> None:
    """Add the pooled effect on every scale, with its intervals."""
    fit, raw = fitted.fit, fitted.spec.measure != "ZCOR"
    simple = fit.p == 1

    def first(values: Any) -> Any:
        return values[0] if simple else WITH_MODERATORS

    put("estimate", first(fit.beta), scale, "Pooled effect, model's scale")
    put("se", first(fit.se), scale, "Standard error, model's scale")
    put("ci", [first(fit.ci_lb), first(fit.ci_ub)], f"{scale}_interval", f"{level} CI, model's scale")
    put("stat", first(fit.stat), "stat", "Test statistic (t, or z where df is ∞)")
    put("ddf", first(fit.ddf), "df", "Degrees of freedom (df)")
    put("p", first(fit.pval), "p", "p")
    median = _prediction(fitted.fit, "r") if simple else {}
    mean = _prediction(fitted.fit, "r_mean") if simple and not raw else {}
    wald = _prediction(fitted.wald, "r") if simple else {}
    why = WITH_MODERATORS if not simple else ON_RAW_SCALE
    put("r", median.get("pred", why), "r", "r (from Fisher z: tanh(μ), the median)")
    put("r_ci", _pair(median, "ci", why), "r_interval", f"{level} CI of r")
    put("r_ci_wald", _pair(wald, "ci", why), "r_interval", f"{level} CI of r, normal (Wald)")
    put("r_mean", mean.get("pred", why), "r", "Mean of the true correlations, r")
    put("r_mean_ci", _pair(mean, "ci", why), "r_interval", f"{level} CI of the mean r")
    put("pi", _pair(median, "pi", why), "r_interval", f"{level} prediction interval, r")


def _prediction(fit: RandomEffectsResults, scale: Any) -> Mapping[str, Any]:
    frame = fit.predict(scale=scale)
    row = {str(key): value for key, value in frame.iloc[0].items()}
    why = frame.attrs.get("pi_note")
    if why:
        row |= {name: NotApplicable(why) for name in ("pi_lb", "pi_ub")}
    return row


def _pair(prediction: Mapping[str, Any], what: str, why: NotApplicable) -> Any:
    if not prediction:
        return why
    return [prediction[f"{what}_lb"], prediction[f"{what}_ub"]]


def _root(value: float) -> float:
    return value if math.isnan(value) else math.sqrt(value)


def _total(effects: EffectSizes) -> Any:
    return NotApplicable("no sample sizes") if effects.ni is None else int(effects.ni.sum())
