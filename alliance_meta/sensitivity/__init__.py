"""How far do the conclusions depend on assumptions? Questions asked of a fitted model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alliance_meta.sensitivity.bootstrapping import Bootstrap as Bootstrap
    from alliance_meta.sensitivity.bootstrapping import bootstrap as bootstrap
    from alliance_meta.sensitivity.hetero import HeteroscedasticityTest as HeteroscedasticityTest
    from alliance_meta.sensitivity.hetero import hettest as hettest
    from alliance_meta.sensitivity.likelihood import LikelihoodRatioTest as LikelihoodRatioTest
    from alliance_meta.sensitivity.likelihood import lr_test as lr_test
    from alliance_meta.sensitivity.permutation import PermutationTest as PermutationTest
    from alliance_meta.sensitivity.permutation import permutation_test as permutation_test

_HOMES = {
    "Bootstrap": "bootstrapping",
    "HeteroscedasticityTest": "hetero",
    "LikelihoodRatioTest": "likelihood",
    "PermutationTest": "permutation",
    "bootstrap": "bootstrapping",
    "hettest": "hetero",
    "lr_test": "likelihood",
    "permutation_test": "permutation",
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
