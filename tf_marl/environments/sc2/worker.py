"""One game of StarCraft II under smac, in a process of its own.

    python worker.py CHANNEL MEMORY PARENT SETTINGS

A script for any interpreter that has smac and NumPy: it imports nothing of ours, so the game's old protobuf never meets
TensorFlow's. CHANNEL is the descriptor of a socket: commands come in, one answer each goes out. MEMORY is that of the
memory that both sides map: actions in, what came of them out. PARENT is the process to die with, SETTINGS is JSON.

What is said of SMAC's environment in its contract is kept here, and nowhere else: it is never reset twice in a row; its
`max_reward`, which it gets wrong after some resets, is set from the map's table; a step without `info` is a lost game;
so is every restart that smac would make by itself, because what it returns then belongs to no battle. Whoever started
this process ends it then, with its game, and starts another.
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
STOP = 1  # SMAC's action; the dead have 0, no-op
MAX_MESSAGE = 4096  # bytes
LOOPS_PER_GAME = 2**19  # the game ends by itself after so many game loops
LOOPS_PER_RESET = 64  # at most: units die, and appear again
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class GameLost(Exception):
    """The game is gone, or so far gone that what it shows belongs to no battle."""


def memory_layout(sizes: dict[str, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What is where in the shared memory: name -> type and shape. Args: sizes N, A, O, S."""
    n, a = sizes["N"], sizes["A"]
    return {
        "obs": ("f4", (n, sizes["O"])),
        "state": ("f4", (sizes["S"],)),
        "reward": ("f4", ()),
        "action": ("i4", (n,)),
        "avail_actions": ("?", (n, a)),
        "alive": ("?", (n,)),
        "terminated": ("?", ()),
        "timeout": ("?", ()),  # terminated, but only because the time was up
        "battle_won": ("?", ()),
        "relaunched": ("?", ()),  # the last reset started the game anew, of this process's own accord
    }


def memory_size(sizes: dict[str, int]) -> int:
    """Bytes."""
    return sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in memory_layout(sizes).values())


def map_memory(descriptor: int, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays in the shared memory; both sides see what either writes."""
    buffer = mmap.mmap(descriptor, memory_size(sizes))
    arrays, offset = {}, 0
    for name, (kind, shape) in memory_layout(sizes).items():
        arrays[name] = np.ndarray(shape, kind, buffer, offset)
        offset += arrays[name].nbytes
    return arrays


def die_with(parent: int | None = None) -> None:
    """Has the kernel kill this process when its parent ends, however it does."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:  # which was too early for that
        os._exit(1)


def make_env(settings: dict[str, Any]) -> Any:
    """SMAC's environment, with a game that dies with this process and without restarts of its own."""
    from pysc2.lib import sc_process
    from smac.env import StarCraft2Env

    def launch(self: Any, run_config: Any, args: list[str], **_: Any) -> subprocess.Popen:
        return subprocess.Popen(args, cwd=run_config.cwd, env=run_config.env, preexec_fn=die_with)

    sc_process.StarcraftProcess._launch = launch

    class Env(StarCraft2Env):
        def full_restart(self) -> None:
            raise GameLost("the game closed its connection, or broke its protocol") from sys.exc_info()[1]

    # That way alone does `info` tell a timeout from a defeat.
    return Env(continuing_episode=True, **settings["env"])


class Battle:
    """SMAC's environment as it has to be treated; what it shows is written to the shared memory."""

    def __init__(self, settings: dict[str, Any], memory: dict[str, np.ndarray]):
        self._settings = settings
        self._memory = memory
        self._env: Any = None
        self._episodes = 0  # that this game has finished
        self._steps: int | None = None  # of the episode under way
        self._loops = 0  # of this game

    def reset(self) -> None:
        """Shows the beginning of an episode."""
        self._memory["relaunched"][...] = False
        if self._steps == 0:  # it is shown already
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
        """Whether the game would not live to the end of an episode, or takes a reset for its very first one."""
        needed = self._env.episode_limit * self._settings["step_mul"] + LOOPS_PER_RESET
        return self._episodes == 0 or self._loops + needed > self._settings["max_loops"]

    def step(self) -> None:
        """Plays the actions in the shared memory; who cannot take its action stops."""
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
            obs = np.delete(obs, -2, axis=1)  # a spare zero of smac's, before the time
        memory["obs"][...] = obs
        memory["state"][...] = env.get_state()
        memory["avail_actions"][...] = env.get_avail_actions()
        memory["alive"][...] = [env.get_unit_by_id(i).health > 0 for i in range(env.n_agents)]
        memory["reward"][...] = reward
        memory["terminated"][...] = terminated
        memory["timeout"][...] = info.get("episode_limit", False)
        memory["battle_won"][...] = info.get("battle_won", False)

    def save_replay(self, folder: str) -> None:
        """Has the game write all it played so far as a `.SC2Replay` in a folder."""
        self._env.replay_dir = folder
        self._env.save_replay()


def main(channel_descriptor: str, memory_descriptor: str, parent: str, text: str) -> None:
    die_with(int(parent))
    settings = json.loads(text)
    sys.argv = sys.argv[:1]  # pysc2 reads flags
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
