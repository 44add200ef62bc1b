"""Videos to crops to a corpus: which crops there are, what is recorded, and what a crash leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_files import PEOPLE, Actor, FixedDetector, background, crop_numbers, scene, walk, write_video

from extract.assembly import ClipRows
from extract.corpora.readers.affwild2 import challenge
from extract.crops import alignment, journal
from extract.crops.choices import CropOptions
from extract.crops.cropping import crop_videos
from extract.decode import decode_file
from extract.fingerprint import inspect
from stores.errors import ConfigError, CorpusError

pytest.importorskip("av")
pytest.importorskip("cv2")

ABSENT = set(range(12, 22))
FRAMES = 34
BOTH = CropOptions(people=2)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """One person who is away for a while and at the end; two people; nobody."""
    folder = tmp_path_factory.mktemp("films")
    pictures, _ = walk(Actor(PEOPLE[0]), FRAMES, ABSENT | {FRAMES - 2, FRAMES - 1})
    write_video(folder / "one.mp4", pictures)
    left, right = Actor(PEOPLE[0]), Actor(PEOPLE[1], size=130)
    pictures = [scene(frame, [(left, 5 + frame, 60), (right, 170 - frame, 50)]) for frame in range(12)]
    write_video(folder / "two.mp4", pictures)
    write_video(folder / "nobody.avi", [background(frame) for frame in range(8)], codec="mpeg4")
    return folder


@pytest.fixture(scope="module")
def cut(films, tmp_path_factory):
    target = tmp_path_factory.mktemp("cut")
    return target, crop_videos(films, target, BOTH)


@pytest.fixture
def fixed(monkeypatch):
    """For tests in which finding faces, which takes most of the time, is not the point."""
    monkeypatch.setattr("extract.crops.detection.load", FixedDetector)


@pytest.fixture(scope="module")
def scraps(tmp_path_factory):
    """Two short videos in which the fixed detector sees two people."""
    folder = tmp_path_factory.mktemp("scraps")
    for name, frames in (("one", 8), ("two", 7)):
        write_video(folder / f"{name}.mp4", [background(frame, 128, 96) for frame in range(frames)])
    return folder


@pytest.fixture
def scrap_tree(fixed, scraps, tmp_path):
    crop_videos(scraps, tmp_path / "target", BOTH)
    return tmp_path / "target"


def contents(folder):
    """Every visible file below a folder with its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_every_frame_with_a_face_has_a_crop_and_gaps_stay_gaps(cut):
    target, report = cut
    present = [frame + 1 for frame in range(FRAMES - 2) if frame not in ABSENT]
    assert crop_numbers(target / "cropped_aligned" / "one") == present
    assert report.written == ("one", "two_left", "two_right")
    assert report.frames == FRAMES + 12 + 8
    assert report.crops == len(present) + 24


def test_crops_are_jpegs_of_the_asked_size_with_the_eyes_on_the_template(cut):
    target, _ = cut
    for path in sorted((target / "cropped_aligned" / "one").iterdir()):
        crop = decode_file(path)
        assert crop.shape == (112, 112, 3)
        # Whites and pupils are the strongest contrast of a drawn face: both are near each eye's place.
        for x, y in alignment.TEMPLATE[:2]:
            window = crop[int(y) - 5 : int(y) + 6, int(x) - 9 : int(x) + 10].astype(int)
            assert window.max() > 200
            assert window.min() < 70


