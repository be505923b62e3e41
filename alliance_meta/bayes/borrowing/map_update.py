"""A MAP prior together with the new study's own result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta.bayes.borrowing import map_text
from alliance_meta.bayes.borrowing.map_parts import on_scale, table
from alliance_meta.bayes.marginals import Marginal, MixtureMarginal
from alliance_meta.core.bayes.map_prior import update
from alliance_meta.core.bayes.mixture import NormalMixture, mixture
from alliance_meta.errors import InputError
from alliance_meta.notes import Note
from alliance_meta.options import check_level
from alliance_meta.result import Result
from alliance_meta.results.export import columns_of, one_row, plain

if TYPE_CHECKING:
    from alliance_meta.bayes.borrowing.map_results import MapPrior

# A result with a predictive p below this is called a surprise.
SURPRISE = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class MapUpdate(Result):
    """The true effect of a new study, from the MAP prior and from the study's own result.

    Made by `MapPrior.update`.

    Attributes
    ----------
    prior : MapPrior
    yi, vi : float
        The result and its sampling variance, on the analysis scale.
    mixture : NormalMixture
        The posterior.
    robust : float
        Posterior probability of the vague part: that the new study is not like the earlier ones.
    log_predictive : float
        Log of the density of the result under the prior.
    pit : float
        Probability of a result up to this one, before it was known.
    error_bound : float
        Bound of the numerical error of any probability.
    notes : tuple of Note
    """

    prior: MapPrior
    yi: float
    vi: float
    mixture: NormalMixture
    robust: float
    log_predictive: float
    pit: float
    error_bound: float
    notes: tuple[Note, ...]

    @property
    def p(self) -> float:
        """Predictive p: how probable a result at least as far out was, on either side; small: a surprise."""
        return 2.0 * min(self.pit, 1.0 - self.pit)

    def marginal(self, *, scale: Literal["z", "r"] | None = None) -> Marginal:
        """Return the posterior distribution of the new study's true effect."""
        return on_scale(self.prior.fit, MixtureMarginal("theta_new given its result", self.mixture), scale)

    @cached_property
    def ess(self) -> float:
        """Clients that prior and result together are worth; `NotApplicable` where one client's share is not known."""
        return self.prior._ess(self.mixture)

    def tidy(self, *, level: float | None = None, scale: Literal["z", "r"] | None = None) -> pd.DataFrame:
        """Return ``mean sd median ci_lb ci_ub``: the study alone (with a flat prior), the prior, the posterior.

        Parameters
        ----------
        level : float, optional
            Of the equal-tailed intervals.
        scale : {"z", "r"}, optional
        """
        used = self.prior.fit.level if level is None else level
        check_level(used)
        alone = NormalMixture(np.ones(1), np.array([[self.yi]]), np.array([[np.sqrt(self.vi)]]))
        rows = {
            "study": on_scale(self.prior.fit, MixtureMarginal("study", alone), scale),
            "prior": self.prior.marginal(scale=scale),
            "posterior": self.marginal(scale=scale),
        }
        return table(rows, level=used, scale=scale or self.prior.fit._scale)

    def glance(self) -> pd.DataFrame:
        """Return one row: result, predictive p, effective sample sizes, probability of the vague part."""
        return one_row(self._statistics())

    def _statistics(self) -> dict[str, Any]:
        return {
            "yi": self.yi,
            "vi": self.vi,
            "pit": self.pit,
            "p": self.p,
            "log_predictive": self.log_predictive,
            "ess": self.ess,
            "ess_prior": self.prior.ess(),
            "robust": self.robust,
            "error_bound": self.error_bound,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return every number as JSON-ready values; `NotApplicable` becomes its reason."""
        return plain(
            {
                "statistics": self._statistics(),
                "table": columns_of(self.tidy().reset_index()),
                "prior": self.prior.to_dict(),
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def summary(self) -> str:
        """Return the plain-text summary."""
        return map_text.update_text(self)


def updated(prior: MapPrior, *, ri: float | None, ni: float | None, yi: float | None, vi: float | None) -> MapUpdate:
    """Return the posterior of a new study's true effect."""
    y, v = _read(prior, ri=ri, ni=ni, yi=yi, vi=vi)
    exact = prior.fit.exact
    found = update(exact.problem, prior.row, y, v)
    log_map = found.log_density - exact.log_marginal
    before = prior.mixture
    predictive = NormalMixture(before.weight, before.mean, np.sqrt(before.sd**2 + v))
    at = np.array([[y]])
    below, above = float(predictive.cdf(at)[0, 0]), float(predictive.sf(at)[0, 0])
    pit = below if below < 0.5 else 1.0 - above
    posterior, share, log = found.mixture, 0.0, log_map
    if prior.robust:
        posterior, share, log = _with_vague(prior, found.mixture, log_map, y, v)
    notes = prior.notes
    if 2.0 * min(below, above) < SURPRISE:
        notes = (*notes, _surprise(prior, 2.0 * min(below, above)))
    return MapUpdate(prior, y, v, posterior, share, log, pit, found.error + exact.error, notes)


def _with_vague(
    prior: MapPrior, after: NormalMixture, log_map: float, y: float, v: float
) -> tuple[NormalMixture, float, float]:
    """Return posterior, probability of the vague part and log predictive density."""
    vague = prior.vague
    total = vague.sd**2 + v
    log_vague = -0.5 * ((y - vague.mean) ** 2 / total + np.log(2.0 * np.pi * total))
    logs = np.array([np.log1p(-prior.robust) + log_map, np.log(prior.robust) + log_vague])
    log = float(special.logsumexp(logs))
    share = np.exp(logs - log)
    own = vague.sd**2 / total
    both = mixture(
        np.append(share[0] * after.weight, share[1]),
        np.append(after.mean, [[vague.mean + own * (y - vague.mean)]], axis=1),
        np.append(after.sd, [[np.sqrt(own * v)]], axis=1),
    )
    return both, float(share[1]), log


def _surprise(prior: MapPrior, p: float) -> Note:
    advice = (
        "The vague part takes over as far as the two disagree."
        if prior.robust
        else "The posterior is pulled towards the earlier studies all the same; map_prior(fit, robust=0.2) would let "
        "a contradiction through."
    )
    shown = f"p = {p:.4f}" if p >= 0.0001 else "p < .0001"
    message = f"The new result is a surprise after the earlier studies (predictive {shown}). {advice}"
    return Note("prior-conflict", message)


def _read(
    prior: MapPrior, *, ri: float | None, ni: float | None, yi: float | None, vi: float | None
) -> tuple[float, float]:
    given = {name for name, value in (("ri", ri), ("ni", ni), ("yi", yi), ("vi", vi)) if value is not None}
    if given == {"ri", "ni"}:
        prior._need_z("update with ri and ni")
        assert ri is not None
        assert ni is not None
        wrong = [] if -1 < ri < 1 else [f"ri={ri!r} is no correlation between -1 and 1"]
        wrong += [] if np.isfinite(ni) and ni > 3 else [f"ni={ni!r}: Fisher's z needs more than 3 clients"]
        if wrong:
            raise InputError("update: " + "; ".join(wrong))
        return float(np.arctanh(ri)), 1.0 / (float(ni) - 3.0)
    if given != {"yi", "vi"}:
        named = ", ".join(sorted(given)) or "nothing"
        raise InputError(f"update needs ri and ni, or yi and vi; given: {named}")
    assert yi is not None
    assert vi is not None
    wrong = [] if np.isfinite(yi) else [f"yi={yi!r} is not a finite number"]
    wrong += [] if np.isfinite(vi) and vi > 0 else [f"vi={vi!r} is no positive variance"]
    if wrong:
        raise InputError("update: " + "; ".join(wrong))
    return float(yi), float(vi)
