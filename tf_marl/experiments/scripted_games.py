"""Battles of scripted teams in the embedded simulator, by the rules of games that are published for StarCraft II.

The published games, ten for each script and map, were played with the scripts of SCMM (github.com/caiyangcy/SCMM, its
plots of November 2020). With `AC` each agent attacks its nearest enemy, with `AW` all attack the enemy with the least
health, with `FF` all attack the enemy that is nearest to the middle of the team. `AF`, `WallOff` and `Pos` are made for
one map or two. Recorded are who won, and the *final reward*: the health that the agents kept and took, as a share of
both sides' health at the start.

The rules differ from SMAC's, and this module follows them. Scripts give orders every two game loops, and orders reach
any distance. A battle ends only when one side is dead (healers do not count, as in SMAC). Whenever an agent dies, all
enemies receive the map's opening order again, so they choose new targets. The game lists its units in a random order;
here that order is drawn for each battle, and it decides which of several equal enemies a script names first.

Shapes: N agents, M enemies, U = N + M units, S scripts. The battles B come last, as they do in
`tf_marl.environments.combat.physics`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.compile import graph
from tf_marl.environments.combat import physics, scenarios
from tf_marl.environments.combat.scenarios import Scenario

LOOPS_PER_ORDER = 2  # game loops
MAX_LOOPS = 16 * 600  # game loops, after which a battle that nobody can win is ended
_STEP = 2.0  # map units from an agent to the aim of its move order
_NORTH, _SOUTH, _EAST, _WEST = (0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)


class View(NamedTuple):
    """Holds what a script sees of its battles; the distance to or from the dead is infinite."""

    x: tf.Tensor  # [N, B] map units
    y: tf.Tensor  # [N, B] map units
    shield: tf.Tensor  # [N, B] shield points
    fights: tf.Tensor  # [N, B] bool: alive, and no healer
    enemy_x: tf.Tensor  # [M, B] map units
    enemy_y: tf.Tensor  # [M, B] map units
    enemy_health: tf.Tensor  # [M, B] hit points
    enemy_rank: tf.Tensor  # [M, B] place in the game's list of units
    distance: tf.Tensor  # [N, M, B] map units between centres
    begun: tf.Tensor  # [B] bool: the `begun` of the script's last command


class Command(NamedTuple):
    """Holds what a script orders: each agent attacks an enemy, moves, or, with neither, stops."""

    target: tf.Tensor  # [N, B] int32: index of the enemy to attack, or NOBODY
    dx: tf.Tensor  # [N, B] -1, 0 or 1: direction of agents that attack nobody
    dy: tf.Tensor  # [N, B] -1, 0 or 1
    begun: tf.Tensor  # [B] bool: whether the second part of the script's plan has begun


Script = Callable[[View], Command]


def _attack(view: View, cost: tf.Tensor) -> Command:
    """Orders every agent to attack the enemy with the least cost, the first of equals; cost is [N or 1, M, B]."""
    best = tf.argmin(cost, axis=1, output_type=tf.int32)
    target = tf.where(tf.reduce_min(cost, axis=1) < np.inf, best, physics.NOBODY)
    nowhere = tf.zeros_like(view.x)
    return Command(tf.broadcast_to(target, tf.shape(view.x)), nowhere, nowhere, view.begun)


def _go(view: View, dx: tf.Tensor | float, dy: tf.Tensor | float) -> Command:
    """Orders agents to move in a direction, or to stop where it is 0, 0; dx and dy are [N, B] or scalar."""
    nowhere = tf.zeros_like(view.x)
    return Command(tf.fill(tf.shape(view.x), physics.NOBODY), nowhere + dx, nowhere + dy, view.begun)


def _choose(condition: tf.Tensor, one: Command, other: Command) -> Command:
    """Takes orders from one command where a condition (bool, [N, B] or [B]) holds, and from another elsewhere."""
    target, dx, dy = (tf.where(condition, *pair) for pair in zip(one[:3], other[:3], strict=True))
    return Command(target, dx, dy, one.begun)


def attack_closest(view: View) -> Command:
    """Orders each agent to attack its nearest enemy (the script `AC`)."""
    return _attack(view, view.distance)


def attack_weakest(view: View) -> Command:
    """Orders all agents to attack the enemy with the least health (the script `AW`)."""
    alive = tf.reduce_min(view.distance, axis=0) < np.inf
    health = tf.where(alive, view.enemy_health, np.inf)
    weakest = alive & (health == tf.reduce_min(health, axis=0))
    return _attack(view, tf.where(weakest, view.enemy_rank, np.inf)[None])


def focus_fire(view: View) -> Command:
    """Orders all agents to attack the enemy nearest to the middle of those who fight (the script `FF`)."""
    count = tf.maximum(tf.reduce_sum(tf.cast(view.fights, tf.float32), axis=0), 1.0)
    middle_x, middle_y = (tf.reduce_sum(tf.where(view.fights, a, 0.0), axis=0) / count for a in (view.x, view.y))
    distance = tf.square(view.enemy_x - middle_x) + tf.square(view.enemy_y - middle_y)
    alive = tf.reduce_min(view.distance, axis=0) < np.inf
    return _attack(view, tf.where(alive, distance, np.inf)[None])


def alternate_fire_at_crawler(view: View) -> Command:
    """Lets agents without shield leave the spine crawler's reach while the others attack (`AF` on 2s_vs_1sc)."""
    away = _choose(view.distance[:, 0] < 9.0, _go(view, *_SOUTH), _go(view, 0.0, 0.0))
    return _choose(view.shield < 30.0, away, attack_closest(view))


