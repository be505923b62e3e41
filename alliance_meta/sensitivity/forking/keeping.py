"""Work that can be stopped at any moment: finished parts are kept as lines of JSON, and never anything that runs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import read_regular, write_bytes
from alliance_meta.tables.format import thousands

NAME = "multiverse.jsonl"
BAR = 30
# What a line may hold, besides what says which one it is.
PLAIN = {int, float, str, list, type(None)}
Record = dict[str, Any]
Unit = TypeVar("Unit")


def line_of(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of JSON; a number that does not exist is null, every other keeps its last digit."""
    values = {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in record.items()}
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"


@dataclass(frozen=True)
class Kept:
    """The file in which finished records are kept, or none."""

    path: Path | None
    header: Mapping[str, Any]  # what makes another analysis another file

    def finished(self, expected: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Record]]:
        """Return the records of the units that an earlier run finished, and cut the file after the last of them.

        `expected` holds for each unit the beginning of each of its records: what says which it is.

        Raises `InputError`: a file of other data or other choices, or of something else altogether; `CannotRunError`: a
        file that cannot be read or written.
        """
        if self.path is None:
            return []
        first = line_of(self.header)
        data = self._read()
        if not data.startswith(first):
            if data and not first.startswith(data):
                raise InputError(
                    f"{self.path} holds something else, or a multiverse of other data, choices or another version; "
                    "name another file, or delete it"
                )
            write_bytes(self.path, first)
            return []
        lines = iter(data[len(first) :].split(b"\n")[:-1])
        done: list[list[Record]] = []
        size = len(first)
        for unit in expected:
            records = [_record(line, start) for start, line in zip(unit, lines, strict=False)]
            found = [one for one in records if one is not None]
            if len(found) < len(unit):
                break
            done.append([record for record, _ in found])
            size += sum(length for _, length in found)
        write_bytes(self.path, data[:size])
        return done

    def _read(self) -> bytes:
        assert self.path is not None
        try:
            return read_regular(self.path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise CannotRunError(f"cannot read {self.path}: {error.strerror}") from error

    def add(self, records: Sequence[Record]) -> None:
        """Write the records of a finished unit."""
        if self.path is None:
            return
        try:
            with open(self.path, "ab") as stream:
                stream.write(b"".join(map(line_of, records)))
        except OSError as error:
            raise CannotRunError(f"cannot write {self.path}: {error.strerror}") from error


def _record(line: bytes, start: Mapping[str, Any]) -> tuple[Record, int] | None:
    """Return the record of a line and its length, or None where the line was not finished or is no such record."""
    try:
        found = json.loads(line)
        known = isinstance(found, dict) and all(found.get(name) == value for name, value in start.items())
        if not known or line_of(found) != line + b"\n" or not set(map(type, found.values())) <= PLAIN:
            return None
    except (ValueError, TypeError, RecursionError):
        return None
    return {name: math.nan if one is None else one for name, one in found.items()}, len(line) + 1


def kept_in(place: str | Path | None, header: Mapping[str, Any]) -> Kept:
    """Return where finished work is kept: a file, or `NAME` in a folder that is there."""
    if place is None:
        return Kept(None, header)
    if not isinstance(place, str | Path):
        raise InputError(f"keep={place!r} must be the name of a file or folder")
    path = Path(place)
    return Kept(path / NAME if path.is_dir() else path, header)


def in_order(work: Callable[[Unit], list[Record]], units: Sequence[Unit], cores: int | None) -> Iterator[list[Record]]:
    """Yield what is made of each unit in their order, whoever makes it.

    `cores` None leaves the number of workers to the backend of joblib in whose context this is called.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    workers = effective_n_jobs(cores)
    if workers == 1:
        yield from map(work, units)
        return
    with Parallel(n_jobs=cores) as pool:
        for start in range(0, len(units), 2 * workers):
            yield from pool(delayed(work)(unit) for unit in units[start : start + 2 * workers])


def shows_progress(asked: bool | None) -> bool:
    """Tell whether a bar is drawn: if asked for, or in a terminal."""
    return sys.stderr.isatty() if asked is None else asked


def draw_bar(done: int, total: int, what: str) -> None:
    """Draw how much is done over the last such line of standard error; the last ends it."""
    full = BAR * done // max(total, 1)
    end = "\n" if done >= total else ""
    sys.stderr.write(f"\r[{'#' * full}{'.' * (BAR - full)}] {thousands(done)} of {thousands(total)} {what}{end}")
    sys.stderr.flush()
