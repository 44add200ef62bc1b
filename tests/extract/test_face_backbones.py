"""Face networks: public checkpoints load by their own names, and give the numbers of the public code."""

import hashlib
import json

import pytest
import torch
from plain_networks import counted, noise
from safetensors.torch import save_file
from torch import nn

from extract.backbones import registry
from extract.backbones.inception_resnet_v1 import InceptionResnetV1
from extract.backbones.ir50 import ImprovedResNet
from stores.errors import ConfigError

# From the public modules, once: TreB1eN/InsightFace_Pytorch model.py at 016916f (Backbone(50, 0.5, mode)) and
# facenet-pytorch 2.6.0 (InceptionResnetV1()). Names: SHA-256 of their sorted lines "name [shape]", without
# batch counters. Features: the first of ``counted`` weights and ``noise(2, size, seed=7) / 2``, first crop.
PUBLIC = {
    "ir50": {
        "size": 112,
        "parameters": 43_574_976,
        "names": "50bb9c82e6958ce365759c094b4d8c0cefe1db6da14982b79be7298645c207ec",
        "features": [-0.100278, -0.027156, 0.103905, 0.015951, 0.036529, -0.024803, 0.013784, 0.044866],
    },
    "ir_se50": {
        "size": 112,
        "parameters": 43_797_696,
        "names": "ae46b85c976f028483e4310caeb1b8a2d6e7be369c05c2ad2d536bbdc62ac43e",
        "features": [-0.023906, -0.021904, 0.017823, -0.022831, 0.078923, -0.022372, 0.039721, 0.016465],
    },
    "inception_resnet_v1": {
        "size": 96,
        "parameters": 23_482_624,
        "names": "85d43996164f0738f90bd2440a419cc4e039ac51722297849b04d89850589b3f",
        "features": [-0.012954, -0.035077, 0.011348, -0.011603, -0.052106, 0.010155, -0.020195, -0.04397],
    },
}


def build(name):
    return InceptionResnetV1() if name == "inception_resnet_v1" else ImprovedResNet(squeeze=name == "ir_se50")


def shapes(name):
    with torch.device("meta"):
        network = build(name)
    state = network.state_dict()
    return {key: tuple(state[key].shape) for key in state if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module", params=PUBLIC)
def loaded(request, tmp_path_factory):
    """Each network as the registry loads it, and its file, whose values the names of its tensors decide."""
    name, path = request.param, tmp_path_factory.mktemp("checkpoints") / f"{request.param}.safetensors"
    save_file({key: counted(key, shape) for key, shape in shapes(name).items()}, path)
    yield registry.load(name, str(path), PUBLIC[name]["size"]), path
    path.unlink()  # up to 175 MB, and pytest keeps its folders


def refusal(name, weights, image_size):
    with pytest.raises(ConfigError) as caught:
        registry.load(name, str(weights), image_size)
    return str(caught.value)


@pytest.mark.parametrize("name", PUBLIC)
def test_tensor_names_and_shapes_are_those_of_the_public_checkpoints(name):
    lines = "\n".join(f"{key} {list(shape)}" for key, shape in sorted(shapes(name).items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == PUBLIC[name]["names"]
    with torch.device("meta"):
        assert sum(value.numel() for value in build(name).parameters()) == PUBLIC[name]["parameters"]


@torch.inference_mode()
def test_features_are_the_numbers_of_the_public_code_and_of_length_one(loaded):
    backbone, _ = loaded
    public = PUBLIC[backbone.name]
    features = backbone.module(noise(2, public["size"], seed=7) / 2)
    assert features.shape == (2, backbone.dim) == (2, 512)
    torch.testing.assert_close(features[0, :8], torch.tensor(public["features"]), rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    assert backbone.stream == f"{backbone.name}.{backbone.name}"
    assert backbone.weights_trained_on == ("unknown",)


def test_batch_norm_is_folded_wherever_it_follows_a_convolution(loaded):
    backbone, _ = loaded
    left = [module for module in backbone.module.modules() if isinstance(module, nn.BatchNorm2d)]
    # One opens each unit of an IR network, before padding, and one its output layer.
    assert len(left) == (0 if backbone.name == "inception_resnet_v1" else 24 + 1)
    values = [*backbone.module.parameters(), *backbone.module.buffers()]
    assert not any(value.is_meta or value.requires_grad for value in values)


def test_preprocessing_is_that_of_the_public_code(loaded):
    backbone, _ = loaded
    pixels = torch.tensor([0.0, 127.5, 255.0])
    public = (pixels - 127.5) / (128 if backbone.name == "inception_resnet_v1" else 127.5)
    for mean, std in zip(backbone.mean, backbone.std, strict=True):
        torch.testing.assert_close((pixels / 255 - mean) / std, public)


def test_a_checkpoint_whose_names_differ_is_refused_by_them(loaded, tmp_path):
    backbone, _ = loaded
    path = tmp_path / "renamed.safetensors"
    names = list(shapes(backbone.name))
    save_file({f"module.{name}" if name == names[0] else name: torch.zeros(1) for name in names}, path)
    message = refusal(backbone.name, path, PUBLIC[backbone.name]["size"])
    for part in (f"missing: {names[0]}", f"unexpected: module.{names[0]}", "(1,) instead of", "own names"):
        assert part in message


def test_a_squeezing_network_is_not_taken_for_one_without(tmp_path):
    path = tmp_path / "ir_se50.safetensors"
    save_file({name: torch.zeros(1) for name in shapes("ir_se50")}, path)
    assert "unexpected: body.0.res_layer.5.fc1.weight" in refusal("ir50", path, 112)


def test_a_card_and_the_unused_classifier_of_a_vggface2_checkpoint(tmp_path):
    path = tmp_path / "20180402-114759-vggface2.pt"
    state = {name: torch.ones(shape) for name, shape in shapes("inception_resnet_v1").items()}
    torch.save(state | {"logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}, path)
    path.with_suffix(".json").write_text(json.dumps({"mean": [0, 0, 0], "trained_on": ["VGGFace2"]}))
    backbone = registry.load("inception_resnet_v1", str(path), 160)
    path.unlink()
    assert (backbone.stream, backbone.image_size) == ("inception_resnet_v1.20180402-114759-vggface2", 160)
    assert (backbone.mean, backbone.std) == ((0, 0, 0), (128 / 255,) * 3)
    assert backbone.weights_trained_on == ("VGGFace2",)


def test_sizes_that_a_face_network_cannot_take_are_refused():
    for name in ("ir50", "ir_se50"):
        for size in (96, 128, 224):
            assert f"image_size {size}" in refusal(name, "x.pth", size)
            assert "set image_size to 112" in refusal(name, "x.pth", size)
    assert "at least 80 pixels" in refusal("inception_resnet_v1", "x.pth", 64)
    assert "multiple of 16" in refusal("inception_resnet_v1", "x.pth", 100)


def test_weights_without_a_path_are_refused():
    for name in PUBLIC:
        assert f"unknown weights 'vggface2' of {name}: expected the path" in refusal(name, "vggface2", 112)
