"""The dry run: what it lists, what it estimates, and that it changes nothing."""

import re
import time
from dataclasses import replace

import pytest
from fabricated_runs import planned, write_result
from random_stores import FAST, random_work
from store_specs import feature_spec, label_spec

from pipeline import ledger
from pipeline.configfile import load
from pipeline.data import open_data
from pipeline.plan import make_plan
from pipeline.stage2.driver import replicas, run_sweep
from pipeline.stage2.dryrun import describe_plan, duration, halving_lines
from pipeline.stage2.trainer import run_settings, training_settings
from pipeline.workdir import work_dir
from stores.errors import ConfigError
from temporal.settings import Run, Training
from temporal.train import memory
from temporal.train.estimate import estimate
from temporal.train.memory import Shapes, footprint

SWEEP = (
    "sweep={product: {tasks: [[V], [A, AU]], training: {lr: [1.0e-3, 1.0e-4], hop: [12, 8]}}, seeds: [0, 1]}"
)


@pytest.fixture
def work(tmp_path):
    return random_work(tmp_path)


def describe(work, *settings):
    config = load("demo", [FAST, SWEEP, *settings])
    return describe_plan(config, work_dir(config, work))


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_dry_run_lists_rows_counts_groups_and_costs_and_writes_nothing(work):
    before = contents(work)
    text = describe(work)
    assert contents(work) == before
    lines = text.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith(("V", "A+AU"))] == [
        "V", "V hop=8", "V lr=0.0001", "V lr=0.0001 hop=8",
        "A+AU", "A+AU hop=8", "A+AU lr=0.0001", "A+AU lr=0.0001 hop=8",
    ]  # fmt: skip
    assert "8 rows x 2 seeds = 16 runs: 0 done, 16 unfinished" in lines
    head = next(i for i, line in enumerate(lines) if line.startswith("group"))
    assert [line.split()[:3] for line in lines[head + 1 : head + 3]] == [["1", "8", "2"], ["2", "8", "2"]]
    assert lines[head + 2].endswith("hop=8")
    assert "in all at most" in lines[-1]


def test_what_is_finished_failed_or_stopped_is_told_and_only_the_rest_is_costed(work):
    config = load("demo", [FAST, SWEEP, "sweep.halving={min_epochs: 1}"])
    place = work_dir(config, work)
    runs = make_plan(config, open_data(place)).runs
    for run in runs[:3]:
        write_result(place.runs, run, 0.5)
    ledger.commit_error(place.runs / runs[3].run_id, runs[3], "broken", "RuntimeError")
    ledger.commit_stopped(place.runs / runs[4].run_id, runs[4], [0.1], 1)
    text = describe_plan(config, place)
    assert "16 runs: 3 done, 12 unfinished, 1 failed, 1 stopped" in text
    for run in runs[4:]:
        write_result(place.runs, run, 0.5)
    write_result(place.runs, runs[3], 0.5)
    assert describe_plan(config, place).endswith("nothing is left to train")


def test_halving_is_told_with_the_epochs_that_it_saves():
    rates = "lr: [1, 2, 3, 4, 5, 6, 7, 8, 9]"
    axes = f"{{tasks: [[V], [A]], training: {{{rates}}}}}"
    sweep = f"sweep={{product: {axes}, seeds: [0, 1], halving: {{min_epochs: 4}}}}"
    config = load("demo", [sweep, "training.epochs=20"])
    lines = halving_lines(planned(config), config.sweep.halving)
    # 9 settings for 4 epochs, 3 for 8 more, 1 for the last 8: 68 epochs, of 2 combinations with 2 seeds
    assert lines == [
        "halving, 2 times: 9 settings, of which go on 3 after epoch 4, 1 after epoch 12",
        "halving trains at most 272 of these 720 epochs; the estimate has them all",
    ]


def test_the_estimate_counts_what_an_epoch_reads():
    training = Training(window=16, hop=8, batch_size=4, epochs=5, channels=4, levels=2, kernel_size=3)
    shapes = Shapes([40, 16, 7], [30], {"face": feature_spec(8)}, label_spec())
    cost = estimate([Run(("V",)), Run(("A", "AU"), attention=True)], training, shapes)
    assert cost.windows == 4 + 1 + 1
    assert cost.frames == 4 * 16 + 16 + 7
    assert cost.steps == 2
    assert cost.seconds == pytest.approx(5 * cost.epoch_seconds)
    assert cost.memory == footprint([Run(("A", "V", "AU"), attention=True)], training, shapes)


