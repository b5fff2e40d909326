"""The doctor finds what is wrong, says how to mend it, and survives a machine where nothing works."""

import base64
import hashlib
import http.server
import json
import pathlib
import socket
import subprocess
import threading
from importlib import metadata

import pytest
from absl import flags
from absl.testing import flagsaver

from launch import doctor
from tf_marl.environments.sc2 import installation


@pytest.fixture(autouse=True)
def parsed_flags():
    with flagsaver.flagsaver():
        if not flags.FLAGS.is_parsed():
            flags.FLAGS(["doctor"])
        yield


@pytest.fixture
def versions(monkeypatch):
    """name -> version; None takes the package away."""

    def pretend(**changes):
        real = metadata.version

        def version(name):
            if name.replace("-", "_") not in changes:
                return real(name)
            if (changed := changes[name.replace("-", "_")]) is None:
                raise metadata.PackageNotFoundError(name)
            return changed

        monkeypatch.setattr(metadata, "version", version)

    return pretend


def by_name(findings):
    return {finding.what: finding for finding in findings}


@pytest.mark.parametrize(
    ("package", "version"),
    [("numpy", "2.4.1"), ("protobuf", "5.29.3"), ("tf_keras", None), ("tf_agents", "0.18.0"), ("numpy", "2.0.9")],
)
def test_a_version_that_does_not_work_is_a_problem_with_its_cure(package, version, versions):
    versions(**{package: version})
    findings = by_name(doctor.packages())
    finding = findings.pop(package.replace("_", "-"))
    assert finding.status == "problem"
    assert (version or "not installed") in finding.says
    assert finding.fix
    assert all(other.status == "ok" for other in findings.values())


def fake_smac(folder, *modules):
    """A package `smac` in a folder."""
    for module in modules:
        file = folder / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("class StarCraft2Env: ...")


def test_smac3_is_not_taken_for_the_game_environment(tmp_path, monkeypatch):
    fake_smac(tmp_path, "smac/__init__.py", "smac/facade/__init__.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor.smac()
    assert finding.status == "problem"
    assert "SMAC3" in finding.says
    assert finding.fix == "make sc2"


def test_the_game_environment_is_recognised(tmp_path, monkeypatch):
    fake_smac(tmp_path, "smac/__init__.py", "smac/env/__init__.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor.smac()
    assert finding.status == "ok"


def test_a_closed_server_is_a_problem():
    with socket.socket() as closed, flagsaver.flagsaver():
        closed.bind(("127.0.0.1", 0))  # bound, but not listening
        flags.FLAGS.tracking_uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (finding,) = doctor.mlflow_store()
        assert finding.status == "problem"
        assert f"no MLflow server answers at {flags.FLAGS.tracking_uri}" in finding.says


@pytest.fixture
def read_only_server():
    """Lets one account in, and nobody write; yields its address and the accounts that came."""
    accounts = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            accounts.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()

        def do_POST(self):
            self.send_error(403)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", accounts
        server.shutdown()


def test_a_server_that_cannot_be_written_to_is_a_problem_and_its_password_is_not_shown(read_only_server):
    host, accounts = read_only_server
    flags.FLAGS.tracking_uri = f"http://me:s%40cret@{host}"
    (finding,) = doctor.mlflow_store()
    assert finding.status == "problem"
    assert f"http://{host} answers, but does not take what is written" in finding.says
    assert "cret" not in finding.says + finding.fix
    assert accounts == ["Basic " + base64.b64encode(b"me:s@cret").decode()]


def test_a_database_is_neither_made_nor_changed(tmp_path):
    flags.FLAGS.tracking_uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    (finding,) = doctor.mlflow_store()
    assert (finding.status, list(tmp_path.iterdir())) == ("ok", [])
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to tell" * 30)
    flags.FLAGS.tracking_uri = f"sqlite:///{tmp_path}/mlflow.db"
    (finding,) = doctor.mlflow_store()
    assert finding.status == "problem"


def test_a_game_without_its_maps_is_a_problem_and_no_game_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    program = tmp_path / "Versions" / "Base75689" / "SC2_x64"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    build, maps = doctor.game()
    assert (build.status, maps.status) == ("ok", "problem")
    folder = tmp_path / "Maps" / "SMAC_Maps"
    folder.mkdir(parents=True)
    (folder / "10m_vs_11m.SC2Map").touch()
    monkeypatch.setattr(installation, "MAP_HASHES", {"10m_vs_11m": hashlib.sha256(b"a map").hexdigest()})
    build, maps = doctor.game()
    assert (build.status, maps.status) == ("ok", "problem")
    assert "is not SMAC's" in maps.says
    (folder / "10m_vs_11m.SC2Map").write_bytes(b"a map")
    assert [finding.status for finding in doctor.game()] == ["ok", "ok"]
    monkeypatch.delenv("SC2PATH")
    monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path / "nobody")
    (finding,) = doctor.game()
    assert finding.status == "note"
    assert "only needed for backend sc2" in finding.says


def test_a_tensorflow_that_does_not_load_and_a_check_that_fails_are_findings(monkeypatch):
    def run(*args, **kwargs):
        return subprocess.CompletedProcess(args, 1, "", "Traceback\nImportError: no keras 2 here")

    def broken():
        raise RuntimeError("out of order")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(doctor, "CHECKS", {"broken": broken, "TensorFlow": doctor.tensorflow})
    broken_finding, tensorflow = doctor.examine()
    assert (broken_finding.status, broken_finding.what) == ("problem", "broken")
    assert tensorflow.status == "problem"
    assert "no keras 2 here" in tensorflow.says


def test_gpus_that_tensorflow_does_not_see_are_a_problem(monkeypatch):
    def run(*args, **kwargs):
        return subprocess.CompletedProcess(args, 0, '["2.21.0", 0]\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(doctor, "_gpus", lambda: ["Some GPU"])
    loads, gpu = doctor.tensorflow()
    assert (loads.status, gpu.status) == ("ok", "problem")
    assert "and-cuda" in gpu.fix


def test_the_exit_code_tells_of_problems_and_the_last_line_is_json(monkeypatch, capsys):
    flags.FLAGS.json = True
    monkeypatch.setattr(doctor, "CHECKS", {"fine": lambda: [doctor.Finding("ok", "fine", "yes")]})
    assert doctor.main() == 0
    monkeypatch.setitem(doctor.CHECKS, "bad", lambda: [doctor.Finding("problem", "bad", "no", "mend it")])
    assert doctor.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert "fix: mend it" in lines[-3]
    assert json.loads(lines[-1])["problems"] == 1


def test_help_is_there_at_once(launch, no_tensorflow, tmp_path):
    assert launch("launch.doctor", "--help", cwd=tmp_path, env=no_tensorflow).code == 0
