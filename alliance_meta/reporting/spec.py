"""What a report may declare: one frozen model for each kind of block in the TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from alliance_meta.core.robust.rve import Working
from alliance_meta.effects.dependent.aggregate import Aggregation
from alliance_meta.effects.flow import Check
from alliance_meta.notes import Degrees, Measure, RobustType, VType

AnalysisKind = Literal["random", "multilevel", "rve", "bayes"]
TableKind = Literal[
    "studies",
    "statistics",
    "coefficients",
    "comparison",
    "components",
    "levels",
    "rho",
    "bias",
    "moderators",
    "sensitivity",
    "left_out",
    "posterior",
    "priors",
    "reproduce",
    "umbrella",
    "umbrella_left_out",
    "claims",
    "claim_steps",
    "consistency",
    "consistency_counts",
    "flow",
]
FigureKind = Literal[
    "forest",
    "caterpillar",
    "bubble",
    "profile",
    "means",
    "dependence",
    "funnel",
    "sunset",
    "bias",
    "moderators",
    "sensitivity",
    "posterior",
    "prior_sensitivity",
    "shares",
    "rob",
    "rob_bar",
    "evidence_map",
    "prisma",
    "orchard",
    "rainforest",
    "drapery",
    "ranks",
    "leave_one_out",
    "cumulative",
    "timeline",
    "influence",
    "baujat",
    "radial",
    "gosh",
    "qqnorm",
    "resampled",
    "profiles",
    "rho_grid",
    "specification_curve",
    "p_curve",
    "z_curve",
    "firepower",
    "worst_case",
    "selection_weights",
    "predictive",
    "sequential",
]

REPRODUCE = "reproduce"
UMBRELLA, CLAIMS, CONSISTENCY, FLOW = "umbrella", "claims", "consistency", "flow"
# What a report shows of published results and of the review: table -> the piece it belongs to, and figures likewise.
PIECES = (UMBRELLA, CLAIMS, CONSISTENCY, FLOW)
PIECE_TABLES = {
    "umbrella": UMBRELLA,
    "umbrella_left_out": UMBRELLA,
    "claims": CLAIMS,
    "claim_steps": CLAIMS,
    "consistency": CONSISTENCY,
    "consistency_counts": CONSISTENCY,
    "flow": FLOW,
}
PIECE_FIGURES = {"forest": UMBRELLA, "shares": CLAIMS, "prisma": FLOW}
# Tables that stand in the supplement unless an item says otherwise.
SUPPLEMENT = ("statistics", "left_out")
CONTENTS = ("text", "forest", "figure", "table")


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _listed(value: object) -> object:
    """Take one text as a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Analysis(_Block):
    """One model of one data set; None stands for the default of its kind."""

    id: str
    label: str
    data: str
    kind: AnalysisKind = "random"
    short: str | None = None
    ri: str | None = None
    ni: str | None = None
    yi: str | None = None
    vi: str | None = None
    sei: str | None = None
    study: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    missing: Texts = ()
    measure: Measure = "ZCOR"
    vtype: VType = "LS"
    # Kinds spell these two differently; `kinds` checks them.
    method: str | None = None
    test: str | None = None
    level: float = 0.95
    mods: str | None = None
    subset: str | None = None
    cluster: str | None = None
    aggregate: Aggregation | None = None
    random: Texts = ()
    struct: Texts = ()
    dfs: Degrees | None = None
    rho: float | None = None
    robust: RobustType | None = None
    working: Working | None = None
    mu_prior: str | None = None
    tau_prior: str | None = None
    beta_prior: str | None = None

    @property
    def said(self) -> set[str]:
        """The keys that were written."""
        return self.model_fields_set

    def but(self, **changed: Any) -> Self:
        """Return the analysis with other values; what was said stays what was written."""
        return self.model_construct(_fields_set=self.said, **(dict(self) | changed))


