"""Run the analyses a report declares."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.options import Measure
from alliance_meta.reporting.checks import as_che, read_prior
from alliance_meta.reporting.numbers import Quantity
from alliance_meta.reporting.spec import BAYES, MULTILEVEL, REPRODUCE, RVE, Analysis, Declaration, Declared

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.effects.table import EffectSizes

DEPENDENT = "dependent"
COLUMNS = ("ri", "ni", "yi", "vi", "sei", "measure")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A declared analysis with its data and its fit.

    `coded` are the effects before averaging; `effects` those that took part; `wald` is the same model with normal
    intervals, where there is one.
    """

    spec: Declared
    whole: CodedTable
    table: CodedTable
    coded: EffectSizes
    fit: Any
    wald: Any = None

    @property
    def effects(self) -> EffectSizes:
        """The effects that took part."""
        effects: EffectSizes = self.fit.effects
        return effects

    @property
    def on_r(self) -> bool:
        """Whether the effects are correlations, so that results can be read as r."""
        return self.effects.measure in get_args(Measure)

    @property
    def number(self) -> str:
        """The format of an effect on the model's scale."""
        return "r3" if self.effects.measure in ("COR", "UCOR") else "z"

    @property
    def chosen(self) -> bool:
        """Whether the model was chosen for the data's dependence, because none was named."""
        return self.spec.kind == MULTILEVEL and "kind" not in self.spec.said

    @property
    def model(self) -> Any:
        """The model-based fit behind a cluster-robust one."""
        return self.fit if self.spec.robust is None else self.fit.fit

    @property
    def heading(self) -> str:
        """What a column of a table calls this analysis."""
        return self.spec.short or self.spec.label

    @cached_property
    def statistics(self) -> dict[str, Quantity]:
        """The standard block of numbers, by the name placeholders use, in reading order."""
        from alliance_meta.reporting.statistics import statistics

        return statistics(self)

    @cached_property
    def components(self) -> list[dict[str, Any]]:
        """What varies by how much in a multilevel model, one record for each variance and correlation."""
        from alliance_meta.reporting.coefficients import components

        return components(self)


def run_analysis(spec: Declared, *, folder: Path) -> Fitted:
    """Load, code and fit one analysis; warnings are silenced here because the report prints their notes.

    Raises
    ------
    InputError
        Whatever the data or the model object to, with the analysis named in front.
    """
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.effects.escalc import escalc
    from alliance_meta.effects.sheet.ingest import read_coded

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllianceMetaWarning)
            place = located(spec.data, folder=folder)
            named: dict[str, Any] = {key: getattr(spec, key) for key in COLUMNS if key in spec.said}
            whole = load_dataset(place) if isinstance(place, str) else read_coded(place, **named)
            _check_poolable(spec, whole)
            table = whole.query(spec.subset) if spec.subset else whole
            if isinstance(place, Path):
                named = {"measure": spec.measure} if "measure" in spec.said else {}
            coded = escalc(table, vtype=spec.vtype, **named)
            if coded.k > coded.n_studies:
                spec = as_che(spec) or spec
            fit, wald = _fit(spec, coded)
    except InputError as error:
        raise InputError(f"[[analysis]] ({spec.id}): {error}") from error
    return Fitted(spec, whole, table, coded, fit, wald)


def refit(fitted: Fitted, spec: Declared) -> Fitted:
    """Return the same effects under another declaration."""
    fit, wald = _fit(spec, fitted.coded)
    return replace(fitted, spec=spec, fit=fit, wald=wald)


def _fit(spec: Declared, effects: EffectSizes) -> tuple[Any, Any]:
    """Return the fit and, for a plain random-effects model, the same one with normal intervals."""
    wald = None
    if spec.kind == RVE:
        fit = _rve(spec, effects)
    elif spec.kind == MULTILEVEL:
        fit = _multilevel(spec, effects)
    elif spec.kind == BAYES:
        fit = _bayes(spec, effects)
    else:
        fit, wald = _random(spec, effects)
    return (fit, wald) if spec.robust is None else (fit.robust(cluster=spec.cluster, type=spec.robust), None)


