"""StarCraft II is a live world here: SMAC's own environment runs in worker processes, with one game each.

The B rows of the batch are battles. An episode breaks off when its game dies or hangs. A row waits while its game is
not there yet, or while its game plays another row's episode. A waiting row shows FIRST steps in which all agents are
dead.

If there are more rows than games, each game plays the episodes of several rows in turn.
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

# Options that only the embedded battle has, SMACv2's among them.
_OURS = (
    *("shuffle_enemies", "profile", "enemy", "obs_own_pos", "use_unit_ranges", "min_attack_range", "conic_fov"),
    *("num_fov_actions", "prob_obs_enemy", "action_mask", "reward_scale_of", "wipe_rows"),
)


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Settings(Options):
    """Holds SMAC's options (`combat.options.Options`) and those of games in processes.

    Args:
        difficulty: SMAC's difficulty. It changes nothing, as far as is known.
        game_version: SMAC's version of the game, such as "4.10"; None for the newest that is installed.
        sort_enemies: whether each episode lists the enemies by type and place, so that an action names the same enemy
            in all of them. Otherwise they come as the game lists them; that is what SMAC does, and it differs between
            episodes.
        any_map: whether a map may be played although it is not, byte for byte, SMAC's.
        launch_seconds: how long a game may take to start and to show its first battle.
        step_seconds: how long a game may take for a step, or until the next battle. A game that takes longer counts as
            hanging, and is ended.
        max_failures: how many times in a row one game may fail without playing an episode to its end.
        pause_seconds: the pause before a game that failed is started again. It doubles with each failure in a row, up
            to a minute.
        max_loops: game loops after which a game is restarted between two episodes. The game ends by itself after 2^19.
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
    """Plays SMAC's maps in the game itself: B rows of battles, on as many games as the world was made with.

    Observation, action, reward and episode end are SMAC's, as in `combat.environment.Combat`.

    The games start at the first `reset`. If one of them fails, it is restarted while the others go on. All worlds that
    `resize` makes share a second set of as many games. So an evaluation does not disturb the episodes of training.

    Args:
        battle: the map.
        num_envs: B, and the number of games.
        settings: SMAC's options and those of the games.
        seed: the first game's seed; the others have the next ones.
    """

    outcomes = ("battle_won",)
    replay_suffixes = (".SC2Replay",)

    def __init__(self, battle: Scenario, num_envs: int, settings: Settings, seed: int):
        smacs = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Options)}
        model = Combat(battle, num_envs, Options(**smacs))  # gives the specs and sizes; it plays nothing
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
        sizes = {"N": battle.num_agents, "A": model.task.num_actions}
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
        self.games = make_games(0)  # play the rows of this world
        self._others = make_games(num_envs)  # play the rows of the worlds that `resize` makes
        self._begin()

    def resize(self, num_envs: int) -> "StarCraft2":
        """Returns a world of another size for a batch of episodes, in which each row rests after its first episode.

        It plays on the second set of games, which all worlds made by `resize` share.

        Args:
            num_envs: the new B.
        """
        other = copy.copy(self)
        other.num_envs, other.one_episode, other.games = num_envs, True, self._others
        other._begin()
        return other

    def _begin(self) -> None:
        """Distributes the rows among the games."""
        self._queues = [list(range(i, self.num_envs, len(self.games))) for i in range(len(self.games))]
        blank = tf.nest.map_structure(
            lambda spec: np.zeros([self.num_envs, *spec.shape], spec.dtype.as_numpy_dtype), self.time_step_spec
        )
        blank.observation["avail_actions"][..., 0] = True  # the no-op, which the dead may take
        blank.discount[:] = 1.0
        self._shown = blank._replace(step_type=np.full(self.num_envs, ts.StepType.FIRST))
        self._blank = tf.nest.map_structure(np.copy, self._shown)
        self._won = np.zeros(self.num_envs, bool)

    def reset(self) -> ts.TimeStep:
        """Starts B fresh episodes, of which as many begin at once as there are games.

        Returns:
            What the rows show: a time step of NumPy arrays [B, ...].
        Raises:
            installation.Missing: the game, the map or smac is not installed; the message says what to do.
            games.GameError: a game failed too often in a row.
        """
        assert self.installed
        self._begin()
        for game in self.games:
            game.playing = False  # drops the episode that it is playing
        return self.step(np.zeros([self.num_envs, *self.action_spec.shape], np.int32))

    def step(self, action: np.ndarray) -> ts.TimeStep:
        """Plays one env step in all games at once, and waits for all of them. An unavailable action becomes stop.

        Args:
            action: [B, N] int32.
        Returns:
            What the rows show: a time step of NumPy arrays [B, ...].
        Raises:
            games.GameError: a game failed too often in a row.
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
            elif game.asked is None:  # else it is being reset already
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
        """Copies what a game has answered to its row."""
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
        """Returns `battle_won`, [B] bool: whether the last step won the battle."""
        return {"battle_won": self._won.copy()}

    def seconds_at_work(self, now: float) -> float:
        """Returns for how many seconds a game has been busy so far, on average over the games.

        A game is busy from the moment it is asked for something, or started, until it answers or is ended.

        Args:
            now: seconds, as `time.monotonic` tells them.
        """
        return float(np.mean([game.seconds_at_work(now) for game in self.games]))

    def metrics(self) -> dict[str, float]:
        """Returns how often something went wrong so far, in all games of this process, by name.

        The names are `sc2/restarts`, `sc2/hangs` and `sc2/dropped_episodes`.
        """
        return {f"sc2/{name}": float(count) for name, count in vars(self.counts).items()}

    @functools.cached_property
    def installed(self) -> installation.Game:
        """Returns the installed game and map.

        Raises:
            installation.Missing: the game, the map or smac is not installed; the message says what to do.
        """
        return installation.find(self.name, self.options.any_map)

    def tags(self) -> dict[str, str]:
        """Returns what a result depends on besides the settings: the game's build and the SHA-256 hash of the map.

        Raises:
            installation.Missing: the game, the map or smac is not installed; the message says what to do.
        """
        return {"sc2_build": self.installed.build, "sc2_map_sha256": self.installed.map_hash}

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.options)

    def write_replay(
        self, path: pathlib.Path, policy: tf_policy.TFPolicy, seed: Any, num_episodes: int, title: str
    ) -> None:
        """Writes a `.SC2Replay` of all episodes that the first game has played so far.

        The game records what happened. So no episodes are played anew, and all arguments but `path` are ignored.

        Args:
            path: the file to write.
            policy: not used.
            seed: not used.
            num_episodes: not used.
            title: not used.
        Raises:
            games.GameError: the game was lost before it had written the file, or it failed too often in a row.
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
        """Ends all games, also those of the worlds that `resize` made."""
        for game in self.games + self._others:
            game.stop()


def names() -> tuple[str, ...]:
    """Returns the names of SMAC's 23 maps."""
    return scenarios.map_names()


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> StarCraft2:
    """Makes the world for one of SMAC's maps; `environments.make` calls this.

    It starts no game, and whether the game is installed shows only when one is needed.

    Args:
        map_name: one of `names()`.
        num_envs: B, how many games run side by side.
        seed: the first game's seed; the others have the next ones.
        **options: those of `Settings`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such map, an option is unknown or has a wrong value, or the machine has less memory than
            one GiB for each game.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if num_envs > memory:
        raise ValueError(
            f"environment.num_envs = {num_envs} games need a gigabyte each, and there are {memory:.0f}; try 8, as"
            " --gin_file=sc2.gin does"
        )
    battle = scenarios.scenario(map_name)
    if battle.lottery is not None:
        raise ValueError(f"environment.map_name: {map_name} is SMACv2's; use the backend combat, or one of SMAC's maps")
    return StarCraft2(battle, num_envs, Settings(**options), seed)
