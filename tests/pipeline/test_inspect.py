"""``facets info`` and ``facets verify``: JSON for machines, lines for people, exit codes for scripts."""

import json

import numpy as np
import pytest
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from pipeline.cli import main
from pipeline.commands.options import DONE, FAILED, USAGE

INFO_KEYS = {"schema", "experiment", "stores"}
STORE_KEYS = {
    "path",
    "kind",
    "backend",
    "format_version",
    "clips",
    "frames",
    "bytes",
    "known",
    "splits",
    "sources",
    "content_sha256",
    "spec",
    "spec_sha256",
    "damaged",
    "missing",
    "foreign",
    "statistics",
}
WORK_KEYS = {"name", "corpus", "features", "labels", "runs", "runs_unknown", "tables"}
VERIFIED_KEYS = {"path", "ok", "clips", "damaged", "missing", "foreign", "removed"}


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def features(tmp_path):
    store = stores.create(tmp_path / "work/features/narrow_resnet50.rendered-112", feature_spec(8))
    for number, clip in enumerate(("one", "two")):
        arrays = feature_arrays(300, store.spec, number)
        arrays["features"][:, 5] = 0
        store.write(clip, arrays, {}, "abc")
    return store


@pytest.fixture
def labels(tmp_path):
    store = stores.create(tmp_path / "work/labels", label_spec(), "zarr")
    for number, clip in enumerate(("one", "two")):
        split = ("train", "validation")[number]
        store.write(clip, label_arrays(300, store.spec, number), {**LABEL_ATTRS, "split": split})
    return store


def flip_a_value(store, clip):
    path = store.data_path(clip)
    values = store.read(clip)[store.read(clip, "valid")][0].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(values)] ^= 1
    path.write_bytes(content)


def test_info_as_json_is_one_document_with_these_keys(run, features, labels):
    code, out, err = run("info", features.path, "--json")
    assert (code, err) == (DONE, "")
    document = json.loads(out)
    assert document.keys() == INFO_KEYS
    assert (document["schema"], document["experiment"]) == ("facets-info-1", None)
    (found,) = document["stores"]
    assert found.keys() == STORE_KEYS
    assert (found["kind"], found["clips"], found["frames"], found["sources"]) == ("features", 2, 600, 2)
    assert found["known"]["features"]["share"] == found["known"]["features"]["frames"] / 600
    assert found["spec"]["dim"] == 8
    assert found["statistics"] is None
    (found,) = json.loads(run("info", labels.path, "--json")[1])["stores"]
    assert found.keys() == STORE_KEYS
    assert found["splits"] == {"train": 1, "validation": 1}
    assert set(found["known"]) == {"valence", "arousal", "expression", "au"}


def test_info_of_a_work_directory_has_the_same_schema(run, features, labels, tmp_path):
    code, out, err = run("info", "--work", tmp_path / "work", "--json", "--statistics")
    assert (code, err) == (DONE, "")
    document = json.loads(out)
    assert document.keys() == INFO_KEYS
    work = document["experiment"]
    assert work.keys() == WORK_KEYS
    assert (work["runs"], work["tables"]) == (None, [])
    assert "run facets sweep" in work["runs_unknown"]
    assert [found["kind"] for found in document["stores"]] == ["features", "labels"]
    assert [found["statistics"] is None for found in document["stores"]] == [False, True]


def test_info_of_an_empty_work_directory_says_what_is_not_there(run, tmp_path):
    code, out, err = run("info", "--work", tmp_path / "work", "--json")
    assert (code, err) == (DONE, "")
    document = json.loads(out)
    assert document["stores"] == []
    assert document["experiment"].keys() == WORK_KEYS
    assert document["experiment"]["runs"] is None
    assert "run facets sweep" in document["experiment"]["runs_unknown"]
    assert not (tmp_path / "work").exists()


def test_statistics_are_those_of_the_valid_values(run, features):
    valid = [features.read(clip)[features.read(clip, "valid")] for clip in features.clips()]
    values = np.concatenate(valid).astype(np.float64)
    code, out, err = run("info", features.path, "--json", "--statistics")
    assert (code, err) == (DONE, "")
    found = json.loads(out)["stores"][0]["statistics"]
    assert (found["frames"], found["dead_dimensions"]) == (len(values), [5])
    assert (found["minimum"], found["maximum"]) == (values.min(), values.max())
    assert found["zero_share"] == (values == 0).mean()
    for name, of in (("mean", values.mean(axis=0)), ("std", values.std(axis=0))):
        np.testing.assert_allclose(found[name], [of.min(), of.max()], rtol=1e-12)
    code, out, _ = run("info", features.path, "--statistics")
    assert f"statistics of {len(values)} valid frames" in out
    assert "1 of 8 dimensions: 5" in out


