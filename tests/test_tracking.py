"""What reaches an MLflow store, local or served."""

import base64
import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import mlflow
import numpy as np
import pytest
import requests

from tf_marl import agents, environments, tracking
from tf_marl.training.train import Trainer

SETTINGS = {
    "experiment": "battles",
    "run_name": "first",
    "params": {"ippo.gamma": "0.99"},
    "tags": {"map": "3m"},
}


class Server:
    """An MLflow server of its own, which can be killed and started again."""

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
        with open(self.folder / "log", "w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        give_up = time.monotonic() + 90
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
    """A way to a server that takes its time; remembers what was sent through it."""

    def __init__(self, port: int, delay: float):
        self.sent = b""
        self._port = port
        self._delay = delay  # seconds, before anything is passed on
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


@pytest.fixture(scope="module")
def server(tmp_path_factory, store_in):
    server = Server(tmp_path_factory.mktemp("mlflow_server"))
    store_in(server.folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def mlflow_server(server):
    """The address of an MLflow server."""
    return server.uri


@pytest.fixture
def relay(server, request):
    """To the server; its parameter is how slow [seconds]."""
    relay = Relay(server.port, getattr(request, "param", 0.0))
    yield relay
    relay.close()


@pytest.fixture
def sqlite_store(tmp_path, store_in):
    return store_in(tmp_path)


@pytest.fixture(params=["sqlite_store", "mlflow_server"])
def store(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def start_run(tmp_path):
    """(tracking_uri, **settings) -> a tracker; in the same folder if none is given."""

    def start(tracking_uri, folder="tracking", **changes):
        return tracking.Tracker(tracking_uri, folder=tmp_path / folder, **SETTINGS | changes)

    return start


def history(tracking_uri, run_id, name):
    """(step, value) of everything that is kept of a metric, in order of steps."""
    rows = mlflow.MlflowClient(tracking_uri).get_metric_history(run_id, name)
    return sorted((metric.step, metric.value) for metric in rows)


def only_run(tracking_uri):
    client = mlflow.MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("battles").experiment_id])
    return run


def test_local_store_is_a_database_in_a_folder_that_is_made(tmp_path):
    folder = tmp_path / "some where" / "mlflow_artifacts"
    assert tracking.local_store(folder) == f"sqlite:///{folder}/mlflow.db"
    assert folder.is_dir()


def test_a_finished_run_has_all_its_metrics_params_tags_and_texts(store, start_run):
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


SIGNATURE = {
    "inputs": {
        "obs": {"dtype": "float32", "shape": [None, 5]},
        "avail_actions": {"dtype": "bool", "shape": [None, 2]},
    },
    "outputs": {"action": {"dtype": "int32", "shape": [None]}},
}


@pytest.fixture
def policy(tmp_path):
    """A folder to make a model of; nothing here looks into its SavedModel."""
    folder = tmp_path / "policy"
    (folder / "saved_model").mkdir(parents=True)
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    (folder / "config.gin").write_text("ippo.gamma = 0.99")
    return folder


def test_a_policy_becomes_a_model_of_its_run_and_a_version_of_its_name(store, start_run, policy, tmp_path):
    tracker = start_run(store, experiment="models")
    tracker.model(policy, "tf_marl.ippo.3m", "ippo on 3m", 600, SIGNATURE, {"model/battle_won_mean": 0.75})
    tracker.model(
        policy, "tf_marl.ippo.3m", "ippo on 3m", 600, SIGNATURE, {"model/battle_won_mean": 0.5}
    )  # by a run that went on
    tracker.model(policy, "tf_marl.ippo.3m", "ippo on 3m", 900, SIGNATURE, {"model/battle_won_mean": 0.875})
    shutil.rmtree(policy)
    assert tracker.finish("FINISHED") is None

    first, second = tracking.versions(store, "tf_marl.ippo.3m", tracker.run_id)
    assert second > first
    client = mlflow.MlflowClient(store)
    run = client.get_run(tracker.run_id)
    outputs = {output.step: output.model_id for output in run.outputs.model_outputs}
    assert sorted(outputs) == [600, 900]
    assert history(store, tracker.run_id, "model/battle_won_mean") == [(600, 0.75), (900, 0.875)]
    version = client.get_model_version("tf_marl.ippo.3m", str(first))
    assert version.tags == {"env_steps": "600"}
    logged = client.get_logged_model(outputs[600])
    assert version.source == logged.artifact_location
    assert logged.status == "READY"
    assert {metric.key: metric.value for metric in logged.metrics} == {"model/battle_won_mean": 0.75}
    assert logged.params == SETTINGS["params"]
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "tf_marl.ippo.3m", "version": str(first)}]
    assert client.get_registered_model("tf_marl.ippo.3m").description == "ippo on 3m"

    model = tracking.download(f"models:/tf_marl.ippo.3m/{first}", store, tmp_path).parent
    files = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    assert {"MLmodel", "saved_model/saved_model.pb", "config.gin", "requirements.txt"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".py"))]
    meta = mlflow.models.Model.load(str(model))
    assert (meta.model_id, meta.run_id) == (logged.model_id, tracker.run_id)
    assert {spec.name: (spec.type.name, spec.shape) for spec in meta.signature.inputs} == {
        "obs": ("float32", (-1, 5)),
        "avail_actions": ("bool", (-1, 2)),
    }
    example = meta.load_input_example(str(model))
    assert example["avail_actions"].all()
    assert not example["obs"].any()


