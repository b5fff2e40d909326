"""MLflow's stores, local and served, and what does not get lost on the way there."""

import contextlib
import pathlib
import sqlite3
import subprocess
import sys
import time

import mlflow
import pytest

from tf_marl import tracking


def test_local_store_is_a_database_in_a_folder_that_is_made(tmp_path):
    folder = tmp_path / "some where" / "mlflow_artifacts"
    assert tracking.local_store(folder) == f"sqlite:///{folder}/mlflow.db"
    assert folder.is_dir()


TOGETHER = """
import multiprocessing, os, pathlib, sys
import alembic.command, mlflow.store.tracking.sqlalchemy_store, sqlalchemy
from tf_marl import tracking

unsafe = lambda connection, _: connection.execute("PRAGMA synchronous = OFF")  # saves seconds
sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", unsafe)
folder = pathlib.Path(sys.argv[1])

def run(name):
    together.wait()
    tracker = tracking.Tracker(f"sqlite:///{folder}/new/mlflow.db", "battles", name, {}, {}, folder / name)
    assert tracker.finish("FINISHED") is None

def run_that_is_killed():
    alembic.command.upgrade = lambda *_: os._exit(9)  # after the first tables, before the others
    run("killed")

for runs in ([run_that_is_killed], [lambda name=name: run(name) for name in "abcd"]):
    together = multiprocessing.Barrier(len(runs))
    processes = [multiprocessing.get_context("fork").Process(target=start) for start in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print([process.exitcode for process in processes])
"""


def test_four_runs_make_a_store_together_that_another_was_killed_in_making(tmp_path):
    done = subprocess.run([sys.executable, "-c", TOGETHER, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "[9]\n[0, 0, 0, 0]\n", done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/new/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("battles").experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [(name, "FINISHED") for name in "abcd"]


def test_artifacts_lie_beside_the_database_not_in_the_current_directory(sqlite_store, start_run, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracker = start_run(sqlite_store)
    tracker.text("hello", "greeting.txt")
    tracker.finish("FINISHED")
    assert [path.read_text() for path in tmp_path.glob("artifacts/**/greeting.txt")] == ["hello"]
    assert not list(elsewhere.iterdir())


def test_runs_have_what_mlflows_pages_show(sqlite_store, start_run, only_run):
    tracker = start_run(sqlite_store)
    tracker.finish("FINISHED")
    tags = only_run(sqlite_store).data.tags
    assert tags["mlflow.source.name"]
    assert tags["version.mlflow"] == mlflow.__version__
    there = f"#/experiments/{tracker.experiment_id}/runs/{tracker.run_id}"
    assert tracker.page() == f"mlflow ui --backend-store-uri {sqlite_store}, then http://127.0.0.1:5000/{there}"


def test_a_deleted_experiment_is_told(sqlite_store, start_run):
    client = mlflow.MlflowClient(sqlite_store)
    client.delete_experiment(client.create_experiment("battles"))
    with pytest.raises(tracking.SinkError, match="experiment battles was deleted; restore it, or name another one"):
        start_run(sqlite_store)


# What does not get lost


def test_a_server_that_is_killed_and_comes_back_gets_everything_once_and_in_order(server, start_run, history):
    tracker = start_run(server.uri, experiment="outage")
    for step in range(300):
        if step == 100:
            while tracker.run_id is None:
                time.sleep(0.01)
            server.kill()
        if step == 200:
            server.start()
        tracker.record(step, {"loss/value": step / 7})
    assert tracker.finish("FINISHED") is None
    expected = [(step, step / 7) for step in range(300)]
    assert history(server.uri, tracker.run_id, "loss/value") == expected
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db")) as database:
        rows = database.execute(
            "SELECT step FROM metrics WHERE run_uuid = ? AND key = 'loss/value' ORDER BY rowid", [tracker.run_id]
        )
        assert [step for (step,) in rows] == list(range(300))


def test_a_run_goes_on_without_its_server_and_one_start_later_all_is_there(server, start_run, tmp_path, history):
    tracker = start_run(server.uri, experiment="later")
    tracker.record(1, {"loss/value": 1.0})
    assert tracker.finish("FAILED", "power") is None
    server.kill()
    try:
        resumed = start_run(server.uri, experiment="another", params={"ippo.gamma": "0.9"})
        assert resumed.experiment == "later"
        for step in (1, 2):  # 1 again, as from a checkpoint before it
            resumed.record(step, {"loss/value": step + 0.5})
        resumed.text("hello", "a/greeting.txt")
        left = resumed.finish("FINISHED", patience=1.0)
        assert f"has reached {server.uri}" in left
        assert str(tmp_path / "tracking") in left
    finally:
        server.start()
    complete = start_run(server.uri)
    assert complete.finished
    assert complete.flush() is None
    assert complete.run_id == tracker.run_id
    client = mlflow.MlflowClient(server.uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    assert run.data.tags["changed.ippo.gamma"] == "0.9"
    assert run.data.params == {"ippo.gamma": "0.99"}
    assert history(server.uri, tracker.run_id, "loss/value") == [(1, 1.0), (2, 2.5)]
    assert pathlib.Path(client.download_artifacts(tracker.run_id, "a/greeting.txt")).read_text() == "hello"


@pytest.mark.parametrize("method", ["create_run", "log_batch", "log_artifact", "set_terminated"])
def test_what_is_sent_again_because_an_answer_was_lost_is_there_once(
    method, sqlite_store, start_run, monkeypatch, history, only_run
):
    real, lost = getattr(mlflow.MlflowClient, method), []

    def losing_its_answers(self, *args, **kwargs):
        answer = real(self, *args, **kwargs)
        if len(lost) < 2:
            lost.append(method)
            raise ConnectionError("answer lost")
        return answer

    monkeypatch.setattr(mlflow.MlflowClient, method, losing_its_answers)
    tracker = start_run(sqlite_store)
    tracker.record(1, {"loss/value": 1 / 3, "loss/policy": float("nan"), "loss/entropy": float("inf")})
    tracker.text("hello", "greeting.txt")
    assert tracker.finish("FINISHED") is None
    assert len(lost) == (1 if method == "create_run" else 2)  # a run that is there is found, not made again
    assert only_run(sqlite_store).info.run_id == tracker.run_id
    assert history(sqlite_store, tracker.run_id, "loss/value") == [(1, 1 / 3)]
    assert [len(history(sqlite_store, tracker.run_id, f"loss/{name}")) for name in ("policy", "entropy")] == [1, 1]


def test_what_mlflow_refuses_does_not_stand_before_the_rest(sqlite_store, start_run, history):
    tracker = start_run(sqlite_store)
    tracker.record(1, {"loss/value": 1.0, "who?": 1.0, "loss/policy": 2.0})
    tracker.record(2, {"loss/value": 2.0})
    assert "refused 1 of the run's entries" in tracker.finish("FINISHED")
    assert history(sqlite_store, tracker.run_id, "loss/value") == [(1, 1.0), (2, 2.0)]
    assert history(sqlite_store, tracker.run_id, "loss/policy") == [(1, 2.0)]
