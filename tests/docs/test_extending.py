"""Every extension that docs/EXTENDING.md shows works as it stands there: a module, a line, an experiment."""

import copy
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pages import FENCE, ROOT
from PIL import Image
from safetensors.torch import save_file

import stores
import temporal
from extract.backbones.registry import BACKBONES
from extract.corpora import KINDS
from pipeline import configfile, results
from pipeline.cli import facets
from temporal import registries
from temporal.tasks import TASKS

sys.path.append(str(ROOT / "tests" / "pipeline"))
from fabricated_experiment import write_config, write_stores

PAGE = ROOT / "docs" / "EXTENDING.md"
TABLES = (
    TASKS,
    registries.LOSSES,
    registries.MODELS,
    registries.ATTENTIONS,
    registries.SAMPLERS,
    registries.FUSIONS,
    KINDS,
    BACKBONES,
)
SMALL = {"window": 16, "hop": 16, "epochs": 2, "channels": 4, "levels": 1, "kernel_size": 3}


@pytest.fixture(autouse=True)
def tables():
    """Puts the registries back as they were."""
    before = [copy.deepcopy(table) for table in TABLES]
    yield
    for table, then in zip(TABLES, before, strict=True):
        table.clear()
        table.update(then)


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """Takes the blocks below a heading of the page: writes the module, runs the line, returns the YAML."""

    def extend(heading):
        text = PAGE.read_text(encoding="utf-8")
        section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
        monkeypatch.syspath_prepend(tmp_path)
        usage = {}
        for found in FENCE.finditer(section):
            if found[2] == "yaml":
                usage |= yaml.safe_load(found[3])
            elif module := re.match(r"# (\w+)\.py\n", found[3]):
                (tmp_path / f"{module[1]}.py").write_text(found[3])
                monkeypatch.delitem(sys.modules, module[1], raising=False)
            else:
                exec(found[3], {})
        return usage

    return extend


@pytest.fixture
def train(tmp_path):
    """Trains the made-up experiment with these settings; returns its results."""

    def train(sections):
        work = tmp_path / "work"
        write_stores(work)
        config = write_config(tmp_path, work, epochs=2, **sections.pop("training"))
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | sections))
        for command in ("sweep", "table"):
            facets.main([command, "-c", str(config), "--work", str(work)], standalone_mode=False)
        results = [json.loads(path.read_text()) for path in sorted(work.glob("runs/*/result.json"))]
        return results, (work / "table.md").read_text()

    return train


@pytest.mark.parametrize("heading", ["A loss with a parameter", "A sampler", "A sequence model"])
def test_a_choice_of_training_is_a_module_and_a_line_and_trains(extend, train, heading):
    results, _ = train(extend(heading))
    assert len(results) == 8
    assert all(result["epochs"] == 2 for result in results)


def test_a_task_is_a_line_and_is_trained_scored_and_shown(extend, train):
    results, table = train(extend("A task or a head"))
    assert {result["name"] for result in results} == {"AU", "V+AUX+Attn"}
    assert "Total (AUX)" in table.splitlines()[0]


def test_a_parameter_of_a_new_loss_is_checked_by_its_range(extend, tmp_path):
    extend("A loss with a parameter")
    path = write_config(tmp_path, tmp_path, losses={"V": {"name": "huber", "delta": 0}})
    with pytest.raises(configfile.ConfigError, match=r"delta.*greater than 0"):
        configfile.load(path)


def faces(folder):
    """Draws two folders of crops in the layout that the reader on the page reads."""
    for name in ("ann_calm", "bob_happy"):
        (folder / name).mkdir(parents=True)
        for frame in range(3):
            pixels = np.random.default_rng(frame).integers(0, 256, (112, 112, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{frame}.jpg")


def test_a_corpus_and_a_backbone_are_modules_and_lines_and_give_stores(extend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces(tmp_path / "faces")
    sections = extend("A corpus") | extend("A backbone")
    save_file({"2.weight": torch.rand(32, 147), "2.bias": torch.rand(32)}, "colours.safetensors")
    Path("own.yaml").write_text(yaml.safe_dump({"name": "own"} | sections))
    facets.main(["features", "-c", "own.yaml"], standalone_mode=False)
    labels = stores.open("work/own/labels").frame().groupby("clip", observed=True).first()
    assert dict(labels.expression) == {"ann_calm": "Neutral", "bob_happy": "Happiness"}
    assert labels.subject["ann_calm"] == "ann"
    (features,) = Path("work/own/features").iterdir()
    assert stores.open(features).read("bob_happy").shape == (3, 32)


def test_a_fusion_is_a_module_and_a_line_and_joins_two_streams(extend, tmp_path):
    work = tmp_path / "work"
    write_stores(work)
    training = temporal.Training(**SMALL | extend("A fusion of streams")["training"])
    store, labels = stores.open(work / "features"), stores.open(work / "labels")
    bank = temporal.load_bank({"face": store, "again": store}, labels)
    runs = [temporal.Run.parse(name) for name in ("V", "V [face]")]
    assert [result.run.name for result in temporal.fit(bank, runs, training)] == ["V", "V [face]"]


def test_a_column_of_the_report_is_a_line_on_the_frame_of_results(extend, reader):
    extend("A column of the report")
    gain = importlib.import_module("gain").gain(results.frame(reader / "work" / "demo"))
    assert gain["A+AU+Attn", "AU"] == 0  # of one seed
