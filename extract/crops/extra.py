"""The libraries of the optional extra ``video``, imported when a video is first touched.

A library that is not there is an error that says how to get it.
"""

import importlib
import importlib.metadata
from typing import Any

from stores.errors import ConfigError

DISTRIBUTIONS = {"av": "av", "cv2": "opencv-python-headless"}


def library(name: str) -> Any:
    """Returns the module ``av`` or ``cv2``.

    Raises:
        ConfigError: it is not installed, or cannot be loaded on this machine.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        msg = f"videos need the library {DISTRIBUTIONS[name]} ({error}): run uv sync --extra video"
        raise ConfigError(msg) from error


def version(name: str) -> str:
    """Returns the version of ``av`` or ``cv2`` as the module states it."""
    return str(library(name).__version__)
