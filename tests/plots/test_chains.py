"""The plot of chains holds the draws and their ranks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge
from alliance_meta.plots import chains, chains_data, figure_bytes, frame_from_dict, frame_to_dict
from tests.plots.chains_cases import chains_charts, sampled
from tests.plots.geometry import boxes, overlapping, texts

# Not among `charts`: to compute an R-hat, ArviZ is imported, which imports pyplot, which other plots must not.
NAMES = sorted(chains_charts())
ONE = [[0.1], [0.2]]
SINGLE = {"mu": ONE, "tau": ONE}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_overlaps_or_leaves_the_sheet(name):
    frame = chains_charts()[name]()
    figure = chains(frame)
    found, drawn = boxes(figure), [text.get_text() for text in texts(figure)]
    assert [(drawn[i], drawn[j]) for i, j in overlapping(found)] == []
    width, height = figure.get_size_inches()
    assert (found >= 0).all()
    assert (found[:, 2] <= width).all()
    assert (found[:, 3] <= height).all()
    assert ("SYNTHETIC DATA" in drawn) == frame.attrs["synthetic"] == figure.plot_description.startswith("SYNTHETIC")


@pytest.mark.parametrize("name", NAMES)
def test_frames_go_through_json(name):
    frame = chains_charts()[name]()
    text = json.dumps(frame_to_dict(frame), allow_nan=False)
    again = frame_from_dict(json.loads(text))
    pd.testing.assert_frame_equal(again, frame)
    assert json.dumps(frame_to_dict(again), allow_nan=False) == text
    if name == "chains of one":
        assert figure_bytes(chains(again)) == figure_bytes(chains(frame))


def test_it_draws_into_a_given_axes():
    left, right = Figure(figsize=(15, 5)).subplots(1, 2)
    assert chains(chains_charts()["chains"](), ax=left) is left
    assert right.axison
    for width, height in ((2.0, 5.0), (3.0, 5.0), (6.0, 1.0)):
        small = Figure(figsize=(width, height)).add_axes((0, 0, 1, 1))
        with pytest.raises(am.InputError, match="this plot needs at least"):
            chains(chains_charts()["chains"](), ax=small)


def test_every_draw_is_counted_once_in_its_bin():
    fit = sampled()
    frame = chains_data(fit, what=["mu", "tau"])
    ranks = frame[frame["kind"] == "rank"]
    assert (ranks.groupby(["label", "chain"])["count"].sum() == 400).all()
    assert (ranks.groupby(["label", "lb"])["count"].sum() == 1600 / 20).all()
    values = fit.draws("tau")
    rank = stats.rankdata(values).reshape(values.shape)
    own = ranks[(ranks["label"] == "tau") & (ranks["chain"] == 2)]
    expected = [int(((rank[1] > 80 * b) & (rank[1] <= 80 * (b + 1))).sum()) for b in range(20)]
    assert own["count"].tolist() == expected


def test_the_limits_hold_95_percent_of_chains_that_agree():
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(40):
        draws = {"mu": rng.normal(size=(4, 200)), "tau": rng.uniform(size=(4, 200))}
        ranks = chains_data(replace(sampled(), container=arviz_bridge.from_draws(draws)), what="mu").query(
            "kind == 'rank'"
        )
        inside.append(((ranks["count"] >= ranks["ci_lb"]) & (ranks["count"] <= ranks["ci_ub"])).mean())
    # Counts are whole numbers, so that the limits hold a little more.
    assert 0.94 < np.mean(inside) < 0.985


def test_the_course_is_thinned_and_starts_at_the_first_draw():
    fit = sampled(8, 1000)
    trace = chains_data(fit, what="mu").query("kind == 'trace'")
    assert trace["draw"].min() == 1
    assert (trace.groupby("chain").size() == 250).all()
    one = trace[trace["chain"] == 3]
    assert np.array_equal(one["value"], fit.draws("mu")[2][one["draw"].astype(int) - 1])


def test_it_shows_the_worst_parameters_unless_told():
    labels = set(chains_data(sampled(stuck=True))["label"])
    assert {"mu", "tau"} <= labels
    assert 2 <= len(labels) <= 4
    assert "Fails its checks: rhat" in chains_data(sampled(stuck=True)).attrs["bottom"][0]
    assert "Fails its checks" in chains(sampled(stuck=True)).plot_description


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda fit: chains_data(fit, what="muu"), "did you mean 'mu'"),
        (lambda fit: chains_data(fit, what=[]), "1 to 12"),
        (lambda fit: chains_data(fit.container), "needs the result of bayes.sample"),
        (
            lambda fit: chains_data(replace(fit, container=arviz_bridge.from_draws(SINGLE)), what="mu"),
            "one draw per chain",
        ),
        (lambda fit: chains_data(replace(fit, recipe=None), what="mu"), r"not from bayes\.pymc"),
    ],
)
def test_bad_questions(ask, message):
    with pytest.raises(am.InputError, match=message):
        ask(sampled())
