import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import temporal
from stores.errors import ConfigError
from temporal import metrics
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.stack import lr_factor

RUNS = [
    Run(("V",), seed=0, lr=1e-2),
    Run(("A", "AU"), attention=True, seed=1, lr=1e-2),
    Run(("V", "AU", "EXPR"), attention=True, seed=2, lr=1e-2),
    Run(("EXPR",), seed=0, lr=1e-2),
]


@pytest.fixture(scope="module")
def results(bank):
    tiny = Training(
        window=12,
        hop=10,
        batch_size=2,
        epochs=6,
        patience=0,
        channels=5,
        levels=2,
        kernel_size=3,
        projection=4,
    )
    return temporal.fit(bank, RUNS, tiny)


def weights(result):
    return {name: tensor.numpy().tobytes() for name, tensor in result.model.network.state_dict().items()}


def test_training_learns(results):
    for result in results:
        assert result.status == "done"
        assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert results[0].score > 0.3


def test_results_hold_what_they_promise(bank, results):
    split = bank.validation
    for run, result in zip(RUNS, results, strict=True):
        assert result.run == run
        assert list(result.metrics) == list(run.tasks)
        assert list(result.predictions) == list(split.clips)
        best = result.history[result.best_epoch - 1]
        assert best["score"] == result.score == max(line["score"] for line in result.history)
        assert [line["epoch"] for line in result.history] == list(range(1, 7))
        joined = {t: np.concatenate([result.predictions[c][t] for c in split.clips]) for t in run.tasks}
        labels = {t: split.labels[TASKS[t].array].numpy() for t in run.tasks}
        assert metrics.totals(labels, joined, "abaw2") == result.metrics
        assert metrics.score(result.metrics) == result.score
        assert list(result.units) == list(split.clips)
        summed = metrics.scores_of(metrics.pooled(result.units.values()), "abaw2")
        assert metrics.score(summed) == pytest.approx(result.score, abs=1e-12)
        assert result.seconds > 0


