"""A worker is a process that runs one game of StarCraft II under smac.

It is started so::

    python worker.py CHANNEL MEMORY PARENT SETTINGS

It is a script for any interpreter that has smac and NumPy, and it imports nothing else of this project. So the game's
old protobuf never meets TensorFlow's.

- CHANNEL is the file descriptor of a socket. Commands come in, and one answer to each goes out.
- MEMORY is the file descriptor of memory that both sides map. Actions come in, and their results go out.
- PARENT is the id of the learner's process. The worker ends when that process ends.
- SETTINGS is a JSON object.

SMAC's environment needs some care, and this module alone takes it. The environment is never reset twice in a row. Its
`max_reward`, which is wrong after some resets, is set from the map's table. A step without `info` means that the game
is lost. So does every restart that smac would make by itself, because what it then returns belongs to no battle. The
learner ends the worker of a lost game and starts another one.
"""

import ctypes
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import numpy as np

RESET, STEP, REPLAY = b"r", b"s", b"v"  # commands; after REPLAY comes a folder
DONE, LOST = b"d", b"l"  # answers; after LOST comes the reason
STOP = 1  # SMAC's action; the dead may only take 0, the no-op
MAX_MESSAGE = 4096  # bytes
LOOPS_PER_GAME = 2**19  # the game ends by itself after so many game loops
LOOPS_PER_RESET = 64  # game loops at most, in which units die and appear again
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class GameLost(Exception):
    """Says that the game is gone, or that what it shows no longer belongs to a battle."""


