"""``facets doctor CONFIG`` as a whole: what it says, what it writes, and how it ends."""

import json

import numpy as np
import pytest
import toy_corpora
import yaml
from examined_corpora import configure, tree
from PIL import Image

from pipeline.cli import main
from pipeline.commands.options import DONE, FAILED
from pipeline.doctor import Finding, examine
from pipeline.workdir import work_dir

ROWS = 14
CLIPS = {
    "video1": ("Train_Set", range(ROWS), ROWS),
    "video2_left": ("Train_Set", [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13], ROWS),
    "video3": ("Validation_Set", range(ROWS), ROWS),
}


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "corpus", CLIPS)


@pytest.fixture
def doctor(tmp_path, capsys):
    def doctor(config, *options):
        path = tmp_path / "examined.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
        with pytest.raises(SystemExit) as ended:
            main(["doctor", str(path), "--work", str(tmp_path / "work"), *options])
        return ended.value.code, *capsys.readouterr()

    return doctor


def by_name(out):
    found = {}
    for line in out.splitlines():
        if line[:4] in ("PASS", "WARN", "FAIL"):
            found.setdefault(line[6:16].strip(), []).append((line[:4], line[17:]))
    return found


def test_the_doctor_tells_what_a_corpus_holds_and_draws_it(root, doctor, tmp_path):
    code, out, _ = doctor(configure(root))
    assert code == DONE
    found = by_name(out)
    assert {status for lines in found.values() for status, _ in lines} == {"PASS"}
    assert found["clips"][0][1] == "affwild2: train 2 clips, 28 frames, validation 1 clips, 14 frames"
    assert found["crops"][0][1].startswith("2 of 42 frames have no crop")
    assert found["labels"][0][1].endswith("V 28 + 14, AU 28 + 14, EXPR 28 + 14")
    assert found["images"][0][1].startswith("looked at all 40 images")
    assert found["extraction"][0][1].startswith("40 crops of 3 clips; 0 clips have features; about ")
    # Three clips of 14 frames, padded to 16: 2048 float16, int32 and bool; two float32, int8 and 12 AUs.
    features, labels = 3 * 16 * (4096 + 5), 3 * 16 * (9 + 12)
    assert f"features {features / 1e6:.1f} MB + labels {labels / 1e6:.1f} MB" in found["disk"][0][1]
    # 14 frames of 1 + 12 + 7 outputs, two seeds
    assert f"predictions of 4 runs {14 * 20 * 2 * 4 / 1e6:.1f} MB" in found["disk"][0][1]
    table = [" ".join(line.split()) for line in out.splitlines()]
    assert "affwild2 train 2 - 28 2 (7.1%) 2 28 (100.0%) 28 (100.0%) 28 (100.0%) 28 (100.0%)" in table
    assert "Surprise 4 (14.29%) 28 2 (14.29%) 14" in table
    assert "AU26 14 (50.00%) 28 7 (50.00%) 14" in table
    picture = np.asarray(Image.open(tmp_path / "work" / "doctor.png").convert("RGB"))
    assert picture.shape[1] == 1650
    for colour in ("0072B2", "E69F00"):
        assert (picture == [*bytes.fromhex(colour)]).all(-1).mean() > 0.01


def test_a_broken_corpus_is_one_failure_with_file_and_line_and_the_rest_says_it_is_skipped(root, doctor):
    path = root / "annotations" / "EXPR_Set" / "Train_Set" / "video1.txt"
    path.write_text(path.read_text().replace("\n3\n", "\n33\n", 1))
    code, out, err = doctor(configure(root))
    assert (code, err) == (FAILED, "")
    found = by_name(out)
    failures = [text for lines in found.values() for status, text in lines if status == "FAIL"]
    assert len(failures) == 1
    assert f"{path}, line 5 (frame 3)" in failures[0]
    assert "they need the corpus, which failed" in found["skipped"][0][1]
    assert found["disk"][0][0] == "PASS"
    assert not {"labels", "images", "extraction", "people"} & found.keys()


def test_json_has_the_same_findings_counts_and_mapping_and_nothing_else_is_printed(root, doctor, tmp_path):
    code, out, _ = doctor(configure(root, corpus={"mapping": {"Fear": None}}), "--json")
    document = json.loads(out)
    assert (code, document["schema"], document["ok"]) == (DONE, "facets-doctor-1", True)
    assert {finding["status"] for finding in document["findings"]} == {"PASS", "WARN"}
    assert all(finding["remedy"] for finding in document["findings"] if finding["status"] != "PASS")
    train, validation = document["corpus"]["parts"]
    assert (train["split"], train["frames"], train["crops"], train["clips"]) == ("train", 28, 26, 2)
    assert validation["classes"] == [2, 2, 2, 0, 2, 2, 2]
    assert validation["labelled_with_crop"] == {"V": 14, "A": 14, "AU": 14, "EXPR": 12}
    fear = document["mapping"]["affwild2"]["expressions"][3]
    assert (fear["source"], fear["target"], fear["reason"], fear["labels"]) == ("Fear", None, "rule", 6)
    assert document["picture"] == str(tmp_path / "work" / "doctor.png")


