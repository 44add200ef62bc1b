"""Reading the annotations of a corpus as large as Aff-Wild2, beside pandas and NumPy reading the same files.

Not a test: whether all three read the same numbers is checked first, how fast they are is only told.

    python benchmarks/corpora.py [--rows 3000000] [--rounds 3] [--crops] [--only NAME ...]

Prints one JSON document, ratios last. The corpus is drawn: 594 clips of uneven length with all three tasks,
in the challenge folders of abaw6, and the same rows as one multi-task file of abaw7 and as one manifest in
CSV, with a path per row and classes by name. Every clip has one empty crop, or with ``--crops`` one for each
of nine frames in ten. Each reading has a process of its own, which has imported what it needs before the
clock starts. Contenders take turns in every round; ratios are medians over rounds of the ratio within a
round. Seconds are of the wall and of the processor: on a machine that does other work the latter rank.

The peers read every file of the task folders into an array, and no more: they look at no header, range,
marker, split or crop. ``pandas.read_csv`` is given the number of columns; ``np.loadtxt`` is what the reader
used before.
"""

import argparse
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import numpy as np  # noqa: E402

from extract import corpora  # noqa: E402
from stores.editions import AU_12, EXPR_8  # noqa: E402

CLIPS, LONGEST = 594, 47_419
COLUMNS = {"VA_Estimation_Challenge": 2, "EXPR_Recognition_Challenge": 1, "AU_Detection_Challenge": 12}
SINGLE, MULTITASK, MANIFEST, CROPS = "6th_ABAW_Annotations", "MTL", "manifest.csv", "cropped_aligned"
CLASSES = (*EXPR_8, "")  # the last is that of -1


def draw(root: Path, rows: int, *, crops: bool) -> None:
    """Writes the corpus."""
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0, 1, CLIPS)
    lengths = np.clip((shares / shares.sum() * rows).astype(int), 1, LONGEST)
    lengths[np.argmin(lengths)] = max(1, min(LONGEST, rows - int(lengths.sum()) + int(lengths.min())))
    va_cells = [f"{value / 1000:.3f}" for value in range(-1000, 1001)]
    au_rows = [",".join(format(bits, "012b")) for bits in range(4096)] + [",".join(["-1"] * 12)]
    multitask = root / MULTITASK / "training_set_annotations.txt"
    multitask.parent.mkdir(parents=True)
    with multitask.open("w") as whole, (root / MANIFEST).open("w") as table:
        whole.write("image,valence,arousal,expression,aus\n")
        table.write(f"path,clip,frame,split,valence,arousal,expression,{','.join(AU_12)}\n")
        for clip, length in enumerate(lengths):
            name = f"{clip}-30-1920x1080"
            v, a = ([va_cells[i] for i in rng.integers(0, 2001, length)] for _ in range(2))
            unknown = rng.random(length) < 0.1
            va = ["-5,-5" if bad else f"{x},{y}" for x, y, bad in zip(v, a, unknown, strict=True)]
            expr = [str(value) for value in rng.integers(-1, 8, length)]
            au = [au_rows[i] for i in np.where(rng.random(length) < 0.1, 4096, rng.integers(0, 4096, length))]
            split = "Validation_Set" if clip % 5 == 4 else "Train_Set"
            headers = ("valence,arousal", ",".join(EXPR_8), ",".join(AU_12))
            for folder, header, lines in zip(COLUMNS, headers, (va, expr, au), strict=True):
                path = root / SINGLE / folder / split / f"{name}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join([header, *lines, ""]))
            frames = (f"{name}/{frame:05d}.jpg" for frame in range(1, length + 1))
            whole.writelines(map("{},{},{},{}\n".format, frames, va, expr, au))
            folder = root / CROPS / name
            part = "validation" if clip % 5 == 4 else "train"
            table.writelines(
                f"{CROPS}/{name}/{frame + 1:05d}.jpg,{name},{frame},{part},{x},{CLASSES[int(c)]},{u}\n"
                for frame, (x, c, u) in enumerate(zip(va, expr, au, strict=True))
            )
            folder.mkdir(parents=True)
            present = np.flatnonzero(rng.random(length) < 0.9) + 1 if crops else ()
            for number in {*present, length}:
                (folder / f"{number:05d}.jpg").touch()


def files(root: Path) -> Iterator[tuple[str, int, Path]]:
    """Yields task folder, columns and path of every per-clip file."""
    for folder, columns in COLUMNS.items():
        for path in sorted((root / SINGLE / folder).rglob("*.txt")):
            yield folder, columns, path


def facets(root: Path) -> dict[str, np.ndarray]:
    """Reads the challenge folders as a corpus."""
    corpus = corpora.load("affwild2", root, "abaw6")
    return labels(corpus)


def facets_multitask(root: Path) -> dict[str, np.ndarray]:
    """Reads the multi-task file as a corpus."""
    return labels(corpora.load("affwild2_mtl", root, "abaw7"))


def facets_manifest(root: Path) -> dict[str, np.ndarray]:
    """Reads the manifest as a corpus."""
    return labels(corpora.load("manifest", root, "", expressions=list(EXPR_8)))


