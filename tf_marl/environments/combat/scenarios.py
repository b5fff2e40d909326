"""A scenario says who fights whom on a SMAC map, from where, on which ground and for how long.

All of it is SMAC's own (`smac.json`), except for a few cells at the foot of cliffs, which are an estimate.

Units spawn on a square lattice round their point, on ground that can be seen from the point. The nearest free place is
taken first, and equally near places are taken counter-clockwise from the south. That is what recordings of the game
show. It is the same for both sides, so equal teams do not mirror each other: the third marine of 3m stands in front of
the agents' two others, and behind the enemies' two others.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np

from tf_marl.environments.combat import terrain
from tf_marl.environments.combat.units import DATA, UnitType, unit_types

MAP_SIZE = 32  # map units, both ways
MMM = "MMM"  # the map type with end rules of its own
SPAWN_JITTER = 0.05  # map units, in y; it stands in for the game's random order of updates
_SPAWN_STEP = 1.02  # diameters between neighbours on the lattice, as measured in recordings
_SPAWN_CROSS = 0.92  # diameters from the point to the first four round it, as measured in recordings
_SPAWN_REACH = 12  # steps from the spawn point to the farthest places
_SPAWN_OVERLAP = 0.05  # fraction of the sum of their radii by which units of two types may overlap at spawn


@dataclasses.dataclass(frozen=True, eq=False)
class Scenario:
    """Describes one map. Wherever units are listed, the N agents come first, then the M enemies; U = N + M."""

    name: str
    map_type: str  # SMAC's name for maps with the same rules and type bits
    agents: tuple[UnitType, ...]  # in agent order
    enemies: tuple[UnitType, ...]  # in the map's order, the same every episode
    spawn: np.ndarray  # [U, 2] map units
    enemy_order: Literal["attack_move", "attack", "none"]  # "attack": the agents, wherever they are
    attack_segment: np.ndarray | None  # [2, 2] map units: an attack-move goes to a random point between these two
    pathable: np.ndarray  # [32, 32] bool, indexed [x, y]
    cliffs: np.ndarray  # [32, 32] bool: only cliff walkers pass
    episode_limit: int  # env steps
    agent_type_bits: tuple[str, ...]  # one-hot order of unit types; empty on maps of one type
    enemy_type_bits: tuple[str, ...]  # SMAC reverses it on stalker and zealot maps
    agent_shields: bool  # whether shields are observed
    enemy_shields: bool

    @property
    def units(self) -> tuple[UnitType, ...]:
        """Returns the types of all U units: agents in agent order, then enemies in the map's order."""
        return self.agents + self.enemies

    @property
    def num_agents(self) -> int:
        """Returns N, the number of agents."""
        return len(self.agents)

    @property
    def num_enemies(self) -> int:
        """Returns M, the number of enemies."""
        return len(self.enemies)

    @property
    def formation(self) -> np.ndarray:
        """Returns where each enemy stands in its group as the group walks: [M, 2] map units from the group's centre."""
        places = self.spawn[self.num_agents :]
        return places - places.mean(axis=0)

    @property
    def num_actions(self) -> int:
        """Returns A = 6 + M: no-op, stop, four moves and an attack on each enemy.

        A healer heals agent j with the action that attacks enemy j.
        """
        return 6 + self.num_enemies


def map_names() -> tuple[str, ...]:
    """Returns the names of the maps that `scenario` knows, in SMAC's order."""
    return tuple(DATA["maps"])


