"""Figures of single questions: each kind is made, or says why not, and takes a seed where it draws at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from alliance_meta import InputError
from alliance_meta.plots import frame_from_dict
from alliance_meta.reporting.declaration import read_declaration
from alliance_meta.reporting.document import make_document
from alliance_meta.reporting.items.figures import BAYESIAN, FIGURES, SEEDED
from alliance_meta.reporting.spec import FigureKind
from alliance_meta.reporting.words import speaking
from tests.reports.cases import small_sheet

# Fitting every combination of choices takes seconds, and is tested on its own.
SLOW = ("specification_curve",)


def document(folder: Path, *items: str, kind: str = "random", head: str = "") -> dict[str, Any]:
    sections = "".join(f'\n[[section.item]]\nof = "a"\n{item}\n' for item in items)
    analysis = f'[[analysis]]\nid = "a"\nlabel = "Own"\ndata = "own.csv"\nkind = "{kind}"\n'
    path = small_sheet(folder) / "one.toml"
    path.write_text(f'title = "Own"\n{head}\n{analysis}\n[[section]]\nheading = "Figures"\n{sections}', "utf-8")
    return make_document(read_declaration(path))


@pytest.mark.parametrize("kind", ["random", "bayes"])
def test_every_kind_is_made_or_says_why_not(kind: str, tmp_path: Path) -> None:
    asked = [name for name in FIGURES if name not in SLOW and (kind == "bayes" or name not in BAYESIAN)]
    made = document(tmp_path, *(f'figure = "{name}"' for name in asked), kind=kind)
    drawn = {figure["kind"]: frame_from_dict(figure["frame"]) for figure in made["figures"].values()}
    assert set(FIGURES) <= set(get_args(FigureKind))
    assert len(drawn) + len(made["failed"]) == len(asked)
    # What is refitted stands in a forest, and a profile of one variance is a plot of its own.
    own = {"leave_one_out": "forest", "cumulative": "forest", "profiles": "profile"}
    assert {name: frame.attrs["plot"] for name, frame in drawn.items()} == {name: own.get(name, name) for name in drawn}
    assert len(made["failed"]) == {"random": 0, "bayes": 6}[kind], made["failed"]


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_is_taken_where_something_is_drawn_at_random(name: str, tmp_path: Path) -> None:
    kind = "bayes" if name in BAYESIAN else "random"
    item = f'figure = "{name}"'
    one, other, again = (
        document(tmp_path, f"{item}\nseed = {seed}", kind=kind)["figures"] for seed in (1, 2, 1)
    )  # fmt: skip
    assert one == again == document(tmp_path, item, kind=kind)["figures"]
    # All subsets of five studies are few enough to take each.
    assert (one == other) == (name == "gosh")


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ('figure = "orchard"\nseed = 1', "figure='orchard' draws nothing at random: leave seed away"),
        ('figure = "sequential"', "figure='sequential' shows an analysis of kind = 'bayes'; a is none"),
    ],
)
def test_what_cannot_be_shown_is_said_before_anything_runs(item: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        document(tmp_path, item)


def test_captions_are_german_in_a_german_report(tmp_path: Path) -> None:
    made = document(tmp_path, 'figure = "radial"', head='lang = "de"')
    with speaking("de"):
        assert made["figures"]["radial_a"]["caption"] == "Own: Effekte in Standardabweichungen gegen ihre Präzision."


def test_a_specification_curve_is_that_of_the_effects(tmp_path: Path) -> None:
    made = document(tmp_path, 'figure = "specification_curve"')
    frame = frame_from_dict(made["figures"]["specification_curve_a"]["frame"])
    assert not made["failed"]
    assert len(frame) > 10
