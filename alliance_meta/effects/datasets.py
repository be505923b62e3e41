"""The data sets that come with the package, each with its data card."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.card import DataCard, FieldCard
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.errors import CannotRunError, InputError, Problem
from alliance_meta.files import sha256, write_bytes
from alliance_meta.notes import did_you_mean

KIND_ORDER = ("relationship", "alliance", "dependent", "not-poolable", "validation", "synthetic", "published", "claims")
# Under the GPL: part of the repository, not of the installed package, which can so be passed on under BSD and CC0.
NOT_INSTALLED = (
    "cohen1981",
    "craft2003",
    "crede2010",
    "lui2015",
    "mcdaniel1994",
    "molloy2014",
    "oswald2013_ex1",
    "tannersmith2016",
)
BLOCK_KEYS = (
    "kind",
    "synthetic",
    "k",
    "poolable",
    "subset",
    "citation",
    "direction",
    "cautions",
    "columns",
    "published",
)
PACKAGE_KEYS = ("name", "title", "description", "version", "licenses", "sources", "resources", "alliance_meta")


def list_datasets() -> pd.DataFrame:
    """List the data sets that come with the package.

    Real study-level tables of the therapy relationship, correlations read in abstracts, published pooled
    results, validation sets of other fields, and one made-up sheet for teaching, called synthetic. No
    study-level table of an alliance-outcome meta-analysis is openly available, and none is here.

    Returns
    -------
    DataFrame
        One row per data set: ``name`` (for `load_dataset`), ``title``, ``k`` (rows), ``kind``, ``licence`` and
        ``caution`` (the first; the data card has them all).

    Raises
    ------
    CannotRunError
        If the package was installed without its data.

    Examples
    --------
    >>> from alliance_meta import list_datasets
    >>> list_datasets().set_index("name").loc["molloy2014", "k"]
    np.int64(16)
    """
    cards = [DataCard.from_package(_package(folder)) for folder in _folders()]
    cards.sort(key=lambda card: (_kind_rank(card.kind), card.name))
    rows = [(card.name, card.title, card.k, card.kind, card.licence, card.cautions[0]) for card in cards]
    return pd.DataFrame(rows, columns=["name", "title", "k", "kind", "licence", "caution"])


def dataset_names() -> list[str]:
    """Return the names alone, for which no card is read."""
    return [folder.name for folder in _folders()]


# What the provenance takes of the card.
FROM_CARD = ("sha256", "title", "citation", "licence", "cautions", "synthetic")


def load_dataset(name: str) -> CodedTable:
    """Load one of the data sets that come with the package.

    Parameters
    ----------
    name : str
        Name as in `list_datasets`, or a beginning that only one name has (``"kolden2011"``).

    Returns
    -------
    CodedTable
        ``.frame`` has typed columns (missing values are NaN), ``.card`` says what the data are and what they
        may be called, and the provenance hands the cautions to every result made from them.

    Raises
    ------
    InputError
        If no data set has this name, several begin with it, or the file differs from the one its card
        describes.
    CannotRunError
        If the package was installed without its data, or the set is under the GPL and therefore only in the
        project's repository (the message says where).

    Examples
    --------
    >>> from alliance_meta import load_dataset
    >>> table = load_dataset("molloy2014")
    >>> table.k, table.card.licence
    (16, 'GPL-2.0-or-later')
    >>> table.frame[["study", "year", "n", "r"]].head(1).values.tolist()
    [['Axelsson et al.', 2009, 109, 0.187]]
    """
    folders = {folder.name: folder for folder in _folders()}
    folder = folders[_resolve(name, list(folders))]
    package = _package(folder)
    card = DataCard.from_package(package)
    return CodedTable(
        read_resource(folder, 0),
        provenance=Provenance(
            source=package["resources"][0]["path"],
            dataset=card.name,
            **{name: getattr(card, name) for name in FROM_CARD},
        ),
        card=card,
        defaults=card.columns,
    )


def data_root() -> Path:
    """Return the folder of the shipped data: inside the package if installed, else the checkout's ``data/``.

    Raises `CannotRunError`: if there is neither.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_data", package.parent / "data"):
        if (candidate / "published" / "datapackage.json").is_file():
            return candidate
    raise CannotRunError("the data sets are not installed; install the package again, or run from a full checkout")


