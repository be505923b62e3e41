"""A declared analysis with its data and its fit, and the numbers that it puts into `results.json`."""

from __future__ import annotations

import math
import re
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

import pandas as pd

from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.notes import Measure, NotApplicable
from alliance_meta.reporting.spec import Analysis, AnalysisKind, TableKind
from alliance_meta.reporting.words import marked, named, tr
from alliance_meta.reporting.writing import Quantity, finer, quantity
from alliance_meta.tables.format import format_df, format_level

if TYPE_CHECKING:
    from alliance_meta.bias.panels import BiasPanel
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.moderators.table import ModeratorTable
    from alliance_meta.sensitivity.batteries.battery import Battery

# Adds a number: key, value, format, label, which may name the level and the parts given by name.
Put = Callable[..., None]

# How many there were of what: by how much the methods of two fits may differ and still be told once.
_SIZE = re.compile(
    r"(?<=\bk = )[\d,]+|\b[\d,]+(?:\.\d+)?(?= (?:degrees of freedom|groups|clusters|studies|effects|became)\b)"
    r"|(?<=became )[\d,]+|\b[\d,]+ to [\d,]+(?= effects)"
)


@dataclass(frozen=True, eq=False)
class Fitted(ABC):
    """A declared analysis with its data and its fit; each kind of analysis is a subclass.

    `whole` is the sheet and `table` the part of it that the analysis is of; `coded` are the effects before averaging,
    `effects` those that took part.
    """

    kind: ClassVar[AnalysisKind]
    # The keys of a declaration that this kind has and not every other.
    keys: ClassVar[tuple[str, ...]]
    # Key -> its spellings, for keys that kinds spell differently.
    options: ClassVar[Mapping[str, Any]] = {}
    # Key -> what stands for it where it was left out.
    usual: ClassVar[Mapping[str, Any]] = {}
    lowest_rho: ClassVar[float] = -1.0
    # The table that holds its coefficients, and the R package that fits the same.
    table_kind: ClassVar[TableKind] = "coefficients"
    package: ClassVar[str] = "metafor"

    spec: Analysis
    whole: CodedTable
    table: CodedTable
    coded: EffectSizes
    fit: Any

    @classmethod
    def defaults(cls, spec: Analysis) -> dict[str, Any]:
        """Return what stands for keys that were left out, given those that were not."""
        return dict(cls.usual)

    @classmethod
    @abstractmethod
    def depends(cls, spec: Analysis) -> bool:
        """Return whether something is said about effects of one study that depend on each other."""

    @classmethod
    @abstractmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        """Yield what is wrong with the keys of this kind, those that would do nothing included."""

    @classmethod
    @abstractmethod
    def run(cls, spec: Analysis, effects: EffectSizes) -> Any:
        """Return the fit of the model to coded effects."""

    @abstractmethod
    def put_all(self, put: Put) -> None:
        """Add every number of the standard block, in reading order."""

    @abstractmethod
    def slopes(self) -> dict[str, Quantity]:
        """Return the coefficients of a meta-regression, for placeholders."""

    @abstractmethod
    def short_label(self) -> str:
        """Return the model of one row of a table in a few words."""

    @abstractmethod
    def prediction_rule(self) -> str:
        """Say how the prediction interval was made."""

    @abstractmethod
    def cited(self) -> dict[str, Any]:
        """Return the choices that have references, by the names that `appendix.method_keys` reads."""

    def methods(self) -> str:
        """Return the sentences for a methods section."""
        return str(self.fit.methods_text())

    def r_code(self) -> str:
        """Return the R code of the model."""
        return str(self.fit.r_code())

    def profile(self, title: str) -> pd.DataFrame:
        """Return the frame of the profile of the likelihood."""
        raise InputError(f"figure='profile' shows a likelihood; an analysis of kind = {self.kind!r} has none")

    def under(self, spec: Analysis) -> Self:
        """Return the same effects under another declaration of the same kind."""
        return replace(self, spec=spec, fit=self.run(spec, self.coded))

    @property
    def effects(self) -> EffectSizes:
        """The effects that took part."""
        effects: EffectSizes = self.fit.effects
        return effects

    @property
    def dependent(self) -> bool:
        """Whether something is said about effects of one study that depend on each other."""
        return self.depends(self.spec)

    @property
    def on_r(self) -> bool:
        """Whether the effects are correlations, so that results can be read as r."""
        return self.effects.measure in get_args(Measure)

    @property
    def number(self) -> str:
        """The format of an effect on the model's scale."""
        return "r3" if self.effects.measure in ("COR", "UCOR") else "z"

    @property
    def level(self) -> str:
        """The level of its intervals in words."""
        return format_level(self.spec.level)

    @property
    def chosen(self) -> bool:
        """Whether the model was chosen for the data's dependence, because none was named."""
        return False

    @property
    def wald(self) -> Any:
        """The same model with normal intervals; None where there is none."""
        return None

    @property
    def components(self) -> list[dict[str, Any]]:
        """One record for each variance and correlation of a model with several; empty where τ² is all."""
        return []

    @property
    def varying(self) -> re.Pattern[str]:
        """What may differ between the methods of two fits that are told once."""
        return _SIZE

    @property
    def model(self) -> Any:
        """The model-based fit behind a cluster-robust one."""
        return self.fit if self.spec.robust is None else self.fit.fit

    @property
    def heading(self) -> str:
        """What a column of a table calls this analysis."""
        return self.spec.short or self.spec.label

    @cached_property
    def bias(self) -> BiasPanel:
        """What every method for a biased literature gives; what it warns of are notes of its own."""
        from alliance_meta.bias.panels import panel

        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            return panel(self.fit)

    def moderators(self, names: tuple[str, ...]) -> ModeratorTable:
        """Return the table of moderators of the analysis's effects, with its own model."""
        from alliance_meta.moderators.table import moderator_table

        if self.spec.mods is not None:
            raise InputError(f"moderators of {self.spec.id!r}: take an analysis without mods")
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            return moderator_table(self.effects, names, level=self.spec.level, **self.moderator_model())

    def moderator_model(self) -> dict[str, Any]:
        """Return how a table of moderators fits the analysis's model."""
        raise InputError(
            f"moderators of {self.spec.id!r}: take an analysis of kind = 'random', or of 'multilevel' with rho and "
            f"robust; there is no such table for its model ({self.short_label()})"
        )

    @cached_property
    def battery(self) -> Battery:
        """What every usual analysis gives for the same effects, as they were coded."""
        from alliance_meta.sensitivity.batteries.battery import battery

        if self.spec.mods is not None and self.spec.mods != "1":
            raise InputError(f"sensitivity shows mean effects; {self.spec.id} has mods =")
        named: dict[str, Any] = {"rho": self.spec.rho, "cluster": self.spec.cluster}
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            return battery(self.coded, level=self.spec.level, **{k: v for k, v in named.items() if v is not None})

    @cached_property
    def statistics(self) -> dict[str, Quantity]:
        """The standard block of numbers, by the name placeholders use, in reading order."""
        out: dict[str, Quantity] = {}

        def put(key: str, value: Any, kind: str, label: str, /, **parts: str) -> None:
            out[key] = quantity(value, kind, tr(label, level=self.level, **parts))

        self.put_all(put)
        return out