def test_a_model_whose_answers_were_lost_is_there_once(sqlite_store, start_run, policy, monkeypatch):
    failed = set()

    def losing(method):
        honest = getattr(mlflow.MlflowClient, method)

        def lose(client, *arguments, **options):
            answer = honest(client, *arguments, **options)
            if method not in failed:
                failed.add(method)
                raise ConnectionError("the answer was lost")
            return answer

        return lose

    methods = {"create_logged_model", "log_outputs", "create_registered_model", "create_model_version"}
    for method in methods:
        monkeypatch.setattr(mlflow.MlflowClient, method, losing(method))
    tracker = start_run(sqlite_store)
    tracker.model(policy, "tf_marl.ippo.3m", "ippo on 3m", 600, SIGNATURE, {"model/battle_won_mean": 0.75})
    assert tracker.finish("FINISHED") is None
    assert failed == methods
    assert tracking.versions(sqlite_store, "tf_marl.ippo.3m") == [1]
    client = mlflow.MlflowClient(sqlite_store)
    assert len(client.search_logged_models([tracker.experiment_id])) == 1
    assert len(client.get_run(tracker.run_id).outputs.model_outputs) == 1
    assert len(history(sqlite_store, tracker.run_id, "model/battle_won_mean")) == 1


def test_no_model_but_ours_is_downloaded(sqlite_store, tmp_path):
    with pytest.raises(ValueError, match=r"tf_marl.ippo.3m"):
        tracking.download("models:/tf_marl.ippo.3m@champion", sqlite_store, tmp_path)
    with pytest.raises(ValueError, match=r"no version of tf_marl.ippo.3m"):
        tracking.versions(sqlite_store, "tf_marl.ippo.3m")
    with pytest.raises(ValueError, match=r"^.*No such artifact: 'nowhere'$"):
        tracking.download("nowhere", sqlite_store, tmp_path)
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "python_model.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="no other is loaded"):
        tracking.download((tmp_path / "pickled").as_uri(), sqlite_store, tmp_path / "to")


