"""`new_report`: a first declaration of a report, with comments, chosen by what is in the sheet."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.notes import Measure
from alliance_meta.reporting.made import ID
from alliance_meta.reporting.words import check_language, languages, speaking, tr

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable

MODERATORS, LEVELS, STUDIES = 4, 8, 2
LONGEST_WORD = 40

HEAD = """\
# A report on {data}, begun by `alliance-meta new-report`. Every line may be changed; docs/reports.md lists all keys.
# Build it:  alliance-meta report {path}
# No number is typed in the prose: {{main.{point}}} is read from the results.

title = {title}
# The language of the report's own words: {languages}.
lang = {lang}

[abstract]
of = ["main"]
# What you leave out here is written from the results.
# question = "..."
# limits = "..."

[[analysis]]
id = "main"
label = "All effects"
data = {source}
{naming}{model}
[[section]]
heading = "Every study"
text = "{{ref.studies}} shows every effect with its 95% confidence interval."

[[section.item]]
forest = "main"
id = "studies"
order = "effect"
"""
DEPENDENT = """\
# {effects} effects of {studies} studies, which depend on each other: correlated and hierarchical effects (CHE).
# rho, the correlation of sampling errors within a study, is assumed; the battery below says how much hangs on it.
kind = "multilevel"
robust = "CR2"
rho = 0.6
"""
INDEPENDENT = """\
# One effect per study: random effects, REML, Knapp-Hartung intervals (the defaults).
"""
BY = """
[[section]]
heading = "Moderators"
text = "{{ref.moderators}} has the mean at every level of each moderator, one moderator at a time."

[[section.item]]
figure = "moderators"
of = "main"
columns = {columns}

[[section.item]]
table = "moderators"
of = "main"
columns = {columns}
id = "moderators"
supplement = true
"""
ENOUGH = 5
# Lines that are words for readers, in the language of the report.
PROSE = re.compile(r'^(heading|text|label) = "([^"\\]*)"$', re.MULTILINE)
REST = """
[[section]]
heading = "If findings went missing"
text = "{ref.funnel} shows every effect with its standard error; {ref.bias} asks each method for a biased literature."

[[section.item]]
figure = "funnel"
of = "main"
id = "funnel"

[[section.item]]
table = "bias"
of = "main"
id = "bias"
supplement = true

[[section]]
heading = "Does the answer hold?"
text = "{ref.battery} shows the mean by every usual analysis."

[[section.item]]
figure = "sensitivity"
of = "main"
id = "battery"

