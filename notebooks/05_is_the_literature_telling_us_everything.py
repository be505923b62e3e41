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
# **Question.** Studies that find something are published more readily than studies that do not. The mean of what was
# published is then too far from 0, and no method can see what is missing. What one can do is to suppose a way in which
# results go missing, and ask what the mean would be if that were how it went. Does the conclusion survive?
#
# **Data.** Class attendance and grades: 97 correlations of 68 studies (Credé et al., 2010). They are **not** about the
# alliance, whose study-level tables are not openly available; they are large, real and dependent.

# %%
import alliance_meta as am

fit = am.che(am.escalc(am.load_dataset("crede2010")))
fit.predict(scale="r").round(3)

# %% [markdown]
# ## 1. Look
#
# The more people a study has, the higher it stands. Without selection the points scatter evenly to both sides of the
# mean, and beyond the dotted limits, because true effects differ. Selection would take away points from the white
# region, where *p* > .05.

# %%
am.plots.funnel(fit)

# %% [markdown]
# Nearly all results are *affirmative*: significant and positive. That is what strong effects look like, and also what
# a literature looks like that kept the rest to itself. The picture cannot tell.
#
# ## 2. Method: every supposition side by side
#
# Of a real literature nobody knows how it was selected. So ask all methods and read how far they lie apart. Several
# effects of one study are taken as dependent wherever a method can; where it cannot, the panel says what it did.

# %%
panel = am.bias.panel(fit)
panel

# %%
am.plots.bias_panel(panel)

# %% [markdown]
# ## 3. Result: three suppositions looked at closely
#
# **Results that are not significant appear more seldom.** A selection model estimates how much more seldom, and the
# mean before selection. A weight of 1 is no selection; look at how wide its interval is.

# %%
model = am.bias.selmodel(fit)
am.plots.selection_weights(model)

# %% [markdown]
# **Only results that are not affirmative can be trusted.** That is the worst case: it rests on the few of them that
# there are, and is the one row of the panel far below the others. How strong would the preference for affirmative
# results have to be, until the mean is that low?

# %%
am.plots.worst_case(fit)

# %% [markdown]
# **It was not selected, but where it was published matters.** Dissertations are written whatever they find. Here their
# mean is the *higher* one, which selection would not make:

# %%
by_source = am.che(fit.effects, mods="source")
by_source.predict({"source": ["journal", "dissertation", "other"]}, scale="r").round(2)

# %% [markdown]
# (`07_what_makes_studies_differ` asks more of these groups.)
#
# ## 4. What to write
#
# Not "there was no publication bias", which no test can show. Write what each supposition would make of the mean, and
# whether your conclusion survives all of them or only some:

# %%
print(panel.spread())

# %% [markdown]
# ## 5. What this does not say
#
# - **Not which supposition is right.** The panel is a list of answers to different questions, not a vote.
# - **Not how good these methods are.** That takes literatures whose truth is known:
#   `08_what_the_simulated_truth_was`.
# - **Nothing about other biases.** Studies can all be there and all be wrong in the same way, for example because the
#   same person rated both sides of the correlation.
