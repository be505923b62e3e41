"""The kinds of analysis a report may declare: what each takes, fits, shows and says; one is run by `run_analysis`."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.notes import Measure, Tau2Method, Test
from alliance_meta.reporting.fitted import (
    Fitted,
    Put,
    coefficient_quantities,
    components,
    put_components,
    put_data,
    put_effect,
    put_heterogeneity,
    put_moderators,
    put_moments,
    refused,
    rule_of_one_effect,
    rule_of_one_study,
)
from alliance_meta.reporting.items import posterior
from alliance_meta.reporting.spec import Analysis
from alliance_meta.reporting.words import marked, named, tr
from alliance_meta.reporting.writing import Quantity
from alliance_meta.results.r_code import call, data, quoted, value
from alliance_meta.tables.format import brief, format_r

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.priors.prior import Prior
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.effects.table import EffectSizes

INFERENCE = marked(
    {"knha": "Knapp-Hartung, t", "adhoc": "Knapp-Hartung, factor at least 1, t", "z": "Wald, normal", "t": "t"}
)
COUNTED = marked({"contain": "t, df contained", "residual": "t, df k − p"})
NAMES = marked({"study_id": "studies", "es_id": "effects", "study_id/es_id": "effects"})
HARD = "\N{NO-BREAK SPACE}"
AGGREGATED = "aggregated"
PRIORS = ("mu_prior", "tau_prior", "beta_prior")


R2_MARGINAL = marked("R², moderators (marginal)")


class _Likelihood(Fitted):
    """What every kind without priors has alike."""

    @classmethod
    def defaults(cls, spec: Analysis) -> dict[str, Any]:
        return super().defaults(spec) | ({"cluster": "study_id"} if cls.depends(spec) else {})

    @classmethod
    def depends(cls, spec: Analysis) -> bool:
        return True

    @classmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        if spec.rho is not None and not cls.lowest_rho <= spec.rho <= 1.0:
            low = brief(cls.lowest_rho)
            yield f"rho={brief(spec.rho)} is a correlation of sampling errors and must lie between {low} and 1"

    def put_all(self, put: Put) -> None:
        put_data(put, self, clusters=self.dependent)
        if self.dependent:
            put("model", self.model_words(), "text", "Model")
            self.put_dependence(put)
        put("method", self.model.method, "text", "τ² estimator")
        put("test", self.inference_words(), "text", "Inference")
        put("level", self.spec.level, "level", "Confidence level")
        put_effect(put, self)
        self.put_rest(put)

    @abstractmethod
    def put_rest(self, put: Put) -> None:
        """Add heterogeneity and the test of moderators."""

    def put_dependence(self, put: Put) -> None:
        """Add what is assumed of effects that depend on each other."""
        put("cluster", self.spec.cluster, "text", "Clusters")
        if self.spec.rho is not None:
            put("rho", self.spec.rho, "r2", "Assumed ρ of sampling errors")

    def slopes(self) -> dict[str, Quantity]:
        return coefficient_quantities(self)

    @abstractmethod
    def model_words(self) -> str:
        """Return what sort of model it is."""

    def inference_words(self) -> str:
        """Return how the coefficients are tested."""
        return tr(INFERENCE[self.fit.inference]) if self.spec.robust is None else f"{self.spec.robust}, Satterthwaite t"

    def label_parts(self) -> Iterator[str]:
        """Yield what the short label says before the assumed correlation and the test."""
        yield str(self.model.method)

    def tested(self) -> str:
        """Return in a word how the coefficients are tested where no robust inference is asked for."""
        return str(self.fit.inference)

    def short_label(self) -> str:
        rho = [] if self.spec.rho is None else [f"ρ{HARD}={HARD}{format_r(self.spec.rho)}"]
        return ", ".join([*self.label_parts(), *rho, self.spec.robust or self.tested()])

    def prediction_rule(self) -> str:
        return rule_of_one_effect(self)

    def cited(self) -> dict[str, Any]:
        made = {"measure": self.effects.measure, "method": self.model.method, "test": self.fit.inference}
        return made | {"aggregate": self.spec.aggregate, "robust": self.spec.robust}


class _Random(_Likelihood):
    """One effect of each study, or effects averaged or clustered first."""

    kind = "random"
    keys = ("method", "test", "aggregate", "robust", "cluster", "rho")
    options: ClassVar = {"method": Tau2Method, "test": Test}
    usual: ClassVar = {"method": "REML", "test": "knha"}

    @classmethod
    def defaults(cls, spec: Analysis) -> dict[str, Any]:
        return super().defaults(spec) | ({} if spec.aggregate is None else {"rho": 0.5})

    @classmethod
    def depends(cls, spec: Analysis) -> bool:
        return spec.aggregate is not None or spec.robust is not None

    @classmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        yield from super().problems(spec)
        if spec.rho is not None and spec.aggregate is None:
            yield "rho does nothing without aggregate; add aggregate = 'mean', or take kind = 'multilevel' or 'rve'"
        if spec.cluster is not None and not cls.depends(spec):
            yield "cluster does nothing without aggregate or robust"

    @classmethod
    def run(cls, spec: Analysis, effects: EffectSizes) -> Any:
        """Fit a mean or moderators, effects of a study averaged first where that is asked for."""
        from alliance_meta.effects.dependent.aggregate import aggregate
        from alliance_meta.models.random_effects import RandomEffectsModel

        if spec.aggregate is not None:
            assert spec.rho is not None
            effects = aggregate(effects, cluster=spec.cluster, rho=spec.rho, how=spec.aggregate)
        options: dict[str, Any] = {"method": spec.method, "test": spec.test, "level": spec.level}
        return _robust(RandomEffectsModel(effects, mods=spec.mods or "1", **options).fit(), spec)

    @cached_property
    def wald(self) -> Any:
        if self.dependent or self.spec.test == "z":
            return None if self.dependent else self.fit
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            return self.run(self.spec.but(test="z"), self.coded)

    def put_dependence(self, put: Put) -> None:
        if self.spec.aggregate is not None:
            put("averaged", self.spec.aggregate, "text", "Averaged by")
        super().put_dependence(put)

    def put_rest(self, put: Put) -> None:
        put_heterogeneity(put, self)
        put_moderators(put, self, R2="R²")

    def model_words(self) -> str:
        return tr("random effects")

    def label_parts(self) -> Iterator[str]:
        if self.spec.aggregate is not None:
            cluster = tr("study") if self.spec.cluster == "study_id" else self.spec.cluster
            yield tr("{how} of each {cluster}", how=self.spec.aggregate, cluster=cluster)
        yield from super().label_parts()

    def tested(self) -> str:
        return str(self.fit.model_label).rpartition(", ")[2]

    def short_label(self) -> str:
        return super().short_label() if self.dependent else str(self.fit.model_label)

    def prediction_rule(self) -> str:
        return super().prediction_rule() if self.dependent else rule_of_one_study(self)

    def methods(self) -> str:
        """Return what was averaged first, then the model."""
        text = super().methods()
        if self.spec.aggregate is None:
            return text
        averaged = next(note.message for note in self.effects.notes if note.code == AGGREGATED)
        return f"{averaged} {text}"

    def r_code(self) -> str:
        """Return the R code of the model, with the averaging before it that effects of one study need."""
        spec, code = self.spec, super().r_code()
        # metafor has the two ways that work on the analysis scale; after any other the averages are written out.
        if spec.aggregate not in ("mean", "CS"):
            return code
        made = data(self.model, uses=(str(spec.cluster),), effects=self.coded)
        # Only a table with metafor's own class can be averaged by it.
        if not any(line.startswith("dat <- escalc(") for line in made):
            return code
        equal = "FALSE" if spec.aggregate == "mean" else None
        named = {"cluster": str(spec.cluster), "struct": quoted("CS"), "rho": value(spec.rho), "weighted": equal}
        lines = code.splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("dat <- "))
        return "\n".join([*lines[:at], *made, f"dat <- {call('aggregate', 'dat', **named)}", *lines[at + 1 :]])

    def moderator_model(self) -> dict[str, Any]:
        if self.spec.robust is not None:
            return super().moderator_model()
        return {"model": "random", "method": self.spec.method, "test": self.spec.test}

    def profile(self, title: str) -> pd.DataFrame:
        from alliance_meta.plots import profile_data

        return profile_data(self.model, title=title)


class _Multilevel(_Likelihood):
    """Effects that vary between and within studies, their sampling errors correlated or not."""

    kind = "multilevel"
    keys = ("method", "test", "random", "struct", "dfs", "robust", "cluster", "rho")
    options: ClassVar = {"method": Literal["REML", "ML"], "test": Literal["t", "z"]}
    usual: ClassVar = {"method": "REML", "test": "t", "dfs": "contain", "random": ("study_id/es_id",)}

    @classmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        yield from super().problems(spec)
        if spec.cluster is not None and spec.rho is None and spec.robust is None:
            yield "cluster does nothing without rho or robust"
        if spec.struct and not any("|" in term for term in spec.random):
            yield "struct does nothing without a random term 'inner | outer'"

    @classmethod
    def run(cls, spec: Analysis, effects: EffectSizes) -> Any:
        """Fit random terms, the sampling errors of a cluster correlated where rho is given."""
        from alliance_meta.effects.dependent.covariance import impute_V
        from alliance_meta.models.multilevel import MultilevelModel

        options: dict[str, Any] = {"method": spec.method, "test": spec.test, "dfs": spec.dfs, "level": spec.level}
        fit = MultilevelModel(
            effects,
            V=None if spec.rho is None else impute_V(effects, cluster=spec.cluster, rho=spec.rho),
            mods=spec.mods or "1",
            random=spec.random,
            struct=spec.struct or None,
            **options,
        ).fit()
        return _robust(fit, spec)

    @property
    def chosen(self) -> bool:
        return "kind" not in self.spec.said

    def model_words(self) -> str:
        return tr("multilevel")

    @cached_property
    def components(self) -> list[dict[str, Any]]:
        return components(self)

    def put_dependence(self, put: Put) -> None:
        if self.spec.rho is not None or self.spec.robust is not None:
            put("cluster", self.spec.cluster, "text", "Clusters")
        put("random", ", ".join(term.name for term in self.model.random), "text", "Random effects")
        if self.spec.rho is not None:
            put("rho", self.spec.rho, "r2", "Assumed ρ of sampling errors")
        else:
            put("errors", tr("independent"), "text", "Sampling errors")

    def put_rest(self, put: Put) -> None:
        put_components(put, self)
        put_moderators(put, self, R2_marginal=R2_MARGINAL)

    def inference_words(self) -> str:
        counted = self.spec.robust is None and self.fit.inference == "t"
        return tr(COUNTED[str(self.spec.dfs)]) if counted else super().inference_words()

    def label_parts(self) -> Iterator[str]:
        yield " + ".join(named(NAMES, term.name) for term in self.model.random)
        yield from super().label_parts()

    def cited(self) -> dict[str, Any]:
        of_rho = () if self.spec.rho is None else ("pustejovsky2022",)
        return super().cited() | {"model": ("konstantopoulos2011", "viechtbauer2010", *of_rho)}

    def moderator_model(self) -> dict[str, Any]:
        spec, usual = self.spec, self.usual
        plain = {"random": spec.random, "dfs": spec.dfs} == {"random": usual["random"], "dfs": usual["dfs"]}
        if not plain or (spec.rho is None) != (spec.robust is None):
            return super().moderator_model()
        if spec.rho is None:
            return {"model": "multilevel", "method": spec.method, "test": spec.test}
        return {"model": "che", "rho": spec.rho, "type": spec.robust, "cluster": spec.cluster, "method": spec.method}

    def profile(self, title: str) -> pd.DataFrame:
        from alliance_meta.plots import profiles_data

        return profiles_data(self.model, title=title)


class _RVE(_Likelihood):
    """Robust variance estimation with a working model of the dependence."""

    kind = "rve"
    keys = ("working", "cluster", "rho")
    usual: ClassVar = {"working": "CORR"}
    lowest_rho = 0.0

    @classmethod
    def defaults(cls, spec: Analysis) -> dict[str, Any]:
        return super().defaults(spec) | ({"rho": 0.8} if spec.working in (None, "CORR") else {})

    @classmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        yield from super().problems(spec)
        if spec.rho is not None and spec.working == "HIER":
            yield "rho does nothing with working = 'HIER', whose errors are independent"

    @classmethod
    def run(cls, spec: Analysis, effects: EffectSizes) -> Any:
        """Fit by robust variance estimation."""
        from alliance_meta.models.rve import RVEModel

        options: dict[str, Any] = {"cluster": spec.cluster, "working": spec.working, "level": spec.level}
        if spec.rho is not None:
            options["rho"] = spec.rho
        return RVEModel(effects, mods=spec.mods or "1", **options).fit()

    def put_rest(self, put: Put) -> None:
        put_moments(put, self)
        put_moderators(put, self)

    def model_words(self) -> str:
        return f"RVE, {self.spec.working}"

    def inference_words(self) -> str:
        return "CR2, Satterthwaite t"

    def label_parts(self) -> Iterator[str]:
        yield f"RVE {self.spec.working}"

    def tested(self) -> str:
        return "CR2"

    def cited(self) -> dict[str, Any]:
        return super().cited() | {"model": ("hedges2010", "tipton2015", "tipton2015htz")}


class _Bayes(Fitted):
    """A model with priors, of one effect of each study or of effects within studies."""

    kind = "bayes"
    keys = ("random", *PRIORS)
    table_kind = "posterior"
    usual: ClassVar = {"mu_prior": "normal(0, 0.5)", "tau_prior": "half-normal(0.3)"}
    package = "bayesmeta"

    @classmethod
    def depends(cls, spec: Analysis) -> bool:
        return bool(spec.random)

    @classmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        for name in PRIORS:
            if getattr(spec, name) is not None:
                yield from (f"{name}: {problem}" for problem in refused(read_prior, getattr(spec, name), name))

    @classmethod
    def run(cls, spec: Analysis, effects: EffectSizes) -> Any:
        """Fit by quadrature; priors that are not given are the defaults for correlations."""
        from alliance_meta.bayes.exact.model import BayesianModel

        if effects.measure not in get_args(Measure) and not {"mu_prior", "tau_prior"} <= spec.said:
            raise InputError(
                "give mu_prior and tau_prior: those taken by default are for correlations, not for these effects"
            )
        given = {name: getattr(spec, name) for name in PRIORS}
        priors: dict[str, Any] = {name: read_prior(text, name) for name, text in given.items() if text is not None}
        random = (spec.random[0] if len(spec.random) == 1 else spec.random) or None
        return BayesianModel(effects, mods=spec.mods or "1", random=random, level=spec.level, **priors).fit()

    def put_all(self, put: Put) -> None:
        put_data(put, self)
        if self.dependent:
            put("random", ", ".join(posterior.terms(self.fit)), "text", "Random effects")
        posterior.put_posterior(put, self)

    def slopes(self) -> dict[str, Quantity]:
        return posterior.slope_quantities(self)

    def short_label(self) -> str:
        priors = self.fit.priors
        of_tau = dict.fromkeys(str(one) for one in getattr(priors, "taus", None) or (priors.tau,))
        listed = ", ".join(of_tau)
        if self.dependent:
            return tr("Bayesian, studies + effects, τ: {priors}", priors=listed)
        return tr("Bayesian, τ: {priors}", priors=listed)

    def prediction_rule(self) -> str:
        return tr(posterior.PREDICTED)

    def cited(self) -> dict[str, Any]:
        return {"measure": self.effects.measure, "model": ("rover2020", "rover2021")}


def _robust(fit: Any, spec: Analysis) -> Any:
    return fit if spec.robust is None else fit.robust(cluster=spec.cluster, type=spec.robust)


def read_prior(text: str, name: str) -> Prior:
    """Return the prior that a key of an analysis names; an `InputError` where it is none or one of something else."""
    from alliance_meta.bayes.exact.setup import check_kind
    from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
    from alliance_meta.bayes.priors.tau import parse

    prior = parse(text)
    check_kind(prior, TauPrior if name == "tau_prior" else EffectPrior, name)
    return prior


KINDS: dict[str, type[Fitted]] = {one.kind: one for one in (_Random, _Multilevel, _RVE, _Bayes)}


# Key -> the kinds of analysis that have it; every other key belongs to all.
KEYS = {key: [one.kind for one in KINDS.values() if key in one.keys] for kind in KINDS.values() for key in kind.keys}


def with_defaults(spec: Analysis) -> Analysis:
    """Return an analysis with the defaults of its kind in place of what was left out."""
    wanted = KINDS[spec.kind].defaults(spec)
    return spec.but(**{name: value for name, value in wanted.items() if getattr(spec, name) in (None, ())})


def as_che(spec: Analysis) -> Analysis | None:
    """Return what is made of dependent effects where no kind was named; None where the keys mean another model."""
    from alliance_meta.models.recipes import DEFAULT_RHO

    multilevel = KINDS["multilevel"]
    fits = all(key not in KEYS or key in multilevel.keys for key in spec.said) and all(
        getattr(spec, key) in get_args(choices) for key, choices in multilevel.options.items() if key in spec.said
    )
    if "kind" in spec.said or KINDS[spec.kind].depends(spec) or not fits:
        return None
    changed: dict[str, Any] = {key: None for key in multilevel.options if key not in spec.said}
    changed |= {"kind": multilevel.kind, "rho": DEFAULT_RHO, "robust": "CR2"}
    return with_defaults(spec.but(**changed))


DEPENDENT = "dependent"


COLUMNS = ("ri", "ni", "yi", "vi", "sei", "measure")
# What a shipped data set says itself.
FILE_ONLY = ("study", "sheet", "encoding", "missing")


def run_analysis(spec: Analysis, *, folder: Path) -> Fitted:
    """Load, code and fit one analysis.

    Raises
    ------
    InputError
        Whatever the data or the model object to, with the analysis named in front.
    """
    from alliance_meta.effects.datasets import load_dataset

    place = located(spec.data, folder=folder)
    try:
        if isinstance(place, Path):
            return fit_sheet(spec, read_sheet(spec, place))
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            whole = load_dataset(place)
        return fit_sheet(spec, whole, **named_columns(spec))
    except InputError as error:
        raise InputError(f"[[analysis]] ({spec.id}): {error}") from error


def named_columns(spec: Analysis) -> dict[str, Any]:
    """Return the columns, and what is made of them, as far as an analysis names them."""
    return {key: getattr(spec, key) for key in COLUMNS if key in spec.said}


def read_sheet(spec: Analysis, path: Path) -> CodedTable:
    """Read a sheet as an analysis does; warnings are silenced because whoever shows the table prints its notes."""
    from alliance_meta.effects.sheet.ingest import read_coded

    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        return read_coded(
            path, **named_columns(spec), **{key: getattr(spec, key) for key in FILE_ONLY if key in spec.said}
        )


def fit_sheet(spec: Analysis, whole: CodedTable, **named: Any) -> Fitted:
    """Fit an analysis to a table; warnings are silenced because whoever shows the fit prints its notes."""
    from alliance_meta.effects.sizes import escalc

    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        _check_poolable(spec, whole)
        table = whole.query(spec.subset) if spec.subset else whole
        measure = {"measure": spec.measure} if "measure" in spec.said else {}
        coded = escalc(table, vtype=spec.vtype, **measure | named)
        if coded.k > coded.n_studies:
            spec = as_che(spec) or spec
        kind = KINDS[spec.kind]
        return kind(spec, whole, table, coded, kind.run(spec, coded))


def _check_poolable(spec: Analysis, table: CodedTable) -> None:
    """Refuse to pool what its data card says must not be pooled."""
    card = table.card
    if card is None:
        return
    if not card.poolable:
        raise InputError(f"{card.name} must not be pooled: {' '.join(card.cautions)}")
    if card.subset and spec.subset is None:
        raise InputError(f"only a part of {card.name} may be pooled; add subset = {card.subset!r}")
    if card.kind == DEPENDENT and not KINDS[spec.kind].depends(spec):
        raise InputError(
            f"{card.name} holds several effects of the same people, which this analysis would take as independent; "
            "add aggregate = 'mean' or robust = 'CR2', or take kind = 'multilevel' or 'rve'"
        )


def located(data: str, *, folder: Path) -> str | Path:
    """Return the name of a shipped data set, or the path of that file in `folder`."""
    from alliance_meta.effects.datasets import dataset_names

    return data if data in dataset_names() else folder / data
