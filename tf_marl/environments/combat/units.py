"""What a StarCraft II unit is, as numbers.

The values are those of the game's own Liberty data, on which the SMAC maps depend, not of the ladder's balance tables
(`smac.json`). Times are in game seconds of 16 game loops, lengths in map units. The profile `multiplayer` has the
values that newer clients play SMAC's maps with, `smaclite` and `smax` those of two re-implementations, to relate
results; only unit values change with a profile, the laws of `physics.py` stay.
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
    """The line a beam sweeps through its target, across the shot; every enemy on the ground near it is hit."""

    half_length: float  # map units, from the target to either end
    scan_radius: float  # map units from the line to the edge of a unit that is hit


@dataclasses.dataclass(frozen=True, eq=False)
class Weapon:
    """A weapon; each attack deals `hits` hits, the first after `damage_point`, the others `hit_interval` apart."""

    damage: float  # hit points, per hit
    range: float  # map units, edge to edge
    scan_range: float  # map units, how far an enemy looks for targets at least
    period: float  # game seconds from one attack to the next
    damage_point: float  # game seconds from the start of an attack to its first hit
    backswing: float  # game seconds the attacker stands after the first hit, unless it is ordered elsewhere
    targets: tuple[str, ...]  # planes it reaches: ground, air
    bonus_damage: dict[str, float] = dataclasses.field(default_factory=dict)  # attribute -> hit points more, per hit
    hits: int = 1
    hit_interval: float = 0.0  # game seconds
    missile_speed: float | None = None  # map units per game second; None: hits need no time to get there
    turret_speed: float | None = None  # degrees per game second; None: it turns at once
    line: Line | None = None
    burst_radius: float | None = None  # map units to the edge of whoever is hit; the attacker dies of it

    def damage_to(self, target: "UnitType") -> float:
        """Hit points one hit takes before armour: base damage plus the bonuses that the target's attributes earn."""
        return self.damage + sum(self.bonus_damage.get(attribute, 0.0) for attribute in target.attributes)


@dataclasses.dataclass(frozen=True, eq=False)
class Heal:
    """What a healer does for one living, biological unit of its side at a time."""

    hit_points_per_second: float
    energy_per_hit_point: float
    range: float  # map units, edge to edge
    scan_range: float  # map units, edge to edge: how far an enemy healer looks for patients
    scan_energy: float  # an enemy healer looks for patients with at least so much
    energy_start: float
    energy_max: float
    energy_regen: float  # per game second


@dataclasses.dataclass(frozen=True, eq=False)
class UnitType:
    """One kind of unit."""

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
        return "ground" not in self.planes

    def can_hit(self, target: "UnitType") -> bool:
        return self.weapon is not None and not set(self.weapon.targets).isdisjoint(target.planes)

    def can_heal(self, target: "UnitType") -> bool:
        return self.heal is not None and "biological" in target.attributes


@functools.cache
def unit_types(profile: str) -> dict[str, UnitType]:
    """Name -> unit type, for every unit that the profile has."""
    if profile == "liberty":
        return {name: _unit_type(name, values) for name, values in DATA["units"].items()}
    return {
        name: _unit_type(name, _merged(DATA["units"][name], values))
        for name, values in DATA["profiles"][profile].items()
    }


def _merged(base: dict, changes: dict) -> dict:
    """`base` with `changes`, weapons and heals field by field."""
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
