"""A worker is a process that plays one or more environments of a world for the learner.

It is started so::

    python worker.py CHANNEL MEMORY PARENT SETTINGS

It is a script for any interpreter that has NumPy, and it imports nothing else of this project.

- CHANNEL is the file descriptor of a socket. Commands come in, and one answer to each goes out.
- MEMORY is the file descriptor of memory that both sides map. Actions come in, and their results go out.
- PARENT is the id of the learner's process. The worker ends when that process ends.
- SETTINGS is a JSON object. Its `program` is the path of a file with the class `Player`, `sizes` the sizes of the
  memory, `launch` counts how often this worker was started before, and `path`, if it is there, is where modules are
  imported from. Everything else is the player's.

A `Player(settings, memory)` has two methods. `play(begin, go_on)` starts an episode in some of the environments, plays
the actions in the memory in some others, and writes what these environments show to the memory. `call(text)` does
something else that its world may ask for. Whatever either of them raises, the learner ends this worker and starts
another one.
"""

import ctypes
import json
import mmap
import os
import runpy
import signal
import socket
import sys

import numpy as np

REST, RESET, STEP = range(3)  # what `command` in the memory asks of an environment
PLAY, CALL = b"p", b"c"  # messages to a worker; after CALL comes a text
DONE, LOST = b"d", b"l"  # its answers; after LOST comes the reason
MAX_MESSAGE = 4096  # bytes
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def memory_layout(sizes: dict[str, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns what the shared memory holds, in its order: NumPy type and shape by name.

    Args:
        sizes: by letter the numbers of E environments in this worker, N agents, A actions, O observation features,
            S state features and K outcomes.
    """
    e, n, a = sizes["E"], sizes["N"], sizes["A"]
    return {
        "obs": ("f4", (e, n, sizes["O"])),
        "state": ("f4", (e, sizes["S"])),
        "reward": ("f4", (e,)),
        "action": ("i4", (e, n)),
        "avail_actions": ("?", (e, n, a)),
        "alive": ("?", (e, n)),
        "over": ("?", (e,)),  # whether the last step ended the episode
        "timeout": ("?", (e,)),  # whether it ended only because the time was up
        "outcomes": ("?", (e, sizes["K"])),
        "relaunched": ("?", (e,)),  # whether the last reset had to start again what the player plays in
        "command": ("u1", (e,)),  # REST, RESET or STEP
    }


def memory_size(sizes: dict[str, int]) -> int:
    """Returns the size of the shared memory in bytes.

    Args:
        sizes: as for `memory_layout`.
    """
    return sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in memory_layout(sizes).values())


def map_memory(descriptor: int, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Maps the shared memory as arrays. Both sides see what either of them writes.

    Args:
        descriptor: the file descriptor of the memory.
        sizes: as for `memory_layout`.
    Returns:
        The arrays by name, with the types and shapes that `memory_layout` gives.
    """
    buffer = mmap.mmap(descriptor, memory_size(sizes))
    arrays, offset = {}, 0
    for name, (kind, shape) in memory_layout(sizes).items():
        arrays[name] = np.ndarray(shape, kind, buffer, offset)
        offset += arrays[name].nbytes
    return arrays


def die_with(parent: int | None = None) -> None:
    """Makes the kernel kill this process when its parent ends, however that happens.

    Args:
        parent: the parent's process id. If the parent has ended already, this process ends at once. None skips that
            check.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:  # the parent had ended before the call above
        os._exit(1)


def main(channel_descriptor: str, memory_descriptor: str, parent: str, text: str) -> None:
    """Answers messages until the parent closes its end of the socket.

    Args:
        channel_descriptor: the file descriptor of the socket.
        memory_descriptor: the file descriptor of the shared memory.
        parent: the process id of the learner.
        text: the settings as JSON.
    """
    die_with(int(parent))
    settings = json.loads(text)
    sys.argv = sys.argv[:1]  # libraries such as pysc2 read flags from it
    sys.path[:] = settings.get("path", sys.path[1:])  # without this script's folder, whose files others may be named as
    channel = socket.socket(fileno=int(channel_descriptor))
    memory = map_memory(int(memory_descriptor), settings["sizes"])
    player = None
    while message := channel.recv(MAX_MESSAGE):  # empty when the parent has closed its end
        try:
            if player is None:
                player = runpy.run_path(settings["program"])["Player"](settings, memory)
            if message == PLAY:
                command = memory["command"]
                player.play(np.flatnonzero(command == RESET).tolist(), np.flatnonzero(command == STEP).tolist())
            else:
                player.call(os.fsdecode(message[len(CALL) :]))
            answer = DONE
        except Exception as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            answer = LOST + f"{type(error).__name__}: {error}{cause}".encode()[: MAX_MESSAGE - len(LOST)]
        channel.send(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
