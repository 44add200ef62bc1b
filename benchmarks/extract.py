"""Extraction beside the usual loops: torchvision with a DataLoader, as found and tuned, and timm's loader.

Not a test: features are compared first, how fast each contender is is only told.

    python benchmarks/extract.py [--crops 384] [--rounds 3] [--flat 20000] [--device cpu|cuda] [--compile]

Same JPEGs (drawn faces, 112 pixels), same random weights, same threads; contenders take turns in every round
and ratios are medians over rounds. ``bare`` is our folded network on batches that are in memory already.
Prints one JSON document, ratios last.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# This file has the name of a package that it measures, and Python looks beside a script first.
ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.models import resnet50  # noqa: E402

import stores  # noqa: E402
from extract.backbones import registry  # noqa: E402
from extract.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone  # noqa: E402
from extract.corpora import CropFrames, Crops, rendered  # noqa: E402
from extract.decode import decode_file  # noqa: E402
from extract.engine import extract_clips  # noqa: E402
from extract.feed import Spent, feed  # noqa: E402
from extract.forward import Network  # noqa: E402
from extract.worklist import look  # noqa: E402

BATCH, SIZE = 64, 112


def told(text: str) -> None:
    """Says on stderr what is being measured."""
    print(text, file=sys.stderr, flush=True)


def draw(folder: Path, crops: int) -> list[Path]:
    """Draws faces until there are ``crops`` of them; returns their files."""
    frames = 64
    people = -(-crops // frames)
    settings = rendered.RenderSettings(
        train_people=people,
        validation_people=1,
        test_people=0,
        clips_per_person=1,
        min_frames=frames,
        max_frames=frames,
        warts=False,
    )
    rendered.render(folder / "drawn", settings)
    files = sorted((folder / "drawn").glob("cropped_aligned/*/*.jpg"))[:crops]
    assert len(files) == crops
    return files


def clips_of(files: list[Path], folder: Path, length: int) -> list[Crops]:
    """Links the files into clips of ``length`` frames below ``folder``."""
    clips = []
    for start in range(0, len(files), length):
        part = files[start : start + length]
        place = folder / f"clip{start:07d}"
        place.mkdir(parents=True)
        for number, file in enumerate(part, start=1):
            os.link(file, place / f"{number:05d}.jpg")
        clips.append(Crops(place.name, CropFrames(place, np.ones(len(part), np.bool_))))
    return clips


def make_weights(path: Path) -> Path:
    """Saves a random ResNet-50 whose batch norm has statistics of its own."""
    torch.manual_seed(0)
    network = resnet50(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    torch.save(network.state_dict(), path)
    return path


class Files(Dataset):
    """The usual dataset: one file, opened by Pillow, transformed."""

    def __init__(self, files: list[Path], transform: Callable[[Image.Image], Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


USUAL = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def loop(loader: DataLoader, network: nn.Module, path: Path, device: str, *, tuned: bool) -> np.ndarray:
    """The usual loop: batches through the network, float16 rows into one HDF5 file."""
    rows = []
    with h5py.File(path, "w") as file, torch.inference_mode() if tuned else torch.no_grad():
        dataset = file.create_dataset("features", (len(loader.dataset), 2048), "f2")
        start = 0
        for batch in loader:
            images = batch[0] if isinstance(batch, list | tuple) else batch
            if tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            features = network(images.to(device)).cpu().half().numpy()
            dataset[start : start + len(features)] = features
            rows.append(features)
            start += len(features)
    return np.concatenate(rows)


def torchvision_network(weights: Path, device: str, *, tuned: bool) -> nn.Module:
    """The network as most scripts load it."""
    network = resnet50(weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.fc = nn.Identity()
    network = network.eval().to(device)
    return network.to(memory_format=torch.channels_last) if tuned else network


def timm_loop(files: list[Path], weights: Path, path: Path, device: str) -> np.ndarray:
    """The network and the loader of timm, with the same weights."""
    import timm
    from timm.data import create_loader

    network = timm.create_model("resnet50", pretrained=False)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.reset_classifier(0)

    class Labelled(Files):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return super().__getitem__(index), 0

    class Pictures(Labelled):
        transform = None

    dataset = Pictures(files, lambda image: image)
    loader = create_loader(
        dataset,
        (3, SIZE, SIZE),
        BATCH,
        is_training=False,
        use_prefetcher=False,
        num_workers=2,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        crop_pct=1.0,
    )
    return loop(loader, network.eval().to(device), path, device, tuned=False)


def speeds(work: dict[str, Callable[[], object]], count: int, rounds: int) -> dict[str, list[float]]:
    """Crops per second of each contender, in turns."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        for name, function in work.items():
            began = time.perf_counter()
            function()
            found[name].append(count / (time.perf_counter() - began))
            told(f"  round {number + 1}: {name} {found[name][-1]:.1f} crops/s")
    return found


