"""SMAC's rules turn a battle into a task: they define actions, observations, state, reward and the end of an episode.

Agents see what SMAC's agents see, column for column. That includes SMAC's oddities:

- An agent may attack any living enemy within 6 map units, whatever its weapon.
- A healer's attack actions heal agents, and the column `attackable` of its enemy rows says which agents it may heal.
- On maps with stalkers and zealots, the type bits of the enemies are in reversed order.
- Cooldowns are divided by SMAC's own constants.
- The reward is the absolute value of the damage term. So a step in which enemies only recover pays a positive reward.

The letters in all shapes: N agents, M enemies, U = N + M units, A actions, O observation and S state features, B
battles. B is the last axis, as in `physics.py`. Only `observation` returns B first.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat import physics
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.physics import NOBODY, Orders, Units
from tf_marl.environments.combat.scenarios import MAP_SIZE, MMM, Scenario
from tf_marl.environments.combat.units import UnitType

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_ATTACK = range(7)
DIRECTIONS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], np.float32)  # of NORTH, SOUTH, EAST, WEST
ATTACK_DISTANCE = 6.0  # map units, centre to centre, inclusive
SIGHT = 9.0  # map units, centre to centre, exclusive
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
    heals: np.ndarray  # [K, 1] bool
    num_targets: int  # attack actions: J, or K if that is more and the side has healers


def _type_bits(units: tuple[UnitType, ...], bits: tuple[str, ...]) -> np.ndarray:
    """Returns the one-hot vectors of the units' types, [I, bits], in the order that `bits` names."""
    return np.array([[unit.name == name for name in bits] for unit in units], np.float32)


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
    Raises:
        ValueError: the agents have a healer, and there are more agents than enemies. The healer would then have too few
            actions to heal everyone.
    """

    def __init__(self, scenario: Scenario, options: Options, laws: physics.Physics):
        self.scenario = scenario
        self.options = options
        self.physics = laws
        n, m = self._n, self._m = scenario.num_agents, scenario.num_enemies
        self._heals = np.array([[unit.heal is not None] for unit in scenario.units])
        self.agents = self._side(slice(0, n), slice(n, n + m))
        self.enemies = self._side(slice(n, n + m), slice(0, n))
        if self.agents.num_targets != m:
            raise ValueError(f"{scenario.name}: healers need as many enemies as agents, for action slots to heal by")
        # On maps of SMAC's type MMM, a side that has only healers left has lost; on the others, every unit counts.
        self._fights = ~self._heals if scenario.map_type == MMM else np.ones_like(self._heals)
        self._agent_bits = _type_bits(scenario.agents, scenario.agent_type_bits)
        self._enemy_bits = _type_bits(scenario.enemies, scenario.enemy_type_bits)
        self._cooldown_normaliser = np.array([[u.cooldown_normaliser] for u in scenario.agents], np.float32)
        vitality = sum(enemy.hit_points + enemy.shield_points for enemy in scenario.enemies)
        self.max_reward = options.reward_death_value * m + options.reward_win + vitality

        agent_bits, enemy_bits = len(scenario.agent_type_bits), len(scenario.enemy_type_bits)
        agent_health, enemy_health = 1 + scenario.agent_shields, 1 + scenario.enemy_shields
        # Numbers of columns: of the observation's parts, and of each row in them.
        self.move_columns = len(DIRECTIONS) + len(PATHING_POINTS) * options.obs_pathing_grid
        self.enemy_columns = 4 + options.obs_all_health * enemy_health + enemy_bits
        self.agent_columns = 4 + options.obs_all_health * agent_health + agent_bits
        self.agent_columns += options.obs_last_action * scenario.num_actions
        self.own_columns = self.sees_own_health * agent_health + agent_bits + options.obs_timestep_number
        self.obs_size = self.move_columns + m * self.enemy_columns + (n - 1) * self.agent_columns + self.own_columns
        self.agent_state_columns = 3 + agent_health + agent_bits
        self.enemy_state_columns = 2 + enemy_health + enemy_bits
        self.state_size = n * self.agent_state_columns + m * self.enemy_state_columns
        self.state_size += options.state_last_action * n * scenario.num_actions + options.state_timestep_number
        if options.obs_instead_of_state:
            self.state_size = n * self.obs_size

    @property
    def sees_own_health(self) -> bool:
        """Returns whether agents observe their own health; `obs_all_health` implies it."""
        return self.options.obs_own_health or self.options.obs_all_health

    def _side(self, own: slice, others: slice) -> Side:
        heals = self._heals[own]
        num_others = others.stop - others.start
        return Side(own, others, heals, max(num_others, len(heals)) if heals.any() else num_others)

    def available(self, units: Units, side: Side, order: tf.Tensor | None = None) -> tf.Tensor:
        """Returns which actions the units of a side may take.

        A dead unit may only take the no-op, and a living one anything but the no-op.

        Args:
            units: all units, each field [U, B].
            side: the side, with K units.
            order: [J, B] int32, which of the other side's units each attack action names; None for the map's order.
        Returns:
            [K, 6 + num_targets, B] bool.
        """
        x, y, alive = units.x[side.own], units.y[side.own], units.alive[side.own]
        probe = DIRECTIONS[:, :, None] * (self.options.move_amount / 2)
        moves = self.physics.is_pathable(x[:, None] + probe[:, 0], y[:, None] + probe[:, 1])

        def near(them: slice) -> tf.Tensor:
            squared = physics.squared_distance(x, y, units.x[them], units.y[them])
            return (squared <= ATTACK_DISTANCE**2) & units.alive[them][None]

        targets = reorder(near(side.others), order)
        if side.heals.any():
            patients = near(side.own) & ~self._heals[side.own][None]
            targets = tf.where(side.heals[:, None], self._widen(patients, side), self._widen(targets, side))
        living = alive[:, None]
        return tf.concat([~living, living, living & moves, living & targets], axis=1)

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
        attacks = action >= FIRST_ATTACK
        slot = tf.where(attacks, action - FIRST_ATTACK, 0)
        other = slot if order is None else physics.gather(order, slot)
        target = tf.where(side.heals, slot + side.own.start, other + side.others.start)
        return Orders(
            target=tf.where(attacks, target, NOBODY),
            moves=tf.reduce_any(direction, axis=1),
            x=units.x[side.own] + tf.reduce_sum(step * DIRECTIONS[None, :, :1], axis=1),
            y=units.y[side.own] + tf.reduce_sum(step * DIRECTIONS[None, :, 1:], axis=1),
        )

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
        both_gone_is_defeat = self.scenario.map_type == MMM
        return Ending(
            won=agents & ~enemies,
            lost=~agents & (enemies | both_gone_is_defeat),
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
            return tf.abs(dealt)
        return dealt - options.reward_negative_scale * tf.reduce_sum((damage + deaths)[:n], axis=0)

    def reward(self, before: Units, after: Units, ending: Ending) -> tf.Tensor:
        """Computes the team's reward for a step.

        It adds the bonus for a win (by default 200) or a defeat (by default 0) to `battle_reward`. Then it scales the
        sum, by default so that a clean win returns 20 over the episode.

        Args:
            before: all units before the step, each field [U, B].
            after: all units after the step, each field [U, B].
            ending: how the battles stand after the step.
        Returns:
            [B].
        """
        options = self.options
        won, lost = tf.cast(ending.won, tf.float32), tf.cast(ending.lost, tf.float32)
        win, defeat = (1.0, -1.0) if options.reward_sparse else (options.reward_win, options.reward_defeat)
        reward = self.battle_reward(before, after) + (win * won + defeat * lost)
        return reward * (options.reward_scale_rate / self.max_reward if options.reward_scale else 1.0)

    def observation(
        self,
        units: Units,
        last_action: tf.Tensor,
        available: tf.Tensor,
        step_count: tf.Tensor,
        order: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Returns what agents and critic observe, with the battles as the first axis.

        Args:
            units: all units, each field [U, B].
            last_action: [N, B] int32, -1 before the first step.
            available: [N, A, B] bool.
            step_count: [B] int32, env steps into the episode.
            order: [M, B] int32, which enemy each enemy row shows; None for the map's order.
        Returns:
            `obs` [B, N, O], `state` [B, S], `avail_actions` bool [B, N, A] and `alive` bool [B, N].
        """
        n = self._n
        time = tf.cast(step_count, tf.float32) / self.scenario.episode_limit
        obs = tf.transpose(self._obs(units, last_action, available, time, order), [2, 0, 1])
        if self.options.obs_instead_of_state:
            state = tf.reshape(obs, [obs.shape[0], -1])
        else:
            state = tf.transpose(self._state(units, last_action, time, order))
        return {
            "obs": obs,
            "state": state,
            "avail_actions": tf.transpose(available, [2, 0, 1]),
            "alive": tf.transpose(units.alive[:n]),
        }

    def _fractions(self, units: Units) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns health and shield of all units as fractions of their full values, [U, B] each."""
        # Sides without shields never show them; the maximum avoids 0 / 0.
        return units.health / self.physics.max_health, units.shield / np.maximum(self.physics.max_shield, 1.0)

    def _actions_one_hot(self, last_action: tf.Tensor) -> tf.Tensor:
        """Returns the last actions as one-hot vectors, [N, A, B]; zeros before the first step."""
        return tf.cast(last_action[:, None] == np.arange(self.scenario.num_actions)[None, :, None], tf.float32)

    def _obs(
        self,
        units: Units,
        last_action: tf.Tensor,
        available: tf.Tensor,
        time: tf.Tensor,
        order: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns the observations [N, O, B]: moves, enemy rows, rows of the other agents, own health and type, time.

        Rows of units that the agent does not see are zero. All of a dead agent's observation but the time is zero.
        """
        n, scenario, options = self._n, self.scenario, self.options
        alive = units.alive
        health, shield = self._fractions(units)
        dx = units.x[None] - units.x[:n][:, None]  # [N, U, B]
        dy = units.y[None] - units.y[:n][:, None]
        squared = tf.square(dx) + tf.square(dy)
        distance = tf.sqrt(squared)
        seen = tf.cast(alive[:n][:, None] & alive[None] & (squared < SIGHT**2), tf.float32)

        def rows(others: slice, first: tf.Tensor | None, shields: bool, bits: np.ndarray, order) -> list[tf.Tensor]:
            """Returns the columns about some of the units, [N, J, B] each.

            Args:
                others: which of all units.
                first: [N, J, B], the first column in the order that is shown; None for 1.
                shields: whether these units have shields.
                bits: [J, bits], the one-hot vectors of their types.
                order: [J, B] int32, the order in which they are shown; None for the map's.
            """
            mask = seen[:, others]
            columns = [mask * column[:, others] / SIGHT for column in (distance, dx, dy)]
            if options.obs_all_health:
                columns += [mask * health[None, others]] + [mask * shield[None, others]] * shields
            columns += [mask * bit[None, :, None] for bit in bits.T]
            mask = reorder(mask, order)
            return [mask if first is None else mask * first, *(reorder(column, order) for column in columns)]

        attackable = tf.cast(available[:, FIRST_ATTACK:], tf.float32)
        enemy_rows = _flatten_rows(rows(slice(n, None), attackable, scenario.enemy_shields, self._enemy_bits, order))
        agent_columns = rows(slice(0, n), None, scenario.agent_shields, self._agent_bits, None)
        if options.obs_last_action:
            actions = self._actions_one_hot(last_action)
            agent_columns += [seen[:, :n] * actions[None, :, a] for a in range(scenario.num_actions)]
        agent_rows = _flatten_rows(agent_columns)
        # An agent sees no row of itself: drop row i of agent i.
        width = self.agent_columns
        agent_rows = tf.stack(
            [tf.concat([agent_rows[i, : i * width], agent_rows[i, (i + 1) * width :]], axis=0) for i in range(n)]
        )
        living = tf.cast(alive[:n], tf.float32)[:, None]
        own = [health[:n]] + [shield[:n]] * scenario.agent_shields if self.sees_own_health else []
        own += [tf.zeros_like(health[:n]) + bit[:, None] for bit in self._agent_bits.T]
        blocks = [tf.cast(available[:, NORTH:FIRST_ATTACK], tf.float32)]
        if options.obs_pathing_grid:
            blocks += [living * self._pathing(units)]
        blocks += [enemy_rows, agent_rows]
        if own:
            blocks += [living * tf.stack(own, axis=1)]
        if options.obs_timestep_number:
            blocks += [tf.zeros_like(living) + time]
        return tf.concat(blocks, axis=1)

    def _pathing(self, units: Units) -> tf.Tensor:
        """Returns for 8 points around each agent 1 if they are pathable or off the map, else 0: [N, 8, B]."""
        points = (PATHING_POINTS * self.options.move_amount).astype(np.int32)[:, :, None]
        x = tf.cast(units.x[: self._n], tf.int32)[:, None] + points[:, 0]
        y = tf.cast(units.y[: self._n], tf.int32)[:, None] + points[:, 1]
        off_map = (x < 0) | (x >= MAP_SIZE) | (y < 0) | (y >= MAP_SIZE)
        pathable = self.physics.is_pathable(tf.cast(x, tf.float32), tf.cast(y, tf.float32))
        return tf.cast(off_map | pathable, tf.float32)

    def _state(self, units: Units, last_action: tf.Tensor, time: tf.Tensor, order: tf.Tensor | None) -> tf.Tensor:
        """Returns the global state [S, B]: agent rows, enemy rows, last actions as one-hot vectors, time."""
        n, scenario, options = self._n, self.scenario, self.options
        health, shield = self._fractions(units)
        x = (units.x - MAP_SIZE / 2) / MAP_SIZE
        y = (units.y - MAP_SIZE / 2) / MAP_SIZE
        living = tf.cast(units.alive, tf.float32)
        readiness = tf.where(self._heals[:n], units.energy[:n], units.cooldown[:n]) / self._cooldown_normaliser
        agents = [health[:n], readiness, x[:n], y[:n]] + [shield[:n]] * scenario.agent_shields
        agents += [bit[:, None] for bit in self._agent_bits.T]
        enemies = [health[n:], x[n:], y[n:]] + [shield[n:]] * scenario.enemy_shields
        enemies += [bit[:, None] for bit in self._enemy_bits.T]
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

    def units(self, state: tf.Tensor) -> Units:
        """Reads the units back from the global state: their place, health, shield, cooldown and energy.

        All else about the units is as at the start of a battle. The enemies' cooldown and energy are 0, because the
        state does not tell them. The state must be SMAC's own, with the enemies in the map's order.

        Args:
            state: [B, S].
        Returns:
            All units, each field [U, B].
        """
        n, m = self._n, self._m
        agent_end = n * self.agent_state_columns
        enemy_end = agent_end + m * self.enemy_state_columns
        agents = tf.reshape(tf.transpose(state[:, :agent_end]), [n, self.agent_state_columns, -1])
        enemies = tf.reshape(tf.transpose(state[:, agent_end:enemy_end]), [m, self.enemy_state_columns, -1])

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
