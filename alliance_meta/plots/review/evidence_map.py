"""The evidence map: how many effects and studies there are of each combination, and of which there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.effects.studies import plain_text
from alliance_meta.errors import InputError
from alliance_meta.notes import Note
from alliance_meta.plots.forests.naming import NOT_CODED
from alliance_meta.plots.forests.parts import axis_label, header
from alliance_meta.plots.review.rows import Rows, heads, joined, rows_of
from alliance_meta.plots.sheet.chart import DOTTED, SMALL, Chart, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.measure import GREY, INK, POINTS_PER_INCH, SUMMARY, line_height, wrap
from alliance_meta.tables.format import format_count, format_number, format_r, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from alliance_meta.results.fit import Fit

MOST_ROWS, MOST_COLUMNS, MOST_NAMED = 60, 30, 12
PITCH_X, PITCH_Y, PITCH_WITH_MEAN = 0.66, 0.54, 0.66
LARGEST, LEAST = 0.26, 0.07
LABEL, HEAD = 2.4, 1.9
TINY = 6.5
NONE, PALE = "no study", "#cfe0f0"
TIMES = " × "


def evidence_map_data(
    source: Any,
    *,
    rows: str | Sequence[str] = "measure",
    columns: str | Sequence[str] = "time",
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of an evidence map: one row for every combination of what was coded, the empty ones too.

    Parameters
    ----------
    source : CodedTable, EffectSizes, fit or DataFrame
        A sheet of one row per effect. Of a fit whose moderators are those of the map, all of them categories, the cells
        have the means of the model; otherwise no mean is made up.
    rows, columns : str or sequence of str
        Columns of the sheet down and across, several of them crossed: ``rows=["measure", "rater"]``. ``measure``,
        ``time`` and ``rater`` stand for ``alliance_measure`` and so on.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: cell or empty; ``label`` and ``across``, the levels; ``row`` and ``column``; ``k`` effects and
        ``studies``; ``yi`` and ``r``, the mean of the model. What is missing is the level "not coded".

    Raises
    ------
    InputError
        A column that is not there, stands twice, or has more levels than a figure can hold.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import plots
    >>> coded = {"measure": ["WAI", "WAI", "HAq"], "time": ["early", "late", "late"]}
    >>> sheet = pd.DataFrame({"study": ["A", "A", "B"], **coded})
    >>> frame = plots.evidence_map_data(sheet)
    >>> frame[["label", "across", "k"]].values.tolist()
    [['WAI', 'early', 1.0], ['WAI', 'late', 1.0], ['HAq', 'early', 0.0], ['HAq', 'late', 1.0]]
    """
    given = rows_of(source, "evidence_map")
    down, across = _names(given, rows, "rows"), _names(given, columns, "columns")
    if twice := sorted(set(down) & set(across)):
        raise InputError(f"{twice[0]!r} stands in rows and in columns; name it once")
    table, levels = _coded(given, [*down, *across])
    sides = [list(product(*(levels[name] for name in names))) for names in (down, across)]
    for side, most, option in zip(sides, (MOST_ROWS, MOST_COLUMNS), ("rows", "columns"), strict=True):
        if len(side) > most:
            raise InputError(
                f"{option}: {len(side)} combinations, a figure holds {most}; name fewer columns, or merge levels first"
            )
    counts = table.groupby([*down, *across], sort=False)["study"].agg(["size", "nunique"]).to_dict("index")
    cells = [_cell(i, j, one, other, counts) for (i, one), (j, other) in product(*map(enumerate, sides))]
    means = _means(given.fit, down, across, [cell for cell in cells if cell["kind"] == "cell"])
    empty = [f"{cell['label']}{TIMES}{cell['across']}" for cell in cells if cell["kind"] == "empty"]
    notes, below = _notes(cells, empty, given)
    key = [["bubble", "By number of studies"]]
    key += [["dotted", NONE.capitalize()]] if empty else []
    by = [_mean_label(given.fit)] if means and given.fit is not None else []
    words = ", ".join(header(name) for name in (*down, *across))
    return chart_frame(
        "evidence_map", "Evidence map", [cell | means.get((cell["row"], cell["column"]), {}) for cell in cells],
        given.provenance, notes=(*given.notes, *notes), title=title, show_cautions=show_cautions,
        said=_said(given, words, cells, empty), axis_label=TIMES.join(map(header, down)), x_label="", key=key,
        bottom=["Under a bubble: effects (studies)", *by, *below],
        across_label=TIMES.join(map(header, across)), measure="GEN",
    )  # fmt: skip


