"""Reads AffectNet in both packagings: the lists of 2017 with boxes, or the folders of cropped faces of later.

Not the automatically annotated part, and not the landmarks.

Layout of 2017 (header and markers from memory of the release, as public projects use them)::

    Manually_Annotated_file_lists/{training,validation}.csv     see ``COLUMNS``; validation.csv may lack them
    Manually_Annotated_Images/<subDirectory_filePath>           the pictures
    faces/<subDirectory_filePath with .jpg>                     cut from them by ``facets cut``

Layout of the repackaged set of eight classes::

    {train_set,val_set}/images/<id>.jpg
    {train_set,val_set}/annotations/<id>_{exp,val,aro}.npy    one number each, as text or not

Classes count from 0 in the order of ``EXPRESSIONS``; 8 none, 9 uncertain and 10 no face are unknown.
Valence or arousal below -1 (the release writes -2) makes both unknown. No test split was released.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extract.corpora import notes as noting
from extract.corpora.clip import Clip, Corpus, Labels, Split
from extract.corpora.imagery import boxes, stills
from extract.corpora.imagery.boxes import CutReport, Face
from extract.corpora.imagery.stills import Group
from extract.parsing import tables
from extract.parsing.faults import found_in, some
from extract.parsing.tables import Table
from stores.errors import CorpusError
from stores.progress import Progress, silent

EXPRESSIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
"""Class 0 first, as the paper lists them. Models of other projects may have them in alphabetical order."""
NO_CLASS = ("None", "Uncertain", "No-Face")
"""Classes 8 to 10: what the annotators could not tell; their labels are unknown."""
COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
LISTS = "Manually_Annotated_file_lists"
PICTURES = "Manually_Annotated_Images"
FACES = "faces"
RELEASE = {"images of the eight classes, train": 287_651, "images of the eight classes, validation": 3_999}

_FILES: dict[Split, str] = {"train": "training.csv", "validation": "validation.csv"}
_SETS: dict[Split, str] = {"train": "train_set", "validation": "val_set"}
_BOX = ("face_x", "face_y", "face_width", "face_height")
_LABELS = ("expression", "valence", "arousal")
_KINDS = ("exp", "val", "aro")
_LAST_CLASS = len(EXPRESSIONS) + len(NO_CLASS) - 1
_EXPECTED = f"a class from 0 to {_LAST_CLASS}, and valence and arousal of at most 1"


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The N images of one split.

    Attributes:
        folder: that they are in.
        wanted: (N,) their names, as text.
        names: (N,) the same, null where there is no file.
        labels: of theirs.
        notes: what was tolerated.
    """

    folder: Path
    wanted: pa.Array
    names: pa.Array
    labels: Labels
    notes: tuple[str, ...]


def load(root: Path, edition: str, *, cropped: bool = True) -> Corpus:
    """Reads the tree under ``root``, in whichever packaging it is.

    Args:
        root: folder with ``Manually_Annotated_file_lists`` or with ``train_set`` and ``val_set``.
        edition: not looked at.
        cropped: read ``faces``; otherwise ``Manually_Annotated_Images``, whole pictures, which are stretched
            to a square when features are extracted. The repackaged set is cropped in any case.

    Raises:
        CorpusError: neither or both packagings, a folder is missing, or a row or file is not as it should be.
    """
    root = Path(root)
    listed = any(_list(root, split).is_file() for split in _FILES)
    packed = any((root / name).is_dir() for name in _SETS.values())
    if listed == packed:
        what = "two packagings" if packed else "no AffectNet"
        msg = (
            f"{what} in {root} (found {found_in(root)}): expected either {LISTS} with "
            f"{' and '.join(_FILES.values())}, or {' and '.join(_SETS.values())} with images and annotations"
        )
        raise CorpusError(msg)
    parts: dict[Split, _Part] = {}
    notes: list[str] = []
    for split in _FILES:
        path = _list(root, split) if listed else root / _SETS[split]
        if path.exists():
            parts[split] = _listed(root, path, cropped=cropped) if listed else _packed(path)
            notes += parts[split].notes
        else:
            notes.append(f"no {path.relative_to(root)}: no {split} split")
    clips: list[Clip] = []
    counts: Counter[str] = Counter()
    for split, part in parts.items():
        notes += stills.missing(part.folder, part.wanted, part.names)
        everything = Group(split, np.arange(len(part.names)))
        clips += stills.shards(part.folder, part.names, part.labels, [everything])
        counts[f"images of the eight classes, {split}"] = int((part.labels.expression >= 0).sum())
    notes += noting.differences(RELEASE, counts)
    clips.sort(key=lambda clip: clip.id)
    return Corpus("affectnet", root, "", EXPRESSIONS, (), tuple(clips), tuple(notes))


