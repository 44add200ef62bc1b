"""The section ``training``: what every run of the sweep shares.

Not where a setting takes effect: that, and what each means, is ``temporal.settings``.
"""

from dataclasses import fields
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.config.section import Device, NonNegativeFloat, PositiveFloat, Section, Seed, Task, known
from stores.errors import ConfigError
from temporal.settings import ATTENTIONS, LOSSES, MODELS
from temporal.settings import Training as SharedSettings


class Training(Section):
    """What every run of the sweep shares; the meaning of each setting is told in ``temporal.settings``."""

    window: PositiveInt = 300
    hop: PositiveInt = 200
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 40
    patience: NonNegativeInt = 10
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    plateau_patience: NonNegativeInt = 5
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_min_lr: NonNegativeFloat = 1e-6
    clip_norm: NonNegativeFloat = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    loss_weights: dict[Task, NonNegativeFloat] = Field(default_factory=dict)
    au_loss: Annotated[str, AfterValidator(partial(known, "loss", LOSSES["binary"]))] = "bce"
    au_focal_gamma: NonNegativeFloat = 1.0
    au_focal_alpha: Annotated[float, Field(ge=0, le=1)] = 0.95
    au_pos_weight_max: PositiveFloat = 20.0
    expr_loss: Annotated[str, AfterValidator(partial(known, "loss", LOSSES["categorical"]))] = "cross_entropy"
    model: Annotated[str, AfterValidator(partial(known, "model", MODELS))] = "tcn"
    causal: bool = True
    channels: PositiveInt = 128
    levels: PositiveInt = 4
    kernel_size: PositiveInt = 5
    projection: NonNegativeInt = 0
    attention: Annotated[str, AfterValidator(partial(known, "attention", ATTENTIONS))] = "scalar"
    attention_heads: PositiveInt = 4
    standardise: bool = True
    centre: bool = False
    pca: NonNegativeInt = 0
    data_seed: Seed = 0
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    compile: bool = False
    device: Device = "auto"
    bank: Literal["auto", "device", "host", "store"] = "auto"
    """Where the features are while runs train; changes memory and speed alone."""
    max_replicas: Literal["auto"] | PositiveInt = "auto"
    """Runs trained together; changes memory and speed, and results by rounding alone."""

    @model_validator(mode="after")
    def check_hop(self) -> Self:
        """Windows must cover every frame."""
        if self.hop > self.window:
            msg = f"hop {self.hop} is longer than window {self.window}: the frames between are lost"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """What the temporal stage would refuse is refused here, before features are made for it."""
        try:
            SharedSettings(**{field.name: getattr(self, field.name) for field in fields(SharedSettings)})
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide a result, as JSON values: not where or in what groups."""
        return self.model_dump(mode="json", exclude={"device", "bank", "max_replicas"})
