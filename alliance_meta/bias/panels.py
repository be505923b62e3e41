"""`panel`: every method for a biased literature that suits the data, side by side, and what each takes for granted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from alliance_meta.bias.given import Given, given
from alliance_meta.bias.p_values import pcurve, puniform, zcurve
from alliance_meta.bias.selection_models.copas_model import copas
from alliance_meta.bias.selection_models.weights import selmodel
from alliance_meta.bias.significance import fsn, tes
from alliance_meta.bias.small_study.adjusted import hc, limitmeta, trimfill
from alliance_meta.bias.small_study.asymmetry import ranktest, regtest
from alliance_meta.bias.small_study.precision import PetPeese, pet_peese, uwls, uwls3, waap
from alliance_meta.bias.small_study.refitting import size_notes
from alliance_meta.bias.truncated import rtma
from alliance_meta.bias.worst import worst_case
from alliance_meta.errors import AllianceMetaError, quiet
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.results.fit import frame_of
from alliance_meta.results.panel import AS_R, NUMBERS, Panel, on_r, records
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, fixed_interval, format_count, p_value

NONE = NotApplicable("the method has none")


@dataclass(frozen=True)
class Method:
    """A method of the panel."""

    label: str  # what its row is called
    run: Callable[..., Any]  # ``run(fit, **options)`` gives the result
    source: str  # where it was published
    # Returns its options for the data at hand.
    options: Callable[[Given], dict[str, Any]] = lambda source: {"level": source.level}


@dataclass(frozen=True)
class Said:
    """What a test says: its statistic, degrees of freedom and p-value, and in words."""

    stat: float
    ddf: float
    pval: float
    words: str


def _with(**more: Any) -> Callable[[Given], dict[str, Any]]:
    return lambda source: {"level": source.level, **more}


def _size(source: Given) -> str:
    """Return 1 / sqrt(n) as the measure of imprecision where the standard error holds more than n and n is known."""
    n = source.effects.ni
    known = n is not None and bool((n > 0).all())
    return "sqrtninv" if known and size_notes(source, "sei") else "sei"


def _by_size(source: Given) -> dict[str, Any]:
    return {"level": source.level, "predictor": _size(source)}


UWLS = Method("UWLS", uwls, "Stanley & Doucouliagos (2015), doi:10.1002/sim.6481")
HEDGES = "Vevea & Hedges (1995), doi:10.1007/BF02294384"
# The methods whose answer is a mean, worst case first, by the key of their row.
MEANS: Mapping[str, Method] = {
    "worst_case": Method(
        "Worst case (only what is not affirmative)",
        worst_case,
        "Mathur & VanderWeele (2020), doi:10.1111/rssc.12440",
    ),
    "selection": Method("Selection model, step at .025", selmodel, HEDGES),
    "selection_two": Method("Selection model, steps at .025 and .5", selmodel, HEDGES, _with(steps=(0.025, 0.5))),
    "selection_beta": Method(
        "Selection model, beta weights",
        selmodel,
        "Citkowicz & Vevea (2017), doi:10.1037/met0000119",
        _with(type="beta"),
    ),
    "copas": Method("Copas's selection model", copas, "Copas & Shi (2001), doi:10.1177/096228020101000402"),
    "rtma": Method("RTMA, for p-hacking", rtma, "Mathur (2024), doi:10.1002/jrsm.1701"),
    "puniform": Method("p-uniform*", puniform, "van Aert & van Assen (2025), doi:10.31222/osf.io/zqjr9"),
    "pet_peese": Method("PET-PEESE", pet_peese, "Stanley & Doucouliagos (2014), doi:10.1002/jrsm.1095", _by_size),
    "limitmeta": Method("Limit meta-analysis", limitmeta, "Rücker et al. (2011), doi:10.1093/biostatistics/kxq046"),
    "waap": Method("WAAP", waap, "Ioannidis, Stanley & Doucouliagos (2017), doi:10.1111/ecoj.12461"),
    "uwls": Method("UWLS+3", uwls3, "Stanley, Doucouliagos & Havranek (2024), doi:10.1002/jrsm.1704"),
    "hc": Method("Henmi-Copas", hc, "Henmi & Copas (2010), doi:10.1002/sim.4029"),
    "trimfill": Method("Trim and fill", trimfill, "Duval & Tweedie (2000), doi:10.1111/j.0006-341X.2000.00455.x"),
}


def means(source: Given) -> Mapping[str, Method]:
    """Return the methods whose answer is a mean, as they suit the effects at hand."""
    return MEANS if source.effects.measure in ("ZCOR", "COR") else {**MEANS, "uwls": UWLS}


@dataclass(frozen=True)
class Question:
    """A test or measure that gives no mean."""

    label: str
    asked: Method | str  # what gives the result; a string names the row of `means` whose result it is
    say: Callable[[Any], Said]  # what makes a row of that result


def _none(source: Given) -> dict[str, Any]:
    return {}


def questions(source: Given) -> Mapping[str, Question]:
    """Return the tests and measures that give no mean, by the key of their row."""
    size = "1 / sqrt(n)" if _size(source) == "sqrtninv" else "standard error"
    egger = "Egger et al. (1997), doi:10.1136/bmj.315.7109.629"
    if source.dependent:
        egger = "Rodgers & Pustejovsky (2021), doi:10.1037/met0000300"
    begg = "Begg & Mazumdar (1994), doi:10.2307/2533446"
    excess = "Ioannidis & Trikalinos (2007), doi:10.1177/1740774507079441"
    drawer = "Rosenthal (1979), doi:10.1037/0033-2909.86.3.638"
    p_curve = "Simonsohn, Simmons & Nelson (2015), doi:10.1037/xge0000104"
    z_curve = "Bartoš & Schimmack (2022), doi:10.15626/MP.2021.2720"
    listed: dict[str, tuple[str, Method | str, Callable[[Any], Said]]] = {
        "regtest": (f"Regression on {size} (Egger)", Method("", regtest, egger, _by_size), _regression),
        "ranktest": ("Rank correlation (Begg)", Method("", ranktest, begg, _none), _ranks),
        "selection_test": ("Selection at p = .025", "selection", _selected),
        "svalue": ("s-value", "worst_case", _svalue),
        "tes": ("Excess significance", Method("", tes, excess, _none), _excess),
        "fsn": ("Fail-safe N (Rosenthal)", Method("", fsn, drawer, _none), _fail_safe),
        "pcurve": ("p-curve, right skew", Method("", pcurve, p_curve), _p_curve),
        "zcurve": ("z-curve", Method("", zcurve, z_curve), _z_curve),
    }
    return {key: Question(*parts) for key, parts in listed.items()}


def _regression(found: Any) -> Said:
    return Said(found.stat, found.ddf, found.pval, f"slope {fixed(found.slope, 2)}")


def _ranks(found: Any) -> Said:
    return Said(found.tau, NONE, found.pval, f"Kendall's tau = {fixed(found.tau, 2)}")


def _excess(found: Any) -> Said:
    words = f"{found.observed} significant, {fixed(found.expected, 1)} expected"
    return Said(found.ratio, NONE, found.pval, words)


def _fail_safe(found: Any) -> Said:
    return Said(found.rosenthal, NONE, NONE, f"{format_count(found.rosenthal)} effects that average 0")


def _p_curve(found: Any) -> Said:
    words = f"{found.significant} significant results; evidence: {found.evidence}"
    return Said(found.right_full, NONE, found.right_full_p, words)


def _selected(found: Any) -> Said:
    """Return the likelihood-ratio test; where effects are dependent, Wald's test from whole studies."""
    test = found.wald if math.isnan(found.lrt.pval) else found.lrt
    words = f"p > .025 seen {fixed(found.delta[1], 2)} times as often as p <= .025"
    return Said(test.stat, float(test.df), test.pval, words)