def test_statistics_of_labels_are_refused_in_one_line(run, labels):
    code, out, err = run("info", labels.path, "--statistics")
    assert (code, out) == (FAILED, "")
    assert "statistics of feature stores only" in err


def test_statistics_leave_out_what_a_glance_finds_damaged_and_stop_at_a_flipped_bit(run, features):
    path = features.data_path("one")
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = run("info", features.path, "--json", "--statistics")
    assert (code, err) == (DONE, "")
    assert json.loads(out)["stores"][0]["statistics"]["frames"] == features.read("two", "valid").sum()
    flip_a_value(features, "two")
    code, out, err = run("info", features.path, "--json", "--statistics")
    assert (code, out) == (FAILED, "")
    assert "two" in err


def test_info_describes_a_damaged_store_and_lists_the_damage(run, features):
    features.data_path("one").unlink()
    (features.path / "clips/notes.txt").touch()
    code, out, err = run("info", features.path)
    assert (code, err) == (DONE, "")
    assert "1 clip, 300 frames" in out
    assert "clip without data one: " in out
    assert "foreign file clips/notes.txt: " in out
    code, out, _ = run("info", features.path, "--json")
    (found,) = json.loads(out)["stores"]
    assert [problem.keys() for problem in found["missing"]] == [{"name", "reason"}]
    assert [problem["name"] for problem in found["missing"] + found["foreign"]] == ["one", "clips/notes.txt"]


def test_verify_as_json_is_one_document_with_these_keys(run, features, labels, tmp_path):
    code, out, err = run("verify", "--work", tmp_path / "work", "--json")
    assert (code, err) == (DONE, "")
    document = json.loads(out)
    assert document.keys() == {"schema", "depth", "ok", "stores"}
    assert (document["schema"], document["depth"], document["ok"]) == ("facets-verify-1", "full", True)
    assert [store.keys() for store in document["stores"]] == [VERIFIED_KEYS] * 2
    assert [store["path"] for store in document["stores"]] == [str(features.path), str(labels.path)]


def test_verify_reports_problems_with_code_one_and_json_keeps_stderr_clean(run, features):
    flip_a_value(features, "two")
    code, out, err = run("verify", features.path, "--json")
    assert (code, err) == (FAILED, "")
    (found,) = json.loads(out)["stores"]
    assert [problem["name"] for problem in found["damaged"]] == ["two"]
    assert (found["ok"], found["removed"]) == (False, [])
    code, out, err = run("verify", features.path)
    assert code == FAILED
    assert out == f"{features.path}: 2 clips, full: 1 problem\n"
    assert err.startswith(f"error: {features.path}: damaged clip two: ")
    assert err.count("\n") == 1


def test_a_repair_says_what_it_removed_and_still_exits_with_one(run, features):
    flip_a_value(features, "two")
    code, out, _ = run("verify", features.path, "--repair", "--json")
    assert code == FAILED
    assert "clips/two.json" in json.loads(out)["stores"][0]["removed"]
    assert features.clips() == ["one"]
    assert run("verify", features.path)[:2] == (DONE, f"{features.path}: 1 clip, full: no problem found\n")


@pytest.mark.parametrize(
    ("options", "depth", "code"),
    [
        ([], "full", FAILED),
        (["--full"], "full", FAILED),
        (["--sampled"], "sampled", FAILED),
        (["--quick"], "quick", DONE),
    ],
)
def test_the_depth_decides_what_is_found(run, features, options, depth, code):
    flip_a_value(features, "two")  # one chunk per array, so that every sample has it
    found, out, _ = run("verify", features.path, "--json", *options)
    assert (found, json.loads(out)["depth"]) == (code, depth)


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_is_no_store_leaves_stdout_empty(run, tmp_path, command):
    code, out, err = run(command, tmp_path, "--json")
    assert (code, out) == (FAILED, "")
    assert "there is no store" in err
    assert run(command, tmp_path / "nowhere", "--json")[:2] == (USAGE, "")
