"""Claims about the embedded corpus: deterministic, complete, with warts, no person in two splits."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_rendered_backbone import Recipe

from extract.corpora import load
from extract.corpora.rendered import RenderSettings, action, performance, render
from extract.corpora.rendered.canvas import Shot
from extract.corpora.rendered.cast import cast
from extract.corpora.rendered.face import draw_face
from extract.corpora.rendered.identity import draw_identity, generator
from stores.editions import AU_12, EXPR_8
from stores.errors import ConfigError, CorpusError

TINY = RenderSettings(
    train_people=6, validation_people=1, test_people=1, clips_per_person=1, min_frames=30, max_frames=30
)
THREE = replace(TINY, train_people=1)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered") / "corpus"
    render(root, TINY, workers=1)
    return root


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of each split: for tests that render again."""
    root = tmp_path_factory.mktemp("three") / "corpus"
    render(root, THREE, workers=1)
    return root


def test_equal_settings_give_equal_files_by_any_number_of_processes(three, tmp_path):
    render(tmp_path / "again", THREE, workers=2)
    assert digests(tmp_path / "again") == digests(three)


def test_an_interrupted_rendering_is_taken_up_and_ends_in_the_same_files(three, tmp_path):
    def stop(step, total, completed):
        if completed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "again", THREE, workers=1, progress=stop)
    complete = len(list((tmp_path / "again" / "truth").iterdir()))
    assert 0 < complete < len(cast(THREE))
    with pytest.raises(CorpusError, match="facets render"):
        load("rendered", tmp_path / "again", "abaw2")
    render(tmp_path / "again", THREE, workers=1)
    assert digests(tmp_path / "again") == digests(three)


def test_a_rendering_killed_while_it_writes_its_plan_is_taken_up(tmp_path, monkeypatch):
    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", killed)  # nothing is tidied up either
        with pytest.raises(KeyboardInterrupt):
            render(tmp_path, TINY, workers=1)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith("rendering.json")
    with pytest.raises(KeyboardInterrupt):  # goes on to its first clip
        render(tmp_path, TINY, workers=1, progress=killed)
    assert (tmp_path / "rendering.json").exists()


def test_a_corpus_that_another_process_draws_too_is_finished_by_both_and_no_file_is_written_twice(
    three, tmp_path
):
    again, before = tmp_path / "again", {}

    def meanwhile(step, total, completed):
        if completed == total:  # this one has drawn everything, and not yet said so
            (again / "truth" / "video1.csv").unlink()
            before.update((path, path.stat().st_mtime_ns) for path in again.rglob("*.jpg"))
            render(again, THREE, workers=1)

    render(again, THREE, workers=1, progress=meanwhile)
    assert digests(again) == digests(three)
    assert before == {path: path.stat().st_mtime_ns for path in again.rglob("*.jpg")}


def test_gaps_are_short_and_may_lie_at_the_very_start():
    most, at_start = 0, 0
    for number in range(3000):
        missing = performance._gaps(generator("test", number), 60, TINY)
        most, at_start = max(most, int(missing.sum())), at_start + int(missing[0])
    assert most <= 3 * 9
    assert at_start > 10


def test_only_the_second_edition_is_rendered(rendered):
    with pytest.raises(ConfigError, match=r"corpus\.edition 'abaw3': set abaw2"):
        load("rendered", rendered, "abaw3")


def test_a_finished_rendering_is_left_alone(rendered):
    before = {path: path.stat().st_mtime_ns for path in rendered.rglob("*")}
    render(rendered, TINY, workers=1)
    assert {path: path.stat().st_mtime_ns for path in rendered.rglob("*")} == before


def test_a_folder_with_other_settings_or_other_files_is_refused(rendered, tmp_path):
    with pytest.raises(CorpusError, match="other settings"):
        render(rendered, RenderSettings(seed=1), workers=1)
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(CorpusError, match="not empty"):
        render(tmp_path, TINY, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_every_crop_is_a_112_pixel_colour_jpeg_named_by_frame(rendered):
    crops = sorted((rendered / "cropped_aligned").rglob("*"))
    pictures = [path for path in crops if path.is_file()]
    assert pictures
    for path in pictures[::17]:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 112))
        assert len(path.stem) == 5
        assert path.stem.isdigit()
        assert int(path.stem) >= 1


def test_the_reader_gives_back_the_truth_wherever_a_label_is_known(rendered):
    corpus = load("rendered", rendered, "abaw2")
    checked = 0
    for clip in corpus.clips:
        with (rendered / "truth" / f"{clip.id}.csv").open() as stream:
            truth = list(csv.DictReader(stream))
        labels = clip.labels
        for i, row in enumerate(truth):
            assert (clip.frames[i] is not None) == bool(int(row["crop"]))
            if labels.expression[i] >= 0:
                assert corpus.expression_names[labels.expression[i]] == row["expression"]
            if np.isfinite(labels.valence[i]):
                assert labels.valence[i] == pytest.approx(float(row["valence"]), abs=6e-4)
                assert labels.arousal[i] == pytest.approx(float(row["arousal"]), abs=6e-4)
            for column, name in enumerate(corpus.au_names):
                if labels.au[i, column] >= 0 and abs(float(row[name]) - action.OCCURRENCE) > 1e-3:
                    assert labels.au[i, column] == (float(row[name]) > action.OCCURRENCE)
                    checked += 1
    assert checked > 500


