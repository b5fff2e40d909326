"""A scenario says who fights whom on a map, from where, on which ground and for how long.

SMAC's 23 maps and SMACv2's 15 scenarios are scenarios. All about them is SMAC's and SMACv2's own (`smac.json`), except
for a few cells at the foot of cliffs, which are an estimate. SMACv2's scenarios draw types and places anew for every
battle (`starts.py`). The rest of this text is about SMAC's maps.

Units spawn on a square lattice round their point, on ground that can be seen from the point. The nearest free place is
taken first, and equally near places are taken counter-clockwise from the south. That is what recordings of the game
show. It is the same for both sides, so equal teams do not mirror each other: the third marine of 3m stands in front of
the agents' two others, and behind the enemies' two others.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Literal

import numpy as np

from tf_marl.environments.combat import terrain
from tf_marl.environments.combat.starts import Lottery
from tf_marl.environments.combat.units import DATA, UnitType, unit_types

MAP_SIZE = 32  # map units, both ways
MAP_TYPES_WITH_MEDIVACS = ("MMM", "terran_gen")  # the end of a battle has rules of its own there
SPAWN_JITTER = 0.05  # map units, in y; it stands in for the game's random order of updates
_SPAWN_STEP = 1.02  # diameters between neighbours on the lattice, as measured in recordings
_SPAWN_CROSS = 0.92  # diameters from the point to the first four round it, as measured in recordings
_SPAWN_REACH = 12  # steps from the spawn point to the farthest places
_SPAWN_OVERLAP = 0.05  # fraction of the sum of their radii by which units of two types may overlap at spawn


@dataclasses.dataclass(frozen=True, eq=False)
class Scenario:
    """Describes one map. Wherever units are listed, the N agents come first, then the M enemies; U = N + M.

    Where there is a `lottery`, each battle draws types and places, and `agents`, `enemies` and `spawn` are an example.
    """

    name: str
    map_type: str  # SMAC's name for maps with the same rules and type bits
    agents: tuple[UnitType, ...]  # in agent order
    enemies: tuple[UnitType, ...]  # in the map's order, the same every episode
    spawn: np.ndarray  # [U, 2] map units
    # "attack": the agents, wherever they are; "closest": whoever idles attacks the agent that is closest just then
    enemy_order: Literal["attack_move", "attack", "closest", "none"]
    attack_segment: np.ndarray | None  # [2, 2] map units: an attack-move goes to a random point between these two
    pathable: np.ndarray  # [32, 32] bool, indexed [x, y]
    cliffs: np.ndarray  # [32, 32] bool: only cliff walkers pass
    episode_limit: int  # env steps
    agent_type_bits: tuple[str, ...]  # one-hot order of unit types; empty on maps of one type
    enemy_type_bits: tuple[str, ...]  # SMAC reverses it on stalker and zealot maps
    agent_shields: bool  # whether shields are observed
    enemy_shields: bool
    lottery: Lottery | None = None  # how each battle draws its types and places; None on SMAC's maps

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


def map_names() -> tuple[str, ...]:
    """Returns the names of SMAC's 23 maps, in SMAC's order."""
    return tuple(DATA["maps"])


def drawn_names() -> tuple[str, ...]:
    """Returns the names of SMACv2's 15 scenarios, such as `protoss_5_vs_5`."""
    sizes = DATA["smacv2"]["team_sizes"]
    return tuple(f"{race}_{n}_vs_{m}" for race in DATA["smacv2"]["races"] for n, m in sizes)


@functools.cache
def drawn(
    race: str,
    num_agents: int,
    num_enemies: int,
    weights: tuple[float, ...] | None = None,
    exceptions: tuple[str, ...] | None = None,
    surrounded: float | None = None,
    profile: str = "liberty",
) -> Scenario:
    """Returns a scenario that draws the types and places of each battle as SMACv2 does.

    Args:
        race: `protoss`, `terran` or `zerg`.
        num_agents: N.
        num_enemies: M.
        weights: the probability of each of the race's types, in the order of the type bits; None for SMACv2's.
        exceptions: names of the types of which no team consists alone; None for SMACv2's.
        surrounded: the probability that the enemies surround the agents; None for SMACv2's.
        profile: the unit values to use, one of `units.PROFILES`.
    Returns:
        The scenario. Equal arguments give the same object.
    Raises:
        ValueError: the race is unknown, the weights are no probabilities, or the profile lacks one of the units.
    """
    races = DATA["smacv2"]["races"]
    if race not in races:
        raise ValueError(f"unknown race {race!r}; choose one of: {', '.join(races)}")
    data = races[race]
    known = unit_types(profile)
    _check_profile(profile, data["types"], f"race {race}")
    types = tuple(known[name] for name in data["types"])
    units = num_agents + num_enemies
    return Scenario(
        name=f"{race}_{num_agents}_vs_{num_enemies}",
        map_type=f"{race}_gen",
        agents=types[:1] * num_agents,
        enemies=types[:1] * num_enemies,
        spawn=np.full([units, 2], MAP_SIZE / 2),
        enemy_order="closest",
        attack_segment=None,
        pathable=np.ones([MAP_SIZE, MAP_SIZE], bool),
        cliffs=np.zeros([MAP_SIZE, MAP_SIZE], bool),
        episode_limit=DATA["smacv2"]["episode_limit"],
        agent_type_bits=tuple(data["types"]),
        enemy_type_bits=tuple(data["types"]),
        agent_shields=data["shields"],
        enemy_shields=data["shields"],
        lottery=Lottery(
            num_agents,
            num_enemies,
            types,
            tuple(data["weights"]) if weights is None else weights,
            tuple(data["exceptions"]) if exceptions is None else exceptions,
            DATA["smacv2"]["surrounded"] if surrounded is None else surrounded,
            MAP_SIZE,
            _steps()[: max(num_agents, num_enemies)],
        ),
    )


def _check_profile(profile: str, names: Iterable[str], of_what: str) -> None:
    if missing := set(names) - set(unit_types(profile)):
        raise ValueError(f"profile {profile!r} has no {', '.join(sorted(missing))}, so no {of_what}; use 'liberty'")


@functools.cache
def scenario(map_name: str, profile: str = "liberty") -> Scenario:
    """Returns one of SMAC's maps or of SMACv2's scenarios.

    Args:
        map_name: one of `map_names()` or `drawn_names()`.
        profile: the unit values to use, one of `units.PROFILES`.
    Returns:
        The scenario. Equal arguments give the same object.
    Raises:
        ValueError: there is no such map, or the profile lacks one of its units; the message lists what there is.
    """
    if map_name in drawn_names():
        race, num_agents, _, num_enemies = map_name.split("_")
        return drawn(race, int(num_agents), int(num_enemies), profile=profile)
    if map_name not in DATA["maps"]:
        raise ValueError(f"unknown map {map_name!r}; choose one of: {', '.join(map_names() + drawn_names())}")
    data = DATA["maps"][map_name]
    types = unit_types(profile)
    _check_profile(profile, (call["unit"] for call in data["spawns"]), f"map {map_name}")
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


def _steps() -> np.ndarray:
    """Returns the places of the lattice as diameters from the spawn point, [P, 2], in the order of `_lattice`."""
    lattice = _lattice()
    return np.where(np.abs(lattice).sum(1, keepdims=True) == 1, _SPAWN_CROSS, _SPAWN_STEP) * lattice


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
    steps = _steps()
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
