"""Every chart that is no forest stands on an Axes in the units of its labels, and leaves the user's own marks alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.spatial import cKDTree

import alliance_meta as am
from alliance_meta import plots
from alliance_meta.plots.review.prisma import diagram
from tests.plots.chains_cases import chains_charts
from tests.plots.charts import DRAW, chart, charts, first
from tests.plots.geometry import texts, words

NAMES = sorted(charts())
CASES: dict[str, Callable[[], pd.DataFrame]] = {
    **{plot: lambda plot=plot: chart(first(plot)) for plot in DRAW},  # type: ignore[misc]
    "bubble of levels": lambda: chart("bubble of levels"),
    "predictive of studies": lambda: chart("predictive of studies"),
    "predictive of Q": lambda: chart("predictive of Q"),
    "rob as bars": lambda: chart("rob as bars"),
    "chains": chains_charts()["chains"],
}
Points = list[tuple[int, Any, Any]]


@cache
def framed(plot: str) -> pd.DataFrame:
    """Return the frame of a case, made once."""
    return CASES[plot]()


def effects(frame: pd.DataFrame, name: str = "yi") -> Any:
    """Return a column of effects in the units of an axis of effects."""
    as_r = {"yi": "r", "ci_lb": "r_lb", "ci_ub": "r_ub"}[name]
    return frame[as_r if frame[as_r].notna().any() else name].to_numpy()


def of_rows(frame: pd.DataFrame) -> Points:
    # Where one limit is lacking there is no interval.
    whole = np.where(frame[["ci_lb", "ci_ub"]].notna().all(axis=1), 0.0, np.nan)
    ends = [(0, effects(frame, name) + whole, np.arange(len(frame))) for name in ("ci_lb", "ci_ub")]
    return [(0, effects(frame, "yi"), np.arange(len(frame))), *ends]


def ranked(frame: pd.DataFrame, kind: str) -> Points:
    return of_rows(frame[(frame["kind"] == kind) & frame["yi"].notna()])


def over_x(frame: pd.DataFrame, x: str = "x", **kinds: str) -> Points:
    return [(0, frame[x], effects(frame))]


def densities(frame: pd.DataFrame, *kinds: str) -> Points:
    shown = frame[frame["kind"].isin(kinds)]
    return [(0, shown["r"] if frame.attrs["measure"] == "ZCOR" else shown["x"], shown["density"])]


def bins(frame: pd.DataFrame) -> Points:
    one = frame[(frame["kind"] == "bin") & (frame["count"] > 0)]
    ends = (np.tanh(one[name]) if frame.attrs["measure"] == "ZCOR" else one[name] for name in ("lb", "ub"))
    return [(0, end, one["count"]) for end in ends]


def of_panels(frame: pd.DataFrame) -> Points:
    found = []
    for at, (_, one) in enumerate(frame[frame["kind"] != "lower"].groupby("label", sort=False)):
        curve = one[one["kind"].isin(("curve", "maximum"))]
        found.append((at, curve["value"], curve["loglik"] - frame.attrs["peak"]))
    return found


def of_measures(frame: pd.DataFrame) -> Points:
    shown = frame[frame["kind"].isin(("unit", "flagged"))]
    return [(at, one["position"], one["value"]) for at, (_, one) in enumerate(shown.groupby("measure", sort=False))]


def of_chains(frame: pd.DataFrame) -> Points:
    number, found = int(frame["chain"].max()), []
    for at, (_, one) in enumerate(frame.groupby("label", sort=False)):
        trace, ranks = one[one["kind"] == "trace"], one[one["kind"] == "rank"]
        found.append((at * (number + 1), trace["draw"], trace["value"]))
        found += [(at * (number + 1) + int(c), own["ub"], own["count"]) for c, own in ranks.groupby("chain")]
    return found


def by_se(frame: pd.DataFrame) -> Points:
    """Return the points of a plot of effects against standard errors, and the ends of its lines."""
    points = frame[frame["kind"].isin(("effect", "study"))]
    lines = frame[frame["kind"] == ("limits" if "limits" in set(frame["kind"]) else "contour")]
    return [(0, effects(points), points["se"]), *((0, effects(lines, end), lines["se"]) for end in ("ci_lb", "ci_ub"))]


def of_curve(frame: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    yield from ((frame["position"], effects(frame, name)) for name in ("yi", "ci_lb", "ci_ub"))


def of_boxes(frame: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    for left, top, right, _ in diagram(frame).boxes.values():
        yield from (([left], [top]), ([right], [top]))


# Plot -> the panel, x and y of points that its frame says must be drawn.
EXPECTED: dict[str, Callable[[pd.DataFrame], Points]] = {
    "averaged": lambda f: densities(f, "conditional", "prior", "median"),
    "baujat": lambda f: [(0, f["x"], f["y"])],
    "battery": of_rows,
    "bias_panel": of_rows,
    "bubble": lambda f: over_x(f[f["kind"] == "study"]) + over_x(f[f["kind"] == "line"]),
    "bubble of levels": lambda f: [(0, f.loc[f["kind"] == "level", "x"] + 0.42, effects(f[f["kind"] == "level"]))],
    "caterpillar": lambda f: ranked(f, "study"),
    "chains": of_chains,
    "dependence": of_rows,
    "development": lambda f: [(0, None, effects(f))],
    "drapery": lambda f: [(0, f.loc[f["kind"] != "effect", "r"], f.loc[f["kind"] != "effect", "p"])],
    "rainforest": lambda f: [(0, f["r"], np.arange(len(f)))],
    "ranks": lambda f: [(0, effects(f, name), f["row"]) for name in ("yi", "ci_lb", "ci_ub")],
    "timeline": lambda f: [*over_x(f), (1, f["x"], f["tau2"])],
    "firepower": lambda f: [(0, np.arange(10) - 0.5, np.full(10, -0.9))],
    "funnel": by_se,
    "influence": of_measures,
    "gosh": lambda f: [
        (0, np.tanh(f.loc[f["kind"] == "mean", "lb"]), f.loc[f["kind"] == "mean", "share_inside"]),
        (1, f.loc[f["kind"] == "I2", "share"], f.loc[f["kind"] == "I2", "I2_ub"]),
    ],
    "p_curve": lambda f: [(0, np.arange(len(f)), f[name]) for name in ("observed", "none", "third")],
    "means": of_rows,
    "moderators": of_rows,
    "orchard": lambda f: of_rows(f[f["kind"] == "level"]),
    "posterior": lambda f: densities(f, "posterior", "prior", "median"),
    "predictive": bins,
    "predictive of Q": bins,
    "predictive of studies": lambda f: [(0, f["expected"], f["value"])],
    "prior": lambda f: densities(f, "density"),
    "prior_predictive": lambda f: densities(f, "density"),
    "prior_sensitivity": of_rows,
    "prisma": lambda f: [(0, *one) for one in of_boxes(f)],
    "rob": lambda f: [(0, f["column"], f["position"])],
    "rob as bars": lambda f: [
        (0, f["start"], f["position"] + 0.36),
        (0, f["start"] + f["share"], f["position"] + 0.36),
    ],
    "evidence_map": lambda f: [(0, *(f.loc[f["kind"] == "cell", name] for name in ("column", "row")))],
    "profile": lambda f: [(0, *(f.loc[f["kind"] != "upper", name] for name in ("tau2", "loglik")))],
    "profiles": of_panels,
    "qqnorm": lambda f: [(0, f["x"], f["y"])],
    "radial": lambda f: [(0, f["x"], f["y"])],
    "resampled": bins,
    "rho_grid": lambda f: over_x(f, "rho"),
    "sequential": lambda f: over_x(f[f["kind"] == "step"]) + over_x(f[f["kind"] == "study"]),
    "smooth": lambda f: over_x(f[f["kind"] == "study"]) + over_x(f[f["kind"] == "line"]),
    "selection_weights": lambda f: [
        (0, f.loc[f["kind"] == "weight", "p"], f.loc[f["kind"] == "weight", "weight"]),
        (0, f.loc[f["kind"] == "effect", "p"], 0.0 * f.loc[f["kind"] == "effect", "p"]),
    ],
    "specification_curve": lambda f: [
        *((0, *one) for one in of_curve(f[f["kind"] == "specification"])),
        (1, f.loc[f["kind"] == "taken", "position"], f.loc[f["kind"] == "taken", "row"]),
    ],
    "sunset": by_se,
    "worst_case": lambda f: over_x(f[f["kind"] == "ratio"], "ratio"),
    "z_curve": lambda f: [
        (0, f.loc[f["kind"] == "bin", "ub"], f.loc[f["kind"] == "bin", "density"]),
        *((0, f.loc[f["kind"] == kind, "z"], f.loc[f["kind"] == kind, "density"]) for kind in ("fitted", "expected")),
    ],
    "weight_function": lambda f: [(0, np.arange(len(f)), f["mean"])],
}


def vertices(ax: Axes) -> Iterator[Any]:
    """Yield the places on the screen of all marks in data units, by their own transforms."""
    for line in ax.lines:
        if line.get_transform().contains_branch(ax.transData):
            yield line.get_transform().transform(np.column_stack(line.get_data()))
    for one in ax.collections:
        if isinstance(one, PathCollection):
            yield one.get_offset_transform().transform(np.ma.filled(one.get_offsets(), np.nan))
    for patch in ax.patches:
        if isinstance(patch, Rectangle):
            yield patch.get_transform().transform([[0.0, 1.0], [1.0, 1.0]])


def places(ax: Axes) -> Any:
    return np.concatenate(list(vertices(ax)))


def assert_drawn(panels: list[Axes], points: Points) -> None:
    """Assert that a mark stands where the panel's axes place each pair of numbers."""
    for at, x, y in points:
        ax = panels[at]
        found, y = places(ax), np.asarray(y, dtype=float)
        x = np.zeros(len(y)) if x is None else np.asarray(x, dtype=float)
        wanted = ax.transData.transform(np.column_stack([x, y]))[np.isfinite(x + y)]
        assert len(wanted)
        # Where x is no number of the frame, heights alone are compared.
        used = [1] if points[0][1] is None else [0, 1]
        marks = cKDTree(found[np.isfinite(found[:, used]).all(axis=1)][:, used])
        assert marks.query(wanted[:, used], p=np.inf)[0].max() < 1e-6


