"""The doctor finds what is wrong, says how to mend it, and survives a machine where nothing works."""

import base64
import hashlib
import http.server
import pathlib
import socket
import subprocess
import sys
import threading
import tomllib
from importlib import metadata

import pytest

from tf_marl import doctor
from tf_marl.environments.sc2 import installation

PYPROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a `.venv` that has uv."""
    uv = tmp_path / "checkout" / ".venv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.touch()
    return tmp_path / "checkout"


@pytest.fixture(autouse=True)
def requirements(monkeypatch):
    """Requirements as the metadata of this version has them, whatever is installed here; may be added to."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    lines = [*project["dependencies"]]
    for extra, own in project["optional-dependencies"].items():
        lines += [f"{line}; extra == '{extra}'" for line in own]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    return lines


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
    [
        ("numpy", "2.4.1"),
        ("protobuf", "5.29.3"),
        ("tf_keras", None),
        ("tf_agents", "0.18.0"),
        ("numpy", "2.0.9"),
        ("tensorflow", "2.22.0rc1"),
    ],
)
def test_a_version_that_does_not_work_is_a_problem_with_its_cure(package, version, versions, checkout):
    versions(**{package: version})
    findings = by_name(doctor.packages(checkout))
    finding = findings.pop(package.replace("_", "-"))
    assert finding.status == "problem"
    assert (version or "not installed") in finding.says
    assert finding.fix.startswith(".venv/bin/uv pip install ")
    assert not [other for other in findings.values() if other.status == "problem"]


def test_a_cure_suits_where_one_is(versions, checkout, tmp_path):
    versions(numpy="2.4.1", tf_agents=None)
    cures = {}
    for where in (checkout, None, tmp_path):
        findings = by_name(doctor.packages(where))
        cures[where] = [findings[name].fix for name in ("numpy", "tf-agents")]
    by_pip = ["pip install 'numpy<2.4,>=2.1'", "pip install --no-deps tf-agents==0.19.0"]
    assert cures == {checkout: [f".venv/bin/uv {fix}" for fix in by_pip], None: by_pip, tmp_path: ["make setup"] * 2}


def test_what_only_an_extra_needs_is_a_note(versions, checkout):
    versions(pysc2="3.0")
    sc2 = by_name(doctor.packages(checkout))["extra sc2"]
    assert sc2.status == "note"
    assert "pysc2 3.0; only needed for backend sc2" in sc2.says


def test_a_requirement_for_another_machine_is_none(requirements, checkout):
    requirements.append("nowhere-to-be-found>=1; sys_platform == 'never'")
    assert "nowhere-to-be-found" not in by_name(doctor.packages(checkout))


def test_without_metadata_the_rest_is_examined_all_the_same(monkeypatch, versions, checkout):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    versions(tf_agents="0.18.0")
    findings = by_name(doctor.packages(checkout))
    assert {name for name, finding in findings.items() if finding.status == "problem"} == {"tf_marl", "tf-agents"}
    assert "make" in findings["tf_marl"].fix


def test_it_needs_the_standard_library_alone_and_says_what_is_missing():
    """In an interpreter that sees no installed package."""
    code = (
        "import pathlib; from tf_marl import doctor; doctor.tensorflow = lambda checkout: ();"
        "print(*doctor.examine('http://127.0.0.1:9', pathlib.Path('nowhere'), None), sep='\\n')"
    )
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PYPROJECT.parent, check=True)
    for says in ("no module packaging", "no module requests", "no module pydantic"):
        assert says in done.stdout


def fake_smac(folder, *modules):
    """A package `smac` in a folder."""
    for module in modules:
        file = folder / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("class StarCraft2Env: ...")


def test_smac3_is_not_taken_for_the_game_environment(tmp_path, monkeypatch):
    fake_smac(tmp_path, "smac/__init__.py", "smac/facade/__init__.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor.smac(tmp_path)
    assert finding.status == "problem"
    assert "SMAC3" in finding.says
    assert finding.fix == "make sc2"


def test_the_game_environment_is_recognised(tmp_path, monkeypatch):
    fake_smac(tmp_path, "smac/__init__.py", "smac/env/__init__.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor.smac(tmp_path)
    assert finding.status == "ok"


def test_a_closed_server_is_a_problem():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but not listening
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (finding,) = doctor.mlflow_store(uri)
        assert finding.status == "problem"
        assert f"no MLflow server answers at {uri}" in finding.says


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
    (finding,) = doctor.mlflow_store(f"http://me:s%40cret@{host}")
    assert finding.status == "problem"
    assert f"http://{host} answers, but does not take what is written" in finding.says
    assert "cret" not in finding.says + finding.fix
    assert accounts == ["Basic " + base64.b64encode(b"me:s@cret").decode()]


def test_a_database_is_neither_made_nor_changed(tmp_path):
    (finding,) = doctor.mlflow_store(f"sqlite:///{tmp_path}/new/mlflow.db")
    assert (finding.status, list(tmp_path.iterdir())) == ("ok", [])
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to tell" * 30)
    (finding,) = doctor.mlflow_store(f"sqlite:///{tmp_path}/mlflow.db")
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


def test_smac_is_not_made_where_there_is_no_makefile(tmp_path, monkeypatch):
    fake_smac(tmp_path, "smac/__init__.py", "smac/facade/__init__.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor.smac(None)
    assert "in a checkout of tf_marl" in finding.fix


def test_a_tensorflow_that_does_not_load_and_a_check_that_fails_are_findings(monkeypatch, tmp_path):
    def run(*args, **kwargs):
        return subprocess.CompletedProcess(args, 1, "", "Traceback\nImportError: no keras 2 here")

    def broken():
        yield doctor.Finding("ok", "CPU", "one")
        raise RuntimeError("out of order")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(doctor, "machine", broken)
    findings = by_name(doctor.examine(None, tmp_path, tmp_path))
    assert findings["CPU"].status == "ok"
    assert findings["CPU and memory"].status == "problem"
    assert "RuntimeError: out of order" in findings["CPU and memory"].says
    assert findings["TensorFlow"].status == "problem"
    assert "no keras 2 here" in findings["TensorFlow"].says
    assert findings["disk"].status


def test_gpus_that_tensorflow_does_not_see_are_a_problem(monkeypatch, tmp_path):
    def run(*args, **kwargs):
        return subprocess.CompletedProcess(args, 0, '["2.21.0", 0]\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(doctor, "_gpus", lambda: ["Some GPU"])
    loads, gpu = doctor.tensorflow(tmp_path)
    assert (loads.status, gpu.status) == ("ok", "problem")
    assert "and-cuda" in gpu.fix
