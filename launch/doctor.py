"""Tells what this machine has and lacks for tf_marl, with the command that fixes it: python -m launch.doctor

Every check is a function that needs nothing but the standard library, so it works where packages are missing; what
needs TensorFlow or MLflow runs in a process of its own. Exit code 0 if there is no problem, else 1.
"""

import base64
import json
import os
import pathlib
import platform
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Literal, NamedTuple

try:
    from absl import flags

    from launch import app
    from tf_marl.environments.sc2 import installation
except ImportError:
    sys.exit("problem  absl-py: not installed, like most of the rest, it seems\n         fix: make setup")

FLAGS = flags.FLAGS
PROBE_SECONDS = 3.0
LEAST_FREE_GB = 5.0  # checkpoints, and films and plots of some runs
LEAST_MEMORY_GB = 4.0  # TensorFlow and XLA's compiler, with 128 battles of a small map

app.define_json_flag()
app.define_sc2_flag()
flags.DEFINE_string("tracking_uri", None, "MLflow store; by default SQLite in the checkout's mlflow_artifacts/.")


class Finding(NamedTuple):
    """A line of the report."""

    status: Literal["ok", "note", "problem"]  # a note is something that only some uses need
    what: str
    says: str
    fix: str | None = None  # a command


class Requirement(NamedTuple):
    """A package, and the versions of it that work: from the first, below the second."""

    name: str
    at_least: str | None = None
    below: str | None = None
    why: str = ""


# Packages as in pyproject.toml, which says more; protobuf is TensorFlow's own.
REQUIREMENTS = (
    Requirement("tensorflow", "2.21", "2.22"),
    Requirement("tf-keras", "2.21", "2.22", "TF-Agents and TFP need Keras 2"),
    Requirement("tensorflow-probability", "0.25", "0.26"),
    Requirement("tf-agents", "0.19", "0.20"),
    Requirement("numpy", "2.1", "2.4", "tf-agents 0.19 calls int() on a one-element array, which 2.4 refuses"),
    Requirement("protobuf", "6.31", None, "TensorFlow 2.21 needs it"),
    Requirement("gin-config", "0.5"),
    Requirement("mlflow", "3.17", "4"),
    Requirement("pydantic", "2.9", "3"),
    Requirement("scipy", "1.14"),
    Requirement("matplotlib", "3.9"),
    Requirement("tensorboard", "2.20", None, "tf-agents' PPO writes tf.summary"),
)

