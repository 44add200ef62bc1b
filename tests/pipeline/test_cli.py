"""The command line: help, exit codes, one-line errors, and what it does not import."""

import importlib
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from store_specs import feature_spec

import stores
from extract.corpora import KINDS
from pipeline.cli import facets, main
from pipeline.commands.options import DONE, FAILED, INTERRUPTED, PARTLY, USAGE, listed
from pipeline.config import Config
from pipeline.configfile import PACKAGED, load
from pipeline.doctor import Examination, Finding
from pipeline.workdir import work_dir
from stores.errors import FacetsError, StoreError

COMMANDS = [
    "features", "sweep", "table", "render", "crop", "cut", "doctor", "info", "verify", "convert", "import",
    "submission",
]  # fmt: skip
ON_EXPERIMENTS = ["features", "sweep", "table", "verify", "info", "doctor"]


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return ended.value.code, *capsys.readouterr()

    return run


def test_help_lists_every_command(run):
    code, out, err = run("--help")
    assert code == DONE
    assert facets.list_commands(None) == COMMANDS
    assert all(f"  {name} " in out for name in COMMANDS)
    assert not err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_has_a_help_text(command):
    from click import Group, Option

    found = facets.get_command(None, command)
    assert found.help
    for leaf in found.commands.values() if isinstance(found, Group) else [found]:
        assert leaf.help
        options = [parameter for parameter in leaf.params if isinstance(parameter, Option)]
        assert all(option.help for option in options)
        assert "--debug" in {name for option in options for name in option.opts}


@pytest.mark.parametrize("command", ON_EXPERIMENTS)
def test_commands_on_experiments_share_their_options(command):
    names = {name for parameter in facets.get_command(None, command).params for name in parameter.opts}
    assert {"-c", "--config", "--set", "--work", "--debug"} <= names


IMPORTS = """
import sys
from pipeline.cli import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "pandas", "dask", "pydantic", "rich", "yaml"}
    print(*sorted(heavy & set(sys.modules)), *(m for m in sys.modules if m.startswith("pipeline.commands.")))
"""


