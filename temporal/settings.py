"""What one run is (``Run``) and what all runs of a sweep share (``Training``).

Not the configuration file of an experiment: ``pipeline`` checks that and builds these.
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stores.errors import ConfigError
from temporal.tasks import TASKS, canonical, combination_name

LOSSES: dict[str, dict[str, str]] = {
    "ccc": {"ccc": "temporal.train.losses:ccc"},
    "binary": {
        "bce": "temporal.train.losses:bce",
        "balanced": "temporal.train.losses:balanced_bce",
        "focal": "temporal.train.losses:focal",
    },
    "categorical": {
        "cross_entropy": "temporal.train.losses:cross_entropy",
        "balanced": "temporal.train.losses:balanced_cross_entropy",
    },
}
"""The losses of each kind of task by name, as ``module:function``, imported when a run asks for them.

To add one: a module with a function like those of ``temporal.train.losses`` and one line here.
"""

MODELS: dict[str, str] = {
    "tcn": "temporal.models.tcn:tcn",
    "multiscale_tcn": "temporal.models.multiscale_tcn:multiscale_tcn",
    "bigru": "temporal.models.bigru:bigru",
    "transformer": "temporal.models.transformer:transformer",
    "mlp": "temporal.models.tcn:mlp",
}
"""The sequence models by name, as ``module:function``: input channels and ``Training`` -> ``Trunk``.

To add one: a module with a ``temporal.models.trunk.Trunk`` and such a function, and one line here.
"""

ATTENTIONS: dict[str, str] = {
    "scalar": "temporal.models.gated:scalar",
    "vector": "temporal.models.gated:vector",
    "cross_task": "temporal.models.cross_task:cross_task",
    "hierarchical": "temporal.models.hierarchical:hierarchical",
}
"""The kinds of multi-task attention by name, as ``module:function``: channels of the trunk, outputs of each
task and ``Training`` -> ``TaskAttention``.

