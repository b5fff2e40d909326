"""What reaches an MLflow store, local or served."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import mlflow
import pytest
import requests

from tf_marl import tracking


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """The address of an MLflow server of its own."""
    folder = tmp_path_factory.mktemp("mlflow_server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + 90
        while True:
            try:
                requests.get(uri + "/health", timeout=1).raise_for_status()
                break
            except requests.RequestException:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up, (folder / "log").read_text()
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # the server and its workers
        server.wait()


@pytest.fixture
def sqlite_store(tmp_path):
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(params=["sqlite_store", "mlflow_server"])
def store(request):
    yield request.getfixturevalue(request.param)
    mlflow.end_run()


def start_run(tracking_uri, **changes):
    settings = {
        "experiment": "battles",
        "run_name": "first",
        "params": {"ippo.gamma": "0.99"},
        "tags": {"map": "3m"},
    }
    return tracking.Tracker(tracking_uri, **settings | changes)


def test_local_store_is_a_database_in_a_folder_that_is_made(tmp_path):
    folder = tmp_path / "some where" / "mlflow_artifacts"
    assert tracking.local_store(folder) == f"sqlite:///{folder}/mlflow.db"
    assert folder.is_dir()


def test_a_finished_run_has_all_its_metrics_params_tags_and_texts(store):
    tracker = start_run(store)
    for env_steps in range(0, 5000, 100):
        tracker.record(env_steps, {"eval/return_mean": env_steps / 10, "loss/value": 1.0})
    tracker.text("ippo.gamma = 0.99\n", "config.gin")
    tracker.finish("FINISHED")

    client = mlflow.MlflowClient(store)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.info.experiment_id == tracker.experiment_id
    assert client.get_experiment(tracker.experiment_id).name == "battles"
    assert run.data.params == {"ippo.gamma": "0.99"}
    history = client.get_metric_history(tracker.run_id, "eval/return_mean")
    assert [(metric.step, metric.value) for metric in history] == [(n, n / 10) for n in range(0, 5000, 100)]
    assert len(client.get_metric_history(tracker.run_id, "loss/value")) == 50
    text = client.download_artifacts(tracker.run_id, "config.gin")
    assert pathlib.Path(text).read_text() == "ippo.gamma = 0.99\n"
    assert run.data.tags["map"] == "3m"
    assert "error" not in run.data.tags
    assert run.data.tags["git_commit"] == tracking.git_commit()
    assert run.data.tags["version.mlflow"] == mlflow.__version__


def test_a_failed_run_says_why_however_long_the_reason(store):
    tracker = start_run(store)
    tracker.record(7, {"loss/value": 2.0})
    tracker.finish("FAILED", "ValueError: " + "no " * 10_000)
    run = mlflow.MlflowClient(store).get_run(tracker.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("ValueError: no no")
    assert run.data.metrics["loss/value"] == 2.0


def test_runs_of_one_experiment_share_it(sqlite_store):
    trackers = []
    for _ in range(2):
        trackers.append(start_run(sqlite_store))
        trackers[-1].finish("FINISHED")
    first, second = trackers
    assert first.experiment_id == second.experiment_id
    assert first.run_id != second.run_id


def test_artifacts_lie_beside_the_database_not_in_the_current_directory(sqlite_store, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracker = start_run(sqlite_store)
    tracker.text("hello", "greeting.txt")
    tracker.finish("FINISHED")
    assert [path.read_text() for path in tmp_path.glob("artifacts/**/greeting.txt")] == ["hello"]
    assert not list(elsewhere.iterdir())


def test_a_running_server_is_reachable(mlflow_server):
    tracking.check_reachable(mlflow_server)
    tracking.check_reachable(mlflow_server + "/")


def test_an_address_without_http_is_not_asked():
    tracking.check_reachable("sqlite:////nowhere/mlflow.db")


def test_a_closed_port_is_not_reachable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but not listening
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"no MLflow server answers at {uri}"):
            tracking.check_reachable(uri)


def test_git_commit_is_the_checkouts():
    head = subprocess.run(
        ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert tracking.git_commit().removesuffix("-dirty") == head.stdout.strip()