@functools.cache
def scenario(map_name: str, profile: str = "liberty") -> Scenario:
    """Returns the scenario of one of SMAC's maps.

    Args:
        map_name: one of `map_names()`.
        profile: the unit values to use, one of `units.PROFILES`.
    Returns:
        The scenario. Equal arguments give the same object.
    Raises:
        ValueError: there is no such map, or the profile lacks one of its units; the message lists what there is.
    """
    if map_name not in DATA["maps"]:
        raise ValueError(f"unknown map {map_name!r}; choose one of: {', '.join(map_names())}")
    data = DATA["maps"][map_name]
    types = unit_types(profile)
    if missing := {call["unit"] for call in data["spawns"]} - set(types):
        raise ValueError(
            f"profile {profile!r} has no {', '.join(sorted(missing))}, so no map {map_name}; use 'liberty'"
        )
    # The rows of the file run from the top (y = 31) down; x runs along a row.
    cells = np.array([list(row) for row in reversed(DATA["terrain"][data["terrain"]])]).T
    pathable = cells == "."
    agents, agent_spawn = _spawn(data["spawns"], "ally", types, pathable)
    enemies, enemy_spawn = _spawn(data["spawns"], "enemy", types, pathable)
    # SMAC sorts its agents by (unit type, x, y) at spawn; the enemies stay as listed.
    order = sorted(range(len(agents)), key=lambda i: (data["agent_order"].index(agents[i].name), *agent_spawn[i]))
    return Scenario(
        name=map_name,
        map_type=data["map_type"],
        agents=tuple(agents[i] for i in order),
        enemies=tuple(enemies),
        spawn=np.array([agent_spawn[i] for i in order] + enemy_spawn),
        enemy_order=data["enemy_order"],
        attack_segment=np.array(data["attack_segment"]) if "attack_segment" in data else None,
        pathable=pathable,
        cliffs=cells == "^",
        episode_limit=data["episode_limit"],
        agent_type_bits=tuple(data["ally_type_bits"]),
        enemy_type_bits=tuple(data["enemy_type_bits"]),
        agent_shields=data["ally_shields"],
        enemy_shields=data["enemy_shields"],
    )


def _lattice() -> np.ndarray:
    """Returns the places of the lattice as steps from the spawn point, [P, 2], in the order in which they are taken."""
    ticks = range(-_SPAWN_REACH, _SPAWN_REACH + 1)
    places = [(dx, dy) for dx in ticks for dy in ticks]
    # The angle from the south, counter-clockwise; rounded, so that the south itself comes first.
    return np.array(
        sorted(places, key=lambda p: (p[0] ** 2 + p[1] ** 2, round(np.arctan2(p[0], -p[1]) % (2 * np.pi), 6)))
    )


def _spawn(
    calls: list[dict], side: str, types: dict[str, UnitType], pathable: np.ndarray
) -> tuple[list[UnitType], list[tuple[float, float]]]:
    """Places the units of one side, in the order in which the map creates them.

    Args:
        calls: the map's calls that create units, each with its side, unit, count and point.
        side: "ally" or "enemy".
        types: the unit types by name.
        pathable: [32, 32] bool, indexed [x, y].
    Returns:
        The types of the units and their places (x, y) in map units.
    """
    lattice = _lattice()
    steps = np.where(np.abs(lattice).sum(1, keepdims=True) == 1, _SPAWN_CROSS, _SPAWN_STEP) * lattice
    units: list[UnitType] = []
    places: list[tuple[float, float]] = []

    def free(unit: UnitType, x: float, y: float) -> bool:
        on_ground = pathable[int(x), int(y - SPAWN_JITTER)] and pathable[int(x), int(y + SPAWN_JITTER)]
        return on_ground and all(
            # Units of one type keep at least the distance of neighbouring places.
            np.hypot(x - other_x, y - other_y)
            >= (_diameter(unit) * 0.6 if other is unit else (unit.radius + other.radius) * (1 - _SPAWN_OVERLAP))
            for other, (other_x, other_y) in zip(units, places, strict=True)
            if unit.flies == other.flies
        )

    for call in calls:
        if call["side"] != side:
            continue
        unit = types[call["unit"]]
        point = np.array(call["point"])
        candidates = point + _diameter(unit) * steps
        candidates = candidates[((candidates >= 0.5) & (candidates <= MAP_SIZE - 0.5)).all(1)]
        # Nobody spawns beyond a cliff.
        seen = terrain.in_sight(pathable, point.astype(int)[None], candidates.astype(int), np.zeros([1, 2]))[0]
        for _ in range(call["count"]):
            places.append(next(place for place in candidates[seen].tolist() if free(unit, *place)))
            units.append(unit)
    return units, places


def _diameter(unit: UnitType) -> float:
    """Returns the diameter of the room that a unit takes at spawn, in map units.

    In the profile `smax` the units' separation radius stands in for their radius, which is 0.
    """
    return 2 * max(unit.radius, unit.separation_radius)
