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
# # Drawing from the posterior
#
# **Question.** Most Bayesian models can only be solved by drawing from the posterior, and draws can go wrong without
# looking wrong. When may they be used? A model that can *also* be solved exactly gives the answer away.
#
# **Data.** Sixteen studies of the therapist's congruence (genuineness) and outcome, from Kolden et al. (2011), as
# recoded by Maassen et al. (2020). They are about the *therapy relationship*, not about the alliance.
#
# **Method.** The same model twice. `BayesianModel` solves it by quadrature, in milliseconds, as in
# `04_what_the_studies_make_probable`. `bayes.pymc` writes it in PyMC, and `bayes.sample` draws from it by NUTS, a
# Hamiltonian Monte Carlo method.

# %%
import warnings

import pandas as pd

import alliance_meta as am

effects = am.escalc(am.load_dataset("kolden2011_congruence"), ri="r_recoded", ni="n_recoded")
exact = am.BayesianModel(effects).fit()

# %% [markdown]
# ## 1. The model
#
# Each study has a true effect, normal around μ with standard deviation τ; what it observed is normal around that. The
# priors are the same objects as in the exact engine. What comes back is an ordinary `pymc.Model`, to be looked at and
# changed with everything that PyMC has.

# %%
model = am.bayes.pymc.normal_normal(effects)
print("free:", [variable.name for variable in model.free_RVs])
print("priors:", exact.priors)

# %% [markdown]
# Only two parameters are drawn. The true effects of the studies are integrated out, because drawing them as well goes
# wrong where τ is near 0; they come back afterwards, given μ and τ.
#
# ## 2. Too few draws
#
# PyMC's own sampler is used here, because it is compiled soonest; the default, `nutpie`, takes longer to compile and is
# much faster then. First far too few draws:

# %%
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always", am.errors.ConvergenceWarning)
    few = {"draws": 250, "tune": 500, "chains": 2}
    hasty = am.bayes.sample(model, seed=1, cores=1, sampler="pymc", **few)
for one in heard:
    print(f"{one.category.__name__}: {one.message}")

# %% [markdown]
# Every use of such draws warns again. Here they are shown on purpose, so that once is enough.

# %%
warnings.simplefilter("ignore", am.errors.ConvergenceWarning)
hasty

# %% [markdown]
# The numbers look fine. The gate says that they must not be used: R-hat compares the chains with each other, and the
# *effective* draws are how many independent ones would be worth as much. Interval ends need more of them than means.
# The warning is also in `hasty.notes`, and with it in every table, plot and report made of these draws.

# %%
am.plots.chains(hasty)

# %% [markdown]
# On the left chains should look like grass, without trends; on the right, were the chains alike, nearly all bars would
# end between the dotted lines.
#
# ## 3. Enough draws

# %%
more = {"draws": 1000, "tune": 500, "chains": 4}
drawn = am.bayes.sample(model, seed=1, cores=1, sampler="pymc", **more)
drawn

# %%
am.plots.chains(drawn)

# %% [markdown]
# ## 4. Result: the exact answer beside it
#
# Draws have an error of their own. A difference from the exact answer should be of the size of the Monte Carlo error
# (MCSE) of the mean, and hardly ever above three times that.

# %%
rows = {}
for what in ("mu", "tau", "theta_new"):
    solved = exact.posterior(what)
    for label, one in {"hasty": hasty, "enough": drawn}.items():
        found = one.posterior(what)
        rows[what, label] = {
            "exact": solved.mean,
            "drawn": found.mean,
            "mcse": found.mcse_mean,
            "apart, in mcse": abs(found.mean - solved.mean) / found.mcse_mean,
            "exact sd": solved.sd,
            "drawn sd": found.sd,
        }
pd.DataFrame(rows).T.round(4)

# %% [markdown]
# If the hasty draws came near as well, that is known from the exact answer alone. Without it nothing in them tells
# whether they did, and so the gate refuses them. For a reader the two ways say the same about the next study:

# %%
for label, one in {"exact": exact, "drawn": drawn}.items():
    print(f"{label:6} P(theta_new > 0.1) = {one.prob('theta_new > 0.1', scale='r'):.3f}")

# %%
am.plots.forest(drawn, order="effect")

# %% [markdown]
# ## 5. Where only draws are left
#
# Heavy tails (`t_effects`), the exact distribution of *r* (`exact_correlation`), crossed raters (`crossed`), curves
# over time (`smooth`), τ that differs between groups (`group_tau`): all are in `am.bayes.pymc` and take the place of
# `normal_normal` above. Sections 2 and 3 stay as they are; section 4 is then missing, and the gate is all there is.
#
# ## 6. What this does not say
#
# - Chains that agree show that the *posterior* was found, not that the model is right. For that there is
#   `predictive_check` (in `04_what_the_studies_make_probable`), and reading the studies.
# - That this model could be checked exactly does not check others. It checks the sampler, and that both ways hold the
#   same priors.
# - No number of draws makes sixteen studies into more: the posterior of τ is as wide as it was.
