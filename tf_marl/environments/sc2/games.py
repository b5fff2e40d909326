"""Games in worker processes, as seen from the learner: asked, waited for, and started anew when they fail.

    learner --- command, answer: socket ---> worker.py (smac) --- websocket, protobuf ---> StarCraft II
       +------- actions, battle: memory -------+

Each worker and its game are a process group with a temporary folder of their own, so one signal and one removal leave
nothing behind. A worker dies with the learner and a game with its worker by the kernel's doing, even on kill -9.
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

_FOLDER = "tf_marl_sc2_"  # a worker's temporary folder: this, then the learner's process id
_LONGEST_PAUSE = 60.0  # seconds between two attempts


class GameError(WorldFailedError):
    """A game failed more often in a row than is bearable; the message says why."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for a game, and how often."""

    launch_seconds: float  # until a game that is being started shows its first battle
    step_seconds: float  # until it has played a step, or shows the next battle
    max_failures: int  # in a row, of one game, without an episode played to its end
    pause_seconds: float  # before a game is started anew, doubled with every failure in a row


@dataclasses.dataclass
class Counts:
    """What went wrong so far, in all games of a run."""

    restarts: int = 0  # games started anew, for whatever reason
    hangs: int = 0  # games that did not answer in time
    dropped_episodes: int = 0  # episodes that broke off


class Game:
    """One worker and its game. `shows` is what the last answer wrote: see `worker.memory_layout`."""

    def __init__(self, index: int, settings: dict[str, Any], patience: Patience, counts: Counts):
        """Starts nothing. Args: index, of this game among the run's; settings, the worker's."""
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
        self._launched = False  # ever
        self._seconds_at_work = 0.0  # of what it was asked before
        self.answered: bytes | None = None  # the command that it has answered and that nobody has taken yet
        self.asked: bytes | None = None  # the command that it is at
        self.playing = False  # an episode is under way: it can be asked for a step
        self.recovering = False  # failed, and not back yet
        self.due = 0.0  # when it has to answer, or is to be started, whichever comes next; time.monotonic

    def ask(self, command: bytes) -> None:
        """Sends a command. A game that is down is to be started first, which shows a battle, so RESET is enough."""
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
        """Between being asked, to be started too, and the answer or its end: all so far. Args: now, time.monotonic."""
        return self._seconds_at_work + (now - self._asked_at if self.asked is not None else 0.0)

    def _rest(self) -> None:
        self._seconds_at_work = self.seconds_at_work(time.monotonic())
        self.asked = None

    @property
    def pid(self) -> int | None:
        """Of the worker, which leads the process group that the game is in; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def down(self) -> bool:
        """Whether it is still to be started."""
        return self._process is None

    def tend(self) -> None:
        """Starts a game that is due to be, takes an answer that is there, and gives up one that hangs."""
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
        """Starts worker and game, and asks for the first battle."""
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
                start_new_session=True,  # Ctrl-C is for the learner alone
            )
        self._stop = weakref.finalize(self, _end, self._process, self.channel, self._log, self._folder)
        self._ask(worker.RESET, self._patience.launch_seconds)

    def fail(self, reason: str) -> None:
        """Ends worker and game, to be started anew after a pause; what they were at is lost.

        Raises:
            GameError: that was once too often.
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
        """Ends worker and game, if there are any."""
        if self._stop is not None:
            self._stop()
        self._rest()
        self._process = self.answered = None
        self.playing = False

    def _last_words(self) -> str:
        """Of what the worker and the game wrote."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def wait(games: Sequence[Game]) -> None:
    """Waits for the games that were asked; for those on their way back after a failure only while nobody else is there.

    Raises:
        GameError: see `Game.fail`.
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
    """Removes temporary folders of learners that are no more."""
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
