"""Configurations: what is accepted, and how a mistake is answered."""

from dataclasses import asdict, fields

import pytest
import yaml
from pydantic import BaseModel

from pipeline.config import Config, Render
from pipeline.config import Training as TrainingSection
from pipeline.configfile import PACKAGED, known_keys, load, packaged_path
from pipeline.plan import row_name
from stores.errors import ConfigError

SEED_ROWS = [
    "V", "A", "AU", "EXPR", "A+AU", "A+AU+Attn", "V+AU+Attn", "A+EXPR+Attn", "V+EXPR+Attn", "A+AU+EXPR+Attn",
    "AU+EXPR+Attn",
]  # fmt: skip

SMALL = """\
name: small
corpus: {kind: rendered}
features: {backbone: resnet50, weights: imagenet1k_v2}
training:
  epochs: 3
sweep:
  rows:
    - {tasks: [AU, V]}
    - {tasks: [A, EXPR], attention: true}
  seeds: [0]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "my.yaml"
        path.write_text(text)
        return path

    return write


def names(config):
    return [row_name(row) for row in config.sweep.all_rows()]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_configuration_loads(name):
    assert load(name).name == name


def test_the_demo_plans_the_eleven_rows_of_the_seed_project_with_three_seeds():
    demo = load("demo")
    assert names(demo) == SEED_ROWS
    assert demo.sweep.seeds == (0, 1, 2)


def test_subsets_plans_fifteen_combinations_and_eleven_with_attention():
    rows = load("subsets").sweep.all_rows()
    assert len(rows) == len(set(rows)) == 26
    assert len({row.tasks for row in rows}) == 15
    assert sum(row.attention for row in rows) == 11


def test_the_demo_shows_every_key_and_its_default_where_there_is_one():
    raw = yaml.safe_load(packaged_path("demo").read_text())
    shown = {(*above, key) for above, section in sections(raw) for key in section}
    alternatives = {("sweep", "product"), ("sweep", "exclude")}
    wanted = {path for path in known_keys(Config) if path[:2] not in alternatives}
    nested = {("corpus", "parts"), ("corpus", "split")}  # shown in a comment, in one line
    wanted = {path for path in wanted if path[:2] not in nested or len(path) == 2}
    assert {path for path in wanted if path[:2] != ("sweep", "rows")} <= shown
    assert load("demo").training.deciding().keys() == load("affwild2").training.deciding().keys()


def sections(raw, above=()):
    yield above, raw
    for key, value in raw.items():
        if isinstance(value, dict):
            yield from sections(value, (*above, key))


def test_a_setting_on_the_command_line_wins_and_is_read_as_yaml():
    config = load(
        "demo",
        ["training.epochs=3", "sweep.seeds=[7]", "training.lr=1e-4", "training.loss_weights={AU: 0.1}"],
    )
    assert (config.training.epochs, config.sweep.seeds, config.training.lr) == (3, (7,), 1e-4)
    assert config.training.loss_weights == {"AU": 0.1}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs: 3", "epocs: 3", "my.yaml:5: unknown key 'training.epocs', did you mean 'training.epochs'?"),
        ("training:", "traning:", "my.yaml:4: unknown key 'traning', did you mean 'training'?"),
        ("name: s", "epochs: 3\nname: s", "yaml:1: unknown key 'epochs', did you mean 'training.epochs'"),
        ("tasks: [AU, V]", "task: [AU, V]", "key 'sweep.rows.0.task', did you mean 'sweep.rows.tasks'"),
        ("epochs: 3", "epochs: three", "my.yaml:5: training.epochs: found 'three'"),
        ("epochs: 3", "epochs: 0", "my.yaml:5: training.epochs: found 0"),
        ("epochs: 3", "hop: 301", "my.yaml:4: training: hop 301 is longer than window 300"),
        ("epochs: 3", "epochs: 3\n  epochs: 4", "my.yaml:6: the key 'epochs' is already on line 5"),
        ("[AU, V]", "[AU, W]", "my.yaml:8: sweep.rows.0.tasks.1: found 'W'"),
        ("[AU, V]", "[AU, AU]", "a task is named twice"),
        ("[AU, V]}", "[AU], attention: true}", "attention over one task changes nothing"),
        ("[AU, V]}", "[A, EXPR], attention: true}", "is given twice"),
        ("kind: rendered", "kind: affwild2", "needs 'root'"),
        ("kind: rendered", "kind: rendered, edition: abaw9", "unknown edition 'abaw9'"),
        ("features:", "table: {edition: abaw3}\nfeatures:", "has other labels or totals than corpus.edition"),
        ("seeds: [0]", "seeds: [0, 0]", "'seeds' must be one or more different numbers"),
        ("name: small", "name: ../small", "my.yaml:1: name: found '../small'"),
        ("features: ", "feature: ", "the key 'features' is missing"),
        ("name: small", "name: [small", "is not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_one_line_with_file_line_and_what_was_meant(write, old, new, told):
    with pytest.raises(ConfigError) as caught:
        load(write(SMALL.replace(old, new)))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "training.epocs=3",
            "--set training.epocs=3: unknown key 'training.epocs', did you mean 'training.epochs'?",
        ),
        ("training.epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("name.first=3", "name is 'small', not a section"),
        ("training.epochs=[3", "the value is not YAML"),
    ],
)
def test_a_mistake_in_a_setting_names_the_setting(write, setting, told):
    with pytest.raises(ConfigError) as caught:
        load(write(SMALL), [setting])
    assert told in str(caught.value)


def test_a_missing_file_names_itself_and_the_packaged_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml.*demo, subsets, smoke, affwild2"):
        load(tmp_path / "nowhere.yaml")


def test_a_list_instead_of_a_mapping_is_refused(write):
    with pytest.raises(ConfigError, match="expected a mapping with the keys name"):
        load(write("- 1\n- 2\n"))


def test_rows_keep_tasks_in_canonical_order(write):
    assert names(load(write(SMALL))) == ["V+AU", "A+EXPR+Attn"]


def test_exclude_takes_out_the_rows_that_agree_in_every_key(write):
    head = SMALL.split("sweep:")[0]
    product = "sweep: {product: {tasks: all_subsets, attention: [false, true]}, exclude: %s}"
    assert len(names(load(write(head + product % "[{attention: false}]")))) == 11
    left = names(load(write(head + product % "[{tasks: [A, V], attention: true}]")))
    assert len(left) == 25
    assert "V+A" in left
    assert "V+A+Attn" not in left
    with pytest.raises(ConfigError, match="leaves no row"):
        load(write(head + product % "[{attention: false}, {attention: true}]"))


def test_rows_and_product_together_are_refused(write):
    with pytest.raises(ConfigError, match="either 'rows' or 'product'"):
        load(write(SMALL + "  product: {tasks: all_subsets}\n"))


def test_no_section_can_be_changed_after_loading():
    demo = load("demo")
    assert isinstance(demo, BaseModel)
    with pytest.raises(ValueError, match="frozen"):
        demo.training.epochs = 1


def test_every_setting_of_the_temporal_stage_can_be_set_and_has_its_default():
    from temporal.settings import Run, Training

    shared = {field.name: field for field in fields(Training)}
    of_rows = {"tasks", "attention", "seed"}
    of_a_run = {field.name: field for field in fields(Run) if field.name not in of_rows}
    ours = TrainingSection()
    assert set(TrainingSection.model_fields) == {*shared, *of_a_run, "device", "max_replicas"}
    for name, field in (shared | of_a_run).items():
        default = {} if name == "loss_weights" else field.default
        assert getattr(ours, name) == default, name


def test_every_setting_of_the_renderer_can_be_set_and_has_its_default():
    from extract.corpora.rendered import RenderSettings

    assert Render().model_dump() == asdict(RenderSettings())
