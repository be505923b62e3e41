"""Bias in the published literature, and estimates that are less exposed to it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alliance_meta.bias.henmi_copas import HenmiCopasResult as HenmiCopasResult
    from alliance_meta.bias.henmi_copas import hc as hc

_HOMES = {
    "HenmiCopasResult": "henmi_copas",
    "hc": "henmi_copas",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
