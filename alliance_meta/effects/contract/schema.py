"""The contract of a coding sheet, declared once: checks, templates, codebook and JSON Schema come from it."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from alliance_meta.effects.contract import vocabulary as words
from alliance_meta.effects.contract.vocabulary import Vocabulary

Kind = Literal["string", "integer", "number", "boolean"]
Need = Literal["required", "advised", "optional"]
TRUE = ("yes", "y", "true", "t", "1", "on")
FALSE = ("no", "n", "false", "f", "0", "off")
PYTHON_TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


class Column(BaseModel):
    """One column of the contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # name, title, description: its name in the sheet, a short title, and what stands in it.
    name: str = Field(pattern=r"\S")
    title: str
    description: str
    type: Kind = "string"  # what a cell holds
    need: Need = "optional"  # whether a complete sheet has it
    unit: str | None = None  # unit of the numbers
    vocabulary: Vocabulary | None = None  # the words it may hold
    # minimum, maximum: bounds a number may reach.
    minimum: float | None = None
    maximum: float | None = None
    # above, below: bounds a number may not reach.
    above: float | None = None
    below: float | None = None
    # filled, unique: whether every row must have a value, and whether values must differ.
    filled: bool = False
    unique: bool = False
    label: bool = False  # true for names and prose, which are never numbers and never moderators
    also: tuple[str, ...] = ()  # other usual names of the column, in lower case with underscores
    family: str | None = None  # every column whose name begins so keeps the same rules
    blank: bool = True  # whether a blank sheet has it
    example: str = ""  # one cell as it could be typed

    @cached_property
    def numeric(self) -> bool:
        """Whether its cells are numbers."""
        return self.type in ("integer", "number")

    @cached_property
    def bounds(self) -> str:
        """Its range in words, e.g. ``"(-1, 1)"`` or ``">= 4"``; empty without one."""
        low = self.minimum if self.above is None else self.above
        high = self.maximum if self.below is None else self.below
        if low is not None and high is not None:
            opening, closing = "(" if self.above is not None else "[", ")" if self.below is not None else "]"
            return f"{opening}{low:g}, {high:g}{closing}"
        if low is not None:
            return f"{'>=' if self.above is None else '>'} {low:g}"
        return "" if high is None else f"{'<=' if self.below is None else '<'} {high:g}"

    def allows(self, value: float) -> bool:
        """Say whether a number keeps the bounds."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.type != "integer" or float(value).is_integer())
        )


class Contract(BaseModel):
    """What a coding sheet holds, column by column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # title, version: name of the contract and its version.
    title: str
    version: str
    columns: tuple[Column, ...]  # in the order of the template

    @model_validator(mode="after")
    def _every_name_has_one_column(self) -> Contract:
        names = [name for column in self.columns for name in (column.name, *column.also)]
        if len(set(names)) < len(names):
            raise ValueError("a name stands for two columns")
        return self

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def _families(self) -> dict[str, Column]:
        return {column.family: column for column in self.columns if column.family is not None}

    def column(self, name: str) -> Column | None:
        """Return the column of this name, or the one whose family the name belongs to."""
        if name in self._by_name:
            return self._by_name[name]
        return next((column for start, column in self._families.items() if name.startswith(start)), None)

    def named(self, *needs: Need) -> tuple[Column, ...]:
        """Return the columns that are needed so."""
        return tuple(column for column in self.columns if column.need in needs)

    def changed(self, columns: dict[str, Column]) -> Contract:
        """Return the contract with some columns replaced and others added at its end."""
        kept = tuple(columns.get(column.name, column) for column in self.columns)
        new = tuple(column for name, column in columns.items() if name not in self._by_name)
        return Contract(title=self.title, version=self.version, columns=(*kept, *new))


def row_model(contract: Contract) -> type[BaseModel]:
    """Return the pydantic model of one row: what `model_validate` takes is what the contract allows."""
    fields: dict[str, Any] = {}
    for place, column in enumerate(contract.columns):
        extra = {key: value for key, value in (("unit", column.unit), ("need", column.need)) if value}
        described: Any = Field(
            alias=column.name,
            title=column.title,
            description=column.description,
            examples=[_typed(column)] if column.example else None,
            json_schema_extra=cast("dict[str, Any]", extra),
        )
        kind = _kind(column)
        fields[f"column_{place}"] = Annotated[kind if column.filled else kind | None, described]
        if not column.filled:
            fields[f"column_{place}"] = (fields[f"column_{place}"], None)
    return create_model(
        "Effect",
        __config__=ConfigDict(title=contract.title, extra="allow", allow_inf_nan=False),
        __doc__="One row of a coding sheet: one correlation between the alliance and an outcome.",
        **fields,
    )


def json_schema(contract: Contract) -> dict[str, Any]:
    """Return the JSON Schema of one row."""
    schema = row_model(contract).model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "version": contract.version, **schema}


