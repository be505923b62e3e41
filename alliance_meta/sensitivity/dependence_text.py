"""A comparison of methods for dependent effects in words and as plain text; every word is decided by a number."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alliance_meta.results.wording import WIDTH as LINE
from alliance_meta.results.wording import bare_p, level_text, number, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.sensitivity.dependence_result import DependenceComparison

METHODS = {
    "one per study": "One effect per study",
    "mean": "Mean of each study",
    "three-level": "Three-level",
    "three-level + CR2": "Three-level + CR2",
    "CHE + CR2": "CHE + CR2",
    "RVE CORR": "RVE correlated",
    "RVE HIER": "RVE hierarchical",
}
INTERCEPT = "intrcpt"
SYNTHETIC = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
_VARIANCES = ("tau2", "tau2_between", "tau2_within")
WIDTH = 21
# Degrees of freedom, widths and shares closer than this are not told apart.
ALIKE = 0.05


def summary(result: DependenceComparison) -> str:
    """Return the tables, the paragraph and the notes."""
    effects, settings = result.effects, result.settings
    lines = [
        f"Dependent effects by {len(result.routes)} methods (k = {effects.k} effects in {result.clusters.n} clusters "
        f"by {settings['cluster']}; rho = {settings['rho']:g})",
        effects.heading,
        *([] if result.is_mean else [f"Moderators: {settings['mods']}"]),
    ]
    out = [*([SYNTHETIC] if effects.provenance.synthetic else []), *[part for one in lines for part in wrapped(one)]]
    for term in result.terms:
        out += ["", *([] if result.is_mean else [term]), *_estimates(result, term)]
    if result.as_r:
        out += ["", *_on_r(result)]
    out += ["", *_variances(result), ""]
    out += [*textwrap.wrap(result.text(), LINE), *remarks(result.notes)]
    return "\n".join([*out, *[part for one in effects.provenance.cautions for part in wrapped(f"Caution: {one}")]])


def _rows(result: DependenceComparison, term: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for (method, name), row in zip(result._table.index, result._table.to_dict("records"), strict=True):
        if name == term:
            found.append((METHODS[method], {str(key): value for key, value in row.items()}))
    return found


def _estimates(result: DependenceComparison, term: str) -> list[str]:
    lines = [f"{'':{WIDTH}} {'k':>4} {'estimate':>8} {'se':>7} {'df':>6} {'pval':>7} {'ci_lb':>7} {'ci_ub':>7}"]
    for label, row in _rows(result, term):
        if math.isnan(row["estimate"]):
            lines.append(f"{label:{WIDTH}} {'left out' if math.isnan(row['k']) else 'n/a'}")
            continue
        df = "inf" if math.isinf(row["ddf"]) else "n/a" if math.isnan(row["ddf"]) else f"{row['ddf']:.1f}"
        lines.append(
            f"{label:{WIDTH}} {row['k']:>4.0f} {number(row['estimate']):>8} {number(row['se']):>7} {df:>6} "
            f"{bare_p(row['pval']):>7} {number(row['ci_lb']):>7} {number(row['ci_ub']):>7}"
        )
    return lines


def _on_r(result: DependenceComparison) -> list[str]:
    level = level_text(result.level)
    lines = [f"{'':{WIDTH}} {'r':>6}   {level + ' CI':<18} {level} prediction interval"]
    for label, row in _rows(result, result.terms[0]):
        if not math.isnan(row["r"]):
            interval = f"[{number(row['r_lb'], 3)}, {number(row['r_ub'], 3)}]"
            new = "n/a" if math.isnan(row["r_pi_lb"]) else f"[{number(row['r_pi_lb'], 3)}, {number(row['r_pi_ub'], 3)}]"
            lines.append(f"{label:{WIDTH}} {number(row['r'], 3):>6}   {interval:<18} {new}")
    return lines


def _variances(result: DependenceComparison) -> list[str]:
    lines = [f"{'':{WIDTH}} {'tau2':>8} {'between':>8} {'within':>8}   (variance of true effects)"]
    for label, row in _rows(result, result.terms[0]):
        if not math.isnan(row["k"]):
            cells = ["" if math.isnan(row[name]) else number(row[name]) for name in _VARIANCES]
            lines.append(f"{label:{WIDTH}} " + " ".join(f"{cell:>8}" for cell in cells).rstrip())
    return lines


def paragraph(result: DependenceComparison, term: str | None) -> str:
    """Return what differs between the methods, for one coefficient or for all that matter."""
    terms = [term] if term is not None else [name for name in result.terms if name != INTERCEPT] or list(result.terms)
    parts = [_about(result, name) for name in terms]
    parts += [_used(result), _shares(result)]
    return " ".join(part for part in parts if part)


def _about(result: DependenceComparison, term: str) -> str:
    found = [(label, row) for label, row in _rows(result, term) if not math.isnan(row["estimate"])]
    if len(found) == 1:
        label, row = found[0]
        return f"Only one method gives {_what(result, term)}, {label}: {_value(result, row)}."
    text = [_spread(result, term, found), _zero(result, found), _widths(result, found), _dfs(found)]
    if result.is_mean:
        text.append(_new(result, found))
    return " ".join(part for part in text if part)


def _what(result: DependenceComparison, term: str) -> str:
    return "the mean effect" if result.is_mean else f"the coefficient of {term}"


def _value(result: DependenceComparison, row: dict[str, Any]) -> str:
    return f"r = {number(row['r'], 3)}" if result.as_r else number(row["estimate"], 3)


def _interval(result: DependenceComparison, row: dict[str, Any], kind: str = "ci") -> str:
    names = {"ci": ("ci_lb", "ci_ub"), "pi": ("pi_lb", "pi_ub")}[kind]
    if result.as_r:
        names = {"ci": ("r_lb", "r_ub"), "pi": ("r_pi_lb", "r_pi_ub")}[kind]
    return f"[{number(row[names[0]], 3)}, {number(row[names[1]], 3)}]"


def _spread(result: DependenceComparison, term: str, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    ordered = sorted(found, key=lambda one: one[1]["estimate"])
    (low_name, low), (high_name, high) = ordered[0], ordered[-1]
    largest = max((row["se"] for _, row in found if not math.isnan(row["se"])), default=math.nan)
    moves = (high["estimate"] - low["estimate"]) / largest if largest > 0 else math.nan
    what = _what(result, term)
    units = "" if math.isnan(moves) else f", {moves:.2f} of the largest standard error apart"
    return (
        f"By {len(found)} methods, {what} lies between {_value(result, low)} ({low_name}) and "
        f"{_value(result, high)} ({high_name}){units}."
    )


def _zero(result: DependenceComparison, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    known = [(label, row) for label, row in found if not math.isnan(row["ci_lb"])]
    if not known:
        return ""
    level = level_text(result.level)
    holding = [label for label, row in known if row["ci_lb"] <= 0 <= row["ci_ub"]]
    above = [label for label, row in known if row["ci_lb"] > 0]
    if not holding:
        if len(above) in (0, len(known)):
            return f"Every {level} confidence interval lies {'above' if above else 'below'} 0."
        below = [label for label, row in known if row["ci_ub"] < 0]
        return f"The {level} confidence interval lies above 0 by {_named(above)} and below 0 by {_named(below)}."
    if len(holding) == len(known):
        return f"Every {level} confidence interval holds 0."
    rest = [label for label, _ in known if label not in holding]
    return f"The {level} confidence interval holds 0 by {_named(holding)}, not by {_named(rest)}."


def _widths(result: DependenceComparison, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    wide = sorted(
        ((row["ci_ub"] - row["ci_lb"], label, row) for label, row in found if not math.isnan(row["ci_lb"])),
        key=lambda one: one[0],
    )
    if len(wide) < 2 or not wide[0][0] > 0:
        return ""
    ratio = wide[-1][0] / wide[0][0]
    if ratio < 1 + ALIKE:
        return "The intervals are about equally wide."
    return (
        f"The widest interval, {_interval(result, wide[-1][2])} ({wide[-1][1]}), is {ratio:.2f} times as wide as the "
        f"narrowest, {_interval(result, wide[0][2])} ({wide[0][1]})."
    )


def _dfs(found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    known = sorted((row["ddf"], label) for label, row in found if math.isfinite(row["ddf"]))
    if len(known) < 2 or known[-1][0] <= known[0][0] * (1 + ALIKE):
        return ""
    return f"Degrees of freedom run from {known[0][0]:.1f} ({known[0][1]}) to {known[-1][0]:.1f} ({known[-1][1]})."


def _new(result: DependenceComparison, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    known = sorted(
        ((row["pi_ub"] - row["pi_lb"], label, row) for label, row in found if not math.isnan(row["pi_lb"])),
        key=lambda one: one[0],
    )
    if len(known) < 2:
        return ""
    (_, narrow, first), (_, wide, last) = known[0], known[-1]
    return (
        f"The {level_text(result.level)} prediction interval goes from {_interval(result, first, 'pi')} ({narrow}) to "
        f"{_interval(result, last, 'pi')} ({wide})."
    )


def _used(result: DependenceComparison) -> str:
    fit = result.fits.get("one per study")
    if fit is None or fit.k >= result.effects.k:
        return ""
    return f"One effect per study rests on {fit.k} of the {result.effects.k} effects."


def _shares(result: DependenceComparison) -> str:
    shares = [
        (100.0 * row["tau2_within"] / row["tau2"], label)
        for label, row in _rows(result, result.terms[0])
        if row["tau2_within"] >= 0 and row["tau2"] > 0
    ]
    if not shares:
        return ""
    shares.sort()
    low, high = shares[0], shares[-1]
    if high[0] - low[0] < 100 * ALIKE:
        share = f"{low[0]:.0f} %"
    else:
        share = f"{low[0]:.0f} % ({low[1]}) to {high[0]:.0f} % ({high[1]})"
    return f"Of the variance of true effects, {share} lies within studies."


def _named(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
