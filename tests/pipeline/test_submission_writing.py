"""Submissions: every listed row, in order, with what the runs predict, filled by the declared policy."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_specs import feature_arrays, feature_spec, label_arrays, label_spec
from submission_runs import (
    CLIPS,
    images,
    make_features,
    make_list,
    make_run,
    prepare,
    random_predictions,
    write_one,
)

import stores
from pipeline.ledger import RESULT, write_predictions
from pipeline.prediction.finished import predictor
from pipeline.submission.checking import check_submission
from pipeline.submission.composing import write_submission
from pipeline.submission.filling import fill
from pipeline.submission.formats import format_of
from pipeline.submission.lists import read_list
from pipeline.submission.sources import open_runs
from stores.editions import AU_8, AU_12, EDITIONS, EXPR_7, EXPR_8, edition, track, tracks
from stores.errors import ConfigError, CorpusError

WRITABLE = [(name, one) for name in EDITIONS for one in tracks(name) if one != "LSD"]


def lines_of(path):
    return path.read_bytes().decode().split("\n")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return make_features(tmp_path_factory.mktemp("store") / "features")


def one_run(folder, name, tasks):
    """Makes a run of these tasks with random predictions."""
    make_run(folder, "run", edition(name), random_predictions(edition(name), tasks))


@pytest.mark.parametrize(("edition_name", "track_name"), WRITABLE)
def test_what_is_written_passes_the_checker(tmp_path, features, edition_name, track_name):
    form, listing, runs = prepare(tmp_path, edition_name, track_name)
    for missing in ("interpolate", "hold", "mask"):
        written = write_submission(form, listing, runs, features, tmp_path / missing, missing=missing)
        assert check_submission(written.path, form, listing) == []
        assert written.rows == sum(map(len, CLIPS.values()))
        assert (written.without_crop, written.beyond, written.absent) == (5, 0, ())


HEADERS = {
    ("abaw1", "VA"): "valence,arousal",
    ("abaw1", "EXPR"): ",".join(EXPR_7),
    ("abaw1", "AU"): ",".join(AU_8),
    ("abaw2", "AU"): ",".join(AU_12),
    ("abaw3", "EXPR"): ",".join(EXPR_8),
    ("abaw3", "MTL"): "image,valence,arousal,expression,aus",
    ("abaw5", "VA"): "image_location,valence,arousal",
    ("abaw6", "EXPR"): "image_location," + ",".join(EXPR_8),
    ("abaw8", "AU"): "image_location," + ",".join(AU_12),
    ("abaw7", "CE"): "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,"
    "Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry",
    ("abaw11", "MTL"): "image,valence,arousal,expression,aus",
}


@pytest.mark.parametrize(("edition_name", "track_name"), HEADERS)
def test_the_header_is_the_organisers(tmp_path, edition_name, track_name, features):
    written, _, _ = write_one(tmp_path, features, edition_name, track_name)
    path = written.path / "video45_1.txt" if written.path.is_dir() else written.path
    assert lines_of(path)[0] == HEADERS[edition_name, track_name]


@pytest.mark.parametrize("edition_name", ["abaw1", "abaw2", "abaw3"])
def test_early_editions_take_a_file_per_clip_with_a_row_per_frame(tmp_path, edition_name, features):
    written, _, _ = write_one(tmp_path, features, edition_name, "VA")
    assert written.path == tmp_path / "out" / f"{edition_name}_VA"
    assert {path.name for path in written.path.iterdir()} == {f"{clip}.txt" for clip in CLIPS}
    for clip, valid in CLIPS.items():
        assert len(lines_of(written.path / f"{clip}.txt")) == 1 + len(valid) + 1


def test_values_are_the_runs_decided_as_the_metrics_decide_them(tmp_path, features):
    thresholds = np.linspace(0.2, 0.8, 12)
    written, form, _ = write_one(tmp_path, features, "abaw7", "MTL", thresholds=thresholds, missing="mask")
    predictions = random_predictions(form.track.rules, form.track.tasks)
    expected = []
    for clip, tasks in predictions.items():
        for i in range(len(tasks["V"])):
            va = [f"{np.clip(tasks[task][i], -1, 1):.6f}" for task in "VA"]
            aus = [str(int(p >= cut)) for p, cut in zip(tasks["AU"][i], thresholds, strict=True)]
            expected.append(",".join([f"{clip}/{i + 1:05d}.jpg", *va, str(tasks["EXPR"][i].argmax()), *aus]))
    assert lines_of(written.path)[1:-1] == expected
    assert all(line.count(",") == 15 for line in expected)


def test_a_zero_has_no_sign_and_values_are_cut_to_the_range(tmp_path):
    predictions = {"clip": dict.fromkeys("VA", np.array([-1e-9, 1.7, -3.0], np.float32))}
    names = [f"clip/0000{i}.jpg" for i in (1, 2, 3)]
    asked = prepare(tmp_path, "abaw6", "VA", names, predictions=predictions)
    features = make_features(tmp_path / "features", {"clip": [True] * 3})
    rows = lines_of(write_submission(*asked, features, tmp_path).path)[1:-1]
    assert [row.split(",")[1] for row in rows] == ["0.000000", "1.000000", "-1.000000"]


def test_rows_follow_the_list_and_a_frame_listed_twice_has_two_rows(tmp_path, features):
    # As s-Aff-Wild2: frames are not consecutive, clips may come in any order, some images twice.
    names = [f"{clip}/{n:05d}.jpg" for clip, n in [("video59_right", 4), ("video45_1", 8), ("video45_1", 8),
             ("video45_1", 1), ("video59_right", 2)]]  # fmt: skip
    written, form, listing = write_one(tmp_path, features, "abaw4", "MTL", names)
    rows = lines_of(written.path)[1:-1]
    assert [row.partition(",")[0] for row in rows] == names
    assert rows[1] == rows[2]
    assert check_submission(written.path, form, listing) == []


def test_missing_crops_are_interpolated_on_a_ramp():
    ramp = np.linspace(-1, 1, 21)[:, None]
    valid = np.ones(21, bool)
    valid[[1, 2, 3, 9, 17]] = False
    spoilt = np.where(valid[:, None], ramp, 99.0)
    np.testing.assert_allclose(fill(spoilt, valid, 21, "interpolate"), ramp, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 40))
def test_frames_with_a_crop_keep_their_own_prediction_whatever_the_policy(seed, frames, asked):
    random = np.random.default_rng(seed)
    values, valid = random.normal(size=(frames, 3)), random.random(frames) < 0.5
    valid[random.integers(frames)] = True
    inside = np.flatnonzero(valid[:asked])
    first, last = np.flatnonzero(valid)[[0, -1]]
    for missing in ("interpolate", "hold", "mask"):
        found = fill(values, valid, asked, missing)
        assert found.shape == (asked, 3)
        assert np.array_equal(found[inside], values[inside])
        assert np.array_equal(
            found[frames:], np.tile(values[-1 if missing == "mask" else last], (max(asked - frames, 0), 1))
        )
    for i in range(min(asked, frames)):
        earlier = np.flatnonzero(valid[: i + 1])
        held = values[earlier[-1]] if len(earlier) else values[first]
        assert np.array_equal(fill(values, valid, asked, "hold")[i], held)
    assert np.array_equal(fill(values, valid, frames, "mask"), values)


@pytest.mark.parametrize("missing", ["interpolate", "hold"])
def test_a_clip_without_any_crop_is_refused_by_policies_that_need_one(tmp_path, missing):
    clips = {"clip": [False, False]}
    features = make_features(tmp_path / "features", clips)
    asked = prepare(tmp_path, "abaw5", "VA", ["clip/00001.jpg"], clips=clips)
    with pytest.raises(ConfigError, match="the policy mask") as raised:
        write_submission(*asked, features, tmp_path, missing=missing)
    assert raised.value.__notes__ == ["in clip clip"]
    assert write_submission(*asked, features, tmp_path, missing="mask").rows == 1


@pytest.mark.parametrize("missing", ["interpolate", "hold", "mask"])
def test_no_image_of_a_shard_stands_in_for_another(tmp_path, features, missing):
    shard = "video45_1"
    labels = stores.create(tmp_path / "labels", label_spec())
    attrs = {"split": "validation", "fps": 1.0, "subject": "", "corpus": "expw", "static": True}
    labels.write(shard, label_arrays(len(CLIPS[shard]), label_spec()), attrs)
    form, listing, runs = prepare(tmp_path, "abaw5", "VA")
    written = write_submission(form, listing, runs, features, tmp_path, labels=labels, missing=missing)
    alone = predictor(runs[0].run, features, "cpu")(shard)["V"]
    rows = [line.split(",") for line in lines_of(written.path)[1:-1]]
    found = [float(row[1]) for row in rows if row[0].startswith(shard + "/")]
    np.testing.assert_allclose(found, np.clip(alone, -1, 1), atol=1e-6)

    beyond = read_list(make_list(tmp_path / "list", form, [f"{shard}/00010.jpg"]), form)
    with pytest.raises(ConfigError, match=r"image 10 of video45_1, a shard of 9"):
        write_submission(form, beyond, runs, features, tmp_path, labels=labels, missing=missing)


def test_frames_beyond_the_last_crop_hold_it_and_are_counted(tmp_path, features):
    names = [*images(), "2-30-640x360/00007.jpg", "2-30-640x360/00099.jpg"]
    written, _, _ = write_one(tmp_path, features, "abaw6", "AU", names)
    assert written.beyond == 2
    rows = dict(line.split(",", 1) for line in lines_of(written.path)[1:-1])
    assert rows["2-30-640x360/00099.jpg"] == rows["2-30-640x360/00006.jpg"]


def test_lengths_decide_how_many_rows_the_file_of_a_clip_has(tmp_path, features):
    lengths = "video45_1,12\n2-30-640x360, 5\r\nvideo59_right,5\nanother,3\n"
    form, listing, runs = prepare(tmp_path, "abaw2", "EXPR", lengths=lengths)
    written = write_submission(form, listing, runs, features, tmp_path)
    assert [len(lines_of(written.path / f"{clip}.txt")) - 2 for clip in CLIPS] == [12, 5, 5]
    assert (written.beyond, check_submission(written.path, form, listing)) == (3, [])


def test_outputs_are_matched_by_name_not_by_place(tmp_path):
    form, rules = format_of("abaw1", "EXPR"), edition("abaw1")
    other = stores.editions.Edition("abaw1", rules.expressions[::-1], rules.aus, rules.scoring)
    probabilities = np.eye(7, dtype=np.float32)[[0, 2, 6]]
    make_run(tmp_path / "runs", "run", other, {"clip": {"EXPR": probabilities}})
    source = open_runs(tmp_path / "runs", ["run"], form.track)[0]
    features = make_features(tmp_path / "features", {"clip": [True] * 3})
    picked = source.pick(predictor(source.run, features, "cpu")("clip"))
    assert picked["EXPR"].argmax(1).tolist() == [6, 4, 0]


def test_aus_that_a_track_does_not_ask_for_are_left_out_with_their_thresholds(tmp_path):
    form = format_of("abaw1", "AU")
    probabilities = {"clip": {"AU": np.tile(np.arange(12, dtype=np.float32), (2, 1))}}
    make_run(tmp_path / "runs", "run", edition("abaw2"), probabilities, np.arange(12) / 12)
    source = open_runs(tmp_path / "runs", ["run"], track("abaw2", "AU"))[0]
    assert source.columns["AU"] == tuple(range(12))
    without = [name for name in AU_8 if name not in AU_12]
    assert without == ["AU20"]
    with pytest.raises(ConfigError, match="abaw1"):
        open_runs(tmp_path / "runs", ["run"], form.track)
    more = stores.editions.Edition("abaw1", EXPR_7, ("AU9", *AU_8[::-1]), "total")
    make_run(tmp_path / "runs", "more", more, {"clip": {"AU": np.zeros((2, 9))}}, np.arange(9) / 10)
    source = open_runs(tmp_path / "runs", ["more"], form.track)[0]
    assert source.columns["AU"] == (8, 7, 6, 5, 4, 3, 2, 1)
    assert source.thresholds == tuple(np.arange(9)[8:0:-1] / 10)


@pytest.mark.parametrize(("trained", "asked"), [("abaw2", "abaw3"), ("abaw3", "abaw2")])
def test_a_run_of_another_class_set_is_refused_with_both_lists(tmp_path, trained, asked):
    one_run(tmp_path, trained, ("EXPR",))
    with pytest.raises(ConfigError, match=f"EXPR Neutral.*{asked}"):
        open_runs(tmp_path, ["run"], track(asked, "EXPR"))


def test_valence_and_arousal_may_come_from_two_runs(tmp_path, features):
    form, rules = format_of("abaw6", "VA"), edition("abaw6")
    predictions = random_predictions(rules, "VA")
    for task in "VA":
        own = {clip: {task: values[task]} for clip, values in predictions.items()}
        make_run(tmp_path / "runs", task, rules, own)
    listing = read_list(make_list(tmp_path / "list", form), form)
    runs = open_runs(tmp_path / "runs", ["A", "V"], form.track)
    written = write_submission(form, listing, runs, features, tmp_path, missing="mask")
    clip = predictions["2-30-640x360"]
    row = dict(line.split(",", 1) for line in lines_of(written.path)[:-1])["2-30-640x360/00003.jpg"]
    assert row == ",".join(f"{np.clip(clip[task][2], -1, 1):.6f}" for task in "VA")
    with pytest.raises(ConfigError, match="predicts A"):
        open_runs(tmp_path / "runs", ["V"], form.track)
    make_run(tmp_path / "runs", "again", rules, predictions)
    with pytest.raises(ConfigError, match="V and again both"):
        open_runs(tmp_path / "runs", ["V", "again"], form.track)


def test_a_run_that_has_nothing_to_say_about_a_track_is_refused(tmp_path):
    one_run(tmp_path, "abaw6", ("EXPR",))
    with pytest.raises(ConfigError, match="EXPR, nothing that track VA"):
        open_runs(tmp_path, ["run"], track("abaw6", "VA"))


def test_clips_without_features_are_refused_or_get_the_mean_of_all_rows(tmp_path, features):
    form, listing, runs = prepare(tmp_path, "abaw6", "VA", [*images(), "lost/00001.jpg"])
    with pytest.raises(ConfigError, match=r"1 of 4 .*\(lost\).*--absent mean"):
        write_submission(form, listing, runs, features, tmp_path)
    written = write_submission(form, listing, runs, features, tmp_path, missing="mask", absent="mean")
    assert written.absent == ("lost",)
    predictions = random_predictions(edition("abaw6"), "VA")
    mean = [np.concatenate([v[task] for v in predictions.values()]).astype(float).mean() for task in "VA"]
    found = [float(value) for value in lines_of(written.path)[-2].split(",")[1:]]
    np.testing.assert_allclose(found, mean, atol=1e-6)
    assert check_submission(written.path, form, listing) == []


def test_a_clip_of_unknown_length_is_refused(tmp_path, features):
    asked = prepare(tmp_path, "abaw2", "VA", ["lost"])
    with pytest.raises(ConfigError, match=r"clip lost.*--lengths"):
        write_submission(*asked, features, tmp_path, absent="mean")


def test_a_folder_with_files_of_other_clips_is_not_written_into(tmp_path, features):
    (tmp_path / "out" / "abaw2_VA").mkdir(parents=True)
    (tmp_path / "out" / "abaw2_VA" / "old.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"old\.txt"):
        write_one(tmp_path, features, "abaw2", "VA")


def test_a_record_beside_the_files_says_what_was_made_of_what(tmp_path, features):
    written, _, _ = write_one(tmp_path, features, "abaw3", "MTL", thresholds=0.25)
    record = json.loads((tmp_path / "out" / "abaw3_MTL.json").read_text())
    assert record["runs"] == {"run": ["V", "A", "AU", "EXPR"]}
    assert (record["missing"], record["rows"], record["without_crop"]) == ("interpolate", written.rows, 5)
    assert record["au_thresholds"] == [0.25] * 12


def test_synthetic_images_belong_to_no_clip_so_their_track_is_not_written():
    with pytest.raises(ConfigError, match="LSD"):
        format_of("abaw4", "LSD")


HEADED = "image_location,valence,arousal\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADED + "a/00001.jpg,0.5,-0.5\na/00003.jpg,0.5,-0.5\n",
        HEADED + "a/00001.jpg,\na/00003.jpg,\n",
        "\ufeff" + HEADED.replace("\n", "\r\n") + "a/00001.jpg\r\na/00003.jpg\r\n\r\n",
        "a/00001.jpg\na/00003.jpg",
    ],
    ids=["dummy values", "bare commas", "BOM and CRLF", "no header"],
)
def test_names_of_a_list_are_the_text_before_the_first_comma(tmp_path, content):
    (tmp_path / "list").write_bytes(content.encode())
    listing = read_list(tmp_path / "list", format_of("abaw5", "VA"))
    assert listing.names == ("a/00001.jpg", "a/00003.jpg")
    assert listing.header == HEADED.strip()


def test_a_list_spells_the_header_of_its_submission(tmp_path):
    # Only case and blanks may differ from the names of the edition.
    (tmp_path / "list").write_text("Image_location, Valence,arousal\na/00001.jpg,\n")
    form = format_of("abaw5", "VA")
    assert read_list(tmp_path / "list", form).header == "Image_location, Valence,arousal"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("image_location,Neutral\na/00001.jpg\n", "line 1: found 'image_location,Neutral'"),
        (HEADED + "a/00001.jpg\n\na/00002.jpg\n", "line 3: found ''"),
        (HEADED + "a/1.jpg\n", "line 2: found 'a/1.jpg'"),
        (HEADED + "a/00000.jpg\n", "line 2: found 'a/00000.jpg'"),
        (HEADED, "line 2: found ''"),
        ("", "line 1: found ''"),
        ("\udcff", "not a text file"),
    ],
)
def test_a_list_of_images_that_is_none_is_refused_by_line(tmp_path, content, told):
    (tmp_path / "list").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CorpusError, match=re.escape(told)):
        read_list(tmp_path / "list", format_of("abaw6", "VA"))


@pytest.mark.parametrize(
    ("content", "lengths", "told"),
    [
        ("one\ntwo\none\n", None, "line 3: found 'one', expected every clip once"),
        ("one.txt\n", None, "line 1: found 'one.txt', expected the name of a clip"),
        ("a/00001.jpg\n", None, "line 1: found 'a/00001.jpg'"),
        ("one\ntwo\n", "one,5\n", "1 listed clips have no length, the first is two"),
        ("one\n", "one,5\none,6\n", "line 2: found 'one,6', expected every clip once"),
        ("one\n", "one 5\n", "line 1: found 'one 5', expected a clip and its number of frames"),
        ("one\n", "one,0\n", "line 1: found 'one,0'"),
    ],
)
def test_a_list_of_clips_or_lengths_that_is_none_is_refused_by_line(tmp_path, content, lengths, told):
    (tmp_path / "list").write_text(content)
    if lengths is not None:
        (tmp_path / "lengths").write_text(lengths)
    with pytest.raises(CorpusError, match=re.escape(told)):
        read_list(tmp_path / "list", format_of("abaw2", "VA"), tmp_path / "lengths" if lengths else None)


def test_lengths_are_refused_where_the_list_has_every_row(tmp_path):
    (tmp_path / "list").write_text("a/00001.jpg\n")
    with pytest.raises(CorpusError, match="no lengths are needed"):
        read_list(tmp_path / "list", format_of("abaw6", "VA"), tmp_path / "list")


def test_write_and_check_work_from_the_command_line(trained_run, tmp_path, capsys):
    from pipeline.cli import main
    from pipeline.commands.options import DONE, FAILED, USAGE

    def facets(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return ended.value.code, *capsys.readouterr()

    folder, features, _ = trained_run
    (tmp_path / "list.txt").write_text("c\nb\n")
    asked = ("--list", tmp_path / "list.txt", "--track", "EXPR", "--edition", "abaw2")
    here = ("--work", folder, "--set", f"streams.face={{store: {features.path}}}")
    code, out, _ = facets(
        "submission", "write", "0123456789ab", *asked, "--out", tmp_path / "out", *here, "--missing", "hold"
    )
    assert (code, out) == (
        DONE,
        f"{tmp_path / 'out' / 'abaw2_EXPR'}: fits abaw2_EXPR and all 2 names of {tmp_path / 'list.txt'}\n",
    )
    path = tmp_path / "out" / "abaw2_EXPR"
    assert facets("submission", "check", path, *asked)[0] == DONE
    (path / "b.txt").unlink()
    code, out, err = facets("submission", "check", path, *asked)
    assert (code, err) == (FAILED, "")
    assert out == f"{path / 'b.txt'}: found no such file, expected the rows of clip b; write it\n"
    code, _, err = facets("submission", "write", "nope", *asked, "--out", tmp_path / "x", *here)
    assert code == USAGE
    assert "no finished run nope" in err


def test_each_run_predicts_by_the_streams_that_it_reads(tmp_path, capsys):
    import temporal
    from pipeline.cli import main
    from pipeline.commands.options import DONE, USAGE

    specs = {"face": feature_spec(4, "float32"), "audio": feature_spec(3, "float32")}
    both = {name: stores.create(tmp_path / name, spec) for name, spec in specs.items()}
    labels = stores.create(tmp_path / "labels", label_spec())
    for seed, (clip, split) in enumerate([("a", "train"), ("b", "validation"), ("c", "test")]):
        attrs = {"split": split, "fps": 30.0, "subject": clip, "corpus": "rendered"}
        labels.write(clip, label_arrays(9, label_spec(), seed), attrs)
        for name, spec in specs.items():
            arrays = feature_arrays(9, spec, seed)
            arrays["valid"][:] = False
            arrays["valid"][{"face": [2, 3], "audio": [3, 7]}[name]] = True
            arrays["features"][~arrays["valid"]] = 0
            both[name].write(clip, arrays)
    settings = temporal.Training(
        window=9, hop=9, epochs=1, channels=4, levels=1, projection=4, standardise=False
    )
    asked = [temporal.Run(("V",)), temporal.Run(("A",), streams=("audio",))]
    results = temporal.fit(temporal.load_bank(both, labels), asked, settings)
    for run_id, result in zip(("va", "audio"), results, strict=True):
        temporal.save(result, tmp_path / "runs" / run_id)
        write_predictions(tmp_path / "runs" / run_id, result.predictions, {})
        (tmp_path / "runs" / run_id / RESULT).write_text("{}")
    (tmp_path / "list").write_text("c\nb\n")

    def write(*streams):
        here = [f"--set=streams.{name}={{store: {tmp_path / name}}}" for name in streams]
        command = ["submission", "write", "va", "audio", "--track=VA", "--edition=abaw2", "--work", tmp_path]
        with pytest.raises(SystemExit) as ended:
            main(
                [*map(str, command), "--list", str(tmp_path / "list"), "--out", str(tmp_path / "out"), *here]
            )
        return ended.value.code, capsys.readouterr().err

    assert write("face", "audio")[0] == DONE
    # A frame counts as seen by a run if one of its own streams has something.
    for clip in "bc":
        rows = np.loadtxt(tmp_path / "out" / "abaw2_VA" / f"{clip}.txt", delimiter=",", skiprows=1)
        for column, result, frames in ((0, results[0], [2, 3, 7]), (1, results[1], [3, 7])):
            own = {name: both[name] for name in result.model.feature_specs}
            values = result.model.predict(own, clip)["VA"[column]]
            expected = np.clip(np.interp(np.arange(9), frames, values[frames]), -1, 1)
            np.testing.assert_allclose(rows[:, column], expected, atol=1e-5)
    assert json.loads((tmp_path / "out" / "abaw2_VA.json").read_text())["without_crop"] == 2 * 7
    code, told = write("face")
    assert code == USAGE
    assert "run va reads the stream 'audio'" in told
