"""The section ``streams``: by its name, each stream of features that runs can read, and how it is made."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from pipeline.config.section import Device, Section

MAKERS = frozenset(
    ("backbone", "weights", "image_size", "dtype", "flip_average", "batch_size", "precision", "compile")
)
"""The settings of features that are to be made, which a given store has no use for."""


class Features(Section):
    """Which backbone turns a crop into a vector, and how vectors are stored; or a store of such vectors."""

    store: Path | None = None
    """A feature store that is there already, such as one of ``facets import``; it is used as it is."""
    backbone: str = ""
    weights: str = ""
    """The name of weights that the backbone knows, or the path of a ``.safetensors`` or ``.pth`` file."""
    image_size: PositiveInt = 112
    """Side of the square that the backbone sees, in pixels."""
    backend: Literal["hdf5", "zarr"] = "hdf5"
    dtype: Literal["float16", "float32"] = "float16"
    flip_average: bool = False
    """Average the vectors of a crop and of its mirror image: twice the work, another stream."""
    device: Device = "auto"
    batch_size: PositiveInt = 64
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Of the network; what differs too much from float32 is refused, see ``extract.forward``."""
    compile: bool = False
    """Compile the network first: minutes that pay back on a large corpus."""

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide the numbers in the store, as JSON values."""
        decisive = {"store", "backbone", "weights", "image_size", "dtype", "flip_average"}
        return self.model_dump(mode="json", include=decisive)

    @model_validator(mode="after")
    def check_origin(self) -> Self:
        """Features are either made by a backbone or there already."""
        if self.store is None:
            for name in ("backbone", "weights"):
                if not getattr(self, name):
                    msg = f"the key '{name}' is missing: give 'backbone' and 'weights', or 'store' alone"
                    raise ValueError(msg)
            return self
        if given := sorted(MAKERS & self.model_fields_set):
            msg = (
                f"'store' is of features that are made already, so {', '.join(map(repr, given))} cannot be"
                " given too: leave out one or the other, as in --set 'streams.NAME={store: PATH}'"
            )
            raise ValueError(msg)
        return self
