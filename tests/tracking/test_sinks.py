"""What every sink must do, whatever happens to it and to the processes that use it."""

import errno
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest
from matplotlib.figure import Figure

from tf_marl import tracking

# A run from start to end


def test_a_finished_run_has_all_its_metrics_params_tags_and_artifacts(address, start_run, look, tmp_path):
    tracking.check_reachable(address)
    tracker = start_run(address)
    for env_steps in range(0, 5000, 100):
        tracker.record(env_steps, {"eval/return_mean": env_steps / 10, "loss/value": 1 / 3})
    tracker.text("ippo.gamma = 0.99\n", "config.gin")
    (tmp_path / "replay.bin").write_bytes(bytes(range(256)))
    tracker.file(tmp_path / "replay.bin")
    tracker.figure(Figure(), "plots/of/it.png")
    assert tracker.finish("FINISHED") is None

    seen = look(address, tracker)
    assert (seen.experiment, seen.run_name, seen.status, seen.error) == ("battles", "first", "FINISHED", None)
    assert seen.params == {"ippo.gamma": "0.99"}
    assert seen.metrics == {
        "eval/return_mean": [(n, n / 10) for n in range(0, 5000, 100)],
        "loss/value": [(n, 1 / 3) for n in range(0, 5000, 100)],
    }
    assert seen.artifacts.pop("plots/of/it.png").startswith(b"\x89PNG")
    assert seen.artifacts == {"config.gin": b"ippo.gamma = 0.99\n", "replay.bin": bytes(range(256))}
    assert seen.tags["map"] == "3m"
    assert seen.tags["git_commit"] == tracking.git_commit()
    assert seen.tags["version.numpy"]
    assert tracker.run_id in tracker.page()


def test_a_failed_run_says_why_however_long_the_reason(address, start_run, look):
    tracker = start_run(address)
    tracker.record(7, {"loss/value": 2.0})
    tracker.finish("FAILED", "ValueError: " + "no " * 10_000)
    seen = look(address, tracker)
    assert seen.status == "FAILED"
    assert seen.error.startswith("ValueError: no no")
    assert seen.metrics == {"loss/value": [(7, 2.0)]}


def test_an_artifact_takes_the_place_of_an_older_one(local_address, start_run, look):
    tracker = start_run(local_address)
    tracker.text("one", "a/text.txt")
    tracker.text("two", "a/text.txt")
    assert tracker.finish("FINISHED") is None
    assert look(local_address, tracker).artifacts == {"a/text.txt": b"two"}


def test_a_policy_is_kept_once_for_each_step_with_its_metrics(local_address, start_run, look, keep_policy):
    tracker = start_run(local_address)
    assert not tracker.has_model
    keep_policy(tracker, 600, 0.75)
    keep_policy(tracker, 600, 0.5)  # by a run that went on
    keep_policy(tracker, 900, 0.875)
    assert tracker.finish("FINISHED") is None
    seen = look(local_address, tracker)
    assert seen.metrics == {"model/battle_won_mean": [(600, 0.75), (900, 0.875)]}
    assert sorted(seen.models) == [600, 900]
    for files in seen.models.values():
        assert {"saved_model/saved_model.pb", "config.gin"} <= files
    again = start_run(local_address)
    assert again.has_model
    assert again.flush() is None


def test_numbers_that_are_none_are_kept(local_address, start_run, look):
    tracker = start_run(local_address)
    tracker.record(1, {"loss/policy": float("nan"), "loss/entropy": float("inf")})
    assert tracker.finish("FINISHED") is None
    seen = look(local_address, tracker)
    assert {name: len(rows) for name, rows in seen.metrics.items()} == {"loss/policy": 1, "loss/entropy": 1}


def test_runs_of_one_experiment_share_it(local_address, start_run):
    first, second = start_run(local_address, "one"), start_run(local_address, "two")
    assert first.finish("FINISHED") is None
    assert second.finish("FINISHED") is None
    assert first.experiment_id == second.experiment_id
    assert first.run_id != second.run_id


