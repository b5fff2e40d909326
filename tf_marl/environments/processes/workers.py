"""The learner sees workers here: it asks them, waits for them, and restarts those that fail.

One message and its answer go through a socket, actions and what they lead to through shared memory::

    learner --- message, answer: socket ---> worker.py: Player --- in sc2: websocket, protobuf ---> StarCraft II
       +----- actions, results: memory -----+

Each worker, with the processes that it starts itself, forms a process group and has a temporary folder of its own. So
one signal and one removal leave nothing behind. The kernel ends a worker when its learner ends, even after kill -9.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from typing import Any

import numpy as np

from tf_marl.environments.processes import worker
from tf_marl.environments.world import WorldFailedError

_FOLDER = "tf_marl_worker_"  # a worker's temporary folder begins with this, then comes the learner's process id
_LONGEST_PAUSE = 60.0  # seconds between two attempts


@dataclasses.dataclass(frozen=True)
class Patience:
    """Holds how long to wait for a worker and how often to start it again."""

    launch_seconds: float  # limit until a worker that is being started shows its first episodes
    step_seconds: float  # limit until a worker has played a step, or shows the next episodes
    max_failures: int  # of one worker in a row, without an episode played to its end
    pause_seconds: float  # pause before a worker is restarted; doubles with each failure in a row


@dataclasses.dataclass
class Counts:
    """Counts what went wrong so far, in all workers of a world."""

    restarts: int = 0  # for whatever reason
    hangs: int = 0  # workers that did not answer in time
    dropped_episodes: int = 0  # episodes that broke off


@dataclasses.dataclass(frozen=True)
class Program:
    """Holds what a world's workers run."""

    file: str  # holds the class `Player`
    what: str  # name of a worker in messages, such as "StarCraft II: game"
    python: str | None = None  # the interpreter; None is this one, which imports from where this process does
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)  # environment variables of its own


