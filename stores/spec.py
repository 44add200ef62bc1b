"""What a store holds, exactly: the feature specification and the label specification.

A spec is written once per store, and stores whose specs differ never mix.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from stores import documents
from stores.digest import Array
from stores.documents import Json
from stores.errors import StoreError
from stores.layout import ArrayLayout

FEATURE_DTYPES = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class _Fields:
    """What both kinds of spec do with their fields."""

    kind: ClassVar[str]

    def digest(self) -> str:
        """Returns the SHA-256 of the canonical JSON of every field that decides equality, and the kind."""
        deciding: dict[str, Json] = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return documents.digest({"kind": self.kind, **deciding})

    def to_json(self) -> dict[str, Json]:
        """Returns the spec as a JSON object; ``from_json`` takes it back."""
        return {spec_field.name: getattr(self, spec_field.name) for spec_field in fields(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Json]) -> Self:
        """Builds a spec from a JSON object.

        Raises:
            StoreError: a key is missing or unknown, or a value is not what the field holds.
        """
        expected = {spec_field.name for spec_field in fields(cls)}
        problems = [f"{key!r} is missing" for key in sorted(expected - document.keys())]
        problems += [f"{key!r} is unknown" for key in sorted(document.keys() - expected)]
        if problems:
            msg = f"{cls.kind} spec: {', '.join(problems)}; expected exactly {', '.join(sorted(expected))}"
            raise StoreError(msg)
        arguments: dict[str, Any] = dict(document)
        return cls(**arguments)


@dataclass(frozen=True, slots=True)
class FeatureSpec(_Fields):
    """Everything that decides the numbers of a feature store.

    Features that others made come with less: ``None`` says that a field is not known, and never stands for a
    default.

    Attributes:
        stream: name of the stream, such as ``resnet50.imagenet1k_v2``.
        backbone: architecture, such as ``resnet50``.
        weights: name of the weights, such as ``imagenet1k_v2``.
        weights_sha256: SHA-256 of the weights file, 64 lower-case hexadecimal digits; None if not known.
        weights_trained_on: corpora that the weights have seen, for the rules of competitions.
        image_size: side in pixels of the square image given to the backbone; None if not known.
        mean: per channel (R, G, B), subtracted from an image in [0, 1]; None if not known.
        std: per channel, divides after the mean is subtracted; positive; None if not known.
        interpolation: how a crop is resized, such as ``bilinear-antialias``, or ``none``.
        decoder: what decoded the crops, such as ``pillow``.
        dtype: ``float16`` or ``float32``.
        dim: length ``D`` of one feature vector.
        versions: library to version, recorded for the reader; no part of equality or of the digest.
    """

    kind: ClassVar[str] = "features"

    stream: str
    backbone: str
    weights: str
    weights_sha256: str | None
    weights_trained_on: tuple[str, ...]
    image_size: int | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    interpolation: str
    decoder: str
    dtype: str
    dim: int
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in ("stream", "backbone", "weights", "interpolation", "decoder"):
            _require(self, name, _is_name(getattr(self, name)), "a non-empty string")
        digits = self.weights_sha256
        hexadecimal = isinstance(digits, str) and re.fullmatch("[0-9a-f]{64}", digits) is not None
        known = digits is None or hexadecimal
        _require(self, "weights_sha256", known, "64 lower-case hexadecimal digits, or null")
        _freeze_names(self, "weights_trained_on")
        _require(self, "dim", _is_count(self.dim), "a positive integer")
        size = self.image_size
        _require(self, "image_size", size is None or _is_count(size), "a positive integer, or null")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is None:
                continue
            three = isinstance(value, tuple | list) and len(value) == 3 and all(map(_is_finite, value))
            positive = three and (name == "mean" or min(value) > 0)
            expected = "three finite numbers" + (", positive" if name == "std" else "") + ", or null"
            _require(self, name, positive, expected)
            object.__setattr__(self, name, tuple(float(number) for number in value))
        _require(self, "dtype", self.dtype in FEATURE_DTYPES, " or ".join(FEATURE_DTYPES))
        plain = isinstance(self.versions, Mapping) and all(
            isinstance(word, str) for pair in self.versions.items() for word in pair
        )
        _require(self, "versions", plain, "a mapping of library names to version strings")
        object.__setattr__(self, "versions", dict(self.versions))

    def layout(self, frames: int) -> dict[str, ArrayLayout]:
        """Returns the arrays that a clip of ``frames`` frames must have."""
        return {
            "features": ArrayLayout((frames, self.dim), self.dtype, ("frame", "feature")),
            "frame": ArrayLayout((frames,), "int32", ("frame",)),
            "valid": ArrayLayout((frames,), "bool", ("frame",)),
        }

    def coordinates(self, frames: int) -> dict[str, Array]:
        """Returns the coordinates of the dimensions that are no array of a clip of ``frames`` frames."""
        return {"feature": np.arange(self.dim, dtype=np.int32)}


@dataclass(frozen=True, slots=True)
class LabelSpec(_Fields):
    """What the label arrays of a store mean.

    Attributes:
        corpus: name of the corpus, such as ``affwild2``.
        edition: the rules that the labels follow, such as ``abaw2``.
        expression_names: class names; index in the tuple = value in the ``expression`` array.
        au_names: action unit names; index in the tuple = column of the ``au`` array.
    """

    kind: ClassVar[str] = "labels"

    corpus: str
    edition: str
    expression_names: tuple[str, ...]
    au_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("corpus", "edition"):
            _require(self, name, _is_name(getattr(self, name)), "a non-empty string")
        for name in ("expression_names", "au_names"):
            _freeze_names(self, name)
            names = getattr(self, name)
            usable = 0 < len(names) <= 127 and len(set(names)) == len(names)
            _require(self, name, usable, "1 to 127 different names")

    def layout(self, frames: int) -> dict[str, ArrayLayout]:
        """Returns the arrays that a clip of ``frames`` frames must have."""
        return {
            "valence": ArrayLayout((frames,), "float32", ("frame",)),
            "arousal": ArrayLayout((frames,), "float32", ("frame",)),
            "expression": ArrayLayout((frames,), "int8", ("frame",)),
            "au": ArrayLayout((frames, len(self.au_names)), "int8", ("frame", "action_unit")),
        }

    def coordinates(self, frames: int) -> dict[str, Array]:
        """Returns the coordinates of the dimensions that are no array of a clip of ``frames`` frames."""
        return {
            "frame": np.arange(frames, dtype=np.int32),
            "action_unit": np.array([name.encode() for name in self.au_names]),
        }


Spec: TypeAlias = FeatureSpec | LabelSpec

SPEC_KINDS: dict[str, type[FeatureSpec] | type[LabelSpec]] = {
    FeatureSpec.kind: FeatureSpec,
    LabelSpec.kind: LabelSpec,
}


def differences(a: Spec, b: Spec) -> dict[str, tuple[Json, Json]]:
    """Returns the fields in which two specs differ, each with both values, ``a``'s first; empty if equal."""
    if a.kind != b.kind:
        return {"kind": (a.kind, b.kind)}
    names = [spec_field.name for spec_field in fields(a) if spec_field.compare]
    return {
        name: (getattr(a, name), getattr(b, name)) for name in names if getattr(a, name) != getattr(b, name)
    }


def _require(spec: Spec, name: str, satisfied: bool, expected: str) -> None:  # noqa: FBT001
    if not satisfied:
        msg = f"{spec.kind} spec: {name} is {getattr(spec, name)!r}, expected {expected}"
        raise StoreError(msg)


def _freeze_names(spec: Spec, name: str) -> None:
    value = getattr(spec, name)
    names = isinstance(value, tuple | list) and all(map(_is_name, value))
    _require(spec, name, names, "a list of non-empty strings")
    object.__setattr__(spec, name, tuple(value))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
