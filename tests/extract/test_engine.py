"""Extraction: features equal plain torchvision's, a resume writes the same bytes, bad crops are flagged."""

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from affwild2_tree import make_jpeg
from PIL import Image
from torchvision.models import resnet50
from torchvision.transforms import functional

import stores
from extract import corpora
from extract.backbones import registry
from extract.backbones.backbone import Backbone
from extract.corpora import CropFrames
from extract.engine import extract_clips
from stores.errors import ConfigError, CorpusError, SpecMismatch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def extract(corpus, backbone, store, **options):
    return extract_clips([clip.crops for clip in corpus.clips], backbone, store, **options)


class Tiny(torch.nn.Module):
    """A network quick enough to extract hundreds of crops, that counts what it is asked to do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = torch.nn.Conv2d(3, 8, 7, stride=4)
        self.calls = 0
        self.scale = 1.0

    def forward(self, x):
        self.calls += 1
        return self.conv(x).relu().mean((2, 3)) * self.scale


@pytest.fixture
def tiny():
    sha256 = "1" * 64
    return Backbone("tiny", "seed3", sha256, ("noise",), 64, (0.5,) * 3, (0.5,) * 3, 8, module=Tiny().eval())


@pytest.fixture
def corpus(tree):
    """Three clips: gaps inside, a whole batch without crops, a length below one batch."""
    tree.crops("long", [n for n in range(1, 44) if n not in (2, 3, 40) and not 16 < n <= 24], (64, 64))
    tree.crops("other", range(1, 21), (80, 72))
    tree.crops("short", [3], (64, 64))
    tree.annotate("EXPR", "Train_Set", "short", [1] * 5)
    return corpora.load("affwild2", tree.root, "abaw2")


def run(corpus, backbone, path, backend="hdf5", dtype="float16", **options):
    store = stores.create(path, backbone.feature_spec(dtype), backend)
    return store, extract(corpus, backbone, store, **{"batch_size": 8, **options})


def contents(path):
    """Every file of a store, as bytes."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("image_size", "backend", "dtype"),
    [
        (112, "hdf5", "float16"),
        (224, "zarr", "float32"),
    ],
)
def test_resnet50_features_equal_a_plain_torchvision_pass(
    tree, tmp_path, reference_network, weights_path, image_size, backend, dtype
):
    tree.crops("clip", [1, 2, 4, 5])
    corpus = corpora.load("affwild2", tree_without_labels(tree), "abaw2")
    clip = next(c for c in corpus.clips if c.id == "clip")
    network = resnet50(weights=None)
    network.load_state_dict(reference_network.state_dict())
    network.fc = torch.nn.Identity()
    images = [
        Image.open(path).resize((image_size, image_size), Image.Resampling.BILINEAR)
        for path in clip.frames
        if path
    ]
    batch = torch.stack([functional.normalize(functional.to_tensor(image), MEAN, STD) for image in images])
    with torch.inference_mode():
        expected = network.eval()(batch).numpy()

    backbone = registry.load("resnet50", str(weights_path), image_size)
    only = replace(corpus, clips=(clip,))
    store, report = run(only, backbone, tmp_path / "store", backend, dtype)
    features, valid = store.read("clip"), store.read("clip", "valid")
    assert features.dtype == dtype
    assert valid.tolist() == [True, True, False, True, True]
    assert store.read("clip", "frame").tolist() == [0, 1, 2, 3, 4]
    assert not features[2].any()
    found = features[valid].astype(np.float64)
    if dtype == "float32":
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) <= 1e-4
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.99999
    assert (report.written, report.frames, report.images) == (("clip",), 5, 4)


def tree_without_labels(tree):
    """The reader asks for at least one annotation file; this one is of a clip beside."""
    tree.crops("beside", [1])
    tree.annotate("EXPR", "Train_Set", "beside", [0])
    return tree.root


