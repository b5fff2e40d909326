"""Scripted teams play by hand-written rules: as baselines to compare with, and as enemies to learn against.

- `random` takes any available action.
- `nearest` attacks the nearest unit in attack distance. If there is none, it walks to the nearest unit.
- `focus_fire` attacks the weakest unit that its weapon reaches, and else does what `nearest` does. While its weapon
  cools down, it backs off from units that it outranges.
- `weakest` goes with all its units for the weakest of all others, and attacks nobody else on the way.
- `kite` does what `nearest` does. While its weapon cools down, it backs off from all who are near, as far as it can
  without losing the next shot.
- `retreat` does what `nearest` does, but while it has strong units, the weak ones go to a healer, or else out of the
  others' reach. There they attack only whom they reach.
- `split` does what `nearest` does, but its units keep apart: on their way, and those that shoot also while their
  weapons cool down.

Healers of all but `random` heal the weakest hurt unit of their side in reach. If nobody is hurt, they follow their
side.

Scripts know where every unit is, as the global state does. They choose among SMAC's actions as agents do.

The letters in all shapes: a side has K units of its own against J others, A actions and B battles, which are the last
axis.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.environments.combat.physics import Units, gather, squared_distance, squared_reach
from tf_marl.environments.combat.task import (
    DIRECTIONS,
    FIRST_ATTACK,
    NO_OP,
    NORTH,
    STOP,
    Side,
    Task,
    attack_distance,
)
from tf_marl.environments.combat.units import LOOPS_PER_SECOND, UnitType

_OUTRANGES = 1.0  # map units; backing off pays if one's reach exceeds the other's by at least this
_DANGER = 1.5  # map units; a unit is in danger if it is nearer than this to the other's reach
_BUSY_COOLDOWN = 4.0  # game loops; a unit that has less to wait attacks instead of backing off
_FOLLOW = 3.0  # map units; a healer and who needs it are together if they are not farther apart than this
_WEAK = 1 / 3  # a unit is weak that has less than this share of its health and shield
_APART = 2.0  # map units; units that split keep this distance from one another
_SHOOTS = 2.0  # map units; a weapon with this range or more shoots
_TIE = 1e-3  # hit points per map unit; of equally weak units the one nearest to the side's middle is the weakest


class View:
    """Holds what a script knows of its battles: K units of its own side, J others, and what its units may do.

    Args:
        task: the rules of the scenario, for the types at hand.
        side: the side to play.
        units: all units, each field [U, B]. Scripts look at place, health, shield and cooldown.
        available: [K, A, B] bool, what each unit may do.
    """

    def __init__(self, task: Task, side: Side, units: Units, available: tf.Tensor):
        self.task, self.side, self.units, self.available = task, side, units, available
        self.types, self.other_types = task.physics.roster[side.own], task.physics.roster[side.others]
        self.alive, self.other_alive = units.alive[side.own], units.alive[side.others]
        self.vitality = units.health + units.shield  # [U, B] hit points and shield points
        self.reach = self.types.pairs(self.other_types, reach)  # [K, J, 1] or [K, J, B] map units
        distance = self.distance_to(side.others)
        # [K, J, B] map units; infinite for the dead and for those whom the unit cannot hit
        self.distance = tf.where(self.other_alive[None] & (self.reach > 0), distance, np.inf)
        first = task.first_attack
        self.attackable = available[:, first : first + distance.shape[1]]  # [K, J, B] bool; of healers: patients

    def distance_to(self, them: slice) -> tf.Tensor:
        """Returns the distances of the side's units to the centres of some others, [K, L, B] map units."""
        x, y = self.units.x, self.units.y
        return tf.sqrt(squared_distance(x[self.side.own], y[self.side.own], x[them], y[them]))

    def shoots(self) -> "np.ndarray | tf.Tensor":
        """Returns which units of the side have weapons for a distance, [K, 1] or [K, B] bool."""
        return self.types.column(lambda unit: unit.weapon is not None and unit.weapon.range >= _SHOOTS)

    def waits(self) -> tf.Tensor:
        """Returns which units of the side cannot attack for a while, [K, B] bool."""
        return self.units.cooldown[self.side.own] > _BUSY_COOLDOWN

    def attack(self, cost: tf.Tensor, goal: tf.Tensor | None = None) -> tf.Tensor:
        """Lets each unit attack the other that costs least, or walk if it may attack none: int32 [K, B].

        Args:
            cost: [K, J, B], infinite for those not to attack.
            goal: [K, J, B], whom to approach: the one with the least; None for the nearest.
        """
        attack = _cheapest(tf.where(self.attackable, cost, np.inf))
        walk = self.approach(self.side.others, self.distance if goal is None else goal)
        return tf.where(attack >= 0, self.task.first_attack + attack, walk)

    def approach(self, them: slice, cost: tf.Tensor) -> tf.Tensor:
        """Returns the available move that leads most toward one of `them`, or stop if none does: int32 [K, B].

        Args:
            them: which of all units to approach.
            cost: [K, L, B], each unit approaches the one of them with the least; infinite for those not to approach.
        """
        chosen = _cheapest(cost)
        row = tf.maximum(chosen, 0)
        dx = gather(self.units.x[them], row) - self.units.x[self.side.own]
        dy = gather(self.units.y[them], row) - self.units.y[self.side.own]
        toward = dx[:, None] * DIRECTIONS[None, :, :1] + dy[:, None] * DIRECTIONS[None, :, 1:]
        useful = self.available[:, NORTH:FIRST_ATTACK] & (toward > 0) & (chosen >= 0)[:, None]
        move = _cheapest(tf.where(useful, -toward, np.inf))
        return tf.where(move >= 0, NORTH + move, STOP)

    def leave(self, them: slice, near: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
        """Lets units leave others by the move that takes them farthest from the nearest of these: int32 [K, B].

        Args:
            them: which of all units to leave.
            near: [K, L, B] bool, whom each unit leaves.
            otherwise: [K, B] int32, the action of a unit that leaves nobody or has no move that helps.
        """
        x, y = self.units.x[self.side.own], self.units.y[self.side.own]

        def squared_room(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            squared = squared_distance(x, y, self.units.x[them], self.units.y[them])
            return tf.reduce_min(tf.where(near, squared, np.inf), axis=1)

        after = tf.stack([squared_room(x + dx, y + dy) for dx, dy in DIRECTIONS], axis=1)
        gains = self.available[:, NORTH:FIRST_ATTACK] & (after > squared_room(x, y)[:, None])
        move = _cheapest(tf.where(gains, -after, np.inf))
        return tf.where(move >= 0, NORTH + move, otherwise)

    def tend(self) -> tf.Tensor:
        """Returns the healers' actions, int32 [K, B]: heal the weakest hurt unit in reach, or follow the others."""
        own, first = self.side.own, self.task.first_attack
        health = self.units.health[own]
        hurt = self.available[:, first : first + health.shape[0]] & (health < self.task.physics.max_health[own])[None]
        patient = _cheapest(tf.where(hurt, health[None], np.inf))
        distance = tf.where(self.alive[None] & ~self.side.heals[None], self.distance_to(own), np.inf)
        alone = tf.reduce_min(distance, axis=1, keepdims=True) > _FOLLOW
        follow = self.approach(own, tf.where(alone, distance, np.inf))
        return tf.where(patient >= 0, first + patient, follow)


def nearest(view: View) -> tf.Tensor:
    """Returns the actions [K, B] of units that attack the nearest, or walk there."""
    return view.attack(view.distance)


def focus_fire(view: View) -> tf.Tensor:
    """Returns the actions [K, B] of units that attack the weakest in reach, and back off from whom they outrange."""
    vitality = view.vitality[view.side.others][None] + view.distance  # of equally weak ones, the nearest
    action = view.attack(tf.where(view.distance <= view.reach, vitality, 1e4 + view.distance))
    near = view.distance < view.types.pairs(view.other_types, _too_near)
    return view.leave(view.side.others, near & view.waits()[:, None], action)


def weakest(view: View) -> tf.Tensor:
    """Returns the actions [K, B] of units that all go for the weakest, and where they cannot, for the nearest."""
    own, others, units = view.side.own, view.side.others, view.units
    living = tf.cast(view.alive, tf.float32)
    count = tf.maximum(tf.reduce_sum(living, axis=0), 1.0)
    middle_x, middle_y = (tf.reduce_sum(living * a[own], axis=0, keepdims=True) / count for a in (units.x, units.y))
    aside = tf.sqrt(squared_distance(middle_x, middle_y, units.x[others], units.y[others]))
    prey = tf.where(view.distance < np.inf, view.vitality[others][None] + _TIE * aside, np.inf)
    prey = tf.where(prey <= tf.reduce_min(prey, axis=1, keepdims=True), prey, np.inf)
    action = view.attack(prey, goal=prey)
    return tf.where(action == STOP, nearest(view), action)


def kite(view: View) -> tf.Tensor:
    """Returns the actions [K, B] of units that attack the nearest, and back off while their weapons cool down."""

    def too_near(unit: UnitType, other: UnitType) -> float:
        # One step farther away, it can still attack. So it never backs off with a weapon for close combat.
        stride = unit.speed / LOOPS_PER_SECOND * view.task.options.step_mul
        shot = min(reach(unit, other), attack_distance(unit, view.task.options, view.task.is_drawn))
        return max(shot - stride, 0.0) if unit.speed else 0.0

    near = view.distance < view.types.pairs(view.other_types, too_near)
    return view.leave(view.side.others, near & view.waits()[:, None], nearest(view))


def retreat(view: View) -> tf.Tensor:
    """Returns the actions [K, B] of units that attack the nearest, or hide if they are weak and a strong one fights."""
    own, others, fight = view.side.own, view.side.others, nearest(view)
    full = (view.task.physics.max_health + view.task.physics.max_shield)[own]
    weak = view.vitality[own] < _WEAK * full
    covered = tf.reduce_any(view.alive & ~weak & ~view.side.heals, axis=0)

    def danger(unit: UnitType, other: UnitType) -> float:
        return reach(other, unit) + _DANGER if reach(other, unit) else 0.0

    in_danger = view.other_alive[None] & (view.distance_to(others) < view.types.pairs(view.other_types, danger))
    reaches = tf.reduce_any(view.attackable & (view.distance <= view.reach), axis=1)
    hides = view.leave(others, in_danger, tf.where(reaches | tf.reduce_any(in_danger, axis=1), fight, STOP))
    if view.side.has_healers:
        can_help = view.types.pairs(view.types, lambda unit, friend: friend.can_heal(unit))
        distance = tf.where(view.alive[None] & can_help, view.distance_to(own), np.inf)
        to_healer = view.approach(own, distance)
        together = tf.reduce_min(distance, axis=1) <= _FOLLOW
        hides = tf.where(together | (to_healer == STOP), hides, to_healer)
    return tf.where(weak & covered[None], hides, fight)


def split(view: View) -> tf.Tensor:
    """Returns the actions [K, B] of units that attack the nearest, and keep apart where that costs no attack."""
    own = view.side.own
    itself = np.eye(len(view.types), dtype=bool)[..., None]
    crowded = view.alive[None] & ~itself & (view.distance_to(own) < _APART)
    attacks = tf.reduce_any(view.attackable, axis=1)
    free = tf.where(attacks, view.waits() & view.shoots(), True)
    return view.leave(own, crowded & free[:, None], nearest(view))


# By name; `random` looks at nothing and is not among them.
_RULES: Mapping[str, Callable[[View], tf.Tensor]] = {
    rule.__name__: rule for rule in (nearest, focus_fire, weakest, kite, retreat, split)
}


def decide(name: str, task: Task, side: Side, units: Units, available: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Chooses an available action for each unit of a side by one of the rules in `options.SCRIPTS`.

    Args:
        name: of the script.
        task: the rules of the scenario, for the types at hand.
        side: the side to play; K units of its own against J others.
        units: all units, each field [U, B].
        available: [K, A, B] bool, what each unit of the side may do.
        noise: [K, B] uint32, uniform; `random` decides by it.
    Returns:
        The actions, [K, B] int32.
    """
    if name == "random":
        return random_legal(available, noise)
    view = View(task, side, units, available)
    action = _RULES[name](view)
    if side.has_healers:
        action = tf.where(side.heals, view.tend(), action)
    return tf.where(view.alive, action, NO_OP)


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
    return float(theirs + _DANGER) if unit.speed and own >= theirs + _OUTRANGES else 0.0


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
        name: one of `options.SCRIPTS`.
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
            action = decide(self._name, task, task.agents, task.units(state), available, noise)
        return policy_step.PolicyStep(tf.transpose(action), policy_state, ())
