"""The four tasks (V, A, AU, EXPR), one frozen specification each, and the names of their combinations."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stores import LabelSpec
from stores.errors import ConfigError

Task = Literal["V", "A", "AU", "EXPR"]
Activation = Literal["linear", "sigmoid", "softmax"]
Loss = Literal["ccc", "binary", "categorical"]
Metric = Literal["ccc", "binary", "categorical"]
MaskRule = Literal["finite", "non-negative"]

ATTENTION_TAG = "Attn"
FACE = "face"
"""The stream that a feature store is where nobody says its name."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What one task predicts and how that is trained, scored and masked.

    Attributes:
        name: column and combination name.
        array: array of the label store.
        names: field of ``LabelSpec`` that lists the outputs, or None for a single unnamed output.
        activation: from logits to predictions: values, independent probabilities, or a distribution.
        loss: 1 - CCC, binary cross-entropy per cell, or cross-entropy over classes.
        metric: CCC, or F1 and accuracy of binary cells, or of classes.
        mask_rule: which label values are known: finite numbers (unknown = NaN), or those >= 0 (unknown = -1).
    """

    name: str
    array: str
    names: Literal["au_names", "expression_names"] | None
    activation: Activation
    loss: Loss
    metric: Metric
    mask_rule: MaskRule

    def output_names(self, labels: LabelSpec) -> tuple[str, ...]:
        """Returns the name of each output: AU or class names, or the task's own name."""
        return (self.name,) if self.names is None else tuple(getattr(labels, self.names))

    def size(self, labels: LabelSpec) -> int:
        """Returns the number of outputs per frame."""
        return len(self.output_names(labels))


TASKS: dict[str, TaskSpec] = {
    "V": TaskSpec("V", "valence", None, "linear", "ccc", "ccc", "finite"),
    "A": TaskSpec("A", "arousal", None, "linear", "ccc", "ccc", "finite"),
    "AU": TaskSpec("AU", "au", "au_names", "sigmoid", "binary", "binary", "non-negative"),
    "EXPR": TaskSpec(
        "EXPR", "expression", "expression_names", "softmax", "categorical", "categorical", "non-negative"
    ),
}
"""Every task in canonical order."""


def canonical(names: Iterable[str]) -> tuple[str, ...]:
    """Returns ``names`` in canonical order.

    Raises:
        ConfigError: no task, an unknown task, or a task named twice.
    """
    given = list(names)
    unknown = [name for name in given if name not in TASKS]
    if unknown or not given or len(set(given)) != len(given):
        msg = f"tasks {given}: expected a non-empty subset of {list(TASKS)}, each at most once"
        raise ConfigError(msg)
    return tuple(name for name in TASKS if name in given)


def combination_name(tasks: Iterable[str], *, attention: bool) -> str:
    """Returns the row name, such as ``A+AU`` or, with multi-task attention, ``A+AU+Attn``."""
    return "+".join([*canonical(tasks), *([ATTENTION_TAG] if attention else [])])


def parse_combination(name: str) -> tuple[tuple[str, ...], bool]:
    """Returns the tasks and the attention flag of a row name; the inverse of ``combination_name``.

    Raises:
        ConfigError: a part is no task, or no task is named.
    """
    parts = name.split("+")
    attention = parts[-1] == ATTENTION_TAG
    try:
        return canonical(parts[:-1] if attention else parts), attention
    except ConfigError as error:
        error.add_note(f"in the combination {name!r} (written like 'A+AU' or 'A+AU+{ATTENTION_TAG}')")
        raise
