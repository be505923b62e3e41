"""Selection models: the mean before results were selected by their p-values, or by their size."""
