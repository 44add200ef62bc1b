"""Experiments on several corpora: one configuration, three label sets, one table, no wrong name."""

import json
import sys

import numpy as np
import pytest
import toy_corpora
import yaml
from pydantic import ValidationError

import stores
from extract import corpora
from pipeline.config import Config, Corpus
from pipeline.config.corpus import Division
from pipeline.configfile import load
from pipeline.data import open_data
from pipeline.provenance import corpus_note
from pipeline.report.tabulate import make_table
from pipeline.stage1.make import make_features
from pipeline.stage1.reading import read_corpus
from pipeline.stage2.driver import run_sweep
from pipeline.workdir import work_dir
from stores.editions import AU_12, EXPR_8
from stores.errors import ConfigError, CorpusError

EXPERIMENT = """\
name: mixed
corpus:
  kind: mixture
  edition: abaw5
  mapping: {Contempt: Other}
  parts:
    videos: {kind: toy, root: ROOT/videos}
    units: {kind: toy, root: ROOT/units, weight: 0.5, training_splits: [train, validation]}
    images: {kind: toy, root: ROOT/images, weight: 2, mapping: {Boredom: Neutral}}
  score: [videos]
streams: {face: {store: ROOT/features}}
training: {window: 16, hop: 12, batch_size: 2, epochs: 1, channels: 4, levels: 1, device: cpu}
sweep:
  rows:
    - {tasks: [V]}
    - {tasks: [AU]}
    - {tasks: [A, AU, EXPR], attention: true}
  seeds: [0]
table: {edition: abaw5, formats: [md]}
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Three corpora: videos with everything, videos with intensities of other units, shards of images."""
    monkeypatch.setitem(corpora.KINDS, toy_corpora.KIND, toy_corpora.__name__)
    monkeypatch.setitem(sys.modules, toy_corpora.__name__, toy_corpora)
    truth = {
        "videos": toy_corpora.write(
            tmp_path / "videos",
            "affwild2",
            [*EXPR_8[::-1]],
            [*AU_12[::-1]],
            [("v1_left", "train", "v1"), ("v2", "validation", "v2"), ("v3", "test", "v3")],
            seed=1,
        ),
        "units": toy_corpora.write(
            tmp_path / "units",
            "disfa",
            [],
            ["AU12", "AU9", "AU01"],
            [("SN001", "train", "SN001"), ("SN002", "validation", "SN002")],
            values=False,
            seed=2,
        ),
        "images": toy_corpora.write(
            tmp_path / "images",
            "expw",
            ["Happy", "Contempt", "Boredom", "Confusion", "Angry"],
            [],
            [("train-00000", "train", ""), ("test-00000", "test", "")],
            static=True,
            values=False,
            seed=3,
        ),
    }
    frames = {f"{p}.{c['id']}": len(c["rows"]) for p, d in truth.items() for c in d["clips"]}
    toy_corpora.write_features(tmp_path / "features", frames)
    return truth


@pytest.fixture
def configure(tmp_path):
    def configure(**changes):
        raw = yaml.safe_load(EXPERIMENT.replace("ROOT", str(tmp_path)))
        for dotted, value in changes.items():
            section, key = dotted.split("__", 1)
            raw[section][key] = value
        return Config.model_validate(raw)

    return configure


