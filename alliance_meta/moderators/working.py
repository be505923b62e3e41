"""The working model of a table of moderators: one choice, fitted to the effects of every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alliance_meta.effects.dependent.groups import ROWS, read_clusters
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.multilevel import MultilevelModel
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import DEFAULT_RHO, che, sce
from alliance_meta.models.subgroups import SharedTau2, SubgroupResults, subgroups
from alliance_meta.notes import RobustType, check_level, check_option
from alliance_meta.results.robust import RobustResults
from alliance_meta.tables.format import brief

TableModel = Literal["che", "random", "multilevel"]
ONE_TAU2 = "one tau2 for all levels of a moderator"
OWN_TAU2 = {
    "che": "subgroup correlated effects (SCE): every level its own tau2, errors of two levels independent",
    "random": "every level fitted by itself, with its own tau2; means compared with weights 1 / se^2 (Welch)",
}


@dataclass(frozen=True, slots=True)
class Working:
    """Which model every row of the table is fitted with; see `moderator_table`."""

    model: TableModel = "che"
    tau2: SharedTau2 = "common"
    cluster: str = STUDY
    rho: float = DEFAULT_RHO
    type: RobustType = "CR2"
    method: Any = "REML"
    test: Any = None
    level: float = 0.95

    def check(self) -> None:
        """Raise an `InputError` for choices that do not go together."""
        check_option("model", self.model, TableModel)
        check_option("tau2", self.tau2, SharedTau2)
        check_level(self.level)
        if self.model == "multilevel" and self.tau2 == "separate":
            raise InputError(
                "tau2='separate' with model='multilevel': a study may have effects at several levels, so that models "
                "fitted level by level cannot be compared; take model='che', whose separate tau2 (SCE) can"
            )
        if self.model == "che" and self.test is not None:
            raise InputError(f"test={self.test!r}: model='che' has its own, CR2 with Satterthwaite df; leave test out")

    @property
    def robust(self) -> bool:
        """Whether inference rests on how whole clusters disagree."""
        return self.model == "che"

    def fit(self, effects: EffectSizes, mods: str = "1") -> Any:
        """Fit one mean, or a meta-regression, with one tau2.

        Where no cluster has two effects, variances between and within clusters cannot be told apart, and only their
        sum counts: the fit is then that of the random-effects model, the same with fewer unknowns.
        """
        common = {"mods": mods, "method": self.method, "level": self.level}
        if self.model == "random":
            return RandomEffectsModel(effects, test=self.test or "knha", **common).fit()
        if read_clusters(effects, self.cluster).n == effects.k:
            alone = RandomEffectsModel(effects, test=self.test or "t", **common).fit()
            return alone.robust(cluster=self.cluster, type=self.type) if self.robust else alone
        if self.model == "multilevel":
            random = f"{self.cluster}/{ROWS}"
            return MultilevelModel(effects, random=random, test=self.test or "t", **common).fit()
        return che(effects, cluster=self.cluster, rho=self.rho, type=self.type, **common)

    def apart(self, effects: EffectSizes, name: str, term: str) -> RobustResults | SubgroupResults:
        """Fit the levels of a moderator with a tau2 of their own each; `name` is a plain name for ``che``."""
        if self.model == "random":
            return subgroups(self.fit(effects), by=name, tau2="separate")
        options: Mapping[str, Any] = {"method": self.method, "level": self.level}
        return sce(effects, subgroup=name, mods=term, cluster=self.cluster, rho=self.rho, type=self.type, **options)

    def words(self) -> str:
        """Say in one sentence which model the rows were fitted with."""
        said = {
            "che": f"correlated and hierarchical effects (rho = {brief(self.rho)}, {self.method}), {self.type} by "
            f"{self.cluster} with Satterthwaite df",
            "random": f"random effects ({self.method}, {self.test or 'knha'})",
            "multilevel": f"random effects of {self.cluster} and of effects within ({self.method}, "
            f"{self.test or 't'}), sampling errors independent",
        }
        return f"{said[self.model]}; {ONE_TAU2 if self.tau2 == 'common' else OWN_TAU2[self.model]}"
