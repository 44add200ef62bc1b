"""What holds for every corpus of sequences: defects are named by line, pictures are found or refused."""

import json
import re
import shutil

import numpy as np
import pytest
from sequence_trees import MAKERS, ckplus, disfa, pictures, put

from extract import corpora
from extract.corpora import CropFrames
from extract.corpora.imagery.footage import CROPPED
from stores.errors import ConfigError, CorpusError

ALL = pytest.mark.parametrize("kind", MAKERS)
CROPS = {
    "disfa": "LeftVideoSN001_comp",
    "disfaplus": "SN001_A1_AU1_TrailNo_1",
    "bp4d": "F001_T1",
    "afew_va": "001",
    "ckplus": "S005_001",
}
"""Kind -> the folder of crops of its one clip."""
OWN = {
    "disfa": "Images/SN001",
    "disfaplus": "Images/SN001/A1_AU1_TrailNo_1",
    "bp4d": "BP4D-training/F001/T1",
    "afew_va": "001",
    "ckplus": "cohn-kanade-images/S005/001",
}
"""Kind -> its own folder of the pictures of its one clip."""

# Kind -> defect -> line that is replaced, by what.
DEFECTS = {
    "disfa": {
        "a header": (1, "frame,intensity"),
        "an extra column": (2, "2,1,0"),
        "a missing column": (2, "2"),
        "an empty cell": (2, "2,"),
        "a blank line": (2, ""),
        "out of range": (2, "2,6"),
        "negative": (2, "2,-1"),
        "not whole": (2, "2,0.5"),
        "not a number": (2, "2,none"),
        "not finite": (2, "2,nan"),
        "columns in another order": (1, "0,1"),
        "not a frame": (2, "x,0"),
        "a frame twice": (3, "2,0"),
        "frames in another order": (3, "1,0"),
        "frame beyond the end": (4, "400,0"),
        "a frame that no video has": (4, "99999999,0"),
    },
    "disfaplus": {
        "a header": (1, "frame intensity"),
        "an extra column": (2, "001.jpg 1 0"),
        "a missing column": (2, "001.jpg"),
        "a blank line": (2, ""),
        "out of range": (2, "001.jpg 6"),
        "negative": (2, "001.jpg -1"),
        "not whole": (2, "001.jpg 0.5"),
        "not a number": (2, "001.jpg none"),
        "columns in another order": (2, "1 001.jpg"),
        "not a frame": (2, "x.jpg 0"),
        "a frame twice": (3, "001.jpg 0"),
        "frames in another order": (3, "000.jpg 0"),
        "frame beyond the end": (4, "400.jpg 0"),
    },
    "bp4d": {
        "no header": (1, "1,0,0,0,0,0,0,0,0,0,0,0,0"),
        "a unit twice in the header": (1, "F001_T1,1,2,4,6,7,10,12,14,15,17,23,23"),
        "a unit that is none in the header": (1, "F001_T1,1,2,4,6,7,10,12,14,15,17,23,AU24"),
        "an empty cell in the header": (1, "F001_T1,1,2,4,6,7,10,12,14,15,17,23,"),
        "an extra column": (3, "2" + ",0" * 13),
        "a missing column": (3, "2" + ",0" * 11),
        "an empty cell": (3, "2" + ",0" * 11 + ","),
        "a blank line": (3, ""),
        "out of range": (3, "2" + ",0" * 11 + ",2"),
        "negative": (3, "2" + ",0" * 11 + ",-1"),
        "not whole": (3, "2" + ",0" * 11 + ",0.5"),
        "not a number": (3, "2" + ",0" * 11 + ",none"),
        "not a frame": (3, "x" + ",0" * 12),
        "frame zero": (2, "0" + ",0" * 12),
        "a frame twice": (4, "2" + ",0" * 12),
        "frames in another order": (4, "1" + ",0" * 12),
        "frame beyond the end": (5, "400" + ",0" * 12),
    },
    "afew_va": {
        "not JSON": (3, "00001: {},"),
        "no frames": (1, '{"clips": {'),
        "a missing rating": (3, '"00001": {"valence": 1},'),
        "a null rating": (3, '"00001": {"valence": 1, "arousal": null},'),
        "no ratings": (3, '"00001": [1, 2],'),
        "out of range": (3, '"00001": {"valence": 11, "arousal": 0},'),
        "negative": (3, '"00001": {"valence": 0, "arousal": -11},'),
        "not whole": (3, '"00001": {"valence": 0.5, "arousal": 0},'),
        "not a number": (3, '"00001": {"valence": "1", "arousal": 0},'),
        "a truth value": (3, '"00001": {"valence": true, "arousal": 0},'),
        "not finite": (3, '"00001": {"valence": NaN, "arousal": 0},'),
        "infinite": (3, '"00001": {"valence": Infinity, "arousal": 0},'),
        "not a frame": (3, '"first": {"valence": 0, "arousal": 0},'),
        "a frame twice": (3, '"00000": {"valence": 0, "arousal": 0},'),
        "a frame twice in another spelling": (3, '"0": {"valence": 0, "arousal": 0},'),
        "frame beyond the end": (5, '"00400": {"valence": 0, "arousal": 0}'),
    },
    "ckplus": {
        "a header": (1, "AU intensity"),
        "an extra column": (2, "4 2 0"),
        "a missing column": (2, "4"),
        "out of range": (2, "4 6"),
        "negative": (2, "4 -1"),
        "not whole": (2, "4 0.5"),
        "not a number": (2, "4 none"),
        "not an action unit": (2, "AU4 2"),
        "a unit twice": (3, "4 2"),
    },
}


