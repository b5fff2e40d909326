"""The embedded battle behind SMAC's own Python API, for code written for `smac.env.StarCraft2Env`.

Where SMAC has oddities of return values, they are kept: see `combat/task.py` for observation, state and reward. What
differs, because here it can be simpler: `reset` may be called at any time; the reward is always a float; `get_stats`
gives a win rate of 0 before the first battle is over; a refused action leaves `last_action` as it was; both sides'
units have the game's stock type ids; there are no crashes, so `info` is never empty. Settings can be read as SMAC's
attributes of the same names, but are set by the constructor alone.
"""

import enum
import functools
import math
import os
import secrets
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl.compile import graph
from tf_marl.config import STRICT, Count, naming
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat, State
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.task import (
    ATTACK_DISTANCE,
    DIRECTIONS,
    FIRST_ATTACK,
    NO_OP,
    NORTH,
    PATHING_POINTS,
    SIGHT,
    STOP,
)
from tf_marl.environments.combat.units import DATA

__all__ = ["CombatEnv", "Direction"]

Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]  # the game's protocol takes unsigned 32-bit seeds

# Those of the options that SMAC keeps as public attributes.
_SETTINGS = [field.name for field in fields(Options) if field.name.startswith(("obs_", "state_", "reward_"))]
_TYPE_IDS = {name: values["type_id"] for name, values in DATA["units"].items()}
_ABILITY_IDS = {"stop": 4, "move": 16, "attack": 23, "heal": 386}  # the game's

# SMAC's arguments, in SMAC's order.
_ORDER = [
    *("map_name", "step_mul", "move_amount", "difficulty", "game_version", "seed", "continuing_episode"),
    *_SETTINGS,
    *("replay_dir", "replay_prefix", "window_size_x", "window_size_y", "heuristic_ai", "heuristic_rest", "debug"),
]
_REPLAYS = "python -m launch.evaluate --replay=FILE.html shows battles"
# What cannot be had without the game.
_OF_THE_GAME = {
    "replay_dir": f"there is no game to write replays; {_REPLAYS}",
    "replay_prefix": f"there is no game to write replays; {_REPLAYS}",
    "heuristic_ai": "there is no built-in player for the agents",
}
# What means nothing without it.
_WITHOUT_EFFECT = {
    "game_version": "there is no game to have a version",
    "heuristic_rest": "there is no built-in player for the agents",
    "debug": "nothing is logged",
}


class Direction(enum.IntEnum):
    """Where to move, in the order of the actions."""

    NORTH = 0
    SOUTH = 1
    EAST = 2
    WEST = 3


class Point(NamedTuple):
    """A place, in map units; x grows to the east, y to the north."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as it stands, with the field names of the game's protocol."""

    tag: int  # unique in the battle
    owner: int  # 1: the agents', 2: the enemies'
    unit_type: int  # the game's stable id
    pos: Point
    radius: float  # map units
    health: float  # hit points; 0 is dead
    health_max: float
    shield: float
    shield_max: float
    energy: float
    energy_max: float
    weapon_cooldown: float  # game loops until the weapon is ready


class UnitCommand(NamedTuple):
    """What a unit is ordered, with the field names of the game's protocol."""

    ability_id: int
    unit_tags: list[int]
    target_world_space_pos: Point | None = None  # of a move
    target_unit_tag: int | None = None  # of an attack, or of healing
    queue_command: bool = False


class ActionRaw(NamedTuple):
    unit_command: UnitCommand


class Action(NamedTuple):
    """A command in the protocol's wrapping."""

    action_raw: ActionRaw


class Facts(NamedTuple):
    """All that the API tells of a battle; float32 arrays, U = N + M units."""

    obs: Any  # [N, O]
    state: Any  # [S]
    avail_actions: Any  # [N, A], 0 or 1
    units: Any  # [6, U]: x, y, health, shield, energy, cooldown, in the map's order
    order: Any  # [M]: which of the map's enemies each enemy slot shows
    outcome: Any  # [5]: reward, discount, step type, whether the battle is won, damage's part of the reward, unscaled


