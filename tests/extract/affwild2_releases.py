"""Draws whole Aff-Wild2 trees in the layout of any edition, with every wart of the releases, and their truth.

All of these must be read; ``affwild2_tree`` makes those with a defect in a chosen place.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stores.editions import edition as edition_named

NAMES = ("video1", "video45_1", "122-60-1920x1080-5", "6-30-1920x1080_left", "6-30-1920x1080_right", "7-60-1")
CHALLENGES = ("abaw1", "abaw2", "abaw3", "abaw5", "abaw6", "abaw8", "abaw10")
MULTITASK = ("abaw3", "abaw4", "abaw7", "abaw11")
PLACES = {
    "abaw1": ["annotations"],
    "abaw2": ["annotations"],
    "abaw3": ["Third ABAW Annotations", "annotations", "."],
    "abaw5": [".", "annotations"],
    "abaw6": ["6th_ABAW_Annotations", "annotations", "."],
    "abaw8": ["8th_ABAW_Annotations", "annotations", "."],
    "abaw10": ["10th_ABAW_Annotations", "annotations", "."],
}
MULTITASK_PLACES = {
    "abaw3": ["Third ABAW Annotations/MTL_Challenge"],
    "abaw4": ["."],
    "abaw7": ["MTL"],
    "abaw11": ["MTL"],
}
MULTITASK_FILES = {
    "train": ("training_set_annotations.txt", "train_set.txt"),
    "validation": ("validation_set_annotations.txt", "validation_set.txt"),
}
MULTITASK_LISTS = {
    "abaw3": "Multi_Task_Learning_Challenge_test_set_release.txt",
    "abaw4": "MTL_Challenge_test_set_release.txt",
    "abaw7": "test_set_examples/MTL.txt",
    "abaw11": "MTL_Challenge_test_set_release.txt",
}
MULTITASK_HEADER = "image,valence,arousal,expression,aus"


@dataclass
class Truth:
    """What a reader must say of one clip."""

    split: str
    crops: set[int] = field(default_factory=set)  # 0-based
    rows: dict[str, np.ndarray] = field(default_factory=dict)  # task -> (rows, columns), NaN = unknown


def task_folder(rng, edition, task):
    if edition in ("abaw1", "abaw2"):
        return f"{task}_Set"
    return {
        "VA": "VA_Estimation_Challenge",
        "EXPR": rng.choice(["EXPR_Classification_Challenge", "EXPR_Recognition_Challenge"]),
        "AU": "AU_Detection_Challenge",
    }[task]


def header(edition, task):
    names = edition_named(edition)
    return {"VA": ("valence", "arousal"), "EXPR": names.expressions, "AU": names.aus}[task]


def draw_rows(rng, edition, task, count):
    """(count, columns) with NaN = unknown."""
    names = edition_named(edition)
    if task == "VA":
        rows = rng.integers(-1000, 1001, (count, 2)) / 1000
        rows[rng.random(count) < 0.2] = np.nan
    elif task == "EXPR":
        rows = rng.integers(0, len(names.expressions), (count, 1)).astype(float)
        rows[rng.random(count) < 0.2] = np.nan
    else:
        rows = rng.integers(0, 2, (count, len(names.aus))).astype(float)
        rows[rng.random(count) < 0.2] = np.nan
        rows[rng.random(rows.shape) < 0.02] = np.nan
    return rows


def spell(rng, task, row):
    """One row as a release may write it."""
    if task == "VA":
        if np.isnan(row).any():
            return str(rng.choice(["-5,-5", "-5.0,-5.0", "-5,0.3", "0.25,-5"]))
        return ",".join(f"{value:.3f}" if rng.random() < 0.5 else repr(float(value)) for value in row)
    return ",".join("-1" if np.isnan(value) else str(int(value)) for value in row)


def write_text(rng, path, lines):
    """Writes lines with the line ends, mark and blank lines that one release or another has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = rng.choice(["\n", "\r\n"])
    tail = rng.choice(["", end, end * 3, end + "  " + end])
    mark = b"\xef\xbb\xbf" if rng.random() < 0.3 else b""
    path.write_bytes(mark + (end.join(lines) + tail).encode())


def write_crops(root, clip, crops):
    folder = root / "cropped_aligned" / clip
    folder.mkdir(parents=True)
    for frame in crops:
        (folder / f"{frame + 1:05d}.jpg").touch()


