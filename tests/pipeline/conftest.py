"""What the tests of the pipeline share: a dask cluster that runs already.

Not the clusters that a command starts for itself: their workers are processes, which import torch.
"""

import pytest


@pytest.fixture
def running():
    """A scheduler with one worker, a thread of this process that tasks reach over TCP as any other."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as local:
        yield local