def refused(check: Callable[..., object], *arguments: Any) -> Iterator[str]:
    """Yield what a check objects to."""
    try:
        check(*arguments)
    except InputError as error:
        yield str(error)


SYMBOLS = {"sigma2": "σ²", "tau2": "τ²", "rho": "ρ"}


LEVELS = marked({"study_id": "between studies", "study_id/es_id": "within studies"})


WITH_MODERATORS = NotApplicable("depends on the moderators; see the coefficients")


NO_PROFILE = NotApplicable("no profile interval for this covariance structure")


def coefficient_quantities(fitted: Fitted) -> dict[str, Quantity]:
    """Return every coefficient of a meta-regression, and the mean at each level of a single categorical moderator."""
    fit = fitted.fit
    if fit.p == 1:
        return {}
    scale = fitted.number
    out: dict[str, Quantity] = {}
    for i, (own, name) in enumerate(zip(fit.names, fit.design.words, strict=True)):
        key, ends = f"b_{slug(own)}", [fit.ci_lb[i], fit.ci_ub[i]]
        out[key] = quantity(fit.beta[i], finer(scale, fit.se[i]), name)
        out[f"{key}_ci"] = quantity(ends, finer(f"{scale}_interval", fit.se[i]), tr("{name}, CI", name=name))
        out[f"{key}_df"] = quantity(fit.ddf[i], "df", tr("{name}, df", name=name))
        out[f"{key}_p"] = quantity(fit.pval[i], "p", f"{name}, p")
    for row in level_rows(fitted):
        key, label = slug(row["level"]), row["level"]
        name, kind = ("r", "r") if fitted.on_r else ("estimate", scale)
        out[f"{name}_{key}"] = quantity(row[name], kind, f"{name}, {label}")
        out[f"{name}_{key}_ci"] = quantity(
            [row["ci_lb"], row["ci_ub"]], f"{kind}_interval", tr("{name}, CI", name=f"{name}, {label}")
        )
        out[f"k_{key}"] = quantity(row["k"], "count", tr("Effects, {label}", label=label))
        out[f"studies_{key}"] = quantity(row["studies"], "count", tr("Studies, {label}", label=label))
    return out


