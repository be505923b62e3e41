"""Values as JSON can hold them, in one way everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from alliance_meta.notes import NotApplicable

NOT_APPLICABLE = "not_applicable"
INFINITE = "infinite"


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold, losing nothing: no NaN, no NumPy, no path.

    >>> plain([0.25, NotApplicable("needs at least 2 studies"), float("inf"), float("nan")])
    [0.25, {'not_applicable': 'needs at least 2 studies'}, {'infinite': 1}, None]
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, NotApplicable):
        return {NOT_APPLICABLE: value.reason}
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return plain(value.tolist())
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)


def _number(value: float) -> Any:
    if math.isnan(value):
        return None
    return {INFINITE: int(math.copysign(1, value))} if math.isinf(value) else value