@pytest.mark.parametrize("plot", sorted(CASES))
def test_marks_stand_at_the_numbers_of_the_frame_and_move_with_the_axes(plot: str) -> None:
    frame = framed(plot)
    function = getattr(plots, frame.attrs["plot"])
    figure = Figure(figsize=(16, 14))
    user, other = figure.subplots(2, 1)
    other.plot([0, 1], [5, 7], label="mine")
    (mine,) = user.plot([0.01, 0.02], [0.5, 0.6])
    before = other.get_position().bounds, other.get_xlim()
    assert function(frame, ax=user) is user
    assert (other.get_position().bounds, other.get_xlim()) == before
    assert len(other.lines) == 1
    assert mine in user.lines
    mine.remove()
    panels = user.child_axes or [user]
    points = EXPECTED[plot](frame)
    assert_drawn(panels, points)
    seen = [places(ax) for ax in panels]
    for ax in panels:
        lo, hi = ax.get_xlim()
        ax.set_xlim(lo + 0.2 * (hi - lo), hi - 0.1 * (hi - lo))
        ax.set_ylim(*ax.get_ylim()[::-1])
    assert_drawn(panels, points)
    for ax, old in zip(panels, seen, strict=True):
        assert np.nanmax(np.abs(places(ax) - old)) > 1.0


