"""Worst case and right-truncated meta-analysis as their authors' documentation prints them.

The sheets: BCG vaccine, from R's metadat, and ``meta_meat`` of multibiasmeta 0.2.2, both in the reference values.
"""

from __future__ import annotations

import pytest

from alliance_meta import EffectSizes, RandomEffectsModel, bias
from tests.reference.reading import reference
from tests.tolerances import printed

pytestmark = pytest.mark.published

# Of eight digits printed: metafor's plain search for tau2 stops when it moves by less than 1e-5.
EARLY = 1e-5


def fitted(name: str, *, clustered: bool = True):
    data = reference("worst")[name]
    study = data["cluster"] if clustered else None
    return RandomEffectsModel(EffectSizes.from_arrays(data["yi"], data["vi"], study_id=study)).fit()


@pytest.fixture(scope="module")
def meat():
    with pytest.warns(UserWarning, match="independent"):
        return fitted("meat")


def test_selection_by_four_and_without_end_of_meat(meat):
    """multibiasmeta, vignette "Metabias packages tutorial", `pubbias_meta` with `return_worst_meta = TRUE`."""
    found = bias.worst_case(meat, ratios=[4])
    four = found.curve.iloc[0]
    for name, text in {
        "estimate": "0.1293691", "se": "0.03194793", "ci_lb": "0.06212993", "ci_ub": "0.1966083",
        "pval": "0.0007856887",
    }.items():  # fmt: skip
        assert four[name] == pytest.approx(float(text), rel=EARLY)
    for name, text in {
        "estimate": "0.0931093", "se": "0.03049443", "ci_lb": "0.02865793", "ci_ub": "0.1575607",
        "pval": "0.0073343486",
    }.items():  # fmt: skip
        assert getattr(found, name) == pytest.approx(float(text), rel=EARLY)


def test_s_values_of_meat(meat):
    """The same vignette, `pubbias_svalue`: for 0, and for .1."""
    for value in (bias.worst_case(meat).svalue, bias.worst_case(meat).svalue_limit):
        assert value.reason == "no ratio is large enough"  # "Not possible"
    found = bias.worst_case(meat, q=0.1)
    assert found.svalue == printed("23.19")
    assert found.svalue_limit == printed("1.48")


def test_selection_by_five_and_s_values_of_bcg():
    """PublicationBias 2.4.0, examples of `pubbias_meta` and `pubbias_svalue`."""
    with pytest.warns(UserWarning, match="independent"):
        clustered = fitted("bcg")
    five = bias.worst_case(clustered, ratios=[5]).curve.iloc[0]
    for name, text in {
        "estimate": "-0.3686171", "se": "0.1452243", "ci_lb": "-0.7849406", "ci_ub": "0.04770646",
        "pval": "0.06905043",
    }.items():  # fmt: skip
        assert five[name] == pytest.approx(float(text), rel=EARLY)
    single = bias.worst_case(fitted("bcg", clustered=False))
    assert single.side == "left"
    assert single.svalue.reason == "no ratio is large enough"
    assert single.svalue_limit == printed("4.17")


def test_right_truncation_of_meat():
    """The same vignette, `phacking_meta`: modes to three digits, and what 530 and 680 effective draws give."""
    found = bias.rtma(fitted("meat", clustered=False))
    assert (found.estimate, found.tau) == (printed("0.209"), printed("0.142"))
    assert found.median == pytest.approx(0.257, abs=0.02)
    assert (found.ci_lb, found.ci_ub) == (pytest.approx(0.114, abs=0.02), pytest.approx(0.643, abs=0.06))
    assert (found.tau_lb, found.tau_ub) == (pytest.approx(0.0616, abs=0.02), pytest.approx(0.367, abs=0.03))