def level_rows(fitted: Fitted) -> list[dict[str, Any]]:
    """Return the mean at each level of the one categorical moderator; empty for any other model."""
    fit, effects = fitted.fit, fitted.effects
    variables = fit.design.variables
    if len(variables) != 1 or variables[0] not in fit.design.levels:
        return []
    levels = list(fit.design.levels[variables[0]])
    predicted = fit.predict(pd.DataFrame({variables[0]: levels}), scale="r" if fitted.on_r else None)
    values = effects.moderators[variables[0]].tolist()
    rows = []
    for i, level in enumerate(levels):
        row = predicted.iloc[i]
        there = [study for study, value in zip(effects.study_id, values, strict=True) if value == level]
        rows.append(
            {
                "level": str(level),
                "k": len(there),
                "studies": len(set(there)),
                "r" if fitted.on_r else "estimate": float(row["pred"]),
                "ci_lb": float(row["ci_lb"]),
                "ci_ub": float(row["ci_ub"]),
                "ddf": float(row["ddf"]) if "ddf" in row else float(fit.ddf.min()),
            }
        )
    return rows


def slug(name: str) -> str:
    """Return a name as placeholders write it.

    >>> slug("sigma2[study_id]"), slug("sigma2[study_id/es_id]"), slug("rater[T.observer]")
    ('sigma2_study_id', 'sigma2_es_id', 'rater_t_observer')
    """
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\bstudy_id/es_id\b", "es_id", name).lower()).strip("_")


def components(fitted: Fitted) -> list[dict[str, Any]]:
    """Return what varies by how much in a multilevel model, one record for each variance and correlation."""
    model = fitted.model
    intervals = model.confint()
    rows = []
    for name, row in model.components.iterrows():
        found = str(name) in intervals.index
        ends = intervals.loc[name] if found else {"lb": NO_PROFILE, "ub": NO_PROFILE}
        kind, _, inside = str(name).partition("[")
        term = inside.rstrip("]")
        rows.append(
            {
                "name": str(name),
                "key": slug(str(name)),
                "label": f"{SYMBOLS.get(kind, kind)} {named(LEVELS, term)}",
                "term": term,
                "estimate": row["estimate"],
                "ci": [ends["lb"], ends["ub"]],
                "groups": int(row["groups"]),
            }
        )
    return rows


ON_RAW_SCALE = NotApplicable("the model was fitted to r itself")


PEOPLE_ONCE = marked("Participants (N), each sample once")


def put_data(put: Put, fitted: Fitted, *, clusters: bool = False) -> None:
    """Add the data; of clusters, effects that depend on each other, also their sizes and the range of r."""
    effects = fitted.effects
    if fitted.spec.aggregate is not None:
        put("k_rows", fitted.coded.k, "count", "Effects before averaging")
    put("k", fitted.fit.k, "count", "Effects (k)")
    put("studies", effects.n_studies, "count", "Studies")
    if clusters:
        sizes = Counter(effects.study_id).values()
        put("effects_per_study", _range(sizes), "text", "Effects per study")
    once = effects.samples.max() + 1 != effects.k
    put("n_total", effects.counts["people"], "count", PEOPLE_ONCE if once else "Participants (N)")
    if clusters:
        lowest, highest = _range_of_r(fitted.coded)
        put("r_lowest", lowest, "r", "Smallest correlation")
        put("r_highest", highest, "r", "Largest correlation")
    put("measure", effects.scale_label, "text", "Effect size")