def test_people_in_two_splits_fail_where_a_sweep_would_refuse_them_and_warn_where_it_reports(root, doctor):
    (root / "cropped_aligned" / "video3").rename(root / "cropped_aligned" / "video2_right")
    for path in (root / "annotations").glob("*/Validation_Set/video3.txt"):
        path.rename(path.with_stem("video2_right"))
    code, out, _ = doctor(configure(root))
    status, text = by_name(out)["people"][0]
    assert (code, status) == (FAILED, "FAIL")
    assert "video2 in train (video2_left) and validation (video2_right)" in text
    assert "affwild2: train 2 clips" in out  # everything else is told all the same
    code, out, _ = doctor(configure(root, corpus={"leaks": "report"}))
    assert (code, by_name(out)["people"][0][0]) == (DONE, "WARN")


def test_without_a_corpus_folder_the_doctor_names_it(tmp_path, doctor):
    code, out, _ = doctor(configure(tmp_path / "gone"))
    assert code == FAILED
    assert by_name(out)["corpus"] == [("FAIL", f"no folder {tmp_path / 'gone'} -> set corpus.root")]


def test_a_check_that_breaks_is_a_failure_of_its_own_and_the_next_ones_still_run(root, tmp_path, monkeypatch):
    def broken():
        msg = "cannot\nbe loaded"
        raise ImportError(msg)

    def broken_midway(census):
        yield Finding("crops", "PASS", "so far")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pipeline.doctor.environment.check_libraries", broken)
    monkeypatch.setattr("pipeline.doctor.judgement.check_crops", broken_midway)
    told = []
    config = configure(root)
    found = examine(config, work_dir(config, tmp_path / "work"), told.append)
    assert found.failed
    assert told == list(found.findings)
    libraries = told[1]
    assert (libraries.name, libraries.status) == ("libraries", "FAIL")
    assert libraries.found == "ImportError: cannot be loaded"
    assert libraries.remedy.startswith("make a fresh environment")
    (crops,) = [finding for finding in told if finding.name == "crops"]
    assert (crops.status, crops.found) == ("FAIL", "OSError: [Errno 5] Input/output error")
    assert [finding.status for finding in told if finding.name in ("rows", "disk")] == ["PASS", "PASS"]
    assert found.census is not None


def test_a_corpus_that_is_not_drawn_yet_is_no_failure_but_nothing_is_said_of_its_labels(tmp_path):
    config = configure("/nowhere", corpus={"kind": "rendered"})
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"root": None})})
    told = []
    found = examine(config, work_dir(config, tmp_path / "work"), told.append)
    assert (found.failed, found.census, found.picture) == (False, None, None)
    (skipped,) = [finding for finding in told if finding.name == "skipped"]
    assert "the corpus of examined is not drawn yet -> run facets features" in skipped.line
    assert not (tmp_path / "work").exists()


def test_given_features_stand_in_for_crops_and_an_experiment_on_them_passes(tmp_path, doctor):
    root = tree(
        tmp_path / "corpus", {clip: (split, [rows - 1], rows) for clip, (split, _, rows) in CLIPS.items()}
    )
    store = tmp_path / "given"
    toy_corpora.write_features(store, dict.fromkeys(CLIPS, ROWS))
    code, out, _ = doctor(configure(root, streams={"face": {"store": str(store)}}))
    found = by_name(out)
    assert (code, found["crops"][0][0]) == (DONE, "PASS")
    assert "0 of 42 frames have no feature vector" in found["crops"][0][1]


@pytest.mark.parametrize("made", [False, True], ids=["both given", "crops and one given"])
def test_a_frame_counts_if_any_stream_sees_it(tmp_path, doctor, made):
    seen = {clip: (split, [0, 1, rows - 1], rows) for clip, (split, _, rows) in CLIPS.items()}
    root = tree(tmp_path / "corpus", seen)
    streams = {"sound": {"store": str(tmp_path / "sound")}}
    if not made:
        streams["face"] = {"store": str(tmp_path / "face")}
    for name, first, end in (("face", 0, 2), ("sound", 1, 4)):
        store = toy_corpora.write_features(tmp_path / name, {})
        for clip in CLIPS:
            arrays = {"features": np.zeros((ROWS, toy_corpora.DIM), np.float16)}
            valid = np.zeros(ROWS, bool)
            valid[first:end] = True
            frame = np.arange(ROWS, dtype=np.int32)
            store.write(clip, arrays | {"frame": frame, "valid": valid})
    _, out, _ = doctor(configure(root, streams=streams))
    found = by_name(out)
    seen = 5 if made else 4
    assert f"{3 * (ROWS - seen)} of {3 * ROWS} frames have no feature vector" in found["crops"][0][1]
    assert [line.split(": ")[0] for _, line in found["weights"]] == ["face", "sound"]


def test_an_experiment_without_a_sweep_is_judged_by_the_tasks_that_have_labels(root, doctor):
    code, out, _ = doctor(configure(root).model_copy(update={"sweep": None}))
    found = by_name(out)
    assert (code, {status for lines in found.values() for status, _ in lines}) == (DONE, {"PASS"})
    assert found["labels"][0][1].endswith("V 28 + 14, A 28 + 14, AU 28 + 14, EXPR 28 + 14")
