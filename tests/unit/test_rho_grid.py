"""`sensitivity.rho_grid`: one fit per assumed correlation, and what differs between them."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from alliance_meta import (
    EffectSizes,
    InputError,
    MultilevelModel,
    RandomEffectsModel,
    aggregate,
    escalc,
    impute_V,
    load_dataset,
    sensitivity,
)
from alliance_meta.errors import TruncationWarning

GRID = (0, 0.3, 0.9)


@pytest.fixture(scope="module")
def crede():
    return escalc(load_dataset("crede2010").query("criterion == 'grade'"))


def test_each_row_is_the_fit_of_its_own_correlation(crede):
    grid = sensitivity.rho_grid(crede, rho=GRID, how="CS", mods="source", test="t")
    for rho in GRID:
        fit = RandomEffectsModel(aggregate(crede, rho=rho, how="CS"), mods="source", test="t").fit()
        ours = grid.tidy().loc[rho]
        np.testing.assert_array_equal(ours.to_numpy(), fit.tidy().to_numpy())
        assert grid.glance().loc[rho, "tau2"] == fit.tau2
        assert grid.predict(scale="r").loc[rho, "pred"].to_numpy() == pytest.approx(fit.predict(scale="r")["pred"])


def test_any_model_can_be_refitted(crede):
    def refit(rho):
        return MultilevelModel(crede, V=impute_V(crede, rho=rho)).fit()

    grid = sensitivity.rho_grid(refit, rho=GRID)
    assert grid.tidy()["estimate"].tolist() == [refit(rho).beta[0] for rho in GRID]
    assert "refitted" in str(grid)
    assert grid.tidy()["estimate"].nunique() == 3


def test_the_span_says_how_far_an_estimate_moves(crede):
    grid = sensitivity.rho_grid(crede, rho=GRID)
    frame, row = grid.tidy(), grid.span().loc["intrcpt"]
    assert row["highest"] == frame["estimate"].max()
    assert row["moves"] == pytest.approx((frame["estimate"].max() - frame["estimate"].min()) / frame["se"].max())
    assert f"{row['lowest']:.4f} to {row['highest']:.4f}" in str(grid)
    assert json.loads(json.dumps(grid.to_dict()))["rho"] == [0.0, 0.3, 0.9]
    assert all(len(line) <= 80 for line in str(grid).splitlines())


def test_notes_say_for_which_correlation_they_hold():
    # The means differ more than chance only while chance is small: tau2 is 0 for the high correlations.
    y = [0.20, 0.22, 0.32, 0.30, 0.15, 0.17]
    es = EffectSizes.from_arrays(y, [0.01] * 6, study_id=list("AABBCC"))
    with pytest.warns(TruncationWarning) as caught:
        grid = sensitivity.rho_grid(es, rho=(0, 0.9))
    assert [str(one.message) for one in caught] == [
        note.message for note in grid.notes if note.code == "tau2-truncated"
    ]
    (message,) = [note.message for note in grid.notes if note.code == "tau2-truncated"]
    assert message.startswith("At rho = 0.9: tau2 (REML) was set to 0")
    assert not [note for note in grid.notes if note.code == "aggregated"]
    everywhere = [note.message for note in grid.notes if note.code == "few-for-tau2"]
    assert len(everywhere) == 1
    assert everywhere[0].startswith("k = 3")


def test_other_warnings_pass(crede):
    def refit(rho):
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
        return RandomEffectsModel(aggregate(crede, rho=rho)).fit()

    with pytest.warns(RuntimeWarning, match="something else"):
        sensitivity.rho_grid(refit, rho=(0, 0.5))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rho": ()}, "must hold the correlations"),
        ({"rho": (0, 1.5, -2)}, "1.5, -2 must lie between -1 and 1"),
        ({"rho": (0, np.nan)}, "nan must lie between"),
        ({"rho": (0.2, 0.2)}, "lists a value twice"),
        ({"rho": (0, 1), "how": "CS"}, "rho=1 makes the covariance matrix"),
        ({"method": "MLE"}, "method='MLE' is not one of"),
    ],
)
def test_refused_with_a_reason(crede, options, match):
    with pytest.raises(InputError, match=match):
        sensitivity.rho_grid(crede, **options)


def test_a_function_gets_no_settings_and_must_return_a_fit(crede):
    with pytest.raises(InputError, match="how, weighted, mods: settings cannot reach"):
        sensitivity.rho_grid(lambda _: None, how="CS", weighted=True, mods="1")
    with pytest.raises(InputError, match=r"returned RandomEffectsModel for rho = 0.*call \.fit\(\)"):
        sensitivity.rho_grid(lambda rho: RandomEffectsModel(aggregate(crede, rho=rho)))
    with pytest.raises(InputError, match="not DataFrame"):
        sensitivity.rho_grid(crede.frame)
