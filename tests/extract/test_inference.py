"""The network on a device: what it computes, and on CUDA the order of copies, as far as a CPU can show it."""

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from extract import forward as network_module
from extract.backbones import narrow_resnet50
from extract.backbones.backbone import Backbone
from extract.forward import GATE, Network
from extract.onednn import fuse
from stores.errors import ConfigError

CPU = torch.device("cpu")


class Small(torch.nn.Module):
    """A network whose half precision is good, unless it is told to lose what matters."""

    def __init__(self, offset=0.0):
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv2d(3, 16, 5, stride=2)
        self.offset = offset

    def forward(self, images):
        # A large offset leaves nothing of the values in eight bits of mantissa.
        values = self.conv(images)
        return ((values + self.offset) - self.offset).mean((2, 3))


def backbone(offset=0.0, **attributes):
    small = Small(offset).eval()
    return Backbone(
        *("small", "seed1", "1" * 64, ("noise",), 32, (0.5,) * 3, (0.25,) * 3, 16), module=small, **attributes
    )


def crops(count):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)


@torch.inference_mode()
def expected(network, pixels):
    return network.module((pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25)


def test_a_batch_gives_the_rows_that_are_wanted_and_the_time_that_they_took():
    network, pixels = backbone(), crops(8)
    features, seconds = Network(network, CPU).start(pixels, 5).result()
    assert features.shape == (5, 16)
    torch.testing.assert_close(torch.from_numpy(features), expected(network, pixels)[:5])
    assert seconds > 0


def test_the_cpu_computes_in_float32_unless_it_is_told_otherwise():
    assert Network(backbone(), CPU).compute == {"device": "cpu", "precision": "float32"}
    with pytest.raises(ConfigError, match="precision float16 needs a GPU"):
        Network(backbone(), CPU, "float16")


def test_half_precision_passes_the_gate_where_features_keep_their_direction(caplog):
    with caplog.at_level(logging.INFO, "extract"):
        network = Network(backbone(), CPU, "bfloat16")
    assert network.compute == {"device": "cpu", "precision": "bfloat16"}
    assert "cosine with plain float32 at least" in caplog.text
    half, _ = network.start(crops(8), 8).result()
    full, _ = Network(backbone(), CPU).start(crops(8), 8).result()
    assert half.dtype == full.dtype
    assert (half != full).any()
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(half), torch.from_numpy(full))
    assert cosine.min() > GATE


def test_half_precision_that_changes_features_is_refused_or_with_auto_given_up_aloud(caplog):
    broken = backbone(1e4)
    network = Network(broken, CPU)
    with pytest.raises(ConfigError, match=r"small in bfloat16 has a cosine of .* expected at least 0\.9999"):
        network._pass_gate(broken, "bfloat16", strict=True)
    network._pass_gate(broken, "bfloat16", strict=False)
    assert network.precision == "float32"
    assert "computing in plain float32" in caplog.text


def test_features_that_overflow_in_half_precision_do_not_pass_the_gate():
    network = Network(backbone(), CPU)

    def overflowing(images):
        return torch.full((len(images), 16), torch.inf)

    network._module = overflowing
    with pytest.raises(ConfigError, match="a cosine of nan"):
        network._pass_gate(backbone(), "float16", strict=True)


def test_a_compiled_network_passes_the_gate_and_gives_the_same_features(monkeypatch):
    # Traced, but not translated to C++, which would take most of a minute; benchmarks/extract.py does that.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    network = Network(backbone(), CPU, compiled=True)
    features, _ = network.start(crops(8), 8).result()
    plain, _ = Network(backbone(), CPU).start(crops(8), 8).result()
    torch.testing.assert_close(torch.from_numpy(features), torch.from_numpy(plain), rtol=1e-4, atol=1e-5)


def test_a_fused_network_that_computes_something_else_is_given_up_aloud(monkeypatch, caplog):
    monkeypatch.setattr(network_module, "fuse", lambda module: lambda images: -module(images))
    network = Network(backbone(traceable=True), CPU)
    assert "small in float32, compiled or fused has a cosine of -1.000000" in caplog.text
    features, _ = network.start(crops(8), 8).result()
    torch.testing.assert_close(torch.from_numpy(features), expected(backbone(), crops(8)))


