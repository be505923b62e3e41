"""The forest plots of a posterior and of an average of models: each study as found, and what all make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.averaged.results import Averaged
from alliance_meta.bayes.exact.correlation import BayesianCorrelationResults
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.sampled.quantities import FAILED
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_level, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.parts import (
    Columns,
    Order,
    chosen,
    described,
    effect_rows,
    fit_frame,
    fitted_levels,
    fitted_rows,
    sort_rows,
    summary_rows,
)
from alliance_meta.plots.sheet.measure import is_correlation
from alliance_meta.tables.format import (
    format_bayes_factor,
    format_estimate,
    format_interval,
    format_level,
    format_p,
)

Posterior = BayesianResults | BayesianMultilevelResults | BayesianCorrelationResults | SampledPosterior


def posterior_data(
    fit: Posterior,
    *,
    columns: Columns | None,
    order: Order,
    level: float | None,
    title: str | None,
    show_cautions: bool,
) -> pd.DataFrame:
    """Return the frame of `forest_data` for a posterior."""
    used = fit.level if level is None else level
    check_level(used)
    shown, _ = chosen(fit.effects, columns, ())
    positions, notes = sort_rows(fit, order)
    predicted = fit.predict(level=used)
    simple = list(predicted.index) == ["mean effect"]
    own = _own(fit, used)
    studies = effect_rows(fit, used, shown, {})
    if own is not None:
        for row, (median, lb, ub) in zip(studies, own, strict=True):
            row |= {"fit": median, "fit_lb": lb, "fit_ub": ub}
    plain = [studies[i] for i in positions]
    end = []
    if simple:
        ni = fit.effects.ni
        total = None if ni is None or len(set(fit.effects.study_id)) < fit.k else float(ni.sum())
        end = summary_rows(fit, used, total, f"Mean effect (posterior, {format_level(used)} credible)")
        body = [*plain, {"kind": "blank"}, *end]
    else:
        name, levels = fitted_levels(fit)
        body = plain if name is None else fitted_rows(fit, studies, positions, name, levels, level=used)
    return fit_frame(
        fit, body, level=used, title=title, show_cautions=show_cautions, columns=shown, rob={}, order=order,
        notes=merge_notes(fit.notes, notes, _unweighted(fit)), bottom=_bottom(fit, used, shrunken=own is not None),
        pooled=end[0]["yi"] if end else None, shrunken=own is not None,
        description=_description(fit, end, used, shrunken=own is not None),
    )  # fmt: skip


def averaged_data(
    fit: Averaged,
    *,
    columns: Columns | None,
    order: Order,
    level: float | None,
    title: str | None,
    show_cautions: bool,
) -> pd.DataFrame:
    """Return the frame of `forest_data` for an average of models: the mean if there is an effect, and over all."""
    used = fit.level if level is None else level
    check_level(used)
    if "mu" not in fit.parameters:
        raise InputError("no model of this average has an effect: there is no mean to draw")
    shown, _ = chosen(fit.effects, columns, ())
    positions, notes = sort_rows(fit, order)
    studies = effect_rows(fit, used, shown, {})
    ni = fit.effects.ni
    total = None if ni is None or len(set(fit.effects.study_id)) < fit.effects.k else float(ni.sum())
    mean, *new = summary_rows(fit, used, total, f"Averaged over all models ({format_level(used)} credible)")
    table = fit.tidy(level=used)
    present = float(table["p_incl"].loc["mu"])
    given = []
    if 0 < present < 1:
        row = fit.tidy(conditional=True, level=used).loc["mu", ["median", "ci_lb", "ci_ub"]]
        label = f"If there is an effect (P {_chance(present)})"
        given = [{"kind": "summary", "label": label, **parts.estimate(fit.effects.measure, *row)}]
    end = [*given, mean, *new]
    text = described(
        f"Forest plot of {fit.effects.k} effects with confidence intervals at {format_level(used)}, under them "
        f"{fit.called}.",
        fit.effects.provenance.synthetic,
    )
    said = [f"{row['label']}: {parts.effect_text(fit.effects.measure, row)}." for row in [*given, mean]]
    return fit_frame(
        fit, [*(studies[i] for i in positions), {"kind": "blank"}, *end], level=used, title=title,
        show_cautions=show_cautions, columns=shown, rob={}, order=order, notes=merge_notes(fit.notes, notes),
        bottom=_evidence(fit, table, used), pooled=mean["yi"], description=" ".join([text, *said]),
    )  # fmt: skip


def _evidence(fit: Averaged, table: pd.DataFrame, level: float) -> list[str]:
    """Return tau, and how probable each component is after the data."""
    tau = _spread(table, "tau") if "tau" in fit.parameters else "0 in every model"
    scale = parts.SCALES.get(fit.effects.measure, "scale of the effects")
    each = [
        f"{row['component']} {_chance(row['posterior']).removeprefix('= ')} (BF {format_bayes_factor(row['bf10'])})"
        for row in fit.inclusion.reset_index().to_dict("records")
    ]
    return [
        f"τ = {tau} ({scale}; averaged posterior median, {format_level(level)} credible, {KINDS[fit.interval]})",
        f"Posterior probability, and Bayes factor for it: {', '.join(each)}",
        "Squares: each study as published, of one size. Diamonds: posterior medians with credible intervals",
    ]


def _chance(value: float) -> str:
    """Return a probability with its sign, never certain by rounding."""
    return "> .999" if 0.9995 <= value < 1 else format_p(value, name="p").removeprefix("p ")


def _own(fit: Posterior, level: float) -> Array | None:
    """Return what all studies make of each one, median and interval (k, 3), where the posterior has it."""
    table = fit.tidy(level=level)
    names = [f"theta[{label}]" for label in fit.effects.slab]
    if not set(names) <= set(table.index):
        return None
    return table.loc[names, ["median", "ci_lb", "ci_ub"]].to_numpy(dtype=float)


def _bottom(fit: Posterior, level: float, *, shrunken: bool) -> list[str]:
    scale = parts.SCALES.get(fit.effects.measure, "scale of the effects")
    table = fit.tidy(level=level)
    spreads = [str(name) for name in table.index if name == "tau" or str(name).startswith("tau[")]
    words = [f"{name.replace('tau', 'τ', 1)} = {_spread(table, name)}" for name in spreads]
    interval = f"{format_level(level)} credible, {KINDS[fit.interval]}"
    lines = [f"Heterogeneity: {'; '.join(words)} ({scale}; posterior median, {interval})"] if words else []
    lines.append(f"Priors: {_priors(fit)}")
    if shrunken:
        lines.append(f"Squares: each study by itself. Circles: what all studies together make of it ({interval})")
    return [*refusal(fit), *lines]


def _priors(fit: Posterior) -> str:
    if isinstance(fit, SampledPosterior):
        return "; ".join(f"{name} ~ {prior}" for name, prior in fit.made.priors.items())
    if isinstance(fit, BayesianCorrelationResults):
        return f"mu ~ {fit.mu_prior}; tau ~ {fit.tau_prior}"
    return str(fit.priors)


def refusal(fit: Any) -> list[str]:
    """Say first what makes draws unusable."""
    if not isinstance(fit, SampledPosterior) or fit.converged:
        return []
    return [FAILED, *(problem.message for problem in fit.problems)]


def _spread(table: pd.DataFrame, name: str) -> str:
    median, lb, ub = (float(table[one].loc[name]) for one in ("median", "ci_lb", "ci_ub"))
    return format_estimate(median, lb, ub, leading_zero=True)


def _description(fit: Posterior, end: Sequence[dict[str, Any]], level: float, *, shrunken: bool) -> str:
    what = f"Forest plot of {fit.k} effects with confidence intervals at {format_level(level)}"
    what += ", and below each the posterior of its true effect." if shrunken else "."
    text = described(what, fit.effects.provenance.synthetic)
    if not end and not isinstance(fit, BayesianCorrelationResults):
        return f"{text} Bayesian model with the moderators {fit.design.formula}."
    measure, (mean, new) = fit.effects.measure, end
    zero = not is_correlation(measure)
    names = ("pi_lb", "pi_ub") if zero else ("r_pi_lb", "r_pi_ub")
    interval = format_interval(*(new[name] for name in names), leading_zero=zero)
    text += f" Mean effect {'' if zero else 'r '}= {parts.effect_text(measure, mean)}."
    return f"{text} True effect of a new study {interval}."


def _unweighted(fit: Posterior) -> list[Note]:
    if isinstance(fit, BayesianResults):
        return []
    return [Note("forest-weights", f"Squares are of one size: effects have no weights in {fit.called}.")]