def test_a_failed_run_says_why_however_long_the_reason(store, start_run):
    tracker = start_run(store)
    tracker.record(7, {"loss/value": 2.0})
    tracker.finish("FAILED", "ValueError: " + "no " * 10_000)
    run = mlflow.MlflowClient(store).get_run(tracker.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("ValueError: no no")
    assert run.data.metrics["loss/value"] == 2.0


def test_runs_of_one_experiment_share_it(sqlite_store, start_run):
    trackers = []
    for folder in ("one", "two"):
        trackers.append(start_run(sqlite_store, folder))
        trackers[-1].finish("FINISHED")
    first, second = trackers
    assert first.experiment_id == second.experiment_id
    assert first.run_id != second.run_id


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


# What does not get lost


def test_a_server_that_is_killed_and_comes_back_gets_everything_once_and_in_order(server, start_run):
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


def test_a_run_goes_on_without_its_server_and_one_start_later_all_is_there(server, start_run, tmp_path):
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


def test_once_all_is_sent_nothing_more_is_written(sqlite_store, start_run, tmp_path, monkeypatch):
    """So whoever waited for that can remove the folder."""
    replace = pathlib.Path.replace

    def slowly(path, target):
        time.sleep(0.2)
        return replace(path, target)

    tracker = start_run(sqlite_store)
    with monkeypatch.context() as slow:
        slow.setattr(pathlib.Path, "replace", slowly)
        assert tracker.finish("FINISHED") is None
    sent = json.loads((tmp_path / "tracking" / "sent.json").read_text())
    assert sent["position"] == (tmp_path / "tracking" / "journal.jsonl").stat().st_size


def test_a_run_that_goes_on_is_running_and_the_same(sqlite_store, start_run):
    first = start_run(sqlite_store)
    first.finish("KILLED")
    second = start_run(sqlite_store)
    assert not second.finished
    second.record(1, {"loss/value": 1.0})
    second.flush()
    assert only_run(sqlite_store).info.run_id == first.run_id
    assert only_run(sqlite_store).info.status == "RUNNING"


@pytest.mark.parametrize("method", ["create_run", "log_batch", "log_artifact", "set_terminated"])
def test_what_is_sent_again_because_an_answer_was_lost_is_there_once(method, sqlite_store, start_run, monkeypatch):
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


@pytest.mark.parametrize("note", ["", '{"store": ', "of a run that the store lost"])
def test_a_lost_or_wrong_note_of_how_far_it_came_does_no_harm(note, sqlite_store, start_run, tmp_path):
    path = tmp_path / "tracking" / "sent.json"
    first = start_run(sqlite_store)
    first.record(1, {"loss/value": 1.0})
    first.finish("KILLED")
    sent = json.loads(path.read_text())
    path.write_text(json.dumps(sent | {"run_id": "0" * 32}) if "run" in note else note)
    second = start_run(sqlite_store)
    second.record(2, {"loss/value": 2.0})
    assert second.finish("FINISHED") is None
    assert only_run(sqlite_store).info.run_id == first.run_id
    assert history(sqlite_store, first.run_id, "loss/value") == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("sent_too_far", ["beyond the journal", "inside a line"])
def test_a_folder_copied_while_its_run_went_on_sends_what_the_store_lacks(
    sent_too_far, sqlite_store, start_run, tmp_path
):
    original = start_run(sqlite_store)
    original.record(1, {"loss/value": 1.0})
    shutil.copytree(tmp_path / "tracking", tmp_path / "copy")
    original.record(2, {"loss/value": 2.0})
    original.finish("KILLED")
    sent = json.loads((tmp_path / "tracking" / "sent.json").read_text())
    if sent_too_far == "inside a line":
        sent["position"] = (tmp_path / "copy" / "journal.jsonl").stat().st_size - 5
    (tmp_path / "copy" / "sent.json").write_text(json.dumps(sent))

    copy = start_run(sqlite_store, "copy")
    for step in (2, 3):
        copy.record(step, {"loss/value": float(step)})
    assert copy.finish("FINISHED") is None
    run = only_run(sqlite_store)
    assert run.info.status == "FINISHED"
    assert history(sqlite_store, run.info.run_id, "loss/value") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_another_store_gets_all_of_the_run(sqlite_store, start_run, store_in, tmp_path):
    first = start_run(sqlite_store)
    first.record(1, {"loss/value": 1.0})
    first.finish("KILLED")
    (tmp_path / "other").mkdir()
    other = store_in(tmp_path / "other")
    second = start_run(other)
    second.record(2, {"loss/value": 2.0})
    second.finish("FINISHED")
    assert history(other, second.run_id, "loss/value") == [(1, 1.0), (2, 2.0)]


def test_what_mlflow_refuses_does_not_stand_before_the_rest(sqlite_store, start_run):
    tracker = start_run(sqlite_store)
    tracker.record(1, {"loss/value": 1.0, "who?": 1.0, "loss/policy": 2.0})
    tracker.record(2, {"loss/value": 2.0})
    assert "refused 1 of the run's entries" in tracker.finish("FINISHED")
    assert history(sqlite_store, tracker.run_id, "loss/value") == [(1, 1.0), (2, 2.0)]
    assert history(sqlite_store, tracker.run_id, "loss/policy") == [(1, 2.0)]


@pytest.mark.slow
@pytest.mark.parametrize("relay", [1.0], indirect=True)
def test_recording_does_not_wait_for_a_slow_server(relay, server, start_run):
    mlflow.MlflowClient(server.uri).create_experiment("slow")
    tracker = start_run(relay.uri, experiment="slow")
    metrics = {f"loss/{i}": i / 7 for i in range(40)}
    began = time.perf_counter()
    for step in range(200):
        tracker.record(step, metrics)
    assert time.perf_counter() - began < 1.0  # one answer takes more
    assert tracker.finish("FINISHED") is None
    assert len(history(server.uri, tracker.run_id, "loss/39")) == 200


@pytest.mark.slow
@pytest.mark.parametrize("relay", [0.5], indirect=True)
def test_a_slow_server_costs_training_less_than_two_percent(relay, server, start_run, tmp_path):
    mlflow.MlflowClient(server.uri).create_experiment("slow_training")
    tracker = start_run(relay.uri, experiment="slow_training")
    trainer = Trainer(
        environment=environments.load("3m", num_envs=64), root_dir=str(tmp_path), agent=agents.ippo, rollout_steps=32
    )
    iteration = trainer.build_iteration()
    iteration()

    def median_seconds(record):
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            metrics = {name: float(value) for name, value in iteration().items()}
            record(int(trainer.env_steps), metrics)
            seconds.append(time.perf_counter() - began)
        return np.median(seconds)

    ratios = []
    for i in range(12):  # in turn: other processes come and go
        ratios.append(1 / median_seconds(lambda *_: None) * median_seconds(tracker.record))
        while len(history(server.uri, tracker.run_id, "loss/value")) < 20 * (i + 1):
            time.sleep(0.5)  # nothing is sent while nothing is tracked
    cost = np.median(ratios) - 1
    print(f"a server that takes 0.5 s to answer costs {cost:.2%} of an iteration")
    assert tracker.finish("FINISHED") is None
    assert cost < 0.02


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


def test_a_run_killed_again_and_again_has_the_history_of_one_that_was_not(sqlite_store, tmp_path):
    command = [sys.executable, "-c", CHILD, sqlite_store, str(tmp_path)]
    moments = random.Random(7)
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            child.stdout.readline()
            time.sleep(moments.uniform(0.0, 4.0))
            child.kill()
    last = subprocess.run(command, check=True, capture_output=True, text=True)
    assert last.stdout.endswith("None\n"), last.stdout + last.stderr
    run = only_run(sqlite_store)
    assert run.info.status == "FINISHED"
    assert history(sqlite_store, run.info.run_id, "loss/value") == [(step, step / 7) for step in range(1, 401)]
    assert history(sqlite_store, run.info.run_id, "loss/policy") == [(step, -step) for step in range(1, 401)]
    texts = mlflow.MlflowClient(sqlite_store).list_artifacts(run.info.run_id, "texts")
    assert {text.path for text in texts} == {f"texts/{step}.txt" for step in range(40, 401, 40)}


def test_a_full_disk_is_an_os_error_that_names_the_folder(sqlite_store, start_run, tmp_path, monkeypatch):
    tracker = start_run(sqlite_store)
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
    assert history(sqlite_store, tracker.run_id, "loss/value") == [(1, 1.0), (2, 2.5)]


def test_a_run_can_have_a_parent(sqlite_store, start_run):
    parent = start_run(sqlite_store, "parent")
    parent.finish("FINISHED")
    child = start_run(sqlite_store, "child", parent_run_id=parent.run_id)
    child.finish("FINISHED")
    tags = mlflow.MlflowClient(sqlite_store).get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id


def test_a_store_that_cannot_be_used_leaves_no_run_behind(start_run, tmp_path):
    with pytest.raises(mlflow.exceptions.MlflowException):
        start_run("http://127.0.0.1:9")
    assert not tracking.has_begun(tmp_path / "tracking")


# Who may see what


def test_user_and_password_reach_the_server_and_nothing_else(relay, start_run, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")  # to have them as they were afterwards
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    uri = relay.uri.replace("//", "//mary:s3cr%20t@")
    tracking.check_reachable(uri)
    tracker = start_run(uri)
    tracker.text("hello", "greeting.txt")
    left = [tracker.finish("FINISHED")]
    assert left == [None]
    assert relay.sent.count(base64.b64encode(b"mary:s3cr t")) > 3
    run = mlflow.MlflowClient(relay.uri).get_run(tracker.run_id)
    relay.close()
    resumed = start_run("http://mary:s3cr%20t@127.0.0.1:9")
    left.append(resumed.finish("FINISHED", patience=0.5))
    with pytest.raises(ValueError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 ") as refusal:
        tracking.check_reachable("http://mary:s3cr%20t@127.0.0.1:9")
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 3
    for text in (*written, *capfd.readouterr(), str(run.to_dictionary()), str(left), str(refusal.value)):
        assert "s3cr" not in text
        assert "mary" not in text


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://mary:p@ss/w@host:5000/a", "http://host:5000/a"),
        ("postgresql://mary:secret@host/runs?sslpassword=secret", "postgresql://host/runs"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_an_address_is_shown_without_its_account(uri, shown):
    assert tracking.shown(uri) == shown


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
