"""The embedded battle behind SMAC's own Python API, for code written for `smac.env.StarCraft2Env`.

Where SMAC has oddities of return values, they are kept: see `combat/task.py` for observation, state and reward. What
differs, because here it can be simpler: `reset` may be called at any time; the reward is always a float; `get_stats`
gives a win rate of 0 before the first battle is over; a refused action leaves `last_action` as it was; both sides'
units have the game's stock type ids; there are no crashes, so `info` is never empty.
"""

import functools
import math
import os
import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl import graph
from tf_marl.config import STRICT, Count, naming
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat, State
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.task import SIGHT
from tf_marl.environments.combat.units import DATA

__all__ = ["CombatEnv"]

# The game's protocol takes unsigned 32-bit seeds.
Seed = Annotated[
    int,
    pydantic.BeforeValidator(lambda seed: int(seed) if isinstance(seed, np.integer) else seed),
    pydantic.Field(ge=0, lt=2**32),
]

_REPLAYS = "python -m launch.evaluate --replay=FILE.html shows battles"
# SMAC's arguments that mean nothing without the game: the one value they can have, and why.
_OF_THE_GAME = {
    "game_version": (None, "there is no game to have a version"),
    "replay_dir": ("", f"there is no game to write replays; {_REPLAYS}"),
    "replay_prefix": ("", f"there is no game to write replays; {_REPLAYS}"),
    "heuristic_ai": (False, "there is no built-in player for the agents"),
    "heuristic_rest": (False, "there is no built-in player for the agents"),
    "debug": (False, "nothing is logged"),
}


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


class Facts(NamedTuple):
    """All that the API tells of a battle; float32 arrays, U = N + M units."""

    obs: Any  # [N, O]
    state: Any  # [S]
    avail_actions: Any  # [N, A], 0 or 1
    units: Any  # [6, U]: x, y, health, shield, energy, cooldown, in the map's order
    order: Any  # [M]: which of the map's enemies each enemy slot shows
    outcome: Any  # [4]: reward, discount, step type, whether the battle is won


class _Program:
    """One battle as one compiled function, shared by all environments of one map with the same options.

    A call into TensorFlow costs as much as a step of a small battle, and more with every tensor that goes in or comes
    out. So everything travels in two vectors: the battle, which only TensorFlow reads, and the facts. As 25 tensors
    the battle is eight times as slow on 3m; without XLA, eighteen times.
    """

    def __init__(self, map_name: str, options: Options):
        # The state's own rows are wanted in any case; the observations replace it on the way out.
        scenario = scenarios.scenario(map_name, options.profile)
        self.core = Combat(scenario, 1, replace(options, obs_instead_of_state=False))
        task = self.core.task
        n, m = scenario.num_agents, scenario.num_enemies
        shapes = Facts(
            obs=(n, task.obs_size),
            state=(task.state_size,),
            avail_actions=(n, scenario.num_actions),
            units=(6, n + m),
            order=(m,),
            outcome=(4,),
        )
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        self._cuts = [(slice(*cut), shape) for *cut, shape in zip([0, *ends], ends, shapes, strict=False)]

    @functools.cached_property
    def _likeness(self) -> State:
        """Shapes and types of the state."""
        return graph.function(self.core.reset).get_concrete_function(tf.TensorSpec([2], tf.int32)).structured_outputs

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
            state = self.core.step(tf.nest.pack_sequence_as(self._likeness, parts), message[None, 2:], seed)
            return _join(state), _join(self._facts(state))

        battle, message = tf.TensorSpec([sum(sizes)]), tf.TensorSpec([2 + self.core.scenario.num_agents], tf.int32)
        # Called without looking for the right trace, a concrete function makes half as many calls again on 3m.
        return graph.function(advance, jit_compile=True).get_concrete_function(battle, message)

    def unpack(self, vector: np.ndarray) -> Facts:
        return Facts(*(vector[cut].reshape(shape) for cut, shape in self._cuts))

    def _facts(self, state: State) -> Facts:
        time_step, units = self.core.time_step(state), state.units
        shuffled = self.core.options.shuffle_enemies
        return Facts(
            obs=time_step.observation["obs"],
            state=time_step.observation["state"],
            avail_actions=time_step.observation["avail_actions"],
            units=[units.x, units.y, units.health, units.shield, units.energy, units.cooldown],
            order=state.order if shuffled else np.arange(self.core.scenario.num_enemies),
            outcome=[state.reward, state.discount, state.step_type, state.battle_won],
        )


def _join(nest: Any) -> tf.Tensor:
    """All tensors of a nest in one float32 vector; whole numbers below 2^24 pass unharmed."""
    return tf.concat([tf.reshape(tf.cast(leaf, tf.float32), [-1]) for leaf in tf.nest.flatten(nest)], axis=0)


