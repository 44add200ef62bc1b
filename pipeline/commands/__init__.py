"""The commands of ``facets``, one module for each group of them."""
