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


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A trained run: its folder of runs, the feature store with a test clip, and the result."""
    import torch
    from store_specs import feature_arrays, feature_spec, label_arrays, label_spec

    import stores
    import temporal
    from pipeline.ledger import RESULT, write_predictions
    from temporal.settings import Run, Training

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    spec, names = feature_spec(4, "float32"), label_spec()
    features, labels = stores.create(folder / "features", spec), stores.create(folder / "labels", names)
    for seed, (clip, split) in enumerate([("a", "train"), ("b", "validation"), ("c", "test")]):
        features.write(clip, feature_arrays(20, spec, seed))
        attrs = {"split": split, "fps": 30.0, "subject": clip, "corpus": "rendered"}
        labels.write(clip, label_arrays(20, names, seed), attrs)
    tiny = Training(
        window=12, hop=10, batch_size=2, epochs=1, channels=4, levels=1, kernel_size=3, projection=0
    )
    bank = temporal.load_bank(features, labels)
    result = temporal.fit(bank, [Run(("V", "A", "AU", "EXPR"), attention=True)], tiny)[0]
    run = folder / "runs" / "0123456789ab"
    temporal.save(result, run)
    write_predictions(run, result.predictions, {})
    (run / RESULT).write_text("{}")
    return folder, features, result
