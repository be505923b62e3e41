"""docs/api.md names everything that is public, and nothing that is not."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import alliance_meta as am

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
SECTIONS = {title.strip(" `"): body for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)}
SUBPACKAGES = [name for name in am.__all__ if isinstance(getattr(am, name), ModuleType)]


def documented(section: str) -> set[str]:
    """Names in the first column of a section's table, without prefix and arguments."""
    rows = re.findall(r"^\| (`.+?) \|", SECTIONS[section], re.M)
    return {code.split("(")[0].split(".")[-1] for row in rows for code in re.findall(r"`([^`]+)`", row)}


def public_names(kind: Any) -> set[str]:
    inner = {field.name for field in fields(kind)}
    return {name for name in {*dir(kind), *inner} if not name.startswith("_")}


def test_every_public_name_is_on_the_page_and_no_other() -> None:
    assert documented("Functions") | documented("Types") == set(am.__all__) - set(SUBPACKAGES)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_every_name_of_a_subpackage_is_on_the_page(name: str) -> None:
    assert documented(name) == set(getattr(am, name).__all__)


@pytest.mark.parametrize("name", ["EffectSizes", "RandomEffectsResults", "SamplingCovariance"])
def test_every_attribute_is_on_the_page(name: str) -> None:
    kinds = {
        one.__name__: one for one in (am.EffectSizes, am.models.RandomEffectsResults, am.effects.SamplingCovariance)
    }
    assert documented(name) == public_names(kinds[name])


def test_the_call_on_the_page_has_the_defaults_of_the_model() -> None:
    call = re.search(r"`RandomEffectsModel\(effects, (.+?)\)", SECTIONS["RandomEffectsModel"])
    assert call is not None
    shown = dict(re.findall(r"(\w+)=([^,]+)", call[1]))
    defaults = {name: one.default for name, one in inspect.signature(am.RandomEffectsModel).parameters.items()}
    assert shown == {name: repr(defaults[name]).replace("'", '"') for name in shown}
    assert {"mods", "method", "test", "level"} == set(shown)


@pytest.mark.parametrize("name", ["CodedTable", "Note", "Problem"])
def test_what_is_said_of_small_types_is_true(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| (.+) \|$", SECTIONS["Types"], re.M)
    assert row is not None
    named = {code.split("(")[0] for code in re.findall(r"`([^`]+)`", row[1])}
    assert named
    assert named <= public_names(getattr(am, name))
