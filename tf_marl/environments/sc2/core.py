"""StarCraft II is a live world here: SMAC's own environment runs in worker processes, with one game each.

`processes/world.py` says how rows, episodes and games that fail go together.
"""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

import pydantic
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts

from tf_marl.config import STRICT, Count
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.scenarios import Scenario
from tf_marl.environments.processes import workers
from tf_marl.environments.processes.world import ProcessWorld
from tf_marl.environments.sc2 import installation, worker
from tf_marl.environments.world import WorldFailedError

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


class StarCraft2(ProcessWorld):
    """Plays SMAC's maps in the game itself: B rows of battles, on as many games as the world was made with.

    Observation, action, reward and episode end are SMAC's, as in `combat.environment.Combat`. An unavailable action
    becomes stop.

    Args:
        battle: the map.
        num_envs: B, and the number of games.
        settings: SMAC's options and those of the games.
        seed: the first game's seed; the others have the next ones.
    """

    outcomes = ("battle_won",)
    replay_suffixes = (".SC2Replay",)
    metrics_of = "sc2"

    def __init__(self, battle: Scenario, num_envs: int, settings: Settings, seed: int):
        smacs = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Options)}
        model = Combat(battle, num_envs, Options(**smacs))  # gives the specs and sizes; it plays nothing
        self.name = battle.name
        self.options = settings
        self.time_step_spec = model.time_step_spec
        self.action_spec = model.action_spec
        self.unit_types = model.unit_types
        self.episode_limit = model.episode_limit
        for name in _OURS:
            del smacs[name]
        names = {"map_name": battle.name, "difficulty": settings.difficulty, "game_version": settings.game_version}

        def of_game(numbers: Sequence[int]) -> dict[str, Any]:
            return {
                "env": {**smacs, **names, "seed": (seed + numbers[0]) % 2**32},
                "step_mul": settings.step_mul,
                "max_reward": model.task.max_reward,
                "max_loops": settings.max_loops,
                "sort_enemies": settings.sort_enemies,
            }

        program = workers.Program(
            worker.__file__, "StarCraft II: game", installation.python(), installation.variables()
        )
        patience = workers.Patience(
            settings.launch_seconds, settings.step_seconds, settings.max_failures, settings.pause_seconds
        )
        super().__init__(num_envs, num_envs, program, of_game, patience)

    def reset(self) -> ts.TimeStep:
        """Starts B fresh episodes, of which as many begin at once as there are games.

        Returns:
            What the rows show: a time step of NumPy arrays [B, ...].
        Raises:
            installation.Missing: the game, the map or smac is not installed; the message says what to do.
            WorldFailedError: a game failed too often in a row.
        """
        assert self.installed
        return super().reset()

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
            WorldFailedError: the game was lost before it had written the file, or it failed too often in a row.
        """
        game = self.workers[0]
        with tempfile.TemporaryDirectory() as folder:
            game.call(folder)
            workers.wait([game])
            replays = list(pathlib.Path(folder).iterdir())
            if not replays:
                raise WorldFailedError("the game was lost before it had written its replay; try again")
            path.write_bytes(replays[0].read_bytes())


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
