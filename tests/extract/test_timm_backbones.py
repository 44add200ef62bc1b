"""timm backbones: the features of plain timm, its preprocessing, strict weights, one clear error each."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from plain_networks import noise, relative_error
from safetensors.torch import save_file

from extract.backbones import registry, timm_model
from extract.backbones.training_data import saw
from stores.errors import ConfigError


def refusal(name, weights, image_size=224):
    with pytest.raises(ConfigError) as caught:
        registry.load(name, str(weights), image_size)
    return str(caught.value)


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "uv sync --extra timm" in refusal("timm:vit_tiny_patch16_224", "pretrained")
    with pytest.raises(ConfigError, match="uv sync --extra timm"):
        registry.to_download("timm:vit_tiny_patch16_224", "pretrained")


def test_tags_name_the_training_data_of_every_stage_or_admit_that_it_is_unknown():
    assert timm_model.trained_on("augreg_in21k_ft_in1k") == ("ImageNet-21k", "ImageNet-1k")
    assert timm_model.trained_on("clip_openai_ft_in12k_in1k") == ("OpenAI-WIT", "ImageNet-12k", "ImageNet-1k")
    assert timm_model.trained_on("fcmae_ft_in1k") == ("unknown", "ImageNet-1k")
    assert timm_model.trained_on("") == ("unknown",)
    assert saw(timm_model.trained_on("a1_in1k")) is False


class TestWithTimm:
    @pytest.fixture(autouse=True)
    def timm(self):
        return pytest.importorskip("timm")

    @pytest.fixture
    def saved(self, timm, tmp_path):
        """Makes a network of random values and a file of them."""

        def save(name, *, suffix=".safetensors", **options):
            torch.manual_seed(4)
            network = timm.create_model(name, pretrained=False, **options).eval()
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
            path = tmp_path / f"own{suffix}"
            if suffix == ".pth":
                torch.save(network.state_dict(), path)
            else:
                save_file(network.state_dict(), path)
            network.reset_classifier(0)
            return network, path

        return save

    @pytest.mark.parametrize(
        ("name", "size", "dim"),
        [
            ("vit_tiny_patch16_224.augreg_in21k", 224, 192),
            ("efficientnet_b0.ra_in1k", 96, 1280),
            ("convnext_atto.d2_in1k", 96, 320),
        ],
    )
    @torch.inference_mode()
    def test_features_are_those_of_plain_timm(self, timm, saved, name, size, dim):
        plain, path = saved(name)
        backbone = registry.load(f"timm:{name}", str(path), size)
        x = noise(2, size)
        expected = plain(x)
        assert backbone.module(x).shape == expected.shape == (2, backbone.dim) == (2, dim)
        assert relative_error(backbone.module(x), expected) < 1e-5
        config = timm.data.resolve_model_data_config(timm.create_model(name))
        assert (backbone.mean, backbone.std) == (tuple(config["mean"]), tuple(config["std"]))
        assert backbone.interpolation == f"{config['interpolation']}-antialias"
        spec = backbone.feature_spec()
        assert (spec.backbone, spec.stream) == (f"timm:{name}", f"timm-{name}.own")
        assert spec.interpolation == backbone.interpolation
        assert spec.versions["timm"] == timm.__version__
        assert spec.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_name_without_a_tag_is_recorded_with_timms_default_one(self, saved):
        _, path = saved("efficientnet_b0")
        assert registry.load("timm:efficientnet_b0", str(path), 64).name == "timm:efficientnet_b0.ra_in1k"

    @pytest.mark.parametrize("classes", [0, 7])
    @torch.inference_mode()
    def test_a_file_may_have_no_classifier_or_one_of_other_classes(self, saved, classes):
        plain, path = saved("efficientnet_b0.ra_in1k", suffix=".pth", num_classes=classes)
        backbone = registry.load("timm:efficientnet_b0.ra_in1k", str(path), 64)
        x = noise(1, 64)
        assert relative_error(backbone.module(x), plain(x)) < 1e-5

    @torch.inference_mode()
    def test_a_transformer_takes_another_size_as_timm_itself_does(self, timm, saved):
        name = "vit_tiny_patch16_224.augreg_in21k"
        _, path = saved(name)
        backbone = registry.load(f"timm:{name}", str(path), 112)
        overlay = {"file": str(path), "custom_load": False}
        plain = timm.create_model(
            name, pretrained=True, num_classes=0, img_size=112, pretrained_cfg_overlay=overlay
        )
        x = noise(1, 112)
        assert relative_error(backbone.module(x), plain.eval()(x)) < 1e-5

    def test_a_size_that_the_model_cannot_take_names_the_one_it_was_made_for(self, saved):
        _, path = saved("vit_tiny_patch16_224.augreg_in21k")
        message = refusal("timm:vit_tiny_patch16_224.augreg_in21k", path, 8)
        assert "at 8 pixels" in message
        assert "made for 224 pixels" in message
        _, path = saved("levit_128s.fb_dist_in1k")
        message = refusal("timm:levit_128s.fb_dist_in1k", path, 64)
        assert "64 pixels" in message
        assert "224" in message

    def test_weights_of_another_model_and_incomplete_ones_are_refused(self, saved, tmp_path):
        network, path = saved("convnext_atto.d2_in1k")
        assert "does not fit timm:efficientnet_b0" in refusal("timm:efficientnet_b0", path, 64)
        state = dict(network.state_dict())
        lost, _ = state.popitem()
        torch.save(state, tmp_path / "incomplete.pth")
        assert lost in refusal("timm:convnext_atto.d2_in1k", tmp_path / "incomplete.pth", 64)

    def test_unknown_models_tags_and_weights_list_what_is_known(self, saved):
        assert "vit_tiny_patch16_224.augreg" in refusal("timm:vit_tiny_patch16_224.mine", "pretrained")
        assert "resnet" in refusal("timm:resnet_of_mine", "pretrained")
        assert "expected pretrained or a path" in refusal("timm:resnet18.a1_in1k", "imagenet")

    @torch.inference_mode()
    def test_published_weights_are_known_by_the_sha256_of_the_downloaded_file(self, saved, monkeypatch):
        plain, path = saved("efficientnet_b0.ra_in1k")
        asked = []

        def download(repository, file):
            asked.append((repository, file))
            return str(path)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        backbone = registry.load("timm:efficientnet_b0.ra_in1k", "pretrained", 64)
        assert asked == [("timm/efficientnet_b0.ra_in1k", "model.safetensors")]
        assert backbone.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert backbone.stream == "timm-efficientnet_b0.ra_in1k.pretrained"
        assert backbone.weights_trained_on == ("ImageNet-1k",)
        x = noise(1, 64)
        assert relative_error(backbone.module(x), plain(x)) < 1e-5

    def test_without_network_the_error_names_the_file_to_bring(self, monkeypatch):
        def offline(*args):
            msg = "no route to host"
            raise OSError(msg)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
        message = refusal("timm:efficientnet_b0.ra_in1k", "pretrained")
        for part in (
            "timm/efficientnet_b0.ra_in1k",
            "model.safetensors",
            "no route to host",
            "set weights",
        ):
            assert part in message

    def test_doctor_learns_the_url_of_weights_that_are_not_there_yet(self, monkeypatch):
        name = "timm:efficientnet_b0.ra_in1k"
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
        assert registry.to_download(name, "pretrained").endswith(
            "efficientnet_b0.ra_in1k/resolve/main/model.safetensors"
        )
        assert registry.to_download(name, "own.pth") == ""
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: str(Path("there")))
        assert registry.to_download(name, "pretrained") == ""