def ratio(found: dict[str, list[float]], one: str, other: str) -> float:
    """Median over rounds of the ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(found[one], found[other], strict=True)), 3)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Least cosine of a row of one with the same row of the other."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))).min())


def end_to_end(
    files: list[Path], place: Path, rounds: int, device: str, *, compiled: bool
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Whole extractions of the same crops, parity first."""
    weights = make_weights(place / "random.pth")
    backbone = registry.load("resnet50", str(weights), SIZE)
    clips = clips_of(files, place / "tree", 256)
    network = Network(backbone, torch.device(device), compiled=compiled)
    pixels = torch.from_numpy(np.stack([decode_file(file, SIZE) for file in files]))
    batches = [part.pin_memory() if device == "cuda" else part for part in pixels.split(BATCH)]
    plain, tuned = (torchvision_network(weights, device, tuned=each) for each in (False, True))
    kept: dict[str, np.ndarray] = {}

    def ours() -> None:
        shutil.rmtree(place / "store", ignore_errors=True)
        store = stores.create(place / "store", backbone.feature_spec("float16"))
        extract_clips(clips, backbone, store, device=device, batch_size=BATCH, compiled=compiled)
        kept["facets"] = np.concatenate([store.read(clip.id) for clip in clips])

    def halved() -> None:
        shutil.rmtree(place / "store", ignore_errors=True)
        store = stores.create(place / "store", backbone.feature_spec("float16"))
        extract_clips(clips, backbone, store, device=device, batch_size=BATCH, precision="bfloat16")
        kept["facets, bfloat16"] = np.concatenate([store.read(clip.id) for clip in clips])

    def bare() -> None:
        waiting = [network.start(batch, len(batch)) for batch in batches]
        kept["bare"] = np.concatenate([one.result()[0] for one in waiting])

    def usual(name: str, model: nn.Module, workers: int, *, tuned: bool) -> Callable[[], None]:
        def run() -> None:
            loader = DataLoader(Files(files, USUAL), BATCH, num_workers=workers, pin_memory=device == "cuda")
            kept[name] = loop(loader, model, place / "usual.h5", device, tuned=tuned)

        return run

    trials = {
        str(workers): usual("trial", tuned, workers, tuned=True)
        for workers in (0, 1, 2, *((8, 16) if (os.cpu_count() or 1) >= 16 else ()))
    }
    told("best number of workers for the tuned loop")
    tried = speeds(trials, len(files), 2)
    best = max(tried, key=lambda workers: max(tried[workers]))
    work: dict[str, Callable[[], object]] = {
        "bare": bare,
        "facets": ours,
        "facets, bfloat16": halved,
        "usual loop": usual("usual loop", plain, 2, tuned=False),
        "tuned loop": usual("tuned loop", tuned, int(best), tuned=True),
        "timm": lambda: kept.__setitem__("timm", timm_loop(files, weights, place / "timm.h5", device)),
    }
    for function in work.values():  # parity, and caches warm
        function()
    parity = {name: cosine(kept["usual loop"], kept[name]) for name in work}
    assert min(parity.values()) >= 0.9999, f"features differ: {parity}"
    parity["tuned loop, workers"] = float(best)
    return speeds(work, len(files), rounds), parity


class Stub(nn.Module):
    """A network that costs nothing: what is left is the feeder."""

    def forward(self, images: Tensor) -> Tensor:
        """Returns twelve pixels."""
        return images[:, :, :2, :2].flatten(1)


def stub() -> Backbone:
    """A backbone around the stub."""
    return Backbone("stub", "none", "0" * 64, ("nothing",), SIZE, (0.5,) * 3, (0.5,) * 3, 12, module=Stub())


