"""What holds for every kind of corpus, alone and mixed with any other: options have a type, no label is lost.

Trees are the smallest that each reader takes.
"""

from collections import Counter
from itertools import combinations

import image_trees
import pytest
import sequence_trees
from affwild2_releases import draw_multitask
from affwild2_tree import Tree

from extract import corpora
from extract.corpora import labelspace, mixture
from extract.corpora.mixture import Part
from stores.editions import AU_12, EXPR_8
from stores.errors import ConfigError, CorpusError

ABAW = {
    "Neutral": ("Neutral", "neutral"),
    "Anger": ("Anger", "anger", "angry"),
    "Disgust": ("Disgust", "disgust"),
    "Fear": ("Fear", "fear"),
    "Happiness": ("Happiness", "Happy", "happy"),
    "Sadness": ("Sadness", "Sad", "sadness", "sad"),
    "Surprise": ("Surprise", "surprise"),
    "Other": ("Other",),
}
"""Class of ABAW -> every spelling of it in any of the corpora; written out here, not taken from the code."""
CONTEMPT = ("Contempt", "contempt")


def videos(root):
    tree = Tree(root)
    for clip, split in (("v1", "Train_Set"), ("v2", "Validation_Set")):
        tree.whole(clip, split)


def table(root):
    rows = [f"{i}.jpg,{('Other', 'boredom', 'sad')[i % 3]},{i % 2},{i % 2}" for i in range(6)]
    image_trees.touch(root, [f"{i}.jpg" for i in range(6)])
    image_trees.write(root / "manifest.csv", ["path,expression,AU04,AU43", *rows])


def numbered(count):
    return [(f"{i:04d}.jpg", i) for i in range(count)]


MAKERS = {
    **sequence_trees.MAKERS,
    "ckplus": lambda root: sequence_trees.ckplus(root, emotion=2),
    "affectnet": lambda root: image_trees.affectnet_lists(
        root, [(f"1/{name}", i % 11, 0.5, -0.5) for name, i in numbered(22)], [("2/a.jpg", 7, -2, 0)]
    ),
    "affwild2": videos,
    "affwild2_mtl": lambda root: draw_multitask(root, "abaw7", 1),
    "expw": lambda root: image_trees.expw(root, [(n, 0, (0, 0, 9, 9), 9, i % 7) for n, i in numbered(14)]),
    "manifest": table,
    "rafau": lambda root: image_trees.rafau(root, [(n, ("1+L4+43", "null")[i % 2]) for n, i in numbered(6)]),
    "rafce": lambda root: image_trees.rafce(root, [(n, i % 14, i % 3, "1+25") for n, i in numbered(28)]),
    "rafdb": lambda root: image_trees.rafdb(root, [(f"train_{n}", 1 + i % 7) for n, i in numbered(14)]),
}
EDITIONS = {"affwild2": "abaw2", "affwild2_mtl": "abaw7"}


@pytest.fixture(scope="module")
def natives(tmp_path_factory):
    """Kind -> the corpus with its own names; ``rendered`` is read by the reader of Aff-Wild2."""
    assert MAKERS.keys() == corpora.KINDS.keys() - {"rendered"}
    found = {}
    for kind, make in MAKERS.items():
        root = tmp_path_factory.mktemp(kind)
        make(root / "tree")
        found[kind] = corpora.load(kind, root / "tree", EDITIONS.get(kind, ""))
    return found


def census(corpus, prefix=""):
    """How many labels of each name the clips with this prefix have, and how many of valence and arousal."""
    counts = Counter()
    for clip in corpus.clips:
        if clip.id.startswith(prefix):
            labels = clip.labels
            counts.update(corpus.expression_names[code] for code in labels.expression if code >= 0)
            for name, column in zip(corpus.au_names, labels.au.T, strict=True):
                counts[f"{name} known"] += int((column >= 0).sum())
                counts[f"{name} active"] += int((column == 1).sum())
            counts["V"] += int((labels.valence == labels.valence).sum())
            counts["A"] += int((labels.arousal == labels.arousal).sum())
    return +counts


