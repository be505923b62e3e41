"""The mean effect by every analysis of a battery, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import as_frame
from alliance_meta.plots.sheet.panels import draw_panel, panel_frame
from alliance_meta.sensitivity.batteries.battery import Battery

if TYPE_CHECKING:
    import pandas as pd

WORDS = {
    "heading": "Does the answer hold?",
    "axis": "Analysis",
    "said": "Mean effect of {k} by each analysis",
    "beside": "CI of the headline",
}


def battery_data(battery: Battery, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of the plot of a battery: one row per analysis that gives a mean.

    Parameters
    ----------
    battery : Battery
        From `sensitivity.battery`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` as in the battery, in its order; ``label``, ``says`` what is otherwise than in the headline, ``k``
        effects and ``studies`` used; ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb
        r_pi_ub`` the same as correlations. Analyses that give no mean are named under the plot, with the reason.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> found = sensitivity.battery(escalc(load_dataset("crede2010")), scenarios=["che", "lowest", "highest"])
    >>> frame = plots.battery_data(found)
    >>> frame["kind"].tolist(), frame["r"].round(2).tolist()
    (['headline', 'bound', 'bound'], [0.43, 0.42, 0.46])
    """
    if not isinstance(battery, Battery):
        raise InputError(f"battery needs the result of sensitivity.battery, not {type(battery).__name__}")

    def texts(row: Mapping[str, Any]) -> dict[str, str]:
        """Return the columns of text of a row."""
        return {"kind": row["kind"], "says": row["says"]}

    reasons = ". ".join(battery.reasons())
    bottom = [battery.spread(), battery.fragile_text(), *([f"Not given: {reasons}."] if reasons else [])]
    bottom += [f"No interval by {line}" for line in battery.without_interval()]

    return panel_frame(
        battery, "battery", texts=texts, reference="headline", words=WORDS,
        bottom=bottom, title=title, show_cautions=show_cautions,
    )  # fmt: skip


def battery(battery_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the mean effect by every analysis of a battery: dot, thick its confidence and thin its prediction interval.

    The shaded band is the interval of the headline. Rows that stay in it name choices that do not matter; rows off it
    name those that a report must discuss. The last rows show one-sided choices and what not to do.

    Parameters
    ----------
    battery_or_frame : Battery or DataFrame
        From `sensitivity.battery`, or a frame from `battery_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> found = sensitivity.battery(escalc(load_dataset("crede2010")), scenarios=["che", "lowest", "highest"])
    >>> plots.battery(found).plot_description.split("; ")[0]
    'Mean effect of 97 effects by each analysis: All effects, CHE + CR2 .43 [.38, .47]'
    """
    return draw_panel(as_frame(battery_or_frame, "battery", battery_data, data), ax, xlim)
