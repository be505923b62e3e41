"""``alliance-meta claims``: popular claims about the alliance held against the published results."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from alliance_meta.cli.options import JsonOption
from alliance_meta.cli.output import print_json, print_note, print_table

if TYPE_CHECKING:
    from alliance_meta.evidence.claims import ClaimVerdict

WIDTH = 100
ANSWERS = {True: "yes", False: "no", None: "?"}


def claims(
    names: Annotated[list[str] | None, typer.Argument(help="Claims; all by default.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Hold popular claims about the alliance against the published results.

    For every claim: the verdict, why, and the calculation from rows of the registry.
    """
    from alliance_meta.evidence.claims import claims as audit

    found = audit()
    wanted = [found[name] for name in dict.fromkeys(names or [one.claim_id for one in found.verdicts])]
    if json:
        document = found.to_dict()
        print_json({**document, "claims": [one.to_dict() for one in wanted]})
        return
    for one in wanted:
        _print(one)
    if not names:
        print_table([(str(count), verdict) for verdict, count in found.counts().items()], header=("claims", "verdict"))
    for note in found.notes:
        print_note(note.message)


def _print(one: ClaimVerdict) -> None:
    _wrapped(f"{one.claim_id}: {one.verdict.upper()}", "")
    _wrapped(f"claim: {one.claim}", "  ")
    _wrapped(one.reason, "  ")
    for step in one.findings:
        _wrapped(f"[{ANSWERS[step.holds]}] {step.calculation}{'' if step.essential else ' (beside)'}", "    ")
    _wrapped(f"look at: {one.remark}", "  ")
    typer.echo("")


def _wrapped(text: str, indent: str) -> None:
    typer.echo(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  "))
