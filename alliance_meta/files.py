"""Writing files: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from alliance_meta.errors import CannotRunError
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
