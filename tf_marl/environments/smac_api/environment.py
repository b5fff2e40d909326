"""The environment itself: made as SMAC's is, and played."""

import secrets
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from tf_agents.trajectories import time_step as ts

from tf_marl.config import STRICT, Count, naming
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.task import DIRECTIONS, FIRST_ATTACK, PATHING_POINTS
from tf_marl.environments.smac_api.arguments import OF_THE_GAME, REPLAYS, SETTINGS, smacs_arguments
from tf_marl.environments.smac_api.ground import Ground
from tf_marl.environments.smac_api.observations import Observations
from tf_marl.environments.smac_api.program import Facts, program_of
from tf_marl.environments.smac_api.protocol import TYPE_IDS
from tf_marl.environments.smac_api.units import Units

Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]  # the game's protocol takes unsigned 32-bit seeds


class CombatEnv(Observations, Units, Ground):
    """A drop-in for `smac.env.StarCraft2Env` that needs no StarCraft II: one battle, played by SMAC's rules.

        from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

        env = StarCraft2Env(map_name="3m")
        obs, state = env.reset()
        terminated = False
        while not terminated:
            avail_actions = env.get_avail_actions()
            actions = [np.random.choice(np.flatnonzero(avail)) for avail in avail_actions]
            reward, terminated, info = env.step(actions)
        env.close()

    N agents, M enemies, A = 6 + M actions, O observation and S state features.
    Observation: per agent float32 [O]; state: float32 [S], as SMAC defines them.
    Action: per agent 0 no-op (the dead, who may do nothing else), 1 stop, 2-5 move north, south, east, west, 6 + j
        attack enemy j (a healer: heal agent j).
    Reward: SMAC's shaped team reward; a clean win returns 20.
    Episode end: one side is dead (on MMM maps, all but its healer), or the map's limit of env steps. `reset` starts the
        next one; until then the last observations stay.

    Equal seeds and actions give the battles that `environments.load(map_name, seed=...)` plays. The first `reset`
    compiles, some seconds, for all environments of the process with this map and these options. It is also what starts
    TensorFlow, and a process forked after that cannot play: have workers forked before, or spawned. Copies, by
    `copy` or `pickle`, play on alike.

    Args, by name or in SMAC's order:
        map_name: one of `environments.map_names()`.
        seed: root of all the chance; None draws one.
        continuing_episode: whether `info` tells an end by the time limit: `episode_limit` True, only then.
        difficulty: SMAC's; changes nothing, as on SMAC's maps.
        window_size_x, window_size_y: SMAC's; change nothing, as nothing is drawn.
        game_version, heuristic_rest, debug: SMAC's; change nothing, and a warning says so.
        replay_dir, replay_prefix, heuristic_ai: SMAC's; need the game, so can only have SMAC's default (or None).
        **options: SMAC's other arguments by SMAC's names, and, by name only, `shuffle_enemies`, `profile` and `enemy`:
            see `combat.options.Options`. A `step_mul` of None is the maps' own, 8.
    Raises:
        TypeError: an argument that neither SMAC nor we have, or one given twice.
        ValueError: an unknown map, a value of the wrong type or size, or one that needs the game; names it.
    """

    @smacs_arguments
    @naming("CombatEnv")
    @pydantic.validate_call(config=STRICT)
    def __init__(
        self,
        map_name: str = "8m",
        *,
        seed: Seed | None = None,
        continuing_episode: bool = False,
        difficulty: Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "A"] = "7",
        window_size_x: Count = 1920,
        window_size_y: Count = 1200,
        game_version: str | None = None,
        replay_dir: str | None = "",
        replay_prefix: str | None = "",
        heuristic_ai: bool = False,
        heuristic_rest: bool = False,
        debug: bool = False,
        **options: Any,
    ):
        known = {field.name for field in fields(Options)}
        if unknown := [name for name in options if name not in known]:
            raise TypeError(f"CombatEnv: neither SMAC nor combat.options.Options has an argument {', '.join(unknown)}")
        self.game_version, self.debug = game_version, debug
        self.replay_dir, self.replay_prefix = replay_dir, replay_prefix
        self.heuristic_ai, self.heuristic_rest = heuristic_ai, heuristic_rest
        for name, why in OF_THE_GAME.items():
            if value := getattr(self, name):
                raise ValueError(f"CombatEnv.{name}: {why}; leave it {type(value)()!r}")
        if options.get("step_mul", 8) is None:
            del options["step_mul"]
        chosen = Options(**options)
        self.program = program_of(map_name, chosen)
        self.options = chosen
        self._seed = seed
        self._sow()

        task, scenario = self.program.world.task, self.program.world.scenario
        for name in SETTINGS:
            setattr(self, name, getattr(chosen, name))
        self.obs_own_health = task.sees_own_health
        self.difficulty = difficulty
        self.continuing_episode = continuing_episode
        self.window_size = (window_size_x, window_size_y)
        self.map_name = map_name
        self.map_type = scenario.map_type
        self.n_agents = scenario.num_agents
        self.n_enemies = scenario.num_enemies
        self.n_actions = scenario.num_actions
        self.n_actions_no_attack = FIRST_ATTACK
        self.n_actions_move = len(DIRECTIONS)
        self.n_obs_pathing = len(PATHING_POINTS)
        self.n_obs_height = self.n_obs_pathing + 1
        self.episode_limit = scenario.episode_limit  # env steps
        self.unit_type_bits = len(scenario.agent_type_bits)
        self.shield_bits_ally = int(scenario.agent_shields)
        self.shield_bits_enemy = int(scenario.enemy_shields)
        self.max_reward = task.max_reward  # before scaling
        self.map_x = self.map_y = scenarios.MAP_SIZE
        self.max_distance_x = self.max_distance_y = scenarios.MAP_SIZE
        self.pathing_grid = scenario.pathable.copy()  # [32, 32] bool, indexed [x, y]
        types = [f"type_{bit}" for bit in range(self.unit_type_bits)]
        self.ally_state_attr_names = ["health", "energy/cooldown", "rel_x", "rel_y"]
        self.ally_state_attr_names += ["shield"] * self.shield_bits_ally + types
        self.enemy_state_attr_names = ["health", "rel_x", "rel_y"] + ["shield"] * self.shield_bits_enemy + types
        agent_types = {unit.name for unit in scenario.agents}
        for name, type_id in TYPE_IDS.items():  # marine_id and so on; 0 where no agent is one, as in SMAC
            setattr(self, f"{name}_id", type_id if name in agent_types else 0)

        self._one_hot = np.eye(self.n_actions)
        self.last_action = np.zeros((self.n_agents, self.n_actions))  # [N, A]
        self.facts = None
        self._battle: Any = None  # the program's
        self._episode_steps = 0
        self._playing = False
        self.reward: float = 0  # of the last step
        self.win_counted = False  # whether this episode is won
        self.battles_won = 0
        self.battles_game = 0
        self.timeouts = 0
        self.force_restarts = 0

    # Playing

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Starts the next episode.

        Returns:
            N observations [O], state [S].
        Raises:
            RuntimeError: this process was forked after TensorFlow had started; `step` raises it, too.
        """
        self._battle = None
        self._play([0] * self.n_agents)
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._episode_steps = 0
        self.win_counted = False
        self._playing = True
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[Any]) -> tuple[float, bool, dict[str, Any]]:
        """One env step.

        Args:
            actions: N of anything that `int` takes.
        Returns:
            reward, whether the episode is over, and `battle_won` bool, `dead_allies` and `dead_enemies` int, and with
            `continuing_episode`, after a time-out, `episode_limit` True.
        Raises:
            AssertionError: an action is not available; nothing is played.
            RuntimeError: no episode is under way.
        """
        if not self._playing:
            raise RuntimeError("no episode is under way; call reset() first")
        chosen = [int(action) for action in actions]
        if len(chosen) != self.n_agents:
            raise ValueError(f"{len(chosen)} actions for {self.n_agents} agents; give one each, 0 to the dead")
        for agent, action in enumerate(chosen):
            self.require(agent, action)
        facts = self._play(chosen)
        self.last_action = self._one_hot[chosen]
        self._episode_steps += 1

        self.reward, discount, step_type, won, _ = facts.outcome.tolist()
        terminated = bool(step_type == ts.StepType.LAST)
        dead = (facts.units[2] == 0).tolist()
        info: dict[str, Any] = {
            "battle_won": bool(won),
            "dead_allies": sum(dead[: self.n_agents]),
            "dead_enemies": sum(dead[self.n_agents :]),
        }
        if terminated:
            timeout = discount == 1
            self._playing = False
            self.battles_game += 1
            self.win_counted = info["battle_won"]
            self.battles_won += info["battle_won"]
            self.timeouts += timeout
            if timeout and self.continuing_episode:
                info["episode_limit"] = True
        return self.reward, terminated, info

    def _play(self, actions: list[int]) -> Facts:
        self._count += 1
        self._battle, facts = self.program.play(self._battle, [self._root, self._count, *actions])
        self.facts = facts
        return facts

    def close(self) -> None:
        """Ends the episode."""
        self._playing = False

    def full_restart(self) -> None:
        """Counts a restart and ends the episode, as if the game had been started anew; call `reset` after it.

        The battles are those of the seed again, from the first. As in SMAC, setting `_seed` before it changes the seed.
        """
        self._sow()
        self.force_restarts += 1
        self._playing = False

    def _sow(self) -> None:
        root = secrets.randbelow(2**32) if self._seed is None else self._seed
        self._root = int(np.uint32(root).astype(np.int32))
        self._count = 0  # of seeds drawn

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_battle": None if self._battle is None else np.asarray(self._battle)}

    def get_stats(self) -> dict[str, Any]:
        """Counts over all battles so far. As in SMAC, `battles_draw` counts time-outs."""
        return {
            "battles_won": self.battles_won,
            "battles_game": self.battles_game,
            "battles_draw": self.timeouts,
            "win_rate": self.battles_won / max(self.battles_game, 1),
            "timeouts": self.timeouts,
            "restarts": self.force_restarts,
        }

    # The rest

    def seed(self) -> int | None:
        """The seed that the constructor was given; as in SMAC, it sets nothing."""
        return self._seed

    def render(self, mode: str = "human") -> None:
        """Not offered: one window per step is what `launch.evaluate --replay` makes a page of, and better."""
        raise NotImplementedError(f"nothing is drawn here; {REPLAYS}")

    def save_replay(self) -> None:
        """Not offered: only the game can write its `.SC2Replay` files."""
        raise NotImplementedError(f"there is no game to write a replay; {REPLAYS}")
