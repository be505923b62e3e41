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
# # What makes studies differ?
#
# **Question.** Does a correlation depend on what was measured, where it was published and when? And is a difference
# between groups of studies a difference that any single study shows?
#
# **Data.** Class attendance and grades: 97 correlations of 68 studies (Credé et al., 2010). They are **not** about the
# alliance, whose study-level tables are not openly available. They are here because they are real, many, and several
# come from one study. In a table on the alliance the moderators would be raters, treatments and settings.

# %%
import pandas as pd

import alliance_meta as am

table = am.load_dataset("crede2010")
effects = am.escalc(table)
for caution in table.card.cautions:
    print("!", caution)

# %% [markdown]
# Count before you compare. A level with few *studies* knows little, however many effects these have, and two moderators
# whose levels go together cannot be told apart.

# %%
coded = effects.frame.groupby(["source", "criterion"])
coded.agg(effects=("yi", "size"), studies=("study", "nunique"), people=("ni", "sum"))

# %% [markdown]
# `people` counts somebody twice who is in two rows: that is the dependence that follows.
#
# ## 1. Method
#
# Effects of one study are alike twice over: their true values are, and their sampling errors are, because they come
# from the same people. `che` is the *correlated and hierarchical effects* model (Pustejovsky & Tipton, 2022): random
# effects for studies and for effects within them, sampling errors of one study correlated at an assumed .6, and
# standard errors that stay right if that is wrong, as long as studies are independent of each other.
#
# `moderator_table` asks each moderator alone, then all of them together, and corrects for having asked several times.
# One test is made per moderator, not one per level.

# %%
moderators = ["criterion", "source", "class", "year"]
answers = am.moderator_table(effects, moderators)
answers

# %% [markdown]
# ## 2. Result: groups of studies
#
# Read the table from right to left. *Studies* and the degrees of freedom of the tests say how much a row can know: the
# second number of `HTZ(1, 4.01)` is that of `year`, where a few old studies decide the slope, and no *p* value from
# four degrees of freedom should be trusted far. *contr.* is the mean at that level with the other moderators held
# constant, from the effects that have them all. *95% PI* is where the true correlation of one new study of that kind
# is expected; these intervals overlap nearly everywhere.

# %%
am.plots.moderators(answers)

# %% [markdown]
# The largest contrast is that of dissertations and journal articles. The orchard shows what it rests on: every dot is
# an effect, the larger the more precise.

# %%
am.plots.orchard(answers, by="source")

# %% [markdown]
# Three levels make three comparisons. Each is tested with the correction for the others:

# %%
by_source = am.che(effects, mods="source")
compared = am.moderators.pairwise(by_source, "source").tidy()
compared[["estimate", "se", "pval", "pval_adjusted"]].round(4)

# %% [markdown]
# Publication bias would make journal articles the *stronger* ones. Here dissertations are, which that story does not
# explain; a dozen studies that were not drawn at random could do it.
#
# ## 3. Result: within the same study
#
# Correlations with the grade of one course are higher on average than those with the grade point average over all
# courses. But are these the same kind of studies? Some report both. `split_within` takes the moderator apart:
# `_within` compares the two in the same students, `_between` compares studies by what they asked for.

# %%
parts = am.effects.split_within(effects, "criterion", reference="gpa")
split = am.che(parts, mods="criterion_grade_within + criterion_grade_between")
split.tidy()[["estimate", "se", "ddf", "pval", "ci_lb", "ci_ub"]].round(3)

# %% [markdown]
# Both parts point the same way, and neither is known well: the one within rests on the few studies that have both.
# These can be looked at one by one. Each stands under both headings; the diamonds and the test are those of one model.

# %%
kinds = effects.frame.groupby("study")["criterion"].nunique()
both = [str(study) for study in kinds.index[kinds == 2]]
paired = am.che(am.escalc(table.query(f"study in [{', '.join(both)}]")))
am.plots.forest(paired, by="criterion", label="sampleid")

# %% [markdown]
# One study has a *negative* correlation with the average over courses and the highest of all with the course grade.
# That is either an extraordinary result or a sign that was lost on the way into the table. What would be left without
# it?

# %%
odd = paired.effects.frame.set_index("yi")["study"].sort_index().iloc[0]
rest = [study for study in both if study != str(odd)]
without = am.che(am.escalc(table.query(f"study in [{', '.join(rest)}]")), mods="criterion")
with_it = am.che(paired.effects, mods="criterion")
both_fits = {"all that report both": with_it, f"without study {odd}": without}
differences = {name: one.tidy().iloc[1] for name, one in both_fits.items()}
pd.DataFrame(differences).T[["estimate", "se", "ddf", "pval"]].astype(float).round(3)

# %% [markdown]
# Most of the difference within studies came from that one. The next step is not another test but the paper itself.
#
# ## 4. What this does not say
#
# - **Not why.** Studies were not assigned to their levels. Dissertations differ from articles in more than where they
#   appeared.
# - **Not that the levels are equal.** A test that misses .05 is no evidence of equality; look at how wide the intervals
#   are.
# - **Not what will happen to one person.** Moderators of studies describe studies. That correlations are higher where
#   more of the patients are women does not mean that they are higher for women.
# - **Not more than was asked beforehand.** Four moderators were asked here. Whoever tries ten and reports two has made
#   ten tests, and `moderator_table` corrects only for those it knows of.