class _Program:
    """One battle as one compiled function, shared by all environments of one map with the same options.

    A call into TensorFlow costs as much as a step of a small battle, and more with every tensor that goes in or comes
    out. So everything travels in two vectors: the battle, which only TensorFlow reads, and the facts. As 25 tensors
    the battle is eight times as slow on 3m; without XLA, eighteen times.
    """

    def __init__(self, map_name: str, options: Options):
        # The state's own rows are wanted in any case; the observations replace it on the way out.
        self._arguments = map_name, options
        scenario = scenarios.scenario(map_name, options.profile)
        self.world = Combat(scenario, 1, replace(options, obs_instead_of_state=False))
        task = self.world.task
        n, m = scenario.num_agents, scenario.num_enemies
        shapes = Facts(
            obs=(n, task.obs_size),
            state=(task.state_size,),
            avail_actions=(n, scenario.num_actions),
            units=(6, n + m),
            order=(m,),
            outcome=(5,),
        )
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        self._cuts = [(slice(*cut), shape) for *cut, shape in zip([0, *ends], ends, shapes, strict=False)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _program, self._arguments  # a copy is the same one; in another process, it is made there

    @functools.cached_property
    def _likeness(self) -> State:
        """Shapes and types of the state."""
        return graph.function(self.world.reset).get_concrete_function(tf.TensorSpec([2], tf.int32)).structured_outputs

    @functools.cached_property
    def over(self) -> tf.Tensor:
        """A battle that is over, of which nothing else is left: advancing it starts the next one."""
        blank = tf.nest.map_structure(lambda leaf: tf.zeros(leaf.shape, leaf.dtype), self._likeness)
        return _join(blank._replace(step_type=tf.constant([ts.StepType.LAST])))

    @functools.cached_property
    def advance(self) -> Any:
        """(battle, message int32 [2 + N]: root and count of the seed, actions) -> (battle, facts)."""
        leaves = tf.nest.flatten(self._likeness)
        sizes = [math.prod(leaf.shape) for leaf in leaves]

        def advance(battle: tf.Tensor, message: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            parts = [
                tf.cast(tf.reshape(part, leaf.shape), leaf.dtype)
                for part, leaf in zip(tf.split(battle, sizes), leaves, strict=True)
            ]
            # As `FunctionalEnvironment` draws it.
            seed = tf.random.experimental.stateless_fold_in(tf.stack([message[0], 0]), message[1])
            before = tf.nest.pack_sequence_as(self._likeness, parts)
            state = self.world.step(before, message[None, 2:], seed)
            return _join(state), _join(self._facts(before, state))

        battle, message = tf.TensorSpec([sum(sizes)]), tf.TensorSpec([2 + self.world.scenario.num_agents], tf.int32)
        # Called without looking for the right trace, a concrete function makes half as many calls again on 3m.
        return graph.function(advance, jit_compile=True).get_concrete_function(battle, message)

    def unpack(self, vector: np.ndarray) -> Facts:
        return Facts(*(vector[cut].reshape(shape) for cut, shape in self._cuts))

    def _facts(self, before: State, state: State) -> Facts:
        time_step, units = self.world.time_step(state), state.units
        damage = self.world.task.battle_reward(before.units, units)
        shuffled = self.world.options.shuffle_enemies
        return Facts(
            obs=time_step.observation["obs"],
            state=time_step.observation["state"],
            avail_actions=time_step.observation["avail_actions"],
            units=[units.x, units.y, units.health, units.shield, units.energy, units.cooldown],
            order=state.order if shuffled else np.arange(self.world.scenario.num_enemies),
            outcome=[state.reward, state.discount, state.step_type, state.battle_won, damage],
        )


def _join(nest: Any) -> tf.Tensor:
    """All tensors of a nest in one float32 vector; whole numbers below 2^24 pass unharmed."""
    return tf.concat([tf.reshape(tf.cast(leaf, tf.float32), [-1]) for leaf in tf.nest.flatten(nest)], axis=0)


@functools.cache
def _program(map_name: str, options: Options) -> _Program:
    return _Program(map_name, options)


_lost_runtime = False  # whether the threads of TensorFlow's runtime stayed behind in the process that forked this one


def _runtime_has_started() -> bool:
    """Whether TensorFlow has computed anything in this process."""
    threading = tf.config.threading
    threads = threading.get_inter_op_parallelism_threads()
    try:
        threading.set_inter_op_parallelism_threads(threads + 1)
    except RuntimeError:  # it can be set until then
        return True
    threading.set_inter_op_parallelism_threads(threads)
    return False


def _after_fork() -> None:
    global _lost_runtime
    _lost_runtime = _lost_runtime or _runtime_has_started()


os.register_at_fork(after_in_child=_after_fork)


def _toward(point: Point, direction: int, distance: float) -> Point:
    dx, dy = DIRECTIONS[direction].tolist()
    return Point(point.x + dx * distance, point.y + dy * distance)


def _smacs_arguments(init: Callable[..., None]) -> Callable[..., None]:
    """Has `init` take its arguments by position, too, in SMAC's order, and NumPy's scalars as Python's."""

    @functools.wraps(init)
    def taking(self: "CombatEnv", *by_position: Any, **by_name: Any) -> None:
        if len(by_position) > len(_ORDER):
            raise TypeError(f"CombatEnv: SMAC has {len(_ORDER)} arguments, not {len(by_position)}; name ours")
        given = dict(zip(_ORDER, by_position, strict=False))
        if twice := given.keys() & by_name:
            raise TypeError(f"CombatEnv: given by position and by name: {', '.join(twice)}")
        given |= by_name
        init(self, **{name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()})
        for name, why in _WITHOUT_EFFECT.items():
            if getattr(self, name):
                warnings.warn(f"CombatEnv.{name}: {why}; it changes nothing", stacklevel=2)

    return taking


class CombatEnv:
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

    @_smacs_arguments
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
        for name, why in _OF_THE_GAME.items():
            if value := getattr(self, name):
                raise ValueError(f"CombatEnv.{name}: {why}; leave it {type(value)()!r}")
        if options.get("step_mul", 8) is None:
            del options["step_mul"]
        chosen = Options(**options)
        self._program = _program(map_name, chosen)
        self._options = chosen
        self._seed = seed
        self._sow()

        task, scenario = self._program.world.task, self._program.world.scenario
        for name in _SETTINGS:
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
        for name, type_id in _TYPE_IDS.items():  # marine_id and so on; 0 where no agent is one, as in SMAC
            setattr(self, f"{name}_id", type_id if name in agent_types else 0)

        self._obs_size = task.obs_size
        self._state_size = self.n_agents * task.obs_size if chosen.obs_instead_of_state else task.state_size
        self._one_hot = np.eye(self.n_actions)
        self.last_action = np.zeros((self.n_agents, self.n_actions))  # [N, A]
        self._facts: Facts | None = None
        self._battle: tf.Tensor = None
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
            self._require(agent, action)
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

    def _require(self, agent: int, action: int) -> None:
        available = self._now.avail_actions[agent]
        if not (0 <= action < self.n_actions and available[action]):
            legal = np.flatnonzero(available).tolist()
            raise AssertionError(f"agent {agent} cannot take action {action}; it can take one of {legal}")

    def _play(self, actions: list[int]) -> Facts:
        if _lost_runtime:
            raise RuntimeError(
                "this process was forked after TensorFlow had started, and lacks its threads; fork workers before the"
                " first reset() in their parent, or start them by multiprocessing's 'spawn'"
            )
        self._count += 1
        message = np.array([self._root, self._count, *actions], np.int32)
        with tf.device("CPU:0"):  # one battle is far too little for a GPU
            battle = self._program.over if self._battle is None else self._battle
            self._battle, vector = self._program.advance(battle, tf.constant(message))
        self._facts = facts = self._program.unpack(vector.numpy())
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

    # What the agents and the learner get to know

    @property
    def _now(self) -> Facts:
        if self._facts is None:
            raise RuntimeError("there is no battle yet; call reset() first")
        return self._facts

    def get_obs(self) -> list[np.ndarray]:
        """N observations, float32 [O]."""
        return list(self._now.obs.copy())

    def get_obs_agent(self, agent_id: int) -> np.ndarray:
        """Float32 [O]."""
        return self._now.obs[agent_id].copy()

    def get_state(self) -> np.ndarray:
        """Float32 [S]."""
        return self._now.obs.flatten() if self._options.obs_instead_of_state else self._now.state.copy()

    def get_state_dict(self) -> dict[str, Any]:
        """The global state in parts: `allies`, `enemies`, `last_action` float64 [rows, columns], `timestep` float."""
        task, rows = self._program.world.task, self._now.state.astype(np.float64)
        agents_end = self.n_agents * task.agent_state_columns
        enemies_end = agents_end + self.n_enemies * task.enemy_state_columns
        parts: dict[str, Any] = {
            "allies": rows[:agents_end].reshape(self.n_agents, -1),
            "enemies": rows[agents_end:enemies_end].reshape(self.n_enemies, -1),
        }
        if self._options.state_last_action:
            parts["last_action"] = self.last_action.copy()
        if self._options.state_timestep_number:
            parts["timestep"] = self._episode_steps / self.episode_limit
        return parts

    def get_avail_actions(self) -> list[list[int]]:
        """N lists of A: 1 for what the agent may do, else 0."""
        return self._now.avail_actions.astype(int).tolist()

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """A times 0 or 1."""
        return self._now.avail_actions[agent_id].astype(int).tolist()

    def get_obs_size(self) -> int:
        return self._obs_size

    def get_state_size(self) -> int:
        return self._state_size

    def get_total_actions(self) -> int:
        return self.n_actions

    def get_obs_move_feats_size(self) -> int:
        """Of an observation's first part, on moves; enemies, allies and the agent itself follow."""
        return self._program.world.task.move_columns

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_enemies, self._program.world.task.enemy_columns

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_agents - 1, self._program.world.task.agent_columns

    def get_obs_own_feats_size(self) -> int:
        """With the time, if that is observed."""
        return self._program.world.task.own_columns

    def get_ally_num_attributes(self) -> int:
        """Columns of the state's agent rows."""
        return len(self.ally_state_attr_names)

    def get_enemy_num_attributes(self) -> int:
        """Columns of the state's enemy rows."""
        return len(self.enemy_state_attr_names)

    def reward_battle(self) -> float:
        """What damage and deaths of the last step are worth: the reward without end bonuses and scale."""
        return float(self._now.outcome[4])

    def get_env_info(self) -> dict[str, Any]:
        """The sizes that a learner needs, and the column names of the state's rows; before the first `reset`, too."""
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": self.ally_state_attr_names,
            "enemy_features": self.enemy_state_attr_names,
        }

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

    # The units

    def _rows(self, facts: Facts) -> list[int]:
        """[U]: the place in the map's order of each agent, then of the enemy in each slot."""
        return [*range(self.n_agents), *(self.n_agents + facts.order.astype(int)).tolist()]

    def _unit(self, facts: Facts, row: int) -> Unit:
        kind = self._program.world.scenario.units[row]
        x, y, health, shield, energy, cooldown = facts.units[:, row].tolist()
        return Unit(
            tag=row + 1,
            owner=1 if row < self.n_agents else 2,
            unit_type=kind.type_id,
            pos=Point(x, y),
            radius=kind.radius,
            health=health,
            health_max=kind.hit_points,
            shield=shield,
            shield_max=kind.shield_points,
            energy=energy,
            energy_max=kind.heal.energy_max if kind.heal else 0.0,
            weapon_cooldown=cooldown,
        )

    @property
    def agents(self) -> dict[int, Unit]:
        """Agent id -> unit, the dead too; empty before the first `reset`."""
        return {} if self._facts is None else {i: self._unit(self._facts, i) for i in range(self.n_agents)}

    @property
    def enemies(self) -> dict[int, Unit]:
        """Enemy id j, as in action 6 + j, -> unit, the dead too; empty before the first `reset`."""
        if (facts := self._facts) is None:
            return {}
        return {j: self._unit(facts, row) for j, row in enumerate(self._rows(facts)[self.n_agents :])}

    def get_unit_by_id(self, a_id: int) -> Unit:
        """The agent's unit."""
        return self._unit(self._now, range(self.n_agents)[a_id])

    def get_unit_types(self) -> list[int] | None:
        """The game's type ids of the agents, then of the enemies; None before the first `reset`, with a warning."""
        if self._facts is None:
            warnings.warn("unit types are not known yet; call reset() first", stacklevel=2)
            return None
        return [self._program.world.scenario.units[row].type_id for row in self._rows(self._facts)]

    def get_visibility_matrix(self) -> np.ndarray:
        """Bool [N, U]: whether each living agent sees the other agents and the enemies, all living, within sight."""
        x, y, health = self._now.units[:3, self._rows(self._now)]
        n = self.n_agents
        near = np.square(x[:n, None] - x) + np.square(y[:n, None] - y) < SIGHT**2
        return near & (health[:n, None] > 0) & (health > 0) & ~np.eye(n, len(x), dtype=bool)

    def get_unit_type_id(self, unit: Unit, ally: bool) -> int:
        """Which of its side's type bits is the unit's; 0 on maps without any."""
        scenario = self._program.world.scenario
        bits = scenario.agent_type_bits if ally else scenario.enemy_type_bits
        return [_TYPE_IDS[name] for name in bits].index(unit.unit_type) if bits else 0

    def get_agent_action(self, a_id: int, action: int) -> Action | None:
        """The order that an action is; None for no-op.

        Raises:
            AssertionError: the action is not available.
        """
        self._require(a_id, action)
        if action == NO_OP:
            return None
        unit = self.get_unit_by_id(a_id)
        if action == STOP:
            command = UnitCommand(_ABILITY_IDS["stop"], [unit.tag])
        elif action < FIRST_ATTACK:
            goal = _toward(unit.pos, action - NORTH, self._options.move_amount)
            command = UnitCommand(_ABILITY_IDS["move"], [unit.tag], target_world_space_pos=goal)
        else:
            ability, targets = ("heal", self.agents) if unit.energy_max else ("attack", self.enemies)
            tag = targets[action - FIRST_ATTACK].tag
            command = UnitCommand(_ABILITY_IDS[ability], [unit.tag], target_unit_tag=tag)
        return Action(ActionRaw(command))

    def unit_shoot_range(self, agent_id: int) -> float:
        """Map units; SMAC's, whatever the weapon."""
        return ATTACK_DISTANCE

    def unit_sight_range(self, agent_id: int) -> float:
        """Map units; SMAC's, whatever the unit."""
        return SIGHT

    def unit_max_cooldown(self, unit: Unit) -> float:
        """What the state divides cooldowns by, in game loops; a healer's energy. 15 for what is no agent's type."""
        kinds = self._program.world.scenario.agents
        return next((kind.cooldown_normaliser for kind in kinds if kind.type_id == unit.unit_type), 15)

    def unit_max_shield(self, unit: Unit) -> float | None:
        """Shield points; None for units that have no shields."""
        return unit.shield_max or None

    def only_medivac_left(self, ally: bool) -> bool:
        """Whether only Medivacs live of the agents, or one alone of the enemies: the end of battles on MMM maps."""
        if self.map_type != scenarios.MMM:
            return False
        left = [unit.unit_type for unit in (self.agents if ally else self.enemies).values() if unit.health > 0]
        medivac = _TYPE_IDS["medivac"]
        return set(left) <= {medivac} if ally else left == [medivac]

    @staticmethod
    def distance(x1: float, y1: float, x2: float, y2: float) -> float:
        return math.hypot(x2 - x1, y2 - y1)

    # The ground

    def check_bounds(self, x: float, y: float) -> bool:
        """Whether a point is on the map."""
        return 0 <= x < self.map_x and 0 <= y < self.map_y

    def can_move(self, unit: Unit, direction: int) -> bool:
        """Whether the ground half a move away is pathable. Args: direction, a `Direction`."""
        x, y = map(int, _toward(unit.pos, direction, self._options.move_amount / 2))
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def get_surrounding_points(self, unit: Unit, include_self: bool = False) -> list[tuple[int, int]]:
        """The 8 cells around a unit that can be observed; on request its own, too."""
        x, y = int(unit.pos.x), int(unit.pos.y)
        offsets = (PATHING_POINTS * self._options.move_amount).astype(int).tolist()
        return [(x + dx, y + dy) for dx, dy in offsets + [[0, 0]] * include_self]

    def get_surrounding_pathing(self, unit: Unit) -> list[bool]:
        """Whether these 8 are pathable or off the map."""
        points = self.get_surrounding_points(unit)
        return [not self.check_bounds(x, y) or bool(self.pathing_grid[x, y]) for x, y in points]

    def get_surrounding_height(self, unit: Unit) -> list[float]:
        """Not offered: the heights of the maps' ground are in the game's files only."""
        raise NotImplementedError("the heights of the maps' ground are in the game's files only")

    @property
    def death_tracker_ally(self) -> np.ndarray:
        """[N]: 1 for the dead agents, else 0; as in SMAC, always 0 with `reward_sparse`."""
        return self._dead()[: self.n_agents]

    @property
    def death_tracker_enemy(self) -> np.ndarray:
        """[M]: 1 for the dead enemies, else 0; likewise."""
        return self._dead()[self.n_agents :]

    def _dead(self) -> np.ndarray:
        if self._facts is None or self._options.reward_sparse:
            return np.zeros(self.n_agents + self.n_enemies)
        return (self._facts.units[2, self._rows(self._facts)] == 0).astype(np.float64)

    # The rest

    def seed(self) -> int | None:
        """The seed that the constructor was given; as in SMAC, it sets nothing."""
        return self._seed

    def render(self, mode: str = "human") -> None:
        """Not offered: one window per step is what `launch.evaluate --replay` makes a page of, and better."""
        raise NotImplementedError(f"nothing is drawn here; {_REPLAYS}")

    def save_replay(self) -> None:
        """Not offered: only the game can write its `.SC2Replay` files."""
        raise NotImplementedError(f"there is no game to write a replay; {_REPLAYS}")
