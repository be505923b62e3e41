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
# # Would you have concluded the same?
#
# A meta-analysis is a chain of choices: which effects, which model, which correlation of errors within a study, what to
# do about outliers. A reviewer asks whether the answer hangs on one study, one choice or one rater. This notebook asks
# that of 97 correlations between class attendance and grades in 68 studies (Credé et al., 2010). They are **not** about
# the alliance, whose study-level tables are not openly available; they are real, and several come from one study.

# %%
import alliance_meta as am

effects = am.escalc(am.load_dataset("crede2010"))
fit = am.che(effects)
fit.predict(scale="r")

# %% [markdown]
# ## 1. Does it hang on one study?
#
# Everything is estimated again without each study in turn.

# %%
without = am.sensitivity.leave_one_out(fit, by="study")
without

# %% [markdown]
# How hard does each study pull, and in what: the mean, the heterogeneity, the prediction interval?

# %%
am.plots.influence(am.sensitivity.influence(fit, by="study"))

# %% [markdown]
# Baujat's plot names the studies that add most to the heterogeneity and move the mean most.

# %%
am.plots.baujat(am.sensitivity.baujat(fit, by="study"))

# %% [markdown]
# ## 2. Does it hang on one choice?
#
# The battery changes one thing at a time: the model, the part of the effects, the assumption about a biased literature,
# measurement error. Each row that does not apply to this sheet says why.

# %%
battery = am.sensitivity.battery(effects)
battery

# %%
am.plots.battery(battery)

# %% [markdown]
# ## 3. What if all choices were made otherwise at once?
#
# A multiverse follows every combination of defensible choices. The curve sorts their results; the grid below says which
# choice each one made. Nobody can defend taking all effects as independent; it is there to show what that does.

# %%
not_done = am.sensitivity.Option("independent", "to see what it does")
choices = {
    "dependence": ["CHE", "three-level", "mean", not_done],
    "rho": [0.6, 0.4, 0.8],
    "outliers": [None, "intervals"],
    "estimator": ["REML", "DL", "PM"],
}
multiverse = am.sensitivity.multiverse(effects, choices=choices)
multiverse

# %%
am.plots.specification_curve(multiverse)

# %% [markdown]
# ## 4. When did we know?
#
# The same synthesis after each year.

# %%
sheet = am.escalc(am.load_dataset("molloy2014"))
yearly = am.sensitivity.cumulative(am.RandomEffectsModel(sheet).fit(), order="year")
am.plots.cumulative(yearly)

# %% [markdown]
# ## 5. What to write
#
# Not one sentence about "robust results", but between which values the mean lies under which choices:

# %%
print(battery.spread())
print(battery.fragile_text())

# %% [markdown]
# ## 6. What this does not say
#
# A mean that does not move under any choice can still be wrong, if all studies share a fault: no choice here changes
# the studies. And choices that agree are not replications; all of them saw the same data.