def put_effect(put: Put, fitted: Fitted) -> None:
    """Add the pooled effect on every scale, with its intervals."""
    fit, raw = fitted.fit, fitted.effects.measure != "ZCOR"
    scale, simple = fitted.number, fit.p == 1

    def first(values: Any) -> Any:
        return values[0] if simple else WITH_MODERATORS

    put("estimate", first(fit.beta), scale, "Pooled effect, model's scale")
    put("se", first(fit.se), scale, "Standard error, model's scale")
    put("ci", [first(fit.ci_lb), first(fit.ci_ub)], f"{scale}_interval", "{level} CI, model's scale")
    put("stat", first(fit.stat), "stat", "Test statistic (t, or z where df is ∞)")
    put("ddf", first(fit.ddf), "df", "Degrees of freedom (df)")
    put("p", first(fit.pval), "p", "p")
    if not fitted.on_r:
        _put_finished(put, fitted, why=WITH_MODERATORS)
        return
    median = _prediction(fit, "r") if simple else {}
    mean = _prediction(fit, "r_mean") if simple and not raw else {}
    why = WITH_MODERATORS if not simple else ON_RAW_SCALE
    put("r", median.get("pred", why), "r", "r (from Fisher z: tanh(μ), the median)")
    put("r_ci", _pair(median, "ci", why), "r_interval", "{level} CI of r")
    if fitted.wald is not None:
        wald = _prediction(fitted.wald, "r") if simple else {}
        put("r_ci_wald", _pair(wald, "ci", why), "r_interval", "{level} CI of r, normal (Wald)")
    if fitted.spec.robust is not None:
        model = _prediction(fitted.model, "r") if simple else {}
        put("r_ci_model", _pair(model, "ci", why), "r_interval", "{level} CI of r, not robust")
    put("r_mean", mean.get("pred", why), "r", "Mean of the true correlations, r")
    put("r_mean_ci", _pair(mean, "ci", why), "r_interval", "{level} CI of the mean r")
    put("pi", _pair(median, "pi", why), "r_interval", "{level} prediction interval, r")
    if simple:
        put("pairs", _concordant(median["pred"]), "percent", "Pairs of clients in the same order on both measures")
        ends = [_concordant(median[name]) for name in ("ci_lb", "ci_ub")]
        put("pairs_ci", ends, "percent_interval", "{level} CI of the pairs in the same order")


def _concordant(r: Any) -> float:
    """Return the percentage of pairs that a bivariate normal with correlation r orders alike on both measures.

    Kendall (1938, doi:10.1093/biomet/30.1-2.81): 1/2 + arcsin(r)/pi.
    """
    return 50.0 + 100.0 * math.asin(min(max(float(r), -1.0), 1.0)) / math.pi


def _put_finished(put: Put, fitted: Fitted, *, why: NotApplicable) -> None:
    """Add the other intervals of a mean of effects that are no correlations: on their own scale."""
    simple = fitted.fit.p == 1
    others = {"model": fitted.model} if fitted.spec.robust is not None else {}
    others |= {} if fitted.wald is None else {"wald": fitted.wald}
    words = marked({"model": "{level} CI, not robust", "wald": "{level} CI, normal (Wald)"})
    for name, fit in others.items():
        row = _prediction(fit, None) if simple else {}
        put(f"ci_{name}", _pair(row, "ci", why), f"{fitted.number}_interval", words[name])
    row = _prediction(fitted.fit, None) if simple else {}
    put("pi", _pair(row, "pi", why), f"{fitted.number}_interval", "{level} prediction interval")


def put_heterogeneity(put: Put, fitted: Fitted) -> None:
    """Add the heterogeneity of a random-effects model."""
    model = fitted.model
    interval = model.confint_tau2(kind="QP")
    put("tau2", model.tau2, "variance", "τ²")
    put("tau2_ci", [interval.lb, interval.ub], "variance_interval", "τ², {level} Q-profile interval")
    put("tau", model.tau, "sd", "τ")
    put("tau_ci", [_root(interval.lb), _root(interval.ub)], "sd_interval", "τ, {level} Q-profile interval")
    put("I2", model.I2, "percent", "I², from τ²")
    put("I2_Q", model.I2_Q, "percent", "I², from Q")
    put("H2", model.H2, "stat", "H²")
    _put_q(put, model)


