"""Models of independent effects with one spread of true effects, written in PyMC: normal, t, and around a curve."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import check_kind
from alliance_meta.bayes.priors import BETA_SD, MU, TAU, Gamma, HalfNormal
from alliance_meta.bayes.priors.prior import LOG_2PI, EffectPrior, Prior, TauPrior
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    Draws,
    NormalScatter,
    add_data,
    add_mean,
    choose,
    independent_recipe,
    normal_effects,
    prepared,
    random_variable,
    results,
    take_part,
)
from alliance_meta.core.distributions import FARTHEST, LEFT, NODES, RIGHT, cdf, log_density
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError
from alliance_meta.notes import Note

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, eq=False)
class SmoothBasis:
    """Functions that bend a line, for values of one variable."""

    knots: Array  # (K,): where cubic pieces meet; beyond the outer two the functions are straight lines
    heights: Array  # (K, K - 2): each function at the knots, before a line is taken from it
    line: Array  # (2, K - 2): intercept and slope of that line

    @property
    def m(self) -> int:
        """Number of functions."""
        return self.heights.shape[1]

    def at(self, x: Array) -> Array:
        """Return the functions at values (n,), as (n, K - 2)."""
        return _natural(self.knots, self.heights, x) - _line_at(self.knots, x) @ self.line


def smooth_basis(x: Array, *, knots: int) -> SmoothBasis:
    r"""Return a natural cubic spline over the values (n,), without its linear part.

    The knots are quantiles of the different values. Coefficients that are independent normal with standard deviation s
    make curves whose density falls with :math:`\int f''(x)^2 dx`, the penalty of a smoothing spline (Wahba 1978,
    J. R. Statist. Soc. B 40, 364-372). The functions are orthogonal to a constant and to x over the values, and scaled
    so that s is the standard deviation of the curve around its line, averaged over the values.

    Needs at least `knots` different values, and 3 knots.
    """
    at = np.quantile(np.unique(x), np.linspace(0.0, 1.0, knots))
    place = _line_at(at, at)[:, 1]
    bend = CubicSpline(place, np.eye(knots), bc_type="natural")(place, 2)
    # f'' is linear between knots, so that its square integrates exactly.
    mass = np.zeros((knots, knots))
    for i, gap in enumerate(np.diff(place)):
        mass[i : i + 2, i : i + 2] += gap / 6.0 * np.array([[2.0, 1.0], [1.0, 2.0]])
    value, vector = np.linalg.eigh(bend.T @ mass @ bend)
    # The two smallest are those of straight lines, 0. Signs are arbitrary: the largest element is made positive.
    vector = vector[:, 2:] * np.sign(vector[np.abs(vector).argmax(axis=0), np.arange(knots)])[2:]
    heights = vector / np.sqrt(value[2:])
    lines = _line_at(at, x)
    line = np.linalg.lstsq(lines, _natural(at, heights, x), rcond=None)[0]
    rest = _natural(at, heights, x) - lines @ line
    scale = np.sqrt((rest**2).sum(axis=1).mean())
    return SmoothBasis(at, heights / scale, line / scale)


def _line_at(knots: Array, x: Array) -> Array:
    """Return a constant and the place between the outer knots, (n, 2)."""
    return np.column_stack([np.ones(len(x)), (x - knots[0]) / (knots[-1] - knots[0])])


def _natural(knots: Array, heights: Array, x: Array) -> Array:
    """Return natural cubic splines through heights (K, m) at the values, straight beyond the outer knots."""
    spline = CubicSpline(knots, heights, bc_type="natural")
    inside = np.clip(x, knots[0], knots[-1])
    return np.asarray(spline(inside) + (x - inside)[:, None] * spline(inside, 1))


# With fewer effects the default steps of the sampler diverge where tau is near 0, and draws are worth less.
FEW, CAREFUL, MORE = 12, 0.99, 2000


def normal_normal(
    effects: EffectSizes,
    *,
    mods: str = "1",
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Random-effects model, or meta-regression, with each study's own true effect integrated out.

    Studies differ. The model estimates the mean of their true effects and how much these vary, starting from
    what was plausible before (the priors). It is the model that `BayesianModel` solves exactly and in
    milliseconds; in PyMC it is there to check the one by the other, and to build on.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    mu_prior : EffectPrior
        Of the mean effect; with moderators, of the mean effect at their average.
    tau_prior : TauPrior
        Of tau, the standard deviation of true effects between studies; proper.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        Of each other coefficient as it is printed (per unit of the moderator), or one for each by name. By
        default normal around 0 with standard deviation .25 for what one standard deviation of the moderator
        changes.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` and, with moderators, ``beta`` (per unit) and ``intrcpt``; ``mu`` is then
        the mean effect at the average of the moderators. The data are ``yi``, ``vi`` and ``X`` (centred).
        ``.recipe`` says how the model was made.

    Raises
    ------
    InputError
        `effects` are not EffectSizes; a prior is of the wrong kind; the prior of tau is improper.
    DesignError
        An unknown moderator, one with a single level.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    See Also
    --------
    BayesianModel : The same model, solved exactly.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta, v_i + \tau^2)

    The studies' true effects are integrated out because sampling them as well goes wrong when tau is near 0.
    With k = 1 the data hardly speak about tau, and its posterior is close to its prior. With few effects tau may be
    near 0, where larger steps diverge, and draws resemble one another: `bayes.sample` then takes smaller steps and
    more draws. The model assumes independent effects. R: ``bayesmeta(y, sigma, mu.prior = c(0, 0.5), tau.prior =
    function(t) dhalfnormal(t, scale = 0.3))``.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("kolden2011"))
    >>> model = am.bayes.pymc.normal_normal(es)
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'tau']
    """
    effects, design, priors = prepared(effects, mods, mu_prior, tau_prior, beta_prior, who="normal_normal")
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi, vi = add_data(effects)
        mean = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        pm.Normal("y", mean, pm.math.sqrt(vi + tau**2), observed=yi, dims="study")

    model.recipe = independent_recipe(
        effects,
        design,
        priors,
        **normal_effects(one_tau),
        model="normal_normal",
        words="the true effects of studies follow a normal distribution",
        scatter=NormalScatter(("tau",)),
        own=lambda some: {"target_accept": CAREFUL, "draws": MORE} if some.k < FEW else {},
    )
    return model


