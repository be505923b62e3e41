"""The figures a report declares, as frames of numbers: what `figures` draws from `results.json`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.supplement import is_large

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.reporting.pieces import Pieces

FOREST = "forest"
# A report declares no rule by which one effect of a study is chosen.
UNDECLARED = "one per study"


def figure(item: Item, fits: Mapping[str, Fitted], pieces: Pieces) -> dict[str, Any]:
    """Return one figure of the document: its frame, its words, its notes."""
    kind = str(item.drawn)
    if item.piece is not None:
        frame, caption = pieces[item.piece].figure(item)
    else:
        fitted = fits[item.shown[0]]
        words, make = _MAKERS[kind]
        frame = make(item, fitted)
        caption = words.format(label=fitted.spec.label, model=fitted.short_label(), by=item.by)
        if kind == FOREST and is_large(len(frame)):
            kind, (words, make), forest = "caterpillar", _MAKERS["caterpillar"], frame
            caption = words.format(label=fitted.spec.label, model=fitted.short_label())
            return _with_supplement(forest, _figure(kind, make(item, fitted), item.caption or caption))
    return _figure(kind, frame, item.caption or caption)


def _figure(kind: str, frame: pd.DataFrame, caption: str) -> dict[str, Any]:
    from alliance_meta.plots import frame_to_dict

    return {
        "kind": kind,
        "caption": caption,
        "title": frame.attrs["title"],
        "description": frame.attrs["description"],
        "notes": [str(note["message"]) for note in frame.attrs["notes"]],
        "frame": frame_to_dict(frame),
    }


def _with_supplement(forest: pd.DataFrame, figure: dict[str, Any]) -> dict[str, Any]:
    """Return the caterpillar that stands for a forest of very many effects, with the forest for a page of its own."""
    from alliance_meta.plots import frame_to_dict

    note = (
        f"A forest of {len(forest):,} rows has no room on a page: the plot shows all effects, smallest first, and the "
        "forest is the supplement, in the folder figures/ under this figure's name, ending in .html."
    )
    return figure | {"notes": [note, *figure["notes"]], "supplement": frame_to_dict(forest)}


def _forest(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import forest_data

    return forest_data(
        fitted.fit,
        order=list(item.order) or "given",
        by=item.by,
        columns=item.columns,
        label=item.label,
        title=f"Forest plot: {fitted.spec.label}",
    )


def _caterpillar(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import caterpillar_data

    return caterpillar_data(fitted.fit, title=f"Caterpillar plot: {fitted.spec.label}")


def _bubble(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import bubble_data

    return bubble_data(fitted.fit, str(item.by), title=f"Bubble plot: {fitted.spec.label}")


def _profile(item: Item, fitted: Fitted) -> pd.DataFrame:
    return fitted.profile(f"Profile of the likelihood: {fitted.spec.label}")


def _means(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.moderators.marginal import marginal_means
    from alliance_meta.plots import means_data

    means = marginal_means(fitted.fit, by=str(item.by))
    return means_data(means, title=f"Means by {item.by}: {fitted.spec.label}")


def _dependence(item: Item, fitted: Fitted) -> pd.DataFrame:
    """Return the frame of every usual method for the analysis's effects, with its own rho, clusters and moderators."""
    from alliance_meta.plots import dependence_data
    from alliance_meta.sensitivity.dependence import compare_dependence
    from alliance_meta.sensitivity.dependence_text import METHODS

    spec = fitted.spec
    options: dict[str, Any] = {"cluster": spec.cluster or "study_id", "mods": spec.mods or "1", "level": spec.level}
    if spec.rho is not None:
        options["rho"] = spec.rho
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        found = compare_dependence(fitted.coded, methods=[name for name in METHODS if name != UNDECLARED], **options)
    return dependence_data(found, term=item.by, title=f"Methods for dependent effects: {fitted.spec.label}")


def _posterior(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import posterior_data

    _check_bayesian(item, fitted)
    scale: Literal["r"] | None = "r" if fitted.effects.measure == "ZCOR" else None
    return posterior_data(fitted.fit, what="mu", scale=scale, title=f"Prior and posterior: {fitted.spec.label}")


def _prior_sensitivity(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import prior_sensitivity_data

    _check_bayesian(item, fitted)
    return prior_sensitivity_data(fitted.fit, title=f"Other priors: {fitted.spec.label}")


def _check_bayesian(item: Item, fitted: Fitted) -> None:
    if fitted.table_kind != "posterior":
        raise InputError(f"figure={item.figure!r} shows an analysis of kind = 'bayes'; {fitted.spec.id} is none")


# Kind -> its caption and what makes its frame.
_MAKERS: dict[str, tuple[str, Callable[[Item, Fitted], pd.DataFrame]]] = {
    "forest": ("{label}: every study and the pooled effect ({model}).", _forest),
    "caterpillar": ("{label}: every effect, smallest first, and the pooled effect ({model}).", _caterpillar),
    "bubble": ("{label}: every effect against {by}, and what the model says of it ({model}).", _bubble),
    "profile": ("{label}: how likely each value of τ² makes the data ({model}).", _profile),
    "means": ("{label}: mean effect at each level of {by} ({model}).", _means),
    "posterior": ("{label}: the mean effect before and after the data ({model}).", _posterior),
    "prior_sensitivity": ("{label}: what other priors of τ would have given.", _prior_sensitivity),
    "dependence": ("{label}: the same effects by every usual method.", _dependence),
}