def _put_q(put: Put, model: Any) -> None:
    put("Q", model.QE, "stat", "Q")
    put("Q_df", model.QEdf, "df", "Q, df")
    put("Q_p", model.QEp, "p", "Q, p")


def put_components(put: Put, fitted: Fitted) -> None:
    """Add every variance and correlation of a multilevel model, and their shares."""
    model = fitted.model
    put("tau2", model.tau2, "variance", "τ²")
    put("tau", model.tau, "sd", "τ")
    for one in fitted.components:
        kind = "r" if one["name"].startswith("rho") else "variance"
        put(one["key"], one["estimate"], kind, one["label"])
        put(f"{one['key']}_ci", one["ci"], f"{kind}_interval", "{what}, {level} profile interval", what=one["label"])
    put("I2", model.I2, "percent", "I², from τ²")
    for name, share in model.I2_levels.items():
        if name != "total":
            put(f"I2_{slug(name)}", share, "percent", "I² {level_of}", level_of=named(LEVELS, str(name)))
    _put_q(put, model)


def put_moments(put: Put, fitted: Fitted) -> None:
    """Add what the working model of robust variance estimation knows."""
    model = fitted.model
    put("tau2", model.tau2, "variance", "τ²")
    put("tau", model.tau, "sd", "τ")
    if fitted.spec.working == "HIER":
        put("omega2", model.omega2, "variance", "ω², between effects of a cluster")
    put("I2_Q", model.I2, "percent", "I², from Q")
    put("Q", model.QE, "stat", "Q")


def put_moderators(put: Put, fitted: Fitted, **explained: str) -> None:
    """Add the test of moderators where there are any, and before it the named shares that they explain."""
    fit = fitted.fit
    if fit.p == 1:
        return
    for name, label in explained.items():
        put(name, getattr(fit, name), "percent", label)
    put("QM", fit.QM, "stat", "Test of moderators")
    if fitted.dependent:
        m, df = fit.QMdf
        put("QM_df", f"{m}, {format_df(df)}" if df is not None else str(m), "text", "Test of moderators, df")
    put("QM_p", fit.QMp, "p", "Test of moderators, p")


def rule_of_one_effect(fitted: Fitted) -> str:
    """Say how the prediction interval was made where effects depend on each other."""
    return tr(
        "Prediction interval: where {one} of one new effect of a new, similar study is expected (of its mean, where "
        "effects were averaged first); t with the degrees of freedom above, variance τ² plus the squared standard "
        "error, on the model's scale.",
        one=tr("the true correlation") if fitted.on_r else tr("the true effect"),
    )


def rule_of_one_study(fitted: Fitted) -> str:
    """Say how the prediction interval was made where each study has one effect."""
    df = float(fitted.fit.ddf[0])
    t = tr("t with {df} degrees of freedom", df=format_df(df))
    return tr(
        "Prediction interval: where {one} of one new, similar study is expected; {distribution}, variance τ² plus the "
        "squared standard error, on the model's scale.",
        one=tr("the true correlation") if fitted.on_r else tr("the true effect"),
        distribution=tr("the normal distribution") if math.isinf(df) else t,
    )


def _range(sizes: Collection[int]) -> str:
    """Return the smallest and the largest of several sizes in words."""
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else tr("{low} to {high}", low=low, high=high)


def _prediction(fit: Any, scale: Any) -> Mapping[str, Any]:
    frame = fit.predict(scale=scale)
    row = {str(key): value for key, value in frame.iloc[0].items()}
    why = frame.attrs.get("pi_note")
    if why:
        row |= {name: NotApplicable(why) for name in ("pi_lb", "pi_ub")}
    return row


def _pair(prediction: Mapping[str, Any], what: str, why: NotApplicable) -> Any:
    if not prediction:
        return why
    return [prediction[f"{what}_lb"], prediction[f"{what}_ub"]]


def _root(value: float) -> float:
    return value if math.isnan(value) else math.sqrt(value)


def _range_of_r(effects: EffectSizes) -> tuple[Any, Any]:
    """Return the smallest and the largest correlation as they stand in the sheet."""
    name = effects.columns.get("ri")
    if name is None:
        return (NotApplicable("finished effects have no correlation"),) * 2
    values = effects.moderators[name].astype(float)
    return float(values.min()), float(values.max())
