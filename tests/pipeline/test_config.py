"""Configurations: what is accepted, and how a mistake is answered."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from extract.corpora import KINDS
from pipeline.config import Config, Render
from pipeline.config import Training as TrainingSection
from pipeline.configfile import PACKAGED, known_keys, load, packaged_path
from pipeline.rows import sweep_rows
from pipeline.stage1.reading import require_section, section
from pipeline.workdir import work_dir
from stores import documents
from stores.errors import ConfigError

SEED_ROWS = [
    "V", "A", "AU", "EXPR", "A+AU", "A+AU+Attn", "V+AU+Attn", "A+EXPR+Attn", "V+EXPR+Attn", "A+AU+EXPR+Attn",
    "AU+EXPR+Attn",
]  # fmt: skip

SMALL = """\
name: small
corpus: {kind: rendered}
streams: {face: {backbone: resnet50, weights: imagenet1k_v2}}
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
    return [row.name for row in sweep_rows(config)]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_configuration_loads(name):
    assert load(name).name == name


def test_the_demo_plans_the_eleven_rows_of_the_seed_project_with_three_seeds():
    demo = load("demo")
    assert names(demo) == SEED_ROWS
    assert demo.sweep.seeds == (0, 1, 2)


def test_subsets_plans_fifteen_combinations_and_eleven_with_attention():
    rows = sweep_rows(load("subsets"))
    assert len(rows) == len({row.name for row in rows}) == 26
    assert len({row.tasks for row in rows}) == 15
    assert sum(row.attention for row in rows) == 11


def test_au_weights_are_those_of_the_loss_weight_experiment_and_one():
    rows = sweep_rows(load("au_weights"))
    weights = {
        name: [row.training["loss_weights"].get("AU", 1) for row in rows if row.name.split()[0] == name]
        for name in ("AU", "AU+EXPR", "AU+EXPR+Attn")
    }
    assert weights == {"AU": [1], "AU+EXPR": [0.1, 0.2, 0.3, 0.5, 1], "AU+EXPR+Attn": [0.1, 0.2, 0.3, 0.5, 1]}
    assert [row.name for row in rows if "AU" not in row.tasks] == ["EXPR"]


