"""Training on whatever device there is: each claim for the CPU, and for a GPU where torch finds one.

Bits are promised on a CPU alone, by other tests; here numbers agree within rounding that training amplifies.
"""

from dataclasses import replace

import pytest
import torch
from conftest import scaled, with_features

import temporal
from temporal.settings import ATTENTIONS, MODELS, Run, Training
from temporal.train.resume import StateFile

GPU = pytest.mark.gpu
TINY = Training(
    window=12, hop=10, batch_size=2, epochs=3, patience=0, channels=8, levels=2, kernel_size=3, projection=4
)
RUNS = [
    Run(("V",), seed=0, lr=1e-2),
    Run(("A", "AU"), attention=True, seed=1, lr=5e-3, dropout=0.2),
    Run(("V", "AU", "EXPR"), attention=True, seed=2, lr=1e-2, loss_weights={"AU": 0.5}),
    Run(("EXPR",), seed=0, lr=1e-2),
]


def on(device, bank):
    """The same bank with everything on ``device``."""

    def there(split):
        labels = {name: values.to(device) for name, values in split.labels.items()}
        face = split.streams["face"]
        moved = with_features(split, face.features.to(device), face.valid.to(device))
        return replace(moved, labels=labels)

    return replace(bank, train=there(bank.train), validation=there(bank.validation))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=GPU)])
def here(request, bank):
    return on(request.param, bank)


def assert_alike(found, expected, tolerance):
    """The same losses in the first epoch, to rounding, and about the same scores at the end."""
    for one, other in zip(found, expected, strict=True):
        assert one.status == other.status == "done"
        assert one.history[0]["loss"] == pytest.approx(other.history[0]["loss"], rel=tolerance)
        assert one.score == pytest.approx(other.score, abs=0.02)


# Of the CPU other tests say this for every model.
@pytest.mark.parametrize(
    ("device", "model"), [("cpu", "mlp"), *(pytest.param("cuda", model, marks=GPU) for model in MODELS)]
)
def test_a_replica_in_a_stack_equals_the_same_run_trained_alone(bank, device, model):
    here = on(device, bank)
    training = replace(TINY, model=model, causal=False, epochs=2)
    together = temporal.fit(here, RUNS, training)
    for run, result in zip(RUNS, together, strict=True):
        (alone,) = temporal.fit(here, [run], training)
        weights = alone.model.network.state_dict()
        for name, value in result.model.network.state_dict().items():
            torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-5)


def test_every_device_reports_where_it_trained_and_hands_models_over_on_the_cpu(here):
    for result in temporal.fit(here, RUNS, TINY):
        assert torch.device(result.device).type == here.train.device.type
        assert {value.device.type for value in result.model.network.state_dict().values()} == {"cpu"}


@GPU
@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("model", MODELS)
def test_a_gpu_trains_as_the_cpu_does(bank, model, kind):
    training = replace(TINY, model=model, attention=kind, causal=False, epochs=2)
    cpu, gpu = (temporal.fit(on(device, bank), RUNS, training) for device in ("cpu", "cuda"))
    assert_alike(gpu, cpu, 1e-3)


@GPU
@pytest.mark.parametrize("changes", [{"standardise": False}, {"pca": 3}, {"centre": True}], ids=str)
def test_prepared_features_are_the_same_on_a_gpu(bank, changes):
    training = replace(TINY, **changes)
    cpu, gpu = (temporal.fit(on(device, bank), RUNS, training) for device in ("cpu", "cuda"))
    assert_alike(gpu, cpu, 1e-3)


@GPU
@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_reduced_precision_passes_its_gate_on_a_gpu_and_reaches_about_the_scores_of_float32(bank, precision):
    training = replace(TINY, epochs=6)
    plain, reduced = (
        temporal.fit(on("cuda", bank), RUNS, replace(training, precision=name))
        for name in ("float32", precision)
    )
    for one, other in zip(plain, reduced, strict=True):
        assert other.score == pytest.approx(one.score, abs=0.1)


@GPU
def test_a_step_compiled_into_cuda_graphs_trains_as_the_plain_one_also_when_replicas_have_left(bank):
    plain, compiled = (
        temporal.fit(
            on("cuda", bank),
            RUNS,
            replace(TINY, compile=compile_),
            stop_at=lambda epoch, scores: RUNS[1:2] if epoch == 1 else [],
        )
        for compile_ in (False, True)
    )
    assert [result.status for result in compiled] == ["done", "stopped", "done", "done"]
    assert_alike([compiled[0], *compiled[2:]], [plain[0], *plain[2:]], 1e-3)


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on_from_its_state_on_its_own_device(here, tmp_path):
    def progress(step, total, completed):
        if completed >= len(RUNS) * 2:
            raise Killed

    def train(**arguments):
        state = StateFile(tmp_path / "state.safetensors", {"test": "devices"})
        return temporal.fit(here, RUNS, TINY, state=state, **arguments)

    with pytest.raises(Killed):
        train(progress=progress)
    resumed = train()
    assert_alike(resumed, temporal.fit(here, RUNS, TINY), 1e-3)


def test_statistics_are_those_of_the_cpu(here, bank):
    found, expected = scaled(here.train)["face"], scaled(bank.train)["face"]
    torch.testing.assert_close(found.mean.cpu(), expected.mean)
    torch.testing.assert_close(found.std.cpu(), expected.std)
