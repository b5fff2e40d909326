"""Starts launchers as `python -m` would, each in a process of its own, but with what is slow imported only once.

Reads one JSON list per line on stdin, [module, cwd, stdout file, stderr file, *arguments], and answers each with a JSON
list [exit code, seconds]; the first line of all is the seconds that TensorFlow took. SIGTERM is the launcher's alone.
"""

import contextlib
import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterable


class Warm:
    """A process that has TensorFlow and MLflow imported, and runs launchers one by one in forks of itself."""

    def __init__(self, cores: Iterable[int] | None = None):
        """Args: cores, that it and they may use; all by default."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "launch.warm"],
            cwd=pathlib.Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # TensorFlow's notices; a launcher's own goes where it is told
            text=True,
            start_new_session=True,  # Ctrl-C is for the one who asked
        )
        if cores is not None:
            os.sched_setaffinity(self._process.pid, cores)
        self.import_seconds: float | None = None  # known after the first

    def __call__(
        self, module: str, cwd: pathlib.Path, stdout: pathlib.Path, stderr: pathlib.Path, *arguments: str
    ) -> tuple[int, float]:
        """Runs a launcher to its end. Returns: its exit code (-9 if it was killed so), and the seconds it took."""
        assert self._process.stdin
        assert self._process.stdout
        if self.import_seconds is None:
            self.import_seconds = json.loads(self._process.stdout.readline())
        print(json.dumps([module, *map(str, (cwd, stdout, stderr)), *arguments]), file=self._process.stdin, flush=True)
        code, seconds = json.loads(self._process.stdout.readline())
        return code, seconds

    def stop(self) -> None:
        """Sends SIGTERM to the launcher that runs, if any."""
        with contextlib.suppress(ProcessLookupError):  # closed, there being nothing left to run
            os.killpg(self._process.pid, signal.SIGTERM)

    def close(self) -> None:
        """Ends the process; what still runs in it comes to its end first."""
        with self._process:
            pass


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    began = time.perf_counter()
    importlib.import_module("tf_marl.training.train")
    print(json.dumps(time.perf_counter() - began), flush=True)
    for name in ("tf_marl.tracking", "mlflow.store.tracking.sqlalchemy_store", "tf_marl.paper.figures"):
        importlib.import_module(name)
    for line in sys.stdin:
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            become(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - began]), flush=True)


def become(module: str, cwd: str, stdout: str, stderr: str, *arguments: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