def test_the_demo_shows_every_key_and_its_default_where_there_is_one():
    raw = yaml.safe_load(packaged_path("demo").read_text())
    shown = {(*above, key) for above, section in sections(raw) for key in section}
    alternatives = {("sweep", "product"), ("sweep", "exclude"), ("sweep", "halving")}
    wanted = {
        tuple("face" if key == "*" and path[0] == "streams" else key for key in path)
        for path in known_keys(Config)
        if path[:2] not in alternatives
    }
    nested = {("corpus", "parts"), ("corpus", "split"), ("sweep", "folds")}  # shown in a comment, in one line
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
        ("epochs: 3", "hop: 301", "my.yaml:4: training: hop 301 > window 300"),
        ("epochs: 3", "losses: {AU: {name: focal, gama: 1}}", "unknown key 'gama', did you mean 'gamma'?"),
        ("epochs: 3", "losses: {AU: focl}", "my.yaml:5: training.losses: losses.AU 'focl'"),
        ("epochs: 3", "model: lstm", "my.yaml:5: training.model: model 'lstm': expected one of tcn"),
        ("epochs: 3", "model: lstm", "expected one of tcn, multiscale_tcn, bigru, transformer, mlp"),
        ("epochs: 3", "attention: soft", "expected one of scalar, vector, cross_task, hierarchical"),
        ("epochs: 3", "model: transformer\n  channels: 5", "yaml:4: training: channels 5, attention_heads 4"),
        ("epochs: 3", "epochs: 3\n  epochs: 4", "my.yaml:6: the key 'epochs' is already on line 5"),
        ("[AU, V]", "[AU, W]", "my.yaml:8: sweep.rows.0.tasks.1: found 'W'"),
        ("[AU, V]", "[AU, AU]", "a task is named twice"),
        ("[AU, V]}", "[AU], attention: true}", "attention over one task changes nothing"),
        ("[AU, V]}", "[A, EXPR], attention: true}", "is given twice"),
        ("kind: rendered", "kind: affwild2", "needs 'root'"),
        ("kind: rendered", "kind: rendered, edition: abaw9", "unknown edition 'abaw9'"),
        ("streams:", "table: {edition: abaw3}\nstreams:", "has other labels or totals than corpus.edition"),
        ("seeds: [0]", "seeds: [0, 0]", "'seeds' must be one or more different numbers"),
        ("name: small", "name: ../small", "my.yaml:1: name: found '../small'"),
        ("streams: ", "stream: ", "the key 'streams' is missing"),
        ("[AU, V]}", "[AU, V], training: {lrr: 1}}", "training.lrr', did you mean 'sweep.rows.training.lr'"),
        ("{face: ", "{Face: ", "my.yaml:3: streams.Face"),
        ("{face: {backbone: resnet50, weights: imagenet1k_v2}}", "{}", "my.yaml:3: streams: found {}"),
        ("weights: imagenet1k_v2", "wights: x", "did you mean 'streams.*.weights'"),
        ("[AU, V]}", "[AU, V], streams: [fase]}", "row V+AU: no stream 'fase', did you mean 'face'?"),
        ("[AU, V]}", "[AU, V], streams: [face, face]}", "a stream is named twice"),
        ("[AU, V]}", "[AU, V], lr: 1}", "'sweep.rows.0.lr', did you mean 'sweep.rows.training.lr'"),
        ("[AU, V]}", "[AU, V], training: {lr: -1}}", "my.yaml:8: sweep.rows.0.training.lr: found -1"),
        ("[AU, V]}", "[AU, V], training: {loss_weights: {W: 1}}}", "loss_weights.W"),
        ("[AU, V]}", "[AU, V], training: {hop: 301}}", "0: row V+AU hop=301: hop 301 > window"),
        ("[AU, V]}", "[AU, V], training: {device: cpu}}", "'device' decides no result"),
        ("[AU, V]}", "[AU, V], training: {attention: x}}", "write 'attention: KIND' beside 'tasks'"),
        ("seeds: [0]", "halvin: {}", "did you mean 'sweep.halving'?"),
        ("seeds: [0]", "halving: {eta: 1}", "sweep.halving.eta: found 1"),
        ("name: small", "name: [small", "is not YAML"),
        ("name: small", "name: &name [*name]", "my.yaml: a value holds itself"),
        ("epochs: 3", "epochs: true", "my.yaml:5: training.epochs: found true, expected a number"),
        ("epochs: 3", "lr: yes", "my.yaml:5: training.lr: found true, expected a number"),
        ("epochs: 3", "dropout: off", "my.yaml:5: training.dropout: found false, expected a number"),
        ("epochs: 3", "max_replicas: true", "training.max_replicas: found true, expected a number"),
        ("epochs: 3", "loss_weights: {AU: no}", "training.loss_weights: found false, expected a number"),
        ("seeds: [0]", "seeds: [0, true]", "sweep.seeds: found true, expected a number"),
        ("[AU, V]}", "[AU, V], training: {lr: on}}", "0.training.lr: found true, expected a number"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_one_line_with_file_line_and_what_was_meant(write, old, new, told):
    with pytest.raises(ConfigError) as caught:
        load(write(SMALL.replace(old, new)))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_true_and_one_are_both_yes():
    assert load("smoke", ["training.causal=1", "corpus.render.warts=0"]).training.causal is True


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
    with pytest.raises(
        ConfigError, match=r"nowhere\.yaml.*demo, subsets, au_weights, seed_recipe, smoke, affwild2"
    ):
        load(tmp_path / "nowhere.yaml")


def test_a_list_instead_of_a_mapping_is_refused(write):
    with pytest.raises(ConfigError, match="expected a mapping with the keys name"):
        load(write("- 1\n- 2\n"))


AXES = SMALL.split("  rows:")[0] + "  product: {tasks: [[V], [A, AU]], training: {%s}}\n"


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        (
            "lrr: [1]",
            "my.yaml:7: unknown key 'sweep.product.training.lrr', did you mean 'sweep.product.training.lr'?",
        ),
        ("lr: [1, 0]", "my.yaml:7: sweep.product.training.lr.1: found 0"),
        ("lr: 0.1", "sweep.product.training.lr: found 0.1"),
        ("lr: []", "the axis 'lr' has no value"),
        ("loss_weights: [{}, {W: 1}]", "sweep.product.training.loss_weights.1"),
        ("max_replicas: [1, 2]", "'max_replicas' decides no result"),
        ("hop: [200, 301]", "row V hop=301: hop 301 > window 300"),
    ],
)
def test_a_mistake_in_an_axis_names_the_axis_or_the_row(write, axes, told):
    with pytest.raises(ConfigError) as caught:
        load(write(AXES % axes))
    assert told in str(caught.value)


