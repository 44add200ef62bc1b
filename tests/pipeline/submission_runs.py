"""Feature stores and finished runs with known predictions, for the tests of submissions."""

import json

import numpy as np
from store_specs import feature_spec

import stores
from pipeline.ledger import RESULT, write_json, write_predictions
from pipeline.submission.composing import write_submission
from pipeline.submission.formats import format_of
from pipeline.submission.lists import read_list
from pipeline.submission.sources import open_runs
from stores.editions import track

# Clip -> whether each frame has a crop.
CLIPS = {
    "video45_1": [False, True, True, False, False, True, True, True, False],
    "2-30-640x360": [True] * 6,
    "video59_right": [True, False, True, True, True],
}
DIM = 4


def make_features(path, clips=CLIPS):
    store = stores.create(path, feature_spec(DIM, "float32"))
    for clip, valid in clips.items():
        arrays = {
            "features": np.ones((len(valid), DIM), np.float32) * np.array(valid)[:, None],
            "frame": np.arange(len(valid), dtype=np.int32),
            "valid": np.array(valid),
        }
        store.write(clip, arrays)
    return {"face": store}


def random_predictions(rules, tasks, clips=CLIPS):
    random = np.random.default_rng(7)
    return {
        clip: {
            task: {
                "V": lambda t: random.normal(0, 0.7, t),
                "A": lambda t: random.normal(0, 0.7, t),
                "AU": lambda t: random.random((t, len(rules.aus))),
                "EXPR": lambda t: random.dirichlet(np.ones(len(rules.expressions)), t),
            }[task](len(valid)).astype(np.float32)
            for task in tasks
        }
        for clip, valid in clips.items()
    }


def make_run(runs, run_id, rules, predictions, thresholds=0.5, streams=("face",)):
    """A finished run whose validation clips are those of ``predictions``."""
    folder = runs / run_id
    folder.mkdir(parents=True)
    tasks = list(next(iter(predictions.values())))
    names = stores.LabelSpec("rendered", rules.name, rules.expressions, rules.aus)
    aus = np.broadcast_to(thresholds, len(rules.aus)).tolist()
    write_json(
        folder / "config.json",
        {
            "label_spec": names.to_json(),
            "run": {"tasks": tasks},
            "streams": dict.fromkeys(streams),
            "thresholds": {"AU": aus} if "AU" in tasks else {},
        },
    )
    write_predictions(folder, predictions, {"run_id": run_id})
    (folder / RESULT).write_text(json.dumps({"run_id": run_id}))


def images(clips=CLIPS):
    """Every frame of every clip, in the order of the organisers' lists."""
    return [f"{clip}/{i + 1:05d}.jpg" for clip, valid in clips.items() for i in range(len(valid))]


def make_list(path, form, names=None):
    """A list as the organisers of that edition make it."""
    edition, rows = form.track.rules.name, names
    if form.clipwise:
        rows = list(CLIPS) if names is None else names
        path.write_text("\n".join(rows) + "\n")
        return path
    rows = images() if names is None else names
    dummy = {"VA": ",0.5,-0.5", "EXPR": ",0", "AU": ",0" * 12, "CE": ",0"}.get(form.track.name, "")
    behind = {"abaw3": "", "abaw4": "", "abaw11": "", "abaw5": ",", "abaw7": ","}.get(edition, dummy)
    path.write_text("\n".join([form.header_line, *(name + behind for name in rows)]) + "\n")
    return path


def prepare(folder, edition, name, names=None, thresholds=0.5, clips=CLIPS, predictions=None, lengths=None):
    """A run, with random predictions unless given, and a list: format, list and sources of a submission."""
    asked, form = track(edition, name), format_of(edition, name)
    made = random_predictions(asked.rules, asked.tasks, clips) if predictions is None else predictions
    make_run(folder / "runs", "run", asked.rules, made, thresholds)
    if lengths is not None:
        (folder / "lengths").write_text(lengths)
    listing = read_list(
        make_list(folder / "list.txt", form, names), form, None if lengths is None else folder / "lengths"
    )
    return form, listing, open_runs(folder / "runs", ["run"], asked)


def write_one(folder, features, edition, name, names=None, thresholds=0.5, **options):
    """Writes a submission from one run: what was written, its format and its list."""
    form, listing, sources = prepare(folder, edition, name, names, thresholds)
    return write_submission(form, listing, sources, features, folder / "out", **options), form, listing
