"""What holds for all tests: one thread of torch and numpy per process, and GPU tests only where there is one.

The libraries read the number of threads when they are loaded; pytest-xdist runs one process per core, and
with two threads each, two processes took five times as long as with one on the many small tensors of these
tests.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_collection_modifyitems(items):
    """Skips tests marked ``gpu`` where torch finds none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
