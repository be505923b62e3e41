"""The pooled result over a grid of assumed correlations between the effects of one study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.dependent.aggregate import Aggregation, aggregate
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.notes import Note, Scale, warn_note
from alliance_meta.result import Result
from alliance_meta.sensitivity.refitting import ours
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, fixed, format_level

RHO = (0.0, 0.2, 0.4, 0.6, 0.8)
# Notes that only repeat which rho was assumed.
STATED = ("aggregated", "assumed-V")

Recipe = Callable[[float], Any]


@dataclass(frozen=True, eq=False, repr=False)
class RhoGrid(Result):
    """One fit for each assumed correlation.

    Attributes
    ----------
    rho : tuple of float
        The correlations assumed.
    fits : tuple
        The fitted model of each.
    assumption : str
        What was done with each rho, in words.
    notes : tuple of Note
        Those of the fits; one that holds only for some rho says for which.
    """

    rho: tuple[float, ...]
    fits: tuple[Any, ...]
    assumption: str
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per rho and coefficient: ``estimate se stat ddf pval ci_lb ci_ub``, on the analysis scale."""
        return self._joined([fit.tidy() for fit in self.fits])

    def glance(self) -> pd.DataFrame:
        """Return one row per rho with the statistics of its model (``k``, ``tau2``, ``I2``, ...)."""
        frames = [fit.glance() for fit in self.fits]
        out = pd.concat(frames, ignore_index=True)
        out.index = pd.Index(self.rho, name="rho")
        return out

    def predict(
        self, newdata: pd.DataFrame | Mapping[str, Any] | None = None, *, scale: Scale | None = None
    ) -> pd.DataFrame:
        """Return the predictions of each fit, one row per rho and prediction; the arguments are those of the fits."""
        frames = [fit.predict(newdata, scale=scale) for fit in self.fits]
        return self._joined(frames)

    def span(self) -> pd.DataFrame:
        """Return how far each coefficient moves over the grid.

        Returns
        -------
        DataFrame
            One row per coefficient: its ``lowest`` and ``highest`` estimate, their difference in units of the
            largest standard error (``moves``), the ``lowest_p`` and ``highest_p``.
        """
        terms = self.tidy().groupby(level="term", sort=False)
        lowest, highest = terms["estimate"].min(), terms["estimate"].max()
        moves = (highest - lowest) / terms["se"].max()
        pvals = {"lowest_p": terms["pval"].min(), "highest_p": terms["pval"].max()}
        return pd.DataFrame({"lowest": lowest, "highest": highest, "moves": moves, **pvals})

    def _values(self) -> dict[str, Any]:
        tables = {"coefficients": self.tidy(), "models": self.glance(), "span": self.span()}
        records = {name: table.reset_index().to_dict(orient="records") for name, table in tables.items()}
        return {**self._these("rho", "assumption"), **records}

    def _content(self) -> Document:
        level = getattr(self.fits[0], "level", None)
        variances = [getattr(fit, "tau2", None) for fit in self.fits]
        kinds: dict[str, Kind] = {"rho": brief, "estimate": 4, "se": 4, "pval": "p", "ci_lb": 4, "ci_ub": 4}
        frame = self.tidy().reset_index("rho")
        if all(isinstance(value, float) for value in variances):
            frame["tau2"] = frame["rho"].map(dict(zip(self.rho, variances, strict=True))).fillna(0.0)
            kinds["tau2"] = 4
        first = list(frame.index.unique("term"))
        return self._document(
            f"Sensitivity to the assumed correlation: {self.assumption}",
            table_of(frame.loc[first], kinds),
            [
                f"{term}: {fixed(moved['lowest'])} to {fixed(moved['highest'])}, a move of "
                f"{fixed(moved['moves'], 2)} standard errors over the grid"
                for term, moved in self.span().iterrows()
            ],
            lines=[] if level is None else [f"{format_level(level)} intervals"],
        )

    def _joined(self, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        out = pd.concat(frames, keys=self.rho, names=["rho", *frames[0].index.names])
        out.attrs = dict(frames[0].attrs)
        return out


def rho_grid(
    source: EffectSizes | Recipe,
    *,
    rho: Sequence[float] = RHO,
    cluster: Any = "study_id",
    how: Aggregation = "mean",
    weighted: bool | None = None,
    **model: Any,
) -> RhoGrid:
    """Fit the same model under several assumed correlations, and see what changes.

    How strongly the errors of a study's effects correlate is seldom reported and has to be assumed. If the pooled
    result hardly moves from rho = 0 to rho = 0.8, the assumption does not matter and the report can say so; if it
    does, both belong into the report.

    Parameters
    ----------
    source : EffectSizes or callable
        Several effects per study, which are then aggregated with each rho and pooled by `RandomEffectsModel`. Or a
        function that takes rho and returns a fitted model of any kind: ``lambda rho: che(es, rho=rho)`` for the
        correlated and hierarchical effects model with robust inference, or
        ``lambda rho: MultilevelModel(es, V=impute_V(es, rho=rho)).fit()``.
    rho : sequence of float
        The correlations to assume.
    cluster, how, weighted
        For effects: passed to `aggregate`.
    **model
        For effects: passed to `RandomEffectsModel` (`mods`, `method`, `test`, `level`, ...).

    Returns
    -------
    RhoGrid

    Raises
    ------
    InputError
        A correlation outside [-1, 1] or given twice; one that `aggregate` refuses; a function that returns no
        fitted model, or settings beside a function, which would not reach it.

    Warns
    -----
    AllianceMetaWarning
        What the fits warn of, once for all of them, with the rho concerned.

    See Also
    --------
    aggregate : the aggregation under one correlation.

    Notes
    -----
    The variance of a study's plain mean grows with rho: studies with many effects lose weight, and the larger the
    sampling errors, the less is left for real differences between studies.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> grid = sensitivity.rho_grid(es, rho=(0, 0.4, 0.8))
    >>> grid.tidy()["estimate"].round(4).tolist()
    [0.4821, 0.4831, 0.4838]

    The correlated and hierarchical effects model with CR2 standard errors, over the same correlations:

    >>> from alliance_meta import che
    >>> es = escalc(load_dataset("crede2010"))
    >>> robust = sensitivity.rho_grid(lambda rho: che(es, rho=rho), rho=(0, 0.4, 0.8))
    >>> robust.tidy()[["estimate", "se"]].round(4).values.tolist()
    [[0.4509, 0.0285], [0.4531, 0.0286], [0.4549, 0.0287]]
    """
    values = _values(rho)
    if isinstance(source, EffectSizes):
        recipe = _aggregated(source, cluster, how, weighted, model)
        way = "means" if how == "mean" or weighted is False else {"CS": "weighted means"}.get(how, f"{how} aggregates")
        name = " + ".join(cluster) if isinstance(cluster, list | tuple) else cluster
        assumption = f"{way} within {name if isinstance(name, str) and len(name) < 40 else 'the clusters given'}"
    elif callable(source):
        ignored = [name for name, value in {"cluster": cluster != "study_id", "how": how != "mean"}.items() if value]
        ignored += (["weighted"] if weighted is not None else []) + list(model)
        if ignored:
            raise InputError(f"{', '.join(ignored)}: settings cannot reach the function given; set them inside it")
        recipe, assumption = source, "the model refitted for each"
    else:
        raise InputError(
            f"rho_grid needs EffectSizes, or a function of rho that returns a fitted model, not {type(source).__name__}"
        )
    fits, warned = _fit_all(recipe, values)
    return RhoGrid(values, fits, assumption, _notes(values, fits, warned))


def _values(rho: Any) -> tuple[float, ...]:
    given = np.atleast_1d(np.asarray(rho, dtype=float))
    if given.ndim != 1 or not given.size:
        raise InputError("rho must hold the correlations to assume, such as (0, 0.2, 0.4, 0.6, 0.8)")
    wrong = given[~(np.abs(given) <= 1)]
    if wrong.size:
        raise InputError(f"rho: {', '.join(brief(value) for value in wrong)} must lie between -1 and 1")
    if np.unique(given).size < given.size:
        raise InputError(f"rho lists a value twice: {', '.join(brief(value) for value in given)}")
    return tuple(float(value) for value in given)


def _aggregated(effects: EffectSizes, cluster: Any, how: Any, weighted: bool | None, model: dict[str, Any]) -> Recipe:
    def fit(value: float) -> Any:
        one = aggregate(effects, cluster=cluster, rho=value, how=how, weighted=weighted)
        return RandomEffectsModel(one, **model).fit()

    return fit


def _fit_all(recipe: Recipe, values: Sequence[float]) -> tuple[tuple[Any, ...], dict[str, type[AllianceMetaWarning]]]:
    """Return the fits, and the messages of our own warnings by category; others are passed on."""
    fits = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for value in values:
            fit = recipe(value)
            if not (hasattr(fit, "tidy") and hasattr(fit, "glance")):
                raise InputError(
                    f"the function given returned {type(fit).__name__} for rho = {brief(value)}, not a fitted model; "
                    "call .fit() in it"
                )
            fits.append(fit)
    return tuple(fits), ours(caught)


def _notes(
    values: Sequence[float], fits: Sequence[Any], warned: Mapping[str, type[AllianceMetaWarning]]
) -> tuple[Note, ...]:
    """Join the notes of all fits: once where all agree, with the rho concerned where they do not."""
    found: dict[tuple[str, int], dict[float, str]] = {}
    for value, fit in zip(values, fits, strict=True):
        seen: dict[str, int] = {}
        for note in fit.notes:
            place = seen[note.code] = seen.get(note.code, -1) + 1
            found.setdefault((note.code, place), {})[value] = note.message
    out = []
    for (code, _), messages in found.items():
        if code in STATED:
            continue
        first, distinct = next(iter(messages.values())), set(messages.values())
        text = first
        if len(messages) < len(values):
            text = f"At rho = {', '.join(brief(value) for value in messages)}: {first}"
        if len(distinct) > 1:
            text += f" (Said for rho = {brief(next(iter(messages)))}; it differs with rho.)"
        category = next((warned[message] for message in distinct if message in warned), None)
        out.append(Note(code, text) if category is None else warn_note(code, text, category, stacklevel=4))
    return tuple(dict.fromkeys(out))
