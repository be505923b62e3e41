"""Several analyses of completed data pooled into one by Rubin's rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array

# Square of what rounding leaves between two analyses of the same numbers.
SAME = 1e-24


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Pooled coefficients."""

    # beta, se, df (p,): `df` may be infinite.
    beta: Array
    se: Array
    df: Array
    # vb, within, between (p, p): total covariance, and its two parts.
    vb: Array
    within: Array
    between: Array
    # riv, fmi, mcse (p,): relative increase in variance, fraction of missing information, Monte Carlo error of `beta`.
    riv: Array
    fmi: Array
    mcse: Array


def pool(beta: Array, vb: Array, *, df: float | None) -> Pooled:
    """Pool coefficients (m, p) with covariances (m, p, p) by Rubin's rules (Rubin 1987).

    `df` are the degrees of freedom of the analysis of complete data, None for the normal. Those of the pooled
    coefficients are Barnard & Rubin's (1999, doi:10.1093/biomet/86.4.948), and `df` itself where the imputed
    data sets agree exactly.
    """
    m = len(beta)
    within = vb.mean(axis=0)
    between = np.atleast_2d(np.cov(beta, rowvar=False, ddof=1))
    total = within + (1.0 + 1.0 / m) * between
    B, W, T = (np.diag(one) for one in (between, within, total))
    complete = np.inf if df is None else float(df)
    same = np.maximum(T, (beta**2).max()) * SAME >= B
    B = np.where(same, 0.0, B)
    with np.errstate(divide="ignore", invalid="ignore"):
        riv = np.where(same, 0.0, (1.0 + 1.0 / m) * B / W)
        share = np.where(same, 0.0, (1.0 + 1.0 / m) * B / T)
        large = (m - 1.0) / share**2
        observed = (complete + 1.0) / (complete + 3.0) * complete * (1.0 - share) if df is not None else np.inf
        df_pooled = np.where(same, complete, 1.0 / (1.0 / large + 1.0 / observed))
        fmi = np.where(same, 0.0, np.where(np.isinf(riv), 1.0, (riv + 2.0 / (df_pooled + 3.0)) / (riv + 1.0)))
    return Pooled(
        beta=beta.mean(axis=0),
        se=np.sqrt(T),
        df=df_pooled,
        vb=total,
        within=within,
        between=between,
        riv=riv,
        fmi=fmi,
        mcse=np.sqrt(B / m),
    )
