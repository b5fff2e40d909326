"""What SMAC makes of a battle: actions and when they may be taken, observation, state, reward and ending.

Agents see what SMAC's agents see, column for column, oddities included: any living enemy within 6 may be attacked
whatever the weapon; type bits of the enemies are reversed on stalker and zealot maps; cooldowns are divided by SMAC's
own constants; the reward is the absolute value of the damage term, so enemies that only recover pay.

Shapes as in physics.py: N agents, M enemies, U units, B battles last; A actions. `observation` alone turns round.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat import physics
from tf_marl.environments.combat.physics import NOBODY, Orders, Units
from tf_marl.environments.combat.scenarios import MAP_SIZE, Scenario
from tf_marl.environments.combat.units import UnitType

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_ATTACK = range(7)
DIRECTIONS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], np.float32)  # of NORTH, SOUTH, EAST, WEST
MOVE = 2.0  # map units a move aims at; availability looks half as far
ATTACK_DISTANCE = 6.0  # map units, centre to centre, inclusive
SIGHT = 9.0  # map units, centre to centre, exclusive
KILL_REWARD, WIN_REWARD, FULL_RETURN = 10.0, 200.0, 20.0


class Ending(NamedTuple):
    """How battles stand after a step, each [B] bool."""

    won: tf.Tensor
    terminated: tf.Tensor  # won, lost or drawn
    truncated: tf.Tensor  # neither, but the time is up


def _type_bits(units: tuple[UnitType, ...], bits: tuple[str, ...]) -> np.ndarray:
    """[I, bits] one-hot of unit types, in the scenario's order."""
    return np.array([[unit.name == name for name in bits] for unit in units], np.float32)


def _flatten_rows(columns: list[tf.Tensor]) -> tf.Tensor:
    """K columns [I, J, B] -> [I, J * K, B], row after row."""
    rows = tf.stack(columns, axis=2)
    i, j, k, b = rows.shape
    return tf.reshape(rows, [i, j * k, b])


