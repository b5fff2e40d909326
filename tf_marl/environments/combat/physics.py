"""How units move, fight and die: one pure function of tensors, a game loop (1/16 game second) at a time.

Shapes: N agents, M enemies, U = N + M units with the agents first, B battles. Battles are the *last* axis here and
nowhere else in the project: every operation, pairwise ones included, then runs along contiguous battles, which XLA
turns into full vector instructions.

What happens in a loop, in this order, for all units at once (StarCraft II updates them one by one in random order):

1. Whom. An agent attacks whom its order names, while that unit lives, and then idles. An enemy keeps its target while
   that is in reach of its weapon or attacks it; else it takes the nearest agent that it notices, that attacks it, or
   that hit it last; else it walks to its attack-move point.
2. Hits. A ready weapon with its target in reach starts an attack; the hits land after the weapon's damage point, with
   no projectile flight and no backswing. Shields absorb first, armour comes off each hit that reaches health, and no
   hit does less than half a point. Two units may kill one another in the same loop.
3. Moves. Units that overlap are pushed apart, walkers giving way more than those who stand. Whoever has somewhere to be
   and is neither in reach of its target nor starting an attack walks straight there, sliding round whom it bumps into.
   Nobody's centre leaves pathable ground.
4. Time. Cooldowns run down and shields recover.

Not established for the game itself, so chosen: the simultaneous order, straight-line steering with pushing, that an
order change before the first hit takes the attack back, that the second hit of a zealot lands wherever its target
goes while both live, that no unit calls others for help, and that a timer which runs out within a loop acts at its end.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat.scenarios import MAP_SIZE, SPAWN_JITTER, Scenario
from tf_marl.environments.combat.units import LOOPS_PER_SECOND, LOOPS_PER_STEP, UnitType

COOLDOWN_JITTER = (-1, 3)  # game loops added to each period: a uniform integer, upper end excluded
MIN_HIT = 0.5  # hit points; armour never takes a hit below this
NOBODY = -1
_YIELD = 0.3  # a walker makes 0.5 + 0.3 of the way out of a unit that stands, which makes the rest
_PASSES = 2  # of pushing apart, each loop
_RELAXATION = 0.7  # of each push: in a crowd several add up, and in full they would throw a unit too far
_EDGE = 1e-3  # map units kept from the far side of a cell, so that int() names the cell


class Units(NamedTuple):
    """All units of all battles, each field [U, B]; float32 unless it says otherwise."""

    x: tf.Tensor  # map units, to the east
    y: tf.Tensor  # map units, to the north
    health: tf.Tensor  # hit points; 0 is dead
    shield: tf.Tensor  # shield points
    cooldown: tf.Tensor  # game loops until the weapon is ready; 0 is ready
    strike_delay: tf.Tensor  # game loops until the next hit of the running attack lands
    strikes_left: tf.Tensor  # hits of the running attack that are yet to land
    target: tf.Tensor  # int32, whom the unit attacks: index on the other side, or NOBODY
    loops_unhurt: tf.Tensor  # game loops since the last hit taken
    last_attacker: tf.Tensor  # int32, who hit the unit last: index on the other side, or NOBODY
    push_x: tf.Tensor  # map units, how far its neighbours pushed it in the last loop
    push_y: tf.Tensor

    @property
    def alive(self) -> tf.Tensor:
        return self.health > 0


class Orders(NamedTuple):
    """What the players want for the next loops."""

    target: tf.Tensor  # [N, B] int32: the enemy each agent attacks, or NOBODY
    moves: tf.Tensor  # [N, B] bool: whether it goes to (x, y) instead
    x: tf.Tensor  # [N, B] map units
    y: tf.Tensor  # [N, B]
    rally_x: tf.Tensor  # [B] map units: where the enemies attack-move
    rally_y: tf.Tensor  # [B]


def _column(units: tuple[UnitType, ...], value) -> np.ndarray:
    return np.array([[value(unit)] for unit in units], np.float32)


def _per_loop(units: tuple[UnitType, ...], seconds) -> np.ndarray:
    return _column(units, lambda unit: seconds(unit) * LOOPS_PER_SECOND)


def _pairs(rows: tuple[UnitType, ...], columns: tuple[UnitType, ...], value) -> np.ndarray:
    return np.array([[[value(row, column)] for column in columns] for row in rows], np.float32)


def squared_distance(x: tf.Tensor, y: tf.Tensor, other_x: tf.Tensor, other_y: tf.Tensor) -> tf.Tensor:
    """[I, B] and [J, B] places -> [I, J, B] squared centre distances."""
    return tf.square(x[:, None] - other_x[None]) + tf.square(y[:, None] - other_y[None])


def _reach(attacker: UnitType, target: UnitType) -> float:
    """Centre distance at which the attacker's weapon reaches the target; ranges are edge to edge."""
    return attacker.weapon.range + attacker.radius + target.radius


