"""Reading, writing, opening and verifying stores beside memmap, h5py, zarr-python and tensorstore.

Not a test: whether the contenders return the same windows is checked first, how fast they are is only told.

    python benchmarks/stores.py [--frames 200000] [--quick] [--features STORE]

Prints one JSON document, ratios last. Contenders take turns in every round; ratios are medians over rounds of
the ratio within a round, so that a neighbour on the machine hits both sides. Cold: ``posix_fadvise`` has just
asked the kernel to forget every file of the contender; a hypervisor may still remember them.
First touch means a new handle: stores check the CRC of a chunk when a handle reads it for the first time.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

# This file has the name of the package that it measures, and Python looks beside a script first.
ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [
    str(ROOT),
    str(ROOT / "tests"),
    *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE),
]

import h5py  # noqa: E402
import numcodecs  # noqa: E402
import numpy as np  # noqa: E402
import zarr  # noqa: E402
from store_specs import feature_arrays, feature_spec  # noqa: E402

import stores  # noqa: E402

WINDOW, DIM = 300, 2048
ZSTD = numcodecs.Zstd(3)
TENSORSTORE = importlib.util.find_spec("tensorstore") is not None

Window = tuple[str, int, int]
Read = Callable[[str, int, int], np.ndarray]


@dataclass(frozen=True)
class Contender:
    """One way to keep clips: where its files are below a regime's folder, and how they are opened."""

    name: str
    folder: str
    open: Callable[[Path], Read]
    write: Callable[[Path, str, np.ndarray], None] | None = None


def memmap(folder: Path) -> Read:
    """Opens the ``.npy`` files of clips as the fastest plain way to keep arrays."""
    maps = {path.stem: np.load(path, mmap_mode="r") for path in folder.iterdir()}
    return lambda clip, start, stop: np.array(maps[clip][start:stop])


def facets(folder: Path, *, mapped: bool = False) -> Read:
    """Opens a store."""
    store = stores.open(folder, mapped=mapped)
    return lambda clip, start, stop: store.read(clip, "features", start, stop)


def h5py_default(folder: Path) -> Read:
    """Opens HDF5 files with h5py's default settings."""
    files = {path.stem: h5py.File(path, "r")["features"] for path in folder.glob("*.h5")}
    return lambda clip, start, stop: files[clip][start:stop]


def zarr_python(folder: Path) -> Read:
    """Opens Zarr groups with zarr-python."""
    groups = {path.stem: zarr.open_group(path, mode="r")["features"] for path in folder.glob("*.zarr")}
    return lambda clip, start, stop: groups[clip][start:stop]


def tensorstore(folder: Path) -> Read:
    """Opens Zarr groups with tensorstore."""
    import tensorstore as ts

    def opened(path: Path) -> Any:
        place = {"driver": "file", "path": str(path / "features")}
        return ts.open({"driver": "zarr3", "kvstore": place}, read=True).result()

    groups = {path.stem: opened(path) for path in folder.glob("*.zarr")}
    return lambda clip, start, stop: groups[clip][start:stop].read().result()


def write_npy(folder: Path, clip: str, features: np.ndarray) -> None:
    """Writes a clip as ``.npy``."""
    np.save(folder / f"{clip}.npy", features)


def write_h5py_default(folder: Path, clip: str, features: np.ndarray) -> None:
    """Writes a clip with the chunks that h5py chooses, as it does for a growing axis."""
    with h5py.File(folder / f"{clip}.h5", "w") as file:
        file.create_dataset("features", data=features, chunks=True)


def write_zarr_default(folder: Path, clip: str, features: np.ndarray) -> None:
    """Writes a clip with the chunks and the codec that zarr-python chooses."""
    zarr.create_group(folder / f"{clip}.zarr").create_array("features", data=features)


def write_store(backend: stores.BackendName) -> Callable[[Path, str, np.ndarray], None]:
    """Returns a writer of clips into a store."""
    return lambda folder, clip, features: put(
        stores.create(folder, feature_spec(DIM), backend), clip, features
    )


