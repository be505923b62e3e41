"""What becomes of converted rows when effect sizes are made of a sheet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.effects.converting.rules import NOT_CONVERTED
from alliance_meta.notes import Note


def converted_rows(frame: pd.DataFrame) -> Mask:
    """Tell the rows whose ``es_calc`` says that r was derived from another statistic."""
    if "es_calc" not in frame:
        return np.zeros(len(frame), dtype=bool)
    words = ["" if pd.isna(cell) else str(cell).strip() for cell in frame["es_calc"].to_numpy(dtype=object)]
    return ~np.isin(np.array(words, dtype=str), NOT_CONVERTED)


def own_variances(frame: pd.DataFrame, vi: Array, *, measure: str) -> tuple[Array, list[Note]]:
    """Give converted rows the sampling variance that `convert` wrote beside them."""
    column = "z_var" if measure == "ZCOR" else "r_var"
    derived = converted_rows(frame)
    if column not in frame or not derived.any():
        return vi, []
    own = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    use: Any = derived & (own > 0) & np.isfinite(own)
    if not use.any():
        return vi, []
    text = (
        f"{int(use.sum())} of {len(vi)} correlations were converted from other statistics and have the sampling "
        "variance of their conversion; converted='drop' leaves them out, converted='as_r' treats them as printed."
    )
    return np.where(use, own, vi), [Note("converted-rows", text)]