def test_reduced_features_are_estimated_as_what_they_are_however_few_frames_are_measured():
    training = Training(window=4, hop=4, batch_size=1, epochs=5, channels=4, levels=2, kernel_size=3, pca=6)
    shapes = Shapes([40], [30], {"face": feature_spec(8)}, label_spec())
    runs = [Run(("V",))]
    cost = estimate(runs, training, shapes)
    reduced = Shapes([40], [30], {"face": feature_spec(6, "float32")}, label_spec())
    plain = estimate(runs, replace(training, pca=0, standardise=False), reduced)
    assert cost.memory.replica == plain.memory.replica
    assert cost.memory.bank == 70 * (2 * 8 + 4 * 6 + 4 + 4 + 1 + len(label_spec().au_names) + 1)


@pytest.mark.parametrize("command", [describe_plan, run_sweep])
@pytest.mark.parametrize(
    ("axes", "missing", "message"),
    [
        (9, 0, "training.pca: V pca=9 asks for 9 principal axes of features of 8 dimensions: lower pca"),
        (8, 5, "training.pca: V pca=8 asks for 8 principal axes of features with 5 valid training frames"),
    ],
)
def test_more_axes_than_the_features_have_are_refused_before_anything_trains(
    work, command, axes, missing, message
):
    if missing:
        store = open_data(work_dir(load("demo", [FAST]), work)).streams["face"]
        for i in range(6):
            arrays = {name: store.read(f"clip{i}", name) for name in ("features", "frame", "valid")}
            arrays["valid"][missing if i == 0 else 0 :] = False
            arrays["features"][~arrays["valid"]] = 0
            store.write(f"clip{i}", arrays)
    axis = f"sweep={{product: {{tasks: [[V], [A]], training: {{pca: [0, {axes}]}}}}, seeds: [0]}}"
    config = load("demo", [FAST, axis])
    place = work_dir(config, work)
    with pytest.raises(ConfigError, match=re.escape(message)):
        command(config, place)
    assert not list(place.runs.glob("*"))


@pytest.mark.parametrize(
    ("bank", "pca", "bytes_of_a_row"), [("auto", 0, 16), ("auto", 4, 32), ("store", 4, 0)]
)
def test_as_many_replicas_are_planned_as_fit_beside_the_features(
    work, monkeypatch, bank, pca, bytes_of_a_row
):
    taken = []

    def that_fit(runs, training, shapes, device, place):
        taken.append(memory.footprint(runs, training, shapes, device, place).bank / shapes.frames)
        return 3

    monkeypatch.setattr(memory, "replicas_that_fit", that_fit)
    config = load("demo", [FAST, SWEEP, f"training.bank={bank}", f"training.pca={pca}"])
    plan = make_plan(config, open_data(work_dir(config, work)))
    assert replicas(config, plan, plan.runs) == 3
    assert set(taken) == {bytes_of_a_row + 4 + 4 + 1 + len(label_spec().au_names) + 1}


def test_one_replica_is_measured_where_all_would_take_too_long():
    training = Training(window=16, hop=8, batch_size=4, epochs=5, channels=4, levels=2, kernel_size=3)
    shapes = Shapes([40], [30], {"face": feature_spec(8)}, label_spec())
    assert estimate([Run(("V",), seed=i) for i in range(9)], training, shapes, budget=0.0).measured == 1


def test_the_estimated_time_is_that_of_the_real_training(work):
    """Within a factor of three, as an epoch is milliseconds here."""
    import temporal

    config = load("demo", [FAST, SWEEP, "training.epochs=8", "training.patience=0"])
    data = open_data(work_dir(config, work))
    runs = make_plan(config, data).runs[:4]
    training = training_settings(runs[0])
    shapes = Shapes(range(20, 26), range(26, 29), data.specs, data.label_spec)
    alike = [run_settings(run) for run in runs]
    bank = temporal.load_bank(data.streams["face"], data.labels)
    factors = []
    while not any(1 / 3 < factor < 3 for factor in factors):
        assert len(factors) < 4, factors  # a few attempts: the machine may have been busy with something else
        cost = estimate(alike, training, shapes, budget=0.5)
        began = time.perf_counter()
        temporal.fit(bank, alike, training)
        factors.append(cost.seconds / (time.perf_counter() - began))


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (130, "2.2 min"), (7200, "2.0 h"), (200_000, "2.3 days")]
)
def test_a_duration_has_the_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text
