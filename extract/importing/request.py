"""What an import must be told: where in a file the features are, and where they come from.

What is not said of the origin of features is recorded as unknown.
"""

import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from extract.importing.content import content, display_name
from stores import BackendName, FeatureSpec
from stores.errors import ConfigError

UNKNOWN = "unknown"
MAX_CLIP_BYTES = 16 * 2**30


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parts of a file are the features, the frame numbers and the flags of a clip.

    Attributes:
        array: name of the array of features; None for ``features``, else the only 2-D array.
        columns: names or shell patterns of the feature columns (tables), which keep the order of the file;
            empty for every column that is neither clip, frame nor valid.
        clip_column: column that names the clip of a row (tables).
        frame: column or array of frame numbers; None for ``frame`` where there is one.
        valid: column or array that is false where a row holds nothing; None for ``valid`` where there is one.
        first_frame: number that the source gives to the first frame: 0 or 1.
        max_bytes: most bytes that an array, or the rows of a table, of one clip may take in memory.
    """

    array: str | None = None
    columns: tuple[str, ...] = ()
    clip_column: str = "clip"
    frame: str | None = None
    valid: str | None = None
    first_frame: int = 0
    max_bytes: int = MAX_CLIP_BYTES

    def __post_init__(self) -> None:
        if self.first_frame not in (0, 1):
            msg = f"first frame {self.first_frame}: expected 0 or 1, the number of a clip's first frame"
            raise ConfigError(msg)

    @property
    def frame_name(self) -> str:
        """Column or array of frame numbers."""
        return self.frame or "frame"

    @property
    def valid_name(self) -> str:
        """Column or array of flags."""
        return self.valid or "valid"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How features are imported, and what is known of them.

    Attributes:
        stream: name of the stream, such as ``openface.au17``.
        backbone: architecture that made the features.
        weights: name of its weights, or None for the name of ``weights_file``, if that is given.
        weights_file: file of the weights, or None.
        weights_sha256: SHA-256 of the weights where the file is not at hand, or None.
        trained_on: corpora that the weights have seen.
        image_size: side in pixels of what the backbone saw, or None.
        decoder: what decoded the images.
        dtype: of the store, ``float16`` or ``float32``.
        backend: file format of the store.
        selection: where in the files the features are.
        nan_is_missing: a row with a NaN or an infinity counts as a missing frame instead of an error.
        like: store whose clips have the lengths that the imported ones get; usually the label store.
    """

    stream: str
    backbone: str = UNKNOWN
    weights: str | None = None
    weights_file: Path | None = None
    weights_sha256: str | None = None
    trained_on: tuple[str, ...] = ()
    image_size: int | None = None
    decoder: str = UNKNOWN
    dtype: str = "float16"
    backend: BackendName = "hdf5"
    selection: Selection = Selection()
    nan_is_missing: bool = False
    like: Path | None = None

    def with_weights_hashed(self) -> Self:
        """Returns the same options with what the weights file says of the weights.

        Raises:
            ConfigError: the file's SHA-256 is given as well.
            CorpusError: the file cannot be read.
        """
        if self.weights_file is None:
            return self
        if self.weights_sha256 is not None:
            msg = f"--weights-file {self.weights_file} gives its own SHA-256: leave out --weights-sha256"
            raise ConfigError(msg)
        file = content(self.weights_file)
        return replace(
            self,
            weights=self.weights or display_name(file.path),
            weights_file=None,
            weights_sha256=file.sha256,
        )

    def spec(self, dim: int) -> FeatureSpec:
        """Returns the specification of a store of these features, vectors of length ``dim``.

        Raises:
            StoreError: a value is not what the specification can hold.
        """
        return FeatureSpec(
            stream=self.stream,
            backbone=self.backbone,
            weights=self.weights or UNKNOWN,
            weights_sha256=self.weights_sha256,
            weights_trained_on=self.trained_on,
            image_size=self.image_size,
            mean=None,
            std=None,
            interpolation=UNKNOWN,
            decoder=self.decoder,
            dtype=self.dtype,
            dim=dim,
            versions={"facets": importlib.metadata.version("facets")},
        )
