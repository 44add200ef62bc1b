"""Every backbone of the registry: the features are those of a plain forward pass, and float16 keeps them."""

import pytest
import torch
from plain_networks import calibrated, cosine, noise, relative_error
from safetensors.torch import save_file
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from extract.backbones import registry
from extract.backbones.inception_resnet_v1 import InceptionResnetV1
from extract.backbones.ir50 import ImprovedResNet
from extract.backbones.narrow_resnet50 import ARCHITECTURE
from extract.onednn import fuse

LEVELS = ("layer1", "layer2", "layer3", "layer4")


def pooled(network, x):
    network.fc = torch.nn.Identity()
    return network(x)


def pyramid(network, x):
    levels = create_feature_extractor(network, {level: level for level in LEVELS})(x)
    return torch.cat([levels[level].mean((2, 3)) for level in LEVELS], dim=1)


def call(network, x):
    return network(x)


# Architecture as its publisher builds it, plain forward pass, input side, features.
PLAIN = {
    "narrow_resnet50": (ARCHITECTURE, pooled, 64, 2048),
    "ir50": (lambda: ImprovedResNet(squeeze=False), call, 112, 512),
    "ir_se50": (lambda: ImprovedResNet(squeeze=True), call, 112, 512),
    "inception_resnet_v1": (InceptionResnetV1, call, 80, 512),
}
for depth, features, levels in (
    (18, 512, 960),
    (34, 512, 960),
    (50, 2048, 3840),
    (101, 2048, 3840),
    (152, 2048, 3840),
):
    build = lambda depth=depth: get_model(f"resnet{depth}", weights=None)  # noqa: E731
    PLAIN[f"resnet{depth}"] = (build, pooled, 64, features)
    PLAIN[f"resnet{depth}_pyramid"] = (build, pyramid, 64, levels)


@pytest.fixture(scope="module")
def random_network(tmp_path_factory):
    """The network of an architecture, and its file; only those asked for last are kept."""
    path, kept = tmp_path_factory.mktemp("weights") / "random.safetensors", {}

    def make(architecture, size):
        if architecture not in kept:
            kept.clear()
            kept[architecture] = calibrated(architecture, size)
            save_file(kept[architecture].state_dict(), path)
        return kept[architecture], path

    yield make
    path.unlink()  # up to 240 MB, and pytest keeps its folders


@pytest.mark.parametrize("name", sorted(registry.BACKBONES))  # so that a pyramid follows its own ResNet
def test_a_backbone_gives_the_features_of_a_plain_forward_pass(name, random_network):
    architecture, forward, size, dim = PLAIN[name]
    network, path = random_network(architecture, size)
    backbone = registry.load(name, str(path), size)
    x = noise(2, size)
    with torch.inference_mode():
        found, expected = backbone.module(x), forward(network, x)
        fused = fuse(backbone.module)(x)
    # The same sums, which some processors may add up in another order.
    torch.testing.assert_close(fused, found, rtol=1e-4, atol=1e-5 * float(found.abs().max()))
    assert (backbone.name, backbone.dim, found.shape, found.dtype) == (name, dim, (2, dim), torch.float32)
    assert relative_error(found, expected) < 1e-4
    assert cosine(found, expected) >= 0.99999
    half = found.half()
    assert half.isfinite().all()
    assert cosine(half, found) >= 0.99999
    assert not torch.allclose(found[0], found[1], rtol=1e-2)  # the crops matter, or parity says nothing


@torch.inference_mode()
def test_the_last_level_of_a_pyramid_is_the_plain_backbone(weights_path):
    x = noise(1, 64)
    levels = registry.load("resnet50_pyramid", str(weights_path), 64)
    plain = registry.load("resnet50", str(weights_path), 64)
    assert levels.stream == "resnet50_pyramid.random"
    assert torch.equal(levels.module(x)[:, -2048:], plain.module(x))
