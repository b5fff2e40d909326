"""This module describes units, places and orders in the words of the game's protocol."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from tf_marl.environments.combat.task import DIRECTIONS
from tf_marl.environments.combat.units import DATA

# Those of the game that do not depend on its build.
TYPE_IDS = {name: values["type_id"] for name, values in DATA["units"].items()}
ABILITY_IDS = {"stop": 4, "move": 16, "attack": 23, "heal": 386}


class Direction(enum.IntEnum):
    """Lists the directions of moves, in the order of the actions."""

    NORTH = 0
    SOUTH = 1
    EAST = 2
    WEST = 3


class Point(NamedTuple):
    """Describes a place in map units; x grows to the east, y to the north."""

    x: float
    y: float

    def toward(self, direction: int, distance: float) -> "Point":
        """Returns the place that lies some distance away in a direction.

        Args:
            direction: a `Direction`.
            distance: map units.
        """
        dx, dy = DIRECTIONS[direction].tolist()
        return Point(self.x + dx * distance, self.y + dy * distance)


@dataclass(frozen=True, slots=True)
class Unit:
    """Describes one unit as it stands, with the field names of the game's protocol."""

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
    """Describes an order to units, with the field names of the game's protocol."""

    ability_id: int
    unit_tags: list[int]
    target_world_space_pos: Point | None = None  # only of a move
    target_unit_tag: int | None = None  # only of an attack or of healing
    queue_command: bool = False


class ActionRaw(NamedTuple):
    """Wraps an order to units, as the game's protocol does."""

    unit_command: UnitCommand


class Action(NamedTuple):
    """Wraps a raw action, as the game's protocol does."""

    action_raw: ActionRaw
