"""Every rule, applied to what a paper prints of one result."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from alliance_meta.evidence import rules_amount, rules_estimate
from alliance_meta.evidence import rules_tests as rules_test
from alliance_meta.evidence.checking import Check
from alliance_meta.evidence.printed import PrintedResult

Rule = Callable[[PrintedResult, float], Check | Iterable[Check | None] | None]


def _any_alpha(rule: Callable[[PrintedResult], Check | Iterable[Check | None] | None]) -> Rule:
    return lambda result, _: rule(result)


# In the order of the checks; a rule is asked where all numbers are printed that it cannot do without.
RULES: tuple[tuple[frozenset[str], Rule], ...] = tuple(
    (frozenset(needs.split()), rule)
    for needs, rule in (
        ("", _any_alpha(rules_amount.possible)),
        ("estimate ci_lb ci_ub", _any_alpha(rules_estimate.inside)),
        ("estimate ci_lb ci_ub", _any_alpha(rules_estimate.symmetric)),
        ("estimate se", _any_alpha(rules_estimate.interval_from_se)),
        ("estimate", _any_alpha(rules_estimate.interval_from_statistic)),
        ("estimate ci_lb ci_ub k N", _any_alpha(rules_estimate.wide_enough)),
        ("r df ci_lb", _any_alpha(rules_test.interval_of_r)),
        ("estimate se", _any_alpha(rules_test.statistic_from_se)),
        ("", rules_test.p_of_statistic),
        ("estimate se p", rules_test.p_of_se),
        ("ci_lb ci_ub p", rules_test.p_of_interval),
        ("", rules_test.p_of_q),
        ("QE QEdf", _any_alpha(rules_amount.i2_from_q)),
        ("QE QEdf H2", _any_alpha(rules_amount.h2_from_q)),
        ("k QEdf", _any_alpha(rules_amount.df_from_k)),
        ("tau2 tau", _any_alpha(rules_amount.tau_from_tau2)),
        ("d", _any_alpha(rules_amount.d_from_r)),
        ("r2", _any_alpha(rules_amount.variance_from_r)),
        ("k N mean_n", _any_alpha(rules_amount.mean_n_from_total)),
    )
)


def check_result(result: PrintedResult, *, alpha: float = 0.05) -> tuple[Check, ...]:
    """Return every check that the printed numbers allow, in the order of the rules."""
    printed = result.numbers.keys()
    found: list[Check | None] = []
    for needs, rule in RULES:
        if needs <= printed:
            made = rule(result, alpha)
            found += [made] if made is None or isinstance(made, Check) else made
    return tuple(check for check in found if check is not None)
