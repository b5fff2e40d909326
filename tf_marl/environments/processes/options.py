"""Worlds in worker processes share these options, and a way to ask what an environment is like before it is played."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from typing import Annotated, Any

import pydantic

from tf_marl.config import STRICT, Count
from tf_marl.environments.processes import workers

PYTHON = "TF_MARL_PYTHON"  # environment variable: the interpreter that runs environments


def _check_plain(values: dict[str, Any]) -> dict[str, Any]:
    if json.loads(json.dumps(values, default=lambda _: None)) != values:
        raise ValueError("should hold numbers, texts, True, False, None, and lists and dicts of them")
    return values


PlainValues = Annotated[dict[str, Any], pydantic.AfterValidator(_check_plain)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class ProcessOptions:
    """Holds the options of environments in worker processes.

    Args:
        env_kwargs: arguments of the environment: plain values by name.
        python: the interpreter that runs the environments; None is $TF_MARL_PYTHON, or this one.
        launch_seconds: how long a process may take to start and to show its first observations.
        step_seconds: how long a process may take for a step of all its environments. One that takes longer counts as
            hanging, and is ended.
        max_failures: how many times in a row one process may fail without playing an episode to its end.
        pause_seconds: the pause before a process that failed is started again. It doubles with each failure in a row,
            up to a minute.
    """

    env_kwargs: PlainValues = dataclasses.field(default_factory=dict)
    python: str | None = None
    launch_seconds: pydantic.PositiveFloat = 120.0
    step_seconds: pydantic.PositiveFloat = 60.0
    max_failures: Count = 5
    pause_seconds: pydantic.NonNegativeFloat = 0.1

    @property
    def patience(self) -> workers.Patience:
        """Returns how long to wait for a worker, and how often to start it again."""
        return workers.Patience(self.launch_seconds, self.step_seconds, self.max_failures, self.pause_seconds)

    def program(self, file: str, name: str) -> workers.Program:
        """Returns what the workers run.

        Args:
            file: holds the class `Player`.
            name: of the world, for messages.
        """
        python = self.python or os.environ.get(PYTHON)
        return workers.Program(file, f"{name}: process", python, {"PYGAME_HIDE_SUPPORT_PROMPT": "1"})

    def ask(self, file: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Runs a player's file as a script, which tells what an environment is like. The answer is kept.

        Args:
            file: the script; its argument is JSON.
            settings: that argument, to which `path` is added.
        Returns:
            What the script prints as JSON, or an `error` that says why it did not.
        """
        return _answer(self.program(file, "").python, file, json.dumps(settings), self.launch_seconds)


@functools.lru_cache
def _answer(python: str | None, file: str, settings: str, seconds: float) -> dict[str, Any]:
    path = {} if python else {"path": workers.import_path()}
    command = [python or sys.executable, file, json.dumps(json.loads(settings) | path)]
    env = workers.variables(workers.Program(file, "", python))
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env)
    except OSError as error:
        return {"error": f"environment.python or ${PYTHON} = {python!r} does not start ({error})"}
    except subprocess.TimeoutExpired:
        return {"error": f"it was not made in {seconds:.0f} s (environment.launch_seconds)"}
    try:
        return json.loads(asked.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        says = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        return {"error": f"its process ended before it was made: {says}"}
