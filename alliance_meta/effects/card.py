"""Data cards: what a shipped data set is, where it comes from and what it may be called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict

from alliance_meta.tables.document import Document, as_html, as_text


def _as_printed(text: object) -> object:
    """Accept a number only as text, whose digits say how far it binds."""
    with suppress(ValueError):
        if isinstance(text, str) and math.isfinite(float(text.replace("−", "-"))):
            return text
    raise ValueError("write it as the paper prints it, in quotation marks: '.275'")


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """One result somebody printed for a data set, with the route that leads to it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str = "printed"  # name of the result, unique over all data sets
    label: str = "printed result"  # what was computed, in words
    # Printed by the article itself, recalculated by a later paper, or printed in a package's documentation.
    kind: Literal["published", "recalculated", "documentation"] = "published"
    # source, where: who printed it, and on which page, table or file.
    source: str = "not stated"
    where: str = "not stated"
    doi: str | None = None  # DOI of `source`, if one was read
    scale: Literal["r", "z"] = "r"  # scale of the printed numbers
    # Which coefficient the printed estimate is: ``"intrcpt"`` or a moderator's column such as ``"type[T.p]"``.
    coefficient: str = "intrcpt"
    # The numbers as text, exactly as printed, under metafor's names: their digits say how far they bind.
    printed: Annotated[dict[str, Annotated[str, BeforeValidator(_as_printed)]], Field(min_length=1)]
    # Arguments of `escalc` and `RandomEffectsModel` that give the result: ``ri ni measure vtype method test mods
    # subset``. None if the route is unknown or not built.
    route: dict[str, Any] | None = None
    # True if the route is unknown and may be looked for among those that are built.
    search: Annotated[bool, Strict()] = True
    note: str = ""  # why it does not reproduce, what the route cannot do, or what else to know
    moderator: str = ""  # of a mean at one level of a moderator: which, such as ``"alliance rater: client"``
    subset: str | None = None  # expression that picks the rows of that level, such as ``"alliance_rater == 'client'"``

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a plain dictionary."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {text}" for name, text in self.printed.items())
        return f"{self.label}: {numbers} ({self.source}; {self.where})"


@dataclass(frozen=True)
class FieldCard:
    """One column of a data set."""

    # name, type, title, description: name in the file, Frictionless type, short title and what stands in the column.
    name: str
    type: str
    title: str
    description: str
    unit: str | None  # unit of the numbers
    categories: Mapping[str, str]  # permitted values with their meaning (the value itself where it speaks for itself)
    # required, unique: whether a value must stand in every row, and whether values must differ.
    required: bool
    unique: bool
    # minimum, maximum: bounds a number may reach.
    minimum: float | None
    maximum: float | None

    @classmethod
    def from_dict(cls, block: Mapping[str, Any]) -> FieldCard:
        """Read one field of a Table Schema."""
        rules = block.get("constraints", {})
        labels = {str(entry["value"]): str(entry["label"]) for entry in block.get("categories", ())}
        return cls(
            **{name: block[name] for name in ("name", "type", "title", "description")},
            unit=block.get("unit"),
            categories={str(value): labels.get(str(value), str(value)) for value in rules.get("enum", ())},
            required=bool(rules.get("required", False)),
            unique=bool(rules.get("unique", False)),
            minimum=rules.get("minimum"),
            maximum=rules.get("maximum"),
        )


@dataclass(frozen=True)
class Source:
    """One source of a data set: its title and, where known, its DOI and address."""

    title: str
    doi: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.title}. doi:{self.doi}" if self.doi else self.title


@dataclass(frozen=True)
class DataCard:
    """What a shipped data set is.

    Attributes
    ----------
    name, title, description : str
        Its name for `load_dataset`, its title, and what it holds.
    kind : str
        ``relationship``, ``alliance``, ``not-poolable``, ``dependent``, ``validation``, ``published`` or ``claims``.
    k : int
        Number of rows.
    licence : str
        Identifier of the licence of the data, which is not that of the code.
    cautions : tuple of str
        What must be said wherever the data show.
    synthetic : bool
        True for made-up teaching data.
    poolable : bool
        False where no pooled value of the rows would mean anything.
    subset : str or None
        Expression that picks the rows which may be pooled together, if not all may.
    direction : str
        What a positive effect means.
    columns : mapping
        Which column is what for `escalc`: ``ri``, ``ni``, ``slab``, ``study_id`` (or ``yi``, ``vi``). A label made of
        several columns is a tuple of names, and so is a study that only several columns tell.
    sources : tuple of Source
        Article, repository and file.
    citation : str
        How to cite.
    published : tuple of PublishedResult
        Printed results to hold ours against.
    fields : tuple of FieldCard
        Its columns.
    sha256 : str
        Hash of the file's bytes.
    version : str
        Version of the data set.
    """

    name: str
    title: str
    description: str
    kind: str
    k: int
    licence: str
    cautions: tuple[str, ...]
    synthetic: bool
    poolable: bool
    subset: str | None
    direction: str
    columns: Mapping[str, Any]
    sources: tuple[Source, ...]
    citation: str
    published: tuple[PublishedResult, ...]
    fields: tuple[FieldCard, ...]
    sha256: str
    version: str

    @classmethod
    def from_package(cls, package: Mapping[str, Any]) -> DataCard:
        """Read a Frictionless datapackage with an ``alliance_meta`` block; the first resource is the data set."""
        own, first = package["alliance_meta"], package["resources"][0]
        columns = {key: tuple(value) if isinstance(value, list) else value for key, value in own["columns"].items()}
        return cls(
            **{name: package[name] for name in ("name", "title", "description", "version")},
            **{name: own[name] for name in ("kind", "k", "synthetic", "poolable", "subset", "direction", "citation")},
            licence=" and ".join(entry["name"] for entry in package["licenses"]),
            cautions=tuple(own["cautions"]),
            columns=columns,
            sources=tuple(Source(entry["title"], entry.get("doi"), entry.get("path")) for entry in package["sources"]),
            published=tuple(PublishedResult(**block) for block in own["published"]),
            fields=tuple(map(FieldCard.from_dict, first["schema"]["fields"])),
            sha256=first["hash"].removeprefix("sha256:"),
        )

    def field(self, name: str) -> FieldCard:
        """Return one column's description.

        Raises
        ------
        KeyError
            If the data set has no such column.
        """
        for item in self.fields:
            if item.name == name:
                return item
        raise KeyError(name)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "what", self.description
        yield "kind", f"{self.kind}{' (synthetic)' if self.synthetic else ''}, {self.k} rows"
        yield "sign", self.direction
        if self.subset is not None:
            yield "rows to pool", self.subset
        elif not self.poolable:
            yield "rows to pool", "none: see the cautions"
        yield "licence", self.licence
        yield "cite", self.citation

    def document(self) -> Document:
        """Return what the card says, as data that can be written in several ways."""
        columns = [f"  {one.name}: {one.description}{f' [{one.unit}]' if one.unit else ''}" for one in self.fields]
        printed = [f"  {result}" for result in self.published]
        return Document(
            self.title,
            [*(f"! {one}" for one in self.cautions), *(f"{name}: {text}" for name, text in self._facts())],
            [
                ["columns:", *columns],
                ["sources:", *(f"  {source}" for source in self.sources)],
                ["printed results:", *printed] if printed else [],
            ],
        )

    def __str__(self) -> str:
        return as_text(self.document())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self.document())
