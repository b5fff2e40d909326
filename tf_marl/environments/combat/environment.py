"""The embedded battle joins SMAC's rules and our physics: B battles at once, in TensorFlow operations alone."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from tf_marl.environments.combat import physics, replay, scenarios
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.scenarios import Scenario
from tf_marl.environments.combat.scripts import SCRIPTS, Script, ScriptedPolicy
from tf_marl.environments.combat.task import NO_OP, STOP, Task
from tf_marl.environments.world import CompiledWorld


class Draws(NamedTuple):
    """Holds all random numbers of one env step; U units, M enemies, B battles."""

    spawn: tf.Tensor  # [U, B] in [-1, 1]: displacement at spawn, should the battle start anew
    rally: tf.Tensor  # [B] in [0, 1]: where on the map's segment the enemies attack-move, should the battle start anew
    cooldown: tf.Tensor  # [U, B] float: game loops added to the period of an attack started in this step
    order: tf.Tensor  # [M, B] in [0, 1]: the enemies are sorted by it at the start; [0, B] unless they are shuffled
    script: tf.Tensor  # [M, B] uint32, for the enemies' script; [0, B] without one


class State(NamedTuple):
    """Holds the states of B battles. The battles are the last axis, as in `physics.py`."""

    units: physics.Units
    rally_x: tf.Tensor  # [B] map units: where the enemies attack-move
    rally_y: tf.Tensor  # [B]
    order: tf.Tensor  # [M, B] int32: the enemy that each attack action names; [0, B] unless they are shuffled
    last_action: tf.Tensor  # [N, B] int32; -1 before the first step
    available: tf.Tensor  # [N, A, B] bool
    step_count: tf.Tensor  # [B] int32, env steps into the episode
    step_type: tf.Tensor  # [B] int32, as in TimeStep
    reward: tf.Tensor  # [B], of the last step
    discount: tf.Tensor  # [B]: 0 if the last step ended the task, else 1, at the time limit too
    battle_won: tf.Tensor  # [B] bool
    illegal_actions: tf.Tensor  # [B] int32: how many unavailable actions were replaced since `reset`


class Combat(CompiledWorld):
    """Plays SMAC's maps in the embedded battle, B battles side by side.

    Observation:
        `obs` float32 [N, O], `state` float32 [S], `avail_actions` bool [N, A] and `alive` bool [N], as SMAC defines
        them.
    Action:
        int32 [N]: 0 is the no-op (for the dead), 1 is stop, 2 to 5 move north, south, east and west, and 6 + j attacks
        enemy j (a healer heals agent j). An unavailable action is replaced by stop, for the dead by the no-op, and
        counted in `illegal_actions`.
    Reward:
        SMAC's shaped reward of the team. A clean win returns 20. Options change it.
    Episode end:
        one side is dead (on MMM maps, all but its healers), and the discount is 0. Or the map's time limit is reached,
        and the discount stays 1.

    Args:
        scenario: the map.
        num_envs: B, how many battles run side by side.
        options: SMAC's options and three of ours.
    """

    outcomes = ("battle_won",)
    replay_suffixes = replay.SUFFIXES
    scripts = SCRIPTS

    def __init__(self, scenario: Scenario, num_envs: int, options: Options = Options()):  # noqa: B008 - it is frozen
        self.name = scenario.name
        self.scenario = scenario
        self.num_envs = num_envs
        self.options = options
        self.unit_types = tuple(unit.name for unit in scenario.agents)
        self.episode_limit = scenario.episode_limit
        self.physics = physics.Physics(scenario, scripted_enemies=options.enemy != "game")
        self.task = Task(scenario, options, self.physics)
        self._script = None if options.enemy == "game" else Script(options.enemy, scenario, self.task.enemies)
        n, a = scenario.num_agents, scenario.num_actions
        self.time_step_spec = ts.time_step_spec(
            {
                "obs": tf.TensorSpec([n, self.task.obs_size], tf.float32, "obs"),
                "state": tf.TensorSpec([self.task.state_size], tf.float32, "state"),
                "avail_actions": tf.TensorSpec([n, a], tf.bool, "avail_actions"),
                "alive": tf.TensorSpec([n], tf.bool, "alive"),
            }
        )
        self.action_spec = tensor_spec.BoundedTensorSpec([n], tf.int32, 0, a - 1, "action")

    def resize(self, num_envs: int) -> "Combat":
        return Combat(self.scenario, num_envs, self.options)

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.options)

    def scripted(self, name: str) -> ScriptedPolicy:
        if name not in SCRIPTS:
            super().scripted(name)
        return ScriptedPolicy(self.time_step_spec, self.action_spec, name, self.task)

    def write_replay(
        self, path: pathlib.Path, policy: tf_policy.TFPolicy, seed: Any, num_episodes: int, title: str
    ) -> None:
        replay.write(path, replay.record(self, policy, seed, num_episodes), title)

    def draw(self, seed: tf.Tensor) -> Draws:
        """Draws the random numbers of one env step.

        Args:
            seed: [2] int32.
        Returns:
            The random numbers for B battles; their shapes are in `Draws`.
        """
        u, m, b = len(self.scenario.units), self.scenario.num_enemies, self.num_envs
        spawn, rally, cooldown, order, script = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
        low, high = physics.COOLDOWN_JITTER
        return Draws(
            spawn=tf.random.stateless_uniform([u, b], spawn, -1.0, 1.0),
            rally=tf.random.stateless_uniform([b], rally),
            cooldown=tf.random.stateless_uniform([u, b], cooldown, low, high),
            order=tf.random.stateless_uniform([m, b] if self.options.shuffle_enemies else [0, b], order),
            script=tf.random.stateless_uniform([0 if self._script is None else m, b], script, None, None, tf.uint32),
        )

    def reset(self, seed: tf.Tensor) -> State:
        """Starts B fresh episodes.

        Args:
            seed: [2] int32.
        Returns:
            The state of B battles.
        """
        draws = self.draw(seed)
        zero = tf.zeros_like(draws.rally)
        no_time = tf.zeros([self.num_envs], tf.int32)
        units = self.physics.spawn(draws.spawn)
        start = State(
            units=units,
            rally_x=zero,
            rally_y=zero,
            order=tf.zeros(draws.order.shape, tf.int32),
            last_action=tf.fill([self.scenario.num_agents, self.num_envs], -1),
            available=tf.zeros([self.scenario.num_agents, self.scenario.num_actions, self.num_envs], tf.bool),
            step_count=no_time,
            step_type=no_time + ts.StepType.FIRST,
            reward=zero,
            discount=zero + 1.0,
            battle_won=tf.zeros_like(zero, tf.bool),
            illegal_actions=no_time,
        )
        start = self._with_enemies(start, draws)
        return start._replace(available=self.task.available(units, self.task.agents, self._shown(start.order)))

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> State:
        return self.play(state, action, self.draw(seed))

    def play(self, state: State, action: tf.Tensor, draws: Draws) -> State:
        """Plays one env step, given all its random numbers; `step` draws them from a seed and calls this.

        Battles that are over start anew. They pass through the same operations as the others, but frozen. If both
        outcomes were computed and one chosen afterwards, XLA would compute both of them for every pair of units.

        Args:
            state: the B battles before the step.
            action: [B, N] int32.
            draws: the random numbers of the step.
        Returns:
            The B battles after the step.
        """
        agents, starts = self.task.agents, state.step_type == ts.StepType.LAST
        state = self._with_enemies(state, draws, starts)
        order = self._shown(state.order)
        before = tf.nest.map_structure(
            lambda new, old: tf.where(starts, new, old), self.physics.spawn(draws.spawn), state.units
        )
        action = tf.transpose(action)
        chosen = action[:, None] == np.arange(self.scenario.num_actions)[None, :, None]
        legal = tf.reduce_any(chosen & state.available, axis=1)
        action = tf.where(legal, action, tf.where(state.units.alive[agents.own], STOP, NO_OP))
        orders = tf.nest.map_structure(
            lambda ours, theirs: tf.concat([ours, theirs], axis=0),
            self.task.orders(state.units, action, agents, order),
            self._enemy_orders(state, draws),
        )
        units = self.physics.advance(before, orders, draws.cooldown, self.options.step_mul, frozen=starts)
        step_count = tf.where(starts, 0, state.step_count + 1)
        ending = self.task.ending(units, step_count)
        over = ending.terminated | ending.truncated
        illegal = tf.reduce_sum(tf.cast(~legal & ~starts, tf.int32), axis=0)
        step_type = tf.where(over, ts.StepType.LAST, ts.StepType.MID)
        return State(
            units=units,
            rally_x=state.rally_x,
            rally_y=state.rally_y,
            order=state.order,
            last_action=tf.where(starts, -1, action),
            available=self.task.available(units, agents, order),
            step_count=step_count,
            step_type=tf.where(starts, ts.StepType.FIRST, step_type),
            reward=tf.where(starts, 0.0, self.task.reward(before, units, ending)),
            discount=tf.where(ending.terminated, 0.0, 1.0),
            battle_won=ending.won,
            illegal_actions=state.illegal_actions + illegal,
        )

    def time_step(self, state: State) -> ts.TimeStep:
        observation = self.task.observation(
            state.units, state.last_action, state.available, state.step_count, self._shown(state.order)
        )
        return ts.TimeStep(state.step_type, state.reward, state.discount, observation)

    def info(self, state: State) -> dict[str, tf.Tensor]:
        """Returns facts about the battles that are recorded but not observed.

        Args:
            state: the B battles.
        Returns:
            `battle_won` bool, and `dead_allies`, `dead_enemies` and `illegal_actions` int32, [B] each.
        """
        dead = tf.cast(~state.units.alive, tf.int32)
        n = self.scenario.num_agents
        return {
            "battle_won": state.battle_won,
            "dead_allies": tf.reduce_sum(dead[:n], axis=0),
            "dead_enemies": tf.reduce_sum(dead[n:], axis=0),
            "illegal_actions": state.illegal_actions,
        }

    def _shown(self, order: tf.Tensor) -> tf.Tensor | None:
        return order if self.options.shuffle_enemies else None

    def _with_enemies(self, state: State, draws: Draws, starts: tf.Tensor | bool = True) -> State:
        """Draws the enemies' rally point and their order anew for the battles that start.

        Args:
            state: the B battles.
            draws: the random numbers of the step.
            starts: [B] bool, which battles start; True for all.
        Returns:
            The B battles with the new rally points and orders.
        """
        if self.scenario.attack_segment is not None:
            start, end = self.scenario.attack_segment.astype(np.float32)
            rally = start[:, None] + draws.rally * (end - start)[:, None]
            state = state._replace(
                rally_x=tf.where(starts, rally[0], state.rally_x), rally_y=tf.where(starts, rally[1], state.rally_y)
            )
        return state._replace(order=tf.where(starts, tf.argsort(draws.order, axis=0), state.order))

    def _enemy_orders(self, state: State, draws: Draws) -> physics.Orders:
        """Returns the orders to the enemies, each field [M, B]: their script's, or the one they got at the start."""
        units, side = state.units, self.task.enemies
        if self._script is not None:
            available = self.task.available(units, side)
            return self.task.orders(units, self._script(units, available, draws.script), side)
        return self.physics.opening_orders(state.rally_x, state.rally_y)


def names() -> tuple[str, ...]:
    """Returns the names of SMAC's 23 maps."""
    return scenarios.map_names()


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> Combat:
    """Makes the battle on one of SMAC's maps; `environments.make` calls this.

    Args:
        map_name: one of `names()`.
        num_envs: B, how many battles run side by side.
        seed: not used, because each call of `reset` and `step` takes a seed.
        **options: those of `options.Options`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such map, or an option is unknown or has a wrong value.
    """
    del seed  # each call brings one
    chosen = Options(**options)
    return Combat(scenarios.scenario(map_name, chosen.profile), num_envs, chosen)