def test_no_person_is_in_two_splits_and_tasks_are_annotated_on_different_overlapping_clips():
    roles = cast(RenderSettings())
    people = {
        split: {role.person for role in roles if role.split == split}
        for split in ("train", "validation", "test")
    }
    assert not people["train"] & people["validation"]
    assert not (people["train"] | people["validation"]) & people["test"]
    for split in ("train", "validation"):
        annotated = [set(role.tasks) for role in roles if role.split == split]
        assert {"VA", "EXPR", "AU"} in annotated
        assert any(tasks and tasks != {"VA", "EXPR", "AU"} for tasks in annotated)
    assert any(role.id.endswith("_left") for role in roles)
    assert len({role.id for role in roles}) == len(roles)


def test_the_subject_of_a_clip_is_the_person_drawn_and_its_video_is_another_thing(rendered):
    clips = load("rendered", rendered, "abaw2").clips
    assert {clip.id: clip.subject for clip in clips} == {
        role.id: f"person{role.person}" for role in cast(TINY)
    }
    left, right = (clip for clip in clips if clip.id in ("video3_left", "video3_right"))
    assert left.video == right.video == "video3"
    assert left.subject != right.subject


def test_the_default_corpus_has_every_wart_of_the_real_one():
    settings = RenderSettings()
    roles = cast(settings)
    offsets = [offset for role in roles for offset in role.row_offsets]
    assert {-1, 0, 1, 2} == set(offsets)
    assert min(role.frames for role in roles) < settings.min_frames
    by_video: dict[str, set[str]] = {}
    for role in roles:
        by_video.setdefault(role.id.removesuffix("_left").removesuffix("_right"), set()).add(role.split)
    assert all(len(splits) == 1 for splits in by_video.values())


def test_warts_are_written_as_the_release_writes_them(rendered):
    text = {
        task: [
            line
            for path in sorted(rendered.rglob(f"{task}_Set/*/*.txt"))
            for line in path.read_text().splitlines()
        ]
        for task in ("VA", "EXPR", "AU")
    }
    assert "-5,-5" in text["VA"]
    assert "-1" in text["EXPR"]
    assert ",".join(["-1"] * 12) in text["AU"]
    assert any(0 < line.count("-1") < 12 for line in text["AU"][1:])
    crops = {
        clip.name: {int(p.stem) for p in clip.iterdir()} for clip in (rendered / "cropped_aligned").iterdir()
    }
    assert any(set(range(1, max(numbers) + 1)) - numbers for numbers in crops.values())


def test_each_action_unit_changes_the_picture_where_it_acts():
    rows = {
        "AU1": (0, 45),
        "AU2": (0, 45),
        "AU4": (0, 60),
        "AU6": (38, 75),
        "AU7": (35, 60),
        "AU12": (55, 112),
        "AU10": (45, 95),
        "AU15": (70, 112),
        "AU23": (70, 112),
        "AU24": (70, 112),
        "AU25": (70, 112),
        "AU26": (70, 112),
    }
    for person in range(3):
        who = draw_identity(generator("test", person))
        rest = draw_face(who, {}, Shot(), 112).astype(int)
        for name in AU_12:
            change = np.abs(draw_face(who, {name: 1.0}, Shot(), 112).astype(int) - rest).sum(axis=(1, 2))
            first, last = rows[name]
            assert change[first:last].sum() > 4000, name
            assert change[first:last].sum() > 0.9 * change.sum(), name


def test_prototypes_are_read_as_their_own_expression_and_rest_as_neutral():
    for name, prototype in action.PROTOTYPES.items():
        aus = np.array([[prototype.get(au, 0.0) * scale for au in AU_12] for scale in (0.6, 1.0)])
        assert [EXPR_8[i] for i in action.expression(aus)] == [name, name]
    assert EXPR_8[action.expression(np.zeros((1, 12)))[0]] == "Neutral"
    assert EXPR_8[action.expression(np.eye(12)[[AU_12.index("AU7")]])[0]] == "Other"


def test_a_rating_follows_late_and_stays_in_range():
    step = np.concatenate([np.full(50, -1.0), np.full(150, 1.0)])
    rated = action.rate(step, generator("test", "rating"), lag=10, noise=0.0)
    assert rated[55] < 0 < rated[65]
    assert rated[-1] == pytest.approx(1.0, abs=1e-4)
    noisy = action.rate(step, generator("test", "rating"), lag=10, noise=0.5)
    assert np.abs(noisy).max() <= 1


def test_the_backbone_was_trained_on_other_people_than_the_corpus_shows():
    shown, recipe = {role.person for role in cast(RenderSettings())}, Recipe()
    ours = [draw_identity(generator("corpus", RenderSettings().seed, "identity", n)) for n in shown]
    theirs = [draw_identity(generator("backbone", recipe.seed, "train", n)) for n in range(recipe.people)]
    assert not {who.skin for who in ours} & {who.skin for who in theirs}
