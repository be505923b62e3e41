"""Methods that rest on the p-values of single results."""
