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
from temporal.data.bank import Split, Stream
from temporal.data.scaling import Standardisers, centred
from temporal.data.windows import cut
from temporal.inference import frames
from temporal.models import Network
from temporal.settings import Run, Training


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """One network and what belongs to it.

    Attributes:
        network: has heads for the tasks of ``run`` alone.
        standardisers: per stream, what maps features to the inputs of the network, by statistics of the
            training features.
        feature_specs: per stream, the features that it was trained on; others are refused.
        label_spec: names of its outputs.
        run: what was trained.
        training: window length and hop for prediction, and the architecture.
        thresholds: probability from which each AU is on.
    """

    network: Network
    standardisers: Standardisers
    feature_specs: Mapping[str, FeatureSpec]
    label_spec: LabelSpec
    run: Run
    training: Training
    thresholds: Mapping[str, tuple[float, ...]]

    def check(self, specs: FeatureSpec | Mapping[str, FeatureSpec]) -> None:
        """Makes sure that features made by ``specs``, of each stream or of the only one, fit this model.

        Raises:
            SpecMismatch: they do not; the message names both values of every field that differs.
        """
        given = specs if isinstance(specs, Mapping) else dict.fromkeys(self.feature_specs, specs)
        for stream, spec in self.feature_specs.items():
            if stream not in given:
                msg = f"model {self.run.name} reads the stream {stream!r}, of which there are no features"
                raise SpecMismatch(msg)
            different = differences(spec, given[stream])
            if different:
                fields = "; ".join(
                    f"{name}: model {ours!r}, features {theirs!r}"
                    for name, (ours, theirs) in different.items()
                )
                msg = f"model {self.run.name} was trained on other features ({fields}): use those of its spec"
                raise SpecMismatch(msg)

    def predict(
        self,
        features: ArrayLike | Mapping[str, ArrayLike],
        valid: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        static: bool = False,
    ) -> dict[str, NDArray[np.float32]]:
        """Predicts every frame of one clip, given whole: ``training.centre`` takes its mean as in training.

        Args:
            features: (T, D) float16 or float32, dense: row i is frame i; per stream if there are several.
            valid: (T,) bool, False where the crop is missing; by default all True. Such frames are predicted
                from the frames around them. Per stream if features are.
            static: the rows are independent images: each is predicted from itself alone.

        Returns:
            Per task of the run: (T,) values for V and A, (T, K) probabilities for AU and EXPR.

        Raises:
            ConfigError: wrong shapes, a stream missing, no frame, or a valid row that is not finite.
        """
        device = next(self.network.parameters()).device
        names = tuple(self.feature_specs)
        given = features if isinstance(features, Mapping) else dict.fromkeys(names[:1], features)
        flags = valid if isinstance(valid, Mapping) else dict.fromkeys(given, valid)
        if set(given) != set(names):
            msg = f"features of {sorted(given)}, model {self.run.name} reads the streams {list(names)}"
            raise ConfigError(msg)
        streams = {name: self._stream(name, given[name], flags.get(name), device) for name in names}
        lengths = {name: len(stream.valid) for name, stream in streams.items()}
        if len(set(lengths.values())) > 1:
            msg = f"streams have different numbers of frames: {lengths}"
            raise ConfigError(msg)
        split = Split(("",), (0, lengths[names[0]]), streams, {}, frozenset({0} if static else ()))
        if self.training.centre:
            split = centred(split)

        def forward(batch: Mapping[str, Tensor], mask: Tensor | None) -> dict[str, Tensor]:
            return {task: logits.unsqueeze(0) for task, logits in self.network(batch, mask).items()}

        windows = cut(split.offsets, self.training.window, self.training.hop, split.static)
        standardise = {name: self.standardisers[name].to(device) for name in names}
        values = frames.predict(forward, split, windows, standardise, self.training.batch_size)
        return {task: frames.as_labels(task, value[0].cpu().numpy()) for task, value in values.items()}

    def _stream(
        self, name: str, features: ArrayLike, valid: ArrayLike | None, device: torch.device
    ) -> Stream:
        """Returns one stream of a clip, checked."""
        x = np.asarray(features)
        dim = self.feature_specs[name].dim
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
        rows = torch.from_numpy(np.where(real[:, None], x, 0).astype(np.float32)).to(device)
        return Stream(rows, torch.from_numpy(real).to(device))
