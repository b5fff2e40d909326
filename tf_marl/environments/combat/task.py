"""SMAC's rules turn a battle into a task: they define actions, observations, state, reward and the end of an episode.

Agents see what SMAC's agents see, column for column. That includes SMAC's oddities:

- An agent may attack any living enemy within 6 map units, whatever its weapon.
- A healer's attack actions heal agents, and the column `attackable` of its enemy rows says which agents it may heal.
- On maps with stalkers and zealots, the type bits of the enemies are in reversed order.
- Cooldowns are divided by SMAC's own constants.
- The reward is the absolute value of the damage term. So a step in which enemies only recover pays a positive reward.

SMACv2's scenarios follow SMACv2's code instead, where it differs: agents attack and see as far as their type does, they
observe their own place, and a step in which enemies only recover pays nothing.

The letters in all shapes: N agents, M enemies, U = N + M units, A actions, O observation and S state features, B
battles. B is the last axis, as in `physics.py`. Only `observation` returns B first.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat import physics
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.physics import NOBODY, Orders, Units
from tf_marl.environments.combat.roster import Roster
from tf_marl.environments.combat.scenarios import MAP_SIZE, MAP_TYPES_WITH_MEDIVACS, Scenario
from tf_marl.environments.combat.units import DATA, UnitType

# With a conic field of view, the actions that look come in between: then attacks begin at `Task.first_attack`.
NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_ATTACK = range(7)
DIRECTIONS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], np.float32)  # of NORTH, SOUTH, EAST, WEST
_ATTACK_DISTANCE = 6.0  # map units, centre to centre, inclusive
_SIGHT = 9.0  # map units, centre to centre, exclusive
TINY = 1e-7  # map units; SMACv2 divides by no less than this where it takes an angle
# Offsets of the 8 points whose pathability agents can observe, in move amounts from the agent's cell.
PATHING_POINTS = np.array([[0, 2], [0, -2], [2, 0], [-2, 0], [1, 1], [-1, -1], [1, -1], [-1, 1]])


class Ending(NamedTuple):
    """Says how battles stand after a step, each field [B] bool."""

    won: tf.Tensor
    lost: tf.Tensor
    terminated: tf.Tensor  # won, lost or drawn
    truncated: tf.Tensor  # none of these, but the time is up


class Side(NamedTuple):
    """Describes one of the two sides of a battle: K units of its own against J others."""

    own: slice  # of all units
    others: slice
    heals: "np.ndarray | tf.Tensor"  # [K, 1] or [K, B] bool
    has_healers: bool  # whether it may have one, where types are drawn
    num_targets: int  # attack actions: J, or K if that is more and the side has healers


class Sightings(NamedTuple):
    """Holds what agents may see of the enemies where one's sighting is not everyone's."""

    spotter: tf.Tensor  # [M, B] int32, the agent that saw the enemy first, or NOBODY
    shown: tf.Tensor  # [N, M, B] bool, which agents may see the enemy if it is in their sight
    looked_up: tf.Tensor  # [N, M, B] bool, `shown` as it was when the agent observed; SMACv2's agents do so in turn

    @classmethod
    def none(cls, num_agents: int, num_enemies: int, num_battles: int) -> "Sightings":
        """Returns the sightings before anybody has looked.

        Args:
            num_agents: N.
            num_enemies: M.
            num_battles: B.
        """
        nobody = tf.zeros([num_agents, num_enemies, num_battles], tf.bool)
        return cls(tf.fill([num_enemies, num_battles], NOBODY), nobody, nobody)


def attack_distance(unit: UnitType, options: Options, is_drawn: bool) -> float:
    """Returns how far from a unit's centre those of its targets may be, in map units; that far is still near enough.

    Args:
        unit: the type of the unit.
        options: SMAC's options.
        is_drawn: whether the scenario is one of SMACv2's.
    """
    if not _chosen(options.use_unit_ranges, is_drawn):
        return _ATTACK_DISTANCE
    # SMACv2 has no structures.
    return max(DATA["smacv2"]["shoot_range"].get(unit.name, _ATTACK_DISTANCE), options.min_attack_range)


def sight_range(unit: UnitType, options: Options, is_drawn: bool) -> float:
    """Returns how far from a unit's centre those of other units are seen, in map units; that far is too far.

    Args:
        unit: the type of the unit.
        options: SMAC's options.
        is_drawn: whether the scenario is one of SMACv2's.
    """
    if not _chosen(options.use_unit_ranges, is_drawn):
        return _SIGHT
    return DATA["smacv2"]["sight_range"].get(unit.name, _SIGHT)


def _chosen(option: bool | None, by_default: bool) -> bool:
    return by_default if option is None else option


def _type_bits(roster: Roster, bits: tuple[str, ...]) -> list:
    """Returns a column for each type that `bits` names: [I, 1] or [I, B], 1 where a unit is of it and else 0."""

    def is_called(name: str, unit: UnitType) -> float:
        return float(unit.name == name)

    return [roster.column(functools.partial(is_called, name)) for name in bits]


def _flatten_rows(columns: list[tf.Tensor]) -> tf.Tensor:
    """Joins K columns [I, J, B] into rows, one after the other: [I, J * K, B]."""
    rows = tf.stack(columns, axis=2)
    i, j, k, b = rows.shape
    return tf.reshape(rows, [i, j * k, b])


def reorder(values: tf.Tensor, order: tf.Tensor | None) -> tf.Tensor:
    """Puts the J axis of some values in a given order, in each battle.

    Args:
        values: [I, J, B].
        order: [J, B] int32, which of the J comes at each place; None leaves the values as they are.
    Returns:
        The reordered values, [I, J, B].
    """
    if order is None:
        return values
    i, j, b = values.shape
    rows = (tf.range(i)[:, None, None] * j + order[None]) * b + tf.range(b)
    return tf.gather(tf.reshape(values, [-1]), rows)


class Task:
    """Holds SMAC's rules for one scenario, as pure functions of tensors.

    Args:
        scenario: the map.
        options: SMAC's options.
        laws: the physics of the same scenario.
    """

    def __init__(self, scenario: Scenario, options: Options, laws: physics.Physics):
        self.scenario = scenario
        self.options = options
        self.physics = laws
        self.is_drawn = scenario.lottery is not None
        roster = laws.roster
        n, m = self._n, self._m = scenario.num_agents, scenario.num_enemies
        self._heals = roster.column(lambda unit: unit.heal is not None)
        self.agents = self._side(roster, slice(0, n), slice(n, n + m))
        self.enemies = self._side(roster, slice(n, n + m), slice(0, n))
        # Actions: no-op, stop, four moves, `num_looks` directions to look in, and an attack on each enemy. A healer
        # heals agent j with the action that attacks enemy j; where there are more agents than enemies, with one more.
        self.num_looks = options.num_fov_actions if options.conic_fov else 0
        self.first_attack = FIRST_ATTACK + self.num_looks
        self.num_actions = self.first_attack + self.agents.num_targets
        self.has_sightings = options.prob_obs_enemy < 1 or options.wipe_rows
        # An agent whose action is no order to its unit leaves it the last one.
        self.orders_last = options.conic_fov or not options.action_mask
        looks = 2 * np.pi * np.arange(self.num_looks) / max(self.num_looks, 1)
        self.look_directions = np.stack([np.cos(looks), np.sin(looks)], axis=1)  # [looks, 2], of length 1
        self._attack_distance = roster.column(lambda unit: attack_distance(unit, options, self.is_drawn))
        self._sight = roster[:n].column(lambda unit: sight_range(unit, options, self.is_drawn))
        # A side that has only healers left has lost on some maps; on the others, every unit counts.
        self._healers_lose = scenario.map_type in MAP_TYPES_WITH_MEDIVACS
        self._fights = roster.column(lambda unit: unit.heal is None or not self._healers_lose)
        self._agent_bits = _type_bits(roster[:n], scenario.agent_type_bits)
        self._enemy_bits = _type_bits(roster[n:], scenario.enemy_type_bits)
        self._cooldown_normaliser = roster[:n].column(lambda unit: unit.cooldown_normaliser)
        vitality = roster[n:].column(lambda enemy: enemy.hit_points + enemy.shield_points)
        # The largest return before scaling, a number or [B].
        self.max_reward = options.reward_death_value * m + options.reward_win
        self.max_reward += tf.reduce_sum(vitality, axis=0) if roster.is_drawn else float(vitality.sum())

        agent_bits, enemy_bits = len(scenario.agent_type_bits), len(scenario.enemy_type_bits)
        agent_health, enemy_health = 1 + scenario.agent_shields, 1 + scenario.enemy_shields
        # Numbers of columns: of the observation's parts, and of each row in them.
        self.move_columns = len(DIRECTIONS) + len(PATHING_POINTS) * options.obs_pathing_grid
        self.enemy_columns = 4 + options.obs_all_health * enemy_health + enemy_bits
        self.agent_columns = 4 + options.obs_all_health * agent_health + agent_bits
        self.agent_columns += options.obs_last_action * self.num_actions
        self.own_columns = self.sees_own_health * agent_health + agent_bits + options.obs_timestep_number
        self.own_columns += 2 * self.sees_own_place + 2 * options.conic_fov
        self.obs_size = self.move_columns + m * self.enemy_columns + (n - 1) * self.agent_columns + self.own_columns
        self.agent_state_columns = 3 + agent_health + 2 * options.conic_fov + agent_bits
        self.enemy_state_columns = 2 + enemy_health + enemy_bits
        self.state_size = n * self.agent_state_columns + m * self.enemy_state_columns
        self.state_size += options.state_last_action * n * self.num_actions + options.state_timestep_number
        if options.obs_instead_of_state:
            self.state_size = n * self.obs_size

    def of_kinds(self, kinds: tf.Tensor) -> "Task":
        """Returns the same rules for battles of other unit types.

        Args:
            kinds: [U, B] int32, which of the scenario's types each unit is.
        """
        assert self.scenario.lottery is not None, f"{self.scenario.name} draws no types"
        roster = Roster(self.scenario.lottery.types, kinds)
        return Task(self.scenario, self.options, self.physics.of_roster(roster))

    @property
    def sees_own_health(self) -> bool:
        """Returns whether agents observe their own health; `obs_all_health` implies it."""
        return self.options.obs_own_health or self.options.obs_all_health

    @property
    def has_unit_ranges(self) -> bool:
        """Returns whether each type of unit has a sight range and an attack distance of its own."""
        return _chosen(self.options.use_unit_ranges, self.is_drawn)

    @property
    def sees_own_place(self) -> bool:
        """Returns whether agents observe where they are on the map."""
        return _chosen(self.options.obs_own_pos, self.is_drawn)

    def _side(self, roster: Roster, own: slice, others: slice) -> Side:
        has_healers = roster[own].some(lambda unit: unit.heal)
        num_others = others.stop - others.start
        num_targets = max(num_others, own.stop - own.start) if has_healers else num_others
        return Side(own, others, self._heals[own], has_healers, num_targets)

    def available(
        self,
        units: Units,
        side: Side,
        order: tf.Tensor | None = None,
        look: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns which actions the units of a side may take.

        A dead unit may only take the no-op, and a living one anything but the no-op.

        Args:
            units: all units, each field [U, B].
            side: the side, with K units.
            order: [J, B] int32, which of the other side's units each attack action names; None for the map's order.
            look: [K, B] int32, in which direction each unit looks, with a conic field of view.
        Returns:
            [K, 6 + num_targets, B] bool; more actions with a conic field of view.
        """
        x, y, alive = units.x[side.own], units.y[side.own], units.alive[side.own]
        probe = DIRECTIONS[:, :, None] * (self.options.move_amount / 2)
        moves = self.physics.is_pathable(x[:, None] + probe[:, 0], y[:, None] + probe[:, 1])
        is_agents = side is self.agents
        targets = self.targets(units, side, order, look, anywhere=is_agents and not self.options.action_mask)
        living = alive[:, None]
        # Scripted enemies never look: they see everything.
        looks = [tf.tile(living & is_agents, [1, self.num_looks, 1])] if self.num_looks else []
        return tf.concat([~living, living, living & moves, *looks, living & targets], axis=1)

    def targets(
        self,
        units: Units,
        side: Side,
        order: tf.Tensor | None = None,
        look: tf.Tensor | None = None,
        anywhere: bool = False,
    ) -> tf.Tensor:
        """Returns which attacks (of healers: which patients) are near enough for the units of a side.

        Args:
            units: all units, each field [U, B].
            side: the side, with K units.
            order: [J, B] int32, which of the other side's units each attack action names; None for the map's order.
            look: [K, B] int32, in which direction each unit looks, with a conic field of view.
            anywhere: whether every living unit is near enough.
        Returns:
            [K, num_targets, B] bool.
        """
        x, y = units.x[side.own], units.y[side.own]
        within = tf.square(self._attack_distance[side.own])[:, None]

        def near(them: slice) -> tf.Tensor:
            alive = units.alive[them][None]
            if anywhere:
                return tf.tile(alive, [x.shape[0], 1, 1])
            near = physics.squared_distance(x, y, units.x[them], units.y[them]) <= within
            if look is not None:
                near &= self._in_cone(units.x[them][None] - x[:, None], units.y[them][None] - y[:, None], look)
            return near & alive

        targets = reorder(near(side.others), order)
        if side.has_healers:
            patients = near(side.own) & ~self._heals[side.own][None]
            targets = tf.where(side.heals[:, None], self._widen(patients, side), self._widen(targets, side))
        return targets

    def _in_cone(self, dx: tf.Tensor, dy: tf.Tensor, look: tf.Tensor) -> tf.Tensor:
        """Returns whether others are in the cones that units look into, by SMACv2's arctangents: [K, J, B] bool.

        Args:
            dx: [K, J, B] map units from the unit to the other.
            dy: [K, J, B] map units.
            look: [K, B] int32, the direction in which the unit looks.
        """
        angle = tf.atan(dy / tf.where(dx > 0, tf.maximum(dx, TINY), tf.minimum(dx, -TINY)))
        # The cone's own angle depends on the side on which the other is, because SMACv2 moves its x to that side.
        x, y = self.look_directions.T
        to_the_east = np.arctan(y / np.maximum(x, TINY)).astype(np.float32)
        to_the_west = np.arctan(y / np.minimum(x, -TINY)).astype(np.float32)
        middle = tf.where(dx > 0, tf.gather(to_the_east, look)[:, None], tf.gather(to_the_west, look)[:, None])
        return tf.abs(angle - middle) < np.pi / self.num_looks

    @staticmethod
    def _widen(targets: tf.Tensor, side: Side) -> tf.Tensor:
        return tf.pad(targets, [[0, 0], [0, side.num_targets - targets.shape[1]], [0, 0]])

    def orders(self, units: Units, action: tf.Tensor, side: Side, order: tf.Tensor | None = None) -> Orders:
        """Translates the actions of a side into orders to its units.

        Args:
            units: all units, each field [U, B].
            action: [K, B] int32; every action is available.
            side: the side, with K units.
            order: [J, B] int32, which of the other side's units each attack action names; None for the map's order.
        Returns:
            The orders, each field [K, B].
        """
        direction = action[:, None] == np.arange(NORTH, FIRST_ATTACK)[None, :, None]
        step = tf.cast(direction, tf.float32) * self.options.move_amount
        attacks = action >= self.first_attack
        slot = tf.where(attacks, action - self.first_attack, 0)
        other = slot if order is None else physics.gather(order, slot)
        target = tf.where(side.heals, slot + side.own.start, other + side.others.start)
        return Orders(
            target=tf.where(attacks, target, NOBODY),
            moves=tf.reduce_any(direction, axis=1),
            x=units.x[side.own] + tf.reduce_sum(step * DIRECTIONS[None, :, :1], axis=1),
            y=units.y[side.own] + tf.reduce_sum(step * DIRECTIONS[None, :, 1:], axis=1),
        )

    def is_order(self, action: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns which of the agents' actions order their units to do something, [N, B] bool.

        A look is no order, and neither is an attack on somebody who is too far away.

        Args:
            action: [N, B] int32; every action is available.
            targets: [N, num_targets, B] bool, who is near enough.
        """
        chosen = action[:, None] == np.arange(self.first_attack, self.num_actions)[None, :, None]
        return (action < FIRST_ATTACK) | tf.reduce_any(chosen & targets, axis=1)

    def look(self, look: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Returns in which direction each agent looks after an action, [N, B] int32.

        Args:
            look: [N, B] int32, the direction before it.
            action: [N, B] int32.
        """
        turns = (action >= FIRST_ATTACK) & (action < self.first_attack)
        return tf.where(turns, action - FIRST_ATTACK, look)

    def sightings(
        self, before: Sightings, units: Units, look: tf.Tensor | None, turn: tf.Tensor, chance: tf.Tensor
    ) -> Sightings:
        """Lets the agents look for enemies one after the other, by SMACv2's extended partial observability.

        An enemy belongs to the first agent that has it in sight, until one of the two dies. When the agent finds it,
        each other agent gets to see it too with probability `prob_obs_enemy`, should it come into its sight.

        Args:
            before: the sightings before the step.
            units: all units after the step, each field [U, B].
            look: [N, B] int32, in which direction the agents look, with a conic field of view.
            turn: [N, B], the agents look in the order of these numbers.
            chance: [N, M, B] uniform in [0, 1).
        Returns:
            The sightings after the step.
        """
        n = self._n
        ids = np.arange(n, dtype=np.int32)[:, None, None]
        alive, enemy_alive = units.alive[:n], units.alive[n:]
        spotter_lives = physics.gather(alive, tf.maximum(before.spotter, 0)) & (before.spotter != NOBODY)
        spotter = tf.where(spotter_lives & enemy_alive, before.spotter, NOBODY)
        shown = before.shown & (spotter != NOBODY)[None]
        # Agents also find the dead where they lie; that counts only where rows are wiped.
        in_sight = self._in_sight(units, look)[:, n:] & alive[:, None]
        rank = tf.reduce_sum(tf.cast(turn[None] < turn[:, None], tf.int32), axis=1)[:, None]  # [N, 1, B]
        first = tf.reduce_min(tf.where(in_sight, rank, n), axis=0)  # [M, B], n if nobody has it in sight
        found = (spotter == NOBODY) & (first < n)
        finds = found[None] & (rank == first[None])
        now = finds | (found[None] & (chance < self.options.prob_obs_enemy))
        spotter = tf.where(found, tf.reduce_max(tf.where(finds, ids, NOBODY), axis=0), spotter)
        return Sightings(spotter, shown | now, shown | (now & (rank >= first[None])))

    def _in_sight(self, units: Units, look: tf.Tensor | None) -> tf.Tensor:
        """Returns which units are in the agents' sight, dead or alive: [N, U, B] bool."""
        dx = units.x[None] - units.x[: self._n][:, None]
        dy = units.y[None] - units.y[: self._n][:, None]
        squared, within = tf.square(dx) + tf.square(dy), tf.square(self._sight)[:, None]
        if look is None:
            return squared < within
        return (squared <= within) & self._in_cone(dx, dy, look)

    def ending(self, units: Units, step_count: tf.Tensor) -> Ending:
        """Decides how the battles stand.

        Args:
            units: all units after the step, each field [U, B].
            step_count: [B] int32, env steps into the episode.
        Returns:
            The ending, each field [B] bool.
        """
        fighting = units.alive & self._fights
        agents = tf.reduce_any(fighting[: self._n], axis=0)
        enemies = tf.reduce_any(fighting[self._n :], axis=0)
        terminated = ~agents | ~enemies
        return Ending(
            won=agents & ~enemies,
            lost=~agents & (enemies | self._healers_lose),
            terminated=terminated,
            truncated=~terminated & (step_count >= self.scenario.episode_limit),
        )

    def battle_reward(self, before: Units, after: Units) -> tf.Tensor:
        """Computes the part of the reward that damage and deaths earn, before scaling. It is 0 with `reward_sparse`.

        With the default options it is the damage dealt to the enemies (hit points and shield points) and 10 for each
        kill.

        Args:
            before: all units before the step, each field [U, B].
            after: all units after the step, each field [U, B].
        Returns:
            [B].
        """
        options, n = self.options, self._n
        damage = before.health + before.shield - after.health - after.shield
        damage = tf.where(before.alive, damage, 0.0)
        deaths = options.reward_death_value * tf.cast(before.alive & ~after.alive, tf.float32)
        dealt = tf.reduce_sum((damage + deaths)[n:], axis=0)
        if options.reward_sparse:
            return tf.zeros_like(dealt)
        if options.reward_only_positive:
            return tf.maximum(dealt, 0.0) if self.is_drawn else tf.abs(dealt)
        return dealt - options.reward_negative_scale * tf.reduce_sum((damage + deaths)[:n], axis=0)

    def reward(
        self, before: Units, after: Units, ending: Ending, max_reward: "float | tf.Tensor | None" = None
    ) -> tf.Tensor:
        """Computes the team's reward for a step.

        It adds the bonus for a win (by default 200) or a defeat (by default 0) to `battle_reward`. Then it scales the
        sum, by default so that a clean win returns 20 over the episode.

        Args:
            before: all units before the step, each field [U, B].
            after: all units after the step, each field [U, B].
            ending: how the battles stand after the step.
            max_reward: the return by which the reward is scaled, a number or [B]; None for that of these teams.
        Returns:
            [B].
        """
        options = self.options
        max_reward = self.max_reward if max_reward is None else max_reward
        won, lost = tf.cast(ending.won, tf.float32), tf.cast(ending.lost, tf.float32)
        win, defeat = (1.0, -1.0) if options.reward_sparse else (options.reward_win, options.reward_defeat)
        reward = self.battle_reward(before, after) + (win * won + defeat * lost)
        return reward * (options.reward_scale_rate / max_reward if options.reward_scale else 1.0)

    def observation(
        self,
        units: Units,
        last_action: tf.Tensor,
        available: tf.Tensor,
        step_count: tf.Tensor,
        order: tf.Tensor | None = None,
        look: tf.Tensor | None = None,
        sightings: Sightings | None = None,
    ) -> dict[str, tf.Tensor]:
        """Returns what agents and critic observe, with the battles as the first axis.

        Args:
            units: all units, each field [U, B].
            last_action: [N, B] int32, -1 before the first step.
            available: [N, A, B] bool.
            step_count: [B] int32, env steps into the episode.
            order: [M, B] int32, which enemy each enemy row shows; None for the map's order.
            look: [N, B] int32, in which direction the agents look, with a conic field of view.
            sightings: what agents may see of the enemies; None for all that is in sight.
        Returns:
            `obs` [B, N, O], `state` [B, S], `avail_actions` bool [B, N, A] and `alive` bool [B, N].
        """
        n = self._n
        time = tf.cast(step_count, tf.float32) / self.scenario.episode_limit
        obs = tf.transpose(self._obs(units, last_action, available, time, order, look, sightings), [2, 0, 1])
        if self.options.obs_instead_of_state:
            state = tf.reshape(obs, [obs.shape[0], -1])
        else:
            state = tf.transpose(self._state(units, last_action, time, order, look))
        return {
            "obs": obs,
            "state": state,
            "avail_actions": tf.transpose(available, [2, 0, 1]),
            "alive": tf.transpose(units.alive[:n]),
        }

    def _fractions(self, units: Units) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns health and shield of all units as fractions of their full values, [U, B] each."""
        # Sides without shields never show them; the maximum avoids 0 / 0.
        return units.health / self.physics.max_health, units.shield / tf.maximum(self.physics.max_shield, 1.0)

    def _actions_one_hot(self, last_action: tf.Tensor) -> tf.Tensor:
        """Returns the last actions as one-hot vectors, [N, A, B]; zeros before the first step."""
        return tf.cast(last_action[:, None] == np.arange(self.num_actions)[None, :, None], tf.float32)

    def _obs(
        self,
        units: Units,
        last_action: tf.Tensor,
        available: tf.Tensor,
        time: tf.Tensor,
        order: tf.Tensor | None,
        look: tf.Tensor | None,
        sightings: Sightings | None,
    ) -> tf.Tensor:
        """Returns the observations [N, O, B]: moves, enemy rows, rows of the other agents, own health and type, time.

        Rows of units that the agent does not see are zero. All of a dead agent's observation but the time is zero.
        """
        n, scenario, options = self._n, self.scenario, self.options
        alive = units.alive
        health, shield = self._fractions(units)
        dx = units.x[None] - units.x[:n][:, None]  # [N, U, B]
        dy = units.y[None] - units.y[:n][:, None]
        distance = tf.sqrt(tf.square(dx) + tf.square(dy))
        sees = alive[:n][:, None] & alive[None] & self._in_sight(units, look)
        if sightings is not None:
            sees = tf.concat([sees[:, :n], sees[:, n:] & self._may_be_seen(sightings, order)], axis=1)
        seen, sight = tf.cast(sees, tf.float32), self._sight[:, None]

        def rows(others: slice, first: tf.Tensor | None, shields: bool, bits: list, order) -> list[tf.Tensor]:
            """Returns the columns about some of the units, [N, J, B] each.

            Args:
                others: which of all units.
                first: [N, J, B], the first column in the order that is shown; None for 1.
                shields: whether these units have shields.
                bits: the columns of their types' one-hot vectors, [J, 1] or [J, B] each.
                order: [J, B] int32, the order in which they are shown; None for the map's.
            """
            mask = seen[:, others]
            columns = [mask * column[:, others] / sight for column in (distance, dx, dy)]
            if options.obs_all_health:
                columns += [mask * health[None, others]] + [mask * shield[None, others]] * shields
            columns += [mask * bit[None] for bit in bits]
            mask = reorder(mask, order)
            return [mask if first is None else mask * first, *(reorder(column, order) for column in columns)]

        attackable = available[:, self.first_attack :]
        if not options.action_mask:
            attackable = alive[:n][:, None] & self.targets(units, self.agents, order, look)
        attackable = tf.cast(attackable[:, : self._m], tf.float32)
        enemy_rows = _flatten_rows(rows(slice(n, None), attackable, scenario.enemy_shields, self._enemy_bits, order))
        agent_columns = rows(slice(0, n), None, scenario.agent_shields, self._agent_bits, None)
        if options.obs_last_action:
            actions = self._actions_one_hot(last_action)
            agent_columns += [seen[:, :n] * actions[None, :, a] for a in range(self.num_actions)]
        agent_rows = _flatten_rows(agent_columns)
        # An agent sees no row of itself: drop row i of agent i.
        width = self.agent_columns
        agent_rows = tf.stack(
            [tf.concat([agent_rows[i, : i * width], agent_rows[i, (i + 1) * width :]], axis=0) for i in range(n)]
        )
        living = tf.cast(alive[:n], tf.float32)[:, None]
        own = [health[:n]] + [shield[:n]] * scenario.agent_shields if self.sees_own_health else []
        if self.sees_own_place:
            own += [units.x[:n] / MAP_SIZE, units.y[:n] / MAP_SIZE]
        own += self._look_columns(look)
        own += [tf.zeros_like(health[:n]) + bit for bit in self._agent_bits]
        blocks = [tf.cast(available[:, NORTH:FIRST_ATTACK], tf.float32)]
        if options.obs_pathing_grid:
            blocks += [living * self._pathing(units)]
        blocks += [enemy_rows, agent_rows]
        if own:
            blocks += [living * tf.stack(own, axis=1)]
        if options.obs_timestep_number:
            blocks += [tf.zeros_like(living) + time]
        return tf.concat(blocks, axis=1)

    def _look_columns(self, look: tf.Tensor | None) -> list[tf.Tensor]:
        """Returns x and y of the directions in which the agents look, [N, B] each; nothing without a field of view."""
        return [] if look is None else [tf.gather(a.astype(np.float32), look) for a in self.look_directions.T]

    def _may_be_seen(self, sightings: Sightings, order: tf.Tensor | None) -> tf.Tensor:
        """Returns which enemies agents may see if they are in their sight, [N, M, B] bool, in the map's order."""
        shown = sightings.looked_up
        if not self.options.wipe_rows:
            return shown
        rows = reorder(shown, order)
        # A row stays if this one and all later ones may be seen.
        later = tf.reverse(tf.math.cumprod(tf.reverse(tf.cast(rows, tf.int32), [1]), axis=1), [1])
        back = None if order is None else tf.argsort(order, axis=0)
        return reorder(later, back) > 0

    def _pathing(self, units: Units) -> tf.Tensor:
        """Returns for 8 points around each agent 1 if they are pathable or off the map, else 0: [N, 8, B]."""
        points = (PATHING_POINTS * self.options.move_amount).astype(np.int32)[:, :, None]
        x = tf.cast(units.x[: self._n], tf.int32)[:, None] + points[:, 0]
        y = tf.cast(units.y[: self._n], tf.int32)[:, None] + points[:, 1]
        off_map = (x < 0) | (x >= MAP_SIZE) | (y < 0) | (y >= MAP_SIZE)
        pathable = self.physics.is_pathable(tf.cast(x, tf.float32), tf.cast(y, tf.float32))
        return tf.cast(off_map | pathable, tf.float32)

    def _state(
        self,
        units: Units,
        last_action: tf.Tensor,
        time: tf.Tensor,
        order: tf.Tensor | None,
        look: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns the global state [S, B]: agent rows, enemy rows, last actions as one-hot vectors, time."""
        n, scenario, options = self._n, self.scenario, self.options
        health, shield = self._fractions(units)
        x = (units.x - MAP_SIZE / 2) / MAP_SIZE
        y = (units.y - MAP_SIZE / 2) / MAP_SIZE
        living = tf.cast(units.alive, tf.float32)
        readiness = tf.where(self._heals[:n], units.energy[:n], units.cooldown[:n]) / self._cooldown_normaliser
        agents = [health[:n], readiness, x[:n], y[:n]] + [shield[:n]] * scenario.agent_shields
        agents += self._look_columns(look) + self._agent_bits
        enemies = [health[n:], x[n:], y[n:]] + [shield[n:]] * scenario.enemy_shields
        enemies += self._enemy_bits
        blocks = [
            _flatten_rows([(living[:n] * column)[None] for column in agents])[0],
            _flatten_rows([reorder((living[n:] * column)[None], order) for column in enemies])[0],
        ]
        if options.state_last_action:
            actions = self._actions_one_hot(last_action)
            blocks += [tf.reshape(actions, [math.prod(actions.shape[:2]), actions.shape[2]])]
        if options.state_timestep_number:
            blocks += [time[None]]
        return tf.concat(blocks, axis=0)

    def read_kinds(self, state: tf.Tensor) -> tf.Tensor:
        """Reads the types of the units back from the global state, where each battle draws its own.

        Args:
            state: [B, S].
        Returns:
            [U, B] int32. The dead show no type and count as the first one.
        """
        sides = [
            tf.argmax(rows[:, -len(self.scenario.agent_type_bits) :], axis=1, output_type=tf.int32)
            for rows in self._state_rows(state)
        ]
        return tf.concat(sides, axis=0)

    def _state_rows(self, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the global state's rows about agents and enemies, [N, columns, B] and [M, columns, B]."""
        agent_end = self._n * self.agent_state_columns
        enemy_end = agent_end + self._m * self.enemy_state_columns
        return (
            tf.reshape(tf.transpose(state[:, :agent_end]), [self._n, self.agent_state_columns, -1]),
            tf.reshape(tf.transpose(state[:, agent_end:enemy_end]), [self._m, self.enemy_state_columns, -1]),
        )

    def units(self, state: tf.Tensor) -> Units:
        """Reads the units back from the global state: their place, health, shield, cooldown and energy.

        All else about the units is as at the start of a battle. The enemies' cooldown and energy are 0, because the
        state does not tell them. The state must be SMAC's own, with the enemies in the map's order.

        Args:
            state: [B, S].
        Returns:
            All units, each field [U, B].
        """
        n = self._n
        agents, enemies = self._state_rows(state)

        def both(agent_column: int, enemy_column: int) -> tf.Tensor:
            return tf.concat([agents[:, agent_column], enemies[:, enemy_column]], axis=0)

        blank = self.physics.spawn(tf.zeros_like(both(0, 0)))
        health = both(0, 0) * self.physics.max_health
        no_shields = tf.zeros_like(health)
        agent_shield = agents[:, 4] if self.scenario.agent_shields else no_shields[:n]
        enemy_shield = enemies[:, 3] if self.scenario.enemy_shields else no_shields[n:]
        readiness = agents[:, 1] * self._cooldown_normaliser
        return blank._replace(
            x=both(2, 1) * MAP_SIZE + MAP_SIZE / 2,
            y=both(3, 2) * MAP_SIZE + MAP_SIZE / 2,
            health=health,
            shield=tf.concat([agent_shield, enemy_shield], axis=0) * self.physics.max_shield,
            cooldown=tf.concat([tf.where(self._heals[:n], 0.0, readiness), no_shields[n:]], axis=0),
            energy=tf.concat([tf.where(self._heals[:n], readiness, 0.0), no_shields[n:]], axis=0),
        )
