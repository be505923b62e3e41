"""What one conversion is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations.conversions import Converted

Z95 = 1.959963984540054

Numbers = Mapping[str, Array]


@dataclass(frozen=True)
class Rule:
    """One conversion.

    Attributes
    ----------
    es_type : str
        What the sheet says of the row.
    es_calc : str
        How the correlation was got, in the words of the coding contract.
    needs : tuple of str
        Columns without which it cannot be done, apart from `es_value`.
    takes : tuple of str
        Columns from which the others can be worked out, or that it uses if they are there.
    compute : callable
    formula, source : str
    r_type : str
        ``zero-order``, ``partial``, ``semi-partial`` or ``beta-converted``.
    caution : str
        What a reader must know about rows converted so; empty for none.
    family : {"groups", "test", "model"}
        How sizes and degrees of freedom hang together.
    value : str
        What `es_value` is, in words; empty where the columns in `needs` say it all.
    """

    es_type: str
    es_calc: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    compute: Callable[[Numbers], Converted]
    formula: str
    source: str
    value: str
    family: str = "test"
    r_type: str = "zero-order"
    caution: str = ""


def se_log_odds(x: Numbers) -> Array:
    """Return the standard error of ln(OR), as given or from the 95 % interval of the odds ratio."""
    with np.errstate(invalid="ignore", divide="ignore"):
        width = (np.log(x["es_ub"]) - np.log(x["es_lb"])) / (2.0 * Z95)
    return np.where(np.isfinite(x["es_se"]), x["es_se"], width)
