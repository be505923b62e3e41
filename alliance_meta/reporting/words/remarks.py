"""Notes of fits and panels, and the words of figures and methods, in another language, as templates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from alliance_meta.reporting.words import is_english, marked, tr
from alliance_meta.reporting.words.sentences import PHRASES, SENTENCES, in_language, phrase

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


def of_method(text: str) -> str:
    """Return the name of a method, or what it assumes or says, in the language that is spoken now."""
    return phrase(text, METHODS)


REMARKS: Final = marked(
    (
        "The correlation of sampling errors was assumed, not estimated: rho = {rho} within {cluster}.",
        "Vary it and compare.",
        "{name} is estimated at the edge of its range: the data show no variation there that the rest of the model "
        "does not explain.",
        "No column of the sheet tells all effects apart of {study}: letters do, in the order given.",
        "The effects come from {n} studies; those of one study resemble each other.",
        "{effects} effects from {studies} studies were taken as independent: standard errors, tests and intervals are"
        " too sure of themselves where effects of one study resemble each other.",
        "Fit che, MultilevelModel, or another model with random='study_id/es_id'; or make one effect of each study "
        "with aggregate or select_effects.",
        "Make one effect of each study with aggregate or select_effects.",
        "Uncorrected {name} = {value}; corrected it lies between {low} ({first}) and {high} ({second}), and {n} of "
        "{k} intervals leave out 0.",
        "Each row is right only where what it assumes is; their spread is how far the answer rests on such "
        "assumptions, and none of them is a verdict.",
        "Some of these methods rest on few effects (below 10, or below 4 in an interval of p-values): their numbers "
        "hang on single studies.",
        "Call them one by one to see which.",
        "Each effect is modelled by its own distribution; standard errors and intervals rest on the differences "
        "between {n} clusters, however effects hang together within them.",
        "Less significant results are estimated to be seen more often than significant ones in some interval.",
        "No column 'focal' tells what papers set out to test: every effect is taken as selected by its own p-value.",
        "Small studies have the smaller effects, so smaller effects were taken as the favoured ones.",
        "Without any selection the asymmetry may be chance, so the mean is that without selection.",
        "took {effects} effects from {studies} studies as independent: what one study says several times counts "
        "several times.",
        "{who} took {effects} effects from {studies} studies as independent: what one study says several times counts"
        " several times.",
        "takes results as independent: it used one effect of each study, the first listed, as no column focal says "
        "which was the point of its paper; {n} of {k}.",
        "{who} takes results as independent: it used one effect of each study, the first listed, as no column focal "
        "says which was the point of its paper; {n} of {k}.",
        "With a probability of {p} the mean lies beyond the line of significance of every study: these effects hardly"
        " tell a large mean from a larger one, so that there is no limit there.",
        "Differs within some clusters (how many in brackets), and is missing there or, if text, 'mixed': {names}.",
        "The sample size differs within {clusters}; the mean of each cluster stands there.",
        "An effect may go along with its standard error although nothing is missing: these standard errors do not "
        "follow from the sample size alone (those of raw, partial, converted, corrected and averaged correlations do "
        "not); ask with predictor='sqrtninv' as well.",
        "The p-value is the normal approximation: ties among them.",
        "Power was worked out at the pooled effect.",
        "If that is itself inflated by bias, so is the expected number, and the test finds too little.",
        "A fail-safe number does not estimate how many studies are missing.",
        "It takes those to average exactly 0, while selection leaves out results below 0 as well, so that far fewer "
        "would do.",
        "p-curve measures neither bias nor the mean effect: a curve skewed to the right says only that not every "
        "significant result is a false positive.",
        "Its tests can point the wrong way (Morey & Davis-Stober 2025, doi:10.1080/01621459.2025.2544397), and its "
        "average power comes out too high where effects differ.",
        "z-curve gives no mean effect.",
        "An expected discovery rate below the observed one suggests that results were selected; it is known to no "
        "more than its interval, which is wide.",
        "Each study counts once, its effects in equal parts.",
        "{kind}: between {low} ({first}) and {high} ({second}), and {n} of {k} intervals leave out 0.",
        "{kind}: {label}, r = {value} [{ends}].",
        "{label}, r = {value} [{ends}].",
        "A row is right only where its choice is; none of them is a verdict.",
        "The {level} interval leaves out 0.",
        "The {level} interval holds 0.",
        "No study can be left out.",
        "Without any one of {n} of {studies} studies it would hold 0: {names}.",
        "Without any one of {n} of {studies} studies it would leave out 0: {names}.",
        "No single study turns that: without {study}, the nearest to it, it would be {interval}.",
        "About {n} further studies of one effect each, which average 0, would make it hold 0.",
        "About {n} further studies of one effect each, which average 0, would make it leave out 0.",
        "Null studies: more than {n} are needed, {times} times as many as there are studies.",
        "{source}: possible mistakes: {which}; `{command}` lists them",
        "Small studies have the larger effects, so larger effects were taken as the favoured ones.",
        "1 effect of one study had 80% power to find the mean: this is UWLS of all {n} effects.",
        "{m} effects of one study had 80% power to find the mean: this is UWLS of all {n} effects.",
        "No effect has 80% power to find the mean: this is UWLS of all {n} effects.",
        "tau2 ({method}) was set to 0: the effects vary no more than their sampling errors explain.",
        "Fewer than 4 degrees of freedom: {which}.",
        "Do not trust these p-values and intervals (Tipton 2015, doi:10.1037/met0000011).",
        "Fewer than 4 degrees of freedom for {names} ({n} clusters): do not trust p-values and intervals (Tipton "
        "2015, doi:10.1037/met0000011).",
        "The worst case's interval rests on {df} degrees of freedom; below 4 do not trust it.",
        "One significant result on the other side left out.",
        "{n} significant results on the other side left out.",
        "The correlation with selection runs to its bound; the standard error takes it as certain.",
        "The estimate of tau2 ({method}) lies below its {level} Q-profile interval: the two answer to different "
        "equations.",
        "The estimate of tau2 ({method}) lies above its {level} Q-profile interval: the two answer to different "
        "equations.",
        "Report both; with method='PM' they go together.",
        "{name}: only the rows where {rule} may be pooled together.",
        "Standard errors from {n} clusters tend to be too small; vcov='bootstrap' has better intervals.",
        "A single effect leaves nothing to estimate tau2 from: fitted as equal effects with Wald inference.",
        "{name} has {n} groups: its variance rests on very few and can be far off.",
        "{m} of {n} rows left out because r or n is missing: {names}.",
        "1 of {n} rows left out because r or n is missing: {names}.",
        "k = {k}: tau2, I2 and the prediction interval rest on very few effects and can be far off.",
    )
)

DESCRIBED: Final = marked(
    (
        "Forest plot of {n} studies with confidence intervals at {level}.",
        "Forest plot of {n} study with confidence intervals at {level}.",
        "Forest plot of {n} effects with confidence intervals at {level}.",
        "Forest plot of {n} effects in {studies} studies with intervals at {level}.",
        "Pooled r = {r} ({model}).",
        "{level} prediction interval {interval}.",
        "Fitted values of the model {formula} ({model}) are drawn as diamonds.",
        "Caterpillar plot of {n} effects, sorted, from {low} to {high}.",
        "Funnel plot of {n} effects against their standard errors, {low} to {high}.",
        "1 of {k} points lies outside the dotted limits, which ignore that true effects differ.",
        "{n} of {k} points lie outside the dotted limits, which ignore that true effects differ.",
        "Two-sided p-values: {first} below {a}, {second} below {b}, {third} below {c}.",
        "Mean effect of {n} effects by moderator: {rows}.",
        "Mean effect of {n} effects by each analysis: {rows}.",
        "Mean effect of {n} effects by each method: {rows}.",
        "Mean effect with {level} confidence intervals: {rows}.",
        "Mean effect with {level} confidence interval.",
        "Means with {level} confidence intervals: {rows}.",
        "Bubble plot of {n} effects against {name}.",
        "The fitted mean goes from {first} at {low} to {last} at {high}.",
        "Mean effect without each of {n}: all effects {whole}; lowest {low} without {first}; highest {high} without"
        " {last}.",
        "Restricted log-likelihood over the between-study variance τ².",
        "τ² = {value}, {level} profile-likelihood interval {interval} ({model}).",
        "{n} effects with means and {level} confidence intervals: {rows}.",
        "{n} effects with the power of their studies.",
        "Median power {power} for a true r = {r}; half of the studies reach 33% for r = {third}, 66% for r = {two}.",
        "Significant: {observed} observed, {expected} expected; R-index {index}.",
        "Where the true effect taken is too large, so is the power.",
        "Risk of bias of {n} studies in {domains} domains.",
        "SYNTHETIC DATA, made up for teaching.",
        # Last: others begin like it.
        "Mean effect {effect}.",
    )
)
TEXTS = ("title", "axis_label", "x_label", "estimate_header", "label_header", "weight_header", "value_label")
# Rows whose labels are names.
NAMED = ("study", "effect", "cluster", "heading", "level")
NOT_GIVEN = "Not given: "
# A name of a method with its estimate, one of several after each other.
_NAMED = re.compile(r"(.+?)( [−-]?\d*\.\d+ \[.*)")


def remark(text: str) -> str:
    """Return a note in the language that is spoken now; as it is where any sentence is not known."""
    if is_english():
        return text
    if text.startswith(NOT_GIVEN):
        return _reasons(text)
    # Panels name the methods that said a note before it.
    methods, colon, rest = text.partition(": ")
    said = in_language(rest, (*REMARKS, *SENTENCES), _part) if colon and ". " not in methods else rest
    if said != rest:
        return f"{'; '.join(map(_part, methods.split('; ')))}: {said}"
    return in_language(text, (*REMARKS, *SENTENCES), _part)


def _reasons(text: str) -> str:
    said = []
    for row in text.removeprefix(NOT_GIVEN).removesuffix(".").split(". "):
        who, _, own = row.partition(": ")
        why = of_method(own)
        if why == own:
            return text
        said.append(f"{'; '.join(map(of_method, who.split('; ')))}: {why}")
    return tr("Not given: {reasons}.", reasons=". ".join(said))


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
    out.attrs["bottom"] = [remark(_words(line)) for line in out.attrs["bottom"]]
    out.attrs["description"] = in_language(frame.attrs["description"], (*DESCRIBED, *REMARKS), _part)
    if "label" in out:
        named = out["kind"].isin(NAMED)
        out["label"] = out["label"].where(named, out["label"].map(_words, na_action="ignore"))
    return out


def _words(text: Any) -> Any:
    return phrase(text, (*DRAWN, *METHODS), phrase) if isinstance(text, str) and text else text


def _part(text: str) -> str:
    # Loads every kind of analysis, which an English report need not.
    from alliance_meta.sensitivity.batteries.scenarios import KINDS

    if text in KINDS.values():
        return tr(text)
    rows = text.split("; ")
    return "; ".join(map(_row, rows)) if len(rows) > 1 else phrase(text, (*PHRASES, *METHODS))


def _row(text: str) -> str:
    found = _NAMED.fullmatch(text)
    return f"{phrase(found[1], METHODS)}{found[2]}" if found else text