def test_a_run_can_have_a_parent(local_address, start_run, look):
    parent = start_run(local_address, "parent")
    parent.finish("FINISHED")
    child = start_run(local_address, "child", parent_run_id=parent.run_id)
    child.finish("FINISHED")
    tags = look(local_address, child).tags
    assert parent.run_id in (tags.get("mlflow.parentRunId"), tags.get("parent_run_id"))


def test_a_sink_that_cannot_be_used_leaves_no_run_behind(start_run, tmp_path):
    (tmp_path / "file").touch()
    for address in ("http://127.0.0.1:9", f"folder:{tmp_path}/file", f"sqlite:///{tmp_path}/file/mlflow.db"):
        with pytest.raises(tracking.SinkError):
            start_run(address)
        assert not tracking.has_begun(tmp_path / "tracking")


# A run that goes on


def test_a_run_that_goes_on_is_running_and_the_same(local_address, start_run, look):
    first = start_run(local_address)
    first.finish("FAILED", "power")
    second = start_run(local_address, experiment="another", run_name="another", params={"ippo.gamma": "0.9"})
    assert not second.finished
    assert second.experiment == "battles"
    second.record(1, {"loss/value": 1.0})
    second.flush()
    assert second.run_id == first.run_id
    seen = look(local_address, second)
    assert (seen.experiment, seen.run_name, seen.status, seen.error) == ("battles", "first", "RUNNING", None)
    assert seen.params == {"ippo.gamma": "0.99"}
    assert seen.tags["changed.ippo.gamma"] == "0.9"


def test_a_run_that_finished_says_so_and_is_left_as_it_is(local_address, start_run, look):
    start_run(local_address).finish("FINISHED")
    again = start_run(local_address)
    assert again.finished
    assert again.flush() is None
    assert look(local_address, again).status == "FINISHED"


def test_what_was_recorded_at_a_step_is_left_as_it_is(local_address, start_run, look):
    first = start_run(local_address)
    first.record(1, {"loss/value": 1.0})
    first.record(2, {"loss/value": 2.0})
    first.finish("KILLED")
    second = start_run(local_address)
    second.record(2, {"loss/value": 2.5, "loss/policy": 0.5})  # as from a checkpoint before it
    second.record(3, {"loss/value": 3.0})
    assert second.history() == [
        {"env_steps": 1, "loss/value": 1.0},
        {"env_steps": 2, "loss/value": 2.0},
        {"env_steps": 2, "loss/policy": 0.5},
        {"env_steps": 3, "loss/value": 3.0},
    ]
    assert second.finish("FINISHED") is None
    assert look(local_address, second).metrics == {
        "loss/value": [(1, 1.0), (2, 2.0), (3, 3.0)],
        "loss/policy": [(2, 0.5)],
    }


def test_what_a_run_tracked_can_be_read_where_it_was_tracked(local_address, start_run, tmp_path):
    tracker = start_run(local_address)
    tracker.record(1, {"loss/value": 1.0})
    tracker.finish("FINISHED")
    tags, rows = tracking.kept(tmp_path / "tracking")
    assert tags["map"] == "3m"
    assert rows == [{"env_steps": 1, "loss/value": 1.0}]


@pytest.mark.parametrize("note", ["", '{"store": ', "of a run that the sink lost"])
def test_a_lost_or_wrong_note_of_how_far_it_came_does_no_harm(note, local_address, start_run, look, tmp_path):
    path = tmp_path / "tracking" / "sent.json"
    first = start_run(local_address)
    first.record(1, {"loss/value": 1.0})
    first.finish("KILLED")
    sent = json.loads(path.read_text())
    path.write_text(json.dumps(sent | {"run_id": "0" * 32}) if "run" in note else note)
    second = start_run(local_address)
    second.record(2, {"loss/value": 2.0})
    assert second.finish("FINISHED") is None
    assert second.run_id == first.run_id
    assert look(local_address, second).metrics == {"loss/value": [(1, 1.0), (2, 2.0)]}