[[section.item]]
table = "sensitivity"
of = "main"
supplement = true
"""


def new_report(name: str, data: str | Path, *, folder: str | Path = "reports", lang: str = "en", **naming: Any) -> Path:
    """Write a first declaration of a report on a coding sheet, with comments, and return where it is.

    Effects that depend on each other get the model for them (CHE with CR2), independent ones random effects;
    moderators are columns with few values, each of several studies.

    Parameters
    ----------
    name : str
        The file is ``folder/name.toml``: letters, digits, ``-`` and ``_``.
    data : str or Path
        A coding sheet, or the name of a shipped data set.
    folder : str or Path
        Made where it is not there.
    lang : str
        Language of the report's own words, and of the headings and sentences written here: ``"en"`` or ``"de"``.
    **naming
        What `read_coded` must be told of a file: ``ri``, ``ni``, ``yi``, ``vi``, ``sei``, ``study``, ``measure``,
        ``missing``, ``encoding``, ``sheet``; the declaration says it too.

    Returns
    -------
    Path
        The declaration, which `build_report` builds.

    Raises
    ------
    InputError
        For a name that is none, or a sheet that cannot be used, with every problem of it.
    CannotRunError
        If the file is there already, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from alliance_meta.reporting import new_report
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = new_report("first", "molloy2014", folder=folder).read_text()
    >>> text.splitlines()[4]
    'title = "first"'
    """
    if not re.fullmatch(ID.replace("_]", "_-]"), name.lower()):
        raise InputError(f"{name!r} cannot name a report: take letters, digits, - and _, and begin with a letter")
    check_language(lang)
    target = Path(folder) / f"{name}.toml"
    table, source = _read(str(data), target.parent, naming)
    text = starter(name, table, source, target, lang, naming)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise CannotRunError(f"{target} is there already; take another name, or remove it") from error
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror}") from error
    return target


def _read(data: str, folder: Path, naming: Mapping[str, Any]) -> tuple[CodedTable, str]:
    """Return the sheet, and what the declaration calls it."""
    from alliance_meta.effects.datasets import dataset_names, load_dataset
    from alliance_meta.effects.sheet.ingest import read_coded

    if data in dataset_names():
        if naming:
            raise InputError(f"{', '.join(naming)}: this is of a file, and {data} is a shipped data set")
        return load_dataset(data), data
    return read_coded(data, **naming), Path(os.path.relpath(data, folder)).as_posix()


def starter(name: str, table: CodedTable, source: str, target: Path, lang: str, naming: Mapping[str, Any]) -> str:
    """Return the text of a first declaration for a table."""
    from alliance_meta.effects.sizes import escalc

    effects = escalc(table, **{key: value for key, value in naming.items() if key == "measure"})
    counts = {"effects": effects.k, "studies": effects.n_studies}
    model = DEPENDENT.format(**counts) if effects.k > effects.n_studies else INDEPENDENT
    found = _moderators(table, list(effects.study_id))
    fit = [column for column, alone in found.items() if not alone]
    columns = fit[:MODERATORS]
    named = {
        "data": _comment(source),
        "path": _comment(target.as_posix()),
        "title": _quoted(name),
        "source": _quoted(source),
        "naming": "".join(f"{key} = {_quoted(value)}\n" for key, value in naming.items()),
        "lang": _quoted(lang),
        "languages": ", ".join(map(_quoted, languages())),
        "point": "r" if effects.measure in get_args(Measure) else "estimate",
    }
    by = BY.format(columns=json.dumps(columns, ensure_ascii=False)) if columns else ""
    by += "".join(_left_out(found, fit[MODERATORS:]))
    text = HEAD.format(**named, model=model) + by + (REST if effects.n_studies >= ENOUGH else "")
    with speaking(lang):
        return PROSE.sub(lambda line: f"{line[1]} = {_quoted(tr(line[2]))}", text)


def _left_out(found: Mapping[str, list[str]], more: Sequence[str]) -> Iterator[str]:
    """Yield comments on columns that may be moderators and are not named, and why."""
    lines = [f"{name}: one study alone has {', '.join(levels)}" for name, levels in found.items() if levels]
    lines += [f"{name}: beyond the first {MODERATORS}" for name in more]
    if lines:
        yield "\n# Not named as moderators, though they could be (merge levels, or add them to the columns above):\n"
        yield from (f"#   {_comment(line)}\n" for line in lines)


def _moderators(table: CodedTable, studies: list[object]) -> dict[str, list[str]]:
    """Return columns with few values, and the values that one study alone has.

    Those of the contract with a list of words come first.
    """
    from alliance_meta.effects.contract.schema import CONTRACT

    listed = [column.name for column in CONTRACT.columns if column.vocabulary is not None]
    frame = table.frame
    found: dict[str, list[str]] = {}
    if len(frame) != len(studies):
        return found
    for name in sorted(map(str, frame.columns), key=lambda name: (name not in listed, list(frame.columns).index(name))):
        of_level: dict[str, set[object]] = {}
        for value, study in zip(frame[name].tolist(), studies, strict=True):
            if isinstance(value, str):
                of_level.setdefault(value, set()).add(study)
        short = all(len(level) <= LONGEST_WORD for level in of_level)
        alone = [level for level, own in of_level.items() if len(own) < STUDIES]
        if 1 < len(of_level) <= LEVELS and short and len(alone) < len(of_level):
            found[name] = alone
    return found


def _quoted(text: str | Sequence[str]) -> str:
    """Return a text, or a list of them, as TOML writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return _quoted(text)[1:-1]
