"""Stage 1: corpora of face crops through a backbone into a feature store, their labels into a label store.

Not a trainer: what is written here is all that the temporal stage reads.
"""
