"""Reduced precision of products: what a gate lets through, and that nothing else changes."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch._dynamo.utils

import temporal
from stores.errors import ConfigError
from temporal.settings import ATTENTIONS, MODELS, Run
from temporal.train import fused
from temporal.train.precision import products, require_parity

CPU = torch.device("cpu")
RUNS = [Run(("V", "AU"), attention=True), Run(("A", "EXPR"), seed=1)]


def test_tf32_is_for_a_step_alone_and_the_settings_of_torch_are_restored():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with products(torch.device("cuda"), tf32=True):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
    with products(CPU, tf32=False):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_tf32_is_refused_where_there_is_none(bank, tiny):
    with pytest.raises(ConfigError, match="tf32 needs a GPU, the sweep runs on cpu"):
        temporal.fit(bank, RUNS, replace(tiny, precision="tf32"))


@pytest.mark.parametrize(
    ("model", "kind"), [*((m, "scalar") for m in MODELS), *(("mlp", k) for k in ATTENTIONS if k != "scalar")]
)
def test_training_in_bfloat16_passes_the_gate_and_reaches_about_the_scores_of_float32(
    bank, tiny, model, kind
):
    shape = replace(tiny, model=model, attention=kind, channels=8, epochs=2)
    plain, reduced = (temporal.fit(bank, RUNS, replace(shape, precision=p)) for p in ("float32", "bfloat16"))
    for one, other in zip(plain, reduced, strict=True):
        assert one.history != other.history  # the setting did something
        assert other.score == pytest.approx(one.score, abs=0.05)
        assert {tensor.dtype for tensor in other.model.network.state_dict().values()} == {torch.float32}


def test_a_compiled_step_gives_the_weights_of_a_plain_one_also_when_replicas_have_left(
    bank, tiny, monkeypatch
):
    # Without code generation, which takes a minute and is torch's own.
    eager = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(fused, "compiled", lambda program, device: eager(program))
    tiny = replace(tiny, model="mlp", epochs=3)
    runs = [Run(("V",), dropout=0.2), Run(("A",), seed=1)]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    plain, compiled = (
        temporal.fit(
            bank,
            runs,
            replace(tiny, compile=compile_),
            stop_at=lambda epoch, scores: runs[1:] if epoch == 1 else [],
        )
        for compile_ in (False, True)
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before + 1
    assert [result.status for result in compiled] == ["done", "stopped"]
    for p, q in zip(plain[0].model.network.parameters(), compiled[0].model.network.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def test_a_program_that_computes_something_else_is_refused_before_the_first_step(bank, tiny, monkeypatch):
    monkeypatch.setattr(fused, "compiled", lambda program, device: lambda *batch: -program(*batch))
    with pytest.raises(ConfigError, match="gradients in float32, compiled have a cosine of -1"):
        temporal.fit(bank, RUNS, replace(tiny, compile=True))


def test_gradients_that_point_elsewhere_are_refused_and_rows_without_any_do_not_count():
    plain = torch.tensor([[1.0, 0.0], [0.0, 0.0], [float("nan"), 1.0]])
    require_parity("bfloat16", plain, torch.tensor([[0.999, 0.01], [5.0, 5.0], [0.0, 0.0]]))
    with pytest.raises(ConfigError, match=r"gradients in bfloat16 have a cosine of 0\.7071"):
        require_parity("bfloat16", plain, torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ConfigError, match=r"cosine of -1\.0000"):
        require_parity("bfloat16", plain, torch.tensor([[float("nan"), 1.0], [0.0, 0.0], [0.0, 0.0]]))


def test_a_training_whose_gradients_do_not_pass_the_gate_does_not_begin(bank, tiny, monkeypatch):
    monkeypatch.setattr("temporal.train.precision.GATE", 1.1)
    with pytest.raises(ConfigError, match="set training"):
        temporal.fit(bank, RUNS, replace(tiny, precision="bfloat16"))
