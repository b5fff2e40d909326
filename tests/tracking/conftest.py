"""This module opens sinks of every kind, starts runs in them and reads what arrived."""

import contextlib
import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import mlflow
import pytest
import requests

from tf_marl import tracking

SETTINGS = {
    "experiment": "battles",
    "run_name": "first",
    "params": {"ippo.gamma": "0.99"},
    "tags": {"map": "3m"},
}


class Server:
    """Runs an MLflow server in a process, which a test can kill and start again."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self.port}", "--workers=1"]
        command += [f"--backend-store-uri=sqlite:///{self.folder}/mlflow.db"]
        command += [f"--artifacts-destination={self.folder}/artifacts"]
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # jobs are eight more processes
        with open(self.folder / "log", "w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=env, start_new_session=True
            )
        give_up = time.monotonic() + 240
        while True:
            try:
                return requests.get(self.uri + "/health", timeout=1).raise_for_status()
            except requests.RequestException:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < give_up, (self.folder / "log").read_text()
                time.sleep(0.2)

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)  # the server and its workers
        self._process.wait()


class Relay:
    """Passes connections on to a server, with a delay, and keeps what clients have sent."""

    def __init__(self, port: int, delay: float):
        self.sent = b""
        self._port = port
        self._delay = delay  # seconds that each part of a request waits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source, sink, is_request):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_request:
                    self.sent += data
                    time.sleep(self._delay)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def server(tmp_path_factory, store_in):
    server = Server(tmp_path_factory.mktemp("mlflow_server"))
    store_in(server.folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def mlflow_server(server):
    """Gives the address of an MLflow server."""
    return server.uri


@pytest.fixture
def relay(server, request):
    """Gives a relay to the server. The fixture's parameter is the delay in seconds, 0 by default."""
    relay = Relay(server.port, getattr(request, "param", 0.0))
    yield relay
    relay.close()


@pytest.fixture
def sqlite_store(tmp_path, store_in):
    return store_in(tmp_path)


@pytest.fixture
def folder(tmp_path):
    return f"folder:{tmp_path}/runs"


@pytest.fixture(params=["sqlite_store", "mlflow_server", "folder"])
def address(request):
    """Gives the address of a sink, once for each kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite_store", "folder"])
def local_address(request):
    """Gives the address of a sink, once for each kind that needs no server."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def start_run(tmp_path):
    """Gives a function (tracking_uri, folder="tracking", **settings) -> tracker. The same folder resumes its run."""

    def start(tracking_uri, folder="tracking", **changes):
        return tracking.Tracker(tracking_uri, folder=tmp_path / folder, **SETTINGS | changes)

    return start


@pytest.fixture
def policy(tmp_path):
    """Gives the folder of a model. Its SavedModel is not a real one, as no test loads it."""
    folder = tmp_path / "policy"
    (folder / "saved_model").mkdir(parents=True)
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    (folder / "config.gin").write_text("ippo.gamma = 0.99")
    return folder


SIGNATURE = {
    "inputs": {
        "obs": {"dtype": "float32", "shape": [None, 5]},
        "avail_actions": {"dtype": "bool", "shape": [None, 2]},
    },
    "outputs": {"action": {"dtype": "int32", "shape": [None]}},
}


@pytest.fixture
def keep_policy(policy):
    """Gives a function (tracker, step, battle_won_mean) that keeps the policy as a model of the run."""

    def keep(tracker, step, battle_won_mean):
        metrics = {"model/battle_won_mean": battle_won_mean}
        tracker.model(policy, "tf_marl.ippo.3m", "ippo on 3m", step, SIGNATURE, metrics)

    return keep


class Seen(NamedTuple):
    """Holds a run as its sink has kept it."""

    experiment: str
    run_name: str
    status: str
    error: str | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]  # (step, value), in the order of steps
    artifacts: dict[str, bytes]
    models: dict[int, set[str]]  # step -> names of its files


def _files(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def _in_a_folder(uri, experiment_id, run_id):
    run = pathlib.Path(uri.removeprefix("folder:")) / experiment_id / run_id
    page = json.loads((run / "run.json").read_text())
    metrics = {}
    with open(run / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            metrics.setdefault(row["metric"], []).append((int(row["env_steps"]), float(row["value"])))
    return Seen(
        **{name: page[name] for name in ("experiment", "run_name", "status", "error")},
        params=json.loads((run / "params.json").read_text()),
        tags=json.loads((run / "tags.json").read_text()),
        metrics={name: sorted(rows) for name, rows in metrics.items()},
        artifacts={name: path.read_bytes() for name, path in _files(run / "artifacts").items()},
        models={int(path.name): set(_files(path)) for path in run.glob("models/*")},
    )


def _in_mlflow(uri, experiment_id, run_id, folder):
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.info.experiment_id == experiment_id
    mlflow.artifacts.download_artifacts(run_id=run_id, tracking_uri=uri, dst_path=str(folder / "artifacts"))
    models = {}
    for output in run.outputs.model_outputs if run.outputs else []:
        place = client.get_logged_model(output.model_id).artifact_location
        copy = mlflow.artifacts.download_artifacts(place, tracking_uri=uri, dst_path=str(folder / str(output.step)))
        models[output.step] = set(_files(pathlib.Path(copy)))
    return Seen(
        client.get_experiment(experiment_id).name,
        run.info.run_name,
        run.info.status,
        run.data.tags.get("error"),
        run.data.params,
        run.data.tags,
        {name: _history(uri, run_id, name) for name in run.data.metrics},
        {name: path.read_bytes() for name, path in _files(folder / "artifacts").items()},
        models,
    )


@pytest.fixture
def look(tmp_path_factory):
    """Gives a function (tracking_uri, tracker) -> the run as the sink has kept it."""

    def look(tracking_uri, tracker):
        ids = tracking_uri, tracker.experiment_id, tracker.run_id
        if tracking_uri.startswith("folder:"):
            return _in_a_folder(*ids)
        return _in_mlflow(*ids, tmp_path_factory.mktemp("seen"))

    return look


def _history(tracking_uri, run_id, name):
    rows = mlflow.MlflowClient(tracking_uri).get_metric_history(run_id, name)
    return sorted((metric.step, metric.value) for metric in rows)


@pytest.fixture
def history():
    """Gives a function (tracking_uri, run_id, name) -> all (step, value) of a metric in MLflow, in order of steps."""
    return _history


@pytest.fixture
def only_run():
    """Gives a function (tracking_uri) -> the only run of an MLflow store."""

    def find(tracking_uri):
        client = mlflow.MlflowClient(tracking_uri)
        (run,) = client.search_runs([client.get_experiment_by_name("battles").experiment_id])
        return run

    return find
