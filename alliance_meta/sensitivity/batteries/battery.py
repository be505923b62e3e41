"""`battery`: does the answer hold? The mean effect by every usual analysis, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.model import BayesianModel
from alliance_meta.bias.given import Adjusted
from alliance_meta.bias.panels import FEW_CODES, MEANS, means, no_mean
from alliance_meta.effects.converting.artifacts import correct_artifacts
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.effects.dependent.hierarchy import select_effects
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import AllianceMetaError, CodingError, InputError, quiet
from alliance_meta.models.exact_correlation import ExactCorrelationModel
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, Note, check_level, check_seed, did_you_mean, merge_notes
from alliance_meta.results.fit import Fit, frame_of
from alliance_meta.results.panel import AS_R, NUMBERS, Panel, on_r
from alliance_meta.sensitivity.assumed_rho import RHO
from alliance_meta.sensitivity.batteries.fragility import Fragility, of_fit
from alliance_meta.sensitivity.batteries.scenarios import (
    KINDS,
    Case,
    Kind,
    Scenario,
    extreme,
    influential,
    only,
    outlying,
    without,
)
from alliance_meta.sensitivity.dependence import UNDECLARED, choice_rule
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, brief, fixed, fixed_interval, format_level, plain_df

CORRELATIONS = ("ZCOR", "COR")
RELIABILITIES = ("rel_alliance", "rel_outcome")
# Reliabilities that are assumed of both measures in every study.
ASSUMED = (0.9, 0.8, 0.7)


def dependent(run: Callable[[Case], Any]) -> Callable[[Case], Any]:
    """Return a `run` that is only for effects of which a study has several."""

    def checked(case: Case) -> Any:
        """Refuse effects of which every study has one."""
        if not case.depends():
            raise InputError(f"each {case.cluster} has one effect, so that nothing depends: this is the headline")
        return run(case)

    return checked


def averaged(case: Case) -> EffectSizes:
    """Return the mean effect of each study."""
    return aggregate(case.effects, cluster=case.cluster, rho=case.rho) if case.depends() else case.effects


def chosen(case: Case) -> EffectSizes:
    """Return the effect of each study that the declared rule puts first; all where each has one."""
    if not case.depends():
        return case.effects
    if case.select is None:
        raise InputError(UNDECLARED)
    return select_effects(case.effects, cluster=case.cluster, **case.select)


def exact(case: Case) -> Any:
    """Fit the exact density of r to one effect per study."""
    return ExactCorrelationModel(chosen(case), level=case.level).fit()


def bayes(case: Case) -> Any:
    """Fit the Bayesian model of dependent effects, with its default priors, which are for correlations."""
    if case.effects.measure not in CORRELATIONS:
        raise InputError("its default priors are for correlations; add a scenario with priors for these effects")
    if not case.depends():
        return BayesianModel(case.effects, level=case.level).fit()
    V = impute_V(case.effects, cluster=case.cluster, rho=case.rho)
    return BayesianModel(case.effects, random=f"{case.cluster}/{ROWS}", V=V, level=case.level).fit()


def t_effects(case: Case) -> Any:
    """Draw from the posterior of true effects with a t distribution, of the mean effect of each study."""
    if case.seed is None:
        raise InputError("its posterior is drawn at random, which takes a minute: give seed=1 or any whole number")
    if case.effects.measure not in CORRELATIONS:
        raise InputError("its default priors are for correlations; add a scenario with priors for these effects")
    from alliance_meta import bayes

    return bayes.sample(bayes.pymc.t_effects(averaged(case)), seed=case.seed, level=case.level, progress=False)


def corrected(case: Case) -> Any:
    """Fit the headline to effects corrected by the reliabilities of the sheet."""
    there: dict[str, Any] = {name: name for name in RELIABILITIES if name in case.effects.moderators}
    there = {name: one for name, one in there.items() if case.effects.moderators[name].notna().any()}
    if not there:
        raise InputError(f"the sheet has no reliabilities ({', '.join(RELIABILITIES)})")
    return case.headline(correct_artifacts(case.effects, **there))


def _biased(key: str) -> Callable[[Case], Any]:
    def run(case: Case) -> Any:
        """Ask a method for a biased literature."""
        method = means(case.source)[key]
        return method.run(case.fit, **method.options(case.source))

    return run


def _assumed_rho(rho: float) -> Scenario:
    def refitted(case: Case) -> Any:
        """Fit the headline under this correlation."""
        if rho == case.rho:
            raise InputError(f"rho = {brief(rho)} is the headline's")
        return case.headline(rho=rho)

    return Scenario(
        f"rho_{brief(rho)}", f"CHE, rho = {brief(rho)}", dependent(refitted), "model", f"rho = {brief(rho)}"
    )


def _assumed_reliability(value: float) -> Scenario:
    def run(case: Case) -> Any:
        """Fit the headline to effects corrected by one reliability of every measure."""
        return case.headline(correct_artifacts(case.effects, rel_alliance=value, rel_outcome=value))

    text = f"Both reliabilities {brief(value)}"
    return Scenario(f"reliability_{brief(value)}", text, run, "attenuation", "assumed in every study")


def _part(key: str, label: str, name: str, value: str, *, but: bool = False) -> Scenario:
    says = f"{name}: {'not ' if but else ''}{value}"
    return Scenario(key, label, only(name, value, without=but), "part", says)


def _outliers(case: Case) -> Any:
    return without(case, outlying(case.effects, case.fit), "interval misses that of the headline")


def _influence(case: Case) -> Any:
    return without(case, influential(case), "study is flagged as influential")


HEADLINE = Scenario("che", "All effects, CHE + CR2", lambda case: case.fit, "headline", "the headline")
INDEPENDENT_HEADLINE = replace(HEADLINE, label="All effects, random effects")


def _model(key: str, label: str, run: Callable[[Case], Any], says: str, kind: Kind = "model") -> Scenario:
    return Scenario(key, label, run, kind, says)


SCENARIOS: tuple[Scenario, ...] = (
    HEADLINE,
    _model("three_level", "Three-level + CR2", dependent(Case.levels), "sampling errors independent"),
    _model("aggregated", "Mean of each study", dependent(lambda case: case.independent(averaged(case))), "averaged"),
    _model("one", "One effect per study by rule", dependent(lambda case: case.independent(chosen(case))), "declared"),
    _model("exact", "Exact density of r", exact, "no normal approximation; one effect per study"),
    _model("bayes", "Bayes, default priors", bayes, "posterior median and its interval"),
    _model("t_effects", "Bayes, t-distributed effects", t_effects, "studies far off pull less; mean of each study"),
    *(_assumed_rho(rho) for rho in RHO),
    _part("client", "Alliance rated by client", "alliance_rater", "client"),
    _part("therapist", "Alliance rated by therapist", "alliance_rater", "therapist"),
    _part("observer", "Alliance rated by observer", "alliance_rater", "observer"),
    _part("early", "Alliance early in therapy", "alliance_time", "early"),
    _part("mid", "Alliance mid-therapy", "alliance_time", "mid"),
    _part("late", "Alliance late in therapy", "alliance_time", "late"),
    _part("zero_order", "Zero-order correlations only", "r_type", "zero-order"),
    _part("published", "Published only", "published", "yes"),
    _part("low_risk", "Low risk of bias only", "rob_overall", "low"),
    _part("without_ns", "Without imputed n.s.", "es_calc", "imputed_ns", but=True),
    Scenario("without_outliers", "Without outliers", _outliers, "part", "intervals that miss the headline's left out"),
    Scenario("without_influential", "Without influential studies", _influence, "part", "flagged studies left out"),
    *(
        Scenario(f"bias_{key}", method.label, _biased(key), "bias", method.source)
        for key, method in MEANS.items()
    ),
    Scenario("reliability", "Reliabilities of the sheet", corrected, "attenuation", "the mean where none is given"),
    *map(_assumed_reliability, ASSUMED),
    _model("lowest", "Lowest effect of each study", dependent(lambda case: extreme(case, 1.0)), "lowest", "bound"),
    _model("highest", "Highest effect of each study", dependent(lambda case: extreme(case, -1.0)), "highest", "bound"),
    _model(
        "independent", "All effects as independent", dependent(Case.independent), "counts studies twice", "warning"
    ),
)  # fmt: skip


ALL = "all"
LIMITS = {"r_pi_lb": "pi_lb", "r_pi_ub": "pi_ub"}
MORE = ("pi_lb", "pi_ub", "tau", "I2")
COLUMNS = ("label", "kind", "k", "studies", *NUMBERS, *AS_R, "pi_lb", "pi_ub", *LIMITS, "tau", "I2", "says", "why")
# What the rows' labels say, or what a row is meant to show.
STATED = (
    *FEW_CODES, "aggregated", "aggregated-mixed", "aggregated-n", "selected-effects", "assumed-V", "dependent-effects",
    "corrected-artifacts",
)  # fmt: skip
NO_P = NotApplicable("a posterior has no p-value")
NO_PI = NotApplicable("the method has no prediction interval")


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Battery(Panel):
    """The mean effect by the headline analysis and by others, a row each.

    Attributes
    ----------
    k, studies : int
    level : float
        Confidence level of every interval, a fraction.
    measure : str
    rho : float
        Assumed correlation of sampling errors within studies.
    frame : DataFrame
        What `tidy` returns: one row per analysis, by its key: ``label kind k studies estimate se ci_lb ci_ub pval``,
        for Fisher z ``r r_lb r_ub``, ``pi_lb pi_ub`` (``r_pi_lb r_pi_ub``) of a new effect, ``tau I2 says why``;
        ``why`` says why an analysis gives no number, and is empty where it does.
    fragility : Fragility or NotApplicable
        Which study, or how many null studies, would change whether the headline's interval leaves out 0.
    provenance : Provenance
    notes : tuple of Note
        Those of the headline, then what single analyses said, each after the labels of those that said it.
    """

    called: ClassVar[str] = "the battery"

    rho: float
    fragility: Any

    def spread(self) -> str:
        """Say in words between which values each kind of analysis places the mean."""
        found = [row for row in self.rows() if not row["why"]]
        if not found:
            return "No analysis applies to these data."
        parts = [self._one(row) for row in found if row["kind"] == "headline"]
        for kind, words in KINDS.items():
            rows = [row for row in found if row["kind"] == kind]
            if rows and kind != "headline":
                parts.append(f"{words}: {self.between(rows)}." if len(rows) > 1 else f"{words}: {self._one(rows[0])}")
        return " ".join([*parts, "A row is right only where its choice is; none of them is a verdict."])

    def _one(self, row: Mapping[str, Any]) -> str:
        lower, upper = self.limits
        interval = fixed_interval(row[lower], row[upper], 3)
        return f"{row['label']}, {self.name} = {fixed(row[self.point], 3)} {interval}."

    def fragile_text(self) -> str:
        """Say in words what it would take to change whether the headline's interval leaves out 0."""
        fragile = self.fragility
        return fragile.text() if isinstance(fragile, Fragility) else f"Fragility: {fragile.reason}."

    def _content(self) -> Document:
        found = [row for row in self.rows() if not row["why"]]
        tables = [
            self._table([row for row in found if row["kind"] == kind], words)
            for kind, words in KINDS.items()
            if any(row["kind"] == kind for row in found)
        ]
        blocks: tuple[Any, ...] = (*tables, [self.spread()], [self.fragile_text()], self.not_given())
        title = f"Sensitivity of the mean effect {self.counted[:-1]}; rho = {brief(self.rho)})"
        return self._document(title, *(block for block in blocks if block))

    def _table(self, rows: Sequence[Mapping[str, Any]], caption: str) -> Table:
        lower, upper = self.limits
        cells = []
        for row in rows:
            interval = fixed_interval(row[lower], row[upper], 3)
            numbers = (plain_df(row["k"]), plain_df(row["studies"]), fixed(row[self.point], 3), interval)
            tau = "" if math.isnan(row["tau"]) else fixed(row["tau"], 3)
            cells.append((row["label"], *numbers, bare_p(row["pval"]) if row["pval"] == row["pval"] else "", tau))
        head = ("", "k", "studies", self.point, f"{format_level(self.level)} CI", "p", "tau")
        return Table(head, tuple(cells), caption)

    def _exported(self) -> pd.DataFrame:
        new = tuple(LIMITS) if self.measure == "ZCOR" else tuple(LIMITS.values())
        wanted = ["label", "k", "studies", self.point, *self.limits, *new, "pval", "tau", "I2", "why"]
        return self.frame[wanted].set_index("label")

    def _values(self) -> dict[str, Any]:
        named = self._these("k", "studies", "level", "measure", "rho")
        fragile = self.fragility.to_dict() if isinstance(self.fragility, Fragility) else self.fragility
        return {**named, "spread": self.spread(), "analyses": self.rows(), "fragility": fragile}


