"""Bias in the published literature, and estimates that are less exposed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bias.henmi_copas import HenmiCopasResult as HenmiCopasResult
    from alliance_meta.bias.henmi_copas import hc as hc
    from alliance_meta.bias.p_curve import PCurveResult as PCurveResult
    from alliance_meta.bias.p_curve import pcurve as pcurve
    from alliance_meta.bias.p_uniform import PUniformResult as PUniformResult
    from alliance_meta.bias.p_uniform import puniform as puniform
    from alliance_meta.bias.z_curve import ZCurveResult as ZCurveResult
    from alliance_meta.bias.z_curve import zcurve as zcurve

__getattr__, __dir__, __all__ = lazy(__name__)
