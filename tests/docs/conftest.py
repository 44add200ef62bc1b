"""A reader's folder: the demo as the documentation finds it, small enough to make in a test."""

import pytest

SMALL = [
    "corpus.render={train_people: 3, validation_people: 2, test_people: 1, clips_per_person: 1,"
    " min_frames: 40, max_frames: 50}",
    "training.epochs=2",
    "training.channels=8",
    "training.window=32",
    "training.hop=16",
    "sweep.rows=[{tasks: [V]}, {tasks: [AU]}, {tasks: [A, AU], attention: true}]",
    "sweep.seeds=[0]",
]


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """A folder in which work/demo is the finished demo, small, made by the commands."""
    import torch

    from pipeline.cli import facets

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("reader")
    settings = [argument for setting in SMALL for argument in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("features", "sweep", "table"):
            facets.main([command, *settings], standalone_mode=False)
    return folder
