"""A trained model ready to use: its network with everything needed to feed it and to read its outputs.

Not a training state: there is no optimiser to resume from. Files are written and read by
``temporal.inference.checkpoint``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stores import FeatureSpec, LabelSpec, differences
from stores.errors import ConfigError, SpecMismatch
from temporal.data.bank import Split, Standardiser, centred
from temporal.data.windows import cut
from temporal.inference import frames
from temporal.models import Network
from temporal.settings import Run, Training


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """One network and what belongs to it.

    Attributes:
        network: has heads for the tasks of ``run`` alone.
        standardiser: what maps features to the inputs of the network, by statistics of the training features.
        feature_spec: features it was trained on; others are refused.
        label_spec: names of its outputs.
        run: what was trained.
        training: window length and hop for prediction, and the architecture.
        thresholds: probability from which each AU is on.
    """

    network: Network
    standardiser: Standardiser
    feature_spec: FeatureSpec
    label_spec: LabelSpec
    run: Run
    training: Training
    thresholds: Mapping[str, tuple[float, ...]]

    def check(self, spec: FeatureSpec) -> None:
        """Makes sure that features made by ``spec`` fit this model.

        Raises:
            SpecMismatch: they do not; the message names both values of every field that differs.
        """
        different = differences(self.feature_spec, spec)
        if different:
            fields = "; ".join(
                f"{name}: model {ours!r}, features {theirs!r}" for name, (ours, theirs) in different.items()
            )
            msg = f"model {self.run.name} was trained on other features ({fields}): use features of its spec"
            raise SpecMismatch(msg)

    def predict(
        self, features: ArrayLike, valid: ArrayLike | None = None, *, static: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Predicts every frame of one clip, given whole: ``training.centre`` takes its mean as in training.

        Args:
            features: (T, D) float16 or float32, dense: row i is frame i.
            valid: (T,) bool, False where the crop is missing; by default all True. Such frames are predicted
                from the frames around them.
            static: the rows are independent images: each is predicted from itself alone.

        Returns:
            Per task of the run: (T,) values for V and A, (T, K) probabilities for AU and EXPR.

        Raises:
            ConfigError: wrong shapes, no frame, or a valid row that is not finite.
        """
        x = np.asarray(features)
        dim = self.feature_spec.dim
        if x.ndim != 2 or x.shape[1] != dim or len(x) == 0:
            msg = f"features have shape {x.shape}, model {self.run.name} expects (T, {dim}) with T >= 1"
            raise ConfigError(msg)
        real = np.ones(len(x), dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
        if real.shape != (len(x),):
            msg = f"valid has shape {real.shape}, expected ({len(x)},): one flag per frame"
            raise ConfigError(msg)
        broken = np.flatnonzero(real & ~np.isfinite(x).all(1))
        if broken.size:
            msg = f"features of {broken.size} valid frames are not finite, the first at frame {broken[0]}"
            raise ConfigError(msg)
        device = next(self.network.parameters()).device
        rows = torch.from_numpy(np.where(real[:, None], x, 0).astype(np.float32)).to(device)
        split = Split(
            ("",), (0, len(x)), rows, torch.from_numpy(real).to(device), {}, frozenset({0} if static else ())
        )
        if self.training.centre:
            split = centred(split)

        def forward(batch: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
            return {task: logits.unsqueeze(0) for task, logits in self.network(batch, mask).items()}

        windows = cut(split.offsets, self.training.window, self.training.hop, split.static)
        standardise = self.standardiser.to(device)
        values = frames.predict(forward, split, windows, standardise, self.training.batch_size)
        return {task: frames.as_labels(task, value[0].cpu().numpy()) for task, value in values.items()}
