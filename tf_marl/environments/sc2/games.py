"""The learner sees games in worker processes here: it asks them, waits for them, and restarts those that fail.

A command and its answer go through a socket, actions and battle through shared memory::

    learner --- command, answer: socket ---> worker.py (smac) --- websocket, protobuf ---> StarCraft II
       +------- actions, battle: memory -------+

Each worker and its game form a process group and have a temporary folder of their own. So one signal and one removal
leave nothing behind. The kernel ends a worker when its learner ends, and a game when its worker ends, even after
kill -9.
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
import tempfile
import time
import weakref
from collections.abc import Sequence
from multiprocessing import connection
from typing import Any

from tf_marl.environments.sc2 import installation, worker
from tf_marl.environments.world import WorldFailedError

_FOLDER = "tf_marl_sc2_"  # a worker's temporary folder begins with this, then comes the learner's process id
_LONGEST_PAUSE = 60.0  # seconds between two attempts


class GameError(WorldFailedError):
    """Says that a game failed more often in a row than allowed, and why."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """Holds how long to wait for a game and how often to start it again."""

    launch_seconds: float  # limit until a game that is being started shows its first battle
    step_seconds: float  # limit until a game has played a step, or shows the next battle
    max_failures: int  # of one game in a row, without an episode played to its end
    pause_seconds: float  # pause before a game is restarted; doubles with each failure in a row


@dataclasses.dataclass
class Counts:
    """Counts what went wrong so far, in all games of a run."""

    restarts: int = 0  # of games, for whatever reason
    hangs: int = 0  # games that did not answer in time
    dropped_episodes: int = 0  # episodes that broke off


class Game:
    """Holds one worker and its game.

    The arrays in `shows` hold what its last answer wrote; `worker.memory_layout` lists them.
    """

    def __init__(self, index: int, settings: dict[str, Any], patience: Patience, counts: Counts):
        """Prepares a game without starting it.

        Args:
            index: the number of this game in the run.
            settings: the worker's settings.
            patience: how long to wait for the game, and how often to start it again.
            counts: where to count what goes wrong.
        """
        self._index = index
        self._settings = settings
        self._patience = patience
        self._counts = counts
        self._descriptor = os.memfd_create("tf_marl_sc2")
        weakref.finalize(self, os.close, self._descriptor)
        os.truncate(self._descriptor, worker.memory_size(settings["sizes"]))
        self.shows = worker.map_memory(self._descriptor, settings["sizes"])
        self._process: subprocess.Popen | None = None
        self._stop: Any = None
        self._failures = 0  # in a row
        self._launched = False  # whether it was ever started
        self._seconds_at_work = 0.0  # without the command that it works on now
        self.answered: bytes | None = None  # the command whose answer has come and was not taken yet
        self.asked: bytes | None = None  # the command that it works on
        self.playing = False  # whether it is within an episode, so that it can be asked for a step
        self.recovering = False  # whether it failed and is not back yet
        self.due = 0.0  # the time.monotonic by which it has to answer, or at which it is started

    def ask(self, command: bytes) -> None:
        """Sends a command to the worker, if there is one.

        A game that is down needs no command: it is started first, and then shows a battle of its own accord.

        Args:
            command: one of those in `worker`.
        Raises:
            GameError: the worker is gone, and that was one failure too many.
        """
        self.answered = None
        if self._process is not None:
            self._ask(command, self._patience.step_seconds)

    def _ask(self, command: bytes, seconds: float) -> None:
        self.asked, self._asked_at, self._limit = command, time.monotonic(), seconds
        self.due = self._asked_at + seconds
        try:
            self.channel.send(command)
        except OSError:
            self.fail(f"its worker is gone{self._last_words()}")

    def seconds_at_work(self, now: float) -> float:
        """Returns for how many seconds the game has been busy so far.

        A game is busy from the moment it is asked for something, or started, until it answers or is ended.

        Args:
            now: seconds, as `time.monotonic` tells them.
        """
        return self._seconds_at_work + (now - self._asked_at if self.asked is not None else 0.0)

    def _rest(self) -> None:
        self._seconds_at_work = self.seconds_at_work(time.monotonic())
        self.asked = None

    @property
    def pid(self) -> int | None:
        """Returns the process id of the worker, which leads the process group of its game; None without a worker."""
        return None if self._process is None else self._process.pid

    @property
    def down(self) -> bool:
        """Returns whether the game is not running and has to be started."""
        return self._process is None

    def tend(self) -> None:
        """Starts the game if that is due, takes an answer that has come, and ends the game if it hangs.

        Raises:
            GameError: the game failed, and that was one failure too many.
        """
        if self._process is None:
            if time.monotonic() >= self.due:
                self._launch()
        elif self.asked is not None:
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
            self.fail(reason or f"its worker ended by itself{self._last_words()}")
            return
        self.answered = self.asked
        self._rest()
        self.recovering = False
        if self.answered == worker.RESET:
            self.playing = True
            self._counts.restarts += bool(self.shows["relaunched"])
        elif self.answered == worker.STEP and self.shows["terminated"]:
            self.playing = False
            self._failures = 0

    def _launch(self) -> None:
        """Starts the worker and its game, and asks for the first battle."""
        self._counts.restarts += self._launched
        self._launched = True
        self._folder = tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}_")
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the game ends
        with theirs:
            self._process = subprocess.Popen(
                [
                    installation.python(),
                    worker.__file__,
                    str(theirs.fileno()),
                    str(self._descriptor),
                    str(os.getpid()),
                    json.dumps(self._settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno(), self._descriptor],
                env=installation.environment() | {"TMPDIR": self._folder},
                start_new_session=True,  # so that Ctrl-C reaches only the learner
            )
        self._stop = weakref.finalize(self, _end, self._process, self.channel, self._log, self._folder)
        self._ask(worker.RESET, self._patience.launch_seconds)

    def fail(self, reason: str) -> None:
        """Ends the worker and its game and lets them start again after a pause. The episode they played is lost.

        Args:
            reason: why the game failed, for the error's message.
        Raises:
            GameError: that was one failure too many.
        """
        self._counts.dropped_episodes += self.playing
        self.stop()
        self._failures += 1
        if self._failures > self._patience.max_failures:
            raise GameError(
                f"StarCraft II: game {self._index} failed {self._failures} times in a row, the last time because:"
                f" {reason}; see to that, or allow for more by environment.max_failures"
            )
        self.recovering = True
        self.due = time.monotonic() + min(self._patience.pause_seconds * 2 ** (self._failures - 1), _LONGEST_PAUSE)

    def stop(self) -> None:
        """Ends the worker and its game, if they run."""
        if self._stop is not None:
            self._stop()
        self._rest()
        self._process = self.answered = None
        self.playing = False

    def _last_words(self) -> str:
        """Returns the last line that the worker or the game wrote, for the end of a message."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def wait(games: Sequence[Game]) -> None:
    """Waits for the answers of games that were asked.

    A game that failed and is on its way back is waited for only while no other game has answered.

    Args:
        games: the games to wait for.
    Raises:
        GameError: a game failed too often in a row.
    """
    while True:
        for game in games:
            game.tend()
        there = any(game.answered for game in games)
        awaited = [game for game in games if not game.answered and not (there and game.recovering)]
        if not awaited:
            return
        due = min(game.due for game in awaited) - time.monotonic()
        connection.wait([game.channel for game in awaited if not game.down], max(due, 0.0))


def tidy() -> None:
    """Removes the temporary folders of learners that no longer run."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{_FOLDER}*_*"):
        pid = folder.name.removeprefix(_FOLDER).partition("_")[0]
        if not pathlib.Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen, channel: socket.socket, log: Any, folder: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the worker leads its group, which the game is in
    process.wait()
    channel.close()
    log.close()
    shutil.rmtree(folder, ignore_errors=True)
