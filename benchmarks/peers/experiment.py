"""What every contender trains: settings, rows of the table, stores of random walks, and their minibatches.

Not who trains it: facets, the loop over pytorch-tcn models, LibMTL.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from store_specs import feature_spec, label_spec
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import stores
import temporal
from temporal.data.bank import Bank, Split
from temporal.data.scaling import Standardisers
from temporal.data.scaling import statistics as feature_statistics
from temporal.data.windows import Windows, batches, cut, epoch_order
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.targets import Targets, gather_targets

SIZES = {
    "demo": Training(window=64, hop=48, channels=64, projection=64, patience=0),
    "seed": Training(window=300, hop=200, channels=128, projection=0, patience=0),
}


def all_rows() -> list[Run]:
    """Returns the 26 rows: the fifteen subsets, eleven of them also with attention."""
    subsets = [tasks for size in range(1, 5) for tasks in itertools.combinations(TASKS, size)]
    return [
        Run(tasks, attention=attention)
        for tasks in subsets
        for attention in (False, True)
        if not (attention and len(tasks) == 1)
    ]


def some_rows(count: int) -> list[Run]:
    """Returns ``count`` of the 26 rows, spread over them evenly; more than 26 are further seeds."""
    rows = all_rows()
    if count >= len(rows):
        return [replace(rows[i % len(rows)], seed=i // len(rows)) for i in range(count)]
    return [rows[round(i * (len(rows) - 1) / max(count - 1, 1))] for i in range(count)]


def made(folder: Path, frames: int, dim: int) -> None:
    """Writes stores of random walks seen through a linear map, with all labels, 4/5 for training."""
    random, mixing = np.random.default_rng(0), np.random.default_rng(1).normal(size=(21, dim))
    features = stores.create(folder / "features", feature_spec(dim))
    labels = stores.create(folder / "labels", label_spec())
    for split, total in (("train", frames), ("validation", frames // 4)):
        number, left = 0, total
        while left > 0:
            length = min(left, int(random.integers(300, 1500)))
            latent = np.cumsum(random.normal(size=(length, 21)), 0)
            latent = (latent - latent.mean(0)) / (latent.std(0) + 1e-3)
            seen = latent @ mixing + random.normal(size=(length, dim))
            valid = random.random(length) > 0.02
            rows = np.where(valid[:, None], seen, 0.0).astype(np.float16)
            values = {"features": rows, "frame": np.arange(length, dtype=np.int32), "valid": valid}
            clip = f"{split}{number:04}"
            features.write(clip, values)
            valence, arousal = np.tanh(latent[:, :2]).T.astype(np.float32)
            truth = {
                "valence": valence,
                "arousal": arousal,
                "expression": latent[:, 2:9].argmax(1).astype(np.int8),
                "au": (latent[:, 9:] > 0.5).astype(np.int8),
            }
            labels.write(clip, truth, {"split": split, "fps": 30.0, "subject": clip, "corpus": "random"})
            number, left = number + 1, left - length


@dataclass(frozen=True)
class Data:
    """What every contender trains on: the stores, and what a loop may keep in memory beside them."""

    folder: Path
    bank: Bank
    standardise: Standardisers


def opened(features: Path, labels: Path, device: str = "cpu") -> Data:
    """Opens stores; the bank lies on ``device``."""
    bank = temporal.load_bank(stores.open(features), stores.open(labels), device=device)
    return Data(features, bank, {"face": feature_statistics(bank.train, "face")})


def sizes_of(data: Data, tasks: Sequence[str]) -> dict[str, int]:
    """Returns the outputs of each task."""
    return {task: TASKS[task].size(data.bank.label_spec) for task in tasks}


class WindowsInFiles(Dataset):
    """Windows read with h5py from the files of clips, a minibatch per call; handles stay open."""

    def __init__(self, folder: Path, split: Split, windows: Windows) -> None:
        self.paths = [str(next((folder / "clips").glob(f"{clip}.h*5"))) for clip in split.clips]
        clip = np.searchsorted(split.offsets, windows.start, side="right") - 1
        first = windows.start - np.asarray(split.offsets)[clip]
        self.places = list(zip(clip.tolist(), first.tolist(), windows.frames.tolist(), strict=True))
        self.files: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, chosen: Sequence[int]) -> tuple[list[int], Tensor]:
        longest = max(self.places[index][2] for index in chosen)
        batch: np.ndarray | None = None
        for row, index in enumerate(chosen):
            clip, start, frames = self.places[index]
            if clip not in self.files:
                self.files[clip] = h5py.File(self.paths[clip], "r")["features"]
            values = self.files[clip][start : start + frames]
            if batch is None:
                batch = np.zeros((len(chosen), longest, values.shape[1]), values.dtype)
            batch[row, :frames] = values
        return list(chosen), torch.from_numpy(batch)


class Order:
    """The minibatches of an epoch, the same for every contender; the epoch is set from outside."""

    def __init__(self, count: int, training: Training) -> None:
        self.count, self.training, self.epoch = count, training, 1

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(self.count, self.training.data_seed, self.epoch)
        return (chosen.tolist() for chosen in batches(order, self.training.batch_size))

    def __len__(self) -> int:
        return math.ceil(self.count / self.training.batch_size)


class Loader:
    """A DataLoader over h5py, labels and statistics from memory; worker processes outlive epochs and runs."""

    def __init__(self, data: Data, training: Training, workers: int) -> None:
        self.data, self.training = data, training
        split = data.bank.train
        self.windows = cut(split.offsets, training.window, training.hop)
        self.order = Order(len(self.windows), training)
        self.loader = DataLoader(
            WindowsInFiles(data.folder, split, self.windows),
            batch_sampler=self.order,  # type: ignore[arg-type]
            collate_fn=lambda batch: batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="fork" if workers else None,
            pin_memory=split.device.type == "cuda",
        )

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, tasks: Sequence[str]) -> Iterator[tuple[Tensor, Targets]]:
        """Yields standardised features (B, T, D) and targets."""
        self.order.epoch = number
        split = self.data.bank.train
        for chosen, stored in self.loader:
            index = np.asarray(chosen)
            frames, steps = self.windows.frames[index], np.arange(stored.shape[1])[None]
            within = np.minimum(steps, frames[:, None] - 1)
            rows = torch.from_numpy(self.windows.start[index][:, None] + within).to(split.device)
            usable = split.valid[rows] & torch.from_numpy(steps < frames[:, None]).to(split.device)
            yield (
                self.data.standardise["face"](stored.to(split.device, non_blocking=True), usable),
                gather_targets(split, rows, usable, dict.fromkeys(tasks)),
            )