def _kind(column: Column) -> Any:
    """Return the annotated Python type of a cell."""
    if column.vocabulary is not None:
        return Literal[column.vocabulary.values]
    rules: dict[str, Any] = {"ge": column.minimum, "le": column.maximum, "gt": column.above, "lt": column.below}
    if column.type == "string" and column.filled:
        rules["min_length"] = 1
    return Annotated[PYTHON_TYPES[column.type], Field(**{key: rule for key, rule in rules.items() if rule is not None})]


def _typed(column: Column) -> Any:
    if column.type == "boolean":
        return column.example == "yes"
    return PYTHON_TYPES[column.type](column.example)


def _column(name: str, title: str, description: str, **rules: Any) -> Column:
    return Column(name=name, title=title, description=description, **rules)


def _required(name: str, title: str, description: str, **rules: Any) -> Column:
    return Column(name=name, title=title, description=description, need="required", filled=True, **rules)


def _advised(name: str, title: str, description: str, **rules: Any) -> Column:
    return Column(name=name, title=title, description=description, need="advised", **rules)


_RELIABILITY: dict[str, Any] = {"type": "number", "above": 0, "maximum": 1}

CONTRACT = Contract(
    title="Coding sheet of an alliance-outcome meta-analysis",
    version="1.1",
    columns=(
        _required("study_id", "Study, short", "The same short name in every row of one study.", label=True,
                  also=("studyid",), example="ada2001"),
        _required("es_id", "Effect", "A name of its own for every row.", label=True, unique=True,
                  also=("esid", "effect_id", "effectid"), example="ada2001_1"),
        _advised("sample_id", "Sample", "The same name in every row that comes from the same people, so that their "
                 "effects are not counted as if they came from different ones.", label=True, also=("sampleid",),
                 example="ada2001_a"),
        _required("study", "Study", "Authors, as they stand in tables and plots.", label=True,
                  also=("studies", "study_name", "study_label", "study_author", "author_year", "authors_year", "author",
                        "authors", "author_s", "first_author", "lead_author", "short_cite", "reference", "references",
                        "ref", "citation", "paper", "article", "publication", "trial", "trial_name", "studie",
                        "studien", "autor", "autoren", "autor_jahr", "erstautor", "étude", "etude", "auteur", "auteurs",
                        "estudio", "autores", "studio", "autore", "autori", "estudo", "auteur_jaar", "label", "slab"),
                  example="Ada & Bo"),
        _required("year", "Year", "Year of publication.", type="integer", unit="calendar year",
                  also=("yr", "pub_year", "publication_year", "year_of_publication"), example="2001"),
        _required("r", "Correlation", "Correlation between alliance and outcome, positive where a better alliance goes "
                  "with a better outcome.", type="number", unit="correlation", above=-1, below=1,
                  also=("ri", "cor", "corr", "correlation", "r_xy", "rxy", "pearson_r", "pearson", "pearsons_r",
                        "es_r"), example="0.31"),
        _required("n", "Sample size", "Number of people this correlation was computed from; Fisher's z needs 4.",
                  type="integer", unit="persons", minimum=4,
                  also=("ni", "sample_size", "samplesize", "n_total", "ntotal", "total_n", "totaln"), example="48"),
        _advised("r_type", "Kind of correlation", "What is correlated, and what is held constant.",
                 vocabulary=words.R_TYPES, example="zero-order"),
        _advised("es_calc", "How r was obtained", "As printed, or from which other statistic.",
                 vocabulary=words.CALCULATIONS, example="reported"),
        _column("es_type", "Printed statistic", "What the paper prints in place of r; `convert` makes r of it.",
                vocabulary=words.STATISTICS, example="t"),
        _column("es_value", "Its value", "Value of the printed statistic; df, n1, n2, es_se, es_sign and others hold "
                "what goes with it (`alliance-meta convert --list`).", type="number", example="2.26"),
        _advised("direction", "Sign", "Whether the sign was turned so that positive means a better outcome.",
                 vocabulary=words.DIRECTIONS, example="as_printed"),
        _column("p", "p-value", "The p-value the paper prints for r, as it prints it: .03, < .01 or ns. It is only "
                "compared with r and n.", label=True, also=("p_value", "pval", "pvalue"), example=".03"),
        _advised("alliance_measure", "Alliance measure", "Instrument the alliance was measured with.",
                 vocabulary=words.ALLIANCE_MEASURES, example="WAI"),
        _advised("alliance_rater", "Alliance rater", "Who rated the alliance.", vocabulary=words.RATERS,
                 example="client"),
        _column("alliance_component", "Alliance component", "Which part of the alliance.", vocabulary=words.COMPONENTS,
                example="total"),
        _column("alliance_type", "Between whom", "Whose alliance with whom.", vocabulary=words.TYPES,
                example="individual"),
        _advised("alliance_time", "Time of the alliance rating", "When in therapy the alliance was rated.",
                 vocabulary=words.TIMES, example="early"),
        _column("alliance_session", "Session", "Number of the session of the alliance rating, or a range: 3, or 3-5.",
                example="3"),
        _advised("outcome_measure", "Outcome measure", "Instrument or event the outcome was measured by.",
                 vocabulary=words.OUTCOME_MEASURES, example="BDI"),
        _advised("outcome_rater", "Outcome rater", "Who rated the outcome.", vocabulary=words.RATERS, example="client"),
        _column("outcome_type", "Kind of outcome", "What the outcome is about.", vocabulary=words.OUTCOME_TYPES,
                example="symptom"),
        _advised("outcome_time", "Time of the outcome", "When the outcome was measured, in words: end of therapy, "
                 "6 months later.", example="end of therapy"),
        _advised("modality", "Modality", "School of therapy.", vocabulary=words.MODALITIES, example="CBT"),
        _advised("setting", "Setting", "Where the therapy took place.", vocabulary=words.SETTINGS,
                 example="outpatient"),
        _column("format", "Format", "Who was in the room.", vocabulary=words.FORMATS, example="individual"),
        _column("population", "Population", "Who was treated.", vocabulary=words.POPULATIONS, example="adults"),
        _column("diagnosis", "Diagnosis", "What was treated.", vocabulary=words.DIAGNOSES, example="depression"),
        _column("design", "Design", "Whether clients were randomised to treatments.", vocabulary=words.DESIGNS,
                example="RCT"),
        _column("target", "Whose alliance", "Who is allied with whom, where it is not one client and the therapist.",
                vocabulary=words.TARGETS, example="client-therapist"),
        _column("level", "Level of the correlation", "Whether patients of one therapist are compared, or therapists, "
                "or both together; r within and between therapists are two effects.", vocabulary=words.LEVELS,
                example="total"),
        _column("therapist_id", "Therapist", "The same name in every row of one therapist, where a row is one.",
                label=True, example="th01"),
        _column("n_therapists", "Therapists", "How many therapists treated the people of n.", type="integer",
                unit="persons", minimum=1, example="12"),
        _column("n_sessions", "Length of therapy", "Sessions of the whole therapy, on average.", type="number",
                unit="sessions", above=0, example="16"),
        _column("mean_age", "Age", "Mean age of the people of n.", type="number", unit="years", above=0,
                maximum=120, example="37.5"),
        _column("pct_female", "Women", "Share of women and girls, in percent.", type="number", unit="%", minimum=0,
                maximum=100, example="64"),
        _column("pct_minority", "Ethnic minority", "Share of people of an ethnic minority of their country, in "
                "percent.", type="number", unit="%", minimum=0, maximum=100, example="20"),
        _column("country", "Country", "Where the therapy took place.", example="Chile"),
        _column("referral", "Way to therapy", "How people came to therapy.", vocabulary=words.REFERRALS,
                example="clinical"),
        _column("allegiance", "Allegiance", "What the authors hold to matter.", vocabulary=words.ALLEGIANCES,
                example="none"),
        _column("focal", "Point of the paper", "Whether this correlation is what its paper set out to test; effects "
                "reported by the way are selected less.", type="boolean", example="yes"),
        _column("ns", "Not significant, no number", "Yes where the paper says only that the correlation was not "
                "significant; leave r empty.", type="boolean", example="no"),
        _column("covariates", "Held constant", "What a partial correlation or a regression held constant.", label=True,
                example="pre-treatment BDI"),
        _column("quality", "Quality", "Score of the study on the quality scale that the review uses.", type="number",
                unit="points", example="7"),
        _advised("published", "Published", "Whether the study was published in a journal or a book.", type="boolean",
                 example="yes"),
        _advised("rel_alliance", "Reliability of the alliance measure", "Reliability in this sample, e.g. Cronbach's "
                 "alpha.", unit="reliability", example="0.93", **_RELIABILITY),
        _advised("rel_outcome", "Reliability of the outcome measure", "Reliability in this sample.",
                 unit="reliability", example="0.88", **_RELIABILITY),
        _advised("rob_overall", "Risk of bias", "Overall judgement; further columns whose names begin with rob_ hold "
                 "the judgement of one domain each.", vocabulary=words.ROB_LEVELS, family="rob_", example="low"),
        _advised("source", "Place in the paper", "Page and table the number was read on.", label=True,
                 example="p. 229, Table 3"),
        _advised("coder", "Coder", "Initials of whoever typed the row.", label=True, example="AB"),
        _advised("note", "Note", "Anything a reader of the sheet should know.", label=True, example="two-tailed"),
        _column("yi", "Finished effect", "Effect size on the scale of the analysis, for sheets without r and n.",
                type="number", blank=False, also=(".g",), example="0.32"),
        _column("vi", "Sampling variance", "Variance of yi, the square of its standard error.", type="number", above=0,
                blank=False, example="0.021"),
        _column("sei", "Standard error", "Standard error of yi.", type="number", above=0, blank=False,
                also=("se_yi", ".g_se"), example="0.145"),
    ),
)  # fmt: skip
