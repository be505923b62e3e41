"""What the explorer answers: the rows of a sheet, and the fit of those that are ticked, as words and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alliance_meta.cli.fit import (
    CHE,
    DEFAULT_RHO,
    MODELS,
    MULTILEVEL,
    RANDOM,
    RVE,
    WORDS,
    Choice,
    check_settings,
    fit_model,
    read_effects,
)
from alliance_meta.cli.options import held_notes
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import AllianceMetaError, InputError
from alliance_meta.notes import Tau2Method, Test, did_you_mean
from alliance_meta.plots import figure_bytes, forest, funnel
from alliance_meta.plots.bias.points import mean_row
from alliance_meta.plots.forests.parts import effect_text, estimate, moderator_test, prediction_label
from alliance_meta.plots.sheet.measure import is_correlation
from alliance_meta.reporting.starter import LONGEST_WORD
from alliance_meta.tables.document import as_html
from alliance_meta.tables.format import format_estimate, format_interval

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

# So many decimals that leaving out one row of many can be seen.
LEVEL, DECIMALS = 0.95, 3
# Weights of one's own: nothing that a page of choices has.
WEIGHTED = ("GENQ", "GENQM")
METHODS = {
    CHE: ("REML", "ML"),
    MULTILEVEL: ("REML", "ML"),
    RVE: (),
    RANDOM: tuple(name for name in get_args(Tau2Method) if name not in WEIGHTED),
}
# A column of more words than this is a name of rows and no moderator.
MOST_LEVELS = 12


class Asked(BaseModel):
    """What a reader chose; what is left empty is chosen by the data."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: str
    left_out: tuple[int, ...] = Field(default=(), strict=False)
    moderator: str = ""
    model: Literal["", "che", "multilevel", "rve", "random"] = ""
    method: Tau2Method | None = None
    test: Test | None = None
    rho: float | None = None

    @classmethod
    def of(cls, given: Any) -> Asked:
        """Check what came from a page; the first fault is an `InputError` in words."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the choices"
            raise InputError(f"{where}: {first['msg']}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the model that were given."""
        return {name: value for name in ("method", "test", "rho") if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, eq=False)