def test_two_people_give_a_left_and_a_right_clip_and_one_person_neither(cut, films, tmp_path):
    target, _ = cut
    left, right = (
        decode_file(target / "cropped_aligned" / clip / "00005.jpg") for clip in ("two_left", "two_right")
    )
    expected = {}
    for number, (seed, size) in enumerate(((PEOPLE[0], 120), (PEOPLE[1], 130))):
        actor = Actor(seed, size=size)
        expected[number] = alignment.align(actor.picture, actor.eyes, 112)[40:100, 25:87].astype(int)
    for number, crop in enumerate((left, right)):
        differences = [np.abs(crop[40:100, 25:87].astype(int) - other).mean() for other in expected.values()]
        assert int(np.argmin(differences)) == number
    crop_videos(films / "two.mp4", tmp_path, CropOptions(people=1))
    assert [path.name for path in (tmp_path / "cropped_aligned").iterdir()] == ["two"]
    assert contents(tmp_path / "cropped_aligned" / "two") == contents(
        target / "cropped_aligned" / "two_right"
    )
    assert json.loads((tmp_path / "crops" / "two.json").read_text())["people_not_kept"] == 1


def test_a_video_without_a_face_has_no_clip_and_a_warning(cut):
    target, report = cut
    assert not report.failed
    assert list(report.warnings) == ["nobody"]
    assert "no face in any of 8 frames" in report.warnings["nobody"]
    assert not (target / "cropped_aligned" / "nobody").exists()
    assert json.loads((target / "crops" / "nobody.json").read_text())["clips"] == []


def test_the_record_says_what_made_the_crops_of_what(cut, films):
    import hashlib

    target, _ = cut
    document = json.loads((target / "crops" / "one.json").read_text())
    assert document["video"]["sha256"] == hashlib.sha256((films / "one.mp4").read_bytes()).hexdigest()
    assert document["maker"]["detector"]["name"] == "haar"
    assert all(len(digest) == 64 for digest in document["maker"]["detector"]["model_sha256"])
    crops = b"".join(path.read_bytes() for path in sorted((target / "cropped_aligned" / "one").iterdir()))
    assert document["clips"][0]["sha256"] == hashlib.sha256(crops).hexdigest()
    assert (document["frames"], document["fps"]) == (FRAMES, 30)
    assert {"av", "opencv", "pillow", "facets"} <= document["versions"].keys()


def test_a_second_run_touches_nothing_and_a_new_folder_gets_the_same_bytes(cut, films, tmp_path):
    target, first = cut
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.j*")}
    report = crop_videos(films, target, BOTH)
    assert (report.written, report.unchanged) == ((), ("nobody", "one", "two"))
    assert report.warnings == first.warnings
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*.j*")} == before
    crop_videos([films / "two.mp4", films / "one.mp4", films / "nobody.avi"], tmp_path, BOTH)
    assert contents(tmp_path) == contents(target)


def test_what_changed_is_cut_anew_and_alone(scrap_tree, scraps, tmp_path):
    before = contents(scrap_tree / "cropped_aligned")
    videos = shutil.copytree(scraps, tmp_path / "videos")
    os.utime(videos / "two.mp4", ns=(1, 1))
    assert crop_videos(videos, scrap_tree, BOTH).written == ()  # another time, the same bytes
    (scrap_tree / "cropped_aligned" / "one_left" / "00003.jpg").unlink()
    report = crop_videos(videos, scrap_tree, BOTH)
    assert (report.written, report.warnings) == (("one_left", "one_right"), {})
    assert contents(scrap_tree / "cropped_aligned") == before
    shutil.copy(scraps / "one.mp4", videos / "two.mp4")
    report = crop_videos(videos, scrap_tree, BOTH)
    assert report.written == ("two_left", "two_right")
    assert "replaced the crops of an older file of this name" in report.warnings["two"]
    assert crop_numbers(scrap_tree / "cropped_aligned" / "two_left") == list(range(1, 9))


def test_other_options_replace_the_crops_of_a_video(scrap_tree, scraps):
    report = crop_videos(scraps / "two.mp4", scrap_tree, CropOptions(people=1, size=64, quality=80))
    assert report.written == ("two",)
    names = sorted(path.name for path in (scrap_tree / "cropped_aligned").iterdir())
    assert names == ["one_left", "one_right", "two"]
    assert decode_file(scrap_tree / "cropped_aligned" / "two" / "00001.jpg").shape == (64, 64, 3)


