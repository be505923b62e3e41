"""The tables in docs/methods.md, from the docstrings; ``PYTHONPATH=. python tests/docs/methods.py`` writes them.

A table stands between ``<!-- methods: FAMILY -->`` and ``<!-- end -->``. Only when *not* to use a method is said here:
the rest is what the docstring says, whose formula the reference of the site shows.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import alliance_meta as am
from alliance_meta.reporting.text.references import REFERENCES, method_keys
from alliance_meta.results.random_effects import ESTIMATORS as CALLED

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
BLOCK = re.compile(r"(<!-- methods: (?P<name>[a-z_]+) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)
NAME = r"(?:(?:van|de|der) )*[A-Z][\w'’-]+"
SOURCE = re.compile(
    rf"(?P<who>{NAME}(?:(?:, | & ){NAME})*(?: et al\.)?),?[ (]+(?P<year>\d{{4}}[ab]?), doi:(?P<doi>10\.\d+/[^\s,;]*\w)"
)
CODE = re.compile(r"``(.+?)``", re.S)

# When not to use it. For methods of bias that is the table in docs/bias.md.
FAMILIES: dict[str, dict[str, str]] = {
    "effects": {
        "escalc": "to mix partial with zero-order correlations silently",
        "effects.to_r": "where the paper prints r itself",
        "aggregate": "where effects can be modelled as they are: `che`",
        "impute_V": "where correlations between measures are printed: `effects.rcalc` has the exact covariances",
        "effects.rcalc": "where only single correlations are known",
        "effects.correct_artifacts": "as the headline: reliabilities are taken as known",
        "effects.select_effects": "with a rule made after seeing the results",
        "effects.split_within": "where no study has several levels",
    },
    "models": {
        "RandomEffectsModel": "where studies have several effects: intervals are then too narrow",
        "che": "with one effect per study: `RandomEffectsModel` says the same with less",
        "models.sce": "where most studies have several levels: it takes their true effects for unrelated",
        "models.che_plus": "where a level has few studies with several effects",
        "MultilevelModel": "without `V` where effects share people; without `robust()` where `V` is a guess",
        "RVEModel": "where variances between and within studies are the question: its own are rough",
        "LocationScaleModel": "below 10 effects per coefficient of the scale",
        "models.ExactCorrelationModel": "for partial, corrected or pooled correlations",
    },
    "after": {
        "models.prediction_intervals": "with a handful of studies: how far true effects spread is then hardly known",
        "models.true_effects": "where true effects are far from normal, as in two camps",
        "models.anova": "for models of different effects",
        "moderator_table": "to try many moderators and name one: p is adjusted for those asked, not for those tried",
        "moderators.marginal_means": "for levels that never occur with those of the others: `.gaps` lists them",
        "moderators.pairwise": "before the test of the moderator as a whole",
        "moderators.select_models": "with few studies: the best subset is then often chance",
        "moderators.impute_moderators": "where cells are empty because of what would stand in them",
    },
    "sensitivity": {
        "sensitivity.battery": "to choose the row that is liked best",
        "sensitivity.compare_dependence": "with one effect per study",
        "sensitivity.leave_one_out": "as a test",
        "sensitivity.influence": "to drop studies by their flags alone",
        "sensitivity.permutation_test": "below 6 studies: 32 patterns of signs cannot give p < .05",
        "sensitivity.wild_bootstrap": "with many clusters: CR2 does as well and is faster",
        "sensitivity.bootstrap": "with few studies: sets drawn from them are much alike",
        "sensitivity.hunter_schmidt": "where n says little about precision",
        "sensitivity.multiverse": "with options that nobody would defend, counted as equals",
        "sensitivity.gosh": "as a test: subsets overlap",
    },
    "bias": dict.fromkeys(
        (
            *("bias.worst_case", "bias.selmodel", "bias.vevea_woods", "bias.copas", "bias.puniform", "bias.rtma"),
            *("bias.pet_peese", "bias.limitmeta", "bias.waap", "bias.uwls", "bias.uwls3", "bias.hc", "bias.trimfill"),
            *("bias.regtest", "bias.ranktest", "bias.tes", "bias.pcurve", "bias.zcurve", "bias.fsn", "bias.unseen"),
            "bias.unreported",
        ),
        "",
    ),
    "bayes": {
        "BayesianModel": "with a prior nobody defends: with few studies the answer is mostly the prior of τ",
        "bayes.exact_correlation": "for partial, corrected or pooled correlations",
        "bayes.average": "over models that nobody holds",
        "bayes.robma": "where studies have several effects: it refuses them unless told otherwise",
        "bayes.sample": "where `BayesianModel` solves the same exactly",
        "bayes.sequential": "as a rule to stop at the first good result",
    },
}


def found(name: str) -> Any:
    value: Any = am
    for part in name.split("."):
        value = getattr(value, part)
    return value


def notes(doc: str) -> str:
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get("Notes", "")


def in_r(text: str) -> str:
    """Return the calls after "R:", as far as the sentence goes, or the lines of the block after "R::"."""
    start = re.search(r"\bR(?:, [^:]{,60})?(::?)\s", text)
    if start is None:
        return ""
    rest = text[start.end() :]
    if start[1] == "::":
        block = re.split(r"\n(?=\S)", rest.strip("\n"))[0]
        return "<br>".join(f"`{line.strip()}`" for line in block.splitlines() if line.strip())
    calls, at = [], 0
    for code in CODE.finditer(rest):
        if re.search(r"[.:](\s|$)|\n\n", rest[at : code.start()]):
            break
        if re.search(r"\w\(|\w::\w", code[1]):
            calls.append(f"`{' '.join(code[1].split())}`")
        at = code.end()
    return "<br>".join(calls)


def sources(text: str) -> str:
    plain = " ".join(re.sub(r":math:`[^`]*`", "", re.sub(r"\.\. math::.*?(\n\n|\Z)", "", text, flags=re.S)).split())
    seen = {match["doi"]: f"{match['who']} {match['year']}" for match in reversed([*SOURCE.finditer(plain)])}
    return ", ".join(f"[{words}](https://doi.org/{doi})" for doi, words in reversed(seen.items()))


def estimators() -> str:
    """Return the estimators of tau2 with the articles that a report cites for them."""
    lines = ["| `method` | what it is | source |", "|---|---|---|"]
    for name, words in CALLED.items():
        keys = set(method_keys([{"measure": "", "method": name, "test": "", "model": ()}]))
        cited = [article(REFERENCES[key]) for key in sorted(keys)]
        lines.append(f"| `{name}` | {words} | {', '.join(cited)} |")
    return "\n".join(lines) + "\n"


def article(reference: str) -> str:
    authors, year = re.match(r"(.+?) \((\d{4})\)", reference).groups()  # type: ignore[union-attr]
    who = " & ".join(re.findall(r"([^\W\d_][\w'’ -]+), (?:[A-Z]\. ?-?)+", authors))
    doi = re.search(r"https://doi\.org/\S+", reference)
    link = doi[0].replace("(", "%28").replace(")", "%29") if doi else ""
    return f"[{who} {year}]({link})" if link else f"{who} {year}"


def table(family: str) -> str:
    if family == "estimators":
        return estimators()
    lines = ["| method | in R | source |", "|---|---|---|"]
    for name, unless in FAMILIES[family].items():
        doc = inspect.getdoc(found(name)) or ""
        words = [f"`am.{name}`", " ".join(doc.split("\n\n")[0].split()), f"*Not* {unless}." if unless else ""]
        cells = ["<br>".join(filter(None, words)), in_r(notes(doc)), sources(notes(doc))]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + table(m["name"]) + m[4], text), "utf-8")


if __name__ == "__main__":
    main()