def battery(
    effects: EffectSizes,
    *,
    rho: float = DEFAULT_RHO,
    scenarios: str | Scenario | Sequence[str | Scenario] = ALL,
    cluster: str = "study_id",
    select: Mapping[str, Any] | None = None,
    level: float = 0.95,
    seed: int | None = None,
) -> Battery:
    """Analyse the same effects in every usual way, and set the mean effects side by side.

    Reviewers ask whether the result rests on one study, one rater, one model or one choice. Each row changes one thing
    about the headline analysis, the correlated and hierarchical effects model with robust standard errors: how effects
    of one study are treated, which effects count, what is assumed of the literature. If the mean stays where it was,
    the choice does not matter and the report can say so; where it moves, readers see by what.

    Parameters
    ----------
    effects : EffectSizes
    rho : float
        Assumed correlation of the sampling errors of two effects of one study, 0 to 1.
    scenarios : "all", or sequence of str and Scenario
        Which analyses: keys of `sensitivity.SCENARIOS`, your own `Scenario`, and ``"all"`` for all of those.
    cluster : str
        Column of the studies, or whatever is independent of each other.
    select : mapping, optional
        How one effect per study is chosen, as for `compare_dependence`: ``{"rater": ["client", "observer"]}``, or all
        arguments of `select_effects`.
    level : float
        Confidence level of every interval, a fraction.
    seed : int, optional
        For the one analysis that draws from its posterior; without it that row says so.

    Returns
    -------
    Battery
        An analysis that does not apply says why in its row, and the others stand. `plots.battery` draws it.

    Raises
    ------
    InputError
        What are no effects, a `rho` outside 0 to 1, an unknown scenario, two with one key.

    See Also
    --------
    compare_dependence : models of dependence alone, with moderators too.
    bias.panel : the methods for a biased literature, with what each assumes.
    fragility : which study or how many null studies change the answer.

    Notes
    -----
    Headline: `che`; where each study has one effect, `RandomEffectsModel` with Knapp-Hartung. Parts of the effects are
    fitted as the headline, and are found by the columns of the coding sheet (``alliance_rater``, ``alliance_time``,
    ``r_type``, ``published``, ``rob_overall``, ``es_calc``; also ``rater``, ``time``, ``rob``). Outliers are effects
    whose interval misses that of the headline's mean; influential studies those that `influence` flags by study.
    Harrer, Kuper, Sprenger & Cuijpers (2022), metapsyTools; R: ``metapsyTools::runMetaAnalysis``, which treats effects
    as independent in the rows without outliers, without influential cases and at low risk of bias.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, sensitivity
    >>> es = escalc(load_dataset("crede2010"))
    >>> found = sensitivity.battery(es, scenarios=["che", "aggregated", "lowest", "published"])
    >>> found.tidy()["r"].astype(float).round(3).to_dict()
    {'che': 0.425, 'aggregated': 0.436, 'lowest': 0.415, 'published': nan}
    >>> found.tidy().loc["published", "why"]
    'the sheet has no column published'
    """
    check_effects(effects, "battery")
    if isinstance(rho, bool) or not isinstance(rho, int | float | np.number) or not 0 <= rho <= 1:
        raise InputError(f"rho={rho!r} is a correlation of sampling errors and must lie between 0 and 1")
    check_level(level)
    case = Case(
        effects,
        cluster,
        float(rho),
        level,
        None if select is None else choice_rule(select),
        None if seed is None else check_seed(seed, "draws"),
    )
    groups = case.clusters()
    asked = _asked(scenarios, case)
    found = {one.key: _answer(one.run, case) for one in asked}
    headline = _answer(lambda same: same.fit, case)
    fragile = _answer(lambda same: of_fit(same.fit, same.headline, cluster), case)
    rows = [_row(one, found[one.key], case) for one in asked]
    table = frame_of(rows, index=pd.Index([one.key for one in asked], name="scenario"))
    own = effects.notes if isinstance(headline, str) else headline.notes
    return Battery(
        k=effects.k,
        studies=groups.n,
        level=level,
        measure=effects.measure,
        rho=float(rho),
        frame=table[[name for name in COLUMNS if name in table]],
        fragility=NotApplicable(fragile) if isinstance(fragile, str) else fragile,
        provenance=effects.provenance,
        notes=merge_notes(own, _heard(asked, found, {*effects.notes, *own})),
    )


