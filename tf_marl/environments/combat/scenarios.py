"""The SMAC scenarios: who fights whom, from where, on which ground, for how long.

Everything but three things is SMAC's own (`smac.json`). The packing of units round their spawn points is ours, because
the game's is not known: units fill a disc round the point, nearest places first, without overlap; the enemies' disc is
the mirror image of the agents'. Whether cliff lips can be walked on is not known either: the masks are the estimate
that agrees best with what others drew from the map editor. And battles start at the spawn, not the few game loops after
it that SMAC needs to notice that all units are there.
"""

import dataclasses
import functools

import numpy as np

from tf_marl.environments.combat.units import DATA, UNIT_TYPES, UnitType

MAP_SIZE = 32  # map units, both ways
SPAWN_JITTER = 0.05  # map units, in y; breaks the mirror symmetry that the game's own random update order breaks
_SPAWN_GAP = 2 * SPAWN_JITTER + 0.01  # map units between the edges of units as they spawn
_SPAWN_LATTICE = 0.25  # map units between candidate places


@dataclasses.dataclass(frozen=True, eq=False)
class Scenario:
    """One map. N agents come first wherever units are listed, then M enemies; U = N + M."""

    name: str
    agents: tuple[UnitType, ...]  # in agent order
    enemies: tuple[UnitType, ...]  # in roster order, the same every episode
    spawn: np.ndarray  # [U, 2] map units
    attack_segment: np.ndarray  # [2, 2] map units; the enemies attack-move to a random point between these two
    pathable: np.ndarray  # [32, 32] bool, indexed [x, y]
    episode_limit: int  # env steps
    agent_type_bits: tuple[str, ...]  # one-hot order of unit types; empty on maps of one type
    enemy_type_bits: tuple[str, ...]  # SMAC reverses it on stalker and zealot maps
    agent_shields: bool  # whether shields are observed
    enemy_shields: bool

    @property
    def units(self) -> tuple[UnitType, ...]:
        return self.agents + self.enemies

    @property
    def num_agents(self) -> int:
        return len(self.agents)

    @property
    def num_enemies(self) -> int:
        return len(self.enemies)

    @property
    def num_actions(self) -> int:
        """No-op, stop, four moves, one attack per enemy."""
        return 6 + self.num_enemies

    @property
    def max_reward(self) -> float:
        """Largest unscaled return: 10 per kill, 200 for the win, and every point of enemy health and shield."""
        return 10 * self.num_enemies + 200 + sum(enemy.hit_points + enemy.shield_points for enemy in self.enemies)


def map_names() -> tuple[str, ...]:
    """The maps that `scenario` knows, in SMAC's order."""
    return tuple(DATA["maps"])


@functools.cache
def scenario(map_name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        ValueError: there is no such map; the message lists those there are.
    """
    if map_name not in DATA["maps"]:
        raise ValueError(f"unknown map {map_name!r}; choose one of: {', '.join(map_names())}")
    data = DATA["maps"][map_name]
    rows = DATA["terrain"][data["terrain"]]
    # The rows of the file run from the top (y = 31) down; x runs along a row.
    pathable = np.array([[cell == "." for cell in row] for row in reversed(rows)]).T
    agents, agent_spawn = _spawn(data["spawns"], "ally", mirror=1)
    enemies, enemy_spawn = _spawn(data["spawns"], "enemy", mirror=-1)
    # SMAC sorts its agents by (unit type, x, y) at spawn; the enemies stay as listed.
    order = sorted(range(len(agents)), key=lambda i: (data["agent_order"].index(agents[i].name), *agent_spawn[i]))
    return Scenario(
        name=map_name,
        agents=tuple(agents[i] for i in order),
        enemies=tuple(enemies),
        spawn=np.array([agent_spawn[i] for i in order] + enemy_spawn),
        attack_segment=np.array(data["attack_segment"]),
        pathable=pathable,
        episode_limit=data["episode_limit"],
        agent_type_bits=tuple(data["ally_type_bits"]),
        enemy_type_bits=tuple(data["enemy_type_bits"]),
        agent_shields=data["ally_shields"],
        enemy_shields=data["enemy_shields"],
    )


def _spawn(calls: list[dict], side: str, mirror: int) -> tuple[list[UnitType], list[tuple[float, float]]]:
    """Places the units of one side, in the order in which the map creates them."""
    ticks = np.arange(-4, 4 + _SPAWN_LATTICE, _SPAWN_LATTICE)
    offsets = sorted(((dx, dy) for dx in ticks for dy in ticks), key=lambda o: (o[0] ** 2 + o[1] ** 2, o))
    units: list[UnitType] = []
    places: list[tuple[float, float]] = []
    for call in calls:
        if call["side"] != side:
            continue
        unit = UNIT_TYPES[call["unit"]]
        for _ in range(call["count"]):
            place = next(
                (x, y)
                for x, y in ((call["point"][0] + mirror * dx, call["point"][1] + dy) for dx, dy in offsets)
                if all(
                    np.hypot(x - other_x, y - other_y) >= unit.separation_radius + other.separation_radius + _SPAWN_GAP
                    for other, (other_x, other_y) in zip(units, places, strict=True)
                )
            )
            units.append(unit)
            places.append(place)
    return units, places
