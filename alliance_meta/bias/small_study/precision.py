"""Means that follow the most precise studies: PET-PEESE, unrestricted weighted least squares, adequate power."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Adjusted, Given, given
from alliance_meta.bias.small_study.refitting import (
    RegressionModel,
    about,
    adjusted,
    independent,
    not_adjusted,
    predictor_values,
    size_notes,
    why_no_slope,
    with_predictor,
)
from alliance_meta.core.bias.small_study import ADEQUATE, plus_three
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DependenceWarning, InputError, quiet
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.results.fit import frame_of
from alliance_meta.tables.document import Document

Imprecision = Literal["sei", "sqrtninv", "inv_sqrt_n"]
SQUARES = {"sei": "vi", "sqrtninv": "ninv"}


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Pet(Adjusted):
    """Precision-effect test: the intercept of a regression on the standard error.

    Attributes
    ----------
    slope, slope_se : float
    """

    called: ClassVar[str] = "PET"
    assumes: ClassVar[str] = "bias grows in proportion to the standard error, and nothing else does"

    slope: float
    slope_se: float


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Peese(Adjusted):
    """Precision-effect estimate with standard error: the intercept of a regression on the variance.

    Attributes
    ----------
    slope, slope_se : float
    """

    called: ClassVar[str] = "PEESE"
    assumes: ClassVar[str] = "bias grows in proportion to the sampling variance, and nothing else does"

    slope: float
    slope_se: float


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PetPeese(Adjusted):
    """PET where it finds no effect, PEESE where it finds one.

    Attributes
    ----------
    pet : Pet
    peese : Peese
    chosen : {"PET", "PEESE", ""}
        Which of them `estimate` is; empty where neither exists.
    model : {"che", "rma", "lm", "ee"}
    predictor : {"sei", "sqrtninv"}
    """

    called: ClassVar[str] = "PET-PEESE"
    assumes: ClassVar[str] = "bias grows with the standard error, and nothing else does"

    pet: Pet
    peese: Peese
    chosen: str
    model: str
    predictor: str

    def tidy(self) -> pd.DataFrame:
        """Return three rows, ``PET``, ``PEESE`` and ``PET-PEESE``, with the columns of every adjusted mean."""
        rows: tuple[Adjusted, ...] = (self.pet, self.peese, self)
        return frame_of([one._row() for one in rows], [one.called for one in rows])

    def _values(self) -> dict[str, Any]:
        own = {name: value for name, value in Adjusted._values(self).items() if name not in ("pet", "peese")}
        return own | {"pet": self.pet._values(), "peese": self.peese._values()}

    def _content(self) -> Document:
        found = Adjusted._content(self)
        return replace(found, lines=(self._rule(), *found.lines)) if self.chosen else found

    def _rule(self) -> str:
        finds = "finds no effect" if self.chosen == "PET" else "finds an effect"
        if isinstance(self.pet.pval, NotApplicable):
            finds = "has no test here"
        return f"PET {finds}, so that PET-PEESE is {self.chosen} (model: {self.model})"


def pet_peese(
    fit: Any,
    *,
    model: RegressionModel | None = None,
    predictor: Imprecision = "sei",
    alpha: float = 0.05,
    cluster: Any = STUDY,
    level: float | None = None,
) -> PetPeese:
    r"""Estimate the mean effect of a study without sampling error, by PET, PEESE and the choice between them.

    Both draw a line through effects against their imprecision and read it off at zero. PET's line rises with the
    standard error, which suits a true effect of nothing; PEESE's with the variance, which suits a real one. PET-PEESE
    takes PEESE where PET is larger than nothing. The line answers for every cause of a slope, so that it over-corrects
    where small studies truly differ; with few studies or large heterogeneity it is worth little.

    Parameters
    ----------
    fit : a fitted model without moderators
    model : {"che", "rma", "lm", "ee"}, optional
        ``che``, the default where some study has several effects; ``rma``, else the default: meta-regression with
        the fit's estimator and inference; ``lm``: weighted least squares with multiplicative dispersion, the authors'
        own; ``ee``: equal effects.
    predictor : {"sei", "sqrtninv"}
        The standard error and the variance, or 1 / sqrt(n) and 1 / n, to take where the standard error holds more
        than the sample size.
    alpha : float
        Level of PET's one-sided test, in the direction of the mean.
    cluster : str
        Column of the studies.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    PetPeese
        `NotApplicable` numbers where no slope can be told.

    Raises
    ------
    InputError
        A model with moderators; no sample sizes; ``che`` with a single study.

    Warns
    -----
    DependenceWarning
        Another model than ``che`` although some study has several effects.

    Notes
    -----
    R: ``rma(yi, vi, mods = ~ sqrt(vi))`` and ``~ vi``, or ``lm(yi ~ sqrt(vi), weights = 1/vi)``. Stanley &
    Doucouliagos (2014, doi:10.1002/jrsm.1095); Stanley (2017, doi:10.1177/1948550617693062) on where it fails.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), test="z").fit()
    >>> bias.pet_peese(fit, model="lm").tidy()["estimate"].round(4).to_dict()
    {'PET': 0.0579, 'PEESE': 0.0964, 'PET-PEESE': 0.0579}
    """
    source = given(fit, "pet_peese", cluster=cluster, level=level)
    check_option("predictor", predictor, Imprecision)
    used = model or ("che" if source.dependent else "rma")
    check_option("model", used, RegressionModel)
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha={alpha!r} is the level of a one-sided test and must lie between 0 and 0.5")
    name = "sei" if predictor == "sei" else "sqrtninv"
    own: dict[str, Any] = {"model": used, "predictor": name}
    why = why_no_slope(source, predictor_values(source, name))
    if why is not None:
        gone = dict.fromkeys(("slope", "slope_se"), NotApplicable(why))
        lines = {one.called.lower(): not_adjusted(one, source, why, **gone) for one in (Pet, Peese)}
        return not_adjusted(PetPeese, source, why, chosen="", **own, **lines)
    pet, peese = (_line(kind, source, at, used, cluster) for kind, at in ((Pet, name), (Peese, SQUARES[name])))
    finds = source.sign * pet.estimate > 0 and 0.5 * pet.pval < alpha
    chosen = peese if finds else pet
    numbers = {one: getattr(chosen, one) for one in ("estimate", "se", "ci_lb", "ci_ub", "pval")}
    facts = {one: getattr(chosen, one) for one in ("k", "studies", "level", "measure", "provenance", "notes")}
    return PetPeese(**numbers, **facts, pet=pet, peese=peese, chosen=chosen.called, **own)


def _line(kind: Any, source: Given, predictor: str, model: str, cluster: Any) -> Any:
    found, name = with_predictor(source, predictor_values(source, predictor), predictor, model, cluster)
    at = found.names.index(name)
    slope = {"slope": float(found.beta[at]), "slope_se": float(found.se[at])}
    return adjusted(kind, source, found, notes=size_notes(source, predictor), **slope)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Uwls(Adjusted):
    """Unrestricted weighted least squares: the equal-effects mean with an error that allows for heterogeneity.

    Attributes
    ----------
    estimate, se, ci_lb, ci_ub, pval, k, studies, level, measure, notes
        As in every adjusted mean.
    """

    called: ClassVar[str] = "UWLS"
    assumes: ClassVar[str] = "bias is the smaller the more precise a study is"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Uwls3(Adjusted):
    """UWLS of correlations with three more degrees of freedom, which takes away its small-sample bias.

    Attributes
    ----------
    estimate, se, ci_lb, ci_ub, pval, k, studies, level, measure, notes
        As in every adjusted mean.
    """

    called: ClassVar[str] = "UWLS+3"
    assumes: ClassVar[str] = "bias is the smaller the more precise a study is; correlations of n people"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Waap(Adjusted):
    """Weighted average of the adequately powered.

    Attributes
    ----------
    powered : int
        Effects with 80% power to find the UWLS mean.
    fallback : bool
        Whether fewer than two had it, so that `estimate` is UWLS.
    """

    called: ClassVar[str] = "WAAP-UWLS"
    assumes: ClassVar[str] = "effects with 80% power escape selection"

    powered: int
    fallback: bool


def uwls(fit: Any, *, cluster: Any = STUDY, level: float | None = None) -> Uwls:
    r"""Average the effects by precision alone, with a standard error that grows with their heterogeneity.

    A random-effects mean gives small studies nearly the weight of large ones, and with it their bias. This one keeps
    the weights of equal effects and widens the interval by how much the effects differ. Where studies have several
    effects the standard error is read off whole studies (CR2).

    Parameters
    ----------
    fit : a fitted model without moderators
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    Uwls

    Raises
    ------
    InputError
        A model with moderators; several effects, all of one study.

    Notes
    -----
    .. math:: \hat\mu = \sum w_i y_i / \sum w_i, \quad
              se^2 = \frac{\sum w_i (y_i - \hat\mu)^2}{(k - 1) \sum w_i}, \quad w_i = 1 / v_i

    R: ``lm(yi ~ 1, weights = 1/vi)``. Stanley & Doucouliagos (2015, doi:10.1002/sim.6481).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> bias.uwls(fit).tidy().round(3)[["estimate", "se"]].values.tolist()
    [[0.125, 0.027]]
    """
    source = given(fit, "uwls", cluster=cluster, level=level)
    return _weighted(Uwls, source)


def _weighted(kind: Any, source: Given, effects: EffectSizes | None = None, **own: Any) -> Any:
    """Return the least-squares mean of the effects given, as an adjusted mean."""
    if source.k < 2:
        return not_adjusted(kind, source, "needs at least 2 effects", **own)
    choices = {"method": "EE", "test": "knha", "tau2": None, "weights": None, "tau2_min": 0.0}
    return adjusted(kind, source, independent(source, effects=effects, **choices), **own)


def uwls3(fit: Any, *, cluster: Any = STUDY, level: float | None = None) -> Uwls3:
    r"""Average correlations as `uwls` does, after taking away the bias that they have in small samples.

    The variance of a correlation depends on the correlation itself, so that averages weighted by precision lean to
    where r happens to be large. With three degrees of freedom added to each r's t statistic next to nothing of that
    is left, whether or not studies are missing.

    Parameters
    ----------
    fit : a fitted model of correlations without moderators
        On Fisher z the degrees of freedom follow from the variance, 1 / v + 1 (n - 2 for a plain correlation); on raw
        r they are n - 2.
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study; where it has several, standard errors are CR2.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    Uwls3
        On the analysis scale: averaged as r, and turned into Fisher z where the effects are; a limit beyond r = 1 is
        infinite there.

    Raises
    ------
    InputError
        Effects that are no correlations, or raw ones without sample sizes; a model with moderators.

    Notes
    -----
    .. math:: r'_i = t_i / \sqrt{t_i^2 + df_i + 3}, \quad v'_i = (1 - r'^2_i) / (df_i + 3)

    Stanley, Doucouliagos & Havranek (2024, doi:10.1002/jrsm.1704; 2025, doi:10.1017/rsm.2025.5).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> round(bias.uwls3(fit).on_r[0], 3)
    0.126
    """
    source = given(fit, "uwls3", cluster=cluster, level=level)
    effects = source.effects
    r, df = _correlations(effects)
    yi, vi = plus_three(r, df)
    found: Uwls3 = _weighted(Uwls3, source, replace(effects, yi=yi, vi=vi, measure="COR", columns={}))
    return found if effects.measure == "COR" else _on_z(found)


def _correlations(effects: EffectSizes) -> tuple[Array, Array]:
    """Return r and its degrees of freedom, (k,) each."""
    r = np.tanh(effects.yi) if effects.measure == "ZCOR" else effects.yi
    if effects.measure in ("ZCOR", "COR") and not (np.abs(r) < 1.0).all():
        perfect = [effects.slab[int(i)] for i in np.flatnonzero(~(np.abs(r) < 1.0))[:5]]
        raise InputError(f"uwls3: a correlation of 1 or beyond has no sampling variance ({', '.join(perfect)})")
    if effects.measure == "ZCOR":
        return r, 1.0 / effects.vi + 1.0
    if effects.measure != "COR":
        raise InputError(f"uwls3 is for correlations (ZCOR or COR), and these effects are {effects.measure}; see uwls")
    n = effects.ni
    if n is None or not (n > 2).all():
        raise InputError("uwls3 needs the sample size of every raw correlation, above 2; give ni=")
    return r, n - 2.0


def _on_z(found: Uwls3) -> Uwls3:
    """Return a mean of r as Fisher z; limits beyond 1 are infinite there."""
    with np.errstate(divide="ignore"):
        points = {one: float(np.arctanh(np.clip(getattr(found, one), -1, 1))) for one in ("estimate", "ci_lb", "ci_ub")}
    gone = {one: getattr(found, one) for one in points if isinstance(getattr(found, one), NotApplicable)}
    se = found.se if isinstance(found.se, NotApplicable) else found.se / (1.0 - found.estimate**2)
    return replace(found, **(points | gone), se=se, measure="ZCOR")


def waap(fit: Any, *, cluster: Any = STUDY, level: float | None = None) -> Waap:
    """Average only the effects that had 80% power to find the mean; where fewer than two had, all of them (`uwls`).

    A study with enough people finds what is there, and is published for it. Studies that were too small needed luck,
    and those that had none are missing. What counts as large enough hangs on the mean effect, which `uwls` estimates:
    a standard error of at most that mean over 2.8.

    Parameters
    ----------
    fit : a fitted model without moderators
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects one study; where it has several, standard errors are CR2.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    Waap
        ``.powered`` effects were averaged, unless ``.fallback`` says that it is UWLS.

    Raises
    ------
    InputError
        A model with moderators; several effects, all of one study.

    Notes
    -----
    Ioannidis, Stanley & Doucouliagos (2017, doi:10.1111/ecoj.12461); Stanley, Doucouliagos & Ioannidis (2017,
    doi:10.1002/sim.7228). Effects of one study count as one study here: at least two must be powered.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> found = bias.waap(RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit())
    >>> found.powered, found.fallback, round(found.estimate, 3)
    (26, False, 0.203)
    """
    source = given(fit, "waap", cluster=cluster, level=level)
    whole: Uwls = _weighted(Uwls, source)
    keep: Mask = source.sei * ADEQUATE <= abs(whole.estimate) if whole.estimate == whole.estimate else source.sei < 0
    powered = int(keep.sum())
    fallback = len(set(source.cluster[keep].tolist())) < 2
    found = whole if fallback else _powered(source, keep)
    numbers = {one: getattr(found, one) for one in ("estimate", "se", "ci_lb", "ci_ub", "pval", "k", "studies")}
    notes = found.notes
    if fallback and whole.estimate == whole.estimate:
        many = "No effect has" if powered == 0 else f"{powered} effect{'s' if powered > 1 else ''} of one study had"
        text = f"{many} 80% power to find the mean: this is UWLS of all {source.k} effects."
        notes = merge_notes(notes, (Note("waap-fallback", text),))
    own: dict[str, Any] = {"powered": powered, "fallback": fallback, "notes": notes}
    return Waap(**about(source) | numbers, **own)


def _powered(source: Given, keep: Mask) -> Uwls:
    """Return the least-squares mean of some effects."""
    with quiet(DependenceWarning):
        part = RandomEffectsModel(source.effects.take(keep), method="EE", test="z", level=source.level).fit()
    found: Uwls = _weighted(Uwls, given(part, "waap", cluster=source.cluster[keep]))
    return found
