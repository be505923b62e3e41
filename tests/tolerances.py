"""How near is near enough, by the reason for the difference. Never one loose number for all.

Use the constants as relative tolerances, ``x == pytest.approx(y, rel=ITERATIVE)``,
and `printed` for a number read in a paper, ``x == printed("0.1499")``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

# The same formula, evaluated in another order: only rounding differs (about 1e-16 per operation).
CLOSED_FORM = 1e-10

# Two searches for the same optimum, both driven to their end.
ITERATIVE = 1e-7

# A reference whose own search stopped short, or whose derivatives are numerical: its digits end there.
OPTIMISER = 1e-6

# A value exactly half a unit away may be stored a hair further off in binary.
_BINARY = 1 + 1e-9


def printed(text: str) -> Any:
    """Equal whatever rounds to `text`: half a unit of its last printed digit either way.

    >>> 0.14994 == printed("0.1499"), 0.14996 == printed("0.1499")
    (True, False)
    >>> -0.2504 == printed("−.250"), 61.74 == printed("61.73")
    (True, False)
    """
    number = Decimal(text.replace("−", "-"))
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{text!r} is not a printed number")
    return pytest.approx(float(number), rel=0, abs=0.5 * 10.0**exponent * _BINARY)
