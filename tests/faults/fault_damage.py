"""Damages files of a store in one of many ways, drawn by a seed, and says what a reader then sees.

Not a search for attacks: hostile files made on purpose have tests of their own. A mutation is replayed by its
seed.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path

import fault_children
import numpy as np
from fault_children import Raised
from fault_subjects import SUBJECTS, Ours, make_clips
from fault_workloads import same, silent
from store_specs import LABEL_ATTRS, label_arrays, label_spec

import stores
from stores.digest import Array
from stores.errors import StoreError

# "long" has three chunks; "a" and "b" have equal sizes, so that their files can be exchanged.
CLIPS = make_clips({"a": 24, "b": 24, "long": 300}, dim=2048, seed=3)
LABELS = {clip: label_arrays(frames, label_spec(), frames) for clip, frames in (("a", 64), ("long", 90))}
LABELS["b"] = label_arrays(64, label_spec(), 7)
MEMORY = 2**30
TIMEOUT = 10
CHUNK_ROWS = 128

FEATURES, LABEL_STORE = "features", "labels"


@dataclass(frozen=True, slots=True)
class Seen:
    """What mutations came to; all but ``mutations``, ``refused`` and ``exact`` must never happen.

    Attributes:
        mutations: how many.
        refused: the reader raised an error that its subject may raise, or saw no such clip.
        exact: the reader saw what was written.
        wrong: the reader saw other values, without an error.
        crashes: the reader ended by a signal.
        hangs: the reader did not end.
        unclean: the reader raised an error that its subject may not raise.
        notes: what happened, one line each.
    """

    mutations: int = 0
    refused: int = 0
    exact: int = 0
    wrong: int = 0
    crashes: int = 0
    hangs: int = 0
    unclean: int = 0
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def faults(self) -> int:
        return self.wrong + self.crashes + self.hangs + self.unclean


def campaign(pool: Executor, subject: str, kind: str, seeds: Sequence[int], scratch: Path) -> Seen:
    """Tries one mutation per seed on a store of features or, for our backends, of labels."""
    blocks = [seeds[start : start + 20] for start in range(0, len(seeds), 20)]
    total = Seen()
    for seen in pool.map(partial(_try_all, subject, kind, scratch=scratch), blocks):
        total += seen
    return total


def try_mutation(subject: str, kind: str, seed: int, scratch: Path) -> Seen:
    """Damages a store by the mutation that ``seed`` draws, and reads all of it in a child."""
    store = _base(subject, kind, scratch)
    with _damaged(store, random.Random(f"{subject} {kind} {seed}"), scratch) as what:
        ended = fault_children.run(partial(_read, subject, kind, store), timeout=TIMEOUT, memory=MEMORY)
    where = f"{subject} {kind}, mutation {seed} ({what})"
    if ended.hung:
        return Seen(1, hangs=1, notes=(f"{where}: hangs",))
    if ended.signal is not None:
        return Seen(1, crashes=1, notes=(f"{where}: ended by signal {ended.signal}",))
    if isinstance(ended.answer, Raised):
        return Seen(1, unclean=1, notes=(f"{where}: {ended.answer.text.strip().splitlines()[-1]}",))
    if ended.answer is None:
        return Seen(1, unclean=1, notes=(f"{where}: exit code {ended.code}",))
    refused, wrong = ended.answer
    if wrong:
        return Seen(1, wrong=1, notes=(f"{where}: wrong without an error: {wrong}",))
    return Seen(1, refused=1) if refused else Seen(1, exact=1)


def undetected_flips(subject: str, share: float, scratch: Path) -> tuple[int, list[str]]:
    """Flips single bits of the array data of a tiny clip, one at a time, and has each verified in full.

    Args:
        subject: one of ours.
        share: of the bits to flip, drawn; 1 for every one.
        scratch: folder to work in.

    Returns:
        The number of bits flipped, and which of them verification did not find or a read returned wrongly.
    """
    ours = SUBJECTS[subject]
    folder = Path(tempfile.mkdtemp(prefix="flips-", dir=scratch))
    ours.write(folder / "store", make_clips({"tiny": 5}, dim=6, seed=4), silent)
    store = stores.open(folder / "store")
    # By another object: HDF5 would go on with the handle of one that is still open, not with the file.
    written = {name: stores.open(store.path).read("tiny", name) for name in store.record("tiny").arrays}
    draw = random.Random(5)
    flipped, undetected = 0, []
    for name, array in written.items():
        file, start = _find(store.data_path("tiny"), array.tobytes(), name)
        data = bytearray(file.read_bytes())
        for bit in range(8 * array.nbytes):
            if draw.random() >= share:
                continue
            byte, mask = start + bit // 8, 1 << bit % 8
            data[byte] ^= mask
            file.write_bytes(data)
            flipped += 1
            if not stores.verify(store.path).damaged:
                undetected.append(f"{subject}: bit {bit} of {name}: verify finds nothing")
            try:
                found = stores.open(store.path).read("tiny", name)
            except StoreError:
                found = None
            if found is not None:
                undetected.append(f"{subject}: bit {bit} of {name}: read without an error")
            data[byte] ^= mask
        file.write_bytes(data)
    shutil.rmtree(folder)
    return flipped, undetected


def _find(data: Path, needle: bytes, name: str) -> tuple[Path, int]:
    files = [data] if data.is_file() else sorted(p for p in (data / name).rglob("*") if p.is_file())
    for file in files:
        # The last one: an array as short as this may also turn up by chance in the header.
        position = file.read_bytes().rfind(needle)
        if position >= 0:
            return file, position
    msg = f"the values of {name} are not in {data}"
    raise RuntimeError(msg)


def _try_all(subject: str, kind: str, seeds: Sequence[int], scratch: Path) -> Seen:
    total = Seen()
    for seed in seeds:
        total += try_mutation(subject, kind, seed, scratch)
    return total


@cache
def _base(subject: str, kind: str, scratch: Path) -> Path:
    store = Path(tempfile.mkdtemp(prefix="damage-", dir=scratch)) / "store"

    def prepare() -> None:
        ours = SUBJECTS[subject]
        if kind == FEATURES:
            ours.write(store, CLIPS, silent)
            return
        made = stores.create(store, label_spec(), ours.backend)
        for clip, arrays in LABELS.items():
            made.write(clip, arrays, LABEL_ATTRS)

    ended = fault_children.run(prepare)
    if ended.code != 0 or ended.answer is not None:
        msg = f"{subject}, {kind}: could not be prepared: {ended}"
        raise RuntimeError(msg)
    return store


def _read(subject: str, kind: str, path: Path) -> tuple[int, list[str]]:
    """Reads every clip; returns how many reads were refused, and what came out wrong."""
    refused, wrong = 0, []
    chosen = SUBJECTS[subject]
    if not isinstance(chosen, Ours):
        for clip, features in CLIPS.items():
            try:
                found = chosen.read(path, clip)
            except Exception:  # noqa: BLE001 - any error is a refusal of a peer
                found = None
            if found is None:
                refused += 1
            elif not same(found, features):
                wrong.append(clip)
        return refused, wrong
    written: Mapping[str, Mapping[str, Array]] = LABELS
    if kind == FEATURES:
        written = {
            clip: {
                "features": features,
                "frame": np.arange(len(features), dtype=np.int32),
                "valid": np.ones(len(features), bool),
            }
            for clip, features in CLIPS.items()
        }
    try:
        store = stores.open(path)
    except StoreError:
        return 1, []
    if strangers := sorted(set(store.clips()) - written.keys()):
        for clip in strangers:
            try:
                store.record(clip)
            except StoreError:
                refused += 1
            else:
                wrong.append(f"a clip {clip!r} that nobody wrote")
    for clip, arrays in written.items():
        for name, array in arrays.items():
            for start, stop in ((0, None), (len(array) // 3, len(array) // 2 + 1)):
                try:
                    found = store.read(clip, name, start, stop)
                    record = store.record(clip)
                except StoreError:
                    refused += 1
                    continue
                if not same(found, array[start:stop]):
                    wrong.append(f"{clip} {name} {start}:{stop}")
                if record.attrs != (LABEL_ATTRS if kind == LABEL_STORE else {"clip": clip}):
                    wrong.append(f"attrs of {clip}")
    return refused, wrong


@contextmanager
def _damaged(store: Path, draw: random.Random, scratch: Path) -> Iterator[str]:
    """Mutates a file or two of the store, and puts everything back as it was."""
    backup = scratch / f"backup-{os.getpid()}"
    shutil.copytree(store, backup, symlinks=True)
    try:
        yield _mutate(store, draw)
    finally:
        shutil.rmtree(store)
        backup.rename(store)


def _mutate(store: Path, draw: random.Random) -> str:
    files = sorted(path for path in store.rglob("*") if path.is_file())
    # Documents are small and many, data is what matters: either is half of it.
    documents = [file for file in files if file.suffix == ".json"]
    data = [file for file in files if file.suffix != ".json"]
    file = draw.choice(draw.choice([group for group in (documents, data) if group]))
    where = file.relative_to(store)
    if draw.random() < 0.2:
        operation = draw.choice(WHOLE_FILES)
        return f"{operation.__name__.strip('_')} {where} {operation(file, files, draw)}"
    content = bytearray(file.read_bytes())
    operation = draw.choice(CONTENTS)
    said = operation(content, draw)
    file.write_bytes(content)
    return f"{operation.__name__.strip('_')} {where} {said}"


def _flip_bits(content: bytearray, draw: random.Random) -> str:
    size = draw.choice([len(content), len(content), min(len(content), 2048)])  # a third of them in the head
    flipped = [draw.randrange(8 * size) for _ in range(draw.choice([1, 1, 1, 2, 8]))]
    for bit in flipped:
        content[bit // 8] ^= 1 << bit % 8
    return f"bits {flipped}"


def _set_bytes(content: bytearray, draw: random.Random) -> str:
    value = draw.choice([0, 0, 0, 1, 0x20, 0x39, 0x7F, 0x80, 0xFF])
    start, stop = _range(content, draw)
    content[start:stop] = bytes([value]) * (stop - start)
    return f"{start}:{stop} to {value}"


def _truncate(content: bytearray, draw: random.Random) -> str:
    length = draw.choice([0, len(content) - 1, len(content) // 2, draw.randrange(len(content))])
    del content[length:]
    return f"to {length}"


def _extend(content: bytearray, draw: random.Random) -> str:
    count = draw.choice([1, 8, 4096])
    content += draw.choice([bytes(count), b" " * count, draw.randbytes(count)])
    return f"by {count}"


def _swap_ranges(content: bytearray, draw: random.Random) -> str:
    unit = draw.choice([1, 8, 512, 4096, 12288])
    first, second = sorted(unit * draw.randrange(max(1, len(content) // unit)) for _ in range(2))
    return _swap(content, first, second, unit)


def _swap_chunks(content: bytearray, draw: random.Random) -> str:
    # Whole chunks, with the CRC that a Zarr shard has after each: no checksum within the file notices that.
    chunks = [CLIPS["long"][start : start + CHUNK_ROWS].tobytes() for start in (0, CHUNK_ROWS)]
    positions = sorted(content.find(chunk) for chunk in chunks)
    if positions[0] < 0:
        return _swap_ranges(content, draw)
    return _swap(content, *positions, len(chunks[0]) + draw.choice([0, 4]))


def _swap(content: bytearray, first: int, second: int, length: int) -> str:
    length = min(length, second - first, len(content) - second)
    low, high = content[first : first + length], content[second : second + length]
    content[first : first + length], content[second : second + length] = high, low
    return f"{first} and {second}, {length} bytes"


def _duplicate_range(content: bytearray, draw: random.Random) -> str:
    start, stop = _range(content, draw)
    part, target = content[start:stop], draw.randrange(len(content))
    replaced = draw.choice([0, min(len(part), len(content) - target)])
    content[target : target + replaced] = part[:replaced] if replaced else part
    return f"{start}:{stop} at {target} in place of {replaced}"


def _delete_range(content: bytearray, draw: random.Random) -> str:
    start, stop = _range(content, draw)
    del content[start:stop]
    return f"{start}:{stop}"


def _change_digit(content: bytearray, draw: random.Random) -> str:
    digits = [position for position, byte in enumerate(content[:4096]) if 0x30 <= byte <= 0x39]
    if not digits:
        return _flip_bits(content, draw)
    position = draw.choice(digits)
    content[position] = 0x30 + (content[position] - 0x30 + draw.randrange(1, 10)) % 10
    return f"at {position}"


def _range(content: bytearray, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(len(content))
    return start, min(len(content), start + draw.choice([1, 2, 4, 16, 256, 4096, 65536]))


def _delete(file: Path, files: Sequence[Path], draw: random.Random) -> str:
    file.unlink()
    return ""


def _empty_folder(file: Path, files: Sequence[Path], draw: random.Random) -> str:
    file.unlink()
    file.mkdir()
    return "put in its place"


def _exchange(file: Path, files: Sequence[Path], draw: random.Random) -> str:
    alike = [other for other in files if other.suffix == file.suffix and other != file] or [file]
    other, both = draw.choice(alike), draw.random() < 0.5
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    if both:
        other.write_bytes(mine)
    return f"{'with' if both else 'by'} {other.name} of {other.parent.name}"


def _exchange_clips(file: Path, files: Sequence[Path], draw: random.Random) -> str:
    # Every file of two clips, records included, or data alone: whose names start with the clips' ids.
    root = Path(os.path.commonpath(files))
    root = root if root.is_dir() else root.parent
    swapped = []
    with_records = draw.random() < 0.5
    for path in sorted(root.rglob("a*")):
        if path.suffix == ".json" and not with_records:
            continue
        twin = path.with_name("b" + path.name[1:])
        if path.name in ("a", "a" + path.suffix) and twin.exists():
            spare = root / "spare"
            path.rename(spare)
            twin.rename(path)
            spare.rename(twin)
            swapped.append(path.name)
    return f"a and b: {swapped}"


CONTENTS: tuple[Callable[[bytearray, random.Random], str], ...] = (
    *(_flip_bits, _flip_bits, _flip_bits, _set_bytes, _set_bytes, _truncate, _extend, _swap_ranges),
    *(_swap_chunks, _duplicate_range, _delete_range, _change_digit),
)
WHOLE_FILES: tuple[Callable[[Path, Sequence[Path], random.Random], str], ...] = (
    *(_delete, _empty_folder, _exchange, _exchange, _exchange_clips),
)
