# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the simulated truth was
#
# **Question.** Published results are a selection. Several methods promise to find the mean that there was before it. Do
# they? Of a real literature nobody knows the answer. Of a made-up one we do, because we made it.
#
# **Data.** None. **Every number below is SYNTHETIC** and says nothing about psychotherapy. `simulate` writes a coding
# sheet as coders would have typed it, and keeps the truth beside it.

# %%
import warnings
from io import BytesIO

import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

import alliance_meta as am

# %% [markdown]
# ## 1. One literature
#
# The true mean is Fisher z = .15, true effects differ between studies with a standard deviation of .1, and a result
# that is not significant in the expected direction (one-sided *p* > .025) has a fifth of the chance of the others to
# appear.

# %%
truth = {"k": 30, "n": (20, 150), "mu": 0.15, "tau": 0.1}
selection = {"steps": [0.025], "weights": [1, 0.2], "by": "effect"}
sheet = am.simulate(**truth, selection=selection, seed=0)
fit = am.RandomEffectsModel(am.escalc(sheet)).fit()
drawn = sheet.truth.parameters["drawn"]
print(f"SYNTHETIC: {drawn} studies were made, {sheet.k} of them were published.")

# %% [markdown]
# What the published studies found, and what was true of these very studies:

# %%
known = sheet.truth.effects
pd.Series(
    {
        "mean of all studies there could be": sheet.truth.parameters["mean"],
        "mean true effect of the published": known["theta"].mean(),
        "mean observed effect of the published": known["yi"].mean(),
        "mean of the random-effects model": fit.beta[0],
    },
    name="Fisher z (SYNTHETIC)",
).to_frame().round(3)

# %% [markdown]
# Selection does two things. It prefers studies whose true effect is larger, and it prefers those that were lucky, which
# is the larger part here, where studies are small. In the funnel the
# white region on the left of the mean, where results are not significant, is thinned out:

# %%
am.plots.funnel(fit)

# %% [markdown]
# ## 2. What each method makes of it
#
# - *Trim and fill* puts in what would make the funnel symmetric.
# - *PET-PEESE* extrapolates to a study without sampling error.
# - *p-uniform* looks at significant results only and at how significant they are.
# - The *selection model* estimates how much more seldom the others appear. It supposes exactly what was done here, an
#   advantage that it never has in life.

# %%
methods = {
    "trim and fill": am.bias.trimfill,
    "PET-PEESE": am.bias.pet_peese,
    "p-uniform": am.bias.puniform,
    "selection model": am.bias.selmodel,
}
adjusted = {name: method(fit) for name, method in methods.items()}
am.plots.forest(fit, order="precision", summaries=adjusted)

# %% [markdown]
# The diamonds disagree, and knowing the truth, one could now point at the winner. That would be a mistake: with another
# seed another one wins. One literature says nothing about a method.
#
# ## 3. Many literatures
#
# So it is done again and again: literatures with selection, and, because a cure is also judged by what it does to the
# healthy, as many without. For each method there are three questions. How far off is it on average (*bias*)? How much
# does it scatter? And how often does its 95% interval hold the truth (*coverage*)?

# %%
REPLICATES = 20
rows = []
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always", am.errors.AllianceMetaWarning)
    for seed in range(REPLICATES):
        for literature, chosen in {"selected": selection, "complete": None}.items():
            made = am.simulate(**truth, selection=chosen, seed=seed)
            plain = am.RandomEffectsModel(am.escalc(made)).fit()
            rows.append([literature, "random effects", seed])
            rows[-1] += [plain.beta[0], plain.ci_lb[0], plain.ci_ub[0]]
            for name, ask in methods.items():
                one = ask(plain)
                rows.append([literature, name, seed, one.estimate, one.ci_lb, one.ci_ub])
columns = ["literature", "method", "seed", "estimate", "ci_lb", "ci_ub"]
runs = pd.DataFrame(rows, columns=columns)
missing, warned = runs["estimate"].isna().sum(), {one.category.__name__ for one in heard}
print(f"SYNTHETIC: {len(runs)} estimates, {missing} of them do not exist.")
print(f"{len(heard)} warnings: {', '.join(sorted(warned))}")

