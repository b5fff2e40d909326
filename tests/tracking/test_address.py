"""Addresses: what answers there, and who may see what of them."""

import base64
import pathlib
import socket
import subprocess

import mlflow
import pytest

from tf_marl import tracking


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
    with pytest.raises(tracking.SinkError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 ") as refusal:
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
        with pytest.raises(tracking.SinkError, match=f"no MLflow server answers at {uri}"):
            tracking.check_reachable(uri)


def test_git_commit_is_the_checkouts():
    head = subprocess.run(
        ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert tracking.git_commit().removesuffix("-dirty") == head.stdout.strip()
