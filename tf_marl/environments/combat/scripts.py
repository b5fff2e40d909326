"""Scripted teams play by hand-written rules: as baselines to compare with, and as enemies to learn against.

- `random` takes any available action.
- `nearest` attacks the nearest unit in attack distance. If there is none, it walks to the nearest unit.
- `focus_fire` attacks the weakest unit that its weapon reaches, and else does what `nearest` does. While its weapon
  cools down, it backs off from units that it outranges.

Healers of `nearest` and `focus_fire` heal the weakest hurt unit of their side in reach. If nobody is hurt, they follow
their side.

Scripts know where every unit is, as the global state does. They choose among SMAC's actions as agents do.

The letters in all shapes: a side has K units of its own against J others, A actions and B battles, which are the last
axis.
"""

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.environments.combat.physics import Units, gather, squared_distance, squared_reach
from tf_marl.environments.combat.task import DIRECTIONS, FIRST_ATTACK, NO_OP, NORTH, STOP, Side, Task
from tf_marl.environments.combat.units import UnitType

SCRIPTS = ("random", "nearest", "focus_fire")
_OUTRANGES = 1.0  # map units; backing off pays if one's reach exceeds the other's by at least this
_DANGER = 1.5  # map units; a unit is in danger if it is nearer than this to the other's reach
_BUSY_COOLDOWN = 4.0  # game loops; a unit that has less to wait attacks instead of backing off
_FOLLOW = 3.0  # map units; a healer follows if nobody of its side is nearer than this


