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
# # A first meta-analysis of correlations
#
# A meta-analysis of correlations asks three things of a set of studies. How strong is the relation on average? How
# much does it differ from study to study? And what should be expected in the next study? This notebook answers them
# twice, from the table of studies to the sentence in a paper, and shows which of your choices move the answer.
#
# Two data sets are used, and neither is about the therapeutic alliance. No study-level table of an
# alliance–outcome meta-analysis is openly available.
#
# - `molloy2014` is about conscientiousness and taking one's medication. It is here because its results are
#   printed, digit by digit, in the documentation of another program: you can check every number.
# - `kolden2011_congruence` is about the therapy *relationship*: how genuine (congruent) therapists are, and how
#   well their patients do.

# %%
import pandas as pd
from IPython.display import Markdown

import alliance_meta as am

# %% [markdown]
# ## 1. The data
#
# Every data set comes with a card: what the rows are, where they were read, what a positive sign means, and what
# you must not do with them. Read the cautions first.

# %%
molloy = am.load_dataset("molloy2014")
molloy.card

# %% [markdown]
# What a meta-analysis needs from each study is little: a correlation `r` and the number of people `n` behind it.
# The other columns describe the studies and may explain why they differ.

# %%
molloy.frame[["study", "year", "n", "r", "controls", "design"]].head()

# %% [markdown]
# ## 2. Effect sizes
#
# A correlation from 700 people is known better than one from 50. `escalc` gives each study its effect size `yi` and
# the sampling variance `vi` that says how far chance alone would move it. The default effect size is Fisher's
# *z* = atanh(*r*), because its variance, 1/(*n* − 3), does not depend on the correlation itself. Small correlations
# hardly change: *z* and *r* part ways only above about .4.

# %%
effects = am.escalc(molloy, measure="ZCOR")
effects.frame[["slab", "r", "n", "yi", "vi"]].head()

# %% [markdown]
# ## 3. The model
#
# The random-effects model lets every study have its own true effect, drawn from a distribution with a mean and a
# variance. It estimates both: the mean effect, and τ² (`tau2`), the variance between studies.

# %%
fit = am.RandomEffectsModel(effects, method="REML", test="knha").fit()
print(fit)

# %% [markdown]
# Line by line:
#
# - **Random-effects model (k …; tau2 estimator: REML)**: how many effects, and how τ² was estimated. Programs
#   differ here, and so do their numbers.
# - **Fisher z (ZCOR)**: the scale of everything down to the coefficient table.
# - **Inference: Knapp-Hartung (t)**: how the confidence interval was made. With few studies it keeps its promise
#   better than the older interval from the normal distribution.
# - **tau2, tau**: variance and standard deviation of the true effects between studies. The interval is wide
#   because a handful of studies say little about a variance.
# - **I2**: the share of the observed variance that is *not* chance. It is a share, not an amount: large studies give
#   a high I² even when the true effects are close together. Two formulas are in use, hence two numbers.
# - **Heterogeneity: QE**: a test that all studies share one true effect.
# - **intrcpt**: the mean effect on the *z* scale, with standard error, test and confidence interval.
# - **As r**: the same, back on the scale people read. The median of the true correlations is tanh of the mean *z*; the
#   mean of the true correlations is a little nearer to zero.
# - **prediction interval**: where the true effect of one new study is expected. Section 5 comes back to it.
# - **Caution**: what the data card said. Cautions travel with every result and every report.
#
# The numbers are there unrounded too: `fit.tidy()` has one row per coefficient, `fit.glance()` one per model.

# %%
fit.glance().T

# %% [markdown]
# ## 4. The forest plot
#
# One line per study, the largest weights as the largest squares; the diamond is the mean with its confidence
# interval, and the bar under it is the prediction interval. Look at the plot before you believe the summary: it
# shows single odd studies, groups, and whether small studies tell another story than large ones.

# %%
am.plots.forest(fit, columns=["design"], order="effect")

# %% [markdown]
# ## 5. The mean and the next study
#
# The confidence interval and the prediction interval answer different questions, and the difference matters to
# anyone who works in one clinic rather than in the average of all studies.

# %%
expected = fit.predict(scale="r").iloc[0]
expected.round(3)

# %%
Markdown(
    f"The **mean** true correlation over studies like these lies, with 95% confidence, "
    f"between {expected.ci_lb:.2f} and {expected.ci_ub:.2f}. But studies differ: the true "
    f"correlation in **one new study** of this kind is expected between "
    f"{expected.pi_lb:.2f} and {expected.pi_ub:.2f}."
)

# %% [markdown]
# The first interval gets narrower as studies are added. The second hardly does: it holds the differences between
# studies, and no number of studies makes them go away. Where it reaches below zero, a new study may well find no
# relation or a reversed one, whatever the mean is.
#
# ## 6. Is that what others got?
#
# `reproduce` computes the printed results anew and says whether they agree to the last printed digit, and by which
# route: effect size, estimator, inference. The interval in section 3 is not the printed one, because the
# documentation used the normal distribution (`test="z"`). Same data, same mean, another interval.

# %%
check = am.evidence.reproduce("molloy2014")
check[["quantity", "scale", "printed", "ours", "agrees", "route"]]

# %% [markdown]
# Where something does not agree to the last digit, the note says why, if anybody knows:

# %%
check.query("agrees == False")[["quantity", "printed", "ours", "note"]].to_dict("records")

