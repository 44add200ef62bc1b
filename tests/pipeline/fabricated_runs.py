"""Work directories with made-up results, in the format that the sweep writes."""

import json
import random
from dataclasses import replace

from store_specs import feature_spec

from pipeline.config import Training
from pipeline.configfile import load
from pipeline.folds import Division
from pipeline.plan import Plan, PlannedRun, planned_runs
from pipeline.provenance import Provenance
from pipeline.report.summary import build_table
from stores import LabelSpec
from stores.editions import edition

SEED_ROWS = (
    "V",
    "A",
    "AU",
    "EXPR",
    "A+AU",
    "A+AU+Attn",
    "V+AU+Attn",
    "A+EXPR+Attn",
    "V+EXPR+Attn",
    "A+AU+EXPR+Attn",
    "AU+EXPR+Attn",
)
FRAMES = {"V": 1200, "A": 1200, "AU": 1500, "EXPR": 900}


def plan(names=SEED_ROWS, seeds=(0, 1, 2), own=(), bracket="", folds=(None,)):
    """Runs of rows with these names; ``own`` are settings of a row, by its name."""
    return [
        PlannedRun(
            run_id=f"{i:06x}{seed:03x}{0 if fold is None else fold + 1:03x}",
            name=name,
            tasks=tuple(part for part in name.split(" ")[0].split("+") if part != "Attn"),
            attention=name.split(" ")[0].endswith("Attn"),
            seed=seed,
            training=Training().deciding() | dict(own).get(name, {}),
            settings=dict(own).get(name, {}),
            bracket=bracket,
            fold=fold,
        )
        for i, name in enumerate(names)
        for seed in seeds
        for fold in folds
    ]


def planned(config, labels="e" * 64, features="f" * 64):
    """The runs of an experiment on made-up data with these digests and one division."""
    digests = dict.fromkeys(config.streams, features)
    return list(planned_runs(config, labels, digests, [Division(None, "", {"clip": "train"})]))


def metrics(tasks, value, edition_name="abaw2"):
    """Every score of ``tasks`` equal to ``value``, or to ``value(task, metric, label)``."""
    score = value if callable(value) else lambda *_: value
    rules = edition(edition_name)
    result = {}
    for task in tasks:
        if task in ("V", "A"):
            result[task] = {"ccc": score(task, "ccc", "")}
        else:
            result[task] = {name: score(task, name, "") for name in ("f1", "accuracy", "total")}
        if task == "AU":
            result[task]["per_au"] = {
                label: {name: score(task, name, label) for name in ("f1", "accuracy")} for label in rules.aus
            }
        if task == "EXPR":
            result[task]["per_class"] = {label: score(task, "f1", label) for label in rules.expressions}
        result[task]["frames"] = FRAMES[task]
    return result


def result(run, value, edition_name="abaw2", **changes):
    return {
        "run_id": run.run_id,
        "name": run.name,
        "tasks": list(run.tasks),
        "attention": run.attention,
        "seed": run.seed,
        "best_epoch": 12,
        "epochs": 20,
        "metrics": metrics(run.tasks, value, edition_name),
        "score": 0.5,
        "seconds": 1.5,
        "device": "cpu",
        "threads": 1,
        "versions": {},
    } | changes


def write_result(runs_dir, run, value, **changes):
    folder = runs_dir / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    content = result(run, value, **changes)
    (folder / "config.json").write_text("{}")
    (folder / "result.json").write_text(json.dumps(content))
    return content


def write_failure(runs_dir, run, error="loss is NaN at epoch 3"):
    folder = runs_dir / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.json").write_text(json.dumps({"error": error}))


def write_stopped(runs_dir, run, scores=(0.1, 0.2)):
    folder = runs_dir / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    record = {"bracket": run.bracket, "epochs": len(scores), "best_epoch": 1, "scores": list(scores)}
    (folder / "stopped.json").write_text(json.dumps(record))


def scattered(run):
    """Plausible scores for ``run``, the same at every call."""
    source = random.Random(run.run_id)
    centre = {"V": 0.55, "A": 0.62, "AU": 0.72, "EXPR": 0.52}
    return lambda task, metric, label: min(1.0, centre[task] + source.gauss(0, 0.1 if label else 0.03))


CHANCE = {
    "V": {"ccc": 0.0},
    "A": {"ccc": 0.0},
    "AU": {"f1": 0.31, "accuracy": 0.79, "total": 0.44},
    "EXPR": {"f1": 0.07, "accuracy": 0.33, "total": 0.156},
}


def sweep(runs, edition_name="abaw2", aus=None, streams=("face",)):
    """The configuration and the plan of a sweep with these runs."""
    rules = edition(edition_name)
    spec = replace(
        feature_spec(4),
        stream="narrow_resnet50.rendered",
        backbone="narrow_resnet50",
        weights="rendered",
        weights_sha256="0123456789abcdef" * 4,
        weights_trained_on=("rendered faces of other identities",),
    )
    facts = Provenance(
        corpus="rendered",
        corpus_note="drawn faces with known action units, made by this program",
        streams=dict.fromkeys(streams, spec),
        labels=LabelSpec("rendered", edition_name, rules.expressions, aus or rules.aus),
        clips=24,
        frames=FRAMES,
        chance=CHANCE,
        trained={},
        facets_version="0.1.0",
    )
    seeds = list(dict.fromkeys(run.seed for run in runs))
    config = load("demo", [f"{part}.edition={edition_name}" for part in ("table", "corpus")])
    config = config.model_copy(update={"sweep": config.sweep.model_copy(update={"seeds": tuple(seeds)})})
    return config, Plan("demo", None, {}, tuple(runs), (), {}, frozenset(), "", {}, facts)


def table_of(runs_dir, runs, value=scattered, edition_name="abaw2", **facts):
    """The table of ``runs`` after each got the score ``value``, or ``value(run)``; None writes nothing."""
    for run in runs:
        scores = value(run) if callable(value) else value
        if scores is not None:
            write_result(runs_dir, run, scores, edition_name=edition_name)
    return build_table(*sweep(runs, edition_name, **facts), runs_dir)
