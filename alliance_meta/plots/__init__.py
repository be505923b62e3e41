"""Plots: each has a data twin, and matplotlib is loaded only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.plots.bias.funnel import funnel as funnel
    from alliance_meta.plots.bias.funnel import funnel_data as funnel_data
    from alliance_meta.plots.bias.p_values import p_curve as p_curve
    from alliance_meta.plots.bias.p_values import p_curve_data as p_curve_data
    from alliance_meta.plots.bias.p_values import z_curve as z_curve
    from alliance_meta.plots.bias.p_values import z_curve_data as z_curve_data
    from alliance_meta.plots.bias.panel import bias_panel as bias_panel
    from alliance_meta.plots.bias.panel import bias_panel_data as bias_panel_data
    from alliance_meta.plots.bias.power import firepower as firepower
    from alliance_meta.plots.bias.power import firepower_data as firepower_data
    from alliance_meta.plots.bias.power import sunset as sunset
    from alliance_meta.plots.bias.power import sunset_data as sunset_data
    from alliance_meta.plots.bias.selection import selection_weights as selection_weights
    from alliance_meta.plots.bias.selection import selection_weights_data as selection_weights_data
    from alliance_meta.plots.bias.selection import worst_case as worst_case
    from alliance_meta.plots.bias.selection import worst_case_data as worst_case_data
    from alliance_meta.plots.bubble_plot import bubble as bubble
    from alliance_meta.plots.bubble_plot import bubble_data as bubble_data
    from alliance_meta.plots.bubble_plot import smooth as smooth
    from alliance_meta.plots.bubble_plot import smooth_data as smooth_data
    from alliance_meta.plots.deletion import cumulative as cumulative
    from alliance_meta.plots.deletion import influence as influence
    from alliance_meta.plots.deletion import influence_data as influence_data
    from alliance_meta.plots.deletion import leave_one_out as leave_one_out
    from alliance_meta.plots.deletion import timeline as timeline
    from alliance_meta.plots.deletion import timeline_data as timeline_data
    from alliance_meta.plots.development_plot import development as development
    from alliance_meta.plots.development_plot import development_data as development_data
    from alliance_meta.plots.forests.plot import forest as forest
    from alliance_meta.plots.forests.plot import forest_pages as forest_pages
    from alliance_meta.plots.forests.published import published_forest_data as published_forest_data
    from alliance_meta.plots.forests.refitted import cumulative_data as cumulative_data
    from alliance_meta.plots.forests.refitted import leave_one_out_data as leave_one_out_data
    from alliance_meta.plots.forests.rows import forest_data as forest_data
    from alliance_meta.plots.levels import means as means
    from alliance_meta.plots.levels import means_data as means_data
    from alliance_meta.plots.levels import moderators as moderators
    from alliance_meta.plots.levels import moderators_data as moderators_data
    from alliance_meta.plots.levels import orchard as orchard
    from alliance_meta.plots.levels import orchard_data as orchard_data
    from alliance_meta.plots.outliers import baujat as baujat
    from alliance_meta.plots.outliers import baujat_data as baujat_data
    from alliance_meta.plots.outliers import gosh as gosh
    from alliance_meta.plots.outliers import gosh_data as gosh_data
    from alliance_meta.plots.outliers import qqnorm as qqnorm
    from alliance_meta.plots.outliers import qqnorm_data as qqnorm_data
    from alliance_meta.plots.outliers import radial as radial
    from alliance_meta.plots.outliers import radial_data as radial_data
    from alliance_meta.plots.posteriors.chains import chains as chains
    from alliance_meta.plots.posteriors.chains import chains_data as chains_data
    from alliance_meta.plots.posteriors.chains import sequential as sequential
    from alliance_meta.plots.posteriors.chains import sequential_data as sequential_data
    from alliance_meta.plots.posteriors.posterior import averaged as averaged
    from alliance_meta.plots.posteriors.posterior import averaged_data as averaged_data
    from alliance_meta.plots.posteriors.posterior import posterior as posterior
    from alliance_meta.plots.posteriors.posterior import posterior_data as posterior_data
    from alliance_meta.plots.posteriors.posterior import weight_function as weight_function
    from alliance_meta.plots.posteriors.posterior import weight_function_data as weight_function_data
    from alliance_meta.plots.posteriors.prior import prior as prior
    from alliance_meta.plots.posteriors.prior import prior_data as prior_data
    from alliance_meta.plots.posteriors.prior import prior_predictive as prior_predictive
    from alliance_meta.plots.posteriors.prior import prior_predictive_data as prior_predictive_data
    from alliance_meta.plots.posteriors.prior import prior_sensitivity as prior_sensitivity
    from alliance_meta.plots.posteriors.prior import prior_sensitivity_data as prior_sensitivity_data
    from alliance_meta.plots.profile_plot import profile as profile
    from alliance_meta.plots.profile_plot import profile_data as profile_data
    from alliance_meta.plots.profile_plot import profiles as profiles
    from alliance_meta.plots.profile_plot import profiles_data as profiles_data
    from alliance_meta.plots.resampled_plot import predictive as predictive
    from alliance_meta.plots.resampled_plot import predictive_data as predictive_data
    from alliance_meta.plots.resampled_plot import resampled as resampled
    from alliance_meta.plots.resampled_plot import resampled_data as resampled_data
    from alliance_meta.plots.review.evidence_map import evidence_map as evidence_map
    from alliance_meta.plots.review.evidence_map import evidence_map_data as evidence_map_data
    from alliance_meta.plots.review.prisma import prisma as prisma
    from alliance_meta.plots.review.prisma import prisma_data as prisma_data
    from alliance_meta.plots.review.rob import rob as rob
    from alliance_meta.plots.review.rob import rob_data as rob_data
    from alliance_meta.plots.review.rob import rob_pages as rob_pages
    from alliance_meta.plots.sensitivity_plots import battery as battery
    from alliance_meta.plots.sensitivity_plots import battery_data as battery_data
    from alliance_meta.plots.sensitivity_plots import dependence as dependence
    from alliance_meta.plots.sensitivity_plots import dependence_data as dependence_data
    from alliance_meta.plots.sensitivity_plots import rho_grid as rho_grid
    from alliance_meta.plots.sensitivity_plots import rho_grid_data as rho_grid_data
    from alliance_meta.plots.sensitivity_plots import specification_curve as specification_curve
    from alliance_meta.plots.sensitivity_plots import specification_curve_data as specification_curve_data
    from alliance_meta.plots.sheet.chart_frame import frame_from_dict as frame_from_dict
    from alliance_meta.plots.sheet.chart_frame import frame_to_dict as frame_to_dict
    from alliance_meta.plots.sheet.figures import figure_bytes as figure_bytes
    from alliance_meta.plots.sheet.figures import save_figure as save_figure
    from alliance_meta.plots.studies.drapery import drapery as drapery
    from alliance_meta.plots.studies.drapery import drapery_data as drapery_data
    from alliance_meta.plots.studies.drapery import rainforest as rainforest
    from alliance_meta.plots.studies.drapery import rainforest_data as rainforest_data
    from alliance_meta.plots.studies.ranks import caterpillar as caterpillar
    from alliance_meta.plots.studies.ranks import caterpillar_data as caterpillar_data
    from alliance_meta.plots.studies.ranks import ranks as ranks
    from alliance_meta.plots.studies.ranks import ranks_data as ranks_data

__getattr__, __dir__, __all__ = lazy(__name__)