def draw_crops(rng, frames):
    crops = set(np.flatnonzero(rng.random(frames) < 0.8).tolist())
    return crops or {0}


def header_line(rng, names):
    line = ",".join(names)
    return str(rng.choice([line, line.lower(), " " + line.replace(",", ", ") + " "]))


def draw_challenges(root: Path, edition: str, seed: int) -> dict[str, Truth]:
    """Writes a tree of challenge folders; returns what is in it."""
    rng = np.random.default_rng(seed)
    place = root / rng.choice(PLACES[edition])
    truths = {}
    train = str(rng.choice(["Train_Set", "Training_Set"]))
    for clip in NAMES:
        frames = int(rng.integers(3, 30))
        tasks = [task for task in ("VA", "EXPR", "AU") if rng.random() < 0.6]
        splits = {task: str(rng.choice(["train", "validation"])) for task in tasks}
        split = "test" if not tasks else "validation" if "validation" in splits.values() else "train"
        truth = truths[clip] = Truth(split, draw_crops(rng, frames))
        for task in tasks:
            rows = draw_rows(rng, edition, task, frames + int(rng.integers(0, 3)))
            folder = place / task_folder(rng, edition, task)
            path = folder / (train if splits[task] == "train" else "Validation_Set") / f"{clip}.txt"
            lines = [spell(rng, task, row) for row in rows]
            write_text(rng, path, [header_line(rng, header(edition, task)), *lines])
            if splits[task] == split:
                truth.rows[task] = rows
            else:
                truth.rows[task] = np.full_like(rows, np.nan)
        write_crops(root, clip, truth.crops)
    (place / task_folder(rng, edition, "AU")).mkdir(parents=True, exist_ok=True)
    (place / task_folder(rng, edition, "AU") / "Train_Set").mkdir(parents=True, exist_ok=True)
    (place / task_folder(rng, edition, "AU") / "Train_Set" / ".DS_Store.txt").touch()
    return truths


def multitask_line(rng, name, rows):
    return ",".join([name, *(spell(rng, task, rows[task]) for task in ("VA", "EXPR", "AU"))])


def draw_multitask(root: Path, edition: str, seed: int):
    """Writes a tree of multi-task files; returns its rows and crops.

    Returns:
        split -> rows (clip, frame, task -> values) in the order of the file; clip -> the crops that are
        there; and the names in the test list, in its order.
    """
    rng = np.random.default_rng(seed)
    place = root / rng.choice(MULTITASK_PLACES[edition])
    crops = {}
    frames = {}
    for clip in NAMES:
        length = int(rng.integers(5, 80))
        frames[clip] = np.flatnonzero(rng.random(length) < 0.3).tolist() or [3]
        crops[clip] = {*frames[clip], 0} - {int(rng.choice(frames[clip][:-1] or [1]))} | {frames[clip][-1]}
        crops[clip] |= set(np.flatnonzero(rng.random(length) < 0.1).tolist())
        write_crops(root, clip, crops[clip])
    files = {"train": NAMES[:3], "validation": NAMES[3:5]}
    truths = {}
    spelling = int(edition == "abaw3")
    for split, clips in files.items():
        named = [(clip, frame) for clip in clips for frame in frames[clip]]
        repeats = [named[i] for i in rng.integers(0, len(named), 3)]
        order = [named[i] for i in rng.permutation(len(named))] if rng.random() < 0.5 else named
        for repeat in repeats:  # anywhere in the file
            order.insert(int(rng.integers(0, len(order) + 1)), repeat)
        rows = [
            (clip, frame, {task: draw_rows(rng, edition, task, 1)[0] for task in ("VA", "EXPR", "AU")})
            for clip, frame in order
        ]
        truths[split] = rows
        lines = [multitask_line(rng, f"{clip}/{frame + 1:05d}.jpg", values) for clip, frame, values in rows]
        path = place / MULTITASK_FILES[split][spelling]
        write_text(rng, path, [header_line(rng, MULTITASK_HEADER.split(",")), *lines])
    listed = [f"{NAMES[5]}/{frame + 1:05d}.jpg" for frame in frames[NAMES[5]]]
    ends = {"abaw7": ","}.get(edition, "")
    write_text(rng, root / MULTITASK_LISTS[edition], [MULTITASK_HEADER, *(name + ends for name in listed)])
    return truths, crops, listed