def put(store: stores.Store, clip: str, features: np.ndarray) -> None:
    """Writes a clip of valid frames into a store."""
    frames = len(features)
    frame, valid = np.arange(frames, dtype=np.int32), np.ones(frames, bool)
    store.write(clip, {"features": features, "frame": frame, "valid": valid})


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("np.memmap", "npy", memmap, write_npy),
        Contender("facets hdf5", "facets-hdf5", facets, write_store("hdf5")),
        Contender("facets zarr", "facets-zarr", facets, write_store("zarr")),
        Contender("facets hdf5, mapped", "facets-hdf5", partial(facets, mapped=True)),
        Contender("facets zarr, mapped", "facets-zarr", partial(facets, mapped=True)),
        Contender("h5py, our clips", "facets-hdf5/clips", h5py_default),
        Contender("h5py, its default chunks", "h5py-default", h5py_default, write_h5py_default),
        Contender("zarr-python, our clips", "facets-zarr/clips", zarr_python),
        Contender("zarr-python, its defaults", "zarr-default", zarr_python, write_zarr_default),
        *([Contender("tensorstore, our clips", "facets-zarr/clips", tensorstore)] if TENSORSTORE else []),
    )
}
BASELINE, OURS = "np.memmap", ("facets hdf5", "facets zarr")


def told(text: str) -> None:
    """Says on stderr what is being measured; stdout is for the document alone."""
    print(text, file=sys.stderr, flush=True)