def _asked(scenarios: Any, case: Case) -> list[Scenario]:
    """Return the scenarios asked for, in the order given."""
    given = [scenarios] if isinstance(scenarios, str | Scenario) else list(scenarios)
    known = {one.key: one for one in SCENARIOS}
    found: list[Scenario] = []
    for one in given:
        if isinstance(one, Scenario):
            found.append(one)
        elif one == ALL:
            found += SCENARIOS
        elif one in known:
            found.append(known[one])
        else:
            hint = did_you_mean(str(one), [ALL, *known])
            raise InputError(f"scenarios: {one!r} is none of {', '.join([ALL, *known])}, and no Scenario{hint}")
    keys = [one.key for one in found]
    twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if twice or not found:
        raise InputError(f"scenarios: {', '.join(twice)} more than once" if twice else "scenarios: an empty list")
    if case.depends():
        return found
    return [INDEPENDENT_HEADLINE if one is HEADLINE else one for one in found]


def _answer(run: Callable[[Case], Any], case: Case) -> Any:
    """Return what an analysis gives, or the sentence that says why it gives nothing."""
    with quiet():
        try:
            return run(case)
        except CodingError as error:
            first, *more = error.problems
            return first.message + (f", and {len(more)} more such" if more else "")
        except AllianceMetaError as error:
            return " ".join(str(error).split())


