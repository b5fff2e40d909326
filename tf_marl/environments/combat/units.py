"""What a StarCraft II unit is, as numbers.

The values are those of the game's own Liberty data, on which the SMAC maps depend, not of the ladder's balance tables
(`smac.json`). Times are in game seconds of 16 game loops, lengths in map units.
"""

import dataclasses
import json
from importlib import resources

LOOPS_PER_SECOND = 16
LOOPS_PER_STEP = 8  # SMAC's step_mul: one env step is half a game second

DATA = json.loads(resources.files(__package__).joinpath("smac.json").read_text("utf-8"))


@dataclasses.dataclass(frozen=True, eq=False)
class Weapon:
    """A weapon; each attack deals `hits` hits, the first after `damage_point`, the others `hit_interval` apart."""

    damage: float  # hit points, per hit
    bonus_damage: dict[str, float]  # target attribute -> hit points on top, per hit
    hits: int
    hit_interval: float  # game seconds
    range: float  # map units, edge to edge
    scan_range: float  # map units, how far an enemy looks for targets at least
    period: float  # game seconds from one attack to the next
    damage_point: float  # game seconds from the start of an attack to its first hit

    def damage_to(self, target: "UnitType") -> float:
        """Hit points one hit takes before armour: base damage plus the bonuses that the target's attributes earn."""
        return self.damage + sum(self.bonus_damage.get(attribute, 0.0) for attribute in target.attributes)


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
    separation_radius: float  # map units; units keep this distance from one another
    shield_regen: float  # shield points per game second
    shield_regen_delay: float  # game seconds without damage before shields recover
    cooldown_normaliser: float  # game loops; SMAC's constant, not the weapon's true period
    weapon: Weapon


def _unit_type(name: str) -> UnitType:
    values = dict(DATA["units"][name])
    values["attributes"] = tuple(values["attributes"])
    values["weapon"] = Weapon(**values["weapon"])
    return UnitType(name=name, **values)


UNIT_TYPES: dict[str, UnitType] = {name: _unit_type(name) for name in DATA["units"]}