def test_a_rate_puts_the_clip_on_a_constant_timeline(fixed, scraps, tmp_path):
    crop_videos(scraps / "one.mp4", tmp_path, CropOptions(fps=Fraction(60)))
    assert crop_numbers(tmp_path / "cropped_aligned" / "one") == list(range(1, 16))
    clip = challenge.load(tmp_path, "abaw2").clips[0]
    assert (clip.fps, len(clip.frames)) == (60, 15)


def test_videos_that_cannot_be_cut_are_listed_and_the_others_go_on(fixed, scraps, tmp_path):
    videos = tmp_path / "videos"
    (videos / "batch").mkdir(parents=True)
    shutil.copy(scraps / "two.mp4", videos / "good.mp4")
    data = (scraps / "one.mp4").read_bytes()
    (videos / "short.mp4").write_bytes(data[: len(data) // 2])
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "noise.avi").write_bytes(bytes(range(256)) * 9)
    (videos / "notes.txt").write_text("no video")
    shutil.copy(scraps / "one.mp4", videos / "same.mp4")
    shutil.copy(scraps / "two.mp4", videos / "batch" / "same.mp4")
    report = crop_videos(videos, tmp_path / "out")
    assert report.written == ("good",)
    reasons = {failed.video: failed.reason for failed in report.failed}
    assert reasons.keys() == {"short", "empty", "noise", "same"}
    assert "2 videos have this name" in reasons["same"]
    assert all(reasons[name].count(f"{name}.") for name in ("short", "empty", "noise"))
    assert sorted(path.name for path in (tmp_path / "out" / "cropped_aligned").iterdir()) == ["good"]


def test_crops_of_others_are_never_overwritten(fixed, scraps, tmp_path):
    theirs = tmp_path / "cropped_aligned" / "two_left"
    theirs.mkdir(parents=True)
    (theirs / "00001.jpg").write_bytes(b"theirs")
    report = crop_videos(scraps / "two.mp4", tmp_path, BOTH)
    assert "was not cut from this video" in report.failed[0].reason
    assert (theirs / "00001.jpg").read_bytes() == b"theirs"
    assert crop_videos(scraps / "two.mp4", tmp_path).written == ("two",)


def test_a_video_of_a_name_that_was_cut_before_does_not_replace_it(scrap_tree, scraps, tmp_path):
    before = contents(scrap_tree)
    video = shutil.copy(scraps / "two.mp4", tmp_path / "one.mkv")
    report = crop_videos(Path(video), scrap_tree, BOTH)
    assert "were cut from one.mp4" in report.failed[0].reason
    assert contents(scrap_tree) == before


def test_a_video_that_can_no_longer_be_decoded_keeps_its_older_crops(scrap_tree, scraps, tmp_path):
    before = contents(scrap_tree)
    video = tmp_path / "one.mp4"
    video.write_bytes((scraps / "one.mp4").read_bytes()[:-500])
    assert crop_videos(video, scrap_tree, BOTH).failed
    assert contents(scrap_tree) == before


def test_a_damaged_record_fails_its_video_and_says_what_to_do(scrap_tree, scraps):
    record_file = scrap_tree / "crops" / "one.json"
    record_file.write_text('{"format": "facets-crops", "version": 1}')
    report = crop_videos(scraps, scrap_tree, BOTH)
    assert [failed.video for failed in report.failed] == ["one"]
    assert "delete it and the clips of this video" in report.failed[0].reason
    record_file.write_text("{")
    with pytest.raises(CorpusError, match=r"one\.json is not a valid JSON"):
        challenge.load(scrap_tree, "abaw2")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"people": 3}, "1 or 2"),
        ({"size": 4096}, "16 to 2048"),
        ({"quality": 100}, "1 to 95"),
        ({"max_gap": -1}, "0 to 30"),
    ],
)
def test_options_out_of_range_are_an_error(wrong, told):
    with pytest.raises(ConfigError, match=told):
        CropOptions(**wrong)


