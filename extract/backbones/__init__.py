"""Backbones: networks that turn a batch of face crops into one vector per crop."""
