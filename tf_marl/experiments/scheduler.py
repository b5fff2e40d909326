"""Commands side by side: each as `python -m` would run it, but with what is slow imported only once.

    multiprocessing's fork server, which has TensorFlow and MLflow imported --fork--> a process for each command

As ever with multiprocessing, such a process imports the main module of the one that asks: flags that are defined there
would be the command's too, so a launcher that schedules others defines its own under `if __name__ == "__main__"`.
"""

import functools
import multiprocessing
import os
import pathlib
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, NamedTuple

_SLOW_IMPORTS = [
    "tf_marl.training",
    "tf_marl.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "tf_marl.agents.ppo.plots",
]


class Command(NamedTuple):
    """Describes what `python -m module *arguments` would run."""

    module: str
    arguments: tuple[str, ...]
    folder: pathlib.Path  # the current one
    stdout: pathlib.Path  # a file, made anew
    stderr: pathlib.Path


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def start(command: Command, cores: Iterable[int] | None = None) -> ForkServerProcess:
    """Starts a command in a session of its own: Ctrl-C is for the one who asked.

    Args:
        command: to start.
        cores: that it may use; by default all.
    """
    for path in (command.stdout, command.stderr):
        path.parent.mkdir(parents=True, exist_ok=True)
    process = _server().Process(target=_become, args=(command, cores))
    process.start()
    return process


def run(commands: Iterable[Command], processes: int, stop: Callable[[], bool]) -> Iterator[tuple[Command, int, float]]:
    """Runs commands, in their order, some at a time. Each process has cores of its own, as far as they go.

    Args:
        commands: to run.
        processes: how many at a time.
        stop: tells whether to begin no more; those that run are then sent SIGTERM, once.
    Yields:
        Each command that has ended, its exit code (-9 after SIGKILL) and the seconds that it took.
    """
    available = sorted(os.sched_getaffinity(0))
    share = max(len(available) // processes, 1)
    free = [available[i * share % len(available) :][:share] for i in range(processes)]
    todo = iter(commands)
    running: dict[Any, tuple[ForkServerProcess, Command, list[int], float]] = {}
    told = False
    while True:
        while free and not stop() and (command := next(todo, None)):
            began = time.perf_counter()
            process = start(command, free[0])
            running[process.sentinel] = process, command, free.pop(0), began
        if not running:
            return
        if stop() and not told:
            told = True
            for process, *_ in running.values():
                process.terminate()
        for ended in connection.wait(list(running), timeout=0.1):
            process, command, cores, began = running.pop(ended)
            seconds = time.perf_counter() - began
            process.join()
            free.append(cores)
            assert process.exitcode is not None  # it has been joined
            yield command, process.exitcode, seconds


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_SLOW_IMPORTS)
    # It inherits where stderr goes: nowhere, for TensorFlow's notices; and that Ctrl-C waits, which would end it.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.dup2(nowhere, 2)
    try:
        forkserver.ensure_running()
    finally:
        os.dup2(kept, 2)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(kept)
        os.close(nowhere)
    return context


def _become(command: Command, cores: Iterable[int] | None) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if cores is not None:
        os.sched_setaffinity(0, cores)
    for descriptor, path in ((1, command.stdout), (2, command.stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(command.folder)
    sys.path.insert(0, str(command.folder))
    sys.argv = [command.module, *command.arguments]
    runpy.run_module(command.module, run_name="__main__", alter_sys=True)
