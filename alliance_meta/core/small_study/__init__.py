"""Funnel plots that are not symmetric: rank correlation, trimming and filling, the limit of a radial regression."""
