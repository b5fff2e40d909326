"""A player is what a worker process runs for StarCraft II: one game under smac. `processes/worker.py` loads this file.

It imports nothing else of this project. So the game's old protobuf never meets TensorFlow's.

SMAC's environment needs some care, and this module alone takes it. The environment is never reset twice in a row. Its
`max_reward`, which is wrong after some resets, is set from the map's table. A step without `info` means that the game
is lost. So does every restart that smac would make by itself, because what it then returns belongs to no battle. The
learner ends the worker of a lost game and starts another one.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

STOP = 1  # SMAC's action; the dead may only take 0, the no-op
LOOPS_PER_GAME = 2**19  # the game ends by itself after so many game loops
LOOPS_PER_RESET = 64  # game loops at most, in which units die and appear again


class GameLost(Exception):
    """Says that the game is gone, or that what it shows no longer belongs to a battle."""


def make_env(settings: dict[str, Any]) -> Any:
    """Makes SMAC's environment, with a game that ends with this process and without restarts of its own.

    Args:
        settings: the worker's settings.
    Returns:
        The environment; it has started no game yet.
    """
    from pysc2.lib import sc_process
    from smac.env import StarCraft2Env

    from __main__ import die_with  # type: ignore[attr-defined] # the script that loads this file

    def launch(self: Any, run_config: Any, args: list[str], **_: Any) -> subprocess.Popen:
        return subprocess.Popen(args, cwd=run_config.cwd, env=run_config.env, preexec_fn=die_with)

    sc_process.StarcraftProcess._launch = launch

    class Env(StarCraft2Env):
        def full_restart(self) -> None:
            raise GameLost("the game closed its connection, or broke its protocol") from sys.exc_info()[1]

    # Only with `continuing_episode` does `info` tell a timeout from a defeat.
    return Env(continuing_episode=True, **settings["env"])


class Player:
    """Plays SMAC's environment with the care that it needs, and writes what it shows to the shared memory.

    Args:
        settings: the worker's settings.
        memory: the arrays that both sides see, of one environment.
    """

    def __init__(self, settings: dict[str, Any], memory: dict[str, np.ndarray]):
        self._settings = settings
        self._memory = memory
        self._env: Any = None
        self._episodes = 0  # how many this game has finished
        self._steps: int | None = None  # of the current episode; None between episodes
        self._loops = 0  # game loops that this game has played

    def play(self, begin: Sequence[int], go_on: Sequence[int]) -> None:
        """Starts an episode or plays a step.

        Args:
            begin: not empty if an episode is to start.
            go_on: not empty if a step is to be played.
        Raises:
            GameLost: smac tells nothing about the step.
        """
        if begin:
            self.reset()
        if go_on:
            self.step()

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
        chosen, available = self._memory["action"][0].tolist(), self._memory["avail_actions"][0]
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
        memory["over"][...] = terminated
        memory["timeout"][...] = info.get("episode_limit", False)
        memory["outcomes"][...] = info.get("battle_won", False)

    def call(self, folder: str) -> None:
        """Makes the game write all that it has played so far as a `.SC2Replay`.

        Args:
            folder: the folder to write to.
        """
        self._env.replay_dir = folder
        self._env.save_replay()
