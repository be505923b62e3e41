"""Reports: a declaration in TOML becomes `results.json`, and that alone becomes every page.

`new_report` begins one, `build_report` writes it, `moves_of` says what another version of its sheet
moves, `changes` what moved between two builds;
``docs/reports.md`` describes the declaration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.reporting.build import build_report as build_report
    from alliance_meta.reporting.builds import Changes as Changes
    from alliance_meta.reporting.builds import changes as changes
    from alliance_meta.reporting.builds import moves_of as moves_of
    from alliance_meta.reporting.starter import new_report as new_report

__getattr__, __dir__, __all__ = lazy(__name__)