def one_tau(draws: Draws, effects: EffectSizes) -> Array:
    """Return the standard deviation of true effects, (S, 1), the same for all."""
    return draws["tau"][:, None]


NU = Gamma(2.0, 10.0)
# Below this many studies the data cannot tell one outlier from heavy tails.
FEW_FOR_NU = 10


def t_effects(
    effects: EffectSizes,
    *,
    mods: str = "1",
    nu: TauPrior | float = NU,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Random-effects model whose true effects have heavier tails than a normal distribution: a t distribution.

    Now and then a study lies far from all others. A normal distribution of true effects can only make room for it by
    a larger tau, and lets it pull the mean. A t distribution expects a few such studies, and gives them less weight.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    nu : TauPrior or float
        Prior of the degrees of freedom, or a fixed number of them, 1 or more. Small: heavy tails; from about 30 on the
        distribution is all but normal. By default ``Gamma(2, 10)``, with mean 20.
    mu_prior : EffectPrior
        Of the centre of the true effects; with moderators, of the centre at their average.
    tau_prior : TauPrior
        Of tau, the scale of true effects; proper.
    mods, beta_prior
        As in `normal_normal`.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau``, ``nu`` unless it is fixed and, with moderators, ``beta`` and ``intrcpt``. The
        studies' true effects are integrated out.

    Raises
    ------
    InputError
        As in `normal_normal`, warnings too; a fixed `nu` below 1.

    See Also
    --------
    normal_normal : The limit of large `nu`.

    Notes
    -----
    .. math:: y_i \sim N(\theta_i, v_i), \quad (\theta_i - x_i'\beta) / \tau \sim t_\nu

    ``tau`` is the scale: the standard deviation of true effects is :math:`\tau \sqrt{\nu / (\nu - 2)}`, and infinite
    for nu up to 2. The default prior of nu is that of Juárez & Steel (2010, J. Business & Economic Statistics 28,
    52-66), in rates ``gamma(2, 0.1)``. A t distribution is a mixture of normals; the sum over its components takes 48
    nodes, and the log density is then right to 1e-5 for nu >= 1. Few studies say little about nu. R: ``brm(yi | se(sei)
    ~ 1 + (1 | gr(study_id, dist = "student")))``, where nu is at least 1.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> [parameter.name for parameter in am.bayes.pymc.t_effects(es).free_RVs]
    ['mu', 'tau', 'nu']
    >>> [parameter.name for parameter in am.bayes.pymc.t_effects(es, nu=4).free_RVs]
    ['mu', 'tau']
    """
    effects, design, priors = prepared(effects, mods, mu_prior, tau_prior, beta_prior, who="t_effects")
    _check_nu(nu)
    free = isinstance(nu, Prior)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi, vi = add_data(effects)
        mean = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        df = random_variable("nu", nu) if isinstance(nu, Prior) else np.float64(nu)
        pm.CustomDist("y", mean, vi, tau, df, logp=_t_log_density, dist=_t_draw, observed=yi, dims="study")

    def of(function: Callable[..., Array]) -> Callable[..., Array]:
        """Return a function of deviations, variances, tau and nu as one of draws."""
        return lambda draws, fitted, some: function(some.yi - fitted, some.vi, draws["tau"], _nu(draws, nu))

    def scatter(draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        """Draw how far new effects lie from their mean."""
        tau, m = draws["tau"], 1 if newdata is None else len(newdata)
        return tau[:, None] * rng.standard_t(_nu(draws, nu)[:, None], (len(tau), m))

    degrees = "degrees of freedom estimated" if free else f"{nu:g} degrees of freedom"
    model.recipe = independent_recipe(
        effects,
        design,
        priors,
        model="t_effects",
        printed={"nu": nu} if isinstance(nu, Prior) else {},
        words=f"the true effects of studies follow a t distribution with {degrees}, so that outlying studies pull less",
        scatter=scatter,
        log_likelihood=of(log_density),
        cdf=of(cdf),
        own=lambda some: {"notes": _few_for_nu(some.k) if free else []},
    )
    return model


def _check_nu(nu: Any) -> None:
    if isinstance(nu, TauPrior):
        return
    number = isinstance(nu, int | float | np.number) and not isinstance(nu, bool)
    if not number or not 1 <= nu < np.inf:
        raise InputError(
            f"nu={nu!r} must be a prior of positive values, such as am.priors.Gamma(2, 10), or a number of 1 or more; "
            "without heavy tails take normal_normal"
        )


def _nu(draws: Draws, nu: TauPrior | float) -> Array:
    return draws["nu"] if isinstance(nu, Prior) else np.full(len(draws["tau"]), float(nu))


def _few_for_nu(k: int) -> list[Note]:
    message = f"k = {k}: so few effects say little about nu, whose posterior rests on its prior."
    return [Note("prior-bound", message)] if k < FEW_FOR_NU else []


def _t_log_density(value: Any, mean: Any, v: Any, tau: Any, nu: Any) -> Any:
    """Return the log density of results as a function of PyTensor's variables; as `core.distributions.log_density`."""
    pt = load("pytensor.tensor")
    half = 0.5 * nu
    root = pt.sqrt(half)
    low = -1.0 / (1.0 / FARTHEST + 1.0 / (LEFT[0] / half + LEFT[1] / root))
    high = pt.log1p(RIGHT[0] / half + RIGHT[1] / root)
    u = low + (high - low) * np.linspace(0.0, 1.0, NODES)
    log = half * (u - pt.exp(u))
    # At the top of the weights, u = 0, half * (u - exp(u)) is -half.
    weight = log - pt.log(pt.exp(log + half).sum()) + half
    total = v[:, None] + (tau**2 * pt.exp(-u))[None, :]
    away = (value - mean)[:, None] if value.ndim else value - mean
    each = weight[None, :] - 0.5 * (pt.log(total) + away**2 / total)
    # What is taken out of the sum is put back, so that it has no slope.
    top = load("pytensor.gradient").disconnected_grad(each.max(axis=1, keepdims=True))
    return (top[:, 0] + pt.log(pt.exp(each - top).sum(axis=1))) - 0.5 * LOG_2PI


def _t_draw(mean: Any, v: Any, tau: Any, nu: Any, size: Any) -> Any:
    """Return results to be drawn, as variables of PyTensor."""
    pm = load("pymc")
    # One for each study, also where all have the same mean.
    theta = pm.StudentT.dist(nu=nu, mu=mean + 0.0 * v, sigma=tau, size=size)
    return pm.Normal.dist(theta, pm.math.sqrt(v), size=size)


KNOTS = 6
FEWEST_KNOTS = 4
# Half of what the straight part may be by default: a curve has to be earned.
TAU_SMOOTH = HalfNormal(BETA_SD / 2.0)
# Where both tau and tau_smooth may be 0 the usual steps are a little too long.
TARGET_ACCEPT = 0.97


def smooth(
    effects: EffectSizes,
    *,
    by: str,
    mods: str = "1",
    knots: int = KNOTS,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
    smooth_prior: TauPrior = TAU_SMOOTH,
) -> pm.Model:
    r"""Meta-regression in which the mean effect may follow a curve over time, or over any other numeric moderator.

    Did effects grow and then level off? A straight line cannot say so, and a parabola says so too readily. Here the
    mean effect is a straight line plus a smooth deviation from it. How large that deviation is, the data decide:
    without evidence of a bend the curve is close to the line.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    by : str
        The numeric moderator of the curve, such as ``"year"``; at least 4 different values.
    mods : str
        Right-hand side of a formula over other moderators, ``"1"`` for none.
    knots : int
        Places where the curve may change its bend, at least 4; no more than there are different values. More cost time
        and change little, because the deviation is penalised.
    mu_prior : EffectPrior
        Of the mean effect at the average of the moderators.
    tau_prior : TauPrior
        Of tau, the standard deviation of true effects around the curve; proper.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        As in `normal_normal`; the coefficient named `by` is the slope of the line.
    smooth_prior : TauPrior
        Of ``tau_smooth``, how far the curve strays from the line: the standard deviation of that deviation over the
        studies, on the scale of the effects; proper. The default allows half of what the line is allowed to explain.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau``, ``beta`` (one is the slope over `by`), ``intrcpt``, ``tau_smooth`` and ``z``, the
        bends in units of ``tau_smooth``. ``.recipe.fitted(draws, newdata)`` gives the curve at new values.

    Raises
    ------
    InputError
        As in `normal_normal`, warnings too; `by` is not numeric, is also in `mods`, or has fewer than 4 different
        values; fewer than 4 `knots`.
    DesignError
        No intercept.

    See Also
    --------
    normal_normal : With ``mods="year"`` the straight line, to which this model comes down when ``tau_smooth`` is 0.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta + \tau_{smooth} \sum_j g_j(t_i) z_j, v_i + \tau^2), \quad z_j \sim N(0, 1)

    The :math:`g_j` span a natural cubic spline over `by` without its straight part: they are uncorrelated with `by`
    over the studies, so that the slope is that of the straight line through the curve. Small ``tau_smooth`` means small
    :math:`\int f''(t)^2 dt`. Beyond the values of the studies the curve goes on as a straight line, which rests on
    the model alone. True effects are integrated out. R: ``brm(yi | se(sei, sigma = TRUE) ~ s(year, k = 6))``, with
    another basis.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> model = am.bayes.pymc.smooth(es, by="meanage")
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'beta', 'tau', 'tau_smooth', 'z']
    """
    effects, design, basis = _curve(effects, by, mods, knots)
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    check_kind(smooth_prior, TauPrior, "smooth_prior")
    smooth_prior = smooth_prior.given(effects.vi)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab), "bend": [f"{by} {j + 1}" for j in range(basis.m)]}) as model:
        yi, vi = add_data(effects)
        line = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        tau_smooth = random_variable("tau_smooth", smooth_prior)
        z = pm.Normal("z", 0.0, 1.0, dims="bend")
        G = pm.Data("G", basis.at(_values(effects, by)), dims=("study", "bend"))
        curve = tau_smooth * (G * z).sum(axis=-1)
        pm.Normal("y", line + curve, pm.math.sqrt(vi + tau**2), observed=yi, dims="study")

    model.recipe = independent_recipe(
        effects,
        design,
        priors,
        **normal_effects(one_tau),
        model="smooth",
        printed={"tau_smooth": smooth_prior},
        words=(
            f"the mean effect follows a smooth curve over {by} (a straight line and a penalised natural cubic spline "
            f"with {len(basis.knots)} knots), and the true effects of studies a normal distribution around it"
        ),
        scatter=NormalScatter(("tau",)),
        arrays=lambda some: results(some) | {"G": basis.at(_values(some, by))},
        shift=lambda draws, data: (
            draws["tau_smooth"][:, None] * (draws["z"] @ basis.at(data[by].to_numpy(dtype=float)).T)
        ),
        curve=by,
        target_accept=TARGET_ACCEPT,
    )
    return model


