"""What each method for a biased literature makes of the mean effect, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.bias.panels import UNCORRECTED, BiasPanel
from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import as_frame
from alliance_meta.plots.sheet.estimate_rows import draw_panel, panel_frame

if TYPE_CHECKING:
    import pandas as pd

WORDS = {
    "heading": "Methods for a biased literature",
    "axis": "Method",
    "said": "Mean effect of {k} by each method",
    "beside": "CI of the uncorrected mean",
}


def bias_panel_data(panel: BiasPanel, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of the plot of methods for a biased literature: one row per method that gives a mean.

    Parameters
    ----------
    panel : BiasPanel
        From `bias.panel`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: uncorrected (the first row) or method, in the order of the panel; ``label``, ``assumes``, ``k``
        effects and ``studies`` used; ``yi ci_lb ci_ub`` on the analysis scale, ``r r_lb r_ub`` the same as
        correlations. Methods that give no mean are named under the plot, with the reason.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset, plots
    >>> found = bias.panel(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame = plots.bias_panel_data(found)
    >>> frame[["kind", "k"]].iloc[:2].values.tolist(), frame["r"].iloc[:2].round(2).tolist()
    ([['uncorrected', 16.0], ['method', 7.0]], [0.15, 0.03])
    """
    if not isinstance(panel, BiasPanel):
        raise InputError(f"bias_panel needs the result of bias.panel, not {type(panel).__name__}")

    def texts(row: Mapping[str, Any]) -> dict[str, str]:
        """Return the columns of text of a row."""
        kind = "uncorrected" if row["method"] == UNCORRECTED else "method"
        return {"kind": kind, "assumes": row["assumes"]}

    bottom = [panel.spread(), *(f"No mean by {line}" for line in panel.reasons())]
    bottom += [f"No interval by {line}" for line in panel.without_interval()]
    return panel_frame(
        panel, "bias_panel", texts=texts, reference="uncorrected", words=WORDS, bottom=bottom, title=title,
        show_cautions=show_cautions,
    )  # fmt: skip


def bias_panel(panel_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the mean effect as each method for a biased literature has it, below the uncorrected one.

    A method whose interval is much wider than the others' would hide them: an arrow says that it goes on.

    The shaded band is the interval of the uncorrected mean. Rows that stay in it say that what they assume would change
    little; rows far off name an assumption on which the answer rests. No row is the truth, and their average is none.

    Parameters
    ----------
    panel_or_frame : BiasPanel or DataFrame
        From `bias.panel`, or a frame from `bias_panel_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset, plots
    >>> found = bias.panel(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> plots.bias_panel(found).plot_description.split("; ")[0]
    'Mean effect of 16 effects by each method: Uncorrected .15 [.08, .22]'
    """
    frame = as_frame(panel_or_frame, "bias_panel", bias_panel_data, data)
    return draw_panel(frame, ax, xlim)
