"""The training script of the bundled backbone: what it exports is what the registry loads."""

import json
from dataclasses import replace

import pytest
import torch
from train_rendered_backbone import Pupil, Recipe, augment, export, train

from extract.backbones import registry
from stores.errors import ConfigError


@torch.inference_mode()
def test_an_exported_trunk_loads_with_its_card_and_gives_the_same_features(tmp_path):
    torch.manual_seed(0)
    net, path = Pupil().eval(), tmp_path / "narrow_resnet50.trial.safetensors"
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    export(net, Recipe(), path, minutes=3.21)
    assert path.stat().st_size <= 16e6
    backbone = registry.load("narrow_resnet50", str(path))
    assert backbone.weights_trained_on == ("rendered faces",)
    assert json.loads(path.with_suffix(".json").read_text())["minutes"] == 3.2
    # The backbone's preprocessing is what training saw: 0 to 255 becomes -1 to 1.
    assert (backbone.mean, backbone.std) == ((0.5,) * 3, (0.5,) * 3)
    x = torch.randn(2, 3, 64, 64)
    expected = net.trunk(x)
    assert float((backbone.module(x) - expected).norm() / expected.norm()) < 1e-2  # float16 weights


def test_a_training_folder_of_another_recipe_is_refused_before_anything_is_rendered(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(ConfigError, match="another recipe"):
        train(replace(Recipe(), people=1), tmp_path, "cpu", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_augmentation_is_a_function_of_its_generator():
    pictures = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8)
    one, two, other = (augment(pictures, 64, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one.shape == (4, 3, 64, 64)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