class Script:
    """Plays one side of a scenario by one of the rules in `SCRIPTS`.

    Args:
        name: one of `SCRIPTS`.
        task: the rules of the scenario, for the types at hand.
        side: the side to play; K units of its own against J others.
    """

    def __init__(self, name: str, task: Task, side: Side):
        roster = task.physics.roster
        own, others = roster[side.own], roster[side.others]
        self._name = name
        self._side = side
        self._first_attack = task.first_attack
        self._reach = own.pairs(others, reach)
        self._too_near = own.pairs(others, _too_near)
        self._max_health = task.physics.max_health[side.own]

    def __call__(self, units: Units, available: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Chooses an available action for each unit of the side.

        Args:
            units: all units, each field [U, B]. The script looks at place, health, shield and cooldown.
            available: [K, A, B] bool, what each unit may do.
            noise: [K, B] uint32, uniform; `random` decides by it.
        Returns:
            The actions, [K, B] int32.
        """
        if self._name == "random":
            return random_legal(available, noise)
        action = self._fight(units, available)
        if self._side.has_healers:
            action = tf.where(self._side.heals, self._tend(units, available), action)
        return tf.where(units.alive[self._side.own], action, NO_OP)

    def _fight(self, units: Units, available: tf.Tensor) -> tf.Tensor:
        own, others = self._side.own, self._side.others
        x, y = units.x[own], units.y[own]
        distance = tf.sqrt(squared_distance(x, y, units.x[others], units.y[others]))
        distance = tf.where(units.alive[others][None] & (self._reach > 0), distance, np.inf)
        attackable = available[:, self._first_attack : self._first_attack + distance.shape[1]]
        cost = distance
        if self._name == "focus_fire":
            vitality = (units.health + units.shield)[others][None] + distance  # of equally weak ones, the nearest
            cost = tf.where(distance <= self._reach, vitality, 1e4 + distance)
        attack = _cheapest(tf.where(attackable, cost, np.inf))
        action = tf.where(attack >= 0, self._first_attack + attack, self._approach(units, available, others, distance))
        if self._name == "focus_fire":
            action = self._back_off(units, available, distance, action)
        return action

    def _approach(self, units: Units, available: tf.Tensor, them: slice, distance: tf.Tensor) -> tf.Tensor:
        """Returns the available move that leads most toward the nearest of `them`, or stop if none does: int32 [K, B].

        Args:
            units: all units, each field [U, B].
            available: [K, A, B] bool.
            them: which of all units to approach.
            distance: [K, J, B] map units to them; infinite for those not to approach.
        """
        nearest = _cheapest(distance)
        row = tf.maximum(nearest, 0)
        dx = gather(units.x[them], row) - units.x[self._side.own]
        dy = gather(units.y[them], row) - units.y[self._side.own]
        toward = dx[:, None] * DIRECTIONS[None, :, :1] + dy[:, None] * DIRECTIONS[None, :, 1:]
        useful = available[:, NORTH:FIRST_ATTACK] & (toward > 0) & (nearest >= 0)[:, None]
        move = _cheapest(tf.where(useful, -toward, np.inf))
        return tf.where(move >= 0, NORTH + move, STOP)

    def _back_off(self, units: Units, available: tf.Tensor, distance: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Lets units that wait for their weapons back off from units that they outrange.

        Args:
            units: all units, each field [U, B].
            available: [K, A, B] bool.
            distance: [K, J, B] map units to the others.
            action: [K, B] int32.
        Returns:
            The actions, [K, B] int32. A unit backs off by the move that takes it farthest from the nearest such unit.
        """
        own, others = self._side.own, self._side.others
        threatens = distance < self._too_near  # [K, J, B]

        def nearest_threat(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            squared = squared_distance(x, y, units.x[others], units.y[others])
            return tf.reduce_min(tf.where(threatens, squared, np.inf), axis=1)

        x, y = units.x[own], units.y[own]
        after = tf.stack([nearest_threat(x + dx, y + dy) for dx, dy in DIRECTIONS], axis=1)
        gains = available[:, NORTH:FIRST_ATTACK] & (after > nearest_threat(x, y)[:, None])
        move = _cheapest(tf.where(gains, -after, np.inf))
        waits = (units.cooldown[own] > _BUSY_COOLDOWN) & tf.reduce_any(threatens, axis=1)
        return tf.where(waits & (move >= 0), NORTH + move, action)

    def _tend(self, units: Units, available: tf.Tensor) -> tf.Tensor:
        """Returns the healers' actions, int32 [K, B]: heal the weakest hurt unit in reach, or follow the others."""
        own = self._side.own
        health = units.health[own]
        hurt = (
            available[:, self._first_attack : self._first_attack + health.shape[0]] & (health < self._max_health)[None]
        )
        patient = _cheapest(tf.where(hurt, health[None], np.inf))
        distance = tf.sqrt(squared_distance(units.x[own], units.y[own], units.x[own], units.y[own]))
        distance = tf.where(units.alive[own][None] & ~self._side.heals[None], distance, np.inf)
        alone = tf.reduce_min(distance, axis=1, keepdims=True) > _FOLLOW
        follow = self._approach(units, available, own, tf.where(alone, distance, np.inf))
        return tf.where(patient >= 0, self._first_attack + patient, follow)


def random_legal(available: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Draws one of the available actions for each unit, all with the same probability.

    One random number is drawn for each unit and then mixed with each action's number by MurmurHash3's finaliser.
    Drawing a number for every action would take longer than a step of a small battle.

    Args:
        available: [K, A, B] bool; at least one action of each unit is available.
        noise: [K, B] uint32, uniform.
    Returns:
        The actions, [K, B] int32.
    """
    actions = np.arange(available.shape[1], dtype=np.uint32)[None, :, None]
    mixed = noise[:, None] + actions * np.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, np.uint32(shift))) * np.uint32(factor)
    low_bits = (1 << (available.shape[1] - 1).bit_length()) - 1
    rank = tf.cast(tf.bitwise.right_shift(mixed, np.uint32(1)), tf.int32)
    rank = tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(rank, ~low_bits), actions.astype(np.int32))
    return tf.bitwise.bitwise_and(tf.reduce_max(tf.where(available, rank, -1), axis=1), low_bits)


def reach(unit: UnitType, other: UnitType) -> float:
    """Returns the distance between centres, in map units, at which `unit` hits `other`; 0 if it cannot hit it."""
    return max(squared_reach(unit, other), 0.0) ** 0.5


def _too_near(unit: UnitType, other: UnitType) -> float:
    """Returns the distance within which `unit` backs off from `other`, in map units; 0 if it does not outrange it."""
    own, theirs = np.float32(reach(unit, other)), np.float32(reach(other, unit))
    return float(theirs + _DANGER) if own >= theirs + _OUTRANGES else 0.0


def _cheapest(cost: tf.Tensor) -> tf.Tensor:
    """Returns the first of the least costly entries along J, [K, B] int32; -1 where all are infinite.

    Args:
        cost: [K, J, B].
    """
    best = tf.argmin(cost, axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_min(cost, axis=1) < np.inf, best, -1)


class ScriptedPolicy(tf_policy.TFPolicy):
    """Plays the agents' side by a script, as a TF-Agents policy.

    The policy reads the global state, so the options must leave SMAC's state as it is.

    Args:
        time_step_spec: the world's.
        action_spec: the world's.
        name: one of `SCRIPTS`.
        task: the rules of the map that is played.
    Raises:
        ValueError: an option hides what the script needs to know; the message names it.
    """

    def __init__(self, time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, name: str, task: Task):
        wanted = {"obs_instead_of_state": False, "shuffle_enemies": False, "conic_fov": False, "action_mask": True}
        for option, value in wanted.items():
            if getattr(task.options, option) != value and name != "random":
                raise ValueError(f"environment.{option}: scripted teams need it to be {value}")
        super().__init__(time_step_spec, action_spec, clip=False)
        self._task = task
        self._name = name

    def _variables(self):
        return []

    def _action(self, time_step, policy_state, seed=None):
        observation = time_step.observation
        available = tf.transpose(observation["avail_actions"], [1, 2, 0])
        shape = [available.shape[0], tf.shape(available)[2]]
        if seed is None:
            noise = tf.bitcast(tf.random.uniform(shape, tf.int32.min, tf.int32.max, tf.int32), tf.uint32)
        else:
            noise = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32)
        if self._name == "random":
            action = random_legal(available, noise)
        else:
            task, state = self._task, observation["state"]
            if task.is_drawn:
                task = task.of_kinds(task.read_kinds(state))
            action = Script(self._name, task, task.agents)(task.units(state), available, noise)
        return policy_step.PolicyStep(tf.transpose(action), policy_state, ())
