"""The declaration of a report: a TOML file read into a frozen spec, every problem named in one pass.

::

    title = "Congruence and outcome"          # required
    subtitle = "..."
    lang = "en"

    [[analysis]]                              # any number; one model each
    id = "kolden"                             # required; the name placeholders and items use
    label = "Kolden et al. 2011, as reported" # required; the name readers see
    short = "As reported"                     # the name in the head of a table's column
    data = "kolden2011_congruence"            # required; a shipped data set, or a file beside the declaration
    ri = "r"                                  # column of correlations
    ni = "n"                                  # column of sample sizes
    measure = "ZCOR"
    vtype = "LS"
    method = "REML"
    test = "knha"
    level = 0.95
    mods = "rater + setting"
    subset = "use_as_independent_r"

    [umbrella]                                # published results side by side, no model
    psychotherapy_only = false

    [[section]]
    heading = "What the studies show"         # required
    text = "The median correlation is {kolden.r} {kolden.r_ci}."

    [[section.item]]                          # exactly one of text, forest, table
    forest = "kolden"                         # an analysis, or "umbrella"
    order = "effect"                          # given, effect, precision, year, weight or a column; - reverses
    by = "setting"                            # a column: one diamond for each of its values
    columns = ["year"]                        # columns shown beside the labels
    caption = "..."
    id = "main_figure"                        # for {ref.main_figure}; "forest_kolden" by default

    [[section.item]]
    table = "statistics"
    of = ["kolden"]

Tables: ``studies``, ``statistics``, ``coefficients``, ``comparison``, ``left_out`` (``of`` analyses),
``reproduce`` (``of`` data sets), ``umbrella``, ``umbrella_left_out``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.options import Measure, Tau2Method, Test, VType, check_level, check_option, did_you_mean

TableKind = Literal[
    "studies",
    "statistics",
    "coefficients",
    "comparison",
    "left_out",
    "reproduce",
    "umbrella",
    "umbrella_left_out",
]

UMBRELLA = "umbrella"
ONE_EACH = ("coefficients", "left_out", "reproduce")
RESERVED = (UMBRELLA, "ref", "printed", "reproduce")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_OPTIONS: dict[str, Any] = {"measure": Measure, "vtype": VType, "method": Tau2Method, "test": Test}


@dataclass(frozen=True, slots=True)
class Analysis:
    """One model of one data set."""

    id: str
    label: str
    data: str
    short: str | None = None
    ri: str | None = None
    ni: str | None = None
    measure: Measure = "ZCOR"
    vtype: VType = "LS"
    method: Tau2Method = "REML"
    test: Test = "knha"
    level: float = 0.95
    mods: str | None = None
    subset: str | None = None


@dataclass(frozen=True, slots=True)
class Umbrella:
    """The published results side by side; nothing is pooled."""

    psychotherapy_only: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a section: words, a forest plot or a table."""

    text: str | None = None
    forest: str | None = None
    table: str | None = None
    of: tuple[str, ...] = ()
    id: str | None = None
    caption: str | None = None
    by: str | None = None
    order: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return which of the three it is."""
        return next(name for name in ("text", "forest", "table") if getattr(self, name) is not None)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its words and items."""

    heading: str
    text: str = ""
    item: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Declaration:
    """A report as declared; `path` is where it stands and is written nowhere."""

    name: str
    path: Path
    title: str
    subtitle: str = ""
    lang: str = "en"
    analysis: tuple[Analysis, ...] = ()
    umbrella: Umbrella | None = None
    section: tuple[Section, ...] = ()

    def find(self, identifier: str) -> Analysis:
        """Return the analysis of that id."""
        return next(analysis for analysis in self.analysis if analysis.id == identifier)


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
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRunError(f"cannot read {source}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source.name} is not TOML: {error}") from error
    return declare(data, path=source)


