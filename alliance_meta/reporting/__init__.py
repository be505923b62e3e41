"""Reports: a declaration in TOML becomes `results.json`, and that alone becomes every page.

`build_report` is the whole face; ``docs/reports.md`` describes the declaration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alliance_meta.reporting.build import build_report as build_report

__all__ = ["build_report"]


def __getattr__(name: str) -> Any:
    if name == "build_report":
        from alliance_meta.reporting.build import build_report

        return build_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
