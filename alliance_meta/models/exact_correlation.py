"""`ExactCorrelationModel`: random effects with the exact sampling density of each correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations.likelihood import CorrelationFit, correlations, fit_correlations
from alliance_meta.core.univariate.fit import estimate_tau2, fixed_tau2
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.design import design_of
from alliance_meta.effects.sizes import pearson
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import ConvergenceWarning, TruncationWarning
from alliance_meta.notes import Note, check_level, merge_notes, warn_note
from alliance_meta.results.exact_correlation import ExactCorrelationResults

SMALLEST_N = 3


@dataclass(frozen=True, eq=False)
class ExactCorrelationModel:
    r"""Random-effects model of correlations without the normal approximation to Fisher's z.

    The usual analysis treats Fisher's z of each observed correlation as normal with variance 1 / (n - 3) and
    without bias. In small samples neither is quite true. Here each study enters through the exact probability
    density of its r, given its true correlation and its n; the true correlations vary between studies as in
    the usual model. With large samples both models agree; with small ones this is the better founded.

    Parameters
    ----------
    effects : EffectSizes
        Fisher z (``ZCOR``) or raw correlations (``COR``) with their sample sizes, from `escalc`; n >= 3.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    level : float
        Confidence level of every interval, a fraction.

    See Also
    --------
    RandomEffectsModel : The usual model, with REML and small-sample inference, which this one has not.

    Notes
    -----
    .. math:: r_i \sim f(\cdot \mid \rho_i, n_i), \quad \operatorname{artanh} \rho_i \sim N(x_i'\beta, \tau^2)

    with f from Hotelling (1953, J. Royal Statistical Society B 15, 193-232), for bivariate normal data. Maximum
    likelihood, so tau2 is on average too small with few studies, as ML always is; intervals from the profile
    likelihood. The mean moves by about minus the mean of r / (2 (n - 1)) against the usual model, the known
    bias of Fisher's z. For zero-order Pearson correlations only: not for partial, corrected (``UCOR``) or
    disattenuated ones, nor for pooled correlations. metafor has no counterpart.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.models import ExactCorrelationModel
    >>> fit = ExactCorrelationModel(escalc(load_dataset("molloy2014"))).fit()
    >>> fit.compare().loc["intrcpt"].round(4).to_dict()
    {'exact': 0.1482, 'normal': 0.1487, 'difference': -0.0005}
    """

    effects: EffectSizes
    mods: str = "1"
    level: float = 0.95

    def __post_init__(self) -> None:
        check_effects(self.effects, "ExactCorrelationModel")
        check_level(self.level)
        pearson(self.effects)

    def fit(self) -> ExactCorrelationResults:
        """Fit the model.

        Returns
        -------
        ExactCorrelationResults

        Raises
        ------
        DesignError
            An unknown moderator, one with a single level, more coefficients than effects.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, TruncationWarning, ConvergenceWarning, DependenceWarning
            Each also stands in ``.notes`` of the result.
        """
        design = design_of(self.mods, self.effects)
        effects = design.taking_part(self.effects)
        r, n = pearson(effects)
        data = correlations(r, n)
        # One or two n of 3 have no finite variance of z; the usual model then leaves them next to no weight.
        batch = make_batch(data.z, 1.0 / np.maximum(n - 3.0, 1e-6), design.X)
        tau2 = estimate_tau2(batch, method="ML") if effects.k > design.p else fixed_tau2(0.0)
        normal = wls(batch, tau2.tau2)
        start = np.append(normal.beta[0], tau2.tau2[0])
        fitted = fit_correlations(data, design.X, start=start)
        return ExactCorrelationResults(
            effects=effects,
            design=design,
            level=self.level,
            fitted=fitted,
            normal=normal,
            normal_tau2=tau2,
            notes=merge_notes(effects.notes, design.notes, _notes(fitted, n), dependence_notes(effects, stacklevel=4)),
        )


def _notes(fitted: CorrelationFit, n: Array) -> list[Note]:
    notes = []
    if not fitted.converged:
        message = f"The search had not settled after {fitted.iterations} steps; do not use this fit."
        notes.append(warn_note("not-converged", message, ConvergenceWarning, stacklevel=4))
    if not fitted.tau2 > 0:
        message = "tau2 (ML) is 0: the correlations vary no more than their sampling errors explain."
        notes.append(warn_note("tau2-truncated", message, TruncationWarning, stacklevel=4))
    if (n == SMALLEST_N).any():
        message = (
            f"{int((n == SMALLEST_N).sum())} effects have n = 3: they count here, but next to nothing in the usual "
            "model, whose variance 1 / (n - 3) is infinite for them."
        )
        notes.append(Note("n-three", message))
    return notes
