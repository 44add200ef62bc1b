"""A trained model in use: frame-wise predictions, and the files of a model."""