def test_progress_counts_the_bytes_of_the_videos(fixed, scraps, tmp_path):
    seen = []
    crop_videos(scraps, tmp_path, progress=lambda *step: seen.append(step))
    size = sum(path.stat().st_size for path in scraps.iterdir())
    assert {(step, total) for step, total, _ in seen} == {("crop", size)}
    completed = [done for _, _, done in seen]
    assert completed[0] == 0
    assert completed[-1] == max(completed) == size


def test_memory_does_not_grow_with_the_video(fixed, tmp_path):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    seen = []
    large = background(0, 1280, 720)
    video = write_video(tmp_path / "v.mp4", [large] * 120)
    crop_videos(video, tmp_path, BOTH, lambda *_: seen.append(int(statm.read_text().split()[1]) * 4096))
    assert len(seen) >= 120
    assert max(seen[100:120]) - max(seen[20:40]) < 4 * large.nbytes


# The corpus


def test_a_corpus_needs_no_annotations_and_knows_length_rate_and_origin(cut):
    target, _ = cut
    corpus = challenge.load(target, "abaw2")
    assert [(clip.id, clip.split, clip.subject, len(clip.frames)) for clip in corpus.clips] == [
        ("one", "test", "one", FRAMES),
        ("two_left", "test", "two", 12),
        ("two_right", "test", "two", 12),
    ]
    one = corpus.clips[0]
    assert one.frames[FRAMES - 1] is None
    assert one.fps == 30
    assert any("were cut from videos by detector haar" in note for note in corpus.notes)
    assert not any("not all crops were made alike" in note for note in corpus.notes)


def test_annotations_beside_the_crops_are_read_as_ever(cut, tmp_path, tree):
    shutil.copytree(cut[0] / "cropped_aligned" / "two_left", tree.root / "cropped_aligned" / "two_left")
    shutil.copytree(cut[0] / "crops", tree.root / "crops")
    tree.annotate("VA", "Train_Set", "two_left", ["0.5,-0.25"] * 12)
    tree.whole("other", frames=4)
    corpus = challenge.load(tree.root, "abaw2")
    assert {clip.id: clip.split for clip in corpus.clips} == {"other": "train", "two_left": "train"}
    assert corpus.clips[0].origin is None
    assert any("not all crops were made alike" in note for note in corpus.notes)


def test_the_detector_reaches_the_feature_store(cut, tmp_path):
    from store_specs import feature_spec

    import stores

    target, _ = cut
    clip = challenge.load(target, "abaw2").clips[0].crops
    store = stores.create(tmp_path / "store", feature_spec(dim=4))
    ClipRows(clip, inspect(clip), np.zeros((FRAMES, 4), np.float16)).commit(store, {})
    origin = store.record("one").attrs["crops"]
    document = json.loads((target / "crops" / "one.json").read_text())
    assert origin == {
        "detector": "haar",
        "model_sha256": document["maker"]["detector"]["model_sha256"],
        "maker_sha256": document["maker_sha256"],
        "video_sha256": document["video"]["sha256"],
        "crops_sha256": document["clips"][0]["sha256"],
        "interpolated": 0,
    }


def test_a_replacement_that_was_stopped_is_an_error_for_readers(cut, tmp_path):
    target = shutil.copytree(cut[0], tmp_path / "target")
    path = target / "crops" / "two.json"
    document = json.loads(path.read_text()) | {"complete": False, "replacing": ["two_left", "two_right"]}
    path.write_text(json.dumps(document))
    with pytest.raises(CorpusError, match="run it again"):
        challenge.load(target, "abaw2")


# Crashes

