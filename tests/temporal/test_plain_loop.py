"""The stacked training against an ordinary PyTorch loop over one model, written without its parts."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import temporal
from temporal.models import initialise
from temporal.models.network import build
from temporal.settings import Run

SIZES = {"V": 1, "A": 1, "AU": 12, "EXPR": 7}
ARRAYS = {"V": "valence", "A": "arousal", "AU": "au", "EXPR": "expression"}
RUN = Run(("A", "AU", "EXPR"), attention=True, seed=5, lr=1e-2, weight_decay=0.05, dropout=0.0,
          loss_weights={"AU": 0.5})  # fmt: skip
BESIDE = [Run(("V",), seed=1), Run(("V", "EXPR"), attention=True, seed=2, dropout=0.2)]


def windows_of(split, length, hop):
    found = []
    for first, end in pairwise(split.offsets):
        start = first
        while start + length < end:
            found.append((start, start + length))
            start += hop
        found.append((max(end - length, first), end))
    return found


def stack_windows(x, windows):
    longest = max(end - start for start, end in windows)
    batch, mask = torch.zeros(len(windows), longest, x.shape[1]), torch.zeros(len(windows), longest)
    for row, (start, end) in enumerate(windows):
        batch[row, : end - start] = x[start:end]
        mask[row, : end - start] = 1
    return {"face": batch}, mask


def ccc(y, p):
    return 2 * ((y - y.mean()) * (p - p.mean())).mean() / (
        y.var(correction=0) + p.var(correction=0) + (y.mean() - p.mean()) ** 2
    )  # fmt: skip


def task_loss(task, logits, y):
    """Of logits (frames, K) and labels, both of frames with a crop alone."""
    known = torch.isfinite(y) if task in "VA" else y >= 0
    if task == "AU":
        return F.binary_cross_entropy_with_logits(logits[known], y[known].float())
    if task == "EXPR":
        return F.cross_entropy(logits[known], y[known].long())
    return 1 - ccc(y[known], logits[known, 0])


def joined(outputs, windows):
    return torch.cat([row[: end - start] for row, (start, end) in zip(outputs, windows, strict=True)])


def plain_loop(bank, run, training):
    """Returns the loss and the score of every epoch, and the weights of the best one."""
    train, validation = bank.train, bank.validation
    seen = train.streams["face"].features[train.valid]
    mean, std = seen.mean(0), seen.std(0, correction=0)
    scaled = {
        id(s): (s.streams["face"].features - mean) / std * s.valid[:, None] for s in (train, validation)
    }
    sizes = {t: SIZES[t] for t in run.tasks}
    model = build(train.dims, sizes, training, attention=run.attention)
    initialise(model, run.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=run.lr, weight_decay=run.weight_decay)
    windows = windows_of(train, training.window, training.hop)
    steps = math.ceil(len(windows) / training.batch_size)
    whole, step = steps * training.epochs, 0
    warm = training.warmup * whole
    losses, scores, best = [], [], None
    for epoch in range(1, training.epochs + 1):
        order = np.random.default_rng((training.data_seed, epoch)).permutation(len(windows))
        epoch_losses = []
        for first in range(0, len(order), training.batch_size):
            chosen = [windows[i] for i in order[first : first + training.batch_size]]
            rows = torch.cat([torch.arange(start, end) for start, end in chosen])
            crop = train.valid[rows]
            outputs = model(*stack_windows(scaled[id(train)], chosen))
            loss = 0.0
            for task in run.tasks:
                y, logits = train.labels[ARRAYS[task]][rows], joined(outputs[task], chosen)
                loss = loss + run.loss_weights.get(task, 1.0) * task_loss(task, logits[crop], y[crop])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
            cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / (whole - warm)))
            factor = (step + 1) / (math.ceil(warm) + 1) if step < warm else cosine
            optimiser.param_groups[0]["lr"] = run.lr * factor
            optimiser.step()
            step += 1
            epoch_losses.append(loss.item())
        losses.append(np.mean(epoch_losses))
        scores.append(score(model, validation, scaled[id(validation)], run, training))
        if scores[-1] == max(scores):
            best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return losses, scores, best


@torch.no_grad()
def score(model, split, x, run, training):
    windows = windows_of(split, training.window, training.hop)
    outputs = model(*stack_windows(x, windows))
    parts = []
    for task in run.tasks:
        votes = [[] for _ in range(len(x))]
        for row, (start, end) in enumerate(windows):
            for frame in range(start, end):
                z = outputs[task][row, frame - start]
                votes[frame].append({"AU": torch.sigmoid, "EXPR": lambda z: z.softmax(0)}.get(task, float)(z))
        p = torch.stack([torch.as_tensor(sum(v) / len(v)) for v in votes])
        y = split.labels[ARRAYS[task]]
        parts.append(total(task, y, p))
    return float(np.mean(parts))


def f1(y, p):
    both = int((y & p).sum())
    return 2 * both / max(int(y.sum() + p.sum()), 1)


def total(task, y, p):
    if task == "AU":
        on, known = p >= 0.5, y >= 0
        each = [f1(y[known[:, k], k] == 1, on[known[:, k], k]) for k in range(12)]
        return 0.5 * np.mean(each) + 0.5 * (on == y)[known].float().mean().item()
    if task == "EXPR":
        y, chosen = y[y >= 0], p.argmax(1)[y >= 0]
        each = [f1(y == k, chosen == k) for k in range(7)]
        return 0.67 * np.mean(each) + 0.33 * (chosen == y).float().mean().item()
    known = torch.isfinite(y)
    return float(ccc(y[known].double(), p[known].double()))


@pytest.mark.parametrize("causal", [True, False])
def test_a_run_beside_others_equals_an_ordinary_loop_over_one_model(bank, tiny, causal):
    training = replace(tiny, causal=causal, warmup=0.1, epochs=5)
    losses, scores, best = plain_loop(bank, RUN, training)
    result = temporal.fit(bank, [BESIDE[0], RUN, BESIDE[1]], training)[1]
    assert [line["loss"] for line in result.history] == pytest.approx(losses, abs=1e-4)
    assert [line["score"] for line in result.history] == pytest.approx(scores, abs=1e-4)
    assert result.best_epoch == 1 + int(np.argmax(scores))
    found = result.model.network.state_dict()
    assert set(found) == set(best)
    for name, tensor in best.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)