def read_resource(folder: Path, which: int | str) -> pd.DataFrame:
    """Return one table of the datapackage in `folder`, typed by its schema, after checking its hash.

    Raises `InputError`: if the file is missing or is not the one that the datapackage describes.
    """
    return _typed(folder, which, *_state(folder, which)).copy()


def published_reliabilities() -> pd.DataFrame:
    """Return what is printed of the reliability of alliance measures, one row per coefficient."""
    return read_resource(data_root() / "published", "reliability")


def read_resource_text(folder: Path, which: int | str) -> pd.DataFrame:
    """Return the same table as text, exactly as it stands in the file (empty where nothing stands)."""
    return _read(folder, which)[0]


def check_datasets() -> list[Problem]:
    """Check every shipped data set against its data card.

    Hash and size of each file, its header, the type of every value, and the constraints of every column;
    a caution, a licence and a source in every card; and no file that no card describes.

    Returns no problem if all is well. Each message begins with the file's name; rows are lines of the file.
    """
    problems: list[Problem] = []
    described: set[Path] = set()
    for folder in _folders():
        try:
            package = _package(folder)
        except InputError as error:
            problems.append(Problem(None, None, None, str(error)))
            continue
        if package["name"] != folder.name:
            problems.append(_problem(folder, f"holds data called {package['name']!r}; folder and data share a name"))
        problems += check_package(folder, package)
        described |= {folder / resource["path"] for resource in package.get("resources", ())}
    strays = sorted(set(data_root().rglob("*.csv")) - described)
    problems += [_problem(path, "no datapackage.json describes this file") for path in strays]
    return problems


def check_package(folder: Path, package: Mapping[str, Any], *, bytes_too: bool = True) -> list[Problem]:
    """Check one data set against its description, `bytes_too`: hash and size as well."""
    problems = list(_check_package(folder, package))
    for resource in package.get("resources", ()):
        problems += _check_resource(folder / resource["path"], resource, bytes_too=bytes_too)
    return problems


def _folders() -> list[Path]:
    return sorted(path.parent for path in data_root().rglob("datapackage.json"))


def _package(folder: Path) -> dict[str, Any]:
    path = folder / "datapackage.json"
    try:
        package = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{_shown(path)}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{_shown(path)}: is not valid JSON ({error})") from error
    missing = [key for key in PACKAGE_KEYS if key not in package]
    missing += [f"alliance_meta.{key}" for key in BLOCK_KEYS if key not in package.get("alliance_meta", {})]
    if missing:
        raise InputError(f"{_shown(path)}: lacks {', '.join(missing)}")
    return dict(package)


def _resource(package: Mapping[str, Any], which: int | str) -> Mapping[str, Any]:
    if isinstance(which, int):
        return dict(package["resources"][which])
    return next(dict(resource) for resource in package["resources"] if resource["name"] == which)