@pytest.mark.parametrize("sent_too_far", ["beyond the journal", "inside a line"])
def test_a_folder_copied_while_its_run_went_on_sends_what_the_sink_lacks(
    sent_too_far, local_address, start_run, look, tmp_path
):
    original = start_run(local_address)
    original.record(1, {"loss/value": 1.0})
    shutil.copytree(tmp_path / "tracking", tmp_path / "copy")
    original.record(2, {"loss/value": 2.0})
    original.finish("KILLED")
    sent = json.loads((tmp_path / "tracking" / "sent.json").read_text())
    if sent_too_far == "inside a line":
        sent["position"] = (tmp_path / "copy" / "journal.jsonl").stat().st_size - 5
    (tmp_path / "copy" / "sent.json").write_text(json.dumps(sent))

    copy = start_run(local_address, "copy")
    for step in (2, 3):
        copy.record(step, {"loss/value": float(step)})
    assert copy.finish("FINISHED") is None
    assert copy.run_id == original.run_id
    seen = look(local_address, copy)
    assert seen.status == "FINISHED"
    assert seen.metrics == {"loss/value": [(1, 1.0), (2, 2.0), (3, 3.0)]}


@pytest.mark.parametrize(("before", "after"), [("sqlite_store", "folder"), ("folder", "sqlite_store")])
def test_a_run_can_move_to_a_sink_of_another_kind_with_all_it_has(before, after, start_run, look, keep_policy, request):
    before, after = request.getfixturevalue(before), request.getfixturevalue(after)
    first = start_run(before)
    first.record(1, {"loss/value": 1.0})
    first.text("hello", "greeting.txt")
    keep_policy(first, 1, 0.5)
    assert first.finish("KILLED") is None
    second = start_run(after)
    second.record(2, {"loss/value": 2.0})
    assert second.finish("FINISHED") is None
    seen = look(after, second)
    assert (seen.experiment, seen.run_name, seen.status) == ("battles", "first", "FINISHED")
    assert seen.metrics == {"loss/value": [(1, 1.0), (2, 2.0)], "model/battle_won_mean": [(1, 0.5)]}
    assert seen.artifacts == {"greeting.txt": b"hello"}
    assert "config.gin" in seen.models[1]
    assert look(before, first).metrics == {"loss/value": [(1, 1.0)], "model/battle_won_mean": [(1, 0.5)]}


def test_another_store_of_the_same_kind_gets_all_of_the_run(sqlite_store, start_run, store_in, look, tmp_path):
    first = start_run(sqlite_store)
    first.record(1, {"loss/value": 1.0})
    first.finish("KILLED")
    (tmp_path / "other").mkdir()
    other = store_in(tmp_path / "other")
    second = start_run(other)
    second.record(2, {"loss/value": 2.0})
    second.finish("FINISHED")
    assert look(other, second).metrics == {"loss/value": [(1, 1.0), (2, 2.0)]}


# What does not get lost

CHILD = """
import pathlib, sys, time
from tf_marl import tracking
folder = pathlib.Path(sys.argv[2])
checkpoint = folder / "checkpoint"
tracker = tracking.Tracker(sys.argv[1], "battles", "killed", {"a": "1"}, {}, folder / "tracking")
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
print(step, flush=True)
while step < 400:
    step += 1
    tracker.record(step, {"loss/value": step / 7, "loss/policy": -step})
    if step % 40 == 0:
        tracker.text(str(step), f"texts/{step}.txt")
        checkpoint.with_suffix(".part").write_text(str(step))
        checkpoint.with_suffix(".part").replace(checkpoint)
    time.sleep(0.02)
print(tracker.finish("FINISHED"), flush=True)
"""


def test_a_run_killed_again_and_again_has_the_history_of_one_that_was_not(local_address, start_run, look, tmp_path):
    command = [sys.executable, "-c", CHILD, local_address, str(tmp_path)]
    moments = random.Random(7)
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            child.stdout.readline()
            time.sleep(moments.uniform(0.0, 4.0))
            child.kill()
    last = subprocess.run(command, check=True, capture_output=True, text=True)
    assert last.stdout.endswith("None\n"), last.stdout + last.stderr
    tracker = start_run(local_address)
    assert tracker.flush() is None
    seen = look(local_address, tracker)
    assert seen.status == "FINISHED"
    assert seen.metrics["loss/value"] == [(step, step / 7) for step in range(1, 401)]
    assert seen.metrics["loss/policy"] == [(step, -step) for step in range(1, 401)]
    assert seen.artifacts == {f"texts/{step}.txt": str(step).encode() for step in range(40, 401, 40)}


