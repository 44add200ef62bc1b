"""Backbones: a weights file gives torchvision's own features, or one clear error that says what to do."""

import hashlib
import io
import json
import subprocess
import sys
import urllib.error
from dataclasses import replace

import numpy as np
import pytest
import torch
from affwild2_tree import make_jpeg
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import ResNet, get_model_weights, resnet18, resnet50
from torchvision.models.resnet import Bottleneck

from extract.backbones import download, registry, weights_file
from extract.backbones.training_data import saw
from stores.errors import ConfigError


def inputs(backbone, count=2):
    images = [np.asarray(Image.open(io.BytesIO(make_jpeg(seed)))) for seed in range(count)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    return (pixels - mean) / std


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def pooled(network):
    network.fc = torch.nn.Identity()
    return network


def refusal(weights, name="resnet50", image_size=112):
    with pytest.raises(ConfigError) as caught:
        registry.load(name, weights, image_size)
    return str(caught.value)


@pytest.fixture(scope="module")
def reference(reference_network):
    network = resnet50(weights=None)
    network.load_state_dict(reference_network.state_dict())
    return pooled(network.eval())


@torch.inference_mode()
def test_folded_resnet50_gives_torchvisions_features(weights_path, reference):
    backbone = registry.load("resnet50", str(weights_path))
    x = inputs(backbone)
    features = backbone.module(x)
    assert features.shape == (2, 2048)
    assert features.dtype == torch.float32
    assert relative_error(features, reference(x)) < 1e-5
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.module.modules())


def test_a_local_file_is_known_by_its_stem_its_sha256_and_imagenets_preprocessing(weights_path):
    backbone = registry.load("resnet50", str(weights_path), 224)
    assert backbone.stream == "resnet50.random"
    assert backbone.weights_sha256 == hashlib.sha256(weights_path.read_bytes()).hexdigest()
    spec = backbone.feature_spec("float32")
    assert (spec.weights_sha256, spec.dtype, spec.dim) == (backbone.weights_sha256, "float32", 2048)
    assert (spec.image_size, spec.mean, spec.std) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (spec.interpolation, spec.decoder) == ("bilinear-antialias", "torchcodec.decode_jpeg")
    assert set(spec.versions) == {"numpy", "torch", "torchcodec", "torchvision"}


@torch.inference_mode()
def test_safetensors_without_a_classifier_gives_the_same_features(tmp_path, weights_path, reference_network):
    path = tmp_path / "trunk.safetensors"
    state = {
        name: value for name, value in reference_network.state_dict().items() if not name.startswith("fc.")
    }
    save_file(state, path)
    loaded, other = registry.load("resnet50", str(path)), registry.load("resnet50", str(weights_path))
    x = inputs(loaded, 1)
    torch.testing.assert_close(loaded.module(x), other.module(x), rtol=0, atol=0)
    assert loaded.weights_sha256 != other.weights_sha256


