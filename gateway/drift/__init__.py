"""Whether a model's answers are still those it gave: features, histograms, sequential tests. Pure."""
