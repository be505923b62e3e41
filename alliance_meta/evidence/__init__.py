"""What was published: results, claims about them, whether printed numbers agree, and how they came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.evidence.checking import Check as Check
    from alliance_meta.evidence.claims_audit import ClaimsAudit as ClaimsAudit
    from alliance_meta.evidence.claims_audit import ClaimVerdict as ClaimVerdict
    from alliance_meta.evidence.claims_audit import claims as claims
    from alliance_meta.evidence.consistency_check import ConsistencyReport as ConsistencyReport
    from alliance_meta.evidence.consistency_check import consistency as consistency
    from alliance_meta.evidence.consistency_check import scan_text as scan_text
    from alliance_meta.evidence.meanings import Meaning as Meaning
    from alliance_meta.evidence.meanings import meaning as meaning
    from alliance_meta.evidence.published_results import published as published
    from alliance_meta.evidence.reproduction import reproduce as reproduce
    from alliance_meta.evidence.umbrellas import Umbrella as Umbrella
    from alliance_meta.evidence.umbrellas import umbrella as umbrella

__getattr__, __dir__, __all__ = lazy(__name__)
