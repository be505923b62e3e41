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
    kind = "random"                           # or "bayes"; or "multilevel", "rve": effects that depend on each other;
                                              # without it CHE with CR2 where a study has several effects
    ri = "r"                                  # column of correlations
    ni = "n"                                  # column of sample sizes
    yi = "g"                                  # or columns of finished effects, with their variances
    vi = "vg"                                 # (or standard errors, sei = ...); measure says what they are
    measure = "ZCOR"
    vtype = "LS"
    method = "REML"
    test = "knha"
    level = 0.95
    mods = "rater + setting"
    subset = "use_as_independent_r"
    cluster = "study_id"                      # what makes effects dependent
    aggregate = "mean"                        # random: one mean for each cluster first
    random = ["study_id/es_id"]               # multilevel, bayes: what varies between which groups
    struct = ["UN"]                           # multilevel: for each term "inner | outer"
    dfs = "contain"                           # multilevel
    working = "CORR"                          # rve
    rho = 0.5                                 # assumed correlation of sampling errors within a cluster
    robust = "CR2"                            # cluster-robust inference
    mu_prior = "normal(0, 0.5)"               # bayes: prior of the mean effect
    tau_prior = "half-normal(0.3)"            # bayes: prior of the heterogeneity
    beta_prior = "normal(0, 0.1)"             # bayes: prior of every other coefficient

    [umbrella]                                # published results side by side, no model
    psychotherapy_only = false

    [claims]                                  # popular claims held against them
    only = ["thirty_percent"]                 # all by default

    [consistency]                             # their printed numbers held against one another
    alpha = 0.05

    [[section]]
    heading = "What the studies show"         # required
    text = "The median correlation is {kolden.r} {kolden.r_ci}."

    [[section.item]]                          # exactly one of text, forest, figure, table
    forest = "kolden"                         # an analysis, or "umbrella"
    order = "effect"                          # given, effect, precision, year, weight or a column; - reverses
    by = "setting"                            # a column: one diamond for each of its values
    columns = ["year"]                        # columns shown beside the labels
    label = "outcome"                         # a column that names the effects of one study
    caption = "..."
    id = "main_figure"                        # for {ref.main_figure}; "forest_kolden" by default

    [[section.item]]
    figure = "caterpillar"                    # forest, caterpillar, bubble, profile, means, dependence, posterior,
                                              # prior_sensitivity, shares
    of = "kolden"

    [[section.item]]
    table = "statistics"
    of = ["kolden"]

Tables: ``studies``, ``statistics``, ``coefficients``, ``comparison``, ``components``, ``levels``, ``left_out``,
``posterior``, ``priors`` (``of`` analyses), ``reproduce`` (``of`` data sets), ``umbrella``, ``umbrella_left_out``,
``claims``, ``claim_steps`` (``of`` claims), ``consistency``, ``consistency_counts``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.options import did_you_mean
from alliance_meta.reporting.checks import analysis_problems, item_problems
from alliance_meta.reporting.kinds import with_defaults
from alliance_meta.reporting.spec import (
    CONTENTS,
    PIECES,
    Analysis,
    Claims,
    Consistency,
    Declaration,
    Declared,
    Item,
    Section,
    Umbrella,
)

KINDS: dict[str, type[Any]] = {"umbrella": Umbrella, "claims": Claims, "consistency": Consistency}


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
        pieces = {name: self._one(top.pop(name), KINDS[name], f"[{name}]") for name in PIECES if name in top}
        sections = [
            self._section(section, index) for index, section in enumerate(self._list(top, "section", "[[section]]"), 1)
        ]
        whole = self._one(top, Declaration, "top level", ignore=("name", "path", "analysis", *PIECES, "section"))
        made = tuple(analysis for analysis in analyses if analysis is not None)
        kept = tuple(section for section in sections if section is not None)
        self.problems += analysis_problems(made, self.path.parent)
        self.problems += item_problems(kept, made, list(pieces), self.path.parent)
        if not data.get("analysis") and not pieces:
            listed = " or ".join(f"[{name}]" for name in PIECES)
            self.problems.append(f"nothing to report: add an [[analysis]] or {listed}")
        if not str(data.get("lang", "en")).startswith("en"):
            self.problems.append(f"lang={data['lang']!r}: the report's own words are English; use 'en'")
        if whole is None or self.problems:
            return None
        return Declaration(
            **{**whole, "name": self.path.stem, "path": self.path},
            analysis=tuple(with_defaults(analysis) for analysis in made),
            **pieces,
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
            if len(item.given) != 1:
                named = " and ".join(item.given) or "none of them"
                self.problems.append(f"{where} item {number}: needs exactly one of {', '.join(CONTENTS)}; has {named}")
        section = self._one(rest, Section, where)
        whole = [item for item in items if item is not None and len(item.given) == 1]
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
        if kind is Analysis:
            return Declared(**values, said=tuple(values))
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
        elif annotation.startswith("float"):
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            self.problems.append(f"{where} must be a number, not {value!r}")
        elif isinstance(value, str):
            return value
        else:
            self.problems.append(f"{where} must be text in quotes, not {value!r}")
        return None