def cut_faces(root: Path, *, margin: float = 0.0, progress: Progress = silent) -> CutReport:
    """Cuts the face of every listed picture into ``root/faces``; see ``boxes.cut``.

    Raises:
        CorpusError: no list or no folder of pictures, a row is not as it should be, or faces are there that
            were cut with another margin.
    """
    root = Path(root)
    pictures = stills.folder_of(root, (PICTURES,))
    faces = [
        Face(pictures / name, box, root / FACES / _crop(name))
        for split in _FILES
        if _list(root, split).is_file()
        for name, box in _boxes(_open(_list(root, split)))
    ]
    if not faces:
        msg = f"no face is listed in {root / LISTS}: expected {' and '.join(_FILES.values())} there"
        raise CorpusError(msg)
    return boxes.cut(faces, root / FACES, margin=margin, progress=progress)


def _list(root: Path, split: Split) -> Path:
    return root / LISTS / _FILES[split]


def _crop(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".jpg"))


def _open(path: Path) -> Table:
    """Opens a list; one without a header has the columns of the release."""
    try:
        with path.open("rb") as file:
            first = file.readline(2**20).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); restore it from the release"
        raise CorpusError(msg) from error
    # The name of a picture has its folder before it, that of a column has not.
    if b"/" in first.partition(b",")[0]:
        return Table(path, COLUMNS, 1)
    rows = tables.open_table(path)
    tables.check_columns(rows, [name for name in COLUMNS if name != "facial_landmarks"])
    return rows


def _listed(root: Path, path: Path, *, cropped: bool) -> _Part:
    rows = _open(path)
    folder = root / (FACES if cropped else PICTURES)
    if not folder.is_dir():
        msg = f"no folder {folder.name} in {root} (found {found_in(root)}): "
        if cropped:
            msg += f"cut the faces by facets cut affectnet {root}, or set the option cropped: false"
        else:
            msg += "unpack the pictures there"
        raise CorpusError(msg)
    names: list[pa.Array] = []
    values: list[NDArray[np.float64]] = []
    for first, batch in rows.full_batches((COLUMNS[0], *_LABELS)):
        names.append(_names(rows, first, batch))
        part = np.stack([rows.numbers(batch, name, first) for name in _LABELS], axis=1)
        if (wrong := _wrong(part) | np.isnan(part).any(axis=1)).any():
            row = int(wrong.argmax())
            raise rows.error(first + row, _text(part[row]), _EXPECTED)
        values.append(part)
    if not names:
        msg = f"{path}: no row; expected one per picture: restore it from the release"
        raise CorpusError(msg)
    wanted = pa.concat_arrays(names)
    notes = []
    if repeated := len(wanted) - len(pc.unique(wanted)):
        notes.append(
            f"{repeated} rows of {path.name} name a picture that an earlier row names: all were read"
        )
    if rows.first_line == 1:
        notes.append(f"{path.name} has no header: its columns are taken to be those of the release")
    if unread := [name for name in rows.names if name not in COLUMNS]:
        notes.append(f"columns of {path.name} that were not read: {some(unread)}")
    if cropped:
        wanted = pc.replace_substring_regex(wanted, r"\.[^./]*$", ".jpg")
    else:
        notes.append(f"{path.name}: whole pictures are read, not the faces in them")
    labels, more = _labels(np.concatenate(values), path.name)
    return _Part(folder, wanted, stills.existing(folder, wanted), labels, (*notes, *more))


