"""Sweeps in one process and on workers: the same results, failures told apart, nothing done twice."""

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import threading
import time

import fabricated_experiment
import pytest
import torch
from click.testing import CliRunner

from pipeline import cluster, sweep
from pipeline.cli import DONE, PARTLY, USAGE, facets
from pipeline.cluster import Cluster

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def threads_of_a_worker():
    before = torch.get_num_threads()
    torch.set_num_threads(cluster.threads_of(2))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stores_only(tmp_path_factory):
    work = tmp_path_factory.mktemp("stores")
    fabricated_experiment.write_stores(work)
    return work


@pytest.fixture
def work(tmp_path, stores_only):
    shutil.copytree(stores_only, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def alone(tmp_path_factory, stores_only):
    """The results of an uninterrupted sweep in one process."""
    work = tmp_path_factory.mktemp("alone") / "work"
    shutil.copytree(stores_only, work)
    assert train(work).exit_code == DONE
    return results(work)


def train(work, *options, **training):
    config = fabricated_experiment.write_config(work.parent, work, **training)
    return CliRunner().invoke(
        facets, ["sweep", "-c", str(config), "--work", str(work), *options], standalone_mode=False
    )


def test_workers_and_a_killed_worker_give_the_bytes_of_one_process(work, alone, monkeypatch):
    pass


def results(work):
    """All files of all runs; of ``result.json`` all but the time that the run took."""
    content = {}
    for path in sorted((work / "runs").rglob("*")):
        if path.is_file():
            content[str(path.relative_to(work))] = (
                path.read_bytes() if path.name != "result.json" else timeless(path)
            )
    return content


def timeless(path):
    result = json.loads(path.read_text())
    assert result.pop("seconds") > 0
    return result
