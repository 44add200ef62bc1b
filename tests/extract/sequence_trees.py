"""Builds small trees of the corpora of sequences by hand, one annotated clip each.

Not the formats themselves: what a tree says is written out here, in the test's words, not by a reader.
"""

import json
from pathlib import Path

AUS_12 = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
BP4D_HEADER = "F001_T1,1,2,4,6,7,10,12,14,15,17,23,24"


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def pictures(folder, names):
    for name in names:
        put(folder / name)


def disfa(root, rows=4, folder="Images/SN001"):
    pictures(root / folder, [f"{i + 1:05d}.jpg" for i in range(rows)])
    for unit in AUS_12:
        put(
            root / f"ActionUnit_Labels/SN001/SN001_au{unit}.txt",
            "".join(f"{i + 1},{i % 6}\n" for i in range(rows)),
        )
    return root / "ActionUnit_Labels/SN001/SN001_au1.txt"


def disfaplus(root, rows=4):
    trial = "SN001/A1_AU1_TrailNo_1"
    pictures(root / "Images" / trial, [f"{i:03d}.jpg" for i in range(rows)])
    for unit in AUS_12:
        put(
            root / f"Labels/{trial}/AU{unit}.txt",
            "".join(f"{i:03d}.jpg     {i % 6}\n" for i in range(rows)),
        )
    return root / f"Labels/{trial}/AU1.txt"


def bp4d(root, rows=4):
    pictures(root / "BP4D-training/F001/T1", [f"{i + 1:04d}.jpg" for i in range(rows)])
    codes = [f"{i + 1}," + ",".join(str((i + unit) % 2) for unit in range(12)) for i in range(rows)]
    return put(root / "AUCoding/F001_T1.csv", "\n".join([BP4D_HEADER, *codes, ""]))


def afew_va(root, rows=4, clip="001", **facts):
    pictures(root / clip, [f"{i:05d}.png" for i in range(rows)])
    frames = ",\n".join(
        f'"{i:05d}": {{"valence": {i}.0, "arousal": {-i}.0, "landmarks": [[1.5, 2.5]]}}' for i in range(rows)
    )
    facts = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in facts.items())
    return put(root / clip / f"{Path(clip).name}.json", f'{{{facts}"frames": {{\n{frames}\n}}}}\n')


def ckplus(root, rows=4, sequence="S005_001", emotion=3, facs=((1, 0), (4, 2), (12, 5))):
    subject, number, _ = f"{sequence}_".split("_")
    pictures(
        root / "cohn-kanade-images" / subject / number, [f"{sequence}_{i + 1:08d}.png" for i in range(rows)]
    )
    stem = f"{subject}/{number}/{sequence}_{rows:08d}"
    if emotion is not None:
        put(root / "Emotion" / f"{stem}_emotion.txt", f"   {emotion:.7e}\n")
    text = "".join(f"   {unit:.7e}   {intensity:.7e}\n" for unit, intensity in facs)
    return put(root / "FACS" / f"{stem}_facs.txt", text)


MAKERS = {"disfa": disfa, "disfaplus": disfaplus, "bp4d": bp4d, "afew_va": afew_va, "ckplus": ckplus}
"""Kind -> what writes a tree of it and returns one of its annotation files."""
