"""Features in HDF5 files: the datasets of one clip, or one dataset or group per clip.

Not a reader of everything HDF5 can do: what leaves the file, is made up on reading or needs a plugin is
refused.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from extract.importing.readers import Many
from extract.importing.request import Selection
from extract.importing.rows import Rows, check_size, named_rows
from stores.digest import Array
from stores.errors import CorpusError

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)
FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_SZIP: "szip",
    h5py.h5z.FILTER_NBIT: "nbit",
    h5py.h5z.FILTER_SCALEOFFSET: "scaleoffset",
    h5py.h5z.FILTER_LZF: "lzf",
}
"""The filters that come with h5py; any other one would have HDF5 look for a plugin and run it."""


def read_one(path: Path, selection: Selection) -> Rows:
    """Reads the clip whose arrays are a file's datasets.

    Raises:
        CorpusError: damaged, hostile or over the limit, or without a dataset that is the features.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _group_rows(file, selection)
    except DAMAGE as error:
        msg = f"it is not a readable HDF5 file: {error}"
        raise CorpusError(msg) from error


def open_many(path: Path, selection: Selection) -> Many:
    """Opens a file in which every top-level dataset is the features, and every group the arrays, of a clip.

    Raises:
        CorpusError: damaged, or empty.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            clips = _names(file)
    except DAMAGE as error:
        msg = f"it is not a readable HDF5 file: {error}"
        raise CorpusError(msg) from error
    if not clips:
        msg = "it holds no datasets or groups: expected one per clip"
        raise CorpusError(msg)
    return _ManyClips(path, selection, clips)


@dataclass(frozen=True, slots=True)
class _ManyClips:
    path: Path
    selection: Selection
    clips: tuple[str, ...]

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Rows | CorpusError]]:
        with h5py.File(self.path, "r", locking=False) as file:
            for clip in self.clips:
                if clip not in wanted:
                    continue
                try:
                    member = _member(file, clip)
                    rows: Rows | CorpusError = (
                        _group_rows(member, self.selection)
                        if isinstance(member, h5py.Group)
                        else Rows(_read(member, self.selection.max_bytes))
                    )
                except CorpusError as error:
                    rows = error
                except DAMAGE as error:
                    rows = CorpusError(f"{clip!r} cannot be read: {error}")
                yield clip, rows


def _group_rows(group: h5py.Group, selection: Selection) -> Rows:
    members = {name: _member(group, name) for name in _names(group)}
    shapes = {name: item.shape or () for name, item in members.items() if isinstance(item, h5py.Dataset)}
    return named_rows(shapes, lambda name: _read(members[name], selection.max_bytes), selection)


def _names(group: h5py.Group) -> tuple[str, ...]:
    names = tuple(group)
    if strange := [name for name in names if not isinstance(name, str)]:  # h5py gives bytes for these
        msg = f"it holds {strange[0]!r}, a name that is not UTF-8"
        raise CorpusError(msg)
    return names


def _member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    # The kind of link comes first: asking for the object would already follow it.
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        msg = f"{name!r} is a soft or external link, which may lead anywhere: copy what it leads to"
        raise CorpusError(msg)
    return group[name]


def _read(dataset: h5py.Dataset, max_bytes: int) -> Array:
    name = dataset.name
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        msg = f"{name} is not a dataset with values"
        raise CorpusError(msg)
    plan = dataset.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        msg = f"{name} has virtual or external storage, which may lead to other files: copy the values"
        raise CorpusError(msg)
    for index in range(plan.get_nfilters()):
        code, label = plan.get_filter(index)[0], plan.get_filter(index)[3]
        if code not in FILTERS or not h5py.h5z.filter_avail(code):
            msg = (
                f"{name} passes through filter {code} ({label.decode(errors='replace')}), known are"
                f" {', '.join(FILTERS.values())}: write it anew with one of these, or none"
            )
            raise CorpusError(msg)
    if dataset.dtype.kind not in "fiub":
        msg = f"{name} is of type {dataset.dtype}, expected numbers"
        raise CorpusError(msg)
    shape, size = dataset.shape, dataset.dtype.itemsize
    declared = math.prod(shape) * size
    if dataset.chunks is not None:
        check_size(f"a chunk of {name}", math.prod(dataset.chunks) * size, max_bytes, max_bytes)
    check_size(name, declared, dataset.id.get_storage_size(), max_bytes)
    if dataset.chunks is not None:
        chunks = math.prod(-(-length // chunk) for length, chunk in zip(shape, dataset.chunks, strict=True))
        unwritten = chunks - dataset.id.get_num_chunks()
    else:
        unwritten = int(dataset.id.get_storage_size() < declared)
    if unwritten:
        # They would read as the fill value, which is a guess at what should be there.
        msg = f"{name} was never written in full: {unwritten} of its chunks are not in the file"
        raise CorpusError(msg)
    values: Array = dataset[...]
    return values