class Explorer:
    """Answers about one sheet of a reader's own, if there is one, and about the shipped data sets.

    Attributes
    ----------
    own : str or None
        The file; no other can be asked for.
    naming : mapping
        What its columns are called, as `alliance_meta.cli.options.NAMING` has it.
    """

    own: str | None = None
    naming: Mapping[str, Any] = field(default_factory=dict)

    def choices(self) -> dict[str, Any]:
        """Return what there is to choose from."""
        from alliance_meta.effects.datasets import list_datasets, load_dataset

        listed = list_datasets()
        titles = {
            name: f"{name}: {title}"
            for name, title in zip(listed["name"], listed["title"], strict=True)
            if (card := load_dataset(name).card) is not None and card.poolable
        }
        if self.own is not None:
            titles = {self.own: titles.get(self.own, f"{Path(self.own).name}: your sheet"), **titles}
        named = [{"name": name, "title": title} for name, title in titles.items()]
        models = {
            name: {"title": WORDS[name], "methods": METHODS[name], "rho": DEFAULT_RHO.get(name),
                   "tests": get_args(Test) if name == RANDOM else ()}
            for name in MODELS
        }  # fmt: skip
        return {"sources": named, "models": models}

    @lru_cache(maxsize=4)  # noqa: B019  one explorer lives as long as its page
    def read(self, source: str) -> tuple[EffectSizes, tuple[str, ...]]:
        """Return the effects of a sheet that may be asked for, and what was said while it was read."""
        from alliance_meta.effects.datasets import dataset_names

        if source != self.own and source not in dataset_names():
            raise InputError(f"{source!r} is none of the data sets here{did_you_mean(source, dataset_names())}")
        with held_notes() as notes:
            naming = dict(self.naming) if source == self.own else {}
            effects = read_effects(source, subset=None, vtype="LS", naming=naming)
        return effects, tuple(notes)

    def sheet(self, source: str) -> dict[str, Any]:
        """Return the rows of a sheet, its possible moderators, and what must be said of it."""
        effects, notes = self.read(source)
        half = critical_value(LEVEL, None) * effects.sei
        shown = [
            effect_text(effects.measure, estimate(effects.measure, y, y - h, y + h))
            for y, h in zip(effects.yi.tolist(), half.tolist(), strict=True)
        ]
        rows = [{"label": label, "effect": text} for label, text in zip(effects.slab, shown, strict=True)]
        return {"heading": effects.heading, "notes": [*notes, *effects.provenance.steps], "rows": rows,
                "moderators": list(_moderators(effects)), "model": _model(effects)}  # fmt: skip

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Return the estimate in words, beside that of every row, with forest, funnel and all that the fit says."""
        effects, _ = self.read(asked.source)
        kept = np.ones(effects.k, dtype=bool)
        outside = [row for row in asked.left_out if not 0 <= row < effects.k]
        if outside:
            raise InputError(f"{asked.source} has no row {outside[0]}: its rows are 0 to {effects.k - 1}")
        kept[list(asked.left_out)] = False
        left = int(effects.k - kept.sum())
        if left == effects.k:
            raise InputError("no row is ticked: tick at least one")
        chosen = effects.take(kept, step=f"{left} of {effects.k} rows left out by hand") if left else effects
        with held_notes() as notes:
            model = asked.model or _model(chosen)
            fit = self._fit(chosen, asked, model)
            drawn = {"forest": _drawn(forest, fit), "funnel": _drawn(funnel, fit)}
        choice = Choice(model, "chosen by you" if asked.model else chosen.counted)
        return {
            "estimate": _words(fit),
            "counted": f"{chosen.counted}; {left} left out" if left else f"{chosen.counted}; every row",
            "every": self._every(asked.model_copy(update={"left_out": (), "model": model})) if left else "",
            "model": choice.sentence(asked.settings),
            "summary": as_html(fit.document()),
            "notes": notes,
            **drawn,
        }

    def _fit(self, effects: EffectSizes, asked: Asked, model: str) -> Any:
        check_settings(Choice(model, "chosen here"), asked.settings)
        mods = "1" if not asked.moderator else _term(asked.moderator, effects)
        return fit_model(effects, Choice(model, ""), mods=mods, level=LEVEL, settings=asked.settings)

    @lru_cache(maxsize=64)  # noqa: B019
    def _every(self, asked: Asked) -> str:
        """Return the estimate of the same model with every row, or why there is none."""
        try:
            with held_notes():
                return f"With every row: {_words(self._fit(self.read(asked.source)[0], asked, asked.model))}."
        except AllianceMetaError as error:
            return f"With every row there is no answer: {error}"


def _model(effects: EffectSizes) -> str:
    return CHE if effects.k > effects.n_studies else RANDOM


def _moderators(effects: EffectSizes) -> Iterator[str]:
    """Yield columns of numbers or of few words that tell rows apart, and are no effects and no variances."""
    columns = effects.moderators
    outcomes = effects.outcome_columns([str(name) for name in columns])
    for name, values in columns.items():
        known, text = values.dropna(), str(name)
        levels = known.nunique()
        few = levels <= min(MOST_LEVELS, len(known) / 2) and known.astype(str).str.len().max() <= LONGEST_WORD
        suits = pd.api.types.is_numeric_dtype(values) or few
        if levels > 1 and suits and text not in outcomes and "`" not in text and not _repeats_variance(values, effects):
            yield text


def _repeats_variance(values: pd.Series[Any], effects: EffectSizes) -> bool:
    """Tell whether a column is the variances or the standard errors, up to rounding."""
    if not pd.api.types.is_numeric_dtype(values):
        return False
    x = values.to_numpy(dtype=float, na_value=np.nan)
    return any(np.allclose(x, known, rtol=1e-3, atol=0.0) for known in (effects.vi, effects.sei))


def _term(name: str, effects: EffectSizes) -> str:
    """Return a column as a formula names it; nothing else is taken."""
    known = [str(column) for column in effects.moderators]
    if name not in known or "`" in name:
        raise InputError(f"there is no column {name!r} to take as a moderator{did_you_mean(name, known)}")
    return name if name.isidentifier() else f"`{name}`"


def _words(fit: Any) -> str:
    """Return the mean with its intervals, or the test of the moderator, as a reader hears it."""
    measure = fit.effects.measure
    if mean_row(fit, LEVEL) is None:
        return moderator_test(fit)
    row = fit.predict(level=LEVEL, scale="r" if measure == "ZCOR" else None).iloc[0]
    zero = not is_correlation(measure)
    mean = format_estimate(row["pred"], row["ci_lb"], row["ci_ub"], DECIMALS, leading_zero=zero)
    new = format_interval(row["pi_lb"], row["pi_ub"], DECIMALS, leading_zero=zero)
    called = "mean effect" if zero else "r"
    return f"{called} = {mean}; {prediction_label(LEVEL)} {new}"


def _drawn(plot: Any, fit: Any) -> dict[str, str]:
    """Return a plot as SVG with its text alternative, or why there is none."""
    try:
        figure = plot(fit)
    except AllianceMetaError as error:
        return {"svg": "", "alt": str(error)}
    return {"svg": figure_bytes(figure).decode("utf-8"), "alt": figure.plot_description}
