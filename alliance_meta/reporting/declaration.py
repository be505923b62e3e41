"""The declaration of a report: a TOML file read into frozen models, every problem named in one pass.

``docs/reports.md`` describes the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.notes import check_level, check_option, did_you_mean
from alliance_meta.reporting.fitted import refused
from alliance_meta.reporting.items.figures import BAYESIAN, SEEDED
from alliance_meta.reporting.items.review import flow_problems
from alliance_meta.reporting.kinds import FILE_ONLY, KEYS, KINDS, located, with_defaults
from alliance_meta.reporting.made import ID, LONGEST_ID
from alliance_meta.reporting.spec import (
    PIECE_FIGURES,
    PIECE_TABLES,
    PIECES,
    REPRODUCE,
    Abstract,
    Analysis,
    Certainty,
    Claims,
    Consistency,
    Declaration,
    FigureKind,
    FlowTable,
    Head,
    Item,
    Section,
    TableKind,
    Umbrella,
)
from alliance_meta.reporting.text.appendix import ITEMS
from alliance_meta.reporting.words import check_language

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Block = TypeVar("Block", bound=BaseModel)
_VIEWS: dict[str, type[BaseModel]] = {
    "umbrella": Umbrella,
    "claims": Claims,
    "consistency": Consistency,
    "flow": FlowTable,
}


def read_declaration(path: str | Path) -> Declaration:
    """Read and check a declaration.

    Raises
    ------
    CannotRunError
        If the file cannot be opened.
    InputError
        With every problem of the declaration in one message.
    """
    source = Path(path)
    if source.exists() and not source.is_file():
        raise CannotRunError(f"cannot read {source}: it is no file")
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRunError(f"cannot read {source}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{source.name} is not TOML: {error}") from error
    return declare(data, path=source)


def declare(data: Mapping[str, Any], *, path: Path) -> Declaration:
    """Check a declaration given as a mapping; see `read_declaration`."""
    reader = _Reader(path)
    declaration = reader.declaration(data)
    refuse(path, reader.problems)
    assert declaration is not None
    return declaration


class _Reader:
    """Collect problems while turning tables of TOML into models."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def declaration(self, data: Mapping[str, Any]) -> Declaration | None:
        """Return the declaration, or None where anything in it is wrong."""
        top, folder = dict(data), self.path.parent
        blocks = self._list(top, "analysis", "[[analysis]]")
        analyses = self._many(blocks, Analysis, "[[analysis]]")
        pieces = {name: self._one(top.pop(name), _VIEWS[name], f"[{name}]") for name in PIECES if name in top}
        listed = enumerate(self._list(top, "section", "[[section]]"), 1)
        sections = [section for number, one in listed if (section := self._section(one, number)) is not None]
        abstract = self._one(top.pop("abstract", {}), Abstract, "[abstract]")
        checklist = self._checklist(top.pop("checklist", {}))
        judged = top.pop("certainty", {})
        head = self._one(top, Head, "top level")
        self.problems += analysis_problems(analyses, folder)
        self.problems += flow_problems(pieces.get("flow"), folder)
        ids = [str(block["id"]) for block in blocks if isinstance(block, Mapping) and "id" in block]
        kinds = {spec.id: own.table_kind for spec in analyses if (own := KINDS.get(spec.kind)) is not None}
        self.problems += item_problems(sections, ids, list(pieces), folder, kinds)
        certainty = self._certainty(judged, ids)
        for name in abstract.of if abstract else ():
            self.problems += (f"[abstract]: {problem}" for problem in _unknown("of", name, ids))
        if not data.get("analysis") and not pieces:
            wanted = " or ".join(f"[{name}]" for name in PIECES)
            self.problems.append(f"nothing to report: add an [[analysis]] or {wanted}")
        self.problems += () if head is None else refused(check_language, head.lang)
        if head is None or abstract is None or self.problems:
            return None
        made: dict[str, Any] = {"analysis": tuple(map(with_defaults, analyses)), **pieces, "section": tuple(sections)}
        made |= {"abstract": abstract, "checklist": checklist, "certainty": certainty}
        return Declaration(name=self.path.stem, path=self.path, **dict(head), **made)

    def _certainty(self, given: Any, ids: Sequence[str]) -> dict[str, Certainty]:
        """Return what the author judges of the evidence, by analysis."""
        if not isinstance(given, Mapping):
            self.problems.append("[certainty]: write [certainty.ID], one for each analysis")
            return {}
        found = {}
        for name, block in given.items():
            where = f"[certainty.{name}]"
            self.problems += (f"{where}: {problem}" for problem in _unknown("ID", name, ids))
            found[name] = self._one(block, Certainty, where)
        return {name: one for name, one in found.items() if one is not None}

    def _checklist(self, given: Any) -> dict[str, str]:
        """Return what the author answers to items of a checklist."""
        if not isinstance(given, Mapping) or not all(isinstance(text, str) for text in given.values()):
            self.problems.append("[checklist]: write item = 'words', one for each item")
            return {}
        known = [item for items in ITEMS.values() for item in items]
        unknown = [f"{item!r}{did_you_mean(item, known)}" for item in given if item not in known]
        self.problems += [f"[checklist]: no item {one} (known: {', '.join(known)})" for one in unknown]
        return dict(given)

    def _section(self, data: Any, number: int) -> Section | None:
        where = f"[[section]] {number}"
        if not isinstance(data, Mapping):
            self.problems.append(f"{where}: must be a table, not {data!r}")
            return None
        rest = dict(data)
        inside = f"{where} [[section.item]]"
        items = self._many(self._list(rest, "item", inside), Item, inside)
        section = self._one(rest, Section, where)
        return section and section.model_copy(update={"item": tuple(items)})

    def _list(self, data: dict[str, Any], key: str, where: str) -> list[Any]:
        value = data.pop(key, [])
        if isinstance(value, list):
            return value
        self.problems.append(f"{where}: write it with double brackets, one block each")
        return []

    def _many(self, blocks: list[Any], kind: type[Block], where: str) -> list[Block]:
        """Return the blocks that could be read."""
        made = (self._one(block, kind, f"{where} {number}") for number, block in enumerate(blocks, 1))
        return [one for one in made if one is not None]

    def _one(self, data: Any, kind: type[Block], where: str) -> Block | None:
        """Return an instance of `kind`, or None where more than the spelling of a choice is wrong."""
        if not isinstance(data, Mapping):
            self.problems.append(f"{where}: must be a table, not {data!r}")
            return None
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            found = error.errors()
        named = f" ({data['id']})" if data.get("id") else ""
        self.problems += dict.fromkeys(f"{where}{named}: {_in_words(one, kind, data)}" for one in found)
        if any(one["type"] != "literal_error" or not isinstance(one["input"], str) for one in found):
            return None
        # A misspelt choice is kept, so that the rest of the block can be checked in the same pass.
        misspelt = [str(one["loc"][0]) for one in found]
        valid = {name: get_args(_choices(kind, name))[0] for name in misspelt}
        whole = self._one({**data, **valid}, kind, where)
        return whole and whole.model_copy(update={name: data[name] for name in misspelt})