# %% [markdown]
# ## 7. Which choice makes the difference?
#
# Most disagreements between two people with the same table come from a choice that nobody wrote down. To see which
# ones matter, take a second set beside the first: the therapist's congruence and outcome (relationship data, not
# alliance data).

# %%
kolden = am.load_dataset("kolden2011")
am.plots.forest(am.RandomEffectsModel(am.escalc(kolden)).fit(), order="effect")

# %% [markdown]
# Now one choice is changed at a time, for both data sets: the **estimator** of τ², the **scale** on which the effects
# are pooled, and the **interval**.

# %%
choices = {
    "defaults: REML, Fisher z, Knapp-Hartung": ("ZCOR", {}),
    "estimator: DerSimonian-Laird": ("ZCOR", {"method": "DL"}),
    "estimator: Paule-Mandel": ("ZCOR", {"method": "PM"}),
    "scale: raw r": ("COR", {}),
    "interval: normal": ("ZCOR", {"test": "z"}),
    "equal effects (no tau2), normal": ("ZCOR", {"method": "EE", "test": "z"}),
}
tables = {"molloy2014": molloy, "kolden2011": kolden}
fits = {
    (name, words): am.RandomEffectsModel(am.escalc(table, measure=measure), **options).fit()
    for name, table in tables.items()
    for words, (measure, options) in choices.items()
}

# %%
results = pd.concat({key: one.predict(scale="r") for key, one in fits.items()}).droplevel(2)
results.drop(columns="se").round(3)

# %% [markdown]
# How far does each choice move the estimate, and how wide does it make the two intervals?

# %%
defaults = results["pred"].xs("defaults: REML, Fisher z, Knapp-Hartung", level=1)
difference = results.assign(
    moved=results["pred"].sub(defaults, level=0).abs(),
    ci_width=results["ci_ub"] - results["ci_lb"],
    pi_width=results["pi_ub"] - results["pi_lb"],
)[["moved", "ci_width", "pi_width"]]
difference.round(3)

# %%
most = difference["moved"].unstack(0).idxmax()
least = difference["ci_width"].unstack(0).idxmin()
Markdown(
    "\n".join(
        f"- In `{name}` the estimate moves most with “{most[name]}”, by "
        f"{difference['moved'][name].max():.3f}; the narrowest confidence interval "
        f"comes from “{least[name]}”."
        for name in tables
    )
)

# %% [markdown]
# Estimators of τ² matter little where they agree about τ², and much where large studies say something else than small
# ones, because τ² decides how evenly the studies are weighted. Equal effects are the extreme: a handful of large
# studies speak for all. That model assumes one true effect for every study. It has no prediction interval, because it
# leaves no room for a new study to differ, and where studies do differ its confidence interval is too narrow.
#
# What is meant by “the correlation” is a choice as well. The *median* of the true correlations (tanh of the mean *z*)
# and their *mean* part ways when studies differ much:

# %%
default = fits["kolden2011", "defaults: REML, Fisher z, Knapp-Hartung"]
both = pd.concat([default.predict(scale="r"), default.predict(scale="r_mean")])
both.index = ["median (scale='r')", "mean (scale='r_mean')"]
both[["pred", "ci_lb", "ci_ub"]].round(3)

# %% [markdown]
# And the article itself? Not every printed number can be reached again, even from the article's own table;
# `reproduce` says so instead of hiding it. One number that happens to round to the printed one, such as the mean above,
# is not yet the authors' route: the interval has to fit as well.

# %%
kolden_check = am.evidence.reproduce("kolden2011_congruence").query("quantity == 'estimate'")
kolden_check[["result", "printed", "ours", "agrees", "route"]]

# %%
print(kolden_check["note"].iloc[0])

# %% [markdown]
# ## 8. Why do the studies differ? Moderators
#
# Back to `molloy2014`. Some studies report the plain correlation (`controls` is `none`), others one that holds
# further variables constant (`multiple`). A moderator goes into a formula; a column of text is categorical.

# %%
moderated = am.RandomEffectsModel(effects, mods="controls").fit()
print(moderated)

# %% [markdown]
# - **Test of moderators**: do the groups differ at all?
# - **intrcpt** is the mean of the first group in the alphabet (`multiple`); **controls[T.none]** is how much the other
#   group (`none`) lies above it, on the *z* scale. A difference, not a mean!
# - **R2** is the share of the variance between studies that the moderator accounts for. With few studies R²
#   jumps about: 100% here means that nothing is left beyond chance, not that everything is understood.
#
# The mean of each group, as correlations, comes from `predict`:

# %%
moderated.predict({"controls": ["none", "multiple"]}, scale="r").round(3)

# %%
am.plots.forest(fit, by="controls", order="effect")

# %% [markdown]
# A moderator analysis compares studies that differ in many ways at once. Studies that control for other variables
# answer another question than those that do not, so this difference is expected; in general, a difference between
# groups of studies is an observation and not a cause.
#
# ## 9. What to write
#
# The sentences for the methods section follow from the settings of the fit, and so does the R code that gives the
# same numbers in metafor.

# %%
print(fit.methods_text())

# %%
print(fit.r_code())

# %% [markdown]
# ## What this notebook leaves out
#
# Each study gave one effect here. Several effects from the same people (two raters, three questionnaires) are not
# independent, and this model must not be used on them as they stand. Nor was anything said about studies that were
# never published.
#
# The next notebook, `02_from_coding_sheet_to_report`, begins with a sheet of your own.
