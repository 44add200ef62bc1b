"""From a folder of faces to a printed table, through the command line, on a corpus of a few random JPEGs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.cli import DONE, FAILED, PARTLY, USAGE, main

CLIPS = {"Train_Set": ["one", "two_left", "two_right"], "Validation_Set": ["three", "four"]}
AUS = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
EXPRESSIONS = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise"
ROWS = [{"tasks": ["V"]}, {"tasks": ["EXPR"]}, {"tasks": ["A", "AU"], "attention": True}]


def write_tree(root):
    """A tree in the layout of Aff-Wild2: five clips of random pixels, one crop missing, some labels unknown."""
    random = np.random.default_rng(0)
    for split, clips in CLIPS.items():
        for number, clip in enumerate(clips):
            frames = 20 + number
            rows = {
                "VA_Set": (
                    "valence,arousal",
                    [f"{v:.3f},{a:.3f}" for v, a in random.uniform(-1, 1, (frames, 2))],
                ),
                "EXPR_Set": (EXPRESSIONS, [str(i) for i in random.integers(-1, 7, frames)]),
                "AU_Set": (AUS, [",".join(map(str, row)) for row in random.integers(0, 2, (frames, 12))]),
            }
            rows["VA_Set"][1][3] = "-5,-5"
            for folder, (header, lines) in rows.items():
                path = root / "annotations" / folder / split / f"{clip}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join([header, *lines]) + "\n")
            crops = root / "cropped_aligned" / clip
            crops.mkdir(parents=True)
            for frame in range(frames):
                if frame != 5:
                    pixels = random.integers(0, 256, (14, 14, 3), np.uint8)
                    Image.fromarray(pixels).resize((112, 112)).save(crops / f"{frame + 1:05d}.jpg")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet50

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(resnet50().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    write_tree(root)
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory, corpus, weights):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    settings = {
        "name": "tiny",
        "corpus": {"kind": "affwild2", "root": str(corpus)},
        "features": {"backbone": "resnet50", "weights": str(weights), "image_size": 64, "device": "cpu"},
        "training": {
            "window": 16,
            "hop": 8,
            "batch_size": 4,
            "epochs": 2,
            "max_replicas": 4,
            "device": "cpu",
        },
        "sweep": {"rows": ROWS, "seeds": [0, 1]},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def facets(capsys, config):
    """Runs the command line in this process; returns exit code, stdout, stderr."""

    def facets(command, *arguments, work, configuration=config):
        with pytest.raises(SystemExit) as ended:
            main([command, "-c", str(configuration), "--work", str(work), *arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return facets


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The work directory that the tests of the whole way share, in their order."""
    return tmp_path_factory.mktemp("work") / "tiny"


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_sweep_without_features_says_in_one_line_what_to_run(facets, tmp_path):
    code, _, err = facets("sweep", work=tmp_path)
    assert code == FAILED
    assert err.startswith("error: ")
    assert "facets features" in err
    assert err.count("\n") == 1


def test_features_then_sweep_then_table_print_one_row_per_combination(facets, work):
    assert facets("features", work=work)[0] == DONE
    code, out, _ = facets("sweep", "--dry-run", work=work)
    assert code == DONE
    assert "6 runs" in out
    assert "6 unfinished" in out
    assert not (work / "runs").exists()
    assert facets("sweep", work=work)[0] == DONE
    code, out, _ = facets("table", work=work)
    assert code == DONE
    for name in ("V", "EXPR", "A+AU+Attn"):
        assert f"| {name} " in out
    assert {path.name for path in work.glob("table*")} >= {"table.md", "table.csv", "table.tex", "table.html"}


def test_a_run_folder_holds_everything_that_the_ledger_promises(work):
    folders = sorted((work / "runs").iterdir())
    assert len(folders) == 6
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "config.json", "metrics.jsonl", "model.safetensors", "predictions.h5", "result.json",
        }  # fmt: skip
        result = json.loads((folder / "result.json").read_text())
        assert result["run_id"] == folder.name
        assert set(result["metrics"]) == set(result["tasks"])
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == result["epochs"]


def test_the_second_time_nothing_is_done_again(facets, work):
    before = snapshot(work)
    assert facets("features", work=work)[0] == DONE
    assert facets("sweep", work=work)[0] == DONE
    assert facets("table", work=work)[0] == DONE
    after = snapshot(work)
    tables = {path for path in after if path.parent == work}
    assert {p: t for p, t in after.items() if p not in tables} == {
        p: t for p, t in before.items() if p not in tables
    }


def test_info_describes_the_work_directory_and_each_store(facets, work):
    code, out, _ = facets("info", work=work)
    assert code == DONE
    assert "6 of 6" in out
    code, out, _ = facets("info", str(work / "labels"), work=work)
    assert code == DONE
    assert "5 clips" in out
