"""Draw every plot at k = 5, 30 and 300 into one page (`make gallery`): look at all of them after a change.

A plot is one row of `PLOTS`. The effects are real: 30 correlations of working memory and language (Tillman et al.,
2011), the first five of them, and for dependent effects the 53 of 19 studies of the alliance and the relationship.
No shipped data set has 300: those are made up, and every figure of them says so.
"""

from __future__ import annotations

import argparse
import html
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

import alliance_meta as am
from alliance_meta import bayes, bias, evidence, moderators, plots, sensitivity
from alliance_meta.errors import AllianceMetaWarning, InputError
from tests.plots.review_cases import WHOLE, coded, flow, judged, teaching

OUT = Path("docs/build/gallery")
SIZES = (5, 30, 300)


class Case:
    """Effects of one size, and what is fitted to them, each once."""

    def __init__(self, k: int) -> None:
        self.k = k

    @cached_property
    def effects(self) -> Any:
        """Independent effects."""
        if self.k > 30:
            return made_up(self.k, self.k)
        return am.escalc(am.load_dataset("tillman2011")).take(np.arange(self.k))

    @cached_property
    def nested(self) -> Any:
        """Effects of which several are of one study."""
        if self.k > 30:
            return made_up(self.k, self.k // 3)
        effects = am.escalc(am.load_dataset("relationship_dependent_effects"))
        if self.k > 5:
            return effects
        raters = effects.moderators["rater"]
        few = [np.flatnonzero(raters == rater)[:most] for rater, most in (("client", 3), ("observer", 2))]
        return effects.take(np.concatenate(few))

    def fit(self, mods: str = "1") -> Any:
        """Return the usual model of the independent effects."""
        return am.RandomEffectsModel(self.effects, mods=mods).fit()

    @cached_property
    def che(self) -> Any:
        """The usual model of the dependent effects."""
        return am.che(self.nested)

    @cached_property
    def levels(self) -> Any:
        """Three levels."""
        return am.MultilevelModel(self.nested).fit()

    @cached_property
    def bayes(self) -> Any:
        """The posterior of the independent effects."""
        return am.BayesianModel(self.effects).fit()

    @cached_property
    def robma(self) -> Any:
        """Models with and without bias, averaged."""
        return bayes.robma(self.effects, bias=[bayes.WeightFunction((0.025, 0.5)), bayes.PET()])

    @cached_property
    def margins(self) -> Any:
        """Means by rater."""
        return moderators.marginal_means(am.che(self.nested, mods="rater"), "rater")

    @cached_property
    def sampled(self) -> Any:
        """Draws of four chains; made up, as no sampler runs here."""
        from tests.plots.chains_cases import sampled

        return sampled(teaching=True)

    def review(self, make: Callable[[int], Any]) -> Any:
        """Return a made-up sheet of this size."""
        return teaching(make(self.k))

    @cached_property
    def curved(self) -> Any:
        """Draws around a curve; made up too."""
        from tests.plots.smooth_cases import curved

        return curved(max(self.k, 30), teaching=True)


def made_up(k: int, studies: int) -> Any:
    """Return effects that are said to be made up, with the moderators that the real ones have."""
    rng = np.random.default_rng(k)
    of = np.sort(rng.integers(0, studies, k)) if studies < k else np.arange(k)
    n = rng.integers(12, 300, studies)[of]
    z = rng.normal(0.25, 0.12, studies)[of] + rng.normal(0, 0.08, k) + rng.standard_normal(k) / np.sqrt(n - 3)
    frame = pd.DataFrame(
        {
            "study": [f"Made-up study {i + 1}" for i in of],
            "n": n,
            "r": np.tanh(z),
            "year": 1980 + rng.integers(0, 40, studies)[of],
            "rater": rng.choice(["client", "therapist", "observer"], k),
        }
    )
    effects = am.escalc(frame)
    origin = replace(effects.provenance, synthetic=True, title=f"{k} made-up correlations")
    return replace(effects, provenance=origin)


# What each figure shows; a plot is one row here.
PLOTS: dict[str, Callable[[Case], Any]] = {
    "forest": lambda c: plots.forest(c.fit(), columns=["year"], order="year"),
    "forest, dependent effects": lambda c: plots.forest(c.che, columns=["rater"]),
    "forest_pages": lambda c: plots.forest_pages(c.che, columns=["rater"]),
    "leave_one_out": lambda c: plots.leave_one_out(sensitivity.leave_one_out(c.fit())),
    "cumulative": lambda c: plots.cumulative(sensitivity.cumulative(c.fit(), order="year")),
    "caterpillar": lambda c: plots.caterpillar(c.fit()),
    "bubble": lambda c: plots.bubble(c.fit("year"), "year"),
    "bubble, levels": lambda c: plots.bubble(am.che(c.nested, mods="rater"), "rater"),
    "smooth": lambda c: plots.smooth(c.curved),
    "forest, levels": lambda c: plots.forest(c.che, by="rater"),
    "forest, apa": lambda c: plots.forest(c.fit(), layout="apa", prediction="line"),
    "forest, bmj": lambda c: plots.forest(c.fit(), layout="bmj", shrunken=True),
    "forest, jama": lambda c: plots.forest(c.fit(), layout="jama", direction=("lower", "higher")),
    "orchard": lambda c: plots.orchard(c.fit()),
    "orchard, levels": lambda c: plots.orchard(am.che(c.nested, mods="rater")),
    "drapery": lambda c: plots.drapery(c.fit()),
    "rainforest": lambda c: plots.rainforest(c.fit()),
    "ranks": lambda c: plots.ranks(c.fit()),
    "timeline": lambda c: plots.timeline(sensitivity.cumulative(c.fit(), order="year")),
    "evidence_map": lambda c: plots.evidence_map(c.review(coded), rows="measure", columns=["time", "rater"]),
    "rob": lambda c: plots.rob_pages(c.review(judged))[0],
    "rob, bars": lambda c: plots.rob(c.review(judged), kind="bar"),
    "means": lambda c: plots.means(c.margins),
    "moderators": lambda c: plots.moderators(am.moderator_table(c.nested, ["rater", "year"])),
    "funnel": lambda c: plots.funnel(c.fit(), lines=[bias.regtest(c.fit())], filled=bias.trimfill(c.fit())),
    "sunset": lambda c: plots.sunset(c.fit()),
    "firepower": lambda c: plots.firepower(c.fit()),
    "p_curve": lambda c: plots.p_curve(c.fit()),
    "z_curve": lambda c: plots.z_curve(c.fit(), result=bias.zcurve(c.fit(), iterations=50)),
    "selection_weights": lambda c: plots.selection_weights(bias.selmodel(c.fit(), steps=[0.025])),
    "worst_case": lambda c: plots.worst_case(c.fit()),
    "bias_panel": lambda c: plots.bias_panel(bias.panel(c.fit())),
    "battery": lambda c: plots.battery(sensitivity.battery(c.nested)),
    "specification_curve": lambda c: plots.specification_curve(
        sensitivity.multiverse(c.nested, choices={"dependence": ["CHE", "mean"], "inference": ["CR2", "z", "knha"]})
    ),
    "dependence": lambda c: plots.dependence(sensitivity.compare_dependence(c.nested)),
    "rho_grid": lambda c: plots.rho_grid(sensitivity.rho_grid(c.nested)),
    "influence": lambda c: plots.influence(sensitivity.influence(c.fit())),
    "baujat": lambda c: plots.baujat(sensitivity.baujat(c.fit())),
    "radial": lambda c: plots.radial(sensitivity.radial(c.fit())),
    "qqnorm": lambda c: plots.qqnorm(sensitivity.qqnorm(c.fit(), seed=1, iterations=100)),
    "gosh": lambda c: plots.gosh(sensitivity.gosh(c.fit(), subsets=3000, seed=1)),
    "profile": lambda c: plots.profile(c.fit()),
    "profiles": lambda c: plots.profiles(c.levels),
    "resampled": lambda c: plots.resampled(sensitivity.bootstrap(c.fit(), seed=1, iterations=200)),
    "posterior": lambda c: plots.posterior(c.bayes),
    "posterior, new study": lambda c: plots.posterior(c.bayes, what="theta_new"),
    "prior_sensitivity": lambda c: plots.prior_sensitivity(c.bayes),
    "predictive": lambda c: plots.predictive(bayes.predictive_check(c.bayes, seed=1, draws=500)),
    "sequential": lambda c: plots.sequential(bayes.sequential(c.bayes)),
    "averaged": lambda c: plots.averaged(c.robma),
    "weight_function": lambda c: plots.weight_function(c.robma),
}
# What shows no effects of ours, drawn once.
ONCE: dict[str, Callable[[Case], Any]] = {
    "published_forest_data": lambda c: plots.forest(plots.published_forest_data(evidence.umbrella().frame)),
    "development": lambda c: plots.development(evidence.umbrella()),
    "prisma": lambda c: plots.prisma(flow(WHOLE)),
    "chains": lambda c: plots.chains(c.sampled, what=["mu", "tau"]),
    "prior": lambda c: plots.prior(bayes.priors.sensitivity_set()),
    "prior_predictive": lambda c: plots.prior_predictive(bayes.prior_predictive(n=50)),
}


@cache
def case(k: int) -> Case:
    """Return the case of this size, made once in a process."""
    return Case(k)


def draw(name: str, k: int, folder: Path, ending: str) -> list[tuple[str, str, str]]:
    """Draw one plot; return file, caption and text alternative of each page, or why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        try:
            drawn = (PLOTS.get(name) or ONCE[name])(case(k))
        except InputError as error:
            return [("", f"k = {k}", f"Not drawn: {error}")]
        except Exception:
            traceback.print_exc()
            return [("", f"k = {k}", "FAILED: see the terminal")]
        pages = drawn if isinstance(drawn, tuple) else (drawn,)
        found = []
        for i, page in enumerate(pages, start=1):
            slug = "-".join(name.replace(",", "").split())
            file = f"{slug}-{k}{f'-{i}' if len(pages) > 1 else ''}.{ending}"
            plots.save_figure(page, folder / file, **({"dpi": 90} if ending == "png" else {}))
            found.append((file, page.plot_title, page.plot_description))
    return found


def jobs(only: str) -> Iterator[tuple[str, int]]:
    """Yield what is to be drawn."""
    for name in (*PLOTS, *ONCE):
        if only in name:
            yield from ((name, k) for k in (SIZES if name in PLOTS else SIZES[1:2]))


def page(drawn: dict[tuple[str, int], list[tuple[str, str, str]]]) -> str:
    """Return the page: a heading for each plot, its figures with their text alternatives."""
    names = list(dict.fromkeys(name for name, _ in drawn))
    links = " · ".join(f'<a href="#{anchor(name)}">{html.escape(name)}</a>' for name in names)
    parts = [HEAD.format(links=links)]
    for name in names:
        parts.append(f'<section id="{anchor(name)}"><h2>{html.escape(name)}</h2>')
        for (_, k), figures in ((key, value) for key, value in drawn.items() if key[0] == name):
            parts += [figure(k, *one) for one in figures]
        parts.append("</section>")
    return "\n".join([*parts, "</main></body></html>\n"])


def anchor(name: str) -> str:
    """Return the id of a plot on the page."""
    return "-".join(name.replace(",", "").split())


def figure(k: int, file: str, caption: str, said: str) -> str:
    """Return one figure of the page."""
    if not file:
        return f"<p>{html.escape(caption)}: {html.escape(said)}</p>"
    alt, shown = html.escape(said), html.escape(caption)
    image = f'<a href="{file}"><img src="{file}" alt="{alt}" loading="lazy"></a>'
    return (
        f"<figure>{image}<figcaption>k = {k}. {shown} <details><summary>Text alternative</summary>{alt}</details>"
        f"</figcaption></figure>"
    )


HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Gallery</title>
<style>
body {{ margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font-family: system-ui, sans-serif; line-height: 1.45;
  color: #1a1a1a; background: #fff; color-scheme: light; }}
figure {{ margin: 1rem 0 2rem; }} img {{ max-width: 100%; height: auto; border: 1px solid #ccc; }}
figcaption {{ font-size: .85rem; }}
</style></head><body><main>
<h1>Every plot of alliance_meta</h1>
<p>Five and 30 effects are real (Tillman et al., 2011; for dependent effects the 53 of 19 studies of the relationship);
300 are made up, and so are draws of samplers: their figures say so. A click shows a figure in its own size.</p>
<nav aria-label="Plots">{links}</nav>"""


def main(arguments: list[str] | None = None) -> int:
    """Draw and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="plots whose name holds this")
    parser.add_argument("--format", default="svg", choices=("svg", "png"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    todo = list(jobs(chosen.only))
    with ProcessPoolExecutor(chosen.jobs) as pool:
        waiting = [pool.submit(draw, name, k, chosen.out, chosen.format) for name, k in todo]
        drawn = {key: one.result() for key, one in zip(todo, waiting, strict=True)}
    (chosen.out / "index.html").write_text(page(drawn), encoding="utf-8")
    files = sum(bool(file) for figures in drawn.values() for file, _, _ in figures)
    print(f"{files} figures: {chosen.out / 'index.html'}")
    failed = sorted({name for (name, _), figures in drawn.items() if any("FAILED" in one[2] for one in figures)})
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
