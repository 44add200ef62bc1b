"""Backbones: networks that turn a batch of face crops into one vector per crop.

Not trained here, save for the bundled one whose training script lies beside its weights.
"""
