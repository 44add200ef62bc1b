"""Stage 1: corpora of face crops through a backbone into a feature store, their labels into a label store.

What is written here is all that training reads.
"""