def imported(*arguments):
    """Returns the heavy libraries and the modules of commands that a command line imports."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments], capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()[-1].removeprefix("pipeline.commands.options").split()


def test_help_answers_in_half_a_second_and_imports_no_heavy_library():
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = imported("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: on a busy machine the wall clock measures its neighbours.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert all(name.startswith("pipeline.commands.") for name in found)
    assert min(seconds) < 0.5


def test_a_command_imports_its_own_module_alone():
    assert imported("sweep", "--help") == ["pipeline.commands.experiment"]
    assert imported("submission", "write", "--help") == ["pipeline.commands.submit"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["swep"], "No such command 'swep'"),
        (["sweep", "--dryrun"], "No such option"),
        (["sweep", "-c", "nowhere.yaml"], "cannot read the configuration nowhere.yaml"),
        (["sweep", "--set", "training.epocs=1"], "did you mean 'training.epochs'?"),
        (["sweep", "--device", "gpu"], "training.device"),
        (["info", "nowhere"], "does not exist"),
        (["convert", ".", "x", "--backend", "csv"], "'csv' is not one of"),
    ],
)
def test_wrong_usage_is_one_line_and_code_two(run, arguments, told):
    code, out, err = run(*arguments)
    assert code == USAGE
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1
    assert not out


def test_a_failure_is_one_line_with_its_notes_and_code_one(run, monkeypatch):
    def fail(*_, **__):
        error = StoreError("clip 'one' is\ndamaged")
        error.add_note("in the store x")
        raise error

    monkeypatch.setattr("pipeline.inspection.describe_work", fail)
    assert run("info") == (FAILED, "", "error: clip 'one' is damaged; in the store x\n")


def test_debug_shows_the_traceback_before_the_line(run, monkeypatch):
    def fail(*_, **__):
        message = "broken"
        raise FacetsError(message)

    monkeypatch.setattr("pipeline.inspection.describe_work", fail)
    code, _, err = run("info", "--debug")
    assert code == FAILED
    assert err.startswith("Traceback")
    assert err.endswith("error: broken\n")


def test_an_unforeseen_error_is_one_line_that_says_so(run, monkeypatch):
    monkeypatch.setattr("pipeline.inspection.describe_work", lambda *_, **__: {}["x"])
    code, _, err = run("info")
    assert code == FAILED
    assert err.startswith("error: KeyError: 'x' (not foreseen")
    assert err.count("\n") == 1


def test_a_full_disk_is_one_line(run, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "x.h5")

    monkeypatch.setattr("pipeline.inspection.describe_work", fail)
    assert run("info") == (FAILED, "", "error: [Errno 28] No space left on device: 'x.h5'\n")


def test_an_interrupt_is_one_line_and_code_130(run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.inspection.describe_work", interrupt)
    code, _, err = run("info")
    assert code == INTERRUPTED == 130
    assert err.strip().startswith("error: interrupted")
    assert err.strip().count("\n") == 0


def test_failed_parts_are_listed_one_per_line_with_code_three(capsys):
    assert listed("clip", {}) == DONE
    assert listed("clip", {"one": "no crops\nat all", "two": "not finite"}) == PARTLY == 3
    assert capsys.readouterr().err == "error: clip one: no crops at all\nerror: clip two: not finite\n"


@pytest.mark.parametrize(("command", "before"), [("sweep", "features"), ("table", "sweep")])
def test_a_command_that_comes_too_early_says_what_to_run_and_makes_nothing(run, tmp_path, command, before):
    code, out, err = run(command, "--work", tmp_path / "work")
    assert code == FAILED
    assert f"run facets {before} first" in err
    assert (out, err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())


def test_a_device_on_the_command_line_reaches_both_stages(monkeypatch, run):
    seen = []

    def examine(config, place, tell, **options):
        seen.append(config)
        return Examination(config.name, (), None, {}, None)

    monkeypatch.setattr("pipeline.doctor.examine", examine)
    assert run("doctor", "--device", "cpu")[0] == DONE
    assert (seen[0].streams["face"].device, seen[0].training.device) == ("cpu", "cpu")
    assert run("doctor", "smoke")[0] == run("doctor", "-c", "smoke")[0] == DONE
    assert [config.name for config in seen] == ["demo", "smoke", "smoke"]


def test_doctor_takes_one_experiment(run):
    code, out, err = run("doctor", "smoke", "-c", "demo")
    assert (code, out) == (USAGE, "")
    assert "CONFIG smoke and -c demo both name the experiment: give one of them" in err


def test_the_help_names_every_packaged_configuration(run):
    words = " ".join(run("table", "--help")[1].split())
    assert f"one that comes with facets: {', '.join(PACKAGED)}." in words


def test_doctor_fails_if_a_check_fails_and_gives_the_remedy(monkeypatch, run):
    findings = [Finding("a", "WARN", "slow", "do x"), Finding("b", "PASS", "fine")]

    def examine(config, place, tell, **options):
        for finding in findings:
            tell(finding)
        return Examination(config.name, tuple(findings), None, {}, None)

    monkeypatch.setattr("pipeline.doctor.examine", examine)
    code, out, _ = run("doctor")
    assert code == DONE
    assert [" ".join(line.split()) for line in out.splitlines()] == ["WARN a slow -> do x", "PASS b fine"]
    findings.append(Finding("c", "FAIL", "gone", "do y"))
    assert run("doctor")[0] == FAILED


@pytest.fixture
def store(tmp_path):
    import numpy as np

    made = stores.create(tmp_path / "store", feature_spec(dim=4))
    features = np.ones((6, 4), np.float16)
    made.write(
        "one", {"features": features, "frame": np.arange(6, dtype=np.int32), "valid": np.ones(6, bool)}
    )
    return made


def test_cut_makes_the_crops_of_a_list_of_boxes_and_lists_pictures_that_cannot_be_read(run, tmp_path):
    code, _, err = run("cut", "expw", tmp_path)
    assert (code, "label.lst: cannot be read" in err) == (FAILED, True)
    lines = ["a.jpg 0 1 2 9 8 99.5 3", "a.jpg 1 0 0 5 5 99.5 6", "b.jpg 0 0 0 5 5 99.5 1"]
    (tmp_path / "label.lst").write_text("\n".join(lines))
    code, _, err = run("cut", "expw", tmp_path)
    assert (code, "no folder origin" in err) == (FAILED, True)
    (tmp_path / "origin").mkdir()
    assert run("cut", "expw", tmp_path)[0] == FAILED
    Image.new("RGB", (20, 20), "grey").save(tmp_path / "origin" / "a.jpg")
    code, out, err = run("cut", "expw", tmp_path, "--margin", "0.5")
    assert (code, out) == (PARTLY, f"{tmp_path / 'faces'}: 2 faces cut, 0 were there already\n")
    assert f"error: picture {tmp_path / 'origin' / 'b.jpg'}: " in err
    assert sorted(path.name for path in (tmp_path / "faces").glob("*.jpg")) == ["a_0.jpg", "a_1.jpg"]
    Image.new("RGB", (20, 20), "grey").save(tmp_path / "origin" / "b.jpg")
    code, _, err = run("cut", "expw", tmp_path)
    assert (code, "or give --margin 0.5" in err) == (FAILED, True)
    assert run("cut", "expw", tmp_path, "--margin", "0.5")[:2] == (
        DONE,
        f"{tmp_path / 'faces'}: 1 faces cut, 2 were there already\n",
    )


def test_cut_offers_the_kinds_that_list_boxes():
    offered = next(
        option.type.choices for option in facets.get_command(None, "cut").params if option.name == "kind"
    )
    boxed = [kind for kind, module in KINDS.items() if hasattr(importlib.import_module(module), "cut_faces")]
    assert sorted(offered) == sorted(boxed)


def test_verify_passes_an_intact_store_and_names_a_damaged_clip(run, store):
    assert run("verify", store.path)[0] == DONE
    data = store.data_path("one")
    content = bytearray(data.read_bytes())
    content[content.rindex(b"\x3c")] ^= 1
    data.write_bytes(content)
    code, out, err = run("verify", store.path)
    assert code == FAILED
    assert "damaged clip one" in err
    code, out, err = run("verify", store.path, "--repair")
    assert "removed clips/one.json" in out
    assert run("verify", store.path)[0] == DONE


def test_convert_copies_a_store_to_the_other_backend(run, store, tmp_path):
    assert run("convert", store.path, tmp_path / "copy", "--backend", "zarr")[0] == DONE
    copy = stores.open(tmp_path / "copy")
    assert copy.backend == "zarr"
    assert copy.record("one").arrays == store.record("one").arrays


def test_info_describes_a_store_and_a_work_directory_that_is_empty(run, store, tmp_path):
    code, out, _ = run("info", store.path)
    assert code == DONE
    assert "1 clip, 6 frames" in out
    assert "weights_sha256" in out
    code, out, _ = run("info", "--work", tmp_path / "nothing")
    assert code == DONE
    assert "not there yet" in out


def test_an_experiment_that_shares_data_keeps_only_its_table_apart():
    own, shared = work_dir(load("subsets")), work_dir(load("demo"))
    assert own.table == Path("work/subsets")
    assert (own.streams, own.labels, own.runs, own.corpus) == (
        shared.streams,
        shared.labels,
        shared.runs,
        shared.corpus,
    )
    assert work_dir(load("subsets"), Path("/w/mine")).runs == Path("/w/demo/runs")


def test_weights_from_a_file_give_the_stream_its_stem():
    config = load("demo", ["streams.face.weights=/models/my.best.safetensors", "streams.face.image_size=224"])
    assert isinstance(config, Config)
    assert work_dir(config).streams == {"face": Path("work/demo/features/narrow_resnet50.my.best-224")}


def test_the_log_of_the_packages_goes_to_stderr_as_plain_lines(run, capsys):
    run("--help")
    logging.getLogger("extract.engine").info("milestone %d", 1)
    logging.getLogger("extract.engine").debug("detail")
    logging.getLogger("another.library").info("chatter")
    assert capsys.readouterr() == ("", "milestone 1\n")


def test_a_closed_pipe_ends_a_command_quietly():
    command = f"{sys.executable} -c 'from pipeline.cli import main; main()' --help | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env=os.environ, cwd=Path.cwd()
    )
    assert "Traceback" not in done.stderr
