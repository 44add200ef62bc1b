"""Aff-Wild2 of the ABAW challenges: videos with annotation files, static frames, and test lists."""
