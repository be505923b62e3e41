"""What a forest shows on top of a model: other summaries of the same effects, and each study as all of them see it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from alliance_meta.bias.given import Adjusted
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.plots.forests import parts
from alliance_meta.results.fit import Fit
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.format import format_level

Summaries = Sequence[Any] | Mapping[str, Any]
NOT_ESTIMABLE = "not estimable"


def with_further(frame: pd.DataFrame, fit: Any, summaries: Summaries, *, shrunken: bool) -> pd.DataFrame:
    """Return the frame of a fit with shrunken estimates and with the rows of further summaries at its end.

    Raises
    ------
    InputError
        What is no summary of one mean, is of effects of another kind, or a model without shrunken estimates.
    """
    rows, meta = parts.records(frame), {str(name): value for name, value in frame.attrs.items()}
    if shrunken and not meta["shrunken"]:
        _shrink(rows, fit, meta)
    named = summaries.items() if isinstance(summaries, Mapping) else [(None, one) for one in summaries]
    made = [_row(name, one, fit, meta) for name, one in named]
    words = [f"{row['label']}: {row['text'] or parts.effect_text(meta['measure'], row)}." for row in made]
    meta["description"] = " ".join([meta["description"], *words])
    return parts.make_frame([*rows, *made], meta)


def _shrink(rows: list[dict[str, Any]], fit: Any, meta: dict[str, Any]) -> None:
    if not isinstance(fit, RandomEffectsResults):
        raise InputError(
            "shrunken: this model draws what it makes of each study by itself; leave shrunken=True to models in which "
            "each row is a study"
        )
    own = fit.blup(level=meta["level"])[["pred", "pi_lb", "pi_ub"]].to_numpy(dtype=float)
    for row in rows:
        if math.isfinite(row["position"]):
            row |= dict(zip(("fit", "fit_lb", "fit_ub"), own[int(row["position"])].tolist(), strict=True))
    meta["shrunken"] = True
    meta["bottom"] = [line for line in meta["bottom"] if not line.startswith("Grey diamonds: fitted")]
    interval = format_level(meta["level"])
    text = f"Squares: each study by itself. Circles: what all studies together make of it (BLUP, {interval} interval)"
    meta["bottom"].append(text)


def _row(name: str | None, one: Any, fit: Any, meta: dict[str, Any]) -> dict[str, Any]:
    """Return the row of another summary: the same numbers as its own table has."""
    level = float(meta["level"])
    if isinstance(one, Adjusted):
        measure, k, called = one.measure, one.k, one.called
        values, own = (one.estimate, one.ci_lb, one.ci_ub), one.level
    elif isinstance(one, Fit) and hasattr(one, "design") and parts.single_mean(one):
        measure, k, called, own = one.effects.measure, one.effects.k, f"Pooled effect ({one.model_label})", level
        model: Any = one
        predicted = model.predict(level=level).iloc[0]
        values = tuple(predicted[bound] for bound in ("pred", "ci_lb", "ci_ub"))
    else:
        raise InputError(
            f"summaries: {type(one).__name__} is no summary of one mean; give fits without moderators, or results of "
            "bias methods that adjust the mean"
        )
    if measure != meta["measure"]:
        raise InputError(f"summaries: effects are {measure}, those of the plot {meta['measure']}")
    label = name or called
    if k != fit.effects.k:
        label += f" (k = {k})"
    if not math.isclose(own, level):
        label += f", {format_level(own)} CI"
    if math.isnan(values[0]):
        meta["notes"] = [*meta["notes"], _why(label, one).to_dict()]
        return {"kind": "fitted", "label": label, "text": NOT_ESTIMABLE}
    return {"kind": "fitted", "label": label, "text": "", **parts.estimate(measure, *values)}


def _why(label: str, one: Any) -> Note:
    estimate = one.estimate if isinstance(one, Adjusted) else math.nan
    reason = estimate.reason if isinstance(estimate, NotApplicable) else "it gives no estimate"
    return Note("forest-summary", f"{label} is not drawn: {reason}")