def _resolve(name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    begins = [candidate for candidate in known if name and candidate.startswith(name)]
    if len(begins) == 1:
        return begins[0]
    elsewhere = [candidate for candidate in NOT_INSTALLED if name and candidate.startswith(name)]
    if len(elsewhere) == 1 and not begins:
        raise CannotRunError(
            f"{elsewhere[0]} is under the GNU General Public License and is therefore not in the installed package; it "
            f"is in the project's repository, in data/validation/{elsewhere[0]}: work in a checkout, or read the "
            "file from there with read_coded"
        )
    if begins:
        raise InputError(f"several data sets begin with {name!r}: {', '.join(begins)}")
    raise InputError(f"no data set is called {name!r}{did_you_mean(name, list(known))}; there are {', '.join(known)}")


def _kind_rank(kind: str) -> int:
    return KIND_ORDER.index(kind) if kind in KIND_ORDER else len(KIND_ORDER)


def _shown(path: Path) -> str:
    """Path from the data folder on, never of the machine."""
    return "data/" + path.relative_to(data_root()).as_posix()


def _problem(
    path: Path, message: str, *, row: int | None = None, column: str | None = None, value: str | None = None
) -> Problem:
    return Problem(row, column, value, f"{_shown(path)}: {message}")


def _state(folder: Path, which: int | str) -> tuple[int, ...]:
    """Return what changes when the file or its description does, so that either is read anew."""
    path = folder / _resource(_package(folder), which)["path"]
    found = [one.stat() for one in (folder / PACKAGE, path) if one.is_file()]
    return tuple(number for one in found for number in (one.st_mtime_ns, one.st_size))


@lru_cache(maxsize=32)
def _typed(folder: Path, which: int | str, *_: int) -> pd.DataFrame:
    text, resource = _read(folder, which)
    schema = resource["schema"]
    return pd.DataFrame({field["name"]: _column(text[field["name"]], field, schema) for field in schema["fields"]})


def _read(folder: Path, which: int | str) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    resource = _resource(_package(folder), which)
    path = folder / resource["path"]
    problems = list(_check_bytes(path, resource))
    if problems:
        raise InputError(problems[0].message)
    text = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str, keep_default_na=False, encoding="utf-8")
    return text, resource


def _column(values: pd.Series[Any], field: Mapping[str, Any], schema: Mapping[str, Any]) -> pd.Series[Any]:
    present = ~values.isin(schema.get("missingValues", [""]))
    kind = field["type"]
    if not present.all():
        values = values.where(present, np.nan)
    if kind == "string":
        return values
    if kind == "boolean":
        return values.isin(field["trueValues"])
    numbers = pd.to_numeric(values).astype(float)
    return numbers.astype("int64") if kind == "integer" and present.all() else numbers


def _check_package(folder: Path, package: Mapping[str, Any]) -> Iterator[Problem]:
    path = folder / "datapackage.json"
    own = package["alliance_meta"]
    for what, value in (
        ("caution", own["cautions"]),
        ("licence", package["licenses"]),
        ("source", package["sources"]),
        ("citation", own["citation"]),
        ("direction", own["direction"]),
    ):
        if not value:
            yield _problem(path, f"the card states no {what}")
    names = {field["name"] for field in package["resources"][0]["schema"]["fields"]}
    for role, column in own["columns"].items():
        for name in [column] if isinstance(column, str) else column:
            if name not in names:
                yield _problem(path, f"alliance_meta.columns names {name!r} as {role}, which is no column of the file")


def _check_bytes(path: Path, resource: Mapping[str, Any]) -> Iterator[Problem]:
    if not path.is_file():
        yield _problem(path, "is missing; restore it from the repository")
    elif f"sha256:{sha256(path.read_bytes())}" != resource["hash"]:
        yield _problem(path, "differs from the file its datapackage.json describes; restore it from the repository")


def _check_resource(path: Path, resource: Mapping[str, Any], *, bytes_too: bool) -> Iterator[Problem]:
    problems = list(_check_bytes(path, resource)) if bytes_too or not path.is_file() else []
    yield from problems
    if not path.is_file():
        return
    data = path.read_bytes()
    if bytes_too and len(data) != resource["bytes"] and not problems:
        yield _problem(path, f"has {len(data)} bytes, its datapackage.json says {resource['bytes']}")
    header, *lines = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
    fields = [FieldCard.from_dict(field) for field in resource["schema"]["fields"]]
    if header != [field.name for field in fields]:
        yield _problem(path, "its columns differ from those its datapackage.json describes")
        return
    ragged = [(row, len(line)) for row, line in enumerate(lines, start=2) if len(line) != len(fields)]
    if ragged:
        row, cells = ragged[0]
        yield _problem(path, f"has {cells} cells where the header has {len(fields)}: a comma needs quotes", row=row)
        return
    missing = resource["schema"].get("missingValues", [""])
    for position, field in enumerate(fields):
        texts = [(row, line[position]) for row, line in enumerate(lines, start=2)]
        yield from _check_column(path, field, [(r, None if text in missing else text) for r, text in texts])


