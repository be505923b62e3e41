"""Splines, polynomials and centring: new data are coded with the state of the data that were fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.design import build_design
from alliance_meta.errors import RedundantModeratorWarning
from tests.tolerances import CLOSED_FORM

K = 40
NEW_YEARS = np.array([1996.0, 2001.5, 2011.0])


@pytest.fixture
def effects(rng) -> EffectSizes:
    years = np.sort(rng.uniform(1990, 2020, K))
    mods = pd.DataFrame({"year": years, "rater": rng.choice(["client", "observer"], K)})
    y = 0.2 + 0.02 * np.sin(years) + rng.normal(0, 0.15, K)
    return EffectSizes.from_arrays(y, rng.uniform(0.005, 0.03, K), mods=mods, measure="ZCOR")


def cubic_splines(x, training, df):
    """Return the cubic B-splines without the first, with knots at quantiles of the training data."""
    share = np.linspace(0, 1, df - 3 + 2)[1:-1]
    ends = (training.min(), training.max())
    knots = np.r_[[ends[0]] * 4, np.quantile(training, share), [ends[1]] * 4]
    return BSpline.design_matrix(x, knots, 3).toarray()[:, 1:]


CODINGS = {
    "center(year)": lambda x, old: (x - old.mean())[:, None],
    "scale(year)": lambda x, old: ((x - old.mean()) / old.std(ddof=1))[:, None],
    "poly(year, 2)": lambda x, old: np.column_stack([x - 2000, (x - 2000) ** 2]),
    "poly(year, 3)": lambda x, old: np.column_stack([(x - 2000) / 10, ((x - 2000) / 10) ** 2, ((x - 2000) / 10) ** 3]),
    "bs(year, df=5)": lambda x, old: cubic_splines(x, old, 5),
    "np.log(year)": lambda x, old: np.log(x)[:, None],
}


@pytest.mark.parametrize("mods", CODINGS)
def test_predictions_for_new_data_are_those_of_hand_made_columns(effects, mods):
    old = effects.moderators["year"].to_numpy()
    columns = {f"x{j}": column for j, column in enumerate(CODINGS[mods](old, old).T)}
    by_hand = EffectSizes.from_arrays(effects.yi, effects.vi, mods=columns, measure="ZCOR")
    expected = RandomEffectsModel(by_hand, mods=" + ".join(columns)).fit()
    ours = RandomEffectsModel(effects, mods=mods).fit()
    new = {f"x{j}": column for j, column in enumerate(CODINGS[mods](NEW_YEARS, old).T)}
    for name in ("pred", "se", "pi_ub"):
        np.testing.assert_allclose(
            ours.predict({"year": NEW_YEARS})[name], expected.predict(new)[name], rtol=1e-8, err_msg=name
        )


@pytest.mark.parametrize("mods", [*CODINGS, "rater * center(year)", "rater * bs(year, df=4)", "rater + poly(year, 2)"])
def test_a_row_is_predicted_alike_alone_and_among_all(effects, mods):
    fit = RandomEffectsModel(effects, mods=mods).fit()
    rows = [3, 17, 30]
    alone = [fit.predict(effects.moderators.iloc[[row]])["pred"].item() for row in rows]
    np.testing.assert_allclose(alone, fit.predict()["pred"].iloc[rows], rtol=CLOSED_FORM)


def test_centring_moves_the_intercept_and_nothing_else(effects):
    raw = RandomEffectsModel(effects, mods="rater * year").fit()
    centred = RandomEffectsModel(effects, mods="rater * center(year)").fit()
    assert centred.beta[-1] == pytest.approx(raw.beta[-1], rel=1e-8)
    assert centred.se[-1] == pytest.approx(raw.se[-1], rel=1e-8)
    assert pytest.approx(raw.QM, rel=1e-8) == centred.QM
    middle = {"rater": "client", "year": effects.moderators["year"].mean()}
    assert centred.beta[0] == pytest.approx(raw.predict(middle)["pred"].item(), rel=1e-8)


def test_rows_that_no_effect_tells_about():
    frame = pd.DataFrame({"a": list("xxxyyy"), "b": list("uuvuuu"), "t": [1.0, 2, 3, 4, 5, 6]})
    with pytest.warns(RedundantModeratorWarning):
        made = build_design("a * b + t", frame, labels="123456")
    new = {"a": list("xxyy"), "b": list("uvuv"), "t": 2000.0}
    outside = np.abs(made.beyond(new)).max(axis=1)
    assert (outside[:3] < 1e-9).all()
    assert outside[3] > 0.1
    full = build_design("a + b + t", frame, labels="123456")
    assert full.beyond(new).shape == (4, 0)
    assert build_design("1", frame, labels="123456").beyond({"a": ["x"]}).shape == (1, 0)


def test_collinear_numbers_can_be_predicted_on_their_line_only():
    frame = pd.DataFrame({"s": [1.0, 2, 4, 7], "t": [10.0, 20, 40, 70]})
    with pytest.warns(RedundantModeratorWarning):
        made = build_design("s + t", frame, labels="1234")
    outside = np.abs(made.beyond({"s": [3.0, 3.0], "t": [30.0, 31.0]})).max(axis=1)
    assert outside[0] < 1e-12
    assert outside[1] > 1e-3
