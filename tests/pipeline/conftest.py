"""What the tests of the pipeline share: a dask cluster that runs already, and the threads of a worker.

Not the clusters that a command starts for itself: their workers are processes, which import torch.
"""

import pytest

from pipeline.cluster import threads_of


@pytest.fixture
def running():
    """A scheduler with one worker, a thread of this process that tasks reach over TCP as any other."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # not dask's default port, which another test may have taken
    ) as local:
        yield local


@pytest.fixture(scope="module")
def threads_of_a_worker():
    """As many threads of torch in this process as each of two workers has, so that the bytes are the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads_of(2))
    yield
    torch.set_num_threads(before)