def _names(rows: Rows, given: str | Sequence[str], option: str) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        raise InputError(f"{option} names no column; write {option}='measure'")
    found = [rows.find(str(name), option) for name in names]
    if len(set(found)) < len(found):
        raise InputError(f"{option}: {', '.join(names)} names a column twice")
    return found


def _coded(rows: Rows, names: Sequence[str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Return study and levels of each row, and the levels of each column in the order of its vocabulary."""
    table = pd.DataFrame({"study": rows.studies})
    levels = {}
    for name in names:
        texts = [plain_text(value) or NOT_CODED for value in rows.frame[name]]
        table[name] = texts
        levels[name] = _ordered(name, set(texts))
    return table, levels


def _ordered(name: str, found: set[str]) -> list[str]:
    """Return levels as their vocabulary has them, else numbers by size and words by the alphabet; not coded last."""
    from alliance_meta.effects.contract.schema import CONTRACT

    column = CONTRACT.column(name) or CONTRACT.column(f"alliance_{name}")
    known = column.vocabulary.values if column is not None and column.vocabulary is not None else ()

    def place(text: str) -> tuple[Any, ...]:
        try:
            number = float(text)
        except ValueError:
            number = math.inf
        return (text == NOT_CODED, known.index(text) if text in known else len(known), number, text.casefold(), text)

    return sorted(found, key=place)


def _cell(
    i: int, j: int, one: tuple[str, ...], other: tuple[str, ...], counts: Mapping[Any, Mapping[Any, Any]]
) -> dict[str, Any]:
    found = counts.get((*one, *other))
    return {
        "kind": "cell" if found else "empty",
        "label": " · ".join(one),
        "across": " · ".join(other),
        "row": i,
        "column": j,
        "k": found["size"] if found else 0,
        "studies": found["nunique"] if found else 0,
        "levels": (*one, *other),
    }


def _means(
    fit: Fit | None, down: Sequence[str], across: Sequence[str], cells: Sequence[Mapping[str, Any]]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the mean of the model in each cell, where its moderators are the columns of the map."""
    names = [*down, *across]
    design = getattr(fit, "design", None)
    if fit is None or design is None or set(design.variables) != set(names) or set(design.levels) != set(names):
        return {}
    found = [cell for cell in cells if NOT_CODED not in cell["levels"]]
    asked = pd.DataFrame([dict(zip(names, cell["levels"], strict=True)) for cell in found])
    predicted = fit.predict(asked)["pred"].tolist()  # type: ignore[attr-defined]
    return {
        (cell["row"], cell["column"]): with_r(fit.effects.measure, {"yi": value})
        for cell, value in zip(found, predicted, strict=True)
    }


def _mean_label(fit: Fit) -> str:
    scale = axis_label(fit.effects.measure)
    return f"Its colour, and below: the mean by the model ({fit.model_label}), {scale[:1].lower()}{scale[1:]}"


def _notes(cells: Sequence[Mapping[str, Any]], empty: Sequence[str], rows: Rows) -> tuple[list[Note], list[str]]:
    """Return the notes, and what stands under the plot."""
    notes, below = [], []
    if empty:
        below.append(f"{len(empty)} of {len(cells)} combinations have no study")
        notes.append(Note("no-study", f"{below[0]}: {joined(empty, MOST_NAMED)}."))
    uncoded = sum(cell["k"] for cell in cells if NOT_CODED in cell["levels"])
    if uncoded:
        below.append(f"{counted(uncoded)} of {format_count(len(rows.studies))} not coded in every column of the map")
        notes.append(Note("not-coded", f"{below[-1]}."))
    return notes, below


def _said(rows: Rows, words: str, cells: Sequence[Mapping[str, Any]], empty: Sequence[str]) -> str:
    there = sorted((cell for cell in cells if cell["kind"] == "cell"), key=lambda cell: -cell["studies"])
    texts = [
        f"{cell['label']}{TIMES}{cell['across']} {counted(cell['k'])} of {_studies(cell['studies'])}" for cell in there
    ]
    begun = f"Evidence map of {counted(len(rows.studies))} of {_studies(len(set(rows.studies)))}"
    none = f" No study: {joined(empty, MOST_NAMED)}." if empty else ""
    return f"{begun} by {words}: {joined(texts, MOST_NAMED)}.{none}"


def _studies(n: int) -> str:
    return plural(n, "study", "studies")


def evidence_map(source_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw an evidence map: what was studied, how often, and what nobody has studied.

    A bubble is as large as the number of studies, and under it stand the effects and, in brackets, the studies. A
    dotted box is a combination without a study. Where a fit's moderators are the columns of the map, the mean by that
    model stands under the bubble and is its colour.

    Parameters
    ----------
    source_or_frame : CodedTable, EffectSizes, fit or DataFrame
        What `evidence_map_data` takes, or a frame from it.
    ax, **data
        As in `caterpillar`, and so are the errors. Column j stands at x = j, row i at y = i.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import plots
    >>> coded = {"measure": ["WAI", "WAI", "HAq"], "time": ["early", "late", "late"]}
    >>> sheet = pd.DataFrame({"study": ["A", "A", "B"], **coded})
    >>> plots.evidence_map(sheet).plot_description
    'Evidence map of 3 effects of 2 studies by Measure, Time: WAI × early 1 effect of 1 study; ...'
    """
    if isinstance(source_or_frame, pd.DataFrame) and not source_or_frame.attrs.get("plot"):
        frame = evidence_map_data(source_or_frame, **data)
    else:
        frame = as_frame(source_or_frame, "evidence_map", evidence_map_data, data)
    down = frame.drop_duplicates("row")["label"].tolist()
    across = frame.drop_duplicates("column")["across"].tolist()
    labels = ["\n".join(wrap(str(name), SMALL, LABEL)[:3]) for name in down]
    own = (max(len(across) * PITCH_X, 2.0), len(down) * (PITCH_WITH_MEAN if frame["r"].notna().any() else PITCH_Y))
    least = own if ax is None else (len(across) * 0.55, len(down) * 0.4)
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        chart.limits("x", -0.5, len(across) - 0.5)
        chart.limits("y", len(down) - 0.5, -0.5)
        _bubbles(chart, frame[frame["kind"] == "cell"])
        _empty(chart, frame[frame["kind"] == "empty"])
        chart.names("y", labels, size=SMALL)
        heads(chart, across, PITCH_X, frame.attrs["across_label"])
        chart.name_above_rows(5.0)
        chart.ax.tick_params(length=0.0, pad=5.0)
        chart.ax.spines[["left", "bottom"]].set_visible(False)
    return chart.made


def _bubbles(chart: Chart, cells: pd.DataFrame) -> None:
    """Draw the bubbles of the combinations with studies, and under each its numbers."""
    largest = float(cells["studies"].max())
    diameters = np.maximum(LEAST, LARGEST * np.sqrt(cells["studies"].to_numpy() / largest))
    means = cells["r"].fillna(cells["yi"]).to_numpy()
    looks = {"facecolors": [_shade(value, means) for value in means]} if np.isfinite(means).any() else {}
    chart.dots(cells["column"], cells["row"], "bubble", s=(diameters * POINTS_PER_INCH) ** 2, **looks)
    for row, mean in zip(cells.to_dict("records"), means, strict=True):
        texts = [f"{format_count(row['k'])} ({format_count(row['studies'])})"]
        if np.isfinite(mean):
            texts.append(f"r {format_r(mean)}" if np.isfinite(row["r"]) else format_number(mean))
        for i, text in enumerate(texts):
            below = chart.moved(0.0, -(LARGEST / 2 + 0.08 + i * line_height(TINY)), chart.ax.transData)
            chart.words(row["column"], row["row"], text, below, ha="center", va="center", fontsize=TINY)


def _shade(value: float, means: Array) -> Any:
    """Return a colour, the darker the larger the mean; white where there is none."""
    from matplotlib.colors import to_rgb

    if not np.isfinite(value):
        return "white"
    low, high = np.nanmin(means), np.nanmax(means)
    share = (value - low) / (high - low) if high > low else 0.5
    return tuple((1 - share) * np.array(to_rgb(PALE)) + share * np.array(to_rgb(SUMMARY)))


def _empty(chart: Chart, cells: pd.DataFrame) -> None:
    """Draw a dotted box where there is no study."""
    from matplotlib.patches import Rectangle

    for row, column in zip(cells["row"], cells["column"], strict=True):
        chart.ax.add_patch(
            Rectangle((column - 0.42, row - 0.3), 0.84, 0.6, facecolor="none", edgecolor=INK, linewidth=0.7,
                      linestyle=DOTTED, zorder=2)
        )  # fmt: skip
        chart.words(column, row, NONE, chart.ax.transData, ha="center", va="center", fontsize=TINY, color=GREY)