_MUST = {"string_type": "text in quotes", "bool_type": "true or false", "float_type": "a number"}


def _in_words(problem: ErrorDetails, kind: type[BaseModel], data: Mapping[str, Any]) -> str:
    """Return what is wrong with a block and how to mend it."""
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    name, known = str(problem["loc"][0]), list(kind.model_fields)
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"
    if problem["type"] == "literal_error":
        return "".join(refused(check_option, name, data[name], _choices(kind, name)))
    several = get_origin(kind.model_fields[name].annotation) is tuple
    wanted = "a list of texts" if several else _MUST.get(problem["type"])
    return f"{name} must be {wanted}, not {data[name]!r}" if wanted else f"{name}: {problem['msg']}"


def _choices(kind: type[BaseModel], name: str) -> Any:
    """Return the literals that a field takes, without the None that stands for its default."""
    annotation = kind.model_fields[name].annotation
    return next(one for one in (annotation, *get_args(annotation)) if get_origin(one) is Literal)


ONE_EACH = ("left_out", REPRODUCE)


POSTERIOR = "posterior"
NEED_BY = ("bubble", "means")
MODERATORS = "moderators"
NAME_MODERATORS = "{what}='moderators' needs columns = the moderators that it shows, such as ['rater', 'year']"


RESERVED = (*PIECES, "ref", "printed", REPRODUCE, "rho", "bias", MODERATORS, "sensitivity")


_IDENTIFIER = re.compile(ID)


NAMED = f"must be lower-case letters, digits and _, begin with a letter and have at most {LONGEST_ID} characters"