def made(folder: Path, lengths: Sequence[int]) -> dict[str, int]:
    """Writes the same clips for every contender; returns clip to frames."""
    random = np.random.default_rng(0)
    clips = {}
    for number, frames in enumerate(lengths):
        clip = f"clip{number}"
        clips[clip] = frames
        # Rectified and smooth over time, as pooled features are; so that a default codec has a fair chance.
        drawn = random.standard_normal((-(-frames // 8), DIM), dtype=np.float32)
        features = np.repeat(np.maximum(drawn, 0), 8, axis=0)[:frames]
        features += features * random.standard_normal((frames, 1), dtype=np.float32) / 8
        values = np.abs(features).astype(np.float16)
        for contender in CONTENDERS.values():
            if contender.write is not None:
                place = folder / contender.folder
                place.mkdir(parents=True, exist_ok=True)
                contender.write(place, clip, values)
    for path in files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not on disk cannot be forgotten
    return clips


def files(folder: Path) -> Iterator[Path]:
    """Yields every file below ``folder``."""
    yield from (path for path in folder.rglob("*") if path.is_file())


def forget(folder: Path) -> None:
    """Asks the kernel to drop every file below ``folder`` from the page cache."""
    for path in files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def drawn(clips: dict[str, int], count: int, seed: int) -> list[Window]:
    """Returns random windows, clips weighted by their length."""
    random = np.random.default_rng(seed)
    names, lengths = list(clips), np.array(list(clips.values()), float)
    chosen = random.choice(len(names), count, p=lengths / lengths.sum())
    starts = [int(random.integers(0, clips[names[i]] - WINDOW + 1)) for i in chosen]
    return [(names[i], start, start + WINDOW) for i, start in zip(chosen, starts, strict=True)]


def timed(read: Read, windows: Sequence[Window]) -> list[float]:
    """Returns the seconds that each window took."""
    seconds = []
    for clip, start, stop in windows:
        begin = time.perf_counter()
        read(clip, start, stop)
        seconds.append(time.perf_counter() - begin)
    return seconds


def require_parity(folder: Path, windows: Sequence[Window]) -> None:
    """Ends the program if two contenders return different windows."""
    readers = {name: contender.open(folder / contender.folder) for name, contender in CONTENDERS.items()}
    for clip, start, stop in windows:
        expected = readers[BASELINE](clip, start, stop)
        for name, read in readers.items():
            found = read(clip, start, stop)
            if found.dtype != expected.dtype or not np.array_equal(found, expected):
                sys.exit(f"{name} returns something else than {BASELINE} for {clip} {start}:{stop}")


def interleaved(
    names: Sequence[str], rounds: int, measure: Callable[[str, int], list[float]]
) -> dict[str, list[list[float]]]:
    """Measures every name in every round, beginning with another one each time."""
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            found[name].append(measure(name, number))
    return found


def summary(
    found: dict[str, list[list[float]]], nbytes: int, baseline: str = BASELINE, per_call: int = 1
) -> dict[str, Any]:
    """Returns median time of a window, throughput, and the speed relative to ``baseline``, round by round.

    Args:
        found: contender to rounds, to the seconds of every timed call.
        nbytes: read or written per round.
        baseline: the contender that the others are compared with.
        per_call: windows (or whatever is counted) per timed call.
    """
    totals = {name: [sum(seconds) for seconds in rounds] for name, rounds in found.items()}
    middles = {name: [statistics.median(seconds) for seconds in rounds] for name, rounds in found.items()}
    return {
        name: {
            "p50_ms": 1e3 * statistics.median(second for seconds in rounds for second in seconds) / per_call,
            "GB_per_s": nbytes / 1e9 / statistics.median(totals[name]),
            f"speed_of_{baseline}": relative(totals[baseline], totals[name]),
            f"p50_speed_of_{baseline}": relative(middles[baseline], middles[name]),
        }
        for name, rounds in found.items()
    }


def relative(reference: Sequence[float], seconds: Sequence[float]) -> float:
    """Returns how many times faster than the reference, as the median over rounds."""
    return statistics.median(a / b for a, b in zip(reference, seconds, strict=True))


def random_windows(folder: Path, clips: dict[str, int], rounds: int, count: int) -> dict[str, Any]:
    """Measures random windows in one process: steady, first touch of a new handle, cold."""
    nbytes = count * WINDOW * DIM * 2
    names = list(CONTENDERS)
    open_one = {name: lambda c=c: c.open(folder / c.folder) for name, c in CONTENDERS.items()}
    results: dict[str, Any] = {}
    readers = {name: open_one[name]() for name in names}
    for read in readers.values():
        for clip, frames in clips.items():
            for start in range(0, frames, 4096):
                read(clip, start, min(start + 4096, frames))
    told("  windows, warm, steady")
    steady = interleaved(names, rounds, lambda name, r: timed(readers[name], drawn(clips, count, r)))
    results["warm steady"] = summary(steady, nbytes)
    readers.clear()
    del read  # a file that is still mapped cannot be forgotten
    told("  windows, warm, first touch")
    first = interleaved(names, rounds, lambda name, r: timed(open_one[name](), drawn(clips, count, r)))
    results["warm first touch"] = summary(first, nbytes)

    def cold(name: str, number: int) -> list[float]:
        forget(folder / CONTENDERS[name].folder)
        return timed(open_one[name](), drawn(clips, count, number))

    told("  windows, cold")
    results["cold first touch"] = summary(interleaved(names, rounds, cold), nbytes)
    return results


def initialise(barrier: Any) -> None:
    """Prepares a worker process."""
    global BARRIER
    BARRIER = barrier


OPENED: dict[str, Read] = {}


def worker(name: str, folder: Path, clips: dict[str, int], count: int, seed: int, fresh: bool) -> list[float]:  # noqa: FBT001
    """Reads windows in a worker process, beginning at the same time as the other one."""
    if fresh or name not in OPENED:
        OPENED[name] = CONTENDERS[name].open(folder / CONTENDERS[name].folder)
        if not fresh:  # steady: nothing is read for the first time
            for clip, frames in clips.items():
                for start in range(0, frames, 4096):
                    OPENED[name](clip, start, min(start + 4096, frames))
    windows = drawn(clips, count, seed)
    BARRIER.wait(120)
    begin = time.perf_counter()
    timed(OPENED[name], windows)
    seconds = time.perf_counter() - begin
    if fresh:
        del OPENED[name]  # a mapped file cannot be forgotten
    return [seconds]


def both(
    pool: ProcessPoolExecutor,
    folder: Path,
    clips: dict[str, int],
    count: int,
    fresh: bool,  # noqa: FBT001
    name: str,
    number: int,
) -> list[float]:
    """Returns the seconds until two processes have read their windows."""
    if fresh:
        forget(folder / CONTENDERS[name].folder)
    seeds = (2 * number, 2 * number + 1)
    jobs = [pool.submit(worker, name, folder, clips, count, seed, fresh) for seed in seeds]
    return [max(job.result()[0] for job in jobs)]


def two_processes(folder: Path, clips: dict[str, int], rounds: int, count: int) -> dict[str, Any]:
    """Measures random windows in two processes at once: steady and cold."""
    context = multiprocessing.get_context("spawn")
    results: dict[str, Any] = {}
    for label, fresh in (("warm steady", False), ("cold first touch", True)):
        told(f"  windows, two processes, {label}")
        # New processes each time: what an old one has mapped cannot be forgotten.
        with ProcessPoolExecutor(2, context, initialise, (context.Barrier(2),)) as pool:
            one = partial(both, pool, folder, clips, count, fresh)
            found = interleaved(list(CONTENDERS), rounds, one)
        results[label] = summary(found, 2 * count * WINDOW * DIM * 2, per_call=2 * count)
    return results


def full_read(folder: Path, clips: dict[str, int], rounds: int) -> dict[str, Any]:
    """Measures reading whole clips, warm, with a new handle each time."""

    def measure(name: str, number: int) -> list[float]:
        read = CONTENDERS[name].open(folder / CONTENDERS[name].folder)
        return timed(read, [(clip, 0, frames) for clip, frames in clips.items()])

    told("  full read")
    return summary(interleaved(list(CONTENDERS), rounds, measure), sum(clips.values()) * DIM * 2)


def many_at_once(folder: Path, clips: dict[str, int], rounds: int, count: int) -> dict[str, Any]:
    """Measures ``read_many`` beside a loop of ``read``, warm and cold, with a new handle each time."""
    told("  many windows at once")

    def measure(place: Path, label: str, how: str, number: int) -> list[float]:
        if label == "cold":
            forget(place)
        store, windows = stores.open(place), drawn(clips, count, number)
        begin = time.perf_counter()
        if how == "read_many":
            store.read_many(windows)
        else:
            for clip, start, stop in windows:
                store.read(clip, "features", start, stop)
        return [time.perf_counter() - begin]

    results: dict[str, Any] = {}
    for name in OURS:
        for label in ("warm", "cold"):
            one = partial(measure, folder / CONTENDERS[name].folder, label)
            found = interleaved(["read", "read_many"], rounds, one)
            nbytes = count * WINDOW * DIM * 2
            results[f"{name}, {label}"] = summary(found, nbytes, "read", per_call=count)["read_many"]
    return results


def durable_write(folder: Path, frames: int, rounds: int) -> dict[str, Any]:
    """Measures committing a clip beside writing and syncing the same bytes."""
    arrays = feature_arrays(frames, feature_spec(DIM))
    targets = {
        f"facets {backend}": stores.create(folder / f"write-{backend}", feature_spec(DIM), backend)
        for backend in ("hdf5", "zarr")
    }
    raw = folder / "raw"

    def measure(name: str, number: int) -> list[float]:
        begin = time.perf_counter()
        if name in targets:
            targets[name].write(f"clip{number}", arrays)
        else:
            descriptor = os.open(raw, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            for array in arrays.values():
                rest = memoryview(array).cast("B")
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
            os.close(descriptor)
        seconds = time.perf_counter() - begin
        if name in targets:  # each time a new clip in an empty store
            shutil.rmtree(targets[name].path / "clips")
            (targets[name].path / "clips").mkdir()
        else:
            raw.unlink()
        return [seconds]

    told("  durable write")
    names = ["write + fsync", *targets]
    return summary(interleaved(names, rounds, measure), sum(a.nbytes for a in arrays.values()), names[0])


def opening(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Measures opening a store of many clips, in milliseconds."""
    told(f"  opening a store of {count} clips")
    store = stores.create(folder / "many", feature_spec(8))
    arrays = feature_arrays(16, store.spec)
    with mock.patch("os.fsync"):  # preparing is not measured
        for number in range(count):
            store.write(f"clip{number:05}", arrays)
    times: dict[str, list[float]] = {"open_and_clips": [], "records": [], "open_and_clips_cold": []}
    for label in (*["open_and_clips", "records"] * rounds, "open_and_clips_cold"):
        if label.endswith("cold"):
            forget(store.path)
        begin = time.perf_counter()
        opened = stores.open(store.path)
        clips = opened.clips()
        if label == "records":
            for clip in clips:
                opened.record(clip)
        times[label].append(1e3 * (time.perf_counter() - begin))
    return {"clips": count, **{f"{label}_ms": statistics.median(found) for label, found in times.items()}}


def verifying(folder: Path, clips: dict[str, int]) -> dict[str, Any]:
    """Measures verification, warm, in GB/s of values; quick reads no values, so its time counts."""
    told("  verification")
    results = {}
    for name in OURS:
        for depth in ("full", "sampled", "quick"):
            begin = time.perf_counter()
            result = stores.verify(folder / CONTENDERS[name].folder, depth=depth)
            seconds = time.perf_counter() - begin
            if not result.ok:
                sys.exit(f"{name}: {result}")
            results[f"{name}, {depth}"] = {
                "ms": 1e3 * seconds,
                "GB_per_s": sum(clips.values()) * DIM * 2 / 1e9 / seconds,
            }
    return results


def unpacked(packed: list[bytes], mixer: Any, chunk: int, like: np.ndarray, start: int) -> np.ndarray:
    """Returns the window from ``start`` on, from chunks of zstd, as a reader without a library would."""
    last = min(start + WINDOW, len(like))
    parts = [ZSTD.decode(packed[i]) for i in range(start // chunk, -(-last // chunk))]
    parts = [mixer.decode(part) if mixer else part for part in parts]
    rows = np.concatenate([np.frombuffer(part, like.dtype).reshape(-1, like.shape[1]) for part in parts])
    return rows[start % chunk :][: last - start]


def compression(folder: Path, path: Path | None, rounds: int) -> dict[str, Any]:
    """Measures what codecs gain and cost on real features, in chunks as stores have them."""
    told("  compression")
    if path is None:
        return {"skipped": "no features: make some by `make features`, or name a store by --features"}
    store = stores.open(path)
    taken = [store.read(clip) for clip in store.clips()[:64]]
    features = np.concatenate(taken)[:16_384]
    chunk = 1 << ((512 * 2**10 // features[0].nbytes).bit_length() - 1)
    features = features[: max(1, len(features) // chunk) * chunk]  # whole chunks: padding is not compression
    frames, dim = features.shape
    size = features.nbytes
    mixer = numcodecs.Shuffle(features.itemsize)
    readers: dict[str, Callable[[int], object]] = {}
    ratios: dict[str, float] = {}
    options: dict[str, dict[str, Any]] = {
        "raw": {},
        "gzip-4": {"compression": "gzip", "compression_opts": 4},
        "gzip-4 + shuffle": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
        "lzf": {"compression": "lzf"},
    }
    for number, (name, option) in enumerate(options.items()):
        file = h5py.File(folder / f"codec{number}.h5", "w", rdcc_nbytes=0)
        data = file.create_dataset("features", data=features, chunks=(min(chunk, frames), dim), **option)
        file.flush()
        ratios[name] = size / data.id.get_storage_size()
        readers[name] = lambda start, data=data: data[start : start + WINDOW]
    for name, shuffle in (("zstd-3", False), ("zstd-3 + shuffle", True)):
        pieces = [features[start : start + chunk].tobytes() for start in range(0, frames, chunk)]
        packed = [ZSTD.encode(mixer.encode(piece) if shuffle else piece) for piece in pieces]
        ratios[name] = size / sum(map(len, packed))
        readers[name] = partial(unpacked, packed, mixer if shuffle else None, chunk, features)
    highest = max(1, frames - WINDOW)

    def measure(name: str, number: int) -> list[float]:
        starts = np.random.default_rng(number).integers(0, highest, 10)
        return timed(lambda _, start, __: readers[name](start), [("", int(start), 0) for start in starts])

    found = summary(interleaved(list(readers), rounds, measure), 10 * WINDOW * dim * features.itemsize, "raw")
    return {
        "features": store.spec.stream,
        "frames": frames,
        "dim": dim,
        "zero_share": float((features == 0).mean()),
        "codecs": {name: {"ratio": ratios[name], **measured} for name, measured in found.items()},
    }


def machine(folder: Path) -> dict[str, Any]:
    """Returns what the figures depend on."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    system = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=False
    )
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "h5py", "zarr", "numcodecs")}
    return {
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "memory_GB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "file_system": system.stdout.strip(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions,
        "hdf5": h5py.version.hdf5_version,
        "tensorstore": importlib.metadata.version("tensorstore") if TENSORSTORE else "not installed",
        "cold": "posix_fadvise(DONTNEED) per file before every cold round; /proc/sys/vm/drop_caches "
        f"{'can' if os.access('/proc/sys/vm/drop_caches', os.W_OK) else 'cannot'} be written here, not used: "
        "it would empty the whole machine",
    }


def some_features() -> Path | None:
    """Returns the feature store of the demo, else that of the smoke test, else nothing."""
    found = [path for name in ("demo", "smoke") for path in Path("work", name, "features").glob("*")]
    return next((path for path in found if (path / "store.json").exists()), None)


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """Returns the figures that the targets are about."""
    found = {}
    for regime in ("small clips", "large clip"):
        measured = results[regime]
        sections = {
            **measured["random windows"],
            **{f"2 processes {k}": v for k, v in measured["two processes"].items()},
            "full read": measured["full read"],
        }
        for label, section in sections.items():
            for name in (name for name in section if name.startswith("facets")):
                found[f"{regime}, {label}: {name} / {BASELINE}"] = section[name][f"speed_of_{BASELINE}"]
                if label in measured["random windows"]:
                    p50 = section[name][f"p50_speed_of_{BASELINE}"]
                    found[f"{regime}, {label}, p50: {name} / {BASELINE}"] = p50
                if label == "warm steady":
                    first = sections["warm first touch"][name]["GB_per_s"]
                    found[f"{regime}: {name}, first touch / steady"] = first / section[name]["GB_per_s"]
            if not {"facets zarr", "zarr-python, its defaults"} <= section.keys():
                continue
            ours, default = section["facets zarr"], section["zarr-python, its defaults"]
            speed = f"speed_of_{BASELINE}"
            found[f"{regime}, {label}: facets zarr / zarr-python, its defaults"] = (
                ours[speed] / default[speed]
            )
        for label, read_many in measured["read_many"].items():
            found[f"{regime}, first touch: read_many / read, {label}"] = read_many["speed_of_read"]
    for name in OURS:
        found[f"durable write: {name} / write + fsync"] = results["durable write"][name][
            "speed_of_write + fsync"
        ]
    return {name: round(value, 3) for name, value in found.items()}


def rounded(value: Any) -> Any:
    """Returns ``value`` with its floats cut to four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=40_000, help="of the one large clip (40000)")
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement (5)")
    parser.add_argument("--windows", type=int, default=30, help="per round and contender (30)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these contenders beside np.memmap")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean little")
    parser.add_argument(
        "--features", type=Path, help="feature store for compression (the demo's, else smoke's)"
    )
    parser.add_argument("--folder", type=Path, help="where to write temporarily, on the disk to be measured")
    chosen = parser.parse_args()
    for contender in [*CONTENDERS] if chosen.only else []:
        if contender not in (BASELINE, *chosen.only):
            del CONTENDERS[contender]
    rounds, count, large, many = chosen.rounds, chosen.windows, chosen.frames, 2000
    small, written = [8000] * 6, 8000
    if chosen.quick:
        rounds, count, large, many, small, written = 3, 10, 4000, 200, [1000] * 2, 1000
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="facets-bench-", dir=chosen.folder) as name:
        place = Path(name)
        results: dict[str, Any] = {"machine": machine(place)}
        for regime, lengths in (("small clips", small), ("large clip", [large])):
            folder = place / regime.replace(" ", "-")
            told(f"{regime}: {len(lengths)} x {lengths[0]} frames x {DIM} float16")
            clips = made(folder, lengths)
            require_parity(folder, drawn(clips, 10, 0))
            results[regime] = {
                "clips": len(lengths),
                "frames_per_clip": lengths[0],
                "random windows": random_windows(folder, clips, rounds, count),
                "two processes": two_processes(folder, clips, rounds, count),
                "full read": full_read(folder, clips, min(rounds, 3)),
                "read_many": many_at_once(folder, clips, rounds, count),
                "verify": verifying(folder, clips),
            }
            shutil.rmtree(folder)
        told("the rest")
        results["durable write"] = durable_write(place, written, max(rounds, 15))
        results["opening"] = opening(place, many, rounds)
        results["compression"] = compression(place, chosen.features or some_features(), rounds)
    results["seconds"] = time.perf_counter() - begin
    results["ratios"] = ratios(results)
    print(json.dumps(rounded(results), indent=1))


if __name__ == "__main__":
    main()
