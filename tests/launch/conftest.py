"""This module runs launchers as users do: in processes whose current directory is not the checkout."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import mlflow
import pytest

from tf_marl.experiments import scheduler

TINY = (
    "--gin_file=ippo.gin",
    "--gin_file=maps/3m.gin",
    "--gin_bindings=environment.num_envs = 4",
    "--gin_bindings=train.rollout_steps = 8",
    "--gin_bindings=train.eval_every_env_steps = 300",
    "--gin_bindings=train.eval_episodes = 2",
    "--gin_bindings=ppo.hidden = (16,)",
)
NOISE = re.compile(r"^[IWEF]0000|oneDNN|Gym|SyntaxWarning|cuda", re.MULTILINE)


class Outcome(NamedTuple):
    """Holds a launcher's exit code and output."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> dict:
        """Returns the JSON object on the last line of stdout. The launcher must have succeeded or been interrupted."""
        assert self.code in (0, 130, 143), self.stderr
        return json.loads(self.stdout.splitlines()[-1])


def start(
    module: str,
    *arguments: str,
    cwd: pathlib.Path,
    send_after: tuple[str, signal.Signals] | None = None,
    env: dict[str, str] | None = None,
) -> Outcome:
    """Runs `python -m module arguments` until it ends.

    Args:
        module: the launcher.
        arguments: its arguments.
        cwd: its current directory.
        send_after: a text and a signal to send after the first line of stderr with that text; None for no signal.
        env: environment variables to add.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        seen = []
        try:
            if send_after is not None:
                text, signal_number = send_after
                for line in process.stderr:
                    seen.append(line)
                    if text in line:
                        process.send_signal(signal_number)
                        break
            stdout, stderr = process.communicate(timeout=240)
        finally:
            process.kill()
    return Outcome(process.returncode, stdout, "".join(seen) + stderr)


class Store(NamedTuple):
    """Holds a run's folder and the address of its MLflow store."""

    root_dir: str
    tracking_uri: str

    @property
    def flags(self):
        return f"--root_dir={self.root_dir}", f"--tracking_uri={self.tracking_uri}", "--json"

    def run(self, run_id: str) -> mlflow.entities.Run:
        return mlflow.MlflowClient(self.tracking_uri).get_run(run_id)

    def only_run(self) -> mlflow.entities.Run:
        client = mlflow.MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name("tf_marl")
        (run,) = client.search_runs([experiment.experiment_id])
        return run

    def checkpoints(self) -> list[int]:
        return sorted(map(int, os.listdir(os.path.join(self.root_dir, "checkpoints"))))


@pytest.fixture(scope="session")
def store_of() -> type[Store]:
    """Gives the class `Store`: (root_dir, tracking_uri) -> object that reads what a run has kept."""
    return Store


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Gives flags of a training run that takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def noise() -> re.Pattern[str]:
    """Gives a pattern of messages by TensorFlow and other libraries that users must not see."""
    return NOISE


@pytest.fixture(scope="session")
def launch():
    """Gives a function (module, *arguments, cwd) -> `Outcome`, which runs a launcher in a new process."""
    return start


@pytest.fixture(scope="session")
def no_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Gives environment variables for `launch` that make the import of TensorFlow fail.

    A launcher that still answers has not waited for TensorFlow.
    """
    folder = tmp_path_factory.mktemp("no_tensorflow")
    (folder / "tensorflow.py").write_text("raise RuntimeError('TensorFlow was imported')")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.fixture(scope="session")
def warm_launch(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    """Gives a function (module, *arguments) -> `Outcome`.

    It runs a launcher in a fork of a process that has imported TensorFlow, which saves seconds.
    """
    folder = tmp_path_factory.mktemp("warm_launch")

    def run(module: str, *arguments: str) -> Outcome:
        stdout, stderr = folder / "stdout", folder / "stderr"
        process = scheduler.start(scheduler.Command(module, arguments, folder, stdout, stderr))
        process.join()
        return Outcome(process.exitcode, stdout.read_text(), stderr.read_text())

    return run