def test_a_card_beside_the_file_sets_preprocessing_and_training_data(tmp_path, reference_network):
    path = tmp_path / "faces.pth"
    torch.save(reference_network.state_dict(), path)
    card = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 0.5], "trained_on": ["VGGFace2"]}
    path.with_suffix(".json").write_text(json.dumps(card))
    backbone = registry.load("resnet50", str(path))
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (1, 1, 0.5))
    assert backbone.weights_trained_on == ("VGGFace2",)
    path.with_suffix(".json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    assert "its card says 000" in refusal(str(path))
    path.with_suffix(".json").write_text(json.dumps(card | {"std": [0, 1, 1]}))
    assert "std above 0" in refusal(str(path))
    path.with_suffix(".json").write_text(json.dumps(card | {"mean": [float("nan"), 0, 0]}))
    assert "expected three numbers each" in refusal(str(path))
    path.with_suffix(".json").write_text(json.dumps(card | {"trained_on": "VGGFace2"}))
    assert "trained_on 'VGGFace2'; expected a list" in refusal(str(path))
    path.with_suffix(".json").write_text("[")
    assert "not a weights card" in refusal(str(path))


@torch.inference_mode()
def test_the_narrow_resnet50_loads_float16_weights_and_gives_2048_features(tmp_path):
    torch.manual_seed(1)
    network = ResNet(Bottleneck, [3, 4, 6, 3], width_per_group=16).eval()
    path = tmp_path / "narrow.safetensors"
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    save_file({n: v.half() if v.is_floating_point() else v for n, v in state.items()}, path)
    backbone = registry.load("narrow_resnet50", str(path))
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    x = inputs(backbone)
    assert relative_error(backbone.module(x), pooled(network)(x)) < 1e-2  # float16 weights


def test_bundled_weights_that_are_not_this_releases_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "narrow_resnet50.rendered.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)
    known = registry.BACKBONES["narrow_resnet50"]
    other = replace(known, published={"rendered": replace(known.published["rendered"], path=path)})
    monkeypatch.setitem(registry.BACKBONES, "narrow_resnet50", other)
    message = refusal("rendered", "narrow_resnet50")
    assert known.published["rendered"].sha256 in message
    assert "install" in message


def test_names_that_do_not_fit_are_listed_not_guessed_around(tmp_path, reference_network):
    path = tmp_path / "parallel.pth"
    torch.save({f"module.{name}": value for name, value in reference_network.state_dict().items()}, path)
    message = refusal(str(path))
    for part in ("missing: conv1.weight", "unexpected: module.conv1.weight", "and 260 more", "prefix"):
        assert part in message


def test_tensors_of_another_shape_are_listed_with_both_shapes(tmp_path, reference_network):
    path = tmp_path / "gray.pth"
    torch.save(reference_network.state_dict() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    assert "conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)" in refusal(str(path))


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    assert "do not fit" in refusal(str(path))


def test_a_checkpoint_that_wraps_the_state_dict_is_refused_by_its_keys(tmp_path, reference_network):
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": reference_network.state_dict()}, path)
    message = refusal(str(path))
    assert "keys epoch, state_dict" in message
    assert "save model.state_dict()" in message


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in a weights file was run')",)


def test_a_pickle_that_would_run_code_is_refused_without_running_it(tmp_path):
    path = tmp_path / "hostile.pth"
    torch.save({"conv1.weight": Payload()}, path)
    assert "not a readable file of tensors" in refusal(str(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(tmp_path, weights_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    for content in (b"", b"not weights", weights_path.read_bytes()[:100_000]):
        path.write_bytes(content)
        assert str(path) in refusal(str(path))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("zipped", [False, True])
def test_whichever_byte_of_a_pickle_is_damaged_the_error_is_one_config_error(tmp_path, zipped):
    path, random = tmp_path / "damaged.pth", np.random.default_rng(1)
    state = {"conv1.weight": torch.ones(4, 4), "bn1.bias": torch.zeros(3)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole, refused = path.read_bytes(), 0
    for position in range(0, min(len(whole), 900), 3):
        damaged = bytearray(whole)
        damaged[position] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            weights_file.read(path)  # a damaged value is no damaged pickle: that is what the SHA-256 is for
        except ConfigError:
            refused += 1
    assert refused > 50


def test_weights_that_hold_nan_are_refused(tmp_path, reference_network):
    path = tmp_path / "nan.pth"
    state = dict(reference_network.state_dict())
    state["conv1.weight"] = torch.full_like(state["conv1.weight"], torch.nan)
    torch.save(state, path)
    assert "conv1.weight hold NaN" in refusal(str(path))


def test_published_weights_without_network_name_the_local_file_alternative(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        reason = "no route to host"
        raise urllib.error.URLError(reason)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    message = refusal("imagenet1k_v2")
    for part in ("resnet50-11ad3fa6.pth", "no route to host", "set 'weights'", str(tmp_path)):
        assert part in message
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


def test_a_damaged_download_cache_is_refused_by_its_hash(tmp_path, monkeypatch, reference_network):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    path.parent.mkdir(parents=True)
    torch.save(reference_network.state_dict(), path)
    message = refusal("imagenet1k_v1")
    assert "expected 0676ba61" in message
    assert "delete it" in message


def test_published_weights_carry_their_training_data_and_full_sha256(tmp_path, monkeypatch, weights_path):
    content = weights_path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    known = registry.BACKBONES["resnet50"]
    published = known.published | {
        "imagenet1k_v1": replace(known.published["imagenet1k_v1"], sha256=digest[:8])
    }
    monkeypatch.setitem(registry.BACKBONES, "resnet50", replace(known, published=published))
    path = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    backbone = registry.load("resnet50", "imagenet1k_v1")
    assert (backbone.stream, backbone.weights_sha256) == ("resnet50.imagenet1k_v1", digest)
    assert backbone.weights_trained_on == ("ImageNet-1k",)


def test_only_weights_that_are_not_there_yet_need_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("resnet152", "resnet152_pyramid"):
        assert "resnet152-f82ba261.pth" in registry.to_download(name, "imagenet1k_v2")
        assert registry.to_download(name, "own.pth") == ""
    assert registry.to_download("narrow_resnet50", "rendered") == ""
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "resnet152-f82ba261.pth").touch()
    assert registry.to_download("resnet152", "imagenet1k_v2") == ""


def test_one_file_and_one_line_add_a_backbone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def colour(weights):\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    monkeypatch.setitem(registry.BACKBONES, "colour", registry.Known("mine:colour", dim=3))
    save_file({"gain": torch.ones(1)}, tmp_path / "mean.safetensors")
    backbone = registry.load("colour", str(tmp_path / "mean.safetensors"), 64)
    assert (backbone.stream, backbone.feature_spec().dim) == ("colour.mean", 3)
    assert backbone.module(torch.ones(1, 3, 64, 64)).tolist() == [[1, 1, 1]]
    assert registry.to_download("colour", "mean.safetensors") == ""


@pytest.mark.parametrize("home", ["TORCH_HOME", "XDG_CACHE_HOME", None])
def test_downloads_are_looked_for_where_torch_keeps_them(tmp_path, monkeypatch, home):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home:
        monkeypatch.setenv(home, str(tmp_path))
    assert str(download.cached("https://a/b-1234.pth").parent) == f"{torch.hub.get_dir()}/checkpoints"


def test_published_weights_are_those_of_torchvision():
    for name, known in registry.BACKBONES.items():
        if known.arguments:
            theirs = {weights.name.lower(): weights.url for weights in get_model_weights(*known.arguments)}
            assert {weights: published.url for weights, published in known.published.items()} == theirs, name
            assert all(published.sha256 in published.url for published in known.published.values())


def test_naming_weights_imports_no_torch_and_says_what_loading_says(tmp_path, weights_path):
    # Of timm's models only timm, which imports torch, knows the preprocessing: they are no key of BACKBONES.
    sizes = {name: known.only or 112 for name, known in registry.BACKBONES.items()}
    code = (
        "import sys\nfrom extract.backbones import registry\n"
        f"for name, size in {sizes}.items():\n"
        f"    print(registry.named(name, {str(weights_path)!r}, size).feature_spec().digest())\n"
        "print(registry.named('narrow_resnet50', 'rendered').feature_spec().digest())\n"
        "assert not {'torch', 'torchvision', 'torchcodec', 'timm'} & sys.modules.keys()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(told) == len(sizes) + 1
    loaded = [
        registry.load("resnet50", str(weights_path)).feature_spec().digest(),
        registry.load("narrow_resnet50", "rendered").feature_spec().digest(),
    ]
    assert loaded == [told[list(sizes).index("resnet50")], told[-1]]


def test_weights_that_saw_a_corpus_are_flagged_however_its_name_is_written():
    for name in ("Aff-Wild2", "affwild2", "AFF_WILD 2", "s-Aff-Wild2", "Aff-Wild2 (training set)"):
        assert saw(("ImageNet-1k", name)) is True
    assert saw(("ImageNet-1k", "Aff-Wild", "AffectNet")) is False
    assert saw(("unknown", "ImageNet-1k")) is None
    assert saw(()) is None
    assert saw(("Affect Net",), "AffectNet") is True


def test_unknown_names_sizes_and_files_list_what_is_known(tmp_path):
    for part in ("narrow_resnet50, resnet18", "resnet50_pyramid", "ir_se50", "timm:MODEL"):
        assert part in refusal("imagenet1k_v2", "resnet51")
    assert "expected one of" in refusal("pretrained", "torchhub:resnet50")
    assert "of resnet50: expected imagenet1k_v1, imagenet1k_v2, the path" in refusal("imagenet")
    assert "of resnet18_pyramid: expected imagenet1k_v1, the path" in refusal(
        "imagenet1k_v2", "resnet18_pyramid"
    )
    assert "expected rendered, the path" in refusal("imagenet1k_v2", "narrow_resnet50")
    assert "no weights file" in refusal(str(tmp_path / "absent.pth"))
    (tmp_path / "weights.onnx").touch()
    assert "suffix '.onnx'" in refusal(str(tmp_path / "weights.onnx"))
    for size in (48, 100, 0, -64):
        assert "multiple of 16" in refusal("imagenet1k_v2", image_size=size)
