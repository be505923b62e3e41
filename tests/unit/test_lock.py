"""The lock names packages and hashes, and nothing of the machine it was made on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
BLOCKS = re.findall(r"^(?:\S.*\n)(?: .*\n)*", LOCK, flags=re.MULTILINE)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_names() -> set[str]:
    return {normalised(block.split("==")[0].split("[")[0]) for block in BLOCKS}


def declared_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]


def test_every_line_is_a_pin_or_its_hash() -> None:
    pin = r"[a-z0-9._-]+==[^\s;]+( ; [^\\]+)? \\\n"
    hashes = r"(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+"
    assert "".join(BLOCKS) == LOCK
    assert [block for block in BLOCKS if not re.fullmatch(pin + hashes, block)] == []


@pytest.mark.parametrize("requirement", declared_requirements())
def test_every_declared_requirement_is_locked(requirement: str) -> None:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    assert normalised(name.group()) in locked_names()


def test_python_before_and_from_3_12_have_their_own_pymc() -> None:
    pins = re.findall(r"^(pymc|arviz)==(\d+)\S* ; (.*?) \\$", LOCK, flags=re.MULTILINE)
    assert sorted(pins) == [
        ("arviz", "0", "python_full_version < '3.12'"),
        ("arviz", "1", "python_full_version >= '3.12'"),
        ("pymc", "5", "python_full_version < '3.12'"),
        ("pymc", "6", "python_full_version >= '3.12'"),
    ]
