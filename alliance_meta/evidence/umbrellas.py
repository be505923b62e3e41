"""The umbrella: published alliance-outcome correlations side by side, and never pooled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import pandas as pd

from alliance_meta.core.correlations.pearson import z_to_r
from alliance_meta.errors import InputError
from alliance_meta.evidence.published_results import groups, published
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.result import said
from alliance_meta.tables.document import Document, as_html, frame_table
from alliance_meta.tables.format import thousands

RELATION = "alliance-outcome"

NO_POOLED_VALUE = (
    "No pooled value is given over these results. The same primary studies stand in many of the syntheses, so they "
    "are not independent; how far they overlap was not read, so it cannot be corrected for. They also differ in what "
    "they average: some take one effect per study, some all effects in a multilevel model, some weight and some take "
    "a median. And they differ in whom and what they are about. An average over them would count some studies many "
    "times and answer no question that anybody asked."
)

CODES: Mapping[str, str] = {
    "sub": "a subsample of another result of the same article that is shown too",
    "same": "another statistic, model, rater or outcome on the studies of a result that is shown too",
    "sign": "sign turned: printed as a correlation with symptoms, shown so that positive means a better outcome",
    "z": "printed as Fisher z, shown as r = tanh(z)",
    "ci": "no interval printed where it was read",
    "k": "number of studies not printed where it was read",
    "sec": "read in somebody else's citation, not in the article",
    "np": "not psychotherapy",
}

COLUMNS = (
    *("id", "label", "heading", "heading_order", "population_group", "format_group", "rater", "population", "format"),
    *("year", "doi", "k", "n_total", "estimate", "ci_lb", "ci_ub", "ci_level", "k_printed", "n_total_printed"),
    *("estimate_printed", "ci_printed", "metric", "model_as_reported", "evidence_level", "evidence_location"),
    *("role", "part_of", "psychotherapy", "sign_flipped", "converted", "codes", "notes"),
)

# What can be asked for -> column of the umbrella's frame.
ASPECTS = {"population": "population_group", "format": "format_group", "rater": "rater", "evidence": "evidence_level"}
NOT_STATED = "not stated, or mixed"

DEVELOPMENT = ("id", "label", "year", "population_group", "format_group", "k", "estimate", "ci_lb", "ci_ub", "role")

NO_PREDICTION = (
    "The registry cannot predict a new study. What to expect of one in a described setting depends on how much true "
    "effects differ between studies, and that stands in study-level data: pooled results of overlapping syntheses "
    "do not have it. Fit the studies themselves, RandomEffectsModel(effects, mods=...).fit().predict(...); whoever "
    "holds an article can type its table with `alliance-meta template`."
)


@dataclass(frozen=True, eq=False)
class Umbrella:
    """Published alliance-outcome correlations, those left out, and why nothing is pooled.

    Attributes
    ----------
    frame : DataFrame
        One row per result, in display order: ``heading`` and ``label``, ``k``, ``n_total``, ``estimate``, ``ci_lb``
        and ``ci_ub`` as r with positive = better outcome, the printed text (``estimate_printed``, ``ci_printed``),
        ``evidence_level``, and ``codes``, the keys of `codes` that apply, joined by spaces. What was not printed
        is NaN.
    excluded : DataFrame
        One row per entry of the registry that is not shown: ``id label relation metric estimate_printed reason``.
    codes : mapping
        What each code in ``frame.codes`` means.
    notes : tuple of Note
        Why nothing is pooled, what was turned or converted, and the cautions of the registry.
    """

    frame: pd.DataFrame
    excluded: pd.DataFrame
    codes: Mapping[str, str]
    notes: tuple[Note, ...]

    def by(self, *aspects: str) -> pd.DataFrame:
        """Return how many results there are by population, format, rater and so on, and from where to where they go.

        Parameters
        ----------
        *aspects : {"population", "format", "rater", "evidence"}
            One or more. The rater is known where an entry says who rated all its alliances.

        Returns
        -------
        DataFrame
            One row per combination that occurs: the aspects, ``results articles lowest highest first_year last_year
            ids``. No average: the results share studies.

        Raises
        ------
        InputError
            An unknown aspect, or none.

        Examples
        --------
        >>> from alliance_meta.evidence import umbrella
        >>> table = umbrella().by("population")
        >>> table.loc[table["population"] == "Children and adolescents", ["lowest", "highest"]].values.tolist()
        [[0.13, 0.34]]
        """
        names, frame = list(aspects), self.frame
        unknown = [name for name in names if name not in ASPECTS]
        if unknown or not names or len(set(names)) < len(names):
            raise InputError(
                f"by={aspects!r}: choose from {', '.join(map(repr, ASPECTS))}, each once"
                + (did_you_mean(unknown[0], list(ASPECTS)) if unknown else "")
            )
        columns = {name: frame[ASPECTS[name]].where(frame[ASPECTS[name]].notna(), NOT_STATED) for name in names}
        table = frame.assign(**columns, article=_articles(frame))
        found = table.groupby(names, sort=False, dropna=False).agg(
            results=("id", "size"),
            articles=("article", "nunique"),
            lowest=("estimate", "min"),
            highest=("estimate", "max"),
            first_year=("year", "min"),
            last_year=("year", "max"),
            ids=("id", " ".join),
        )
        return found.reset_index()

    def development(self, *, population: str | None = None, repeats: bool = False) -> pd.DataFrame:
        """Return the results in the order of their years, with the range of all so far.

        Parameters
        ----------
        population : str, optional
            Only results of this population group, such as ``"Adults"``.
        repeats : bool
            Also show results on the same studies as another result of their article.

        Returns
        -------
        DataFrame
            One row per result, by year: ``id label year population_group format_group k estimate ci_lb ci_ub role``,
            and over all up to that year ``results articles lowest highest``. The syntheses share studies: this is a
            history of what was printed, not of independent evidence.

        Raises
        ------
        InputError
            A population that no result is of.
        """
        frame = self.frame
        kept = frame[frame["year"].notna() & ((frame["role"] == "main") | repeats)]
        if population is not None:
            known = list(dict.fromkeys(kept["population_group"]))
            if population not in known:
                raise InputError(
                    f"no result shown is of the population {population!r}{did_you_mean(population, known)}; "
                    f"there are {', '.join(map(repr, known))}"
                )
            kept = kept[kept["population_group"] == population]
        kept = (
            kept.assign(article=_articles(kept)).sort_values(["year", "estimate"], kind="stable").reset_index(drop=True)
        )
        by_year = kept.groupby("year")
        out = kept[
            ["id", "label", "year", "population_group", "format_group", "k", "estimate", "ci_lb", "ci_ub", "role"]
        ]
        return out.assign(
            results=by_year.size().cumsum().reindex(kept["year"]).to_numpy(),
            articles=[kept.loc[kept["year"] <= year, "article"].nunique() for year in kept["year"]],
            lowest=by_year["estimate"].min().cummin().reindex(kept["year"]).to_numpy(),
            highest=by_year["estimate"].max().cummax().reindex(kept["year"]).to_numpy(),
        )

    def predict(self, *_: object, **__: object) -> NoReturn:
        """Refuse: a new study is predicted from study-level data, never from pooled results.

        Raises
        ------
        InputError
            Always, with the reason.
        """
        raise InputError(NO_PREDICTION)

    def __len__(self) -> int:
        return len(self.frame)

    def __str__(self) -> str:
        headings = self.frame["heading"].nunique()
        return f"Umbrella: {len(self.frame)} published results under {headings} headings, not pooled"

    def _repr_html_(self) -> str:
        return as_html(Document(str(self), blocks=[frame_table(self.frame)], notes=said(self.notes)))


def umbrella(*, psychotherapy_only: bool = False) -> Umbrella:
    """Put the published alliance-outcome correlations side by side, by population and format.

    Every entry of the registry that correlates alliance with outcome and prints a pooled r (or Fisher z) is
    shown if its authors and title were read; every other entry is listed with the reason why it is not. Signs are
    aligned so that positive means a better outcome, and marked. Nothing is pooled: the reason is the first of the
    notes.

    Parameters
    ----------
    psychotherapy_only : bool
        Leave out coaching, career counselling and pharmacotherapy, which are otherwise shown under a heading
        of their own.

    Returns
    -------
    Umbrella

    Examples
    --------
    >>> from alliance_meta.evidence.umbrellas import umbrella
    >>> shown = umbrella().frame.set_index("id")
    >>> float(shown.loc["howard2022_ptsd", "estimate"]), shown.loc["howard2022_ptsd", "codes"]
    (0.34, 'sign ci')
    """
    registry = published(align_signs=True)
    cautions = registry.attrs["cautions"]
    frame = registry.merge(groups().reset_index(), on="id", how="left", validate="one_to_one")
    frame["label"] = [_label(label, detail) for label, detail in zip(frame["label"], frame["detail"], strict=True)]
    frame["reason"] = [_reason(row, psychotherapy_only) for _, row in frame.iterrows()]
    shown = _on_r(frame[frame["reason"] == ""].copy())
    shown["ci_printed"] = [
        _interval(a, b) for a, b in zip(shown["ci_low_printed"], shown["ci_high_printed"], strict=True)
    ]
    shown["codes"] = [_codes(row) for _, row in shown.iterrows()]
    shown = shown.rename(columns={"ci_low": "ci_lb", "ci_high": "ci_ub"})
    order = _display_order(shown, list(frame["id"]))
    excluded = frame.loc[frame["reason"] != "", ["id", "label", "relation", "metric", "estimate_printed", "reason"]]
    used = {code for codes in shown["codes"] for code in codes.split()}
    return Umbrella(
        frame=shown.loc[order, list(COLUMNS)].reset_index(drop=True),
        excluded=excluded.reset_index(drop=True),
        codes={code: text for code, text in CODES.items() if code in used},
        notes=_notes(shown, len(excluded), cautions),
    )


def _label(label: str, detail: object) -> str:
    return f"{label}, {detail}" if isinstance(detail, str) else label


def _reason(row: pd.Series, psychotherapy_only: bool) -> str:
    """Why an entry is not shown; empty if it is."""
    if isinstance(row["left_out"], str):
        return str(row["left_out"])
    if row["relation"] != RELATION:
        return f"another relation: {row['relation']}"
    if isinstance(row["metric"], str) and row["metric"] not in ("r", "z"):
        return f"printed as {row['metric']}, not as a correlation"
    if math.isnan(row["estimate"]):
        return f"no pooled value where it was read ({row['evidence_location']})"
    if not named(row["authors"]) or not named(row["title"]):
        return "its authors or its title were not read: a figure would cite what nobody can look up"
    if psychotherapy_only and not row["psychotherapy"]:
        return "not psychotherapy"
    return ""


def named(cell: object) -> bool:
    """Return whether authors or a title were read; in brackets stands what was put in their place."""
    return isinstance(cell, str) and not cell.startswith("(")


def _on_r(frame: pd.DataFrame) -> pd.DataFrame:
    converted = (frame["metric"] == "z").to_numpy()
    for name in ("estimate", "ci_low", "ci_high"):
        frame.loc[converted, name] = z_to_r(frame.loc[converted, name].to_numpy(dtype=float))
    frame["converted"] = converted
    return frame


def _interval(low: str, high: str) -> str:
    return f"[{low}, {high}]" if low and high else ""


def _codes(row: pd.Series) -> str:
    applies = {
        "sub": row["role"] == "subsample",
        "same": row["role"] == "same studies",
        "sign": row["sign_flipped"],
        "z": row["converted"],
        "ci": math.isnan(row["ci_low"]),
        "k": math.isnan(row["k"]),
        "sec": row["evidence_level"] == "secondary citation",
        "np": not row["psychotherapy"],
    }
    return " ".join(code for code, yes in applies.items() if yes)


def _display_order(frame: pd.DataFrame, registry: list[str]) -> list[int]:
    """Headings in their order, articles by year, an article's result before those that repeat its studies."""
    position = {entry: place for place, entry in enumerate(registry)}
    keys = pd.DataFrame(
        {
            "heading": frame["heading_order"],
            "year": frame["year"],
            "article": frame["part_of"].fillna(frame["id"]).map(position),
            "repeats": frame["role"] != "main",
            "place": frame["id"].map(position),
        }
    )
    return list(keys.sort_values(list(keys.columns)).index)


