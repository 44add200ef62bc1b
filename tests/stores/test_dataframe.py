"""The pandas frame of a label store: one row a frame, NaN wherever a label is unknown."""

import numpy as np
import pytest
from store_specs import LABEL_ATTRS, feature_spec, label_arrays, label_spec

import stores
from stores.errors import StoreError

SPEC = label_spec()


@pytest.fixture
def store(tmp_path):
    return stores.create(tmp_path / "labels", SPEC)


def test_every_label_of_a_store_is_a_row_and_unknown_is_nan(store):
    clips = {"b": label_arrays(5, SPEC, 1), "a": label_arrays(70, SPEC, 2)}
    store.write("b", clips["b"], LABEL_ATTRS)
    store.write("a", clips["a"], LABEL_ATTRS | {"subject": "p", "video": "v", "split": "validation"})
    frame = store.frame()
    known = ["clip", "frame", "subject", "video", "split", "valence", "arousal", "expression"]
    assert list(frame) == [*known, *SPEC.au_names]
    assert frame["clip"].tolist() == ["a"] * 70 + ["b"] * 5
    assert frame["frame"].tolist() == [*range(70), *range(5)]
    assert frame["split"].tolist() == ["validation"] * 70 + ["train"] * 5
    assert (frame["subject"] == "p").tolist() == (frame["video"] == "v").tolist() == [True] * 70 + [False] * 5
    assert frame["subject"].isna().sum() == frame["video"].isna().sum() == 5
    both = {name: np.concatenate([clips["a"][name], clips["b"][name]]) for name in clips["a"]}
    np.testing.assert_array_equal(frame["valence"], both["valence"])
    np.testing.assert_array_equal(frame["arousal"], both["arousal"])
    assert frame["expression"].isna().tolist() == (both["expression"] < 0).tolist()
    named = frame["expression"].dropna().tolist()
    assert named == [SPEC.expression_names[index] for index in both["expression"] if index >= 0]
    units = np.where(both["au"] < 0, np.nan, both["au"])
    np.testing.assert_array_equal(frame[list(SPEC.au_names)].to_numpy(), units)


def test_chosen_clips_come_in_the_order_asked_for_and_no_clip_is_no_row(store):
    assert len(store.frame()) == 0
    for clip in ("a", "b", "c"):
        store.write(clip, label_arrays(3, SPEC), LABEL_ATTRS)
    assert store.frame(["c", "a"])["clip"].tolist() == ["c"] * 3 + ["a"] * 3
    with pytest.raises(StoreError, match="commit record"):
        store.frame(["d"])


def test_a_feature_store_has_no_frame_of_labels(tmp_path):
    with pytest.raises(StoreError, match="expected labels"):
        stores.create(tmp_path / "features", feature_spec(8)).frame()
