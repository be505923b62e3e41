"""Every public name has a docstring with the sections numpydoc asks for, and documents every parameter."""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from types import ModuleType
from typing import Any

import alliance_meta as am
from alliance_meta import reporting

PUBLIC: dict[str, Any] = {f"alliance_meta.{name}": getattr(am, name) for name in am.__all__ if name != "__version__"}
for module in [value for value in PUBLIC.values() if isinstance(value, ModuleType)] + [reporting]:
    PUBLIC |= {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}

FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
STATE = {name: value for name, value in CLASSES.items() if not issubclass(value, Exception | float)}
METHODS = {
    f"{owner}.{name}": member
    for owner, kind in CLASSES.items()
    for name, member in vars(kind).items()
    if not name.startswith("_")
    and (inspect.isfunction(member) or isinstance(member, classmethod | property | cached_property))
}
NOTHING = (None, "None", inspect.Signature.empty)


def sections(value: Any) -> dict[str, str]:
    """Return {heading: text} of a docstring; what stands before the first heading is "Summary"."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(value) or "", flags=re.M)
    return {"Summary": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2], strict=True))}


def parameters(value: Any) -> set[str]:
    given = inspect.signature(value).parameters.values()
    return {
        ("**" if one.kind is one.VAR_KEYWORD else "") + one.name for one in given if one.name not in ("self", "cls")
    }


def described(text: str) -> set[str]:
    """Names on the unindented lines of a Parameters section: ``ri, ni : str``."""
    heads = [line.split(" : ")[0] for line in text.splitlines() if line[:1].strip()]
    return {name.strip() for head in heads for name in head.split(",")}


def test_the_first_line_is_a_sentence() -> None:
    firsts = {name: sections(value)["Summary"].split("\n\n")[0] for name, value in (METHODS | PUBLIC).items()}
    wrong = {
        name: first
        for name, first in firsts.items()
        if not (re.match(r"[A-Z`]", first) and first.endswith((".", ";", "``", ")")) and len(first.splitlines()) <= 2)
    }
    assert wrong == {}


def test_a_function_documents_its_parameters_and_result_and_shows_an_example() -> None:
    wrong = []
    for name, function in FUNCTIONS.items():
        found = sections(function)
        returns = inspect.signature(function).return_annotation not in NOTHING
        if described(found.get("Parameters", "")) != parameters(function):
            wrong.append((name, "parameters", described(found.get("Parameters", "")) ^ parameters(function)))
        if returns and "Returns" not in found:
            wrong.append((name, "result", set()))
        if ">>> " not in found.get("Examples", ""):
            wrong.append((name, "example", set()))
    assert wrong == []


def test_a_class_documents_its_parameters_or_attributes() -> None:
    wrong = {}
    for name, kind in STATE.items():
        found = sections(kind)
        listed = described(found.get("Parameters", "") + found.get("Attributes", ""))
        if not listed or not listed <= parameters(kind) | set(dir(kind)):
            wrong[name] = listed
    assert wrong == {}


def test_nothing_escapes() -> None:
    assert {"alliance_meta.escalc", "alliance_meta.plots.forest", "alliance_meta.reporting.build_report"} <= set(
        FUNCTIONS
    )
    assert {"alliance_meta.RandomEffectsModel", "alliance_meta.EffectSizes"} <= set(STATE)
    assert "alliance_meta.models.RandomEffectsResults.predict" in METHODS
