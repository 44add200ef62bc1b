"""Stage 2 of an experiment: from stores to trained runs."""
