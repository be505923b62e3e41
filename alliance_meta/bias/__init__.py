"""Bias in the published literature, and estimates that are less exposed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bias.copas_model import CopasResult as CopasResult
    from alliance_meta.bias.copas_model import copas as copas
    from alliance_meta.bias.henmi_copas import HenmiCopasResult as HenmiCopasResult
    from alliance_meta.bias.henmi_copas import hc as hc
    from alliance_meta.bias.selection import selmodel as selmodel
    from alliance_meta.bias.selection_grid import WeightGrid as WeightGrid
    from alliance_meta.bias.selection_grid import vevea_woods as vevea_woods
    from alliance_meta.bias.selection_result import SelectionResult as SelectionResult

__getattr__, __dir__, __all__ = lazy(__name__)
