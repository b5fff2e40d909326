"""SMACv2 draws the unit types and the starting places of every battle; this module holds the rules of that.

They are those of Ellis et al. 2023, "SMACv2: An Improved Benchmark for Cooperative Multi-Agent Reinforcement Learning",
as its code has them:

- Types. Each agent draws its type by weights. A team that consists of exceptions alone (medivacs or banelings) is drawn
  again. The enemies have the same team. If there are more of them, the others are drawn in the same way.
- Places. With some probability the enemies surround the agents, and otherwise the two sides are mirror images. In a
  mirrored start each agent stands anywhere in the left part of the map, and enemy k where agent k is reflected. Enemies
  without a counterpart stand anywhere in the right half. In a surrounded start all agents stand at the centre, and one
  to four groups of enemies stand on different diagonals, each at a distance of its own.
- Ids. The agents are sorted by type, x and y. The enemies are not.

Where SMACv2 puts several units at one point, the game moves them apart in a way that is not known. Here they take the
places of the lattice on which SMAC's teams spawn, with steps as wide as the group's widest unit.

The letters in all shapes: N agents, M enemies, U = N + M units, B battles.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat.roster import choose
from tf_marl.environments.combat.units import UnitType

_GAP = 1.0  # map units between the middle of the map and the agents in a mirrored start
_OFFSET = 2.0  # map units in x and in y from the centre to the nearest group of a surrounded start
_MAX_GROUPS = 4
_CORNERS = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], np.float32)  # directions from the centre, one a diagonal


class Start(NamedTuple):
    """Says how battles start. Each field is [U, B], with the agents first."""

    kinds: tf.Tensor  # int32, which of the types a unit is
    x: tf.Tensor  # map units
    y: tf.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Lottery:
    """Describes how a scenario draws its battles.

    Args:
        num_agents: N.
        num_enemies: M.
        types: the types that may be drawn, in the order of the type bits.
        weights: the probability of each type.
        exceptions: names of the types of which no team consists alone.
        surrounded: the probability of a surrounded start.
        map_size: width and height of the map, in map units.
        lattice: [P, 2] places round a point, in steps from it, in the order in which they are taken; P >= N and M.
    Raises:
        ValueError: the weights are no probabilities, or every type is an exception.
    """

    num_agents: int
    num_enemies: int
    types: tuple[UnitType, ...]
    weights: tuple[float, ...]
    exceptions: tuple[str, ...]
    surrounded: float
    map_size: int
    lattice: np.ndarray

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.types) or min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights {self.weights}: give one for each of {len(self.types)} types; they add up to 1")
        if self._exceptional_weight >= 1:
            raise ValueError(f"exceptions {self.exceptions}: leave one type with a weight that is no exception")

    @property
    def _exceptional_weight(self) -> float:
        pairs = zip(self.types, self.weights, strict=True)
        return sum(weight for unit, weight in pairs if unit.name in self.exceptions)

    @property
    def _num_extra(self) -> int:
        return max(self.num_enemies - self.num_agents, 0)

    @property
    def num_uniforms(self) -> int:
        """Returns how many random numbers the start of one battle takes."""
        n, m, extra = self.num_agents, self.num_enemies, self._num_extra
        return (n + 1) + (extra + 1) + 1 + 2 * n + 2 * extra + 1 + 2 * _MAX_GROUPS + m

    def start(self, uniforms: tf.Tensor) -> Start:
        """Draws how battles start.

        Args:
            uniforms: [num_uniforms, B], uniform in [0, 1).
        Returns:
            The types and places of all units.
        """
        n, m, extra = self.num_agents, self.num_enemies, self._num_extra
        sizes = [n, 1, extra, 1, 1, n, n, extra, extra, 1, _MAX_GROUPS, _MAX_GROUPS, m]
        (own, own_first, more, more_first, mode, x, y, more_x, more_y, count, turns, nearness, labels) = tf.split(
            uniforms, sizes
        )
        team = self._team(own, own_first)
        kinds = tf.concat([team, tf.concat([team, self._team(more, more_first)], axis=0)[:m]], axis=0)
        mirrored = self._mirrored(x, y, more_x, more_y)
        surrounded = self._surrounded(kinds, count, turns, nearness, labels)
        is_surrounded = mode < self.surrounded
        places = [tf.where(is_surrounded, *pair) for pair in zip(surrounded, mirrored, strict=True)]
        return self._with_sorted_agents(Start(kinds, *places))

    def _team(self, uniforms: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Draws a team that does not consist of exceptions alone.

        Drawing again until that is so gives the same distribution as this: the place of the first unit that is no
        exception is drawn, then the units before it among the exceptions, it among the others, and the rest among all.

        Args:
            uniforms: [K, B] in [0, 1), one for each unit.
            first: [1, B] in [0, 1), decides about the first unit that is no exception.
        Returns:
            [K, B] int32, indices of `types`.
        """
        size, share = uniforms.shape[0], self._exceptional_weight
        # In this order a number below 1 - `share` means a type that is no exception.
        order = sorted(range(len(self.types)), key=lambda t: self.types[t].name in self.exceptions)
        if share > 0 and size > 0:
            powers = share ** np.arange(1, size)
            beyond = (powers - share**size) / (1 - share**size)  # that the first one comes at this place or later
            rank = tf.reduce_sum(tf.cast(first < beyond[:, None].astype(np.float32), tf.int32), axis=0)
            place = np.arange(size, dtype=np.int32)[:, None]
            uniforms = tf.where(
                place < rank, (1 - share) + share * uniforms, tf.where(place == rank, (1 - share) * uniforms, uniforms)
            )
        edges = np.cumsum([self.weights[t] for t in order])[:-1]
        drawn = tf.zeros(uniforms.shape, tf.int32)
        for edge in edges.astype(np.float32):
            drawn += tf.cast(uniforms >= edge, tf.int32)
        return choose(drawn, order)

    def _mirrored(
        self, x: tf.Tensor, y: tf.Tensor, more_x: tf.Tensor, more_y: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x and y of all units, [U, B], where the sides are mirror images; all arguments are in [0, 1)."""
        size = float(self.map_size)
        x, y = (size / 2 - _GAP) * x, size * y
        enemy_x = tf.concat([size - x, size / 2 * (1 + more_x)], axis=0)[: self.num_enemies]
        enemy_y = tf.concat([y, size * more_y], axis=0)[: self.num_enemies]
        return tf.concat([x, enemy_x], axis=0), tf.concat([y, enemy_y], axis=0)

    def _surrounded(
        self, kinds: tf.Tensor, count: tf.Tensor, turns: tf.Tensor, nearness: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x and y of all units, [U, B], where enemies surround the agents.

        Args:
            kinds: [U, B] int32.
            count: [1, B] in [0, 1), decides how many groups of enemies there are.
            turns: [4, B] in [0, 1), the groups' order decides about their diagonals.
            nearness: [4, B] in [0, 1): 0 in the corner, 1 at the centre.
            labels: [M, B] in [0, 1); how many fall to each group is its size.
        """
        n, m, centre = self.num_agents, self.num_enemies, self.map_size / 2
        groups = np.arange(_MAX_GROUPS, dtype=np.int32)
        label = tf.cast(labels * tf.floor(1 + _MAX_GROUPS * count), tf.int32)  # fewer than the number of groups
        sizes = tf.reduce_sum(tf.cast(label[None] == groups[:, None, None], tf.int32), axis=1)  # [4, B]
        ends = tf.cumsum(sizes)
        # The enemies take the groups in turn: the first group has the first enemies.
        group = tf.reduce_sum(tf.cast(np.arange(m)[:, None, None] >= tf.transpose(ends)[None], tf.int32), axis=2)
        diagonal = tf.reduce_sum(tf.cast(turns[:, None] > turns[None], tf.int32), axis=1)  # [4, B], each another one
        way = [choose(diagonal, list(_CORNERS[:, axis])) for axis in (0, 1)]
        distance = centre - nearness * (centre - _OFFSET)  # in x and in y, from the centre

        diameter = choose(kinds, [2 * max(unit.radius, unit.separation_radius) for unit in self.types])
        width = [tf.reduce_max(tf.where(group == g, diameter[n:], 0.0), axis=0) for g in groups]
        steps = choose(group, width)
        rank = np.arange(m, dtype=np.int32)[:, None] - choose(group, tf.unstack(ends - sizes))
        reach = np.abs(self.lattice).max(1)
        reach = np.concatenate([[0], np.maximum.accumulate(reach)]).astype(np.float32)  # by the size of a group
        margin = tf.gather(reach, choose(group, tf.unstack(sizes))) * steps
        places = []
        for axis in (0, 1):
            lattice = self.lattice[:, axis].astype(np.float32)
            agents = centre + lattice[:n, None] * tf.reduce_max(diameter[:n], axis=0)
            point = centre + choose(group, tf.unstack(distance * way[axis]))
            # A group stands on the map as a whole.
            point = tf.clip_by_value(point, margin, self.map_size - margin)
            places.append(tf.concat([agents, point + tf.gather(lattice, rank) * steps], axis=0))
        return places[0], places[1]

    def _with_sorted_agents(self, start: Start) -> Start:
        """Sorts the agents by type, x and y, as SMACv2 numbers them: types in the order of their names."""
        n = self.num_agents
        names = sorted(unit.name for unit in self.types)
        kind = choose(start.kinds[:n], [names.index(unit.name) for unit in self.types])
        x, y = start.x[:n], start.y[:n]
        index = np.arange(n, dtype=np.int32)[:, None]

        def before(values: tf.Tensor, among_equals: tf.Tensor) -> tf.Tensor:
            """Returns whether agent j (second axis) comes before agent i (first axis), [N, N, B]."""
            return (values[None] < values[:, None]) | ((values[None] == values[:, None]) & among_equals)

        comes_before = before(kind, before(x, before(y, index[None] < index[:, None])))
        rank = tf.reduce_sum(tf.cast(comes_before, tf.int32), axis=1)
        takes = rank[None] == index[:, None]  # [place, agent, B]

        def arranged(values: tf.Tensor) -> tf.Tensor:
            own = tf.reduce_sum(tf.where(takes, values[None, :n], tf.zeros([], values.dtype)), axis=1)
            return tf.concat([own, values[n:]], axis=0)

        return Start(*map(arranged, start))