def _notice(enemy: UnitType, agent: UnitType) -> float:
    """Centre distance at which an enemy notices an agent: its scan range to the agent's edge, or its reach."""
    return max(_reach(enemy, agent), enemy.weapon.scan_range + agent.radius)


class _Strikes:
    """Damage of one side's hits on the other side's units."""

    def __init__(self, attackers: tuple[UnitType, ...], targets: tuple[UnitType, ...]):
        # Units of one type deal equal hits, so counting them per type is exact and needs no order among them.
        self._types = [
            (
                np.array([[[unit is kind] for unit in attackers]], np.float32) if set(attackers) != {kind} else None,
                _column(targets, kind.weapon.damage_to),
            )
            for kind in dict.fromkeys(attackers)
        ]
        self._armor = _column(targets, lambda unit: unit.armor)

    def __call__(self, hits: tf.Tensor, shield: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Args: hits [J, I, B] float, 1 where attacker i hits target j; shield [J, B].

        Returns: hit points lost [J, B] and the shield that is left [J, B].
        """
        lost = tf.zeros_like(shield)
        for is_kind, damage in self._types:
            count = tf.reduce_sum(hits if is_kind is None else hits * is_kind, axis=1)
            past_shield = tf.maximum(count * damage - shield, 0.0)
            shield = tf.maximum(shield - count * damage, 0.0)
            # All but the first of the hits that reach health do so undiminished.
            reaching = tf.math.ceil(past_shield / damage)
            first = past_shield - (reaching - 1.0) * damage
            lost += tf.where(
                past_shield > 0,
                tf.maximum(first - self._armor, MIN_HIT) + (reaching - 1.0) * tf.maximum(damage - self._armor, MIN_HIT),
                0.0,
            )
        return lost, shield


class Physics:
    """The laws of one scenario: constants at construction, pure functions of tensors after that."""

    def __init__(self, scenario: Scenario):
        units, agents, enemies = scenario.units, scenario.agents, scenario.enemies
        self._n, self._m = len(agents), len(enemies)
        self._spawn = scenario.spawn.astype(np.float32)
        self.max_health = _column(units, lambda unit: unit.hit_points)
        self.max_shield = _column(units, lambda unit: unit.shield_points)
        self._stride = _column(units, lambda unit: unit.speed / LOOPS_PER_SECOND)
        self._period = _per_loop(units, lambda unit: unit.weapon.period)
        self._damage_point = _per_loop(units, lambda unit: unit.weapon.damage_point)
        self._hit_interval = _per_loop(units, lambda unit: unit.weapon.hit_interval)
        self._hits = _column(units, lambda unit: unit.weapon.hits)
        self._regen = _column(units, lambda unit: unit.shield_regen / LOOPS_PER_SECOND)
        self._regen_delay = _per_loop(units, lambda unit: unit.shield_regen_delay)
        self._agent_reach = np.square(_pairs(agents, enemies, _reach))
        self._enemy_reach = np.square(_pairs(enemies, agents, _reach))
        self._enemy_notice = np.square(_pairs(enemies, agents, _notice))
        self._strikes_on_enemies = _Strikes(agents, enemies)
        self._strikes_on_agents = _Strikes(enemies, agents)
        separation = _pairs(units, units, lambda a, b: a.separation_radius + b.separation_radius)
        self._inverse_squared_separation = 1.0 / np.square(separation)
        # Where dead units are put while the living are pushed apart: far from everyone, each in a place of its own.
        self._grave = 100.0 * np.arange(1, len(units) + 1, dtype=np.float32)[:, None]
        self._pathable = scenario.pathable
        xs, ys = np.nonzero(scenario.pathable)
        self._low = np.array([xs.min(), ys.min()], np.float32)
        self._high = np.array([xs.max() + 1, ys.max() + 1], np.float32) - _EDGE
        # Ground that is one full rectangle needs no look-up: staying inside its bounds is enough.
        self._rectangular = len(xs) == np.ptp([xs.min(), xs.max() + 1]) * np.ptp([ys.min(), ys.max() + 1])

    def spawn(self, jitter: tf.Tensor) -> Units:
        """A fresh battle. Args: jitter [U, B] in [-1, 1], displaces units by that many SPAWN_JITTER in y."""
        zero = tf.zeros_like(jitter)
        nobody = tf.fill(tf.shape(jitter), NOBODY)
        return Units(
            x=zero + self._spawn[:, :1],
            y=self._spawn[:, 1:] + SPAWN_JITTER * jitter,
            health=zero + self.max_health,
            shield=zero + self.max_shield,
            cooldown=zero,
            strike_delay=zero,
            strikes_left=zero,
            target=nobody,
            loops_unhurt=zero,
            last_attacker=nobody,
            push_x=zero,
            push_y=zero,
        )

    def is_pathable(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Whether the cell of each place is inside the map and can be walked on; int() truncates toward zero."""
        column, row = tf.cast(x, tf.int32), tf.cast(y, tf.int32)
        inside = (column >= 0) & (column < MAP_SIZE) & (row >= 0) & (row < MAP_SIZE)
        cell = tf.clip_by_value(column * MAP_SIZE + row, 0, MAP_SIZE * MAP_SIZE - 1)
        return inside & tf.gather(tf.constant(self._pathable.reshape(-1)), cell)

    def advance(self, units: Units, orders: Orders, jitter: tf.Tensor, num_loops: int = LOOPS_PER_STEP) -> Units:
        """Plays `num_loops` game loops.

        Args:
            units: the battles before.
            orders: hold for all the loops.
            jitter: [U, B] float, game loops added to the period of the attack that a unit starts (no unit starts two
                within an env step).
            num_loops: game loops.
        Returns:
            The battles after.
        """
        _, units = tf.while_loop(
            lambda loop, _: loop < num_loops,
            lambda loop, units: (loop + 1, self._loop(units, orders, jitter)),
            (0, units),
        )
        return units

    def _loop(self, units: Units, orders: Orders, jitter: tf.Tensor) -> Units:
        n = self._n
        alive = units.alive
        agent_x, enemy_x = units.x[:n], units.x[n:]
        agent_y, enemy_y = units.y[:n], units.y[n:]
        agent_ids = tf.range(n)[None, :, None]
        enemy_ids = tf.range(self._m)[None, :, None]

        # 1. Whom.
        agent_target = tf.where(alive[:n], orders.target, NOBODY)
        agent_picks = (agent_target[:, None] == enemy_ids) & alive[n:][None]  # [N, M, B]
        enemy_target = self._acquire(units, agent_target)
        enemy_picks = enemy_target[:, None] == agent_ids  # [M, N, B]
        agent_distance = squared_distance(agent_x, agent_y, enemy_x, enemy_y)
        enemy_distance = squared_distance(enemy_x, enemy_y, agent_x, agent_y)

        def both(agents: tf.Tensor, enemies: tf.Tensor) -> tf.Tensor:
            return tf.concat([agents, enemies], axis=0)

        def picked(agent_values: tf.Tensor, enemy_values: tf.Tensor) -> tf.Tensor:
            """The value that belongs to each unit's target; 0 without one."""
            return both(
                tf.reduce_sum(tf.where(agent_picks, agent_values, 0.0), axis=1),
                tf.reduce_sum(tf.where(enemy_picks, enemy_values, 0.0), axis=1),
            )

        has_target = both(tf.reduce_any(agent_picks, axis=1), enemy_target != NOBODY)
        in_reach = both(
            tf.reduce_any(agent_picks & (agent_distance <= self._agent_reach), axis=1),
            tf.reduce_any(enemy_picks & (enemy_distance <= self._enemy_reach), axis=1),
        )
        target = tf.where(has_target, both(agent_target, enemy_target), NOBODY)

        # 2. Hits.
        before_first_hit = units.strikes_left == self._hits
        taken_back = before_first_hit & (target != units.target)
        strikes_left = tf.where(taken_back, 0.0, units.strikes_left)
        cooldown = tf.where(taken_back, 0.0, units.cooldown)
        # Later hits of a running attack follow the target it began on, whatever the orders say since.
        victim = tf.where(strikes_left > 0, units.target, target)
        begins = in_reach & (cooldown <= 0) & (strikes_left == 0)
        strikes_left = tf.where(begins, self._hits, strikes_left)
        strike_delay = tf.where(begins, self._damage_point, units.strike_delay)
        cooldown = tf.where(begins, self._period + jitter, cooldown)
        lands = alive & (strikes_left > 0) & (strike_delay <= 0)
        struck = tf.where(lands, victim, NOBODY)
        on_enemies = struck[:n][None] == tf.range(self._m)[:, None, None]  # [M, N, B]
        on_agents = struck[n:][None] == tf.range(n)[:, None, None]  # [N, M, B]
        enemy_loss, enemy_shield = self._strikes_on_enemies(tf.cast(on_enemies, tf.float32), units.shield[n:])
        agent_loss, agent_shield = self._strikes_on_agents(tf.cast(on_agents, tf.float32), units.shield[:n])
        health = tf.maximum(units.health - both(agent_loss, enemy_loss), 0.0)
        shield = both(agent_shield, enemy_shield)
        attacker = both(  # of several in one loop, the one listed last
            tf.reduce_max(tf.where(on_agents, enemy_ids, NOBODY), axis=1),
            tf.reduce_max(tf.where(on_enemies, agent_ids, NOBODY), axis=1),
        )
        hurt = attacker != NOBODY
        starting = (strikes_left == self._hits) & ~lands
        strikes_left -= tf.cast(lands, tf.float32)
        strike_delay = tf.where(lands, self._hit_interval, strike_delay)

        # 3. Moves.
        alive = health > 0
        rally = tf.ones_like(enemy_x)
        goal_x = tf.where(has_target, picked(enemy_x[None], agent_x[None]), both(orders.x, rally * orders.rally_x))
        goal_y = tf.where(has_target, picked(enemy_y[None], agent_y[None]), both(orders.y, rally * orders.rally_y))
        wanders = both(orders.moves, tf.ones_like(enemy_target, tf.bool))
        walks = alive & (has_target | wanders) & ~in_reach & ~starting
        x, y, push_x, push_y = self._move(units, goal_x, goal_y, walks, alive)

        # 4. Time.
        loops_unhurt = tf.where(hurt, 0.0, units.loops_unhurt + 1.0)
        recovers = alive & (loops_unhurt >= self._regen_delay)
        shield = tf.where(recovers, tf.minimum(shield + self._regen, self.max_shield), shield)
        return Units(
            x=x,
            y=y,
            health=health,
            shield=shield,
            cooldown=tf.maximum(cooldown - 1.0, 0.0),
            strike_delay=strike_delay - 1.0,
            strikes_left=strikes_left,
            target=tf.where(strikes_left > 0, victim, target),
            loops_unhurt=loops_unhurt,
            last_attacker=tf.where(hurt, attacker, units.last_attacker),
            push_x=push_x,
            push_y=push_y,
        )

    def _acquire(self, units: Units, agent_target: tf.Tensor) -> tf.Tensor:
        """Whom each enemy attacks: [M, B] int32, an agent or NOBODY. Args: agent_target [N, B]."""
        n = self._n
        agent_ids = tf.range(n)[None, :, None]
        distance = squared_distance(units.x[n:], units.y[n:], units.x[:n], units.y[:n])
        attacks_me = agent_target[None] == tf.range(self._m)[:, None, None]
        hit_me = units.last_attacker[n:][:, None] == agent_ids
        mine = units.target[n:][:, None] == agent_ids
        keeps = mine & (attacks_me | (distance <= self._enemy_reach))
        considers = attacks_me | hit_me | (distance <= self._enemy_notice)
        score = tf.where(keeps, -1.0, tf.where(considers, distance, np.inf))
        score = tf.where(units.alive[:n][None] & units.alive[n:][:, None], score, np.inf)
        best = tf.reduce_min(score, axis=1, keepdims=True)
        choice = tf.reduce_min(tf.where(score == best, agent_ids, n), axis=1)  # of equals, the one listed first
        return tf.where(best[:, 0] < np.inf, choice, NOBODY)

    def _move(
        self, units: Units, goal_x: tf.Tensor, goal_y: tf.Tensor, walks: tf.Tensor, alive: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """One stride toward the goal, apart from whom one overlaps, back onto pathable ground; all [U, B].

        Returns: x, y, and the push in x and y.
        """
        x, y = units.x, units.y
        walking = tf.cast(walks, tf.float32)
        dx, dy = goal_x - x, goal_y - y
        stride = walking * tf.minimum(self._stride * tf.math.rsqrt(tf.square(dx) + tf.square(dy) + 1e-12), 1.0)
        stride_x, stride_y = stride * dx, stride * dy
        # Whom others block slides round them: the part of the stride that goes against their last push is lost.
        against = tf.minimum(stride_x * units.push_x + stride_y * units.push_y, 0.0)
        against /= tf.square(units.push_x) + tf.square(units.push_y) + 1e-12
        new_x = x + stride_x - against * units.push_x
        new_y = y + stride_y - against * units.push_y

        def apart(i, apart_x, apart_y):
            push_x, push_y = self._push(apart_x, apart_y, walking, alive)
            return i + 1, apart_x + push_x, apart_y + push_y

        # A loop, not two calls: it keeps XLA from fusing the passes, which would compute the first anew for every pair
        # of the second and cost more than it saves.
        _, apart_x, apart_y = tf.while_loop(lambda i, *_: i < _PASSES, apart, (0, new_x, new_y))
        return *self._keep_on_ground(x, y, apart_x, apart_y), apart_x - new_x, apart_y - new_y

    def _push(self, x: tf.Tensor, y: tf.Tensor, walking: tf.Tensor, alive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The displacement that takes each unit out of its neighbours; all [U, B], `walking` float."""
        x = tf.where(alive, x, self._grave)
        dx, dy = x[:, None] - x[None], y[:, None] - y[None]
        # 1 - (d / s)^2 instead of s / d - 1: about twice as much for a slight overlap, no root or division per pair.
        overlap = tf.maximum(1.0 - (tf.square(dx) + tf.square(dy)) * self._inverse_squared_separation, 0.0)
        push = overlap * ((0.5 + _YIELD * walking)[:, None] - (_YIELD * walking)[None])
        return _RELAXATION * tf.reduce_sum(push * dx, axis=1), _RELAXATION * tf.reduce_sum(push * dy, axis=1)

    def _keep_on_ground(
        self, x: tf.Tensor, y: tf.Tensor, new_x: tf.Tensor, new_y: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Slides along what blocks the way: each coordinate changes only if its change alone is possible."""
        new_x = tf.clip_by_value(new_x, self._low[0], self._high[0])
        new_y = tf.clip_by_value(new_y, self._low[1], self._high[1])
        if not self._rectangular:
            new_x = tf.where(self.is_pathable(new_x, y), new_x, x)
            new_y = tf.where(self.is_pathable(new_x, new_y), new_y, y)
        return new_x, new_y
