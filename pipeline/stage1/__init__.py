"""Stage 1 of an experiment: from a corpus to the label store and the feature stores."""
