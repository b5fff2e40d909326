"""How units move, fight and die: one pure function of tensors, a game loop (1/16 game second) at a time.

Shapes: N agents, M enemies, U = N + M units with the agents first, B battles. Battles are the *last* axis here and
nowhere else in the project: every operation, pairwise ones included, then runs along contiguous battles, which XLA
turns into full vector instructions. What belongs to one unit's target is gathered, not summed out of all pairs.

What happens in a loop, in this order, for all units at once (StarCraft II updates them one by one in random order):

1. Hits. Those due land, with no projectile flight. Shields absorb first, armour comes off each hit that reaches
   health, and no hit does less than half a point. A colossus' beams hit everyone on the ground along their line, at
   once, a loop apart. A baneling bursts when it strikes and when it is killed, in the same loop; one killed by a burst
   bursts in the next. Two units may kill one another in the same loop.
2. Whom. An agent attacks whom its order names, while that unit lives, and then idles. An enemy keeps its target while
   that is in reach of its weapon or attacks it; else it takes the nearest agent that attacks it or hit it last; else
   the nearest that it notices; else it walks to its attack-move point. So two agents who shoot in turn keep a zealot
   running between them, as they do in the game. Nobody attacks what its weapon cannot hit: an agent so
   ordered stands.
3. Attacks. A ready weapon with its target in reach starts an attack; its hits are due after the weapon's damage point.
4. Healing. A healer gives its patient health for energy while the patient is in range and hurt, and goes where it is
   otherwise. An agent's heals whom it is ordered to and nobody else; an enemy's the weakest of the hurt around it, and
   without any it follows the nearest unit it could heal.
5. Moves. Units of one plane that overlap are pushed apart, walkers giving way more than those who stand. Whoever has
   somewhere to be and is neither in reach of its target nor busy with an attack goes there, round obstacles (agents
   ordered to move go straight, which is the next two map units), sliding round whom it bumps into. An attack keeps a
   unit busy until its backswing is over, or until it is ordered elsewhere. Nobody's centre leaves its ground.
6. Time. Cooldowns run down; shields, Zerg health and energy recover.

Which of this is chosen because the game's own way is not known: see `combat/__init__.py`. A hit that falls due within a
loop lands in the next, and a target that dies in one is given up in the next. Banelings' piercing of structures' armour
is left out: no map has both.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat.scenarios import MAP_SIZE, SPAWN_JITTER, Scenario
from tf_marl.environments.combat.terrain import Paths, is_rectangle
from tf_marl.environments.combat.units import LOOPS_PER_SECOND, UnitType

COOLDOWN_JITTER = (-1, 3)  # game loops added to each period: a uniform integer, upper end excluded
MIN_HIT = 0.5  # hit points; armour never takes a hit below this
NOBODY = -1
_CANNOT = -1.0  # squared reach of a weapon that cannot hit
_YIELD = 0.3  # a walker makes 0.5 + 0.3 of the way out of a unit that stands, which makes the rest
_PASSES = 3  # of pushing apart, each loop
_NEIGHBOURS = 20  # that push at a time, at most
_TIE_BREAK = 1e-4  # map units between one unit and the next
_RELAXATION = 0.7  # of each push: in a crowd several add up, and in full they would throw a unit too far
_EDGE = 1e-3  # map units kept from the far side of a cell, so that int() names the cell
_THREAT = 1e-4  # of a squared distance: makes any attacker on the map come before anyone else
_FAR = 1e4  # map units: where the dead are for those who look for targets


class Units(NamedTuple):
    """All units of all battles, each field [U, B]; float32 unless it says otherwise."""

    x: tf.Tensor  # map units, to the east
    y: tf.Tensor  # map units, to the north
    health: tf.Tensor  # hit points; 0 is dead
    shield: tf.Tensor  # shield points
    energy: tf.Tensor  # of healers
    cooldown: tf.Tensor  # game loops until the weapon is ready; 0 is ready
    strike_delay: (
        tf.Tensor
    )  # game loops until the next hit of the running attack lands, after the last until it is over
    strikes_left: tf.Tensor  # hits of the running attack that are yet to land
    target: tf.Tensor  # int32, the unit it attacks (a healer: heals), or NOBODY
    loops_unhurt: tf.Tensor  # game loops since the last hit taken
    last_attacker: tf.Tensor  # int32, the unit that hit it last, or NOBODY
    has_burst: tf.Tensor  # bool, of banelings
    push_x: tf.Tensor  # map units, how far its neighbours pushed it in the last loop
    push_y: tf.Tensor

    @property
    def alive(self) -> tf.Tensor:
        return self.health > 0


class Orders(NamedTuple):
    """What is wanted of all units for the next loops; enemies that the game leads find targets by themselves."""

    target: tf.Tensor  # [U, B] int32: the unit to attack (a healer: to heal), or NOBODY
    moves: tf.Tensor  # [U, B] bool: whether to go to (x, y), unless there is a target
    x: tf.Tensor  # [U, B] map units
    y: tf.Tensor  # [U, B]


def _column(units: tuple[UnitType, ...], value) -> np.ndarray:
    return np.array([[value(unit)] for unit in units], np.float32)


def _of_weapon(units: tuple[UnitType, ...], value) -> np.ndarray:
    """[U, 1]; 0 for those who have none, who never use it."""
    return _column(units, lambda unit: value(unit.weapon) if unit.weapon else 0.0)


def _pairs(rows: tuple[UnitType, ...], columns: tuple[UnitType, ...], value) -> np.ndarray:
    return np.array([[[value(row, column)] for column in columns] for row in rows], np.float32)


def squared_distance(x: tf.Tensor, y: tf.Tensor, other_x: tf.Tensor, other_y: tf.Tensor) -> tf.Tensor:
    """[I, B] and [J, B] places -> [I, J, B] squared centre distances."""
    return tf.square(x[:, None] - other_x[None]) + tf.square(y[:, None] - other_y[None])


def gather(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """values [I, B], rows [J, B] int32 -> [J, B]: in each battle, the values of those rows."""
    battles = values.shape[1]
    return tf.gather(tf.reshape(values, [-1]), rows * battles + tf.range(battles)[None])


def squared_reach(attacker: UnitType, target: UnitType) -> float:
    """Square of the centre distance at which the weapon reaches the target; ranges are edge to edge."""
    if attacker.weapon is None or not attacker.can_hit(target):
        return _CANNOT
    return (attacker.weapon.range + attacker.radius + target.radius) ** 2


def _squared_notice(enemy: UnitType, agent: UnitType) -> float:
    """Square of the centre distance at which an enemy notices an agent: its scan range to the edge, or its reach."""
    if enemy.weapon is None or not enemy.can_hit(agent):
        return _CANNOT
    return max(squared_reach(enemy, agent), (enemy.weapon.scan_range + agent.radius) ** 2)


class _Strikes:
    """Damage of hits of some units on others."""

    def __init__(self, attackers: tuple[UnitType, ...], targets: tuple[UnitType, ...]):
        # Units of one type deal equal hits, so counting them per type is exact and needs no order among them.
        self._types = [
            (
                np.array([[[unit is kind] for unit in attackers]], np.float32) if set(attackers) != {kind} else None,
                _column(targets, kind.weapon.damage_to),
            )
            for kind in dict.fromkeys(attackers)
            if kind.weapon
        ]
        self._armor = _column(targets, lambda unit: unit.armor)

    def __call__(self, hits: tf.Tensor, shield: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Args: hits [J, I, B] bool, whether attacker i hits target j; shield [J, B].

        Returns: hit points lost [J, B] and the shield that is left [J, B].
        """
        hits = tf.cast(hits, tf.float32)
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

    def __init__(self, scenario: Scenario, scripted_enemies: bool = False):
        """Args: scripted_enemies, whether enemies obey orders as agents do instead of finding targets themselves."""
        units, agents, enemies = scenario.units, scenario.agents, scenario.enemies
        self._n, self._u = len(agents), len(units)
        self._ids = np.arange(self._u, dtype=np.int32)[:, None]
        self._spawn = scenario.spawn.astype(np.float32)
        self.max_health = _column(units, lambda unit: unit.hit_points)
        self.max_shield = _column(units, lambda unit: unit.shield_points)
        self._stride = _column(units, lambda unit: unit.speed / LOOPS_PER_SECOND)
        self._bursts = _column(units, lambda unit: bool(unit.weapon and unit.weapon.burst_radius)).astype(bool)

        self._period = _of_weapon(units, lambda weapon: weapon.period * LOOPS_PER_SECOND)
        self._damage_point = _of_weapon(units, lambda weapon: weapon.damage_point * LOOPS_PER_SECOND)
        self._hit_interval = _of_weapon(units, lambda weapon: weapon.hit_interval * LOOPS_PER_SECOND)
        self._hits = _of_weapon(units, lambda weapon: weapon.hits)
        backswing = _of_weapon(units, lambda weapon: weapon.backswing * LOOPS_PER_SECOND)
        self._after_last_hit = backswing - (np.maximum(self._hits, 1) - 1) * self._hit_interval
        self._squared_reach = _pairs(units, units, squared_reach)
        is_agent = self._ids < self._n
        self._squared_reach[is_agent == is_agent.T] = _CANNOT
        self._squared_notice = _pairs(enemies, agents, _squared_notice)
        if scenario.enemy_order == "attack":
            self._squared_notice = np.where(self._squared_notice == _CANNOT, _CANNOT, np.inf).astype(np.float32)
        self._scripted_enemies = scripted_enemies
        self._strikes_on_agents = _Strikes(enemies, agents)
        self._strikes_on_enemies = _Strikes(agents, enemies)
        self._bursts_on_agents = _Strikes(_bursting(enemies), agents)
        self._bursts_on_enemies = _Strikes(_bursting(agents), enemies)

        self._healers = [(i, unit, unit.heal) for i, unit in enumerate(units) if unit.heal]
        self._max_energy = _column(units, lambda unit: unit.heal.energy_max if unit.heal else 0.0)
        self._energy_start = _column(units, lambda unit: unit.heal.energy_start if unit.heal else 0.0)
        self._energy_regen = _column(
            units, lambda unit: unit.heal.energy_regen / LOOPS_PER_SECOND if unit.heal else 0.0
        )
        self._health_regen = _column(units, lambda unit: unit.health_regen / LOOPS_PER_SECOND)
        self._shield_regen = _column(units, lambda unit: unit.shield_regen / LOOPS_PER_SECOND)
        self._regen_delay = _column(units, lambda unit: unit.shield_regen_delay * LOOPS_PER_SECOND)
        self._units = units

        separation = _pairs(
            units,
            units,
            lambda a, b: a.separation_radius + b.separation_radius if a.flies == b.flies else 1e-3,
        )
        self._inverse_squared_separation = 1.0 / np.square(separation)
        # Where dead units are put while the living are pushed apart: far from everyone, each in a place of its own.
        self._grave = 100.0 * np.arange(1, len(units) + 1, dtype=np.float32)[:, None]

        self._pathable = scenario.pathable
        grounds = [self._ground(unit, scenario) for unit in units]
        corners = np.array([[axis.min() for axis in np.nonzero(ground)] for ground in grounds], np.float32)
        far_corners = np.array([[axis.max() + 1 for axis in np.nonzero(ground)] for ground in grounds], np.float32)
        self._low_x, self._low_y = corners[:, :1], corners[:, 1:]
        self._high_x, self._high_y = far_corners[:, :1] - _EDGE, far_corners[:, 1:] - _EDGE
        # Ground that is one full rectangle needs no look-up: staying inside its bounds is enough.
        self._rectangular = all(is_rectangle(ground) for ground in grounds)
        self._grounds = np.array(grounds).reshape(-1)
        self._paths = Paths(scenario.pathable)
        self._needs_way = np.array([[not (unit.flies or unit.cliff_walk)] for unit in units])

    @staticmethod
    def _ground(unit: UnitType, scenario: Scenario) -> np.ndarray:
        """[32, 32] bool: the cells the unit's centre may be in."""
        if unit.flies:
            return np.ones_like(scenario.pathable)
        return scenario.pathable | scenario.cliffs if unit.cliff_walk else scenario.pathable

    def spawn(self, jitter: tf.Tensor) -> Units:
        """A fresh battle. Args: jitter [U, B] in [-1, 1], displaces units by that many SPAWN_JITTER in y."""
        zero = tf.zeros_like(jitter)
        nobody = tf.fill(tf.shape(jitter), NOBODY)
        return Units(
            x=zero + self._spawn[:, :1],
            y=self._spawn[:, 1:] + SPAWN_JITTER * jitter,
            health=zero + self.max_health,
            shield=zero + self.max_shield,
            energy=zero + self._energy_start,
            cooldown=zero,
            strike_delay=zero,
            strikes_left=zero,
            target=nobody,
            loops_unhurt=zero,
            last_attacker=nobody,
            has_burst=tf.zeros_like(jitter, tf.bool),
            push_x=zero,
            push_y=zero,
        )

    def is_pathable(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Whether the cell of each place is inside the map and can be walked on; int() truncates toward zero."""
        column, row = tf.cast(x, tf.int32), tf.cast(y, tf.int32)
        inside = (column >= 0) & (column < MAP_SIZE) & (row >= 0) & (row < MAP_SIZE)
        cell = tf.clip_by_value(column * MAP_SIZE + row, 0, MAP_SIZE * MAP_SIZE - 1)
        return inside & tf.gather(tf.constant(self._pathable.reshape(-1)), cell)

    def advance(
        self, units: Units, orders: Orders, jitter: tf.Tensor, num_loops: int, frozen: tf.Tensor | None = None
    ) -> Units:
        """Plays `num_loops` game loops.

        Args:
            units: the battles before.
            orders: hold for all the loops.
            jitter: [U, B] float, game loops added to the period of the attacks that a unit starts.
            num_loops: game loops.
            frozen: [B] bool, battles that stay as they are.
        Returns:
            The battles after.
        """

        def loop(count, before):
            after = self._loop(before, orders, jitter)
            if frozen is not None:
                after = tf.nest.map_structure(lambda old, new: tf.where(frozen, old, new), before, after)
            return count + 1, after

        return tf.while_loop(lambda count, _: count < num_loops, loop, (0, units))[1]

    def _loop(self, units: Units, orders: Orders, jitter: tf.Tensor) -> Units:
        # What compares all pairs of units (strikes, targets, pushes) reads the state at the start of the loop and as
        # little of what this loop computes as can be: XLA would compute that anew for every pair.
        # 1. Hits.
        was_alive = units.alive
        lands = was_alive & (units.strikes_left > 0) & (units.strike_delay <= 0)
        health, shield, last_attacker = self._strike(units, tf.where(lands & ~self._bursts, units.target, NOBODY))
        has_burst = units.has_burst
        if self._bursts.any():
            detonates = self._bursts & ~has_burst & (lands | (health <= 0))
            has_burst |= detonates
            health, shield = self._burst(units, detonates, tf.where(detonates, 0.0, health), shield)
        hurt = (health < units.health) | (shield < units.shield)
        alive = health > 0
        strikes_left = units.strikes_left - tf.cast(lands, tf.float32)
        delay_after = tf.where(strikes_left > 0, self._hit_interval, self._after_last_hit)
        strike_delay = tf.where(lands, delay_after, units.strike_delay)

        # 2. Whom.
        target = tf.where(was_alive, orders.target, NOBODY)
        if not self._scripted_enemies:
            target = tf.concat([target[: self._n], self._acquire(units, target[: self._n])], axis=0)
        rows = tf.where(target == NOBODY, self._ids, target)  # nobody can hit its own side
        target_x, target_y = gather(units.x, rows), gather(units.y, rows)
        squared_reach = tf.gather(tf.constant(self._squared_reach.reshape(-1)), self._ids * self._u + rows)
        has_target = alive & gather(was_alive, rows) & (squared_reach >= 0)
        target = tf.where(has_target, target, NOBODY)
        in_reach = has_target & (tf.square(target_x - units.x) + tf.square(target_y - units.y) <= squared_reach)

        # 3. Attacks.
        taken_back = (strikes_left == self._hits) & (target != units.target)  # before their first hit
        strikes_left = tf.where(taken_back, 0.0, strikes_left)
        cooldown = tf.where(taken_back, 0.0, units.cooldown)
        begins = in_reach & (cooldown <= 0) & (strikes_left == 0)
        busy = begins | (((strikes_left > 0) | (strike_delay > 0)) & (target == units.target))
        # Later hits of a running attack follow the target it began on, whatever the orders say since.
        target = tf.where(strikes_left > 0, units.target, target)
        strikes_left = tf.where(begins, self._hits, strikes_left)
        strike_delay = tf.where(begins, self._damage_point, strike_delay)
        cooldown = tf.where(begins, self._period + jitter, cooldown)

        # 4. Healing, 5. Moves.
        goal_x = tf.where(has_target, target_x, orders.x)
        goal_y = tf.where(has_target, target_y, orders.y)
        walks = alive & (has_target | orders.moves) & ~in_reach & ~busy
        energy = units.energy
        if self._healers:
            health, energy, target, walks, goal_x, goal_y = self._heal(
                units, orders, alive, health, target, walks, goal_x, goal_y
            )
        x, y, push_x, push_y = self._move(units, goal_x, goal_y, walks, has_target, alive)

        # 6. Time.
        loops_unhurt = tf.where(hurt, 0.0, units.loops_unhurt + 1.0)
        recovers = alive & (loops_unhurt >= self._regen_delay)
        return Units(
            x=x,
            y=y,
            health=tf.where(alive, tf.minimum(health + self._health_regen, self.max_health), 0.0),
            shield=tf.where(recovers, tf.minimum(shield + self._shield_regen, self.max_shield), shield),
            energy=tf.where(alive, tf.minimum(energy + self._energy_regen, self._max_energy), energy),
            cooldown=tf.maximum(cooldown - 1.0, 0.0),
            strike_delay=strike_delay - 1.0,
            strikes_left=strikes_left,
            target=target,
            loops_unhurt=loops_unhurt,
            last_attacker=last_attacker,
            has_burst=has_burst,
            push_x=push_x,
            push_y=push_y,
        )

    def _acquire(self, units: Units, agent_target: tf.Tensor) -> tf.Tensor:
        """Whom each enemy attacks: [M, B] int32, an agent or NOBODY. Args: agent_target [N, B]."""
        n = self._n
        enemy_ids = self._ids[n:, None]
        agent_ids = self._ids[None, :n]
        agent_x = tf.where(units.alive[:n], units.x[:n], _FAR)
        distance = squared_distance(units.x[n:], units.y[n:], agent_x, units.y[:n])
        attacks_me = agent_target[None] == enemy_ids
        hit_me = units.last_attacker[n:][:, None] == agent_ids
        mine = units.target[n:][:, None] == agent_ids
        keeps = mine & (attacks_me | (distance <= self._squared_reach[n:, :n]))
        noticed = tf.where(distance <= self._squared_notice, 1.0 + distance, np.inf)
        score = tf.where(keeps, 0.0, tf.where(attacks_me | hit_me, distance * _THREAT, noticed))
        # One minimum finds both how near and who: positive floats sort like their bits, and the lowest of these, worth
        # less than a thousandth of a map unit, hold the agent's number.
        low_bits = (1 << max(n - 1, 1).bit_length()) - 1
        key = tf.bitwise.bitwise_or(
            tf.bitwise.bitwise_and(tf.bitcast(score, tf.int32), ~low_bits), tf.constant(agent_ids)
        )
        best = tf.reduce_min(key, axis=1)
        found = units.alive[n:] & (best < np.float32(_FAR / 2).view(np.int32))
        return tf.where(found, tf.bitwise.bitwise_and(best, low_bits), NOBODY)

    def _strike(self, units: Units, struck: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Args: struck [U, B] int32, whom each unit hits in this loop, or NOBODY.

        Returns: health, shield and the last attacker, [U, B] each.
        """
        n = self._n
        on_agents = self._swept(units, struck, slice(n, self._u), slice(0, n))
        on_enemies = self._swept(units, struck, slice(0, n), slice(n, self._u))
        agent_loss, agent_shield = self._strikes_on_agents(on_agents, units.shield[:n])
        enemy_loss, enemy_shield = self._strikes_on_enemies(on_enemies, units.shield[n:])
        health = tf.maximum(units.health - tf.concat([agent_loss, enemy_loss], axis=0), 0.0)
        # Only enemies retaliate; of several who hit in one loop, on the one listed last.
        attacker = tf.reduce_max(tf.where(on_enemies, self._ids[None, :n], NOBODY), axis=1)
        enemy_attacker = tf.where(attacker == NOBODY, units.last_attacker[n:], attacker)
        last_attacker = tf.concat([units.last_attacker[:n], enemy_attacker], axis=0)
        return health, tf.concat([agent_shield, enemy_shield], axis=0), last_attacker

    def _swept(self, units: Units, struck: tf.Tensor, attackers: slice, targets: slice) -> tf.Tensor:
        """Whom the hits of one side land on: [J, I, B] bool, target j by attacker i. Args: struck [U, B]."""
        hits = struck[attackers][None] == self._ids[targets][:, None]
        types = self._units[attackers]
        lines = [unit.weapon.line if unit.weapon else None for unit in types]
        if not any(lines):
            return hits
        half_length = np.array([[[line.half_length if line else 0.0] for line in lines]], np.float32)
        within = _pairs(
            self._units[targets],
            types,
            lambda target, unit: (
                target.radius + unit.weapon.line.scan_radius
                if unit.weapon and unit.weapon.line and unit.can_hit(target)
                else -1.0
            ),
        )
        x, y = units.x[targets][:, None], units.y[targets][:, None]  # [J, 1, B]
        rows = tf.maximum(struck[attackers], 0)
        aim_x, aim_y = gather(units.x, rows), gather(units.y, rows)  # [I, B]
        way_x, way_y = aim_x - units.x[attackers], aim_y - units.y[attackers]
        scale = tf.math.rsqrt(tf.square(way_x) + tf.square(way_y) + 1e-12)
        way_x, way_y = way_x * scale, way_y * scale
        along = (x - aim_x) * way_x + (y - aim_y) * way_y
        across = tf.abs((x - aim_x) * way_y - (y - aim_y) * way_x)
        beyond = tf.maximum(across - half_length, 0.0)
        near = (within >= 0) & (tf.square(along) + tf.square(beyond) <= tf.square(within))
        return hits | (near & (struck[attackers] != NOBODY) & units.alive[targets][:, None])

    def _burst(
        self, units: Units, detonates: tf.Tensor, health: tf.Tensor, shield: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What bursts [U, B] do to the other side. Returns: health and shield, [U, B] each."""
        agents, enemies = slice(0, self._n), slice(self._n, self._u)
        sides = []
        for own, others, strikes in (
            (agents, enemies, self._bursts_on_agents),
            (enemies, agents, self._bursts_on_enemies),
        ):
            ids = [i for i in range(others.start, others.stop) if self._bursts[i, 0]]
            if not ids:
                sides.append((health[own], shield[own]))
                continue
            within = _pairs(
                self._units[own],
                tuple(self._units[i] for i in ids),
                lambda target, unit: unit.weapon.burst_radius + target.radius if unit.can_hit(target) else 0.0,
            )
            x, y = tf.gather(units.x, ids), tf.gather(units.y, ids)
            distance = squared_distance(units.x[own], units.y[own], x, y)
            hits = (distance <= np.square(within)) & tf.gather(detonates, ids)[None]
            lost, left = strikes(hits, shield[own])
            sides.append((tf.maximum(health[own] - lost, 0.0), left))
        (agent_health, agent_shield), (enemy_health, enemy_shield) = sides
        return tf.concat([agent_health, enemy_health], axis=0), tf.concat([agent_shield, enemy_shield], axis=0)

    def _heal(
        self,
        units: Units,
        orders: Orders,
        alive: tf.Tensor,
        health: tf.Tensor,
        target: tf.Tensor,
        walks: tf.Tensor,
        goal_x: tf.Tensor,
        goal_y: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """What healers do, one after the other; all [U, B].

        Args:
            units: at the start of the loop.
            orders: of the players.
            alive: after the loop's hits.
            health: likewise.
            target, walks, goal_x, goal_y: of the others; the healers' rows are filled in here.
        Returns:
            health, energy, target, walks, goal_x, goal_y.
        """
        n, energy = self._n, units.energy
        for healer, unit, heal in self._healers:
            side = slice(0, n) if healer < n else slice(n, self._u)
            friends, ids = self._units[side], self._ids[side]
            me = self._ids == healer
            patient = alive[side] & np.array([[unit.can_heal(friend)] for friend in friends])
            distance = tf.square(units.x[side] - units.x[healer]) + tf.square(units.y[side] - units.y[healer])
            to_edges = _column(friends, lambda friend, unit=unit: unit.radius + friend.radius)
            if healer < n or self._scripted_enemies:
                picked = patient & (ids == orders.target[healer])
                treats = True
            else:
                hurt = patient & (health[side] < self.max_health[side])
                hurt &= (distance <= np.square(heal.scan_range + to_edges)) & (energy[healer] >= heal.scan_energy)
                score = tf.where(hurt, health[side], tf.where(patient, _FAR + distance, np.inf))
                best = tf.reduce_min(score, axis=0)
                first = tf.reduce_min(tf.where((score == best) & (best < np.inf), ids, self._u), axis=0)
                picked, treats = ids == first, best < _FAR  # or follows only
            has_patient = alive[healer] & tf.reduce_any(picked, axis=0)
            in_range = has_patient & tf.reduce_any(picked & (distance <= np.square(heal.range + to_edges)), axis=0)

            def of_patient(values: tf.Tensor, picked=picked) -> tf.Tensor:
                return tf.reduce_sum(tf.where(picked, values, 0.0), axis=0)

            lacking = of_patient(self.max_health[side] - health[side])
            given = tf.minimum(heal.hit_points_per_second / LOOPS_PER_SECOND, lacking)
            given = tf.where(in_range & treats, tf.minimum(given, energy[healer] / heal.energy_per_hit_point), 0.0)
            health += tf.where(self._ids == tf.reduce_max(tf.where(picked, ids, NOBODY), axis=0), given, 0.0)
            energy -= tf.where(me, given * heal.energy_per_hit_point, 0.0)
            named = tf.reduce_max(tf.where(picked & (given > 0), ids, NOBODY), axis=0)
            target = tf.where(me, named, target)
            goes = tf.where(has_patient, ~in_range, orders.moves[healer])
            walks = tf.where(me, alive[healer] & goes, walks)
            goal_x = tf.where(me & has_patient, of_patient(units.x[side]), goal_x)
            goal_y = tf.where(me & has_patient, of_patient(units.y[side]), goal_y)
        return health, energy, target, walks, goal_x, goal_y

    def _move(
        self,
        units: Units,
        goal_x: tf.Tensor,
        goal_y: tf.Tensor,
        walks: tf.Tensor,
        has_target: tf.Tensor,
        alive: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """One stride toward the goal, apart from whom one overlaps, back onto one's ground; all [U, B].

        Returns: x, y, and the push in x and y.
        """
        x, y = units.x, units.y
        if self._paths.waypoint is not None:
            guided = (has_target | (self._ids >= self._n)) & self._needs_way
            way_x, way_y, detours = self._next_on_way(self._paths.waypoint, x, y, goal_x, goal_y)
            goal_x = tf.where(guided & detours, way_x, goal_x)
            goal_y = tf.where(guided & detours, way_y, goal_y)
        walking = tf.cast(walks, tf.float32)
        dx, dy = goal_x - x, goal_y - y
        stride = walking * tf.minimum(self._stride * tf.math.rsqrt(tf.square(dx) + tf.square(dy) + 1e-12), 1.0)
        stride_x, stride_y = stride * dx, stride * dy
        # Whom others block slides round them: the part of the stride that goes against their last push is lost.
        against = tf.minimum(stride_x * units.push_x + stride_y * units.push_y, 0.0)
        against /= tf.square(units.push_x) + tf.square(units.push_y) + 1e-12
        new_x = x + stride_x - against * units.push_x
        new_y = y + stride_y - against * units.push_y

        apart_x, apart_y = self._apart(new_x, new_y, walking, alive)
        return *self._keep_on_ground(x, y, apart_x, apart_y), apart_x - new_x, apart_y - new_y

    def _next_on_way(
        self, waypoint: np.ndarray, x: tf.Tensor, y: tf.Tensor, goal_x: tf.Tensor, goal_y: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Where to steer to reach the goal, and whether that is anywhere but straight for it; [U, B] each."""

        def row(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            cell = tf.cast(x, tf.int32) * MAP_SIZE + tf.cast(y, tf.int32)
            return tf.gather(tf.constant(self._paths.index), tf.clip_by_value(cell, 0, MAP_SIZE**2 - 1))

        cell = tf.gather(tf.constant(waypoint.reshape(-1)), row(x, y) * len(waypoint) + row(goal_x, goal_y))
        middle = 0.5
        return (
            tf.cast(cell // MAP_SIZE, tf.float32) + middle,
            tf.cast(cell % MAP_SIZE, tf.float32) + middle,
            cell >= 0,
        )

    def _apart(self, x: tf.Tensor, y: tf.Tensor, walking: tf.Tensor, alive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where units end up that make way for their neighbours; all [U, B], `walking` float.

        Neighbours are taken in turn, several at a time and each for all units at once: sums over pairs would read every
        pair twice, once for x and once for y, and take three times as long.
        """
        yields, stays = _RELAXATION * (0.5 + _YIELD * walking), _RELAXATION * _YIELD * walking
        turns = -(-self._u // _NEIGHBOURS)
        at_a_time = -(-self._u // turns)
        nobodies = [[0, turns * at_a_time - self._u], [0, 0]]
        closeness = tf.constant(np.pad(self._inverse_squared_separation, [*nobodies, [0, 0]], constant_values=1.0))

        def one_pass(count, x, y):
            other_x = tf.pad(x, nobodies, constant_values=_FAR)
            other_y, other_stays = tf.pad(y, nobodies), tf.pad(stays, nobodies)

            def turn(i, push_x, push_y):
                for j in (i * at_a_time + k for k in range(at_a_time)):
                    dx, dy = x - other_x[j], y - other_y[j]
                    # 1 - (d / s)^2, not s / d - 1: about twice as much for a slight overlap, no root or division.
                    overlap = tf.maximum(1.0 - (tf.square(dx) + tf.square(dy)) * closeness[j], 0.0)
                    push = overlap * (yields - other_stays[j])
                    push_x += push * dx
                    push_y += push * dy
                return i + 1, push_x, push_y

            _, push_x, push_y = tf.while_loop(lambda i, *_: i < turns, turn, (0, tf.zeros_like(x), tf.zeros_like(y)))
            return count + 1, x + push_x, y + push_y

        # The dead are out of the way meanwhile, and no two of the living are in one place, where none would know which
        # way to make.
        off = _TIE_BREAK * self._ids.astype(np.float32)
        _, apart_x, apart_y = tf.while_loop(
            lambda count, *_: count < _PASSES, one_pass, (0, tf.where(alive, x + off, self._grave), y + off)
        )
        return tf.where(alive, apart_x - off, x), apart_y - off

    def _keep_on_ground(
        self, x: tf.Tensor, y: tf.Tensor, new_x: tf.Tensor, new_y: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Slides along what blocks the way: each coordinate changes only if its change alone is possible."""
        new_x = tf.clip_by_value(new_x, self._low_x, self._high_x)
        new_y = tf.clip_by_value(new_y, self._low_y, self._high_y)
        if not self._rectangular:
            ground, first = tf.constant(self._grounds), self._ids * MAP_SIZE**2

            def possible(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
                return tf.gather(ground, first + tf.cast(x, tf.int32) * MAP_SIZE + tf.cast(y, tf.int32))

            new_x = tf.where(possible(new_x, y), new_x, x)
            new_y = tf.where(possible(new_x, new_y), new_y, y)
        return new_x, new_y


def _bursting(units: tuple[UnitType, ...]) -> tuple[UnitType, ...]:
    return tuple(unit for unit in units if unit.weapon and unit.weapon.burst_radius)
