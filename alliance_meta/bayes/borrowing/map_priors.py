"""What a synthesis says about the next study before it is run: the meta-analytic predictive (MAP) prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.borrowing.map_results import MapPrior
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.core.bayes.map_prior import FewNormals, few_normals
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

# Normals are added until no probability is off by more than this.
NEAR = 2e-3
MOST_NORMALS = 4
MOST_ASKED = 6


def map_prior(
    fit: BayesianResults,
    *,
    newdata: pd.DataFrame | Mapping[str, Any] | None = None,
    robust: float = 0.0,
    vague: Normal | None = None,
    components: int | None = None,
    unit_sd: float | None = None,
) -> MapPrior:
    """Return what a synthesis says about the true effect of a new study: its MAP prior.

    Somebody plans a study like those of the synthesis. Before its first client is seen, the synthesis already says
    which correlations are plausible in it. This is that statement as a prior distribution, with the number of
    clients it is worth, and what to believe once the study's own result is in.

    Parameters
    ----------
    fit : BayesianResults
        From `BayesianModel`.
    newdata : DataFrame or mapping, optional
        Moderators of the new study, one row. By default, with moderators, a study at their average.
    robust : float
        Probability, in [0, 1), that the new study is not like the earlier ones and that the vague part applies
        instead. With a part of .1 or .2 a result that contradicts the synthesis is believed; without, it is pulled.
    vague : Normal, optional
        The vague part; by default centred at 0 and worth a single client.
    components : int, optional
        Number of normals of the approximation, 1 to 6; by default up to 4, until no probability is off by more
        than .002.
    unit_sd : float, optional
        Standard deviation of what one client tells, for effects that are not on Fisher's z (where it is 1); the
        effective sample size needs it.

    Returns
    -------
    MapPrior

    Raises
    ------
    InputError
        Another kind of result, `newdata` with other than one row, a probability outside [0, 1), no `vague` for
        effects without `unit_sd`.

    Notes
    -----
    The prior is the posterior of ``theta_new``, the predictive distribution of the true effect that a prediction
    interval is taken from (Neuenschwander et al. 2010, doi:10.1177/1740774509356002). It is exact: a mixture of
    normals over the posterior of tau. The mixture of few normals, which other software can read, has the least
    Kullback-Leibler divergence from it and is used for nothing here. The vague part is that of Schmidli et al.
    (2014, doi:10.1111/biom.12242). With k = 1 the prior hardly narrows what was plausible before. Priors of tau
    that depend on the sampling variances stay those of the studies so far.
    R: ``RBesT::gMAP``, ``automixfit``, ``robustify``, ``ess``.

    Examples
    --------
    >>> import alliance_meta as am
    >>> fit = am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()
    >>> prior = am.bayes.map_prior(fit)
    >>> round(prior.ess(), 1), round(prior.ess("moment"), 1)
    (91.7, 78.8)
    >>> after = prior.update(ri=0.35, ni=60)
    >>> after.tidy(scale="r").loc["posterior", ["median", "ci_lb", "ci_ub"]].round(3).tolist()
    [0.224, 0.074, 0.402]
    """
    _check(fit, robust=robust, vague=vague, components=components, unit_sd=unit_sd)
    row, label = _row(fit, newdata)
    exact = fit.exact.new_effects(row[None])
    z = fit._scale == "z"
    unit = unit_sd if unit_sd is not None else 1.0 if z else NotApplicable("unit_sd was not given")
    chosen = vague or Normal(0.0, float(unit) if unit == unit else 1.0)
    return MapPrior(fit, label, row, float(robust), chosen, unit, _few(exact, components), fit.notes)


def _check(fit: object, *, robust: float, vague: Normal | None, components: int | None, unit_sd: float | None) -> None:
    if not isinstance(fit, BayesianResults):
        raise InputError(f"map_prior needs the result of BayesianModel, not {type(fit).__name__}")
    wrong = []
    if not 0 <= robust < 1:
        wrong.append(f"robust={robust!r} is no probability in [0, 1)")
    if vague is not None and not isinstance(vague, Normal):
        wrong.append(f"vague={vague!r} is not a normal prior, such as am.priors.Normal(0, 1)")
    if components is not None and not (isinstance(components, int) and 1 <= components <= MOST_ASKED):
        wrong.append(f"components={components!r} is not a whole number from 1 to {MOST_ASKED}")
    if unit_sd is not None and not (np.isfinite(unit_sd) and unit_sd > 0):
        wrong.append(f"unit_sd={unit_sd!r} is not a positive number")
    if unit_sd is not None and fit._scale == "z":
        wrong.append("unit_sd is 1 on Fisher's z; leave it away")
    if robust and vague is None and unit_sd is None and fit._scale != "z":
        wrong.append("robust needs vague= or unit_sd= for effects that are not on Fisher's z")
    if wrong:
        raise InputError("map_prior: " + "; ".join(wrong))


def _row(fit: BayesianResults, newdata: pd.DataFrame | Mapping[str, Any] | None) -> tuple[Array, str]:
    """Return the moderators of the new study in the coordinates of the quadrature, and what to call it."""
    if newdata is None or fit.design.formula == "1":
        average = " at the average of the moderators" if fit.design.formula != "1" else ""
        return fit._mean_row, f"a new study{average}"
    X, labels = fit.design.new_rows(newdata)
    if len(X) != 1:
        raise InputError(f"newdata has {len(X)} rows; a prior is for one new study")
    return (X @ coordinates(fit.design))[0], f"a new study with {labels[0]}"


def _few(exact: NormalMixture, components: int | None) -> FewNormals:
    if components is not None:
        return few_normals(exact, components)
    for count in range(1, MOST_NORMALS + 1):
        found = few_normals(exact, count)
        if found.error <= NEAR:
            break
    return found
