"""From features that others made to a printed table, through the command line."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from store_specs import feature_spec

import stores
from pipeline.cli import main
from pipeline.commands.options import DONE, FAILED, PARTLY, USAGE
from pipeline.config import Config
from pipeline.configfile import load
from pipeline.data import open_data
from pipeline.doctor.environment import check_weights
from pipeline.plan import make_plan
from pipeline.workdir import work_dir
from stores.errors import ConfigError

CLIPS = {"one": "Train_Set", "two_left": "Train_Set", "three": "Validation_Set"}
FRAMES, DIM = 20, 6


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Annotations of valence and arousal; the crops are empty files, which nobody may open."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for clip, split in CLIPS.items():
        folder = root / "annotations/VA_Set" / split
        folder.mkdir(parents=True, exist_ok=True)
        affect = random.uniform(-1, 1, (FRAMES, 2))
        rows = [f"{valence:.3f},{arousal:.3f}" for valence, arousal in affect]
        (folder / f"{clip}.txt").write_text("\n".join(["valence,arousal", *rows]) + "\n")
        crops = root / "cropped_aligned" / clip
        crops.mkdir(parents=True)
        for frame in range(FRAMES):
            (crops / f"{frame + 1:05d}.jpg").touch()
    return root


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same features in every format: two frames at the end of each clip are missing."""
    folder = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(1)
    clips = {clip: random.standard_normal((FRAMES - 2, DIM)).astype(np.float32) for clip in CLIPS}
    (folder / "npy").mkdir()
    for clip, features in clips.items():
        np.save(folder / "npy" / f"{clip}.npy", features)
    np.savez(folder / "all.npz", **clips)
    with h5py.File(folder / "all.h5", "w") as file:
        for clip, features in clips.items():
            file[clip] = features
    rows = pa.table(
        {"clip": np.repeat(list(clips), FRAMES - 2), "frame": np.tile(np.arange(1, FRAMES - 1), len(clips))}
        | {f"f{i}": column for i, column in enumerate(np.concatenate(list(clips.values())).T)}
    )
    pa.parquet.write_table(rows, folder / "all.parquet")
    pa.csv.write_csv(rows, folder / "all.csv")
    return folder


@pytest.fixture
def facets(tmp_path, corpus):
    """Runs the command line on an experiment whose features are the store `theirs`."""
    config = tmp_path / "theirs.yaml"
    settings = {
        "name": "theirs",
        "corpus": {"kind": "affwild2", "root": str(corpus)},
        "streams": {"face": {"store": str(tmp_path / "theirs")}},
        "training": {"window": 16, "hop": 8, "epochs": 2, "channels": 8},
        "sweep": {"rows": [{"tasks": ["V"]}, {"tasks": ["A"]}], "seeds": [0]},
    }
    config.write_text(yaml.safe_dump(settings))

    def facets(command, *arguments):
        given = ["-c", config, "--work", tmp_path / "work"] if command != "import" else []
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([command, *map(str, given), *map(str, arguments)])
        return ended.value.code, out.getvalue(), err.getvalue()

    facets.work = tmp_path / "work"
    facets.store = tmp_path / "theirs"
    facets.config = config
    return facets


def run_ids(facets, store):
    config = load(facets.config, [f"streams.face.store={store}"])
    return [run.run_id for run in make_plan(config, open_data(work_dir(config, facets.work))).runs]


def test_features_in_any_format_are_swept_and_the_table_says_whose_they_are(facets, sources, tmp_path):
    code, _, err = facets("features")
    assert code == FAILED
    assert f"no store in {facets.store}: run facets import SOURCE {facets.store} --like" in err

    options = ["--stream", "their.net", "--trained-on", "AffectNet", "--like", facets.work / "labels"]
    code, _, err = facets("import", sources / "npy", facets.store, *options)
    assert (code, [line for line in err.splitlines() if "error" in line]) == (DONE, [])
    assert facets("features")[0] == DONE
    assert facets("sweep", "--device", "cpu")[0] == DONE
    code, out, _ = facets("table")
    assert code == DONE
    told = (
        "stream their.net, imported, its origin as stated: backbone unknown, weights unknown"
        " (SHA-256 unknown), trained on AffectNet."
    )
    assert told in " ".join(out.replace("\\", "").split())

    trained = run_ids(facets, facets.store)
    assert sorted(path.name for path in (facets.work / "runs").iterdir()) == sorted(trained)
    for name in ("all.npz", "all.h5", "all.csv", "all.parquet"):
        numbered = ["--first-frame", "1"] if name in ("all.csv", "all.parquet") else []
        store = tmp_path / f"from-{name}"
        assert facets("import", sources / name, store, *options, *numbered, "--backend", "zarr")[0] == DONE
        assert run_ids(facets, store) == trained, "the same features are the same runs, whatever held them"


