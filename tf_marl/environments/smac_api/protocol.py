"""Units, places and orders in the words of the game's protocol."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from tf_marl.environments.combat.task import DIRECTIONS
from tf_marl.environments.combat.units import DATA

TYPE_IDS = {name: values["type_id"] for name, values in DATA["units"].items()}  # the game's stable ones
ABILITY_IDS = {"stop": 4, "move": 16, "attack": 23, "heal": 386}  # the game's


class Direction(enum.IntEnum):
    """Where to move, in the order of the actions."""

    NORTH = 0
    SOUTH = 1
    EAST = 2
    WEST = 3


class Point(NamedTuple):
    """A place, in map units; x grows to the east, y to the north."""

    x: float
    y: float

    def toward(self, direction: int, distance: float) -> "Point":
        """The place that far away. Args: direction, a `Direction`."""
        dx, dy = DIRECTIONS[direction].tolist()
        return Point(self.x + dx * distance, self.y + dy * distance)


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as it stands, with the field names of the game's protocol."""

    tag: int  # unique in the battle
    owner: int  # 1: the agents', 2: the enemies'
    unit_type: int  # the game's stable id
    pos: Point
    radius: float  # map units
    health: float  # hit points; 0 is dead
    health_max: float
    shield: float
    shield_max: float
    energy: float
    energy_max: float
    weapon_cooldown: float  # game loops until the weapon is ready


class UnitCommand(NamedTuple):
    """What a unit is ordered, with the field names of the game's protocol."""

    ability_id: int
    unit_tags: list[int]
    target_world_space_pos: Point | None = None  # of a move
    target_unit_tag: int | None = None  # of an attack, or of healing
    queue_command: bool = False


class ActionRaw(NamedTuple):
    unit_command: UnitCommand


class Action(NamedTuple):
    """A command in the protocol's wrapping."""

    action_raw: ActionRaw
