"""What was published: results, claims about them, whether printed numbers agree, and how they came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.evidence.checking import Check as Check
    from alliance_meta.evidence.claims import ClaimsAudit as ClaimsAudit
    from alliance_meta.evidence.claims import ClaimVerdict as ClaimVerdict
    from alliance_meta.evidence.claims import claims as claims
    from alliance_meta.evidence.consistency import ConsistencyReport as ConsistencyReport
    from alliance_meta.evidence.consistency import consistency as consistency
    from alliance_meta.evidence.consistency import scan_text as scan_text
    from alliance_meta.evidence.meaning import Meaning as Meaning
    from alliance_meta.evidence.meaning import meaning as meaning
    from alliance_meta.evidence.published import published as published
    from alliance_meta.evidence.reproduce import reproduce as reproduce
    from alliance_meta.evidence.umbrella import Umbrella as Umbrella
    from alliance_meta.evidence.umbrella import umbrella as umbrella

__getattr__, __dir__, __all__ = lazy(__name__)