class Worker:
    """Holds one worker process, which plays E environments.

    The arrays in `shows` hold what its last answer wrote; `worker.memory_layout` lists them.
    """

    def __init__(self, index: int, program: Program, settings: dict[str, Any], patience: Patience, counts: Counts):
        """Prepares a worker without starting it.

        Args:
            index: the number of this worker in the world.
            program: what it runs.
            settings: the player's settings, with the `sizes` of the memory.
            patience: how long to wait for the worker, and how often to start it again.
            counts: where to count what goes wrong.
        """
        self._index = index
        self._program = program
        self._settings = settings
        self._patience = patience
        self._counts = counts
        self._descriptor = os.memfd_create("tf_marl_worker")
        weakref.finalize(self, os.close, self._descriptor)
        os.truncate(self._descriptor, worker.memory_size(settings["sizes"]))
        self.shows = worker.map_memory(self._descriptor, settings["sizes"])
        self._process: subprocess.Popen | None = None
        self._stop: Any = None
        self._failures = 0  # in a row
        self._launches = 0
        self._seconds_at_work = 0.0  # without the message that it works on now
        self.asked = False  # whether it works on a message
        self.answered = False  # whether the answer to the last message has come
        self.playing = np.zeros(settings["sizes"]["E"], bool)  # [E] which are within an episode, and can be stepped
        self.recovering = False  # whether it failed and is not back yet
        self.due = 0.0  # the time.monotonic by which it has to answer, or at which it is started

    def play(self, wanted: np.ndarray) -> None:
        """Asks for a step of each wanted environment that is within an episode, and for a new episode of the others.

        A worker that is down is not asked: it is started first, and then shows new episodes of its own accord.

        Args:
            wanted: [E] bool, which environments are to play; the others rest.
        Raises:
            WorldFailedError: the worker is gone, and that was one failure too many.
        """
        self.answered = False
        if self._process is not None and not self.asked:
            self.shows["command"][:] = np.where(wanted, np.where(self.playing, worker.STEP, worker.RESET), worker.REST)
            self._ask(worker.PLAY, self._patience.step_seconds)

    def call(self, text: str) -> None:
        """Asks the player for something else than to play, unless the worker is down or busy.

        Args:
            text: the argument of the player's method `call`.
        Raises:
            WorldFailedError: the worker is gone, and that was one failure too many.
        """
        self.answered = False
        if self._process is not None and not self.asked:
            self.shows["command"][:] = worker.REST
            self._ask(worker.CALL + os.fsencode(text), self._patience.step_seconds)

    def _ask(self, message: bytes, seconds: float) -> None:
        self.asked, self._asked_at, self._limit = True, time.monotonic(), seconds
        self.due = self._asked_at + seconds
        try:
            self.channel.send(message)
        except OSError:
            self.fail(f"its process is gone{self._last_words()}")

    def seconds_at_work(self, now: float) -> float:
        """Returns for how many seconds the worker has been busy so far.

        A worker is busy from the moment it is asked for something, or started, until it answers or is ended.

        Args:
            now: seconds, as `time.monotonic` tells them.
        """
        return self._seconds_at_work + (now - self._asked_at if self.asked else 0.0)

    def _rest(self) -> None:
        self._seconds_at_work = self.seconds_at_work(time.monotonic())
        self.asked = False

    @property
    def pid(self) -> int | None:
        """Returns the process id of the worker, which leads its process group; None while there is no process."""
        return None if self._process is None else self._process.pid

    @property
    def down(self) -> bool:
        """Returns whether the worker is not running and has to be started."""
        return self._process is None

    def tend(self) -> None:
        """Starts the worker if that is due, takes an answer that has come, and ends the worker if it hangs.

        Raises:
            WorldFailedError: the worker failed, and that was one failure too many.
        """
        if self._process is None:
            if time.monotonic() >= self.due:
                self._launch()
        elif self.asked:
            if connection.wait([self.channel], 0):
                self._receive()
            elif time.monotonic() >= self.due:
                self._counts.hangs += 1
                self.fail(f"no answer in {self._limit:.0f} s")

    def _receive(self) -> None:
        try:
            answer = self.channel.recv(worker.MAX_MESSAGE)
        except OSError:
            answer = b""
        if answer != worker.DONE:
            reason = answer[len(worker.LOST) :].decode(errors="replace")
            self.fail(reason or f"its process ended by itself{self._last_words()}")
            return
        self.answered = True
        self._rest()
        self.recovering = False
        command = self.shows["command"]
        begun, over = command == worker.RESET, (command == worker.STEP) & self.shows["over"]
        self.playing = (self.playing | begun) & ~over
        self._counts.restarts += int((begun & self.shows["relaunched"]).sum())
        if over.any():
            self._failures = 0

    def _launch(self) -> None:
        """Starts the worker, and asks for a new episode in each of its environments."""
        self._counts.restarts += self._launches > 0
        settings = self._settings | {"program": self._program.file, "launch": self._launches}
        if self._program.python is None:
            settings["path"] = import_path()
        self._launches += 1
        self._folder = tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}_")
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the worker ends
        with theirs:
            self._process = subprocess.Popen(
                [
                    self._program.python or sys.executable,
                    worker.__file__,
                    str(theirs.fileno()),
                    str(self._descriptor),
                    str(os.getpid()),
                    json.dumps(settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno(), self._descriptor],
                env=variables(self._program) | {"TMPDIR": self._folder},
                start_new_session=True,  # so that Ctrl-C reaches only the learner
            )
        self._stop = weakref.finalize(self, _end, self._process, self.channel, self._log, self._folder)
        self.shows["command"][:] = worker.RESET
        self._ask(worker.PLAY, self._patience.launch_seconds)

    def fail(self, reason: str) -> None:
        """Ends the worker and lets it start again after a pause. The episodes that it played are lost.

        Args:
            reason: why the worker failed, for the error's message.
        Raises:
            WorldFailedError: that was one failure too many.
        """
        self._counts.dropped_episodes += int(self.playing.sum())
        self.stop()
        self._failures += 1
        if self._failures > self._patience.max_failures:
            raise WorldFailedError(
                f"{self._program.what} {self._index} failed {self._failures} times in a row, the last time because:"
                f" {reason}; see to that, or allow for more by environment.max_failures"
            )
        self.recovering = True
        self.due = time.monotonic() + min(self._patience.pause_seconds * 2 ** (self._failures - 1), _LONGEST_PAUSE)

    def stop(self) -> None:
        """Ends the worker, if it runs, and all processes that it has started."""
        if self._stop is not None:
            self._stop()
        self._rest()
        self._process, self.answered = None, False
        self.playing[:] = False

    def _last_words(self) -> str:
        """Returns the last line that the worker wrote, for the end of a message."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def variables(program: Program) -> dict[str, str]:
    """Returns the environment variables of a program's processes: each computes in one thread, as there are many.

    Args:
        program: what they run.
    """
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | dict(program.variables)


def import_path() -> list[str]:
    """Returns where this process imports modules from: absolute paths, for a process of the same interpreter."""
    return [os.path.abspath(folder) for folder in sys.path]


def wait(workers: Sequence[Worker]) -> None:
    """Waits for the answers of workers that were asked.

    A worker that failed and is on its way back is waited for only while no other worker has answered.

    Args:
        workers: the workers to wait for.
    Raises:
        WorldFailedError: a worker failed too often in a row.
    """
    while True:
        for each in workers:
            each.tend()
        there = any(each.answered for each in workers)
        awaited = [each for each in workers if not each.answered and not (there and each.recovering)]
        if not awaited:
            return
        due = min(each.due for each in awaited) - time.monotonic()
        connection.wait([each.channel for each in awaited if not each.down], max(due, 0.0))


def tidy() -> None:
    """Removes the temporary folders of learners that no longer run."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{_FOLDER}*_*"):
        pid = folder.name.removeprefix(_FOLDER).partition("_")[0]
        if not pathlib.Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen, channel: socket.socket, log: Any, folder: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the worker leads its group, which a game may be in
    process.wait()
    channel.close()
    log.close()
    shutil.rmtree(folder, ignore_errors=True)
