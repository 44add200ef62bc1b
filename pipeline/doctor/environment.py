"""Checks the environment of an experiment: interpreter, libraries, device, decoder, weights, disk."""

import importlib
import importlib.metadata
import io
import os
import shutil
import sys
from collections.abc import Mapping

from pipeline.config import MIXTURE, Config, Features
from pipeline.doctor.cost import amount, sizes
from pipeline.doctor.finding import Finding
from pipeline.stage1.extraction import load_backbone
from pipeline.workdir import WorkDir

PYTHONS = ((3, 11), (3, 13))
ENOUGH_DISK, LITTLE_DISK = 5e9, 5e8


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

    wanted = {config.training.device, *(stream.device for stream in config.streams.values())}
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

    from extract.backbones.backbone import DECODER
    from extract.decode import decode

    file = io.BytesIO()
    Image.new("RGB", (16, 8), "grey").save(file, "JPEG")
    shape = decode(file.getvalue()).shape
    if shape != (8, 16, 3):
        found = f"{DECODER} makes {shape} of an image of 16 x 8 pixels"
        return Finding("decoder", "FAIL", found, "install torchcodec again")
    return Finding("decoder", "PASS", DECODER)


def absent_corpus(config: Config, place: WorkDir) -> Finding | None:
    """Returns the finding of a corpus that is not there; None if it can be read."""
    if config.corpus.kind == MIXTURE:
        absent = [str(part.root) for part in config.corpus.parts.values() if not part.root.exists()]
        remedy = "set root of these parts under corpus.parts"
        return Finding("corpus", "FAIL", f"no folder {', '.join(absent)}", remedy) if absent else None
    if place.corpus.exists():
        return None
    if config.corpus.kind == "rendered" and config.corpus.root is None:
        return Finding("corpus", "PASS", f"none yet; facets features draws it into {place.corpus}")
    return Finding("corpus", "FAIL", f"no folder {place.corpus}", "set corpus.root")


def check_weights(name: str, settings: Features) -> Finding:
    """The weights of a stream are on this machine and fit the backbone."""
    from extract.backbones import registry

    if settings.store is not None:
        found = f"none needed: features are those in {settings.store}"
        if (settings.store / "store.json").is_file():
            return Finding("weights", "PASS", found)
        return Finding("weights", "FAIL", f"no store in {settings.store}", "make it by facets import")
    if url := registry.to_download(settings.backbone, settings.weights):
        found = f"{settings.backbone} {settings.weights} is not on this machine yet"
        remedy = f"facets features downloads {url}; without a network, set streams.{name}.weights to a copy"
        return Finding("weights", "WARN", found, remedy)
    backbone = load_backbone(settings)
    found = f"{backbone.name} {backbone.weights}, SHA-256 {backbone.weights_sha256[:12]}"
    return Finding("weights", "PASS", f"{found}, trained on {', '.join(backbone.weights_trained_on)}")


def check_disk(place: WorkDir, room: Mapping[str, int] | None = None) -> Finding:
    """The work directory can be written and has room.

    Args:
        place: paths of the experiment.
        room: content -> bytes that will be written, if known.
    """
    folder = next(path for path in (place.runs, *place.runs.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free in {folder}"
    remedy = "free some space, or choose another place with --work"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "FAIL", f"{folder} cannot be written", "choose another place with --work")
    needed = sum(room.values()) if room else 0
    if room:
        found += f"; about {amount(needed)} are to be written: {sizes(room)}"
    if free < max(needed + LITTLE_DISK, ENOUGH_DISK):
        return Finding("disk", "FAIL" if free < max(needed, LITTLE_DISK) else "WARN", found, remedy)
    return Finding("disk", "PASS", found)