def test_rows_follow_the_frame_index_across_gaps_batches_and_clips(corpus, tiny, tmp_path):
    store, report = run(corpus, tiny, tmp_path / "store", dtype="float32")
    assert report.written == ("long", "other", "short")
    assert report.frames == 43 + 20 + 5
    for clip in corpus.clips:
        features, valid = store.read(clip.id), store.read(clip.id, "valid")
        assert valid.tolist() == [path is not None for path in clip.frames]
        for path, row in zip(clip.frames, features, strict=True):
            if path is None:
                assert not row.any()
                continue
            image = Image.open(path).resize((64, 64), Image.Resampling.BILINEAR)
            x = functional.normalize(functional.to_tensor(image), (0.5,) * 3, (0.5,) * 3)
            with torch.inference_mode():
                np.testing.assert_allclose(row, tiny.module(x[None])[0].numpy(), rtol=1e-3, atol=2e-3)
    assert store.record("long").attrs == {
        "missing": 11,
        "unreadable": [],
        "compute": {"device": "cpu", "precision": "float32"},
    }


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_resumed_run_writes_the_same_bytes(corpus, tiny, tmp_path, backend):
    run(corpus, tiny, tmp_path / "whole", backend)
    calls = 0

    def killed(step, total, completed):
        nonlocal calls
        if step == "features":
            calls += 1
            if calls == stop:
                raise KeyboardInterrupt

    for stop in (1, 5, 8, 10):
        path = tmp_path / f"killed{stop}"
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tiny, path, backend, progress=killed)
        before = stores.open(path).clips()
        report = run(corpus, tiny, path, backend)[1]
        assert sorted((*before, *report.written)) == ["long", "other", "short"]
        assert report.unchanged == tuple(before)
        assert contents(path) == contents(tmp_path / "whole")


def test_an_interrupt_keeps_the_clips_that_were_complete(corpus, tiny, tmp_path):
    def killed(step, total, completed):
        if step == "features" and completed > 43:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, tiny, tmp_path / "store", progress=killed)
    assert stores.open(tmp_path / "store").clips() == ["long"]


def test_a_second_run_does_no_model_work(corpus, tiny, tmp_path):
    run(corpus, tiny, tmp_path / "store")
    before, calls = contents(tmp_path / "store"), tiny.module.calls
    _, report = run(corpus, tiny, tmp_path / "store")
    assert tiny.module.calls == calls
    assert (report.written, report.unchanged) == ((), ("long", "other", "short"))
    assert (report.frames, report.images) == (0, 0)
    assert contents(tmp_path / "store") == before


def test_only_the_clip_whose_crop_changed_is_extracted_again(corpus, tiny, tmp_path):
    store, _ = run(corpus, tiny, tmp_path / "store")
    before = store.read("other")
    path = corpus.clips[1].frames[6]
    path.write_bytes(make_jpeg(99, (80, 72)))
    store, report = run(corpus, tiny, tmp_path / "store")
    assert (report.written, report.unchanged) == (("other",), ("long", "short"))
    assert np.flatnonzero((store.read("other") != before).any(axis=1)).tolist() == [6]


def test_a_crop_that_only_looks_touched_counts_as_changed(corpus, tiny, tmp_path):
    run(corpus, tiny, tmp_path / "store")
    os.utime(corpus.clips[2].frames[2], ns=(1, 1))
    assert run(corpus, tiny, tmp_path / "store")[1].written == ("short",)


def test_unreadable_crops_are_flagged_and_do_not_stop_the_run(corpus, tiny, tmp_path):
    long = corpus.clips[0]
    (long.frames[0]).write_bytes(b"")
    (long.frames[9]).write_bytes(make_jpeg(1)[:800])
    (long.frames[41]).unlink()
    store, report = run(corpus, tiny, tmp_path / "store")
    assert report.written == ("long", "other", "short")
    assert [(bad.clip, bad.frame) for bad in report.bad_frames] == [("long", 0), ("long", 9), ("long", 41)]
    for bad, reason in zip(report.bad_frames, ("empty file", "truncated", "No such file"), strict=True):
        assert reason in bad.reason
        assert str(long.frames[bad.frame]) in bad.reason
    valid = store.read("long", "valid")
    assert not valid[[0, 9, 41]].any()
    assert not store.read("long")[~valid].any()
    assert store.record("long").attrs["unreadable"] == [0, 9, 41]
    assert valid.sum() == 32 - 3