def alternate_fire_at_zealot(view: View) -> Command:
    """Lets the marine fire that the zealot does not chase (`AF` on 2m_vs_1z)."""
    distance = view.distance[:, 0]
    begun = view.begun | tf.reduce_any(distance < 6.0, axis=0)
    nearer = distance <= distance[::-1]
    nearer = tf.stack([nearer[0], ~nearer[0]])  # of equals, the first
    chased = distance <= 1.0
    fires = tf.where(view.begun, tf.where(tf.reduce_any(chased, axis=0), ~chased, ~nearer), nearer)
    alone = tf.reduce_sum(tf.cast(view.fights, tf.int32), axis=0) == 1
    fires = begun & (fires | alone)
    return _choose(fires, attack_closest(view), _go(view, 0.0, 0.0))._replace(begun=begun)


def wall_off(view: View) -> Command:
    """Leads the team into a corner, where few enemies reach it at a time, and fights there (`WallOff` on corridor)."""
    count = tf.maximum(tf.reduce_sum(tf.cast(view.fights, tf.float32), axis=0), 1.0)
    x, y = (tf.reduce_sum(tf.where(view.fights, a, 0.0), axis=0) / count for a in (view.x, view.y))
    begun = view.begun | (tf.square(x - 9.5) + tf.square(y - 9.5) <= 2.0**2)
    march = _choose(x > y, _go(view, *_WEST), _go(view, *_SOUTH))
    return _choose(begun, attack_closest(view), march)._replace(begun=begun)


def stand_apart(view: View) -> Command:
    """Sends each agent to a place of its own, so that no baneling hits two (`Pos` on so_many_baneling)."""
    places = np.array([(10, 18.5), (19.5, 12.5), (7.5, 15), (15, 8), (4, 12), (12, 4), (3, 3.5)], np.float32)
    dx, dy = places[:, :1] - view.x, places[:, 1:] - view.y
    along_x = tf.abs(dx) >= tf.abs(dy)
    go = _go(view, tf.where(along_x, tf.sign(dx), 0.0), tf.where(along_x, 0.0, tf.sign(dy)))
    there = tf.square(dx) + tf.square(dy) <= 0.5**2
    near = tf.reduce_min(view.distance, axis=1) <= 2.5
    return _choose(near, attack_closest(view), _choose(there, _go(view, 0.0, 0.0), go))


def change_sides(view: View) -> Command:
    """Keeps the team on the side of the cliff where the zerglings are not (`Pos` on 2c_vs_64zg)."""
    alive = tf.reduce_min(view.distance, axis=0) < np.inf
    above = tf.reduce_sum(tf.cast(alive & (view.enemy_y > 12.5), tf.float32), axis=0)
    share = above / tf.maximum(tf.reduce_sum(tf.cast(alive, tf.float32), axis=0), 1.0)
    fight = attack_closest(view)
    north = _choose(view.y >= 13.0, fight, _go(view, *_NORTH))
    south = _choose(view.y < 12.0, fight, _go(view, *_SOUTH))
    return _choose(share < 0.25, north, _choose(share > 0.75, south, fight))


