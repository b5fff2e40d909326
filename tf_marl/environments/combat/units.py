"""This module says in numbers what each type of StarCraft II unit can do.

The values are those of the game's own Liberty data, on which the SMAC maps depend. They are not those of the ladder's
balance tables; `smac.json` names the sources. Times are in game seconds of 16 game loops, lengths in map units.

Other profiles of values help to relate results. `multiplayer` has the values with which newer clients play SMAC's maps.
`smaclite` and `smax` have those of two re-implementations. A profile changes only unit values; the rules in
`physics.py` stay the same.
"""

import dataclasses
import functools
import json
from importlib import resources

LOOPS_PER_SECOND = 16

DATA = json.loads(resources.files(__package__).joinpath("smac.json").read_text("utf-8"))
PROFILES = ("liberty", *DATA["profiles"])


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """Describes the line that a beam sweeps across its target; it hits every enemy on the ground near that line."""

    half_length: float  # map units, from the target to either end
    scan_radius: float  # map units from the line to the edge of a unit that is hit


@dataclasses.dataclass(frozen=True, eq=False)
class Weapon:
    """Describes a weapon.

    Each attack deals `hits` hits. The first lands after `damage_point`, and the others follow `hit_interval` apart.
    """

    damage: float  # hit points, per hit
    range: float  # map units, edge to edge
    scan_range: float  # map units, how far an enemy looks for targets at least
    period: float  # game seconds from one attack to the next
    damage_point: float  # game seconds from the start of an attack to its first hit
    backswing: float  # game seconds the attacker stands after the first hit, unless it is ordered elsewhere
    targets: tuple[str, ...]  # planes it reaches: ground, air
    bonus_damage: dict[str, float] = dataclasses.field(default_factory=dict)  # attribute -> more hit points per hit
    hits: int = 1
    hit_interval: float = 0.0  # game seconds
    missile_speed: float | None = None  # map units per game second; None: hits need no time to get there
    turret_speed: float | None = None  # degrees per game second; None: it turns at once
    line: Line | None = None
    burst_radius: float | None = None  # map units to the edges of the units that are hit; the attacker dies

    def damage_to(self, target: "UnitType") -> float:
        """Returns the hit points that one hit takes before armour: the base damage plus the bonuses against the target.

        Args:
            target: the type of the unit that is hit; its attributes decide which bonuses count.
        """
        return self.damage + sum(self.bonus_damage.get(attribute, 0.0) for attribute in target.attributes)


@dataclasses.dataclass(frozen=True, eq=False)
class Heal:
    """Describes what a healer does for one living, biological unit of its own side at a time."""

    hit_points_per_second: float
    energy_per_hit_point: float
    range: float  # map units, edge to edge
    scan_range: float  # map units, edge to edge: how far an enemy healer looks for patients
    scan_energy: float  # an enemy healer looks for patients only with at least this energy
    energy_start: float
    energy_max: float
    energy_regen: float  # per game second


@dataclasses.dataclass(frozen=True, eq=False)
class UnitType:
    """Describes one type of unit."""

    name: str
    type_id: int  # the game's stable id
    race: str  # T, P or Z
    hit_points: float
    shield_points: float
    armor: float  # hit points taken off each hit that reaches health
    attributes: tuple[str, ...]
    speed: float  # map units per game second
    radius: float  # map units; ranges are measured from edge to edge
    separation_radius: float  # map units; units of one plane keep this distance from one another
    cooldown_normaliser: float  # SMAC's constant: game loops, not the weapon's true period; of a healer, energy
    planes: tuple[str, ...] = ("ground",)  # weapons that reach one of these hit it
    cliff_walk: bool = False
    health_regen: float = 0.0  # hit points per game second, always
    shield_regen: float = 0.0  # shield points per game second
    shield_regen_delay: float = 0.0  # game seconds without damage before shields recover
    weapon: Weapon | None = None
    heal: Heal | None = None

    @property
    def flies(self) -> bool:
        """Returns whether the unit flies, so that weapons for the ground do not reach it."""
        return "ground" not in self.planes

    def can_hit(self, target: "UnitType") -> bool:
        """Returns whether this unit has a weapon that reaches the target's plane, ground or air.

        Args:
            target: the type of the unit to hit.
        """
        return self.weapon is not None and not set(self.weapon.targets).isdisjoint(target.planes)

    def can_heal(self, target: "UnitType") -> bool:
        """Returns whether this unit is a healer and the target is biological.

        Args:
            target: the type of the unit to heal.
        """
        return self.heal is not None and "biological" in target.attributes


@functools.cache
def unit_types(profile: str) -> dict[str, UnitType]:
    """Returns the unit types of a profile, by name.

    Args:
        profile: one of `PROFILES`.
    """
    if profile == "liberty":
        return {name: _unit_type(name, values) for name, values in DATA["units"].items()}
    return {
        name: _unit_type(name, _merged(DATA["units"][name], values))
        for name, values in DATA["profiles"][profile].items()
    }


def _merged(base: dict, changes: dict) -> dict:
    """Merges `changes` into `base`; of weapons and heals it replaces only the fields that `changes` names."""
    nested = {key: base[key] | changes[key] for key in ("weapon", "heal") if key in changes}
    return base | changes | nested


def _unit_type(name: str, values: dict) -> UnitType:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    if "weapon" in values:
        weapon = dict(values["weapon"])
        weapon["targets"] = tuple(weapon["targets"])
        if "line" in weapon:
            weapon["line"] = Line(**weapon["line"])
        values["weapon"] = Weapon(**weapon)
    if "heal" in values:
        values["heal"] = Heal(**values["heal"])
    return UnitType(name=name, **values)