# Kind -> files and folders beside the right ones that are called as nothing of the corpus is.
STRANGERS = {
    "disfa": [f"Images/{name}" for name in ("S001", "SN0011", "LeftVideoSN001_comp_left", "Left")]
    + [f"ActionUnit_Labels/SN001/{name}.txt" for name in ("SN001_au7", "SN002_au1", "SN001_AU1", "notes")],
    "disfaplus": ["Labels/SN001 2"]
    + [f"Labels/SN001/A1_AU1_TrailNo_1/{name}.txt" for name in ("AU7", "au1", "notes")],
    "bp4d": [f"AUCoding/{name}.csv" for name in ("F001", "X001_T1", "F001_T9", "2F01_01")]
    + ["AU-INT/AU12/F001_T1_AU06.csv"],
    "afew_va": ["001/002.json"],
    "ckplus": [
        f"Emotion/S005/001/{name}.txt"
        for name in ("S005_001_00000004_facs", "S005_002_00000004_emotion", "S005_001_00000000_emotion", "3")
    ],
}
# Kind, two files or folders that are both of one thing, and of what.
CODES = "AU-Intensity-Codes3.0"
UNIT, EMOTION = "ActionUnit_Labels/SN001/SN001_au", "Emotion/S005/001/S005_001_0000000"
RIVALS = [
    ("disfa", f"{UNIT}1.txt", f"{UNIT}01.txt", "AU1 of SN001"),
    ("disfa", "Images/LeftVideoSN001", "Images/LeftVideoSN001_comp", "the clip SN001_left"),
    ("bp4d", "AU-INT/AU06/F001_T1_AU06.csv", f"{CODES}/AU06/F001_T1_AU06.csv", "AU06 of F001_T1"),
    ("afew_va", "001/001.json", "AFEW-VA_02/001/001.json", "the clip 001"),
    ("ckplus", f"{EMOTION}3_emotion.txt", f"{EMOTION}4_emotion.txt", "the sequence S005_001"),
]


def load(kind, root, **options):
    return corpora.load(kind, root, "abaw2", **options)


