"""This module answers SMAC's questions about the ground."""

from tf_marl.environments.combat.task import PATHING_POINTS
from tf_marl.environments.smac_api.battle import Battle
from tf_marl.environments.smac_api.protocol import Unit


class Ground(Battle):
    """Holds SMAC's helper methods about the ground."""

    def check_bounds(self, x: float, y: float) -> bool:
        """Returns whether a point is on the map.

        Args:
            x: map units.
            y: map units.
        """
        return 0 <= x < self.map_x and 0 <= y < self.map_y

    def can_move(self, unit: Unit, direction: int) -> bool:
        """Returns whether the ground half a move away is pathable.

        Args:
            unit: the unit that would move.
            direction: a `Direction`.
        """
        x, y = map(int, unit.pos.toward(direction, self.options.move_amount / 2))
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def get_surrounding_points(self, unit: Unit, include_self: bool = False) -> list[tuple[int, int]]:
        """Returns the 8 cells around a unit that its agent can observe, as pairs (x, y).

        Args:
            unit: the unit.
            include_self: whether the unit's own cell comes as the ninth.
        """
        x, y = int(unit.pos.x), int(unit.pos.y)
        offsets = (PATHING_POINTS * self.options.move_amount).astype(int).tolist()
        return [(x + dx, y + dy) for dx, dy in offsets + [[0, 0]] * include_self]

    def get_surrounding_pathing(self, unit: Unit) -> list[bool]:
        """Returns for each of the 8 cells around a unit whether it is pathable or off the map.

        Args:
            unit: the unit.
        """
        points = self.get_surrounding_points(unit)
        return [not self.check_bounds(x, y) or bool(self.pathing_grid[x, y]) for x, y in points]

    def get_surrounding_height(self, unit: Unit) -> list[float]:
        """Raises NotImplementedError, because only the game's files hold the heights of the ground."""
        raise NotImplementedError("the heights of the maps' ground are in the game's files only")
