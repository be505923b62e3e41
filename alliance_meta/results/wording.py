"""What the documents of fitted models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alliance_meta.notes import NotApplicable
from alliance_meta.result import made_up, said
from alliance_meta.tables.document import Block, Document, Kind, Lines, Table, table_of
from alliance_meta.tables.format import (
    fixed,
    fixed_interval,
    fixed_r,
    fixed_r_interval,
    format_level,
    p_value,
    plain_df,
)

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes
    from alliance_meta.results.coefficients import WaldTest

CORRELATIONS = ("ZCOR", "COR", "UCOR")
FISHER = "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3)"
ESTIMATORS = {"REML": "restricted maximum likelihood", "ML": "maximum likelihood"}


def document(
    result: Any,
    title: str,
    lines: Lines,
    *blocks: Block,
    effects: EffectSizes | None = None,
    alarm: Sequence[str] = (),
) -> Document:
    """Return the document of a result with its notes, and with what must be said of its effects."""
    found = result.effects.provenance if effects is None else effects.provenance
    cautions = [f"Caution: {caution}" for caution in found.cautions]
    return Document(title, lines, blocks, [*said(result.notes), *cautions], [*alarm, *made_up(found)])


def moderated(fit: Any) -> list[str]:
    """Return the line that names the moderators; none without any."""
    return [f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []


def scale_sentence(fit: Any) -> str:
    """Return the sentence of a methods section that says on which scale effects were analysed."""
    sentence = {
        "ZCOR": f"{FISHER} for the analysis and back-transformed for presentation. ",
        "COR": "Raw correlations were analysed. ",
        "UCOR": "Correlations corrected for small-sample bias were analysed. ",
    }
    return sentence.get(fit.effects.measure, "")


def q_test(fit: Any) -> str:
    """Return the test of heterogeneity."""
    name = "Residual heterogeneity" if fit.p > 1 else "Heterogeneity"
    return f"{name}: QE(df = {fit.QEdf}) = {fixed(fit.QE)}, p {p_value(fit.QEp)}"


def moderator_test(fit: Any, called: str = "") -> list[str]:
    """Return the test of all moderators; none without any."""
    return [line_of_test("Test of moderators", fit.omnibus, called)] if fit.design.formula != "1" else []


def line_of_test(what: str, test: WaldTest, called: str = "") -> str:
    """Return a test in one line, or why there is none."""
    if isinstance(test.stat, NotApplicable):
        return f"{what}: n/a, {test.stat.reason}"
    return f"{what}: {test.label} = {fixed(test.stat)}, p {p_value(test.pval)}{f' ({called})' if called else ''}"


def coefficients(fit: Any, frame: Any = None, caption: str = "") -> Table:
    """Return the table of coefficients: those of `tidy`, or of a part of it."""
    table = fit.tidy() if frame is None else frame
    with_t = "ddf" in table and bool((table["ddf"].astype(float) < float("inf")).any())
    kinds: dict[str, Kind] = {"estimate": 4, "se": 4, "stat": 4}
    kinds |= {"ddf": "df"} if with_t else {}
    said_of = caption or f"Coefficients ({fit.effects.scale_label}, {format_level(fit.level)} CI)"
    heads = {"stat": "tval" if with_t else "zval", "ddf": "df"}
    return table_of(table, kinds | {"pval": "p", "ci_lb": 4, "ci_ub": 4}, said_of, heads=heads)


def as_r(fit: Any, *, mean: bool = True, new: str = "") -> list[str]:
    """Return the mean effect as a correlation, and with `new` the true correlation there; none with moderators."""
    if fit.design.formula != "1" or fit.effects.measure != "ZCOR":
        return []
    row = fit.predict(scale="r").iloc[0]
    lines = [f"As r: {estimate(row)} (median true correlation, tanh)"]
    lines += [f"      {estimate(fit.predict(scale='r_mean').iloc[0])} (mean true correlation)"] if mean else []
    lines += [f"      true correlation in {new}: {fixed_r_interval(row.pi_lb, row.pi_ub)}"] if new else []
    return lines


def estimate(row: Any) -> str:
    """Return a prediction with its interval, three decimals."""
    return f"{fixed_r(row.pred, 3)} {fixed_r_interval(row.ci_lb, row.ci_ub)}"


def prediction(fit: Any, new: str, rule: str) -> list[str]:
    """Return the prediction interval for `new`; none with moderators, or where there is no such interval."""
    if fit.design.formula != "1":
        return []
    row = fit.predict(scale="r" if fit.effects.measure == "ZCOR" else None).iloc[0]
    if row.pi_lb != row.pi_lb:
        return []
    scale = "r" if fit.effects.measure in CORRELATIONS else "analysis scale"
    interval = (fixed_r_interval if scale == "r" else fixed_interval)(row.pi_lb, row.pi_ub, 3)
    return [f"{format_level(fit.level)} prediction interval for {new} ({scale}): {interval} ({rule})"]


def effects_per_cluster(sizes: Any) -> str:
    """Return ``1 to 11 each``."""
    return f"{range_of(sizes)} each"


def range_of(sizes: Any) -> str:
    """Return ``1 to 11``."""
    low, high = int(min(sizes)), int(max(sizes))
    return f"{low}" if low == high else f"{low} to {high}"


def on_r(fit: Any) -> list[str]:
    """Return the mean effect as r with both intervals."""
    if fit.design.formula != "1":
        return []
    ddf = fit.predict().iloc[0].ddf
    return [*as_r(fit, mean=False), *prediction(fit, "a new effect", f"t({plain_df(ddf)})")]
