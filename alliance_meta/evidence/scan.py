"""Find what a text prints of its results, and put together what belongs to one result."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from alliance_meta.evidence.printed import COUNTS, POSITIVE, PrintedNumber, PrintedResult, _counted, read_number
from alliance_meta.evidence.text_statistics import WORDED, Atom, IntArray, bare_estimate, find_atoms, squeezed

LONGEST_GAP = 45
# Fisher's z of a correlation of .91; what is larger and called z is a test.
LARGEST_Z = 1.5
SEPARATORS = r"[\s,;:()\[\]'\"*/]*"
# Between the parts of one result stand signs and a few words of this kind; anything else begins something new.
SAFE = r"(?:and|with|or|a|an|the|i\.e\.|equivalent|corresponding|to|two-tailed|two-sided|one-tailed|one-sided|Cohen's"
SAFE += r"|Hedges'|Hedges's|heterogeneity|based|on|studies|samples|participants|clients|patients)"
# What may stand between a test and its p, and is not checked here.
ASIDE = r"(?:MSE|MSe|(?:partial\s)?[ηωφ]_?p?2?|R2|ΔR2|V|Cohen's f)\s*=\s*[-+]?\d*\.?\d+"
TIGHT = re.compile(rf"{SEPARATORS}(?:(?:{SAFE}|{ASIDE}){SEPARATORS}){{0,4}}")
LOOSE = re.compile(rf"{SEPARATORS}(?:(?>[A-Za-z][A-Za-z'-]*){SEPARATORS}){{0,4}}")
# Said of a p-value: right before a result, in it or right behind it.
ONE_SIDED = re.compile(r"\b(?:one|1)[ -](?:tailed|sided)\b|\beinseitig", flags=re.IGNORECASE)
AROUND_P = 20
HEADS = frozenset({"t", "t df", "F", "r(df)", "chi2"})
EFFECTS = frozenset({"estimate", "said", "ratio"})
NAMES = {"said": "estimate", "ratio": "estimate", "r(df)": "r", "t df": "t", "t of": "t"}
LOOSE_KINDS = frozenset({"k", "N", "ci", "QE", "I2", "tau2", "QM"})


def scan(text: str) -> list[PrintedResult]:
    """Return what a text prints of its results, in order; only what can be checked has any use."""
    plain, places = squeezed(text)
    lines = [0, *(found.end() for found in re.finditer(r"\r\n|\n|\r|\f|\v", text))]
    found = []
    read = 0
    for cluster in _clusters(text, plain, places):
        for draft in _assemble(plain, cluster, read):
            said = " ".join(plain[draft.start : draft.end].split())
            line = bisect.bisect_right(lines, places[draft.start])
            before = plain[max(0, read, draft.start - AROUND_P) : draft.start].rpartition(". ")[2]
            after = plain[draft.start : draft.end + AROUND_P].partition(". ")[0]
            one_sided = ONE_SIDED.search(before + after) is not None
            found.append(draft.finish(line=line, text=said, one_sided=one_sided))
        read = cluster[-1].end
    return found


def scan_into(result: PrintedResult, text: str) -> PrintedResult:
    """Add what a remark prints to the result it remarks on: only what comes before another result is begun."""
    plain, _ = squeezed(text)
    draft = _Draft(0, 0, numbers=dict(result.numbers), metric=result.metric, level=result.level)
    draft.last = "p" if "estimate" in draft.numbers else ""
    for atom in find_atoms(plain):
        if not draft.takes(atom):
            if atom.kind in HEADS | EFFECTS:
                break
            continue
        draft.add(atom)
    return replace(result.having(draft.numbers), metric=result.metric or draft.metric, level=draft.level)


def _clusters(text: str, plain: str, places: IntArray) -> Iterator[list[Atom]]:
    """Yield atoms that stand together: with little between them, in one sentence and one paragraph."""
    cluster: list[Atom] = []
    for atom in find_atoms(plain):
        if cluster and not _together(text, plain, places, cluster[-1], atom):
            yield cluster
            cluster = []
        cluster.append(atom)
    if cluster:
        yield cluster


def _together(text: str, plain: str, places: IntArray, before: Atom, after: Atom) -> bool:
    gap = plain[before.end : after.start]
    if len(gap) > LONGEST_GAP or re.search(r"\n\s*\n|\f", text[places[before.end] : places[after.start]]):
        return False
    allowed = LOOSE if after.kind in LOOSE_KINDS else TIGHT
    return allowed.fullmatch(gap) is not None


@dataclass(slots=True)
class _Draft:
    """A result while its parts are being collected."""

    start: int
    end: int
    numbers: dict[str, PrintedNumber] = field(default_factory=dict)
    metric: str = ""
    level: float = 0.95
    last: str = ""

    def takes(self, atom: Atom) -> bool:
        """Whether the atom belongs to this result; if not it begins another."""
        kind, have = atom.kind, self.numbers.keys()
        headless = not have & {"estimate", "t", "F", "r", "chi2", "z"}
        if kind in ("F", "chi2", "r(df)"):
            return headless and not have & {"p", "ci_lb", "QE", "QM"}
        if kind == "t of":
            return "estimate" in have and not have & {"t", "z"}
        if kind in ("t", "t df", "z"):
            return not have & {"t", "F", "r", "chi2", "z"} and ("estimate" in have or not have & {"QE", "QM"})
        if kind in EFFECTS:
            converted = atom.parts.get("metric") == "d" and self.metric in ("r", "") and "estimate" in have
            return (headless and not have & {"p", "ci_lb"}) or (converted and "d" not in have)
        if kind in ("ci", "bracket"):
            if self.last == "tau2":
                return "tau2_lb" not in have
            return bool(have & {"estimate", "r"}) and "ci_lb" not in have
        if kind == "p":
            return _p_name(self) not in have and bool(self.last)
        if kind == "df":
            return _df_name(self) not in have and bool(self.last)
        if kind == "r2":
            return "r2" not in have and self.metric == "r"
        return kind not in have

    def add(self, atom: Atom) -> None:
        """Take the atom's numbers."""
        self.end = max(self.end, atom.end)
        kind, parts = atom.kind, atom.parts
        if kind in ("ci", "bracket"):
            prefix = "tau2" if self.last == "tau2" else "ci"
            self._put(f"{prefix}_lb", parts["low"])
            self._put(f"{prefix}_ub", parts["high"])
            level = parts.get("level", parts.get("level2"))
            self.level = float(level) / 100 if level else self.level
            return
        name = NAMES.get(kind, kind)
        if name == "p":
            name = _p_name(self)
        elif name == "df":
            name = _df_name(self)
        elif name == "estimate" and "estimate" in self.numbers:
            name = "d"
        elif name == "estimate":
            said = parts.get("metric", "")
            self.metric = WORDED.get(said, "") if kind == "said" else said
        self._put(name, atom.value)
        for part in ("df", "df2"):
            if part in parts:
                self._put({"QE": "QEdf", "QM": "QMdf"}.get(name, part) if part == "df" else part, parts[part])
        if name in ("estimate", "t", "F", "r", "chi2", "z", "QE", "QM", "tau2", "d"):
            self.last = name

    def _put(self, name: str, text: str) -> None:
        text = text.strip().replace("- ", "-")
        number = read_number(text, floor=0.0 if name in POSITIVE else float("-inf"))
        self.numbers[name] = _counted(number, name) if name in COUNTS else number

    def finish(self, *, line: int, text: str, one_sided: bool) -> PrintedResult:
        """Return the result."""
        return PrintedResult(self.numbers, text, self.metric, self.level, line, text, one_sided)