def memory_layout(sizes: dict[str, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns what the shared memory holds, in its order: NumPy type and shape by name.

    Args:
        sizes: the numbers N, A, O and S, by these letters.
    """
    n, a = sizes["N"], sizes["A"]
    return {
        "obs": ("f4", (n, sizes["O"])),
        "state": ("f4", (sizes["S"],)),
        "reward": ("f4", ()),
        "action": ("i4", (n,)),
        "avail_actions": ("?", (n, a)),
        "alive": ("?", (n,)),
        "terminated": ("?", ()),
        "timeout": ("?", ()),  # whether it terminated only because the time was up
        "battle_won": ("?", ()),
        "relaunched": ("?", ()),  # whether the last reset restarted the game, as `Battle._must_relaunch` asks for
    }


def memory_size(sizes: dict[str, int]) -> int:
    """Returns the size of the shared memory in bytes.

    Args:
        sizes: the numbers N, A, O and S, by these letters.
    """
    return sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in memory_layout(sizes).values())


def map_memory(descriptor: int, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Maps the shared memory as arrays. Both sides see what either of them writes.

    Args:
        descriptor: the file descriptor of the memory.
        sizes: the numbers N, A, O and S, by these letters.
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


def make_env(settings: dict[str, Any]) -> Any:
    """Makes SMAC's environment, with a game that ends with this process and without restarts of its own.

    Args:
        settings: the worker's settings.
    Returns:
        The environment; it has started no game yet.
    """
    from pysc2.lib import sc_process
    from smac.env import StarCraft2Env

    def launch(self: Any, run_config: Any, args: list[str], **_: Any) -> subprocess.Popen:
        return subprocess.Popen(args, cwd=run_config.cwd, env=run_config.env, preexec_fn=die_with)

    sc_process.StarcraftProcess._launch = launch

    class Env(StarCraft2Env):
        def full_restart(self) -> None:
            raise GameLost("the game closed its connection, or broke its protocol") from sys.exc_info()[1]

    # Only with `continuing_episode` does `info` tell a timeout from a defeat.
    return Env(continuing_episode=True, **settings["env"])


class Battle:
    """Plays SMAC's environment with the care that it needs, and writes what it shows to the shared memory.

    Args:
        settings: the worker's settings.
        memory: the arrays of `map_memory`.
    """

    def __init__(self, settings: dict[str, Any], memory: dict[str, np.ndarray]):
        self._settings = settings
        self._memory = memory
        self._env: Any = None
        self._episodes = 0  # how many this game has finished
        self._steps: int | None = None  # of the current episode; None between episodes
        self._loops = 0  # game loops that this game has played

    def reset(self) -> None:
        """Starts an episode, unless one has just started, and writes how it begins to the shared memory."""
        self._memory["relaunched"][...] = False
        if self._steps == 0:  # the start of an episode is shown already
            return
        if self._env is not None and self._must_relaunch():
            self._env.close()
            self._env = None
            self._memory["relaunched"][...] = True
        if self._env is None:
            self._env, self._episodes, self._loops = make_env(self._settings), 0, 0
        env = self._env
        env.reset()
        env.max_reward = self._settings["max_reward"]
        if self._settings["sort_enemies"]:
            enemies = sorted(env.enemies.values(), key=lambda unit: (unit.unit_type, unit.pos.x, unit.pos.y))
            env.enemies = dict(enumerate(enemies))
        self._steps = 0
        self._loops += LOOPS_PER_RESET
        self._show(reward=0.0, terminated=False, info={})

    def _must_relaunch(self) -> bool:
        """Returns whether the game must be restarted before the next episode.

        That is so if it would end by itself within that episode, and if it has not finished any episode: smac would
        then start a second game.
        """
        needed = self._env.episode_limit * self._settings["step_mul"] + LOOPS_PER_RESET
        return self._episodes == 0 or self._loops + needed > self._settings["max_loops"]

    def step(self) -> None:
        """Plays the actions in the shared memory. An agent whose action is not available stops.

        Raises:
            GameLost: smac tells nothing about the step.
        """
        chosen, available = self._memory["action"].tolist(), self._memory["avail_actions"]
        actions = [action if can[action] else int(can[STOP]) for action, can in zip(chosen, available, strict=True)]
        reward, terminated, info = self._env.step(actions)
        if "battle_won" not in info:
            raise GameLost("smac tells nothing of this step, as after a crash of the game")
        self._loops += self._settings["step_mul"]
        self._steps = None if terminated else (self._steps or 0) + 1
        self._episodes += terminated
        self._show(reward, terminated, info)

    def _show(self, reward: float, terminated: bool, info: dict[str, Any]) -> None:
        env, memory = self._env, self._memory
        obs = np.array(env.get_obs())
        if self._settings["env"]["obs_timestep_number"]:
            obs = np.delete(obs, -2, axis=1)  # smac puts a spare zero before the time
        memory["obs"][...] = obs
        memory["state"][...] = env.get_state()
        memory["avail_actions"][...] = env.get_avail_actions()
        memory["alive"][...] = [env.get_unit_by_id(i).health > 0 for i in range(env.n_agents)]
        memory["reward"][...] = reward
        memory["terminated"][...] = terminated
        memory["timeout"][...] = info.get("episode_limit", False)
        memory["battle_won"][...] = info.get("battle_won", False)

    def save_replay(self, folder: str) -> None:
        """Makes the game write all that it has played so far as a `.SC2Replay`.

        Args:
            folder: the folder to write to.
        """
        self._env.replay_dir = folder
        self._env.save_replay()


def main(channel_descriptor: str, memory_descriptor: str, parent: str, text: str) -> None:
    """Answers commands until the parent closes its end of the socket.

    Args:
        channel_descriptor: the file descriptor of the socket.
        memory_descriptor: the file descriptor of the shared memory.
        parent: the process id of the learner.
        text: the settings as JSON.
    """
    die_with(int(parent))
    settings = json.loads(text)
    sys.argv = sys.argv[:1]  # pysc2 reads flags from it
    channel = socket.socket(fileno=int(channel_descriptor))
    memory = map_memory(int(memory_descriptor), settings["sizes"])
    battle = Battle(settings, memory)
    while command := channel.recv(MAX_MESSAGE):  # empty when the parent has closed its end
        try:
            if command == RESET:
                battle.reset()
            elif command == STEP:
                battle.step()
            else:
                battle.save_replay(os.fsdecode(command[len(REPLAY) :]))
            answer = DONE
        except Exception as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            answer = LOST + f"{type(error).__name__}: {error}{cause}".encode()[: MAX_MESSAGE - len(LOST)]
        channel.send(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
