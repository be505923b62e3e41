"""Views of the umbrella: by population, format and rater, and over the years. Ranges and counts, never an average."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.tables.format import thousands

# What can be asked for -> column of the umbrella's frame.
ASPECTS = {"population": "population_group", "format": "format_group", "rater": "rater", "evidence": "evidence_level"}
NOT_STATED = "not stated, or mixed"

NO_PREDICTION = (
    "The registry cannot predict a new study. What to expect of one in a described setting depends on how much true "
    "effects differ between studies, and that stands in study-level data: pooled results of overlapping syntheses "
    "do not have it. Fit the studies themselves, RandomEffectsModel(effects, mods=...).fit().predict(...); whoever "
    "holds an article can type its table with `alliance-meta template`."
)
NOT_STUDIES = (
    "these are published pooled results, not studies: the syntheses share primary studies, so that no model of them "
    "means anything, neither a mean nor a prediction. Use study-level data"
)


def view(frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Count the results of an umbrella's frame by one or more aspects, and give their range."""
    names = [by] if isinstance(by, str) else list(by)
    unknown = [name for name in names if name not in ASPECTS]
    if unknown or not names or len(set(names)) < len(names):
        raise InputError(
            f"by={by!r}: choose from {', '.join(map(repr, ASPECTS))}, each once"
            + (did_you_mean(unknown[0], list(ASPECTS)) if unknown else "")
        )
    columns = {name: frame[ASPECTS[name]].where(frame[ASPECTS[name]].notna(), NOT_STATED) for name in names}
    table = frame.assign(**columns, article=_articles(frame))
    rows = []
    for key, group in table.groupby(names, sort=False, dropna=False):
        rows.append(
            {
                **dict(zip(names, key, strict=True)),
                "results": len(group),
                "articles": group["article"].nunique(),
                "lowest": group["estimate"].min(),
                "highest": group["estimate"].max(),
                "first_year": group["year"].min(),
                "last_year": group["year"].max(),
                "ids": " ".join(group["id"]),
            }
        )
    return pd.DataFrame(rows)


def development(frame: pd.DataFrame, *, population: str | None = None, repeats: bool = False) -> pd.DataFrame:
    """Put the results of an umbrella's frame in the order of their years, with the range of all so far."""
    kept = frame[frame["year"].notna() & ((frame["role"] == "main") | repeats)]
    if population is not None:
        known = list(dict.fromkeys(kept["population_group"]))
        if population not in known:
            raise InputError(
                f"no result shown is of the population {population!r}{did_you_mean(population, known)}; "
                f"there are {', '.join(map(repr, known))}"
            )
        kept = kept[kept["population_group"] == population]
    kept = kept.assign(article=_articles(kept)).sort_values(["year", "estimate"], kind="stable").reset_index(drop=True)
    by_year = kept.groupby("year")
    out = kept[["id", "label", "year", "population_group", "format_group", "k", "estimate", "ci_lb", "ci_ub", "role"]]
    return out.assign(
        results=by_year.size().cumsum().reindex(kept["year"]).to_numpy(),
        articles=[kept.loc[kept["year"] <= year, "article"].nunique() for year in kept["year"]],
        lowest=by_year["estimate"].min().cummin().reindex(kept["year"]).to_numpy(),
        highest=by_year["estimate"].max().cummax().reindex(kept["year"]).to_numpy(),
    )


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
