"""Sequence models: what all of them promise, and parity of each with an independent reference."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stores.errors import ConfigError
from temporal.models import bigru, transformer
from temporal.models.multiscale_tcn import MultiScaleConv1d, MultiScaleTCN
from temporal.models.tcn import TCN, WeightNormConv1d
from temporal.settings import ATTENTIONS, MODELS, Training

TINY = Training(channels=8, levels=2, kernel_size=3, attention_heads=2)
FRAMES = 12

every_model = pytest.mark.parametrize("model", MODELS)
both_ways = pytest.mark.parametrize("causal", [True, False])


def trunk(model, causal=True, channels_in=3):
    torch.manual_seed(0)
    return MODELS[model].load()(channels_in, replace(TINY, model=model, causal=causal))


def windows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@every_model
@both_ways
def test_no_output_before_a_changed_frame_changes_when_causal(model, causal):
    built, x = trunk(model, causal), windows(2, 3, FRAMES)
    later = x.clone()
    later[..., 7] += 1.0
    changed = (built(x) != built(later)).any(1).any(0)
    assert bool(changed[7])
    if causal:
        assert not changed[:7].any()
    elif model != "mlp":
        assert bool(changed[6])


@every_model
@both_ways
@pytest.mark.parametrize("garbage", [1e6, -3.0])
def test_padding_never_reaches_a_frame(model, causal, garbage):
    built, x = trunk(model, causal), windows(2, 3, FRAMES)
    mask = torch.ones(2, FRAMES)
    mask[1, 8:] = 0
    padded = torch.where(mask[:, None] > 0, x, garbage)
    silent = torch.where(mask[:, None] > 0, x, 0.0)
    found = built(padded, mask)
    assert torch.equal(found * mask[:, None], built(silent, mask) * mask[:, None])
    torch.testing.assert_close(found[1:, :, :8], built(x[1:, :, :8]))
    torch.testing.assert_close(found[:1], built(x[:1]))


@every_model
@both_ways
def test_padding_has_exactly_zero_gradient(model, causal):
    built, x = trunk(model, causal), windows(2, 3, FRAMES).requires_grad_()
    mask = torch.ones(2, FRAMES)
    mask[1, 8:] = 0
    (built(x, mask) * mask[:, None]).square().sum().backward()
    assert not x.grad[1, :, 8:].any()
    assert bool(x.grad[1, :, 7].any())


@every_model
def test_windows_of_a_batch_do_not_see_one_another(model):
    built, x = trunk(model, False), windows(3, 3, FRAMES)
    torch.testing.assert_close(built(x)[1:2], built(x[1:2]))


@every_model
def test_a_single_frame_is_a_window(model):
    for causal in (True, False):
        assert trunk(model, causal)(windows(2, 3, 1)).shape == (2, 8, 1)


@every_model
def test_every_set_of_dropout_factors_drops_channels_and_ones_drop_none(model):
    built, x = trunk(model), windows(2, 3, FRAMES)
    layers, width = built.dropout_shape
    ones = torch.ones(layers, 2, width)
    plain = built(x)
    assert torch.equal(built(x, None, ones), plain)
    for layer in range(layers):
        factors = ones.clone()
        factors[layer, 0, ::2] = 0.0
        dropped = built(x, None, factors)
        assert not torch.equal(dropped[0], plain[0])
        assert torch.equal(dropped[1], plain[1])


@every_model
@both_ways
def test_mapped_over_replicas_it_is_each_replica_without_a_slow_loop(model, causal, recwarn):
    replicas = [trunk(model, causal) for _ in range(3)]
    with torch.no_grad():
        for index, replica in enumerate(replicas):
            for parameter in replica.parameters():
                parameter.add_(windows(*parameter.shape, seed=index), alpha=0.1)
    stacked, _ = stack_module_state(replicas)
    x, mask = windows(2, 3, FRAMES), torch.ones(2, FRAMES)
    mask[0, 9:] = 0
    found = torch.vmap(lambda parameters: functional_call(replicas[0], parameters, (x, mask)))(stacked)
    found.square().sum().backward()
    assert not recwarn.list
    for index, replica in enumerate(replicas):
        expected = replica(x, mask)
        torch.testing.assert_close(found[index], expected)
        gradients = torch.autograd.grad(expected.square().sum(), list(replica.parameters()))
        for (name, _), gradient in zip(replica.named_parameters(), gradients, strict=True):
            torch.testing.assert_close(stacked[name].grad[index], gradient, rtol=1e-4, atol=1e-5)


# Multi-scale TCN


@both_ways
@pytest.mark.parametrize(("levels", "kernel"), [(1, 3), (3, 3), (2, 5)])
def test_the_multiscale_impulse_response_spans_exactly_the_receptive_field(causal, levels, kernel):
    tcn = MultiScaleTCN(2, [6] * levels, kernel, causal=causal).double()
    length, middle = 2 * tcn.receptive_field + 1, tcn.receptive_field
    x = windows(1, 2, length).double().requires_grad_()
    (gradient,) = torch.autograd.grad(tcn(x)[..., middle].sum(), x)
    seen = gradient.any(1).squeeze(0).nonzero().squeeze(1)
    last = middle if causal else middle + tcn.receptive_field // 2
    assert seen.tolist() == list(range(last + 1 - tcn.receptive_field, last + 1))


@both_ways
def test_a_multiscale_convolution_equals_its_branches_side_by_side(causal):
    conv, x = MultiScaleConv1d(3, 8, 5, 2, causal=causal), windows(2, 3, FRAMES)
    assert [(b.direction.shape[0], b.direction.shape[2]) for b in conv.branches] == [(3, 3), (3, 5), (2, 7)]
    assert all(isinstance(branch, WeightNormConv1d) for branch in conv.branches)
    torch.testing.assert_close(conv(x), torch.cat([branch(x) for branch in conv.branches], dim=1))


# Per-frame baseline


def test_the_mlp_is_residual_linear_layers_on_each_frame():
    built, x = trunk("mlp"), windows(2, 3, FRAMES)
    assert isinstance(built, TCN)
    assert built.receptive_field == 1
    h = x.transpose(1, 2)
    for block in built.blocks:
        y = h
        for conv in (block.conv1, block.conv2):
            y = F.leaky_relu(F.linear(y, conv.weight().squeeze(2), conv.bias), 0.01)
        skip = h if block.skip is None else F.linear(h, block.skip.weight.squeeze(2), block.skip.bias)
        h = F.leaky_relu(y + skip, 0.01)
    torch.testing.assert_close(built(x), h.transpose(1, 2))


# Recurrent network


def reference_gru(built, causal):
    """Returns ``nn.GRU`` with the weights of ``built``."""
    reference = nn.GRU(
        3, built.layers[0].units, len(built.layers), batch_first=True, bidirectional=not causal
    )
    with torch.no_grad():
        for level, layer in enumerate(built.layers):
            layer.bias.normal_()
            layer.input.bias.normal_()
            for direction in range(layer.directions):
                tail = f"l{level}" + ("_reverse" if direction else "")
                given = slice(direction * 3 * layer.units, (direction + 1) * 3 * layer.units)
                getattr(reference, f"weight_ih_{tail}").copy_(layer.input.weight[given])
                getattr(reference, f"bias_ih_{tail}").copy_(layer.input.bias[given])
                getattr(reference, f"weight_hh_{tail}").copy_(layer.weight[direction])
                bias = torch.cat([torch.zeros(2 * layer.units), layer.bias[direction]])
                getattr(reference, f"bias_hh_{tail}").copy_(bias)
    return reference


@both_ways
def test_the_gru_equals_torch(causal):
    built, x = trunk("bigru", causal), windows(2, 3, FRAMES)
    expected = torch.relu(reference_gru(built, causal)(x.transpose(1, 2))[0]).transpose(1, 2)
    torch.testing.assert_close(built(x), expected)


@both_ways
def test_the_gru_equals_torch_on_packed_windows_of_different_lengths(causal):
    built, x, frames = trunk("bigru", causal), windows(3, 3, FRAMES), [5, FRAMES, 1]
    packed = pack_padded_sequence(x.transpose(1, 2), frames, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(reference_gru(built, causal)(packed)[0], batch_first=True)
    mask = (torch.arange(FRAMES) < torch.tensor(frames)[:, None]).float()
    torch.testing.assert_close(built(x, mask) * mask[:, None], torch.relu(states).transpose(1, 2))


def test_the_gradients_of_the_recurrence_equal_finite_differences():
    gates, weight, bias = (
        windows(*shape).double().requires_grad_() for shape in ((2, 2, 3, 6), (2, 6, 2), (2, 2))
    )
    assert torch.autograd.gradcheck(bigru.scan, (gates, weight, bias))


def test_the_gradients_of_the_gru_equal_those_of_torch():
    built, x = trunk("bigru", False), windows(2, 3, FRAMES)
    reference = reference_gru(built, False)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    built(ours).square().sum().backward()
    torch.relu(reference(theirs.transpose(1, 2))[0]).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(built.layers[1].weight.grad[1], reference.weight_hh_l1_reverse.grad)


# Transformer


@both_ways
@pytest.mark.parametrize("padded", [True, False])
def test_a_layer_without_positions_equals_torch(causal, padded):
    torch.manual_seed(0)
    layer = transformer.Layer(8, 2, causal=causal)
    reference = nn.TransformerEncoderLayer(
        8, 2, 4 * 8, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True
    )
    with torch.no_grad():
        for ours, theirs in (
            (layer.norm1, reference.norm1), (layer.norm2, reference.norm2),
            (layer.out, reference.self_attn.out_proj),
            (layer.widen, reference.linear1), (layer.narrow, reference.linear2),
        ):  # fmt: skip
            ours.weight.add_(torch.randn_like(ours.weight), alpha=0.1)
            theirs.load_state_dict(ours.state_dict())
        reference.self_attn.in_proj_weight.copy_(layer.qkv.weight)
        reference.self_attn.in_proj_bias.zero_()
    x, mask = windows(2, FRAMES, 8), torch.ones(2, FRAMES)
    if padded:
        mask[1, 8:] = 0
    later = torch.ones(FRAMES, FRAMES, dtype=torch.bool).triu(1) if causal else None
    expected = reference(x, src_mask=later, src_key_padding_mask=mask == 0)
    found = layer(x, mask if padded else None, None, None)
    torch.testing.assert_close(found * mask[..., None], expected * mask[..., None])


@both_ways
def test_the_gradients_of_attention_equal_those_of_the_plain_formula(causal):
    q, k, v = (windows(2, 2, 5, 4, seed=seed).requires_grad_() for seed in range(3))
    mask = torch.ones(2, 5)
    mask[1, 3:] = 0
    seen = (mask > 0)[:, None, None] & (torch.ones(5, 5).tril() > 0 if causal else torch.ones(5, 5) > 0)
    scores = (q @ k.transpose(-1, -2) / 2.0).masked_fill(~seen, float("-inf"))
    expected = torch.softmax(scores, dim=-1) @ v
    found = transformer.attend(q, k, v, mask, causal=causal)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1, :, :3], expected[1, :, :3])
    ours, theirs = (
        torch.autograd.grad((y * mask[:, None, :, None]).square().sum(), (q, k, v)) for y in (found, expected)
    )
    torch.testing.assert_close(ours, theirs)


def test_positions_beyond_256_are_those_of_float64_also_in_bfloat16():
    exact = transformer.rotation(600, 8, torch.zeros((), dtype=torch.float64))
    rounded = transformer.rotation(600, 8, torch.zeros((), dtype=torch.bfloat16))
    assert rounded.dtype == torch.bfloat16
    assert (rounded.double() - exact).abs().max() < 2**-8


@pytest.mark.parametrize("frames", [255, 257, 299])
def test_a_window_is_turned_around_the_same_under_a_mask_in_bfloat16(frames):
    x = torch.arange(300.0).view(1, 300, 1)
    mask = (torch.arange(300) < frames).unsqueeze(0)
    turned = bigru.reverse(x, mask.bfloat16())[0, :, 0]
    assert turned.tolist() == [*reversed(range(frames)), *range(frames, 300)]


def test_rotary_scores_depend_on_the_distance_of_two_frames_alone():
    turn = transformer.rotation(9, 4, torch.zeros((), dtype=torch.float64))
    q, k = windows(2, 4).double()
    scores = transformer.rotate(q.expand(9, 4), turn) @ transformer.rotate(k.expand(9, 4), turn).T
    for distance in range(-8, 9):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    assert (scores[0] - scores[0, 0]).abs()[1:].min() > 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "none"}, f"model 'none': expected one of {', '.join(MODELS)}"),
        ({"attention": "none"}, f"attention 'none': expected one of {', '.join(ATTENTIONS)}"),
        ({"attention_heads": 0}, "attention_heads 0: expected .* 1"),
        ({"model": "multiscale_tcn", "kernel_size": 2}, "kernel_size 2, channels 8: a multiscale_tcn"),
        ({"model": "multiscale_tcn", "channels": 2}, "kernel_size 3, channels 2: a multiscale_tcn needs 3"),
        ({"model": "bigru", "channels": 5, "causal": False}, "channels 5: a centred bigru halves them"),
        ({"model": "transformer", "channels": 6}, "attention_heads 2: a transformer needs a multiple of 4"),
        ({"attention": "cross_task", "channels": 5}, "attention_heads 2: cross_task needs a multiple of 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_with_what_it_needs(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **settings)
