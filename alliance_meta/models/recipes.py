"""Working models of dependent effects with a name: CHE, SCE and CHE+, each with cluster-robust inference."""

from __future__ import annotations

from typing import Any

import pandas as pd

from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.effects.dependent.groups import ROWS, column, read_clusters
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import InputError
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.notes import RobustType, check_option, did_you_mean
from alliance_meta.results.robust import RobustResults

DEFAULT_RHO = 0.6
OWN = ("V", "random", "struct", "R")


def che(
    effects: EffectSizes,
    *,
    mods: str = "1",
    cluster: str = "study_id",
    rho: float = DEFAULT_RHO,
    V: Any = None,
    type: RobustType = "CR2",
    **model: Any,
) -> RobustResults:
    r"""Fit the correlated and hierarchical effects model, with cluster-robust inference.

    Effects of one study are alike for two reasons: the study's people are the same in all of them, so that their
    errors go together (*correlated*), and its true effects differ less from each other than from those of other
    studies (*hierarchical*). This model describes both; standard errors are then read off whole studies, so that
    they hold even where the description is wrong. It is the usual choice where studies report several raters,
    measures or times of one sample.

    Parameters
    ----------
    effects : EffectSizes
    mods : str
        Right-hand side of a formula over the moderators.
    cluster : str
        Column of the studies, or whatever is independent of each other.
    rho : float
        Assumed correlation of the sampling errors of two effects of one cluster; vary it and compare.
    V : SamplingCovariance, optional
        The sampling covariance itself, in place of `rho`: `impute_V` with raters or times, or `rcalc`.
    type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}
        The small-sample adjustment.
    **model
        Passed to `MultilevelModel`: ``method``, ``test``, ``dfs``, ``level``, ``fixed``.

    Returns
    -------
    RobustResults
        ``.fit`` is the `MultilevelResults` of the working model.

    Raises
    ------
    InputError
        Effects without a cluster, or all in one; `rho` and `V` both given; a setting that is the recipe's own.

    See Also
    --------
    sce : other levels of a moderator as if from other people, a variance for each.
    che_plus : this model with a within-study variance for each level of a moderator.
    sensitivity.rho_grid : ``rho_grid(lambda rho: che(effects, rho=rho))``.

    Notes
    -----
    .. math:: y_{ij} = x_{ij}\beta + u_j + w_{ij} + e_{ij}, \quad u_j \sim N(0, \sigma^2_1), \;
              w_{ij} \sim N(0, \sigma^2_2), \; cov(e_{hj}, e_{ij}) = \rho \sqrt{v_{hj} v_{ij}}

    Pustejovsky & Tipton (2022, doi:10.1007/s11121-021-01246-3). R, the column ``es_id`` being the row number::

        V <- vcalc(vi, cluster=study_id, obs=es_id, data=dat, rho=0.6)
        fit <- rma.mv(yi, V, random = ~ 1 | study_id/es_id, data=dat)
        coef_test(fit, vcov="CR2", cluster=dat$study_id)

    Examples
    --------
    >>> from alliance_meta import che, escalc, load_dataset
    >>> es = escalc(load_dataset("crede2010"))
    >>> fit = che(es)
    >>> fit.fit.sigma2.round(4).tolist(), round(float(fit.beta[0]), 4), round(float(fit.ddf[0]), 1)
    ([0.0212, 0.0341], 0.454, 63.6)
    """
    _check(effects, cluster, model, type)
    V = _covariance(effects, cluster, rho, V)
    fit = MultilevelModel(effects, V=V, mods=mods, random=f"{cluster}/{ROWS}", **model).fit()
    return fit.robust(cluster=cluster, type=type)


def sce(
    effects: EffectSizes,
    *,
    subgroup: str,
    mods: str | None = None,
    cluster: str = "study_id",
    rho: float = DEFAULT_RHO,
    type: RobustType = "CR2",
    **model: Any,
) -> RobustResults:
    r"""Fit the subgroup correlated effects model, with cluster-robust inference.

    The effects are sorted by one moderator, say the rater of the alliance. Each level gets its own variance between
    studies, and its mean rests on the effects of that level alone: what a study says about therapists' ratings tells
    nothing about clients'. That is a meta-analysis of each level, fitted together so that the levels can be compared
    although the same studies speak for several of them.

    Parameters
    ----------
    effects : EffectSizes
    subgroup : str
        The moderator whose levels are kept apart.
    mods : str, optional
        Right-hand side of a formula; by default one mean for each level of `subgroup`.
    cluster, rho, type, **model
        As for `che`; `rho` holds between effects of one level, errors of different levels are independent.

    Returns
    -------
    RobustResults
        ``.fit`` is the `MultilevelResults` of the working model, ``.test(subgroup)`` asks whether every mean is 0;
        for differences, fit with ``mods=subgroup``.

    Raises
    ------
    InputError
        As for `che`; a `subgroup` that is no moderator, has empty cells or a single level.

    See Also
    --------
    che : the levels share what a study tells.

    Notes
    -----
    .. math:: y_{ij} = x_{ij}\beta + u_{c(ij),j} + e_{ij}, \quad u_{cj} \sim N(0, \tau^2_c)

    with c(ij) the level of an effect; random effects and errors of different levels are independent. A level's true
    effects do not vary within a study. Pustejovsky & Tipton (2022, doi:10.1007/s11121-021-01246-3). R::

        V <- vcalc(vi, cluster=study_id, subgroup=rater, obs=es_id, data=dat, rho=0.6)
        fit <- rma.mv(yi, V, mods = ~ 0 + rater, random = ~ rater | study_id, struct="DIAG", data=dat)
        coef_test(fit, vcov="CR2", cluster=dat$study_id)

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.models import sce
    >>> es = escalc(load_dataset("crede2010"))
    >>> sce(es, subgroup="criterion").tidy()["estimate"].round(3).to_dict()
    {'criterion[gpa]': 0.36, 'criterion[grade]': 0.492}
    """
    _check(effects, cluster, model, type)
    means = _check_subgroup(effects, subgroup)
    V = impute_V(effects, cluster=cluster, subgroup=subgroup, rho=rho)
    random = f"{subgroup} | {cluster}"
    fit = MultilevelModel(
        effects, V=V, mods=means if mods is None else mods, random=random, struct="DIAG", **model
    ).fit()
    return fit.robust(cluster=cluster, type=type)


