"""What averages of the more precise studies need: adequate power, and r without its small-sample bias."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array

# 1.96 + 0.84: with a standard error of this share of the mean, 80% of studies are significant at 5% (two-sided).
ADEQUATE = 2.8


def plus_three(r: Array, df: Array) -> tuple[Array, Array]:
    """Return correlations and their variances from t statistics as if each had three more degrees of freedom.

    t = r sqrt(df / (1 - r^2)) stays what it is: r' = t / sqrt(t^2 + df + 3), v' = (1 - r'^2) / (df + 3).
    """
    # t^2 + df is df / (1 - r^2); written so that r = +-1 is no division by zero.
    rest = 1.0 - r * r
    scale = df + 3.0 * rest
    return np.asarray(r * np.sqrt(df / scale)), np.asarray(rest * (df + 3.0) / scale / (df + 3.0))
