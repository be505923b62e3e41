"""Meta-analytic models written in PyMC: each function returns a `pymc.Model`, ready for `bayes.sample`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.design import INTERCEPT, Design, build_design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError
from alliance_meta.notes import Note, merge_notes

if TYPE_CHECKING:
    import pymc as pm

MU_SD = 0.5
BETA_SD = 0.25
TAU_SCALE = 0.3

__all__ = ["normal_normal"]


def normal_normal(
    effects: EffectSizes,
    *,
    mods: str = "1",
    mu_mean: float = 0.0,
    mu_sd: float = MU_SD,
    beta_sd: float = BETA_SD,
    tau_scale: float = TAU_SCALE,
) -> pm.Model:
    r"""Random-effects model, or meta-regression, with each study's own true effect integrated out.

    Studies differ. The model estimates the mean of their true effects and how much these vary, and starts
    from a prior: a mean correlation between about -.75 and .75, and a variation between studies that is
    rarely above .6. What comes out is a probability for each value of the mean and of the variation.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none; it must have an intercept.
    mu_mean, mu_sd : float
        Normal prior of the mean effect, on the scale of `effects`.
    beta_sd : float
        Standard deviation of the normal prior of what one standard deviation of a moderator changes; a
        coefficient's own prior is this divided by the standard deviation of its column, so that the unit of
        the moderator does not matter.
    tau_scale : float
        Scale of the half-normal prior of tau. With .3 half of the prior lies below tau = .20 and 95 % below .59.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` and, with moderators, ``beta`` (per unit) and ``intrcpt``; ``mu`` is then
        the mean effect at the average of the moderators. The data are ``yi``, ``vi`` and ``X`` (centred),
        so ``pymc.set_data`` refits the same model to other studies, also to more or fewer of them.
        ``.notes`` is a tuple of Note that `bayes.sample` hands on.

    Raises
    ------
    InputError
        `effects` are not EffectSizes; a prior's standard deviation is not a positive number.
    DesignError
        A formula without intercept, an unknown moderator, one with a single level.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta, v_i + \tau^2), \quad \mu \sim N(m, s^2), \quad \tau \sim N^+(0, a^2)

    The studies' true effects are integrated out because sampling them as well goes wrong when tau is near 0.
    The default priors are this package's own choice, weakly informative for correlations on Fisher z; for such
    priors of tau in general see Röver et al. (2021, doi:10.1002/jrsm.1475). With k = 1 the data hardly speak
    about tau, and its posterior is close to its prior.
    R: ``bayesmeta(y, sigma, mu.prior = c(0, 0.5), tau.prior = function(t) dhalfnormal(t, scale = 0.3))``.
    The model assumes independent effects.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("kolden2011"))
    >>> model = am.bayes.pymc.normal_normal(es)
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'tau']
    """
    if not isinstance(effects, EffectSizes):
        raise InputError(f"normal_normal needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    _check_priors(mu_mean, mu_sd=mu_sd, beta_sd=beta_sd, tau_scale=tau_scale)
    design = build_design(mods, effects.moderators, labels=effects.slab)
    if not design.has_intercept:
        raise DesignError(f"mods={mods!r} has no intercept; the priors are for a mean effect and for differences")
    if not design.rows.all():
        effects = effects.take(design.rows, step=f"{int(design.rows.sum())} effects with every moderator")

    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi = pm.Data("yi", effects.yi, dims="study")
        vi = pm.Data("vi", effects.vi, dims="study")
        mu = pm.Normal("mu", mu_mean, mu_sd)
        mean = mu if design.p == 1 else _regression(pm, mu, design, beta_sd)
        tau = pm.HalfNormal("tau", tau_scale)
        pm.Normal("y", mean, pm.math.sqrt(vi + tau**2), observed=yi, dims="study")
    default = (mu_mean, mu_sd, tau_scale) == (0.0, MU_SD, TAU_SCALE)
    model.notes = merge_notes(effects.notes, design.notes, _scale_notes(effects) if default else ())
    return model


def _regression(pm: Any, mu: Any, design: Design, beta_sd: float) -> Any:
    """Add the moderators to the model in context and return the mean of each effect."""
    columns = [j for j, name in enumerate(design.names) if name != INTERCEPT]
    X = design.X[:, columns]
    centre = X.mean(axis=0)
    pm.modelcontext(None).add_coord("coefficient", [design.names[j] for j in columns])
    centred = pm.Data("X", X - centre, dims=("study", "coefficient"))
    beta = pm.Normal("beta", 0.0, beta_sd / X.std(axis=0), dims="coefficient")
    pm.Deterministic("intrcpt", mu - (beta * centre).sum())
    return mu + (centred * beta).sum(axis=-1)


def _check_priors(mu_mean: float, **scales: float) -> None:
    if not np.isfinite(mu_mean):
        raise InputError(f"mu_mean={mu_mean!r} is not a finite number")
    wrong = [f"{name}={value!r}" for name, value in scales.items() if not (np.isfinite(value) and value > 0)]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: the spread of a prior is a positive number")


def _scale_notes(effects: EffectSizes) -> tuple[Note, ...]:
    if effects.measure in ("ZCOR", "COR", "UCOR"):
        return ()
    return (
        Note(
            "prior-scale",
            f"The priors (mu: normal, sd {MU_SD:g}; tau: half-normal, scale {TAU_SCALE:g}) are meant for "
            f"correlations; these effects are on another scale ({effects.scale_label}). Choose mu_sd and tau_scale.",
        ),
    )
