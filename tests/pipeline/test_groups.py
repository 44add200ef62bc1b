"""Groups of a sweep: the same after a kill as before, whatever has a result by then."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from fabricated_runs import planned, write_result
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configfile import load
from pipeline.stage2 import groups
from pipeline.stage2.groups import close, form, held, split

ALL_RUNS = planned(load("subsets"))
RUNS = ALL_RUNS[:9]
CONDITIONS = {"max_replicas": 4, "threads": 2, "versions": {"torch": "2"}}


@dataclass
class Sweep:
    """Forms groups as a sweep does, and says which runs have results."""

    folder: object

    def form(self, wanted=RUNS, skip=(), conditions=CONDITIONS, most=4, workers=1):
        groups.clean(ALL_RUNS, self.folder)
        formed = form(wanted, skip, self.folder, conditions, most=most, workers=workers)
        return [[RUNS.index(run) for run in group.runs] for group in formed], formed

    def finish(self, *numbers):
        for number in numbers:
            write_result(self.folder, RUNS[number], 0.5)

    def files(self):
        return sorted(path.suffix for path in self.folder.glob(".groups/*/*"))


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path / "runs")


def test_groups_after_a_kill_are_those_before_it_committed_runs_included(sweep):
    before, _ = sweep.form()
    assert before == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    sweep.finish(1, 3, 4)
    assert sweep.form()[0] == before
    sweep.finish(0, 2)
    assert sweep.form()[0] == before[1:]
    assert sweep.files() == [".json", ".json"]


def test_a_finished_sweep_leaves_nothing_of_its_groups(sweep):
    _, formed = sweep.form()
    formed[0].state.write_bytes(b"state")
    sweep.finish(*range(9))
    groups.clean(ALL_RUNS, sweep.folder)
    assert not (sweep.folder / ".groups").exists()


def test_a_closed_group_is_formed_anew_from_the_runs_that_failed_in_it(sweep):
    _, formed = sweep.form()
    formed[0].state.write_bytes(b"state")
    sweep.finish(0, 2)
    close(formed[0])
    assert sweep.form()[0] == [[3, 4, 5], [6, 7, 8], [1]]


@pytest.mark.parametrize(
    "conditions", [CONDITIONS | {"threads": 1}, CONDITIONS | {"max_replicas": 5}, {}], ids=str
)
def test_under_other_conditions_what_is_left_is_grouped_anew_and_old_states_are_removed(sweep, conditions):
    _, formed = sweep.form()
    formed[1].state.write_bytes(b"state")
    sweep.finish(1, 3, 4)
    assert sweep.form(conditions=conditions)[0] == [[0, 2, 5], [6, 7, 8]]
    assert sweep.files() == [".json", ".json"]


def test_a_sweep_leaves_the_groups_of_another_alone(sweep, caplog):
    _, formed = sweep.form()
    formed[0].state.write_bytes(b"state")
    caplog.set_level(logging.INFO)
    assert sweep.form(wanted=RUNS[1:2])[0] == [[1]]
    assert "group of another sweep" in caplog.text
    sweep.finish(1)
    assert sweep.form()[0] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert formed[0].state.read_bytes() == b"state"


def test_a_larger_sweep_takes_over_the_groups_of_a_smaller_one(sweep):
    assert sweep.form(wanted=RUNS[3:6])[0] == [[3, 4, 5]]
    assert sweep.form()[0] == [[3, 4, 5], [0, 1, 2], [6, 7, 8]]


@pytest.mark.parametrize("killed_at", range(1, 7))
def test_a_kill_while_groups_are_recorded_changes_no_group(sweep, monkeypatch, killed_at):
    class Killed(BaseException):
        pass

    runs, write, calls = ALL_RUNS[:21], groups.write_document, iter(range(1, 99))

    def deadly(*arguments):
        if next(calls) == killed_at:
            raise Killed
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(groups, "write_document", deadly)
        with pytest.raises(Killed):
            form(runs, (), sweep.folder, CONDITIONS, most=4, workers=1)
    formed = form(runs, (), sweep.folder, CONDITIONS, most=4, workers=1)
    assert [list(group.runs) for group in formed] == split(runs, 4, 1)
    assert [len(group.runs) for group in formed] == [3, 4, 3, 4, 3, 4]


def test_runs_to_skip_are_in_no_new_group(sweep):
    assert sweep.form(skip={RUNS[0].run_id, RUNS[8].run_id})[0] == [[1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"runs": 3})], ids=str)
def test_a_damaged_record_is_removed_with_a_line_in_the_log(sweep, content, caplog):
    _, formed = sweep.form()
    formed[0].record.write_text(content)
    assert sweep.form()[0] == [[3, 4, 5], [6, 7, 8], [0, 1, 2]]
    assert "a group is forgotten" in caplog.text


def test_a_group_that_another_process_closed_meanwhile_is_not_trained(sweep):
    _, formed = sweep.form()
    with held(formed[0]) as ours:
        assert ours
        close(formed[0])
    with held(formed[0]) as ours:
        assert not ours


def test_who_finds_a_group_in_training_waits_and_then_leaves_it(sweep, caplog):
    _, formed = sweep.form()
    caplog.set_level(logging.INFO)
    with ThreadPoolExecutor(1) as second, held(formed[0]) as ours:
        assert ours
        found = second.submit(look, formed[0])
        while "another process trains the group" not in caplog.text:
            assert not found.done()
            time.sleep(0.005)
        close(formed[0])
    assert found.result() is False


def look(group):
    with held(group) as ours:
        return ours


@given(count=st.integers(1, 60), most=st.integers(1, 40), workers=st.integers(1, 9))
def test_every_worker_has_a_group_while_there_are_runs_and_none_is_larger_than_allowed(count, most, workers):
    made = split(ALL_RUNS[:count], most, workers)
    assert [run for group in made for run in group] == ALL_RUNS[:count]
    assert len(made) >= min(workers, count)
    assert max(map(len, made)) <= most
    assert max(map(len, made)) - min(map(len, made)) <= 1


@pytest.mark.parametrize(
    ("count", "most", "workers", "sizes"),
    [
        (33, 33, 1, [33]),
        (33, 16, 1, [11, 11, 11]),
        (33, 16, 2, [8, 8, 8, 9]),
        (5, 16, 4, [1, 1, 1, 1, 1]),
        (3, 2, 8, [1, 1, 1]),
    ],
)
def test_groups_are_as_few_as_give_every_worker_as_many(count, most, workers, sizes):
    assert sorted(map(len, split(ALL_RUNS[:count], most, workers))) == sizes
