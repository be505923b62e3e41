"""The same data with other priors, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.priors.prior import EffectPrior
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_meta, described, make_chart, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.tables.format import format_count, format_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _varied(table: pd.DataFrame) -> list[str]:
    """Return the columns of priors that differ between rows, or that of tau."""
    found = [name for name in table.columns if name in ("mu_prior", "tau_prior") or name.startswith("prior of ")]
    return [name for name in found if table[name].nunique() > 1] or found[1:]


def _of(column: str) -> str:
    """Return what a column of priors is about, in words."""
    names = {"mu_prior": "mean effect", "tau_prior": "τ"}
    return names.get(column, column.removeprefix("prior of ").replace("tau", "τ", 1))


def prior_sensitivity_data(
    fit: Any,
    *,
    what: str = "mu",
    tau_priors: Any = None,
    mu_priors: Sequence[EffectPrior] | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the mean effect, or tau, under several priors.

    Parameters
    ----------
    fit : BayesianResults or BayesianMultilevelResults
    what : str
        ``"mu"`` or ``"tau"``; of three levels ``"tau[<term>]"``.
    tau_priors, mu_priors : sequence of priors, optional
        As in `BayesianResults.prior_sensitivity`.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        One row per combination of priors, ``label``; posterior median ``yi`` with ``ci_lb ci_ub``, for the mean effect
        with the prediction interval ``pi_lb pi_ub`` and all of it as correlations, ``r r_lb r_ub r_pi_lb r_pi_ub``.

    Raises
    ------
    InputError
        A result that has no `prior_sensitivity`, or priors that it refuses.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.prior_sensitivity_data(fit)
    >>> frame[["label", "r"]].round(3).head(2).values.tolist()
    [['half-normal(0.3)', 0.147], ['half-Cauchy(0.15)', 0.146]]
    """
    if not hasattr(fit, "prior_sensitivity"):
        raise InputError(f"prior_sensitivity_data needs the result of BayesianModel.fit, not {type(fit).__name__}")
    table = fit.prior_sensitivity(tau_priors=tau_priors, mu_priors=mu_priors)
    known = [name.removesuffix("_ci_lb") for name in table.columns if name.endswith("_ci_lb")]
    if what not in known:
        raise InputError(f"what={what!r} is not in the table of prior_sensitivity; there are {', '.join(known)}")
    mean = what == "mu"
    measure = fit.effects.measure if mean else "GEN"
    named = _varied(table)
    rows = []
    for row in table.to_dict("records"):
        label = "; ".join(str(row[name]) for name in named)
        numbers = {"yi": row[what], "ci_lb": row[f"{what}_ci_lb"], "ci_ub": row[f"{what}_ci_ub"]}
        if mean:
            numbers |= {"pi_lb": row["pi_lb"], "pi_ub": row["pi_ub"]}
        rows.append(with_r(measure, {"kind": "prior", "label": label} | {n: float(v) for n, v in numbers.items()}))
    text = f"{format_level(fit.level)} {KINDS['eti']} interval"
    meta = chart_meta(
        "prior_sensitivity",
        "The same data with other priors",
        fit.effects.provenance,
        title=title,
        show_cautions=show_cautions,
        notes=fit.notes,
    )
    name = "Mean effect" if mean else what.replace("tau", "τ", 1)
    values = "; ".join(f"{row['label']} {forest_text.effect_text(measure, row)}" for row in rows)
    own = fit.posterior(what).interval(level=fit.level)
    one = "" if "mu_prior" in named else f"; prior of the mean effect: {table['mu_prior'].iloc[0]}"
    level = format_level(fit.level)
    return make_chart(
        rows,
        meta
        | {
            "description": described(f"{name} by prior, {text}: {values}.", meta["synthetic"]),
            "measure": measure,
            "axis_label": f"Prior{'s' if len(named) > 1 else ''} of {'; '.join(_of(one) for one in named)}",
            "x_label": forest_text.axis_label(measure) if mean else f"{name} ({fit.effects.scale_label} scale)",
            "level": fit.level,
            "key": [
                ["thick", f"{name}, {text}"],
                *([["thin", f"{level} prediction interval"]] if mean else []),
                ["pi", "As fitted"],
            ],
            "bottom": [f"{format_count(fit.k)} effects{one}"],
            "value_label": f"{'r' if 'r' in rows[0] else 'Effect' if mean else 'τ'} [{level}]",
            "reference": [own.estimate, own.lb, own.ub],
        },
    )


def prior_sensitivity(
    fit_or_frame: Any, *, ax: Axes | None = None, xlim: tuple[float, float] | None = None, **data: Any
) -> NotebookFigure | Axes:
    """Draw what other priors would have given, one row per combination.

    Rows in one line mean that the conclusion does not rest on the prior. The band is the result as fitted.

    Parameters
    ----------
    fit_or_frame : BayesianResults, BayesianMultilevelResults or DataFrame
        A fit, or a frame from `prior_sensitivity_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure as wide as its text needs.
    xlim : (float, float), optional
        Limits of the axis as its labels read; intervals that leave them end in an arrow.
    **data
        Passed to `prior_sensitivity_data` unless a frame is given: ``what=``, ``tau_priors=``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        A result that has no `prior_sensitivity`, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.prior_sensitivity(fit).plot_description
    'Mean effect by prior, 95% equal-tailed interval: half-normal(0.3) .15 [.08, .22]; ...'
    """
    frame = as_frame(fit_or_frame, "prior_sensitivity", prior_sensitivity_data, data)
    return draw_rows(frame, ax, xlim)
