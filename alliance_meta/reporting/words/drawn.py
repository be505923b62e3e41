"""Words in figures, and of methods in tables, in another language: what fits and plots say in English, as templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from alliance_meta.reporting.words import is_english, marked
from alliance_meta.reporting.words.sentences import phrase

if TYPE_CHECKING:
    import pandas as pd

# A part in braces is a number or a name and stays; of several that fit the first counts.
DRAWN: Final = marked(
    (
        "Forest plot: {label}",
        "Caterpillar plot: {label}",
        "Bubble plot: {label}",
        "Funnel plot: {label}",
        "Funnel plot with power: {label}",
        "Methods for a biased literature: {label}",
        "Does the answer hold? {label}",
        "Moderators: {label}",
        "Means by {by}: {label}",
        "Methods for dependent effects: {label}",
        "Prior and posterior: {label}",
        "Other priors: {label}",
        "Profile of the likelihood: {label}",
        "Orchard plot: {label}",
        "Correlation r (Fisher z scale)",
        "Correlation r",
        "Study",
        "Study, by {by}",
        "Effect",
        "Effects",
        "Weight %",
        "Year",
        "Mean",
        "r [{level} CI]",
        "r [{level} credible]",
        "Effect [{level} CI]",
        "Pooled effect ({model})",
        "Mean effect (posterior, {level} credible)",
        "{level} prediction interval",
        "Subtotal ({effects} effects in {studies} studies)",
        "Subtotal ({studies} studies)",
        "Heterogeneity: {numbers}; σ = {between} between studies, σ = {within} within studies (z scale); I² ="
        " {I2} (between {first}, within {second})",
        "Heterogeneity: {numbers} (z scale); I² = {I2}",
        "Heterogeneity: {numbers}",
        "Residual heterogeneity: {numbers} (z scale); I² = {I2}",
        "Heterogeneity cannot be estimated from one study",
        "Cluster-robust inference: {type}, {n} clusters by {cluster}, {df}",
        "Prediction interval: the true effect of a new row ({varying}) in a new study",
        "Grey diamonds of studies (numbers where a study has several effects): mean true effect that the "
        "model predicts (BLUP), {level} interval",
        "Squares: each study by itself. Circles: what all studies together make of it ({what})",
        "Priors: {priors}",
        "Test for subgroup differences: {test}; one model with a common τ² for all subgroups",
        "{n} studies have effects at several levels of {by} and stand under each",
        "Standard error of Fisher's z",
        "{n} effects",
        "{n} effects with {level} CI",
        "Pooled effect",
        "Its {level} CI",
        "Mean effect {effect}",
        "{level} limits, if all had this effect",
        "p < {p} (two-sided)",
        "1 of {k} points lies outside the dotted limits, which ignore that true effects differ",
        "{n} of {k} points lie outside the dotted limits, which ignore that true effects differ",
        "The effects come from {n} studies; those of one study resemble each other",
        "Power",
        "True effect taken, the mean of the fit: r = {r}",
        "p = .05, two-sided",
        "Median power {power} for a true r = {r}; half of the studies reach 33% for r = {third}, 66% for r = {two}.",
        "Significant: {observed} observed, {expected} expected; R-index {index}. Where the true effect taken "
        "is too large, so is the power.",
        "Mean effect, {level} CI",
        "Mean, {level} CI",
        "CI of the uncorrected mean",
        "CI of the headline",
        "CI of the overall mean",
        "No mean by {method}: {why}",
        "No interval by {method}: {why}",
        "Mean effect",
        "Model: {model}",
        "Effect, diameter by precision (1/SE)",
        "Effect, area by weight",
        "Fitted mean",
        "Fitted mean, {level} CI",
        "Test of moderators: {test}",
        "Slopes are differences per standard deviation, not means: they stand in words",
        "Density",
        "{level} interval",
        "Restricted log-likelihood",
        "Between-study variance τ² (Fisher z scale)",
        "Maximum",
        "Profile",
        "Cut-off of the {level} interval",
        "Its limits",
        "Prior of τ",
        "As fitted",
        "Risk of bias: {label}",
        "Studies",
        "Overall",
        "Moderator",
        "per SD ({sd})",
        "no test",
        "No mean of {level}: {why}",
        "No interval of {level}: too few clusters for a robust standard error",
    )
)
METHODS: Final = marked(
    (
        "Uncorrected",
        "Worst case (only what is not affirmative)",
        "Selection model, step at .025",
        "Selection model, steps at .025 and .5",
        "Selection model, beta weights",
        "Copas's selection model",
        "RTMA, for p-hacking",
        "Limit meta-analysis",
        "Trim and fill",
        "Regression on standard error (Egger)",
        "Rank correlation (Begg)",
        "Selection at p = .025",
        "s-value",
        "Excess significance",
        "Fail-safe N (Rosenthal)",
        "p-curve, right skew",
        "z-curve",
        "what is published is a fair sample of what was found",
        "only results that are not significant in the favoured direction were not selected",
        "a result's chance to be seen depends on its p-value, by a function of the form given",
        "small studies are published the more often the larger their effect; how often is not known",
        "significant results may be p-hacked, the others are as they came; effects are normal",
        "publication depends on significance alone, and true effects are normal",
        "bias grows with the standard error, and nothing else does",
        "bias grows with the total standard error, that of a study and between studies",
        "effects with 80% power escape selection",
        "bias is the smaller the more precise a study is; correlations of n people",
        "large studies are less exposed to selection",
        "the most extreme effects on one side are missing, and the funnel is else symmetric",
        "slope {slope}",
        "Kendall's tau = {tau}",
        "p > .025 seen {times} times as often as p <= .025",
        "{observed} significant, {expected} expected",
        "{n} effects that average 0",
        "{n} significant results; evidence: {evidence}",
        "discovery rate: observed {observed}, expected {expected}",
        "Method",
        "Analysis",
        "All effects, CHE + CR2",
        "All effects, random effects",
        "Three-level + CR2",
        "Three-level",
        "Mean of each study",
        "RVE correlated",
        "RVE hierarchical",
        "One effect per study by rule",
        "Exact density of r",
        "Bayes, default priors",
        "Bayes, t-distributed effects",
        "CHE, rho = {rho}",
        "Alliance rated by client",
        "Alliance rated by therapist",
        "Alliance rated by observer",
        "Alliance early in therapy",
        "Alliance mid-therapy",
        "Alliance late in therapy",
        "Zero-order correlations only",
        "Published only",
        "Low risk of bias only",
        "Without imputed n.s.",
        "Without outliers",
        "Without influential studies",
        "Reliabilities of the sheet",
        "Both reliabilities {value}",
        "Lowest effect of each study",
        "Highest effect of each study",
        "All effects as independent",
        "the headline",
        "sampling errors independent",
        "averaged",
        "declared",
        "no normal approximation; one effect per study",
        "posterior median and its interval",
        "studies far off pull less; mean of each study",
        "intervals that miss the headline's left out",
        "flagged studies left out",
        "the mean where none is given",
        "assumed in every study",
        "lowest",
        "highest",
        "counts studies twice",
        "the sheet has no column {name}",
        "no rule of choice was declared (select=)",
        "rho = {rho} is the headline's",
        "no study is flagged as influential: this is the headline",
        "needs at least {n} effects that are not affirmative",
        "needs at least {n} effects, not {k}",
        "the mean reaches 0 at no ratio (no ratio is large enough); its interval reaches 0 at no ratio (no ratio is "
        "large enough)",
        "the mean reaches 0 where affirmative results are seen {times} times as often; its interval reaches 0 where "
        "affirmative results are seen {often} times as often",
        "the mean reaches 0 at no ratio (no ratio is large enough); its interval reaches 0 where affirmative results "
        "are seen {often} times as often",
        "its posterior is drawn at random, which takes a minute: give seed=1 or any whole number",
        "the sheet has no reliabilities ({names})",
    )
)
TEXTS = ("title", "axis_label", "x_label", "estimate_header", "label_header", "weight_header", "value_label")
# Rows whose labels are names.
NAMED = ("study", "effect", "cluster", "heading", "level")


def of_method(text: str) -> str:
    """Return the name of a method, or what it assumes or says, in the language that is spoken now."""
    return phrase(text, METHODS)


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of a plot with its words in the language that is spoken now; numbers and names stay."""
    if is_english():
        return frame
    out = frame.copy()
    out.attrs = {**frame.attrs, **{key: _words(frame.attrs[key]) for key in TEXTS if frame.attrs.get(key)}}
    if "key" in out.attrs:
        out.attrs["key"] = [[mark, _words(text)] for mark, text in out.attrs["key"]]
    if "counts" in out.attrs:
        out.attrs["counts"] = {name: _words(head) for name, head in out.attrs["counts"].items()}
    out.attrs["bottom"] = [_words(line) for line in out.attrs["bottom"]]
    if "label" in out:
        named = out["kind"].isin(NAMED)
        out["label"] = out["label"].where(named, out["label"].map(_words, na_action="ignore"))
    return out


def _words(text: Any) -> Any:
    return phrase(text, (*DRAWN, *METHODS), phrase) if isinstance(text, str) and text else text