def refusal(kind, root, **options):
    with pytest.raises(CorpusError) as caught:
        load(kind, root, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def thing(path):
    """Makes a file that is read before its name could be seen to be wrong, or a folder with such a file."""
    if not path.exists():
        put(path if path.suffix else path / "trial/AU1.txt", "1,0\n")
    return path


def labels(corpus):
    return [
        [array.tolist() for array in (c.labels.valence, c.labels.arousal, c.labels.expression, c.labels.au)]
        for c in corpus.clips
    ]


@pytest.mark.parametrize(
    ("kind", "defect"), [(kind, defect) for kind, defects in DEFECTS.items() for defect in defects]
)
def test_a_malformed_line_is_refused_by_file_and_line(tmp_path, kind, defect):
    line, text = DEFECTS[kind][defect]
    path = MAKERS[kind](tmp_path)
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    message = refusal(kind, tmp_path)
    assert re.search(rf"{re.escape(str(path))}, line {line}\b", message), message
    assert "expected" in message


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in STRANGERS.items() for name in names]
)
def test_a_file_or_folder_that_is_called_otherwise_is_refused_by_its_path(tmp_path, kind, name):
    MAKERS[kind](tmp_path)
    path = thing(tmp_path / name)
    message = refusal(kind, tmp_path, **({"au_threshold": 2} if name.startswith("AU-INT") else {}))
    assert message.startswith(f"{path}: no ")
    assert "expected" in message


@pytest.mark.parametrize(("kind", "one", "other", "both"), RIVALS)
def test_two_files_or_folders_of_one_thing_are_refused_by_both_paths(tmp_path, kind, one, other, both):
    MAKERS[kind](tmp_path)
    paths = thing(tmp_path / one), thing(tmp_path / other)
    message = refusal(kind, tmp_path, **({"au_threshold": 2} if kind == "bp4d" else {}))
    for part in (*map(str, paths), f"are both of {both}: keep one"):
        assert part in message


@ALL
@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data + b"\n\n  \r\n",
        lambda data: data.rstrip(),
    ],
    ids=["byte order mark", "windows line ends", "blank lines at the end", "no line end at the end"],
)
def test_what_editors_do_to_a_file_changes_no_label(tmp_path, kind, change):
    path = MAKERS[kind](tmp_path)
    before = labels(load(kind, tmp_path))
    path.write_bytes(change(path.read_bytes()))
    np.testing.assert_equal(labels(load(kind, tmp_path)), before)


@ALL
@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe\x00\x01"], ids=["empty", "blank", "binary"])
def test_an_empty_or_binary_file_is_refused_by_name(tmp_path, kind, content):
    path = MAKERS[kind](tmp_path)
    path.write_bytes(content)
    assert str(path) in refusal(kind, tmp_path)


@ALL
def test_a_clip_has_a_split_and_a_subject(tmp_path, kind):
    MAKERS[kind](tmp_path)
    corpus = load(kind, tmp_path)
    (clip,) = corpus.clips
    assert (corpus.name, corpus.edition, clip.split) == (kind, "", "train")
    assert clip.subject
    assert not clip.static


@ALL
@pytest.mark.parametrize("place", CROPPED)
def test_crops_stand_in_for_the_pictures_of_the_release(tmp_path, kind, place):
    MAKERS[kind](tmp_path)
    before = labels(load(kind, tmp_path))
    pictures(tmp_path / place / CROPS[kind], ["00001.jpg", "00004.jpg"])
    corpus = load(kind, tmp_path)
    (clip,) = corpus.clips
    assert isinstance(clip.frames, CropFrames)
    folder = tmp_path / place / CROPS[kind]
    assert list(clip.frames) == [folder / "00001.jpg", None, None, folder / "00004.jpg"]
    np.testing.assert_equal(labels(corpus), before)


@ALL
def test_the_pictures_of_the_release_are_frames_by_their_number(tmp_path, kind):
    MAKERS[kind](tmp_path)
    folder = tmp_path / OWN[kind]
    images = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    images[1].unlink()
    corpus = load(kind, tmp_path)
    assert list(corpus.clips[0].frames) == [images[0], None, images[2], images[3]]
    assert ("1 frames have a label and no picture" in corpus.notes) == (kind != "ckplus")


@ALL
def test_two_pictures_of_one_frame_are_refused(tmp_path, kind):
    MAKERS[kind](tmp_path)
    folder = tmp_path / OWN[kind]
    first = min(path for path in folder.iterdir() if path.suffix != ".json")
    shutil.copy(first, folder / f"{first.stem}.{'jpg' if first.suffix == '.png' else 'png'}")
    assert "keep one picture" in refusal(kind, tmp_path)


