"""This module holds the environment itself, which is made and played as SMAC's is."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from tf_agents.trajectories import time_step as ts

from tf_marl.config import STRICT, Count, naming
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.task import DIRECTIONS, PATHING_POINTS
from tf_marl.environments.smac_api import capabilities
from tf_marl.environments.smac_api.arguments import OF_THE_GAME, REPLAYS, SETTINGS, SMACV2S, smacs_arguments
from tf_marl.environments.smac_api.ground import Ground
from tf_marl.environments.smac_api.observations import Observations
from tf_marl.environments.smac_api.program import Facts, program_of
from tf_marl.environments.smac_api.protocol import TYPE_IDS
from tf_marl.environments.smac_api.units import Units

Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]  # the game's protocol takes unsigned 32-bit seeds


class CombatEnv(Observations, Units, Ground):
    """Plays one battle by SMAC's rules: a drop-in for `smac.env.StarCraft2Env` that needs no StarCraft II.

    An episode with random actions:

        from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

        env = StarCraft2Env(map_name="3m")
        obs, state = env.reset()
        terminated = False
        while not terminated:
            avail_actions = env.get_avail_actions()
            actions = [np.random.choice(np.flatnonzero(avail)) for avail in avail_actions]
            reward, terminated, info = env.step(actions)
        env.close()

    There are N agents, M enemies, A = 6 + M actions, and O observation and S state features.

    Observation:
        one float32 [O] for each agent, and the global state float32 [S], as SMAC defines them.
    Action:
        one for each agent: 0 is the no-op (for the dead, who may do nothing else), 1 is stop, 2 to 5 move north, south,
        east and west, and 6 + j attacks enemy j (a healer heals agent j).
    Reward:
        SMAC's shaped reward of the team. A clean win returns 20.
    Episode end:
        one side is dead (on MMM maps, all but its healers), or the map's limit of env steps is reached. `reset` starts
        the next episode. Until then the last observations stay.

    Equal seeds and actions give the battles that `environments.load(map_name, seed=...)` plays. The first `reset` takes
    some seconds to compile, once for all environments of the process with this map and these options. It also starts
    TensorFlow, and a process that is forked after that cannot play. So fork workers before it, or spawn them. Copies
    made by `copy` or `pickle` play on as the original does.

    All arguments may be given by name, and SMAC's also by position in SMAC's order.

    Args:
        map_name: one of `environments.names("combat")`, or one of SMACv2's maps with a `capability_config`.
        seed: the root of all randomness; None draws one.
        continuing_episode: whether `info` marks an end by the time limit with `episode_limit` True. The key is missing
            otherwise.
        difficulty: SMAC's difficulty. It changes nothing, as on SMAC's maps.
        window_size_x: SMAC's window width. It changes nothing, because nothing is drawn.
        window_size_y: SMAC's window height. It changes nothing, because nothing is drawn.
        game_version: SMAC's argument. It changes nothing, and a warning says so.
        replay_dir: SMAC's argument. It needs the game, so only SMAC's default or None is allowed.
        replay_prefix: SMAC's argument. It needs the game, so only SMAC's default or None is allowed.
        heuristic_ai: SMAC's argument. It needs the game, so only False is allowed.
        heuristic_rest: SMAC's argument. It changes nothing, and a warning says so.
        debug: SMAC's argument. It changes nothing, and a warning says so.
        capability_config: SMACv2's, see `StarCraftCapabilityEnvWrapper`.
        **options: SMAC's and SMACv2's other arguments under their names, and ours. SMACv2's and ours go only by name.
            `combat.options.Options` describes them all. A `step_mul` of None is the maps' own, 8.
    Raises:
        TypeError: neither SMAC nor this project has such an argument, or one is given twice.
        ValueError: the map is unknown, a value has the wrong type or size, or an argument needs the game; the message
            names it.
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
        capability_config: Mapping[str, Any] | None = None,
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
        battle = map_name if capability_config is None else capabilities.drawn_by(map_name, capability_config)
        self.capability_config = capability_config or {}
        self.program = program_of(battle, chosen)
        self.options = chosen
        self._seed = seed
        self._sow()

        task, scenario = self.program.world.task, self.program.world.scenario
        for name in SETTINGS:
            setattr(self, name, getattr(chosen, name))
        self.obs_own_health = task.sees_own_health
        for name in SMACV2S:
            setattr(self, name, getattr(chosen, name))
        self.obs_own_pos, self.use_unit_ranges = task.sees_own_place, task.has_unit_ranges
        self.n_fov_actions = task.num_looks
        self.canonical_fov_directions = task.look_directions  # [F, 2], of length 1
        self.conic_fov_angle = 2 * np.pi / task.num_looks if task.num_looks else 0
        self.difficulty = difficulty
        self.continuing_episode = continuing_episode
        self.window_size = (window_size_x, window_size_y)
        self.map_name = map_name
        self.map_type = scenario.map_type
        self.n_agents = scenario.num_agents
        self.n_enemies = scenario.num_enemies
        self.n_actions = task.num_actions
        self.n_actions_no_attack = task.first_attack
        self.n_actions_move = len(DIRECTIONS)
        self.n_obs_pathing = len(PATHING_POINTS)
        self.n_obs_height = self.n_obs_pathing + 1
        self.episode_limit = scenario.episode_limit  # env steps
        self.unit_type_bits = len(scenario.agent_type_bits)
        self.shield_bits_ally = int(scenario.agent_shields)
        self.shield_bits_enemy = int(scenario.enemy_shields)
        # Before scaling. In SMACv2's scenarios the first episode adds the health and the shields of its enemies.
        self.max_reward = task.max_reward
        if task.is_drawn:
            self.max_reward = chosen.reward_win + chosen.reward_death_value * self.n_enemies
        self.map_x = self.map_y = scenarios.MAP_SIZE
        self.max_distance_x = self.max_distance_y = scenarios.MAP_SIZE
        self.pathing_grid = scenario.pathable.copy()  # [32, 32] bool, indexed [x, y]
        self.capability_attr_names = [f"type_{bit}" for bit in range(self.unit_type_bits)]
        types = self.capability_attr_names
        self.ally_state_attr_names = ["health", "energy/cooldown", "rel_x", "rel_y"]
        self.ally_state_attr_names += ["shield"] * self.shield_bits_ally + ["fov_x", "fov_y"] * chosen.conic_fov + types
        self.enemy_state_attr_names = ["health", "rel_x", "rel_y"] + ["shield"] * self.shield_bits_enemy + types
        agent_types = {unit.name for unit in (scenario.lottery.types if scenario.lottery else scenario.agents)}
        for name, type_id in TYPE_IDS.items():  # sets marine_id and so on; 0 for types that no agent has, as in SMAC
            setattr(self, f"{name}_id", type_id if name in agent_types else 0)

        self._one_hot = np.eye(self.n_actions)
        self.last_action = np.zeros((self.n_agents, self.n_actions))  # [N, A]
        self.facts = None
        self._battle: Any = None  # the vector of `Program.play`
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
            A list of N observations, float32 [O] each, and the state, float32 [S].
        Raises:
            RuntimeError: this process was forked after TensorFlow had started.
        """
        facts = self._play([0] * self.n_agents, restarts=True)
        self.max_reward = float(facts.outcome[5])
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._episode_steps = 0
        self.win_counted = False
        self._playing = True
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[Any]) -> tuple[float, bool, dict[str, Any]]:
        """Plays one env step.

        Args:
            actions: N actions, each of any type that `int` accepts.
        Returns:
            The reward; whether the episode is over; and `info`, with `battle_won` (bool), `dead_allies` (int) and
            `dead_enemies` (int). With `continuing_episode`, after a timeout, `info` also has `episode_limit` True.
        Raises:
            AssertionError: an action is not available; nothing is played then.
            RuntimeError: no episode is under way, or this process was forked after TensorFlow had started.
            ValueError: there are not N actions.
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

        self.reward, discount, step_type, won, *_ = facts.outcome.tolist()
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

    def _play(self, actions: list[int], restarts: bool = False) -> Facts:
        self._count += 1
        self._battle, facts = self.program.play(self._battle, [self._root, self._count, restarts, *actions])
        self.facts = facts
        return facts

    def close(self) -> None:
        """Ends the episode."""
        self._playing = False

    def full_restart(self) -> None:
        """Counts a restart and ends the episode, as if the game had been restarted; call `reset` after it.

        The next battles are those of the seed again, from the first one. As in SMAC, setting `_seed` first changes the
        seed.
        """
        self._sow()
        self.force_restarts += 1
        self._playing = False

    def _sow(self) -> None:
        root = secrets.randbelow(2**32) if self._seed is None else self._seed
        self._root = int(np.uint32(root).astype(np.int32))
        self._count = 0  # how many seeds were drawn from the root

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_battle": None if self._battle is None else np.asarray(self._battle)}

    def get_stats(self) -> dict[str, Any]:
        """Returns counts over all battles so far, by name. As in SMAC, `battles_draw` counts timeouts."""
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
        """Returns the seed that the constructor was given. As in SMAC, this sets nothing."""
        return self._seed

    def render(self, mode: str = "human") -> None:
        """Raises NotImplementedError, because nothing is drawn here.

        `launch.evaluate --replay` makes a page that shows battles.
        """
        raise NotImplementedError(f"nothing is drawn here; {REPLAYS}")

    def save_replay(self) -> None:
        """Raises NotImplementedError, because only the game can write its `.SC2Replay` files."""
        raise NotImplementedError(f"there is no game to write a replay; {REPLAYS}")