def labels(corpus: corpora.Corpus) -> dict[str, np.ndarray]:
    """Sums of the known labels of each clip, which cost nothing to compare."""
    sums = {name: [] for name in COLUMNS}
    for clip in corpus.clips:
        found = clip.labels
        sums["VA_Estimation_Challenge"].append(np.nansum(found.valence, dtype=np.float64))
        sums["EXPR_Recognition_Challenge"].append(int(found.expression.sum()))
        sums["AU_Detection_Challenge"].append(int(found.au.sum()))
    return {name: np.array(values) for name, values in sums.items()}


def sums_of(tables: Iterator[tuple[str, str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The same sums of the tables that a peer has read."""
    sums: dict[str, dict[str, float]] = {name: {} for name in COLUMNS}
    kept = []
    for folder, clip, table in tables:
        first = table[:, 0] if table.shape[1] == 2 else table
        sums[folder][clip] = (
            first[first >= -1].astype(np.float32 if table.shape[1] == 2 else int).sum(dtype=float)
        )
        kept.append(table)  # a corpus that is read is kept
    return {name: np.array([by[clip] for clip in sorted(by)]) for name, by in sums.items()}


def pandas(root: Path) -> dict[str, np.ndarray]:
    """Reads every file with ``pandas.read_csv``."""
    import pandas as pd

    return sums_of(
        (folder, path.stem, pd.read_csv(path, header=None, skiprows=1, names=range(columns)).to_numpy())
        for folder, columns, path in files(root)
    )


def loadtxt(root: Path) -> dict[str, np.ndarray]:
    """Reads every file with ``np.loadtxt``."""
    return sums_of(
        (folder, path.stem, np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2))
        for folder, columns, path in files(root)
    )


def pandas_multitask(root: Path) -> dict[str, np.ndarray]:
    """Reads the multi-task file with ``pandas.read_csv``."""
    import pandas as pd

    path = root / MULTITASK / "training_set_annotations.txt"
    table = pd.read_csv(path, header=None, skiprows=1, names=range(16))
    clips = table[0].str.slice(stop=-10)
    parts = {
        name: table.loc[:, columns]
        for name, columns in zip(COLUMNS, (slice(1, 2), slice(3, 3), slice(4, 15)), strict=True)
    }
    return sums_of(
        (folder, clip, part.to_numpy())
        for folder, part in parts.items()
        for clip, part in part.groupby(clips)
    )


def pandas_manifest(root: Path) -> dict[str, np.ndarray]:
    """Reads the manifest with ``pandas.read_csv``."""
    import pandas as pd

    table = pd.read_csv(root / MANIFEST)
    codes = table["expression"].map({name: code for code, name in enumerate(EXPR_8)}).fillna(-1)
    parts = {
        "VA_Estimation_Challenge": table[["valence", "arousal"]],
        "EXPR_Recognition_Challenge": codes.astype(int).to_frame(),
        "AU_Detection_Challenge": table[list(AU_12)],
    }
    return sums_of(
        (folder, clip, part.to_numpy())
        for folder, whole in parts.items()
        for clip, part in whole.groupby(table["clip"])
    )


CONTENDERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "facets, folders": facets,
    "pandas, folders": pandas,
    "loadtxt, folders": loadtxt,
    "facets, multi-task": facets_multitask,
    "pandas, multi-task": pandas_multitask,
    "facets, manifest": facets_manifest,
    "pandas, manifest": pandas_manifest,
}


def measure(name: str, root: Path) -> dict[str, Any]:
    """Reads once; seconds of the wall and the processor, the largest memory of the process, what was read."""
    for module in (
        ("pandas",)
        if "pandas" in name
        else (
            "extract.corpora.readers.affwild2.challenge",
            "extract.corpora.readers.affwild2.static_frames",
            "extract.corpora.readers.manifest",
        )
    ):
        importlib.import_module(module)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, processor = time.perf_counter(), time.process_time()
    found = CONTENDERS[name](root)
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - processor,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before_mb": before / 1024,
        "sums": found,
    }


def main() -> None:
    """Draws the corpus, lets the contenders take turns and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(root, options.rows, crops=options.crops)
        bytes_read = sum(path.stat().st_size for _, _, path in files(root))
        for _ in range(options.rounds):
            for name, taken in results.items():
                with context.Pool(1) as pool:
                    taken.append(pool.apply(measure, (name, root)))
    sums = [taken[0]["sums"] for taken in results.values()]
    for other in sums[1:]:
        for task in COLUMNS:
            np.testing.assert_allclose(other[task], sums[0][task], rtol=1e-5, atol=1e-3)
    keys = ("wall_s", "cpu_s", "peak_mb", "before_mb")
    figures = {
        name: {key: round(statistics.median(one[key] for one in taken), 2) for key in keys}
        for name, taken in results.items()
    }
    ratios = {}
    for name, taken in results.items():
        layout = name.partition(", ")[2]
        ours = results.get(f"facets, {layout}")
        if ours and taken is not ours:
            pairs = list(zip(taken, ours, strict=True))
            ratios[f"{name} / facets"] = {
                key: round(statistics.median(theirs[key] / own[key] for theirs, own in pairs), 2)
                for key in ("wall_s", "cpu_s")
            }
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pandas", "pyarrow")}
    print(
        json.dumps(
            {
                "rows": options.rows,
                "rounds": options.rounds,
                "crops": options.crops,
                "clips": CLIPS,
                "megabytes": round(bytes_read / 1e6, 1),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
                "versions": versions,
                "median": figures,
                "ratios": ratios,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