def _row(scenario: Scenario, found: Any, case: Case) -> dict[str, Any]:
    """Return the row of an analysis, with the reason where it gives no number."""
    facts = {"label": scenario.label, "kind": scenario.kind, "says": scenario.says}
    measure = case.effects.measure
    values: dict[str, Any]
    counts: dict[str, Any]
    if isinstance(found, Adjusted):
        why = no_mean(found)
        values = {**{name: getattr(found, name) for name in NUMBERS}, **dict.fromkeys(MORE, NO_PI)}
        counts = {"k": found.k, "studies": found.studies}
    elif isinstance(found, str):
        why, values, counts = found, {}, {}
    else:
        why, (values, counts) = "", _of_fit(scenario, found, case)
    if why:
        gone = NotApplicable(why)
        values, counts = dict.fromkeys((*NUMBERS, *MORE), gone), {"k": gone, "studies": gone}
    values |= on_r(values, measure) | on_r(values, measure, LIMITS)
    return {**facts, **counts, **values, "why": why}


def _of_fit(scenario: Scenario, found: Any, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the numbers of a fit of one mean effect, and its counts."""
    fit: Any = found if isinstance(found, Fit) else None
    if fit is None or len(made := fit.predict(level=case.level)) != 1:
        raise InputError(
            f"scenario {scenario.key!r}: run(case) must give a fit of one mean effect, or what a method of `bias` "
            f"gives, not {type(found).__name__}"
        )
    new, pval = made.iloc[0], fit.pval
    gone = NotApplicable(str(made.attrs.get("pi_note", "the model has no random effects")))
    values: dict[str, Any] = {
        "estimate": float(new["pred"]),
        "ci_lb": float(new["ci_lb"]),
        "ci_ub": float(new["ci_ub"]),
    }
    values |= {"se": float(new["se"]), "pval": NO_P if isinstance(pval, NotApplicable) else float(pval[0])}
    values |= {name: gone if math.isnan(new[name]) else float(new[name]) for name in ("pi_lb", "pi_ub")}
    tau2 = fit.tau2
    values |= {"tau": tau2 if math.isnan(tau2) else math.sqrt(tau2), "I2": fit.I2}
    return values, {"k": fit.k, "studies": case.clusters(fit.effects).n}


def _heard(asked: Sequence[Scenario], found: Mapping[str, Any], known: set[Note]) -> Iterator[Note]:
    """Yield what the analyses said of themselves, each sentence once, after the labels of those who said it."""
    labels: dict[Note, list[str]] = {}
    for one in asked:
        for note in () if isinstance(found[one.key], str) else found[one.key].notes:
            if note not in known and note.code not in STATED:
                labels.setdefault(note, []).append(one.label)
    for note, who in labels.items():
        yield Note(note.code, f"{'; '.join(who)}: {note.message}")