@pytest.mark.parametrize("plot", sorted(CASES))
def test_a_user_goes_on_with_the_axes(plot: str) -> None:
    frame = framed(plot)
    figure = Figure(figsize=(16, 14), layout="constrained")
    user = figure.subplots()
    getattr(plots, frame.attrs["plot"])(frame, ax=user)
    user.set_title("Mine")
    user.axhline(0.1)
    user.set_xticks([0.1, 0.2], ["one", "two"])
    user.set_xlabel("An axis")
    figure.draw_without_rendering()
    shown = [text.get_text() for text in texts(figure)]
    assert "Mine" in shown
    assert set(frame.attrs["bottom"]) <= {text.replace("\n", " ") for text in shown}
    legend = user.get_legend()
    entries = [] if legend is None else [one.get_text() for one in legend.get_texts()]
    assert entries == [name for _, name in frame.attrs["key"]]
    assert ("An axis" in shown) == user.axison


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow_whatever_its_limits() -> None:
    ax = Figure(figsize=(8, 6)).subplots()
    frame = chart("means")
    plots.means(frame, ax=ax)

    def arrows() -> int:
        ax.figure.draw_without_rendering()  # type: ignore[union-attr]
        return sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() in ("<", ">"))

    assert arrows() == 0
    ax.set_xlim(0.0, 0.99)
    assert arrows() == int((frame["r_lb"] < 0).sum() + (frame["r_pi_lb"] < 0).sum()) > 0