def test_features_that_do_not_fit_the_labels_are_listed_with_the_remedy(facets, sources):
    facets("features")
    np.savez(facets.work / "some.npz", one=np.ones((FRAMES, DIM)), three=np.ones((FRAMES + 5, DIM)))
    assert facets("import", facets.work / "some.npz", facets.store, "--stream", "theirs")[0] == DONE
    code, _, err = facets("features")
    assert code == PARTLY
    assert f"clip two_left: no features in {facets.store}: run facets import SOURCE" in err
    assert (
        f"clip three: 25 frames in {facets.store}, but 20 in {facets.work / 'labels'}: run facets imp" in err
    )
    code, _, err = facets("sweep")
    assert (code, "1 of 3 labelled clips have no features" in err) == (FAILED, True)


def test_a_store_of_labels_is_no_store_of_features(facets):
    facets("features")
    code, _, err = facets("features", "--set", f"streams.face.store={facets.work / 'labels'}")
    assert code == FAILED
    assert "holds labels: expected features" in err


def test_the_exit_code_says_whether_all_some_or_none_was_imported(facets, tmp_path):
    facets("features")
    path = tmp_path / "some.npz"
    options = ["--stream", "theirs", "--like", facets.work / "labels"]
    np.savez(path, one=np.ones((FRAMES, DIM)), three=np.full((FRAMES, DIM), np.nan), four=np.ones((2, DIM)))
    code, _, err = facets("import", path, facets.store, *options)
    assert code == PARTLY
    lines = [line for line in err.splitlines() if line.startswith(("error", "warning"))]
    assert lines[0] == f"warning: clip two_left of {facets.work / 'labels'} has no features in {path}"
    assert lines[1].startswith(f"error: clip three: {path}, row 0: frame 0 holds nan")
    assert lines[2].startswith(f"error: clip four: {path}: the store")
    np.savez(path, one=np.full((FRAMES, DIM), np.nan))
    assert facets("import", path, tmp_path / "other", *options)[0] == FAILED
    assert not (tmp_path / "other").exists()
    code, _, err = facets("import", path, tmp_path / "other", *options, "--columns", "f*")
    assert (code, "--columns is for tables" in err) == (USAGE, True)
    assert facets("import", path, tmp_path / "other")[0] == USAGE


def test_the_doctor_asks_for_a_given_store_instead_of_weights(facets):
    assert check_weights("face", load(facets.config).streams["face"]).status == "FAIL"
    stores.create(facets.store, feature_spec(DIM))
    found = check_weights("face", load(facets.config).streams["face"])
    assert (found.status, str(facets.store) in found.found) == ("PASS", True)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ("{store: x, backbone: resnet50}", "'backbone' cannot be given too"),
        ("{store: x, weights: a, image_size: 112}", "'image_size', 'weights' cannot be given too"),
        ("{backbone: resnet50}", "the key 'weights' is missing: give 'backbone' and 'weights', or 'store'"),
        ("{}", "the key 'backbone' is missing"),
    ],
)
def test_a_store_and_a_backbone_exclude_each_other(features, told):
    with pytest.raises(ConfigError) as caught:
        load("demo", [f"streams.face={features}"])
    assert told in str(caught.value)


def test_a_given_store_replaces_the_path_of_the_features():
    config = load("demo", ["streams.face={store: /data/theirs, backend: zarr}"])
    assert isinstance(config, Config)
    place = work_dir(config)
    assert (place.streams, str(place.labels), place.given) == (
        {"face": Path("/data/theirs")},
        "work/demo/labels",
        {"face"},
    )
    assert not work_dir(load("demo")).given
