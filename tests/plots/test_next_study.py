"""The plot of a synthesis over the years holds the result's own numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex

from alliance_meta import InputError
from alliance_meta.bayes import sequential
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.plots import sequential_data
from alliance_meta.plots.sheet.chart import CI_BAND, PI_BAND
from tests.plots.cases import molloy
from tests.plots.charts import chart, draw
from tests.plots.next_study import solved


@pytest.fixture(scope="module")
def fit() -> BayesianResults:
    return solved(molloy().effects)


def test_steps_and_studies_are_the_results_own(fit: BayesianResults) -> None:
    found = sequential(fit)
    frame = sequential_data(found)
    steps, studies = frame[frame["kind"] == "step"], frame[frame["kind"] == "study"]
    table = found.tidy(scale="r")
    assert steps["x"].tolist() == table["at"].tolist()
    for name, column in (("r", "mu"), ("r_lb", "mu_ci_lb"), ("r_pi_ub", "pi_ub")):
        np.testing.assert_allclose(steps[name], table[column], rtol=1e-12)
    assert studies["label"].tolist() == list(found.surprises().index)
    assert studies["x"].tolist() == found.surprises()["at"].tolist()
    assert frame.attrs["x_label"] == "Year"


def test_what_is_no_number_is_counted() -> None:
    frame = chart("sequential by letters")
    assert frame.loc[frame["kind"] == "step", "x"].tolist() == [1, 2, 3, 4]
    assert frame.attrs["x_label"] == "Step, ordered by the values given"


def test_bands_step_where_studies_come_in(fit: BayesianResults) -> None:
    frame = chart("sequential")
    steps, ax = frame[frame["kind"] == "step"], draw("sequential").axes[0]
    bands = {to_hex(one.get_facecolor()[0]): one for one in ax.collections if isinstance(one, PolyCollection)}
    for colour, low, high in ((PI_BAND, "r_pi_lb", "r_pi_ub"), (CI_BAND, "r_lb", "r_ub")):
        corners = bands[colour].get_paths()[0].vertices
        # The band between two steps is as wide as the interval at the first.
        for x, after, lb, ub in zip(steps["x"], steps["x"][1:], steps[low], steps[high], strict=False):
            for end in (x, after):
                found = corners[np.isclose(corners[:, 0], end), 1]
                assert np.isclose(found, lb).any()
                assert np.isclose(found, ub).any()


def test_surprising_results_have_a_ring() -> None:
    frame = chart("sequential of many")
    surprising = int((frame["p"] < 0.05).sum())
    assert surprising > 0
    collections = [one for one in draw("sequential of many").axes[0].collections if isinstance(one, PathCollection)]
    assert sorted(len(one.get_offsets()) for one in collections) == [surprising, 150]


def test_steps_without_a_posterior_are_left_empty() -> None:
    frame = chart("sequential with flat priors")
    steps = frame[frame["kind"] == "step"]
    assert steps["yi"].isna().tolist() == [True] + [False] * 11
    assert pd.isna(steps["ci_lb"].iloc[0])


def test_other_results_are_refused(fit: BayesianResults) -> None:
    with pytest.raises(InputError, match=r"needs the result of bayes\.sequential, not BayesianResults"):
        sequential_data(fit)  # type: ignore[arg-type]