def expected(counts, contempt):
    """What of a census is left under the names of ABAW-8."""
    spellings = ABAW | ({"Other": (*ABAW["Other"], *CONTEMPT)} if contempt else {})
    kept = {name: sum(counts[spelling] for spelling in spellings[name]) for name in EXPR_8}
    for unit in AU_12:
        for what in ("known", "active"):
            kept[f"{unit} {what}"] = counts[f"{unit} {what}"] + counts[f"AU0{unit[2:]} {what}"]
    return +Counter(kept | {"V": counts["V"], "A": counts["A"]})


@pytest.mark.parametrize("contempt", [False, True])
def test_a_mixture_of_any_two_kinds_keeps_every_label_with_a_name_and_reports_every_other(natives, contempt):
    rules = {"Contempt": "Other"} if contempt else {}
    mapped = {kind: labelspace.to_space(native, EXPR_8, AU_12, rules) for kind, native in natives.items()}
    scored = Part(mapped["affwild2"][0])
    everything = ("train", "validation", "test")
    for pair in combinations(natives, 2):
        parts = {kind: Part(mapped[kind][0], training_splits=everything) for kind in pair}
        mixed = mixture.mix(parts | {"scored": scored}, ["scored"], "abaw5")
        for kind in pair:
            assert census(mixed, f"{kind}.") == expected(census(natives[kind]), contempt), pair
    for kind, native in natives.items():
        report, counts = mapped[kind][1], census(native)
        assert [m.source for m in report.expressions] == list(native.expression_names)
        assert [m.source for m in report.aus] == list(native.au_names)
        for mapping in report.expressions:
            assert mapping.labels == counts[mapping.source]
        for mapping in report.aus:
            assert mapping.labels == counts[f"{mapping.source} known"]
        known = {spelling for name in EXPR_8 for spelling in ABAW[name]} | set(CONTEMPT if contempt else ())
        lost = [name for name in native.expression_names if name not in known]
        assert [m.source for m in report.expressions if m.target is None] == lost
        told = " ".join(report.lines())
        assert all(f"{name} (" in told for name in lost)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("affectnet", {"cropped": "no"}, "option 'cropped' of a corpus of kind affectnet: found 'no', expec"),
        ("affectnet", {"cropped": 0}, "found 0, expected true or false"),
        ("expw", {"min_confidence": "high"}, "found 'high', expected a number or null"),
        ("expw", {"min_confidence": True}, "found True, expected a number or null"),
        ("manifest", {"au_threshold": "2"}, "found '2', expected a whole number or null"),
        ("manifest", {"expressions": "joy"}, "found 'joy', expected a list of text"),
        ("manifest", {"aus": [1, 2]}, "found \\[1, 2\\], expected a list of text"),
        ("rafdb", {"classes": 7}, "found 7, expected text"),
        ("ckplus", {"au_threshold": 2.0}, "found 2.0, expected a whole number"),
        ("rafau", {"au_threshold": 2}, "unknown option 'au_threshold' of a corpus of kind rafau, expected n"),
    ],
)
def test_an_option_of_another_type_is_refused_before_anything_is_read(tmp_path, kind, options, told):
    with pytest.raises(ConfigError, match=told):
        corpora.load(kind, tmp_path, "", **options)


def test_options_of_the_right_type_are_taken(tmp_path):
    for kind, options in (
        ("expw", {"min_confidence": 50}),
        ("expw", {"min_confidence": None}),
        ("bp4d", {"au_threshold": None}),
        ("manifest", {"expressions": ["joy"], "aus": ("AU1",), "au_threshold": 2}),
    ):
        with pytest.raises(CorpusError):  # there is no corpus
            corpora.load(kind, tmp_path, "", **options)
