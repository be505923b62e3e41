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
# # Several effects from one study
#
# Studies of the therapy relationship seldom report one correlation. They have several raters, several outcomes and
# several times, all from the same patients. Treating these rows as if they came from different studies counts the same
# people again and again; choosing one row by hand throws the others away. This notebook shows the usual ways between.
#
# **The data.** Nineteen primary studies of the therapist's congruence or positive regard and outcome, 53 correlations,
# recoded from the papers by Maassen et al. (2020). They are about the *therapy relationship*, not about the alliance,
# and they are few and small: what follows shows the method.

# %%
import alliance_meta as am

table = am.load_dataset("relationship_dependent_effects")
for caution in table.card.cautions:
    print("!", caution)

# %% [markdown]
# The signs of one study are not aligned with the others, so its rows must not be pooled. It stays out, and every result
# made from here says so.

# %%
rows = table.query(table.card.subset)
direction = "positive = a better relationship goes with a better outcome"
effects = am.escalc(rows, direction=direction)
effects.frame.groupby("study").size().sort_values(ascending=False).head()

# %% [markdown]
# ## 1. Two reasons why effects of one study hang together
#
# *Their true effects are alike*: same therapists, same setting, same measures. That is a matter of the model: a random
# effect for studies and one for the rows within them.
#
# *Their sampling errors are alike*: they come from the same people, and whoever was above average by chance was so on
# every measure. That is the covariance **V** of the sampling errors. Papers hardly ever print what it takes to compute
# it, so it is assumed, here a correlation of .6, and the assumption is varied later.

# %%
V = am.impute_V(effects, cluster="study_id", rho=0.6)
print(V)

# %%
model = am.MultilevelModel(effects, V=V, random=("study_id", "es_id"))
fit = model.fit()
fit

# %% [markdown]
# `sigma2[study_id]` is the variance of true effects between studies, `sigma2[es_id]` that between the rows of a study.
# The degrees of freedom are those of studies: twelve rows of one paper do not make thirteen papers.
#
# ## 2. If the assumptions are wrong
#
# The correlation of .6 is a guess. Cluster-robust standard errors stay right when it is wrong, as long as studies are
# independent of each other; with few studies they need a correction (CR2) and their own degrees of freedom.

# %%
robust = fit.robust(cluster="study_id", type="CR2")
robust

# %% [markdown]
# The two steps together are the *correlated and hierarchical effects* model of Pustejovsky and Tipton (2022), in one
# call:

# %%
same = am.che(effects, cluster="study_id", rho=0.6)
same.tidy().round(4)

# %% [markdown]
# ## 3. What each study says
#
# Studies first, their effects beneath them. The diamond is the mean effect of the model.

# %%
am.plots.forest(robust)

# %% [markdown]
# ## 4. Does the method matter?
#
# The same rows by every usual method. One effect per study needs a rule, declared before looking; here the rating of
# the client goes first.

# %%
raters = {"rater": ["client", "observer", "therapist"]}
rule = {"by": raters, "unlisted": "last", "ties": "mean"}
comparison = am.sensitivity.compare_dependence(
    effects,
    cluster="study_id",
    rho=0.6,
    select=rule,
)
print(comparison)

# %%
am.plots.dependence(comparison)

# %% [markdown]
# ## 5. Does the assumed correlation matter?

# %%
assumed = (0.0, 0.2, 0.4, 0.6, 0.8)
grid = am.sensitivity.rho_grid(lambda rho: am.che(effects, rho=rho), rho=assumed)
grid.tidy().round(3)

# %% [markdown]
# ## 6. Who rates the relationship?
#
# The rater is not coded for every row; rows without it drop out and are named. Put into the model as it is:

# %%
coded = am.escalc(rows.query("rater == rater"), direction=direction)
naive = am.che(coded, mods="rater", cluster="study_id", rho=0.6)
naive.predict(raters, scale="r").round(2)

# %% [markdown]
# Observers far above clients? Most studies asked only one of them, so most of the comparison is between studies, which
# differ in much else; and of the studies that asked both, one says nearly everything, because two ratings of the *same*
# patients are compared with little sampling error. `split_within` takes the moderator apart: `_within` compares raters
# in the same study, `_between` compares studies by whom they asked.

# %%
parts = am.effects.split_within(coded, "rater", reference="client")
for note in parts.notes:
    print("*", note)

# %%
within = "rater_observer_within + rater_therapist_within"
between = "rater_observer_between + rater_therapist_between"
am.che(parts, mods=f"{within} + {between}", cluster="study_id", rho=0.6)

# %% [markdown]
# Look at the notes and the degrees of freedom before the *p* values. One study had clients and observers, another one
# clients and therapists; no correction makes one study into several. An honest report says that these rows cannot
# answer the question, and what kind of study could.
#
# ## 7. What this does not say
#
# Robust standard errors protect from a wrong correlation within studies, not from studies that depend on each other,
# and not from rows that were chosen because they were significant. `07_what_makes_studies_differ` asks moderators of a
# set that is large enough to answer.
