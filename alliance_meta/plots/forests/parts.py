"""What every forest is made of: its words, its frame, cells, rows of effects and of groups."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import predict_levels
from alliance_meta.notes import NotApplicable, Note, did_you_mean
from alliance_meta.plots.sheet.measure import JOINERS, is_correlation, to_reader
from alliance_meta.results.exact_correlation import ExactCorrelationResults
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.tables.format import (
    brief,
    format_df,
    format_estimate,
    format_interval,
    format_level,
    format_number,
    format_p,
    format_percent,
)

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes
    from alliance_meta.results.coefficients import Interval

AXIS_LABELS = {
    "ZCOR": "Correlation r (Fisher z scale)",
    "COR": "Correlation r",
    "UCOR": "Correlation r, bias-corrected",
}
SCALES = {"ZCOR": "z scale", "COR": "r scale", "UCOR": "r scale"}
ROB_LEGEND = "Risk of bias: L low, S some concerns, H high"
UNCLEAR = "?"
YES_NO = {"True": "yes", "False": "no"}
MOST_COMPONENTS = 4
WHOLE = "n: rounded down where it is the mean of several effects, or an effective size"


def header(name: str) -> str:
    """Return a column's name as a reader's header."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def axis_label(measure: str) -> str:
    """Return the label under the axis."""
    return AXIS_LABELS.get(measure, "Effect size")


def estimate_header(measure: str, level: float) -> str:
    """Return the header over the printed estimates."""
    name = "r" if is_correlation(measure) else "Effect"
    return f"{name} [{format_level(level)} CI]"


def prediction_label(level: float) -> str:
    """Return the label of the prediction interval."""
    return f"{format_level(level)} prediction interval"


def cell(value: Any) -> str:
    """Return a moderator's value as text; a missing one is empty."""
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float):
        return brief(value).replace("-", "−")
    return str(value)


def effect_text(measure: str, row: Mapping[str, Any]) -> str:
    """Return the estimate of a row with its confidence interval, as a reader sees it."""
    names = ("r", "r_lb", "r_ub") if is_correlation(measure) else ("yi", "ci_lb", "ci_ub")
    return format_estimate(*(row.get(name, math.nan) for name in names), leading_zero=not is_correlation(measure))


def heterogeneity(fit: Any, level: float, *, simple: bool) -> str:
    """Return the heterogeneity of the model behind a fit in one line."""
    model = model_of(fit)
    if isinstance(model, RandomEffectsResults):
        return _of_one_tau2(model, level, simple=simple)
    name = "Heterogeneity" if simple else "Residual heterogeneity"
    found = []
    if isinstance(model, ExactCorrelationResults):
        found.append(f"τ = {tau_text(model.confint_tau2(level=level))} (z scale; profile likelihood)")
    if hasattr(model, "QEp") and not math.isnan(model.QE):
        found.append(f"Q({format_df(model.QEdf)}) = {format_number(model.QE)}, {format_p(model.QEp, name='p')}")
    scale = SCALES.get(fit.effects.measure, "scale of the effects")
    spread = _spread(model)
    if spread:
        found.append(f"{spread} ({scale})")
    I2: Any = getattr(model, "I2", NotApplicable("none"))
    if isinstance(model, LocationScaleResults):
        found.append(f"I² = {_range(model.I2, format_percent)}")
    elif not math.isnan(I2):
        found.append(f"I² = {format_percent(I2)}{_shares(model)}")
    return f"{name}: {'; '.join(found)}"


def _range(values: Array, write: Callable[[float], str]) -> str:
    """Return the least and the largest of the studies' values, one where they agree."""
    least, most = write(float(np.min(values))), write(float(np.max(values)))
    return least if least == most else f"{least} to {most}"


