"""Three corpora in their own formats, with crops, become one table through the command line."""

import json

import image_trees
import numpy as np
import pytest
import sequence_trees
import torch
import yaml
from affwild2_tree import AU, VA, Tree, make_jpeg
from safetensors.torch import save_file

import stores
from extract.backbones.narrow_resnet50 import ARCHITECTURE
from pipeline.cli import main
from stores.editions import AU_12, EXPR_8

BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
ROWS = [{"tasks": ["V"]}, {"tasks": ["AU"]}, {"tasks": ["V", "A", "AU", "EXPR"], "attention": True}]


def videos(root):
    """Aff-Wild2 as of abaw5: two clips of 20 frames with all labels."""
    tree = Tree(root)
    folders = {
        "VA_Estimation_Challenge": (VA, "0.5,-0.25"),
        "EXPR_Classification_Challenge": (",".join(EXPR_8), "4"),
        "AU_Detection_Challenge": (AU, "1,0,0,1,0,0,1,0,0,0,1,0"),
    }
    for clip, split in (("v1", "Train_Set"), ("v2", "Validation_Set")):
        tree.crops(clip, range(1, 21))
        for number, (folder, (header, row)) in enumerate(folders.items()):
            path = root / folder / split / f"{clip}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [row] * 20
            rows[number] = {0: "-5,-5", 1: "-1", 2: ",".join(["-1"] * 12)}[number]
            path.write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The configuration's path and the work directory after features, sweep and table."""
    folder = tmp_path_factory.mktemp("three")
    videos(folder / "affwild2")
    sequence_trees.disfa(folder / "disfa", rows=12)
    image_trees.rafdb(folder / "rafdb", [(f"train_{i:05d}.jpg", 1 + i % 7) for i in range(14)])
    empty = [path for path in folder.rglob("*.jpg") if not path.stat().st_size]
    for number, path in enumerate(sorted(empty)):
        path.write_bytes(make_jpeg(number))
    torch.manual_seed(0)
    save_file(ARCHITECTURE().state_dict(), folder / "weights.safetensors")
    settings = {
        "name": "three",
        "corpus": {
            "kind": "mixture",
            "edition": "abaw5",
            "parts": {
                "videos": {"kind": "affwild2", "root": str(folder / "affwild2")},
                "units": {"kind": "disfa", "root": str(folder / "disfa"), "weight": 0.5},
                "images": {"kind": "rafdb", "root": str(folder / "rafdb")},
            },
            "score": ["videos"],
        },
        "streams": {
            "face": {
                "backbone": "narrow_resnet50",
                "weights": str(folder / "weights.safetensors"),
                "image_size": 64,
            }
        },
        "training": {"window": 16, "hop": 8, "batch_size": 2, "epochs": 1, "channels": 8, "levels": 1},
        "sweep": {"rows": ROWS, "seeds": [0]},
    }
    config = folder / "three.yaml"
    config.write_text(yaml.safe_dump(settings))
    for command in ("features", "sweep", "table"):
        device = [] if command == "table" else ["--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            main([command, "-c", str(config), "--work", str(folder / "work"), *device])
        assert ended.value.code == 0, command
    return config, folder / "work"


def test_each_label_is_stored_under_its_own_name_and_the_others_are_unknown(experiment):
    labels = stores.open(experiment[1] / "labels")
    assert labels.clips() == ["images.train-00000", "units.SN001", "videos.v1", "videos.v2"]
    assert labels.spec.expression_names == EXPR_8
    assert labels.spec.au_names == AU_12

    image = labels.read("images.train-00000", "expression")
    assert [EXPR_8[label] for label in image] == [BASIC[i % 7] for i in range(14)]
    assert np.isnan(labels.read("images.train-00000", "valence")).all()
    assert (labels.read("images.train-00000", "au") == -1).all()

    units = labels.read("units.SN001", "au")
    known = {f"AU{number}" for number in sequence_trees.AUS_12}
    for column, name in enumerate(AU_12):
        expected = [int(i % 6 >= 2) for i in range(12)] if name in known else [-1] * 12
        assert units[:, column].tolist() == expected, name
    assert (labels.read("units.SN001", "expression") == -1).all()

    video = {name: labels.read("videos.v1", name) for name in ("valence", "expression", "au")}
    assert np.isnan(video["valence"][0])
    assert video["valence"][1] == 0.5
    assert (video["expression"][1], video["expression"][2]) == (-1, EXPR_8.index("Happiness"))
    assert video["au"][2].tolist() == [-1] * 12
    assert video["au"][3].tolist() == [1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0]


def test_every_crop_of_the_three_corpora_was_extracted(experiment):
    (store,) = (experiment[1] / "features").iterdir()
    features = stores.open(store)
    assert all(features.read(clip, "valid").all() for clip in features.clips())
    assert sum(features.record(clip).frames for clip in features.clips()) == 20 + 20 + 12 + 14


def test_the_table_has_all_rows_scored_on_the_videos_alone(experiment):
    results = [json.loads(path.read_text()) for path in (experiment[1] / "runs").glob("*/result.json")]
    assert sorted(result["name"] for result in results) == ["AU", "V", "V+A+AU+EXPR+Attn"]
    # 20 frames of v2, less the one whose label is unknown.
    assert {entry["frames"] for result in results for entry in result["metrics"].values()} == {19}
    table = (experiment[1] / "table.md").read_text()
    assert "| V+A+AU+EXPR+Attn |" in table
    assert "images (weight 1), units (weight 0.5), videos (weight 1, scored)" in table
    assert "nan" not in table.lower()


def test_the_doctor_finds_nothing_that_fails(experiment, capsys):
    config, work = experiment
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(config), "--work", str(work), "--device", "cpu", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, found