def _wrong(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which of (N, 3) class, valence and arousal hold what they cannot; NaN is nothing."""
    expression, affect = values[:, 0], values[:, 1:]
    fractional = ~np.isnan(expression) & (expression != np.floor(expression))
    wrong = fractional | (expression < 0) | (expression > _LAST_CLASS) | (affect > 1).any(axis=1)
    return np.asarray(wrong)


def _text(values: NDArray[np.float64]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _labels(values: NDArray[np.float64], of: str) -> tuple[Labels, list[str]]:
    """Returns the labels of (N, 3) class, valence and arousal, and what is to be noted of them."""
    expression, affect = values[:, 0], values[:, 1:]
    labels = Labels.unknown(len(values), 0)
    known = (expression >= 0) & (expression < len(EXPRESSIONS))
    labels.expression[known] = expression[known]
    both = (affect >= -1).all(axis=1)
    labels.valence[both], labels.arousal[both] = affect[both].T
    notes = []
    if count := int((expression >= len(EXPRESSIONS)).sum()):
        notes.append(
            f"{count} images of {of} are of no class ({', '.join(NO_CLASS)}): their expression is unknown"
        )
    if count := int((affect < -1).any(axis=1).sum()):
        notes.append(f"{count} images of {of} have an invalid valence or arousal (-2): both are unknown")
    return labels, notes


def _boxes(rows: Table) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    for first, batch in rows.full_batches((COLUMNS[0], *_BOX)):
        x, y, width, height = (rows.numbers(batch, name, first) for name in _BOX)
        edges = np.stack([x, y, x + width, y + height], axis=1)
        bad = np.isnan(edges).any(axis=1)
        if bad.any():
            raise rows.error(first + int(bad.argmax()), "", f"numbers in columns {', '.join(_BOX)}")
        yield from zip(_names(rows, first, batch).to_pylist(), map(tuple, edges.tolist()), strict=True)


def _names(rows: Table, first: int, batch: pa.RecordBatch) -> pa.Array:
    column = tables.text(batch, COLUMNS[0])
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise rows.error(first + row, "", f"the name of a picture in column {COLUMNS[0]!r}")
    return column


def _packed(folder: Path) -> _Part:
    """Reads one folder of the repackaged set, in the order of the numbers of its images."""
    annotations, pictures = folder / "annotations", folder / "images"
    for path in (annotations, pictures):
        if not path.is_dir():
            msg = (
                f"no folder {path.name} in {folder} (found {found_in(folder)}): expected it there; unpack it"
            )
            raise CorpusError(msg)
    stems = (
        entry.name[: -len("_exp.npy")] for entry in os.scandir(annotations) if entry.name.endswith("_exp.npy")
    )
    ids = sorted(stems, key=lambda stem: (len(stem), stem))
    if not ids:
        msg = (
            f"no <id>_exp.npy in {annotations} (found {found_in(annotations)}): unpack the annotations there"
        )
        raise CorpusError(msg)
    values = np.full((len(ids), len(_KINDS)), np.nan)
    absent = 0
    for row, stem in enumerate(ids):
        for column, kind in enumerate(_KINDS):
            try:
                values[row, column] = _value(annotations / f"{stem}_{kind}.npy")
            except FileNotFoundError:
                absent += 1
    if (wrong := _wrong(values)).any():
        row = int(wrong.argmax())
        msg = (
            f"{annotations / ids[row]}_{{{','.join(_KINDS)}}}.npy: found {_text(values[row])}, expected "
            f"{_EXPECTED}; restore the files from the release"
        )
        raise CorpusError(msg)
    wanted = pa.array([f"{stem}.jpg" for stem in ids], pa.large_string())
    labels, notes = _labels(values, folder.name)
    if absent:
        notes.append(f"{absent} files _val.npy or _aro.npy are not in {annotations}: both are unknown there")
    return _Part(pictures, wanted, stills.existing(pictures, wanted), labels, tuple(notes))


def _value(path: Path) -> float:
    """Returns the number in a file, which holds it as a number or, in the release, as text.

    Raises:
        FileNotFoundError: there is no such file.
        CorpusError: it holds something else; names the file.
    """
    try:
        return float(np.load(path, allow_pickle=False).item())
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, TypeError) as error:
        msg = f"{path}: expected a file with one number ({error}); restore it from the release"
        raise CorpusError(msg) from error
