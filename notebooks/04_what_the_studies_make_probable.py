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
# # What the studies make probable
#
# A confidence interval is about the method: in the long run 95 of 100 such intervals hold the true mean. What a reader
# mostly wants is about the effect: how probable is it that the mean correlation is above .1, and what should the next
# study expect? That takes one thing more than data: what was plausible beforehand, the *prior*. This notebook goes from
# the prior to the answer and asks at each step how much the prior decides.
#
# **The data.** Sixteen studies of the therapist's congruence (genuineness) and outcome, from Kolden et al. (2011), as
# recoded by Maassen et al. (2020). They are about the *therapy relationship*, not about the alliance.

# %%
import alliance_meta as am

table = am.load_dataset("kolden2011_congruence")
effects = am.escalc(table, ri="r_recoded", ni="n_recoded")
effects

# %% [markdown]
# ## 1. Before the data
#
# The default priors are for correlations on Fisher's z: a normal one around 0 for the mean effect, and one of τ, the
# standard deviation of true effects between studies. In the words of correlations they say:

# %%
print(am.bayes.prior_predictive())

# %%
am.plots.prior([am.priors.TAU, am.priors.TAU_FOUND, am.priors.HalfCauchy(0.15)])

# %% [markdown]
# The second of these is not an opinion: it describes the τ that 202 published meta-analyses of correlations in
# psychology found. It leaves less room near 0 than the default, because a log-normal distribution never reaches 0.
#
# ## 2. After the data
#
# No chain is run here. Given τ everything is normal, so that one integral is left; it is solved in milliseconds, and
# the summary says how accurately.

# %%
fit = am.BayesianModel(effects).fit()
fit

# %%
am.plots.forest(fit, order="effect")

# %% [markdown]
# Squares are the studies as they stand. The circle below each is its true effect in the light of all others: small
# studies with large correlations are pulled towards the mean, as far as τ lets them.

# %%
am.plots.posterior(fit, what="mu", scale="r")

# %%
questions = ("mu > 0", "mu > 0.1", "mu > 0.3", "theta_new > 0", "theta_new > 0.1")
for question in questions:
    print(f"P({question}) = {fit.prob(question, scale='r'):.4f}")

# %% [markdown]
# The mean correlation is almost certainly positive; the true correlation of a single new study much less so. A Bayes
# factor says how much likelier the data are with a mean effect, or with differences between studies, than without:

# %%
for hypothesis in ("mu = 0", "tau = 0"):
    print(fit.bayes_factor(hypothesis))

# %% [markdown]
# ## 3. How much did the prior decide?

# %%
am.plots.prior_sensitivity(fit)

# %%
fit.power_scaling()

# %% [markdown]
# Under every prior of τ the mean is much the same. A sceptic who holds that mean correlations are hardly ever above .2
# (a normal prior with standard deviation .1) ends elsewhere, and may; what matters is that one can see it:

# %%
sceptic = am.BayesianModel(effects, mu_prior=am.priors.Normal(0, 0.1)).fit()
sceptic.predict(scale="r").round(3)

# %% [markdown]
# ## 4. Does the model fit?
#
# Would the model, with what it has learnt, produce results like the observed ones?

# %%
check = fit.predictive_check(seed=1)
print(check)

# %% [markdown]
# ## 5. Year by year
#
# What would a reader have concluded after each year, and was any result a surprise after those before it?

# %%
dated = am.escalc(am.load_dataset("molloy2014"))
years = am.bayes.sequential(am.BayesianModel(dated).fit(), order="year")
am.plots.sequential(years)

# %% [markdown]
# (These are studies of conscientiousness and taking one's medication, a set that has years; Kolden's table has none.)
#
# ## 6. The next study
#
# What the synthesis predicts for the true effect of a new study is the prior with which to analyse that study.

# %%
print(fit.posterior("theta_new", scale="r"))
new = fit.posterior("theta_new")
print(am.priors.Normal(new.mean, new.sd))

# %% [markdown]
# ## 7. What this does not say
#
# A posterior is about the model as much as about the studies: independent studies, normal true effects, nothing
# withheld. Nor does P(μ > 0) near 1 say that the relation is large or that it is causal.
#
# Heavy tails, the exact distribution of *r*, crossed raters, curves over time: for these quadrature ends, and there are
# models for PyMC, with the same priors. `09_drawing_from_the_posterior` goes there.