def che_plus(
    effects: EffectSizes,
    *,
    subgroup: str,
    mods: str = "1",
    cluster: str = "study_id",
    rho: float = DEFAULT_RHO,
    V: Any = None,
    type: RobustType = "CR2",
    **model: Any,
) -> RobustResults:
    r"""Fit CHE with a within-study variance for each level of a moderator, with cluster-robust inference.

    Clients' ratings of the alliance may scatter more from measure to measure than observers'. `che` gives all
    effects one variance within studies; here each level of `subgroup` has its own. Studies still share one mean true
    effect across levels. "CHE+" means other additions elsewhere: report the formula.

    Parameters
    ----------
    effects : EffectSizes
    subgroup : str
        The moderator whose levels differ in variance.
    mods, cluster, rho, V, type, **model
        As for `che`. `subgroup` is no moderator of the mean unless `mods` names it.

    Returns
    -------
    RobustResults
        ``.fit`` is the `MultilevelResults` of the working model; the level must be named for a prediction interval,
        ``fit.predict({"rater": ["client"]})``.

    Raises
    ------
    InputError
        As for `sce`.

    Notes
    -----
    .. math:: y_{ij} = x_{ij}\beta + u_j + w_{ij} + e_{ij}, \quad u_j \sim N(0, \sigma^2), \;
              w_{ij} \sim N(0, \tau^2_{c(ij)}), \; cov(e_{hj}, e_{ij}) = \rho \sqrt{v_{hj} v_{ij}}

    An extension of the working models of Pustejovsky & Tipton (2022, doi:10.1007/s11121-021-01246-3). A level with
    one effect per study can hardly tell its variance from the sampling errors. R::

        V <- vcalc(vi, cluster=study_id, obs=es_id, data=dat, rho=0.6)
        fit <- rma.mv(yi, V, random = list(~ 1 | study_id, ~ rater | es_id), struct="DIAG", data=dat)
        coef_test(fit, vcov="CR2", cluster=dat$study_id)

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.models import che_plus
    >>> es = escalc(load_dataset("crede2010"))
    >>> fit = che_plus(es, subgroup="criterion")
    >>> fit.components["estimate"].astype(float).round(4).tolist()
    [0.0254, 0.0249, 0.0444]
    """
    _check(effects, cluster, model, type)
    _check_subgroup(effects, subgroup)
    V = _covariance(effects, cluster, rho, V)
    ids = column(effects, ROWS, "random")
    random = (cluster, f"{subgroup} | {ROWS if pd.Series(ids).is_unique else f'{cluster}/{ROWS}'}")
    fit = MultilevelModel(effects, V=V, mods=mods, random=random, struct="DIAG", **model).fit()
    return fit.robust(cluster=cluster, type=type)


def _check(effects: Any, cluster: Any, model: dict[str, Any], type: Any) -> None:
    check_effects(effects, "a recipe")
    if not isinstance(cluster, str):
        raise InputError(
            "cluster must name a column, which becomes a random term; add the clusters to the moderators of the effects"
        )
    own = [name for name in OWN if name in model]
    if own:
        raise InputError(f"{', '.join(own)}: the recipe sets this itself; write another model with MultilevelModel")
    check_option("type", type, RobustType)
    clusters = read_clusters(effects, cluster)
    if clusters.n < 2:
        raise InputError(
            f"cluster={cluster!r} holds every effect in one cluster ({clusters.labels[0]}); cluster-robust inference "
            "compares clusters and needs at least 2"
        )


def _covariance(effects: EffectSizes, cluster: str, rho: float, V: Any) -> Any:
    if V is None:
        return impute_V(effects, cluster=cluster, rho=rho)
    if rho != DEFAULT_RHO:
        raise InputError("give either V, which holds every covariance, or rho")
    return V


def _check_subgroup(effects: EffectSizes, subgroup: Any) -> str:
    """Check the moderator of a recipe and return the formula with one mean for each of its levels."""
    frame = effects.moderators
    if not isinstance(subgroup, str) or subgroup not in frame:
        known = [str(name) for name in frame.columns]
        raise InputError(
            f"subgroup={subgroup!r} is not a column{did_you_mean(str(subgroup), known)}; columns: {', '.join(known)}"
        )
    column = frame[subgroup]
    empty = [effects.slab[i] for i in column.isna().to_numpy().nonzero()[0]]
    if empty:
        raise InputError(
            f"subgroup={subgroup!r} is empty for {len(empty)} of {effects.k} effects ({', '.join(empty[:5])}"
            f"{' ...' if len(empty) > 5 else ''}); fill the cells, or leave the rows out"
        )
    if column.nunique() < 2:
        raise InputError(f"subgroup={subgroup!r} is {column.iloc[0]!r} throughout: there is nothing to tell apart")
    return f"0 + C({subgroup})" if pd.api.types.is_numeric_dtype(column) else f"0 + {subgroup}"