def _svalue(found: Any) -> Said:
    """Return how strong a preference for affirmative results brings the mean, and its interval, to 0."""
    where = (("the mean", found.svalue), ("its interval", found.svalue_limit))
    words = [f"{what} reaches 0 {_ratio(value)}" for what, value in where]
    return Said(NONE if math.isnan(found.svalue) else found.svalue, NONE, NONE, "; ".join(words))


def _ratio(value: float) -> str:
    if not math.isnan(value):
        return f"where affirmative results are seen {fixed(value, 1)} times as often"
    reason: str = getattr(value, "reason", "")
    return f"at no ratio ({reason})"


def _z_curve(found: Any) -> Said:
    words = (
        f"discovery rate: observed {fixed(found.odr, 2)}, expected {fixed(found.edr, 2)} "
        f"{fixed_interval(found.edr_lb, found.edr_ub, 2)}"
    )
    return Said(found.edr, NONE, NONE, words)


UNCORRECTED = "uncorrected"
COLUMNS = ("label", *NUMBERS, *AS_R, "k", "studies", "stat", "ddf", "says", "assumes", "why", "source")
# Notes that say of a mean that it is none.
UNTOLD = ("not-converged", "weight-untold", "mean-untold", "flat")
# What single methods say of few effects is said once.
FEW_CODES = ("few-effects", "few-studies-bias", "few-significant", "few-in-interval")
FEW = (
    "Some of these methods rest on few effects (below 10, or below 4 in an interval of p-values): their numbers hang "
    "on single studies. Call them one by one to see which."
)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class BiasPanel(Panel):
    """The mean effect as fitted and as each method for a biased literature has it.

    Attributes
    ----------
    k, studies : int
    level : float
        Confidence level of every interval, a fraction.
    measure : str
    frame : DataFrame
        What `tidy` returns: one row per method, indexed by its name, ``label estimate se ci_lb ci_ub pval``, for Fisher
        z ``r r_lb r_ub``, then ``k studies assumes why``; ``why`` says why a method gives no number, and is empty where
        it does.
    tests : DataFrame
        Tests and measures that give no mean: by name, ``label stat ddf pval says why``.
    provenance : Provenance
    notes : tuple of Note
        Those of the fit, then what single methods said, each after the method's label.
    """

    called: ClassVar[str] = "the methods for a biased literature"

    tests: pd.DataFrame

    def spread(self) -> str:
        """Say in words between which values the methods place the mean, and what that means."""
        own, *rows = self.rows()
        found = [row for row in rows if not row["why"]]
        if not found:
            return "No method applies to these data."
        return (
            f"Uncorrected {self.name} = {fixed(own[self.point], 3)}; corrected it lies {self.between(found)}. "
            "Each row is right only where what it assumes is; their spread is how far the answer rests on "
            "such assumptions, and none of them is a verdict."
        )

    def _content(self) -> Document:
        given = [row for row in self.rows() if not row["why"]]
        blocks = (self.estimates(given), _tests(self), [self.spread()], _assumed(given), self.not_given(self.tests))
        return self._document(f"Methods for a biased literature {self.counted}", *(block for block in blocks if block))

    def _values(self) -> dict[str, Any]:
        named = {"k": self.k, "studies": self.studies, "level": self.level, "measure": self.measure}
        return {**named, "spread": self.spread(), "methods": self.rows(), "tests": records(self.tests)}


