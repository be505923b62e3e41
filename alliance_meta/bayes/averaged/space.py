"""Which models `average` goes through."""

from __future__ import annotations

from dataclasses import dataclass

from alliance_meta._typing import AnyArray, Array, Mask


@dataclass(frozen=True, eq=False)
class ModelSpace:
    """Which models there are.

    Attributes
    ----------
    optional : tuple of str
        What a model may have: ``effect``, if that is in doubt, and the candidates.
    terms : tuple of str
        The candidates.
    number : ndarray of int, shape (m,)
        Their numbers; bit i stands for ``optional[i]``.
    has : ndarray of bool, shape (m, len(optional))
    log_prior : ndarray of shape (1 + T, m)
        Log prior probabilities, with equal effects and with each of T priors of tau.
    """

    optional: tuple[str, ...]
    terms: tuple[str, ...]
    number: AnyArray
    has: Mask
    log_prior: Array
