"""`MultilevelResults`: what a fitted model of dependent effects knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.mixed.search import MixedFit
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import Note
from alliance_meta.options import RobustType, Scale
from alliance_meta.results import multilevel_predictions as predictions
from alliance_meta.results.components import RandomTerm
from alliance_meta.results.contrasts import contrast
from alliance_meta.results.multilevel_quantities import MultilevelQuantities
from alliance_meta.results.settings import FitSettings
from alliance_meta.results.teststats import WaldTest

if TYPE_CHECKING:
    from alliance_meta.results.robust import RobustResults

Newdata = pd.DataFrame | Mapping[str, Any] | None


@dataclass(frozen=True, eq=False, repr=False)
class MultilevelResults(MultilevelQuantities):
    """A fitted model of dependent effects: several levels, crossed factors, outcomes, or slopes.

    Made by `MultilevelModel.fit`; it carries the data, the design, the sampling covariance and every setting.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part.
    design : Design
        The design matrix and its coding.
    settings : FitSettings
        Estimator, inference and level.
    fitted : MixedFit
        The likelihood at its maximum, as arrays.
    random : tuple of RandomTerm
        What varies between which groups.
    V : SamplingCovariance or None
        Covariance of the sampling errors; None where they are independent.
    degrees : {"contain", "residual"}
        How degrees of freedom were counted.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "a multilevel model"
    lacks: ClassVar[Mapping[str, str]] = {
        "confint_tau2": "confint() has the interval of every variance",
        "R2": "see R2_marginal",
    }

    effects: EffectSizes
    design: Design
    settings: FitSettings
    fitted: MixedFit
    random: tuple[RandomTerm, ...]
    V: SamplingCovariance | None = None
    degrees: str = "contain"
    notes: tuple[Note, ...] = ()

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and one new effect in a new study, for given moderators.

        The prediction interval holds the true effect of a new row (a new measure, rater or time) in a study that
        is not among these: every random term adds to it. `predict_within` is for a study that is.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Moderator values, one row per prediction. By default the mean effect for a model without moderators,
            else the fitted value of each effect. Where the variance differs between inner levels
            (``HCS UN DIAG HAR``), a column with the inner factor says for which level the interval is meant.
        scale : {"z", "r", "r_mean"}, optional
            Analysis scale by default; as in `RandomEffectsResults.predict`.
        level : float, optional
            Confidence level, a fraction.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub``; ``.attrs["scale"]`` names the scale. Without the inner level
            ``pi_lb`` and ``pi_ub`` are NaN and ``.attrs["pi_note"]`` says why.

        Raises
        ------
        InputError
            For an unknown moderator level or a scale these effects do not have.

        Notes
        -----
        R: ``predict(fit)``. Degrees of freedom are the fewest of the coefficients involved.
        """
        return predictions.predict(self, newdata, scale=scale, level=self._level(level))

    def predict_within(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and one new effect, in each study that is already known.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub``, one row per group of the coarsest random intercept: its own mean
            true effect, shrunken towards the model's, and where a further effect from it is expected.

        Raises
        ------
        InputError
            Without a random intercept whose groups hold several effects; with more than one row of `newdata`.
        """
        return predictions.predict_within(self, newdata, scale=scale, level=self._level(level))

    def ranef(self, *, level: float | None = None) -> dict[str, pd.DataFrame]:
        """Return the predicted random effects of each term: how far each group lies from the model's mean.

        Returns
        -------
        dict of DataFrame
            Term -> ``pred se pi_lb pi_ub`` on the analysis scale, one row per group (and inner level). For ``CS``
            as for the other structures it is the whole effect of an inner level, what its group shares included.
            Effects whose variance is 0 have no interval (NaN): ``attrs["notes"]`` says so.

        Notes
        -----
        R: ``ranef(fit)``. The intervals of each term have degrees of freedom of their own, its groups less the
        coefficients.
        """
        return predictions.ranef(self, level=self._level(level))

    def blup(self, *, level: float | None = None) -> pd.DataFrame:
        """Return the best linear unbiased prediction of each study's mean true effect.

        Returns
        -------
        DataFrame
            ``pred se pi_lb pi_ub`` on the analysis scale, one row per group of the coarsest random intercept, at
            the mean of its moderators.
        """
        return predictions.blup(self, level=self._level(level))

    def confint(self, *, level: float | None = None) -> pd.DataFrame:
        """Return profile-likelihood intervals of every variance and correlation.

        Returns
        -------
        DataFrame
            ``estimate lb ub``, one row per parameter; a bound that the likelihood does not reach is
            `NotApplicable` and says so (0 where a variance cannot be told from none). ``.attrs["notes"]`` names
            components whose profile is no single peak.

        See Also
        --------
        sensitivity.profile : the whole curves, which `plots.profiles` draws.

        Notes
        -----
        R: ``confint(fit)``. Each bound is where the likelihood, maximised over all other parameters, has fallen
        by half the chi-squared quantile. Variances and correlations of ``UN`` and ``GEN`` terms are made parameters
        of their own for this, which takes seconds with three columns; with more, ask `sensitivity.profile` by name.
        """
        return predictions.confint(self, level=self._level(level))

    def test(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test a term, several terms, or any linear combinations of coefficients being zero.

        As `RandomEffectsResults.test`; the degrees of freedom are the fewest of the coefficients involved.
        """
        return self._wald(*contrast(L, names=self.names, terms=self.design.terms))

    def robust(self, *, cluster: Any = "study_id", type: RobustType = "CR2") -> RobustResults:
        """Return the same model with cluster-robust standard errors, degrees of freedom and tests.

        They hold even where the assumed dependence is wrong, if the clusters are independent.

        Parameters
        ----------
        cluster : str or array-like of shape (k,)
            Column, ``"study_id"``, or one label per effect.
        type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}

        Notes
        -----
        R: ``clubSandwich::coef_test(fit, vcov = "CR2", cluster = study_id)``.
        """
        from alliance_meta.results.robust import robust_results

        return robust_results(self, cluster=cluster, type=type)