def _tests(panel: BiasPanel) -> list[str]:
    found = [row for row in records(panel.tests) if not row["why"]]
    ends = ["" if math.isnan(row["pval"]) else f"; p {p_value(row['pval'])}" for row in found]
    lines = [f"{row['label']}: {row['says']}{end}" for row, end in zip(found, ends, strict=True)]
    return ["Tests and measures:", *lines] if lines else []


def _assumed(rows: list[dict[str, Any]]) -> list[str]:
    """Return what methods assume, each assumption once, after the labels of those that make it."""
    labels: dict[str, list[str]] = {}
    for row in rows:
        labels.setdefault(row["assumes"], []).append(row["label"])
    return ["What each row assumes:", *(f"{'; '.join(who)}: {what}" for what, who in labels.items())]


def panel(fit: Any, *, level: float | None = None) -> BiasPanel:
    """Ask every method for a biased literature that suits the data, and set the answers side by side.

    Nobody can see the studies that were never published, so that each method has to suppose something about them. The
    panel shows what the mean effect would be under each supposition, the most pessimistic one first: that only results
    which are significant in the favoured direction were sure to appear. If the mean stays what it was in all rows, no
    common kind of bias explains it; if rows differ, the answer rests on which supposition one believes. Where studies
    have several effects, methods that know of it are used as such; the others get one effect of each study, or say
    that they took effects as independent.

    Parameters
    ----------
    fit : a fitted model without moderators
        Of any class. Its own mean is the first row.
    level : float, optional
        Confidence level of every interval; the fit's own by default.

    Returns
    -------
    BiasPanel
        A method that cannot answer says why in its row, and the others stand.

    Raises
    ------
    InputError
        What is no fit, or a model with moderators.

    Notes
    -----
    The rows are those of `worst_case`, `selmodel` (a step at .025; steps at .025 and .5; beta weights), `copas`,
    `rtma`, `puniform`, `pet_peese`, `limitmeta`, `waap`, `uwls3` (`uwls` for other effects than correlations), `hc` and
    `trimfill`, each by its defaults; those of ``.tests`` are of `regtest`, `ranktest`, `tes`, `fsn`, `pcurve` and
    `zcurve`. Imprecision is 1 / sqrt(n) in place of the standard error where that holds more than the sample size.
    Carter, Schonbrodt, Gervais & Hilgard (2019, doi:10.1177/2515245919847196) show by simulation that no method is
    best, and advise to look at several.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> found = bias.panel(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> found.tidy()["r"].astype(float).round(2).loc[["uncorrected", "worst_case", "selection"]].to_list()
    [0.15, 0.03, 0.09]
    """
    source = given(fit, "panel", level=level)
    asked = means(source)
    found = {key: answer_of(method, fit, source) for key, method in asked.items()}
    rows = {UNCORRECTED: _uncorrected(source)}
    rows |= {key: _row(method, found[key], source) for key, method in asked.items()}
    said: dict[str, dict[str, Any]] = {}
    heard = [(method.label, method, found[key]) for key, method in asked.items()]
    for key, question in questions(source).items():
        shared = isinstance(question.asked, str)
        method = asked[question.asked] if isinstance(question.asked, str) else question.asked
        answer = found[question.asked] if isinstance(question.asked, str) else answer_of(method, fit, source)
        said[key] = _test(question, answer, method.source)
        heard += [] if shared else [(question.label, method, answer)]
    return BiasPanel(
        k=source.k,
        studies=source.studies,
        level=source.level,
        measure=source.effects.measure,
        frame=_frame(rows, "method"),
        tests=_frame(said, "test"),
        provenance=source.effects.provenance,
        notes=merge_notes(fit.notes, _heard(source, heard)),
    )