def test_a_crop_that_could_not_be_read_is_tried_again_for_it_looks_the_same_once_it_can_be(
    corpus, tiny, tmp_path, monkeypatch
):
    run(corpus, tiny, tmp_path / "whole")
    locked, opened = str(corpus.clips[1].frames[6]), os.open

    def forbidding(path, *options):
        if str(path) == locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", forbidding)
        for written in (("long", "other", "short"), ("other",)):
            store, report = run(corpus, tiny, tmp_path / "store")
            assert report.written == written
            (bad,) = report.bad_frames
            assert bad.reason == f"{locked}: cannot be read: Permission denied"
            assert store.record("other").attrs["unreadable"] == [6]
    assert run(corpus, tiny, tmp_path / "store")[1].written == ("other",)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    # Of a link that leads nowhere the stat tells as much: it is not looked at again.
    corpus.clips[1].frames[6].unlink()
    corpus.clips[1].frames[6].symlink_to("nowhere")
    assert run(corpus, tiny, tmp_path / "store")[1].written == ("other",)
    assert run(corpus, tiny, tmp_path / "store")[1].written == ()


def test_a_clip_of_mostly_unreadable_crops_fails_and_the_others_go_on(corpus, tiny, tmp_path):
    for path in corpus.clips[1].frames[:11]:
        path.write_bytes(b"not a JPEG")
    store, report = run(corpus, tiny, tmp_path / "store")
    assert store.clips() == ["long", "short"] == list(report.written)
    (failure,) = report.failed
    assert failure.clip == "other"
    assert "11 of 20 crops are unreadable" in failure.reason
    assert run(corpus, tiny, tmp_path / "store", max_bad_share=0.6)[1].written == ("other",)


def test_a_clip_without_any_crop_fails_by_name(corpus, tiny, tmp_path):
    bare = replace(corpus.clips[2], frames=(None,) * 5)
    _, report = run(replace(corpus, clips=(bare,)), tiny, tmp_path / "store")
    assert report.failed[0].clip == "short"
    assert "none of its 5 frames has a crop" in report.failed[0].reason


def test_features_that_overflow_float16_fail_the_clip_and_name_the_remedy(corpus, tiny, tmp_path):
    tiny.module.scale = 1e6
    _, report = run(corpus, tiny, tmp_path / "half")
    assert not report.written
    assert "store float32" in report.failed[0].reason
    assert run(corpus, tiny, tmp_path / "single", dtype="float32")[1].failed == ()


def test_a_clip_of_no_frames_is_refused(corpus, tiny, tmp_path, tree):
    short = corpus.clips[2]
    nothing = corpora.Labels.unknown(0, 12)
    empty = replace(short, frames=CropFrames(tree.root, np.zeros(0, np.bool_)), labels=nothing)
    with pytest.raises(CorpusError, match="clip short has no frames"):
        run(replace(corpus, clips=(empty,)), tiny, tmp_path / "store")


def test_a_store_of_another_backbone_is_refused_by_both_values(corpus, tiny, tmp_path):
    other = replace(tiny, weights_sha256="2" * 64)
    store = stores.create(tmp_path / "store", other.feature_spec())
    with pytest.raises(SpecMismatch) as caught:
        extract(corpus, tiny, store)
    for part in ("weights_sha256", "1" * 64, "2" * 64):
        assert part in str(caught.value)


def test_the_number_of_decoding_threads_does_not_change_a_byte(corpus, tiny, tmp_path):
    for threads in (1, 3):
        run(corpus, tiny, tmp_path / str(threads), decode_threads=threads)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_progress_counts_frames_up_to_the_total(corpus, tiny, tmp_path):
    calls = []
    run(corpus, tiny, tmp_path / "store", progress=lambda *call: calls.append(call))
    steps = [completed for step, total, completed in calls if step == "features" and total == 68]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 68)
    assert ("sources", 3, 3) in calls


def test_a_batch_size_or_thread_count_below_one_is_refused(corpus, tiny, tmp_path):
    for options in ({"batch_size": 0}, {"decode_threads": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            run(corpus, tiny, tmp_path / "store", **options)


def test_crops_are_resized_as_the_specification_says(corpus, tiny, tmp_path):
    first = {}
    for name, resampling in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        backbone = replace(tiny, interpolation=f"{name}-antialias")
        store, _ = run(corpus, backbone, tmp_path / name, dtype="float32")
        assert store.spec.interpolation == f"{name}-antialias"
        image = Image.open(corpus.clips[1].frames[0]).resize((64, 64), resampling)  # of 80 x 72 pixels
        x = functional.normalize(functional.to_tensor(image), (0.5,) * 3, (0.5,) * 3)
        with torch.inference_mode():
            expected = tiny.module(x[None])[0].numpy()
        first[name] = store.read("other")[0]
        np.testing.assert_allclose(first[name], expected, rtol=1e-3, atol=2e-3)
    assert (first["bilinear"] != first["bicubic"]).any()