To add one: a module with a ``temporal.models.attention.TaskAttention`` and such a function, one line here.
"""


def registered(reference: str) -> Any:
    """Returns the function that a line of ``LOSSES``, ``MODELS`` or ``ATTENTIONS`` names, imported now."""
    module, function = reference.split(":")
    return getattr(importlib.import_module(module), function)


OPTIMIZERS = ("adamw", "adam")
SCHEDULES = ("cosine", "constant", "plateau")
PRECISIONS = ("float32", "tf32", "bfloat16")


def _check(condition: bool, message: str) -> None:  # noqa: FBT001  (reads as an assertion)
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class Run:
    """One combination of tasks, one configuration, one seed.

    Attributes:
        tasks: tasks trained; put into canonical order.
        attention: whether multi-task attention gates the heads.
        seed: decides initial parameters and dropout, nothing else.
        lr: peak learning rate.
        weight_decay: on every parameter; decoupled for ``adamw``, part of the gradient for ``adam``.
        dropout: probability that a channel is dropped, in [0, 1).
        loss_weights: weight of a task's loss; 1 where absent.

    Raises:
        ConfigError: a value outside its range, or an unknown task.
    """

    tasks: tuple[str, ...]
    attention: bool = False
    seed: int = 0
    lr: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1
    loss_weights: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", canonical(self.tasks))
        _check(self.seed >= 0, f"seed {self.seed}: expected >= 0")
        _check(self.lr > 0 and math.isfinite(self.lr), f"lr {self.lr}: expected a positive number")
        _check(0 <= self.weight_decay < math.inf, f"weight_decay {self.weight_decay}: expected a number >= 0")
        _check(0 <= self.dropout < 1, f"dropout {self.dropout}: expected 0 <= dropout < 1")
        unknown = sorted(set(self.loss_weights) - set(TASKS))
        _check(not unknown, f"loss_weights names {unknown}: expected tasks of {list(TASKS)}")
        wrong = {task: weight for task, weight in self.loss_weights.items() if not 0 <= weight < math.inf}
        _check(not wrong, f"loss_weights {wrong}: expected numbers >= 0")

    @property
    def name(self) -> str:
        """Row name, such as ``A+AU+Attn``."""
        return combination_name(self.tasks, attention=self.attention)


@dataclass(frozen=True, slots=True)
class Training:
    """What every run of a sweep shares: windows, schedule, architecture, form of the losses.

    Attributes:
        window: frames per window.
        hop: frames between window starts, at most ``window``.
        batch_size: windows per step.
        epochs: most epochs of a run; also the length of the learning-rate schedule.
        patience: epochs without a better score after which a run stops; 0 = never.
        optimizer: ``adamw`` (Loshchilov and Hutter 2019) or ``adam`` (Kingma and Ba 2015).
        schedule: of the learning rate after the warm-up: ``cosine`` decay to 0, ``constant``, or ``plateau``:
            each run's rate is cut when its own validation score stops rising.
        warmup: share of the schedule with a rising learning rate.
        plateau_patience: epochs without a better score before the rate is cut.
        plateau_factor: what the rate is multiplied by then.
        plateau_min_lr: where cutting ends.
        clip_norm: largest gradient norm of a replica; 0 = no clipping.
        model: the sequence model, one of ``MODELS``.
        causal: no frame sees a later one; a bigru then has its forward direction alone.
        channels: channels of every level of the model; a bigru halves them between its directions.
        levels: depth of the model: TCN levels with dilation 1, 2, 4, ..., or layers.
        kernel_size: TCN taps; multi-scale: of the middle branch. The other models have none.
        projection: channels of a linear layer before the model, 0 = none.
        attention: the kind of multi-task attention, one of ``ATTENTIONS``, of the runs that have attention.
        attention_heads: heads of a transformer, and of cross-task attention.
        standardise: features are centred and scaled by the statistics of the valid training frames.
        centre: the mean of each clip's valid frames is subtracted from its features first. A prediction then
            depends on the whole clip, future included, whatever ``causal`` says.
        pca: features are projected on so many principal axes of the valid training frames, 0 = not.
        data_seed: decides the order of windows, the same for all runs.
        precision: of the products in a training step: ``float32``, ``tf32`` (CUDA), or ``bfloat16``, faster
            where the processor has it. Evaluation is float32 always.
        compile: the step's forward and backward are compiled by ``torch.compile`` when training begins, and
            again whenever replicas leave the stack, which takes up to a minute each time; on CUDA they are
            replayed as CUDA graphs. Sums round differently.
        au_loss: ``bce``; ``balanced`` = BCE with positives weighted by negatives / positives of the training
            labels, at most ``au_pos_weight_max``; ``focal`` = focal loss (Lin et al. 2017).
        au_focal_gamma: focusing exponent of the focal loss.
        au_focal_alpha: weight of positive cells in the focal loss, 1 - alpha on negative cells.
        au_pos_weight_max: cap of the positive weight of ``balanced``.
        expr_loss: ``cross_entropy``, or ``balanced`` = classes weighted by their inverse training frequency.

    The focal defaults, gamma 1 and alpha 0.95, are those of the seed TCN project (Chrisa142857/ABAW2).

    Raises:
        ConfigError: a value outside its range.
    """

    window: int = 300
    hop: int = 200
    batch_size: int = 8
    epochs: int = 40
    patience: int = 10
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.05
    plateau_patience: int = 5
    plateau_factor: float = 0.1
    plateau_min_lr: float = 1e-6
    clip_norm: float = 1.0
    model: str = "tcn"
    causal: bool = True
    channels: int = 128
    levels: int = 4
    kernel_size: int = 5
    projection: int = 0
    attention: str = "scalar"
    attention_heads: int = 4
    standardise: bool = True
    centre: bool = False
    pca: int = 0
    data_seed: int = 0
    precision: str = "float32"
    compile: bool = False
    au_loss: str = "bce"
    au_focal_gamma: float = 1.0
    au_focal_alpha: float = 0.95
    au_pos_weight_max: float = 20.0
    expr_loss: str = "cross_entropy"

    def __post_init__(self) -> None:
        for name in (
            *("window", "hop", "batch_size", "epochs", "channels", "levels", "kernel_size"), "attention_heads"
        ):  # fmt: skip
            value = getattr(self, name)
            _check(value >= 1, f"{name} {value}: expected >= 1")
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            _check(value in known, f"{name} {value!r}: expected one of {', '.join(known)}")
        _check(0 < self.plateau_factor < 1, f"plateau_factor {self.plateau_factor}: expected 0 < factor < 1")
        for name in (
            "plateau_patience",
            "plateau_min_lr",
            "patience",
            "projection",
            "pca",
            "data_seed",
            "clip_norm",
            "au_focal_gamma",
        ):
            value = getattr(self, name)
            _check(value >= 0, f"{name} {value}: expected >= 0")
        _check(
            self.hop <= self.window,
            f"hop {self.hop} > window {self.window} would leave frames out: lower hop",
        )
        _check(0 <= self.warmup <= 1, f"warmup {self.warmup}: expected 0 <= warmup <= 1")
        _check(
            0 <= self.au_focal_alpha <= 1, f"au_focal_alpha {self.au_focal_alpha}: expected 0 <= alpha <= 1"
        )
        _check(self.au_pos_weight_max > 0, f"au_pos_weight_max {self.au_pos_weight_max}: expected > 0")
        for name, kind in (("au_loss", "binary"), ("expr_loss", "categorical")):
            value = getattr(self, name)
            _check(value in LOSSES[kind], f"{name} {value!r}: expected one of {', '.join(LOSSES[kind])}")
        for name, registry in (("model", MODELS), ("attention", ATTENTIONS)):
            value = getattr(self, name)
            _check(value in registry, f"{name} {value!r}: expected one of {', '.join(registry)}")
        _check(
            self.causal or self.kernel_size % 2 == 1,
            f"kernel_size {self.kernel_size} cannot be centred: give an odd kernel_size or causal: true",
        )
        channels, heads = self.channels, self.attention_heads
        _check(
            self.model != "multiscale_tcn" or (self.kernel_size >= 3 and channels >= 3),
            f"kernel_size {self.kernel_size}, channels {channels}: a multiscale_tcn needs 3 of each or more",
        )
        _check(
            self.model != "bigru" or self.causal or channels % 2 == 0,
            f"channels {channels}: a centred bigru halves them between its directions, give an even number",
        )
        _check(
            self.model != "transformer" or channels % (2 * heads) == 0,
            f"channels {channels}, attention_heads {heads}: a transformer needs a multiple of {2 * heads}",
        )
        _check(
            self.attention != "cross_task" or channels % heads == 0,
            f"channels {channels}, attention_heads {heads}: cross_task needs a multiple of {heads}",
        )

    def loss_name(self, kind: str) -> str:
        """Returns which of ``LOSSES[kind]`` the tasks of a kind are trained by."""
        return {"binary": self.au_loss, "categorical": self.expr_loss}.get(kind, kind)