def _random(spec: Analysis, effects: EffectSizes) -> tuple[Any, Any]:
    from alliance_meta.effects.dependent.aggregate import aggregate
    from alliance_meta.models.random_effects import RandomEffectsModel

    if spec.aggregate is not None:
        assert spec.rho is not None
        effects = aggregate(effects, cluster=spec.cluster, rho=spec.rho, how=spec.aggregate)
    options: dict[str, Any] = {"mods": spec.mods or "1", "method": spec.method, "level": spec.level, "test": spec.test}
    fit = RandomEffectsModel(effects, **options).fit()
    if spec.dependent:
        return fit, None
    return fit, fit if spec.test == "z" else RandomEffectsModel(effects, **options | {"test": "z"}).fit()


def _multilevel(spec: Analysis, effects: EffectSizes) -> Any:
    from alliance_meta.effects.dependent.covariance import impute_V
    from alliance_meta.models.multilevel import MultilevelModel

    options: dict[str, Any] = {"method": spec.method, "test": spec.test, "dfs": spec.dfs, "level": spec.level}
    return MultilevelModel(
        effects,
        V=None if spec.rho is None else impute_V(effects, cluster=spec.cluster, rho=spec.rho),
        mods=spec.mods or "1",
        random=spec.random,
        struct=spec.struct or None,
        **options,
    ).fit()


def _rve(spec: Analysis, effects: EffectSizes) -> Any:
    from alliance_meta.models.rve import RVEModel

    options: dict[str, Any] = {"cluster": spec.cluster, "working": spec.working, "level": spec.level}
    if spec.rho is not None:
        options["rho"] = spec.rho
    return RVEModel(effects, mods=spec.mods or "1", **options).fit()


def _bayes(spec: Declared, effects: EffectSizes) -> Any:
    from alliance_meta.bayes.exact.model import BayesianModel

    if effects.measure not in get_args(Measure) and not {"mu_prior", "tau_prior"} <= set(spec.said):
        raise InputError(
            "give mu_prior and tau_prior: those taken by default are for correlations, not for these effects"
        )
    given = {name: getattr(spec, name) for name in ("mu_prior", "tau_prior", "beta_prior")}
    priors: dict[str, Any] = {name: read_prior(text, name) for name, text in given.items() if text is not None}
    random = (spec.random[0] if len(spec.random) == 1 else spec.random) or None
    return BayesianModel(effects, mods=spec.mods or "1", random=random, level=spec.level, **priors).fit()


def _check_poolable(spec: Analysis, table: CodedTable) -> None:
    """Refuse to pool what its data card says must not be pooled."""
    card = table.card
    if card is None:
        return
    if not card.poolable:
        raise InputError(f"{card.name} must not be pooled: {' '.join(card.cautions)}")
    if card.subset and spec.subset is None:
        raise InputError(f"only a part of {card.name} may be pooled; add subset = {card.subset!r}")
    if card.kind == DEPENDENT and not spec.dependent:
        raise InputError(
            f"{card.name} holds several effects of the same people, which this analysis would take as independent; "
            "add aggregate = 'mean' or robust = 'CR2', or take kind = 'multilevel' or 'rve'"
        )


def inputs(declaration: Declaration) -> Iterator[str]:
    """Yield the files that a report reads, as seen from its declaration: sheets and what describes them."""
    from alliance_meta.effects.contract.description import PACKAGE

    items = (item for section in declaration.section for item in section.item)
    of_items = (name for item in items if item.table == REPRODUCE for name in item.of)
    for name in (*(spec.data for spec in declaration.analysis), *of_items):
        if isinstance(located(name, folder=declaration.path.parent), Path):
            yield name
            yield str(Path(name).with_name(PACKAGE))


def located(data: str, *, folder: Path) -> str | Path:
    """Return the name of a shipped data set, or the path of that file in `folder`."""
    from alliance_meta.effects.datasets import list_datasets

    return data if data in set(list_datasets()["name"]) else folder / data