def choice_problems(spec: Analysis) -> Iterator[str]:
    """Yield what is wrong with the keys that kinds differ in; of a kind that does not exist nothing can be said."""
    kind = KINDS.get(spec.kind)
    if kind is None:
        return
    for name, options in kind.options.items():
        if getattr(spec, name) is not None:
            yield from refused(check_option, name, getattr(spec, name), options)
    for name, kinds in KEYS.items():
        if getattr(spec, name) not in (None, ()) and name not in kind.keys:
            belongs = " or ".join(f"kind = {one!r}" for one in kinds)
            yield f"{name} does nothing with kind = {spec.kind!r}; it belongs to {belongs}"
    yield from kind.problems(spec)


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise an `InputError` with every problem, if there is any."""
    if problems:
        several = "" if len(problems) == 1 else "s"
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise InputError(f"{path.name}: {len(problems)} problem{several}{listed}")


def analysis_problems(analyses: Sequence[Analysis], folder: Path) -> Iterator[str]:
    """Yield what is wrong with the analyses."""
    seen: set[str] = set()
    for analysis in analyses:
        where = f"[[analysis]] ({analysis.id})"
        if not _IDENTIFIER.fullmatch(analysis.id):
            yield f"{where}: id {NAMED}"
        if analysis.id in RESERVED:
            yield f"{where}: the id {analysis.id!r} is taken by the report itself"
        if analysis.id in seen:
            yield f"{where}: the id occurs twice; each analysis needs its own"
        seen.add(analysis.id)
        problems = (
            refused(check_level, analysis.level),
            choice_problems(analysis),
            _data_problems(analysis.data, folder),
            _file_problems(analysis, folder),
        )
        for problem in chain.from_iterable(problems):
            yield f"{where}: {problem}"


def _data_problems(data: str, folder: Path, key: str = "data") -> Iterator[str]:
    from alliance_meta.effects.datasets import dataset_names

    names = dataset_names()
    if data in names or _is_file(folder / data):
        return
    hint = did_you_mean(data, names)
    yield (
        f"{key}={data!r} is neither a shipped data set nor a file beside the declaration{hint} "
        f"(shipped: {', '.join(names)})"
    )


def _file_problems(spec: Analysis, folder: Path) -> Iterator[str]:
    said = [key for key in FILE_ONLY if key in spec.said]
    if said and not isinstance(located(spec.data, folder=folder), Path):
        yield f"{', '.join(said)}: this is of a file, and {spec.data} is a shipped data set"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def item_problems(
    sections: Sequence[Section],
    known: Sequence[str],
    pieces: Collection[str],
    folder: Path,
    kinds: Mapping[str, str],
) -> Iterator[str]:
    """Yield what is wrong with the figures and tables.

    `known` are the ids of the analyses, `pieces` the declared views of published results; `kinds` says what
    the analyses that could be read have, coefficients or a posterior.
    """
    for section in sections:
        for item in section.item:
            where = f"[[section]] {section.heading!r}"
            problems = (
                _figure_problems(item, known, kinds) if item.drawn is not None else _table_problems(item, known, folder)
            )
            if item.id is not None and not _IDENTIFIER.fullmatch(item.id):
                yield f"{where}: id={item.id!r} {NAMED}"
            for problem in problems:
                yield f"{where}: {problem}"
            wanted = item.piece
            if wanted is not None and wanted not in pieces:
                yield f"{where}: [{wanted}] is not declared, and {item.drawn or item.table!r} shows it"


def _figure_problems(item: Item, known: Sequence[str], kinds: Mapping[str, str]) -> Iterator[str]:
    kind = str(item.drawn)
    if item.figure is not None:
        if kind not in get_args(FigureKind):
            return
        if len(item.shown) != 1:
            yield f"figure={kind!r} shows one analysis, not {len(item.of)}; write of = '...'"
    if kind in NEED_BY and item.by is None:
        yield f"figure={kind!r} needs by = the moderator that it shows"
    if kind == MODERATORS and not item.columns:
        yield NAME_MODERATORS.format(what="figure")
    if item.seed is not None and kind not in SEEDED:
        yield f"figure={kind!r} draws nothing at random: leave seed away"
    key = "forest" if item.forest is not None else "of"
    for identifier in item.shown:
        if item.figure in PIECE_FIGURES and item.figure != "forest" and item.piece is None:
            yield f"figure={kind!r} shows of = {PIECE_FIGURES[kind]!r}, not {identifier!r}"
        elif item.piece is None:
            yield from _unknown(key, identifier, known)
            if kind in BAYESIAN and kinds.get(identifier, POSTERIOR) != POSTERIOR:
                yield f"figure={kind!r} shows an analysis of kind = 'bayes'; {identifier} is none"


def _table_problems(item: Item, known: Sequence[str], folder: Path) -> Iterator[str]:
    if item.table is None:
        return
    table = item.table
    if table not in get_args(TableKind) or table in PIECE_TABLES:
        return
    if not item.of:
        yield f"table={table!r} needs of = [...]"
    elif table in ONE_EACH and len(item.of) > 1:
        yield f"table={table!r} shows one, not {len(item.of)}; write one item for each"
    if table == MODERATORS and not item.columns:
        yield NAME_MODERATORS.format(what="table")
    for identifier in item.of:
        if table == REPRODUCE:
            yield from _data_problems(identifier, folder, key="of")
        else:
            yield from _unknown("of", identifier, known)


def _unknown(key: str, identifier: str, known: Sequence[str]) -> Iterator[str]:
    if identifier not in known:
        listed = ", ".join(known) or "none"
        yield f"{key}={identifier!r} is no analysis{did_you_mean(identifier, list(known))} (declared: {listed})"


def inputs(declaration: Declaration) -> Iterator[str]:
    """Yield the files that a report reads, as seen from its declaration: sheets and what describes them."""
    from alliance_meta.effects.contract.description import PACKAGE

    items = (item for section in declaration.section for item in section.item)
    of_items = (name for item in items if item.table == REPRODUCE for name in item.of)
    for name in (*(spec.data for spec in declaration.analysis), *of_items):
        if isinstance(located(name, folder=declaration.path.parent), Path):
            yield name
            yield str(Path(name).with_name(PACKAGE))
    if declaration.flow is not None and declaration.flow.file is not None:
        yield declaration.flow.file