def answer_of(method: Method, fit: Any, source: Given) -> Any:
    """Return the result of a method, or the sentence that says why it gives none."""
    with quiet():
        try:
            return method.run(fit, **method.options(source))
        except AllianceMetaError as error:
            return str(error)


def _uncorrected(source: Given) -> dict[str, Any]:
    fit: Any = source.fit
    values = fit.predict(level=source.level).iloc[0]
    own = fit.tidy().iloc[0]
    numbers = {"estimate": values["pred"], "ci_lb": values["ci_lb"], "ci_ub": values["ci_ub"]}
    numbers |= {name: own.get(name, NotApplicable("this fit gives none")) for name in ("se", "pval")}
    facts = {
        "k": source.k,
        "studies": source.studies,
        "assumes": "what is published is a fair sample of what was found",
    }
    row = {"label": "Uncorrected", **numbers, **on_r(numbers, source.effects.measure), **facts}
    return row | {"why": "", "source": ""}


def _row(method: Method, found: Any, source: Given) -> dict[str, Any]:
    """Return the row of a method, with the reason where it gives no number."""
    why = no_mean(found)
    facts = {"source": method.source, "why": why, "label": method.label}
    if why:
        gone = NotApplicable(why)
        numbers: dict[str, Any] = dict.fromkeys(NUMBERS, gone)
        k, studies, assumes = source.k, source.studies, getattr(found, "assumes", "")
    else:
        numbers = {name: getattr(found, name) for name in NUMBERS}
        k, studies, assumes = found.k, found.studies, found.assumes
        if isinstance(found, PetPeese):
            facts["label"] = f"{method.label} ({found.chosen})"
    numbers |= on_r(numbers, source.effects.measure)
    return {**numbers, "k": k, "studies": studies, "assumes": assumes, **facts}


def no_mean(found: Any) -> str:
    """Return why a result gives no mean; nothing where it gives one."""
    if isinstance(found, str):
        return found
    if isinstance(found.estimate, NotApplicable):
        return found.estimate.reason
    lost = [note.message for note in found.notes if note.code in UNTOLD]
    return lost[0] if lost else ""


def _test(question: Question, found: Any, source: str) -> dict[str, Any]:
    row = {"label": question.label, "stat": NONE, "ddf": NONE, "pval": NONE, "says": "", "why": "", "source": source}
    if isinstance(found, str):
        return row | {"why": found}
    said = question.say(found)
    if isinstance(said.stat, NotApplicable) and said.stat is not NONE:
        return row | {"why": said.stat.reason}
    return row | {"stat": said.stat, "ddf": said.ddf, "pval": said.pval, "says": said.words}


def _frame(rows: Mapping[str, dict[str, Any]], name: str) -> pd.DataFrame:
    table = frame_of(list(rows.values()), index=pd.Index(list(rows), name=name))
    columns = [one for one in COLUMNS if one in table]
    return table[columns]


def _heard(source: Given, heard: list[tuple[str, Method, Any]]) -> Iterator[Note]:
    """Yield what the methods said of themselves, each sentence once, after the labels of those who said it."""
    known = {*source.effects.notes, *source.fit.notes}
    labels: dict[Note, list[str]] = {}
    few = False
    for label, method, found in heard:
        for note in () if isinstance(found, str) else found.notes:
            few = few or note.code in FEW_CODES
            if note not in known and note.code not in FEW_CODES:
                # The label stands before it in place of the function's name, so that what several say is said once.
                note = Note(note.code, note.message.removeprefix(f"{method.run.__name__} "))
                labels.setdefault(note, []).append(label)
    if few:
        yield Note("few-effects", FEW)
    for note, who in labels.items():
        yield Note(note.code, f"{'; '.join(who)}: {note.message}")
