"""Examines what a machine has and lacks for tf_marl, and names the command that fixes what is wrong.

A check is a generator of findings. Importing this module needs nothing but the standard library, so that it works
where packages are missing: each check imports what it needs, and a module that it misses becomes a finding. TensorFlow
is loaded in a process of its own. Nothing is written to the project, and no network is used but to an MLflow server.

`checkout` is everywhere the folder of the source code, where `make setup` builds `.venv`; None where tf_marl was
installed from a wheel, so that fixes are pip's.
"""

import json
import os
import pathlib
import platform
import shutil
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from tf_marl.environments.sc2.installation import Missing

LOCK_SECONDS = 3.0
LEAST_FREE_GB = 5.0  # checkpoints, and films and plots of some runs
LEAST_MEMORY_GB = 4.0  # TensorFlow and XLA's compiler, with 128 battles of a small map

# What tf_marl needs, though its metadata does not say so: pip would refuse the stale pins of tf-agents, and protobuf is
# a requirement of TensorFlow.
UNDECLARED = ("tf-agents==0.19.*", "protobuf>=6.31")
EXTRAS = {"sc2": "backend sc2", "worlds": "the backends pettingzoo and gymnasium"}  # extra -> what it is for
WHY = {
    "numpy": "tf-agents 0.19 calls int() on a one-element array, which 2.4 refuses",
    "protobuf": "TensorFlow 2.21 needs it",
    "tf-keras": "TF-Agents and TFP need Keras 2",
}


class Finding(NamedTuple):
    """Holds a line of the report."""

    status: Literal["ok", "note", "problem"]  # a note is something that only some uses need
    what: str
    says: str
    fix: str | None = None  # a command


def examine(tracking_uri: str | None, store_folder: pathlib.Path, checkout: pathlib.Path | None) -> list[Finding]:
    """Runs all checks; one that cannot be carried out is a finding, too.

    Args:
        tracking_uri: address of the MLflow store; None is the SQLite database in `store_folder`.
        store_folder: where runs are kept; need not exist.
        checkout: folder of the source code; None where tf_marl was installed from a wheel.
    Returns:
        The findings, in the order in which things are needed.
    """
    checks = {  # generators: none has begun yet
        "Python": python(checkout),
        "packages": packages(checkout),
        "CPU and memory": machine(),
        "TensorFlow": tensorflow(checkout),
        "disk": disk(store_folder),
        "MLflow store": mlflow_store(tracking_uri or f"sqlite:///{store_folder / 'mlflow.db'}"),
        "smac": smac(checkout),
        "StarCraft II": game(),
        "ffmpeg": ffmpeg(),
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings.extend(check)
        except ModuleNotFoundError as error:
            says = f"could not be checked: Python finds no module {error.name}"
            findings.append(Finding("problem", name, says, _set_up(checkout)))
        except Exception as error:
            findings.append(Finding("problem", name, f"could not be checked: {type(error).__name__}: {error}"))
    return findings


def python(checkout: pathlib.Path | None) -> Iterator[Finding]:
    """Checks that this Python is one of 3.11 to 3.13."""
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        yield Finding("ok", "Python", version)
    else:
        fix = "make clean setup PYTHON=python3.11" if checkout else "python3.11 -m venv .venv"
        yield Finding("problem", "Python", f"{version}; 3.11 to 3.13 is needed", fix)


def packages(checkout: pathlib.Path | None) -> Iterator[Finding]:
    """Checks installed versions against the requirements in tf_marl's metadata, and against `UNDECLARED`.

    What an extra lacks is one note. An extra's requirement of a package that is needed anyway is not looked at again.
    """
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in metadata.requires("tf_marl") or ()]
    except metadata.PackageNotFoundError:
        declared = []
        yield Finding("problem", "tf_marl", "not installed, so that its requirements are unknown", _set_up(checkout))
    always = {requirement.name: requirement for requirement in declared if _applies(requirement)}
    always |= {requirement.name: requirement for requirement in map(Requirement, UNDECLARED)}
    for name, requirement in always.items():
        if fault := _fault(requirement):
            why = f" ({WHY[name]})" if name in WHY else ""
            needs = f"{fault}; needs {requirement.specifier}{why}"
            yield Finding("problem", name, needs, _install(requirement, checkout))
        else:
            yield Finding("ok", name, metadata.version(name))
    for extra, use in EXTRAS.items():
        own = [requirement for requirement in declared if requirement.name not in always]
        faults = {r.name: fault for r in own if _applies(r, extra) and (fault := _fault(r))}
        if faults:
            says = ", ".join(f"{name} {fault}" for name, fault in faults.items())
            fix = _set_up(checkout) if checkout else f"pip install 'tf_marl[{extra}]'"
            yield Finding("note", f"extra {extra}", f"{says}; only needed for {use}", fix)