Check = Callable[[], Iterator[Finding]]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Adds a function to the checks, which run in the order of this file."""

    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


def examine() -> list[Finding]:
    """All findings; a check that fails itself is one."""
    findings: list[Finding] = []
    for name, function in CHECKS.items():
        try:
            findings += function()
        except Exception as error:
            findings.append(Finding("problem", name, f"could not be checked: {type(error).__name__}: {error}"))
    return findings


@check("Python")
def python() -> Iterator[Finding]:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        yield Finding("ok", "Python", version)
    else:
        yield Finding("problem", "Python", f"{version}; 3.11 to 3.13 is needed", "make clean setup PYTHON=python3.11")


@check("packages")
def packages() -> Iterator[Finding]:
    for name, at_least, below, why in REQUIREMENTS:
        needs = " and ".join([f">= {at_least}"] * bool(at_least) + [f"< {below}"] * bool(below))
        reason = f" ({why})" if why else ""
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("problem", name, f"not installed; needs {needs}{reason}", "make setup")
            continue
        if (at_least and _order(version) < _order(at_least)) or (below and _order(version) >= _order(below)):
            constraint = ",".join([f">={at_least}"] * bool(at_least) + [f"<{below}"] * bool(below))
            fix = f".venv/bin/uv pip install '{name}{constraint}'"
            yield Finding("problem", name, f"{version}; needs {needs}{reason}", fix)
        else:
            yield Finding("ok", name, version)


def _order(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: 2.21.0rc1 -> (2, 21)."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


@check("CPU and memory")
def machine() -> Iterator[Finding]:
    yield Finding("ok", "CPU", f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    if memory >= LEAST_MEMORY_GB:
        yield Finding("ok", "memory", f"{memory:.0f} GB")
    else:
        says = f"{memory:.1f} GB; {LEAST_MEMORY_GB:.0f} GB is little already; train with fewer environments"
        yield Finding("note", "memory", says, "--gin_bindings='environment.num_envs = 16'")


@check("TensorFlow")
def tensorflow() -> Iterator[Finding]:
    """Whether it loads, with the Keras it needs, and whether it sees the GPUs there are."""
    code = (
        "import json, tf_marl.training.train, tensorflow as tf;"
        "print(json.dumps([tf.__version__, len(tf.config.list_physical_devices('GPU'))]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=app.CHECKOUT, timeout=300)
    if loaded.returncode != 0:
        last = (loaded.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding("problem", "TensorFlow", f"cannot be loaded with TF-Agents: {last}", "make setup")
        return
    version, seen = json.loads(loaded.stdout.splitlines()[-1])
    yield Finding("ok", "TensorFlow", f"{version} loads, with TF-Agents")
    there = _gpus()
    if len(there) > seen:
        fix = ".venv/bin/uv pip install 'tensorflow[and-cuda]~=2.21.0'"
        yield Finding("problem", "GPU", f"{', '.join(there)}; TensorFlow sees {seen} of {len(there)}", fix)
    elif seen:
        yield Finding("ok", "GPU", ", ".join(there) or f"{seen}, which TensorFlow sees")
    else:
        yield Finding("note", "GPU", "none; training runs on the CPU, which is enough for small maps")


def _gpus() -> list[str]:
    """Names of the GPUs that NVIDIA's driver knows."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.strip().splitlines()


@check("disk")
def disk() -> Iterator[Finding]:
    folder = app.STORE_FOLDER if app.STORE_FOLDER.is_dir() else app.CHECKOUT
    free = shutil.disk_usage(folder).free / 1e9
    if free >= LEAST_FREE_GB:
        yield Finding("ok", "disk", f"{free:.0f} GB free for {folder.name}/")
    else:
        says = f"{free:.1f} GB free for {folder.name}/; a few runs need {LEAST_FREE_GB:.0f} GB"
        yield Finding("problem", "disk", says, f"du -sh {folder}/* | sort -h")


@check("MLflow store")
def mlflow_store() -> Iterator[Finding]:
    uri = FLAGS.tracking_uri or f"sqlite:///{app.STORE_FOLDER / 'mlflow.db'}"
    scheme = urllib.parse.urlsplit(uri).scheme
    if scheme in ("http", "https"):
        yield _server(uri)
    elif scheme == "sqlite":
        yield _database(uri, pathlib.Path(uri.partition(":///")[2]))
    else:
        yield Finding("note", "MLflow store", f"{scheme}: a kind of store that is not checked")


def _server(uri: str) -> Finding:
    """Whether it answers, and takes what a client writes: a tag that is deleted again."""
    address = urllib.parse.urlsplit(uri)
    account, _, host = address.netloc.rpartition("@")
    shown = address._replace(netloc=host).geturl().rstrip("/")
    headers = {"Content-Type": "application/json"}
    if account:
        headers["Authorization"] = f"Basic {base64.b64encode(urllib.parse.unquote(account).encode()).decode()}"

    def ask(path: str, **body: str) -> None:
        data = json.dumps(body).encode() if body else None
        urllib.request.urlopen(urllib.request.Request(shown + path, data, headers), timeout=PROBE_SECONDS).close()

    tag = {"experiment_id": "0", "key": "tf_marl.doctor"}
    try:
        ask("/health")
        ask("/api/2.0/mlflow/experiments/set-experiment-tag", **tag, value="was here")
        ask("/api/2.0/mlflow/experiments/delete-experiment-tag", **tag)
    except urllib.error.HTTPError as error:
        says = f"{shown} answers, but does not take what is written ({error})"
        return Finding("problem", "MLflow store", says, f"curl -i {shown}/health  # and an account that may write")
    except (OSError, ValueError) as error:  # URLError is an OSError
        says = f"no MLflow server answers at {shown} ({error})"
        return Finding("problem", "MLflow store", says, f"mlflow server --port={address.port or 5000}")
    return Finding("ok", "MLflow store", f"{shown} answers, and can be written to")