def _spread(model: Any) -> str:
    """Return the standard deviations of true effects, by level."""
    if isinstance(model, ExactCorrelationResults):
        return ""
    if isinstance(model, LocationScaleResults):
        return f"τ = {_range(model.tau, format_number)}"
    if isinstance(model, RVEResults):
        if math.isnan(model.tau):
            return ""
        if math.isnan(model.omega2):
            return f"τ = {format_number(model.tau)}"
        return f"τ = {format_number(model.tau)} between, ω = {format_number(math.sqrt(model.omega2))} within clusters"
    found = {name: row for name, row in model.components["estimate"].items() if not str(name).startswith("rho")}
    if len(found) > MOST_COMPONENTS:
        return f"{len(found)} variances, see the model"
    return ", ".join(
        f"{'σ' if str(name).startswith('sigma2') else 'τ'} = {format_number(math.sqrt(float(value)))} "
        f"{_level(model, str(name).partition('[')[2].removesuffix(']'))}"
        for name, value in found.items()
    )


def _level(model: MultilevelResults, name: str) -> str:
    """Return between or within what a random term lets true effects vary."""
    rows = {term.name for term in model.random if term.n == model.k and not term.within}
    if name in rows:
        return "within studies" if len(model.random) > 1 else "between effects"
    if "|" in name:
        return f"({name.rpartition(': ')[2]})"
    return "between studies" if name == "study_id" else f"between {name}"


def _shares(model: Any) -> str:
    if not isinstance(model, MultilevelResults):
        return ""
    shown = {name: value for name, value in model.I2_levels.items() if name != "total"}
    levels = [f"{_level(model, str(name)).removesuffix(' studies')} {format_percent(v)}" for name, v in shown.items()]
    return f" ({', '.join(levels)})" if 1 < len(levels) <= MOST_COMPONENTS else ""


def _of_one_tau2(fit: RandomEffectsResults, level: float, *, simple: bool) -> str:
    """Return Q, tau with its interval, and I2 in one line."""
    if fit.QEdf < 1:
        studies = "one study" if fit.k == 1 else f"{fit.k} studies and {fit.p} coefficients"
        return f"Heterogeneity cannot be estimated from {studies}"
    parts = [f"Q({fit.QEdf}) = {format_number(fit.QE)}, {format_p(fit.QEp, name='p')}"]
    if fit.method != "EE":
        scale = SCALES.get(fit.effects.measure, "scale of the effects")
        parts.append(f"τ = {tau_text(fit.confint_tau2(kind='QP', level=level))} ({scale})")
    parts.append(f"I² = {format_percent(fit.I2)}")
    return f"{'Heterogeneity' if simple else 'Residual heterogeneity'}: {'; '.join(parts)}"


def tau_text(tau2: Interval) -> str:
    """Return tau with its interval, of those of tau2."""
    lb, ub = (math.sqrt(bound) if bound >= 0 else math.nan for bound in (tau2.lb, tau2.ub))
    return format_estimate(math.sqrt(tau2.estimate), lb, ub, leading_zero=True)


def moderator_test(fit: Any) -> str:
    """Return the test of all moderators of a fit."""
    return f"Test of moderators: {test_text(fit.QM, fit.QMdf, fit.QMp)}"


def test_text(stat: float, df: Any, pval: float) -> str:
    """Return a test as F(m, df) or χ²(m), with its p."""
    first, second = df if isinstance(df, tuple) else (df, None)
    name = f"χ²({format_df(first)})" if second is None else f"F({format_df(first)}, {format_df(second)})"
    return f"{name} = {format_number(stat)}, {format_p(pval, name='p')}"


OPPOSITES = {
    "better": "worse", "higher": "lower", "greater": "less", "more": "less", "larger": "smaller", "stronger": "weaker",
}  # fmt: skip
# A comparison at the end of what a positive sign means: "... goes with a better outcome".
_LAST = re.compile(rf"positive = .*\b({'|'.join(OPPOSITES)}) ((?:(?!\b(?:{'|'.join(OPPOSITES)})\b)[^,;])+)")
MOST_LETTERS = 40