def test_the_same_seed_twice_gives_the_same_bytes(bank, tiny):
    first, second = (temporal.fit(bank, RUNS[1:3], replace(tiny, epochs=3)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert weights(a) == weights(b)
        assert a.history == b.history
        for clip, tasks in a.predictions.items():
            assert all(np.array_equal(values, b.predictions[clip][task]) for task, values in tasks.items())


def test_runs_trained_in_smaller_stacks_give_the_same_results(bank, tiny, results):
    apart = temporal.fit(bank, RUNS, replace(tiny, epochs=6), replicas=1)
    for a, b in zip(results, apart, strict=True):
        assert a.best_epoch == b.best_epoch
        assert a.score == pytest.approx(b.score, abs=1e-4)
        for name, tensor in a.model.network.state_dict().items():
            torch.testing.assert_close(tensor, b.model.network.state_dict()[name], rtol=0, atol=1e-5)


def test_a_run_that_stops_early_leaves_at_once_and_changes_no_other(bank, tiny):
    # A rate of almost zero: the score hardly moves, so patience ends that run long before the others.
    slow = Run(("A",), seed=3, lr=1e-12, dropout=0.0)
    training, order = replace(tiny, epochs=8, patience=3), []
    together = temporal.fit(bank, [RUNS[0], slow, RUNS[2]], training, on_result=lambda r: order.append(r.run))
    without = temporal.fit(bank, [RUNS[0], RUNS[2]], training)
    assert together[1].epochs < 8
    assert together[1].epochs == together[1].best_epoch + 3
    assert order[0] == slow
    for a, b in zip((together[0], together[2]), without, strict=True):
        assert a.best_epoch == b.best_epoch
        for name, tensor in a.model.network.state_dict().items():
            torch.testing.assert_close(tensor, b.model.network.state_dict()[name], rtol=0, atol=1e-5)


def test_a_run_that_diverges_is_reported_and_the_others_finish_bit_for_bit(bank, tiny):
    training = replace(tiny, epochs=1)
    wild = Run(("EXPR",), seed=0, lr=1e30)
    mixed, clean = (temporal.fit(bank, [RUNS[0], other, RUNS[2]], training) for other in (wild, RUNS[3]))
    failed = mixed[1]
    assert failed.status == "failed"
    assert "not finite at epoch 1, step" in failed.reason
    assert (failed.model, failed.metrics, failed.best_epoch) == (None, {}, 0)
    assert math.isnan(failed.score)
    for row in (0, 2):
        assert weights(mixed[row]) == weights(clean[row])
        assert mixed[row].history == clean[row].history


def test_progress_counts_epochs_of_single_runs_to_the_total(bank, tiny):
    calls = []
    training = replace(tiny, epochs=3, patience=1)
    temporal.fit(bank, RUNS, training, progress=lambda *call: calls.append(call), replicas=3)
    assert all((step, total) == ("train", 12) for step, total, _ in calls)
    completed = [done for *_, done in calls]
    assert completed == sorted(completed)
    assert completed[-1] == 12


def test_a_task_without_any_label_is_refused_before_training(bank, tiny):
    labels = {**bank.validation.labels, "au": torch.full_like(bank.validation.labels["au"], -1)}
    blind = replace(bank, validation=replace(bank.validation, labels=labels))
    with pytest.raises(ConfigError, match="validation split has no label of AU"):
        temporal.fit(blind, RUNS, tiny)


def test_frames_without_a_crop_never_enter_the_loss_but_are_scored(bank, tiny):
    def relabel(split, value):
        labels = {**split.labels, "valence": torch.where(split.valid, split.labels["valence"], value)}
        return replace(split, labels=labels)

    train, validation = bank.train, bank.validation
    known, unknown, scored = (
        temporal.fit(replace(bank, train=t, validation=v), RUNS[:1], replace(tiny, epochs=1))[0]
        for t, v in (
            (relabel(train, 0.9), relabel(validation, math.nan)),
            (relabel(train, math.nan), relabel(validation, math.nan)),
            (train, relabel(validation, 0.9)),
        )
    )
    assert weights(known) == weights(unknown) == weights(scored)
    assert known.metrics == unknown.metrics
    missing = int((~validation.valid).sum())
    assert missing > 0
    assert scored.metrics["V"]["frames"] == known.metrics["V"]["frames"] + missing


def test_the_learning_rate_warms_up_then_falls_to_zero():
    factors = [lr_factor(step, 100, 0.1) for step in range(101)]
    assert 0 < factors[0] < 0.2
    assert max(factors) == factors[10] == 1.0
    assert factors[100] == pytest.approx(0.0)
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Run(()), "tasks"),
        (lambda: Run(("V",), lr=0.0), "lr"),
        (lambda: Run(("V",), dropout=1.0), "dropout"),
        (lambda: Run(("V",), loss_weights={"VA": 1.0}), "VA"),
        (lambda: Run(("V",), loss_weights={"V": math.nan}), "loss_weights"),
        (lambda: Run(("V",), loss_weights={"V": math.inf}), "loss_weights"),
        (lambda: Run(("V",), weight_decay=math.inf), "weight_decay"),
        (lambda: Training(window=10, hop=20), "hop 20 > window 10"),
        (lambda: Training(kernel_size=4, causal=False), "odd"),
        (lambda: Training(epochs=0), "epochs 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_runs_hash_and_compare_by_what_they_are():
    assert Run(("AU", "A")) == Run(("A", "AU"))
    assert hash(Run(("A",), loss_weights={"A": 2.0})) == hash(Run(("A",), loss_weights={"A": 2.0}))


def test_a_run_that_the_caller_stops_leaves_and_changes_no_other(bank, tiny):
    asked = []

    def stop_at(epoch, scores):
        asked.append((epoch, {run.name: list(values) for run, values in scores.items()}))
        return [RUNS[1]] if epoch == 2 else []

    training = replace(tiny, epochs=4)
    kept, stopped, other = temporal.fit(bank, RUNS[:3], training, stop_at=stop_at)
    full = temporal.fit(bank, RUNS[:3], training)
    assert (stopped.status, stopped.epochs, stopped.model, stopped.predictions) == ("stopped", 2, None, {})
    assert stopped.history == full[1].history[:2]
    assert stopped.score == max(line["score"] for line in stopped.history)
    for a, b in ((kept, full[0]), (other, full[2])):
        assert (a.status, a.epochs, a.best_epoch) == ("done", 4, b.best_epoch)
        for name, tensor in a.model.network.state_dict().items():
            torch.testing.assert_close(tensor, b.model.network.state_dict()[name], rtol=0, atol=1e-5)
    assert [epoch for epoch, _ in asked] == [1, 2, 3, 4]
    assert [sorted(scores) for _, scores in asked] == [sorted(r.name for r in RUNS[:3])] * 2 + [
        sorted((RUNS[0].name, RUNS[2].name))
    ] * 2
    assert asked[3][1]["V"] == [line["score"] for line in kept.history]


def test_a_run_that_ends_by_itself_is_done_whatever_the_caller_says_and_a_failed_one_is_not_asked_about(
    bank, tiny
):
    wild, seen = Run(("EXPR",), seed=0, lr=1e30), []

    def stop_at(epoch, scores):
        seen.append(set(scores))
        return list(scores)

    done, failed = temporal.fit(bank, [RUNS[0], wild], replace(tiny, epochs=1), stop_at=stop_at)
    assert (done.status, failed.status) == ("done", "failed")
    assert seen == [{RUNS[0]}]


def test_each_run_follows_the_plateau_of_its_own_score(bank, tiny):
    training = replace(tiny, schedule="plateau", warmup=0.0, plateau_patience=0, plateau_factor=0.2)
    runs = [Run(("V",), lr=0.03), Run(("AU", "EXPR"), attention=True, seed=1, lr=0.01), Run(("A",), lr=0.02)]
    together = temporal.fit(bank, runs, training)
    constant = temporal.fit(bank, runs, replace(training, schedule="constant"))
    for run, result, plain in zip(runs, together, constant, strict=True):
        (alone,) = temporal.fit(bank, [run], training)
        scores = [[line["score"] for line in each.history] for each in (result, alone, plain)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)
        assert scores[0] != pytest.approx(scores[2], abs=2e-3)
