"""Moderators one below the other: the mean effect at each of their levels, and the test of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.moderators.comparisons import NAMES as ADJUSTMENTS
from alliance_meta.moderators.table import ModeratorTable
from alliance_meta.moderators.table_rows import PER_SD, PER_UNIT
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, counted, estimate_key, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, usual
from alliance_meta.plots.sheet.measure import is_correlation
from alliance_meta.results.fit import records_of
from alliance_meta.tables.format import brief, format_level, format_p

NO_SLOPE_DRAWN = "Slopes are differences per standard deviation, not means: they stand in words"


def moderators_data(table: ModeratorTable, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of the forest of moderators: one row for each level, under a heading for each moderator.

    Parameters
    ----------
    table : ModeratorTable
        From `moderator_table`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: overall, heading, level or slope; ``label``, ``group`` (the moderator), ``text`` in place of an
        estimate (the test of a heading, the slope per standard deviation); ``k`` effects and ``studies``;
        ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations. Slopes
        have no mean: they have no numbers here but those in ``text``.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, moderator_table, plots
    >>> found = moderator_table(escalc(load_dataset("crede2010")), ["criterion", "year"])
    >>> frame = plots.moderators_data(found)
    >>> frame[["kind", "label"]].values.tolist()[1:4], frame["r"].round(2).tolist()[2:4]
    ([['heading', 'Criterion'], ['level', 'gpa'], ['level', 'grade']], [0.36, 0.45])
    """
    if not isinstance(table, ModeratorTable):
        raise InputError(f"moderators needs the result of moderator_table, not {type(table).__name__}")
    overall, *others = records_of(table.frame.reset_index())
    tests = {row["moderator"]: row for row in records_of(table.tests.reset_index())}
    rows = [_row(table.measure, overall, "overall", "Overall"), *_under_headings(table, others, tests)]
    text, own = format_level(table.level), rows[0]
    said = "; ".join(f"{row['label']} {parts.effect_text(table.measure, row)}" for row in rows if _drawn(row))
    gone = [f"No test of {name}: {row['why']}" for name, row in tests.items() if row["why"]]
    gone += [f"No mean of {row['level']}: {row['why']}" for row in others
             if row["why"] and not tests[row["moderator"]]["why"]]  # fmt: skip
    model = model_words(table)
    slopes = any(row["kind"] == "slope" for row in rows)
    key = estimate_key("Mean effect", f"{text} CI", [row for row in rows if _drawn(row)], text)
    return chart_frame(
        "moderators", "Moderators", rows, table.provenance, notes=table.notes, title=title,
        show_cautions=show_cautions, measure=table.measure, axis_label="Moderator",
        said=f"Mean effect of {counted(table.k)} by moderator: {said}.", x_label=parts.axis_label(table.measure),
        level=table.level, model_label=table.model_label, key=[*key, ["pi", "CI of the overall mean"]],
        bottom=[f"Model: {model}", *([NO_SLOPE_DRAWN] if slopes else []), *gone],
        counts={"k": "k", "studies": "Studies"}, reference=[own["yi"], own["ci_lb"], own["ci_ub"]],
    )  # fmt: skip


def model_words(table: ModeratorTable) -> str:
    """Return the model of a table in letters that a reader expects."""
    return table.model_label.replace("tau2", "τ²").replace("se^2", "SE²").replace("rho", "ρ")


def _drawn(row: Mapping[str, Any]) -> bool:
    return row["kind"] in ("overall", "level") and not row.get("text")


def _under_headings(
    table: ModeratorTable, rows: list[dict[str, Any]], tests: Mapping[Any, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    last = None
    for row in rows:
        name = row["moderator"]
        if name != last:
            words = test_words(tests[name], table.adjust, many=len(tests) > 1)
            yield {"kind": "heading", "label": parts.header(str(name)), "group": name, "text": words}
        last = name
        if row["level"] == PER_UNIT and row["kind"] == "slope":
            continue
        label = f"{PER_SD} ({brief(tests[name]['sd'], 3)})" if row["kind"] == "slope" else str(row["level"])
        yield _row(table.measure, row, row["kind"], label)


def _row(measure: str, row: Mapping[str, Any], kind: str, label: str) -> dict[str, Any]:
    made = {"kind": kind, "label": label, "group": row["moderator"], "k": row["k"], "studies": row["studies"]}
    numbers = dict(zip(EFFECT, (float(row[name]) for name in ("estimate", *EFFECT[1:])), strict=True))
    if math.isnan(numbers["yi"]):
        return made | {"text": "–"}
    if kind != "slope":
        return made | with_r(measure, numbers)
    # On Fisher's z the change in r at the average study, which is no transformation of the slope.
    change = {name: row[name] for name in ("r", "r_lb", "r_ub")} if measure == "ZCOR" else {}
    change |= with_r(measure, numbers) if not change else {}
    words = parts.effect_text(measure if is_correlation(measure) else "GEN", {**numbers, **change})
    return made | {"text": words if words.startswith("−") else f"+{words}"}


def test_words(test: Mapping[str, Any], adjust: str, *, many: bool) -> str:
    """Return the test of a moderator in words."""
    if test["why"]:
        return "no test"
    second = test["df2"] if test["df2"] == test["df2"] else None
    words = parts.test_text(test["stat"], (test["df1"], second), test["pval"])
    adjusted = f" ({ADJUSTMENTS[adjust]} {format_p(test['pval_adjusted'])})"
    return words + (adjusted if many and adjust != "none" else "")


def moderators(table_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the mean effect at every level of every moderator, under its name and its test.

    The shaded band is the interval of the overall mean. Two levels whose intervals overlap may still differ, and the
    reverse where levels share studies: the test in bold decides, not the eye. The thin lines say where the true effect
    of a new study of that kind is expected.

    Parameters
    ----------
    table_or_frame : ModeratorTable or DataFrame
        From `moderator_table`, or a frame from `moderators_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, moderator_table, plots
    >>> found = moderator_table(escalc(load_dataset("crede2010")), ["criterion", "year"])
    >>> plots.moderators(found).plot_description
    'Mean effect of 97 effects by moderator: Overall .43 [.38, .47]; gpa .36 [.27, .45]; grade .45 [.40, .50].'
    """
    frame = as_frame(table_or_frame, "moderators", moderators_data, data)
    return draw_rows(frame, ax, xlim, usual(frame))
