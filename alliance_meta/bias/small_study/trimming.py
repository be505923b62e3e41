"""Trim and fill: the effects that lack on one side of a funnel plot, put back as mirror images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.given import Adjusted, given
from alliance_meta.bias.small_study.refitting import adjusted, model_of, one_per_study, settings, why_no_slope
from alliance_meta.core.bias.small_study import MOST_STEPS, trim
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.univariate.fit import fit_univariate, fixed_tau2
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes, unique_labels
from alliance_meta.errors import InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, Note, check_option
from alliance_meta.results.r_code import call, level_argument, quoted, value
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.document import Document

TrimEstimator = Literal["L0", "R0", "Q0"]
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TrimFill(Adjusted):
    """The mean after mirror images of unmatched effects were added.

    Attributes
    ----------
    k0 : int
        Effects added.
    k0_se : float
        Its standard error.
    k0_pval : float
        Test that none lacks; `NotApplicable` but for ``R0``.
    side : {"left", "right"}
        Where they lack.
    estimator : {"L0", "R0", "Q0"}
    filled : DataFrame
        The rows added: ``yi vi mirrors`` by label, ``mirrors`` the effect each is the image of.
    fit : RandomEffectsResults
        The fit of observed and added effects together.
    before : RandomEffectsResults
        The fit of the observed ones, one per study.
    """

    called: ClassVar[str] = "Trim and fill"
    assumes: ClassVar[str] = "the most extreme effects on one side are missing, and the funnel is else symmetric"

    k0: int
    k0_se: float
    k0_pval: float
    side: Side
    estimator: TrimEstimator
    filled: pd.DataFrame
    fit: RandomEffectsResults
    before: RandomEffectsResults

    def _values(self) -> dict[str, Any]:
        names = ("estimate", "se", "ci_lb", "ci_ub", "pval", "k", "studies", "level", "measure")
        rows = self.filled.reset_index(names="label")
        filled = {str(name): rows[name].tolist() for name in rows}
        return self._these(*names, "k0", "k0_se", "k0_pval", "side", "estimator") | {"filled": filled}

    def _content(self) -> Document:
        found = Adjusted._content(self)
        many = "no effect" if self.k0 == 0 else "one effect" if self.k0 == 1 else f"{self.k0} effects"
        return replace(found, lines=(f"{many} added on the {self.side} ({self.estimator})", *found.lines))

    def r_code(self) -> str:
        """Return the R code of trim and fill."""
        own = self.before.settings
        named: dict[str, str | None] = {"estimator": quoted(self.estimator), "side": quoted(self.side)}
        # metafor's refits take from the fit only its method and weights; the rest must be said again.
        named["test"] = None if own.test == "z" else quoted(str(own.test))
        named["level"] = level_argument(self.level)
        named["tau2"] = None if own.tau2 is None else value(own.tau2)
        named["control"] = None if own.tau2_min == 0 else f"list(tau2.min={value(own.tau2_min)})"
        return f"{self.before.r_code()}\nfit <- {call('trimfill', 'fit', **named)}"


def trimfill(
    fit: Any,
    *,
    estimator: TrimEstimator = "L0",
    side: Side | None = None,
    cluster: Any = STUDY,
    rho: float = DEFAULT_RHO,
    level: float | None = None,
) -> TrimFill:
    """Count the studies that seem to be missing on one side of the funnel, put them back, and pool again.

    If every study found were matched by one as far on the other side of the mean, nothing would be missing. The
    unmatched ones on the crowded side are mirrored, and the mean of all is what might have been found without the
    gap. It is a sensitivity analysis, not a correction to rely on: it takes asymmetry for missing studies whatever
    its cause, and too little off where selection was by significance. Where studies have several effects, the
    mean of each study stands for it.

    Parameters
    ----------
    fit : a fitted model without moderators
        Univariate models also give estimator, inference and weights.
    estimator : {"L0", "R0", "Q0"}
        How missing studies are counted; ``R0`` also tests whether there are any.
    side : {"left", "right"}, optional
        Where they are missing; by default where the slope of `regtest` says.
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study.
    rho : float
        Assumed correlation of the sampling errors of one study, for the variance of its mean.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    TrimFill

    Raises
    ------
    InputError
        A model with moderators; a single study; a count that finds no rest.

    Notes
    -----
    R: ``trimfill(fit, estimator = "L0", side = "left")``. Duval & Tweedie (2000a,
    doi:10.1080/01621459.2000.10473905; 2000b, doi:10.1111/j.0006-341X.2000.00455.x).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> filled = bias.trimfill(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> filled.k0, filled.side, round(filled.estimate, 3), filled.fit.k
    (2, 'left', 0.129, 18)
    """
    check_option("estimator", estimator, TrimEstimator)
    if side is not None:
        check_option("side", side, Side)
    source = given(fit, "trimfill", cluster=cluster, level=level)
    before = one_per_study(source, "trimfill", rho)
    if before.k < 2:
        raise InputError("trimfill compares studies and needs at least 2 of them")
    used, notes = (side, ()) if side is not None else _side(before)
    sign = -1.0 if used == "right" else 1.0
    found = trim(sign * before.effects.yi, estimator=estimator, mean=lambda rows: _mean(before, sign, rows))
    if not found.settled:
        raise InputError(
            f"trimfill: the count of missing studies by {estimator} found no rest in {MOST_STEPS} steps or is not "
            "defined here; use another estimator or side"
        )
    effects = _filled(before.effects, found.mirrored, sign * found.mean)
    weights = settings(before).weights
    weights = None if weights is None else np.concatenate([weights, weights[found.mirrored]])
    after = model_of(given(before, "trimfill"), effects=effects, weights=weights)
    rows = effects.frame.iloc[before.k :].set_index("slab")[["yi", "vi"]]
    gone = NotApplicable("only R0 has a test")
    result = adjusted(
        TrimFill,
        source,
        after,
        notes=notes,
        k0=found.k0,
        k0_se=found.se if found.se == found.se else NotApplicable("its variance is not positive here"),
        k0_pval=found.pval if found.pval == found.pval else gone,
        side=used,
        estimator=estimator,
        filled=rows.assign(mirrors=[before.effects.slab[i] for i in found.mirrored]),
        fit=after,
        before=before,
    )
    return result


def _mean(before: RandomEffectsResults, sign: float, rows: IntArray) -> float:
    """Return the pooled mean of some effects, by the model of all."""
    return float(_coefficients(before, sign * before.effects.yi[rows], rows, np.ones((len(rows), 1)))[0])


def _coefficients(before: RandomEffectsResults, y: Array, rows: IntArray, X: Array) -> Array:
    """Return the coefficients of values of some effects on X, by the model of all."""
    own = before.settings
    few = len(rows) == X.shape[1] and own.tau2 is None
    return fit_univariate(
        y,
        before.effects.vi[rows],
        X,
        method="EE" if few else own.method,
        test="z",
        level=own.level,
        tau2=None if own.tau2 is None else fixed_tau2(own.tau2),
        weights=None if own.weights is None else own.weights[rows],
        lowest=own.tau2_min,
    ).beta


def _side(before: RandomEffectsResults) -> tuple[Side, tuple[Note, ...]]:
    """Return the side on which studies lack by the slope of effects on their standard errors."""
    source = given(before, "trimfill")
    why = why_no_slope(source, source.sei)
    if why is None:
        X = np.column_stack([np.ones(source.k), source.sei])
        try:
            slope = _coefficients(before, source.yi, np.arange(source.k, dtype=np.intp), X)[1]
            return "right" if slope < 0 else "left", ()
        except np.linalg.LinAlgError:
            why = "one weight outweighs all others"
    side: Side = "left" if source.sign > 0 else "right"
    message = f"No slope tells on which side studies are missing ({why}); the side away from the mean was taken."
    return side, (Note("trim-side", message),)


def _filled(effects: EffectSizes, mirrored: IntArray, mean: float) -> EffectSizes:
    """Return the effects with the images of some of them around a mean."""
    k0 = len(mirrored)
    both = effects.take(np.concatenate([np.arange(effects.k), mirrored]))
    new = tuple(f"Filled {i + 1}" for i in range(k0))
    yi = np.concatenate([effects.yi, 2.0 * mean - effects.yi[mirrored]])
    labels = unique_labels((*effects.slab, *new))
    return replace(
        both,
        yi=yi,
        slab=labels,
        study_id=(*effects.study_id, *labels[effects.k :]),
        _moderators=pd.DataFrame({"filled": np.arange(len(yi)) >= effects.k}),
        columns={},
        provenance=effects.provenance.after(f"trim and fill: {k0} effects added"),
    )
