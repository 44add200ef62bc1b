from dataclasses import replace

import pytest
import torch
from torch import nn

from temporal.models import initialise
from temporal.models.network import build
from temporal.settings import ATTENTIONS, MODELS, Training

SIZES = {"V": 1, "A": 1, "AU": 3, "EXPR": 4}
TINY = Training(channels=8, levels=2, kernel_size=3, projection=4, attention_heads=2)


def network(model, kind, sizes=SIZES, *, attention=True, seed=0):
    built = build({"face": 6}, sizes, replace(TINY, model=model, attention=kind), attention=attention)
    initialise(built, seed)
    return built


every = pytest.mark.parametrize(("model", "kind"), [(m, k) for m in MODELS for k in ATTENTIONS])


@every
def test_parts_start_from_the_seed_and_their_own_name(model, kind):
    whole, other = network(model, kind), network(model, kind, seed=1)
    for small in (
        network(model, kind, {"A": 1}, attention=False),
        network(model, kind, {"AU": 3, "EXPR": 4}),
    ):
        for name, parameter in small.named_parameters():
            assert torch.equal(parameter, whole.get_parameter(name)), name
            constant = bool((parameter == parameter.flatten()[0]).all())  # biases and norms
            assert torch.equal(parameter, other.get_parameter(name)) == constant, name


@every
def test_parameters_are_named_by_model_and_part(model, kind):
    names = {name.split(".")[0] for name in network(model, kind).state_dict()}
    assert names == {"projection", model, "attention", "heads"}


def test_a_part_whose_parameters_would_not_follow_from_the_seed_is_refused():
    built = network("tcn", "scalar")
    built.heads.linear["V"] = nn.PReLU()
    with pytest.raises(
        TypeError, match=r"PReLU \(heads.linear.V\) has parameters: give it a method initialise"
    ):
        initialise(built, 0)
