"""Names that are loaded when first used (PEP 562), so that importing a package costs nothing."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any


def later(module: str, name: str) -> Any:
    """Return a name of a module that is loaded now, when it is used."""
    return getattr(import_module(module), name)


def lazy(
    package: str, *, moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names live in its modules.

    The names and their homes are those that the package imports for type checkers, so that each is written once.

    `package`: the package's ``__name__``.
    `moved`: name that the package had once -> package below it that has it now; the old name warns.
    """
    homes = dict(_homes(package))

    def load(name: str) -> Any:
        if name in (moved or {}):
            now = f"{package}.{(moved or {})[name]}"
            message = f"{package}.{name} is {now}.{name} now; the old name goes with the next version"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return later(now, name)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        value = import_module(f"{package}.{name}") if home == package else later(home, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names, sorted(homes)


def _homes(package: str) -> Iterator[tuple[str, str]]:
    """Yield each name that a package imports for type checkers, and the module it comes from."""
    spec: Any = sys.modules[package].__spec__
    block = spec.loader.get_source(package).partition("\nif TYPE_CHECKING:\n")[2]
    for line in block.splitlines():
        words = line.split()
        if line and not line.startswith("    "):
            return
        if words[:1] == ["from"]:
            yield words[-1], words[1]
