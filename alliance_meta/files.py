"""Writing files and folders: whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.tables.format import thousands

LARGEST_INPUT = 300_000_000


def read_regular(path: str | Path, *, most: int = LARGEST_INPUT) -> bytes:
    """Return what a regular file holds; devices, pipes and files too large for any sheet are answered at once.

    Raises `CannotRunError`: if it is no regular file, or larger than `most` bytes; `OSError`: if it is not there or
    cannot be opened.
    """
    about = os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        raise CannotRunError(f"{path} is a folder; name a file")
    if not stat.S_ISREG(about.st_mode):
        raise CannotRunError(f"{path} is a device or a pipe, not a file; save what it gives to a file first")
    if about.st_size > most:
        raise CannotRunError(
            f"{path} has {thousands(about.st_size / 1e6)} MB, more than the {thousands(most / 1e6)} MB read here"
        )
    return Path(path).read_bytes()


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path` in one step, so that no reader ever sees half a file.

    Raises `CannotRunError`: if the folder cannot be written to.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # mkstemp makes files private; an output gets the mode any new file would.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise CannotRunError(f"cannot write {target}: {error.strerror}") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8 with Unix line ends, in one step."""
    return write_bytes(path, text.encode("utf-8"))


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


NEW, OLD, KEPT = ".new", ".old", ".kept"


def write_folder(target: Path, files: Mapping[str, bytes], *, ours: Collection[str] = ()) -> dict[str, str]:
    """Make `target` hold `files` in one step, whatever happens on the way.

    The files are written into a folder beside `target`, and the two change places. Killed at any moment, it leaves the
    old set or the new one; what a killed run left beside them is removed by the next.

    `target`: the folder; a link to one is followed.
    `files`: content by name, with ``/`` between folder and file.
    `ours`: files of an earlier set; those that are not in `files` go. Everything else in `target` stays.
    Returns the files of somebody else whose name was needed, and what they are called now.
    Raises `InputError`: a name that leads out of the folder; `CannotRunError`: the folder cannot be written, or is the
      one that the program runs in; nothing has changed then.
    """
    for name in files:
        _check_inside(name)
    goal = target.resolve()
    if Path.cwd().is_relative_to(goal):
        raise CannotRunError(
            f"cannot write {target}: you are in this folder, which is replaced as a whole; name another"
        )
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        _sweep(goal)
        fresh = Path(tempfile.mkdtemp(dir=goal.parent, prefix=f".{goal.name}.", suffix=NEW))
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        with _locked(fresh):
            _fill(fresh, files)
            renamed: dict[str, str] = {}
            if goal.exists():
                _carry(goal, fresh, set(ours), renamed)
                shutil.copymode(goal, fresh)
            _swap(fresh, goal)
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return renamed


def _check_inside(name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or re.search(r"[\\:\0]|^/", name):
        raise InputError(f"{name!r} is no name of a file in the folder")


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    # mkdtemp makes folders private; an output gets the mode any new one would.
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _carry(old: Path, new: Path, ours: Collection[str], renamed: dict[str, str], at: str = "") -> None:
    """Link what is in `old` and not ours into `new`; where its name is taken it gets another."""
    for entry in sorted(os.scandir(old), key=lambda one: one.name):
        name = f"{at}{entry.name}"
        path = new / entry.name
        if entry.is_dir(follow_symlinks=False):
            if not path.is_dir():
                path = _free(path)
                path.mkdir()
            _carry(Path(entry.path), path, ours, renamed, f"{name}/")
            if any(one.startswith(f"{name}/") for one in ours) and not any(path.iterdir()):
                path.rmdir()
        elif name not in ours:
            path = _free(path)
            _link(entry.path, path)
        if path.name != entry.name:
            renamed[name] = f"{at}{path.name}"


def _free(path: Path) -> Path:
    number, candidate = 1, path
    while os.path.lexists(candidate):
        candidate = path.with_name(f"{path.name}{KEPT}{number if number > 1 else ''}")
        number += 1
    return candidate


def _link(source: str, path: Path) -> None:
    try:
        os.link(source, path, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, path, follow_symlinks=False)


def _swap(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`; the old one, if any, is then at `new`."""
    if not target.exists():
        os.rename(new, target)
        return
    if _exchange(new, target):
        return
    # Two steps where the system has no single one; `_sweep` puts the old set back if nothing came between them.
    aside = new.with_suffix(OLD)
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(aside, target)
        raise
    os.rename(aside, new)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, and return whether the system could."""
    import ctypes

    paths = [os.fsencode(path) for path in (one, other)]
    here, swap = -100, 2
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*paths, swap) == 0)
        return bool(library.renameat2(here, paths[0], here, paths[1], swap) == 0)
    except (AttributeError, OSError, TypeError):
        return False


def _sweep(target: Path) -> None:
    """Remove what killed runs left beside `target`; an old set is put back where there is no other."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}(?:{re.escape(NEW)}|{re.escape(OLD)})")
    for entry in sorted(os.scandir(target.parent), key=lambda one: one.name):
        if not pattern.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name.endswith(OLD) and not target.exists():
            os.rename(entry.path, target)
            continue
        with contextlib.suppress(BlockingIOError), _locked(Path(entry.path)):
            shutil.rmtree(entry.path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder as long as this process lives, so that no other sweeps it.

    Raises `BlockingIOError`: if another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
