"""The pictures of corpora on disk: which are there, and faces that are cut out of them."""
