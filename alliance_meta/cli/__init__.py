"""The command line, ``alliance-meta``: exit code 0 done, 1 problems in the input, 2 could not run.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from alliance_meta.errors import AllianceMetaWarning, CannotRunError, InputError


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    args : sequence of str, optional
        The words after ``alliance-meta``; those of this process by default.

    Examples
    --------
    >>> from alliance_meta.cli import main
    >>> main(["fit", "--help"])
    Usage: alliance-meta fit ...
    ...
    0
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", AllianceMetaWarning)
        warnings.showwarning = _show_warning(warnings.showwarning)
        try:
            _commands()(args=None if args is None else list(args), prog_name="alliance-meta")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 2
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except CannotRunError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


@cache
def _commands() -> Any:
    """Return all commands; typer by itself would read every signature again at each call."""
    from typer.main import get_command

    from alliance_meta.cli.app import app

    return get_command(app)


def _show_warning(default: Callable[..., None]) -> Callable[..., None]:
    """Print our warnings as notes, each once, and leave those of others as they are."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, AllianceMetaWarning):
            default(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    return show