def _curve(effects: EffectSizes, by: str, mods: str, knots: int) -> tuple[EffectSizes, Design, SmoothBasis]:
    """Return the effects with every moderator, the design of the straight part and the bends."""
    name = by if by.isidentifier() else f"`{by}`"
    others = mods.strip().lstrip("~").strip()
    if re.search(rf"(?<!\w){re.escape(by)}(?!\w)", others):
        raise InputError(f"{by!r} is in mods={mods!r} too; by={by!r} already stands for the line and the curve")
    effects, design = take_part(effects, name if others in ("", "1") else f"{others} + {name}", who="smooth")
    if not design.has_intercept:
        raise DesignError(f"mods={mods!r} has no intercept; the curve is a deviation from a mean, which needs one")
    if by in design.levels or by not in design.names:
        raise InputError(f"by={by!r} is not a number in every effect, or says nothing beyond {others!r}")
    x = _values(effects, by)
    different = len(np.unique(x))
    if isinstance(knots, bool) or not isinstance(knots, int | np.integer) or knots < FEWEST_KNOTS:
        raise InputError(f"knots={knots!r} must be a whole number of at least {FEWEST_KNOTS}")
    if different < FEWEST_KNOTS:
        raise InputError(
            f"{by!r} has {different} different values; a curve needs at least {FEWEST_KNOTS}. Use normal_normal with "
            f"mods={by!r} for a straight line"
        )
    return effects, design, smooth_basis(x, knots=min(int(knots), different))


def _values(effects: EffectSizes, by: str) -> Array:
    return effects.moderators[by].to_numpy(dtype=float)
