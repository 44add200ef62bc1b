"""Writes small trees in the formats of image corpora, from what a test says of each image.

Crops are empty files, for no reader opens them.
"""

import numpy as np

from extract import corpora
from extract.corpora.readers import affectnet


def write(path, lines):
    """Writes text as it is, or lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(lines, bytes):
        path.write_bytes(lines)
    else:
        path.write_text("".join(f"{line}\n" for line in lines))
    return path


def touch(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def expw(root, rows):
    """``rows`` are (image, face, box as top left right bottom, confidence, label)."""
    lines = [f"{i} {f} {' '.join(map(str, box))} {c} {label}" for i, f, box, c, label in rows]
    touch(root / "faces", [f"{image.removesuffix('.jpg')}_{face}.jpg" for image, face, *_ in rows])
    return write(root / "label.lst", lines)


def rafdb(root, rows, classes="basic"):
    """``rows`` are (image, class from 1)."""
    touch(root / classes / "Image" / "aligned", [f"{name[:-4]}_aligned.jpg" for name, _ in rows])
    return write(root / classes / "EmoLabel" / "list_patition_label.txt", [f"{n} {c}" for n, c in rows])


def rafau(root, rows):
    """``rows`` are (image, units)."""
    touch(root / "aligned", [f"{name[:-4]}_aligned.jpg" for name, _ in rows])
    return write(root / "RAFAU_label.txt", [f"{name} {units}" for name, units in rows])


def rafce(root, rows):
    """``rows`` are (image, class, part, units)."""
    touch(root / "aligned", [f"{name[:-4]}_aligned.jpg" for name, *_ in rows])
    write(root / "RAFCE_emolabel.txt", [f"{name} {c}" for name, c, _, _ in rows])
    write(root / "RAFCE_partition.txt", [f"{name} {part}" for name, _, part, _ in rows])
    return write(root / "RAFCE_AUlabel.txt", [f"{name} {units}" for name, _, _, units in rows])


def affectnet_row(name, expression, valence, arousal, box=(0, 0, 10, 10)):
    return f"{name},{','.join(map(str, box))},1.5;2.5,{expression},{valence},{arousal}"


def affectnet_lists(root, training, validation, header=True):
    """Rows are (picture, expression, valence, arousal)."""
    paths = []
    for name, rows in (("training", training), ("validation", validation)):
        touch(root / "faces", [row[0].rpartition(".")[0] + ".jpg" for row in rows])
        lines = [affectnet_row(*row) for row in rows]
        top = [",".join(affectnet.COLUMNS)] if header else []
        paths.append(write(root / "Manually_Annotated_file_lists" / f"{name}.csv", top + lines))
    return paths


def affectnet_packed(folder, rows, as_text=True):
    """``rows`` are (id, expression, valence, arousal)."""
    touch(folder / "images", [f"{row[0]}.jpg" for row in rows])
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for stem, *values in rows:
        for kind, value in zip(("exp", "val", "aro"), values, strict=True):
            if value is not None:
                np.save(folder / "annotations" / f"{stem}_{kind}.npy", str(value) if as_text else value)
        np.save(folder / "annotations" / f"{stem}_lnd.npy", np.zeros(136))


def load(kind, root, **options):
    return corpora.load(kind, root, "", **options)


def by_image(corpus):
    """Name of each image that is there -> (split, valence, arousal, class, {unit: 0, 1 or -1})."""
    found = {}
    for clip in corpus.clips:
        labels = clip.labels
        for row, path in enumerate(clip.frames):
            if path is not None:
                code = int(labels.expression[row])
                found[path.name] = (
                    clip.split,
                    float(labels.valence[row]),
                    float(labels.arousal[row]),
                    None if code < 0 else corpus.expression_names[code],
                    dict(zip(corpus.au_names, labels.au[row].tolist(), strict=True)),
                )
    return found


def noted(corpus, text):
    return [note for note in corpus.notes if text in note]