@ALL
def test_other_files_among_the_pictures_are_noted_not_read(tmp_path, kind):
    MAKERS[kind](tmp_path)
    pictures(tmp_path / OWN[kind], [".DS_Store", "Thumbs.db", "left.bmp"])
    notes = load(kind, tmp_path).notes
    assert "2 files among the pictures are no pictures and were not read" in notes


@ALL
def test_an_annotated_clip_without_pictures_is_refused_by_name(tmp_path, kind):
    path = MAKERS[kind](tmp_path)
    for picture in (tmp_path / OWN[kind]).iterdir():
        if picture != path:
            picture.unlink()
    assert f"{OWN[kind]} holds no picture" in refusal(kind, tmp_path)
    pictures(tmp_path / "cropped_aligned", [".keep"])
    message = refusal(kind, tmp_path)
    assert str(tmp_path / "cropped_aligned") in message
    assert "take" in message


@ALL
def test_a_folder_that_is_none_of_the_corpus_says_what_was_found_and_expected(tmp_path, kind):
    pictures(tmp_path, ["photo.jpg"])
    message = refusal(kind, tmp_path)
    for part in (str(tmp_path), "photo.jpg", "expected", "corpus.root"):
        assert part in message
    assert "found no folder" in refusal(kind, tmp_path / "nowhere")


@ALL
def test_pictures_without_annotation_are_noted_not_read(tmp_path, kind):
    MAKERS[kind](tmp_path)
    stranger = {"disfa": "SN002"}.get(kind, "stranger")
    for name in (CROPS[kind], stranger):
        pictures(tmp_path / "cropped" / name, ["00001.jpg"])
    corpus = load(kind, tmp_path)
    assert [clip.id for clip in corpus.clips] == [corpus.clips[0].id]
    assert f"1 folders of pictures have no annotation and were not read: {stranger}" in corpus.notes


@ALL
def test_a_video_that_was_cropped_keeps_its_rate_length_and_detector(tmp_path, kind):
    MAKERS[kind](tmp_path)
    name = CROPS[kind]
    pictures(tmp_path / "cropped_aligned" / name, ["00001.jpg"])
    detector = {"name": "haar", "model_sha256": "m"}
    record = {
        "format": "facets-crops",
        "version": 1,
        "complete": True,
        "video": {"sha256": "v"},
        "frames": 9,
        "fps": 12.5,
        "time_stamps": {},
        "damaged_frames": [],
        "clips": [{"id": name, "sha256": "c", "interpolated": []}],
        "maker": {"detector": detector},
        "maker_sha256": "k",
    }
    path = tmp_path / "crops" / f"{name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(record))
    (clip,) = load(kind, tmp_path).clips
    assert (len(clip.frames), clip.fps, clip.origin["detector"]) == (9, 12.5, "haar")
    path.write_text(json.dumps(record | {"frames": 1}))
    assert "beyond the end" in refusal(kind, tmp_path)


@pytest.mark.parametrize("kind", ["disfa", "disfaplus", "ckplus", "bp4d"])
@pytest.mark.parametrize("threshold", [0, 6, 2.5, True, "2"])
def test_a_threshold_that_is_no_intensity_is_refused(tmp_path, kind, threshold):
    MAKERS[kind](tmp_path)
    with pytest.raises(ConfigError, match="au_threshold"):
        load(kind, tmp_path, au_threshold=threshold)


def test_the_clips_of_one_subject_name_it_alike(tmp_path):
    for subject in range(1, 9):
        for sequence in (1, 2):
            ckplus(tmp_path, sequence=f"S{subject:03d}_{sequence:03d}")
    named = [clip.subject for clip in load("ckplus", tmp_path).clips]
    assert sorted(named) == sorted(2 * [f"S{subject:03d}" for subject in range(1, 9)])


def test_the_people_that_disfa_and_disfaplus_share_have_the_same_names(tmp_path):
    disfa(tmp_path / "disfa")
    MAKERS["disfaplus"](tmp_path / "plus")
    subjects = [
        load(kind, tmp_path / folder).clips[0].subject
        for kind, folder in (("disfa", "disfa"), ("disfaplus", "plus"))
    ]
    assert subjects == ["SN001", "SN001"]