def test_the_cpu_fuses_what_can_be_traced_and_nothing_else(monkeypatch, caplog):
    fused = []
    monkeypatch.setattr(network_module, "fuse", lambda module: fused.append(module) or fuse(module))
    with caplog.at_level(logging.WARNING, "extract"):
        Network(backbone(), CPU)
        Network(backbone(traceable=True), CPU, "bfloat16")
        assert fused == []
        network = backbone(traceable=True)
        Network(network, CPU)
    assert fused == [network.module]
    assert caplog.text == ""


class FakeStream:
    """A CUDA stream that notes what is asked of it."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event.name}")


class FakeEvent:
    """A CUDA event with a name, in the order of their making."""

    names = ("copied", "arrived", "computing", "computed")

    def __init__(self, log):
        self.log, self.name = log, self.names[sum(entry.startswith("event") for entry in log) % 4]
        log.append(f"event {self.name}")

    def record(self, stream):
        self.log.append(f"{stream.name} records {self.name}")

    def synchronize(self):
        self.log.append(f"the CPU waits for {self.name}")

    def elapsed_time(self, other):
        return 2000.0


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_on_cuda_everything_is_on_the_gpu_and_features_are_float32(precision, monkeypatch):
    """A rehearsal on tensors without values that say they are on a GPU; no kernel runs."""
    gpu, passed = torch.device("cuda", 0), []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream("copies", []))
    monkeypatch.setattr(Network, "_pass_gate", lambda _, backbone, wanted, strict: passed.append(wanted))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    # It is made there: torch cannot move parameters without values.
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, device: module)
    with FakeTensorMode():
        with gpu:
            made = replace(backbone(traceable=True), module=narrow_resnet50.ARCHITECTURE().eval())
        network = Network(made, gpu, precision)
        network.precision, maps = precision, []
        made.module.conv1.register_forward_hook(lambda module, given, map_: maps.append(map_))
        features = network._features(torch.zeros((8, 32, 32, 3), dtype=torch.uint8).to(gpu))
    assert (features.device, features.dtype, features.shape) == (gpu, torch.float32, (8, 1000))
    assert [(map_.device, map_.dtype) for map_ in maps] == [(gpu, getattr(torch, precision))]
    assert network._module is made.module
    assert passed == ([] if precision == "float32" else [precision])


def test_on_cuda_a_slot_is_free_once_copied_while_the_network_and_the_way_back_go_on(monkeypatch):
    """A rehearsal with streams that note the order; no kernel runs, and nothing is said of speed."""
    network, log = Network(backbone(), CPU), []
    main, copies = FakeStream("main", log), FakeStream("copies", log)
    network._copies = copies

    class Within:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            log.append(f"on {self.stream.name}")

        def __exit__(self, *error):
            log.append(f"off {self.stream.name}")

    compute, empty = network._features, torch.empty

    def features(pixels):
        log.append("network")
        return compute(pixels)

    monkeypatch.setattr(network, "_features", features)
    monkeypatch.setattr("extract.forward._event", lambda: FakeEvent(log))
    monkeypatch.setattr(torch.cuda, "stream", Within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options))
    pending = network.start(crops(8), 5)
    assert [entry for entry in log if not entry.startswith("event")] == [
        "on copies",
        "copies records copied",
        "off copies",
        "main waits for copied",
        "main records computing",
        "network",
        "main records computed",
        "on copies",
        "copies waits for computed",
        "copies records arrived",
        "off copies",
        "the CPU waits for copied",
    ]
    values, seconds = pending.result()
    assert log[-1] == "the CPU waits for arrived"
    assert seconds == 2.0
    torch.testing.assert_close(torch.from_numpy(values), expected(backbone(), crops(8))[:5])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_cuda_gives_the_features_of_the_cpu(precision):
    pixels = crops(64)
    there = Network(backbone(), torch.device("cuda"), precision)
    batches = [there.start(part.pin_memory(), len(part)) for part in pixels.split(16)]
    found = torch.cat([torch.from_numpy(batch.result()[0]) for batch in batches])
    here, _ = Network(backbone(), CPU).start(pixels, 64).result()
    assert torch.nn.functional.cosine_similarity(found, torch.from_numpy(here)).min() > GATE


@torch.inference_mode()
def test_a_flip_averaged_backbone_is_the_mean_of_both_views_and_another_stream():
    plain = backbone()
    flipped = plain.flip_averaged()
    images = torch.randn(3, 3, 32, 32)
    wanted = (plain.module(images) + plain.module(images.flip(-1))) / 2
    torch.testing.assert_close(flipped.module(images), wanted)
    assert flipped.stream == "small+flip.seed1"
    assert flipped.feature_spec().digest() != plain.feature_spec().digest()