def test_one_configuration_trains_a_table_on_three_corpora_with_different_label_sets(
    made, configure, tmp_path, caplog
):
    config = configure()
    place = work_dir(config, tmp_path / "work")
    assert make_features(config, place) == {}

    labels = stores.open(place.labels)
    assert labels.spec.corpus == "affwild2+disfa+expw"
    assert labels.clips() == [
        "images.train-00000", "units.SN001", "units.SN002", "videos.v1_left", "videos.v2", "videos.v3",
    ]  # fmt: skip
    expected = {
        **{name: name for name in EXPR_8},
        "Happy": "Happiness", "Angry": "Anger", "Contempt": "Other", "Boredom": "Neutral", "Confusion": None,
    }  # fmt: skip
    for part, document in made.items():
        for clip in document["clips"]:
            if f"{part}.{clip['id']}" not in labels.clips():
                continue
            expression = labels.read(f"{part}.{clip['id']}", "expression")
            au = labels.read(f"{part}.{clip['id']}", "au")
            for row, frame in enumerate(clip["rows"]):
                found = EXPR_8[expression[row]] if expression[row] >= 0 else None
                assert found == (expected[frame["expression"]] if frame["expression"] else None)
                units = {unit.replace("AU0", "AU"): n >= 2 for unit, n in frame["intensity"].items()}
                for column, unit in enumerate(AU_12):
                    assert au[row, column] == units.get(unit, -1)

    report = json.loads(place.mapping.read_text())
    assert report["units"]["absent_aus"] == [unit for unit in AU_12 if unit not in ("AU1", "AU12")]
    dropped = {m["source"]: m["reason"] for m in report["images"]["expressions"] if m["target"] is None}
    assert dropped == {"Confusion": "not in the list"}

    assert run_sweep(config, place) == {}
    table, written = make_table(config, place)
    assert [row.name for row in table.rows] == ["V", "AU", "A+AU+EXPR+Attn"]
    assert all(row.counts["done"] == 1 for row in table.rows)
    # One video of 24 frames is scored, and none of the other corpora.
    assert table.plan.provenance.clips == 1
    assert table.plan.provenance.frames == {"V": 24, "A": 24, "AU": 24, "EXPR": 24}
    text = written[0].read_text()
    assert "units (weight 0.5)" in text
    assert "A+AU+EXPR: not admitted to abaw5" in text


def test_the_weights_and_the_kind_of_clips_are_part_of_what_a_run_is(made, configure, tmp_path):
    digests = []
    for weight in (0.5, 1.0):
        config = configure()
        parts = {
            **config.corpus.parts,
            "units": config.corpus.parts["units"].model_copy(update={"weight": weight}),
        }
        config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"parts": parts})})
        place = work_dir(config, tmp_path / f"work{weight}")
        make_features(config, place)
        digests.append(open_data(place).label_digest)
    assert digests[0] != digests[1]


def test_rules_refuse_or_flag_or_are_ignored(made, configure, tmp_path, caplog):
    place = work_dir(configure(), tmp_path / "work")
    make_features(configure(), place)
    refusing = configure(table__rules="refuse")
    with pytest.raises(ConfigError, match=r"the rules of abaw5 forbid A\+AU\+EXPR: .* of AU and EXPR"):
        run_sweep(refusing, place)
    assert not place.runs.exists() or not list(place.runs.iterdir())


def test_a_declared_list_of_names_replaces_that_of_the_edition(made, configure, tmp_path):
    config = configure(
        corpus__expressions=["Happiness", "Anger", "Boredom"],
        corpus__aus=["AU9", "AU12"],
        corpus__mapping={},
        sweep__rows=[{"tasks": ["AU", "EXPR"]}],
    )
    parts = {
        **config.corpus.parts,
        "images": config.corpus.parts["images"].model_copy(update={"mapping": {}}),
    }
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"parts": parts})})
    place = work_dir(config, tmp_path / "work")
    make_features(config, place)
    assert run_sweep(config, place) == {}
    table, _ = make_table(config, place)
    assert table.rows[0].counts["done"] == 1
    labels = {column.label for column in table.details if column.label}
    assert labels == {"Happiness", "Anger", "Boredom", "AU9", "AU12"}


def test_a_person_in_two_splits_is_refused_and_only_reported_where_that_is_asked_for(
    made, configure, tmp_path, caplog
):
    toy_corpora.write(tmp_path / "again", "affwild2", ["Neutral"], [], [("w", "train", "v2")], seed=4)
    parts = yaml.safe_load(EXPERIMENT.replace("ROOT", str(tmp_path)))["corpus"]["parts"]
    parts["again"] = {"kind": "toy", "root": str(tmp_path / "again")}
    with pytest.raises(
        CorpusError, match=r"affwild2\.v2 in train \(again\.w\) and validation \(videos\.v2\)"
    ):
        read_corpus(configure(corpus__parts=parts), tmp_path)
    corpus, _ = read_corpus(configure(corpus__parts=parts, corpus__leaks="report"), tmp_path)
    assert "again.w" in [clip.id for clip in corpus.clips]
    assert "are in two splits" in caplog.text


