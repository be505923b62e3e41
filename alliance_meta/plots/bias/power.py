"""Power of studies: its colour, the effect that it reaches, and how a true effect is written."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array
from alliance_meta.core.distributions import two_sided_power
from alliance_meta.plots.sheet.measure import is_correlation
from alliance_meta.tables.format import brief, format_number

ALPHA = 0.05
# From no power to full power; in grey from dark to light.
SHADES = ("#d9822b", "#f0b673", "#fbdcb2", "#f6f1e6", "#eef4f8")


def shade(power: Array) -> Array:
    """Return the colour (..., 3) of each power."""
    from matplotlib.colors import to_rgb

    table = np.array([to_rgb(one) for one in SHADES])
    at = np.linspace(0.0, 1.0, len(table))
    return np.stack([np.interp(power, at, table[:, i]) for i in range(3)], axis=-1)


def effect_at(sei: Array, power: float) -> float:
    """Return the true effect for which the median power of studies with these standard errors is `power`."""
    middle = float(np.sort(sei)[len(sei) // 2])

    def excess(ncp: float) -> float:
        return float(np.median(two_sided_power(ncp * (middle / sei), ALPHA))) - power

    return middle * float(optimize.brentq(excess, 0.0, 12.0, rtol=1e-13))


def value_text(measure: str, value: float) -> str:
    """Return a true effect, as its axis reads."""
    if is_correlation(measure):
        return f"r = {format_number(value, 2, leading_zero=False)}"
    return brief(value, 4).replace("-", "−")