def _database(uri: str, file: pathlib.Path) -> Finding:
    """Whether it could be written; it is left as it is, and not made."""
    folder = next(parent for parent in file.resolve().parents if parent.is_dir())
    try:
        if not os.access(file if file.exists() else folder, os.W_OK):
            raise PermissionError("not writable")
        if file.exists():
            connection = sqlite3.connect(file, timeout=PROBE_SECONDS)
            try:
                connection.execute("BEGIN IMMEDIATE")  # takes the lock that writing needs
                connection.rollback()
            finally:
                connection.close()
    except (OSError, sqlite3.Error) as error:
        return Finding("problem", "MLflow store", f"{uri}: {error}", f"ls -ld {folder} {file}")
    return Finding("ok", "MLflow store", f"{uri}{'' if file.exists() else ', which the first run makes'}")


@check("smac")
def smac() -> Iterator[Finding]:
    """The game environment is not on the package index; the `smac` there is SMAC3, which optimises hyperparameters."""
    try:
        installation.check_smac()
    except installation.Missing as missing:
        status: Literal["note", "problem"] = "note" if missing.only_absent else "problem"
        yield Finding(status, "smac", f"{missing.says}; only needed for backend sc2", missing.fix)
    else:
        yield Finding("ok", "smac", "the game environment")


@check("StarCraft II")
def game() -> Iterator[Finding]:
    """Builds are folders of Versions/, and SMAC's maps are a folder of Maps/."""
    try:
        builds = installation.builds()
    except installation.Missing as missing:
        status: Literal["note", "problem"] = "note" if missing.only_absent else "problem"
        yield Finding(status, "StarCraft II", f"{missing.says}; only needed for backend sc2", missing.fix)
        return
    yield Finding("ok", "StarCraft II", f"builds {', '.join(builds)} in {installation.folder()}")
    wrong = []
    for name in installation.MAP_HASHES:
        try:
            installation.check_map(name)
        except installation.Missing as missing:
            wrong.append(missing)
    if wrong:
        others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield Finding("problem", "SMAC maps", f"{wrong[0].says}{others}", wrong[0].fix)
    else:
        yield Finding("ok", "SMAC maps", f"{len(installation.MAP_HASHES)}, byte for byte")


@check("ffmpeg")
def ffmpeg() -> Iterator[Finding]:
    """imageio-ffmpeg brings a program of its own, which our films are made with."""
    try:
        yield Finding("ok", "ffmpeg", f"of imageio-ffmpeg {metadata.version('imageio-ffmpeg')}")
    except metadata.PackageNotFoundError:
        yield Finding("note", "ffmpeg", "imageio-ffmpeg is missing; only needed for films (.mp4)", "make setup")


def main() -> int:
    findings = examine()
    width = max(len(finding.what) for finding in findings)
    for status, what, says, fix in findings:
        print(f"{status:8} {what:{width}}  {says}")
        if fix and status != "ok":
            print(f"{'':8} {'':{width}}  fix: {fix}")
    problems = sum(finding.status == "problem" for finding in findings)
    print("no problems" if not problems else f"{problems} problem{'s' * (problems > 1)}", flush=True)
    if FLAGS.json:
        app.print_json({"problems": problems, "findings": [finding._asdict() for finding in findings]})
    return int(problems > 0)


if __name__ == "__main__":
    app.run(main)
