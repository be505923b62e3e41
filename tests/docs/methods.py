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

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
BLOCK = re.compile(r"(<!-- methods: (?P<name>[a-z_]+) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)
SOURCE = re.compile(r"(?P<who>[^\W\d_][^\d;:.()`]*?)[,\s(]+(?P<year>\d{4}[ab]?),?\s+doi:(?P<doi>10\.\d+/[^\s,;]*[^\s,;.)])")
CODE = re.compile(r"``(.+?)``", re.S)

# When not to use it. For methods of bias that is the table in docs/bias.md.
FAMILIES: dict[str, dict[str, str]] = {
    "effects": {
        "escalc": "partial correlations beside zero-order ones without saying so",
        "effects.to_r": "the paper prints r itself",
        "aggregate": "you can model the effects as they are: `che`",
        "impute_V": "the correlations between measures are printed: `effects.rcalc` has the exact covariances",
        "effects.rcalc": "only single correlations are known",
        "effects.correct_artifacts": "as the headline: reliabilities are taken as known",
        "effects.select_effects": "the rule was made after seeing the results",
        "effects.split_within": "no study has several levels",
    },
    "models": {
        "RandomEffectsModel": "studies have several effects: intervals are then too narrow",
        "che": "one effect per study: take `RandomEffectsModel`",
        "models.sce": "levels are few and studies have several of them: it takes them for unrelated",
        "models.che_plus": "a level has only a few studies with several effects",
        "MultilevelModel": "without `V` where effects share people; without `robust()` where V is a guess",
        "RVEModel": "you want variances between and within studies: its own are rough",
        "LocationScaleModel": "below 10 effects per coefficient of the scale",
        "models.ExactCorrelationModel": "partial, corrected or pooled correlations",
    },
    "after": {
        "models.prediction_intervals": "fewer than some 5 studies: it is then a guess about the spread",
        "models.true_effects": "true effects are far from normal, as in two camps",
        "models.anova": "to compare REML fits with other moderators without refitting (it refits by ML, and says so)",
        "moderator_table": "to find moderators by trying many: the p-values are adjusted for those asked, not for those tried",
        "moderators.marginal_means": "levels that never occur together with the others: see `.gaps`",
        "moderators.pairwise": "the test of the moderator as a whole says nothing",
        "moderators.select_models": "few studies: the best subset is then often chance",
        "moderators.impute_moderators": "what is missing is missing because of its value",
    },
    "sensitivity": {
        "sensitivity.battery": "to choose the row that is liked best",
        "sensitivity.compare_dependence": "one effect per study",
        "sensitivity.leave_one_out": "as a test",
        "sensitivity.influence": "to drop studies by their flags alone",
        "sensitivity.permutation_test": "fewer than 5 studies: no p below .05 is possible",
        "sensitivity.wild_bootstrap": "many clusters: CR2 is as good and faster",
        "sensitivity.bootstrap": "few studies: resampled sets are then hardly sets",
        "sensitivity.hunter_schmidt": "corrections are not known, or n says little about precision",
        "sensitivity.multiverse": "options that nobody would defend are counted as equals",
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
        "BayesianModel": "priors are flat and studies three: the answer is then mostly the prior of τ",
        "bayes.exact_correlation": "partial, corrected or pooled correlations",
        "bayes.average": "the models averaged are none that anybody holds",
        "bayes.robma": "studies have several effects: average them first",
        "bayes.sample": "`BayesianModel` solves it: draws only add noise",
        "bayes.sequential": "as a test that stops at the first good result",
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
    start = re.search(r"\bR(?:, [^`:]{,60})?(:{1,2})\s", text)
    if start is None:
        return ""
    rest = text[start.end() :]
    if start[1] == "::":
        return "<br>".join(f"`{line.strip()}`" for line in re.split(r"\n(?=\S)", rest.strip("\n"))[0].splitlines() if line.strip())
    calls, at = [], 0
    for code in CODE.finditer(rest):
        if re.search(r"[.:](\s|$)|\n\n", rest[at : code.start()]):
            break
        calls.append(f"`{' '.join(code[1].split())}`")
        at = code.end()
    return "<br>".join(calls)


def sources(text: str) -> str:
    seen = {}
    for match in SOURCE.finditer(" ".join(text.split())):
        who = re.split(r"(?:^| )[a-z]+ ", match["who"])[-1] if " and " not in match["who"] else match["who"]
        seen.setdefault(match["doi"], f"[{who.strip()} {match['year']}](https://doi.org/{match['doi']})")
    return ", ".join(seen.values())


def table(family: str) -> str:
    last = any(FAMILIES[family].values())
    lines = ["| method | what it does | R | source |" + (" not where |" if last else ""), "|---|---|---|---|" + "---|" * last]
    for name, unless in FAMILIES[family].items():
        doc = inspect.getdoc(found(name)) or ""
        summary = " ".join(doc.split("\n\n")[0].split())
        cells = [f"`am.{name}`", summary, in_r(notes(doc)), sources(notes(doc)), *([unless] if last else [])]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + table(m["name"]) + m[4], text), "utf-8")


if __name__ == "__main__":
    main()
