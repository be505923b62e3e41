"""Effects reported only as "not significant": by likelihood, by multiple imputation, as 0, and left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Mask
from alliance_meta.bias.given import Adjusted, given
from alliance_meta.core.correlations.pearson import r_to_z, var_z
from alliance_meta.core.dependent import IntArray, codes
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.pooling import pool
from alliance_meta.core.resampling import Recipe, refit
from alliance_meta.core.univariate.unreported import Bounded, Estimated, clustered_variance, draw, fit
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.effects.converting.rules import RULES
from alliance_meta.effects.sizes import says_yes
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import ConvergenceWarning, FewStudiesWarning, InputError
from alliance_meta.notes import NotApplicable, Note, check_level, merge_notes, warn_note
from alliance_meta.results.fit import Fit, columns_of, frame_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import format_level

FEW = 10
IMPUTED = RULES["ns"].es_calc
COLUMNS = ("estimate", "se", "ddf", "ci_lb", "ci_ub", "pval", "tau2", "k", "r", "r_lb", "r_ub")


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class UnreportedResults(Adjusted):
    """The mean effect under each way to treat effects that were reported only as not significant.

    `estimate`, `se`, the interval and `pval` are those of the likelihood.

    Attributes
    ----------
    rows : pandas.DataFrame
        ``left out``, ``r = 0``, ``likelihood`` and ``multiple imputation``, with ``estimate se ddf ci_lb ci_ub pval
        tau2 k`` on the analysis scale and ``r r_lb r_ub``.
    tau2 : float
        Variance of the true effects, by the likelihood.
    unreported : int
        Effects reported only as not significant; `k` counts them.
    alpha : float
        Two-sided level at which they were not significant.
    fmi : float
        Fraction of the information on the mean that imputation had to do without.
    imputations, seed : int
    """

    called: ClassVar[str] = "Unreported effects by likelihood"
    assumes: ClassVar[str] = "an effect reported only as not significant lies between the bounds of significance"

    rows: pd.DataFrame
    tau2: float
    unreported: int
    alpha: float
    fmi: float
    imputations: int
    seed: int

    def tidy(self) -> pd.DataFrame:
        """Return one row for each way: ``estimate se ddf ci_lb ci_ub pval tau2 k r r_lb r_ub``."""
        return self.rows.copy()

    def _values(self) -> dict[str, Any]:
        # Named, because a dataclass with slots is not the class that super() without arguments knows.
        return Adjusted._values(self) | {"rows": {"way": list(self.rows.index), **columns_of(self.rows)}}

    def _content(self) -> Document:
        counts = f"{self.k - self.unreported} effects with a number, {self.unreported} without"
        title = f"Effects reported only as not significant ({counts}; {format_level(self.level)})"
        kinds: dict[str, Kind] = dict.fromkeys(("estimate", "ci_lb", "ci_ub", "pval", "tau2"), 4)
        kinds |= {"pval": "p", "k": "df"} | dict.fromkeys(("r", "r_lb", "r_ub"), 3)
        return self._document(title, table_of(self.rows, kinds, "Fisher z, and r"))


def unreported(
    data: EffectSizes | Fit, *, alpha: float = 0.05, level: float | None = None, imputations: int = 100, seed: int = 1
) -> UnreportedResults:
    r"""Give the mean effect with the studies that say only that their correlation was not significant.

    Left out, they make the mean too large: the small correlations are missing. Entered as r = 0, as is usual, they
    make it too small: most are not exactly 0. What such a study says is that its correlation lies between the bounds
    of significance for its sample size. The likelihood takes exactly that; multiple imputation draws the missing
    correlations from between the bounds many times, pools each time, and counts in how much the draws differ.

    Parameters
    ----------
    data : EffectSizes or fitted model
        Of Fisher z, made by `escalc` of a sheet whose column ``ns`` says yes where r is missing and n is there;
        ``es_sign`` gives the direction where it is known. Rows that `convert` entered as r = 0 (``es_calc``:
        ``imputed_ns``) count among them. Of a fitted model the effects are used, its estimator is not.
    alpha : float
        Two-sided level at which they were not significant.
    level : float, optional
        Confidence level; the fit's, else 0.95.
    imputations : int
    seed : int
        The same seed gives the same imputations.

    Returns
    -------
    UnreportedResults
        A way that needs effects with a number is `NotApplicable` where there are none.

    Raises
    ------
    InputError
        Effects that are no Fisher z or have no sample size; a model with moderators.

    Warns
    -----
    FewStudiesWarning, ConvergenceWarning
        Fewer than 10 effects; a search that stopped early.

    Notes
    -----
    .. math:: \ell = \sum_i \log \phi(y_i; \mu, v_i + \tau^2)
              + \sum_u \log \{\Phi(h_u; \mu, v_u + \tau^2) - \Phi(l_u; \mu, v_u + \tau^2)\}

    with the bounds :math:`\mp \operatorname{artanh}(t / \sqrt{t^2 + n - 2})` of the t test of r, or one of them and 0
    where the direction is known. In every row tau2 is the maximum likelihood estimate and the interval refers to
    t(k - 1), so that nothing else differs between them: an ordinary fit (REML, Knapp-Hartung) is a little wider.
    Where effects depend, every row has a standard error from whole studies, with t(studies - 1).

    The imputation is that of Albajes-Eizagirre, Solanes & Radua (2019, doi:10.1177/0962280218811349), except that its
    mean comes from all studies and is drawn anew for each imputation; Rubin's rules pool, with the degrees of freedom
    of Barnard & Rubin (1999, doi:10.1093/biomet/86.4.948). R: ``metansue::meta(zcor_from_r(r, n))``, which in version
    2.6 lets imputed correlations lie beyond the bounds.

    Examples
    --------
    >>> from alliance_meta import bias, escalc, simulate
    >>> import warnings; warnings.simplefilter("ignore")
    >>> sheet = simulate(k=40, mu=0.2, tau=0.1, unreported=0.7, seed=5)
    >>> bias.unreported(escalc(sheet)).tidy()[["estimate", "ci_lb", "ci_ub", "k"]].round(3)
                         estimate  ci_lb  ci_ub   k
    left out                0.289  0.226  0.351  22
    r = 0                   0.176  0.116  0.236  40
    likelihood              0.230  0.173  0.287  40
    multiple imputation     0.230  0.171  0.288  40
    """
    effects, used = _effects(data, level)
    for name, value, low in (("imputations", imputations, 2), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise InputError(f"{name}={value!r} must be a whole number of at least {low}")
    if not 0 < alpha < 1:
        raise InputError(f"alpha={alpha!r} is the level of a test and must lie between 0 and 1")
    bounded, cluster, contradicted = _bounded(effects, alpha)
    k, m, studies = bounded.y.size, bounded.low.size, int(cluster.max()) + 1
    likely = fit(bounded)
    imputed, fmi = _imputed(bounded, likely, cluster, imputations, seed, used)
    zeros = fit(_as_zero(bounded))
    rows = {
        "left out": _row(fit(_reported(bounded)), cluster[:k], used) if k else _none(),
        "r = 0": _row(zeros, cluster, used),
        "likelihood": _row(likely, cluster, used),
        "multiple imputation": imputed,
    }
    own = rows["likelihood"]
    return UnreportedResults(
        **{name: own[name] for name in ("estimate", "se", "ci_lb", "ci_ub", "pval", "tau2")},
        k=k + m,
        studies=studies,
        level=used,
        measure=effects.measure,
        provenance=effects.provenance,
        rows=frame_of(list(rows.values()), index=list(rows)),
        unreported=m,
        alpha=alpha,
        fmi=fmi,
        imputations=imputations,
        seed=seed,
        notes=merge_notes(effects.notes, _notes(bounded, studies, contradicted, alpha, likely.converged)),
    )


def _effects(data: Any, level: float | None) -> tuple[EffectSizes, float]:
    """Return the effects and the confidence level."""
    if isinstance(data, Fit):
        found = given(data, "unreported", level=level)
        effects, used = found.effects, found.level
    else:
        check_effects(data, "unreported")
        effects, used = data, 0.95 if level is None else level
        check_level(used)
    if effects.measure != "ZCOR" or effects.ni is None:
        raise InputError("unreported needs Fisher z with sample sizes: make the effects with escalc(sheet)")
    return effects, used


def _bounded(effects: EffectSizes, alpha: float) -> tuple[Bounded, IntArray, int]:
    """Return effects and bounds, the study of each, reported ones first, and how many are marked ns with an r."""
    assert effects.ni is not None
    frame = effects.moderators
    marked = says_yes(frame, "ns")
    silent = (marked & (effects.yi == 0)) | _is_imputed(frame)
    studies = [effects.study_id[i] for i in (*np.flatnonzero(~silent), *np.flatnonzero(silent))]
    n, sign = effects.ni[silent], np.full(int(silent.sum()), np.nan)
    v = effects.vi[silent]
    if effects.unreported is not None:
        others = effects.unreported
        more = others["ni"].to_numpy(dtype=float)
        n, v = np.concatenate([n, more]), np.concatenate([v, var_z(more)])
        sign = np.concatenate([sign, others["sign"].to_numpy(dtype=float)])
        studies += others["study_id"].tolist()
    t = special.stdtrit(n - 2.0, 1.0 - 0.5 * alpha)
    bound = r_to_z(t / np.sqrt(t * t + n - 2.0))
    low, high = np.where(sign == 1, 0.0, -bound), np.where(sign == -1, 0.0, bound)
    data = Bounded(effects.yi[~silent], effects.vi[~silent], v, low, high)
    return data, codes(studies), int((marked & ~silent).sum())


def _is_imputed(frame: pd.DataFrame) -> Mask:
    if "es_calc" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return np.asarray(frame["es_calc"].astype(object) == IMPUTED, dtype=bool)


def _reported(data: Bounded) -> Bounded:
    none = np.empty(0)
    return Bounded(data.y, data.v, none, none, none)


def _as_zero(data: Bounded) -> Bounded:
    y, v = np.concatenate([data.y, np.zeros_like(data.low)]), np.concatenate([data.v, data.v_between])
    return _reported(Bounded(y, v, data.v_between, data.low, data.high))


def _df(cluster: IntArray) -> float | None:
    """Return the degrees of freedom: units less one; None, for the normal, with a single one."""
    return float(cluster.max()) or None


def _row(found: Estimated, cluster: IntArray, level: float) -> dict[str, float]:
    variance = found.variance
    if 1 < int(cluster.max()) + 1 < cluster.size:
        variance = float(clustered_variance((found.scores @ found.weights)[None], cluster)[0])
    return _written(found.mu, variance, found.tau2, _df(cluster), cluster.size, level)


def _written(mu: float, variance: float, tau2: float, df: float | None, k: int, level: float) -> dict[str, Any]:
    se = float(np.sqrt(variance))
    half = critical_value(level, df) * se
    ends = {"ci_lb": mu - half, "ci_ub": mu + half}
    p = float(two_sided_p(np.array(mu / se), df))
    values = {"estimate": mu, "se": se, "ddf": np.inf if df is None else df, **ends, "pval": p, "tau2": tau2, "k": k}
    return values | {"r": np.tanh(mu), "r_lb": np.tanh(ends["ci_lb"]), "r_ub": np.tanh(ends["ci_ub"])}


def _none() -> dict[str, Any]:
    return dict.fromkeys(COLUMNS, NotApplicable("no effect has a number")) | {"k": 0}


def _imputed(
    data: Bounded, likely: Estimated, cluster: IntArray, imputations: int, seed: int, level: float
) -> tuple[dict[str, Any], float]:
    """Return the row of multiple imputation and the fraction of missing information."""
    rng = np.random.default_rng(seed)
    mu = likely.mu + np.sqrt(likely.variance) * rng.standard_normal(imputations)
    drawn = draw(mu, likely.tau2, data, rng)
    y = np.concatenate([np.broadcast_to(data.y, (imputations, data.y.size)), drawn], axis=1)
    v = np.broadcast_to(np.concatenate([data.v, data.v_between]), y.shape)
    how = Recipe(X=np.ones((y.shape[1], 1)), method="ML", test="z", tau2=None, lowest=0.0, tested=(0,))
    batch = make_batch(y, v, how.X)
    beta, vb, tau2 = refit(how, batch) if y.shape[1] > 1 else (y, v[:, :, None], np.zeros(imputations))
    if 1 < int(cluster.max()) + 1 < cluster.size:
        w = batch.weights(tau2)
        vb = clustered_variance(w * (y - beta) / w.sum(axis=1, keepdims=True), cluster)[:, None, None]
    df = _df(cluster)
    pooled = pool(beta, vb, df=df)
    ddf = float(pooled.df[0])
    args = float(pooled.beta[0]), float(pooled.vb[0, 0]), float(tau2.mean())
    return _written(*args, ddf if np.isfinite(ddf) else None, cluster.size, level), float(pooled.fmi[0])


def _notes(data: Bounded, studies: int, contradicted: int, alpha: float, converged: bool) -> Iterator[Note]:
    k, m = data.y.size, data.low.size
    if not m:
        text = "No effect is known only as not significant: all rows rest on the same effects and say the same."
        yield Note("nothing-unreported", text)
    if contradicted:
        text = f"{contradicted} effects are marked as reported without a number (ns) and have one, which was used."
        yield Note("ns-with-number", text)
    if m:
        one = int(((data.low == 0) | (data.high == 0)).sum())
        known = f"; the direction of {one} is known" if one else ""
        text = (
            f"{m} of {k + m} effects were reported only as not significant, and are taken to lie between the bounds of "
            f"a two-sided t test at {alpha:g}{known}. An author who tested otherwise had other bounds."
        )
        yield Note("unreported", text)
    if studies < k + m:
        text = (
            f"{k + m} effects come from {studies} studies: the estimates take them as independent, the standard errors "
            f"come from whole studies and are compared with t({studies - 1}). Imputations of one study are drawn "
            "apart, which makes their standard error too small where a study has several: trust the likelihood more."
        )
        yield Note("clustered", text)
    if k + m < FEW:
        text = f"With {k + m} effects neither tau2 nor what lies between the bounds is known well."
        yield warn_note("few-studies", text, FewStudiesWarning, stacklevel=5)
    if not converged:
        text = "The search for the largest likelihood stopped before it met its tolerance."
        yield warn_note("not-converged", text, ConvergenceWarning, stacklevel=5)