def test_a_full_disk_is_an_os_error_that_names_the_folder(local_address, start_run, look, tmp_path, monkeypatch):
    tracker = start_run(local_address)
    tracker.record(1, {"loss/value": 1.0})
    write = os.pwrite

    def half(fd, data, position):
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: len(data) // 2], position)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match=f"{tmp_path}/tracking: No space left on device"):
            tracker.record(2, {"loss/value": 2.0})
    tracker.record(2, {"loss/value": 2.5})
    assert tracker.finish("FINISHED") is None
    assert look(local_address, tracker).metrics == {"loss/value": [(1, 1.0), (2, 2.5)]}


def test_an_artifact_that_is_gone_does_not_stand_before_the_rest(local_address, start_run, look, tmp_path):
    first = start_run(local_address)
    first.text("hello", "greeting.txt")
    first.finish("KILLED")
    (tmp_path / "tracking" / "artifacts" / "greeting.txt").unlink()
    (tmp_path / "tracking" / "sent.json").unlink()
    second = start_run(local_address)
    second.record(1, {"loss/value": 1.0})
    assert "refused 1 of the run's entries" in second.finish("FINISHED")
    assert look(local_address, second).metrics == {"loss/value": [(1, 1.0)]}


def test_once_all_is_sent_nothing_more_is_written(local_address, start_run, tmp_path, monkeypatch):
    """So whoever waited for that can remove the folder."""
    replace = pathlib.Path.replace

    def slowly(path, target):
        time.sleep(0.2)
        return replace(path, target)

    tracker = start_run(local_address)
    with monkeypatch.context() as slow:
        slow.setattr(pathlib.Path, "replace", slowly)
        assert tracker.finish("FINISHED") is None
    sent = json.loads((tmp_path / "tracking" / "sent.json").read_text())
    assert sent["position"] == (tmp_path / "tracking" / "journal.jsonl").stat().st_size


# Kinds of sinks


class Hasty(tracking.Sink):
    """Of one's own; fails at whatever it is told for the first time."""

    told: list  # by whoever tests

    def check_reachable(self):
        pass

    def start(self, experiment, run_name, params, tags, time):
        self._hear("start", experiment, run_name, params)
        self.experiment_id, self.run_id = experiment, run_name

    def resume(self, tags):
        self._hear("resume", tags["map"])

    def record(self, rows):
        for row in rows:
            self._hear("record", row.step, row.values)

    def artifact(self, name, path):
        self._hear("artifact", name, path.read_text())

    def model(self, model):
        self._hear("model", model.name, model.step, model.metrics)

    def finish(self, status, error, time):
        self._hear("finish", status, error)

    def _hear(self, *what):
        self.told.append(what)
        if self.told.count(what) == 1:
            raise ConnectionError("say that again")


def test_a_sink_of_ones_own_is_a_class_and_its_name(start_run, keep_policy):
    told = Hasty.told = []
    tracking.register("hasty", Hasty)
    start_run("hasty:").finish("KILLED")
    tracker = start_run("hasty:")
    tracker.record(1, {"loss/value": 1.0})
    tracker.text("hello", "greeting.txt")
    keep_policy(tracker, 1, 0.5)
    assert tracker.finish("FAILED", "why") is None
    assert (
        told[::2]
        == told[1::2]
        == [
            ("start", "battles", "first", {"ippo.gamma": "0.99"}),
            ("finish", "KILLED", None),
            ("resume", "3m"),
            ("record", 1, {"loss/value": 1.0}),
            ("artifact", "greeting.txt", "hello"),
            ("model", "tf_marl.ippo.3m", 1, {"model/battle_won_mean": 0.5}),
            ("finish", "FAILED", "why"),
        ]
    )
    assert tracker.page() is None
    for taken in ("hasty", "folder"):
        with pytest.raises(ValueError, match=f"sink '{taken}' is there already; choose another name"):
            tracking.register(taken, type("Another", (Hasty,), {}))
