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
# # Is the literature telling us everything?
#
# Studies that find something are published more readily than studies that do not. The mean of what was published is
# then too far from 0, and no method can see what is missing. What one can do is to suppose a way in which results go
# missing, and ask what the mean would be if that were how it went. This notebook first makes a literature whose truth
# is known, then looks at a real one.
#
# ## 1. A literature whose truth we know
#
# Sixty studies with a true mean correlation of about .15, where results that are not significant in the expected
# direction had a chance of one in five to appear. **These data are synthetic**: they say nothing about psychotherapy.

# %%
import alliance_meta as am

selection = {"steps": [0.025], "weights": [1, 0.2], "by": "effect"}
sheet = am.simulate(k=60, n=(20, 150), mu=0.15, tau=0.1, selection=selection, seed=7)
effects = am.escalc(sheet)
fit = am.RandomEffectsModel(effects).fit()
fit.predict(scale="r")

# %% [markdown]
# The mean of what appeared is well above .15. The funnel shows why: among small studies, those that found little are
# missing, and the empty place is the white region where p > .05.

# %%
am.plots.funnel(fit)

# %% [markdown]
# ## 2. Undoing it
#
# A selection model estimates how much more seldom a result with p > .025 (one-sided) is seen, and the mean before
# selection. Here it supposes exactly what we did, so that it should come near the truth.

# %%
model = am.bias.selmodel(fit)
model

# %%
am.plots.selection_weights(model)

# %% [markdown]
# ## 3. Every method side by side
#
# Of a real literature nobody knows how it was selected. So ask all methods, the most pessimistic one first, and read
# how far they lie apart.

# %%
panel = am.bias.panel(fit)
panel

# %%
am.plots.bias_panel(panel)

# %% [markdown]
# ## 4. A real literature, with several effects per study
#
# Class attendance and grades (Credé et al., 2010): 97 correlations of 68 studies. They are **not** about the alliance,
# whose study-level tables are not openly available; they are large, real and dependent.

# %%
grades = am.che(am.escalc(am.load_dataset("crede2010")))
found = am.bias.panel(grades)
found.tidy()[["label", "r", "r_lb", "r_ub"]]

# %%
am.plots.funnel(grades)

# %% [markdown]
# Nearly all results are affirmative: significant and positive. The worst case rests on the few that are not, and is
# the one row far below the others. How strong would the preference for affirmative results have to be?

# %%
worst = am.bias.worst_case(grades)
am.plots.worst_case(grades)

# %% [markdown]
# ## 5. What to write
#
# Not "there was no publication bias", which no test can show. Write what each supposition would make of the mean, and
# whether your conclusion survives all of them or only some:

# %%
print(found.spread())