class Task:
    """SMAC's rules for one scenario, as pure functions."""

    def __init__(self, scenario: Scenario, laws: physics.Physics):
        self._scenario = scenario
        self._physics = laws
        self._n, self._m = scenario.num_agents, scenario.num_enemies
        self._agent_bits = _type_bits(scenario.agents, scenario.agent_type_bits)
        self._enemy_bits = _type_bits(scenario.enemies, scenario.enemy_type_bits)
        self._cooldown_normaliser = np.array([[u.cooldown_normaliser] for u in scenario.agents], np.float32)
        agent_columns = 5 + scenario.agent_shields + len(scenario.agent_type_bits)
        enemy_columns = 5 + scenario.enemy_shields + len(scenario.enemy_type_bits)
        self.obs_size = 4 + self._m * enemy_columns + (self._n - 1) * agent_columns + (agent_columns - 4)
        self.state_size = self._n * (agent_columns - 1) + self._m * (enemy_columns - 2) + self._n * scenario.num_actions

    def available(self, units: Units) -> tf.Tensor:
        """[N, A, B] bool: what each agent may do. The dead may do nothing, the living anything but nothing."""
        n = self._n
        x, y, alive = units.x[:n], units.y[:n], units.alive[:n]
        probe = DIRECTIONS[:, :, None] * (MOVE / 2)
        moves = self._physics.is_pathable(x[:, None] + probe[:, 0], y[:, None] + probe[:, 1])
        near = physics.squared_distance(x, y, units.x[n:], units.y[n:]) <= ATTACK_DISTANCE**2
        attacks = near & units.alive[n:][None]
        living = alive[:, None]
        return tf.concat([~living, living, living & moves, living & attacks], axis=1)

    def orders(self, units: Units, action: tf.Tensor, rally_x: tf.Tensor, rally_y: tf.Tensor) -> Orders:
        """What legal actions [N, B] command; the enemies attack-move to rally [B]."""
        n = self._n
        direction = action[:, None] == np.arange(NORTH, FIRST_ATTACK)[None, :, None]
        step = tf.cast(direction, tf.float32) * MOVE
        return Orders(
            target=tf.where(action >= FIRST_ATTACK, action - FIRST_ATTACK, NOBODY),
            moves=tf.reduce_any(direction, axis=1),
            x=units.x[:n] + tf.reduce_sum(step * DIRECTIONS[None, :, :1], axis=1),
            y=units.y[:n] + tf.reduce_sum(step * DIRECTIONS[None, :, 1:], axis=1),
            rally_x=rally_x,
            rally_y=rally_y,
        )

    def ending(self, units: Units, step_count: tf.Tensor) -> Ending:
        """How the battles stand after `step_count` [B] steps."""
        agents = tf.reduce_any(units.alive[: self._n], axis=0)
        enemies = tf.reduce_any(units.alive[self._n :], axis=0)
        terminated = ~agents | ~enemies
        return Ending(
            won=agents & ~enemies,
            terminated=terminated,
            truncated=~terminated & (step_count >= self._scenario.episode_limit),
        )

    def reward(self, before: Units, after: Units, won: tf.Tensor) -> tf.Tensor:
        """[B]: damage dealt, 10 a kill and 200 for the win, scaled so that a clean win returns 20."""
        n = self._n
        lost = (before.health + before.shield - after.health - after.shield)[n:]
        killed = before.alive[n:] & ~after.alive[n:]
        battle = tf.reduce_sum(tf.where(before.alive[n:], lost, 0.0), axis=0)
        battle += KILL_REWARD * tf.reduce_sum(tf.cast(killed, tf.float32), axis=0)
        return (tf.abs(battle) + WIN_REWARD * tf.cast(won, tf.float32)) * (FULL_RETURN / self._scenario.max_reward)

    def observation(self, units: Units, last_action: tf.Tensor, available: tf.Tensor) -> dict[str, tf.Tensor]:
        """The observation dict, battles first.

        Args:
            units: the battles.
            last_action: [N, B] int32, -1 before the first.
            available: [N, A, B] bool.
        Returns:
            `obs` [B, N, O], `state` [B, S], `avail_actions` [B, N, A], `alive` [B, N].
        """
        n = self._n
        return {
            "obs": tf.transpose(self._obs(units, available), [2, 0, 1]),
            "state": tf.transpose(self._state(units, last_action)),
            "avail_actions": tf.transpose(available, [2, 0, 1]),
            "alive": tf.transpose(units.alive[:n]),
        }

    def _fractions(self, units: Units) -> tuple[tf.Tensor, tf.Tensor]:
        """Health and shield of all units as fractions of their full values, [U, B] each."""
        # Sides without shields never show theirs; the floor keeps 0 / 0 out.
        return units.health / self._physics.max_health, units.shield / np.maximum(self._physics.max_shield, 1.0)

    def _obs(self, units: Units, available: tf.Tensor) -> tf.Tensor:
        """[N, O, B]: moves, enemy rows, rows of the other agents, own health; zeros for the dead and the unseen."""
        n, scenario = self._n, self._scenario
        alive = units.alive
        health, shield = self._fractions(units)
        dx = units.x[None] - units.x[:n][:, None]  # [N, U, B]
        dy = units.y[None] - units.y[:n][:, None]
        squared = tf.square(dx) + tf.square(dy)
        distance = tf.sqrt(squared)
        seen = tf.cast(alive[:n][:, None] & alive[None] & (squared < SIGHT**2), tf.float32)

        def rows(first: tf.Tensor, columns: slice, others: list[tf.Tensor]) -> tf.Tensor:
            """Rows of the units in `columns`: [N, J, K, B]-wise, then flat. Args: others [N or 1, J, B or 1] each."""
            mask = seen[:, columns]
            geometry = [distance[:, columns] / SIGHT, dx[:, columns] / SIGHT, dy[:, columns] / SIGHT]
            return _flatten_rows([mask * column for column in [first, *geometry, *others]])

        enemies, agents = slice(n, None), slice(0, n)
        attackable = tf.cast(available[:, FIRST_ATTACK:], tf.float32)
        enemy_rows = rows(
            attackable,
            enemies,
            [health[None, n:]]
            + [shield[None, n:]] * scenario.enemy_shields
            + [bit[None, :, None] for bit in self._enemy_bits.T],
        )
        agent_rows = rows(
            tf.ones_like(seen[:, agents]),
            agents,
            [health[None, :n]]
            + [shield[None, :n]] * scenario.agent_shields
            + [bit[None, :, None] for bit in self._agent_bits.T],
        )
        # Everyone but oneself: drop row i of agent i.
        width = agent_rows.shape[1] // n
        agent_rows = tf.stack(
            [tf.concat([agent_rows[i, : i * width], agent_rows[i, (i + 1) * width :]], axis=0) for i in range(n)]
        )
        living = tf.cast(alive[:n], tf.float32)
        own = [health[:n]] + [shield[:n]] * scenario.agent_shields + [bit[:, None] for bit in self._agent_bits.T]
        own_row = tf.stack([living * column for column in own], axis=1)
        moves = tf.cast(available[:, NORTH:FIRST_ATTACK], tf.float32)
        return tf.concat([moves, enemy_rows, agent_rows, own_row], axis=1)

    def _state(self, units: Units, last_action: tf.Tensor) -> tf.Tensor:
        """[S, B]: agent rows, enemy rows, last actions one-hot."""
        n, scenario = self._n, self._scenario
        health, shield = self._fractions(units)
        x = (units.x - MAP_SIZE / 2) / MAP_SIZE
        y = (units.y - MAP_SIZE / 2) / MAP_SIZE
        living = tf.cast(units.alive, tf.float32)
        cooldown = units.cooldown[:n] / self._cooldown_normaliser
        agents = [health[:n], cooldown, x[:n], y[:n]] + [shield[:n]] * scenario.agent_shields
        agents += [bit[:, None] for bit in self._agent_bits.T]
        enemies = [health[n:], x[n:], y[n:]] + [shield[n:]] * scenario.enemy_shields
        enemies += [bit[:, None] for bit in self._enemy_bits.T]
        actions = tf.cast(last_action[:, None] == np.arange(scenario.num_actions)[None, :, None], tf.float32)
        blocks = [
            _flatten_rows([(living[:n] * column)[None] for column in agents])[0],
            _flatten_rows([(living[n:] * column)[None] for column in enemies])[0],
            tf.reshape(actions, [math.prod(actions.shape[:2]), actions.shape[2]]),
        ]
        return tf.concat(blocks, axis=0)
