"""Bias in the published literature, and estimates that are less exposed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bias.bound import UnseenStudies as UnseenStudies
    from alliance_meta.bias.bound import unseen as unseen
    from alliance_meta.bias.excess import ExcessSignificance as ExcessSignificance
    from alliance_meta.bias.excess import tes as tes
    from alliance_meta.bias.fail_safe import FailSafeN as FailSafeN
    from alliance_meta.bias.fail_safe import fsn as fsn
    from alliance_meta.bias.henmi_copas import HenmiCopasResult as HenmiCopasResult
    from alliance_meta.bias.henmi_copas import hc as hc
    from alliance_meta.bias.truncated import RightTruncated as RightTruncated
    from alliance_meta.bias.truncated import rtma as rtma
    from alliance_meta.bias.worst import WorstCase as WorstCase
    from alliance_meta.bias.worst import worst_case as worst_case

__getattr__, __dir__, __all__ = lazy(__name__)