def script(name: str, map_name: str) -> Script:
    """Returns a script by its name.

    Args:
        name: one of `AC`, `AW`, `FF`, `AF`, `WallOff` and `Pos`.
        map_name: the SMAC map; `AF` and `Pos` differ between maps.

    Raises:
        ValueError: there is no such script on the map; the message lists those there are.
    """
    everywhere = {"AC": attack_closest, "AW": attack_weakest, "FF": focus_fire}
    for_a_map = {
        ("AF", "2s_vs_1sc"): alternate_fire_at_crawler,
        ("AF", "2m_vs_1z"): alternate_fire_at_zealot,
        ("WallOff", "corridor"): wall_off,
        ("Pos", "so_many_baneling"): stand_apart,
        ("Pos", "2c_vs_64zg"): change_sides,
    }
    found = everywhere.get(name) or for_a_map.get((name, map_name))
    if not found:
        known = ", ".join([*everywhere, *(f"{one} on {where}" for one, where in for_a_map)])
        raise ValueError(f"script {name} on {map_name}: there is none; choose one of: {known}")
    return found


class Outcome(NamedTuple):
    """Holds the results of B battles of each of S scripts."""

    final_reward: np.ndarray  # [S, B] in [0, 1]
    won: np.ndarray  # [S, B] bool


