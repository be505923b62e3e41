"""Every rule, applied to what a paper prints of one result."""

from __future__ import annotations

from collections.abc import Iterator

from alliance_meta.evidence import rules_amount, rules_estimate
from alliance_meta.evidence import rules_tests as rules_test
from alliance_meta.evidence.checking import Check
from alliance_meta.evidence.printed import PrintedResult


def check_result(result: PrintedResult, *, alpha: float = 0.05) -> tuple[Check, ...]:
    """Return every check that the printed numbers allow, in the order of the rules."""
    return tuple(check for check in _all(result, alpha) if check is not None)


def _all(result: PrintedResult, alpha: float) -> Iterator[Check | None]:
    yield from rules_amount.possible(result)
    yield rules_estimate.inside(result)
    yield rules_estimate.symmetric(result)
    yield rules_estimate.interval_from_se(result)
    yield rules_estimate.interval_from_statistic(result)
    yield rules_estimate.wide_enough(result)
    yield rules_test.interval_of_r(result)
    yield rules_test.statistic_from_se(result)
    yield rules_test.p_of_statistic(result, alpha)
    yield rules_test.p_of_se(result, alpha)
    yield rules_test.p_of_interval(result, alpha)
    yield from rules_test.p_of_q(result, alpha)
    yield rules_amount.i2_from_q(result)
    yield rules_amount.h2_from_q(result)
    yield rules_amount.df_from_k(result)
    yield rules_amount.tau_from_tau2(result)
    yield rules_amount.d_from_r(result)
    yield rules_amount.variance_from_r(result)
    yield rules_amount.mean_n_from_total(result)
