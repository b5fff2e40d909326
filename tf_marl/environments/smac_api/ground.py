"""The ground."""

from tf_marl.environments.combat.task import PATHING_POINTS
from tf_marl.environments.smac_api.battle import Battle
from tf_marl.environments.smac_api.protocol import Unit


class Ground(Battle):
    """The ground as SMAC's helpers tell of it."""

    def check_bounds(self, x: float, y: float) -> bool:
        """Whether a point is on the map."""
        return 0 <= x < self.map_x and 0 <= y < self.map_y

    def can_move(self, unit: Unit, direction: int) -> bool:
        """Whether the ground half a move away is pathable. Args: direction, a `Direction`."""
        x, y = map(int, unit.pos.toward(direction, self.options.move_amount / 2))
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def get_surrounding_points(self, unit: Unit, include_self: bool = False) -> list[tuple[int, int]]:
        """The 8 cells around a unit that can be observed; on request its own, too."""
        x, y = int(unit.pos.x), int(unit.pos.y)
        offsets = (PATHING_POINTS * self.options.move_amount).astype(int).tolist()
        return [(x + dx, y + dy) for dx, dy in offsets + [[0, 0]] * include_self]

    def get_surrounding_pathing(self, unit: Unit) -> list[bool]:
        """Whether these 8 are pathable or off the map."""
        points = self.get_surrounding_points(unit)
        return [not self.check_bounds(x, y) or bool(self.pathing_grid[x, y]) for x, y in points]

    def get_surrounding_height(self, unit: Unit) -> list[float]:
        """Not offered: the heights of the maps' ground are in the game's files only."""
        raise NotImplementedError("the heights of the maps' ground are in the game's files only")
