"""`seal_dataset`: write hash, size and number of rows of a shipped data set into its description, once it is sound."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from alliance_meta.effects.datasets import check_package, data_root
from alliance_meta.errors import CannotRunError, InputError, Problem
from alliance_meta.files import sha256, write_bytes

PACKAGE = "datapackage.json"
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def seal_dataset(folder: Path, *, version: str | None = None) -> tuple[list[Problem], str]:
    """Make a changed file the one that its datapackage describes, if nothing else is wrong with it.

    Parameters
    ----------
    folder : Path
        Folder with the ``datapackage.json``.
    version : str, optional
        New version of the data set; by default the second number is raised if a file changed.

    Returns
    -------
    problems, version
        What is wrong; with any problem nothing is written.

    Raises
    ------
    InputError
        A version that is no ``1.2.3``.
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

    Raises
    ------
    InputError
        If there is none of this name.
    CannotRunError
        Data that came with an installed package: they are changed in a checkout.
    """
    if data_root().name != "data":
        raise CannotRunError("the data of an installed package stay as they are; change them in a checkout")
    for path in sorted(data_root().rglob(PACKAGE)):
        if json.loads(path.read_text(encoding="utf-8")).get("name") == name:
            return path.parent
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
