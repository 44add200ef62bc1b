"""Checks the environment of an experiment: PASS, WARN or FAIL, what was found, and the remedy.

Not an installer: it changes nothing and downloads nothing.
"""

import importlib
import importlib.metadata
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.config import MIXTURE, Config
from pipeline.workdir import WorkDir
from stores.errors import FacetsError

PYTHONS = ((3, 11), (3, 13))
ENOUGH_DISK, LITTLE_DISK = 5e9, 5e8


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: whether it works, works with a reservation, or does not work.
        found: what was found.
        remedy: what to do; empty for PASS.
    """

    name: str
    status: Literal["PASS", "WARN", "FAIL"]
    found: str
    remedy: str = ""


def examine(config: Config, place: WorkDir) -> Iterator[Finding]:
    """Yields the finding of every check; one that breaks is itself a FAIL, and the next ones still run."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": check_python,
        "libraries": check_libraries,
        "device": lambda: check_device(config),
        "threads": check_threads,
        "decoder": check_decoder,
        "corpus": lambda: check_corpus(config, place),
        "weights": lambda: check_weights(config),
        "disk": lambda: check_disk(place),
    }
    for name, check in checks.items():
        try:
            yield check()
        except (FacetsError, ImportError, OSError, RuntimeError) as error:
            found = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(name, "FAIL", found, "make a fresh environment: rm -r .venv, then make features")


def check_python() -> Finding:
    """The interpreter is one that the project is tested with."""
    found = f"Python {sys.version.split()[0]}, {sys.executable}"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("python", "WARN", found, "tested with Python 3.11 to 3.13: use one of these")
    return Finding("python", "PASS", found)


def check_libraries() -> Finding:
    """The heavy libraries import."""
    names = ("numpy", "h5py", "zarr", "torch", "torchvision", "torchcodec")
    for name in names:
        importlib.import_module(name)
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return Finding("libraries", "PASS", found)


def check_device(config: Config) -> Finding:
    """The configured device exists; a GPU that torch cannot use is worth a warning."""
    import torch

    wanted = {config.features.device, config.training.device}
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1] / 1e9
        return Finding("device", "PASS", f"CUDA {torch.version.cuda}, {name}, {memory:.0f} GB")
    if any(device.startswith("cuda") for device in wanted):
        found = f"configured {', '.join(sorted(wanted))}, but torch finds no CUDA"
        return Finding("device", "FAIL", found, "use --device cpu, or repair the driver")
    if shutil.which("nvidia-smi"):
        found = f"an NVIDIA driver that torch {torch.__version__} cannot use: the CPU is used"
        return Finding(
            "device", "WARN", found, "compare the driver (nvidia-smi) with the CUDA that torch is for"
        )
    return Finding("device", "PASS", "no GPU: the CPU is used")


def check_threads() -> Finding:
    """Torch uses the cores that this process may use."""
    import torch

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores, threads = len(allowed), torch.get_num_threads()
    found = f"{threads} threads on {cores} usable cores"
    if threads > cores:
        return Finding("threads", "WARN", found, f"more is slower: export OMP_NUM_THREADS={cores}")
    return Finding("threads", "PASS", found)


def check_decoder() -> Finding:
    """The JPEG decoder works."""
    from PIL import Image

    from extract.decode import DECODER, decode

    file = io.BytesIO()
    Image.new("RGB", (16, 8), "grey").save(file, "JPEG")
    shape = decode(file.getvalue()).shape
    if shape != (8, 16, 3):
        found = f"{DECODER} makes {shape} of an image of 16 x 8 pixels"
        return Finding("decoder", "FAIL", found, "install torchcodec again")
    return Finding("decoder", "PASS", DECODER)


def check_corpus(config: Config, place: WorkDir) -> Finding:
    """The corpus is there, or can be made."""
    if config.corpus.kind == "rendered" and config.corpus.root is None:
        there = place.corpus.is_dir()
        found = str(place.corpus) if there else f"none yet; facets features draws it into {place.corpus}"
        return Finding("corpus", "PASS", found)
    if config.corpus.kind == MIXTURE:
        absent = [str(part.root) for part in config.corpus.parts.values() if not part.root.is_dir()]
        if absent:
            found = f"no folder {', '.join(absent)}"
            return Finding("corpus", "FAIL", found, "set root of these parts under corpus.parts")
        return Finding("corpus", "PASS", ", ".join(str(part.root) for part in config.corpus.parts.values()))
    if not place.corpus.is_dir():
        return Finding("corpus", "FAIL", f"no folder {place.corpus}", "set corpus.root")
    return Finding("corpus", "PASS", str(place.corpus))


def check_weights(config: Config) -> Finding:
    """The weights are on this machine and fit the backbone."""
    from extract.backbones import registry

    settings = config.features
    if settings.store is not None:
        found = f"none needed: features are those in {settings.store}"
        if (settings.store / "store.json").is_file():
            return Finding("weights", "PASS", found)
        return Finding("weights", "FAIL", f"no store in {settings.store}", "make it by facets import")
    if url := registry.to_download(settings.backbone, settings.weights):
        found = f"{settings.backbone} {settings.weights} is not on this machine yet"
        remedy = f"facets features downloads {url}; without a network, set features.weights to a copy"
        return Finding("weights", "WARN", found, remedy)
    backbone = registry.load(settings.backbone, settings.weights, settings.image_size)
    found = f"{backbone.name} {backbone.weights}, SHA-256 {backbone.weights_sha256[:12]}"
    return Finding("weights", "PASS", f"{found}, trained on {', '.join(backbone.weights_trained_on)}")


def check_disk(place: WorkDir) -> Finding:
    """The work directory can be written and has room."""
    folder = next(path for path in (place.runs, *place.runs.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free in {folder}"
    remedy = "free some space, or choose another place with --work"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "FAIL", f"{folder} cannot be written", "choose another place with --work")
    if free < ENOUGH_DISK:
        return Finding("disk", "FAIL" if free < LITTLE_DISK else "WARN", found, remedy)
    return Finding("disk", "PASS", found)
