"""Worst case, right-truncated meta-analysis, bound, excess significance and fail-safe numbers against R."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alliance_meta import EffectSizes, RandomEffectsModel, bias, escalc, load_dataset
from tests.reference.reading import DATASETS, reference
from tests.tolerances import CLOSED_FORM, ITERATIVE, OPTIMISER

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning"),
]

# R's tes() integrates over true effects within five tau, which leaves out 6e-7 of the mass.
WITHIN_FIVE_TAU = 1e-5
# R's values of the right-truncated posterior leave out tau below .001 and .0001: about 5e-6 of the mass.
WITHOUT_LEAST_TAU = 1.5e-4


def fitted(name: str, **options):
    data = reference("worst")[name]
    effects = EffectSizes.from_arrays(data["yi"], data["vi"], study_id=data.get("cluster"))
    return RandomEffectsModel(effects, **options).fit()


@pytest.mark.parametrize("name", ["bcg", "meat"])
def test_curve_and_worst_case(name):
    expected = reference("worst")[name]["curve"]
    ratios = [float(row["ratio"]) for row in expected]
    ours = bias.worst_case(fitted(name), ratios=ratios)
    names = {"estimate": "estimate", "se": "se", "df": "ddf", "pval": "pval", "ci_lb": "ci_lb", "ci_ub": "ci_ub"}
    assert list(ours.curve["ratio"]) == ratios
    for theirs, own in names.items():
        assert list(ours.curve[own]) == pytest.approx([row[theirs] for row in expected], rel=ITERATIVE)
        assert getattr(ours, own) == pytest.approx(expected[-1][theirs], rel=ITERATIVE)
    assert ours.uncorrected == pytest.approx(expected[0]["estimate"], rel=ITERATIVE)
    assert ours.affirmative + ours.nonaffirmative == len(reference("worst")[name]["yi"])


@pytest.mark.parametrize("name", ["bcg", "meat"])
def test_s_values(name):
    expected = reference("worst")[name]
    ours = bias.worst_case(fitted(name), q=expected.get("q", 0.0))
    assert ours.svalue_limit == pytest.approx(expected["svalue_limit"], rel=ITERATIVE)
    if "svalue" in expected:
        assert ours.svalue == pytest.approx(expected["svalue"], rel=ITERATIVE)
    else:
        assert ours.svalue.reason == "no ratio is large enough"


@pytest.mark.parametrize("name", ["meat", "money"])
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")
def test_right_truncated(name):
    expected = reference("worst")[name]["rtma"]
    ours = bias.rtma(fitted(name))
    assert ours.k == expected["k"]
    assert [ours.estimate, ours.tau] == pytest.approx(expected["mode"], rel=OPTIMISER)
    assert [ours.ci_lb, ours.median, ours.ci_ub] == pytest.approx(expected["mu"], rel=WITHOUT_LEAST_TAU)
    assert [ours.tau_lb, ours.tau_ub] == pytest.approx(expected["tau"][::2], rel=WITHOUT_LEAST_TAU)
    assert ours.error < 1e-5


def test_bound_of_unpublished_studies():
    expected = reference("worst")["bound"]
    data = reference("worst")["bcg"]
    model = RandomEffectsModel(EffectSizes.from_arrays(data["yi"], data["vi"]), test="z").fit()
    ours = bias.unseen(model, missing=expected["missing"])
    assert ours.side == "left"
    assert list(ours.table.index) == expected["missing"]
    # The mean is negative, and would be nearer to 0 without the bias.
    assert list(ours.table["bias"]) == pytest.approx(expected["bias"], rel=ITERATIVE, abs=1e-15)
    for name in ("estimate", "ci_lb", "ci_ub"):
        moved = [expected[name] + shift for shift in expected["bias"]]
        assert list(ours.table[name]) == pytest.approx(moved, rel=ITERATIVE)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")
def test_excess_significance_in_every_variant():
    model = fitted("bcg")
    rows = reference("worst")["tes"]
    assert len(rows) == 54
    for row in rows:
        own = {name: row[name] for name in ("test", "alternative", "tes_alternative", "tau2", "theta")}
        ours = bias.tes(model, **own)
        assert ours.observed == row["O"]
        near = WITHIN_FIVE_TAU if row["tau2"] else CLOSED_FORM
        assert ours.expected == pytest.approx(row["E"], rel=near)
        assert ours.pval == pytest.approx(row["pval"], rel=near)
        assert (row["X2"] is not None) == (row["test"] == "chi2")
        if row["X2"] is not None:
            assert pytest.approx(row["X2"], rel=10 * near) == ours.X2
        if row["theta_lim"] is None:
            assert math.isnan(ours.theta_lim)
        else:
            # R stops its search at .Machine$double.eps^0.25.
            assert ours.theta_lim == pytest.approx(row["theta_lim"], abs=1.3e-4)


@pytest.mark.parametrize("dataset", DATASETS)
def test_excess_significance_of_the_data_sets(dataset):
    """As R's plain ``tes(yi, vi)``: at the equal-effects mean."""
    expected = reference(f"{dataset}_ZCOR")["tes"]
    model = RandomEffectsModel(escalc(load_dataset(dataset)), method="EE", test="z").fit()
    ours = bias.tes(model, test=expected["test"])
    assert ours.theta == pytest.approx(expected["theta"], rel=CLOSED_FORM)
    assert ours.tau2 == 0
    assert ours.observed == expected["O"]
    assert ours.expected == pytest.approx(expected["E"], rel=CLOSED_FORM)
    assert ours.ratio == pytest.approx(expected["OEratio"], rel=CLOSED_FORM)
    assert ours.pval == pytest.approx(expected["pval"], rel=CLOSED_FORM)
    if expected["X2"] is not None:
        assert pytest.approx(expected["X2"], rel=CLOSED_FORM) == ours.X2


