"""What each effect of a study is called: by what distinguishes it within the study, in the sheet's own words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.dependent.groups import Clusters
from alliance_meta.effects.studies import listed
from alliance_meta.notes import Note
from alliance_meta.plots.forests.parts import as_text, cell

# Words in the names of columns, in the order in which they tell effects apart.
TELLING = (
    ("rater", "informant", "perspective", "respondent"),
    ("measure", "instrument", "scale", "test"),
    ("time", "wave", "session", "phase", "occasion", "week", "month"),
    ("outcome", "criterion", "predictor"),
    ("subscale", "component", "construct", "domain", "type", "sample", "group", "subgroup"),
)
# Words in the names of columns that say nothing of what an effect is.
SILENT = frozenset({
    *("id", "study", "author", "authors", "label", "slab", "note", "notes", "comment", "commit", "source", "page"),
    *("place", "coder", "quote", "doi", "title", "journal", "citation", "licence", "license", "url", "path", "year"),
    *("bias", "rob", "quality", "evidence", "published", "reported", "statistic", "calc", "direction"),
    *("n", "r", "ri", "ni", "yi", "vi", "sei", "se", "p", "pval", "z", "d"),
})  # fmt: skip
MOST_COLUMNS, MOST_TOGETHER = 8, 3
LONGEST = 60
NOT_CODED = "not coded"
Words = dict[str, list[str]]


def readable(clusters: Clusters, moderators: pd.DataFrame) -> Clusters:
    """Return studies by their names, where ids group them and a column ``study`` has one name for each."""
    if clusters.name != "study_id" or "study" not in moderators:
        return clusters
    names = pd.DataFrame({"code": clusters.codes, "name": moderators["study"].to_numpy()}).dropna().drop_duplicates()
    one_each = len(names) == clusters.n == names["code"].nunique() == names["name"].nunique()
    return replace(clusters, labels=tuple(map(as_text, names.sort_values("code")["name"]))) if one_each else clusters


def effect_names(slab: Sequence[str], moderators: pd.DataFrame, groups: Clusters) -> tuple[list[str], list[Note]]:
    """Return what each effect is called under its study, and a note on those told apart by letters only.

    What a label says beside its study's name comes first, such as "[depression]"; a letter, which was put there to
    make labels unique, is the last resort.
    """
    words = _words(moderators)
    names, lettered = list(slab), []
    members: list[list[int]] = [[] for _ in range(groups.n)]
    for i, code in enumerate(groups.codes.tolist()):
        members[code].append(i)
    for code, rows in enumerate(members):
        study = groups.labels[code]
        found = _rests([slab[i] for i in rows], study) or _told_apart(words, rows)
        tied = {name for name, many in Counter(found).items() if many > 1 or not name}
        if tied and len(rows) > 1:
            lettered.append(study)
        for at, (i, name) in enumerate(zip(rows, found, strict=True)):
            letter = f"effect {_letter(at)}" if name in tied else ""
            names[i] = ", ".join(filter(None, (name, letter)))
    if not lettered:
        return names, []
    message = f"No column of the sheet tells all effects apart of {listed(lettered)}: letters do, in the order given."
    return names, [Note("forest-letters", message)]


def _rests(labels: list[str], study: str) -> list[str]:
    """Return what labels say beside the name of their study; nothing where letters make them unique."""
    shared = study if all(label.startswith(study) for label in labels) else _beginning(labels)
    rests = [label[len(shared) :].strip(" ,;:") for label in labels]
    rests = [rest[1:-1] if re.fullmatch(r"\[[^\[\]]*\]|\([^()]*\)", rest) else rest for rest in rests]
    lettered = bool(shared) and any(re.fullmatch(r"(?:(?:18|19|20)\d\d)?[a-z]{0,2}", rest) for rest in rests)
    return [] if lettered or len(labels) == 1 else rests


def _beginning(labels: list[str]) -> str:
    """Return the whole words that all labels begin with."""
    first, last = min(labels), max(labels)
    same = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[: first.rfind(" ", 0, same) + 1]


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else _letter(i // 26 - 1) + chr(ord("a") + i % 26)


def _words(moderators: pd.DataFrame) -> Words:
    """Return the cells of the columns that may tell effects apart, the most telling first."""
    ranked = []
    for at, name in enumerate(map(str, moderators.columns)):
        tokens = [one for one in re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()) if one]
        if not tokens or set(tokens) & SILENT:
            continue
        rank = next((i for i, group in enumerate(TELLING) if set(tokens) & set(group)), len(TELLING))
        cells = _cells(moderators[name], name.replace("_", " ").replace(".", " ").strip())
        if cells is not None:
            ranked.append((rank, at, name, cells))
    return {name: cells for _, _, name, cells in sorted(ranked)}


def _cells(column: pd.Series, name: str) -> list[str] | None:
    """Return a column as words; numbers and yes-no values carry their column's name, measured numbers are none."""
    if pd.api.types.is_bool_dtype(column):
        return [f"{name}: {'yes' if value else 'no'}" for value in column]
    if pd.api.types.is_numeric_dtype(column):
        known = column.dropna().astype(float)
        if (known % 1 != 0).any():
            return None
        return ["" if pd.isna(value) else f"{name} {cell(float(value))}" for value in column]
    return [as_text(cell(value)) for value in column]


def _told_apart(words: Words, rows: Sequence[int]) -> list[str]:
    """Return the shortest words that tell the effects of one study apart, of columns that vary within it."""
    varying = {name: [cells[i] for i in rows] for name, cells in words.items() if len({cells[i] for i in rows}) > 1}
    varying = {name: cells for name, cells in varying.items() if max(map(len, cells)) <= LONGEST}
    best: tuple[int, list[str]] = (0, [""] * len(rows))
    for columns in _choices(list(varying)):
        told: list[tuple[str, ...]] = list(zip(*(varying[name] for name in columns), strict=True))
        distinct = len(set(told))
        if distinct > best[0]:
            best = distinct, [", ".join(word or NOT_CODED for word in words_of) for words_of in told]
        if distinct == len(rows):
            break
    return best[1]


def _choices(names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield sets of columns, small ones first, and among them those of the most telling columns."""
    some = names[:MOST_COLUMNS]
    for size in range(1, MOST_TOGETHER + 1):
        places = combinations(range(len(some)), size)
        for chosen in sorted(places, key=lambda one: int(np.sum(one))):
            yield tuple(some[i] for i in chosen)
