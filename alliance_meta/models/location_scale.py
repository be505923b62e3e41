"""`LocationScaleModel`: moderators of the mean effect and of the variance between studies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alliance_meta.core.univariate.location_scale import ScaleFit, fit_location_scale
from alliance_meta.design import Design, design_of
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import ConvergenceWarning, DesignError, InputError, TruncationWarning
from alliance_meta.notes import Link, Note, Test, check_level, check_option, merge_notes, warn_note
from alliance_meta.results.coefficients import FitSettings
from alliance_meta.results.location_scale import LocationScaleResults

LikelihoodMethod = Literal["REML", "ML"]
# Fewer effects than this per coefficient of the scale part leave its estimates to chance.
FEW_PER_COEFFICIENT = 10


@dataclass(frozen=True, eq=False)
class LocationScaleModel:
    r"""Random-effects model in which the amount of heterogeneity depends on moderators as well.

    An ordinary meta-regression asks whether the *mean* effect differs between kinds of studies. This model
    also asks whether effects *vary more* in some kinds of studies than in others: whether, say, the
    alliance-outcome correlation is more alike from study to study when the patient rates the alliance.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    mods : str
        Right-hand side of a formula for the mean effect, ``"1"`` for none.
    scale : str
        Right-hand side of a formula for tau2.
    link : {"log", "identity"}
        ``log``: log(tau2) is linear in the moderators; tau2 cannot be negative. ``identity``: tau2 itself is,
        held at or above 0 in every study.
    method : {"REML", "ML"}
    test : {"knha", "z", "t", "adhoc"}
        Inference for the mean effect, as in `RandomEffectsModel`; the scale part is referred to t(k - q)
        unless ``z``.
    level : float
        Confidence level of every interval, a fraction.

    See Also
    --------
    RandomEffectsModel : One tau2 for all studies; also fits this model when given ``scale=``.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta,\; v_i + \tau_i^2), \quad \log \tau_i^2 = z_i'\alpha

    Viechtbauer & López-López (2022, doi:10.1002/jrsm.1562). R: ``rma(yi, vi, mods = ~ x, scale = ~ z)``.
    Standard errors of alpha come from the observed information, here in closed form. The likelihood can have
    several maxima: the highest of climbs from many starts is reported. Where it keeps rising while tau2 of
    some studies goes to 0, the coefficients concerned are not finite: they are reported as the search left
    them, without a standard error, and a note says so. Not for few studies: 10 effects per coefficient of the
    scale part are a common-sense minimum, and below it a note says so.

    Examples
    --------
    >>> from alliance_meta import LocationScaleModel, escalc, load_dataset
    >>> es = escalc(load_dataset("mcdaniel1994").query("struct.notna() and type.notna()"))
    >>> fit = LocationScaleModel(es, mods="type", scale="struct", test="z").fit()
    >>> fit.alpha.round(3).tolist(), round(fit.QS, 3), round(fit.loglik, 3)
    ([-3.244, -1.271], 6.775, 6.452)
    """

    effects: EffectSizes
    mods: str = "1"
    scale: str = "1"
    link: Link = "log"
    method: LikelihoodMethod = "REML"
    test: Test = "knha"
    level: float = 0.95

    def __post_init__(self) -> None:
        check_effects(self.effects, "LocationScaleModel")
        check_option("link", self.link, Link)
        if self.method not in ("REML", "ML"):
            raise InputError(f"method={self.method!r}: a model with scale= has a likelihood; use 'REML' or 'ML'")
        check_option("test", self.test, Test)
        check_level(self.level)

    def fit(self) -> LocationScaleResults:
        """Fit the model.

        Returns
        -------
        LocationScaleResults

        Raises
        ------
        DesignError
            An unknown moderator, one with a single level, or no effects to spare beyond the coefficients.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, TruncationWarning, ConvergenceWarning, DependenceWarning
            Each also stands in ``.notes`` of the result.
        """
        effects, design, scale = _designs(self.effects, self.mods, self.scale)
        if effects.k <= max(design.p, scale.p):
            raise DesignError(
                f"{effects.k} effects leave nothing to estimate tau2 from beside {design.p} coefficients of the mean "
                f"effect and {scale.p} of the scale part; use fewer moderators"
            )
        try:
            fitted = fit_location_scale(
                effects.yi, effects.vi, design.X, scale.X, link=self.link, restricted=self.method == "REML"
            )
        except ValueError as error:
            raise DesignError(f"scale={self.scale!r} with link='identity': {error}; use link='log'") from error
        notes = [*_search_notes(fitted, scale, effects, self.link), *_size_notes(effects.k, scale)]
        notes += dependence_notes(effects, stacklevel=4)
        return LocationScaleResults(
            effects=effects,
            design=design,
            scale_design=scale,
            settings=FitSettings(self.method, self.test, self.level),
            link=self.link,
            fitted=fitted,
            notes=merge_notes(effects.notes, design.notes, scale.notes, notes),
        )


def _designs(effects: EffectSizes, mods: str, scale: str) -> tuple[EffectSizes, Design, Design]:
    """Build both designs on the effects that have every moderator of either."""
    location = design_of(mods, effects)
    effects = location.taking_part(effects)
    try:
        spread = design_of(scale, effects)
    except DesignError as error:
        raise DesignError(str(error).replace("mods=", "scale=").replace("of mods", "of scale")) from error
    if not spread.rows.all():
        effects = effects.take(spread.rows, step=f"{int(spread.rows.sum())} effects with every moderator of tau2")
        again = design_of(mods, effects)
        location = Design(**{**vars(again), "notes": merge_notes(location.notes, again.notes)})
    return effects, location, spread


def _search_notes(fitted: ScaleFit, scale: Design, effects: EffectSizes, link: Link) -> list[Note]:
    notes = []
    if not fitted.converged:
        message = (
            f"The search for the scale part had not settled after {fitted.iterations} steps; do not use this fit. "
            "Try fewer moderators of tau2."
        )
        notes.append(warn_note("not-converged", message, ConvergenceWarning, stacklevel=4))
    vanished = np.flatnonzero(fitted.vanished)
    if fitted.infinite.any():
        names = ", ".join(name for name, lost in zip(scale.names, fitted.infinite, strict=True) if lost)
        where = f"all {effects.k}" if len(vanished) == effects.k else f"{len(vanished)} of {effects.k}"
        without = "a finite value or standard error" if link == "log" else "a standard error"
        message = (
            f"tau2 of {where} studies is 0 at the maximum of the likelihood, which leaves {names} in the scale part "
            f"without {without}. Read the likelihood-ratio test."
        )
        notes.append(warn_note("scale-boundary", message, TruncationWarning, stacklevel=4))
    return notes


def _size_notes(k: int, scale: Design) -> list[Note]:
    if scale.p == 1 or k >= FEW_PER_COEFFICIENT * scale.p:
        return []
    message = (
        f"k = {k} effects for {scale.p} coefficients of the scale part: fewer than {FEW_PER_COEFFICIENT} each, so "
        "differences in heterogeneity are found and missed by chance."
    )
    return [Note("few-for-scale", message)]