# Forks for every target, as imports take longer than the crops.
CHILD = """
import os, signal, sys
from pathlib import Path
from extract.crops import detection
from extract.crops.choices import CropOptions
from extract.crops.cropping import crop_videos
from video_files import FixedDetector
detection.load = FixedDetector
calls = 0
def counted(function, fatal):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
video, *tasks = sys.argv[1:]
for target, fatal in zip(tasks[::2], tasks[1::2]):
    pid = os.fork()
    if pid == 0:
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "writev"):
            setattr(os, name, counted(getattr(os, name), int(fatal)))
        crop_videos(Path(video), Path(target), CropOptions(people=2))
        print("calls", calls, flush=True)
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def children(video, fatal):
    """Crops into each target in a process of its own, killed at a call that changes a folder; 0: never.

    Returns:
        The lines of their output: ``calls`` and how many it made, where it was not killed, ``ended`` and how.
    """
    command = [sys.executable, "-c", CHILD, video, *(word for task in fatal.items() for word in task)]
    paths = os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parent)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()


def test_killed_anywhere_a_tree_holds_whole_clips_and_the_next_run_gives_the_same_bytes(fixed, tmp_path):
    video = write_video(tmp_path / "v.mp4", [background(frame, 128, 96) for frame in range(6)])
    before, after = tmp_path / "before", tmp_path / "after"
    crop_videos(video, before, CropOptions(people=1))
    shutil.copytree(before, after)
    counted, ended = children(video, {after: 0})
    assert ended == "ended 0"
    clips = {
        path.name: contents(path) for tree in (before, after) for path in (tree / "cropped_aligned").iterdir()
    }
    assert clips.keys() == {"v", "v_left", "v_right"}
    calls = int(counted.removeprefix("calls "))
    # Some of the writing, and much of the publishing at the end.
    fatal = {
        shutil.copytree(before, tmp_path / f"killed{call}"): call
        for call in {3, calls // 2, *range(calls - 17, calls + 1, 2)}
    }
    assert children(video, fatal) == [f"ended {-signal.SIGKILL}"] * len(fatal)
    for target in fatal:
        for path in (target / "cropped_aligned").iterdir():
            if not path.name.startswith("."):
                assert contents(path) == clips[path.name], target
        try:
            found = {clip.id for clip in challenge.load(target, "abaw2").clips}
        except CorpusError as error:
            assert "run it again" in str(error)  # noqa: PT017 (either outcome is right)
        else:
            assert found in ({"v"}, {"v_left", "v_right"}), target
        crop_videos(video, target, BOTH)
        assert contents(target) == contents(after), target
        assert not [path for path in (target / "cropped_aligned").iterdir() if path.name.startswith(".")]


def test_a_disk_that_is_full_leaves_the_tree_as_it_was(scrap_tree, scraps, monkeypatch):
    before = contents(scrap_tree)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("extract.crops.cutting.commit.write_file", full)
    with pytest.raises(OSError, match="No space left"):
        crop_videos(scraps, scrap_tree, CropOptions(people=1))
    assert contents(scrap_tree) == before


# The command


@pytest.fixture
def run(capsys):
    from pipeline.cli import main

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["crop", *map(str, arguments)])
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_command_lists_what_failed_with_code_three_and_warns_of_the_rest(run, films, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out"
    code, _, err = run(films / "nobody.avi", films / "two.mp4", broken, out)
    lines = err.splitlines()
    assert code == 3
    assert any(line.startswith("warning: video nobody: no face") for line in lines)
    assert any(line.startswith("error: video broken: ") and "broken.mp4" in line for line in lines)
    assert run(films / "two.mp4", films / "nobody.avi", out)[0] == 0
    assert run(broken, out)[0] == 1


def test_the_command_says_in_one_line_what_is_missing(run, films, tmp_path, monkeypatch):
    code, _, err = run(films, tmp_path / "out", "--detector", "yunet")
    assert (code, err.count("\n")) == (2, 1)
    assert "give --model" in err
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err = run(films, tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "uv sync --extra video" in err
    assert not (tmp_path / "out").exists()
    (tmp_path / "nothing").mkdir()
    monkeypatch.undo()
    code, _, err = run(tmp_path / "nothing", tmp_path / "out")
    assert code == 1
    assert "no video in" in err


def test_records_give_runs_of_frames_as_pairs():
    assert journal.ranges([1, 2, 3, 7, 9, 10]) == [[1, 3], [7, 7], [9, 10]]
    assert journal.ranges([]) == []
