"""Units move, fight and die by the rules in this module, one game loop (1/16 game second) at a time.

The rules are one pure function of tensors.

The letters in all shapes: N agents, M enemies, U = N + M units with the agents first, B battles. Here, and in the
modules of this package that work with it, the battles are the *last* axis. Every operation, also on pairs of units,
then runs along contiguous battles, which XLA turns into full vector instructions. Values that belong to a unit's target
are gathered; summing them out of all pairs would be slower.

A game loop has these steps, each for all units at once. (StarCraft II updates the units one by one in random order.)

1. Hits. The hits that are due land. A missile takes the time that its way needs, whatever happens to the unit that
   fired it. Shields absorb damage first, armour reduces each hit that reaches health, and no hit does less than half a
   hit point. Each beam of a colossus hits at once all enemies on the ground along its line; the beams come one loop
   apart. A baneling explodes when it strikes, or in the loop in which it is killed; one that an explosion kills
   explodes in the next loop. Two units may kill each other in the same loop.
2. Targets. An agent attacks the unit that its order names, while that unit lives, and then idles. An enemy takes the
   first of these that exists: its target, if that attacks it; the nearest agent in reach of its weapon that attacks it;
   its target, if that is in reach; the nearest agent that attacks it or hit it last; the nearest agent that it notices.
   Without any, it walks to its attack-move point in formation. So two agents who shoot in turn keep a zealot running
   between them, as they do in the game. In SMACv2's scenarios, an enemy that idles is ordered to attack the closest
   agent, wherever that is, and attacks nobody else while that agent lives. Nobody attacks what its weapon cannot hit;
   an agent with such an order stands.
3. Attacks. A weapon that is ready, with its target in reach and its turret pointing there, starts an attack. Its first
   hit is due after the weapon's damage point. A new target ends the attack that is running: before its first hit the
   attack is taken back, after it the later hits are lost.
4. Healing. A healer turns energy into health for its patient while the patient is in range and hurt. If the patient is
   out of range, the healer walks to it. An agent heals only the unit that its order names. An enemy heals the one with
   the smallest fraction of its health among the hurt units in its scan range. If nobody is hurt, it follows the nearest
   unit that it could heal.
5. Moves. A unit that has a place to go, no target in reach and no attack to finish walks there, round obstacles and
   round units in its way. (An agent that is ordered to move looks for no way round obstacles, because the order aims
   only two map units ahead.) Of a few directions it takes the cheapest one. The cost counts the angle to the goal, how
   much stands there and how near, and leaving the direction in which it walked. Units that walk along with it are no
   obstacle. So melee units surround their target, and those who come last look for a place beside the others. Units of
   one plane (ground or air) that overlap are pushed apart: walking units make way for standing ones, which do not yield
   to them. An attack keeps a unit in place until its backswing is over or until it is ordered elsewhere. The centre of
   a unit never leaves its ground.
6. Time. Cooldowns run down. Shields, the health of Zerg units and energy recover.

The docstring of the package `combat` says which of these rules are choices, because the game's own are not known. A
hit that becomes due within a loop lands in the next loop, and a target that dies in one loop is given up in the next.
The bonus of banelings against structures is left out, because no map has both.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat.roster import Roster
from tf_marl.environments.combat.scenarios import MAP_SIZE, SPAWN_JITTER, Scenario
from tf_marl.environments.combat.terrain import Paths, is_rectangle
from tf_marl.environments.combat.units import LOOPS_PER_SECOND, Line, UnitType, Weapon

COOLDOWN_JITTER = (-1.0, 2.0)  # game loops, uniform; added to each attack's period
MIN_HIT = 0.5  # hit points; armour never takes a hit below this
NOBODY = -1
_CANNOT = -1.0  # squared reach of a weapon that cannot hit
_PASSES = 2  # rounds of pushing units apart in each loop
_NEIGHBOURS = 20  # at most so many units push at a time
_OBSTACLES = 10  # at most so many units are looked at in one go, when a way round them is sought
# Game loops for which a walker keeps its direction, relative to its goal; with 4 the battle would be a tenth slower.
_LOOPS_PER_PLAN = 8
_DIRECTIONS = np.radians([-105.0, -70.0, -35.0, 0.0, 35.0, 70.0, 105.0])  # angles to the direction of the goal
_LOOKOUT = 4.0  # map units; a walker looks so far ahead
_BLOCKED = 2.75  # radians: the cost of a direction in which the next stride is blocked
_KEEP = 0.3  # radians: the cost of a direction at right angles to the last stride
_SHAVE = 0.15  # map units; two units may pass each other by so much closer than they may stand
_COMPANY = 0.9  # fraction of its weight that an obstacle loses if it walks along at one's own speed
_SIDE = 1e-3  # radians: half of all units prefer the left, the others the right
_TIE_BREAK = 1e-4  # map units; unit i is shifted by i of these, so that no two are in one place
_RELAXATION = 0.85  # fraction of each push that is applied; in a crowd, full pushes would throw a unit too far
_EDGE = 1e-3  # map units kept from the ground's sides, so that int() gives the same cell in any precision
# An enemy takes the agent with the lowest score. The scores: 0 for its target, if that attacks it; the squared distance
# times `_NEARER` (below 0.01) for attackers in reach; `_KEPT` for its target in reach; from `_THREAT` to 0.3 for other
# attackers; from `_NOTICED` upwards for agents that it notices.
_NEARER, _KEPT, _THREAT, _NOTICED = 1e-4, 0.01, 0.02, 1.0
_AIM = np.radians(11.25)  # a turret fires if it points to its target within this angle: the game's ArcSlop
_FAR = 1e4  # map units; searches treat the dead as so far away


class Units(NamedTuple):
    """Holds all units of all battles. Each field is [U, B], float32 unless its comment says otherwise."""

    x: tf.Tensor  # map units, to the east
    y: tf.Tensor  # map units, to the north
    health: tf.Tensor  # hit points; 0 is dead
    shield: tf.Tensor  # shield points
    energy: tf.Tensor  # energy of healers; 0 for other units
    cooldown: tf.Tensor  # game loops until the weapon is ready; 0 is ready
    strike_delay: tf.Tensor  # game loops until the attack's next hit; after its last one, until its backswing is over
    strikes_left: tf.Tensor  # hits of the running attack that are yet to land
    target: tf.Tensor  # int32, the unit it attacks (a healer: heals), or NOBODY
    loops_unhurt: tf.Tensor  # game loops since the last hit taken
    last_attacker: tf.Tensor  # int32, of enemies: the agent that hit it last, or NOBODY; of agents: NOBODY
    has_burst: tf.Tensor  # bool, whether it is a baneling that has exploded
    facing_x: tf.Tensor  # the direction, of length 1, in which its turret points; unused without a turret
    facing_y: tf.Tensor
    missile_delay: tf.Tensor  # game loops until its missile arrives
    missile_target: tf.Tensor  # int32, the unit its missile flies at, or NOBODY without any under way
    stride_x: tf.Tensor  # map units that it moved in the last loop
    stride_y: tf.Tensor
    detour_along: tf.Tensor  # the direction in which it walks, of length 1: its part toward the goal
    detour_across: tf.Tensor  # and its part to the left of the goal

    @property
    def alive(self) -> tf.Tensor:
        """Returns which units are alive, [U, B] bool."""
        return self.health > 0


class Orders(NamedTuple):
    """Holds the orders to all units for the next game loops.

    Enemies that the game leads ignore `target`, because they find targets by themselves.
    """

    target: tf.Tensor  # [U, B] int32: the unit to attack (a healer: to heal), or NOBODY
    moves: tf.Tensor  # [U, B] bool: whether to go to (x, y), unless there is a target
    x: tf.Tensor  # [U, B] map units
    y: tf.Tensor  # [U, B]

    @classmethod
    def none(cls, shape: list[int]) -> "Orders":
        """Returns no order to each of some units: they stand.

        Args:
            shape: [K, B].
        """
        zero = tf.zeros(shape)
        return cls(tf.fill(shape, NOBODY), tf.zeros(shape, tf.bool), zero, zero)


def squared_distance(x: tf.Tensor, y: tf.Tensor, other_x: tf.Tensor, other_y: tf.Tensor) -> tf.Tensor:
    """Computes the squared distances between the centres of units.

    Args:
        x: [I, B] map units.
        y: [I, B] map units.
        other_x: [J, B] map units.
        other_y: [J, B] map units.
    Returns:
        [I, J, B] squared map units.
    """
    return tf.square(x[:, None] - other_x[None]) + tf.square(y[:, None] - other_y[None])


def gather(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gathers some rows of values, other ones in each battle.

    Args:
        values: [I, B].
        rows: [J, B] int32, the rows to take in each battle.
    Returns:
        The values of those rows, [J, B].
    """
    battles = values.shape[1]
    return tf.gather(tf.reshape(values, [-1]), rows * battles + tf.range(battles)[None])