class Umbrella(_Block):
    """The published results side by side; nothing is pooled."""

    psychotherapy_only: bool = False


class Claims(_Block):
    """Popular claims held against the published results."""

    only: Texts = ()


class Consistency(_Block):
    """The printed numbers of the registry held against one another."""

    alpha: float = 0.05


class FlowTable(_Block):
    """The flow of records through the review: beside these keys those of PRISMA 2020's template, or a file of them."""

    # Which keys there are and what they hold is said where flows are read.
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    file: str | None = None
    check: Check = "error"


class Item(_Block):
    """One thing in a section: words, a figure or a table."""

    text: str | None = None
    forest: str | None = None
    figure: FigureKind | None = None
    table: TableKind | None = None
    of: Texts = ()
    id: str | None = None
    caption: str | None = None
    by: str | None = None
    order: Texts = ()
    columns: Texts = ()
    label: str | None = None
    seed: int | None = None
    supplement: bool | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        given = [name for name in CONTENTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(CONTENTS)}; has {' and '.join(given) or 'none of them'}")
        return self

    @property
    def drawn(self) -> str | None:
        """The kind of figure; None for words and tables."""
        return "forest" if self.forest is not None else self.figure

    @property
    def shown(self) -> tuple[str, ...]:
        """The analyses, data sets or the umbrella that a figure or table shows."""
        if self.figure == "prisma" and not self.of:
            return (FLOW,)
        return (self.forest,) if self.forest is not None else self.of

    @property
    def aside(self) -> bool:
        """Whether it belongs to the supplement: as declared, else what only few read."""
        return self.table in SUPPLEMENT if self.supplement is None else self.supplement

    @property
    def piece(self) -> str | None:
        """The view of published results that a figure or table shows; None for those of analyses."""
        if self.drawn is None:
            return PIECE_TABLES.get(self.table or "")
        wanted = PIECE_FIGURES.get(self.drawn)
        return wanted if wanted in self.shown else None


class Section(_Block):
    """A heading with its words and items."""

    heading: str
    text: str = ""
    supplement: bool = False
    item: tuple[Item, ...] = ()


class Abstract(_Block):
    """What the author says in the abstract; of what is left out the analyses `of` which it is say the rest."""

    of: Texts = ()
    question: str = ""
    data: str = ""
    methods: str = ""
    results: str = ""
    robustness: str = ""
    limits: str = ""


Concern = Literal["not serious", "serious", "very serious"]
Suspicion = Literal["undetected", "strongly suspected"]
Judgement = Literal["high", "moderate", "low", "very low"]


class Certainty(_Block):
    """The author's judgement of the evidence of one analysis, in the words of GRADE."""

    judgement: Judgement
    risk_of_bias: Concern | None = None
    inconsistency: Concern | None = None
    indirectness: Concern | None = None
    imprecision: Concern | None = None
    publication_bias: Suspicion | None = None
    reason: str = ""


class Head(_Block):
    """What stands above all blocks."""

    title: str
    subtitle: str = ""
    lang: str = "en"


class Declaration(Head):
    """A report as declared; `path` is where it stands and is written nowhere."""

    name: str
    path: Path
    abstract: Abstract = Abstract()
    checklist: Mapping[str, str] = {}
    certainty: Mapping[str, Certainty] = {}
    analysis: tuple[Analysis, ...] = ()
    umbrella: Umbrella | None = None
    claims: Claims | None = None
    consistency: Consistency | None = None
    flow: FlowTable | None = None
    section: tuple[Section, ...] = ()

    def find(self, identifier: str) -> Analysis:
        """Return the analysis of that id."""
        return next(analysis for analysis in self.analysis if analysis.id == identifier)

    @property
    def pieces(self) -> dict[str, Umbrella | Claims | Consistency | FlowTable]:
        """The declared views of the published results and of the review, by name."""
        found = {name: getattr(self, name) for name in PIECES}
        return {name: piece for name, piece in found.items() if piece is not None}
