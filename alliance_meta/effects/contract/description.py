"""A sheet's own description: the ``datapackage.json`` beside it, which may widen the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic import Field as PydanticField

from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.schema import CONTRACT, FALSE, TRUE, Column, Contract, Kind
from alliance_meta.effects.contract.vocabulary import Term, Vocabulary, plain
from alliance_meta.effects.sheet.columns import MISSING
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.expressions import shown
from alliance_meta.notes import did_you_mean

PACKAGE = "datapackage.json"
TYPES: dict[str, Kind] = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
Scalar = str | int | float | bool


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Category(_Part):
    value: Scalar
    label: str | None = None


class _Constraints(_Part):
    required: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[Scalar, ...] = ()


class _Field(_Part):
    name: str = PydanticField(min_length=1)
    type: str = "string"
    title: str = ""
    description: str = ""
    unit: str | None = None
    constraints: _Constraints = _Constraints()
    categories: tuple[_Category | Scalar, ...] = ()


class _Schema(_Part):
    fields: tuple[_Field, ...] = ()
    missing: tuple[str, ...] = PydanticField(default=(), alias="missingValues")


class _Resource(_Part):
    path: str | tuple[str, ...] = ""
    table: _Schema | str | None = PydanticField(default=None, alias="schema")

    @property
    def names(self) -> tuple[str, ...]:
        """The paths, one or several."""
        return (self.path,) if isinstance(self.path, str) else self.path


class _Own(_Part):
    published: tuple[PublishedResult, ...] = ()


class _Package(_Part):
    resources: tuple[_Resource, ...] = ()
    own: dict[str, Any] = PydanticField(default_factory=dict, alias="alliance_meta")


@dataclass(frozen=True)
class Description:
    """What is known of a sheet beyond its cells."""

    contract: Contract = CONTRACT  # the contract, widened by the sheet's own words and columns
    required: frozenset[str] = frozenset()  # columns in which its description demands a value in every row
    missing: frozenset[str] = frozenset()  # its own codes for "missing"
    published: tuple[PublishedResult, ...] = ()  # printed results that its description names
    widened: tuple[str, ...] = field(default=())  # what the description adds to the contract, in words
    found: bool = False  # whether there is a description


def describe(path: Path, found: Findings) -> Description:
    """Read the datapackage beside a sheet, if one describes it; what is wrong with it goes into `found`."""
    try:
        text = (path.parent / PACKAGE).read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return Description()
    try:
        package = _Package.model_validate(json.loads(text))
    except ValidationError as error:
        _tell(error, found, kind="description")
        return Description()
    except (ValueError, RecursionError) as error:
        message = f"{PACKAGE} is not valid JSON ({str(error).splitlines()[0]}); it was left aside"
        found.departure(None, None, None, message, kind="description")
        return Description()
    resource = _resource_of(path.name, package.resources)
    if resource is None or not isinstance(resource.table, _Schema):
        return Description()
    return _described(path.name, resource.table, package.own, found)


def _resource_of(name: str, resources: Iterable[_Resource]) -> _Resource | None:
    """Return the resource of this file, or of one that differs in its ending only (effects.csv, effects.xlsx)."""
    listed = [(Path(path).name, resource) for resource in resources for path in resource.names]
    exact = [resource for path, resource in listed if path == name]
    alike = [resource for path, resource in listed if Path(path).stem == Path(name).stem]
    return next(iter(exact or alike), None)


def _described(source: str, table: _Schema, own: Mapping[str, Any], found: Findings) -> Description:
    columns: dict[str, Column] = {}
    widened: list[str] = []
    for item in table.fields:
        column, news = _merged(CONTRACT.column(item.name), item)
        if news:
            columns[item.name] = column
            widened.append(news)
    codes = [code for code in table.missing if code not in MISSING]
    text = f"{source}: {PACKAGE} describes it"
    if widened:
        text += f" and adds {', '.join(widened)}"
    if codes:
        text += f"; cells with {', '.join(map(repr, codes))} count as missing"
    found.note("description", text)
    return Description(
        contract=CONTRACT.changed(columns),
        required=frozenset(item.name for item in table.fields if item.constraints.required),
        missing=frozenset(codes),
        published=_published(own, found),
        widened=tuple(widened),
        found=True,
    )


def _published(own: Mapping[str, Any], found: Findings) -> tuple[PublishedResult, ...]:
    try:
        return _Own.model_validate(own).published
    except ValidationError as error:
        _tell(error, found, kind="published", under="alliance_meta")
        return ()


def _tell(error: ValidationError, found: Findings, *, kind: str, under: str = "") -> None:
    """Name the first problems of a description, each with its place and what stands there."""
    for problem in error.errors(include_url=False)[:5]:
        names = (under, *problem["loc"]) if under else problem["loc"]
        place = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).lstrip(".")
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "write")
        what = f"{place} is {shown(problem['input'])}; {message}"
        if problem["type"] in ("missing", "too_short"):
            what = f"{place.rpartition('.')[0]} lacks {names[-1]!r}; {message}"
        elif problem["type"] == "extra_forbidden":
            what = (
                f"{place} is not known{did_you_mean(str(names[-1]), [item.name for item in fields(PublishedResult)])}"
            )
        found.departure(None, None, None, f"{PACKAGE}: {what}", kind=kind)


def _merged(known: Column | None, item: _Field) -> tuple[Column, str]:
    """Return the column as the contract and the description have it, and what the description adds to it."""
    terms = _terms(item)
    if known is not None:
        if not terms or known.numeric or known.type == "boolean":
            return known, ""
        if known.vocabulary is None:
            words = Vocabulary(name=item.name, terms=terms)
        else:
            words = known.vocabulary.extended(terms)
        new = len(words.terms) - (len(known.vocabulary.terms) if known.vocabulary else 0)
        if not new:
            return known, ""
        column = known.model_copy(update={"name": item.name, "vocabulary": words, "family": None})
        return column, f"{new} word{'s' if new > 1 else ''} to {item.name!r}"
    rules = item.constraints
    kind = TYPES.get(item.type, "string")
    column = Column(
        name=item.name,
        title=item.title or item.name,
        description=item.description or item.title or item.name,
        type=kind,
        unit=item.unit,
        vocabulary=Vocabulary(name=item.name, terms=terms) if terms and kind == "string" else None,
        minimum=rules.minimum,
        maximum=rules.maximum,
        filled=rules.required,
        unique=rules.unique,
    )
    return column, f"the column {item.name!r}"


def _terms(item: _Field) -> tuple[Term, ...]:
    """Return the words of a field, from ``enum`` and ``categories``, each once."""
    labels: dict[str, str] = {str(value): str(value) for value in item.constraints.enum}
    for entry in item.categories:
        value, label = (entry.value, entry.label) if isinstance(entry, _Category) else (entry, None)
        labels[str(value)] = label or str(value)
    unique = {plain(word): (word, meaning) for word, meaning in labels.items() if word.strip()}
    return tuple(Term(value=word, meaning=meaning or word) for word, meaning in unique.values())


def fields_of(contract: Contract) -> list[dict[str, Any]]:
    """Return the contract's columns as the fields of a Frictionless Table Schema."""
    return [_field(column) for column in contract.columns]


def _field(column: Column) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    if column.filled:
        rules["required"] = True
    if column.unique:
        rules["unique"] = True
    low = column.minimum if column.above is None else column.above
    high = column.maximum if column.below is None else column.below
    rules |= {key: _whole(value) for key, value in (("minimum", low), ("maximum", high)) if value is not None}
    if column.vocabulary is not None:
        rules["enum"] = list(column.vocabulary.values)
    out: dict[str, Any] = {"name": column.name, "type": column.type, "title": column.title}
    out["description"] = column.description
    if column.type == "boolean":
        out |= {"trueValues": _cases(TRUE), "falseValues": _cases(FALSE)}
    if column.unit:
        out["unit"] = column.unit
    if rules:
        out["constraints"] = rules
    if column.vocabulary is not None:
        out["categories"] = [{"value": term.value, "label": term.meaning} for term in column.vocabulary.terms]
    return out


def _cases(values: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(case for value in values for case in (value, value.capitalize(), value.upper())))


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value
