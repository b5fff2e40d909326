"""StarCraft II itself as a live world: SMAC's own environment in worker processes, one game each.

An episode breaks off when its game dies or hangs. A row whose game is not there yet, or plays another row's episode,
waits, as `world.LiveWorld` says.

With more rows than games a game plays one row's episode after the other's.
"""

import copy
import dataclasses
import functools
import os
import pathlib
import tempfile
from typing import Any, Literal

import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts

from tf_marl.config import STRICT, Count
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.scenarios import Scenario
from tf_marl.environments.sc2 import games, installation, worker
from tf_marl.environments.world import LiveWorld

_OURS = ("shuffle_enemies", "profile", "enemy")  # options that the game has no say in


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Settings(Options):
    """SMAC's options (`combat.options.Options`) and those of games in processes.

    Args:
        difficulty: SMAC's; changes nothing, as far as is known.
        game_version: SMAC's: a version such as "4.10", or None for the newest installed.
        sort_enemies: list the enemies by type and place at the start of each episode, so that an action names the same
            one in all of them; else as the game lists them, which differs between episodes and is what SMAC does.
        any_map: play a map though it is not, byte for byte, SMAC's.
        launch_seconds: how long a game may take to start and show its first battle.
        step_seconds: how long it may take for a step or to the next battle; then it hangs, and is ended.
        max_failures: how often in a row one game may fail without an episode played to its end.
        pause_seconds: before a game that failed is started anew; doubles with each failure in a row, up to a minute.
        max_loops: game loops after which a game is started anew between two episodes; it dies at 2^19.
    """

    difficulty: Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "A"] = "7"
    game_version: str | None = None
    sort_enemies: bool = False
    any_map: bool = False
    launch_seconds: pydantic.PositiveFloat = 180.0
    step_seconds: pydantic.PositiveFloat = 60.0
    max_failures: Count = 10
    pause_seconds: pydantic.NonNegativeFloat = 1.0
    max_loops: Count = worker.LOOPS_PER_GAME

    @pydantic.model_validator(mode="after")
    def _are_of_the_game(self) -> "Settings":
        for name in _OURS:
            if getattr(self, name) != getattr(Options(), name):
                raise ValueError(f"{name} is the embedded battle's; drop it, or the backend sc2")
        return self