def feeders(files: list[Path], place: Path, rounds: int) -> dict[str, list[float]]:
    """Batches of pixels in memory, without any network."""
    clips = clips_of(files * 8, place / "feeder", 512) if len(files) < 4000 else []
    store = stores.create(place / "feeder-store", stub().feature_spec())
    pending = look(clips, store).pending
    threads = os.cpu_count() or 1

    def ours() -> None:
        batches = feed(
            pending,
            image_size=SIZE,
            interpolation="bilinear-antialias",
            batch_size=BATCH,
            threads=threads,
            pad=BATCH,
            pinned=False,
            spent=Spent(),
        )
        assert sum(batch.rows for batch in batches) == len(files) * 8

    def usual() -> None:
        loader = DataLoader(Files(files * 8, USUAL), BATCH, num_workers=2)
        assert sum(len(batch) for batch in loader) == len(files) * 8

    return speeds({"facets": ours, "DataLoader, 2 workers": usual}, len(files) * 8, rounds)


def extract_stub(folder: Path, store: Path) -> None:
    """In a process of its own: extracts a tree with the stub, prints seconds and peak memory."""
    clips = [
        Crops(place.name, CropFrames(place, np.ones(sum(1 for _ in place.iterdir()), np.bool_)))
        for place in sorted(folder.iterdir())
    ]
    opened = stores.create(store, stub().feature_spec())
    began = time.perf_counter()
    report = extract_clips(clips, stub(), opened, batch_size=BATCH)
    seconds = time.perf_counter() - began
    # Not ru_maxrss: a child inherits the peak of the process that it was forked from.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(json.dumps({"seconds": seconds, "peak_MB": int(peak.split()[1]) / 1024, "images": report.images}))


def flatness(files: list[Path], place: Path, many: int) -> dict[str, float]:
    """Peak memory for few and many crops, and what a second run over unchanged crops costs."""
    found = {}
    for name, count in (("few", many // 10), ("many", many)):
        clips_of((files * (-(-count // len(files))))[:count], place / name, 1000)
        command = [sys.executable, __file__, "--child", str(place / name), str(place / f"{name}-store")]
        for turn in ("first", "second"):
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            result = json.loads(run.stdout.splitlines()[-1])
            found[f"{name}, {turn} run: seconds"] = round(result["seconds"], 3)
            found[f"{name}, {turn} run: peak MB"] = round(result["peak_MB"], 1)
            told(f"  {name} ({count}), {turn} run: {result}")
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flat", type=int, default=20_000, help="crops of the memory test")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        extract_stub(*chosen.child)
        return
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="facets-bench-") as folder:
        place = Path(folder)
        told("drawing faces")
        files = draw(place, chosen.crops)
        told("end to end")
        whole, parity = end_to_end(files, place, chosen.rounds, chosen.device, compiled=chosen.compile)
        told("feeders")
        fed = feeders(files, place, chosen.rounds)
        told("memory and second run")
        flat = flatness(files, place, chosen.flat)
    rate = statistics.median(whole["facets"])
    first = chosen.flat / rate
    results = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if chosen.device == "cuda" else "cpu",
            "load_after": os.getloadavg()[0],
        },
        "crops_per_second": {name: [round(s, 1) for s in each] for name, each in whole.items()},
        "feeder_crops_per_second": {name: [round(s) for s in each] for name, each in fed.items()},
        "parity_cosine": parity,
        "flat": flat,
        "seconds": round(time.perf_counter() - began),
        "ratios": {
            "facets / bare": ratio(whole, "facets", "bare"),
            "facets / usual loop": ratio(whole, "facets", "usual loop"),
            "facets / tuned loop": ratio(whole, "facets", "tuned loop"),
            "facets / timm": ratio(whole, "facets", "timm"),
            "facets in bfloat16 / tuned loop in float32": ratio(whole, "facets, bfloat16", "tuned loop"),
            "feeder / DataLoader": ratio(fed, "facets", "DataLoader, 2 workers"),
            "peak memory, ten times the crops": round(
                flat["many, first run: peak MB"] / flat["few, first run: peak MB"], 3
            ),
            f"second run / first of {chosen.flat} crops at the rate above": round(
                flat["many, second run: seconds"] / first, 5
            ),
        },
    }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
