"""A trained model ready to use: its network with everything needed to feed it and to read its outputs.

It holds no optimiser, so training cannot go on from it. ``temporal.inference.checkpoint`` has its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stores import FeatureSpec, LabelSpec, Store, differences
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
        self, features: Store | Mapping[str, Store], clip: str, *, static: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Predicts every frame of a clip of a feature store, as the run that trained this model would.

        Args:
            features: the feature store; one for each stream if the model reads several.
            clip: id of the clip.
            static: its rows are independent images, which the record of the *label* store knows.

        Returns:
            As ``predict_arrays``.

        Raises:
            SpecMismatch: the store holds something else than features of the model's specification.
            StoreError: it does not have the clip, or the clip is damaged.
            ConfigError: a stream has no store, or the streams have different numbers of frames.
        """
        given = features if isinstance(features, Mapping) else {self._only(): features}
        specs: dict[str, FeatureSpec] = {}
        for name, store in given.items():
            if not isinstance(store.spec, FeatureSpec):
                msg = f"{store.path} holds {store.spec.kind}: expected the features of stream {name}"
                raise SpecMismatch(msg)
            specs[name] = store.spec
        self.check(specs)
        x, valid = (
            {name: given[name].read(clip, array) for name in self.feature_specs}
            for array in ("features", "valid")
        )
        return self.predict_arrays(x, valid, static=static)

    def predict_arrays(
        self,
        features: ArrayLike | Mapping[str, ArrayLike],
        valid: ArrayLike | Mapping[str, ArrayLike],
        *,
        spec: FeatureSpec | Mapping[str, FeatureSpec] | None = None,
        static: bool = False,
    ) -> dict[str, NDArray[np.float32]]:
        """Predicts every frame of one clip, given whole: ``training.centre`` takes its mean as in training.

        Args:
            features: (T, D) float16 or float32, dense: row i is frame i; per stream if there are several.
            valid: (T,) bool, False if the crop is missing; per stream if features are. The network never saw
                such rows in training: they are predicted from the frames around them.
            spec: what made the features, if known: network, weights and crop recipe are then checked too.
            static: the rows are independent images: each is predicted from itself alone.

        Returns:
            Per task of the run: (T,) values for V and A, (T, K) probabilities for AU and EXPR.

        Raises:
            ConfigError: wrong shapes, a stream missing, no frame, or a valid row that is not finite.
            SpecMismatch: ``spec`` is not what the model was trained on.
        """
        if spec is not None:
            self.check(spec)
        device = next(self.network.parameters()).device
        names = tuple(self.feature_specs)
        given = features if isinstance(features, Mapping) else {self._only(): features}
        flags = valid if isinstance(valid, Mapping) else {self._only(): valid}
        for what, found in {"features": given, "valid": flags}.items():
            if set(found) != set(names):
                msg = f"{what} of {sorted(found)}, model {self.run.name} reads the streams {list(names)}"
                raise ConfigError(msg)
        streams = {name: self._stream(name, given[name], flags[name], device) for name in names}
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

    def __repr__(self) -> str:
        streams = ", ".join(f"{name} ({spec.dim})" for name, spec in self.feature_specs.items())
        shape = f"{self.training.model}, window {self.training.window}"
        return f"<TrainedModel {self.run.name}, seed {self.run.seed}: {shape}, reads {streams}>"

    def _only(self) -> str:
        """Returns the name of the only stream; several must be given by name."""
        if len(self.feature_specs) > 1:
            msg = f"model {self.run.name} reads {list(self.feature_specs)}: give one of each by name"
            raise ConfigError(msg)
        return next(iter(self.feature_specs))

    def _stream(self, name: str, features: ArrayLike, valid: ArrayLike, device: torch.device) -> Stream:
        """Returns one stream of a clip, checked."""
        x = np.asarray(features)
        dim = self.feature_specs[name].dim
        if x.ndim != 2 or x.shape[1] != dim or len(x) == 0:
            msg = f"features have shape {x.shape}, model {self.run.name} expects (T, {dim}) with T >= 1"
            raise ConfigError(msg)
        real = np.asarray(valid, dtype=bool)
        if real.shape != (len(x),):
            msg = f"valid has shape {real.shape}, expected ({len(x)},): one flag per frame"
            raise ConfigError(msg)
        broken = np.flatnonzero(real & ~np.isfinite(x).all(1))
        if broken.size:
            msg = f"features of {broken.size} valid frames are not finite, the first at frame {broken[0]}"
            raise ConfigError(msg)
        rows = torch.from_numpy(np.where(real[:, None], x, 0).astype(np.float32)).to(device)
        return Stream(rows, torch.from_numpy(real).to(device))
