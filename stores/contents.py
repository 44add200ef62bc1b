"""What the arrays of one clip must hold before they are written: types, shapes and the promises of each kind.

An array that is nearly right is refused, never cast, clipped or filled.
"""

from collections.abc import Mapping

import numpy as np

from stores import documents
from stores.digest import Array
from stores.documents import Json
from stores.errors import StoreError
from stores.layout import ArrayLayout
from stores.spec import FeatureSpec, LabelSpec, Spec

SPLITS = ("train", "validation", "test")
MAX_ATTRS_BYTES = 2**20
FINITE_ROWS = 64


def check_layout(clip: str, arrays: Mapping[str, Array], spec: Spec) -> dict[str, ArrayLayout]:
    """Returns the layout of a clip whose arrays have the names, types and shapes of ``spec``.

    Args:
        clip: id, for the messages.
        arrays: name to array; all have the same number of frames ``T >= 1``.
        spec: spec of the store.

    Raises:
        StoreError: a name, dtype or shape is not what the spec demands; the message names the array.
    """
    expected = spec.layout(1)
    if arrays.keys() != expected.keys():
        msg = f"clip {clip!r}: arrays {sorted(arrays)}, a {spec.kind} clip has exactly {sorted(expected)}"
        raise StoreError(msg)
    first = next(iter(expected))
    if not isinstance(arrays[first], np.ndarray) or arrays[first].ndim == 0 or len(arrays[first]) == 0:
        msg = f"clip {clip!r}: array {first!r} has no frames; a clip has at least one"
        raise StoreError(msg)
    layout = spec.layout(len(arrays[first]))
    for name, wanted in layout.items():
        array = arrays[name]
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != np.dtype(wanted.dtype)
            or array.shape != wanted.shape
        ):
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            msg = f"clip {clip!r}: array {name!r} is {found}, expected {wanted.dtype} {wanted.shape}"
            raise StoreError(msg)
    return layout


def check_values(clip: str, arrays: Mapping[str, Array], spec: Spec) -> None:
    """Passes if the values of a clip keep every promise of ``spec``.

    Args:
        clip: id, for the messages.
        arrays: as ``check_layout`` passed them.
        spec: spec of the store.

    Raises:
        StoreError: a value breaks a promise; the message names the array and the first frame at fault.
    """
    if isinstance(spec, FeatureSpec):
        _check_features(clip, arrays)
    else:
        _check_labels(clip, arrays, spec)


def _check_features(clip: str, arrays: Mapping[str, Array]) -> None:
    features, frame, valid = arrays["features"], arrays["frame"], arrays["valid"]
    _refuse(clip, "frame", frame != np.arange(len(frame), dtype=np.int32), "row i is frame i, from 0")
    if not _all_finite(features):  # only then row by row, which takes longer
        _refuse(clip, "features", np.asarray(~np.isfinite(features).all(axis=1)), "every value is finite")
    absent = np.flatnonzero(~valid)
    stray = np.zeros(len(valid), bool)
    # As integers, which numpy looks at ten times as fast as at float16; a negative zero is no zero here.
    stray[absent] = [row.any() for row in features.view(f"u{features.itemsize}")[absent]]
    _refuse(clip, "features", stray, "a frame that is not valid is a row of zeros")


def _all_finite(values: Array) -> bool:
    # The exponent of an infinity or NaN is all ones: ten times as fast as np.isfinite on float16.
    bits = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    sign = np.iinfo(bits.dtype).max // 2
    infinity = np.array(np.inf, values.dtype).view(bits.dtype)
    return all(
        (bits[start : start + FINITE_ROWS] & sign).max() < infinity
        for start in range(0, len(bits), FINITE_ROWS)
    )


def _check_labels(clip: str, arrays: Mapping[str, Array], spec: LabelSpec) -> None:
    for name in ("valence", "arousal"):
        values = arrays[name]
        # NaN fails the comparison, so that unknown passes.
        _refuse(clip, name, np.asarray(np.abs(values) > 1), "values lie in [-1, 1], or are NaN where unknown")
    expression, classes = arrays["expression"], len(spec.expression_names)
    _refuse(
        clip,
        "expression",
        (expression < -1) | (expression >= classes),
        f"values are 0 to {classes - 1}, or -1 where unknown",
    )
    au = arrays["au"]
    outside = np.asarray((au < -1) | (au > 1))
    _refuse(clip, "au", np.asarray(outside.any(axis=1)), "cells are 0 or 1, or -1 where unknown")


def _refuse(clip: str, name: str, bad: Array, promise: str) -> None:
    if bad.any():
        first, count = int(bad.argmax()), int(bad.sum())
        msg = f"clip {clip!r}: {name!r} is wrong at frame {first} ({count} frames in all): {promise}"
        raise StoreError(msg)


def check_attrs(clip: str, attrs: Mapping[str, Json], spec: Spec) -> dict[str, Json]:
    """Returns the attributes of a clip as JSON will give them back (tuples become lists).

    A label clip must have the four that readers of labels need: ``split``, ``fps``, ``subject``, ``corpus``.

    Raises:
        StoreError: an attribute cannot be written as JSON, or one of a label clip is missing or wrong.
    """
    try:
        data = documents.canonical(attrs)
    except (TypeError, ValueError) as error:
        msg = f"clip {clip!r}: attributes cannot be written as JSON: {error}"
        raise StoreError(msg) from error
    if len(data) > MAX_ATTRS_BYTES or not all(isinstance(key, str) for key in attrs):
        msg = f"{clip!r}: attributes take {len(data)} bytes of {MAX_ATTRS_BYTES}, or a key is no string"
        raise StoreError(msg)
    if spec.kind == LabelSpec.kind:
        _check_label_attrs(clip, attrs)
    return documents.parse(data, f"clip {clip!r}")


def _check_label_attrs(clip: str, attrs: Mapping[str, Json]) -> None:
    fps = attrs.get("fps")
    promises = {
        "split": (attrs.get("split") in SPLITS, " or ".join(SPLITS)),
        "fps": (isinstance(fps, int | float) and fps > 0, "a positive number"),
        "subject": (isinstance(attrs.get("subject"), str), "a string, empty where unknown"),
        "corpus": (isinstance(attrs.get("corpus"), str), "a string"),
        "video": (isinstance(attrs.get("video", ""), str), "a string, or no such attribute"),
        "scored": (isinstance(attrs.get("scored", True), bool), "true or false, or no such attribute"),
    }
    for name, (kept, promise) in promises.items():
        if not kept:
            msg = f"clip {clip!r}: attribute {name!r} is {attrs.get(name)!r}, expected {promise}"
            raise StoreError(msg)