def test_limits_of_correlations_stay_inside_minus_one_and_one() -> None:
    ax = Figure(figsize=(8, 6)).subplots()
    plots.means(chart("means"), ax=ax)
    ax.set_xlim(-2.0, 2.0)
    assert ax.get_xlim() == (-0.999, 0.999)


def stands(user: Axes, frame: pd.DataFrame) -> None:
    """Assert that a forest's marks stand where the user's axes places the numbers of the frame, at row i y = i."""
    (sheet,) = user.child_axes
    corners = [sheet.transData.transform(path.vertices) for one in sheet.collections for path in one.get_paths()]
    middles = np.array([one[:-1].mean(axis=0) for one in corners if len(one) == 5])
    lines = np.array([one for one in corners if len(one) == 2])
    lo, hi = user.get_xlim()
    seen = 0
    for i, row in enumerate(frame.to_dict("records")):
        if row["kind"] != "study" or not lo < row["r"] < hi:
            continue
        point, lower, upper = user.transData.transform([(row[name], i) for name in ("r", "r_lb", "r_ub")])
        assert np.abs(middles - point).max(axis=1).min() < 1e-6
        if lo < row["r_lb"] and row["r_ub"] < hi:
            assert np.abs(lines - [lower, upper]).max(axis=(1, 2)).min() < 1e-6
        seen += 1
    assert seen > 3
    ticks = [text for text in words(sheet) if text.get_text() in (".2", "0", ".4")]
    for text in ticks:
        x = text.get_window_extent()
        assert (x.x0 + x.x1) / 2 == pytest.approx(user.transData.transform((float(text.get_text()), 0))[0], abs=0.6)
    assert ticks


@pytest.mark.parametrize("limits", [None, (-0.3, 0.7), (0.0, 0.45)])
def test_a_forest_stands_on_the_users_axes_in_its_units_whatever_its_limits(limits) -> None:
    from tests.plots.cases import molloy

    figure = Figure(figsize=(20, 7))
    user = figure.subplots(1, 2)[1]
    whole = user.get_window_extent().bounds
    fit = molloy()
    frame = plots.forest_data(fit)
    assert plots.forest(fit, ax=user) is user
    if limits is not None:
        user.set_xlim(*limits)
    figure.draw_without_rendering()
    if limits is not None:
        assert user.get_xlim() == limits
    stands(user, frame)
    (sheet,) = user.child_axes
    assert sheet.get_window_extent().bounds == pytest.approx(whole)
    drawn = [text.get_window_extent() for text in words(sheet)]
    assert min(box.x0 for box in drawn) >= whole[0]
    assert max(box.x1 for box in drawn) <= whole[0] + whole[2]
    # Rows keep their places; the axes is the panel of values, and nothing else of it shows.
    user.set_ylim(0, 1)
    assert user.get_ylim() == (len(frame), -1.0)
    assert user.get_window_extent().width < 0.6 * whole[2]
    assert not user.axison


def test_a_forest_goes_on_in_a_layout_of_the_figure_and_can_be_drawn_again() -> None:
    from tests.plots.cases import molloy

    figure = Figure(figsize=(17, 6), layout="constrained")
    first, second = figure.subplots(1, 2, sharex=True)
    figure.draw_without_rendering()
    frame = plots.forest_data(molloy())
    plots.forest(frame, ax=first)
    wide = first.get_window_extent().width
    first.clear()
    plots.forest(frame, ax=first)
    assert first.get_window_extent().width == pytest.approx(wide)
    plots.forest(frame, ax=second)
    second.set_xlim(-0.1, 0.6)
    figure.draw_without_rendering()
    for ax in (first, second):
        assert ax.get_xlim() == (-0.1, 0.6)
        stands(ax, frame)


def test_a_title_stands_above_the_sheet_of_a_forest_and_limits_run_upwards() -> None:
    from tests.plots.cases import molloy

    figure = Figure(figsize=(9, 6))
    user = figure.subplots()
    whole = user.get_window_extent().frozen()
    plots.forest(molloy(), ax=user)
    user.set_title("Adherence")
    figure.draw_without_rendering()
    title = user.title.get_window_extent()
    assert title.y0 >= whole.y1
    assert (title.x0 + title.x1) / 2 == pytest.approx((whole.x0 + whole.x1) / 2, abs=1)
    user.set_xlim(0.5, 0.1)
    with pytest.raises(am.InputError, match="two rising limits"):
        figure.draw_without_rendering()