def _applies(requirement: "Requirement", extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _fault(requirement: "Requirement") -> str | None:
    """Returns what is wrong with the installed version: the version, or that there is none. None: nothing is wrong."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "not installed"
    return None if requirement.specifier.contains(version, prereleases=True) else version


def _install(requirement: "Requirement", checkout: pathlib.Path | None) -> str:
    """Returns the command that installs a package, or all of them where a checkout has no `.venv` yet."""
    if checkout and not (checkout / ".venv" / "bin" / "uv").exists():
        return _set_up(checkout)
    install = f"{'.venv/bin/uv ' if checkout else ''}pip install"
    if requirement.name == "tf-agents":
        return f"{install} --no-deps tf-agents==0.19.0"
    return f"{install} '{requirement}'"


def _set_up(checkout: pathlib.Path | None) -> str:
    """Returns the command that installs tf_marl and all that it needs, anew if something is there."""
    if checkout is None:
        return "pip install --force-reinstall WHEEL  # the file that tf_marl was installed from"
    return "make clean setup" if (checkout / ".venv").exists() else "make setup"


def machine() -> Iterator[Finding]:
    """Counts the cores that this process may use, and checks that the machine has enough memory."""
    yield Finding("ok", "CPU", f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    if memory >= LEAST_MEMORY_GB:
        yield Finding("ok", "memory", f"{memory:.0f} GB")
    else:
        says = f"{memory:.1f} GB; {LEAST_MEMORY_GB:.0f} GB is little already; train with fewer environments"
        yield Finding("note", "memory", says, "--gin_bindings='environment.num_envs = 16'")


def tensorflow(checkout: pathlib.Path | None) -> Iterator[Finding]:
    """Checks that TensorFlow loads with TF-Agents and Keras 2, and that it sees the GPUs which the driver knows."""
    code = (
        "import json, tf_marl.training, tensorflow as tf;"
        "print(json.dumps([tf.__version__, len(tf.config.list_physical_devices('GPU'))]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=checkout, timeout=300)
    if loaded.returncode != 0:
        last = (loaded.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding("problem", "TensorFlow", f"cannot be loaded with TF-Agents: {last}", _set_up(checkout))
        return
    version, seen = json.loads(loaded.stdout.splitlines()[-1])
    yield Finding("ok", "TensorFlow", f"{version} loads, with TF-Agents")
    there = _gpus()
    if len(there) > seen:
        fix = f"{'.venv/bin/uv ' if checkout else ''}pip install 'tensorflow[and-cuda]~=2.21.0'"
        yield Finding("problem", "GPU", f"{', '.join(there)}; TensorFlow sees {seen} of {len(there)}", fix)
    elif seen:
        yield Finding("ok", "GPU", ", ".join(there) or f"{seen}, which TensorFlow sees")
    else:
        yield Finding("note", "GPU", "none; training runs on the CPU, which is enough for small maps")


def _gpus() -> list[str]:
    """Returns the names of the GPUs that NVIDIA's driver knows."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.strip().splitlines()


def disk(store_folder: pathlib.Path) -> Iterator[Finding]:
    """Checks that there is room for a few runs on the disk that keeps them."""
    free = shutil.disk_usage(_existing(store_folder)).free / 1e9
    if free >= LEAST_FREE_GB:
        yield Finding("ok", "disk", f"{free:.0f} GB free for {store_folder.name}/")
    else:
        says = f"{free:.1f} GB free for {store_folder.name}/; a few runs need {LEAST_FREE_GB:.0f} GB"
        yield Finding("problem", "disk", says, f"du -sh {store_folder}/* | sort -h")


def mlflow_store(tracking_uri: str) -> Iterator[Finding]:
    """Checks that an MLflow store can be written: a server or an SQLite database; a store of another kind is a note."""
    scheme = urllib.parse.urlsplit(tracking_uri).scheme
    if scheme in ("http", "https"):
        yield _server(tracking_uri)
    elif scheme == "sqlite":
        yield _database(tracking_uri)
    else:
        yield Finding("note", "MLflow store", f"{scheme}: a kind of store that is not checked")


def _server(tracking_uri: str) -> Finding:
    from tf_marl import tracking
    from tf_marl.tracking import server

    shown = tracking.shown(tracking_uri).rstrip("/")
    try:
        server.check_health(tracking_uri)
    except tracking.SinkError as error:
        fix = f"mlflow server --port={urllib.parse.urlsplit(shown).port or 5000}"
        return Finding("problem", "MLflow store", str(error), fix)
    try:
        server.check_writing(tracking_uri)
    except tracking.SinkError as error:
        fix = f"curl -i {shown}/health  # and an account that may write"
        return Finding("problem", "MLflow store", str(error), fix)
    return Finding("ok", "MLflow store", f"{shown} answers, and can be written to")


def _database(tracking_uri: str) -> Finding:
    """Checks that an SQLite database could be written, or made; leaves it as it is, and makes none."""
    file = pathlib.Path(tracking_uri.partition(":///")[2].partition("?")[0]).resolve()
    folder = _existing(file.parent)
    try:
        if not os.access(file if file.exists() else folder, os.W_OK):
            raise PermissionError("not writable")
        if file.exists():
            connection = sqlite3.connect(file, timeout=LOCK_SECONDS)
            try:
                connection.execute("BEGIN IMMEDIATE")  # takes the lock that writing needs
                connection.rollback()
            finally:
                connection.close()
    except (OSError, sqlite3.Error) as error:
        return Finding("problem", "MLflow store", f"{tracking_uri}: {error}", f"ls -ld {folder} {file}")
    return Finding("ok", "MLflow store", f"{tracking_uri}{'' if file.exists() else ', which the first run makes'}")


def _existing(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder, or the nearest one above that exists."""
    folder = folder.resolve()
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def smac(checkout: pathlib.Path | None) -> Iterator[Finding]:
    """Checks that the interpreter for the real game has SMAC's environment.

    The package index has another project by the name `smac`: SMAC3, which optimises hyperparameters.
    """
    from tf_marl.environments.sc2 import installation

    try:
        installation.check_smac()
    except installation.Missing as missing:
        finding = _only_for_sc2("smac", missing)
        if checkout is None and installation.INSTALL in missing.fix:
            finding = finding._replace(
                fix="make sc2 in a checkout of tf_marl, and export SC2_PYTHON=CHECKOUT/.venv/bin/python"
            )
        yield finding
    else:
        yield Finding("ok", "smac", "the game environment")


def game() -> Iterator[Finding]:
    """Checks that StarCraft II is there, and that its 23 SMAC maps are byte for byte those of SMAC's repository."""
    from tf_marl.environments.sc2 import installation

    try:
        builds = installation.builds()
    except installation.Missing as missing:
        yield _only_for_sc2("StarCraft II", missing)
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


def _only_for_sc2(what: str, missing: "Missing") -> Finding:
    """Describes what the real game lacks: a note if nobody tried to install it here, else a problem."""
    says = f"{missing.says}; only needed for backend sc2"
    return Finding("note" if missing.only_absent else "problem", what, says, missing.fix)


def ffmpeg() -> Iterator[Finding]:
    """Checks that the program which films are made with starts: the one that imageio-ffmpeg brings, or another."""
    try:
        import imageio_ffmpeg

        program = pathlib.Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        yield Finding("note", "ffmpeg", f"{error}; only needed for films (.mp4)")
    else:
        yield Finding("ok", "ffmpeg", program.name)
