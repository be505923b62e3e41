"""`MapPrior`: what a synthesis says about the next study, and how many clients that is worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.borrowing import map_text
from alliance_meta.bayes.borrowing.map_parts import on_scale, table, with_vague
from alliance_meta.bayes.borrowing.map_update import MapUpdate, updated
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.marginals import INFINITE, Marginal, MixtureMarginal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.core.bayes.map_prior import FewNormals, mean_information, peak_information
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import check_level, check_option
from alliance_meta.result import Result
from alliance_meta.results.export import columns_of, one_row, plain

EssMethod = Literal["elir", "moment", "morita"]
# A study of n clients has the variance 1/(n - 3) on Fisher's z.
LOST = 3


@dataclass(frozen=True, eq=False, repr=False)
class MapPrior(Result):
    """What is plausible for the true effect of a new study, given a synthesis of earlier ones.

    Made by `map_prior`.

    Attributes
    ----------
    fit : BayesianResults
        The synthesis.
    label : str
        Which study: ``"a new study"``, or its moderators.
    row : ndarray of shape (p,)
        Its moderators in the coordinates of the quadrature.
    robust : float
        Probability of the vague part; 0 without one.
    vague : Normal
        The vague part.
    unit_sd : float
        Standard deviation of what one client tells; 1 on Fisher's z, `NotApplicable` where it was not given.
    normals : FewNormals
        The mixture of few normals (without the vague part), and how far it is off.
    notes : tuple of Note
    """

    fit: BayesianResults
    label: str
    row: Array
    robust: float
    vague: Normal
    unit_sd: float
    normals: FewNormals
    notes: tuple[Note, ...] = ()

    @cached_property
    def mixture(self) -> NormalMixture:
        """The exact distribution as it is integrated: a normal for each value of tau, and the vague part."""
        exact = self.fit.exact.new_effects(self.row[None])
        return with_vague(exact, self.robust, self.vague)

    @cached_property
    def approximation(self) -> NormalMixture:
        """The mixture of few normals, and the vague part."""
        return with_vague(self.normals.mixture, self.robust, self.vague)

    @property
    def components(self) -> pd.DataFrame:
        """The approximation, one row per normal: ``weight mean sd``, on the analysis scale."""
        few = self.approximation
        names = [str(j + 1) for j in range(self.normals.mixture.mean.shape[1])] + (["vague"] if self.robust else [])
        columns = {"weight": few.weight, "mean": few.mean[0], "sd": few.sd[0]}
        return pd.DataFrame(columns, index=pd.Index(names, name="component"))

    def marginal(self, *, scale: Literal["z", "r"] | None = None) -> Marginal:
        """Return the exact distribution, with its quantiles, probabilities and density.

        Parameters
        ----------
        scale : {"z", "r"}, optional
            ``"r"`` for correlations; the analysis scale by default.
        """
        finite = self.fit.exact.finite
        one = MixtureMarginal(self.label, self.mixture, finite(1, of="new"), finite(2, of="new"))
        return on_scale(self.fit, one, scale)

    def ess(self, method: EssMethod = "elir") -> float:
        r"""Return how many clients of a new study the prior is worth.

        Parameters
        ----------
        method : {"elir", "moment", "morita"}
            ``elir``: the expected local-information ratio, the only one of the three that adds up: prior and data
            of n more clients are on average worth that many clients more. ``moment``: by the variance of the
            prior, which counts its tails in full (too few clients). ``morita``: by its peak (too many).

        Returns
        -------
        float
            `NotApplicable` where one client's share is not known, or the variance is infinite.

        Notes
        -----
        With p the prior and s the standard deviation of what one client tells:

        .. math:: s^2 \; E_p\left[-\frac{d^2 \log p(\theta)}{d\theta^2}\right], \quad
            \frac{s^2}{\mathrm{Var}_p(\theta)}, \quad
            -s^2 \frac{d^2 \log p(\theta)}{d\theta^2} \text{ at the mode}

        Neuenschwander et al. (2020, doi:10.1111/biom.13252). On Fisher's z one client tells equally much whatever
        the correlation is (s = 1), so that the ratio of variances and that of precisions are both ``moment``. A
        study of n clients has the variance 1/(n - 3): these are clients added to a study, and a study by itself
        needs 3 more. R: ``RBesT::ess(mix, method = "elir", sigma = 1)``, whose ``morita`` takes off what a prior a
        hundred times as wide would be worth.
        """
        check_option("method", method, EssMethod)
        return self._ess(self.mixture, method)

    def _ess(self, mixture: NormalMixture, method: EssMethod = "elir") -> float:
        if self.unit_sd != self.unit_sd:
            return self.unit_sd
        if method == "moment":
            if not self.fit.exact.finite(2, of="new"):
                return NotApplicable(INFINITE)
            return float((self.unit_sd / mixture.moments()[1][0]) ** 2)
        found = mean_information(mixture)[0] if method == "elir" else peak_information(mixture)[1]
        return self.unit_sd**2 * found

    @property
    def ess_limit(self) -> float:
        """Effective sample size of endlessly many studies, if tau is its posterior median.

        Studies that differ by tau say no more about the next one than a result with the variance tau^2.
        """
        return self.unit_sd if self.unit_sd != self.unit_sd else (self.unit_sd / self.fit.tau) ** 2

    def clients_needed(self, half_width: float, *, level: float | None = None) -> pd.DataFrame:
        """Return how many clients a study of its own correlation needs, by itself and with this prior.

        Parameters
        ----------
        half_width : float
            How precisely the correlation in the study shall be known: half the length of its interval, in units
            of r, around the median of the prior.
        level : float, optional
            Of that interval; the synthesis' own by default.

        Returns
        -------
        DataFrame
            One row: ``half_width level alone with_prior saved``, in clients, rounded up. On average: with a result
            that agrees with the earlier ones the prior saves more, with a surprise less.
        """
        self._need_z("clients_needed")
        used = self.fit.level if level is None else level
        check_level(used)
        centre = self.marginal(scale="r").median
        if not 0 < half_width < 1 - abs(centre):
            raise InputError(
                f"half_width={half_width!r} must be positive and less than {1 - abs(centre):.2f}, so that the interval "
                f"around r = {centre:.2f} ends before 1"
            )
        length = float(np.arctanh(centre + half_width) - np.arctanh(centre - half_width))
        information = (2.0 * float(special.ndtri(0.5 + 0.5 * used)) / length) ** 2
        left = information - self.ess()
        alone = int(np.ceil(information)) + LOST
        with_prior = int(np.ceil(left)) + LOST if left > 0 else 0
        return one_row(
            {"half_width": half_width, "level": used, "alone": alone, "with_prior": with_prior,
             "saved": alone - with_prior}
        )  # fmt: skip

    def update(
        self,
        *,
        ri: float | None = None,
        ni: float | None = None,
        yi: float | None = None,
        vi: float | None = None,
    ) -> MapUpdate:
        """Return what to believe about the new study's true effect once its result is in.

        Parameters
        ----------
        ri, ni : float, optional
            Its correlation and its number of clients, for a synthesis of correlations on Fisher's z.
        yi, vi : float, optional
            Or its effect and sampling variance on the analysis scale.

        Returns
        -------
        MapUpdate
            Without a vague part exactly what a synthesis of all studies, the new one included, says about the new
            one's true effect.

        Raises
        ------
        InputError
            Not one of the two pairs, a correlation outside (-1, 1), three clients or fewer, no positive variance.
        """
        return updated(self, ri=ri, ni=ni, yi=yi, vi=vi)

    def tidy(self, *, level: float | None = None, scale: Literal["z", "r"] | None = None) -> pd.DataFrame:
        """Return ``mean sd median ci_lb ci_ub``: one row for the exact prior, one for the few normals.

        Parameters
        ----------
        level : float, optional
            Of the equal-tailed interval.
        scale : {"z", "r"}, optional
        """
        used = self.fit.level if level is None else level
        check_level(used)
        few = on_scale(self.fit, MixtureMarginal("few normals", self.approximation), scale)
        rows = {"theta_new": self.marginal(scale=scale), "few normals": few}
        return table(rows, level=used, scale=scale or self.fit._scale)

    def glance(self) -> pd.DataFrame:
        """Return one row: the number of studies, the effective sample sizes, the error of the few normals."""
        return one_row(self._statistics())

    def _statistics(self) -> dict[str, Any]:
        ess = self.ess()
        return {
            "k": self.fit.k,
            "ess_elir": ess,
            "ess_moment": self.ess("moment"),
            "ess_morita": self.ess("morita"),
            "ess_limit": self.ess_limit,
            "study_of": ess + LOST if self.fit._scale == "z" and ess == ess else self._no_study(),
            "ess_few_normals": self._ess(self.approximation),
            "robust": self.robust,
            "normals": self.normals.mixture.mean.shape[1],
            "normals_error": (1.0 - self.robust) * self.normals.error,
            "normals_divergence": self.normals.divergence,
        }

    def _no_study(self) -> float:
        return NotApplicable("the variance of a study is 1/(n - 3) on Fisher's z only")

    def _need_z(self, who: str) -> None:
        if self.fit._scale != "z":
            raise InputError(
                f"{who} is for correlations on Fisher's z; these effects are on another scale "
                f"({self.fit.effects.scale_label})"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return every number as JSON-ready values; `NotApplicable` becomes its reason."""
        return plain(
            {
                "study": self.label,
                "statistics": self._statistics(),
                "prior": columns_of(self.tidy().reset_index()),
                "components": columns_of(self.components.reset_index()),
                "vague": self.vague.to_dict() if self.robust else None,
                "priors": str(self.fit.priors),
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.fit.effects.provenance.to_dict(),
            }
        )

    def r_code(self) -> str:
        """Return the R code (RBesT) of the few normals and of their effective sample sizes."""
        return map_text.r_code(self)

    def summary(self) -> str:
        """Return the plain-text summary."""
        return map_text.prior_text(self)