@pytest.mark.parametrize("dataset", DATASETS)
def test_fail_safe_numbers(dataset):
    expected = reference(f"{dataset}_ZCOR")["fsn"]
    ours = bias.fsn(RandomEffectsModel(escalc(load_dataset(dataset))).fit(), target=0.05)
    assert ours.rosenthal == expected["Rosenthal"]["N"]
    assert ours.rosenberg == expected["Rosenberg"]["N"]
    assert ours.orwin == expected["Orwin_unw"]["N"]
    assert ours.orwin_weighted == expected["Orwin"]["N"]
    table = ours.tidy()
    assert table.loc["Rosenthal", "pval"] == pytest.approx(expected["Rosenthal"]["pval"], rel=CLOSED_FORM, abs=1e-300)
    assert table.loc["Rosenberg", "pval"] == pytest.approx(expected["Rosenberg"]["pval"], rel=CLOSED_FORM, abs=1e-300)
    assert table.loc["Rosenberg", "estimate"] == pytest.approx(expected["Rosenberg"]["est"], rel=CLOSED_FORM)
    # R searches among whole numbers with a root finder for continuous ones, and may stop at the next.
    assert expected["General"]["N"] - ours.general in (0, 1)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("target", [None, 0.05])
def test_the_general_number_is_the_least(dataset, target):
    """Missing effects are put into the sheet, and the model is fitted to all of them."""
    effects = escalc(load_dataset(dataset))
    fit = RandomEffectsModel(effects).fit()
    ours = bias.fsn(fit, target=target)
    number = int(ours.general if target is None else ours.general_target)
    k, mean, tau2 = effects.k, float(fit.beta[0]), float(fit.tau2)

    def with_missing(n):
        # Effects with the variance vt + tau2 and mean 0 are as good as any that are symmetric about 0.
        whole = np.concatenate([np.full(k, mean), np.zeros(n)])
        between = (k - 1 + n - 1) * tau2 + ((whole - whole.mean()) ** 2).sum()
        vi = np.concatenate([effects.vi, np.full(n, 1 / np.mean(1 / effects.vi))])
        yi = np.concatenate([effects.yi, np.zeros(n)])
        model = RandomEffectsModel(EffectSizes.from_arrays(yi, vi), tau2=between / (k + n - 1), test="z").fit()
        return float(model.pval[0]) >= 0.05 if target is None else float(model.beta[0]) <= target

    assert number > 0
    assert with_missing(number)
    assert not with_missing(number - 1)