def directions(said: str) -> list[str] | None:
    """Return what a negative and a positive effect mean, in a few words, of what data say of their sign.

    >>> directions("positive = a better alliance goes with a better outcome")
    ['worse outcome', 'better outcome']
    >>> directions("as coded by the source") is None
    True
    """
    found = _LAST.fullmatch(re.sub(r" \([^()]*\)", "", said).strip())
    if found is None or len(found[2]) > MOST_LETTERS:
        return None
    return [f"{OPPOSITES[found[1]]} {found[2]}", f"{found[1]} {found[2]}"]


def described(text: str, synthetic: bool) -> str:
    """Return a text alternative that says first when the data are made up."""
    return f"SYNTHETIC DATA, made up for teaching. {text}" if synthetic else text


def pooled_texts(measure: str, model_label: str, end: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the rows of `summary_rows` say."""
    zero = not is_correlation(measure)
    texts = []
    for row in end:
        if row["kind"] == "summary":
            texts.append(f"{'Pooled effect' if zero else 'Pooled r'} = {effect_text(measure, row)} ({model_label})")
        else:
            names = ("pi_lb", "pi_ub") if zero else ("r_pi_lb", "r_pi_ub")
            interval = format_interval(*(row[name] for name in names), leading_zero=zero)
            texts.append(f"{row['label']} {interval}")
    return texts


def description(fit: Any, what: str, end: Sequence[Mapping[str, Any]]) -> str:
    """Return a text alternative: what the plot shows, for readers who cannot see it."""
    text = described(f"Forest plot of {what}.", fit.effects.provenance.synthetic)
    if end:
        return " ".join([text, *(f"{one}." for one in pooled_texts(fit.effects.measure, fit.model_label, end))])
    return f"{text} Fitted values of the model {fit.design.formula} ({fit.model_label}) are drawn as diamonds."


KINDS = ("heading", "study", "cluster", "effect", "subgroup", "fitted", "summary", "prediction", "blank")

TEXT = ("kind", "label", "group", "text")
NUMBERS = (
    *("ni", "yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub", "fit", "fit_lb", "fit_ub"),
    *("r", "r_lb", "r_ub", "r_pi_lb", "r_pi_ub", "weight", "position"),
)
COLUMNS = (*TEXT, *NUMBERS)

META: dict[str, Any] = {
    "plot": "forest",
    "title": "Forest plot",
    "description": "",
    "measure": "GEN",
    "axis_label": "Effect size",
    "estimate_header": "Estimate [95% CI]",
    "label_header": "Study",
    "n_header": "n",
    "weight_header": "Weight %",
    "columns": [],
    "rob": [],
    "level": 0.95,
    "model_label": "",
    "pooled": None,
    "shrunken": False,
    "bottom": [],
    "notes": [],
    "cautions": [],
    "show_cautions": False,
    "synthetic": False,
    "order": "given",
    "by": None,
    "tau2": None,
    # How it is drawn, and what a negative and a positive effect mean.
    "layout": "default",
    "prediction": "bar",
    "direction": None,
}
# What only some frames say: the limits of the axis, on the reader's scale.
OPTIONAL = ("xlim",)


def make_frame(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the drawing frame of `rows`; what a row does not name is empty, `meta` goes to ``.attrs``."""
    unknown = set(meta) - set(META) - set(OPTIONAL)
    if unknown:
        raise InputError(f"forest frame: unknown meta data {', '.join(sorted(unknown))}")
    attrs = copy.deepcopy({**META, **meta})
    extras = [column["key"] for column in (*attrs["columns"], *attrs["rob"])]
    wrong = [key for key in extras if key in COLUMNS]
    if wrong:
        raise InputError(f"forest frame: column keys {', '.join(wrong)} are taken by the frame itself")
    data: dict[str, Any] = {}
    for name in ("kind", "label", *extras, "group", "text"):
        data[name] = pd.Series([as_text(row.get(name)) for row in rows], dtype=object)
    for name in NUMBERS:
        data[name] = np.array([as_number(row.get(name)) for row in rows], dtype=float)
    frame = pd.DataFrame(data)
    frame.attrs.update(attrs)
    return frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def estimate(measure: str, value: float, lb: float, ub: float) -> dict[str, float]:
    """Return an estimate with its interval on the analysis scale and, where it has one, as r."""
    out = {"yi": float(value), "ci_lb": float(lb), "ci_ub": float(ub)}
    if is_correlation(measure):
        names = {"r": "yi", "r_lb": "ci_lb", "r_ub": "ci_ub"}
        out |= {name: to_reader(out[source], measure) for name, source in names.items()}
    return out


def column_key(name: str) -> str:
    """Return the name of a chosen column in the frame: its own, unless the frame uses that itself."""
    return f"{name} (column)" if name in COLUMNS else name


def check_frame(frame: pd.DataFrame) -> None:
    """Raise an `InputError` unless `frame` can be drawn."""
    missing = [name for name in COLUMNS if name not in frame]
    if missing or frame.attrs.get("plot") != "forest":
        lacking = f"lacks {', '.join(missing)}" if missing else "lost its .attrs (copy it, do not rebuild it)"
        raise InputError(f"this is not a frame that forest_data or published_forest_data made: it {lacking}")
    odd = sorted(set(frame["kind"]) - set(KINDS))
    if odd:
        raise InputError(f"forest frame: kind {odd[0]!r} is not one of {', '.join(KINDS)}")


def as_number(value: Any) -> float:
    """Return a float; None is NaN."""
    return math.nan if value is None else float(value)


def as_text(value: Any) -> str:
    """Return one line of printable text; None and NaN are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    words = " ".join(str(value).split())
    return "".join(character for character in words if character.isprintable() or character in JOINERS)


MOST_COLUMNS = 3
ROB_LETTERS = {
    **dict.fromkeys(("l", "low", "green", "+"), "L"),
    **dict.fromkeys(("s", "some", "some concerns", "moderate", "medium", "yellow"), "S"),
    **dict.fromkeys(("unclear", "no information", "not enough information", "?"), UNCLEAR),
    **dict.fromkeys(("h", "high", "serious", "red", "critical", "-"), "H"),
}

Columns = Sequence[str] | Mapping[str, str]
Order = str | Sequence[str]


def headers(effects: EffectSizes, columns: Columns | None, option: str) -> dict[str, str]:
    """Return column -> header, or say which column there is not."""
    names = [columns] if isinstance(columns, str) else (columns or ())
    if not isinstance(names, Collection):
        raise InputError(f"{option}={columns!r} must name columns of the effects, such as {option}=['rob']")
    known = [str(name) for name in effects.moderators.columns]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InputError(
            f"{option}: no column {wrong[0]!r}{did_you_mean(wrong[0], known)} Columns: {', '.join(known) or 'none'}"
        )
    if isinstance(names, Mapping):
        return dict(names)
    return {name: header(name) for name in names}


def column(effects: EffectSizes, name: str, header: str) -> dict[str, Any]:
    """Return what the frame says of a chosen column."""
    return {
        "key": column_key(name),
        "title": header,
        "numeric": bool(pd.api.types.is_numeric_dtype(effects.moderators[name])),
    }


def dot_key(name: str, shown: Mapping[str, str]) -> str:
    """Return the name of a risk-of-bias column in the frame."""
    return f"{name} (risk of bias)" if name in shown or name in COLUMNS else name


def effect_rows(fit: Any, level: float, shown: Mapping[str, str], dots: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one row per study, in the order of the table."""
    effects = fit.effects
    moderators = effects.moderators
    half = critical_value(level, None) * effects.sei
    weights = getattr(fit, "weights", None)
    rows = []
    for i, label in enumerate(effects.slab):
        cells = {column_key(name): cell(moderators[name].iloc[i]) for name in shown}
        found = {dot_key(name, shown): letter(moderators[name].iloc[i]) for name in dots}
        rows.append(
            {
                "kind": "study",
                "label": label,
                "ni": None if effects.ni is None else effects.ni[i],
                "weight": None if weights is None else weights[i],
                "position": i,
                **estimate(effects.measure, effects.yi[i], effects.yi[i] - half[i], effects.yi[i] + half[i]),
                **cells,
                **found,
            }
        )
    return rows


def sort_values(fit: Any, name: str) -> list[Any]:
    """Return what `order` sorts each effect by, None where it has no value."""
    effects = fit.effects
    if name == "given":
        return list(range(effects.k))
    if name == "effect":
        return list(effects.yi)
    if name == "precision":
        return list(effects.vi)
    if name == "weight":
        return list(-np.asarray(fit.weights))
    moderators = effects.moderators
    if name not in moderators:
        known = ["given", "effect", "precision", "weight", *map(str, moderators.columns)]
        raise InputError(f"order={name!r} is neither a way to sort nor a column{did_you_mean(name, known)}")
    cells = moderators[name]
    numbers = pd.to_numeric(cells, errors="coerce")
    if numbers.notna().sum() == cells.notna().sum():
        return [None if math.isnan(value) else value for value in numbers.astype(float)]
    return [None if pd.isna(value) else str(value) for value in cells]


def summary_rows(fit: Any, level: float, ni: float | None, label: str | None = None) -> list[dict[str, Any]]:
    """Return the row of the mean effect and, where the model has one, that of the prediction interval."""
    predicted, measure = fit.predict(level=level).iloc[0], fit.effects.measure
    mean = {
        "kind": "summary",
        "label": label or f"Pooled effect ({fit.model_label})",
        "ni": ni,
        **estimate(measure, *(predicted[name] for name in ("pred", "ci_lb", "ci_ub"))),
    }
    lb, ub = float(predicted["pi_lb"]), float(predicted["pi_ub"])
    if math.isnan(lb) or math.isnan(ub):
        return [mean]
    new: dict[str, Any] = {"kind": "prediction", "label": prediction_label(level), "pi_lb": lb, "pi_ub": ub}
    if is_correlation(measure):
        new |= {"r_pi_lb": to_reader(lb, measure), "r_pi_ub": to_reader(ub, measure)}
    return [mean, new]


def model_of(fit: Any) -> Any:
    """Return the model under robust standard errors, or the model."""
    return fit.fit if isinstance(fit, RobustResults) else fit


def single_mean(fit: Any) -> bool:
    """Return whether the model is a single mean."""
    return bool(fit.p == 1 and fit.design.has_intercept)


def judgement(text: str) -> str | None:
    """Return the letter of a judgement in words, None where it is none.

    >>> judgement("Low risk of bias"), judgement("unclear"), judgement("4")
    ('L', '?', None)
    """
    words = " ".join(text.lower().replace("_", " ").split())
    return ROB_LETTERS.get(words.removesuffix(" of bias").removesuffix(" risk"))


def letter(value: Any) -> str:
    """Return the letter of a judgement, of words that are none their first."""
    text = cell(value).strip()
    return judgement(text) or text[:1].upper()


def rob_legend(effects: EffectSizes, dots: Mapping[str, str]) -> list[str]:
    """Return the key of the letters in the risk-of-bias columns, if there are any."""
    found = {letter(value) for name in dots for value in effects.moderators[name]} if dots else set()
    more = f", {UNCLEAR} unclear" if UNCLEAR in found else ""
    return [ROB_LEGEND + more] if dots else []


def chosen(effects: EffectSizes, columns: Columns | None, rob: Columns | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the chosen columns and the risk-of-bias columns with their headers."""
    shown, dots = headers(effects, columns, "columns"), headers(effects, rob, "rob")
    if len(shown) > MOST_COLUMNS:
        raise InputError(f"columns: {len(shown)} given, a forest plot has room for {MOST_COLUMNS}")
    return shown, dots


def fit_frame(
    fit: Any,
    body: Sequence[Mapping[str, Any]],
    *,
    level: float,
    title: str | None,
    show_cautions: bool,
    columns: Mapping[str, str],
    rob: Mapping[str, str],
    order: Order,
    notes: Sequence[Note],
    bottom: Sequence[str],
    **more: Any,
) -> pd.DataFrame:
    """Return the drawing frame of a fit; `columns` and `rob` are those chosen, with their headers."""
    effects, origin = fit.effects, fit.effects.provenance
    meta = {
        "title": title if title is not None else f"Forest plot: {origin.title or origin.source}",
        "measure": effects.measure,
        "axis_label": axis_label(effects.measure),
        "estimate_header": estimate_header(effects.measure, level),
        "level": level,
        "model_label": getattr(fit, "model_label", fit.called),
        "cautions": list(origin.cautions),
        "show_cautions": show_cautions,
        "synthetic": origin.synthetic,
        "columns": [column(effects, name, header) for name, header in columns.items()],
        "rob": [{"key": dot_key(name, columns), "title": header} for name, header in rob.items()],
        "bottom": [*bottom, *rob_legend(effects, rob)],
        "notes": [note.to_dict() for note in notes],
        "order": order if isinstance(order, str) else list(order),
        "direction": directions(effects.direction),
    }
    if more.get("by") is not None:
        meta["label_header"] = f"Study, by {more['by'].replace('_', ' ').strip()}"
        body = [
            {**row, "label": YES_NO.get(row["label"], row["label"])} if row["kind"] == "heading" else row
            for row in body
        ]
    if any(row.get("ni") is not None and row["ni"] % 1 > 0 for row in body):
        meta["bottom"].append(WHOLE)
    return make_frame(body, meta | more)


def sort_rows(fit: Any, order: Order) -> tuple[list[int], list[Note]]:
    """Return the positions of the studies in drawing order, and notes on rows that lack a sort value."""
    keys = [order] if isinstance(order, str) else list(order)
    positions = list(range(fit.effects.k))
    notes: list[Note] = []
    for key in reversed(keys):
        reverse = key.startswith("-") and key not in fit.effects.moderators
        name = key[1:] if reverse else key
        values = sort_values(fit, name)
        positions = missing_last(positions, values, reverse)
        absent = sum(value is None for value in values)
        if absent:
            listed = f"{absent} of {len(positions)} studies have"
            notes.insert(0, Note("forest-order", f"{listed} no {name!r} and are listed last."))
    return positions, notes


def missing_last(items: list[int], values: Sequence[Any], reverse: bool) -> list[int]:
    """Return items sorted by their values, those without one last."""
    present = [i for i in items if values[i] is not None]
    return sorted(present, key=lambda i: values[i], reverse=reverse) + [i for i in items if values[i] is None]


def fitted_levels(fit: Any) -> tuple[str | None, tuple[str, ...]]:
    """Return the model's one categorical moderator with its levels; (None, ()) for any other model."""
    variables = fit.design.variables
    if len(variables) != 1 or variables[0] not in fit.design.levels:
        return None, ()
    name = variables[0]
    levels = tuple(map(str, fit.design.levels[name]))
    coded = {cell(value) for value in fit.effects.moderators[name]}
    return (name, levels) if coded <= set(levels) else (None, ())


def fitted_rows(
    fit: Any,
    studies: Sequence[dict[str, Any]],
    positions: Sequence[int],
    name: str,
    levels: Sequence[str],
    *,
    level: float,
) -> list[dict[str, Any]]:
    """Return the studies and, in a block of its own, the model's mean for each level."""
    coded = [cell(value) for value in fit.effects.moderators[name]]
    predicted = predict_levels(fit, name, levels, by=name, level=level)
    fitted = []
    for i, value in enumerate(levels):
        row = predicted.iloc[i]
        values = (row[bound] for bound in ("pred", "ci_lb", "ci_ub"))
        label = f"Fitted mean: {value} (k = {coded.count(value)})"
        fitted.append({"kind": "fitted", "label": label, **estimate(fit.effects.measure, *values)})
    heading = {"kind": "heading", "label": f"Model {fit.design.formula} ({fit.model_label})"}
    return [*(studies[i] for i in positions), {"kind": "blank"}, heading, *fitted]