@pytest.mark.parametrize("fold", [None, {"validation": "test"}])
def test_an_official_test_split_can_be_the_validation_split_and_the_table_says_so(
    made, configure, tmp_path, fold
):
    corpus = {
        "kind": "toy",
        "root": tmp_path / "images",
        "edition": "abaw5",
        "expressions": ["Happy", "Anger"],
    }
    config = configure().model_copy(update={"corpus": Corpus(**corpus, split=fold or "official")})
    read, _ = read_corpus(config, tmp_path / "images")
    assert {clip.id: clip.split for clip in read.clips} == {
        "train-00000": "train",
        "test-00000": "validation" if fold else "test",
    }
    assert ("official test split, on which the best epoch is chosen" in corpus_note(config)) == bool(fold)


def test_the_table_says_how_each_part_was_divided(made, configure):
    parts = configure().corpus.parts
    parts = {"videos": parts["videos"].model_copy(update={"split": Division(validation="test")})}
    config = configure()
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"parts": parts})})
    assert corpus_note(config) == (
        "a mixture of videos (weight 1, scored, validated on its official test split, on which the best epoch"
        " is chosen)"
    )


@pytest.mark.parametrize("split", [{}, {"fold": 1}, {"validation": "train"}])
def test_another_division_is_the_official_test_split(split):
    with pytest.raises(ValidationError):
        Division(**split)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: mixture", "kind: mixtur", "unknown kind 'mixtur', did you mean 'mixture'?"),
        ("weight: 0.5", "wieght: 0.5", "unknown key 'corpus.parts.units.wieght', did you mean"),
        ("weight: 0.5", "weight: 0", "corpus.parts.units.weight"),
        ("score: [videos]", "score: [video]", "score: no part 'video': expected some of videos, units"),
        ("score: [videos]", "score: []", "a mixture needs 'parts' and 'score'"),
        ("  edition: abaw5\n", "  edition: abaw5\n  split: {validation: test}\n", "give it to its parts"),
        ("training_splits: [train, validation]", "split: {kfold: 3, fold: 3}", "set sweep.folds"),
        ("training_splits: [train, validation]", "split: {by: person}", "corpus.parts.units.split"),
        ("root: ROOT/units", "edition: abaw9, root: ROOT/units", "unknown edition 'abaw9'"),
        ("    units:", "    a.b:", "corpus.parts.a.b"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_mixture_is_answered_in_one_line_with_file_and_line(made, tmp_path, old, new, told):
    path = tmp_path / "my.yaml"
    assert old in EXPERIMENT
    path.write_text(EXPERIMENT.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_an_unknown_option_of_a_reader_names_the_nearest(made, tmp_path):
    with pytest.raises(
        ConfigError, match="unknown option 'au_treshold' of a corpus of kind toy, did you mean 'au_t"
    ):
        corpora.load("toy", tmp_path / "units", "abaw2", au_treshold=1)


def test_shards_are_stored_as_static_with_their_weight(made, configure, tmp_path):
    place = work_dir(configure(), tmp_path / "work")
    make_features(configure(), place)
    labels = stores.open(place.labels)
    attrs = labels.record("images.train-00000").attrs
    assert (attrs["static"], attrs["weight"], attrs["corpus"]) == (True, 2.0, "expw")
    assert np.isnan(labels.read("images.train-00000", "valence")).all()


def test_labels_that_other_settings_made_are_not_trained_on(made, configure, tmp_path):
    config = configure()
    place = work_dir(config, tmp_path / "work")
    make_features(config, place)
    changed = configure(corpus__mapping={"Contempt": None})
    with pytest.raises(ConfigError, match=r'corpus\.mapping is {"Contempt": null}, and .* made with'):
        run_sweep(changed, place)

    parts = {
        name: part.model_dump(mode="json", exclude_unset=True) for name, part in config.corpus.parts.items()
    }
    moved = {name: part | {"root": f"/elsewhere/{name}"} for name, part in parts.items()}
    run_sweep(configure(corpus__parts=moved), place)