class StarCraft2(LiveWorld):
    """B rows of battles in the game itself. Observation, action, reward and episode end are SMAC's, as in `Combat`.

    Games start at the first `reset`. One of them that fails is started anew while the others go on. Cores made by
    `resize` share as many games of their own as this one has: so an evaluation leaves the episodes of training alone.
    """

    outcomes = ("battle_won",)
    replay_suffixes = (".SC2Replay",)

    def __init__(self, battle: Scenario, num_envs: int, settings: Settings, seed: int):
        smacs = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Options)}
        model = Combat(battle, num_envs, Options(**smacs))  # says what everything looks like, and plays nothing
        self.name = battle.name
        self.num_envs = num_envs
        self.options = settings
        self.time_step_spec = model.time_step_spec
        self.action_spec = model.action_spec
        self.unit_types = model.unit_types
        self.episode_limit = model.episode_limit
        self.counts = games.Counts()
        for name in _OURS:
            del smacs[name]
        names = {"map_name": battle.name, "difficulty": settings.difficulty, "game_version": settings.game_version}
        patience = games.Patience(
            settings.launch_seconds, settings.step_seconds, settings.max_failures, settings.pause_seconds
        )
        sizes = {"N": battle.num_agents, "A": battle.num_actions}
        sizes |= {"O": model.task.obs_size, "S": model.task.state_size}

        def make_games(first: int) -> list[games.Game]:
            return [
                games.Game(
                    first + i,
                    {
                        "sizes": sizes,
                        "env": {**smacs, **names, "seed": (seed + first + i) % 2**32},
                        "step_mul": settings.step_mul,
                        "max_reward": model.task.max_reward,
                        "max_loops": settings.max_loops,
                        "sort_enemies": settings.sort_enemies,
                    },
                    patience,
                    self.counts,
                )
                for i in range(num_envs)
            ]

        games.tidy()
        self.games = make_games(0)  # what plays the rows
        self._others = make_games(num_envs)  # of the resized
        self._begin()

    def resize(self, num_envs: int) -> "StarCraft2":
        """Another B, on games that all the resized share, for episodes by the batch: a row rests after its first."""
        other = copy.copy(self)
        other.num_envs, other.one_episode, other.games = num_envs, True, self._others
        other._begin()
        return other

    def _begin(self) -> None:
        """Deals the rows out to the games."""
        self._queues = [list(range(i, self.num_envs, len(self.games))) for i in range(len(self.games))]
        blank = tf.nest.map_structure(
            lambda spec: np.zeros([self.num_envs, *spec.shape], spec.dtype.as_numpy_dtype), self.time_step_spec
        )
        blank.observation["avail_actions"][..., 0] = True  # of the dead
        blank.discount[:] = 1.0
        self._shown = blank._replace(step_type=np.full(self.num_envs, ts.StepType.FIRST))
        self._blank = tf.nest.map_structure(np.copy, self._shown)
        self._won = np.zeros(self.num_envs, bool)

    def reset(self) -> ts.TimeStep:
        """B fresh episodes, of which as many begin as there are games.

        Raises:
            installation.Missing: the game, the map or smac is not there; says what to do.
            games.GameError: a game failed too often in a row.
        """
        assert self.installed
        self._begin()
        for game in self.games:
            game.playing = False  # what it is at is of no interest any more
        return self.step(np.zeros([self.num_envs, *self.action_spec.shape], np.int32))

    def step(self, action: np.ndarray) -> ts.TimeStep:
        """One env step in all games at once: asks those that have something to do, waits for them, and shows what came
        of it. An unavailable action becomes stop.

        Raises:
            games.GameError: as above.
        """
        before = self._shown
        for queue in self._queues:
            if queue and before.step_type[queue[0]] == ts.StepType.LAST:
                done = queue.pop(0)
                if not self.one_episode:
                    queue.append(done)
        active = [(game, queue[0]) for game, queue in zip(self.games, self._queues, strict=True) if queue]
        for game, row in active:
            if game.playing:
                game.shows["action"][:] = action[row]
                game.ask(worker.STEP)
            elif game.asked is None:  # else it is on its way back already
                game.ask(worker.RESET)
        games.wait([game for game, _ in active])

        rests = self.one_episode & (before.step_type == ts.StepType.LAST)
        shown = tf.nest.map_structure(
            lambda old, blank: np.where(rests.reshape([-1] + [1] * (old.ndim - 1)), old, blank), before, self._blank
        )
        shown.reward[:] = 0.0
        self._won = self._won & rests
        for game, row in active:
            if game.answered:
                self._show(shown, game, row)
        self._shown = shown
        return shown

    def _show(self, shown: ts.TimeStep, game: games.Game, row: int) -> None:
        shows = game.shows
        over = game.answered == worker.STEP and shows["terminated"]
        step_type = ts.StepType.FIRST if game.answered == worker.RESET else ts.StepType.MID
        shown.step_type[row] = ts.StepType.LAST if over else step_type
        shown.reward[row] = shows["reward"]
        shown.discount[row] = 0.0 if over and not shows["timeout"] else 1.0
        for name, leaf in shown.observation.items():
            leaf[row] = shows[name]
        self._won[row] = shows["battle_won"]
        game.answered = None

    def info(self) -> dict[str, np.ndarray]:
        """`battle_won` [B] bool: whether the last step won the battle."""
        return {"battle_won": self._won.copy()}

    def seconds_at_work(self, now: float) -> float:
        """A game's on average, all so far: see `games.Game.seconds_at_work`."""
        return float(np.mean([game.seconds_at_work(now) for game in self.games]))

    def metrics(self) -> dict[str, float]:
        """What went wrong so far in all games of this process.

        `sc2/restarts`, `sc2/hangs`, `sc2/dropped_episodes`.
        """
        return {f"sc2/{name}": float(count) for name, count in vars(self.counts).items()}

    @functools.cached_property
    def installed(self) -> installation.Game:
        """The game and the map. Raises installation.Missing if something is; says what to do."""
        return installation.find(self.name, self.options.any_map)

    def tags(self) -> dict[str, str]:
        """What a result depends on: the game's build and the map. Raises: as `installed`."""
        return {"sc2_build": self.installed.build, "sc2_map_sha256": self.installed.map_hash}

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.options)

    def write_replay(
        self, path: pathlib.Path, policy: tf_policy.TFPolicy, seed: Any, num_episodes: int, title: str
    ) -> None:
        """Has the first game write all that it has played so far to a `.SC2Replay`: it can be led to play nothing anew.

        Raises:
            games.GameError: it does not.
        """
        game = self.games[0]
        with tempfile.TemporaryDirectory() as folder:
            game.ask(worker.REPLAY + str(folder).encode())
            games.wait([game])
            replays = list(pathlib.Path(folder).iterdir())
            if not replays:
                raise games.GameError("the game was lost before it had written its replay; try again")
            path.write_bytes(replays[0].read_bytes())
        game.answered = None

    def close(self) -> None:
        """Ends all games, the resized cores' too."""
        for game in self.games + self._others:
            game.stop()


def names() -> tuple[str, ...]:
    """SMAC's maps."""
    return scenarios.map_names()


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> StarCraft2:
    """See `environments.make`. Whether the game is there shows when it is needed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if num_envs > memory:
        raise ValueError(
            f"environment.num_envs = {num_envs} games need a gigabyte each, and there are {memory:.0f}; try 8, as"
            " --gin_file=sc2.gin does"
        )
    return StarCraft2(scenarios.scenario(map_name), num_envs, Settings(**options), seed)
