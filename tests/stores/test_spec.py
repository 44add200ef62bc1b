"""The specs: strict, digested, compared field by field."""

import dataclasses

import pytest
from store_specs import feature_spec, label_spec

from stores import FeatureSpec, LabelSpec, differences
from stores.errors import StoreError


@pytest.mark.parametrize("spec", [feature_spec(), label_spec()])
def test_a_spec_survives_json(spec):
    document = spec.to_json()
    assert type(spec).from_json(document) == spec
    assert type(spec).from_json({**document}).digest() == spec.digest()


def test_versions_are_recorded_but_decide_nothing():
    spec = feature_spec()
    other = dataclasses.replace(spec, versions={"torch": "9.9"})
    assert other == spec
    assert other.digest() == spec.digest()
    assert hash(other) == hash(spec)
    assert differences(spec, other) == {}
    assert FeatureSpec.from_json(other.to_json()).versions == {"torch": "9.9"}


def test_every_other_field_decides_the_digest():
    spec = feature_spec()
    changes = {
        "stream": "x",
        "backbone": "x",
        "weights": "x",
        "weights_sha256": "1" * 64,
        "weights_trained_on": (),
        "image_size": 113,
        "mean": (0.0, 0.0, 0.0),
        "std": (1, 1, 1),
        "interpolation": "x",
        "decoder": "x",
        "dtype": "float32",
        "dim": 2047,
    }
    others = [dataclasses.replace(spec, **{name: value}) for name, value in changes.items()]
    assert len({spec.digest(), *(other.digest() for other in others)}) == len(changes) + 1
    for other, name in zip(others, changes, strict=True):
        assert list(differences(spec, other)) == [name]


@pytest.mark.parametrize("name", ["weights_sha256", "image_size", "mean", "std"])
def test_what_is_not_known_of_features_is_null_and_decides_the_digest(name):
    known = feature_spec()
    unknown = dataclasses.replace(known, **{name: None})
    assert unknown.to_json()[name] is None
    assert FeatureSpec.from_json(unknown.to_json()) == unknown
    assert unknown.digest() != known.digest()
    assert differences(unknown, known) == {name: (None, getattr(known, name))}


@pytest.mark.parametrize(
    "name", ["stream", "backbone", "weights", "interpolation", "decoder", "dtype", "dim"]
)
def test_what_is_always_known_of_features_is_never_null(name):
    with pytest.raises(StoreError, match=f"{name} is None"):
        dataclasses.replace(feature_spec(), **{name: None})


def test_the_digest_does_not_move():
    assert feature_spec().digest() == "41d337189ee528105d4fe2f5e8bee5fb87a2de744e84803aee5ca817bf42cb89"
    assert label_spec().digest() == "dff76cfed40f9654c1eb07234c48c450462da93cff3c35d36719518ae2571991"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dim": 0}, "dim is 0, expected a positive integer"),
        ({"dim": True}, "dim is True"),
        ({"image_size": 0}, "image_size is 0, expected a positive integer, or null"),
        ({"image_size": ""}, "image_size is ''"),
        ({"dtype": "float64"}, "dtype is 'float64', expected float16 or float32"),
        ({"weights_sha256": ""}, "or null"),
        ({"weights_sha256": "abc"}, "64 lower-case hexadecimal digits"),
        ({"std": (1, 1, 0)}, "positive"),
        ({"mean": (float("nan"), 0, 0)}, "finite"),
        ({"mean": (0.0, 0.0)}, "three"),
        ({"weights_trained_on": "imagenet"}, "list of non-empty strings"),
        ({"stream": ""}, "non-empty string"),
        ({"versions": {"numpy": 2}}, "version strings"),
    ],
)
def test_a_feature_spec_refuses_what_a_field_cannot_hold(change, match):
    with pytest.raises(StoreError, match=match):
        dataclasses.replace(feature_spec(), **change)


def test_a_label_spec_refuses_empty_and_repeated_names():
    for names in ((), ("AU1", "AU1"), tuple(map(str, range(128)))):
        with pytest.raises(StoreError, match="au_names is"):
            LabelSpec("rendered", "abaw2", ("Neutral",), names)


def test_json_with_missing_or_unknown_keys_is_refused_by_name():
    document = label_spec().to_json()
    document["aus"] = document.pop("au_names")
    with pytest.raises(StoreError, match="'au_names' is missing, 'aus' is unknown"):
        LabelSpec.from_json(document)


@pytest.mark.parametrize(
    ("frames", "dim", "dtype", "expected"),
    [
        (10_000, 2048, "float16", 128),
        (10_000, 2048, "float32", 64),
        (10_000, 512, "float16", 512),
        (10_000, 513, "float16", 256),
        (300, 2048, "float16", 128),
        (100, 2048, "float16", 128),
        (1, 2048, "float16", 1),
        (10, 1_000_000, "float32", 1),
    ],
)
def test_chunks_are_powers_of_two_within_the_band_or_as_short_as_the_clip(frames, dim, dtype, expected):
    layout = feature_spec(dim, dtype).layout(frames)["features"]
    assert layout.chunk_frames == expected
    chunk_bytes = expected * layout.row_bytes
    assert 256 * 2**10 <= chunk_bytes <= 2**20 or expected >= frames or expected == 1