def squared_reach(attacker: UnitType, target: UnitType) -> float:
    """Returns the squared distance between centres at which a unit's weapon reaches a target; -1 if it cannot hit it.

    Weapon ranges count from edge to edge, so both radii are added.

    Args:
        attacker: the type of the unit that attacks.
        target: the type of the unit to hit.
    """
    if attacker.weapon is None or not attacker.can_hit(target):
        return _CANNOT
    return (attacker.weapon.range + attacker.radius + target.radius) ** 2


def _notices_anywhere(enemy: UnitType, agent: UnitType) -> float:
    """Returns infinity if the enemy's weapon reaches the agent's plane, else -1: an enemy that hunts all agents."""
    return np.inf if enemy.can_hit(agent) else _CANNOT


def _squared_notice(enemy: UnitType, agent: UnitType) -> float:
    """Returns the squared distance between centres at which an enemy notices an agent: its scan range or its reach."""
    if enemy.weapon is None or not enemy.can_hit(agent):
        return _CANNOT
    return max(squared_reach(enemy, agent), enemy.weapon.scan_range**2)


class _Strikes:
    """Computes the damage that hits of some units do to others."""

    def __init__(self, attackers: Roster, targets: Roster, hits: Callable[[UnitType], bool]):
        # Units of one type deal equal hits, so counting them per type is exact and needs no order among them.
        kinds = [kind for kind in attackers.types if attackers.some(functools.partial(operator.is_, kind))]
        self._types = [
            (
                attackers.column(functools.partial(_same, kind))[None] if len(kinds) > 1 else None,
                targets.column(kind.weapon.damage_to),
            )
            for kind in kinds
            if kind.weapon and hits(kind)
        ]
        self._armor = targets.column(lambda unit: unit.armor)

    def __call__(self, hits: tf.Tensor, shield: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies hits to shields first and then, less the armour, to health.

        Args:
            hits: [J, I, B] bool, whether attacker i hits target j.
            shield: [J, B] shield points of the targets.
        Returns:
            The hit points that each target loses [J, B], and the shield points that it has left [J, B].
        """
        hits = tf.cast(hits, tf.float32)
        lost = tf.zeros_like(shield)
        for is_kind, damage in self._types:
            count = tf.reduce_sum(hits if is_kind is None else hits * is_kind, axis=1)
            past_shield = tf.maximum(count * damage - shield, 0.0)
            shield = tf.maximum(shield - count * damage, 0.0)
            # Of the hits that reach health, the shield can only have weakened the first one.
            reaching = tf.math.ceil(past_shield / damage)
            first = past_shield - (reaching - 1.0) * damage
            lost += tf.where(
                past_shield > 0,
                tf.maximum(first - self._armor, MIN_HIT) + (reaching - 1.0) * tf.maximum(damage - self._armor, MIN_HIT),
                0.0,
            )
        return lost, shield


class Physics:
    """Holds the rules of battle for one scenario: constants from its construction, and pure functions of tensors.

    Args:
        scenario: the map.
        roster: the types of all units; None for the scenario's own.
    """

    def __init__(self, scenario: Scenario, roster: Roster | None = None):
        self._scenario = scenario
        units = self.roster = Roster.of(scenario.units) if roster is None else roster
        self._n, self._u = scenario.num_agents, len(units)
        agents, enemies = units[: self._n], units[self._n :]
        self._ids = np.arange(self._u, dtype=np.int32)[:, None]
        self._spawn = scenario.spawn.astype(np.float32)
        self.max_health = units.column(lambda unit: unit.hit_points)
        self.max_shield = units.column(lambda unit: unit.shield_points)
        self._stride = units.column(lambda unit: unit.speed / LOOPS_PER_SECOND)
        self._loops_per_unit = units.column(lambda unit: LOOPS_PER_SECOND / unit.speed if unit.speed else 0.0)
        self._formation = scenario.formation.astype(np.float32)
        self._attack_moves = scenario.enemy_order == "attack_move"
        self._told_whom = scenario.enemy_order == "closest"
        self._bursts = units.column(_bursts)

        self._period = _of_weapons(units, lambda weapon: weapon.period * LOOPS_PER_SECOND)
        self._damage_point = _of_weapons(units, lambda weapon: weapon.damage_point * LOOPS_PER_SECOND)
        self._hit_interval = _of_weapons(units, lambda weapon: weapon.hit_interval * LOOPS_PER_SECOND)
        self._hits = _of_weapons(units, lambda weapon: weapon.hits)
        self._after_last_hit = _of_weapons(units, _loops_after_last_hit)
        self._turns = units.column(_turns)
        self._turn_cos = units.column(lambda unit: np.cos(_turn_per_loop(unit)))
        self._turn_sin = units.column(lambda unit: np.sin(_turn_per_loop(unit)))
        self._fires = units.column(_fires)
        self._loops_per_missile_unit = units.column(
            lambda unit: LOOPS_PER_SECOND / np.float32(_missile_speed(unit)) if _fires(unit) else 0.0
        )
        self._muzzle = units.column(lambda unit: unit.radius)  # map units from the centre; missiles start there
        is_agent = self._ids < self._n
        one_side = (is_agent == is_agent.T)[..., None]
        self._squared_reach = _where(one_side, _CANNOT, units.pairs(units, squared_reach))
        self._squared_notice = enemies.pairs(
            agents, _squared_notice if scenario.enemy_order != "attack" else _notices_anywhere
        )
        self._strikes_on_agents = _Strikes(enemies, agents, _strikes)
        self._strikes_on_enemies = _Strikes(agents, enemies, _strikes)

        self._max_energy = units.column(lambda unit: unit.heal.energy_max if unit.heal else 0.0)
        self._energy_start = units.column(lambda unit: unit.heal.energy_start if unit.heal else 0.0)
        self._energy_regen = units.column(lambda unit: unit.heal.energy_regen / LOOPS_PER_SECOND if unit.heal else 0.0)
        self._health_regen = units.column(lambda unit: unit.health_regen / LOOPS_PER_SECOND)
        self._shield_regen = units.column(lambda unit: unit.shield_regen / LOOPS_PER_SECOND)
        self._regen_delay = units.column(lambda unit: unit.shield_regen_delay * LOOPS_PER_SECOND)

        self._inverse_squared_separation = units.pairs(units, lambda a, b: 1.0 / np.square(_separation(a, b)))
        room = units.pairs(
            units, lambda a, b: np.maximum(_separation(a, b) - np.float32(_SHAVE), 0.0) * (a.flies == b.flies)
        )
        self._room = room * (self._ids != self._ids.T).astype(np.float32)[..., None]
        # Dead units are put here while the living are pushed apart: far from everyone, each in a place of its own.
        self._grave = 100.0 * np.arange(1, len(units) + 1, dtype=np.float32)[:, None]

        self._pathable = scenario.pathable
        grounds = {unit: self._ground(unit, scenario) for unit in units.types}
        corners = {unit: np.argwhere(ground).min(0).astype(np.float32) for unit, ground in grounds.items()}
        far_corners = {unit: np.argwhere(ground).max(0).astype(np.float32) + 1 for unit, ground in grounds.items()}
        self._low_x = units.column(lambda unit: corners[unit][0] + np.float32(_EDGE))
        self._low_y = units.column(lambda unit: corners[unit][1] + np.float32(_EDGE))
        self._high_x = units.column(lambda unit: far_corners[unit][0] - np.float32(_EDGE))
        self._high_y = units.column(lambda unit: far_corners[unit][1] - np.float32(_EDGE))
        # Ground that is one full rectangle needs no look-up: staying inside its bounds is enough.
        self._rectangular = not units.some(lambda unit: not is_rectangle(grounds[unit]))
        if not self._rectangular:
            self._grounds = np.array([grounds[units.types[kind]] for kind in units.kinds[:, 0]]).reshape(-1)
        self._paths = Paths(scenario.pathable)
        self._needs_way = units.column(lambda unit: not (unit.flies or unit.cliff_walk))

    def of_roster(self, roster: Roster) -> "Physics":
        """Returns the same rules for units of other types.

        Args:
            roster: the types of all units.
        """
        return Physics(self._scenario, roster)

    @staticmethod
    def _ground(unit: UnitType, scenario: Scenario) -> np.ndarray:
        """Returns the cells in which the unit's centre may be: [32, 32] bool, indexed [x, y]."""
        if unit.flies:
            return np.ones_like(scenario.pathable)
        return scenario.pathable | scenario.cliffs if unit.cliff_walk else scenario.pathable

    def spawn(self, jitter: tf.Tensor, places: tuple[tf.Tensor, tf.Tensor] | None = None) -> Units:
        """Places all units at the start of a battle.

        Args:
            jitter: [U, B] in [-1, 1], shifts units in y by this many `SPAWN_JITTER` from the map's own places.
            places: x and y of each unit, [U, B] map units, where battles draw them; None for the map's own.
        Returns:
            All units, each field [U, B].
        """
        x, y = places or (self._spawn[:, :1], self._spawn[:, 1:] + SPAWN_JITTER * jitter)
        zero = tf.zeros_like(jitter)
        nobody = tf.fill(tf.shape(jitter), NOBODY)
        return Units(
            x=zero + x,
            y=y,
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
            facing_x=zero,
            facing_y=zero - 1.0,
            missile_delay=zero,
            missile_target=nobody,
            stride_x=zero,
            stride_y=zero,
            detour_along=zero + 1.0,
            detour_across=zero,
        )

    def opening_orders(self, rally_x: tf.Tensor, rally_y: tf.Tensor) -> Orders:
        """Returns the map's order to the enemies, who keep their formation as they walk.

        Args:
            rally_x: [B] map units, the place to which the group's centre attack-moves.
            rally_y: [B] map units.
        Returns:
            The orders, each field [M, B].
        """
        formation = self._formation
        return Orders(
            target=tf.fill([len(formation), rally_x.shape[0]], NOBODY),
            moves=tf.fill([len(formation), rally_x.shape[0]], self._attack_moves),
            x=rally_x + formation[:, :1],
            y=rally_y + formation[:, 1:],
        )

    def order_again(self, units: Units, battles: tf.Tensor) -> Units:
        """Gives the enemies of some battles their opening order again, so that they choose their targets anew.

        Args:
            units: all units, each field [U, B].
            battles: [B] bool, the battles in which that happens.
        Returns:
            All units, each field [U, B].
        """
        again = battles & (self._ids >= self._n)
        unhit = again & (units.strikes_left == self._hits)
        return units._replace(
            target=tf.where(again, NOBODY, units.target),
            cooldown=tf.where(unhit & (units.strikes_left > 0), 0.0, units.cooldown),
            strikes_left=tf.where(again, 0.0, units.strikes_left),
        )

    def order_the_idle(self, units: Units, ordered: tf.Tensor) -> tf.Tensor:
        """Orders each idle enemy to attack the agent that is closest to it, wherever that is.

        An enemy is idle that has no target and was not ordered to attack an agent that still lives.

        Args:
            units: all units, each field [U, B].
            ordered: [M, B] int32, the agent that each enemy was ordered to attack, or NOBODY.
        Returns:
            [M, B] int32, the agent that each enemy is ordered to attack now, or NOBODY.
        """
        n, alive = self._n, units.alive
        goes_on = (ordered != NOBODY) & gather(alive, tf.maximum(ordered, 0))
        distance = squared_distance(units.x[n:], units.y[n:], units.x[:n], units.y[:n])
        closest = tf.argmin(tf.where(alive[None, :n], distance, np.inf), axis=1, output_type=tf.int32)
        idle = alive[n:] & (units.target[n:] == NOBODY)
        return tf.where(goes_on, ordered, tf.where(idle, closest, NOBODY))

    def is_pathable(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns whether the cells of some places are on the map and pathable; bool, shaped like `x`.

        A place's cell is found by truncation toward zero, as SMAC's `int()` does it.

        Args:
            x: map units, of any shape.
            y: map units, shaped like `x`.
        """
        column, row = tf.cast(x, tf.int32), tf.cast(y, tf.int32)
        inside = (column >= 0) & (column < MAP_SIZE) & (row >= 0) & (row < MAP_SIZE)
        cell = tf.clip_by_value(column * MAP_SIZE + row, 0, MAP_SIZE * MAP_SIZE - 1)
        return inside & tf.gather(tf.constant(self._pathable.reshape(-1)), cell)

    def advance(
        self,
        units: Units,
        orders: Orders,
        jitter: tf.Tensor,
        num_loops: int,
        frozen: tf.Tensor | None = None,
        played: tf.Tensor | int = 0,
        obey: tf.Tensor | bool = False,
    ) -> Units:
        """Plays some game loops.

        Args:
            units: all units before, each field [U, B].
            orders: the orders during all these loops, each field [U, B].
            jitter: [U, B] game loops, added to the period of each attack that a unit starts.
            num_loops: how many game loops to play.
            frozen: [B] bool, the battles that stay as they are; None for none.
            played: game loops that were played before, for callers that play fewer than eight at a time. Walking units
                choose their direction in the first of every eight loops.
            obey: whether the enemies obey their orders as agents do, instead of finding their targets by themselves:
                in all battles or none, or [B] bool.
        Returns:
            All units after these loops, each field [U, B].
        """

        def loop(count, before):
            after = self._loop(before, orders, jitter, tf.equal((played + count) % _LOOPS_PER_PLAN, 0), obey)
            if frozen is not None:
                after = tf.nest.map_structure(lambda old, new: tf.where(frozen, old, new), before, after)
            return count + 1, after

        return tf.while_loop(lambda count, _: count < num_loops, loop, (0, units))[1]

    def _loop(self, units: Units, orders: Orders, jitter: tf.Tensor, plans: tf.Tensor, obey: tf.Tensor | bool) -> Units:
        # Operations on all pairs of units (strikes, targets, pushes) read the state at the start of the loop and as few
        # results of this loop as possible, because XLA would compute those results anew for every pair.
        # 1. Hits.
        was_alive = units.alive
        lands = was_alive & (units.strikes_left > 0) & (units.strike_delay <= 0)
        struck = tf.where(lands & ~self._bursts, units.target, NOBODY)
        missile_delay, missile_target = units.missile_delay, units.missile_target
        if self.roster.some(_fires):
            struck, missile_delay, missile_target = self._fire(units, lands, struck)
        health, shield, last_attacker = self._strike(units, struck)
        has_burst = units.has_burst
        if self.roster.some(_bursts):
            detonates = self._bursts & ~has_burst & (lands | (health <= 0))
            has_burst |= detonates
            health, shield = self._burst(units, detonates, tf.where(detonates, 0.0, health), shield)
        hurt = (health < units.health) | (shield < units.shield)
        alive = health > 0
        strikes_left = units.strikes_left - tf.cast(lands, tf.float32)
        delay_after = tf.where(strikes_left > 0, self._hit_interval, self._after_last_hit)
        strike_delay = tf.where(lands, delay_after, units.strike_delay)

        # 2. Targets.
        target = tf.where(was_alive, orders.target, NOBODY)
        if obey is not True:
            found = self._acquire(units, target[: self._n])
            if self._told_whom:
                told = target[self._n :]
                found = tf.where((told != NOBODY) & gather(was_alive, tf.maximum(told, 0)), told, found)
            if obey is not False:
                found = tf.where(obey, target[self._n :], found)
            target = tf.concat([target[: self._n], found], axis=0)
        rows = tf.where(target == NOBODY, self._ids, target)  # without a target: itself, which it cannot hit
        target_x, target_y = gather(units.x, rows), gather(units.y, rows)
        squared_reach = self._of_pairs(self._squared_reach, rows)
        has_target = alive & gather(was_alive, rows) & (squared_reach >= 0)
        target = tf.where(has_target, target, NOBODY)
        in_reach = has_target & (tf.square(target_x - units.x) + tf.square(target_y - units.y) <= squared_reach)

        # 3. Attacks.
        ends = (strikes_left > 0) & (target != units.target)
        cooldown = tf.where(ends & (strikes_left == self._hits), 0.0, units.cooldown)
        strikes_left = tf.where(ends, 0.0, strikes_left)
        begins = in_reach & (cooldown <= 0) & (strikes_left == 0)
        facing_x, facing_y = units.facing_x, units.facing_y
        if self.roster.some(_turns):
            facing_x, facing_y, aims = self._turn(units, target_x, target_y, has_target)
            begins &= aims
        busy = begins | (((strikes_left > 0) | (strike_delay > 0)) & (target == units.target))
        strikes_left = tf.where(begins, self._hits, strikes_left)
        strike_delay = tf.where(begins, self._damage_point, strike_delay)
        cooldown = tf.where(begins, self._period + jitter, cooldown)

        # 4. Healing, 5. Moves.
        goal_x = tf.where(has_target, target_x, orders.x)
        goal_y = tf.where(has_target, target_y, orders.y)
        walks = alive & (has_target | orders.moves) & ~in_reach & ~busy
        energy = units.energy
        if self.roster.some(_heals):
            health, energy, target, walks, goal_x, goal_y = self._heal(
                units, orders, alive, health, target, walks, goal_x, goal_y, obey
            )
        x, y, detour_along, detour_across = self._move(units, goal_x, goal_y, walks, target, alive, plans)

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
            facing_x=facing_x,
            facing_y=facing_y,
            missile_delay=missile_delay,
            missile_target=missile_target,
            stride_x=x - units.x,
            stride_y=y - units.y,
            detour_along=detour_along,
            detour_across=detour_across,
        )

    def _of_pairs(self, values: "np.ndarray | tf.Tensor", columns: tf.Tensor) -> tf.Tensor:
        """Returns for each unit the value of its pair with another unit, [U, B].

        Args:
            values: [U, U, 1] constants or [U, U, B], a value for each pair.
            columns: [U, B] int32, the other unit.
        """
        pair = self._ids * self._u + columns
        if tf.is_tensor(values):
            return gather(tf.reshape(values, [self._u**2, -1]), pair)
        return tf.gather(tf.constant(values.reshape(-1)), pair)

    def _fire(self, units: Units, lands: tf.Tensor, struck: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Launches the missiles that are due and lands those that arrive; every tensor is [U, B].

        Args:
            units: all units at the start of the loop.
            lands: bool, which units have a hit that is due.
            struck: int32, whom each unit hits in this loop without a missile, or NOBODY.
        Returns:
            `struck` with the hits of missiles, the new `missile_delay` and the new `missile_target`.
        """
        launches = lands & self._fires
        rows = tf.maximum(units.target, 0)
        gap = (
            tf.sqrt(tf.square(gather(units.x, rows) - units.x) + tf.square(gather(units.y, rows) - units.y))
            - self._muzzle
        )
        delay = tf.where(launches, tf.math.ceil(gap * self._loops_per_missile_unit), units.missile_delay - 1.0)
        target = tf.where(launches, units.target, units.missile_target)
        arrives = (delay <= 0) & (target != NOBODY)
        struck = tf.where(self._fires, tf.where(arrives, target, NOBODY), struck)
        return struck, delay, tf.where(arrives, NOBODY, target)

    def _turn(
        self, units: Units, target_x: tf.Tensor, target_y: tf.Tensor, has_target: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Turns turrets toward their targets, as fast as they can; every tensor is [U, B].

        Args:
            units: all units at the start of the loop.
            target_x: map units, where each unit's target is.
            target_y: map units.
            has_target: bool.
        Returns:
            The x and y of the direction in which each turret points, and whether the unit aims at its target (bool).
        """
        way_x, way_y = target_x - units.x, target_y - units.y
        inverse = tf.math.rsqrt(tf.square(way_x) + tf.square(way_y) + 1e-12)
        way_x, way_y = way_x * inverse, way_y * inverse
        x, y = units.facing_x, units.facing_y
        left = tf.where(x * way_y - y * way_x < 0, -1.0, 1.0)
        turned_x = self._turn_cos * x - left * self._turn_sin * y
        turned_y = self._turn_cos * y + left * self._turn_sin * x
        arrives = x * way_x + y * way_y >= self._turn_cos
        x = tf.where(has_target, tf.where(arrives, way_x, turned_x), x)
        y = tf.where(has_target, tf.where(arrives, way_y, turned_y), y)
        return x, y, ~self._turns | (x * way_x + y * way_y >= np.cos(_AIM))

    def _acquire(self, units: Units, agent_target: tf.Tensor) -> tf.Tensor:
        """Chooses the agent that each enemy attacks.

        Args:
            units: all units at the start of the loop, each field [U, B].
            agent_target: [N, B] int32, whom each agent is ordered to attack.
        Returns:
            [M, B] int32: an agent, or NOBODY.
        """
        n = self._n
        enemy_ids = self._ids[n:, None]
        agent_ids = self._ids[None, :n]
        agent_x = tf.where(units.alive[:n], units.x[:n], _FAR)
        distance = squared_distance(units.x[n:], units.y[n:], agent_x, units.y[:n])
        attacks_me = agent_target[None] == enemy_ids
        hit_me = units.last_attacker[n:][:, None] == agent_ids
        mine = units.target[n:][:, None] == agent_ids
        in_reach = distance <= self._squared_reach[n:, :n]
        score = tf.where(distance <= self._squared_notice, _NOTICED + distance, np.inf)
        score = tf.where(attacks_me | hit_me, _THREAT + _NEARER * distance, score)
        score = tf.where(in_reach, tf.where(attacks_me, _NEARER * distance, tf.where(mine, _KEPT, score)), score)
        score = tf.where(mine & attacks_me, 0.0, score)
        # One minimum finds both the lowest score and the agent that has it: positive floats sort like their bits, and
        # the agent's number replaces the lowest bits, which are worth less than a thousandth of a map unit.
        low_bits = (1 << max(n - 1, 1).bit_length()) - 1
        key = tf.bitwise.bitwise_or(
            tf.bitwise.bitwise_and(tf.bitcast(score, tf.int32), ~low_bits), tf.constant(agent_ids)
        )
        best = tf.reduce_min(key, axis=1)
        found = units.alive[n:] & (best < np.float32(_FAR / 2).view(np.int32))
        return tf.where(found, tf.bitwise.bitwise_and(best, low_bits), NOBODY)

    def _strike(self, units: Units, struck: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Applies the hits of this loop, explosions aside; every tensor is [U, B].

        Args:
            units: all units at the start of the loop.
            struck: int32, whom each unit hits in this loop, or NOBODY.
        Returns:
            The health, the shield and the last attacker of all units after these hits.
        """
        n = self._n
        on_agents = self._swept(units, struck, slice(n, self._u), slice(0, n))
        on_enemies = self._swept(units, struck, slice(0, n), slice(n, self._u))
        agent_loss, agent_shield = self._strikes_on_agents(on_agents, units.shield[:n])
        enemy_loss, enemy_shield = self._strikes_on_enemies(on_enemies, units.shield[n:])
        health = tf.maximum(units.health - tf.concat([agent_loss, enemy_loss], axis=0), 0.0)
        # Only enemies retaliate. If several agents hit in one loop, the one listed last counts.
        attacker = tf.reduce_max(tf.where(on_enemies, self._ids[None, :n], NOBODY), axis=1)
        enemy_attacker = tf.where(attacker == NOBODY, units.last_attacker[n:], attacker)
        last_attacker = tf.concat([units.last_attacker[:n], enemy_attacker], axis=0)
        return health, tf.concat([agent_shield, enemy_shield], axis=0), last_attacker

    def _swept(self, units: Units, struck: tf.Tensor, attackers: slice, targets: slice) -> tf.Tensor:
        """Finds all units on which the hits of one side land, including those along a beam's line.

        Args:
            units: all units at the start of the loop, each field [U, B].
            struck: [U, B] int32, whom each unit hits in this loop, or NOBODY.
            attackers: which of all units hit, I of them.
            targets: which of all units may be hit, J of them.
        Returns:
            [J, I, B] bool: whether attacker i hits target j.
        """
        hits = struck[attackers][None] == self._ids[targets][:, None]
        attacking, attacked = self.roster[attackers], self.roster[targets]
        if not attacking.some(_line):
            return hits
        half_length = attacking.column(lambda unit: line.half_length if (line := _line(unit)) else 0.0)[None]
        within = attacked.pairs(
            attacking,
            lambda target, unit: (
                target.radius + line.scan_radius if (line := _line(unit)) and unit.can_hit(target) else -1.0
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
        """Applies the explosions of this loop to the other side; every tensor is [U, B].

        Args:
            units: all units at the start of the loop.
            detonates: bool, which units explode.
            health: after the loop's other hits.
            shield: after the loop's other hits.
        Returns:
            The health and the shield of all units after the explosions.
        """
        agents, enemies = slice(0, self._n), slice(self._n, self._u)
        sides = []
        for own, others in ((agents, enemies), (enemies, agents)):
            rows = self.roster[others].rows(_bursts)
            if not rows:
                sides.append((health[own], shield[own]))
                continue
            targets, bursting = self.roster[own], self.roster[others][rows]
            within = targets.pairs(
                bursting,
                lambda target, unit: (
                    _burst_radius(unit) + target.radius if _bursts(unit) and unit.can_hit(target) else 0.0
                ),
            )
            ids = [others.start + row for row in rows]
            distance = squared_distance(units.x[own], units.y[own], tf.gather(units.x, ids), tf.gather(units.y, ids))
            hits = (distance <= tf.square(within)) & tf.gather(detonates, ids)[None]
            lost, left = _Strikes(bursting, targets, _bursts)(hits, shield[own])
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
        obey: tf.Tensor | bool,
    ) -> tuple[tf.Tensor, ...]:
        """Lets the healers heal or walk, all at once; every tensor but `obey` is [U, B].

        Args:
            units: all units at the start of the loop.
            orders: the orders during this loop.
            alive: bool, after the loop's hits.
            health: after the loop's hits.
            target: int32, filled in for all units but the healers. So are the next three.
            walks: bool, which units walk in this loop.
            goal_x: map units, where they go.
            goal_y: map units.
            obey: whether the enemies' healers obey their orders, as in `advance`.
        Returns:
            health, energy, target, walks, goal_x and goal_y, now with the healers' rows.
        """
        energy = units.energy
        heal = next(unit.heal for unit in self.roster.types if unit.heal)  # all healers are of one type
        for side in (slice(0, self._n), slice(self._n, self._u)):
            friends, ids = self.roster[side], self._ids[side]
            rows = friends.rows(_heals)
            if not rows:
                continue
            healers, me = friends[rows], [side.start + row for row in rows]  # H of the K units of this side

            def of_healers(values: tf.Tensor, me=me) -> tf.Tensor:
                return tf.gather(values, me)

            patient = alive[side][None] & healers.pairs(
                friends, lambda unit, friend: unit.can_heal(friend)
            )  # [H, K, B]
            distance = squared_distance(of_healers(units.x), of_healers(units.y), units.x[side], units.y[side])
            to_edges = healers.pairs(friends, lambda unit, friend: unit.radius + friend.radius)
            my_energy = of_healers(energy)
            obeys = side.start == 0 or obey
            ordered = patient & (ids[None] == of_healers(orders.target)[:, None])
            if obeys is True:
                picked, treats = ordered, True
            else:
                hurt = patient & (health[side] < self.max_health[side])[None]
                hurt &= distance <= tf.square(heal.scan_range + to_edges)
                hurt &= (my_energy >= heal.scan_energy)[:, None]
                share = (health[side] / self.max_health[side])[None]
                score = tf.where(hurt, share, tf.where(patient, _FAR + distance, np.inf))
                best = tf.reduce_min(score, axis=1)
                first = tf.where((score == best[:, None]) & (best < np.inf)[:, None], ids[None], self._u)
                picked, treats = ids[None] == tf.reduce_min(first, axis=1, keepdims=True), best < _FAR  # else follows
                if obeys is not False:
                    picked, treats = tf.where(obeys, ordered, picked), obeys | treats
            living = of_healers(alive)
            has_patient = living & tf.reduce_any(picked, axis=1)
            in_range = has_patient & tf.reduce_any(picked & (distance <= tf.square(heal.range + to_edges)), axis=1)

            def of_patient(values: tf.Tensor, picked=picked, side=side) -> tf.Tensor:
                return tf.reduce_sum(tf.where(picked, values[side][None], 0.0), axis=1)

            lacking = self.max_health - health
            given = tf.minimum(heal.hit_points_per_second / LOOPS_PER_SECOND, of_patient(lacking))
            given = tf.where(in_range & treats, tf.minimum(given, my_energy / heal.energy_per_hit_point), 0.0)
            received = tf.reduce_sum(tf.where(picked, given[:, None], 0.0), axis=0)
            healed = health[side] + tf.minimum(received, lacking[side])
            health = tf.concat([health[: side.start], healed, health[side.stop :]], axis=0)
            named = tf.reduce_max(tf.where(picked & (given > 0)[:, None], ids[None], NOBODY), axis=1)
            goes = tf.where(has_patient, ~in_range, of_healers(orders.moves))
            place = np.zeros(self._u, np.int32)
            place[me] = np.arange(len(me))
            is_healer = np.isin(self._ids, me) & self.roster.column(_heals)

            def for_healers(new: tf.Tensor, old: tf.Tensor, place=place, is_healer=is_healer) -> tf.Tensor:
                return tf.where(is_healer, tf.gather(new, place), old)

            energy = for_healers(my_energy - given * heal.energy_per_hit_point, energy)
            target = for_healers(named, target)
            walks = for_healers(living & goes, walks)
            goal_x = for_healers(tf.where(has_patient, of_patient(units.x), of_healers(goal_x)), goal_x)
            goal_y = for_healers(tf.where(has_patient, of_patient(units.y), of_healers(goal_y)), goal_y)
        return health, energy, target, walks, goal_x, goal_y

    def _move(
        self,
        units: Units,
        goal_x: tf.Tensor,
        goal_y: tf.Tensor,
        walks: tf.Tensor,
        target: tf.Tensor,
        alive: tf.Tensor,
        plans: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Moves each walking unit one stride toward its goal, then separates units that overlap.

        Units steer round whom they meet, and all stay on their ground. Every tensor but `plans` is [U, B].

        Args:
            units: all units at the start of the loop.
            goal_x: map units.
            goal_y: map units.
            walks: bool, which units walk.
            target: int32.
            alive: bool, after the loop's hits.
            plans: bool scalar, whether walking units choose their direction anew in this loop.
        Returns:
            x, y, detour_along and detour_across of all units.
        """
        x, y = units.x, units.y
        if self._paths.waypoint is not None:
            guided = ((target != NOBODY) | (self._ids >= self._n)) & self._needs_way
            way_x, way_y, detours = self._next_on_way(self._paths.waypoint, x, y, goal_x, goal_y)
            goal_x = tf.where(guided & detours, way_x, goal_x)
            goal_y = tf.where(guided & detours, way_y, goal_y)
        dx, dy = goal_x - x, goal_y - y
        squared = tf.square(dx) + tf.square(dy) + 1e-12
        inverse = tf.math.rsqrt(squared)
        ahead_x, ahead_y, distance = dx * inverse, dy * inverse, squared * inverse
        stride = tf.minimum(self._stride, distance)
        along, across = tf.cond(
            plans,
            lambda: self._steer(units, ahead_x, ahead_y, distance, stride, target, alive),
            lambda: (units.detour_along, units.detour_across),
        )
        along, across = tf.where(walks, along, 1.0), tf.where(walks, across, 0.0)
        walking = tf.cast(walks, tf.float32)
        stride *= walking
        new_x = x + stride * (along * ahead_x - across * ahead_y)
        new_y = y + stride * (along * ahead_y + across * ahead_x)
        return *self._keep_on_ground(x, y, *self._apart(new_x, new_y, walking, alive)), along, across

    def _steer(
        self,
        units: Units,
        ahead_x: tf.Tensor,
        ahead_y: tf.Tensor,
        distance: tf.Tensor,
        stride: tf.Tensor,
        target: tf.Tensor,
        alive: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Chooses the direction that costs each walking unit least; every tensor is [U, B].

        Args:
            units: all units at the start of the loop.
            ahead_x: the direction to the goal, of length 1.
            ahead_y: the direction to the goal.
            distance: map units to the goal.
            stride: map units that the unit may walk in this loop.
            target: int32.
            alive: bool.
        Returns:
            detour_along and detour_across.
        """
        turns = -(-self._u // _OBSTACLES)
        at_a_time = -(-self._u // turns)
        nobodies = [[0, turns * at_a_time - self._u], [0, 0]]
        other_x = tf.pad(tf.where(alive, units.x, _FAR), nobodies, constant_values=_FAR)
        other_y, other_dx, other_dy = (tf.pad(a, nobodies) for a in (units.y, units.stride_x, units.stride_y))
        room = tf.pad(self._room, [*nobodies, [0, 0]])
        view = tf.minimum(distance, _LOOKOUT)

        def turn(i, blocked):
            for j in (i * at_a_time + k for k in range(at_a_time)):
                dx, dy = other_x[j] - units.x, other_y[j] - units.y
                straight, aside = dx * ahead_x + dy * ahead_y, dy * ahead_x - dx * ahead_y
                keeps_pace = (other_dx[j] * ahead_x + other_dy[j] * ahead_y) * self._loops_per_unit
                weight = tf.where(target == j, 0.0, 1.0 - _COMPANY * tf.clip_by_value(keeps_pace, 0.0, 1.0))
                # The nearer the obstacle is, the more of the view it hides: all of it where the two touch.
                weight_per_unit = weight / view
                horizon, squared_room = view + room[j], tf.square(room[j])
                hides = []
                for angle, most in zip(_DIRECTIONS, blocked, strict=True):
                    along = np.cos(angle) * straight + np.sin(angle) * aside
                    across = np.cos(angle) * aside - np.sin(angle) * straight
                    is_there = (tf.square(across) < squared_room) & (along > 0)
                    hidden = tf.minimum((horizon - along) * weight_per_unit, weight)
                    hides.append(tf.maximum(most, tf.where(is_there, hidden, 0.0)))
                blocked = hides
            return i + 1, blocked

        blocked = [tf.zeros_like(units.x)] * len(_DIRECTIONS)
        if turns == 1:
            _, blocked = turn(0, blocked)
        else:
            _, blocked = tf.while_loop(lambda i, _: i < turns, turn, (0, blocked))
        prefers_left = np.where(self._ids % 2, -_SIDE, 0.0)
        least = tf.fill(tf.shape(units.x), np.float32(np.inf))
        best_along = best_across = tf.zeros_like(units.x)
        for angle, hidden in zip(_DIRECTIONS, blocked, strict=True):
            way_x = np.cos(angle) * ahead_x - np.sin(angle) * ahead_y
            way_y = np.cos(angle) * ahead_y + np.sin(angle) * ahead_x
            leads_on = self._is_ground(units.x + stride * way_x, units.y + stride * way_y)
            goes_on = (units.stride_x * way_x + units.stride_y * way_y) * self._loops_per_unit
            cost = abs(angle) + _BLOCKED * tf.where(leads_on, hidden, 1.0) - _KEEP * goes_on
            cost += np.float32(np.sign(angle)) * prefers_left.astype(np.float32)
            best_along = tf.where(cost < least, np.float32(np.cos(angle)), best_along)
            best_across = tf.where(cost < least, np.float32(np.sin(angle)), best_across)
            least = tf.minimum(cost, least)
        return best_along, best_across

    def _next_on_way(
        self, waypoint: np.ndarray, x: tf.Tensor, y: tf.Tensor, goal_x: tf.Tensor, goal_y: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Looks up where to steer to reach the goal round obstacles; every tensor but `waypoint` is [U, B].

        Args:
            waypoint: [P, P] int32, the table of `terrain.Paths`.
            x: map units.
            y: map units.
            goal_x: map units.
            goal_y: map units.
        Returns:
            The x and y of the place to steer for, and whether the unit has to go there first instead of straight to its
            goal.
        """

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
        """Pushes units apart that overlap; every tensor is [U, B].

        The other units are taken in turn, several at a time and each for all units at once. Sums over pairs would read
        every pair twice, once for x and once for y, and take three times as long.

        Args:
            x: map units, after the stride.
            y: map units, after the stride.
            walking: 1 for units that walk, else 0.
            alive: bool.
        Returns:
            The new x and y.
        """
        yields, stays = _RELAXATION * (0.5 + 0.5 * walking), _RELAXATION * 0.5 * walking
        turns = -(-self._u // _NEIGHBOURS)
        at_a_time = -(-self._u // turns)
        nobodies = [[0, turns * at_a_time - self._u], [0, 0]]
        closeness = tf.pad(self._inverse_squared_separation, [*nobodies, [0, 0]], constant_values=1.0)

        def one_pass(count, x, y):
            other_x = tf.pad(x, nobodies, constant_values=_FAR)
            other_y, other_stays = tf.pad(y, nobodies), tf.pad(stays, nobodies)

            def turn(i, push_x, push_y):
                for j in (i * at_a_time + k for k in range(at_a_time)):
                    dx, dy = x - other_x[j], y - other_y[j]
                    # For a slight overlap, 1 - (d / s)^2 is about twice s / d - 1, and it needs no root or division.
                    overlap = tf.maximum(1.0 - (tf.square(dx) + tf.square(dy)) * closeness[j], 0.0)
                    push = overlap * (yields - other_stays[j])
                    push_x += push * dx
                    push_y += push * dy
                return i + 1, push_x, push_y

            _, push_x, push_y = tf.while_loop(lambda i, *_: i < turns, turn, (0, tf.zeros_like(x), tf.zeros_like(y)))
            return count + 1, x + push_x, y + push_y

        # Meanwhile the dead are out of the way. No two of the living are in one place, where neither would know in
        # which direction to make way.
        off = _TIE_BREAK * self._ids.astype(np.float32)
        _, apart_x, apart_y = tf.while_loop(
            lambda count, *_: count < _PASSES, one_pass, (0, tf.where(alive, x + off, self._grave), y + off)
        )
        return tf.where(alive, apart_x - off, x), apart_y - off

    def _keep_on_ground(
        self, x: tf.Tensor, y: tf.Tensor, new_x: tf.Tensor, new_y: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Lets units slide along what blocks their way; every tensor is [U, B].

        Each coordinate changes only if its change alone keeps the unit on its ground.

        Args:
            x: map units, before the stride.
            y: map units, before the stride.
            new_x: map units, after the stride.
            new_y: map units, after the stride.
        Returns:
            The new x and y.
        """
        new_x = tf.clip_by_value(new_x, self._low_x, self._high_x)
        new_y = tf.clip_by_value(new_y, self._low_y, self._high_y)
        if not self._rectangular:
            new_x = tf.where(self._is_ground(new_x, y), new_x, x)
            new_y = tf.where(self._is_ground(new_x, new_y), new_y, y)
        return new_x, new_y

    def _is_ground(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns whether each unit may be at a place, [U, B] bool."""
        inside = (x >= self._low_x) & (x <= self._high_x) & (y >= self._low_y) & (y <= self._high_y)
        if self._rectangular:
            return inside
        cell = tf.cast(x, tf.int32) * MAP_SIZE + tf.cast(y, tf.int32)
        cell = self._ids * MAP_SIZE**2 + tf.clip_by_value(cell, 0, MAP_SIZE**2 - 1)
        return inside & tf.gather(tf.constant(self._grounds), cell)


def _where(condition: np.ndarray, value: float, values: "np.ndarray | tf.Tensor") -> "np.ndarray | tf.Tensor":
    """Returns `values`, a constant or a tensor, with `value` in place of those for which the condition is True."""
    if tf.is_tensor(values):
        return tf.where(condition, value, values)
    return np.where(condition, np.float32(value), values)


def _of_weapons(units: Roster, value: Callable[[Weapon], Any]) -> "np.ndarray | tf.Tensor":
    """Returns the number that `value` gives for each unit's weapon, as `Roster.column`; 0 for units without one."""
    return units.column(lambda unit: value(unit.weapon) if unit.weapon else 0.0)


def _loops_after_last_hit(weapon: Weapon) -> np.float32:
    """Returns the game loops of the backswing that are left after the last hit of an attack."""
    interval = np.float32(weapon.hit_interval * LOOPS_PER_SECOND)
    return np.float32(weapon.backswing * LOOPS_PER_SECOND) - (np.float32(weapon.hits) - 1) * interval


def _turn_per_loop(unit: UnitType) -> np.float32:
    """Returns by how many radians a unit's turret turns in a game loop; 0 if it turns at once."""
    degrees = (unit.weapon.turret_speed or 0.0) if unit.weapon else 0.0
    return np.radians(np.float32(degrees / LOOPS_PER_SECOND))


def _separation(unit: UnitType, other: UnitType) -> np.float32:
    """Returns the distance that two units keep, in map units; next to nothing if only one of them flies."""
    return np.float32(unit.separation_radius + other.separation_radius if unit.flies == other.flies else 1e-3)


def _turns(unit: UnitType) -> bool:
    return bool(_turn_per_loop(unit) > 0)


def _missile_speed(unit: UnitType) -> float:
    return (unit.weapon.missile_speed or 0.0) if unit.weapon else 0.0


def _fires(unit: UnitType) -> bool:
    return _missile_speed(unit) > 0


def _burst_radius(unit: UnitType) -> float:
    return (unit.weapon.burst_radius or 0.0) if unit.weapon else 0.0


def _bursts(unit: UnitType) -> bool:
    return _burst_radius(unit) > 0


def _strikes(unit: UnitType) -> bool:
    return not _bursts(unit)


def _line(unit: UnitType) -> Line | None:
    return unit.weapon.line if unit.weapon else None


def _heals(unit: UnitType) -> bool:
    return unit.heal is not None


def _same(unit: UnitType, other: UnitType) -> float:
    return float(unit is other)