def test_a_setting_alone_may_be_wrong_if_the_row_makes_it_right(write):
    (row, *_) = sweep_rows(load(write(AXES % "window: [100], hop: [50]")))
    assert (row.training["window"], row.training["hop"]) == (100, 50)


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


def test_exclude_compares_settings_as_they_are_understood(write):
    text = AXES % "lr: [1.0e-3, 1.0e-4], hop: [100, 200]" + "  exclude: [%s]\n"
    assert len(names(load(write(text % "{tasks: [V]}")))) == 4
    left = names(load(write(text % "{training: {lr: 1e-3}}")))  # YAML reads 1e-3 as a string
    assert left == ["V lr=0.0001 hop=100", "V lr=0.0001", "A+AU lr=0.0001 hop=100", "A+AU lr=0.0001"]
    assert len(names(load(write(text % "{tasks: [A, AU], training: {lr: 1e-3, hop: 200}}")))) == 7
    with pytest.raises(ConfigError, match=r"unknown key 'sweep.exclude.0.training.lrr'"):
        load(write(text % "{training: {lrr: 1}}"))


def test_rows_and_product_together_are_refused(write):
    with pytest.raises(ConfigError, match="either 'rows' or 'product'"):
        load(write(SMALL + "  product: {tasks: all_subsets}\n"))


def test_no_section_can_be_changed_after_loading():
    demo = load("demo")
    assert isinstance(demo, BaseModel)
    with pytest.raises(ValueError, match="frozen"):
        demo.training.epochs = 1


def test_every_setting_of_the_temporal_stage_can_be_set_and_has_its_default():
    from temporal.settings import Place, Run, Training, settings_of

    ours, settled = TrainingSection(), {}
    for owner in (Run(("A",)), Training(), Place()):
        for name, (_, setting) in settings_of(type(owner)).items():
            if setting.scope != "row":
                settled[name] = getattr(owner, name)
    assert {name: getattr(ours, name) for name in TrainingSection.model_fields} == settled


def test_every_setting_of_the_renderer_can_be_set_and_has_its_default():
    from extract.corpora.rendered import RenderSettings

    assert Render().model_dump() == asdict(RenderSettings())


def test_labels_of_another_drawing_are_refused_unless_it_was_drawn_elsewhere(tmp_path):
    drawn, other = load("demo"), load("demo", ["corpus.render.seed=5"])
    place = work_dir(drawn, tmp_path)
    place.corpus_section.write_bytes(documents.render(section(drawn)))
    require_section(drawn, place)
    with pytest.raises(
        ConfigError, match=r'corpus\.render is \{"seed": 5\}, and the labels in .* "the default"'
    ):
        require_section(other, place)
    require_section(load("demo", ["corpus.root=/faces", "corpus.render.seed=5"]), place)


def test_the_overview_of_corpora_lists_every_kind_once():
    text = (Path(__file__).parents[2] / "docs" / "CORPORA.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^\| \[`(\w+)`\]\(#\1\)", text)) == sorted(KINDS)
    headings = re.findall(r"(?m)^###? (\w+)$", text)
    assert sorted(headings) == sorted(KINDS)


def test_a_row_reads_all_streams_or_those_that_its_name_tells(write):
    two = "streams: {face: {store: a}, audio: {store: b}}"
    text = SMALL.replace("streams: {face: {backbone: resnet50, weights: imagenet1k_v2}}", two)
    config = load(write(text), ["sweep.rows=[{tasks: [V]}, {tasks: [V], streams: [audio]}]"])
    assert names(config) == ["V", "V [audio]"]
    axes = "{tasks: [[V], [A]], streams: [[face], [face, audio]], training: {lr: [1e-3, 1e-4]}}"
    config = load(write(text), [f"sweep={{product: {axes}, exclude: [{{tasks: [A], streams: [face]}}]}}"])
    assert names(config) == ["V [face]", "V [face] lr=0.0001", "V", "V lr=0.0001", "A", "A lr=0.0001"]


def test_a_store_that_is_given_on_the_command_line_takes_the_place_of_making_one():
    stream = load("demo", ["streams.face.store=/data/theirs"]).streams["face"]
    assert (stream.store, stream.backbone) == (Path("/data/theirs"), "")


def test_features_need_no_sweep_and_what_needs_one_says_so(write):
    config = load(write(SMALL.split("training:")[0]))
    assert config.sweep is None
    with pytest.raises(ConfigError, match="small has no section 'sweep'"):
        sweep_rows(config)


def test_the_table_shows_the_edition_of_the_corpus_unless_it_says_otherwise():
    assert load("smoke", ["corpus.edition=abaw5"]).table.edition == "abaw5"