def _p_name(draft: _Draft) -> str:
    return {"QE": "QEp", "QM": "QMp"}.get(draft.last, "p")


def _df_name(draft: _Draft) -> str:
    return {"QE": "QEdf", "QM": "QMdf"}.get(draft.last, "df")


def _assemble(plain: str, cluster: list[Atom], read: int) -> Iterator[_Draft]:
    """Yield the results of one cluster."""
    draft: _Draft | None = None
    for place, atom in enumerate(cluster):
        after = cluster[place + 1].kind if place + 1 < len(cluster) else ""
        atom = _as_estimate(atom, draft, after)
        own = atom.kind in EFFECTS and after in ("ci", "bracket", "p", "se") and _has_estimate(draft)
        if draft is not None and draft.takes(atom) and not own:
            draft.add(atom)
            read = atom.end
            continue
        begun = _begin(plain, atom, read)
        read = atom.end
        if begun is None:
            continue
        if draft is not None:
            yield draft
        draft = begun
    if draft is not None:
        yield draft


def _has_estimate(draft: _Draft | None) -> bool:
    return draft is not None and "estimate" in draft.numbers


def _as_estimate(atom: Atom, draft: _Draft | None, after: str) -> Atom:
    """Take z for an effect where it is called Fisher's, or where an interval follows and no other effect stands."""
    if atom.kind != "z" or _has_estimate(draft):
        return atom
    small = abs(float(atom.value.replace(" ", ""))) < LARGEST_Z
    if "fisher" in atom.parts or (small and after in ("ci", "bracket", "se")):
        return Atom("estimate", atom.start, atom.end, {**atom.parts, "metric": "z"})
    return atom


def _begin(plain: str, atom: Atom, read: int) -> _Draft | None:
    """Begin a result with this atom; None if nothing can be told from it alone."""
    draft = _Draft(atom.start, atom.end)
    if atom.kind in ("ci", "bracket"):
        bare = bare_estimate(plain, atom.start, after=read)
        if bare is None or plain[atom.start] == "(":
            return None
        draft.start = bare.start
        draft.add(bare)
    elif atom.kind in ("p", "df", "r2", "se", "t of"):
        return None
    draft.add(atom)
    return draft
