"""Which software made the numbers: versions only, no clock and no machine."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from alliance_meta import __version__

NUMERIC = ("numpy", "scipy", "pandas")


def versions(extra: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of this package and of those that affect its numbers."""
    found = {"alliance_meta": __version__}
    for name in (*NUMERIC, *extra):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