_program = functools.cache(_Program)

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
    TensorFlow, and a process forked after that cannot play: have workers forked before, or spawned.

    Args:
        map_name: one of `environments.map_names()`.
        seed: root of all the chance; None draws one.
        continuing_episode: whether `info` tells an end by the time limit: `episode_limit` True, only then.
        difficulty: SMAC's; changes nothing, as on SMAC's maps.
        window_size_x, window_size_y: SMAC's; change nothing, as nothing is drawn.
        **options: SMAC's other arguments by SMAC's names, and `shuffle_enemies`, `profile` and `enemy`: see
            `combat.options.Options`. Those that need the game itself can only have SMAC's default.
    Raises:
        TypeError: an argument that neither SMAC nor we have.
        ValueError: an unknown map, a value of the wrong type or size, or one that needs the game; names it.
    """

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
        **options: Any,
    ):
        known = {field.name for field in fields(Options)} | set(_OF_THE_GAME)
        if unknown := [name for name in options if name not in known]:
            raise TypeError(f"CombatEnv: neither SMAC nor combat.options.Options has an argument {', '.join(unknown)}")
        for name, (only, why) in _OF_THE_GAME.items():
            if options.pop(name, only) != only:
                raise ValueError(f"CombatEnv.{name}: {why}; leave it {only!r}")
        chosen = Options(**options)
        self._program = _program(map_name, chosen)
        self._obs_instead_of_state = chosen.obs_instead_of_state
        self._state_last_action = chosen.state_last_action
        self._state_timestep_number = chosen.state_timestep_number
        self._continuing_episode = continuing_episode
        self._seed = seed
        root = secrets.randbelow(2**32) if seed is None else seed
        self._root = int(np.uint32(root).astype(np.int32))
        self._count = 0  # of seeds drawn

        task, scenario = self._program.core.task, self._program.core.scenario
        self.map_name = map_name
        self.map_type = scenario.map_type
        self.n_agents = scenario.num_agents
        self.n_enemies = scenario.num_enemies
        self.n_actions = scenario.num_actions
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
        for name, values in DATA["units"].items():  # marine_id and so on; 0 where no agent is one, as in SMAC
            setattr(self, f"{name}_id", values["type_id"] if name in agent_types else 0)

        self._obs_size = task.obs_size
        self._state_size = self.n_agents * task.obs_size if self._obs_instead_of_state else task.state_size
        self._one_hot = np.eye(self.n_actions)
        self.last_action = np.zeros((self.n_agents, self.n_actions))  # [N, A]
        self._facts: Facts | None = None
        self._battle: tf.Tensor = None
        self._episode_steps = 0
        self._playing = False
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
        available = self._now.avail_actions
        for agent, action in enumerate(chosen):
            if not (0 <= action < self.n_actions and available[agent, action]):
                legal = np.flatnonzero(available[agent]).tolist()
                raise AssertionError(f"agent {agent} cannot take action {action}; it can take one of {legal}")
        facts = self._play(chosen)
        self.last_action = self._one_hot[chosen]
        self._episode_steps += 1

        reward, discount, step_type, won = facts.outcome.tolist()
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
            self.battles_won += info["battle_won"]
            self.timeouts += timeout
            if timeout and self._continuing_episode:
                info["episode_limit"] = True
        return reward, terminated, info

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
        """Counts a restart and ends the episode, as if the game had been started anew; call `reset` after it."""
        self.force_restarts += 1
        self._playing = False

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
        return self._now.obs.flatten() if self._obs_instead_of_state else self._now.state.copy()

    def get_state_dict(self) -> dict[str, Any]:
        """The global state in parts: `allies`, `enemies`, `last_action` float64 [rows, columns], `timestep` float."""
        task, rows = self._program.core.task, self._now.state.astype(np.float64)
        agents_end = self.n_agents * task.agent_state_columns
        enemies_end = agents_end + self.n_enemies * task.enemy_state_columns
        parts: dict[str, Any] = {
            "allies": rows[:agents_end].reshape(self.n_agents, -1),
            "enemies": rows[agents_end:enemies_end].reshape(self.n_enemies, -1),
        }
        if self._state_last_action:
            parts["last_action"] = self.last_action.copy()
        if self._state_timestep_number:
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
        kind = self._program.core.scenario.units[row]
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

    def get_unit_by_id(self, agent_id: int) -> Unit:
        """The agent's unit."""
        return self._unit(self._now, range(self.n_agents)[agent_id])

    def get_unit_types(self) -> list[int] | None:
        """The game's type ids of the agents, then of the enemies; None before the first `reset`, with a warning."""
        if self._facts is None:
            warnings.warn("unit types are not known yet; call reset() first", stacklevel=2)
            return None
        return [self._program.core.scenario.units[row].type_id for row in self._rows(self._facts)]

    def get_visibility_matrix(self) -> np.ndarray:
        """Bool [N, U]: whether each living agent sees the other agents and the enemies, all living, within sight."""
        x, y, health = self._now.units[:3, self._rows(self._now)]
        n = self.n_agents
        near = np.square(x[:n, None] - x) + np.square(y[:n, None] - y) < SIGHT**2
        return near & (health[:n, None] > 0) & (health > 0) & ~np.eye(n, len(x), dtype=bool)

    @property
    def death_tracker_ally(self) -> np.ndarray:
        """[N]: 1 for the dead agents, else 0."""
        return self._dead()[: self.n_agents]

    @property
    def death_tracker_enemy(self) -> np.ndarray:
        """[M]: 1 for the dead enemies, else 0."""
        return self._dead()[self.n_agents :]

    def _dead(self) -> np.ndarray:
        if self._facts is None:
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
