"""Questions asked of moderators: adjusted means and slopes, comparisons, collinearity, selection, missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.moderators.collinearity import VifResults as VifResults
    from alliance_meta.moderators.collinearity import vif as vif
    from alliance_meta.moderators.comparisons import PairwiseResults as PairwiseResults
    from alliance_meta.moderators.comparisons import adjust_pvalues as adjust_pvalues
    from alliance_meta.moderators.comparisons import letters as letters
    from alliance_meta.moderators.comparisons import pairwise as pairwise
    from alliance_meta.moderators.imputation import ImputedModerators as ImputedModerators
    from alliance_meta.moderators.imputation import ImputedResults as ImputedResults
    from alliance_meta.moderators.imputation import fit_imputed as fit_imputed
    from alliance_meta.moderators.imputation import impute_moderators as impute_moderators
    from alliance_meta.moderators.marginal import MarginalMeans as MarginalMeans
    from alliance_meta.moderators.marginal import MarginalSlopes as MarginalSlopes
    from alliance_meta.moderators.marginal import marginal_means as marginal_means
    from alliance_meta.moderators.marginal import marginal_slopes as marginal_slopes
    from alliance_meta.moderators.selection import ModelSelection as ModelSelection
    from alliance_meta.moderators.selection import select_models as select_models
    from alliance_meta.moderators.table import ModeratorTable as ModeratorTable

__getattr__, __dir__, __all__ = lazy(__name__)
