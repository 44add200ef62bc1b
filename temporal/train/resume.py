"""The state of a stack in training, in one file: what a killed training needs to go on as if it had not been.

The file is safetensors with JSON in its header. A state that does not fit exactly is never adapted:
training begins anew.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stores import documents
from stores.backends.chunks import crc32c
from stores.commit import remove, remove_abandoned, sync_folder, temporary
from stores.documents import Json

logger = logging.getLogger(__name__)

FORMAT, VERSION = "facets-state", 1

SHARE = 0.02
"""Most of the time that goes into states: where an epoch is shorter than 50 writes, not every one is kept."""


class StateFile:
    """Where the state of one stack is kept.

    Args:
        path: of the file; its folder exists. Two processes never train towards one file at the same time.
        identity: what decides the result beside runs, settings and machine, which ``temporal.fit`` adds: at
            least the digests of the data.
    """

    def __init__(self, path: Path, identity: Mapping[str, Json]) -> None:
        self.path = path
        self.identity = dict(identity)
        self._next = 0.0

    def due(self) -> bool:
        """Tells whether enough time went by since the last write for the next one to be cheap beside it."""
        return time.monotonic() >= self._next

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replaces the state, durably and in one step; a disk that refuses costs the state, not the training.

        Args:
            tensors: by name.
            facts: JSON values, NaN and infinities included.
        """
        began = time.monotonic()
        ours = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        told = json.dumps(facts)
        header = {
            "format": FORMAT,
            "version": str(VERSION),
            "identity": documents.digest(self.identity),
            "facts": told,
            "crc32c": _crcs(ours, told),
        }
        try:
            with temporary(self.path.parent, self.path.name) as new:
                save_file(ours, new, header)
                with new.open("rb") as file:
                    os.fsync(file.fileno())
                new.replace(self.path)
            sync_folder(self.path.parent)
        except (OSError, SafetensorError) as error:
            logger.warning(
                "the state of the training cannot be kept (%s): if it is killed, more is trained again", error
            )
        ended = time.monotonic()
        self._next = ended + (ended - began) / SHARE

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Returns tensors (on the CPU) and facts; None, with a line in the log, if there is no such state."""
        remove_abandoned(self.path.parent)
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError) as error:
            logger.warning("%s cannot be read (%s): training begins anew", self.path, error)
            return None
        if (header.get("format"), header.get("version")) != (FORMAT, str(VERSION)):
            logger.warning("%s is not a state of this version: training begins anew", self.path)
            return None
        if header.get("identity") != documents.digest(self.identity):
            logger.warning(
                "%s is of other runs, data, versions, threads or devices: training begins anew", self.path
            )
            return None
        facts = header.get("facts", "")
        if header.get("crc32c") != _crcs(tensors, facts):
            logger.warning("%s is damaged: training begins anew", self.path)
            return None
        return tensors, json.loads(facts)

    def remove(self) -> None:
        """Removes the state: everything that it was for is committed."""
        remove(self.path)


def _crcs(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Returns CRC-32C of the facts and of every tensor, in the order of their names."""
    crcs = [crc32c(facts.encode()), *(crc32c(tensors[name].numpy()) for name in sorted(tensors))]
    return "".join(f"{crc:08x}" for crc in crcs)
