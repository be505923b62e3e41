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
# # From a coding sheet to a report
#
# You have read the primary studies and typed one row for each into a spreadsheet: a label, the correlation, the
# number of patients, who rated the alliance, where therapy took place. This notebook goes from that sheet to a
# finished report.
#
# **The sheet used here is SYNTHETIC.** Its 24 studies are made up by a seeded script (`data/synthetic/`), with a
# lower mean for therapist ratings built in. Nothing below is a finding about therapy, and every table and plot says
# so. Put your own file in its place.

# %%
from pathlib import Path

from IPython.display import Image

import alliance_meta as am
from alliance_meta.reporting import build_report

folder = Path("build", "from_coding_sheet")
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. The sheet
#
# One row per effect, one column for `r`, one for `n`, and any others. CSV as any spreadsheet saves it will do: commas
# or semicolons, decimal points or decimal commas. For your own sheet this cell is just `sheet = "my_sheet.csv"`.

# %%
sheet = folder / "synthetic_alliance.csv"
am.load_dataset("synthetic_alliance").frame.to_csv(sheet, index=False)
print(*sheet.read_text(encoding="utf-8").splitlines()[:5], sep="\n")

# %% [markdown]
# `read_coded` reads it, checks every cell, and remembers the file's hash, so that a report can say which version of
# the sheet it was made from. Because the name of the file begins with “synthetic”, all that follows is labelled.

# %%
coded = am.read_coded(sheet)
coded.frame.head()

# %% [markdown]
# ## 2. When the sheet has mistakes
#
# Sheets have mistakes. The reader never guesses and never drops a row in silence: it names the line, the column, the
# value and the way to mend it, all in one pass. Here is a sheet with the usual ones.

# %%
mistakes = """study,r,n,rater
Synthetic A,.31,48,client
Synthetic B,45,60,client
Synthetic C,.22,3,therapist
Synthetic D,n.s.,75,Client
Synthetic E,1.00,40,observer
Synthetic F,.18,5o,client
Synthetic G,,66,client
"""
bad_sheet = folder / "synthetic_mistakes.csv"
bad_sheet.write_text(mistakes, encoding="utf-8")
for problem in am.check_coded(bad_sheet):
    print(f"{problem.severity:10} {problem}")

# %% [markdown]
# An *error* stops the reading, a *suspicion* does not: somebody who knows the paper has to look. `read_coded` raises
# with all errors at once, and no result is made from half a sheet.

# %%
try:
    am.read_coded(bad_sheet)
except am.CodingError as error:
    print(error)

# %% [markdown]
# In a terminal, `alliance-meta check my_sheet.csv` prints the same.
#
# ## 3. The mean effect
#
# What a positive correlation means is yours to declare. Then comes the model, with its defaults (Fisher *z*, REML,
# Knapp-Hartung).

# %%
direction = "positive = a better alliance goes with a better outcome"
effects = am.escalc(coded, direction=direction)
fit = am.RandomEffectsModel(effects).fit()
fit

# %% [markdown]
# ## 4. Does it matter who rates, and where?
#
# Both moderators are categorical and go into one model, so that each is judged with the other held constant.

# %%
moderated = am.RandomEffectsModel(effects, mods="rater + setting").fit()
print(moderated)

# %% [markdown]
# The first level of each in the alphabet (`client`, `inpatient`) is the reference; the other rows are differences from
# it on the *z* scale. The question “do raters differ?” is about both rater rows together:

# %%
print(moderated.test("rater"))
print(moderated.test("setting"))

# %% [markdown]
# What the model expects for each rater in outpatient settings, as correlations:

# %%
raters = {"rater": ["client", "therapist", "observer"], "setting": 3 * ["outpatient"]}
moderated.predict(raters, scale="r").round(3)

# %% [markdown]
# A lower mean for therapists *is* in the model that made these data up, and with 24 small studies the test can still
# miss it. “Not significant” is not “no difference”: look at the width of the intervals.
#
# ## 5. The forest plot, by rater
#
# Each group has its own diamond; the last diamond is all studies together.

# %%
figure = am.plots.forest(fit, by="rater", columns=["setting"], order="effect")
figure

# %% [markdown]
# The test under the plot is not the one of section 4: its model leaves the setting out. `tau2="separate"` would give
# each group a τ² of its own; with few studies per group the common one is steadier. Two sensible tests of one question
# can give different *p* values; decide on yours before you look.
#
# `save_figure` writes SVG, PDF or PNG, the same bytes in every run.

# %%
am.plots.save_figure(figure, folder / "synthetic_forest_by_rater.svg").name

# %% [markdown]
# ## 6. The report
#
# A report is declared, not programmed: which data, which models, which figures and tables, and the words between
# them. No number is typed into the words; `{mean.r}` is replaced by the number of that name. Keep this file next to
# your sheet and under version control: it *is* your analysis.

# %%
declaration = """
title = "SYNTHETIC example: alliance and outcome by rater and setting"
subtitle = "Made-up data; no finding about therapy"

[[analysis]]
id = "mean"
label = "All studies (synthetic)"
short = "All"
data = "synthetic_alliance.csv"

[[analysis]]
id = "moderated"
label = "Rater and setting as moderators (synthetic)"
short = "Rater + setting"
data = "synthetic_alliance.csv"
mods = "rater + setting"

[[section]]
heading = "The mean effect"
text = '''
Over {mean.k} made-up studies and {mean.n_total} made-up patients the median true
correlation is {mean.r} {mean.r_ci}. In one new study of this kind the true correlation
is expected in {mean.pi}.
'''

[[section.item]]
forest = "mean"
by = "rater"
order = "effect"
columns = ["setting"]
caption = "SYNTHETIC data, grouped by who rated the alliance."

[[section.item]]
table = "statistics"
of = "mean"
caption = "The standard statistics (SYNTHETIC data)."

[[section]]
heading = "Rater and setting"
text = "The test of all moderators together gives {moderated.QM}, p {moderated.QM_p}."

[[section.item]]
table = "coefficients"
of = "moderated"
caption = "Coefficients on the Fisher z scale (SYNTHETIC data)."
"""
report = folder / "synthetic_report.toml"
_ = report.write_text(declaration, encoding="utf-8")

# %%
files = build_report(report, out=folder / "report")
for path in files:
    print(path.relative_to(folder))

# %% [markdown]
# `report.html` opens in any browser without a connection, `report.pdf` is tagged for screen readers, the tables are CSV
# files. All of them are made from `results.json`, so no two of them can disagree. In a terminal the same is
# `alliance-meta report synthetic_report.toml`.

# %%
picture = folder / "report" / "figures" / "forest_mean.png"
Image(str(picture), width=700, alt="The report's forest plot, SYNTHETIC DATA")

# %% [markdown]
# The methods section is written from the settings of the models, so it cannot drift away from them.

# %%
print((folder / "report" / "methods.txt").read_text(encoding="utf-8"))

# %% [markdown]
# ## 7. With your own sheet
#
# 1. Save it as CSV and run `alliance-meta check my_sheet.csv` until nothing is left to mend.
# 2. Look first: `alliance-meta fit my_sheet.csv --mods "rater + setting" --forest forest.svg`.
# 3. Write the declaration, and keep it with the sheet.
# 4. Several effects from the same patients are not independent, and this model is then wrong. The next notebook,
#    `03_several_effects_per_study`, has the models that are right.
