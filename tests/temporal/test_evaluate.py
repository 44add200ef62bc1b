import numpy as np
import pytest
import torch
from conftest import make_split, plain

from temporal.data.bank import Split, Stream
from temporal.data.windows import cut
from temporal.inference.frames import predict


def ramp(frames):
    rows = sum(frames)
    features = torch.arange(rows, dtype=torch.float32)[:, None]
    return Split(
        tuple("abc"),
        (0, *np.cumsum(frames).tolist()),
        {"face": Stream(features, torch.ones(rows, dtype=torch.bool))},
        {},
    )


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("hop", [1, 3, 5])
def test_overlaps_average_back_to_a_ramp_in_frame_order(hop, batch_size):
    split = ramp([23, 4, 5])
    windows = cut(split.offsets, 5, hop)
    found = predict(lambda x, mask: {"V": x["face"][None]}, split, windows, plain(1), batch_size)
    torch.testing.assert_close(found["V"], split.streams["face"].features[None])


def test_a_frame_in_several_windows_gets_the_mean_of_their_probabilities():
    split = ramp([8, 0, 0])
    windows = cut(split.offsets, 6, 2)  # windows 0-5 and 2-7

    def forward(x, mask):
        last = x["face"][:, -1:, :].expand(-1, 6, -1)
        return {"AU": torch.where(last == 7, 2.0, -1.0)[None]}

    found = predict(forward, split, windows, plain(1), 8)["AU"][0, :, 0]
    low, high = torch.sigmoid(torch.tensor([-1.0, 2.0]))
    expected = torch.tensor([low, low, *[(low + high) / 2] * 4, high, high])
    torch.testing.assert_close(found, expected)


def test_predictions_do_not_depend_on_the_batch_size():
    split = make_split([40, 9, 33], 3)
    windows = cut(split.offsets, 12, 5)
    found = [
        predict(lambda x, mask: {"EXPR": x["face"].cumsum(1)[None]}, split, windows, plain(6), size)["EXPR"]
        for size in (1, 4, 50)
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0].sum(-1), torch.ones(1, 82))