# %% [markdown]
# A simulation is a sample, too. With so few replicates its own error is large, and it belongs beside every number: the
# Monte Carlo standard error (MCSE) of a bias is the scatter over the root of the number of replicates, that of a
# coverage *c* is the root of *c*(1 − *c*) over it. Here the latter is taken at *c* = .95: what a perfect method would
# show by chance.

# %%
runs["off"] = runs["estimate"] - truth["mu"]
runs["holds"] = (runs["ci_lb"] <= truth["mu"]) & (truth["mu"] <= runs["ci_ub"])
groups = runs.groupby(["literature", "method"], sort=False)
summary = groups.agg(bias=("off", "mean"), scatter=("off", "std"), coverage=("holds", "mean"))
summary["mcse_bias"] = summary["scatter"] / np.sqrt(REPLICATES)
mcse_coverage = np.sqrt(0.95 * 0.05 / REPLICATES)
print(f"SYNTHETIC, Fisher z. MCSE of a coverage of .95: {mcse_coverage:.2f}")
summary[["bias", "mcse_bias", "scatter", "coverage"]].round(3)

# %%
names = list(groups.groups)
figure = Figure(figsize=(7, 4.4), layout="constrained")
ax = figure.subplots()
for row, name in enumerate(names):
    estimates = groups.get_group(name)["estimate"]
    ax.plot(estimates, np.full(len(estimates), row), "|", color="0.45", markersize=9)
    error = 1.96 * estimates.std() / np.sqrt(REPLICATES)
    ax.errorbar(estimates.mean(), row, xerr=error, fmt="o", color="#123456", capsize=3)
ax.axvline(truth["mu"], color="#b03a2e", linestyle="--")
ax.set_yticks(range(len(names)), [f"{method} ({literature})" for literature, method in names])
ax.invert_yaxis()
ax.set_xlabel("Mean effect (Fisher z); dashed: the truth. SYNTHETIC DATA")
png = BytesIO()
figure.savefig(png, dpi=110)
Image(png.getvalue(), alt="Estimates of each method beside the truth, SYNTHETIC DATA")

# %% [markdown]
# Each stroke is one literature, the dot the mean of a method with the interval that its Monte Carlo error leaves. Read
# the strokes first: they are what *one* reader with *one* literature gets.
#
# ## 4. Result
#
# - The uncorrected mean is far off under selection, and its interval, narrow as it is, seldom holds the truth.
# - Trim and fill takes back a small part of that.
# - p-uniform and the selection model come near the truth on average and cannot be told apart here. They pay for it:
#   they scatter half as much again as the uncorrected mean, or more. Where nothing was selected, that price is paid for
#   nothing.
# - PET-PEESE scatters most. With thirty studies of a similar size it extrapolates a long way from a short line.
#
# Whether a method moved the mean is better asked literature by literature than of the averages, because all methods saw
# the same ones:

# %%
found = runs.query("literature == 'selected'")
wide = found.pivot(index="seed", columns="method", values="estimate")
moved = wide.drop(columns="random effects").sub(wide["random effects"], axis=0)
table = pd.DataFrame({"moved the mean by": moved.mean(), "mcse": moved.sem()})
print("SYNTHETIC, selected literatures; Fisher z")
table.round(3)

# %% [markdown]
# ## 5. What this does not say
#
# Everything here hangs on the truth that was put in: thirty independent studies, normal true effects, one step at
# *p* = .025, nobody who tries until something is significant. `simulate` can make the others: `per_study=`,
# `p_hacking=`, `unreported=`, `reliability=`. Change the first cell of section 1, raise `REPLICATES` to a thousand for
# a paper, and report the Monte Carlo errors. And no simulation says which of these worlds a real literature comes from:
# that is why `05_is_the_literature_telling_us_everything` asks all methods at once.
