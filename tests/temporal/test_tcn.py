import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from stores.errors import ConfigError
from temporal.models.tcn import TCN, WeightNormConv1d


def test_the_seed_configuration_has_968832_parameters_and_sees_121_frames():
    tcn = TCN(512, [128] * 4, 5)
    assert sum(p.numel() for p in tcn.parameters()) == 968_832
    assert tcn.receptive_field == 121


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("levels", "kernel"), [(1, 3), (3, 3), (4, 5)])
def test_the_impulse_response_spans_exactly_the_receptive_field(causal, levels, kernel):
    tcn = TCN(2, [3] * levels, kernel, causal=causal).double()
    length, middle = 2 * tcn.receptive_field + 1, tcn.receptive_field
    x = torch.randn(1, 2, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bumped = x.clone()
    bumped[..., middle] += 1.0
    changed = (tcn(x) != tcn(bumped)).any(1).squeeze(0).nonzero().squeeze(1)
    first = middle if causal else middle - tcn.receptive_field // 2
    assert changed.tolist() == list(range(first, first + tcn.receptive_field))


def test_a_causal_network_never_sees_a_later_frame():
    tcn = TCN(3, [4] * 3, 4, causal=True)
    x = torch.randn(2, 3, 30)
    later = x.clone()
    later[..., 17:] = torch.randn(2, 3, 13)
    assert torch.equal(tcn(x)[..., :17], tcn(later)[..., :17])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("garbage", [1e6, -3.0])
def test_padding_never_leaks(causal, garbage):
    tcn = TCN(3, [4, 4, 6], 3, causal=causal)
    x = torch.randn(2, 3, 20)
    alone = tcn(x)
    padded = torch.cat([x, torch.full((2, 3, 9), garbage)], dim=2)
    mask = torch.cat([torch.ones(2, 20), torch.zeros(2, 9)], dim=1)
    torch.testing.assert_close(tcn(padded, mask)[..., :20], alone)


class Textbook(nn.Module):
    """Block of Bai et al. 2018: pad, convolve, chomp, activate, twice; add; activate."""

    def __init__(self, c_in, c_out, kernel, dilation, causal):
        super().__init__()
        pad = (kernel - 1) * dilation
        self.pad = nn.ConstantPad1d((pad, 0) if causal else (pad // 2, pad // 2), 0.0)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(c, c_out, kernel, dilation=dilation), dim=0) for c in (c_in, c_out)
        )
        self.skip = nn.Conv1d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x):
        h = self.act(self.convs[0](self.pad(x)))
        h = self.act(self.convs[1](self.pad(h)))
        return self.act(h + self.skip(x))


@pytest.mark.parametrize("causal", [True, False])
def test_the_network_equals_the_textbook_formula(causal):
    tcn = TCN(5, [4, 4, 7], 3, causal=causal)
    reference = nn.Sequential(
        *(Textbook(i, o, 3, 2**level, causal) for level, (i, o) in enumerate([(5, 4), (4, 4), (4, 7)]))
    )
    with torch.no_grad():
        for ours, theirs in zip(tcn.blocks, reference, strict=True):
            for conv, other in zip((ours.conv1, ours.conv2), theirs.convs, strict=True):
                conv.magnitude.mul_(1.7)
                other.parametrizations.weight.original0.copy_(conv.magnitude)
                other.parametrizations.weight.original1.copy_(conv.direction)
                other.bias.copy_(conv.bias.normal_())
            if ours.skip is not None:
                theirs.skip.load_state_dict(ours.skip.state_dict())
    x = torch.randn(2, 5, 23, dtype=torch.float64)
    torch.testing.assert_close(tcn.double()(x), reference.double()(x))


def test_initial_weights_survive_weight_norm():
    conv = WeightNormConv1d(64, 64, 5, 1, causal=True)
    scale = conv.magnitude / conv.direction.norm(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(scale, torch.ones_like(scale))
    assert conv.direction.std().item() == pytest.approx((2 / (64 * 5)) ** 0.5, rel=0.05)


def test_dropped_channels_contribute_nothing():
    tcn = TCN(3, [4], 3)
    factors = torch.ones(2, 1, 4)
    factors[1] = 0.0
    x = torch.randn(1, 3, 10)
    only_skip = nn.functional.leaky_relu(tcn.blocks[0].skip(x), 0.01)
    assert torch.equal(tcn(x, None, factors), only_skip)


def test_an_even_kernel_cannot_be_centred():
    with pytest.raises(ConfigError, match="odd"):
        TCN(3, [4], 4, causal=False)
