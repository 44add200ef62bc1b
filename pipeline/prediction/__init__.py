"""Predictions of finished runs, clip by clip."""