def _check_column(path: Path, field: FieldCard, cells: Sequence[tuple[int, str | None]]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for row, text in cells:
        complaint = None
        if text is None:
            complaint = "must not be empty" if field.required else None
        elif not _has_type(text, field.type):
            complaint = f"{text!r} is not of type {field.type}"
        elif field.categories and text not in field.categories:
            complaint = f"{text!r} is not one of {', '.join(map(repr, field.categories))}"
        elif field.minimum is not None and float(text) < field.minimum:
            complaint = f"{text} is below {field.minimum:g}"
        elif field.maximum is not None and float(text) > field.maximum:
            complaint = f"{text} is above {field.maximum:g}"
        elif field.unique and text in seen:
            complaint = f"{text!r} stands in line {seen[text]} too"
        if text is not None:
            seen.setdefault(text, row)
        if complaint:
            yield _problem(path, complaint, row=row, column=field.name, value=text)


def _has_type(text: str, kind: str) -> bool:
    if kind == "string":
        return True
    if kind == "boolean":
        return text in ("True", "False")
    try:
        int(text) if kind == "integer" else float(text)
    except ValueError:
        return False
    return True


PACKAGE = "datapackage.json"
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def seal_dataset(folder: Path, *, version: str | None = None) -> tuple[list[Problem], str]:
    """Make a changed file the one that its datapackage describes, if nothing else is wrong with it.

    `folder`: folder with the ``datapackage.json``.
    `version`: new version of the data set; by default the second number is raised if a file changed.
    Returns problems, version: what is wrong; with any problem nothing is written.
    Raises `InputError`: a version that is no ``1.2.3``.
    """
    if version is not None and not VERSION.fullmatch(version):
        raise InputError(f"version {version!r} is not of the form 1.2.3")
    path = folder / PACKAGE
    package = json.loads(path.read_text(encoding="utf-8"))
    problems = check_package(folder, package, bytes_too=False)
    if problems:
        return problems, str(package["version"])
    changed = False
    for place, resource in enumerate(package["resources"]):
        data = (folder / resource["path"]).read_bytes()
        new = {"bytes": len(data), "hash": f"sha256:{sha256(data)}"}
        changed |= any(resource[name] != value for name, value in new.items())
        resource.update(new)
        if place == 0:
            package["alliance_meta"]["k"] = _rows(data)
    if version is not None or changed:
        package["version"] = version or _raised(package["version"])
    _write(path, package)
    return [], str(package["version"])


def folder_of(name: str) -> Path:
    """Return the folder of a shipped data set.

    Raises `InputError`: if there is none of this name; `CannotRunError`: data that came with an installed package: they
    are changed in a checkout.
    """
    if data_root().name != "data":
        raise CannotRunError("the data of an installed package stay as they are; change them in a checkout")
    for folder in _folders():
        if folder.name == name:
            return folder
    raise InputError(f"no data set is called {name!r}; `alliance-meta data list` names them")


def _rows(data: bytes) -> int:
    return max(sum(1 for _ in csv.reader(io.StringIO(data.decode("utf-8"), newline=""))) - 1, 0)


def _raised(version: str) -> str:
    found = VERSION.fullmatch(version)
    return f"{found[1]}.{int(found[2]) + 1}.0" if found else version


def _write(path: Path, package: dict[str, Any]) -> None:
    text = json.dumps(package, indent=2, ensure_ascii=False) + "\n"
    if text.encode() != path.read_bytes():
        write_bytes(path, text.encode())
