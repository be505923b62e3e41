"""Plots: each has a data twin, and matplotlib is loaded only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.plots.averaged_plot import averaged as averaged
    from alliance_meta.plots.averaged_plot import averaged_data as averaged_data
    from alliance_meta.plots.bubble_plot import bubble as bubble
    from alliance_meta.plots.bubble_rows import bubble_data as bubble_data
    from alliance_meta.plots.caterpillar_plot import caterpillar as caterpillar
    from alliance_meta.plots.caterpillar_plot import caterpillar_data as caterpillar_data
    from alliance_meta.plots.chains_plot import chains as chains
    from alliance_meta.plots.chains_plot import chains_data as chains_data
    from alliance_meta.plots.dependence_plot import dependence as dependence
    from alliance_meta.plots.dependence_plot import dependence_data as dependence_data
    from alliance_meta.plots.development_plot import development as development
    from alliance_meta.plots.development_plot import development_data as development_data
    from alliance_meta.plots.figures import figure_bytes as figure_bytes
    from alliance_meta.plots.figures import save_figure as save_figure
    from alliance_meta.plots.forest_plot import forest as forest
    from alliance_meta.plots.forest_plot import forest_pages as forest_pages
    from alliance_meta.plots.forest_rows import forest_data as forest_data
    from alliance_meta.plots.frame_json import frame_from_dict as frame_from_dict
    from alliance_meta.plots.frame_json import frame_to_dict as frame_to_dict
    from alliance_meta.plots.leave_out_plot import leave_out as leave_out
    from alliance_meta.plots.leave_out_plot import leave_out_data as leave_out_data
    from alliance_meta.plots.map_prior_plot import map_prior as map_prior
    from alliance_meta.plots.map_prior_plot import map_prior_data as map_prior_data
    from alliance_meta.plots.means_plot import means as means
    from alliance_meta.plots.means_plot import means_data as means_data
    from alliance_meta.plots.posterior_plot import posterior as posterior
    from alliance_meta.plots.posterior_plot import posterior_data as posterior_data
    from alliance_meta.plots.predictive_plot import predictive as predictive
    from alliance_meta.plots.predictive_plot import predictive_data as predictive_data
    from alliance_meta.plots.prior_grid_plot import prior_sensitivity as prior_sensitivity
    from alliance_meta.plots.prior_grid_plot import prior_sensitivity_data as prior_sensitivity_data
    from alliance_meta.plots.prior_plot import prior as prior
    from alliance_meta.plots.prior_plot import prior_data as prior_data
    from alliance_meta.plots.prior_plot import prior_predictive as prior_predictive
    from alliance_meta.plots.prior_plot import prior_predictive_data as prior_predictive_data
    from alliance_meta.plots.profile_plot import profile as profile
    from alliance_meta.plots.profile_plot import profile_data as profile_data
    from alliance_meta.plots.profiles_plot import profiles as profiles
    from alliance_meta.plots.profiles_plot import profiles_data as profiles_data
    from alliance_meta.plots.published_rows import published_forest_data as published_forest_data
    from alliance_meta.plots.resampled_plot import resampled as resampled
    from alliance_meta.plots.resampled_plot import resampled_data as resampled_data
    from alliance_meta.plots.rho_plot import rho_grid as rho_grid
    from alliance_meta.plots.rho_plot import rho_grid_data as rho_grid_data
    from alliance_meta.plots.sequential_plot import sequential as sequential
    from alliance_meta.plots.sequential_plot import sequential_data as sequential_data
    from alliance_meta.plots.smooth_plot import smooth as smooth
    from alliance_meta.plots.smooth_plot import smooth_data as smooth_data
    from alliance_meta.plots.weight_plot import weight_function as weight_function
    from alliance_meta.plots.weight_plot import weight_function_data as weight_function_data

_HOMES = {
    "averaged": "averaged_plot",
    "averaged_data": "averaged_plot",
    "bubble": "bubble_plot",
    "bubble_data": "bubble_rows",
    "caterpillar": "caterpillar_plot",
    "caterpillar_data": "caterpillar_plot",
    "chains": "chains_plot",
    "chains_data": "chains_plot",
    "dependence": "dependence_plot",
    "dependence_data": "dependence_plot",
    "development": "development_plot",
    "development_data": "development_plot",
    "figure_bytes": "figures",
    "forest": "forest_plot",
    "forest_data": "forest_rows",
    "forest_pages": "forest_plot",
    "leave_out": "leave_out_plot",
    "leave_out_data": "leave_out_plot",
    "map_prior": "map_prior_plot",
    "map_prior_data": "map_prior_plot",
    "means": "means_plot",
    "means_data": "means_plot",
    "posterior": "posterior_plot",
    "posterior_data": "posterior_plot",
    "predictive": "predictive_plot",
    "predictive_data": "predictive_plot",
    "prior": "prior_plot",
    "prior_data": "prior_plot",
    "prior_predictive": "prior_plot",
    "prior_predictive_data": "prior_plot",
    "prior_sensitivity": "prior_grid_plot",
    "prior_sensitivity_data": "prior_grid_plot",
    "profile": "profile_plot",
    "profile_data": "profile_plot",
    "profiles": "profiles_plot",
    "profiles_data": "profiles_plot",
    "resampled": "resampled_plot",
    "resampled_data": "resampled_plot",
    "rho_grid": "rho_plot",
    "rho_grid_data": "rho_plot",
    "frame_from_dict": "frame_json",
    "frame_to_dict": "frame_json",
    "published_forest_data": "published_rows",
    "save_figure": "figures",
    "sequential": "sequential_plot",
    "sequential_data": "sequential_plot",
    "smooth": "smooth_plot",
    "smooth_data": "smooth_plot",
    "weight_function": "weight_plot",
    "weight_function_data": "weight_plot",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
