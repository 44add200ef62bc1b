"""From a folder of faces to a printed table, through the command line, on a hundred random JPEGs."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.cli import main
from pipeline.commands.options import DONE, FAILED, PARTLY, USAGE

CLIPS = {"Train_Set": ["one", "two_left", "two_right"], "Validation_Set": ["three", "four"]}
AUS = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
EXPRESSIONS = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise"
ONE_RUN = ["--set", "sweep.rows=[{tasks: [V]}]", "--set", "sweep.seeds=[0]"]
ROWS = [{"tasks": ["V"]}, {"tasks": ["EXPR"]}, {"tasks": ["A", "AU"], "attention": True}]
RUN_FILES = {
    "config.json",
    "metrics.jsonl",
    "model.safetensors",
    "predictions.h5",
    "result.json",
    "units.npz",
}


def write_tree(root):
    """A tree in the layout of Aff-Wild2: clips of random pixels, crops missing, some labels unknown."""
    random = np.random.default_rng(0)
    for split, clips in CLIPS.items():
        for number, clip in enumerate(clips):
            frames = 20 + number
            affect = [f"{v:.3f},{a:.3f}" for v, a in random.uniform(-1, 1, (frames, 2))]
            affect[3] = "-5,-5"
            units = [",".join(map(str, row)) for row in random.integers(0, 2, (frames, 12))]
            faces = [str(i) for i in random.integers(-1, 7, frames)]
            for task, lines in (
                ("VA_Set", ["valence,arousal", *affect]),
                ("EXPR_Set", [EXPRESSIONS, *faces]),
                ("AU_Set", [AUS, *units]),
            ):
                path = root / "annotations" / task / split / f"{clip}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines) + "\n")
            crops = root / "cropped_aligned" / clip
            crops.mkdir(parents=True)
            for frame in set(range(frames)) - {5}:
                pixels = random.integers(0, 256, (14, 14, 3), np.uint8)
                Image.fromarray(pixels).resize((112, 112)).save(crops / f"{frame + 1:05d}.jpg")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tests share the machine, and numbers are the same for any number of threads only by chance."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch
    from safetensors.torch import save_file

    from extract.backbones.narrow_resnet50 import ARCHITECTURE

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(ARCHITECTURE().state_dict(), path)
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
        "streams": {"face": {"backbone": "narrow_resnet50", "weights": str(weights), "image_size": 64}},
        "training": {"window": 16, "hop": 8, "batch_size": 4, "epochs": 2, "channels": 8, "max_replicas": 4},
        "sweep": {"rows": ROWS, "seeds": [0, 1]},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def facets(config):
    """Runs the command line in this process; returns exit code, stdout, stderr."""

    def facets(command, *arguments, work):
        device = ["--device", "cpu"] if command in {"features", "sweep"} else []
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([command, "-c", str(config), "--work", str(work), *device, *map(str, arguments)])
        return ended.value.code, out.getvalue(), err.getvalue()

    return facets


@pytest.fixture(scope="module")
def way(facets, tmp_path_factory):
    """The whole way, gone once: what each command answered, and the work directory."""
    work = tmp_path_factory.mktemp("work") / "tiny"
    answers = {"features": facets("features", work=work)}
    answers["plan"] = facets("sweep", "--dry-run", work=work)
    assert not (work / "runs").exists()
    return answers | {name: facets(name, work=work) for name in ("sweep", "table")}, work


@pytest.fixture
def work(way):
    return way[1]


@pytest.fixture
def extracted(work, tmp_path):
    """A work directory of its own with the stores, and without runs."""
    for name in ("features", "labels"):
        shutil.copytree(work / name, tmp_path / "again" / name)
    for name in ("mapping.json", "corpus.json"):
        shutil.copy2(work / name, tmp_path / "again")
    return tmp_path / "again"


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def results(work):
    return sorted(path.parent.name for path in work.glob("runs/*/result.json"))


def test_features_then_sweep_then_table_print_one_row_per_combination(way):
    answers, work = way
    assert {name: code for name, (code, _, _) in answers.items()} == dict.fromkeys(answers, DONE)
    assert "3 rows x 2 seeds = 6 runs: 0 done, 6 unfinished" in answers["plan"][1]
    printed = answers["table"][1]
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:5]] == ["V", "EXPR", "A+AU+Attn"]
    assert printed == (work / "table.md").read_text()
    assert {path.name for path in work.glob("table*")} >= {"table.md", "table.csv", "table.tex", "table.html"}


def test_a_run_folder_holds_what_the_ledger_promises_and_its_predictions_give_its_scores(work):
    import h5py

    import stores
    import temporal

    valence = {clip: stores.open(work / "labels").read(clip, "valence") for clip in ("four", "three")}
    for run_id in results(work):
        folder = work / "runs" / run_id
        assert {path.name for path in folder.iterdir()} == RUN_FILES
        result = json.loads((folder / "result.json").read_text())
        assert result["run_id"] == run_id
        assert set(result["metrics"]) == set(result["tasks"])
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == result["epochs"]
        assert temporal.load(folder).run.tasks == tuple(result["tasks"])
        if result["name"] == "V":
            with h5py.File(folder / "predictions.h5") as file:
                assert set(file) == set(valence)
                predicted = np.concatenate([file[f"{clip}/V"][:] for clip in valence])
            ccc = temporal.metrics.ccc(np.concatenate(list(valence.values())), predicted)
            assert ccc == pytest.approx(result["metrics"]["V"]["ccc"], abs=1e-9)


def test_the_second_time_nothing_is_made_again(facets, work):
    before = {path: at for path, at in snapshot(work).items() if path.parent != work}
    for command in ("features", "sweep", "table"):
        assert facets(command, work=work)[0] == DONE
    assert {path: at for path, at in snapshot(work).items() if path.parent != work} == before


def test_commands_that_find_nothing_to_do_import_no_torch(work, config):
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "for command in ('features', 'sweep', 'table', 'info'):\n"
        "    try:\n        main([command, *sys.argv[1:]])\n"
        "    except SystemExit as done:\n        assert not done.code, done.code\n"
        "    assert 'torch' not in sys.modules, command"
    )
    arguments = ["-c", str(config), "--work", str(work)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_table_info_and_frame_need_no_store(facets, work, tmp_path):
    from pipeline import results as frames

    shutil.copytree(work, tmp_path / "alone", ignore=shutil.ignore_patterns("features", "labels", "table*"))
    code, out, _ = facets("table", work=tmp_path / "alone")
    assert (code, out) == (DONE, (work / "table.md").read_text())
    for name in ("table.csv", "table_wide.csv", "table.tex", "table.html", "chart.png"):
        assert (tmp_path / "alone" / name).read_bytes() == (work / name).read_bytes()
    assert "6 planned, 6 done" in facets("info", work=tmp_path / "alone")[1]
    frame = frames.frame(tmp_path / "alone")
    assert sorted(frame.run_id.unique()) == results(work)
    means = frame[frame.label == ""].groupby(["row", "task", "metric"]).value.mean()
    assert f"{means['V', 'V', 'ccc']:.3f}" in out.splitlines()[2]


def test_info_and_verify_know_the_work_directory(facets, work):
    code, out, _ = facets("info", work=work)
    assert code == DONE
    assert "6 planned, 6 done, 0 failed, 0 stopped, 0 missing" in out
    code, out, _ = facets("info", work / "labels", work=work)
    assert code == DONE
    assert "5 clips" in out
    assert facets("verify", work=work)[0] == DONE


def test_a_killed_sweep_keeps_its_finished_runs_and_the_next_one_does_the_rest(facets, extracted, config):
    settings = ["--set", "training.max_replicas=1", "--set", "training.epochs=4"]
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "sweep", "-c", str(config)]
    command += ["--work", str(extracted), "--device", "cpu", *settings]
    sweep = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 120
    while not results(extracted) and sweep.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    sweep.send_signal(signal.SIGKILL)
    assert sweep.wait() == -signal.SIGKILL
    finished = results(extracted)
    assert 1 <= len(finished) < 6
    before = {path: at for path, at in snapshot(extracted).items() if path.parent.name in finished}
    code, out, _ = facets("table", *settings, work=extracted)
    assert code == DONE
    assert "missing" in out
    assert facets("sweep", *settings, work=extracted)[0] == DONE
    assert len(results(extracted)) == 6
    after = snapshot(extracted)
    assert {path: after[path] for path in before} == before


def test_a_run_that_diverges_is_listed_shown_as_failed_and_tried_again(facets, extracted):
    settings = [*ONE_RUN, "--set", "training.lr=1e38", "--set", "training.clip_norm=0"]
    code, _, err = facets("sweep", *settings, work=extracted)
    assert (code, "(V, seed 0): " in err.splitlines()[-1]) == (PARTLY, True)
    code, out, _ = facets("table", *settings, work=extracted)
    assert (code, "failed" in out.splitlines()[2]) == (PARTLY, True)
    _, plan, _ = facets("sweep", *settings, "--dry-run", work=extracted)
    assert "failed" in plan
    assert "1 unfinished" in plan


def test_a_group_that_runs_out_of_memory_is_listed_and_the_other_groups_go_on(facets, extracted, monkeypatch):
    import temporal

    fit, calls = temporal.fit, []

    def out_of_memory_at_first(bank, runs, *arguments, **settings):
        calls.append(len(runs))
        if len(calls) == 1:
            message = "CUDA out of memory.\nTried to allocate 2 GiB"
            raise RuntimeError(message)
        return fit(bank, runs, *arguments, **settings)

    monkeypatch.setattr("temporal.fit", out_of_memory_at_first)
    code, _, err = facets("sweep", "--set", "training.max_replicas=3", work=extracted)
    assert code == PARTLY
    assert calls == [3, 3]
    assert err.count("CUDA out of memory. Tried to allocate 2 GiB\n") == 3
    assert len(results(extracted)) == 3
    monkeypatch.undo()
    assert facets("sweep", "--set", "training.max_replicas=3", work=extracted)[0] == DONE
    assert len(results(extracted)) == 6


def test_a_run_that_cannot_be_committed_is_listed_as_failed(facets, extracted, monkeypatch):
    def refuse(work, run, *_):
        message = f"no room for {run.name}"
        raise RuntimeError(message)

    monkeypatch.setattr("pipeline.stage2.trainer.commit", refuse)
    code, _, err = facets("sweep", *ONE_RUN, work=extracted)
    assert code == PARTLY
    assert "(V, seed 0): no room for V\n" in err
    assert not results(extracted)


def test_stage_1_keeps_reduced_features_beside_the_features_whatever_places_them(facets, extracted):
    import temporal

    changes = ("pca=4", "bank=store", "max_replicas=auto")
    settings = [word for change in changes for word in ("--set", f"training.{change}")]
    code, _, err = facets("sweep", *settings, work=extracted)
    assert code == FAILED
    assert "run facets features" in err
    assert facets("features", *settings, work=extracted)[0] == DONE
    assert facets("sweep", *settings, work=extracted)[0] == DONE
    kept = sorted(path.name.split(".")[-1].split("-")[0] for path in (extracted / "features").iterdir())
    assert {"pca4", "safetensors"} <= set(kept)
    done = results(extracted)
    assert len(done) == 6
    model = temporal.load(extracted / "runs" / done[0])
    assert model.standardisers["face"].components.shape == (model.feature_specs["face"].dim, 4)
    _, plan, _ = facets("sweep", *settings, "--set", "training.bank=device", "--dry-run", work=extracted)
    assert "6 done, 0 unfinished" in plan


def test_when_clips_lack_features_info_counts_what_is_there_and_the_sweep_names_the_clips(facets, extracted):
    record = next(iter((extracted / "features").glob("*/clips/*.json")))
    record.unlink()
    code, out, _ = facets("info", work=extracted)
    assert code == DONE
    assert all(word in out for word in ("4 clips", "5 clips", "no plan"))
    code, _, err = facets("sweep", "--dry-run", work=extracted)
    assert (code, err.count("\n")) == (FAILED, 1)
    assert record.stem in err


def test_no_features_are_reduced_before_every_labelled_clip_has_some(facets, extracted, monkeypatch):
    record = next(iter((extracted / "features").glob("*/clips/*.json")))
    record.unlink()
    monkeypatch.setattr("pipeline.stage1.make.make_stream", lambda *_: {record.stem: "not extracted"})
    code, _, err = facets("features", "--set", "training.pca=4", work=extracted)
    assert (code, err.count("error: ")) == (PARTLY, 1)
    assert "no features are reduced" in err
    assert not list((extracted / "features").glob("*.pca4-*"))


def test_zarr_stores_give_the_same_runs_as_hdf5(facets, extracted, tmp_path, work):
    other = tmp_path / "zarr"
    assert facets("features", "--set", "streams.face.backend=zarr", work=other)[0] == DONE
    plans = [facets("sweep", "--dry-run", work=place)[1] for place in (extracted, other)]
    ids = [[word for word in plan.split() if len(word) == 12 and word.isalnum()] for plan in plans]
    assert ids[0] == ids[1]


def rewritten(name, change):
    """Returns a damage that rewrites one annotation file."""

    def damage(root):
        path = root / "annotations" / name
        path.write_text(change(path.read_text()))

    return damage


def broken_jpeg(root):
    path = root / "cropped_aligned/four/00003.jpg"
    path.write_bytes(path.read_bytes()[:200])


def empty_clip(root):
    shutil.rmtree(root / "cropped_aligned/one")
    (root / "cropped_aligned/one").mkdir()


def clip_that_left(root):
    shutil.rmtree(root / "cropped_aligned/four")
    for path in root.glob("annotations/*/*/four.txt"):
        path.unlink()


VALENCE, FACES = "VA_Set/Train_Set/one.txt", "EXPR_Set/Train_Set/one.txt"
label_out_of_range = rewritten(VALENCE, lambda text: text.replace("\n", "\n1.5,0\n", 1))
header_in_another_order = rewritten(FACES, lambda text: text.replace("Neutral,Anger", "Anger,Neutral"))


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (clip_that_left, PARTLY, ["clip four", "no longer in the corpus", "delete"]),
        (broken_jpeg, PARTLY, ["clip four", "frame 2", "replace"]),
        (label_out_of_range, FAILED, ["one.txt", "1.5"]),
        (header_in_another_order, FAILED, [FACES, "Neutral"]),
        (lambda root: shutil.rmtree(root / "annotations"), FAILED, ["annotations"]),
        (empty_clip, FAILED, ["cropped_aligned/one"]),
        (lambda root: shutil.rmtree(root / "cropped_aligned/two_left"), FAILED, ["two_left"]),
    ],
)
def test_a_bad_corpus_is_answered_in_one_line_and_committed_clips_stay(
    facets, extracted, corpus, tmp_path, damage, code, told
):
    root = tmp_path / "damaged"
    shutil.copytree(corpus, root)
    damage(root)
    others = {"four", "one", "mapping", "corpus"}
    before = {path: at for path, at in snapshot(extracted).items() if path.stem not in others}
    found, _, err = facets("features", "--set", f"corpus.root={root}", work=extracted)
    assert found == code, err
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert err.count("error: ") == 1
    assert all(word in last for word in told)
    after = snapshot(extracted)
    assert {path: after[path] for path in before} == before
    assert facets("sweep", "--dry-run", work=extracted)[0] == DONE


@pytest.mark.parametrize(
    ("setting", "code", "told"),
    [
        ("streams.face.backbone=resnet50", USAGE, "random.safetensors"),
        ("streams.face.backbone=resnet5", USAGE, "unknown backbone 'resnet5'"),
        ("streams.face.weights=nowhere.pth", USAGE, "no weights file nowhere.pth"),
        ("streams.face.dtype=float32", FAILED, "dtype is 'float16', wanted 'float32'"),
        ("streams.face.backend=zarr", FAILED, "has backend 'hdf5', wanted 'zarr'"),
        ("corpus.root=nowhere", FAILED, "nowhere"),
    ],
)
def test_features_that_do_not_fit_are_refused_in_one_line_and_stores_stay(
    facets, extracted, setting, code, told
):
    before = snapshot(extracted)
    found, _, err = facets("features", "--set", setting, work=extracted)
    assert found == code
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1
    assert snapshot(extracted) == before