def _notes(shown: pd.DataFrame, left_out: int, cautions: list[str]) -> tuple[Note, ...]:
    turned = list(shown.loc[shown["sign_flipped"], "label"])
    converted = list(shown.loc[shown["converted"], "label"])
    repeats = int((shown["role"] != "main").sum())
    notes = [
        Note("no-pooled-value", NO_POOLED_VALUE),
        Note("overlap", overlap(shown)),
        Note("left-out", f"{left_out} entries of the registry are not shown; each is listed with its reason."),
    ]
    if repeats:
        notes.append(
            Note(
                "same-article",
                f"{repeats} of the {len(shown)} results repeat studies of another result of the same article.",
            )
        )
    if turned:
        notes.append(Note("sign-aligned", f"Sign turned (printed as correlation with symptoms): {'; '.join(turned)}."))
    if converted:
        notes.append(Note("converted", f"Printed as Fisher z, shown as r: {'; '.join(converted)}."))
    return (*notes, *(Note("caution", text) for text in cautions))


def overlap(frame: pd.DataFrame) -> str:
    """Say how often studies are known to be counted more than once, and how much is not known."""
    known = frame[frame["k"].notna()]
    main, again = known[known["role"] == "main"], known[known["role"] != "main"]
    return (
        f"The k printed by {len(main)} articles' results add up to {thousands(main['k'].sum())}. That is no number of "
        "studies: a later synthesis of the same population searches the same literature again. Within one article "
        f"{int(again['k'].sum()):,} more are counted again, in {len(again)} results on the same studies. How far "
        "different articles overlap was not read, so no correction for it is possible."
    )


def _articles(frame: pd.DataFrame) -> pd.Series[str]:
    return frame["part_of"].where(frame["part_of"].notna(), frame["id"])