class Games:
    """Plays battles of several scripts on one map side by side, compiled into one program."""

    def __init__(self, scenario: Scenario, scripts: Sequence[str], num_battles: int):
        """Prepares the battles.

        Args:
            scenario: the map, with the unit values of the client that the games were played on.
            scripts: names of the scripts.
            num_battles: number B of battles of each script.

        Raises:
            ValueError: a script does not exist on the map.
        """
        self._scenario = scenario
        self._scripts = [script(name, scenario.name) for name in scripts]
        self._num_battles = num_battles
        self._physics = physics.Physics(scenario)
        self._fights = np.array([[unit.heal is None] for unit in scenario.units])
        self._orders_again = scenario.enemy_order != "none"

    def play(self, seed: Sequence[int]) -> Outcome:
        """Plays all battles to their end.

        Args:
            seed: two whole numbers, the root of all randomness.

        Returns:
            Final rewards and wins, [S, B] each.
        """
        reward, won = graph.function(self._play, jit_compile=True)(tf.constant(seed, tf.int32))
        shape = len(self._scripts), self._num_battles
        return Outcome(reward.numpy().reshape(shape), won.numpy().reshape(shape))

    def _play(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scenario, n = self._scenario, self._scenario.num_agents
        num_units, b = len(scenario.units), len(self._scripts) * self._num_battles
        spawn, rally, listed, jitter = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
        units = self._physics.spawn(tf.random.stateless_uniform([num_units, b], spawn, -1.0, 1.0))
        theirs = self._physics.opening_orders(*self._rally(tf.random.stateless_uniform([b], rally)))
        rank = tf.random.stateless_uniform([scenario.num_enemies, b], listed)
        low, high = physics.COOLDOWN_JITTER

        def going_on(units: physics.Units) -> tf.Tensor:
            alive = units.alive & self._fights
            return tf.reduce_any(alive[:n], axis=0) & tf.reduce_any(alive[n:], axis=0)

        def turn(count, units, begun):
            command = self._command(units, begun, rank)
            orders = tf.nest.map_structure(
                lambda ours, others: tf.concat([ours, others], axis=0), self._orders(units, command), theirs
            )
            seed = tf.random.experimental.stateless_fold_in(jitter, count)
            draws = tf.random.stateless_uniform([num_units, b], seed, low, high)
            after = self._physics.advance(units, orders, draws, LOOPS_PER_ORDER, ~going_on(units), count)
            if self._orders_again:
                died = tf.reduce_any(units.alive[:n] & ~after.alive[:n], axis=0)
                after = self._physics.order_again(after, died)
            return count + LOOPS_PER_ORDER, after, command.begun

        _, units, _ = tf.while_loop(
            lambda count, units, _: (count < MAX_LOOPS) & tf.reduce_any(going_on(units)),
            turn,
            (0, units, tf.zeros([b], tf.bool)),
        )
        alive = units.alive & self._fights
        return final_reward(units, n, self._physics.max_health), ~tf.reduce_any(alive[n:], axis=0)

    def _rally(self, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x and y [B] of where the enemies march, at a share [B] in [0, 1) of the map's attack segment."""
        segment = self._scenario.attack_segment
        start, end = (np.zeros([2, 2]) if segment is None else segment).astype(np.float32)
        return start[0] + share * (end - start)[0], start[1] + share * (end - start)[1]

    def _command(self, units: physics.Units, begun: tf.Tensor, rank: tf.Tensor) -> Command:
        """Asks the script of each battle for its command."""
        n = self._scenario.num_agents
        distance = tf.sqrt(physics.squared_distance(units.x[:n], units.y[:n], units.x[n:], units.y[n:]))
        heals = np.array([[unit.heal is not None] for unit in self._scenario.agents])
        view = View(
            x=units.x[:n],
            y=units.y[:n],
            shield=units.shield[:n],
            fights=units.alive[:n] & ~heals,
            enemy_x=units.x[n:],
            enemy_y=units.y[n:],
            enemy_health=units.health[n:],
            enemy_rank=rank,
            distance=tf.where(units.alive[:n][:, None] & units.alive[n:][None], distance, np.inf),
            begun=begun,
        )
        commands = [each(view) for each in self._scripts]
        return tf.nest.map_structure(lambda *values: _own(values, self._num_battles), *commands)

    def _orders(self, units: physics.Units, command: Command) -> physics.Orders:
        """Translates a command to the simulator's orders.

        A healer does not follow the script: it heals the agent with the least share of health, never itself.
        """
        n = self._scenario.num_agents
        target = tf.where(command.target == physics.NOBODY, physics.NOBODY, n + command.target)
        moves = (command.target == physics.NOBODY) & ((command.dx != 0) | (command.dy != 0))
        for i, unit in enumerate(self._scenario.agents):
            if unit.heal:
                share = units.health[:n] / self._physics.max_health[:n]
                can = np.array([[unit.can_heal(friend) and j != i] for j, friend in enumerate(self._scenario.agents)])
                share = tf.where(units.alive[:n] & can, share, 1.0)
                patient = tf.where(tf.reduce_min(share, axis=0) < 1.0, tf.argmin(share, 0, tf.int32), physics.NOBODY)
                me = np.arange(n)[:, None] == i
                target, moves = tf.where(me, patient, target), moves & ~me
        return physics.Orders(target, moves, units.x[:n] + _STEP * command.dx, units.y[:n] + _STEP * command.dy)


def _own(values: Sequence[tf.Tensor], num_battles: int) -> tf.Tensor:
    """Picks from each script's values for all battles, [..., S * B], those of its own B battles; [..., S * B]."""
    columns = (value[..., i * num_battles : (i + 1) * num_battles] for i, value in enumerate(values))
    return tf.concat(list(columns), axis=-1)


def final_reward(units: physics.Units, num_agents: int, max_health: np.ndarray) -> tf.Tensor:
    """Computes the health that the agents kept and took, as a share of both sides' health at the start.

    Args:
        units: units at the end of the battles, the agents first, [U, B].
        num_agents: number N of agents.
        max_health: health of each unit at the start, [U, 1], hit points.

    Returns:
        Final rewards in [0, 1], [B].
    """
    kept = tf.reduce_sum(units.health[:num_agents], axis=0)
    taken = tf.reduce_sum(max_health[num_agents:] - units.health[num_agents:], axis=0)
    return (kept + taken) / max_health.sum()


def play(
    cells: Iterable[tuple[str, str]], num_battles: int, profile: str, seed: int
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Plays battles of scripts on maps, one map after the other.

    Args:
        cells: pairs of a script's name and a map's.
        num_battles: number B of battles for each pair.
        profile: name of the unit values, one of those in `tf_marl.environments.combat.units`.
        seed: root of all randomness.

    Yields:
        Script, map, final rewards [B] and wins (bool, [B]).

    Raises:
        ValueError: a map, a profile or a script is unknown; the message names it.
    """
    scripts: dict[str, list[str]] = {}
    for name, map_name in cells:
        scripts.setdefault(map_name, []).append(name)
    for map_name, names in scripts.items():
        outcome = Games(scenarios.scenario(map_name, profile), names, num_battles).play([seed, 0])
        for name, rewards, won in zip(names, *outcome, strict=True):
            yield name, map_name, rewards, won