def declare(data: Mapping[str, Any], *, path: Path) -> Declaration:
    """Check a declaration given as a mapping; see `read_declaration`."""
    reader = _Reader(path)
    declaration = reader.declaration(data)
    if declaration is None or reader.problems:
        count = len(reader.problems)
        lines = "\n".join(f"  {problem}" for problem in reader.problems)
        raise InputError(f"{path.name}: {count} problem{'s' if count != 1 else ''}\n{lines}")
    return declaration


class _Reader:
    """Collect problems while turning mappings into dataclasses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def declaration(self, data: Mapping[str, Any]) -> Declaration | None:
        """Return the declaration, or None where a part of it could not be made."""
        top = dict(data)
        analyses = self._many(top, "analysis", Analysis, "[[analysis]]")
        umbrella = top.pop("umbrella", None)
        if umbrella is not None:
            umbrella = self._one(umbrella, Umbrella, "[umbrella]")
        sections = [
            self._section(section, index) for index, section in enumerate(self._list(top, "section", "[[section]]"), 1)
        ]
        whole = self._one(top, Declaration, "top level", ignore=("name", "path", "analysis", "umbrella", "section"))
        made = tuple(analysis for analysis in analyses if analysis is not None)
        self._check_analyses(made)
        kept = tuple(section for section in sections if section is not None)
        self._check_items(kept, made, umbrella)
        if not data.get("analysis") and umbrella is None:
            self.problems.append("nothing to report: add an [[analysis]] or an [umbrella]")
        if not str(data.get("lang", "en")).startswith("en"):
            self.problems.append(f"lang={data['lang']!r}: the report's own words are English; use 'en'")
        if whole is None or self.problems:
            return None
        return Declaration(
            **{**whole, "name": self.path.stem, "path": self.path},
            analysis=made,
            umbrella=umbrella,
            section=kept,
        )

    def _section(self, data: Any, index: int) -> Section | None:
        where = f"[[section]] {index}"
        if not isinstance(data, Mapping):
            self.problems.append(f"{where}: must be a table")
            return None
        rest = dict(data)
        items = self._many(rest, "item", Item, f"{where} [[section.item]]")
        for number, item in enumerate(items, 1):
            if item is None:
                continue
            given = [name for name in ("text", "forest", "table") if getattr(item, name) is not None]
            if len(given) != 1:
                named = " and ".join(given) or "none of them"
                self.problems.append(f"{where} item {number}: needs exactly one of text, forest, table; has {named}")
        section = self._one(rest, Section, where)
        whole = [item for item in items if item is not None and _is_whole(item)]
        return None if section is None else Section(section.heading, section.text, tuple(whole))

    def _many(self, data: dict[str, Any], key: str, kind: type[Any], where: str) -> list[Any]:
        return [
            self._one(entry, kind, f"{where} {index}") for index, entry in enumerate(self._list(data, key, where), 1)
        ]

    def _list(self, data: dict[str, Any], key: str, where: str) -> list[Any]:
        value = data.pop(key, [])
        if isinstance(value, list):
            return value
        self.problems.append(f"{where}: write it with double brackets, one block each")
        return []

    def _one(self, data: Any, kind: type[Any], where: str, ignore: tuple[str, ...] = ()) -> Any:
        """Return an instance of `kind` (a dict when fields are ignored), or None with the problems noted."""
        if not isinstance(data, Mapping):
            self.problems.append(f"{where}: must be a table, not {data!r}")
            return None
        known = {field.name: field for field in fields(kind) if field.name not in ignore}
        if data.get("id"):
            where = f"{where} ({data['id']})"
        before = len(self.problems)
        for key in data:
            if key not in known:
                listed = ", ".join(known)
                hint = did_you_mean(key, list(known))
                self.problems.append(f"{where}: unknown key {key!r}{hint} (known: {listed})")
        values = {}
        for name, field in known.items():
            if name in data:
                values[name] = self._value(data[name], str(field.type), f"{where}: {name}")
            elif field.default is MISSING:
                self.problems.append(f"{where}: {name} is missing")
        if len(self.problems) > before:
            return None
        return values if ignore else kind(**values)

    def _value(self, value: Any, annotation: str, where: str) -> Any:
        if annotation.startswith("tuple[str"):
            values = [value] if isinstance(value, str) else value
            if isinstance(values, list) and all(isinstance(one, str) for one in values):
                return tuple(values)
            self.problems.append(f"{where} must be a list of texts, not {value!r}")
        elif annotation == "bool":
            if isinstance(value, bool):
                return value
            self.problems.append(f"{where} must be true or false, not {value!r}")
        elif annotation == "float":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            self.problems.append(f"{where} must be a number, not {value!r}")
        elif isinstance(value, str):
            return value
        else:
            self.problems.append(f"{where} must be text in quotes, not {value!r}")
        return None

    def _check_analyses(self, analyses: tuple[Analysis, ...]) -> None:
        seen: set[str] = set()
        for analysis in analyses:
            where = f"[[analysis]] ({analysis.id})"
            if not _IDENTIFIER.fullmatch(analysis.id):
                self.problems.append(f"{where}: id must be lower-case letters, digits and _, and begin with a letter")
            if analysis.id in RESERVED:
                self.problems.append(f"{where}: the id {analysis.id!r} is taken by the report itself")
            if analysis.id in seen:
                self.problems.append(f"{where}: the id occurs twice; each analysis needs its own")
            seen.add(analysis.id)
            for name, options in _OPTIONS.items():
                self._try(where, check_option, name, getattr(analysis, name), options)
            self._try(where, check_level, analysis.level)
            self._check_data(where, analysis.data)

    def _check_data(self, where: str, data: str) -> None:
        from alliance_meta.effects.datasets import list_datasets

        names = [str(name) for name in list_datasets()["name"]]
        if data in names or (self.path.parent / data).is_file():
            return
        hint = did_you_mean(data, names)
        self.problems.append(
            f"{where}: data={data!r} is neither a shipped data set nor a file beside the declaration{hint} "
            f"(shipped: {', '.join(names)})"
        )

    def _try(self, where: str, check: Any, *arguments: Any) -> None:
        try:
            check(*arguments)
        except InputError as error:
            self.problems.append(f"{where}: {error}")

    def _check_items(
        self, sections: tuple[Section, ...], analyses: tuple[Analysis, ...], umbrella: Umbrella | None
    ) -> None:
        known = [analysis.id for analysis in analyses]
        for section in sections:
            for item in section.item:
                where = f"[[section]] {section.heading!r}"
                if item.forest is not None and item.forest != UMBRELLA:
                    self._reference(where, "forest", item.forest, known)
                if item.table is not None:
                    self._try(where, check_option, "table", item.table, TableKind)
                    self._check_table(where, item, known)
                if umbrella is None and UMBRELLA in (item.forest or "", (item.table or "")[: len(UMBRELLA)]):
                    self.problems.append(f"{where}: the umbrella is shown but [umbrella] is not declared")

    def _check_table(self, where: str, item: Item, known: list[str]) -> None:
        table = str(item.table)
        if table not in get_args(TableKind) or table.startswith(UMBRELLA):
            return
        if not item.of:
            self.problems.append(f"{where}: table={table!r} needs of = [...]")
        elif table in ONE_EACH and len(item.of) > 1:
            self.problems.append(f"{where}: table={table!r} shows one, not {len(item.of)}; write one item for each")
        if table != "reproduce":
            for identifier in item.of:
                self._reference(where, "of", identifier, known)

    def _reference(self, where: str, key: str, identifier: str, known: list[str]) -> None:
        if identifier not in known:
            listed = ", ".join(known) or "none"
            hint = did_you_mean(identifier, known)
            self.problems.append(f"{where}: {key}={identifier!r} is no analysis{hint} (declared: {listed})")


def _is_whole(item: Item) -> bool:
    return sum(getattr(item, name) is not None for name in ("text", "forest", "table")) == 1
